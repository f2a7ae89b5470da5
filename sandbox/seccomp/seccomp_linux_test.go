package seccomp

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The test binary plays the process under the filter, and with the other names the programs that
// this one starts.
const (
	filteredName = "py3run-seccomp-filtered"
	startedName  = "py3run-seccomp-started"
	nothingName  = "py3run-seccomp-nothing"
	noSeccomp    = 77 // exit code: this kernel takes no filter
)

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case filteredName:
		os.Exit(filtered())
	case startedName:
		os.Exit(started())
	case nothingName:
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// An architecture as its own tables call it. file is the part of x/sys that has its numbers.
type architecture struct {
	name, file string
	audit      uint32
}

var architectures = []architecture{
	{"amd64", "zsysnum_linux_amd64.go", unix.AUDIT_ARCH_X86_64},
	{"i386", "zsysnum_linux_386.go", unix.AUDIT_ARCH_I386},
	{"arm64", "zsysnum_linux_arm64.go", unix.AUDIT_ARCH_AARCH64},
	{"arm", "zsysnum_linux_arm.go", unix.AUDIT_ARCH_ARM},
}

// evaluate runs a program for one call, as bpf(4) and Documentation/networking/filter.rst say, and
// gives its result. Reading an argument that is not there is an error.
func evaluate(program []unix.SockFilter, arch, number uint32, args ...uint64) (uint32, error) {
	result, _, err := measured(program, arch, number, args...)
	return result, err
}

// measured is evaluate, and counts the instructions.
func measured(program []unix.SockFilter, arch, number uint32, args ...uint64) (result uint32, steps int, err error) {
	data := map[uint32]uint32{0: number, 4: arch} // by offset in struct seccomp_data
	for i, a := range args {
		data[16+8*uint32(i)], data[20+8*uint32(i)] = uint32(a), uint32(a>>32)
	}
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		steps++
		jump := func(holds bool) {
			if holds {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			value, ok := data[i.K]
			if !ok {
				return 0, steps, fmt.Errorf("instruction %d reads offset %d", pc, i.K)
			}
			a = value
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == i.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= i.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(a&i.K != 0)
		case unix.BPF_RET | unix.BPF_K:
			return i.K, steps, nil
		default:
			return 0, steps, fmt.Errorf("instruction %d has code %#x", pc, i.Code)
		}
	}
	return 0, steps, fmt.Errorf("no result after %d instructions", len(program))
}

// programs by machine; riscv64 stands for those without a table.
var programs = map[string][]unix.SockFilter{
	"amd64": assemble(entries["amd64"], deny), "arm64": assemble(entries["arm64"], deny), "riscv64": assemble(entries["riscv64"], deny),
}

func check(t *testing.T, machine, what string, arch, number, want uint32) {
	t.Helper()
	got, err := evaluate(programs[machine], arch, number)
	if err != nil || got != want {
		t.Errorf("on %s: %s, number %d: %#x, %v; want %#x", machine, what, number, got, err, want)
	}
}

// Every number that can be a call's, on every machine: denied by the table, or allowed.
func TestFilter(t *testing.T) {
	for machine, arches := range entries {
		for _, arch := range architectures {
			want := map[uint32]string{}
			for _, c := range denied {
				if n := c.number(arch.audit); n != 0 {
					if other, twice := want[n]; twice {
						t.Errorf("%s: %s and %s have number %d", arch.name, other, c.name, n)
					}
					want[n] = c.name
				}
			}
			if len(want) < 20 {
				t.Errorf("%s has %d denied calls", arch.name, len(want))
			}
			for n := range uint32(1024) {
				if name := want[n]; name != "" && slices.Contains(arches, arch.audit) {
					check(t, machine, arch.name+" "+name, arch.audit, n, refuse)
				} else {
					check(t, machine, arch.name, arch.audit, n, allow)
				}
			}
		}
	}
}

func TestFilterOutsideTheTable(t *testing.T) {
	tests := []struct {
		name, machine string
		arch, number  uint32
		want          uint32
	}{
		{"x32 read", "amd64", unix.AUDIT_ARCH_X86_64, x32Bit, unknown},
		{"x32 getpid", "amd64", unix.AUDIT_ARCH_X86_64, x32Bit | 39, unknown},
		{"x32 init_module", "amd64", unix.AUDIT_ARCH_X86_64, x32Bit | 175, unknown},
		{"x32 ioctl", "amd64", unix.AUDIT_ARCH_X86_64, x32Bit | 514, unknown},
		{"skipped by a tracer", "amd64", unix.AUDIT_ARCH_X86_64, skipped, allow},
		{"i386 has no x32", "amd64", unix.AUDIT_ARCH_I386, x32Bit | 20, allow},
		{"arm64 has no x32", "arm64", unix.AUDIT_ARCH_AARCH64, x32Bit | 172, allow},
		{"private calls of arm", "arm64", unix.AUDIT_ARCH_ARM, 0xf0005, allow}, // set_tls
		{"unknown architecture", "amd64", unix.AUDIT_ARCH_S390X, 128, allow},
		{"the other machine", "amd64", unix.AUDIT_ARCH_AARCH64, 105, allow},
		{"machine without a table", "riscv64", unix.AUDIT_ARCH_RISCV64, 105, allow},
	}
	for _, tt := range tests {
		check(t, tt.machine, tt.name, tt.arch, tt.number, tt.want)
	}
}

// What the kernel wants of a program's shape: jumps stay inside, and every instruction is reached.
// The length is bounded by BPF_MAXINSNS, and more than that by what running it costs.
func TestShape(t *testing.T) {
	shape := func(name string, program []unix.SockFilter) {
		if len(program) > 350 {
			t.Errorf("%s: %d instructions", name, len(program))
		}
		reached := make([]bool, len(program)+1)
		reached[0] = true
		for pc, i := range program {
			to := []int{}
			switch {
			case i.Code == unix.BPF_JMP|unix.BPF_JA:
				to = append(to, int(i.K))
			case i.Code != unix.BPF_RET|unix.BPF_K:
				to = append(to, int(i.Jt), int(i.Jf))
			}
			for _, over := range to {
				if pc+1+over >= len(program) {
					t.Fatalf("%s: instruction %d goes on at %d of %d", name, pc, pc+1+over, len(program))
				}
				reached[pc+1+over] = true
			}
			if !reached[pc] {
				t.Errorf("%s: instruction %d is not reached", name, pc)
			}
		}
	}
	for machine, program := range programs {
		shape("deny, "+machine, program)
		shape("watch, "+machine, watch(entries[machine], nonce, Also{}))
		shape("watch all, "+machine, watch(entries[machine], nonce, Also{Memory: true, Files: true, Reads: true}))
	}
	if first, second := Filter(), Filter(); !slices.Equal(first, second) || &first[0] == &second[0] {
		t.Error("two filters differ or share memory")
	}
}

func TestDeniedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range denied {
		if seen[c.name] {
			t.Errorf("%s is named twice", c.name)
		}
		seen[c.name] = true
	}
}

// numbers reads the constants SYS_* of x/sys from its source: so those of every architecture are
// had on any.
func numbers(t *testing.T, arch architecture) map[string]uint32 {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the tables of x/sys are found with the go command: ", err)
	}
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "golang.org/x/sys/unix").Output()
	if err != nil {
		t.Fatal("go list: ", err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), arch.file))
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]uint32{}
	for _, m := range regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s+= (\d+)`).FindAllStringSubmatch(string(source), -1) {
		n, err := strconv.ParseUint(m[2], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		list[strings.ToLower(m[1])] = uint32(n)
	}
	if len(list) < 300 {
		t.Fatalf("%s has %d numbers", arch.file, len(list))
	}
	return list
}

// The table agrees with x/sys for all architectures, also about which calls there are not.
func TestNumbers(t *testing.T) {
	for _, arch := range architectures {
		t.Run(arch.name, func(t *testing.T) {
			known := numbers(t, arch)
			for _, c := range denied {
				if got, want := c.number(arch.audit), known[c.name]; got != want {
					t.Errorf("%s has number %d, want %d", c.name, got, want)
				}
			}
		})
	}
}

// used are calls of jobs, of debuggers in jobs, of containers in jobs, and the ones that are left
// to the capability check.
const used = `
	read write readv writev pread64 pwrite64 open openat openat2 close close_range lseek stat fstat lstat statx access faccessat faccessat2
	getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat readlink
	readlinkat chmod fchmod fchmodat chown fchown fchownat truncate ftruncate fallocate fsync fdatasync sync syncfs sync_file_range flock fcntl
	ioctl dup dup2 dup3 pipe pipe2 splice tee vmsplice sendfile copy_file_range inotify_init1 inotify_add_watch inotify_rm_watch fanotify_init
	getxattr setxattr listxattr removexattr statfs fstatfs utimensat umask name_to_handle_at
	mmap munmap mprotect mremap msync madvise mincore mlock mlock2 munlock mlockall brk memfd_create memfd_secret membarrier mbind
	get_mempolicy set_mempolicy move_pages pkey_alloc pkey_mprotect remap_file_pages
	fork vfork clone clone3 execve execveat exit exit_group wait4 waitid kill tkill tgkill getpid getppid gettid getuid geteuid getgid getegid
	setuid setgid setresuid setresgid getgroups setgroups getpgid setpgid getsid setsid prctl arch_prctl getrlimit setrlimit prlimit64
	getrusage times getpriority setpriority sched_setaffinity sched_getaffinity sched_setscheduler sched_yield capget capset personality
	set_tid_address set_robust_list rseq futex futex_waitv set_thread_area pidfd_open pidfd_send_signal pidfd_getfd kcmp
	process_vm_readv process_vm_writev ptrace seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
	rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack signalfd4 pause alarm setitimer getitimer
	socket socketpair bind listen accept accept4 connect getsockname getpeername sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown
	getsockopt setsockopt socketcall select pselect6 poll ppoll epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2
	timerfd_create timerfd_settime timer_create timer_settime io_setup io_submit io_getevents io_uring_setup io_uring_enter io_uring_register
	nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time adjtimex clock_adjtime clock_gettime64 clock_adjtime64
	uname sysinfo syslog getrandom getcpu sethostname shmget shmat shmctl shmdt semget semop semctl msgget msgsnd msgrcv ipc mq_open
	mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr unshare setns mknod mknodat`

func TestUsedCallsAreAllowed(t *testing.T) {
	names := strings.Fields(used)
	found := map[string]bool{}
	for _, arch := range architectures {
		known := numbers(t, arch)
		for _, name := range names {
			if n, ok := known[name]; ok {
				found[name] = true
				for machine := range entries {
					check(t, machine, arch.name+" "+name, arch.audit, n, allow)
				}
			}
		}
	}
	for _, name := range names {
		if !found[name] {
			t.Errorf("no architecture has a call %s", name)
		}
	}
	if len(found) < 200 {
		t.Errorf("%d names, want more: %q", len(found), slices.Sorted(maps.Keys(found)))
	}
}

// The kernel takes the filter and keeps to it.
func TestKernel(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Args = []string{filteredName}
	// No controlling terminal: vhangup takes no argument that would make it harmless, this does.
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := c.CombinedOutput()
	if c.ProcessState != nil && c.ProcessState.ExitCode() == noSeccomp {
		if slices.Contains(strings.Split(os.Getenv("PY3RUN_TEST_REQUIRE"), ","), "seccomp") {
			t.Fatalf("needs seccomp, which PY3RUN_TEST_REQUIRE lists: %s", out)
		}
		t.Skipf("needs seccomp: %s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// filtered puts its thread under the filter, first one that fails with an errno of its own instead
// of EPERM: it shows that it is the filter that answers, not the kernel's check of an ordinary
// user's rights.
func filtered() int {
	runtime.LockOSThread()
	const marker = 999
	marked := Filter()
	for i := range marked {
		if marked[i] == end(refuse) {
			marked[i] = end(unix.SECCOMP_RET_ERRNO | marker)
		}
	}
	failures := 0
	for _, step := range []struct {
		program []unix.SockFilter
		want    syscall.Errno
	}{{marked, marker}, {Filter(), unix.EPERM}} { // of two filters that both refuse, the later one's errno counts
		if err := install(step.program); err != nil {
			fmt.Print(err)
			return noSeccomp
		}
		failures += refused(step.want) + working()
	}
	// A new process and its program are under it as well. The fork is made by this thread.
	self, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c := exec.Command(self)
	c.Args, c.Stdout, c.Stderr = []string{startedName}, os.Stdout, os.Stdout
	if err := c.Run(); err != nil {
		fmt.Println("started program:", err)
		failures++
	}
	return min(failures, 1)
}

func started() int { return min(refused(unix.EPERM)+working(), 1) }

func install(program []unix.SockFilter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl no_new_privs: %w", err)
	}
	p := unix.SockFprog{Len: uint16(len(program)), Filter: unsafe.SliceData(program)}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// refused tries every denied call and counts those that do not fail as wanted. All arguments are
// -1, which is no address, no descriptor, no command, no magic number of reboot and no set of
// flags: were a call not refused, it would fail and do nothing. Only vhangup would not fail (see
// TestKernel).
func refused(want syscall.Errno) (failures int) {
	const bad = ^uintptr(0)
	for _, c := range denied {
		n := c.number(entries[runtime.GOARCH][0])
		if n == 0 {
			continue
		}
		if _, _, errno := unix.RawSyscall6(uintptr(n), bad, bad, bad, bad, bad, bad); errno != want {
			fmt.Printf("%s: %v (%d), want %v (%d)\n", c.name, errno, errno, want, want)
			failures++
		}
	}
	if runtime.GOARCH == "amd64" {
		if _, _, errno := unix.RawSyscall(x32Bit|unix.SYS_GETPID, 0, 0, 0); errno != unix.ENOSYS {
			fmt.Println("x32 getpid:", errno)
			failures++
		}
	}
	return failures
}

// working makes calls that have to go on working, on this thread, and counts those that do not.
func working() (failures int) {
	for name, try := range map[string]func() error{
		"openat": func() error {
			fd, err := unix.Openat(unix.AT_FDCWD, "/proc/self/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err == nil {
				err = unix.Close(fd)
			}
			return err
		},
		"getpid": func() error {
			if pid, _, errno := unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0); errno != 0 || int(pid) != os.Getpid() {
				return fmt.Errorf("%d, %w", pid, errno)
			}
			return nil
		},
		"socketpair": func() error {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Close(pair[0])
				unix.Close(pair[1])
			}
			return err
		},
		"adjtimex that reads": func() error {
			_, err := unix.Adjtimex(&unix.Timex{})
			return err
		},
		"clone": func() error {
			// Not unshare or ptrace as well: whether an ordinary user may call them is the host's choice.
			return (&exec.Cmd{Path: "/proc/self/exe", Args: []string{nothingName}}).Run()
		},
	} {
		if err := try(); err != nil {
			fmt.Printf("%s: %v\n", name, err)
			failures++
		}
	}
	return failures
}
