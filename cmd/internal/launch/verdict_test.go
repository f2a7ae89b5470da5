package launch

import (
	"errors"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// The limits in force in every case that sets no others.
var judged = wire.Limits{TimeoutSeconds: 5, CPUSeconds: 4, MemoryMB: 256, Processes: 8, OutputMB: 1, FileMB: 16, DiskMB: 32, IdleSeconds: 3}

func TestJudge(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	none := wire.Limits{}
	hit := func(name string, configured, used float64) *wire.LimitHit {
		return &wire.LimitHit{Name: name, Configured: configured, Used: used}
	}
	ended := func(code int) sandbox.Outcome { return sandbox.Outcome{Reason: sandbox.Finished, ExitCode: code} }
	reply := func(code int, r python.Reply) Evidence {
		return Evidence{Outcome: ended(code), Started: true, Reply: r}
	}
	silent := func(o sandbox.Outcome) Evidence {
		return Evidence{Outcome: o, Started: true, ReplyErr: python.ErrNoReply}
	}
	struck := func(r sandbox.Reason, used float64) Evidence {
		return silent(sandbox.Outcome{Reason: r, Signal: syscall.SIGKILL, Used: used})
	}
	value := python.Reply{Kind: "value", Value: []byte("1")}
	zero := python.Reply{Kind: "error", Type: "ZeroDivisionError", Error: "ZeroDivisionError: division by zero", Line: 3}
	syntax := python.Reply{Kind: "error", Type: "SyntaxError", Error: "SyntaxError: bad", Line: 3, Column: 7, Syntax: true}
	memory := python.Reply{Kind: "error", Type: "MemoryError", Error: "MemoryError", Line: 2, Memory: true}
	tooBig := python.Reply{Kind: "error", Type: "OSError", Error: "OSError: [Errno 27] File too large", Line: 2, Errno: int(syscall.EFBIG)}
	full := python.Reply{Kind: "error", Type: "OSError", Error: "OSError: [Errno 28] No space left on device", Line: 2, Errno: int(syscall.ENOSPC)}
	noFork := python.Reply{Kind: "error", Type: "BlockingIOError", Error: "BlockingIOError: [Errno 11] no", Line: 4, Errno: int(syscall.EAGAIN)}
	noThread := python.Reply{Kind: "error", Type: "RuntimeError", Error: "RuntimeError: can't start new thread", Line: 5}
	large := python.Reply{Kind: "too_large", Bytes: 3 * mib}
	damaged := Evidence{Outcome: ended(0), Started: true, ReplyErr: errors.New("reply: not JSON")}
	usage := sandbox.Usage{PeakMemory: 255*mib + mib/2}

	fine := Verdict{Status: wire.StatusOK}
	failed := func(s wire.Status, f wire.Failure) Verdict {
		if f.Code == "" {
			f.Code = string(s)
		}
		if f.Hint == "" {
			f.Hint = s.Hint()
		}
		return Verdict{s, &f}
	}
	limited := func(s wire.Status, message string, l *wire.LimitHit) Verdict {
		return failed(s, wire.Failure{Message: message, Limit: l})
	}
	exited := func(code int) Verdict {
		return failed(wire.StatusExit, wire.Failure{Message: fmt.Sprint("exited with code ", code)})
	}
	tests := []struct {
		name     string
		evidence Evidence
		limits   wire.Limits
		want     Verdict
	}{
		// collected files that a bound keeps from the caller
		{"collected files are too large", Evidence{Outcome: ended(0), Started: true, Reply: value, Handed: Handed{Gathered: sandbox.Gathered{Over: sandbox.TooManyBytes, Bytes: 3 * mib}}}, judged,
			failed(wire.StatusOutputLimit, wire.Failure{Message: "the collected files are too large to hand back; those that fit are in the result (output_mb = 1)", Limit: hit("output_mb", 1, 3), Hint: collectLess})},
		{"collected files are too large for py3run", Evidence{Outcome: ended(0), Started: true, Reply: value, Handed: Handed{Gathered: sandbox.Gathered{Over: sandbox.TooManyBytes, Bytes: 300 * mib}}}, none,
			failed(wire.StatusOutputLimit, wire.Failure{Message: "the collected files are too large to hand back; those that fit are in the result", Hint: collectLess})},
		{"too many collected files", Evidence{Outcome: ended(0), Started: true, Reply: value, Handed: Handed{Gathered: sandbox.Gathered{Over: sandbox.TooManyFiles}}}, judged,
			failed(wire.StatusOutputLimit, wire.Failure{Message: "more than 10000 files to hand back, or too many to look at; those that fit are in the result", Hint: collectLess})},
		{"collecting took too long", Evidence{Outcome: ended(0), Started: true, Reply: value, Handed: Handed{Gathered: sandbox.Gathered{Over: sandbox.TooLong}}}, judged,
			failed(wire.StatusOutputLimit, wire.Failure{Message: "to find and read the collected files took more than 10s; those that fit are in the result", Hint: collectLess})},
		{"a failed run whose files are too large", Evidence{Outcome: ended(3), Started: true, ReplyErr: python.ErrNoReply, Handed: Handed{Gathered: sandbox.Gathered{Over: sandbox.TooManyBytes}}}, judged, exited(3)},
		{"a file that was left out is a warning", Evidence{Outcome: ended(0), Started: true, Reply: value, Handed: Handed{Gathered: sandbox.Gathered{Count: 1, Left: []sandbox.LeftOut{{Path: "l", Why: "a symbolic link"}}}}}, judged, fine},

		// first: what the launcher did, whatever the interpreter reports
		{"wall", struck(sandbox.WallLimit, 5.0004), judged, limited(wire.StatusTimeout, "stopped: the wall-clock limit was reached (timeout_seconds = 5)", hit("timeout_seconds", 5, 5))},
		{"wall, and a value", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.WallLimit, Used: 5.2}, Started: true, Reply: value}, judged,
			limited(wire.StatusTimeout, "stopped: the wall-clock limit was reached (timeout_seconds = 5)", hit("timeout_seconds", 5, 5.2))},
		{"wall, and an exception", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.WallLimit, ExitCode: 1, Used: 5}, Started: true, Reply: zero}, judged,
			limited(wire.StatusTimeout, "stopped: the wall-clock limit was reached (timeout_seconds = 5)", hit("timeout_seconds", 5, 5))},
		{"wall, before the code", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.WallLimit, Signal: syscall.SIGKILL, Used: 5}, ReplyErr: python.ErrNoReply}, judged,
			limited(wire.StatusTimeout, "stopped: the wall-clock limit was reached (timeout_seconds = 5)", hit("timeout_seconds", 5, 5))},
		{"wall of a fraction", struck(sandbox.WallLimit, 0.2504), wire.Limits{TimeoutSeconds: 0.25}, limited(wire.StatusTimeout, "stopped: the wall-clock limit was reached (timeout_seconds = 0.25)", hit("timeout_seconds", 0.25, 0.25))},
		{"idle", struck(sandbox.IdleLimit, 3.1), judged, limited(wire.StatusIdleTimeout, "stopped: neither processor time nor output for too long (idle_seconds = 3)", hit("idle_seconds", 3, 3.1))},
		{"processor time", struck(sandbox.CPULimit, 4.01), judged, limited(wire.StatusCPULimit, "stopped: the processor-time limit was reached (cpu_seconds = 4)", hit("cpu_seconds", 4, 4.01))},
		{"processes", struck(sandbox.ProcessLimit, 9), judged, limited(wire.StatusProcessLimit, "stopped: too many processes and threads (processes = 8)", hit("processes", 8, 9))},
		{"disk", struck(sandbox.DiskLimit, 33*mib), judged, limited(wire.StatusDiskLimit, "stopped: the working directory is too large (disk_mb = 32)", hit("disk_mb", 32, 33))},
		{"memory", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.MemoryLimit, Signal: syscall.SIGKILL, Used: 64 * mib}, Started: true, ReplyErr: python.ErrNoReply}, judged,
			limited(wire.StatusMemoryLimit, "stopped: the memory limit was reached and the kernel ended a process (memory_mb = 256)", hit("memory_mb", 256, 64))},
		{"memory, before the code", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.MemoryLimit, Signal: syscall.SIGKILL, Used: mib}, ReplyErr: python.ErrNoReply}, wire.Limits{MemoryMB: 1},
			failed(wire.StatusLaunchFailed, wire.Failure{Step: "start python", Message: "python ended before the code began: SIGKILL", Hint: "memory_mb = 1 may be too little for Python itself"})},
		{"no room for a process", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, ExitCode: 1, Refused: 3}, Started: true, Reply: noFork}, judged,
			failed(wire.StatusProcessLimit, wire.Failure{Message: "ended by an uncaught BlockingIOError: [Errno 11] no (processes = 8)", Type: "BlockingIOError", Line: 4, Limit: hit("processes", 8, 8)})},
		{"no room for a thread", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, ExitCode: 1, Refused: 1}, Started: true, Reply: noThread}, judged,
			failed(wire.StatusProcessLimit, wire.Failure{Message: "ended by an uncaught RuntimeError: can't start new thread (processes = 8)", Type: "RuntimeError", Line: 5, Limit: hit("processes", 8, 8)})},
		{"a claim that there was no room", reply(1, noFork), judged, failed(wire.StatusError, wire.Failure{Code: "python_exception", Message: noFork.Error, Type: "BlockingIOError", Line: 4})},
		{"file size", struck(sandbox.FileSizeLimit, 16*mib), judged, limited(wire.StatusDiskLimit, "ended: a file reached the size limit (file_mb = 16)", hit("file_mb", 16, 16))},
		{"a panic in the launcher, and a value", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, Fault: errors.New("panic: x\ngoroutine 1")}, Started: true, Reply: value}, judged,
			failed(wire.StatusInternal, wire.Failure{Message: "internal: panic: x"})},
		{"a directory that somebody has taken away, and a value", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.DirLost}, Started: true, Reply: value}, judged,
			failed(wire.StatusInternal, wire.Failure{Code: "working_dir_lost", Message: "ended: somebody outside of this run removed or replaced its working directory",
				Hint: "give runs a place of their own: the last directory before ${executionId} in security.isolation.working-dir is to be one that py3run makes itself"})},
		{"interrupted", silent(sandbox.Outcome{Reason: sandbox.Cancelled, Signal: syscall.SIGKILL, Cancel: syscall.SIGINT}), judged, failed(wire.StatusCancelled, wire.Failure{Message: "cancelled: the caller sent SIGINT"})},
		{"terminated, and a value", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Cancelled, Cancel: syscall.SIGTERM}, Started: true, Reply: value}, judged,
			failed(wire.StatusCancelled, wire.Failure{Message: "cancelled: the caller sent SIGTERM"})},
		{"by an operator", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Cancelled, Cancel: syscall.SIGTERM}, Started: true, Reply: value, Cancelled: &audit.Record{User: audit.User{Name: "ann"}, Cancel: &audit.Cancel{Reason: "too\n long"}}}, judged,
			failed(wire.StatusCancelled, wire.Failure{Code: "cancelled_by_operator", Message: "cancelled: by ann with py3runctl cancel: too long"})},
		{"by an operator, who gives no reason", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Cancelled, Cancel: syscall.SIGTERM}, Started: true, Cancelled: &audit.Record{User: audit.User{Name: "ann"}}}, judged,
			failed(wire.StatusCancelled, wire.Failure{Code: "cancelled_by_operator", Message: "cancelled: by ann with py3runctl cancel"})},

		// then: how the kernel says that the program ended
		{"before the code", Evidence{Outcome: ended(1), ReplyErr: python.ErrNoReply, Printed: wire.Captured{Stderr: "Traceback\n  x\nImportError: no mmap\n"}}, judged,
			failed(wire.StatusLaunchFailed, wire.Failure{Step: "start python", Message: "python ended before the code began: exit code 1: ImportError: no mmap"})},
		{"before the code, in silence", Evidence{Outcome: ended(0), ReplyErr: python.ErrNoReply}, judged,
			failed(wire.StatusLaunchFailed, wire.Failure{Step: "start python", Message: "python ended before the code began: exit code 0"})},
		{"before the code, by a signal", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, Signal: syscall.SIGSEGV}, ReplyErr: python.ErrNoReply}, judged,
			failed(wire.StatusLaunchFailed, wire.Failure{Step: "start python", Message: "python ended before the code began: SIGSEGV"})},
		{"signal", silent(sandbox.Outcome{Reason: sandbox.Finished, Signal: syscall.SIGSEGV}), judged, failed(wire.StatusSignal, wire.Failure{Message: "ended by SIGSEGV"})},
		{"abort near the memory limit", silent(sandbox.Outcome{Reason: sandbox.Finished, Signal: syscall.SIGABRT, Usage: sandbox.Usage{PeakMemory: 250 * mib}}), judged,
			limited(wire.StatusMemoryLimit, "ended by SIGABRT near the memory limit, probably because native code got no more memory (memory_mb = 256)", hit("memory_mb", 256, 250))},
		{"abort far from it", silent(sandbox.Outcome{Reason: sandbox.Finished, Signal: syscall.SIGABRT, Usage: sandbox.Usage{PeakMemory: 200 * mib}}), judged, failed(wire.StatusSignal, wire.Failure{Message: "ended by SIGABRT"})},
		{"real-time signal", silent(sandbox.Outcome{Reason: sandbox.Finished, Signal: 40}), judged, failed(wire.StatusSignal, wire.Failure{Message: "ended by SIG40"})},
		{"signal after a value", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, Signal: syscall.SIGKILL}, Started: true, Reply: value}, judged, failed(wire.StatusSignal, wire.Failure{Message: "ended by SIGKILL"})},
		{"disk at the end", Evidence{Outcome: ended(0), Started: true, Contents: sandbox.Contents{Bytes: 32*mib + 1}, Reply: value}, judged,
			limited(wire.StatusDiskLimit, "the working directory was too large at the end (disk_mb = 32)", hit("disk_mb", 32, 32))},
		{"disk at the end, exactly", Evidence{Outcome: ended(0), Started: true, Contents: sandbox.Contents{Bytes: 32 * mib}, Reply: value}, judged, fine},
		{"disk at the end, no limit", Evidence{Outcome: ended(0), Started: true, Contents: sandbox.Contents{Bytes: 1 << 40}, Reply: value}, none, fine},
		{"disk at the end, and an exception", Evidence{Outcome: ended(1), Started: true, Contents: sandbox.Contents{Bytes: 40 * mib}, Reply: full}, judged,
			limited(wire.StatusDiskLimit, "the working directory was too large at the end (disk_mb = 32)", hit("disk_mb", 32, 40))},

		// last: the interpreter's reply
		{"value", reply(0, value), judged, fine},
		{"exit 0", reply(0, python.Reply{Kind: "exit"}), judged, fine},
		{"exit 7", reply(7, python.Reply{Kind: "exit"}), judged, exited(7)},
		{"exit 7 and a value", reply(7, value), judged, exited(7)},
		{"no reply, 0", silent(ended(0)), judged, fine},
		{"no reply, 9", silent(ended(9)), judged, exited(9)},
		{"unreadable reply", damaged, judged, fine},
		{"unreadable reply, no limits", damaged, none, fine},
		{"exception", reply(1, zero), judged, failed(wire.StatusError, wire.Failure{Code: "python_exception", Message: zero.Error, Type: zero.Type, Line: 3})},
		{"exception, and a code of its own", reply(7, zero), judged, exited(7)},
		{"a claim of failure", reply(0, zero), judged, fine},
		{"exception, and the last output lost", reply(120, zero), judged, failed(wire.StatusError, wire.Failure{Code: "python_exception", Message: zero.Error, Type: zero.Type, Line: 3})},
		{"syntax", reply(1, syntax), judged, failed(wire.StatusError, wire.Failure{Code: "python_syntax", Message: syntax.Error, Type: syntax.Type, Line: 3, Column: 7})},
		{"memory", Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, ExitCode: 1, Usage: usage}, Started: true, Reply: memory}, judged,
			failed(wire.StatusMemoryLimit, wire.Failure{Message: "ended by an uncaught MemoryError (memory_mb = 256)", Type: "MemoryError", Line: 2, Limit: hit("memory_mb", 256, 255.5)})},
		{"memory, no limit", reply(1, memory), none, failed(wire.StatusError, wire.Failure{Code: "python_exception", Message: "MemoryError", Type: "MemoryError", Line: 2})},
		{"memory, and a code of its own", reply(2, memory), judged, exited(2)},
		{"file too large", Evidence{Outcome: ended(1), Started: true, Full: "big", Reply: tooBig}, judged,
			failed(wire.StatusDiskLimit, wire.Failure{Message: "ended by an uncaught OSError: [Errno 27] File too large (file_mb = 16)", Type: "OSError", Line: 2, Limit: hit("file_mb", 16, 16)})},
		{"a claim that a file is too large", reply(1, tooBig), judged,
			failed(wire.StatusError, wire.Failure{Code: "python_exception", Message: tooBig.Error, Hint: "file_mb = 16 limits the size of a file; no file of that size was left", Type: "OSError", Line: 2})},
		{"file too large, no limit", reply(1, tooBig), none, failed(wire.StatusError, wire.Failure{Code: "python_exception", Message: tooBig.Error, Type: "OSError", Line: 2})},
		{"disk full", reply(1, full), judged, failed(wire.StatusError, wire.Failure{Code: "python_exception", Message: full.Error, Type: "OSError", Line: 2,
			Hint: "disk_mb = 32 was not used up, the working directory holds 0 MB: a file system is full; /dev/shm counts as memory (memory_mb = 256)"})},
		{"disk full, no limit", reply(1, full), none, failed(wire.StatusError, wire.Failure{Code: "python_exception", Message: full.Error, Type: "OSError", Line: 2})},
		{"a file cut", Evidence{Outcome: ended(0), Started: true, Cut: "big", Reply: value}, judged,
			limited(wire.StatusDiskLimit, "a file ends exactly at the size limit, so what was written behind it is lost: big (file_mb = 16)", hit("file_mb", 16, 16))},
		{"a file cut, exit 7", Evidence{Outcome: ended(7), Started: true, Cut: "big", Reply: value}, judged, exited(7)},
		{"result too large", reply(0, large), judged, limited(wire.StatusOutputLimit, "the result is too large to hand back (output_mb = 1)", hit("output_mb", 1, 3))},
		{"result too large, exit 7", reply(7, large), judged, exited(7)},
		{"a claim of success", reply(3, value), judged, exited(3)},
		{"a reply of no kind", reply(0, python.Reply{Kind: "forged"}), judged, fine},
	}
	reasons := map[sandbox.Reason]bool{}
	for _, tt := range tests {
		reasons[tt.evidence.Outcome.Reason] = true
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Judge(tt.evidence, tt.limits)
			if got.Status != tt.want.Status || !reflect.DeepEqual(got.Failure, tt.want.Failure) {
				t.Errorf("%s %+v, want %s %+v", got.Status, words(got.Failure), tt.want.Status, words(tt.want.Failure))
			}
		})
	}
	for _, r := range declaredReasons(t) {
		if !reasons[r] {
			t.Errorf("reason %q is not judged here", r)
		}
	}
}

// Each limit, with and without a trace of it, combined with each way in which the program can end: it
// handles what the limit refused, it does not handle it, the limit kills a child, or the program itself.
// A refusal that the program handled is no failure. An exception alone is no trace.
func TestLimitsAndEnds(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	o := func(change ...func(*sandbox.Outcome)) sandbox.Outcome {
		out := sandbox.Outcome{Reason: sandbox.Finished}
		for _, c := range change {
			c(&out)
		}
		return out
	}
	held := func(n int64) func(*sandbox.Outcome) { return func(o *sandbox.Outcome) { o.Usage.PeakMemory = n } }
	cache := func(n int64) func(*sandbox.Outcome) {
		return func(o *sandbox.Outcome) { o.Usage.PeakMemory, o.Usage.MappedFiles = n, n }
	}
	data := func(n int64) func(*sandbox.Outcome) {
		return func(o *sandbox.Outcome) { o.Memory.PerProcess, o.Memory.Data = true, n }
	}
	large := func(o *sandbox.Outcome) { o.Activity.RefusedMemory = 600 * mib }
	failed := func(o *sandbox.Outcome) { o.Memory.Failed = true }
	refused := func(o *sandbox.Outcome) { o.Refused = 2 }
	reason := func(r sandbox.Reason) func(*sandbox.Outcome) { return func(o *sandbox.Outcome) { o.Reason = r } }
	type way struct {
		name   string
		code   int
		signal syscall.Signal
		reply  python.Reply
	}
	exception := func(kind, message string, errno syscall.Errno) way {
		return way{kind, 1, 0, python.Reply{Kind: "error", Type: kind, Error: kind + ": " + message, Memory: kind == "MemoryError", Errno: int(errno)}}
	}
	var (
		handled  = way{"handled", 0, 0, python.Reply{Kind: "value", Value: []byte("1")}}
		other    = exception("ValueError", "x", 0)
		child    = exception("CalledProcessError", "died with <Signals.SIGXFSZ: 25>", 0)
		noMemory = exception("MemoryError", "", 0)
		enomem   = exception("OSError", "[Errno 12]", syscall.ENOMEM)
		thread   = exception("RuntimeError", "can't start new thread", 0)
		eagain   = exception("BlockingIOError", "[Errno 11]", syscall.EAGAIN)
		efbig    = exception("OSError", "[Errno 27]", syscall.EFBIG)
		enospc   = exception("OSError", "[Errno 28]", syscall.ENOSPC)
		segv     = way{"SIGSEGV", 0, syscall.SIGSEGV, python.Reply{}}
		abort    = way{"SIGABRT", 0, syscall.SIGABRT, python.Reply{}}
		bus      = way{"SIGBUS", 0, syscall.SIGBUS, python.Reply{}}
		kill     = way{"SIGKILL", 0, syscall.SIGKILL, python.Reply{}}
		exits    = way{"exit 3", 3, 0, python.Reply{Kind: "exit"}}
	)
	plenty, near := held(6*mib), held(250*mib)
	ok, failure, exit, signal := wire.StatusOK, wire.StatusError, wire.StatusExit, wire.StatusSignal
	memory, process, disk := wire.StatusMemoryLimit, wire.StatusProcessLimit, wire.StatusDiskLimit
	tests := []struct {
		name string
		out  sandbox.Outcome
		more Evidence // Contents, Cut and Full
		ends []way
		want wire.Status
		hint string // a part of the hint
	}{
		{"memory in plenty", o(plenty), Evidence{}, []way{handled}, ok, ""},
		{"memory in plenty", o(plenty), Evidence{}, []way{noMemory, enomem}, failure, "memory_mb = 256 was not used up, at most 6 MB"},
		{"memory in plenty", o(plenty), Evidence{}, []way{other, thread}, failure, ""},
		{"memory in plenty", o(plenty), Evidence{}, []way{segv, abort, bus, kill}, signal, ""},
		{"cache up to the limit", o(cache(256 * mib)), Evidence{}, []way{noMemory}, failure, "memory_mb = 256 was not used up"},
		{"cache up to the limit", o(cache(256 * mib)), Evidence{}, []way{segv, abort, bus}, signal, ""},
		{"memory used up", o(near), Evidence{}, []way{handled}, ok, ""},
		{"memory used up", o(near), Evidence{}, []way{noMemory, enomem, thread, eagain, segv, abort, bus}, memory, ""},
		{"memory used up", o(near), Evidence{}, []way{other, child, efbig}, failure, "memory_mb = 256 was nearly used up (250 MB)"},
		{"memory used up", o(near), Evidence{}, []way{kill}, signal, "memory_mb = 256 was nearly used up"},
		{"memory used up", o(near), Evidence{}, []way{exits}, exit, "memory_mb = 256 was nearly used up"},
		{"a refused charge", o(plenty, failed), Evidence{}, []way{handled}, ok, ""},
		{"a refused charge", o(plenty, failed), Evidence{}, []way{noMemory, enomem, segv, abort, bus}, memory, ""},
		{"an out-of-memory kill", o(near, reason(sandbox.MemoryLimit)), Evidence{}, []way{handled, other, noMemory, kill, exits}, memory, ""},
		{"each process by itself, in plenty", o(data(9 * mib)), Evidence{}, []way{handled}, ok, ""},
		{"each process by itself, in plenty", o(data(9 * mib)), Evidence{}, []way{noMemory, enomem, thread, eagain}, failure, "memory_mb = 256 limits the private memory of each process here (RLIMIT_DATA)"},
		{"each process by itself, in plenty", o(data(9 * mib)), Evidence{}, []way{segv, abort, bus}, signal, "memory_mb = 256 limits"},
		{"each process by itself, used up", o(data(249 * mib)), Evidence{}, []way{noMemory, enomem, thread, eagain, segv, abort, bus}, memory, ""},
		{"each process by itself, used up", o(data(249 * mib)), Evidence{}, []way{handled}, ok, ""},
		{"each process by itself, shared memory used up", o(data(9*mib), held(250*mib)), Evidence{}, []way{bus}, memory, ""},
		{"each process by itself, shared memory used up", o(data(9*mib), held(250*mib)), Evidence{}, []way{segv, abort}, signal, "memory_mb = 256 limits"},
		{"each process by itself, all together more", o(data(9*mib), held(900*mib)), Evidence{}, []way{noMemory}, failure, "memory_mb = 256 limits"},
		{"a large piece refused", o(data(9*mib), large), Evidence{}, []way{handled}, ok, ""},
		{"a large piece refused", o(data(9*mib), large), Evidence{}, []way{noMemory, enomem, segv, abort}, memory, ""},
		{"a time-out, a large piece refused", o(data(9*mib), large, reason(sandbox.WallLimit)), Evidence{}, []way{kill}, wire.StatusTimeout, "memory_mb = 256 has refused a process what would have made it 600 MB"},
		{"a time-out, memory used up", o(near, reason(sandbox.WallLimit)), Evidence{}, []way{kill}, wire.StatusTimeout, "memory_mb = 256 was nearly used up"},
		{"a time-out, each process by itself", o(data(9*mib), reason(sandbox.WallLimit)), Evidence{}, []way{kill}, wire.StatusTimeout, "memory_mb = 256 limits"},
		{"a time-out of the CPU, each process by itself", o(data(9*mib), reason(sandbox.CPULimit)), Evidence{}, []way{kill}, wire.StatusCPULimit, "memory_mb = 256 limits"},
		{"an idle time-out, each process by itself", o(data(9*mib), reason(sandbox.IdleLimit)), Evidence{}, []way{kill}, wire.StatusIdleTimeout, "memory_mb = 256 limits"},

		{"processes refused", o(plenty, refused), Evidence{}, []way{handled}, ok, ""},
		{"processes refused", o(plenty, refused), Evidence{}, []way{thread, eagain}, process, ""},
		{"processes refused", o(plenty, refused), Evidence{}, []way{other, child}, failure, ""},
		{"processes refused", o(plenty, refused), Evidence{}, []way{exits}, exit, ""},
		{"too many processes", o(reason(sandbox.ProcessLimit)), Evidence{}, []way{handled, other, kill}, process, ""},

		{"processor time nearly used up", o(func(o *sandbox.Outcome) { o.Usage.CPU = 3500 * time.Millisecond }), Evidence{}, []way{handled}, ok, ""},
		{"processor time nearly used up", o(func(o *sandbox.Outcome) { o.Usage.CPU = 3500 * time.Millisecond }), Evidence{}, []way{child}, failure, "cpu_seconds = 4 ends any process"},
		{"processor time in plenty", o(func(o *sandbox.Outcome) { o.Usage.CPU = time.Second }), Evidence{}, []way{child}, failure, ""},
		{"processor time used up", o(reason(sandbox.CPULimit)), Evidence{}, []way{handled, child, kill}, wire.StatusCPULimit, ""},

		{"no file at the limit", o(), Evidence{}, []way{efbig}, failure, "file_mb = 16"},
		{"a large file", o(), Evidence{Full: "big"}, []way{handled}, ok, ""},
		{"a large file", o(), Evidence{Full: "big"}, []way{efbig}, disk, ""},
		{"a large file", o(), Evidence{Full: "big"}, []way{other, child}, failure, ""},
		{"a file cut", o(), Evidence{Cut: "big", Full: "big"}, []way{handled, efbig}, disk, ""},
		{"a file cut", o(), Evidence{Cut: "big", Full: "big"}, []way{other, child}, failure, "file_mb = 16 has kept a file from growing: big"},
		{"a file cut", o(), Evidence{Cut: "big", Full: "big"}, []way{exits}, exit, ""},
		{"a program ended at the file size", o(reason(sandbox.FileSizeLimit)), Evidence{}, []way{kill}, disk, ""},
		{"a directory in its limit", o(), Evidence{Contents: sandbox.Contents{Bytes: mib}}, []way{enospc}, failure, "disk_mb = 32"},
		{"a directory over its limit", o(), Evidence{Contents: sandbox.Contents{Bytes: 40 * mib}}, []way{handled, enospc, other, exits}, disk, ""},
		{"a directory over its limit, seen while it ran", o(reason(sandbox.DiskLimit)), Evidence{}, []way{handled, other, kill}, disk, ""},
	}
	for _, tt := range tests {
		for _, end := range tt.ends {
			t.Run(tt.name+", "+end.name, func(t *testing.T) {
				t.Parallel()
				e := tt.more
				e.Outcome, e.Started, e.Reply = tt.out, true, end.reply
				e.Outcome.ExitCode, e.Outcome.Signal = end.code, end.signal
				if end.reply.Kind == "" {
					e.ReplyErr = python.ErrNoReply
				}
				got := Judge(e, judged)
				if got.Status != tt.want || !strings.Contains(words(got.Failure), tt.hint) {
					t.Errorf("%s %s, want %s, %s", got.Status, words(got.Failure), tt.want, tt.hint)
				}
				if tt.hint == "" && got.Failure != nil && got.Failure.Hint != tt.want.Hint() {
					t.Errorf("hint %q, and nothing tells of another limit", got.Failure.Hint)
				}
			})
		}
	}
}

// words writes a failure and its limit as text.
func words(f *wire.Failure) string {
	if f == nil {
		return "no failure"
	}
	if f.Limit == nil {
		return fmt.Sprintf("%+v", *f)
	}
	return fmt.Sprintf("%+v %+v", *f, *f.Limit)
}

// Every combination of an end and a reply has a status. The status is never ok if the kernel reports a
// failure.
func TestJudgeAll(t *testing.T) {
	t.Parallel()
	replies := []python.Reply{{Kind: "value"}, {Kind: "exit"}, {Kind: "error", Error: "E"}, {Kind: "error", Error: "E", Memory: true}, {Kind: "error", Error: "E", Syntax: true},
		{Kind: "error", Error: "E", Errno: int(syscall.EFBIG)}, {Kind: "too_large"}, {}}
	for _, reason := range declaredReasons(t) {
		for _, signal := range []syscall.Signal{0, syscall.SIGKILL} {
			for _, code := range []int{0, 1, 2, 125, 255} {
				for _, started := range []bool{true, false} {
					for i := range 2 * len(replies) {
						e := Evidence{Outcome: sandbox.Outcome{Reason: reason, Signal: signal, ExitCode: code}, Started: started, Reply: replies[i/2]}
						if i%2 == 1 {
							e.ReplyErr = python.ErrNoReply
						}
						for _, limits := range []wire.Limits{judged, {}} {
							v := Judge(e, limits)
							if v.Status.Meaning() == "" || (v.Status == wire.StatusOK) != (v.Failure == nil) {
								t.Fatalf("%+v: %s %+v", e, v.Status, v.Failure)
							}
							clean := reason == sandbox.Finished && signal == 0 && code == 0 && started
							if v.Status == wire.StatusOK && !clean || v.Failure != nil && (v.Failure.Message == "" || v.Failure.Code == "" || v.Failure.Retryable) {
								t.Fatalf("%+v: %s %+v", e, v.Status, v.Failure)
							}
						}
					}
				}
			}
		}
	}
}

// declaredReasons reads the reasons for an end from the source of package sandbox. Judge must know each
// of them.
func declaredReasons(t *testing.T) (list []sandbox.Reason) {
	t.Helper()
	file, err := goparser.ParseFile(token.NewFileSet(), "../../../sandbox/spec.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		for _, s := range block.Specs {
			spec := s.(*ast.ValueSpec)
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, sandbox.Reason(text))
			}
		}
	}
	if len(list) == 0 {
		t.Fatal("no reasons in ../../../sandbox/spec.go")
	}
	return list
}
