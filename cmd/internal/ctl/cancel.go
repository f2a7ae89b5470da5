package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/store"
)

// cancelLook is how often cancel looks whether a run has ended.
const cancelLook = 20 * time.Millisecond

func (a *app) cancel() *cobra.Command {
	var reason, format string
	wait := 30.0
	c := &cobra.Command{
		Use: "cancel RUN...", Short: "End runs that are alive, as their caller's SIGTERM would",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &cli.UsageError{Text: "cancel: want at least one RUN", Hint: listsRuns}
			}
			return nil
		},
		Long: `Ends runs that are alive, one request of a bridge, too: the program gets SIGTERM, and after
security.grace-seconds it is killed with all that it has started. The run's status is cancelled, its
caller gets its result, and a record of the log says who has cancelled it and why. RUN is a run id,
or its last 8 characters or more (py3runctl ps). Its first 8 also count, but runs of one minute share
them.

You must be able to write the log: a user cancels the runs of their own log, root those of root's.
With an API key (PY3RUN_API_KEY_FILE), its user cancels their own runs, and a script-admin all.
The command waits until the runs have ended.

Exit status: 0 all have ended; 1 one is not known, was not alive, or has not ended in time.`,
		Example: "  py3runctl cancel 5d1f09e2 --reason 'blocks the tank sensors'",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			if !(wait >= 0) {
				return cli.Usagef("invalid argument %v for --wait-seconds: want 0 or more", wait)
			}
			d, err := a.actingContext()
			if err != nil {
				return err
			}
			return d.cancel(args, reason, format, time.Duration(wait*float64(time.Second)))
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why: `text` for the record, and for the caller of the run")
	c.Flags().Float64Var(&wait, "wait-seconds", wait, "wait so many `seconds` for the end; 0: do not wait")
	c.Flags().StringVar(&format, "format", "", "text or json (default: text on a terminal, else json)")
	return c
}

// shownCancel is what became of a run that was to end, in JSON.
type shownCancel struct {
	RunID  string `json:"run_id"`
	Seq    uint64 `json:"seq,omitempty"`    // of the record that says who has cancelled it
	Status string `json:"status,omitempty"` // of the run; absent: it has not ended yet
	EndSeq uint64 `json:"end_seq,omitempty"`
}

// cancel ends runs. It tells all their launchers before it waits for any.
func (d logContext) cancel(what []string, reason, format string, patience time.Duration) error {
	runs, err := d.live()
	if err != nil {
		return err
	}
	log, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer log.Close()
	var asked []shownCancel
	var failed []error
	for _, word := range what {
		run, err := d.oneLive(strings.ToLower(word), runs)
		var seq uint64
		if err == nil {
			seq, err = d.askToEnd(run, strings.TrimSpace(reason))
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		asked = append(asked, shownCancel{RunID: run.Start.RunID, Seq: seq})
	}
	for deadline := time.Now().Add(patience); len(asked) > 0; asked = asked[1:] {
		s := asked[0]
		for patience > 0 && log.Lives(s.RunID) && time.Now().Before(deadline) {
			time.Sleep(cancelLook)
		}
		if !log.Lives(s.RunID) {
			s.Status, s.EndSeq = d.endOf(s.RunID)
		} else if patience > 0 {
			failed = append(failed, fmt.Errorf("cancel %s: it has not ended within %v; record %d says that it is to", s.RunID, patience, s.Seq))
			continue
		}
		if err := d.tellCancelled(s, format); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// askToEnd records that a run is to end and tells its launcher. It returns the seq of that record.
func (d logContext) askToEnd(run audit.LiveRun, reason string) (uint64, error) {
	if err := d.may(access.ToManage, access.Object{Kind: access.PastRun, Owner: run.Start.User.Name}); err != nil {
		return 0, fmt.Errorf("cancel %s: %w", run.Start.RunID, err)
	}
	if run.Cancel != nil {
		d.warnf("%s has cancelled %s already: record %d", run.Cancel.User.Name, run.Start.RunID, run.Cancel.Seq)
		return run.Cancel.Seq, nil
	}
	log, err := audit.Open(d.dir)
	if err != nil {
		return 0, d.ownersOnly(err)
	}
	defer log.Close()
	rec := d.author()
	rec.RunID = run.Start.RunID
	rec.Event = audit.Event{Action: audit.ExecutionCancel, Outcome: audit.Success}
	rec.Cancel = &audit.Cancel{Reason: reason}
	rec.Script = run.Start.Script
	receipt, err := log.Cancel(rec)
	switch {
	case errors.Is(err, audit.ErrNotAlive):
		err = d.notAlive(run.Start.RunID)
	case errors.Is(err, audit.ErrCancelling):
		d.warnf("%s: %v", run.Start.RunID, err)
		return 0, nil
	}
	return receipt.Seq, err
}

// An ownerError says that only the owner of a log can do something.
type ownerError struct {
	owner uint32
	err   error
}

func (e *ownerError) Error() string { return e.err.Error() }
func (e *ownerError) Unwrap() error { return e.err }

// ownersOnly tells of an error whether that is so: even root writes to no log of another user.
func (d logContext) ownersOnly(err error) error {
	var st unix.Stat_t
	if unix.Stat(d.dir, &st) == nil && int(st.Uid) != os.Geteuid() {
		return &ownerError{st.Uid, err}
	}
	return err
}

// endOf is the status of a run that is not alive any more, and the seq of its end.
func (d logContext) endOf(id string) (status string, seq uint64) {
	s, err := d.logSource()
	if err != nil {
		return "", 0
	}
	defer s.Close()
	for r, err := range s.History(store.Query{Run: id, Limit: 1}) {
		if err == nil {
			return cmp.Or(r.Status, store.Orphaned), r.EndSeq
		}
	}
	return "", 0
}

func (d logContext) tellCancelled(s shownCancel, format string) error {
	if d.formatOf(format) == "json" {
		return writeJSON(d.out, s)
	}
	how := "has ended: " + s.Status
	switch {
	case s.Status == "":
		how = "is to end"
	case s.Status == store.Orphaned:
		how = "has ended without an end record: its launcher has died"
	}
	_, err := fmt.Fprintf(d.out, "%s  %s; record %d says who has cancelled it\n", plain(s.RunID), plain(how), s.Seq)
	return err
}

const listsRuns = "py3runctl ps lists them"

// An unknownRun says that a text is the name of no run.
type unknownRun struct{ text string }

func (e *unknownRun) Error() string { return e.text }

// meansRun tells whether a text is a run id, or enough of its beginning or end.
func meansRun(what, id string) bool {
	return len(what) >= prefixLeast && (strings.HasPrefix(id, what) || strings.HasSuffix(id, what))
}

// notAlive is why no run that is alive is meant by a text.
func (d logContext) notAlive(what string) error {
	if len(what) < prefixLeast {
		return &unknownRun{fmt.Sprintf("%q is not %d characters of a run id", what, prefixLeast)}
	}
	s, err := d.logSource()
	if err != nil {
		return err
	}
	defer s.Close()
	var list []candidate
	for r, err := range s.History(store.Query{Run: what}) {
		if err != nil {
			return err
		}
		list = append(list, candidate{r.ID, r.Started, r.User, cmp.Or(r.Status, store.Orphaned)})
	}
	switch {
	case len(list) == 0:
		return &unknownRun{fmt.Sprintf("no run of %q in %s", what, d.dir)}
	case len(list) > 1:
		return d.ambiguous(what, list)
	case list[0].status == store.Orphaned:
		return fmt.Errorf("cancel %s: its launcher has died, and the run with it", list[0].id)
	}
	return fmt.Errorf("cancel %s: the run has ended already: %s", list[0].id, list[0].status)
}
