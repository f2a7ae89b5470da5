package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A hundred runs at once in one launcher: each has its own outcome, and nothing is left of them in
// the launcher.
func TestManyRuns(t *testing.T) {
	t.Parallel()
	text, err := helper("many", "100").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, text)
	}
}

// many is a launcher of many runs.
func many(args []string) error {
	methods := []Method{Process}
	if needs["namespaces"]() == nil {
		methods = append(methods, Namespace)
	}
	run := func(i int) error {
		r := manyRuns[i%len(manyRuns)]
		spec := r.spec(i)
		spec.Method, spec.Activity, spec.DenyCalls = methods[i/len(manyRuns)%len(methods)], BestEffort, i%3 == 0
		var out bytes.Buffer
		running, err := Start(spec, IO{Stdout: &out, Stderr: io.Discard}, OwnChild)
		if err != nil {
			return err
		}
		running.Release() // some have ended already
		if o := running.Wait(nil, nil); !r.want(i, o, out.String()) {
			return fmt.Errorf("run %d, %s: %+v, output %q", i, r.name, o, out.String())
		}
		return nil
	}
	for i := range 2 * len(manyRuns) { // what Go opens once for itself
		if err := run(i); err != nil {
			return err
		}
	}
	before, open := runtime.NumGoroutine(), numbersOpen()
	failed := make([]error, number(args[0]))
	var all sync.WaitGroup
	for i := range failed {
		all.Go(func() { failed[i] = run(i) })
	}
	all.Wait()
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before || numbersOpen() > open; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d goroutines, %d descriptors, before: %d, %d", runtime.NumGoroutine(), numbersOpen(), before, open)
		}
	}
	return errors.Join(failed...)
}

func numbersOpen() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// manyRuns are kinds of runs, and what comes of the i-th run.
var manyRuns = []struct {
	name string
	spec func(i int) Spec
	want func(i int, o Outcome, text string) bool
}{
	{"exit code", func(i int) Spec { return shell("echo " + strconv.Itoa(i) + "; exit " + strconv.Itoa(i)) },
		func(i int, o Outcome, text string) bool {
			return o.Reason == Finished && o.ExitCode == i && text == strconv.Itoa(i)+"\n"
		}},
	{"signal", func(i int) Spec { return shell("kill -USR1 $$") },
		func(_ int, o Outcome, text string) bool { return o.Reason == Finished && o.Signal == syscall.SIGUSR1 }},
	{"wall limit", func(i int) Spec {
		s := shell("echo begun; exec sleep 60")
		s.Limits.Wall, s.Limits.CPU = 500*time.Millisecond, time.Minute
		return s
	}, func(_ int, o Outcome, text string) bool { return o.Reason == WallLimit && o.Began == false }},
	{"umask", func(i int) Spec {
		mask := 0o70 | i%8
		s := shell("umask")
		s.Umask = &mask
		return s
	}, func(i int, o Outcome, text string) bool { return text == fmt.Sprintf("%04o\n", 0o70|i%8) }},
	{"much output", func(i int) Spec { return shell("head -c 300000 /dev/zero") },
		func(_ int, o Outcome, text string) bool { return o.ExitCode == 0 && len(text) == 300000 }},
}

// What one run's code does to the launcher's score, the others do not take for the launcher's own.
func TestScoreOfManyRuns(t *testing.T) {
	t.Parallel()
	need(t, "root")
	need(t, "namespaces")
	text, err := helper("scored-many").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, text)
	}
}

func scoredMany([]string) error {
	const path = "/proc/self/oom_score_adj"
	if err := os.WriteFile(path, []byte("100"), 0); err != nil {
		return err
	}
	var all sync.WaitGroup
	failed := make([]error, 10)
	for i := range failed {
		all.Go(func() {
			spec := shell("for i in 1 2 3 4 5; do echo 777 > /proc/1/oom_score_adj; sleep 0.03; done")
			spec.Method = Namespace
			r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard}, OwnChild)
			if err == nil {
				r.Release()
				r.Wait(nil, nil)
			}
			failed[i] = err
		})
		time.Sleep(10 * time.Millisecond) // each begins while another one is at it
	}
	all.Wait()
	if text, _ := os.ReadFile(path); strings.TrimSpace(string(text)) != "100" {
		failed = append(failed, fmt.Errorf("the score is %s", text))
	}
	return errors.Join(failed...)
}

// A panic in a goroutine of a run ends that run, and is in its outcome.
func TestFault(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		word := mark(t)
		for _, tt := range []struct {
			name   string
			script string
			stdout io.Writer
			disk   func() int64
		}{
			{"in the writer", "echo x; exec sleep 60", panicking{}, nil},
			{"in the writer, at the end", "echo x", panicking{}, nil},
			{"in what measures the disk", "exec sleep 60", io.Discard, func() int64 { panic("no disk") }},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				spec := shell(tt.script + " # " + word)
				spec.Method, spec.Limits.Disk = m, 1<<30
				r, err := Start(spec, IO{Stdout: tt.stdout, Stderr: io.Discard}, OwnChild)
				if err != nil {
					t.Fatal(err)
				}
				r.Release()
				began := time.Now()
				o := r.Wait(nil, tt.disk)
				if o.Fault == nil || !strings.Contains(o.Fault.Error(), "panic: no ") || !strings.Contains(o.Fault.Error(), "reentrant_linux_test.go") {
					t.Errorf("fault %v", o.Fault)
				}
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("it took %v", took)
				}
				eventually(t, "the end of the run", func() bool { return len(marked(word+" ")) == 0 })
			})
		}
	})
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("no writer") }

// The umask is read without being changed.
func TestUmaskOf(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/status"
	for text, want := range map[string]int{"Name:\tx\nUmask:\t0027\nState:\tS\n": 0o27, "Name:\tx\n": -1, "Name:\tx\nUmask:\todd\n": -1} {
		check(t, os.WriteFile(path, []byte(text), 0o600))
		got := -1
		if mask := umaskOf(path); mask != nil {
			got = *mask
		}
		if got != want {
			t.Errorf("%q: %o, want %o", text, got, want)
		}
	}
	if umaskOf("/proc/self/status") == nil {
		t.Error("this process has none")
	}
}

// Every mode of a method, and the order in which they are tried.
func TestAttempts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method Method
		root   bool
		want   []attempt
	}{
		{Namespace, true, []attempt{{Namespace, false}, {Namespace, true}}},
		{Namespace, false, []attempt{{Namespace, true}}},
		{Auto, true, []attempt{{Namespace, false}, {Namespace, true}, {Process, false}}},
		{Auto, false, []attempt{{Namespace, true}, {Process, false}}},
		{Process, true, []attempt{{Process, false}}},
		{Process, false, []attempt{{Process, false}}},
	} {
		if got := attempts(tt.method, tt.root); !slices.Equal(got, tt.want) {
			t.Errorf("%s, root %t: %v, want %v", tt.method, tt.root, got, tt.want)
		}
	}
}

// What a function has made is undone after an error and after a panic, which goes on.
func TestOnFailure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		do     func() error
		undone bool
		fault  any
	}{
		{"success", func() error { return nil }, false, nil},
		{"an error", func() error { return io.EOF }, true, nil},
		{"a panic", func() error { panic("a fault") }, true, "a fault"},
	} {
		undone := false
		fault := func() (fault any) {
			defer func() { fault = recover() }()
			func() (err error) {
				defer onFailure(&err, func() { undone = true })
				return tt.do()
			}()
			return nil
		}()
		if undone != tt.undone || fault != tt.fault {
			t.Errorf("%s: undone %t, panic %v", tt.name, undone, fault)
		}
	}
}
