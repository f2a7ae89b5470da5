package ctl

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
)

// A policyAt is the policy that was in force at a time, as far as the log tells it.
type policyAt struct {
	sha256  string // empty: there was none
	known   bool
	from    uint64    // the record that tells it
	told    time.Time // of that record
	later   bool      // that record is a later one, of a change: it tells what there was before it
	changed bool      // another one was found later, and when it was changed is not known
	until   time.Time // when that was found
}

func (a *app) accessWho() *cobra.Command {
	var script, at, format string
	c := &cobra.Command{
		Use: "who", Short: "Show who may do what, or who could at a time", Args: cobra.NoArgs,
		Long: `Shows each user of the policy with what it may do: run code, or with --script run, read, write,
delete and share that script.

With --at it is the policy of that time: the log tells which one was in force, by its hash, and
py3run keeps the texts of all policies that it has read. How a script was shared then, it finds from
the records of all changes. It says so where it cannot know: where no record tells which policy there
was, where its text is not kept, where the file was changed without py3runctl between two records,
and where records of the script are missing, or it was restored from a backup since.`,
		Example: "  py3runctl access who --script plant/tank-balance\n  py3runctl access who --at 2026-11-24T10:00:00Z --format csv",
		RunE: a.at(func(d logContext) error {
			if err := oneOf("format", format, "text", "json", "csv"); err != nil {
				return err
			}
			now := time.Now()
			when, err := parseTime("at", at, now.In(d.local()))
			if err != nil {
				return err
			}
			if when.After(now) {
				return cli.Usagef("invalid argument %q for --at: that is in the future", at)
			}
			return a.who(d, script, when, format)
		}),
	}
	c.Flags().StringVar(&script, "script", "", "what they may do with this stored `script`")
	completeBy(c, "script", a.completeOne)
	c.Flags().StringVar(&at, "at", "", "at this `time`: 2026-11-24, 2026-11-24T10:00:00Z, or how long ago, such as 24h or 7d")
	c.Flags().StringVar(&format, "format", "", "text, json (one object a line) or csv (default: text on a terminal, else json)")
	return c
}

func (a *app) who(d logContext, script string, at time.Time, format string) error {
	who, err := a.actor()
	if err != nil {
		return err
	}
	if err := who.may(access.ToRead, access.Object{Kind: access.ThePolicy}); err != nil {
		return err
	}
	policy, find := who.policy, func() (access.Object, error) { return a.scriptObject(script) }
	if !at.IsZero() {
		find = func() (access.Object, error) { return a.scriptAt(d, script, at) }
		if policy, err = d.policyAt(who, at); err != nil {
			return err
		}
	} else {
		at = time.Now()
	}
	var object *access.Object
	if script != "" {
		o, err := find()
		if err != nil {
			return err
		}
		object = &o
	}
	if policy == nil {
		d.warnf("there was no policy: everybody could run code, and the permissions of the files decided about the rest")
		return nil
	}
	return d.listAccess(policy, object, at, format)
}

// policyAt returns the policy of a time; nil: there was none. What is not certain it says in
// warnings; what cannot be known is an error.
func (d logContext) policyAt(who actor, at time.Time) (*access.Policy, error) {
	p, err := d.findPolicy(who.places, at)
	if err != nil {
		return nil, err
	}
	return d.policyOf(who, p, at)
}

// policyOf returns the policy of a time, as far as the log has told which one it was.
func (d logContext) policyOf(who actor, p policyAt, at time.Time) (*access.Policy, error) {
	if !p.known {
		return nil, fmt.Errorf("find the policy of %s: no record tells which one there was, neither one before that time nor the change after it", at.UTC().Format(time.RFC3339))
	}
	if p.later {
		d.warnf("no record of that time or before tells which policy there was: this is the one that the change of record %d, %s, has found", p.from, p.told.UTC().Format(time.RFC3339))
	}
	if p.changed {
		d.warnf("the file was changed without py3runctl, at a time between record %d of %s and %s: this is what held at the first of these times", p.from, p.told.UTC().Format(time.RFC3339), p.until.UTC().Format(time.RFC3339))
	}
	if p.sha256 == "" {
		return nil, nil
	}
	policy, err := access.Kept(who.state, p.sha256)
	if policy == nil && err == nil && who.policy != nil && who.policy.SHA256 == p.sha256 {
		policy = who.policy
	}
	if policy == nil && err == nil {
		err = fmt.Errorf("find the policy of %s: it was the one with the SHA-256 %s, and its text is not kept in %s", at.UTC().Format(time.RFC3339), p.sha256, who.state)
	}
	if err != nil {
		return nil, err
	}
	if !p.later {
		d.say("the policy was %s: record %d of %s tells it", p.sha256, p.from, p.told.UTC().Format(time.RFC3339))
	}
	return policy, nil
}

// findPolicy looks for the record that tells which policy was in force. Runs tell it in their start
// records, and changes in records of their own.
func (d logContext) findPolicy(places []string, at time.Time) (p policyAt, err error) {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return p, err
	}
	defer r.Close()
	return d.policyAmong(r.Records(audit.Position{}), places, at)
}

// policyAmong finds it in some records of the log, the oldest first.
func (d logContext) policyAmong(lines iter.Seq2[audit.Line, error], places []string, at time.Time) (p policyAt, err error) {
	for line, err := range lines {
		if bad := new(audit.LineError); errors.As(err, &bad) {
			d.warn(err)
			continue
		}
		if err != nil {
			return p, err
		}
		rec, err := line.Record()
		if err != nil {
			continue
		}
		old, sum, tells := policyIn(rec, places)
		if !tells {
			continue
		}
		if !line.Time.After(at) {
			p = policyAt{sha256: sum, known: true, from: rec.Seq, told: line.Time}
			continue
		}
		outside := rec.Event.Action == audit.PolicyChanged
		switch {
		case !p.known && old != nil: // a change tells what there was before
			p = policyAt{sha256: *old, known: true, from: rec.Seq, told: line.Time, later: true}
		case p.known && sum != p.sha256:
			p.changed, p.until = outside || old == nil, line.Time
		}
		return p, nil
	}
	return p, nil
}

// policyIn says which policy a record tells of, and, if it is the record of a change, the one before.
// Of the places where a run has looked, the first that had a policy counted.
func policyIn(rec audit.Record, places []string) (old *string, sum string, tells bool) {
	if rec.Policy != nil && slices.Contains(places, rec.Policy.Path) {
		return &rec.Policy.OldSHA256, rec.Policy.NewSHA256, true
	}
	for _, path := range places {
		for _, f := range rec.Config {
			if f.Path != path {
				continue
			}
			if tells = true; f.SHA256 != "" {
				return nil, f.SHA256, true
			}
		}
	}
	return nil, "", tells
}

// shownAccess is what one user may do, in JSON. Without a script only Run is there.
type shownAccess struct {
	User     string            `json:"user"`
	Roles    []access.Role     `json:"roles"`
	Groups   []string          `json:"groups"`
	OSUser   string            `json:"os_user,omitempty"`
	Keys     []string          `json:"keys"` // ids of those that were accepted
	Disabled bool              `json:"disabled"`
	May      map[string]string `json:"may"` // action to rule
}

// accessOfUsers is what each user may do, and what was asked.
func accessOfUsers(p *access.Policy, o *access.Object, at time.Time) (list []shownAccess, asked []access.Action) {
	object := access.Object{Kind: access.AdHocCode}
	asked = []access.Action{access.ToRun}
	if o != nil {
		object = *o
		asked = []access.Action{access.ToRun, access.ToRead, access.ToWrite, access.ToDelete, access.ToShare}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Users)) {
		u, g := p.Users[name], p.GrantOf(name)
		s := shownAccess{User: name, Roles: p.RolesOf(name), Groups: with([]string{}, u.Groups), OSUser: u.OSUser, Keys: []string{}, Disabled: u.Disabled, May: map[string]string{}}
		for id, k := range p.Keys {
			if k.User == name && keyState(p, k, at) == "active" && !k.Created.After(at) {
				s.Keys = append(s.Keys, id)
			}
		}
		slices.Sort(s.Keys)
		for _, a := range asked {
			if decision := p.Can(g, a, object); decision.Allowed && !u.Disabled {
				s.May[string(a)] = decision.Rule
			}
		}
		list = append(list, s)
	}
	return list, asked
}

func (d logContext) listAccess(p *access.Policy, o *access.Object, at time.Time, format string) error {
	list, asked := accessOfUsers(p, o, at)
	columns := []string{"user", "roles", "groups", "os_user", "keys", "disabled"}
	for _, a := range asked {
		columns = append(columns, "may_"+string(a))
	}
	return printList(d, format, list, columns, func(s shownAccess) []string {
		row := []string{s.User, joined(s.Roles), strings.Join(s.Groups, " "), s.OSUser, strings.Join(s.Keys, " "), map[bool]string{true: "disabled"}[s.Disabled]}
		for _, a := range asked {
			row = append(row, s.May[string(a)])
		}
		return row
	})
}
