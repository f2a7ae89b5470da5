// Package store answers questions about past runs, from the audit log itself ([Log]) or from an
// index ([Index]): an SQLite file that is derived from the log and can always be made again
// ([Writer]). Writer and Index share nothing but the file.
package store

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"time"

	"py3run/audit"
)

// An Entry is a record of the log with the hash of its line.
type Entry struct {
	Record audit.Record
	Hash   string
	Place  audit.Place // zero: not known
	Hidden bool        // from the user of the record: see [RecordQuery]
}

// A Run is one execution, as the log shows it, with times to the microsecond. Without an end,
// Status is empty.
type Run struct {
	ID          string
	User        string
	Auth        string
	OSUser      string // who called, to the operating system
	KeyID       string
	Holder      string // the key's own user, where that is not User
	Client      string // address, as the caller said
	Host        string
	Script      string
	Version     string // of the script
	Source      string // where the name of the script comes from
	Path        string // of the script's file
	Invocation  string // exec, run, python or bridge
	Command     string
	Labels      map[string]string
	Code        string // SHA-256
	CodeBytes   int64
	Started     time.Time
	Ended       time.Time
	Status      string // of the result, Orphaned or Denied
	Reason      string // code of the failure
	Duration    time.Duration
	CPU         time.Duration
	PeakMemory  int64 // bytes
	StdoutBytes int64
	StderrBytes int64
	ExitCode    *int
	Signal      string
	StartSeq    uint64 // 0: the start is no longer in the log
	EndSeq      uint64
	EndHash     string      // as in the run's receipt
	Refusals    int64       // not 0: no run, but a summary of so many refusals
	StartAt     audit.Place // of the lines; zero: not known
	EndAt       audit.Place
}

// Statuses of runs that have not ended by themselves. Orphaned and Running do not occur in results.
const (
	Orphaned    = "orphaned" // died with its launcher
	Denied      = "denied"
	RateLimited = "rate_limited"
	Running     = "running" // only in queries and answers: there is no end yet
)

// aboutRun reports whether a record is about a run. A summary of refusals is about several, without
// their ids.
func aboutRun(r audit.Record) bool {
	switch r.Event.Action {
	case audit.ExecutionStart, audit.ExecutionEnd, audit.ExecutionOrphaned, audit.ExecutionDenied:
		return r.Refusals == nil
	}
	return false
}

// RunOf is a run as far as one record shows it.
func RunOf(rec audit.Record) *Run {
	r := &Run{}
	r.add(Entry{Record: rec})
	return r
}

// add adds to a run what a record says about it.
func (r *Run) add(e Entry) {
	rec := e.Record
	at := audit.ParseTime(rec.Timestamp)
	r.ID, r.User, r.Auth, r.OSUser, r.KeyID, r.Holder = rec.RunID, rec.User.Name, string(rec.Auth.Method), rec.Auth.OSUser, rec.Auth.KeyID, rec.Auth.Holder
	r.Client, r.Host = rec.Client.IP, rec.Host.Name
	r.Script, r.Version, r.Source, r.Path = rec.Script.Name, rec.Script.Version, string(rec.Script.Source), rec.Script.Path
	r.Command, r.Code, r.CodeBytes = rec.Command, rec.Code.SHA256, rec.Code.Bytes
	if r.Invocation = ""; rec.Invoked != nil {
		r.Invocation = rec.Invoked.Command
	}
	if r.Labels = nil; len(rec.Labels) > 0 {
		r.Labels = rec.Labels
	}
	if rec.Event.Action == audit.ExecutionStart {
		r.Started, r.StartSeq, r.StartAt = at, rec.Seq, e.Place
		return
	}
	if ended, err := time.Parse(time.RFC3339Nano, rec.Event.End); err == nil { // the record was written later
		at = ended
	}
	r.Ended, r.EndSeq, r.EndHash, r.EndAt = at, rec.Seq, e.Hash, e.Place
	r.Status, r.Reason, r.Duration = rec.Status, rec.Event.Reason, time.Duration(rec.Event.DurationNS).Truncate(time.Microsecond)
	switch rec.Event.Action {
	case audit.ExecutionOrphaned:
		r.Status = Orphaned
	case audit.ExecutionDenied:
		r.Status = cmp.Or(rec.Status, Denied)
	}
	if r.Started.IsZero() {
		r.Started = at.Add(-r.Duration)
	}
	if p := rec.Process; p != nil {
		r.CPU, r.PeakMemory, r.StdoutBytes, r.StderrBytes = time.Duration(p.CPUMS)*time.Millisecond, p.PeakMemoryBytes, known(p.StdoutBytes), known(p.StderrBytes)
		r.ExitCode, r.Signal = p.ExitCode, p.Signal
	}
}

// known is a size, and 0 where nobody has counted.
func known(size *int64) int64 {
	if size == nil {
		return 0
	}
	return *size
}

// Place is a run's place in the order of runs: the seq of its first record in the log.
func (r *Run) Place() uint64 {
	if r.StartSeq > 0 {
		return r.StartSeq
	}
	return r.EndSeq
}

// An Action counts the records with the same action and reason.
type Action struct {
	Name   string
	Reason string // empty for records about runs
	Count  int64
}

// actionOf is what a record counts as. Records about runs have no reason here: their status says
// more.
func actionOf(r audit.Record) Action {
	a := Action{Name: string(r.Event.Action), Count: 1}
	if !aboutRun(r) {
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
	// History returns the runs that a query selects, newest first.
	History(Query) iter.Seq2[Run, error]
	// Stats groups the ended runs that a query selects.
	Stats(Query, By) ([]Group, error)
	// Actions counts all records, also those that are not about a run.
	Actions() ([]Action, error)
	Close() error
}

// Log answers from the records themselves. It goes through all of them for every question.
type Log struct {
	Entries  iter.Seq2[Entry, error] // oldest first
	Backward iter.Seq2[Entry, error] // newest first; nil: not known
}

// History reads backwards, and not further than the caller takes. Where that is not possible, it goes through the whole
// log before it returns the first run.
func (l Log) History(q Query) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		if l.Backward != nil {
			l.historyBackward(q, yield)
			return
		}
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

// runs returns the matching runs, newest first, and not more than the limit.
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

// Totals returns Stats of all runs in two groupings, and Actions, from one reading of the log.
func (l Log) Totals(first, second By) (one, two []Group, actions []Action, err error) {
	var a, b grouping
	var all counting
	begin := func() { a, b, all = grouping{}, grouping{}, counting{} }
	err = l.read(begin, Query{}, func(r *Run) {
		if r.Status != "" {
			a.run(first, Query{}, r)
			b.run(second, Query{}, r)
		}
	}, func(e Entry) { all.add(actionOf(e.Record)) })
	return a.sorted(first), b.sorted(second), all.sorted(), err
}

// each passes all matching runs to take: first those that have ended, in the order of their ends,
// then the others. If retention removes records meanwhile, it calls begin again and reads again
// from the start.
func (l Log) each(q Query, begin func(), take func(*Run)) error {
	return l.read(begin, q, take, func(Entry) {})
}

// read does the same, and also passes every record to look.
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
	open := map[string]*Run{} // runs without an end so far
	for e, err := range l.Entries {
		if err != nil {
			return err
		}
		look(e)
		if r := summaryOf(e); r != nil && q.Matches(r) {
			take(r)
		}
		if !aboutRun(e.Record) {
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
			if q.Matches(r) {
				take(r)
			}
		}
	}
	for _, r := range open {
		if q.Matches(r) {
			take(r)
		}
	}
	return nil
}

// Stats goes through the log, and not further back than since.
func (l Log) Stats(q Query, by By) ([]Group, error) {
	var all grouping
	begin := func() { all = grouping{} }
	take := func(r *Run) {
		if r.Status != "" {
			all.run(by, q, r)
		}
	}
	var err error
	if l.Backward != nil && !q.Since.IsZero() {
		begin()
		err = l.backward(q, func(r *Run) bool { take(r); return true }, nil)
	} else {
		err = l.each(q, begin, take)
	}
	if err != nil {
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
