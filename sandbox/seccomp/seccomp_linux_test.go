package seccomp

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// evaluate runs a filter as the kernel does, for one call.
func evaluate(t *testing.T, program []unix.SockFilter, arch, number uint32) uint32 {
	t.Helper()
	data := map[uint32]uint32{offsetNumber: number, offsetArch: arch}
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = data[i.K]
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			holds := a == i.K
			if i.Code&unix.BPF_JSET == unix.BPF_JSET {
				holds = a&i.K != 0
			}
			if holds {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		default:
			t.Fatalf("instruction %d: %#x", pc, i.Code)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

func TestFilter(t *testing.T) {
	t.Parallel()
	program := Filter()
	arches := map[string]struct {
		arch   uint32
		number func(call) uint32
	}{
		"amd64": {unix.AUDIT_ARCH_X86_64, func(c call) uint32 { return c.amd64 }}, "i386": {unix.AUDIT_ARCH_I386, func(c call) uint32 { return c.i386 }},
		"arm64": {unix.AUDIT_ARCH_AARCH64, func(c call) uint32 { return c.arm64 }}, "arm": {unix.AUDIT_ARCH_ARM, func(c call) uint32 { return c.arm }},
	}
	for name, a := range arches {
		refused := map[uint32]string{}
		for _, c := range denied {
			if n := a.number(c); n != 0 {
				if other, twice := refused[n]; twice {
					t.Errorf("%s: %s and %s have number %d", name, other, c.name, n)
				}
				refused[n] = c.name
			}
		}
		for n := range uint32(600) {
			got := evaluate(t, program, a.arch, n)
			want := uint32(unix.SECCOMP_RET_ALLOW)
			if refused[n] != "" {
				want = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
			}
			if got != want {
				t.Errorf("%s: call %d (%s): %#x, want %#x", name, n, refused[n], got, want)
			}
		}
	}
	if got := evaluate(t, program, unix.AUDIT_ARCH_X86_64, x32|1); got != unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS) {
		t.Errorf("x32: %#x", got)
	}
	if got := evaluate(t, program, unix.AUDIT_ARCH_S390X, 128); got != unix.SECCOMP_RET_ALLOW {
		t.Errorf("another architecture: %#x", got)
	}
}

// The numbers of the table are those of x/sys for this architecture.
func TestNumbers(t *testing.T) {
	t.Parallel()
	known := map[string]uint32{
		"init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE, "delete_module": unix.SYS_DELETE_MODULE,
		"kexec_load": unix.SYS_KEXEC_LOAD, "kexec_file_load": unix.SYS_KEXEC_FILE_LOAD, "swapon": unix.SYS_SWAPON, "swapoff": unix.SYS_SWAPOFF,
		"settimeofday": unix.SYS_SETTIMEOFDAY, "clock_settime": unix.SYS_CLOCK_SETTIME, "reboot": unix.SYS_REBOOT, "vhangup": unix.SYS_VHANGUP,
		"add_key": unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY, "keyctl": unix.SYS_KEYCTL, "userfaultfd": unix.SYS_USERFAULTFD,
		"bpf": unix.SYS_BPF, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "acct": unix.SYS_ACCT, "quotactl": unix.SYS_QUOTACTL,
		"quotactl_fd": unix.SYS_QUOTACTL_FD, "lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE, "nfsservctl": unix.SYS_NFSSERVCTL,
	}
	for _, c := range denied {
		n := c.amd64
		if runtime.GOARCH == "arm64" {
			n = c.arm64
		}
		if want, ok := known[c.name]; ok && n != want {
			t.Errorf("%s is %d, want %d", c.name, n, want)
		}
	}
	if names := Denied(); !slices.IsSorted(names) || len(names) != len(denied) {
		t.Errorf("names %q", names)
	}
}

// The kernel takes the filter and keeps to it. Every call has arguments that could do nothing even without it.
func TestKernel(t *testing.T) {
	if os.Getenv("PY3RUN_TEST_SECCOMP") == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestKernel$", "-test.v")
		c.Env = append(os.Environ(), "PY3RUN_TEST_SECCOMP=1")
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS: TestKernel") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	filter := Filter()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		t.Skip("seccomp: ", errno)
	}
	const bad = ^uintptr(0)
	for _, c := range denied {
		n := c.amd64
		if runtime.GOARCH == "arm64" {
			n = c.arm64
		}
		if n == 0 {
			continue
		}
		if _, _, errno := unix.RawSyscall6(uintptr(n), bad, bad, bad, bad, bad, bad); errno != unix.EPERM {
			t.Errorf("%s: %v, want EPERM", c.name, errno)
		}
	}
	if pid, _, errno := unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0); errno != 0 || pid == 0 {
		t.Errorf("getpid: %v", errno)
	}
}
