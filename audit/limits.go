package audit

import "time"

// OfRefusals makes of what is known of the caller's side a record of refusals that have none of their
// own: n of this user for one reason, from first to last.
func (r Record) OfRefusals(user, reason string, n int, first, last time.Time) Record {
	r.User = User{Name: user}
	r.Event = Event{Action: ExecutionDenied, Outcome: Denied, Reason: reason}
	r.Refusals = &Refusals{Count: n, First: first.UTC().Format(time.RFC3339Nano), Last: last.UTC().Format(time.RFC3339Nano)}
	return r
}

// OfTrouble makes of the same a record that is its own alert.
func (r Record) OfTrouble(rule, title string) Record {
	r.Event = Event{Action: Alerted, Outcome: Unknown, Reason: rule}
	r.Alert = &Alert{Rule: rule, Title: title}
	return r
}
