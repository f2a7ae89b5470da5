package launch

import (
	"errors"
	"maps"
	"os"
	"slices"
	"time"

	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/sandbox"
)

// template is the template that a worker for this run comes from; false where there can be none.
func (r *run) template() (warm.Setup, bool) {
	c := r.job.Config
	base, ok := r.plan.Spec.PoolKey()
	if !ok || r.facts.WarmDir == "" {
		return warm.Setup{}, false
	}
	base.Activity = activity[c.Security.Audit.Native] // also for what runs no code of the user's
	return warm.Setup{
		PoolKey: base, Interpreter: r.ip.Path, Identity: r.ip.Identity, Environ: warm.Environ(r.plan.Spec.Env, c.Warm.Preload), Preload: c.Warm.Preload,
		ImportPath: c.Python.Path, Flagged: slices.Sorted(maps.Keys(c.Python.FlagImports)),
		Inherited: warm.Inherited(base.Groups && base.Parent == ""), Dir: r.facts.WarmDir, CacheDir: r.facts.CacheDir, KeyFile: cacheKey(r.job), Spares: c.Warm.Spares, Idle: seconds(c.Security.IdleTimeoutSeconds),
	}, true
}

// askForWorker asks the template for a worker, which takes it a moment; nil: there is none.
func (r *run) askForWorker() *warm.Lease {
	if setup, wanted := r.template(); wanted {
		if lease, err := warm.Take(setup.Dir, setup.Key()); err == nil {
			return lease
		}
	}
	return nil
}

// startWorker starts the run in a worker that was asked for. Whatever is in the way of that, the run can still start an interpreter of its own.
func (r *run) startWorker(lease *warm.Lease) bool {
	if lease == nil {
		return false
	}
	err := lease.Receive()
	if err != nil {
		lease.Close()
		return false
	}
	r.lease = lease
	job := r.plan.Python
	job.Environ = r.plan.Spec.Env
	if r.session, err = python.OpenWorker(job); err != nil {
		r.lease.Handoff.Close()
		r.dropWorker()
		return false
	}
	stdio, stdin, err := r.streams()
	defer stdin.Close()
	if err == nil {
		r.running, err = sandbox.Start(r.plan.Spec, stdio, r.lease.Handoff)
	} else {
		r.lease.Handoff.Close()
	}
	r.session.Started()
	if err != nil {
		r.running = nil
		r.dropWorker()
		return false
	}
	return true
}

// dropWorker lets go of a worker that ran nothing.
func (r *run) dropWorker() {
	if r.session != nil {
		r.session.Close()
		r.session = nil
	}
	if r.running != nil && !r.lease.Alive() {
		r.running.RemoveGroup()
	}
	r.lease.Close()
	r.lease, r.running = nil, nil
}

// StartTemplate starts the template that runs like this job take their workers from, and waits until it has some.
func StartTemplate(job Job, patience time.Duration) (warm.Status, error) {
	r := run{job: job}
	r.limits, _ = effective(job, nil)
	var failed *refusal
	if r.ip, _, failed = find(job); failed == nil {
		r.facts, failed = factsOf(job, newRunID(job.Began))
	}
	if failed != nil {
		return warm.Status{}, errors.New(failed.failure.Message)
	}
	var err error
	if r.plan, err = Make(job, r.ip, r.limits, r.facts); err != nil {
		return warm.Status{}, err
	}
	setup, wanted := r.template()
	switch {
	case wanted:
	case r.facts.WarmDir == "":
		return warm.Status{}, errors.New("no template is possible: XDG_RUNTIME_DIR is not set")
	case r.plan.Spec.Method == sandbox.Process:
		return warm.Status{}, errors.New("no template is possible: security.isolation.method is process")
	case r.plan.Spec.SubIDs && os.Geteuid() != 0:
		return warm.Status{}, errors.New("no template is possible: security.isolation.id-map is subids")
	default:
		return warm.Status{}, errors.New("no template is possible: this user's limit on open files is too low")
	}
	if err := warm.Start(setup, true); err != nil {
		return warm.Status{}, err
	}
	return warm.Wait(setup, patience)
}
