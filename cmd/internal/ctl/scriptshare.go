package ctl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/scripts"
)

func (a *app) scriptShare() *cobra.Command {
	var with, actions string
	var remove bool
	c := &cobra.Command{
		Use: "share NAME --with USER|group:GROUP", Short: "Let a user or a group run, read or write a script", Args: exactly("NAME"), ValidArgsFunction: a.completeOne,
		Long: `Replaces what the user or the group could do before. To run a script is not to read it, and to write
it is neither. Whoever runs it needs the role python3-executor, too.`,
		Example: "  py3runctl script share tank/daily --with group:operators --actions run\n  py3runctl script share tank/daily --with bob --remove",
	}
	c.RunE = a.withScripts(true, func(d scriptContext, args []string) error {
		list := strings.Split(actions, ",")
		switch {
		case remove && c.Flags().Changed("actions"):
			return cli.Usagef("invalid argument %q for --actions: --remove takes all of them away", actions)
		case remove:
			list = nil
		}
		var what []access.Action
		for _, word := range list {
			if err := oneOf("actions", strings.TrimSpace(word), "run", "read", "write"); err != nil {
				return err
			}
			what = append(what, access.Action(strings.TrimSpace(word)))
		}
		if err := d.known(with, remove); err != nil {
			return err
		}
		change, err := d.store.Share(args[0], with, what, d.edit(args[0], access.ToShare))
		if err != nil {
			return err
		}
		return d.record(audit.ScriptShared, change)
	})
	f := c.Flags()
	f.StringVar(&with, "with", "", "the `user`, or group:NAME")
	f.StringVar(&actions, "actions", "run", "what they may do: a `list` of run, read and write")
	f.BoolVar(&remove, "remove", false, "let them do nothing any more")
	c.MarkFlagRequired("with")
	c.RegisterFlagCompletionFunc("actions", cobra.FixedCompletions([]string{"run", "read", "write", "run,read", "run,read,write"}, cobra.ShellCompDirectiveNoFileComp))
	completeBy(c, "with", a.completeUsersAndGroups)
	return c
}

// known checks a user or group with whom a script is to be shared: a mistyped name would be a share
// with somebody who comes later.
func (d scriptContext) known(with string, remove bool) error {
	group, isGroup := strings.CutPrefix(with, "group:")
	policy := d.who.policy
	switch {
	case !access.ValidName(group):
		return cli.Usagef("invalid argument %q for --with: want the name of a user, or group:NAME", with)
	case remove:
	case policy == nil:
		d.warnf("there is no policy: the share begins to count with one that knows %s", with)
	case isGroup:
		if _, ok := policy.Groups[group]; !ok {
			return refusedWith(fmt.Errorf("share with %s: the policy %s has no such group", with, policy.Path), "py3runctl group list shows the groups")
		}
	default:
		if _, ok := policy.Users[with]; !ok {
			hint := "py3runctl user list shows the users"
			if _, ok := policy.Groups[with]; ok {
				hint = "did you mean group:" + with + "?"
			}
			return refusedWith(fmt.Errorf("share with %s: the policy %s has no such user", with, policy.Path), hint)
		}
	}
	return nil
}

func (a *app) scriptPublish(public bool) *cobra.Command {
	c := &cobra.Command{Use: "public NAME", Short: "Let everybody who may run code run and read a script", Args: exactly("NAME"), ValidArgsFunction: a.completeOne}
	if !public {
		c.Use, c.Short = "private NAME", "Let only those use a script with whom it is shared"
	}
	c.RunE = a.withScripts(true, func(d scriptContext, args []string) error {
		change, err := d.store.Publish(args[0], public, d.edit(args[0], access.ToShare))
		if err != nil {
			return err
		}
		return d.record(audit.ScriptShared, change)
	})
	return c
}

func (a *app) scriptRemove() *cobra.Command {
	var ifVersion int
	c := &cobra.Command{
		Use: "rm NAME", Short: "Delete a script; its versions stay in its history", Args: exactly("NAME"), ValidArgsFunction: a.completeOne,
		Long: `The script cannot be run any more, and its shares end. Its author and script-admins can still read its
versions, and save it again: py3runctl script show NAME@VERSION | py3runctl script save NAME -`,
	}
	c.RunE = a.withScripts(true, func(d scriptContext, args []string) error {
		edit := d.edit(args[0], access.ToDelete)
		if c.Flags().Changed("if-version") {
			edit.IfVersion = &ifVersion
		}
		change, err := d.store.Delete(args[0], edit)
		if conflict := new(scripts.ConflictError); errors.As(err, &conflict) {
			return refusedWith(fmt.Errorf("delete script %s: not at version %d: its current version is %d, by %s", conflict.Name, conflict.Want, conflict.Current.Number, conflict.Current.Author),
				fmt.Sprintf("py3runctl script show %s shows it; --if-version %d deletes it", conflict.Name, conflict.Current.Number))
		}
		if err != nil {
			return err
		}
		err = d.record(audit.ScriptDeleted, change)
		d.sweepScripts(d.who)
		return err
	})
	c.Flags().IntVar(&ifVersion, "if-version", 0, "delete only if the newest `version` is this one")
	return c
}
