package python

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// What is left out of the lists leaves a trace, and what is in them has the right name.
func TestHookTraces(t *testing.T) {
	t.Parallel()
	const dir = "import os\nos.mkdir('d')\nd = os.open('d', os.O_RDONLY)\n"
	const lower = "cd = os.path.join(os.getcwd(), 'd')\n"
	long := strings.Repeat("y", 290)
	ran := func(dropped, cut int, args ...string) wire.Events {
		return wire.Events{Processes: []wire.Process{{Program: "/bin/true", Args: args, Via: "python", Count: 1, ArgsDropped: dropped, ArgsCut: cut}}}
	}
	made := func(dirs ...string) wire.Events { return wire.Events{DirsMade: dirs} }
	files := func(written, deleted []string) wire.Events {
		return wire.Events{FilesWritten: written, FilesDeleted: deleted, DirsMade: []string{"DIR/d"}}
	}
	start := func(args string) string { return "import subprocess\nsubprocess.run(['/bin/true', *" + args + "])" }
	tests := []struct {
		name, code string
		want       wire.Events
	}{
		{"byte code in its name", "open('a.pyc-b', 'w').close()\nopen('b.pyc', 'w').close()", wire.Events{FilesWritten: []string{"DIR/a.pyc-b", "DIR/b.pyc"}}},
		{"byte code that the code plants", "import os\nos.mkdir('__pycache__')\nopen('__pycache__/x.pyc', 'w').close()\nos.remove('__pycache__/x.pyc')",
			wire.Events{FilesWritten: []string{"DIR/__pycache__/x.pyc"}, FilesDeleted: []string{"DIR/__pycache__/x.pyc"}, DirsMade: []string{"DIR/__pycache__"}}},
		{"byte code that is renamed", "import os\nopen('a.pyc', 'w').close()\nos.rename('a.pyc', 'b')", wire.Events{FilesWritten: []string{"DIR/a.pyc", "DIR/b"}, FilesDeleted: []string{"DIR/a.pyc"}}},
		{"byte code that the import system keeps", "open('mine.py', 'w').close()\nimport sys\nsys.path.insert(0, '.')\nsys.dont_write_bytecode = False\nimport mine", wire.Events{FilesWritten: []string{"DIR/mine.py"}}},

		{"directories", "import os\nos.mkdir('a')\nos.makedirs('b/c')", made("DIR/a", "DIR/b", "DIR/b/c")},
		{"directory below a descriptor", dir + "os.mkdir('e', dir_fd=d)", made("DIR/d", "DIR/d/e")},
		{"a file below a descriptor", dir + "os.close(os.open('a', os.O_CREAT | os.O_WRONLY, dir_fd=d))", files([]string{"?/a"}, nil)},
		{"an absolute path beside a descriptor", dir + lower + "os.close(os.open(cd + '/a', os.O_CREAT | os.O_WRONLY, dir_fd=d))", files([]string{"DIR/d/a"}, nil)},
		{"renamed below a descriptor", dir + lower + "open(cd + '/a', 'w').close()\nos.rename('a', 'b', src_dir_fd=d)", files([]string{"DIR/d/a", "DIR/b"}, []string{"DIR/d/a"})},
		{"renamed into a descriptor", dir + "open('a', 'w').close()\nos.rename('a', 'b', dst_dir_fd=d)", files([]string{"DIR/a", "DIR/d/b"}, []string{"DIR/a"})},
		{"removed below a descriptor", dir + lower + "open(cd + '/a', 'w').close()\nos.unlink('a', dir_fd=d)", files([]string{"DIR/d/a"}, []string{"DIR/d/a"})},
		{"links below a descriptor", dir + "os.symlink('/nowhere', 'a', dir_fd=d)\nopen('b', 'w').close()\nos.link('b', 'c', dst_dir_fd=d)", files([]string{"DIR/d/a", "DIR/b", "DIR/d/c"}, nil)},

		{"a long argument", start("['x' * 301]"), ran(0, 1, strings.Repeat("x", 300))},
		{"an argument that just fits", start("['x' * 300]"), ran(0, 0, strings.Repeat("x", 300))},
		{"many arguments", start("map(str, range(20))"), ran(4, 0, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15")},
		{"sixteen arguments", start("['x'] * 16"), ran(0, 0, slices.Repeat([]string{"x"}, 16)...)},
		{"more than a line has room for", start("['y' * 290] * 16"), ran(3, 0, slices.Repeat([]string{long}, 13)...)},
		{"wide characters", start("['\U0001f600' * 300] * 3"), ran(2, 0, strings.Repeat("\U0001f600", 300))},
		{"a long name", "open('/nowhere/' + 'ä' * 3000, 'x')" + " if 0 else __import__('sys').audit('os.remove', '/' + 'ä' * 3000, -1)",
			wire.Events{FilesDeleted: []string{"/" + strings.Repeat("ä", 996) + "…"}}},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tr := try(t, ip, code(tt.code))
				if tr.err == nil && tr.reply.Kind != "value" || tr.stderr != "" {
					t.Fatalf("%s\n%s", tr.reply.Traceback, tr.stderr)
				}
				if got, want := traces(tr.events, tr.dir), traces(tt.want, tr.dir); got != want {
					t.Errorf("\n%swant\n%s", got, want)
				}
			})
		}
	})
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
			s := &Session{memory: make([]byte, eventsSize), told: []byte(tt.told)}
			if got, want := traces(s.Events(whyFlagged, tt.seen), "DIR"), traces(tt.want, "DIR"); got != want {
				t.Errorf("\n%swant\n%s", got, want)
			}
		})
	}
}
