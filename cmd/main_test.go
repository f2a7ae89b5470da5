package cmd_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"py3run/cmd"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/internal/need"
	"py3run/sandbox"
)

// realSystemPolicy is a variable for the py3run of a test that makes a policy of the host, in a mount namespace of its own.
const realSystemPolicy = "PY3RUN_TEST_REAL_SYSTEM_POLICY"

// TestMain makes the test binary the real py3run when it is started under that name, or by a link that
// stands for an interpreter.
func TestMain(m *testing.M) {
	if os.Getenv(realSystemPolicy) == "" {
		access.SystemFile = "/dev/null/" + access.FileName // which nobody can make: never this machine's own, in the children that tests play, too
	}
	if python.IsLinkName(filepath.Base(os.Args[0])) { // a link of a test
		os.Exit(cmd.Main())
	}
	if name := filepath.Base(os.Args[0]); name != "py3run" && name != "python3-bridge" {
		usualSignals()
	}
	if os.Getenv("XDG_STATE_HOME") == "" { // not this machine's own
		os.Setenv("XDG_STATE_HOME", filepath.Join(os.TempDir(), fmt.Sprint("py3run-test-cache-", os.Geteuid()), "state"))
	}
	// Most of a test's time is waiting: for a limit, or for a program's end. More of them at once than there are cores wait together.
	if p := flag.Lookup("test.parallel"); p != nil {
		p.Value.Set(strconv.Itoa(4 * runtime.GOMAXPROCS(0)))
	}
	py3run := func() { os.Exit(cmd.Main()) }
	testscript.Main(m, map[string]func(){"py3run": py3run, "python3-bridge": py3run})
}

// usualSignals gives the signals that nohup and a shell's & ignore their default action, as a caller of
// py3run has them: a test that wants them ignored does that itself.
func usualSignals() {
	var usual [4]uint64 // struct sigaction: SIG_DFL, no flags, empty mask
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&usual)), 0, 8, 0, 0)
		}
	}
}

// TestScripts runs testdata/script. README.md there says what a script can use.
func TestScripts(t *testing.T) {
	interpreter := findPython(t)
	testscript.Run(t, testscript.Params{
		Dir: "../testdata/script",
		Setup: func(env *testscript.Env) error {
			for _, dir := range []string{"tmp", "home"} {
				if err := os.Mkdir(filepath.Join(env.WorkDir, dir), 0o700); err != nil {
					return err
				}
			}
			for name, value := range scriptVariables(env.WorkDir, interpreter) {
				env.Setenv(name, value)
			}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if holds, known := scriptConditions[name]; known {
				return holds(), nil
			}
			return false, fmt.Errorf("no condition %q", name)
		},
	})
}

// scriptVariables are the environment of a script, beside what testscript sets.
func scriptVariables(dir, interpreter string) map[string]string {
	shared := filepath.Join(os.TempDir(), fmt.Sprint("py3run-test-cache-", os.Geteuid()))
	return map[string]string{
		"HOME":                                  filepath.Join(dir, "home"),
		"PY3RUN_PYTHON_INTERPRETER":             interpreter,
		"PY3RUN_SECURITY_AUDIT_DIR":             filepath.Join(dir, "audit"),
		"PY3RUN_SECURITY_ISOLATION_WORKING_DIR": filepath.Join(dir, "w", "p-${userId}-${executionId}"),
		"XDG_CACHE_HOME":                        shared,
		"XDG_STATE_HOME":                        filepath.Join(shared, "state"),
		"PY3RUN_CONFIG":                         "",
		"XDG_CONFIG_HOME":                       filepath.Join(dir, "config"),
	}
}

// scriptConditions are those beside testscript's own.
var scriptConditions = map[string]func() bool{
	"namespaces": func() bool { return tryNamespaces() == nil },
	"static": func() bool {
		info, _ := debug.ReadBuildInfo()
		return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"})
	},
}

// TestScriptReadme holds the page about scripts to what they can use.
func TestScriptReadme(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../testdata/script/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				told = append(told, m[1])
			}
		}
	}
	want := []string{"py3run", "python3-bridge", "py3runctl"}
	for name := range scriptConditions {
		want = append(want, "["+name+"]")
	}
	want = slices.AppendSeq(want, maps.Keys(scriptVariables("", "")))
	slices.Sort(told)
	slices.Sort(want)
	if !slices.Equal(told, want) {
		t.Errorf("the page's tables name\n%q\na script has\n%q", told, want)
	}
}

// tryNamespaces starts a program in namespaces, once.
var tryNamespaces = sync.OnceValue(func() error {
	r, err := sandbox.Start(sandbox.Spec{Path: "/bin/true", Args: []string{"true"}, Dir: "/", Method: sandbox.Namespace, FirstFile: 64}, sandbox.IO{Stdout: io.Discard, Stderr: io.Discard}, sandbox.OwnChild)
	if err != nil {
		return err
	}
	r.Wait(nil, nil)
	return r.RemoveGroup()
})

// asRoot is the probe for need.That that asks for root.
func asRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("this is an ordinary user")
	}
	return nil
}

// findPython returns the interpreter for all tests here. It resolves the path once, because asking a
// shim takes long.
func findPython(t *testing.T) string {
	t.Helper()
	ip, skipped, err := python.Find(python.Want{Interpreter: "auto", Environ: os.Environ(), Dir: "/"})
	if err != nil {
		err = fmt.Errorf("%w (passed over: %v)", err, skipped)
	}
	need.That(t, "python", err)
	return ip.Path
}

// TestSchemas checks real requests, results and records against the published schemas.
func TestSchemas(t *testing.T) {
	t.Parallel()
	interpreter, dir := findPython(t), t.TempDir()
	requests := []string{
		`{"code": "result = {'a': [1, 2.5, None, 2**70]}", "variables": {"x": {"y": 1}}, "labels": {"line": "3"}, "client_ip": "10.0.0.7", "user": "alice", "id": "r1"}`,
		`{"code": "import subprocess, socket, os\nsubprocess.run(['true'])\nopen('f','w').close()\nos.remove('f')\nopen('g','w').close()\ns = socket.socket(); s.connect_ex(('127.0.0.1', 9))"}`,
		`{"code": "1/0"}`, `{"code": "x = ("}`, `{"code": "import os; os.kill(os.getpid(), 9)"}`, `{"code": "import sys; sys.exit(7)"}`,
		`{"code": "while True: pass", "limits": {"timeout_seconds": 0.5, "memory_mb": 99999}, "colour": 1}`,
		`{"expression": "1 + 1", "result_format": "tagged"}`, `{"module": "math", "function": "sqrt", "args": [4], "kwargs": {}}`,
		`{"code": "open('b', 'wb').write(b'\\0')", "files": {"a/b": "t", "c": {"base64": "AA=="}}, "collect": ["**"]}`,
		`{"command": "check_syntax", "code": "x ="}`, `{"command": "version"}`, `{"command": "ping"}`, `{"command": "list_modules"}`,
		`{"command": "get_completions", "code": "import o", "line": 1, "column": 8}`,
	}
	refused := []string{``, `{"code": 1}`, `{"code": "", "limits": {"memory_mbs": 1}}`, `{"code": "", "code": ""}`}
	schemas := map[string]*jsonschema.Schema{}
	for _, name := range []string{"request", "result", "audit"} {
		schemas[name] = compileSchema(t, name)
	}
	check := func(name, text string) {
		t.Helper()
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err == nil {
			err = schemas[name].Validate(value)
		}
		if err != nil {
			t.Errorf("%s %s\n%v", name, text, err)
		}
	}
	for _, request := range append(slices.Clone(requests), refused...) {
		c := exec.Command("py3run", "exec") // testscript.Main has put it into PATH
		c.Env = append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER="+interpreter, "PY3RUN_CONFIG=", "XDG_CONFIG_HOME="+dir,
			"PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(dir, "audit"))
		c.Stdin = strings.NewReader(request)
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		c.Run()
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Fatalf("%s: %d lines on stdout\n%s%s", request, n, out.String(), errs.String())
		}
		check("result", out.String())
		if slices.Contains(requests, request) {
			check("request", request)
		}
		if line := errs.String(); line != "" {
			check("audit", line)
			if len(line) > 4097 {
				t.Errorf("audit line of %d bytes", len(line))
			}
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "audit", "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		check("audit", line)
	}
	if n := bytes.Count(log, []byte("\n")); n != 2*10 {
		t.Errorf("%d records, want a start and an end of each of 10 runs", n)
	}
}

func compileSchema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, ok := wire.Schema(name)
	if !ok {
		t.Fatalf("no schema %q", name)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, value); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
