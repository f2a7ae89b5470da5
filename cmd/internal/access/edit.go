package access

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/tomledit"
	"py3run/internal/filelock"
)

// A policy is changed as text, so that comments and order stay:
//
//	lock the directory ─► read and parse ─► change a copy of the policy ─► make the same change in the text
//	─► parse that: it has to be exactly the changed copy ─► temporary file, fsync, rename, fsync of the directory

// An EditError says that a change cannot be made in the text as it is written.
type EditError struct {
	Path string
	Why  string
}

func (e *EditError) Error() string { return "change " + e.Path + ": " + e.Why }

// An Editing is a change of the policy at one place.
type Editing struct {
	Path   string
	System bool
	Group  int    // that may read a new file; -1: none
	State  string // the directory for the texts before and after; empty: they are not kept
}

// Apply changes the policy by a function that changes a copy of it, and returns both. It makes the
// file if there is none. If nothing is different then, it writes nothing and returns the same twice.
func (e Editing) Apply(change func(*Policy) error) (before, after *Policy, err error) {
	return e.replace(func(now *Policy) (string, error) {
		want := now.clone()
		if err := change(want); err != nil {
			return "", err
		}
		return rewrite(now, want)
	})
}

// Replace puts another text in the place of the policy, which has to be one.
func (e Editing) Replace(text string) (before, after *Policy, err error) {
	return e.replace(func(*Policy) (string, error) { return text, nil })
}

// emptyText is the policy that a new file begins with.
const emptyText = "version = 1\n"

func (e Editing) replace(make func(now *Policy) (string, error)) (before, after *Policy, err error) {
	dir := filepath.Dir(e.Path)
	mode := os.FileMode(0o700)
	if e.System {
		mode = 0o755
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return nil, nil, fmt.Errorf("change the policy: %w", err)
	}
	lock, err := tomledit.Lock(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("change the policy: %w", err)
	}
	defer filelock.Release(lock)
	before, err = load(e.Path, e.System, nil)
	var broken *PolicyError
	if errors.As(err, &broken) && broken.Code == CodeBroken {
		return nil, nil, fmt.Errorf("change the policy: it is broken, and has to be mended by hand: %w", err)
	}
	if err != nil {
		return nil, nil, err
	}
	now := before
	if now == nil {
		var findings []config.Finding
		if now, findings = Parse(e.Path, emptyText); findings != nil {
			return nil, nil, &findings[0]
		}
	}
	text, err := make(now)
	if err != nil {
		return nil, nil, err
	}
	if before != nil && text == before.Text {
		return before, before, nil
	}
	after, findings := Parse(e.Path, text)
	if findings != nil {
		return nil, nil, &PolicyError{CodeBroken, findings}
	}
	after.System = e.System
	for _, p := range []*Policy{before, after} {
		if err := Keep(e.State, p); err != nil {
			return nil, nil, err
		}
	}
	if err := e.write(lock, text); err != nil {
		return nil, nil, fmt.Errorf("change the policy: %w", err)
	}
	return before, after, nil
}

// write replaces the file as a whole. It keeps owner, group and mode. A new policy of the whole host
// can be read by a group, or else by everybody: each run reads it as the user who starts it, because no
// daemon could do that in its place, and who cannot read it can run nothing. With mode 0640 and no group,
// the first py3runctl user add of an operator would stop the runs of all ordinary users. What everybody
// can see then is who has which role and limits, and the ids of keys; their hashes are those of 256
// random bits, which nobody can guess.
func (e Editing) write(dir int, text string) error {
	mode, gid := uint32(0o600), -1
	switch {
	case e.System && e.Group >= 0:
		mode, gid = 0o640, e.Group
	case e.System:
		mode = 0o644
	}
	return tomledit.Write(dir, e.Path, text, mode, gid)
}

// clone is a copy that shares nothing which can be changed.
func (p *Policy) clone() *Policy {
	c := *p
	c.Users, c.Groups, c.Keys = maps.Clone(p.Users), maps.Clone(p.Groups), maps.Clone(p.Keys)
	for name, u := range c.Users {
		u.Roles, u.Groups, u.Limits = slices.Clone(u.Roles), slices.Clone(u.Groups), maps.Clone(u.Limits)
		c.Users[name] = u
	}
	for name, g := range c.Groups {
		g.Roles = slices.Clone(g.Roles)
		c.Groups[name] = g
	}
	for id, k := range c.Keys {
		k.Roles, k.MayAssert = slices.Clone(k.Roles), slices.Clone(k.MayAssert)
		c.Keys[id] = k
	}
	c.RoleLimits, c.Profiles = cloneLimits(p.RoleLimits), cloneLimits(p.Profiles)
	return &c
}

func cloneLimits[K comparable](of map[K]config.Limits) map[K]config.Limits {
	c := maps.Clone(of)
	for name, limits := range c {
		c[name] = maps.Clone(limits)
	}
	return c
}

// means reports whether two policies say the same. An empty list of groups says as much as none; a
// key without roles does not.
func (p *Policy) means(q *Policy) bool {
	return reflect.DeepEqual(p.tables(), q.tables()) && reflect.DeepEqual(p.RoleLimits, q.RoleLimits) && reflect.DeepEqual(p.Profiles, q.Profiles)
}

// A field is one key of a table, with its value as TOML.
type field struct{ name, value string }

// A rendered table is what a user, a group or a key says.
type rendered struct {
	section, name string
	fields        []field // in the order in which they are written
	limits        []field // of the table below it
}

// tables are all users, groups and keys, by section and name.
func (p *Policy) tables() map[string]rendered {
	all := map[string]rendered{}
	if p == nil {
		return all
	}
	for _, g := range p.Groups {
		all["group "+g.Name] = rendered{section: "group", name: g.Name, fields: fields(field{"roles", textList(Names(g.Roles))})}
	}
	for _, u := range p.Users {
		t := rendered{section: "user", name: u.Name, limits: limitFields(u.Limits), fields: fields(field{"roles", textList(Names(u.Roles))}, field{"groups", textList(u.Groups)},
			field{"full-name", text(u.FullName)}, field{"os-user", text(u.OSUser)}, field{"disabled", yes(u.Disabled)})}
		all["user "+u.Name] = t
	}
	for _, k := range p.Keys {
		roles := textList(Names(k.Roles))
		if k.Roles != nil && len(k.Roles) == 0 {
			roles = "[]"
		}
		all["key "+k.ID] = rendered{section: "key", name: k.ID, fields: fields(field{"user", text(k.User)}, field{"sha256", text(k.SHA256)},
			field{"created", when(k.Created)}, field{"expires", when(k.Expires)}, field{"revoked", when(k.Revoked)},
			field{"roles", roles}, field{"may-assert", textList(k.MayAssert)}, field{"comment", text(k.Comment)})}
	}
	return all
}

// fields are those that say something.
func fields(all ...field) []field {
	return slices.DeleteFunc(all, func(f field) bool { return f.value == "" })
}

func text(s string) string {
	if s == "" {
		return ""
	}
	return strconv.Quote(s) // which is TOML for what Parse accepts: see [config.Limits.Text]
}

func textList(list []string) string {
	if len(list) == 0 {
		return ""
	}
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return ""
}

// rewrite makes in the text of one policy the changes that lead to the other.
func rewrite(now, want *Policy) (string, error) {
	old, new := now.tables(), want.tables()
	text := now.Text
	for _, id := range slices.SortedFunc(maps.Keys(new), bySection) {
		t, before := new[id], old[id]
		path := []string{t.section, t.name}
		if _, there := old[id]; !there && len(t.fields) == 0 {
			text = tomledit.AppendTable(text, path)
		}
		text = rewriteTable(text, path, before.fields, t.fields)
		text = rewriteTable(text, append(path, "limits"), before.limits, t.limits)
	}
	after, findings := Parse(now.Path, text)
	switch {
	case findings != nil:
		return "", &EditError{now.Path, findings[0].Key + ": " + findings[0].Problem} // its line is that of a text that nobody sees
	case !after.means(want):
		return "", &EditError{now.Path, "the text is written in a way in which this change cannot be made without changing more; change it by hand"}
	}
	return text, nil
}

// bySection sorts tables so that those come first to which others refer.
func bySection(a, b string) int {
	rank := func(id string) int { return strings.Index("group user key", id[:3]) }
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// rewriteTable makes the changes of one table.
func rewriteTable(text string, path []string, old, new []field) string {
	value := func(of []field, name string) string {
		if i := slices.IndexFunc(of, func(f field) bool { return f.name == name }); i >= 0 {
			return of[i].value
		}
		return ""
	}
	for _, f := range old {
		if value(new, f.name) == "" {
			text = tomledit.Remove(text, path, f.name)
		}
	}
	for _, f := range new {
		if value(old, f.name) != f.value {
			text = tomledit.Set(text, path, f.name, f.value)
		}
	}
	return text
}
