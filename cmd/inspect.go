package cmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/wire"
)

func newSchema(app *app) *cobra.Command {
	return &cobra.Command{
		Use: "schema request|result|stream|audit|config", Short: "Print the JSON Schema of a request, a result, a stream of events, an audit record or the configuration",
		Example:   "  py3run schema result > result.schema.json\n  py3run schema request | jq .properties.limits",
		ValidArgs: []string{"request", "result", "stream", "audit", "config"},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("schema: want request, result, stream, audit or config")
			}
			text, ok := wire.Schema(args[0])
			if args[0] == "config" {
				text, ok = config.Schema(), true
			}
			if !ok {
				return usagef("schema %q: want request, result, stream, audit or config", args[0])
			}
			_, err := app.out.Write(text)
			return err
		},
	}
}

func newConfig(app *app) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show, check or begin a configuration", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return usagef("config: want show, check or init") }}
	var origin bool
	show := &cobra.Command{
		Use: "show", Short: "Print the configuration in force here", Args: cobra.NoArgs,
		Example: "  py3run config show --origin\n  py3run config show --set security.max-memory-mb=256",
		RunE: func(*cobra.Command, []string) error {
			loaded, err := config.Load(app.sources())
			if err != nil {
				return err
			}
			for _, w := range loaded.Warnings {
				app.warnf("%s", w)
			}
			_, err = app.out.Write(config.Show(loaded, origin))
			return err
		},
	}
	show.Flags().BoolVar(&origin, "origin", false, "say where each value comes from")
	check := &cobra.Command{
		Use: "check [FILE]", Short: "List everything wrong with a configuration file", Args: cobra.MaximumNArgs(1),
		Example: "  py3run config check\n  py3run config check /etc/py3run/config.toml",
		RunE:    func(_ *cobra.Command, args []string) error { return app.checkConfig(args) },
	}
	start := &cobra.Command{
		Use: "init", Short: "Print a configuration file with every key at its default", Args: cobra.NoArgs,
		Example: "  mkdir -p ~/.config/py3run && py3run config init > ~/.config/py3run/config.toml",
		RunE: func(*cobra.Command, []string) error {
			_, err := app.out.Write(config.Init())
			return err
		},
	}
	c.AddCommand(show, check, start)
	return c
}

// checkConfig checks the named file, or everything that a run here would read: files, environment,
// flags and policy. It also checks whether a run could start with that configuration.
func (app *app) checkConfig(files []string) error {
	code := exitCode(0)
	tell := func(problem, hint string) {
		code = 1
		fmt.Fprintln(app.out, problem)
		if hint != "" {
			fmt.Fprintln(app.out, "  hint: "+hint)
		}
	}
	check := func(file string) {
		for _, finding := range config.Check(file) {
			tell(finding.Error(), finding.Hint)
		}
	}
	sources := app.sources()
	var policy *access.Policy
	if len(files) > 0 {
		if access.LooksLikePolicy(files[0]) {
			tell(files[0]+": a policy, and no configuration", "py3runctl access policy "+files[0]+" says what is wrong with it")
			return code
		}
		check(files[0])
		sources = config.Sources{File: files[0]}
	}
	if code != 0 {
		return code
	}
	loaded, err := config.Load(sources)
	if e, ok := errors.AsType[*config.Error](err); ok { // Load stops at the first error; list all errors of that file
		if file, _, ok := strings.Cut(e.Where, ":"); ok {
			check(file)
		}
	}
	switch {
	case code != 0:
		return code
	case err != nil:
		return err
	case len(files) == 0:
		files = loaded.Files
		for _, w := range loaded.Warnings {
			app.warnf("%s", w)
		}
		for _, f := range files {
			check(f)
		}
		var findings []config.Finding
		policy, findings = checkPolicy(app.environ)
		for _, f := range findings {
			tell(f.Error(), f.Hint)
		}
	}
	if f := launch.Refused(app.job(wire.Request{Command: wire.CommandExecute}, nil, loaded)); f != nil {
		tell(f.Message, f.Hint)
	}
	if code != 0 {
		return code
	}
	if len(files) == 0 {
		fmt.Fprintln(app.out, "no configuration file here: the defaults are in force")
	}
	for _, f := range files {
		fmt.Fprintln(app.out, f+": ok")
	}
	if readers := policy.Readers(); readers != "" {
		fmt.Fprintln(app.out, policy.Path+": ok: "+readers)
	}
	return nil
}

// checkPolicy returns the policy that holds here, or what keeps it from being used, and so every run from
// starting.
func checkPolicy(environ []string) (*access.Policy, []config.Finding) {
	policy, err := access.Load(access.Places(environ), nil)
	if wrong, ok := errors.AsType[*access.PolicyError](err); ok {
		return nil, wrong.Findings
	}
	return policy, nil
}
