package ctl

import (
	"bytes"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
)

// report makes the file of that name; what verify prints is in report.go.
func (a *app) report() *cobra.Command {
	var f filter
	var with verification
	var out, index string
	c := &cobra.Command{
		Use: "report --out FILE", Short: "Write a printable report: runs, failures, usage, alerts, changes, integrity, configuration", Args: cobra.NoArgs,
		Long: `Writes one HTML file, which needs nothing but itself: a browser shows it and prints it on A4. It has
a summary, runs by day and status, failures, usage by user, script and host with percentiles,
refusals, alerts with their acknowledgements, changes of policy, keys, scripts and configuration,
what verify says of the log, and the configuration in force. It says who has made it, when, with
which filters, and which records it covers.

Who sees only their own runs gets a report of these, without integrity and configuration. The file
has mode 0600. It makes the index if there is none.`,
		Example: "  py3runctl report --out november.html --since 2026-11-01 --until 2026-12-01\n" +
			"  py3runctl report --script tank-balance --since 7d --out tank.html --checkpoints /mnt/witness/gw-a --key py3run-checkpoint.key.pub",
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return cli.Usagef("requires --out: the file to write")
			}
			if err := with.check(); err != nil {
				return err
			}
			d, err := a.sightedContext()
			if err != nil {
				return err
			}
			return d.writeReport(a, f, with, index, out, time.Now())
		},
	}
	f.identity(c, a)
	f.outcome(c)
	f.times(c)
	f.since, c.Flags().Lookup("since").DefValue = "30d", "30d"
	c.Flags().StringVar(&out, "out", "", "the `file` to write; one that is there is replaced")
	indexFlag(c, &index)
	with.flags(c)
	return c
}

// writeReport makes a report and writes it, completely or not at all.
func (d logContext) writeReport(a *app, f filter, with verification, index, out string, now time.Time) error {
	now = now.In(d.local())
	q, err := f.query(now)
	if err != nil {
		return err
	}
	q.Owner = d.only
	path := d.indexPath(index)
	if err := d.update(path, false, false); err != nil {
		return err
	}
	x, err := store.OpenIndex(path)
	if err != nil {
		return err
	}
	defer x.Close()
	dir := d.dir
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole
	}
	order := web.ReportOrder{Who: visitor{logContext: d, app: a, common: &common{with: with}}, Index: x, Query: q, Now: now, Log: dir, Host: audit.ThisHost().Name,
		Filter: f.forPages()}
	if d.may(access.ToSeeHistory, allRuns) == nil {
		rep, err := d.verify(with)
		if err == nil {
			found := rep.forPages()
			order.Verified = &found
		} else {
			order.Failed = err
		}
	}
	var text bytes.Buffer
	if err := web.Report(&text, order); err != nil {
		return err
	}
	if err := replaceFile(out, text.Bytes(), 0o600); err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.out, "%s: report of %s\n", plain(out), counted(uint64(text.Len()), "byte"))
	return err
}
