package cmd

import (
	"os"

	"golang.org/x/sys/unix"
)

// oneStream tells whether two descriptors are one file, pipe, socket or terminal, as after `2>&1`: then what is written to both has an order.
func oneStream(a, b *os.File) bool {
	var x, y unix.Stat_t
	if unix.Fstat(int(a.Fd()), &x) != nil || unix.Fstat(int(b.Fd()), &y) != nil {
		return false
	}
	if x.Dev == y.Dev && x.Ino == y.Ino {
		return true
	}
	// One terminal has several names: /dev/tty, /dev/console, its own.
	if x.Mode&unix.S_IFMT != unix.S_IFCHR || y.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false
	}
	m, err := unix.IoctlGetInt(int(a.Fd()), unix.TIOCGDEV)
	if err != nil {
		return false
	}
	n, err := unix.IoctlGetInt(int(b.Fd()), unix.TIOCGDEV)
	return err == nil && m == n
}
