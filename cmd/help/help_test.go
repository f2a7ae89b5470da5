// Package help_test holds the documentation to the code: the pages in this directory, README.md and the other documents at the top. It runs each
// command line that they show, and looks up each name that they mention.
//
// What the documents show, by the first word behind a fence:
//
//	console    `$ command` and what it prints; run in the shell, one session for a document. `...` stands for any text, on a line of its own for any
//	           lines. A second word names what the block needs: a program, or `namespaces`; where that is missing the block is passed over
//	sh, yaml   commands that are not run here (they need root, a network, systemd …); that py3run knows their words and flags is checked
//	toml       a configuration without a mistake
//	json       JSON
//	python, java and others with a second word   a file of that name, for the commands that follow
//	text       anything else; not looked at
//
// README.md is run as its reader runs it: in a copy of the sources, with a python3 in PATH and no variable that names one. Its `go` does nothing:
// what it builds is this binary, and the tests run already.
package help_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"py3run/cmd"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/ctl"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
)

// The documents are run with both commands: copies of this test binary under their names.
func TestMain(m *testing.M) {
	if python.IsLinkName(filepath.Base(os.Args[0])) { // a link that a document makes
		os.Exit(cmd.Main())
	}
	access.SystemFile = filepath.Join(os.Getenv("HOME"), "etc-py3run", access.FileName) // never this machine's own
	testscript.Main(m, map[string]func(){
		"py3run":    func() { os.Exit(cmd.Main()) },
		"py3runctl": func() { os.Exit(ctl.Main(os.Args[1:])) },
	})
}

const top = "../.."

// A document is a page or a file at the top, in parts.
type document struct {
	name   string // of the file, from the top
	text   string
	blocks []block
	spans  []span // code within the prose
	links  []span
}

type block struct {
	line        int // of its first line
	kind, about string
	text        string
}

type span struct {
	line int
	text string
}

func (d document) isPage() bool { return strings.HasPrefix(d.name, "cmd/help/") }

func documents(t *testing.T) (all []document) {
	t.Helper()
	names, err := filepath.Glob("*.md")
	if err != nil || len(names) == 0 {
		t.Fatal("no pages", err)
	}
	for i, name := range names {
		names[i] = "cmd/help/" + name
	}
	for _, name := range append(names, "README.md", "SECURITY.md", "CONTRIBUTING.md", "examples/README.md") {
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parse(name, string(text)))
	}
	return all
}

var (
	codeSpan = regexp.MustCompile("`([^`]+)`")
	linkTo   = regexp.MustCompile(`\]\(([^)]+)\)`)
)

func parse(name, text string) document {
	d := document{name: name, text: text}
	var open *block
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			kind, about, _ := strings.Cut(fence, " ")
			open = &block{line: i + 2, kind: kind, about: about}
		case isFence:
			d.blocks = append(d.blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		default:
			for _, m := range codeSpan.FindAllStringSubmatch(line, -1) {
				d.spans = append(d.spans, span{i + 1, m[1]})
			}
			for _, m := range linkTo.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
				d.links = append(d.links, span{i + 1, m[1]})
			}
		}
	}
	return d
}

// Shape: what a terminal and a hurried reader need.
func TestShape(t *testing.T) {
	for _, d := range documents(t) {
		lines := strings.Split(d.text, "\n")
		if d.isPage() {
			name := strings.TrimSuffix(filepath.Base(d.name), ".md")
			if !strings.HasPrefix(lines[0], "# "+name+": ") {
				t.Errorf("%s begins with %q, want # %s: and what it is about", d.name, lines[0], name)
			}
			for i, line := range lines {
				if n := len([]rune(line)); n > 100 {
					t.Errorf("%s:%d: %d columns; a terminal has 100", d.name, i+1, n)
				}
			}
		}
		for i, line := range lines {
			if strings.Count(line, "`")%2 != 0 && !strings.HasPrefix(line, "```") {
				t.Errorf("%s:%d: code that goes on in the next line is not looked up", d.name, i+1)
			}
		}
		if strings.Count(d.text, "\n```")%2 != 0 {
			t.Errorf("%s: a block has no end", d.name)
		}
		if d.name == "README.md" && len(d.text) > 8192 {
			t.Errorf("README.md has %d bytes; at most 8192", len(d.text))
		}
	}
}

// Each page is linked from the README, and each link leads somewhere.
func TestLinks(t *testing.T) {
	linked := map[string]bool{}
	for _, d := range documents(t) {
		for _, l := range d.links {
			if strings.Contains(l.text, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(l.text, "#")
			target := d.name
			if file != "" {
				target = filepath.Join(filepath.Dir(d.name), file)
			}
			linked[d.name+" "+target] = true
			text, err := os.ReadFile(filepath.Join(top, target))
			if info, statErr := os.Stat(filepath.Join(top, target)); err != nil && (statErr != nil || !info.IsDir()) {
				t.Errorf("%s:%d: no file %s", d.name, l.line, target)
			} else if anchor != "" && !slices.Contains(anchors(string(text)), anchor) {
				t.Errorf("%s:%d: %s has no heading %q; it has %v", d.name, l.line, target, anchor, anchors(string(text)))
			}
		}
	}
	for _, d := range documents(t) {
		if d.isPage() && !linked["README.md "+d.name] {
			t.Errorf("README.md does not link %s", d.name)
		}
	}
}

// anchors are those that GitHub gives to headings.
func anchors(text string) (list []string) {
	for line := range strings.Lines(text) {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			list = append(list, strings.ReplaceAll(name, " ", "-"))
		}
	}
	return list
}

// The page of exit codes shows the very table that decides them.
func TestExitCodesAreTheTable(t *testing.T) {
	want := ""
	for _, s := range wire.Statuses() {
		code := fmt.Sprint(wire.Result{Status: s}.ExitStatus())
		switch s {
		case wire.StatusExit:
			code = "n"
		case wire.StatusSignal:
			code = "128+n"
		case wire.StatusCancelled:
			code = "130/143"
		}
		want += fmt.Sprintf("%-8s %-22s %s\n", code, s, s.Meaning())
	}
	for _, d := range documents(t) {
		if d.name == "cmd/help/exit-codes.md" && d.blocks[0].text != want {
			t.Errorf("the first block of exit-codes.md is not the table of statuses; want\n%s", want)
		}
	}
}

// The limits in README.md and on their page are those of the code, with their defaults.
func TestLimitsAreTheTable(t *testing.T) {
	for _, d := range documents(t) {
		if d.name != "README.md" && d.name != "cmd/help/limits.md" {
			continue
		}
		for _, field := range wire.LimitNames() {
			i := slices.IndexFunc(config.Shorts[:], func(s config.Short) bool { return strings.ReplaceAll(s.Name, "-", "_") == field })
			if i < 0 {
				t.Errorf("no flag for the limit %s: it wants a row in config.Shorts", field)
				continue
			}
			s := config.Shorts[i]
			key := strings.TrimPrefix(s.Key, "security.")
			row := regexp.MustCompile(fmt.Sprintf("(?m)^\\|.*\\| %s[^|]*\\| `--%s` *\\| `%s` *\\| `%s` *\\|$",
				regexp.QuoteMeta(config.DefaultText(s.Key)), s.Name, field, key))
			if !row.MatchString(d.text) {
				t.Errorf("%s: no row for %s with default %s, flag, field and key: %s", d.name, field, config.DefaultText(s.Key), row)
			}
		}
	}
}

// Each key of the configuration is on a page: by its whole name, or in a table of the keys of its section.
func TestEveryKeyIsOnAPage(t *testing.T) {
	named := map[string]bool{}
	for _, d := range documents(t) {
		if !d.isPage() {
			continue
		}
		for _, s := range d.spans {
			if key := isKey.FindStringSubmatch(s.text); key != nil {
				named[key[1]] = true
			}
		}
		section := ""
		for line := range strings.Lines(d.text) {
			if m := keyTable.FindStringSubmatch(line); m != nil {
				section = m[1]
			} else if !strings.HasPrefix(line, "|") {
				section = ""
			}
			for _, m := range codeSpan.FindAllStringSubmatch(line, -1) {
				leaf, _, _ := strings.Cut(m[1], " = ")
				if section != "" {
					named[section+"."+leaf] = true
				}
			}
		}
	}
	for _, key := range settings() {
		if !named[key] {
			t.Errorf("no page names %s: put it on the page of its section (see configuration.md)", key)
		}
	}
}

// Each field of a result is named on a page: the members of the line itself, and those of a failure.
func TestEveryResultFieldIsOnAPage(t *testing.T) {
	named := map[string]bool{}
	for _, d := range documents(t) {
		for _, s := range d.spans {
			if d.isPage() {
				for name := range strings.SplitSeq(s.text, ".") {
					named[name] = true
				}
			}
		}
	}
	text, _ := wire.Schema("result")
	var schema struct {
		Properties map[string]struct{ Properties map[string]any }
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	names := slices.Concat(slices.Collect(maps.Keys(schema.Properties)), slices.Collect(maps.Keys(schema.Properties["failure"].Properties)))
	if len(names) < 30 {
		t.Errorf("only %d fields found: the schema has another form now", len(names))
	}
	for _, name := range names {
		if !named[name] {
			t.Errorf("no page names the field %s of a result: callers.md lists them", name)
		}
	}
}

// The table of warnings in callers.md has each code that the code gives, and no other.
func TestWarningsAreTheTable(t *testing.T) {
	told, given := map[string]bool{}, map[string]bool{}
	for _, d := range documents(t) {
		inTable := false
		for line := range strings.Lines(d.text) {
			inTable = d.name == "cmd/help/callers.md" && (strings.HasPrefix(line, "| warning |") || inTable && strings.HasPrefix(line, "|"))
			if m := codeSpan.FindStringSubmatch(line); inTable && m != nil {
				told[m[1]] = true
			}
		}
	}
	err := filepath.WalkDir(filepath.Join(top, "cmd"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range warningCode.FindAllSubmatch(text, -1) {
			given[string(m[1])+string(m[2])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for code := range given {
		if !told[code] {
			t.Errorf("callers.md does not have the warning %s", code)
		}
	}
	for code := range told {
		if !given[code] {
			t.Errorf("callers.md has the warning %s, which nothing gives", code)
		}
	}
	if len(given) < 25 {
		t.Errorf("only %d warnings found: the code has another form now", len(given))
	}
}

// A warning is made where it is given, but for those of the interpreter: package python has their names.
var warningCode = regexp.MustCompile(`\bWarning\{+Code: +"(\w+)"|\b(?:warn[A-Z]\w+ += |code, message = )"(\w+)"`)

var keyTable = regexp.MustCompile("^\\|.*\\bkey in `([a-z.-]+)`")

// settings are the keys of the configuration, without ceilings and floors.
func settings() (keys []string) {
	section := ""
	for line := range strings.Lines(string(config.Init())) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "# ")
		if name, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(name, "]") {
			section = strings.TrimSuffix(name, "]")
		} else if key, _, ok := strings.Cut(line, " = "); ok && !strings.Contains(key, " ") && !strings.HasPrefix(section, "floor.") && !strings.HasPrefix(section, "ceiling.") {
			keys = append(keys, section+"."+key)
		}
	}
	return keys
}

// Each value of the configuration is read somewhere outside its package. It is looked up by its name alone, so a
// name that other types have too can hide that nothing reads it.
func TestEveryKeyIsRead(t *testing.T) {
	var code strings.Builder
	err := filepath.WalkDir(filepath.Join(top, "cmd"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/config/") {
			return err
		}
		text, err := os.ReadFile(path)
		code.Write(goComment.ReplaceAll(text, nil))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields(reflect.TypeFor[config.Config]()) {
		if !regexp.MustCompile(`\.` + field + `\b`).MatchString(code.String()) {
			t.Errorf("nothing reads %s of config.Config", field)
		}
	}
}

// fields are the names of the values in a structure, those of structures in it, too.
func fields(of reflect.Type) (names []string) {
	for field := range of.Fields() {
		if field.Type.Kind() == reflect.Struct {
			names = append(names, fields(field.Type)...)
		} else {
			names = append(names, field.Name)
		}
	}
	return names
}

// The tables of isolation.md explain each measure that the sandbox can give or lack, and no other.
func TestMeasuresAreTheTable(t *testing.T) {
	explained := map[string]bool{}
	for _, d := range documents(t) {
		if d.name != "cmd/help/isolation.md" {
			continue
		}
		inTable := false
		for line := range strings.Lines(d.text) {
			inTable = strings.HasPrefix(line, "| measure |") || inTable && strings.HasPrefix(line, "|")
			first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
			for _, m := range codeSpan.FindAllStringSubmatch(first, -1) {
				if inTable {
					explained[m[1]] = true
				}
			}
		}
	}
	measures := measuresOfTheCode(t)
	for name := range measures {
		if !explained[name] {
			t.Errorf("isolation.md does not explain the measure %s", name)
		}
	}
	for name := range explained {
		if !measures[name] {
			t.Errorf("isolation.md explains %s, which is no measure", name)
		}
	}
	if len(measures) < 30 {
		t.Errorf("only %d measures found: the code has another form now", len(measures))
	}
}

// measuresOfTheCode finds the names of measures: the constants named so, the member measure of a step, and
// every such text in the files that only name measures.
func measuresOfTheCode(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, "sandbox/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	add := func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				name := strings.Trim(lit.Value, "\"`")
				if strings.HasSuffix(name, "-") { // "seccomp-" + seccomp.Default
					name += "default"
				}
				if isMeasure.MatchString(name) && !slices.Contains(otherNames, name) {
					found[name] = true
				}
			}
			return true
		})
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		whole := slices.Contains([]string{"protect_linux.go", "landlock_linux.go"}, filepath.Base(file))
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.FuncDecl:
				if whole && n.Body != nil {
					add(n.Body)
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "measure" {
					add(n.Value)
				}
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if strings.HasSuffix(name.Name, "Measure") && i < len(n.Values) {
						add(n.Values[i])
					}
				}
			}
			return true
		})
	}
	return found
}

var (
	isMeasure  = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	otherNames = []string{"memory", "pids", "cpu", "io", "io-writes", "landlock"} // controllers, the name of a descriptor
)

// Each command prints what the documents say.
func TestConsole(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	ip, skipped, err := python.Find(python.Want{Interpreter: "auto", Environ: os.Environ(), Dir: "/"})
	if err != nil {
		if strings.Contains(os.Getenv("PY3RUN_TEST_REQUIRE"), "python") {
			t.Fatalf("%v (passed over: %v)", err, skipped)
		}
		t.Skip(err)
	}
	for _, d := range documents(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			d.run(t, ip.Path)
		})
	}
}

// A step is a command of a document and what it is to print.
type step struct {
	line          int
	command, want string
}

// run plays all console blocks of a document in one shell.
func (d document) run(t *testing.T, interpreter string) {
	dir, err := os.MkdirTemp("", "py3run-help-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	home := filepath.Join(dir, "home")
	here := filepath.Join(home, "here")
	for _, made := range []string{here, filepath.Join(dir, "run")} {
		if err := os.MkdirAll(made, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	shared := filepath.Join(os.TempDir(), fmt.Sprint("py3run-test-cache-", os.Geteuid()))
	environ := append(os.Environ(), "HOME="+home, "LANG=C.UTF-8", "PY3RUN_CONFIG=", "PY3RUN_PYTHON_INTERPRETER="+interpreter,
		"PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(dir, "audit"), "PY3RUN_SECURITY_ISOLATION_WORKING_DIR="+filepath.Join(dir, "w", "${executionId}"),
		"XDG_CONFIG_HOME="+filepath.Join(home, ".config"), "XDG_CACHE_HOME="+shared, "XDG_STATE_HOME="+filepath.Join(dir, "state"),
		"XDG_RUNTIME_DIR="+filepath.Join(dir, "run"))
	launcher, err := exec.LookPath("py3run")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(launcher, filepath.Join(here, "py3run")); err != nil { // ./py3run is what go build makes
		t.Fatal(err)
	}
	if d.name == "README.md" { // its reader has a clone, and a python3 in PATH, but none of our variables
		programs := filepath.Join(dir, "bin")
		if err := errors.Join(os.CopyFS(here, sources()), os.Mkdir(programs, 0o700), os.Symlink(interpreter, filepath.Join(programs, "python3")),
			os.WriteFile(filepath.Join(programs, "go"), []byte("#!/bin/sh\n"), 0o700)); err != nil { // what it builds is there, and the tests run
			t.Fatal(err)
		}
		before := filesBelow(t, here)
		defer func() {
			made := slices.DeleteFunc(filesBelow(t, here), func(name string) bool { return slices.Contains(before, name) })
			if len(made) > 0 {
				t.Errorf("%s: its commands make files among the sources: %q", d.name, made)
			}
		}()
		environ = slices.DeleteFunc(environ, func(v string) bool {
			return strings.HasPrefix(v, "PY3RUN_PYTHON_") || strings.HasPrefix(v, "VIRTUAL_ENV=")
		})
		environ = append(environ, "PATH="+programs+":"+os.Getenv("PATH"))
	}
	var script strings.Builder
	var steps []step
	for _, b := range d.blocks {
		switch {
		case b.kind == "console" && has(t, b.about):
			for _, s := range b.steps(t, d.name) {
				fmt.Fprintf(&script, "printf '\\n\\001%d\\n'\n(exit $code)\n%s\ncode=$?\n", len(steps), s.command)
				steps = append(steps, s)
			}
		case b.kind == "console" || b.about == "":
		default:
			fmt.Fprintf(&script, "cat > %s <<'END OF FILE'\n%sEND OF FILE\n", b.about, b.text)
		}
	}
	if len(steps) == 0 {
		return
	}
	file := filepath.Join(dir, "script")
	if err := os.WriteFile(file, []byte("exec 2>&1\ncode=0\n"+script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := exec.Command("bash", file)
	shell.Dir, shell.Env = here, environ
	out, _ := shell.Output()
	if strings.Contains(d.text, "warm start") {
		stop := exec.Command("py3runctl", "warm", "stop")
		stop.Env = environ
		stop.Run()
	}
	outputs := strings.Split(string(out), "\n\001")[1:]
	for i, s := range steps {
		got := "the shell came to no such command"
		if i < len(outputs) {
			_, got, _ = strings.Cut(outputs[i], "\n")
		}
		if !s.matches(got) {
			t.Errorf("%s:%d: $ %s\nprinted\n%s\nwant\n%s", d.name, s.line, s.command, got, s.want)
		}
	}
}

// sources are the files of this repository without its history: what a clone has.
func sources() fs.FS { return noHistory{os.DirFS(top)} }

type noHistory struct{ fs.FS }

func (n noHistory) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(n.FS, name)
	return slices.DeleteFunc(list, func(e fs.DirEntry) bool { return e.Name() == ".git" || e.Name() == "py3run" }), err
}

// filesBelow are the files in the directories below one. Those in itself do not count: a reader's own are there, too.
func filesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Dir(path) != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// steps are the commands of a block. A line that begins with "> " goes on with the command before it.
func (b block) steps(t *testing.T, name string) (steps []step) {
	for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			steps = append(steps, step{line: b.line + i, command: command})
			continue
		}
		if len(steps) == 0 {
			t.Fatalf("%s:%d: a console block begins with $", name, b.line+i)
		}
		last := &steps[len(steps)-1]
		if more, ok := strings.CutPrefix(line, "> "); ok && last.want == "" {
			last.command += "\n" + more
			continue
		}
		last.want += line + "\n"
	}
	return steps
}

// matches compares what was printed with what is to be.
func (s step) matches(got string) bool {
	var pattern strings.Builder
	for line := range strings.Lines(s.want) {
		if strings.TrimSpace(line) == "..." {
			pattern.WriteString(`(?:.*\n)*?`)
			continue
		}
		pattern.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(line, " \n")), `\.\.\.`, `.*?`) + " *\n")
	}
	return regexp.MustCompile(`^` + pattern.String() + `\n*$`).MatchString(strings.TrimRight(got, "\n") + "\n")
}

// has tells whether what a block needs is here.
func has(t *testing.T, what string) bool {
	switch what {
	case "":
		return true
	case "namespaces":
		if !namespaces() && strings.Contains(os.Getenv("PY3RUN_TEST_REQUIRE"), what) {
			t.Error("no namespaces here, and PY3RUN_TEST_REQUIRE wants them")
		}
		return namespaces()
	default:
		if _, err := exec.LookPath(what); err != nil {
			t.Logf("no %s here: a block is passed over", what)
			return false
		}
		return true
	}
}

// namespaces tells whether runs have namespaces of their own here.
var namespaces = sync.OnceValue(func() bool {
	out, _ := exec.Command("py3run", "doctor", "--format", "json").Output()
	var checks []struct {
		Name string
		OK   bool
	}
	json.Unmarshal(out, &checks)
	for _, c := range checks {
		if c.Name == "namespaces" {
			return c.OK
		}
	}
	return false
})

// Blocks that are not run are well-formed, and both commands know the words and flags in them.
func TestBlocks(t *testing.T) {
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			at := fmt.Sprintf("%s:%d", d.name, b.line)
			switch b.kind {
			case "console", "sh", "yaml":
				if b.kind == "console" && b.about == "" { // TestConsole runs it, and may show a mistake
					continue
				}
				for _, problem := range commandLines(t, b.text) {
					t.Errorf("%s: %s", at, problem)
				}
			case "toml":
				if strings.HasPrefix(b.text, "version = ") { // a policy
					_, findings := access.Parse("policy", b.text)
					for i := range findings {
						t.Errorf("%s: %s", at, findings[i].Error())
					}
					continue
				}
				file := filepath.Join(t.TempDir(), "config.toml")
				if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
					t.Fatal(err)
				}
				for _, finding := range config.Check(file) {
					if !strings.Contains(finding.Error(), "/etc/py3run") { // a ceiling stands only there
						t.Errorf("%s: %s", at, finding.Error())
					}
				}
			case "json":
				if !json.Valid([]byte(b.text)) {
					t.Errorf("%s: no JSON", at)
				}
			case "text", "python", "java":
			default:
				t.Errorf("%s: a block of an unknown kind %q", at, b.kind)
			}
		}
	}
}

// What the prose names is in the code.
func TestMentions(t *testing.T) {
	code := readCode(t)
	for _, d := range documents(t) {
		for _, s := range d.spans {
			if problem := code.find(t, s.text); problem != "" {
				t.Errorf("%s:%d: `%s`: %s", d.name, s.line, s.text, problem)
			}
		}
	}
}

// A source is what the code consists of, for looking names up.
type source struct {
	words map[string]bool // identifiers, and words with dashes
	tests map[string]bool // functions of tests
	files []string        // from the top
	keys  map[string]bool // of the configuration, and its sections
	flags map[string]bool // of both commands
	field map[string]bool // of requests, results and records
	text  strings.Builder // of all of it
}

var (
	word      = regexp.MustCompile(`[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*`)
	part      = regexp.MustCompile(`[A-Za-z0-9_]+`)
	testFunc  = regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+|Benchmark\w+)\(`)
	isVar     = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\*?$`)
	isKey     = regexp.MustCompile(`^((?:floor\.|ceiling\.)?(?:security|input|identity|python|warm|bridge|alerts)(?:\.[a-z0-9-]+)+)( = .*)?$`)
	isTest    = regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]\w+$`)
	isFile    = regexp.MustCompile(`^[\w.*{}-]+(/[\w.*{}-]+)*/?$`)
	isName    = regexp.MustCompile(`^[\w-]+(\.[\w-]+)*(\(\))?$`)
	goComment = regexp.MustCompile(`(?m)(^|\s)//.*$`)
	property  = regexp.MustCompile(`"(\w+)": *\{`)
	extension = regexp.MustCompile(`\.(go|py|md|txtar|sh|yml|java|s|csv|log|mod|sum)$`)
)

// outside are names of other people's programs, of Python, of Linux and of people, which the code need not have.
var outside = strings.Fields(`
	sudo ping ssh mv cp rm rsync chown chmod usermod nohup jq bash fish zsh make sleep curl grep tee cat env fg bg reset getpass pdb
	timeout systemd-run docker firejail nsjail podman pip venv numpy pandas jedi coverage pyenv asdf
	seccomp-default EXDEV SA_RESTART RLIMIT_AS security.max-sockets console
	exit quit help copyright credits license alice true
	-I -S __init__.py sitecustomize
	shutil.move atexit weakref.finalize TemporaryDirectory sys.argv sys.prefix sys.flags.no_site
	uidmap copytruncate logrotate newuidmap newgidmap GOPROXY
	LICENSE go main master`)

func readCode(t *testing.T) *source {
	t.Helper()
	s := &source{words: map[string]bool{}, tests: map[string]bool{}, keys: map[string]bool{}, flags: map[string]bool{}, field: map[string]bool{}}
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(top, path)
		switch {
		case err != nil:
			return err
		case e.Name() == ".git":
			return fs.SkipDir
		case e.IsDir():
			s.files = append(s.files, name+"/")
			return nil
		}
		s.files = append(s.files, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch {
		case strings.HasSuffix(name, "_test.go"):
			for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
				s.tests[m[1]] = true
			}
		case strings.HasPrefix(name, "testdata/"), strings.Contains(name, "/testdata/"):
		case slices.Contains([]string{".go", ".py", ".json", ".s", ".sh", ".java", ".yml"}, filepath.Ext(name)):
			if strings.HasSuffix(name, ".go") {
				text = goComment.ReplaceAll(text, nil) // what only a comment names is not in the code
			}
			s.text.Write(text)
			for _, w := range word.FindAllString(string(text), -1) {
				s.words[w] = true
			}
			for _, w := range part.FindAllString(string(text), -1) {
				s.words[w] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	for line := range strings.Lines(string(config.Init())) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "# ")
		if name, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(name, "]") {
			section = strings.TrimSuffix(name, "]")
			for ; section != "" && !s.keys[section]; section = section[:max(0, strings.LastIndex(section, "."))] {
				s.keys[section] = true
			}
			section = strings.TrimSuffix(name, "]")
		} else if key, _, ok := strings.Cut(line, " = "); ok && !strings.Contains(key, " ") {
			s.keys[section+"."+key] = true
			s.keys["ceiling."+section+"."+key] = true
			s.keys["floor."+section+"."+key] = true
		}
	}
	for _, name := range []string{"request", "result", "audit"} {
		schema, _ := wire.Schema(name)
		for _, m := range property.FindAllSubmatch(schema, -1) {
			s.field[string(m[1])] = true
		}
	}
	for _, program := range []string{"py3run", "py3runctl"} {
		helpOf(program).collect(s.flags)
	}
	return s
}

// find looks a name up; what it returns is what is wrong with it.
func (s *source) find(t *testing.T, text string) string {
	key := isKey.FindStringSubmatch(text)
	name, value, assigned := strings.Cut(text, " = ")
	bare := strings.TrimSuffix(text, "()")
	switch {
	case slices.Contains(outside, bare), strings.Contains(text, "…"), strings.Contains(text, "NAME"): // of other people, shortened, a place for a name
		return ""
	case strings.Contains(s.text.String(), `"`+strings.TrimSuffix(text, "/")+`"`): // a text of the code itself
		return ""
	case strings.HasPrefix(text, "py3run "), strings.HasPrefix(text, "py3runctl "), strings.HasPrefix(text, "./py3run "):
		return strings.Join(commandLines(t, text), "; ")
	case isTest.MatchString(text):
		if !s.tests[text] {
			return "no such test"
		}
	case strings.HasPrefix(text, "--"):
		flag, _, _ := strings.Cut(text, " ")
		flag, _, _ = strings.Cut(flag, "=")
		if !s.flags[flag] {
			return "no command has such a flag"
		}
	case key != nil:
		if !s.keys[key[1]] && !s.isField(key[1]) {
			return "no such key or section of the configuration"
		}
	case assigned && isName.MatchString(name) && !strings.Contains(name, "_"):
		if !s.hasLeaf(name) && !s.words[name] {
			return "no such key"
		}
		if choice := strings.Trim(value, `"`); choice != value && isName.MatchString(choice) && !s.words[choice] && !strings.Contains(choice, ".") {
			return "no such value"
		}
	case isVar.MatchString(text):
		if strings.HasPrefix(text, "PY3RUN_") && !s.isVariable(text) || !strings.HasPrefix(text, "PY3RUN_") && !s.words[strings.TrimSuffix(text, "*")] {
			return "no such variable in the code"
		}
	case isFile.MatchString(text) && (strings.Contains(text, "/") || extension.MatchString(text)):
		if !s.hasFile(text) {
			return "no such file"
		}
	case isName.MatchString(text):
		if s.words[bare] || s.hasLeaf(bare) || s.isField(bare) {
			return ""
		}
		for _, p := range strings.Split(bare, ".") {
			if !s.words[p] {
				return fmt.Sprintf("%q is nowhere in the code", p)
			}
		}
	}
	return ""
}

// isField tells whether a name with dots is made of fields of a request, a result or a record.
func (s *source) isField(name string) bool {
	for _, part := range strings.Split(name, ".") {
		if !s.field[part] {
			return false
		}
	}
	return true
}

func (s *source) hasLeaf(name string) bool {
	for key := range s.keys {
		if strings.HasSuffix(key, "."+name) {
			return true
		}
	}
	return false
}

func (s *source) isVariable(name string) bool {
	if slices.Contains([]string{"PY3RUN_CONFIG", "PY3RUN_TEST_REQUIRE"}, name) {
		return true
	}
	for key := range s.keys {
		if config.Variable(key) == name {
			return true
		}
	}
	return false
}

// hasFile finds a file by its path from the top or from the packages below cmd/internal, and one without a directory anywhere.
func (s *source) hasFile(name string) bool {
	for _, f := range s.files {
		for _, start := range []string{"", "cmd/", "cmd/internal/"} {
			if ok, _ := filepath.Match(start+name, f); ok || start+name+"/" == f || start+name == f {
				return true
			}
		}
		if ok, _ := filepath.Match(name, filepath.Base(f)); ok && !strings.Contains(name, "/") {
			return true
		}
	}
	return false
}

// A command's help says what it knows.
type commandHelp struct {
	line   string          // py3run config show
	flags  map[string]bool // and whether a value follows
	below  map[string]bool
	topics map[string]bool
}

var (
	helps    sync.Map
	flagLine = regexp.MustCompile(`^\s+(?:-(\w), |    )--([\w-]+)(\[=\S+\])?( \S+)?(?:  |$)`)
)

// helpOf asks a command for its help, once.
func helpOf(line string) *commandHelp {
	once, _ := helps.LoadOrStore(line, sync.OnceValue(func() *commandHelp {
		words := strings.Fields(line)
		out, err := exec.Command(words[0], append(words[1:], "--help")...).Output()
		if err != nil {
			return nil
		}
		h := &commandHelp{line: line, flags: map[string]bool{}, below: map[string]bool{}, topics: map[string]bool{}}
		part := ""
		for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
			text := lines.Text()
			if !strings.HasPrefix(text, " ") && text != "" {
				part = text
			}
			fields := strings.Fields(text)
			switch {
			case len(fields) == 0 || text == part:
			case part == "Available Commands:":
				h.below[fields[0]] = true
			case part == "Additional help topics:":
				h.topics[fields[2]] = true // py3run help TOPIC
			default:
				if m := flagLine.FindStringSubmatch(text); m != nil {
					h.flags["--"+m[2]] = m[4] != ""
					if m[1] != "" {
						h.flags["-"+m[1]] = m[4] != ""
					}
				}
			}
		}
		return h
	}))
	return once.(func() *commandHelp)()
}

// collect adds the flags of a command and of all below it.
func (h *commandHelp) collect(flags map[string]bool) {
	for f := range h.flags {
		flags[f] = true
	}
	for sub := range h.below {
		if below := helpOf(h.line + " " + sub); below != nil && sub != "help" && sub != "completion" {
			below.collect(flags)
		}
	}
}

var (
	quotedText = regexp.MustCompile(`'[^']*'|"(?:\\.|[^"\\])*"`)
	invocation = regexp.MustCompile(`(?m)(?:^|[|;&(]|run:|\bsudo|\bexec|\bthen|\bdo|\b[A-Z_]+=\S*)[ \t]*(?:\$ )?(?:\S*/)?(py3runctl|py3run)((?:[ \t]+[^\s|;&()<>]+)+)`)
	comment    = regexp.MustCompile(`(?m)(^|\s)#.*$`)
)

// commandLines checks each call of py3run and py3runctl in a text of the shell.
func commandLines(t *testing.T, text string) (problems []string) {
	t.Helper()
	text = strings.ReplaceAll(text, "\\\n", " ")
	text = quotedText.ReplaceAllStringFunc(text, func(q string) string {
		if strings.Contains(q, "=") && !strings.Contains(q, " ") { // a setting
			return strings.Trim(q, `'"`)
		}
		return "QUOTED"
	})
	text = comment.ReplaceAllString(text, "")
	for _, m := range invocation.FindAllStringSubmatch(text, -1) {
		if problem := commandLine(m[1], strings.Fields(m[2])); problem != "" {
			problems = append(problems, fmt.Sprintf("%s%s: %s", m[1], m[2], problem))
		}
	}
	return problems
}

func commandLine(program string, args []string) string {
	h := helpOf(program)
	root := h
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "help" && h == root:
			if i+1 < len(args) && !root.below[args[i+1]] && !root.topics[args[i+1]] && args[i+1] != "TOPIC" {
				return "no such topic"
			}
			return ""
		case a == "completion" && h == root:
			return ""
		case strings.HasPrefix(a, "-") && a != "-" && a != "--":
			flag, value, given := strings.Cut(a, "=")
			takes, known := h.flags[flag]
			if !known {
				return "no flag " + flag
			}
			if takes && !given && i+1 < len(args) {
				i++
				value = args[i]
			}
			if flag == "--set" {
				key, _, _ := strings.Cut(value, "=")
				if !strings.Contains(string(config.Schema()), `"`+key[strings.LastIndex(key, ".")+1:]+`"`) {
					return "no key " + key
				}
			}
		case h.below[a]:
			if h = helpOf(h.line + " " + a); h == nil {
				return "no help of " + a
			}
		case h == root && program == "py3run" && i == 0 && a != "--":
			return "no command " + a
		case len(h.below) > 0 && h != root:
			return "no command " + a
		case h.line == "py3run run" || h.line == "py3run explain": // what follows is the script's
			return ""
		}
	}
	return ""
}
