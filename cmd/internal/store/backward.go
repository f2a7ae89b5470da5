package store

import (
	"cmp"
	"slices"
	"time"

	"py3run/audit"
)

// Read backwards, a run comes with its end first and is whole at its start, so that runs come in the order of History.
// A run whose start is not in the log has its place at its end. That shows only when the log has no older record; until
// then, runs with smaller places have to wait for it.

// backward passes the matching runs to take as soon as they are whole, until take returns false. hold, which may be nil, is
// told of ends whose starts were not met yet. A query with since ends at the segment that has no later record: a run whose
// start was not met by then has none in its time. Of one that was orphaned nobody knows how long it took.
func (l Log) backward(q Query, take func(*Run) bool, hold *waiting) error {
	ends := map[string]Entry{} // of runs whose start was not met yet
	orphans := 0               // how many of them can match
	segment, late := uint64(0), true
	for e, err := range l.Backward {
		if err != nil {
			return err
		}
		if e.Place.Segment != segment {
			if !q.Since.IsZero() && !late && orphans == 0 {
				break
			}
			segment, late = e.Place.Segment, false
		}
		late = late || !audit.ParseTime(e.Record.Timestamp).Before(q.Since)
		if r := summaryOf(e); r != nil && q.Matches(r) && !take(r) {
			return nil
		}
		if !aboutRun(e.Record) {
			continue
		}
		id := e.Record.RunID
		end, ended := ends[id]
		r := &Run{}
		switch {
		case e.Record.Event.Action == audit.ExecutionStart:
			r.add(e)
			if ended {
				r.add(end)
				delete(ends, id)
				orphans -= q.orphan(end)
				hold.found(end)
			}
		case ended: // the log has two ends of the run: the start belongs to this one
			r.add(end)
			hold.found(end)
			hold.wait(q, e)
			ends[id] = e
			orphans += q.orphan(e) - q.orphan(end)
		case e.Record.Event.Action == audit.ExecutionDenied:
			r.add(e)
		default:
			ends[id] = e
			orphans += q.orphan(e)
			hold.wait(q, e)
			continue
		}
		if q.Matches(r) && !take(r) {
			return nil
		}
		if hold.done() {
			return nil
		}
	}
	return startless(q, ends, take, hold)
}

// startless passes on the runs whose starts are not in the log.
func startless(q Query, ends map[string]Entry, take func(*Run) bool, hold *waiting) error {
	for _, e := range ends {
		r := &Run{}
		r.add(e)
		hold.found(e)
		if q.Matches(r) && !take(r) {
			return nil
		}
	}
	return nil
}

// orphan is 1 for the end of an orphaned run that can match.
func (q Query) orphan(e Entry) int {
	return int(bit(e.Record.Event.Action == audit.ExecutionOrphaned && q.mayMatch(e)))
}

// mayMatch reports whether the run of an end matches, whenever it began.
func (q Query) mayMatch(e Entry) bool {
	q.Since, q.Until, q.Before = time.Time{}, time.Time{}, 0
	r := &Run{}
	r.add(e)
	return q.Matches(r)
}

// A waiting puts runs into the order of their places. A nil one does nothing.
type waiting struct {
	limit int                 // runs that are wanted at most; 0: all
	runs  []*Run              // largest place first
	open  []uint64            // ends without a start so far, largest first
	shut  map[uint64]struct{} // those of open whose start was found
}

func (w *waiting) wait(q Query, end Entry) {
	if w != nil && q.mayMatch(end) {
		w.open = append(w.open, end.Record.Seq)
	}
}

func (w *waiting) found(end Entry) {
	if w == nil {
		return
	}
	w.shut[end.Record.Seq] = struct{}{}
	for len(w.open) > 0 {
		if _, shut := w.shut[w.open[0]]; !shut {
			return
		}
		delete(w.shut, w.open[0])
		w.open = w.open[1:]
	}
	clear(w.shut)
}

// add adds a run. Of more than the limit, the last cannot be wanted.
func (w *waiting) add(r *Run) {
	i, _ := slices.BinarySearchFunc(w.runs, r.Place(), func(r *Run, place uint64) int { return cmp.Compare(place, r.Place()) })
	if w.limit > 0 && i >= w.limit {
		return
	}
	w.runs = slices.Insert(w.runs, i, r)
	if w.limit > 0 && len(w.runs) > w.limit {
		w.runs = w.runs[:w.limit]
	}
}

// next is the next run whose turn it is for certain; nil: none.
func (w *waiting) next() *Run {
	if len(w.runs) == 0 || len(w.open) > 0 && w.open[0] > w.runs[0].Place() {
		return nil
	}
	r := w.runs[0]
	w.runs = w.runs[1:]
	return r
}

// done reports whether all runs that are wanted were passed on.
func (w *waiting) done() bool { return w != nil && w.limit < 0 }

func (l Log) historyBackward(q Query, yield func(Run, error) bool) {
	w := &waiting{limit: q.Limit, shut: map[uint64]struct{}{}}
	told, stopped := 0, false
	flush := func() bool {
		for r := w.next(); r != nil; r = w.next() {
			if !yield(*r, nil) {
				stopped = true
				return false
			}
			if told++; q.Limit > 0 {
				if w.limit--; w.limit == 0 {
					w.limit = -1
					return false
				}
			}
		}
		return true
	}
	err := l.backward(q, func(r *Run) bool {
		w.add(r)
		return flush()
	}, w)
	if stopped || w.done() {
		return
	}
	if err != nil {
		yield(Run{}, err)
		return
	}
	w.open = nil
	flush()
}
