package sandbox

import (
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// briefMost is how long WaitBriefly waits. No limit is watched so early.
const briefMost = almostAfter

// WaitBriefly is Wait for a run that ends soon and does little: it prints nothing and makes none of
// the other files readable. It answers watched calls itself. To start goroutines, and to have the runtime's
// threads wake each other for them, takes longer than such a run in a worker, and some switches
// between threads. If ok is false, the run needs more: call Wait then.
//
// It keeps its thread, and the thread keeps its right to run goroutines. So other work of this
// process can wait for up to briefMost.
//
// It leaves the descriptors of the run open: to close them takes a moment too, and nobody waits for
// that. Call [Running.Close] when there is time.
func (r *Running) WaitBriefly(signals <-chan os.Signal, others ...*os.File) (out Outcome, ok bool) {
	end, ok := r.brief(others)
	if !ok {
		return out, false
	}
	defer func() { r.score.release(); r.score = nil }()
	out.Reason = Finished
	if end.left {
		r.attend()
		r.spawn(r.reap, nil)
		out.Left = r.dismiss(helpersMost)
	}
	return r.conclude(out, end, true, &watch{}, signals), true
}

// brief waits for the end of the program. ok is false if the run needs more than that.
func (r *Running) brief(others []*os.File) (end ending, ok bool) {
	p := []pollFD{polled(r.status)}
	for _, f := range slices.Concat(r.outputs, others) {
		p = append(p, polled(f))
	}
	listener := -1 // in p
	if r.recorder != nil && !r.recorder.started {
		listener, p = len(p), append(p, polled(r.recorder.listener))
	}
	for most := time.Now().Add(briefMost); p[0].revents == 0; {
		if !pollBriefly(p, time.Until(most)) {
			return end, false
		}
		for i := 1; i < len(p); i++ {
			switch {
			case i == listener && p[i].revents&unix.POLLIN != 0:
				r.recorder.serveNow(uintptr(p[i].fd))
				p[i].revents = 0
			case p[i].revents&unix.POLLIN != 0:
				return end, false
			case p[i].revents != 0: // its other end is closed: nothing will come
				p[i].fd, p[i].revents = -1, 0
			}
		}
	}
	var m [8]byte
	if n, err := unix.Read(int(p[0].fd), m[:]); n != len(m) || err != nil {
		return end, false
	}
	if m[0] == msgChanged {
		r.changed(m)
		return end, false
	}
	return endingOf(m), true
}

// polled is a file to be read, by its number. (File.Fd would take the file from the runtime's poller.)
func polled(f *os.File) pollFD {
	p := pollFD{fd: -1, events: unix.POLLIN}
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { p.fd = int32(fd) })
	}
	return p
}

// pollBriefly waits for descriptors without telling the runtime, so no other thread takes over
// meanwhile. False: the time is over.
func pollBriefly(p []pollFD, most time.Duration) bool {
	if most <= 0 {
		return false
	}
	n, errno := ppoll(p, most)
	if errno == syscall.EINTR {
		for i := range p {
			p[i].revents = 0
		}
		return true
	}
	return errno == 0 && n > 0
}

// pollNow looks at descriptors without waiting. (The shortest wait takes as long as the thread's timer
// slack: 50 microseconds and two switches between threads.)
func pollNow(p []pollFD) { ppoll(p, 0) }

func ppoll(p []pollFD, most time.Duration) (ready int, errno syscall.Errno) {
	t := unix.NsecToTimespec(int64(most))
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	return int(n), errno
}

// awaitBriefly waits for one descriptor as pollBriefly does, through interruptions.
func awaitBriefly(p *pollFD, most time.Duration) bool {
	for end := time.Now().Add(most); p.revents == 0; {
		one := []pollFD{*p}
		if !pollBriefly(one, time.Until(end)) {
			return false
		}
		*p = one[0]
	}
	return true
}
