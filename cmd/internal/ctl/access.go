package ctl

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
