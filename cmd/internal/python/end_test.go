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
