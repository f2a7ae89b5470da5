package ctl

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/spelling"
)

func (a *app) user() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "Add, change and list the users of the policy", Args: cobra.NoArgs,
		Long: `Users stand in the policy file: /etc/py3run/policy.toml for the whole host, else policy.toml in the
directory of your own configuration. Comments in it stay. Each change is a record of the log.

Root may change the host's policy, and you your own; everybody else needs the role script-admin.
py3run help access tells more.`,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		}}
	c.AddCommand(neverThere("remove NAME", "a user stays in the policy, so that the log's names keep their meaning; did you mean py3runctl user disable NAME?", "rm", "delete"))
	c.AddCommand(a.userAdd(), a.userChange(), a.userSwitch(true), a.userSwitch(false), a.userList())
	return c
}

// A userEdit is what the flags say about a user.
type userEdit struct {
	roles, noRoles, groups, noGroups, limits, noLimits []string
	fullName, osUser                                   string
	given                                              func(flag string) bool
}

func (e *userEdit) flags(c *cobra.Command, a *app, add string) {
	f := c.Flags()
	f.StringArrayVar(&e.roles, add+"role", nil, "give this `role`: "+roleList()+"; can be repeated")
	f.StringArrayVar(&e.groups, add+"group", nil, "put the user into this `group` of the policy; can be repeated")
	f.StringArrayVar(&e.limits, "limit", nil, "limit the user's runs: `KEY=VALUE`, as security.max-memory-mb=256; can be repeated")
	f.StringVar(&e.fullName, "full-name", "", "the user's `name` for people")
	f.StringVar(&e.osUser, "os-user", "", "this `user` of the operating system is the user")
	e.given = f.Changed
	completeBy(c, add+"group", a.completeGroups)
	c.RegisterFlagCompletionFunc(add+"role", cobra.FixedCompletions(roleNames(), cobra.ShellCompDirectiveNoFileComp))
	c.RegisterFlagCompletionFunc("limit", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var keys []string
		for _, key := range config.LimitKeys() {
			keys = append(keys, key+"=")
		}
		return keys, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

func roleNames() []string { return access.Names(access.Roles) }

func roleList() string { return strings.Join(roleNames(), ", ") }

// parseRoles checks the roles of a flag.
func parseRoles(flag string, names []string) (roles []access.Role, err error) {
	for _, name := range names {
		if err := oneOf(flag, name, roleNames()...); err != nil {
			return nil, err
		}
		roles = append(roles, access.Role(name))
	}
	return roles, nil
}

// apply changes a user as the flags say. Its errors are mistakes on the command line.
func (e userEdit) apply(u access.User) (access.User, error) {
	more, err := parseRoles("role", e.roles)
	if err != nil {
		return u, err
	}
	less, err := parseRoles("remove-role", e.noRoles)
	if err != nil {
		return u, err
	}
	u.Roles = without(with(u.Roles, more), less)
	u.Groups = without(with(u.Groups, e.groups), e.noGroups)
	if e.given("full-name") {
		u.FullName = e.fullName
	}
	if e.given("os-user") {
		u.OSUser = e.osUser
	}
	u.Limits = maps.Clone(u.Limits)
	for _, text := range e.limits {
		key, value, err := config.ParseLimit(text)
		if err != nil {
			return u, cli.Usagef("invalid argument %q for --limit: %v", text, err)
		}
		if u.Limits == nil {
			u.Limits = config.Limits{}
		}
		u.Limits[key] = value
	}
	for _, key := range e.noLimits {
		if _, ok := u.Limits[key]; !ok {
			return u, cli.Usagef("invalid argument %q for --remove-limit: the user has no such limit", key)
		}
		delete(u.Limits, key)
	}
	return u, nil
}

// knownGroups refuses a group that the policy does not have.
func (e userEdit) knownGroups(p *access.Policy) error {
	for _, name := range e.groups {
		if _, ok := p.Groups[name]; !ok {
			return unknownGroup(p, name)
		}
	}
	return nil
}

// with is a list with more items, each once; without is one with less. Neither changes its argument.
func with[T comparable](list, more []T) []T {
	list = slices.Clone(list)
	for _, item := range more {
		if !slices.Contains(list, item) {
			list = append(list, item)
		}
	}
	return list
}

func without[T comparable](list, less []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(item T) bool { return slices.Contains(less, item) })
}

func (a *app) userAdd() *cobra.Command {
	var e userEdit
	c := &cobra.Command{
		Use: "add NAME", Short: "Add a user", Args: exactly("NAME"),
		Long: `Adds a user to the policy, and makes the policy if there is none. From then on a user that the policy
knows needs the role python3-executor to run code.`,
		Example: "  py3runctl user add alice --role python3-executor --os-user alice --full-name \"Alice Example\"\n" +
			"  py3runctl user add gateway-a --role python3-executor --limit security.max-memory-mb=512",
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if !access.ValidName(name) {
				return cli.Usagef("invalid argument %q: a user's name is 1 to 64 ASCII letters, digits and . _ @ -, the first a letter or digit", name)
			}
			u, err := e.apply(access.User{Name: name})
			if err != nil {
				return err
			}
			_, err = a.changePolicy(audit.UserAdded, func(p *access.Policy) error {
				if _, ok := p.Users[name]; ok {
					return refusedWith(fmt.Errorf("add user %s: the policy has it already", name), "py3runctl user change "+name+" changes it")
				}
				for other := range p.Users {
					if strings.EqualFold(other, name) {
						return refusedWith(fmt.Errorf("add user %s: the policy has the user %s, and two names must not differ by case only", name, other), "choose another name, or change "+other)
					}
				}
				p.Users[name] = u
				return e.knownGroups(p)
			})
			return err
		},
	}
	e.flags(c, a, "")
	return c
}

func (a *app) userChange() *cobra.Command {
	var e userEdit
	c := &cobra.Command{
		Use: "change NAME", Short: "Change a user's roles, groups, limits and names", Args: exactly("NAME"),
		Long:    "Roles are read at each use: a change holds from the next run on, also for the user's keys.",
		Example: "  py3runctl user change alice --add-role script-admin\n  py3runctl user change alice --remove-limit security.max-memory-mb",
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().NFlag() == 0 {
				return cli.Usagef("requires a flag that says what to change")
			}
			_, err := a.changePolicy(audit.UserChanged, func(p *access.Policy) error {
				u, ok := p.Users[args[0]]
				if !ok {
					return unknownUser(p, args[0])
				}
				u, err := e.apply(u)
				if err != nil {
					return err
				}
				p.Users[args[0]] = u
				return e.knownGroups(p)
			})
			return err
		},
		ValidArgsFunction: a.completeUsers,
	}
	e.flags(c, a, "add-")
	c.Flags().StringArrayVar(&e.noRoles, "remove-role", nil, "take this `role` away; can be repeated")
	c.Flags().StringArrayVar(&e.noGroups, "remove-group", nil, "take the user out of this `group`; can be repeated")
	c.Flags().StringArrayVar(&e.noLimits, "remove-limit", nil, "remove the limit of this `key`; can be repeated")
	completeBy(c, "remove-group", a.completeGroups)
	complete(c, "remove-limit", config.LimitKeys()...)
	c.RegisterFlagCompletionFunc("remove-role", cobra.FixedCompletions(roleNames(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) userSwitch(disable bool) *cobra.Command {
	c := &cobra.Command{
		Use: "enable NAME", Short: "Let a disabled user run code again", Args: exactly("NAME"),
		Long:              "The user has the roles and keys that it had before, except those that were taken away since.",
		ValidArgsFunction: a.completeUsers,
	}
	action := audit.UserChanged
	if disable {
		action = audit.UserDisabled
		c.Use, c.Short = "disable NAME", "Refuse everything to a user, at once"
		c.Long = `Refuses each run of the user from now on: with its keys, by its user of the operating system, and
where only its name is given. Runs that are alive go on: py3runctl ps and py3runctl cancel end them.
The user stays in the policy, so that the log's names keep their meaning.`
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		return a.changeUser(args[0], action, func(u access.User) (access.User, error) {
			u.Disabled = disable
			return u, nil
		})
	}
	return c
}

// changeUser changes a user that the policy has.
func (a *app) changeUser(name string, action audit.Action, change func(access.User) (access.User, error)) error {
	_, err := a.changePolicy(action, func(p *access.Policy) error {
		u, ok := p.Users[name]
		if !ok {
			return unknownUser(p, name)
		}
		u, err := change(u)
		p.Users[name] = u
		return err
	})
	return err
}

// An unknownUserError says that the policy has no such user.
type unknownUserError struct{ name, near string }

func unknownUser(p *access.Policy, name string) error {
	return &unknownUserError{name, spelling.Nearest(name, slices.Sorted(maps.Keys(p.Users)))}
}

func (e *unknownUserError) Error() string {
	return fmt.Sprintf("find user %q: not in the policy", e.name)
}

func (a *app) completeUsers(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	p, err := access.Load(access.Places(a.environ), nil)
	if err != nil || p == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(p.Users)), cobra.ShellCompDirectiveNoFileComp
}

// shownUser is a user in JSON.
type shownUser struct {
	Name     string        `json:"name"`
	FullName string        `json:"full_name,omitempty"`
	Roles    []access.Role `json:"roles"`
	Groups   []string      `json:"groups"`
	OSUser   string        `json:"os_user,omitempty"`
	Disabled bool          `json:"disabled"`
	Limits   config.Limits `json:"limits,omitempty"`
	Keys     int           `json:"keys"` // that are accepted now
}

func (a *app) userList() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "list", Short: "Show the users with their roles", Args: cobra.NoArgs,
		Long: "Roles are those that hold: the user's own, and those of its groups.",
		RunE: a.at(func(d logContext) error {
			if err := oneOf("format", format, "text", "json", "csv"); err != nil {
				return err
			}
			p, err := a.readPolicy()
			if p == nil || err != nil {
				return err
			}
			return d.listUsers(p, format)
		}),
	}
	formatFlag(c, &format, "text", "json", "csv")
	return c
}

// readPolicy returns the policy for a command that shows it. Where there is none, it says so.
func (a *app) readPolicy() (*access.Policy, error) {
	who, err := a.actor()
	if err != nil {
		return nil, err
	}
	if who.policy == nil {
		a.messages().Warnf("there is no policy: everybody may run code")
		return nil, nil
	}
	return who.policy, who.may(access.ToRead, access.Object{Kind: access.ThePolicy})
}

func (d logContext) listUsers(p *access.Policy, format string) error {
	var list []shownUser
	for _, name := range slices.Sorted(maps.Keys(p.Users)) {
		u := p.Users[name]
		s := shownUser{Name: name, FullName: u.FullName, Roles: p.RolesOf(name), Groups: with([]string{}, u.Groups), OSUser: u.OSUser, Disabled: u.Disabled, Keys: len(acceptedKeys(p, name))}
		s.Limits = u.Limits
		list = append(list, s)
	}
	return printList(d, format, list, []string{"user", "roles", "groups", "os_user", "keys", "disabled", "full_name", "limits"}, func(s shownUser) []string {
		var limits []string
		for _, key := range s.Limits.Keys() {
			limits = append(limits, key+"="+s.Limits.Text(key))
		}
		return []string{s.Name, joined(s.Roles), strings.Join(s.Groups, " "), s.OSUser, fmt.Sprint(s.Keys), map[bool]string{true: "disabled"}[s.Disabled], s.FullName, strings.Join(limits, " ")}
	})
}

func joined(roles []access.Role) string { return strings.Join(access.Names(roles), " ") }

// printList prints a list as a table, as CSV, or as one JSON object a line.
func printList[T any](d logContext, format string, list []T, columns []string, cells func(T) []string) error {
	switch d.formatOf(format) {
	case "json":
		for _, item := range list {
			if err := writeJSON(d.out, item); err != nil {
				return err
			}
		}
		return nil
	case "csv":
		w := csv.NewWriter(d.out)
		w.Write(columns)
		for _, item := range list {
			row := cells(item)
			for i := range row {
				row[i] = cell(row[i])
			}
			w.Write(row)
		}
		w.Flush()
		return w.Error()
	}
	times := false
	shown := make([]column, len(columns))
	for i, name := range columns {
		times = times || timeColumns[name]
		shown[i] = listColumn(name, i)
	}
	t := d.newTable(times, shown...)
	for _, item := range list {
		row := cells(item)
		for i := range row {
			if timeColumns[columns[i]] {
				row[i] = d.shownTime(row[i])
			}
		}
		t.add(row...)
	}
	return t.write(d.out)
}

// listColumn is a column of a list in a table. Lists are short, so no text is cut. The first column names
// the item and always stays; where there is little room, the last of the others goes first.
func listColumn(name string, place int) column {
	c := column{title: name, rank: place, right: numberColumns[name]}
	switch {
	case timeColumns[name]:
		c.short = func(at string) string { return whole(at[:min(len(at), len("2006-01-02 15:04"))]) }
	case !c.right:
		c.least, c.wraps = 10, true
	}
	return c
}

// timeColumns are the columns of lists with times, which tables have in the zone of --tz; numberColumns
// are those with numbers.
var (
	timeColumns   = map[string]bool{"created": true, "expires": true, "revoked": true, "last": true, "changed": true, "time": true}
	numberColumns = map[string]bool{"keys": true, "version": true, "bytes": true, "minute": true, "hour": true, "running": true, "free_in": true, "versions": true}
)

// neverThere is a command that there is not on purpose: it says what there is instead.
func neverThere(use, hint string, aliases ...string) *cobra.Command {
	return &cobra.Command{Use: use, Aliases: aliases, Hidden: true, Args: cobra.ArbitraryArgs, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return &cli.UsageError{Text: fmt.Sprintf("unknown command %q for %q", c.CalledAs(), c.Parent().CommandPath()), Hint: hint}
		}}
}
