package sandbox

import "golang.org/x/sys/unix"

// A process finds out by its namespaces whether it runs in a sandbox of this package, and not by its
// environment, which anybody can set. Init binds the file of its pid namespace on markPath in its
// mount namespace. So a process is in a sandbox if markPath is its own pid namespace. Elsewhere
// markPath is a file of procfs; in a container that the run starts, the pid namespace is another.
//
// The kernel has had /proc/execdomains since Linux 2.1, and it says nothing since Linux 4.17.
const markPath = "/proc/execdomains"

func (b *builder) mark() {
	b.add(optional|quiet, step{name: "mount", object: markPath}, unix.SYS_MOUNT, b.text("/proc/self/ns/pid"), b.text(markPath), 0, unix.MS_BIND, 0)
}

// Inside reports whether this process runs in a sandbox with namespaces that this package has made.
// Only who may mount in this process's mount namespace can make it true, by binding that file.
func Inside() bool {
	var mark, own unix.Stat_t
	return unix.Stat(markPath, &mark) == nil && unix.Stat("/proc/self/ns/pid", &own) == nil && mark.Dev == own.Dev && mark.Ino == own.Ino
}
