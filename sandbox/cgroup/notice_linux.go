package cgroup

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// AlmostFull calls told once when the group's memory is nearly used up by what cannot be given back, while its programs still run: the
// moment to ask one where it is, because the kernel's kill leaves no time for that. stop ends the watching; told is not called after it.
// v1 has notifications at a threshold of use (cgroup-v1/memory.rst, section 9), v2 has memory.high.
func (g *Group) AlmostFull(told func()) (stop func(), err error) {
	if g.memory == nil {
		return func() {}, nil
	}
	path, threshold := g.memory.path, g.limits.Memory-slack(g.limits.Memory)
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK) // ends the watching
	if err != nil {
		return nil, err
	}
	event, ready := -1, int16(unix.POLLIN)
	if g.memory.v2 {
		event, err = unix.Open(filepath.Join(path, "memory.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		ready = unix.POLLPRI
	} else {
		event, err = g.threshold(threshold)
	}
	if err != nil {
		unix.Close(wake)
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			unix.Pread(event, buffer, 0) // the state as of now; an eventfd is emptied
			fds := []unix.PollFd{{Fd: int32(event), Events: ready}, {Fd: int32(wake), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				return
			}
			if fds[1].Revents != 0 {
				return
			}
			if fds[0].Revents == 0 {
				continue
			}
			unix.Read(event, buffer)
			// The page cache counts as use, but the kernel takes it back; only what stays is a sign of the end.
			if g.held() >= threshold-slack(g.limits.Memory) {
				told()
				if g.memory.v2 {
					write(filepath.Join(path, "memory.high"), "max")
				}
				return
			}
		}
	}()
	return func() {
		var one [8]byte
		one[0] = 1
		unix.Write(wake, one[:])
		<-done
		unix.Close(wake)
		unix.Close(event)
	}, nil
}

// threshold makes an eventfd that tells when the use of memory passes a number of bytes (v1).
func (g *Group) threshold(bytes int64) (int, error) {
	usage, err := unix.Open(filepath.Join(g.memory.path, "memory.usage_in_bytes"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(usage)
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	line := fmt.Sprintf("%d %d %d", event, usage, bytes)
	if err := write(filepath.Join(g.memory.path, "cgroup.event_control"), line); err != nil {
		unix.Close(event)
		return -1, err
	}
	return event, nil
}

// held is the memory that the kernel cannot take back.
func (g *Group) held() int64 {
	m, _ := g.Memory()
	return m.Held + m.Kernel
}
