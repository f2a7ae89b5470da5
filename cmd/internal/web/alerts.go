package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
)

// Alerts is what a visitor can do with alerts.
type Alerts interface {
	// ReadRecord reads one record, if the visitor may see it, and says in words what it says.
	ReadRecord(audit.Place) (audit.Record, string, error)
	// Acknowledgements returns a function that says who has looked into an alert; nil: nobody has.
	Acknowledgements(*store.Index) (func(store.RecordPlace) *audit.Acknowledgement, error)
	// Acknowledge records that the visitor has looked into an alert or a finding.
	Acknowledge(audit.Acknowledged) (*audit.Acknowledgement, error)
	// Rules are the rules of alerts, and what an alert by each means.
	Rules() []Rule
}

// A Rule is why there are alerts.
type Rule struct{ Name, Meaning string }

var alertPages = []page{
	{"GET /alerts", "Alerts", anybody, (*view).alerts},
	{"GET /alerts/{record}", "", anybody, (*view).alert},
	{"POST /alerts/{record}/acknowledge", "", anybody, (*view).acknowledgeAlert},
}

// everybodysRuns are the runs of all, and with them the whole log.
var everybodysRuns = access.Object{Kind: access.PastRun}

const (
	alertRows   = 50
	alertSearch = 5000 // alerts that are looked at for one page
	commentMost = 500  // characters
)

// An Alert is an alert of the log, and who has looked into it.
type Alert struct {
	store.RecordPlace
	Acknowledged *audit.Acknowledgement // nil: it is open
}

// Rule is the rule by which it is one.
func (a Alert) Rule() string { return a.Reason }

// alertFilter is what the address of the page says besides the filter of all pages.
type alertFilter struct {
	Rule, State string // State: all, open or acknowledged
	Before      uint64
}

// alertsOf reads the filter of alerts.
func (v *view) alertsOf() (f alertFilter) {
	f.Rule = strings.TrimSpace(v.params.Get("rule"))
	switch f.State = v.params.Get("state"); f.State {
	case "open", "acknowledged":
	default:
		f.State = "all"
	}
	if text := v.params.Get("before"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			v.wrong = "before: want the number of a record"
		}
		f.Before = n
	}
	return f
}

// An alertList is what the page shows.
type alertList struct {
	look
	Filter     Filter
	State      alertFilter
	Rules      []Rule
	List       []Alert
	Older      string    // address of the next page; empty: this was the last
	Newest     string    // address of the first page; empty: this is it
	Reached    time.Time // not zero: the search stopped there to stay short
	Everybodys bool
}

// States are the choices of the filter.
func (alertList) States() []string { return []string{"all", "open", "acknowledged"} }

// Filtered reports whether the filter leaves something out.
func (l alertList) Filtered() bool { return len(l.Filter.Values()) > 0 || l.State.Rule != "" }

// Unlisted reports whether the filter has a rule that this version does not know.
func (l alertList) Unlisted() bool {
	return l.State.Rule != "" && !slices.ContainsFunc(l.Rules, func(r Rule) bool { return r.Name == l.State.Rule })
}

func (v *view) alerts() error {
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	f := v.alertsOf()
	data := alertList{look: v.look, Filter: v.filter, State: f, Rules: v.who.Rules(), Everybodys: v.query.Owner == ""}
	if v.query.Owner == "" {
		if err := v.notedList(v.alertsShown(f)); err != nil {
			return err
		}
	}
	q := store.RecordQuery{Actions: []audit.Action{audit.Alerted}, User: v.query.User, Owner: v.query.Owner, Script: v.query.Script, Text: v.filter.Text,
		Since: v.query.Since, Until: v.query.Until, Before: f.Before}
	list, next, reached, err := v.findAlerts(index, q, f)
	if err != nil {
		return err
	}
	data.List, data.Reached = list, reached
	data.Older, data.Newest = v.alertPage(next, next > 0), v.alertPage(0, f.Before > 0)
	return v.show("alerts", data)
}

// alertPage is the address of another page of the list; empty: there is none.
func (v *view) alertPage(before uint64, is bool) string {
	if !is {
		return ""
	}
	p := url.Values{}
	for _, name := range []string{"rule", "state", "user", "script", "since", "until", "text"} {
		if value := v.params.Get(name); value != "" {
			p.Set(name, value)
		}
	}
	if before > 0 {
		p.Set("before", strconv.FormatUint(before, 10))
	}
	return address("/alerts", p)
}

// alertsShown is the address of the list by the filter that is in force, as a record has it: not what a
// filter says that cannot be used.
func (v *view) alertsShown(f alertFilter) string {
	p, used := url.Values{}, v.filter.Values()
	for _, name := range []string{"user", "script", "since", "until", "text"} {
		if value := used.Get(name); value != "" {
			p.Set(name, value)
		}
	}
	if f.Rule != "" {
		p.Set("rule", f.Rule)
	}
	if f.State != "all" {
		p.Set("state", f.State)
	}
	return address("/alerts", p)
}

// findAlerts returns a page of alerts. next is Before of the next page, and reached where a search stopped.
func (v *view) findAlerts(index *store.Index, q store.RecordQuery, f alertFilter) (list []Alert, next uint64, reached time.Time, err error) {
	acknowledged, err := v.who.Acknowledgements(index)
	if err != nil {
		return nil, 0, reached, err
	}
	q.Limit = alertSearch / 10
	for looked := 0; ; {
		found, more, err := index.Records(q)
		if err != nil {
			return nil, 0, reached, err
		}
		for _, r := range found {
			a := Alert{r, acknowledged(r)}
			open := a.Acknowledged == nil
			if f.Rule != "" && a.Rule() != f.Rule || f.State == "open" && !open || f.State == "acknowledged" && open {
				continue
			}
			if len(list) == alertRows {
				return list, list[alertRows-1].Seq, reached, nil
			}
			list = append(list, a)
		}
		if more == 0 {
			return list, 0, reached, nil
		}
		if looked += q.Limit; looked >= alertSearch {
			if len(found) > 0 {
				reached = found[len(found)-1].At
			}
			return list, more, reached, nil
		}
		q.Before = more
	}
}

// notedList records that the visitor looks at an address that lists what others did.
func (v *view) notedList(where string) error {
	return v.noted(audit.HistoryViewed, where, func(rec *audit.Record) { rec.Viewed = &audit.View{Query: where} })
}

// An evidence is what an alert is about.
type evidence struct {
	Title string
	Runs  []store.Run
	Said  []saidRecord
}

// A saidRecord is a record in words.
type saidRecord struct {
	store.RecordPlace
	Says string
}

// recordAt finds a record that is no run's start or end by its number.
func (v *view) recordAt(index *store.Index, seq uint64, actions ...audit.Action) (p store.RecordPlace, found bool, err error) {
	if seq == 0 || seq+1 == 0 {
		return p, false, nil
	}
	list, _, err := index.Records(store.RecordQuery{Actions: actions, Owner: v.query.Owner, Before: seq + 1, Limit: 1})
	if err != nil || len(list) == 0 || list[0].Seq != seq {
		return p, false, err
	}
	return list[0], true, nil
}

// anAlert is the alert that the address names.
func (v *view) anAlert(index *store.Index) (a Alert, rec audit.Record, err error) {
	seq, _ := strconv.ParseUint(v.r.PathValue("record"), 10, 64)
	p, found, err := v.recordAt(index, seq, audit.Alerted)
	if err != nil {
		return a, rec, err
	}
	if !found {
		return a, rec, refused(http.StatusNotFound, "there is no such alert, or it is not yours to see", "retention may have removed it")
	}
	acknowledged, err := v.who.Acknowledgements(index)
	if err != nil {
		return a, rec, err
	}
	rec, _, err = v.who.ReadRecord(p.Place)
	if err == nil && rec.Alert == nil {
		err = refused(http.StatusNotFound, "this record does not say what the alert is about", "")
	}
	return Alert{p, acknowledged(p)}, rec, err
}

func (v *view) alert() error {
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	a, rec, err := v.anAlert(index)
	if err != nil {
		return err
	}
	if v.query.Owner == "" {
		if err := v.notedList("/alerts/" + strconv.FormatUint(a.Seq, 10)); err != nil {
			return err
		}
	}
	about, err := v.evidence(index, rec)
	if err != nil {
		return err
	}
	meaning := ""
	for _, rule := range v.who.Rules() {
		if rule.Name == a.Rule() {
			meaning = rule.Meaning
		}
	}
	same := url.Values{"rule": {a.Rule()}}
	if a.User != "" {
		same.Set("user", a.User)
	}
	return v.show("alert", struct {
		look
		A           Alert
		About       uint64
		RunID       string
		Meaning     string
		Evidence    []evidence
		Same        string
		MayNot      error
		CommentMost int
	}{v.look, a, rec.Alert.Seq, rec.RunID, meaning, about, address("/alerts", same), v.who.May(access.ToSeeHistory, everybodysRuns), commentMost})
}

const evidenceRows = 20

// evidence collects what an alert is about: the run or the record that it names, and for rules that count,
// what they have counted.
func (v *view) evidence(index *store.Index, rec audit.Record) (all []evidence, err error) {
	at, _ := time.Parse(time.RFC3339Nano, rec.Timestamp)
	runs := func(title string, q store.Query) {
		q.Owner, q.Limit = v.query.Owner, cmp.Or(q.Limit, evidenceRows)
		page, e := index.Page(q)
		if e != nil || len(page.Runs) == 0 {
			err = errors.Join(err, e)
			return
		}
		all = append(all, evidence{Title: title, Runs: page.Runs})
	}
	if rec.RunID != "" {
		runs("The run", store.Query{Run: rec.RunID, Limit: 1})
		if len(all) == 1 {
			at = all[0].Runs[0].Started
		}
	}
	until := at.Add(time.Second)
	switch rec.Alert.Rule {
	case "denials":
		runs("Refusals of this user in the hour before", store.Query{User: rec.User.Name, Status: store.Denied, Since: at.Add(-time.Hour), Until: until})
	case "rate-limits":
		runs("Refusals of this user by rate limits in the hour before", store.Query{User: rec.User.Name, Status: store.RateLimited, Since: at.Add(-time.Hour), Until: until})
	case "limits-in-a-row":
		runs("Runs of this user and script up to then", store.Query{User: rec.User.Name, Script: rec.Script.Name, Until: until, Limit: 5})
	}
	if err != nil || rec.Alert.Seq == 0 || rec.Alert.Seq == rec.Seq {
		return all, err
	}
	p, found, err := v.recordAt(index, rec.Alert.Seq)
	if err != nil {
		return all, err
	}
	if !found { // the start or the end of a run, or removed by retention
		if rec.RunID == "" {
			all, err = v.evidenceOfRun(index, rec.Alert.Seq, all)
		}
		return all, err
	}
	_, says, err := v.who.ReadRecord(p.Place)
	if err != nil {
		if _, told := err.(Refusal); !told {
			return all, err
		}
		says = err.Error()
	}
	return append(all, evidence{Title: "The record", Said: []saidRecord{{p, says}}}), nil
}

// evidenceOfRun finds the run whose start or end a record is, among those that had begun by then.
func (v *view) evidenceOfRun(index *store.Index, seq uint64, all []evidence) ([]evidence, error) {
	page, err := index.Page(store.Query{Owner: v.query.Owner, Before: seq + 1, Limit: evidenceRows})
	for _, run := range page.Runs {
		if run.StartSeq == seq || run.EndSeq == seq {
			all = append(all, evidence{Title: "The run", Runs: []store.Run{run}})
		}
	}
	return all, err
}

// comment is the comment of a form.
func (v *view) comment() (string, error) {
	text := strings.TrimSpace(v.r.PostFormValue("comment"))
	switch {
	case text == "":
		return "", refused(http.StatusUnprocessableEntity, "a comment is needed: what came of looking into it", "")
	case len([]rune(text)) > commentMost:
		return "", refused(http.StatusUnprocessableEntity, "the comment is too long: at most "+strconv.Itoa(commentMost)+" characters", "")
	}
	return text, nil
}

func (v *view) acknowledgeAlert() error {
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	comment, err := v.comment()
	if err != nil {
		return err
	}
	a, rec, err := v.anAlert(index)
	if err != nil {
		return err
	}
	if _, err := v.who.Acknowledge(audit.Acknowledged{Alert: a.Seq, Kind: rec.Alert.Rule, Seq: cmp.Or(rec.Alert.Seq, a.Seq), Comment: comment}); err != nil {
		return err
	}
	return v.redirect("/alerts/" + strconv.FormatUint(a.Seq, 10))
}
