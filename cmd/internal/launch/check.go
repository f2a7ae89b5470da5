package launch

import "py3run/cmd/internal/wire"

// Check says whether a request would be admitted, and compiles its code. Nothing of the code runs, no
// run is taken from what the user may have, and the log gets no record. A refusal is the result that
// the request itself would have; otherwise the result is that of the command check_syntax.
func Check(job Job) wire.Result {
	r := newRun(job)
	e, done := r.admitToCheck()
	r.plan.Job.Request.Command = wire.CommandCheckSyntax // which leaves no record
	if done {
		return r.conclude(e).Result
	}
	return r.carryOut().Result
}

// admitToCheck is admit without taking a run.
func (r *run) admitToCheck() (e Evidence, done bool) {
	defer func() {
		if fault := recover(); fault != nil {
			e, done = Evidence{Fault: fault}, true
		}
	}()
	defer r.plan.Job.Request.Key.Forget()
	plan, policy, refused := identified(r.plan, false)
	if refused == nil {
		plan, refused = allowed(plan, policy)
	}
	r.plan = plan
	return Evidence{Refused: refused}, refused != nil
}
