package sandbox

import (
	"encoding/binary"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// setupMost is how long the set-up of a run may take. It takes milliseconds, unless a file system
// hangs.
const setupMost = time.Minute

// readSetup reads the messages on the set-up sockets until end of file, or until a transparent
// program is held. That is the end of the set-up: in an own child, the program's execve. The error
// is the step that failed. await waits for the next message, for as long as the set-up may take.
func (r *Running) readSetup(b *builder, await func(from *os.File) error) error {
	for _, from := range r.setup {
		for more := true; more; {
			err := await(from)
			if err == nil {
				more, err = r.readMessage(from, b)
			}
			if err != nil {
				return err
			}
		}
		if r.held == nil { // else there is more to come after Release
			from.Close()
		}
	}
	return nil
}

// noWait is for sockets that have a deadline.
func noWait(*os.File) error { return nil }

// readMessage reads one message of the set-up. more is false at the end.
func (r *Running) readMessage(from *os.File, b *builder) (more bool, err error) {
	var m [8]byte
	n, listener, err := receive(from, m[:])
	switch {
	case err != nil:
		return false, &StepError{Step: "set-up", Object: "sandbox", Err: unix.ETIMEDOUT}
	case n < len(m):
		return false, nil
	case m[0] == msgListener && listener < 0: // the launcher had no free descriptor for it, and the kernel has dropped it
		return false, &StepError{Step: "recvmsg", Object: "seccomp listener", Err: unix.EMFILE}
	case m[0] == msgListener:
		return true, r.listen(listener)
	case m[0] == msgHeld:
		r.held = b
		return false, nil
	}
	number, errno := binary.NativeEndian.Uint16(m[2:]), int32(binary.NativeEndian.Uint32(m[4:]))
	if m[0] == msgFailed {
		return false, b.failure(number, errno)
	}
	r.miss(b, number, errno)
	return true, nil
}

// listen makes a recorder that answers the listener of the second filter. Without it the program's
// calls would fail.
func (r *Running) listen(listener int) (err error) {
	if r.recorder, err = newRecorder(listener, r.program, r.spec.Reads); err != nil {
		return &StepError{Step: "fcntl", Object: "seccomp listener", Err: err}
	}
	if !r.group.Limits("memory") { // RLIMIT_DATA refuses memory, then
		r.recorder.refusals.limit = r.spec.Limits.Memory
	}
	if r.spec.Reads { // already to start the program reads files
		r.recorder.start(r.spawn)
	}
	return nil
}

// miss notes an optional step that has failed.
func (r *Running) miss(b *builder, number uint16, errno int32) {
	r.found.miss(b.missing(number, errno))
}

// refuse returns an error if the run lacks a measure and may not.
func (r *Running) refuse() error {
	if r.spec.OnMissing != Refuse {
		return nil
	}
	if gaps := protection(r.spec, r.found).refusing(); len(gaps) > 0 {
		return &GapError{gaps}
	}
	return nil
}

// lookForSight finds out what can be seen of the run's use.
func (r *Running) lookForSight() {
	s := sight{limited: r.spec.Limits.Processes == 0 || r.group.Limits("pids")}
	s.counted = r.group.Counted()
	s.seen = s.counted && s.limited || readable(r.pid)
	r.found.sight = &s
}
