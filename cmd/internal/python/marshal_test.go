package python

import (
	"bytes"
	"math/big"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// The encoder against the reader that it is for: every value goes through marshal.loads of every interpreter, and comes back as
// repr says it.
func TestMarshal(t *testing.T) {
	t.Parallel()
	power := func(n uint, add int64) *big.Int {
		return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), n), big.NewInt(add))
	}
	type test struct {
		name string
		in   any
		want string // a Python literal
	}
	tests := []test{
		{"nil", nil, "None"},
		{"booleans", []any{true, false}, "[True, False]"},
		{"Go's own", []any{7, -1 << 40, []byte("a\xff"), []string{"a", "b"}}, `[7, -1099511627776, b'a\xff', ['a', 'b']]`},
		{"empty text", "", "''"},
		{"text", "a\"'\\\n\x00é€😀", `'a"\'\\\n\0\xe9\u20ac\U0001f600'`},
		{"bytes that are no UTF-8", "a\xff\x80é", `b'a\xff\x80\xc3\xa9'.decode('utf-8', 'surrogateescape')`},
		{"half a letter", "\xf0\x9f", `b'\xf0\x9f'.decode('utf-8', 'surrogateescape')`},
		{"a surrogate", "\xed\xa0\x80", `b'\xed\xa0\x80'.decode('utf-8', 'surrogateescape')`},
		{"long text", strings.Repeat("é", 100000), `'\xe9' * 100000`},
		{"text of 255 and 256", []any{strings.Repeat("a", 255), strings.Repeat("b", 256)}, "['a' * 255, 'b' * 256]"},
		{"names that come again", []any{named("a", "é", ""), named("é", "a"), "a", named("", "b", "a")}, `[{'a': 0, '\xe9': 1, '': 2}, {'\xe9': 0, 'a': 1}, 'a', {'': 0, 'b': 1, 'a': 2}]`},
		{"more names than are remembered", []any{many(5000), many(5000)}, "[{str(i): i for i in range(5000)}] * 2"},
		{"empty list", []any{}, "[]"},
		{"no list", []any(nil), "[]"},
		{"nested", []any{[]any{[]any{}}, nil, "x"}, "[[[]], None, 'x']"},
		{"empty dict", &wire.Object{}, "{}"},
		{"no dict", (*wire.Object)(nil), "{}"},
		{"dict", &wire.Object{Names: []string{"b", "", "é"}, Values: []any{nil, &wire.Object{}, []any{wire.Number("1")}}}, `{'b': None, '': {}, '\xe9': [1]}`},
		{"map", map[string]any{"a": 1}, "{'a': 1}"},
		{"float", wire.Number("0.1"), "0.1"},
		{"whole float", wire.Number("1.0"), "1.0"},
		{"float by exponent", wire.Number("1E2"), "100.0"},
		{"negative zero", wire.Number("-0.0"), "-0.0"},
		{"negative zero, whole", wire.Number("-0"), "0"},
		{"smallest float", wire.Number("5e-324"), "5e-324"},
		{"largest float", wire.Number("1.7976931348623157e308"), "1.7976931348623157e308"},
		{"a float too small", wire.Number("1e-400"), "0.0"},
		{"a thousand digits", wire.Number(strings.Repeat("9", 1000)), "10**1000 - 1"},
		{"deep", deep(60), strings.Repeat("[", 61) + strings.Repeat("]", 61)},
	}
	for _, n := range []uint{0, 7, 8, 14, 15, 16, 29, 30, 31, 32, 45, 53, 60, 62, 63, 64, 75, 100, 120, 127, 128, 1000, 5000, 10000} {
		for _, add := range []int64{-1, 0, 1} {
			i := power(n, add)
			tests = append(tests, test{"2^" + big.NewInt(int64(n)).String() + " and " + big.NewInt(add).String(),
				[]any{wire.Number(i.String()), wire.Number(new(big.Int).Neg(i).String())}, "[0x" + i.Text(16) + ", -0x" + i.Text(16) + "]"})
		}
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		// All in one process: lengths and bytes in, a line for each that is not as wanted out. A value must be read to its last byte.
		var in bytes.Buffer
		for _, tt := range tests {
			part := marshal(nil, []any{marshal(nil, tt.in), tt.want, tt.name})
			in.Write(part)
		}
		const check = `import marshal, sys, io
n = 0
while True:
    try: data, want, name = marshal.load(sys.stdin.buffer)
    except EOFError: break
    n += 1
    want = eval(want)
    f = io.BytesIO(data)
    try: got = marshal.load(f)
    except Exception as e: got = e
    if type(got) is not type(want) or got != want or str(got)[:1] != str(want)[:1] if not isinstance(want, (int, list)) else got != want:
        print(name, ascii(got)[:200], "want", ascii(want)[:200])
    elif f.read():
        print(name, "is longer than its value")
    elif isinstance(want, int) and marshal.dumps(want, 2) != data:
        print(name, "is not as Python writes it")
print(n)`
		cmd := exec.Command(ip.Path, "-I", "-c", check)
		cmd.Stdin = &in
		out, err := cmd.CombinedOutput()
		if want := big.NewInt(int64(len(tests))).String() + "\n"; err != nil || string(out) != want {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// named is an object that numbers its names.
func named(names ...string) any {
	o := &wire.Object{Names: names}
	for i := range names {
		o.Values = append(o.Values, wire.Number(strconv.Itoa(i)))
	}
	return o
}

func many(n int) any {
	var names []string
	for i := range n {
		names = append(names, strconv.Itoa(i))
	}
	return named(names...)
}

func deep(n int) any {
	var v any = []any{}
	for range n {
		v = []any{v}
	}
	return v
}

// A text that was not taken apart becomes the same bytes as the tree of it would.
func TestMarshalRaw(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text string }{
		{"empty list", `[]`},
		{"empty dict", `{}`},
		{"nested", `[[[]], {"a": [1, {"b": []}], "c": {}}, [2, [3], 4], []]`},
		{"words", `[true, false, null]`},
		{"names that come again", `[{"a": 1, "b": "a"}, {"b": {"a": 2}, "é": 3}, {"é": 4}]`},
		{"text", `["", "é😀", "\u00e9\ud83d\ude00\n", "` + strings.Repeat("x", 300) + `"]`},
		{"numbers", `[0, -0, -1, 2147483648, 123456789012345678901234567890, 1.5, -0.0, 1e5, 5E-324]`},
		{"large", "[" + strings.Repeat(`{"tank": "T1", "level": 0.37, "ok": [true]}, `, 50000) + "0]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			request, _, err := wire.Decode([]byte(`{"code": "", "args": [` + tt.text + `]}`))
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := request.Args[0].(*wire.Raw); !ok {
				t.Fatalf("%T, want *wire.Raw", request.Args[0])
			}
			tree, err := wire.Parse([]byte(tt.text), 64)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(marshal(nil, request.Args), marshal(nil, []any{tree})) {
				t.Error("other bytes than the tree's")
			}
		})
	}
}

// The bytes of whole numbers are those that Python itself writes: digits of 15 bits, no leading zero.
func TestMarshalInteger(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     string
	}{
		{"zero", "0", "i\x00\x00\x00\x00"},
		{"minus one", "-1", "i\xff\xff\xff\xff"},
		{"largest of 32 bits", "2147483647", "i\xff\xff\xff\x7f"},
		{"smallest of 32 bits", "-2147483648", "i\x00\x00\x00\x80"},
		{"one more", "2147483648", "l\x03\x00\x00\x00\x00\x00\x00\x00\x02\x00"},
		{"one less", "-2147483649", "l\xfd\xff\xff\xff\x01\x00\x00\x00\x02\x00"},
		{"four digits", "35184372088832", "l\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00"},
		{"three full digits", "35184372088831", "l\x03\x00\x00\x00\xff\x7f\xff\x7f\xff\x7f"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := string(marshal(nil, wire.Number(tt.in))); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
