package sandbox

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"py3run/sandbox/cgroup"
)

// Somebody else than the caller ends a run as the caller's signal would, once, and can see what it uses meanwhile.
func TestHeed(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell("trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
		spec.Method, spec.Grace, spec.Limits = m, time.Minute, Limits{Wall: time.Minute, Memory: 1 << 30, Processes: 50}
		spec.Group.Name = t.Name()[strings.LastIndexByte(t.Name(), '/')+1:] + mark(t)
		var out output
		r, err := Start(spec, IO{Stdout: &out, Stderr: io.Discard}, OwnChild)
		if err != nil {
			t.Fatal(err)
		}
		r.Release()
		asked := 0
		r.Heed(func() syscall.Signal {
			if !strings.Contains(out.String(), "ready") {
				return 0
			}
			asked++
			init, group := r.Traces()
			if use, ok := cgroup.UseOf(group); init <= 0 || ok != (len(group) > 0) || ok && use.Processes >= 0 && use.Processes < 1 {
				t.Errorf("init %d, group %q: %+v, %t", init, group, use, ok)
			}
			return syscall.SIGTERM
		})
		got := r.Wait(nil, nil)
		if got.Reason != Cancelled || got.Cancel != syscall.SIGTERM || got.ExitCode != 7 || asked != 1 || !strings.HasSuffix(out.String(), "asked\n") {
			t.Errorf("%s, signal %v, exit code %d, asked %d times, %q", got.Reason, got.Cancel, got.ExitCode, asked, out.String())
		}
		if err := r.RemoveGroup(); err != nil {
			t.Error(err)
		}
	})
}

// A program that is stopped gets the signal that ends it at once, not only SIGKILL after the grace.
func TestCancelStopped(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell("trap 'echo asked; exit 7' TERM; echo ready; kill -STOP $$; while :; do sleep 0.05; done")
		spec.Method, spec.Grace = m, time.Minute
		r := begin(t, spec)
		r.Release()
		r.ready(t)
		eventually(t, "the program to stop", func() bool {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.program()))
			return strings.Contains(string(text), ") T ")
		})
		signals := make(chan os.Signal, 1)
		signals <- syscall.SIGTERM
		if out := r.Wait(signals, nil); out.Reason != Cancelled || out.Cancel != syscall.SIGTERM || out.ExitCode != 7 || r.out.String() != "ready\nasked\n" {
			t.Errorf("%+v, %q", out, r.out.String())
		}
	})
}
