package sandbox

import "golang.org/x/sys/unix"

// A process finds out by its namespaces whether it runs in a sandbox of this package, and not by its
// environment, which anybody can set. Init binds the file of its pid namespace on markPath in its
// mount namespace. So a process is in a sandbox if markPath is its own pid namespace. Elsewhere
// markPath is a file of procfs; in a container that the run starts, the pid namespace is another.
//
// The kernel has had /proc/execdomains since Linux 2.1, and it says nothing since Linux 4.17.
const markPath = "/proc/execdomains"

// Without namespaces there is neither. Then the mark is a timer slack one nanosecond above the usual
// one, which children inherit and execve keeps (PR_SET_TIMERSLACK(2const)). A caller can set that, too.
// All that it gains is that a link starts the interpreter without a sandbox, which it can do anyway.
const markSlack = 50001 // nanoseconds

// markByProcess marks a program without namespaces, and its children.
func (b *builder) markByProcess() {
	b.add(optional|quiet, step{name: "prctl", object: "timer slack"}, unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, markSlack)
}

func (b *builder) mark() {
	b.add(optional|quiet, step{name: "mount", object: markPath}, unix.SYS_MOUNT, b.text("/proc/self/ns/pid"), b.text(markPath), 0, unix.MS_BIND, 0)
}

// Inside reports whether this process runs in a sandbox that this package has made.
func Inside() bool {
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil && slack == markSlack {
		return true
	}
	var mark, own unix.Stat_t
	return unix.Stat(markPath, &mark) == nil && unix.Stat("/proc/self/ns/pid", &own) == nil && mark.Dev == own.Dev && mark.Ino == own.Ino
}
