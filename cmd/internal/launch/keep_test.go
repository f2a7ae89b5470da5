package launch

import (
	"cmp"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"py3run/cmd/internal/wire"
)

// A keptRequest is one of a series that goes to one keeper.
type keptRequest struct {
	user   string
	code   string
	change func(*Job)
	status wire.Status // empty: ok
	result string      // JSON
	stdout string
	stderr string
	exit   int

	traceback   string // is in it
	stdoutBytes int64
	resultBytes int
	warning     string // code of a warning that it has; others are errors, unless anyWarning is set
	anyWarning  bool
	anyOutput   bool
	signal      syscall.Signal // that the interpreter gets before it; 0: none
}

func evaluate(job *Job) {
	job.Request.Command, job.Request.Expression, job.Request.Code = wire.CommandEvaluate, job.Request.Code, ""
}

func variables(pairs ...string) func(*Job) {
	return func(job *Job) {
		v := &wire.Object{}
		for i := 0; i < len(pairs); i += 2 {
			v.Names, v.Values = append(v.Names, pairs[i]), append(v.Values, pairs[i+1])
		}
		job.Request.Variables = v
	}
}

func stdin(text string) func(*Job) {
	return func(job *Job) { job.Request.Stdin = &text }
}

func limits(l wire.Limits) func(*Job) {
	return func(job *Job) { job.Request.Limits = l }
}

func TestKeeper(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		requests []keptRequest
	}{
		{"globals and modules stay", []keptRequest{
			{code: "import json\nx = 41\ndef f():\n    return x + 1"},
			{code: "result = f()", result: "42"},
			{code: "print(json.dumps([x]))", result: `"[41]\n"`, stdout: "[41]\n"},
			{code: "x + 2", change: evaluate, result: "43"},
			{code: "import inspect; result = inspect.getsource(f)", result: `"def f():\n    return x + 1\n"`},
		}},
		{"identities are apart", []keptRequest{
			{code: "x = 1; import sys; sys.mark = 1", user: "ann"},
			{code: "import sys; result = ['x' in globals(), hasattr(sys, 'mark')]", user: "bob", result: "[false,false]"},
			{code: "import sys; result = ['x' in globals(), hasattr(sys, 'mark')]", result: "[false,false]"},
			{code: "import sys; result = ['x' in globals(), hasattr(sys, 'mark')]", user: "tester", result: "[false,false]"}, // asserted, so not the caller
			{code: "import sys; result = ['x' in globals(), hasattr(sys, 'mark')]", user: "ann", result: "[true,true]"},
		}},
		{"the result of an earlier request is not that of a later one", []keptRequest{
			{code: "result = [1]", result: "[1]"},
			{code: "pass", result: "null"},
			{code: "print(result[0])", result: `"1\n"`, stdout: "1\n"},
			{code: "result += [2]", result: "[1,2]"},
			{code: "def f():\n    global result\n    result = 7"},
			{code: "f()", result: "7"},
		}},
		{"variables", []keptRequest{
			{code: "result = [a, b]", change: variables("a", "1", "b", "2"), result: `["1","2"]`},
			{code: "result = [a, b]", change: variables("a", "3"), result: `["3","2"]`},
		}},
		{"an exception", []keptRequest{
			{code: "x = 5\ndef f():\n    raise ValueError(x)"},
			{code: "y = 1\nf()", status: wire.StatusError, traceback: "    raise ValueError(x)\n"},
			{code: "x = (", status: wire.StatusError},
			{code: "result = x + y", result: "6"},
		}},
		{"sys.exit ends the request", []keptRequest{
			{code: "x = 1; import sys; sys.exit(3)", status: wire.StatusExit, exit: 3},
			{code: "import atexit; atexit.register(print, 'late'); sys.exit()"},
			{code: "sys.exit('why')", status: wire.StatusExit, exit: 1, stderr: "why\n"},
			{code: "result = 9; sys.exit(0)", result: "9"},
			{code: "exit(259)", status: wire.StatusExit, exit: 3},
			{code: "raise SystemExit(x)", status: wire.StatusExit, exit: 1},
			{code: "result = x", result: "1"},
		}},
		{"the end of the process", []keptRequest{
			{code: "x = 1"},
			{code: "import os; print('last', flush=True); os._exit(4)", status: wire.StatusExit, exit: 4, stdout: "last\n", warning: "state_lost"},
			{code: "result = 'x' in globals()", result: "false", warning: "state_lost"},
			{code: "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", status: wire.StatusSignal, warning: "state_lost"},
			{code: "result = 1", result: "1", warning: "state_lost"},
			{code: "result = 1", result: "1"},
		}},
		{"a time limit", []keptRequest{
			{code: "x = 1"},
			{code: "print('begun', flush=True)\nwhile True: pass", change: limits(wire.Limits{TimeoutSeconds: 0.3}), status: wire.StatusTimeout, stdout: "begun\n", warning: "state_lost"},
			{code: "result = 'x' in globals()", result: "false", warning: "state_lost"},
		}},
		{"a processor time limit counts for each request", []keptRequest{
			{code: "import time\ndef use(s):\n    end = time.process_time() + s\n    while time.process_time() < end: pass"},
			{code: "use(0.7)", change: limits(wire.Limits{CPUSeconds: 1})},
			{code: "use(0.7)", change: limits(wire.Limits{CPUSeconds: 1})},
			{code: "use(9)", change: limits(wire.Limits{CPUSeconds: 1}), status: wire.StatusCPULimit, warning: "state_lost"},
		}},
		{"an idle limit", []keptRequest{
			{code: "import time; time.sleep(60)", change: limits(wire.Limits{IdleSeconds: 0.5}), status: wire.StatusIdleTimeout, warning: "state_lost"},
		}},
		{"a memory limit", []keptRequest{
			{code: "x = bytearray(30 << 20)", change: limits(wire.Limits{MemoryMB: 100})},
			{code: "y = bytearray(200 << 20)", change: limits(wire.Limits{MemoryMB: 100}), status: wire.StatusMemoryLimit, anyWarning: true}, // without a control group the interpreter has a MemoryError, and lives on
			{code: "result = 'y' in globals()", change: limits(wire.Limits{MemoryMB: 100}), result: "false", anyWarning: true},
			{code: "z = 1", warning: "state_lost"}, // with the usual limit again
		}},
		{"output", []keptRequest{
			{code: "import sys, os\nsys.stdout.write('part')\nos.system('echo child; echo wrong >&2')", stdout: "child\npart", stderr: "wrong\n"},
			{code: "pass", result: "null"},
			{code: "sys.stdout.write('x' * 300000)", stdoutBytes: 300000},
			{code: "print('y')", stdout: "y\n"},
			{code: "import io; sys.stdout = io.StringIO(); print('nowhere')"},
			{code: "print('here')", stdout: "here\n"},
			{code: "sys.stdout.close(); os.close(2)"},
			{code: "print('again'); sys.stderr.write('too')", stdout: "again\n", stderr: "too"},
			{code: "sys.stdout = sys.stderr = None"},
			{code: "print('still')", stdout: "still\n"},
			{code: "os.close(0); os.close(1); os.close(2); f = open('/dev/null', 'w')"},
			{code: "print('yes'); sys.stderr.write('no')", stdout: "yes\n", stderr: "no"},
		}},
		{"a process that lives on has the output of its request only", []keptRequest{
			{code: "import subprocess, time; p = subprocess.Popen(['sh', '-c', 'echo one; while :; do sleep 0.01; echo more; done'], stderr=subprocess.DEVNULL)\ntime.sleep(0.3)", anyOutput: true},
			{code: "time.sleep(0.3); print('two')", stdout: "two\n"},
			{code: "p.kill(); result = p.wait() is not None", result: "true"},
		}},
		{"a thread that lives on", []keptRequest{
			{code: "import threading, time\ndef work():\n    global n\n    while not over:\n        print('late')\n        n += 1\n        time.sleep(0.005)\nn, over = 0, False\ndef wait():\n    until = n + 2\n    while n < until: time.sleep(0.001)\nt = threading.Thread(target=work, daemon=True)\nt.start()", anyOutput: true},
			{code: "wait(); print('mine')", stdout: "mine\n", warning: "late_output"},
			{code: "u = threading.Thread(target=print, args=('new',)); u.start(); u.join(); wait()", stdout: "new\n", warning: "late_output"},
			{code: "over = True; t.join()", anyWarning: true},
			{code: "print('alone')", stdout: "alone\n"},
		}},
		{"a forked child", []keptRequest{
			{code: "import os\nx = 1\npid = os.fork()\nif pid: result = os.waitpid(pid, 0)[1]\nelse: print('child')", result: "0", stdout: "child\n"},
			{code: "pid = os.fork()\nif not pid: 1/0\nresult = os.waitpid(pid, 0)[1] >> 8", result: "1", anyOutput: true},
			{code: "result = x", result: "1"},
		}},
		{"descriptors that are closed", []keptRequest{
			{code: "x = 1; import os; os.closerange(3, 256)"},
			{code: "result = x", result: "1"},
			{code: "os.closerange(0, 70000); result = 5", result: "5", warning: "state_lost"},
			{code: "result = 'x' in globals()", result: "false", warning: "state_lost"},
			{code: "import os\nfiles = []\ntry:\n    while True: files.append(os.open('/dev/null', 0))\nexcept OSError: pass"},
			{code: "result = 'files' in globals()", result: "false", warning: "state_lost"},
		}},
		{"a file at the size limit concerns the request that has written it", []keptRequest{
			{code: "open('f', 'wb').write(b'x' * (1 << 20)); open('g', 'w').write('y')", change: limits(wire.Limits{FileMB: 1}), status: wire.StatusDiskLimit},
			{code: "pass", change: limits(wire.Limits{FileMB: 1})},
			{code: "result = open('g').read()", change: limits(wire.Limits{FileMB: 1}), result: `"y"`},
			{code: "open('h', 'wb').write(b'x' * (1 << 20))", change: limits(wire.Limits{FileMB: 1}), status: wire.StatusDiskLimit},
		}},
		{"two descriptors are left for three", []keptRequest{
			{code: "import os\nfiles = []\ntry:\n    while True: files.append(os.open('/dev/null', 0))\nexcept OSError: pass\nfor _ in range(2): os.close(files.pop())\nresult = 'first'", result: `"first"`},
			{code: "result = [len(v), 'files' in globals()]", change: variables("v", strings.Repeat("a", 1<<20)), result: "[1048576,false]", warning: "state_lost"},
		}},
		{"three descriptors are left for four", []keptRequest{
			{code: "import os\nfiles = []\ntry:\n    while True: files.append(os.open('/dev/null', 0))\nexcept OSError: pass\nfor _ in range(3): os.close(files.pop())\nresult = 'first'", result: `"first"`},
			{code: "result = [input(), 'files' in globals()]", change: stdin("line\n"), result: `["line",false]`, warning: "state_lost"},
		}},
		{"signals", []keptRequest{
			{code: "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])"},
			{code: "import os; os.kill(os.getpid(), signal.SIGUSR1); result = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])) == [signal.SIGUSR1, signal.SIGTERM]", result: "true"},
			{code: "hits = []; signal.signal(signal.SIGALRM, lambda *a: hits.append(1))"},
			{signal: syscall.SIGALRM, code: "result = len(hits)", result: "1"},
			{code: "def fail(*a): raise KeyError\nsignal.signal(signal.SIGALRM, fail)"},
			{signal: syscall.SIGALRM, code: "pass", status: wire.StatusError},
			{code: "while True: pass", change: limits(wire.Limits{TimeoutSeconds: 0.3}), status: wire.StatusTimeout, warning: "state_lost"},
		}},
		{"a standard input", []keptRequest{
			{code: "import sys; result = sys.stdin.read()", result: `""`},
			{code: "result = [input(), sys.stdin.read()]", change: stdin("one\ntwo\nthree"), result: `["one","two\nthree"]`},
			{code: "result = sys.stdin.readline()", change: stdin("four\n"), result: `"four\n"`},
			{code: "result = sys.stdin.read()", result: `""`},
		}},
		{"what code can install", []keptRequest{
			{code: "import sys, builtins; sys.settrace(lambda *a: None); builtins.zip = None"},
			{code: "del builtins.zip; result = sys.gettrace() is None", result: "true"},
			{code: "sys.setrecursionlimit(200); sys.excepthook = None; sys.addaudithook(lambda *a: None); print('x')", stdout: "x\n"},
			{code: "def f(): f()\nf()", status: wire.StatusError, anyOutput: true},
			{code: "import os; os.chdir('/'); __name__ = __file__ = __builtins__ = 1"},
			{code: "result = [os.getcwd(), __name__, len(open(__file__).read()) > 10]", result: `["/","__main__",true]`},
		}},
		{"large requests and results", []keptRequest{
			{code: "x = len(v)", change: variables("v", strings.Repeat("a", 3<<20))},
			{code: "result = [x, 'b' * (2 << 20)]", resultBytes: 2<<20 + 12},
			{code: "result = 'c' * (2 << 20)", change: limits(wire.Limits{OutputMB: 1}), status: wire.StatusOutputLimit},
			{code: "result = x", result: "3145728"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			k := NewKeeper()
			for i, q := range tt.requests {
				job := testJob(t, root, q.code)
				job.Request.User = q.user
				if q.change != nil {
					q.change(&job)
				}
				if q.signal != 0 {
					if err := syscall.Kill(interpreterOf(t, k, job), q.signal); err != nil {
						t.Fatal(err)
					}
				}
				answer := k.Run(job)
				if err := answer.Sweep(); err != nil {
					t.Error(err)
				}
				q.compare(t, fmt.Sprintf("request %d", i), answer.Result)
			}
			for _, err := range k.Close() {
				t.Error(err)
			}
			if names := left(root); len(names) > 0 {
				t.Errorf("left behind: %s", strings.Join(names, " "))
			}
		})
	}
}

// compare compares a result with what is wanted.
func (q keptRequest) compare(t *testing.T, name string, r wire.Result) {
	t.Helper()
	if want := cmp.Or(q.status, wire.StatusOK); r.Status != want {
		t.Fatalf("%s: %s, want %s: %+v\n%s\n%+v", name, r.Status, want, r.Failure, r.Traceback, r.Captured)
	}
	if q.result != "" && string(r.Result) != q.result {
		t.Errorf("%s: result %s, want %s", name, r.Result, q.result)
	}
	if q.resultBytes > 0 && len(r.Result) != q.resultBytes {
		t.Errorf("%s: a result of %d bytes, want %d", name, len(r.Result), q.resultBytes)
	}
	if !strings.Contains(r.Traceback, q.traceback) {
		t.Errorf("%s: traceback without %q:\n%s", name, q.traceback, r.Traceback)
	}
	if q.exit != 0 && (r.ExitCode == nil || *r.ExitCode != q.exit) {
		t.Errorf("%s: exit code %v, want %d", name, r.ExitCode, q.exit)
	}
	switch c := r.Captured; {
	case c == nil:
		t.Errorf("%s: it did not run", name)
	case q.stdoutBytes > 0 && c.StdoutBytes != q.stdoutBytes:
		t.Errorf("%s: %d bytes of stdout, want %d", name, c.StdoutBytes, q.stdoutBytes)
	case q.stdoutBytes == 0 && !q.anyOutput && (c.Stdout != q.stdout || c.Stderr != q.stderr):
		t.Errorf("%s: stdout %q, stderr %q, want %q, %q", name, c.Stdout, c.Stderr, q.stdout, q.stderr)
	}
	found := q.warning == ""
	for _, w := range r.Warnings {
		switch {
		case w.Code == q.warning:
			found = true
		case !q.anyWarning && w.Code != "absent_path" && w.Code != "process_limit":
			t.Errorf("%s: warning %v", name, w)
		}
	}
	if !found {
		t.Errorf("%s: no warning %s", name, q.warning)
	}
}
