package ctl

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/cli"
)

// helpOfTopics makes help say where the topics are, which this program does not have.
func helpOfTopics(root *cobra.Command) {
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
