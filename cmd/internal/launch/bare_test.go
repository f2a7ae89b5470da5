package launch

import (
	"slices"
	"testing"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

func TestBareEnvironment(t *testing.T) {
	t.Parallel()
	job := Job{Environ: []string{"A=b", "PY3RUN_CONFIG=/x", "PYTHONPATH=p", "PYTHON3_MAX_MEMORY_MB=2048", "PYTHON3_MAX_CPU_SECONDS=60", "TMPDIR=/t"}}
	for _, tt := range []struct {
		limits      wire.Limits
		memory, cpu string
	}{
		{wire.Limits{MemoryMB: 2048, CPUSeconds: 60}, "2048", "60"},
		{wire.Limits{MemoryMB: 1024.5, CPUSeconds: 300}, "1024", "60"},
		{wire.Limits{MemoryMB: 4096, CPUSeconds: 0.5}, "2048", "0.5"},
		{wire.Limits{}, "2048", "60"},
	} {
		want := []string{"A=b", "PYTHONPATH=p", "PYTHON3_MAX_MEMORY_MB=" + tt.memory, "PYTHON3_MAX_CPU_SECONDS=" + tt.cpu, "TMPDIR=/t"}
		if got := bareEnvironment(job, tt.limits); !slices.Equal(got, want) {
			t.Errorf("%+v:\n%q, want\n%q", tt.limits, got, want)
		}
	}
	if got := handedOn("PYTHON3_MAX_MEMORY_MB=0", 512); got != "PYTHON3_MAX_MEMORY_MB=512" { // 0 means no limit
		t.Error(got)
	}
	if got := handedOn("PYTHON3_MAX_MEMORY_MB=much", 512); got != "PYTHON3_MAX_MEMORY_MB=much" {
		t.Error(got)
	}
}

// The group of a run is above the variable that limits it, and never above what somebody has configured.
func TestBareMemory(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		origin config.Origin
		want   int64 // MB
	}{
		{"the default", config.Origin{}, 2048},
		{"the caller's variable", config.Origin{Kind: config.FromEnvironment, Name: maxMemory}, 2048 + 128},
		{"a file", config.Origin{Kind: config.FromFile, Name: "/f"}, 2048},
		{"a ceiling below the variable", config.Origin{Kind: config.FromEnvironment, Name: maxMemory, Ceiling: config.Ceiling{Asked: "4096"}}, 2048},
	} {
		p := Plan{Job: Job{Bare: &Bare{Args: []string{""}, Link: python.Link{Last: "/l"}}, Origins: map[string]config.Origin{"security.max-memory-mb": tt.origin}},
			Limits: wire.Limits{MemoryMB: 2048}}
		spec := sandbox.Spec{Path: "/p", Limits: sandbox.Limits{Memory: 2048 << 20}}
		p.bare(&spec)
		if got := spec.Limits.Memory >> 20; got != tt.want || spec.Args[0] != "/p" || !spec.Transparent || !slices.Equal(spec.Links, []sandbox.Link{{Path: "/l", Target: "/p"}}) || !slices.Equal(spec.Linkless, []string{"PY3RUN_PYTHON_INTERPRETER=/p"}) {
			t.Errorf("%s: %d MB, want %d; %+v", tt.name, got, tt.want, spec)
		}
	}
}

func TestBareRecord(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"python3", "-c", "secret", "a"}, []string{"python3", "-c", "[code]", "a"}},
		{[]string{"python3", "-Icsecret"}, []string{"python3", "-Ic[code]"}},
		{[]string{"python3", "f.py", "-c", "x"}, []string{"python3", "f.py", "-c", "x"}},
	} {
		b := Bare{Args: tt.args, CommandLine: python.ReadCommandLine(tt.args[1:], false)}
		if got := b.recorded(); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
}
