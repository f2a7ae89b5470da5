package cmd

import (
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"py3run/cmd/internal/cli"
)

func newMan(app *app) *cobra.Command {
	return cli.NewMan("py3run", func(root *cobra.Command) error {
		_, err := io.WriteString(app.out, manual(root))
		return err
	})
}

// manual is the manual page, with what the help pages have for it.
func manual(root *cobra.Command) string {
	return cli.Manual{
		Prepare: showDefaults,
		Usage: func(f *pflag.Flag) string {
			_, usage := pflag.UnquoteUsage(f)
			if _, short := f.Value.(*keyFlag); short && f.DefValue != "" {
				usage += " (default " + f.DefValue + ")"
			}
			return usage
		},
		Sections: func(line func(string, ...any)) {
			line(".SH EXIT STATUS\n.EX\n%s\n.EE", cli.Roff(pageBlock("exit-codes")))
			line(".SH ENVIRONMENT\n.EX\n%s\n.EE", cli.Roff(pageBlock("environment")))
			line(".SH TOPICS\nPages that \\fBpy3run help\\fR \\fITOPIC\\fR prints:")
			for _, name := range pageNames() {
				line(".TP\n\\fB%s\\fR\n%s", cli.Roff(name), cli.Roff(pageTitle(name)))
			}
		},
		SeeAlso: "\\fBpy3runctl\\fR(1), https://docs.python.org/3/using/cmdline.html",
	}.Page(root)
}
