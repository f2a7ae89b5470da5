package access

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/spelling"
	"py3run/cmd/internal/tomledit"
)

// FileName is the name of the policy in the directories of the configuration.
const FileName = "policy.toml"

// policyMost is how large a policy may be, in bytes.
const policyMost = 1 << 20

// Roles are all roles, in the order in which they are shown.
var Roles = []Role{Executor, ScriptAdmin, Auditor}

// A Policy says who there is, and what they may do. It is not changed after Load.
type Policy struct {
	Path   string // absolute
	SHA256 string // of Text
	Text   string
	System bool // it is that of the whole host

	Users      map[string]User
	Groups     map[string]Group
	Keys       map[string]Key
	RoleLimits map[Role]config.Limits
	Profiles   map[string]config.Limits

	owner   int    // of the directory
	mode    uint32 // of the file
	file    identity
	settled bool // the file was not changed just before it was read: see isSame
}

// A User is somebody that the policy knows.
type User struct {
	Name     string
	FullName string
	Roles    []Role // without those of its groups
	Groups   []string
	OSUser   string // the user of the operating system that is this user; empty: none
	Disabled bool
	Limits   config.Limits
}

// A Group has roles that all its users have.
type Group struct {
	Name  string
	Roles []Role
}

// A Key is what is known of an API key.
type Key struct {
	ID        string
	User      string
	SHA256    string // of the whole text, in hexadecimal
	Created   time.Time
	Expires   time.Time // zero: never
	Revoked   time.Time // zero: it is not
	Roles     []Role    // the most that it gives; nil: all that the user has
	MayAssert []string  // users, groups as group:NAME, or *: whom its holder may name as the user of a run
	Comment   string
}

// Codes of a PolicyError, and so of the failure of a run.
const (
	CodeUnreadable = "policy_unreadable"
	CodeBroken     = "policy_broken"
)

// A PolicyError says why a policy cannot be used. Nothing may run until it is mended.
type PolicyError struct {
	Code     string // CodeUnreadable or CodeBroken
	Findings []config.Finding
}

// Error is the first finding.
func (e *PolicyError) Error() string { return e.Findings[0].Error() }

// Unwrap is the first finding, a *config.Error, which can have a hint.
func (e *PolicyError) Unwrap() error { return &e.Findings[0] }

// SystemFile is the policy of the whole host. It is a variable for tests alone: those that run as root
// would else use and change the policy of the machine that they run on.
var SystemFile = config.SystemDir + "/" + FileName

// Places are where the policy is looked for: the first that exists counts, and the first is that of
// the whole host.
func Places(environ []string) []string {
	places := []string{SystemFile}
	if dir := config.UserDir(environ); dir != "" {
		places = append(places, filepath.Join(dir, FileName))
	}
	return places
}

// Load reads the policy at the first of the places that has one; nil: there is none. known is what
// an earlier call returned: it is returned again while the file stays the same. An error is a
// *PolicyError.
func Load(places []string, known *Policy) (*Policy, error) {
	for i, path := range places {
		p, err := load(path, i == 0, known)
		if p != nil || err != nil {
			return p, err
		}
	}
	return nil, nil
}

// An identity tells one state of a file from another.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func load(path string, system bool, known *Policy) (*Policy, error) {
	f, st, err := open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || !system && errors.Is(err, fs.ErrPermission) && config.OfOthers(path) {
			return nil, nil
		}
		return nil, unreadable(path, err)
	}
	defer f.Close()
	owner, err := safeDir(filepath.Dir(path))
	if err != nil {
		return nil, unreadable(path, err)
	}
	now := identity{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
	if known != nil && known.settled && known.Path == path && known.file == now {
		return known, nil
	}
	settled := time.Since(time.Unix(now.ctime.Unix())) > time.Second
	text, err := io.ReadAll(io.LimitReader(f, policyMost+1))
	if err == nil && len(text) > policyMost {
		err = fmt.Errorf("larger than %d MB", policyMost>>20)
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	p, findings := Parse(path, string(text))
	if findings != nil {
		return nil, &PolicyError{CodeBroken, findings}
	}
	p.System, p.file, p.settled, p.owner, p.mode = system, now, settled, owner, st.Mode
	return p, nil
}

// Readers says who can read the policy of the whole host, and so run code; empty: it is not that of the
// host.
func (p *Policy) Readers() string {
	switch {
	case p == nil || !p.System:
		return ""
	case p.mode&0o004 != 0:
		return "every user of this host can read it, as each run has to"
	case p.mode&0o040 != 0:
		return "its owner and its group can read it, and nobody else can run code"
	}
	return "its owner alone can read it, and nobody else can run code"
}

// Check returns everything that is wrong with the policy in a file, first with the file itself. The
// policy is nil if its text is wrong.
func Check(path string) (*Policy, []config.Finding) {
	f, st, err := openFile(path)
	if err != nil {
		return nil, unreadable(path, err).Findings
	}
	defer f.Close()
	var findings []config.Finding
	if err := isSafe(st, os.Geteuid()); err != nil {
		findings = unreadable(path, err).Findings
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > policyMost {
		return nil, findings
	}
	if _, err := safeDir(filepath.Dir(path)); err != nil {
		findings = append(findings, unreadable(path, err).Findings...)
	}
	text, err := io.ReadAll(io.LimitReader(f, policyMost))
	if err != nil {
		return nil, append(findings, unreadable(path, err).Findings...)
	}
	p, wrong := Parse(path, string(text))
	return p, append(findings, wrong...)
}

// LooksLikePolicy reports whether a file is meant as a policy: it has tables that only a policy has, or
// the name and the version of one.
func LooksLikePolicy(path string) bool {
	f, st, err := openFile(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(f, policyMost))
	if err != nil {
		return false
	}
	versioned, tables := false, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		key, _, assigned := strings.Cut(line, "=")
		versioned = versioned || assigned && strings.TrimSpace(key) == "version"
		for _, table := range []string{"[user.", "[group.", "[role.", "[key.", "[profile."} {
			tables = tables || strings.HasPrefix(line, table)
		}
	}
	return tables || versioned && filepath.Base(path) == FileName
}

// open opens a policy that nobody else can have written.
func open(path string) (*os.File, unix.Stat_t, error) {
	f, st, err := openFile(path)
	if err == nil {
		if err = isSafe(st, os.Geteuid()); err != nil {
			f.Close()
		}
	}
	return f, st, err
}

// openFile opens a file, whatever it is, and never waits for that.
func openFile(path string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	if err == unix.ELOOP {
		err = errors.New("is a symbolic link")
	}
	if err != nil {
		return nil, st, err
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, st, err
	}
	return f, st, nil
}

var errOpenToOthers = errors.New("others than its owner can write it")

// isSafe says what is wrong with the kind, owner or mode of a policy.
func isSafe(st unix.Stat_t, euid int) error {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return errors.New("is a directory")
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("not a regular file")
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%w (mode %04o)", errOpenToOthers, st.Mode&0o7777)
	case st.Uid != 0 && int(st.Uid) != euid:
		return fmt.Errorf("belongs to user %d, neither to root nor to this user", st.Uid)
	case st.Size > policyMost:
		return fmt.Errorf("larger than %d MB", policyMost>>20)
	}
	return nil
}

// errOpenDir says that somebody can put another policy in the place of this one, or remove it.
var errOpenDir = errors.New("others than its owner can replace it")

// safeDir returns the owner of the directory of a policy, and refuses one in which others could
// remove or replace the policy.
func safeDir(dir string) (owner int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, err
	}
	if st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return 0, fmt.Errorf("%w: its directory has mode %04o", errOpenDir, st.Mode&0o7777)
	}
	return int(st.Uid), nil
}

func unreadable(path string, err error) *PolicyError {
	finding := config.Finding{Where: path, Problem: "read the policy: " + problem(err), Hint: "nothing runs until it is mended; py3runctl access policy says all that is wrong"}
	switch {
	case errors.Is(err, errOpenDir):
		finding.Hint = "chmod go-w " + filepath.Dir(path)
	case errors.Is(err, fs.ErrPermission):
		finding.Hint = "whoever cannot read it can run nothing: its owner can let all read it (chmod 0644 " + path + "), or one group (chgrp GROUP and chmod 0640); of keys it has only hashes"
	case errors.Is(err, errOpenToOthers):
		finding.Hint = "chmod go-w " + path
	}
	return &PolicyError{CodeUnreadable, []config.Finding{finding}}
}

// problem is an error without the path, which stands in Where.
func problem(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}

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
