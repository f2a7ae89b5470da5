package python

import (
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// The number of imports is of those that were not loaded before.
func TestImportCount(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code("import sys, time\nimport colorsys\nimport colorsys\nopen('a1.py', 'w').close()\nopen('a2.py', 'w').close()\nsys.path.insert(0, '.')\nimport a1, a2"))
		if got, want := *tr.events.Imports, 3; got != want {
			t.Errorf("%d, want %d", got, want)
		}
	})
}

// More connections and programs than are named are counted as dropped.
func TestEventsBounded(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code("import sys\nfor n in range(105):\n    sys.audit('socket.connect', None, ('h', n))\n    sys.audit('os.system', 'p%d' % n)"))
		e := tr.events
		if len(e.Connections) != 100 || len(e.Processes) != 100 || e.Dropped != 10 {
			t.Errorf("%d connections, %d processes, %d dropped, want 100, 100, 10", len(e.Connections), len(e.Processes), e.Dropped)
		}
	})
}

// What a child that outlives the program's end says still counts when it ends.
func TestOrphan(t *testing.T) {
	t.Parallel()
	const program = "import os\nr, w = os.pipe()\nif os.fork() == 0:\n    os.close(w)\n    os.read(r, 1)\n    open('late', 'w').close()\n    os._exit(0)\nresult = 1"
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code(program))
		if got, want := tr.events.FilesWritten, []string{filepath.Join(tr.dir, "late")}; !reflect.DeepEqual(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// An interpreter within the interpreter has no hook: that there was one is counted.
func TestHookSubinterpreter(t *testing.T) {
	t.Parallel()
	const program = "try: import _interpreters as i\nexcept ImportError: import _xxsubinterpreters as i\nx = i.create()\ni.run_string(x, \"open('a', 'w').close()\")"
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code(program))
		if tr.events.Dropped != 1 {
			t.Errorf("%d dropped, want 1", tr.events.Dropped)
		}
	})
}

// The kernel's side has the same marks, and what it has seen of Python's own starts is matched with them.
func TestNativeTraces(t *testing.T) {
	t.Parallel()
	args := slices.Repeat([]string{strings.Repeat("y", 290)}, 16)
	line := func(letter string, fields ...string) string { return letter + strings.Join(fields, "\t") + "\n" }
	native := wire.Process{Program: "/bin/true", Args: args, Via: "native", Count: 1, ArgsDropped: 4}
	tests := []struct {
		name, told string
		seen       wire.Events
		want       wire.Events
	}{
		{"only seen", "", wire.Events{Processes: []wire.Process{native}, FilesWritten: []string{"/p"}}, wire.Events{Processes: []wire.Process{native}, FilesWritten: []string{"/p"}}},
		{"both", line("Q", append([]string{"7", "0", "true"}, args[:13]...)...), wire.Events{Processes: []wire.Process{native}},
			wire.Events{Processes: []wire.Process{{Program: "true", Args: args[:13], Via: "python", Count: 1, ArgsDropped: 7}}}},
		{"two that differ in what is not there", line("Q", "7", "0", "a") + line("Q", "8", "0", "a") + line("Q", "8", "0", "a"), wire.Events{},
			wire.Events{Processes: []wire.Process{{Program: "a", Via: "python", Count: 1, ArgsDropped: 7}, {Program: "a", Via: "python", Count: 2, ArgsDropped: 8}}}},
		{"no numbers", "Qx\ty\ta\nQ-1\t-1\ta\nQ1\t1\nQ\n", wire.Events{}, wire.Events{Processes: []wire.Process{{Program: "a", Via: "python", Count: 2}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &Session{memory: make([]byte, eventsSize), childEvents: []byte(tt.told)}
			if got, want := traces(s.Events(whyFlagged, tt.seen), "DIR"), traces(tt.want, "DIR"); got != want {
				t.Errorf("\n%swant\n%s", got, want)
			}
		})
	}
}

// traces writes what this file is about, with DIR for the working directory.
func traces(e wire.Events, dir string) string {
	var b strings.Builder
	for _, p := range e.Processes {
		fmt.Fprintf(&b, "process %s %q %s %d, %d more, %d cut\n", p.Program, p.Args, p.Via, p.Count, p.ArgsDropped, p.ArgsCut)
	}
	fmt.Fprintf(&b, "written %q, deleted %q, made %q, dropped %d\n", e.FilesWritten, e.FilesDeleted, e.DirsMade, e.Dropped)
	return strings.ReplaceAll(b.String(), dir, "DIR")
}

// inWords writes events so that they can be compared, and read.
func inWords(e wire.Events) string {
	var b strings.Builder
	for _, f := range e.FlaggedImports {
		fmt.Fprintf(&b, "flagged %+v\n", f)
	}
	for _, path := range e.Appended {
		fmt.Fprintf(&b, "appended %s\n", path)
	}
	for _, c := range e.Connections {
		fmt.Fprintf(&b, "connection %+v\n", c)
	}
	for _, c := range e.Binds {
		fmt.Fprintf(&b, "bind %+v\n", c)
	}
	for _, p := range e.Processes {
		fmt.Fprintf(&b, "process %s %q %s %d\n", p.Program, p.Args, p.Via, p.Count)
	}
	fmt.Fprintf(&b, "written %q, deleted %q, dropped %d\n", e.FilesWritten, e.FilesDeleted, e.Dropped)
	return b.String()
}

// listening returns a port of the loopback interface that somebody listens at until the test ends. The kernel accepts without us.
func listening(t *testing.T) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
}
