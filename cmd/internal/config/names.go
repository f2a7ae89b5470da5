package config

import "slices"

// SystemFile is the configuration of the whole system.
const SystemFile = etcFile

// Variable is the environment variable that sets a key.
func Variable(key string) string { return variable(key) }

// A Short is a second name of a key: the name of a flag, with Usage as its help, and, with
// underscores, the name in a request.
type Short struct{ Name, Key, Usage string }

// Shorts are all short names.
var Shorts = [...]Short{
	{"timeout-seconds", "security.execution-timeout-seconds", "wall-clock limit, in `seconds`"},
	{"cpu-seconds", "security.max-cpu-seconds", "processor time of all processes of the run, in `seconds`"},
	{"idle-seconds", "security.idle-timeout-seconds", "longest time without processor use and without output, in `seconds`"},
	{"grace-seconds", "security.grace-seconds", "time to end after a polite signal, before SIGKILL, in `seconds`"},
	{"memory-mb", "security.max-memory-mb", "memory limit, in `MB` of 2^20 bytes, of all processes of the run"},
	{"output-mb", "security.max-output-size-mb", "output limit of each stream and of the result, in `MB`; run: none unless set"},
	{"file-mb", "security.max-file-size-mb", "largest file, in `MB`"},
	{"disk-mb", "security.max-disk-mb", "largest size of the working directory, in `MB`"},
	{"processes", "security.max-processes", "largest `number` of processes and threads"},
	{"python", "python.interpreter", "`interpreter`: auto, a path, a version as 3.12, or a virtual environment"},
	{"method", "security.isolation.method", "isolation `method`: auto, namespace or process"},
	{"network", "security.isolation.network", "`network` of the code: host or none"},
}

// DefaultText is the default of a key as it would stand on a command line.
func DefaultText(key string) string {
	s := settingAt(key)
	if text, ok := s.fallback.(string); ok {
		return text
	}
	return format(s.fallback)
}

// Values are the values that a key can have, for a completion; empty: they cannot be listed.
func Values(key string) []string {
	s := settingAt(key)
	if s == nil {
		return nil
	}
	if _, isBool := s.fallback.(bool); isBool {
		return []string{"true", "false"}
	}
	return slices.Clone(s.choices)
}

// Keys are all keys, in the order of the configuration file.
func Keys() []string {
	keys := make([]string, len(settings))
	for i := range settings {
		keys[i] = settings[i].key
	}
	return keys
}
