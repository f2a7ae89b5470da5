package ctl

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"py3run/audit"
	"py3run/cmd/internal/access"
)

// report makes a report, and returns what it is and what was said.
func (b *pagesBench) report(args ...string) (text, said string, code int) {
	b.Helper()
	out := filepath.Join(b.home, "report.html")
	os.Remove(out)
	var told bytes.Buffer
	a := *b.app
	a.out, a.err = &told, &told
	code = a.main(append([]string{"report", "--out", out, "--tz", "UTC"}, args...))
	if info, err := os.Stat(out); err == nil && info.Mode().Perm() != 0o600 {
		b.Errorf("mode %v", info.Mode())
	}
	content, _ := os.ReadFile(out)
	return string(content), told.String(), code
}

func TestReport(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	b.run("alice", "ok", nil)
	b.run("alice", "memory_limit", nil)
	b.run(`<script>alert("x")</script>`+evil, "error", nil)
	n := b.alerted(ruleLimits, "alice", `three <b>in a row</b>`, "")
	_, err := b.log.Append(audit.Record{Event: audit.Event{Action: audit.AuditAcknowledged, Outcome: audit.Success}, User: audit.User{Name: "audrey"}, Ack: &audit.Acknowledged{Alert: n, Kind: ruleLimits, Seq: n, Comment: "a low limit"}})
	b.must(err)
	_, err = b.log.Append(audit.Record{Event: audit.Event{Action: audit.KeyCreated, Outcome: audit.Success}, User: audit.User{Name: "root"}, Policy: &audit.PolicyChange{Path: "/p", Changes: []string{"key k1: added"}}})
	b.must(err)
	text, said, code := b.report()
	if code != 0 {
		t.Fatal(said)
	}
	has(t, text, `content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"`, "Runs by day and status", "memory_limit", "By user, the most runs first", "three &lt;b&gt;in a row", "a low limit", "key k1: added",
		"the log is whole", "2 of 71 keys differ", sumOf(b.text()), "<strong>512</strong>", "counter(page)", "since 30d", "&lt;script&gt;alert(", "of the operating system")
	hasNot(t, text, "<script", "<b>in a row", "src=", "href=", "url(", "http-equiv=\"refresh", "style=\"", "onerror=")
	for _, part := range []string{"<html", "</html>", "<main>", "</main>"} {
		if strings.Count(text, part) != 1 {
			t.Errorf("%d times %s", strings.Count(text, part), part)
		}
	}
	// A filter leaves out what it does not select.
	text, said, code = b.report("--user", "alice", "--failed", "--since", "2020-01-01", "--until", "2099-01-01")
	if code != 0 {
		t.Fatal(said)
	}
	has(t, text, "failed 1; since 2020-01-01; until 2099-01-01; user alice", "memory_limit")
	hasNot(t, text, "&lt;script&gt;alert(", "key k1: added")
	if text, _, code = b.report("--since", "2099-01-01"); code != 0 || !strings.Contains(text, "No run ended in this time") {
		t.Errorf("nothing: %d", code)
	}
}

// A report has what its maker may see, and no more.
func TestReportOfOnesOwn(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	b.run("alice", "ok", nil)
	b.run("bob", "error", nil)
	b.alerted(ruleNewHost, "bob", "bob was the first", "")
	b.alerted(ruleNewHost, "alice", "alice was the first", "")
	b.app.environ = append(b.app.environ, "PY3RUN_API_KEY_FILE="+b.keyOf("alice"))
	text, said, code := b.report()
	if code != 0 {
		t.Fatal(said)
	}
	has(t, text, "only those of alice", "alice was the first", "Not in this report")
	hasNot(t, text, "bob", "the log is whole", "max-memory-mb", sumOf(b.text()))
}

// keyOf makes a further key of a user, and returns the file that has it.
func (b *pagesBench) keyOf(user string) string {
	b.Helper()
	path := filepath.Join(b.home, "config/py3run/policy.toml")
	policy, err := os.ReadFile(path)
	b.must(err)
	id, text := access.NewKey()
	b.put(path, string(policy)+"[key."+id+"]\nuser = \""+user+"\"\nsha256 = \""+access.HashKey(text)+"\"\ncreated = 2026-01-01T00:00:00Z\n", 0o600)
	file := filepath.Join(b.home, user+".key")
	b.put(file, text+"\n", 0o600)
	return file
}

// A log that is broken is reported as one, and a report that cannot be written leaves no half of it.
func TestReportOfABrokenLog(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	b.run("alice", "ok", nil)
	b.run("alice", "ok", nil)
	path := filepath.Join(b.dir, "audit.jsonl")
	text, err := os.ReadFile(path)
	b.must(err)
	b.must(os.WriteFile(path, bytes.Replace(text, []byte(`"status":"ok"`), []byte(`"status":"no"`), 1), 0o600))
	report, said, code := b.report()
	if code != 0 {
		t.Fatal(said)
	}
	has(t, report, "THE LOG IS BROKEN", "chain-broken", "✗ broken")
	for _, args := range [][]string{{"--out", ""}, {"--since", "nonsense"}, {"--status", "nonsense"}, {"--key", "/x"}, {"--out", filepath.Join(b.home, "no", "such", "r.html")}} {
		if _, said, code := b.report(args...); code == 0 || said == "" {
			t.Errorf("%q: %d %s", args, code, said)
		}
	}
}
