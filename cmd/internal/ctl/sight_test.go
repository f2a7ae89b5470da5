package ctl

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
)

// Whose runs somebody sees follows from the policy's one rule.
func TestSight(t *testing.T) {
	t.Parallel()
	policy, findings := access.Parse("policy.toml", `version = 1
[user.alice]
roles = ["python3-executor"]
os-user = "alice"
[user.carol]
roles = ["auditor"]
os-user = "carol"
[user.dave]
roles = ["script-admin"]
os-user = "dave"
`)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	for _, c := range []struct {
		name   string
		policy *access.Policy
		claim  access.Claim
		want   string
		denied bool
	}{
		{"no policy", nil, access.Claim{OSUID: 1000, OSUser: "bob"}, "", false},
		{"a user", policy, access.Claim{OSUID: 1000, OSUser: "alice"}, "alice", false},
		{"not in the policy", policy, access.Claim{OSUID: 1000, OSUser: "bob"}, "bob", false},
		{"an auditor", policy, access.Claim{OSUID: 1000, OSUser: "carol"}, "", false},
		{"a script-admin", policy, access.Claim{OSUID: 1000, OSUser: "dave"}, "", false},
		{"only called so", policy, access.Claim{OSUID: 1000, OSUser: "bob", User: "carol"}, "carol", true},
		{"root", policy, access.Claim{OSUID: 0, OSUser: "root"}, "", false},
		{"nobody", policy, access.Claim{OSUID: 1000}, "anonymous", true},
	} {
		grant, denial := c.policy.Identify(c.claim)
		if denial != nil {
			t.Fatal(denial)
		}
		if got, err := (actor{policy: c.policy, grant: grant}).sees(); got != c.want || (err != nil) != c.denied {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

// Who may see only the runs of one user finds no other in any command, however it asks.
func TestOwnRunsOnly(t *testing.T) {
	t.Parallel()
	b := someRuns(t)
	w := b.witness()
	b.signs(w, time.Now())
	b.said()
	only := b.logContext
	only.only = "alice"
	now := time.Now()
	const others, own = 4, 3 // runs of the fixture: gateway-a's, and alice's with a key
	run := func(n int) string {
		return []string{3: "01a20d4b-0000-7000-8000-000000000003", 4: "01a20d4b-0000-7000-8000-000000000004"}[n]
	}
	for _, indexed := range []bool{false, true} {
		if indexed {
			b.must(b.update(b.indexPath(""), false, false))
		}
		for name, ask := range map[string]func() error{
			"history": func() error { return only.history(question{}, now) },
			"stats":   func() error { return only.stats(question{}, store.ByUser, now) },
			"days":    func() error { return only.stats(question{filter: filter{failed: true}}, store.ByDay, now) },
			"live":    func() error { return only.ps(filter{}, "json", now) },
			"tail":    func() error { return only.tail(t.Context(), selection{}.seenBy(only), 99, false, "json") },
			"export":  func() error { return only.export(selection{}.seenBy(only), "json", "") },
			"alerts":  func() error { return only.listAlerts(filter{}, "json", now) },
			"a run":   func() error { return only.show(run(own), "json") },
		} {
			b.must(ask())
			out, _ := b.said()
			if strings.Contains(out, `"user":"gateway-a"`) || strings.Contains(out, `"key":"gateway-a"`) || strings.Contains(out, `"name":"gateway-a"`) || strings.Contains(out, "bob") || strings.Contains(out, "0000004") {
				t.Errorf("%s, indexed %v:\n%s", name, indexed, out)
			}
			if (name == "history" || name == "tail" || name == "stats") && !strings.Contains(out, "alice") {
				t.Errorf("%s, indexed %v, shows nothing", name, indexed)
			}
		}
		for name, ask := range map[string]func() error{
			"show": func() error { return only.show(run(others), "json") }, "a record": func() error { return only.show("7", "json") }, "code": func() error { return only.showCode(run(others)) },
			"history": func() error { return only.history(question{run: run(others)}, now) }, "proof": func() error { return only.proof(run(others), w.dir, w.keys, "") },
			"the end of an id": func() error { return only.show("00000004", "json") },
		} {
			if err := ask(); err == nil || !strings.Contains(err.Error(), "of the user alice") {
				t.Errorf("%s: %v", name, err)
			}
			if out, _ := b.said(); out != "" {
				t.Errorf("%s: %s", name, out)
			}
		}
		b.must(only.history(question{filter: filter{user: "gateway-a"}}, now))
		b.must(only.stats(question{filter: filter{user: "gateway-a"}}, store.ByAll, now))
		if out, _ := b.said(); out != "" {
			t.Errorf("by name: %s", out)
		}
	}
}

// The owner of the log sees all of it, also where the policy is broken, unless an API key says who asks.
func TestOwnerSeesAll(t *testing.T) {
	t.Parallel()
	b := someRuns(t)
	var out bytes.Buffer
	a := &app{out: &out, err: &out, environ: []string{"HOME=" + t.TempDir()}}
	if code := a.main([]string{"history", "--dir", b.dir}); code != 0 || strings.Count(out.String(), "\n") != 5 {
		t.Errorf("exit code %d\n%s", code, &out)
	}
	a.environ = append(a.environ, "PY3RUN_API_KEY_FILE=/nowhere")
	out.Reset()
	if code := a.main([]string{"history", "--dir", b.dir}); code != exitFailed || strings.Count(out.String(), "\n") > 2 {
		t.Errorf("with a key that cannot be read: exit code %d\n%s", code, &out)
	}
}

// What has changed in the policy is none of the business of the user whose run has found it, in the list of
// alerts neither.
func TestOwnAlertsOnly(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	for _, rule := range []string{rulePolicy, ruleNewHost} {
		_, err := b.log.Append(audit.Record{User: audit.User{Name: "alice"}, Event: audit.Event{Action: audit.Alerted, Outcome: audit.Unknown}, Alert: &audit.Alert{Rule: rule, Title: "of " + rule}})
		b.must(err)
	}
	for only, want := range map[string]int{"": 2, "alice": 1, "bob": 0} {
		b.only = only
		b.must(b.listAlerts(filter{}, "json", time.Now()))
		if out, _ := b.said(); strings.Count(out, "\n") != want || only == "alice" && !strings.Contains(out, ruleNewHost) {
			t.Errorf("%q sees %s", only, out)
		}
	}
}
