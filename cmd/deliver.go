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

// A caller may never read what a launcher writes. A full pipe must not keep the launcher alive beyond
// the time limit of its run, and a signal must still end it.
const (
	resultPatience = time.Minute // the least time to wait for the reader of a result
	signalPatience = time.Second // how long a reader has to read the result after a signal
	sayPatience    = time.Second // how long to wait for the reader of a message

	pipeBuf = 4096 // a pipe that is ready for writing takes this many bytes at once: PIPE_BUF, pipe(7)
)

// errUnread is the error for a result that nobody read.
var errUnread = errors.New("nobody reads it")

// deliver writes a result. It waits for the reader until the time limit of the run would be over, but at
// least for resultPatience; without a time limit it waits for ever, and without limits (nil) for
// resultPatience. A signal ends the waiting. The goroutine that is blocked in the write ends with the
// process.
func (app *app) deliver(line []byte, limits *wire.Limits) error {
	if len(line) == 0 {
		return nil
	}
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
	// The signal may have come just after the run ended. A caller that reads still gets the line. The second
	// signal may have come with it, before the reader could do anything; a third ends the waiting at once.
	var asked *cancelledError
	again := false
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
			case s == syscall.SIGPIPE: // from watchReader; the write fails by itself
			case asked == nil:
				asked, soon = &cancelledError{s.(syscall.Signal), " before the result was read"}, time.After(signalPatience)
			case again:
				return asked
			default:
				again = true
			}
		}
	}
}

// fits reports whether a write of that many bytes to a file surely does not block.
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

// writable reports whether a file can take at least pipeBuf bytes without blocking, now or within that
// time.
func writable(f *os.File, within time.Duration) bool {
	for end := time.Now().Add(within); ; {
		p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLOUT}}
		n, err := unix.Poll(p, int(max(0, time.Until(end)).Milliseconds()))
		if err != unix.EINTR {
			return n != 0
		}
	}
}

// say writes a message to standard error. It drops the message if standard error is a pipe that stays
// full.
func (app *app) say(text []byte) {
	if f, ok := app.err.(*os.File); ok && !writable(f, sayPatience) {
		return
	}
	app.err.Write(text)
}
