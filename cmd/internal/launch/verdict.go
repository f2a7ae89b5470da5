package launch

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// Evidence is what a verdict is made from: Outcome, Disk, Started and Cut are the kernel's, Reply is the child's own word.
type Evidence struct {
	Outcome  sandbox.Outcome
	Disk     int64  // bytes below the working directory at the end
	Started  bool   // the user's code began: Python has read the byte at its gate
	Cut      string // a file that ends exactly at the size limit
	Reply    python.Reply
	ReplyErr error
	Stderr   string // what Python printed, for when it did not get as far as the code
	Python   python.Interpreter
}

// A Verdict is what a result says about the end.
type Verdict struct {
	Status  wire.Status
	Failure *wire.Failure
}

// Judge decides the status. It makes no system call. A limit that the launcher enforced comes first, then what the kernel says of the
// end, and only then the child's word, which tells apart what the exit code cannot.
func Judge(e Evidence, limits wire.Limits) Verdict {
	limit := func(s wire.Status, name string, used float64, text string) Verdict {
		configured, _ := limits.Get(name)
		return fail(s, &wire.Failure{Message: fmt.Sprintf("%s (%s = %s)", text, name, number(configured)),
			Limit: &wire.LimitHit{Name: name, Configured: configured, Used: round(used)}})
	}
	o := e.Outcome
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
		if !e.Started {
			break // too little for Python itself, which is not the code's doing
		}
		return limit(wire.StatusMemoryLimit, "memory_mb", mb(o.Used), "stopped: the memory limit was reached and the kernel ended a process")
	case sandbox.DiskLimit:
		return limit(wire.StatusDiskLimit, "disk_mb", mb(o.Used), "stopped: the working directory is too large")
	case sandbox.FileSizeLimit:
		return limit(wire.StatusDiskLimit, "file_mb", mb(o.Used), "ended: a file reached the size limit")
	case sandbox.Cancelled:
		if o.Cancel == unix.SIGPIPE {
			return fail(wire.StatusCancelled, &wire.Failure{Message: "cancelled: nobody reads the result any more"})
		}
		return fail(wire.StatusCancelled, &wire.Failure{Message: "cancelled: the caller sent " + signalName(o.Cancel)})
	}
	if !e.Started {
		f := &wire.Failure{Step: "start python", Message: "python ended before the code began: " + ending(o) + lastLine(e.Stderr)}
		if limits.MemoryMB > 0 && limits.MemoryMB < smallMemory {
			f.Hint = fmt.Sprintf("memory_mb = %s may be too little for Python itself", number(limits.MemoryMB))
		}
		return fail(wire.StatusLaunchFailed, f)
	}
	if o.Signal == unix.SIGABRT || o.Signal == unix.SIGSEGV {
		// Native code that gets no memory aborts, or uses what it did not get; the kernel only says how it ended.
		if used := mb(float64(o.Usage.PeakMemory)); limits.MemoryMB > 0 && used >= nearLimit*limits.MemoryMB {
			return limit(wire.StatusMemoryLimit, "memory_mb", used, "ended by "+signalName(o.Signal)+" near the memory limit, probably because native code got no more memory")
		}
	}
	if o.Signal != 0 {
		return fail(wire.StatusSignal, &wire.Failure{Message: "ended by " + signalName(o.Signal)})
	}
	if configured := limits.DiskMB; configured > 0 && mb(float64(e.Disk)) > configured {
		return limit(wire.StatusDiskLimit, "disk_mb", mb(float64(e.Disk)), "the working directory was too large at the end")
	}
	r := e.Reply
	if e.ReplyErr == nil {
		switch {
		case r.Kind == "error" && (o.ExitCode <= 1 || o.ExitCode == flushFailed):
			switch {
			case r.Memory && limits.MemoryMB > 0:
				v := limit(wire.StatusMemoryLimit, "memory_mb", mb(float64(o.Usage.PeakMemory)), "ended by an uncaught "+r.Error)
				v.Failure.Type, v.Failure.Line = r.Type, r.Line
				return v
			case r.Errno == int(unix.EFBIG) && limits.FileMB > 0:
				v := limit(wire.StatusDiskLimit, "file_mb", limits.FileMB, "ended by an uncaught "+r.Error)
				v.Failure.Type, v.Failure.Line = r.Type, r.Line
				return v
			}
			if o.Refused > 0 && (r.Errno == int(unix.EAGAIN) || r.Type == "RuntimeError" && strings.Contains(r.Error, "can't start new thread")) {
				v := limit(wire.StatusProcessLimit, "processes", limits.Processes, "ended by an uncaught "+r.Error)
				v.Failure.Type, v.Failure.Line = r.Type, r.Line
				return v
			}
			f := &wire.Failure{Code: "python_exception", Message: r.Error, Type: r.Type, Line: r.Line, Column: r.Column, Hint: missingModule(r, e.Python)}
			if r.Syntax {
				f.Code = "python_syntax"
			}
			return fail(wire.StatusError, f)
		case r.Kind == "too_large" && o.ExitCode == 0:
			return limit(wire.StatusOutputLimit, "output_mb", mb(float64(r.Bytes)), "the result is too large to hand back")
		}
	}
	if o.ExitCode != 0 {
		return fail(wire.StatusExit, &wire.Failure{Message: "exited with code " + strconv.Itoa(o.ExitCode)})
	}
	if e.Cut != "" {
		return limit(wire.StatusDiskLimit, "file_mb", limits.FileMB, "a file ends exactly at the size limit, so what was written behind it is lost: "+e.Cut)
	}
	return Verdict{Status: wire.StatusOK}
}

// missingModule says which interpreter did not find a module; empty for other errors.
func missingModule(r python.Reply, ip python.Interpreter) string {
	if r.Type != "ModuleNotFoundError" || ip.Path == "" {
		return ""
	}
	return fmt.Sprintf("this was Python %s at %s: install the module for it, add its directory with python.path, or choose another interpreter with python.interpreter (--python, PY3RUN_PYTHON_INTERPRETER)", ip.Version, ip.Path)
}

// nearLimit is the part of the memory limit from which on an abort is put down to it.
const nearLimit = 0.9

// smallMemory is the limit, in MB, below which Python's own start may fail.
const smallMemory = 64

// flushFailed is Python's exit code when the last output could not be written, whatever else happened.
const flushFailed = 120

// fail fills in what follows from the status.
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

// signalName is SIGKILL and the like; a real-time signal is named by its number.
func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return "SIG" + strconv.Itoa(int(s))
}

func mb(bytes float64) float64 { return bytes / (1 << 20) }

// round keeps three decimals: more would pretend precision.
func round(f float64) float64 { return math.Round(f*1000) / 1000 }

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
