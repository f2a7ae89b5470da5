// Package store answers questions about past runs: from an SQLite file that is derived from the audit log and can always be made again, or from
// the log itself. The one that writes the file ([Writer]) and those that answer ([Index], [Log]) know each other only by the file.
package store

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"py3run/audit"
)

// An Entry is a record of the log with the hash of its line.
type Entry struct {
	Record audit.Record
	Hash   string
}

// A Run is one execution as the log knows it, its times to the microsecond. Without an end, Status is empty.
type Run struct {
	ID          string
	User        string
	Auth        string
	Client      string // address, as somebody said
	Host        string
	Script      string
	Version     string // of the script
	Command     string
	Code        string // SHA-256
	CodeBytes   int64
	Started     time.Time
	Ended       time.Time
	Status      string // of the result, or Orphaned or Denied
	Reason      string // code of the failure
	Duration    time.Duration
	CPU         time.Duration
	PeakMemory  int64 // bytes
	StdoutBytes int64
	StderrBytes int64
	ExitCode    *int
	Signal      string
	StartSeq    uint64 // 0: the start is not in the log any more
	EndSeq      uint64
	EndHash     string // as in the run's receipt
}

// Statuses that no result has.
const (
	Orphaned = "orphaned" // died with its launcher
	Denied   = "denied"
	Running  = "running" // in questions and answers only: no end yet
)

// runsCode tells whether a record is about a run at all.
func runsCode(a audit.Action) bool {
	switch a {
	case audit.ExecutionStart, audit.ExecutionEnd, audit.ExecutionOrphaned, "execution-denied":
		return true
	}
	return false
}

// add brings a run what a record says of it.
func (r *Run) add(e Entry) {
	rec := e.Record
	at, _ := time.Parse(time.RFC3339Nano, rec.Timestamp)
	r.ID, r.User, r.Auth, r.Client, r.Host = rec.RunID, rec.User.Name, string(rec.Auth.Method), rec.Client.IP, rec.Host.Name
	r.Script, r.Version, r.Command, r.Code, r.CodeBytes = rec.Script.Name, rec.Script.Version, rec.Command, rec.Code.SHA256, rec.Code.Bytes
	if rec.Event.Action == audit.ExecutionStart {
		r.Started, r.StartSeq = at, rec.Seq
		return
	}
	if ended, err := time.Parse(time.RFC3339Nano, rec.Event.End); err == nil { // written later
		at = ended
	}
	r.Ended, r.EndSeq, r.EndHash = at, rec.Seq, e.Hash
	r.Status, r.Reason, r.Duration = rec.Status, rec.Event.Reason, time.Duration(rec.Event.DurationNS).Truncate(time.Microsecond)
	switch rec.Event.Action {
	case audit.ExecutionOrphaned:
		r.Status = Orphaned
	case "execution-denied":
		r.Status = Denied
	}
	if r.Started.IsZero() {
		r.Started = at.Add(-r.Duration)
	}
	if p := rec.Process; p != nil {
		r.CPU, r.PeakMemory, r.StdoutBytes, r.StderrBytes = time.Duration(p.CPUMS)*time.Millisecond, p.PeakMemoryBytes, p.StdoutBytes, p.StderrBytes
		r.ExitCode, r.Signal = p.ExitCode, p.Signal
	}
}

// Place is a run's place in the order of runs: the seq of its first record that is in the log.
func (r *Run) Place() uint64 {
	if r.StartSeq > 0 {
		return r.StartSeq
	}
	return r.EndSeq
}

// A Query asks for runs. Empty fields ask for any.
type Query struct {
	User, Script, Status string
	Run                  string         // the beginning or the end of a run's id
	Since, Until         time.Time      // by the start; Until is not included
	Limit                int            // of History, 0: none
	Zone                 *time.Location // of the days of Stats; nil: UTC
}

func (q Query) matches(r *Run) bool {
	return (q.User == "" || r.User == q.User) && (q.Script == "" || r.Script == q.Script) &&
		(q.Run == "" || strings.HasPrefix(r.ID, q.Run) || strings.HasSuffix(r.ID, q.Run)) &&
		(q.Status == "" || r.Status == q.Status || q.Status == Running && r.Status == "") &&
		(q.Since.IsZero() || !r.Started.Before(q.Since)) && (q.Until.IsZero() || r.Started.Before(q.Until))
}

// By is what statistics are grouped by.
type By string

// The groupings.
const (
	ByAll    By = "all"
	ByUser   By = "user"
	ByScript By = "script"
	ByStatus By = "status"
	ByDay    By = "day" // of the start
)

// A Group is the statistics of the ended runs that have something in common. Percentiles are right to within 3 %, and of
// those whose duration is known.
type Group struct {
	Key         string
	Runs        int64
	Failed      int64 // every status but ok
	Statuses    map[string]int64
	CPU         time.Duration
	PeakMemory  int64 // bytes, the largest
	OutputBytes int64
	Last        time.Time // start of the newest
	durations   Histogram
}

// Durations are those of all runs of the group.
func (g *Group) Durations() Histogram { return g.durations }

// Percentile is the duration that p (0 to 1) of the runs did not exceed.
func (g *Group) Percentile(p float64) time.Duration { return g.durations.Percentile(p) }

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
	if o.Last.After(g.Last) {
		g.Last = o.Last
	}
	g.durations.Merge(o.durations)
}

// single is the statistics of one ended run.
func single(r *Run) *Group {
	g := &Group{Runs: 1, Statuses: map[string]int64{r.Status: 1}, CPU: r.CPU, PeakMemory: r.PeakMemory, OutputBytes: r.StdoutBytes + r.StderrBytes, Last: r.Started}
	if r.Status != "ok" {
		g.Failed = 1
	}
	if r.Status != Orphaned { // nobody knows how long it took
		g.durations.Add(r.Duration)
	}
	return g
}

// A grouping collects groups by their keys.
type grouping map[string]*Group

func (all grouping) add(key string, g *Group) {
	if all[key] == nil {
		all[key] = &Group{Key: key}
	}
	all[key].merge(g)
}

// sorted is most runs first, days in order.
func (all grouping) sorted(by By) []Group {
	var list []Group
	for _, g := range all {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b Group) int {
		if by != ByDay {
			if c := cmp.Compare(b.Runs, a.Runs); c != 0 {
				return c
			}
		}
		return cmp.Compare(a.Key, b.Key)
	})
	return list
}

func keyOf(by By, user, script, status, day string) string {
	switch by {
	case ByUser:
		return user
	case ByScript:
		return script
	case ByStatus:
		return status
	case ByDay:
		return day
	}
	return string(ByAll)
}

const dayLayout = "2006-01-02"

// dayOf is the day of a time as the index keeps its sums.
func dayOf(t time.Time) string { return t.UTC().Format(dayLayout) }

// day is that of a time as the query counts days.
func (q Query) day(t time.Time) string {
	if q.Zone != nil {
		return t.In(q.Zone).Format(dayLayout)
	}
	return dayOf(t)
}

// countsUTC tells whether the days of the query are those of UTC, which the zone of a host can be by any name.
func (q Query) countsUTC() bool {
	if q.Zone == nil || q.Zone == time.UTC {
		return true
	}
	for at := time.Date(2020, 1, 15, 0, 0, 0, 0, time.UTC); at.Year() < 2040; at = at.AddDate(0, 1, 0) {
		if _, offset := at.In(q.Zone).Zone(); offset != 0 {
			return false
		}
	}
	return true
}

// An Action is how many records say what they say for the same reason.
type Action struct {
	Name   string
	Reason string // of what is about no run
	Count  int64
}

// actionOf is what a record counts as. The reasons of runs are in their status.
func actionOf(r audit.Record) Action {
	a := Action{Name: string(r.Event.Action), Count: 1}
	if !runsCode(r.Event.Action) {
		a.Reason = r.Event.Reason
	}
	return a
}

// counting collects actions by name and reason.
type counting map[[2]string]int64

func (c counting) add(a Action) { c[[2]string{a.Name, a.Reason}] += a.Count }

func (c counting) sorted() (list []Action) {
	for key, n := range c {
		list = append(list, Action{key[0], key[1], n})
	}
	slices.SortFunc(list, func(a, b Action) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Reason, b.Reason)) })
	return list
}

// A Source answers questions.
type Source interface {
	// History is the runs that a query asks for, newest first.
	History(Query) iter.Seq2[Run, error]
	// Stats is about the ended runs that a query asks for.
	Stats(Query, By) ([]Group, error)
	// Actions counts all records, those that are about no run too.
	Actions() ([]Action, error)
	Close() error
}

// Log answers from the records themselves, which it goes through for every question.
type Log struct {
	Entries iter.Seq2[Entry, error] // oldest first
}

// History goes through the whole log first.
func (l Log) History(q Query) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		runs, err := l.runs(q)
		if err != nil {
			yield(Run{}, err)
			return
		}
		for i, r := range runs {
			if q.Limit > 0 && i == q.Limit || !yield(*r, nil) {
				return
			}
		}
	}
}

// runs are the matching ones, newest first, and no more than are wanted.
func (l Log) runs(q Query) ([]*Run, error) {
	var all []*Run
	newest := func() {
		slices.SortFunc(all, func(a, b *Run) int { return cmp.Compare(b.Place(), a.Place()) })
		if q.Limit > 0 && len(all) > q.Limit {
			clear(all[q.Limit:])
			all = all[:q.Limit]
		}
	}
	err := l.each(q, func() { all = nil }, func(r *Run) {
		if all = append(all, r); q.Limit > 0 && len(all) >= 2*q.Limit+1000 {
			newest()
		}
	})
	newest()
	return all, err
}

// Totals are Stats of all runs by two groupings, and Actions, in one reading.
func (l Log) Totals(first, second By) (one, two []Group, actions []Action, err error) {
	var a, b grouping
	var all counting
	begin := func() { a, b, all = grouping{}, grouping{}, counting{} }
	err = l.read(begin, Query{}, func(r *Run) {
		if r.Status != "" {
			a.add(keyOf(first, r.User, r.Script, r.Status, dayOf(r.Started)), single(r))
			b.add(keyOf(second, r.User, r.Script, r.Status, dayOf(r.Started)), single(r))
		}
	}, func(e Entry) { all.add(actionOf(e.Record)) })
	return a.sorted(first), b.sorted(second), all.sorted(), err
}

// each gives take all matching runs, as they end and then those that have not. Where retention removes records while they are read, all is to be
// read again, and begin is called anew.
func (l Log) each(q Query, begin func(), take func(*Run)) error {
	return l.read(begin, q, take, func(Entry) {})
}

// read does so, and gives look every record as well.
func (l Log) read(begin func(), q Query, take func(*Run), look func(Entry)) error {
	for tries := 1; ; tries++ {
		begin()
		err := l.once(q, take, look)
		if gone := new(audit.PositionError); tries == 5 || !errors.As(err, &gone) || !gone.Pruned {
			return err
		}
	}
}

func (l Log) once(q Query, take func(*Run), look func(Entry)) error {
	open := map[string]*Run{} // without an end so far
	for e, err := range l.Entries {
		if err != nil {
			return err
		}
		look(e)
		if !runsCode(e.Record.Event.Action) {
			continue
		}
		r := open[e.Record.RunID]
		if r == nil {
			r = &Run{}
			open[e.Record.RunID] = r
		}
		r.add(e)
		if r.Status != "" {
			delete(open, r.ID)
			if q.matches(r) {
				take(r)
			}
		}
	}
	for _, r := range open {
		if q.matches(r) {
			take(r)
		}
	}
	return nil
}

// Stats goes through the whole log.
func (l Log) Stats(q Query, by By) ([]Group, error) {
	var all grouping
	if err := l.each(q, func() { all = grouping{} }, func(r *Run) {
		if r.Status != "" {
			all.add(keyOf(by, r.User, r.Script, r.Status, q.day(r.Started)), single(r))
		}
	}); err != nil {
		return nil, err
	}
	return all.sorted(by), nil
}

// Actions goes through the whole log.
func (l Log) Actions() ([]Action, error) {
	_, _, actions, err := l.Totals(ByAll, ByAll)
	return actions, err
}

// Close does nothing.
func (l Log) Close() error { return nil }
