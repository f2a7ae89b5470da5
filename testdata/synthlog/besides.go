package main

import (
	"fmt"
	"time"

	"py3run/audit"
)

// refuse writes a refusal, and perhaps a summary of those that followed it.
func (s *site) refuse(rec audit.Record, at time.Time) {
	r := s.rand
	rec.Event = audit.Event{Action: audit.ExecutionDenied, Outcome: audit.Denied}
	rec.Status = "denied"
	if r.IntN(3) > 0 {
		reasons := []string{"missing-role", "not-shared", "not-allowed"}
		if rec.Auth.Method == audit.AuthAPIKey {
			reasons = []string{"wrong-key", "may-not-assert", "expired-key", "missing-role"}
		}
		rec.Event.Reason = reasons[r.IntN(len(reasons))]
		s.put(&rec, at)
		return
	}
	rec.Event.Reason, rec.Status = "per-user-per-minute", "rate_limited"
	s.put(&rec, at)
	count, last := 1+r.IntN(200), at.Add(time.Duration(1+r.IntN(40))*time.Millisecond)
	more := audit.Record{Host: rec.Host, Auth: rec.Auth}.OfRefusals(rec.User.Name, rec.Event.Reason, count, at, last)
	s.put(&more, at.Add(50*time.Millisecond))
}

// besides writes what is no run: changes of users, keys, scripts and the policy, alerts and what people say of them.
func (s *site) besides(at time.Time, n int) {
	r := s.rand
	if r.IntN(250) == 0 {
		s.alert(at)
	}
	if r.IntN(400) == 0 {
		s.change(at)
	}
	if n > 0 && n*20/s.runs != (n-1)*20/s.runs { // as the hash in the starts from here on
		rec := s.by(audit.PolicyChanged, "changed")
		rec.Policy = &audit.PolicyChange{Path: "/etc/py3run/policy.toml", OldSHA256: s.codes[(n-1)*20/s.runs], NewSHA256: s.codes[n*20/s.runs], Changes: []string{"group plant: erin added"}}
		s.put(&rec, at)
	}
}

// by is a record of an operator.
func (s *site) by(action audit.Action, reason string) audit.Record {
	return audit.Record{Event: audit.Event{Action: action, Outcome: audit.Success, Reason: reason}, Host: audit.Host{Name: s.machines[0].name},
		User: audit.User{Name: "root", Roles: []string{"operator"}}, Auth: audit.Auth{Method: audit.AuthOSUser, OSUser: "root"}}
}

func (s *site) alert(at time.Time) {
	p := &s.people[s.rand.IntN(len(s.people))]
	script := &s.programs[s.rand.IntN(len(s.programs))]
	rules := []string{"limits-in-a-row", "denials", "rate-limits", "key-refused", "quiet-hours"}
	rule := rules[s.rand.IntN(len(rules))]
	rec := s.by(audit.Alerted, rule)
	rec.User, rec.Auth, rec.Script = audit.User{Name: p.name}, audit.Auth{Method: p.auth.Method}, audit.Script{Name: script.name}
	rec.Alert = &audit.Alert{Rule: rule, Title: fmt.Sprintf("%s, script %s: rule %s", p.name, script.name, rule), Seq: max(s.to.seq, 1)}
	seq := s.put(&rec, at)
	if s.rand.IntN(3) == 0 {
		said := s.by(audit.AuditAcknowledged, "")
		said.Ack = &audit.Acknowledged{Alert: seq, Kind: rule, Seq: rec.Alert.Seq, Comment: "looked into it: a test"}
		s.put(&said, at)
	}
}

// change writes that a tool has changed something.
func (s *site) change(at time.Time) {
	r := s.rand
	if r.IntN(2) == 0 {
		script := &s.programs[r.IntN(len(s.programs))]
		was := audit.ScriptChange{OldVersion: script.version, OldSHA256: script.code}
		script.version++
		script.code, script.bytes = hexes(r, 64), script.bytes+int64(r.IntN(100))
		was.NewVersion, was.NewSHA256 = script.version, script.code
		rec := s.by(audit.ScriptSaved, "")
		rec.User.Name = s.people[r.IntN(len(s.people))].name
		rec.Script, rec.Changed = audit.Script{Name: script.name, Version: fmt.Sprint(script.version), Source: audit.ScriptStored}, &was
		s.put(&rec, at)
		return
	}
	actions := []audit.Action{audit.UserChanged, audit.KeyCreated, audit.KeyRotated, audit.ScriptShared, audit.LimitsReset, audit.GroupChanged}
	rec := s.by(actions[r.IntN(len(actions))], "")
	if rec.Event.Action == audit.ScriptShared {
		rec.Script = audit.Script{Name: s.programs[r.IntN(len(s.programs))].name, Source: audit.ScriptStored}
		rec.Changed = &audit.ScriptChange{Changes: []string{"shared with group plant"}}
	}
	s.put(&rec, at)
}
