package cmd_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/need"
)

// A client of a bridge: it holds the ends of its pipes, and reads nothing that the test does not ask for.
type client struct {
	t       *testing.T
	command *exec.Cmd
	in      *os.File
	out     *os.File
	lines   *bufio.Reader
}

// newClient starts a bridge; inside starts it by another program, whose arguments it is then.
func newClient(t *testing.T, p place, inside []string, args ...string) *client {
	t.Helper()
	c := &client{t: t, command: p.command(append([]string{"bridge"}, args...)...)}
	if len(inside) > 0 {
		outer := exec.Command(inside[0], append(inside[1:], c.command.Args...)...)
		outer.Env = c.command.Env
		c.command = outer
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// Standard error is a pipe that nobody reads, and that is full.
	unread, full, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, full)
	c.in, c.out, c.lines = in, out, bufio.NewReader(out)
	c.command.Stdin, c.command.Stdout, c.command.Stderr = theirIn, theirOut, full
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(2*time.Minute, func() {
		t.Error("it takes two minutes")
		c.command.Process.Kill()
		out.Close()
	})
	t.Cleanup(func() { // it ends by itself, or what it has noted would be removed with the test's directory
		in.Close()
		c.command.Wait()
		late.Stop()
		for _, f := range []*os.File{in, out, unread} {
			f.Close()
		}
	})
	for _, f := range []*os.File{theirIn, theirOut, full} {
		f.Close()
	}
	if line := c.line(); line != "{\"status\":\"ready\"}\n" {
		t.Fatalf("the first line is %q", line)
	}
	return c
}

// fill fills a pipe.
func fill(t *testing.T, f *os.File) {
	t.Helper()
	f.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	f.SetWriteDeadline(time.Time{})
}

func (c *client) say(lines string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, lines); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) line() string {
	line, _ := c.lines.ReadString('\n')
	return line
}

type bridgeReply struct {
	Success bool
	Result  any
	Error   string
	Output  string
	ID      string
	RunID   string `json:"run_id"`
	Failure struct {
		Code, Message string
		Retryable     bool
	}
	Warnings []struct{ Code, Message string }
}

// reply reads a line.
func (c *client) reply() (r bridgeReply) {
	c.t.Helper()
	line := c.line()
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		c.t.Fatalf("%q: %v", line, err)
	}
	return r
}

// ask asks, and reads the reply.
func (c *client) ask(line string) bridgeReply {
	c.t.Helper()
	c.say(line + "\n")
	return c.reply()
}

// warm waits until a request was served by a worker, and returns false where there are no templates.
func (c *client) warm(p place) bool {
	c.t.Helper()
	if tryNamespaces() != nil {
		return false
	}
	waitUntil(c.t, "there are workers", func() bool {
		if r := c.ask(`{"code": ""}`); !r.Success {
			c.t.Fatalf("%+v", r)
		}
		return p.end(c.t).Isolation.Warm
	})
	return true
}

// The end of the input does not cancel: what was asked before it is answered.
func TestBridgeAnswersWhatWasAsked(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := newClient(t, p, nil)
	c.say(`{"code": "import time; time.sleep(0.3); result = 1"}` + "\n" + `{"expression": "2"}` + "\n" + `{"expression": "3"}`)
	c.in.Close()
	for n := range 3 {
		if r := c.reply(); r.Result != float64(n+1) {
			t.Errorf("%d: %+v", n, r)
		}
	}
	if more, _ := io.ReadAll(c.lines); len(more) > 0 {
		t.Errorf("then %q", more)
	}
	c.command.Wait()
	if code := c.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Every way to break the protocol gets its reply, and the next request its own.
func TestBridgeBadLines(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := newClient(t, p, nil, "--set", "input.max-request-mb=1")
	long := strings.Repeat("x", 1100<<10)
	for _, tt := range []struct{ name, lines, want string }{
		{"no JSON", "hello\n", "want a value"},
		{"empty", "\n", "the request is empty"},
		{"blanks", " \t\r\n", "the request is empty"},
		{"no object", "[]\n", "array, want an object"},
		{"null", "null\n", "null, want an object"},
		{"binary", "\x00\xff\x01\n", "want a value"},
		{"invalid UTF-8", "{\"code\": \"\xff\"}\n", "invalid UTF-8"},
		{"a lone surrogate", `{"code": "\ud800"}` + "\n", "surrogate"},
		{"cut", `{"code": "1` + "\n", "text ends"},
		{"two objects on one line", `{"command": "ping"} {"command": "ping"}` + "\n", "byte 20"},
		{"a name twice", `{"code": "1", "code": "2"}` + "\n", "stands twice"},
		{"names that differ by case", `{"code": "1", "CODE": "2"}` + "\n", "upper and lower case"},
		{"deep", strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n", "nested deeper"},
		{"NaN", `{"code": "1", "variables": {"x": NaN}}` + "\n", "NaN"},
		{"no command", "{}\n", "nothing to do"},
		{"nulls only", `{"command": null, "code": null}` + "\n", "nothing to do"},
		{"an unknown command", `{"command": "execute_shell"}` + "\n", "unknown command"},
		{"a code of another kind", `{"code": 1}` + "\n", "code: number, want a string"},
		{"a stored script and code", `{"script": "x", "code": ""}` + "\n", "script"},
		{"too long", `{"code": "` + long + "\"}\n", "larger than"},
		{"too long, without JSON", long + long + long + "\n", "larger than"},
	} {
		c.say(tt.lines)
		r := c.reply()
		if text := r.Failure.Message; r.Success || r.Failure.Code != "bad_request" || !strings.Contains(text, tt.want) || r.Error != text {
			t.Errorf("%s: %+v, want %q", tt.name, r, tt.want)
		}
		if r := c.ask(`{"command": "ping", "id": "after"}`); r.Result != "pong" || r.ID != "after" {
			t.Errorf("%s: then %+v", tt.name, r)
		}
	}
	// Byte by byte, and several in one write.
	for _, b := range []byte("{\"command\": \"ping\", \"id\": \"slow\"}\r\n") {
		c.say(string(b))
	}
	c.say(strings.Repeat("{\"command\": \"ping\", \"id\": \"many\"}\n", 100))
	for n := range 101 {
		if r := c.reply(); r.Result != "pong" || n > 0 && r.ID != "many" {
			t.Fatalf("%d: %+v", n, r)
		}
	}
}

// A line that has begun and does not go on gets a reply, and what comes of it later is passed over. Also under a broken configuration.
func TestBridgeUnfinishedLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ setting, after string }{
		{"input.timeout-seconds=0.05", ""},
		{"python.flag-imports=x", "config_error"}, // with the default of ten seconds
	} {
		t.Run(tt.setting, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, newPlace(t), nil, "--set", tt.setting)
			c.say(`{"command": "ping"`)
			if r := c.reply(); r.Failure.Code != "bad_request" || !strings.Contains(r.Error, "has no end: 18 bytes came") {
				t.Errorf("%+v", r)
			}
			c.say("}\n")
			if r := c.ask(`{"command": "ping", "id": "next"}`); r.ID != "next" || r.Failure.Code != tt.after {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A caller that writes many requests before it reads a reply gets them all, in order, also those that fill the pipe.
func TestBridgeUnreadReplies(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := newClient(t, p, nil)
	const count = 30
	c.say(strings.Repeat(`{"expression": "'x' * 300000"}`+"\n", count))
	for n := range count {
		if r := c.reply(); len(fmt.Sprint(r.Result)) != 300000 {
			t.Fatalf("%d: %.200s", n, fmt.Sprintf("%+v", r))
		}
	}
	// One that never reads does not keep it alive.
	c.say(`{"expression": "'x' * 3000000"}` + "\n")
	waitUntil(t, "the pipe is full", func() bool { return inPipe(c.out) > 60<<10 })
	c.command.Process.Signal(syscall.SIGTERM)
	c.command.Wait()
	if code := c.command.ProcessState.ExitCode(); code != 143 {
		t.Errorf("exit code %d", code)
	}
}

// inPipe is the number of bytes in a pipe.
func inPipe(f *os.File) (n int) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

// What happens to the host between two requests is in the reply, and the bridge goes on.
func TestBridgeHost(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	python, link := findPython(t), filepath.Join(t.TempDir(), "python3")
	point := func(to string) {
		os.Remove(link)
		if to != "" {
			if err := os.Symlink(to, link); err != nil {
				t.Fatal(err)
			}
		}
	}
	point(python)
	tmp := filepath.Join(p.dir, "w")
	p.env = append(p.env, "PY3RUN_PYTHON_INTERPRETER="+link, "PY3RUN_SECURITY_ISOLATION_WORKING_DIR="+filepath.Join(tmp, "${executionId}"))
	c := newClient(t, p, nil)
	ok := func(step string) {
		t.Helper()
		if r := c.ask(`{"code": "result = 6 * 7"}`); r.Result != 42.0 {
			t.Errorf("%s: %+v", step, r)
		}
	}
	fails := func(step, code string) {
		t.Helper()
		if r := c.ask(`{"code": "result = 6 * 7"}`); r.Success || r.Failure.Code != code {
			t.Errorf("%s: %+v, want %s", step, r, code)
		}
	}
	c.warm(p)
	ok("at first")
	point("")
	fails("without an interpreter", "python_not_found")
	point("/bin/true")
	fails("with another program in its place", "python_not_executable")
	point(python)
	ok("with it again")

	audit := filepath.Join(p.dir, "audit")
	for _, step := range []func(from, to string) error{os.Rename, func(from, to string) error { return os.Rename(to, from) }} {
		if err := step(audit, audit+"-away"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(audit); err != nil { // a file in its place: it cannot be made
			if err := os.WriteFile(audit, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			fails("without a log", "audit_unavailable")
			os.Remove(audit)
			continue
		}
		ok("with the log again")
	}
}

// A directory without room is a failure of the request, and the next one has room again. As root, the test mounts a full file system.
func TestBridgeWithoutRoom(t *testing.T) {
	t.Parallel()
	need.That(t, "root", asRoot())
	need.That(t, "namespaces", tryNamespaces())
	p := newPlace(t)
	full := filepath.Join(p.dir, "full")
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("full", full, "tmpfs", 0, "size=256k,mode=700"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(full, syscall.MNT_DETACH) })
	p.env = append(p.env, "PY3RUN_SECURITY_ISOLATION_WORKING_DIR="+filepath.Join(full, "w", "${executionId}"))
	c := newClient(t, p, nil)
	if r := c.ask(`{"code": "result = 1"}`); !r.Success {
		t.Fatalf("%+v", r)
	}
	c.ask(`{"command": "ping"}`) // so what was left of the request before is removed by now
	waste := filepath.Join(full, "waste")
	os.WriteFile(waste, make([]byte, 1<<20), 0o600)
	if r := c.ask(`{"code": "result = 1"}`); r.Success || r.Failure.Code != "launch_failed" || !strings.Contains(r.Error, "no space") {
		t.Errorf("without room: %+v", r)
	}
	os.Remove(waste)
	if r := c.ask(`{"code": "result = 1"}`); !r.Success {
		t.Errorf("with room again: %+v", r)
	}
}

// Hundreds of requests later a bridge has no more descriptors, threads, children and memory than at first.
func TestBridgeDoesNotGrow(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.env = append(p.env, "PY3RUN_SECURITY_ISOLATION_WORKING_DIR="+filepath.Join(p.dir, "w", "${executionId}"))
	c := newClient(t, p, nil)
	c.warm(p)
	pid := c.command.Process.Pid
	type size struct{ descriptors, threads, children, memory int }
	measure := func() (s size) {
		files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		field := func(name string) (n int) {
			_, rest, _ := strings.Cut(string(status), "\n"+name+":")
			fmt.Sscan(rest, &n)
			return n
		}
		return size{len(files), field("Threads"), len(children(pid)), field("VmRSS")}
	}
	ask := func(count int) {
		for n := range count {
			request := `{"code": "print(1); result = 2"}`
			switch n % 10 {
			case 1:
				request = `{"code": "1/0"}`
			case 2:
				request = `{"command": "check_syntax", "code": "1"}`
			case 3:
				request = `{"command": "ping"}`
			case 4:
				request = "no request"
			case 5:
				request = `{"code": "import os; os.abort()"}`
			case 6:
				request = `{"code": "", "limits": {"processes": 5}}`
			}
			c.ask(request)
		}
	}
	// Workers and their pipes are made and removed beside the requests: what counts is what is there when nothing changes any more.
	settled := func() (s size) {
		same := 0
		waitUntil(t, "nothing changes any more", func() bool {
			now := measure()
			if now.descriptors == s.descriptors && now.children == s.children {
				same++
			} else {
				same = 0
			}
			s = now
			time.Sleep(20 * time.Millisecond)
			return same >= 25
		})
		return s
	}
	ask(50)
	before := settled()
	ask(250)
	after := settled()
	if after.descriptors > before.descriptors+8 || after.children > before.children+4 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if after.threads > before.threads+8 || after.memory > 2*before.memory+16<<10 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if left, _ := os.ReadDir(filepath.Join(p.dir, "w")); len(left) > 6 { // the notes of two templates, and the next run's directory
		t.Errorf("left: %v", left)
	}
}
