package cmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/wire"
)

// A signal that comes when the run is over and its result is not told yet changes nothing, nor does a second one: the run ended by itself, and a
// caller that reads gets its one line. The test holds the lock of the log, so that the launcher waits in between.
func TestSignalBehindTheRun(t *testing.T) {
	t.Parallel()
	for number, times := range map[syscall.Signal]int{syscall.SIGTERM: 1, syscall.SIGINT: 2, syscall.SIGHUP: 1} {
		t.Run(number.String(), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			began, goOn := filepath.Join(p.dir, "began"), filepath.Join(p.dir, "go")
			c := p.command("exec", "--audit-line=off")
			c.Stdin = bytes.NewReader(mustJSON(t, map[string]any{"code": fmt.Sprintf(
				"import os, time\nopen(%q, 'w').close()\nwhile not os.path.exists(%q): time.sleep(0.005)\nresult = 'x' * 100000", began, goOn)}))
			var out, errs bytes.Buffer
			c.Stdout, c.Stderr = &out, &errs
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
			waitUntil(t, "the code runs", func() bool { return exists(began) })
			lock, err := os.Open(filepath.Join(p.dir, "audit", ".lock"))
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(goOn, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "the run is over", func() bool { return len(children(c.Process.Pid)) == 0 })
			for range times {
				c.Process.Signal(number)
				waitUntil(t, "the signal has arrived", func() bool { return !pending(c.Process.Pid, number) })
			}
			lock.Close()
			c.Wait()
			var r answer
			if err := json.Unmarshal(out.Bytes(), &r); err != nil || strings.Count(out.String(), "\n") != 1 {
				t.Fatalf("%v: %.300s", err, out.String())
			}
			if r.Status != wire.StatusOK || len(r.Result) != 100002 || c.ProcessState.ExitCode() != 0 || errs.Len() != 0 {
				t.Errorf("status %s, exit code %d, result of %d bytes, stderr %q", r.Status, c.ProcessState.ExitCode(), len(r.Result), errs.String())
			}
			if end := p.end(t); end.Status != "ok" {
				t.Errorf("recorded %+v", end)
			}
		})
	}
}

// children are the processes that the threads of a process have started and that still are there.
func children(pid int) []string {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var list []string
	for _, file := range files {
		text, _ := os.ReadFile(file)
		list = append(list, strings.Fields(string(text))...)
	}
	return list
}

// Between a signal of the caller and SIGKILL a program has security.grace-seconds to clean up: not less when the caller closes its end
// of standard output at the same time, as java.lang.Process.destroy does, and no more than a second signal leaves.
func TestGrace(t *testing.T) {
	t.Parallel()
	const tidies = `
import os, signal, sys, time
def tidy(*_):
    open(os.path.join(%[1]q, "asked"), "w").close()
    time.sleep(1.2)
    open(os.path.join(%[1]q, "tidied"), "w").close()
    sys.exit(5)
signal.signal(signal.SIGTERM, tidy)
open(os.path.join(%[1]q, "began"), "w").close()
time.sleep(100)
`
	for _, c := range []struct {
		name, command, grace string
		close                bool // the reader's end of standard output, with the first signal
		signals              int
		tidied               bool
	}{
		{"exec", "exec", "3", false, 1, true},
		{"run", "run", "3", false, 1, true},
		{"exec and its reader goes", "exec", "3", true, 1, true},
		{"exec and a second signal", "exec", "300", false, 2, false},
		{"run and a second signal", "run", "300", false, 2, false},
		{"exec by default", "exec", "0.5", false, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			code := fmt.Sprintf(tidies, p.dir)
			run := p.command(c.command, "--grace-seconds", c.grace)
			if c.command == "run" {
				run.Args = append(run.Args, "--result-file", filepath.Join(p.dir, "result"), "-c", code)
			} else {
				run.Stdin = bytes.NewReader(mustJSON(t, map[string]any{"code": code}))
			}
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			run.Stdout = write
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			write.Close()
			exists := func(name string) bool { _, err := os.Stat(filepath.Join(p.dir, name)); return err == nil }
			waitUntil(t, "the code runs", func() bool { return exists("began") })
			if c.close {
				read.Close()
			}
			run.Process.Signal(syscall.SIGTERM)
			waitUntil(t, "the program has got the signal", func() bool { return exists("asked") })
			for range c.signals - 1 {
				run.Process.Signal(syscall.SIGTERM)
			}
			run.Wait()
			end := p.end(t)
			if exists("tidied") != c.tidied || end.Status != "cancelled" || run.ProcessState.ExitCode() != 143 && !c.close {
				t.Errorf("tidied up %v, recorded %q, exit code %d", exists("tidied"), end.Status, run.ProcessState.ExitCode())
			}
			if result, err := os.ReadFile(filepath.Join(p.dir, "result")); c.command == "run" && !bytes.Contains(result, []byte(`"status":"cancelled"`)) {
				t.Errorf("%v: the file has %q", err, result)
			}
			if killed := end.Process.Signal == "SIGKILL"; killed == c.tidied {
				t.Errorf("ended by %q", end.Process.Signal)
			}
		})
	}
}
