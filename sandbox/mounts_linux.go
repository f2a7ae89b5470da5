package sandbox

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts makes the mount namespace, as far as it is the same for all runs: nothing propagates to
// the host (see mount_namespaces(7) for propagation, MS_PRIVATE or MS_SLAVE), /proc shows this pid
// namespace, loopback works in a network of its own.
func (b *builder) mounts(spec Spec, at layout, propagation uintptr) {
	none := b.text("none")
	b.add(must, step{name: "mount", object: "/ as private"}, unix.SYS_MOUNT, none, b.text("/"), 0, unix.MS_REC|propagation, 0)
	if spec.MinimalDev {
		b.dev(at)
	}
	b.links(spec.Links)
	b.add(optional, step{name: "mount", object: "/proc", measure: "proc"},
		unix.SYS_MOUNT, b.text("proc"), b.text("/proc"), b.text("proc"), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	b.mark()
	if spec.PrivateShm && !spec.MinimalDev { // a minimal /dev has one
		b.add(optional, step{name: "mount", object: shmDir, measure: shmMeasure}, unix.SYS_MOUNT,
			b.text("tmpfs"), b.text(shmDir), b.text("tmpfs"), unix.MS_NOSUID|unix.MS_NODEV, b.text(shmOptions(spec)))
	}
	if spec.DenyCalls {
		b.readOnlyKernel(at.kernel)
	}
	if spec.DenyNetwork {
		up := step{name: "ioctl", object: "loopback up", measure: "loopback"}
		request := make([]byte, 40) // struct ifreq
		copy(request, "lo")
		binary.NativeEndian.PutUint16(request[unix.IFNAMSIZ:], unix.IFF_UP|unix.IFF_RUNNING)
		b.add(optional, up, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		b.add(optional|withPrev, up, unix.SYS_IOCTL, 0, unix.SIOCSIFFLAGS, b.bytes(request))
	}
}

const (
	shmDir     = "/dev/shm"
	shmMeasure = "private-shm"
)

// shmOptions make a /dev/shm that everybody may use, as large as the run's memory limit: its pages
// count as the run's memory.
func shmOptions(spec Spec) string {
	if spec.Limits.Memory <= 0 {
		return "mode=1777"
	}
	return "mode=1777,size=" + strconv.FormatInt(spec.Limits.Memory, 10)
}

// resizeShm gives the /dev/shm of a worker the size of its run's.
func (b *builder) resizeShm(spec Spec) {
	if spec.PrivateShm && spec.Limits.Memory > 0 {
		b.add(optional, step{name: "mount", object: shmDir + " (size)", measure: shmMeasure}, unix.SYS_MOUNT,
			b.text("tmpfs"), b.text(shmDir), b.text("tmpfs"), unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, b.text(shmOptions(spec)))
	}
}

// cover shows the run its own directory, pins what the run must not move or replace, and hides what
// it must not see. A pinned directory is bind-mounted onto itself: the kernel neither renames nor
// removes a mount point (rename(2): EBUSY).
func (b *builder) cover(at layout) {
	for _, path := range at.pinned {
		p := b.text(path)
		b.add(optional, step{name: "mount", object: path + " (pinned)", measure: pinMeasure, about: path}, unix.SYS_MOUNT, p, p, 0, unix.MS_BIND|unix.MS_REC, 0)
	}
	for _, path := range at.readOnly {
		p := b.text(path)
		what := step{name: "mount", object: path + " (read-only)", measure: pinMeasure, about: path}
		b.add(optional, what, unix.SYS_MOUNT, p, p, 0, unix.MS_BIND|unix.MS_REC, 0)
		b.add(optional|ifPrev, what, unix.SYS_MOUNT_SETATTR, atFDCWD, p, unix.AT_RECURSIVE, b.readOnly(), readOnlySize)
	}
	for _, bind := range at.binds {
		b.add(must, step{name: "mount", object: bind[1]}, unix.SYS_MOUNT, b.text(bind[0]), b.text(bind[1]), 0, unix.MS_BIND, 0)
	}
	var empty uintptr
	for _, h := range at.hidden {
		what := step{name: "mount", object: h.path + " (hidden)", measure: "hidden-paths", about: h.path}
		switch {
		case h.dir && empty == 0: // one empty directory serves for all: a new file system is what costs
			empty = b.text(h.path)
			b.add(optional, what, unix.SYS_MOUNT, b.text("tmpfs"), empty, b.text("tmpfs"),
				unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, b.text("mode=000,nr_blocks=1,nr_inodes=1"))
		case h.dir:
			b.add(optional, what, unix.SYS_MOUNT, empty, b.text(h.path), 0, unix.MS_BIND, 0)
		default:
			b.add(optional, what, unix.SYS_MOUNT, b.text("/dev/null"), b.text(h.path), 0, unix.MS_BIND, 0)
		}
	}
}

// readOnlyKernel makes files read-only by which root could do what package seccomp refuses, or
// change the run's own limits: the kernel's parameters, its SysRq functions and the control groups.
// The rest of /sys stays writable: jobs set pins and fans there. It helps against accidents only:
// root's code can make namespaces of its own, mount the control groups (v1) anew in them and write
// its own limits.
func (b *builder) readOnlyKernel(paths []string) {
	for _, path := range paths {
		what := step{name: "mount", object: path + " (read-only)", measure: "read-only-kernel"}
		if strings.HasPrefix(path, "/proc/") { // it is not a mount point yet
			b.add(optional, what, unix.SYS_MOUNT, b.text(path), b.text(path), 0, unix.MS_BIND|unix.MS_REC, 0)
		}
		b.add(optional, what, unix.SYS_MOUNT_SETATTR, atFDCWD, b.text(path), unix.AT_RECURSIVE, b.readOnly(), readOnlySize)
	}
}

const readOnlySize = 32 // of struct mount_attr: attr_set, attr_clr, propagation, userns_fd

// readOnly is what mount_setattr(2) is to set.
func (b *builder) readOnly() uintptr {
	attr := make([]byte, readOnlySize)
	binary.NativeEndian.PutUint64(attr, unix.MOUNT_ATTR_RDONLY)
	return b.bytes(attr)
}

// dev mounts a /dev with the devices that programs expect everywhere, and a /dev/shm of its own. It
// bind-mounts the host's devices, because a user namespace does not allow mknod.
// Meanwhile the old /dev is mounted on /proc, which is mounted anew after this.
func (b *builder) dev(at layout) {
	what := step{name: "mount", object: "/dev", measure: "minimal-dev"}
	mount := func(source, target, fstype string, flags uintptr, options string) {
		b.add(must, what, unix.SYS_MOUNT, b.text(source), b.text(target), b.text(fstype), flags, b.text(options))
	}
	mount("/dev", "/proc", "", unix.MS_BIND|unix.MS_REC, "")
	mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k,nr_inodes=32")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		b.add(must, what, unix.SYS_MKNODAT, atFDCWD, b.text("/dev/"+name), unix.S_IFREG|0o666, 0)
		mount("/proc/"+name, "/dev/"+name, "", unix.MS_BIND, "")
	}
	if at.console != "" { // ttyname(3) looks for the run's terminal, which the new /dev/pts does not have
		b.add(must, what, unix.SYS_MKNODAT, atFDCWD, b.text("/dev/console"), unix.S_IFREG|0o600, 0)
		b.add(quiet, what, unix.SYS_MOUNT, b.text("/proc/"+at.console), b.text("/dev/console"), b.text(""), unix.MS_BIND, b.text(""))
	}
	for _, name := range []string{"pts", "shm"} {
		b.add(must, what, unix.SYS_MKDIRAT, atFDCWD, b.text("/dev/"+name), 0o755)
	}
	mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
	mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	for _, link := range [][2]string{{"pts/ptmx", "ptmx"}, {"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}} {
		b.add(must, what, unix.SYS_SYMLINKAT, b.text(link[0]), atFDCWD, b.text("/dev/"+link[1]))
	}
	b.add(must, what, unix.SYS_UMOUNT2, b.text("/proc"), unix.MNT_DETACH)
}
