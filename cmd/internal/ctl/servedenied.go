package ctl

import (
	"context"
	"sync"
	"time"

	"py3run/audit"
)

// denials record refused attempts to sign in. A flood of them must not fill the log: the first for a
// reason has a record, and those of the minute after that one summary.
type denials struct {
	note func(audit.Record) error
	warn func(error)

	mu sync.Mutex
	of map[string]*denial // by reason, of which there are few
}

type denial struct {
	began time.Time // of the minute that the first attempt began
	last  time.Time
	count int // since the first
}

// deniedFor is how long one record stands for further attempts.
const deniedFor = time.Minute

// add records an attempt that the record tells, or counts it.
func (all *denials) add(reason string, rec audit.Record, now time.Time) {
	all.tell(now, false)
	all.mu.Lock()
	if all.of == nil {
		all.of = map[string]*denial{}
	}
	if d := all.of[reason]; d != nil {
		d.count++
		d.last = now
		all.mu.Unlock()
		return
	}
	all.of[reason] = &denial{began: now}
	all.mu.Unlock()
	rec.Event = audit.Event{Action: audit.SessionDenied, Outcome: audit.Denied, Reason: reason}
	all.record(rec)
}

// tell writes the summaries of minutes that are over; at the end, of all.
func (all *denials) tell(now time.Time, end bool) {
	var due []audit.Record
	all.mu.Lock()
	for reason, d := range all.of {
		if !end && now.Sub(d.began) < deniedFor {
			continue
		}
		delete(all.of, reason)
		if d.count > 0 {
			rec := operator()
			rec.User.Name = ""
			rec.Event = audit.Event{Action: audit.SessionDenied, Outcome: audit.Denied, Reason: reason}
			rec.Refusals = &audit.Refusals{Count: d.count, First: d.began.UTC().Format(time.RFC3339Nano), Last: d.last.UTC().Format(time.RFC3339Nano)}
			due = append(due, rec)
		}
	}
	all.mu.Unlock()
	for _, rec := range due {
		all.record(rec)
	}
}

// keep writes summaries when they are due, until the context ends, and then all.
func (all *denials) keep(ctx context.Context) {
	tick := time.NewTicker(deniedFor / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			all.tell(time.Now(), true)
			return
		case <-tick.C:
			all.tell(time.Now(), false)
		}
	}
}

func (all *denials) record(rec audit.Record) {
	if err := all.note(rec); err != nil && all.warn != nil {
		all.warn(err)
	}
}
