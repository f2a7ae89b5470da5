package access

import (
	"fmt"
	"maps"
	"slices"
)

// What a change of the policy gives away is told beside its sentences, because alerts depend on it: no
// wording and no long list of other changes must hide it.

// grantsMost is how many entries of a list of grants have a place in a record, which cannot be of any length.
const grantsMost = 50

// Grants says who has which role under one policy, and did not have it under another, as
// "carol: script-admin". Who has a role is a user by itself or by a group, a user of the operating system
// who now is such a user (os-user NAME), and a key that now has more of its user's roles (key ID). A new
// key of a user gives no role. The roles that can do most come first. nil policies are none.
func Grants(old, new *Policy) (list []string) {
	before, after := old.holders(), new.holders()
	for _, role := range []Role{ScriptAdmin, Auditor, Executor} {
		for _, who := range slices.Sorted(maps.Keys(after)) {
			h := after[who]
			was, has := before[who].roles, h.roles
			isNew := slices.Contains(has, role) && !slices.Contains(was, role)
			ofUser := who != h.user && slices.Contains(after[h.user].roles, role) && !slices.Contains(before[h.user].roles, role) // which is told of the user
			newKey := h.isKey && !before[who].isKey
			if isNew && !ofUser && !newKey {
				list = append(list, who+": "+string(role))
			}
		}
	}
	return someEntries(list)
}

// AnyUserKeys lists the ids of keys that may name any user under one policy, and may not under another.
func AnyUserKeys(old, new *Policy) (list []string) {
	if new == nil {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(new.Keys)) {
		if new.Keys[id].namesAnyone() && (old == nil || !old.Keys[id].namesAnyone()) {
			list = append(list, id)
		}
	}
	return someEntries(list)
}

func (k Key) namesAnyone() bool { return k.Revoked.IsZero() && slices.Contains(k.MayAssert, "*") }

func someEntries(list []string) []string {
	if more := len(list) - grantsMost; more > 0 {
		list = append(list[:grantsMost:grantsMost], fmt.Sprintf("and %d more", more))
	}
	return list
}

// A holder is somebody or something that has roles.
type holder struct {
	user  string // of the policy, whose roles they are
	roles []Role
	isKey bool
}

// holders are all that have roles, by the names that Grants has for them. A user without roles is there, too.
func (p *Policy) holders() map[string]holder {
	all := map[string]holder{}
	if p == nil {
		return all
	}
	for name, u := range p.Users {
		all[name] = holder{user: name, roles: p.RolesOf(name)}
		if u.OSUser != "" {
			all["os-user "+u.OSUser] = holder{user: name, roles: p.RolesOf(name)}
		}
	}
	for id, k := range p.Keys {
		h := holder{user: k.User, isKey: true}
		if k.Revoked.IsZero() {
			h.roles = within(p.RolesOf(k.User), k.Roles)
		}
		all["key "+id] = h
	}
	return all
}
