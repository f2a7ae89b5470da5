package ctl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/cli"
)

// helpOfTopics makes the help say where the topics are, which this program does not have.
func helpOfTopics(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() != "help" {
			continue
		}
		of := c.RunE
		c.Use, c.Short = "help [COMMAND]", "Help about a command; py3run help tells about topics"
		c.RunE = func(c *cobra.Command, args []string) error {
			err := of(c, args)
			if unknown := new(cli.UsageError); errors.As(err, &unknown) && len(args) > 0 {
				return &cli.UsageError{Text: fmt.Sprintf("help: no command %q", strings.Join(args, " ")), Hint: "topics are with the other program: py3run help " + args[0]}
			}
			return err
		}
	}
}
