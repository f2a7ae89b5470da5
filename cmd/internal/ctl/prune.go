package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
)

// A pruning is how py3runctl audit prune was called.
type pruning struct {
	dryRun, force, ignoreCursors bool
}

func (a *app) prune() *cobra.Command {
	var p pruning
	c := &cobra.Command{
		Use: "prune", Short: "Remove records that are older than the retention", Args: cobra.NoArgs,
		Long: `Removes whole closed segments whose newest record is older than security.audit.retention-days, and kept code that was not run for so long. A record of the removal comes first; by
it verify goes on from the oldest record that is left. Nothing is removed

  of the current segment,
  when the newest record of all is older than the retention (the clock may have jumped),
  that an export has not read yet, by its cursor beside the log (cursor-*.json), but with --ignore-cursors,
  of a segment that is broken, and no more than half of all segments at once, but with --force.`,
		RunE: a.at(func(d desk) error { return d.prune(p, time.Now()) }),
	}
	c.Flags().BoolVar(&p.dryRun, "dry-run", false, "only say what would be removed")
	c.Flags().BoolVar(&p.force, "force", false, "also more than half of the segments, and broken ones")
	c.Flags().BoolVar(&p.ignoreCursors, "ignore-cursors", false, "also what exports have not read yet")
	return c
}

func (d desk) prune(p pruning, now time.Time) error {
	days := d.config.Security.Audit.RetentionDays
	if days == 0 {
		fmt.Fprintln(d.out, "security.audit.retention-days is 0: records are kept for ever")
		return nil
	}
	before := now.Add(-time.Duration(days) * 24 * time.Hour)
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	rep, err := r.Verify(audit.Check{Tree: true, Progress: d.progress()})
	if err != nil {
		return err
	}
	if rest := unfinished(rep); len(rest) > 0 && !p.dryRun {
		if err := d.remove(audit.Record{}, rest); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "finished an earlier removal: %d segments\n", len(rest))
		if rep, err = r.Verify(audit.Check{Tree: true, Progress: d.progress()}); err != nil {
			return err
		}
	}
	if rep.Records > 0 && rep.LastTime.Before(before) {
		return fmt.Errorf("prune %s: the newest record is of %s, and nothing newer than %d days is left: has the clock jumped?", d.dir, rep.LastTime.Format(time.RFC3339), days)
	}
	var old []audit.Segment
	for _, s := range rep.Segments {
		if s.Name == "audit.jsonl" || !s.Newest.Before(before) {
			break
		}
		old = append(old, s)
	}
	if len(old) > 0 {
		if err := d.mayPrune(p, rep, old); err != nil {
			return err
		}
	}
	if p.dryRun {
		for _, s := range old {
			fmt.Fprintf(d.out, "would remove %s: %d records, the newest of %s\n", s.Name, s.Records, s.Newest.Format(time.RFC3339))
		}
		fmt.Fprintf(d.out, "%d of %d segments are older than %d days\n", len(old), len(rep.Segments), days)
		return nil
	}
	if len(old) > 0 {
		var names []string
		for _, s := range old {
			names = append(names, s.Name)
		}
		retention := audit.RetentionOf(days, rep.Origin, old)
		retention.Faults = faultsIn(rep, old)
		rec := audit.Record{Event: audit.Event{Action: audit.AuditRetention, Outcome: audit.Success}, Host: audit.ThisHost(),
			Auth: audit.Auth{Method: audit.AuthOSUser, OSUID: os.Getuid()}, Retention: retention}
		if err := d.remove(rec, names); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "removed %d segments with the records %d to %d\n", len(old), retention.FirstSeq, retention.LastSeq)
	} else {
		fmt.Fprintf(d.out, "no segment is older than %d days\n", days)
	}
	log, err := audit.Open(d.dir)
	if err != nil {
		return err
	}
	defer log.Close()
	removed, err := log.PruneCode(before)
	if removed > 0 {
		fmt.Fprintf(d.out, "removed %d files of kept code\n", removed)
	}
	return err
}

// unfinished are the segments whose removal is recorded and that are there still.
func unfinished(rep *audit.Report) (names []string) {
	if rep.Pruned == nil {
		return nil
	}
	for _, s := range rep.Segments {
		if s.Name != "audit.jsonl" && s.Last.Seq <= rep.Pruned.LastSeq {
			names = append(names, s.Name)
		}
	}
	return names
}

func (d desk) remove(rec audit.Record, names []string) error {
	log, err := audit.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(log.Prune(rec, names), log.Close())
}

func faultsIn(rep *audit.Report, old []audit.Segment) (n int) {
	for _, f := range rep.Findings {
		for _, s := range old {
			if f.Segment == s.Name && f.Severity >= audit.Broken {
				n++
			}
		}
	}
	return n
}

// mayPrune are the guards.
func (d desk) mayPrune(p pruning, rep *audit.Report, old []audit.Segment) error {
	if n := faultsIn(rep, old); n > 0 && !p.force {
		return fmt.Errorf("prune %s: the segments to be removed have %d faults, which verify tells; --force removes them all the same, and the record says so", d.dir, n)
	}
	if 2*len(old) > len(rep.Segments) && !p.force {
		return fmt.Errorf("prune %s: %d of %d segments would go, more than half; is that meant? then --force", d.dir, len(old), len(rep.Segments))
	}
	if p.ignoreCursors {
		return nil
	}
	cursors, err := filepath.Glob(filepath.Join(d.dir, "cursor-*.json"))
	if err != nil {
		return err
	}
	for _, path := range cursors {
		text, err := os.ReadFile(path)
		var at audit.Position
		if err == nil {
			err = json.Unmarshal(text, &at)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if last := old[len(old)-1]; at.Seq < last.Last.Seq {
			return fmt.Errorf("prune %s: %s has read up to record %d, and %s has records up to %d: let the export go on first, or --ignore-cursors", d.dir, filepath.Base(path), at.Seq, last.Name, last.Last.Seq)
		}
	}
	return nil
}
