package cmd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"py3run/cmd/internal/warm"
	"py3run/internal/need"
)

// A place is an environment with its own settings and log, and perhaps a template.
type place struct {
	dir string
	env []string
}

func newPlace(t *testing.T) place {
	t.Helper()
	p := place{dir: t.TempDir()}
	p.env = append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER="+findPython(t), "PY3RUN_CONFIG=", "XDG_CONFIG_HOME="+p.dir,
		"PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(p.dir, "audit"))
	return p
}

// warm starts a template, which ends with the test.
func (p *place) warm(t *testing.T) {
	t.Helper()
	need.That(t, "namespaces", tryNamespaces())
	runtime := filepath.Join(p.dir, "run")
	if err := os.Mkdir(runtime, 0o700); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	p.env = append(p.env, "XDG_RUNTIME_DIR="+runtime, "PY3RUN_WARM_ENABLED=true")
	out, err := p.command("warm-start").Output()
	var status struct{ Key string }
	if err != nil || json.Unmarshal(out, &status) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { warm.Stop(filepath.Join(runtime, "py3run"), status.Key) })
}

func (p place) command(args ...string) *exec.Cmd {
	c := exec.Command("py3run", args...)
	c.Env = p.env
	return c
}

// end returns the last record.
func (p place) end(t *testing.T) (rec struct {
	Status  string
	Process struct {
		StdoutBytes int64 `json:"stdout_bytes"`
		StderrBytes int64 `json:"stderr_bytes"`
		Signal      string
	}
	Limits    map[string]float64
	Isolation struct{ Warm bool }
}) {
	t.Helper()
	lines := logLines(t, p.dir)
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &rec); err != nil {
		t.Fatal(err)
	}
	return rec
}

const alternating = `
import sys
for i in range(2000):
    print("o", i, flush=True)
    print("e", i, file=sys.stderr, flush=True)
`

// If both streams are one file, the output keeps its order, cold and warm.
func TestOrderOfStreams(t *testing.T) {
	t.Parallel()
	var want strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&want, "o %d\ne %d\n", i, i)
	}
	into := func(open func(t *testing.T, c *exec.Cmd) (read func() string)) func(*testing.T, *exec.Cmd) string {
		return func(t *testing.T, c *exec.Cmd) string {
			read := open(t, c)
			if err := c.Run(); err != nil {
				t.Fatal(err)
			}
			return read()
		}
	}
	file := func(t *testing.T, path string, flag int) *os.File {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|flag, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	text := func(path string) func() string {
		return func() string { text, _ := os.ReadFile(path); return string(text) }
	}
	for name, collect := range map[string]func(t *testing.T, c *exec.Cmd) string{
		"pipe": func(t *testing.T, c *exec.Cmd) string { out, _ := c.CombinedOutput(); return string(out) },
		"file": into(func(t *testing.T, c *exec.Cmd) func() string {
			path := filepath.Join(t.TempDir(), "f")
			f := file(t, path, 0)
			c.Stdout, c.Stderr = f, f
			return text(path)
		}),
		"file opened twice": into(func(t *testing.T, c *exec.Cmd) func() string {
			path := filepath.Join(t.TempDir(), "f")
			c.Stdout, c.Stderr = file(t, path, os.O_APPEND), file(t, path, os.O_APPEND)
			return text(path)
		}),
		"terminal": func(t *testing.T, c *exec.Cmd) string { return atTerminal(t, c, false) },
		"terminal by two names": func(t *testing.T, c *exec.Cmd) string {
			return atTerminal(t, c, true)
		},
	} {
		for _, isWarm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, warm %t", name, isWarm), func(t *testing.T) {
				t.Parallel()
				p := newPlace(t)
				if isWarm {
					p.warm(t)
				}
				args := []string{"run", "-c", alternating}
				if strings.HasPrefix(name, "terminal") {
					args = slices.Insert(args, 1, "--no-tty")
				}
				if got := collect(t, p.command(args...)); got != want.String() {
					t.Errorf("%d bytes, want %d in the program's order", len(got), want.Len())
				}
				end := p.end(t)
				if end.Process.StdoutBytes != int64(want.Len()) || end.Process.StderrBytes != 0 || end.Isolation.Warm != isWarm {
					t.Errorf("recorded %+v, warm %t", end.Process, end.Isolation.Warm)
				}
			})
		}
	}
}

// atTerminal runs a command at a terminal of its own and returns what the terminal shows, without
// carriage returns. With named, standard error is /dev/tty.
func atTerminal(t *testing.T, c *exec.Cmd, named bool) string {
	t.Helper()
	master, slave := openTerminal(t)
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	if named {
		path, err := exec.LookPath(c.Path)
		if err != nil {
			t.Fatal(err)
		}
		c.Path, c.Args = "/bin/sh", append([]string{"sh", "-c", `exec "$@" 2>/dev/tty`, "sh", path}, c.Args[1:]...)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var shown bytes.Buffer
	io.Copy(&shown, master) // until EIO: no process has the terminal open any more
	if err := c.Wait(); err != nil {
		t.Fatalf("%v: %s", err, shown.Bytes())
	}
	return strings.ReplaceAll(shown.String(), "\r", "")
}

// If the two streams have different destinations, each goes only to its own.
func TestTwoStreams(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.command("run", "-c", alternating)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "o "); n != 2000 || strings.Contains(out.String(), "e ") {
		t.Errorf("%d lines of standard output", n)
	}
	if n := strings.Count(errs.String(), "e "); n != 2000 || strings.Contains(errs.String(), "o ") {
		t.Errorf("%d lines of standard error", n)
	}
	if end := p.end(t); end.Process.StdoutBytes != int64(out.Len()) || end.Process.StderrBytes != int64(errs.Len()) {
		t.Errorf("recorded %+v", end.Process)
	}
}

// pythonForAll returns an interpreter that every user may execute.
func pythonForAll(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", findPython(t)} {
		c := exec.Command(name, "-c", "")
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if c.Run() == nil {
			return name
		}
	}
	need.That(t, "python", errors.New("no interpreter that another user can start"))
	return ""
}

// The user of run-as can open the streams by name, cold and warm.
func TestRunAsOpensStreams(t *testing.T) {
	t.Parallel()
	need.That(t, "root", asRoot())
	code := `
import os, subprocess
for name in "/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/2":
    with open(name, "w") as f:
        f.write("x")
with open("/dev/stdin") as f:
    print(f.read(), flush=True)
subprocess.run(["sh", "-c", "echo y > /dev/stdout"], check=True)
result = [os.getuid(), len(open("/proc/self/environ").read()) > 0]
`
	interpreter := pythonForAll(t)
	for _, isWarm := range []bool{false, true} {
		t.Run(fmt.Sprintf("warm %t", isWarm), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.env = append(p.env, "PY3RUN_PYTHON_INTERPRETER="+interpreter, "PY3RUN_SECURITY_ISOLATION_RUN_AS=nobody")
			if isWarm {
				p.warm(t)
			}
			request, _ := json.Marshal(map[string]string{"code": code, "stdin": "in"})
			c := p.command("exec", "--audit-line=off")
			c.Stdin = bytes.NewReader(request)
			out, _ := c.Output()
			var r struct {
				answer
				Result         []any
				Stdout, Stderr string
			}
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if fmt.Sprint(r.Result) != "[65534 true]" || r.Stdout != "xxin\ny\n" || r.Stderr != "xx" || r.Isolation.Warm != isWarm {
				t.Errorf("%s", out)
			}

			c = p.command("run", "-c", strings.Replace(code, "result =", "result = 1 #", 1))
			c.Stdin = strings.NewReader("in")
			if out, err := c.CombinedOutput(); string(out) != "xxxxin\ny\n" {
				t.Errorf("%v: %q", err, out)
			}
		})
	}
}

// The output of run has no limit unless somebody sets one. If such a limit cuts the output, the run
// fails.
func TestOutputOfRun(t *testing.T) {
	t.Parallel()
	const size = 11 << 20 // above the default limit of exec
	prints := func(end string) string { return fmt.Sprintf("print('x'*%d, end='', flush=True); %s", size, end) }
	for _, tt := range []struct {
		name      string
		args, env []string
		code      string
		config    string
		want      int // bytes
		status    string
		exit      int
		limit     float64
	}{
		{name: "nothing set", code: prints(""), want: size, status: "ok"},
		{name: "by a flag", args: []string{"--output-mb", "1"}, code: prints(""), want: 1 << 20, status: "output_limit", exit: 123, limit: 1},
		{name: "by a flag, to none", args: []string{"--output-mb", "0"}, code: prints(""), want: size, status: "ok"},
		{name: "by a variable", env: []string{"PY3RUN_SECURITY_MAX_OUTPUT_SIZE_MB=2"}, code: prints(""), want: 2 << 20, status: "output_limit", exit: 123, limit: 2},
		{name: "by a file, to the default", config: "security.max-output-size-mb = 10\n", code: prints(""), want: 10 << 20, status: "output_limit", exit: 123, limit: 10},
		{name: "whatever it returned", args: []string{"--output-mb", "1"}, code: prints("import sys; sys.exit(3)"), want: 1 << 20, status: "output_limit", exit: 123, limit: 1},
		{name: "an exception", args: []string{"--output-mb", "1"}, code: prints("1/0"), want: 1 << 20, status: "output_limit", exit: 123, limit: 1},
		{name: "exactly the limit", args: []string{"--output-mb", "11"}, code: prints(""), want: size, status: "ok", limit: 11},
		{name: "another limit", args: []string{"--output-mb", "1", "--timeout-seconds", "1"}, code: prints("import time; time.sleep(60)"), want: 1 << 20, status: "timeout", exit: 124, limit: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.env = append(p.env, tt.env...)
			if tt.config != "" {
				path := filepath.Join(p.dir, "config.toml")
				if err := os.WriteFile(path, []byte(tt.config), 0o600); err != nil {
					t.Fatal(err)
				}
				p.env = append(p.env, "PY3RUN_CONFIG="+path)
			}
			c := p.command(append(append([]string{"run"}, tt.args...), "-c", tt.code)...)
			var out, errs bytes.Buffer
			c.Stdout, c.Stderr = &out, &errs
			c.Run()
			if c.ProcessState.ExitCode() != tt.exit || out.Len() != tt.want {
				t.Errorf("exit code %d, %d bytes: %s", c.ProcessState.ExitCode(), out.Len(), errs.String())
			}
			if said := strings.Contains(errs.String(), "py3run: error: output_limit: "); said != (tt.status == "output_limit") {
				t.Errorf("on standard error: %s", errs.String())
			}
			end := p.end(t)
			if limit, set := end.Limits["output_mb"]; end.Status != tt.status || limit != tt.limit || set != (tt.limit > 0) || end.Process.StdoutBytes != size {
				t.Errorf("recorded %+v", end)
			}
		})
	}
}

// If a file was opened twice, the program's streams and py3run's messages do not overwrite each other.
func TestFileOpenedTwice(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	path := filepath.Join(p.dir, "f")
	c := p.command("run", "--output-mb", "0.001", "-c", "import sys; print('x'*2000, flush=True); print('y'*2000, file=sys.stderr)")
	for _, to := range []*io.Writer{&c.Stdout, &c.Stderr} {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		*to = f
	}
	c.Run()
	text, _ := os.ReadFile(path)
	if c.ProcessState.ExitCode() != 123 || !strings.HasPrefix(string(text), strings.Repeat("x", 1049)+"py3run: error: output_limit: ") || strings.Contains(string(text), "yy") {
		t.Errorf("exit code %d: %s", c.ProcessState.ExitCode(), text)
	}
}
