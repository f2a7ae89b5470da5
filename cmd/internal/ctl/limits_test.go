package ctl

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
)

// limits runs a command of py3runctl limits in a home of its own.
func limits(t *testing.T, home string, args ...string) (out, err string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{out: &stdout, err: &stderr, environ: []string{"HOME=" + home, "XDG_STATE_HOME=" + home + "/state", "XDG_CONFIG_HOME=" + home + "/config", "PY3RUN_SECURITY_AUDIT_DIR=" + home + "/audit"}}
	code = a.main(append([]string{"limits"}, args...))
	return stdout.String(), stderr.String(), code
}

func TestLimits(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if out, err, code := limits(t, home, "show", "--format=json"); code != 0 || strings.Count(out, "\n") != 1 {
		t.Fatalf("without a file: exit code %d\n%s%s", code, out, err)
	}
	if _, err := os.Stat(filepath.Join(home, "state")); err == nil {
		t.Error("show made the state directory")
	}
	counts := access.NewLimits(filepath.Join(home, "state/py3run"))
	alice := access.Subject{Name: "alice", Standing: access.Proved}
	for i := range 60 {
		slot, _, notes, _ := counts.Await(alice, access.Rates{PerMinute: 60}, access.Wait{})
		if notes.Trouble != nil {
			t.Fatal(notes.Trouble)
		}
		if i > 1 {
			slot.Release()
			continue
		}
		defer slot.Release()
	}
	slot, _, _, _ := counts.Await(access.Subject{Name: "=bob", Standing: access.Asserted}, access.Rates{PerMinute: 2}, access.Wait{})
	slot.Release()

	show := func(args ...string) (list []shownUse) {
		t.Helper()
		out, err, code := limits(t, home, append([]string{"show", "--format=json"}, args...)...)
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, err)
		}
		for line := range strings.Lines(out) {
			var u shownUse
			if err := json.Unmarshal([]byte(line), &u); err != nil {
				t.Fatal(err)
			}
			list = append(list, u)
		}
		return list
	}
	list := show()
	if len(list) != 3 || list[0].Minute != 61 || list[0].PerMinute != 500 || list[1].User != "=bob" || list[1].Standing != "asserted" || list[1].PerMinute != 60 || *list[1].Running != 0 || list[1].Refused != nil {
		t.Errorf("got %+v", list)
	}
	if u := list[2]; u.User != "alice" || u.Minute != 60 || u.PerMinute != 60 || *u.Running != 2 || u.Concurrent != 8 || u.Refused == nil || u.Refused.Limit != "per-user-per-minute" || u.Refused.RetryAfterMS < 1 {
		t.Errorf("got %+v", u)
	}
	if again := show("--user", "alice"); len(again) != 1 || again[0].Minute != 60 {
		t.Errorf("showing has counted: %+v", again)
	}
	if out, _, _ := limits(t, home, "show", "--format=csv"); !strings.Contains(out, "\n'=bob,asserted,1,60,1,1000,0,8,") {
		t.Errorf("got %s", out)
	}

	if _, err, code := limits(t, home, "reset"); code != 2 || !strings.Contains(err, "either --user NAME or --all") {
		t.Errorf("reset of nobody: exit code %d, %s", code, err)
	}
	if _, err, code := limits(t, home, "reset", "--user", "alice"); code != 0 || !strings.Contains(err, "the runs of the user alice are forgotten") {
		t.Errorf("exit code %d, %s", code, err)
	}
	if _, err, code := limits(t, home, "reset", "--user", "nosuch"); code != 1 || !strings.Contains(err, "no such user") || !strings.Contains(err, "hint: ") {
		t.Errorf("reset of nobody known: exit code %d, %s", code, err)
	}
	if list := show("--user", "alice"); len(list) != 1 || list[0].Minute != 0 || *list[0].Running != 2 {
		t.Errorf("after the reset: %+v", list)
	}
	text, err := os.ReadFile(filepath.Join(home, "audit/audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var rec audit.Record
	lines := slices.Collect(strings.Lines(string(text)))
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &rec); err != nil || rec.Event.Action != audit.LimitsReset || rec.Event.Reason != "user alice" || rec.User.Name == "" {
		t.Errorf("got %+v, %v", rec, err)
	}
}

// What show repairs is not only told to the one who looks: a record tells it, which is an alert.
func TestLimitsRepairIsRecorded(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	slot, _, _, _ := access.NewLimits(filepath.Join(home, "state/py3run")).Await(access.Subject{Name: "alice", Standing: access.Proved}, access.Rates{PerMinute: 60}, access.Wait{})
	slot.Release()
	file := filepath.Join(home, "state/py3run/limits")
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 100); err != nil { // of the first page
		t.Fatal(err)
	}
	if _, said, code := limits(t, home, "show"); code != 0 || !strings.Contains(said, "damaged") {
		t.Errorf("exit code %d, %s", code, said)
	}
	limits(t, home, "show")
	text, err := os.ReadFile(filepath.Join(home, "audit/audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), `"limits_repaired"`); n != 2 || strings.Count(string(text), "\n") != 1 { // reason and rule of one record
		t.Errorf("%d times in %s", n, text)
	}
}

func TestRatesFor(t *testing.T) {
	t.Parallel()
	policy := &access.Policy{Users: map[string]access.User{"alice": {Name: "alice", Limits: config.Limits{"security.rate-limit.per-user-per-minute": 100}}}}
	loaded := &config.Loaded{Config: config.Default()}
	for _, tt := range []struct {
		name     string
		standing access.Standing
		policy   *access.Policy
		want     int
	}{
		{"alice", access.Proved, policy, 100},
		{"alice", access.Asserted, policy, 60}, // an assertion can only lose
		{"bob", access.Proved, policy, 60},
		{"alice", access.Proved, nil, 60},
	} {
		if got := (logContext{config: loaded.Config, origins: loaded.Origins}).ratesFor(access.Use{Subject: access.Subject{Name: tt.name, Standing: tt.standing}}, tt.policy); got.PerMinute != tt.want {
			t.Errorf("%s %s: got %d, want %d", tt.standing, tt.name, got.PerMinute, tt.want)
		}
	}
}
