package cmd_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A launcher whose output nobody reads still ends: when its run is over, and at a signal.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	interpreter := findPython(t)
	for _, c := range []struct {
		name    string
		args    []string
		request string
		merged  bool // standard error is the same pipe
		signals int  // how many SIGTERM to send
		code    int
		want    string // a part of standard error
	}{
		{"run at its limit", []string{"run", "--timeout-seconds", "1", "-c", "while 1: print('x' * 1000)"}, "", false, 0, 124, "write output: "},
		{"run that has ended", []string{"run", "--timeout-seconds", "1", "-c", "import os; os.write(1, b'x' * 100000)"}, "", false, 0, 125, "write output: "},
		{"both streams", []string{"run", "--timeout-seconds", "1", "-c", "while 1: print('x' * 1000)"}, "", true, 0, 124, ""},
		{"run and two signals", []string{"run", "-c", "import signal\nsignal.signal(15, signal.SIG_IGN)\nwhile 1: print('x' * 1000)"}, "", false, 2, 143, "write output: "},
		{"the result of exec, and a signal", []string{"exec"}, `{"code": "result = 'x' * 1000000"}`, false, 1, 143, "before the result was read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			defer write.Close()
			var errs bytes.Buffer
			run := exec.Command("py3run", c.args...)
			run.Stdin, run.Stdout, run.Stderr = strings.NewReader(c.request), write, &errs
			if c.merged {
				run.Stderr = write
			}
			run.Env = append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER="+interpreter, "PY3RUN_CONFIG=", "XDG_CONFIG_HOME="+dir, "PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(dir, "audit"))
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(time.Minute, func() {
				t.Error("it does not end")
				run.Process.Kill()
			})
			defer late.Stop()
			if c.signals > 0 {
				waitUntil(t, "the pipe is full", func() bool {
					n, err := unix.Poll([]unix.PollFd{{Fd: int32(write.Fd()), Events: unix.POLLOUT}}, 0)
					return err == nil && n == 0
				})
			}
			for range c.signals {
				run.Process.Signal(syscall.SIGTERM)
				waitUntil(t, "the signal has arrived", func() bool { return !pending(run.Process.Pid, syscall.SIGTERM) })
			}
			run.Wait()
			if code := run.ProcessState.ExitCode(); code != c.code || !strings.Contains(errs.String(), c.want) {
				t.Errorf("exit code %d, want %d; stderr %q", code, c.code, errs.String())
			}
		})
	}
}

// waitUntil waits for a condition, for a minute.
func waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for start := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("waited for a minute until %s", what)
		}
	}
}

// pending says whether a process has not yet taken a signal that was sent to it.
func pending(pid int, signal syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(status), "ShdPnd:")
	var set uint64
	fmt.Sscanf(rest, "%x", &set)
	return set&(1<<(signal-1)) != 0
}
