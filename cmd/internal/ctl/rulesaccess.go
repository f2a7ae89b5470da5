package ctl

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
)

// The rules about who may do what, by their names in alerts.
const (
	ruleKeys       = "key-refused"
	ruleRates      = "rate-limits"
	ruleRoles      = "role-granted"
	ruleAnyone     = "key-for-anyone"
	rulePolicy     = "policy-edited"
	ruleLimitsFile = "limits-file"
	ruleScript     = "script-damaged"
)

// policyRules are the rules about changes of the policy.
var policyRules = map[string]bool{ruleRoles: true, ruleAnyone: true, rulePolicy: true}

// keyAgain is for how long a key that is refused for the same reason is told once.
const keyAgain = time.Hour

// refused looks at a refusal, or at those that a summary stands for.
func (w *watched) refused(r audit.Record, at time.Time, rules config.Alerts, tell func(rule, format string, args ...any)) {
	if why := keyProblem(r.Event.Reason); why != "" && rules.Keys && r.Refusals == nil {
		id := r.Auth.KeyID + "\x00" + r.Event.Reason
		if last, known := w.Keys[id]; !known || at.Sub(last) >= keyAgain || at.Before(last) {
			w.Keys[id] = at
			key := "an API key"
			if r.Auth.KeyID != "" {
				key = "the API key " + r.Auth.KeyID
			}
			from := ""
			if r.Client.IP != "" {
				from = ", from " + r.Client.IP
			}
			tell(ruleKeys, "%s was used, which %s: by %s%s", key, why, caller(r), from)
		}
	}
	if isRateLimit(r) {
		if rules.RateLimits > 0 && countWithin(w.Rates, r, at, rules.RateLimits, rules.DenialsWithinMinutes) {
			tell(ruleRates, "%s has met rate limits %d times within %v minutes, the last time %s%s", subject(r), rules.RateLimits, rules.DenialsWithinMinutes, r.Event.Reason, callOf(r))
		}
		return
	}
	if rules.Denials > 0 && countWithin(w.Denials, r, at, rules.Denials, rules.DenialsWithinMinutes) {
		tell(ruleDenials, "%s was refused %d times within %v minutes, the last time %s%s", subject(r), rules.Denials, rules.DenialsWithinMinutes, cmp.Or(r.Event.Reason, r.Status, "without a reason"), callOf(r))
	}
}

// callOf is with which key and from where a refused call came, as far as that is known.
func callOf(r audit.Record) (text string) {
	if r.Auth.KeyID != "" {
		text += ", with the API key " + r.Auth.KeyID
	}
	if r.Client.IP != "" {
		text += ", from " + r.Client.IP
	}
	return text
}

// countWithin counts a refusal, or those of a summary, and reports whether there were too many. After
// that the count starts again.
func countWithin(counts map[string][]time.Time, r audit.Record, at time.Time, most int, minutes float64) bool {
	span := time.Duration(minutes * float64(time.Minute))
	user, times := named(r.User.Name, store.Asserted(r)), []time.Time{at}
	if s := r.Refusals; s != nil { // more than make an alert need not be kept
		last, err := time.Parse(time.RFC3339Nano, s.Last)
		if err != nil {
			last = at
		}
		times = slices.Repeat([]time.Time{last}, max(0, min(s.Count, most)))
	}
	recent := slices.DeleteFunc(append(counts[user], times...), func(t time.Time) bool { return at.Sub(t) > span })
	if len(recent) >= most {
		delete(counts, user)
		return true
	}
	counts[user] = recent
	return false
}

// keyProblem is what was wrong with a key that was refused; empty: it was another reason. A key that was
// mistyped is nobody's attempt.
func keyProblem(reason string) string {
	switch reason {
	case access.UnknownKey:
		return "is not in the policy"
	case access.WrongKey:
		return "has another secret"
	case access.ExpiredKey:
		return "has expired"
	case access.RevokedKey:
		return "was revoked"
	}
	return ""
}

// isRateLimit reports whether a refusal is that of a limit on how often or how many at once.
func isRateLimit(r audit.Record) bool {
	switch r.Event.Reason {
	case access.PerUserPerMinute, access.PerUserPerHour, access.GlobalPerMinute, access.ConcurrentPerUser:
		return true
	}
	return r.Status == store.RateLimited
}

// changed looks at a change of the policy, by a tool or beside it.
func (w *watched) changed(r audit.Record, tell func(rule, format string, args ...any)) {
	p := r.Policy
	outside := r.Event.Action == audit.PolicyChanged
	if outside && filepath.Base(p.Path) == access.FileName {
		what := "nobody can say what has changed"
		if len(p.Changes) > 0 {
			what = someOf(p.Changes)
		}
		tell(rulePolicy, "%s is not as py3runctl has left it, %s: %s", p.Path, noticed(r), what)
	}
	by := who(r)
	if outside {
		by = "an edit of the file, " + noticed(r) + ","
	}
	if len(p.Grants) > 0 {
		tell(ruleRoles, "%s has granted roles: %s", by, someOf(p.Grants))
	}
	if keys := p.AnyUserKeys; len(keys) > 0 {
		tell(ruleAnyone, "%s lets API keys name any user: %s", by, someOf(keys))
	}
}

const changesMost = 3 // how many changes, or grants, an alert quotes

// someOf is the beginning of a list of changes.
func someOf(changes []string) string {
	if more := len(changes) - changesMost; more > 0 {
		return strings.Join(changes[:changesMost], "; ") + fmt.Sprintf("; and %d more", more)
	}
	return strings.Join(changes, "; ")
}

// caller names who called, as far as that is known.
func caller(r audit.Record) string {
	if r.Event.Action == audit.SessionDenied {
		return "somebody who could not sign in to the pages"
	}
	if r.Auth.OSUser != "" {
		return "the operating-system user " + r.Auth.OSUser
	}
	return "somebody"
}
