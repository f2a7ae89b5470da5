package cmd_test

import (
	"bytes"
	"io"
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

	"py3run/internal/need"
)

// A user sits at a terminal: types, and reads what it shows.
type user struct {
	*testing.T
	master, slave *os.File
	cmd           *exec.Cmd
	cooked        unix.Termios // the settings of the terminal at the beginning

	mu    sync.Mutex
	shown []byte
	seen  int           // bytes that the user has read
	over  chan struct{} // nothing more will be shown
	ended chan struct{} // cmd has ended
}

// openTerminal opens both ends of a pseudo-terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // so that Close ends a Read
	need.That(t, "terminal", err)
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// sitDown starts a command at a terminal of its own, as its session leader. Streams of the command that
// are set stay. ahead are keys that the user has pressed before.
func sitDown(t *testing.T, c *exec.Cmd, ahead ...string) *user {
	t.Helper()
	u := &user{T: t, cmd: c, over: make(chan struct{}), ended: make(chan struct{})}
	u.master, u.slave = openTerminal(t)
	u.resize(24, 80)
	u.cooked = u.settings()
	u.types(strings.Join(ahead, ""))
	control := 0
	if c.Stdin == nil {
		c.Stdin = u.slave
	} else if control = 1; c.Stdout != nil {
		control = 2
	}
	if c.Stdout == nil {
		c.Stdout = u.slave
	}
	if c.Stderr == nil {
		c.Stderr = u.slave
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: control}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(u.over)
		buffer := make([]byte, 4096)
		for {
			n, err := u.master.Read(buffer)
			u.mu.Lock()
			u.shown = append(u.shown, buffer[:n]...)
			u.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer close(u.ended)
		c.Wait()
	}()
	t.Cleanup(func() {
		u.cmd.Process.Kill()
		<-u.ended
		u.slave.Close()
		u.master.Close()
		<-u.over
	})
	return u
}

const prompt = "]$ "

// atShell starts a shell with job control, and waits for its prompt.
func atShell(t *testing.T, p place) *user {
	t.Helper()
	_, err := exec.LookPath("bash")
	need.That(t, "bash", err)
	c := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	c.Dir, c.Env = p.dir, append(p.env, "PS1=[$?"+prompt, "TERM=xterm", "HISTFILE=")
	u := sitDown(t, c)
	u.prompt(0)
	return u
}

// sees waits until the terminal shows a text, after what the user has seen before.
func (u *user) sees(text string) {
	u.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		u.mu.Lock()
		at := bytes.Index(u.shown[u.seen:], []byte(text))
		if at >= 0 {
			u.seen += at + len(text)
		}
		left := string(u.shown[u.seen:])
		u.mu.Unlock()
		if at >= 0 {
			return
		}
		select {
		case <-u.over:
			if deadline = time.Now(); !strings.Contains(left, text) {
				u.Fatalf("the terminal is closed and has not shown %q, but %q", text, left)
			}
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			u.Fatalf("the terminal does not show %q, but %q", text, left)
		}
	}
}

// interrupts presses Ctrl-C, again after a while if that has shown nothing: the console of Python waits on
// where the signal comes just before its select(2).
func (u *user) interrupts(text string) {
	u.Helper()
	for range 5 {
		u.types("\x03")
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			u.mu.Lock()
			shown := bytes.Contains(u.shown[u.seen:], []byte(text))
			u.mu.Unlock()
			if shown {
				u.sees(text)
				return
			}
		}
	}
	u.sees(text)
}

// types presses keys. Enter is \r.
func (u *user) types(keys string) {
	u.Helper()
	if _, err := io.WriteString(u.master, keys); err != nil {
		u.Fatal(err)
	}
}

// prompt waits for the shell's prompt, which shows the last exit code. The terminal is then as it was
// at the beginning.
func (u *user) prompt(code int) {
	u.Helper()
	u.sees("[" + strconv.Itoa(code) + prompt)
	u.restored()
}

// writes makes the script a.py.
func (u *user) writes(code string) {
	u.Helper()
	if err := os.WriteFile(filepath.Join(u.cmd.Dir, "a.py"), []byte(code), 0o600); err != nil {
		u.Fatal(err)
	}
}

// runs makes a script and types the command that runs it.
func (u *user) runs(code string, options ...string) {
	u.Helper()
	u.writes(code)
	u.types("py3run run " + strings.Join(append(options, "a.py"), " ") + "\r")
	u.sees("a.py\r\n")
}

func (u *user) settings() unix.Termios {
	u.Helper()
	s, err := unix.IoctlGetTermios(int(u.slave.Fd()), unix.TCGETS)
	if err != nil {
		u.Fatal(err)
	}
	return *s
}

// restored compares the settings of the terminal with those at the beginning. Nobody may have made
// it non-blocking, either.
func (u *user) restored() {
	u.Helper()
	if now := u.settings(); now != u.cooked {
		u.Errorf("settings %+v, at the beginning %+v", now, u.cooked)
	}
	if flags, err := unix.FcntlInt(u.slave.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		u.Errorf("the terminal is non-blocking: flags %#x, %v", flags, err)
	}
}

// raw waits until py3run has the terminal.
func (u *user) raw() {
	u.Helper()
	waitUntil(u.T, "the terminal is raw", func() bool { return u.settings().Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0 })
}

func (u *user) resize(rows, columns uint16) {
	u.Helper()
	if err := unix.IoctlSetWinsize(int(u.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		u.Fatal(err)
	}
}

// ends waits until the command has ended.
func (u *user) ends() *os.ProcessState {
	u.Helper()
	select {
	case <-u.ended:
	case <-time.After(time.Minute):
		u.Fatal("it does not end")
	}
	return u.cmd.ProcessState
}
