package python

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Spare is what a session takes of the kernel, made before its job is known: memory that nobody has
// used, and a pipe. It is for one session.
type Spare struct {
	shared           *os.File
	memory           []byte
	most             int64
	room             int // bytes for the request
	children, events *os.File
}

// spareRoom is for the request; a session with a larger one does not use the spare.
const spareRoom = 64 << 10

// NewSpare makes one for jobs with this OutputMost.
func NewSpare(outputMost int64) (*Spare, error) {
	s, err := newSpare(bounded(outputMost), spareRoom)
	if err == nil {
		s.memory[0] = 0 // the first page is there then
	}
	return s, err
}

func newSpare(most int64, room int) (*Spare, error) {
	shared, memory, err := sharedMemory(most, room)
	if err != nil {
		return nil, err
	}
	s := &Spare{shared: shared, memory: memory, most: most, room: room}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		s.Close()
		return nil, fmt.Errorf("pipe: %w", err)
	}
	s.children, s.events = os.NewFile(uintptr(ends[0]), "events"), os.NewFile(uintptr(ends[1]), "events")
	return s, nil
}

// fits reports whether a session with such a request, and a value of at most so many bytes, can use it.
func (s *Spare) fits(request int, most int64) bool {
	return s != nil && request <= s.room && most == s.most
}

// Close frees a spare that no session has used.
func (s *Spare) Close() {
	if s == nil {
		return
	}
	unix.Munmap(s.memory)
	for _, f := range []*os.File{s.shared, s.children, s.events} {
		f.Close() // nothing happens if there is none
	}
}
