package cmd

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A typist reads what the user types and passes it on.
type typist struct {
	wake *os.File // closing it ends the reading
	stop *os.File // its other end
	done chan struct{}
}

func (c *console) startTyping() {
	if c.typing != nil || c.over {
		return
	}
	stop, wake, err := os.Pipe()
	if err != nil {
		return
	}
	t := &typist{wake: wake, stop: stop, done: make(chan struct{})}
	c.typing = t
	go func() {
		defer close(t.done)
		c.read(int(stop.Fd()))
	}()
}

// stopTyping waits until nobody reads any more.
func (c *console) stopTyping() {
	t := c.typing
	if t == nil {
		return
	}
	t.wake.Close()
	c.pty.SetWriteDeadline(time.Now())
	<-t.done
	c.pty.SetWriteDeadline(time.Time{})
	t.stop.Close()
	c.typing = nil
}

// ended handles the end of the reading.
func (c *console) ended() {
	c.stopTyping()
	switch {
	case !c.inTerminal:
	case c.gone():
		c.lose()
	case !foreground(c.in):
		c.entered = false // until it is in the foreground again
	default: // the run's terminal is gone
		c.over = true
	}
}

// lose ends the run because the caller's terminal has gone away. If the caller ignores SIGHUP, the run
// is to outlive the terminal: then only its input ends.
func (c *console) lose() {
	if c.over {
		return
	}
	c.over, c.entered = true, false
	if !signal.Ignored(syscall.SIGHUP) {
		c.hangUp()
		return
	}
	c.pty.SetWriteDeadline(time.Now().Add(backgroundLook)) // the program may not read
	c.typeEnd()
	c.pty.SetWriteDeadline(time.Time{})
}

// gone reports whether the caller's terminal has hung up.
func (c *console) gone() bool {
	_, err := unix.IoctlGetTermios(int(c.in.Fd()), unix.TCGETS)
	return err != nil
}

// read passes on what is typed until its end, or until stop is readable. It reads only what is there:
// what comes later is for others.
func (c *console) read(stop int) {
	buffer := make([]byte, 4096)
	in := -1
	if c.in != nil {
		in = int(c.in.Fd())
	}
	for {
		if len(c.rest) > 0 {
			n, err := c.pty.Write(c.rest)
			if n > 0 {
				c.openLine = c.rest[n-1] != '\n' && c.rest[n-1] != '\r'
			}
			if c.rest = c.rest[n:]; err != nil {
				return
			}
		}
		if in < 0 {
			c.over = true
			c.typeEnd()
			return
		}
		p := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err == unix.EINTR {
			continue
		} else if err != nil || p[1].Revents != 0 {
			return
		}
		n, err := unix.Read(in, buffer)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case n > 0:
			c.rest = append(c.rest, buffer[:n]...)
		case c.inTerminal && n == 0 && !c.gone(): // somebody else has made it cooked, and the user types Ctrl-D
			c.typeEnd()
		case c.inTerminal:
			return
		default:
			in = -1
		}
	}
}

// readLines reads what was typed while the caller's terminal is not raw yet: whole lines, and Ctrl-D,
// which would be a NUL in raw mode.
func (c *console) readLines() {
	const most = 64 << 10
	buffer := make([]byte, 4096) // the longest line
	for len(c.rest) < most {
		p := []unix.PollFd{{Fd: int32(c.in.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(p, 0); n != 1 || p[0].Revents != unix.POLLIN {
			return
		}
		n, err := unix.Read(int(c.in.Fd()), buffer)
		if err != nil {
			return
		}
		c.rest = append(c.rest, buffer[:n]...)
		if n == 0 || buffer[n-1] != '\n' {
			end, _ := c.endOfFile()
			c.rest = append(c.rest, end)
		}
	}
}

// typeEnd types the end of the input, as a user does. In the middle of a line the first Ctrl-D only
// ends that (termios(3), VEOF).
func (c *console) typeEnd() {
	key, lines := c.endOfFile()
	end := []byte{key}
	if lines && c.openLine {
		end = append(end, key)
	}
	c.pty.Write(end)
}

// endOfFile returns the key that means the end of the input at the run's terminal, and whether it is
// read there line by line.
func (c *console) endOfFile() (key byte, lines bool) {
	if settings, err := c.pty.Settings(); err == nil && settings.Lflag&unix.ICANON != 0 {
		return settings.Cc[unix.VEOF], true
	}
	return 4, false
}
