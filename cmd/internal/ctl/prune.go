package ctl

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	"py3run/internal/passwd"
)

// A pruning is one call of py3runctl audit prune.
type pruning struct {
	dryRun, force, ignoreCursors, yes bool
	cursors                           []string
	answers                           io.Reader // of the person at the terminal; nil: there is none
}

func (a *app) prune() *cobra.Command {
	var p pruning
	c := &cobra.Command{
		Use: "prune", Short: "Remove records that are older than the retention", Args: cobra.NoArgs,
		Long: `Removes closed segments in which every record is older than security.audit.retention-days, and kept
code that was not run for so long. Before that it writes a record, which says who removed them and
by which policy. With that record, verify goes on from the oldest record that is left.
[floor.security.audit] in /etc/py3run/config.toml forbids a shorter retention-days.

It does not remove

  the current segment,
  anything, if the newest record of all is older than the retention (the clock may be wrong),
  records that an export or the alerts have not read, unless --ignore-cursor is given (cursors are
      cursor-*.json and alerts.json beside the log, and the files of --cursor),
  segments with faults, or more than half of all segments, unless --force is given.

Exit status: 0 done; 1 refused, or segments wait for a cursor.`,
		Example: "  py3runctl audit prune --dry-run\n  py3runctl audit prune --yes                 # from a timer, once a day",
		RunE: a.acting(access.ToManage, allRuns, func(d logContext) error {
			if cli.IsTerminal(os.Stdin) {
				p.answers = os.Stdin
			}
			return d.prune(p, time.Now())
		}),
	}
	c.Flags().BoolVar(&p.dryRun, "dry-run", false, "only say what would be removed")
	c.Flags().BoolVar(&p.force, "force", false, "also remove more than half of the segments, and segments with faults;\nthe record says how many faults")
	c.Flags().BoolVar(&p.ignoreCursors, "ignore-cursor", false, "also remove records that were not read yet")
	c.Flags().BoolVar(&p.yes, "yes", false, "do not ask")
	c.Flags().StringArrayVar(&p.cursors, "cursor", nil, "also wait for this cursor `file`; can be repeated")
	return c
}

func (d logContext) prune(p pruning, now time.Time) error {
	days := d.config.Security.Audit.RetentionDays
	if days == 0 {
		fmt.Fprintln(d.out, "security.audit.retention-days is 0: records are kept for ever")
		return nil
	}
	policy := audit.Policy{Days: days, Now: now, Force: p.force, Right: d.right()}
	policy.Right.IgnoredCursors = p.ignoreCursors
	if asked := policy.Right.AskedDays; asked != nil && policy.Right.FloorDays != nil && *asked < days {
		d.warnf("security.audit.retention-days: %d was asked for (%s), and nothing below %d is allowed", *asked, policy.Right.Policy, days)
	}
	if !p.ignoreCursors {
		var err error
		if policy.Cursors, err = d.cursors(p.cursors); err != nil {
			return err
		}
	}
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	rep, err := r.Verify(audit.Check{Tree: true, Progress: d.progress()})
	d.endProgress()
	if err != nil {
		return err
	}
	plan, err := rep.Plan(policy)
	if err != nil {
		return err
	}
	for _, w := range plan.Waits {
		d.warnf("%s", w)
	}
	if p.dryRun {
		for _, s := range append(plan.Leftover, plan.Segments...) {
			fmt.Fprintf(d.out, "would remove %s: %d records, the newest of %s\n", s.Name, s.Records, s.Newest.Format(time.RFC3339))
		}
	}
	if len(plan.Segments) == 0 {
		fmt.Fprintf(d.out, "no segment to remove: records are kept for %d days\n", days)
	} else if p.dryRun {
		fmt.Fprintf(d.out, "%d of %d segments would go\n", len(plan.Segments), len(rep.Segments))
	}
	if !p.dryRun {
		if err := d.carryOut(p, plan, now.AddDate(0, 0, -days)); err != nil {
			return err
		}
	}
	if len(plan.Waits) > 0 {
		return cli.ExitCode(exitFailed)
	}
	return nil
}

// carryOut removes what was planned, and code that was last run before the given time.
func (d logContext) carryOut(p pruning, plan audit.Plan, before time.Time) error {
	if len(plan.Segments) > 0 && !p.yes {
		if p.answers == nil {
			return errors.New("remove old segments: nobody is there to confirm it: say --yes")
		}
		fmt.Fprintf(d.err, "Remove %d segments with %d records, the newest of %s? [y/N] ", len(plan.Segments), plan.Retention.Records, plan.Retention.Newest)
		answer, _ := bufio.NewReader(p.answers).ReadString('\n')
		if !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y") {
			return errors.New("remove old segments: not wanted")
		}
	}
	log, err := audit.Open(d.dir)
	if err != nil {
		return err
	}
	defer log.Close()
	if !plan.Empty() {
		receipt, err := log.Prune(d.author(), plan)
		if err != nil {
			return err
		}
		if n := len(plan.Leftover); n > 0 {
			fmt.Fprintf(d.out, "finished an earlier removal: %d segments\n", n)
		}
		if r := plan.Retention; len(plan.Segments) > 0 {
			fmt.Fprintf(d.out, "removed %d segments with the records %d to %d, the newest of %s; record %d tells it\n", r.Segments, r.FirstSeq, r.LastSeq, r.Newest, receipt.Seq)
		}
	}
	d.forget()
	removed, err := log.PruneCode(before)
	if removed > 0 {
		fmt.Fprintf(d.out, "removed %d files of kept code\n", removed)
	}
	return err
}

// operator is a record that says who does something to the log.
func operator() audit.Record {
	uid := os.Getuid()
	name := strconv.Itoa(uid)
	if u, ok := passwd.ByUID(uid); ok {
		name = u.Name
	}
	auth := audit.Auth{Method: audit.AuthOSUser, OSUID: uid, OSUser: name, LoginUID: cli.LoginUID()}
	if auth.SudoUser = os.Getenv("SUDO_USER"); auth.SudoUser != "" {
		auth.SudoSource = audit.SudoAsserted
		// Both variables are only text: they count where they name the user that logged in.
		u, known := passwd.ByName(auth.SudoUser)
		if known && auth.LoginUID != nil && u.UID == *auth.LoginUID && os.Getenv("SUDO_UID") == strconv.Itoa(u.UID) {
			auth.SudoSource = audit.SudoLogin
		}
	}
	return audit.Record{Host: audit.ThisHost(), User: audit.User{Name: name}, Auth: auth}
}

// right says what allows the removal: where the policy comes from, and what the operator's own
// configuration in /etc says.
func (d logContext) right() (r audit.Retention) {
	const key = "security.audit.retention-days"
	number := func(text string) *int {
		if n, err := strconv.Atoi(text); err == nil {
			return &n
		}
		return nil
	}
	from := d.origins[key]
	r.Policy = strings.TrimSpace(cmp.Or(from.Kind, "default") + " " + from.Name)
	if r.AskedDays = number(from.Ceiling.Asked); r.AskedDays == nil {
		r.AskedDays = number(from.Floor.Asked)
	}
	r.FloorDays = number(from.Floor.Value)
	operator, err := config.Load(config.Sources{EtcFile: d.etc})
	if err != nil { // then there is no operator's rule
		return r
	}
	if of := operator.Origins[key]; of.Kind == config.FromFile || of.Floor.Value != "" {
		days := operator.Config.Security.Audit.RetentionDays
		r.OperatorDays = &days
	}
	return r
}

// cursors are how far readers have read the log: the files beside it, and others that are named.
func (d logContext) cursors(named []string) (list []audit.Cursor, err error) {
	paths, err := filepath.Glob(filepath.Join(d.dir, "cursor-*.json"))
	if err != nil {
		return nil, err
	}
	alerts := filepath.Join(d.dir, alertsName)
	if _, err := os.Stat(alerts); err == nil {
		paths = append(paths, alerts)
	}
	for _, path := range append(paths, named...) {
		text, err := os.ReadFile(path)
		var at struct {
			Seq      *uint64   `json:"seq"` // of an export
			Position *struct { // of the alerts
				Seq *uint64 `json:"seq"`
			} `json:"position"`
		}
		if err == nil {
			err = json.Unmarshal(text, &at)
		}
		if err == nil && at.Position != nil {
			at.Seq = cmp.Or(at.Seq, at.Position.Seq)
		}
		if err == nil && at.Seq == nil {
			err = errors.New("no cursor: it has no seq")
		}
		if err != nil {
			return nil, fmt.Errorf("read cursor %s: %w", path, err)
		}
		list = append(list, audit.Cursor{Name: path, Seq: *at.Seq})
	}
	return list, nil
}
