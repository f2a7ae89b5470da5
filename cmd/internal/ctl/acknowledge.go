package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/store"
)

func (a *app) acknowledge() *cobra.Command {
	var with verification
	var comment string
	c := &cobra.Command{
		Use: "acknowledge ID|SEQ... --comment TEXT", Short: "Record that somebody has looked into a finding or an alert", Args: cobra.MinimumNArgs(1),
		Long: `Writes a record that says who has looked into a finding of verify, or into an alert, and with which
result. verify and alerts --list still show the finding or alert, with the acknowledgement. In
verify it counts as a warning at most from then on.

ID is the id of a finding. SEQ is the number of the record that findings and alerts are about, or of
an alert's own record. A new fault at the same record is a new finding.`,
		Example: "  py3runctl audit acknowledge 3f2a9c1d0e4b --comment \"restored from the backup of Tuesday, see ticket 4711\"",
		RunE: func(_ *cobra.Command, args []string) error {
			if comment = strings.TrimSpace(comment); comment == "" {
				return cli.Usagef("requires --comment: the result of looking into it")
			}
			if err := with.check(); err != nil {
				return err
			}
			d, err := a.actingContext()
			if err == nil {
				err = d.may(access.ToSeeHistory, allRuns)
			}
			if err != nil {
				return err
			}
			return d.acknowledge(args, comment, with)
		},
	}
	with.flags(c)
	c.Flags().StringVar(&comment, "comment", "", "the result of looking into it")
	return c
}

func (d logContext) acknowledge(what []string, comment string, with verification) error {
	rep, err := d.verify(with)
	if err != nil {
		return err
	}
	alerts, err := d.recordedAlerts()
	if err != nil {
		return err
	}
	var all []*audit.Acknowledged
	for _, word := range what {
		var these []*audit.Acknowledged
		seq, _ := strconv.ParseUint(word, 10, 64)
		for _, f := range rep.Findings {
			if f.Severity > audit.Note && (f.ID == strings.ToLower(word) || seq > 0 && f.Seq == seq) {
				these = append(these, &audit.Acknowledged{ID: f.ID, Kind: string(f.Kind), Seq: f.Seq})
			}
		}
		for _, a := range alerts {
			if seq > 0 && (a.Record == seq || a.Seq == seq) {
				these = append(these, &audit.Acknowledged{Alert: a.Record, Kind: a.Rule, Seq: a.Seq})
			}
		}
		if len(these) == 0 {
			return fmt.Errorf("acknowledge %s: verify has no such finding above a note, and no alert is or is about this record", plain(word))
		}
		all = append(all, these...)
	}
	log, err := audit.Open(d.dir)
	if err != nil {
		return err
	}
	defer log.Close()
	for _, a := range all {
		a.Comment = comment
		rec := d.author()
		rec.Event = audit.Event{Action: audit.AuditAcknowledged, Outcome: audit.Success}
		rec.Ack = a
		receipt, err := log.Append(rec)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.out, "acknowledged %s; record %d tells it\n", acknowledged(a), receipt.Seq)
	}
	return nil
}

// recordedAlerts are the alerts in the log with their acknowledgements, oldest first.
func (d logContext) recordedAlerts() (list []alert, err error) {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	said, found := map[uint64]*audit.Acknowledgement{}, map[uint64]*audit.Acknowledgement{} // by the record of the alert, and by the record of a finding
	for line, err := range r.Records(audit.Position{}) {
		if bad := new(audit.LineError); errors.As(err, &bad) {
			continue // verify reports it
		}
		if err != nil {
			return nil, err
		}
		if line.Action != audit.Alerted && line.Action != audit.AuditAcknowledged {
			continue
		}
		rec, err := line.Record()
		switch {
		case err != nil:
		case rec.Ack != nil && rec.Ack.ID != "":
			found[rec.Ack.Seq] = rec.Acknowledgement()
		case rec.Ack != nil:
			said[rec.Ack.Alert] = rec.Acknowledgement()
		case rec.Alert != nil:
			list = append(list, alert{Rule: rec.Alert.Rule, Title: rec.Alert.Title, Time: rec.Timestamp, Seq: cmp.Or(rec.Alert.Seq, rec.Seq), RunID: rec.RunID, User: rec.User.Name, Script: rec.Script.Name,
				Host: rec.Host.Name, Record: rec.Seq, owners: ownersMaySee(rec)})
		}
	}
	for i := range list {
		list[i].Acknowledged = said[list[i].Record]
		if list[i].Acknowledged == nil && list[i].Rule == ruleTampering { // verify finds the same
			list[i].Acknowledged = found[list[i].Seq]
		}
	}
	return list, nil
}

// listAlerts prints the alerts in the log that a filter selects.
func (d logContext) listAlerts(f filter, format string, now time.Time) error {
	wanted, err := f.query(now.In(d.local()))
	if err != nil {
		return err
	}
	wanted.Owner = d.only
	list, err := d.recordedAlerts()
	if err != nil {
		return err
	}
	t := d.newTable(true, column{title: "time", short: withoutYear}, column{title: "rule"}, column{title: "record", right: true}, column{title: "title", least: 16, wraps: true})
	text := d.formatOf(format) == "text"
	for _, a := range list {
		at, _ := time.Parse(time.RFC3339Nano, a.Time)
		if d.only != "" && !a.owners || !wanted.Matches(&store.Run{User: a.User, Script: a.Script, Started: at}) {
			continue
		}
		if text {
			title := a.Title
			if a.Acknowledged != nil {
				title += fmt.Sprintf(" (%s)", a.Acknowledged)
			}
			t.add(d.shownTime(a.Time), a.Rule, fmt.Sprint(a.Seq), title)
			continue
		}
		if err := d.printAlert(a, format); err != nil {
			return err
		}
	}
	if len(t.rows) == 0 {
		return nil
	}
	return t.write(d.out)
}
