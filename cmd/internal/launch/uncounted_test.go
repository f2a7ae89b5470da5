package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/wire"
)

// actionsOf counts what the log of a job has of each action.
func actionsOf(t *testing.T, job Job) map[audit.Action]int {
	t.Helper()
	r, err := audit.OpenReader(job.Config.Security.Audit.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	count := map[audit.Action]int{}
	for line, err := range r.Backward() {
		if err != nil {
			t.Fatal(err)
		}
		count[line.Action]++
	}
	return count
}

// Where no file counts refusals, a flood of them adds as little to the log.
func TestFloodWithoutLimits(t *testing.T) {
	t.Parallel()
	job, policy := policyJob(t)
	key, table := keyOf("alice", "revoked = 2020-01-02T00:00:00Z")
	write(t, policy, aliceRuns+"[user.bob]\ndisabled = true\n"+table)
	notDir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	job.Environ = append([]string{"XDG_STATE_HOME=" + notDir}, job.Environ[1:]...)
	deny := func(user, key string) {
		t.Helper()
		asked := job
		asked.Began = time.Now()
		asked.Request.User, asked.Request.Key = user, wire.Secret(key)
		if key == "" && user != "bob" {
			asked.Config.Identity.Require = true
		}
		r := newRun(asked)
		e, done := r.admit()
		if !done {
			t.Fatal("it was let in")
		}
		r.conclude(e)
	}
	for range 5 {
		deny("bob", "")
	}
	if got := actionsOf(t, job); got[audit.ExecutionDenied] != 1 || got[audit.Alerted] != 1 {
		t.Errorf("the same denial five times: %v", got)
	}
	for i := range 150 {
		deny(fmt.Sprint("name", i), "")
	}
	flood := actionsOf(t, job)[audit.ExecutionDenied]
	if flood > uncountedMost {
		t.Errorf("made-up names have %d records", flood)
	}
	for range 2 {
		deny("", key)
	}
	if got := actionsOf(t, job); got[audit.ExecutionDenied] != flood+1 || got[audit.Alerted] != 1 {
		t.Errorf("a revoked key, twice: %v after %d", got, flood)
	}
}

// To name somebody is no way around the limits of the operating system's user.
func TestNamesDoNotEvadeLimits(t *testing.T) {
	t.Parallel()
	job, policy := policyJob(t)
	write(t, policy, aliceRuns+"os-user = \"tester\"\n[user.alice.limits]\nsecurity.rate-limit.per-user-per-minute = 2\n")
	job.Config.Security.RateLimit.OSUsers = true
	for i, user := range []string{"n0", "alice", "n2", ""} {
		asked := job
		asked.Request.User = user
		r := newRun(asked)
		e, done := r.admit()
		r.slot.Release()
		if want := i >= 2; done != want || done && (e.Refused.denial == nil || e.Refused.denial.Code != access.PerUserPerMinute) {
			t.Errorf("run %d, of %q: refused %v, %+v", i+1, user, done, e.Refused)
		}
	}
}
