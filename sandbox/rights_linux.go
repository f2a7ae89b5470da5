package sandbox

import (
	"encoding/binary"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"py3run/sandbox/seccomp"
)

// dropped are the capabilities that would undo the sandbox or get round its limits. Root keeps its
// access to files (CAP_DAC_OVERRIDE, CAP_CHOWN …), to the network and to its own processes.
var dropped = []struct {
	number uintptr
	name   string
	late   bool // not known to every kernel that this runs on
}{
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", false}, {unix.CAP_LINUX_IMMUTABLE, "CAP_LINUX_IMMUTABLE", false},
	{unix.CAP_SYS_MODULE, "CAP_SYS_MODULE", false}, {unix.CAP_SYS_RAWIO, "CAP_SYS_RAWIO", false}, {unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", false},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", false}, {unix.CAP_SYS_BOOT, "CAP_SYS_BOOT", false}, {unix.CAP_SYS_NICE, "CAP_SYS_NICE", false},
	{unix.CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE", false}, {unix.CAP_SYS_TIME, "CAP_SYS_TIME", false}, {unix.CAP_MKNOD, "CAP_MKNOD", false},
	{unix.CAP_AUDIT_CONTROL, "CAP_AUDIT_CONTROL", false}, {unix.CAP_MAC_OVERRIDE, "CAP_MAC_OVERRIDE", false}, {unix.CAP_MAC_ADMIN, "CAP_MAC_ADMIN", false},
	{unix.CAP_SYSLOG, "CAP_SYSLOG", false}, {unix.CAP_WAKE_ALARM, "CAP_WAKE_ALARM", false}, {unix.CAP_BLOCK_SUSPEND, "CAP_BLOCK_SUSPEND", false},
	{unix.CAP_AUDIT_READ, "CAP_AUDIT_READ", false},
	{unix.CAP_PERFMON, "CAP_PERFMON", true}, {unix.CAP_BPF, "CAP_BPF", true}, {unix.CAP_CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE", true},
}

// Capability is the number of a capability that root loses under a sandbox, by its name
// (capabilities(7)); false for any other.
func Capability(name string) (number int, isDropped bool) {
	for _, c := range dropped {
		if c.name == name {
			return int(c.number), true
		}
	}
	return 0, false
}

// capabilities takes them out of the bounding set: at execve root's permitted set becomes the
// inheritable (empty) and the bounding set.
func (b *builder) capabilities(keep []string) {
	for _, c := range dropped {
		if slices.ContainsFunc(keep, func(name string) bool { number, _ := Capability(name); return uintptr(number) == c.number }) {
			continue
		}
		mode := uint8(optional)
		if c.late {
			mode = quiet
		}
		b.add(mode, step{name: "prctl", object: c.name, measure: "capabilities"},
			unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c.number)
	}
}

// restrict applies what the kernel enforces on this process and its children for good. Landlock and
// seccomp want CAP_SYS_ADMIN or the promise to gain no privileges; root, and whoever has a user
// namespace, has the first.
func (b *builder) restrict(spec Spec, at layout, method Method, userNS bool, h host) {
	privileged := h.root || userNS
	if spec.NoNewPrivileges || !privileged && (at.landlock > 0 || spec.DenyCalls) {
		b.add(must, step{name: "prctl", object: "no new privileges"}, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	}
	if at.landlock > 0 {
		b.landlock(at.landlock)
	}
	if spec.DenyCalls {
		b.install(optional, step{name: "seccomp", object: seccomp.Default, measure: "seccomp-" + seccomp.Default}, seccomp.Filter(), 0)
	}
}

func (b *builder) landlock(ruleset int) {
	b.add(must, step{name: "landlock_restrict_self"}, unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0)
}

// watch installs the second filter and sends its listener to the launcher. The filter would hold up
// that very call, but for the nonce. watch changes nothing else: if the filter needs no_new_privs,
// and nothing else has set that, there is no filter.
func (b *builder) watch(spec Spec, c *childInit, at layout, userNS bool, h host) {
	privileged := h.root || userNS
	if spec.Activity == NotRequested || !privileged && !spec.NoNewPrivileges && at.landlock == 0 && !spec.DenyCalls {
		return
	}
	b.activity = true
	// Kernels before 5.16 switch speculation off for a process with a filter, unless told not to;
	// this filter is no reason for it.
	flags := unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW | h.wait
	b.files = spec.Files != NotRequested && h.wait != 0
	filter := seccomp.Watch(at.nonce, seccomp.Also{Memory: at.weigh, Files: b.files, Reads: b.files && spec.Reads})
	b.install(optional|toSend, step{name: "seccomp", object: "listener", measure: activityMeasure}, filter, flags)
	control := (*unix.Cmsghdr)(unsafe.Pointer(&c.rights))
	control.Level, control.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	control.SetLen(unix.CmsgLen(4))
	body := []byte{msgListener, 7: 0}
	iov := &unix.Iovec{Base: &body[0], Len: 8}
	message := &unix.Msghdr{Iov: iov, Iovlen: 1, Control: &c.rights[0], Controllen: uint64(len(c.rights))}
	b.hold(body, false)
	b.hold(bytesOf(iov), true)
	b.hold(bytesOf(message), true)
	b.add(ifPrev, step{name: "sendmsg", object: "seccomp listener"}, unix.SYS_SENDMSG, uintptr(at.setup), uintptr(unsafe.Pointer(message)), unix.MSG_NOSIGNAL, 0, 0, uintptr(at.nonce))
}

// install adds a filter of system calls.
func (b *builder) install(mode uint8, what step, filter []unix.SockFilter, flags uintptr) {
	program := &unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
	b.hold(unsafe.Slice((*byte)(unsafe.Pointer(&filter[0])), uintptr(len(filter))*unsafe.Sizeof(filter[0])), false)
	b.hold(bytesOf(program), true)
	b.add(mode, what, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(program)))
}

// become changes to another user, with no way back.
func (b *builder) become(u User) {
	groups := make([]byte, 4*len(u.Groups))
	for i, g := range u.Groups {
		binary.NativeEndian.PutUint32(groups[4*i:], uint32(g))
	}
	uid, gid := uintptr(u.UID), uintptr(u.GID)
	b.add(must, step{name: "setgroups"}, unix.SYS_SETGROUPS, uintptr(len(u.Groups)), b.bytes(groups))
	b.add(must, step{name: "setresgid", object: strconv.Itoa(u.GID)}, unix.SYS_SETRESGID, gid, gid, gid)
	b.add(must, step{name: "setresuid", object: strconv.Itoa(u.UID)}, unix.SYS_SETRESUID, uid, uid, uid)
}
