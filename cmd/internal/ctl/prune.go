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
	"slices"
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
	format                            string
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
  segments with faults, or more than half of all segments, unless --force is given,
  records that a legal hold keeps, and their code (py3runctl audit hold): it says which hold, and why.

Exit status: 0 done; 1 refused, or segments wait for a cursor.`,
		Example: "  py3runctl audit prune --dry-run\n  py3runctl audit prune --yes                 # from a timer, once a day",
		RunE: a.acting(access.ToManage, allRuns, func(d logContext) error {
			if err := oneOf("format", p.format, "text", "json"); err != nil {
				return err
			}
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
	c.Flags().StringVar(&p.format, "format", "text", "text, or json: one object")
	c.Flags().StringArrayVar(&p.cursors, "cursor", nil, "also wait for this cursor `file`; can be repeated")
	return c
}

// A prunedReport is what a call of prune has done, or with a dry run would do, as JSON.
type prunedReport struct {
	Days     int         `json:"days"` // 0: records are kept for ever
	DryRun   bool        `json:"dry_run,omitempty"`
	Segments []string    `json:"segments"` // that were removed
	Records  uint64      `json:"records"`  // in them
	FirstSeq uint64      `json:"first_seq,omitempty"`
	LastSeq  uint64      `json:"last_seq,omitempty"`
	Newest   string      `json:"newest,omitempty"`
	Record   uint64      `json:"record,omitempty"`   // seq of the record that tells it
	Finished []string    `json:"finished,omitempty"` // segments whose removal an earlier call has recorded
	Code     int         `json:"code"`               // files of kept code that were removed
	Waits    []string    `json:"waits,omitempty"`    // why segments that are too old are kept for a reader
	Holds    []heldByLaw `json:"holds,omitempty"`    // and for legal holds
}

// heldByLaw is what a legal hold keeps from removal.
type heldByLaw struct {
	hold
	From     uint64 `json:"from_seq"` // every record from this one on
	Segments int    `json:"segments"` // that are too old, and stay
}

func (d logContext) prune(p pruning, now time.Time) error {
	days := d.config.Security.Audit.RetentionDays
	done := prunedReport{Days: days, DryRun: p.dryRun, Segments: []string{}}
	if days == 0 {
		if p.format == "json" {
			return writeJSON(d.out, done)
		}
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
	plan, segments, err := d.planPrune(policy)
	if err != nil {
		return err
	}
	for _, w := range plan.Waits {
		d.warnf("%s", w)
	}
	done.planned(plan)
	if !p.dryRun {
		if err = d.carryOut(p, plan, &done); err != nil && done.Record == 0 {
			return err
		}
	}
	if p.format == "json" {
		err = errors.Join(err, writeJSON(d.out, done))
	} else {
		err = errors.Join(err, d.printPruned(done, plan, segments))
	}
	if err == nil && len(plan.Waits) > 0 {
		err = cli.ExitCode(exitFailed)
	}
	return err
}

// planPrune verifies the log, and plans what a policy removes. segments is how many there are.
func (d logContext) planPrune(policy audit.Policy) (plan audit.Plan, segments int, err error) {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return plan, 0, err
	}
	defer r.Close()
	rep, err := r.Verify(audit.Check{Tree: true, Progress: d.progress()})
	d.endProgress()
	if err != nil {
		return plan, 0, err
	}
	plan, err = rep.Plan(policy)
	return plan, len(rep.Segments), err
}

// planned says what a plan removes.
func (r *prunedReport) planned(plan audit.Plan) {
	for _, s := range plan.Leftover {
		r.Finished = append(r.Finished, s.Name)
	}
	for _, s := range plan.Segments {
		r.Segments = append(r.Segments, s.Name)
	}
	if len(plan.Segments) > 0 {
		r.Records, r.FirstSeq, r.LastSeq, r.Newest = plan.Retention.Records, plan.Retention.FirstSeq, plan.Retention.LastSeq, plan.Retention.Newest
	}
	r.Waits = plan.Waits
	for _, h := range plan.Held {
		r.Holds = append(r.Holds, heldByLaw{holdOf(h.Hold), h.Seq, h.Segments})
	}
}

// printPruned says for people what was done, or would be.
func (d logContext) printPruned(r prunedReport, plan audit.Plan, segments int) error {
	var b strings.Builder
	switch {
	case r.DryRun:
		for _, s := range slices.Concat(plan.Leftover, plan.Segments) {
			fmt.Fprintf(&b, "would remove %s: %d records, the newest of %s\n", s.Name, s.Records, s.Newest.Format(time.RFC3339))
		}
	case len(r.Finished) > 0:
		fmt.Fprintf(&b, "finished an earlier removal: %d segments\n", len(r.Finished))
	}
	switch {
	case len(r.Segments) == 0:
		fmt.Fprintf(&b, "no segment to remove: records are kept for %d days\n", r.Days)
	case r.DryRun:
		fmt.Fprintf(&b, "%d of %d segments would go\n", len(r.Segments), segments)
	default:
		fmt.Fprintf(&b, "removed %d segments with the records %d to %d, the newest of %s; record %d tells it\n", len(r.Segments), r.FirstSeq, r.LastSeq, r.Newest, r.Record)
	}
	for _, h := range r.Holds {
		fmt.Fprintf(&b, "hold %s of %s (%s) keeps %s that would go, from record %d on: %s\n", plain(h.ID), plain(h.By), plain(h.what(d.shownTime)), counted(h.Segments, "segment"), h.From, plain(h.Comment))
	}
	if r.Code > 0 {
		fmt.Fprintf(&b, "removed %d files of kept code\n", r.Code)
	}
	_, err := io.WriteString(d.out, b.String())
	return err
}

// carryOut removes what was planned, and code that was last run before the records that stay.
func (d logContext) carryOut(p pruning, plan audit.Plan, done *prunedReport) error {
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
		done.Record = receipt.Seq
	}
	d.forget()
	done.Code, err = log.PruneCode(plan)
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
