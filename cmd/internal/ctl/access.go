package ctl

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/scripts"
	"py3run/internal/envvar"
)

func (a *app) access() *cobra.Command {
	c := &cobra.Command{Use: "access", Short: "Say who may do what, who could at a time, and whether the policy is right", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		}}
	c.AddCommand(a.accessCheck(), a.accessWho(), a.accessPolicy())
	return c
}

// actions are what access check can be asked about.
var actions = []access.Action{access.ToRun, access.ToRead, access.ToWrite, access.ToDelete, access.ToShare, access.ToList, access.ToSeeHistory, access.ToManage}

func actionNames() (names []string) {
	for _, a := range actions {
		names = append(names, string(a))
	}
	return names
}

// shownDecision is the answer of access check in JSON.
type shownDecision struct {
	User    string        `json:"user"`
	Method  access.Method `json:"method"`
	Roles   []access.Role `json:"roles"`
	KeyID   string        `json:"key_id,omitempty"`
	Holder  string        `json:"holder,omitempty"`
	Action  access.Action `json:"action"`
	Object  string        `json:"object"`
	Allowed bool          `json:"allowed"`
	Rule    string        `json:"rule"`
	Reason  string        `json:"reason,omitempty"` // why not
	Code    string        `json:"code,omitempty"`
	Limits  []shownBound  `json:"limits,omitempty"` // of a run
	Policy  string        `json:"policy,omitempty"` // SHA-256
}

// shownBound is a limit that the policy sets for a run.
type shownBound struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
	Where string `json:"where"`
}

// A permissionQuestion is one call of access check.
type permissionQuestion struct {
	user, action, script, keyFile, owner, mode, format string
}

func (a *app) accessCheck() *cobra.Command {
	var q permissionQuestion
	c := &cobra.Command{
		Use: "check", Short: "Say whether a user may do something, and by which rule", Args: cobra.NoArgs,
		Long: `Answers with the function that decides for runs and for all commands. With --user alone, the user is
taken to have proved who it is. With --key-file, the key decides, and --user is whom its holder names.
Nothing is run, and the answer is no record.

Without --script, run means code that a request brings along, history and read mean the runs of
--owner, and manage means users, keys and the policy.

Exit status: 0 allowed; 1 not allowed; 3 it could not be decided.`,
		Example: "  py3runctl access check --user alice --action run --script plant/tank-balance\n  py3runctl access check --key-file alice.key --action run",
		RunE: func(*cobra.Command, []string) error {
			if err := errors.Join(oneOf("action", q.action, actionNames()...), oneOf("format", q.format, "text", "json")); err != nil {
				return err
			}
			if q.user == "" && q.keyFile == "" {
				return cli.Usagef("requires --user or --key-file")
			}
			d, err := a.logContext()
			if err != nil {
				return a.answering(err)
			}
			return a.answering(a.checkAccess(d, q))
		},
	}
	f := c.Flags()
	f.StringVar(&q.user, "user", "", "the `user`")
	f.StringVar(&q.action, "action", "run", "what it wants to do: "+strings.Join(actionNames(), ", "))
	f.StringVar(&q.script, "script", "", "with this stored `script`")
	f.StringVar(&q.keyFile, "key-file", "", "with the API key in this `file`")
	f.StringVar(&q.owner, "owner", "", "with runs of this `user`")
	f.StringVar(&q.mode, "security-mode", "", "with this security_mode in the request, for the limits of a `run`")
	f.StringVar(&q.format, "format", "", "text or json (default: text on a terminal, else json)")
	c.RegisterFlagCompletionFunc("action", cobra.FixedCompletions(actionNames(), cobra.ShellCompDirectiveNoFileComp))
	c.RegisterFlagCompletionFunc("user", a.completeUsers)
	completeBy(c, "owner", a.completeUsers)
	completeBy(c, "script", a.completeOne)
	return c
}

func (a *app) checkAccess(d logContext, q permissionQuestion) error {
	who, err := a.actor()
	if err != nil {
		return err
	}
	if self := q.keyFile == "" && who.grant.Known && q.user == who.grant.User; !self {
		if err := who.may(access.ToRead, access.Object{Kind: access.ThePolicy}); err != nil {
			return err
		}
	}
	policy := who.policy
	action := access.Action(q.action)
	object := access.Object{Kind: access.AdHocCode}
	about := "code"
	switch {
	case q.script != "":
		if object, err = a.scriptObject(q.script); err != nil {
			return err
		}
		about = "script " + object.Name
	case action == access.ToSeeHistory, action == access.ToRead, action == access.ToList:
		object, about = access.Object{Kind: access.PastRun, Owner: q.owner}, "runs"
		if q.owner != "" {
			about += " of " + q.owner
		}
	case action == access.ToManage:
		object, about = access.Object{Kind: access.ThePolicy}, "policy"
	case action != access.ToRun:
		return cli.Usagef("requires --script: %s is about a stored script", q.action)
	}
	shown := shownDecision{User: q.user, Action: action, Object: about}
	grant, denied := policy.GrantOf(q.user), (*access.Denial)(nil)
	if u, ok := policyUser(policy, q.user); ok && u.Disabled && q.keyFile == "" {
		denied = &access.Denial{Code: access.DisabledUser, Message: "the user " + q.user + " is disabled"}
	}
	if q.keyFile != "" {
		key, err := readAPIKey(q.keyFile)
		if err != nil {
			return err
		}
		defer key.Forget()
		grant, denied = policy.Identify(access.Claim{Key: key.Text(), User: q.user, OSUID: -1, At: time.Now()})
	}
	if denied != nil { // whoever can ask this can read the policy, and so learns the reason
		shown.Rule, shown.Reason, shown.Code, shown.KeyID = "identity."+denied.Code, denied.Message, denied.Code, denied.KeyID
		shown.User = orName(shown.User, denied.User)
		return d.printDecision(shown, q.format)
	}
	shown.User, shown.Method, shown.Roles, shown.KeyID, shown.Holder, shown.Policy = grant.User, grant.Method, with([]access.Role{}, grant.Roles), grant.KeyID, grant.Holder, grant.Policy
	decision := policy.Can(grant, action, object)
	shown.Allowed, shown.Rule = decision.Allowed, decision.Rule
	if !decision.Allowed {
		no := decision.Denial(grant, action, object)
		shown.Reason, shown.Code = no.Message, no.Code
	} else if action == access.ToRun {
		for _, b := range policy.LimitsFor(grant, q.mode) {
			shown.Limits = append(shown.Limits, shownBound{b.Key, b.Value, b.Where})
		}
	}
	return d.printDecision(shown, q.format)
}

func policyUser(p *access.Policy, name string) (u access.User, ok bool) {
	if p != nil {
		u, ok = p.Users[name]
	}
	return u, ok
}

func orName(name, other string) string {
	if name == "" {
		return other
	}
	return name
}

func (d logContext) printDecision(s shownDecision, format string) error {
	var err error
	if d.formatOf(format) == "json" {
		err = writeJSON(d.out, s)
	} else {
		answer := "allowed"
		if !s.Allowed {
			answer = "not allowed"
		}
		_, err = fmt.Fprintf(d.out, "%s: %s may %s %s: rule %s\n", answer, plain(orName(s.User, "nobody")), s.Action, plain(s.Object), s.Rule)
		if s.Reason != "" && err == nil {
			_, err = fmt.Fprintf(d.out, "  %s\n", plain(s.Reason))
		}
		for _, b := range s.Limits {
			if err == nil {
				_, err = fmt.Fprintf(d.out, "  %s = %v, by %s\n", b.Key, b.Value, plain(b.Where))
			}
		}
	}
	if err == nil && !s.Allowed {
		err = cli.ExitCode(exitFailed)
	}
	return err
}

// scriptObject is a stored script as the rules see it.
func (a *app) scriptObject(name string) (access.Object, error) {
	store, err := a.openScripts()
	if err != nil {
		return access.Object{}, err
	}
	defer store.Close()
	entry, err := store.Find(name)
	if err == nil && entry.Current == 0 {
		err = scripts.NotFound(name)
	}
	if err != nil {
		return access.Object{}, err
	}
	return entry.Object(), nil
}

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
	for line, err := range r.Records(audit.Position{}) {
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

func (d logContext) listAccess(p *access.Policy, o *access.Object, at time.Time, format string) error {
	object := access.Object{Kind: access.AdHocCode}
	asked := []access.Action{access.ToRun}
	if o != nil {
		object = *o
		asked = []access.Action{access.ToRun, access.ToRead, access.ToWrite, access.ToDelete, access.ToShare}
	}
	var list []shownAccess
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

func (a *app) accessPolicy() *cobra.Command {
	c := &cobra.Command{
		Use: "policy [FILE]", Short: "Say everything that is wrong with a policy file", Args: cobra.MaximumNArgs(1),
		Long: `Checks FILE, or else the policy that holds here: its mode and owner, its form, and what refers to
something that is not there. A policy that is wrong refuses every run.

Exit status: 0 nothing is wrong; 1 something is, or there is no policy.`,
		RunE: func(_ *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			} else {
				for _, place := range access.Places(a.environ) {
					if _, err := os.Lstat(place); !errors.Is(err, os.ErrNotExist) {
						path = place
						break
					}
				}
			}
			if path == "" {
				return fmt.Errorf("check the policy: there is none in %s", strings.Join(access.Places(a.environ), " and "))
			}
			if err := a.mayReadPolicy(); err != nil {
				return err
			}
			p, findings := access.Check(path)
			for i := range findings {
				fmt.Fprintf(a.out, "%s\n", harmless(findings[i].Error()))
				if h := findings[i].Hint; h != "" {
					fmt.Fprintf(a.out, "  %s\n", harmless(h))
				}
			}
			if len(findings) > 0 {
				return cli.ExitCode(exitFailed)
			}
			fmt.Fprintf(a.out, "%s: nothing is wrong: %s, %s, %s, SHA-256 %s\n", path, counted(len(p.Users), "user"), counted(len(p.Groups), "group"), counted(len(p.Keys), "key"), p.SHA256)
			return nil
		},
	}
	return c
}

// mayReadPolicy says why the caller may not read the policy; nil: it may. A policy that is broken says
// nothing about anybody: then the permissions of its file decide, except for who shows a key.
func (a *app) mayReadPolicy() error {
	who, err := a.actor()
	if err == nil {
		return who.may(access.ToRead, access.Object{Kind: access.ThePolicy})
	}
	if broken := new(access.PolicyError); errors.As(err, &broken) && envvar.Lookup(a.environ, "PY3RUN_API_KEY_FILE") == "" {
		return nil
	}
	return err
}

// openScripts opens the store of scripts.
func (a *app) openScripts() (*scripts.Store, error) {
	who, err := a.actor()
	if err != nil {
		return nil, err
	}
	return scripts.Open(scripts.Dir(who.state))
}
