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

// Evidence is everything that a launcher learned about a run, gathered once. Judge, result and
// endRecord take the plan and this, and ask nobody else.
type Evidence struct {
	// Why no program was run to its end. At most one is set; then only Warnings is set besides.
	Direct     *Direct  // py3run knew the answer itself
	Refused    *refusal // there was no plan
	Unrecorded error    // the start record could not be written, and the configuration demands one
	Setup      error    // a step of the set-up failed
	Fault      any      // the value of a panic in py3run; the code may have run

	// From the kernel, through the launcher.
	Outcome  sandbox.Outcome
	Started  bool             // the code began: Python has read the byte at its gate
	Contents sandbox.Contents // the working directory at the end
	Cut      string           // a file that probably lost data at the size limit; see atSizeLimit
	Full     string           // a file of at least that size, opened for writing; see atSizeLimit

	// From the working directory, by the launcher: what the request asks to be handed back.
	Handed Handed

	// From the program's streams, which pass through the launcher.
	Printed   wire.Captured    // in `run` without the texts: those went straight through
	Uncounted bool             // in `python`: the program has the caller's own streams, and Printed is empty
	Overflow  int64            // in `run`: full size, in bytes, of a stream that the output limit cut; 0: none
	Lost      []error          // why output did not arrive
	Dropped   int64            // bytes of output that the reader of the stream did not get
	Streams   [2]*audit.Stream // for the record; nil: it has the sizes only

	// From the interpreter. This is data only: kernel evidence overrides it.
	Reply    python.Reply
	ReplyErr error
	Events   wire.Events   // from Python's hooks and from the kernel
	SetupFor time.Duration // from the request to the first instruction of the code; 0: the code never began

	// From the launcher itself.
	Cancelled *audit.Record // who wanted the run to end, besides the caller; nil: nobody
	Warm      bool          // the interpreter was a preforked worker of a template
	Unpinned  []string      // paths of py3run's own that are missing and that the code could create
	Workdir   string        // the working directory, if it was kept
	Warnings  []wire.Warning
}

// Direct is the answer to a command that py3run answers without running a program.
type Direct struct {
	Value any
	Type  string // the name of its Python type
}

// ran reports whether a program was started and has ended.
func (e Evidence) ran() bool {
	return e.Direct == nil && e.Refused == nil && e.Unrecorded == nil && e.Setup == nil && e.Fault == nil
}

// collect gathers the evidence of a run that has ended.
func (r *run) collect(p *program, o sandbox.Outcome) Evidence {
	job, limits := r.plan.Job, r.plan.Limits
	e := Evidence{Outcome: o, Started: o.Began, Warm: p.lease != nil, Unpinned: r.unpinned, Cancelled: r.cancelled}
	began, noted := p.session.CodeStarted()
	if noted {
		e.SetupFor = max(0, time.Since(job.Began)-(monotonic()-began))
	}
	e.Reply, e.ReplyErr = p.session.Reply()
	e.Events = p.session.Events(job.Config.Python.FlagImports, eventsOf(o.Activity))
	if e.Started {
		e.Handed = r.gather(r.workdir)
	}
	e.Contents = r.workdir.Measure(true, megabytes(limits.FileMB))
	e.Cut, e.Full = atSizeLimit(megabytes(limits.FileMB), job.Began, e.Contents, e.Events)
	e.Printed, e.Overflow, e.Lost = p.outputs.printed(), p.outputs.overflow(), p.outputs.lost()
	if to := job.Stream; to != nil {
		e.Dropped = to.Dropped()
	}
	e.Streams = p.outputs.digestsOf(job.Config.Security.Audit.LogOutput == "head")
	if !job.Config.Security.Isolation.CleanupOnExit {
		e.Workdir = r.workdir.Path()
	}
	return e
}

// eventsOf turns the system calls that the kernel reported into events.
func eventsOf(t sandbox.Activity) wire.Events {
	e := wire.Events{Dropped: t.Dropped, FilesWritten: t.Written, FilesDeleted: t.Removed, DirsMade: t.DirsMade, FilesRead: t.Read, FilesDropped: t.FilesDropped}
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

// atSizeLimit looks for traces of the limit on a file's size. The kernel leaves only one: the size of
// the file.
//
// cut is a file that probably lost data. Python loses buffered output without an exception when the
// limit refuses the last write. Such a file ends exactly at the limit, ends with data, and was written
// by this run. Or it was opened for appending and is at the limit or above, so nothing could be added.
// The program may also have handled the error, or have added nothing: that leaves the same trace.
// A file that was only read, has become shorter, or is gone at the end does not count.
//
// full is any file of at least the limit's size that was opened for writing. It confirms an exception
// which says that a file is too large (EFBIG).
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

// monotonic reads CLOCK_MONOTONIC. The interpreter notes with the same clock when the code begins.
func monotonic() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
