package cmd

import (
	"strings"

	"github.com/spf13/cobra"
)

// runFlags are the limits by their request names, and what else is set often. Each is a configuration key;
// --set reaches all of them.
func (app *app) runFlags(c *cobra.Command) {
	for _, f := range []struct{ name, key, usage string }{
		{"timeout-seconds", "security.execution-timeout-seconds", "wall-clock limit, in `seconds`"},
		{"cpu-seconds", "security.max-cpu-seconds", "processor time of the whole tree, in `seconds`"},
		{"idle-seconds", "security.idle-timeout-seconds", "longest time without processor use and output, in `seconds`"},
		{"memory-mb", "security.max-memory-mb", "memory limit, in `MB` of 2^20 bytes"},
		{"output-mb", "security.max-output-size-mb", "output limit of each stream and of the result, in `MB`; run: none unless set"},
		{"file-mb", "security.max-file-size-mb", "largest file, in `MB`"},
		{"disk-mb", "security.max-disk-mb", "most that the working directory may hold, in `MB`"},
		{"processes", "security.max-processes", "largest `number` of processes and threads"},
		{"python", "python.interpreter", "`interpreter`: auto, a path, a version as 3.12, or a virtual environment"},
		{"method", "security.isolation.method", "isolation `method`: auto, namespace or process"},
		{"network", "security.isolation.network", "`network` of the code: host or none"},
	} {
		c.Flags().Var(&keyFlag{app, f.key}, f.name, f.usage)
	}
}

// keyFlag puts a flag's value under its configuration key, where it is checked with all the others.
type keyFlag struct {
	app *app
	key string
}

func (f *keyFlag) Set(value string) error { f.app.flags[f.key] = value; return nil }
func (f *keyFlag) String() string         { return "" }
func (f *keyFlag) Type() string           { return "string" }

// setFlag is --set KEY=VALUE for every configuration key.
func (app *app) setFlag(c *cobra.Command) {
	c.PersistentFlags().Var(&pairFlag{app}, "set", "set a configuration key for this call, as `key=value`")
}

type pairFlag struct{ app *app }

func (f *pairFlag) Set(pair string) error {
	key, value, found := strings.Cut(pair, "=")
	if !found || key == "" {
		return usagef("want KEY=VALUE, as security.max-memory-mb=256")
	}
	f.app.flags[key] = value
	return nil
}
func (f *pairFlag) String() string { return "" }
func (f *pairFlag) Type() string   { return "string" }
