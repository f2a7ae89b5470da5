package sandbox

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// OwnChild starts the program as a child of the launcher.
//
// With method [Auto] it tries namespaces first. If the host refuses them, the run falls back to
// [Process], and [Protection] says why.
var OwnChild Backend = ownChild{}

type ownChild struct{}

// An attempt is one way to isolate, which the host may refuse.
type attempt struct {
	method Method
	userNS bool
}

// attempts are the ways that a method allows, the strongest first.
func attempts(method Method, root bool) []attempt {
	if method == Process {
		return []attempt{{Process, false}}
	}
	list := []attempt{{Namespace, !root}}
	if root {
		list = append(list, attempt{Namespace, true}) // root of a container that lacks CAP_SYS_ADMIN
	}
	if method == Auto {
		list = append(list, attempt{Process, false})
	}
	return list
}

func (ownChild) start(spec Spec, stdio IO) (_ *Running, err error) {
	group, gaps, err := makeGroup(spec, cmp.Or(stdio.Workdir, stdio.Entry))
	if err != nil {
		return nil, err
	}
	defer group.Close()
	defer onFailure(&err, func() { group.Remove() })
	var refused error // why the attempt before has failed
	for _, a := range attempts(spec.Method, os.Geteuid() == 0) {
		r, err := a.start(spec, stdio, group, gaps, refused)
		if err == nil {
			if stdio.Terminal != nil {
				stdio.Terminal.begun()
			}
			return r, nil
		}
		refused = err
		var failed *StepError
		if !errors.As(err, &failed) || !hostCannot(failed) {
			break
		}
	}
	return nil, refused
}

// makeGroup makes the control group of a run, as far as the host gives one. An error means that its
// name is taken.
func makeGroup(spec Spec, w *Workdir) (*cgroup.Group, []cgroup.Gap, error) {
	if spec.Group.Name == "" {
		return &cgroup.Group{}, noGaps(), nil
	}
	place := cgroup.Find(spec.Group.Parent)
	if w != nil {
		w.noteGroups(place.Paths(spec.Group.Name))
	}
	group, gaps, err := place.Make(spec.Group.Name, spec.Limits.ofGroup())
	if err != nil {
		return nil, nil, &StepError{Step: "control group", Object: spec.Group.Name, Err: err}
	}
	return group, gaps, nil
}

// ofGroup are the limits that a control group sets.
func (l Limits) ofGroup() cgroup.Limits {
	return cgroup.Limits{Memory: l.Memory, Processes: l.Processes, CPUs: l.CPUs, ReadRate: l.ReadRate, WriteRate: l.WriteRate}
}

// noGaps are the gaps of a run for which no control group was asked.
func noGaps() (gaps []cgroup.Gap) {
	for _, c := range []string{"memory", "pids", "cpu", "io"} {
		gaps = append(gaps, cgroup.Gap{Controller: c, Why: "no control group was asked for"})
	}
	return gaps
}

// hostCannot tells whether a step failed because this machine does not give namespaces to this
// user: another attempt may succeed.
func hostCannot(e *StepError) bool {
	switch e.Step {
	case "clone", "mount", "id-map":
		return !errors.Is(e.Err, unix.EAGAIN) && !errors.Is(e.Err, unix.ENOMEM)
	}
	return false
}

// start makes one attempt. gaps are what the group cannot do, refused is why the attempt before has
// failed.
func (a attempt) start(spec Spec, stdio IO, group *cgroup.Group, gaps []cgroup.Gap, refused error) (_ *Running, err error) {
	r := newRunning(spec, group, observed{method: a.method, userNS: a.userNS, root: os.Geteuid() == 0, refused: refused, groups: gaps})
	defer onFailure(&err, func() {
		if r.init != nil {
			r.giveUp()
		}
		r.close()
	})
	var theirs files
	defer theirs.close()
	at, err := a.lay(r, stdio, &theirs)
	if err != nil {
		return nil, err
	}
	c, b := build(spec, a.method, a.userNS, at, thisHost())
	r.found.listening, r.found.filing = b.activity, b.files
	if err := r.refuse(); err != nil {
		return nil, err
	}
	r.score = launcherScore.keep()
	if err := a.clone(r, c, b); err != nil {
		return nil, err
	}
	r.lookForSight()
	theirs.close()
	// An error here means that init has ended already; the set-up socket says why.
	r.lifeline.Write([]byte{0})
	late := time.Now().Add(setupMost)
	err = r.readSetup(b, func(from *os.File) error {
		if p := polled(from); !stdio.Alone || !awaitBriefly(&p, briefMost) {
			from.SetReadDeadline(late)
		}
		return nil
	})
	if err == nil {
		err = r.refuse()
	}
	if err != nil {
		return nil, err
	}
	if !stdio.Alone {
		r.attend()
		r.spawn(r.follow, nil)
	}
	return r, nil
}

// lay prepares what the child gets: its descriptors, and the paths of this host that it covers.
func (a attempt) lay(r *Running, stdio IO, theirs *files) (at layout, err error) {
	spec, group := r.spec, r.group
	setupRead, setupWrite := pair(&err)
	if err != nil {
		return at, &StepError{Step: "socketpair", Err: err}
	}
	r.setup = []*os.File{setupRead}
	theirs.add(setupWrite)
	stdin, ends, err := r.open(stdio, theirs)
	if err != nil {
		return at, err
	}
	at = layout{stdin: unused, stdout: descriptorOrUnused(ends.stdout), stderr: descriptorOrUnused(ends.stderr), lifeline: int(ends.lifeline.Fd()), setup: int(setupWrite.Fd()), status: int(ends.status.Fd())}
	if spec.Transparent {
		at.inherit, at.gate = withoutPipes(stdio, ends), int(ends.gate.Fd())
	} else {
		at.stdin = fd(stdin)
	}
	if t := stdio.Terminal; t != nil {
		at.terminal = true
		if spec.MinimalDev {
			at.console = t.name()
		}
	}
	for _, f := range stdio.Files {
		if f == nil {
			at.files = append(at.files, unused)
			continue
		}
		at.files = append(at.files, fd(f))
	}
	if !spec.Transparent {
		at.files = append(at.files, int(ends.gate.Fd()), int(ends.dump.Fd()))
	}
	for _, f := range group.Tasks() {
		at.groups = append(at.groups, int(f.Fd()))
	}
	if f := group.Unified(); f != nil {
		at.unified = int(f.Fd())
	}
	at.memoryGroup, at.pidsGroup = group.Limits("memory"), group.Limits("pids")
	at.weigh = spec.Limits.Memory > 0 && !at.memoryGroup
	n := len(at.files)
	if spec.periods {
		at.periods = spec.PeriodsFile(len(stdio.Files))
		n++
	}
	// The set-up socket must stay open until execve, so its number must not be one at which the
	// program finds something else.
	if at.setup < 3 || at.setup >= spec.FirstFile && at.setup < spec.FirstFile+n {
		if at.setup, err = unix.FcntlInt(setupWrite.Fd(), unix.F_DUPFD_CLOEXEC, spec.FirstFile+n); err != nil {
			return at, &StepError{Step: "descriptors", Object: "set-up socket", Err: err}
		}
		theirs.add(os.NewFile(uintptr(at.setup), "set-up socket"))
	}
	if a.method == Namespace {
		r.hide(spec, stdio.Workdir, &at)
		at.kernel = kernelFiles()
	}
	if w := stdio.Workdir; w != nil {
		if err := r.show(w, &at); err != nil {
			return at, err
		}
	}
	r.found.landlock = fit(spec, a.method, landlockVersion())
	ruleset, err := r.found.landlock.make()
	if err != nil {
		return at, err
	}
	if ruleset != nil {
		theirs.add(ruleset)
		at.landlock, at.rules = fd(ruleset), r.found.landlock.rules
	}
	if spec.Activity != NotRequested {
		at.nonce = nonce()
	}
	return at, nil
}

// clone makes init and, if it has a user namespace, maps its ids. Init waits for the lifeline:
// until then nothing of the run could read the launcher's memory.
func (a attempt) clone(r *Running, c *childInit, b *builder) error {
	pid, err := c.clone()
	if err != nil {
		return err
	}
	r.pid, r.init = pid, &ownInit{pid: pid, memory: [2]any{c, b}}
	if !a.userNS {
		conceal()
		return nil
	}
	if r.found.unmapped, err = mapIDs(pid, r.spec.SubIDs); err != nil {
		return &StepError{Step: "id-map", Object: "user namespace", Err: err}
	}
	return nil
}

// nonce is a number that no call has by chance.
func nonce() uint64 {
	var b [8]byte
	if n, err := unix.Getrandom(b[:], 0); err != nil || n < len(b) { // package rand starts a timer
		rand.Read(b[:])
	}
	return binary.NativeEndian.Uint64(b[:])
}

// kernelFiles are the places through which root sets the kernel's parameters.
func kernelFiles() (paths []string) {
	for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/sys/fs/cgroup"} {
		if _, err := os.Stat(path); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

func thisHost() host {
	h := host{root: os.Geteuid() == 0, hard: map[uintptr]uint64{}, wait: waitKillable(), tree: hasOpenTree()}
	for _, resource := range []int{unix.RLIMIT_CPU, unix.RLIMIT_FSIZE, unix.RLIMIT_DATA, unix.RLIMIT_NPROC, unix.RLIMIT_NOFILE} {
		var limit unix.Rlimit
		if unix.Getrlimit(resource, &limit) == nil {
			h.hard[uintptr(resource)] = limit.Max
		}
	}
	return h
}

// clone makes init. The kernel sends the parent-death signal when the thread that called clone
// ends, not the process. A thread of a Go program lives as long as the process, unless a goroutine
// ends while it is locked to it: no goroutine that starts runs may do that.
func (c *childInit) clone() (pid int, err error) {
	runtime.LockOSThread() // the signal mask belongs to the thread
	defer runtime.UnlockOSThread()
	all, old := [8]byte{}, [8]byte{}
	binary.NativeEndian.PutUint64(all[:], ^uint64(0))
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	pid = cloneInit(c.cloneFlags|syscall.CLONE_VM|uintptr(syscall.SIGCHLD), c.stackTop(0), c, c.initEntry)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	if pid < 0 {
		return 0, &StepError{Step: "clone", Object: "namespaces", Err: syscall.Errno(-pid)}
	}
	return pid, nil
}

// An ownInit is an init that is the launcher's child.
type ownInit struct {
	pid    int
	memory any // what init runs on, kept alive until init is reaped

	mu     sync.Mutex
	reaped bool // from then on its pid may be another process's
}

func (*ownInit) settle() error { return nil }

func (p *ownInit) close() {}

func (p *ownInit) kill(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		syscall.Kill(p.pid, s)
	}
}

func (p *ownInit) reap() syscall.Rusage {
	awaitEnd(p.pid)
	return p.collect()
}

func (p *ownInit) reapBriefly(most time.Duration) (usage syscall.Rusage, ok bool) {
	own, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return usage, false
	}
	defer unix.Close(own)
	if !awaitBriefly(&pollFD{fd: int32(own), events: unix.POLLIN}, most) {
		return usage, false
	}
	return p.collect(), true
}

// collect reaps an init that has ended.
func (p *ownInit) collect() (usage syscall.Rusage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if _, err := syscall.Wait4(p.pid, nil, 0, &usage); err != syscall.EINTR {
			break
		}
	}
	p.reaped = true
	runtime.KeepAlive(p.memory)
	return usage
}

// awaitEnd waits until a child can be reaped, for as long as that takes. With a pidfd it waits in
// Go's poller, where no thread blocks.
func awaitEnd(pid int) {
	if fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
		child := os.NewFile(uintptr(fd), "init")
		defer child.Close()
		if raw, err := child.SyscallConn(); err == nil {
			raw.Read(func(fd uintptr) bool {
				n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
				return n > 0
			})
		}
	}
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}
