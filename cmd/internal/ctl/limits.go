package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
)

func (a *app) limits() *cobra.Command {
	c := &cobra.Command{Use: "limits", Short: "Show and reset how many runs users have had", Args: cobra.NoArgs,
		Long: `The limits of security.rate-limit count the runs of users that a key proves or a request names. The
counts are those of one user of the operating system: root sees root's. py3run help limits tells more.`,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		}}
	c.AddCommand(a.limitsShow(), a.limitsReset())
	return c
}

func (a *app) limitsShow() *cobra.Command {
	var user, format string
	c := &cobra.Command{
		Use: "show", Short: "Show the runs that count for each user, and what is left", Args: cobra.NoArgs,
		Long: `Shows, for each user with a run within the last hour, how many began within the last minute and hour
and how many are under way, each with its limit; and the limit that would refuse a run now. The limits
are those of the configuration and of the policy. Showing counts nothing.

The first row is about all users. "known" is a user that a key or the operating system proves, and
"asserted" a name that requests gave: the two count apart. "others" are users for whom the file had
no place any more.`,
		Example: "  py3runctl limits show --user alice",
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("format", format, "text", "json", "csv"); err != nil {
				return err
			}
			return a.showLimits(user, format)
		},
	}
	c.Flags().StringVar(&user, "user", "", "show only this `user`")
	formatFlag(c, &format, "text", "json", "csv")
	c.RegisterFlagCompletionFunc("user", a.completeUsers)
	return c
}

// shownUse is what counts for a user, in JSON. A limit that is absent does not limit.
type shownUse struct {
	User       string      `json:"user"`
	Standing   string      `json:"standing"` // known, asserted, os-user, others; all: of all users together
	Minute     int         `json:"minute"`
	PerMinute  int         `json:"per_minute,omitempty"`
	Hour       int         `json:"hour"`
	PerHour    int         `json:"per_hour,omitempty"`
	Running    *int        `json:"running,omitempty"`
	Concurrent int         `json:"concurrent,omitempty"`
	Last       string      `json:"last,omitempty"` // when the last run began
	Refused    *shownLimit `json:"refused,omitempty"`
}

// shownLimit is a limit that would refuse a run now.
type shownLimit struct {
	Limit        string `json:"limit"`
	RetryAfterMS int64  `json:"retry_after_ms"`
}

// showLimits also writes the summaries of refusals that are due: the next run may come late.
func (a *app) showLimits(user, format string) error {
	d, err := a.logContext()
	if err != nil {
		return err
	}
	who, err := a.actor()
	if err != nil {
		return err
	}
	if err := who.may(access.ToRead, access.Object{Kind: access.ThePolicy}); err != nil {
		return err
	}
	limits := access.NewLimits(who.state)
	all, users, notes := limits.Usage()
	if notes.Trouble != nil {
		d.warnf("%v", notes.Trouble)
	}
	var list []shownUse
	if user == "" {
		list = append(list, shownUse{Standing: "all", Minute: all.Minute, PerMinute: d.config.Security.RateLimit.GlobalPerMinute, Hour: all.Hour, Last: shownTime(all.Last)})
	}
	for _, u := range users {
		if user == "" || u.Name == user {
			list = append(list, shownUseOf(u, all, d.ratesFor(u, who.policy)))
		}
	}
	if err := recordRefusals(d.dir, limits, notes.Trouble); err != nil {
		d.warnf("%v", err)
	}
	if d.formatOf(format) == "csv" {
		return printList(d, format, list, []string{"user", "standing", "minute", "per_minute", "hour", "per_hour", "running", "concurrent", "refused_by", "retry_after_ms", "last"}, useCells)
	}
	return printList(d, format, list, []string{"user", "standing", "minute", "hour", "running", "refused_by", "free_in", "last"}, func(s shownUse) []string {
		running, by, in := "", "", ""
		if s.Running != nil {
			running = used(*s.Running, s.Concurrent)
		}
		if s.Refused != nil {
			by, in = s.Refused.Limit, shortTime(time.Duration(s.Refused.RetryAfterMS)*time.Millisecond)
		}
		return []string{s.User, s.Standing, used(s.Minute, s.PerMinute), used(s.Hour, s.PerHour), running, by, in, s.Last}
	})
}

// useCells has one value in each cell. A limit that does not limit is empty.
func useCells(s shownUse) []string {
	limit := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprint(n)
	}
	running, by, in := "", "", ""
	if s.Running != nil {
		running = fmt.Sprint(*s.Running)
	}
	if s.Refused != nil {
		by, in = s.Refused.Limit, fmt.Sprint(s.Refused.RetryAfterMS)
	}
	return []string{s.User, s.Standing, fmt.Sprint(s.Minute), limit(s.PerMinute), fmt.Sprint(s.Hour), limit(s.PerHour), running, limit(s.Concurrent), by, in, s.Last}
}

// used is a count and its limit in one word.
func used(n, most int) string {
	if most == 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d/%d", n, most)
}

func shownTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func shownUseOf(u, all access.Use, most access.Rates) shownUse {
	s := shownUse{User: u.Name, Standing: string(u.Standing), Minute: u.Minute, PerMinute: most.PerMinute, Hour: u.Hour, PerHour: most.PerHour,
		Running: &u.Running, Concurrent: most.Concurrent, Last: shownTime(u.Last)}
	if l := u.Next(all, most); l != nil {
		s.Refused = &shownLimit{l.Limit, (l.RetryAfter + time.Millisecond - 1).Milliseconds()}
	}
	return s
}

// ratesFor is what the configuration and the policy allow a user.
func (d logContext) ratesFor(u access.Use, policy *access.Policy) access.Rates {
	grant := access.Grant{User: u.Name, Method: access.ByClaim}
	if u.Standing == access.Proved && policy != nil {
		grant = access.Grant{User: u.Name, Method: access.ByKey, Known: true, Roles: policy.RolesOf(u.Name)}
	}
	c, _ := config.Tighten(d.config, d.origins, policy.LimitsFor(grant, ""))
	return access.RatesOf(c.Security.RateLimit)
}

// recordRefusals writes summaries of refusals that have no record yet, and trouble with the file of the
// limits.
func recordRefusals(dir string, limits *access.Limits, trouble *access.Trouble) error {
	notes := limits.Due()
	trouble = cmp.Or(trouble, notes.Trouble)
	if len(notes.Due) == 0 && trouble == nil {
		return nil
	}
	log, err := audit.Open(dir)
	if err != nil {
		return fmt.Errorf("refusals are not recorded yet: %w", err)
	}
	defer log.Close()
	if trouble != nil {
		if _, err := log.Append(operator().OfTrouble(trouble.Code, trouble.Message)); err != nil {
			return fmt.Errorf("the trouble with the limits is not recorded: %w", err)
		}
	}
	for i, s := range notes.Due {
		rec := operator()
		rec.Auth.Method, rec.Auth.KeyID = audit.AuthMethod(s.Method), s.KeyID // how the refused user was known
		if _, err := log.Append(rec.OfRefusals(s.User, s.Code, s.Count, s.First, s.Last)); err != nil {
			limits.Recorded(notes.Due[:i])
			return fmt.Errorf("refusals are not recorded yet: %w", err)
		}
	}
	limits.Recorded(notes.Due)
	return nil
}

func (a *app) limitsReset() *cobra.Command {
	var user string
	var everybody bool
	c := &cobra.Command{
		Use: "reset {--user NAME | --all}", Short: "Forget the runs of a user, or of all", Args: cobra.NoArgs,
		Long: `Forgets the runs that began, so that the user can begin as many again. What is under way still counts
for concurrent-per-user, and for one user the count of all users stays. It needs the role script-admin,
where there is a policy, or its owner; a record of the log says who did it.`,
		Example: "  py3runctl limits reset --user alice",
		RunE: func(c *cobra.Command, _ []string) error {
			if everybody == c.Flags().Changed("user") || !everybody && user == "" {
				return cli.Usagef("requires either --user NAME or --all")
			}
			return a.resetLimits(user)
		},
	}
	c.Flags().StringVar(&user, "user", "", "the `name`, whether it is known or asserted")
	c.Flags().BoolVar(&everybody, "all", false, "all users")
	c.RegisterFlagCompletionFunc("user", a.completeUsers)
	return c
}

func (a *app) resetLimits(user string) error {
	d, err := a.logContext()
	if err != nil {
		return err
	}
	who, err := a.actor()
	if err != nil {
		return err
	}
	if err := who.may(access.ToManage, access.Object{Kind: access.ThePolicy}); err != nil {
		return err
	}
	limits := access.NewLimits(who.state)
	if user != "" && !knownToLimits(limits, who.policy, user) {
		return refusedWith(fmt.Errorf("reset the limits of %q: no such user has had a run within the last hour, and the policy has none", user), "py3runctl limits show lists the users with runs that count")
	}
	log, err := audit.Open(d.dir) // first: what cannot be recorded is not done
	if err != nil {
		return err
	}
	defer log.Close()
	n, failed := limits.Reset(user)
	rec := who.record()
	rec.Event = audit.Event{Action: audit.LimitsReset, Outcome: audit.Success, Reason: "all users"}
	if user != "" {
		rec.Event.Reason = "user " + user
	}
	if failed != nil {
		rec.Event.Outcome = audit.Failure
	}
	receipt, err := log.Append(rec)
	if err := errors.Join(failed, err); err != nil {
		return err
	}
	what := "the runs of " + counted(n, "user") + " are forgotten"
	switch {
	case n == 0:
		what = "there were no runs to forget"
	case user != "":
		what = "the runs of the user " + user + " are forgotten"
	}
	d.say("%s; record %d tells it", what, receipt.Seq)
	return nil
}

// knownToLimits reports whether a name is that of a user of the policy, or of one with runs that count.
func knownToLimits(limits *access.Limits, policy *access.Policy, name string) bool {
	if _, known := policyUser(policy, name); known {
		return true
	}
	_, users, _ := limits.Usage()
	return slices.ContainsFunc(users, func(u access.Use) bool { return u.Name == name })
}
