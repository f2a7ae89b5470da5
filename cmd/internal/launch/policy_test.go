package launch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/wire"
)

func init() { access.SystemFile = "/dev/null/" + access.FileName } // which nobody can make: never this machine's own

// policyJob is a job with a place for a policy and a state directory of its own.
func policyJob(t *testing.T) (job Job, policy string) {
	t.Helper()
	root := t.TempDir()
	job = testJob(t, root, "1")
	job.Environ = append([]string{"XDG_STATE_HOME=" + filepath.Join(root, "state"), "XDG_CONFIG_HOME=" + filepath.Join(root, "config")}, job.Environ...)
	policy = access.Places(job.Environ)[1]
	if !strings.HasPrefix(policy, root) {
		t.Fatalf("the policy would be %s", policy)
	}
	if err := os.MkdirAll(filepath.Dir(policy), 0o700); err != nil {
		t.Fatal(err)
	}
	return job, policy
}

// keyOf makes a key, and the table of a policy that names it.
func keyOf(user string, more ...string) (text, table string) {
	id, text := access.NewKey()
	table = "[key." + id + "]\nuser = \"" + user + "\"\nsha256 = \"" + access.HashKey(text) + "\"\ncreated = 2020-01-01T00:00:00Z\n"
	return text, table + strings.Join(append(more, ""), "\n")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	err := os.WriteFile(path+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const aliceRuns = "version = 1\n[user.alice]\nroles = [\"python3-executor\"]\n"

// What the policy says when a wait is over decides, not what it said before.
func TestRevokedWhileItWaits(t *testing.T) {
	t.Parallel()
	job, policy := policyJob(t)
	key, table := keyOf("alice")
	write(t, policy, aliceRuns+table)
	limits := access.NewLimits(StateDir(job.Environ))
	job.Config.Security.RateLimit.ConcurrentPerUser = 1
	slot, _, notes, _ := limits.Await(access.Subject{Name: "alice", Standing: access.Proved}, access.Rates{Concurrent: 1}, access.Wait{})
	if notes.Trouble != nil {
		t.Fatal(notes.Trouble)
	}
	job.Request.Key, job.Patience = wire.Secret(key), time.Minute
	job.Lasts = func() {
		write(t, policy, aliceRuns+table+"revoked = 2020-01-02T00:00:00Z\n")
		slot.Release()
	}
	r := newRun(job)
	e, done := r.admit()
	if !done || e.Refused == nil || e.Refused.denial == nil || e.Refused.denial.Code != access.RevokedKey {
		t.Fatalf("%v, %+v", done, e.Refused)
	}
	if strings.Trim(string(job.Request.Key), "\x00") != "" {
		t.Error("the key is not forgotten")
	}
	r.conclude(e)
	if _, users, _ := limits.Usage(); len(users) != 1 || users[0].Running != 0 {
		t.Errorf("after the refusal: %+v", users)
	}
}

// A key that may not name alice ends nothing of alice, and a gateway's key that is revoked ends what it
// holds for others.
func TestWhoseInterpretersEnd(t *testing.T) {
	t.Parallel()
	const alice, ofGateway, ofOther, bob = "api-key\x00alice\x00", "api-key\x00alice\x00gateway", "api-key\x00alice\x00other", "api-key\x00bob\x00"
	all := []string{alice, ofGateway, ofOther, bob}
	users := "version = 1\n[user.alice]\nroles = [\"python3-executor\"]\n[user.bob]\nroles = [\"python3-executor\"]\n[user.gateway]\nroles = [\"python3-executor\"]\n"
	for _, tt := range []struct {
		name, code   string
		owner, named string
		more         string // of the key
		users        string
		want         []string // that are left
	}{
		{"bob names alice", access.MayNotAssert, "bob", "alice", "", users, all},
		{"the gateway may no longer name alice", access.MayNotAssert, "gateway", "alice", "", users, []string{alice, ofOther, bob}},
		{"the gateway's key is revoked", access.RevokedKey, "gateway", "alice", "revoked = 2020-01-02T00:00:00Z", users, []string{alice, ofOther, bob}},
		{"alice is disabled", access.DisabledUser, "gateway", "alice", `may-assert = ["alice"]`, strings.Replace(users, "[user.alice]", "[user.alice]\ndisabled = true", 1), []string{bob}},
		{"the gateway is disabled", access.DisabledUser, "gateway", "", "", strings.Replace(users, "[user.gateway]", "[user.gateway]\ndisabled = true", 1), []string{alice, ofOther, bob}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			job, policy := policyJob(t)
			key, table := keyOf(tt.owner, tt.more)
			write(t, policy, tt.users+table)
			job.Request.Key, job.Request.User = wire.Secret(key), tt.named
			k := NewKeeper()
			for _, identity := range all {
				k.slots[identity] = &slot{identity: identity}
			}
			r := newRun(job)
			e, _ := r.admit()
			if e.Refused == nil || e.Refused.denial == nil || e.Refused.denial.Code != tt.code {
				t.Fatalf("%+v", e.Refused)
			}
			k.revoke(r, e)
			got := k.Identities()
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tt.want))
			if !slices.Equal(got, want) {
				t.Errorf("left %q, want %q", got, want)
			}
		})
	}
}

// A flood of denials does not open the log.
func TestSummarisedDenialLeavesTheLogAlone(t *testing.T) {
	t.Parallel()
	job, policy := policyJob(t)
	key, _ := keyOf("alice")
	write(t, policy, aliceRuns)
	first := job.Config.Security.Audit.Dir
	for _, dir := range []string{first, first + "-none"} {
		job.Request.Key, job.Config.Security.Audit.Dir = wire.Secret(key), dir
		if got := Run(job).Result.Status; got != wire.StatusDenied {
			t.Fatal(got)
		}
		if _, err := os.Stat(dir); (err == nil) != (dir == first) {
			t.Errorf("the log %s: %v", dir, err)
		}
	}
}
