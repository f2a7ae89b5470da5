package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

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

// Setup is the syscall list by which the template makes workers of this key: see listStart and those after it. Steps are what messages number.
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
		n, descriptor, _ := receive(from, m[:])
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
			name, why := b.missing(number, value)
			s.gaps = append(s.gaps, Gap{Name: name, Why: why})
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
