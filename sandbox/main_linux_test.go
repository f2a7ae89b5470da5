package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
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

	"py3run/sandbox/cgroup"
)

// The test binary plays the program: started with this as argv[0] it runs one of the commands
// below. The environment stays free for the tests, and the other arguments say what to do.
const helperName = "py3run-sandbox-test-helper"

func TestMain(m *testing.M) {
	if os.Args[0] != helperName {
		waitTogether()
		os.Exit(m.Run())
	}
	command, ok := helpers[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such helper command:", os.Args[1])
		os.Exit(99)
	}
	if err := command(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, os.Args[1]+":", err)
		os.Exit(99)
	}
	os.Exit(0)
}

// waitTogether has more tests run at once than there are processors, unless the command line says
// how many: most of them wait for limits to strike.
func waitTogether() {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0)))
	}
}

// processes are the process ids in /proc.
func processes() (pids []int) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// need skips a test that this machine cannot run, having really tried. What PY3RUN_TEST_REQUIRE
// lists (root, userns, namespaces) must be there: then it fails instead.
func need(t *testing.T, what string) {
	t.Helper()
	err := needs[what]()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("PY3RUN_TEST_REQUIRE"), ","), what) {
		t.Fatalf("needs %s, which PY3RUN_TEST_REQUIRE lists: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}

var needs = map[string]func() error{
	"root": func() error {
		if os.Geteuid() != 0 {
			return errors.New("this is an ordinary user")
		}
		return nil
	},
	"namespaces":   sync.OnceValue(func() error { return try(os.Geteuid() != 0) }),
	"userns":       sync.OnceValue(func() error { return try(true) }),
	"memory-group": func() error { return tryGroup(cgroup.Limits{Memory: 1 << 30, Processes: 100}) },
	"quota":        func() error { return tryGroup(cgroup.Limits{CPUs: 1}) },
	"listener": sync.OnceValue(func() error {
		spec := command("exit", "0")
		spec.Activity, spec.DenyCalls, spec.OnMissing = Required, true, Warn
		r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard}, OwnChild)
		if err != nil {
			return err
		}
		r.Release()
		for _, g := range r.Wait(nil, nil).Protection.Gaps {
			if g.Name == activityMeasure {
				return errors.New(g.Why)
			}
		}
		return nil
	}),
	"landlock": func() error {
		if landlockVersion() < 3 {
			return fmt.Errorf("version %d", landlockVersion())
		}
		return nil
	},
}

func tryGroup(l cgroup.Limits) error {
	g, gaps, err := cgroup.Find("").Make(fmt.Sprintf("py3run-test-%016x", rand.Uint64()), l)
	if err != nil {
		return err
	}
	defer g.Remove()
	defer g.Close()
	for _, gap := range gaps {
		return errors.New(gap.Controller + ": " + gap.Why)
	}
	return nil
}

func try(userNS bool) error {
	r, err := attempt{Namespace, userNS}.start(command("exit", "0"), IO{Stdout: io.Discard, Stderr: io.Discard}, &cgroup.Group{}, nil, nil)
	if err != nil {
		return err
	}
	if out := r.Wait(nil, nil); out.ExitCode != 0 || out.Signal != 0 {
		return fmt.Errorf("a program in namespaces ended with %d, %v", out.ExitCode, out.Signal)
	}
	return nil
}

var self = sync.OnceValue(func() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
})

// command is a Spec for one of the helpers, with a wall limit that only a hanging test meets.
func command(args ...string) Spec {
	return Spec{Path: self(), Args: append([]string{helperName}, args...), Dir: "/", Method: Process, FirstFile: 100,
		Env:    []string{"GORACE=atexit_sleep_ms=0"}, // else the race detector waits a second at every exit
		Limits: Limits{Wall: time.Minute}, Grace: 50 * time.Millisecond}
}

// shell is a Spec for a script.
func shell(script string) Spec {
	s := command()
	s.Path, s.Args, s.Env = "/bin/sh", []string{"sh", "-c", script}, []string{"PATH=/usr/bin:/bin"}
	return s
}

// eachMethod runs a test with every method that works here, side by side.
func eachMethod(t *testing.T, test func(t *testing.T, m Method)) {
	t.Helper()
	for _, m := range []Method{Namespace, Process} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			if m == Namespace {
				need(t, "namespaces")
			}
			test(t, m)
		})
	}
}

// An output collects a stream and can be waited on.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// A trial is one run of a test.
type trial struct {
	*Running
	out, err output
	ended    Outcome // once it was waited for
}

// begin starts a program whose end the test is interested in. It does not outlive the test.
func begin(t *testing.T, spec Spec, files ...*os.File) *trial {
	t.Helper()
	r := &trial{}
	running, err := Start(spec, IO{Stdout: &r.out, Stderr: &r.err, Files: files}, OwnChild)
	if err != nil {
		t.Fatal(err)
	}
	r.Running = running
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("stdout: %.2000s\nstderr: %.2000s", r.out.String(), r.err.String())
		}
	})
	return r
}

// end waits for the end.
func (r *trial) end(signals <-chan os.Signal, disk func() int64) Outcome {
	r.Release()
	return r.Wait(signals, disk)
}

// Wait is that of the Running, and keeps the outcome.
func (r *trial) Wait(signals <-chan os.Signal, disk func() int64) Outcome {
	r.ended = r.Running.Wait(signals, disk)
	return r.ended
}

// Protection is what was in force. The run has ended.
func (r *trial) Protection() Protection { return r.ended.Protection }

// execute runs a program to its end.
func execute(t *testing.T, spec Spec, files ...*os.File) (Outcome, *trial) {
	t.Helper()
	r := begin(t, spec, files...)
	return r.end(nil, nil), r
}

// reported runs a program that reports about itself.
func reported(t *testing.T, spec Spec, files ...*os.File) (report, *trial) {
	t.Helper()
	out, r := execute(t, spec, files...)
	var found report
	if err := json.Unmarshal([]byte(r.out.String()), &found); err != nil {
		t.Fatalf("%v: %+v, %q, %q", err, out, r.out.String(), r.err.String())
	}
	return found, r
}

// eventually polls: how long it takes says something of the machine only.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

// ready waits until the program has said so. From now on the test has to call end.
func (r *trial) ready(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(r.out.String(), "ready\n") {
		if time.Now().After(deadline) {
			r.Kill()
			r.Wait(nil, nil)
			t.Fatal("the program is not ready after 30 s")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// mark makes a word that marks the processes of one test in their arguments, and ends them all with
// the test.
func mark(t *testing.T) string {
	m := fmt.Sprintf("py3run-test-mark-%016x", rand.Uint64())
	t.Cleanup(func() {
		for _, pid := range marked(m) {
			t.Errorf("process %d was still there at the end of the test", pid)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return m
}

// marked are the living processes with a mark.
func marked(mark string) (pids []int) {
	for _, pid := range processes() {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err == nil && bytes.Contains(text, []byte(mark)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// openDescriptors is for a test binary that nothing else runs in at the moment.
func openDescriptors(t *testing.T) []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		names = append(names, e.Name()+" "+target)
	}
	return names
}
