package ctl

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
	"py3run/internal/activity"
)

func TestRules(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.Local)
	type event struct {
		after time.Duration
		audit.Record
	}
	end := func(user, status string, hooks *activity.Summary) event {
		return event{time.Second, audit.Record{Event: audit.Event{Action: audit.ExecutionEnd}, User: audit.User{Name: user}, Status: status, Hooks: hooks}}
	}
	denied := func(user string, after time.Duration) event {
		return event{after, audit.Record{Event: audit.Event{Action: "execution-denied"}, User: audit.User{Name: user}}}
	}
	refused := func(reason, key string, after time.Duration) event {
		return event{after, audit.Record{Event: audit.Event{Action: audit.ExecutionDenied, Outcome: audit.Denied, Reason: reason}, Auth: audit.Auth{Method: audit.AuthAPIKey, KeyID: key, OSUser: "gateway"}}}
	}
	limited := func(user, status, limit string, after time.Duration) event {
		return event{after, audit.Record{Event: audit.Event{Action: audit.ExecutionDenied, Outcome: audit.Denied, Reason: limit}, User: audit.User{Name: user}, Status: status}}
	}
	several := func(e event, count int) event {
		e.Refusals = &audit.Refusals{Count: count, First: noon.UTC().Format(time.RFC3339Nano), Last: noon.Add(time.Minute).UTC().Format(time.RFC3339Nano)}
		return e
	}
	policy := func(action audit.Action, changes ...string) event {
		return event{0, audit.Record{Event: audit.Event{Action: action}, User: audit.User{Name: "root"}, Policy: &audit.PolicyChange{Path: "/etc/py3run/policy.toml", Changes: changes}}}
	}
	grants := func(action audit.Action, list ...string) event {
		e := policy(action, "a change")
		e.Policy.Grants = list
		return e
	}
	anyUser := func(action audit.Action, keys ...string) event {
		e := policy(action, "a change")
		e.Policy.AnyUserKeys = keys
		return e
	}
	modules := func(direct bool, names ...string) *activity.Summary {
		h := &activity.Summary{}
		for _, n := range names {
			h.FlaggedImports = append(h.FlaggedImports, activity.FlaggedImport{Module: n, Why: "w", Direct: direct})
		}
		return h
	}
	hosts := func(names ...string) *activity.Summary {
		h := &activity.Summary{}
		for _, n := range names {
			h.Connections = append(h.Connections, activity.Connection{Host: n, Port: 443, Via: "python", Count: 1})
		}
		return h
	}
	start := func(after time.Duration) event {
		return event{after, audit.Record{Event: audit.Event{Action: audit.ExecutionStart}, User: audit.User{Name: "alice"}}}
	}
	all := config.Default().Alerts
	off := config.Alerts{DenialsWithinMinutes: 5}
	quiet := off
	quiet.QuietHours = "22:00-06:00"
	for _, c := range []struct {
		name   string
		rules  config.Alerts
		events []event
		want   string // rule at the number of the event, from 1
	}{
		{"nothing", all, []event{start(0), end("alice", "ok", nil), end("alice", "error", nil)}, ""},
		{"limits in a row", all, []event{end("a", "timeout", nil), end("b", "ok", nil), end("a", "memory_limit", nil), end("a", "idle_timeout", nil), end("a", "cpu_limit", nil)}, "limits-in-a-row@4"},
		{"limits, but not in a row", all, []event{end("a", "timeout", nil), end("a", "timeout", nil), end("a", "ok", nil), end("a", "timeout", nil)}, ""},
		{"six limits", all, slices.Repeat([]event{end("a", "timeout", nil)}, 6), "limits-in-a-row@3 limits-in-a-row@6"},
		{"refusals", all, slices.Repeat([]event{denied("a", time.Minute)}, 6), "denials@5"},
		{"refusals of several", all, []event{denied("a", 0), denied("b", 0), denied("c", 0), denied("d", 0), denied("e", 0)}, ""},
		{"slow refusals", all, slices.Repeat([]event{denied("a", 2*time.Minute)}, 9), ""},
		{"a summary of refusals", all, []event{denied("a", 0), several(denied("a", time.Minute), 3), several(denied("b", 0), 500), denied("a", time.Minute)}, "denials@3 denials@4"},
		{"an old summary", all, []event{several(denied("a", 30*time.Minute), 500)}, ""},
		{"one name, asserted and not", all, slices.Concat(slices.Repeat([]event{denied("a", 0)}, 4), []event{{0, audit.Record{Event: audit.Event{Action: audit.ExecutionDenied}, User: audit.User{Name: "a"}, Auth: audit.Auth{Method: audit.AuthAsserted}}}}), ""},
		{"refused keys", all, []event{refused("unknown-key", "k1", 0), refused("unknown-key", "k1", time.Minute), refused("expired-key", "k2", 0), refused("revoked-key", "k3", 0), refused("wrong-key", "k1", time.Minute),
			refused("unknown-key", "k1", time.Hour)}, "key-refused@1 key-refused@3 key-refused@4 key-refused@5 denials@5 key-refused@6"},
		{"keys that were mistyped, and other reasons", all, []event{refused("malformed-key", "", 0), refused("key-checksum", "k", 0), refused("missing-role", "k", 0), several(refused("unknown-key", "", 0), 2)}, "denials@4"},
		{"rate limits", all, []event{several(limited("a", "", "per-user-per-minute", 0), 29), limited("a", "rate_limited", "global-per-minute", 0), limited("b", "rate_limited", "concurrent-per-user", 0)}, "rate-limits@2"},
		{"rate limits are no other refusals", all, slices.Repeat([]event{limited("a", "rate_limited", "per-user-per-hour", time.Second)}, 20), ""},
		{"limits whose file was damaged", all, []event{{0, audit.Record{Event: audit.Event{Action: audit.Alerted, Reason: "limits_repaired"}, Alert: &audit.Alert{Rule: "limits_repaired", Title: "counts were lost"}}},
			{0, audit.Record{Event: audit.Event{Action: audit.Alerted}, Alert: &audit.Alert{Rule: ruleLimitsFile, Title: "counts were lost"}}}}, "limits-file@1"},
		{"a damaged script", all, []event{{0, audit.Record{Event: audit.Event{Action: audit.ExecutionEnd, Reason: "script_damaged"}, Script: audit.Script{Name: "tank", Version: "3"}, Status: "launch_failed"}}}, "script-damaged@1"},
		{"roles by a tool", all, []event{grants(audit.UserAdded, "bob: python3-executor"), policy(audit.UserChanged, "user bob: full-name: Bob -> roles: + auditor"), grants(audit.UserChanged, "bob: auditor", "eve: auditor", "key k7: auditor", "carol: auditor")},
			"role-granted@1 role-granted@3"},
		{"a key for anybody", all, []event{anyUser(audit.KeyCreated, "k7"), policy(audit.KeyCreated, `key k8: added: user "gateway", may-assert ["group:operators"], comment "not *"`)}, "key-for-anyone@1"},
		{"an edit beside the tool", all, []event{policy(audit.PolicyChanged), grants(audit.PolicyChanged, "bob: auditor"),
			{0, audit.Record{Event: audit.Event{Action: audit.PolicyChanged}, Policy: &audit.PolicyChange{Path: "/etc/py3run/config.toml"}}}}, "policy-edited@1 policy-edited@2 role-granted@2"},
		{"flagged modules", all, []event{end("a", "ok", modules(true, "os", "ctypes")), end("a", "ok", modules(true, "os")), end("b", "ok", modules(true, "os"))}, "new-module@1 new-module@1 new-module@3"},
		{"flagged modules of libraries", all, []event{end("a", "ok", modules(false, "os"))}, ""},
		{"hosts", all, []event{end("a", "ok", hosts("10.0.0.1", "10.0.0.2")), end("b", "ok", hosts("10.0.0.1")), end("b", "ok", hosts("10.0.0.3", "10.0.0.3"))}, "new-host@1 new-host@3"},
		{"sockets of this host", all, []event{end("a", "ok", hosts("unix:/run/x"))}, ""},
		{"at night", quiet, []event{start(0), start(10*time.Hour - time.Minute), start(time.Minute), start(7*time.Hour + 59*time.Minute), start(time.Minute)}, "quiet-hours@3 quiet-hours@4"},
		{"a repair", all, []event{{0, audit.Record{Event: audit.Event{Action: audit.AuditRepair, Reason: "log-lost"}, Repair: &audit.Repair{Expected: &audit.Link{Seq: 9}, Found: &audit.Link{}}}}}, "tampering@1"},
		{"a jump of the clock", all, []event{{0, audit.Record{Event: audit.Event{Action: audit.ExecutionStart}, Host: audit.Host{ClockJumpMS: -7200000}}}}, "clock-jump@1"},
		{"an orphan", all, []event{{0, audit.Record{Event: audit.Event{Action: audit.ExecutionOrphaned, Reason: "host-restarted"}}}}, "orphaned@1"},
		{"all rules off", off, slices.Concat(slices.Repeat([]event{denied("a", 0), end("a", "timeout", hosts("h")), refused("unknown-key", "k", 0), limited("a", "rate_limited", "global-per-minute", 0)}, 40), []event{
			grants(audit.PolicyChanged, "bob: auditor"), {0, audit.Record{Event: audit.Event{Action: audit.Alerted}, Alert: &audit.Alert{Rule: "limits_full"}}}, end("a", "ok", modules(true, "os")),
			{0, audit.Record{Event: audit.Event{Action: audit.AuditRepair}}}}), ""},
		{"its own records", all, slices.Repeat([]event{{0, audit.Record{Event: audit.Event{Action: audit.Alerted}}}}, 9), ""},
	} {
		w := newWatched()
		at, prev := noon, strings.Repeat("0", 64)
		var got []string
		for i, e := range c.events {
			at = at.Add(e.after)
			e.Seq, e.Prev, e.Timestamp = uint64(i+1), prev, at.UTC().Format("2006-01-02T15:04:05.000000Z")
			prev = fmt.Sprintf("%064d", i+1)
			for _, a := range w.look(store.Entry{Record: e.Record, Hash: prev}, c.rules) {
				got = append(got, fmt.Sprintf("%s@%d", a.Rule, a.Seq))
				if a.Title == "" || a.Time != e.Timestamp || strings.Contains(a.Title, "%!") {
					t.Errorf("%s: %+v", c.name, a)
				}
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

// A run that looks around in a network is one alert.
func TestManyNewHosts(t *testing.T) {
	t.Parallel()
	r := audit.Record{Seq: 1, Event: audit.Event{Action: audit.ExecutionEnd}, User: audit.User{Name: "a"}, Hooks: &activity.Summary{}}
	for i := range 100 {
		r.Hooks.Connections = append(r.Hooks.Connections, activity.Connection{Host: fmt.Sprintf("fe80::%d", i), Port: 22})
	}
	got := newWatched().look(store.Entry{Record: r}, config.Default().Alerts)
	if len(got) != 1 || !strings.HasSuffix(got[0].Title, " [fe80::0]:22, [fe80::1]:22, [fe80::2]:22, [fe80::3]:22, [fe80::4]:22 and 95 more") {
		t.Errorf("%+v", got)
	}
}

// A record that does not follow the one seen last is told, wherever the gap is.
func TestBrokenChainAlert(t *testing.T) {
	t.Parallel()
	entry := func(seq uint64, prev, hash string) store.Entry {
		return store.Entry{Record: audit.Record{Seq: seq, Prev: prev, Event: audit.Event{Action: audit.ExecutionStart}}, Hash: hash}
	}
	rules := config.Default().Alerts
	w := newWatched()
	for _, c := range []struct {
		e    store.Entry
		want int
	}{{entry(7, "?", "g"), 0}, {entry(8, "g", "h"), 0}, {entry(10, "h", "j"), 1}, {entry(11, "i", "k"), 1}, {entry(12, "k", "l"), 0}} {
		if got := w.look(c.e, rules); len(got) != c.want {
			t.Errorf("record %d: %+v, want %d", c.e.Record.Seq, got, c.want)
		}
	}
}

// An alert does not depend on how much of a change has room in a record.
func TestAKeyForAnybodyWithManyNames(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.mustCall("user", "change", "bob", "--add-role", "auditor")
	args := []string{"key", "create", "alice"}
	text, err := os.ReadFile(filepath.Join(h.home, "config", "py3run", access.FileName))
	h.must(err)
	for i := range 300 {
		name := fmt.Sprintf("operator-%03d", i)
		text = fmt.Appendf(text, "[user.%s]\n", name)
		args = append(args, "--may-assert", name)
	}
	h.must(os.WriteFile(filepath.Join(h.home, "config", "py3run", access.FileName), text, 0o600))
	h.mustCall(append(args, "--may-assert", "*")...)
	r, err := audit.OpenReader(h.dir)
	h.must(err)
	defer r.Close()
	w, got := newWatched(), []string{}
	for line, err := range r.Records(audit.Position{}) {
		h.must(err)
		rec, err := line.Record()
		h.must(err)
		for _, a := range w.look(store.Entry{Record: rec}, config.Alerts{Policy: true}) {
			got = append(got, a.Rule)
		}
	}
	if strings.Join(got, " ") != "role-granted policy-edited key-for-anyone" {
		t.Errorf("alerts %q", got)
	}
}
