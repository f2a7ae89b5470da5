package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	maps.Copy(reaching, map[string]reachingCall{
		"call": {"NAME ARGUMENT...", "makes a system call: numbers, texts, and what argumentOf knows", func(line string) error {
			words := strings.Fields(line)
			number := callNumbers[runtime.GOARCH][words[0]]
			if number == 0 {
				return errors.New("not on this machine")
			}
			var args []uintptr
			for _, w := range words[1:] {
				a, err := argumentOf(w)
				if err != nil {
					return err
				}
				args = append(args, a)
			}
			return sysno(number, args...)
		}},
		"chdir":  {"PATH", "changes the directory", unix.Chdir},
		"chroot": {"PATH", "changes the root", unix.Chroot},
		"in a thread": {"NAME ARGUMENT...", "makes a system call in a thread that is not the first", func(line string) error {
			done := make(chan error)
			go func() { runtime.LockOSThread(); done <- reaching["call"].make(line) }()
			return <-done
		}},
		"many files": {"PATH COUNT", "makes so many files whose names begin so", func(line string) error {
			path, count, _ := strings.Cut(line, " ")
			for i := range number(count) {
				if fd, err := unix.Open(path+strconv.Itoa(i), unix.O_WRONLY|unix.O_CREAT, 0o600); err == nil {
					unix.Close(fd)
				}
			}
			return nil
		}},
		"changing": {"PATH", "makes files whose names another thread changes meanwhile", func(path string) error {
			const length = 64
			name := append([]byte(path+"/"+strings.Repeat("a", length)), 0)
			stop := make(chan bool)
			go func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					at := len(name) - 1 - i%length
					name[at] ^= 'a' // to its end and back
				}
			}()
			for range 3000 {
				sysno(unix.SYS_MKDIRAT, uintptr(unix.AT_FDCWD&(1<<64-1)), uintptr(unsafe.Pointer(&name[0])), 0o700)
			}
			stop <- true
			return nil
		}},
		"ia32 files": {"PATH", "makes, renames and removes files by the 32-bit entry of the kernel", filesIA32},
	})
}

// callNumbers are the system calls of package seccomp's table of files, and of mknod.
var callNumbers = map[string]map[string]uintptr{
	"amd64": {"open": 2, "openat": 257, "openat2": 437, "creat": 85, "truncate": 76, "unlink": 87, "rmdir": 84, "unlinkat": 263, "rename": 82, "renameat": 264,
		"renameat2": 316, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "mkdir": 83, "mkdirat": 258, "mknod": 133, "mknodat": 259},
	"arm64": {"openat": 56, "openat2": 437, "truncate": 45, "unlinkat": 35, "renameat": 38, "renameat2": 276, "linkat": 37, "symlinkat": 36, "mkdirat": 34, "mknodat": 33},
}

var keptArguments [][]byte // else they would be gone before the call

// argumentOf makes an argument of a call: a number, here, dir:PATH (a descriptor), gone:PATH (one of a
// directory that is no more), how:FLAGS:RESOLVE, edge:TEXT (at the end of its page, and not
// terminated), long:LENGTH:PATH, quoted text, or text.
func argumentOf(word string) (uintptr, error) {
	if n, err := strconv.ParseInt(word, 0, 64); err == nil {
		return uintptr(n), nil
	}
	kind, rest, _ := strings.Cut(word, ":")
	text := append([]byte(word), 0)
	switch {
	case word == "here":
		return uintptr(unix.AT_FDCWD & (1<<64 - 1)), nil
	case kind == "dir" || kind == "gone":
		fd, err := unix.Open(rest, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err == nil && kind == "gone" {
			err = unix.Rmdir(rest)
		}
		return uintptr(fd), err
	case kind == "how":
		var flags, resolve uint64
		fmt.Sscanf(rest, "%v:%v", &flags, &resolve)
		text = binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, flags), 0), resolve)
		if flags&unix.O_CREAT != 0 {
			text[8] = 0o100
		}
	case kind == "edge":
		pages, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err == nil {
			err = unix.Mprotect(pages[4096:], unix.PROT_NONE)
		}
		if err != nil {
			return 0, err
		}
		text = pages[4096-len(rest) : 4096]
		copy(text, rest)
	case kind == "long":
		length, path, _ := strings.Cut(rest, ":")
		for path += "/"; len(path) < number(length); {
			path += strings.Repeat("x", min(200, number(length)-len(path)))
			if len(path) < number(length) {
				path += "/"
			}
		}
		text = append([]byte(path), 0)
	case word[0] == '"':
		plain, err := strconv.Unquote(word)
		if err != nil {
			return 0, err
		}
		text = append([]byte(plain), 0)
	}
	keptArguments = append(keptArguments, text)
	return uintptr(unsafe.Pointer(&text[0])), nil
}

// inFiles writes the activity on files, with DIR for a directory.
func inFiles(a Activity, dir string) string {
	var b strings.Builder
	for _, l := range []struct {
		what string
		list []string
	}{{"written", a.Written}, {"removed", a.Removed}, {"made", a.DirsMade}, {"read", a.Read}} {
		for _, name := range l.list {
			fmt.Fprintf(&b, "%s %s\n", l.what, strings.ReplaceAll(name, dir, "DIR"))
		}
	}
	if a.FilesDropped > 0 {
		fmt.Fprintf(&b, "dropped %d\n", a.FilesDropped)
	}
	return b.String()
}

// filed is a spec whose activity on files any user can have recorded.
func filed(spec Spec, m Method) Spec {
	spec = recorded(spec, m)
	spec.Files = Required
	return spec
}

// emptyDir makes a directory that any user may use, by its real name.
func emptyDir(t *testing.T) string {
	t.Helper()
	dir := resolved(t.TempDir())
	for d := dir; d != "/" && strings.HasPrefix(d, resolved(os.TempDir())+"/"); d = filepath.Dir(d) {
		check(t, os.Chmod(d, 0o777))
	}
	return dir
}

// Every call of the table, as a program can make it: what it does with which file. The attempt
// counts, and what becomes of the call is what becomes of it without the activity.
func TestFiles(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	const create, rdwr = "0101", "02"
	tests := []struct {
		name  string
		calls []string // rows of reaching
		want  string
	}{
		{"open", []string{"call=open DIR/a " + create + " 0600", "call=open DIR/a 0", "call=open DIR/a " + rdwr, "call=open DIR/b 01000", "call=open DIR/c 010000101"}, "written DIR/a\nwritten DIR/b\n"},
		{"openat", []string{"call=openat here DIR/a " + create + " 0600", "call=openat here DIR/a 0", "call=openat here DIR/a 02000000", "call=openat here DIR/b 02"}, "written DIR/a\nwritten DIR/b\n"},
		{"openat2", []string{"call=openat2 here DIR/a how:65:0 24", "call=openat2 here DIR/a how:0:0 24", "call=openat2 here DIR/b how:65:0 8", "call=openat2 here DIR/c 0 24", "call=openat2 here DIR/d how:1:0 24"}, "written DIR/a\nwritten DIR/d\n"},
		{"openat2 in a root", []string{"call=openat2 dir:DIR /a how:65:0x10 24"}, "written DIR/a\n"},
		{"openat2 larger than known", []string{"call=openat2 here DIR/a how:65:0 24000"}, "written DIR/a\n"},
		{"creat", []string{"call=creat DIR/a 0600"}, "written DIR/a\n"},
		{"truncate", []string{"call=truncate DIR/a 5"}, "written DIR/a\n"},
		{"unlink", []string{"call=unlink DIR/a"}, "removed DIR/a\n"},
		{"unlinkat", []string{"call=unlinkat here DIR/a 0", "call=unlinkat here DIR/d 0x200"}, "removed DIR/a\nremoved DIR/d\n"},
		{"rmdir", []string{"call=rmdir DIR/d"}, "removed DIR/d\n"},
		{"rename", []string{"call=rename DIR/a DIR/b"}, "written DIR/b\nremoved DIR/a\n"},
		{"renameat", []string{"call=renameat here DIR/a dir:DIR b"}, "written DIR/b\nremoved DIR/a\n"},
		{"renameat2", []string{"call=renameat2 here DIR/a here DIR/b 0", "call=renameat2 here DIR/c here DIR/d 1"}, "written DIR/b\nwritten DIR/d\nremoved DIR/a\nremoved DIR/c\n"},
		{"exchange", []string{"call=renameat2 here DIR/a here DIR/b 2"}, "written DIR/a\nwritten DIR/b\n"},
		{"link", []string{"call=link DIR/a DIR/b"}, "written DIR/b\n"},
		{"linkat", []string{"call=linkat here DIR/a dir:DIR b 0"}, "written DIR/b\n"},
		{"symlink", []string{"call=symlink to DIR/b"}, "written DIR/b\n"},
		{"symlinkat", []string{"call=symlinkat to dir:DIR b"}, "written DIR/b\n"},
		{"mkdir", []string{"call=mkdir DIR/d 0700"}, "made DIR/d\n"},
		{"mkdirat", []string{"call=mkdirat here DIR/d 0700", "call=mkdirat dir:DIR e 0700"}, "made DIR/d\nmade DIR/e\n"},
		{"mknod", []string{"call=mknod DIR/p 010600 0"}, "written DIR/p\n"},
		{"mknodat", []string{"call=mknodat dir:DIR p 010600 0"}, "written DIR/p\n"},
		{"unnamed", []string{"call=openat here DIR 020200002 0600"}, "written DIR\n"},
		{"in a thread", []string{"in a thread=mkdirat here DIR/d 0700"}, "made DIR/d\n"},

		{"below the current directory", []string{"chdir=DIR", "call=mkdirat here d 0700", "chdir=d", "call=mkdirat here e 0700", "call=mkdirat here ../f 0700"}, "made DIR/d\nmade DIR/d/e\nmade DIR/d/../f\n"},
		{"untidy", []string{"call=mkdirat here DIR//.///d/./ 0700", "chdir=DIR", "call=mkdirat here ./e/ 0700"}, "made DIR/d\nmade DIR/e\n"},
		{"below nothing", []string{"call=mkdirat 999 d 0700", "call=mkdirat -1 d 0700"}, ""},
		{"below a directory that is gone", []string{"call=mkdirat here DIR/d 0700", "call=mkdirat gone:DIR/d e 0700"}, "removed DIR/d\nmade DIR/d\nmade DIR/d (deleted)/e\n"},
		{"below a pipe", []string{"call=mkdirat 1 d 0700"}, "made ?/d\n"},
		{"absolute, below nothing", []string{"call=mkdirat 999 DIR/d 0700"}, "made DIR/d\n"},
		{"no name", []string{"call=mkdirat here 0 0700", "call=mkdirat here 8 0700", `call=mkdirat here "" 0700`}, ""},
		{"not terminated", []string{"call=mkdirat here edge:DIR/d 0700", "call=renameat here edge:DIR/d here DIR/e"}, "written DIR/e\n"},
		{"as long as a path can be", []string{"call=mkdirat here long:4095:DIR 0700"}, "made LONG\n"},
		{"longer", []string{"call=mkdirat here long:4096:DIR 0700", "call=mkdirat here long:9000:DIR 0700"}, ""},
		{"names", []string{`call=mkdirat here "DIR/a\nb" 0700`, `call=mkdirat here "DIR/\xff\xfe" 0700`, `call=mkdirat here "DIR/ä" 0700`}, "made DIR/a\nb\nmade DIR/\xff\xfe\nmade DIR/ä\n"},

		{"no files", []string{"call=openat here /dev/null 01", "call=openat here /proc/self/comm 01", "call=openat here /dev/shm/sem.x 01", "call=mkdirat here /sys/x 0700", "chdir=/proc", "call=openat here self/comm 01"}, ""},
		{"files by the kernel's links", []string{"chdir=DIR", "call=mkdirat here /proc/self/cwd/d 0700"}, "made /proc/self/cwd/d\n"},
		{"shared memory", []string{"call=unlinkat here /dev/shm/none-of-these 0"}, "removed /dev/shm/none-of-these\n"},
		{"byte code", []string{"call=mkdirat here DIR/__pycache__ 0700", "call=openat here DIR/__pycache__/m.cpython-311.pyc.1234 0301 0600",
			"call=renameat here DIR/__pycache__/m.cpython-311.pyc.1234 here DIR/__pycache__/m.cpython-311.pyc"}, ""},
		{"byte code by somebody else", []string{"call=openat here DIR/__pycache__/m.pyc 0101 0600", "call=renameat here DIR/x here DIR/__pycache__/m.pyc", "call=openat here DIR/m.pyc.1 0301 0600"},
			"written DIR/__pycache__/m.pyc\nwritten DIR/m.pyc.1\nremoved DIR/x\n"},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				for _, call := range tt.calls {
					what, with, _ := strings.Cut(call, "=")
					if name, _, _ := strings.Cut(with, " "); what == "call" && callNumbers[runtime.GOARCH][name] == 0 {
						t.Skipf("no call %s on this machine", name)
					}
				}
				var said [2]string
				for i, files := range []Requirement{Required, NotRequested} {
					dir := emptyDir(t)
					args := []string{"reach"}
					for _, call := range tt.calls {
						args = append(args, strings.ReplaceAll(call, "DIR", dir))
					}
					spec := filed(command(args...), m)
					spec.Files = files
					o, r := execute(t, spec)
					got, want := inFiles(o.Activity, dir), tt.want
					if files == NotRequested && !strings.Contains(strings.Join(tt.calls, ""), "mknod") {
						want = ""
					}
					if strings.Contains(want, "LONG") && len(o.Activity.DirsMade) == 1 && len(o.Activity.DirsMade[0]) == 4095 {
						got = "made LONG\n"
					}
					if got != want {
						t.Errorf("files %q:\n%swant\n%s%s", files, got, want, r.out.String())
					}
					if has := slices.Contains(r.Protection().Enforced, filesMeasure); has != (files == Required) || lacks(r.Protection(), filesMeasure) {
						t.Errorf("%+v", r.Protection())
					}
					said[i] = r.out.String()
				}
				if said[0] != said[1] {
					t.Errorf("the program got\n%swithout\n%s", said[0], said[1])
				}
			})
		}
	})
}

// After chroot a program's names are those that it sees.
func TestFilesBelowAnotherRoot(t *testing.T) {
	t.Parallel()
	need(t, "root")
	need(t, "listener")
	eachMethod(t, func(t *testing.T, m Method) {
		dir := emptyDir(t)
		o, r := execute(t, filed(command("reach", "call=mkdirat here "+dir+"/d 0700", "chroot="+dir, "call=mkdirat here /a 0700", "call=mkdirat here b 0700", "chdir=/d", "call=mkdirat here c 0700", "call=mkdirat dir:/d e 0700"), m))
		if got, want := inFiles(o.Activity, dir), "made DIR/d\nmade /a\nmade /b\nmade /d/c\nmade /d/e\n"; got != want {
			t.Errorf("\n%swant\n%s%s", got, want, r.out.String())
		}
	})
}

// By the 32-bit entry of the same kernel, with its own numbers.
func TestFilesIA32(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	spec := command("reach", "ia32 files="+emptyDir(t))
	if o, r := execute(t, spec); o.ExitCode != 0 || !strings.Contains(r.out.String(), "ia32 files: done") {
		t.Skipf("no such entry here: %d, %v, %s", o.ExitCode, o.Signal, r.out.String())
	}
	eachMethod(t, func(t *testing.T, m Method) {
		dir := emptyDir(t)
		o, r := execute(t, filed(command("reach", "ia32 files="+dir), m))
		if got, want := inFiles(o.Activity, dir), "written DIR/a\nwritten DIR/b\nremoved DIR/a\nremoved DIR/b\nmade DIR/d\n"; got != want {
			t.Errorf("\n%swant\n%s%s", got, want, r.out.String())
		}
	})
}

// What programs do that everybody has.
func TestFilesOfPrograms(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	eachMethod(t, func(t *testing.T, m Method) {
		dir := emptyDir(t)
		spec := filed(shell(`set -e; umask 022
			echo x > a; cp a b; mv b c; ln a d; ln -s a e; mkdir f; touch g; truncate -s 5 h; dd if=/dev/zero of=i bs=1 count=1 2>/dev/null
			install a j; rm g; rmdir f; cat a | tee k >/dev/null; (cd / && rm `+dir+`/k)`), m)
		spec.Dir = dir
		o, r := execute(t, spec)
		if o.ExitCode != 0 {
			t.Fatal(r.err.String())
		}
		sort := func(s string) string {
			lines := strings.SplitAfter(s, "\n")
			slices.Sort(lines)
			return strings.Join(slices.Compact(lines), "")
		}
		want := "made DIR/f\nremoved DIR/b\nremoved DIR/f\nremoved DIR/g\nremoved DIR/k\n"
		for _, name := range "abcdeghijk" {
			want += "written DIR/" + string(name) + "\n"
		}
		if got := sort(inFiles(o.Activity, dir)); got != want && got != strings.Replace(want, "removed DIR/g\n", "removed DIR/g\nremoved DIR/j\n", 1) { // install may remove first
			t.Errorf("\n%swant\n%s", got, want)
		}
	})
}

// The record has room for so many files; the rest is counted. The launcher's memory does not grow.
func TestFilesBounded(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	eachMethod(t, func(t *testing.T, m Method) {
		const calls = 100000
		o, _ := execute(t, filed(command("reach", "many files=/nowhere/x "+strconv.Itoa(calls), "many files=/nowhere/x 10"), m))
		if n := len(o.Activity.Written); n != activityMost || o.Activity.FilesDropped != calls-activityMost || o.Activity.Dropped != 0 {
			t.Errorf("%d files, %d and %d dropped, want %d, %d and none", n, o.Activity.FilesDropped, o.Activity.Dropped, activityMost, calls-activityMost)
		}
	})
}

// The text of all names is bounded, too.
func TestFilesRoom(t *testing.T) {
	t.Parallel()
	tally := newTally()
	for i := range 1000 {
		tally.addFile(fileUse{wrote, fmt.Sprintf("/%04000d", i)})
	}
	a := tally.activity(0)
	if n := len(a.Written); n != activityRoom/4001 || n+a.FilesDropped != 1000 {
		t.Errorf("%d files, %d dropped", n, a.FilesDropped)
	}
}

// Names that change while they are read are attempts like others.
func TestFilesChanging(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	eachMethod(t, func(t *testing.T, m Method) {
		dir := emptyDir(t)
		o, r := execute(t, filed(command("reach", "changing="+dir, "call=mkdirat here "+dir+"/last 0700"), m))
		made := o.Activity.DirsMade
		if len(made) == 0 || made[len(made)-1] != dir+"/last" && o.Activity.FilesDropped == 0 {
			t.Errorf("%d names: %q, %s", len(made), made[max(0, len(made)-2):], r.out.String())
		}
		for _, name := range made {
			if rest, ok := strings.CutPrefix(name, dir); !ok || strings.Trim(rest, "/a") != "" && rest != "/last" {
				t.Errorf("%q is no name that was there", name)
			}
		}
	})
}

// Processes that are killed in the middle of a call leave the record going.
func TestFilesKilled(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	eachMethod(t, func(t *testing.T, m Method) {
		dir := emptyDir(t)
		spec := filed(shell(`i=0; while [ $i -lt 100 ]; do (while :; do : > f; done) & p=$!; [ $((i % 3)) = 0 ] || true; kill -9 $p; i=$((i+1)); done; wait; : > last`), m)
		spec.Dir = dir
		o, r := execute(t, spec)
		if got := o.Activity.Written; o.ExitCode != 0 || !slices.Contains(got, dir+"/last") || slices.ContainsFunc(got, func(name string) bool { return name != dir+"/last" && name != dir+"/f" }) {
			t.Errorf("%d, %q, %s", o.ExitCode, got, r.err.String())
		}
	})
}

// Readings are recorded on request, from the program's beginning on, without what loads code.
func TestFilesRead(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	eachMethod(t, func(t *testing.T, m Method) {
		dir := emptyDir(t)
		check(t, os.WriteFile(dir+"/a", []byte("x"), 0o644))
		spec := filed(shell(""), m)
		spec.Args[2] = fmt.Sprintf("head -c 1 < /proc/self/fd/%d > /dev/null; cat a b > c; ls > /dev/null", spec.GateFile(0)) // before, it has not begun
		spec.Dir, spec.Reads = dir, true
		o, r := execute(t, spec)
		var below []string
		for _, name := range o.Activity.Read {
			if strings.HasPrefix(name, dir) {
				below = append(below, strings.TrimPrefix(name, dir))
			}
			if strings.Contains(name, ".so") {
				t.Errorf("%s is loaded, not read", name)
			}
		}
		if !slices.Equal(below, []string{"/a", "/b"}) || !slices.Equal(o.Activity.Written, []string{dir + "/c"}) {
			t.Errorf("%q, %q, %s", o.Activity.Read, o.Activity.Written, r.err.String())
		}
	})
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                    string
		tidied                  string // empty: the same
		noFile, byteCode, loads bool
	}{
		{name: "/a"}, {name: "/a/..b/.c"}, {name: "/a/../b"}, {name: "?"}, {name: "?/a"},
		{name: "/"}, {name: "//", tidied: "/"}, {name: "/./", tidied: "/"}, {name: "/a//b/./c/", tidied: "/a/b/c"}, {name: "/a/.", tidied: "/a"}, {name: "?//a", tidied: "?/a"},
		{name: "/" + strings.Repeat("é", 2048), tidied: "/" + strings.Repeat("é", 2047) + "…"},
		{name: "/dev", noFile: true}, {name: "/dev/null", noFile: true}, {name: "/dev/pts/1", noFile: true}, {name: "/dev/shm", noFile: true}, {name: "/dev/shm/sem.x", noFile: true},
		{name: "/dev/shm/x"}, {name: "/dev/shm/d/sem.x"}, {name: "/device"}, {name: "/a/dev/null"}, {name: "/dev/fd/3", noFile: true}, {name: "/dev/fd/3/a"},
		{name: "/proc", noFile: true}, {name: "/proc/self/comm", noFile: true}, {name: "/proc/1/fd/3", noFile: true}, {name: "/proc/self/fd/3/a"}, {name: "/proc/self/cwd/a"},
		{name: "/proc/self/cwd", noFile: true}, {name: "/proc/1/root/etc/x"}, {name: "/proc/1/task/2/cwd/a"}, {name: "/processes"}, {name: "/sys", noFile: true}, {name: "/sys/a", noFile: true}, {name: "/system"},
		{name: "/a/__pycache__/m.cpython-311.pyc.140", byteCode: true, loads: true}, {name: "/a/__pycache__/m.pyc.", loads: true}, {name: "/a/__pycache__/m.pyc", loads: true},
		{name: "/a/__pycache__/m.py.1", loads: true}, {name: "/a/m.pyc.1"}, {name: "__pycache__/m.pyc.1"},
		{name: "/a/libx.so", loads: true}, {name: "/a/libx.so.1.2", loads: true}, {name: "/a/libx.so.txt"}, {name: "/etc/ld.so.cache", loads: true}, {name: "/etc/ld.conf"},
		{name: "/usr/lib/python3.11/json/__init__.py", loads: true}, {name: "/usr/lib/python4"}, {name: "/srv/data/m.py"}, {name: "/v/pyvenv.cfg", loads: true},
	}
	for _, tt := range tests {
		want := tt.tidied
		if want == "" {
			want = tt.name
		}
		if got := tidy(tt.name); got != want || tidy(got) != got && !strings.HasSuffix(got, "…") {
			t.Errorf("%q: tidied %q, want %q", tt.name, got, want)
		}
		if got := isNoFile(tt.name); got != tt.noFile {
			t.Errorf("%q: no file %t", tt.name, got)
		}
		if got := isNewByteCode(tt.name); got != tt.byteCode {
			t.Errorf("%q: byte code %t", tt.name, got)
		}
		if got := loads(tt.name); got != tt.loads {
			t.Errorf("%q: loads code %t", tt.name, got)
		}
	}
}
