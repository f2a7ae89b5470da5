package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/tomledit"
	"py3run/internal/filelock"
)

// The texts of all policies that were in force are kept, by their SHA-256, which is what the log
// says of them. So it can be told later what a change was, and who had which role at a time.

const snapshotsName = "policies"

// Keep keeps the text of a policy in the state directory. It is quick if the text is there. A nil
// policy and an empty directory are nothing to do.
func Keep(state string, p *Policy) error {
	if state == "" || p == nil {
		return nil
	}
	path := snapshotPath(state, p.SHA256)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the text of the policy: %w", err)
	}
	lock, err := tomledit.Lock(dir)
	if err == nil {
		err = tomledit.Replace(lock, path, p.Text, 0o400, -1, -1)
		filelock.Release(lock)
	}
	if err != nil {
		return fmt.Errorf("keep the text of the policy: %w", err)
	}
	return nil
}

func snapshotPath(state, sha256 string) string {
	return filepath.Join(state, snapshotsName, sha256+".toml")
}

// Kept is a policy that was in force once; nil without an error: its text is not kept. The path is
// that of the kept text.
func Kept(state, sha256 string) (*Policy, error) {
	if state == "" || !IsHash(sha256) {
		return nil, nil
	}
	path := snapshotPath(state, sha256)
	p, err := load(path, false, nil)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, nil
	case err != nil || p == nil:
		return nil, err
	case p.SHA256 != sha256:
		return nil, fmt.Errorf("read %s: its hash is not the one in its name: it was changed", path)
	}
	return p, nil
}

// Before returns the policy that had this hash, for a comparison with one of now; false: it cannot be
// known, because its text is not kept. An empty hash is no policy.
func Before(state, sha256 string) (*Policy, bool) {
	if sha256 == "" {
		return nil, true
	}
	p, err := Kept(state, sha256)
	return p, p != nil && err == nil
}

// Diff says in short sentences what has changed from one policy to another; nil policies are none. It
// never tells the hash of a key.
func Diff(old, new *Policy) (changes []string) {
	before, after := old.tables(), new.tables()
	ids := map[string]bool{}
	for id := range before {
		ids[id] = true
	}
	for id := range after {
		ids[id] = true
	}
	for _, id := range sortedIDs(ids) {
		was, wasThere := before[id]
		is, isThere := after[id]
		switch {
		case !isThere:
			changes = append(changes, id+": removed")
		case !wasThere:
			changes = append(changes, id+": added"+listFields(is))
		default:
			changes = append(changes, fieldChanges(id+": ", was.fields, is.fields)...)
			changes = append(changes, fieldChanges(id+": limits: ", was.limits, is.limits)...)
		}
	}
	for _, r := range Roles {
		changes = append(changes, fieldChanges("role "+string(r)+": limits: ", limitFields(old.roleLimits(r)), limitFields(new.roleLimits(r)))...)
	}
	for _, name := range profileNames(old, new) {
		was, is := old.profile(name), new.profile(name)
		switch {
		case is == nil:
			changes = append(changes, "profile "+name+": removed")
		case was == nil:
			changes = append(changes, "profile "+name+": added"+listFields(rendered{limits: limitFields(is)}))
		default:
			changes = append(changes, fieldChanges("profile "+name+": ", limitFields(was), limitFields(is))...)
		}
	}
	return changes
}

func sortedIDs(ids map[string]bool) (list []string) {
	for id := range ids {
		list = append(list, id)
	}
	slices.SortFunc(list, bySection)
	return list
}

func (p *Policy) roleLimits(r Role) config.Limits {
	if p == nil {
		return nil
	}
	return p.RoleLimits[r]
}

// profile is nil where there is none.
func (p *Policy) profile(name string) config.Limits {
	if p == nil {
		return nil
	}
	return p.Profiles[name]
}

func profileNames(policies ...*Policy) (names []string) {
	for _, p := range policies {
		if p == nil {
			continue
		}
		for name := range p.Profiles {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func limitFields(l config.Limits) (list []field) {
	for _, key := range l.Keys() {
		list = append(list, field{key, l.Text(key)})
	}
	return list
}

// listFields are the fields of a new table, for a sentence.
func listFields(t rendered) string {
	var list []string
	for _, f := range slices.Concat(t.fields, t.limits) {
		if f.name != "sha256" && f.name != "created" {
			list = append(list, f.name+" "+f.value)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(list, ", ")
}

// fieldChanges says of each field what has changed. Of lists it says which items came and went.
func fieldChanges(about string, old, new []field) (changes []string) {
	find := func(of []field, name string) string {
		for _, f := range of {
			if f.name == name {
				return f.value
			}
		}
		return ""
	}
	var names []string
	for _, f := range slices.Concat(old, new) {
		if !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	for _, name := range names {
		was, is := find(old, name), find(new, name)
		if was == is {
			continue
		}
		what := about + name + ": "
		switch {
		case name == "sha256":
			changes = append(changes, about+"another secret")
		case name == "disabled":
			changes = append(changes, about+map[bool]string{true: "disabled", false: "enabled"}[is == "true"])
		case isList(was) && isList(is) && !(name == "roles" && strings.HasPrefix(about, "key ") && (was == "" || is == "")):
			if both := listChanges(was, is); both != "" {
				changes = append(changes, what+both)
			}
		default:
			changes = append(changes, what+orNone(was)+" -> "+orNone(is))
		}
	}
	return changes
}

func isList(value string) bool { return value == "" || strings.HasPrefix(value, "[") }

func orNone(value string) string {
	if value == "" {
		return "none"
	}
	return value
}

// listChanges is "+ a, - b": what one list has and the other does not.
func listChanges(was, is string) string {
	before, after := items(was), items(is)
	var parts []string
	for _, item := range after {
		if !slices.Contains(before, item) {
			parts = append(parts, "+ "+item)
		}
	}
	for _, item := range before {
		if !slices.Contains(after, item) {
			parts = append(parts, "- "+item)
		}
	}
	return strings.Join(parts, ", ")
}

// items are the texts of a rendered list. None of them has a comma or a quote: they are names.
func items(list string) []string {
	list = strings.Trim(list, "[]")
	if list == "" {
		return nil
	}
	names := strings.Split(list, ", ")
	for i, name := range names {
		names[i] = strings.Trim(name, `"`)
	}
	return names
}

// when is a time as TOML; empty: none.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}
