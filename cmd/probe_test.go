package cmd_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/internal/need"
)

// A candidate for the interpreter is asked inside a sandbox: an earlier run could have put it there.
func TestProbeIsCovered(t *testing.T) {
	t.Parallel()
	need.That(t, "namespaces", tryNamespaces())
	dir, interpreter := t.TempDir(), findPython(t)
	recorded(t, dir, "result = 1")
	bin := filepath.Join(dir, "work", ".venv", "bin")
	script := "#!/bin/sh\nls " + filepath.Join(dir, "audit") + " >>" + dir + "/work/seen 2>&1\necho x >>" + dir + "/audit/audit.jsonl\nexec " + interpreter + " \"$@\"\n"
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "python"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("py3run", "exec", "--audit-line=off")
	c.Dir = filepath.Join(dir, "work")
	c.Env = append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER=auto", "VIRTUAL_ENV=", "PY3RUN_CONFIG=", "XDG_CONFIG_HOME="+dir, "PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(dir, "audit"))
	c.Stdin = strings.NewReader(`{"code": "result = 2"}`)
	out, _ := c.Output()
	var r answer
	if err := json.Unmarshal(out, &r); err != nil || r.Status != wire.StatusOK {
		t.Fatalf("%v: %s", err, out)
	}
	seen, err := os.ReadFile(filepath.Join(dir, "work", "seen"))
	if err != nil || strings.Contains(string(seen), "jsonl") {
		t.Errorf("the candidate was not asked, or saw the log: %q, %v", seen, err)
	}
	if lines := logLines(t, dir); len(lines) != 4 || strings.Contains(strings.Join(lines, ""), "}x") {
		t.Errorf("%d lines in the log, want two of each run", len(lines))
	}
}

// py3run passes over a virtual environment that another user could change. Below /tmp, anybody could
// make one for the next user to find.
func TestVenvOfSomebodyElse(t *testing.T) {
	t.Parallel()
	dir, interpreter := t.TempDir(), findPython(t)
	bin := filepath.Join(dir, ".venv", "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "python"), []byte("#!/bin/sh\necho x >"+dir+"/asked\nexec "+interpreter+" \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(bin, 0o777); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("py3run", "exec", "--audit-line=off")
	c.Dir = dir
	c.Env = append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER=auto", "VIRTUAL_ENV=", "PATH="+filepath.Dir(interpreter)+":"+os.Getenv("PATH"), "PY3RUN_CONFIG=", "XDG_CONFIG_HOME="+dir, "PY3RUN_SECURITY_AUDIT_DIR="+filepath.Join(dir, "audit"))
	c.Stdin = strings.NewReader(`{"code": "result = 2"}`)
	out, _ := c.Output()
	var r answer
	if err := json.Unmarshal(out, &r); err != nil || r.Status != wire.StatusOK {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "asked")); err == nil {
		t.Error("it was asked")
	}
}
