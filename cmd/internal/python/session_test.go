package python

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"py3run/cmd/internal/wire"
)

// Here the real bootstrap runs in every CPython that is found on this machine, without the sandbox around it: os/exec hands
// over the same descriptors at the same kind of numbers, above those that the code's own files get.
const firstInTests = 64

// interpreters are the CPythons of this machine, one of each version. Shims are left out: what they lead to is found by itself.
var interpreters = sync.OnceValue(func() (found []Interpreter) {
	var paths []string
	root := os.Getenv("PYENV_ROOT")
	if home, err := os.UserHomeDir(); root == "" && err == nil {
		root = filepath.Join(home, ".pyenv")
	}
	for _, pattern := range []string{filepath.Join(root, "versions", "*", "bin", "python"), "/usr/bin/python3"} {
		matches, _ := filepath.Glob(pattern)
		paths = append(paths, matches...)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		for _, name := range []string{"python3", "python3.8", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"} {
			if filepath.IsAbs(dir) {
				paths = append(paths, filepath.Join(dir, name))
			}
		}
	}
	asked := map[string]bool{}
	for _, path := range paths {
		real, err := filepath.EvalSymlinks(path)
		if err != nil || asked[real] {
			continue
		}
		asked[real] = true
		if _, shim, err := keyOf(path); shim || err != nil {
			continue
		}
		ip, _, err := Find(Want{Interpreter: path, Environ: os.Environ(), Dir: "/"})
		if err == nil && !slices.ContainsFunc(found, func(other Interpreter) bool { return other.Version == ip.Version }) {
			found = append(found, ip)
		}
	}
	slices.SortFunc(found, func(a, b Interpreter) int { return slices.Compare(numbers(a.Version), numbers(b.Version)) })
	return found
})

// turn tells whether a table's case i is tried in an interpreter: in the oldest and in the newest always, in those between in turn,
// which takes half the time, and in all where PY3RUN_TEST_REQUIRE asks for python.
func turn(ip Interpreter, i int) bool {
	list := interpreters()
	n := slices.IndexFunc(list, func(other Interpreter) bool { return other.Path == ip.Path })
	return n == 0 || n == len(list)-1 || i%(len(list)-2) == n-1 || strings.Contains(os.Getenv("PY3RUN_TEST_REQUIRE"), "python")
}

// needPython skips where there is no interpreter, or fails when one was promised.
func needPython(t *testing.T) []Interpreter {
	t.Helper()
	list := interpreters()
	if len(list) == 0 {
		if strings.Contains(os.Getenv("PY3RUN_TEST_REQUIRE"), "python") {
			t.Fatal("there is no CPython 3.8 or newer on this machine")
		}
		t.Skip("there is no CPython 3.8 or newer on this machine")
	}
	return list
}

// inEach runs a test beside itself in every interpreter.
func inEach(t *testing.T, test func(t *testing.T, ip Interpreter)) {
	t.Helper()
	for _, ip := range needPython(t) {
		t.Run(ip.Version, func(t *testing.T) {
			t.Parallel()
			test(t, ip)
		})
	}
}

// A trial is what came of a job.
type trial struct {
	dir            string
	reply          Reply
	err            error
	events         wire.Events
	began          bool
	exit           int
	signal         syscall.Signal
	stdout, stderr string
	dump           []byte
}

var whyFlagged = map[string]string{"os": "operating system", "subprocess": "programs", "sqlite3": "databases", "colorsys": "colours"}

// try runs a job as launch does: the code in a file of its own, which is shown as main.py, beside the directory that it runs in.
func try(t *testing.T, ip Interpreter, job Job) trial {
	t.Helper()
	base := t.TempDir()
	tr := trial{dir: filepath.Join(base, "work")}
	if err := os.Mkdir(tr.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if job.Command == "" {
		job.Command = wire.CommandExecute
	}
	if job.ResultFrom == "" {
		job.ResultFrom = "auto"
	}
	if job.ResultFormat == "" {
		job.ResultFormat = "plain"
	}
	if job.Path == "" {
		job.Path = filepath.Join(base, "code.py")
		if err := os.WriteFile(job.Path, job.Code, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	job.Shown, job.Flagged = "main.py", whyFlagged
	job.Argv = append([]string{job.Path}, job.Argv...)
	if job.OutputMost == 0 {
		job.OutputMost = 10 << 20
	}
	s, err := Open(ip, job, firstInTests)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pipe := func() (*os.File, *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	gate, open := pipe()
	dump, dumped := pipe()
	cmd := exec.Command(ip.Path, s.Args()...)
	cmd.Dir = tr.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + tr.dir, "TMPDIR=" + tr.dir, "LANG=C.UTF-8"}
	cmd.ExtraFiles = append(make([]*os.File, firstInTests-3), append(slices.Clone(s.Files()), gate, dumped)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.Started()
	gate.Close()
	dumped.Close()
	open.Write([]byte{1})
	tr.dump, _ = io.ReadAll(dump)
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	tr.exit = cmd.ProcessState.ExitCode()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		tr.signal = status.Signal()
	}
	tr.stdout, tr.stderr = stdout.String(), stderr.String()
	_, tr.began = s.CodeStarted()
	tr.reply, tr.err = s.Reply()
	tr.events = s.Events(whyFlagged, wire.Events{})
	return tr
}

func code(text string) Job { return Job{Code: []byte(text), Text: true} }

// kind is how the run ended, in one word, for comparison.
func (tr trial) kind() string {
	switch {
	case errors.Is(tr.err, ErrNoReply):
		return "none"
	case tr.err != nil:
		return tr.err.Error()
	}
	return tr.reply.Kind
}

func (tr trial) warnings() (list []string) {
	for _, w := range tr.reply.Warnings {
		list = append(list, w.Code+" "+w.Message)
	}
	return list
}

func (tr trial) value(t *testing.T) string {
	t.Helper()
	if tr.err != nil || tr.reply.Kind != "value" {
		t.Fatalf("%s %s: %s\n%s", tr.kind(), tr.reply.Error, tr.reply.Traceback, tr.stderr)
	}
	return string(tr.reply.Value)
}

// TestTables has values of NumPy and pandas, where an interpreter has them.
func TestTables(t *testing.T) {
	t.Parallel()
	const start = "try:\n    import numpy as np, pandas as pd\nexcept ImportError:\n    import sys; sys.exit(9)\nresult = "
	tests := []struct{ code, plain, tagged string }{
		{"np.array([[1, 2], [3, 4]])", `[[1,2],[3,4]]`, `{"$ndarray":[[1,2],[3,4]],"dtype":"int64","shape":[2,2]}`},
		{"np.datetime64('2024-01-01T00:00:00.123456789')", `"2024-01-01T00:00:00.123456789"`, `{"$datetime":"2024-01-01T00:00:00.123456789"}`},
		{"np.array([['2024-01-01', 'NaT']], dtype='M8[ns]')", `[["2024-01-01T00:00:00.000000000",null]]`,
			`{"$ndarray":[[{"$datetime":"2024-01-01T00:00:00.000000000"},{"$str":"NaT","type":"numpy.datetime64"}]],"dtype":"datetime64[ns]","shape":[1,2]}`},
		{"np.array('2024-01-01', dtype='M8[ns]')", `"2024-01-01T00:00:00.000000000"`, `{"$ndarray":{"$datetime":"2024-01-01T00:00:00.000000000"},"dtype":"datetime64[ns]","shape":[]}`},
		{"np.array([5], dtype='m8[ns]')", `["5 nanoseconds"]`, `{"$ndarray":[{"$str":"5 nanoseconds","type":"numpy.timedelta64"}],"dtype":"timedelta64[ns]","shape":[1]}`},
		{"pd.DataFrame({'a': [1, 2], 'b': ['x', None]})", `[{"a":1,"b":"x"},{"a":2,"b":null}]`, `{"$dataframe":{"columns":["a","b"],"index":[0,1],"data":[[1,"x"],[2,null]]}}`},
		{"pd.DataFrame([[1, 2, 3, 4]], columns=['a', 'a', 'a#1', 5])", `[{"a":1,"a#2":2,"a#1":3,"5":4}]`, `{"$dataframe":{"columns":["a","a","a#1",5],"index":[0],"data":[[1,2,3,4]]}}`},
		{"[pd.NaT, pd.NA]", `[null,null]`, `[{"$str":"NaT","type":"pandas._libs.tslibs.nattype.NaTType"},{"$str":"<NA>","type":"pandas._libs.missing.NAType"}]`},
		{"np.array([(1, '2020-01-01')], dtype=[('a', 'i4'), ('t', 'M8[ns]')])", `[[1,"2020-01-01T00:00:00.000000000"]]`,
			`{"$ndarray":[{"$tuple":[1,{"$datetime":"2020-01-01T00:00:00.000000000"}]}],"dtype":"[('a', '<i4'), ('t', '<M8[ns]')]","shape":[1]}`},
		{"pd.Timedelta(5)", `"0 days 00:00:00.000000005"`, `{"$str":"0 days 00:00:00.000000005","type":"pandas._libs.tslibs.timedeltas.Timedelta"}`},
		{"pd.Categorical(['a', 'b'])", `["a","b"]`, `{"$ndarray":["a","b"],"dtype":"category","shape":[2]}`},
		{"pd.Series([1.5, None], name='s')", `[1.5,null]`, `{"$series":[1.5,{"$float":"NaN"}],"index":[0,1]}`},
	}
	var codes, plain, tagged []string
	for _, tt := range tests {
		codes, plain, tagged = append(codes, tt.code), append(plain, tt.plain), append(tagged, tt.tagged)
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for form, want := range map[string][]string{"plain": plain, "tagged": tagged} {
			job := code(start + "[\n" + strings.Join(codes, ",\n") + "]")
			job.ResultFormat = form
			tr := try(t, ip, job)
			if tr.exit == 9 {
				t.Skip("without NumPy and pandas")
			}
			if got, want := tr.value(t), "["+strings.Join(want, ",")+"]"; got != want || tr.stderr != "" {
				t.Errorf("%s:\n%s, want\n%s; stderr %q", form, got, want, tr.stderr)
			}
		}
	})
}

// The values of the variable result, in the plain form.
func TestPlainValues(t *testing.T) {
	t.Parallel()
	type list = []string
	tests := []struct {
		name, code string
		kind, text string // Python's type, and str() where the JSON does not say it all
		warnings   list
		want       string
	}{
		{"None", "None", "NoneType", "", nil, `null`},
		{"true", "True", "bool", "", nil, `true`},
		{"integer", "-7", "int", "", nil, `-7`},
		{"largest safe integer", "2**53-1", "int", "", nil, `9007199254740991`},
		{"unsafe integer", "-2**53", "int", "", nil, `-9007199254740992`},
		{"two hundred digits", "10**200", "int", "", nil, "1" + strings.Repeat("0", 200)},
		{"five thousand digits", "10**5000", "int", "1" + strings.Repeat("0", 5000), nil, `"1` + strings.Repeat("0", 5000) + `"`},
		{"five thousand digits, no limit", "10**5000\nimport sys\nif hasattr(sys, 'set_int_max_str_digits'): sys.set_int_max_str_digits(0)", "int",
			"1" + strings.Repeat("0", 5000), nil, `"1` + strings.Repeat("0", 5000) + `"`},
		{"four hundred digits among other things", "[10**400, {1}]", "list", "", nil, "[1" + strings.Repeat("0", 400) + ",[1]]"},
		{"enumerations as names", "0\nimport enum\nclass E(str, enum.Enum): A = 'x'\nclass I(enum.IntEnum): B = 2\nresult = {E.A: E.A, I.B: I.B, b'\\xff': 1, b'a': 2}", "dict", "", nil, `{"x":"x","2":2,"/w==":1,"a":2}`},
		{"five thousand digits in a list", "[-10**5000]", "list", "", list{"inexact_value result[0]: an integer of 5001 digits, as text"}, `["-1` + strings.Repeat("0", 5000) + `"]`},
		{"float", "0.1", "float", "", nil, `0.1`},
		{"whole float", "1e22", "float", "", nil, `1e+22`},
		{"negative zero", "-0.0", "float", "", nil, `-0.0`},
		{"not a number", "float('nan')", "float", "nan", nil, `null`},
		{"infinity", "float('inf')", "float", "inf", nil, `null`},
		{"no numbers in a list", "[1.0, float('nan'), float('-inf')]", "list", "",
			list{"inexact_value result[1]: nan is not JSON, replaced by null", "inexact_value result[2]: -inf is not JSON, replaced by null"}, `[1.0,null,null]`},
		{"text", `"a\"b\\c\n\0é"`, "str", "", nil, `"a\"b\\c\n\u0000\u00e9"`},
		{"empty text", `""`, "str", "", nil, `""`},
		{"beyond the first plane", `"😀"`, "str", "", nil, `"\ud83d\ude00"`},
		{"lone surrogate", `"a\ud800b"`, "str", "", list{"inexact_value result: lone surrogates replaced by U+FFFD"}, `"a\ufffdb"`},
		{"surrogate as a name", `{"\udc80": 1}`, "dict", "", list{"inexact_value result: lone surrogates replaced by U+FFFD"}, `{"\ufffd":1}`},
		{"the letters of a surrogate", `"\\ud800"`, "str", "", nil, `"\\ud800"`},
		{"list", "[1, [2, [3, []]], {}]", "list", "", nil, `[1,[2,[3,[]]],{}]`},
		{"dict", "{'b': 1, 'a': [None, {'c': False}]}", "dict", "", nil, `{"b":1,"a":[null,{"c":false}]}`},
		{"tuple", "(1, (2, 3), ())", "tuple", "", nil, `[1,[2,3],[]]`},
		{"set", "{3, 1, 2}", "set", "", nil, `[1,2,3]`},
		{"set of no order", "{1, None}", "set", "", nil, `*`},
		{"frozenset", "frozenset('ba')", "frozenset", "", nil, `["a","b"]`},
		{"text as bytes", "b'abc'", "bytes", "b'abc'", nil, `"abc"`},
		{"bytes", `b'\xff\x00'`, "bytes", `b'\xff\x00'`, nil, `"/wA="`},
		{"bytes in a list", `[b'\xff', bytearray(b'x')]`, "list", "", list{"inexact_value result[0]: bytes, as Base64", "inexact_value result[1]: bytes, as text"}, `["/w==","x"]`},
		{"memoryview", "memoryview(b'ab')", "memoryview", "*", nil, `"ab"`},
		{"decimal", "__import__('decimal').Decimal('1.10')", "Decimal", "1.10", nil, `"1.10"`},
		{"decimal below", "{'x y': [__import__('decimal').Decimal('1.10')]}", "dict", "", list{"inexact_value result[\"x y\"][0]: a Decimal, as text"}, `{"x y":["1.10"]}`},
		{"datetime", "__import__('datetime').datetime(2024, 2, 29, 12, 30)", "datetime", "2024-02-29 12:30:00", nil, `"2024-02-29T12:30:00"`},
		{"date", "[__import__('datetime').date(2024, 2, 29)]", "list", "", list{"inexact_value result[0]: a date, as ISO 8601 text"}, `["2024-02-29"]`},
		{"time", "__import__('datetime').time(1, 2)", "time", "01:02:00", nil, `"01:02:00"`},
		{"timedelta", "__import__('datetime').timedelta(1)", "timedelta", "1 day, 0:00:00", nil, `"1 day, 0:00:00"`},
		{"path", "__import__('pathlib').PurePosixPath('/a/b')", "PurePosixPath", "/a/b", nil, `"/a/b"`},
		{"uuid", "__import__('uuid').UUID(int=1)", "UUID", "00000000-0000-0000-0000-000000000001", nil, `"00000000-0000-0000-0000-000000000001"`},
		{"fraction", "__import__('fractions').Fraction(1, 3)", "Fraction", "1/3", nil, `"1/3"`},
		{"complex", "1+2j", "complex", "(1+2j)", nil, `"(1+2j)"`},
		{"deque", "__import__('collections').deque([1, 2])", "deque", "", nil, `[1,2]`},
		{"ordered dict", "__import__('collections').OrderedDict(b=1, a=2)", "OrderedDict", "", nil, `{"b":1,"a":2}`},
		{"counter", "__import__('collections').Counter('aab')", "Counter", "", nil, `{"a":2,"b":1}`},
		{"named tuple", "__import__('collections').namedtuple('P', 'x y')(1, 2)", "P", "", nil, `[1,2]`},
		{"range", "range(3)", "range", "range(0, 3)", nil, `"range(0, 3)"`},
		{"enum", "0\nfrom enum import Enum\nclass E(Enum):\n    A = 1\nresult = [E.A, {E.A: 2}]", "list", "", list{"inexact_value result[0]: an object of type E, as its str()"}, `["E.A",{"E.A":2}]`},
		{"integer enum", "0\nfrom enum import IntEnum\nclass E(IntEnum):\n    A = 5\nresult = E.A", "E", "", nil, `5`},
		{"dataclass", "0\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nresult = P(3)", "P", "P(x=3)", nil, `"P(x=3)"`},
		{"subclasses", "0\nclass I(int): pass\nclass S(str): pass\nclass F(float): pass\nclass L(list): pass\nclass D(dict): pass\nresult = L([I(1), S('s'), F(2.5), D(a=1)])", "L", "", nil, `[1,"s",2.5,{"a":1}]`},
		{"str() fails", "0\nclass X:\n    def __str__(self): raise ValueError\nresult = X()", "X", "<X object>", list{"inexact_value result: str() failed with ValueError"}, `"<X object>"`},
		{"str() gives no text", "0\nclass X:\n    def __str__(self): return 1\nresult = [X()]", "list", "",
			list{"inexact_value result[0]: str() failed with TypeError", "inexact_value result[0]: an object of type X, as its str()"}, `["<X object>"]`},
		{"str() exits", "0\nclass X:\n    def __str__(self): raise SystemExit(5)\nresult = X()", "X", "<X object>", list{"inexact_value result: str() failed with SystemExit"}, `"<X object>"`},
		{"repr() of what is inside exits", "0\nclass X:\n    def __repr__(self): raise SystemExit(5)\nresult = {(X(),): 1}", "dict", "", list{"inexact_value result: str() failed with SystemExit"}, `{"<tuple object>":1}`},
		{"a text of its own kind", "0\nclass S(str):\n    def encode(self, *a): 1/0\n    def __len__(self): 1/0\nclass X:\n    def __str__(self): return S('s')\nresult = X()", "X", "s", nil, `"s"`},
		{"__class__ fails", "0\nclass X:\n    __class__ = property(lambda self: 1/0)\nresult = [X(), 2]", "list", "", list{"inexact_value result[0]: reading it failed with ZeroDivisionError"}, `["<X object>",2]`},
		{"__class__ fails, alone", "0\nclass X:\n    __class__ = property(lambda self: 1/0)\nresult = X()", "X", "", list{"inexact_value result: reading it failed with ZeroDivisionError"}, `"<X object>"`},
		{"items() fails", "0\nfrom collections import UserDict\nclass D(UserDict):\n    def items(self): raise SystemExit(5)\nresult = D()", "D", "", list{"inexact_value result: reading it failed with SystemExit"}, `"<D object>"`},
		{"the class has no name", "0\nclass M(type):\n    __name__ = property(lambda self: 1/0)\nresult = M('X', (), {'__str__': lambda self: 'x'})()", "X", "x", nil, `"x"`},
		{"names of all kinds", "{None: 1, True: 2, 3: 4, 1.5: 5, b'b': 6, (1, 2): 7}", "dict", "", nil, `{"null":1,"true":2,"3":4,"1.5":5,"b":6,"(1, 2)":7}`},
		{"names that collide", "{1: 'a', '1': 'b', b'1': 'c'}", "dict", "",
			list{"inexact_value result.1: a second key of this name, as 1#1", "inexact_value result.1: a second key of this name, as 1#2"}, `{"1":"a","1#1":"b","1#2":"c"}`},
		{"a list in itself", "0\na = [1]\na.append(a)\nresult = a", "list", "", list{"circular_value result[1]: a circular reference, replaced by null"}, `[1,null]`},
		{"dicts in each other", "0\na, b = {}, {}\na['b'], b['a'] = b, a\nresult = a", "dict", "", list{"circular_value result.b.a: a circular reference, replaced by null"}, `{"b":{"a":null}}`},
		{"the same twice", "0\na = {1: 2}\nresult = [a, a]", "list", "", nil, `[{"1":2},{"1":2}]`},
		{"sixty deep", "0\nresult = []\nfor _ in range(59): result = [result]", "list", "", nil, strings.Repeat("[", 60) + strings.Repeat("]", 60)},
		{"five thousand deep", "0\nresult = []\nfor _ in range(5000): result = [result]", "list", "",
			list{"truncated_value result" + strings.Repeat("[0]", 64) + ": nested deeper than 64 levels"}, strings.Repeat("[", 64) + "null" + strings.Repeat("]", 64)},
		{"more warnings than are named", "[b''] * 13", "list", "", nil, `["","","","","","","","","","","","",""]`},
		{"a long name in a warning", "{'k' * 100000: {1, 1.5}, 'b': 1}", "dict", "", nil, `{"` + strings.Repeat("k", 100000) + `":[1,1.5],"b":1}`},
		{"surrogates in pieces", `"\ud83d" + "\ude00"`, "str", "", list{"inexact_value result: lone surrogates replaced by U+FFFD"}, `"\ud83d\ude00"`},
		{"function", "len", "builtin_function_or_method", "<built-in function len>", nil, `"<built-in function len>"`},
		{"a module of a name we ask for", "[1, {2}]\nimport sys\nfor m in 'datetime decimal pathlib uuid fractions'.split(): sys.modules[m] = type(sys)(m)", "list", "", nil, `[1,[2]]`},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tr := try(t, ip, code("result = "+tt.code))
				if got := tr.value(t); got != tt.want && tt.want != "*" {
					t.Errorf("%.300s, want %.300s", got, tt.want)
				}
				if tr.reply.Type != tt.kind || tr.reply.Text != tt.text && tt.text != "*" {
					t.Errorf("type %s, text %.100q; want %s, %.100q", tr.reply.Type, tr.reply.Text, tt.kind, tt.text)
				}
				if got := tr.warnings(); !slices.Equal(got, tt.warnings) && tt.name != "more warnings than are named" {
					t.Errorf("warnings %.500q, want %.500q", got, tt.warnings)
				} else if tt.warnings == nil && len(got) != 0 && (len(got) != 11 || got[10] != "inexact_value and 3 more of these") {
					t.Errorf("warnings %.500q", got)
				}
				if tr.exit != 0 || tr.stderr != "" {
					t.Errorf("exit code %d, stderr %s", tr.exit, tr.stderr)
				}
			})
		}
	})
}

// The same, in the form that loses nothing.
func TestTaggedValues(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, code string
		want       string
	}{
		{"plain", "{'a': [1, 2.5, None, True, 'x']}", `{"a":[1,2.5,null,true,"x"]}`},
		{"tuple", "(1, [2, ()])", `{"$tuple":[1,[2,{"$tuple":[]}]]}`},
		{"set", "{2, 1}", `{"$set":[1,2]}`},
		{"frozenset", "frozenset([1])", `{"$frozenset":[1]}`},
		{"deque", "__import__('collections').deque([1])", `{"$deque":[1]}`},
		{"bytes", "[b'abc', bytearray(b'\\xff'), memoryview(b'')]", `[{"$bytes":"YWJj"},{"$bytes":"/w=="},{"$bytes":""}]`},
		{"large integer", "[2**53-1, 2**53, -2**64]", `[9007199254740991,{"$int":"9007199254740992"},{"$int":"-18446744073709551616"}]`},
		{"very large integer", "10**5000", `{"$int":"1` + strings.Repeat("0", 5000) + `"}`},
		{"no numbers", "[float('nan'), float('inf'), float('-inf')]", `[{"$float":"NaN"},{"$float":"Infinity"},{"$float":"-Infinity"}]`},
		{"complex", "complex(1, float('inf'))", `{"$complex":[1.0,{"$float":"Infinity"}]}`},
		{"decimal", "__import__('decimal').Decimal('1.10')", `{"$decimal":"1.10"}`},
		{"dates", "[d.datetime(2024,1,2,3,4,5,6,d.timezone.utc), d.date(2024,1,2), d.time(3,4), d.timedelta(1,2,3)]",
			`[{"$datetime":"2024-01-02T03:04:05.000006+00:00"},{"$date":"2024-01-02"},{"$time":"03:04:00"},{"$timedelta":[1,2,3]}]`},
		{"path, uuid and fraction", "[__import__('pathlib').PurePosixPath('a'), __import__('uuid').UUID(int=0), __import__('fractions').Fraction(1,2)]",
			`[{"$path":"a"},{"$uuid":"00000000-0000-0000-0000-000000000000"},{"$fraction":"1/2"}]`},
		{"names that are no text", "{1: 'a', '1': b'', (1,): None}", `{"$dict":[[1,"a"],["1",{"$bytes":""}],[{"$tuple":[1]},null]]}`},
		{"a name like a tag", "{'$set': 1}", `{"$dict":[["$set",1]]}`},
		{"object", "C()\n", `{"$str":"c","type":"__main__.C"}`},
		{"circle", "a\na.append(a)\n", `[null]`},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				job := code("import datetime as d\nclass C:\n    def __str__(self): return 'c'\na = []\nresult = " + tt.code)
				job.ResultFormat = "tagged"
				if got := try(t, ip, job).value(t); got != tt.want {
					t.Errorf("%.300s, want %.300s", got, tt.want)
				}
			})
		}
	})
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, code, format string
		want               string
	}{
		{"text that fits", "'x' * 9998", "plain", "value"},
		{"text", "'x' * 9999", "plain", "too_large"},
		{"text beyond the memory", "'x' * 5000000", "plain", "too_large"},
		{"list", "[1] * 20000", "plain", "too_large"},
		{"shared lists without end", "[1]\nfor _ in range(60): result = [result, result]", "plain", "too_large"},
		{"shared lists without end, tagged", "[1]\nfor _ in range(60): result = [result, result]", "tagged", "too_large"},
		{"shared dicts without end", "{'a': 1}\nfor _ in range(60): result = {'a': result, 'b': result}", "plain", "too_large"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				job := code("result = " + tt.code)
				job.OutputMost, job.ResultFormat = 10000, tt.format
				tr := try(t, ip, job)
				if got := tr.kind(); got != tt.want || tr.exit != 0 {
					t.Errorf("%s, exit code %d, want %s\n%s", got, tr.exit, tt.want, tr.stderr)
				}
				if tt.want == "too_large" && tr.reply.Bytes < job.OutputMost {
					t.Errorf("%d bytes", tr.reply.Bytes)
				}
			})
		}
	})
}

// What the commands give back, and where the result comes from.
func TestCommands(t *testing.T) {
	t.Parallel()
	from := func(from, text string) Job {
		job := code(text)
		job.ResultFrom = from
		return job
	}
	as := func(command wire.Command, text string) Job {
		job := code(text)
		job.Command = command
		return job
	}
	call := func(module, function string, args []any, kwargs *wire.Object) Job {
		return Job{Command: wire.CommandCallModule, Module: module, Function: function, Args: args, Kwargs: kwargs}
	}
	tests := []struct {
		name   string
		job    Job
		absent bool
		want   string
	}{
		{"empty code", code(""), true, `null`},
		{"no result", code("x = 1"), true, `null`},
		{"result deleted", code("result = 1\ndel result"), true, `null`},
		{"result is None", code("result = None"), false, `null`},
		{"result wanted and not there", from("result", "x = 1"), false, `null`},
		{"no result wanted", from("none", "result = 1"), false, `null`},
		{"last expression", from("last_expression", "x = 2\nx * 21\n"), false, `42`},
		{"last expression alone", from("last_expression", "'text'"), false, `"text"`},
		{"last statement is none", from("last_expression", "41\nx = 42"), false, `null`},
		{"no statement at all", from("last_expression", "# nothing"), false, `null`},
		{"last expression over result", from("last_expression", "result = 1\n2"), false, `2`},
		{"last expression under a future", from("last_expression", "from __future__ import annotations\ndef f(x: nowhere): pass\n(lambda: [f.__annotations__['x'], __annotations__])()"), false, `*`},
		{"future of the last expression", from("last_expression", "from __future__ import annotations\n"+
			"eval(compile('1', 'x', 'eval')) and __import__('sys')._getframe().f_code.co_flags & __import__('__future__').annotations.compiler_flag != 0"), false, `true`},
		{"last expression is a walrus", from("last_expression", "(y := 5)"), false, `5`},
		{"evaluate", as(wire.CommandEvaluate, "1 + 1"), false, `2`},
		{"evaluate with space around", as(wire.CommandEvaluate, "  [n\n for n in (1, 2)] \n"), false, `[1,2]`},
		{"call", call("math", "hypot", []any{wire.Number("3"), wire.Number("4.0")}, nil), false, `5.0`},
		{"call with names", call("builtins", "dict", nil, &wire.Object{Names: []string{"a", "b"}, Values: []any{nil, "é"}}), false, `{"a":null,"b":"\u00e9"}`},
		{"call with names that are no identifiers", call("builtins", "dict", nil, &wire.Object{Names: []string{"from", "a-b", ""}, Values: []any{true, true, true}}), false, `{"from":true,"a-b":true,"":true}`},
		{"call a method", call("datetime", "date.fromisoformat", []any{"2024-01-02"}, nil), false, `"2024-01-02"`},
		{"call in a package", call("xml.sax.saxutils", "escape", []any{"<"}, nil), false, `"&lt;"`},
		{"check good code", as(wire.CommandCheckSyntax, "x = 1\nimport nowhere"), false, `{"errors":[]}`},
		{"check a NUL", as(wire.CommandCheckSyntax, "a\x00b"), false, `*"severity":"error"*`},
		{"check a bad escape", as(wire.CommandCheckSyntax, "\n'\\d'"), false, `*"line":2,"column":1,*"severity":"warning"*`},
		{"check bad code", as(wire.CommandCheckSyntax, "x = 1\nx = = 2\n"), false, `{"errors":[{"line":2,"column":5,"message":"invalid syntax","severity":"error"}]}`},
		{"check runs nothing", as(wire.CommandCheckSyntax, "1/0"), false, `{"errors":[]}`},
		{"modules", Job{Command: wire.CommandListModules}, false, `*"json",*"sys",*`},
		{"completions", Job{Command: wire.CommandGetCompletions, Code: []byte("import o"), Text: true, Line: 1, Column: 8}, false, `{"completions":[*`},
		{"completions of names", Job{Command: wire.CommandGetCompletions, Code: []byte("pressure = 1\npress = 2\npri(1)"), Text: true, Line: 3, Column: 3}, false, `{"completions":[{"text":"print","type":"function","complete":"nt"*`},
		{"completions of the code's own", Job{Command: wire.CommandGetCompletions, Code: []byte("def pressure(): pass\npressu"), Text: true, Line: 2, Column: 6}, false, `*"text":"pressure",*"count":1*`},
		{"completions of a module", Job{Command: wire.CommandGetCompletions, Code: []byte("import os.path as p\np.joi"), Text: true, Line: 2, Column: 5}, false, `*"text":"join","type":"function","complete":"n"*"count":1*`},
		{"completions of an import", Job{Command: wire.CommandGetCompletions, Code: []byte("from json import JSONDec"), Text: true, Line: 1, Column: 24}, false, `*"text":"JSONDecodeError",*"text":"JSONDecoder",*"count":2*`},
		{"completions of an imported type", Job{Command: wire.CommandGetCompletions, Code: []byte("import json as j, datetime as d\nfrom datetime import datetime, date as day\nday.fromiso"), Text: true, Line: 3, Column: 11}, false, `*"text":"fromisoformat",*`},
		{"completions of a list of imports", Job{Command: wire.CommandGetCompletions, Code: []byte("import json as j, os\nos.getcwdb"), Text: true, Line: 2, Column: 10}, false, `*"text":"getcwdb",*"count":1*`},
		{"completions of nothing known", Job{Command: wire.CommandGetCompletions, Code: []byte("nothing().pri"), Text: true, Line: 1, Column: 13}, false, `*"count":0*`},
		{"completions of a long line", Job{Command: wire.CommandGetCompletions, Code: []byte("x = '" + strings.Repeat("beef", 1<<18) + "'; pri"), Text: true, Line: 1, Column: 1<<20 + 11}, false, `*"text":"print"*`},
		{"completions of what ends the interpreter", Job{Command: wire.CommandGetCompletions, Code: []byte("import unittest.__main__ as q\nq."), Text: true, Line: 2, Column: 2}, false, `{"completions":[*`},
		{"completions of a type", Job{Command: wire.CommandGetCompletions, Code: []byte("str.joi"), Text: true, Line: 1, Column: 7}, false, `*"text":"join",*"count":1*`},
		{"names as code looks them up", Job{Code: []byte("result = [ﬁ, fi, é]"), Text: true, Variables: &wire.Object{Names: []string{"ﬁ", "e\u0301"}, Values: []any{true, "é"}}}, false,
			`[true,true,"\u00e9"]`},
		{"variables", Job{Code: []byte("result = [x, y, sorted(k for k in globals() if k[0] != '_')]"), Text: true,
			Variables: &wire.Object{Names: []string{"x", "y"}, Values: []any{wire.Number("12345678901234567890"), []any{"é", nil, true}}}}, false,
			`[12345678901234567890,["\u00e9",null,true],["x","y"]]`},
		{"arguments", Job{Code: []byte("import sys\nresult = sys.argv[1:]"), Text: true, Argv: []string{"-x", "é", ""}}, false, `["-x","\u00e9",""]`},
		{"arguments that are no UTF-8", Job{Code: []byte("import sys, os\nresult = [os.fsencode(a).hex() for a in sys.argv[1:]]"), Text: true, Argv: []string{"a\xff", "\xed\xa0\x80"}}, false, `["61ff","eda080"]`},
		{"main module", code("import sys, __main__\nx = 1\nresult = [__name__, __main__.x, sys.argv[0] == __file__, __builtins__ is sys.modules['builtins']]"), false, `["__main__",1,true,true]`},
		{"the interpreter's mode", code("import sys\nresult = [sys.flags.isolated, sys.flags.utf8_mode, sys.path[0] == '']"), false, `[1,1,false]`},
		{"classes can be pickled", code("import pickle\nclass C: pass\nresult = type(pickle.loads(pickle.dumps(C()))) is C"), false, `true`},
		{"source can be inspected", code("import inspect\ndef f(): pass\nresult = inspect.getsource(f)"), false, `"def f(): pass\n"`},
		{"a file's coding", Job{Code: []byte("# -*- coding: latin-1 -*-\nresult = '\xe9'")}, false, `"\u00e9"`},
		{"a byte order mark", Job{Code: []byte("\xef\xbb\xbfresult = 1")}, false, `1`},
		{"a byte order mark in a text", code("\ufeffresult = 1"), false, `1`},
		{"carriage returns", code("x = 1\r\nresult = '''a\r\nb'''\r\n"), false, `"a\nb"`},
		{"printed and returned", code("print('x')\nresult = 1"), false, `1`},
		{"threads at the end", code("import threading\ngo = threading.Event()\nthreading.Thread(target=go.wait).start()\nthreading.Thread(target=lambda: go.set()).start()\nresult = 1"), false, `1`},
		{"built-in names replaced", code("import builtins\nfor n in 'map sorted enumerate open print'.split(): setattr(builtins, n, None)\nresult = {'a': [1]}"), false, `{"a":[1]}`},
		{"the descriptor limit", code("import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\nresult = {1}"), false, `[1]`},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tr := try(t, ip, tt.job)
				if got := tr.value(t); !matches(got, tt.want) {
					t.Errorf("%.500s, want %.500s", got, tt.want)
				}
				if tr.reply.Absent != tt.absent || tr.exit != 0 || tr.stderr != "" || !tr.began {
					t.Errorf("absent %t, want %t; exit code %d, began %t, stderr %s", tr.reply.Absent, tt.absent, tr.exit, tr.began, tr.stderr)
				}
			})
		}
	})
}

// matches compares; "*" stands for any text.
func matches(got, want string) bool {
	parts := strings.Split(want, "*")
	if len(parts) == 1 {
		return got == want
	}
	if !strings.HasPrefix(got, parts[0]) {
		return false
	}
	got = got[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		at := strings.Index(got, p)
		if at < 0 {
			return false
		}
		got = got[at+len(p):]
	}
	return strings.HasSuffix(got, parts[len(parts)-1])
}

// How the code ends itself.
func TestEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, code string
		exit       int
		signal     syscall.Signal
		stderr     string
		want       string // the kind of the reply, and its value
	}{
		{"to the end", "result = 1", 0, 0, "", "value 1"},
		{"sys.exit()", "import sys\nresult = 1\nsys.exit()", 0, 0, "", "exit 1"},
		{"sys.exit(0), no result", "import sys\nsys.exit(0)", 0, 0, "", "exit null"},
		{"sys.exit(7)", "import sys\nresult = [1]\nsys.exit(7)", 7, 0, "", "exit [1]"},
		{"sys.exit(256)", "import sys\nsys.exit(256)", 0, 0, "", "exit null"},
		{"sys.exit(-1)", "import sys\nsys.exit(-1)", 255, 0, "", "exit null"},
		{"sys.exit with a message", "import sys\nsys.exit('no more')", 1, 0, "no more\n", "exit null"},
		{"raise SystemExit", "raise SystemExit", 0, 0, "", "exit null"},
		{"exit in a function", "def f(): raise SystemExit(3)\nf()", 3, 0, "", "exit null"},
		{"exit of a thread", "import threading, sys\nt = threading.Thread(target=sys.exit)\nt.start(); t.join()\nresult = 1", 0, 0, "", "value 1"},
		{"os._exit(0)", "import os\nresult = 1\nos._exit(0)", 0, 0, "", "none "},
		{"os._exit(9)", "import os\nos._exit(9)", 9, 0, "", "none "},
		{"exec", "import os\nos.execv('/bin/sh', ['sh', '-c', 'exit 5'])", 5, 0, "", "none "},
		{"SIGKILL", "import os\nos.kill(os.getpid(), 9)", -1, syscall.SIGKILL, "", "none "},
		{"abort", "import os\nos.abort()", -1, syscall.SIGABRT, "", "none "},
		{"exception", "1/0", 1, 0, "", "error "},
		{"exception after a result", "result = 1\n1/0", 1, 0, "", "error "},
		{"KeyboardInterrupt", "raise KeyboardInterrupt", 1, 0, "", "error "},
		{"MemoryError", "raise MemoryError('full')", 1, 0, "", "error "},
		{"atexit sees the end", "import atexit\natexit.register(print, 'bye')\nresult = 1", 0, 0, "", "value 1"},
		{"fork falls through", "import os\npid = os.fork()\nresult = 'child' if pid == 0 else 'parent'\nif pid: assert os.waitpid(pid, 0)[1] == 0", 0, 0, "", `value "parent"`},
		{"fork, the parent leaves first", "import os\nr, w = os.pipe()\npid = os.fork()\nresult = 1\nif pid == 0:\n    os.close(w); os.read(r, 1); result = 2", 0, 0, "", "value 1"},
		{"fork, the child leaves", "import os, sys\nif os.fork() == 0: sys.exit(4)\nresult = os.wait()[1] >> 8", 0, 0, "", "value 4"},
		{"fork, the child fails", "import os\nif os.fork() == 0: 1/0\nresult = os.wait()[1] >> 8", 0, 0, "*ZeroDivisionError*", "value 1"},
		{"multiprocessing", "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p: result = p.map(abs, [-1, -2])", 0, 0, "", "value [1,2]"},
		{"multiprocessing by spawn", "import multiprocessing as m\nif __name__ == '__main__':\n    with m.get_context('spawn').Pool(1) as p: result = p.map(abs, [-1, -2])", 0, 0, "", "value [1,2]"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tr := try(t, ip, code(tt.code))
				if got := tr.kind() + " " + string(tr.reply.Value); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				stderr := tt.stderr
				if tt.signal == syscall.SIGABRT {
					stderr = "*"
				}
				if tr.exit != tt.exit || tr.signal != tt.signal || !matches(tr.stderr, stderr) {
					t.Errorf("exit code %d, signal %d, stderr %q; want %d, %d, %q", tr.exit, tr.signal, tr.stderr, tt.exit, tt.signal, tt.stderr)
				}
			})
		}
	})
}

// What is told of an uncaught exception.
func TestExceptions(t *testing.T) {
	t.Parallel()
	const chain = "def f():\n    {}['k']\ntry:\n    f()\nexcept KeyError as e:\n    raise ValueError('bad é') from e\n"
	tests := []struct {
		name         string
		job          Job
		kind, error  string
		line, column int
		syntax       bool
		memory       bool
		errno        syscall.Errno
		want         string // the traceback, with "*" for any text
	}{
		{"plain", code("x = 1\n1/0\n"), "ZeroDivisionError", "ZeroDivisionError: division by zero", 2, 0, false, false, 0,
			"Traceback (most recent call last):\n  File \"main.py\", line 2, in <module>\n    1/0\n*ZeroDivisionError: division by zero\n"},
		{"in a function", code("def f(x):\n    return x.y\n\nf(1)"), "AttributeError", "AttributeError: 'int' object has no attribute 'y'", 2, 0, false, false, 0,
			"Traceback (most recent call last):\n  File \"main.py\", line 4, in <module>\n    f(1)\n*  File \"main.py\", line 2, in f\n    return x.y\n*AttributeError*\n"},
		{"in the library", code("import re\nre.compile('(')"), "*rror", "*", 2, 0, false, false, 0,
			"Traceback (most recent call last):\n  File \"main.py\", line 2, in <module>\n    re.compile('(')\n*rror: missing ), *"},
		{"from the library into the code", code("import functools\nclass E(Exception):\n    pass\ndef f(x, y):\n    raise E\nimport contextlib\nwith contextlib.ExitStack() as s:\n    s.callback(f, 1, 2)"), "E", "E", 5, 0, false, false, 0, "*line 5, in f\n    raise E\n*"},
		{"only in the library", Job{Command: wire.CommandCallModule, Module: "json", Function: "loads", Args: []any{"x"}}, "JSONDecodeError", "*", 0, 0, false, false, 0, "*/json/decoder.py\", line *"},
		{"chained", code(chain), "ValueError", "ValueError: bad é", 6, 0, false, false, 0,
			"Traceback*File \"main.py\", line 2, in f\n    {}['k']\n*KeyError: 'k'\n\nThe above exception was the direct cause*Traceback*File \"main.py\", line 6, in <module>\n    raise ValueError('bad é') from e\nValueError: bad é\n"},
		{"while another is handled", code("try:\n    1/0\nexcept ZeroDivisionError:\n    [][1]\n"), "IndexError", "IndexError: list index out of range", 4, 0, false, false, 0,
			"Traceback*ZeroDivisionError*During handling of the above exception*IndexError: list index out of range\n"},
		{"no message", code("raise KeyboardInterrupt"), "KeyboardInterrupt", "KeyboardInterrupt", 1, 0, false, false, 0, "*"},
		{"message fails", code("class E(Exception):\n    def __str__(self): 1/0\nraise E"), "E", "E: <str() failed>", 3, 0, false, false, 0, "*line 3, in <module>\n*"},
		{"lone surrogate", code("raise ValueError('\\ud800')"), "ValueError", "ValueError: ?", 1, 0, false, false, 0, "*ValueError: *"},
		{"a very long message", code("raise ValueError('x' * 3000000)"), "ValueError", "ValueError: " + strings.Repeat("x", 4096-12), 1, 0, false, false, 0, "*xxx\n"},
		{"no file", code("open('/nowhere/x')"), "FileNotFoundError", "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/x'", 1, 0, false, false, syscall.ENOENT, "*"},
		{"file too large", code("raise OSError(27, 'x')"), "OSError", "OSError: [Errno 27] x", 1, 0, false, false, syscall.EFBIG, "*"},
		{"memory", code("raise MemoryError"), "MemoryError", "MemoryError", 1, 0, false, true, 0, "*"},
		{"too much recursion", code("def f(): f()\nf()"), "RecursionError", "RecursionError: maximum recursion depth exceeded*", 1, 0, false, false, 0, "*repeated*"},
		{"syntax", code("x = 1\nx = = 2\n"), "SyntaxError", "SyntaxError: invalid syntax (*.py, line 2)", 2, 5, true, false, 0, "  File \"main.py\", line 2\n    x = = 2\n        ^\nSyntaxError: invalid syntax\n"},
		{"indentation", code("if 1:\npass\n"), "IndentationError", "*", 2, -1, true, false, 0, "  File \"main.py\", line 2\n    pass\n*IndentationError*"},
		{"found late", code("x = 1\nreturn 2\n"), "SyntaxError", "SyntaxError: 'return' outside function (*.py, line 2)", 2, -1, true, false, 0, "  File \"main.py\", line 2\n    return 2\n*"},
		{"syntax of another file", code("compile('x =', 'other', 'exec')"), "SyntaxError", "*", 1, 0, false, false, 0, "Traceback*line 1, in <module>\n*File \"other\", line 1*"},
		{"NUL", code("a\x00b"), "*", "*", 0, 0, false, false, 0, "*"},
		{"module not found", code("import nowhere.x"), "ModuleNotFoundError", "ModuleNotFoundError: No module named 'nowhere'", 1, 0, false, false, 0,
			"Traceback (most recent call last):\n  File \"main.py\", line 1, in <module>\n    import nowhere.x\nModuleNotFoundError: No module named 'nowhere'\n"},
		{"in a last expression", Job{Code: []byte("x = 0\n1/x"), Text: true, ResultFrom: "last_expression"}, "ZeroDivisionError", "ZeroDivisionError: division by zero", 2, 0, false, false, 0,
			"Traceback (most recent call last):\n  File \"main.py\", line 2, in <module>\n    1/x\n*"},
		{"in an expression", Job{Command: wire.CommandEvaluate, Code: []byte("1/0"), Text: true}, "ZeroDivisionError", "ZeroDivisionError: division by zero", 1, 0, false, false, 0,
			"Traceback (most recent call last):\n  File \"main.py\", line 1, in <module>\n    1/0\n*"},
		{"no expression", Job{Command: wire.CommandEvaluate, Code: []byte("x = 1"), Text: true}, "SyntaxError", "*", 1, 3, true, false, 0, "  File \"main.py\", line 1\n    x = 1\n*"},
		{"no module to call", Job{Command: wire.CommandCallModule, Module: "nowhere", Function: "f"}, "ModuleNotFoundError", "*", 0, 0, false, false, 0, "*ModuleNotFoundError*"},
		{"no function to call", Job{Command: wire.CommandCallModule, Module: "math", Function: "f"}, "AttributeError", "*", 0, 0, false, false, 0, "*AttributeError*"},
		{"the message is asked for once", code("n = 0\nclass E(Exception):\n    def __str__(self):\n        global n\n        n += 1\n        return 'told %d times' % n\nraise E"), "E", "E: told 1 times", 7, 0, false, false, 0, "*\nE: told 1 times\n"},
		{"lines end with \\n only", code("x = '\\x0c'  # \f \u2028\ny = 1\n1/0"), "ZeroDivisionError", "*", 3, 0, false, false, 0, "*line 3, in <module>\n    1/0\n*"},
		{"from a string", code("exec('1/0')"), "ZeroDivisionError", "*", 1, 0, false, false, 0, "*File \"main.py\", line 1, in <module>\n*File \"<string>\", line 1, in <module>\n*"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tr := try(t, ip, tt.job)
				r := tr.reply
				if tr.kind() != "error" || tr.exit != 1 || tr.stderr != "" {
					t.Fatalf("%s, exit code %d, want error, 1\n%s", tr.kind(), tr.exit, tr.stderr)
				}
				if !matches(r.Type, tt.kind) || !matches(r.Error, tt.error) || !matches(r.Traceback, tt.want) {
					t.Errorf("%s: %.200s\n%.2000s\nwant %s: %.200s\n%s", r.Type, r.Error, r.Traceback, tt.kind, tt.error, tt.want)
				}
				if tt.column == -1 {
					r.Column = -1 // Pythons differ
				}
				if r.Line != tt.line || r.Column != tt.column || r.Syntax != tt.syntax || r.Memory != tt.memory || r.Errno != int(tt.errno) {
					t.Errorf("line %d, column %d, syntax %t, memory %t, errno %d; want %d, %d, %t, %t, %d",
						r.Line, r.Column, r.Syntax, r.Memory, r.Errno, tt.line, tt.column, tt.syntax, tt.memory, tt.errno)
				}
				for _, ours := range []string{"py3run>", "py3run report", "code.py\", line", "contextlib.py"} {
					if strings.Contains(r.Traceback, ours) {
						t.Errorf("the traceback shows %s\n%s", ours, r.Traceback)
					}
				}
			})
		}
	})
}

// An exception is printed where a person looks, and a hook of the program's own is called.
func TestShow(t *testing.T) {
	t.Parallel()
	shown := code("1/0")
	shown.Show = true
	library := code("import json\njson.loads('x')")
	library.Show = true
	exits := code("import sys\nsys.exit('gone')")
	exits.Show = true
	tests := []struct {
		name string
		job  Job
		want string
	}{
		{"not shown", code("1/0"), ""},
		{"shown", shown, "Traceback (most recent call last):\n  File \"main.py\", line 1, in <module>\n    1/0\n*ZeroDivisionError: division by zero\n"},
		{"shown with the library", library, "Traceback (most recent call last):\n  File \"main.py\", line 2, in <module>\n    json.loads('x')\n*/json/decoder.py\", line *JSONDecodeError: *"},
		{"exit with a message", exits, "gone\n"},
		{"own hook", code("import sys\nsys.excepthook = lambda kind, e, tb: print(kind.__name__, e, tb.tb_lineno, file=sys.stderr)\n1/0"), "ZeroDivisionError division by zero 3\n"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				if got := try(t, ip, tt.job).stderr; !matches(got, tt.want) {
					t.Errorf("%q, want %q", got, tt.want)
				}
			})
		}
	})
}

// The last words of a program that a signal asks where it is.
func TestWhereOfARun(t *testing.T) {
	t.Parallel()
	const program = `import os, signal, threading
ready, stop = threading.Event(), threading.Event()
def work():
    ready.set()
    stop.wait()
t = threading.Thread(target=work)
t.start()
ready.wait()
def ask():
    os.kill(os.getpid(), %d)
ask()
stop.set()
t.join()
os._exit(0)
`
	inEach(t, func(t *testing.T, ip Interpreter) {
		for _, signal := range []syscall.Signal{63, syscall.SIGXCPU} {
			t.Run(fmt.Sprint("signal ", int(signal)), func(t *testing.T) {
				t.Parallel()
				base := t.TempDir()
				job := code(fmt.Sprintf(program, signal))
				job.Path = filepath.Join(base, "größe.py") // the dump writes it in another way
				if err := os.WriteFile(job.Path, job.Code, 0o600); err != nil {
					t.Fatal(err)
				}
				tr := try(t, ip, job)
				frames := Where(tr.dump, job.Path, "main.py", ip.Prefixes)
				var main []wire.Frame
				work := false
				for _, f := range frames {
					if f.Thread == 0 {
						main = append(main, f)
					}
					work = work || f.Thread > 0 && f == wire.Frame{File: "main.py", Line: 5, Function: "work", Thread: f.Thread}
				}
				want := []wire.Frame{{File: "main.py", Line: 11, Function: "<module>"}, {File: "main.py", Line: 10, Function: "ask"}}
				if !slices.Equal(main, want) || !work {
					t.Errorf("%v, want the main thread at %v and another in work\n%s", frames, want, tr.dump)
				}
			})
		}
	})
}

// A program that closes all descriptors and then opens files of its own finds nothing of ours in them.
func TestDescriptorsClosed(t *testing.T) {
	t.Parallel()
	const program = `import os
os.closerange(3, 4096)
files = [open("f%d" % n, "w+b", buffering=0) for n in range(20)]
for n, f in enumerate(files): f.write(b"%d" % n)
if os.fork() == 0:
    open("child", "w").close()
    os._exit(0)
os.wait()
open("later", "w").close()
os.kill(os.getpid(), 63) if False else None
wrong = []
for n, f in enumerate(files):
    f.seek(0)
    if f.read() != b"%d" % n: wrong.append(n)
result = [wrong, max(f.fileno() for f in files) < 64, {1}]
`
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code(program))
		if got, want := tr.value(t), `[[],true,[1]]`; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if !slices.Contains(tr.events.FilesWritten, filepath.Join(tr.dir, "later")) {
			t.Errorf("files written: %q", tr.events.FilesWritten)
		}
		for n := range 20 {
			if data, err := os.ReadFile(filepath.Join(tr.dir, fmt.Sprint("f", n))); string(data) != fmt.Sprint(n) {
				t.Errorf("f%d has %q, %v", n, data, err)
			}
		}
	})
}

// A launcher that goes away before the gate opens leaves an interpreter that ends itself, and nothing has run.
func TestGateClosed(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		s, err := Open(ip, Job{Command: wire.CommandExecute, Code: []byte("print(1)"), Text: true, Path: "x", Shown: "x"}, firstInTests)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		gate, open, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(ip.Path, s.Args()...)
		cmd.ExtraFiles = append(make([]*os.File, firstInTests-3), append(slices.Clone(s.Files()), gate, gate)...)
		open.Close()
		out, _ := cmd.CombinedOutput()
		gate.Close()
		s.Started()
		if _, began := s.CodeStarted(); began || cmd.ProcessState.ExitCode() != 125 || len(out) > 0 {
			t.Errorf("exit code %d, want 125; began %t, %s", cmd.ProcessState.ExitCode(), began, out)
		}
		if _, err := s.Reply(); !errors.Is(err, ErrNoReply) {
			t.Errorf("%v, want %v", err, ErrNoReply)
		}
	})
}

// Whatever the code did to the interpreter that it shares with us, the reply is what it would have been.
func TestReplyOfASpoiledInterpreter(t *testing.T) {
	t.Parallel()
	const (
		full    = "import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\n"
		dup     = "while 1: os.dup(0)\n"
		handled = full + "try:\n    " + dup + "except OSError: pass\n"
		memory  = "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (100 << 20, 100 << 20))\nx = []\ntry:\n    while 1: x.append(object())\nexcept MemoryError: pass\n"
		refused = "import sys\ndef h(*a): raise RuntimeError('refused')\nsys.addaudithook(h)\n"
		lost    = "import sys\nsys.path[:] = []\nsys.meta_path[:] = []\nsys.path_hooks.clear()\nsys.path_importer_cache.clear()\n"
		clear   = "import builtins\nbuiltins.__dict__.clear()\n"
		closed  = "import sys\ndel sys.path, sys.meta_path\nfor m in list(sys.modules):\n    if m != '__main__': sys.modules[m] = None\n"
		zero    = "ZeroDivisionError: division by zero"
		source  = "*line *, in <module>\n    1/0\n*" + zero + "\n"
	)
	tests := []struct {
		name, code string
		want       string // the value, or the error
		traceback  string
	}{
		{"no descriptor left", handled + "result = 1", "1", ""},
		{"no descriptor left, a set of bytes", handled + "result = {b'\\xff\\xfe', b'\\xff\\xfe\\xfd', b'\\xff'}", `["/w==","//4=","//79"]`, ""},
		{"no descriptor left, uncaught", full + "def f():\n    " + dup + "f()\n", "OSError: [Errno 24] Too many open files",
			"Traceback (most recent call last):\n  File \"main.py\", line 5, in <module>\n    f()\n*  File \"main.py\", line 4, in f\n    while 1: os.dup(0)\n*OSError: [Errno 24] Too many open files\n"},
		{"no memory left", memory + "result = 5", "5", ""},
		{"no memory left, a set", memory + "result = {5}", "[5]", ""},
		{"no ways to import", lost + "result = 1", "1", ""},
		{"no ways to import, a set", lost + "result = {1}", "[1]", ""},
		{"no ways to import, uncaught", lost + "1/0", zero, source},
		{"modules gone", closed + "result = {1}", "[1]", ""},
		{"modules gone, uncaught", closed + "1/0", zero, source},
		{"an audit hook refuses", refused + "result = 1", "1", ""},
		{"an audit hook refuses, a set", refused + "result = {1}", `"<set object>"`, ""},
		{"an audit hook refuses, uncaught", refused + "1/0", zero, "*" + zero + "\n"},
		{"a built-in name gone", "import builtins\nbuiltins.len = None\nresult = {1}", "[1]", ""},
		{"built-in names gone", clear + "result = 1", "1", ""},
		{"built-in names gone, a set", clear + "result = {1}", "[1]", ""},
		{"built-in names gone, uncaught", clear + "1/0", zero, source},
		{"own modules of our names", "import sys\nfor m in 'traceback', 'linecache', 'io', '_json', 're', 'collections': sys.modules[m] = type(sys)(m)\n1/0", zero, source},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tr := try(t, ip, code(tt.code))
				got := string(tr.reply.Value)
				if tt.traceback != "" {
					got = tr.reply.Error
				}
				if got != tt.want || !matches(tr.reply.Traceback, tt.traceback) || (tr.kind() == "error") != (tt.traceback != "") || tr.err != nil {
					t.Errorf("%s %s\n%s\nwant %s\n%s\n%s", tr.kind(), got, tr.reply.Traceback, tt.want, tt.traceback, tr.stderr)
				}
			})
		}
	})
}

// Files of the user's that are named like modules of the standard library are never run for our sake, but are there for the code.
func TestReplyAmongShadowingFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"_json", "traceback", "linecache", "io", "re", "tokenize", "ast", "collections", "textwrap", "contextlib", "binascii", "unicodedata", "_colorize"} {
		if err := os.WriteFile(filepath.Join(dir, name+".py"), []byte("print('run:', __name__)\nown = 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, code string
		stdout     string
	}{
		{"error", "1/0", ""},
		{"error of wide text", "'é漢' + \\\n 1/0", ""},
		{"values", "result = [{1}, b'\\xff', 1.5]", ""},
		{"own module", "import sys\nsys.modules.pop('linecache', 0)\nimport linecache, atexit\nm = linecache\ndef end():\n    import linecache\n    print(linecache is m, m.own)\natexit.register(end)\n1/0", "run: linecache\nTrue 1\n"},
		{"own module, later", "import sys, atexit\nsys.modules.pop('textwrap', 0)\ndef end():\n    import textwrap\natexit.register(end)\n1/0", "run: textwrap\n"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				job := code(tt.code)
				job.ImportPath = []string{dir}
				tr := try(t, ip, job)
				if tr.stdout != tt.stdout || tr.stderr != "" || tr.err != nil {
					t.Errorf("%q, want %q; %v\n%s", tr.stdout, tt.stdout, tr.err, tr.stderr)
				}
				if tr.kind() == "error" && !strings.Contains(tr.reply.Traceback, " 1/0\n") && !strings.Contains(tr.reply.Traceback, "1/0\n") {
					t.Error(tr.reply.Traceback)
				}
			})
		}
	})
}

// The gate's one byte is read and the gate closed before any of the code runs: its end is all that the launcher can see of the beginning.
func TestGateClosedBeforeTheCode(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code(fmt.Sprintf("import os\nresult = [n for n in range(5) if os.path.exists('/proc/self/fd/%%d' %% (%d + n))]", firstInTests)))
		if got, want := tr.value(t), "[2,4]"; got != want { // the pipe for events, the dump pipe
			t.Errorf("open from the first descriptor on: %s, want %s", got, want)
		}
	})
}
