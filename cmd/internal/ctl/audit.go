package ctl

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/store"
)

func (a *app) audit() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Read the records themselves", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		}}
	c.AddCommand(a.tail(), a.show(), a.verify(), a.export(), a.prune(), a.checkpoint(), a.keygen(), a.acknowledge(), a.hold(), a.proof())
	return c
}

func (a *app) tail() *cobra.Command {
	var f filter
	var follow bool
	var format string
	count := 10
	c := &cobra.Command{
		Use: "tail", Short: "Show the newest records, and with -f those that follow", Args: cobra.NoArgs,
		Long: "Prints a line for people on a terminal; else the exact lines of the log, which can be hashed.",
		RunE: a.seeing(func(d logContext) error {
			if err := errors.Join(oneOf("format", format, "text", "json"), atLeast("lines", count, 0)); err != nil {
				return err
			}
			s, err := f.selection(time.Now().In(d.local()))
			if err != nil {
				return err
			}
			ctx, stop := context.WithCancel(context.Background()) // a signal ends the process, as it ends any reader
			defer stop()
			if out := fileOf(a.out); out != nil && follow {
				var watch sync.WaitGroup
				watch.Go(func() { waitForReader(ctx, out, stop) })
				defer watch.Wait()
				defer stop()
			}
			return d.tail(ctx, s.seenBy(d), count, follow, format)
		}),
	}
	f.identity(c, a)
	f.outcome(c)
	f.kinds(c)
	f.times(c)
	c.Flags().IntVarP(&count, "lines", "n", count, "show so many of the records that there are")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with each record that is written")
	c.Flags().StringVar(&format, "format", "", "text or json (default: text on a terminal, else json)")
	return c
}

// fileOf is the file behind an output; nil: there is none.
func fileOf(out io.Writer) *os.File {
	switch out := out.(type) {
	case *os.File:
		return out
	case *cli.Output:
		return out.File
	}
	return nil
}

// waitForReader calls gone when nobody reads a pipe any more. As long as there is no new record, no
// write would show it.
func waitForReader(ctx context.Context, pipe *os.File, gone func()) {
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(pipe.Fd())}}            // errors are always reported
		if n, err := unix.Poll(fds, 200); err == nil && n > 0 { // of a terminal, POLLHUP; of a pipe or socket, POLLERR or POLLHUP
			gone()
			return
		}
	}
}

func (d logContext) tail(ctx context.Context, s selection, count int, follow bool, format string) error {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	print := d.linePrinter(format)
	var newest audit.Position
	var lines []audit.Line
	for line, err := range r.BackwardWithin(s.since, s.until) {
		if err != nil {
			d.warnf("%v", err)
			continue
		}
		if newest == (audit.Position{}) {
			newest = line.Position()
		}
		if len(lines) >= count {
			break
		}
		if rec, err := line.Record(); err == nil && s.wants(line, rec) {
			lines = append(lines, line)
		}
	}
	for _, line := range slices.Backward(lines) {
		if err := print(line); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	for line, err := range r.Follow(ctx, newest) {
		if err != nil {
			d.warnf("%v", err)
			if gone := new(audit.PositionError); errors.As(err, &gone) {
				return err
			}
			continue
		}
		if rec, err := line.Record(); err != nil || !s.wants(line, rec) {
			continue
		}
		if err := print(line); err != nil {
			return err
		}
	}
	return nil
}

func (d logContext) linePrinter(format string) func(audit.Line) error {
	if d.formatOf(format) == "json" {
		return func(line audit.Line) error {
			_, err := fmt.Fprintf(d.out, "%s\n", line.Text)
			return err
		}
	}
	colour := d.outIsTerminal && os.Getenv("NO_COLOR") == ""
	return func(line audit.Line) error {
		rec, err := line.Record()
		if err == nil {
			_, err = fmt.Fprintln(d.out, summary(line, rec, colour, d.local(), d.width))
		}
		return err
	}
}

// wordsOf says in words what a record says: what happened, the colour for it, and more.
func wordsOf(rec audit.Record) (what, paint string, words []string) {
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	what = strings.TrimPrefix(string(rec.Event.Action), "execution-")
	switch rec.Event.Action {
	case audit.ExecutionStart:
		if rec.Code.SHA256 == "" && rec.Code.Source != "" {
			add("%s, code unknown (%s)", cmp.Or(rec.Command, "run"), rec.Code.Source)
			break
		}
		add("%s of %d bytes, code %.12s", cmp.Or(rec.Command, "run"), rec.Code.Bytes, rec.Code.SHA256)
	case audit.ExecutionEnd:
		what, paint = rec.Status, "\x1b[31m"
		if rec.Status == "ok" {
			paint = "\x1b[32m"
		}
		ended(rec, add)
	case audit.AuditRepair:
		paint = "\x1b[33m"
		add("%s", repaired(rec))
	case audit.PolicyChanged:
		paint = "\x1b[33m"
		add("%s", rec.Event.Reason)
		if p := rec.Policy; p != nil {
			add("%s", p.Path)
		}
		changed(rec.Policy, add)
	case audit.AuditRetention:
		paint = "\x1b[33m"
		if rec.Retention != nil {
			add("%s", pruned(rec))
		}
	case audit.AuditAcknowledged:
		if rec.Ack != nil {
			add("%s: %s", acknowledged(rec.Ack), rec.Ack.Comment)
		}
	case audit.AuditHold, audit.AuditHoldRelease:
		paint = "\x1b[33m"
		if h := rec.Hold; h != nil {
			add("%s", held(rec.Event.Action, *h))
		}
	case audit.ExecutionCancel:
		paint = "\x1b[33m"
		if rec.Cancel != nil {
			add("%s", cmp.Or(rec.Cancel.Reason, "no reason given"))
		}
	default:
		paint = "\x1b[33m"
		if rec.Policy == nil && rec.Changed == nil || rec.Event.Reason != "" {
			add("%s", cmp.Or(rec.Event.Reason, "-"))
		}
		if more := rec.Refusals; more != nil {
			add("%s without a record of their own, up to %s", counted(uint64(max(more.Count, 0)), "more refusal"), more.Last)
		}
		if rec.Alert != nil {
			add("%s", rec.Alert.Title)
		}
		changed(rec.Policy, add)
		if c := rec.Changed; c != nil {
			for _, change := range c.Changes {
				add("%s", change)
			}
		}
	}
	if ms := rec.Host.ClockJumpMS; ms != 0 {
		add("the clock has jumped by %v", time.Duration(ms)*time.Millisecond)
	}
	return what, paint, words
}

// wideEnough is how many columns a summary needs for whole times and run ids.
const wideEnough = 140

// summary is a record for people: one line, or where that is wider than the terminal, with further
// lines that are indented.
func summary(line audit.Line, rec audit.Record, colour bool, zone *time.Location, width int) string {
	what, paint, words := wordsOf(rec)
	who := plain(cmp.Or(named(rec.User.Name, store.Asserted(rec)), "-"))
	if rec.Event.Action == audit.PolicyChanged { // nobody knows who has changed the file
		who = plain(noticed(rec))
	}
	if rec.Script.Name != "" {
		who += " " + plain(scriptOf(rec.Script.Name, rec.Script.Version))
	}
	at, run, said := line.Time.In(zone).Format("2006-01-02 15:04:05"), rec.RunID, plain(strings.Join(words, ", "))
	if width > 0 && width < wideEnough {
		at, run = withoutYear(at), endOfRun(run)
	}
	status := fmt.Sprintf("%-14s", plain(what))
	text := fmt.Sprintf("%s %7d %s %-16s %s", at, line.Seq, status, who, plain(run))
	if room := width - cells(text) - columnGap; width > 0 && room < cells(said) {
		const indent = "    "
		text = strings.Join(wrapped(text+"  "+said, max(width-len(indent), leastCells)), "\n"+indent)
	} else {
		text += "  " + said
	}
	if colour && paint != "" {
		text = strings.Replace(text, status, paint+status+"\x1b[0m", 1)
	}
	return text
}

// ended adds what a run has used and done.
func ended(rec audit.Record, add func(string, ...any)) {
	add("%s", shortTime(time.Duration(rec.Event.DurationNS)))
	if p := rec.Process; p != nil {
		add("cpu %s, memory %s", shortTime(time.Duration(p.CPUMS)*time.Millisecond), shortSize(p.PeakMemoryBytes))
	}
	if h := rec.Hooks; h != nil {
		for _, m := range h.FlaggedImports {
			add("imports %s", m.Module)
		}
		for _, c := range h.Connections {
			add("connects to %s:%d", c.Host, c.Port)
		}
		for _, p := range h.Processes {
			add("starts %s", p.Program)
		}
	}
}

// changed adds what has changed in the policy.
func changed(p *audit.PolicyChange, add func(format string, args ...any)) {
	if p == nil {
		return
	}
	for _, change := range p.Changes {
		add("%s", change)
	}
	if p.ChangesDropped > 0 {
		add("and %d more changes", p.ChangesDropped)
	}
}

func (a *app) show() *cobra.Command {
	var format string
	var code bool
	c := &cobra.Command{
		Use: "show RUN_ID|SEQ", Short: "Show the records of a run, or one record", Args: cobra.ExactArgs(1),
		Long: `The last 8 characters of a run id, or more, are enough if no other run has them. The first 8
also count, but an id begins with the time, so runs of one minute share them.

--code prints the code that was run instead, byte for byte as its hash in the record has it: if it
was kept (security.audit.log-code), or if the script store still has that version.`,
		Example: "  py3runctl audit show 5d1f09e2\n  py3runctl audit show 5d1f09e2 --code > was-run.py",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			d, err := a.sightedContext()
			if err != nil {
				return err
			}
			if code && format != "" {
				return cli.Usagef("invalid argument --code: not with --format")
			}
			if code {
				return d.showCode(args[0])
			}
			return d.show(args[0], format)
		},
	}
	c.Flags().StringVar(&format, "format", "", "text (a summary, and the record indented) or json: the exact lines (default: text on a terminal, else json)")
	c.Flags().BoolVar(&code, "code", false, "print the code that was run")
	return c
}

func (d logContext) show(what, format string) error {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	found, err := d.find(r, what)
	if err != nil {
		return err
	}
	for _, line := range found {
		text := line.Text
		if d.formatOf(format) == "text" {
			if err := d.linePrinter("text")(line); err != nil { // it marks what the record says with names only
				return err
			}
			var indented bytes.Buffer
			if err := json.Indent(&indented, text, "", "  "); err != nil {
				return err
			}
			text = indented.Bytes()
		}
		if _, err := fmt.Fprintf(d.out, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

// csvColumns are the columns of an export. They stay; new ones come at the end.
var csvColumns = []string{"seq", "time", "action", "outcome", "reason", "run_id", "request_id", "host", "user", "auth", "os_uid", "client_ip", "script", "command", "code_sha256", "code_bytes",
	"status", "duration_ms", "cpu_ms", "peak_memory_bytes", "exit_code", "signal", "stdout_bytes", "stderr_bytes", "isolation", "missing", "flagged_imports", "connections", "hash",
	"os_user", "key_id", "holder", "script_version", "script_source", "script_path", "invocation", "labels"}

func csvPrinter(to io.Writer, header bool) func(audit.Line, audit.Record) error {
	w := csv.NewWriter(to)
	if header {
		w.Write(csvColumns)
		w.Flush()
	}
	return func(line audit.Line, r audit.Record) error {
		number := func(n int64) string { return strconv.FormatInt(n, 10) }
		known := func(n *int64) string {
			if n == nil {
				return ""
			}
			return number(*n)
		}
		row := []string{strconv.FormatUint(r.Seq, 10), r.Timestamp, string(r.Event.Action), string(r.Event.Outcome), r.Event.Reason, r.RunID, r.RequestID, r.Host.Name, r.User.Name,
			string(r.Auth.Method), strconv.Itoa(r.Auth.OSUID), r.Client.IP, r.Script.Name, r.Command, r.Code.SHA256, number(r.Code.Bytes), r.Status}
		if r.Event.DurationNS > 0 {
			row = append(row, number(r.Event.DurationNS/1e6))
		} else {
			row = append(row, "")
		}
		if p := r.Process; p != nil {
			exit := ""
			if p.ExitCode != nil {
				exit = strconv.Itoa(*p.ExitCode)
			}
			row = append(row, number(p.CPUMS), number(p.PeakMemoryBytes), exit, p.Signal, known(p.StdoutBytes), known(p.StderrBytes))
		} else {
			row = append(row, "", "", "", "", "", "")
		}
		method, missing, modules, hosts := "", []string{}, []string{}, []string{}
		if i := r.Isolation; i != nil {
			method = i.Method
			for _, m := range i.Missing {
				missing = append(missing, m.Name)
			}
		}
		if h := r.Hooks; h != nil {
			for _, m := range h.FlaggedImports {
				modules = append(modules, m.Module)
			}
			for _, c := range h.Connections {
				hosts = append(hosts, fmt.Sprintf("%s:%d", c.Host, c.Port))
			}
		}
		row = append(row, method, strings.Join(missing, " "), strings.Join(modules, " "), strings.Join(hosts, " "), line.Hash().String())
		invocation := ""
		if r.Invoked != nil {
			invocation = r.Invoked.Command
		}
		row = append(row, r.Auth.OSUser, r.Auth.KeyID, r.Auth.Holder, r.Script.Version, string(r.Script.Source), r.Script.Path, invocation, store.LabelText(r.Labels))
		for i := range row {
			if _, err := strconv.ParseFloat(row[i], 64); err != nil {
				row[i] = cell(row[i])
			}
		}
		w.Write(row)
		w.Flush()
		return w.Error()
	}
}
