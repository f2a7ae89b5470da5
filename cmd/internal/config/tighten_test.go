package config

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTighten(t *testing.T) {
	t.Parallel()
	const (
		memory  = "security.max-memory-mb"
		network = "security.isolation.network"
		seccomp = "security.isolation.seccomp"
		files   = "security.max-open-files"
	)
	for _, tt := range []struct {
		name          string
		file, ceiling string
		environ       []string
		flags         map[string]string
		bounds        []Bound
		key, want     string
		origin        string
	}{
		{name: "nothing", key: memory, want: "1024", origin: "default"},
		{name: "less than the default", bounds: []Bound{{memory, 256.0, "P (user.a.limits)", true}}, key: memory, want: "256", origin: "policy P (user.a.limits)"},
		{name: "more than the default", bounds: []Bound{{memory, 4096.0, "P", true}}, key: memory, want: "4096", origin: "policy P"},
		{name: "no limit instead of the default", bounds: []Bound{{memory, 0.0, "P", true}}, key: memory, want: "0", origin: "policy P"},
		{name: "a claim only tightens", bounds: []Bound{{memory, 4096.0, "P", false}}, key: memory, want: "1024", origin: "default"},
		{name: "a claim tightens", bounds: []Bound{{memory, 10.0, "P", false}}, key: memory, want: "10", origin: "default, asked 1024 (ceiling 10 from P)"},
		{name: "above the ceiling", ceiling: "max-memory-mb = 2000", bounds: []Bound{{memory, 4096.0, "P", true}}, key: memory, want: "2000", origin: "policy P, asked 4096 (ceiling 2000 from ETC)"},
		{name: "no limit above the ceiling", ceiling: "max-memory-mb = 2000", bounds: []Bound{{memory, 0.0, "P", true}}, key: memory, want: "2000", origin: "policy P, asked 0 (ceiling 2000 from ETC)"},
		{name: "the ceiling is below the default", ceiling: "max-memory-mb = 500", bounds: []Bound{{memory, 800.0, "P", true}}, key: memory, want: "500", origin: "default, asked 1024 (ceiling 500 from ETC)"},
		{name: "a flag above", flags: map[string]string{memory: "9000"}, bounds: []Bound{{memory, 256.0, "P", true}}, key: memory, want: "256", origin: "flag --set, asked 9000 (ceiling 256 from P)"},
		{name: "a flag below", flags: map[string]string{memory: "100"}, bounds: []Bound{{memory, 256.0, "P", true}}, key: memory, want: "100", origin: "flag --set"},
		{name: "a flag without a limit", flags: map[string]string{memory: "0"}, bounds: []Bound{{memory, 256.0, "P", true}}, key: memory, want: "256", origin: "flag --set, asked 0 (ceiling 256 from P)"},
		{name: "a variable above", environ: []string{"PY3RUN_SECURITY_MAX_MEMORY_MB=9000"}, bounds: []Bound{{memory, 256.0, "P", true}}, key: memory, want: "256", origin: "environment PY3RUN_SECURITY_MAX_MEMORY_MB, asked 9000 (ceiling 256 from P)"},
		{name: "the gateway's variable", environ: []string{"PYTHON3_MAX_MEMORY_MB=100"}, bounds: []Bound{{memory, 4096.0, "P", true}}, key: memory, want: "100", origin: "environment PYTHON3_MAX_MEMORY_MB"},
		{name: "a file above", file: "max-memory-mb = 9000", bounds: []Bound{{memory, 256.0, "P", true}}, key: memory, want: "256", origin: "file ETC, asked 9000 (ceiling 256 from P)"},
		{name: "a profile after the user's", bounds: []Bound{{memory, 4096.0, "P", true}, {memory, 64.0, "Q", false}}, key: memory, want: "64", origin: "policy P, asked 4096 (ceiling 64 from Q)"},
		{name: "a loose profile after the user's", bounds: []Bound{{memory, 256.0, "P", true}, {memory, 512.0, "Q", false}}, key: memory, want: "256", origin: "policy P"},
		{name: "strict", bounds: []Bound{{network, "none", "P", true}}, key: network, want: `"none"`, origin: `default, asked "host" (ceiling "none" from P)`},
		{name: "loose is no reason to be looser", bounds: []Bound{{seccomp, "off", "P", true}}, key: seccomp, want: `"default"`, origin: "default"},
		{name: "loose does not loosen a flag", flags: map[string]string{network: "none"}, bounds: []Bound{{network, "host", "P", true}}, key: network, want: `"none"`, origin: "flag --set"},
		{name: "whole numbers", bounds: []Bound{{files, 128, "P", true}}, key: files, want: "128", origin: "policy P"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			etc := filepath.Join(t.TempDir(), "config.toml")
			text := "[security]\n" + tt.file + "\n"
			if tt.ceiling != "" {
				text += "[ceiling.security]\n" + tt.ceiling + "\n"
			}
			if err := os.WriteFile(etc, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Load(Sources{Environ: tt.environ, EtcFile: etc, Flags: tt.flags})
			if err != nil {
				t.Fatal(err)
			}
			before := maps.Clone(l.Origins)
			c, origins := Tighten(l.Config, l.Origins, tt.bounds)
			origin := strings.ReplaceAll(origins[tt.key].String(), etc, "ETC")
			if got := format(settingAt(tt.key).get(&c)); got != tt.want || origin != tt.origin {
				t.Errorf("%s, %s, want %s, %s", got, origin, tt.want, tt.origin)
			}
			if !maps.Equal(before, l.Origins) {
				t.Error("the origins of the caller were changed")
			}
		})
	}
}

// Each key can be limited for a user, or the error says why not.
func TestLimitKeys(t *testing.T) {
	t.Parallel()
	keys := LimitKeys()
	for i := range settings {
		s := &settings[i]
		if s.forAll != "" && !s.hasCeiling() {
			t.Errorf("%s: it cannot be limited anyway", s.key)
		}
		_, _, err := ParseLimit(s.key + "=" + plainText(s.fallback))
		want := slices.Contains(keys, s.key)
		if (err == nil) != want {
			t.Errorf("%s: %v, want an error: %v", s.key, err, !want)
		}
		if err != nil && !strings.Contains(err.Error(), "cannot be tightened") && !strings.Contains(err.Error(), "cannot differ from user to user") {
			t.Errorf("%s: %v", s.key, err)
		}
	}
	if !slices.Contains(keys, "security.max-memory-mb") || slices.Contains(keys, "alerts.denials") || slices.Contains(keys, "python.interpreter") {
		t.Errorf("%q", keys)
	}
	for _, text := range []string{"", "security.max-memory-mb", "security.max-memory-mb=x", "security.max-memory-mb=-1", "nothing=1", "security=1"} {
		if key, v, err := ParseLimit(text); err == nil {
			t.Errorf("%q: %s, %v", text, key, v)
		}
	}
	if Generous("security.max-memory-mb", 5.0, 7.0) != 7.0 || Generous("security.max-memory-mb", 0.0, 7.0) != 0.0 || Generous("security.isolation.network", "none", "host") != "host" {
		t.Error("the more generous value")
	}
}

// plainText is a value as a flag has it.
func plainText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	switch v.(type) {
	case float64, int, bool:
		return format(v)
	case reasons:
		return "{}"
	}
	return "[]"
}
