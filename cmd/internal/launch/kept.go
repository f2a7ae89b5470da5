package launch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// A kept is an interpreter that serves the jobs of one identity. Its run is not one of them: it has
// the plan with which the interpreter was started, and owns what belongs to it.
type kept struct {
	run
	lease   *warm.Lease // the worker that it is; nil: it is our own child
	session *python.Kept
	program *sandbox.Resident
	code    *codeFiles
	outputs *outputs // of the first job, which get what is printed at the start, too; then nil
	first   string   // run id of the job for which it was started
	ended   bool     // it and everything that it started are gone
	fresh   bool     // the next job gets new globals
}

// serve does a job in the interpreter of its identity. The place is locked.
func (k *Keeper) serve(s *slot, r *run) (answer Answer) {
	defer func() {
		if fault := recover(); fault != nil {
			k.discard(s, "py3run had a fault")
			answer = r.conclude(Evidence{Fault: fault})
		}
	}()
	e := k.execute(s, r)
	for _, err := range k.failures() {
		e.Warnings = append(e.Warnings, wire.Warning{Code: "cleanup_failed", Message: err.Error()})
	}
	answer = r.conclude(e)
	if s.kept != nil && s.kept.first != r.plan.RunID { // who has started it has swept
		answer.Sweep, answer.Kept = r.closeLog, true
	}
	return answer
}

// closeLog is what is left to do after a job in an interpreter that was there already.
func (r *run) closeLog() (err error) {
	err = errors.Join(r.held.release(0)...)
	if r.record != nil {
		err = errors.Join(err, r.recordLimits(r.record.log.Log), r.record.log.close())
		r.record = nil
	}
	return err
}

// execute does a job and gathers what it learned.
func (k *Keeper) execute(s *slot, r *run) Evidence {
	job := r.plan.Job
	limits, warnings := limitsInForce(job)
	r.plan.Limits, r.plan.Warnings = limits, warnings // also of a job that is refused
	if s.kept != nil {
		if refused := tooManyFiles(job.Request.Files, limits); refused != nil { // else prepare looks
			return Evidence{Refused: refused}
		}
		if why := s.kept.unfit(job.Config.Security, limits); why != "" {
			k.discard(s, why)
		}
	}
	var setup error
	if s.kept != nil {
		r.plan = s.kept.next(r.plan, limits, warnings)
	} else {
		var early Evidence
		var done bool
		if early, setup, done = k.start(s, r); done {
			return early
		}
	}
	r.reach("started")
	more, err := r.mayBegin()
	if err != nil {
		return Evidence{Unrecorded: err, Warnings: more}
	}
	e := Evidence{Setup: setup}
	if setup == nil {
		e = k.attend(s, r)
	}
	e.Warnings = append(more, e.Warnings...)
	return e
}

// unfit returns why the interpreter cannot do a job under these limits; empty: it can.
func (k *kept) unfit(security config.Security, limits wire.Limits) string {
	if !k.program.Alive() {
		return "the interpreter had ended between two requests"
	}
	for _, name := range []string{"memory_mb", "processes", "file_mb"} {
		was, _ := k.plan.Limits.Get(name)
		if is, _ := limits.Get(name); is != was {
			return fmt.Sprintf("an interpreter gets %s at its start: it was %s, and this request has %s", name, number(was), number(is))
		}
	}
	if !sameStart(k.plan.Job.Config.Security, security) {
		return "an interpreter gets its protections at its start, and the policy gives this request others"
	}
	return ""
}

// sameStart reports whether an interpreter that was started under one configuration can do a job under
// another. That depends on what an interpreter gets at its start; the limits that a request has, too, are
// compared by themselves, and the rest is py3run's own.
func sameStart(was, is config.Security) bool {
	return was.MaxOpenFiles == is.MaxOpenFiles && was.MaxCPUs == is.MaxCPUs && was.MaxReadMBPerSecond == is.MaxReadMBPerSecond &&
		was.MaxWriteMBPerSecond == is.MaxWriteMBPerSecond && was.Audit.Native == is.Audit.Native && was.Audit.Files == is.Audit.Files && was.Audit.Reads == is.Audit.Reads &&
		sameIsolation(was.Isolation, is.Isolation)
}

func sameIsolation(was, is config.Isolation) bool {
	return was.Method == is.Method && was.OnMissing == is.OnMissing && was.Network == is.Network && was.WorkingDir == is.WorkingDir && was.CleanupOnExit == is.CleanupOnExit &&
		slices.Equal(was.Hide, is.Hide) && slices.Equal(was.ReadDirs, is.ReadDirs) && slices.Equal(was.WriteDirs, is.WriteDirs) && was.Dev == is.Dev && was.Seccomp == is.Seccomp &&
		was.NoNewPrivileges == is.NoNewPrivileges && was.Shm == is.Shm && was.RunAs == is.RunAs && slices.Equal(was.KeepCapabilities, is.KeepCapabilities) &&
		was.CgroupParent == is.CgroupParent && was.IDMap == is.IDMap && slices.Equal(was.EnvKeep, is.EnvKeep)
}

// start makes the plan of a job, and starts an interpreter for its identity. done is as in prepare.
func (k *Keeper) start(s *slot, r *run) (early Evidence, setup error, done bool) {
	if r.plan, early, done = prepare(r.plan); done {
		if r.plan.Job.Series == nil {
			r.plan.Interpreter.Close()
		}
		return early, nil, true
	}
	s.kept, setup = startKept(r.plan)
	r.cold = s.kept == nil || s.kept.cold
	return early, setup, false
}

// next makes the plan of a further job.
func (k *kept) next(p Plan, limits wire.Limits, warnings []wire.Warning) Plan {
	next := k.plan
	next.Job, next.RunID, next.Limits, next.Warnings = p.Job, p.RunID, limits, warnings
	next.Grant, next.Rule, next.Stored, next.Policy = p.Grant, p.Rule, p.Stored, p.Policy
	l := &next.Spec.Limits
	l.Wall, l.CPU, l.Idle, l.Disk = seconds(limits.TimeoutSeconds), seconds(limits.CPUSeconds), seconds(limits.IdleSeconds), megabytes(limits.DiskMB)
	at := place(next.Job, next.Dir.Path)
	at.file = k.code.path(codeOf(next.Job))
	at.argv0 = at.file
	next.Python = next.pythonJob(at)
	return next
}

// attend lets the interpreter do the job. If it dies before it begins, another one does it.
func (k *Keeper) attend(s *slot, r *run) Evidence {
	outputs := s.kept.outputsFor(r.plan)
	out, note, err := s.kept.do(r, outputs)
	if _, began := s.kept.session.CodeStarted(); err != nil && !began && out.Reason == sandbox.Finished && (s.kept.first != r.plan.RunID || s.kept.lease != nil) {
		k.discard(s, "the interpreter has ended between two requests")
		early, setup, done := k.start(s, r)
		if done {
			return early
		}
		if setup != nil {
			return Evidence{Setup: setup}
		}
		outputs = s.kept.outputsFor(r.plan)
		out, note, err = s.kept.do(r, outputs)
	}
	r.reach("ended")
	failed := new(sandbox.StepError)
	if errors.As(err, &failed) {
		if failed.Step != "put" { // nothing of the request has begun
			k.discard(s, failed.Error())
		}
		return Evidence{Setup: failed}
	}
	s.kept.fresh = false
	e := s.kept.collect(r, out, outputs)
	if note > 0 {
		e.Warnings = append(e.Warnings, wire.Warning{Code: "late_output", Message: fmt.Sprintf("threads of earlier requests have printed during this one, which is dropped: %s, as the interpreter counts them", times(int64(note), "character", "characters"))})
	}
	if why := k.found(s.identity); why != "" {
		e.Warnings = append(e.Warnings, wire.Warning{Code: "state_lost", Message: "the state that earlier requests of this user left is lost: " + why})
	}
	if err != nil {
		k.discard(s, "an earlier request has ended the interpreter")
		e.Warnings = append(e.Warnings, wire.Warning{Code: "state_lost", Message: "this request ended the interpreter, and its state is lost: " + cause(out, err)})
	} else {
		e.Contents.Files, e.Contents.Names = 0, nil // they stay
	}
	return e
}

// outputsFor returns what receives the output of a job.
func (k *kept) outputsFor(p Plan) (o *outputs) {
	if o, k.outputs = k.outputs, nil; o == nil {
		o = newOutputs(p)
	}
	return o
}

// cause says why an interpreter has ended with a request.
func cause(out sandbox.Outcome, err error) string {
	switch {
	case !errors.Is(err, sandbox.ErrOver):
		return err.Error()
	case out.Fault != nil:
		return "py3run had a fault"
	case out.Reason == sandbox.Cancelled:
		return "the request was cancelled"
	case out.Reason != sandbox.Finished:
		return "the request reached a limit"
	}
	return "the code ended the process"
}

// do lets the interpreter do a job.
func (k *kept) do(r *run, outputs *outputs) (out sandbox.Outcome, note uint32, err error) {
	p := r.plan
	if err := put(p.Job.Request.Files, p.Spec.RunAs, k.workdir.Replace); err != nil {
		return out, 0, err
	}
	job := p.Python
	job.Fresh = k.fresh
	if text := p.Job.Request.Stdin; text != nil {
		job.Stdin = *text
	}
	if err := k.code.put(job.Code); err != nil {
		return out, 0, &sandbox.StepError{Step: "write", Object: job.Path, Err: err}
	}
	files, err := k.session.Begin(job)
	if err != nil {
		return out, 0, &sandbox.StepError{Step: "shared memory", Err: err}
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	l := p.Spec.Limits
	period := sandbox.Period{Wall: l.Wall, CPU: l.CPU, Idle: l.Idle, Disk: l.Disk, Files: files}
	period.Stdout, period.Stderr = outputs.writers()
	workdir := k.workdir
	k.program.Heed(r.heed(k.program))
	out, note, err = k.program.Attend(period, p.Job.Signals, func() int64 { return workdir.Used(l.Disk) })
	k.ended = err != nil
	outputs.leave(out.Undelivered)
	return out, note, err
}

// collect gathers the evidence of a job that is over.
func (k *kept) collect(r *run, o sandbox.Outcome, outputs *outputs) Evidence {
	job, limits := r.plan.Job, r.plan.Limits
	e := Evidence{Outcome: o, Started: o.Began, Warm: k.lease != nil, Unpinned: k.unpinned, Cancelled: r.cancelled}
	if began, noted := k.session.CodeStarted(); noted {
		e.SetupFor = max(0, time.Since(job.Began)-(monotonic()-began))
	}
	e.Reply, e.ReplyErr = k.session.Reply()
	e.Events = k.session.Events(job.Config.Python.FlagImports, eventsOf(o.Activity))
	if e.Started {
		e.Handed = r.gather(k.workdir)
	}
	e.Contents = k.workdir.Measure(false, megabytes(limits.FileMB)) // after gather: what is handed back is not lost
	e.Cut, e.Full = atSizeLimit(megabytes(limits.FileMB), job.Began, e.Contents, e.Events)
	e.Printed, e.Lost = outputs.printed(), outputs.lost()
	e.Streams = outputs.digestsOf(job.Config.Security.Audit.LogOutput == "head")
	if !job.Config.Security.Isolation.CleanupOnExit {
		e.Workdir = k.workdir.Path()
	}
	return e
}
