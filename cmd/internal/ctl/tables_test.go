package ctl

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"py3run/cmd/internal/access"
)

// A usual terminal shows a run on one line, and what it shows of the id names the run.
func TestHistoryOnANarrowTerminal(t *testing.T) {
	t.Parallel()
	b := someRuns(t)
	b.width = 80
	b.must(b.history(question{format: "text"}, time.Now()))
	out, _ := b.said()
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	end := strings.Fields(strings.Split(out, "\n")[3])
	b.must(b.history(question{run: end[len(end)-1], format: "text"}, time.Now()))
	if got, _ := b.said(); !strings.Contains(got, "gateway-a") {
		t.Errorf("%q names\n%s", end[len(end)-1], got)
	}
}

// CSV has one value in a cell, for every list.
func TestListsAsCSV(t *testing.T) {
	t.Parallel()
	b := someRuns(t)
	b.must(b.ps(filter{}, "csv", time.Now()))
	out, _ := b.said()
	if rows, err := csv.NewReader(strings.NewReader(out)).ReadAll(); err != nil || len(rows) != 2 || rows[1][3] != "bob" || rows[1][slices.Index(rows[0], "labels")] == "" {
		t.Errorf("ps: %q, %v", rows, err)
	}
	h := newHost(t)
	h.save("plant/tank", "print(1)\n")
	for _, command := range [][]string{{"script", "list"}, {"script", "history", "plant/tank"}} {
		out, _ := h.mustCall(append(command, "--format", "csv")...)
		rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		if err != nil || len(rows) != 2 || !slices.Contains(rows[1], "1") || !strings.Contains(out, ",alice,") {
			t.Errorf("%v: %s, %v", command, out, err)
		}
	}
}

// Tables have times in the zone that was asked for, and leave out what is empty where there is little room.
func TestTimesAndWidthOfLists(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.zone = time.FixedZone("X", 2*3600)
	type row struct{ made, note string }
	show := func() string {
		t.Helper()
		b.must(printList(b.logContext, "text", []row{{"2026-12-01T23:00:00Z", ""}}, []string{"created", "comment"}, func(r row) []string { return []string{r.made, r.note} }))
		out, _ := b.said()
		return out
	}
	if out := show(); !strings.Contains(out, "2026-12-02 01:00:00") || !strings.Contains(out, "COMMENT") {
		t.Errorf("%s", out)
	}
	b.width = 25
	if out := show(); strings.Contains(out, "COMMENT") {
		t.Errorf("%s", out)
	}
}

// Where there is no answer, the exit code is not that of the answer no; mistakes are still mistakes.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	h.save("tank", "print(2)\n")
	for _, c := range []struct {
		args string
		code int
	}{
		{"script diff tank@1", 1}, {"script diff tank@2", 0}, {"script diff nosuch@1", 3}, {"script diff tank", 2}, {"script diff", 2},
		{"access check --user alice", 0}, {"access check --user bob", 1}, {"access check --user bob --script nosuch", 3}, {"access check --user bob --action x", 2},
		{"access check --key-file /nonexistent/key", 3},
	} {
		if code, _, errs := h.call(strings.Fields(c.args)...); code != c.code {
			t.Errorf("%s: %d, want %d: %s", c.args, code, c.code, errs)
		}
	}
	h.must(os.WriteFile(filepath.Join(h.home, "config", "py3run", access.FileName), []byte("broken"), 0o600))
	if code, _, errs := h.call("access", "check", "--user", "alice"); code != 3 || !strings.Contains(errs, "error: ") {
		t.Errorf("%d %s", code, errs)
	}
}

// A mistake is answered by what repairs it.
func TestHintsThatRepair(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must(os.WriteFile(filepath.Join(h.home, "config", "py3run", access.FileName), []byte("version = 1\n[group.operators]\n[user.alice]\nroles = [\"python3-executor\"]\n"), 0o600))
	h.save("tank", "print(1)\n")
	h.must(os.WriteFile(filepath.Join(h.home, "k.key"), []byte("PRIVATE+KEY+x+00+AAAA\n"), 0o600))
	for args, want := range map[string]string{
		"script share tank --with operators": "did you mean group:operators?",
		"script history tank@1":              "give the name without a version, tank",
		"script rm tank --if-version 7":      "delete script tank: not at version 7: its current version is 1",
		"script save tank":                   "requires FILE",
		"user add Alice":                     "the policy has the user alice",
		"user add carol --group operator":    `did you mean "operators"?`,
		"user add carol --group readers":     "py3runctl group add readers",
		"user delete alice":                  "py3runctl user disable",
		"key revoke nosuch1":                 "hint: py3runctl key list",
		"backup " + h.home + "/absent/b.tar": "back up to " + h.home + "/absent/b.tar: " + h.home + "/absent: no such file or directory",
		"restore " + h.home + "/k.key":       "not a backup of py3runctl",
		"limits reset --user nosuch":         "no such user",
		"help access-rights":                 "py3run help access-rights",
		"audit proof x1234567 --checkpoints " + h.home + " --key " + h.home + "/k.key": "name the public half: " + h.home + "/k.key.pub",
		"audit proof x1234567 --checkpoints x --key y --out " + h.home + "/k.key":      "file already exists",
		"audit tail --action execution-stop":                                           "the actions are execution-start",
	} {
		code, _, errs := h.call(strings.Fields(args)...)
		if code != 1 && code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %s, want %s", args, code, errs, want)
		}
	}
	r, err := os.ReadFile(filepath.Join(h.dir, "audit.jsonl"))
	if err == nil && len(r) > 0 {
		t.Errorf("what was refused is recorded: %s", r)
	}
}

// Shells complete the values of flags.
func TestFlagValuesAreCompleted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must(os.WriteFile(filepath.Join(h.home, "config", "py3run", access.FileName), []byte("version = 1\n[group.operators]\n[user.alice]\n"), 0o600))
	h.save("tank", "print(1)\n")
	for args, want := range map[string]string{
		"history --format":                 "csv",
		"metrics --format":                 "openmetrics",
		"audit verify --format":            "json",
		"history --status":                 "rate_limited",
		"stats --by":                       "script",
		"history --tz":                     "Europe/Berlin",
		"user add x --group":               "operators",
		"user change alice --add-group":    "operators",
		"user change alice --remove-limit": "security.max-memory-mb",
		"key create alice --may-assert":    "group:operators",
		"key list --user":                  "alice",
		"history --script":                 "tank",
		"access check --script":            "tank",
		"audit export --action":            "user-group-change",
	} {
		out, _ := h.mustCall(append(append([]string{"__complete"}, strings.Fields(args)...), "")...)
		if !strings.Contains(out, want) {
			t.Errorf("%s: no %s in %s", args, want, out)
		}
	}
}

// A script that cannot be exported leaves nothing behind, and limits have their own types in JSON.
func TestNothingLeftAndTypes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	dir := filepath.Join(h.home, "out")
	if code, _, _ := h.call("script", "export", dir, "tank", "nosuch"); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a directory is left")
	}
	if _, errs := h.mustCall("script", "export", dir, "tank"); !strings.Contains(errs, "1 script is in ") {
		t.Error(errs)
	}
	h.mustCall("user", "change", "alice", "--limit", "security.max-memory-mb=256")
	out, _ := h.mustCall("user", "list", "--format", "json")
	var user struct{ Limits map[string]any }
	h.must(json.Unmarshal([]byte(strings.Split(out, "\n")[0]), &user))
	if user.Limits["security.max-memory-mb"] != 256.0 {
		t.Errorf("%s", out)
	}
}

// Whoever asks alerts to tell everything a second time learns why there is nothing.
func TestEverythingOnlyOnce(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	_, err := b.alerts("", "text", true)
	b.must(err)
	if _, errs := b.said(); strings.Contains(errs, "first call") {
		t.Error(errs)
	}
	_, err = b.alerts("", "text", true)
	b.must(err)
	if _, errs := b.said(); !strings.Contains(errs, "--everything counts on the first call only") {
		t.Error(errs)
	}
}
