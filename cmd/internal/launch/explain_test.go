package launch

import (
	"strings"
	"testing"
	"time"

	"py3run/cmd/internal/python"
)

func TestSlowStart(t *testing.T) {
	t.Parallel()
	ip := python.Interpreter{Path: "/opt/python/bin/python3"}
	skipped := []python.Candidate{{Path: "/old/python3", From: "PATH", Why: "is Python 2.7.18, older than 3.8"}}
	for _, tt := range []struct {
		name    string
		skipped []python.Candidate
		took    time.Duration
		scripts []string
		want    string // parts of finding, cause and repair, with | between them; empty: no check
	}{
		{"kept", nil, time.Millisecond, nil, ""},
		{"kept, behind another", skipped, 20 * time.Millisecond, nil, ""},
		{"a shim", nil, 420 * time.Millisecond, []string{"/shims/python3"}, "takes 420 ms of every run|/shims/python3: a script|python.interpreter = \"/opt/python/bin/python3\""},
		{"a quick shim", nil, 2 * time.Millisecond, []string{"/shims/python3"}, "takes 2 ms of every run|/shims/python3: a script|/opt/python/bin/python3"},
		{"slow candidates", skipped, time.Second, nil, "takes 1000 ms|candidates before it|/opt/python/bin/python3"},
		{"nothing can be kept", nil, time.Second, nil, "takes 1000 ms|no directory|XDG_CACHE_HOME"},
	} {
		checks := slowStart(ip, tt.skipped, tt.took, tt.scripts)
		if tt.want == "" {
			if len(checks) > 0 {
				t.Errorf("%s: %+v", tt.name, checks)
			}
			continue
		}
		if len(checks) != 1 || checks[0].OK {
			t.Fatalf("%s: %+v", tt.name, checks)
		}
		for i, part := range strings.Split(tt.want, "|") {
			if said := []string{checks[0].Finding, checks[0].Cause, checks[0].Repair}[i]; !strings.Contains(said, part) {
				t.Errorf("%s: %q without %q", tt.name, said, part)
			}
		}
	}
}
