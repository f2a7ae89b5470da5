package cmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"py3run/cmd/internal/cli"
)

func newMan(app *app) *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Print the manual page", Args: cobra.NoArgs,
		Example: "  py3run man | man -l -\n  py3run man > /usr/local/share/man/man1/py3run.1",
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(app.out, manual(c.Root()))
			return err
		},
	}
}

// manual writes the page of section 1 in man(7) macros, from the help texts of the commands.
func manual(root *cobra.Command) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	flags := func(set *pflag.FlagSet) {
		set.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			name, usage := pflag.UnquoteUsage(f)
			title := "\\-\\-" + roff(f.Name)
			if f.Shorthand != "" {
				title = "\\-" + f.Shorthand + ", " + title
			}
			if name != "" {
				title += " \\fI" + roff(name) + "\\fR"
			}
			if _, short := f.Value.(*keyFlag); short && f.DefValue != "" {
				usage += " (default " + f.DefValue + ")"
			}
			line(".TP\n\\fB%s\\fR\n%s", title, roff(usage))
		})
	}
	example := func(c *cobra.Command) {
		if c.Example != "" {
			line(".PP\n.EX\n%s\n.EE", roff(c.Example))
		}
	}
	line(`.TH PY3RUN 1 "" %s`, roff(quoted("py3run "+cli.Release)))
	line(".SH NAME\npy3run \\- %s", roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	line(".SH SYNOPSIS\n\\fBpy3run\\fR [\\fIcommand\\fR] [\\fIflags\\fR]")
	line(".SH DESCRIPTION\n%s", roff(root.Long))
	example(root)
	line(".SH OPTIONS")
	flags(root.LocalFlags())
	line(".SH COMMANDS")
	var commands func(c *cobra.Command)
	commands = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if sub.Hidden || !sub.Runnable() { // or a topic
				continue
			}
			if shells := sub.Name() == "completion"; shells || !sub.HasSubCommands() {
				use := strings.TrimPrefix(sub.CommandPath()+strings.TrimPrefix(sub.Use, sub.Name()), "py3run ")
				if shells {
					line(".SS \"completion bash|fish|powershell|zsh\"\n%s", roff(sub.Short+"."))
					continue
				}
				line(".SS %s\n%s", roff(quoted(use)), roff(sub.Short+"."))
				if sub.Long != "" {
					line(".PP\n%s", roff(sub.Long))
				}
				showDefaults(sub)
				flags(sub.LocalNonPersistentFlags())
				example(sub)
			}
			commands(sub)
		}
	}
	commands(root)
	line(".SH EXIT STATUS\n.EX\n%s\n.EE", roff(pageBlock("exit-codes")))
	line(".SH ENVIRONMENT\n.EX\n%s\n.EE", roff(pageBlock("environment")))
	line(".SH TOPICS\nPages that \\fBpy3run help\\fR \\fITOPIC\\fR prints:")
	for _, name := range pageNames() {
		line(".TP\n\\fB%s\\fR\n%s", roff(name), roff(pageTitle(name)))
	}
	line(".SH SEE ALSO\npy3runctl \\-\\-help, https://docs.python.org/3/using/cmdline.html")
	return b.String()
}

// roff is text as the macros take it for text.
func roff(text string) string {
	text = strings.NewReplacer("\\", "\\e", "-", "\\-", "'", "\\(aq", "^", "\\(ha", "~", "\\(ti").Replace(text)
	return strings.ReplaceAll(text, "\n.", "\n\\&.")
}

func quoted(text string) string { return `"` + strings.ReplaceAll(text, `"`, `""`) + `"` }
