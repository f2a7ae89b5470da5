package sandbox

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sampleEvery = 100 * time.Millisecond // how often a tree is looked at
	dumpWait    = 300 * time.Millisecond // for the program to say where it is
	dumpQuiet   = 20 * time.Millisecond  // no more of it after this long
	almostAfter = 40 * time.Millisecond  // before memory is watched: a v1 kernel takes ten milliseconds to begin, and most runs are over by then
	killWait    = 5 * time.Second        // for the kernel to end a killed tree
	drainWait   = time.Second            // for what is left in the output pipes
)

// Wait waits for the end of the run, ends it at a limit, and leaves no process behind. signals are what the
// caller was asked to stop by: the first is passed on to the program, which then has Spec.Grace to
// end, the second kills. disk measures what the run has written below its directory; nil: not watched.
func (r *Running) Wait(signals <-chan os.Signal, disk func() int64) Outcome {
	defer r.close()
	out := Outcome{Reason: Finished}
	if !r.attended {
		if end, ok := r.brief(); ok {
			if end.left {
				r.attend()
				go r.awaitReport()
				out.Left = r.dismiss(helpersMost)
			}
			return r.conclude(out, end.status, true, &watch{})
		}
		r.attend()
	}
	ended := make(chan ending, 1)
	go func() {
		var m [8]byte
		if _, err := io.ReadFull(r.status, m[:]); err == nil {
			ended <- endingOf(m)
		}
		close(ended)
		if r.pidfd != nil {
			r.awaitReport()
		}
	}()
	var early []byte // what the program said of itself when its memory was nearly used up
	almost := make(chan struct{}, 1)
	watching := make(chan func(), 1)
	begin := time.NewTimer(almostAfter)
	defer begin.Stop()
	if measure := disk; measure != nil && r.workdir != "" {
		disk = func() int64 { return measure() + unlinked(r.pid, r.workdir) }
	}
	w := watch{limits: r.spec.Limits, root: r.pid, group: r.group, printed: r.printed.Load, disk: disk, started: r.started, progress: r.started}
	defer w.finish()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var wall, grace <-chan time.Time
	if limit := r.spec.Limits.Wall; limit > 0 {
		timer := time.NewTimer(time.Until(r.started.Add(limit)))
		defer timer.Stop()
		wall = timer.C
	}
	// stop begins the end of the run: the program says where it is, gets a polite signal and, after the grace, the kill.
	stop := func(reason Reason, used float64, polite syscall.Signal) {
		out.Reason, out.Used = reason, used
		if s := r.spec.DumpSignal; s != 0 && r.answers(s) {
			r.signal(syscall.SIGCONT) // a stopped program could not answer
			r.signal(s)
			out.Dump = r.readDump(dumpWait)
		}
		r.signal(polite)
		grace = time.After(r.spec.Grace)
		wall = nil
	}
	var end ending
	var known bool
loop:
	for {
		select {
		case end, known = <-ended:
			break loop
		case <-wall:
			stop(WallLimit, time.Since(r.started).Seconds(), syscall.SIGTERM)
		case s := <-signals:
			sig, _ := s.(syscall.Signal)
			if out.Reason != Finished { // the second one, or one while a limit already ends the run
				r.Kill()
				continue
			}
			out.Cancel = sig
			if sig == syscall.SIGPIPE { // nobody reads any more; the program itself may ignore this one
				sig = syscall.SIGTERM
			}
			stop(Cancelled, 0, sig)
		case <-begin.C:
			go func() {
				stop, err := r.group.AlmostFull(func() { almost <- struct{}{} })
				if err != nil {
					stop = func() {}
				}
				watching <- stop
			}()
			defer func() { go func() { (<-watching)() }() }()
		case <-almost:
			w.weigh()
			if out.Reason == Finished && r.spec.DumpSignal != 0 && r.answers(r.spec.DumpSignal) {
				r.signal(r.spec.DumpSignal)
				early = r.readDump(dumpWait)
			}
		case <-tick.C:
			if reason, used := w.look(); reason != Finished && out.Reason == Finished {
				polite := syscall.SIGTERM
				if reason == ProcessLimit || reason == MemoryLimit {
					polite = syscall.SIGKILL // of the program; the rest follows with init
				}
				stop(reason, used, polite)
			}
		case <-grace:
			out.Left, _ = remains(r.pid, r.program())
			r.Kill()
			grace = nil
		}
	}
	if end.left {
		moment := helpersMost
		if out.Reason == MemoryLimit || out.Reason == ProcessLimit {
			moment = 0 // they may be what has used it up
		}
		out.Left = r.dismiss(moment)
	}
	out = r.conclude(out, end.status, known, &w)
	if out.Reason == MemoryLimit && len(out.Dump) == 0 {
		out.Dump = early
	}
	return out
}

// attend has somebody look after everything that a run can want while it lasts.
func (r *Running) attend() {
	r.attended = true
	if r.pidfd == nil {
		r.ended()
	} else {
		r.reapOnce.Do(func() {}) // awaitReport does it
	}
	for i, w := range r.to {
		r.copies.Go(func() { r.copy(w, r.outputs[i]) })
	}
	if r.trail != nil {
		r.trail.start()
	}
}

// briefMost is how long a run in a spare is waited for without anybody else looking after it. No limit is watched so early.
const briefMost = almostAfter

// brief waits for a run that is over soon and wants nothing: it prints nothing, and no call of it is watched. To have goroutines wait, and the runtime's threads
// wake each other for them, takes longer than such a run in a spare.
func (r *Running) brief() (end ending, ok bool) {
	p := []pollFD{polled(r.status), polled(r.outputs[0]), polled(r.outputs[1])}
	if r.trail != nil {
		p = append(p, polled(r.trail.listener))
	}
	for most := time.Now().Add(briefMost); p[0].revents == 0; {
		if !pollBriefly(p, time.Until(most)) {
			return end, false
		}
		for i := 1; i < len(p); i++ {
			switch {
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
	return endingOf(m), true
}

// An ending is what init says of the program's end.
type ending struct {
	status int32
	left   bool // other processes of the run still live
}

func endingOf(m [8]byte) ending {
	return ending{status: int32(binary.NativeEndian.Uint32(m[4:])), left: binary.NativeEndian.Uint16(m[2:]) != 0}
}

// polled is a file that is to be read, by its number. (File.Fd would take it from the runtime's poller.)
func polled(f *os.File) pollFD {
	p := pollFD{fd: -1, events: unix.POLLIN}
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { p.fd = int32(fd) })
	}
	return p
}

// pollBriefly waits for descriptors without telling the runtime: no other thread takes over for that time. False: it is over.
func pollBriefly(p []pollFD, most time.Duration) bool {
	if most <= 0 {
		return false
	}
	t := unix.NsecToTimespec(int64(most))
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	if errno == syscall.EINTR {
		for i := range p {
			p[i].revents = 0
		}
		return true
	}
	return errno == 0 && n > 0
}

// conclude makes the outcome of a run whose program has ended, by itself or not.
func (r *Running) conclude(out Outcome, status int32, known bool, w *watch) Outcome {
	if !known { // init itself was killed
		status = int32(syscall.SIGKILL)
	}
	out.ExitCode, out.Signal = verdict(status)
	out.Began = r.released && pending(r.gate) == 0

	var usage syscall.Rusage
	if !r.attended && !r.collectBriefly() {
		r.attend()
		if r.pidfd != nil {
			go r.awaitReport()
		}
	}
	select {
	case usage = <-r.ended():
	case <-time.After(killWait):
		r.Kill()
		select {
		case usage = <-r.gone:
		case <-time.After(killWait):
			out.Incomplete = true // in uninterruptible sleep: the kernel ends it when it can
		}
	}
	if r.protection.Method == Process {
		r.group.Kill() // what survived an init that was killed
	}
	if r.trail != nil {
		out.Trail, r.trail = r.trail.finish(), nil
		if n := out.Trail.Rings; n > 0 {
			r.protection.Missing = append(r.protection.Missing, Gap{Name: trailMeasure, Extra: true, Why: fmt.Sprintf("io_uring was set up %d times: what is done through it is not seen", n)})
		}
	}
	out.Usage = Usage{
		Wall:          time.Since(r.started),
		CPU:           time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		PeakMemory:    max(w.held, int64(usage.Maxrss)<<10),
		PeakProcesses: max(w.peak, 1),
		ReadBytes:     int64(usage.Inblock) << 9,
		WriteBytes:    int64(usage.Oublock) << 9,
	}
	if cpu, known := r.group.CPU(); known {
		out.Usage.CPU = cpu
	}
	out.Usage.CPU = max(out.Usage.CPU, w.cpu) // what nobody waited for is not in init's sum
	kills, failed := r.group.OutOfMemory()
	if peak := r.group.PeakMemory(); peak > 0 {
		out.Usage.PeakMemory = min(out.Usage.PeakMemory, peak)
		if failed { // the cache had been given back before
			out.Usage.PeakMemory = peak
		}
	}
	if !failed {
		out.Usage.MappedFiles = max(0, out.Usage.PeakMemory-w.held)
	}
	out.Memory = MemoryTrace{PerProcess: r.spec.Limits.Memory > 0 && !r.group.Limits("memory"), Data: w.data, Failed: failed}
	out.Usage.PeakProcesses = max(out.Usage.PeakProcesses, r.group.PeakProcesses())
	out.Refused = r.group.Refused()
	for i, o := range r.outputs { // all writers are gone; a deadline only for what survived in spite of all
		o.SetReadDeadline(time.Now().Add(drainWait))
		if !r.attended {
			r.copy(r.to[i], o)
		}
	}
	r.copies.Wait()
	out.Dump = append(out.Dump, r.readDump(dumpQuiet)...)
	r.decide(&out, kills)
	return out
}

// collectBriefly waits for the end of init as brief does.
func (r *Running) collectBriefly() bool {
	p := []pollFD{{fd: -1, events: unix.POLLIN}}
	if r.pidfd != nil {
		p[0] = polled(r.status)
	} else if own, err := unix.PidfdOpen(r.pid, 0); err == nil {
		p[0].fd = int32(own)
		defer unix.Close(own)
	}
	for end := time.Now().Add(briefMost); p[0].revents == 0; {
		if !pollBriefly(p, time.Until(end)) {
			return false
		}
	}
	if r.pidfd != nil {
		var usage syscall.Rusage
		if n, _ := unix.Read(int(p[0].fd), bytesOf(&usage)); n != len(bytesOf(&usage)) {
			return false // init was killed
		}
		r.reapOnce.Do(func() { r.over(usage) })
		return true
	}
	r.reapOnce.Do(r.collect)
	return true
}

// awaitReport waits until a spare's init says what the tree has used. It does when nothing of the tree is left, and has nothing more to do but to end, which
// its maker waits for. If it was killed, its end is waited for: with it the namespace ends.
func (r *Running) awaitReport() {
	var usage syscall.Rusage
	if _, err := io.ReadFull(r.status, bytesOf(&usage)); err != nil {
		r.awaitGone()
		return
	}
	r.over(usage)
}

// decide tells a limit that the kernel enforced from an end that nobody here caused.
func (r *Running) decide(out *Outcome, kills int64) {
	l := r.spec.Limits
	if out.Reason != Finished {
		return
	}
	if kills > 0 {
		out.Reason, out.Used = MemoryLimit, float64(out.Usage.PeakMemory)
		return
	}
	switch out.Signal {
	case unix.SIGXCPU, unix.SIGKILL:
		// RLIMIT_CPU counts one process, and the sum of the tree is never less; but it counts whole clock ticks, the usage
		// nanoseconds, and on a busy machine they differ by a fifth and more. SIGXCPU after half of the time is believed.
		least := time.Duration(math.Ceil(l.CPU.Seconds())) * time.Second
		if out.Signal == unix.SIGXCPU {
			least /= 2
		}
		if l.CPU > 0 && out.Usage.CPU >= least {
			out.Reason, out.Used = CPULimit, out.Usage.CPU.Seconds()
		}
	case unix.SIGXFSZ:
		out.Reason, out.Used = FileSizeLimit, float64(l.FileSize)
	}
}

// signal asks init to send a signal to the program.
func (r *Running) signal(s syscall.Signal) { r.lifeline.Write([]byte{byte(s)}) }

// readDump reads what the program says of itself, in pieces, until it is quiet or the time is over.
func (r *Running) readDump(first time.Duration) (text []byte) {
	const most = 64 << 10
	buffer := make([]byte, 4096)
	wait := first
	for len(text) < most {
		r.dump.SetReadDeadline(time.Now().Add(wait))
		n, err := r.dump.Read(buffer)
		text = append(text, buffer[:n]...)
		if err != nil {
			break
		}
		wait = dumpQuiet
	}
	return text
}

// verdict reads a wait status.
func verdict(status int32) (code int, signal syscall.Signal) {
	ws := syscall.WaitStatus(status)
	if ws.Signaled() {
		return 0, ws.Signal()
	}
	return ws.ExitStatus(), 0
}
