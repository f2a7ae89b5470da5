package cmd

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/cli"
	"py3run/internal/sigaction"
	"py3run/sandbox"
)

// A console is the caller's side of a run that has a terminal of its own: it passes on what the user
// types, the size of the window and the signals of job control. Meanwhile the caller's terminal is
// raw: each key goes to the run's terminal, which does the rest (echo, Ctrl-C, Ctrl-Z …).
//
//	attach ─► enter ─► (suspend: leave, stop, enter …) ─► leave
//
// The caller's terminal is changed only by enter and leave, and only in the foreground: there nobody
// else uses it. In the background, after `bg` or `&`, the run goes on and prints, but gets nothing
// to read until it is in the foreground.
//
// O_NONBLOCK is never set on the caller's files: other processes share it.
type console struct {
	pty        *sandbox.Terminal
	in         *os.File // nil: nobody types
	inTerminal bool     // in is a terminal
	shown      bool     // what the run prints is shown at the same terminal
	window     *os.File // the terminal whose size counts; nil: there is none
	ending     chan<- os.Signal

	news       chan os.Signal
	quit, done chan struct{}

	entered    bool          // the caller's terminal is raw
	before     *unix.Termios // its settings before that
	raw        *unix.Termios // its settings since then
	typing     *typist       // nil: nothing is read
	over       bool          // nothing more will be typed
	rest       []byte        // read, but not typed yet
	openLine   bool          // what was typed last is no whole line
	ignoreStop bool          // the caller ignores SIGTSTP
}

// wantsTerminal decides whether a run gets a terminal of its own. in says whether standard input is the
// controlling terminal, out whether standard output is a terminal, code whether the code came from
// standard input: then nobody types.
func wantsTerminal(o runOptions, in, out, code bool) bool {
	return o.tty || !o.noTTY && in && out && !code
}

// newConsole makes the terminal of a run. in is what the user types; nil: nothing.
func (app *app) newConsole(in *os.File) (*console, error) {
	c := &console{in: in, ending: app.signals, news: make(chan os.Signal, 16), quit: make(chan struct{}), done: make(chan struct{}), ignoreStop: signal.Ignored(syscall.SIGTSTP)}
	var settings *unix.Termios
	if c.inTerminal = in != nil && cli.IsTerminal(in); c.inTerminal {
		settings, _ = unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
		c.shown = oneStream(in, os.Stdout)
	}
	for _, f := range []*os.File{in, os.Stdout, os.Stderr} {
		if f != nil && cli.IsTerminal(f) {
			c.window = f
			break
		}
	}
	size := &unix.Winsize{Row: 24, Col: 80}
	if known := c.size(); known != nil {
		size = known
	}
	pty, err := sandbox.OpenTerminal(settings, size)
	c.pty = pty
	return c, err
}

// size returns that of the caller's window; nil: there is none.
func (c *console) size() *unix.Winsize {
	if c.window == nil {
		return nil
	}
	size, err := unix.IoctlGetWinsize(int(c.window.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return size
}

// deadly are signals that end py3run at once. At a terminal it first puts that in order.
var deadly = []os.Signal{syscall.SIGABRT, syscall.SIGTRAP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGIO, syscall.SIGPWR, syscall.SIGXCPU, syscall.SIGSTKFLT}

// attach connects the caller's terminal with that of a run that is about to begin. detach puts
// everything back.
func (c *console) attach() (detach func()) {
	signal.Notify(c.news, syscall.SIGWINCH, syscall.SIGCONT)
	if !c.ignoreStop {
		signal.Notify(c.news, syscall.SIGTSTP)
	}
	for _, s := range deadly {
		if !signal.Ignored(s) {
			signal.Notify(c.news, s)
		}
	}
	c.enter()
	go c.serve()
	return func() {
		close(c.quit)
		<-c.done
		signal.Stop(c.news)
		if !c.ignoreStop {
			sigaction.Set(unix.SIGTSTP, sigaction.Default) // the runtime does not do it
		}
	}
}

// backgroundLook is how often a console in the background looks whether it is in the foreground.
// bash does not tell: its fg sends SIGCONT only to a job that was stopped.
const backgroundLook = 100 * time.Millisecond

// serve looks after the terminals until the run is over.
func (c *console) serve() {
	defer close(c.done)
	defer c.leave()
	defer func() {
		if fault := recover(); fault != nil { // of ours: the run goes on without its user
			c.hangUp()
		}
	}()
	ticker := time.NewTicker(backgroundLook)
	defer ticker.Stop()
	for {
		var background <-chan time.Time
		if c.inTerminal && !c.entered && !c.over {
			background = ticker.C
		}
		var ended <-chan struct{}
		if c.typing != nil {
			ended = c.typing.done
		}
		select {
		case <-c.quit:
			return
		case s := <-c.news:
			c.hear(s.(syscall.Signal))
		case <-c.pty.Stopped():
			c.suspend()
		case <-background:
			c.enter()
		case <-ended:
			c.ended()
		}
	}
}

func (c *console) hear(s syscall.Signal) {
	switch s {
	case syscall.SIGWINCH:
		c.resize()
	case syscall.SIGCONT: // a shell may have changed the terminal, or put us into the background
		c.enter()
	case syscall.SIGTSTP: // if that stops the program, it is as if the user had typed Ctrl-Z
		c.pty.Stop()
	default:
		c.leave()
		sigaction.Raise(s)
	}
}

// hangUp ends the run as the end of the terminal would.
func (c *console) hangUp() {
	select {
	case c.ending <- syscall.SIGHUP:
	default: // it ends anyway
	}
}

// suspend stops py3run because the program was stopped: the caller's shell gets the terminal back,
// until the user continues both.
func (c *console) suspend() {
	c.pty.Settle()
	c.pty.Pause()
	c.leave()
	if !c.ignoreStop {
		stopSelf()
	}
	mine := c.take()
	c.pty.Continue()
	if mine {
		c.startTyping() // not earlier: a Ctrl-Z or Ctrl-C for a program that is still stopped would be lost
	}
}

// stopSelf stops this process and its group, as the kernel does at Ctrl-Z. It returns when somebody
// continues them. In an orphaned group it returns at once: the kernel does not stop that, because
// nobody could continue it. The others come first, because a shell may act as soon as it sees us
// stop.
func stopSelf() {
	before := sigaction.Set(unix.SIGTSTP, sigaction.Ignore)
	unix.Kill(0, unix.SIGTSTP)
	sigaction.Set(unix.SIGTSTP, before)
	sigaction.Raise(unix.SIGTSTP)
}

// enter takes the caller's terminal and starts to read. It can be called again at any time, because
// others may have changed the terminal.
func (c *console) enter() {
	if c.take() {
		c.startTyping()
	}
}

// take makes the caller's terminal raw, if py3run is in the foreground. It reports whether py3run may
// read.
func (c *console) take() bool {
	c.resize()
	if !c.inTerminal {
		return true
	}
	now, err := unix.IoctlGetTermios(int(c.in.Fd()), unix.TCGETS)
	if err != nil {
		c.stopTyping()
		c.lose()
		return false
	}
	if !foreground(c.in) {
		c.stopTyping()
		c.entered = false
		return false
	}
	if c.raw == nil || *now != *c.raw { // else nobody has changed it since the last time
		c.stopTyping()
		if now.Lflag&unix.ICANON != 0 {
			c.readLines()
		}
		raw := *now
		makeRaw(&raw, c.shown)
		if unix.IoctlSetTermios(int(c.in.Fd()), unix.TCSETS, &raw) != nil {
			return false
		}
		c.before = now
		c.raw, _ = unix.IoctlGetTermios(int(c.in.Fd()), unix.TCGETS)
	}
	c.entered = true
	return true
}

// leave stops to read, and gives the caller's terminal its settings back. What was typed and not
// read stays for the next reader.
func (c *console) leave() {
	c.stopTyping()
	if c.entered && foreground(c.in) {
		unix.IoctlSetTermios(int(c.in.Fd()), unix.TCSETS, c.before) // not TCSETSW: a terminal that hangs would not let us go
	}
	c.entered, c.raw = false, nil
}

func (c *console) resize() {
	if size := c.size(); size != nil {
		c.pty.Resize(size)
	}
}

// controls reports whether a terminal is the controlling terminal of this process. Another one, as
// after setsid(1), may be in use by its own session, and the kernel does not tell.
func controls(f *os.File) bool {
	_, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil
}

// foreground reports whether this process may use a terminal: its group is the foreground group, or
// the terminal is not its controlling terminal and has no job control for it (tty_ioctl(4)).
func foreground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// makeRaw changes settings as cfmakeraw(3) does. With output, what is printed is not processed either:
// the run's terminal has done that.
func makeRaw(s *unix.Termios, output bool) {
	s.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON | unix.IXOFF | unix.IXANY
	s.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	s.Cc[unix.VMIN], s.Cc[unix.VTIME] = 1, 0
	if output {
		s.Oflag &^= unix.OPOST
	}
}
