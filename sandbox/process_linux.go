package sandbox

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// A Running is a program that was started and waits at its gate, or runs.
type Running struct {
	spec       Spec
	protection Protection
	started    time.Time
	pid        int           // of init, in the launcher's pid namespace
	process    int           // of the program, once it was looked for
	begins     bool          // the gate was to be opened
	released   bool          // and was
	group      *cgroup.Group // nil: none could be made, or none was wanted
	workdir    *Workdir      // nil: it has none

	lifeline  *os.File   // write end
	setup     []*os.File // our ends of sockets
	pidfd     *os.File   // of a worker's init; nil: init is our child
	status    *os.File   // read end
	gate      *os.File   // write end
	dump      *os.File   // read end
	outputs   []*os.File // read ends of stdout and stderr, or of the one pipe for both
	to        []io.Writer
	copying   [2]bool     // the streams that are copied
	copied    chan int    // one of which is at its end
	abandoned atomic.Bool // nobody waits for the copying any more
	reap      func()      // waits for the end of init, and collects it
	reapOnce  sync.Once
	begun     func() error // of a worker: waits until its set-up is done
	attended  bool         // goroutines look after the run
	recorder  *recorder    // nil: there is none
	score     *score       // of the launcher; nil: the run cannot change it
	printed   atomic.Int64 // bytes read from both streams so far: a sign of progress

	reaping sync.Mutex
	reaped  bool
	gone    chan syscall.Rusage // init was reaped, with what the whole tree used
}

// Start starts the program. It is held at its gate, if it reads it, until Release. The error is a [*StepError] of
// the last method tried, or a [*GapError].
//
// With method Auto the namespaces are tried first; where the host refuses them the run falls back to
// Process, and Protection tells why.
func Start(spec Spec, stdio IO) (*Running, error) {
	type attempt struct {
		method Method
		userNS bool
	}
	if spec.FirstFile < 3 {
		return nil, &StepError{Step: "descriptors", Object: "Spec.FirstFile", Err: unix.EINVAL}
	}
	group, gaps, err := makeGroup(spec, stdio.Workdir)
	if err != nil {
		return nil, err
	}
	attempts := []attempt{{Namespace, os.Geteuid() != 0}}
	if os.Geteuid() == 0 {
		attempts = append(attempts, attempt{Namespace, true}) // root of a container that lacks CAP_SYS_ADMIN
	}
	switch spec.Method {
	case Process:
		attempts = []attempt{{Process, false}}
	case Auto:
		attempts = append(attempts, attempt{Process, false})
	}
	var refused error // why namespaces were not had
	for _, a := range attempts {
		r, err := start(spec, stdio, a.method, a.userNS, group, protect(spec, a.method, a.userNS, gaps, refused))
		if err == nil {
			group.Close()
			return r, nil
		}
		refused = err
		var failed *StepError
		if !errors.As(err, &failed) || !hostCannot(failed) {
			break
		}
	}
	group.Close()
	group.Remove()
	return nil, refused
}

// makeGroup makes the control group of a run, as far as the host has one to give. The error is that its name is taken.
func makeGroup(spec Spec, w *Workdir) (*cgroup.Group, []cgroup.Gap, error) {
	if spec.Group.Name == "" {
		return &cgroup.Group{}, noGaps(), nil
	}
	l := spec.Limits
	place := cgroup.Find(spec.Group.Parent)
	if w != nil {
		var lines []string
		for _, path := range place.Paths(spec.Group.Name) {
			lines = append(lines, "group "+path)
		}
		w.note(lines...)
	}
	group, gaps, err := place.Make(spec.Group.Name, cgroup.Limits{
		Memory: l.Memory, Processes: l.Processes, CPUs: l.CPUs, ReadRate: l.ReadRate, WriteRate: l.WriteRate})
	if err != nil {
		return nil, nil, &StepError{Step: "control group", Object: spec.Group.Name, Err: err}
	}
	return group, gaps, nil
}

const noGroups = "no control group was asked for"

// hostCannot tells whether a step failed because this machine does not give namespaces to this user: another method may do.
func hostCannot(e *StepError) bool {
	switch e.Step {
	case "clone", "mount", "id-map":
		return !errors.Is(e.Err, unix.EAGAIN) && !errors.Is(e.Err, unix.ENOMEM)
	}
	return false
}

func start(spec Spec, stdio IO, method Method, userNS bool, group *cgroup.Group, p Protection) (_ *Running, err error) {
	r := &Running{spec: spec, group: group, protection: p, started: time.Now(), gone: make(chan syscall.Rusage, 1)}
	var theirs []*os.File // what only the child needs
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			r.close()
		}
	}()
	setupRead, setupWrite := pair(&err)
	if err != nil {
		return nil, &StepError{Step: "socketpair", Err: err}
	}
	r.setup, theirs = []*os.File{setupRead}, []*os.File{setupWrite}
	stdin, ends, err := r.open(stdio, &theirs)
	if err != nil {
		return nil, err
	}

	at := layout{stdin: fd(stdin), stdout: int(ends.stdout.Fd()), stderr: int(ends.stderr.Fd()), lifeline: int(ends.lifeline.Fd()), setup: int(setupWrite.Fd()), status: int(ends.status.Fd())}
	for _, f := range stdio.Files {
		at.files = append(at.files, fd(f))
	}
	at.files = append(at.files, int(ends.gate.Fd()), int(ends.dump.Fd()))
	for _, f := range group.Tasks() {
		at.groups = append(at.groups, int(f.Fd()))
	}
	if f := group.Unified(); f != nil {
		at.unified = int(f.Fd())
	}
	at.memoryGroup, at.pidsGroup = group.Limits("memory"), group.Limits("pids")
	at.weigh = spec.Limits.Memory > 0 && !at.memoryGroup
	// The set-up socket tells of a failure until execve: not from a number that the program finds something else at.
	if n := len(at.files); at.setup < 3 || at.setup >= spec.FirstFile && at.setup < spec.FirstFile+n {
		if at.setup, err = unix.FcntlInt(setupWrite.Fd(), unix.F_DUPFD_CLOEXEC, spec.FirstFile+n); err != nil {
			return nil, &StepError{Step: "descriptors", Object: "set-up socket", Err: err}
		}
		theirs = append(theirs, os.NewFile(uintptr(at.setup), "set-up socket"))
	}
	if method == Namespace {
		r.hide(spec, stdio.Workdir, &at)
		at.kernel = kernelFiles()
	}
	if w := stdio.Workdir; w != nil {
		r.workdir = w
		if err := r.show(w, method, &at); err != nil {
			return nil, err
		}
	}
	ruleset, rules, have, gaps, err := landlock(spec, method)
	if err != nil {
		return nil, err
	}
	if ruleset != nil {
		theirs = append(theirs, ruleset)
		at.landlock, at.rules = fd(ruleset), rules
	}
	r.protection.Enforced = append(r.protection.Enforced, have...)
	r.protection.Gaps = append(r.protection.Gaps, gaps...)
	if spec.Activity != NotRequested {
		at.nonce = nonce()
	}
	s, b := build(spec, method, userNS, at, thisHost())
	if b.activity {
		r.protection.Enforced = append(r.protection.Enforced, activityMeasure)
	} else if spec.Activity != NotRequested {
		r.lack(activityMeasure, "an ordinary user has no filter of system calls without giving up set-user-ID programs; seccomp = \"default\" and no-new-privileges do")
	}
	if gaps := r.protection.refusing(); spec.OnMissing == Refuse && len(gaps) > 0 {
		return nil, &GapError{gaps}
	}

	r.score = keepScore()
	if err := concealed(userNS, func() error {
		if err := r.clone(s); err != nil {
			return err
		}
		r.reap = func() {
			awaitEnd(r.pid)
			r.collect()
			runtime.KeepAlive(b) // until now init ran on this memory
			runtime.KeepAlive(s)
		}
		if userNS {
			gap, err := writeIDMaps(r.pid, spec.SubIDs)
			if err != nil {
				r.giveUp()
				return &StepError{Step: "id-map", Object: "user namespace", Err: err}
			}
			if gap != nil {
				r.protection.lose(subIDsMeasure)
				r.lack(subIDsMeasure, gap.Error()+"; only this user and its group are mapped")
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	r.lookForSight()
	for _, f := range theirs {
		f.Close()
	}
	theirs = nil
	// An error here means that init is gone already; the set-up socket knows more.
	r.lifeline.Write([]byte{0})
	err = r.awaitExec(b)
	if gaps := r.protection.refusing(); err == nil && spec.OnMissing == Refuse && len(gaps) > 0 {
		err = &GapError{gaps}
	}
	if err != nil {
		r.giveUp()
		return nil, err
	}
	r.attend()
	return r, nil
}

// ends are the child's ends of the pipes between it and the launcher.
type ends struct{ lifeline, status, gate, dump, stdout, stderr *os.File }

// open makes the pipes. What is only the child's is added to theirs.
func (r *Running) open(stdio IO, theirs *[]*os.File) (stdin *os.File, e ends, err error) {
	var out, errs *os.File
	e.lifeline, r.lifeline = pipe(&err, nobody)
	r.status, e.status = pipe(&err, reader)
	e.gate, r.gate = pipe(&err, nobody)
	r.dump, e.dump = pipe(&err, reader)
	out, e.stdout = pipe(&err, reader)
	r.outputs, r.to = []*os.File{out}, []io.Writer{stdio.Stdout}
	*theirs = append(*theirs, e.lifeline, e.status, e.gate, e.dump, e.stdout)
	if e.stderr = e.stdout; !same(stdio.Stdout, stdio.Stderr) {
		errs, e.stderr = pipe(&err, reader)
		r.outputs, r.to = append(r.outputs, errs), append(r.to, stdio.Stderr)
		*theirs = append(*theirs, e.stderr)
	}
	if err != nil {
		return nil, e, &StepError{Step: "pipe", Err: err}
	}
	if stdin = stdio.Stdin; stdin == nil {
		if stdin, err = os.Open(os.DevNull); err != nil {
			return nil, e, &StepError{Step: "open", Object: os.DevNull, Err: err}
		}
		*theirs = append(*theirs, stdin)
	}
	if u := r.spec.RunAs; u != nil {
		for _, f := range []*os.File{stdin, e.stdout, e.stderr} {
			handOver(f, *u)
		}
	}
	return stdin, e, nil
}

// same tells whether two streams have one writer. What cannot be compared is not the same.
func same(a, b io.Writer) bool {
	defer func() { recover() }()
	return a == b
}

// handOver makes a pipe without a name the program's user's own: /dev/stdout leads to it, and the kernel looks at owner and mode when it is
// opened there. What has a place of its own, a terminal or a file, stays its owner's. Where it fails, only that way of opening fails.
func handOver(f *os.File, u User) {
	number := fd(f)
	var fs unix.Statfs_t
	if unix.Fstatfs(number, &fs) == nil && fs.Type == unix.PIPEFS_MAGIC {
		unix.Fchown(number, u.UID, u.GID)
	}
}

// nonce is a number that no call has by chance.
func nonce() uint64 {
	var b [8]byte
	rand.Read(b[:])
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

var (
	concealing sync.Mutex
	// revealable is false for a launcher that was not readable to begin with, as a setuid program.
	revealable = sync.OnceValue(func() bool {
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		return err == nil && dumpable == 1
	})
)

// concealed clones init, whose memory is the launcher's, and makes that memory undumpable: no process of the run may read it. It
// does so after the id maps, because those of an undumpable process can be written by root only, and before the gate. An earlier run has
// concealed the launcher already, so it is revealed for that moment: a process that starts several runs at once is readable to the
// others in it, as far as their user may. The command starts one.
func concealed(userNS bool, clone func() error) error {
	concealing.Lock()
	defer concealing.Unlock()
	if revealable() && userNS {
		unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
	defer unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	return clone()
}

// Reveal makes the launcher readable again when its runs have ended, as it was before the first: a template looks at who asks it.
func Reveal() {
	concealing.Lock()
	defer concealing.Unlock()
	if revealable() {
		unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
}

// clone makes init. The parent-death signal follows the thread that does it, not the process; threads of Go's live as long as the process, except
// one whose goroutine ends locked to it, and no goroutine of this program does.
func (r *Running) clone(s *childInit) error {
	runtime.LockOSThread() // for the mask, which is the thread's
	defer runtime.UnlockOSThread()
	all, old := [8]byte{}, [8]byte{}
	binary.NativeEndian.PutUint64(all[:], ^uint64(0))
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	pid := cloneInit(s.cloneFlags|syscall.CLONE_VM|uintptr(syscall.SIGCHLD), s.stackTop(0), s, s.initEntry)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	if pid < 0 {
		return &StepError{Step: "clone", Object: "namespaces", Err: syscall.Errno(-pid)}
	}
	r.pid = pid
	return nil
}

// ended tells when init was reaped; from the first time it is asked, something waits for that.
func (r *Running) ended() <-chan syscall.Rusage {
	r.reapOnce.Do(func() { go r.reap() })
	return r.gone
}

// giveUp ends a run that has not begun. What hangs in the kernel, in a step on a network file system that does not answer say, is left behind: the
// memory that it runs on is kept as long as it lives (see start).
func (r *Running) giveUp() {
	r.lifeline.Close()
	for range 2 {
		select {
		case <-r.ended():
			return
		case <-time.After(killWait):
			r.kill(syscall.SIGKILL)
		}
	}
}

// collect takes what is left of an init that has ended.
func (r *Running) collect() {
	var usage syscall.Rusage
	r.reaping.Lock()
	for r.pidfd == nil { // else it is somebody else's child
		_, err := syscall.Wait4(r.pid, nil, 0, &usage)
		if err != syscall.EINTR {
			break
		}
	}
	r.reaped = true
	r.reaping.Unlock()
	r.over(usage)
}

func (r *Running) over(usage syscall.Rusage) {
	r.gone <- usage
	close(r.gone)
}

// awaitEnd waits until a child can be reaped, for as long as that takes; whoever needs to know waits for ended, not for this. It does so in the runtime's poller, for which no thread has to be made, kept and woken, where the kernel
// gives a descriptor for the child.
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

// Who waits for a pipe in the runtime's poller: nobody, where what is written always fits.
const (
	nobody = iota
	reader
)

// pipe makes a pipe, of which only the end that is waited for does not block: what the poller has no part in needs no system calls for it.
func pipe(failed *error, waits int) (read, write *os.File) {
	if *failed != nil {
		return nil, nil
	}
	var ends [2]int
	if *failed = unix.Pipe2(ends[:], unix.O_CLOEXEC); *failed != nil {
		return nil, nil
	}
	if waits == reader {
		unix.SetNonblock(ends[0], true)
	}
	return os.NewFile(uintptr(ends[0]), "pipe"), os.NewFile(uintptr(ends[1]), "pipe")
}

// pair makes a socket pair that keeps messages apart; the first end does not block.
func pair(failed *error) (ours, theirs *os.File) {
	if *failed != nil {
		return nil, nil
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(ends[0], true)
	}
	if *failed = err; err != nil {
		return nil, nil
	}
	return os.NewFile(uintptr(ends[0]), "set-up"), os.NewFile(uintptr(ends[1]), "set-up")
}

// receive reads one message and the descriptor that comes with it, or -1. It returns 0 bytes at the end.
func receive(from *os.File, message []byte) (n, descriptor int) {
	var rights [unix.SizeofCmsghdr + 8]byte
	raw, err := from.SyscallConn()
	if err != nil {
		return 0, -1
	}
	iov := unix.Iovec{Base: &message[0], Len: uint64(len(message))}
	header := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: &rights[0], Controllen: uint64(len(rights))}
	raw.Read(func(fd uintptr) bool {
		for {
			r, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&header)), unix.MSG_CMSG_CLOEXEC)
			if errno == 0 {
				n = int(r)
			}
			if errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})
	if header.Controllen < unix.SizeofCmsghdr+4 {
		return n, -1
	}
	return n, int(int32(binary.NativeEndian.Uint32(rights[unix.SizeofCmsghdr:])))
}

// workerMost is how long a worker may take to get ready for its run. A thread of a preloaded module can be in the way of it, and then the run takes another interpreter.
const workerMost = 5 * time.Second

// setupMost is how long the set-up of a run may take. It is a matter of milliseconds, unless a file system hangs.
const setupMost = time.Minute

// awaitExec reads the set-up sockets until the program's execve, or the step that failed.
func (r *Running) awaitExec(b *builder) error {
	for _, from := range r.setup {
		if err := r.awaitEnd(from, b); err != nil {
			return err
		}
	}
	return nil
}

func (r *Running) awaitEnd(from *os.File, b *builder) error {
	defer from.Close()
	var m [8]byte
	end := time.Now().Add(setupMost)
	if r.pidfd == nil {
		from.SetReadDeadline(end)
	}
	for {
		if r.pidfd != nil { // a worker takes no time to speak of
			p := []pollFD{polled(from)}
			began := time.Now()
			for brief := began.Add(briefMost); p[0].revents == 0 && pollBriefly(p, time.Until(brief)); {
			}
			for left := workerMost; p[0].revents == 0 && left > 0; left = workerMost - time.Since(began) {
				poll := []unix.PollFd{{Fd: p[0].fd, Events: unix.POLLIN}}
				if n, err := unix.Poll(poll, int(left.Milliseconds())+1); n > 0 || err != nil && err != unix.EINTR {
					p[0].revents = unix.POLLIN
				}
			}
			if p[0].revents == 0 {
				return &StepError{Step: "set-up", Object: "worker", Err: unix.ETIMEDOUT}
			}
		}
		n, listener := receive(from, m[:])
		if n < len(m) && r.pidfd == nil && time.Now().After(end) {
			return &StepError{Step: "set-up", Object: "sandbox", Err: unix.ETIMEDOUT}
		}
		if n < len(m) {
			return nil
		}
		if m[0] == msgListener {
			var err error = unix.EMFILE // the kernel drops what there is no number for
			if listener >= 0 {
				r.recorder, err = newRecorder(listener, r.program)
			}
			if err == nil {
				r.weigh()
			}
			if err != nil { // the program's calls would fail
				return &StepError{Step: "recvmsg", Object: "seccomp listener", Err: err}
			}
			continue
		}
		number, errno := binary.NativeEndian.Uint16(m[2:]), int32(binary.NativeEndian.Uint32(m[4:]))
		if m[0] == msgFailed {
			return b.failure(number, errno)
		}
		r.miss(b, number, errno)
	}
}

// weigh has the activity look for memory that is refused, if RLIMIT_DATA refuses it.
func (r *Running) weigh() {
	if !r.group.Limits("memory") {
		r.recorder.refusals.limit = r.spec.Limits.Memory
	}
}

// miss moves a measure from what is enforced to what is missing.
func (r *Running) miss(b *builder, number uint16, errno int32) {
	failure := b.failure(number, errno)
	name := failure.Step
	if int(number) < len(b.steps) && b.steps[number].measure != "" {
		name = b.steps[number].measure
	}
	r.protection.lose(name)
	for _, g := range r.protection.Gaps {
		if g.Name == name {
			return
		}
	}
	r.lack(name, gapWhy(name, failure))
}

func (r *Running) lack(name, why string) {
	r.protection.Gaps = append(r.protection.Gaps, Gap{Name: name, Why: why, Extra: name == activityMeasure && r.spec.Activity != Required})
}

// lookForSight tells what is watched instead of limited by the kernel, and what cannot even be watched, because /proc does not show this tree.
func (r *Running) lookForSight() {
	p, l := &r.protection, r.spec.Limits
	_, counted := r.group.CPU()
	limited := l.Processes == 0 || r.group.Limits("pids")
	switch sight := counted && limited || readable(r.pid); {
	case sight && counted:
	case sight && l.CPU > 0:
		p.Gaps = append(p.Gaps, Gap{Name: "cpu-accounting", Extra: true,
			Why: "no control group counts CPU time: the tree is looked at every 100 ms, and a process shorter than that, of a parent that ignores SIGCHLD, is not seen"})
	case !sight:
		const why = "no control group for it, and /proc does not show the processes of the run (not mounted, or mounted with hidepid=)"
		blind := func(name, more string) {
			p.lose(name)
			p.Gaps = append(p.Gaps, Gap{Name: name, Why: why + more})
		}
		if l.CPU > 0 && !counted {
			blind("cpu-limit", ": each process is limited by itself (RLIMIT_CPU)")
			p.Enforced = append(p.Enforced, "cpu-limit-per-process")
		}
		if l.Idle > 0 && !counted {
			blind("idle-limit", ": whether the run is idle is not known")
		}
		if !limited {
			p.Gaps = slices.DeleteFunc(p.Gaps, func(g Gap) bool { return g.Name == "process-limit" })
			p.lose("process-watch")
			blind("process-limit", fmt.Sprintf(": processes are not counted; RLIMIT_NPROC is a back-stop for all processes of an ordinary user, at %d or the limit", processBackstop))
		}
	}
}

// Protection says what is in force.
func (r *Running) Protection() Protection { return r.protection }

// Release opens the gate: a byte that the program reads at descriptor Spec.GateFile. The wall clock starts now. The error is that the program cannot read
// it any more or, of a worker, what [StartWorker] would return had it waited.
func (r *Running) Release() error {
	if r.begun != nil {
		if err := r.begun(); err != nil {
			return err
		}
	}
	r.started, r.begins = time.Now(), true
	_, err := r.gate.Write([]byte{1})
	r.released = err == nil // else it has no reader any more
	return err
}

// Kill ends the whole tree at once, without a verdict. Wait still has to be called.
func (r *Running) Kill() {
	if r.protection.Method == Process {
		// Killed at once, init could not end the tree; it does at the end of the lifeline, unless the program has stopped it.
		r.lifeline.Close()
		r.kill(syscall.SIGCONT)
		r.group.Kill()
		return
	}
	r.kill(syscall.SIGKILL)
}

// RemoveGroup removes the control group. Call it once, after Wait; it may take a while, so beside something else if there is that.
func (r *Running) RemoveGroup() error { return r.group.Remove() }

// program is the process id of the program, in the launcher's pid namespace; 0 when it is gone.
func (r *Running) program() int {
	pid := strconv.Itoa(r.pid)
	text, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	first, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.Atoi(first)
	return n
}

// answers tells whether the program has a handler for a signal: without one it would be ended by it.
func (r *Running) answers(s syscall.Signal) bool {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(r.program()) + "/status")
	_, rest, found := strings.Cut(string(text), "\nSigCgt:")
	mask, err := strconv.ParseUint(strings.TrimSpace(rest[:min(len(rest), 17)]), 16, 64)
	return found && err == nil && mask&(1<<(uint(s)-1)) != 0
}

// kill sends init a signal as long as its pid is its own.
func (r *Running) kill(s syscall.Signal) {
	r.reaping.Lock()
	defer r.reaping.Unlock()
	switch {
	case r.reaped:
	case r.pidfd != nil:
		unix.PidfdSendSignal(int(r.pidfd.Fd()), s, nil, 0)
	default:
		syscall.Kill(r.pid, s)
	}
}

func (r *Running) close() {
	for _, f := range slices.Concat([]*os.File{r.lifeline, r.status, r.gate, r.dump, r.pidfd}, r.setup, r.outputs) {
		if f != nil {
			f.Close()
		}
	}
	if r.recorder != nil {
		r.recorder.finish()
	}
	r.score.close()
}

// startCopy has one of the streams copied.
func (r *Running) startCopy(i int) {
	if r.copied == nil {
		r.copied = make(chan int, len(r.copying))
	}
	r.copying[i] = true
	go func() {
		r.copy(r.to[i], r.outputs[i])
		r.copied <- i
	}()
}

// copy passes one stream on until its end. A reader that has gone away ends the copying: the program then gets EPIPE or
// SIGPIPE, as it would without us.
func (r *Running) copy(to io.Writer, from *os.File) {
	buffer := make([]byte, 32<<10)
	rest := -1 // bytes that are left, when the time after the end is over
	for rest != 0 {
		n, err := from.Read(buffer)
		if n > 0 {
			r.printed.Add(int64(n))
			if _, werr := to.Write(buffer[:n]); werr != nil || r.abandoned.Load() {
				from.Close()
				return
			}
		}
		if rest > 0 {
			rest = max(0, rest-n)
		} else if errors.Is(err, os.ErrDeadlineExceeded) { // the reader is slow; what the pipe holds now is all of it
			rest = pending(from)
			from.SetReadDeadline(time.Time{})
			continue
		}
		if err != nil {
			return
		}
	}
}

// pending is the number of bytes in a pipe.
func pending(f *os.File) (n int) {
	if c, err := f.SyscallConn(); err == nil {
		c.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

// fd is for descriptors of others that the child gets: in blocking mode.
func fd(f *os.File) int {
	n := int(f.Fd())
	unix.SetNonblock(n, false)
	return n
}

// show lets the run see its directory at its path, and nothing of the others'.
func (r *Running) show(w *Workdir, method Method, at *layout) error {
	const measure = "private-working-dir"
	why := ""
	switch {
	case method == Process:
		why = "without a mount namespace other runs of this user can see, replace and remove the working directory"
		if err := w.Settle(); err != nil {
			return err
		}
	case w.private != nil:
		why = w.private.Error()
	case w.own:
		at.binds = append(at.binds, [2]string{w.top, w.root})
		r.protection.Enforced = append(r.protection.Enforced, measure)
		return nil
	default:
		for _, suffix := range append([]string{""}, w.files...) {
			at.binds = append(at.binds, [2]string{w.real + suffix, w.path + suffix})
		}
		at.hidden = append(at.hidden, hiddenPath{path: w.place, dir: true})
		why = w.root + " is not py3run's alone: other runs of this user do not see what is in the working directory, but they can remove what it is mounted on, and that ends this run"
	}
	r.protection.Gaps = append(r.protection.Gaps, Gap{Name: measure, Why: why})
	return nil
}

func thisHost() host {
	h := host{root: os.Geteuid() == 0, hard: map[uintptr]uint64{}, wait: waitKillable()}
	for _, resource := range []int{unix.RLIMIT_CPU, unix.RLIMIT_FSIZE, unix.RLIMIT_DATA, unix.RLIMIT_NPROC, unix.RLIMIT_NOFILE} {
		var limit unix.Rlimit
		if unix.Getrlimit(resource, &limit) == nil {
			h.hard[uintptr(resource)] = limit.Max
		}
	}
	return h
}
