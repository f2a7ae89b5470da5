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

// What the audit hook and the import watch see of real programs. DIR in what is wanted is the working directory.
func TestHooks(t *testing.T) {
	t.Parallel()
	flag := func(module string, direct bool) wire.FlaggedImport {
		return wire.FlaggedImport{Module: module, Why: whyFlagged[module], Direct: direct}
	}
	direct := func(module string) []wire.FlaggedImport { return []wire.FlaggedImport{flag(module, true)} }
	ran := func(count int, program string, args ...string) wire.Process {
		return wire.Process{Program: program, Args: args, Via: "python", Count: count}
	}
	to := func(count int, host string, port int) wire.Connection {
		return wire.Connection{Host: host, Port: port, Via: "python", Count: count}
	}
	type (
		flags    = []wire.FlaggedImport
		programs = []wire.Process
		links    = []wire.Connection
		files    = []string
	)
	tests := []struct {
		name, code string
		ignore     string // what the library does too: letters of f(lags), o(s imported indirectly), w(ritten), d(eleted)
		want       wire.Events
	}{
		{"nothing", "x = 1", "", wire.Events{}},

		// flagged imports
		{"import", "import colorsys", "", wire.Events{FlaggedImports: direct("colorsys")}},
		{"import twice", "import colorsys\nimport colorsys", "", wire.Events{FlaggedImports: direct("colorsys")}},
		{"import as", "import colorsys as c", "", wire.Events{FlaggedImports: direct("colorsys")}},
		{"from import", "from colorsys import rgb_to_hsv", "", wire.Events{FlaggedImports: direct("colorsys")}},
		{"import of a loaded module", "import os", "", wire.Events{FlaggedImports: direct("os")}},
		{"import of a part of a loaded module", "import os.path", "", wire.Events{FlaggedImports: direct("os")}},
		{"import in a function that is called", "def f():\n    import colorsys\nf()", "", wire.Events{FlaggedImports: direct("colorsys")}},
		{"import in a function that is not called", "def f():\n    import colorsys", "", wire.Events{}},
		{"import_module", "import importlib\nimportlib.import_module('colorsys')", "", wire.Events{FlaggedImports: direct("colorsys")}},
		{"import_module of a loaded module", "import importlib\nimportlib.import_module('os')", "", wire.Events{FlaggedImports: direct("os")}},
		{"__import__", "__import__('colorsys')", "", wire.Events{FlaggedImports: direct("colorsys")}},
		{"exec of a string", "exec('import colorsys')", "", wire.Events{FlaggedImports: direct("colorsys")}},
		{"eval of a string", "eval('__import__(\"os\")')", "", wire.Events{FlaggedImports: direct("os")}},
		{"import by a module of the program's own", "open('mine.py', 'w').write('import colorsys')\nimport sys\nsys.path.insert(0, '.')\nimport mine", "",
			wire.Events{FlaggedImports: flags{flag("colorsys", false)}, FilesWritten: files{"DIR/mine.py"}}},
		{"first by another module, then by the program", "open('mine.py', 'w').write('import colorsys')\nimport sys\nsys.path.insert(0, '.')\nimport mine\nimport colorsys", "",
			wire.Events{FlaggedImports: direct("colorsys"), FilesWritten: files{"DIR/mine.py"}}},
		{"import in a thread", "import threading\ndef f():\n    import colorsys\nt = threading.Thread(target=f)\nt.start(); t.join()", "o", wire.Events{FlaggedImports: direct("colorsys")}},
		{"import in a forked child", "from posix import fork, wait\nif fork() == 0:\n    import colorsys\nelse: wait()", "", wire.Events{FlaggedImports: direct("colorsys")}},
		{"import that fails", "try:\n    import sqlite3.nowhere\nexcept ImportError: pass", "", wire.Events{FlaggedImports: direct("sqlite3")}},

		// files
		{"write", "open('a', 'w').close()", "", wire.Events{FilesWritten: files{"DIR/a"}}},
		{"write twice", "for _ in 1, 2: open('a', 'a').close()", "", wire.Events{FilesWritten: files{"DIR/a"}, Appended: files{"DIR/a"}}},
		{"update and exclusive", "open('a', 'x').close()\nopen('a', 'r+').close()\nopen(b'b', 'wb').close()", "", wire.Events{FilesWritten: files{"DIR/a", "DIR/b"}}},
		{"read", "open('/etc/passwd').close()\nopen(__file__, 'rb').close()", "", wire.Events{}},
		{"low level", "from posix import *\nclose(open('a', O_CREAT | O_WRONLY))\nclose(open('a', O_RDONLY))", "", wire.Events{FilesWritten: files{"DIR/a"}}},
		{"path object", "import pathlib\npathlib.Path('a').write_text('x')\npathlib.Path('a').unlink()", "f", wire.Events{FilesWritten: files{"DIR/a"}, FilesDeleted: files{"DIR/a"}}},
		{"null device", "open('/dev/null', 'w').close()", "", wire.Events{}},
		{"descriptor", "import tempfile\nf = tempfile.TemporaryFile()\nopen(f.fileno(), 'w', closefd=False)", "fwd", wire.Events{}},
		{"in another directory", "import os\nos.mkdir('d')\nos.chdir('d')\nopen('a', 'w').close()", "f", wire.Events{FilesWritten: files{"DIR/d/a"}}},
		{"delete", "import os\nopen('a', 'w').close()\nos.remove('a')\nos.mkdir('d')\nos.rmdir('d')", "f", wire.Events{FilesWritten: files{"DIR/a"}, FilesDeleted: files{"DIR/a", "DIR/d"}}},
		{"delete a tree", "import os, shutil\nos.mkdir('d')\nopen('d/a', 'w').close()\nshutil.rmtree('d')", "f", wire.Events{FilesWritten: files{"DIR/d/a"}, FilesDeleted: files{"DIR/d/a", "DIR/d"}}},
		{"rename", "import os\nopen('a', 'w').close()\nos.rename('a', 'b')\nos.replace('b', 'c')", "f", wire.Events{FilesWritten: files{"DIR/a", "DIR/b", "DIR/c"}, FilesDeleted: files{"DIR/a", "DIR/b"}}},
		{"links", "import os\nos.symlink('/nowhere', 'a')\nopen('b', 'w').close()\nos.link('b', 'c')", "f", wire.Events{FilesWritten: files{"DIR/a", "DIR/b", "DIR/c"}}},
		{"truncate", "import os\nf = open('a', 'w')\nos.ftruncate(f.fileno(), 5)\nos.truncate('a', 0)", "f", wire.Events{FilesWritten: files{"DIR/a"}}},
		{"names of all kinds", `open('a\tb', 'w').close()` + "\n" + `open('a\\tb', 'w').close()` + "\n" + `open('ä€😀\n', 'w').close()` + "\n" + `open(b'\xff', 'w').close()`, "",
			wire.Events{FilesWritten: files{"DIR/a\tb", `DIR/a\tb`, "DIR/ä€😀\n", "DIR/\uFFFD"}}},
		{"byte code is not told", "open('mine.py', 'w').close()\nimport sys\nsys.path.insert(0, '.')\nimport mine", "", wire.Events{FilesWritten: files{"DIR/mine.py"}}},
		{"in a forked child", "from posix import fork, wait\nif fork() == 0: open('a', 'w').close()\nelse: wait()", "", wire.Events{FilesWritten: files{"DIR/a"}}},
		{"in a forked child that closes all", "from posix import fork, wait, closerange, _exit\nif fork() == 0:\n    closerange(3, 4096)\n    open('a', 'w').close()\n    _exit(0)\nwait()", "", wire.Events{Dropped: 1}},

		// connections
		{"tcp", "import socket\ns = socket.create_server(('127.0.0.1', 0))\nfor _ in 1, 2: socket.create_connection(('127.0.0.1', PORT)).close()", "f", wire.Events{Connections: links{to(2, "127.0.0.1", 0)}, Binds: links{to(1, "127.0.0.1", 0)}}},
		{"tcp, by name", "import socket\ns = socket.socket()\ns.connect(('localhost', PORT))", "f", wire.Events{Connections: links{to(1, "localhost", 0)}}},
		{"tcp, refused", "import socket\ns = socket.create_server(('127.0.0.1', 0))\np = s.getsockname()[1]\ns.close()\nsocket.socket().connect_ex(('127.0.0.1', p))", "f", wire.Events{Connections: links{to(1, "127.0.0.1", 0)}, Binds: links{to(1, "127.0.0.1", 0)}}},
		{"unix", "import socket\na = socket.socket(socket.AF_UNIX)\na.bind('s')\na.listen()\nsocket.socket(socket.AF_UNIX).connect('s')", "f", wire.Events{Connections: links{to(1, "unix:s", 0)}, Binds: links{to(1, "unix:s", 0)}}},
		{"unix, abstract", "import socket\nsocket.socket(socket.AF_UNIX).connect_ex('\\0py3run-test')", "f", wire.Events{Connections: links{to(1, "unix:@py3run-test", 0)}}},
		{"udp", "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('127.0.0.1', 0))\nfor _ in range(3): s.sendto(b'x', s.getsockname())\ns.sendmsg([b'x'], [], 0, s.getsockname())", "f",
			wire.Events{Connections: links{to(4, "127.0.0.1", 0)}, Binds: links{to(1, "127.0.0.1", 0)}}},
		{"listening only", "import socket\ns = socket.create_server(('127.0.0.1', 0))", "f", wire.Events{Binds: links{to(1, "127.0.0.1", 0)}}},
		{"listening everywhere", "import socket\nfor _ in 1, 2: socket.create_server(('', 0))", "f", wire.Events{Binds: links{to(2, "*", 0)}}},
		{"a pair", "import socket\na, b = socket.socketpair()\na.send(b'x')\na.sendmsg([b'x'])", "f", wire.Events{}},

		// processes
		{"subprocess", "import subprocess\nfor _ in 1, 2: subprocess.run(['true', 'a b', ''])", "f", wire.Events{Processes: programs{ran(2, "true", "a b", "")}}},
		{"subprocess by a shell", "import subprocess\nsubprocess.run('exit 0 # é', shell=True)", "f", wire.Events{Processes: programs{ran(1, "/bin/sh", "-c", "exit 0 # é")}}},
		{"subprocess with an executable", "import subprocess\nsubprocess.run(['x', 'y'], executable='/bin/true')", "f", wire.Events{Processes: programs{ran(1, "/bin/true", "y")}}},
		{"subprocess by posix_spawn", "import subprocess\nsubprocess._USE_POSIX_SPAWN = True\nsubprocess.run(['/bin/true'], close_fds=False)", "f", wire.Events{Processes: programs{ran(1, "/bin/true")}}},
		{"subprocess with preexec_fn", "import subprocess\nsubprocess.run(['true'], preexec_fn=lambda: open('a', 'w').close())", "f", wire.Events{Processes: programs{ran(1, "true")}, FilesWritten: files{"DIR/a"}}},
		{"system", "import os\nos.system('exit 3')", "f", wire.Events{Processes: programs{ran(1, "/bin/sh", "-c", "exit 3")}}},
		{"popen", "import os\nos.popen('exit 3').close()", "f", wire.Events{Processes: programs{ran(1, "/bin/sh", "-c", "exit 3")}}},
		{"posix_spawn", "import os\nos.waitpid(os.posix_spawn('/bin/true', ['true', '1'], {}), 0)", "f", wire.Events{Processes: programs{ran(1, "/bin/true", "1")}}},
		{"fork and exec", "import os\nif os.fork() == 0: os.execv('/bin/true', ['true', '2'])\nos.wait()", "f", wire.Events{Processes: programs{ran(1, "/bin/true", "2")}}},
		{"spawn with a search", "import os\nos.environ['PATH'] = '/nowhere:/nowhere/either:/bin'\nos.spawnlp(os.P_WAIT, 'true', 'true', '3')", "f", wire.Events{Processes: programs{ran(1, "/bin/true", "3")}}},
		{"many forked children", "import os\nfor _ in range(5):\n    if os.fork() == 0: os.execv('/bin/true', ['true'])\nfor _ in range(5): os.wait()", "f", wire.Events{Processes: programs{ran(5, "/bin/true")}}},
		{"exec in place", "import os\nos.execv('/bin/true', ['true', '4'])", "f", wire.Events{Processes: programs{ran(1, "/bin/true", "4")}}},
		{"a program that is not there", "import subprocess\ntry: subprocess.run(['/nowhere/x'])\nexcept OSError: pass", "f", wire.Events{Processes: programs{ran(1, "/nowhere/x")}}},
		{"secrets", "import subprocess\nsubprocess.run(['true', '--password', 'hunter2', '--token=abc', 'https://u:p@h/'])", "f",
			wire.Events{Processes: programs{ran(1, "true", "--password", "***", "--token=***", "https://u:***@h/")}}},
		{"long arguments", "import subprocess\nsubprocess.run(['true', 'x' * 1000] + ['y'] * 30)", "f",
			wire.Events{Processes: programs{ran(1, "true", append([]string{strings.Repeat("x", 300)}, slices.Repeat([]string{"y"}, 15)...)...)}}},

		// bounds
		{"more files than are named", "for n in range(103): open('f%03d' % n, 'w').close()", "w", wire.Events{Dropped: 3}},
		{"more events than have room", "import sys\nfor n in range(4103): sys.audit('os.remove', '/f%d' % n, -1)", "d", wire.Events{Dropped: 4103 - 100}},
		{"larger events than have room", "import sys\nfor n in range(1000): sys.audit('os.remove', '/f%d' % n + 'x' * 1900, -1)", "d", wire.Events{Dropped: 1000 - 100}},
		{"one event many times", "import sys\nfor n in range(50000): sys.audit('socket.connect', None, ('h', 1))", "", wire.Events{Connections: links{to(50000, "h", 1)}}},
		{"from many threads", "import sys, threading\ndef f():\n    for n in range(1000): sys.audit('socket.connect', None, ('h', 1))\nsys.audit('socket.connect', None, ('h', 1))\n" +
			"ts = [threading.Thread(target=f) for _ in range(8)]\nfor t in ts: t.start()\nfor t in ts: t.join()", "f", wire.Events{Connections: links{to(8001, "h", 1)}}},
		{"events of no known form", "import sys\nsys.audit('open')\nsys.audit('socket.connect', 1)\nsys.audit('subprocess.Popen', 'x', 3)\nsys.audit('os.remove', object)\nsys.audit('open', 'a', 'w', None)", "d", wire.Events{Dropped: 4}},
		{"an argument that fights", "import sys\nclass P(str):\n    def __str__(self): 1/0\n    def encode(self, *a): 1/0\nsys.audit('os.remove', P('/x'), -1)\nsys.audit('os.remove', '/y', -1)", "d", wire.Events{FilesDeleted: files{"/y"}, Dropped: 1}},
		{"the end of the world", "import os\nopen('a', 'w').close()\nos.kill(os.getpid(), 9)", "f", wire.Events{FilesWritten: files{"DIR/a"}}},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() }) // after the parallel tests below; the kernel accepts without us
	port := listener.Addr().(*net.TCPAddr).Port
	inEach(t, func(t *testing.T, ip Interpreter) {
		for i, tt := range tests {
			if !turn(ip, i) {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				if tt.name == "import_module of a loaded module" && older(ip, 11) {
					t.Skip("Python before 3.11 looks at nothing that we could watch")
				}
				t.Parallel()
				tr := try(t, ip, code(strings.ReplaceAll(tt.code, "PORT", fmt.Sprint(port))))
				if tr.err == nil && tr.reply.Kind != "value" || tr.stderr != "" {
					t.Fatalf("%s\n%s", tr.reply.Traceback, tr.stderr)
				}
				got := tr.events
				got.Imports = 0
				for _, list := range [][]wire.Connection{got.Connections, got.Binds} {
					for i := range list {
						if list[i].Port > 1 { // of a listener
							list[i].Port = 0
						}
					}
				}
				for _, list := range []*[]string{&got.FilesWritten, &got.FilesDeleted, &got.Appended} {
					for i, f := range *list {
						if rest, below := strings.CutPrefix(f, tr.dir); below {
							(*list)[i] = "DIR" + rest
						}
					}
				}
				for _, letter := range tt.ignore {
					switch letter {
					case 'f':
						got.FlaggedImports = nil
					case 'o':
						got.FlaggedImports = slices.DeleteFunc(got.FlaggedImports, func(f wire.FlaggedImport) bool { return f == flag("os", false) })
					case 'w':
						got.FilesWritten = nil
					case 'd':
						if len(tt.want.FilesDeleted) == 0 {
							got.FilesDeleted = nil
						}
					}
				}
				if got, want := inWords(got), inWords(tt.want); got != want {
					t.Errorf("\n%swant\n%s", got, want)
				}
			})
		}
	})
}

// The number of imports is of those that were not loaded before.
func TestImportCount(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		tr := try(t, ip, code("import sys, time\nimport colorsys\nimport colorsys\nopen('a1.py', 'w').close()\nopen('a2.py', 'w').close()\nsys.path.insert(0, '.')\nimport a1, a2"))
		if got, want := tr.events.Imports, 3; got != want {
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

// older tells whether an interpreter is older than 3.minor.
func older(ip Interpreter, minor int) bool {
	var is int
	fmt.Sscanf(ip.Version, "3.%d", &is)
	return is < minor
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
