package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
)

func (a *app) key() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "Make, replace, revoke and list API keys", Args: cobra.NoArgs,
		Long: `An API key proves to py3run who a caller is: api_key in a request, or the file that
PY3RUN_API_KEY_FILE names. The policy keeps only a hash of it. py3run help access tells more.`,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		}}
	c.AddCommand(a.keyCreate(), a.keyRotate(), a.keyRevoke(), a.keyList())
	return c
}

// A newKey is what the flags say about a key to make.
type newKey struct {
	roles, mayAssert      []string
	expires, comment, out string
}

func (k *newKey) flags(c *cobra.Command) {
	c.Flags().StringVar(&k.expires, "expires", "", "the key ends at this `time`: 2027-12-01, 2027-12-01T10:00:00Z, or after 90d or 12h")
	c.Flags().StringVar(&k.comment, "comment", "", "what the key is for")
	c.Flags().StringVar(&k.out, "out", "", "write the key to this `file` (mode 0600), which must not exist, instead of to standard output")
}

func (a *app) keyCreate() *cobra.Command {
	var k newKey
	c := &cobra.Command{
		Use: "create USER", Short: "Make an API key", Args: exactly("USER"),
		Long: `Prints the key, which is shown this once, alone on standard output, or writes it to the file of --out.

With --may-assert the holder of the key, such as a gateway that has checked a password or a session
itself, may name another user in its requests: the run is that user's then, with that user's roles,
and the record has both. Name users, groups as group:NAME, or "*" for every user of the policy
except those that are script-admin or auditor.`,
		Example: "  py3runctl key create alice --expires 90d --out alice.key\n" +
			"  py3runctl key create gateway-a --role python3-executor --may-assert group:operators --comment \"gateway of plant A\"",
		RunE: func(_ *cobra.Command, args []string) error {
			now := time.Now().UTC().Truncate(time.Second)
			roles, err := parseRoles("role", k.roles)
			if err != nil {
				return err
			}
			made := access.Key{User: args[0], Created: now, Roles: roles, MayAssert: k.mayAssert, Comment: k.comment}
			if made.Expires, err = a.parseEnd("expires", k.expires, now); err != nil {
				return err
			}
			return a.makeAPIKey(audit.KeyCreated, k.out, func(p *access.Policy, id, hash string) error {
				if _, ok := p.Users[made.User]; !ok {
					return unknownUser(p, made.User)
				}
				for _, role := range roles {
					if !slices.Contains(p.RolesOf(made.User), role) {
						a.messages().Warnf("the user %s does not have the role %s, so the key does not give it", made.User, role)
					}
				}
				made.ID, made.SHA256 = id, hash
				p.Keys[id] = made
				return nil
			})
		},
		ValidArgsFunction: a.completeUsers,
	}
	k.flags(c)
	c.Flags().StringArrayVar(&k.roles, "role", nil, "the key gives at most this `role`; can be repeated (default: all roles of the user)")
	c.Flags().StringArrayVar(&k.mayAssert, "may-assert", nil, "`whom` its holder may name: a user, group:NAME or \"*\"; can be repeated")
	completeBy(c, "may-assert", a.completeWhom)
	c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(roleNames(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) keyRotate() *cobra.Command {
	var k newKey
	var overlap string
	c := &cobra.Command{
		Use: "rotate ID", Short: "Make a key that takes another one's place", Args: exactly("ID"),
		Long: `Makes a key with the user, the roles and the rights of the key ID, which ends after --overlap. Without
--expires the new key is made for as long as the old one was.`,
		Example: "  py3runctl key rotate k7qm2x9a --overlap 48h --out /etc/gateway/py3run.key.new",
		RunE: func(_ *cobra.Command, args []string) error {
			id := args[0]
			if err := checkKeyID(id); err != nil {
				return err
			}
			now := time.Now().UTC().Truncate(time.Second)
			wait, err := parseSpan("overlap", overlap)
			if err != nil {
				return err
			}
			expires, err := a.parseEnd("expires", k.expires, now)
			if err != nil {
				return err
			}
			return a.makeAPIKey(audit.KeyRotated, k.out, func(p *access.Policy, newID, hash string) error {
				old, err := knownKey(p, id)
				if err != nil {
					return err
				}
				if why := keyState(p, old, now); why != "active" {
					return refusedWith(fmt.Errorf("rotate key %s: it is %s", id, why), "py3runctl key create "+old.User+" makes another one")
				}
				made := old
				made.ID, made.SHA256, made.Created, made.Expires = newID, hash, now, expires
				made.Comment = cmp.Or(k.comment, old.Comment)
				if expires.IsZero() && !old.Expires.IsZero() {
					made.Expires = now.Add(old.Expires.Sub(old.Created))
				}
				if end := now.Add(wait); old.Expires.IsZero() || end.Before(old.Expires) {
					old.Expires = end
				}
				p.Keys[id], p.Keys[newID] = old, made
				return nil
			})
		},
		ValidArgsFunction: a.completeKeys,
	}
	k.flags(c)
	c.Flags().StringVar(&overlap, "overlap", "24h", "how `long` the old key is still accepted, as 24h, 7d or 0")
	return c
}

func (a *app) keyRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID...", Short: "Refuse a key from now on", Args: some("ID"),
		Long:    "A revoked key is never accepted again, and stays in the policy, so that the log's key ids keep their meaning.",
		Example: "  py3runctl key revoke k7qm2x9a",
		RunE: func(_ *cobra.Command, args []string) error {
			for _, id := range args {
				if err := checkKeyID(id); err != nil {
					return err
				}
			}
			now := time.Now().UTC().Truncate(time.Second)
			_, err := a.changePolicy(audit.KeyRevoked, func(p *access.Policy) error {
				var before []string
				for _, id := range args {
					k, err := knownKey(p, id)
					if err != nil {
						return err
					}
					if !k.Revoked.IsZero() {
						before = append(before, id)
						continue
					}
					k.Revoked = now
					p.Keys[id] = k
				}
				for _, id := range before {
					a.say("the key %s is revoked already", id)
				}
				return nil
			})
			return err
		},
		ValidArgsFunction: a.completeKeys,
	}
}

// makeAPIKey makes a key, and hands it out when the policy has it and the record is written.
func (a *app) makeAPIKey(action audit.Action, out string, add func(p *access.Policy, id, hash string) error) error {
	id, text := access.NewKey()
	var file *os.File
	if out != "" { // first: a key that nobody has got must not be in the policy
		var err error
		if file, err = os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600); err != nil {
			return err
		}
		_, err = file.WriteString(text + "\n")
		if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
			os.Remove(out)
			return err
		}
	}
	after, err := a.changePolicy(action, func(p *access.Policy) error { return add(p, id, access.HashKey(text)) })
	if after == nil { // nothing was changed
		if file != nil {
			os.Remove(out)
		}
		return err
	}
	if file != nil {
		a.say("the key %s is in %s", id, out)
		return err
	}
	a.say("the key %s follows; it is not shown again", id)
	_, printed := io.WriteString(a.out, text+"\n")
	return errors.Join(err, printed)
}

// checkKeyID refuses what begins like a key, where its id is wanted.
func checkKeyID(id string) error {
	if strings.HasPrefix(id, access.KeyPrefix) {
		return errKeyTyped
	}
	return nil
}

func knownKey(p *access.Policy, id string) (access.Key, error) {
	k, ok := p.Keys[id]
	if !ok {
		return k, refusedWith(fmt.Errorf("find key %q: not in the policy", id), "py3runctl key list shows the keys")
	}
	return k, nil
}

// parseSpan reads how long something takes.
func parseSpan(flag, text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n <= 36500 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	return 0, cli.Usagef("invalid argument %q for --%s: want how long, as 24h, 7d or 0", text, flag)
}

// parseEnd reads a time in the future, or how far it is away. Empty: never.
func (a *app) parseEnd(flag, text string, now time.Time) (end time.Time, err error) {
	if text == "" {
		return time.Time{}, nil
	}
	if span, err := parseSpan(flag, text); err == nil {
		end = now.Add(span)
	} else {
		zone, err := loadZone(a.zone)
		if err != nil {
			return time.Time{}, err
		}
		if end, err = parseTime(flag, text, now.In(zone)); err != nil {
			return time.Time{}, cli.Usagef("invalid argument %q for --%s: want 2027-12-01, 2027-12-01T10:00:00Z, or how long from now, as 90d or 12h", text, flag)
		}
	}
	if !end.After(now) {
		return time.Time{}, cli.Usagef("invalid argument %q for --%s: that is not in the future", text, flag)
	}
	return end.UTC().Truncate(time.Second), nil
}

// keyStates are the states of keys for people, by why they are not accepted.
var keyStates = map[string]string{"": "active", access.RevokedKey: "revoked", access.ExpiredKey: "expired", access.DisabledUser: "user disabled"}

func keyState(p *access.Policy, k access.Key, now time.Time) string {
	return keyStates[p.Refuses(k, now)]
}

// acceptedKeys are the ids of a user's keys that are accepted now.
func acceptedKeys(p *access.Policy, user string) (ids []string) {
	for id, k := range p.Keys {
		if k.User == user && p.Refuses(k, time.Now()) == "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// shownKey is a key in JSON.
type shownKey struct {
	ID        string        `json:"id"`
	User      string        `json:"user"`
	State     string        `json:"state"`
	Created   string        `json:"created"`
	Expires   string        `json:"expires,omitempty"`
	Revoked   string        `json:"revoked,omitempty"`
	Roles     []access.Role `json:"roles,omitempty"` // the cap; absent: none
	MayAssert []string      `json:"may_assert,omitempty"`
	Comment   string        `json:"comment,omitempty"`
}

func (a *app) keyList() *cobra.Command {
	var format, user string
	c := &cobra.Command{
		Use: "list", Short: "Show the keys, without their secrets", Args: cobra.NoArgs,
		RunE: a.at(func(d logContext) error {
			if err := oneOf("format", format, "text", "json", "csv"); err != nil {
				return err
			}
			p, err := a.readPolicy()
			if p == nil || err != nil {
				return err
			}
			if _, ok := p.Users[user]; user != "" && !ok {
				return unknownUser(p, user)
			}
			return d.listKeys(p, user, format, time.Now())
		}),
	}
	formatFlag(c, &format, "text", "json", "csv")
	c.Flags().StringVar(&user, "user", "", "only keys of this user")
	completeBy(c, "user", a.completeUsers)
	return c
}

func (d logContext) listKeys(p *access.Policy, user, format string, now time.Time) error {
	var list []shownKey
	for _, k := range p.Keys {
		if user == "" || k.User == user {
			list = append(list, shownKey{k.ID, k.User, keyState(p, k, now), shownTime(k.Created), shownTime(k.Expires), shownTime(k.Revoked), k.Roles, k.MayAssert, k.Comment})
		}
	}
	slices.SortFunc(list, func(a, b shownKey) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
	})
	return printList(d, format, list, []string{"key", "user", "state", "created", "expires", "revoked", "roles", "may_assert", "comment"}, func(k shownKey) []string {
		return []string{k.ID, k.User, k.State, k.Created, k.Expires, k.Revoked, joined(k.Roles), strings.Join(k.MayAssert, " "), k.Comment}
	})
}

// completeWhom completes a user, a group, or everybody.
func (a *app) completeWhom(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	names, how := a.completeUsersAndGroups(c, args, start)
	return append(names, "*"), how
}

// completeUsersAndGroups completes those with whom something can be shared.
func (a *app) completeUsersAndGroups(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	names, how := a.completeUsers(c, args, start)
	groups, _ := a.completeGroups(c, args, start)
	for _, name := range groups {
		names = append(names, "group:"+name)
	}
	return names, how
}

func (a *app) completeKeys(*cobra.Command, []string, string) (ids []string, _ cobra.ShellCompDirective) {
	if p, err := access.Load(access.Places(a.environ), nil); err == nil && p != nil {
		for id, k := range p.Keys {
			ids = append(ids, id+"\t"+k.User)
		}
	}
	slices.Sort(ids)
	return ids, cobra.ShellCompDirectiveNoFileComp
}
