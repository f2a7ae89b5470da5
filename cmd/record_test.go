package cmd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/internal/need"
)

// A program cannot forge a record, nor a field of one: not by what it prints, not by what it writes to
// descriptors that it was not given, and not by what it reports.
func TestRecordIsNotForged(t *testing.T) {
	t.Parallel()
	code := `
import json, os, sys
forged = json.dumps({"v": 1, "event": {"action": "execution-end", "outcome": "success"}, "seq": 2, "status": "ok", "hooks": {"imports": 0}}) + "\n"
sys.stdout.write("\n" + forged + "\x1b[2J\u202e")
sys.stderr.write("\n" + forged)
for fd in range(3, 64):
    try:
        os.write(fd, forged.encode())
    except OSError:
        pass
sys.audit("socket.connect", None, ("h\t1\t1\nnative\x1b", 7))
os.kill(os.getpid(), 9)
`
	dir := t.TempDir()
	r, stderr := recorded(t, dir, code)
	lines := logLines(t, dir)
	if len(lines) != 2 || stderr != lines[1]+"\n" {
		t.Fatalf("%d records; on stderr\n%s", len(lines), stderr)
	}
	var end struct {
		Seq    uint64
		Status wire.Status
		Hooks  wire.Events
	}
	if err := json.Unmarshal([]byte(lines[1]), &end); err != nil {
		t.Fatal(err)
	}
	if r.Status != wire.StatusSignal || end.Status != wire.StatusSignal || end.Seq != 2 {
		t.Errorf("status %s, recorded %s as number %d", r.Status, end.Status, end.Seq)
	}
	if c := end.Hooks.Connections; len(c) != 1 || c[0].Via != "python" || !strings.HasPrefix(c[0].Host, "h\t1") {
		t.Errorf("connections %+v", c)
	}
}

// Code cannot see the log, the files beside it, or the keys.
func TestRecordIsOutOfReach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "audit"), 0o700); err != nil {
		t.Fatal(err)
	}
	code := `
import os
found = []
for name in "", "audit.jsonl", ".lock", "runs", "code", "variables.key":
    path = os.path.join(` + string(mustJSON(t, filepath.Join(dir, "audit"))) + `, name)
    try:
        found += os.listdir(path) if os.path.isdir(path) else [open(path).read()]
    except OSError:
        pass
    try:
        open(path, "a").write("forged")
    except OSError:
        pass
result = found
`
	r, _ := recorded(t, dir, code, "--set=security.audit.log-code=true", "--set=security.audit.log-variables=hmac")
	needHiddenPaths(t, r)
	if r.Status != wire.StatusOK || string(r.Result) != "[]" {
		t.Errorf("%s: found %s", r.Status, r.Result)
	}
	if lines := logLines(t, dir); len(lines) != 2 || strings.Contains(lines[1], "forged") {
		t.Errorf("%q", lines)
	}
}

// recorded runs one request that has a variable, with the log in dir, and returns the output.
func recorded(t *testing.T, dir, code string, options ...string) (r answer, stderr string) {
	t.Helper()
	c := exec.Command("py3run", append([]string{"exec"}, options...)...)
	c.Env = append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER="+findPython(t), "PY3RUN_CONFIG=", "XDG_CONFIG_HOME="+dir, "PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(dir, "audit"))
	c.Stdin = bytes.NewReader(mustJSON(t, map[string]any{"code": code, "variables": map[string]int{"x": 1}}))
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	c.Run()
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("%v: %s%s", err, out.String(), errs.String())
	}
	return r, errs.String()
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func logLines(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "audit", "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// A run with auditing switched off cannot see the records of others.
func TestRecordOfOthersIsOutOfReach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	recorded(t, dir, "result = 1")
	r, _ := recorded(t, dir, "import os\ntry: result = os.listdir("+string(mustJSON(t, filepath.Join(dir, "audit")))+")\nexcept OSError: result = []", "--set=security.audit.enabled=false")
	needHiddenPaths(t, r)
	if r.Status != wire.StatusOK || string(r.Result) != "[]" {
		t.Errorf("%s: found %s", r.Status, r.Result)
	}
	if lines := logLines(t, dir); len(lines) != 2 {
		t.Errorf("%d records, want those of the first run alone", len(lines))
	}
}

// needHiddenPaths skips where a run could not be kept from places.
func needHiddenPaths(t *testing.T, r answer) {
	t.Helper()
	if !slices.Contains(r.Isolation.Enforced, "hidden-paths") {
		need.That(t, "namespaces", errors.New("hidden-paths are not in force"))
	}
}
