package cmd

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An input is a file that a process waits for and reads from, which is not its own alone: other
// processes may share it, so it must stay in blocking mode.
type input struct {
	file *os.File
	// The poller of the Go runtime waits for an epoll(7) descriptor that watches the file. A thread
	// that waits in read(2) would cost more, and nothing could end its waiting. nil: the file cannot
	// be watched, as a regular one, and is always ready.
	epoll *os.File
	raw   syscall.RawConn

	mu      sync.Mutex
	stopped bool
}

func newInput(file *os.File) *input {
	in := &input{file: file}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return in
	}
	unix.SetNonblock(fd, true)
	epoll := os.NewFile(uintptr(fd), "epoll")
	raw, err := epoll.SyscallConn()
	if err != nil || unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, int(file.Fd()), &unix.EpollEvent{Events: unix.EPOLLIN}) != nil {
		epoll.Close()
		return in
	}
	in.epoll, in.raw = epoll, raw
	return in
}

// wait waits until there is something to read, or the end of the file. false: patience is over (0:
// for ever), or stop was called.
func (in *input) wait(patience time.Duration) bool {
	in.mu.Lock()
	stopped := in.stopped
	if !stopped && in.epoll != nil {
		var late time.Time
		if patience > 0 {
			late = time.Now().Add(patience)
		}
		in.epoll.SetReadDeadline(late)
	}
	in.mu.Unlock()
	if stopped || in.epoll == nil {
		return !stopped
	}
	return in.raw.Read(func(fd uintptr) bool {
		var events [1]unix.EpollEvent
		n, _ := unix.EpollWait(int(fd), events[:], 0)
		return n > 0
	}) == nil
}

// stop ends the waiting, now and from now on.
func (in *input) stop() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stopped = true
	if in.epoll != nil {
		in.epoll.SetReadDeadline(time.Unix(1, 0))
	}
}

// isStopped reports whether stop was called.
func (in *input) isStopped() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.stopped
}

// read reads what is there. 0 bytes: the end, or an error, after which nothing will come either.
func (in *input) read(b []byte) int {
	for {
		n, err := unix.Read(int(in.file.Fd()), b)
		if err != unix.EINTR {
			return max(0, n)
		}
	}
}

func (in *input) close() {
	if in.epoll != nil {
		in.epoll.Close()
	}
}
