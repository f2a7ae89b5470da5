package ctl

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/wire"
)

// complete lets a shell complete the value of a flag.
func complete(c *cobra.Command, flag string, values ...string) {
	completeBy(c, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func completeBy(c *cobra.Command, flag string, by cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, by); err != nil {
		panic(err) // the flag is not there
	}
}

// formatFlag adds --format to a command that prints a list: a table on a terminal, else JSON.
func formatFlag(c *cobra.Command, to *string, formats ...string) {
	usage := "text or json, one object a line"
	if len(formats) > 2 {
		usage = "text, json (one object a line) or csv"
	}
	c.Flags().StringVar(to, "format", "", usage+" (default: text on a terminal, else json)")
	complete(c, "format", formats...)
}

// completeFormats lets a shell complete the formats of every command, as the usage of its flag names them.
func completeFormats(c *cobra.Command) {
	if f := c.Flags().Lookup("format"); f != nil {
		var known []string
		for _, name := range []string{"text", "json", "csv", "prometheus", "openmetrics"} {
			if strings.Contains(f.Usage, name) {
				known = append(known, name)
			}
		}
		c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp)) // perhaps it has one
	}
	for _, sub := range c.Commands() {
		completeFormats(sub)
	}
}

// exactly demands the arguments of these names, and says which one is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return cli.Usagef("requires %s", strings.Join(names[len(args):], " and "))
		case len(args) > len(names):
			return cli.Usagef("unknown argument %q: want only %s", args[len(names)], strings.Join(names, " and "))
		}
		return noKeys(args)
	}
}

// between demands at least one argument of a name, and at most so many.
func between(name string, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return cli.Usagef("requires %s", name)
		case len(args) > most:
			return cli.Usagef("unknown argument %q: want at most %d", args[most], most)
		}
		return noKeys(args)
	}
}

// answeringAs adapts a cobra RunE of a command whose exit status is an answer.
func (a *app) answeringAs(do func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error { return a.answering(do(c, args)) }
}

// some demands at least one argument of a name.
func some(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cli.Usagef("requires %s", name)
		}
		return noKeys(args)
	}
}

// noKeys refuses API keys in the place of names, which stand in messages, in records and in the policy.
func noKeys(args []string) error {
	if slices.ContainsFunc(args, wire.LooksLikeKey) {
		return errKeyTyped
	}
	return nil
}

// errKeyTyped refuses a key on a command line, without repeating it: command lines are seen by others, and
// stay in histories.
var errKeyTyped = cli.Usagef("invalid argument: that is a key, and others may have seen it now: revoke it by its id, the 8 characters after %s", access.KeyPrefix)

// A hinted is an error with what helps.
type hinted struct {
	error
	hint string
}

func (e *hinted) Hint() string  { return e.hint }
func (e *hinted) Unwrap() error { return e.error }

func refusedWith(err error, hint string) error {
	return &hinted{err, hint}
}
