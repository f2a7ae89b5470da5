package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// A worker is a sandbox without a run: an init and a program, forked by an interpreter that serves
// as template. They have namespaces and a control group of their own, and the filters that every
// run with this pool key has. Its maker keeps it ready. A launcher takes it, sets what differs from
// run to run (limits, directories, hidden paths, streams) and opens the gate.
//
//	maker ──descriptors, group──► template ──fork──► init, program     NewWorker
//	maker ◄──msgReady, listener── init, program
//	launcher ──asks──► maker ──two sockets, pidfd, listener──►         Worker.Handoff, ReadHandoff
//	launcher ──syscall lists, descriptors──► init, program             Handoff.start
//	launcher ◄──msgFailed │ end of file── init, program                Running.Release
//
// Init and the program make the system calls of a syscall list (protocol_linux.go), in the same
// order as those of an own child. An own child's execve closes descriptors and gives up
// capabilities. A worker has no execve, and makes calls for that.

// A PoolKey is the part of a [Spec] that is fixed before a run exists. A worker serves any run with
// the worker's pool key.
type PoolKey struct {
	DenyNetwork, MinimalDev, PrivateShm, DenyCalls, NoNewPrivileges bool

	Activity         Requirement
	Files            Requirement
	Reads            bool
	KeepCapabilities []string
	Parent           string // of the control groups; see [Group]
	Groups           bool   // control groups are made
	Memory           bool   // memory has a limit; the next three say the same of processes, CPU time and block devices
	Processes        bool
	CPUs             bool
	Rates            bool
	FirstFile        int
}

// Equal reports whether two keys are the same. The list of capabilities is compared in its order.
func (k PoolKey) Equal(o PoolKey) bool {
	return k.DenyNetwork == o.DenyNetwork && k.MinimalDev == o.MinimalDev && k.PrivateShm == o.PrivateShm && k.DenyCalls == o.DenyCalls && k.NoNewPrivileges == o.NoNewPrivileges &&
		k.Activity == o.Activity && k.Files == o.Files && k.Reads == o.Reads && slices.Equal(k.KeepCapabilities, o.KeepCapabilities) && k.Parent == o.Parent &&
		k.Groups == o.Groups && k.Memory == o.Memory && k.Processes == o.Processes && k.CPUs == o.CPUs && k.Rates == o.Rates && k.FirstFile == o.FirstFile
}

// PoolKey is the pool key of a Spec. ok is false if a worker cannot run it: without namespaces;
// with subordinate ids, because a worker maps its ids itself, and an ordinary user may map only its
// own.
func (s Spec) PoolKey() (key PoolKey, ok bool) {
	l := s.Limits
	return PoolKey{DenyNetwork: s.DenyNetwork, MinimalDev: s.MinimalDev, PrivateShm: s.PrivateShm, DenyCalls: s.DenyCalls, NoNewPrivileges: s.NoNewPrivileges,
		Activity: s.Activity, Files: s.Files, Reads: s.Reads, KeepCapabilities: s.KeepCapabilities, Parent: s.Group.Parent, Groups: s.Group.Name != "",
		Memory: l.Memory > 0, Processes: l.Processes > 0, CPUs: l.CPUs > 0, Rates: l.ReadRate > 0 || l.WriteRate > 0,
		FirstFile: s.FirstFile}, s.Method != Process && s.FirstFile >= workerTop && (!s.SubIDs || os.Geteuid() == 0)
}

// spec is the part of a Spec that the key holds.
func (k PoolKey) spec() Spec {
	return Spec{DenyNetwork: k.DenyNetwork, MinimalDev: k.MinimalDev, PrivateShm: k.PrivateShm, DenyCalls: k.DenyCalls, NoNewPrivileges: k.NoNewPrivileges,
		Activity: k.Activity, Files: k.Files, Reads: k.Reads, KeepCapabilities: k.KeepCapabilities, FirstFile: k.FirstFile}
}

func (k PoolKey) limits() (l cgroup.Limits) {
	some := func(want bool) int64 {
		if want {
			return 1
		}
		return 0
	}
	return cgroup.Limits{Memory: some(k.Memory), Processes: int(some(k.Processes)), CPUs: float64(some(k.CPUs)), ReadRate: some(k.Rates)}
}

// Setup is the syscall list by which the template makes workers of this key: see listStart and
// those after it. Messages refer to steps by their numbers.
func (k PoolKey) Setup() (calls []byte, steps *Steps) {
	c, at, h := &childInit{}, layout{setup: workerProgram, nonce: nonce()}, thisHost()
	userNS := !h.root
	build := &builder{steps: []step{stepProgramClone: {name: "fork", object: "program"}, stepGroup: {name: "write", object: "tasks of the control group", measure: "control-group"}}}
	at.kernel = kernelFiles()
	at.weigh = k.Memory && !(k.Groups && cgroup.Find(k.Parent).Has("memory"))
	spec := k.spec()

	var lists [listsOfSetup][]op
	first, rest := namespaces(spec, userNS), uintptr(0)
	if !userNS {
		first, rest = unix.CLONE_NEWPID, first&^unix.CLONE_NEWPID
	}
	unshare := step{name: "unshare", object: "namespaces"}
	build.list = &lists[listStart]
	build.add(must, unshare, unix.SYS_UNSHARE, first)
	build.list = &lists[listBack]
	build.add(must, step{name: "setns", object: "pid namespace"}, unix.SYS_SETNS, workerOwnPid, unix.CLONE_NEWPID)
	build.list = &lists[listInit]
	if rest != 0 {
		build.add(must, unshare, unix.SYS_UNSHARE, rest)
	}
	// The run sees what the host mounts later; what the run mounts stays in it.
	build.mounts(spec, at, unix.MS_SLAVE)
	build.list = &lists[listProgram]
	if h.root {
		build.capabilities(spec.KeepCapabilities)
	}
	build.restrict(spec, at, Namespace, userNS, h)
	build.watch(spec, c, at, userNS, h)
	build.list = &lists[listAfter]
	build.add(must, step{name: "prctl", object: "not dumpable"}, unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	build.childEvents()
	return build.syscallList(c, lists[:]...), &Steps{build}
}

// Practice is a syscall list of harmless calls. A template makes them to learn which pages of memory
// a process touches when it makes calls.
func Practice() []byte {
	b := &builder{steps: []step{{}}}
	var list []op
	b.list = &list
	for range 20 {
		b.add(must, step{name: "access"}, unix.SYS_FACCESSAT, 0, b.text("/"), 0)
	}
	return b.syscallList(&childInit{}, list)
}

// Steps say what each call of a Setup is about.
type Steps struct{ b *builder }

// A Worker waits for a launcher.
type Worker struct {
	pid           int // of init
	init, program *os.File
	pidfd         *os.File
	listener      *os.File // nil: there is none
	group         *cgroup.Group
	pipes         pipeStock // of the run
	gaps          []Gap
}

// NewWorker asks a template for a worker: fork sends the descriptors to the template. name is the
// name of the worker's control group. NewWorker calls note with the group's directories before it
// makes them. The deadline of ctx ends the waiting.
func NewWorker(ctx context.Context, key PoolKey, steps *Steps, name string, note func(groups []string), fork func([]*os.File) error) (_ *Worker, err error) {
	w := &Worker{group: &cgroup.Group{}}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if key.Groups {
		place := cgroup.Find(key.Parent)
		note(place.Paths(name))
		if w.group, err = place.Prepare(name, key.limits()); err != nil {
			w.group = &cgroup.Group{}
			return nil, &StepError{Step: "control group", Object: name, Err: err}
		}
	}
	var initEnd, programEnd *os.File
	w.init, initEnd = pair(&err)
	w.program, programEnd = pair(&err)
	if err != nil {
		return nil, &StepError{Step: "socketpair", Err: err}
	}
	entries, err := w.group.Entries()
	if err == nil {
		err = fork(append([]*os.File{initEnd, programEnd}, entries...))
	}
	initEnd.Close()
	programEnd.Close()
	w.group.Close()
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	for _, from := range []*os.File{w.init, w.program} {
		from.SetReadDeadline(deadline)
		if err := w.await(from, steps.b); err != nil {
			return nil, err
		}
		from.SetReadDeadline(time.Time{})
	}
	return w, nil
}

// await reads messages until one of a worker's processes is ready.
func (w *Worker) await(from *os.File, b *builder) error {
	var m [8]byte
	for {
		n, descriptor, _ := receive(from, m[:])
		if n < len(m) {
			return &StepError{Step: "fork", Object: "worker", Err: errors.New("it ended, or did not answer in time")}
		}
		number, value := binary.NativeEndian.Uint16(m[2:]), int32(binary.NativeEndian.Uint32(m[4:]))
		switch m[0] {
		case msgReady:
			if from != w.init {
				return nil
			}
			w.pid = int(value)
			fd, err := unix.PidfdOpen(w.pid, 0)
			if err != nil {
				return &StepError{Step: "pidfd_open", Object: "init", Err: err}
			}
			w.pidfd = os.NewFile(uintptr(fd), "pidfd")
			return nil
		case msgListener:
			if descriptor < 0 {
				return &StepError{Step: "recvmsg", Object: "seccomp listener", Err: unix.EMFILE}
			}
			w.listener = os.NewFile(uintptr(descriptor), "seccomp listener")
		case msgMissing:
			name, why := b.missing(number, value)
			w.gaps = append(w.gaps, Gap{Name: name, Why: why})
		default:
			return b.failure(number, value)
		}
	}
}

// Ready prepares the worker for a run with these limits. It still serves runs with others.
func (w *Worker) Ready(l Limits) {
	w.group.Ready(l.ofGroup())
	w.pipes = newPipeStock()
}

// Alive tells whether the worker still waits.
func (w *Worker) Alive() bool {
	p := []unix.PollFd{{Fd: int32(w.pidfd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n == 0 && err == nil
}

// Pid is the process id of the worker's init, in the maker's pid namespace.
func (w *Worker) Pid() int { return w.pid }

// Paths are the directories of the worker's control group.
func (w *Worker) Paths() []string { return w.group.Paths() }

// Handoff returns what a launcher needs to take the worker: text and descriptors for [ReadHandoff].
// The maker closes its own descriptors with Give.
func (w *Worker) Handoff() (text []byte, descriptors []int) {
	for _, f := range []*os.File{w.init, w.program, w.pidfd, w.listener} {
		if f != nil {
			descriptors = append(descriptors, int(f.Fd()))
		}
	}
	return []byte(strings.Join(w.lines(), "\n")), descriptors
}

// lines say what a launcher has to know of the worker.
func (w *Worker) lines() []string {
	lines := append([]string{"pid " + strconv.Itoa(w.pid)}, w.group.Lines()...)
	for _, gap := range w.gaps {
		lines = append(lines, "missing "+gap.Name+" "+strings.ReplaceAll(gap.Why, "\n", " "))
	}
	return lines
}

// Take gives the worker to a run of this process. The maker still calls Close when the run is over.
func (w *Worker) Take() (*Handoff, error) {
	fd, err := unix.FcntlInt(w.pidfd.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &StepError{Step: "dup", Object: "pidfd of a worker", Err: err}
	}
	h := &Handoff{group: w.group.Handover(), pipes: w.pipes, pid: w.pid, init: w.init, program: w.program, pidfd: os.NewFile(uintptr(fd), "pidfd"), listener: w.listener, lines: w.lines()}
	w.init, w.program, w.listener, w.pipes = nil, nil, nil, pipeStock{}
	return h, nil
}

// Give closes the maker's descriptors except the pidfd: the worker now belongs to a launcher, which
// ends it.
func (w *Worker) Give() {
	for _, f := range []**os.File{&w.init, &w.program, &w.listener} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

// Close ends a worker, unless it has ended, and removes its control group.
func (w *Worker) Close() error {
	w.Give()
	w.pipes.close()
	if w.pidfd != nil {
		p := []unix.PollFd{{Fd: int32(w.pidfd.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(p, 0); n == 0 {
			unix.PidfdSendSignal(int(w.pidfd.Fd()), unix.SIGKILL, nil, 0)
			unix.Poll(p, int(killWait.Milliseconds()))
		}
		w.pidfd.Close()
		w.pidfd = nil
	}
	w.group.Close()
	return w.group.Remove()
}

// SendTo sends one message with descriptors on a socket that keeps messages apart. The socket has
// room for it: it is the first message, or the one before was answered.
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
