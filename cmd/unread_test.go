package cmd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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
			ended := make(chan error, 1)
			go func() { ended <- run.Wait() }()
			late := time.After(time.Minute)
			for sent := 0; ; {
				select {
				case <-ended:
				case <-time.After(time.Second):
					if sent++; sent > 1 && sent <= c.signals+1 {
						run.Process.Signal(syscall.SIGTERM)
					}
					continue
				case <-late:
					run.Process.Kill()
					<-ended
					t.Error("it does not end")
				}
				break
			}
			if code := run.ProcessState.ExitCode(); code != c.code || !strings.Contains(errs.String(), c.want) {
				t.Errorf("exit code %d, want %d; stderr %q", code, c.code, errs.String())
			}
		})
	}
}
