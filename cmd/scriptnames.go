package cmd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/scripts"
)

// completeScripts completes the names of stored scripts that this user of the operating system may run
// or read. An API key is not read for that.
func (app *app) completeScripts(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	const done = cobra.ShellCompDirectiveNoFileComp
	policy, err := access.Load(access.Places(app.environ), nil)
	dir := scripts.Dir(launch.StateDir(app.environ))
	if err != nil || dir == "" {
		return nil, done
	}
	who := caller()
	grant, denied := policy.Identify(access.Claim{OSUID: who.UID, OSUser: who.Name, At: time.Now()})
	if denied != nil {
		return nil, done
	}
	store, err := scripts.Open(dir)
	if err != nil {
		return nil, done
	}
	defer store.Close()
	if name, _, versioned := strings.Cut(begun, "@"); versioned {
		return versionsOf(store, name, func(m scripts.Meta) bool { return policy.Can(grant, access.ToList, m.Object()).Allowed }), done
	}
	var names []string
	for e, err := range store.List() {
		if err == nil && policy.Can(grant, access.ToList, e.Object()).Allowed {
			names = append(names, strings.TrimSuffix(e.Name+"\t"+firstLine(e.Description), "\t"))
		}
	}
	return names, done
}

// versionsOf are the versions of a script that can be run, newest first.
func versionsOf(store *scripts.Store, name string, seen func(scripts.Meta) bool) (list []string) {
	meta, versions, err := store.History(name)
	if err != nil || meta.Current == 0 || !seen(meta) {
		return nil
	}
	for _, v := range slices.Backward(versions) {
		if !v.Deleted {
			list = append(list, strings.TrimSuffix(fmt.Sprintf("%s@%d\t%s", name, v.Number, firstLine(v.Comment)), "\t"))
		}
	}
	return list
}

// firstLine is the first line of a text, without what a terminal obeys.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, line)
}
