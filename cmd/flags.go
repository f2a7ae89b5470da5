package cmd

import (
	"strings"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/config"
)

// runFlags are the limits by their request names, and what else is set often. Each is a configuration key;
// --set reaches all of them.
func (app *app) runFlags(c *cobra.Command) {
	for _, s := range config.Shorts {
		c.Flags().Var(&keyFlag{app, s.Key, "--" + s.Name}, s.Name, s.Usage)
	}
}

// keyFlag puts a flag's value under its configuration key, where it is checked with all the others.
type keyFlag struct {
	app       *app
	key, name string
}

func (f *keyFlag) Set(value string) error {
	f.app.flags[f.key], f.app.typed[f.key] = value, f.name
	return nil
}
func (f *keyFlag) String() string { return "" }
func (f *keyFlag) Type() string   { return "value" }

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
	delete(f.app.typed, key)
	return nil
}
func (f *pairFlag) String() string { return "" }
func (f *pairFlag) Type() string   { return "string" }
