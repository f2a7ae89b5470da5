package launch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/cmd/internal/wire"
	"py3run/internal/envvar"
	"py3run/sandbox"
)

// How long a launcher spends on removing the files of its own run. A later run removes the rest.
const (
	discardTime = time.Second     // before the result
	clearTime   = 2 * time.Second // after it
)

// A run is one job in progress. held owns everything that the run has acquired.
type run struct {
	plan Plan
	held holdings
	slot *access.Slot // one of the runs that the user may have, until conclude; nil: nobody counts them

	unpinned []string           // paths of py3run's own that the code could create
	workdir  *sandbox.Workdir   // the working directory
	record   *recording         // nil: the start record is not in the log
	beside   *besideStart       // nil: the start record is not written beside the start
	left     *sandbox.Leftovers // files that sweep still has to remove; nil: none
	told     bool               // the stream knows that the code begins
	cold     bool               // no template had a worker for this run

	limits  *access.Limits   // that have due
	due     []access.Summary // refusals that are to be recorded
	trouble *access.Trouble  // with the file of limits, to be recorded; nil: none

	cancelled *audit.Record // who wants the run to end, besides the caller; nil: nobody
}

// A program is a started interpreter, with what belongs to it alone.
type program struct {
	lease   *warm.Lease // the worker that it is; nil: it is our own child
	session *python.Session
	outputs *outputs
	running *sandbox.Running
	ended   bool // it and everything that it started are gone
	before  int  // of a worker: how many things the run held before it
}

// execute makes the plan, carries it out and gathers what it learned.
func (r *run) execute() Evidence {
	var early Evidence
	var done bool
	r.plan, early, done = prepare(r.plan)
	if r.plan.Job.Series == nil { // else it is the series'
		r.held.add(func() error { r.plan.Interpreter.Close(); return nil })
	}
	if done {
		return early
	}
	r.reach("planned")
	// Python starts while we write the start record: starting takes many times as long. The code
	// cannot begin before the record is durable, because the gate is still closed.
	r.recordBeside()
	start := r.start
	if r.plan.Job.Bare != nil {
		start = r.startBare
	}
	program, failed := start()
	r.reach("started")
	if program != nil && program.lease != nil && r.beside != nil { // while the record is written
		program.running.Settle()
	}
	warnings, err := r.mayBegin()
	if err != nil {
		return Evidence{Unrecorded: err, Warnings: warnings}
	}
	if failed != nil {
		return Evidence{Setup: failed, Warnings: warnings}
	}
	if refused := r.signalled(); refused != nil {
		return Evidence{Refused: refused, Warnings: warnings}
	}
	if r.plan.Job.Bare != nil {
		return r.attendBare(program, warnings)
	}
	outcome := r.attend(program)
	if program.lease != nil && !outcome.Began && outcome.Reason == sandbox.Finished { // the worker died before it had the code
		r.held.release(program.before)
		r.cold = true
		if program, failed = r.startOwn(); failed != nil {
			return Evidence{Setup: failed, Warnings: warnings}
		}
		outcome = r.attend(program)
	}
	r.reach("ended")
	e := r.collect(program, outcome)
	e.Warnings = warnings
	return e
}

// mayBegin waits until the start record is durable. An error means that the code must not begin: there is
// no record, and the configuration demands one.
func (r *run) mayBegin() ([]wire.Warning, error) {
	warnings := absentPaths(r.plan.Job.Config)
	more, err := r.recorded()
	warnings = append(warnings, more...)
	r.reach("recorded")
	if err != nil && r.plan.Job.Config.Security.Audit.OnFailure != "refuse" {
		warnings = append(warnings, wire.Warning{Code: "audit_unavailable", Message: "this run is not in the audit log: " + err.Error()})
		err = nil
	}
	return warnings, err
}

// signalled takes a signal that came before the code begins: then it does not begin. Later ones are those
// of a run.
func (r *run) signalled() *refusal {
	select {
	case s := <-r.plan.Job.Signals:
		return cancelledBefore(s, "before the code began")
	default:
		return nil
	}
}

// conclude makes the answer. It writes the end record while another goroutine releases what the run
// acquired: neither needs the other.
func (r *run) conclude(e Evidence) Answer {
	if r.beside != nil { // after a panic it may still be under way
		r.recorded()
	}
	verdict := Judge(e, r.plan.Limits)
	result := result(r.plan, e, verdict)
	r.reach("judged")
	released := make(chan []error, 1)
	if r.plan.Job.Series == nil {
		go func() {
			failed := r.held.release(0)
			r.slot.Release()
			released <- failed
		}()
	} else { // sweep releases it: nobody waits then
		r.slot.Release() // but who has this answer may send the next request, to another bridge, too
		released <- nil
	}
	receipt, warnings := r.recordEnd(e, result)
	for _, err := range <-released {
		warnings = append(warnings, wire.Warning{Code: "cleanup_failed", Message: err.Error()})
	}
	answer := Answer{Result: withReceipt(result, receipt, warnings), Sweep: func() error { return r.sweep(result.Isolation) }}
	if receipt != nil {
		answer.AuditLine = receipt.View(auditLineMost)
	}
	return answer
}

// reach reports to a test how far the run has come.
func (r *run) reach(step string) {
	if r.plan.Job.testOnlyReached != nil {
		r.plan.Job.testOnlyReached(step)
	}
}

// start makes the directories and the code's file. Then it starts the program in a worker of a
// template if there is one, and otherwise as our own child.
func (r *run) start() (*program, error) {
	asked, taken := r.askForWorker(), false
	defer func() {
		if asked != nil && !taken {
			asked.GiveUp()
		}
	}()
	if err := r.makePlaces(); err != nil {
		return nil, err
	}
	if asked != nil {
		taken = true
		if p := r.startWorker(asked); p != nil {
			return p, nil
		}
	}
	r.cold = true
	return r.startOwn()
}

// makePlaces makes the directories of a run.
func (r *run) makePlaces() error {
	if r.plan.Job.Request.Command.RunsCode() {
		facts := r.plan.Facts
		r.unpinned = r.plan.makeOwn(envvar.Lookup(r.plan.Job.Environ, "HOME"))
		if facts.Root == "" {
			notePlace(facts.StateDir, r.plan.Dir.Root, knownPlaces(facts.StateDir))
		}
	}
	return r.makeDirectory()
}

// makeDirectory makes the working directory and, beside it, the code's file. held removes them, also
// after an error that leaves them half made.
func (r *run) makeDirectory() error {
	code := r.plan.Python.Code
	if r.plan.Unread { // Python finds lines for tracebacks and warnings in the file; it has the code from the request
		code = nil
	}
	workdir, err := r.plan.directory(code)
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

// directory makes the working directory with the files of the request and, if the plan has one, the
// file with the code. With an error it may return a directory that is half made: the caller removes
// that too.
func (p Plan) directory(code []byte) (_ *sandbox.Workdir, err error) {
	var w *sandbox.Workdir
	if p.Job.Series != nil {
		suffix := codeSuffix
		if p.CodeFile == "" {
			suffix = ""
		}
		w = p.Job.Series.directory(p.Dir, suffix)
	}
	if w == nil {
		if w, err = sandbox.MakeWorkdir(p.Dir); err != nil {
			return nil, err
		}
	}
	if p.CodeFile != "" {
		err = w.AddFile(codeSuffix, code)
	}
	if err == nil && p.Spec.RunAs != nil {
		err = w.Chown(*p.Spec.RunAs)
	}
	if err == nil {
		err = put(p.Job.Request.Files, p.Spec.RunAs, w.Put)
	}
	return w, err
}

// removeParents removes the directories above the working directory whose names contain this run's
// id: no other run uses them.
func (p Plan) removeParents() {
	id := shortID(p.RunID)
	for parent := filepath.Dir(p.Dir.Path); strings.Contains(parent, id) && unix.Rmdir(parent) == nil; parent = filepath.Dir(parent) {
	}
}

// startOwn starts an interpreter for this run, as our own child.
func (r *run) startOwn() (*program, error) {
	spec := r.plan.Spec
	session, err := python.Open(r.plan.Interpreter, r.plan.Python, spec.FirstFile)
	if err != nil {
		return nil, err
	}
	spec.Args = append([]string{spec.Path}, session.Args()...)
	p := &program{session: session}
	return p, r.startBy(p, spec, sandbox.OwnChild)
}

// startBy connects the streams and starts the program. held closes the session, ends the program if
// it still runs, and removes its control group.
func (r *run) startBy(p *program, spec sandbox.Spec, by sandbox.Backend) error {
	r.held.add(func() error { p.session.Close(); return nil })
	stdin, err := r.stdin()
	if err != nil {
		return err
	}
	defer stdin.Close() // nothing happens if there is none
	p.outputs = newOutputs(r.plan)
	stdio := sandbox.IO{Stdin: stdin, Workdir: r.workdir, Files: p.session.Files(), Alone: r.plan.Job.Alone}
	if live := r.plan.Job.Live; live != nil {
		stdio.Stdin, stdio.Terminal = live.Stdin, live.Terminal
	}
	stdio.Stdout, stdio.Stderr = p.outputs.writers()
	if to := r.plan.Job.Stream; to != nil {
		stdio.Watch, stdio.Stopping = heartbeats(r.plan.Job), to.Hurry
	}
	p.running, err = sandbox.Start(spec, stdio, by)
	p.session.Started()
	if err != nil {
		return err
	}
	r.held.add(func() error {
		if !p.ended {
			p.running.Kill()
			p.running.Wait(nil, nil)
		}
		p.running.Close()
		if p.lease != nil && p.lease.Alive() { // the template removes the group
			return nil
		}
		return p.running.RemoveGroup()
	})
	return nil
}

// stdin returns a file with the request's text for the program's standard input; nil: there is none.
// The caller closes it once the program has started.
func (r *run) stdin() (*os.File, error) {
	if text := r.plan.Job.Request.Stdin; r.plan.Job.Live == nil && text != nil && *text != "" {
		return python.Input(*text)
	}
	return nil, nil
}

// attend opens the gate and waits until the program has ended.
func (r *run) attend(p *program) sandbox.Outcome {
	if live := r.plan.Job.Live; live != nil && live.Attach != nil {
		defer live.Attach()()
	}
	r.began()
	p.running.Release() // the outcome reports an error, too
	p.running.Heed(r.heed(p.running))
	signals, workdir, most := r.plan.Job.Signals, r.workdir, r.plan.Spec.Limits.Disk
	outcome, brief := sandbox.Outcome{}, false
	if r.plan.Job.Alone || p.lease != nil {
		outcome, brief = p.running.WaitBriefly(signals, p.session.Children())
	}
	if !brief {
		if lasts := r.plan.Job.Lasts; lasts != nil {
			lasts()
		}
		p.session.Attend()
		outcome = p.running.Wait(signals, func() int64 { return workdir.Used(most) })
	}
	p.ended = true
	p.outputs.leave(outcome.Undelivered)
	return outcome
}

// sweep removes what is left of this run and, unless the job says otherwise, what killed launchers
// left: directories, control groups, and runs without an end record. If the configuration wants a
// template and none had a worker for this run, sweep starts one for the next run.
func (r *run) sweep(isolation *wire.Isolation) (err error) {
	err = errors.Join(r.held.release(0)...) // of a run of a series: else there is nothing any more
	if r.plan.Spec.Path == "" {             // the plan was not made
		return err
	}
	series := r.plan.Job.Series
	others := series == nil || series.sweepsOthers()
	keep := r.plan.Interpreter.Keep
	if series != nil {
		keep = series.keep
	} else if setup, wanted := r.plan.template(); wanted && r.cold {
		warm.Start(setup, false) // py3runctl warm status reports what fails
	}
	if isolation != nil && isolation.Method == string(sandbox.Namespace) {
		keep()
	}
	if others {
		err = errors.Join(err, sandbox.Sweep(r.plan.Dir.Root))
	}
	if r.record != nil {
		err = errors.Join(err, r.recordLimits(r.record.log.Log))
		if others {
			err = errors.Join(err, r.record.log.Recover())
		}
		err = errors.Join(err, r.record.log.close())
		r.record = nil
	}
	if r.left != nil {
		err = errors.Join(err, r.left.Clear(clearTime))
		r.left = nil
		r.plan.removeParents()
	}
	return err
}
