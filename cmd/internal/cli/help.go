package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// AddHelp gives a command line the commands help and completion. An unknown name is a mistake in
// both.
func AddHelp(root *cobra.Command) {
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND|TOPIC]", Short: "Help about a command or a topic",
		RunE: func(c *cobra.Command, args []string) error {
			of, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &UsageError{Text: fmt.Sprintf("help: no command and no topic %q", strings.Join(args, " "))}
			}
			return of.Help()
		},
	})
	root.InitDefaultCompletionCmd()
	completeAnywhere(root)
	if c, _, err := root.Find([]string{"completion"}); err == nil && c != root {
		c.Args, c.RunE = nil, func(*cobra.Command, []string) error {
			return &UsageError{Text: "completion: want bash, fish, powershell or zsh"}
		}
	}
}
