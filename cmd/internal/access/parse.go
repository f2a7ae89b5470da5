package access

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/spelling"
	"py3run/cmd/internal/tomledit"
)

// Parse returns the policy that a text is, or all that is wrong with it, in the order of lines. path
// is for messages.
func Parse(path, text string) (*Policy, []config.Finding) {
	if !utf8.ValidString(text) {
		return nil, []config.Finding{{Where: path, Problem: "not UTF-8 text"}}
	}
	if p, ok := quick(text); ok {
		p.Path, p.SHA256, p.Text = path, hashOf(text), text
		return p, nil
	}
	return parse(path, text)
}

// parse is Parse for every form of a text, and says what is wrong with it.
func parse(path, text string) (*Policy, []config.Finding) {
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		finding := config.Finding{Where: path, Problem: err.Error()}
		if pe, ok := errors.AsType[toml.ParseError](err); ok {
			finding.Where, finding.Problem = fmt.Sprintf("%s:%d", path, pe.Position.Line), pe.Message
		}
		return nil, []config.Finding{finding}
	}
	r := reading{Policy: emptyPolicy(0, 0)}
	r.Path, r.SHA256, r.Text = path, hashOf(text), text
	r.read(tree)
	if len(r.wrong) > 0 {
		return nil, r.findings(path, text)
	}
	return r.Policy, nil
}

// emptyPolicy has nobody, and room for so many.
func emptyPolicy(users, keys int) *Policy {
	return &Policy{Users: make(map[string]User, users), Groups: map[string]Group{}, Keys: make(map[string]Key, keys), RoleLimits: map[Role]config.Limits{}, Profiles: map[string]config.Limits{}}
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// A reading turns a decoded text into a policy, and collects what is wrong.
type reading struct {
	*Policy
	wrong []mistake
}

// A mistake is a finding whose line is not known yet.
type mistake struct {
	path          []string
	problem, hint string
}

func (r *reading) mistake(path []string, problem, hint string) {
	r.wrong = append(r.wrong, mistake{slices.Clone(path), problem, hint})
}

func (r *reading) findings(path, text string) (list []config.Finding) {
	where := tomledit.Statements(text)
	lines := make(map[*mistake]int, len(r.wrong))
	var sorted []*mistake
	for i := range r.wrong {
		m := &r.wrong[i]
		lines[m] = tomledit.LineOf(where, m.path)
		sorted = append(sorted, m)
	}
	slices.SortStableFunc(sorted, func(a, b *mistake) int {
		return cmp.Or(cmp.Compare(lines[a], lines[b]), slices.Compare(a.path, b.path), cmp.Compare(a.problem, b.problem))
	})
	for _, m := range sorted {
		f := config.Finding{Where: path, Key: toml.Key(m.path).String(), Problem: m.problem, Hint: m.hint}
		if n := lines[m]; n > 0 {
			f.Where = fmt.Sprintf("%s:%d", path, n)
		}
		list = append(list, f)
	}
	return list
}

// A table is a table of the text, with its place.
type table struct {
	path   []string
	values map[string]any
}

func (t table) at(name string) []string { return append(t.path[:len(t.path):len(t.path)], name) }

// read reads the whole text. What refers to something else is checked at the end.
func (r *reading) read(tree map[string]any) {
	root := table{nil, tree}
	r.known(root, "version", "user", "group", "role", "key", "profile")
	switch v, ok := tree["version"]; {
	case !ok:
		r.mistake([]string{"version"}, "is missing", "write version = 1 in the first line")
	case v != int64(1):
		r.mistake([]string{"version"}, "must be 1, not "+describe(v), "another version of py3run can have written this policy")
	}
	r.each(root, "group", r.group)
	r.each(root, "user", r.user)
	r.each(root, "role", r.role)
	r.each(root, "key", r.key)
	r.each(root, "profile", r.profile)
	r.agree()
}

// known reports the names in a table that mean nothing.
func (r *reading) known(t table, names ...string) {
	for name := range t.values {
		if slices.Contains(names, name) {
			continue
		}
		problem, hint := "unknown key", "the keys here are "+strings.Join(names, ", ")
		if near := spelling.Nearest(name, names); near != "" {
			problem += ", the nearest is " + toml.Key(t.at(near)).String()
			hint = "did you mean " + strconv.Quote(near) + "?"
		}
		r.mistake(t.at(name), problem, hint)
	}
}

// each reads the tables below a section, in the order of their names.
func (r *reading) each(root table, section string, read func(name string, t table)) {
	v, ok := root.values[section]
	if !ok {
		return
	}
	all, ok := v.(map[string]any)
	if !ok {
		r.mistake([]string{section}, "must be tables such as ["+section+".NAME], not "+describe(v), "")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t := table{path: []string{section, name}}
		if t.values, ok = all[name].(map[string]any); !ok {
			r.mistake(t.path, "must be a table, not "+describe(all[name]), "write ["+section+".NAME]")
			continue
		}
		read(name, t)
	}
}

// ValidName reports whether a user, a group or a profile can have this name.
func ValidName(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("._@-", rune(c))) {
			return false
		}
	}
	return true
}

const nameRule = "is not a name: 1 to 64 ASCII letters, digits and . _ @ -, the first a letter or digit"

func (r *reading) named(t table, name string) bool {
	if ValidName(name) {
		return true
	}
	r.mistake(t.path, nameRule, "")
	return false
}

func (r *reading) user(name string, t table) {
	r.known(t, "roles", "groups", "full-name", "os-user", "disabled", "limits")
	if !r.named(t, name) {
		return
	}
	u := User{Name: name, Roles: r.roles(t), Groups: r.texts(t, "groups"), FullName: r.text(t, "full-name"), OSUser: r.text(t, "os-user"), Limits: r.limits(t, t.values["limits"], "limits", false)}
	if v, ok := t.values["disabled"]; ok {
		if u.Disabled, ok = v.(bool); !ok {
			r.mistake(t.at("disabled"), "must be true or false, not "+describe(v), "")
		}
	}
	if !isOSUser(u.OSUser) {
		r.mistake(t.at("os-user"), "must be the name of a user of the operating system, not "+describe(u.OSUser), "")
	}
	r.Users[name] = u
}

// isOSUser reports whether a user of the operating system can have this name; it can be empty.
func isOSUser(name string) bool { return !strings.ContainsAny(name, " \t/:") && len(name) <= 256 }

func (r *reading) group(name string, t table) {
	r.known(t, "roles")
	if r.named(t, name) {
		r.Groups[name] = Group{name, r.roles(t)}
	}
}

func (r *reading) role(name string, t table) {
	r.known(t, "limits")
	if !r.isRole(t.path, name) {
		return
	}
	if limits := r.limits(t, t.values["limits"], "limits", false); limits != nil {
		r.RoleLimits[Role(name)] = limits
	}
}

func (r *reading) profile(name string, t table) {
	if !r.named(t, name) {
		return
	}
	r.Profiles[name] = r.limits(table{[]string{"profile"}, nil}, t.values, name, true)
}

func (r *reading) key(id string, t table) {
	r.known(t, "user", "sha256", "created", "expires", "revoked", "roles", "may-assert", "comment")
	if !isKeyID(id) {
		r.mistake(t.path, "is not the id of a key", "py3runctl key create makes keys")
		return
	}
	k := Key{ID: id, User: r.text(t, "user"), SHA256: r.text(t, "sha256"), Created: r.time(t, "created"), Expires: r.time(t, "expires"), Revoked: r.time(t, "revoked"),
		Roles: r.roles(t), MayAssert: r.texts(t, "may-assert"), Comment: r.text(t, "comment")}
	for _, name := range []string{"user", "sha256", "created"} {
		if _, ok := t.values[name]; !ok {
			r.mistake(t.at(name), "is missing", "")
		}
	}
	if _, ok := t.values["sha256"]; ok && !IsHash(k.SHA256) {
		r.mistake(t.at("sha256"), "must be 64 digits of lower-case hexadecimal", "py3runctl key create makes keys")
	}
	r.Keys[id] = k
}

// limits reads a table of limits; nil: there is none.
func (r *reading) limits(t table, v any, name string, onlyTighten bool) config.Limits {
	if v == nil {
		return nil
	}
	tree, ok := v.(map[string]any)
	if !ok {
		r.mistake(t.at(name), "must be a table, not "+describe(v), "")
		return nil
	}
	limits, wrong := config.ParseLimits(tree, "", onlyTighten)
	for _, e := range wrong {
		r.mistake(append(t.at(name), tomledit.SplitKey(e.Key)...), e.Problem, e.Hint)
	}
	return limits
}

func (r *reading) text(t table, name string) string {
	v, ok := t.values[name]
	if !ok {
		return ""
	}
	s, ok := v.(string)
	switch {
	case !ok:
		r.mistake(t.at(name), "must be text in quotes, not "+describe(v), "")
	case s == "":
		r.mistake(t.at(name), "must not be empty", "leave it out")
	case hasControl(s):
		r.mistake(t.at(name), "must be text without control characters", "")
	}
	return s
}

// hasControl reports whether a text has characters that control a terminal, or the order of its letters.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool {
		return unicode.IsControl(c) || c >= utf8.RuneSelf && unicode.Is(unicode.Bidi_Control, c)
	})
}

// texts reads a list of texts without repetitions; nil: there is none.
func (r *reading) texts(t table, name string) []string {
	v, ok := t.values[name]
	if !ok {
		return nil
	}
	items, ok := v.([]any)
	if !ok {
		r.mistake(t.at(name), `must be a list such as ["a", "b"], not `+describe(v), "")
		return nil
	}
	list := make([]string, 0, len(items))
	for _, item := range items {
		s, ok := item.(string)
		switch {
		case !ok:
			r.mistake(t.at(name), "must be a list of texts, not of "+describe(item), "")
		case slices.Contains(list, s):
			r.mistake(t.at(name), strconv.Quote(s)+" stands here twice", "")
		default:
			list = append(list, s)
		}
	}
	return list
}

func (r *reading) roles(t table) (roles []Role) {
	names := r.texts(t, "roles")
	if names == nil {
		return nil
	}
	roles = make([]Role, 0, len(names))
	for _, name := range names {
		if r.isRole(t.at("roles"), name) {
			roles = append(roles, Role(name))
		}
	}
	return roles
}

func (r *reading) isRole(at []string, name string) bool {
	if slices.Contains(Roles, Role(name)) {
		return true
	}
	r.unknown(at, "role", name, Names(Roles))
	return false
}

// Names are the names of roles, or of actions.
func Names[T Role | Action](list []T) (names []string) {
	for _, one := range list {
		names = append(names, string(one))
	}
	return names
}

// unknown reports a name that refers to nothing.
func (r *reading) unknown(at []string, kind, name string, names []string) {
	problem, hint := "there is no "+kind+" "+strconv.Quote(name), ""
	if kind == "role" {
		hint = "the roles are " + strings.Join(names, ", ")
	}
	if near := spelling.Nearest(name, names); near != "" {
		problem += ", the nearest is " + strconv.Quote(near)
	}
	r.mistake(at, problem, hint)
}

func (r *reading) time(t table, name string) time.Time {
	v, ok := t.values[name]
	if !ok {
		return time.Time{}
	}
	at, ok := v.(time.Time)
	if !ok {
		r.mistake(t.at(name), "must be a time such as 2026-12-01T10:00:00Z, without quotes, not "+describe(v), "")
		return time.Time{}
	}
	if zone := at.Location().String(); strings.HasSuffix(zone, "-local") { // so the decoder marks times without a zone
		r.mistake(t.at(name), "must have a zone, as in 2026-12-01T10:00:00Z", "")
		return time.Time{}
	}
	if at.IsZero() {
		r.mistake(t.at(name), "is no time at which there were keys", "")
	}
	return at.UTC()
}

// agree checks what refers to something else. Nothing in it sorts names unless there is a mistake:
// it is done at each run.
func (r *reading) agree() {
	differ(r, "user", r.Users)
	differ(r, "group", r.Groups)
	r.agreeOSUsers()
	for name, u := range r.Users {
		for _, g := range u.Groups {
			if _, ok := r.Groups[g]; !ok {
				r.unknown([]string{"user", name, "groups"}, "group", g, slices.Sorted(maps.Keys(r.Groups)))
			}
		}
	}
	for id, k := range r.Keys {
		if _, ok := r.Users[k.User]; !ok && k.User != "" {
			r.unknown([]string{"key", id, "user"}, "user", k.User, slices.Sorted(maps.Keys(r.Users)))
		}
		for _, entry := range k.MayAssert {
			if group, isGroup := cutGroup(entry); isGroup {
				if _, ok := r.Groups[group]; !ok {
					r.unknown([]string{"key", id, "may-assert"}, "group", group, slices.Sorted(maps.Keys(r.Groups)))
				}
			} else if _, ok := r.Users[entry]; !ok && entry != "*" {
				r.unknown([]string{"key", id, "may-assert"}, "user", entry, slices.Sorted(maps.Keys(r.Users)))
			}
		}
	}
}

// agreeOSUsers reports users of the operating system that are several users of the policy.
func (r *reading) agreeOSUsers() {
	users, n := make(map[string]string, len(r.Users)), 0
	for name, u := range r.Users {
		if u.OSUser != "" {
			users[u.OSUser] = name
			n++
		}
	}
	if len(users) == n {
		return
	}
	clear(users)
	for _, name := range slices.Sorted(maps.Keys(r.Users)) {
		u := r.Users[name]
		if other, taken := users[u.OSUser]; taken && u.OSUser != "" {
			r.mistake([]string{"user", name, "os-user"}, strconv.Quote(u.OSUser)+" is the user "+other+" already", "")
		}
		users[u.OSUser] = name
	}
}

// differ reports names that differ by case alone: people take them for one.
func differ[T any](r *reading, section string, named map[string]T) {
	capitals := false
	for name := range named {
		capitals = capitals || strings.ToLower(name) != name
	}
	if !capitals {
		return
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		low := strings.ToLower(name)
		if other, taken := seen[low]; taken {
			r.mistake([]string{section, name}, "differs from "+strconv.Quote(other)+" by case alone", "")
		}
		seen[low] = name
	}
}

// describe names a decoded value in a message.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	case time.Time:
		return "a time"
	default:
		return fmt.Sprint(v)
	}
}
