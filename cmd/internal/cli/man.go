package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A Manual is what a manual page has besides what it takes from the help of the commands.
type Manual struct {
	Prepare  func(*cobra.Command)            // called before the flags of a command are read; may be nil
	Usage    func(*pflag.Flag) string        // the text about a flag, for what its value knows; nil: the flag's own
	Sections func(line func(string, ...any)) // adds sections behind the commands; may be nil
	SeeAlso  string
}

// NewMan is the command man of a command line.
func NewMan(program string, print func(*cobra.Command) error) *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Print the manual page", Args: cobra.NoArgs,
		Example: fmt.Sprintf("  %[1]s man | man -l -\n  %[1]s man > /usr/local/share/man/man1/%[1]s.1", program),
		RunE:    func(c *cobra.Command, _ []string) error { return print(c.Root()) },
	}
}

// Page writes the page of section 1 in man(7) macros, from the help texts of the commands.
func (m Manual) Page(root *cobra.Command) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	program := root.Name()
	line(`.TH %s 1 "" %s`, strings.ToUpper(program), Roff(quoted(program+" "+Release)))
	line(".SH NAME\n%s \\- %s", program, Roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	line(".SH SYNOPSIS\n\\fB%s\\fR [\\fIcommand\\fR] [\\fIflags\\fR]", program)
	if root.Long != "" {
		line(".SH DESCRIPTION\n%s", Roff(root.Long))
	}
	example(line, root)
	line(".SH OPTIONS")
	m.flags(line, root.LocalFlags())
	line(".SH COMMANDS")
	m.commands(line, root)
	if m.Sections != nil {
		m.Sections(line)
	}
	line(".SH SEE ALSO\n%s", m.SeeAlso)
	return b.String()
}

func (m Manual) commands(line func(string, ...any), c *cobra.Command) {
	for _, sub := range c.Commands() {
		if sub.Hidden || !sub.Runnable() { // or a topic
			continue
		}
		shells := sub.Name() == "completion"
		switch {
		case shells:
			line(".SS \"completion bash|fish|powershell|zsh\"\n%s", Roff(sub.Short+"."))
			continue
		case !sub.HasSubCommands():
			use := strings.TrimPrefix(sub.CommandPath()+strings.TrimPrefix(sub.Use, sub.Name()), c.Root().Name()+" ")
			line(".SS %s\n%s", Roff(quoted(use)), Roff(sub.Short+"."))
			if sub.Long != "" {
				line(".PP\n%s", Roff(sub.Long))
			}
			if m.Prepare != nil {
				m.Prepare(sub)
			}
			m.flags(line, sub.LocalNonPersistentFlags())
			example(line, sub)
		}
		m.commands(line, sub)
	}
}

func (m Manual) flags(line func(string, ...any), set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		if m.Usage != nil {
			usage = m.Usage(f)
		}
		title := "\\-\\-" + Roff(f.Name)
		if f.Shorthand != "" {
			title = "\\-" + f.Shorthand + ", " + title
		}
		if name != "" {
			title += " \\fI" + Roff(name) + "\\fR"
		}
		line(".TP\n\\fB%s\\fR\n%s", title, Roff(usage))
	})
}

func example(line func(string, ...any), c *cobra.Command) {
	if c.Example != "" {
		line(".PP\n.EX\n%s\n.EE", Roff(c.Example))
	}
}

// Roff is text as the macros take it for text.
func Roff(text string) string {
	text = strings.NewReplacer("\\", "\\e", "-", "\\-", "'", "\\(aq", "^", "\\(ha", "~", "\\(ti").Replace(text)
	return strings.ReplaceAll(text, "\n.", "\n\\&.")
}

func quoted(text string) string { return `"` + strings.ReplaceAll(text, `"`, `""`) + `"` }
