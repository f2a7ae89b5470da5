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
	slot, limited, notes, signal := limits.Await(who, most, wait, r.plan.Behind...)
	r.slot = slot
	if !began.IsZero() { // waiting for its turn is no part of the run
		waited = time.Since(began)
		r.plan.Job.Began = job.Began.Add(waited)
	}
	r.note(limits, notes)
	switch {
	case signal != nil:
		return waited, cancelledBefore(signal, "while the run waited for its turn")
	case limited != nil:
		return waited, limitedBy(r.plan, limited)
	}
	return waited, nil
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
	f := &wire.Failure{Code: strings.ReplaceAll(limited.Limit, "-", "_"), Message: limited.Error(),
		Limit:        &wire.LimitHit{Name: limited.Limit, Configured: float64(limited.Configured), Used: float64(limited.Used)},
		RetryAfterMS: (wait + time.Millisecond - 1).Milliseconds()}
	f.Message, f.Hint = f.Message+freeIn(limited), howToWait(limited, p.Job.Patience)
	return &refusal{status: wire.StatusRateLimited, failure: f, summarised: !limited.Record,
		denial: &access.Denial{Code: limited.Limit, Message: limited.Error(), Told: true, User: p.Grant.User, KeyID: p.Grant.KeyID}}
}

// freeIn says when the next run may begin; empty: nobody knows when one of those under way ends.
func freeIn(limited *access.Limited) string {
	if limited.Limit == access.ConcurrentPerUser {
		return ""
	}
	return fmt.Sprintf("; free in %d s", secondsUp(limited.RetryAfter))
}

// howToWait says how long to wait: a caller that has waited already learns that this was too short.
func howToWait(limited *access.Limited, patience time.Duration) string {
	once := limited.Limit == access.ConcurrentPerUser
	switch {
	case patience > 0 && once:
		return fmt.Sprintf("none of them ended within --wait %s: wait longer, or send it again later", patience)
	case patience > 0:
		return fmt.Sprintf("--wait %s is too short for that: --wait %ds would do", patience, secondsUp(limited.RetryAfter)+1)
	case once:
		return "send it again when one of them has ended, or let it wait for that with --wait 1m"
	}
	return fmt.Sprintf("send it again then, or let it wait with --wait %ds", secondsUp(limited.RetryAfter)+1)
}

// secondsUp rounds up to seconds.
func secondsUp(d time.Duration) int64 { return int64((max(d, 1) + time.Second - 1) / time.Second) }

// counted counts a denial, and reports whether it has a record of its own: a flood of them has one for
// each user, reason and minute, and a summary.
func (r *run) counted(d *access.Denial) (record bool) {
	limits := access.NewLimits(StateDir(r.plan.Job.Environ))
	record, notes := limits.Refused(access.OfDenial(d, r.plan.Grant.Method), d.Code)
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
	if r.trouble.Unlimited() {
		if dir, err := r.plan.Job.Config.AuditDir(r.plan.Job.Environ); err == nil && isAlerted(newest(dir), r.trouble.Code) {
			r.trouble = nil
		}
	}
	if r.trouble == nil && len(r.due) == 0 {
		return nil
	}
	if t := r.trouble; t != nil {
		rec := r.ownRecord(access.Grant{Method: access.ByOSUser})
		rec.RunID, rec.User = r.plan.RunID, audit.User{Name: r.plan.user().name}
		if _, err = log.Append(rec.OfTrouble(t.Code, t.Message)); err == nil {
			r.trouble = nil
		}
	}
	due := r.due
	r.due = nil
	for i, s := range due {
		rec := r.ownRecord(access.Grant{Method: s.Method, KeyID: s.KeyID}).OfRefusals(s.User, s.Code, s.Count, s.First, s.Last)
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

// ownRecord begins a record that the limits write, about a user who was known in this way.
func (r *run) ownRecord(g access.Grant) audit.Record {
	return audit.Record{Host: audit.ThisHost(), Auth: auth(Plan{Job: r.plan.Job, Grant: g}, isUser)}
}
