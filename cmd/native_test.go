package cmd_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/internal/need"
)

// reach is a prelude for programs that do not use Python's own calls. P in a program stands for a port
// on which the test listens.
const reach = `
import ctypes, ctypes.util, os, socket, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def address(port):
    return struct.pack("<H", 2) + struct.pack(">H", port) + socket.inet_aton("127.0.0.1") + bytes(8)
`

// What native code and child programs do is recorded. Python's own calls are not recorded twice.
func TestNativeActivity(t *testing.T) {
	t.Parallel()
	interpreter := findPython(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	tests := []struct {
		name, code string
		want       []string // connections, binds and processes: HOST:PORT via ×count, a child's with its program
	}{
		{"nothing", "1", nil},
		{"connect by ctypes", "s = socket.socket(); result = libc.connect(s.fileno(), address(P), 16)", []string{"connection 127.0.0.1:P native ×1"}},
		{"connect by number", "s = socket.socket(); result = libc.syscall({'x86_64': 42, 'aarch64': 203}[os.uname().machine], s.fileno(), address(P), 16)", []string{"connection 127.0.0.1:P native ×1"}},
		{"connect in a thread", "import threading\nt = threading.Thread(target=lambda: libc.connect(socket.socket().fileno(), address(P), 16)); t.start(); t.join()", []string{"connection 127.0.0.1:P native ×1"}},
		{"connect by Python", "for _ in 1, 2: socket.create_connection(('127.0.0.1', P)).close()", []string{"connection 127.0.0.1:P python ×2"}},
		{"connect by name", "socket.socket().connect(('localhost', P))", []string{"connection localhost:P python ×1"}},
		{"connect after a lookup", "socket.getaddrinfo(None, P, 0, socket.SOCK_STREAM); socket.create_connection(('127.0.0.1', P)).close()", []string{"connection 127.0.0.1:P python ×1"}},
		{"connect by both", "socket.create_connection(('127.0.0.1', P)).close(); s = socket.socket(); libc.connect(s.fileno(), address(P), 16)",
			[]string{"connection 127.0.0.1:P python ×1", "connection 127.0.0.1:P native ×1"}},
		{"connect in a forked child", "if os.fork() == 0:\n    socket.create_connection(('127.0.0.1', P)).close()\n    os._exit(0)\nos.wait()", []string{"connection 127.0.0.1:P python ×1"}},
		{"connect in a child program", "subprocess.run([sys.executable, '-c', 'import socket; socket.create_connection((\"127.0.0.1\", P))'], check=True)",
			[]string{"connection 127.0.0.1:P native ×1", "process PYTHON python ×1"}},
		{"send", "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', P)); s.sendmsg([b'x'], [], 0, ('127.0.0.1', P))\nlibc.sendto(s.fileno(), b'x', 1, 0, address(P), 16)",
			[]string{"connection 127.0.0.1:P python ×2", "connection 127.0.0.1:P native ×1"}},
		{"bind", "a = socket.socket(); a.bind(('127.0.0.1', 0)); b = socket.socket(); result = libc.bind(b.fileno(), address(0), 16)",
			[]string{"bind 127.0.0.1:0 python ×1", "bind 127.0.0.1:0 native ×1"}},
		{"unix", "a = socket.socket(socket.AF_UNIX); a.bind('s'); a.listen(); b = socket.socket(socket.AF_UNIX); b.connect('s')\n" +
			"c = socket.socket(socket.AF_UNIX); libc.connect(c.fileno(), struct.pack('<H', 1) + b's', 3)",
			[]string{"connection unix:s:0 python ×1", "connection unix:s:0 native ×1", "bind unix:s:0 python ×1"}},
		{"program by Python", "subprocess.run(['true']); os.waitpid(os.posix_spawnp('true', ['true', '1'], os.environ), 0); os.spawnlp(os.P_WAIT, 'true', 'true', '2')",
			[]string{"process true python ×1", "process true 1 python ×1", "process TRUE 2 python ×1"}},
		{"program in Python's place", "os.execvp('true', ['true'])", []string{"process TRUE python ×1"}},
		{"program by a shell", "os.system('true; /bin/echo a > /dev/null'); subprocess.run('/bin/echo b > /dev/null; true', shell=True)",
			[]string{"process /bin/sh -c true; /bin/echo a > /dev/null python ×1", "process /bin/sh -c /bin/echo b > /dev/null; true python ×1",
				"process /bin/echo a native ×1", "process /bin/echo b native ×1"}},
		{"program by native code", "result = libc.system(b'exit 3')", []string{"process /bin/sh -c exit 3 native ×1"}},
		{"program that is not there", "try: subprocess.run(['/nowhere/x'])\nexcept OSError: pass", []string{"process /nowhere/x python ×1"}},
		{"interpreter that nobody asked for", "import _posixsubprocess, multiprocessing.util as u\nr, w = os.pipe()\nos.waitpid(u.spawnv_passfds(os.fsencode('/bin/true'), [b'true', b'x'], []), 0)",
			[]string{"process /bin/true x native ×1"}},
		{"failure is the same", "s = socket.socket()\nassert libc.connect(s.fileno(), 8, 16) == -1 and ctypes.get_errno() == 14\nassert libc.connect(999, address(P), 16) == -1 and ctypes.get_errno() == 9\n" +
			"assert s.connect_ex(('127.0.0.1', 1)) == 111", []string{"connection 127.0.0.1:1 python ×1", "connection 127.0.0.1:P native ×1"}},
	}
	for _, method := range []string{"auto", "process"} {
		for _, tt := range tests {
			t.Run(method+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				r := execute(t, interpreter, reach+strings.NewReplacer("P)", port+")", "P,", port+",").Replace(tt.code), "--method="+method)
				if r.Status != wire.StatusOK && !strings.Contains(tt.code, "execvp") {
					t.Fatalf("%s: %s", r.Status, r.Error)
				}
				needActivity(t, r)
				if got := told(r, port, interpreter); !slices.Equal(got, tt.want) {
					t.Errorf("\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
				}
			})
		}
	}
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		r := execute(t, interpreter, reach+"s = socket.socket(); result = libc.connect(s.fileno(), address("+port+"), 16)", "--set=security.audit.native=off")
		if got := told(r, port, interpreter); len(got) != 0 || slices.Contains(r.Isolation.Enforced, "native-trail") || slices.ContainsFunc(r.Isolation.Missing, isActivity) {
			t.Errorf("%q, %+v", got, r.Isolation)
		}
	})
	t.Run("inside another", func(t *testing.T) {
		t.Parallel()
		self, err := exec.LookPath("py3run")
		if err != nil {
			t.Fatal(err)
		}
		inner := "import json, subprocess\np = subprocess.run([%q, 'exec', '--audit-line=off', '--set', 'security.audit.native=%s', '--set', 'security.audit.dir=' + __import__('os').getcwd() + '/audit'], " +
			"input='{\"code\": \"result = 6 * 7\"}', text=True, capture_output=True, env={'PATH': '/usr/bin:/bin', 'HOME': __import__('os').getcwd(), 'PY3RUN_PYTHON_INTERPRETER': %q})\nresult = json.loads(p.stdout)"
		r := execute(t, interpreter, fmt.Sprintf(inner, self, "auto", interpreter))
		needActivity(t, r)
		var within answer
		if err := json.Unmarshal(r.Result, &within); err != nil {
			t.Fatalf("%v: %s %s", err, r.Result, r.Error)
		}
		if string(within.Result) != "42" || !slices.ContainsFunc(within.Isolation.Missing, isActivity) {
			t.Errorf("%s", r.Result)
		}
	})
}

func isActivity(m wire.Gap) bool { return m.Name == "native-trail" }

// needActivity skips the test if the kernel cannot report activity here.
func needActivity(t *testing.T, r answer) {
	t.Helper()
	t.Helper()
	if i := slices.IndexFunc(r.Isolation.Missing, isActivity); i >= 0 {
		need.That(t, "listener", errors.New(r.Isolation.Missing[i].Why))
	}
}

// An answer is the part of a result that these tests read.
type answer struct {
	Status    wire.Status
	Error     string
	Result    json.RawMessage
	Isolation wire.Isolation
	Events    wire.Events
}

// execute runs one request.
func execute(t *testing.T, interpreter, code string, options ...string) answer {
	t.Helper()
	dir := t.TempDir()
	c := exec.Command("py3run", append([]string{"exec", "--audit-line=off"}, options...)...)
	c.Env = append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER="+interpreter, "PY3RUN_CONFIG=", "XDG_CONFIG_HOME="+dir,
		"PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(dir, "audit"))
	request, err := json.Marshal(map[string]string{"code": code})
	if err != nil {
		t.Fatal(err)
	}
	c.Stdin = strings.NewReader(string(request))
	out, err := c.Output()
	var r answer
	if parse := json.Unmarshal(out, &r); parse != nil {
		t.Fatalf("%v, %v: %s", err, parse, out)
	}
	return r
}

// told writes events as text, with P for the port, PYTHON for the interpreter and TRUE for the path of
// true.
func told(r answer, port, interpreter string) (lines []string) {
	for what, list := range map[string][]wire.Connection{"connection": r.Events.Connections, "bind": r.Events.Binds} {
		for _, c := range list {
			at := strconv.Itoa(c.Port)
			if at == port {
				at = "P"
			}
			line := fmt.Sprintf("%s %s:%s %s ×%d", what, c.Host, at, c.Via, c.Count)
			if c.Program != "" {
				line += " by " + c.Program
			}
			lines = append(lines, line)
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(b[:4], a[:4]) })
	for _, p := range r.Events.Processes {
		program := p.Program
		switch {
		case program == interpreter:
			program, p.Args = "PYTHON", nil
		case strings.HasSuffix(program, "bin/true") && p.Via == "python":
			program = "TRUE"
		}
		lines = append(lines, strings.Join(append([]string{"process", program}, p.Args...), " ")+fmt.Sprintf(" %s ×%d", p.Via, p.Count))
	}
	return lines
}
