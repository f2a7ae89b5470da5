package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestGrants(t *testing.T) {
	t.Parallel()
	const sum = "sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\ncreated = 2020-01-01T00:00:00Z\n"
	const base = "version = 1\n[group.ops]\n[user.ann]\nroles = [\"auditor\"]\n[user.bob]\n[key.aaaaaaaa]\nuser = \"ann\"\n" + sum + "roles = []\n"
	for _, tt := range []struct {
		name     string
		from, to string // texts that are replaced in base
		grants   []string
		keys     []string
	}{
		{"nothing", "", "", nil, nil},
		{"a role", "[user.bob]", "[user.bob]\nroles = [\"auditor\", \"script-admin\"]", []string{"bob: script-admin", "bob: auditor"}, nil},
		{"a role by a group", "[group.ops]\n[user.ann]", "[group.ops]\nroles = [\"script-admin\"]\n[user.ann]\ngroups = [\"ops\"]", []string{"ann: script-admin"}, nil},
		{"a group without users", "[group.ops]", "[group.ops]\nroles = [\"script-admin\"]", nil, nil},
		{"a role is lost", "roles = [\"auditor\"]", "", nil, nil},
		{"a user of the operating system", "[user.ann]", "[user.ann]\nos-user = \"root\"", []string{"os-user root: auditor"}, nil},
		{"who gets the role by both", "[user.bob]", "[user.bob]\nos-user = \"bob\"\nroles = [\"auditor\"]", []string{"bob: auditor"}, nil},
		{"the cap of a key", "roles = []", "", []string{"key aaaaaaaa: auditor"}, nil},
		{"a new key", "[user.bob]", "[user.bob]\n[key.bbbbbbbb]\nuser = \"ann\"\n" + sum, nil, nil},
		{"a key that names anyone", "roles = []", "roles = []\nmay-assert = [\"*\"]", nil, []string{"aaaaaaaa"}},
		{"a new user with a role", "[user.bob]", "[user.bob]\n[user.eve]\nroles = [\"python3-executor\"]", []string{"eve: python3-executor"}, nil},
	} {
		old, new := mustParse(t, base), mustParse(t, strings.Replace(base, tt.from, tt.to, 1))
		if got := Grants(old, new); !slices.Equal(got, tt.grants) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.grants)
		}
		if got := AnyUserKeys(old, new); !slices.Equal(got, tt.keys) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.keys)
		}
	}
}

// However many roles are given, the list is short, and what can do most is in it.
func TestGrantsAreFew(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("version = 1\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "[user.a%04d]\nroles = [\"python3-executor\"]\n", i)
	}
	text.WriteString("[user.zoe]\nroles = [\"script-admin\"]\n")
	got := Grants(nil, mustParse(t, text.String()))
	if len(got) != grantsMost+1 || got[0] != "zoe: script-admin" || got[grantsMost] != "and 951 more" {
		t.Errorf("got %d: %q … %q", len(got), got[0], got[len(got)-1])
	}
}

// What a copy changes, the policy does not have.
func TestCloneIsDeep(t *testing.T) {
	t.Parallel()
	const text = "version = 1\n[user.ann]\nroles = [\"auditor\"]\n[user.ann.limits]\nsecurity.max-memory-mb = 64\n[role.auditor.limits]\nsecurity.max-memory-mb = 64\n[profile.night]\nsecurity.max-memory-mb = 64\n"
	p := mustParse(t, text)
	c := p.clone()
	c.Users["ann"].Roles[0] = ScriptAdmin
	c.Users["ann"].Limits["security.max-memory-mb"] = 1.0
	c.RoleLimits[Auditor]["security.max-memory-mb"] = 1.0
	c.Profiles["night"]["security.max-memory-mb"] = 1.0
	if changes := Diff(mustParse(t, text), p); changes != nil {
		t.Errorf("got %q", changes)
	}
}
