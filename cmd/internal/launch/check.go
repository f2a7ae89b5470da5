package launch

import "py3run/cmd/internal/wire"

// Check says whether a request would be admitted, and compiles its code. Nothing of the code runs, no
// run is taken from what the user may have, and the log gets no record. A refusal is the result that
// the request itself would have; otherwise the result is that of the command check_syntax.
func Check(job Job) wire.Result {
	r := newRun(job)
	e, done := r.admitBy(r.askOnly)
	r.plan.Job.Request.Command = wire.CommandCheckSyntax // which leaves no record
	if done {
		return r.conclude(e).Result
	}
	return r.carryOut().Result
}

// askOnly makes the plan of a run that may be. It takes no run, and counts no denial.
func (r *run) askOnly(asked Plan) *refusal {
	plan, policy, refused := identified(asked, false)
	if refused == nil {
		plan, refused = allowed(plan, policy)
	}
	r.plan = plan
	return refused
}
