// Package cmd is the command line of py3run: flags, streams, rendering, exit codes. What a run is stands in
// cmd/internal/launch; nothing here decides anything about it.
package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	_ "py3run/cmd/internal/startup"
	"py3run/cmd/internal/wire"
)

// Terminal manners, for all commands:
//
//	stdout   the result, or the program's own output; nothing else, and the same bytes on a terminal and in a pipe
//	stderr   `py3run: error: STEP OBJECT: CAUSE`, `py3run: warning: …`, `py3run: hint: …`; lower case, no full stop
//
// No command asks questions. Nothing is coloured.

// Main runs the command line and returns the exit code.
func Main() int {
	// A reader that went away is an error of write(2) here, not the death of the launcher in the middle of a run.
	signal.Ignore(syscall.SIGPIPE)
	mask := syscall.Umask(0o022) // a caller's could close to their owner the directories that all runs share
	app := &app{umask: &mask,
		began: time.Now(), in: os.Stdin, out: cli.Stdout(), err: os.Stderr, environ: os.Environ(), flags: map[string]string{}, typed: map[string]string{},
		inIsTerminal: cli.IsTerminal(os.Stdin), errIsTerminal: cli.IsTerminal(os.Stderr),
		oneStream: func() bool { return oneStream(os.Stdout, os.Stderr) },
	}
	return app.main(os.Args[1:])
}

// An app is one invocation: where it reads and writes, and what the flags of all commands have set.
type app struct {
	began    time.Time
	in       *os.File
	out, err io.Writer
	environ  []string
	umask    *int           // the caller's, for the code
	signals  chan os.Signal // that ask for the end of the run; nil before listen

	inIsTerminal, errIsTerminal bool
	oneStream                   func() bool // whether out and err are one file

	configFile string
	flags      map[string]string // configuration key -> value
	typed      map[string]string // configuration key -> the flag that was typed
}

// sources is where the configuration of this invocation comes from.
func (app *app) sources() config.Sources {
	return config.Sources{Environ: app.environ, File: app.configFile, Flags: app.flags, Typed: app.typed}
}

// exitCode is an error that only carries a code: everything has been said.
type exitCode = cli.ExitCode

func usagef(format string, args ...any) error { return cli.Usagef(format, args...) }

func (app *app) messages() cli.Messages            { return cli.Messages{Program: "py3run", Say: app.say} }
func (app *app) errorf(format string, args ...any) { app.messages().Errorf(format, args...) }
func (app *app) hintf(format string, args ...any)  { app.messages().Hintf(format, args...) }
func (app *app) warnf(format string, args ...any)  { app.messages().Warnf(format, args...) }

// main is the one place where an error becomes an exit code.
func (app *app) main(args []string) (code int) {
	root := app.root(args)
	root.SetArgs(args)
	err := func() (err error) {
		defer app.catch(&err)
		return root.Execute()
	}()
	if err != nil && cli.IsUsage(err) && app.isExec(args) { // a machine is reading: it gets its line
		result := refused("", wire.StatusBadRequest, &wire.BadRequest{Message: "command line: " + err.Error(), Hint: cli.Hint(root, args, err)}, app.began)
		line, _ := result.Encode()
		app.out.Write(line)
		app.errorf("%v", err)
		return result.ExitStatus()
	}
	return app.messages().Exit(root, args, err, func(err error) string {
		if conf, ok := errors.AsType[*config.Error](err); ok {
			return conf.Hint
		}
		return ""
	})
}

// isExec tells whether the arguments mean exec: said, or left out with something on standard input.
func (app *app) isExec(args []string) bool {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			return a == "exec"
		}
	}
	return !app.inIsTerminal
}

func (app *app) root(args []string) *cobra.Command {
	var showVersion bool
	root := &cobra.Command{
		Use:   "py3run",
		Short: "Run Python under limits, isolated, with a complete record",
		Long: `py3run runs Python code in a sandbox of its own: limits on memory, processor time, processes, disk and output, its own
namespaces, and two records in an audit log for each run. Nothing of Python is forbidden.

With a JSON request on standard input it prints one JSON result line (see py3run exec). For people there is py3run run.`,
		Example: `  echo '{"code": "result = 6 * 7"}' | py3run
  py3run run job.py input.csv
  py3run check job.py`,
		SilenceUsage: true, SilenceErrors: true,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error {
			if showVersion {
				fmt.Fprintln(app.out, cli.Version("py3run"))
				return nil
			}
			if app.inIsTerminal {
				c.Help()
				return exitCode(2)
			}
			return app.exec(true)
		},
	}
	// Not cobra's own flag, whose text would come out otherwise only with a template, and that takes 150 kB of the binary.
	root.Flags().BoolVarP(&showVersion, "version", "v", false, "version for py3run")
	cli.Suggest(root)
	withDefaults(root)
	root.SetOut(app.out)
	root.SetErr(app.err)
	root.CompletionOptions.HiddenDefaultCmd = false
	root.PersistentFlags().StringVar(&app.configFile, "config", "", "read this `file` instead of the user's and the system's configuration")
	app.setFlag(root)
	// What runs something needs nothing of the other commands, and all of them take a part of the time of a start.
	switch {
	case len(args) == 0 && !app.inIsTerminal:
	case len(args) > 0 && args[0] == "exec":
		root.AddCommand(newExec(app))
	case len(args) > 0 && args[0] == "run":
		root.AddCommand(newRun(app))
	default:
		root.AddCommand(newExec(app), newRun(app), newCheck(app), newExplain(app), newDoctor(app), newConfig(app), newSchema(app), cli.NewVersion("py3run", map[string]any{"protocol": wire.Protocol}))
		root.AddCommand(newMan(app))
		root.AddCommand(newHelpTopics()...)
		root.AddCommand(newWarm(app)...)
		cli.AddHelp(root)
	}
	root.CompletionOptions.DisableDefaultCmd = len(root.Commands()) < 2
	return root
}

// unknownCommand is the mistake that what follows py3run is no command of it: a script, perhaps, or a slip.
func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := &cli.UsageError{Text: fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())}
	info, err := os.Stat(args[0])
	if isFile := err == nil && info.Mode().IsRegular(); isFile || strings.HasSuffix(args[0], ".py") {
		e.Hint = "did you mean py3run run " + args[0] + "?"
	} else if c.SuggestionsMinimumDistance = 2; len(c.SuggestionsFor(args[0])) > 0 {
		e.Hint = "did you mean py3run " + c.SuggestionsFor(args[0])[0] + "?"
	}
	return e
}

// withDefaults has the help of flags that are short for a key name its default. It is not made at every start.
func withDefaults(root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		showDefaults(c)
		help(c, args)
	})
}

func showDefaults(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if k, ok := f.Value.(*keyFlag); ok && f.DefValue == "" && !(c.Name() == "run" && f.Name == "output-mb") { // which has none there
			f.DefValue = config.DefaultText(k.key)
		}
	})
}
