package cmd

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"py3run/cmd/internal/cli"
)

// pages is the documentation, a subject a file. A new page is a new file: its first line is `# NAME: what it is about`.
// The files lie in the binary as they are: the code that unpacks them would take more room than packing saves. Only
// what lists or prints pages reads them (see showsTopics).
//
//go:embed help/*.md
var pages embed.FS

// page is the text of a page; ok tells whether there is one of that name.
func page(name string) (text string, ok bool) {
	data, err := pages.ReadFile("help/" + name + ".md")
	return string(data), err == nil
}

// pageBlock is the first block of plain text in a page, without its fence: the table that the manual page shows, too.
func pageBlock(name string) string {
	text, _ := page(name)
	_, rest, _ := strings.Cut(text, "```text\n")
	block, _, _ := strings.Cut(rest, "\n```")
	return block
}

// pageNames are the names of all pages, sorted.
func pageNames() (names []string) {
	files, _ := pages.ReadDir("help")
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".md"))
	}
	return names
}

// pageTitle is what a page is about, as it stands in a list: with a capital, unless it begins with our name.
func pageTitle(name string) string {
	text, _ := page(name)
	title, _, _ := strings.Cut(text, "\n")
	_, about, _ := strings.Cut(title, ": ")
	if strings.HasPrefix(about, "py3run") {
		return about
	}
	return strings.ToUpper(about[:1]) + about[1:]
}

// newHelpTopics are the pages as cobra has them: commands that do nothing, listed as additional topics. There are none where the command line can
// neither name nor list one: to read their titles would take a tenth of the time of a small command.
func newHelpTopics(app *app, root *cobra.Command, args []string) (topics []*cobra.Command) {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && !strings.HasPrefix(args[0], "__complete") && args[0] != "help" && args[0] != "man" {
		if _, named := page(args[0]); !named {
			return nil
		}
	}
	for _, name := range pageNames() {
		if slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == name }) {
			continue // the name is the command's; help prints the page
		}
		text, _ := page(name)
		topic := &cobra.Command{Use: name, Short: pageTitle(name)}
		topic.SetHelpFunc(func(*cobra.Command, []string) { io.WriteString(app.out, app.wrap(text)) })
		topics = append(topics, topic)
	}
	return topics
}

// topicWithArguments is the error for a command line that gives arguments to a topic: who types
// `py3run limits job.py` wants to run something, and would take a page and exit code 0 for its output.
func topicWithArguments(root *cobra.Command, args []string) error {
	if !root.HasHelpSubCommands() { // no topics were made
		return nil
	}
	topic, rest, err := root.Find(args)
	if err != nil || !topic.IsAdditionalHelpTopicCommand() {
		return nil
	}
	err = topic.ParseFlags(rest)
	given := topic.Flags().Args()
	if errors.Is(err, pflag.ErrHelp) || err == nil && len(given) == 0 {
		return nil
	}
	e := &cli.UsageError{Text: fmt.Sprintf("%q is a help topic, not a command", topic.Name()), Hint: "did you mean py3run help " + topic.Name() + "?"}
	switch {
	case len(given) > 0 && looksLikeScript(given[0]):
		e.Hint = "did you mean py3run run " + given[0] + "?"
	case len(given) > 0 && topic.Name() == "warm" && slices.Contains([]string{"start", "status", "stop"}, given[0]):
		e.Hint = "did you mean py3runctl warm " + given[0] + "?"
	}
	return e
}

// listTopics lets the help of py3run list its pages by the command that prints them. Cobra lists topics as
// if they were commands, and leaves out pages that are named as a command is.
func listTopics(root *cobra.Command) {
	usage := root.UsageFunc()
	root.SetUsageFunc(func(c *cobra.Command) error {
		if c != root {
			return usage(c)
		}
		var all strings.Builder
		out := c.OutOrStderr()
		c.SetOut(&all)
		defer c.SetOut(out)
		if err := usage(c); err != nil {
			return err
		}
		before, topics, _ := strings.Cut(all.String(), "\nAdditional help topics:\n")
		if topics != "" {
			_, after, _ := strings.Cut(topics, "\n\n")
			before += "\nAdditional help topics:\n" + topicLines() + "\n" + after
		}
		_, err := io.WriteString(out, before)
		return err
	})
}

// topicLines are the pages, one a line: the command that prints it, and what it is about.
func topicLines() string {
	var b strings.Builder
	width := 0
	for _, name := range pageNames() {
		width = max(width, len(name))
	}
	for _, name := range pageNames() {
		fmt.Fprintf(&b, "  py3run help %-*s  %s\n", width, name, pageTitle(name))
	}
	return b.String()
}

// newHelp prints the help of a command, or a page. Without a name it prints what there is.
func newHelp(app *app) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND|TOPIC]", Short: "Help about a command, or a page of the documentation",
		Example: "  py3run help run\n  py3run help limits",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 { // of a command and a page with one name, the page: --help prints the other
				if text, ok := page(args[0]); ok {
					_, err := io.WriteString(c.OutOrStdout(), app.wrap(text))
					return err
				}
			}
			of, rest, err := c.Root().Find(args)
			if err == nil && len(rest) == 0 {
				return of.Help()
			}
			e := &cli.UsageError{Text: fmt.Sprintf("help: no command and no topic %q", strings.Join(args, " ")), Hint: "py3run help lists them"}
			if near := nearSubject(c.Root(), args[0]); near != "" {
				e.Hint = "did you mean py3run help " + near + "?"
			}
			return e
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var found []cobra.Completion
			for _, s := range subjects(c.Root()) {
				found = append(found, cobra.CompletionWithDesc(s.Name(), s.Short))
			}
			return found, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// wrap fits help to a terminal that is narrower than the help is written for.
func (a *app) wrap(text string) string { return cli.Wrap(text, cli.Width(a.environ, a.out)) }

// subjects are the commands and topics that help knows.
func subjects(root *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(root.Commands()), func(c *cobra.Command) bool { return c.Hidden })
}

// nearSubject is the command or topic whose name begins so, or differs in few letters; empty if there is none.
func nearSubject(root *cobra.Command, name string) string {
	// Cobra suggests only commands that do something; topics do nothing.
	names := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, s := range subjects(root) {
		names.AddCommand(&cobra.Command{Use: s.Name(), Run: func(*cobra.Command, []string) {}})
	}
	if near := names.SuggestionsFor(name); len(near) > 0 {
		return near[0]
	}
	return ""
}
