package launch

import (
	"strings"
	"testing"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
)

func TestHint(t *testing.T) {
	t.Parallel()
	ip := python.Interpreter{Version: "3.11.2", Path: "/opt/p/bin/python3"}
	for _, tt := range []struct {
		kind, message string
		ownDir        bool
		want          string // empty: no hint
	}{
		{"ModuleNotFoundError", "ModuleNotFoundError: No module named 'pandas'", true, "Python 3.11.2 at /opt/p/bin/python3"},
		{"ModuleNotFoundError", "ModuleNotFoundError: No module named 'pandas'", false, "python.interpreter"},
		{"FileNotFoundError", "FileNotFoundError: [Errno 2] No such file or directory: 'readings.csv'", true, "absolute"},
		{"FileNotFoundError", "FileNotFoundError: [Errno 2] No such file or directory: 'readings.csv'", false, ""},
		{"FileNotFoundError", "FileNotFoundError: [Errno 2] No such file or directory: '/data/readings.csv'", true, ""},
		{"FileNotFoundError", "FileNotFoundError", true, ""},
		{"OSError", "OSError: [Errno 24] Too many open files: '/dev/null'", true, "max-open-files = 99"},
		{"OSError", "OSError: [Errno 5] Input/output error", true, ""},
		{"ValueError", "ValueError: x: 'y'", true, ""},
	} {
		got := hint(wire.Failure{Type: tt.kind, Message: tt.message}, ip, 99, tt.ownDir)
		if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s %t: %q", tt.message, tt.ownDir, got)
		}
	}
}

// A hint to raise a limit names who has set it.
func TestRemedy(t *testing.T) {
	t.Parallel()
	usual := wire.StatusTimeout.Hint()
	for _, tt := range []struct {
		name            string
		asked, allowed  float64
		origin          config.Origin
		want, wantNever string
	}{
		{"the request", 1, 600, config.Origin{}, "do less at a time; the request itself asks for this limit, with limits.timeout_seconds", "raise"},
		{"the request, where there is no other", 1, 0, config.Origin{}, "the request itself", "raise"},
		{"a request that was clamped", 700, 600, config.Origin{}, "PY3RUN_SECURITY_EXECUTION_TIMEOUT_SECONDS", "request itself"},
		{"nobody", 0, 600, config.Origin{}, "default of security.execution-timeout-seconds", "request"},
		{"a file", 0, 600, config.Origin{Kind: config.FromFile, Name: "/home/c.toml"}, "/home/c.toml", "request"},
		{"the limit of a bridge", 0, 25, config.Origin{Key: "bridge.timeout-seconds"}, "default of bridge.timeout-seconds, which whoever starts py3run can raise: with PY3RUN_BRIDGE_TIMEOUT_SECONDS", "execution-timeout"},
		{"a ceiling", 0, 600, config.Origin{Kind: config.FromFlag, Ceiling: config.Ceiling{Asked: "900", File: "/etc/c.toml"}}, "ceiling in /etc/c.toml", "request"},
	} {
		job := Job{Config: config.Default(), Origins: map[string]config.Origin{"security.execution-timeout-seconds": tt.origin}}
		job.Config.Security.ExecutionTimeoutSeconds = tt.allowed
		if tt.asked > 0 {
			job.Request.Limits.Set("timeout_seconds", tt.asked)
		}
		if got := remedy(usual, "timeout_seconds", job); !strings.Contains(got, tt.want) || strings.Contains(got, tt.wantNever) {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// The warning about a clamped limit names who can raise it, for every limit that a request can have.
func TestRaise(t *testing.T) {
	t.Parallel()
	const key = "security.max-memory-mb"
	for _, tt := range []struct {
		name   string
		origin config.Origin
		want   string
	}{
		{"default", config.Origin{}, "default of security.max-memory-mb, which whoever starts py3run can raise: with PY3RUN_SECURITY_MAX_MEMORY_MB, or in a configuration file such as /etc/py3run/config.toml"},
		{"file", config.Origin{Kind: config.FromFile, Name: "/home/a/c.toml"}, "security.max-memory-mb is set in /home/a/c.toml, whose owner"},
		{"variable", config.Origin{Kind: config.FromEnvironment, Name: "PY3RUN_SECURITY_MAX_MEMORY_MB"}, "has set security.max-memory-mb, by PY3RUN_SECURITY_MAX_MEMORY_MB"},
		{"flag", config.Origin{Kind: config.FromFlag, Name: "--memory-mb"}, "has set security.max-memory-mb, by --memory-mb"},
		{"ceiling", config.Origin{Kind: config.FromFlag, Name: "--memory-mb", Ceiling: config.Ceiling{Value: "1", Asked: "2", File: "/etc/py3run/config.toml"}}, "the ceiling in /etc/py3run/config.toml, which only its owner raises"},
		{"below a ceiling", config.Origin{Kind: config.FromFlag, Name: "--memory-mb", Ceiling: config.Ceiling{Value: "9", File: "/etc/py3run/config.toml"}}, "by --memory-mb"},
	} {
		if got := whoCanRaise("memory_mb", map[string]config.Origin{key: tt.origin}); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, name := range wire.LimitNames() {
		if whoCanRaise(name, nil) == "" {
			t.Errorf("%s: nobody can raise it", name)
		}
	}
	job := Job{Config: config.Config{Security: config.Security{MaxMemoryMB: 1}}, Request: wire.Request{Limits: wire.Limits{MemoryMB: 2, CPUSeconds: 3}}}
	if _, warnings := limitsInForce(job); len(warnings) != 1 || !strings.HasPrefix(warnings[0].Message, "memory_mb: 2 asked, the configuration allows 1; that is the default") {
		t.Errorf("%+v", warnings)
	}
}
