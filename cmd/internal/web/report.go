package web

import (
	"bytes"
	"cmp"
	"html/template"
	"io"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
)

// A ReportOrder says what a report is about.
type ReportOrder struct {
	Who      Visitor // whose rights decide what is in it
	Index    *store.Index
	Query    store.Query // bounded to what Who may see, with the zone of the report
	Filter   Filter      // the same, as the report says it
	Now      time.Time
	Log      string    // directory
	Host     string    // that the report is made on
	Verified *Verified // nil: the log was not verified
	Failed   error     // why it could not be verified
}

// Report writes one file for a browser and for paper, which needs nothing but itself.
func Report(w io.Writer, o ReportOrder) error {
	v := &view{look: look{o.Query.Zone, o.Now, message.NewPrinter(language.English)}, who: o.Who, query: o.Query, filter: o.Filter, params: url.Values{}, server: &Server{}}
	r := &report{look: v.look, order: o, Made: o.Now, By: o.Who.Name(), Known: o.Who.Known(), Host: o.Host, Log: o.Log}
	for _, part := range []func(*view) error{r.frame, r.sums, r.days, r.failures, r.usage, r.alertsOf, r.changesOf, r.integrityOf, r.configuration} {
		if err := part(v); err != nil {
			return err
		}
	}
	css, err := staticFiles.ReadFile("static/style.css")
	if err != nil {
		return err
	}
	r.Style = template.CSS(css)
	var text bytes.Buffer
	if err := templates["report"].ExecuteTemplate(&text, "report", r); err != nil {
		return err
	}
	_, err = w.Write(text.Bytes())
	return err
}

// Bounds of a report: it is for people.
const (
	reportFailures = 30
	reportTop      = 10
	reportAlerts   = 200
	reportChanges  = 300
	reportDays     = 400 // bars; beyond that, weeks
)

// A report is what the file shows.
type report struct {
	look
	order           ReportOrder
	Style           template.CSS
	Made            time.Time
	By, Known       string
	Host, Log       string
	Conditions      [][2]string
	Since, Until    time.Time
	Span            store.Span
	Own             bool // only the maker's own runs
	All             store.Group
	Refused         int64
	Users, Scripts  int
	Hosts           int
	Days            Plot
	Times           Plot
	ByDay           []dayRow
	Steps           string // of the figures: day, hour or week
	Statuses        []store.Group
	Reasons         []store.Group
	Failures        []store.Run
	MoreFailures    bool
	Tables          []useTable
	Top             []Plot
	Refusals        []store.Group
	Alerts          []Alert
	MoreAlerts      bool
	OpenAlerts      int
	Changes         []saidRecord
	MoreChanges     bool
	Integrity       *integrityPage
	Verified        *Verified
	VerifyFailed    error
	NoIntegrity     error
	Configured      *Configured
	Sections        []configSection
	NoConfiguration error
}

// frame says what the report is about.
func (r *report) frame(v *view) (err error) {
	r.Since, r.Until, r.Own = r.order.Query.Since, r.order.Query.Until, r.order.Query.Owner != ""
	p := r.order.Filter.Values()
	for _, name := range slices.Sorted(maps.Keys(p)) {
		r.Conditions = append(r.Conditions, [2]string{name, strings.Join(p[name], ", ")})
	}
	r.Span, err = r.order.Index.Span()
	return err
}

// sums are the numbers of the summary.
func (r *report) sums(v *view) error {
	all, err := r.order.Index.Stats(r.order.Query, store.ByAll)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		r.All = all[0]
	}
	r.Refused = r.All.Statuses[store.Denied] + r.All.Statuses[store.RateLimited] + r.All.Refused
	return nil
}

// A dayRow is one step of the figures.
type dayRow struct {
	At  string
	Sum store.Group
}

// kinds are the kinds of statuses, as the figures show them.
var kinds = []Series{{Name: "ok", Class: "good"}, {Name: "error", Class: "bad"}, {Name: "limit", Class: "limit"}, {Name: "fault", Class: "fault"}, {Name: "refused", Class: "refused"}, {Name: "cancelled", Class: "stopped"}}

// days draws runs and their durations over time.
func (r *report) days(v *view) error {
	step, q := store.ByDay, r.order.Query
	r.Steps = "day"
	if !q.Since.IsZero() && cmp.Or(q.Until, r.Made).Sub(q.Since) <= 48*time.Hour {
		step, r.Steps = store.ByHour, "hour"
	}
	buckets, err := r.order.Index.Series(q, step)
	if err != nil {
		return err
	}
	buckets = filled(buckets, step, q.Since, cmp.Or(q.Until, r.Made), q.Zone)
	if len(buckets) > reportDays {
		buckets, r.Steps = merged(buckets, (len(buckets)+reportDays-1)/reportDays), "several days"
	}
	series := make([]Series, len(kinds))
	for i := range kinds {
		series[i] = Series{kinds[i].Name, kinds[i].Class, make([]float64, len(buckets))}
	}
	half, most := Series{"half of the runs took at most", "s1", nil}, Series{"95 % of the runs took at most", "s2", nil}
	var at []time.Time
	for i, b := range buckets {
		at = append(at, b.At)
		for status, n := range b.Statuses {
			class := r.Status(status).Class
			for k := range series {
				if series[k].Class == class {
					series[k].Values[i] += float64(n)
				}
			}
		}
		p50, p95 := math.NaN(), math.NaN()
		if times := b.Durations(); times.Count() > 0 {
			p50, p95 = b.Percentile(0.5).Seconds(), b.Percentile(0.95).Seconds()
		}
		half.Values, most.Values = append(half.Values, p50), append(most.Values, p95)
		if b.Runs > 0 {
			layout := time.DateOnly
			if step == store.ByHour {
				layout = "2006-01-02 15:04"
			}
			r.ByDay = append(r.ByDay, dayRow{r.at(b.At, layout), b.Group})
		}
	}
	r.Days = r.Stacked("days", "Runs by "+r.Steps+" and status", at, series, nil)
	r.Times = r.Lines("times", "How long runs took, by "+r.Steps, at, []Series{half, most}, func(s float64) string { return r.Took(time.Duration(s * float64(time.Second))) }, spanUnits...)
	return nil
}

// filled puts in the steps without runs.
func filled(list []store.Bucket, step store.By, since, until time.Time, zone *time.Location) []store.Bucket {
	if len(list) == 0 {
		return nil
	}
	begin := func(t time.Time) time.Time {
		t = t.In(zone)
		if step == store.ByHour {
			return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), 0, 0, 0, zone)
		}
		return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, zone)
	}
	from, to := list[0].At, list[len(list)-1].At
	if !since.IsZero() && begin(since).Before(from) {
		from = begin(since)
	}
	if last := begin(until.Add(-time.Nanosecond)); last.After(to) {
		to = last
	}
	const most = 20000
	var all []store.Bucket
	for at, i := from, 0; !at.After(to) && len(all) < most; {
		if i < len(list) && !list[i].At.After(at) {
			all = append(all, list[i])
			i++
		} else {
			all = append(all, store.Bucket{At: at})
		}
		if step == store.ByHour {
			at = at.Add(time.Hour)
		} else {
			at = at.AddDate(0, 0, 1)
		}
	}
	return all
}

// merged joins so many neighbours each.
func merged(list []store.Bucket, each int) (all []store.Bucket) {
	for group := range slices.Chunk(list, each) {
		b := group[0]
		for _, next := range group[1:] {
			b.Group = b.Group.With(next.Group)
		}
		all = append(all, b)
	}
	return all
}

// failures are the statuses and reasons of what has failed, and the newest of it.
func (r *report) failures(v *view) (err error) {
	q := r.order.Query
	if r.Statuses, err = r.order.Index.Stats(q, store.ByStatus); err != nil {
		return err
	}
	q.Failed = true
	reasons, err := r.order.Index.Stats(q, store.ByReason)
	if err != nil {
		return err
	}
	r.Reasons = reasons[:min(len(reasons), 2*reportTop)]
	q.Limit = reportFailures
	page, err := r.order.Index.Page(q)
	r.Failures, r.MoreFailures = page.Runs, page.Next > 0
	return err
}

// A useTable is what groups of runs have used.
type useTable struct {
	Name string
	Rows []store.Group
	More int
}

// usage is what users, scripts and hosts have used.
func (r *report) usage(v *view) error {
	for _, by := range []struct {
		by   store.By
		name string
		n    *int
	}{{store.ByUser, "user", &r.Users}, {store.ByScript, "script", &r.Scripts}, {store.ByHost, "host", &r.Hosts}} {
		groups, err := r.order.Index.Stats(r.order.Query, by.by)
		if err != nil {
			return err
		}
		*by.n = len(groups)
		if by.by != store.ByHost {
			r.Top = append(r.Top, r.top(by.name, groups))
		}
		t := useTable{Name: by.name, Rows: groups}
		if len(groups) > 2*reportTop {
			t.Rows, t.More = groups[:2*reportTop], len(groups)-2*reportTop
		}
		r.Tables = append(r.Tables, t)
	}
	for _, status := range []string{store.Denied, store.RateLimited} {
		q := r.order.Query
		if q.Status != "" && q.Status != status {
			continue
		}
		q.Status = status
		groups, err := r.order.Index.Stats(q, store.ByReason)
		if err != nil {
			return err
		}
		r.Refusals = append(r.Refusals, groups...)
	}
	return nil
}

// top draws the groups that have used the most processor time.
func (r *report) top(name string, groups []store.Group) Plot {
	groups = slices.Clone(groups)
	slices.SortStableFunc(groups, func(a, b store.Group) int { return cmp.Compare(b.CPU, a.CPU) })
	var bars []Bar
	for _, g := range groups[:min(len(groups), reportTop)] {
		bars = append(bars, Bar{Name: r.GroupName(g), Value: g.CPU.Seconds(), Said: r.Took(g.CPU), Class: "s1"})
	}
	return r.Bars("top-"+name, "Most processor time, by "+name, [3]string{name, "processor time", ""}, bars)
}

// GroupName is the name of a group for people.
func (r *report) GroupName(g store.Group) string {
	name := cmp.Or(g.Key, "(none)")
	if g.Asserted {
		name += " (asserted)"
	}
	return name
}

// alertsOf are the alerts of that time.
func (r *report) alertsOf(v *view) error {
	q := r.order.Query
	wanted := store.RecordQuery{Actions: []audit.Action{audit.Alerted}, User: q.User, Owner: q.Owner, Script: q.Script, Since: q.Since, Until: q.Until}
	for len(r.Alerts) < reportAlerts {
		list, next, _, err := v.findAlerts(r.order.Index, wanted, alertFilter{State: "all"})
		if err != nil {
			return err
		}
		r.Alerts = append(r.Alerts, list...)
		if wanted.Before = next; next == 0 {
			break
		}
		r.MoreAlerts = len(r.Alerts) >= reportAlerts
	}
	for _, a := range r.Alerts {
		if a.Acknowledged == nil {
			r.OpenAlerts++
		}
	}
	return nil
}

// changeActions are what changes who may do what, and what is run.
var changeActions = []audit.Action{audit.PolicyChanged, audit.ConfigChanged, audit.PolicyRestored, audit.UserAdded, audit.UserChanged, audit.UserDisabled, audit.GroupChanged,
	audit.KeyCreated, audit.KeyRevoked, audit.KeyRotated, audit.ScriptSaved, audit.ScriptShared, audit.ScriptDeleted, audit.ScriptImported, audit.LimitsReset}

// changesOf are the changes of policy, keys, scripts and configuration in that time.
func (r *report) changesOf(v *view) (err error) {
	q := r.order.Query
	r.Changes, err = v.said(r.order.Index, store.RecordQuery{Actions: changeActions, User: q.User, Owner: q.Owner, Script: q.Script, Since: q.Since, Until: q.Until, Limit: reportChanges + 1})
	if len(r.Changes) > reportChanges {
		r.Changes, r.MoreChanges = r.Changes[:reportChanges], true
	}
	return err
}

// integrityOf is the state of the log, for those who may see all of it.
func (r *report) integrityOf(v *view) (err error) {
	if r.NoIntegrity = v.mayVerify(); r.NoIntegrity != nil {
		return nil
	}
	r.Verified, r.VerifyFailed = r.order.Verified, r.order.Failed
	p := &integrityPage{look: r.look}
	if r.Verified != nil {
		p.Latest = &latest{Verified: *r.Verified}
		p.Findings = slices.Clone(r.Verified.Findings)
		slices.SortStableFunc(p.Findings, func(a, b audit.Finding) int { return int(b.Severity) - int(a.Severity) })
		p.MoreHidden = max(0, len(p.Findings)-findingRows) + r.Verified.Omitted
		p.Findings = p.Findings[:min(len(p.Findings), findingRows)]
	}
	if err := v.segments(r.order.Index, p); err != nil {
		return err
	}
	if p.Checkpoints, err = v.who.SignedCheckpoints(); err != nil {
		return err
	}
	if p.Prunes, err = v.said(r.order.Index, store.RecordQuery{Actions: []audit.Action{audit.AuditRetention}, Limit: pruneRows}); err != nil {
		return err
	}
	if p.Holds, err = v.who.Holds(r.order.Index); err != nil {
		return err
	}
	p.MoreHolds = max(0, len(p.Holds)-holdRows)
	p.Holds = p.Holds[:min(len(p.Holds), holdRows)]
	r.Integrity = p
	return nil
}

// configuration is what is in force, for those who may see it.
func (r *report) configuration(v *view) error {
	all, err := v.who.Configured()
	if _, told := err.(Refusal); told {
		r.NoConfiguration = err
		return nil
	}
	if err != nil {
		return err
	}
	r.Configured = &all
	for _, k := range all.Keys {
		if len(r.Sections) == 0 || r.Sections[len(r.Sections)-1].Name != k.Section {
			r.Sections = append(r.Sections, configSection{Name: k.Section})
		}
		last := &r.Sections[len(r.Sections)-1]
		last.Keys = append(last.Keys, k)
	}
	return nil
}

// Differ are the keys whose value is not the default.
func (r *report) Differ() (n int) {
	return len(slices.DeleteFunc(slices.Clone(r.Configured.Keys), func(k config.Key) bool { return !k.Changed() }))
}
