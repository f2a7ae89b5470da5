package ctl

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
	"py3run/internal/envvar"
	"py3run/internal/passwd"
)

// An actor is who calls py3runctl, as the policy sees it.
type actor struct {
	policy *access.Policy // nil: there is none
	grant  access.Grant
	state  string   // the directory of policies, scripts and limits; empty: there is no place for it
	places []string // where a policy can be
	path   string   // of the policy, also where there is none yet; empty: there is no place for it
	system bool     // that policy is the whole host's
}

// A refusal is a denial as an error.
type refusal struct{ *access.Denial }

func (r refusal) Error() string {
	if !r.Told {
		return access.KeyRefused
	}
	return r.Message
}

// actor says who calls, by the key that PY3RUN_API_KEY_FILE names or by the operating system.
func (a *app) actor() (actor, error) {
	if file := envvar.Lookup(a.environ, config.KeyFileVariable); file != "" {
		key, err := readAPIKey(file)
		if err != nil {
			return actor{}, err
		}
		defer key.Forget()
		return a.actorWith(key.Text())
	}
	return a.actorWith("")
}

// actorWith says who calls with an API key; without one, by the operating system.
func (a *app) actorWith(key string) (actor, error) {
	places := access.Places(a.environ)
	policy, err := access.Load(places, nil)
	if err != nil {
		return actor{}, err
	}
	claim := access.Claim{OSUID: os.Geteuid(), Key: key, At: time.Now()}
	claim.OSUser = strconv.Itoa(claim.OSUID)
	if u, ok := passwd.ByUID(claim.OSUID); ok {
		claim.OSUser = u.Name
	}
	who := actor{policy: policy, places: places, state: config.StateDir(a.environ)}
	var denied *access.Denial
	if who.grant, denied = policy.Identify(claim); denied != nil {
		operates := false
		if who.grant, operates = policy.Operates(claim); !operates {
			return actor{}, refusal{denied}
		}
	}
	switch {
	case policy != nil:
		who.path, who.system = policy.Path, policy.System
	case claim.OSUID == 0:
		who.path, who.system = places[0], true
	case len(places) > 1:
		who.path = places[1]
	}
	return who, nil
}

// keyPatience is how long to wait for the next byte of an API key that comes through a pipe.
const keyPatience = 10 * time.Second

func readAPIKey(file string) (wire.Secret, error) {
	key, err := access.ReadKeyFile(file, keyPatience)
	return key, err
}

// may says why the actor may not do something; nil: it may.
func (who actor) may(a access.Action, o access.Object) error {
	if d := who.policy.Can(who.grant, a, o); !d.Allowed {
		denied := d.Denial(who.grant, a, o)
		who.suggest(denied, a, o)
		return refusal{denied}
	}
	return nil
}

// suggest makes the hint of a denial name the least role that is enough, and for a user whom the policy
// does not know also how that user comes into it.
func (who actor) suggest(denied *access.Denial, a access.Action, o access.Object) {
	_, taken := policyUser(who.policy, who.grant.User)
	role := access.ScriptAdmin
	if a == access.ToRead && o.Kind == access.ThePolicy {
		role = access.Auditor
		denied.Hint = "the role auditor is enough: py3runctl user change " + who.grant.User + " --add-role auditor, by somebody who may change the policy"
	}
	switch {
	case o.Kind != access.ThePolicy || who.policy == nil || who.grant.Known:
	case taken: // by name alone nobody is that user
		denied.Hint = fmt.Sprintf("the policy does not say that this user of the operating system is its user %s: py3runctl user change %[1]s --os-user %[1]s --add-role %s, by somebody who may change the policy", who.grant.User, role)
	default:
		denied.Hint = fmt.Sprintf("the policy does not know this user: py3runctl user add %s --os-user %[1]s --role %s, by somebody who may change the policy", who.grant.User, role)
	}
}

// record is a record that says who does something: the user of the policy, and beside it always the
// user of the operating system.
func (who actor) record() audit.Record {
	rec := operator()
	if g := who.grant; g.Known {
		rec.User = audit.User{Name: g.User, Groups: g.Groups, Roles: access.Names(g.Roles)}
		rec.Auth.Method, rec.Auth.KeyID, rec.Auth.Holder = audit.AuthMethod(g.Method), g.KeyID, g.Holder
	}
	return rec
}

// A policyChange is one call of a command that changes the policy. The log is opened first: what
// cannot be recorded is not done.
type policyChange struct {
	logContext
	who  actor
	log  *audit.Log
	edit access.Editing
}

// beginChange opens what a change of the policy needs, if the actor may make one.
func (a *app) beginChange() (c policyChange, err error) {
	if c, err = a.planChange(); err == nil {
		c.log, err = audit.Open(c.dir)
	}
	return c, err
}

// planChange finds what a change of the policy needs, and opens nothing.
func (a *app) planChange() (c policyChange, err error) {
	if c.logContext, err = a.logContext(); err != nil {
		return c, err
	}
	if c.who, err = a.actor(); err != nil {
		return c, err
	}
	if err := c.who.may(access.ToManage, access.Object{Kind: access.ThePolicy}); err != nil {
		return c, err
	}
	if c.who.path == "" {
		return c, errors.New("change the policy: no place for it: HOME and XDG_CONFIG_HOME are not set")
	}
	c.edit = access.Editing{Path: c.who.path, System: c.who.system, Group: -1, State: c.who.state}
	if name := c.config.Security.Audit.Group; name != "" {
		if c.edit.Group, err = passwd.GroupID(name); err != nil {
			return c, fmt.Errorf("find the group of security.audit.group: %w", err)
		}
	}
	return c, nil
}

// changePolicy changes the policy by a function that gets a copy, and records that. after is nil if
// nothing was changed.
func (a *app) changePolicy(action audit.Action, change func(*access.Policy) error) (after *access.Policy, err error) {
	c, err := a.beginChange()
	if err != nil {
		return nil, err
	}
	defer c.log.Close()
	before, after, err := c.edit.Apply(change)
	if err != nil {
		return nil, err
	}
	if before == after {
		c.say("nothing was to change in %s", c.who.path)
		return nil, nil
	}
	rec := c.who.record()
	rec.Event = audit.Event{Action: action, Outcome: audit.Success}
	return after, c.recordChange(rec, before, after)
}

// recordChange records a change that was made, and says what it was.
func (c policyChange) recordChange(rec audit.Record, before, after *access.Policy) error {
	return c.appendChange(rec, before, after, func(change string) { c.say("%s", change) })
}

// appendChange does the same, and gives what was changed to tell.
func (c policyChange) appendChange(rec audit.Record, before, after *access.Policy, tell func(change string)) error {
	rec.Policy = &audit.PolicyChange{Path: c.who.path, NewSHA256: after.SHA256, Changes: access.Diff(before, after), Grants: access.Grants(before, after), AnyUserKeys: access.AnyUserKeys(before, after)}
	if before != nil {
		rec.Policy.OldSHA256 = before.SHA256
	}
	receipt, err := c.log.Append(rec)
	if err != nil {
		return fmt.Errorf("record the change of %s: %w; the change is made, and the next run records it as one from outside", c.who.path, err)
	}
	for _, change := range rec.Policy.Changes {
		tell(change)
	}
	c.say("%s is changed; record %d tells it", c.who.path, receipt.Seq)
	if before == nil && c.who.system {
		c.say("from now on this policy holds for every run on this host; who cannot read %s can run nothing", c.who.path)
	}
	return nil
}

// say writes one line on standard error.
func (a *app) say(format string, args ...any) { logContext{err: a.err}.say(format, args...) }
