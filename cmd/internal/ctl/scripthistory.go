package ctl

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/scripts"
)

func (a *app) scriptHistory() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "history NAME", Short: "List the versions of a script, newest first", Args: exactly("NAME"), ValidArgsFunction: a.completeOne,
		Long: "Deletions are versions, too. Only the author and script-admins see those, and what was before them.",
		RunE: a.withScripts(false, func(d scriptContext, args []string) error {
			if err := oneOf("format", format, "text", "json", "csv"); err != nil {
				return err
			}
			if name, version, err := scripts.ParseRef(args[0]); err == nil && version > 0 {
				return cli.Usagef("invalid argument %q: the history is that of all versions: give the name without a version, %s", args[0], name)
			}
			meta, list, err := d.store.History(args[0])
			if meta.Name != "" {
				if refused := d.may(access.ToSeeHistory, meta, args[0]); refused != nil {
					return refused
				}
			}
			if err != nil {
				return err
			}
			if all := (scripts.Script{Meta: meta, Removed: true}); d.who.may(access.ToSeeHistory, all.Object()) != nil {
				list = scripts.Kept(list)
			}
			slices.Reverse(list)
			asText := d.formatOf(format) == "text"
			return printList(d.logContext, format, list, []string{"version", "time", "by", "bytes", "sha256", "comment"}, func(v scripts.Version) []string {
				hash, comment := v.SHA256, v.Comment
				if asText {
					hash = hash[:min(len(hash), 12)]
				}
				if v.Deleted {
					hash, comment = "", "deleted"
				}
				return []string{strconv.Itoa(v.Number), shownTime(v.At), v.Author, strconv.FormatInt(v.Bytes, 10), hash, comment}
			})
		}),
	}
	formatFlag(c, &format, "text", "json", "csv")
	return c
}

func (a *app) scriptDiff() *cobra.Command {
	return &cobra.Command{
		Use: "diff NAME@VERSION [NAME[@VERSION]]", Short: "Compare two versions, or two scripts", Args: between("NAME@VERSION", 2), ValidArgsFunction: a.completeScripts,
		Long: `Prints a unified diff. Without a second name, the first is compared with the newest version.

Exit status: 0 they are the same; 1 they differ; 3 they could not be compared.`,
		Example: "  py3runctl script diff tank/daily@2",
		RunE: a.answeringAs(a.withScripts(false, func(d scriptContext, args []string) error {
			if len(args) == 1 {
				name, version, err := scripts.ParseRef(args[0])
				if err != nil {
					return err
				}
				if version == 0 {
					return cli.Usagef("requires a version of %s, as %[1]s@1, or a second script", name)
				}
				args = append(args, name)
			}
			var texts [2]scripts.Script
			for i, ref := range args {
				var err error
				if texts[i], err = d.text(ref); err != nil {
					return err
				}
			}
			name := func(s scripts.Script) string { return fmt.Sprintf("%s@%d", s.Meta.Name, s.Version.Number) }
			differs := diff.Diff(name(texts[0]), texts[0].Code, name(texts[1]), texts[1].Code)
			if differs == nil {
				return nil
			}
			if d.outIsTerminal {
				differs = []byte(harmlessCode(string(differs)))
			}
			if _, err := d.out.Write(differs); err != nil {
				return err
			}
			return cli.ExitCode(exitFailed)
		})),
	}
}
