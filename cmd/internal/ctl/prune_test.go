package ctl

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"py3run/audit"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/wire"
	"py3run/internal/activity"
)

// past makes closed segments of five runs each, so many days old.
func (b *fixture) past(days ...int) (names []string) {
	b.Helper()
	prev, seq := strings.Repeat("0", 64), uint64(0)
	for _, age := range days {
		var text []byte
		first := seq + 1
		for i := range 10 {
			seq++
			at := time.Now().Add(-time.Duration(age)*24*time.Hour + time.Duration(i)*time.Second)
			rec := audit.Record{V: 1, Timestamp: at.UTC().Format("2006-01-02T15:04:05.000000Z"), Seq: seq, Prev: prev, RunID: fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", (seq-1)/2),
				Event: audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}}
			if i%2 == 1 {
				rec.Event = audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Success, DurationNS: 1e9}
				rec.Status, rec.Process, rec.Hooks = "ok", &audit.Process{}, &activity.Summary{}
				rec.Isolation = &audit.Isolation{Enforced: []string{}, Missing: []audit.Gap{}}
			}
			line, err := json.Marshal(rec)
			b.must(err)
			prev = fmt.Sprintf("%x", sha256.Sum256(line))
			text = append(append(text, line...), '\n')
		}
		name := fmt.Sprintf("audit-%012d.jsonl", first)
		b.must(os.WriteFile(filepath.Join(b.dir, name), text, 0o600))
		names = append(names, name)
	}
	b.runs = int(seq)
	return names
}

func (b *fixture) segments() string {
	b.Helper()
	paths, err := filepath.Glob(filepath.Join(b.dir, "audit*.jsonl"))
	b.must(err)
	var names []string
	for _, p := range paths {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(p), "audit"), ".jsonl"))
	}
	return strings.Join(names, " ")
}

// findings are those of verify above a note.
func (b *fixture) findings() (kinds string) {
	b.Helper()
	rep, err := b.verify(verification{})
	b.must(err)
	for _, f := range rep.Findings {
		if f.Severity > audit.Note {
			kinds += string(f.Kind) + " "
		}
	}
	return kinds
}

func TestPrune(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	names := b.past(200, 150, 100, 10)
	b.run("alice", "ok", nil)
	all := b.segments()
	refused := func(what, want string, p pruning) {
		t.Helper()
		if err := b.prune(p, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", what, err, want)
		}
		if b.segments() != all {
			t.Errorf("%s: left are %s", what, b.segments())
		}
	}
	refused("more than half", "3 of 5 segments are older than 90 days, more than half", pruning{yes: true})
	cursor := filepath.Join(b.dir, "cursor-siem.json")
	b.must(os.WriteFile(cursor, []byte(`{"seq": 25}`), 0o600))
	b.must(b.prune(pruning{dryRun: true, force: true, ignoreCursors: true}, time.Now()))
	if out, _ := b.said(); !strings.Contains(out, "3 of 5 segments would go") {
		t.Errorf("without regard to cursors: %s", out)
	}
	if err := b.prune(pruning{dryRun: true, force: true}, time.Now()); err != cli.ExitCode(exitFailed) {
		t.Errorf("not exported: %v", err)
	}
	if out, warned := b.said(); !strings.Contains(warned, "cursor-siem.json has only read up to record 25: 1 segments") || !strings.Contains(out, "2 of 5 segments would go") {
		t.Errorf("not exported: %s%s", out, warned)
	}
	other := filepath.Join(b.TempDir(), "other.json")
	b.must(os.WriteFile(other, []byte(`{"seq": 0}`), 0o600))
	if err := b.prune(pruning{yes: true, force: true, cursors: []string{other}}, time.Now()); err != cli.ExitCode(exitFailed) || b.segments() != all {
		t.Errorf("not exported at all: %v, left are %s", err, b.segments())
	}
	b.must(os.WriteFile(other, []byte(`{}`), 0o600))
	refused("no cursor", "other.json: no cursor", pruning{yes: true, force: true, cursors: []string{other}})
	b.must(os.WriteFile(filepath.Join(b.dir, alertsName), []byte(`{"position": {"seq": 9}}`), 0o600))
	if err := b.prune(pruning{yes: true, force: true}, time.Now()); err != cli.ExitCode(exitFailed) || b.segments() != all {
		t.Errorf("not looked at by alerts: %v, left are %s", err, b.segments())
	}
	b.must(os.Remove(filepath.Join(b.dir, alertsName)))
	b.said()
	b.must(os.WriteFile(cursor, []byte(`{"seq": 30}`), 0o600))
	if err := b.prune(pruning{yes: true}, time.Now().Add(365*24*time.Hour)); err == nil || !strings.Contains(err.Error(), "the clock may be wrong") {
		t.Errorf("a clock that has jumped: %v", err)
	}
	kept := map[string][]byte{}
	for _, n := range names {
		text, err := os.ReadFile(filepath.Join(b.dir, n))
		b.must(err)
		kept[n] = text
	}
	bad := append([]byte(nil), kept[names[1]]...)
	bad[100] ^= 1
	b.must(os.WriteFile(filepath.Join(b.dir, names[1]), bad, 0o600))
	refused("a broken segment", "more than half", pruning{yes: true})
	b.config.Security.Audit.RetentionDays = 120
	refused("a broken segment", "1 faults", pruning{yes: true})
	b.config.Security.Audit.RetentionDays = 90
	b.must(os.WriteFile(filepath.Join(b.dir, names[1]), kept[names[1]], 0o600))
	b.must(b.prune(pruning{dryRun: true, force: true}, time.Now()))
	if out, _ := b.said(); strings.Count(out, "would remove") != 3 || b.segments() != all {
		t.Errorf("dry run: %s", out)
	}

	refused("nobody to ask", "say --yes", pruning{force: true})
	refused("no", "not wanted", pruning{force: true, answers: strings.NewReader("n\n")})
	b.said()
	b.must(b.log.KeepCode([]byte("old")))
	b.must(b.log.KeepCode([]byte("new")))
	code, err := filepath.Glob(filepath.Join(b.dir, "code", fmt.Sprintf("%x", sha256.Sum256([]byte("old")))))
	b.must(err)
	long := time.Now().Add(-100 * 24 * time.Hour)
	b.must(os.Chtimes(code[0], long, long))
	b.must(b.prune(pruning{force: true, answers: strings.NewReader("y\n")}, time.Now()))
	if out, _ := b.said(); !strings.Contains(out, "removed 3 segments with the records 1 to 30") || !strings.Contains(out, "removed 1 files of kept code") {
		t.Errorf("it says %s", out)
	}
	b.must(b.show("43", "json"))
	line, _ := b.said()
	text, _ := wire.Schema("audit")
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	b.must(err)
	compiler := jsonschema.NewCompiler()
	b.must(compiler.AddResource("audit", schema))
	record, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	b.must(err)
	if err := compiler.MustCompile("audit").Validate(record); err != nil || !strings.Contains(line, `"retention":{"days":90,"segments":3,`) {
		t.Errorf("the record of it: %v\n%s", err, line)
	}
	if got := b.segments(); got != "-000000000031 " {
		t.Errorf("left are %q", got)
	}
	if got := b.findings(); got != "" {
		t.Errorf("verify finds %s", got)
	}
	b.must(b.prune(pruning{yes: true}, time.Now()))
	if out, _ := b.said(); !strings.Contains(out, "no segment to remove") {
		t.Errorf("a second time it says %s", out)
	}
	// as after a death between the record and the last removal
	b.must(os.WriteFile(filepath.Join(b.dir, names[2]), kept[names[2]], 0o600))
	if got := b.findings(); got != string(audit.PruneUnfinished)+" " {
		t.Errorf("verify finds %s", got)
	}
	b.must(b.prune(pruning{yes: true}, time.Now()))
	if got := b.segments(); got != "-000000000031 " || b.findings() != "" {
		t.Errorf("left are %q, verify finds %s", got, b.findings())
	}
	// an index and history go on
	b.run("bob", "ok", nil)
	b.said()
	b.must(b.update(b.indexPath(""), false, false))
	b.must(b.history(question{}, time.Now()))
	if out, _ := b.said(); strings.Count(out, "\n") != 7 {
		t.Errorf("history: %s", out)
	}
	b.config.Security.Audit.RetentionDays = 0
	b.must(b.prune(pruning{yes: true}, time.Now()))
	if out, _ := b.said(); !strings.Contains(out, "for ever") {
		t.Errorf("without retention it says %s", out)
	}
}
