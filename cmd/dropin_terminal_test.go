package cmd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/python"
	"py3run/internal/need"
)

// A screen is what a terminal shows: a pty, whose other end is a program's controlling terminal.
type screen struct {
	pty *os.File
	cmd *exec.Cmd

	mu   sync.Mutex
	text string
	end  chan struct{} // nobody writes any more
}

func newScreen(t *testing.T, c *exec.Cmd) *screen {
	t.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	need.That(t, "pty", err)
	raw, _ := pty.SyscallConn()
	var number int
	raw.Control(func(fd uintptr) {
		unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	})
	need.That(t, "pty", err)
	tty, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	need.That(t, "pty", err)
	defer tty.Close()
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := &screen{pty: pty, cmd: c, end: make(chan struct{})}
	go func() {
		defer close(s.end)
		buffer := make([]byte, 4096)
		for {
			n, err := pty.Read(buffer)
			s.mu.Lock()
			s.text += string(buffer[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		c.Process.Kill()
		pty.Close()
		<-s.end
	})
	return s
}

// await waits until the screen shows something, n times.
func (s *screen) await(t *testing.T, text string, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		shown := s.text
		s.mu.Unlock()
		if strings.Count(shown, text) >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %q, %d times, on\n%s", text, n, shown)
		}
	}
}

func (s *screen) write(text string) { s.pty.WriteString(text) }

// ended waits for the end of the program, and returns all that the screen has shown.
func (s *screen) ended(t *testing.T) (shown, status string) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case err := <-done:
		status = fmt.Sprint(err)
	case <-time.After(time.Minute):
		t.Fatal("the program has not ended")
	}
	<-s.end
	return s.text, status
}

// terminalCommand is python3 of a standIn with a terminal's environment.
func (s *standIn) terminalCommand(name string, argv ...string) *exec.Cmd {
	at := filepath.Join(s.dir, name)
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = at
	c.Env = append(append([]string{}, s.environ...), "HOME="+filepath.Join(at, "home"), "TMPDIR="+filepath.Join(at, "tmp"), "P="+filepath.Join(at, "bin", "python3"), "PYTHON_BASIC_REPL=1", "INPUTRC=/dev/null")
	if name == "link" {
		c.Env = append(c.Env, s.py3run()...)
	}
	return c
}

// At a terminal the interpreter shows the same, and Ctrl-C and Ctrl-D do the same.
func TestDropInAtTerminal(t *testing.T) {
	t.Parallel()
	need.That(t, "namespaces", tryNamespaces())
	eachInterpreter(t, func(t *testing.T, ip python.Interpreter) {
		s := newStandIn(t, ip)
		session := func(name string) string {
			screen := newScreen(t, s.terminalCommand(name, filepath.Join(s.dir, name, "bin", "python3"), "-i"))
			screen.await(t, ">>> ", 1)
			screen.write("import sys, os; [os.isatty(n) for n in (0, 1, 2)]\r")
			screen.await(t, ">>> ", 2)
			screen.write("import time; print(*['asl', 'eep'], sep=''); time.sleep(60)\r")
			screen.await(t, "asleep", 1) // from here on it waits only in the sleep
			waitUntil(t, "the interpreter sleeps", func() bool { return sleeps(screen.cmd.Process.Pid) })
			screen.write("\x03")
			screen.await(t, ">>> ", 3)
			screen.write("1/0\r")
			screen.await(t, ">>> ", 4)
			screen.write("\x04")
			shown, status := screen.ended(t)
			return strings.ReplaceAll(shown, filepath.Join(s.dir, name), "DIR") + "\n" + status
		}
		if bare, link := session("bare"), session("link"); bare != link {
			t.Errorf("bare:\n%q\nlink:\n%q", bare, link)
		}
	})
}

// sleeps reports whether the last process of a line waits: a process, what it has started, and so on.
func sleeps(pid int) bool {
	for child := children(pid); len(child) == 1; child = children(pid) {
		pid, _ = strconv.Atoi(child[0])
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Contains(string(text), ") S ")
}

// A shell stops and continues the job, and sees by which signal it ends.
func TestDropInJobControl(t *testing.T) {
	t.Parallel()
	need.That(t, "namespaces", tryNamespaces())
	bash, err := exec.LookPath("bash")
	need.That(t, "bash", err)
	s := newStandIn(t, interpreters()[0])
	program := `import os, time, signal
signal.signal(signal.SIGCONT, lambda *a: os.write(1, b"continued\n"))
os.write(1, b"begun\n")
while True: time.sleep(0.05)`
	if err := os.WriteFile(filepath.Join(s.dir, "job.py"), []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	unstopped := `import os, signal, time
def handler(*a):
    global done
    done = True
    os.write(1, b"not stopped\n")
done = signal.signal(signal.SIGTSTP, handler) is None
os.write(1, b"ready\n")
while not done: time.sleep(0.05)`
	if err := os.WriteFile(filepath.Join(s.dir, "unstopped.py"), []byte(unstopped), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bare", "link"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			screen := newScreen(t, s.terminalCommand(name, bash, "--norc", "--noprofile", "-i"))
			screen.write("PS1='$ '; ulimit -c 0\r")
			screen.write("$P ../job.py\r")
			screen.await(t, "begun", 1)
			screen.write("\x1a")
			screen.await(t, "Stopped", 1)
			screen.write("jobs -l\r")
			screen.await(t, "Stopped       ", 2)
			screen.write("bg\r")
			screen.await(t, "continued", 1)
			screen.write("kill -STOP %1; sleep 0.2; jobs\r")
			screen.await(t, "Stopped", 3)
			screen.write("fg\r")
			screen.await(t, "continued", 2)
			screen.write("\x03")
			screen.await(t, "KeyboardInterrupt", 1)
			screen.write("echo st''atus $?\r")
			screen.await(t, "status 130", 1)
			// A program that stops itself, and one that does not want to be stopped.
			screen.write("$P -c 'import os; os.kill(os.getpid(), 20); print(\"on\" + \"ward\")'\r")
			screen.await(t, "Stopped", 5)
			screen.write("fg\r")
			screen.await(t, "onward", 1)
			screen.write("$P ../unstopped.py; echo af''ter\r")
			screen.await(t, "ready", 1)
			screen.write("\x1a")
			screen.await(t, "not stopped", 1)
			screen.await(t, "after", 1)
			screen.write("$P -c 'import os; print(\"re\" + \"ady\", flush=True); os.read(0, 1)'; echo st''atus $?\r")
			screen.await(t, "ready", 2)
			screen.write("\x1c")
			screen.await(t, "status 131", 1)
			screen.write("exit\r")
			screen.ended(t)
		})
	}
}
