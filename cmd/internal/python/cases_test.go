package python

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"py3run/cmd/internal/wire"
)

// A pythonCase is one case of testdata/python: code, and what must come of it. README.md there describes the files.
type pythonCase struct {
	name    string
	prelude string // stands before the code
	code    *string
	job     jobFile
	archive string            // that it is in
	files   map[string]string // on the import path
	site    map[string]string // in a virtual environment, among its packages
	want    wantFile
	texts   map[string]string // value, stdout, stderr, traceback: patterns
}

// A jobFile is request.json: a Job in the names of a request, with a few that only the launcher has.
type jobFile struct {
	Command      wire.Command    `json:"command"`
	Code         *string         `json:"code"` // instead of code.py, for what does not look like text
	Bytes        bool            `json:"bytes"`
	Argv         []string        `json:"argv"`
	Variables    json.RawMessage `json:"variables"`
	Module       string          `json:"module"`
	Function     string          `json:"function"`
	Args         json.RawMessage `json:"args"`
	Kwargs       json.RawMessage `json:"kwargs"`
	Line         int             `json:"line"`
	Column       int             `json:"column"`
	ResultFormat string          `json:"result_format"`
	ResultFrom   string          `json:"result_from"`
	Show         bool            `json:"show"`
	OutputMost   int64           `json:"output_bytes"`
}

// A wantFile is want.json. What stands in no file is wanted to be empty or 0, but for the pointers, which are then not compared.
type wantFile struct {
	Python   string       `json:"python"`  // versions for which the case holds: ">=3.11" or "<3.12"
	Modules  []string     `json:"modules"` // that an interpreter must have
	SameAs   string       `json:"same_as"`
	Kind     string       `json:"kind"`
	Type     *string      `json:"type"`
	Text     *string      `json:"text"`
	Absent   *bool        `json:"absent"`
	Warnings []string     `json:"warnings"`
	Exit     int          `json:"exit"`
	Signal   int          `json:"signal"`
	Error    *string      `json:"error"`
	Line     *int         `json:"line"`
	Column   *int         `json:"column"`
	Syntax   bool         `json:"syntax"`
	Memory   bool         `json:"memory"`
	Errno    int          `json:"errno"`
	Lines    int          `json:"traceback_lines"` // at most; 0 = not compared
	Hooks    *wire.Events `json:"hooks"`
	Appended []string     `json:"appended"`
	Ignore   []string     `json:"ignore"` // fields of hooks, and "os": its import by the library
}

// readCases reads an archive. A name without a directory is for each of its cases; else the directory names the case.
func readCases(t *testing.T, path string) (list []*pythonCase) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(archive.Comment)) == "" {
		t.Errorf("%s: says nothing at its top", path)
	}
	var common []txtar.File
	byName := map[string]*pythonCase{}
	seen := map[string]bool{}
	for _, f := range archive.Files {
		if seen[f.Name] {
			t.Fatalf("%s: %s is there twice", path, f.Name)
		}
		seen[f.Name] = true
		name, file, ofCase := strings.Cut(f.Name, "/")
		if !ofCase || name == "lib" || name == "site" {
			if len(list) > 0 {
				t.Fatalf("%s: %s is for all cases and stands behind one", path, f.Name)
			}
			common = append(common, f)
			continue
		}
		c := byName[name]
		if c == nil {
			c = &pythonCase{name: name, archive: path, files: map[string]string{}, site: map[string]string{}, texts: map[string]string{}, want: wantFile{Kind: "value"}}
			for _, of := range common {
				if err := c.add(of.Name, of.Data); err != nil {
					t.Fatalf("%s: %s: %v", path, of.Name, err)
				}
			}
			byName[name], list = c, append(list, c)
		}
		if err := c.add(file, f.Data); err != nil {
			t.Fatalf("%s: %s: %v", path, f.Name, err)
		}
	}
	return list
}

// add takes a file of the case. What nobody knows is a mistake in the archive.
func (c *pythonCase) add(name string, data []byte) error {
	strict := func(into any) error {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		return d.Decode(into)
	}
	switch text := strings.TrimSuffix(string(data), "\n"); {
	case name == "prelude.py":
		c.prelude = string(data)
	case name == "code.py":
		c.code = &text
	case name == "request.json":
		return strict(&c.job)
	case name == "want.json":
		return strict(&c.want)
	case name == "value":
		c.texts[name] = strings.TrimSpace(text)
	case name == "stdout" || name == "stderr" || name == "traceback":
		if c.texts[name] = strings.TrimRight(text, "\n") + "\n"; c.texts[name] == "*\n" {
			c.texts[name] = "*"
		}
	case strings.HasPrefix(name, "lib/"):
		c.files[strings.TrimPrefix(name, "lib/")] = string(data)
	case strings.HasPrefix(name, "site/"):
		c.site[strings.TrimPrefix(name, "site/")] = string(data)
	default:
		return errors.New("no file of a case has this name")
	}
	return nil
}

// make is the job, with the case's files in a directory on the import path. PORT stands for a port that is listened at.
func (c *pythonCase) make(t *testing.T, port string) Job {
	t.Helper()
	j := c.job
	job := Job{Command: j.Command, Text: !j.Bytes, Argv: j.Argv, Module: j.Module, Function: j.Function, Line: j.Line, Column: j.Column,
		ResultFormat: j.ResultFormat, ResultFrom: j.ResultFrom, PrintError: j.Show, OutputMost: j.OutputMost}
	if c.code != nil && j.Code != nil {
		t.Fatal("code.py and a code in request.json")
	}
	for _, code := range []*string{c.code, j.Code} {
		if code != nil {
			job.Code = []byte(c.prelude + strings.ReplaceAll(*code, "PORT", port))
		}
	}
	parse := func(text json.RawMessage, into any) {
		if text == nil {
			return
		}
		value, err := wire.Parse(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		reflect.ValueOf(into).Elem().Set(reflect.ValueOf(value))
	}
	parse(j.Variables, &job.Variables)
	parse(j.Args, &job.Args)
	parse(j.Kwargs, &job.Kwargs)
	if len(c.files) > 0 {
		dir := t.TempDir()
		writeFiles(t, dir, c.files)
		job.ImportPath = []string{dir}
	}
	return job
}

// holdsFor says whether the case is one for this interpreter.
func (c *pythonCase) holdsFor(t *testing.T, ip Interpreter) bool {
	t.Helper()
	version, least := strings.CutPrefix(c.want.Python, ">=")
	if c.want.Python == "" {
		return true
	}
	version, below := strings.CutPrefix(version, "<")
	if least == below || !isVersion(version) {
		t.Fatalf("python %q, want >=3.N or <3.N", c.want.Python)
	}
	return (slices.Compare(numbers(ip.Version), numbers(version)) >= 0) == least
}

// TestCases runs the cases of testdata/python in every interpreter.
//
// In the newest, and in all where PY3RUN_TEST_STARTS is "all", each case has a start of its own. Elsewhere, and with modules whose import
// takes long, it has a fork of an interpreter that has started: see host.
func TestCases(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../../../testdata/python/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	list := needPython(t)
	hosts := newHosts(t)
	port := listening(t)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			for _, c := range readCases(t, path) {
				c.run(t, list, hosts, port)
			}
		})
	}
}

// run runs the case as a parallel subtest in each of the interpreters for which it holds.
func (c *pythonCase) run(t *testing.T, list []Interpreter, hosts *hosts, port string) {
	t.Run(c.name, func(t *testing.T) {
		t.Parallel()
		for i, ip := range list {
			if !c.holdsFor(t, ip) {
				continue
			}
			t.Run(ip.Version, func(t *testing.T) {
				job := c.make(t, port)
				if c.want.SameAs == "eager site" { // whose flag only a start can have
					c.compareWithEager(t, hosts.environment(t, ip, c), job)
					return
				}
				var tr trial
				if len(c.want.Modules) == 0 && (i == len(list)-1 || os.Getenv("PY3RUN_TEST_STARTS") == "all") {
					tr = try(t, ip, job)
				} else {
					h, err := hosts.of(ip, c.want.Modules)
					if errors.As(err, new(errNotThere)) {
						t.Skip(err)
					}
					if err != nil {
						t.Fatal(err)
					}
					tr = tryWith(t, ip, job, h.run)
				}
				switch c.want.SameAs {
				case "":
					c.check(t, job, tr)
				case "bare interpreter":
					c.compareWithBare(t, ip, tr)
				default:
					t.Fatalf("same_as %q", c.want.SameAs)
				}
			})
		}
	})
}

// check compares what has come of the job.
func (c *pythonCase) check(t *testing.T, job Job, tr trial) {
	t.Helper()
	w, r := c.want, tr.reply
	differs := func(what string, got, want any) {
		t.Errorf("%s: %.3000s\nwant %.3000s", what, fmt.Sprint(got), fmt.Sprint(want))
	}
	text := func(name, got string, isWanted bool) {
		if want := c.texts[name]; (c.texts[name] != "" || isWanted) && !matches(got, strings.ReplaceAll(want, "CODE", filepath.Join(filepath.Dir(tr.dir), "code.py"))) {
			differs(name, lines(got), lines(want))
		}
	}
	if got := tr.kind(); got != w.Kind {
		differs("kind", got+" "+r.Error+lines(r.Traceback), w.Kind)
	}
	if tr.exit != w.Exit && w.Signal == 0 || tr.signal != syscall.Signal(w.Signal) {
		differs("exit code and signal", fmt.Sprint(tr.exit, ", ", int(tr.signal)), fmt.Sprint(w.Exit, ", ", w.Signal))
	}
	text("stdout", tr.stdout, true)
	text("stderr", tr.stderr, true)
	if w.Kind == "value" || w.Kind == "exit" {
		if _, ok := c.texts["value"]; ok || !slices.Equal(r.Value, []byte("null")) {
			text("value", string(r.Value), true)
		}
	}
	if w.Type != nil && !matches(r.Type, *w.Type) {
		differs("type", r.Type, *w.Type)
	}
	if w.Text != nil && !matches(r.Text, *w.Text) {
		differs("text", r.Text, *w.Text)
	}
	if w.Absent != nil && r.Absent != *w.Absent {
		differs("absent", r.Absent, *w.Absent)
	}
	got, want := tr.warnings(), w.Warnings
	if n := len(want) - 1; n >= 0 && want[n] == "*" { // and any others
		got, want = got[:min(n, len(got))], want[:n]
	}
	if !slices.Equal(got, want) {
		differs("warnings", lines(strings.Join(got, "\n")), lines(strings.Join(want, "\n")))
	}
	if w.Kind == "too_large" && r.Bytes < job.OutputMost {
		differs("bytes", r.Bytes, job.OutputMost)
	}
	if w.Kind == "error" {
		c.checkError(t, tr)
		text("traceback", r.Traceback, false)
	}
	if w.Hooks != nil {
		got, want := inJSON(c.seen(tr)), inJSON(*w.Hooks)
		got, want = got+fmt.Sprintf("\nappended %q", c.seen(tr).Appended), want+fmt.Sprintf("\nappended %q", w.Appended)
		if got != want {
			differs("hooks", got, want)
		}
	}
	if !tr.began && w.Kind != "error" {
		t.Error("the code has not begun")
	}
}

// checkError compares what is said of an exception beside its traceback, which never shows anything of ours.
func (c *pythonCase) checkError(t *testing.T, tr trial) {
	t.Helper()
	r, w := tr.reply, c.want
	if w.Error != nil && !matches(r.Error, *w.Error) {
		t.Errorf("error %q, want %q", r.Error, *w.Error)
	}
	if w.Line != nil && r.Line != *w.Line || w.Column != nil && r.Column != *w.Column {
		t.Errorf("line %d, column %d", r.Line, r.Column)
	}
	if r.Syntax != w.Syntax || r.Memory != w.Memory || r.Errno != w.Errno {
		t.Errorf("syntax %t, memory %t, errno %d, want %t, %t, %d", r.Syntax, r.Memory, r.Errno, w.Syntax, w.Memory, w.Errno)
	}
	for _, ours := range []string{"py3run>", "py3run report", "code.py\", line", "contextlib.py"} {
		if strings.Contains(r.Traceback, ours) {
			t.Errorf("the traceback shows %s\n%s", ours, r.Traceback)
		}
	}
	if max := w.Lines; max > 0 {
		for what, text := range map[string]string{"traceback": r.Traceback, "stderr": tr.stderr} {
			if n := strings.Count(text, "\n"); n > max {
				t.Errorf("%s of %d lines, want at most %d:\n%.1500s", what, n, max, text)
			}
		}
	}
}

// seen are the events without what differs from run to run, and without what the case ignores. DIR is the working directory.
func (c *pythonCase) seen(tr trial) wire.Events {
	got := tr.events
	got.Imports = nil
	for _, list := range [][]wire.Connection{got.Connections, got.Binds} {
		for i := range list {
			if list[i].Port > 1 { // a port of a listener
				list[i].Port = 0
			}
		}
	}
	for _, list := range []*[]string{&got.FilesWritten, &got.FilesDeleted, &got.Appended, &got.DirsMade} {
		for i, f := range *list {
			if rest, below := strings.CutPrefix(f, tr.dir); below {
				(*list)[i] = "DIR" + rest
			}
		}
	}
	for _, name := range c.want.Ignore {
		switch name {
		case "flagged_imports":
			got.FlaggedImports = nil
		case "os":
			got.FlaggedImports = slices.DeleteFunc(got.FlaggedImports, func(f wire.FlaggedImport) bool { return f.Module == "os" && !f.Direct })
		case "files_written":
			got.FilesWritten = nil
		case "files_deleted":
			got.FilesDeleted = nil
		}
	}
	return got
}

// inJSON writes events so that they can be compared, and read: without fields that say nothing.
func inJSON(e wire.Events) string {
	e.Processes = slices.Clone(e.Processes)
	for i := range e.Processes {
		e.Processes[i].Args = append([]string{}, e.Processes[i].Args...)
	}
	var fields map[string]any
	text, _ := json.Marshal(e)
	json.Unmarshal(text, &fields)
	maps.DeleteFunc(fields, func(_ string, v any) bool {
		list, isList := v.([]any)
		return v == nil || v == 0.0 || isList && len(list) == 0
	})
	text, _ = json.MarshalIndent(fields, "", "  ")
	return string(text)
}

// compareWithBare holds a run to what the interpreter alone does with the same code: what it prints, how it ends, and what it leaves in files.
func (c *pythonCase) compareWithBare(t *testing.T, ip Interpreter, tr trial) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(ip.Path, "-I", "-X", "utf8", "-c", *c.code)
	var stderr strings.Builder
	cmd.Dir, cmd.Stderr = dir, &stderr
	stdout, _ := cmd.Output()
	if tr.stdout != string(stdout) || tr.exit != cmd.ProcessState.ExitCode() {
		t.Errorf("stdout %q, exit code %d; a bare interpreter: %q, %d", tr.stdout, tr.exit, stdout, cmd.ProcessState.ExitCode())
	}
	for _, name := range []string{"file", "file-wal"} {
		want, missing := os.Stat(filepath.Join(dir, name))
		got, lost := os.Stat(filepath.Join(tr.dir, name))
		if (missing == nil) != (lost == nil) || missing == nil && want.Size() != got.Size() {
			t.Errorf("%s: %v, %v; a bare interpreter: %v, %v", name, got, lost, want, missing)
		}
	}
}

// compareWithEager holds a run that imports site when it is missed to one that has imported it.
func (c *pythonCase) compareWithEager(t *testing.T, ip Interpreter, job Job) {
	t.Helper()
	eager := try(t, ip, job)
	job.LazySite = true
	lazy := try(t, ip, job)
	told := func(tr trial) string {
		return fmt.Sprintf("%s, exit code %d, value %s\nerror %s\n%s\nstderr %s", tr.kind(), tr.exit, tr.reply.Value, tr.reply.Error, tr.reply.Traceback, tr.stderr)
	}
	if told(eager) != told(lazy) {
		t.Errorf("eager: %s\nlazy: %s", told(eager), told(lazy))
	}
}

// hosts are what the cases of a test share. For each interpreter and list of modules there is one host, for each interpreter and archive
// one virtual environment. They are made when they are first needed.
type hosts struct {
	dir          string
	mu           sync.Mutex
	list         map[string]func() (*host, error)
	environments map[string]func() Interpreter
}

// newHosts makes hosts that end with the test.
func newHosts(t *testing.T) *hosts {
	hs := &hosts{dir: t.TempDir(), list: map[string]func() (*host, error){}, environments: map[string]func() Interpreter{}}
	t.Cleanup(func() {
		for _, start := range hs.list {
			if h, err := start(); err == nil {
				h.close()
			}
		}
	})
	return hs
}

func (hs *hosts) of(ip Interpreter, modules []string) (*host, error) {
	hs.mu.Lock()
	key := ip.Path + " " + strings.Join(modules, " ")
	start := hs.list[key]
	if start == nil {
		start = sync.OnceValues(func() (*host, error) { return startHost(ip, modules) })
		hs.list[key] = start
	}
	hs.mu.Unlock()
	return start()
}

// environment is the virtual environment of an archive.
func (hs *hosts) environment(t *testing.T, ip Interpreter, c *pythonCase) Interpreter {
	t.Helper()
	hs.mu.Lock()
	key := ip.Path + " " + c.archive
	plant := hs.environments[key]
	if plant == nil {
		dir := filepath.Join(hs.dir, fmt.Sprint("environment-", len(hs.environments)))
		plant = sync.OnceValue(func() Interpreter { return plantEnvironment(t, dir, ip, c.site) })
		hs.environments[key] = plant
	}
	hs.mu.Unlock()
	return plant()
}
