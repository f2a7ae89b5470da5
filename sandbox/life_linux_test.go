package sandbox

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// launcher starts this binary as a launcher of its own; the test ends it.
func launcher(t *testing.T, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	c := helper(args...)
	c.Path = self()
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the marks are looked at
		c.Process.Kill()
		c.Wait()
	})
	return c, bufio.NewReader(out)
}

func TestLauncherDies(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		word := mark(t)
		c, out := launcher(t, "launch", string(m), helperName, "daemons", word, "stay")
		if line, err := out.ReadString('\n'); line != "ready\n" {
			t.Fatalf("the program says %q, %v", line, err)
		}
		if n := len(marked(word)); n < 4 { // itself and its daemons; the launcher's command line has the word as well
			t.Fatalf("%d processes with the mark, want at least 4", n)
		}
		c.Process.Kill()
		eventually(t, "the run to end with its launcher", func() bool { return len(marked(word)) == 0 })
	})
}

// A launcher that is killed while it sets runs up, starts and kills them leaves nothing either.
// Until execve, init and the program have the launcher's command line, and so the mark.
func TestLauncherDiesAtAnyMoment(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		var rounds sync.WaitGroup
		for range 2 {
			rounds.Go(func() {
				for range 25 {
					if t.Failed() {
						return
					}
					word := fmt.Sprintf("py3run-test-mark-%016x", rand.Uint64())
					c := helper("hammer", string(m), word)
					var stderr output
					c.Stderr = &stderr
					out, err := c.StdoutPipe()
					if err == nil {
						err = c.Start()
					}
					if err != nil {
						t.Error(err)
						return
					}
					line, _ := bufio.NewReader(out).ReadString('\n')
					time.Sleep(rand.N(30 * time.Millisecond)) // the random moment
					c.Process.Kill()
					c.Wait()
					if line != "ready\n" || stderr.String() != "" {
						t.Errorf("the launcher says %q, %q", line, stderr.String())
					}
					for _, pid := range remaining(word) {
						where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
						t.Errorf("process %d is left, in system call %s", pid, where)
						syscall.Kill(pid, syscall.SIGKILL)
					}
				}
			})
		}
		rounds.Wait()
	})
}

// remaining waits for the marked processes to end and returns those that do not. One empty look is
// not enough: a process that was cloned after the look began is not in it, and its dying parent has
// lost its command line already.
func remaining(word string) (pids []int) {
	deadline := time.Now().Add(30 * time.Second)
	for empty := 0; empty < 3 && time.Now().Before(deadline); {
		empty++
		if pids = marked(word); len(pids) > 0 {
			empty = 0
			time.Sleep(2 * time.Millisecond)
		}
	}
	return pids
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		word := mark(t)
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				spec := shell(fmt.Sprintf("echo %d; exit %d", i, i))
				spec.Method = m
				spec.Env = append(spec.Env, "MARK="+word)
				var out, stderr output
				r, err := Start(spec, IO{Stdout: &out, Stderr: &stderr}, OwnChild)
				if err != nil {
					t.Error(err)
					return
				}
				r.Release()
				end := r.Wait(nil, nil)
				if want := fmt.Sprintf("%d\n", i); end.ExitCode != i || end.Signal != 0 || out.String() != want || stderr.String() != "" {
					t.Errorf("run %d: %+v, %q, %q", i, end, out.String(), stderr.String())
				}
			})
		}
		all.Wait()
	})
}

// Not parallel: it counts what this process has, and nothing else may run in it.
func TestNothingLeaks(t *testing.T) {
	need := []Method{Process}
	if needs["namespaces"]() == nil {
		need = append(need, Namespace)
	}
	round := func(i int) {
		spec := command("exit", "0")
		spec.Method, spec.DenyNetwork, spec.Activity, spec.DenyCalls = need[i%len(need)], i%10 == 0, BestEffort, i%3 > 0
		switch i % 5 {
		case 1:
			spec.Path = "/no/such/program"
		case 2:
			spec.OnMissing = Refuse
		case 3:
			spec.Args = command("flood", "100000").Args
		case 4:
			spec.Args = command("linger").Args
		}
		r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard}, OwnChild)
		if err != nil {
			return
		}
		if i%5 == 4 {
			r.Kill()
		}
		r.Release()
		r.Wait(nil, nil)
	}
	for i := range 10 { // what Go opens once for itself
		round(i)
	}
	settle := func() (goroutines int, descriptors []string) {
		runtime.GC()
		return runtime.NumGoroutine(), openDescriptors(t)
	}
	goroutines, descriptors := settle()
	for i := range 200 {
		round(i)
	}
	eventually(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
	if _, now := settle(); len(now) > len(descriptors) {
		t.Errorf("descriptors before %q\nnow %q", descriptors, now)
	}
	if left := children(); len(left) > 0 {
		t.Errorf("children are left: %q", left)
	}
}

// children are the processes that have this one as parent, zombies too.
func children() (lines []string) {
	for _, pid := range processes() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if slices.Contains(fields[1:2], fmt.Sprint(os.Getpid())) {
			lines = append(lines, string(text))
		}
	}
	return lines
}
