package ctl

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
)

// TestToolsForEver is the child of TestKilledTools: it changes policy, keys and scripts until
// somebody ends it, or the test has gone.
func TestToolsForEver(t *testing.T) {
	home := os.Getenv("PY3RUN_TEST_TOOLS")
	if home == "" {
		return
	}
	a := hostApp(home, os.Getenv("PY3RUN_TEST_TOOLS_LOG"))
	a.out, a.err = os.Stdout, os.Stdout
	parent := os.Getppid()
	for i := 0; os.Getppid() == parent; i++ {
		backup := filepath.Join(home, fmt.Sprintf("b-%d-%d.tar.gz", os.Getpid(), i))
		for _, args := range [][]string{
			{"user", "change", "alice", "--full-name", fmt.Sprint("number ", i)},
			{"key", "create", "alice", "--out", filepath.Join(home, fmt.Sprintf("%d-%d.key", os.Getpid(), i))},
			{"backup", backup},
			{"restore", backup},
		} {
			if code := a.main(args); code != 0 {
				fmt.Println("FAILED", args)
				os.Exit(1)
			}
		}
	}
}

// Killed at any moment, the tools leave a whole policy, whole scripts, whole backups and whole keys.
func TestKilledTools(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("plant/tank", "print(1)\n")
	h.save("gone", "print(2)\n")
	rounds := 8
	if os.Getenv("PY3RUN_TEST_LONG") != "" {
		rounds = 300
	}
	policy := filepath.Join(h.home, "config", "py3run", access.FileName)
	state := filepath.Join(h.home, "state", "py3run")
	for range rounds {
		before, err := os.ReadFile(policy)
		h.must(err)
		c := exec.Command(os.Args[0], "-test.run", "^TestToolsForEver$")
		c.Env = append(os.Environ(), "PY3RUN_TEST_TOOLS="+h.home, "PY3RUN_TEST_TOOLS_LOG="+h.dir)
		var said strings.Builder
		c.Stdout = &said
		h.must(c.Start())
		for changed := false; !changed; time.Sleep(time.Millisecond) { // it has come to its changes
			now, err := os.ReadFile(policy)
			h.must(err)
			changed = string(now) != string(before)
		}
		time.Sleep(time.Duration(rand.IntN(200_000)) * time.Microsecond) // so that the moment differs; nothing waits for it
		c.Process.Kill()
		c.Wait()
		if strings.Contains(said.String(), "FAILED") {
			t.Fatal(said.String())
		}
		if _, findings := access.Check(policy); findings != nil {
			t.Fatalf("%v", findings)
		}
		h.must(checkScripts(scripts.Dir(state)))
		if s, err := h.store().Resolve("plant/tank"); err != nil || string(s.Code) != "print(1)\n" {
			t.Fatalf("%v, %v", s, err)
		}
		backups, _ := filepath.Glob(filepath.Join(h.home, "b-*.tar.gz"))
		for _, b := range backups {
			m, err := unpack(b, t.TempDir())
			if err != nil || len(m.Files) < 5 {
				t.Fatalf("%s: %v", b, err)
			}
			h.must(os.Remove(b))
		}
		h.mustCall("user", "list") // goes on with a restore that was killed
		if left := leftRestores(state); len(left) != 0 {
			t.Fatalf("%q", left)
		}
		replaced, _ := filepath.Glob(filepath.Join(state, "replaced-*"))
		for _, dir := range replaced {
			h.must(os.RemoveAll(dir))
		}
	}
	h.mustCall("user", "change", "alice", "--full-name", "at last")
	if list, err := filepath.Glob(filepath.Join(filepath.Dir(policy), ".*")); len(list) > 0 {
		t.Errorf("%q, %v: the next writer leaves what a killed one began", list, err)
	}
	keys, _ := filepath.Glob(filepath.Join(h.home, "*.key"))
	whole := 0
	for _, file := range keys {
		key, err := access.ReadKeyFile(file, time.Minute)
		if _, formed, sum := access.ParseKey(string(key)); err == nil && formed && sum {
			whole++
		}
	}
	if whole < len(keys)-rounds { // a file that was just begun is empty, and the policy does not have its key
		t.Errorf("%d of %d key files are whole", whole, len(keys))
	}
	if code := h.app.main([]string{"audit", "verify"}); code != 0 {
		out, errs := h.said()
		t.Error(errors.New(out + errs))
	}
}
