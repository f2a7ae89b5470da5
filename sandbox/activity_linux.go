package sandbox

import (
	"encoding/binary"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A recorder serves the listener of the second filter (package seccomp). A process that makes a
// watched call waits while the recorder reads from the process's memory what the call is about.
// Then the process goes on: the recorder always tells the kernel to make the call.
//
//	process                      recorder
//	connect(2) ── notification ─► RECV
//	   waits                      reads the address
//	   goes on ◄───── continue ── SEND
//	                              adds it to the tally, if the process was still there
//
// It serves one call after the other, in a goroutine that sleeps in the runtime's poller and so
// takes no thread, until there are many calls. If the listener was closed while a process lives, that process's calls would
// fail with ENOSYS. So it is closed only when all processes have ended, or with the launcher.
//
// sighting_linux.go reads what a call is about, files_linux.go what it does with files,
// address_linux.go decodes addresses, tally_linux.go
// adds up.
type recorder struct {
	listener *os.File
	program  func() int // the process id of the program
	done     chan struct{}
	started  bool
	reads    bool        // files that are read are recorded
	begun    atomic.Bool // the program has begun: what it read before belongs to its start

	over atomic.Bool             // finish was called
	wake atomic.Pointer[os.File] // tells so to serveMany; nil: there is none

	mu     sync.Mutex // is held while a call is served, and protects what follows
	notice notice
	answer answer
	page   [4096]byte

	own   string // path of the program itself, once it was looked at
	known bool

	found    tally
	refusals refusals
}

// notice and answer are struct seccomp_notif and struct seccomp_notif_resp.
type notice struct {
	id          uint64
	tid         uint32 // in the launcher's pid namespace
	flags       uint32
	number      int32
	arch        uint32
	instruction uint64
	arg         [6]uint64
}

type answer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

func newRecorder(listener int, program func() int, reads bool) (*recorder, error) {
	if err := unix.SetNonblock(listener, true); err != nil { // for the runtime's poller; the calls on it ignore the flag
		unix.Close(listener)
		return nil, err
	}
	// Since Linux 6.6: the side that begins to wait wakes the other one on the same processor. To
	// wake an idle processor takes several times as long.
	unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	t := &recorder{listener: os.NewFile(uintptr(listener), "seccomp listener"), program: program, done: make(chan struct{}), reads: reads, found: newTally()}
	if err := t.listener.SetReadDeadline(time.Time{}); err != nil { // not polled: it would serve nobody
		t.listener.Close()
		return nil, err
	}
	return t, nil
}

// start begins to answer. Until then watched calls wait, unless somebody calls serveNow.
func (t *recorder) start(spawn func(do, done func())) {
	if t.started {
		return
	}
	t.started = true
	spawn(t.serve, func() { close(t.done) })
}

// finish ends the recording of a tree that has ended, and returns what the recorder has found.
func (t *recorder) finish() Activity {
	if !t.started { // nobody has asked anything
		t.listener.Close()
		return t.found.activity(t.refusals.most)
	}
	t.listener.SetReadDeadline(time.Now())
	t.over.Store(true)
	if wake := t.wake.Load(); wake != nil {
		wake.Write(binary.NativeEndian.AppendUint64(nil, 1))
	}
	select {
	case <-t.done:
		t.listener.Close()
	case <-time.After(drainWait): // it reads memory of a process that cannot be killed, or such processes go on calling
		return Activity{Dropped: 1}
	}
	return t.found.activity(t.refusals.most)
}

// take returns what the recorder has found so far, and begins anew.
func (t *recorder) take() Activity {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.found.activity(t.refusals.most)
	t.found, t.refusals.most = newTally(), 0
	return found
}

// serve answers until no process is left under the filter, or finish is called.
func (t *recorder) serve() {
	raw, err := t.listener.SyscallConn()
	if err != nil || t.serveSome(raw, manyCalls) {
		return
	}
	if !t.serveMany(raw) {
		t.serveSome(raw, math.MaxInt)
	}
}

const (
	// From so many calls within manyWithin on, the recorder has a thread of its own. By the runtime's
	// poller, each call wakes two threads.
	manyCalls  = 200
	manyWithin = 100 * time.Millisecond

	servedMost = 64 // at a time: others want the lock
)

// serveSome answers calls until there are so many within a short time, and waits for them in the
// runtime's poller. over: there will be no more.
func (t *recorder) serveSome(raw syscall.RawConn, most int) (over bool) {
	calls, since := 0, time.Now()
	err := raw.Read(func(listener uintptr) bool {
		if now := time.Now(); now.Sub(since) > manyWithin {
			calls, since = 0, now
		}
		for served := servedMost; served == servedMost && !over && calls < most; calls += served {
			served, over = t.serveNow(listener)
		}
		return over || calls >= most
	})
	return over || err != nil
}

// serveMany answers all further calls in a thread of its own, with the listener at another number,
// which the runtime's poller does not know. It returns false if there is no descriptor for that.
func (t *recorder) serveMany(raw syscall.RawConn) bool {
	listener := -1
	raw.Control(func(fd uintptr) { listener, _ = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if listener < 0 {
		return false
	}
	defer unix.Close(listener)
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return false
	}
	woken := os.NewFile(uintptr(wake), "eventfd")
	defer woken.Close()
	t.listener.Close()
	t.wake.Store(woken)
	p := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	for over := false; !over && !t.over.Load(); {
		if _, err := unix.Poll(p, -1); err == nil {
			_, over = t.serveNow(uintptr(listener))
		} else if err != unix.EINTR {
			break
		}
	}
	return true
}

// serveNow answers calls that wait now. served is 0 only if none does: the poller only reports new
// ones. over: there will be no more.
func (t *recorder) serveNow(listener uintptr) (served int, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; served < servedMost; served++ {
		p := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		for err == unix.EINTR {
			n, err = unix.Poll(p, 0)
		}
		switch {
		case err != nil || n > 0 && p[0].Revents&unix.POLLIN == 0:
			return served, true
		case n == 0:
			return served, false
		}
		t.next(listener)
	}
	return served, false
}

// next takes one notification, reads what it is about, and lets the process go on.
func (t *recorder) next(fd uintptr) {
	t.notice = notice{} // as the kernel wants it
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&t.notice))); errno != 0 {
		return // its process was killed, or interrupted
	}
	wanted := t.refusals.weigh(&t.notice)
	seen := t.look()
	t.answer = answer{id: t.notice.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&t.answer))); errno != 0 {
		return // likewise; what was read may be another process's, which has its number now
	}
	t.found.take(seen)
	t.refusals.most = max(t.refusals.most, wanted)
}

// activityMeasure is the recording's name among the measures.
const activityMeasure = "native-trail"

// filesMeasure is that of the recording of files, which is a part of the other.
const filesMeasure = "native-files"

// waitKillable is the flag with which only a fatal signal interrupts a process that waits for the
// answer (since Linux 5.19); 0 where the kernel does not have it. The kernel checks flags before
// the filter: here there is no filter, so EFAULT means that it knows the flag.
var waitKillable = sync.OnceValue(func() uintptr {
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0); errno == unix.EFAULT {
		return unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	return 0
})
