// Package launch is the one use case of py3run: it turns a job into a plan, carries the plan out,
// and makes a result and two audit records from what it learned. Each step makes a new value;
// no step writes into an earlier one.
//
//	Job                      job.go       request, configuration and caller
//	 │ admit ─► Plan         admit.go     who asks, and whether that user may run this; the plan begins
//	 │ prepare ─► Plan       facts.go     asks the host for the facts; Make (plan.go) is pure
//	 │ execute ─► Evidence   run.go       starts and ends the program; collect.go gathers, once
//	 │ Judge ─► Verdict      verdict.go   pure: kernel evidence overrides what the interpreter reports
//	 │ result ─► wire.Result result.go    pure
//	 │ endRecord ─► record   record.go    pure
//	 ▼ conclude ─► Answer    run.go       writes the end record, releases what the run acquired
//
// A Keeper (keep.go) does the same in interpreters that it keeps: kept.go has the steps from Plan to
// Evidence, the others are those of every run.
//
// Pure means: without a system call, so that a table can test it. The package has no state, so one
// process can have many runs at once.
package launch

import "py3run/cmd/internal/wire"

// An Answer is what Run returns.
type Answer struct {
	Result    wire.Result
	AuditLine []byte       // the end record as one line for the caller's stderr; empty: there is none
	Sweep     func() error // removes what killed launchers left; call it once, after writing Result
	Kept      bool         // it ran in an interpreter that was there already: a Series has nothing to prepare anew
}

// Run does the job and always returns a result. A panic becomes status internal. If Run has written
// a start record, it writes the end record too.
func Run(job Job) (answer Answer) {
	r := newRun(job)
	if e, done := r.admit(); done {
		return r.conclude(e)
	}
	return r.carryOut()
}

func newRun(job Job) *run { return &run{plan: Plan{Job: job, RunID: newRunID(job.Began)}} }

// carryOut does the job of a run that was admitted.
func (r *run) carryOut() (answer Answer) {
	defer func() {
		if fault := recover(); fault != nil {
			answer = r.conclude(Evidence{Fault: fault})
		}
	}()
	return r.conclude(r.execute())
}
