package web

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
)

// Usage is what a visitor can do on this page.
type Usage interface {
	// RunLimits are the limits of one run, as the configuration has them.
	RunLimits() []RunLimit
	// Rates are the limits on how many runs users may have, and what counts now.
	Rates() (Rates, error)
}

// A RunLimit is a limit of one run.
type RunLimit struct {
	Key    string // of the configuration
	Most   float64
	Unit   Unit
	Status string // of runs that end at it
}

// A Unit says what a number counts.
type Unit string

// The units.
const (
	Bytes   Unit = "bytes"
	Seconds Unit = "seconds"
	Pieces  Unit = "pieces"
)

// Rates are counts of runs against their limits.
type Rates struct {
	All       access.Use
	PerMinute int // of all users; 0: no limit
	Users     []UserRate
	Trouble   string // with the file of the counts; empty: none
}

// A UserRate is what counts for a user.
type UserRate struct {
	access.Use
	Most access.Rates
	Next *access.Limited // the limit that would refuse a run now; nil: it could begin
}

var usagePages = []page{
	{"GET /usage", "Usage", anybody, (*view).usage},
}

// Bounds of the page.
const (
	mostGroups = 100
	topGroups  = 10
	mostRates  = 100
)

// usageData is what the page shows.
type usageData struct {
	look
	Form       usageForm
	About      string // which runs these are
	Ranges     []choice
	Groupings  []choice
	Measures   []choice
	Columns    []column
	Rows       []usageRow
	More       int      // groups that are not shown
	Total      usageRow // of all groups
	Longest    time.Duration
	Top        Plot
	Times      []Plot
	Limits     []limitRow
	Rates      *Rates
	MoreRates  int
	NoRates    string   // why there are none
	LabelNames []string // to choose from
	NeedsLabel bool
	Own        string // the one user whose runs are counted; empty: everybody's
}

// Grouping is what the runs are grouped by, in words.
func (d usageData) Grouping() string {
	if d.Form.By == "label" {
		return "label " + d.Form.Name
	}
	return d.Form.By
}

// A choice is one of a row of links.
type choice struct {
	Name, Link string
	Here       bool
}

// A column is the head of a column that a table can be sorted by.
type column struct {
	Name, Link string
	Sorted     string // ascending or descending; empty: the table is not sorted by it
	Number     bool
}

// A usageRow is a group of runs.
type usageRow struct {
	store.Group
	Name, Link string
}

// denied is how many refusals of the group have a record of their own: these are among its runs.
func (r usageRow) denied() int64 { return r.Statuses[store.Denied] + r.Statuses[store.RateLimited] }

// Ran is how many runs of the group were not refused.
func (r usageRow) Ran() int64 { return r.Runs - r.denied() }

// Broke is how many of these ended with another status than ok.
func (r usageRow) Broke() int64 { return r.Failed - r.denied() }

// Turned is how many runs were refused, those of summaries among them.
func (r usageRow) Turned() int64 { return r.denied() + r.Refused }

// P50 and P95 are durations that so many runs did not exceed.
func (r usageRow) P50() time.Duration { return r.Percentile(0.5) }
func (r usageRow) P95() time.Duration { return r.Percentile(0.95) }

// A measure is what groups are compared by.
type measure struct {
	name, label string
	of          func(*usageRow) float64
	say         func(look, float64) string // nil: it is no amount
}

func (l look) saySeconds(v float64) string { return l.Took(time.Duration(v * float64(time.Second))) }
func (l look) sayBytes(v float64) string   { return l.Bytes(int64(v)) }
func (l look) sayPieces(v float64) string  { return l.Number(int64(v)) }

var measures = []measure{
	{"runs", "Runs", func(r *usageRow) float64 { return float64(r.Ran()) }, look.sayPieces},
	{"failed", "Failed", func(r *usageRow) float64 { return float64(r.Broke()) }, look.sayPieces},
	{"refused", "Refused", func(r *usageRow) float64 { return float64(r.Turned()) }, look.sayPieces},
	{"cpu", "CPU time", func(r *usageRow) float64 { return r.CPU.Seconds() }, look.saySeconds},
	{"memory", "Peak memory", func(r *usageRow) float64 { return float64(r.PeakMemory) }, look.sayBytes},
	{"p50", "p50", func(r *usageRow) float64 { return r.P50().Seconds() }, look.saySeconds},
	{"p95", "p95", func(r *usageRow) float64 { return r.P95().Seconds() }, look.saySeconds},
	{"output", "Output", func(r *usageRow) float64 { return float64(r.OutputBytes) }, look.sayBytes},
	{"last", "Last run", func(r *usageRow) float64 { return float64(r.Last.UnixMilli()) }, nil},
}

// grouping is how runs are grouped, by the name in the address.
type grouping struct {
	name string
	by   store.By
}

var groupings = []grouping{{"user", store.ByUser}, {"script", store.ByScript}, {"host", store.ByHost}, {"label", ""}}

// usageForm is what stands in the form.
type usageForm struct {
	Filter
	By   string
	Name string // of the label
	Sort string // a measure, or name; - stands before it where the largest comes first
}

// usageForm reads the form. Without a time it is about the last week.
func (v *view) usageForm() usageForm {
	f := usageForm{Filter: v.filter, By: v.params.Get("by"), Name: strings.TrimSpace(v.params.Get("name")), Sort: v.params.Get("sort")}
	if f.Since == "" && f.Until == "" {
		f.Since = "7d"
	}
	if !slices.ContainsFunc(groupings, func(g grouping) bool { return g.name == f.By }) {
		f.By = groupings[0].name
	}
	if m, _ := f.sorting(); m == nil && strings.TrimPrefix(f.Sort, "-") != "name" {
		f.Sort = "-runs"
	}
	return f
}

// Label is the first label of the filter, as the form has it.
func (f usageForm) Label() string {
	if len(f.Labels) == 0 {
		return ""
	}
	return f.Labels[0]
}

// sorting is the measure by which the table is sorted (nil: by name), and whether the largest comes first.
func (f usageForm) sorting() (*measure, bool) {
	name, down := strings.CutPrefix(f.Sort, "-")
	for i := range measures {
		if measures[i].name == name {
			return &measures[i], down
		}
	}
	return nil, down
}

// by is the grouping; empty: it needs the name of a label.
func (f usageForm) by() store.By {
	if f.By == "label" && f.Name != "" {
		return store.ByLabel(f.Name)
	}
	for _, g := range groupings {
		if g.name == f.By {
			return g.by
		}
	}
	return ""
}

// with is the address of the page with some of its values changed.
func (f usageForm) with(pairs ...string) string {
	p := f.Values()
	pairs = append([]string{"by", f.By, "name", f.Name, "sort", f.Sort}, pairs...)
	for i := 0; i < len(pairs); i += 2 {
		if p.Del(pairs[i]); pairs[i+1] != "" {
			p.Set(pairs[i], pairs[i+1])
		}
	}
	return address("/usage", p)
}

// queryOf is a filter as a question about runs that the visitor may see.
func (v *view) queryOf(f Filter) (store.Query, error) {
	q, err := v.who.Query(f, v.now.In(v.zone))
	q.Owner, q.Zone, q.Host, q.Text = v.query.Owner, v.zone, f.Host, f.Text
	return q, err
}

func (v *view) usage() error {
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	d := usageData{look: v.look, Own: v.query.Owner, Form: v.usageForm()}
	q, err := v.queryOf(d.Form.Filter)
	if err != nil {
		return err
	}
	if q.Owner == "" {
		what := d.Form.with("sort", "")
		if err := v.noted(audit.HistoryViewed, what, func(r *audit.Record) { r.Viewed = &audit.View{Query: what} }); err != nil {
			return err
		}
	}
	v.usageChoices(&d)
	d.About = v.about(d.Form.Filter, q)
	if err := v.usageGroups(index, q, &d); err != nil {
		return err
	}
	if err := v.usageTimes(index, q, &d); err != nil {
		return err
	}
	if err := v.usageLimits(&d); err != nil {
		return err
	}
	return v.show("usage", &d)
}

// about says which runs a filter means: on paper there is no form that shows it.
func (v *view) about(f Filter, q store.Query) string {
	from, to := "the beginning", "now"
	if !q.Since.IsZero() {
		from = v.Time(q.Since)
	}
	if !q.Until.IsZero() {
		to = v.Time(q.Until)
	}
	text := "Runs that began from " + from + " to " + to + ", " + v.Zone()
	p := f.Values()
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if name != "since" && name != "until" {
			text += ", " + name + " " + strings.Join(p[name], " and ")
		}
	}
	return text + "."
}

// usageChoices makes the links above the figures and in the heads of the table.
func (v *view) usageChoices(d *usageData) {
	f := d.Form
	for _, r := range [][2]string{{"24h", "24 hours"}, {"7d", "7 days"}, {"30d", "30 days"}, {"90d", "90 days"}, {"3650d", "all"}} {
		d.Ranges = append(d.Ranges, choice{r[1], f.with("since", r[0], "until", ""), f.Since == r[0] && f.Until == ""})
	}
	for _, g := range groupings {
		d.Groupings = append(d.Groupings, choice{g.name, f.with("by", g.name), f.By == g.name})
	}
	sorted, down := f.sorting()
	for i := range measures {
		m := &measures[i]
		if m.say != nil {
			d.Measures = append(d.Measures, choice{m.label, f.with("sort", "-"+m.name), sorted == m && down})
		}
	}
	head := func(name, label string, here, number bool) {
		c := column{Name: label, Link: f.with("sort", "-"+name), Number: number}
		switch {
		case here && down:
			c.Sorted, c.Link = "descending", f.with("sort", name)
		case here:
			c.Sorted = "ascending"
		}
		d.Columns = append(d.Columns, c)
	}
	head("name", f.By, sorted == nil, false)
	for i := range measures {
		head(measures[i].name, measures[i].label, sorted == &measures[i], measures[i].say != nil)
	}
}

// usageGroups fills the table, and draws its first rows.
func (v *view) usageGroups(index *store.Index, q store.Query, d *usageData) error {
	by := d.Form.by()
	if d.Form.By == "label" {
		if err := v.labelNames(index, q, d); err != nil {
			return err
		}
	}
	if d.NeedsLabel = by == ""; d.NeedsLabel {
		return nil
	}
	groups, err := index.Stats(q, by)
	if err != nil {
		return err
	}
	rows := make([]usageRow, len(groups))
	for i, g := range groups {
		rows[i].Group = g
		rows[i].Name, rows[i].Link = d.Form.named(g)
	}
	m, down := d.Form.sorting()
	slices.SortStableFunc(rows, func(a, b usageRow) int {
		order := strings.Compare(a.Name, b.Name)
		if m != nil {
			order = cmp.Compare(m.of(&a), m.of(&b))
		}
		if down {
			order = -order
		}
		return order
	})
	d.Top = v.usageTop(rows, d)
	if d.Rows = rows; len(rows) > mostGroups {
		d.Rows, d.More = rows[:mostGroups], len(rows)-mostGroups
	}
	return nil
}

// named is the name of a group for people, and the address of its runs.
func (f usageForm) named(g store.Group) (name, link string) {
	switch f.By {
	case "user":
		if name = cmp.Or(g.Key, "(nobody)"); g.Asserted {
			name += " (asserted)"
		}
	case "script":
		name = cmp.Or(g.Key, "(no script)")
	case "host":
		name = cmp.Or(g.Key, "(not known)")
	case "label":
		labelled := f.Filter
		labelled.Labels = append(slices.Clone(f.Labels), f.Name+"="+g.Key)
		return cmp.Or(g.Key, "(empty)"), labelled.With("/history", "", "")
	}
	if g.Key == "" { // a filter cannot ask for it
		return name, ""
	}
	return name, f.With("/history", f.By, g.Key)
}

// usageTop draws the groups with the most of what the table is sorted by.
func (v *view) usageTop(rows []usageRow, d *usageData) Plot {
	m, _ := d.Form.sorting()
	if m == nil || m.say == nil {
		m = &measures[0]
	}
	top := slices.Clone(rows)
	slices.SortStableFunc(top, func(a, b usageRow) int { return cmp.Compare(m.of(&b), m.of(&a)) })
	most, bound := "", 0.0
	if m.name == "memory" {
		if bound = v.memoryLimit(); bound > 0 {
			most = v.sayBytes(bound)
		}
	}
	var bars []Bar
	for i := range top[:min(topGroups, len(top))] {
		value := m.of(&top[i])
		class := "s1"
		if bound > 0 && value >= bound {
			class = "limit"
		}
		bars = append(bars, Bar{Name: top[i].Name, Value: value, Bound: bound, Said: m.say(v.look, value), Limit: most, Class: class, Link: top[i].Link})
	}
	p := v.Bars("top", "Top ten by "+strings.ToLower(m.label), [3]string{d.Grouping(), strings.ToLower(m.label), "limit"}, bars)
	if bound == 0 {
		p.Columns = p.Columns[:2]
		for i := range p.Rows {
			p.Rows[i] = p.Rows[i][:2]
		}
	}
	return p
}

// labelNames finds names of labels in the newest runs.
func (v *view) labelNames(index *store.Index, q store.Query, d *usageData) error {
	q.Limit = 200
	page, err := index.Page(q)
	if err != nil {
		return err
	}
	for _, r := range page.Runs {
		for name := range r.Labels {
			if !slices.Contains(d.LabelNames, name) && len(d.LabelNames) < 50 {
				d.LabelNames = append(d.LabelNames, name)
			}
		}
	}
	slices.Sort(d.LabelNames)
	return nil
}

// LabelLink is the page grouped by a label.
func (d usageData) LabelLink(name string) string { return d.Form.with("by", "label", "name", name) }

// Of is a count and its limit.
func (d usageData) Of(n, most int) string {
	if most == 0 {
		return d.Number(n) + " (no limit)"
	}
	return d.Number(n) + " of " + d.Number(most)
}
