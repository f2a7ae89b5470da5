package ctl

import (
	"bytes"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"py3run/audit"
)

// ask runs a command as a user of the bench; no user: as the owner of the log and the policy.
func (b *scriptBench) ask(user string, args ...string) (out, err string, code int) {
	b.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{out: &stdout, err: &stderr, environ: []string{"HOME=" + b.dir, "XDG_STATE_HOME=" + b.dir + "/state", "XDG_CONFIG_HOME=" + b.dir + "/config", "PY3RUN_SECURITY_AUDIT_DIR=" + b.dir + "/audit"}}
	if user != "" {
		a.environ = append(a.environ, "PY3RUN_API_KEY_FILE="+b.keys[user])
	}
	code = a.main(args)
	return stdout.String(), stderr.String(), code
}

// newLogBench is a bench with a log in which alice has a run that is alive and heeds.
func newLogBench(t *testing.T) (b *scriptBench, id string) {
	t.Helper()
	b = newScriptBench(t)
	log, err := audit.Open(filepath.Join(b.dir, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	log.NoSync = true
	t.Cleanup(func() { log.Close() })
	f := &fixture{T: t, log: log}
	id, _ = f.launcher("alice", true)
	return b, id
}

// Who may see only their own runs moves no cursor: it would pass the records of others.
func TestCursorNeedsSight(t *testing.T) {
	t.Parallel()
	b, _ := newLogBench(t)
	cursor := filepath.Join(b.dir, "audit", "cursor-siem.json")
	for _, args := range [][]string{{"--to", "cat >/dev/null"}, {"--output", filepath.Join(b.dir, "out")}, nil, {"--commit"}, {"--commit=1"}} {
		out, err, code := b.ask("bob", append([]string{"audit", "export", "--cursor", cursor}, args...)...)
		if code != exitFailed || out != "" || !strings.Contains(err, "needs the role auditor") {
			t.Errorf("%q: %d, %s%s", args, code, out, err)
		}
		if _, err := os.Stat(cursor); err == nil {
			t.Errorf("%q has made the cursor", args)
		}
	}
	if out, err, code := b.ask("admin", "audit", "export", "--cursor", cursor); code != 0 || !strings.Contains(out, "execution-start") {
		t.Errorf("admin: %d, %s%s", code, out, err)
	}
}

// The key that is shown says who acts on the log, whoever the account belongs to.
func TestKeysAndTheLog(t *testing.T) {
	t.Parallel()
	b, _ := newLogBench(t)
	if _, err, code := b.ask("admin", "audit", "keygen", "--out", b.dir+"/sign"); code != 0 {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"audit", "prune", "--dry-run"}, {"audit", "acknowledge", "1", "--comment", "x"}, {"audit", "checkpoint", "--key", b.dir + "/sign"}, {"alerts"},
		{"access", "check", "--user", "alice"}, {"access", "policy"}, {"backup", b.dir + "/b.tar"},
	} {
		out, err, code := b.ask("bob", args...)
		if code != exitFailed && code != exitUnable || out != "" || !strings.Contains(err, "bob") {
			t.Errorf("%q as bob: %d, %s%s", args, code, out, err)
		}
		if out, err, _ := b.ask("admin", args...); strings.Contains(err, "not allowed") || strings.Contains(err, "does not have the role") {
			t.Errorf("%q as admin: %s%s", args, out, err)
		}
	}
	if _, err, code := b.ask("bob", "access", "check", "--user", "bob"); code != 0 {
		t.Errorf("about bob as bob: %d, %s", code, err)
	}
}

// A user with a key cancels only runs of their own, and the record says who it was and by which key.
func TestCancelByKey(t *testing.T) {
	t.Parallel()
	b, id := newLogBench(t)
	if out, err, code := b.ask("bob", "cancel", id, "--wait-seconds", "0"); code != exitFailed || out != "" || !strings.Contains(err, "cancel "+id) {
		t.Errorf("bob: %d, %s%s", code, out, err)
	}
	if out, err, code := b.ask("alice", "cancel", id); code != 0 {
		t.Fatalf("alice: %d, %s%s", code, out, err)
	}
	var found bool
	for _, rec := range b.records() {
		if rec.Event.Action == audit.ExecutionCancel {
			found = true
			if rec.User.Name != "alice" || rec.Auth.Method != audit.AuthAPIKey || len(rec.Auth.KeyID) != 8 || rec.Auth.OSUser == "" {
				t.Errorf("%+v, %+v", rec.User, rec.Auth)
			}
		}
	}
	if !found {
		t.Error("no record")
	}
}

// An auditor sees private scripts of nobody, so it makes no backup of them.
func TestBackupNeedsAnAdmin(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	policy := filepath.Join(b.dir, "config/py3run/policy.toml")
	text, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	b.write("config/py3run/policy.toml", strings.Replace(string(text), "[user.carol]\nroles = []", "[user.carol]\nroles = [\"auditor\"]", 1))
	if out, err, code := b.ask("carol", "backup", b.dir+"/b.tar"); code != exitFailed || out != "" || !strings.Contains(err, "script-admin") {
		t.Errorf("%d, %s%s", code, out, err)
	}
	if out, err, code := b.ask("carol", "access", "check", "--user", "alice"); code != 0 {
		t.Errorf("%d, %s%s", code, out, err)
	}
}

// The owner of the policy who is disabled as a user can still enable that user again.
func TestOperatorIsNotLockedOut(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "config/py3run/policy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("config/py3run/policy.toml", string(text)+"[user.me]\nos-user = \""+me.Username+"\"\ndisabled = true\n")
	if out, err, code := b.ask("", "user", "enable", "me"); code != 0 {
		t.Errorf("%d, %s%s", code, out, err)
	}
	b.write("config/py3run/policy.toml", strings.Replace(string(text), "[user.bob]", "[user.bob]\ndisabled = true", 1))
	if _, err, code := b.ask("bob", "user", "enable", "bob"); code != exitFailed {
		t.Errorf("bob: %d, %s", code, err)
	}
}

// When a name is shared again, that means no version from before its deletion.
func TestVersionsBeforeADeletion(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	for i, text := range []string{"secret", "other"} {
		b.must("alice", "save", "tank", b.write("job.py", text))
		if i == 0 {
			b.must("alice", "rm", "tank")
		}
	}
	b.must("alice", "public", "tank")
	_, none, _ := b.as("bob", "show", "tank@9")
	for _, user := range []string{"alice", "admin"} {
		if out := b.must(user, "show", "tank@1"); out != "secret" {
			t.Errorf("%s: %q", user, out)
		}
	}
	for _, args := range [][]string{{"show", "tank@1"}, {"show", "--about", "tank@1"}, {"diff", "tank@1"}} {
		want := exitFailed
		if args[0] == "diff" { // 1 would mean that the texts differ
			want = exitUnable
		}
		if out, err, code := b.as("bob", args...); code != want || out != "" || err != strings.ReplaceAll(none, "tank@9", "tank@1") {
			t.Errorf("%q: %d, %s%s", args, code, out, err)
		}
	}
	if out := b.must("bob", "history", "tank"); strings.Count(out, "\n") != 1 || !strings.Contains(out, `"version":3`) {
		t.Errorf("history: %s", out)
	}
	if out := b.must("alice", "history", "tank"); strings.Count(out, "\n") != 3 {
		t.Errorf("history of its author: %s", out)
	}
}

// Who may run a script and not read it reads it neither in the record of the run.
func TestCodeOfARunOfAnothersScript(t *testing.T) {
	t.Parallel()
	b, _ := newLogBench(t)
	b.must("alice", "save", "tank", b.write("job.py", "secret"))
	b.must("alice", "share", "tank", "--with", "bob", "--actions", "run")
	log, err := audit.Open(filepath.Join(b.dir, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	rec := startOf(5, "bob")
	rec.Script = audit.Script{Name: "tank", Version: "1", Source: audit.ScriptStored}
	rec.Code = audit.Code{SHA256: "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", Bytes: 6}
	if _, err := log.Append(rec); err != nil {
		t.Fatal(err)
	}
	if out, err, code := b.ask("bob", "audit", "show", "--code", rec.RunID); code == 0 || strings.Contains(out, "secret") || !strings.Contains(err, "not read it") {
		t.Errorf("%d, %s%s", code, out, err)
	}
	b.must("alice", "share", "tank", "--with", "bob", "--actions", "run,read")
	if out, err, code := b.ask("bob", "audit", "show", "--code", rec.RunID); code != 0 || out != "secret" {
		t.Errorf("%d, %s%s", code, out, err)
	}
}

// A proof is a regular file: verify waits for no pipe.
func TestProofOfAPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/null"} {
		if _, err := readProof(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
