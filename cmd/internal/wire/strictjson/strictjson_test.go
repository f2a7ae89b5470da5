package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       any
	}{
		{"null", "null", nil},
		{"true", " true\n", true},
		{"false", "\tfalse\r", false},
		{"number as written", "-0.10e+2", Number("-0.10e+2")},
		{"minus zero", "-0", Number("-0")},
		{"big integer", "1267650600228229401496703205376", Number("1267650600228229401496703205376")},
		{"plain string", `"äö"`, "äö"},
		{"escapes", `"\"\\\/\b\f\n\r\t\u00e4\uD83D\uDE00\u0000"`, "\"\\/\b\f\n\r\tä😀\x00"},
		{"replacement character is a character", `"\ufffd` + "\ufffd" + `"`, "\ufffd\ufffd"},
		{"empty array", "[ ]", []any{}},
		{"array", "[1, [null]]", []any{Number("1"), []any{nil}}},
		{"empty object", "{ }", &Object{}},
		{"object in its order", `{"b": 1, "a": {"b": 2}, "\u0063": ""}`,
			&Object{[]string{"b", "a", "c"}, []any{Number("1"), &Object{[]string{"b"}, []any{Number("2")}}, ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(tt.text), Options{MaxDepth: 3, Empty: "empty"})
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%#v, %v, want %#v", got, err, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       SyntaxError
	}{
		{"empty", "", SyntaxError{0, "", "empty"}},
		{"space", " \n", SyntaxError{0, "", "empty"}},
		{"byte order mark", "\ufeff1", SyntaxError{0, "", "a byte order mark before the JSON; send UTF-8 without one"}},
		{"trailing data", "1 2", SyntaxError{2, "", "found '2', want the end: one value is all"}},
		{"too deep", "[[[[", SyntaxError{3, "[0][0][0]", "nested deeper than 3"}},
		{"duplicate", `[{"a": 1, "a": 2}]`, SyntaxError{10, "[0].a", reasonDuplicate}},
		{"duplicate odd name", `{"a b": 1, "a\u0020b": 2}`, SyntaxError{11, `["a b"]`, reasonDuplicate}},
		{"lone surrogate", `"ab\ud800"`, SyntaxError{3, "", reasonSurrogate}},
		{"high surrogate and a letter", `"\ud800\u0041"`, SyntaxError{1, "", reasonSurrogate}},
		{"high surrogate cut short", `"\ud800\udc0"`, SyntaxError{1, "", reasonSurrogate}},
		{"bad byte", "[\"a\xffb\"]", SyntaxError{3, "[0]", reasonUTF8}},
		{"bad byte in a name", "{\"a\": 1, \"\xff\": 2}", SyntaxError{10, "", reasonUTF8}},
		{"bad byte outside", "[\xff]", SyntaxError{1, "[0]", "invalid UTF-8, want a value"}},
		{"character cut short", "\"\xe2\x82\"", SyntaxError{1, "", reasonUTF8}},
		{"overflow", "[-1e309]", SyntaxError{1, "[0]", reasonOverflow}},
		{"overflow by digits", strings.Repeat("9", 310) + ".0", SyntaxError{0, "", reasonOverflow}},
		{"digits", strings.Repeat("9", 4301), SyntaxError{0, "", reasonDigits}},
		{"exponent that overflows an int", "1e99999999999999999999", SyntaxError{0, "", reasonOverflow}},
		{"word", "nulls", SyntaxError{0, "", "found 'n', want a value"}},
		{"escape at the end", `"\`, SyntaxError{2, "", "the text ends inside a string"}},
		{"escaped quote at the end", `"\"`, SyntaxError{3, "", "the text ends inside a string"}},
		{"DEL is allowed, US is not", "\"\x7f\x1f\"", SyntaxError{2, "", "a control character in a string; write it as an escape"}},
		{"escape of a control character", "\"\\\n\"", SyntaxError{1, "", `JSON knows no such escape; a backslash itself is \\`}},
		{"object without comma", `{"a": 1 "b": 2}`, SyntaxError{8, "a", "found '\"', want ',' or '}'"}},
		{"name without colon", `{"a" 1}`, SyntaxError{5, "a", "found '1', want ':'"}},
		{"array comma", `[1,]`, SyntaxError{3, "[0]", "a comma before ']'"}},
		{"cut in a string", `{"code": "resu`, SyntaxError{14, "code", "the text ends inside a string"}},
		{"minus alone", `-`, SyntaxError{1, "", "the text ends, want a digit"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, err := Parse([]byte(tt.text), Options{MaxDepth: 3, Empty: "empty"})
			var got *SyntaxError
			if !errors.As(err, &got) || *got != tt.want {
				t.Errorf("%v, %v, want %v", v, err, &tt.want)
			}
		})
	}
}

func TestObjectGet(t *testing.T) {
	t.Parallel()
	object := &Object{[]string{"a", "b"}, []any{nil, "x"}}
	tests := []struct {
		name   string
		object *Object
		ask    string
		want   any
		found  bool
	}{
		{"there", object, "b", "x", true},
		{"null is there", object, "a", nil, true},
		{"not there", object, "c", nil, false},
		{"no object", nil, "a", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, found := tt.object.Get(tt.ask); got != tt.want || found != tt.found {
				t.Errorf("%v, %t, want %v, %t", got, found, tt.want, tt.found)
			}
		})
	}
}

func TestWithoutNull(t *testing.T) {
	t.Parallel()
	object := &Object{[]string{"a", "b", "c"}, []any{nil, "x", nil}}
	if got, want := object.WithoutNull(), (&Object{[]string{"b"}, []any{"x"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if len(object.Names) != 3 {
		t.Errorf("the object itself changed: %v", object)
	}
	if full := (&Object{[]string{"b"}, []any{"x"}}); full.WithoutNull() != full {
		t.Error("an object without null was copied")
	}
}

// Whatever is inside a secret member may be the secret: the path to a mistake there ends at the member.
func TestSecretInPath(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"inside", `{"key": {"s3cr3t": [tru]}}`, "key"},
		{"the member itself", `{"key": tru}`, "key"},
		{"deeper", `{"a": {"key": {"b": tru}}}`, "a.key.b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(tt.text), Options{MaxDepth: 9, Secret: "key"})
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Path != tt.want {
				t.Errorf("%v, want path %q", err, tt.want)
			}
		})
	}
}

// Around the number of names at which comparing ends and hashing begins, and where the table grows.
func TestDuplicateAmongMany(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, fewNames - 1, fewNames, fewNames + 1, 2 * fewNames, 4 * fewNames, 1000, 70_000} {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("%q: {%q: 0}", fmt.Sprint("n", i), fmt.Sprint("n", i))
		}
		object := "{" + strings.Join(names, ",")
		if _, err := Parse([]byte(object+"}"), Options{MaxDepth: 3}); err != nil {
			t.Errorf("%d different names: %v", n, err)
		}
		for _, again := range []int{0, n / 2, n - 1} {
			_, err := Parse([]byte(object+fmt.Sprintf(`, "n%d": 0}`, again)), Options{MaxDepth: 3})
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Reason != reasonDuplicate || syntax.Path != fmt.Sprint("n", again) {
				t.Errorf("%d names and n%d again: %v", n, again, err)
			}
		}
	}
}

// result are the options for what a run hands back.
var result = Options{MaxDepth: 512, Root: "result", Empty: "empty"}

func TestInspect(t *testing.T) {
	t.Parallel()
	many := "[" + strings.TrimSuffix(strings.Repeat("9007199254740992,", 25), ",") + "]"
	var manyPaths []string
	for i := range 20 {
		manyPaths = append(manyPaths, fmt.Sprintf("result[%d]", i))
	}
	tests := []struct {
		name, raw string
		want      Findings
	}{
		{"nothing", `{"a": [1, 1.5, "9007199254740993", true, null]}`, Findings{}},
		{"the last exact ones", `[9007199254740991, -9007199254740991]`, Findings{}},
		{"the first inexact ones", `[9007199254740992, -9007199254740992]`, Findings{[]string{"result[0]", "result[1]"}, 2}},
		{"not an integer literal", `[9007199254740993.0, 9007199254740993e0, 1e300]`, Findings{}},
		{"the result itself", `1267650600228229401496703205376`, Findings{[]string{"result"}, 1}},
		{"a path", `[0, {"x": 10000000000000000}]`, Findings{[]string{"result[1].x"}, 1}},
		{"after a container", `{"a": {"b": [0]}, "c": 10000000000000000}`, Findings{[]string{"result.c"}, 1}},
		{"odd names", `{"a b": {"": 10000000000000000}}`, Findings{[]string{`result["a b"][""]`}, 1}},
		{"more than are named", many, Findings{manyPaths, 25}},
		{"a long path", strings.Repeat(`{"`+strings.Repeat("n", 60)+`":`, 6) + "10000000000000000" + strings.Repeat("}", 6),
			Findings{[]string{"result" + strings.Repeat("."+strings.Repeat("n", 60), 5) + "…"}, 1}},
		{"depth 512", strings.Repeat("[", 512) + strings.Repeat("]", 512), Findings{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Inspect([]byte(tt.raw), result)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestInspectRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, raw string
		want      string
	}{
		{"empty", "", "empty"},
		{"two values", "1\n2", "found '2', want the end: one value is all"},
		{"duplicate", `[{"a": 1, "a": 1}]`, reasonDuplicate},
		{"NaN", `[NaN]`, reasonNoNumber},
		{"lone surrogate", `"\ud800"`, reasonSurrogate},
		{"bad byte", "\"\xff\"", reasonUTF8},
		{"depth 513", strings.Repeat("[", 513) + strings.Repeat("]", 513), "nested deeper than 512"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Inspect([]byte(tt.raw), result)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Reason != tt.want {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// A word of the caller in a message is plain, or quoted, and never long.
func TestShow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, word string
		want       string
	}{
		{"plain", "tank-1", "tank-1"},
		{"letters of any script", "größe", "größe"},
		{"empty", "", `""`},
		{"space", "a b", `"a b"`},
		{"dot", "a.b", `"a.b"`},
		{"escape sequence", "\x1b[2J", `"\x1b[2J"`},
		{"right to left", "a\u202eb", `"a\u202eb"`},
		{"64 bytes", strings.Repeat("a", 64), strings.Repeat("a", 64)},
		{"65 bytes", strings.Repeat("a", 65), `"` + strings.Repeat("a", 64) + `…"`},
		{"cut between characters", strings.Repeat("ä", 31) + "a€", `"` + strings.Repeat("ä", 31) + `a…"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Show(tt.word); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// strict are the refusals in which this parser differs from encoding/json.
var strict = []string{reasonUTF8, reasonSurrogate, reasonDuplicate, reasonOverflow, reasonDigits, fmt.Sprintf(reasonDepth, fuzzDepth)}

const fuzzDepth = 20

// FuzzParse holds the parser against encoding/json: what is accepted here is valid there with the same value, and what is
// valid there is refused here only for one of the reasons in strict. Inspect must agree with Parse.
func FuzzParse(f *testing.F) {
	for _, request := range requests(f) {
		f.Add(request)
	}
	for _, s := range []string{"", "0", "-0.0e-0", `"\ud83d\ude00"`, `[[],{},"",null]`, `{"a":{"a":1},"b":[{"a":1}]}`, "1e308", "[1e309]", "\"\u2028\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Parse(data, Options{MaxDepth: fuzzDepth})
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(data) {
				t.Fatalf("error %#v", err)
			}
			if json.Valid(data) && !slices.Contains(strict, syntax.Reason) {
				t.Errorf("refused: %v", err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		var want any
		if err := decoder.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got := plain(got); !reflect.DeepEqual(got, want) {
			t.Errorf("%#v, want %#v", got, want)
		}
		if _, err := Inspect(data, result); err != nil {
			t.Errorf("Inspect: %v", err)
		}
	})
}

// requests are those of testdata/wire.
func requests(t testing.TB) (list [][]byte) {
	t.Helper()
	files, err := filepath.Glob("../../../../testdata/wire/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no requests: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if strings.HasSuffix(f.Name, ".json") {
				list = append(list, f.Data)
			}
		}
	}
	return list
}

// plain turns what Parse makes into what encoding/json makes.
func plain(v any) any {
	switch v := v.(type) {
	case Number:
		return json.Number(v)
	case []any:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = plain(x)
		}
		return list
	case *Object:
		object := make(map[string]any, len(v.Names))
		for i, name := range v.Names {
			object[name] = plain(v.Values[i])
		}
		return object
	}
	return v
}

// large are 10 MB of JSON of the kinds that cost most.
func large() map[string][]byte {
	const size = 10 << 20
	random := rand.New(rand.NewPCG(1, 2))
	fill := func(open, close string, element func(int) string) []byte {
		b := []byte(open)
		for i := 0; len(b) < size; i++ {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, element(i)...)
		}
		return append(b, close...)
	}
	return map[string][]byte{
		"text":        []byte(`"` + strings.Repeat("0123456789abcde ", size/16) + `"`),
		"umlauts":     []byte(`"` + strings.Repeat("Größenänderung ", size/18) + `"`),
		"escapes":     []byte(`"` + strings.Repeat(`\n\u00e4`, size/8) + `"`),
		"digits":      fill("[", "]", func(int) string { return "1" }),
		"floats":      fill("[", "]", func(int) string { return fmt.Sprint(random.Float64()) }),
		"exponents":   fill("[", "]", func(int) string { return "1e308" }),
		"bigintegers": fill("[", "]", func(int) string { return "12345678901234567890" }),
		"rows":        fill("[", "]", func(i int) string { return fmt.Sprintf(`{"id":%d,"tag":"a%d","value":1.25,"ok":true}`, i, i) }),
		"onedict":     fill("{", "}", func(i int) string { return fmt.Sprintf(`"k%d":%d`, i, i) }),
		"dicts17": fill("[", "]", func(int) string {
			return `{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"k":0,"l":0,"m":0,"n":0,"o":0,"p":0,"q":0}`
		}),
		"nested": fill("[", "]", func(int) string { return strings.Repeat("[", 500) + strings.Repeat("]", 500) }),
	}
}

func BenchmarkInspect(b *testing.B) {
	for name, raw := range large() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Inspect(raw, result); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for name, raw := range large() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(raw, Options{MaxDepth: 512}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
