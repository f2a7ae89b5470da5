package sandbox

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Terminal is a pseudo-terminal (pty(7)) that a run has for itself.
//
//	user's terminal ◄──► launcher ◄──► master ═ slave ◄──► program
//
// The run is a session of its own. Init leads it, and the slave is its controlling terminal. The
// program leads a process group of its own in it, the foreground group, as a shell would give it.
// Its parent is in the same session and in another group, so its group is not orphaned: Ctrl-Z
// stops it. (In an orphaned group it would do nothing: setpgid(2).)
//
// The caller opens a Terminal, gives it to [Start] as [IO.Terminal], and closes it after
// [Running.Wait]. What the program prints goes to IO.Stdout. What the user types comes by Write.
type Terminal struct {
	master, slave *os.File
	running       *Running      // its run; nil before Start
	stops         chan struct{} // gets a value when the program has been stopped
	continues     chan struct{} // gets a value when the program has been continued
	paused        atomic.Bool   // the user has stopped the run
	signs         atomic.Int64  // of a user: bytes typed, and looks at the run while it is paused
}

// OpenTerminal makes a pseudo-terminal. settings are those that stty(1) shows, size is its window's;
// nil: as the kernel makes them.
func OpenTerminal(settings *unix.Termios, size *unix.Winsize) (_ *Terminal, err error) {
	const ptmx = "/dev/ptmx"
	fd, err := unix.Open(ptmx, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &StepError{Step: "open", Object: ptmx, Err: err}
	}
	t := &Terminal{master: os.NewFile(uintptr(fd), ptmx), stops: make(chan struct{}, 1), continues: make(chan struct{}, 1)}
	defer onFailure(&err, t.Close)
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, &StepError{Step: "ioctl", Object: ptmx, Err: err}
	}
	// Not by its name: the /dev/pts here may be that of another instance.
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, &StepError{Step: "ioctl", Object: ptmx, Err: errno}
	}
	t.slave = os.NewFile(slave, "terminal")
	if settings != nil {
		err = unix.IoctlSetTermios(int(slave), unix.TCSETS, settings)
	}
	if err == nil && size != nil {
		err = unix.IoctlSetWinsize(int(slave), unix.TIOCSWINSZ, size)
	}
	if err != nil {
		return nil, &StepError{Step: "ioctl", Object: "terminal", Err: err}
	}
	return t, nil
}

// Close closes the launcher's ends. If the run still has the terminal, it is as if the line was cut:
// the kernel hangs up.
func (t *Terminal) Close() {
	t.master.Close()
	if t.slave != nil {
		t.slave.Close()
	}
}

// Write types. It waits until the terminal takes all of it, or until the write deadline.
func (t *Terminal) Write(p []byte) (n int, err error) {
	n, err = t.master.Write(p)
	t.signs.Add(int64(n))
	return n, err
}

// SetWriteDeadline ends a Write that waits.
func (t *Terminal) SetWriteDeadline(at time.Time) { t.master.SetWriteDeadline(at) }

// Settings returns the settings that the program has given its terminal.
func (t *Terminal) Settings() (settings *unix.Termios, err error) {
	t.control(func(fd int) { settings, err = unix.IoctlGetTermios(fd, unix.TCGETS) })
	return settings, err
}

// Resize gives the window another size. The kernel sends SIGWINCH to the foreground group if it
// differs from the size before.
func (t *Terminal) Resize(size *unix.Winsize) {
	t.control(func(fd int) { unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
}

// Stopped gets a value when the program has been stopped, by Ctrl-Z as a rule. A process that the
// program has started can stop without that.
func (t *Terminal) Stopped() <-chan struct{} { return t.stops }

// Stop sends SIGTSTP to the foreground group, as Ctrl-Z does.
func (t *Terminal) Stop() {
	t.control(func(fd int) { unix.IoctlSetInt(fd, unix.TIOCSIG, int(unix.SIGTSTP)) })
}

// Pause tells that the user has stopped the run. From now on the time does not count as idle.
func (t *Terminal) Pause() { t.paused.Store(true) }

// continueMost is how long Continue waits. It takes milliseconds, unless the program was not stopped.
const continueMost = 200 * time.Millisecond

// Continue ends a pause. As a shell's fg, it makes the program's group the foreground group and sends
// SIGCONT to it. It waits until the program has been continued: SIGCONT discards a SIGTSTP that came
// before.
func (t *Terminal) Continue() {
	if t.running != nil {
		select {
		case <-t.continues: // an earlier one
		default:
		}
		t.running.signal(unix.SIGCONT)
		select {
		case <-t.continues:
		case <-time.After(continueMost):
		}
	}
	t.signs.Add(1)
	t.paused.Store(false)
}

// settleQuiet and settleMost say how long Settle waits.
const (
	settleQuiet = 20 * time.Millisecond
	settleMost  = 200 * time.Millisecond
)

// Settle waits until no more output comes, for a moment at most. The programs that stop with the
// run's program put the screen in order first.
func (t *Terminal) Settle() {
	if t.running == nil {
		return
	}
	began := time.Now()
	for quiet, printed := began, t.running.printed.Load(); time.Since(quiet) < settleQuiet && time.Since(began) < settleMost; {
		time.Sleep(settleQuiet / 4)
		if now := t.running.printed.Load(); now != printed {
			quiet, printed = time.Now(), now
		}
	}
}

// name is the path of the slave in the instance of devpts(5) in which it was made; empty: not known.
func (t *Terminal) name() (name string) {
	t.control(func(fd int) {
		if n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN); err == nil {
			name = "pts/" + strconv.Itoa(n)
		}
	})
	return name
}

// control makes calls on the master without taking it from the runtime's poller.
func (t *Terminal) control(do func(fd int)) {
	if raw, err := t.master.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// changed notes that the program has been stopped, or continued.
func (t *Terminal) changed(m [8]byte) {
	to := t.continues
	if syscall.WaitStatus(endingOf(m).status).Stopped() {
		to = t.stops
	}
	select {
	case to <- struct{}{}:
	default: // nobody has looked at the last one yet
	}
}

// present counts the signs of a user who is there.
func (t *Terminal) present() int64 {
	if t.paused.Load() {
		return t.signs.Add(1)
	}
	return t.signs.Load()
}

// connect gives a run its terminal. The run has descriptors of its own: one attempt to start it may
// fail, and the next one needs the terminal again.
func (r *Running) connect(t *Terminal, theirs *files) (slave, master *os.File, err error) {
	t.running = r
	copied, slaveCopy := -1, -1
	t.control(func(fd int) { copied, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		if slaveCopy, err = unix.FcntlInt(t.slave.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			unix.Close(copied)
		}
	}
	if err != nil {
		return nil, nil, &StepError{Step: "dup", Object: "terminal", Err: err}
	}
	slave, master = os.NewFile(uintptr(slaveCopy), "terminal"), os.NewFile(uintptr(copied), "terminal")
	theirs.add(slave)
	if u := r.spec.RunAs; u != nil { // so that it can open the terminal by its name; grantpt(3) would do this
		unix.Fchown(slaveCopy, u.UID, -1)
	}
	return slave, master, nil
}

// begun closes what only a start needs: from now on the slave is the run's alone, and the master
// reports its end.
func (t *Terminal) begun() { t.slave.Close() }

// cut hangs up, because nobody sees any more what the run prints: the kernel fails reads and writes
// of the terminal from now on. It sends SIGHUP to init only, so the program gets it from init.
func (t *Terminal) cut() {
	t.Close()
	t.running.signal(unix.SIGHUP)
}

// initTerminal is the descriptor of the terminal that init keeps. It is the last one to close it, so
// the master does not report an end while the run lasts.
const initTerminal = 5

// lead are the calls by which init leads a session of its own, with the terminal. A transparent program
// stays in the session of its caller.
func (b *builder) lead(spec Spec, at layout) {
	if spec.Transparent {
		return
	}
	b.add(must, step{name: "setsid"}, unix.SYS_SETSID)
	if at.terminal {
		b.add(must, step{name: "ioctl", object: "controlling terminal"}, unix.SYS_IOCTL, uintptr(at.stdin), unix.TIOCSCTTY, 0)
	}
}

// foreground are the calls by which the program gets a session of its own or, with a terminal, its
// foreground group. They come before the descriptors move. All signals are blocked: otherwise the
// kernel would stop a process of another group that asks for that (SIGTTOU).
func (b *builder) foreground(spec Spec, c *childInit, at layout) {
	if spec.Transparent {
		return
	}
	if !at.terminal {
		b.add(must, step{name: "setsid"}, unix.SYS_SETSID)
		return
	}
	what := step{name: "ioctl", object: "foreground group of the terminal"}
	b.add(must, what, unix.SYS_SETPGID, 0, 0)
	b.add(toSend, what, unix.SYS_GETPID)
	b.add(must, what, unix.SYS_IOCTL, uintptr(at.stdin), unix.TIOCSPGRP, c.kept())
}

// progress counts what shows that a run is not idle.
func (r *Running) progress() int64 {
	n := r.printed.Load()
	if r.terminal != nil {
		n += r.terminal.present()
	}
	return n
}
