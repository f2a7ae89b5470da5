package scripts

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"py3run/cmd/internal/spelling"
	"py3run/cmd/internal/wire"
)

// Bounds of a declaration.
const (
	blockMost     = 64 << 10 // bytes of the block
	variablesMost = 100
	choicesMost   = 100
	choiceMost    = 200 // bytes of a choice as JSON
	patternMost   = 500
	docMost       = 500
	defaultMost   = 8 << 10  // bytes of a default as JSON
	matchedMost   = 64 << 10 // bytes of a value that is matched with a pattern

	// A character of a value takes at most a step for each instruction of the pattern's program.
	programMost = 5000       // instructions of a pattern
	stepsMost   = 20_000_000 // of all patterns that one check of variables matches: a fraction of a second
	stepsBegin  = 16         // characters that a match costs before its first: the program has to be made
)

// A DeclarationError lists what is wrong with the variables that a script declares.
type DeclarationError struct {
	Mistakes []Mistake // by line
}

// A Mistake is one of them.
type Mistake struct {
	Line int // of the script, from 1
	Text string
}

func (e *DeclarationError) Error() string {
	texts := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		texts[i] = fmt.Sprintf("line %d: %s", m.Line, m.Text)
	}
	return "declared variables: " + strings.Join(texts, "; ")
}

// Hint shows the form.
func (e *DeclarationError) Hint() string {
	return `# /// py3run, then lines such as # [variables.tank_id] and # type = "integer", then # ///; see py3run help scripts`
}

const (
	blockBegin = "# /// py3run"
	blockEnd   = "# ///"
)

// Declared returns the variables that a script declares, in the order of their names; none: it
// declares nothing, and takes any. They stand in a block of comments in the form of PEP 723:
//
//	# /// py3run
//	# [variables.tank_id]
//	# type = "integer"
//	# required = true
//	# min = 1
//	# ///
//
// So they belong to the bytes of a version, and Python and other tools skip them.
func Declared(code []byte) ([]Variable, error) {
	text, first, err := declaration(code)
	if err != nil || first == 0 {
		return nil, err
	}
	p := declarationParser{first: first, lines: strings.Split(text, "\n")}
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		line, problem := 1, err.Error()
		if at := new(toml.ParseError); errors.As(err, at) {
			line, problem = max(at.Position.Line, 1), at.Message
		}
		return nil, &DeclarationError{[]Mistake{{first + line - 1, problem}}}
	}
	list := p.variables(tree)
	if len(p.mistakes) > 0 {
		slices.SortStableFunc(p.mistakes, func(a, b Mistake) int { return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Text, b.Text)) })
		return nil, &DeclarationError{p.mistakes}
	}
	return list, nil
}

// declaration returns the text of the block without its comment signs, and the line at which it
// begins; 0: there is none. The first end counts: PEP 723 takes the last one of a comment, and two
// blocks in one comment would be one.
func declaration(code []byte) (text string, first int, err error) {
	wrong := func(line int, format string, args ...any) (string, int, error) {
		return "", 0, &DeclarationError{[]Mistake{{line, fmt.Sprintf(format, args...)}}}
	}
	if !bytes.Contains(code, []byte(blockBegin)) {
		return "", 0, nil
	}
	number, begin, open, size := 0, 0, false, 0
	var body []string
	for line := range bytes.Lines(code) {
		number++
		line = bytes.TrimRight(line, "\r\n")
		comment := bytes.Equal(line, []byte("#")) || bytes.HasPrefix(line, []byte("# "))
		switch {
		case string(line) == blockBegin && begin > 0:
			return wrong(number, "a second block %s; the first one begins in line %d", blockBegin, begin)
		case string(line) == blockBegin:
			begin, open = number, true
		case !open:
		case string(line) == blockEnd:
			open = false
		case !comment:
			return wrong(begin, "the block has no end: want %s after lines that begin with #", blockEnd)
		case size+len(line) > blockMost:
			return wrong(begin, "the block has more than %d bytes", blockMost)
		default:
			size += len(line)
			body = append(body, string(bytes.TrimPrefix(line[1:], []byte(" "))))
		}
	}
	if open {
		return wrong(begin, "the block has no end: want %s after lines that begin with #", blockEnd)
	}
	if begin == 0 {
		return "", 0, nil
	}
	return strings.Join(body, "\n"), begin + 1, nil
}

// A declarationParser turns the tree of a block into variables, and collects mistakes.
type declarationParser struct {
	first    int // line of the script at which the block's text begins
	lines    []string
	mistakes []Mistake
}

// wrong notes a mistake at a key of a variable, or at the variable itself.
func (p *declarationParser) wrong(variable, key, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if variable != "" {
		text = "variable " + shown(variable) + ": " + text
	}
	p.mistakes = append(p.mistakes, Mistake{p.first + p.lineOf(variable, key), text})
}

// lineOf finds the line of a key in the usual form, a header and a key below it; otherwise that of
// the header, or the first of the block.
func (p *declarationParser) lineOf(variable, key string) int {
	at, within := 0, variable == ""
	for i, line := range p.lines {
		line = strings.TrimSpace(line)
		if header, ok := strings.CutPrefix(line, "["); ok {
			header, _, _ = strings.Cut(header, "]")
			section, name, _ := strings.Cut(header, ".")
			if within = strings.TrimSpace(section) == "variables" && strings.Trim(name, ` "'`) == variable; within {
				at = i
			}
			continue
		}
		if name, _, ok := strings.Cut(line, "="); ok && within && key != "" && strings.Trim(name, ` "'`) == key {
			return i
		}
	}
	return at
}

func (p *declarationParser) variables(tree map[string]any) (list []Variable) {
	for key := range tree {
		if key != "variables" {
			p.wrong("", key, "unknown key %s; want [variables.NAME]", shown(key))
		}
	}
	section, ok := tree["variables"].(map[string]any)
	if _, there := tree["variables"]; there && !ok {
		p.wrong("", "variables", "variables: want sections [variables.NAME]")
	}
	if len(section) > variablesMost {
		p.wrong("", "", "%d variables, at most %d are allowed", len(section), variablesMost)
		return nil
	}
	for name, of := range section {
		if reason := wire.BadName(name); reason != "" {
			p.wrong(name, "", "%s", reason)
			continue
		}
		keys, ok := of.(map[string]any)
		if !ok {
			p.wrong(name, "", "want a section [variables.%s]", name)
			continue
		}
		list = append(list, p.variable(name, keys))
	}
	slices.SortFunc(list, func(a, b Variable) int { return strings.Compare(a.Name, b.Name) })
	return list
}

var declarationKeys = []string{"type", "required", "default", "min", "max", "choices", "pattern", "doc"}

// variable reads one section, and checks that its rules fit each other.
func (p *declarationParser) variable(name string, keys map[string]any) Variable {
	before := len(p.mistakes)
	v := Variable{Name: name}
	for key := range keys {
		if !slices.Contains(declarationKeys, key) {
			p.wrong(name, key, "unknown key %s%s", shown(key), didYouMean(key, declarationKeys))
		}
	}
	kind, ok := keys["type"].(string)
	if v.Type = Type(kind); !ok || !slices.Contains(types, v.Type) {
		p.wrong(name, "type", "type: want one of string, integer, number, boolean, array, object")
		return v
	}
	v.Required = take[bool](p, name, keys, "required", "true or false")
	v.Pattern = take[string](p, name, keys, "pattern", "a text")
	v.Doc = take[string](p, name, keys, "doc", "a text")
	v.Min, v.Max = p.bound(v, keys, "min"), p.bound(v, keys, "max")
	v.Choices = p.choices(v, keys)
	if given, there := keys["default"]; there {
		value, problem := valueOf(given, v.Type)
		if problem == "" && len(wire.AppendJSON(nil, value)) > defaultMost {
			problem = fmt.Sprintf("more than %d bytes", defaultMost)
		}
		if problem != "" {
			p.wrong(name, "default", "default: %s", problem)
		}
		v.Default = value
	}
	switch {
	case v.Min != "" && v.Max != "" && compareNumbers(v.Min, v.Max) > 0:
		p.wrong(name, "min", "min is above max")
	case v.Required && v.Default != nil:
		p.wrong(name, "required", "has a default, so it need not be required")
	}
	if len(v.Doc) > docMost {
		p.wrong(name, "doc", "doc: more than %d bytes", docMost)
	}
	p.pattern(v)
	if len(p.mistakes) > before {
		return v
	}
	steps := stepsMost
	for i, choice := range v.Choices {
		if _, text := v.check(choice, &steps); text != "" {
			p.wrong(name, "choices", "choices: the value at place %d: %s", i+1, text)
		}
	}
	if v.Default != nil {
		if _, text := v.check(v.Default, &steps); text != "" {
			p.wrong(name, "default", "default: %s", text)
		}
	}
	return v
}

// take takes a key of one type out of a section.
func take[T any](p *declarationParser, name string, keys map[string]any, key, want string) (value T) {
	given, there := keys[key]
	value, ok := given.(T)
	if there && !ok {
		p.wrong(name, key, "%s: want %s", key, want)
	}
	return value
}

func (p *declarationParser) pattern(v Variable) {
	switch {
	case v.Pattern == "":
	case v.Type != String:
		p.wrong(v.Name, "pattern", "pattern: only a string can have one")
	case len(v.Pattern) > patternMost:
		p.wrong(v.Name, "pattern", "pattern: more than %d bytes", patternMost)
	default:
		if _, _, err := compile(v.Pattern); err != nil {
			p.wrong(v.Name, "pattern", "pattern: %v (the syntax is RE2)", err)
		}
	}
}

// compile makes a pattern match whole strings, and returns about how many instructions its program has.
// Counting comes first: a short pattern can have a program of millions.
func compile(pattern string) (*regexp.Regexp, int, error) {
	tree, err := syntax.Parse(pattern, syntax.Perl) // alone: a parenthesis must not close ours
	if err != nil {
		return nil, 0, err
	}
	size := instructions(tree)
	if size > programMost {
		return nil, size, fmt.Errorf("is too large: it repeats so much that it has %d instructions, and at most %d are allowed", size, programMost)
	}
	compiled, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	return compiled, size, err
}

// instructions is about how many instructions a tree becomes; it stops counting far beyond what is allowed.
func instructions(tree *syntax.Regexp) int {
	const enough = 1 << 30
	size := 1
	switch tree.Op {
	case syntax.OpLiteral:
		size = len(tree.Rune)
	case syntax.OpCharClass:
		size += len(tree.Rune) / 64 // a step looks through its ranges
	case syntax.OpCapture:
		size = 2
	}
	for _, sub := range tree.Sub {
		size = min(size+1+instructions(sub), enough)
	}
	if tree.Op == syntax.OpRepeat {
		times := max(tree.Min, tree.Max, 1)
		if tree.Max < 0 {
			times = tree.Min + 1
		}
		size = min(size*times, enough)
	}
	return size
}

func (p *declarationParser) bound(v Variable, keys map[string]any, key string) wire.Number {
	given, there := keys[key]
	if !there {
		return ""
	}
	kind := Integer // of a length
	switch v.Type {
	case Boolean:
		p.wrong(v.Name, key, "%s: a boolean has no size", key)
		return ""
	case Number:
		kind = Number
	}
	value, problem := valueOf(given, kind)
	if problem != "" {
		p.wrong(v.Name, key, "%s: %s", key, problem)
	}
	n, _ := value.(wire.Number)
	return n
}

func (p *declarationParser) choices(v Variable, keys map[string]any) (list []any) {
	given, there := keys["choices"]
	if !there {
		return nil
	}
	all, ok := given.([]any)
	switch {
	case !ok || len(all) == 0:
		p.wrong(v.Name, "choices", "choices: want a list of values")
		return nil
	case v.Type != String && v.Type != Integer && v.Type != Number:
		p.wrong(v.Name, "choices", "choices: only a string, an integer or a number can have them")
		return nil
	case len(all) > choicesMost:
		p.wrong(v.Name, "choices", "choices: %d values, at most %d are allowed", len(all), choicesMost)
		return nil
	}
	for i, one := range all {
		value, problem := valueOf(one, v.Type)
		if problem == "" && len(wire.AppendJSON(nil, value)) > choiceMost {
			problem = fmt.Sprintf("more than %d bytes", choiceMost)
		}
		if problem != "" {
			p.wrong(v.Name, "choices", "choices: the value at place %d: %s", i+1, problem)
		}
		list = append(list, value)
	}
	return list
}

// valueOf turns a value of TOML into one of JSON. An integer beyond 64 bits, which TOML does not
// have, can be written as a string.
func valueOf(given any, kind Type) (value any, problem string) {
	if text, ok := given.(string); ok && kind == Integer {
		v, err := wire.Parse([]byte(text), 1)
		if n, ok := v.(wire.Number); err == nil && ok && n.IsInteger() {
			return n, ""
		}
		return nil, "want an integer"
	}
	value, problem = fromTOML(given, depthMost-8)
	if problem == "" && !kind.has(value) {
		problem = "want " + kind.named()
	}
	return value, problem
}

func fromTOML(given any, depth int) (value any, problem string) {
	if depth == 0 {
		return nil, "is nested too deep"
	}
	switch g := given.(type) {
	case string:
		if !utf8.ValidString(g) {
			return nil, "is not UTF-8"
		}
		return g, ""
	case bool:
		return g, ""
	case int64:
		return wire.Number(strconv.FormatInt(g, 10)), ""
	case float64:
		if math.IsNaN(g) || math.IsInf(g, 0) {
			return nil, "is not a finite number"
		}
		text := strconv.FormatFloat(g, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0" // Python makes a float of it, as TOML does
		}
		return wire.Number(text), ""
	case []any:
		list := make([]any, len(g))
		for i := range g {
			if list[i], problem = fromTOML(g[i], depth-1); problem != "" {
				return nil, problem
			}
		}
		return list, ""
	case []map[string]any:
		list := make([]any, len(g))
		for i := range g {
			if list[i], problem = fromTOML(g[i], depth-1); problem != "" {
				return nil, problem
			}
		}
		return list, ""
	case map[string]any:
		o := &wire.Object{}
		for _, name := range slices.Sorted(maps.Keys(g)) {
			v, problem := fromTOML(g[name], depth-1)
			if problem != "" {
				return nil, problem
			}
			o.Names, o.Values = append(o.Names, name), append(o.Values, v)
		}
		return o, ""
	}
	return nil, "is a date or time, which JSON does not have; write it as a string"
}

// didYouMean names the known word that was perhaps meant.
func didYouMean(word string, known []string) string {
	if near := spelling.Nearest(word, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
