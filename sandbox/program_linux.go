package sandbox

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A step names what a system call is about. If the call fails, its step's number and the errno come
// to the launcher on the set-up socket.
type step struct {
	name, object string
	measure      string // that is not in force if an optional step fails
	about        string // the path that the measure is about: if nothing is there any more, nothing is missing
}

// A builder turns a Spec into the lists of system calls of a [childInit], or of a worker. It makes
// no system call itself: what it has to know of the host is in a layout and a host. So its result
// can be printed and tested. regions keep alive the memory that the calls point to.
type builder struct {
	steps    []step
	regions  []region
	list     *[]op
	activity bool // the second filter is among them
	files    bool // it also asks about files
}

// A region is memory that system calls point to. Its address does not change: it is on the heap.
type region struct {
	data     []byte
	pointers bool // some of its words are addresses of other regions
}

// layout is what the builder must know of one run before the clone: descriptors, covered paths and
// control groups.
type layout struct {
	stdin, stdout, stderr int
	terminal              bool   // stdin is the run's own
	console               string // its name below /dev, where a /dev of the run's own is to show it; empty: not there
	files                 []int  // for Spec.FirstFile and up; or unused
	inherit               []int  // of a transparent program: descriptors that stay at their numbers
	gate                  int    // of a transparent program: what holds it before its execve
	lifeline              int    // read end
	setup, status         int    // the set-up socket, and the write end of the status pipe
	hidden                []hiddenPath
	pinned                []string    // directories that cannot be moved, outer ones first
	readOnly              []string    // what is read-only for the program
	kernel                []string    // files that set the kernel's parameters, to be read-only
	binds                 [][2]string // what is mounted where
	groups                []int       // files through which the program enters its control group (v1)
	unified               int         // directory of its control group in v2, or 0
	memoryGroup           bool        // it limits memory
	pidsGroup             bool        // it limits processes
	periods               int         // the number at which a Resident finds its socket, which is its stdin, too; or 0
	landlock              int         // ruleset, or 0
	rules                 []landlockRule
	nonce                 uint64 // by which the second filter knows our own calls
	weigh                 bool   // the second filter also asks about large mappings: no group limits memory
}

// unused stands for a nil file: its number stays free.
const unused = -1

// A hiddenPath exists and is covered: a directory by an empty one, a file by /dev/null.
type hiddenPath struct {
	path string
	dir  bool
}

// host is what the builder must know of this machine and this user.
type host struct {
	root bool               // effective uid 0 in this user namespace
	hard map[uintptr]uint64 // hard limits in force, which only root can raise
	wait uintptr            // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, or 0 where the kernel does not have it
	tree bool               // it has open_tree(2), which mounts links
}

// Numbers of the descriptors that init keeps.
const (
	initLifeline = 3
	initStatus   = 4
)

// build lays out the child init for method Namespace or Process. userNS asks for a user namespace.
func build(spec Spec, method Method, userNS bool, at layout, h host) (*childInit, *builder) {
	c := &childInit{initEntry: entryOf(initMain), programEntry: entryOf(programMain), lifeline: uintptr(at.lifeline), report: uintptr(at.setup), namespace: method == Namespace, transparent: spec.Transparent}
	copy(c.children[:], "/proc/thread-self/children")
	c.setup, c.program = make([]op, 0, 40), make([]op, 0, 140) // usually enough
	b := &builder{steps: append(make([]step, 0, 200), []step{stepProgramClone: {name: "clone", object: "program"}, stepGroup: {name: "clone", object: "into the control group", measure: "control-group"}}...)}
	if at.unified > 0 {
		top := uint64(c.stackTop(1))
		c.clone3[cloneFlags], c.clone3[cloneExitSignal] = unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_INTO_CGROUP, uint64(unix.SIGCHLD)
		c.clone3[cloneStack], c.clone3[cloneStackSize], c.clone3[cloneGroup] = top-stackSize/2, stackSize/2, uint64(at.unified)
	}

	b.list = &c.setup
	b.onlyOurs(spec, at)
	if method == Namespace {
		c.cloneFlags = namespaces(spec, userNS)
		b.add(must, step{name: "prctl", object: "parent-death signal"}, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	} else {
		// Init has no parent-death signal: killed by it, init could not end the tree. Init sees the end
		// of the lifeline instead.
		b.add(must, step{name: "prctl", object: "child subreaper"}, unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1)
	}
	gate := b.bytes(make([]byte, 1))
	b.add(wantOne, step{name: "read", object: "lifeline"}, unix.SYS_READ, uintptr(at.lifeline), gate, 1)
	b.lead(spec, at)
	if method == Namespace {
		b.mounts(spec, at, unix.MS_PRIVATE)
		b.cover(at)
	}
	c.ruleset = uintptr(at.landlock)
	for _, r := range at.rules {
		c.rules = append(c.rules, rule{b.text(r.path), unix.LandlockPathBeneathAttr{Allowed_access: r.access}, uint16(len(b.steps))})
		b.steps = append(b.steps, step{name: "landlock_add_rule", object: r.path})
	}

	b.list = &c.program
	// Init does not enter the group: it shares the launcher's memory, and an out-of-memory kill ends
	// every process that shares the victim's memory.
	for _, fd := range at.groups {
		b.add(optional, step{name: "write", object: "tasks of the control group", measure: "control-group"}, unix.SYS_WRITE, uintptr(fd), b.text("0"), 1)
	}
	b.foreground(spec, c, at)
	if spec.Transparent { // its timer slack is the caller's: the launcher has not changed that
		b.inherit(at)
	} else {
		b.add(quiet, step{name: "prctl", object: "timer slack"}, unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, UsualTimerSlack) // the launcher's may be longer
		at.landlock = b.descriptors(spec, at)
	}
	if h.root {
		b.capabilities(spec.KeepCapabilities)
	}
	b.restrict(spec, at, method, userNS, h)
	b.watch(spec, c, at, userNS, h)
	if u := spec.RunAs; u != nil {
		b.become(*u)
	}
	if method == Process { // not earlier: becoming another user clears the signal
		b.markByProcess()
		b.add(must, step{name: "prctl", object: "parent-death signal"}, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	}
	if spec.Dir != "" {
		b.add(must, step{name: "chdir", object: spec.Dir}, unix.SYS_CHDIR, b.text(spec.Dir))
	}
	b.umask(spec)
	b.limits(spec, at, h)
	b.dispositions(spec.Ignored)
	if spec.Transparent {
		b.untilReleased(at)
	}
	b.unblock()
	b.add(must, step{name: "execve", object: spec.Path}, unix.SYS_EXECVE, b.text(spec.Path), b.vector(spec.Args), b.vector(spec.environment(method, h)), 0, 0, uintptr(at.nonce))

	b.list = &c.after
	// Init keeps only the lifeline, the status pipe and the run's own terminal, at low numbers; nothing
	// it holds can keep a pipe of the caller open.
	from, to := []int{at.lifeline, at.status}, []int{initLifeline, initStatus}
	if at.terminal {
		from, to = append(from, at.stdin), append(to, initTerminal)
		c.terminal = initTerminal
	}
	b.move(from, to)
	b.add(must, step{name: "close_range"}, unix.SYS_CLOSE_RANGE, 0, 2)
	b.add(must, step{name: "close_range"}, unix.SYS_CLOSE_RANGE, uintptr(slices.Max(to)+1), uintptr(^uint32(0)))
	b.childEvents()
	return c, b
}

// namespaces are the flags of those that a run has for itself.
func namespaces(spec Spec, userNS bool) uintptr {
	flags := uintptr(unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if userNS {
		flags |= unix.CLONE_NEWUSER
	}
	if spec.DenyNetwork {
		flags |= unix.CLONE_NEWNET
	}
	return flags
}

// childEvents makes the descriptor by which init hears of ended processes.
func (b *builder) childEvents() {
	chld := make([]byte, 8)
	binary.NativeEndian.PutUint64(chld, 1<<(uint(unix.SIGCHLD)-1))
	b.add(must, step{name: "signalfd"}, unix.SYS_SIGNALFD4, ^uintptr(0), b.bytes(chld), 8, unix.SFD_CLOEXEC)
}

// onlyOurs closes every descriptor that the run does not need, before init waits at the lifeline.
// If init kept a copy of the write end of its own lifeline, or of another run's, that init would not
// see the launcher's death.
func (b *builder) onlyOurs(spec Spec, at layout) {
	kept := slices.Concat([]int{at.stdin, at.stdout, at.stderr, at.lifeline, at.setup, at.status}, at.files, at.groups, at.inherit)
	if spec.Transparent {
		kept = append(kept, at.gate)
	}
	for _, fd := range []int{at.landlock, at.unified} {
		if fd > 0 {
			kept = append(kept, fd)
		}
	}
	slices.Sort(kept)
	next := 0
	for _, fd := range append(kept, 1<<31) {
		if next < fd {
			b.add(must, step{name: "close_range"}, unix.SYS_CLOSE_RANGE, uintptr(next), uintptr(fd-1))
		}
		next = fd + 1
	}
}

// move moves descriptors to new numbers, which may be the old numbers of others. So all move out of
// the way first.
func (b *builder) move(from, to []int) {
	const away = 16 // above 0 to 5; what the copies overwrite is closed next anyway
	moveOne := func(from, to int) {
		b.add(must, step{name: "dup3"}, unix.SYS_DUP3, uintptr(from), uintptr(to), unix.O_CLOEXEC)
	}
	high := max(slices.Max(from), slices.Max(to), away) + 1
	for i := range from {
		moveOne(from[i], high+i)
	}
	for i := range to {
		moveOne(high+i, to[i])
	}
}

// descriptors gives the program its streams and files and nothing else. A source may have the number
// of a target, so all sources first move above every number in use. It returns the new number of
// the Landlock ruleset.
func (b *builder) descriptors(spec Spec, at layout) (ruleset int) {
	sources := append([]int{at.stdin, at.stdout, at.stderr}, at.files...)
	targets := []int{0, 1, 2}
	for i := range at.files {
		targets = append(targets, spec.FirstFile+i)
	}
	high := spec.FirstFile + len(at.files)
	for _, fd := range append([]int{at.setup, at.status, at.lifeline, at.landlock}, sources...) {
		high = max(high, fd+1)
	}
	move := func(from, to int, flags uintptr) {
		b.add(must, step{name: "dup3", object: "descriptor " + strconv.Itoa(to)}, unix.SYS_DUP3, uintptr(from), uintptr(to), flags)
	}
	for i, from := range sources {
		if from != unused {
			move(from, high+i, unix.O_CLOEXEC)
		}
	}
	ruleset = 0
	if at.landlock > 0 {
		ruleset = high + len(sources)
		move(at.landlock, ruleset, unix.O_CLOEXEC)
	}
	for i, to := range targets {
		if sources[i] == unused {
			b.closeRange(to, to, unix.CLOSE_RANGE_CLOEXEC)
			continue
		}
		move(high+i, to, 0)
	}
	// Everything else closes at execve; not before, because the set-up socket must be able to report
	// a failure until then.
	b.closeRange(3, spec.FirstFile-1, unix.CLOSE_RANGE_CLOEXEC)
	b.closeRange(spec.FirstFile+len(at.files), 1<<31-1, unix.CLOSE_RANGE_CLOEXEC)
	return ruleset
}

func (b *builder) closeRange(from, to int, flags uintptr) {
	if from <= to {
		b.add(must, step{name: "close_range"}, unix.SYS_CLOSE_RANGE, uintptr(from), uintptr(uint32(to)), flags)
	}
}

func (b *builder) umask(spec Spec) {
	if spec.Umask != nil {
		b.add(must, step{name: "umask"}, unix.SYS_UMASK, uintptr(*spec.Umask))
	}
}

// limits comes shortly before execve, so that no earlier step runs into a limit. The hard limit on
// CPU time is one second above the soft one: at the soft one, faulthandler writes where the program
// is; at the hard one, the kernel kills it.
func (b *builder) limits(spec Spec, at layout, h host) {
	l := spec.Limits
	set := func(resource uintptr, name string, soft, hard uint64) {
		if most, ok := h.hard[resource]; ok { // stricter already: an ordinary user cannot raise it
			soft, hard = min(soft, most), min(hard, most)
		}
		value := make([]byte, 16)
		binary.NativeEndian.PutUint64(value, soft)
		binary.NativeEndian.PutUint64(value[8:], hard)
		b.add(must, step{name: "setrlimit", object: name}, unix.SYS_PRLIMIT64, 0, resource, b.bytes(value), 0)
	}
	both := func(resource uintptr, name string, value int64) {
		if value > 0 {
			set(resource, name, uint64(value), uint64(value))
		}
	}
	if at.periods > 0 { // later it could not: the number is above the limit on open files
		b.add(must, step{name: "dup3", object: "socket for periods"}, unix.SYS_DUP3, 0, uintptr(at.periods), 0)
	}
	set(unix.RLIMIT_CORE, "RLIMIT_CORE", 0, 0)
	if l.CPU > 0 {
		seconds := uint64((l.CPU + time.Second - 1) / time.Second)
		set(unix.RLIMIT_CPU, "RLIMIT_CPU", seconds, seconds+1)
	}
	both(unix.RLIMIT_FSIZE, "RLIMIT_FSIZE", l.FileSize)
	if !at.memoryGroup { // with one, address space is free: a limit on it would break libraries that only reserve it
		both(unix.RLIMIT_DATA, "RLIMIT_DATA", l.Memory)
	}
	if l.Processes > 0 && !at.pidsGroup {
		// Only a last resort: it does not apply to root, and it counts all processes of the user. The
		// launcher counts those of the run by sampling.
		n := max(uint64(l.Processes), processBackstop)
		set(unix.RLIMIT_NPROC, "RLIMIT_NPROC", n, n)
	}
	both(unix.RLIMIT_NOFILE, "RLIMIT_NOFILE", int64(l.OpenFiles))
}

// UsualTimerSlack is the timer slack of a fresh login, in nanoseconds (PR_SET_TIMERSLACK(2const)).
const UsualTimerSlack = 50_000

// processBackstop is the least RLIMIT_NPROC: the user may have this many processes already.
const processBackstop = 4096

// dispositions and unblock give the program what a fresh login gives: no signal ignored but these,
// none blocked. A Java parent passes on both.
func (b *builder) dispositions(ignored []syscall.Signal) {
	zero := b.bytes(make([]byte, 32)) // struct sigaction: SIG_DFL, no flags, empty mask
	for n := uintptr(1); n <= 64; n++ {
		switch {
		case n == uintptr(unix.SIGKILL) || n == uintptr(unix.SIGSTOP):
		case slices.Contains(ignored, syscall.Signal(n)):
			ignore := make([]byte, 32)
			binary.NativeEndian.PutUint64(ignore, 1) // SIG_IGN
			b.add(must, step{name: "sigaction", object: "ignore"}, unix.SYS_RT_SIGACTION, n, b.bytes(ignore), 0, 8)
		default:
			b.add(must, step{name: "sigaction", object: "default"}, unix.SYS_RT_SIGACTION, n, zero, 0, 8)
		}
	}
}

// unblock comes last: from here on a signal ends the program as it should.
func (b *builder) unblock() {
	b.add(must, step{name: "sigprocmask"}, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, b.bytes(make([]byte, 8)), 0, 8)
}

func (b *builder) add(mode uint8, what step, nr uintptr, args ...uintptr) {
	o := op{nr: nr, mode: mode, step: uint16(len(b.steps))}
	copy(o.arg[:], args)
	b.steps = append(b.steps, what)
	*b.list = append(*b.list, o)
}

// hold keeps memory alive for the process that makes the calls, and returns its address.
func (b *builder) hold(p []byte, pointers bool) uintptr {
	b.regions = append(b.regions, region{p, pointers})
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))
}

// bytesOf is the memory of a value.
func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }

func (b *builder) bytes(p []byte) uintptr { return b.hold(p, false) }

func (b *builder) text(s string) uintptr { return b.bytes(append([]byte(s), 0)) }

func (b *builder) vector(list []string) uintptr {
	pointers := make([]uintptr, len(list)+1)
	for i, s := range list {
		pointers[i] = b.text(s)
	}
	return b.hold(unsafe.Slice((*byte)(unsafe.Pointer(&pointers[0])), uintptr(len(pointers))*unsafe.Sizeof(pointers[0])), true)
}

// failure is the error of a message from the child init.
func (b *builder) failure(number uint16, errno int32) *StepError {
	what := step{name: "set-up", object: "step " + strconv.Itoa(int(number))}
	if int(number) < len(b.steps) {
		what = b.steps[number]
	}
	return &StepError{Step: what.name, Object: what.object, Err: syscall.Errno(errno)}
}

// missing is the measure that is not in force because an optional step has failed, and why.
//
// It returns no measure if the step is about a path that somebody has removed since the launcher
// looked: what does not exist needs no cover.
func (b *builder) missing(number uint16, errno int32) (measure, why string) {
	failure := b.failure(number, errno)
	measure = failure.Step
	if int(number) < len(b.steps) {
		s := b.steps[number]
		if _, err := os.Lstat(s.about); s.about != "" && errors.Is(failure.Err, unix.ENOENT) && errors.Is(err, fs.ErrNotExist) {
			return "", ""
		}
		measure = cmp.Or(s.measure, measure)
	}
	if why = failure.Error(); measure == activityMeasure && failure.Err == unix.EBUSY {
		why += "; another listener is there already: this runs inside another py3run, or a container engine listens"
	}
	return measure, why
}
