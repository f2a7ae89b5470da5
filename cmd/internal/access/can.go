package access

import (
	"cmp"
	"slices"
	"strings"
)

// Can says whether somebody may do something, and by which rule. A nil Policy is none: then the
// permissions of the files decide, and everybody may run code.
//
//	code    run: who may run code at all
//	script  author, script-admin and operator: everything; shares: run, read and write, each by itself;
//	        public: run and read, for those who may run code; list: what one may run or read;
//	        neither shares nor public mean a version from before a deletion
//	run     its user, script-admins and operators see and cancel it; auditors see it
//	policy  auditors read it, script-admins and operators change it
//
// To run a script, one needs both: to be let to it, and to be one who may run code.
func (p *Policy) Can(g Grant, a Action, o Object) Decision {
	if p == nil {
		return allow("policy.none")
	}
	switch o.Kind {
	case AdHocCode:
		if a == ToRun {
			return p.mayRun(g)
		}
	case StoredScript:
		return p.canScript(g, a, o)
	case PastRun:
		return p.canPastRun(g, a, o)
	case ThePolicy:
		switch {
		case a == ToManage, a == ToRead, a == ToList:
			if d := administers(g); d.Allowed {
				return d
			}
			if a != ToManage && has(g, Auditor) {
				return allow("role.auditor")
			}
			return deny("role.script-admin.missing")
		}
	}
	return deny("action.none")
}

func allow(rule string) Decision { return Decision{Allowed: true, Rule: rule} }
func deny(rule string) Decision  { return Decision{Rule: rule} }

// has reports whether a role was proved, not only claimed.
func has(g Grant, r Role) bool { return g.Known && slices.Contains(g.Roles, r) }

// administers is the answer for those who may do everything with scripts, users and keys.
func administers(g Grant) Decision {
	switch {
	case has(g, ScriptAdmin):
		return allow("role.script-admin")
	case g.Operator:
		return allow("operator")
	}
	return deny("role.script-admin.missing")
}

// mayRun says whether somebody may run code. Who is not in the policy may: identity.require asks for
// more, and is the configuration's. Somebody who is only called like a user of the policy, or comes
// from one, must not gain by that, so these users need the role as well.
func (p *Policy) mayRun(g Grant) Decision {
	if g.Known {
		if has(g, Executor) {
			return allow("role.python3-executor")
		}
		return deny("role.python3-executor.missing")
	}
	for _, name := range []string{g.User, g.Holder} {
		if p.lacksExecutor(name) {
			return deny("role.python3-executor.missing")
		}
	}
	return allow("user.unknown")
}

// lacksExecutor reports whether the policy has such a user, and does not let it run code.
func (p *Policy) lacksExecutor(name string) bool {
	u, known := p.Users[name]
	return known && (u.Disabled || !slices.Contains(p.rolesOf(u), Executor))
}

func (p *Policy) canScript(g Grant, a Action, o Object) Decision {
	switch a {
	case ToRun:
		if d := p.mayRun(g); !d.Allowed {
			return d
		}
		return p.letTo(g, a, o)
	case ToRead, ToWrite:
		return p.letTo(g, a, o)
	case ToSeeHistory: // of its versions: their texts can be read there
		return p.letTo(g, ToRead, o)
	case ToList:
		if d := p.letTo(g, ToRead, o); d.Allowed {
			return d
		}
		return p.canScript(g, ToRun, o)
	case ToDelete, ToShare:
		if d := ownScript(g, o); d.Allowed {
			return d
		}
		return deny("script.not-author")
	case ToManage:
		return administers(g)
	}
	return deny("action.none")
}

// letTo says whether somebody may run, read or write a script, apart from the question whether they
// may run code.
func (p *Policy) letTo(g Grant, a Action, o Object) Decision {
	if d := ownScript(g, o); d.Allowed {
		return d
	}
	if o.Removed {
		return deny("script.removed")
	}
	for _, s := range o.Shares {
		if !g.Known || !slices.Contains(s.Actions, a) {
			continue
		}
		if s.With == g.User {
			return allow("script.shared")
		}
		if group, ok := cutGroup(s.With); ok && slices.Contains(g.Groups, group) {
			return allow("script.shared-group")
		}
	}
	if o.Public && (a == ToRun || a == ToRead) {
		if d := p.mayRun(g); !d.Allowed {
			return d
		}
		return allow("script.public")
	}
	return deny("script.not-shared")
}

// ownScript is the answer for those who may do everything with a script.
func ownScript(g Grant, o Object) Decision {
	if g.Known && o.Owner != "" && g.User == o.Owner {
		return allow("script.author")
	}
	return administers(g)
}

func (p *Policy) canPastRun(g Grant, a Action, o Object) Decision {
	switch a {
	case ToSeeHistory, ToRead, ToList, ToManage:
	default:
		return deny("action.none")
	}
	_, taken := p.Users[g.User]
	proved := g.Known || g.Method == ByOSUser && !taken // the operating system says who it is, and the policy means nobody else by that name
	if proved && o.Owner != "" && g.User == o.Owner {
		return allow("run.own")
	}
	if a != ToManage && has(g, Auditor) {
		return allow("role.auditor")
	}
	if d := administers(g); d.Allowed {
		return d
	}
	return deny("run.of-another")
}

// cutGroup returns the group of an entry such as group:operators.
func cutGroup(entry string) (group string, ok bool) { return strings.CutPrefix(entry, "group:") }

// Denial is what to tell and to record where a decision is no.
func (d Decision) Denial(g Grant, a Action, o Object) *Denial {
	about := string(o.Kind)
	if o.Name != "" {
		about += " " + o.Name
	}
	refused := &Denial{Code: NotAllowed, Told: true, User: g.User, KeyID: g.KeyID, Message: string(a) + " " + about + ": not allowed for the user " + g.User}
	switch role, missing := strings.CutSuffix(d.Rule, ".missing"); {
	case missing:
		role = strings.TrimPrefix(role, "role.")
		refused.Code = MissingRole
		refused.Message = string(a) + " " + about + ": the user " + g.User + " does not have the role " + role
		refused.Hint = "whoever may change the policy can grant it: py3runctl user change " + g.User + " --add-role " + role
		if slices.Contains(g.Withheld, Role(role)) {
			refused.Message = string(a) + " " + about + ": the API key " + g.KeyID + " of the user " + g.User + " gives " + rolesText(g.Roles) + ", and not the role " + role
			refused.Hint = "the user has the role, so another key does: py3runctl key create " + cmp.Or(g.Holder, g.User) + " --role " + role
		}
	case d.Rule == "run.of-another" && a == ToManage:
		refused.Hint = "only the user of a run, a script-admin and the operator of the host can"
	case d.Rule == "run.of-another":
		refused.Hint = "only the user of a run, an auditor, a script-admin and the operator of the host can"
	case d.Rule == "script.not-shared", d.Rule == "script.removed":
		refused.Code = NotShared
		refused.Hint = "its author or a script-admin can share it: py3runctl script share"
	}
	return refused
}

// rolesText names the roles that a key gives.
func rolesText(roles []Role) string {
	switch len(roles) {
	case 0:
		return "no role"
	case 1:
		return "only the role " + string(roles[0])
	}
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return "only the roles " + strings.Join(names, ", ")
}
