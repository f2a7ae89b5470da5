package sandbox

import (
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/sigaction"
)

// This file has what is different for a transparent program (Spec.Transparent).
//
// # Signals
//
// The program is in the process group of the launcher, and so is init. A signal for the group, as a
// terminal sends it, reaches all three. A signal for the launcher alone, as a caller sends it, has to
// go on to the program. The launcher cannot tell the two apart, but init can: it blocks all signals,
// so a signal for the group waits in init, too. For each signal that the launcher passes on, init
// looks whether it has one itself. If it has, the program has got its own.
//
// # Stops
//
// A shell sees that its job is stopped when the launcher is. The launcher does not stop at SIGTSTP,
// because the program may handle it. It stops when init reports that the program has.

// callerGrace bounds the time between SIGTERM and SIGKILL when the caller has ended. Together with
// the rest of the end it is below four seconds.
const callerGrace = 3 * time.Second

// inherit leaves a transparent program the descriptors of its caller, and closes all others at
// execve. The ends of pipes have numbers above 2, because a launcher's streams are always open (see
// runtime/fds_unix.go of Go).
func (b *builder) inherit(at layout) {
	kept := slices.Clone(at.inherit)
	for to, from := range []int{1: at.stdout, 2: at.stderr} {
		if to > 0 && from != unused {
			b.add(must, step{name: "dup3", object: "descriptor " + strconv.Itoa(to)}, unix.SYS_DUP3, uintptr(from), uintptr(to), 0)
			kept = append(kept, to)
		}
	}
	slices.Sort(kept)
	next := 0
	for _, fd := range append(kept, 1<<31) {
		b.closeRange(next, fd-1, unix.CLOSE_RANGE_CLOEXEC)
		next = fd + 1
	}
}

// untilReleased holds the program. Signals are still blocked, so none of them ends it here.
func (b *builder) untilReleased(at layout) {
	message := make([]byte, 8)
	message[0] = msgHeld
	b.add(must, step{name: "write", object: "set-up socket"}, unix.SYS_WRITE, uintptr(at.setup), b.bytes(message), uintptr(len(message)))
	b.add(wantOne, step{name: "read", object: "gate"}, unix.SYS_READ, uintptr(at.gate), b.bytes(make([]byte, 1)), 1)
}

// execute waits for the execve of a held program that was released.
func (r *Running) execute() error {
	b := r.held
	if r.held = nil; b == nil {
		return nil
	}
	r.setup[0].SetReadDeadline(time.Now().Add(setupMost))
	return r.readSetup(b, noWait)
}

// oldStop is how long after a stop a signal that stops may still be the one of that stop.
const oldStop = time.Second

// pass is what a signal to the launcher means for a transparent program. On a busy machine the
// launcher gets to know of a SIGTSTP only when it goes on again, and the SIGCONT has discarded the one
// that waited in init: the program would stop once more.
func (w *waiter) pass(s syscall.Signal) {
	switch s {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		if went := w.resumed.Load(); went != nil && time.Since(*went) < oldStop {
			return
		}
	}
	w.signal(s)
}

// asksToEnd reports whether a signal to the launcher asks it to end. The launcher of a transparent
// program hears of others too, for the program: of each change of the window's size, for example.
func asksToEnd(s os.Signal) bool {
	switch s {
	case os.Signal(CallerGone), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM:
		return true
	}
	return false
}

// abandon ends the run because the caller has ended: nobody is left who could send a second signal.
func (w *waiter) abandon() {
	if w.out.Reason != Finished {
		return
	}
	w.stop(Cancelled, 0, syscall.SIGTERM)
	w.signal(syscall.SIGCONT)
	w.grace = time.After(min(w.spec.Grace, callerGrace))
}

// halt stops this process by the signal that has stopped its program.
func halt(m [8]byte) {
	sigaction.Raise(syscall.Signal(binary.NativeEndian.Uint32(m[4:]) >> 8)) // of a wait status (wait(2))
}

// environment returns the variables of a program.
func (s Spec) environment(method Method, h host) []string {
	if method == Process || !h.tree {
		return slices.Concat(s.Env, s.Linkless)
	}
	return s.Env
}

// hasOpenTree reports whether this process may call open_tree(2).
func hasOpenTree() bool {
	_, err := unix.OpenTree(-1, "link", 0)
	return err == unix.EBADF // neither ENOSYS nor, in a container, EPERM
}

const linkMeasure = "interpreter-link"

// links puts symbolic links in the place of paths. A link that is mounted on another behaves as any
// link does, for readlink(2), too. The links themselves lie in a small file system that is detached
// again: meanwhile it is on /proc, which is mounted anew after this. If it cannot be mounted, the steps
// after that fail, too, because nobody can make a file in procfs.
func (b *builder) links(links []Link) {
	if len(links) == 0 {
		return
	}
	what := step{name: "mount", object: "links to the interpreter", measure: linkMeasure}
	b.add(optional, what, unix.SYS_MOUNT, b.text("tmpfs"), b.text("/proc"), b.text("tmpfs"), unix.MS_NOSUID|unix.MS_NODEV, b.text("mode=755,size=64k"))
	for i, l := range links {
		made := b.text("/proc/" + strconv.Itoa(i))
		what := step{name: "mount", object: l.Path, measure: linkMeasure, about: l.Path}
		b.add(optional, what, unix.SYS_SYMLINKAT, b.text(l.Target), atFDCWD, made)
		b.add(optional|ifPrev, what, unix.SYS_OPEN_TREE, atFDCWD, made, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
		b.add(optional|ifPrev|withPrev, what, unix.SYS_MOVE_MOUNT, 0, b.text(""), atFDCWD, b.text(l.Path), unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	b.add(quiet, what, unix.SYS_MKDIRAT, atFDCWD, b.text("/proc/links"), 0o700) // only in the small file system
	b.add(ifPrev, what, unix.SYS_UMOUNT2, b.text("/proc"), unix.MNT_DETACH)
}
