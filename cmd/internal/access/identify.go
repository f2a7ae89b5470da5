package access

import (
	"fmt"
	"slices"
	"time"

	"py3run/cmd/internal/config"
)

// Codes of denials. They are in records, and never change their meaning.
const (
	MalformedKey  = "malformed-key"
	BadChecksum   = "key-checksum"
	UnknownKey    = "unknown-key"
	WrongKey      = "wrong-key" // there is a key of this id, with another secret
	RevokedKey    = "revoked-key"
	ExpiredKey    = "expired-key"
	NoPolicy      = "no-policy" // a key, where nothing says which keys there are
	DisabledUser  = "disabled-user"
	UnknownUser   = "unknown-user"   // asserted with a key, and not in the policy
	MayNotAssert  = "may-not-assert" // the key's may-assert does not name the user
	AssertedAdmin = "asserted-admin" // "*" in may-assert does not mean a script-admin or an auditor
	MissingRole   = "missing-role"
	NotShared     = "not-shared"
	NotAllowed    = "not-allowed"
)

// noSecret stands in where a key is unknown, so that the comparison takes its time all the same.
var noSecret = HashKey("")

// Identify says who a claim turns out to be. A key that was presented decides: a bad one never
// leads to another identity. A nil Policy is none.
func (p *Policy) Identify(c Claim) (Grant, *Denial) {
	if c.Key != "" {
		return p.byKey(c)
	}
	g := Grant{User: c.OSUser, Method: ByOSUser, Policy: p.hash(), Operator: p.isOperator(c.OSUID)}
	if c.OSUser == "" {
		g.User, g.Method = "anonymous", Anonymous
	}
	if p == nil {
		if c.User != "" {
			return Grant{User: c.User, Method: ByClaim}, nil
		}
		return g, nil
	}
	u, known := p.ofOSUser(c.OSUser)
	if known {
		g.User, g.Known, g.Roles, g.Groups = u.Name, true, p.rolesOf(u), slices.Clone(u.Groups)
	} else {
		u = p.Users[g.User] // somebody else can have the name; it can only lose by that
	}
	if u.Disabled {
		return Grant{}, disabled(u.Name)
	}
	if c.User == "" {
		return g, nil
	}
	if named := p.Users[c.User]; named.Disabled {
		return Grant{}, disabled(c.User)
	}
	asserted := Grant{User: c.User, Method: ByClaim, Policy: p.hash()}
	if u.Name != c.User {
		asserted.Holder = u.Name // empty: the operating-system user is not in the policy
	}
	return asserted, nil
}

// Operates is the grant of the operator of the host, whom no policy locks out of its management: one
// who is disabled as a user has nothing else. It is not for runs, and not for who shows a key.
func (p *Policy) Operates(c Claim) (Grant, bool) {
	if c.Key != "" || c.User != "" || !p.isOperator(c.OSUID) {
		return Grant{}, false
	}
	return Grant{User: c.OSUser, Method: ByOSUser, Policy: p.hash(), Operator: true}, true
}

// GrantOf is what a user of the policy has who has proved to be it, or else somebody whom the policy
// does not know. A disabled user has nothing.
func (p *Policy) GrantOf(name string) Grant {
	g := Grant{User: name, Method: ByClaim, Policy: p.hash()}
	if p == nil {
		return g
	}
	if u, ok := p.Users[name]; ok && !u.Disabled {
		g.Method, g.Known, g.Roles, g.Groups = ByKey, true, p.rolesOf(u), slices.Clone(u.Groups)
	}
	return g
}

// Refuses is the code of why a key of the policy is not accepted at a time; empty: it is.
func (p *Policy) Refuses(k Key, at time.Time) (code string) {
	switch {
	case !k.Revoked.IsZero(): // also one in the future: a clock that was set back revives no key
		return RevokedKey
	case !k.Expires.IsZero() && !at.Before(k.Expires):
		return ExpiredKey
	case p.Users[k.User].Disabled:
		return DisabledUser
	}
	return ""
}

// byKey is the identity that a key proves, or that its holder may assert.
func (p *Policy) byKey(c Claim) (Grant, *Denial) {
	refuse := func(code, id, user, why string) (Grant, *Denial) {
		return Grant{}, &Denial{Code: code, Message: why, KeyID: id, User: user}
	}
	id, formed, sum := ParseKey(c.Key)
	switch {
	case !formed:
		return refuse(MalformedKey, "", "", "the API key is not of the form of a key")
	case !sum:
		return refuse(BadChecksum, id, "", "the API key is mistyped: its checksum is wrong")
	case p == nil:
		return refuse(NoPolicy, id, "", "an API key was given, and there is no policy")
	}
	key, known := p.Keys[id]
	hash := noSecret
	if known {
		hash = key.SHA256
	}
	right := isKey(c.Key, hash)
	at := c.At
	if at.IsZero() {
		at = time.Now()
	}
	switch {
	case !known:
		return refuse(UnknownKey, id, "", "there is no API key "+id)
	case !right:
		return refuse(WrongKey, id, key.User, "the secret of the API key "+id+" is wrong")
	}
	switch code := p.Refuses(key, at); code {
	case RevokedKey:
		return refuse(code, id, key.User, "the API key "+id+" was revoked at "+stamp(key.Revoked))
	case ExpiredKey:
		return refuse(code, id, key.User, "the API key "+id+" has expired at "+stamp(key.Expires))
	case DisabledUser:
		return refuse(code, id, key.User, "the user "+key.User+" of the API key "+id+" is disabled")
	}
	holder := p.Users[key.User]
	u := holder
	g := Grant{Method: ByKey, Known: true, KeyID: id, Policy: p.hash()}
	if c.User != "" && c.User != holder.Name {
		if d := p.mayAssert(key, c.User); d != nil {
			d.Holder = holder.Name
			return Grant{}, d
		}
		u, g.Holder = p.Users[c.User], holder.Name
	}
	g.User, g.Groups = u.Name, slices.Clone(u.Groups)
	g.Roles, g.Withheld = within(p.rolesOf(u), key.Roles)
	return g, nil
}

// mayAssert says why the holder of a key may not name this user; nil: it may. The key has been
// accepted, so its holder learns that much. Whether there is such a user, it learns only of one that the
// key names.
func (p *Policy) mayAssert(key Key, name string) *Denial {
	d := &Denial{
		Message: fmt.Sprintf("the API key %s may not run code for the user %q", key.ID, name),
		Told:    true, User: name, KeyID: key.ID, Holder: key.User,
	}
	list := "key." + key.ID + ".may-assert"
	u, known := p.Users[name]
	named := slices.ContainsFunc(key.MayAssert, func(entry string) bool {
		group, isGroup := cutGroup(entry)
		return entry == name || isGroup && slices.Contains(u.Groups, group)
	})
	roles := p.rolesOf(u)
	switch {
	case !named && !slices.Contains(key.MayAssert, "*"):
		d.Code, d.Hint = MayNotAssert, "the policy names in "+list+" whom it may run code for"
	case !known:
		d.Code, d.Hint = UnknownUser, "the policy has no such user; whoever may change it can add one: py3runctl user add "+name
	case u.Disabled:
		d.Code, d.Hint = DisabledUser, "that user is disabled; whoever may change the policy can undo that: py3runctl user enable "+name
	case !named && (slices.Contains(roles, ScriptAdmin) || slices.Contains(roles, Auditor)):
		d.Code, d.Hint = AssertedAdmin, `"*" in `+list+" does not mean a script-admin or an auditor: the policy has to name "+name+" there"
	default:
		return nil
	}
	if !slices.Contains(key.MayAssert, name) { // else its holder could find out which users there are, and of what kind
		d.Shown = MayNotAssert
	}
	return d
}

func disabled(user string) *Denial {
	return &Denial{Code: DisabledUser, Message: fmt.Sprintf("the user %q is disabled", user), Hint: "whoever may change the policy can undo that: py3runctl user enable " + user, Told: true, User: user}
}

// isOperator reports whether a user of the operating system is above the policy: root; and where
// the policy is not the system's, the owner of its directory, who can replace it.
func (p *Policy) isOperator(uid int) bool {
	if p == nil {
		return uid == 0
	}
	return uid == 0 || !p.System && uid == p.owner
}

func (p *Policy) hash() string {
	if p == nil {
		return ""
	}
	return p.SHA256
}

// ofOSUser is the user of the policy that is this user of the operating system.
func (p *Policy) ofOSUser(name string) (User, bool) {
	if name == "" {
		return User{}, false
	}
	for _, u := range p.Users {
		if u.OSUser == name {
			return u, true
		}
	}
	return User{}, false
}

// rolesOf are the roles of a user: its own, and those of its groups.
func (p *Policy) rolesOf(u User) (roles []Role) {
	for _, r := range Roles {
		has := slices.Contains(u.Roles, r)
		for _, g := range u.Groups {
			has = has || slices.Contains(p.Groups[g].Roles, r)
		}
		if has {
			roles = append(roles, r)
		}
	}
	return roles
}

// RolesOf are the roles of a user of the policy, those of its groups included, in the order of Roles.
// A disabled user has none.
func (p *Policy) RolesOf(name string) []Role {
	if u := p.Users[name]; !u.Disabled {
		if roles := p.rolesOf(u); roles != nil {
			return roles
		}
	}
	return []Role{}
}

// within are the roles that a key's cap leaves, and those that it takes away; a nil cap leaves all.
func within(roles, most []Role) (left, withheld []Role) {
	if most == nil {
		return roles, nil
	}
	for _, r := range roles {
		if slices.Contains(most, r) {
			left = append(left, r)
		} else {
			withheld = append(withheld, r)
		}
	}
	return left, withheld
}

// LimitsFor are the bounds within which the policy keeps a run of g, for [config.Tighten]. mode is
// the request's security_mode: the profile of that name tightens, and a mode without one does nothing.
//
// The user's own value for a key wins over those of its roles; of these, the most generous counts.
// Where only a name was given, the limits of the user of that name hold, and those of the user of
// the operating system who gave it: both only tighten.
func (p *Policy) LimitsFor(g Grant, mode string) (bounds []config.Bound) {
	if p == nil {
		return nil
	}
	if g.Known {
		bounds = p.boundsOf(p.Users[g.User], g.Roles, true)
	} else {
		for _, name := range []string{g.User, g.Holder} {
			if u, ok := p.Users[name]; ok {
				bounds = append(bounds, p.boundsOf(u, p.rolesOf(u), false)...)
			}
		}
	}
	profile := p.Profiles[mode]
	for _, key := range profile.Keys() {
		bounds = append(bounds, config.Bound{Key: key, Value: profile[key], Where: p.Path + " (profile." + mode + ")"})
	}
	return bounds
}

// boundsOf are the bounds of a user who has these roles.
func (p *Policy) boundsOf(u User, roles []Role, replaces bool) (bounds []config.Bound) {
	values, from := config.Limits{}, map[string]string{}
	for _, r := range roles {
		for key, v := range p.RoleLimits[r] {
			if before, ok := values[key]; !ok || config.Generous(key, before, v) != before {
				values[key], from[key] = v, "role."+string(r)
			}
		}
	}
	for key, v := range u.Limits {
		values[key], from[key] = v, "user."+u.Name
	}
	for _, key := range values.Keys() {
		bounds = append(bounds, config.Bound{Key: key, Value: values[key], Where: p.Path + " (" + from[key] + ".limits)", Replaces: replaces})
	}
	return bounds
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
