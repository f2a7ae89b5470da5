package store

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// By is what statistics are grouped by.
type By string

// The groupings.
const (
	ByAll    By = "all"
	ByUser   By = "user"
	ByScript By = "script"
	ByStatus By = "status"
	ByDay    By = "day"  // of the start
	ByHour   By = "hour" // likewise, as 2006-01-02T15
	ByHost   By = "host"
	ByKey    By = "key" // the id of the API key
	ByReason By = "reason"
)

const byLabel = "label:"

// ByLabel groups by the value of one label. Runs without the label are in no group.
func ByLabel(name string) By { return By(byLabel + name) }

// label is the name of the label that runs are grouped by.
func (by By) label() (name string, is bool) { return strings.CutPrefix(string(by), byLabel) }

// A Group has the statistics of ended runs that have something in common. Percentiles are exact to
// within 3 %, and cover the runs whose duration is known.
type Group struct {
	Key         string
	Asserted    bool // by user: nothing but the callers' word says that these runs were the user's
	Runs        int64
	Failed      int64 // every status but ok
	Statuses    map[string]int64
	CPU         time.Duration
	PeakMemory  int64 // bytes, the largest
	OutputBytes int64
	Refused     int64     // refusals that stand only in summaries; they are not in Runs
	Last        time.Time // start of the newest
	durations   Histogram
}

// Durations are the durations of the runs in the group.
func (g *Group) Durations() Histogram { return g.durations }

// Percentile is the duration that p (0 to 1) of the runs did not exceed.
func (g *Group) Percentile(p float64) time.Duration { return g.durations.Percentile(p) }

// With are the runs of both groups together.
func (g Group) With(o Group) Group {
	sum := Group{Key: g.Key, Asserted: g.Asserted}
	sum.merge(&g)
	sum.merge(&o)
	return sum
}

func (g *Group) merge(o *Group) {
	g.Runs += o.Runs
	g.Failed += o.Failed
	if g.Statuses == nil {
		g.Statuses = map[string]int64{}
	}
	for s, n := range o.Statuses {
		g.Statuses[s] += n
	}
	g.CPU += o.CPU
	g.PeakMemory = max(g.PeakMemory, o.PeakMemory)
	g.OutputBytes += o.OutputBytes
	g.Refused += o.Refused
	if o.Last.After(g.Last) {
		g.Last = o.Last
	}
	g.durations.Merge(o.durations)
}

// single is a group of one ended run, or of the refusals in a summary.
func single(r *Run) *Group {
	var p portion
	p.add(r)
	return p.group(r.Status)
}

// A groupKey is what the runs of a group have in common. A user whom callers only named is not the
// one who has proved to be that user.
type groupKey struct {
	key      string
	asserted bool
}

// A grouping collects groups by their keys.
type grouping map[groupKey]*Group

func (all grouping) add(key groupKey, g *Group) {
	if all[key] == nil {
		all[key] = &Group{Key: key.key, Asserted: key.asserted}
	}
	all[key].merge(g)
}

// sorted puts the group with the most runs first, and days and hours in their order.
func (all grouping) sorted(by By) []Group {
	var list []Group
	for _, g := range all {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b Group) int {
		if by != ByDay && by != ByHour {
			if c := cmp.Compare(b.Runs, a.Runs); c != 0 {
				return c
			}
		}
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(bit(a.Asserted), bit(b.Asserted)))
	})
	return list
}

// keyOf is the group of a run; false: it is in none.
func (by By) keyOf(q Query, r *Run) (groupKey, bool) {
	if name, is := by.label(); is {
		value, has := r.Labels[name]
		return groupKey{key: value}, has
	}
	switch by {
	case ByUser:
		return groupKey{r.User, r.Asserted()}, true
	case ByScript:
		return groupKey{key: r.Script}, true
	case ByStatus:
		return groupKey{key: r.Status}, true
	case ByHost:
		return groupKey{key: r.Host}, true
	case ByKey:
		return groupKey{key: r.KeyID}, true
	case ByReason:
		return groupKey{key: r.Reason}, true
	case ByDay:
		return groupKey{key: r.Started.In(q.zone()).Format(dayLayout)}, true
	case ByHour:
		return groupKey{key: r.Started.In(q.zone()).Format(hourLayout)}, true
	}
	return groupKey{key: string(ByAll)}, true
}

// run adds an ended run.
func (all grouping) run(by By, q Query, r *Run) {
	if key, is := by.keyOf(q, r); is {
		all.add(key, single(r))
	}
}

const (
	dayLayout  = "2006-01-02"
	hourLayout = "2006-01-02T15"
)

// zone is where the query counts days and hours.
func (q Query) zone() *time.Location {
	if q.Zone == nil {
		return time.UTC
	}
	return q.Zone
}

// countsUTC reports whether the days of the query are days in UTC. The zone of a host can be UTC
// under any name.
func (q Query) countsUTC() bool {
	if q.zone() == time.UTC {
		return true
	}
	for at := time.Date(2020, 1, 15, 0, 0, 0, 0, time.UTC); at.Year() < 2040; at = at.AddDate(0, 1, 0) {
		if _, offset := at.In(q.Zone).Zone(); offset != 0 {
			return false
		}
	}
	return true
}
