package web

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/wire"
)

// Runs is what a visitor can do with past runs.
type Runs interface {
	// Query is a filter as a question; times without a zone are in the zone of now.
	Query(f Filter, now time.Time) (store.Query, error)
	// Saved are the filters that the visitor has saved on the command line.
	Saved() []SavedFilter
	// Page is a page of runs, in which those that died without an end are orphaned.
	Page(x *store.Index, q store.Query) (store.Page, error)
	// History are all runs of a query, likewise.
	History(x *store.Index, q store.Query) iter.Seq2[store.Run, error]
	// WriteRuns writes runs as py3runctl history --format csv does.
	WriteRuns(to io.Writer, runs iter.Seq2[store.Run, error]) error
	// Records are the records of a run as the log has them.
	Records(x *store.Index, r store.Run) (RunRecords, error)
	// Code is the code that was run, if the visitor may read it.
	Code(of RunRecords) ([]byte, error)
	// Proof is a file that proves what was recorded of a run.
	Proof(of RunRecords) ([]byte, error)
	// Again is the request that runs the same code again, if the visitor may do that.
	Again(of RunRecords) (Again, error)
	// RunAgain runs it, with these variables as JSON, and returns when it has ended.
	RunAgain(a Again, variables []byte) (Outcome, error)
}

// A SavedFilter is a filter with a name.
type SavedFilter struct {
	Name   string
	Filter Filter
}

// Link is the address of the runs that the filter selects.
func (s SavedFilter) Link() string { return address("/history", s.Filter.Values()) }

var historyPages = []page{
	{"GET /history", "History", anybody, (*view).history},
	{"GET /history.csv", "", anybody, (*view).historyCSV},
}

// statuses are those that a filter can ask for.
var statuses = func() (list []string) {
	for _, s := range wire.Statuses() {
		list = append(list, string(s))
	}
	return append(list, store.Orphaned, store.Running)
}()

// presets are times that are often asked for, as the filter has them.
var presets = []struct{ Name, since, until string }{
	{"Last hour", "1h", ""}, {"Today", "today", ""}, {"Yesterday", "yesterday", "today"}, {"7 days", "7d", ""}, {"30 days", "30d", ""}, {"All", "", ""},
}

// A preset is a link that sets the times of the filter.
type preset struct {
	Name, Link string
	Here       bool
}

// historyPage is the data of the page.
type historyPage struct {
	look
	Form         Filter            // as it was entered, also where it cannot be used
	Faults       map[string]string // by the name of the field
	Statuses     []string
	Presets      []preset
	Saved        []SavedFilter
	Runs         []store.Run
	Reached      time.Time
	Older, Newer string // addresses; empty: there is no such page
	Newest       string
	Here         string // address of this page
	Live, Paused bool
	Switch       string // address that pauses or resumes the refresh
	CSV          string // addresses
	PageCSV      string
	Heat         *Plot
	HeatNote     string
	Map          bool // this page has the map
	Everybody    bool // runs of others are shown, too
}

// history shows a page of runs.
func (v *view) history() error {
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	stack, err := v.place()
	if err != nil {
		return err
	}
	if err := v.notedRuns(); err != nil {
		return err
	}
	page, err := v.who.Page(index, v.query)
	if err != nil {
		return err
	}
	h := historyPage{look: v.look, Form: filterOf(v.params), Faults: faults(v.wrong), Statuses: statuses, Presets: v.presets(),
		Runs: page.Runs, Reached: page.Reached, Everybody: v.query.Owner == ""}
	h.Saved = v.who.Saved()
	v.links(&h, page, stack)
	if h.Map = stack.before == 0; h.Map && v.r.Header.Get("HX-Target") != "runs" { // a refresh takes the table only
		q := v.query
		q.Before = 0
		if h.Heat, h.HeatNote, err = v.heat(index, q); err != nil {
			return err
		}
	}
	return v.show("history", h)
}

// A stack says on which page of a list the visitor is, and which pages came before it.
type stack struct {
	before uint64
	newer  []uint64 // Before of the pages that lead here, the newest first; 0 is the first page
}

// mostNewer is how many pages back an address remembers. Before them all, the newest page comes.
const mostNewer = 20

// place reads the page of the address, and sets it in the query.
func (v *view) place() (s stack, err error) {
	number := func(text string) (n uint64) {
		if n, e := strconv.ParseUint(text, 10, 63); e == nil {
			return n
		}
		err = refused(http.StatusUnprocessableEntity, "this address names no page of the list", "begin with the newest runs: /history")
		return 0
	}
	if text := v.params.Get("before"); text != "" {
		s.before = number(text)
	}
	if text := v.params.Get("newer"); text != "" {
		for _, one := range strings.Split(text, ".") {
			s.newer = append(s.newer, number(one))
		}
	}
	v.query.Before = s.before
	return s, err
}

// links sets the addresses of the pages around one page, and of the same runs as CSV.
func (v *view) links(h *historyPage, page store.Page, s stack) {
	at := func(path string, before uint64, newer []uint64, live bool) string {
		p := v.filter.Values()
		if before > 0 {
			p.Set("before", strconv.FormatUint(before, 10))
			var text []string
			for _, n := range newer[max(0, len(newer)-mostNewer):] {
				text = append(text, strconv.FormatUint(n, 10))
			}
			if len(text) > 0 {
				p.Set("newer", strings.Join(text, "."))
			}
		}
		if !live {
			p.Set("live", "off")
		}
		return address(path, p)
	}
	live := v.params.Get("live") != "off"
	if page.Next > 0 {
		h.Older = at("/history", page.Next, append(slices.Clone(s.newer), s.before), live)
	}
	if s.before > 0 {
		h.Newest, h.Newer = at("/history", 0, nil, live), at("/history", 0, nil, live)
		if n := len(s.newer); n > 0 {
			h.Newer = at("/history", s.newer[n-1], s.newer[:n-1], live)
		}
	}
	h.Here = at("/history", s.before, s.newer, live)
	if s.before == 0 && (v.query.Until.IsZero() || v.query.Until.After(v.now)) && v.wrong == "" {
		h.Live, h.Paused, h.Switch = live, !live, at("/history", 0, nil, !live)
	}
	p := v.filter.Values()
	h.CSV = address("/history.csv", p)
	p.Set("rows", "page")
	if s.before > 0 {
		p.Set("before", strconv.FormatUint(s.before, 10))
	}
	h.PageCSV = address("/history.csv", p)
}

func (v *view) presets() (list []preset) {
	for _, one := range presets {
		f := v.filter
		f.Since, f.Until = one.since, one.until
		list = append(list, preset{one.Name, address("/history", f.Values()), v.wrong == "" && v.filter.Since == one.since && v.filter.Until == one.until})
	}
	return list
}

var faultyFlag = regexp.MustCompile(`for --([a-z-]+): `)

// faults finds the field that a message about a filter is about. The fields have the names of flags.
func faults(wrong string) map[string]string {
	at := faultyFlag.FindStringSubmatchIndex(wrong)
	if at == nil {
		return nil
	}
	return map[string]string{wrong[at[2]:at[3]]: wrong[at[1]:]}
}

// notedRuns records that the visitor looks at runs of others, by which filter.
func (v *view) notedRuns() error {
	if v.query.Owner != "" {
		return nil
	}
	query := v.filter.Values().Encode()
	return v.noted(audit.HistoryViewed, query, func(rec *audit.Record) { rec.Viewed = &audit.View{Query: cmp.Or(query, "all runs")} })
}

// Days of the heatmap.
const (
	heatDays = 14 // where the filter does not say since when
	heatMost = 31
)

// heat is the map of the runs that have ended, by the day and the hour of their start.
func (v *view) heat(index *store.Index, q store.Query) (*Plot, string, error) {
	if !summable(q) {
		return nil, "There is no map for these filters together: the index keeps sums for time, status, failed and two of user, script and host, or for one API key.", nil
	}
	until := v.now
	if !q.Until.IsZero() && q.Until.Before(until) {
		until = q.Until
	}
	midnight := func(t time.Time, days int) time.Time {
		y, m, d := t.In(v.zone).Date()
		return time.Date(y, m, d+days, 0, 0, 0, 0, v.zone)
	}
	note, from := "", midnight(until.Add(-1), 1-heatDays)
	if !q.Since.IsZero() {
		from = midnight(q.Since, 0)
		if least := midnight(until.Add(-1), 1-heatMost); from.Before(least) {
			from, note = least, fmt.Sprintf("The map has the last %d days of this time.", heatMost)
		}
	} else {
		note = fmt.Sprintf("The map has the last %d days; the filter can ask for up to %d.", heatDays, heatMost)
	}
	if !from.Before(until) {
		return nil, "", nil
	}
	if q.Since.Before(from) {
		q.Since = from
	}
	buckets, err := index.Series(q, store.ByHour)
	if err != nil {
		return nil, "", err
	}
	if len(buckets) == 0 {
		return nil, "No run has ended in the time of the map.", nil
	}
	var rows, columns []string
	row := map[string]int{}
	for i := 0; ; i++ {
		day := midnight(from, i)
		if !day.Before(until) {
			break
		}
		row[v.Day(day)] = i
		rows = append(rows, v.at(day, "Mon")[:2]+v.at(day, " 01-02"))
	}
	for h := range 24 {
		columns = append(columns, fmt.Sprintf("%02d", h))
	}
	plot := v.Heat("heat", "Runs by day and hour of their start, "+v.ZoneNow(), rows, columns, v.cells(buckets, row))
	return &plot, note, nil
}

// summable reports whether the sums of the index answer a query. Else the runs themselves would have to be read.
func summable(q store.Query) bool {
	if q.Text != "" || q.Client.IsValid() || q.Code != "" || q.Holder != "" || q.Version != "" || len(q.Labels) > 0 {
		return false
	}
	n := 0
	for _, is := range []bool{q.User != "" || q.Owner != "", q.Script != "", q.Host != ""} {
		if is {
			n++
		}
	}
	return n <= 2 && (q.Key == "" || n == 0)
}

// cells are the places of the heatmap, each with a link that narrows the filter to its hour.
func (v *view) cells(buckets []store.Bucket, row map[string]int) (cells []Cell) {
	for _, b := range buckets {
		at := b.At.In(v.zone)
		f := v.filter
		f.Since, f.Until = v.hour(at, 0).Format(time.RFC3339), v.hour(at, 1).Format(time.RFC3339)
		text := fmt.Sprintf("%s: %s runs, %s failed", v.at(at, "2006-01-02 15:04"), v.Number(b.Runs), v.Number(b.Failed))
		if b.Refused > 0 {
			text += fmt.Sprintf(", and %s refusals in summaries", v.Number(b.Refused))
		}
		if i, shown := row[v.Day(at)]; shown {
			cells = append(cells, Cell{Row: i, Column: at.Hour(), Value: float64(b.Runs), Mark: Mark{Text: text, Link: address("/history", f.Values())}})
		}
	}
	return cells
}

// hour is when the hour of a time begins, or one that many hours after it. Where clocks are set back, an
// hour comes twice: it begins when it comes first, and both count as one.
func (v *view) hour(at time.Time, after int) time.Time {
	y, m, d := at.Date()
	begin := time.Date(y, m, d, at.Hour()+after, 0, 0, 0, v.zone)
	if earlier := begin.Add(-time.Hour); earlier.Hour() == begin.Hour() {
		return earlier
	}
	return begin
}

// historyCSV sends the runs of the filter, or with rows=page those of one page.
func (v *view) historyCSV() error {
	if v.wrong != "" {
		return refused(http.StatusUnprocessableEntity, "this filter cannot be used: "+v.wrong, "")
	}
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	if _, err := v.place(); err != nil {
		return err
	}
	if err := v.notedRuns(); err != nil {
		return err
	}
	var page store.Page
	if v.params.Get("rows") == "page" {
		if page, err = v.who.Page(index, v.query); err != nil {
			return err
		}
	}
	v.attach("text/csv; charset=utf-8; header=present", "runs.csv")
	if v.r.Method == http.MethodHead {
		return nil
	}
	to := &patient{w: v.w}
	if v.params.Get("rows") == "page" {
		return v.sent(v.who.WriteRuns(to, func(yield func(store.Run, error) bool) {
			for _, r := range page.Runs {
				if !yield(r, nil) {
					return
				}
			}
		}))
	}
	return v.sent(v.who.WriteRuns(to, v.who.History(index, v.query)))
}

// attach sets the headers of a file for the visitor to keep.
func (v *view) attach(kind, name string) {
	v.w.Header().Set("Content-Type", kind)
	v.w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}

// sent ends a download. It cannot tell the visitor of an error any more: the connection breaks off, so
// that nobody takes a part for the whole.
func (v *view) sent(err error) error {
	if err == nil {
		return nil
	}
	if v.r.Context().Err() == nil {
		v.server.say(fmt.Errorf("%s %s: %w", v.r.Method, v.r.URL.Path, err))
	}
	panic(http.ErrAbortHandler)
}

// A patient writer gives each piece of a long answer its own time.
type patient struct{ w http.ResponseWriter }

func (p *patient) Write(b []byte) (int, error) {
	http.NewResponseController(p.w).SetWriteDeadline(time.Now().Add(answerPatience)) // a test's recorder has none
	return p.w.Write(b)
}

// RunPath is the address of a run. An id comes from the log and can have anything in it.
func (l look) RunPath(id string) string { return "/runs/" + url.PathEscape(id) }

// Used are time, CPU and memory of a run, as far as they are known: nothing ran of one that was refused.
func (l look) Used(r store.Run) [3]string {
	switch r.Status {
	case "", store.Orphaned, store.Denied, store.RateLimited:
		return [3]string{"–", "–", "–"}
	}
	return [3]string{l.Took(r.Duration), l.Took(r.CPU), l.Bytes(r.PeakMemory)}
}

// Called is what people know a run by: its script, or else how it was called.
func (l look) Called(r store.Run) string {
	if r.Script != "" && r.Version != "" {
		return r.Script + "@" + r.Version
	}
	return cmp.Or(r.Script, strings.TrimSpace(r.Invocation+" "+r.Command))
}

// Clip shortens a text, with an ellipsis.
func (l look) Clip(text string, most int) string { return clip(text, most) }

// Moment is when the page was made.
func (l look) Moment() time.Time { return l.now }

// ZoneNow is the reader's zone for people: its name, and what clocks there call it now.
func (l look) ZoneNow() string {
	short, name := l.now.In(l.zone).Format("MST"), l.Zone()
	if name == short || l.zone == time.Local {
		return short
	}
	return name + " (" + short + ")"
}
