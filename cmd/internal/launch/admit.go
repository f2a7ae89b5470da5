package launch

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
)

// Before anything else, a run is admitted:
//
//	Job    policyOf  who may do what; a policy that is broken or cannot be read refuses every run
//	 │     identify  who asks: a key that is presented decides, and a bad one never leads to another identity
//	 │     tighten   limits of the user, and of the profile that the request names
//	 │     resolve   the stored script, if the request names one
//	 │     allow     the rule that lets the user run it
//	 ▼     prepared  the variables that the script declares
//	Plan   take      one of the runs that the user may have (rates.go)
//
// What follows from that is in the plan, and pure. A request that is not admitted ends as denied,
// rate_limited, bad_request or config_error. The first two leave an execution-denied record.

// admit finds out who the run is for, and whether it may be. done means that it may not, and e says why.
func (r *run) admit() (e Evidence, done bool) { return r.admitBy(r.askAndTake) }

// admitBy is admit with another way to ask.
func (r *run) admitBy(ask func(Plan) *refusal) (e Evidence, done bool) {
	defer func() {
		if fault := recover(); fault != nil {
			e, done = Evidence{Fault: fault}, true
		}
	}()
	asked := r.plan
	defer asked.Job.Request.Key.Forget()
	refused := ask(asked)
	return Evidence{Refused: refused}, refused != nil
}

// askAndTake makes the plan of a run that may be, and takes one of those that its user may have.
func (r *run) askAndTake(asked Plan) *refusal {
	runs := asked.Job.Request.Command.RunsCode()
	refused := r.ask(asked, runs)
	if refused != nil || !runs {
		return refused
	}
	waited, refused := r.take()
	if refused == nil && waited > 0 { // meanwhile the policy can have changed
		asked.Job.Began, asked.Job.Warnings = r.plan.Job.Began, r.plan.Job.Warnings
		refused = r.ask(asked, runs)
	}
	return refused
}

// ask makes the plan of a job that the policy lets run, and counts a denial.
func (r *run) ask(asked Plan, runs bool) *refusal {
	plan, policy, refused := identified(asked, !runs)
	if refused == nil && runs {
		plan, refused = allowed(plan, policy)
	}
	r.plan = plan
	if runs && refused != nil && refused.denial != nil {
		refused.summarised = !r.counted(refused.denial)
	}
	return refused
}

// identified finds out who the job is for. Afterwards the plan has no key any more; its bytes are the
// caller's to forget. Commands that run no code of the user's are for everybody, so without a key they need
// no policy either (onlyKeys).
func identified(p Plan, onlyKeys bool) (Plan, *access.Policy, *refusal) {
	key := p.Job.Request.Key
	p.Job.Request.Key = nil
	if onlyKeys && len(key) == 0 {
		return p, nil, nil
	}
	places := access.Places(p.Job.Environ)
	policy, err := policyOf(p.Job.Series, places)
	if err != nil {
		return p, nil, &refusal{status: wire.StatusConfigError, failure: policyFailure(err)}
	}
	p.Policy = policyFiles(p.Job.Environ, places, policy)
	p, denial := identify(p, policy, key)
	if denial != nil {
		return p, policy, deniedFor(denial)
	}
	return p, policy, nil
}

// policyOf reads the policy; nil: there is none. A series reads it again when its file has changed.
func policyOf(series *Series, places []string) (*access.Policy, error) {
	if series != nil {
		return series.readPolicy(places)
	}
	return access.Load(places, nil)
}

// policyFailure says why there is no policy to go by.
func policyFailure(err error) *wire.Failure {
	f := configFailure(err)
	if broken, ok := errors.AsType[*access.PolicyError](err); ok {
		f.Code = broken.Code
	}
	return f
}

// policyFiles lists the files in which a policy was looked for, for the record. The text of the policy
// is kept, so that a later change can be described.
func policyFiles(environ, places []string, policy *access.Policy) []audit.ConfigFile {
	describe := func(now *access.Policy) func(*audit.PolicyChange) {
		return func(c *audit.PolicyChange) {
			if old, known := access.Before(StateDir(environ), c.OldSHA256); known {
				c.Changes, c.Grants, c.AnyUserKeys = access.Diff(old, now), access.Grants(old, now), access.AnyUserKeys(old, now)
			}
		}
	}
	files := make([]audit.ConfigFile, 0, len(places))
	for _, path := range places {
		if policy != nil && policy.Path == path {
			access.Keep(StateDir(environ), policy) // else nobody can say what the next change was, which is no reason to refuse a run
			return append(files, audit.ConfigFile{Path: path, SHA256: policy.SHA256, Describe: describe(policy)})
		}
		files = append(files, audit.ConfigFile{Path: path, Describe: describe(nil)})
	}
	return files
}

// identify says who a job is for. It makes no system call. The grant of a job that is denied has what
// is known of its user.
func identify(p Plan, policy *access.Policy, key wire.Secret) (Plan, *access.Denial) {
	job := p.Job
	claim := access.Claim{Key: key.Text(), User: job.Request.User, OSUID: job.Caller.UID, OSUser: job.Caller.Name, At: job.Began}
	grant, denial := policy.Identify(claim)
	if denial != nil {
		grant = access.Grant{User: denial.User, KeyID: denial.KeyID, Holder: denial.Holder, Method: methodOf(claim)}
		if denial.Holder != "" { // the key has proved its holder, and nobody else
			grant.Method = access.ByClaim
		}
	} else if job.Config.Identity.Require && !grant.Known {
		denial = unknownUser(grant, policy)
	}
	p.Grant = grant
	return p, denial
}

// methodOf is how the user of a claim would have been known.
func methodOf(c access.Claim) access.Method {
	switch {
	case c.Key != "":
		return access.ByKey
	case c.User != "":
		return access.ByClaim
	}
	return access.ByOSUser
}

// identityRequired is the code of a denial that is the configuration's.
const identityRequired = "identity-required"

func unknownUser(g access.Grant, policy *access.Policy) *access.Denial {
	d := &access.Denial{Code: identityRequired, Told: true, User: g.User,
		Message: fmt.Sprintf("the user %q is not known, and identity.require demands a known one", g.User),
		Hint:    "send an API key, with api_key or --api-key-file; or the policy names this user of the operating system as os-user"}
	if policy == nil {
		d.Hint = "there is no policy, so nobody is known: py3runctl user add begins one"
	}
	return d
}

// allowed says whether an identified user may run the code of the job, and under which limits.
func allowed(p Plan, policy *access.Policy) (Plan, *refusal) {
	caller := access.Claim{OSUID: p.Job.Caller.UID, OSUser: p.Job.Caller.Name, At: p.Job.Began}
	p.Behind = policy.Behind(p.Grant, caller, p.Job.Config, p.Job.Origins)
	if request := &p.Job.Request; policy == nil && request.Script == "" && request.SecurityMode == "" { // nothing can be found out
		p.Rule = policy.Can(p.Grant, access.ToRun, access.Object{Kind: access.AdHocCode}).Rule
		return p, nil
	}
	p, refused := tighten(p, policy)
	if refused == nil {
		p, refused = resolve(p, policy)
	}
	return p, refused
}

// tighten gives a job the limits of its user, and those of the profile that it names. It makes no
// system call.
func tighten(p Plan, policy *access.Policy) (Plan, *refusal) {
	mode := p.Job.Request.SecurityMode
	known := slices.Contains(wire.SecurityModes, mode)
	var profiles map[string]config.Limits
	if policy != nil {
		profiles = policy.Profiles
	}
	if _, has := profiles[mode]; mode != "" && !known && !has {
		f := &wire.Failure{Message: "security_mode: no profile is called " + strconv.Quote(mode)}
		names := append(slices.Clone(wire.SecurityModes), slices.Sorted(maps.Keys(profiles))...)
		slices.Sort(names)
		f.Hint = "those that can be named here are " + strings.Join(slices.Compact(names), ", ")
		return p, &refusal{status: wire.StatusBadRequest, failure: f}
	}
	before, bounds := p.Job.Origins, policy.LimitsFor(p.Grant, mode)
	p.Job.Config, p.Job.Origins = config.Tighten(p.Job.Config, before, bounds)
	p.Job.Warnings = append(p.Job.Warnings[:len(p.Job.Warnings):len(p.Job.Warnings)], lowered(bounds, before, p.Job.Origins)...)
	return p, nil
}

// lowered warns of what a flag or a variable asks for and the policy does not allow.
func lowered(bounds []config.Bound, before, after map[string]config.Origin) (warnings []wire.Warning) {
	for i, b := range bounds {
		from := after[b.Key]
		told := slices.ContainsFunc(bounds[:i], func(earlier config.Bound) bool { return earlier.Key == b.Key })
		if told || from.Ceiling == before[b.Key].Ceiling || from.Kind != config.FromFlag && from.Kind != config.FromEnvironment {
			continue
		}
		warnings = append(warnings, wire.Warning{Code: "clamped_limit",
			Message: fmt.Sprintf("%s: %s = %s is above the limit in %s: %s holds", from.Name, b.Key, from.Ceiling.Asked, from.Ceiling.File, from.Ceiling.Value)})
	}
	return warnings
}

// allow asks for the rule that lets a user run something. It makes no system call.
func allow(p Plan, policy *access.Policy, o access.Object) (Plan, *refusal) {
	decision := policy.Can(p.Grant, access.ToRun, o)
	p.Rule = decision.Rule
	if !decision.Allowed {
		return p, deniedFor(decision.Denial(p.Grant, access.ToRun, o))
	}
	return p, nil
}

// What a caller learns of a key that is not accepted: the same in all cases.
const (
	keyRefusedCode = "api_key_not_accepted"
	keyRefusedHint = "ask the operator, who finds the reason in the audit log; the same key will be refused again"
)

// deniedFor makes the refusal of a denial. The caller may learn less than the record says.
func deniedFor(d *access.Denial) *refusal {
	f := &wire.Failure{Code: strings.ReplaceAll(cmp.Or(d.Shown, d.Code), "-", "_"), Message: d.Message, Hint: d.Hint}
	if d.Shown != "" { // the hint would tell as much as the code
		f.Hint = "the policy names in key." + d.KeyID + ".may-assert whom the key may run code for; the audit log has the reason"
	}
	if !d.Told {
		f = &wire.Failure{Code: keyRefusedCode, Message: access.KeyRefused, Hint: keyRefusedHint}
	}
	return &refusal{status: wire.StatusDenied, failure: f, denial: d}
}
