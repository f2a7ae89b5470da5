package ctl

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/scripts"
	"py3run/internal/atomicfile"
)

const openNoWait = unix.O_NOFOLLOW | unix.O_NONBLOCK

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}

func (a *app) scriptImport() *cobra.Command {
	var dryRun bool
	var format string
	c := &cobra.Command{
		Use: "import DIR|INDEX.json", Short: "Store scripts from the files of the gateway's module, or of an export", Args: exactly("DIR"),
		Long: `Reads scripts/FOLDER/NAME.py, beside each perhaps NAME.meta.json, and scripts/index.json, below DIR; or
one INDEX.json. Folders become parts of the names. A name that cannot be one here is mapped to the
nearest that can, and the report says so; the original name, author, dates and version stay in what is
known about the script (show --about). You become the author; nothing is shared or public.

What is stored already is left alone, so a second import changes nothing. A text that was changed
where it comes from becomes a new version.

Exit status: 0 all scripts are stored; 1 some could not be, or were cut.`,
		Example: "  py3runctl script import /usr/local/bin/ignition/data/python3-integration --dry-run",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := oneOf("format", format, "text", "json"); err != nil {
			return err
		}
		d, err := a.scriptContext(!dryRun)
		if err != nil {
			return err
		}
		defer d.close()
		return d.importAll(args[0], dryRun, format)
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	c.Flags().StringVar(&format, "format", "", "of the report: text or json, one object a line (default: text on a terminal, else json)")
	return c
}

// An imported is a line of the report of an import.
type imported struct {
	From     string `json:"from"`
	Original string `json:"original"`
	Name     string `json:"name,omitempty"`
	Mapped   bool   `json:"mapped,omitempty"` // the name had to be changed
	Status   string `json:"status"`           // new, changed, unchanged or skipped
	Version  int    `json:"version,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// What became of a script.
const (
	importNew       = "new"
	importChanged   = "changed"
	importUnchanged = "unchanged"
	importSkipped   = "skipped"
)

func (d scriptContext) importAll(from string, dryRun bool, format string) error {
	list, notes, err := readLayout(from)
	if err != nil {
		return err
	}
	taken := map[string]string{}
	for e, err := range d.store.All() {
		if err != nil {
			return err
		}
		taken[e.Name] = e.Name
		if e.Origin != nil {
			taken[e.Name] = identity(*e.Origin)
		}
	}
	asJSON := d.formatOf(format) == "json"
	table := d.newTable(false, column{title: "status"}, column{title: "name", least: 16}, column{title: "version", right: true, rank: 2}, column{title: "original", least: 12, rank: 1},
		column{title: "reason", least: 20, wraps: true})
	finish := func() error {
		if asJSON {
			return nil
		}
		return table.write(d.out)
	}
	counts, mapped := map[string]int{}, 0
	for _, t := range targets(list, taken) {
		one, err := d.importOne(t, dryRun)
		if err != nil {
			return errors.Join(finish(), err)
		}
		counts[one.Status]++
		if one.Mapped && one.Status != importSkipped {
			mapped++
		}
		if asJSON {
			err = writeJSON(d.out, one)
		} else {
			version := ""
			if one.Version > 0 {
				version = strconv.Itoa(one.Version)
			}
			table.add(one.Status, one.Name, version, one.Original, one.Reason)
		}
		if err != nil {
			return err
		}
	}
	if err := finish(); err != nil {
		return err
	}
	for _, note := range notes {
		d.warnf("%s", note)
	}
	would := ""
	if dryRun {
		would = "dry run: nothing is stored: "
	}
	d.say("%s%d new, %d changed, %d unchanged, %d skipped; %d with another name than their own", would, counts[importNew], counts[importChanged], counts[importUnchanged], counts[importSkipped], mapped)
	if counts[importSkipped] > 0 {
		return cli.ExitCode(exitFailed)
	}
	return nil
}

// importOne stores one script. What is wrong with it is in the report; an error ends the import.
func (d scriptContext) importOne(t target, dryRun bool) (imported, error) {
	one := imported{From: t.from, Original: identity(t.origin), Name: t.name, Mapped: t.mapped, Status: importSkipped, Reason: t.problem}
	if t.problem != "" {
		return one, nil
	}
	meta, versions, err := d.store.History(t.name)
	if none := new(scripts.NotFoundError); err != nil && !errors.As(err, &none) {
		one.Reason = err.Error()
		return one, nil
	}
	sum := sha256.Sum256(t.code)
	known := slices.IndexFunc(versions, func(v scripts.Version) bool { return v.SHA256 == hex.EncodeToString(sum[:]) })
	switch {
	case known >= 0 && meta.Current == known+1:
		one.Status, one.Version = importUnchanged, known+1
		return one, nil
	case known >= 0 && meta.Current == 0:
		one.Status, one.Version, one.Reason = importUnchanged, known+1, "the script was deleted here"
		return one, nil
	case known >= 0:
		one.Status, one.Version, one.Reason = importUnchanged, known+1, fmt.Sprintf("the newest version here is %d", meta.Current)
		return one, nil
	}
	edit := d.edit(t.name, access.ToWrite)
	edit.IfVersion = &meta.Current
	draft := scripts.Draft{Code: t.code, Comment: "imported from " + identity(t.origin)}
	about, cut := cutText(t.about)
	if draft.Comment, _ = cutText(draft.Comment); cut {
		one.Reason = "the description was cut"
	}
	if t.about != "" {
		draft.Description = &about
	}
	if meta.Name == "" || meta.Origin != nil {
		draft.Origin = &t.origin
	}
	one.Status, one.Version = importNew, meta.Latest+1
	if meta.Current > 0 {
		one.Status = importChanged
	}
	if dryRun {
		err = d.store.Try(t.name, draft, edit)
	} else {
		var change scripts.Change
		if change, err = d.store.Save(t.name, draft, edit); err == nil {
			_, err := d.append(audit.ScriptImported, change)
			return one, err
		}
	}
	if err != nil {
		one.Status, one.Version, one.Reason = importSkipped, 0, err.Error()
	}
	return one, nil
}

// cutText cuts a description or a comment to what the store takes.
func cutText(text string) (string, bool) {
	text = strings.ToValidUTF8(text, "\ufffd")
	if len(text) <= scripts.TextMost {
		return text, false
	}
	return strings.ToValidUTF8(text[:scripts.TextMost-len("…")], "") + "…", true
}

func (a *app) scriptExport() *cobra.Command {
	return &cobra.Command{
		Use: "export DIR [NAME...]", Short: "Write scripts into files, as the gateway's module has them", Args: some("DIR"),
		Long: `Writes the newest version of each script that you may read, or of those that are named: its text to
DIR/scripts/FOLDER/NAME.py, what is known about it to NAME.meta.json beside it, and both to
DIR/scripts/index.json. Files that are there are replaced; others stay. Shares are not exported.
py3runctl script import DIR reads it again.`,
		Example: "  py3runctl script export /srv/scripts.git && git -C /srv/scripts.git add -A",
		ValidArgsFunction: func(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return a.completeScripts(c, nil, start)
		},
		RunE: a.withScripts(false, func(d scriptContext, args []string) error { return d.exportTo(args[0], args[1:]) }),
	}
}

// A moduleScript is what the module's files say about a script.
type moduleScript struct {
	ID           string  `json:"id"`
	Name         string  `json:"name"`
	Code         *string `json:"code,omitempty"` // in index.json
	Description  string  `json:"description"`
	Author       string  `json:"author"`
	CreatedDate  string  `json:"createdDate"`
	LastModified string  `json:"lastModified"`
	FolderPath   string  `json:"folderPath"`
	Version      string  `json:"version"`
}

func moduleScriptOf(s scripts.Script) moduleScript {
	folder, name := path.Split(s.Meta.Name)
	m := moduleScript{Name: name, Description: s.Meta.Description, Author: s.Meta.Author, CreatedDate: s.Meta.Created.UTC().Format(time.RFC3339),
		LastModified: s.Version.At.UTC().Format(time.RFC3339), FolderPath: strings.TrimSuffix(folder, "/"), Version: strconv.Itoa(s.Version.Number)}
	if o := s.Meta.Origin; o != nil {
		m.Name, m.FolderPath = o.Name, o.Folder
		for _, member := range []struct {
			to   *string
			from string
		}{{&m.Author, o.Author}, {&m.CreatedDate, o.Created}} {
			if member.from != "" {
				*member.to = member.from
			}
		}
		if s.Version.Number == 1 && o.Version != "" { // the text is the one that was imported
			m.Version = o.Version
		}
	}
	return m
}

// moduleID is the member of index.json under which the module looks for a script: its name in small
// letters, with _ for what is no letter, digit, _ or -. There, names are one for all folders.
func moduleID(m moduleScript, index map[string]moduleScript) string {
	id := func(name string) string {
		var b strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(name)) {
			if !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-') {
				r = '_'
			}
			if r != '_' || !strings.HasSuffix(b.String(), "_") {
				b.WriteRune(r)
			}
		}
		return b.String()
	}
	whole := m.FolderPath + "/" + m.Name
	for _, one := range []string{id(m.Name), id(whole), id(whole) + "-" + shortHash(whole)} {
		if _, used := index[one]; !used {
			return one
		}
	}
	return whole
}

func (d scriptContext) exportTo(dir string, names []string) error {
	named := len(names) > 0
	if !named {
		for e, err := range d.store.List() {
			if err != nil {
				return err
			}
			if d.who.may(access.ToRead, e.Object()) == nil {
				names = append(names, e.Name)
			}
		}
	}
	texts := make([]scripts.Script, len(names))
	for i, ref := range names { // all of them first: where one cannot be read, nothing is written
		var err error
		if texts[i], err = d.text(ref); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("export to %s: %w", dir, cause(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("export to %s: %w", dir, cause(err))
	}
	defer root.Close()
	index := map[string]moduleScript{}
	for _, s := range texts {
		m, stem := moduleScriptOf(s), path.Join(moduleDir, s.Meta.Name)
		m.ID = moduleID(m, index)
		text, err := moduleJSON(m)
		if err == nil {
			err = root.MkdirAll(path.Dir(stem), 0o700)
		}
		err = errors.Join(err, writeInto(root, stem+codeSuffix, s.Code), writeInto(root, stem+metaSuffix, text))
		if err != nil {
			return fmt.Errorf("export script %s to %s: %w", s.Meta.Name, dir, err)
		}
		code := string(s.Code)
		m.Code = &code
		index[m.ID] = m
	}
	text, err := moduleJSON(index)
	if err == nil {
		err = root.MkdirAll(moduleDir, 0o700)
	}
	if err = errors.Join(err, writeInto(root, path.Join(moduleDir, indexFile), text)); err != nil {
		return fmt.Errorf("export to %s: %w", dir, err)
	}
	are := "are"
	if len(index) == 1 {
		are = "is"
	}
	d.say("%s %s in %s", counted(len(index), "script"), are, path.Join(dir, moduleDir))
	return nil
}

func moduleJSON(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return append(text, '\n'), err
}

// writeInto replaces a file below a directory. A link at its place is replaced, not followed.
func writeInto(root *os.Root, name string, text []byte) error {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	base := path.Base(name)
	return atomicfile.Write(int(dir.Fd()), base, text, ".new-"+base, 0o600)
}
