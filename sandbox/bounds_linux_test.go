package sandbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ample is far above what anything here takes, and far below what it took without a bound.
const ample = 12 * time.Second

// Whoever writes to the dump pipe again and again does not put the end of a run off.
func TestDrippingDump(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell("trap : TERM; i=0; while [ $i -lt 3000 ]; do echo x >&9; sleep 0.01; i=$((i+1)); done")
		spec.Method, spec.FirstFile, spec.DumpSignal = m, 8, syscall.SIGUSR1
		spec.Args[2] = "trap : USR1; (trap '' USR1; " + spec.Args[2] + ") & wait; wait"
		spec.Limits.Wall, spec.Grace = 300*time.Millisecond, 100*time.Millisecond
		began := time.Now()
		out, _ := execute(t, spec)
		if out.Reason != WallLimit || len(out.Dump) == 0 || time.Since(began) > ample {
			t.Errorf("%v with %d bytes of the dump after %v", out.Reason, len(out.Dump), time.Since(began))
		}
	})
}

// unread is a reader that does not read.
type unread chan struct{}

func (u unread) Write([]byte) (int, error) { <-u; return 0, io.ErrClosedPipe }

// A reader that does not read is waited for as long as the run may last, and as the caller likes.
func TestUnreadOutput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		wall         time.Duration
		signals      int
		want         Reason
	}{
		{"a program that waits to be read", "yes", 300 * time.Millisecond, 0, WallLimit},
		{"a program that has ended", "sleep 0.2; echo text", time.Second, 0, Finished},
		{"one signal after the end", "sleep 0.2; echo text", 0, 1, Finished},
		{"two signals before", "trap '' TERM; yes", 0, 2, Cancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachMethod(t, func(t *testing.T, m Method) {
				spec := shell(c.script)
				spec.Method, spec.Limits.Wall, spec.Grace = m, c.wall, 100*time.Millisecond
				never := make(unread)
				defer close(never)
				r, err := Start(spec, IO{Stdout: never, Stderr: io.Discard}, OwnChild)
				check(t, err, r.Release())
				signals := make(chan os.Signal, c.signals)
				for range c.signals {
					time.AfterFunc(500*time.Millisecond, func() { signals <- syscall.SIGTERM })
				}
				began := time.Now()
				out := r.Wait(signals, nil)
				if out.Reason != c.want || out.Undelivered != [2]bool{true, false} || time.Since(began) > ample {
					t.Errorf("%v, undelivered %v, after %v", out.Reason, out.Undelivered, time.Since(began))
				}
			})
		})
	}
}

// The end of a program is seen, and as it was, also when a process of its own traces it and says nothing.
func TestTracedProgram(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	check(t, err)
	for how, want := range map[string]int32{"exit 7": 7 << 8, "kill -KILL $$": int32(unix.SIGKILL)} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			eachMethod(t, func(t *testing.T, m Method) {
				dir := t.TempDir()
				check(t, os.Symlink(self, filepath.Join(dir, helperName)))
				// From the tracing on the shell gets no signal, which would stop it.
				spec := shell("mkfifo p; " + helperName + " tracer $$ > p & read answer < p; [ $answer = traces ] || exit 99; " + how)
				spec.Method, spec.Dir, spec.Limits.Wall = m, dir, 20*time.Second
				spec.Env = []string{"PATH=/usr/bin:/bin:" + dir}
				out, _ := execute(t, spec)
				if out.ExitCode == 99 {
					t.Skip("a process may not trace its parent here")
				}
				code, signal := verdict(want)
				if out.Reason != Finished || out.ExitCode != code || out.Signal != signal {
					t.Errorf("%+v", out)
				}
			})
		})
	}
}

// Nor does a tracer of another thread than the first hide it.
func TestTracedThread(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := command("threaded")
		spec.Method, spec.Limits.Wall = m, 20*time.Second
		out, _ := execute(t, spec)
		if out.ExitCode == 98 {
			t.Skip("a process may not trace its parent here")
		}
		if out.Reason != Finished || out.ExitCode != 7 {
			t.Errorf("%+v", out)
		}
	})
}

// threaded has a child trace a thread of it that waits, and ends.
func threaded([]string) error {
	unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0)
	thread := make(chan int)
	for range 2 { // one of which may have the first thread
		go func() {
			runtime.LockOSThread()
			if id := unix.Gettid(); id != os.Getpid() {
				thread <- id
			}
			unix.Syscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
		}()
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	c := helper("tracer", fmt.Sprint(<-thread))
	c.Stdout = write
	if err := c.Start(); err != nil {
		return err
	}
	answer := make([]byte, 100)
	if n, _ := read.Read(answer); string(answer[:n]) != "traces\n" {
		os.Exit(98)
	}
	os.Exit(7)
	return nil
}

// tracer traces a thread and does not look at it again.
func tracer(args []string) error {
	runtime.LockOSThread()
	const seize = 0x4206
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, seize, uintptr(number(args[0])), 0, 0, 0, 0); errno != 0 {
		fmt.Println("refused")
		return errno
	}
	fmt.Println("traces")
	time.Sleep(time.Hour) // select {} would be a deadlock, which ends it
	return nil
}

// Root's code can write to init's oom_score_adj, which is the launcher's as well: that has its own again.
func TestScoreOfTheLauncher(t *testing.T) {
	t.Parallel()
	need(t, "root")
	need(t, "namespaces")
	for name, script := range map[string]string{
		"while it runs": "echo 777 > /proc/1/oom_score_adj; until [ $(cat /proc/1/oom_score_adj) != 777 ]; do sleep 0.05; done; echo back",
		"at its end":    "echo 777 > /proc/1/oom_score_adj; echo back",
	} {
		t.Run(name, func(t *testing.T) {
			text, err := helper("scored", script).CombinedOutput()
			if err != nil || string(text) != "back\n" {
				t.Errorf("%v: %s", err, text)
			}
		})
	}
}

// scored is a launcher of its own with its own score.
func scored(args []string) error {
	const path = "/proc/self/oom_score_adj"
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	spec := shell(args[0])
	spec.Method, spec.Limits.Wall = Namespace, 10*time.Second
	r, err := Start(spec, IO{Stdout: os.Stdout, Stderr: os.Stderr}, OwnChild)
	if err != nil {
		return err
	}
	r.Release()
	r.Wait(nil, nil)
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		return fmt.Errorf("%q, want %q", after, before)
	}
	return nil
}

// Whoever watches a run learns what it uses while it lives, and once that it is being ended.
func TestWatched(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		wall time.Duration
		want int // times that the end was asked for
	}{{"ended by itself", 0, 0}, {"ended at a limit", 600 * time.Millisecond, 1}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachMethod(t, func(t *testing.T, m Method) {
				looks, seen := make(chan Present, 1000), make(chan bool)
				spec := shell("head -c 1 <&3; exec sleep 0.1")
				if c.wall > 0 {
					spec = shell("sleep 100 & wait")
				}
				read, write, err := os.Pipe()
				check(t, err)
				defer read.Close()
				spec.Method, spec.Limits.Wall, spec.FirstFile = m, c.wall, 3
				stopped, once := 0, sync.Once{}
				r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard, Files: []*os.File{read},
					Watch: func(p Present) {
						looks <- p
						once.Do(func() { close(seen) })
					}, Stopping: func() { stopped++ }}, OwnChild)
				check(t, err, r.Release())
				go func() {
					<-seen // the program lives until it was looked at
					write.Close()
				}()
				r.Wait(nil, nil)
				close(looks)
				var last Present
				for p := range looks {
					if p.Wall <= last.Wall || p.CPU < last.CPU || p.Memory < 0 || p.Processes < 0 {
						t.Errorf("%+v behind %+v", p, last)
					}
					last = p
				}
				if last.Wall == 0 || stopped != c.want {
					t.Errorf("%+v, stopped %d times, want %d", last, stopped, c.want)
				}
			})
		})
	}
}
