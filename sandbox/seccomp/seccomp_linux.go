// Package seccomp makes two filters (seccomp(2)) of system calls: [Filter] refuses those that no
// Python job needs and that act on the host, on its kernel, clock, swap, quotas, keys or hardware;
// [Watch] tells a listener of those that reach out of a process.
//
// The first is a deny list, a second net behind the capabilities and the user's own rights:
// whatever is not named is allowed, today's calls and tomorrow's. The package makes no system call;
// who installs a filter needs PR_SET_NO_NEW_PRIVS or CAP_SYS_ADMIN.
//
// # Left to the capability check
//
//   - adjtimex, clock_adjtime: one call reads and sets, and what it does stands in memory that a
//     filter cannot read. To refuse them would break plain readers of the clock's state
//     (ntp_gettime, monitoring). Without CAP_SYS_TIME the kernel refuses setting.
//   - mount, move_mount, fsopen, fsmount, unshare, setns: without CAP_SYS_ADMIN they reach only
//     namespaces of the job's own. In those root can mount control groups (v1) and write its own
//     group's limits: no accident does that.
//   - ptrace, process_vm_readv, io_uring_setup, socket: debuggers and libraries use them.
package seccomp

import (
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Default is the name of the profile.
const Default = "default"

// A call is a system call with its number on each architecture, 0 where there is none. (Number 0
// itself is a harmless call everywhere, so it is never wanted here.) From the kernel's tables:
// arch/x86/entry/syscalls, include/uapi/asm-generic/unistd.h, arch/arm/tools/syscall.tbl.
type call struct {
	name                    string
	amd64, i386, arm64, arm uint32
}

var denied = [...]call{
	// The kernel's own code, and starting another kernel.
	{"init_module", 175, 128, 105, 128},
	{"finit_module", 313, 350, 273, 379},
	{"delete_module", 176, 129, 106, 129},
	{"kexec_load", 246, 283, 104, 347},
	{"kexec_file_load", 320, 0, 294, 401},
	{"reboot", 169, 88, 142, 88},

	// The machine's clock. The 32-bit architectures have two numbers for it, i386 three.
	{"settimeofday", 164, 79, 170, 79},
	{"clock_settime", 227, 264, 112, 262},
	{"clock_settime64", 0, 404, 0, 404},
	{"stime", 0, 25, 0, 0},

	// Swap, process accounting, quotas, terminals.
	{"swapon", 167, 87, 224, 87},
	{"swapoff", 168, 115, 225, 115},
	{"acct", 163, 51, 89, 51},
	{"quotactl", 179, 131, 60, 131},
	{"quotactl_fd", 443, 443, 443, 443},
	{"vhangup", 153, 111, 58, 111},

	// Keyrings belong to the user, not to the job: what one job leaves there, the next finds. The
	// price: Kerberos tickets in a cache of type KEYRING cannot be used; those of type FILE, DIR
	// and KCM can.
	{"add_key", 248, 286, 217, 309},
	{"request_key", 249, 287, 218, 310},
	{"keyctl", 250, 288, 219, 311},

	// Files by handle, past the directories above them: hidden paths would not be hidden.
	{"open_by_handle_at", 304, 342, 265, 371},

	// Parts of the kernel that exploits of it lean on. The price: no perf inside a job; perf from
	// outside sees it.
	{"bpf", 321, 357, 280, 386},
	{"userfaultfd", 323, 374, 282, 388},

	// Gone from new kernels, still in old ones.
	{"lookup_dcookie", 212, 253, 18, 249},
	{"nfsservctl", 180, 169, 42, 169},

	// The processor's ports and segments.
	{"iopl", 172, 110, 0, 0},
	{"ioperm", 173, 101, 0, 0},
}

// entries are the architectures by which a process of this machine can enter the kernel: its own
// first, then the 32-bit one, which a 64-bit process can use as well (int 0x80), with other
// numbers.
var entries = map[string][]uint32{
	"amd64": {unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386},
	"arm64": {unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM},
}

func (c call) number(arch uint32) uint32 {
	switch arch {
	case unix.AUDIT_ARCH_X86_64:
		return c.amd64
	case unix.AUDIT_ARCH_I386:
		return c.i386
	case unix.AUDIT_ARCH_AARCH64:
		return c.arm64
	case unix.AUDIT_ARCH_ARM:
		return c.arm
	}
	return 0
}

const (
	allow   = unix.SECCOMP_RET_ALLOW
	refuse  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS) // as of a call that the kernel does not have
)

const (
	// x32Bit marks the numbers of x32, a third way into an amd64 kernel under the architecture of
	// the first. It is refused as a whole, with the answer of the many kernels that are built
	// without it.
	x32Bit = 0x40000000

	// skipped is the number -1, which a tracer sets to skip a call (ptrace(2)). It has the bit of
	// x32 as well, but an error here would take the place of the result that the tracer set.
	skipped = 0xffffffff
)

// Offsets in struct seccomp_data. Nothing else is read before the number of a call is known to
// matter, no argument: so a kernel from 5.11 on finds out once which numbers are always allowed and
// does not run the program for them again.
const (
	offsetNumber = 0
	offsetArch   = 4
)

// Filter returns the program for this machine's architecture. Denied calls fail with EPERM, x32
// calls with ENOSYS; everything else is allowed, also by an unknown architecture.
func Filter() []unix.SockFilter { return assemble(entries[runtime.GOARCH], deny) }

// deny lays out the block of one architecture:
//
//	if the number is -1: allow                                 (amd64)
//	if it has the bit of x32: fail with ENOSYS                 (amd64)
//	if it is the number of a denied call: fail with EPERM, else allow
func deny(arch uint32) []unix.SockFilter {
	var block []unix.SockFilter
	if arch == unix.AUDIT_ARCH_X86_64 {
		block = append(block, compare(unix.BPF_JEQ, skipped, 0, 1), end(allow), compare(unix.BPF_JSET, x32Bit, 0, 1), end(unknown))
	}
	var branches []branch
	for _, c := range denied {
		if n := c.number(arch); n != 0 {
			branches = append(branches, branch{n, []unix.SockFilter{end(refuse)}})
		}
	}
	return append(block, tree(branches)...)
}

// assemble lays a program out:
//
//	load the architecture
//	if it is the first: go on, else jump over the block
//	    load the number
//	    the block
//	… the same for each architecture
//	allow
func assemble(arches []uint32, block func(arch uint32) []unix.SockFilter) []unix.SockFilter {
	program := []unix.SockFilter{load(offsetArch)}
	for _, arch := range arches {
		b := append([]unix.SockFilter{load(offsetNumber)}, block(arch)...)
		program = append(program, compare(unix.BPF_JEQ, arch, 1, 0), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(b))})
		program = append(program, b...)
	}
	return append(program, end(allow))
}

// A branch is what is done about the call with a number. It ends in a result whichever way it goes.
type branch struct {
	number uint32
	code   []unix.SockFilter
}

// tree finds the branch of the number that was loaded, by halves, and allows a call that has none.
// To find out what is always allowed the kernel goes through the program once for each of its calls
// when the filter is installed: one comparison after the other takes it five times as long.
func tree(branches []branch) []unix.SockFilter {
	slices.SortFunc(branches, func(a, b branch) int { return int(a.number) - int(b.number) })
	if len(branches) == 1 {
		b := branches[0]
		return append(append([]unix.SockFilter{compare(unix.BPF_JEQ, b.number, 0, uint8(len(b.code)))}, b.code...), end(allow))
	}
	half := len(branches) / 2
	below, above := tree(branches[:half]), tree(branches[half:])
	return append(append([]unix.SockFilter{compare(unix.BPF_JGE, branches[half].number, uint8(len(below)), 0)}, below...), above...)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// compare goes on, over so many instructions, if the comparison of what was loaded with k holds,
// and if it does not.
func compare(comparison uint16, k uint32, holds, not uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, Jt: holds, Jf: not, K: k}
}

func end(result uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: result}
}
