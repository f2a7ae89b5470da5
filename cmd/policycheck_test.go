package cmd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What keeps every run from starting is found before a run: by doctor and by config check.
func TestPolicyIsChecked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, policy, doctor, check string }{
		{"none", "", "ok  policy          none", ""},
		{"whole", "version = 1\n[user.a]\n", "policy.toml, users: 1, API keys: 0\n", ""},
		{"broken", "version = 1\n[user.a]\nrolls = []\n[user.b]\ngroup = []\n", "--  policy          nothing runs: policy_broken\n", `policy.toml:3: user.a.rolls: `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRealm(t, tt.policy)
			said, _ := r.command("doctor").Output()
			if !strings.Contains(string(said), tt.doctor) || tt.check != "" && !strings.Contains(string(said), tt.check) {
				t.Errorf("doctor: %s", said)
			}
			said, err := r.command("config", "check").Output()
			if (err != nil) != (tt.check != "") || !strings.Contains(string(said), tt.check) || tt.check != "" && !strings.Contains(string(said), "policy.toml:5: user.b.group: ") {
				t.Errorf("config check: %v: %s", err, said)
			}
		})
	}
}

// A policy that is taken for a configuration is not a list of unknown keys.
func TestPolicyIsNoConfiguration(t *testing.T) {
	t.Parallel()
	r := newRealm(t, "version = 1\n[user.a]\n")
	other := filepath.Join(r.dir, "who.toml")
	if err := os.WriteFile(other, []byte("version = 1\n[user.a]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{r.policy(), other} {
		said, err := r.command("config", "check", path).Output()
		if want := path + ": a policy, and no configuration\n  hint: py3runctl access policy " + path + " says what is wrong with it\n"; err == nil || string(said) != want {
			t.Errorf("%v: %s", err, said)
		}
	}
}

// A log in a directory like /tmp is refused with the command that repairs it.
func TestOpenAuditDirectory(t *testing.T) {
	t.Parallel()
	r := newRealm(t, "")
	dir := filepath.Join(r.dir, "audit")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run", "-c", "pass"}, {"doctor"}} {
		said, err := r.command(args...).CombinedOutput()
		if err == nil || !strings.Contains(string(said), "chmod go-w "+dir) {
			t.Errorf("%v: %v: %s", args, err, said)
		}
	}
}
