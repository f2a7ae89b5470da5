package web

import (
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"py3run/audit"
	"py3run/cmd/internal/scripts"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/wire"
)

// Scripts is what a visitor can do with stored scripts. A script that the visitor must not know of is not
// there.
type Scripts interface {
	// Scripts are those that the visitor may run or read, by name, and what is wrong with others, for those
	// who may know of all.
	Scripts() (list []scripts.Entry, damaged []string, err error)
	// Script is what the visitor may learn about one.
	Script(name string) (ScriptAbout, error)
	// ScriptText is the text of a version; 0: of the newest.
	ScriptText(name string, version int) (ScriptText, error)
	// ScriptChanges are the newest changes of a script, and Before of the next.
	ScriptChanges(index *store.Index, about ScriptAbout, before uint64) (list []Change, next uint64, err error)
}

// A ScriptAbout is a script without its text.
type ScriptAbout struct {
	scripts.Entry
	MayRun, MayRead bool
	Versions        []scripts.Version // that the visitor may see, newest first; empty: the visitor may not read
	Own             bool              // the visitor is its author
}

// A ScriptText is the text of a version.
type ScriptText struct {
	scripts.Version
	Name string
	Text string // with what a terminal or a browser obeys escaped
	Own  bool   // the visitor is the script's author
}

// A Change is a record of a change, of a script or of the policy.
type Change struct {
	store.RecordPlace
	Changes []string // in short sentences
	Dropped int      // how many more there were
	Known   string   // how the user is known
}

var scriptPages = []page{
	{"GET /scripts", "Scripts", anybody, (*view).scripts},
	{"GET /scripts/{name...}", "", anybody, (*view).script},
}

// Bounds of the pages.
const (
	mostScripts = 100
	recentDots  = 12
	mostLines   = 5000 // of a text or a diff
	mostText    = 1 << 20
	mostChanges = 30
)

// scriptsData is what the list shows.
type scriptsData struct {
	look
	Search  string
	Rows    []scriptRow
	All     int // that match
	Next    string
	Damaged []string
	Own     string // the one user whose runs are shown; empty: everybody's
}

type scriptRow struct {
	scripts.Entry
	Access string
	Dots   template.HTML
	Last   *store.Run // nil: there is none
}

// sharing says who may use a script, in a few words.
func sharing(m scripts.Meta) string {
	switch n := len(m.Shares); {
	case m.Public:
		return "public"
	case n == 1:
		return "shared with " + m.Shares[0].With
	case n > 1:
		return "shared with " + m.Shares[0].With + " and " + strconv.Itoa(n-1) + " more"
	}
	return "private"
}

// wants reports whether a script is one that a search wants.
func wants(search string, e scripts.Entry) bool {
	for _, text := range []string{e.Name, e.Description, e.Author} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(search)) {
			return true
		}
	}
	return false
}

func (v *view) scripts() error {
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	list, damaged, err := v.who.Scripts()
	if err != nil {
		return err
	}
	d := scriptsData{look: v.look, Search: strings.TrimSpace(v.params.Get("q")), Damaged: damaged, Own: v.query.Owner}
	after := v.params.Get("after")
	var names []string
	for _, e := range list {
		if !wants(d.Search, e) {
			continue
		}
		if d.All++; e.Name <= after {
			continue
		}
		if len(d.Rows) == mostScripts {
			d.Next = address("/scripts", map[string][]string{"q": {d.Search}, "after": {names[len(names)-1]}})
			continue
		}
		d.Rows = append(d.Rows, scriptRow{Entry: e, Access: sharing(e.Meta)})
		names = append(names, e.Name)
	}
	if err := v.notedLook(); err != nil {
		return err
	}
	recent, err := index.Recent(names, v.query.Owner, recentDots)
	if err != nil {
		return err
	}
	for i := range d.Rows {
		row := &d.Rows[i]
		if runs := recent[row.Name]; len(runs) > 0 {
			row.Last = &runs[0]
			row.Dots = v.runDots("dots-"+strconv.Itoa(i), runs)
		}
	}
	return v.show("scripts", d)
}

// notedLook records a look at everybody's runs.
func (v *view) notedLook() error {
	if v.query.Owner != "" {
		return nil
	}
	path := v.r.URL.Path
	return v.noted(audit.HistoryViewed, path, func(r *audit.Record) { r.Viewed = &audit.View{Query: path} })
}

// runDots draws runs, the oldest first.
func (v *view) runDots(id string, runs []store.Run) template.HTML {
	var marks []Mark
	var classes []string
	for i := len(runs) - 1; i >= 0; i-- {
		b := v.Status(runs[i].Status)
		marks = append(marks, Mark{Text: v.Time(runs[i].Started) + ": " + b.Text, Link: "/runs/" + runs[i].ID})
		classes = append(classes, b.Class)
	}
	return v.Dots(id, "The last "+strconv.Itoa(len(runs))+" runs, the newest at the right", marks, classes)
}

// scriptData is what the page of a script shows.
type scriptData struct {
	look
	ScriptAbout
	Access   string
	Text     *ScriptText
	Lines    []string
	Left     int // lines that are not shown
	Compare  *comparison
	From, To int
	Runs     []store.Run
	Dots     template.HTML
	Changes  []Change
	Older    string // address of older changes
	Own      string // the one user whose runs are shown; empty: everybody's
}

// Ref is the script with the version that is shown.
func (d scriptData) Ref() string {
	n := d.Version.Number
	if d.Text != nil {
		n = d.Text.Number
	}
	return d.Name + "@" + strconv.Itoa(n)
}

// Variables are those of the version that is shown.
func (d scriptData) Variables() []scripts.Variable {
	if d.Text != nil {
		return d.Text.Variables
	}
	return nil
}

// CanRun reports whether the version that is shown can be run.
func (d scriptData) CanRun() bool { return d.MayRun && d.Current > 0 }

// number is a number in the address; 0: there is none.
func (v *view) number(name string) int {
	n, err := strconv.Atoi(v.params.Get(name))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (v *view) script() error {
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	about, err := v.who.Script(v.r.PathValue("name"))
	if err != nil {
		return err
	}
	d := scriptData{look: v.look, ScriptAbout: about, Access: sharing(about.Meta), From: v.number("from"), To: v.number("to"), Own: v.query.Owner}
	switch {
	case !about.MayRead:
	case d.From > 0 && d.To > 0:
		err = v.compareVersions(&d)
	case about.Current > 0 || v.number("version") > 0:
		err = v.scriptText(&d, v.number("version"))
	}
	if err != nil {
		return err
	}
	if about.MayRead {
		before, _ := strconv.ParseUint(v.params.Get("before"), 10, 64)
		var next uint64
		if d.Changes, next, err = v.who.ScriptChanges(index, about, before); err != nil {
			return err
		}
		if next > 0 {
			d.Older = address("/scripts/"+d.Name, map[string][]string{"before": {strconv.FormatUint(next, 10)}}) + "#changes"
		}
	}
	if err := v.notedLook(); err != nil {
		return err
	}
	recent, err := index.Recent([]string{d.Name}, v.query.Owner, 2*recentDots)
	if err != nil {
		return err
	}
	if runs := recent[d.Name]; len(runs) > 0 {
		d.Dots = v.runDots("dots", runs)
		d.Runs = runs[:min(10, len(runs))]
	}
	return v.show("script", d)
}

// readText reads a version. A look at somebody else's code is a record.
func (v *view) readText(name string, version int) (ScriptText, error) {
	text, err := v.who.ScriptText(name, version)
	if err != nil || text.Own {
		return text, err
	}
	ref := text.Name + "@" + strconv.Itoa(text.Number)
	return text, v.noted(audit.CodeViewed, ref, func(r *audit.Record) { r.Viewed = &audit.View{Script: ref, SHA256: text.SHA256} })
}

// textLines are the lines of a text, without their ends.
func textLines(text string) []string {
	lines := strings.Split(text, "\n")
	if n := len(lines); lines[n-1] == "" {
		lines = lines[:n-1]
	}
	return lines
}

func (v *view) scriptText(d *scriptData, version int) error {
	text, err := v.readText(d.Name, version)
	if err != nil {
		return err
	}
	d.Text, d.Lines = &text, textLines(text.Text[:min(len(text.Text), mostText)])
	if all := strings.Count(text.Text, "\n") + 1; len(d.Lines) > mostLines || len(text.Text) > mostText {
		d.Lines = d.Lines[:min(mostLines, len(d.Lines))]
		d.Left = all - len(d.Lines)
	}
	return nil
}

// compareVersions fills the side-by-side diff.
func (v *view) compareVersions(d *scriptData) error {
	from, err := v.readText(d.Name, d.From)
	if err != nil {
		return err
	}
	to, err := v.readText(d.Name, d.To)
	if err != nil {
		return err
	}
	if len(from.Text) > mostText || len(to.Text) > mostText {
		return refused(http.StatusUnprocessableEntity, "these versions are too long to compare them here", "py3runctl script diff "+d.Name+"@"+strconv.Itoa(d.From)+" "+d.Name+"@"+strconv.Itoa(d.To))
	}
	d.Compare = compare(from.Text, to.Text)
	return nil
}

// Rule is what a variable has to be.
func (d scriptData) Rule(v scripts.Variable) string {
	var rules []string
	if v.Min != "" {
		rules = append(rules, "at least "+string(v.Min))
	}
	if v.Max != "" {
		rules = append(rules, "at most "+string(v.Max))
	}
	if len(v.Choices) > 0 {
		rules = append(rules, "one of "+string(wire.AppendJSON(nil, v.Choices)))
	}
	if v.Pattern != "" {
		rules = append(rules, "matches "+v.Pattern)
	}
	return strings.Join(rules, ", ")
}

// Default is the default of a variable as JSON; empty: there is none.
func (d scriptData) Default(v scripts.Variable) string {
	if v.Default == nil {
		return ""
	}
	return string(wire.AppendJSON(nil, v.Default))
}

// mostVersions is how many versions the page lists.
const mostVersions = 200

// Shown are the versions in the list.
func (d scriptData) Shown() []scripts.Version {
	return d.Versions[:min(mostVersions, len(d.Versions))]
}

// Hidden is how many versions the list leaves out.
func (d scriptData) Hidden() int { return len(d.Versions) - len(d.Shown()) }

// Before is the version with a text before another one; 0: there is none that the visitor may see.
func (d scriptData) Before(number int) int {
	for _, v := range d.Versions {
		if v.Number < number && !v.Deleted {
			return v.Number
		}
	}
	return 0
}

// After is the version with a text after another one; 0: there is none.
func (d scriptData) After(number int) int {
	next := 0
	for _, v := range d.Versions {
		if v.Number > number && !v.Deleted {
			next = v.Number
		}
	}
	return next
}

// FromChoice and ToChoice are what the form offers: what is compared, else the two newest versions.
func (d scriptData) FromChoice() int {
	if d.From > 0 && d.To > 0 {
		return d.From
	}
	return d.Before(d.ToChoice())
}

func (d scriptData) ToChoice() int {
	if d.From > 0 && d.To > 0 {
		return d.To
	}
	return d.Before(d.Latest + 1)
}

// AllRuns is the address of all runs of the script.
func (d scriptData) AllRuns() string { return Filter{Script: d.Name}.With("/history", "", "") }
