package launch

import (
	"errors"
	"strconv"
	"strings"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
	"py3run/cmd/internal/wire"
)

// A request can name a stored script instead of code. The bytes that the store returns are those that
// run and that the record hashes: they are read once, and their hash was compared.

// resolve finds the code of a job, and asks whether its user may run it.
func resolve(p Plan, policy *access.Policy) (Plan, *refusal) {
	p, refused := allow(p, policy, access.Object{Kind: access.AdHocCode})
	ref := p.Job.Request.Script
	if refused != nil || ref == "" {
		return p, refused
	}
	script, err := readStored(p.Job.Environ, ref)
	if p, refused = mayRunStored(p, policy, script, err); refused != nil {
		return p, refused
	}
	return withStored(p, script)
}

func readStored(environ []string, ref string) (scripts.Script, error) {
	dir := scripts.Dir(StateDir(environ))
	if dir == "" {
		return scripts.Script{}, scripts.NotFound(ref)
	}
	store, err := scripts.Open(dir)
	if err != nil {
		return scripts.Script{}, err
	}
	defer store.Close()
	return store.Resolve(ref)
}

// unknownScript is the code of a denial for a script that does not exist. A user who must not know of
// a script gets the same answer for one that exists.
const unknownScript = "unknown-script"

// damagedScript is the code of a script whose files are not as they were saved.
const damagedScript = "script_damaged"

// mayRunStored says whether the user of a plan may run a script that was looked for; err says why it
// was not found whole. It makes no system call.
func mayRunStored(p Plan, policy *access.Policy, script scripts.Script, err error) (Plan, *refusal) {
	if wrong, ok := errors.AsType[*scripts.NameError](err); ok {
		return p, &refusal{status: wire.StatusBadRequest, failure: &wire.Failure{Message: "script: " + wrong.Error(), Hint: wrong.Hint()}}
	}
	o, exists := script.Meta.Object(), script.Meta.Name != ""
	if !mayKnow(p.Grant, policy, o, exists) {
		return p, hiddenScript(p, policy, o, exists)
	}
	if exists {
		var refused *refusal
		if p, refused = allow(p, policy, o); refused != nil {
			return p, refused
		}
	}
	missing, isMissing := errors.AsType[*scripts.NotFoundError](err)
	switch damaged, isDamaged := errors.AsType[*scripts.DamageError](err); {
	case err == nil:
		return p, nil
	case isMissing:
		return p, &refusal{status: wire.StatusBadRequest, failure: &wire.Failure{Code: "script_not_found", Message: missing.Error(), Hint: missing.Hint()}}
	case isDamaged: // a record tells it, and py3runctl alerts
		return p, &refusal{status: wire.StatusLaunchFailed, failure: &wire.Failure{Code: damagedScript, Step: "script", Message: damaged.Error(), Hint: damaged.Hint()},
			denial: &access.Denial{Code: damagedScript, Message: damaged.Error(), Told: true, User: p.Grant.User, KeyID: p.Grant.KeyID}}
	default:
		return p, &refusal{status: wire.StatusLaunchFailed, failure: &wire.Failure{Code: "script_unreadable", Step: "script", Errno: errnoName(err), Message: err.Error()}}
	}
}

// mayKnow says whether somebody may learn whether there is this script. Of one that does not exist only
// those may learn who see all.
func mayKnow(g access.Grant, policy *access.Policy, o access.Object, exists bool) bool {
	return policy.Can(g, access.ToList, o).Allowed && (exists || policy.Can(g, access.ToManage, access.Object{Kind: access.StoredScript}).Allowed)
}

// hiddenScript refuses a script of which the user must not know. The record has the reason.
func hiddenScript(p Plan, policy *access.Policy, o access.Object, exists bool) *refusal {
	refused := deniedFor(&access.Denial{Code: unknownScript, Told: true, User: p.Grant.User, KeyID: p.Grant.KeyID,
		Message: scripts.NotFound(p.Job.Request.Script).Error(), Hint: "py3runctl script list shows those that this user may run"})
	refused.failure.Code = "script_not_found"
	if exists {
		refused.denial = policy.Can(p.Grant, access.ToRun, o).Denial(p.Grant, access.ToRun, o)
	}
	return refused
}

// withStored gives a plan the code of a script, and checks the variables that it declares. It makes no
// system call.
func withStored(p Plan, script scripts.Script) (Plan, *refusal) {
	request := &p.Job.Request
	p.Job.Source, request.Filename = script.Code, script.Meta.Name
	if p.Job.Source == nil { // an empty script is code, too
		p.Job.Source = []byte{}
	}
	script.Code = nil
	p.Stored = &script
	variables, err := script.Version.Check(request.Variables)
	if wrong, ok := errors.AsType[*scripts.VariablesError](err); ok {
		return p, &refusal{status: wire.StatusBadRequest, failure: &wire.Failure{Code: "script_variables", Message: wrong.Error(), Hint: wrong.Hint(), Variables: faults(wrong)}}
	}
	request.Variables = variables
	return p, nil
}

func faults(wrong *scripts.VariablesError) (list []wire.Fault) {
	for _, f := range wrong.Findings[:min(len(wrong.Findings), scripts.FindingsShown)] {
		list = append(list, wire.Fault{Name: f.Variable, Rule: f.Rule, Message: f.Text})
	}
	return list
}

// scriptOf is what a result says of the stored script of a plan; nil: there is none.
func scriptOf(p Plan) *wire.Script {
	if p.Stored == nil {
		return nil
	}
	s := storedScript(p)
	return &wire.Script{Name: s.Name, Version: s.Version, Source: string(s.Source)}
}

// storedScript is what a record says of the stored script of a plan. One that was not found has the
// name and the version that the request asks for.
func storedScript(p Plan) audit.Script {
	if s := p.Stored; s != nil {
		return audit.Script{Name: s.Meta.Name, Version: strconv.Itoa(s.Version.Number), Source: audit.ScriptStored}
	}
	name, version, _ := strings.Cut(p.Job.Request.Script, "@")
	return audit.Script{Name: name, Version: version, Source: audit.ScriptStored}
}
