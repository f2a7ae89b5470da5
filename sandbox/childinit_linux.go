package sandbox

//lint:file-ignore U1000 initMain and programMain are called from assembly only

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the child init. It runs in a child made by a bare clone(2) of the multi-threaded
// launcher, and until the program's execve in a second one. Both share the launcher's memory and
// have stacks of their own. Nothing is copied, so the launcher has no page faults because of it. (In
// a Go program these cost three to six milliseconds after a fork; a second start of the binary costs
// three.) The price: here nothing of Go's runtime may be used. No allocation, no stack growth, no
// write barrier (no pointer is ever stored), no lock, no panic. Every function is nosplit and only
// makes raw system calls, with arguments that the launcher prepared before the clone. The launcher
// touches none of this until init is reaped.
//
// All signals are blocked from before the clone, so no Go signal handler runs in a child.
//
// The launcher makes its memory undumpable (see conceal), so no process of the run can read it
// through /proc or ptrace.
//
// What init and the program write to the launcher, and read from it, is drawn in protocol_linux.go.

// An op is one system call of the set-up.
type op struct {
	nr   uintptr
	arg  [6]uintptr
	step uint16
	mode uint8
}

const atFDCWD = ^uintptr(99) // AT_FDCWD, which is -100

// A rule of the Landlock ruleset: what may be done with a place.
type rule struct {
	path uintptr
	attr unix.LandlockPathBeneathAttr
	step uint16
}

type pollFD struct {
	fd      int32
	events  int16
	revents int16
}

const stackSize = 8 << 10 // of a child; the chain of nosplit functions needs less than 1 KB of the 8 KB

// A childInit is everything that the child needs, laid out before the clone.
type childInit struct {
	initEntry, programEntry uintptr // of initMain and programMain

	cloneFlags uintptr
	setup      []op    // in init, before the program's clone
	rules      []rule  // added by init after that
	ruleset    uintptr // descriptor that they are added to
	program    []op    // in the program's process; the last is execve
	after      []op    // in init, after the program's clone; the last makes the signalfd
	report     uintptr // descriptor that messages go to: the set-up socket, then the status pipe
	lifeline   uintptr
	namespace  bool
	terminal   uintptr // descriptor of the run's own; 0: it has none

	transparent bool     // signals for the process group of the launcher reach the program by themselves
	asked       uint64   // a set of signals, for rt_sigtimedwait
	now         [2]int64 // struct timespec: no time

	clone3   [11]uint64 // struct clone_args, for the program; without flags: not wanted
	poll     [3]pollFD
	moment   [2]int64 // struct timespec: timeout of each poll while a tracer holds the ended program
	message  [8]byte
	rights   [24]byte // struct cmsghdr and a descriptor: what sendmsg sends along
	byteRead [1]byte
	wstatus  int32
	group    int32 // the program's process group
	stacks   [2 * stackSize]byte
	children [32]byte // "/proc/thread-self/children", NUL-terminated
	buffer   [4096]byte
}

// words of struct clone_args (clone(2))
const (
	cloneFlags      = 0
	cloneExitSignal = 4
	cloneStack      = 5
	cloneStackSize  = 6
	cloneGroup      = 10
)

// cloneInit calls clone(2); the child calls the function at entry with c on the given stack (its
// upper end) and never returns. The result is the child's process id, or a negative errno.
//
//go:noescape
func cloneInit(flags, stack uintptr, c *childInit, entry uintptr) int

// clone3Init is cloneInit by clone3(2), which can put the child into a control group (v2) at once.
// When a process enters by a write to cgroup.procs, the kernel waits for all processors (RCU): ten
// milliseconds and more.
//
//go:noescape
func clone3Init(args *[11]uint64, size uintptr, c *childInit, entry uintptr) int

// entryOf is the address of a function's code. Assembly that calls a function by its name calls a
// wrapper of the compiler, and with -race the wrapper calls the race detector, which needs a stack of
// the launcher's.
func entryOf(f func(*childInit)) uintptr { return **(**uintptr)(unsafe.Pointer(&f)) }

//go:norace
//go:nosplit
func initMain(c *childInit) {
	c.run(c.setup)
	c.allow()
	// After a vfork, init waits until the program's execve: the program uses the same memory until then.
	r := -int(syscall.ENOSYS)
	if c.clone3[cloneFlags] != 0 {
		if r = clone3Init(&c.clone3, unsafe.Sizeof(c.clone3), c, c.programEntry); r < 0 {
			c.tell(msgMissing, stepGroup, int32(-r))
		}
	}
	if r < 0 {
		r = cloneInit(syscall.CLONE_VM|syscall.CLONE_VFORK|uintptr(syscall.SIGCHLD), c.stackTop(1), c, c.programEntry)
	}
	if r < 0 {
		c.fail(stepProgramClone, syscall.Errno(-r))
	}
	c.supervise(uintptr(r), c.run(c.after))
}

//go:norace
//go:nosplit
func programMain(c *childInit) {
	c.run(c.program)
	c.exit(127)
}

// stackTop is the upper end of the n-th stack, aligned as the calling conventions want it.
//
//go:norace
//go:nosplit
func (c *childInit) stackTop(n uintptr) uintptr {
	return (uintptr(unsafe.Pointer(&c.stacks)) + (n+1)*stackSize) &^ 15
}

// run makes the system calls of a list and returns the last result.
//
//go:norace
//go:nosplit
func (c *childInit) run(ops []op) (prev uintptr) {
	failed := false
	for i := range ops {
		o := &ops[i]
		if failed && o.mode&ifPrev != 0 {
			continue
		}
		first := o.arg[0]
		if o.mode&withPrev != 0 {
			first = prev
		}
		r, _, e := syscall.RawSyscall6(o.nr, first, o.arg[1], o.arg[2], o.arg[3], o.arg[4], o.arg[5])
		if e == 0 && o.mode&wantOne != 0 && r != 1 {
			e = syscall.ECANCELED
		}
		prev, failed = r, e != 0
		if o.mode&toSend != 0 {
			*(*int32)(unsafe.Pointer(&c.rights[unix.SizeofCmsghdr])) = int32(r)
		}
		if e == 0 || o.mode&quiet != 0 {
			continue
		}
		if o.mode&optional == 0 {
			c.fail(o.step, e)
		}
		c.tell(msgMissing, o.step, int32(e))
	}
	return prev
}

// allow adds the Landlock rules. A place that does not exist needs none.
//
//go:norace
//go:nosplit
func (c *childInit) allow() {
	for i := range c.rules {
		r := &c.rules[i]
		fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, atFDCWD, r.path, unix.O_PATH|syscall.O_CLOEXEC, 0, 0, 0)
		if e == syscall.ENOENT || e == syscall.ENOTDIR {
			continue
		}
		if e == 0 {
			r.attr.Parent_fd = int32(fd)
			if e = c.addRule(&r.attr); e == syscall.EINVAL { // a file, which has no rights of a directory's
				r.attr.Allowed_access &= landlockFile
				e = c.addRule(&r.attr)
			}
			syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
		}
		if e != 0 {
			c.fail(r.step, e)
		}
	}
}

//go:norace
//go:nosplit
func (c *childInit) addRule(attr *unix.LandlockPathBeneathAttr) syscall.Errno {
	_, _, e := syscall.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, c.ruleset, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(attr)), 0, 0, 0)
	return e
}

// supervise is the life of init: it passes signals on, reaps, and ends with the program or with the
// launcher.
//
// When a traced program ends, the kernel tells the tracer first, and the parent only after the
// tracer has waited for the program or is gone (ptrace(2)). A pidfd is readable at once. Then the
// tracer has a moment to wait for the program; after that init kills the whole tree, and with it a
// tracer that is part of the run. If only a thread other than the first is traced, the pidfd is not
// readable; the launcher finds that out (see endedUnseen).
//
//go:norace
//go:nosplit
func (c *childInit) supervise(program, signals uintptr) {
	c.lifeline, c.report = initLifeline, initStatus
	c.poll[0] = pollFD{fd: int32(signals), events: 1}
	c.poll[1] = pollFD{fd: int32(c.lifeline), events: 1}
	c.poll[2] = pollFD{fd: -1, events: 1}
	if fd, _, e := syscall.RawSyscall(unix.SYS_PIDFD_OPEN, program, 0, 0); e == 0 { // Linux 5.3
		c.poll[2].fd = int32(fd)
	}
	over, timeout, options := false, uintptr(0), uintptr(syscall.WNOHANG)
	if c.transparent {
		options |= syscall.WUNTRACED
	}
	if c.terminal != 0 {
		options |= syscall.WUNTRACED | syscall.WCONTINUED
	}
	for waits := 0; ; {
		c.poll[0].revents, c.poll[1].revents, c.poll[2].revents = 0, 0, 0
		c.moment[0], c.moment[1] = 0, 10e6 // the kernel writes what is left of it
		syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&c.poll)), 3, timeout, 0, 0, 0)
		if c.poll[1].revents != 0 {
			n, _, _ := syscall.RawSyscall(syscall.SYS_READ, c.lifeline, uintptr(unsafe.Pointer(&c.byteRead)), 1)
			if n != 1 {
				break
			}
			if !over { // else its id may be another process's by now
				switch c.byteRead[0] {
				case lifelineEnded:
					c.finish(program, true)
				case lifelineStop:
					syscall.RawSyscall(syscall.SYS_KILL, ^uintptr(0), uintptr(syscall.SIGSTOP), 0)
				case lifelineGo:
					syscall.RawSyscall(syscall.SYS_KILL, ^uintptr(0), uintptr(syscall.SIGCONT), 0)
				default:
					c.pass(program, uintptr(c.byteRead[0]))
				}
			}
		}
		if c.poll[0].revents != 0 {
			syscall.RawSyscall(syscall.SYS_READ, signals, uintptr(unsafe.Pointer(&c.buffer)), 128)
		}
		left, ended, status := uint16(1), false, int32(0)
		for {
			pid, _, e := syscall.RawSyscall6(syscall.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&c.wstatus)), options, 0, 0, 0)
			if e == syscall.ECHILD { // orphans become children of init, so nobody is left
				left = 0
			}
			if e != 0 || pid == 0 {
				break
			}
			if pid == program && (c.wstatus&0xff == 0x7f || c.wstatus == 0xffff) { // stopped or continued: asked for only of a transparent program and with a terminal
				c.tell(msgChanged, 0, c.wstatus)
			} else if pid == program {
				ended, status = true, c.wstatus
			}
		}
		switch {
		case ended:
			c.tell(msgEnded, left, status)
			over, timeout = true, 0
			c.poll[2].fd = -1
		case c.poll[2].revents != 0: // it has ended, and a tracer holds it
			c.poll[2].fd = -1
			timeout = uintptr(unsafe.Pointer(&c.moment))
		}
		if over && left == 0 {
			c.exit(0)
		}
		if timeout != 0 {
			if waits++; waits > 10 {
				c.finish(program, true)
			}
		}
	}
	c.finish(program, false)
}

// pass sends the program a signal that the launcher has got, unless a transparent program has got it,
// too: see transparent_linux.go.
//
//go:norace
//go:nosplit
func (c *childInit) pass(program, signal uintptr) {
	if c.transparent {
		c.asked = 1 << (signal - 1)
		r, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&c.asked)), 0, uintptr(unsafe.Pointer(&c.now)), 8, 0, 0)
		if e == 0 && r == signal {
			return
		}
	}
	c.signal(program, signal)
}

// signal sends a signal to the program. With a terminal, SIGCONT goes to its whole group, which
// becomes the foreground group, as by a shell's fg: what had the terminal may have ended without
// giving it back.
//
//go:norace
//go:nosplit
func (c *childInit) signal(program, number uintptr) {
	if number == uintptr(syscall.SIGCONT) && c.terminal != 0 {
		group, _, e := syscall.RawSyscall(syscall.SYS_GETPGID, program, 0, 0)
		if e == 0 && group > 1 {
			c.group = int32(group)
			syscall.RawSyscall(syscall.SYS_IOCTL, c.terminal, unix.TIOCSPGRP, uintptr(unsafe.Pointer(&c.group)))
			program = -group
		}
	}
	syscall.RawSyscall(syscall.SYS_KILL, program, number, 0)
}

// kept is the address of what an op with toSend keeps.
func (c *childInit) kept() uintptr { return uintptr(unsafe.Pointer(&c.rights[unix.SizeofCmsghdr])) }

// finish kills whatever is left and exits. In a pid namespace the exit is enough: the kernel kills
// the rest. Otherwise init is the subreaper: orphans become its children, and it kills them one by
// one. hidden: a tracer holds the ended program. Its status must still be reported, so init kills
// the tracer, too, and then reaps the program.
//
//go:norace
//go:nosplit
func (c *childInit) finish(program uintptr, hidden bool) {
	if c.namespace && !hidden {
		c.exit(0)
	}
	everybody := -program
	if c.namespace {
		everybody = ^uintptr(0) // of this pid namespace
	}
	syscall.RawSyscall(syscall.SYS_KILL, everybody, uintptr(syscall.SIGKILL), 0)
	for {
		fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, atFDCWD, uintptr(unsafe.Pointer(&c.children)), syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0)
		if e == 0 {
			n, _, _ := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&c.buffer)), uintptr(len(c.buffer)))
			syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
			pid := uintptr(0)
			for i := range c.buffer {
				if uintptr(i) >= n {
					break
				}
				if digit := c.buffer[i]; digit >= '0' && digit <= '9' {
					pid = pid*10 + uintptr(digit-'0')
				} else if pid != 0 { // every number is followed by a space; one that the buffer cut is not used
					syscall.RawSyscall(syscall.SYS_KILL, pid, uintptr(syscall.SIGKILL), 0)
					pid = 0
				}
			}
		}
		pid, _, e := syscall.RawSyscall6(syscall.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&c.wstatus)), 0, 0, 0, 0)
		if hidden && e == 0 && pid == program {
			c.tell(msgEnded, 0, c.wstatus)
			if c.namespace {
				c.exit(0)
			}
		}
		if e == syscall.ECHILD {
			c.exit(0)
		}
	}
}

//go:norace
//go:nosplit
func (c *childInit) fail(step uint16, errno syscall.Errno) {
	c.tell(msgFailed, step, int32(errno))
	c.exit(127)
}

//go:norace
//go:nosplit
func (c *childInit) tell(kind uint8, step uint16, value int32) {
	c.message[0] = kind
	*(*uint16)(unsafe.Pointer(&c.message[2])) = step
	*(*int32)(unsafe.Pointer(&c.message[4])) = value
	syscall.RawSyscall(syscall.SYS_WRITE, c.report, uintptr(unsafe.Pointer(&c.message)), 8)
}

//go:norace
//go:nosplit
func (c *childInit) exit(code uintptr) {
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, code, 0, 0)
	}
}
