package cmd_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/internal/need"
)

// A run cannot see the directories of runs with another template, nor a log, a configuration or keys in
// places that another environment names.
func TestPlacesOfOthers(t *testing.T) {
	t.Parallel()
	need.That(t, "namespaces", tryNamespaces())
	dir, interpreter := t.TempDir(), findPython(t)
	run := func(code string, options ...string) (r answer) {
		t.Helper()
		c := exec.Command("py3run", append([]string{"exec", "--audit-line=off"}, options...)...)
		c.Env = append(os.Environ(), "PY3RUN_PYTHON_INTERPRETER="+interpreter, "PY3RUN_CONFIG=", "HOME="+dir, "XDG_CONFIG_HOME="+dir+"/c", "XDG_STATE_HOME="+dir+"/state")
		request, _ := json.Marshal(map[string]string{"code": code})
		c.Stdin = strings.NewReader(string(request))
		out, _ := c.Output()
		if err := json.Unmarshal(out, &r); err != nil || r.Status != wire.StatusOK {
			t.Fatalf("%v: %s", err, out)
		}
		return r
	}
	if err := os.Mkdir(filepath.Join(dir, "mixed"), 0o700); err != nil {
		t.Fatal(err)
	}
	own, mixed := "--set=security.isolation.working-dir="+dir+"/own/${executionId}", "--set=security.isolation.working-dir="+dir+"/mixed/p-${executionId}"
	log := "--set=security.audit.dir=" + dir + "/log"
	run("1", own, log)
	run("1", mixed, log)
	place := fmt.Sprintf("%s/mixed/.py3run-%d", dir, os.Geteuid())
	if err := os.MkdirAll(place, 0o700); err != nil { // as if a run were there now
		t.Fatal(err)
	}
	for _, secret := range []string{dir + "/own/secret", place + "/secret"} {
		if err := os.WriteFile(secret, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := "import os\nresult = []\nfor d in " + string(mustJSON(t, []string{dir + "/own", place, dir + "/state/py3run"})) + ":\n    try: result += os.listdir(d)\n    except OSError: pass"
	for _, options := range [][]string{{log}, {log, "--set=security.isolation.working-dir=" + dir + "/third/${executionId}"}} {
		if r := run(look, options...); string(r.Result) != "[]" {
			t.Errorf("%v: sees %s", options, r.Result)
		}
	}
}
