package web

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"py3run/cmd/internal/store"
)

// Overview is what a visitor can do on this page.
type Overview interface {
	// RunningNow is how many of the runs that the visitor may see are alive.
	RunningNow() (int, error)
	// OpenAlerts are the alerts that the visitor may see and nobody has acknowledged.
	OpenAlerts(*store.Index) (OpenAlerts, error)
	// Trust is what can be said about the log without reading all of it.
	Trust(*store.Index) (Trust, error)
}

// OpenAlerts counts alerts.
type OpenAlerts struct {
	Open  int
	More  bool           // there are older ones that were not looked at
	Rules map[string]int // how many of each rule
}

// A Trust is what can be said about the log at once.
type Trust struct {
	Auditing      bool // the configuration that holds here records runs
	RetentionDays int  // 0: records are kept for ever
	Pruned        *store.RecordPlace
	Checkpoints   string      // what is known about checkpoints where there is none to show; empty: nothing is wrong
	Checkpoint    *Checkpoint // the newest; nil: there is none
}

// A Checkpoint is a signed note about the log.
type Checkpoint struct {
	Seq    uint64 // the newest record that it signs
	At     time.Time
	Signer string
	Agrees Agreement
}

// An Agreement says whether a record of the log is the one that was signed.
type Agreement int

// The agreements.
const (
	NotCompared Agreement = iota
	Agrees
	Differs
)

var overviewPages = []page{
	{"GET /{$}", "Overview", anybody, (*view).overview},
}

// A span of the overview.
type overviewSpan struct {
	Name  string // in the address
	Label string
	Here  bool
	hours int
}

func overviewSpans(name string) (spans []overviewSpan, chosen overviewSpan) {
	spans = []overviewSpan{{Name: "24h", Label: "24 hours", hours: 24}, {Name: "7d", Label: "7 days", hours: 7 * 24}}
	at := 0
	for i := range spans {
		if spans[i].Name == name {
			at = i
		}
	}
	spans[at].Here = true
	return spans, spans[at]
}

// overviewData is what the page shows.
type overviewData struct {
	look
	Spans            []overviewSpan
	Span             overviewSpan
	Paused           bool
	Runs             int64 // that ended, refusals not among them
	Failed           int64
	Refused          int64
	First            time.Time // the span begins with this hour
	RunsLink         string
	FailedLink       string
	RefusedLink      string
	Running          int
	Alerts           OpenAlerts
	Plot             Plot
	Trust            Trust
	Log              store.Span
	Fresh            Fresh
	Own              string // the one user whose runs are counted; empty: everybody's
	Unsigned         uint64
	CheckpointIsLate bool
}

// checkpointLate is when a checkpoint is old enough to say so: the help recommends one each hour.
const checkpointLate = 26 * time.Hour

func (v *view) overview() error {
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	d := overviewData{look: v.look, Paused: v.params.Get("refresh") == "off", Own: v.query.Owner}
	d.Spans, d.Span = overviewSpans(v.params.Get("span"))
	if err := v.overviewRuns(index, &d); err != nil {
		return err
	}
	if d.Running, err = v.who.RunningNow(); err != nil {
		return err
	}
	if d.Alerts, err = v.who.OpenAlerts(index); err != nil {
		return err
	}
	if d.Trust, err = v.who.Trust(index); err != nil {
		return err
	}
	if d.Log, err = index.Span(); err != nil {
		return err
	}
	if v.server.Fresh != nil {
		d.Fresh = v.server.Fresh()
	}
	if c := d.Trust.Checkpoint; c != nil {
		d.Unsigned = d.Log.Newest - min(d.Log.Newest, c.Seq)
		d.CheckpointIsLate = d.Unsigned > 0 && v.now.Sub(c.At) > checkpointLate
	}
	return v.show("overview", d)
}

// overviewRuns counts the runs of the span, and draws them.
func (v *view) overviewRuns(index *store.Index, d *overviewData) error {
	local := v.now.In(v.zone)
	first := time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), 0, 0, 0, v.zone).Add(-time.Duration(d.Span.hours-1) * time.Hour)
	q := store.Query{Owner: v.query.Owner, Zone: v.zone, Since: first}
	buckets, err := index.Series(q, store.ByHour)
	if err != nil {
		return err
	}
	at := make([]time.Time, d.Span.hours)
	place := map[int64]int{}
	for i := range at {
		at[i] = first.Add(time.Duration(i) * time.Hour)
		place[at[i].Unix()] = i
	}
	outcomes := newOutcomes(len(at))
	for _, b := range buckets {
		d.Refused += b.Refused
		if i, ok := place[b.At.Unix()]; ok {
			outcomes.add(v.look, store.Denied, i, b.Refused)
		}
		for status, n := range b.Statuses {
			if !neverRan(status) {
				d.Runs += n
				if status != "ok" {
					d.Failed += n
				}
			} else {
				d.Refused += n
			}
			if i, ok := place[b.At.Unix()]; ok {
				outcomes.add(v.look, status, i, n)
			}
		}
	}
	d.First = first
	since := Filter{Since: stamp(first)}
	d.RunsLink = since.With("/history", "", "")
	d.FailedLink = since.With("/history", "failed", "1")
	d.RefusedLink = since.With("/usage", "sort", "-refused") // History has one row for many of them
	d.Plot = v.Stacked("hours", "Runs an hour by how they ended, and refusals", at, outcomes.series(), func(i int) string {
		return Filter{Since: stamp(at[i]), Until: stamp(at[i].Add(time.Hour))}.With("/history", "", "")
	})
	d.Plot.Note = fmt.Sprintf("%s, times in %s. A bar leads to its runs.", d.Span.Label, v.Zone())
	return nil
}

// stamp is a time as the filters of an address have it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// neverRan reports whether nothing ran.
func neverRan(status string) bool { return status == store.Denied || status == store.RateLimited }

// outcomes are series of runs by the kind of their status: a figure of each status would be unreadable.
type outcomes struct {
	values map[string][]float64 // by class
	n      int
}

// outcomeKinds are the kinds from the bottom of a bar to its top, by the class of their badges.
var outcomeKinds = []struct{ class, name string }{
	{"good", "ok"}, {"bad", "error"}, {"limit", "at a limit"}, {"stopped", "cancelled"}, {"refused", "refused"}, {"fault", "fault of the host or the launcher"},
}

func newOutcomes(n int) outcomes { return outcomes{map[string][]float64{}, n} }

func (o outcomes) add(l look, status string, i int, n int64) {
	if n == 0 {
		return
	}
	class := l.Status(status).Class
	if o.values[class] == nil {
		o.values[class] = make([]float64, o.n)
	}
	o.values[class][i] += float64(n)
}

// series are the kinds that there are.
func (o outcomes) series() (list []Series) {
	for _, kind := range outcomeKinds {
		if values := o.values[kind.class]; values != nil {
			list = append(list, Series{Name: kind.name, Class: kind.class, Values: values})
		}
	}
	return list
}

// counts is a list of numbers with what they count, the largest first.
func counts(of map[string]int) string {
	names := slices.Sorted(maps.Keys(of))
	slices.SortStableFunc(names, func(a, b string) int { return of[b] - of[a] })
	for i, name := range names {
		names[i] = strconv.Itoa(of[name]) + " " + name
	}
	return strings.Join(names, ", ")
}

// RuleLine names the rules of open alerts, the one with most alerts first.
func (d overviewData) RuleLine() string { return counts(d.Alerts.Rules) }

// PrunedTo says how far retention went.
func (d overviewData) PrunedTo() uint64 { return d.Log.Oldest - min(1, d.Log.Oldest) }
