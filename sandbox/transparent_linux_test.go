package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// beginTransparent starts a transparent program that has the descriptors inherit, and pipes as output.
func beginTransparent(t *testing.T, spec Spec, inherit ...int) *trial {
	t.Helper()
	r := &trial{}
	spec.Transparent = true
	running, err := Start(spec, IO{Stdout: &r.out, Stderr: &r.err, Inherit: append([]int{}, inherit...)}, OwnChild)
	if err != nil {
		t.Fatal(err)
	}
	r.Running = running
	return r
}

func TestTransparent(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		var ends [2]int
		if err := unix.Pipe2(ends[:], 0); err != nil { // not O_CLOEXEC: the program keeps it at its execve
			t.Fatal(err)
		}
		defer unix.Close(ends[0])
		unix.Write(ends[1], []byte("inherited\n"))
		unix.Close(ends[1])
		fd := strconv.Itoa(ends[0])
		spec := shell(`echo $0; ls /proc/self/fd | tr '\n' ' '; cat /proc/self/fd/` + fd + `; exit 7`)
		spec.Method, spec.Args = m, append(spec.Args, "zero")
		r := beginTransparent(t, spec, ends[0])
		if r.held == nil {
			t.Error("the program is not held")
		}
		out := r.end(nil, nil)
		lines := strings.Split(r.out.String(), " inherited\n")
		if out.ExitCode != 7 || !out.Began || len(lines) != 2 || !strings.HasPrefix(lines[0], "zero\n") {
			t.Errorf("%+v\n%s%s", out, r.out.String(), r.err.String())
		}
		for _, n := range strings.Fields(lines[0])[1:] {
			if n != "1" && n != "2" && n != fd && n != "0" && n != "3" { // ls itself opens 0, where that is free, or 3
				t.Errorf("descriptor %s is open: %q", n, lines[0])
			}
		}
	})
}

func TestTransparentIsNotExecuted(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell("")
		spec.Method, spec.Path = m, filepath.Join(t.TempDir(), "absent")
		r := beginTransparent(t, spec)
		var failed *StepError
		if err := r.Release(); !errors.As(err, &failed) || failed.Step != "execve" || failed.Err != unix.ENOENT {
			t.Errorf("Release: %v", err)
		}
		r.Wait(nil, nil)
	})
}

// Nothing of a program that is not released has happened.
func TestTransparentIsNotReleased(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		file := filepath.Join(t.TempDir(), "file")
		spec := shell("> " + file)
		spec.Method = m
		r := beginTransparent(t, spec)
		r.Kill()
		if out := r.Wait(nil, nil); out.Began {
			t.Errorf("%+v", out)
		}
		if _, err := os.Lstat(file); err == nil {
			t.Error("the program has run")
		}
	})
}

// Signals go on to the program, as many as come, and end nothing. The end of the caller does.
func TestTransparentSignals(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell(`n=0; trap 'n=$((n+1)); echo $n' TERM; trap '' INT; kill -HUP $$; echo ready; while :; do sleep 0.01; done`)
		spec.Method, spec.Ignored = m, []syscall.Signal{unix.SIGHUP}
		r := beginTransparent(t, spec)
		signals := make(chan os.Signal)
		go func() {
			for _, line := range []string{"ready\n", "1\n", "2\n", "3\n"} {
				for end := time.Now().Add(time.Minute); !strings.HasSuffix(r.out.String(), line) && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
				if line != "3\n" {
					signals <- unix.SIGTERM
				}
			}
			signals <- unix.SIGINT // which it ignores
			signals <- CallerGone
		}()
		out := r.end(signals, nil)
		if out.Reason != Cancelled || out.Cancel != 0 || !strings.HasPrefix(r.out.String(), "ready\n1\n2\n3\n") {
			t.Errorf("%+v %q %q", out, r.out.String(), r.err.String())
		}
	})
}

func TestLinks(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	dir := t.TempDir()
	link, file := filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := os.Symlink("/bin/false", link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spec := shell(`readlink ` + link + `; ` + link + ` one; readlink ` + file + `; ` + file + ` two; ls /proc/self/status`)
	spec.Method, spec.Links = Namespace, []Link{{link, "/bin/echo"}, {file, "/bin/echo"}, {filepath.Join(dir, "absent"), "/bin/echo"}}
	out, r := execute(t, spec)
	if got, want := r.out.String(), "/bin/echo\none\n/bin/echo\ntwo\n/proc/self/status\n"; got != want || slices.ContainsFunc(out.Protection.Gaps, func(g Gap) bool { return g.Name == linkMeasure }) {
		t.Errorf("it printed %q%q, want %q; %+v", got, r.err.String(), want, out.Protection)
	}
	if to, err := os.Readlink(link); to != "/bin/false" {
		t.Error("outside the link leads to", to, err)
	}
}

// Where no small file system can be mounted for the links, the program starts without them, its /proc is
// the right one, and the outcome says what is missing.
func TestLinksAreRefused(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/bin/false", link); err != nil {
		t.Fatal(err)
	}
	c := helper("linkless", link, filepath.Join(t.TempDir(), "absent"))
	c.Path = self()
	out, err := c.CombinedOutput()
	if want := "/bin/false\n/proc/self/status\ntrue\n"; err != nil || string(out) != want {
		t.Errorf("%v: %q, want %q", err, out, want)
	}
}

// linkless is a launcher that the kernel refuses file systems mounted with the options of that for the
// links. It runs a program with links, and says whether they are among what is missing.
func linkless(links []string) error {
	const number, flags = 0, 16 + 3*8 // in struct seccomp_data; the low half of the fourth argument
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_MOUNT, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.MS_NOSUID | unix.MS_NODEV, Jf: 1},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES)},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread() // the filter is this thread's, and that of what it starts
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); e != 0 {
		return e
	}
	spec := shell("readlink " + links[0] + "; ls /proc/self/status")
	spec.Method = Namespace
	for _, path := range links {
		spec.Links = append(spec.Links, Link{path, "/bin/echo"})
	}
	r, err := Start(spec, IO{Stdout: os.Stdout, Stderr: os.Stderr}, OwnChild)
	if err != nil {
		return err
	}
	r.Release()
	gaps := r.Wait(nil, nil).Protection.Gaps
	fmt.Println(slices.ContainsFunc(gaps, func(g Gap) bool { return g.Name == linkMeasure && g.Extra }))
	return nil
}

func TestInside(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	if Inside() {
		t.Skip("this test runs in a sandbox")
	}
	spec := command("inside")
	spec.Method = Namespace
	if out, r := execute(t, spec); r.out.String() != "true" {
		t.Errorf("in a run: %q %q %+v", r.out.String(), r.err.String(), out)
	}
	spec.Method = Process
	if out, r := execute(t, spec); r.out.String() != "true" {
		t.Errorf("without namespaces: %q %q %+v", r.out.String(), r.err.String(), out)
	}
}

// A reader that is slow gets all of the output, whatever signals the launcher hears of meanwhile, until
// one of them asks it to end.
func TestTransparentSlowReader(t *testing.T) {
	t.Parallel()
	for _, last := range []os.Signal{nil, unix.SIGTERM, CallerGone} {
		t.Run(fmt.Sprint(last), func(t *testing.T) {
			t.Parallel()
			spec := shell("printf %50000d 0")
			spec.Transparent = true
			out := &slowWriter{begun: make(chan struct{}), goOn: make(chan struct{})}
			r, err := Start(spec, IO{Stdout: out, Stderr: io.Discard, Inherit: []int{}}, OwnChild)
			if err != nil {
				t.Fatal(err)
			}
			signals, ended := make(chan os.Signal), make(chan Outcome)
			go func() {
				r.Release()
				ended <- r.Wait(signals, nil)
			}()
			<-out.begun
			eventually(t, "init to end", func() bool { return unix.Kill(r.pid, 0) == unix.ESRCH })
			var got Outcome
			over := false
			send := func(s os.Signal) {
				select {
				case signals <- s:
				case got = <-ended:
					over = true
				}
			}
			for range 50 { // more than Wait takes before it has heard of the end
				if !over {
					send(unix.SIGWINCH)
				}
			}
			if over {
				close(out.goOn)
				t.Fatalf("SIGWINCH has ended the wait for the reader: %+v", got)
			}
			if last == nil {
				close(out.goOn)
				got = <-ended
			} else {
				send(last)
				got = <-ended
				close(out.goOn)
			}
			if got.Undelivered[0] != (last != nil) || got.ExitCode != 0 || got.Reason != Finished || last == nil && out.size != 50000 {
				t.Errorf("%d bytes, %+v", out.size, got)
			}
		})
	}
}

// A slowWriter takes nothing until it may go on.
type slowWriter struct {
	begun, goOn chan struct{}
	once        sync.Once
	size        int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.begun) })
	<-w.goOn
	w.size += len(p)
	return len(p), nil
}
