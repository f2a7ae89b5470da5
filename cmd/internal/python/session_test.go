package python

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"py3run/cmd/internal/wire"
)

// What these tests are about shows only in an interpreter that was started for it, or outside the code. Cases of code and its result are in
// testdata/python.

// The last words of a program that a signal asks where it is.
func TestWhereOfARun(t *testing.T) {
	t.Parallel()
	const program = `import os, signal, threading
ready, stop = threading.Event(), threading.Event()
def work():
    ready.set()
    stop.wait()
t = threading.Thread(target=work)
t.start()
ready.wait()
def ask():
    os.kill(os.getpid(), %d)
ask()
stop.set()
t.join()
os._exit(0)
`
	inEach(t, func(t *testing.T, ip Interpreter) {
		for _, signal := range []syscall.Signal{63, syscall.SIGXCPU} {
			t.Run(fmt.Sprint("signal ", int(signal)), func(t *testing.T) {
				t.Parallel()
				base := t.TempDir()
				job := code(fmt.Sprintf(program, signal))
				job.Path = filepath.Join(base, "größe.py") // the dump writes it in another way
				if err := os.WriteFile(job.Path, job.Code, 0o600); err != nil {
					t.Fatal(err)
				}
				tr := try(t, ip, job)
				frames := Where(tr.dump, job.Path, "main.py", ip.Prefixes)
				var main []wire.Frame
				work := false
				for _, f := range frames {
					if f.Thread == 0 {
						main = append(main, f)
					}
					work = work || f.Thread > 0 && f == wire.Frame{File: "main.py", Line: 5, Function: "work", Thread: f.Thread}
				}
				want := []wire.Frame{{File: "main.py", Line: 11, Function: "<module>"}, {File: "main.py", Line: 10, Function: "ask"}}
				if !slices.Equal(main, want) || !work {
					t.Errorf("%v, want the main thread at %v and another in work\n%s", frames, want, tr.dump)
				}
			})
		}
	})
}

// A program that closes all descriptors and then opens files of its own finds nothing of ours in them.
func TestDescriptorsClosed(t *testing.T) {
	t.Parallel()
	const program = `import os
os.closerange(3, 4096)
files = [open("f%d" % n, "w+b", buffering=0) for n in range(20)]
for n, f in enumerate(files): f.write(b"%d" % n)
if os.fork() == 0:
    open("child", "w").close()
    os._exit(0)
os.wait()
open("later", "w").close()
os.kill(os.getpid(), 63) if False else None
wrong = []
for n, f in enumerate(files):
    f.seek(0)
    if f.read() != b"%d" % n: wrong.append(n)
result = [wrong, max(f.fileno() for f in files) < 64, {1}]
`
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code(program))
		if got, want := tr.value(t), `[[],true,[1]]`; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if !slices.Contains(tr.events.FilesWritten, filepath.Join(tr.dir, "later")) {
			t.Errorf("files written: %q", tr.events.FilesWritten)
		}
		for n := range 20 {
			if data, err := os.ReadFile(filepath.Join(tr.dir, fmt.Sprint("f", n))); string(data) != fmt.Sprint(n) {
				t.Errorf("f%d has %q, %v", n, data, err)
			}
		}
	})
}

// A launcher that goes away before the gate opens leaves an interpreter that ends itself, and nothing has run.
func TestGateClosed(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		s, err := Open(ip, Job{Command: wire.CommandExecute, Code: []byte("print(1)"), Text: true, Path: "x", Shown: "x"}, firstInTests)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		gate, open, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(ip.Path, s.Args()...)
		cmd.ExtraFiles = append(make([]*os.File, firstInTests-3), append(slices.Clone(s.Files()), gate, gate)...)
		open.Close()
		out, _ := cmd.CombinedOutput()
		gate.Close()
		s.Started()
		if _, began := s.CodeStarted(); began || cmd.ProcessState.ExitCode() != 125 || len(out) > 0 {
			t.Errorf("exit code %d, want 125; began %t, %s", cmd.ProcessState.ExitCode(), began, out)
		}
		if _, err := s.Reply(); !errors.Is(err, ErrNoReply) {
			t.Errorf("%v, want %v", err, ErrNoReply)
		}
	})
}

// The gate's one byte is read and the gate closed before any of the code runs: its end is all that the launcher can see of the beginning.
func TestGateClosedBeforeTheCode(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code(fmt.Sprintf("import os\nresult = [n for n in range(5) if os.path.exists('/proc/self/fd/%%d' %% (%d + n))]", firstInTests)))
		if got, want := tr.value(t), "[2,4]"; got != want { // the pipe for events, the dump pipe
			t.Errorf("open from the first descriptor on: %s, want %s", got, want)
		}
	})
}
