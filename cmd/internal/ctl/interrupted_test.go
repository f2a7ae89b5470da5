package ctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
)

// TestRestoreUntil is the child of the tests below: it kills itself at a step of a restore.
func TestRestoreUntil(t *testing.T) {
	step := os.Getenv("PY3RUN_TEST_RESTORE_STEP")
	if step == "" {
		return
	}
	restoreStep = func(at string) {
		if at == step {
			unix.Kill(os.Getpid(), unix.SIGKILL)
		}
	}
	a := hostApp(os.Getenv("PY3RUN_TEST_RESTORE"), os.Getenv("PY3RUN_TEST_RESTORE_LOG"))
	a.out, a.err = os.Stdout, os.Stdout
	os.Exit(a.main([]string{"restore", os.Getenv("PY3RUN_TEST_RESTORE_FILE")}))
}

// killRestore starts a restore that is killed at a step.
func (h *host) killRestore(file, step string) {
	h.Helper()
	c := exec.Command(os.Args[0], "-test.run", "^TestRestoreUntil$")
	c.Env = append(os.Environ(), "PY3RUN_TEST_RESTORE="+h.home, "PY3RUN_TEST_RESTORE_LOG="+h.dir, "PY3RUN_TEST_RESTORE_FILE="+file, "PY3RUN_TEST_RESTORE_STEP="+step)
	said, _ := c.CombinedOutput()
	if s := c.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() {
		h.Fatalf("%s: not killed: %s", step, said)
	}
}

// restores are the reasons of the records of restores.
func (h *host) restores() (reasons []string) {
	h.Helper()
	r, err := audit.OpenReader(h.dir)
	h.must(err)
	defer r.Close()
	for line, err := range r.Records(audit.Position{}) {
		h.must(err)
		if line.Action == audit.PolicyRestored {
			rec, err := line.Record()
			h.must(err)
			reasons = append(reasons, rec.Event.Reason)
		}
	}
	return reasons
}

// Killed at any step, a restore is taken back or finished by the next command: never half of it.
func TestInterruptedRestore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		step     string
		finished bool
		records  string
	}{
		{"made", false, ""},
		{"unpacked", false, ""},
		{"written down", false, "interrupted"},
		{"recorded", false, "before interrupted"},
		{"exchanged", true, "before after"},
		{"replaced", true, "before after"},
		{"told", true, "before after after"}, // rather twice than never
	} {
		for _, there := range []bool{true, false} {
			name := tt.step
			if !there {
				name += ", nothing was there"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				h.save("tank", "print(1)\n")
				file := filepath.Join(h.home, "b.tar.gz")
				h.mustCall("backup", file)
				state := filepath.Join(h.home, "state", "py3run")
				if there {
					h.save("tank", "print(2)\n")
				} else {
					h.must(os.RemoveAll(filepath.Join(state, "scripts")))
				}
				h.mustCall("user", "disable", "alice")
				h.killRestore(file, tt.step)
				if left := leftRestores(state); len(left) != 1 {
					t.Fatalf("the killed restore leaves %q", left)
				}
				out, errs := h.mustCall("user", "list")
				if left := leftRestores(state); len(left) != 0 || (tt.records != "") != strings.Contains(errs, "was interrupted") {
					t.Errorf("%q is left; it says %s", left, errs)
				}
				want := map[bool]string{true: "print(1)\n", false: "print(2)\n"}[tt.finished]
				s, err := h.store().Resolve("tank")
				switch {
				case !there && !tt.finished:
					if err == nil {
						t.Errorf("there is a script: %v", s)
					}
				case err != nil || string(s.Code) != want:
					t.Errorf("%v, %v", s, err)
				}
				if disabled := strings.Contains(out, `"disabled":true`); disabled == tt.finished {
					t.Errorf("finished %v: %s", tt.finished, out)
				}
				kept, _ := filepath.Glob(filepath.Join(state, "replaced-*", "scripts", "names", "tank", "meta.json"))
				if (len(kept) == 1) != (tt.finished && there) {
					t.Errorf("kept: %q", kept)
				}
				if left, _ := filepath.Glob(filepath.Join(state, "replaced-*", "*.*")); len(left) != 0 {
					t.Errorf("it keeps %q", left)
				}
				if got := strings.Join(h.restores(), " "); got != tt.records {
					t.Errorf("records: %s, want %s", got, tt.records)
				}
				if _, errs := h.mustCall("audit", "verify"); errs != "" {
					t.Error(errs)
				}
				h.save("tank", "print(3)\n") // no lock is left
			})
		}
	}
}

// A policy that was changed after the kill is newer than the backup's, and stays.
func TestInterruptedRestoreAndANewerPolicy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	file := filepath.Join(h.home, "b.tar")
	h.mustCall("backup", file)
	h.save("tank", "print(2)\n")
	h.mustCall("user", "disable", "alice")
	h.killRestore(file, "exchanged")
	policy := filepath.Join(h.home, "config", "py3run", access.FileName)
	h.must(os.WriteFile(policy, []byte("version = 1\n[user.carol]\n"), 0o600))
	out, errs := h.mustCall("user", "list")
	if !strings.Contains(out, "carol") || !strings.Contains(errs, "the policy was changed since") {
		t.Errorf("%s%s", out, errs)
	}
	if got := strings.Join(h.restores(), " "); got != "before after" {
		t.Error(got)
	}
}

// The next restore goes on with the one before it; a dry run and one that is alive are left alone.
func TestRestoreAfterAnInterruptedOne(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	file := filepath.Join(h.home, "b.tar")
	h.mustCall("backup", file)
	h.save("tank", "print(2)\n")
	h.mustCall("user", "disable", "alice")
	h.killRestore(file, "exchanged")
	state := filepath.Join(h.home, "state", "py3run")
	h.mustCall("restore", "--dry-run", file)
	if left := leftRestores(state); len(left) != 1 {
		t.Errorf("after a dry run: %q", left)
	}
	alive, release, err := restoreDir(state)
	h.must(err)
	out, errs := h.mustCall("restore", file)
	if !strings.Contains(out, "nothing was to change") || !strings.Contains(errs, "is finished now") {
		t.Errorf("%s%s", out, errs)
	}
	if left := leftRestores(state); len(left) != 1 || left[0] != alive {
		t.Errorf("%q, want %s", left, alive)
	}
	release()
	h.mustCall("user", "list")
	if left := leftRestores(state); len(left) != 0 {
		t.Errorf("%q", left)
	}
}

// A small file that unpacks to much is refused before it fills the disk.
func TestDecompressionBomb(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	w := tar.NewWriter(z)
	const each = 8 << 20
	for i := range 10 {
		h.must(w.WriteHeader(&tar.Header{Name: "scripts/objects/" + strings.Repeat(string(rune('0'+i)), 64), Mode: 0o600, Typeflag: tar.TypeReg, Size: each}))
		_, err := io.CopyN(w, zeros{}, each)
		h.must(err)
	}
	h.must(w.Close())
	h.must(z.Close())
	if bomb.Len() > 1<<20 {
		t.Fatalf("%d bytes are no bomb", bomb.Len())
	}
	file := filepath.Join(h.home, "bomb.tgz")
	h.must(os.WriteFile(file, bomb.Bytes(), 0o600))
	for _, args := range [][]string{{"restore", file}, {"restore", "--dry-run", file}} {
		code, _, errs := h.call(args...)
		if want := "it unpacks to more than 67108864 bytes, which is too much for a file of its size"; code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%q: %d, %s", args, code, errs)
		}
	}
	if left := leftRestores(filepath.Join(h.home, "state", "py3run")); len(left) != 0 {
		t.Errorf("%q", left)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A backup that restore would refuse is not written.
func TestBackupThatCompressesTooWell(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		h.save(name, strings.Repeat("#", 15<<20)+"\n# "+name+"\n")
	}
	code, _, errs := h.call("backup", filepath.Join(h.home, "b.tgz"))
	if code != 1 || !strings.Contains(errs, "compress so well that restore would refuse it") || !strings.Contains(errs, "hint: write it uncompressed") {
		t.Errorf("%d, %s", code, errs)
	}
	file := filepath.Join(h.home, "b.tar")
	h.mustCall("backup", file)
	h.mustCall("restore", file)
}
