package store

import (
	"slices"
	"time"

	"py3run/audit"
)

// A user can be refused so often that most refusals have no record of their own. A summary counts them
// then. Nothing is known of one of these but who was refused and why.

// rateLimits are the reasons of refusals that have the status [RateLimited], as package access names them.
var rateLimits = []string{"per-user-per-minute", "per-user-per-hour", "global-per-minute", "concurrent-per-user"}

// unproved are the reasons, as package access names them, for which a key did not prove the user that the
// record names: its holder may not run code for that user, or has not got the key's secret.
var unproved = []string{"may-not-assert", "unknown-user", "asserted-admin", "wrong-key", "unknown-key"}

// Asserted reports whether nothing but the caller's word says who the user of a record is. A key that
// was refused for a user proves nothing about that user.
func Asserted(rec audit.Record) bool { return RunOf(rec).Asserted() }

// Asserted reports whether nothing but the caller's word says who the user is.
func (r *Run) Asserted() bool {
	switch r.Auth {
	case string(audit.AuthAsserted):
		return true
	case string(audit.AuthAPIKey):
		return r.Status == Denied && slices.Contains(unproved, r.Reason)
	}
	return false
}

// withoutSecret reports whether the caller has not got the secret of the key that the run names.
func (r *Run) withoutSecret() bool {
	return r.Status == Denied && (r.Reason == "wrong-key" || r.Reason == "unknown-key")
}

// keyHolder is whose API key it was; empty: nobody's that was proved.
func (r *Run) keyHolder() string {
	if r.Holder == "" && r.Auth == string(audit.AuthAPIKey) && !r.Asserted() {
		return r.User
	}
	return r.Holder
}

// tookTime reports whether the duration is known. Of an orphaned run it is not, and of a refused one nothing ran.
func (r *Run) tookTime() bool {
	return r.Status != Orphaned && r.Status != Denied && r.Status != RateLimited
}

// summaryOf is the summary of refusals that a record is, as a run without an id; nil: it is none.
func summaryOf(e Entry) *Run {
	rec := e.Record
	if rec.Event.Action != audit.ExecutionDenied || rec.Refusals == nil || rec.Refusals.Count <= 0 {
		return nil
	}
	r := &Run{}
	r.add(e)
	r.ID, r.Refusals = "", int64(rec.Refusals.Count)
	if last, err := time.Parse(time.RFC3339Nano, rec.Refusals.Last); err == nil {
		r.Started, r.Ended = last.Truncate(time.Microsecond), last.Truncate(time.Microsecond)
	}
	if rec.Status == "" && slices.Contains(rateLimits, r.Reason) {
		r.Status = RateLimited
	}
	return r
}
