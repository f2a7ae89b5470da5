package sandbox

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"py3run/sandbox/seccomp"
)

// A table is a process's descriptors as a model: number to object.
type table map[uintptr]descriptor

type descriptor struct {
	object  string
	cloexec bool
}

// apply makes the descriptor calls of a list; everything else leaves the table alone.
func (f table) apply(ops []op) error {
	for i, o := range ops {
		switch o.nr {
		case unix.SYS_DUP3:
			d, ok := f[o.arg[0]]
			if !ok || o.arg[0] == o.arg[1] {
				return fmt.Errorf("op %d: dup3(%d, %d): source open: %t", i, o.arg[0], o.arg[1], ok)
			}
			f[o.arg[1]] = descriptor{d.object, o.arg[2]&unix.O_CLOEXEC != 0}
		case unix.SYS_CLOSE:
			delete(f, o.arg[0])
		case unix.SYS_WRITE:
			if f[o.arg[0]].object != "group" {
				return fmt.Errorf("op %d: enters the group by %+v", i, f[o.arg[0]])
			}
		case unix.SYS_SENDMSG:
			if f[o.arg[0]].object != "setup" {
				return fmt.Errorf("op %d: sends the listener to %+v", i, f[o.arg[0]])
			}
		case unix.SYS_IOCTL:
			if f[o.arg[0]].object != "stdin" {
				return fmt.Errorf("op %d: %+v is to be its terminal", i, f[o.arg[0]])
			}
		case unix.SYS_LANDLOCK_RESTRICT_SELF:
			if f[o.arg[0]].object != "ruleset" {
				return fmt.Errorf("op %d: restricts itself by %+v", i, f[o.arg[0]])
			}
		case unix.SYS_CLOSE_RANGE:
			if o.arg[0] > o.arg[1] {
				return fmt.Errorf("op %d: close_range(%d, %d)", i, o.arg[0], o.arg[1])
			}
			for n, d := range f {
				if n < o.arg[0] || n > o.arg[1] {
					continue
				}
				if o.arg[2]&unix.CLOSE_RANGE_CLOEXEC != 0 {
					f[n] = descriptor{d.object, true}
				} else {
					delete(f, n)
				}
			}
		}
	}
	return nil
}

// kept is what an execve leaves.
func (f table) kept() map[uintptr]string {
	left := map[uintptr]string{}
	for n, d := range f {
		if !d.cloexec {
			left[n] = d.object
		}
	}
	return left
}

// randomLayout puts the descriptors of a run anywhere, most of them onto the numbers that they are
// to be moved to, among others that the launcher happens to have.
func randomLayout(r *rand.Rand, spec Spec) (layout, table) {
	open := table{}
	pool := r.Perm(spec.FirstFile + 16)
	if r.IntN(2) == 0 {
		pool = append(r.Perm(12), pool...)
	}
	pick := func(object string) int {
		for _, n := range pool {
			if _, taken := open[uintptr(n)]; !taken {
				open[uintptr(n)] = descriptor{object, r.IntN(4) > 0}
				return n
			}
		}
		panic("no number left")
	}
	at := layout{stdin: pick("stdin"), stdout: pick("stdout"), stderr: pick("stderr"), lifeline: pick("lifeline"), setup: pick("setup"), status: pick("status")}
	if at.terminal = r.IntN(3) == 0; at.terminal {
		at.stdout = at.stdin
		if r.IntN(2) == 0 {
			at.stderr = at.stdin
		}
	}
	for i := range r.IntN(5) {
		at.files = append(at.files, pick(fmt.Sprintf("file %d", i)))
	}
	if r.IntN(2) == 0 {
		at.landlock = pick("ruleset")
	}
	if r.IntN(2) == 0 {
		at.unified = pick("unified")
	}
	for range r.IntN(3) {
		at.groups = append(at.groups, pick("group"))
	}
	for range r.IntN(5) {
		pick("somebody's")
	}
	if len(at.files) > 1 && r.IntN(4) == 0 { // one file given twice
		at.files[0] = at.files[1]
	}
	if r.IntN(4) == 0 { // the program's input is also one of its files
		at.files = append(at.files, at.stdin)
	}
	return at, open
}

func TestDescriptorsNeverClobber(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 5000 {
		spec := Spec{Path: "/bin/true", Dir: "/", FirstFile: 3 + r.IntN(9)}
		if i%10 == 0 {
			spec.FirstFile = 1024
		}
		if r.IntN(2) == 0 {
			spec.Activity, spec.DenyCalls = Required, true
		}
		method, userNS := []Method{Namespace, Process}[r.IntN(2)], r.IntN(2) == 0
		at, open := randomLayout(r, spec)
		if o := open[0].object; o == "ruleset" || o == "unified" { // start never has it there: Go opens 0 to 2 first
			continue
		}
		for n := at.setup; n < 3 || n >= spec.FirstFile && n < spec.FirstFile+len(at.files); n = at.setup {
			at, open = randomLayout(r, spec) // start moves the set-up pipe out of the way
		}
		want := map[uintptr]string{0: "stdin", 1: open[uintptr(at.stdout)].object, 2: open[uintptr(at.stderr)].object}
		for i, n := range at.files {
			want[uintptr(spec.FirstFile+i)] = open[uintptr(n)].object
		}
		s, _ := build(spec, method, userNS, at, host{})
		context := fmt.Sprintf("seed %d, first file %d, layout %+v", seed, spec.FirstFile, at)
		init := maps.Clone(open)
		if err := init.apply(s.setup); err != nil {
			t.Fatalf("set-up: %v: %s", err, context)
		}
		if n := uintptr(s.clone3[cloneGroup]); n != 0 && init[n].object != "unified" {
			t.Fatalf("after the set-up the group is %+v: %s", init[n], context)
		}
		for _, object := range []string{"lifeline", "setup"} {
			if n := map[string]uintptr{"lifeline": s.lifeline, "setup": s.report}[object]; init[n].object != object {
				t.Fatalf("after the set-up the %s is %+v: %s", object, init[n], context)
			}
		}
		if at.landlock > 0 && init[s.ruleset].object != "ruleset" {
			t.Fatalf("after the set-up the ruleset is %+v: %s", init[s.ruleset], context)
		}
		program := maps.Clone(init)
		if err := program.apply(s.program); err != nil {
			t.Fatalf("program: %v: %s", err, context)
		}
		if got := program.kept(); !maps.Equal(got, want) {
			t.Fatalf("the program finds %v, want %v: %s", got, want, context)
		}
		if err := init.apply(s.after); err != nil {
			t.Fatalf("after: %v: %s", err, context)
		}
		keeps := table{initLifeline: {"lifeline", true}, initStatus: {"status", true}}
		if at.terminal {
			keeps[initTerminal] = descriptor{"stdin", true}
		}
		if !maps.Equal(init, keeps) {
			t.Fatalf("init keeps %v, want %v: %s", init, keeps, context)
		}
	}
}

// plan is a build for looking at.
func plan(spec Spec, method Method, h host, hidden ...hiddenPath) (*childInit, *builder) {
	if spec.FirstFile == 0 {
		spec.FirstFile = 10
	}
	return build(spec, method, false, layout{stdin: 5, stdout: 6, stderr: 7, lifeline: 8, setup: 20, status: 21, files: []int{22, 23}, hidden: hidden}, h)
}

func TestOrderOfTheProgram(t *testing.T) {
	t.Parallel()
	full := Spec{Path: "/bin/true", Args: []string{"true"}, Dir: "/tmp", Limits: Limits{CPU: time.Second, Memory: 1 << 30, FileSize: 1 << 20, OpenFiles: 64, Processes: 5}}
	tests := []struct {
		name   string
		spec   Spec
		method Method
		root   bool
	}{
		{"nothing asked", Spec{Path: "/bin/true", Dir: "/"}, Process, false},
		{"all limits", full, Process, false},
		{"all limits in namespaces", full, Namespace, false},
		{"all limits, root", full, Namespace, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, _ := plan(test.spec, test.method, host{root: test.root})
			last := func(nr uintptr) (at int) {
				at = -1
				for i, o := range s.program {
					if o.nr == nr {
						at = i
					}
				}
				return at
			}
			first := func(nr uintptr) int {
				return slices.IndexFunc(s.program, func(o op) bool { return o.nr == nr })
			}
			if got, want := last(unix.SYS_EXECVE), len(s.program)-1; got != want || first(unix.SYS_EXECVE) != want {
				t.Errorf("execve is op %d, want the last, %d", got, want)
			}
			if limits := first(unix.SYS_PRLIMIT64); limits < last(unix.SYS_DUP3) || limits < last(unix.SYS_CLOSE_RANGE) || limits < last(unix.SYS_CHDIR) {
				t.Error("a limit is set before the descriptors are in place")
			}
			if mask := last(unix.SYS_RT_SIGPROCMASK); mask != len(s.program)-2 {
				t.Errorf("the signal mask is emptied by op %d, want the one before execve", mask)
			}
			if got := first(unix.SYS_PRCTL) >= 0 && s.program[last(unix.SYS_PRCTL)].arg[0] == unix.PR_CAPBSET_DROP; got != test.root {
				t.Errorf("capabilities dropped: %t, want %t", got, test.root)
			}
			if last := s.after[len(s.after)-1]; last.nr != unix.SYS_SIGNALFD4 {
				t.Errorf("the last op of init is call %d, want signalfd", last.nr)
			}
		})
	}
}

// memory finds what an argument of a call points to.
func (b *builder) memory(address uintptr) []byte {
	for _, r := range b.regions {
		if uintptr(unsafe.Pointer(unsafe.SliceData(r.data))) == address {
			return r.data
		}
	}
	return nil
}

// word is such a text.
func (b *builder) word(address uintptr) string {
	p := b.memory(address)
	return string(p[:max(0, len(p)-1)])
}

func TestLimits(t *testing.T) {
	t.Parallel()
	type pair struct{ soft, hard uint64 }
	unlimited := ^uint64(0)
	tests := []struct {
		name   string
		limits Limits
		hard   map[uintptr]uint64
		want   map[uintptr]pair
	}{
		{"none", Limits{}, nil, map[uintptr]pair{unix.RLIMIT_CORE: {0, 0}}},
		{"watched ones only", Limits{Wall: 1, Idle: 1, Disk: 1}, nil, map[uintptr]pair{unix.RLIMIT_CORE: {0, 0}}},
		{"CPU is rounded up, hard a second later", Limits{CPU: 1500 * time.Millisecond}, nil,
			map[uintptr]pair{unix.RLIMIT_CORE: {0, 0}, unix.RLIMIT_CPU: {2, 3}}},
		{"files", Limits{OpenFiles: 64, FileSize: 5, Memory: 6}, map[uintptr]uint64{unix.RLIMIT_NOFILE: unlimited},
			map[uintptr]pair{unix.RLIMIT_CORE: {0, 0}, unix.RLIMIT_NOFILE: {64, 64}, unix.RLIMIT_FSIZE: {5, 5}, unix.RLIMIT_DATA: {6, 6}}},
		{"processes, as a back-stop", Limits{Processes: 3}, nil, map[uintptr]pair{unix.RLIMIT_CORE: {0, 0}, unix.RLIMIT_NPROC: {processBackstop, processBackstop}}},
		{"stricter already", Limits{OpenFiles: 64, CPU: 9 * time.Second, Processes: 1, FileSize: 1 << 40}, map[uintptr]uint64{unix.RLIMIT_NOFILE: 20, unix.RLIMIT_CPU: 9, unix.RLIMIT_NPROC: 100, unix.RLIMIT_FSIZE: 7},
			map[uintptr]pair{unix.RLIMIT_CORE: {0, 0}, unix.RLIMIT_NOFILE: {20, 20}, unix.RLIMIT_CPU: {9, 9}, unix.RLIMIT_NPROC: {100, 100}, unix.RLIMIT_FSIZE: {7, 7}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, b := plan(Spec{Path: "/bin/true", Dir: "/", Limits: test.limits}, Process, host{hard: test.hard})
			got := map[uintptr]pair{}
			for _, o := range s.program {
				if o.nr == unix.SYS_PRLIMIT64 {
					value := b.memory(o.arg[2])
					got[o.arg[1]] = pair{binary.NativeEndian.Uint64(value), binary.NativeEndian.Uint64(value[8:])}
				}
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("limits %v, want %v", got, test.want)
			}
		})
	}
}

// Every hidden path is covered by nothing: a directory by an empty file system, or by one that
// covers another already, a file by /dev/null.
func TestHiddenMounts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		hidden []hiddenPath
		want   map[string]string
	}{
		{"nothing", nil, map[string]string{}},
		{"a directory", []hiddenPath{{"/srv", true}}, map[string]string{"/srv": "empty"}},
		{"a file", []hiddenPath{{"/etc/shadow", false}}, map[string]string{"/etc/shadow": "/dev/null"}},
		{"several", []hiddenPath{{"/etc/shadow", false}, {"/srv", true}, {"/root", true}, {"/etc/gshadow", false}},
			map[string]string{"/srv": "empty", "/root": "empty", "/etc/shadow": "/dev/null", "/etc/gshadow": "/dev/null"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, b := plan(Spec{Path: "/bin/true", Dir: "/"}, Namespace, host{}, test.hidden...)
			got := map[string]string{}
			private := false
			for _, o := range s.setup {
				if o.nr != unix.SYS_MOUNT {
					continue
				}
				source, target, kind := b.word(o.arg[0]), b.word(o.arg[1]), b.word(o.arg[2])
				switch {
				case target == "/":
					private = o.arg[3] == unix.MS_REC|unix.MS_PRIVATE && o.mode == must
				case !private:
					t.Errorf("%s is mounted before / is private", target)
				case kind == "proc":
				case kind == "tmpfs" && o.arg[3]&unix.MS_RDONLY != 0:
					got[target] = "empty"
				case o.arg[3]&unix.MS_BIND != 0 && got[source] != "":
					got[target] = got[source]
				case o.arg[3]&unix.MS_BIND != 0:
					got[target] = source
				}
			}
			if !private {
				t.Error("/ is not made private")
			}
			if got[markPath] != "/proc/self/ns/pid" {
				t.Errorf("the mark is not made: %v", got)
			}
			delete(got, markPath)
			if !maps.Equal(got, test.want) {
				t.Errorf("mounts %v, want %v", got, test.want)
			}
		})
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	const always = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	tests := []struct {
		name        string
		method      Method
		userNS, net bool
		want        uintptr
	}{
		{"process", Process, false, false, 0},
		{"process, no network", Process, false, true, 0},
		{"namespace", Namespace, false, false, always},
		{"namespace, no network", Namespace, false, true, always | unix.CLONE_NEWNET},
		{"namespace of an ordinary user", Namespace, true, false, always | unix.CLONE_NEWUSER},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, _ := build(Spec{Path: "/bin/true", Dir: "/", FirstFile: 10, DenyNetwork: test.net}, test.method, test.userNS, layout{}, host{})
			if s.cloneFlags != test.want {
				t.Errorf("clone flags %#x, want %#x", s.cloneFlags, test.want)
			}
			if s.namespace != (test.method == Namespace) {
				t.Errorf("namespace is %t", s.namespace)
			}
		})
	}
}

func TestFailureNamesTheStep(t *testing.T) {
	t.Parallel()
	s, b := plan(Spec{Path: "/no/such", Dir: "/"}, Process, host{})
	tests := []struct {
		name   string
		number uint16
		errno  int32
		want   string
	}{
		{"the program", s.program[len(s.program)-1].step, int32(unix.ENOENT), "execve /no/such: no such file or directory"},
		{"the clone", stepProgramClone, int32(unix.EAGAIN), "clone program: resource temporarily unavailable"},
		{"a step that does not exist", 65535, int32(unix.EPERM), "set-up step 65535: operation not permitted"},
	}
	for _, test := range tests {
		if got := b.failure(test.number, test.errno).Error(); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// The listener is sent at once, by a call that the filter knows, as is the execve; no other call of
// ours is one that it holds up.
func TestActivityInTheProgram(t *testing.T) {
	t.Parallel()
	at := layout{stdin: 5, stdout: 6, stderr: 7, lifeline: 8, setup: 20, status: 21, landlock: 24, nonce: 0x1234567890}
	full := Spec{Path: "/bin/true", Dir: "/tmp", FirstFile: 10, Activity: BestEffort, DenyCalls: true, RunAs: &User{UID: 1, GID: 1}, Limits: Limits{CPU: time.Second, OpenFiles: 64}}
	for _, method := range []Method{Namespace, Process} {
		for _, root := range []bool{true, false} {
			s, b := build(full, method, false, at, host{root: root, wait: 32})
			if !b.activity {
				t.Fatalf("%s, root %t: no activity", method, root)
			}
			installed := -1
			for i, o := range s.program {
				switch {
				case o.nr == unix.SYS_SECCOMP && o.arg[1] != 0:
					installed = i
					if o.arg[1] != unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW|32 || o.mode != optional|toSend {
						t.Errorf("op %+v", o)
					}
				case installed < 0:
				case i == installed+1:
					if o.nr != unix.SYS_SENDMSG || o.mode != ifPrev || o.arg[0] != 20 || o.arg[5] != uintptr(at.nonce) {
						t.Errorf("op %+v", o)
					}
				case seccomp.Watched(unix.AUDIT_ARCH_X86_64, uint32(o.nr)) != seccomp.Nothing && runtime.GOARCH == "amd64" && (o.nr != unix.SYS_EXECVE || o.arg[5] != uintptr(at.nonce)):
					t.Errorf("op %+v would wait for ever", o)
				}
			}
			if installed < 0 || s.program[len(s.program)-1].nr != unix.SYS_EXECVE {
				t.Errorf("%s, root %t: installed at %d of %d", method, root, installed, len(s.program))
			}
		}
	}
}

// A path that is removed between the launcher's look and the mount needs no cover, and nothing is missing then.
func TestMissingAboutAPathThatIsGone(t *testing.T) {
	t.Parallel()
	here := t.TempDir()
	gone := here + "/gone"
	b := &builder{steps: []step{
		{name: "mount", object: gone + " (hidden)", measure: "hidden-paths", about: gone},
		{name: "mount", object: here + " (hidden)", measure: "hidden-paths", about: here},
		{name: "mount", object: "/proc", measure: "proc"},
	}}
	for _, tt := range []struct {
		name  string
		step  uint16
		errno syscall.Errno
		want  string
	}{
		{"gone", 0, unix.ENOENT, ""},
		{"gone, and another error", 0, unix.EPERM, "hidden-paths"},
		{"still there", 1, unix.ENOENT, "hidden-paths"},
		{"about no path", 2, unix.ENOENT, "proc"},
		{"of a step that is not there", 3, unix.ENOENT, "set-up"},
	} {
		if got, why := b.missing(tt.step, int32(tt.errno)); got != tt.want || (why == "") != (tt.want == "") {
			t.Errorf("%s: %q, %q, want %q", tt.name, got, why, tt.want)
		}
	}
}
