package launch

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/wire"
)

// take lets a run be one of those that its user may have, until the run gives it back. Where the user
// has as many as allowed, take waits as long as the job wants to.
func (r *run) take() *refusal {
	job := r.plan.Job
	who, counted := access.Counted(r.plan.Grant, job.Config.Security.RateLimit)
	if !counted {
		return nil
	}
	limits, most := access.NewLimits(StateDir(job.Environ)), access.RatesOf(job.Config.Security.RateLimit)
	began := time.Now()
	slot, limited, notes, signal := limits.Await(who, most, access.Wait{Patience: job.Patience, Signals: job.Signals, Begins: job.Lasts})
	if job.Patience > 0 { // waiting for its turn is no part of the run
		r.plan.Job.Began = job.Began.Add(time.Since(began))
	}
	r.note(limits, notes)
	switch {
	case signal != nil:
		return cancelledBefore(signal, "while the run waited for its turn")
	case limited != nil:
		return limitedBy(r.plan, limited)
	}
	r.slot = slot
	r.held.add(func() error { slot.Release(); return nil })
	return nil
}

// cancelledBefore makes the refusal of a run that a signal ended before its code began.
func cancelledBefore(signal os.Signal, when string) *refusal {
	number, _ := signal.(syscall.Signal)
	f := &wire.Failure{Message: "cancelled: the caller sent " + unix.SignalName(number) + " " + when}
	return &refusal{status: wire.StatusCancelled, failure: f, signal: number}
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
	record, notes := limits.Refused(d.User, d.Code)
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
	base := audit.Record{Host: audit.ThisHost(), Auth: auth(Plan{Job: r.plan.Job, Grant: access.Grant{Method: access.ByOSUser}}, isUser)}
	if t := r.trouble; t != nil {
		r.trouble = nil
		rec := base
		rec.RunID, rec.User = r.plan.RunID, audit.User{Name: r.plan.user().name}
		rec.Event = audit.Event{Action: audit.Alerted, Outcome: audit.Unknown, Reason: t.Code}
		rec.Alert = &audit.Alert{Rule: t.Code, Title: t.Message}
		_, err = log.Append(rec)
	}
	due := r.due
	r.due = nil
	for i, s := range due {
		rec := base
		rec.User = audit.User{Name: s.User}
		rec.Event = audit.Event{Action: audit.ExecutionDenied, Outcome: audit.Denied, Reason: s.Code}
		rec.Refusals = &audit.Refusals{Count: s.Count, First: s.First.UTC().Format(time.RFC3339Nano), Last: s.Last.UTC().Format(time.RFC3339Nano)}
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
