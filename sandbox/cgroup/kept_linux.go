package cgroup

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Kept are files of a group that stay open after the first reading: to find them by their paths again takes several times as long as to read them. nil keeps
// none.
type kept struct {
	mu   sync.Mutex
	open map[string]int // descriptors; nil: closed
}

// keptMost is how large such a file can be. A larger one is read by its path.
const keptMost = 1024

func newKept() *kept { return &kept{open: map[string]int{}} }

// read reads a file from its beginning.
func (k *kept) read(path string) ([]byte, error) {
	if k == nil {
		return read(path)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open == nil {
		return read(path)
	}
	fd, is := k.open[path]
	if !is {
		var err error
		if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return read(path) // for the error
		}
		k.open[path] = fd
	}
	text := make([]byte, keptMost)
	n, err := unix.Pread(fd, text, 0)
	if err != nil || n == len(text) {
		return read(path)
	}
	return text[:n], nil
}

func (k *kept) close() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, fd := range k.open {
		unix.Close(fd)
	}
	k.open = nil
}
