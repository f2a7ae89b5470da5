package launch

import (
	"strings"
	"testing"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
)

// Whoever is told that a limit was clamped is told who can raise it, for every limit that a request can name.
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
		if got := raise("memory_mb", map[string]config.Origin{key: tt.origin}); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, name := range wire.LimitNames() {
		if raise(name, nil) == "" {
			t.Errorf("%s: nobody can raise it", name)
		}
	}
	job := Job{Config: config.Config{Security: config.Security{MaxMemoryMB: 1}}, Request: wire.Request{Limits: wire.Limits{MemoryMB: 2, CPUSeconds: 3}}}
	if _, warnings := effective(job, nil); len(warnings) != 1 || !strings.HasPrefix(warnings[0].Message, "memory_mb: 2 asked, the configuration allows 1; that is the default") {
		t.Errorf("%+v", warnings)
	}
}
