package cmd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"py3run/cmd/internal/python"
	"py3run/internal/need"
)

// interpreters are all CPythons on this machine, one of each minor version, as far as a search by
// version finds them.
var interpreters = sync.OnceValue(func() (found []python.Interpreter) {
	for minor := python.Oldest; minor < 30; minor++ {
		ip, _, err := python.Find(python.Want{Interpreter: fmt.Sprintf("3.%d", minor), Environ: os.Environ(), Dir: "/"})
		if err == nil {
			found = append(found, ip)
		}
	}
	return found
})

// eachInterpreter runs a test with the oldest and the newest interpreter, and with all where
// PY3RUN_TEST_STARTS is "all", side by side.
func eachInterpreter(t *testing.T, test func(t *testing.T, ip python.Interpreter)) {
	t.Helper()
	all := interpreters()
	if len(all) == 0 {
		need.That(t, "python", errors.New("no interpreter is found by its version"))
	}
	if os.Getenv("PY3RUN_TEST_STARTS") != "all" && len(all) > 2 {
		all = []python.Interpreter{all[0], all[len(all)-1]}
	}
	for _, ip := range all {
		t.Run(ip.Version, func(t *testing.T) {
			t.Parallel()
			test(t, ip)
		})
	}
}

// A standIn is a directory in which python3 leads to an interpreter (bare) and one in which it leads
// to py3run (link). Both names have the same length, and nothing else is different for who uses them.
type standIn struct {
	dir        string
	version    string
	method     string
	configured string // a variable of py3run for the link; empty: none
	environ    []string
}

func newStandIn(t *testing.T, ip python.Interpreter) *standIn {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &standIn{dir: dir, version: ip.Version}
	for name, target := range map[string]string{"bare": ip.Path, "link": self} {
		for _, sub := range []string{"bin", "work", "home", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, name, sub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(target, filepath.Join(dir, name, "bin", "python3")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(ip.Path, filepath.Join(dir, "real", "python3")); err != nil {
		t.Fatal(err)
	}
	s.environ = []string{"PATH=" + filepath.Join(dir, "real") + ":/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TERM=dumb", "PYTHONHASHSEED=1", "GORACE=atexit_sleep_ms=0"}
	return s
}

// py3run are the variables for the link.
func (s *standIn) py3run() []string {
	shared := filepath.Join(os.TempDir(), fmt.Sprint("py3run-test-cache-", os.Geteuid()))
	return []string{"PY3RUN_SECURITY_AUDIT_DIR=" + filepath.Join(s.dir, "audit"), "PY3RUN_CONFIG=", "XDG_CONFIG_HOME=" + filepath.Join(s.dir, "config"),
		"XDG_CACHE_HOME=" + shared, "XDG_STATE_HOME=" + filepath.Join(shared, "state"), "PY3RUN_SECURITY_MAX_PROCESSES=512", "PY3RUN_SECURITY_ISOLATION_METHOD=" + s.method}
}

// An ended is how a command line has ended.
type ended struct {
	stdout, stderr string
	status         string
}

// run runs a shell's script, with python3 in $P, once as the interpreter and once as the link. Each has
// files in its current directory.
func (s *standIn) run(t *testing.T, name, id, script string, files map[string]string, more ...string) ended {
	t.Helper()
	dir := filepath.Join(s.dir, name, "work", id)
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	c.Dir = dir
	at := filepath.Join(s.dir, name)
	c.Env = append(append([]string{}, s.environ...), "P="+filepath.Join(at, "bin", "python3"), "HOME="+filepath.Join(at, "home"), "TMPDIR="+filepath.Join(at, "tmp"), "PWD="+dir)
	c.Env = append(c.Env, more...)
	if name == "link" {
		c.Env = append(c.Env, s.py3run()...)
		if s.configured != "" {
			c.Env = append(c.Env, s.configured)
		}
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if ctx.Err() != nil {
		t.Errorf("%s: %s has not ended", id, name)
	}
	status := "exit status 0"
	if err != nil {
		status = err.Error()
	}
	plain := func(text string) string { return strings.ReplaceAll(text, at, filepath.Join(s.dir, "____")) }
	return ended{plain(out.String()), plain(errs.String()), status}
}

var (
	addresses = regexp.MustCompile(`0x[0-9a-f]+`)
	digits    = regexp.MustCompile(`[0-9]+`)
	seconds   = regexp.MustCompile(`in [0-9.]+s`)
)

// TestDropIn compares each command line with what the interpreter itself does: standard output, standard
// error and exit status, byte for byte.
func TestDropIn(t *testing.T) {
	t.Parallel()
	need.That(t, "namespaces", tryNamespaces())
	eachInterpreter(t, func(t *testing.T, ip python.Interpreter) {
		newStandIn(t, ip).compare(t, ip)
	})
}

// Without namespaces it is the same for one interpreter.
func TestDropInWithoutNamespaces(t *testing.T) {
	t.Parallel()
	ip, _, err := python.Find(python.Want{Interpreter: findPython(t), Environ: os.Environ(), Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	s := newStandIn(t, ip)
	s.method = "process"
	s.compare(t, ip)
}

// Without namespaces sys.executable leads to py3run again. That finds the interpreter which the caller
// has configured, although the run does not have the caller's variables and another one is first in PATH.
func TestDropInWithoutNamespacesStartsItself(t *testing.T) {
	t.Parallel()
	all := interpreters()
	if len(all) < 2 {
		need.That(t, "interpreters", errors.New("it takes two interpreters"))
	}
	s := newStandIn(t, all[0])
	s.method = "process"
	other := filepath.Join(s.dir, "other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"python3", "python3." + strings.Split(all[0].Version, ".")[1]} {
		if err := os.Symlink(all[1].Path, filepath.Join(other, name)); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(s.dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "[python]\ninterpreter = %q\n", all[0].Path), 0o644); err != nil {
		t.Fatal(err)
	}
	const script = `$P -c 'import subprocess, sys; print(sys.version_info[:2], flush=True); subprocess.check_call([sys.executable, "-c", "import sys; print(sys.version_info[:2], sys.argv, sys.executable)", "x"])'`
	for _, by := range []string{"PY3RUN_PYTHON_INTERPRETER=" + all[0].Path, "PY3RUN_CONFIG=" + config} {
		bare := s.run(t, "bare", "itself", script, nil, "PATH="+other+":/usr/bin:/bin")
		s.configured = by
		link := s.run(t, "link", "itself", script, nil, "PATH="+other+":/usr/bin:/bin")
		if bare != link || bare.status != "exit status 0" {
			t.Errorf("%s\nbare: %+v\nlink: %+v", by, bare, link)
		}
	}
}

// compare runs each command line with the interpreter and with the link.
func (s *standIn) compare(t *testing.T, ip python.Interpreter) {
	for i, c := range commandLines {
		t.Run(fmt.Sprintf("%02d", i)+" "+c.script[:min(40, len(c.script))], func(t *testing.T) {
			t.Parallel()
			if raceDetector && strings.Contains(c.script, "&-") {
				t.Skip("a build with cgo cannot know that a stream was closed, and the race detector needs one")
			}
			if c.module != "" {
				probe := exec.Command(ip.Path, "-c", "import "+c.module)
				probe.Env = s.environ
				if err := probe.Run(); err != nil {
					need.That(t, c.module, err)
				}
			}
			id := fmt.Sprintf("case%02d", i)
			bare := s.run(t, "bare", id, c.script, c.files, c.environ...)
			link := s.run(t, "link", id, c.script, c.files, c.environ...)
			for _, r := range c.noise {
				for _, e := range []*ended{&bare, &link} {
					e.stdout, e.stderr = r.ReplaceAllString(e.stdout, "N"), r.ReplaceAllString(e.stderr, "N")
				}
			}
			if bare != link {
				t.Errorf("%s\nbare: %s\n%.3000s\n%.3000s\nlink: %s\n%.3000s\n%.3000s", c.script, bare.status, bare.stdout, bare.stderr, link.status, link.stdout, link.stderr)
			}
		})
	}
}

// A commandLine is a script for the shell. It must print the same each time, but for noise.
type commandLine struct {
	script  string
	files   map[string]string
	environ []string
	noise   []*regexp.Regexp
	module  string // that the interpreter must have
}

func file(name, text string) map[string]string { return map[string]string{name: text} }

// end has a process end by a signal.
func end(signal string) commandLine {
	return commandLine{script: `ulimit -c 0; exec $P -c 'import os, signal; signal.signal(` + signal + `, signal.SIG_DFL) if ` + signal + ` != 9 else 0; os.kill(os.getpid(), ` + signal + `)'`}
}

var commandLines = []commandLine{
	// what is printed without code
	{script: `$P -V`}, {script: `$P --version`}, {script: `$P -VV`}, {script: `$P -V -c 'print(1)'`}, {script: `$P -h`}, {script: `$P --help`}, {script: `$P -?`},
	{script: `$P --help-all`}, {script: `$P -hV`},
	// mistakes
	{script: `$P -Z`}, {script: `$P --bogus`}, {script: `$P -J`}, {script: `$P -c`}, {script: `$P -m`}, {script: `$P -W`}, {script: `$P -X`}, {script: `$P nosuch.py`}, {script: `$P -m nosuch`}, {script: `$P .`},
	// -c
	{script: `$P -c 'print(1)'`}, {script: `$P -c ''`}, {script: `$P '-cprint(2)'`}, {script: `$P -c 'import sys; print(sys.argv, sys.path[0])' a -b -- -c`}, {script: `$P -c 'x = ('`}, {script: `$P -c '1/0'`},
	{script: `$P -c 'import sys; sys.exit(3)'`}, {script: `$P -c 'import sys; sys.exit("text")'`}, {script: `$P -c 'import sys; sys.exit(300)'`}, {script: `$P -c 'import os; os._exit(121)'`}, {script: `$P -c 'raise SystemExit'`},
	{script: `$P -c 'print(__name__, __doc__, sorted(globals()))'`}, {script: `$P -c 'import sys; print(getattr(sys, "orig_argv", 0))' x`},
	// what the interpreter finds
	{script: `$P -c 'import sys; print(sys.executable, sys._base_executable, sys.prefix, sys.base_prefix, sys.exec_prefix, sys.path, sys.flags, sys._xoptions, sys.warnoptions)'`},
	{script: `$P -c 'import os; print(sorted(i for i in os.environ.items() if not i[0].startswith(("XDG_", "PY3RUN_PYTHON_INTERPRETER"))))'`}, {script: `umask 027; $P -c 'import os; print(os.getcwd(), oct(os.umask(0)), os.getuid(), os.getgroups())'`},
	{script: `$P -c 'import signal; print([s for s in range(1, 65) if s not in (32, 33) and signal.getsignal(s) == signal.SIG_IGN], signal.pthread_sigmask(0, []))'`},
	{script: `PATH=$(dirname $P):$PATH; python3 -c 'import sys; print(sys.executable)'`}, {script: `cd $(dirname $P); ./python3 -c 'import sys; print(sys.executable)'; cd ..; bin/python3 -c 'import sys; print(sys.executable)'`},
	{script: `mkdir d; cd d; rmdir ../d; $P -c 'print(1)'`},
	{script: `$P -c 'import tempfile; print(tempfile.gettempdir())'`},
	// options
	{script: `$P -I -c 'import sys; print(sys.flags, sys.path)'`}, {script: `$P -E -s -B -c 'import sys; print(sys.flags)'`, environ: []string{"PYTHONOPTIMIZE=1"}}, {script: `$P -S -c 'import sys; print(sys.flags, sys.path)'`},
	{script: `$P -O -c 'assert 0; print(__debug__)'`}, {script: `$P -OOuIc 'import sys; print(sys.flags)'`}, {script: `$P -W error -c 'import warnings; warnings.warn("x")'`}, {script: `$P -Wd -bb -c 'b"" == ""'`},
	{script: `$P -X dev -c 'import sys; print(sys.flags.dev_mode, sys._xoptions)'`}, {script: `$P -X utf8=0 -X nosuch=1 -c 'import sys; print(sys.flags.utf8_mode, sys._xoptions)'`}, {script: `$P -X importtime -c 'import json'`, noise: []*regexp.Regexp{digits, regexp.MustCompile(` +`)}},
	{script: `$P -P -c 'print(1)'`}, {script: `$P -x f.py`, files: file("f.py", "not Python\nprint(2)\n")}, {script: `$P -d -t -c 'print(1)'`}, {script: `$P -R -v -c 'pass' 2>&1 | grep -c import`},
	// FILE
	{script: `$P f.py a -b`, files: file("f.py", "import sys\nprint(sys.argv, __file__, __name__, sys.path[0])\n")}, {script: `$P sub/f.py`, files: file("sub/f.py", "import sys\nprint(sys.argv, __file__, sys.path[0])\n")},
	{script: `$P -- -f.py x`, files: file("-f.py", "import sys\nprint(sys.argv)\n")}, {script: `$P f.py`, files: file("f.py", "# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n")}, {script: `$P f.py`, files: file("f.py", "x = 1\n  y\n")},
	{script: `$P f.py`, files: file("f.py", "def f():\n    raise ValueError('no')\nf()\n")}, {script: `$P d x`, files: file("d/__main__.py", "import sys\nprint(sys.argv, sys.path[0])\n")}, {script: `$P -m zipfile -c z.zip __main__.py && $P z.zip x`, files: file("__main__.py", "import sys\nprint(sys.argv)\n")},
	{script: `$P -m py_compile f.py && $P __pycache__/f.*.pyc`, files: file("f.py", "print('compiled')\n")}, {script: `bash -c '$P <(echo "print(5)")'`}, {script: `$P /dev/stdin < f.py`, files: file("f.py", "print(6)\n")},
	{script: `mkfifo p; echo 'print(7)' > p & $P p; wait`},
	// standard input
	{script: `echo 'print(3)' | $P`}, {script: `echo 'import sys; print(sys.argv)' | $P - a b`}, {script: `$P < f.py`, files: file("f.py", "print(4)\nx = (\n")}, {script: `$P < /dev/null`}, {script: `printf 'a\nb\n' | $P -c 'print(input() + input())'; echo $?`},
	{script: `(sed -n 1q; $P -c 'import os; print(os.read(0, 2))'; cat) < f`, files: file("f", "l1\nl2\nl3\n")}, {script: `(printf 'x = 6\nprint(x'; printf ' * 7)\n') | $P -u -`}, {script: `echo 1 | $P -c 'import sys, os; print([os.isatty(n) for n in (0, 1, 2)], sys.stdin.read())'`},
	// -i over pipes
	{script: `printf 'x = 1\nprint(x)\n1/0\nx\n' | $P -i`}, {script: `printf 'x\n' | $P -q -i -c 'x = 5'`}, {script: `printf 'x\nexit(4)\n' | $P -u -i f.py; echo $?`, files: file("f.py", "x = 'file'\n")}, {script: `printf 'x\n' | $P -i -m m`, files: file("m.py", "x = 'module'\n")},
	{script: `printf 'def f():\n  return 8\n\nf()\n' | $P -u -i`}, {script: `echo 'x' | $P -c 'x = 9'`, environ: []string{"PYTHONINSPECT=1"}},
	// modules
	{script: `echo '{"b": [1, 2]}' | $P -m json.tool`}, {script: `$P -m m a`, files: file("m.py", "import sys\nprint(sys.argv, __name__, sys.path[0])\n")}, {script: `$P -m pkg`, files: map[string]string{"pkg/__init__.py": "print('init')\n", "pkg/__main__.py": "print(__name__, __package__)\n"}}, {script: `$P -m pkg`, files: file("pkg/__init__.py", "")},
	{script: `$P -m calendar 2024 2`}, {script: `$P -m this`}, {script: `$P -m compileall -q d; ls d/__pycache__`, files: file("d/f.py", "x = 1\n")}, {script: `$P -m unittest -q t`, files: file("t.py", "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(1, 2)\n"), noise: []*regexp.Regexp{seconds}},
	{script: `$P -m doctest f.py`, files: file("f.py", "'''\n>>> 1 + 1\n3\n'''\n")}, {script: `printf 'n\nn\np x\nc\nq\n' | $P -m pdb f.py`, files: file("f.py", "x = 1\ny = 2\nprint(x + y)\n")}, {script: `$P -m pytest -q -p no:cacheprovider t.py`, module: "pytest", files: file("t.py", "def test_a(): pass\ndef test_b(): assert 1 == 2\n"), noise: []*regexp.Regexp{seconds}},
	{script: `$P -m site`}, {script: `$P -m timeit -n 1 -r 1 pass`, noise: []*regexp.Regexp{regexp.MustCompile(`[0-9.e-]+ [a-z]*sec`)}}, {script: `$P -m pip --version`, module: "pip"}, {script: `$P -m http.server --help`}, {script: `$P f.py`, files: file("f.py", httpServer), noise: []*regexp.Regexp{regexp.MustCompile(`port [0-9]+|:[0-9]{4,5}/|\[.*?\]`)}},
	// variables
	{script: `$P -c 'import m'`, environ: []string{"PYTHONPATH=lib"}, files: file("lib/m.py", "print('found')\n")}, {script: `printf 'y\n' | $P -i`, environ: []string{"PYTHONSTARTUP=start.py"}, files: file("start.py", "y = 'started'\n")}, {script: `$P -c 'import sys; print(sys.flags)'`, environ: []string{"PYTHONOPTIMIZE=2", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "PYTHONNOUSERSITE=1"}},
	{script: `$P -c 'print("\xe9"); print(hash("a"))'`, environ: []string{"PYTHONIOENCODING=latin-1", "PYTHONHASHSEED=0"}}, {script: `$P -c 'import warnings; warnings.warn("x", DeprecationWarning)'`, environ: []string{"PYTHONWARNINGS=always"}}, {script: `$P -c 'print(1)'`, environ: []string{"PYTHONHOME=/nonexistent"}, noise: []*regexp.Regexp{addresses}},
	{script: `$P -c 'import site; print(site.USER_BASE, site.USER_SITE)'`, environ: []string{"PYTHONUSERBASE=/u"}}, {script: `$P -c 'breakpoint(); print(1)'`, environ: []string{"PYTHONBREAKPOINT=0"}}, {script: `ulimit -c 0; exec $P -c 'import os; os.kill(os.getpid(), 11)'`, environ: []string{"PYTHONFAULTHANDLER=1"}, noise: []*regexp.Regexp{addresses}}, {script: `$P -c 'import sys; print(sys.pycache_prefix, sys.flags.utf8_mode)'`, environ: []string{"PYTHONPYCACHEPREFIX=/c", "PYTHONUTF8=1"}},
	{script: `$P -c 'import os; print(os.environ.get("PYTHON3_MAX_MEMORY_MB"), os.environ.get("LD_LIBRARY_PATH"), os.environ.get("A"))'`, environ: []string{"PYTHON3_MAX_MEMORY_MB=2048", "LD_LIBRARY_PATH=/x", "A=b=c"}},
	// streams
	{script: `$P -c 'import sys; print(sys.stdin)' <&-`}, {script: `$P -c 'import sys; print(sys.stdout, file=sys.stderr); print(1)' >&-`}, {script: `$P -c 'import sys; print(sys.stderr); 1/0' 2>&-`}, {script: `$P -c 'import os; open("f", "w").write(str(os.listdir("/proc/self/fd")))' <&- >&- 2>&-; cat f`},
	{script: `$P -c 'import sys; sys.stdout.write("x" * 50_000_000)' | cksum`}, {script: `($P -c 'for i in range(10**6): print(i)'; echo $? >&2) | head -n 2`}, {script: `$P -c 'print(1)' > /dev/full; echo $?`}, {script: `$P -c 'import os; print(os.read(3, 2)); os.write(4, b"four")' 3< f 4>&1`, files: file("f", "abc")},
	{script: `$P -c 'import sys; print(1); sys.stderr.write("2\n"); print(3)' > both 2>&1; cat both`}, {script: `echo old > f; $P -c 'print("new")' >> f; cat f`}, {script: `$P -c 'import sys; sys.stdout.buffer.write(bytes(range(256)))' | cksum`},
	// ends
	end("1"), end("2"), end("3"), end("6"), end("8"), end("9"), end("10"), end("11"), end("13"), end("14"), end("15"), end("31"), end("34"), end("64"),
	{script: `exec $P -c 'import os, signal; os.kill(os.getpid(), signal.SIGINT)'`}, {script: `$P -c 'import os; os.abort()'; echo $?`},
	{script: `$P -c 'import signal, time, sys
signal.signal(signal.SIGTERM, lambda *a: sys.exit(7))
signal.signal(signal.SIGUSR1, lambda *a: print("usr1", flush=True))
open("ready", "w").close()
while True: time.sleep(0.01)' & until [ -e ready ]; do sleep 0.01; done; kill -USR1 $!; sleep 0.3; kill -TERM $!; wait $!; echo $?`},
	{script: `$P -c 'import time; open("ready", "w").close(); time.sleep(60)' & until [ -e ready ]; do sleep 0.01; done; kill -TERM $!; wait $!; echo $?`},
	{script: `$P -c 'import signal; print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGQUIT))' & wait`}, {script: `nohup $P -c 'import signal; print(signal.getsignal(signal.SIGHUP))' 2>/dev/null; cat nohup.out 2>/dev/null`},
	{script: `(until [ -e ready ]; do sleep 0.01; done; kill -INT $$) & exec $P -c 'import time
try: open("ready", "w").close(); time.sleep(60)
except KeyboardInterrupt: print("interrupted")'`}, {script: `timeout 1 $P -c 'import time; time.sleep(60)'; echo $?`},
	{script: `$P -c 'import os, signal; os.killpg(0, signal.SIGURG); print(1)'`},
	// processes
	{script: `$P f.py fork`, files: file("f.py", pool)}, {script: `$P f.py spawn`, files: file("f.py", pool)}, {script: `$P f.py forkserver`, files: file("f.py", pool)},
	{script: `$P -c 'import subprocess, sys; print(subprocess.run([sys.executable, "-c", "import sys; print(sys.executable, sys.prefix, sys.argv)", "x"], capture_output=True)); print(subprocess.run(["python3", "-c", "print(2)"], capture_output=True))'`},
	{script: `$P -c 'import os, sys; os.execv(sys.executable, [sys.executable, "-c", "print(8)"])'`}, {script: `$P -c 'import os; os.execlp("sh", "sh", "-c", "echo shell; exit 5")'`},
	{script: `$P -c 'import concurrent.futures as c; print(list(c.ThreadPoolExecutor(4).map(abs, range(-5, 0))))'`}, {script: `$P -c 'import asyncio
async def f():
    p = await asyncio.create_subprocess_exec("echo", "hi", stdout=-1)
    print(await p.communicate())
asyncio.run(f())'`},
	// virtual environments
	{script: `$P -m venv --without-pip V && V/bin/python -c 'import sys; print(sys.executable, sys.prefix, sys.base_prefix, sys.path)' && cat V/pyvenv.cfg && ls -l V/bin | sed "s/.* \([^ ]* -> \)/\1/" && V/bin/python -c 'import subprocess, sys; print(subprocess.run([sys.executable, "-c", "import sys; print(sys.prefix)"], capture_output=True))'`,
		// "executable" is where the link leads to: without namespaces, to py3run
		noise: []*regexp.Regexp{regexp.MustCompile(`(?m)^.*(total|activate|Activate|executable = ).*$`)}},
	{script: `$P -m venv --without-pip --copies V && V/bin/python3 -c 'import sys; print(sys.prefix == sys.base_prefix)'`},
	{script: `$P -m venv --without-pip V && rm V/bin/python3 && ln -s $P V/bin/python3 && V/bin/python3 -c 'import sys; print(sys.executable, sys.prefix, sys.base_prefix)'`},
	// pip runs from the wheel that the interpreter has for venv: to install it first takes long
	{script: `$P make.py; $P -m venv --without-pip V; PIP=$($P -c 'import glob, ensurepip, os; print((glob.glob(os.path.dirname(ensurepip.__file__) + "/_bundled/pip-*") + glob.glob("/usr/share/python-wheels/pip-*"))[0])')/pip
V/bin/python $PIP install --no-index --disable-pip-version-check --no-cache-dir ./tiny-1.0-py3-none-any.whl && V/bin/python -c 'import tiny; print(tiny.x, tiny.__file__)' && V/bin/tiny && V/bin/python $PIP uninstall -y tiny`,
		files: file("make.py", wheel), module: "ensurepip"},
}

const pool = `
import multiprocessing, sys
def square(x): return x * x
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as p: print(p.map(square, range(5)))
    q = multiprocessing.Queue()
    p = multiprocessing.Process(target=q.put, args=("x",)); p.start(); print(q.get()); p.join(); print(p.exitcode)
`

const httpServer = `
import subprocess, sys, urllib.request, re
p = subprocess.Popen([sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
line = p.stdout.readline()
print(line)
print(b"f.py" in urllib.request.urlopen("http://127.0.0.1:%s/" % re.search("port ([0-9]+)", line)[1]).read())
p.terminate()
print(p.wait(), p.stdout.read())
`

const wheel = `
import base64, hashlib, zipfile
files = {"tiny.py": "x = 42\ndef main(): print('tiny runs')\n", "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
         "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n", "tiny-1.0.dist-info/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n"}
record = "".join("%s,sha256=%s,%d\n" % (n, base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b"=").decode(), len(t)) for n, t in files.items())
with zipfile.ZipFile("tiny-1.0-py3-none-any.whl", "w") as z:
    for n, t in files.items(): z.writestr(n, t)
    z.writestr("tiny-1.0.dist-info/RECORD", record + "tiny-1.0.dist-info/RECORD,,\n")
`
