package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/wire"
	"py3run/internal/sigaction"
)

func newRun(app *app) *cobra.Command {
	var o runOptions
	var labels []string
	c := &cobra.Command{
		Use:   "run [flags] FILE|- [ARG...]",
		Short: "Run a script for people and shells: live output, Python's exit code",
		Long: `Runs a Python script, lets its output go straight through, and ends with its exit code. The current directory stays the
caller's; TMPDIR is a directory of the run, which is removed at its end. Options of py3run stand before FILE; what
follows FILE is the script's. At a terminal, the run has a terminal of its own (see "A terminal" in py3run help callers).
When py3run itself ends the run, for example at a limit, at most four lines on standard error say why. Exit codes from
121 on are py3run's: see py3run help exit-codes.`,
		Example: `  py3run run --timeout-seconds 60 report.py january.csv
  cat job.py | py3run run - --verbose
  py3run run -c 'import sys; print(sys.version)'
  py3run run --script tank-balance@3 --api-key-file key.txt 17
  py3run run --script tank/daily --variables '{"tank_id": 17}'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			named, err := wire.ParseLabels(labels)
			if err != nil {
				return usagef("--label: %v", err)
			}
			if o.tty && o.noTTY {
				return usagef("--tty and --no-tty exclude each other")
			}
			if c.Flags().Changed("result-file") && app.resultPath == "" { // a variable that is not set
				return usagef("--result-file: want the name of a file")
			}
			if c.Flags().Changed("script") && (o.script == "" || c.Flags().Changed("code")) {
				return usagef("--script: want the name of a stored script, and no --code")
			}
			if c.Flags().Changed("variables") && o.script == "" {
				return usagef("--variables: want --script with it")
			}
			o.args, o.isCode, o.labels = args, c.Flags().Changed("code"), named
			return app.run(o)
		},
	}
	c.Flags().SetInterspersed(false)
	c.Flags().StringVarP(&o.code, "code", "c", "", "run this `text` instead of a file")
	c.Flags().StringVar(&o.script, "script", "", "run this stored `script`, NAME or NAME@VERSION, instead of a file")
	c.RegisterFlagCompletionFunc("script", app.completeScripts)
	c.Flags().StringVar(&o.variables, "variables", "", "variables for the stored script: an `object` of JSON, or - for standard input, which the script does not get then")
	c.Flags().StringVar(&o.user, "user", "", "record this `name` as the user, as the caller asserts it")
	c.Flags().StringArrayVar(&labels, "label", nil, "copy this label, `name=value`, to the record; can be given several times")
	c.Flags().BoolVarP(&o.tty, "tty", "t", false, "give the run a terminal of its own, even if input or output is none")
	c.Flags().BoolVar(&o.noTTY, "no-tty", false, "give the run no terminal; its output is a pipe")
	c.Flags().StringVar(&app.resultPath, "result-file", "", "write the result of the run as JSON to this `file`")
	app.runFlags(c)
	app.waitFlag(c)
	app.keyFlags(c)
	return c
}

// runOptions are the arguments and flags of run, except those that are configuration.
type runOptions struct {
	args       []string
	code, user string
	script     string // the stored script that is run; empty: none
	variables  string // for that script: an object of JSON, or - for standard input; empty: none
	isCode     bool   // the code is in code, not in a file
	labels     *wire.Object
	tty, noTTY bool
}

// misplacedKey refuses an API key in the place of a name: the name stands in messages and records.
func (o runOptions) misplacedKey() error {
	file := ""
	if !o.isCode && o.script == "" && len(o.args) > 0 {
		file = o.args[0]
	}
	return cmp.Or(wire.MisplacedKey("--script", o.script), wire.MisplacedKey("--user", o.user), wire.MisplacedKey("FILE", file))
}

func (app *app) run(o runOptions) error {
	if err := app.openResult(); err != nil {
		bad := badResultFile(err)
		app.errorf("%s", bad.Message)
		app.hintf("%s", bad.Hint)
		return exitCode(2)
	}
	if err := o.misplacedKey(); err != nil {
		return app.tell(refused("", wire.StatusBadRequest, err, app.began))
	}
	request, live, source, err := app.script(o)
	if err != nil {
		return err
	}
	request.User, request.Labels = o.user, o.labels
	// The file may have been opened twice, with a position each: then our messages would overwrite the
	// program's output. One descriptor puts them behind it.
	if live.OneStream {
		app.err = app.out
	}
	loaded, err := config.Load(app.sources())
	if err != nil {
		return app.tell(refused("", wire.StatusConfigError, err, app.began))
	}
	if o.variables != "" {
		if request.Variables, err = app.variables(o.variables, loaded.Config.Input.MaxRequestMB); err != nil {
			return app.tell(refused("", wire.StatusBadRequest, err, app.began))
		}
		if o.variables == "-" {
			live.Stdin = nil
		}
	}
	if err := app.withKey(&request, patienceOf(loaded.Config.Input)); err != nil {
		return app.tell(refused("", wire.StatusConfigError, err, app.began))
	}
	loaded.OnlyIfSet("security.max-output-size-mb") // run passes output on, so it needs no limit by default
	app.listen()                                    // not earlier: a signal must end a read from a pipe that never ends
	job := app.job(request, nil, loaded)
	job.Live, job.Source = live, source
	if wantsTerminal(o, app.inIsTerminal && controls(app.in), app.outIsTerminal, live.Stdin == nil) {
		console, err := app.newConsole(live.Stdin)
		switch {
		case err == nil:
			defer console.pty.Close()
			live.Terminal, live.Attach = console.pty, console.attach
		case o.tty:
			return app.tell(refused("", wire.StatusLaunchFailed, err, app.began))
		default: // without one, as it would be with --no-tty
			app.warnf("the run has no terminal of its own: %v", err)
		}
	}
	answer := launch.Run(job)
	for _, w := range loaded.Warnings { // not earlier: a caller that merges the streams expects the program's line first
		app.warnf("%s", w)
	}
	ended := app.tell(answer.Result, asked(loaded.Config.Security)...)
	app.sweep(answer, ended)
	if live.Terminal != nil && interrupted(answer.Result) && !signal.Ignored(syscall.SIGINT) {
		sigaction.Raise(syscall.SIGINT) // as Python does after a KeyboardInterrupt: then a shell ends its loop, too
	}
	return ended
}

// interrupted reports whether a user's Ctrl-C has ended the program.
func interrupted(r wire.Result) bool {
	if r.Status == wire.StatusError {
		return r.Failure.Type == "KeyboardInterrupt"
	}
	return r.Status == wire.StatusSignal && r.SignalNumber == int(syscall.SIGINT)
}

// script returns what the arguments of run mean: the code, from a file, from standard input, given
// directly or stored, and the arguments of the program.
func (app *app) script(o runOptions) (request wire.Request, live *launch.Live, source []byte, err error) {
	args := o.args
	live = &launch.Live{Stdin: app.in, Stdout: app.out, Stderr: app.err, Argv0: "-c", OneStream: app.oneStream()}
	request = wire.Request{Command: wire.CommandExecute, Filename: "<string>", ResultFormat: "plain", ResultFrom: "none", Argv: args}
	switch {
	case o.script != "": // launch reads it, once it is known who asks
		request.Script = o.script
		live.Argv0, _, _ = strings.Cut(o.script, "@")
		return request, live, nil, nil
	case o.isCode:
		source = []byte(o.code)
	case len(args) == 0:
		return request, nil, nil, usagef("run: no FILE given (- for standard input, -c for code, --script for a stored script)")
	default:
		live.Argv0, request.Filename, request.Argv = args[0], args[0], args[1:]
		text, path, err := readScript(args[0], app.in)
		if err != nil {
			app.errorf("%v", err)
			app.keep(refused("", wire.StatusBadRequest, err, app.began))
			return request, nil, nil, exitCode(2)
		}
		source, live.File = text, path
		if path == "" {
			request.Filename, live.Stdin = "<stdin>", nil
		}
	}
	return request, live, append([]byte{}, source...), nil
}

// readScript reads the script that an argument of `run` or `check` names; "-" is standard input. path is
// absolute, and empty for standard input.
func readScript(name string, in io.Reader) (text []byte, path string, err error) {
	if name == "-" {
		text, err = readCode(in)
		if err != nil {
			err = fmt.Errorf("read standard input: %w", cause(err))
		}
		return text, "", err
	}
	f, err := os.Open(name)
	if err == nil {
		defer f.Close()
		text, err = readCode(f)
	}
	if err == nil {
		path, err = filepath.Abs(name)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", name, cause(err))
	}
	return text, path, err
}

// codeMost is how long a script may be, in bytes.
const codeMost = 64 << 20

// readCode reads a script. The limit is for files without an end, such as a device. There is no limit on
// the time: a pipe, as in the shell's <(...), may deliver late.
func readCode(from io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, codeMost+1))
	if err == nil && len(text) > codeMost {
		return nil, fmt.Errorf("longer than %d MB", codeMost>>20)
	}
	return text, err
}

// asked returns the names of the protections that this configuration asks for beyond the default.
func asked(s config.Security) (names []string) {
	i := s.Isolation
	for _, m := range []struct {
		name  string
		asked bool
	}{
		{"network-namespace", i.Network == "none"}, {"loopback", i.Network == "none"},
		{"hidden-paths", len(i.Hide) > 0}, {"read-dirs", len(i.ReadDirs) > 0},
		{"write-dirs", len(i.WriteDirs) > 0}, {"write-dirs-truncation", len(i.WriteDirs) > 0},
		{"minimal-dev", i.Dev == "minimal"}, {"cpu-quota", s.MaxCPUs > 0},
		{"io-limit", s.MaxReadMBPerSecond > 0 || s.MaxWriteMBPerSecond > 0},
		{"io-limit-of-buffered-writes", s.MaxWriteMBPerSecond > 0},
		{"sub-ids", i.IDMap == "subids"},
		// Every user relies on these unless the configuration gives them up by name.
		{"pid-namespace", i.Method != "process"}, {"private-working-dir", i.Method != "process"},
	} {
		if m.asked {
			names = append(names, m.name)
		}
	}
	return names
}

// tell prints on standard error what Python has not printed itself, in at most four lines, and returns
// the exit code. Of the missing protections it names only those in asked; doctor lists what all runs on
// this host lack.
func (app *app) tell(r wire.Result, asked ...string) error {
	var lines []string
	add := func(kind, format string, args ...any) {
		lines = append(lines, "py3run: "+kind+": "+strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
	}
	switch r.Status {
	case wire.StatusOK, wire.StatusError, wire.StatusExit: // Python has printed its traceback and message
	default:
		add("error", "%s", string(r.Status)+": "+strings.TrimPrefix(r.Error, string(r.Status)+": "))
		if f := r.Failure; f != nil {
			if n := len(f.Where); n > 0 {
				at := f.Where[n-1]
				for _, w := range f.Where { // prefer the innermost frame of the main thread
					if w.Thread == 0 {
						at = w
					}
				}
				add("hint", "it was at %s, line %d, in %s", at.File, at.Line, at.Function)
			}
			if f.Hint != "" {
				add("hint", "%s", f.Hint)
			}
		}
	}
	if c := r.Captured; c != nil && (c.StdoutTruncated || c.StderrTruncated) && r.Status != wire.StatusOutputLimit {
		add("warning", "output was cut at the output limit, too")
	}
	if r.Isolation != nil {
		for _, m := range r.Isolation.Missing {
			if slices.Contains(asked, m.Name) {
				add("warning", "not enforced here: %s: %s", m.Name, m.Why)
			}
		}
	}
	code := r.ExitStatus()
	if !app.keep(r) {
		code = wire.Result{Status: wire.StatusInternal}.ExitStatus()
	}
	for _, w := range r.Warnings {
		switch w.Code {
		case "output_lost":
			add("error", "%s", w.Message)
			if code == 0 {
				code = wire.Result{Status: wire.StatusInternal}.ExitStatus()
			}
		case "audit_unavailable", "audit_incomplete", "cleanup_failed", "kill_incomplete", "files_discarded", "audit_off", "audit_group", "clamped_limit", "processes_ended", "process_limit", "limits_unusable", "limits_repaired":
			add("warning", "%s", w.Message)
		}
	}
	if len(lines) > 0 {
		// If nobody reads, the program's output may still block this write.
		giveUp := time.AfterFunc(2*sayPatience, func() { os.Exit(code) })
		defer giveUp.Stop()
		app.say([]byte(strings.Join(lines[:min(len(lines), 4)], "\n") + "\n"))
	}
	return exitCode(code)
}

// cause returns the errno of a path error: the message that wraps it names step and path already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
