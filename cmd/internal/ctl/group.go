package ctl

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/spelling"
)

func (a *app) group() *cobra.Command {
	c := &cobra.Command{Use: "group", Short: "Add, change and list the groups of the policy", Args: cobra.NoArgs,
		Long: `Groups stand in the policy file beside the users. A user has the roles of its groups, too, and a script
can be shared with a group. py3runctl user change NAME --add-group GROUP puts a user into a group.`,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		}}
	c.AddCommand(a.groupAdd(), a.groupChange(), a.groupList())
	return c
}

func (a *app) groupAdd() *cobra.Command {
	var names []string
	c := &cobra.Command{
		Use: "add NAME", Short: "Add a group", Args: exactly("NAME"),
		Example: "  py3runctl group add operators --role python3-executor",
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if !access.ValidName(name) {
				return cli.Usagef("invalid argument %q: a group's name is 1 to 64 ASCII letters, digits and . _ @ -, the first a letter or digit", name)
			}
			roles, err := parseRoles("role", names)
			if err != nil {
				return err
			}
			_, err = a.changePolicy(audit.GroupChanged, func(p *access.Policy) error {
				if _, ok := p.Groups[name]; ok {
					return refusedWith(fmt.Errorf("add group %s: the policy has it already", name), "py3runctl group change "+name+" changes it")
				}
				p.Groups[name] = access.Group{Name: name, Roles: roles}
				return nil
			})
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.Flags().StringArrayVar(&names, "role", nil, "give its members this `role`: "+roleList()+"; can be repeated")
	complete(c, "role", roleNames()...)
	return c
}

func (a *app) groupChange() *cobra.Command {
	var more, less []string
	c := &cobra.Command{
		Use: "change NAME", Short: "Change the roles of a group", Args: exactly("NAME"),
		Example: "  py3runctl group change operators --add-role python3-executor",
		RunE: func(c *cobra.Command, args []string) error {
			if len(more)+len(less) == 0 {
				return cli.Usagef("requires a flag that says what to change")
			}
			add, err := parseRoles("add-role", more)
			if err != nil {
				return err
			}
			remove, err := parseRoles("remove-role", less)
			if err != nil {
				return err
			}
			_, err = a.changePolicy(audit.GroupChanged, func(p *access.Policy) error {
				g, ok := p.Groups[args[0]]
				if !ok {
					return unknownGroup(p, args[0])
				}
				g.Roles = without(with(g.Roles, add), remove)
				p.Groups[g.Name] = g
				return nil
			})
			return err
		},
		ValidArgsFunction: a.completeGroups,
	}
	c.Flags().StringArrayVar(&more, "add-role", nil, "give its members this `role`: "+roleList()+"; can be repeated")
	c.Flags().StringArrayVar(&less, "remove-role", nil, "take this `role` away; can be repeated")
	complete(c, "add-role", roleNames()...)
	complete(c, "remove-role", roleNames()...)
	return c
}

// unknownGroup says that the policy has no such group.
func unknownGroup(p *access.Policy, name string) error {
	hint := "py3runctl group list shows the groups, and py3runctl group add " + name + " adds this one"
	if near := spelling.Nearest(name, slices.Sorted(maps.Keys(p.Groups))); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return refusedWith(fmt.Errorf("find group %q: not in the policy", name), hint)
}

func (a *app) completeGroups(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	p, err := access.Load(access.Places(a.environ), nil)
	if err != nil || p == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(p.Groups)), cobra.ShellCompDirectiveNoFileComp
}

// shownGroupOfUsers is a group in JSON.
type shownGroupOfUsers struct {
	Name    string        `json:"name"`
	Roles   []access.Role `json:"roles"`
	Members []string      `json:"members"`
}

func (a *app) groupList() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "list", Short: "Show the groups with their roles and members", Args: cobra.NoArgs,
		RunE: a.at(func(d logContext) error {
			if err := oneOf("format", format, "text", "json", "csv"); err != nil {
				return err
			}
			p, err := a.readPolicy()
			if p == nil || err != nil {
				return err
			}
			var list []shownGroupOfUsers
			for _, name := range slices.Sorted(maps.Keys(p.Groups)) {
				g := shownGroupOfUsers{Name: name, Roles: with([]access.Role{}, p.Groups[name].Roles), Members: []string{}}
				for _, user := range slices.Sorted(maps.Keys(p.Users)) {
					if slices.Contains(p.Users[user].Groups, name) {
						g.Members = append(g.Members, user)
					}
				}
				list = append(list, g)
			}
			return printList(d, format, list, []string{"group", "roles", "members"}, func(g shownGroupOfUsers) []string {
				return []string{g.Name, joined(g.Roles), strings.Join(g.Members, " ")}
			})
		}),
	}
	formatFlag(c, &format, "text", "json", "csv")
	return c
}
