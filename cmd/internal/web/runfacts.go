package web

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"py3run/audit"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/wire"
	"py3run/internal/activity"
)

// whatRan is what was called, with what.
func (v *view) whatRan(records RunRecords) (f facts) {
	r := records.Run
	f.add("Call", strings.TrimSpace(r.Invocation+" "+r.Command))
	script := fact{Name: "Script", Value: v.Called(r)}
	if r.Script == "" {
		script.Value = ""
	}
	if r.Source == string(audit.ScriptStored) {
		script.Link = "/scripts/" + (&url.URL{Path: r.Script}).EscapedPath()
	}
	f.put(script)
	f.add("Name from", r.Source)
	f.put(fact{Name: "File", Value: r.Path, Mono: true})
	rec := records.Last()
	if rec == nil {
		return f
	}
	if c := rec.Invoked; c != nil {
		argv := strings.Join(quoted(c.Argv), " ")
		if c.ArgvDropped > 0 {
			argv += fmt.Sprintf(" … and %s more", v.Number(c.ArgvDropped))
		}
		f.put(fact{Name: "Arguments", Value: argv, Mono: true})
		if in := c.Stdin; in != nil {
			f.add("Standard input", fmt.Sprintf("%s, SHA-256 %s", v.Bytes(in.Bytes), in.SHA256))
		}
	}
	if rec.Code.SHA256 != "" {
		f.put(fact{Name: "Code", Value: fmt.Sprintf("%s, SHA-256 %s", v.Bytes(rec.Code.Bytes), rec.Code.SHA256), Link: address("/history", url.Values{"code": {rec.Code.SHA256}}), Mono: true})
	} else {
		f.add("Code", cmp.Or(rec.Code.Source, "not known"))
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Labels)) {
		label := name + "=" + rec.Labels[name]
		f.put(fact{Name: "Label", Value: label, Link: address("/history", url.Values{"label": {label}})})
	}
	f.add("Variables", v.variables(rec.Variables))
	if files := rec.Files; files != nil {
		f.add("Files given", v.fileSet(files.Put))
		f.add("Files handed back", v.fileSet(files.Collected))
	}
	if p := rec.Python; p != nil {
		f.put(fact{Name: "Python", Value: p.Version + ", " + p.Executable})
	}
	if start := records.of(audit.ExecutionStart); start != nil {
		for _, c := range start.Config {
			if c.SHA256 != "" {
				f.put(fact{Name: "Configuration", Value: c.Path + ", SHA-256 " + short(c.SHA256) + "…", Mono: true})
			}
		}
	}
	return f
}

// quoted are arguments, in quotes where they have more than letters.
func quoted(args []string) (list []string) {
	for _, a := range args {
		if a == "" || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r == '"' || r == '\'' || !strconv.IsGraphic(r) }) {
			a = strconv.QuoteToGraphic(a)
		}
		list = append(list, a)
	}
	return list
}

const mostNames = 20 // of variables or files, in one line

func (v *view) variables(all audit.Variables) string {
	if all.Count == 0 {
		return ""
	}
	var names []string
	for _, one := range all.List[:min(len(all.List), mostNames)] {
		names = append(names, fmt.Sprintf("%s (%s, %s)", one.Name, one.Type, v.Bytes(one.Bytes)))
	}
	if more := all.Count - len(names); more > 0 && len(names) > 0 {
		names = append(names, fmt.Sprintf("and %s more", v.Number(more)))
	}
	if len(names) == 0 {
		return fmt.Sprintf("%s, %s; names and values are not recorded", v.Number(all.Count), v.Bytes(all.Bytes))
	}
	return strings.Join(names, ", ") + "; values are not recorded"
}

func (v *view) fileSet(set *audit.FileSet) string {
	if set == nil {
		return ""
	}
	var names []string
	for _, one := range set.List[:min(len(set.List), mostNames)] {
		names = append(names, fmt.Sprintf("%s (%s)", one.Name, v.Bytes(one.Bytes)))
	}
	if more := set.Count - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %s more", v.Number(more)))
	}
	return strings.Join(names, ", ")
}

// howEnded is the result, and where the log has it.
func (v *view) howEnded(records RunRecords) (f facts) {
	r := records.Run
	f.add("Reason", r.Reason)
	if r.ExitCode != nil {
		f.add("Exit code", strconv.Itoa(*r.ExitCode))
	}
	f.add("Signal", r.Signal)
	if c := records.of(audit.ExecutionCancel); c != nil {
		text := c.User.Name
		if c.Cancel != nil && c.Cancel.Reason != "" {
			text += ": " + c.Cancel.Reason
		}
		f.add("Cancelled by", text)
	}
	f.add("Started", v.exact(r.Started))
	f.add("Ended", v.exact(r.Ended))
	used := v.Used(r)
	if r.Status != "" && used[0] != "–" {
		f.add("Time", used[0])
		f.add("CPU", used[1])
		f.add("Memory", used[2]+" at most")
	}
	if rec := records.Last(); rec != nil && rec.Process != nil {
		if out, errs := rec.Process.StdoutBytes, rec.Process.StderrBytes; out != nil && errs != nil {
			f.add("Output", fmt.Sprintf("%s, and %s of errors", v.Bytes(*out), v.Bytes(*errs)))
		} else {
			f.add("Output", "the caller's own streams: nobody has counted")
		}
		if n := rec.Process.ResultBytes; n > 0 {
			f.add("Result", v.Bytes(n)+" of JSON")
		}
	}
	if r.StartSeq > 0 {
		f.add("Start record", v.Number(r.StartSeq))
	}
	if r.EndSeq > 0 {
		f.add("Receipt", fmt.Sprintf("record %s", v.Number(r.EndSeq)))
		f.put(fact{Name: "Hash", Value: r.EndHash, Mono: true})
	}
	return f
}

func (v *view) exact(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return v.Exact(t)
}

// A limit is a limit of a run for people.
type limit struct{ Name, Value string }

// limitNames are the limits for people, and their units.
var limitNames = map[string]struct {
	name string
	say  func(look, float64) string
}{
	"timeout_seconds": {"Time", look.seconds}, "cpu_seconds": {"CPU time", look.seconds}, "memory_mb": {"Memory", look.megabytes}, "processes": {"Processes and threads", look.brief},
	"output_mb": {"Output", look.megabytes}, "file_mb": {"Largest file", look.megabytes}, "disk_mb": {"Working directory", look.megabytes}, "idle_seconds": {"Without progress", look.seconds},
}

func (l look) seconds(s float64) string {
	return l.Took(time.Duration(min(s*float64(time.Second), math.MaxInt64/2)))
}
func (l look) megabytes(n float64) string { return l.Bytes(int64(min(n*(1<<20), math.MaxInt64/2))) }

// sayLimit is a limit with its unit.
func (l look) sayLimit(name string, value float64) limit {
	if known, ok := limitNames[name]; ok {
		return limit{known.name, known.say(l, value)}
	}
	return limit{name, l.Fixed(value, 2)} // of a later version
}

// measured sets what was used against the limits, as far as the record has it.
func (v *view) measured(p *runPage, records RunRecords) {
	rec := records.Last()
	if rec == nil {
		return
	}
	p.Isolation = rec.Isolation
	use := map[string]float64{}
	if pr := rec.Process; pr != nil && rec.Event.Action == audit.ExecutionEnd {
		use["timeout_seconds"] = time.Duration(rec.Event.DurationNS).Seconds()
		use["cpu_seconds"] = float64(pr.CPUMS) / 1000
		use["memory_mb"] = float64(pr.PeakMemoryBytes) / (1 << 20)
		if pr.PeakProcesses > 0 {
			use["processes"] = float64(pr.PeakProcesses)
		}
		if fail := rec.Failure; fail != nil && fail.Limit != nil {
			use[fail.Limit.Name] = fail.Limit.Used
		}
		if pr.StdoutBytes != nil && pr.StderrBytes != nil {
			use["output_mb"] = float64(max(*pr.StdoutBytes, *pr.StderrBytes, pr.ResultBytes)) / (1 << 20)
		}
	}
	struck := map[string]string{"timeout": "timeout_seconds", "cpu_limit": "cpu_seconds", "memory_limit": "memory_mb", "process_limit": "processes",
		"output_limit": "output_mb", "idle_timeout": "idle_seconds", "disk_limit": "disk_mb"}[rec.Status]
	var bars []Bar
	for _, name := range slices.Concat(wire.LimitNames(), foreignLimits(rec.Limits)) {
		bound, limited := rec.Limits[name]
		used, known := use[name]
		if !limited && !known {
			continue
		}
		said := v.sayLimit(name, bound)
		if !known {
			if name == struck {
				said.Value += ": it struck"
			}
			p.Unmeasured = append(p.Unmeasured, said)
			continue
		}
		b := Bar{Name: said.Name, Value: used, Bound: bound, Said: v.sayLimit(name, used).Value, Limit: said.Value, Class: "s1"}
		if !limited {
			b.Bound, b.Limit, b.Said = 0, "", b.Said+", no limit"
		}
		if name == struck || limited && used >= bound {
			b.Class, b.Name = "limit", b.Name+" ▲"
		}
		bars = append(bars, b)
	}
	if len(bars) > 0 {
		plot := v.Bars("limits", "Use against limits", [3]string{"limit", "used", "of"}, bars)
		p.Limits = &plot
	}
	if fail := rec.Failure; fail != nil && len(fail.Where) > 0 {
		p.Frames = fail.Where
	} else if struck != "" {
		p.Where = "The record does not say where in the code the run was when the limit struck."
	}
}

// foreignLimits are limits that this version does not know.
func foreignLimits(limits map[string]float64) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		if _, known := limitNames[name]; !known {
			names = append(names, name)
		}
	}
	return names
}

// A touch is something that a run did to the world around it.
type touch struct{ Kind, What, Detail, Count string }

// mostTouched is how many the page lists.
const mostTouched = 200

// touched lists what the interpreter and the kernel reported, in the order of the record.
func (v *view) touched(p *runPage, records RunRecords) {
	rec := records.Last()
	if rec == nil || rec.Hooks == nil {
		return
	}
	h := rec.Hooks
	var notes []string
	if h.PythonHooks == activity.NoHooks {
		notes = append(notes, "No code of py3run was in the interpreter: this is what the kernel saw.")
	}
	add := func(kind, what, detail string, count int) {
		n := ""
		if count > 1 {
			n = v.Number(count) + " times"
		}
		p.Touched = append(p.Touched, touch{kind, what, detail, n})
	}
	for _, i := range h.FlaggedImports {
		detail := i.Why
		if i.Direct {
			detail += "; by the code itself"
		}
		add("import", i.Module, detail, 0)
	}
	for _, c := range h.Connections {
		add("connection", endpoint(c), by(c.Via, c.Program), c.Count)
	}
	for _, c := range h.Binds {
		add("listens", endpoint(c), by(c.Via, c.Program), c.Count)
	}
	for _, c := range h.Processes {
		detail := strings.Join(quoted(c.Args), " ")
		if c.ArgsDropped > 0 {
			detail += fmt.Sprintf(" … and %s more", v.Number(c.ArgsDropped))
		}
		add("program", c.Program, detail, c.Count)
	}
	for _, list := range []struct {
		kind  string
		names []string
	}{{"wrote", h.FilesWritten}, {"made directory", h.DirsMade}, {"deleted", h.FilesDeleted}, {"read", h.FilesRead}} {
		for _, name := range list.names {
			add(list.kind, name, "", 0)
		}
	}
	if h.Imports != nil {
		notes = append(notes, v.Number(*h.Imports)+" modules were imported.")
	}
	if h.Dropped > 0 {
		notes = append(notes, v.Number(h.Dropped)+" more events had no room in the record.")
	}
	if more := len(p.Touched) - mostTouched; more > 0 {
		p.Touched = p.Touched[:mostTouched]
		notes = append(notes, v.Number(more)+" more are in the end record below.")
	}
	p.TouchedNote = strings.Join(notes, " ")
	v.output(p, rec.Output)
}

func endpoint(c activity.Connection) string {
	switch {
	case c.Port == 0:
		return c.Host
	case strings.Contains(c.Host, ":"):
		return fmt.Sprintf("[%s]:%d", c.Host, c.Port)
	}
	return fmt.Sprintf("%s:%d", c.Host, c.Port)
}

func by(via, program string) string {
	if program != "" {
		return "seen by " + via + ", of " + program
	}
	return "seen by " + via
}

// Kept is the beginning of a stream that the record has.
type kept struct{ Name, Head, Note string }

func (v *view) output(p *runPage, o *audit.Output) {
	if o == nil {
		return
	}
	for _, one := range []struct {
		name string
		s    *audit.Stream
	}{{"Standard output", o.Stdout}, {"Standard error", o.Stderr}, {"Result", o.Result}} {
		if one.s == nil {
			continue
		}
		k := kept{Name: one.name, Head: one.s.Head, Note: fmt.Sprintf("%s, SHA-256 %s", v.Bytes(one.s.Bytes), one.s.SHA256)}
		if n := int64(len(one.s.Head)); n > 0 && n < one.s.Bytes {
			k.Note += "; the record has how it begins"
		}
		p.Output = append(p.Output, k)
	}
}

// A codeView is code for people, with the lines that a traceback names.
type codeView struct {
	Lines  []codeLine
	Marked []int
	More   string // what was left out; empty: nothing
	File   string // address of the whole
}

type codeLine struct {
	Number int
	Text   string
	Marked bool
}

const (
	mostCodeLines = 3000
	mostLineBytes = 2000
)

// viewOf bounds the code, and marks lines of it.
func viewOf(code []byte, marked []int) *codeView {
	c := &codeView{}
	for line := range bytes.Lines(code) {
		if len(c.Lines) == mostCodeLines {
			c.More = fmt.Sprintf("The first %d lines are shown.", mostCodeLines)
			break
		}
		text := strings.TrimRight(string(line), "\r\n")
		if len(text) > mostLineBytes {
			text = text[:mostLineBytes] + " …"
		}
		n := len(c.Lines) + 1
		c.Lines = append(c.Lines, codeLine{n, visible(text), slices.Contains(marked, n)})
	}
	for _, n := range marked {
		if n >= 1 && n <= len(c.Lines) {
			c.Marked = append(c.Marked, n)
		}
	}
	return c
}

// visible escapes what a browser obeys instead of showing it: with marks of direction, code would look like
// another than the one that ran.
func visible(line string) string {
	var b strings.Builder
	for len(line) > 0 {
		r, n := utf8.DecodeRuneInString(line)
		one := line[:n]
		if r != '\t' && (!strconv.IsGraphic(r) || r == utf8.RuneError && n == 1) {
			one = strconv.Quote(one)
			one = one[1 : len(one)-1]
		}
		b.WriteString(one)
		line = line[n:]
	}
	return b.String()
}

var tracebackLine = regexp.MustCompile(`(?m)^ *File "([^"\n]+)", line ([0-9]{1,7})`)

// tracebackLines are the lines of the code that the record of the failure and the kept beginning of
// standard error name. The program says so: these lines are marked, and nothing else follows from it.
func tracebackLines(records RunRecords) (lines []int) {
	rec := records.of(audit.ExecutionEnd)
	if rec == nil {
		return nil
	}
	if rec.Output != nil && rec.Output.Stderr != nil {
		lines = linesOf(rec.Output.Stderr.Head, records.Run)
	}
	if f := rec.Failure; f != nil {
		if f.Line > 0 {
			lines = append(lines, f.Line)
		}
		for _, at := range f.Where {
			if slices.Contains(codeNames(records.Run), at.File) {
				lines = append(lines, at.Line)
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// codeNames are the names that the code of a run has in its own tracebacks.
func codeNames(r store.Run) []string {
	return []string{r.Script, r.Path, path.Base(r.Path), wire.DefaultFilename, "<string>"}
}

// linesOf are the lines of the code of a run that a traceback names.
func linesOf(traceback string, r store.Run) (lines []int) {
	names := codeNames(r)
	for _, m := range tracebackLine.FindAllStringSubmatch(traceback, 200) {
		if n, err := strconv.Atoi(m[2]); err == nil && slices.Contains(names, m[1]) && !slices.Contains(lines, n) {
			lines = append(lines, n)
		}
	}
	slices.Sort(lines)
	return lines
}
