package cmd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/internal/need"
)

// A realm is a place with a policy.
type realm struct {
	place
	self string // the name of this user of the operating system
	keys map[string]string
}

// newRealm makes a place of its own for configuration, state and log. The texts of keys are named by
// their comment: NAME in the policy stands for the id, the hash and the time of a key that is made.
func newRealm(t *testing.T, policy string) *realm {
	t.Helper()
	if _, err := os.Lstat(systemPolicy); err == nil {
		need.That(t, "no policy", errors.New("this host has one, which wins over that of a test: "+systemPolicy))
	}
	return newRealmOf(t, policy)
}

const systemPolicy = config.SystemDir + "/" + access.FileName

func newRealmOf(t *testing.T, policy string) *realm {
	t.Helper()
	r := &realm{place: newPlace(t), keys: map[string]string{}}
	r.env = append(r.env, "XDG_STATE_HOME="+filepath.Join(r.dir, "state"), "HOME="+r.dir)
	me, err := osuser.Current()
	if err != nil {
		t.Fatal(err)
	}
	r.self = me.Username
	for part := range strings.SplitSeq(policy, "[key.") {
		if name, _, ok := strings.Cut(part, "]\n"); ok && name == strings.ToUpper(name) && !strings.ContainsAny(name, "[. ") {
			id, text := access.NewKey()
			r.keys[name] = text
			policy = strings.Replace(policy, "[key."+name+"]\n", "[key."+id+"]\nsha256 = \""+access.HashKey(text)+"\"\ncreated = 2020-01-01T00:00:00Z\n", 1)
		}
	}
	if policy != "" {
		r.write(t, strings.ReplaceAll(policy, "SELF", r.self))
	}
	return r
}

func (r *realm) policy() string { return filepath.Join(r.dir, "py3run", access.FileName) }

func (r *realm) write(t *testing.T, policy string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.policy()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.policy(), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keyFile writes a key into a file.
func (r *realm) keyFile(t *testing.T, key string) string {
	t.Helper()
	path := filepath.Join(r.dir, fmt.Sprintf("key-%x", key[max(0, len(key)-4):]))
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A logged is what the tests look at in a record.
type logged struct {
	Event struct{ Action, Outcome, Reason string }
	User  struct {
		Name          string
		Roles, Groups []string
	}
	Auth struct {
		Method string
		KeyID  string `json:"key_id"`
		Holder string
	}
	Script struct{ Name, Version, Source string }
	Code   struct {
		SHA256 string
		Bytes  int
	}
	Status   string
	Limits   map[string]float64
	RunID    string `json:"run_id"`
	Refusals *struct{ Count int }
	Policy   *struct {
		Path    string
		Changes []string
	}
	Configuration []struct{ Path, SHA256 string }
}

func (r *realm) log(t *testing.T) (list []logged) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "audit", "audit.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var l logged
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		list = append(list, l)
	}
	return list
}

// An asking is how a request comes: with a key, and with a name.
type asking struct{ key, user string }

// A shown is what the caller sees of the outcome.
type shown struct {
	status, code, message string
	text                  string // all of it
}

// ways are the ways in which a request comes.
var ways = map[string]func(t *testing.T, r *realm, a asking) shown{
	"exec": func(t *testing.T, r *realm, a asking) shown {
		return r.exec(t, a.fields(map[string]any{"code": "result = 1"}))
	},
	"run": func(t *testing.T, r *realm, a asking) shown {
		args := []string{"run", "--result-file", filepath.Join(r.dir, "result")}
		if a.key != "" {
			args = append(args, "--api-key-file", r.keyFile(t, a.key))
		}
		if a.user != "" {
			args = append(args, "--user", a.user)
		}
		os.Remove(filepath.Join(r.dir, "result"))
		said, _ := r.command(append(args, "-c", "result = 1")...).CombinedOutput()
		line, err := os.ReadFile(filepath.Join(r.dir, "result"))
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		s := resultOf(t, line)
		s.text += string(said)
		return s
	},
	"bridge":      func(t *testing.T, r *realm, a asking) shown { return r.bridge(t, a) },
	"bridge keep": func(t *testing.T, r *realm, a asking) shown { return r.bridge(t, a, "--state=keep") },
	"python": func(t *testing.T, r *realm, a asking) shown {
		if a.user != "" {
			t.Skip("a drop-in cannot name a user")
		}
		c := r.command("python", "-c", "import os; print([k for k in os.environ if k.startswith('PY3RUN_')])")
		if a.key != "" {
			c.Env = append(slices.Clone(c.Env), "PY3RUN_API_KEY_FILE="+r.keyFile(t, a.key))
		}
		out, err := c.CombinedOutput()
		s := shown{status: "ok", text: string(out)}
		if err != nil {
			s.status = map[int]string{121: "denied", 125: "config_error"}[c.ProcessState.ExitCode()]
			s.message = string(out)
		} else if strings.TrimSpace(string(out)) != "[]" {
			t.Errorf("the interpreter has %s", out)
		}
		return s
	},
}

func (a asking) fields(request map[string]any) map[string]any {
	if a.key != "" {
		request["api_key"] = a.key
	}
	if a.user != "" {
		request["user"] = a.user
	}
	return request
}

func (r *realm) exec(t *testing.T, request map[string]any, args ...string) shown {
	t.Helper()
	c := r.command(append([]string{"exec"}, args...)...)
	c.Stdin = bytes.NewReader(mustJSON(t, request))
	var said bytes.Buffer
	c.Stderr = &said
	out, _ := c.Output()
	s := resultOf(t, out)
	s.text += said.String()
	return s
}

func resultOf(t *testing.T, line []byte) shown {
	t.Helper()
	var v struct {
		Status  string
		Error   string
		Failure struct {
			Code      string
			Retryable bool
		}
	}
	if err := json.Unmarshal(line, &v); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if v.Status == "denied" && v.Failure.Retryable {
		t.Errorf("a denial is retryable: %s", line)
	}
	return shown{status: v.Status, code: v.Failure.Code, message: v.Error, text: string(line)}
}

func (r *realm) bridge(t *testing.T, a asking, args ...string) shown {
	t.Helper()
	c := newClient(t, r.place, nil, args...)
	c.say(string(mustJSON(t, a.fields(map[string]any{"code": "result = 1"}))) + "\n")
	line := c.line()
	var v bridgeReply
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	s := shown{status: "ok", code: v.Failure.Code, message: v.Error, text: line}
	if !v.Success {
		s.status = "denied"
		if strings.HasPrefix(v.Failure.Code, "policy_") {
			s.status = "config_error"
		}
	}
	return s
}

const aPolicy = `version = 1
[user.alice]
roles = ["python3-executor"]
groups = ["operators"]
[user.boss]
roles = ["python3-executor", "script-admin"]
[user.gone]
roles = ["python3-executor"]
disabled = true
[user.reader]
roles = ["auditor"]
[user.gateway]
roles = ["python3-executor"]
[group.operators]
[key.ALICE]
user = "alice"
[key.CAPPED]
user = "boss"
roles = ["auditor"]
[key.EXPIRED]
user = "alice"
expires = 2021-01-01T00:00:00Z
[key.REVOKED]
user = "alice"
revoked = 2021-01-01T00:00:00Z
[key.GONE]
user = "gone"
[key.READER]
user = "reader"
[key.GATEWAY]
user = "gateway"
may-assert = ["group:operators"]
[key.STAR]
user = "gateway"
may-assert = ["*"]
`

// Who asks, by all ways in which a request comes: what the caller learns, and what the record says.
func TestIdentity(t *testing.T) {
	t.Parallel()
	const refused = "api_key_not_accepted"
	for _, tt := range []struct {
		name    string
		policy  string
		require bool
		key     string // name of a key, or its text
		user    string

		status, code string // of the result
		reason       string // of the record
		who, method  string
		holder       string
	}{
		{"no policy", "", false, "", "", "ok", "", "", "SELF", "os-user", ""},
		{"no policy, a name", "", false, "", "alice", "ok", "", "", "alice", "asserted", ""},
		{"no policy, a key", "", false, "p3r_abcdefgh_x", "", "denied", refused, "malformed-key", "", "api-key", ""},
		{"no policy, and somebody is to be known", "", true, "", "", "denied", "identity_required", "identity-required", "SELF", "os-user", ""},
		{"a policy without this user", aPolicy, false, "", "", "ok", "", "", "SELF", "os-user", ""},
		{"a name that is not in the policy", aPolicy, false, "", "carol", "ok", "", "", "carol", "asserted", ""},
		{"the name of a user of the policy", aPolicy, false, "", "alice", "ok", "", "", "alice", "asserted", ""},
		{"the name of a user who may not run code", aPolicy, false, "", "reader", "denied", "missing_role", "missing-role", "reader", "asserted", ""},
		{"the name of a disabled user", aPolicy, false, "", "gone", "denied", "disabled_user", "disabled-user", "gone", "asserted", ""},
		{"a name does not do where somebody is to be known", aPolicy, true, "", "alice", "denied", "identity_required", "identity-required", "alice", "asserted", ""},
		{"a user of the operating system", aPolicy + "[user.local]\nos-user = \"SELF\"\nroles = [\"python3-executor\"]\n", true, "", "", "ok", "", "", "local", "os-user", ""},
		{"one who may not run code", aPolicy + "[user.local]\nos-user = \"SELF\"\n", false, "", "", "denied", "missing_role", "missing-role", "local", "os-user", ""},
		{"a disabled one", aPolicy + "[user.local]\nos-user = \"SELF\"\ndisabled = true\nroles = [\"python3-executor\"]\n", false, "", "", "denied", "disabled_user", "disabled-user", "local", "os-user", ""},
		{"a key", aPolicy, true, "ALICE", "", "ok", "", "", "alice", "api-key", ""},
		{"a key and its own user's name", aPolicy, false, "ALICE", "alice", "ok", "", "", "alice", "api-key", ""},
		{"a key and another name", aPolicy, false, "ALICE", "boss", "denied", "may_not_assert", "may-not-assert", "boss", "asserted", "alice"},
		{"a key whose cap leaves nothing to run with", aPolicy, false, "CAPPED", "", "denied", "missing_role", "missing-role", "boss", "api-key", ""},
		{"an expired key", aPolicy, false, "EXPIRED", "", "denied", refused, "expired-key", "alice", "api-key", ""},
		{"a revoked key", aPolicy, false, "REVOKED", "", "denied", refused, "revoked-key", "alice", "api-key", ""},
		{"a key of a disabled user", aPolicy, false, "GONE", "", "denied", refused, "disabled-user", "gone", "api-key", ""},
		{"a key of a user without the role", aPolicy, false, "READER", "", "denied", "missing_role", "missing-role", "reader", "api-key", ""},
		{"a key that is not in the policy", aPolicy, false, "STRANGER", "", "denied", refused, "unknown-key", "", "api-key", ""},
		{"a gateway names a user", aPolicy, true, "GATEWAY", "alice", "ok", "", "", "alice", "api-key", "gateway"},
		{"a gateway names somebody else", aPolicy, false, "GATEWAY", "boss", "denied", "may_not_assert", "may-not-assert", "boss", "asserted", "gateway"},
		{"a gateway does not learn who is unknown", aPolicy, false, "GATEWAY", "carol", "denied", "may_not_assert", "may-not-assert", "carol", "asserted", "gateway"},
		{"a star names an unknown user", aPolicy, false, "STAR", "carol", "denied", "may_not_assert", "unknown-user", "carol", "asserted", "gateway"},
		{"a star names a disabled user", aPolicy, false, "STAR", "gone", "denied", "may_not_assert", "disabled-user", "gone", "asserted", "gateway"},
		{"a star is no admin", aPolicy, false, "STAR", "boss", "denied", "may_not_assert", "asserted-admin", "boss", "asserted", "gateway"},
		{"a star is the others", aPolicy, false, "STAR", "alice", "ok", "", "", "alice", "api-key", "gateway"},
		{"a broken policy", "version = 1\n[user.alice]\nrolls = []\n", false, "", "", "config_error", "policy_broken", "", "", "", ""},
	} {
		for way, ask := range ways {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				r := newRealm(t, tt.policy)
				if tt.require {
					r.env = append(r.env, "PY3RUN_IDENTITY_REQUIRE=true")
				}
				_, r.keys["STRANGER"] = access.NewKey()
				key := r.keys[tt.key]
				if key == "" {
					key = tt.key
				}
				got := ask(t, r, asking{key, tt.user})
				if got.status != tt.status || way != "python" && got.code != tt.code {
					t.Fatalf("%+v, want %s %s", got, tt.status, tt.code)
				}
				r.isSecret(t, key, got.text)
				list := r.log(t)
				if tt.status == "config_error" {
					if len(list) > 0 || !strings.Contains(got.message, r.policy()+":3") {
						t.Errorf("%d records, %s", len(list), got.message)
					}
					return
				}
				if len(list) == 0 {
					t.Fatal("no record")
				}
				last := list[len(list)-1]
				who, holder := strings.ReplaceAll(tt.who, "SELF", r.self), strings.ReplaceAll(tt.holder, "SELF", r.self)
				if last.User.Name != who || last.Auth.Method != tt.method || last.Auth.Holder != holder || last.Event.Reason != tt.reason {
					t.Errorf("the record has %+v", last)
				}
				if wantID, _, formed := access.ParseKey(key); last.Auth.KeyID != wantID || formed != (tt.key != "" && key != tt.key) {
					t.Errorf("key_id %q, want %q", last.Auth.KeyID, wantID)
				}
				if tt.status == "denied" && (len(list) != 1 || last.Event.Action != "execution-denied" || last.Event.Outcome != "denied" || last.Status != "denied" || last.RunID == "" || last.Code.SHA256 == "") {
					t.Errorf("%d records, the last %+v", len(list), last)
				}
				if file := list[0].Configuration; len(file) != 4 || file[3].Path != r.policy() || (file[3].SHA256 != "") != (tt.policy != "") {
					t.Errorf("configuration %+v", file)
				}
			})
		}
	}
}

// isSecret looks for a key, and for its hash, wherever something of a run can be found later.
func (r *realm) isSecret(t *testing.T, key string, texts ...string) {
	t.Helper()
	if key == "" {
		return
	}
	filepath.WalkDir(r.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && filepath.Dir(path) != r.dir && path != r.policy() && !strings.Contains(path, "policies") {
			text, _ := os.ReadFile(path)
			texts = append(texts, path+": "+string(text))
		}
		return nil
	})
	for _, text := range texts {
		for _, secret := range []string{key, access.HashKey(key)} {
			if strings.Contains(text, secret) {
				t.Errorf("the key is in %.300s", text)
			}
		}
	}
}

// What cannot be trusted refuses every run: it is not passed over.
func TestPolicyThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, code, want string
		spoil            func(path string) error
	}{
		{"others can write it", "policy_unreadable", "chmod go-w", func(path string) error { return os.Chmod(path, 0o622) }},
		{"others can replace it", "policy_unreadable", "chmod go-w", func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) }},
		{"a directory", "policy_unreadable", "is a directory", func(path string) error { os.Remove(path); return os.Mkdir(path, 0o700) }},
		{"a link", "policy_unreadable", "symbolic link", func(path string) error { os.Remove(path); return os.Symlink("/dev/null", path) }},
		{"a mistyped key", "policy_broken", `did you mean \"roles\"`, func(path string) error {
			return os.WriteFile(path, []byte("version = 1\n[user.a]\nrole = []\n"), 0o600)
		}},
		{"no TOML", "policy_broken", ":1", func(path string) error { return os.WriteFile(path, []byte("what\n"), 0o600) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRealm(t, aPolicy)
			if err := tt.spoil(r.policy()); err != nil {
				t.Fatal(err)
			}
			for way, ask := range ways {
				got := ask(t, r, asking{})
				if got.status != "config_error" || way != "python" && (got.code != tt.code || !strings.Contains(got.text, tt.want)) {
					t.Errorf("%s: %+v", way, got)
				}
			}
		})
	}
}

// A policy that somebody has edited is one policy-change that says what has changed. One that a run finds again is none.
func TestPolicyEdited(t *testing.T) {
	t.Parallel()
	r := newRealm(t, "")
	run := func() {
		t.Helper()
		if s := r.exec(t, map[string]any{"code": ""}); s.status != "ok" && s.status != "denied" {
			t.Fatalf("%+v", s)
		}
	}
	changes := func() (list []string) {
		for _, l := range r.log(t) {
			if l.Event.Action == "policy-change" {
				list = append(list, l.Event.Reason+": "+strings.Join(l.Policy.Changes, "; "))
			}
		}
		return list
	}
	run()
	r.write(t, "version = 1\n[user.alice]\nroles = [\"python3-executor\"]\n")
	run()
	run()
	if got := changes(); len(got) != 1 || !strings.HasPrefix(got[0], "file-appeared: user alice: added") {
		t.Fatalf("%q", got)
	}
	r.write(t, "version = 1\n[user.alice]\nroles = [\"python3-executor\", \"script-admin\"]\n[user.local]\nos-user = \""+r.self+"\"\n")
	run() // denied, and it says so all the same
	run()
	if got := changes(); len(got) != 2 || !strings.Contains(got[1], "user alice: roles: + script-admin") || !strings.Contains(got[1], "user local: added") {
		t.Errorf("%q", got)
	}
}

// The policy and the file with the key cannot be seen, changed, moved or replaced from inside.
func TestPolicyIsOutOfReach(t *testing.T) {
	t.Parallel()
	need.That(t, "namespaces", tryNamespaces())
	r := newRealm(t, aPolicy)
	before, err := os.ReadFile(r.policy())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "secret"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.dir, "secret", "key")
	if err := os.WriteFile(file, []byte(r.keys["ALICE"]), 0o600); err != nil {
		t.Fatal(err)
	}
	code := `import os, tempfile
result = []
mine = tempfile.mkstemp()[1]
try: open(POLICY, "w") # what is written there goes nowhere
except OSError: pass
for path in PATHS:
    for name, do in [("read", lambda: open(path).read() or 1/0), ("remove", lambda: os.remove(path)),
                     ("move", lambda: os.rename(path, path + "x")), ("replace", lambda: os.replace(mine, path)), ("move dir", lambda: os.rename(os.path.dirname(path), os.path.dirname(path) + "x"))]:
        try:
            do()
            result.append(path + ": " + name)
        except (OSError, ZeroDivisionError):
            pass
os.remove(mine)
assert not [k for k in os.environ if "KEY" in k or k.startswith("PY3RUN_")]
`
	for _, way := range []string{"exec", "python"} {
		text := strings.ReplaceAll(code, "PATHS", string(mustJSON(t, []string{r.policy(), file})))
		text = strings.Replace(text, "POLICY", string(mustJSON(t, r.policy())), 1)
		var got string
		if way == "exec" {
			s := r.exec(t, map[string]any{"code": text}, "--api-key-file", file)
			var v struct{ Result []string }
			if json.Unmarshal([]byte(strings.SplitN(s.text, "\n", 2)[0]), &v) != nil || s.status != "ok" {
				t.Fatalf("%+v", s)
			}
			got = strings.Join(v.Result, ", ")
		} else {
			c := r.command("python", "-c", text+"print(*result, end='')")
			c.Env = append(slices.Clone(c.Env), "PY3RUN_API_KEY_FILE="+file)
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			got = string(out)
		}
		if got != "" {
			t.Errorf("%s: %s", way, got)
		}
		after, err := os.ReadFile(r.policy())
		if key, _ := os.ReadFile(file); err != nil || string(after) != string(before) || string(key) != r.keys["ALICE"] {
			t.Fatalf("%s: it has changed: %v", way, err)
		}
	}
	for _, l := range r.log(t) {
		if l.User.Name != "alice" || !slices.Equal(l.User.Roles, []string{"python3-executor"}) || !slices.Equal(l.User.Groups, []string{"operators"}) {
			t.Errorf("%+v", l)
		}
	}
}

// The policy of the host wins over that of a user. Both are hidden, and neither can be changed, also by root's code.
func TestSystemPolicy(t *testing.T) {
	t.Parallel()
	need.That(t, "namespaces", tryNamespaces())
	if _, err := os.Stat(config.SystemDir); err != nil {
		need.That(t, "system configuration", err) // a run as root makes the directory
	}
	r := newRealmOf(t, aPolicy)
	system := filepath.Join(r.dir, "system.toml")
	if err := os.WriteFile(system, []byte("version = 1\n[user.local]\nos-user = \"root\"\nroles = [\"python3-executor\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code := `import os
result = []
for path in ` + string(mustJSON(t, []string{systemPolicy, r.policy()})) + `:
    for do in [lambda: open(path).read() or 1/0, lambda: os.remove(path), lambda: os.rename(path, path + "x"), lambda: os.rename(os.path.dirname(path), "/tmp/x"), lambda: open(os.path.dirname(path) + "/new", "w")]:
        try:
            do()
            result.append(path)
        except (OSError, ZeroDivisionError):
            pass
`
	request := filepath.Join(r.dir, "request")
	if err := os.WriteFile(request, mustJSON(t, map[string]any{"code": code}), 0o600); err != nil {
		t.Fatal(err)
	}
	options := "-m"
	if os.Geteuid() != 0 {
		options = "-Urm"
	}
	c := exec.Command("unshare", options, "sh", "-c", `mount -t tmpfs none `+config.SystemDir+` && cp "$0" `+systemPolicy+` && py3run exec --audit-line=off < "$1" && cmp "$0" `+systemPolicy+` && ls `+config.SystemDir, system, request)
	c.Env = append(slices.Clone(r.env), realSystemPolicy+"=1")
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	line, files, _ := strings.Cut(string(out), "\n")
	if !strings.Contains(line, `"result":[],`) || files != access.FileName+"\n" {
		t.Errorf("%s, and there are %q", line, files)
	}
	list := r.log(t)
	if l := list[0]; l.User.Name != "local" || l.Configuration[len(l.Configuration)-1].Path != systemPolicy {
		t.Errorf("%+v", l)
	}
}

// The key is in no argument, variable or memory that somebody else can read while the run lasts: not of the launcher, not of init, not
// of a template, not of the code.
func TestKeyWhileItRuns(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy)
	ready, goOn := filepath.Join(r.dir, "ready"), filepath.Join(r.dir, "go")
	c := r.command("exec")
	c.Stdin = bytes.NewReader(mustJSON(t, map[string]any{"api_key": r.keys["ALICE"],
		"code": fmt.Sprintf("import os, time\nopen(%q, 'w').close()\nwhile not os.path.exists(%q): time.sleep(0.01)\n"+
			"texts = [open('/proc/self/environ').read(), open('/proc/self/cmdline').read(), repr(os.environ)]\nfor pid in os.listdir('/proc'):\n    if pid.isdigit():\n        for name in 'environ', 'cmdline':\n            try: texts.append(open('/proc/' + pid + '/' + name).read())\n            except OSError: pass\n"+
			"result = ''.join(texts)", ready, goOn)}))
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the code runs", func() bool { _, err := os.Stat(ready); return err == nil })
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.Process.Pid, name))
		if err == nil && strings.Contains(string(text), r.keys["ALICE"]) {
			t.Errorf("the launcher's %s has the key", name)
		}
	}
	if os.Geteuid() != 0 {
		if _, err := os.Open(fmt.Sprintf("/proc/%d/mem", c.Process.Pid)); err == nil {
			t.Error("the launcher's memory can be opened")
		}
	}
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	r.isSecret(t, r.keys["ALICE"], out.String())
}

// Files and descriptors with a key.
func TestKeyFiles(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy)
	good := r.keys["ALICE"]
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(r.dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, mode)
		return path
	}
	for _, tt := range []struct {
		name string
		args []string
		env  string
		fd   string // what comes through descriptor 3
		want string // status
		hint string
	}{
		{"a file", []string{"--api-key-file", file("a", good, 0o600)}, "", "", "ok", ""},
		{"a newline at its end", []string{"--api-key-file", file("b", good+"\n", 0o400)}, "", "", "ok", ""},
		{"two newlines", []string{"--api-key-file", file("c", good+"\n\n", 0o600)}, "", "", "denied", ""},
		{"a variable", nil, file("d", good+"\n", 0o600), "", "ok", ""},
		{"an option and a variable", []string{"--api-key-file", file("e", good, 0o600)}, file("f", "bad", 0o600), "", "ok", ""},
		{"a descriptor", []string{"--api-key-fd", "3"}, "", good + "\n", "ok", ""},
		{"a descriptor and a variable", []string{"--api-key-fd", "3"}, file("g", "bad", 0o600), good, "ok", ""},
		{"others can read it", []string{"--api-key-file", file("h", good, 0o640)}, "", "", "config_error", "chmod 0600"},
		{"others can read what the variable names", nil, file("i", good, 0o604), "", "config_error", "chmod 0600"},
		{"it is not there", []string{"--api-key-file", filepath.Join(r.dir, "none")}, "", "", "config_error", "--api-key-file: " + filepath.Join(r.dir, "none")},
		{"what the variable names is not there", nil, "nofile", "", "config_error", "PY3RUN_API_KEY_FILE: /"},
		{"empty", []string{"--api-key-file", file("j", "\n", 0o600)}, "", "", "config_error", "key and nothing else"},
		{"long", []string{"--api-key-file", file("k", strings.Repeat("x", 5000), 0o600)}, "", "", "config_error", "key and nothing else"},
		{"a directory", []string{"--api-key-file", r.dir}, "", "", "config_error", "key and nothing else"},
		{"a device", []string{"--api-key-file", "/dev/zero"}, "", "", "config_error", "key and nothing else"},
		{"a descriptor that is not open", []string{"--api-key-fd", "7"}, "", "", "config_error", "3<FILE"},
		{"standard input", []string{"--api-key-fd", "0"}, "", "", "bad_request", ""},
		{"both", []string{"--api-key-fd", "3", "--api-key-file", "x"}, "", good, "bad_request", ""},
		{"an empty name", []string{"--api-key-file", ""}, "", "", "bad_request", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := r.command(append([]string{"exec"}, tt.args...)...)
			c.Env = append(slices.Clone(c.Env), "PY3RUN_IDENTITY_REQUIRE=true", "PY3RUN_API_KEY_FILE="+tt.env)
			c.Stdin = strings.NewReader(`{"code": "import os\nresult = sorted(os.listdir('/proc/self/fd'))"}`)
			if tt.fd != "" {
				from, to, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer from.Close()
				to.WriteString(tt.fd)
				to.Close()
				c.ExtraFiles = []*os.File{from}
			}
			out, _ := c.Output()
			s := resultOf(t, out)
			if s.status != tt.want || !strings.Contains(s.text, tt.hint) || strings.Contains(s.text, good) {
				t.Errorf("%+v, want %s", s, tt.want)
			}
		})
	}
}

// A pipe through which a key should come, and nothing does, keeps nobody waiting.
func TestKeyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy)
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	defer to.Close()
	c := r.command("exec", "--api-key-fd", "3", "--set", "input.timeout-seconds=0.2")
	c.ExtraFiles = []*os.File{from}
	c.Stdin = strings.NewReader(`{"code": ""}`)
	late := time.AfterFunc(time.Minute, func() { c.Process.Kill() })
	defer late.Stop()
	out, _ := c.Output()
	if s := resultOf(t, out); s.status != "config_error" || !strings.Contains(s.message, "in time") {
		t.Errorf("%+v", s)
	}
}

// Limits of a user and of the profile that a request names; and a profile that is not there.
func TestLimitsOfThePolicy(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy+`[user.alice.limits]
security.max-memory-mb = 300
security.max-processes = 100
[role.python3-executor.limits]
security.max-memory-mb = 200
security.execution-timeout-seconds = 50
[profile.RESTRICTED]
security.max-memory-mb = 128
`)
	type asks map[string]any
	for _, tt := range []struct {
		name   string
		ask    asks
		want   string // status
		memory float64
	}{
		{"a user", asks{}, "ok", 300},
		{"a request asks for more", asks{"limits": asks{"memory_mb": 4000}}, "ok", 300},
		{"a request asks for less", asks{"limits": asks{"memory_mb": 100}}, "ok", 100},
		{"a profile", asks{"security_mode": "RESTRICTED"}, "ok", 128},
		{"a name without a profile", asks{"security_mode": "ADMIN"}, "ok", 300},
		{"an unknown name", asks{"security_mode": "restricted"}, "bad_request", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			request := map[string]any{"code": "", "api_key": r.keys["ALICE"]}
			for k, v := range tt.ask {
				request[k] = v
			}
			s := r.exec(t, request, "--audit-line=off")
			var v struct{ Limits map[string]float64 }
			json.Unmarshal([]byte(s.text), &v)
			if s.status != tt.want || v.Limits["memory_mb"] != tt.memory || tt.want == "ok" && (v.Limits["timeout_seconds"] != 50 || v.Limits["processes"] != 100) {
				t.Errorf("%+v", s)
			}
		})
	}
	c := r.command("explain", "--format", "json", "--api-key-file", r.keyFile(t, r.keys["ALICE"]))
	c.Stdin = strings.NewReader(`{"code": "", "security_mode": "RESTRICTED"}`)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var e struct {
		Identity struct{ User, Method, Policy, Rule string }
		From     []struct{ Limit, From string } `json:"limits_from"`
	}
	json.Unmarshal(out, &e)
	if e.Identity.User != "alice" || e.Identity.Rule != "role.python3-executor" || e.Identity.Policy != r.policy() || !strings.Contains(fmt.Sprint(e.From), "memory_mb "+r.policy()+" (profile.RESTRICTED)") {
		t.Errorf("%s", out)
	}
}

// No interpreter of a bridge is shared by two identities, nor by one identity before and after its right was taken away.
func TestKeptByIdentity(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy)
	c := newClient(t, r.place, nil, "--state=keep")
	ask := func(a asking, code string) bridgeReply {
		return c.ask(string(mustJSON(t, a.fields(map[string]any{"code": code}))))
	}
	const look = "result = globals().get('x', 'nothing')"
	alice := asking{key: r.keys["ALICE"]}
	if v := ask(alice, "x = 'of alice'"); !v.Success {
		t.Fatalf("%+v", v)
	}
	if v := ask(alice, look); v.Result != "of alice" {
		t.Errorf("the same key: %+v", v)
	}
	for name, other := range map[string]asking{"asserted": {user: "alice"}, "through the gateway": {r.keys["GATEWAY"], "alice"}, "another": {user: "carol"}, "nobody": {}} {
		if v := ask(other, look); v.Result != "nothing" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	policy, err := os.ReadFile(r.policy())
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, strings.Replace(string(policy), "[user.alice]\n", "[user.alice]\ndisabled = true\n", 1))
	if v := ask(alice, look); v.Success || v.Failure.Code != "api_key_not_accepted" {
		t.Errorf("disabled: %+v", v)
	}
	if v := c.ask(string(mustJSON(t, alice.fields(map[string]any{"command": "clear_globals"})))); v.Success {
		t.Errorf("clear_globals, disabled: %+v", v)
	}
	r.write(t, string(policy))
	if v := ask(alice, look); v.Result != "nothing" {
		t.Errorf("after that: %+v", v)
	}
}

// What runs no code is for everybody, and a bad key is refused all the same. It leaves no record.
func TestKeyOfOtherCommands(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy)
	for _, request := range []map[string]any{{"command": "ping"}, {"command": "version"}, {"command": "check_syntax", "code": "x"}} {
		for _, tt := range []struct{ key, want string }{{"", "ok"}, {"ALICE", "ok"}, {"REVOKED", "denied"}} {
			if s := r.exec(t, asking{key: r.keys[tt.key]}.fields(request)); s.status != tt.want {
				t.Errorf("%v with %s: %+v", request["command"], tt.key, s)
			}
			delete(request, "api_key")
		}
	}
	if list := r.log(t); len(list) > 0 {
		t.Errorf("%d records", len(list))
	}
}

// Whoever starts a run by hand learns that nothing is limited.
func TestRunSaysThatNothingIsLimited(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	file := filepath.Join(p.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "XDG_STATE_HOME="+file)
	c := p.command("run", "--user", "tina", "-c", "")
	var said bytes.Buffer
	c.Stdout, c.Stderr = nil, &said
	if err := c.Run(); err != nil || !strings.Contains(said.String(), "warning: nothing is limited: ") {
		t.Errorf("%v: %s", err, said.String())
	}
}

// The descriptor that the key comes through is closed before an interpreter starts, also in the place of one.
func TestKeyDescriptorIsClosed(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy)
	file := r.keyFile(t, r.keys["ALICE"])
	for _, name := range []string{"/dev/fd/5", "/proc/self/fd/5"} {
		c := r.command()
		c.Path, c.Args = "/bin/sh", []string{"sh", "-c", `exec 5<"$0" 6<"$0"; exec py3run python -c 'import os
for fd in 5, 6:
    try: print(fd, len(os.pread(fd, 7, 0)))
    except OSError as e: print(fd, e.errno)'`, file}
		c.Env = append(slices.Clone(c.Env), "PY3RUN_API_KEY_FILE="+name)
		out, err := c.CombinedOutput()
		if err != nil || string(out) != "5 9\n6 7\n" {
			t.Errorf("%s: %s%v", name, out, err)
		}
	}
}
