package sandbox

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a terminal for a test.
func terminal(t *testing.T) *Terminal {
	t.Helper()
	pty, err := OpenTerminal(nil, &unix.Winsize{Row: 25, Col: 81})
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(pty.Close)
	return pty
}

// atTerminal starts a program at a terminal and opens its gate.
func atTerminal(t *testing.T, spec Spec, pty *Terminal) (*Running, *output, chan Outcome) {
	t.Helper()
	shown := &output{}
	r, err := Start(spec, IO{Stdout: shown, Stderr: shown, Terminal: pty}, OwnChild)
	if err != nil {
		t.Fatal(err)
	}
	r.Release()
	ended := make(chan Outcome, 1)
	go func() { ended <- r.Wait(nil, nil) }()
	return r, shown, ended
}

func shows(t *testing.T, o *output, text string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(o.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the terminal shows %q, want %q in it", o.String(), text)
		}
	}
}

// Init leads the session, and the program its foreground group.
func TestTerminal(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		pty := terminal(t)
		spec := shell(`read pid comm state ppid group session tty front rest < /proc/$$/stat
			[ $pid = $group ] && [ $group = $front ] && [ $ppid = $session ] && [ $tty != 0 ] && stty size < /dev/tty; read line; echo "got $line"`)
		spec.Method, spec.MinimalDev = m, m == Namespace
		_, shown, ended := atTerminal(t, spec, pty)
		shows(t, shown, "25 81\r\n")
		io.WriteString(pty, "this\r")
		if out := <-ended; out.Reason != Finished || out.ExitCode != 0 {
			t.Errorf("outcome %+v", out)
		}
		shows(t, shown, "this\r\ngot this\r\n")
	})
}

// A program that is stopped from its terminal is reported, and can be continued with its whole group.
func TestTerminalStops(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		pty := terminal(t)
		spec := shell("sleep 60 & echo up; wait")
		spec.Method = m
		_, shown, ended := atTerminal(t, spec, pty)
		shows(t, shown, "up\r\n")
		for _, stop := range []func(){pty.Stop, func() { io.WriteString(pty, "\x1a") }} {
			stop()
			<-pty.Stopped()
			pty.Pause()
			pty.Continue()
		}
		select {
		case <-pty.Stopped():
			t.Error("stopped once more")
		default:
		}
		io.WriteString(pty, "\x03") // ends the shell, too
		if out := <-ended; out.Signal != syscall.SIGINT || out.Reason != Finished {
			t.Errorf("outcome %+v, terminal %q", out, shown)
		}
	})
}

// While its user has stopped a run, it is not idle.
func TestPauseIsNotIdle(t *testing.T) {
	t.Parallel()
	pty := terminal(t)
	r := &Running{terminal: pty}
	look := r.progress()
	if again := r.progress(); again != look {
		t.Errorf("progress without a sign of it: %d, then %d", look, again)
	}
	pty.Pause()
	for range 3 {
		if now := r.progress(); now == look {
			t.Error("no progress while it is paused")
		} else {
			look = now
		}
	}
	pty.Continue()
	if now := r.progress(); now == look {
		t.Error("the end of a pause is no progress")
	} else {
		look = now
	}
	if now := r.progress(); now != look {
		t.Error("progress after the pause")
	}
	io.WriteString(pty, "x")
	if now := r.progress(); now == look {
		t.Error("typing is no progress")
	}
}

// When its terminal goes away, the program gets SIGHUP.
func TestTerminalCut(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		pty := terminal(t)
		spec := shell("while :; do echo x; done")
		spec.Method = m
		r, err := Start(spec, IO{Stdout: goneReader{}, Stderr: goneReader{}, Terminal: pty}, OwnChild)
		if err != nil {
			t.Fatal(err)
		}
		r.Release()
		if out := r.Wait(nil, nil); out.Signal != syscall.SIGHUP {
			t.Errorf("outcome %+v", out)
		}
	})
}

// A goneReader is one that has gone away.
type goneReader struct{}

func (goneReader) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// Standard error can go elsewhere. The program has no more descriptors than without a terminal: its
// streams, gate and dump pipe (and what ls opens).
func TestTerminalAndPipe(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		pty := terminal(t)
		out, errs := &output{}, &output{}
		spec := shell("[ -t 0 ] && [ -t 1 ] && ! [ -t 2 ] && echo out && echo err >&2; ls /proc/self/fd | wc -w")
		spec.Method = m
		r, err := Start(spec, IO{Stdout: out, Stderr: errs, Terminal: pty}, OwnChild)
		if err != nil {
			t.Fatal(err)
		}
		r.Release()
		r.Wait(nil, nil)
		if out.String() != "out\r\n6\r\n" || errs.String() != "err\n" {
			t.Errorf("standard output %q, error %q", out, errs)
		}
	})
}

// A start that fails leaves the terminal for the next attempt.
func TestTerminalOfFailedStart(t *testing.T) {
	t.Parallel()
	pty := terminal(t)
	spec := shell("")
	spec.Path = "/nonexistent"
	if _, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard, Terminal: pty}, OwnChild); err == nil {
		t.Fatal("it starts")
	}
	_, shown, ended := atTerminal(t, shell("echo up"), pty)
	<-ended
	if shown.String() != "up\r\n" {
		t.Errorf("the terminal shows %q", shown)
	}
}
