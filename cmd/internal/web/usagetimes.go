package web

import (
	"math"
	"time"

	"py3run/cmd/internal/store"
)

// mostPoints is how many times a figure has: each is several values.
const mostPoints = 200

// A point is the runs of one piece of time.
type point struct {
	at        time.Time
	runs      usageRow
	durations store.Histogram
}

func (p *point) add(b store.Bucket) {
	p.runs.CPU += b.CPU
	p.runs.Refused += b.Refused
	p.runs.PeakMemory = max(p.runs.PeakMemory, b.PeakMemory)
	p.durations.Merge(b.Durations())
	if p.runs.Statuses == nil {
		p.runs.Statuses = map[string]int64{}
	}
	for status, n := range b.Statuses {
		p.runs.Statuses[status] += n
	}
}

// hoursMost is the longest time that figures show by the hour.
const hoursMost = 3*24*time.Hour + time.Hour

// usagePoints are the runs of a query in pieces of the same length, at most so many, in the order of
// time, the empty ones among them.
func (v *view) usagePoints(index *store.Index, q store.Query) (points []point, pieces string, err error) {
	until := q.Until
	if until.IsZero() || until.After(v.now) {
		until = v.now
	}
	step, next := store.ByDay, func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }
	pieces = "days"
	if !q.Since.IsZero() && until.Sub(q.Since) <= hoursMost {
		step, next = store.ByHour, func(t time.Time) time.Time { return t.Add(time.Hour) }
		pieces = "hours"
	}
	buckets, err := index.Series(q, step)
	if err != nil || len(buckets) == 0 {
		return nil, pieces, err
	}
	byTime := map[int64]*store.Bucket{}
	for i := range buckets {
		byTime[buckets[i].At.Unix()] = &buckets[i]
	}
	n := 0
	for t := buckets[0].At; !t.After(until); t = next(t) {
		n++
	}
	together := (n + mostPoints - 1) / mostPoints
	n = 0
	for t := buckets[0].At; !t.After(until); t = next(t) {
		if n%max(1, together) == 0 {
			points = append(points, point{at: t})
		}
		n++
		if b := byTime[t.Unix()]; b != nil {
			points[len(points)-1].add(*b)
		}
	}
	if together > 1 {
		pieces = v.Number(together) + " " + pieces + " each"
	}
	return points, pieces, nil
}

// usageTimes draws what the runs used over time, and sums it up.
func (v *view) usageTimes(index *store.Index, q store.Query, d *usageData) error {
	points, pieces, err := v.usagePoints(index, q)
	if err != nil {
		return err
	}
	at := make([]time.Time, len(points))
	row := func(name, class string) Series {
		return Series{Name: name, Class: class, Values: make([]float64, len(points))}
	}
	p50, p95 := row("p50", "s1"), row("p95", "s2")
	cpu, peak, limit := row("CPU time", "s1"), row("peak memory", "s1"), row("limit of one run now", "limit")
	kinds := newOutcomes(len(points))
	most := v.memoryLimit()
	total := &point{}
	for i := range points {
		p := &points[i]
		at[i] = p.at
		p50.Values[i], p95.Values[i], peak.Values[i], limit.Values[i] = math.NaN(), math.NaN(), math.NaN(), most/mib
		if p.durations.Count() > 0 {
			p50.Values[i], p95.Values[i] = p.durations.Percentile(0.5).Seconds(), p.durations.Percentile(0.95).Seconds()
		}
		if p.runs.PeakMemory > 0 {
			peak.Values[i] = float64(p.runs.PeakMemory) / mib
		}
		cpu.Values[i] = p.runs.CPU.Seconds()
		for status, n := range p.runs.Statuses {
			kinds.add(v.look, status, i, n)
		}
		kinds.add(v.look, store.Denied, i, p.runs.Refused)
		total.merge(p)
	}
	d.Total = total.sum()
	d.Longest = total.durations.Percentile(1)
	if len(points) == 0 {
		return nil
	}
	memory := []Series{peak}
	if most > 0 {
		memory = append(memory, limit)
	}
	d.Times = []Plot{
		v.Stacked("outcomes", "Runs by how they ended, and refusals", at, kinds.series(), nil),
		v.Lines("durations", "Duration: half of the runs (p50) and 95 of 100 (p95) took no longer", at, []Series{p50, p95}, v.saySpan, spanUnits...),
		v.Lines("cpu", "CPU time of all runs together", at, []Series{cpu}, v.saySpan, spanUnits...),
		v.Lines("memory", "Largest peak memory of one run", at, memory, v.sayMemory, 1024),
	}
	for i := range d.Times {
		d.Times[i].Note = "by " + pieces
	}
	return nil
}

// spanUnits are the minute and the hour, in seconds.
var spanUnits = []float64{60, 3600}

// saySpan is a duration in one unit, short enough for an axis.
func (l look) saySpan(seconds float64) string {
	switch {
	case seconds == 0:
		return "0 s"
	case seconds < 1:
		return l.Fixed(seconds*1000, 0) + " ms"
	case seconds < 60:
		return l.short(seconds) + " s"
	case seconds < 3600:
		return l.short(seconds/60) + " min"
	}
	return l.short(seconds/3600) + " h"
}

// mib is a mebibyte: an axis with round numbers of them is one of round numbers.
const mib = 1 << 20

// sayMemory is a number of mebibytes, short enough for an axis.
func (l look) sayMemory(v float64) string {
	if v >= 1000 {
		return l.short(v/1024) + " GiB"
	}
	return l.Fixed(v, 0) + " MiB"
}

// merge adds another point.
func (p *point) merge(o *point) {
	b := store.Bucket{}
	b.CPU, b.PeakMemory, b.Refused, b.Statuses = o.runs.CPU, o.runs.PeakMemory, o.runs.Refused, o.runs.Statuses
	p.add(b)
	p.durations.Merge(o.durations)
}

// sum is the point as a row of the table, with its runs counted.
func (p *point) sum() usageRow {
	for status, n := range p.runs.Statuses {
		p.runs.Runs += n
		if status != "ok" {
			p.runs.Failed += n
		}
	}
	return p.runs
}

// memoryLimit is how much memory one run may have; 0: there is no limit.
func (v *view) memoryLimit() float64 {
	for _, l := range v.who.RunLimits() {
		if l.Status == "memory_limit" {
			return l.Most
		}
	}
	return 0
}

// A limitRow is a limit of one run against the runs of the page.
type limitRow struct {
	Key, Most string
	Largest   string // what a run has used at most; empty: not known
	Part      string // of the limit
	Struck    int64  // runs that ended at it
	Link      string // to these
}

// usageLimits compares the runs with the limits.
func (v *view) usageLimits(d *usageData) error {
	for _, l := range v.who.RunLimits() {
		r := limitRow{Key: l.Key, Most: "no limit", Struck: d.Total.Statuses[l.Status], Link: d.Form.With("/history", "status", l.Status)}
		say := map[Unit]func(float64) string{Bytes: v.sayBytes, Seconds: v.saySeconds, Pieces: v.sayPieces}[l.Unit]
		if l.Most > 0 {
			r.Most = say(l.Most)
		}
		used := map[string]float64{"memory_limit": float64(d.Total.PeakMemory), "timeout": d.Longest.Seconds()}[l.Status]
		if used > 0 {
			r.Largest = say(used)
			if l.Most > 0 {
				r.Part = v.Percent(int64(used*1000), int64(l.Most*1000))
			}
		}
		d.Limits = append(d.Limits, r)
	}
	rates, err := v.who.Rates()
	if refused, is := err.(Refusal); is {
		d.NoRates = refused.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if n := len(rates.Users); n > mostRates {
		rates.Users, d.MoreRates = rates.Users[:mostRates], n-mostRates
	}
	d.Rates = &rates
	return nil
}
