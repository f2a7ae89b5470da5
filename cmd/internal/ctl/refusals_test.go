package ctl

import (
	"fmt"
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
	groups, err := s.Stats(store.Query{}, store.ByStatus)
	b.must(err)
	got := map[string]int64{}
	for _, g := range groups {
		got[g.Key] = g.Refused
		if g.Runs != 0 {
			t.Errorf("%d runs are %s", g.Runs, g.Key)
		}
	}
	if !reflect.DeepEqual(got, map[string]int64{store.RateLimited: 8, store.Denied: 2}) {
		t.Errorf("%v", got)
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
			bob, eve int
		}{
			{filter{}, 13, 1},
			{filter{user: "eve"}, 0, 1},
			{filter{status: store.RateLimited}, 13, 0},
			{filter{failed: true, since: "1h"}, 13, 1},
			{filter{until: "1h"}, 0, 0},
			{filter{user: "alice"}, 0, 0},
			{filter{script: "tank"}, 0, 0},
			{filter{status: "ok"}, 0, 0},
		} {
			for format, form := range map[string][2]string{"text": {"%s (asserted) ", "%d refusal"}, "json": {`"user":"%s"`, `"refusals":%d}`}, "csv": {",%s,", ",%d"}} {
				b.must(b.history(question{filter: c.filter, format: format}, now))
				out, _ := b.said()
				for user, n := range map[string]int{"bob": c.bob, "eve": c.eve} {
					if told := hasLine(out, fmt.Sprintf(form[0], user), fmt.Sprintf(form[1], n)); told != (n > 0) {
						t.Errorf("indexed %v: history %+v: %d refusals of %s:\n%s", indexed, c.filter, n, user, out)
					}
				}
			}
			for format, form := range map[string][2]string{"text": {"%s (asserted) ", "and %d refusal"}, "json": {`"key":"%s"`, `"refused_in_summaries":%d}`}, "csv": {"%s,0,", ",true,%d"}} {
				b.must(b.stats(question{filter: c.filter, format: format}, store.ByUser, now))
				out, _ := b.said()
				for user, n := range map[string]int{"bob": c.bob, "eve": c.eve} {
					if told := hasLine(out, fmt.Sprintf(form[0], user), fmt.Sprintf(form[1], n)); told != (n > 0) {
						t.Errorf("indexed %v: stats %+v: %d refusals of %s:\n%s", indexed, c.filter, n, user, out)
					}
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

// hasLine reports whether a line has both texts.
func hasLine(out, one, other string) bool {
	for line := range strings.Lines(out) {
		if strings.Contains(line, one) && strings.Contains(line, other) {
			return true
		}
	}
	return false
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
