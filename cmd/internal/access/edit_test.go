package access

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/tomledit"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("PY3RUN_TEST_EDIT"); path != "" {
		editForEver(path)
	}
	if words := strings.Fields(os.Getenv(childVariable)); len(words) > 0 {
		takeRuns(words)
		return
	}
	os.Exit(m.Run())
}

// Comments, order and everything that is not meant stay as they are.
func TestRewrite(t *testing.T) {
	t.Parallel()
	set := func(name string, change func(*User)) func(*Policy) {
		return func(p *Policy) {
			u := p.Users[name]
			u.Name = name
			change(&u)
			p.Users[name] = u
		}
	}
	for _, tt := range []struct {
		name, text string
		change     func(*Policy)
		want       string // what stands there instead; empty: it is refused
		diff       []string
	}{
		{"a role", sample, set("alice", func(u *User) { u.Roles = append(slices.Clone(u.Roles), ScriptAdmin) }),
			strings.Replace(sample, `roles = ["python3-executor"]`, `roles = ["python3-executor", "script-admin"]`, 1),
			[]string{"user alice: roles: + script-admin"}},
		{"disabled", sample, set("carol", func(u *User) { u.Disabled = true }),
			strings.Replace(sample, "roles = [\"auditor\"]\n", "roles = [\"auditor\"]\ndisabled = true\n", 1),
			[]string{"user carol: disabled"}},
		{"a table with a table below it", sample, set("alice", func(u *User) { u.Disabled = true }),
			strings.Replace(sample, "os-user = \"alice\"\n", "os-user = \"alice\"\ndisabled = true\n", 1), []string{"user alice: disabled"}},
		{"only a table below it", "version = 1\n[user.a.limits]\n", set("a", func(u *User) { u.Disabled = true }),
			"version = 1\n[user.a.limits]\n\n[user.a]\ndisabled = true\n", []string{"user a: disabled"}},
		{"enabled", sample, set("dave", func(u *User) { u.Disabled = false }),
			strings.Replace(sample, "disabled = true\n", "", 1), []string{"user dave: enabled"}},
		{"a new user", sample, set("eve", func(u *User) { u.Roles = []Role{Auditor}; u.FullName = `E "x" \ é` }),
			sample + "\n[user.eve]\nroles = [\"auditor\"]\nfull-name = \"E \\\"x\\\" \\\\ é\"\n", []string{`user eve: added: roles ["auditor"], full-name "E \"x\" \\ é"`}},
		{"a user without anything", sample, set("eve.x", func(*User) {}), sample + "\n[user.\"eve.x\"]\n", []string{"user eve.x: added"}},
		{"a limit", sample, set("alice", func(u *User) { u.Limits = config.Limits{"security.max-memory-mb": 128.0, "security.max-processes": 8} }),
			strings.Replace(sample, "max-memory-mb = 256\n", "max-memory-mb = 128\nsecurity.max-processes = 8\n", 1),
			[]string{"user alice: limits: security.max-memory-mb: 256 -> 128", "user alice: limits: security.max-processes: none -> 8"}},
		{"the first limit", sample, set("bob", func(u *User) { u.Limits = config.Limits{"security.max-memory-mb": 128.0} }),
			sample + "\n[user.bob.limits]\nsecurity.max-memory-mb = 128\n", []string{"user bob: limits: security.max-memory-mb: none -> 128"}},
		{"a comment behind a value", "version = 1\n[user.a]\nroles = [ # these\n 'auditor', # this\n] # and why\n# end", set("a", func(u *User) { u.Roles = []Role{Executor} }),
			"version = 1\n[user.a]\nroles = [\"python3-executor\"] # and why\n# end", []string{"user a: roles: + python3-executor, - auditor"}},
		{"no line end", "version = 1\n[user.a]", set("a", func(u *User) { u.OSUser = "x" }), "version = 1\n[user.a]\nos-user = \"x\"\n", []string{`user a: os-user: none -> "x"`}},
		{"dotted keys", "version = 1\nuser.a.roles = ['auditor']\n", set("a", func(u *User) { u.Roles = []Role{Executor} }),
			"version = 1\nuser.a.roles = [\"python3-executor\"]\n", []string{"user a: roles: + python3-executor, - auditor"}},
		{"dotted keys, another key", "version = 1\nuser.a.roles = ['auditor']\n", set("a", func(u *User) { u.Disabled = true }), "", nil},
		{"an inline table", "version = 1\nuser.a = { roles = ['auditor'] }\n", set("a", func(u *User) { u.Roles = nil }), "", nil},
		{"hash in a text", "version = 1\n[user.a]\nfull-name = '# [user.b]'\n[user.b]\n", set("a", func(u *User) { u.FullName = "b" }),
			"version = 1\n[user.a]\nfull-name = \"b\"\n[user.b]\n", []string{`user a: full-name: "# [user.b]" -> "b"`}},
		{"long text", "version = 1\n[user.a]\nfull-name = '''a'b''c'''''\n[user.b]\n", set("b", func(u *User) { u.FullName = "b" }),
			"version = 1\n[user.a]\nfull-name = '''a'b''c'''''\n[user.b]\nfull-name = \"b\"\n", []string{`user b: full-name: none -> "b"`}},
		{"a profile", sample, func(p *Policy) { p.Profiles = nil }, "", nil},
		{"a removed user", sample, func(p *Policy) { delete(p.Users, "dave") }, "", nil},
		{"a user of no group", sample, set("alice", func(u *User) { u.Groups = []string{"nobody"} }), "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := mustParse(t, tt.text)
			want := now.clone()
			tt.change(want)
			got, err := rewrite(now, want)
			if tt.want == "" {
				var refused *EditError
				if !errors.As(err, &refused) {
					t.Errorf("%v, %s", err, got)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("%v\n%s\nwant\n%s", err, got, tt.want)
			}
			if diff := Diff(now, mustParse(t, got)); !slices.Equal(diff, tt.diff) {
				t.Errorf("%q, want %q", diff, tt.diff)
			}
		})
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := Editing{Path: filepath.Join(dir, "etc", FileName), System: true, Group: -1, State: filepath.Join(dir, "state")}
	add := func(name string) func(*Policy) error {
		return func(p *Policy) error {
			p.Users[name] = User{Name: name}
			return nil
		}
	}
	before, first, err := e.Apply(add("alice"))
	if err != nil || before != nil || len(first.Users) != 1 {
		t.Fatalf("%v, %v, %v", before, first, err)
	}
	if info, err := os.Stat(e.Path); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.Chmod(e.Path, 0o640); err != nil {
		t.Fatal(err)
	}
	before, second, err := e.Apply(add("bob"))
	if err != nil || before.SHA256 != first.SHA256 || len(second.Users) != 2 {
		t.Fatalf("%v, %v, %v", before, second, err)
	}
	if info, err := os.Stat(e.Path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the mode did not stay: %v, %v", info, err)
	}
	for _, p := range []*Policy{first, second} {
		if kept, err := Kept(e.State, p.SHA256); err != nil || kept.Text != p.Text {
			t.Errorf("%v, %v", kept, err)
		}
	}
	if old, known := Before(e.State, first.SHA256); !known || !slices.Equal(Diff(old, second), []string{"user bob: added"}) {
		t.Errorf("%v, %q", known, Diff(old, second))
	}
	if got, known := Before(e.State, strings.Repeat("0", 64)); got != nil || known {
		t.Errorf("of a text that is not kept: %v, %v", got, known)
	}
	same, again, err := e.Apply(add("bob"))
	if err != nil || same != again {
		t.Errorf("no change: %v, %v, %v", same, again, err)
	}
	no := errors.New("no")
	if _, _, err := e.Apply(func(*Policy) error { return no }); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	if _, _, err := e.Replace("version = 2\n"); err == nil || !strings.Contains(err.Error(), "policy.toml:1: version: must be 1") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(e.Path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Apply(add("carol")); err == nil || !strings.Contains(err.Error(), "mended by hand") {
		t.Errorf("%v", err)
	}
	path := snapshotPath(e.State, first.SHA256)
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("version = 1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if kept, err := Kept(e.State, first.SHA256); kept != nil || err == nil || !strings.Contains(err.Error(), "it was changed") {
		t.Errorf("a changed text: %v, %v", kept, err)
	}
}

// A lock that somebody keeps is an error, and no wait for ever.
func TestLockIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := tomledit.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(lock)
	_, _, err = Editing{Path: filepath.Join(dir, FileName), Group: -1}.Apply(func(p *Policy) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "change the policy: lock "+dir+": held by another writer for too long") {
		t.Error(err)
	}
}

// Many writers at once lose nothing.
func TestApplyTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	done := make(chan error)
	const writers = 20
	for i := range writers {
		go func() {
			e := Editing{Path: filepath.Join(dir, FileName), Group: -1}
			_, _, err := e.Apply(func(p *Policy) error {
				name := fmt.Sprint("user-", i)
				p.Users[name] = User{Name: name}
				return nil
			})
			done <- err
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if p := mustLoad(t, []string{filepath.Join(dir, "none"), filepath.Join(dir, FileName)}); len(p.Users) != writers {
		t.Errorf("%d users", len(p.Users))
	}
}

// editForEver changes the policy until somebody ends this process, or the test has gone.
func editForEver(path string) {
	e := Editing{Path: path, Group: -1, State: filepath.Join(filepath.Dir(path), "state")}
	parent := os.Getppid()
	for i := 0; os.Getppid() == parent; i++ {
		_, _, err := e.Apply(func(p *Policy) error {
			id, key := NewKey()
			p.Users["gateway"] = User{Name: "gateway", FullName: fmt.Sprint("number ", i)}
			if len(p.Keys) > 20 {
				for id, k := range p.Keys {
					k.Revoked = time.Unix(int64(1e9+i), 0)
					p.Keys[id] = k
				}
				return nil
			}
			p.Keys[id] = Key{ID: id, User: "gateway", SHA256: HashKey(key), Created: time.Unix(1e9, 0)}
			return nil
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(1)
}

// Killed at any moment, a writer leaves a whole policy and whole texts of earlier ones.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	places := []string{filepath.Join(dir, "none"), path}
	rounds := 10
	if os.Getenv("PY3RUN_TEST_LONG") != "" {
		rounds = 500
	}
	seen := map[string]bool{}
	for range rounds {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "PY3RUN_TEST_EDIT="+path)
		var said strings.Builder
		c.Stderr = &said
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// The writer has to have come to its changes: the policy is another one than before.
		for changed := false; !changed; {
			p, err := Load(places, nil)
			if err != nil {
				t.Fatal(err)
			}
			changed = p != nil && !seen[p.SHA256]
		}
		time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond) // so that the moment differs; nothing waits for it
		c.Process.Kill()
		c.Wait()
		if said.Len() > 0 {
			t.Fatal(said.String())
		}
		seen[mustLoad(t, places).SHA256] = true
		kept, err := os.ReadDir(filepath.Join(dir, "state", snapshotsName))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range kept {
			hash, whole := strings.CutSuffix(entry.Name(), ".toml")
			if !whole || strings.HasPrefix(hash, ".new-") {
				continue
			}
			if p, err := Kept(filepath.Join(dir, "state"), hash); err != nil || p == nil {
				t.Fatalf("%s: %v", entry.Name(), err)
			}
		}
		os.RemoveAll(filepath.Join(dir, "state"))
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 2 {
		t.Errorf("%v, %v: more than the policy and one file that was begun", entries, err)
	}
}

// A new policy of the host is readable for a group, or else for everybody, and says who can read it.
func TestReaders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		system bool
		group  int
		chmod  os.FileMode // 0: as it was made
		mode   os.FileMode
		want   string
	}{
		{"no group", true, -1, 0, 0o644, "every user of this host can read it, as each run has to"},
		{"a group", true, os.Getegid(), 0, 0o640, "its owner and its group can read it, and nobody else can run code"},
		{"closed by hand", true, -1, 0o600, 0o600, "its owner alone can read it, and nobody else can run code"},
		{"a user's own", false, os.Getegid(), 0, 0o600, ""},
	} {
		path := filepath.Join(t.TempDir(), "etc", FileName)
		_, _, err := Editing{Path: path, System: tt.system, Group: tt.group}.Apply(func(p *Policy) error {
			p.Users["alice"] = User{Name: "alice"}
			return nil
		})
		if err == nil && tt.chmod != 0 {
			err = os.Chmod(path, tt.chmod)
		}
		if err != nil {
			t.Fatal(err)
		}
		places := []string{path}
		if !tt.system {
			places = []string{"/dev/null/none", path}
		}
		p, err := Load(places, nil)
		if info, _ := os.Stat(path); err != nil || info.Mode() != tt.mode || p.Readers() != tt.want {
			t.Errorf("%s: %v, %v, %q", tt.name, err, info.Mode(), p.Readers())
		}
	}
	if got := (*Policy)(nil).Readers(); got != "" {
		t.Errorf("no policy: %q", got)
	}
}
