package access

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"py3run/cmd/internal/config"
)

// sample has everything that a policy can say.
const sample = `version = 1   # the first

[user.alice]   # she knows the plant
roles = ["python3-executor"]
groups = ["operators"]
full-name = "Alice Example"
os-user = "alice"
[user.alice.limits]
security.max-memory-mb = 256

[user.bob]
roles = ["python3-executor", "script-admin"]
[user.carol]
roles = ["auditor"]
[user.dave]
groups = ["operators"]
disabled = true
[user.gateway-a]
roles = ["python3-executor"]

[group.operators]
roles = ["python3-executor"]
[role.python3-executor.limits]
security.max-memory-mb = 512
security.isolation.network = "none"

[key.k7qm2x9a]
user = "gateway-a"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
created = 2026-12-01T10:00:00Z
expires = 2027-12-01T00:00:00Z
roles = ["python3-executor"]
may-assert = ["alice", "group:operators", "*"]
comment = "the gateway of plant A"

[profile.RESTRICTED]
security.isolation.network = "none"
security.max-cpu-seconds = 10
`

func mustParse(t testing.TB, text string) *Policy {
	t.Helper()
	p, findings := Parse("policy.toml", text)
	if findings != nil {
		t.Fatalf("%v", findings)
	}
	return p
}

func TestParse(t *testing.T) {
	t.Parallel()
	p := mustParse(t, sample)
	alice, k := p.Users["alice"], p.Keys["k7qm2x9a"]
	if alice.FullName != "Alice Example" || alice.OSUser != "alice" || alice.Limits.Text("security.max-memory-mb") != "256" || len(alice.Groups) != 1 {
		t.Errorf("alice: %+v", alice)
	}
	if k.User != "gateway-a" || len(k.MayAssert) != 3 || k.Expires.Year() != 2027 || !k.Revoked.IsZero() || k.Roles == nil {
		t.Errorf("key: %+v", k)
	}
	if !p.Users["dave"].Disabled || p.RoleLimits[Executor].Text("security.isolation.network") != `"none"` || len(p.Profiles["RESTRICTED"]) != 2 {
		t.Errorf("%+v", p)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	const key = "version = 1\n[user.a]\n[key.k7qm2x9a]\nuser = 'a'\ncreated = 2026-12-01T10:00:00Z\nsha256 = '" + "00000000000000000000000000000000" + "00000000000000000000000000000000" + "'\n"
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "p: version: is missing"},
		{"version", "version = 2", "p:1: version: must be 1, not 2"},
		{"version as text", "version = '1'", `p:1: version: must be 1, not "1"`},
		{"syntax", "version = 1\n[user.alice\n", "p:3: expected"},
		{"twice", "version = 1\n[user.a]\n[user.a]\n", "p:3: "},
		{"not UTF-8", "version = 1 # \xff", "p: not UTF-8 text"},
		{"mistyped section", "version = 1\n[users.alice]\n", "p:2: users: unknown key, the nearest is user"},
		{"mistyped key", "version = 1\n[user.alice]\n\nrole = ['auditor']\n", "p:4: user.alice.role: unknown key, the nearest is user.alice.roles"},
		{"case of a key", "version = 1\n[user.alice]\nRoles = ['auditor']\n", "p:3: user.alice.Roles: unknown key, the nearest is user.alice.roles"},
		{"no table", "version = 1\nuser = 3\n", "p:2: user: must be tables such as [user.NAME], not 3"},
		{"no table of one", "version = 1\n[user]\nalice = 3\n", "p:3: user.alice: must be a table, not 3"},
		{"role", "version = 1\n[user.a]\nroles = ['python-executor']\n", `p:3: user.a.roles: there is no role "python-executor", the nearest is "python3-executor"`},
		{"role twice", "version = 1\n[user.a]\nroles = ['auditor', 'auditor']\n", `p:3: user.a.roles: "auditor" stands here twice`},
		{"roles as text", "version = 1\n[user.a]\nroles = 'auditor'\n", `p:3: user.a.roles: must be a list such as ["a", "b"], not "auditor"`},
		{"limits of a role", "version = 1\n[role.admin.limits]\n", `p:2: role.admin: there is no role "admin"`},
		{"name", "version = 1\n[user.\"../x\"]\n", `p:2: user."../x": is not a name`},
		{"confusable", "version = 1\n[user.\"аlice\"]\n", "is not a name"},
		{"group name as user", "version = 1\n[user.\"group:a\"]\n", "is not a name"},
		{"long name", "version = 1\n[user." + strings.Repeat("a", 65) + "]\n", "is not a name"},
		{"case alone", "version = 1\n[user.alice]\n[user.Alice]\n", `p:2: user.alice: differs from "Alice" by case alone`},
		{"no such group", "version = 1\n[user.a]\ngroups = ['operator']\n[group.operators]\n", `p:3: user.a.groups: there is no group "operator", the nearest is "operators"`},
		{"os-user twice", "version = 1\n[user.a]\nos-user = 'x'\n[user.b]\nos-user = 'x'\n", `p:5: user.b.os-user: "x" is the user a already`},
		{"os-user", "version = 1\n[user.a]\nos-user = 'x:y'\n", "p:3: user.a.os-user: must be the name of a user"},
		{"control character", "version = 1\n[user.a]\nfull-name = \"a\\u001b\"\n", "p:3: user.a.full-name: must be text without control characters"},
		{"bidi", "version = 1\n[user.a]\nfull-name = \"a\u202e\"\n", "p:3: user.a.full-name: must be text without control characters"},
		{"empty text", "version = 1\n[user.a]\nos-user = ''\n", "p:3: user.a.os-user: must not be empty"},
		{"disabled", "version = 1\n[user.a]\ndisabled = 'no'\n", `p:3: user.a.disabled: must be true or false, not "no"`},
		{"mistyped limit", "version = 1\n[user.a.limits]\nsecurity.max-memory = 1\n", "p:3: user.a.limits.security.max-memory: unknown key, the nearest is security.max-memory-mb"},
		{"limit of another kind", "version = 1\n[user.a.limits]\nsecurity.max-memory-mb = 'x'\n", `p:3: user.a.limits.security.max-memory-mb: must be a number, not "x"`},
		{"limit that cannot be", "version = 1\n[user.a.limits]\npython.interpreter = '3.12'\n", "p:3: user.a.limits.python.interpreter: cannot be tightened: none of its values is stricter than the others"},
		{"limit for all", "version = 1\n[user.a.limits]\ninput.max-request-mb = 3\n", "p:3: user.a.limits.input.max-request-mb: cannot differ from user to user: a request is read before its user is known"},
		{"profile that loosens", "version = 1\n[profile.A]\nsecurity.isolation.network = 'host'\n", `p:3: profile.A.security.isolation.network: "host" bounds nothing, and a profile can only tighten`},
		{"profile without a limit", "version = 1\n[profile.A]\nsecurity.max-memory-mb = 0\n", "p:3: profile.A.security.max-memory-mb: 0 bounds nothing"},
		{"key id", "version = 1\n[key.short]\n", "p:2: key.short: is not the id of a key"},
		{"key without a user", strings.Replace(key, "user = 'a'\n", "", 1), "p:3: key.k7qm2x9a.user: is missing"},
		{"user of a key", strings.Replace(key, "user = 'a'", "user = 'aa'", 1), `p:4: key.k7qm2x9a.user: there is no user "aa", the nearest is "a"`},
		{"hash", strings.Replace(key, "'00", "'0G", 1), "p:6: key.k7qm2x9a.sha256: must be 64 digits"},
		{"time as text", key + "expires = '2027-01-01'\n", "p:7: key.k7qm2x9a.expires: must be a time such as"},
		{"time without a zone", key + "expires = 2027-01-01T00:00:00\n", "p:7: key.k7qm2x9a.expires: must have a zone"},
		{"date", key + "revoked = 2027-01-01\n", "p:7: key.k7qm2x9a.revoked: must have a zone"},
		{"may assert whom", key + "may-assert = ['b']\n", `p:7: key.k7qm2x9a.may-assert: there is no user "b"`},
		{"may assert which group", key + "may-assert = ['group:b']\n", `p:7: key.k7qm2x9a.may-assert: there is no group "b"`},
		{"in an inline table", "version = 1\nuser.a = {\nroles = [\n'x'], limits = { security = { max-memory-mb = true } } }\n", "p:2: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, findings := Parse("p", tt.text)
			if p != nil || len(findings) == 0 || !strings.Contains(findings[0].Error(), tt.want) {
				t.Errorf("%v, want %q", findings, tt.want)
			}
		})
	}
	_, all := Parse("p", "version = 3\n[user.b]\nrole = 1\n[user.a]\nx = 1\n[key.x]\n")
	var lines []string
	for _, f := range all {
		lines = append(lines, f.Where)
	}
	if got := strings.Join(lines, " "); got != "p:1 p:3 p:5 p:6" {
		t.Errorf("findings at %s: %v", got, all)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	system, own := filepath.Join(dir, "etc", FileName), filepath.Join(dir, "home", FileName)
	places := []string{system, own}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Dir(system), 0o755))
	must(os.Mkdir(filepath.Dir(own), 0o755))
	if p, err := Load(places, nil); p != nil || err != nil {
		t.Fatalf("without a policy: %v, %v", p, err)
	}
	must(os.WriteFile(own, []byte(sample), 0o600))
	p, err := Load(places, nil)
	must(err)
	if p.System || p.Path != own || p.owner != os.Geteuid() || len(p.SHA256) != 64 {
		t.Errorf("%+v", p)
	}
	long := time.Now().Add(-time.Hour)
	must(os.Chtimes(own, long, long)) // the change itself was now, so the file is not settled
	if again, err := Load(places, p); again == p || err != nil {
		t.Errorf("a policy that has just changed was not read again: %v", err)
	}
	p.settled = true
	p.file = mustLoad(t, places).file
	if again, err := Load(places, p); again != p || err != nil {
		t.Errorf("the same file was read again: %v", err)
	}
	must(os.WriteFile(own, []byte(sample+"\n"), 0o600))
	if again, err := Load(places, p); again == p || err != nil || again.SHA256 == p.SHA256 {
		t.Errorf("another file was not read: %v", err)
	}
	must(os.WriteFile(system, []byte("version = 1\n"), 0o640))
	if p = mustLoad(t, places); !p.System || len(p.Users) != 0 {
		t.Errorf("%+v", p)
	}
	for _, tt := range []struct {
		name, code, want string
		spoil            func() error
	}{
		{"writable by the group", CodeUnreadable, "others than its owner can write it (mode 0660)", func() error { return os.Chmod(system, 0o660) }},
		{"writable by all", CodeUnreadable, "others than its owner can write it (mode 0602)", func() error { return os.Chmod(system, 0o602) }},
		{"in a directory that the group can write", CodeUnreadable, "others than its owner can replace it: its directory has mode 0775", func() error { return errors.Join(os.Chmod(system, 0o600), os.Chmod(filepath.Dir(system), 0o775)) }},
		{"large", CodeUnreadable, "larger than 1 MB", func() error {
			must(os.Chmod(filepath.Dir(system), 0o755))
			return errors.Join(os.Chmod(system, 0o600), os.WriteFile(system, []byte("version = 1\n"+strings.Repeat("#\n", 1<<19)), 0o600))
		}},
		{"broken", CodeBroken, FileName + ": version: is missing", func() error { return os.WriteFile(system, []byte("verson = 1\n"), 0o600) }},
		{"a link", CodeUnreadable, "is a symbolic link", func() error { return errors.Join(os.Remove(system), os.Symlink(own, system)) }},
		{"a link to nothing", CodeUnreadable, "is a symbolic link", func() error { return errors.Join(os.Remove(system), os.Symlink("nothing", system)) }},
		{"a directory", CodeUnreadable, "is a directory", func() error { return errors.Join(os.Remove(system), os.Mkdir(system, 0o700)) }},
	} {
		must(tt.spoil())
		p, err := Load(places, nil)
		var broken *PolicyError
		var finding *config.Error
		if p != nil || !errors.As(err, &broken) || broken.Code != tt.code || !errors.As(err, &finding) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v, want %s", tt.name, p, err, tt.want)
		}
	}
}

func mustLoad(t *testing.T, places []string) *Policy {
	t.Helper()
	p, err := Load(places, nil)
	if err != nil || p == nil {
		t.Fatalf("%v, %v", p, err)
	}
	return p
}

// plant is a policy with so many users and keys.
func plant(n int) string {
	text := "version = 1\n[group.operators]\nroles = [\"python3-executor\"]\n"
	for i := range n {
		text += fmt.Sprintf("[user.user-%d]\nroles = [\"python3-executor\"]\ngroups = [\"operators\"]\nfull-name = \"User %d\"\nos-user = \"u%d\"\n[user.user-%d.limits]\nsecurity.max-memory-mb = 256\n", i, i, i, i)
		id, key := NewKey()
		text += fmt.Sprintf("[key.%s]\nuser = \"user-%d\"\nsha256 = \"%s\"\ncreated = 2026-12-01T10:00:00Z\nexpires = 2027-12-01T00:00:00Z\n", id, i, HashKey(key))
	}
	return text
}

func BenchmarkParse(b *testing.B) {
	text := plant(50)
	for b.Loop() {
		if _, findings := Parse("p", text); findings != nil {
			b.Fatal(findings)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	text := plant(50)
	b.Run("quick", func(b *testing.B) {
		for b.Loop() {
			quick(text)
		}
	})
	b.Run("decoder", func(b *testing.B) {
		for b.Loop() {
			var tree map[string]any
			toml.Decode(text, &tree)
		}
	})
}

func BenchmarkLoadNone(b *testing.B) {
	places := []string{"/nonexistent/a/policy.toml", "/nonexistent/b/policy.toml"}
	for b.Loop() {
		if p, err := Load(places, nil); p != nil || err != nil {
			b.Fatal(p, err)
		}
	}
}

// A policy of the size that a plant has is read quickly.
func TestQuickReadsWhatToolsWrite(t *testing.T) {
	t.Parallel()
	want := mustParse(t, "version = 1\n").clone()
	want.Users["a.b@example.com"] = User{Name: "a.b@example.com", Roles: []Role{Executor}, Limits: config.Limits{"security.max-memory-mb": 5.0}}
	written, err := rewrite(mustParse(t, "version = 1\n"), want)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a plant": plant(50), "the sample": sample, "an address as a name": written} {
		if _, ok := quick(text); !ok {
			t.Errorf("%s is left to the decoder", name)
		}
	}
}
