package access

import (
	"fmt"
	"testing"

	"py3run/cmd/internal/config"
)

// Who names somebody else keeps its own limits.
func TestBehind(t *testing.T) {
	t.Parallel()
	policy, wrong := Parse("/etc/py3run/policy.toml", `version = 1
[user.alice]
os-user = "al"
[user.alice.limits]
security.rate-limit.per-user-per-minute = 2
[user.bob]
[user.gateway.limits]
security.rate-limit.per-user-per-hour = 30
[user.other.limits]
security.max-memory-mb = 30
`)
	if wrong != nil {
		t.Fatal(wrong)
	}
	c := config.Config{}
	c.Security.RateLimit = config.RateLimit{PerUserPerMinute: 60, GlobalPerMinute: 500, OSUsers: true}
	without := c
	without.Security.RateLimit.OSUsers = false
	claimed := Grant{User: "x", Method: ByClaim}
	tests := []struct {
		name   string
		policy *Policy
		grant  Grant
		osUser string
		c      config.Config
		want   string
	}{
		{"the operating system's user", policy, claimed, "al", c, "known alice 2 0"},
		{"its own name", policy, Grant{User: "alice", Method: ByClaim}, "al", c, "known alice 2 0"},
		{"not in the policy", policy, claimed, "cy", c, "os-user cy 60 0"},
		{"no policy", nil, claimed, "al", c, "os-user al 60 0"},
		{"os-users is off", policy, claimed, "al", without, ""},
		{"nobody is named", policy, Grant{User: "alice", Method: ByOSUser, Known: true}, "al", c, ""},
		{"a key's own user", policy, Grant{User: "bob", Method: ByKey, Known: true}, "al", c, ""},
		{"a key's holder", policy, Grant{User: "bob", Method: ByKey, Known: true, Holder: "gateway"}, "al", without, "known gateway 0 30"},
		{"a holder without such limits", policy, Grant{User: "bob", Method: ByKey, Known: true, Holder: "other"}, "al", c, ""},
	}
	for _, tt := range tests {
		got := ""
		for _, b := range tt.policy.Behind(tt.grant, Claim{OSUser: tt.osUser}, tt.c, map[string]config.Origin{}) {
			got += fmt.Sprintf("%s %s %d %d", b.Standing, b.Name, b.PerMinute, b.PerHour)
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
