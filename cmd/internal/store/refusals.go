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

// summarised is how many refusals a record stands for, and one of them as a run; nil: it is no summary.
func summarised(rec audit.Record) (*Run, int64) {
	if rec.Event.Action != audit.ExecutionDenied || rec.Refusals == nil {
		return nil, 0
	}
	r := RunOf(rec)
	if last, err := time.Parse(time.RFC3339Nano, rec.Refusals.Last); err == nil {
		r.Started, r.Ended = last, last
	}
	if rec.Status == "" && slices.Contains(rateLimits, r.Reason) {
		r.Status = RateLimited
	}
	return r, int64(max(rec.Refusals.Count, 0))
}

// A tally counts refusals by their status.
type tally map[string]int64

func (t tally) add(q Query, r *Run, n int64) {
	if r != nil && n > 0 && q.Matches(r) {
		t[r.Status] += n
	}
}

// Refusals goes through the whole log.
func (l Log) Refusals(q Query) (map[string]int64, error) {
	var found tally
	err := l.read(func() { found = tally{} }, q, func(*Run) {}, func(e Entry) {
		r, n := summarised(e.Record)
		found.add(q, r, n)
	})
	return found, err
}

// Refusals goes through the summaries, which are few.
func (x *Index) Refusals(q Query) (map[string]int64, error) {
	found, err := x.refusals(q)
	return found, damage(err)
}

func (x *Index) refusals(q Query) (tally, error) {
	rows, err := x.db.Query("SELECT seq, user, auth, at, status, reason, count, sum FROM refusals")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := tally{}
	for rows.Next() {
		var seq, at, n, sum int64
		r := &Run{}
		if err := rows.Scan(&seq, &r.User, &r.Auth, &at, &r.Status, &r.Reason, &n, &sum); err != nil {
			return nil, err
		}
		if sum != rowSum(seq, r.User, r.Auth, at, r.Status, r.Reason, n) {
			return nil, errSum
		}
		r.Started = time.UnixMicro(at).UTC()
		found.add(q, r, n)
	}
	return found, rows.Err()
}

// summary adds the summary of refusals that a record is.
func (w *Writer) summary(rec audit.Record) error {
	r, n := summarised(rec)
	if r == nil {
		return nil
	}
	row := []any{int64(rec.Seq), r.User, r.Auth, r.Started.UnixMicro(), r.Status, r.Reason, n}
	_, err := w.tx.Exec("INSERT OR REPLACE INTO refusals VALUES (?,?,?,?,?,?,?,?)", append(row, rowSum(row...))...)
	return err
}
