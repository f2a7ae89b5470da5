package cmd

import (
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"py3run/internal/need"
	"py3run/sandbox"
)

func TestWantsTerminal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		o             runOptions
		in, out, code bool
		want          bool
	}{
		{"at a terminal", runOptions{}, true, true, false, true},
		{"input from elsewhere", runOptions{}, false, true, false, false},
		{"output to elsewhere", runOptions{}, true, false, false, false},
		{"the code is typed", runOptions{}, true, true, true, false},
		{"not wanted", runOptions{noTTY: true}, true, true, false, false},
		{"asked for", runOptions{tty: true}, false, false, false, true},
		{"asked for, and the code from standard input", runOptions{tty: true}, false, false, true, true},
	} {
		if got := wantsTerminal(tt.o, tt.in, tt.out, tt.code); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

// Raw means that no key is for the terminal, and that output is not processed if the run's terminal has
// done it.
func TestMakeRaw(t *testing.T) {
	t.Parallel()
	cooked := unix.Termios{Iflag: unix.ICRNL | unix.IXON | unix.IUTF8, Oflag: unix.OPOST | unix.ONLCR, Lflag: unix.ISIG | unix.ICANON | unix.ECHO | unix.IEXTEN | unix.TOSTOP, Cflag: unix.CS8}
	for _, output := range []bool{false, true} {
		got, want := cooked, unix.Termios{Iflag: unix.IUTF8, Oflag: unix.OPOST | unix.ONLCR, Lflag: unix.TOSTOP, Cflag: unix.CS8}
		want.Cc[unix.VMIN] = 1
		if output {
			want.Oflag = unix.ONLCR
		}
		if makeRaw(&got, output); got != want {
			t.Errorf("output %t: %+v, want %+v", output, got, want)
		}
	}
}

// The caller's terminal gets its settings back also if py3run panics, and what was typed and not read
// stays for the next reader.
func TestConsoleAfterPanic(t *testing.T) {
	t.Parallel()
	caller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	need.That(t, "terminal", err)
	defer caller.Close()
	number, err := unix.IoctlGetInt(int(caller.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(caller.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	settings := func() unix.Termios {
		s, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *s
	}
	before := settings()
	pty, err := sandbox.OpenTerminal(&before, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pty.Close()
	c := &console{pty: pty, in: in, inTerminal: true, news: make(chan os.Signal, 1), quit: make(chan struct{}), done: make(chan struct{}), ending: make(chan os.Signal, 1), ignoreStop: true}
	func() {
		defer func() { recover() }()
		defer c.attach()()
		if settings().Lflag&unix.ICANON != 0 {
			t.Error("the terminal is not raw")
		}
		panic("a fault")
	}()
	if now := settings(); now != before {
		t.Errorf("settings %+v, before %+v", now, before)
	}
	caller.Write([]byte("later\n"))
	buffer := make([]byte, 10)
	if n, err := syscall.Read(int(in.Fd()), buffer); string(buffer[:n]) != "later\n" {
		t.Errorf("left for the next reader: %q, %v", buffer[:n], err)
	}
}
