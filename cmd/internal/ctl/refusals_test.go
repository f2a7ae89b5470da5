package ctl

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
)

// refuse writes the record of a refusal, or with a count that of a summary.
func (b *fixture) refuse(user string, auth audit.Auth, reason string, count int) {
	b.Helper()
	b.runs++
	rec := audit.Record{User: audit.User{Name: user}, Host: audit.ThisHost(), Auth: auth, Command: "execute", Status: store.Denied,
		Event: audit.Event{Action: audit.ExecutionDenied, Outcome: audit.Denied, Reason: reason}}
	if count > 0 {
		now := time.Now().UTC().Format(time.RFC3339Nano)
		rec.Status, rec.Refusals = "", &audit.Refusals{Count: count, First: now, Last: now}
	} else {
		rec.RunID = "01a20d4b-0000-7000-8000-00000000000" + string(rune('0'+b.runs))
	}
	_, err := b.log.Append(rec)
	b.must(err)
}

// A key that is refused for a user proves nothing about that user.
func TestRefusedKeyProvesNobody(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	key := audit.Auth{Method: audit.AuthAPIKey, KeyID: "k7qm2x9a"}
	b.refuse("carol", key, access.MayNotAssert, 0)
	b.refuse("carol", key, access.MissingRole, 0)
	b.refuse("", key, access.UnknownKey, 0)
	now := time.Now()
	for _, indexed := range []bool{false, true} {
		if indexed {
			b.must(b.update(b.indexPath(""), false, false))
		}
		b.must(b.history(question{format: "text"}, now))
		out, _ := b.said()
		if strings.Count(out, "carol (asserted)") != 1 || strings.Count(out, "carol") != 2 || strings.Contains(out, " ms") || strings.Count(out, "  -     ") == 0 {
			t.Errorf("history:\n%s", out)
		}
		b.must(b.history(question{run: "000000000001", format: "text"}, now))
		if out, _ := b.said(); !strings.Contains(out, "carol (asserted)") {
			t.Errorf("a run:\n%s", out)
		}
		b.must(b.history(question{run: "000000000001"}, now))
		if out, _ := b.said(); !strings.Contains(out, `"asserted":true`) {
			t.Errorf("JSON: %s", out)
		}
		b.must(b.history(question{filter: filter{holder: "carol"}}, now))
		if out, _ := b.said(); strings.Count(out, "run_id") != 1 {
			t.Errorf("runs with keys of carol: %s", out)
		}
		b.must(b.stats(question{format: "text"}, store.ByUser, now))
		if out, _ := b.said(); strings.Count(out, "carol (asserted)") != 1 || strings.Count(out, "carol ") != 2 {
			t.Errorf("stats:\n%s", out)
		}
		b.must(b.metrics("", "", openMetrics, now))
		if out, _ := b.said(); !strings.Contains(out, `{user="carol",asserted="true"} 1`) {
			t.Errorf("metrics:\n%s", out)
		}
	}
	b.must(b.tail(t.Context(), selection{}, 9, false, "text"))
	if out, _ := b.said(); strings.Count(out, "carol (asserted)") != 1 {
		t.Errorf("tail:\n%s", out)
	}
}

// The reasons that package store tells apart are those of package access.
func TestReasonsOfRefusals(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]bool{access.MayNotAssert: true, access.UnknownUser: true, access.AssertedAdmin: true, access.WrongKey: true, access.UnknownKey: true,
		access.RevokedKey: false, access.ExpiredKey: false, access.MissingRole: false} {
		rec := audit.Record{User: audit.User{Name: "x"}, Auth: audit.Auth{Method: audit.AuthAPIKey}, Status: store.Denied, Event: audit.Event{Action: audit.ExecutionDenied, Reason: reason}}
		if got := store.Asserted(rec); got != want {
			t.Errorf("%s: asserted %v, want %v", reason, got, want)
		}
	}
	b := newFixture(t)
	for _, reason := range []string{access.PerUserPerMinute, access.PerUserPerHour, access.GlobalPerMinute, access.ConcurrentPerUser, access.MissingRole} {
		b.refuse("bob", audit.Auth{Method: audit.AuthAsserted}, reason, 2)
	}
	s, err := b.source("")
	b.must(err)
	defer s.Close()
	if got, err := s.Refusals(store.Query{}); err != nil || !reflect.DeepEqual(map[string]int64(got), map[string]int64{store.RateLimited: 8, store.Denied: 2}) {
		t.Errorf("%v, %v", got, err)
	}
}

// Refusals that stand only in summaries are counted, for the filters that a summary can answer.
func TestSummarisedRefusals(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	b.refuse("bob", audit.Auth{Method: audit.AuthAsserted}, access.PerUserPerMinute, 13)
	b.refuse("eve", audit.Auth{Method: audit.AuthAsserted}, access.MissingRole, 1)
	now := time.Now()
	for _, indexed := range []bool{false, true} {
		if indexed {
			b.must(b.update(b.indexPath(""), false, false))
		}
		for _, c := range []struct {
			filter
			want string
		}{
			{filter{}, "and 14 refusals without a record of their own: py3runctl audit tail --action execution-denied\n"},
			{filter{user: "eve"}, "and 1 refusal without"},
			{filter{status: store.RateLimited}, "and 13 refusals without"},
			{filter{failed: true, since: "1h"}, "and 14 refusals without"},
			{filter{until: "1h"}, ""},
			{filter{user: "alice"}, ""},
			{filter{script: "tank"}, ""},
			{filter{status: "ok"}, ""},
		} {
			for name, ask := range map[string]func() error{
				"history": func() error { return b.history(question{filter: c.filter, format: "text"}, now) },
				"stats":   func() error { return b.stats(question{filter: c.filter, format: "text"}, store.ByUser, now) },
			} {
				b.must(ask())
				if out, _ := b.said(); c.want == "" && strings.Contains(out, "refusal") || !strings.Contains(out, c.want) {
					t.Errorf("indexed %v: %s %+v:\n%swant %s", indexed, name, c.filter, out, c.want)
				}
			}
		}
		b.must(b.metrics("", "", openMetrics, now))
		out, _ := b.said()
		for _, want := range []string{`py3run_runs_total{status="rate_limited"} 13`, `py3run_runs_total{status="denied"} 1`, `py3run_runs_total{status="ok"} 1`} {
			if !strings.Contains(out, want) {
				t.Errorf("indexed %v: no %s in\n%s", indexed, want, out)
			}
		}
	}
}

func TestActionFilter(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	b.refuse("bob", audit.Auth{Method: audit.AuthAsserted}, access.MissingRole, 0)
	s, err := filter{actions: []string{"execution-denied", "execution-end"}}.selection(time.Now())
	b.must(err)
	b.must(b.tail(t.Context(), s, 9, false, "json"))
	if out, _ := b.said(); strings.Count(out, "\n") != 2 || strings.Contains(out, `"execution-start"`) {
		t.Errorf("%s", out)
	}
	b.must(b.export(s, "csv", ""))
	if out, _ := b.said(); strings.Count(out, "\n") != 3 {
		t.Errorf("%s", out)
	}
	if _, err := (filter{actions: []string{"execution-stop"}}).selection(time.Now()); err == nil || !strings.Contains(err.Error(), "--action") {
		t.Errorf("%v", err)
	}
}

// Who happened to run when a change of the policy was found has not made it, and does not read what it was.
func TestFoundChangesOfThePolicy(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	rec := audit.Record{RunID: "01a20d4b-0000-7000-8000-000000000001", User: audit.User{Name: "bob"}, Host: audit.ThisHost(), Auth: audit.Auth{Method: audit.AuthOSUser},
		Event: audit.Event{Action: audit.PolicyChanged, Outcome: audit.Unknown, Reason: "changed"},
		Policy: &audit.PolicyChange{Path: "/etc/py3run/policy.toml", NewSHA256: strings.Repeat("a", 64),
			Changes: []string{"user eve: roles: + auditor"}, Grants: []string{"eve: auditor"}}}
	_, err := b.log.Append(rec)
	b.must(err)
	if fired, err := b.alerts("", "text", true); err != nil || fired != 2 {
		t.Fatalf("%d alerts, %v", fired, err)
	}
	if out, _ := b.said(); strings.Count(out, "found by the run of bob") != 2 {
		t.Errorf("alerts:\n%s", out)
	}
	see := func() (out string) {
		t.Helper()
		b.must(b.tail(t.Context(), selection{}.seenBy(b.logContext), 9, false, "text"))
		b.must(b.listAlerts(filter{}, "text", time.Now()))
		out, _ = b.said()
		return out
	}
	if out := see(); strings.Count(out, "+ auditor") != 3 || strings.Count(out, "eve: auditor") != 2 || !strings.Contains(out, "found by the run of bob") || strings.Count(out, "bob") != strings.Count(out, "by the run of bob") {
		t.Errorf("an auditor sees\n%s", out)
	}
	b.only = "bob"
	if out := see(); strings.Contains(out, "auditor") {
		t.Errorf("bob sees\n%s", out)
	}
	if lines, err := func() ([]audit.Line, error) {
		r, err := audit.OpenReader(b.dir)
		b.must(err)
		defer r.Close()
		return b.find(r, "1")
	}(); err == nil {
		t.Errorf("bob can show %s", lines[0].Text)
	}
}
