package cgroup

import (
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// An Alarm waits until a group's memory is nearly used up by what cannot be given back, while its
// programs still run: the moment to ask one where it is, because the kernel's kill leaves no time
// for that. v1 has notifications at a threshold of use (cgroup-v1/memory.rst, section 9), v2 has
// memory.high.
type Alarm struct {
	group *Group
	mu    sync.Mutex
	wake  int // an eventfd that ends Wait; -1: it is closed
}

// NewAlarm makes an alarm, whose Wait is to be called; nil: nothing limits the group's memory.
func (g *Group) NewAlarm() (*Alarm, error) {
	if g.memory == nil {
		return nil, nil
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return &Alarm{group: g, wake: wake}, nil
}

// Stop has Wait return. It can be called at any time, and more than once.
func (a *Alarm) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wake >= 0 {
		unix.Write(a.wake, []byte{7: 0, 0: 1})
	}
}

// Wait waits for the alarm. False: it was stopped, or the kernel gives no notice.
func (a *Alarm) Wait() bool {
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		unix.Close(a.wake)
		a.wake = -1
	}()
	limit := a.group.limits.Memory
	event, ready, err := a.group.memory.version.notice(a.group.memory.path, limit-slack(limit))
	if err != nil {
		return false
	}
	defer unix.Close(event)
	buffer := make([]byte, 4096)
	for {
		unix.Pread(event, buffer, 0) // the state as of now; an eventfd is emptied
		fds := []unix.PollFd{{Fd: int32(event), Events: ready}, {Fd: int32(a.wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return false
		}
		if fds[1].Revents != 0 {
			return false
		}
		if fds[0].Revents == 0 {
			continue
		}
		unix.Read(event, buffer)
		// The page cache counts as use, but the kernel takes it back; only what stays is a sign of
		// the end.
		if a.group.held() >= limit-2*slack(limit) {
			a.group.memory.version.heard(a.group.memory.path)
			return true
		}
	}
}

// held is the memory that the kernel cannot take back. An alarm has a goroutine of its own, so it does not
// read with KeepOpen's buffer, which somebody else may look at.
func (g *Group) held() int64 {
	text, _ := read(filepath.Join(g.memory.path, "memory.stat"))
	m := g.memory.version.memory(text)
	return m.Held + m.Kernel
}
