package python

import (
	"flag"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var generate = flag.Bool("generate", false, "write runtime/constants.py")

// A shared constant is one of protocol.go or protocol_template.go.
type sharedConstant struct {
	name    string // in Go
	value   constant.Value
	letter  bool   // written as 'x'
	first   bool   // of its group
	heading string // of the group
}

// sharedConstants reads both files. They need no other file.
func sharedConstants(t *testing.T) (list []sharedConstant) {
	t.Helper()
	for _, path := range []string{"protocol.go", "protocol_template.go"} {
		list = append(list, constantsIn(t, path)...)
	}
	return list
}

func constantsIn(t *testing.T, path string) (list []sharedConstant) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}}
	if _, err := new(types.Config).Check("python", files, []*ast.File{file}, info); err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		group := d.(*ast.GenDecl) // nothing but constants stands there
		heading := sentenceEnd.Split(strings.ReplaceAll(group.Doc.Text(), "\n", " "), 2)[0]
		for i, spec := range group.Specs {
			spec := spec.(*ast.ValueSpec)
			literal, _ := spec.Values[0].(*ast.BasicLit)
			list = append(list, sharedConstant{spec.Names[0].Name, info.Defs[spec.Names[0]].(*types.Const).Val(), literal != nil && literal.Kind == token.CHAR, i == 0, heading})
		}
	}
	return list
}

var sentenceEnd = regexp.MustCompile(`[.:] `)

// pythonName is the name of a constant in Python.
func pythonName(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// inPython is the value as Python writes it.
func (c sharedConstant) inPython() string {
	if c.letter {
		return strconv.Quote(string(rune(number64(c.value))))
	}
	return c.value.ExactString()
}

// number64 is an integer, or 0 for a text.
func number64(v constant.Value) int64 {
	if v.Kind() != constant.Int {
		return 0
	}
	n, _ := constant.Int64Val(v)
	return n
}

// constants.py has what protocol.go and protocol_template.go have.
func TestConstants(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Made from protocol.go and protocol_template.go by `go generate`: they say what each of these means.\n# Do not edit.\n")
	for _, c := range sharedConstants(t) {
		if c.first {
			b.WriteString("\n")
		}
		if c.first && c.heading != "" {
			fmt.Fprintf(&b, "# %s\n", c.heading)
		}
		fmt.Fprintf(&b, "%s = %s\n", pythonName(c.name), c.inPython())
	}
	const path = "runtime/constants.py"
	if *generate {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != b.String() {
		t.Errorf("%s is not what the Go files say (%v): run go generate ./cmd/internal/python", path, err)
	}
}

// What package sandbox defines has the same value there.
func TestSandboxProtocol(t *testing.T) {
	same := map[string]string{ // the name here, the name there
		"workerControl": "workerControl", "workerOwnPid": "workerOwnPid", "workerInit": "workerInit",
		"workerProgram": "workerProgram", "workerGroups": "workerGroups", "workerRuleset": "workerRuleset",
		"msgFailed": "msgFailed", "msgMissing": "msgMissing", "msgEnded": "msgEnded", "msgReady": "msgReady",
		"stepGroup": "stepGroup", "lifelineEnded": "lifelineEnded", "lifelineStop": "lifelineStop", "lifelineGo": "lifelineGo", "listHead": "listHead", "listCall": "callWords",
		"setupStart": "listStart", "setupBack": "listBack", "setupInit": "listInit", "setupProgram": "listProgram", "setupAfter": "listAfter",
		"modeOptional": "optional", "modeQuiet": "quiet", "modeWithPrev": "withPrev", "modeWantOne": "wantOne",
		"modeIfPrev": "ifPrev", "modeToSend": "toSend", "modeAddRule": "addRule",
	}
	unnamed := []string{"workerControl", "workerGroups", "callWords", "listStart", "listBack", "listInit", "listProgram", "listAfter"} // they may have no name there
	theirs := constantsOf(t, "../../../sandbox")
	for _, c := range sharedConstants(t) {
		name, shared := same[c.name]
		delete(same, c.name)
		got, known := theirs[name]
		switch {
		case !shared, !known && slices.Contains(unnamed, name):
		case !known:
			t.Errorf("%s: package sandbox has no constant %s", c.name, name)
		case !constant.Compare(got, token.EQL, c.value):
			t.Errorf("%s is %v, and %s of package sandbox is %v", c.name, c.value, name, got)
		}
	}
	if len(same) > 0 {
		t.Errorf("not in protocol_template.go: %q", slices.Sorted(maps.Keys(same)))
	}
}

// constantsOf evaluates the constants of a package for which that is possible without what it
// imports.
func constantsOf(t *testing.T, dir string) map[string]constant.Value {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	fileSet := token.NewFileSet()
	found := map[string]constant.Value{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fileSet, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		info := &types.Info{Defs: map[*ast.Ident]types.Object{}}
		loose := types.Config{Error: func(error) {}, IgnoreFuncBodies: true} // what it does not know, other files define
		loose.Check("sandbox", fileSet, []*ast.File{file}, info)
		for name, object := range info.Defs {
			if c, is := object.(*types.Const); is && c.Val().Kind() == constant.Int {
				found[name.Name] = c.Val()
			}
		}
	}
	return found
}

// No Python module spells a size, a place in the memory, a signal or a descriptor of the protocol
// out, nor defines a name of constants.py itself.
func TestNoLiterals(t *testing.T) {
	var names []string
	numbers := map[string]string{} // the larger ones: 0 to 12 are also other things
	for _, c := range sharedConstants(t) {
		names = append(names, pythonName(c.name))
		if n := number64(c.value); n > 20 && !c.letter {
			numbers[fmt.Sprint(n)] = pythonName(c.name)
			for shift := 10; shift < 31; shift++ {
				if n == 1<<shift {
					numbers[fmt.Sprintf("1 << %d", shift)] = pythonName(c.name)
				}
			}
		}
	}
	own := regexp.MustCompile(`(?m)^\s*(?:\w+, *)*(` + strings.Join(names, "|") + `)\b *(?:,[\w ,]*)?= `)
	number := regexp.MustCompile(`\b(?:1 << \d+|\d+)\b`)
	event := regexp.MustCompile(`\bnote\(\s*["']`)
	place := regexp.MustCompile(`\bmemory\.words\[\d|\bfirst \+ \d|\bfaulthandler\.register\(\d`)
	paths, _ := filepath.Glob("runtime/*.py")
	if len(paths) < 10 {
		t.Fatalf("only %d modules in runtime", len(paths))
	}
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) == "constants.py" {
			continue
		}
		for i, line := range strings.Split(string(source), "\n") {
			code := withoutComment(line)
			for _, n := range number.FindAllString(code, -1) {
				if name := numbers[n]; name != "" && !slices.Contains(otherwise[filepath.Base(path)], n) {
					t.Errorf("%s:%d: %s: is it %s?\n%s", path, i+1, n, name, line)
				}
			}
			if found := own.FindStringSubmatch(code); found != nil {
				t.Errorf("%s:%d: %s is defined in constants.py", path, i+1, found[1])
			}
			if event.MatchString(code) || place.MatchString(code) {
				t.Errorf("%s:%d: a literal of the protocol\n%s", path, i+1, line)
			}
		}
	}
}

// otherwise are numbers that mean something else in a module.
var otherwise = map[string][]string{
	"events.py":   {"4000"},       // bytes of an event
	"keep.py":     {"255"},        // the greatest exit code
	"program.py":  {"32", "4000"}, // half of the bits of a time; characters of a message
	"values.py":   {"63", "64"},   // Base64; levels of a value
	"messages.py": {"32"},         // descriptors
	"pages.py":    {"63", "64"},   // bits of addresses and entries; pages
	"syscalls.py": {"63"},         // the sign of a word
	"worker.py":   {"32"},         // bytes of a secret
}

// withoutComment cuts a line of Python at its comment, if no quote could hide one.
func withoutComment(line string) string {
	if i := strings.Index(line, "#"); i >= 0 && !strings.ContainsAny(line[i:], `"'`) {
		return line[:i]
	}
	return line
}
