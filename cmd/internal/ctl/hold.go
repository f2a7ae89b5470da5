package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
)

// A hold is a legal hold as people read it, in force or released. Times are RFC 3339, in UTC.
type hold struct {
	ID      string `json:"id"`
	Since   string `json:"since,omitempty"`
	Until   string `json:"until,omitempty"`
	Run     string `json:"run_id,omitempty"`
	User    string `json:"user,omitempty"`
	Script  string `json:"script,omitempty"` // NAME or NAME@VERSION
	Comment string `json:"comment"`
	By      string `json:"by"`
	At      string `json:"at"`
	Seq     uint64 `json:"seq,omitempty"` // of its record

	ReleasedBy      string `json:"released_by,omitempty"`
	ReleasedAt      string `json:"released_at,omitempty"`
	ReleasedComment string `json:"released_comment,omitempty"`
	ReleasedSeq     uint64 `json:"released_seq,omitempty"`

	Problem string `json:"problem,omitempty"` // how the records and the file of holds disagree about it
}

func holdOf(h audit.OpenHold) hold {
	return hold{ID: h.ID, Since: h.Since, Until: h.Until, Run: h.Run, User: h.User, Script: scriptOf(h.Script, h.Version), Comment: h.Comment, By: h.By, At: h.At, Seq: h.Seq}
}

// what says which records a hold keeps. shown is how its times are shown.
func (h hold) what(shown func(string) string) string {
	var words []string
	for _, f := range [][2]string{{"user ", h.User}, {"script ", h.Script}, {"run ", h.Run}} {
		if f[1] != "" {
			words = append(words, f[0]+f[1])
		}
	}
	if h.Since != "" {
		words = append(words, "since "+shown(h.Since))
	}
	if h.Until != "" {
		words = append(words, "until "+shown(h.Until))
	}
	return cmp.Or(strings.Join(words, ", "), "all records")
}

// held says what a record about a hold says.
func held(action audit.Action, h audit.Hold) string {
	if action == audit.AuditHoldRelease {
		return fmt.Sprintf("hold %s is released: %s", h.ID, h.Comment)
	}
	keeps := holdOf(audit.OpenHold{Hold: h}).what(func(at string) string { return at })
	return fmt.Sprintf("hold %s keeps %s: %s", h.ID, keeps, h.Comment)
}

func (a *app) hold() *cobra.Command {
	c := &cobra.Command{
		Use: "hold", Short: "Keep records from retention, for a legal hold", Args: cobra.NoArgs,
		Long: `A hold keeps the records that it selects, its own record, and everything after the oldest of these:
audit prune removes records from the oldest end only, by whole segments. It also keeps the code that
these records name. No option of prune overrides a hold.

Records (audit-hold, audit-hold-release) say who has put a hold in force and who has released it.
The file holds.json beside the log says the same. While the two disagree, audit verify reports it
and audit prune removes nothing.

Who may prune can add, list and release holds, and so can an auditor, as far as the permissions of
the log let them write.`,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		},
	}
	c.AddCommand(a.holdAdd(), a.holdList(), a.holdRelease(), a.holdRepair())
	return c
}

func commentFlag(c *cobra.Command, to *string, usage string) {
	c.Flags().StringVar(to, "comment", "", usage)
}

func (a *app) holdAdd() *cobra.Command {
	var h hold
	c := &cobra.Command{
		Use: "add --comment TEXT", Short: "Put a hold in force", Args: cobra.NoArgs,
		Long: `Without a selection it keeps all records. All conditions that are given have to match. --user also
selects records in which this user is the holder of the API key, the user of the operating system or
the caller of sudo.`,
		Example: "  py3runctl audit hold add --user alice --since 2026-01-01 --comment \"case 4711\"",
		RunE: a.acting(access.ToSeeHistory, allRuns, func(d logContext) error {
			added, err := d.addHold(h, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintf(d.out, "hold %s keeps %s; record %d tells it\n", plain(added.ID), plain(added.what(d.shownTime)), added.Seq)
			return d.countHeld(added)
		}),
	}
	commentFlag(c, &h.Comment, "why the records have to stay")
	c.Flags().StringVar(&h.Since, "since", "", "records since this `time`, as history takes it")
	c.Flags().StringVar(&h.Until, "until", "", "records before this `time`")
	c.Flags().StringVar(&h.Run, "run", "", "records of this `run`: its id, or the last 8 characters of it")
	c.Flags().StringVar(&h.User, "user", "", "records that name this user")
	c.Flags().StringVar(&h.Script, "script", "", "records of this script: `NAME`, or NAME@VERSION")
	completeBy(c, "user", a.completeUsers)
	completeBy(c, "script", a.completeOne)
	return c
}

func (a *app) holdList() *cobra.Command {
	var format string
	var all bool
	c := &cobra.Command{
		Use: "list", Short: "Show the holds in force", Args: cobra.NoArgs,
		RunE: a.acting(access.ToSeeHistory, allRuns, func(d logContext) error {
			if err := oneOf("format", format, "text", "json", "csv"); err != nil {
				return err
			}
			list, err := d.holds()
			if err != nil {
				return err
			}
			if !all {
				list = slices.DeleteFunc(list, func(h hold) bool { return h.ReleasedAt != "" && h.Problem == "" })
			}
			return d.listHolds(list, format)
		}),
	}
	c.Flags().BoolVar(&all, "all", false, "also those that were released, as far as the log has their records")
	formatFlag(c, &format, "text", "json", "csv")
	return c
}

func (a *app) holdRelease() *cobra.Command {
	var comment string
	c := &cobra.Command{
		Use: "release ID --comment TEXT", Short: "Lift a hold", Args: exactly("ID"), ValidArgsFunction: a.completeHolds,
		Long:    "The record says who has released the hold, and why. From then on audit prune removes what is too old.",
		Example: "  py3runctl audit hold release h3f2a9c1d0 --comment \"case 4711 is closed\"",
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		return a.acting(access.ToSeeHistory, allRuns, func(d logContext) error {
			seq, err := d.releaseHold(args[0], comment)
			if err == nil {
				fmt.Fprintf(d.out, "hold %s is released; record %d tells it\n", plain(args[0]), seq)
			}
			return err
		})(nil, nil)
	}
	commentFlag(c, &comment, "why the records need not stay any more")
	return c
}

func (a *app) holdRepair() *cobra.Command {
	return &cobra.Command{
		Use: "repair", Short: "Make the records and the file of holds agree again", Args: cobra.NoArgs,
		Long: `Every hold that the records or the file holds.json say is in force stays in force: it is put into the
file, and a hold without a record gets one. Release afterwards what is not wanted. A file that
cannot be read is kept beside the log, under another name.`,
		RunE: a.acting(access.ToSeeHistory, allRuns, func(d logContext) error {
			rep, err := d.verify(verification{})
			if err != nil {
				return err
			}
			if len(rep.Unread) > 0 {
				return fmt.Errorf("repair holds: %s cannot be read as a whole, and may have records of holds", strings.Join(rep.Unread, ", "))
			}
			log, err := audit.Open(d.dir)
			if err != nil {
				return err
			}
			defer log.Close()
			restored, err := log.RepairHolds(d.author(), rep.Report)
			for _, o := range restored {
				h := holdOf(o)
				fmt.Fprintf(d.out, "hold %s is in force again: %s\n", plain(h.ID), plain(h.what(d.shownTime)))
			}
			if err == nil {
				fmt.Fprintf(d.out, "%s in force\n", counted(len(rep.Holds), "hold"))
			}
			return err
		}),
	}
}

// completeHolds completes the ids of holds in force.
func (a *app) completeHolds(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	d, err := a.logContext()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer r.Close()
	open, _ := r.Holds()
	var ids []string
	for _, h := range open {
		ids = append(ids, cobra.CompletionWithDesc(h.ID, plain(h.Comment)))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// holds are all holds of the log, by its records and by the file of holds, oldest first.
func (d logContext) holds() (list []hold, err error) {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	open, unread := r.Holds() // before the records: a hold is in the file first
	for line, err := range r.Records(audit.Position{}) {
		if bad := new(audit.LineError); errors.As(err, &bad) {
			continue // verify reports it
		}
		if err != nil {
			return nil, err
		}
		if line.Action != audit.AuditHold && line.Action != audit.AuditHoldRelease {
			continue
		}
		if rec, err := line.Record(); err == nil {
			list = withHold(list, rec)
		}
	}
	if unread != nil && !errors.Is(unread, unix.ENOENT) {
		d.warnf("%v", unread)
	}
	return compareHolds(list, open), nil
}

// withHold adds to the holds what the next record says about them.
func withHold(list []hold, rec audit.Record) []hold {
	if rec.Hold == nil {
		return list
	}
	i, by := slices.IndexFunc(list, func(h hold) bool { return h.ID == rec.Hold.ID }), named(rec.User.Name, false)
	switch {
	case rec.Event.Action == audit.AuditHold && i < 0:
		list = append(list, holdOf(audit.OpenHold{Hold: *rec.Hold, By: by, At: rec.Timestamp, Seq: rec.Seq}))
	case rec.Event.Action == audit.AuditHold: // a repair has put it in force again
		list[i].ReleasedBy, list[i].ReleasedAt, list[i].ReleasedComment, list[i].ReleasedSeq = "", "", "", 0
	case i >= 0 && list[i].ReleasedAt == "":
		list[i].ReleasedBy, list[i].ReleasedAt, list[i].ReleasedComment, list[i].ReleasedSeq = by, rec.Timestamp, rec.Hold.Comment, rec.Seq
	}
	return list
}

// compareHolds compares the holds by the records with those of the file, and says where they disagree.
func compareHolds(list []hold, open []audit.OpenHold) []hold {
	for _, o := range open {
		switch i := slices.IndexFunc(list, func(h hold) bool { return h.ID == o.ID }); {
		case i < 0:
			h := holdOf(o)
			h.Problem = "no record says so"
			list = append(list, h)
		case list[i].ReleasedAt != "":
			list[i].Problem = "released by its record, and still in holds.json"
		}
	}
	for i := range list {
		inFile := slices.ContainsFunc(open, func(o audit.OpenHold) bool { return o.ID == list[i].ID })
		if list[i].ReleasedAt == "" && !inFile && list[i].Problem == "" {
			list[i].Problem = "not in holds.json"
		}
	}
	return list
}

func (d logContext) listHolds(list []hold, format string) error {
	columns := []string{"id", "time", "by", "keeps", "comment", "released", "problem"}
	cells := func(h hold) []string {
		released := ""
		if h.ReleasedAt != "" {
			released = fmt.Sprintf("%s by %s: %s", d.shownTime(h.ReleasedAt), h.ReleasedBy, h.ReleasedComment)
		}
		return []string{h.ID, h.At, h.By, h.what(d.shownTime), h.Comment, released, h.Problem}
	}
	if d.formatOf(format) == "csv" {
		columns = []string{"id", "at", "by", "since", "until", "run_id", "user", "script", "comment", "seq", "released_by", "released_at", "released_comment", "released_seq", "problem"}
		number := func(n uint64) string {
			if n == 0 {
				return ""
			}
			return strconv.FormatUint(n, 10)
		}
		cells = func(h hold) []string {
			return []string{h.ID, h.At, h.By, h.Since, h.Until, h.Run, h.User, h.Script, h.Comment, number(h.Seq), h.ReleasedBy, h.ReleasedAt, h.ReleasedComment, number(h.ReleasedSeq), h.Problem}
		}
	}
	if d.formatOf(format) == "text" && len(list) == 0 {
		d.say("no hold is in force")
		return nil
	}
	return printList(d, format, list, columns, cells)
}

// addHold puts a hold in force: of h, the selection and the comment as the command line takes them.
func (d logContext) addHold(h hold, now time.Time) (hold, error) {
	want, err := h.wanted(now.In(d.local()))
	if err == nil && h.Run != "" {
		want.Run, err = d.wholeRun(h.Run)
	}
	if err != nil {
		return h, err
	}
	return d.putHold(want)
}

// wanted is a hold as the log has it, without its run.
func (h hold) wanted(now time.Time) (want audit.Hold, err error) {
	if h.Comment = strings.TrimSpace(h.Comment); h.Comment == "" {
		return want, cli.Usagef("requires --comment: why the records have to stay")
	}
	want = audit.Hold{User: h.User, Comment: h.Comment}
	for _, f := range []struct {
		name, given string
		to          *string
	}{{"since", h.Since, &want.Since}, {"until", h.Until, &want.Until}} {
		at, err := parseTime(f.name, f.given, now)
		if err != nil {
			return want, err
		}
		if !at.IsZero() {
			*f.to = at.UTC().Format(time.RFC3339Nano)
		}
	}
	query, err := (filter{script: h.Script}).query(now)
	want.Script, want.Version = query.Script, query.Version
	return want, err
}

// putHold puts a hold in force, with a record.
func (d logContext) putHold(want audit.Hold) (hold, error) {
	log, err := audit.Open(d.dir)
	if err != nil {
		return hold{}, err
	}
	defer log.Close()
	open, _, err := log.AddHold(d.author(), want)
	return holdOf(open), err
}

// wholeRun is the id of the one run of the log that a text means.
func (d logContext) wholeRun(what string) (string, error) {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return "", err
	}
	defer r.Close()
	found, err := d.find(r, what)
	if err != nil {
		return "", err
	}
	if id := found[0].RunID; meansRun(strings.ToLower(what), id) {
		return id, nil
	}
	return "", cli.Usagef("invalid argument %q for --run: want the id of a run", what)
}

// countHeld says how many records a hold selects so far, so that a misspelt name shows at once.
func (d logContext) countHeld(h hold) error {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	open, err := r.Holds()
	at := slices.IndexFunc(open, func(o audit.OpenHold) bool { return o.ID == h.ID })
	if err != nil || at < 0 {
		return err
	}
	n, oldest := 0, ""
	for line, err := range r.Records(audit.Position{}) {
		if err != nil || line.Seq == h.Seq {
			continue
		}
		if rec, err := line.Record(); err == nil && open[at].Matches(rec, line.Time) {
			if n++; n == 1 {
				oldest = rec.Timestamp
			}
		}
	}
	if n == 0 {
		d.warnf("the hold selects no record that there is now")
		return nil
	}
	_, err = fmt.Fprintf(d.out, "it selects %s so far, the oldest of %s\n", counted(n, "record"), d.shownTime(oldest))
	return err
}

// releaseHold lifts a hold, and returns the seq of the record that tells it.
func (d logContext) releaseHold(id, comment string) (uint64, error) {
	if comment = strings.TrimSpace(comment); comment == "" {
		return 0, cli.Usagef("requires --comment: why the records need not stay any more")
	}
	log, err := audit.Open(d.dir)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	receipt, err := log.ReleaseHold(d.author(), id, comment)
	if errors.Is(err, audit.ErrNoHold) {
		err = refusedWith(fmt.Errorf("release hold %s: %w", plain(id), err), "py3runctl audit hold list shows the holds in force")
	}
	return receipt.Seq, err
}
