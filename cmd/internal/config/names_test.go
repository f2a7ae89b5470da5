package config

import (
	"errors"
	"testing"
)

func TestShorts(t *testing.T) {
	t.Parallel()
	for _, s := range Shorts {
		if settingAt(s.Key) == nil {
			t.Errorf("%s: no key %s", s.Name, s.Key)
		}
		if DefaultText(s.Key) == "" {
			t.Errorf("%s has no default", s.Key)
		}
	}
}

func TestNearestVariable(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"PY3RUN_PYTHON":                "PY3RUN_PYTHON_INTERPRETER",
		"PY3RUN_METHOD":                "PY3RUN_SECURITY_ISOLATION_METHOD",
		"PY3RUN_MEMORY_MB":             "PY3RUN_SECURITY_MAX_MEMORY_MB",
		"PY3RUN_MEMORY":                "PY3RUN_SECURITY_MAX_MEMORY_MB",
		"PY3RUN_TIMEOUT":               "PY3RUN_SECURITY_EXECUTION_TIMEOUT_SECONDS",
		"PY3RUN_TIMEOUT_SECONDS":       "PY3RUN_SECURITY_EXECUTION_TIMEOUT_SECONDS",
		"PY3RUN_SECURITY_PROCESSES":    "PY3RUN_SECURITY_MAX_PROCESSES",
		"PY3RUN_SECURITY_MAX_MEMRY_MB": "PY3RUN_SECURITY_MAX_MEMORY_MB",
		"PY3RUN_AUDIT_DIR":             "PY3RUN_SECURITY_AUDIT_DIR",
		"PY3RUN_QUARTZ":                "",
	} {
		if got := nearestVariable(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// An error names the flag that was typed, and so does the origin.
func TestTypedFlag(t *testing.T) {
	t.Parallel()
	const key = "security.execution-timeout-seconds"
	src := Sources{EtcFile: "/absent", Flags: map[string]string{key: "1m"}, Typed: map[string]string{key: "--timeout-seconds"}}
	_, err := Load(src)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Where != "--timeout-seconds" || e.Hint != "give the number of seconds, without a unit" {
		t.Errorf("%+v", err)
	}
	const network = "security.isolation.network"
	_, err = Load(Sources{EtcFile: "/absent", Flags: map[string]string{network: "foo"}, Typed: map[string]string{network: "--network"}})
	if e, ok := errors.AsType[*Error](err); !ok || e.Where != "--network" || e.Hint != "want host or none; see py3run COMMAND --help" {
		t.Errorf("%+v", err)
	}
	src.Flags[key] = "60"
	l, err := Load(src)
	if err != nil || l.Origins[key].Name != "--timeout-seconds" {
		t.Errorf("%+v, %v", l, err)
	}
	src.Typed = nil
	if l, err = Load(src); err != nil || l.Origins[key].Name != "--set" {
		t.Errorf("%+v, %v", l, err)
	}
}
