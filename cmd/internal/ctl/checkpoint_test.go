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

	"py3run/audit"
)

// A witness is somebody with a key and a directory for checkpoints.
type witness struct {
	key, keys, dir string
}

func (b *fixture) witness() witness {
	b.Helper()
	at := b.TempDir()
	w := witness{filepath.Join(at, "key"), filepath.Join(at, "key.pub"), filepath.Join(at, "checkpoints")}
	a := &app{out: &bytes.Buffer{}}
	b.must(a.makeKey(w.key, "", time.Now()))
	return w
}

// signs makes a checkpoint and returns its path.
func (b *fixture) signs(w witness, now time.Time) string {
	b.Helper()
	b.said()
	b.must(b.checkpoint(w.key, w.dir, now))
	out, errs := b.said()
	if errs != "" {
		b.Errorf("on stderr: %s", errs)
	}
	path, _, _ := strings.Cut(out, ": ")
	return path
}

// against are the findings of verify with checkpoints, and how many could be compared.
func (b *fixture) against(w witness) string {
	b.Helper()
	rep, err := b.verify(verification{checkpoints: w.dir, keys: w.keys})
	b.must(err)
	text := fmt.Sprint(rep.checkpoints)
	for _, f := range rep.Findings {
		if f.Severity > audit.Note {
			text += " " + string(f.Kind)
		}
	}
	return text
}

// forge makes the log anew, with hashes that are right.
func (b *fixture) forge(change func(r *audit.Record) (keep bool)) {
	b.Helper()
	paths, err := filepath.Glob(filepath.Join(b.dir, "audit*.jsonl"))
	b.must(err)
	prev := strings.Repeat("0", 64)
	seq := uint64(0)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		b.must(err)
		var out []byte
		for line := range bytes.Lines(text) {
			var r audit.Record
			b.must(json.Unmarshal(line, &r))
			if seq == 0 {
				seq, prev = r.Seq-1, r.Prev
			}
			if !change(&r) {
				continue
			}
			seq++
			r.Seq, r.Prev = seq, prev
			made, err := json.Marshal(r)
			b.must(err)
			prev = fmt.Sprintf("%x", sha256.Sum256(made))
			out = append(append(out, made...), '\n')
		}
		b.must(os.WriteFile(path, out, 0o600))
	}
	b.must(os.WriteFile(filepath.Join(b.dir, ".lock"), fmt.Appendf(nil, "%020d %s\n", seq, prev), 0o600))
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w := b.witness()
	now := time.Now()
	if err := b.checkpoint(w.key, w.dir, now); err == nil || !strings.Contains(err.Error(), "it has no record") {
		t.Errorf("an empty log: %v", err)
	}
	b.run("alice", "ok", nil)
	first := b.signs(w, now)
	if filepath.Base(first) != "000000000002.note" {
		t.Errorf("it is in %s", first)
	}
	text, err := os.ReadFile(first)
	b.must(err)
	lines := strings.Split(string(text), "\n")
	if len(lines) != 7 || !strings.HasPrefix(lines[0], "py3run/") || lines[1] != "2" || len(lines[2]) != 44 || !strings.HasPrefix(lines[3], "py3run seq=2 hash=") || lines[4] != "" || !strings.HasPrefix(lines[5], "— py3run/") {
		t.Errorf("checkpoint\n%s", text)
	}
	b.must(b.checkpoint(w.key, w.dir, now))
	if out, _ := b.said(); !strings.Contains(out, "nothing was recorded since "+first) {
		t.Errorf("a second time it says %s", out)
	}
	for i := range 5 {
		b.run("alice", "ok", nil)
		b.signs(w, now.Add(time.Duration(i)*time.Minute))
	}
	if got := b.against(w); got != "6" {
		t.Errorf("verify: %s", got)
	}
	b.must(b.checkpoint(w.key, "", now)) // to standard output
	if out, _ := b.said(); strings.Count(out, "\n") != 6 {
		t.Errorf("it prints %s", out)
	}
	proof, err := os.ReadFile(filepath.Join(w.dir, "000000000006.proof"))
	b.must(err)
	if previous, hashes := parseProof(proof); previous != 4 || len(hashes) == 0 || !bytes.Contains(proof, []byte("\n\npy3run/")) {
		t.Errorf("proof\n%s", proof)
	}

	for _, c := range []struct {
		name string
		do   func(b *fixture, w *witness)
		want string // findings
		sign string // error of the next checkpoint
	}{
		{"nothing", func(*fixture, *witness) {}, "6", ""},
		{"made anew", func(b *fixture, w *witness) {
			b.forge(func(r *audit.Record) bool { r.User.Name = "mallory"; return true })
		}, "6" + strings.Repeat(" checkpoint-differs", 6), "that is of the log py3run/"},
		{"made anew from the fifth record on", func(b *fixture, w *witness) {
			b.forge(func(r *audit.Record) bool {
				if r.Seq >= 5 {
					r.User.Name = "mallory"
				}
				return true
			})
		}, "6" + strings.Repeat(" checkpoint-differs", 4), "its records were changed"},
		{"cut", func(b *fixture, w *witness) {
			b.forge(func(r *audit.Record) bool { return r.Seq <= 8 })
		}, "6" + strings.Repeat(" checkpoint-differs", 2), "of its 12 records only 8 are there"},
		{"another key", func(b *fixture, w *witness) { *w = witness{b.witness().key, b.witness().keys, w.dir} },
			"0" + strings.Repeat(" checkpoint-form", 6), ""},
		{"a changed checkpoint", func(b *fixture, w *witness) {
			path := filepath.Join(w.dir, "000000000006.note")
			text, err := os.ReadFile(path)
			b.must(err)
			b.must(os.WriteFile(path, bytes.Replace(text, []byte("\n6\n"), []byte("\n5\n"), 1), 0o600))
		}, "5 checkpoint-form", ""},
		{"no checkpoint", func(b *fixture, w *witness) {
			b.must(os.WriteFile(filepath.Join(w.dir, "x.note"), []byte("hello\n"), 0o600))
		}, "6 checkpoint-form", ""},
		// The key of today signs what was signed yesterday: it was not valid then. (systemd
		// CVE-2023-31439)
		{"signed again with a newer key", func(b *fixture, w *witness) {
			newer := b.witness()
			text, err := os.ReadFile(newer.keys)
			b.must(err)
			vkey := strings.Fields(string(text))[0]
			old, err := os.ReadFile(w.keys)
			b.must(err)
			b.must(os.WriteFile(w.keys, fmt.Appendf(old, "# since today\n%s from=%s\n", vkey, now.Add(time.Hour).UTC().Format(time.RFC3339)), 0o600))
			b.resign(w.dir, "000000000006", w.keys, newer.key, now)
		}, "5 checkpoint-form", ""},
		{"signed again with a newer key, and a new time", func(b *fixture, w *witness) {
			newer := b.witness()
			text, err := os.ReadFile(newer.keys)
			b.must(err)
			old, err := os.ReadFile(w.keys)
			b.must(err)
			b.must(os.WriteFile(w.keys, fmt.Appendf(old, "%s", text), 0o600))
			b.resign(w.dir, "000000000006", w.keys, newer.key, now.Add(24*time.Hour))
		}, "6 checkpoint-differs", ""},
		{"a key that has run out", func(b *fixture, w *witness) {
			old, err := os.ReadFile(w.keys)
			b.must(err)
			b.must(os.WriteFile(w.keys, fmt.Appendf(bytes.TrimSpace(old), " until=%s\n", now.Add(90*time.Second).UTC().Format(time.RFC3339)), 0o600))
		}, "3" + strings.Repeat(" checkpoint-form", 3), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := newFixture(t)
			v := w
			v.dir = filepath.Join(t.TempDir(), "checkpoints")
			v.keys = filepath.Join(t.TempDir(), "keys")
			keys, err := os.ReadFile(w.keys)
			own.must(err)
			own.must(os.WriteFile(v.keys, keys, 0o600))
			own.must(os.CopyFS(v.dir, os.DirFS(w.dir)))
			own.must(os.Remove(own.dir))
			own.must(os.CopyFS(own.dir, os.DirFS(b.dir)))
			own.must(os.Chmod(own.dir, 0o700))
			c.do(own, &v)
			if got := own.against(v); got != c.want {
				rep, _ := own.verify(verification{checkpoints: v.dir, keys: v.keys})
				t.Errorf("verify: %s, want %s: %+v", got, c.want, rep.Findings)
			}
			if c.sign != "" {
				if err := own.checkpoint(v.key, v.dir, now); err == nil || !strings.Contains(err.Error(), c.sign) {
					t.Errorf("the next is signed: %v, want %s", err, c.sign)
				}
			}
		})
	}
}

// resign signs a checkpoint again, with another key and time.
func (b *fixture) resign(dir, name, keys, key string, at time.Time) {
	b.Helper()
	trusted, err := readKeys(keys)
	b.must(err)
	path := filepath.Join(dir, name+noteSuffix)
	text, err := os.ReadFile(path)
	b.must(err)
	c, err := parseCheckpoint(text, trusted)
	b.must(err)
	signer, _, err := readKey(key)
	b.must(err)
	c.time = at
	b.must(c.sign(signer))
	b.must(os.WriteFile(path, c.text, 0o600))
}

// Checkpoints whose records retention has removed are compared by the proofs of those that follow.
func TestCheckpointAfterPrune(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w := b.witness()
	now := time.Now()
	b.past(200, 150, 100, 10)
	whole := map[string][]byte{}
	paths, err := filepath.Glob(filepath.Join(b.dir, "audit-*.jsonl"))
	b.must(err)
	for _, p := range paths {
		text, err := os.ReadFile(p)
		b.must(err)
		whole[p] = text
		b.must(os.Remove(p))
	}
	for _, p := range paths { // as the log grew
		b.must(os.WriteFile(p, whole[p], 0o600))
		b.signs2(w, now)
	}
	b.run("alice", "ok", nil)
	b.signs(w, now)
	if got := b.against(w); got != "5" {
		t.Fatalf("before: %s", got)
	}
	prune := func() {
		t.Helper()
		b.must(b.prune(pruning{force: true, yes: true}, time.Now()))
		b.said()
	}
	prune()
	if got := b.segments(); got != "-000000000031 " {
		t.Fatalf("left are %s", got)
	}
	if got := b.against(w); got != "5" {
		t.Errorf("after: %s", got)
	}
	b.run("alice", "ok", nil)
	last := b.signs(w, now)
	if _, err := os.Stat(strings.TrimSuffix(last, noteSuffix) + proofSuffix); err != nil {
		t.Errorf("no proof over the removal: %v", err)
	}
	if got := b.against(w); got != "6" {
		t.Errorf("one more: %s", got)
	}

	edit := func(name string, change func([]byte) []byte) (undo func()) {
		t.Helper()
		path := filepath.Join(w.dir, name)
		old, err := os.ReadFile(path)
		b.must(err)
		b.must(os.WriteFile(path, change(bytes.Clone(old)), 0o644))
		return func() { b.must(os.WriteFile(path, old, 0o644)) }
	}
	undo := edit("000000000020.proof", func([]byte) []byte { return nil })
	if got := b.against(w); got != "5 checkpoint-loose" {
		t.Errorf("without a proof: %s", got)
	}
	undo()
	undo = edit("000000000020.proof", func(text []byte) []byte {
		lines := bytes.SplitAfter(text, []byte("\n"))
		lines[1] = append([]byte(strings.Repeat("A", 43)+"="), '\n')
		return bytes.Join(lines, nil)
	})
	if got := b.against(w); got != "6 checkpoint-differs" {
		t.Errorf("with a wrong proof: %s", got)
	}
	undo()
	if got := b.against(w); got != "6" {
		t.Errorf("as it was: %s", got)
	}

	// Who has no checkpoint since the removal can still make one, without a proof.
	for _, name := range []string{"000000000042", "000000000045"} {
		os.Remove(filepath.Join(w.dir, name+noteSuffix))
		os.Remove(filepath.Join(w.dir, name+proofSuffix))
	}
	entries, err := os.ReadDir(w.dir)
	b.must(err)
	for _, e := range entries {
		if e.Name() >= "000000000011" {
			b.must(os.Remove(filepath.Join(w.dir, e.Name())))
		}
	}
	b.must(b.checkpoint(w.key, w.dir, now))
	if _, errs := b.said(); !strings.Contains(errs, "the records of "+filepath.Join(w.dir, "000000000010.note")+" are gone") {
		t.Errorf("on stderr: %s", errs)
	}
	if got := b.against(w); got != "1 checkpoint-loose" {
		t.Errorf("without those between: %s", got)
	}
}

// signs2 makes a checkpoint of a log whose note of the newest record is not there.
func (b *fixture) signs2(w witness, now time.Time) {
	b.Helper()
	b.must(b.checkpoint(w.key, w.dir, now))
	b.said()
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w := b.witness()
	if err := (&app{out: &bytes.Buffer{}}).makeKey(w.key, "", time.Now()); err == nil {
		t.Error("a key was overwritten")
	}
	if err := (&app{out: &bytes.Buffer{}}).makeKey(filepath.Join(t.TempDir(), "k"), "a b", time.Now()); err == nil {
		t.Error("a key with a blank in its name was made")
	}
	b.run("alice", "ok", nil)
	b.must(os.Chmod(w.key, 0o640))
	if err := b.checkpoint(w.key, "", time.Now()); err == nil || !strings.Contains(err.Error(), "is open to others (mode 0640)") {
		t.Errorf("a key for all to read: %v", err)
	}
	for _, c := range []struct{ text, want string }{
		{"", "no key"},
		{"# nothing\n", "no key"},
		{"hello\n", ":1: malformed verifier id"},
		{"@ since=2026-01-01T00:00:00Z\n", `:1: "since=2026-01-01T00:00:00Z": want from=TIME or until=TIME`},
		{"@ from=yesterday\n", `:1: "from=yesterday": want from=TIME or until=TIME`},
		{"\n@ from=2026-01-01T00:00:00Z until=2027-01-01T00:00:00Z\n", ""},
	} {
		public, err := os.ReadFile(w.keys)
		b.must(err)
		path := filepath.Join(t.TempDir(), "keys")
		b.must(os.WriteFile(path, []byte(strings.ReplaceAll(c.text, "@", strings.Fields(string(public))[0])), 0o600))
		_, err = readKeys(path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: error %v, want %s", c.text, err, c.want)
		}
	}
}
