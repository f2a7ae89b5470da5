package scripts

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/cmd/internal/wire/strictjson"
)

// block makes a script that declares what a text of TOML says.
func block(text string) []byte {
	var b strings.Builder
	b.WriteString("#!/usr/bin/env python3\n\"\"\"A script.\"\"\"\n# /// py3run\n")
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		b.WriteString(strings.TrimRight("# "+strings.TrimSuffix(line, "\n"), " ") + "\n")
	}
	b.WriteString("# ///\nprint(1)\n")
	return []byte(b.String())
}

const blockLine = 4 // of the first line of a block's text

// request reads variables as a request has them: containers stay text.
func request(t testing.TB, text string) *wire.Object {
	t.Helper()
	v, err := strictjson.Parse([]byte(text), strictjson.Options{MaxDepth: 64, RawDepth: 1})
	if err != nil {
		t.Fatal(err)
	}
	return v.(*wire.Object)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const big20 = `18446744073709551616` // 2^64
	tests := []struct {
		name, declared, given string
		want                  string // what the code gets; or, with a "!" before it, the message
	}{
		{"nothing given, nothing required", "[variables.a]\ntype = 'string'", `{}`, `{"a":null}`},
		{"default", "[variables.a]\ntype = 'string'\ndefault = 'x'", `{}`, `{"a":"x"}`},
		{"default of each type", `[variables]
s = {type = 'string', default = ''}
i = {type = 'integer', default = -3}
n = {type = 'number', default = 1.0}
b = {type = 'boolean', default = false}
l = {type = 'array', default = [1, 'x', [true]]}
o = {type = 'object', default = {z = 1, a = {}}}`, `{}`, `{"b":false,"i":-3,"l":[1,"x",[true]],"n":1.0,"o":{"a":{},"z":1},"s":""}`},
		{"required", "[variables.a]\ntype = 'string'\nrequired = true", `{}`, `!variable "a": is required: a string`},
		{"required and null", "[variables.a]\ntype = 'string'\nrequired = true", `{"a": null}`, `!variable "a": is required: a string`},
		{"optional and null", "[variables.a]\ntype = 'string'\ndefault = 'x'", `{"a": null}`, `{"a":"x"}`},
		{"falsy values are values", "[variables.a]\ntype = 'boolean'\ndefault = true", `{"a": false}`, `{"a":false}`},
		{"unknown", "[variables.tank_id]\ntype = 'integer'", `{"tank_idd": 1}`, `!variable "tank_idd": the script declares no such variable; did you mean tank_id?`},
		{"unknown and far", "[variables.tank_id]\ntype = 'integer'", `{"x": 1}`, `!variable "x": the script declares no such variable`},
		{"all at once", "[variables.a]\ntype='integer'\nrequired=true\n[variables.b]\ntype='string'", `{"b": 1, "c": 2}`,
			`!variable "a": is required: an integer; variable "b": want a string, got an integer; variable "c": the script declares no such variable`},

		{"string", "[variables.a]\ntype='string'", `{"a": 5}`, `!variable "a": want a string, got an integer`},
		{"string, got a list", "[variables.a]\ntype='string'", `{"a": [5]}`, `!variable "a": want a string, got an array`},
		{"integer", "[variables.a]\ntype='integer'", `{"a": "5"}`, `!variable "a": want an integer, got a string`},
		{"integer, not a float", "[variables.a]\ntype='integer'", `{"a": 5.0}`, `!variable "a": want an integer, got a number with a fraction or an exponent`},
		{"integer, not an exponent", "[variables.a]\ntype='integer'", `{"a": 5e3}`, `!variable "a": want an integer, got a number with a fraction or an exponent`},
		{"integer, not a boolean", "[variables.a]\ntype='integer'", `{"a": true}`, `!variable "a": want an integer, got a boolean`},
		{"number takes both", "[variables.a]\ntype='number'", `{"a": 5}`, `{"a":5}`},
		{"number stays as it is written", "[variables.a]\ntype='number'", `{"a": 5.50e-1}`, `{"a":5.50e-1}`},
		{"boolean", "[variables.a]\ntype='boolean'", `{"a": 1}`, `!variable "a": want a boolean, got an integer`},
		{"array", "[variables.a]\ntype='array'", `{"a": {}}`, `!variable "a": want an array, got an object`},
		{"object", "[variables.a]\ntype='object'", `{"a": []}`, `!variable "a": want an object, got an array`},
		{"array passes", "[variables.a]\ntype='array'", `{"a": [1, {"b": 2}]}`, `{"a":[1,{"b":2}]}`},

		{"min", "[variables.a]\ntype='integer'\nmin=1", `{"a": 0}`, `!variable "a": the number is below min = 1`},
		{"min itself", "[variables.a]\ntype='integer'\nmin=1", `{"a": 1}`, `{"a":1}`},
		{"max", "[variables.a]\ntype='number'\nmax=0.3", `{"a": 0.30000000000000001}`, `!variable "a": the number is above max = 0.3`},
		{"max itself in another form", "[variables.a]\ntype='number'\nmax=0.3", `{"a": 3e-1}`, `{"a":3e-1}`},
		{"big, below", "[variables.a]\ntype='integer'\nmin='" + big20 + "'", `{"a": 18446744073709551615}`, `!variable "a": the number is below min = ` + big20},
		{"big, equal", "[variables.a]\ntype='integer'\nmin='" + big20 + "'\nmax='" + big20 + "'", `{"a": ` + big20 + `}`, `{"a":` + big20 + `}`},
		{"beyond a double's integers", "[variables.a]\ntype='integer'\nmax=9007199254740992", `{"a": 9007199254740993}`, `!variable "a": the number is above max = 9007199254740992`},
		{"a hundred digits", "[variables.a]\ntype='integer'\nmax='" + strings.Repeat("9", 100) + "'", `{"a": 1` + strings.Repeat("0", 100) + `}`, `!variable "a": the number is above max = ` + strings.Repeat("9", 100)},
		{"a tiny number", "[variables.a]\ntype='number'\nmin=0", `{"a": 1e-99999999999999999999}`, `{"a":1e-99999999999999999999}`},
		{"minus a tiny number", "[variables.a]\ntype='number'\nmin=0", `{"a": -1e-99999999999999999999}`, `!variable "a": the number is below min = 0`},
		{"length of a string", "[variables.a]\ntype='string'\nmin=2\nmax=3", `{"a": "é"}`, `!variable "a": the number of characters is below min = 2`},
		{"characters, not bytes", "[variables.a]\ntype='string'\nmax=3", `{"a": "ééé"}`, `{"a":"ééé"}`},
		{"elements", "[variables.a]\ntype='array'\nmax=2", `{"a": [[1,2,3],{"x":[4,5]}, "]"]}`, `!variable "a": the number of elements is above max = 2`},
		{"elements are counted at the top", "[variables.a]\ntype='array'\nmax=2\nmin=2", `{"a": [[1,2,3],{"x":[4,5]}]}`, `{"a":[[1,2,3],{"x":[4,5]}]}`},
		{"members", "[variables.a]\ntype='object'\nmin=3", `{"a": {"x":{"y":1,"z":2},"w":[1]}}`, `!variable "a": the number of members is below min = 3`},

		{"choices", "[variables.a]\ntype='string'\nchoices=['north','south']", `{"a": "west"}`, `!variable "a": the string is none of the choices: "north", "south"`},
		{"a choice", "[variables.a]\ntype='string'\nchoices=['north','south']", `{"a": "south"}`, `{"a":"south"}`},
		{"a choice of numbers in another form", "[variables.a]\ntype='number'\nchoices=[1, 2.5]", `{"a": 25e-1}`, `{"a":25e-1}`},
		{"pattern", "[variables.a]\ntype='string'\npattern='[A-Z]{2}|x'", `{"a": "ABC"}`, `!variable "a": the string does not match pattern = "[A-Z]{2}|x"`},
		{"the whole string has to match", "[variables.a]\ntype='string'\npattern='a|b'", `{"a": "ab"}`, `!variable "a": the string does not match pattern = "a|b"`},
		{"no newline at its end", "[variables.a]\ntype='string'\npattern='a'", `{"a": "a\n"}`, `!variable "a": the string does not match pattern = "a"`},
		{"letters of all scripts", `[variables.a]
type='string'
pattern='\p{L}+'`, `{"a": "Füllstände"}`, `{"a":"Füllstände"}`},
		{"a pattern with comments inside", "[variables.a]\ntype='string'\npattern='(?i)abc # x'", `{"a": "ABC # x"}`, `{"a":"ABC # x"}`},
		{"too long for a pattern", "[variables.a]\ntype='string'\npattern='a*'", `{"a": "` + strings.Repeat("a", matchedMost+1) + `"}`, `!variable "a": the string has more than 65536 bytes, too many for a pattern`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			declared, err := Declared(block(tt.declared))
			if err != nil {
				t.Fatal(err)
			}
			got, err := (Version{Variables: declared}).Check(request(t, tt.given))
			if message, wrong := strings.CutPrefix(tt.want, "!"); wrong {
				if err == nil || err.Error() != message {
					t.Errorf("got %v, want %s", err, message)
				}
			} else if err != nil || string(wire.AppendJSON(nil, got)) != tt.want {
				t.Errorf("got %s, %v; want %s", wire.AppendJSON(nil, got), err, tt.want)
			}
		})
	}
}

// A message goes into results and records: it must not have a part of a value.
func TestCheckTellsNoValue(t *testing.T) {
	t.Parallel()
	declared, err := Declared(block("[variables]\na={type='integer'}\nb={type='string',choices=['x']}\nc={type='string',pattern='y'}\nd={type='number',max=1}\ne={type='string',max=1}"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Version{Variables: declared}.Check(request(t, `{"a":"hunter2","b":"hunter2","c":"hunter2","d":7777,"e":"hunter2","f":"hunter2"}`))
	var wrong *VariablesError
	if !errors.As(err, &wrong) || len(wrong.Findings) != 6 {
		t.Fatalf("%v", err)
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "7777") {
		t.Errorf("it tells a value: %v", err)
	}
	for i, rule := range []string{"type", "choices", "pattern", "max", "max", "unknown"} {
		if wrong.Findings[i].Rule != rule {
			t.Errorf("finding %d is of the rule %s, want %s", i, wrong.Findings[i].Rule, rule)
		}
	}
}

func TestCheckOfUndeclared(t *testing.T) {
	t.Parallel()
	given := request(t, `{"anything": null}`)
	if got, err := (Version{}).Check(given); err != nil || got != given {
		t.Errorf("%v, %v", got, err)
	}
	declared, _ := Declared(block("[variables.a]\ntype='string'"))
	if got, err := (Version{Variables: declared}).Check(nil); err != nil || string(wire.AppendJSON(nil, got)) != `{"a":null}` {
		t.Errorf("no variables at all: %v", err)
	}
}

func TestDeclarationMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		line       int // of the block's text, from 0
		want       string
	}{
		{"no type", "[variables.a]\ndoc = 'x'", 0, "type: want one of"},
		{"a type of Python", "[variables.a]\ntype = 'str'", 1, "type: want one of"},
		{"a mistyped key", "[variables.a]\ntype = 'string'\nrequierd = true", 2, `unknown key "requierd"; did you mean required?`},
		{"another section", "[variable.a]\ntype = 'string'", 0, `unknown key "variable"`},
		{"a keyword", "[variables.class]\ntype = 'string'", 0, "a Python keyword"},
		{"no identifier", "[variables.'a b']\ntype = 'string'", 0, "not a Python identifier"},
		{"a name of Python's", "[variables.__name__]\ntype = 'string'", 0, "belong to Python"},
		{"no section", "[variables]\na = 'string'", 0, "want a section"},
		{"a default of another type", "[variables.a]\ntype = 'integer'\ndefault = 1.5", 2, "default: want an integer"},
		{"a default that is a date", "[variables.a]\ntype = 'string'\ndefault = 2026-12-01", 2, "is a date or time"},
		{"a default below min", "[variables.a]\ntype = 'integer'\nmin = 1\ndefault = 0", 3, "default: the number is below min = 1"},
		{"a default that is no choice", "[variables.a]\ntype = 'string'\nchoices = ['x']\ndefault = 'y'", 3, "default: the string is none of the choices: "},
		{"a default beside required", "[variables.a]\ntype = 'string'\nrequired = true\ndefault = 'y'", 2, "need not be required"},
		{"required as text", "[variables.a]\ntype = 'string'\nrequired = 'yes'", 2, "required: want true or false"},
		{"min above max", "[variables.a]\ntype = 'number'\nmin = 2\nmax = 1.5", 2, "min is above max"},
		{"min of a boolean", "[variables.a]\ntype = 'boolean'\nmin = 1", 2, "a boolean has no size"},
		{"min that is not finite", "[variables.a]\ntype = 'number'\nmin = nan", 2, "not a finite number"},
		{"half a character", "[variables.a]\ntype = 'string'\nmin = 0.5", 2, "min: want an integer"},
		{"no choices", "[variables.a]\ntype = 'string'\nchoices = []", 2, "want a list"},
		{"choices of another type", "[variables.a]\ntype = 'string'\nchoices = ['x', 1]", 2, "the value at place 2: want a string"},
		{"choices that break another rule", "[variables.a]\ntype = 'string'\nchoices = ['x', 'yy']\nmax = 1", 2, "the value at place 2: the number of characters is above max = 1"},
		{"choices of objects", "[variables.a]\ntype = 'object'\nchoices = [{}]", 2, "only a string, an integer or a number"},
		{"a pattern for a number", "[variables.a]\ntype = 'number'\npattern = 'x'", 2, "only a string can have one"},
		{"a pattern that is broken", "[variables.a]\ntype = 'string'\npattern = 'a('", 2, "missing closing )"},
		{"a pattern that closes our parenthesis", "[variables.a]\ntype = 'string'\npattern = 'a)|(b'", 2, "unexpected )"},
		{"a pattern with a look-ahead", "[variables.a]\ntype = 'string'\npattern = '(?=a)b'", 2, "the syntax is RE2"},
		{"a long pattern", "[variables.a]\ntype = 'string'\npattern = '" + strings.Repeat("a", patternMost+1) + "'", 2, "more than 500 bytes"},
		{"broken TOML", "[variables.a]\ntype = string", 1, "expected value"},
		{"a section twice", "[variables.a]\ntype = 'string'\n\n[variables.a]", 3, "has already been defined"},
		{"an integer beyond 64 bits", "[variables.a]\ntype = 'integer'\nmax = 18446744073709551616", 2, "out of range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Declared(block(tt.text))
			var wrong *DeclarationError
			if !errors.As(err, &wrong) || len(wrong.Mistakes) != 1 {
				t.Fatalf("got %v, want one mistake", err)
			}
			if m := wrong.Mistakes[0]; m.Line != blockLine+tt.line || !strings.Contains(m.Text, tt.want) {
				t.Errorf("got %v, want line %d and %q", err, blockLine+tt.line, tt.want)
			}
		})
	}
}

func TestBlock(t *testing.T) {
	t.Parallel()
	const one = "# [variables.a]\n# type = 'string'\n"
	tests := []struct{ name, code, want string }{ // want: names, or the message after a !
		{"none", "print(1)\n", ""},
		{"the usual", "# /// py3run\n" + one + "# ///\n", "a"},
		{"no newline at the end", "# /// py3run\n" + one + "# ///", "a"},
		{"lines of Windows", strings.ReplaceAll("# /// py3run\n"+one+"# ///\nx = 1\n", "\n", "\r\n"), "a"},
		{"beside that of uv", "# /// script\n# dependencies = []\n# ///\n#\n# /// py3run\n" + one + "#\n# ///\n", "a"},
		{"before that of uv", "# /// py3run\n" + one + "# ///\n# /// script\n# dependencies = []\n# ///\n", "a"},
		{"an empty one", "# /// py3run\n# ///\n", ""},
		{"not at the line's begin", "x = '''\n  # /// py3run\n'''\n", ""},
		{"another word", "# /// py3runs\n# ///\n", ""},
		{"no end", "# /// py3run\n" + one + "x = 1\n", "!declared variables: line 1: the block has no end: want # /// after lines that begin with #"},
		{"no end of the file's", "# /// py3run\n" + one, "!declared variables: line 1: the block has no end: want # /// after lines that begin with #"},
		{"two", "# /// py3run\n" + one + "# ///\n\n# /// py3run\n# ///\n", "!declared variables: line 6: a second block # /// py3run; the first one begins in line 1"},
		{"too large", "# /// py3run\n" + strings.Repeat("# # "+strings.Repeat("x", 1000)+"\n", 100) + "# ///\n", "!declared variables: line 1: the block has more than 65536 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list, err := Declared([]byte(tt.code))
			got := ""
			for _, v := range list {
				got += v.Name
			}
			if err != nil {
				got = "!" + err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// What was declared is the same after it was kept beside the version.
func TestDeclarationIsKept(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	code := block(`[variables.a]
type = "integer"
min = "-36893488147419103232"
max = 5
default = 3
doc = "the <level> & \"more\""
[variables.b]
type = "string"
required = true
choices = ["x", "é"]
pattern = "."
[variables.c]
type = "object"
default = {k = [1, 2.50, "x"]}`)
	save(t, s, "a", string(code), by("alice"))
	save(t, s, "a", "print()", by("alice"))
	want, err := Declared(code)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"a@1", "a"} {
		got, err := s.Resolve(ref)
		if err != nil {
			t.Fatal(err)
		}
		text, err := encode(got.Version.Variables)
		wanted, _ := encode(want)
		if ref == "a" {
			wanted = []byte("null\n")
		}
		if err != nil || string(text) != string(wanted) {
			t.Errorf("%s: got %s, want %s", ref, text, wanted)
		}
	}
	if _, err := s.Save("a", Draft{Code: block("[variables.a]\ntype = 'int'")}, by("alice")); err == nil || !strings.HasPrefix(err.Error(), "save script a: declared variables: line 5: ") {
		t.Errorf("a save with a mistake: %v", err)
	}
}

// The exact comparison is checked against the standard library's rational numbers.
func FuzzCompareNumbers(f *testing.F) {
	for _, s := range []string{"0", "-0", "1", "-1", "10", "0.1", "1e2", "100.0", "99.99", "-5e-3", "123456789012345678901234567890", "0.000e5", "1E+2"} {
		f.Add(s, "1")
		f.Add("-10.50", s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		number := func(text string) (wire.Number, *big.Rat) {
			v, err := wire.Parse([]byte(text), 1)
			n, ok := v.(wire.Number)
			if err != nil || !ok || len(text) > 40 {
				t.Skip()
			}
			if i := strings.IndexAny(text, "eE"); i >= 0 && len(text)-i > 5 { // the library computes the power
				t.Skip()
			}
			r, ok := new(big.Rat).SetString(strings.TrimSpace(text))
			if !ok {
				t.Skip()
			}
			return n, r
		}
		x, rx := number(a)
		y, ry := number(b)
		if got, want := compareNumbers(x, y), rx.Cmp(ry); got != want {
			t.Errorf("%s and %s: got %d, want %d", a, b, got, want)
		}
	})
}

// Whatever a script says, its block is read or refused with a line of the script, and what was read
// can be kept.
func FuzzDeclared(f *testing.F) {
	f.Add(string(block("[variables.a]\ntype = 'string'\npattern = 'x'\ndefault = 'x'")))
	f.Add(string(block("[variables]\na = {type = 'array', default = [1, [2.5], {x = []}], min = 1}")))
	f.Add("# /// py3run\n# ///\n# /// py3run\n")
	f.Fuzz(func(t *testing.T, code string) {
		list, err := Declared([]byte(code))
		var wrong *DeclarationError
		if err != nil {
			if !errors.As(err, &wrong) || len(wrong.Mistakes) == 0 {
				t.Fatalf("%T %v", err, err)
			}
			for _, m := range wrong.Mistakes {
				if m.Line < 1 || m.Line > strings.Count(code, "\n")+1 {
					t.Errorf("line %d of %d: %s", m.Line, strings.Count(code, "\n")+1, m.Text)
				}
			}
			return
		}
		text, err := encode(line{Version: Version{Number: 1, Deleted: true, At: at, Variables: list}})
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeLine(text)
		if err != nil || len(back.Variables) != len(list) {
			t.Fatalf("%s: %v", text, err)
		}
		Version{Variables: list}.Check(nil)
	})
}

// Matching happens before a run has limits, so the work of patterns is bounded: each by itself when the
// script is saved, and all together for the values of a request.
func TestWorkOfPatterns(t *testing.T) {
	t.Parallel()
	block := func(patterns ...string) string {
		text := "# /// py3run\n"
		for i, p := range patterns {
			text += fmt.Sprintf("# [variables.s%d]\n# type = 'string'\n# pattern = '%s'\n", i, p)
		}
		return text + "# ///\n"
	}
	for pattern, ok := range map[string]bool{
		`(((((a{0,30}){0,30})?)*)+)*b`: true, `[a-z]{1,255}`: true, `((a{0,100}){0,10}){0,1}(b{0,1000})(c{0,1000})(\pL{0,1000})`: false,
		`a{1000}`: true, `(a{100}){10}(b{100}){10}(c{100}){10}(d{100}){10}(e{100}){10}`: false,
	} {
		if _, err := Declared([]byte(block(pattern))); (err == nil) != ok {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	slow := strings.Repeat("a", 60_000)
	list, err := Declared([]byte(block(`((((a{0,10}){0,10})?)*)*b`, `[a-z]{1,255}`, `a*`)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Version{Variables: list}.Check(&wire.Object{Names: []string{"s0", "s1", "s2"}, Values: []any{slow, "tank", "a"}})
	var wrong *VariablesError
	if !errors.As(err, &wrong) || wrong.Findings[0].Variable != "s0" || wrong.Findings[0].Rule != "pattern" || !strings.Contains(wrong.Findings[0].Text, "too long for so large a pattern") {
		t.Fatalf("%v", err)
	}
	if _, err := (Version{Variables: list}).Check(&wire.Object{Names: []string{"s0", "s1", "s2"}, Values: []any{slow[:1000] + "b", "tank", slow}}); err != nil {
		t.Error(err)
	}
	many := slices.Repeat([]string{`[a-z]{0,200}`}, 100)
	if list, err = Declared([]byte(block(many...))); err != nil {
		t.Fatal(err)
	}
	given := &wire.Object{}
	for i := range many {
		given.Names, given.Values = append(given.Names, fmt.Sprintf("s%d", i)), append(given.Values, any(slow[:2000]))
	}
	_, err = Version{Variables: list}.Check(given)
	if !errors.As(err, &wrong) || !slices.ContainsFunc(wrong.Findings, func(f Finding) bool { return strings.Contains(f.Text, "all patterns of a request") }) {
		t.Errorf("%v", err)
	}
}
