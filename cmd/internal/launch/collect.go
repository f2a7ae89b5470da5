package launch

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// Evidence is everything that was learned of a run, gathered once. Judge, result and endRecord are made from it and from the plan, and ask
// nobody else.
type Evidence struct {
	// Why nothing of the user's ran; at most one is set, and the rest is empty then, but for Warnings.
	Direct     *Direct  // py3run itself had the answer
	Refused    *refusal // there was no plan
	Unrecorded error    // the start record could not be written, and without it nothing runs
	Setup      error    // a step of the set-up failed
	Fault      any      // a panic of py3run's own; the code may have run

	// The kernel's, through the launcher.
	Outcome  sandbox.Outcome
	Started  bool             // the user's code began: Python has read the byte at its gate
	Contents sandbox.Contents // of the working directory at the end
	Cut      string           // a file that ends exactly at the size limit, or was opened to be appended to and could not grow
	Full     string           // a file of at least that size that was opened for writing: it may have refused a write

	// Of the program's streams, as they went through the launcher.
	Printed  wire.Captured    // without the texts where they went straight through
	Overflow int64            // size of a stream that was to go straight through and of which the output limit cut the rest; 0: none was
	Lost     []error          // why what went straight through did not arrive
	Streams  [2]*audit.Stream // for the record; nil where it has the sizes only

	// The child's own word: data, never a reason to believe it against the kernel.
	Reply    python.Reply
	ReplyErr error
	Events   wire.Events   // the hooks' and the kernel's together
	SetupFor time.Duration // from the request to the first instruction of the code; 0: that never came

	// The launcher's own.
	Warm     bool     // the interpreter was a template's worker
	Open     []string // paths of py3run's own that do not exist and could not be made: the code could make them
	Workdir  string   // the working directory, where it was kept
	Warnings []wire.Warning
}

// Direct is the answer of a command for which nothing is run.
type Direct struct {
	Value any
	Type  string // the name of its Python type
}

// ran tells whether a program was started and has ended, so that there is something to tell of it.
func (e Evidence) ran() bool {
	return e.Direct == nil && e.Refused == nil && e.Unrecorded == nil && e.Setup == nil && e.Fault == nil
}

// collect gathers what is to be learned from a run that has ended. The session's memory goes with it.
func (r *run) collect(o sandbox.Outcome) Evidence {
	job, limits := r.plan.Job, r.plan.Limits
	e := Evidence{Outcome: o, Started: o.Began, Warm: r.lease != nil, Open: r.open}
	began, noted := r.session.CodeStarted()
	if noted {
		e.SetupFor = max(0, time.Since(job.Began)-(monotonic()-began))
	}
	e.Reply, e.ReplyErr = r.session.Reply()
	e.Events = r.session.Events(job.Config.Python.FlagImports, eventsOf(o.Activity))
	r.session.Close()
	e.Contents = r.workdir.Measure(true, megabytes(limits.FileMB))
	e.Cut, e.Full = atSizeLimit(megabytes(limits.FileMB), job.Began, e.Contents, e.Events)
	e.Printed, e.Overflow, e.Lost = r.outputs.printed(), r.outputs.overflow(), r.outputs.lost()
	e.Streams = r.outputs.streams(job.Config.Security.Audit.LogOutput == "head")
	if !job.Config.Security.Isolation.CleanupOnExit {
		e.Workdir = r.workdir.Path()
	}
	return e
}

// eventsOf is what the kernel was asked by the processes of a run, as events.
func eventsOf(t sandbox.Activity) wire.Events {
	e := wire.Events{Dropped: t.Dropped, FilesWritten: t.Files}
	for _, p := range t.Connections {
		e.Connections = append(e.Connections, wire.Connection{Host: p.Host, Port: p.Port, Program: p.Program, Count: p.Count})
	}
	for _, p := range t.Binds {
		e.Binds = append(e.Binds, wire.Connection{Host: p.Host, Port: p.Port, Program: p.Program, Count: p.Count})
	}
	for _, x := range t.Executions {
		e.Processes = append(e.Processes, wire.Process{Program: x.Program, Args: x.Args, Count: x.Count, ArgsDropped: x.ArgsDropped, ArgsCut: x.ArgsCut})
	}
	return e
}

// atSizeLimit looks for traces of the limit on a file's size. The kernel leaves only one: the size of the file.
//
// cut is a file that lost what was written to it, by all appearances: buffered output that a limit refuses when a file is dropped is lost
// without an exception. It ends exactly at the limit, with data, and was written to by this run; or it was opened to be appended to and is at
// the limit or above, so nothing could be added. That may have been handled, or not have been tried, which leaves the same trace. A file that
// is read, or has become shorter, or is gone at the end, is none.
//
// full is any file of at least the limit's size that was opened for writing: it bears out an exception that says the file is too large.
func atSizeLimit(limit int64, began time.Time, c sandbox.Contents, e wire.Events) (cut, full string) {
	if limit == 0 {
		return "", ""
	}
	size := func(path string, stat func(string) (os.FileInfo, error)) (bytes int64, changed time.Time) {
		info, err := stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return 0, changed
		}
		return info.Size(), info.ModTime()
	}
	cut = c.AtLimit
	for _, path := range e.FilesWritten {
		if bytes, changed := size(path, os.Lstat); cut == "" && bytes == limit && changed.After(began.Add(-time.Second)) && !sandbox.EndsInHole(path, bytes) {
			cut = path
		}
		if bytes, _ := size(path, os.Stat); full == "" && bytes >= limit {
			full = path
		}
	}
	for _, path := range e.Appended {
		if bytes, _ := size(path, os.Stat); cut == "" && bytes >= limit {
			cut = path
		}
	}
	return cut, full
}

// monotonic is the time of CLOCK_MONOTONIC, which the interpreter notes the beginning of the code by.
func monotonic() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
