package launch

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// A Verdict says how a run ended: the status, and the failure unless the status is ok.
type Verdict struct {
	Status  wire.Status
	Failure *wire.Failure
}

// Judge decides the status. It makes no system call.
//
// Kernel evidence overrides anything the interpreter reports. The order is: a limit that the launcher
// enforced; then how the kernel says that the program ended; then the interpreter's reply, for what the
// exit code alone cannot distinguish. A reply never gives the status of a limit without a trace of that
// limit. If a program handles a refusal and ends well, the traces do not count. Lost data does count:
// output or a file that was cut, a working directory over its limit, and collected files that a bound
// keeps from the caller fail the run.
func Judge(e Evidence, limits wire.Limits) Verdict {
	v := judge(e, limits)
	if f := v.Failure; f != nil && e.Started && (f.Limit == nil || f.Limit.Name != "memory_mb") {
		for _, c := range clues(e, limits, v.Status) {
			if f.Hint != "" {
				f.Hint += "; "
			}
			f.Hint += c
		}
	}
	return v
}

func judge(e Evidence, limits wire.Limits) Verdict {
	if v, decided := notRun(e); decided {
		return v
	}
	if v, decided := byLauncher(e, limits); decided {
		return v
	}
	if !e.Started {
		return tooEarly(e, limits)
	}
	if e.Outcome.Signal != 0 {
		return bySignal(e.Outcome, limits)
	}
	if e.Overflow > 0 { // a failure, because the reader would take the part for the whole
		v := limitReached(limits, wire.StatusOutputLimit, "output_mb", mb(float64(e.Overflow)),
			"the output was cut, of "+strconv.FormatInt(e.Overflow, 10)+" bytes; the program ended with "+ending(e.Outcome))
		v.Failure.Hint = "print less, or have security.max-output-size-mb raised (0 is no limit)"
		return v
	}
	if disk := mb(float64(e.Contents.Bytes)); limits.DiskMB > 0 && disk > limits.DiskMB {
		return limitReached(limits, wire.StatusDiskLimit, "disk_mb", disk, "the working directory was too large at the end")
	}
	if v, decided := byReply(e, limits); decided {
		return v
	}
	if e.Outcome.ExitCode != 0 {
		return fail(wire.StatusExit, &wire.Failure{Message: "exited with code " + strconv.Itoa(e.Outcome.ExitCode)})
	}
	if e.Cut != "" {
		return limitReached(limits, wire.StatusDiskLimit, "file_mb", limits.FileMB, "a file ends exactly at the size limit, so what was written behind it is lost: "+e.Cut)
	}
	if v, decided := incomplete(e.Handed, limits); decided {
		return v
	}
	return Verdict{Status: wire.StatusOK}
}

// notRun gives the verdict if no program was run to its end.
func notRun(e Evidence) (v Verdict, decided bool) {
	switch {
	case e.Fault != nil:
		return fail(wire.StatusInternal, &wire.Failure{Message: fmt.Sprintf("internal: %v", e.Fault)}), true
	case e.Refused != nil:
		f := *e.Refused.failure
		return fail(e.Refused.status, &f), true
	case e.Direct != nil:
		return Verdict{Status: wire.StatusOK}, true
	case e.Unrecorded != nil:
		return fail(wire.StatusAuditUnavailable, unrecordedFailure(e.Unrecorded)), true
	case e.Setup != nil:
		return fail(launchStatus(e.Setup), launchFailure(e.Setup)), true
	}
	return v, false
}

// limitReached gives the verdict that a limit was reached; used has the limit's unit.
func limitReached(limits wire.Limits, s wire.Status, name string, used float64, text string) Verdict {
	configured, _ := limits.Get(name)
	return fail(s, &wire.Failure{Message: fmt.Sprintf("%s (%s = %s)", text, name, number(configured)),
		Limit: &wire.LimitHit{Name: name, Configured: configured, Used: round(used)}})
}

// byLauncher gives the verdict if the launcher ended the run, or the kernel did so at its request.
func byLauncher(e Evidence, limits wire.Limits) (v Verdict, decided bool) {
	o := e.Outcome
	limit := func(s wire.Status, name string, used float64, text string) (Verdict, bool) {
		return limitReached(limits, s, name, used, text), true
	}
	if o.Fault != nil { // its first line; what follows is the stack
		line, _, _ := strings.Cut(o.Fault.Error(), "\n")
		return fail(wire.StatusInternal, &wire.Failure{Message: "internal: " + line}), true
	}
	switch o.Reason {
	case sandbox.WallLimit:
		return limit(wire.StatusTimeout, "timeout_seconds", o.Used, "stopped: the wall-clock limit was reached")
	case sandbox.IdleLimit:
		return limit(wire.StatusIdleTimeout, "idle_seconds", o.Used, "stopped: neither processor time nor output for too long")
	case sandbox.CPULimit:
		return limit(wire.StatusCPULimit, "cpu_seconds", o.Used, "stopped: the processor-time limit was reached")
	case sandbox.ProcessLimit:
		return limit(wire.StatusProcessLimit, "processes", o.Used, "stopped: too many processes and threads")
	case sandbox.MemoryLimit:
		if e.Started { // otherwise the memory was too little for Python itself: see tooEarly
			return limit(wire.StatusMemoryLimit, "memory_mb", mb(o.Used), "stopped: the memory limit was reached and the kernel ended a process")
		}
	case sandbox.DiskLimit:
		return limit(wire.StatusDiskLimit, "disk_mb", mb(o.Used), "stopped: the working directory is too large")
	case sandbox.FileSizeLimit:
		return limit(wire.StatusDiskLimit, "file_mb", mb(o.Used), "ended: a file reached the size limit")
	case sandbox.DirLost:
		return fail(wire.StatusInternal, &wire.Failure{Code: "working_dir_lost", Message: "ended: somebody outside of this run removed or replaced its working directory",
			Hint: "give runs a place of their own: the last directory before ${executionId} in security.isolation.working-dir is to be one that py3run makes itself"}), true
	case sandbox.Cancelled:
		if e.Cancelled != nil {
			return fail(wire.StatusCancelled, cancelledBy(e.Cancelled)), true
		}
		message := "cancelled: the caller sent " + signalName(o.Cancel)
		switch o.Cancel {
		case unix.SIGPIPE:
			message = "cancelled: nobody reads the result any more"
		case 0:
			message = "cancelled: " + sandbox.CallerGone.String()
		}
		return fail(wire.StatusCancelled, &wire.Failure{Message: message}), true
	}
	return v, false
}

// tooEarly gives the verdict on an interpreter that ended before the code began.
func tooEarly(e Evidence, limits wire.Limits) Verdict {
	f := &wire.Failure{Step: "start python", Message: "python ended before the code began: " + ending(e.Outcome) + lastLine(e.Printed.Stderr)}
	if limits.MemoryMB > 0 && limits.MemoryMB < smallMemory {
		f.Hint = fmt.Sprintf("memory_mb = %s may be too little for Python itself", number(limits.MemoryMB))
	}
	return fail(wire.StatusLaunchFailed, f)
}

// bySignal gives the verdict on a program that a signal ended.
func bySignal(o sandbox.Outcome, limits wire.Limits) Verdict {
	f := &wire.Failure{Message: "ended by " + signalName(o.Signal)}
	switch o.Signal {
	case unix.SIGABRT, unix.SIGSEGV, unix.SIGBUS:
		// Native code that gets no memory aborts, or dereferences a null pointer. The kernel only reports
		// the signal. A write to a full /dev/shm is ended by SIGBUS.
		used, short := memory(o, limits)
		if peak := mb(float64(o.Usage.PeakMemory)); o.Signal == unix.SIGBUS && o.Memory.PerProcess && nearly(peak, limits.MemoryMB) {
			used, short = peak, true // RLIMIT_DATA does not count shared memory; /dev/shm is as large as the limit
		}
		if short {
			return limitReached(limits, wire.StatusMemoryLimit, "memory_mb", used, "ended by "+signalName(o.Signal)+" near the memory limit, probably because native code got no more memory")
		}
		if o.Memory.PerProcess {
			f.Hint = perProcess(used, limits)
		}
	}
	return fail(wire.StatusSignal, f)
}

// byReply gives the verdict if the interpreter's reply distinguishes what the exit code cannot.
func byReply(e Evidence, limits wire.Limits) (v Verdict, decided bool) {
	r, code := e.Reply, e.Outcome.ExitCode
	switch {
	case e.ReplyErr != nil:
	case r.Kind == "error" && (code == 1 || code == flushFailed):
		return uncaught(e, limits), true
	case r.Kind == "too_large" && code == 0:
		return limitReached(limits, wire.StatusOutputLimit, "output_mb", mb(float64(r.Bytes)), "the result is too large to hand back"), true
	}
	return v, false
}

// uncaught gives the verdict on an uncaught exception. The status is that of a limit only if there is
// a trace of that limit. Without a trace, the hint names the limit that may have caused the exception.
func uncaught(e Evidence, limits wire.Limits) Verdict {
	r, o := e.Reply, e.Outcome
	limit := func(s wire.Status, name string, used float64) Verdict {
		v := limitReached(limits, s, name, used, "ended by an uncaught "+r.Error)
		v.Failure.Type, v.Failure.Line = r.Type, r.Line
		return v
	}
	f := &wire.Failure{Code: "python_exception", Message: r.Error, Type: r.Type, Line: r.Line, Column: r.Column}
	if r.Syntax {
		f.Code = "python_syntax"
	}
	noRoom := r.Errno == int(unix.EAGAIN) || r.Type == "RuntimeError" && strings.Contains(r.Error, "can't start new thread")
	noMemory := r.Memory || r.Errno == int(unix.ENOMEM)
	used, short := memory(o, limits)
	switch {
	case noRoom && o.Refused > 0:
		return limit(wire.StatusProcessLimit, "processes", limits.Processes)
	case (noMemory || noRoom) && short:
		return limit(wire.StatusMemoryLimit, "memory_mb", used)
	case (noMemory || noRoom) && o.Memory.PerProcess:
		f.Hint = perProcess(used, limits)
	case noMemory && limits.MemoryMB > 0:
		f.Hint = fmt.Sprintf("memory_mb = %s was not used up, at most %s MB were seen in use: the library has a limit of its own, or asked for one block that is larger than the machine's memory",
			number(limits.MemoryMB), number(round(mb(float64(o.Usage.PeakMemory)))))
	case r.Errno == int(unix.EFBIG) && limits.FileMB > 0 && (e.Full != "" || e.Cut != ""):
		return limit(wire.StatusDiskLimit, "file_mb", limits.FileMB)
	case r.Errno == int(unix.EFBIG) && limits.FileMB > 0:
		f.Hint = fmt.Sprintf("file_mb = %s limits the size of a file; no file of that size was left", number(limits.FileMB))
	case r.Errno == int(unix.ENOSPC) && limits.DiskMB > 0:
		f.Hint = fmt.Sprintf("disk_mb = %s was not used up, the working directory holds %s MB: a file system is full", number(limits.DiskMB), number(round(mb(float64(e.Contents.Bytes)))))
		if limits.MemoryMB > 0 {
			f.Hint += fmt.Sprintf("; /dev/shm counts as memory (memory_mb = %s)", number(limits.MemoryMB))
		}
	}
	return fail(wire.StatusError, f)
}

// Memory is nearly used up if the part in use is nearLimit of the limit, or leaves at most nearMB. For
// a small limit nearMB would be too much: at least half of the limit must be in use.
const (
	nearLimit = 0.9
	nearMB    = 16 // MB
)

// memory returns how much memory was in use, in MB, without what the kernel could have reclaimed. short
// says that there was not enough: that amount is near the limit, or the kernel reports it.
func memory(o sandbox.Outcome, limits wire.Limits) (used float64, short bool) {
	used = mb(float64(o.Usage.PeakMemory - o.Usage.MappedFiles))
	if o.Memory.PerProcess {
		used = mb(float64(max(o.Memory.Data, o.Activity.RefusedMemory)))
	}
	return used, limits.MemoryMB > 0 && o.Memory.Failed || nearly(used, limits.MemoryMB)
}

// nearly reports whether a limit on memory was nearly used up; both in MB.
func nearly(used, limit float64) bool {
	return limit > 0 && used >= max(limit/2, min(nearLimit*limit, limit-nearMB))
}

// perProcess returns the hint for a limit that refuses an allocation without a trace.
func perProcess(used float64, limits wire.Limits) string {
	return fmt.Sprintf("memory_mb = %s limits the private memory of each process here (RLIMIT_DATA): the kernel refuses any allocation and any thread beyond it; at most %s MB were seen in use",
		number(limits.MemoryMB), number(round(used)))
}

// clues lists traces of limits that did not end the run directly. What a limit refused may still have
// led to the failure.
func clues(e Evidence, limits wire.Limits, status wire.Status) (found []string) {
	switch used, short := memory(e.Outcome, limits); {
	case short && e.Outcome.Activity.RefusedMemory > 0:
		found = append(found, fmt.Sprintf("memory_mb = %s has refused a process what would have made it %s MB", number(limits.MemoryMB), number(round(used))))
	case short:
		found = append(found, fmt.Sprintf("memory_mb = %s was nearly used up (%s MB)", number(limits.MemoryMB), number(round(used))))
	case e.Outcome.Memory.PerProcess && (status == wire.StatusTimeout || status == wire.StatusIdleTimeout || status == wire.StatusCPULimit):
		// Some numeric libraries retry a refused allocation for ever. That leaves no trace.
		found = append(found, perProcess(used, limits)+"; a library that gets no memory may retry for ever")
	}
	if e.Cut != "" && status == wire.StatusError {
		found = append(found, fmt.Sprintf("file_mb = %s has kept a file from growing: %s", number(limits.FileMB), e.Cut))
	}
	// RLIMIT_CPU ends a child alone; Python then raises CalledProcessError or BrokenProcessPool. It counts
	// coarsely, so half of the limit is enough for a clue.
	if cpu := e.Outcome.Usage.CPU.Seconds(); limits.CPUSeconds > 0 && cpu >= limits.CPUSeconds/2 && status == wire.StatusError && strings.Contains(e.Reply.Type, "Process") {
		found = append(found, fmt.Sprintf("cpu_seconds = %s ends any process that alone reaches it; the whole run used %s s", number(limits.CPUSeconds), number(round(cpu))))
	}
	return found
}

// smallMemory is the limit, in MB, below which Python itself may fail to start.
const smallMemory = 64

// flushFailed is Python's exit code if it could not write the last output. It replaces any other code.
const flushFailed = 120

// fail makes a verdict. It fills in the parts of the failure that follow from the status.
func fail(s wire.Status, f *wire.Failure) Verdict {
	if f.Code == "" {
		f.Code = string(s)
	}
	if f.Hint == "" {
		f.Hint = s.Hint()
	}
	f.Retryable = s.Retryable()
	return Verdict{s, f}
}

func ending(o sandbox.Outcome) string {
	if o.Signal != 0 {
		return signalName(o.Signal)
	}
	return "exit code " + strconv.Itoa(o.ExitCode)
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	text = text[strings.LastIndexByte(text, '\n')+1:]
	if text == "" {
		return ""
	}
	return ": " + text[:min(len(text), 300)]
}
