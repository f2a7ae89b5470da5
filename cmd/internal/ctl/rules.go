package ctl

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
)

// An alert is something in the log that somebody should look at.
type alert struct {
	Rule   string `json:"rule"`
	Title  string `json:"title"`
	Time   string `json:"time"` // of the record, UTC
	Seq    uint64 `json:"seq"`  // of the record
	RunID  string `json:"run_id,omitempty"`
	User   string `json:"user,omitempty"`
	Auth   string `json:"auth,omitempty"` // how the user is known
	Script string `json:"script,omitempty"`
	Host   string `json:"host,omitempty"` // of the log

	Record       uint64                 `json:"record,omitempty"` // seq of the alert's own record; only in a list
	Acknowledged *audit.Acknowledgement `json:"acknowledged,omitempty"`

	owners bool // its user may see it without a role; only in a list
}

// The rules, by their names in alerts.
const (
	ruleDenials      = "denials"
	ruleLimits       = "limits-in-a-row"
	ruleNewModule    = "new-module"
	ruleNewHost      = "new-host"
	ruleQuietHours   = "quiet-hours"
	ruleTampering    = "tampering"
	ruleOrphaned     = "orphaned"
	ruleClock        = "clock-jump"
	ruleEarly        = "early-pruning"
	ruleAcknowledged = "acknowledged"
	ruleHoldReleased = "hold_released"
)

// watched is what the rules keep about the log so far.
type watched struct {
	Seq     uint64                     `json:"seq"` // of the newest record that was seen
	Hash    string                     `json:"hash"`
	Denials map[string][]time.Time     `json:"denials"` // by user: recent refusals
	Limits  map[string]int             `json:"limits"`  // by user and script: how many runs in a row ended at a limit
	Modules map[string]map[string]bool `json:"modules"` // by user: the flagged modules that were imported
	Hosts   map[string]bool            `json:"hosts"`   // that runs have connected to
	Rates   map[string][]time.Time     `json:"rates"`   // by user: recent refusals by a limit on how often or how many
	Keys    map[string]time.Time       `json:"keys"`    // by key and reason: when a refused key was last told

	// When users and hosts were last seen: what retention removes from the log is removed here, too.
	LastUsers map[string]time.Time `json:"last_users,omitempty"`
	LastHosts map[string]time.Time `json:"last_hosts,omitempty"`

	days *int // how long records are kept, by the configuration of this reader; 0: for ever; nil: not known
}

func newWatched() *watched {
	return &watched{LastUsers: map[string]time.Time{}, LastHosts: map[string]time.Time{}, Denials: map[string][]time.Time{}, Limits: map[string]int{}, Modules: map[string]map[string]bool{}, Hosts: map[string]bool{},
		Rates: map[string][]time.Time{}, Keys: map[string]time.Time{}}
}

// look applies the rules to the next record of the log.
func (w *watched) look(e store.Entry, rules config.Alerts) (found []alert) {
	r := e.Record
	at, _ := time.Parse(time.RFC3339Nano, r.Timestamp)
	tell := func(rule, format string, args ...any) {
		found = append(found, alert{Rule: rule, Title: fmt.Sprintf(format, args...), Time: r.Timestamp, Seq: r.Seq, RunID: r.RunID,
			User: r.User.Name, Auth: string(r.Auth.Method), Script: r.Script.Name, Host: r.Host.Name})
		if r.Event.Action == audit.PolicyChanged { // whoever ran when it was found has not done it
			found[len(found)-1].User, found[len(found)-1].Auth = "", ""
		}
	}
	if rules.Tampering {
		if w.Seq > 0 && (r.Seq != w.Seq+1 || r.Prev != w.Hash) {
			tell(ruleTampering, "record %d does not follow record %d: records were changed, removed or put in", r.Seq, w.Seq)
		}
		if r.Event.Action == audit.AuditRepair || r.Repair != nil {
			tell(ruleTampering, "the log was repaired: %s", repaired(r))
		}
		if ms := r.Host.ClockJumpMS; ms != 0 {
			tell(ruleClock, "the clock has jumped by %v", time.Duration(ms)*time.Millisecond)
		}
		if r.Event.Action == audit.ExecutionOrphaned {
			tell(ruleOrphaned, "a run of %s has died with its launcher (%s)", subject(r), r.Event.Reason)
		}
	}
	w.Seq, w.Hash = r.Seq, e.Hash
	if r.User.Name != "" && runs(r.Event.Action) {
		w.LastUsers[r.User.Name] = at
	}
	switch r.Event.Action {
	case audit.AuditRetention:
		if rules.Tampering && r.Retention != nil && early(r, w.days) {
			tell(ruleEarly, "%s", pruned(r))
		}
	case audit.AuditAcknowledged:
		if a := r.Ack; rules.Tampering && a != nil {
			tell(ruleAcknowledged, "%s says of %s: %s", who(r), acknowledged(a), a.Comment)
		}
	case audit.AuditHoldRelease:
		if rules.Tampering && r.Hold != nil {
			tell(ruleHoldReleased, "%s: %s", who(r), held(r.Event.Action, *r.Hold))
		}
	case audit.ExecutionStart:
		if within(rules.QuietHours, at.Local()) {
			tell(ruleQuietHours, "a run of %s began in the quiet hours (%s)", subject(r), rules.QuietHours)
		}
	case audit.ExecutionDenied, audit.SessionDenied:
		w.refused(r, at, rules, tell)
	case audit.Alerted:
		if a := r.Alert; rules.Tampering && a != nil && strings.HasPrefix(a.Rule, "limits_") { // a launcher has written it
			tell(ruleLimitsFile, "%s", a.Title)
			found[len(found)-1].Record = r.Seq // it is its own record
		}
	case audit.ExecutionEnd:
		w.ended(r, rules, tell)
	}
	if r.Policy != nil && rules.Policy {
		w.changed(r, tell)
	}
	if rules.Tampering && r.Event.Reason == "script_damaged" {
		tell(ruleScript, "the stored script %s is not as it was saved, and was not run for %s", scriptOf(r.Script.Name, r.Script.Version), named(r.User.Name, store.Asserted(r)))
	}
	return found
}

func (w *watched) ended(r audit.Record, rules config.Alerts, tell func(rule, format string, args ...any)) {
	user := r.User.Name
	key := user + "\x00" + r.Script.Name
	if isLimit(r.Status) {
		w.Limits[key]++
		if n := rules.LimitsInARow; n > 0 && w.Limits[key]%n == 0 {
			tell(ruleLimits, "%d runs of %s in a row ended at a limit, the last with %s", w.Limits[key], subject(r), r.Status)
		}
	} else {
		delete(w.Limits, key)
	}
	if r.Hooks == nil {
		return
	}
	for _, m := range r.Hooks.FlaggedImports {
		if w.Modules[user] == nil {
			w.Modules[user] = map[string]bool{}
		}
		if !m.Direct || w.Modules[user][m.Module] {
			continue
		}
		w.Modules[user][m.Module] = true
		if rules.NewModules {
			tell(ruleNewModule, "%s has imported %s (%s) for the first time", subject(r), m.Module, m.Why)
		}
	}
	at, _ := time.Parse(time.RFC3339Nano, r.Timestamp)
	var hosts []string // one alert for all hosts of a run: a scan of a network is one incident
	for _, c := range r.Hooks.Connections {
		if c.Host == "" || strings.HasPrefix(c.Host, "unix:") {
			continue
		}
		w.LastHosts[c.Host] = at
		if w.Hosts[c.Host] {
			continue
		}
		w.Hosts[c.Host] = true
		hosts = append(hosts, net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	}
	if len(hosts) > 0 && rules.NewHosts {
		more := ""
		if n := len(hosts) - hostsMost; n > 0 {
			hosts, more = hosts[:hostsMost], fmt.Sprintf(" and %d more", n)
		}
		tell(ruleNewHost, "%s was the first to connect to %s%s", subject(r), strings.Join(hosts, ", "), more)
	}
}

// runs reports whether a record is about a run.
func runs(a audit.Action) bool { return strings.HasPrefix(string(a), "execution-") }

// forget drops what was last seen before the given time. What an older version noted without a time
// counts as seen now.
func (w *watched) forget(before, now time.Time) {
	gone := func(last map[string]time.Time, key string) bool {
		at, known := last[key]
		if !known {
			last[key] = now
		}
		return known && at.Before(before)
	}
	maps.DeleteFunc(w.Denials, func(user string, _ []time.Time) bool { return gone(w.LastUsers, user) })
	maps.DeleteFunc(w.Rates, func(user string, _ []time.Time) bool { return gone(w.LastUsers, user) })
	maps.DeleteFunc(w.Keys, func(_ string, at time.Time) bool { return at.Before(now.Add(-keyAgain)) })
	maps.DeleteFunc(w.Limits, func(key string, _ int) bool { user, _, _ := strings.Cut(key, "\x00"); return gone(w.LastUsers, user) })
	maps.DeleteFunc(w.Modules, func(user string, _ map[string]bool) bool { return gone(w.LastUsers, user) })
	maps.DeleteFunc(w.Hosts, func(host string, _ bool) bool { return gone(w.LastHosts, host) })
	for _, last := range []map[string]time.Time{w.LastUsers, w.LastHosts} {
		maps.DeleteFunc(last, func(_ string, at time.Time) bool { return at.Before(before) })
	}
}

const hostsMost = 5 // how many hosts an alert names

func isLimit(status string) bool {
	return strings.HasSuffix(status, "_limit") || strings.HasSuffix(status, "timeout")
}

// subject is a user, with the script if there is one.
func subject(r audit.Record) string {
	name := cmp.Or(named(r.User.Name, store.Asserted(r)), "somebody")
	if r.Script.Name != "" {
		return fmt.Sprintf("%s (script %s)", name, r.Script.Name)
	}
	return name
}

// who names the user of the operating system who did something to the log, and who had logged in.
func who(r audit.Record) string {
	text := r.User.Name
	if id := r.Auth.LoginUID; id != nil && *id != r.Auth.OSUID {
		text += fmt.Sprintf(" (logged in as user %d)", *id)
	}
	return text
}

// early reports whether records were removed that should still be there, by the operator's
// configuration or this reader's. The times of the records count, too, because a clock can be set.
func early(r audit.Record, days *int) bool {
	if r.Retention.Early(days) {
		return true
	}
	at, err := time.Parse(time.RFC3339Nano, r.Timestamp)
	newest, err2 := time.Parse(time.RFC3339Nano, r.Retention.Newest)
	return err == nil && err2 == nil && r.Retention.Days > 0 && newest.After(at.AddDate(0, 0, -r.Retention.Days))
}

// pruned says who has removed records, and what allowed it.
func pruned(r audit.Record) string {
	p := r.Retention
	text := fmt.Sprintf("%s removed the records %d to %d, the newest of %s, after %d days by the policy of %s", who(r), p.FirstSeq, p.LastSeq, p.Newest, p.Days, cmp.Or(p.Policy, "an older version"))
	keep := func(what string, days *int) {
		if days != nil && *days == 0 {
			text += what + " has them kept for ever"
		} else if days != nil {
			text += fmt.Sprintf("%s has %d", what, *days)
		}
	}
	keep("; the operator", p.OperatorDays)
	keep("; the floor", p.FloorDays)
	if p.Forced {
		text += "; forced"
	}
	for _, h := range p.Holds {
		text += fmt.Sprintf("; hold %s keeps %s more from record %d on", h.ID, counted(h.Segments, "segment"), h.Seq)
	}
	if p.IgnoredCursors {
		text += "; whether they were exported or not"
	}
	return text
}

// acknowledged says what somebody has looked into.
func acknowledged(a *audit.Acknowledged) string {
	if a.Alert > 0 {
		return fmt.Sprintf("the alert %s of record %d", a.Kind, a.Seq)
	}
	if a.Seq > 0 {
		return fmt.Sprintf("the finding %s of record %d", a.Kind, a.Seq)
	}
	return "the finding " + a.Kind
}

func repaired(r audit.Record) string {
	p := r.Repair
	switch {
	case p == nil:
		return r.Event.Reason
	case p.Expected != nil && p.Found != nil:
		return fmt.Sprintf("%s, record %d was expected and %d was found", r.Event.Reason, p.Expected.Seq, p.Found.Seq)
	case p.Found != nil:
		return fmt.Sprintf("what its writers had noted of the newest record was gone: whether records behind %d were cut it cannot tell", p.Found.Seq)
	}
	return fmt.Sprintf("%s, %d bytes are kept in %s", r.Event.Reason, p.Bytes, p.Kept)
}

// within reports whether a time is in hours such as "22:00-06:00". No time is in empty hours.
func within(hours string, t time.Time) bool {
	from, to, both := strings.Cut(hours, "-")
	now := t.Format("15:04")
	if !both {
		return false
	}
	if from <= to {
		return from <= now && now < to
	}
	return now >= from || now < to
}
