package ctl

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/scripts"
	"py3run/internal/activity"
	"py3run/internal/need"
)

// coded makes a run whose code is kept, and returns its id.
func (b *fixture) coded(code string, meanwhile ...audit.Record) string {
	b.Helper()
	b.runs++
	b.must(b.log.KeepCode([]byte(code)))
	sum := sha256.Sum256([]byte(code))
	rec := audit.Record{RunID: fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", b.runs), User: audit.User{Name: "alice"}, Host: audit.ThisHost(), Auth: audit.Auth{Method: audit.AuthAsserted},
		Code: audit.Code{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(code)), Stored: true}, Event: audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}}
	run, _, err := b.log.Begin(rec)
	b.must(err)
	for _, m := range meanwhile {
		_, err := b.log.Append(m)
		b.must(err)
	}
	rec.Status, rec.Event, rec.Hooks = "ok", audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Success, DurationNS: 1e9}, &activity.Summary{}
	rec.Process, rec.Isolation = &audit.Process{}, &audit.Isolation{Enforced: []string{}, Missing: []audit.Gap{}}
	_, err = run.End(rec)
	b.must(err)
	return rec.RunID
}

// proves makes the proof of a run.
func (b *fixture) proves(w witness, run string) []byte {
	b.Helper()
	b.said()
	b.must(b.proof(run, w.dir, w.keys, ""))
	out, _ := b.said()
	return []byte(out)
}

// judged is the verdict on a proof, and what is wrong with it.
func judged(t *testing.T, w witness, text []byte) string {
	t.Helper()
	keys, err := readKeys(w.keys)
	if err != nil {
		t.Fatal(err)
	}
	found := checkProof(text, keys)
	words := []string{string(found.verdict())}
	for _, c := range found {
		if c.Text == "" || strings.Contains(c.Text, "%!") {
			t.Errorf("claim %+v", c)
		}
		if c.Verdict != logWhole {
			words = append(words, c.Claim+": "+c.Text)
		}
	}
	return strings.Join(words, "\n")
}

// In trees of all sizes, the records of each run can be proved, and both verifiers agree.
func TestProofs(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w := b.witness()
	var runs []string
	for i := range 12 {
		runs = append(runs, b.coded(fmt.Sprintf("print(%d)", i)))
		for range i % 3 {
			_, err := b.log.Append(audit.Record{Event: audit.Event{Action: "new", Outcome: audit.Unknown}})
			b.must(err)
		}
		if i%4 == 3 {
			b.signs(w, time.Now())
		}
	}
	files := b.TempDir()
	for i, run := range runs {
		text := b.proves(w, run)
		if got := judged(t, w, text); got != "ok" {
			t.Errorf("run %d: %s\n%s", i, got, text)
		}
		b.must(os.WriteFile(filepath.Join(files, fmt.Sprint(i)), text, 0o600))
	}
	python, err := exec.LookPath("python3")
	need.That(t, "python", err)
	for i := 0; i < len(runs); i += 3 {
		file := filepath.Join(files, fmt.Sprint(i))
		out, err := exec.Command(python, "-I", "testdata/verify_proof.py", file, w.keys).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "holds: 2 records of run "+runs[i]) {
			t.Errorf("run %d in Python: %v\n%s", i, err, out)
		}
	}
	// The second verifier can say no, too.
	text, err := os.ReadFile(filepath.Join(files, "5"))
	b.must(err)
	for what, change := range map[string][2]string{
		"a line": {"alice", "alicf"}, "the time": {"time=2", "time=3"}, "an index": {`"index": 1`, `"index": 2`}, "the run": {`"run_id": "01a`, `"run_id": "01b`},
		"the code": {`"code": "c`, `"code": "d`},
	} {
		if !bytes.Contains(text, []byte(change[0])) {
			t.Fatalf("%s: %q is not in\n%s", what, change[0], text)
		}
		file := filepath.Join(files, "changed")
		b.must(os.WriteFile(file, bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1), 0o600))
		if out, err := exec.Command(python, "-I", "testdata/verify_proof.py", file, w.keys).CombinedOutput(); err == nil || !strings.Contains(string(out), "does not hold: ") {
			t.Errorf("%s: it holds in Python: %v\n%s", what, err, out)
		}
	}
}

// A proof in which any byte was changed, removed or put in does not hold.
func TestProofOfEveryByte(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w := b.witness()
	b.coded("x = 1")
	run := b.coded("print(2)\n", audit.Record{Event: audit.Event{Action: "new", Outcome: audit.Unknown}})
	b.coded("x = 3")
	b.signs(w, time.Now())
	text := b.proves(w, run)
	keys, err := readKeys(w.keys)
	b.must(err)
	if got := judged(t, w, text); got != "ok" {
		t.Fatalf("%s\n%s", got, text)
	}
	for i := range text {
		for _, made := range [][]byte{
			slices.Concat(text[:i], []byte{text[i] ^ 1}, text[i+1:]), slices.Concat(text[:i], []byte{text[i] ^ 0x20}, text[i+1:]),
			slices.Concat(text[:i], text[i+1:]), slices.Concat(text[:i], []byte{' '}, text[i:]), slices.Concat(text[:i], text[i:i+1], text[i:]), text[:i],
		} {
			if bytes.Equal(made, text) {
				continue
			}
			if found := checkProof(made, keys); !found.broken() {
				t.Errorf("with another byte %d of %q it holds", i, text[max(0, i-20):min(len(text), i+20)])
			}
		}
	}
	if found := checkProof(append(slices.Clone(text), '\n'), keys); !found.broken() {
		t.Error("with a byte more it holds")
	}
}

// Records that are in the log, but not of one run, are no proof, however they are put together.
func TestFalseProofs(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w, other := b.witness(), b.witness()
	one := b.coded("print(1)")
	two := b.coded("print(2)", audit.Record{RunID: "01a20d4b-0000-7000-8000-000000000002", Event: audit.Event{Action: audit.ExecutionCancel, Outcome: audit.Unknown}, Cancel: &audit.Cancel{}})
	b.signs(w, time.Now())
	parse := func(text []byte) proof {
		p, err := parseProofFile(text)
		b.must(err)
		return p
	}
	first, second := parse(b.proves(w, one)), parse(b.proves(w, two))
	if len(first.Records) != 2 || len(second.Records) != 3 {
		t.Fatalf("%d and %d records", len(first.Records), len(second.Records))
	}
	code := base64.StdEncoding.EncodeToString([]byte("print(3)"))
	for _, c := range []struct {
		name   string
		change func(p *proof)
		want   string
	}{
		{"as it is", func(*proof) {}, "ok"},
		{"without its code", func(p *proof) { p.Code = nil }, "ok"},
		{"other code", func(p *proof) { p.Code = &code }, "broken\ncode: it is not what was run"},
		{"the end of another run", func(p *proof) { p.Records[2] = first.Records[1] }, "broken\nrun: record 2 is of run " + one},
		{"no end", func(p *proof) { p.Records = p.Records[:2] }, "broken\nrun: record 4, execution-cancel, has no place there"},
		{"only the start", func(p *proof) { p.Records = p.Records[:1] }, "broken\nrun: record 3, execution-start, has no place there"},
		{"only the end", func(p *proof) { p.Records = p.Records[2:] }, "warning\nrun: the start of the run is not in the proof"},
		{"turned round", func(p *proof) { slices.Reverse(p.Records) }, "broken\nrun: record 5, execution-end, has no place there"},
		{"the end twice", func(p *proof) { p.Records = append(p.Records, p.Records[2]) }, "broken\nrun: record 5, execution-end, has no place there"},
		{"no record", func(p *proof) { p.Records = []provedRecord{} }, "broken\nform: not a proof: 0 records"},
		{"another run", func(p *proof) { p.RunID = one }, "broken\nrun: record 3 is of run " + two},
		{"another form", func(p *proof) { p.Form = "py3run-proof-2" }, "broken\nform: not a proof: form"},
		{"a path of nothing", func(p *proof) { p.Records[0].Path = nil }, "broken\nrecord: record 3 is not number 2"},
		{"a negative index", func(p *proof) { p.Records[0].Index = -1 }, "broken\nrecord: record 3 is not number -1"},
		{"another signature beside it", func(p *proof) {
			signer, _, err := readKey(other.key)
			b.must(err)
			c, err := parseCheckpoint([]byte(p.Checkpoint), must(readKeys(w.keys))(t))
			b.must(err)
			text, err := note.Sign(&note.Note{Text: c.signedText, Sigs: []note.Signature{c.signature}}, signer)
			b.must(err)
			p.Checkpoint = string(text)
		}, "broken\nsignature: checkpoint: it has more than one signature"},
	} {
		p := parse(must(second.encode())(t))
		c.change(&p)
		if got := judged(t, w, must(p.encode())(t)); !strings.HasPrefix(got, c.want) || c.want == "ok" && got != "ok" {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := judged(t, other, must(second.encode())(t)); !strings.HasPrefix(got, "broken\nsignature: checkpoint: not signed with a key that is trusted") {
		t.Errorf("with another key: %s", got)
	}
	for _, text := range []string{"", "{}", "[]", "null", `{"form":"py3run-proof-1"}`, strings.Repeat("[", 100_000)} {
		if got := judged(t, w, []byte(text)); !strings.HasPrefix(got, "broken\nform: not a proof") {
			t.Errorf("%.20q: %s", text, got)
		}
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// What cannot be proved says why, and what helps.
func TestNoProof(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w := b.witness()
	run := b.coded("print(1)")
	b.signs(w, time.Now())
	late := b.coded("print(2)")
	b.run("alice", "", nil)
	for _, c := range []struct{ run, want, hint string }{
		{late, "no checkpoint covers its record 4: the newest in " + w.dir + " is of 2 records", "py3runctl audit checkpoint --key KEY --out " + w.dir},
		{"01a20d4b-0000-7000-8000-000000000003", "it has no end record yet", ""},
		{"99999999", "no record of", ""},
	} {
		err := b.proof(c.run, w.dir, w.keys, "")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint(err), c.hint) {
			t.Errorf("%s: %v (%s), want %s", c.run, err, hint(err), c.want)
		}
	}
	if out, _ := b.said(); out != "" {
		t.Errorf("all the same: %s", out)
	}
	// A log that was changed after it was signed.
	b.proves(w, run)
	b.forge(func(r *audit.Record) bool {
		if r.Seq == 1 {
			r.User.Name = "mallory"
		}
		return true
	})
	if err := b.proof(run, w.dir, w.keys, ""); err == nil || !strings.Contains(err.Error(), "no checkpoint covers") && !strings.Contains(err.Error(), "not the one that") {
		t.Errorf("a changed log: %v", err)
	}
}

// Records that retention has removed do not hinder the proof of later ones.
func TestProofOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w := b.witness()
	b.past(200, 150, 10)
	b.run("alice", "ok", nil)
	b.signs(w, time.Now())
	for seq := range 15 { // the same run has its records on both sides of what will be removed
		if got := judged(t, w, b.proves(w, fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", seq))); got != "ok" {
			t.Errorf("before, run %d: %s", seq, got)
		}
	}
	b.must(b.prune(pruning{yes: true, force: true}, time.Now()))
	b.said()
	for _, signed := range []bool{false, true} {
		if signed {
			b.signs(w, time.Now())
		}
		for seq := 10; seq < 15; seq++ {
			if got := judged(t, w, b.proves(w, fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", seq))); got != "ok" {
				t.Errorf("after, run %d: %s", seq, got)
			}
		}
	}
	if err := b.proof("01a20d4b-0000-7000-8000-000000000009", w.dir, w.keys, ""); err == nil || !strings.Contains(err.Error(), "which begins with record 21: retention has removed what was before") {
		t.Errorf("a run that is gone: %v", err)
	}
}

// verify --proof needs no log, and its exit code is that of verify.
func TestVerifyProofCommand(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w := b.witness()
	run := b.coded("print(1)")
	b.signs(w, time.Now())
	at := t.TempDir()
	good, bad := filepath.Join(at, "good"), filepath.Join(at, "bad")
	b.must(b.proof(run, w.dir, w.keys, good))
	if out, errs := b.said(); !strings.HasPrefix(out, good+": 2 records of run "+run+", in the checkpoint of 2 records that py3run/") || errs != "" {
		t.Errorf("%s%s", out, errs)
	}
	text, err := os.ReadFile(good)
	b.must(err)
	b.must(os.WriteFile(bad, bytes.Replace(text, []byte("alice"), []byte("malic"), 1), 0o600))
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--proof", good, "--key", w.keys}, 0, "user alice (asserted)"},
		{[]string{"--proof", good, "--key", w.keys, "--format", "json"}, 0, `{"verdict":"ok"`},
		{[]string{"--proof", bad, "--key", w.keys}, verifyBroken, "THE PROOF DOES NOT HOLD"},
		{[]string{"--proof", filepath.Join(at, "none"), "--key", w.keys}, verifyUnreadable, "no such file"},
		{[]string{"--proof", good, "--key", filepath.Join(at, "none")}, verifyUnreadable, "no such file"},
		{[]string{"--proof", good}, exitUsage, "requires --key"},
		{[]string{"--proof", good, "--key", w.keys, "--receipts", bad}, exitUsage, "not with --receipts"},
	} {
		var out bytes.Buffer
		a := &app{out: &out, err: &out, dir: filepath.Join(at, "no log")}
		if code := a.main(append([]string{"audit", "verify"}, c.args...)); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: exit code %d, want %d\n%s", c.args, code, c.code, &out)
		}
	}
}

// The code that is shown is the code that was run, or it is said why there is none.
func TestShowCode(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.environ = []string{"XDG_STATE_HOME=" + b.TempDir()}
	kept := b.coded("print('\x1b[31m')\n\tx = '\u00e4'")
	b.must(b.showCode(kept))
	if out, _ := b.said(); out != "print('\x1b[31m')\n\tx = '\u00e4'" {
		t.Errorf("kept: %q", out)
	}
	people := b.logContext
	people.outIsTerminal = true
	b.must(people.showCode(kept))
	if out, _ := b.said(); out != "print('\\x1b[31m')\n\tx = '\u00e4'\n" {
		t.Errorf("for people: %q", out)
	}
	store, err := scripts.Open(scripts.Dir(config.StateDir(b.environ)))
	b.must(err)
	defer store.Close()
	sums := map[string]string{}
	for _, text := range []string{"print(1)", "print(2)"} {
		_, err := store.Save("tank", scripts.Draft{Code: []byte(text)}, scripts.Edit{By: "alice", May: func(*scripts.Meta) error { return nil }})
		b.must(err)
		sum := sha256.Sum256([]byte(text))
		sums[text] = hex.EncodeToString(sum[:])
	}
	stored := func(version, sum string, bytes int64) audit.Record {
		return audit.Record{User: audit.User{Name: "alice"}, Script: audit.Script{Name: "tank", Version: version, Source: audit.ScriptStored}, Code: audit.Code{SHA256: sum, Bytes: bytes}}
	}
	b.record(stored("1", sums["print(1)"], 8), "ok")                                                        // 2
	b.record(stored("2", sums["print(1)"], 8), "ok")                                                        // 3: not what was run
	b.record(stored("9", sums["print(1)"], 8), "ok")                                                        // 4
	b.record(audit.Record{Code: audit.Code{SHA256: sums["print(1)"], Bytes: 8}}, "ok")                      // 5
	b.record(audit.Record{Code: audit.Code{Source: "module"}}, "ok")                                        // 6
	b.record(audit.Record{Code: audit.Code{SHA256: strings.Repeat("a", 64), Bytes: 8, Stored: true}}, "ok") // 7
	broken := b.coded("print(8)")                                                                           // 8
	sum := sha256.Sum256([]byte("print(8)"))
	b.must(os.WriteFile(filepath.Join(b.dir, "code", hex.EncodeToString(sum[:])), []byte("print(9)"), 0o600))
	b.must(b.showCode("000000000002"))
	if out, _ := b.said(); out != "print(1)" {
		t.Errorf("stored: %q", out)
	}
	for run, want := range map[string]string{
		"000000000003": "tank@2 in the store is not what was run", "000000000004": "tank@9", "000000000005": "it was not kept", "000000000006": "py3run did not see it (module)",
		"000000000007": "it was kept, and is not there any more", broken: "it is not the code that was run",
	} {
		err := b.showCode(run)
		if out, _ := b.said(); err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%s: %v, want %s; %q", run, err, want, out)
		}
		if e := new(codeError); errors.As(err, &e) && strings.Contains(want, "not kept") && !strings.Contains(hint(err), "security.audit.log-code") {
			t.Errorf("%s: hint %s", run, hint(err))
		}
	}
}
