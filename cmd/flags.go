package cmd

import (
	"strings"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/config"
)

// runFlags adds flags for the limits, by their names in a request, and for other keys that are set
// often. --set can set every configuration key.
func (app *app) runFlags(c *cobra.Command) {
	for _, s := range config.Shorts {
		c.Flags().Var(&keyFlag{app, s.Key, "--" + s.Name}, s.Name, s.Usage)
	}
}

// keyFlag stores the value of a flag under its configuration key. config.Load checks it with all
// other values.
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
