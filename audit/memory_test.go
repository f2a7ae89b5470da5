package audit

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// linesOf are the lines of the current segment.
func linesOf(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, currentName))
	must(t, err)
	return strings.SplitAfter(string(text), "\n")
}

func keep(t *testing.T, dir string, lines int) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, currentName), []byte(strings.Join(linesOf(t, dir)[:lines], "")), 0o600))
}

// Who cuts a log takes the writers' note away as well, or puts an old one back: the next record says that it is gone.
func TestLostMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		do     func(t *testing.T, dir string, old []byte)
		want   string // actions
		found  uint64 // that the record of it names; 0: nothing is said
		noted  uint64
		beside bool // it is said in the next record
	}{
		{"left alone", func(*testing.T, string, []byte) {}, "start start start start start", 0, 0, false},
		{"the note is gone", func(t *testing.T, dir string, _ []byte) { must(t, os.Remove(filepath.Join(dir, lockName))) },
			"start start start start audit-repair start", 4, 0, false},
		{"the log was cut, and the note is gone", func(t *testing.T, dir string, _ []byte) {
			keep(t, dir, 2)
			must(t, os.Remove(filepath.Join(dir, lockName)))
		}, "start start audit-repair start", 2, 0, false},
		{"the log was cut in a record, and the note is gone", func(t *testing.T, dir string, _ []byte) {
			text := strings.Join(linesOf(t, dir)[:3], "")
			must(t, os.WriteFile(filepath.Join(dir, currentName), []byte(text[:len(text)-20]), 0o600), os.Remove(filepath.Join(dir, lockName)))
		}, "start start audit-repair audit-repair start", 2, 0, false},
		{"the current segment and the note are gone, and closed ones are not", func(t *testing.T, dir string, _ []byte) {
			must(t, os.Rename(filepath.Join(dir, currentName), filepath.Join(dir, segmentName(1))), os.Remove(filepath.Join(dir, lockName)))
		}, "start start start start audit-repair start", 4, 0, false},
		{"all is gone but torn bytes of an older log", func(t *testing.T, dir string, _ []byte) {
			must(t, os.Remove(filepath.Join(dir, currentName)), os.Remove(filepath.Join(dir, lockName)), os.WriteFile(filepath.Join(dir, fragmentName(77, 1)), []byte("x"), 0o600))
		}, "audit-repair start", 0, 0, false},
		{"all is gone", func(t *testing.T, dir string, _ []byte) {
			must(t, os.Remove(filepath.Join(dir, currentName)), os.Remove(filepath.Join(dir, lockName)))
		}, "start", 0, 0, false},
		{"the note is empty", func(t *testing.T, dir string, _ []byte) { must(t, os.Truncate(filepath.Join(dir, lockName), 0)) },
			"start start start start start", 4, 0, true},
		{"the note is zeros", func(t *testing.T, dir string, _ []byte) {
			must(t, os.WriteFile(filepath.Join(dir, lockName), make([]byte, rememberedSize), 0o600))
		}, "start start start start start", 4, 0, true},
		{"the log was cut, and the note is an old one", func(t *testing.T, dir string, old []byte) {
			keep(t, dir, 3)
			must(t, os.WriteFile(filepath.Join(dir, lockName), old, 0o600))
		}, "start start start audit-repair start", 3, 1, false},
		{"the note is of another log", func(t *testing.T, dir string, _ []byte) {
			must(t, os.WriteFile(filepath.Join(dir, lockName), fmt.Appendf(nil, "%020d %s\n", 3, strings.Repeat("a", 64)), 0o600))
		}, "start start start start audit-repair start", 4, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			l := openLog(t, dir)
			var old []byte
			for i := range 4 {
				mustAppend(t, l, startRecord(fmt.Sprint("r", i)))
				if i == 0 {
					var err error
					old, err = os.ReadFile(filepath.Join(dir, lockName))
					must(t, err)
				}
			}
			c.do(t, dir, old)
			mustAppend(t, l, startRecord("next"))
			records := verify(t, dir)
			if got := strings.ReplaceAll(actions(records), "execution-", ""); got != c.want {
				t.Fatalf("records %s, want %s", got, c.want)
			}
			said := 0
			for i, line := range allLines(t, dir) {
				var r Record
				must(t, json.Unmarshal([]byte(line), &r))
				if r.Repair == nil || r.Repair.Kept != "" {
					continue
				}
				said++
				if beside := r.Event.Action != AuditRepair; beside != c.beside || !beside && r.Event.Reason != memoryLost {
					t.Errorf("record %d: %s, %s", i+1, r.Event.Action, r.Event.Reason)
				}
				if p := r.Repair; p.Expected != nil || p.Found == nil || p.Found.Seq != c.found || (p.Noted != nil) != (c.noted > 0) || p.Noted != nil && p.Noted.Seq != c.noted {
					t.Errorf("repair %s", line)
				}
			}
			if want := strings.Contains(c.want, "repair") || c.beside; (said == 1) != want || said > 1 {
				t.Errorf("said %d times", said)
			}
			mustAppend(t, l, startRecord("after"))
			if got := len(verify(t, dir)); got != len(records)+1 {
				t.Errorf("said again: %d records after %d", got, len(records))
			}
			found := false
			for _, f := range report(t, dir).Findings {
				found = found || f.Kind == MemoryMissing && f.Seq > 0
			}
			if found != (said > 0) {
				t.Errorf("verify tells of it: %t", found)
			}
		})
	}
}

func allLines(t *testing.T, dir string) (lines []string) {
	t.Helper()
	closed, err := filepath.Glob(filepath.Join(dir, "audit-????????????.jsonl"))
	must(t, err)
	for _, name := range append(closed, filepath.Join(dir, currentName)) {
		text, err := os.ReadFile(name)
		must(t, err)
		lines = append(lines, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
	}
	return lines
}

func report(t *testing.T, dir string) *Report {
	t.Helper()
	r, err := OpenReader(dir)
	must(t, err)
	defer r.Close()
	rep, err := r.Verify(Check{})
	must(t, err)
	return rep
}

// The file of a run under way keeps its start record: when all else is gone, it still tells how long the log was.
func TestRunsRemember(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	mustAppend(t, l, startRecord("r1"))
	run, start, err := l.Begin(startRecord("r2"))
	must(t, err)
	defer run.release()
	must(t, os.Remove(filepath.Join(dir, currentName)), os.Remove(filepath.Join(dir, lockName)))
	next := mustAppend(t, l, startRecord("r3"))
	var r Record
	must(t, json.Unmarshal([]byte(linesOf(t, dir)[0]), &r))
	if r.Event.Reason != "log-lost" || r.Repair == nil || r.Repair.Expected == nil || *r.Repair.Expected != (Link{start.Seq, start.Hash}) || next.Seq != start.Seq+2 {
		t.Errorf("%+v, next %d", r, next.Seq)
	}
}

// What a start says of the configuration and of the log is not said again when its run is orphaned.
func TestOrphanSaysNothingTwice(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	mustAppend(t, l, startRecord("r1"))
	must(t, os.Truncate(filepath.Join(dir, lockName), 0))
	r := startRecord("r2")
	r.Config = []ConfigFile{{Path: "/x.toml", SHA256: ""}}
	run, _, err := l.Begin(r)
	must(t, err)
	run.release()
	must(t, l.Recover())
	lines := linesOf(t, dir)
	for i, want := range []bool{false, true, false} {
		if got := strings.Contains(lines[i], `"configuration":`) && strings.Contains(lines[i], `"repair":`); got != want {
			t.Errorf("record %d: %s", i+1, lines[i])
		}
	}
	if got := actions(verify(t, dir)); got != "execution-start execution-start execution-orphaned" {
		t.Errorf("records %s", got)
	}
}

// A writer that dies behind the first record of all leaves no note of it, which means nothing.
func TestKilledAtTheFirstRecord(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	mustAppend(t, l, startRecord("r1"))
	must(t, os.WriteFile(filepath.Join(dir, lockName), fmt.Appendf(nil, "%020d %s\n", 0, origin.hash), 0o600)) // as extend leaves it before the write
	mustAppend(t, l, startRecord("r2"))
	if got := actions(verify(t, dir)); got != "execution-start execution-start" {
		t.Errorf("records %s", got)
	}
}

func TestPolicyChange(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	const etc, own, odd = "/etc/py3run/config.toml", "/home/alice/.config/py3run/config.toml", "/tmp/a b\n\"ä\".toml"
	for i, c := range []struct {
		files []ConfigFile
		want  string // the changes: reason, path, old and new hash, by their first letters
	}{
		{[]ConfigFile{{Path: etc, SHA256: a}, {Path: own, SHA256: ""}}, ""},
		{[]ConfigFile{{Path: etc, SHA256: a}, {Path: own, SHA256: ""}}, ""},
		{[]ConfigFile{{Path: etc, SHA256: b}, {Path: own, SHA256: ""}}, "file-changed " + etc + " a b"},
		{[]ConfigFile{{Path: etc, SHA256: b}, {Path: own, SHA256: a}}, "file-appeared " + own + "  a"},
		{[]ConfigFile{{Path: etc, SHA256: b}, {Path: odd, SHA256: a}}, ""}, // named instead of the user's own, which nobody looked for
		{[]ConfigFile{{Path: etc, SHA256: ""}, {Path: own, SHA256: b}}, "file-removed " + etc + " b ,file-changed " + own + " a b"},
		{[]ConfigFile{{Path: etc, SHA256: ""}, {Path: odd, SHA256: b}}, "file-changed " + odd + " a b"},
		{nil, ""},
	} {
		r := startRecord(fmt.Sprint("r", i))
		r.Config = c.files
		run, _, err := l.Begin(r)
		must(t, err)
		r.Config = nil
		_, err = run.End(r)
		must(t, err)
		if got := changesIn(t, dir); got != c.want {
			t.Errorf("%d: changes %q, want %q", i, got, c.want)
		}
		must(t, os.Rename(filepath.Join(dir, currentName), filepath.Join(dir, segmentName(uint64(len(verify(t, dir)))))))
		must(t, os.WriteFile(filepath.Join(dir, currentName), nil, 0o600))
	}
}

// changesIn are the policy changes of the current segment.
func changesIn(t *testing.T, dir string) string {
	t.Helper()
	first := func(hash string) string { return hash[:min(1, len(hash))] }
	var changes []string
	for _, line := range linesOf(t, dir) {
		var r Record
		if json.Unmarshal([]byte(line), &r) != nil || r.Event.Action != PolicyChanged {
			continue
		}
		if r.User.Name != "alice" || r.Policy == nil {
			t.Fatalf("%s", line)
		}
		changes = append(changes, fmt.Sprintf("%s %s %s %s", r.Event.Reason, r.Policy.Path, first(r.Policy.OldSHA256), first(r.Policy.NewSHA256)))
	}
	return strings.Join(changes, ",")
}

// What is remembered of files has a bound, and what a full disk leaves of it harms nothing.
func TestPolicyMemoryIsBounded(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	hash := strings.Repeat("c", 64)
	for i := range 300 {
		r := startRecord(fmt.Sprint("r", i))
		r.Config = []ConfigFile{{Path: fmt.Sprintf("/tmp/%060d.toml", i), SHA256: hash}}
		mustAppend(t, l, r)
	}
	text, err := os.ReadFile(filepath.Join(dir, lockName))
	must(t, err)
	if len(text) > rememberedSize+filesMost || !strings.HasSuffix(string(text), fmt.Sprintf("%060d.toml\"\n", 299)) {
		t.Errorf("%d bytes, the last %.100s", len(text), text[len(text)-100:])
	}
	must(t, os.Truncate(filepath.Join(dir, lockName), int64(len(text)-10)))
	for _, hash := range []string{hash, strings.Repeat("d", 64)} {
		r := startRecord("next")
		r.Config = []ConfigFile{{Path: fmt.Sprintf("/tmp/%060d.toml", 299), SHA256: hash}, {Path: fmt.Sprintf("/tmp/%060d.toml", 298), SHA256: hash}}
		mustAppend(t, l, r)
	}
	if got := strings.Count(changesIn(t, dir), "file-changed"); got != 2 {
		t.Errorf("%d changes", got)
	}
}

// A run that leaves no record, because a file says so, still leaves one of the file's change.
func TestComparePolicy(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	off := startRecord("off")
	file := func(hash string) []ConfigFile {
		return []ConfigFile{{Path: "/x.toml", SHA256: strings.Repeat(hash, 64)}}
	}
	must(t, ComparePolicy(dir, off, file("a")))
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a log where there was none: %v", err)
	}
	l := openLog(t, dir)
	r := startRecord("r1")
	r.Config = file("a")
	mustAppend(t, l, r)
	for _, hash := range []string{"a", "b", "b"} {
		must(t, ComparePolicy(dir, off, file(hash)))
	}
	if got := changesIn(t, dir); got != "file-changed /x.toml a b" {
		t.Errorf("changes %q", got)
	}
	if got := actions(verify(t, dir)); got != "execution-start policy-change" {
		t.Errorf("records %s", got)
	}
}

// A change says what has changed, and is asked for that only once. A change by a tool, with a record of its own, is not reported
// again; one that somebody else has made before it is.
func TestPolicyChanges(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	const path = "/etc/py3run/policy.toml"
	hash := func(letter string) string { return strings.Repeat(letter, 64) }
	asked := 0
	file := func(letter string) []ConfigFile {
		return []ConfigFile{{Path: path, SHA256: hash(letter), Describe: func(c *PolicyChange) {
			asked++
			c.Changes = []string{"from " + c.OldSHA256[:min(1, len(c.OldSHA256))] + " to " + letter}
		}}}
	}
	run := func(letter string) {
		r := startRecord("r")
		r.Config = file(letter)
		mustAppend(t, l, r)
	}
	tool := func(old, now string) {
		r := startRecord("")
		r.Event = Event{Action: UserChanged, Outcome: Success}
		r.Policy = &PolicyChange{Path: path, OldSHA256: hash(old), NewSHA256: hash(now), Changes: []string{"user alice: roles: + auditor"}}
		mustAppend(t, l, r)
	}
	tool("x", "a") // before any run
	run("a")
	run("b")
	run("b")
	tool("b", "c")
	run("c")
	tool("d", "e") // somebody has changed it to d
	run("e")
	want := "file-changed " + path + " a b,file-changed " + path + " c d"
	if got := changesIn(t, dir); got != want {
		t.Errorf("changes %q, want %q", got, want)
	}
	if text := strings.Join(linesOf(t, dir), ""); asked != 1 || !strings.Contains(text, `"changes":["from a to b"]`) {
		t.Errorf("asked %d times: %s", asked, text)
	}
	verify(t, dir)
}
