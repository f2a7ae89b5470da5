package ctl

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/cli"
)

// helpOfTopics makes help say where the topics are, which this program does not have.
func (a *app) helpOfTopics(root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		c.Long = cli.Wrap(c.Long, cli.Width(a.environ, a.out))
		help(c, args)
	})
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "Help about a command; py3run help tells about topics",
		RunE: func(c *cobra.Command, args []string) error {
			of, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &cli.UsageError{Text: fmt.Sprintf("help: no command %q", strings.Join(args, " ")), Hint: "topics are with the other program: py3run help " + args[0]}
			}
			return of.Help()
		},
	})
}
