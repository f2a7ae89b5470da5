// Package seccomp makes the filter that refuses system calls which no Python job needs and which only matter to the host
// (seccomp(2)). It is a deny list: whatever is not named is allowed. Building it makes no system call.
//
// Left to the capabilities that root loses, because a filter cannot tell reading from changing: adjtimex, clock_adjtime, mount,
// unshare, ptrace, perf_event_open.
package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Default is the name of the profile.
const Default = "default"

// A call is a system call with its number on each architecture that one of our kernels may be asked in; 0 where there is none.
type call struct {
	name                    string
	amd64, i386, arm64, arm uint32
}

var denied = [...]call{
	{"init_module", 175, 128, 105, 128}, {"finit_module", 313, 350, 273, 379}, {"delete_module", 176, 129, 106, 129},
	{"kexec_load", 246, 283, 104, 347}, {"kexec_file_load", 320, 0, 294, 401},
	{"swapon", 167, 87, 224, 87}, {"swapoff", 168, 115, 225, 115},
	{"settimeofday", 164, 79, 170, 79}, {"clock_settime", 227, 264, 112, 262}, {"clock_settime64", 0, 404, 0, 404}, {"stime", 0, 25, 0, 25},
	{"reboot", 169, 88, 142, 88}, {"vhangup", 153, 111, 58, 111},
	{"add_key", 248, 286, 217, 309}, {"request_key", 249, 287, 218, 310}, {"keyctl", 250, 288, 219, 311},
	{"userfaultfd", 323, 374, 282, 388}, {"bpf", 321, 357, 280, 386}, {"open_by_handle_at", 304, 342, 265, 371},
	{"acct", 163, 51, 89, 51}, {"quotactl", 179, 131, 60, 131}, {"quotactl_fd", 443, 443, 443, 443},
	{"lookup_dcookie", 212, 253, 18, 249}, {"nfsservctl", 180, 169, 42, 169},
	{"iopl", 172, 110, 0, 0}, {"ioperm", 173, 101, 0, 0},
}

// Denied returns the names of the calls, sorted.
func Denied() []string {
	names := make([]string, len(denied))
	for i, c := range denied {
		names[i] = c.name
	}
	slices.Sort(names)
	return names
}

// x32 marks the numbers of the x32 interface, which nothing here uses; on amd64 it is refused as a whole, as if the kernel had none.
const x32 = 0x40000000

// offsets in struct seccomp_data
const (
	offsetNumber = 0
	offsetArch   = 4
)

// Filter returns the program. A denied call fails with EPERM. It holds the numbers of every architecture, so it is the same everywhere; an
// architecture that is not known is allowed.
func Filter() []unix.SockFilter {
	const refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	statement := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	unless := func(k uint32, skip int) unix.SockFilter { // goes on if equal, else skips
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: uint8(skip)}
	}
	var program []unix.SockFilter
	for _, a := range []struct {
		arch   uint32
		number func(call) uint32
	}{
		{unix.AUDIT_ARCH_X86_64, func(c call) uint32 { return c.amd64 }},
		{unix.AUDIT_ARCH_I386, func(c call) uint32 { return c.i386 }},
		{unix.AUDIT_ARCH_AARCH64, func(c call) uint32 { return c.arm64 }},
		{unix.AUDIT_ARCH_ARM, func(c call) uint32 { return c.arm }},
	} {
		block := []unix.SockFilter{statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetNumber)}
		if a.arch == unix.AUDIT_ARCH_X86_64 {
			block = append(block,
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: x32, Jf: 1},
				statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
		}
		for _, c := range denied {
			if n := a.number(c); n != 0 {
				block = append(block, unless(n, 1), statement(unix.BPF_RET|unix.BPF_K, refuse))
			}
		}
		block = append(block, statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW))
		program = append(program, statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetArch), unless(a.arch, len(block)))
		program = append(program, block...)
	}
	return append(program, statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW))
}
