package launch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// How long a launcher removes what its own run has left: before the result, and after it. A later run goes on with what takes longer.
const (
	discardTime = time.Second
	clearTime   = 2 * time.Second
)

// A run is one job under way. What it has acquired is in held; the other fields are what its steps hand to each other, each set by one of
// them.
type run struct {
	plan Plan
	held holdings

	open    []string         // of makeOwn: paths of py3run's own that the code could make
	workdir *sandbox.Workdir // of makeDirectory
	lease   *warm.Lease      // of startWorker: the worker that runs; nil: the interpreter is our own child
	without int              // likewise: how much was held before it
	session *python.Session  // of startWorker or startOwn, as the next two
	running *sandbox.Running
	outputs *outputs
	ended   bool               // of attend: the program and all that it has started are gone
	record  *recording         // of recordStart; nil: the start record is not in the log
	left    *sandbox.Leftovers // of the working directory, to be removed after the result; nil: none
}

// execute makes the plan, carries it out and gathers what was learned.
func (r *run) execute() Evidence {
	var early Evidence
	var done bool
	if r.plan, early, done = prepare(r.plan); done {
		return early
	}
	r.reach("planned")
	// The record is written and made durable while Python starts, which takes many times as long; the gate opens after it.
	failed := r.start()
	r.reach("started")
	warnings := absent(r.plan.Job.Config)
	record, more, err := recordStart(r.plan)
	r.record = record
	warnings = append(warnings, more...)
	r.reach("recorded")
	switch {
	case err != nil && r.plan.Job.Config.Security.Audit.OnFailure == "refuse":
		return Evidence{Unrecorded: err, Warnings: warnings}
	case err != nil:
		warnings = append(warnings, wire.Warning{Code: "audit_unavailable", Message: "this run is not in the audit log: " + err.Error()})
	}
	if failed != nil {
		return Evidence{Setup: failed, Warnings: warnings}
	}
	outcome := r.attend()
	if r.lease != nil && !outcome.Began && outcome.Reason == sandbox.Finished { // the worker died before it had the code
		r.dropWorker()
		if err := r.startOwn(); err != nil {
			return Evidence{Setup: err, Warnings: warnings}
		}
		outcome = r.attend()
	}
	r.reach("ended")
	e := r.collect(outcome)
	e.Warnings = warnings
	return e
}

// conclude makes the answer from what was learned. The end record is written while the directories are removed: neither needs the other.
func (r *run) conclude(e Evidence) Answer {
	verdict := Judge(e, r.plan.Limits)
	result := result(r.plan, e, verdict)
	r.reach("judged")
	released := make(chan []error, 1)
	go func() { released <- r.held.release(0) }()
	receipt, warnings := r.recordEnd(e, result)
	for _, err := range <-released {
		warnings = append(warnings, wire.Warning{Code: "cleanup_failed", Message: err.Error()})
	}
	answer := Answer{Result: closed(result, receipt, warnings), Sweep: func() error { return r.sweep(result.Isolation) }}
	if receipt != nil {
		answer.AuditLine = receipt.View(auditLineMost)
	}
	return answer
}

// reach tells a test how far the run has come.
func (r *run) reach(step string) {
	if r.plan.Job.testOnlyReached != nil {
		r.plan.Job.testOnlyReached(step)
	}
}

// start makes the directories and the code's file, and starts the program: in a worker of a template, where one is to be had, or as our child.
func (r *run) start() (err error) {
	asked := r.askForWorker()
	if r.plan.Job.Request.Command.RunsCode() {
		facts := r.plan.Facts
		r.open = r.plan.makeOwn(env(r.plan.Job.Environ, "HOME"))
		if facts.Root == "" {
			notePlace(facts.StateDir, r.plan.Dir.Root, knownPlaces(facts.StateDir))
		}
	}
	if err = r.makeDirectory(); err != nil {
		if asked != nil {
			asked.Close()
		}
		return err
	}
	if r.startWorker(asked) {
		return nil
	}
	return r.startOwn()
}

// makeDirectory makes the working directory, with the code beside it. It may be half made when there is an error: then it is removed as well.
func (r *run) makeDirectory() error {
	workdir, err := r.plan.directory(r.plan.Python.Code)
	if workdir == nil {
		return err
	}
	r.workdir = workdir
	r.held.add(func() error {
		if !r.plan.Job.Config.Security.Isolation.CleanupOnExit {
			return workdir.Close()
		}
		left, err := workdir.Discard(discardTime)
		r.left = left
		r.plan.removeParents()
		return err
	})
	return err
}

// directory makes the working directory, with code in its file if the plan has one. It may be half made when there is an error: then it is to
// be removed as well.
func (p Plan) directory(code []byte) (*sandbox.Workdir, error) {
	w, err := sandbox.MakeWorkdir(p.Dir)
	if err != nil {
		return nil, err
	}
	if p.CodeFile != "" {
		err = w.AddFile(codeSuffix, code)
	}
	if err == nil && p.Spec.RunAs != nil {
		err = w.Chown(*p.Spec.RunAs)
	}
	return w, err
}

// removeParents removes what of the working directory's path was only this run's: the name of another makes other parents.
func (p Plan) removeParents() {
	id := shortID(p.RunID)
	for parent := filepath.Dir(p.Dir.Path); strings.Contains(parent, id) && unix.Rmdir(parent) == nil; parent = filepath.Dir(parent) {
	}
}

// startOwn starts an interpreter for this run.
func (r *run) startOwn() error {
	spec := r.plan.Spec
	session, err := python.Open(r.plan.Interpreter, r.plan.Python, spec.FirstFile)
	if err != nil {
		return err
	}
	r.hold(session)
	spec.Args = append([]string{spec.Path}, session.Args()...)
	return r.startBy(spec, sandbox.OwnChild)
}

// hold takes over a session.
func (r *run) hold(session *python.Session) {
	r.session = session
	r.held.add(func() error { session.Close(); return nil })
}

// startBy starts the program with its streams, and takes it over.
func (r *run) startBy(spec sandbox.Spec, by sandbox.Backend) error {
	stdin, err := r.stdin()
	defer stdin.Close()
	if err != nil {
		return err
	}
	r.outputs = newOutputs(r.plan)
	stdio := sandbox.IO{Stdin: stdin, Workdir: r.workdir, Files: r.session.Files()}
	if live := r.plan.Job.Live; live != nil {
		stdio.Stdin = live.Stdin
	}
	stdio.Stdout, stdio.Stderr = r.outputs.writers()
	running, err := sandbox.Start(spec, stdio, by)
	r.session.Started()
	if err != nil {
		return err
	}
	r.running, r.ended = running, false
	lease := r.lease
	r.held.add(func() error {
		if !r.ended {
			running.Kill()
			running.Wait(nil, nil)
		}
		if lease != nil && lease.Alive() { // its template removes the group
			return nil
		}
		return running.RemoveGroup()
	})
	return nil
}

// stdin is what the request gives the program to read. It is the caller's to close when the program has it, and nil where there is nothing.
func (r *run) stdin() (*os.File, error) {
	if text := r.plan.Job.Request.Stdin; r.plan.Job.Live == nil && text != nil && *text != "" {
		return python.Input(*text)
	}
	return nil, nil
}

// attend opens the gate and waits for the end.
func (r *run) attend() sandbox.Outcome {
	r.running.Release() // an error is in the outcome, too
	workdir, most := r.workdir, r.plan.Spec.Limits.Disk
	outcome := r.running.Wait(r.plan.Job.Signals, func() int64 { return workdir.Used(most) })
	r.ended = true
	r.outputs.leave(outcome.Undelivered)
	return outcome
}

// sweep looks after what killed launchers have left: directories, groups, and runs without an end record. A template that is wanted and was
// not there is started for the next run.
func (r *run) sweep(isolation *wire.Isolation) (err error) {
	if r.plan.Spec.Path == "" { // there was no plan, so there is nothing
		return nil
	}
	if setup, wanted := r.plan.template(); wanted && r.lease == nil {
		warm.Start(setup, false) // what fails is told by py3runctl warm status
	}
	if isolation != nil && isolation.Method == string(sandbox.Namespace) {
		r.plan.Interpreter.Keep()
	}
	err = sandbox.Sweep(r.plan.Dir.Root)
	if r.record != nil {
		err = errors.Join(err, r.record.log.Recover(), r.record.log.Close())
		r.record = nil
	}
	if r.left != nil {
		err = errors.Join(err, r.left.Clear(clearTime))
		r.left = nil
		r.plan.removeParents()
	}
	return err
}
