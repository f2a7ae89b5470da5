package python

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// What names the rows and columns of NumPy's and pandas' tables is in the result. Each case stands for a kind of index.
func TestLabels(t *testing.T) {
	t.Parallel()
	const start = `try:
    import numpy as np, pandas as pd
except ImportError:
    import sys; sys.exit(9)
lines = pd.DataFrame({"line": ["A", "B", "A"], "n": [1, 2, 3]})
pairs = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=[1, None])
xy = lambda **k: pd.DataFrame({"x": [1, 2]}, **k)
result = `
	type list = []string
	tests := []struct {
		code, plain string
		warnings    list
		tagged      string
	}{
		{`lines.groupby("line").sum()`, `[{"line":"A","n":4},{"line":"B","n":2}]`, nil,
			`{"$dataframe":{"columns":["n"],"index":["A","B"],"data":[[4],[2]],"index_names":["line"]}}`},
		{`[{"t": lines.groupby("line").n.sum()}, pd.Series([1, 2])]`, `[{"t":{"A":4,"B":2}},[1,2]]`, nil,
			`[{"t":{"$series":[4,2],"index":["A","B"],"index_names":["line"]}},{"$series":[1,2],"index":[0,1]}]`},
		{`pd.Series(["x", "y", "x"]).value_counts()`, `{"x":2,"y":1}`, nil, `*`},
		{`xy().describe()`, `[{"index":"count","x":2.0},{"index":"mean","x":1.5},*]`, nil, `*`},
		{`lines.iloc[0]`, `{"line":"A","n":1}`, nil, `{"$series":["A",1],"index":["line","n"]}`},
		{`lines[lines.n > 1]`, `[{"index":1,"line":"B","n":2},{"index":2,"line":"A","n":3}]`, nil, `*`},
		{`lines.groupby("line").agg(["sum", "max"])`, `[{"line":"A","('n', 'sum')":4,"('n', 'max')":3},{"line":"B","('n', 'sum')":2,"('n', 'max')":2}]`, nil,
			`{"$dataframe":{"columns":[{"$tuple":["n","sum"]},{"$tuple":["n","max"]}],"index":["A","B"],"data":[[4,3],[2,2]],"index_names":["line"]}}`},
		{`lines.pivot(index="line", columns="n", values="n").fillna(0)`, `[{"line":"A","1":1.0,"2":0.0,"3":3.0},{"line":"B","1":0.0,"2":2.0,"3":0.0}]`, nil,
			`{"$dataframe":{"columns":[1,2,3],"index":["A","B"],"data":[[1.0,0.0,3.0],[0.0,2.0,0.0]],"index_names":["line"],"column_names":["n"]}}`},
		{`xy(index=pairs)`, `[{"1":"a","level_1":1,"x":1},{"1":"b","level_1":2,"x":2}]`, nil,
			`{"$dataframe":{"columns":["x"],"index":[{"$tuple":["a",1]},{"$tuple":["b",2]}],"data":[[1],[2]],"index_names":[1,null]}}`},
		{`pd.Series([1, 2], index=pairs)`, `{"('a', 1)":1,"('b', 2)":2}`, nil, `*`},
		{`pd.Series([1, 2, 3], index=pairs.append(pairs[:1]))`, `[{"1":"a","level_1":1,"value":1},{"1":"b","level_1":2,"value":2},{"1":"a","level_1":1,"value":3}]`, nil, `*`},
		{`[xy(index=pd.MultiIndex.from_tuples([(0,), (1,)])), xy(index=pairs)[:0].to_dict()]`, `[[{"level_0":0,"x":1},{"level_0":1,"x":2}],{"x":{}}]`, nil, `*`},
		{`pd.Series([1, 2], index=["a", "a"])`, `[{"index":"a","value":1},{"index":"a","value":2}]`, nil, `{"$series":[1,2],"index":["a","a"]}`},
		{`pd.Series([1, 2], index=pd.Index(["a", "a"], name="value"))`, `[{"value":"a","value#2":1},{"value":"a","value#2":2}]`,
			list{`inexact_value result["value"]: a second column of this name, as value#2`}, `*`},
		{`pd.Series([1, 2, 3], index=[1, "1", "1#2"])`, `{"1":1,"1#3":2,"1#2":3}`, list{`inexact_value result["1"]: a second label of this name, as 1#3`}, `*`},
		{`xy(index=pd.Index([7, 8], name="x"))`, `[{"x":7,"x#2":1},{"x":8,"x#2":2}]`, list{`inexact_value result["x"]: a second column of this name, as x#2`}, `*`},
		{`pd.DataFrame([[1, 2, 3]], columns=["a", "a", "a"])`, `[{"a":1,"a#2":2,"a#3":3}]`,
			list{`inexact_value result["a"]: a second column of this name, as a#2`, `inexact_value result["a"]: a second column of this name, as a#3`}, `*`},
		{`pd.DataFrame({"index": [1]}, index=["a"])`, `[{"level_0":"a","index":1}]`, nil, `*`},
		{`xy(index=pd.date_range("2024-01-01", periods=2, name="day"))`, `[{"day":"2024-01-01T00:00:00","x":1},{"day":"2024-01-02T00:00:00","x":2}]`,
			list{"inexact_value result[0].day: a datetime, as ISO 8601 text", "inexact_value result[1].day: a datetime, as ISO 8601 text"}, `*`},
		{`pd.DataFrame([[1, 2]], columns=pd.date_range("2024-01-01", periods=2))`, `[{"2024-01-01T00:00:00":1,"2024-01-02T00:00:00":2}]`, nil, `*`},
		{`pd.Series([1], index=pd.to_datetime(["2024-01-01 10:00"]))`, `{"2024-01-01T10:00:00":1}`, nil, `{"$series":[1],"index":[{"$datetime":"2024-01-01T10:00:00"}]}`},
		{`pd.Series([1, 2], index=pd.period_range("2024-01", periods=2, freq="M"))`, `{"2024-01":1,"2024-02":2}`, nil, `*`},
		{`pd.cut(pd.Series([1, 3]), [0, 2, 4]).value_counts().sort_index()`, `{"(0, 2]":1,"(2, 4]":1}`, nil, `*`},
		{`xy(index=pd.CategoricalIndex(["u", "v"]))`, `[{"index":"u","x":1},{"index":"v","x":2}]`, nil, `*`},
		{`[xy(index=[1, 0]), xy(index=[0.0, 1.0]), xy(index=[False, True]), xy(index=pd.Index([0, 1], name="id"))]`,
			`[[{"index":1,"x":1},{"index":0,"x":2}],[{"index":0.0,"x":1},{"index":1.0,"x":2}],[{"index":false,"x":1},{"index":true,"x":2}],[{"id":0,"x":1},{"id":1,"x":2}]]`, nil, `*`},
		{`[xy(index=pd.Index([0, 1], dtype="uint8")), pd.Series([5, 6], index=[0, 1])]`, `[[{"x":1},{"x":2}],[5,6]]`, nil, `*`},
		{`lines[lines.n > 9]`, `[]`, list{"inexact_value result: a frame without rows, as []; its columns: line, n"}, `{"$dataframe":{"columns":["line","n"],"index":[],"data":[]}}`},
		{`[lines[lines.n > 9].groupby("line").sum(), pd.DataFrame()]`, `[[],[]]`,
			list{"inexact_value result[0]: a frame without rows, as []; its columns: line, n", "inexact_value result[1]: a frame without rows, as []; its columns: none"}, `*`},
		{`[pd.DataFrame(index=["a"]), pd.DataFrame(index=range(2))]`, `[[{"index":"a"}],[{},{}]]`, nil, `*`},
		{`[pd.Series([], dtype=float), pd.Series([], dtype=float, index=pd.Index([], name="k"))]`, `[[],{}]`, nil, `*`},
		{`np.ma.array([1, 2, 3], mask=[0, 1, 0])`, `[1,null,3]`, list{"inexact_value result: masked values, replaced by null"},
			`{"$ndarray":[1,null,3],"dtype":"int64","shape":[3],"mask":[false,true,false]}`},
		{`np.ma.array([(1, 2.0)], mask=[(0, 1)], dtype=[("a", "i4"), ("b", "f8")])`, `[[1,null]]`, list{"inexact_value result[0][1]: masked values, replaced by null", "inexact_value result: masked values, replaced by null"}, `*`},
		{`[np.ma.array([1, 2]), np.matrix([["2024-01-01"]], dtype="M8[s]")]`, `[[1,2],[["2024-01-01T00:00:00"]]]`, list{"inexact_value result[1][0][0]: a datetime, as ISO 8601 text"}, `*`},
		{`{k: k for k in (np.datetime64("2024-01-02T03:04", "ms"), pd.Timestamp("2024-01-02 05:06", tz="UTC"), np.datetime64("2024-01-02"), np.datetime64(5, "ns"), np.timedelta64(90, "s"), np.float32(0.1), np.int8(7))}`,
			`{"2024-01-02T03:04:00":"2024-01-02T03:04:00","2024-01-02T05:06:00+00:00":"2024-01-02T05:06:00+00:00","2024-01-02":"2024-01-02",` +
				`"1970-01-01T00:00:00.000000005":"1970-01-01T00:00:00.000000005","0:01:30":"0:01:30","0.10000000149011612":0.10000000149011612,"7":7}`, list{"*"}, `*`},
	}
	var exact, plain, all, tagged []string // pandas takes longer to import than all of them
	for _, tt := range tests {
		all, tagged = append(all, tt.code), append(tagged, tt.tagged)
		if tt.warnings == nil {
			exact, plain = append(exact, tt.code), append(plain, tt.plain)
		}
	}
	joined := func(parts []string) string { return "[" + strings.Join(parts, ",") + "]" }
	inEach(t, func(t *testing.T, ip Interpreter) {
		check := func(form, expression, want string, warnings list) {
			job := code(start + expression)
			job.ResultFormat = form
			tr := try(t, ip, job)
			if tr.exit == 9 {
				t.Skip("without NumPy and pandas")
			}
			if got := tr.value(t); !matches(got, want) || tr.stderr != "" {
				t.Errorf("%s %s:\n%s, want\n%s; stderr %q", form, expression, got, want, tr.stderr)
			}
			if got := tr.warnings(); !slices.Equal(got, warnings) && !slices.Equal(warnings, list{"*"}) {
				t.Errorf("%s:\nwarnings %q, want\n%q", expression, got, warnings)
			}
		}
		check("plain", joined(exact), joined(plain), nil)
		check("tagged", joined(all), joined(tagged), nil)
		for _, tt := range tests {
			if tt.warnings != nil {
				check("plain", tt.code, tt.plain, tt.warnings)
			}
		}
	})
}

// A key is written as the same value is.
func TestKeysAreWrittenAsValues(t *testing.T) {
	t.Parallel()
	const program = `import datetime, decimal, enum, fractions, pathlib, uuid
class Colour(enum.Enum): RED = 1
class Level(enum.IntEnum): HIGH = 3
utc = datetime.timezone.utc
values = [datetime.datetime(2024, 1, 2, 3, 4), datetime.datetime(2024, 1, 2, 3, 4, tzinfo=utc), datetime.date(2024, 1, 2), datetime.time(3, 4), datetime.timedelta(1, 2),
          decimal.Decimal("1.10"), uuid.UUID(int=1), pathlib.PurePosixPath("/a"), fractions.Fraction(1, 3), Colour.RED, Level.HIGH, b"\xff", b"x", memoryview(b"y"), 2.5, 10**30, True, None, 1j]
result = [{datetime.date(2024, 1, 2): 1, "2024-01-02": 2}, {v: v for v in values}]
`
	const want = `[{"2024-01-02":1,"2024-01-02#1":2},{"2024-01-02T03:04:00":"2024-01-02T03:04:00","2024-01-02T03:04:00+00:00":"2024-01-02T03:04:00+00:00","2024-01-02":"2024-01-02","03:04:00":"03:04:00",` +
		`"1 day, 0:00:02":"1 day, 0:00:02","1.10":"1.10","00000000-0000-0000-0000-000000000001":"00000000-0000-0000-0000-000000000001","/a":"/a","1/3":"1/3",` +
		`"Colour.RED":"Colour.RED","3":3,"/w==":"/w==","x":"x","y":"y","2.5":2.5,"1000000000000000000000000000000":1000000000000000000000000000000,"true":true,"null":null,"1j":"1j"}]`
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code(program))
		if got := tr.value(t); got != want {
			t.Errorf("%s, want\n%s", got, want)
		}
		if got := tr.warnings(); !slices.Contains(got, "inexact_value result[0].2024-01-02: a second key of this name, as 2024-01-02#1") {
			t.Errorf("warnings %q", got)
		}
	})
}

// What a value would still have to do is not done, and nobody takes its str() for the value.
func TestUndone(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, code, value, warning string }{
		{"generator", "(x for x in 'ab')", `"<generator object *>"`, "result: an object of type generator, as its str(): it was not consumed"},
		{"in a list", "[map(str, 'ab')]", `["<map object *>"]`, "result[0]: an object of type map, as its str(): it was not consumed"},
		{"coroutine", "c()", `"<coroutine object c *>"`, "result: an object of type coroutine, as its str(): it was not awaited"},
		{"in a dict", "{'k': c()}", `{"k":"<coroutine object c *>"}`, "result.k: an object of type coroutine, as its str(): it was not awaited"},
		{"asynchronous generator", "g()", `"<async_generator object g *>"`, "result: an object of type async_generator, as its str(): it was not consumed"},
		{"awaitable", "A()", `"A"`, "result: an object of type A, as its str(): it was not awaited"},
	}
	const start = "async def c(): pass\nasync def g(): yield 1\nclass A:\n    def __await__(self): yield\n    def __str__(self): return 'A'\nimport warnings\nwarnings.simplefilter('ignore')\nresult = "
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			for _, form := range []string{"plain", "tagged"} {
				job := code(start + tt.code)
				job.ResultFormat = form
				tr := try(t, ip, job)
				if got := tr.value(t); form == "plain" && !matches(got, tt.value) {
					t.Errorf("%s: %s, want %s", tt.name, got, tt.value)
				}
				if got, want := tr.warnings(), []string{"inexact_value " + tt.warning}; !slices.Equal(got, want) || tr.stderr != "" {
					t.Errorf("%s, %s: warnings %q, want %q; stderr %q", tt.name, form, got, want, tr.stderr)
				}
			}
		}
	})
}

// A function that is called by its name is awaited if need be.
func TestCallsAreAwaited(t *testing.T) {
	t.Parallel()
	const module = `import asyncio, types, functools
async def plain(x):
    await asyncio.sleep(0)
    return x
class Awaitable:
    def __init__(self, x): self.x = x
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.x
@types.coroutine
def old(x):
    yield from asyncio.sleep(0).__await__()
    return x
def future(x):
    loop = asyncio.new_event_loop()
    f = loop.create_future()
    loop.call_soon(f.set_result, x)
    return f
class Obj:
    async def method(self, x): return x
obj = Obj()
part = functools.partial(plain)
async def fails(x): raise KeyError(x)
async def twice(x): return plain(x)
def gen(x): yield x
`
	tests := []struct{ function, want string }{
		{"plain", `7`}, {"Awaitable", `7`}, {"old", `7`}, {"future", `7`}, {"obj.method", `7`}, {"part", `7`}, {"abs", `7`},
		{"twice", `"<coroutine object plain *>"`}, {"gen", `"<generator object gen *>"`}, {"fails", ""},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "coros.py"), []byte(module), 0o600); err != nil {
				t.Fatal(err)
			}
			job := Job{Command: wire.CommandCallModule, Module: "coros", Function: tt.function, Args: []any{wire.Number("7")}, ImportPath: []string{dir}}
			if tt.function == "abs" {
				job.Module = "builtins"
			}
			tr := try(t, ip, job)
			if tt.want == "" {
				if tr.reply.Type != "KeyError" || !matches(tr.reply.Traceback, "Traceback (most recent call last):\n  File \"*coros.py\", line *, in fails\n*KeyError: 7\n") || strings.Contains(tr.reply.Traceback, "asyncio") {
					t.Errorf("%s: %s\n%s", tt.function, tr.kind(), tr.reply.Traceback)
				}
				continue
			}
			if got := tr.value(t); !matches(got, tt.want) {
				t.Errorf("%s: %s, want %s", tt.function, got, tt.want)
			}
			if tt.want == `7` && (tr.stderr != "" || tr.warnings() != nil) {
				t.Errorf("%s: stderr %q, warnings %q", tt.function, tr.stderr, tr.warnings())
			}
		}
	})
}

// The request's variables are in every worker, as the request has them, however workers are started.
func TestVariablesInWorkers(t *testing.T) {
	t.Parallel()
	const program = `import concurrent.futures, multiprocessing
at_import = number + len(things)
things.append(1)
def work(n):
    return [n * number, at_import, len(things), K, __name__]
def nest(queue):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        queue.put(pool.map(work, [3])[0])
if __name__ == "__main__":
    how = HOW
    multiprocessing.set_start_method(how)
    with multiprocessing.Pool(1) as pool:
        result = pool.map(work, [1])
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        result += pool.map(work, [2])
    queue = multiprocessing.SimpleQueue()
    process = multiprocessing.Process(target=nest, args=(queue,), name="ignore")
    process.start()
    result.append(queue.get())
    process.join()
`
	variables := &wire.Object{Names: []string{"number", "things", "\u212a"}, Values: []any{wire.Number("10"), []any{}, "kelvin"}}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, how := range []string{"spawn", "forkserver", "fork"} {
			if !turn(ip, i) {
				continue
			}
			name := "__mp_main__"
			if how == "fork" {
				name = "__main__"
			}
			job := code(strings.Replace(program, "HOW", `"`+how+`"`, 1))
			job.Variables = variables
			tr := try(t, ip, job)
			want := `[[10,10,1,"kelvin","` + name + `"],[20,10,1,"kelvin","` + name + `"],[30,10,1,"kelvin","__mp_main__"]]`
			if got := tr.value(t); got != want || tr.stderr != "" {
				t.Errorf("%s: %s, want %s\n%s", how, got, want, tr.stderr)
			}
		}
	})
}

// A fork server that imports the code itself, as newer Pythons have it, is not told where that is: it would miss the variables.
func TestForkServerImportsNoCode(t *testing.T) {
	t.Parallel()
	const program = `import multiprocessing.popen_forkserver, multiprocessing.spawn as spawn
server = {"__name__": "multiprocessing.forkserver", "spawn": spawn}
exec("def ask(): return 'init_main_from_path' in spawn.get_preparation_data('ignore')", server)
def worker(): return 'init_main_from_path' in spawn.get_preparation_data('ignore')
result = [server["ask"](), worker(), server["ask"](), worker()]
`
	inEach(t, func(t *testing.T, ip Interpreter) {
		for _, variables := range []*wire.Object{nil, {Names: []string{"x"}, Values: []any{"y"}}} {
			job, want := code(program), `[true,true,true,true]`
			if job.Variables = variables; variables != nil {
				want = `[false,true,false,true]`
			}
			if got := try(t, ip, job).value(t); got != want {
				t.Errorf("with %v: %s, want %s", variables, got, want)
			}
		}
	})
}

// Of a large group the members that are only counted are as they were when the code sees them.
func TestLargeGroups(t *testing.T) {
	t.Parallel()
	const program = `import sys
if sys.version_info < (3, 11): sys.exit(9)
def hook(kind, e, tb):
    print([x.__traceback__ is not None and x.__context__ is not None and x.__cause__ is None and not x.__suppress_context__ for x in e.exceptions] == [True] * 3000)
sys.excepthook = hook
def f(n):
    try:
        try:
            {}[n]
        finally:
            1/0
    except ZeroDivisionError as e:
        return e
raise ExceptionGroup("many", [f(n) for n in range(3000)])
`
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code(program))
		if tr.exit == 9 {
			t.Skip("without groups of exceptions")
		}
		const want = "  + Exception Group Traceback*KeyError: 0\n*During handling*line 11, in f\n*ZeroDivisionError*KeyError: 14\n*and 2985 more exceptions\n*"
		if !matches(tr.reply.Traceback, want) || tr.stdout != "True\n" {
			t.Errorf("stdout %q, stderr %q\n%s", tr.stdout, tr.stderr, tr.reply.Traceback)
		}
	})
}

// A traceback without end is told by its begin and its end, in a time that does not depend on its length, and is as long as ever for the code.
func TestLongTracebacks(t *testing.T) {
	t.Parallel()
	shown := func(j Job) Job { j.Show = true; return j }
	tests := []struct {
		name  string
		job   Job
		lines int // at most
		want  string
	}{
		{"as Python folds it", shown(code("def f(n):\n    if n: f(n - 1)\n    else: 1/0\nf(700)")), 24,
			"Traceback*line 4, in <module>\n*line 2, in f\n*line 2, in f\n*line 2, in f\n*  [Previous line repeated 697 more times]\n  File \"main.py\", line 3, in f\n*ZeroDivisionError: *"},
		{"repeated once", code("def f(n):\n    if n: f(n - 1)\n    else: 1/0\nf(4)"), 24, "*line 2, in f\n*  [Previous line repeated 1 more time]\n*line 3, in f\n*"},
		{"two in turn", shown(code("import sys\nsys.setrecursionlimit(20000)\ndef f(n):\n    if n: g(n - 1)\n    else: 1/0\ndef g(n):\n    f(n)\nf(3000)")), 3100,
			"Traceback*line 8, in <module>\n*line 4, in f\n*line 7, in g\n*  [5002 frames are not shown]\n*line 7, in g\n*line 5, in f\n*ZeroDivisionError: *"},
		{"a cause", code("def f(n):\n    if n: f(n - 1)\n    else: 1/0\ntry:\n    f(500)\nexcept Exception as e:\n    raise ValueError from e"), 60,
			"Traceback*[Previous line repeated 497 more times]\n*direct cause*line 7, in <module>\n*ValueError\n"},
		{"many causes", code("e = None\nfor i in range(5000):\n    try:\n        raise ValueError(i) from e\n    except ValueError as x:\n        e = x\nraise e"), 1300,
			"Traceback (most recent call last):\n  [the exceptions before this one are not shown]\n*ValueError: 4998\n*direct cause*ValueError: 4999\n"},
		{"one after another", code("e = None\nfor i in range(5000):\n    try:\n        try:\n            raise e or KeyError\n        finally:\n            raise ValueError(i)\n    except ValueError as x:\n        e = x\nraise e"), 1300,
			"Traceback (most recent call last):\n  [the exceptions before this one are not shown]\n*ValueError: 4999\n"},
		{"an exception with a list of its own", code("class E(Exception):\n    exceptions = 5\ntry:\n    raise E\nexcept E as e:\n    e.__notes__ = 1\n    raise ValueError from e"), 20,
			"Traceback*line 4, in <module>\n*direct cause*line 7, in <module>\n*ValueError\n"},
		{"code sees all", code("import sys\ndef hook(kind, e, tb):\n    n = 0\n    while tb: tb, n = tb.tb_next, n + 1\n    sys.exit(n - 700 + 2 * (str(e.__cause__) == 'c') + 4 * e.__suppress_context__)\nsys.excepthook = hook\n" +
			"def f(n):\n    if n: f(n - 1)\n    else: raise OSError from Exception('c')\nf(700)"), -8, "*"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for _, tt := range tests {
			tr := try(t, ip, tt.job)
			if tt.lines < 0 {
				if tr.exit != -tt.lines {
					t.Errorf("%s: exit code %d, want %d\n%s", tt.name, tr.exit, -tt.lines, tr.stderr)
				}
				continue
			}
			for what, text := range map[string]string{"traceback": tr.reply.Traceback, "stderr": tr.stderr} {
				if what == "stderr" && !tt.job.Show {
					continue
				}
				if cut := len(text) >= 65536; !cut && !matches(text, tt.want) || strings.Count(text, "\n") > tt.lines {
					t.Errorf("%s, %s of %d lines:\n%.1500s\nwant at most %d:\n%s", tt.name, what, strings.Count(text, "\n"), text, tt.lines, tt.want)
				}
			}
		}
	})
}
