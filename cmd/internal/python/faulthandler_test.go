package python

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

func TestWhere(t *testing.T) {
	t.Parallel()
	const path, shown = "/tmp/w.py", "main.py"
	frame := func(thread int, file string, line int, function string) wire.Frame {
		return wire.Frame{File: file, Line: line, Function: function, Thread: thread}
	}
	type frames = []wire.Frame
	const main = `Current thread 0x00007f0000000001 (most recent call first):
  File "/tmp/w.py", line 2 in f
  File "/tmp/w.py", line 5 in <module>
  File "<py3run>", line 300 in execute
  File "<py3run>", line 330 in start
  File "<py3run>", line 350 in <module>
  File "<string>", line 1 in <module>
`
	const worker = `Thread 0x00007f0000000002 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait
  File "/tmp/w.py", line 9 in work

`
	const formatting = `Current thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/python3.11/traceback.py", line 465 in format_frame_summary
  File "<py3run report>", line 520 in standard_text
  File "<py3run report>", line 400 in undisturbed
  File "<py3run report>", line 440 in failure
  File "<py3run>", line 340 in start
`
	inMain := frames{frame(0, shown, 5, "<module>"), frame(0, shown, 2, "f")}
	long := "/" + strings.Repeat("x", 600)
	tests := []struct {
		name, dump string
		path       string
		want       []wire.Frame
	}{
		{"nothing", "", path, nil},
		{"no dump", "Fatal Python error: Aborted\n\n", path, nil},
		{"one thread", main, path, inMain},
		{"the main thread last", worker + main, path, append(slices.Clone(inMain), frame(1, shown, 9, "work"))},
		{"the main thread first", main + "\n" + worker, path, append(slices.Clone(inMain), frame(1, shown, 9, "work"))},
		{"a fatal error before", "Fatal Python error: Segmentation fault\n\n" + main, path, inMain},
		{"two dumps", worker + strings.ReplaceAll(main, "line 2 in f", "line 1 in g") + worker + main, path,
			append(slices.Clone(inMain), frame(1, shown, 9, "work"))},
		{"the second dump torn", main + "Current thread 0x00007f0000000001 (most recent call first):\n  File \"/tmp/w.py\", line 3 in g\n  File \"/tmp/w.p", path, frames{frame(0, shown, 3, "g")}},
		{"names of threads", "Thread 0x01 [Thread-1 (work)] (most recent call first):\n  File \"/tmp/w.py\", line 9 in work\n\nThread 0x02 [Thread-2 (work)] (most recent call first):\n  File \"/tmp/w.py\", line 9 in work\n\n" + main, path,
			append(slices.Clone(inMain), frame(1, shown, 9, "work"), frame(2, shown, 9, "work"))},
		{"no main thread", worker, path, frames{frame(0, shown, 9, "work")}},
		{"installed libraries", main + "\nThread 0x3 (most recent call first):\n  File \"/usr/lib/python3/dist-packages/a.py\", line 1 in a\n  File \"/usr/local/lib/python3.11/dist-packages/b.py\", line 1 in b\n" +
			"  File \"/home/u/venv/lib64/python3.13t/site-packages/c.py\", line 1 in c\n  File \"<frozen runpy>\", line 1 in d\n  File \"/usr/lib/app/e.py\", line 1 in e\n", path,
			append(slices.Clone(inMain), frame(1, "/usr/lib/app/e.py", 1, "e"))},
		{"only libraries", "Thread 0x3 (most recent call first):\n  File \"/usr/lib/python3.11/a.py\", line 1 in a\n", path, frames{frame(0, "/usr/lib/python3.11/a.py", 1, "a")}},
		{"code from a string", "Thread 0x1 (most recent call first):\n  File \"<string>\", line 3 in f\n  File \"<string>\", line 1 in <module>\n", path, frames{frame(0, "<string>", 3, "f")}},
		{"frames without a header", "  File \"/tmp/w.py\", line 2 in f\n", path, nil},
		{"lines of the program's own", strings.Replace(main, "  File", "hello\n  File \"x\n  File \"a\", line z in q\n  ...\n  File", 1), path, inMain},
		{"a quote in the name", "Thread 0x1 (most recent call first):\n  File \"/a\", line 1 in b.py\", line 7 in f\n", path, frames{frame(0, `/a", line 1 in b.py`, 7, "f")}},
		{"letters", `Thread 0x1 (most recent call first):` + "\n" + `  File "/tmp/gr\xf6\u20ac\U0001f600.py", line 7 in h\xf6he` + "\n", "/tmp/grö€😀.py", frames{frame(0, shown, 7, "höhe")}},
		{"bytes that are no UTF-8", `Thread 0x1 (most recent call first):` + "\n" + `  File "/tmp/\udcff.py", line 7 in f` + "\n", "/tmp/\xff.py", frames{frame(0, shown, 7, "f")}},
		{"a long name", "Thread 0x1 (most recent call first):\n  File \"" + long[:500] + "...\", line 7 in f\n", long, frames{frame(0, shown, 7, "f")}},
		{"binary", "\xff\xfe\n\x00" + main, path, inMain},
		{"a traceback is formatted", formatting, path, nil},
		{"a method of an exception", strings.Replace(formatting, "  File", "  File \"/tmp/w.py\", line 3 in __str__\n  File", 1), path, frames{frame(0, shown, 3, "__str__")}},
		{"a traceback is formatted beside a thread", worker + formatting, path, frames{frame(0, shown, 9, "work")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Where([]byte(tt.dump), tt.path, shown, []string{"/usr", "/home/u/venv/"}); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestReporting(t *testing.T) {
	t.Parallel()
	const head = "Current thread 0x1 (most recent call first):\n"
	const library = "  File \"/usr/lib/python3.11/traceback.py\", line 465 in format\n"
	const own = "  File \"/tmp/w.py\", line 3 in __str__\n"
	report := func(function string) string { return "  File \"<py3run report>\", line 1 in " + function + "\n" }
	tests := []struct{ name, dump, want string }{
		{"nothing", "", ""},
		{"the code", head + own, ""},
		{"a traceback", head + library + report("standard_text") + report("failure"), reports["failure"]},
		{"a value", head + library + report("convert") + report("value"), reports["value"]},
		{"a method of the code's", head + own + library + report("failure"), ""},
		{"the code awaits", head + library + report("awaited"), ""},
		{"a function of the code's own of this name", head + "  File \"/tmp/w.py\", line 3 in failure\n", ""},
		{"later the code again", head + library + report("failure") + head + own, ""},
		{"before the code, later a traceback", head + own + head + report("failure"), reports["failure"]},
	}
	for _, tt := range tests {
		if got := Reporting([]byte(tt.dump), []string{"/usr"}); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestWhereBounded(t *testing.T) {
	t.Parallel()
	var dump strings.Builder
	for i := range 10 {
		fmt.Fprintf(&dump, "Thread 0x%d (most recent call first):\n", i)
		for j := range 10 {
			fmt.Fprintf(&dump, "  File \"/x.py\", line %d in f\n", j)
		}
	}
	if got := len(Where([]byte(dump.String()), "/y.py", "main.py", nil)); got != mostFrames {
		t.Errorf("%d frames, want %d", got, mostFrames)
	}
}
