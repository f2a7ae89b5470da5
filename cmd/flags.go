package cmd

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/config"
)

// runFlags are the limits by their request names, and what else is set often. Each is a configuration key;
// --set reaches all of them.
func (app *app) runFlags(c *cobra.Command) {
	for _, s := range config.Shorts {
		c.Flags().Var(&keyFlag{app, s.Key, "--" + s.Name}, s.Name, s.Usage)
		if values := config.Values(s.Key); len(values) > 0 {
			c.RegisterFlagCompletionFunc(s.Name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
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

// waitFlag is --wait.
func (app *app) waitFlag(c *cobra.Command) {
	c.Flags().Var((*durationFlag)(&app.patience), "wait", "if the user has as many runs as security.rate-limit allows, wait so long for a turn: a `duration` such as 30s, 5m")
}

// durationFlag is a time to wait: a number of seconds, or numbers with units.
type durationFlag time.Duration

func (f *durationFlag) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, notNumber := strconv.ParseFloat(text, 64); notNumber == nil && n <= 1e9 {
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil || d < 0 {
		return usagef("want a time such as 30s or 5m")
	}
	*f = durationFlag(d)
	return nil
}
func (f *durationFlag) String() string { return "" }
func (f *durationFlag) Type() string   { return "duration" }

// setFlag is --set KEY=VALUE for every configuration key.
func (app *app) setFlag(c *cobra.Command) {
	c.PersistentFlags().Var(&pairFlag{app}, "set", "set a configuration key for this call, as `key=value`")
	c.RegisterFlagCompletionFunc("set", completeSetting)
}

// completeSetting completes KEY=VALUE.
func completeSetting(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	key, _, valued := strings.Cut(begun, "=")
	var list []string
	if valued {
		for _, value := range config.Values(key) {
			list = append(list, key+"="+value)
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
	for _, key := range config.Keys() {
		list = append(list, key+"=")
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
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
