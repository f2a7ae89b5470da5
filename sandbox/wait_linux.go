package sandbox

import (
	"encoding/binary"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"py3run/sandbox/cgroup"
)

const (
	sampleEvery = 100 * time.Millisecond // how often a tree is looked at
	dumpWait    = 300 * time.Millisecond // for the program to begin its dump
	dumpQuiet   = 20 * time.Millisecond  // the dump is complete when nothing more comes for this long
	dumpMost    = 200 * time.Millisecond // for the rest of the dump
	almostAfter = 40 * time.Millisecond  // watch memory only after this: starting takes a v1 kernel 10 ms, and most runs end earlier
	killWait    = 5 * time.Second        // for the kernel to end a killed tree
	drainWait   = time.Second            // for what is left in the output pipes
)

// Wait waits for the end of the run, ends it at a limit, and leaves no process behind. signals
// carries the signals that ask the caller to stop: the first goes on to the program, which then has
// Spec.Grace to end; the second kills. SIGPIPE is no signal but the loss of the reader: it asks the
// program to end, too, and never kills. A transparent program gets all of them, and they do not end it otherwise.
// disk measures what the run has written below its directory; nil: nobody watches the disk.
func (r *Running) Wait(signals <-chan os.Signal, disk func() int64) Outcome {
	defer r.close()
	if !r.attended {
		r.attend()
		r.spawn(r.follow, nil)
	}
	w := r.newWaiter(signals, disk)
	defer w.release()
	return w.finish(w.loop())
}

// finish makes the outcome when the program has ended.
func (w *waiter) finish(end ending, known bool) Outcome {
	if end.left {
		moment := helpersMost
		if w.out.Reason == MemoryLimit || w.out.Reason == ProcessLimit {
			moment = 0 // they may be what has used it up
		}
		w.out.Left = w.dismiss(moment)
	}
	out := w.conclude(w.out, end, known, &w.watch, w.signals)
	if out.Reason == MemoryLimit && len(out.Dump) == 0 {
		out.Dump = w.early
	}
	return out
}

// A waiter is the state of a Wait: what it looks at, and what it has done so far.
type waiter struct {
	*Running
	watch   watch
	out     Outcome
	signals <-chan os.Signal
	wall    *time.Timer // nil: there is no limit
	strikes <-chan time.Time
	grace   <-chan time.Time // until the kill
	killed  <-chan time.Time // then Wait no longer waits for init

	alarm    *cgroup.Alarm // nil: memory is not watched yet
	almost   chan struct{} // gets a value when memory is nearly used up
	early    []byte        // the program's dump at that moment
	reports  <-chan Report // of a Resident: the end of its period; nil: the run ends with its program
	reported *Report       // the period has ended by that
	hidden   bool          // at the last look the program had ended, but a tracer held one of its threads, so init was not told
}

func (r *Running) newWaiter(signals <-chan os.Signal, disk func() int64) *waiter {
	w := &waiter{Running: r, out: Outcome{Reason: Finished}, signals: signals, almost: make(chan struct{}, 1)}
	if measure := disk; measure != nil && r.workdir != nil {
		disk = func() int64 { return measure() + unlinked(r.pid, r.workdir.path) }
	}
	w.watch = *r.newWatch(disk)
	if d := r.workdir; d != nil {
		w.watch.free, w.watch.end = d.free, func() { d.halted.Store(true) }
	}
	if limit := r.spec.Limits.Wall; limit > 0 {
		w.wall = time.NewTimer(time.Until(r.started.Add(limit)))
		w.strikes = w.wall.C
	}
	return w
}

// newWatch makes the watch of a run, or of a period of a Resident.
func (r *Running) newWatch(disk func() int64) *watch {
	return &watch{limits: r.spec.Limits, root: r.pid, group: r.group, printed: r.progress, disk: disk, spawn: r.spawn, started: r.started, progress: r.started, past: r.past}
}

// release ends what the waiter has begun.
func (w *waiter) release() {
	w.watch.finish()
	if w.wall != nil {
		w.wall.Stop()
	}
	if w.alarm != nil {
		w.alarm.Stop()
	}
}

// loop waits for the end of the program. Without a wall limit it waits for as long as the program
// runs: the caller wants that.
func (w *waiter) loop() (end ending, known bool) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	begin := time.NewTimer(almostAfter)
	defer begin.Stop()
	for {
		select {
		case end, known = <-w.ended:
			return end, known
		case report := <-w.reports:
			if w.out.Reason == Finished && w.out.Fault == nil {
				w.reported = &report
				return end, true
			}
			w.endAll() // its time is over
		case <-w.strikes:
			w.stop(WallLimit, time.Since(w.started).Seconds(), syscall.SIGTERM)
		case s := <-w.signals:
			sig, isSignal := s.(syscall.Signal)
			switch {
			case s == os.Signal(CallerGone):
				w.abandon()
			case isSignal && w.spec.Transparent:
				w.pass(sig)
			default:
				w.cancel(s)
			}
		case w.out.Fault = <-w.faults:
			w.endAll()
		case <-begin.C:
			w.watchMemory()
		case <-w.almost:
			w.memoryAlmostFull()
		case <-tick.C:
			w.look()
			if w.heed != nil && w.out.Reason == Finished {
				if asked := w.heed(); asked != 0 {
					w.cancel(asked)
				}
			}
		case <-w.grace:
			w.grace = nil
			w.out.Left, _ = remains(w.pid, w.program())
			w.endAll()
		case <-w.killed: // init cannot end, or cannot report
			return end, false
		}
	}
}

// stop begins the end of the run: the program writes its dump, gets a polite signal and, after the
// grace, SIGKILL.
func (w *waiter) stop(reason Reason, used float64, polite syscall.Signal) {
	w.out.Reason, w.out.Used = reason, used
	if w.stopping != nil {
		w.stopping()
	}
	if s := w.spec.DumpSignal; s != 0 && w.answers(s) {
		w.signal(syscall.SIGCONT) // a stopped program could not answer
		w.signal(s)
		w.out.Dump = w.readDump(dumpWait)
	}
	w.signal(polite)
	w.grace = time.After(w.spec.Grace)
	w.strikes = nil
}

// endAll kills the tree.
func (w *waiter) endAll() {
	w.Kill()
	if w.killed == nil {
		w.killed = time.After(killWait)
	}
}

// cancel ends the run because the caller received a signal, or because nobody reads its output any
// more (SIGPIPE). A reader that goes away does not shorten the grace: whoever ends a child often
// sends SIGTERM and closes the pipes at the same time (java.lang.Process.destroy does).
func (w *waiter) cancel(s os.Signal) {
	sig, _ := s.(syscall.Signal)
	switch ended := w.out.Reason; {
	case ended == Finished:
		w.out.Cancel = sig
		if sig == syscall.SIGPIPE { // the program may ignore SIGPIPE
			sig = syscall.SIGTERM
		}
		w.stop(Cancelled, 0, sig)
		w.signal(syscall.SIGCONT) // a stopped program could not end
	case sig == syscall.SIGPIPE:
	case ended == Cancelled && w.out.Cancel == syscall.SIGPIPE: // the first signal of the caller itself
		w.out.Cancel = sig
	default: // a second signal, or one while a limit already ends the run
		w.endAll()
	}
}

// watchMemory starts to watch for the moment at which the group's memory is nearly used up. Nobody
// waits for its goroutine: a v1 kernel takes some milliseconds to start and to stop this.
func (w *waiter) watchMemory() {
	alarm, err := w.group.NewAlarm()
	if err != nil || alarm == nil {
		return
	}
	w.alarm = alarm
	w.spawn(func() {
		if alarm.Wait() {
			w.almost <- struct{}{}
		}
	}, nil)
}

func (w *waiter) memoryAlmostFull() {
	w.watch.weigh()
	if w.out.Reason == Finished && w.spec.DumpSignal != 0 && w.answers(w.spec.DumpSignal) {
		w.signal(w.spec.DumpSignal)
		w.early = w.readDump(dumpWait)
	}
}

// look is the periodic look at the run.
func (w *waiter) look() {
	w.score.restore()
	before := w.hidden
	if w.hidden = w.endedUnseen(); w.hidden && before { // seen twice: init is not just about to reap it
		w.signal(lifelineEnded)
	}
	reason, used := w.watch.look()
	if w.watching != nil {
		w.watching(w.watch.present)
	}
	if w.lost() { // otherwise what others put there would count as the run's own
		reason = DirLost
	}
	if reason == Finished || w.out.Reason != Finished {
		return
	}
	polite := syscall.SIGTERM
	if reason == ProcessLimit || reason == MemoryLimit || reason == DirLost {
		polite = syscall.SIGKILL // of the program; the rest follows with init
	}
	w.stop(reason, used, polite)
}

// An ending is init's report of the program's end.
type ending struct {
	status int32
	left   bool // other processes of the run still live
}

func endingOf(m [8]byte) ending {
	return ending{status: int32(binary.NativeEndian.Uint32(m[4:])), left: binary.NativeEndian.Uint16(m[2:]) != 0}
}

// lost tells whether the run has lost its working directory.
func (r *Running) lost() bool { return r.workdir != nil && r.workdir.Lost() != "" }

// signal asks init to send a signal to the program. There are never enough signals to fill the pipe.
func (r *Running) signal(s syscall.Signal) { r.lifeline.Write([]byte{byte(s)}) }

// endedUnseen tells whether the program has ended and init was not told: all its threads have ended,
// but a tracer holds one of them.
func (r *Running) endedUnseen() bool {
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

// readDump reads the dump in pieces, until no more comes or the time is over: it waits up to first
// for the beginning, and up to dumpMost for the rest. Every process of the run can write to the pipe.
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

// reserveThreads has the runtime make the threads that a launcher needs, once for the process,
// while it still can. Without a control group a run may use up the number of processes of their
// common user, and a Go program that gets no thread dies. The threads stay for all runs.
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
