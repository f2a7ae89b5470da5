package sandbox

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Backend is a way to start a program: [OwnChild], or a [*Handoff], which is a preforked worker
// that was handed over.
//
// A backend makes the set-up and gives a [Running] whose program waits at its gate. All that comes
// later (the gate, limits, signals, output, the end) is the same for every backend: what differs is
// behind the [initProcess] that it leaves in the Running.
type Backend interface {
	// start starts the program. An error leaves nothing behind.
	start(spec Spec, stdio IO) (*Running, error)
}

// An initProcess is the first process of a run, as its backend knows it.
type initProcess interface {
	// settle waits until the rest of the set-up is done, if the backend did not wait for it in start.
	settle() error
	// kill sends a signal to the process as long as it lives.
	kill(s syscall.Signal)
	// reap waits for the end of the process, for as long as that takes, and returns what the whole
	// tree has used. It is called once.
	reap() syscall.Rusage
	// reapBriefly is reap for at most a moment, without telling Go's runtime (see pollBriefly). If
	// ok is false, reap is still to be called.
	reapBriefly(most time.Duration) (usage syscall.Rusage, ok bool)
	// close releases what the launcher holds of the process.
	close()
}

// onFailure is for defer: it calls undo if a function ends with an error, or with a panic, which goes on after it.
func onFailure(err *error, undo func()) {
	fault := recover()
	if fault != nil || *err != nil {
		undo()
	}
	if fault != nil {
		panic(fault)
	}
}

// Start starts a program by a backend. It is held at its gate, if it reads it, until [Running.Release].
//
// The error is a [*StepError], of the last method that was tried, or a [*GapError]. A backend that
// is quick does not wait for the end of the set-up: then Release returns that error.
func Start(spec Spec, stdio IO, by Backend) (*Running, error) {
	if spec.FirstFile < 3 {
		return nil, &StepError{Step: "descriptors", Object: "Spec.FirstFile", Err: unix.EINVAL}
	}
	return by.start(spec, stdio)
}
