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
	itself := python.Asked{Path: ip.Path, Took: 30 * time.Millisecond}
	for _, tt := range []struct {
		name  string
		took  time.Duration
		asked []python.Asked
		want  string // parts of finding, cause and repair, with | between them; empty: no check
	}{
		{"kept", time.Millisecond, nil, ""},
		{"kept, behind another", 20 * time.Millisecond, []python.Asked{{Path: "/old/python3", Took: 19 * time.Millisecond}}, ""},
		{"a script", 420 * time.Millisecond, []python.Asked{{Path: "/bin/python3", Took: 400 * time.Millisecond, Shim: "script"}}, "takes 420 ms of every run|/bin/python3 takes 400 ms: a script|python.interpreter = \"/opt/python/bin/python3\""},
		{"a quick script", 2 * time.Millisecond, []python.Asked{{Path: "/bin/python3", Took: time.Millisecond, Shim: "script"}}, "takes 2 ms of every run|/bin/python3 takes 1 ms: a script|/opt/python/bin/python3"},
		{"a shim that depends on more", 420 * time.Millisecond, []python.Asked{{Path: "/shims/python3", Took: 400 * time.Millisecond, Shim: "pyenv", Why: "/etc/pyenv.d/exec/x.bash is a hook"}}, "takes 420 ms|/shims/python3 takes 400 ms: a shim of pyenv, whose answer is not kept: /etc/pyenv.d/exec/x.bash is a hook|/opt/python/bin/python3"},
		{"no place for a shim", 420 * time.Millisecond, []python.Asked{{Path: "/shims/python3", Took: 400 * time.Millisecond, Shim: "pyenv"}, itself}, "takes 420 ms|/shims/python3 takes 400 ms: a shim of pyenv, whose answer this host has no place to keep in|/opt/python/bin/python3"},
		{"slow candidates", time.Second, []python.Asked{{Path: "/old/python3", Took: 900 * time.Millisecond}}, "takes 1000 ms|/old/python3 takes 900 ms: it does not answer|/opt/python/bin/python3"},
		{"nothing can be kept", time.Second, []python.Asked{itself}, "takes 1000 ms|no directory|XDG_CACHE_HOME"},
	} {
		checks := slowStart(ip, tt.took, tt.asked)
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
