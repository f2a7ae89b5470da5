package python

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Whether the interpreter was taken apart at its end cannot be told from what a program does: it ends as in a bare interpreter.
func TestEnd(t *testing.T) {
	t.Parallel()
	const tells = "class A:\n    def __del__(self): print('died')\n"
	tests := []struct{ name, code string }{
		{"nothing", "pass"},
		{"printed, not ended", "print('x', end='')"},
		{"an open file", "f = open('file', 'w'); f.write('kept')"},
		{"an open file in a container that no collector tracks", "f = {1: (2, {3: open('file', 'w')})}; f[1][1][3].write('kept')"},
		{"an object with an end", tells + "a = A()"},
		{"an object with an end in a cycle", tells + "a = A(); a.a = a; del a"},
		{"an object with an end in a default", tells + "def f(a=A()): pass"},
		{"an object with an end in a module", tells + "import json; json.a = A()"},
		{"an object with an end, of a child too", tells + "a = A()\nimport os, sys\nif os.fork(): os.wait()\nelse: sys.exit(3)"},
		{"an object with an end, and an exit code", tells + "a = A()\nimport sys\nsys.exit(2)"},
		{"an object with an end, and an exception", tells + "a = A()\n1 / 0"},
		{"a local object and an exception", tells + "def f():\n    a = A()\n    1 / 0\nf()"},
		{"a generator", "def g():\n    try: yield\n    finally: print('closed')\nx = g(); next(x)"},
		{"a coroutine", "async def f(): pass\nx = f()"},
		{"a weak reference", "import weakref\nclass B: pass\nb = B(); b.r = weakref.ref(b, lambda _: print('died')); b.b = b"},
		{"weakref.finalize", "import weakref\nclass B: pass\nb = B(); weakref.finalize(b, print, 'final')"},
		{"atexit", "import atexit; atexit.register(print, 'bye')"},
		{"atexit with an exception", "import atexit; atexit.register(print, 'bye'); atexit.register(lambda: 1 / 0)"},
		{"atexit leaves an open file", "import atexit\ndef f():\n    global x; x = open('file', 'w'); x.write('kept')\natexit.register(f)"},
		{"a thread", "import threading, time\ndef f(): time.sleep(0.05); print('done')\nthreading.Thread(target=f).start()"},
		{"a daemon", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"},
		{"a pool", "from concurrent.futures import ThreadPoolExecutor as P\np = P(1); p.submit(print, 'done')"},
		{"C's own buffer", "import ctypes\nctypes.CDLL(None).printf(b'C\\n')"},
		{"C's own exit function", "import ctypes\nf = ctypes.CFUNCTYPE(None)(lambda: __import__('posix').write(1, b'C'))\nctypes.CDLL(None).atexit(f)"},
		{"a database", "import sqlite3\nd = sqlite3.connect('file'); d.execute('pragma journal_mode = wal'); d.execute('create table t (i)')"},
		{"a replaced stdout", "import sys\nclass W:\n    def write(self, s): sys.__stdout__.write(s)\n    def flush(self): sys.__stdout__.write('flushed')\nsys.stdout = W(); print(1)"},
		{"a closed stdout", "import sys; sys.stdout.close()"},
		{"a stdout that fails", "import os, sys; sys.stdout.write('x'); os.close(1)"},
		{"another hook", "import sys; sys.addaudithook(lambda e, a: print(e) if e.startswith('cpython._PySys') else None)"},
		{"an exit code", "import sys; sys.exit(3)"}, {"an exit text", "import sys; sys.exit('why')"}, {"an odd exit code", "import sys; sys.exit(2.5)"},
		{"a large exit code", "import sys; sys.exit(1 << 40)"}, {"a negative exit code", "import sys; sys.exit(-1)"}, {"true", "import sys; sys.exit(True)"},
		{"modules removed", "import sys; sys.modules.clear()"},
		{"a module that is none", "import sys; sys.modules['threading'] = sys.modules['atexit'] = 5"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				c := exec.Command(ip.Path, "-I", "-X", "utf8", "-c", tt.code)
				var stderr strings.Builder
				c.Dir, c.Stderr = dir, &stderr
				stdout, _ := c.Output()
				tr := try(t, ip, Job{Code: []byte(tt.code), ResultFrom: "none"})
				if tr.stdout != string(stdout) || tr.exit != c.ProcessState.ExitCode() {
					t.Errorf("stdout %q, exit code %d; a bare interpreter: %q, %d", tr.stdout, tr.exit, stdout, c.ProcessState.ExitCode())
				}
				for _, name := range []string{"file", "file-wal"} {
					want, missing := os.Stat(filepath.Join(dir, name))
					got, lost := os.Stat(filepath.Join(tr.dir, name))
					if (missing == nil) != (lost == nil) || missing == nil && want.Size() != got.Size() {
						t.Errorf("%s: %v, %v; a bare interpreter: %v, %v", name, got, lost, want, missing)
					}
				}
			})
		}
	})
}

// The code is compiled without compile(), in a way that nobody can tell.
func TestCompiled(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, code string
		value      string // JSON; "" = an error
		stderr     string // with which it begins, after the path of the code's file
	}{
		{"names of files", "def f():\n  return [g.gi_code for g in [(lambda: (yield))()]]\nclass A:\n  def m(self): pass\nimport sys\nresult = {c.co_filename == __file__ for c in [sys._getframe().f_code, f.__code__, A.m.__code__, *f()]} == {True}", "true", ""},
		{"source", "import inspect\ndef f(): pass\nresult = inspect.getsource(f)", `"def f(): pass\n"`, ""},
		{"no tracing", "import sys\nresult = [sys.gettrace(), sys.getprofile()]", "[null,null]", ""},
		{"no filter", "import warnings\nresult = [f[0] for f in warnings.filters][:1]", `["default"]`, ""},
		{"a warning", "1 is 1\nresult = 1", "1", `:1: SyntaxWarning: "is" with `},
		{"a warning twice", "def f():\n  1 is 1\ndef g():\n  2 is 2\nresult = 1", "1", `:2: SyntaxWarning: "is" with `},
		{"a future", "from __future__ import annotations\ndef f(x: y): pass\nresult = f.__annotations__", `{"x":"y"}`, ""},
		{"no future of ours", "def f(x: int): pass\nresult = f.__annotations__['x'] is int", "true", ""},
		{"a cookie means nothing in a text", "# -*- coding: latin-1 -*-\nresult = 'é'", `"\u00e9"`, ""},
		{"a syntax error", "x = (", "", ""},
		{"a syntax error behind other code", "print(1)\nreturn 1", "", ""},
		{"empty", "", "null", ""},
		{"what dies at the end", "class A:\n  def __del__(self): print('gone')\nresult, a = 1, A()", "1", ""},
		{"its own interrupt", "try: raise KeyboardInterrupt\nexcept KeyboardInterrupt: result = 1\nclass A:\n  def __del__(self): pass\na = A()", "1", ""},
		{"file with a cookie", "# coding: idna\nresult = 1", "1", ""},
		{"file with a cookie in the second line", "\n# -*- coding: latin-1 -*-\nresult = 'é'", `"\u00c3\u00a9"`, ""},
		{"file with an unknown cookie", "# coding: nonesuch\nresult = 1", "", ""},
		{"file without a cookie", "1 is 1\nresult = 'é'", `"\u00e9"`, `:1: SyntaxWarning: "is" with `},
		{"names", "import sys\nresult = sorted(n for n in sys._getframe().f_globals if n[:1] != '_')", `["sys"]`, ""},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				job := code(tt.code)
				job.Text = !strings.HasPrefix(tt.name, "file")
				tr := try(t, ip, job)
				path := filepath.Join(filepath.Dir(tr.dir), "code.py")
				if tt.value == "" {
					if tr.kind() != "error" || !tr.reply.Syntax || tr.exit != 1 || !strings.Contains(tr.reply.Error, "main.py, line") || tr.stdout != "" {
						t.Errorf("%s, exit code %d, %+v\n%s", tr.kind(), tr.exit, tr.reply, tr.stdout)
					}
					return
				}
				if got := string(tr.reply.Value); tr.exit != 0 || tr.signal != 0 || got != tt.value {
					t.Errorf("%s, exit code %d, signal %v, value %s, want %s\n%s", tr.kind(), tr.exit, tr.signal, got, tt.value, tr.stderr)
				}
				if want := tt.stderr; want == "" && tr.stderr != "" || want != "" && !strings.HasPrefix(tr.stderr, path+want) || strings.Contains(tr.stderr, "<string>") {
					t.Errorf("stderr %q, want %q", tr.stderr, want)
				}
			})
		}
	})
}
