// Package cmd is the command line of py3run: flags, streams, rendering and exit codes. It decides nothing
// about a run; package launch does.
package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
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
	if argv0, args, is := asInterpreter(os.Args); is { // first: nothing of this process may be changed if it only becomes the interpreter
		return dropIn(argv0, args)
	}
	// If a reader goes away, write(2) returns an error. SIGPIPE would kill the launcher during a run.
	signal.Ignore(syscall.SIGPIPE)
	mask := syscall.Umask(0o022) // with the caller's, we might be unable to use the directories that we make
	app := &app{umask: &mask,
		began: time.Now(), in: os.Stdin, out: cli.Stdout(), err: os.Stderr, environ: os.Environ(), flags: map[string]string{}, typed: map[string]string{},
		inIsTerminal: cli.IsTerminal(os.Stdin), outIsTerminal: cli.IsTerminal(os.Stdout), errIsTerminal: cli.IsTerminal(os.Stderr),
		oneStream: func() bool { return oneStream(os.Stdout, os.Stderr) },
	}
	if filepath.Base(os.Args[0]) == bridgeLink {
		return app.main([]string{"bridge"})
	}
	return app.main(os.Args[1:])
}

// An app is one invocation: its streams, and what the flags of all commands have set.
type app struct {
	began    time.Time
	in       *os.File
	out, err io.Writer
	environ  []string
	umask    *int           // the caller's, for the code
	signals  chan os.Signal // a signal from it ends the run; nil before listen

	inIsTerminal, outIsTerminal, errIsTerminal bool
	oneStream                                  func() bool // whether out and err are one file

	stream    bool          // of exec: print events
	heartbeat time.Duration // of exec: between two heartbeats
	events    *eventStream  // nil: there is none, or nothing has begun

	resultPath string      // of exec and run: where the result line goes; empty: nowhere else
	result     *resultFile // of that path, once it is open

	key keySource // of the API key

	patience time.Duration // of exec, run and bridge: how long a run waits for its turn

	configFile string
	flags      map[string]string // configuration key -> value
	typed      map[string]string // configuration key -> the flag that was typed
}

// sources returns where the configuration of this invocation comes from.
func (app *app) sources() config.Sources {
	return config.Sources{Environ: app.environ, File: app.configFile, Flags: app.flags, Typed: app.typed}
}

// exitCode is an error that only carries an exit code: the messages are printed already.
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
		if err := topicWithArguments(root, args); err != nil {
			return err
		}
		return root.Execute()
	}()
	if err != nil && cli.IsUsage(err) && app.isExec(args) { // a program reads the answer: it gets a result line
		result := refused("", wire.StatusBadRequest, &wire.BadRequest{Message: "command line: " + err.Error(), Hint: cli.Hint(root, args, err)}, app.began)
		line, _ := result.Encode()
		if slices.Contains(args, "--stream") { // the mistake may stand before it
			line = wire.ResultEvent(line, time.Now())
		}
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

// isExec reports whether the arguments mean exec: named, or left out with something on standard input.
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
		Short: "Run Python under limits, isolated, with a record of each run",
		Long: `py3run runs Python code in a sandbox of its own: with limits on memory, processor time, processes, disk and output, in
namespaces of its own, and with two records in an audit log for each run. Nothing of Python is forbidden. It is no jail
for hostile code: see py3run help isolation.

With a JSON request on standard input it prints one JSON result line (see py3run exec). People use py3run run.`,
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
	// Not cobra's own flag: its text can only be changed with a template, and package text/template adds
	// 150 kB to the binary.
	root.Flags().BoolVarP(&showVersion, "version", "v", false, "version for py3run")
	cli.Suggest(root)
	withDefaults(app, root)
	root.SetOut(app.out)
	root.SetErr(app.err)
	root.CompletionOptions.HiddenDefaultCmd = false
	root.PersistentFlags().StringVar(&app.configFile, "config", "", "read this `file` instead of the user's and the system's configuration")
	app.setFlag(root)
	// Making a command takes time at each start, so the commands that run code do not make the others.
	switch {
	case len(args) == 0 && !app.inIsTerminal:
	case len(args) > 0 && args[0] == "exec":
		root.AddCommand(newExec(app))
	case len(args) > 0 && args[0] == "run":
		root.AddCommand(newRun(app))
	case len(args) > 0 && args[0] == "bridge":
		root.AddCommand(newBridge(app))
	default:
		root.AddCommand(newExec(app), newRun(app), newPython(), newBridge(app), newShim(app), newCheck(app), newExplain(app), newDoctor(app), newConfig(app), newSchema(app), cli.NewVersion("py3run", map[string]any{"protocol": wire.Protocol}))
		root.AddCommand(newMan(app))
		root.AddCommand(newHelpTopics(app, root, args)...)
		listTopics(root)
		root.AddCommand(newWarm(app)...)
		cli.AddHelp(root)
		root.SetHelpCommand(newHelp(app))
	}
	root.CompletionOptions.DisableDefaultCmd = len(root.Commands()) < 2
	return root
}

// unknownCommand returns the error for an argument that is no command: it may be a script or mistyped.
func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := &cli.UsageError{Text: fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())}
	if looksLikeScript(args[0]) {
		e.Hint = "did you mean py3run run " + args[0] + "?"
	} else if c.SuggestionsMinimumDistance = 2; len(c.SuggestionsFor(args[0])) > 0 {
		e.Hint = "did you mean py3run " + c.SuggestionsFor(args[0])[0] + "?"
	}
	return e
}

func looksLikeScript(arg string) bool {
	info, err := os.Stat(arg)
	return err == nil && info.Mode().IsRegular() || strings.HasSuffix(arg, ".py")
}

// withDefaults adds the defaults of keys to the help of their flags, only when help is printed.
func withDefaults(app *app, root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		showDefaults(c)
		c.Long = app.wrap(c.Long)
		help(c, args)
	})
}

func showDefaults(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if k, ok := f.Value.(*keyFlag); ok && f.DefValue == "" && !(c.Name() == "run" && f.Name == "output-mb") { // it has no default there
			f.DefValue = config.DefaultText(k.key)
		}
	})
}
