package sandbox

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sampleEvery = 100 * time.Millisecond // how often a tree is looked at
	dumpWait    = 300 * time.Millisecond // for the program to say where it is
	dumpQuiet   = 20 * time.Millisecond  // no more of it after this long
	dumpMost    = 200 * time.Millisecond // for the rest of it
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
				go r.reap()
				out.Left = r.dismiss(helpersMost)
			}
			return r.conclude(out, end.status, true, &watch{}, signals)
		}
		r.attend()
		go r.follow()
	}
	var early []byte // what the program said of itself when its memory was nearly used up
	almost := make(chan struct{}, 1)
	watching := make(chan func(), 1)
	begin := time.NewTimer(almostAfter)
	defer begin.Stop()
	if measure := disk; measure != nil && r.workdir != nil {
		disk = func() int64 { return measure() + unlinked(r.pid, r.workdir.path) }
	}
	w := watch{limits: r.spec.Limits, root: r.pid, group: r.group, printed: r.printed.Load, disk: disk, started: r.started, progress: r.started}
	if d := r.workdir; d != nil {
		w.free, w.end = d.free, func() { d.halted.Store(true) }
	}
	defer w.finish()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var wall, grace, killed <-chan time.Time
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
	var known, hidden bool
loop:
	for { // without a limit on the wall clock for as long as the program runs: that is what was asked for
		select {
		case end, known = <-r.ended:
			break loop
		case <-wall:
			stop(WallLimit, time.Since(r.started).Seconds(), syscall.SIGTERM)
		case s := <-signals:
			sig, _ := s.(syscall.Signal)
			if out.Reason != Finished { // the second one, or one while a limit already ends the run
				r.Kill()
				if killed == nil {
					killed = time.After(killWait)
				}
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
			r.score.restore()
			if was := hidden; r.hidden() {
				if hidden = true; was { // not only for the moment that an end takes
					r.signal(lifelineEnded)
				}
			}
			reason, used := w.look()
			if r.lost() { // what another one put there would be taken for the run's own
				reason = DirLost
			}
			if reason != Finished && out.Reason == Finished {
				polite := syscall.SIGTERM
				if reason == ProcessLimit || reason == MemoryLimit || reason == DirLost {
					polite = syscall.SIGKILL // of the program; the rest follows with init
				}
				stop(reason, used, polite)
			}
		case <-grace:
			out.Left, _ = remains(r.pid, r.program())
			r.Kill()
			if grace = nil; killed == nil {
				killed = time.After(killWait)
			}
		case <-killed: // init itself cannot end, or not tell
			break loop
		}
	}
	if end.left {
		moment := helpersMost
		if out.Reason == MemoryLimit || out.Reason == ProcessLimit {
			moment = 0 // they may be what has used it up
		}
		out.Left = r.dismiss(moment)
	}
	out = r.conclude(out, end.status, known, &w, signals)
	if out.Reason == MemoryLimit && len(out.Dump) == 0 {
		out.Dump = early
	}
	return out
}

// reserveThreads has the runtime make the threads that a launcher needs while it still can: without a group of its own a run may use up the number of processes
// that the launcher is held to as well, and a Go program that gets no thread dies.
var reserveThreads = sync.OnceFunc(func() {
	const threads = 8
	var made sync.WaitGroup
	enough := make(chan struct{})
	for range threads {
		made.Add(1)
		go func() {
			runtime.LockOSThread()
			made.Done()
			<-enough
			runtime.UnlockOSThread() // it stays, idle
		}()
	}
	made.Wait()
	close(enough)
})

// briefMost is how long a run in a worker is waited for without anybody else looking after it. No limit is watched so early.
const briefMost = almostAfter

// brief waits for a run that is over soon and wants nothing: it prints nothing, and no call of it is watched. To have goroutines wait, and the runtime's threads
// wake each other for them, takes longer than such a run in a worker.
func (r *Running) brief() (end ending, ok bool) {
	p := []pollFD{polled(r.status)}
	for _, o := range r.outputs {
		p = append(p, polled(o))
	}
	if r.recorder != nil {
		p = append(p, polled(r.recorder.listener))
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

// conclude makes the outcome of a run whose program has ended, by itself or not.
func (r *Running) conclude(out Outcome, status int32, known bool, w *watch, signals <-chan os.Signal) Outcome {
	if !known { // init itself was killed
		status = int32(syscall.SIGKILL)
	}
	out.ExitCode, out.Signal = verdict(status)
	out.Began = r.released && pending(r.gate) == 0

	var usage syscall.Rusage
	if !r.attended {
		if used, ok := r.init.reapBriefly(briefMost); ok {
			r.gone <- used
		} else {
			r.attend()
			go r.reap()
		}
	}
	select {
	case usage = <-r.gone:
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
	if r.recorder != nil {
		out.Activity, r.recorder = r.recorder.finish(), nil
		if n := out.Activity.Rings; n > 0 {
			r.protection.Gaps = append(r.protection.Gaps, Gap{Name: activityMeasure, Extra: true, Why: fmt.Sprintf("io_uring was set up %d times: what is done through it is not seen", n)})
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
		if !r.attended && pending(o) > 0 {
			r.startCopy(i)
		}
	}
	r.deliver(&out, signals)
	out.Dump = append(out.Dump, r.readDump(dumpQuiet)...)
	r.decide(&out, kills)
	out.Protection = r.protection
	return out
}

// deliver waits until what the program has printed is where it goes. A reader may be slow, and Python itself would wait for it; but not for longer than
// the run may last, and not against the caller's will. Without a limit on the wall clock a reader is waited for until the caller says otherwise.
func (r *Running) deliver(out *Outcome, signals <-chan os.Signal) {
	var late <-chan time.Time
	if wall := r.spec.Limits.Wall; out.Reason != Finished || !r.begins || wall > 0 {
		patience := drainWait
		if out.Reason == Finished && r.begins {
			patience = max(patience, time.Until(r.started.Add(wall+r.spec.Grace)))
		}
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	for r.copying[0] || r.copying[1] {
		select {
		case i := <-r.copied:
			r.copying[i] = false
			continue
		case <-signals:
		case <-late:
		}
		out.Undelivered = r.copying
		r.abandoned.Store(true)
		return
	}
}

// decide tells a limit that the kernel enforced from an end that nobody here caused.
func (r *Running) decide(out *Outcome, kills int64) {
	l := r.spec.Limits
	if out.Reason != Finished {
		return
	}
	if r.lost() {
		out.Reason = DirLost
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
		if l.FileSize <= 0 { // it set itself one
			return
		}
		out.Reason, out.Used = FileSizeLimit, float64(l.FileSize)
	}
}

// lost tells whether the run has lost its working directory.
func (r *Running) lost() bool { return r.workdir != nil && r.workdir.Lost() != "" }

// signal asks init to send a signal to the program. There are never so many that the pipe would be full.
func (r *Running) signal(s syscall.Signal) { r.lifeline.Write([]byte{byte(s)}) }

// hidden tells whether the program has ended without anybody being told: its threads have, but one of them has a tracer, which takes no note of it.
func (r *Running) hidden() bool {
	if r.process == 0 {
		r.process = r.program()
	}
	dir := "/proc/" + strconv.Itoa(r.process)
	if s, ok := readStat(dir + "/stat"); !ok || !s.zombie {
		return false
	}
	tasks, err := os.ReadDir(dir + "/task")
	for _, t := range tasks {
		if s, ok := readStat(dir + "/task/" + t.Name() + "/stat"); ok && !s.zombie {
			return false // the first thread has ended before the others
		}
	}
	return err == nil
}

// readDump reads what the program says of itself, in pieces, until it is quiet or the time is over: first for the beginning, dumpMost for all of it, however
// it comes. Anybody in the run can write to the pipe.
func (r *Running) readDump(first time.Duration) (text []byte) {
	const most = 64 << 10
	buffer := make([]byte, 4096)
	next := time.Now().Add(first)
	for end := next.Add(dumpMost); len(text) < most; {
		r.dump.SetReadDeadline(next)
		n, err := r.dump.Read(buffer)
		text = append(text, buffer[:n]...)
		if err != nil {
			break
		}
		if next = time.Now().Add(dumpQuiet); next.After(end) {
			next = end
		}
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
