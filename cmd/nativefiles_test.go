package cmd_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/internal/need"
)

// filePrelude is for programs that do not use Python's own calls. call makes a system call by its
// name, if this machine has it.
const filePrelude = `
import ctypes, os, platform, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
numbers = {"x86_64": dict(open=2, openat=257, openat2=437, creat=85, truncate=76, unlink=87, rmdir=84, unlinkat=263, rename=82, renameat=264, renameat2=316,
    link=86, linkat=265, symlink=88, symlinkat=266, mkdir=83, mkdirat=258, mknodat=259),
    "aarch64": dict(openat=56, openat2=437, truncate=45, unlinkat=35, renameat=38, renameat2=276, linkat=37, symlinkat=36, mkdirat=34, mknodat=33)}[platform.machine()]
def call(name, *args):
    return libc.syscall(numbers[name], *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
HERE = -100
def sh(line):
    subprocess.run(["/bin/sh", "-c", line], check=True)
result = os.getcwd()
`

// What native code and child programs do with files is told beside what Python does, each file once.
func TestNativeFiles(t *testing.T) {
	t.Parallel()
	interpreter := findPython(t)
	tests := []struct {
		name, code string
		want       string // D is the working directory
	}{
		{"nothing", "1", ""},
		{"Python's own", "open('a', 'w').close(); os.mkdir('d'); os.rename('a', 'd/b'); os.link('d/b', 'c'); os.symlink('c', 'l'); os.truncate('c', 3); os.remove('l'); os.makedirs('e/f'); os.removedirs('e/f')",
			"written D/a D/d/b D/c D/l; deleted D/a D/l D/e/f D/e; made D/d D/e D/e/f"},
		{"by ctypes", "libc.open(b'a', 0o101, 0o600); libc.rename(b'a', b'b'); libc.mkdir(b'd', 0o700); libc.unlink(b'b'); libc.rmdir(b'd'); libc.open(b'/etc/passwd', 0)",
			"written D/a D/b; deleted D/a D/b D/d; made D/d"},
		{"by number", "call('openat', HERE, b'a', 0o101, 0o600); call('linkat', HERE, b'a', HERE, b'b', 0); call('symlinkat', b'a', HERE, b'c'); call('mkdirat', HERE, b'd', 0o700)\n" +
			"call('renameat2', HERE, b'a', HERE, b'd/e', 0); call('renameat', HERE, b'b', HERE, b'f'); call('truncate', b'f', 7); call('mknodat', HERE, b'p', 0o10600, 0); call('unlinkat', HERE, b'c', 0)\n" +
			"call('openat2', HERE, b'g', (ctypes.c_uint64 * 3)(0o101, 0o600, 0), 24); call('openat2', HERE, b'g', (ctypes.c_uint64 * 3)(0, 0, 0), 24)",
			"written D/a D/b D/c D/d/e D/f D/p D/g; deleted D/a D/b D/c; made D/d"},
		{"in a thread", "t = threading.Thread(target=lambda: call('mkdirat', HERE, b'd', 0o700)); t.start(); t.join()", "made D/d"},
		{"by programs", "open('a', 'w').close(); sh('cp a b; mv b c; mkdir d; ln -s a e; touch f; rm f; rmdir d; echo > g; : >> g')", "written D/a D/b D/c D/e D/f D/g; deleted D/b D/f D/d; made D/d"},
		{"by both", "open('a', 'w').close(); sh('echo x > a; rm a'); open('b', 'w').close(); os.remove('b'); sh('echo x > b')", "written D/a D/b; deleted D/b D/a"},
		{"by a directory's descriptor", "os.mkdir('d'); fd = os.open('d', os.O_RDONLY); os.close(os.open('a', os.O_CREAT | os.O_WRONLY, dir_fd=fd)); os.unlink('a', dir_fd=fd); call('mkdirat', fd, b'e', 0o700)",
			"written D/d/a; deleted D/d/a; made D/d D/d/e"},
		{"in a forked child", "pid = os.fork()\nif pid == 0:\n    open('a', 'w').close(); call('mkdirat', HERE, b'd', 0o700); os._exit(0)\nos.waitpid(pid, 0)", "written D/a; made D/d"},
		{"elsewhere", "os.mkdir('d'); os.chdir('d'); open('a', 'w').close(); call('mkdirat', HERE, b'../e', 0o700); open('./b', 'w').close()", "written D/d/a D/d/./b; made D/d D/d/../e"},
		{"another Python", "open('m.py', 'w').write('x = 1'); subprocess.run([sys.executable, '-c', 'import sys; sys.path.insert(0, \".\"); import m; open(\"a\", \"w\").close()'], check=True)", "written D/m.py D/a"},
		{"imports", "open('m.py', 'w').write('x = 1'); sys.path.insert(0, '.'); import m", "written D/m.py"},
		{"the language's objects in memory", "import multiprocessing as m; s = m.Semaphore(); q = m.SimpleQueue(); subprocess.run(['true'], stdout=subprocess.DEVNULL)", ""},
		{"names", `open('a\nb', 'w').close(); open(b'\xff', 'w').close(); call('mkdirat', HERE, b'\xfe\n', 0o700)`, "written D/a\nb D/\uFFFD; made D/\uFFFD\n"},
		{"what fails", "call('mkdirat', HERE, b'/nowhere/d', 0o700); call('unlinkat', HERE, b'none', 0)\ntry: open('/nowhere/a', 'w')\nexcept OSError: pass", "written /nowhere/a; deleted D/none; made /nowhere/d"},
	}
	for _, method := range []string{"auto", "process"} {
		for _, tt := range tests {
			t.Run(method+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				r := execute(t, interpreter, filePrelude+tt.code, "--method="+method)
				if r.Status != wire.StatusOK {
					t.Fatalf("%s: %s", r.Status, r.Error)
				}
				needActivity(t, r)
				if got := filesOf(r); got != tt.want || r.Events.Dropped != 0 {
					t.Errorf("\n%s\nwant\n%s\n%d dropped", got, tt.want, r.Events.Dropped)
				}
			})
		}
	}
	const both = "open('a', 'w').close(); sh('mkdir d')"
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		for _, option := range []string{"security.audit.files=off", "security.audit.native=off"} {
			r := execute(t, interpreter, filePrelude+both, "--set="+option)
			lacks := slices.ContainsFunc(r.Isolation.Missing, func(m wire.Gap) bool { return m.Name == "native-files" })
			if got := filesOf(r); got != "written D/a" || slices.Contains(r.Isolation.Enforced, "native-files") || lacks != strings.Contains(option, "native") {
				t.Errorf("%s: %s, %+v", option, got, r.Isolation)
			}
		}
	})
	t.Run("read", func(t *testing.T) {
		t.Parallel()
		const reads = "open('a', 'w').close(); open('a').close(); sh('cat a none || true'); libc.open(b'/etc/hostname', 0); import colorsys"
		r := execute(t, interpreter, filePrelude+reads, "--set=security.audit.reads=true")
		needActivity(t, r)
		var dir string
		json.Unmarshal(r.Result, &dir)
		if got := r.Events.FilesRead; !slices.Contains(got, dir+"/a") || !slices.Contains(got, dir+"/none") || !slices.Contains(got, "/etc/hostname") || slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, ".so") || strings.Contains(f, "colorsys") }) {
			t.Errorf("%q", got)
		}
	})
	t.Run("many", func(t *testing.T) {
		t.Parallel()
		r := execute(t, interpreter, filePrelude+"for n in range(3000): open('p%d' % n, 'w').close()\nsh('i=0; while [ $i -lt 3000 ]; do : > c$i; i=$((i+1)); done')")
		needActivity(t, r)
		if n := len(r.Events.FilesWritten); n != 100 || r.Events.Dropped != 6000-100 {
			t.Errorf("%d files, %d dropped, want 100 and 5900", n, r.Events.Dropped)
		}
	})
	t.Run("inside another", func(t *testing.T) {
		t.Parallel()
		self, err := exec.LookPath("py3run")
		if err != nil {
			t.Fatal(err)
		}
		r := execute(t, interpreter, filePrelude+fmt.Sprintf(`import json
p = subprocess.run([%q, 'exec', '--audit-line=off', '--set', 'security.audit.dir=' + os.getcwd() + '/audit'], input=json.dumps({"code": "open('/tmp/inner-%%d' %% __import__('os').getpid(), 'w').close()"}),
    text=True, capture_output=True, env={'PATH': '/usr/bin:/bin', 'HOME': os.getcwd(), 'PY3RUN_PYTHON_INTERPRETER': %q})
result = json.loads(p.stdout)`, self, interpreter))
		needActivity(t, r)
		var within answer
		if err := json.Unmarshal(r.Result, &within); err != nil || within.Status != wire.StatusOK {
			t.Fatalf("%v: %s %s", err, r.Result, r.Error)
		}
		if len(within.Events.FilesWritten) != 1 {
			t.Fatalf("%q", within.Events.FilesWritten)
		}
		written := within.Events.FilesWritten[0]
		defer os.Remove(written)
		missing := slices.ContainsFunc(within.Isolation.Missing, func(m wire.Gap) bool { return m.Name == "native-files" })
		// A launcher is undumpable: without root nobody can read which directory its descriptor leads to.
		log := func(f string) bool {
			return strings.HasSuffix(f, "/audit/audit.jsonl") || os.Geteuid() != 0 && f == "?/audit.jsonl"
		}
		if !missing || !slices.Contains(r.Events.FilesWritten, written) || !slices.ContainsFunc(r.Events.FilesWritten, log) {
			t.Errorf("%q by the inner run; the outer one tells %q, %+v", written, r.Events.FilesWritten, within.Isolation.Missing)
		}
	})
	t.Run("without a hook", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		c := exec.Command("py3run", "python", "-c", "import os, subprocess\nopen('a', 'w').close(); os.rename('a', 'b'); subprocess.run(['mkdir', 'd'])")
		c.Dir = dir
		c.Env = append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER="+interpreter, "PY3RUN_CONFIG=", "XDG_CONFIG_HOME="+dir, "PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(dir, "audit"))
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		text, err := os.ReadFile(filepath.Join(dir, "audit", "audit.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		var end struct {
			Hooks     wire.Events
			Isolation wire.Isolation
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &end); err != nil {
			t.Fatal(err)
		}
		needActivity(t, answer{Isolation: end.Isolation})
		real, err := filepath.EvalSymlinks(dir)
		need.That(t, "symlinks", err)
		got := strings.ReplaceAll(fmt.Sprint(end.Hooks.FilesWritten, end.Hooks.FilesDeleted, end.Hooks.DirsMade), real, "D")
		if want := "[D/a D/b] [D/a] [D/d]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// filesOf writes what is about files, with D for the directory that is the result.
func filesOf(r answer) string {
	var dir string
	json.Unmarshal(r.Result, &dir)
	var parts []string
	for _, l := range []struct {
		what string
		list []string
	}{{"written", r.Events.FilesWritten}, {"deleted", r.Events.FilesDeleted}, {"made", r.Events.DirsMade}, {"read", r.Events.FilesRead}} {
		if len(l.list) > 0 {
			parts = append(parts, strings.ReplaceAll(l.what+" "+strings.Join(l.list, " "), dir, "D"))
		}
	}
	return strings.Join(parts, "; ")
}
