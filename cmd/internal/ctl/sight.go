package ctl

import (
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/internal/envvar"
)

// Whoever may read the log's files can read all records. The policy decides what the commands show of
// them: a user without the role auditor sees runs of that user. A run that somebody else has only named
// the user for counts as such, and is marked.

// seeing adapts a function to a cobra RunE, as at does, for a command that shows runs or records: the
// log context knows whose the caller may see.
func (a *app) seeing(do func(logContext) error) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		d, err := a.sightedContext()
		if err != nil {
			return err
		}
		return do(d)
	}
}

// sightedContext is the log context of a command that shows runs or records.
func (a *app) sightedContext() (logContext, error) {
	d, err := a.logContext()
	if err != nil || a.ownsLog(d.dir) {
		return d, err
	}
	who, err := a.actor()
	if err != nil {
		return d, err
	}
	d.who = &who
	if d.only, err = who.sees(); err == nil && d.only != "" {
		a.messages().Hintf("only runs of %s are shown: with the role auditor, py3runctl shows those of others, too", d.only)
	}
	return d, err
}

// acting adapts a function to a cobra RunE, as at does, for a command that needs a permission: the log
// context knows who acts, for the record.
func (a *app) acting(action access.Action, o access.Object, do func(logContext) error) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		d, err := a.actingContext()
		if err == nil {
			err = d.may(action, o)
		}
		if err != nil {
			return err
		}
		return do(d)
	}
}

// actingContext is the log context of a command that does something to the log or to runs.
func (a *app) actingContext() (logContext, error) {
	d, err := a.logContext()
	if err != nil || a.ownsLog(d.dir) {
		return d, err
	}
	who, err := a.actor()
	d.who = &who
	return d, err
}

// may says why the caller may not do something; nil: it may.
func (d logContext) may(action access.Action, o access.Object) error {
	if d.who == nil {
		return nil
	}
	return d.who.may(action, o)
}

// author is a record that says who does something.
func (d logContext) author() audit.Record {
	if d.who == nil {
		return operator()
	}
	return d.who.record()
}

// allRuns are the runs of everybody, and with them the whole log.
var allRuns = access.Object{Kind: access.PastRun}

// ownsLog reports whether the caller is root or the owner of the log, and has shown no API key: these
// can change the log itself, so a policy that is broken must not keep them from looking.
func (a *app) ownsLog(dir string) bool {
	if envvar.Lookup(a.environ, config.KeyFileVariable) != "" {
		return false
	}
	info, err := os.Stat(dir)
	if err != nil {
		return os.Geteuid() == 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return os.Geteuid() == 0 || ok && int(st.Uid) == os.Geteuid()
}

// sees returns the one user whose runs the actor may see; empty: everybody's.
func (who actor) sees() (only string, err error) {
	if who.may(access.ToSeeHistory, access.Object{Kind: access.PastRun}) == nil {
		return "", nil
	}
	own := access.Object{Kind: access.PastRun, Owner: who.grant.User}
	return who.grant.User, who.may(access.ToSeeHistory, own)
}

// seen reports whether the caller may see a record.
func (d logContext) seen(rec audit.Record) bool {
	return d.only == "" || rec.User.Name == d.only && ownersMaySee(rec)
}

// ownersMaySee reports whether the user of a record may see it without a role. What has changed in the
// policy is none of a user's business who just happened to run when that was found.
func ownersMaySee(rec audit.Record) bool {
	if rec.Event.Action == audit.PolicyChanged {
		return false
	}
	return rec.Alert == nil || !policyRules[rec.Alert.Rule]
}

// mine names the one user whose runs the caller sees, for a message that there are none.
func (d logContext) mine() string {
	if d.only == "" {
		return ""
	}
	return fmt.Sprintf(" of the user %s", d.only)
}
