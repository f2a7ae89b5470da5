package cmd_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const declared = "# /// py3run\n# [variables]\n# tank = { type = \"integer\", required = true }\n# ///\nimport sys\nprint(tank * 2, repr(sys.stdin.read()))\n"

// A run of a stored script takes its variables as check does.
func TestRunWithVariables(t *testing.T) {
	t.Parallel()
	r := newRealm(t, "")
	r.save(t, "alice", "plant/tank", declared)
	for _, tt := range []struct {
		name  string
		args  []string
		input string
		want  string
		code  int
	}{
		{"an object", []string{"--script", "plant/tank", "--variables", `{"tank": 21}`}, "input", "42 'input'\n", 0},
		{"from standard input", []string{"--script", "plant/tank", "--variables", "-"}, `{"tank": 21}`, "42 ''\n", 0},
		{"a wrong one", []string{"--script", "plant/tank", "--variables", `{"tank": "x"}`}, "", "py3run: error: bad_request: variable \"tank\": want an integer, got a string\npy3run: hint: py3runctl script show plant/tank@1 prints the rules, in the block # /// py3run\n", 125},
		{"no object", []string{"--script", "plant/tank", "--variables", `7`}, "", "variables", 125},
		{"more than an object", []string{"--script", "plant/tank", "--variables", `{}, "user": "root"`}, "", "--variables", 125},
		{"without a script", []string{"--variables", "{}", "-c", "pass"}, "", "want --script with it", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := r.command(append([]string{"run"}, tt.args...)...)
			c.Stdin = strings.NewReader(tt.input)
			said, _ := c.CombinedOutput()
			exact := tt.code == 0 || strings.HasPrefix(tt.want, "py3run: ")
			if c.ProcessState.ExitCode() != tt.code || exact && string(said) != tt.want || !strings.Contains(string(said), tt.want) {
				t.Errorf("code %d: %s", c.ProcessState.ExitCode(), said)
			}
		})
	}
}

// What explain says of a user, of rates and of a stored script.
func TestExplainWhoAndWhat(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy+"[user.alice.limits]\nsecurity.rate-limit.per-user-per-minute = 7\n")
	r.save(t, "alice", "plant/tank", declared)
	c := r.command("explain", "--user", "alice", "--set", "security.isolation.hide=['/home', '/home']")
	said, err := c.Output()
	if err != nil || !strings.Contains(string(said), "alice, asserted, not proved: the policy's roles and shares do not count") || !strings.Contains(string(said), "per-user-per-minute 7, per-user-per-hour 1000") {
		t.Errorf("%v: %s", err, said)
	}
	c = r.command("explain", "--format=json", "--script", "plant/tank", "--variables", `{"tank": 1}`, "--api-key-file", r.keyFile(t, r.keys["ALICE"]))
	said, err = c.Output()
	var e struct {
		Script struct{ Name, Version string }
		Rates  struct {
			Counted   bool
			PerMinute int `json:"per_user_per_minute"`
		} `json:"rate_limits"`
		Hidden, Fixed []string
	}
	json.Unmarshal(said, &e)
	if err != nil || e.Script.Name != "plant/tank" || !e.Rates.Counted || e.Rates.PerMinute != 7 {
		t.Errorf("%v: %s", err, said)
	}
	for _, list := range [][]string{e.Hidden, e.Fixed} {
		slices.Sort(list)
		if len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("twice: %q", list)
		}
	}
}

// Completion knows the values of options, keys and the versions of scripts.
func TestCompletedValues(t *testing.T) {
	t.Parallel()
	r := newRealm(t, "")
	r.save(t, "alice", "plant/tank", "1\n")
	r.save(t, "alice", "plant/tank", "2\n")
	for want, args := range map[string][]string{
		"host\nnone\n:4\n":                 {"run", "--network", ""},
		"auto\noff\n:4\n":                  {"exec", "--audit-line", ""},
		"fresh\nkeep\n:4\n":                {"bridge", "--state", ""},
		"bridge.state=":                    {"run", "--set", "bridge."},
		"bridge.state=fresh\n":             {"run", "--set", "bridge.state="},
		"auto\nnamespace\n":                {"check", "--method", ""},
		"plant/tank@2\nplant/tank@1\n:4\n": {"run", "--script", "plant/tank@"},
	} {
		said, err := r.command(append([]string{"__complete"}, args...)...).Output()
		if err != nil || !strings.Contains(string(said), want) {
			t.Errorf("%s: %v: %s", filepath.Join(args...), err, said)
		}
	}
}
