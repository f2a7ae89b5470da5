package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// A worker is a sandbox without a run: an init and a program, forked by an interpreter that serves as template, in namespaces and a group of
// their own, under the filters that every run of this kind has. Its maker keeps it ready; a launcher takes it, sets what is its run's own (limits,
// directories, hidden paths, streams) and opens the gate.
//
//	maker ──fds, group──► template ──fork──► init, program         NewSpare
//	maker ◄──ready, listener── init, program
//	launcher ──claim──► maker ──two sockets, pidfd, listener──►    Spare.Send, ReadOffer
//	launcher ──calls, descriptors──► init, program                 StartSpare
//	launcher ◄──failed │ end of file── init, program
//
// Init and the program make the system calls of a syscall list (syscalllist_linux.go), in the same order as those of a child init. What is made at the
// end of a child init by execve is made by calls: descriptors are closed, capabilities given up.

// A PoolKey is what of a [Spec] is settled before there is a run. Spares of one base serve all runs of that base.
type PoolKey struct {
	DenyNetwork, MinimalDev, PrivateShm, DenyCalls, NoNewPrivileges bool

	Activity         Requirement
	KeepCapabilities []string
	Parent           string // of the groups; see [Group]
	Groups           bool   // groups are made
	Memory           bool   // a limit on it is wanted; likewise the others
	Processes        bool
	CPUs             bool
	Rates            bool
	FirstFile        int
}

// PoolKey is that of a Spec. ok is false where there can be no worker for it: a worker writes the maps of its ids itself, which
// only programs of root's could do for more than its own.
func (s Spec) PoolKey() (base PoolKey, ok bool) {
	l := s.Limits
	return PoolKey{DenyNetwork: s.DenyNetwork, MinimalDev: s.MinimalDev, PrivateShm: s.PrivateShm, DenyCalls: s.DenyCalls, NoNewPrivileges: s.NoNewPrivileges,
		Activity: s.Activity, KeepCapabilities: s.KeepCapabilities, Parent: s.Group.Parent, Groups: s.Group.Name != "",
		Memory: l.Memory > 0, Processes: l.Processes > 0, CPUs: l.CPUs > 0, Rates: l.ReadRate > 0 || l.WriteRate > 0,
		FirstFile: s.FirstFile}, s.Method != Process && s.FirstFile >= workerTop && (!s.SubIDs || os.Geteuid() == 0)
}

// spec is as much of a Spec as the base knows.
func (b PoolKey) spec() Spec {
	return Spec{DenyNetwork: b.DenyNetwork, MinimalDev: b.MinimalDev, PrivateShm: b.PrivateShm, DenyCalls: b.DenyCalls, NoNewPrivileges: b.NoNewPrivileges,
		Activity: b.Activity, KeepCapabilities: b.KeepCapabilities, FirstFile: b.FirstFile}
}

func (b PoolKey) limits() (l cgroup.Limits) {
	some := func(want bool) int64 {
		if want {
			return 1
		}
		return 0
	}
	return cgroup.Limits{Memory: some(b.Memory), Processes: int(some(b.Processes)), CPUs: float64(some(b.CPUs)), ReadRate: some(b.Rates)}
}

// Numbers of descriptors in a worker, as template.py has them.
const (
	workerOwnPid  = 9 // in the template: its pid namespace
	workerInit    = 10
	workerProgram = 11
	workerRuleset = 20
	workerTop     = 64 // first number that a program's own may have
)

// msgReady is the message of a worker to its maker, beside those of a child init: one of its processes waits. Its value is the process id of init, from init.
const msgReady = 6

// Setup is the syscall list that the template makes workers of this base by. Its lists are for what starts init (before the start, and after it), for init, for the
// program, and for init after the program's start. Steps are what messages number.
//
// As root the template itself starts init: its next children are in a new pid namespace, until it goes back to its own, and init leaves the other namespaces
// by itself. A user namespace cannot be left again, so there a child of the template starts init.
func (b PoolKey) Setup() (calls []byte, steps *Steps) {
	s, at, h := &childInit{}, layout{setup: workerProgram, nonce: nonce()}, thisHost()
	userNS := !h.root
	build := &builder{steps: []step{stepProgramClone: {name: "fork", object: "program"}, stepGroup: {name: "write", object: "tasks of the control group", measure: "control-group"}}}
	at.kernel = kernelFiles()
	at.weigh = b.Memory && !(b.Groups && cgroup.Find(b.Parent).Has("memory"))
	spec := b.spec()

	var start, back, init, program, after []op
	first, rest := namespaces(spec, userNS), uintptr(0)
	if !userNS {
		first, rest = unix.CLONE_NEWPID, first&^unix.CLONE_NEWPID
	}
	unshare := step{name: "unshare", object: "namespaces"}
	build.list = &start
	build.add(must, unshare, unix.SYS_UNSHARE, first)
	build.list = &back
	build.add(must, step{name: "setns", object: "pid namespace"}, unix.SYS_SETNS, workerOwnPid, unix.CLONE_NEWPID)
	build.list = &init
	if rest != 0 {
		build.add(must, unshare, unix.SYS_UNSHARE, rest)
	}
	// What the host mounts later is to be seen by the run; what the run mounts stays in it.
	build.mounts(spec, at, unix.MS_SLAVE)
	build.list = &program
	if h.root {
		build.capabilities(spec.KeepCapabilities)
	}
	build.restrict(spec, at, Namespace, userNS, h)
	build.watch(spec, s, at, userNS, h)
	build.list = &after
	build.add(must, step{name: "prctl", object: "not dumpable"}, unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	build.childEvents()
	return build.syscallList(s, start, back, init, program, after), &Steps{build}
}

// Practice is a syscall list of calls that change nothing, in one list: for a template to learn by what it takes to make calls.
func Practice() []byte {
	b := &builder{steps: []step{{}}}
	var list []op
	b.list = &list
	for range 20 {
		b.add(must, step{name: "access"}, unix.SYS_FACCESSAT, 0, b.text("/"), 0)
	}
	return b.syscallList(&childInit{}, list)
}

// Steps are what the calls of a Setup are about.
type Steps struct{ b *builder }

// A Worker waits for a launcher.
type Worker struct {
	pid           int // of init
	init, program *os.File
	pidfd         *os.File
	listener      *os.File // nil: there is none
	group         *cgroup.Group
	gaps          []Gap
}

// NewWorker has a template make a worker: fork sends the descriptors to it. name is that of its control group, whose directories note is told of before they
// are made. ctx bounds the waiting.
func NewWorker(ctx context.Context, base PoolKey, steps *Steps, name string, note func(groups []string), fork func([]*os.File) error) (_ *Worker, err error) {
	s := &Worker{group: &cgroup.Group{}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if base.Groups {
		place := cgroup.Find(base.Parent)
		note(place.Paths(name))
		if s.group, err = place.Prepare(name, base.limits()); err != nil {
			s.group = &cgroup.Group{}
			return nil, &StepError{Step: "control group", Object: name, Err: err}
		}
	}
	var initEnd, programEnd *os.File
	s.init, initEnd = pair(&err)
	s.program, programEnd = pair(&err)
	if err != nil {
		return nil, &StepError{Step: "socketpair", Err: err}
	}
	entries, err := s.group.Entries()
	if err == nil {
		err = fork(append([]*os.File{initEnd, programEnd}, entries...))
	}
	initEnd.Close()
	programEnd.Close()
	s.group.Close()
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	for _, from := range []*os.File{s.init, s.program} {
		from.SetReadDeadline(deadline)
		if err := s.await(from, steps.b); err != nil {
			return nil, err
		}
		from.SetReadDeadline(time.Time{})
	}
	return s, nil
}

// await reads messages until one of a worker's processes is ready.
func (s *Worker) await(from *os.File, b *builder) error {
	var m [8]byte
	for {
		n, descriptor := receive(from, m[:])
		if n < len(m) {
			return &StepError{Step: "fork", Object: "worker", Err: errors.New("it ended, or did not answer in time")}
		}
		number, value := binary.NativeEndian.Uint16(m[2:]), int32(binary.NativeEndian.Uint32(m[4:]))
		switch m[0] {
		case msgReady:
			if from != s.init {
				return nil
			}
			s.pid = int(value)
			fd, err := unix.PidfdOpen(s.pid, 0)
			if err != nil {
				return &StepError{Step: "pidfd_open", Object: "init", Err: err}
			}
			s.pidfd = os.NewFile(uintptr(fd), "pidfd")
			return nil
		case msgListener:
			if descriptor < 0 {
				return &StepError{Step: "recvmsg", Object: "seccomp listener", Err: unix.EMFILE}
			}
			s.listener = os.NewFile(uintptr(descriptor), "seccomp listener")
		case msgMissing:
			failure := b.failure(number, value)
			name := failure.Step
			if m := b.steps[number].measure; m != "" {
				name = m
			}
			s.gaps = append(s.gaps, Gap{Name: name, Why: gapWhy(name, failure)})
		default:
			return b.failure(number, value)
		}
	}
}

// Alive tells whether the worker still waits.
func (s *Worker) Alive() bool {
	p := []unix.PollFd{{Fd: int32(s.pidfd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n == 0 && err == nil
}

// Pid is the process id of the worker's init, in the maker's pid namespace.
func (s *Worker) Pid() int { return s.pid }

// Paths are the directories of the worker's control group.
func (s *Worker) Paths() []string { return s.group.Paths() }

// Handoff is what a launcher needs to take the worker: text and descriptors for [ReadHandoff]. The maker closes its own with Give.
func (s *Worker) Handoff() (text []byte, descriptors []int) {
	lines := append([]string{"pid " + strconv.Itoa(s.pid)}, s.group.Lines()...)
	for _, gap := range s.gaps {
		lines = append(lines, "missing "+gap.Name+" "+strings.ReplaceAll(gap.Why, "\n", " "))
	}
	for _, f := range []*os.File{s.init, s.program, s.pidfd, s.listener} {
		if f != nil {
			descriptors = append(descriptors, int(f.Fd()))
		}
	}
	return []byte(strings.Join(lines, "\n")), descriptors
}

// Give closes the maker's descriptors but for the pidfd: the worker is a launcher's now, which ends it.
func (s *Worker) Give() {
	for _, f := range []**os.File{&s.init, &s.program, &s.listener} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

// Close ends a worker, or looks after one that was given away and has ended. It removes its group.
func (s *Worker) Close() error {
	s.Give()
	if s.pidfd != nil {
		p := []unix.PollFd{{Fd: int32(s.pidfd.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(p, 0); n == 0 {
			unix.PidfdSendSignal(int(s.pidfd.Fd()), unix.SIGKILL, nil, 0)
			unix.Poll(p, int(killWait.Milliseconds()))
		}
		s.pidfd.Close()
		s.pidfd = nil
	}
	s.group.Close()
	return s.group.Remove()
}

// A Handoff is a worker that a launcher has taken.
type Handoff struct {
	pid                            int
	init, program, pidfd, listener *os.File
	lines                          []string
}

// ReadHandoff takes what [Worker.Handoff] has sent. The descriptors are the Offer's.
func ReadHandoff(text []byte, descriptors []int) (*Handoff, error) {
	o := &Handoff{lines: strings.Split(string(text), "\n")}
	for i, to := range []**os.File{&o.init, &o.program, &o.pidfd, &o.listener} {
		if i < len(descriptors) {
			*to = os.NewFile(uintptr(descriptors[i]), "worker")
		}
	}
	pid, found := strings.CutPrefix(o.lines[0], "pid ")
	var err error
	if o.pid, err = strconv.Atoi(pid); err != nil || !found || o.pidfd == nil {
		o.Close()
		return nil, errors.New("not a handoff of a worker")
	}
	return o, nil
}

// Close gives a worker up that was not started: it ends.
func (o *Handoff) Close() {
	for _, f := range []*os.File{o.init, o.program, o.pidfd, o.listener} {
		if f != nil {
			f.Close()
		}
	}
}

// StartWorker is [Start] with a worker of the Spec's base. Path, Args and Env of the Spec are the template's business. It does not wait: that the set-up of the
// worker has failed is an error of [Running.Release]. An error leaves nothing behind; the program has not begun then, and Start can be tried. Files begin
// at Spec.FirstFile+1.
func StartWorker(spec Spec, stdio IO, o *Handoff) (_ *Running, err error) {
	r := &Running{spec: spec, started: time.Now(), gone: make(chan syscall.Rusage, 1), pid: o.pid, pidfd: o.pidfd, group: cgroup.Adopt(o.lines), setup: []*os.File{o.init, o.program}}
	var theirs []*os.File // what only the child needs
	r.reap = r.awaitGone
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			r.kill(unix.SIGKILL)
			select {
			case <-r.ended():
			case <-time.After(killWait): // in uninterruptible sleep: the kernel ends it when it can
			}
			if o.listener != nil {
				o.listener.Close()
			}
			r.close()
		}
	}()
	l, h := spec.Limits, thisHost()
	gaps := r.group.Limit(cgroup.Limits{Memory: l.Memory, Processes: l.Processes, CPUs: l.CPUs, ReadRate: l.ReadRate, WriteRate: l.WriteRate})
	if spec.Group.Name == "" {
		gaps = noGaps()
	}
	r.protection = protect(spec, Namespace, !h.root, gaps, nil)
	for _, line := range o.lines {
		if f := strings.SplitN(line, " ", 3); len(f) == 3 && f[0] == "missing" {
			r.protection.lose(f[1])
			r.lack(f[1], f[2])
		}
	}
	if o.listener != nil {
		r.protection.Enforced = append(r.protection.Enforced, activityMeasure)
	}
	stdin, ends, err := r.open(stdio, &theirs)
	if err != nil {
		return nil, err
	}
	at := layout{memoryGroup: r.group.Limits("memory"), pidsGroup: r.group.Limits("pids")}
	r.hide(spec, stdio.Workdir, &at)
	if w := stdio.Workdir; w != nil {
		var lines []string
		for _, path := range r.group.Paths() {
			lines = append(lines, "group "+path)
		}
		w.note(lines...)
		r.workdir = w
		if err := r.show(w, Namespace, &at); err != nil {
			return nil, err
		}
	}
	ruleset, rules, have, gaps2, err := landlock(spec, Namespace)
	if err != nil {
		return nil, err
	}
	r.protection.Enforced = append(r.protection.Enforced, have...)
	r.protection.Gaps = append(r.protection.Gaps, gaps2...)
	files := slices.Concat([]*os.File{stdin, ends.stdout, ends.stderr}, stdio.Files, []*os.File{ends.gate, ends.dump})
	if ruleset != nil {
		theirs = append(theirs, ruleset)
		files = append(files, ruleset)
	}

	b := &builder{steps: []step{stepProgramClone: {name: "fork", object: "program"}, stepGroup: {name: "write", object: "tasks of the control group"}}}
	var init, program []op
	b.list = &init
	b.cover(at)
	b.resizeShm(spec)
	b.list = &program
	for _, rule := range rules {
		b.rule(rule)
	}
	if ruleset != nil {
		b.landlock(workerRuleset)
	}
	b.closeRange(3, workerProgram-1, 0)
	b.closeRange(workerProgram+1, spec.FirstFile, 0)
	b.closeRange(spec.FirstFile+1+len(stdio.Files)+2, 1<<31-1, 0)
	if u := spec.RunAs; u != nil {
		b.become(*u)
		// As after an execve. Else the program's own files in /proc, and those of its children, would be root's.
		b.add(must, step{name: "prctl", object: "dumpable"}, unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)
	}
	b.add(must, step{name: "chdir", object: spec.Dir}, unix.SYS_CHDIR, b.text(spec.Dir))
	if spec.Umask == nil { // the launcher's own, which the template may have another of
		mask := unix.Umask(0)
		unix.Umask(mask)
		spec.Umask = &mask
	}
	b.umask(spec)
	b.limits(spec, at, h)
	if spec.RunAs == nil { // becoming another user has done it
		b.giveUp(spec, h)
	}
	if err := sendFiles(o.init, b.syscallList(&childInit{}, init), []*os.File{ends.lifeline, ends.status}); err != nil {
		return nil, &StepError{Step: "sendmsg", Object: "worker", Err: err}
	}
	if err := sendFiles(o.program, b.syscallList(&childInit{}, program), files); err != nil {
		return nil, &StepError{Step: "sendmsg", Object: "worker", Err: err}
	}
	for _, f := range theirs {
		f.Close()
	}
	theirs = nil
	if o.listener != nil {
		listener, err := unix.FcntlInt(o.listener.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		o.listener.Close()
		o.listener = nil
		if err == nil {
			r.recorder, err = newRecorder(listener, r.program)
		}
		if err == nil {
			r.weigh()
		}
		if err != nil {
			return nil, &StepError{Step: "dup", Object: "seccomp listener", Err: err}
		}
	}
	r.begun = func() error {
		if err := r.awaitExec(b); err != nil {
			return err
		}
		r.lookForSight()
		if gaps := r.protection.refusing(); spec.OnMissing == Refuse && len(gaps) > 0 {
			return &GapError{gaps}
		}
		return nil
	}
	return r, nil
}

// awaitGone waits for the end of a worker's init, which is somebody else's child, and with it of the whole pid namespace. It waits for as long as that
// takes; whoever needs to know waits for ended, not for this.
func (r *Running) awaitGone() {
	p := []unix.PollFd{{Fd: int32(r.pidfd.Fd()), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(p, -1); n > 0 || err != nil && err != unix.EINTR {
			break
		}
	}
	r.collect()
}

// rule is a call that adds a rule to the ruleset: the place is opened first, and what a file has no rights for is left out.
func (b *builder) rule(r landlockRule) {
	attr := &unix.LandlockPathBeneathAttr{Allowed_access: r.access}
	b.add(addRule, step{name: "landlock_add_rule", object: r.path}, unix.SYS_LANDLOCK_ADD_RULE, workerRuleset, unix.LANDLOCK_RULE_PATH_BENEATH,
		b.hold(bytesOf(attr), false), 0, b.text(r.path), landlockFile)
}

// giveUp leaves the capabilities that execve would leave: root those that it keeps, anybody else none.
func (b *builder) giveUp(spec Spec, h host) {
	header := make([]byte, 8)
	binary.NativeEndian.PutUint32(header, unix.LINUX_CAPABILITY_VERSION_3)
	var data [2]unix.CapUserData
	if h.root {
		unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
		for _, c := range dropped {
			if !slices.Contains(spec.KeepCapabilities, c.name) {
				data[c.number/32].Permitted &^= 1 << (c.number % 32)
			}
		}
		for i := range data {
			data[i].Effective, data[i].Inheritable = data[i].Permitted, 0
		}
	}
	b.add(must, step{name: "capset"}, unix.SYS_CAPSET, b.bytes(header), b.bytes(unsafe.Slice((*byte)(unsafe.Pointer(&data)), unsafe.Sizeof(data))))
}

// sendFiles sends one message with descriptors.
func sendFiles(to *os.File, message []byte, files []*os.File) error {
	var fds []int
	for _, f := range files {
		fds = append(fds, fd(f))
	}
	return SendTo(to, message, fds)
}

// SendTo sends one message with descriptors on a socket that keeps messages apart. It is the first on it, or the answer to the one before has come: there
// is room for it.
func SendTo(to *os.File, message []byte, descriptors []int) error {
	raw, err := to.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for failed = unix.EINTR; failed == unix.EINTR; {
			failed = unix.Sendmsg(int(fd), message, unix.UnixRights(descriptors...), nil, unix.MSG_NOSIGNAL)
		}
		return failed != unix.EAGAIN
	})
	return errors.Join(err, failed)
}

func noGaps() (gaps []cgroup.Gap) {
	for _, c := range []string{"memory", "pids", "cpu", "io"} {
		gaps = append(gaps, cgroup.Gap{Controller: c, Why: noGroups})
	}
	return gaps
}

func gapWhy(name string, failure *StepError) string {
	if name == activityMeasure && failure.Err == unix.EBUSY {
		return failure.Error() + "; another listener is there already: this runs inside another py3run, or a container engine listens"
	}
	return fmt.Sprint(failure)
}
