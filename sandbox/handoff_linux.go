package sandbox

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// A Handoff is a worker that a launcher has taken.
type Handoff struct {
	pid                            int
	init, program, pidfd, listener *os.File
	lines                          []string
	group                          *cgroup.Group // nil: it follows from the lines
	pipes                          pipeStock
}

// ReadHandoff reads what [Worker.Handoff] has sent. The Handoff owns the descriptors.
func ReadHandoff(text []byte, descriptors []int) (*Handoff, error) {
	h := &Handoff{lines: strings.Split(string(text), "\n")}
	for i, to := range []**os.File{&h.init, &h.program, &h.pidfd, &h.listener} {
		if i < len(descriptors) {
			*to = os.NewFile(uintptr(descriptors[i]), "worker")
		}
	}
	pid, found := strings.CutPrefix(h.lines[0], "pid ")
	var err error
	if h.pid, err = strconv.Atoi(pid); err != nil || !found || h.pidfd == nil {
		h.Close()
		return nil, errors.New("not a handoff of a worker")
	}
	return h, nil
}

// Close gives up a worker that was not started. The worker ends then.
func (h *Handoff) Close() {
	for _, f := range []*os.File{h.init, h.program, h.pidfd, h.listener} {
		if f != nil {
			f.Close()
		}
	}
	if h.group != nil {
		h.group.Close()
	}
	h.pipes.close()
}

// start uses the worker for a run. It ignores Path, Args and Env of the Spec: the template has fixed
// them. start does not wait: if the set-up in the worker fails, [Running.Release] returns the error.
// The first of the files must be nil: it is the interpreter's own code, which the template has.
func (h *Handoff) start(spec Spec, stdio IO) (_ *Running, err error) {
	if h.group == nil {
		h.group = cgroup.Adopt(h.lines)
	}
	r := newRunning(spec, h.group, observed{method: Namespace, userNS: os.Geteuid() != 0, root: os.Geteuid() == 0})
	r.pipes, h.pipes = h.pipes, pipeStock{}
	worker := &preforkedInit{r: r, pidfd: h.pidfd}
	r.pid, r.init, r.setup = h.pid, worker, []*os.File{h.init, h.program}
	defer onFailure(&err, func() {
		r.giveUp()
		if h.listener != nil {
			h.listener.Close()
		}
		r.close()
	})
	var theirs files
	defer theirs.close()
	if len(stdio.Files) == 0 || stdio.Files[0] != nil || slices.Contains(stdio.Files[1:], nil) {
		return nil, &StepError{Step: "descriptors", Object: "IO.Files of a worker", Err: unix.EINVAL}
	}
	if stdio.Terminal != nil { // the worker has its session already, and has seen that its streams are no terminal
		return nil, &StepError{Step: "descriptors", Object: "IO.Terminal of a worker", Err: unix.EINVAL}
	}
	h.find(r)
	stdin, ends, err := r.open(stdio, &theirs)
	if err != nil {
		return nil, err
	}
	at := layout{memoryGroup: r.group.Limits("memory"), pidsGroup: r.group.Limits("pids")}
	if spec.periods {
		at.periods = spec.PeriodsFile(len(stdio.Files))
	}
	r.hide(spec, stdio.Workdir, &at)
	if w := stdio.Workdir; w != nil {
		w.noteGroups(r.group.Paths())
		if err := r.show(w, &at); err != nil {
			return nil, err
		}
	}
	r.found.landlock = fit(spec, Namespace, landlockVersion())
	ruleset, err := r.found.landlock.make()
	if err != nil {
		return nil, err
	}
	given := slices.Concat([]*os.File{stdin, ends.stdout, ends.stderr}, stdio.Files[1:], []*os.File{ends.gate, ends.dump})
	if ruleset != nil {
		theirs.add(ruleset)
		given = append(given, ruleset)
		at.landlock = workerRuleset
	}
	if spec.Umask == nil { // the launcher's own; the template may have another
		spec.Umask = umaskOf("/proc/self/status")
	}
	b, init, program := workerCalls(spec, at, r.found.landlock.rules, len(stdio.Files), thisHost(), ownCapabilities())
	if err := sendFiles(h.init, b.syscallList(&childInit{}, init), []*os.File{ends.lifeline, ends.status}); err != nil {
		return nil, &StepError{Step: "sendmsg", Object: "worker", Err: err}
	}
	if err := sendFiles(h.program, b.syscallList(&childInit{}, program), given); err != nil {
		return nil, &StepError{Step: "sendmsg", Object: "worker", Err: err}
	}
	theirs.close()
	worker.b = b
	if err := h.listen(r); err != nil {
		return nil, err
	}
	return r, nil
}

// find notes what the maker has said of the worker: what its group can do, and which steps have
// failed.
func (h *Handoff) find(r *Running) {
	r.found.groups = noGaps()
	if r.spec.Group.Name != "" {
		r.found.groups = r.group.Limit(r.spec.Limits.ofGroup())
	}
	for _, line := range h.lines {
		if f := strings.SplitN(line, " ", 3); len(f) == 3 && f[0] == "missing" {
			r.found.miss(f[1], f[2])
		}
	}
	r.found.listening = h.listener != nil
	r.found.filing = h.listener != nil && waitKillable() != 0
}

// listen gives the listener of the worker's activity to the run.
func (h *Handoff) listen(r *Running) error {
	if h.listener == nil {
		return nil
	}
	listener, err := unix.FcntlInt(h.listener.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	h.listener.Close()
	h.listener = nil
	if err != nil {
		return &StepError{Step: "dup", Object: "seccomp listener", Err: err}
	}
	return r.listen(listener)
}

// workerCalls are the calls by which a worker's init and program get what differs from run to run.
func workerCalls(spec Spec, at layout, rules []landlockRule, files int, h host, own capabilities) (b *builder, init, program []op) {
	b = &builder{steps: []step{stepProgramClone: {name: "fork", object: "program"}, stepGroup: {name: "write", object: "tasks of the control group"}}}
	b.list = &init
	b.cover(at)
	b.resizeShm(spec)
	b.list = &program
	for _, rule := range rules {
		b.rule(rule)
	}
	if at.landlock > 0 {
		b.landlock(at.landlock)
	}
	b.closeRange(3, workerProgram-1, 0)
	b.closeRange(workerProgram+1, spec.FirstFile, 0)
	b.closeRange(spec.DumpFile(files)+1, 1<<31-1, 0)
	if u := spec.RunAs; u != nil {
		b.become(*u)
		// As after an execve. Otherwise root would own the files of the program, and of its
		// children, in /proc.
		b.add(must, step{name: "prctl", object: "dumpable"}, unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)
	}
	b.add(must, step{name: "chdir", object: spec.Dir}, unix.SYS_CHDIR, b.text(spec.Dir))
	b.umask(spec)
	b.limits(spec, at, h)
	if spec.RunAs == nil { // becoming another user has done it
		b.giveUp(spec, h, own)
	}
	return b, init, program
}

// umaskOf reads the umask of a process (proc_pid_status(5), since Linux 4.7); nil: it is not known.
// umask(2) can only ask by changing the umask of the whole process.
func umaskOf(status string) *int {
	text, _ := os.ReadFile(status)
	_, rest, _ := strings.Cut(string(text), "\nUmask:\t")
	digits, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseInt(digits, 8, 32)
	if err != nil {
		return nil
	}
	n := int(mask)
	return &n
}

// A preforkedInit is the init of a worker: a child of its maker, and known by a pidfd.
type preforkedInit struct {
	r     *Running
	pidfd *os.File
	b     *builder
}

// workerMost is how long a worker may take for its set-up. A thread of a preloaded module can delay
// it; after this time the run starts in an own child.
const workerMost = 5 * time.Second

func (w *preforkedInit) settle() error {
	if err := w.r.readSetup(w.b, awaitWorker); err != nil {
		return err
	}
	w.r.lookForSight()
	return w.r.refuse()
}

// awaitWorker waits for a message of a worker. As a rule it comes at once.
func awaitWorker(from *os.File) error {
	p, began := polled(from), time.Now()
	if awaitBriefly(&p, briefMost) {
		return nil
	}
	for left := workerMost; left > 0; left = workerMost - time.Since(began) {
		poll := []unix.PollFd{{Fd: p.fd, Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, int(left.Milliseconds())+1); n > 0 || err != nil && err != unix.EINTR {
			return nil
		}
	}
	return &StepError{Step: "set-up", Object: "worker", Err: unix.ETIMEDOUT}
}

func (w *preforkedInit) kill(s syscall.Signal) { unix.PidfdSendSignal(int(w.pidfd.Fd()), s, nil, 0) }

// reap waits until init reports what the tree has used. Init reports it when nothing of the tree is
// left; the maker reaps init. If init was killed, reap waits for its end: by then the kernel has
// ended the pid namespace.
func (w *preforkedInit) reap() (usage syscall.Rusage) {
	if _, err := io.ReadFull(w.r.status, bytesOf(&usage)); err == nil {
		return usage
	}
	p := []unix.PollFd{{Fd: int32(w.pidfd.Fd()), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(p, -1); n > 0 || err != nil && err != unix.EINTR {
			return syscall.Rusage{}
		}
	}
}

func (w *preforkedInit) reapBriefly(most time.Duration) (usage syscall.Rusage, ok bool) {
	p := polled(w.r.status)
	if !awaitBriefly(&p, most) {
		return usage, false
	}
	n, _ := unix.Read(int(p.fd), bytesOf(&usage))
	return usage, n == len(bytesOf(&usage)) // else init was killed
}

func (w *preforkedInit) close() { w.pidfd.Close() }

// rule is a call that adds a rule to the ruleset. The worker opens the place first. If the place is
// a file, the worker leaves out the rights that only directories have.
func (b *builder) rule(r landlockRule) {
	attr := &unix.LandlockPathBeneathAttr{Allowed_access: r.access}
	b.add(addRule, step{name: "landlock_add_rule", object: r.path}, unix.SYS_LANDLOCK_ADD_RULE, workerRuleset, unix.LANDLOCK_RULE_PATH_BENEATH,
		b.hold(bytesOf(attr), false), 0, b.text(r.path), landlockFile)
}

// capabilities are those of a process, as capget(2) and capset(2) have them.
type capabilities [2]unix.CapUserData

// ownCapabilities are root's own; an ordinary user has none.
func ownCapabilities() (c capabilities) {
	if os.Geteuid() == 0 {
		unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &c[0])
	}
	return c
}

// giveUp drops the capabilities that execve would drop: root keeps those that it may keep, other
// users none.
func (b *builder) giveUp(spec Spec, h host, own capabilities) {
	header := make([]byte, 8)
	binary.NativeEndian.PutUint32(header, unix.LINUX_CAPABILITY_VERSION_3)
	var left capabilities
	if h.root {
		for _, c := range dropped {
			if !slices.Contains(spec.KeepCapabilities, c.name) {
				own[c.number/32].Permitted &^= 1 << (c.number % 32)
			}
		}
		for i := range left {
			left[i] = unix.CapUserData{Effective: own[i].Permitted, Permitted: own[i].Permitted}
		}
	}
	b.add(must, step{name: "capset"}, unix.SYS_CAPSET, b.bytes(header), b.bytes(bytesOf(&left)))
}

// sendFiles sends one message with descriptors.
func sendFiles(to *os.File, message []byte, files []*os.File) error {
	var fds []int
	for _, f := range files {
		fds = append(fds, fd(f))
	}
	return SendTo(to, message, fds)
}
