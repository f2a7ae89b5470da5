package launch

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/wire"
)

// take lets a run be one of those that its user may have, until the run is over. Where the user has as
// many as allowed, take waits as long as the job wants to, and returns for how long.
func (r *run) take() (waited time.Duration, refused *refusal) {
	job := r.plan.Job
	who, counted := access.Counted(r.plan.Grant, job.Config.Security.RateLimit)
	if !counted {
		return 0, nil
	}
	limits, most := access.NewLimits(StateDir(job.Environ)), access.RatesOf(job.Config.Security.RateLimit)
	var began time.Time
	wait := access.Wait{Patience: job.Patience, Signals: job.Signals, Begins: func() {
		began = time.Now()
		if job.Lasts != nil {
			job.Lasts()
		}
	}}
	slot, limited, notes, signal := limits.Await(who, most, wait)
	r.slot = slot
	if !began.IsZero() { // waiting for its turn is no part of the run
		waited = time.Since(began)
		r.plan.Job.Began = job.Began.Add(waited)
	}
	r.note(limits, notes)
	switch {
	case signal != nil:
		number, _ := signal.(syscall.Signal)
		f := &wire.Failure{Message: "cancelled: the caller sent " + unix.SignalName(number) + " while the run waited for its turn"}
		return waited, &refusal{status: wire.StatusCancelled, failure: f, signal: number}
	case limited != nil:
		return waited, limitedBy(r.plan, limited)
	}
	return waited, nil
}

// limitedBy makes the refusal of a limit. Only the first of a window has a record of its own.
func limitedBy(p Plan, limited *access.Limited) *refusal {
	wait := max(limited.RetryAfter, time.Millisecond)
	f := &wire.Failure{Code: strings.ReplaceAll(limited.Limit, "-", "_"), Message: limited.Error(), Hint: "wait for retry_after_ms and send it again, or let it wait with --wait",
		Limit:        &wire.LimitHit{Name: limited.Limit, Configured: float64(limited.Configured), Used: float64(limited.Used)},
		RetryAfterMS: (wait + time.Millisecond - 1).Milliseconds()}
	return &refusal{status: wire.StatusRateLimited, failure: f, summarised: !limited.Record,
		denial: &access.Denial{Code: limited.Limit, Message: limited.Error(), Told: true, User: p.Grant.User, KeyID: p.Grant.KeyID}}
}

// counted counts a denial, and reports whether it has a record of its own: a flood of them has one for
// each user, reason and minute, and a summary.
func (r *run) counted(d *access.Denial) (record bool) {
	limits := access.NewLimits(StateDir(r.plan.Job.Environ))
	record, notes := limits.Refused(access.Subject{Name: d.User, Method: r.plan.Grant.Method}, d.Code)
	r.note(limits, notes)
	return record
}

// note keeps what has to be recorded of the limits until the log is open.
func (r *run) note(limits *access.Limits, notes access.Notes) {
	if t := notes.Trouble; t != nil {
		r.plan.Job.Warnings = append(r.plan.Job.Warnings[:len(r.plan.Job.Warnings):len(r.plan.Job.Warnings)], wire.Warning{Code: t.Code, Message: t.Message})
		r.trouble = t
	}
	if len(notes.Due) > 0 {
		r.limits, r.due = limits, append(r.due, notes.Due...)
	}
}

// recordLimits writes what the limits have to say: summaries of refusals, and trouble with their file.
func (r *run) recordLimits(log *audit.Log) (err error) {
	if r.trouble == nil && len(r.due) == 0 {
		return nil
	}
	if t := r.trouble; t != nil {
		rec := r.ownRecord(access.ByOSUser)
		rec.RunID, rec.User = r.plan.RunID, audit.User{Name: r.plan.user().name}
		if _, err = log.Append(rec.OfTrouble(t.Code, t.Message)); err == nil {
			r.trouble = nil
		}
	}
	due := r.due
	r.due = nil
	for i, s := range due {
		rec := r.ownRecord(s.Method).OfRefusals(s.User, s.Code, s.Count, s.First, s.Last)
		if _, failed := log.Append(rec); failed != nil { // the next run is told of the others
			due = due[:i]
			err = errors.Join(err, fmt.Errorf("a summary of refusals is not in the audit log: %w", failed))
			break
		}
	}
	if len(due) > 0 {
		r.limits.Recorded(due)
	}
	return err
}

// ownRecord begins a record that the limits write, about a user who was known by this method.
func (r *run) ownRecord(m access.Method) audit.Record {
	return audit.Record{Host: audit.ThisHost(), Auth: auth(Plan{Job: r.plan.Job, Grant: access.Grant{Method: m}}, isUser)}
}
