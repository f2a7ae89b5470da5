// Package filelock takes locks between processes, flock(2), and gives up after some time.
package filelock

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// ErrTimeout means that somebody else held the lock for too long.
var ErrTimeout = errors.New("held by another writer for too long")

// Take locks an open file or directory; how is unix.LOCK_EX or unix.LOCK_SH. On an error it closes fd.
//
// It waits in the kernel's own queue: a hundred processes that asked again every millisecond would
// keep a processor busy, and the slowest would starve. After the deadline, more says how much longer
// to wait; nil: no longer.
//
// The kernel cannot be told to stop waiting. So the goroutine that waits outlives a call that gives
// up, and releases the lock at once when it gets it.
func Take(fd, how int, deadline time.Time, more func() time.Duration) error {
	err := flock(fd, how|unix.LOCK_NB)
	if err != unix.EWOULDBLOCK {
		if err != nil {
			unix.Close(fd)
		}
		return err
	}
	done := make(chan error)
	over := make(chan struct{})
	go func() {
		err := flock(fd, how)
		select {
		case done <- err:
		case <-over: // the caller has given up
			Release(fd)
		}
	}()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				unix.Close(fd)
			}
			return err
		case <-timer.C:
			var longer time.Duration
			if more != nil {
				longer = more()
			}
			if longer <= 0 {
				close(over)
				return ErrTimeout
			}
			timer.Reset(longer)
		}
	}
}

// Release unlocks explicitly, and closes: a child that is being forked at this moment has a copy of
// the descriptor, so that closing ours would not release the lock.
func Release(fd int) {
	flock(fd, unix.LOCK_UN)
	unix.Close(fd)
}

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}
