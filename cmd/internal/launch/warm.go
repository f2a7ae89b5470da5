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

// template is the template that a spare for this run comes from; false where there can be none.
func (r *run) template() (warm.Setup, bool) {
	c := r.job.Config
	base, ok := r.plan.Spec.Base()
	if !ok || r.facts.WarmDir == "" {
		return warm.Setup{}, false
	}
	base.Trail = trail[c.Security.Audit.Native] // also for what runs no code of the user's
	return warm.Setup{
		Base: base, Interpreter: r.ip.Path, Identity: r.ip.Identity, Environ: warm.Environ(r.plan.Spec.Env, c.Warm.Preload), Preload: c.Warm.Preload,
		ImportPath: c.Python.Path, Flagged: slices.Sorted(maps.Keys(c.Python.FlagImports)),
		Inherited: warm.Inherited(base.Groups && base.Parent == ""), Dir: r.facts.WarmDir, CacheDir: r.facts.CacheDir, KeyFile: cacheKey(r.job), Spares: c.Warm.Spares, Idle: seconds(c.Security.IdleTimeoutSeconds),
	}, true
}

// askForSpare asks the template for a spare, which takes it a moment; nil: there is none.
func (r *run) askForSpare() *warm.Claim {
	if setup, wanted := r.template(); wanted {
		if claim, err := warm.Take(setup.Dir, setup.Key()); err == nil {
			return claim
		}
	}
	return nil
}

// startSpare starts the run in a spare that was asked for. Whatever is in the way of that, the run can still start an interpreter of its own.
func (r *run) startSpare(claim *warm.Claim) bool {
	if claim == nil {
		return false
	}
	err := claim.Receive()
	if err != nil {
		claim.Close()
		return false
	}
	r.claim = claim
	job := r.plan.Python
	job.Environ = r.plan.Spec.Env
	if r.session, err = python.OpenSpare(job); err != nil {
		r.claim.Offer.Close()
		r.dropSpare()
		return false
	}
	stdio, stdin, err := r.streams()
	defer stdin.Close()
	if err == nil {
		r.running, err = sandbox.StartSpare(r.plan.Spec, stdio, r.claim.Offer)
	} else {
		r.claim.Offer.Close()
	}
	r.session.Started()
	if err != nil {
		r.running = nil
		r.dropSpare()
		return false
	}
	return true
}

// dropSpare lets go of a spare that ran nothing.
func (r *run) dropSpare() {
	if r.session != nil {
		r.session.Close()
		r.session = nil
	}
	if r.running != nil && !r.claim.Alive() {
		r.running.RemoveGroup()
	}
	r.claim.Close()
	r.claim, r.running = nil, nil
}

// StartTemplate starts the template that runs like this job take their spares from, and waits until it has some.
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
