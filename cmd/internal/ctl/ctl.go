// Package ctl is the command line of py3runctl.
package ctl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // for --tz on hosts without it

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
)

// Exit codes are those of package cli, and one more of commands whose exitFailed is an answer: that some
// alerts fired, that two scripts differ, that something is not allowed.
const (
	exitFailed = cli.ExitFailed
	exitUsage  = cli.ExitUsage
	exitUnable = 3
)

const program = "py3runctl"

// An app is one invocation.
type app struct {
	out, err                     io.Writer
	outIsTerminal, errIsTerminal bool
	environ                      []string
	configFile, dir, zone        string
}

// Main runs the command line and returns the exit code.
func Main(args []string) int {
	// A reader that went away is an error of write(2). The signal is not ignored: a program that
	// this one starts would ignore it, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	a := &app{out: cli.Stdout(), err: os.Stderr, environ: os.Environ(), outIsTerminal: cli.IsTerminal(os.Stdout), errIsTerminal: cli.IsTerminal(os.Stderr)}
	return a.main(args)
}

func (a *app) main(args []string) int {
	root := a.root()
	root.SetArgs(args)
	return a.messages().Exit(root, args, root.Execute(), hint)
}

// messages writes them as one piece each. Parts of them can come from a damaged file.
func (a *app) messages() cli.Messages {
	return cli.Messages{Program: program, Say: func(line []byte) { io.WriteString(a.err, harmless(string(line))) }}
}

// tell prints an error, and what helps.
func (a *app) tell(err error) {
	a.messages().Errorf("%v", err)
	if h := hint(err); h != "" {
		a.messages().Hintf("%s", h)
	}
}

// answering makes a failure to answer another exit code than the answer no.
func (a *app) answering(err error) error {
	if err == nil || errors.As(err, new(cli.ExitCode)) || cli.IsUsage(err) || errors.Is(err, syscall.EPIPE) {
		return err
	}
	a.tell(err)
	return cli.ExitCode(exitUnable)
}

// hint is what helps with an error; empty: nothing is known.
func hint(err error) string {
	var conf *config.Error
	var guard *audit.GuardError
	var log *audit.StepError
	var place *audit.PositionError
	var owner *ownerError
	var unknown *unknownRun
	var code *codeError
	var open *uncovered
	var refused refusal
	var stranger *unknownUserError
	var script interface{ Hint() string }
	switch {
	case errors.As(err, &script):
		return script.Hint()
	case errors.As(err, &refused):
		return refused.Hint
	case errors.As(err, &stranger) && stranger.near != "":
		return fmt.Sprintf("did you mean %q?", stranger.near)
	case errors.As(err, &stranger):
		return "py3runctl user list shows the users, and py3runctl user add adds one"
	case errors.As(err, &conf):
		return conf.Hint
	case errors.As(err, &owner):
		return fmt.Sprintf("only the owner of the log can write to it: sudo -u '#%d' py3runctl ...", owner.owner)
	case errors.As(err, &unknown):
		return "py3runctl ps lists the runs that are alive; --dir names another log"
	case errors.As(err, &code):
		return code.hint
	case errors.As(err, &open):
		return fmt.Sprintf("sign what the log is now, and ask again: py3runctl audit checkpoint --key KEY --out %s", open.dir)
	case errors.As(err, &log) && errors.Is(err, os.ErrPermission):
		return "the permissions of the log decide who may read it; ask its owner, or use the owner's account"
	case errors.As(err, &log) && errors.Is(err, os.ErrNotExist):
		return "name the log's directory with --dir"
	case errors.As(err, &guard) && guard.Holds:
		return "py3runctl audit hold list shows them, and py3runctl audit hold repair leaves all of them in force"
	case errors.As(err, &guard) && guard.Force:
		return "if that is what you want, use --force"
	case errors.As(err, &place):
		return "see py3runctl audit verify; without the file of the cursor, the next call begins with the oldest record"
	case errors.Is(err, errNoProgram):
		return "put both programs into one directory"
	case errors.Is(err, errNoTemplate):
		return "py3runctl warm status lists the templates"
	case errors.Is(err, store.ErrVersion), errors.Is(err, store.ErrDamaged):
		return "py3runctl index --rebuild"
	}
	return ""
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           program,
		Short:         "Look after py3run: the audit log, runs past and alive, alerts, metrics, users, groups, keys, scripts and templates",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		},
	}
	root.PersistentPreRun = a.goOnBefore
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.configFile, "config", "", "read this `file` instead of the user's and the system's configuration")
	root.PersistentFlags().StringVar(&a.dir, "dir", "", "the log's `directory`, instead of the configured one")
	root.PersistentFlags().StringVar(&a.zone, "tz", "", "the time `zone` for days, tables, and times without a zone: local, UTC or a name\nsuch as Europe/Berlin (default: local; JSON and CSV are in UTC)")
	root.PersistentFlags().StringVar(&a.zone, "zone", "", "as --tz, its earlier name")
	root.PersistentFlags().MarkHidden("zone")
	root.AddCommand(a.audit(), a.index(), a.history(), a.ps(), a.cancel(), a.stats(), a.alerts(), a.metrics(), a.user(), a.group(), a.key(), a.limits(), a.access(), a.backup(), a.restore(), a.warm(), cli.NewVersion(program, nil))
	root.AddCommand(a.script(), a.serve(), a.report())
	completeFormats(root)
	complete(root, "tz", "local", "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "Asia/Tokyo")
	cli.AddHelp(root)
	helpOfTopics(root)
	cli.Suggest(root)
	return root
}

// logContext is where the commands work.
func (a *app) logContext() (logContext, error) {
	zone, err := loadZone(a.zone)
	if err != nil {
		return logContext{}, err
	}
	loaded, err := config.Load(config.Sources{Environ: a.environ, File: a.configFile, Flags: map[string]string{}})
	if err != nil {
		return logContext{}, err
	}
	for _, w := range loaded.Warnings {
		a.messages().Warnf("%s", w)
	}
	dir := a.dir
	if dir == "" {
		if dir, err = loaded.Config.AuditDir(a.environ); err != nil {
			return logContext{}, err
		}
	}
	return logContext{dir: dir, config: loaded.Config, origins: loaded.Origins, environ: a.environ, zone: zone, out: a.out, err: a.err, outIsTerminal: a.outIsTerminal, errIsTerminal: a.errIsTerminal, width: widthOf(a.out)}, nil
}

// at adapts a function to a cobra RunE.
func (a *app) at(do func(logContext) error) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		d, err := a.logContext()
		if err != nil {
			return err
		}
		return do(d)
	}
}

func indexFlag(c *cobra.Command, to *string) {
	c.Flags().StringVar(to, "index", "", "the index `file` (default: "+indexName+" beside the log)")
}

func (a *app) index() *cobra.Command {
	var path string
	var rebuild bool
	c := &cobra.Command{
		Use: "index", Short: "Make the index of past runs, or bring it up to date", Args: cobra.NoArgs,
		Long: `The index is an SQLite file beside the log. With it, history and stats answer quickly. It holds
nothing that the log does not hold, so you can remove it at any time. If there is an index, history,
stats and metrics bring it up to date themselves. If there is none, they read the log.`,
		RunE: a.at(func(d logContext) error {
			return d.update(d.indexPath(path), rebuild, true)
		}),
	}
	indexFlag(c, &path)
	c.Flags().BoolVar(&rebuild, "rebuild", false, "make the index from the beginning")
	return c
}

func (q *question) flags(c *cobra.Command, a *app) {
	q.identity(c, a)
	q.outcome(c)
	q.times(c)
	c.Flags().StringVar(&q.format, "format", "", "text, json (one object a line) or csv (default: text on a terminal, else json)")
	indexFlag(c, &q.index)
}

// oneOf checks a flag that can also be left out.
func oneOf(flag, given string, allowed ...string) error {
	if given == "" {
		return nil
	}
	return cli.OneOf(flag, given, allowed...)
}

func atLeast(what string, given, least int) error {
	if given < least {
		return cli.Usagef("invalid argument %d for --%s: want %d or more", given, what, least)
	}
	return nil
}

func (a *app) history() *cobra.Command {
	q := question{}
	c := &cobra.Command{
		Use: "history [RUN_ID]", Short: "Show past runs, newest first", Args: cobra.MaximumNArgs(1),
		Long: `With RUN_ID, show that run; as text, with all its fields. The last 8 characters of the id, or more, are enough if no other run
has them. The first 8 also count, but runs of one minute share them.`,
		Example: "  py3runctl history --user alice --since 7d\n  py3runctl history --label job=7 --script tank-balance --since yesterday --failed\n  py3runctl history --status timeout --format csv --limit 0",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := errors.Join(oneOf("format", q.format, "text", "json", "csv"), atLeast("limit", q.limit, 0)); err != nil {
				return err
			}
			d, err := a.sightedContext()
			if err != nil {
				return err
			}
			if len(args) > 0 {
				q.run = args[0]
			}
			return d.history(q, time.Now())
		},
	}
	q.flags(c, a)
	c.Flags().IntVar(&q.limit, "limit", 50, "show at most so many; 0: all")
	return c
}

func (a *app) stats() *cobra.Command {
	q, by := question{}, ""
	c := &cobra.Command{
		Use: "stats", Short: "Show what past runs have used", Args: cobra.NoArgs,
		Long: `Prints, for each group of runs that have ended: how many, failures, percentiles of the duration
(exact to within 3 %), processor time and peak memory. Days, and the times of --since and --until,
are in the zone of --tz. A user whom callers only named (asserted) is a
group apart from the user who has proved to be that one.`,
		Example: "  py3runctl stats --by user --since 30d\n  py3runctl stats --by day --script tank-balance --format csv",
		RunE: a.seeing(func(d logContext) error {
			if err := errors.Join(oneOf("by", by, "user", "script", "status", "day", "all"), oneOf("format", q.format, "text", "json", "csv")); err != nil {
				return err
			}
			return d.stats(q, store.By(by), time.Now())
		}),
	}
	q.flags(c, a)
	c.Flags().StringVar(&by, "by", "user", "group runs by: user, script, status, day or all")
	complete(c, "by", "user", "script", "status", "day", "all")
	return c
}

func (a *app) alerts() *cobra.Command {
	var f filter
	var state, format string
	var everything, list bool
	c := &cobra.Command{
		Use: "alerts", Short: "Report what is unusual in the log since the last call", Args: cobra.NoArgs,
		Long: `Looks at the records since the last call, by the rules in the section alerts of the configuration
(py3run config init prints them): repeated refusals, several runs in a row that end at a limit, a
user's first import of a flagged module, connections to new hosts, runs in quiet hours, and changes
to the log. With alerts.tampering it also reports records that were removed sooner than the
operator's configuration allows, and acknowledgements.

Each alert is printed, becomes a record of the log, and goes to alerts.command and alerts.webhook.
An alert that cannot be delivered waits for the next call.

The first call only learns what is usual. Call it from a timer.

Exit status: 0 nothing new; 1 alerts; 3 the log could not be read, or an alert could not be
delivered.`,
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			context := a.actingContext
			if list {
				context = a.sightedContext
			}
			d, err := context()
			if err == nil && !list { // what they tell, and what they have told, is about the runs of all
				err = d.may(access.ToSeeHistory, allRuns)
			}
			fired := 0
			if err == nil && !list {
				if err := recordRefusals(d.dir, access.NewLimits(config.StateDir(a.environ)), nil); err != nil { // the rules count them
					d.warnf("%v", err)
				}
			}
			switch {
			case err != nil:
			case list:
				err = d.listAlerts(f, format, time.Now())
			default:
				fired, err = d.alerts(state, format, everything)
			}
			if err != nil {
				a.tell(err)
				return cli.ExitCode(exitUnable)
			}
			if fired > 0 {
				return cli.ExitCode(exitFailed)
			}
			return nil
		},
	}
	c.Flags().StringVar(&state, "state", "", "`file` that keeps what was seen so far (default: "+alertsName+" beside the log)")
	c.Flags().StringVar(&format, "format", "", "text or json (default: text on a terminal, else json)")
	c.Flags().BoolVar(&list, "list", false, "only print the alerts in the log, with their acknowledgements (py3runctl audit acknowledge)")
	c.Flags().StringVar(&f.user, "user", "", "with --list: only alerts about this user")
	c.Flags().StringVar(&f.script, "script", "", "with --list: only alerts about this script")
	completeBy(c, "user", a.completeUsers)
	completeBy(c, "script", a.completeOne)
	f.times(c)
	for _, name := range []string{"since", "until"} {
		c.Flags().Lookup(name).Usage = "with --list: " + c.Flags().Lookup(name).Usage
	}
	c.Flags().BoolVar(&everything, "everything", false, "on the first call: report what is in the log already, instead of learning from it")
	return c
}

func (a *app) metrics() *cobra.Command {
	var index, file, format string
	c := &cobra.Command{
		Use: "metrics", Short: "Write metrics for Prometheus", Args: cobra.NoArgs,
		Long: `Prints OpenMetrics text. With --out it writes a file for the textfile collector of the Prometheus
node exporter, and replaces the file as a whole. When the index is rebuilt or the log is pruned,
counters start again, as those of a restarted program do.`,
		Example: "  py3runctl metrics --out /var/lib/node_exporter/textfile/py3run.prom",
		RunE: a.at(func(d logContext) error {
			if err := oneOf("format", format, "prometheus", "openmetrics"); err != nil {
				return err
			}
			return d.metrics(index, file, format == "openmetrics" || format == "" && file == "", time.Now())
		}),
	}
	indexFlag(c, &index)
	c.Flags().StringVar(&file, "out", "", "`file` to write")
	c.Flags().StringVar(&format, "format", "", "prometheus or openmetrics (default: prometheus with --out, else openmetrics)")
	return c
}
