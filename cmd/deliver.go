package cmd

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/wire"
)

// Whoever started a launcher need not read what it writes. A pipe that nobody reads must not keep it alive: neither past the time that its run
// had, nor against a signal.
const (
	resultPatience = time.Minute // for the reader of a result, at least
	signalPatience = time.Second // for the reader of a result, when a signal asks for the end
	sayPatience    = time.Second // for the reader of a message

	pipeBuf = 4096 // a pipe that takes anything takes as much: PIPE_BUF, pipe(7)
)

// errUnread is why a result is lost that nobody has read.
var errUnread = errors.New("nobody reads it")

// deliver writes a result. It waits for the reader until the run's time would be over, without a limit for ever, and for a signal. What is left of the write
// ends with the process.
func (app *app) deliver(line []byte, limits *wire.Limits) error {
	out, ok := app.out.(*cli.Output)
	if !ok || fits(out.File, len(line)) {
		_, err := app.out.Write(line)
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := out.File.Write(line)
		done <- err
	}()
	var late <-chan time.Time
	if limits == nil || limits.TimeoutSeconds > 0 {
		patience := resultPatience
		if limits != nil {
			patience = max(patience, time.Until(app.began.Add(time.Duration(limits.TimeoutSeconds*float64(time.Second)))))
		}
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	// A signal can have come when the run was just over. A caller that reads still gets the line, a second signal ends the waiting.
	var asked *cancelledError
	var soon <-chan time.Time
	for {
		select {
		case err := <-done:
			return err
		case <-late:
			return errUnread
		case <-soon:
			return asked
		case s := <-app.signals:
			switch {
			case s == syscall.SIGPIPE: // that is for the write to find out
			case asked != nil:
				return asked
			default:
				asked, soon = &cancelledError{s.(syscall.Signal), " before the result was read"}, time.After(signalPatience)
			}
		}
	}
}

// fits tells whether a file takes so many bytes without waiting, as far as that is known of it.
func fits(f *os.File, bytes int) bool {
	if !writable(f, 0) {
		return false
	}
	if bytes <= pipeBuf {
		return true
	}
	size, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil || bytes > size {
		return false
	}
	held, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
	return err == nil && held == 0
}

// writable tells whether a file takes at least a page without waiting, or does within that time.
func writable(f *os.File, within time.Duration) bool {
	for end := time.Now().Add(within); ; {
		p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLOUT}}
		n, err := unix.Poll(p, int(max(0, time.Until(end)).Milliseconds()))
		if err != unix.EINTR {
			return n != 0
		}
	}
}

// say writes a message to standard error, unless nobody has room for it.
func (app *app) say(text []byte) {
	if f, ok := app.err.(*os.File); ok && !writable(f, sayPatience) {
		return
	}
	app.err.Write(text)
}
