package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
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

	"py3run/sandbox/cgroup"
)

// The test binary plays the program: started with this as argv[0] it runs one of the commands below. The environment stays free
// for the tests, and the other arguments say what to do.
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

// waitTogether has more tests run at once than there are processors, unless the command line says how many: most of them wait for limits to strike.
func waitTogether() {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0)))
	}
}

// A report is what a program finds out about itself.
type report struct {
	PID, PPID, SID, PGID, UID int
	Env                       []string
	Dir                       string
	Descriptors               []int
	Core, OpenFiles           uint64 // soft limits
	PIDs                      []int  // in /proc
	Interfaces                []string
	Status                    map[string]string // of /proc/self/status
}

var helpers = map[string]func(args []string) error{}

func init() { // here, because a launcher refers to helpers itself
	maps.Copy(helpers, map[string]func(args []string) error{
		"exit":    func(args []string) error { os.Exit(number(args[0])); return nil },
		"report":  func([]string) error { return json.NewEncoder(os.Stdout).Encode(lookAround()) },
		"die":     func(args []string) error { return die(syscall.Signal(number(args[0]))) },
		"look":    look,
		"gate":    readGate,
		"dump":    writeDump,
		"flood":   flood,
		"epipe":   writeUntilRefused,
		"confess": confess,
		"linger":  linger,
		"daemons": daemons,
		"orphan":  orphan,
		"connect": connect,
		"mask":    maskAndExec,
		"launch":  launchAndWait,
		"hammer":  launchForever,
		"holder":  holdOutput,
		"reserve": reserve,
		"dial": func(args []string) error {
			c, err := net.Dial("unix", args[0])
			if err == nil {
				c.Close()
			}
			return err
		},
		"killed":      startAndLinger,
		"burn":        burn,
		"unwaited":    unwaited,
		"blind":       blind,
		"weak":        weak,
		"mapped":      mapped,
		"ids":         idsOf,
		"clear":       clearTree,
		"starve":      starve,
		"tracer":      tracer,
		"scored":      scored,
		"many":        many,
		"scored-many": scoredMany,
		"threaded":    threaded,
	})
}

// reserve maps megabytes of memory and touches one page.
func reserve(args []string) error {
	m, err := unix.Mmap(-1, 0, number(args[0])<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		m[0] = 1
	}
	return err
}

// startAndLinger starts a run with a working directory and a control group and waits for its own end.
func startAndLinger(args []string) error {
	method, parent, word := Method(args[0]), args[1], args[2]
	name := fmt.Sprintf("py3run-test-%016x", rand.Uint64())
	w, err := MakeWorkdir(Dir{Path: filepath.Join(parent, name), Private: true})
	if err != nil {
		return err
	}
	if err := w.AddFile(".py", []byte("pass")); err != nil {
		return err
	}
	spec := shell("mkdir a; : > a/f; chmod 0 a; sleep 60; : " + word)
	spec.Method, spec.Dir, spec.Group.Name, spec.Limits.Memory = method, w.Path(), name, 1<<30
	r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard, Workdir: w}, OwnChild)
	if err != nil {
		return err
	}
	r.Release()
	r.Wait(nil, nil)
	return nil
}

// burn uses milliseconds of CPU time.
func burn(args []string) error {
	var usage syscall.Rusage
	for time.Duration(usage.Utime.Nano()+usage.Stime.Nano()) < time.Duration(number(args[0]))*time.Millisecond {
		syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	}
	return nil
}

// unwaited burns CPU time in one child after the other, and the kernel is told that nobody waits for them.
func unwaited(args []string) error {
	signal.Ignore(syscall.SIGCHLD)
	for range number(args[0]) {
		c := helper("burn", args[1])
		if err := c.Run(); err != nil && !errors.Is(err, syscall.ECHILD) {
			return err
		}
	}
	return nil
}

// blind runs a quiet program as an ordinary user who sees nothing of it in /proc, and reports its protection and outcome.
func blind([]string) error {
	runtime.LockOSThread()
	for _, err := range []error{unix.Unshare(unix.CLONE_NEWNS), unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, "hidepid=2"), unix.Setresgid(65534, 65534, 65534), unix.Setresuid(65534, 65534, 65534)} {
		if err != nil {
			return err
		}
	}
	spec := shell("sleep 1; exit 3")
	spec.Limits = Limits{Wall: time.Minute, CPU: time.Minute, Idle: 300 * time.Millisecond, Processes: 5}
	r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard}, OwnChild)
	if err != nil {
		return err
	}
	r.Release()
	return json.NewEncoder(os.Stdout).Encode(r.Wait(nil, nil))
}

// weak is a launcher that is root but may not administer the system, as in a container: it shows what a program in a user namespace makes of ids.
func weak(args []string) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", append([]string{helperName, "launch", "namespace", "/bin/sh", "-c"}, args...), nil)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func lookAround() report {
	var r report
	for n := range 5000 { // first: nothing here may have opened anything yet
		// Go itself opens an eventpoll, an eventfd and the CPU quota of its control group.
		link := linkOf(n)
		if _, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err == nil && !strings.HasPrefix(link, "anon_inode:") && !strings.HasPrefix(link, "/sys/fs/cgroup/") {
			r.Descriptors = append(r.Descriptors, n)
		}
	}
	r.PID, r.PPID, r.PGID, r.UID, r.Env = os.Getpid(), os.Getppid(), syscall.Getpgrp(), os.Getuid(), os.Environ()
	r.SID, _ = unix.Getsid(0)
	r.Dir, _ = os.Readlink("/proc/self/cwd")
	var l unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_CORE, &l)
	r.Core = l.Cur
	unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	r.OpenFiles = l.Cur
	r.PIDs = processes()
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		r.Interfaces = append(r.Interfaces, i.Name)
	}
	r.Status = map[string]string{}
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		r.Status[name] = strings.TrimSpace(value)
	}
	return r
}

func linkOf(fd int) string {
	link := make([]byte, 100)
	n, _ := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), link)
	return string(link[:max(0, n)])
}

// die ends this process by a signal as a program without Go's handlers would.
func die(s syscall.Signal) error {
	var action [32]byte // struct sigaction: SIG_DFL
	if s != syscall.SIGKILL && s != syscall.SIGSTOP {
		if _, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); e != 0 {
			return e
		}
	}
	syscall.Kill(os.Getpid(), s)
	return linger(nil)
}

func linger([]string) error { time.Sleep(time.Hour); return nil }

// look prints what there is at each path.
func look(paths []string) error {
	for _, p := range paths {
		if entries, err := os.ReadDir(p); err == nil {
			fmt.Printf("%s: %d entries\n", p, len(entries))
		} else if text, err := os.ReadFile(p); err == nil {
			fmt.Printf("%s: %q\n", p, text)
		} else {
			fmt.Printf("%s: %v\n", p, err)
		}
	}
	return nil
}

func readGate(args []string) error {
	fmt.Println("waiting")
	var b [1]byte
	n, err := unix.Read(number(args[0]), b[:])
	fmt.Println("read", n, b[0])
	return err
}

// writeDump writes a text to a descriptor: at once, or when a signal comes. Then it ignores every polite request.
func writeDump(args []string) error {
	fd, text := number(args[0]), []byte(args[1])
	if len(args) > 2 {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.Signal(number(args[2])))
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		<-c
		unix.Write(fd, text)
		return linger(nil)
	}
	_, err := unix.Write(fd, text)
	return err
}

func flood(args []string) error {
	line := bytes.Repeat([]byte("x"), 1000)
	var both sync.WaitGroup
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		both.Go(func() {
			for range number(args[0]) / len(line) {
				f.Write(line)
			}
		})
	}
	both.Wait()
	return nil
}

func writeUntilRefused([]string) error {
	signal.Ignore(syscall.SIGPIPE)
	for {
		if _, err := unix.Write(1, []byte("more\n")); err != nil {
			fmt.Fprintln(os.Stderr, unix.ErrnoName(err.(syscall.Errno)))
			return nil
		}
	}
}

// confess takes signals and tells which: it ends at the count's one, or never.
func confess(args []string) error {
	c := make(chan os.Signal, 9)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	fmt.Println("ready")
	for range number(args[0]) {
		fmt.Println((<-c).String())
	}
	os.Exit(7)
	return nil
}

func helper(args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Args = append([]string{helperName}, args...)
	return c
}

// daemons leaves three processes behind that nobody waits for, each in a session of its own, and ends, or lingers.
func daemons(args []string) error {
	for range 3 {
		if err := helper("orphan", args[0]).Run(); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	if len(args) > 1 {
		if args[1] == "kill-init" {
			syscall.Kill(os.Getppid(), syscall.SIGKILL)
		}
		signal.Ignore(syscall.SIGTERM)
		return linger(nil)
	}
	return nil
}

func orphan(args []string) error {
	c := helper("linger", args[0])
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c.Start()
}

// holdOutput leaves a process behind that holds the streams open.
func holdOutput(args []string) error {
	c := helper("linger", args[0])
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Start()
}

// connect talks to itself over the loopback.
func connect([]string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Write([]byte("hello"))
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	text, err := io.ReadAll(c)
	fmt.Printf("%s\n", text)
	return err
}

// maskAndExec becomes another helper, with SIGUSR2 blocked from its first instruction and SIGHUP and SIGPIPE ignored, as a Java parent leaves them.
func maskAndExec(args []string) error {
	runtime.LockOSThread()
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	blocked := uint64(1) << (syscall.SIGUSR2 - 1)
	if _, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&blocked)), 0, 8, 0, 0); e != 0 {
		return e
	}
	return syscall.Exec("/proc/self/exe", append([]string{helperName}, args...), nil)
}

// launchAndWait is a launcher: method, then the program and its arguments.
func launchAndWait(args []string) error {
	signal.Ignore(syscall.SIGPIPE)
	spec := Spec{Path: args[1], Args: args[1:], Dir: "/", Method: Method(args[0]), FirstFile: 100, Grace: time.Second}
	if args[1] == helperName {
		spec.Path = "/proc/self/exe"
	}
	r, err := Start(spec, IO{Stdout: os.Stdout, Stderr: os.Stderr}, OwnChild)
	if err != nil {
		return err
	}
	r.Wait(nil, nil)
	return nil
}

// launchForever starts one run after the other, several at a time, and kills each.
func launchForever(args []string) error {
	os.Stdout.WriteString("ready\n")
	for range 3 {
		go func() {
			for {
				spec := Spec{Path: "/proc/self/exe", Args: []string{helperName, "daemons", args[1]}, Dir: "/", Method: Method(args[0]), FirstFile: 100, Activity: BestEffort}
				r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard}, OwnChild)
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(99)
				}
				time.Sleep(rand.N(20 * time.Millisecond))
				r.Kill()
				r.Wait(nil, nil)
			}
		}()
	}
	return linger(nil)
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

// need skips a test that this machine cannot run, having really tried. What PY3RUN_TEST_REQUIRE lists (root, userns, namespaces)
// must be there: then it fails instead.
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

// mark makes a word that marks the processes of one test in their arguments, and ends them all with the test.
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
