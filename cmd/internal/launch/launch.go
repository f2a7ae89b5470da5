// Package launch is the one use case of py3run: a job becomes a plan, the plan a run, and what was learned of the run a result and two
// audit records. Each arrow makes a new value; nothing writes into an earlier one.
//
//	Job                      job.go       request, configuration and caller
//	 │ prepare ─► Plan       facts.go     asks the host what the plan depends on; Make (plan.go) makes no system call
//	 │ execute ─► Evidence   run.go       the only step that acts; collect (collect.go) gathers what was learned, once
//	 │ Judge ─► Verdict      verdict.go   pure: kernel evidence overrides anything the interpreter reports
//	 │ result ─► wire.Result result.go    pure
//	 │ endRecord ─► record   record.go    pure
//	 ▼ conclude ─► Answer    run.go       writes the end record, and gives back what the run held
//
// A process can have many runs at once: the package has no state.
package launch

import "py3run/cmd/internal/wire"

// An Answer is the result, and the end record as a line for the caller's stderr: empty when there is none.
type Answer struct {
	Result    wire.Result
	AuditLine []byte
	Sweep     func() error // looks after what killed launchers have left; call it once, when the result is out
}

// Run does the job and always answers with a result, also for a fault of its own: a panic becomes status internal, and a run that was recorded
// as started is recorded as ended.
func Run(job Job) (answer Answer) {
	r := &run{plan: Plan{Job: job, RunID: newRunID(job.Began)}}
	defer func() {
		if fault := recover(); fault != nil {
			answer = r.conclude(Evidence{Fault: fault})
		}
	}()
	return r.conclude(r.execute())
}
