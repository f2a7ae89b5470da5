package launch

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/sandbox"
)

// template returns the set-up of the template that can have a worker for this run. It returns false if
// the configuration wants none, or none is possible.
func (p Plan) template() (warm.Setup, bool) {
	c, own := p.Job.Config, p.ownTemplates() != nil
	key, ok := p.Spec.PoolKey()
	if p.Job.Live != nil && p.Job.Live.Terminal != nil { // a worker has its session and its streams already
		ok = false
	}
	if p.Job.Bare != nil || p.Interpreter.Link != "" { // a template has no mounts of its own
		ok = false
	}
	if !ok || !c.Warm.Enabled || p.Facts.WarmDir == "" && !own {
		return warm.Setup{}, false
	}
	key.Activity, key.Files = activity[c.Security.Audit.Native], activity[c.Security.Audit.Files] // also for commands that run no code, where the plan has none
	setup := warm.Setup{
		PoolKey: key, Interpreter: p.Interpreter.Path, Identity: p.Interpreter.Identity,
		Environ: warm.Environ(p.Spec.Env, c.Warm.Preload), Preload: c.Warm.Preload,
		ImportPath: c.Python.Path, Flagged: slices.Sorted(maps.Keys(c.Python.FlagImports)),
		Dir: p.Facts.WarmDir, CacheDir: p.Facts.CacheDir, KeyFile: cacheKey(p.Job),
		Spares: c.Warm.Spares, Idle: seconds(c.Security.IdleTimeoutSeconds),
	}
	if own { // what a template of this process inherits is what this run inherits
		setup.Dir, setup.Run, setup.Limits = p.Dir.Root, p.Job.ask, p.Spec.Limits
		setup.Ahead = slices.DeleteFunc(slices.Clone(p.Spec.Env), func(e string) bool { return strings.HasPrefix(e, "TMPDIR=") })
	} else {
		setup.Inherited = warm.Inherited(key.Groups && key.Parent == "")
	}
	return setup, true
}

// ownTemplates are those of this process; nil: it has none, and templates run in the background.
func (p Plan) ownTemplates() *warm.Own {
	if s := p.Job.Series; s != nil {
		return s.templates
	}
	return nil
}

// askForWorker asks the template for a worker; nil: there is none. The template needs a moment to
// answer, so the caller makes the directories before it receives the worker.
func (r *run) askForWorker() *warm.Lease {
	if setup, wanted := r.plan.template(); wanted {
		if own := r.plan.ownTemplates(); own != nil {
			return own.Take(setup)
		}
		if lease, err := warm.Take(setup.Dir, setup.Key()); err == nil {
			return lease
		}
	}
	return nil
}

// startWorker starts the run in the worker that askForWorker asked for. If that fails, it gives back
// everything and returns nil: the caller can still start an interpreter of its own.
func (r *run) startWorker(lease *warm.Lease) *program {
	if lease.Receive() != nil {
		lease.GiveUp()
		return nil
	}
	p := &program{lease: lease, before: r.held.count()}
	r.held.add(func() error { lease.Close(); return nil })
	job := r.plan.Python
	job.Environ = r.plan.Spec.Env
	var err error
	if p.session, err = python.OpenWorker(job, r.plan.Job.Series.session(job.OutputMost)); err == nil {
		err = r.startBy(p, r.plan.Spec, lease.Handoff)
	}
	if err != nil {
		lease.Handoff.Close()
		r.held.release(p.before)
		return nil
	}
	return p
}

// StartTemplate starts the template from which runs like this job take their workers, and waits until
// it has some, for at most patience.
func StartTemplate(job Job, patience time.Duration) (warm.Status, error) {
	plan, refused := locate(Plan{Job: job, RunID: newRunID(job.Began)})
	if refused == nil {
		plan, refused = complete(plan)
	}
	defer plan.Interpreter.Close()
	if refused != nil {
		return warm.Status{}, errors.New(refused.failure.Message)
	}
	setup, wanted := plan.template()
	switch {
	case wanted:
	case plan.Facts.WarmDir == "":
		return warm.Status{}, errors.New("no template is possible: XDG_RUNTIME_DIR is not set")
	case plan.Spec.Method == sandbox.Process:
		return warm.Status{}, errors.New("no template is possible: security.isolation.method is process")
	case plan.Spec.SubIDs && os.Geteuid() != 0:
		return warm.Status{}, errors.New("no template is possible: security.isolation.id-map is subids")
	default:
		return warm.Status{}, errors.New("no template is possible: this user's limit on open files is too low")
	}
	if err := warm.Start(setup, true); err != nil {
		return warm.Status{}, err
	}
	return warm.Wait(setup, patience)
}
