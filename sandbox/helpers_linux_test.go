package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
		"inside":      func([]string) error { fmt.Print(Inside()); return nil },
		"linkless":    linkless,
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

// unwaited burns CPU time in one child after the other, and the kernel is told that nobody waits
// for them.
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

// blind runs a quiet program as an ordinary user who sees nothing of it in /proc, and reports its
// protection and outcome.
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

// weak is a launcher that is root but may not administer the system, as in a container: it shows
// what a program in a user namespace makes of ids.
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

// writeDump writes a text to a descriptor: at once, or when a signal comes. Then it ignores every
// polite request.
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

// daemons leaves three processes behind that nobody waits for, each in a session of its own, and
// ends, or lingers.
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

// maskAndExec becomes another helper, with SIGUSR2 blocked from its first instruction and SIGHUP
// and SIGPIPE ignored, as a Java parent leaves them.
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
