package sandbox

import (
	"math"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// conclude makes the outcome of a run whose program has ended, by itself or not. known is false if
// init could not report the end.
func (r *Running) conclude(out Outcome, end ending, known bool, w *watch, signals <-chan os.Signal) Outcome {
	if !known { // init itself was killed
		end.status = int32(syscall.SIGKILL)
	}
	out.ExitCode, out.Signal = verdict(end.status)
	out.Began = r.released && pending(r.gate) == 0
	over := known && !end.left
	var count counters
	if over { // to end takes init a moment, too
		count = countersOf(r.group)
	}
	usage, gone := r.collect()
	if !over {
		count = countersOf(r.group)
	}
	out.Incomplete = !gone
	if r.found.method == Process {
		r.group.Kill() // processes that survived because init was killed
	}
	if r.recorder != nil {
		out.Activity, r.recorder = r.recorder.finish(), nil
		r.found.rings = out.Activity.Rings
	}
	r.account(&out, usage, count, w)
	for i, o := range r.outputs {
		if r.attended || pending(o) > 0 { // all writers are gone; the deadline is for processes that survived even so
			o.SetReadDeadline(time.Now().Add(drainWait))
		}
		if !r.attended && pending(o) > 0 {
			r.startCopy(i)
		}
	}
	r.deliver(&out, signals)
	if !atEnd(r.dump) {
		out.Dump = append(out.Dump, r.readDump(dumpQuiet)...)
	}
	r.decide(&out, count.kills)
	out.Protection = protection(r.spec, r.found)
	if out.Fault == nil {
		select {
		case out.Fault = <-r.faults:
		default:
		}
	}
	return out
}

// collect waits for the end of init. gone is false if init does not end: then it is in
// uninterruptible sleep, and the kernel ends it when it can.
func (r *Running) collect() (usage syscall.Rusage, gone bool) {
	if !r.attended {
		if used, ok := r.init.reapBriefly(briefMost); ok {
			r.over(used)
		} else {
			r.attend()
			r.spawn(r.reap, nil)
		}
	}
	for range 2 {
		select {
		case usage = <-r.gone:
			return usage, true
		case <-time.After(killWait):
			r.Kill()
		}
	}
	return usage, false
}

// counters are what the kernel has counted for the run's control group.
type counters struct {
	cpu           time.Duration
	cpuKnown      bool
	kills         int64 // of processes, because memory was used up
	failed        bool  // the group reached its memory limit, and the kernel could reclaim nothing
	peakMemory    int64
	peakProcesses int
	refused       int64
}

func countersOf(g *cgroup.Group) (c counters) {
	c.cpu, c.cpuKnown = g.CPU()
	c.kills, c.failed = g.OutOfMemory()
	c.peakMemory, c.peakProcesses, c.refused = g.PeakMemory(), g.PeakProcesses(), g.Refused()
	return c
}

// account fills in what the tree has used.
func (r *Running) account(out *Outcome, usage syscall.Rusage, count counters, w *watch) {
	out.Usage = Usage{
		Wall:          time.Since(r.started),
		CPU:           time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		PeakMemory:    max(w.held, int64(usage.Maxrss)<<10),
		PeakProcesses: max(w.peak, 1),
		ReadBytes:     int64(usage.Inblock) << 9,
		WriteBytes:    int64(usage.Oublock) << 9,
	}
	if count.cpuKnown {
		out.Usage.CPU = count.cpu
	}
	out.Usage.CPU = max(out.Usage.CPU, w.cpu) // init's sum lacks processes that nobody waited for
	out.Usage.CPU = max(0, out.Usage.CPU-r.past)
	if count.peakMemory > 0 {
		out.Usage.PeakMemory = min(out.Usage.PeakMemory, count.peakMemory)
		if count.failed { // the kernel had reclaimed the cache before: all of the peak was in use
			out.Usage.PeakMemory = count.peakMemory
		}
	}
	if !count.failed {
		out.Usage.MappedFiles = max(0, out.Usage.PeakMemory-w.held)
	}
	out.Memory = MemoryTrace{PerProcess: r.spec.Limits.Memory > 0 && !r.group.Limits("memory"), Data: w.data, Failed: count.failed}
	out.Usage.PeakProcesses = max(out.Usage.PeakProcesses, count.peakProcesses)
	out.Refused = count.refused
}

// deliver waits until all output is delivered. A reader may be slow, and Python itself would wait
// for it; but deliver does not wait for longer than the run may last, nor after the caller has been
// asked to stop. Without a wall limit it waits until then.
func (r *Running) deliver(out *Outcome, signals <-chan os.Signal) {
	if !r.copying[0] && !r.copying[1] {
		return
	}
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
		case s := <-signals:
			if r.spec.Transparent && !asksToEnd(s) {
				continue
			}
		case <-late:
		}
		out.Undelivered = r.copying
		r.abandoned.Store(true)
		return
	}
}

// decide finds out whether a limit that the kernel enforces has ended the run.
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
		// RLIMIT_CPU counts one process, and the tree has used at least that. But RLIMIT_CPU counts
		// clock ticks, and the usage nanoseconds: on a busy machine they differ by a fifth and
		// more. So SIGXCPU counts as the limit after half of the time.
		least := time.Duration(math.Ceil(l.CPU.Seconds())) * time.Second
		if out.Signal == unix.SIGXCPU {
			least /= 2
		}
		if l.CPU > 0 && out.Usage.CPU >= least {
			out.Reason, out.Used = CPULimit, out.Usage.CPU.Seconds()
		}
	case unix.SIGXFSZ:
		if l.FileSize <= 0 { // the program has set a limit itself
			return
		}
		out.Reason, out.Used = FileSizeLimit, float64(l.FileSize)
	}
}

// verdict reads a wait status.
func verdict(status int32) (code int, signal syscall.Signal) {
	ws := syscall.WaitStatus(status)
	if ws.Signaled() {
		return 0, ws.Signal()
	}
	return ws.ExitStatus(), 0
}
