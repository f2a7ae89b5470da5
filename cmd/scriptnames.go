package cmd

import (
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
func (app *app) completeScripts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
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
	var names []string
	for e, err := range store.List() {
		if err == nil && policy.Can(grant, access.ToList, e.Object()).Allowed {
			names = append(names, strings.TrimSuffix(e.Name+"\t"+firstLine(e.Description), "\t"))
		}
	}
	return names, done
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
