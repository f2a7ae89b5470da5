package launch

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/scripts"
	"py3run/cmd/internal/wire"
)

func aPolicy(t *testing.T, text string) *access.Policy {
	t.Helper()
	p, wrong := access.Parse("/etc/py3run/policy.toml", "version = 1\n"+text)
	if wrong != nil {
		t.Fatal(wrong)
	}
	return p
}

// What is kept of a key outlives the key, whose bytes are overwritten.
func TestKeyIsForgotten(t *testing.T) {
	t.Parallel()
	id, text := access.NewKey()
	for _, tt := range []struct{ name, policy, code string }{
		{"accepted", "[user.alice]\nroles = [\"python3-executor\"]\n[key." + id + "]\nuser = \"alice\"\nsha256 = \"" + access.HashKey(text) + "\"\ncreated = 2020-01-01T00:00:00Z\n", ""},
		{"refused", "", access.UnknownKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key := wire.Secret(text)
			p, denial := identify(Plan{Job: Job{Request: wire.Request{Command: wire.CommandExecute}}}, aPolicy(t, tt.policy), key)
			key.Forget()
			if strings.Trim(string(key), "\x00") != "" {
				t.Errorf("%q is left", key)
			}
			if p.Grant.KeyID != id || p.Grant.Method != access.ByKey || (denial != nil) != (tt.code != "") || denial != nil && (denial.Code != tt.code || denial.KeyID != id) {
				t.Errorf("%+v, %+v", p.Grant, denial)
			}
		})
	}
}

// A caller learns the same of every key that is not accepted.
func TestRefusedKeysLookAlike(t *testing.T) {
	t.Parallel()
	var first *refusal
	for _, code := range []string{access.MalformedKey, access.BadChecksum, access.UnknownKey, access.WrongKey, access.RevokedKey, access.ExpiredKey, access.NoPolicy, access.DisabledUser} {
		got := deniedFor(&access.Denial{Code: code, Message: "the secret reason", Hint: "of " + code, User: "alice", KeyID: "k7qm2x9a"})
		if first == nil {
			first = got
		}
		if got.status != wire.StatusDenied || !reflect.DeepEqual(got.failure, first.failure) || got.denial.Code != code {
			t.Errorf("%s: %+v", code, got.failure)
		}
	}
}

// A mode that no profile stands for is a mistake of the caller's, except those that each host knows. A profile only tightens.
func TestSecurityModes(t *testing.T) {
	t.Parallel()
	policy := aPolicy(t, "[profile.night]\nsecurity.max-memory-mb = 64\n[profile.RESTRICTED]\nsecurity.isolation.network = \"none\"\n")
	for _, tt := range []struct {
		mode    string
		policy  *access.Policy
		refused bool
		memory  float64
		network string
	}{
		{"", nil, false, 1024, "host"},
		{"ADMIN", nil, false, 1024, "host"},
		{"RESTRICTED", nil, false, 1024, "host"},
		{"night", nil, true, 1024, "host"},
		{"ADMIN", policy, false, 1024, "host"},
		{"RESTRICTED", policy, false, 1024, "none"},
		{"night", policy, false, 64, "host"},
		{"Night", policy, true, 1024, "host"},
	} {
		job := Job{Config: config.Default(), Request: wire.Request{SecurityMode: tt.mode}}
		p, refused := tighten(Plan{Job: job}, tt.policy)
		s := p.Job.Config.Security
		if (refused != nil) != tt.refused || s.MaxMemoryMB != tt.memory || s.Isolation.Network != tt.network {
			t.Errorf("%q: %+v, %v MB, %s", tt.mode, refused, s.MaxMemoryMB, s.Isolation.Network)
		}
		if refused != nil && (refused.status != wire.StatusBadRequest || !strings.Contains(refused.failure.Hint, "RESTRICTED")) {
			t.Errorf("%q: %+v", tt.mode, refused.failure)
		}
	}
}

// Whoever must not know of a script gets the same answer whether it exists or not; the record tells them apart.
func TestStoredScriptsOfOthers(t *testing.T) {
	t.Parallel()
	policy := aPolicy(t, `[user.alice]
roles = ["python3-executor"]
[user.bob]
roles = ["python3-executor"]
[user.boss]
roles = ["python3-executor", "script-admin"]
`)
	grant := func(name string, roles ...access.Role) access.Grant {
		return access.Grant{User: name, Method: access.ByKey, Known: true, Roles: append(roles, access.Executor)}
	}
	meta := scripts.Meta{Name: "tank", Author: "alice", Current: 2, Latest: 2, Shares: []access.Share{{With: "carol", Actions: []access.Action{access.ToRead}}, {With: "dora", Actions: []access.Action{access.ToRun}}}}
	whole := scripts.Script{Meta: meta, Version: scripts.Version{Number: 2}, Code: []byte("1")}
	removed := whole
	removed.Removed = true
	old := &scripts.NotFoundError{Ref: "tank@9", Of: &meta}
	broken := &scripts.DamageError{Name: "tank", What: "objects/x", Cause: "its bytes are others"}
	for _, tt := range []struct {
		name   string
		policy *access.Policy
		grant  access.Grant
		script scripts.Script
		err    error

		status wire.Status // empty: it may be run
		code   string      // of the result
		reason string      // of the record
	}{
		{"no policy", nil, access.Grant{User: "x", Method: access.ByOSUser}, whole, nil, "", "", ""},
		{"no policy, no script", nil, access.Grant{User: "x"}, scripts.Script{}, scripts.NotFound("tank"), wire.StatusDenied, "script_not_found", unknownScript},
		{"its author", policy, grant("alice"), whole, nil, "", "", ""},
		{"an admin", policy, grant("boss", access.ScriptAdmin), whole, nil, "", "", ""},
		{"an admin, no script", policy, grant("boss", access.ScriptAdmin), scripts.Script{}, scripts.NotFound("tank"), wire.StatusDenied, "script_not_found", unknownScript},
		{"an admin, and its meta.json is damaged", policy, grant("boss", access.ScriptAdmin), scripts.Script{}, broken, wire.StatusLaunchFailed, "script_damaged", damagedScript},
		{"another", policy, grant("bob"), whole, nil, wire.StatusDenied, "script_not_found", access.NotShared},
		{"another, no script", policy, grant("bob"), scripts.Script{}, scripts.NotFound("tank"), wire.StatusDenied, "script_not_found", unknownScript},
		{"another, no version", policy, grant("bob"), scripts.Script{Meta: meta}, old, wire.StatusDenied, "script_not_found", access.NotShared},
		{"another, a damaged one", policy, grant("bob"), scripts.Script{Meta: meta}, broken, wire.StatusDenied, "script_not_found", access.NotShared},
		{"one who may read it", policy, grant("carol"), whole, nil, wire.StatusDenied, "not_shared", access.NotShared},
		{"one who may run it, a removed version", policy, grant("dora"), removed, nil, wire.StatusBadRequest, "script_not_found", ""},
		{"its author, a removed version", policy, grant("alice"), removed, nil, "", "", ""},
		{"its author, no version", policy, grant("alice"), scripts.Script{Meta: meta}, old, wire.StatusBadRequest, "script_not_found", ""},
		{"its author, a damaged one", policy, grant("alice"), scripts.Script{Meta: meta}, broken, wire.StatusLaunchFailed, "script_damaged", damagedScript},
		{"its author, and the host has trouble", policy, grant("alice"), scripts.Script{Meta: meta}, errors.New("read: I/O error"), wire.StatusLaunchFailed, "script_unreadable", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := Plan{Grant: tt.grant, Job: Job{Request: wire.Request{Script: "tank"}}}
			_, refused := mayRunStored(p, tt.policy, tt.script, tt.err)
			if refused == nil {
				refused = &refusal{failure: &wire.Failure{}}
			}
			reason := ""
			if refused.denial != nil {
				reason = refused.denial.Code
			}
			if refused.status != tt.status || refused.failure.Code != tt.code || reason != tt.reason {
				t.Errorf("%s %s %q: %s", refused.status, refused.failure.Code, reason, refused.failure.Message)
			}
			if tt.code == "script_not_found" && tt.status == wire.StatusDenied && refused.failure.Message != `script "tank": not found` && refused.failure.Message != "script tank: not found" {
				t.Errorf("%s", refused.failure.Message)
			}
		})
	}
}

// The code of a script, its name and its variables come into the plan, and with them into the record.
func TestStoredInThePlan(t *testing.T) {
	t.Parallel()
	script := scripts.Script{Meta: scripts.Meta{Name: "plant/tank"}, Version: scripts.Version{Number: 3}, Code: []byte{}}
	job := Job{Request: wire.Request{Command: wire.CommandExecute, Script: "plant/tank", Filename: wire.DefaultFilename}}
	p, refused := withStored(Plan{Job: job}, nil, script)
	if refused != nil || p.Job.Source == nil || p.Job.Request.Filename != "plant/tank" {
		t.Fatalf("%+v, %+v", p.Job, refused)
	}
	rec := record(p)
	if want := (audit.Script{Name: "plant/tank", Version: "3", Source: audit.ScriptStored}); rec.Script != want || rec.Code.SHA256 != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("%+v, %+v", rec.Script, rec.Code)
	}
	live := p.Job
	live.Dir, live.Live = "/home/alice", &Live{Argv0: "plant/tank"}
	if at := place(live, "/w"); slices.Contains(at.importPath, "/home/alice") || at.dir != "/home/alice" || at.argv0 != "plant/tank" || at.shown != "plant/tank" {
		t.Errorf("%+v", at)
	}
	missing := record(Plan{Job: Job{Request: wire.Request{Script: "tank@7"}}})
	if want := (audit.Script{Name: "tank", Version: "7", Source: audit.ScriptStored}); missing.Script != want || missing.Code != (audit.Code{}) {
		t.Errorf("%+v, %+v", missing.Script, missing.Code)
	}
}

// The code sees no policy, and none is hidden that is not there: each path costs a run a system call.
func TestPolicyIsHidden(t *testing.T) {
	t.Parallel()
	etc, own, home := access.SystemFile, "/x/py3run/policy.toml", "/home/alice/.config/py3run/policy.toml"
	for _, tt := range []struct {
		name  string
		found []audit.ConfigFile
		want  []string
	}{
		{"not looked for", nil, []string{etc, own, home}},
		{"none", []audit.ConfigFile{{Path: etc}, {Path: own}}, []string{home}},
		{"the system's", []audit.ConfigFile{{Path: etc, SHA256: "a"}}, []string{etc, own, home}},
		{"the user's", []audit.ConfigFile{{Path: etc}, {Path: own, SHA256: "a"}}, []string{own, home}},
	} {
		p := Plan{Policy: tt.found, Job: Job{Environ: []string{"XDG_CONFIG_HOME=/x"}, Caller: Caller{Home: "/home/alice"}, KeyFile: "/run/key"}}
		if got := p.policies(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q", tt.name, got)
		}
		if hide, pin := p.hidden(); !slices.Contains(hide, "/run/key") || !slices.Contains(pin, "/run/key") || !slices.Contains(hide, home) {
			t.Errorf("%s: hides %q, pins %q", tt.name, hide, pin)
		}
	}
}

// No two of these ever get the interpreter of each other.
func TestIdentityKeys(t *testing.T) {
	t.Parallel()
	keys := map[string]access.Grant{}
	for _, g := range []access.Grant{
		{User: "alice", Method: access.ByKey}, {User: "alice", Method: access.ByOSUser}, {User: "alice", Method: access.ByClaim},
		{User: "alice", Method: access.ByKey, Holder: "gateway"}, {User: "alice", Method: access.ByKey, Holder: "other"}, {User: "alic", Method: access.ByKey, Holder: "e"}, {User: "bob", Method: access.ByKey},
	} {
		key := identityKey(Plan{Grant: g})
		if other, taken := keys[key]; taken {
			t.Errorf("%+v and %+v", g, other)
		}
		keys[key] = g
	}
}

// An interpreter that was started with other protections than the policy gives now is not used again.
func TestKeptWithOtherProtections(t *testing.T) {
	t.Parallel()
	was := config.Default().Security
	for _, tt := range []struct {
		name   string
		change func(*config.Security)
		fits   bool
	}{
		{"the same", func(*config.Security) {}, true},
		{"another time limit", func(s *config.Security) { s.ExecutionTimeoutSeconds = 1 }, true},
		{"no network", func(s *config.Security) { s.Isolation.Network = "none" }, false},
		{"fewer open files", func(s *config.Security) { s.MaxOpenFiles = 64 }, false},
	} {
		now := was
		tt.change(&now)
		if got := sameStart(was, now); got != tt.fits {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// An interpreter gets each protection of the configuration at its start.
func TestKeptComparesEachProtection(t *testing.T) {
	t.Parallel()
	apart := func(name string, was, is config.Security) {
		if sameStart(was, is) {
			t.Errorf("%s makes no difference", name)
		}
	}
	kind := reflect.TypeFor[config.Isolation]()
	for i := range kind.NumField() {
		var was, is config.Security
		setOther(t, reflect.ValueOf(&is.Isolation).Elem().Field(i))
		apart(kind.Field(i).Name, was, is)
	}
	kind = reflect.TypeFor[config.Security]()
	perRequest := []string{"ExecutionTimeoutSeconds", "MaxCPUSeconds", "MaxMemoryMB", "MaxProcesses", "MaxOutputSizeMB", "MaxFileSizeMB", "MaxDiskMB", "IdleTimeoutSeconds", "GraceSeconds", "Isolation", "Audit", "RateLimit"}
	for i := range kind.NumField() {
		var was, is config.Security
		if name := kind.Field(i).Name; !slices.Contains(perRequest, name) {
			setOther(t, reflect.ValueOf(&is).Elem().Field(i))
			apart(name, was, is)
		}
	}
}

// setOther sets a field that is zero to something else.
func setOther(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(7)
	case reflect.Slice:
		v.Set(reflect.ValueOf([]string{"x"}))
	default:
		t.Fatalf("a %v", v.Type())
	}
}

// Who may read a script learns where its rules stand; who may only run it learns the rule itself, and
// no command that would refuse it.
func TestHintForVariables(t *testing.T) {
	t.Parallel()
	policy := aPolicy(t, "[user.alice]\n[user.carol]\nroles = [\"python3-executor\"]\n")
	script := scripts.Script{Code: []byte("1"), Version: scripts.Version{Number: 3, Variables: []scripts.Variable{{Name: "line", Type: scripts.String, Choices: []any{"north", "south"}}}},
		Meta: scripts.Meta{Name: "plant/tank", Author: "alice", Shares: []access.Share{{With: "carol", Actions: []access.Action{access.ToRun}}}}}
	for who, want := range map[string]string{"alice": "py3runctl script show plant/tank@3 prints the rules, in the block # /// py3run", "carol": ""} {
		job := Job{Request: wire.Request{Script: "plant/tank", Variables: &wire.Object{Names: []string{"line"}, Values: []any{"west"}}}}
		_, refused := withStored(Plan{Job: job, Grant: access.Grant{User: who, Known: true}}, policy, script)
		if refused == nil || refused.failure.Hint != want || !strings.Contains(refused.failure.Message, `none of the choices: "north", "south"`) {
			t.Errorf("%s: %+v", who, refused)
		}
	}
}

// A flag that asks for more than the policy allows is answered with a warning, once.
func TestLowered(t *testing.T) {
	t.Parallel()
	policy := aPolicy(t, "[user.alice]\n[user.alice.limits]\nsecurity.max-memory-mb = 64\nsecurity.max-processes = 9\n[profile.RESTRICTED]\nsecurity.max-memory-mb = 32\n")
	for _, kind := range []string{config.FromFlag, config.FromEnvironment, config.FromFile, config.FromDefault} {
		c := config.Default()
		c.Security.MaxMemoryMB = 5000
		job := Job{Config: c, Origins: map[string]config.Origin{"security.max-memory-mb": {Kind: kind, Name: "--memory-mb"}}, Request: wire.Request{SecurityMode: "RESTRICTED"}}
		p, _ := tighten(Plan{Job: job, Grant: access.Grant{User: "alice", Known: true}}, policy)
		switch warned := p.Job.Warnings; {
		case kind == config.FromFile || kind == config.FromDefault:
			if len(warned) > 0 {
				t.Errorf("%s: %+v", kind, warned)
			}
		case len(warned) != 1 || warned[0].Code != "clamped_limit" || !strings.HasPrefix(warned[0].Message, "--memory-mb: security.max-memory-mb = 5000 is above the limit in ") || !strings.HasSuffix(warned[0].Message, ": 32 holds"):
			t.Errorf("%s: %+v", kind, warned)
		}
	}
}

// Who is refused by a limit learns for how long, and whether waiting was too short.
func TestHowToWait(t *testing.T) {
	t.Parallel()
	minute := &access.Limited{User: "tina", Limit: access.PerUserPerMinute, Configured: 1, Used: 1, RetryAfter: 34200 * time.Millisecond}
	once := &access.Limited{User: "tina", Limit: access.ConcurrentPerUser, Configured: 1, Used: 1, RetryAfter: time.Second}
	for _, tt := range []struct {
		limited       *access.Limited
		patience      time.Duration
		message, hint string
	}{
		{minute, 0, "; free in 35 s", "--wait 36s"},
		{minute, 2 * time.Second, "; free in 35 s", "--wait 2s is too short for that: --wait 36s would do"},
		{once, 0, "are under way", "send it again when one of them has ended"},
		{once, 2 * time.Second, "are under way", "none of them ended within --wait 2s"},
	} {
		f := limitedBy(Plan{Job: Job{Patience: tt.patience}}, tt.limited).failure
		if !strings.HasSuffix(f.Message, tt.message) || !strings.Contains(f.Hint, tt.hint) || f.RetryAfterMS != tt.limited.RetryAfter.Milliseconds() {
			t.Errorf("%+v", f)
		}
	}
}

// The holder of a key cannot find out by naming users which there are; of those whom the key names, it may know.
func TestWhoIsThereIsNotTold(t *testing.T) {
	t.Parallel()
	id, text := access.NewKey()
	policy := aPolicy(t, `[user.gateway]
roles = ["python3-executor"]
[user.alice]
roles = ["python3-executor"]
[user.boss]
roles = ["script-admin"]
[user.gone]
disabled = true
[user.former]
disabled = true
[key.`+id+`]
user = "gateway"
sha256 = "`+access.HashKey(text)+`"
created = 2020-01-01T00:00:00Z
may-assert = ["former", "*"]
`)
	var first *refusal
	for _, tt := range []struct{ user, code, recorded string }{
		{"nobody", "may_not_assert", access.UnknownUser}, {"boss", "may_not_assert", access.AssertedAdmin}, {"gone", "may_not_assert", access.DisabledUser}, {"former", "disabled_user", access.DisabledUser},
	} {
		_, denial := identify(Plan{Job: Job{Request: wire.Request{User: tt.user}}}, policy, wire.Secret(text))
		if denial == nil {
			t.Fatalf("%s is not denied", tt.user)
		}
		got := deniedFor(denial)
		if first == nil {
			first = got
		}
		if got.failure.Code != tt.code || got.denial.Code != tt.recorded || strings.ReplaceAll(got.failure.Message, tt.user, "nobody") != first.failure.Message || tt.code == "may_not_assert" && got.failure.Hint != first.failure.Hint {
			t.Errorf("%s: %+v, %+v", tt.user, got.failure, got.denial)
		}
	}
}

// A key in a label is not recorded.
func TestLabelsAreRedacted(t *testing.T) {
	t.Parallel()
	_, key := access.NewKey()
	rec := record(Plan{Job: Job{Request: wire.Request{Labels: &wire.Object{Names: []string{"job", "k", key}, Values: []any{"7", key, "x"}}}}})
	if text := rec.Labels["k"]; rec.Labels["job"] != "7" || len(rec.Labels) != 3 || strings.Contains(text, key[8:]) {
		t.Errorf("%q", rec.Labels)
	}
	for name := range rec.Labels {
		if strings.Contains(name, key[8:]) {
			t.Errorf("%q", name)
		}
	}
}
