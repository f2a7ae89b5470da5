package ctl

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"py3run/audit"
	"py3run/cmd/internal/wire"
)

// A hold from the command line keeps what it selects, prune says so in both forms, and its records are
// as the schema has them.
func TestHold(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	names := b.past(200, 150, 100, 10)
	b.run("alice", "ok", nil)
	now := time.Now()
	h, err := b.addHold(hold{Run: "000000000007", Comment: " case " + evil}, now)
	b.must(err)
	b.must(b.countHeld(h))
	if out, errs := b.said(); !strings.Contains(out, "it selects 2 records so far") || errs != "" {
		t.Errorf("%q, %q", out, errs)
	}
	b.must(b.prune(pruning{dryRun: true, force: true, yes: true, format: "json"}, now))
	out, errs := b.said()
	var r prunedReport
	b.must(json.Unmarshal([]byte(out), &r))
	if len(r.Segments) != 1 || r.Segments[0] != names[0] || len(r.Holds) != 1 || r.Holds[0].ID != h.ID || r.Holds[0].From != 15 || r.Holds[0].Segments != 2 || r.Holds[0].Comment == "" || errs != "" {
		t.Errorf("%s%s", out, errs)
	}
	b.must(b.prune(pruning{force: true, yes: true}, now))
	out, _ = b.said()
	if !strings.Contains(out, "removed 1 segments") || !strings.Contains(out, "hold "+h.ID+" of ") || !strings.Contains(out, "keeps 2 segments that would go, from record 15 on: case evil\\x1b") || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	if got := b.segments(); got != "-000000000011 -000000000021 -000000000031 " {
		t.Errorf("left are %q", got)
	}
	if _, err := b.releaseHold(h.ID, ""); err == nil {
		t.Error("released without a comment")
	}
	if _, err := b.releaseHold("nosuch", "x"); err == nil || hint(err) == "" {
		t.Errorf("%v", err)
	}
	_, err = b.releaseHold(h.ID, "closed")
	b.must(err)
	list, err := b.holds()
	if err != nil || len(list) != 1 || list[0].ReleasedAt == "" || list[0].ReleasedComment != "closed" || list[0].Problem != "" || list[0].Run != h.Run || list[0].At == "" {
		t.Errorf("%+v, %v", list, err)
	}
	schema := compiled(t, "audit")
	log, err := os.ReadFile(filepath.Join(b.dir, "audit.jsonl"))
	b.must(err)
	seen := 0
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, `"action":"audit-`) {
			seen++
			schema(line)
		}
	}
	if seen != 3 {
		t.Errorf("%d records", seen)
	}
	b.must(b.tail(t.Context(), selection{actions: []string{string(audit.AuditHold), string(audit.AuditHoldRelease)}}, 9, false, "text"))
	if out, _ := b.said(); !strings.Contains(out, "hold "+h.ID+" keeps run 01a20d4b-") || !strings.Contains(out, "is released: closed") {
		t.Errorf("%s", out)
	}
	b.must(b.prune(pruning{force: true, yes: true}, now))
	if got := b.segments(); got != "-000000000031 " || b.findings() != "" {
		t.Errorf("after the release are left %q, verify finds %s", got, b.findings())
	}
}

func TestHoldFlags(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	for _, c := range []struct {
		hold hold
		want string
	}{
		{hold{}, "requires --comment"},
		{hold{Comment: "  "}, "requires --comment"},
		{hold{Comment: "x", Since: "nonsense"}, "--since"},
		{hold{Comment: "x", Since: "2026-02-01", Until: "2026-01-01"}, "it begins at"},
		{hold{Comment: "x", Run: "ffffffffffff"}, "ffffffffffff"},
		{hold{Comment: "x", Run: "1"}, "want the id of a run"},
	} {
		if _, err := b.addHold(c.hold, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.hold, err, c.want)
		}
	}
	h, err := b.addHold(hold{Comment: "x", Script: "tank@7", User: "nobody", Since: "2026-01-01T00:00:00Z"}, time.Now())
	if err != nil || h.Script != "tank@7" || h.what(b.shownTime) == "" {
		t.Errorf("%+v, %v", h, err)
	}
	b.must(b.countHeld(h))
	if _, errs := b.said(); !strings.Contains(errs, "selects no record that there is now") {
		t.Error(errs)
	}
	b.must(os.Remove(filepath.Join(b.dir, "holds.json")))
	list, err := b.holds()
	if err != nil || len(list) != 1 || list[0].Problem != "not in holds.json" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, format := range []string{"text", "json", "csv"} {
		b.must(b.listHolds(list, format))
		if out, _ := b.said(); !strings.Contains(out, h.ID) || !strings.Contains(out, "not in holds.json") {
			t.Errorf("%s: %s", format, out)
		}
	}
	if got := b.findings(); got != string(audit.HoldsDiffer)+" " {
		t.Errorf("verify finds %s", got)
	}
}

// Who may not see the runs of all neither adds nor releases a hold, nor lists them.
func TestHoldNeedsAuditor(t *testing.T) {
	t.Parallel()
	b, _ := newLogBench(t)
	for _, args := range [][]string{{"add", "--comment", "x"}, {"list"}, {"release", "h1", "--comment", "x"}, {"repair"}} {
		if out, err, code := b.ask("bob", append([]string{"audit", "hold"}, args...)...); code != exitFailed || out != "" || !strings.Contains(err, "bob") {
			t.Errorf("%q as bob: %d, %s%s", args, code, out, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "config/py3run/policy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("config/py3run/policy.toml", strings.Replace(string(text), "[user.carol]\nroles = []", "[user.carol]\nroles = [\"auditor\"]", 1))
	if out, errs, code := b.ask("carol", "audit", "hold", "add", "--user", "alice", "--comment", "case 1"); code != 0 || !strings.Contains(out, "it selects 1 record so far") {
		t.Errorf("carol: %d, %s%s", code, out, errs)
	}
	out, errs, code := b.ask("carol", "audit", "hold", "list", "--format", "json")
	if code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, `"by":"carol"`) {
		t.Errorf("carol: %d, %s%s", code, out, errs)
	}
}

// compiled checks lines against a schema of py3run's.
func compiled(t *testing.T, name string) func(line string) {
	t.Helper()
	text, ok := wire.Schema(name)
	if !ok {
		t.Fatal(name)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, schema); err != nil {
		t.Fatal(err)
	}
	s := compiler.MustCompile(name)
	return func(line string) {
		t.Helper()
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = s.Validate(value)
		}
		if err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
}
