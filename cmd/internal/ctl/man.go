package ctl

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"py3run/cmd/internal/cli"
)

func (a *app) man() *cobra.Command {
	return cli.NewMan(program, func(root *cobra.Command) error {
		page := cli.Manual{
			Usage: func(f *pflag.Flag) string {
				_, usage := pflag.UnquoteUsage(f)
				if !slices.Contains([]string{"", "false", "[]", "0"}, f.DefValue) {
					usage += fmt.Sprintf(" (default %s)", f.DefValue)
				}
				return usage
			},
			Sections: func(line func(string, ...any)) {
				line(".SH EXIT STATUS\n.EX\n%s\n.EE", cli.Roff(exitCodes))
			},
			SeeAlso: "\\fBpy3run\\fR(1); \\fBpy3run help operations\\fR and \\fBpy3run help record\\fR tell more",
		}.Page(root)
		_, err := io.WriteString(a.out, page)
		return err
	})
}

const exitCodes = `0    done
1    findings, a refusal or a failure; of commands that answer, as access check, no
2    the command line is wrong
3    the log, or what else was asked for, could not be read: there is no answer
130  interrupted`
