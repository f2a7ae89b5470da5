package launch

import (
	"encoding/binary"
	"runtime"

	"golang.org/x/sys/unix"
)

// An aside is a goroutine that does something beside another one, and begins at once: it waits in
// read(2), from which the kernel wakes it. A goroutine that was just started, or waits for a channel,
// begins about 100 microseconds later: a thread of the runtime has to be woken for it, and that one
// pauses before it takes a goroutine from a thread that is busy (runqgrab in runtime/proc.go).
type aside struct {
	wake int // an eventfd
	todo chan func()
	done chan struct{} // closed at the end of the goroutine
}

// newAside starts one; nil: there are no descriptors. Call end.
func newAside() *aside {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil
	}
	a := &aside{wake, make(chan func(), 1), make(chan struct{})}
	go a.serve()
	return a
}

// do has f done. f must not panic.
func (a *aside) do(f func()) {
	if a == nil {
		go f()
		return
	}
	select {
	case a.todo <- f:
		a.stir()
	default: // it has something to do
		go f()
	}
}

// end ends it, when it has done what it has. Nothing must be left to do after it.
func (a *aside) end() {
	if a == nil {
		return
	}
	close(a.todo)
	a.stir()
	<-a.done
	unix.Close(a.wake) // not earlier, nor by the goroutine: stir writes to it
}

func (a *aside) stir() {
	unix.Write(a.wake, binary.NativeEndian.AppendUint64(nil, 1))
}

func (a *aside) serve() {
	defer close(a.done)
	var count [8]byte
	for {
		if _, err := unix.Read(a.wake, count[:]); err == unix.EINTR {
			continue
		}
		for waits := true; waits; {
			select {
			case f, more := <-a.todo:
				if !more {
					return
				}
				f()
				runtime.Gosched() // who waits for f goes on in this thread
			default:
				waits = false
			}
		}
	}
}
