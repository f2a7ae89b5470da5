package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/scripts"
)

func (a *app) script() *cobra.Command {
	c := &cobra.Command{Use: "script", Short: "Keep scripts on this host, with their versions and who may use them", Args: cobra.NoArgs,
		Long: `Stored scripts lie in the state directory of py3run, which no run can see. A request names one instead
of code: {"script": "tank/daily@3"}, or py3run run --script tank/daily. Without @VERSION it gets the
newest version. Each change is a record of the log.

A name has up to 4 parts with / between them, each of a-z, 0-9, '.', '_' and '-'.

Who may do what is in the policy: a script's author and those with the role script-admin may do
everything, others what is shared with them. Without a policy, the permissions of the files decide.
py3run help scripts tells more.`,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		}}
	c.AddCommand(a.scriptSave(), a.scriptShow(), a.scriptList(), a.scriptHistory(), a.scriptDiff(), a.scriptShare(), a.scriptPublish(true), a.scriptPublish(false),
		a.scriptRemove(), a.scriptExport(), a.scriptImport())
	return c
}

// A scriptContext is where the commands for scripts work: the store, and who asks.
type scriptContext struct {
	logContext
	who   actor
	store *scripts.Store
	log   *audit.Log // open for a command that changes something: what cannot be recorded is not done
}

func (a *app) scriptContext(changes bool) (d scriptContext, err error) {
	if d.logContext, err = a.logContext(); err != nil {
		return d, err
	}
	if d.who, err = a.actor(); err != nil {
		return d, err
	}
	if d.store, err = scripts.Open(scripts.Dir(d.who.state)); err != nil {
		return d, err
	}
	if changes {
		if d.log, err = audit.Open(d.dir); err != nil {
			d.close()
		}
	}
	return d, err
}

func (d scriptContext) close() {
	d.store.Close()
	if d.log != nil {
		d.log.Close()
	}
}

// withScripts adapts a function to a cobra RunE.
func (a *app) withScripts(changes bool, do func(d scriptContext, args []string) error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		d, err := a.scriptContext(changes)
		if err != nil {
			return err
		}
		defer d.close()
		return do(d, args)
	}
}

// sees reports whether the caller may learn that a script exists.
func (d scriptContext) sees(m scripts.Meta) bool { return d.who.may(access.ToList, m.Object()) == nil }

// may says why the caller may not do something with a script; nil: it may. Whoever must not know of
// the script gets the same answer as for one that does not exist.
func (d scriptContext) may(action access.Action, m scripts.Meta, ref string) error {
	if !d.sees(m) {
		return scripts.NotFound(ref)
	}
	return d.who.may(action, m.Object())
}

// edit is a change by the caller, who has to be allowed to do all of these.
func (d scriptContext) edit(name string, actions ...access.Action) scripts.Edit {
	return scripts.Edit{By: d.who.grant.User, At: time.Now().UTC().Truncate(time.Microsecond), May: func(old *scripts.Meta) error {
		if old == nil {
			return d.who.may(access.ToWrite, access.Object{Kind: access.StoredScript, Name: name, Owner: d.who.grant.User})
		}
		for _, action := range actions {
			refused := d.who.may(action, old.Object())
			if action != access.ToWrite && refused != nil { // the name of a new script has to be free, which tells of hidden ones
				refused = d.may(action, *old, name)
			}
			if refused != nil {
				return refused
			}
		}
		return nil
	}}
}

// record writes the record of a change, and says what was changed.
func (d scriptContext) record(action audit.Action, c scripts.Change) error {
	name := c.Meta.Name
	if len(c.Changes) == 0 {
		d.say("nothing was to change in %s", name)
		return nil
	}
	receipt, err := d.append(action, c)
	if err != nil {
		return err
	}
	d.say("%s: %s; record %d tells it", name, strings.Join(c.Changes, "; "), receipt.Seq)
	return nil
}

func (d scriptContext) append(action audit.Action, c scripts.Change) (audit.Receipt, error) {
	rec := d.who.record()
	rec.Event = audit.Event{Action: action, Outcome: audit.Success}
	version := cmp.Or(c.New.Number, c.Old.Number)
	rec.Script = audit.Script{Name: c.Meta.Name, Source: audit.ScriptStored, Version: strconv.Itoa(version)}
	rec.Code = audit.Code{SHA256: c.New.SHA256, Bytes: c.New.Bytes}
	rec.Changed = &audit.ScriptChange{OldVersion: c.Old.Number, OldSHA256: c.Old.SHA256, NewVersion: c.New.Number, NewSHA256: c.New.SHA256, Changes: c.Changes}
	receipt, err := d.log.Append(rec)
	if err != nil {
		return receipt, fmt.Errorf("record the change of script %s: %w; the change is made", c.Meta.Name, err)
	}
	return receipt, nil
}

// sweepScripts removes what killed writers have left in the store. That it cannot is no reason to stop.
func (d logContext) sweepScripts(who actor) {
	dir := scripts.Dir(who.state)
	if dir == "" {
		return
	}
	swept, err := scripts.Sweep(dir)
	if err != nil {
		d.warn(err)
	}
	if swept.Texts > 0 {
		d.say("%s that no version of a script refers to, %s: removed", counted(swept.Texts, "text"), counted(uint64(swept.Bytes), "byte"))
	}
}

// completeScripts completes names of scripts that the caller may run or read.
func (a *app) completeScripts(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	d, err := a.scriptContext(false)
	if err != nil || len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer d.close()
	var names []string
	for e, err := range d.store.List() {
		if err == nil && d.sees(e.Meta) {
			description, _, _ := strings.Cut(plain(e.Description), `\n`)
			names = append(names, e.Name+"\t"+description)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) scriptSave() *cobra.Command {
	var comment, description string
	var public bool
	var ifVersion int
	c := &cobra.Command{
		Use: "save NAME FILE|-", Short: "Store a text as the next version of a script, or as a new one", Args: exactly("NAME", "FILE"),
		Long: `Stores the bytes of FILE, or of standard input. If the script has just these bytes already, there is no
new version. With --if-version N the script is saved only if its newest version is N, so that two
people do not overwrite each other's work; 0 means that there must be no such script.

A block of comments in the script can declare its variables: py3run help scripts.`,
		Example: "  py3runctl script save tank/daily daily.py --description 'Balance of all tanks' --comment 'first version'\n" +
			"  py3runctl script save tank/daily daily.py --if-version 3",
		ValidArgsFunction: func(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.completeScripts(c, args, start)
		},
	}
	c.RunE = a.withScripts(true, func(d scriptContext, args []string) error {
		name, draft := args[0], scripts.Draft{Comment: comment}
		if err := scripts.BadName(name); err != nil {
			return err
		}
		code, err := readScriptFile(args[1])
		if err != nil {
			return err
		}
		draft.Code = code
		actions := []access.Action{access.ToWrite}
		if c.Flags().Changed("description") {
			draft.Description = &description
		}
		if c.Flags().Changed("public") {
			draft.Public = &public
			actions = append(actions, access.ToShare)
		}
		edit := d.edit(name, actions...)
		if c.Flags().Changed("if-version") {
			edit.IfVersion = &ifVersion
		}
		change, err := d.store.Save(name, draft, edit)
		if err != nil {
			return err
		}
		return d.record(audit.ScriptSaved, change)
	})
	f := c.Flags()
	f.StringVar(&comment, "comment", "", "what is new in this version: `text` for its history")
	f.StringVar(&description, "description", "", "what the script does: `text` for lists")
	f.BoolVar(&public, "public", false, "let everybody who may run code run and read it; --public=false ends that")
	f.IntVar(&ifVersion, "if-version", 0, "save only if the newest `version` is this one; 0: only a new script")
	return c
}

// readScriptFile reads a file, or standard input for -. It reads one byte more than a script can have.
func readScriptFile(path string) ([]byte, error) {
	from := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	code, err := io.ReadAll(io.LimitReader(from, scripts.CodeMost+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, cause(err))
	}
	return code, nil
}

func (a *app) scriptShow() *cobra.Command {
	var format string
	var about bool
	c := &cobra.Command{
		Use: "show NAME[@VERSION]", Short: "Print a script", Args: exactly("NAME"),
		Long: `Prints the exact bytes of a version; on a terminal, control characters are escaped. With --about it
prints what is known about the script, and the variables that it declares. The author and
script-admins can also read the versions of a script that was deleted.`,
		Example:           "  py3runctl script show tank/daily@2 > daily.py",
		ValidArgsFunction: a.completeOne,
		RunE: a.withScripts(false, func(d scriptContext, args []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			s, err := d.text(args[0])
			if err != nil {
				return err
			}
			switch {
			case about:
				return d.about(s, format)
			case format == "json":
				return writeJSON(d.out, shownScript{Entry: scripts.Entry{Meta: s.Meta, Version: s.Version}, Code: string(s.Code)})
			case d.outIsTerminal:
				_, err = io.WriteString(d.out, harmlessCode(string(s.Code)))
			default:
				_, err = d.out.Write(s.Code)
			}
			return err
		}),
	}
	c.Flags().StringVar(&format, "format", "", "text or json (default: text)")
	c.Flags().BoolVar(&about, "about", false, "print what is known about the script instead of its text")
	return c
}

// harmlessCode escapes what a terminal obeys, except line ends and tabs.
func harmlessCode(code string) string {
	parts := strings.Split(code, "\t")
	for i := range parts {
		parts[i] = harmless(parts[i])
	}
	return strings.Join(parts, "\t")
}

// completeOne completes the one name of a command.
func (a *app) completeOne(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeScripts(c, args, start)
}

// A shownScript is a script in JSON.
type shownScript struct {
	scripts.Entry
	Code string `json:"code,omitempty"`
}

// text reads a version that the caller may read.
func (d scriptContext) text(ref string) (scripts.Script, error) {
	name, version, err := scripts.ParseRef(ref)
	if err != nil {
		return scripts.Script{}, err
	}
	s, err := d.store.Text(name, version)
	if s.Meta.Name != "" {
		if refused := d.may(access.ToRead, s.Meta, ref); refused != nil {
			return scripts.Script{}, refused
		}
	}
	if s.Removed && d.who.may(access.ToRead, s.Object()) != nil { // as a version that never was
		return scripts.Script{}, &scripts.NotFoundError{Ref: ref, Of: &s.Meta}
	}
	return s, err
}

func (d scriptContext) about(s scripts.Script, format string) error {
	if format == "json" {
		return writeJSON(d.out, scripts.Entry{Meta: s.Meta, Version: s.Version})
	}
	var list [][2]string
	row := func(name, value string) { list = append(list, [2]string{name, value}) }
	m, v := s.Meta, s.Version
	row("name", m.Name)
	row("description", m.Description)
	row("author", m.Author)
	row("access", accessOf(m))
	for _, share := range m.Shares {
		row("shared with", share.With+": "+strings.Join(access.Names(share.Actions), ", "))
	}
	row("version", fmt.Sprintf("%d of %d, by %s, %s", v.Number, m.Latest, v.Author, d.when(v.At)))
	row("times in", d.zoneName())
	row("comment", v.Comment)
	row("sha256", v.SHA256)
	row("bytes", strconv.FormatInt(v.Bytes, 10))
	if o := m.Origin; o != nil {
		row("imported from", strings.TrimPrefix(o.Folder+"/"+o.Name, "/"))
		row("its author", o.Author)
		row("its version", o.Version)
		row("created", o.Created)
		row("modified", o.Modified)
	}
	for _, variable := range v.Variables {
		row("variable", ruleText(variable))
	}
	return d.fields(d.out, list)
}

// ruleText is a variable with its rules in one line.
func ruleText(v scripts.Variable) string {
	text, err := v.MarshalJSON()
	if err != nil {
		return v.Name
	}
	return string(text)
}

func (d logContext) when(t time.Time) string { return t.In(d.local()).Format("2006-01-02 15:04:05") }

func accessOf(m scripts.Meta) string {
	switch {
	case m.Public:
		return "public"
	case len(m.Shares) > 0:
		return "shared"
	}
	return "private"
}

func (a *app) scriptList() *cobra.Command {
	var format string
	var mine, public bool
	c := &cobra.Command{
		Use: "list [FOLDER]", Short: "List the scripts that you may run or read", Args: cobra.MaximumNArgs(1),
		Example: "  py3runctl script list tank\n  py3runctl script list --public --format json",
		RunE: a.withScripts(false, func(d scriptContext, args []string) error {
			if err := oneOf("format", format, "text", "json", "csv"); err != nil {
				return err
			}
			folder := ""
			if len(args) > 0 {
				folder = strings.TrimSuffix(args[0], "/")
			}
			var list []scripts.Entry
			var failed error
			for e, err := range d.store.List() {
				if err != nil {
					failed = d.listFailure(err, failed)
					continue
				}
				if !d.sees(e.Meta) || mine && e.Author != d.who.grant.User || public && !e.Public || folder != "" && e.Name != folder && !strings.HasPrefix(e.Name, folder+"/") {
					continue
				}
				list = append(list, e)
			}
			err := printList(d.logContext, format, list, []string{"name", "version", "changed", "by", "author", "access", "description"}, func(e scripts.Entry) []string {
				return []string{e.Name, strconv.Itoa(e.Current), shownTime(e.Version.At), e.Version.Author, e.Author, accessOf(e.Meta), e.Description}
			})
			return errors.Join(err, failed)
		}),
	}
	f := c.Flags()
	formatFlag(c, &format, "text", "json", "csv")
	f.BoolVar(&mine, "mine", false, "only your own scripts")
	f.BoolVar(&public, "public", false, "only public scripts")
	return c
}

// listFailure tells of a script that cannot be read, to those who may know of every script. The
// command fails then.
func (d scriptContext) listFailure(err, failed error) error {
	if damaged := new(scripts.DamageError); errors.As(err, &damaged) && d.who.may(access.ToManage, access.Object{Kind: access.StoredScript}) != nil {
		return failed
	}
	if failed != nil {
		d.warn(failed)
	}
	return err
}
