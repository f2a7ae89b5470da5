package cmd_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
)

// save stores a script as its author would.
func (r *realm) save(t *testing.T, author, name, code string) {
	t.Helper()
	store, err := scripts.Open(filepath.Join(r.dir, "state", "py3run", "scripts"))
	if err == nil {
		defer store.Close()
		_, err = store.Save(name, scripts.Draft{Code: []byte(code)}, scripts.Edit{By: author})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A stored script runs as the bytes that were saved, for those who may run it, by all ways in which it can be named.
func TestStoredScript(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy)
	const first, second = "result = 'v1'\n", "# /// py3run\n# [variables]\n# tank = { type = \"integer\", required = true, max = 9 }\n# unit = { type = \"string\", default = \"m3\" }\n# ///\nimport sys\nresult = [tank, unit]\nif tank == 7: 1/0\n"
	r.save(t, "alice", "plant/tank", first)
	r.save(t, "alice", "plant/tank", second)
	alice, gateway := r.keys["ALICE"], r.keys["GATEWAY"]
	type asks map[string]any
	for _, tt := range []struct {
		name    string
		request asks
		status  string
		want    string // in the result
	}{
		{"the newest", asks{"api_key": alice, "script": "plant/tank", "variables": asks{"tank": 3}}, "ok", `"result":[3,"m3"]`},
		{"an older one", asks{"api_key": alice, "script": "plant/tank@1"}, "ok", `"result":"v1"`},
		{"through a gateway", asks{"api_key": gateway, "user": "alice", "script": "plant/tank", "variables": asks{"tank": 3}}, "ok", `"script":{"name":"plant/tank","version":"2","source":"store"}`},
		{"an exception", asks{"api_key": alice, "script": "plant/tank", "variables": asks{"tank": 7}}, "error", `File \"plant/tank\", line 8`},
		{"a variable is missing", asks{"api_key": alice, "script": "plant/tank"}, "bad_request", `tank`},
		{"a variable is too large", asks{"api_key": alice, "script": "plant/tank", "variables": asks{"tank": 424242}}, "bad_request", `max = 9`},
		{"a name without a key", asks{"user": "alice", "script": "plant/tank", "variables": asks{"tank": 3}}, "denied", `script_not_found`},
		{"somebody else", asks{"api_key": gateway, "script": "plant/tank", "variables": asks{"tank": 3}}, "denied", `script_not_found`},
		{"one that does not exist", asks{"api_key": alice, "script": "plant/tanc"}, "denied", `script_not_found`},
		{"a version that does not exist", asks{"api_key": alice, "script": "plant/tank@3"}, "bad_request", `script_not_found`},
		{"a path", asks{"api_key": alice, "script": "../../etc/passwd"}, "bad_request", `script`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := r.exec(t, tt.request, "--audit-line=off")
			if s.status != tt.status || !strings.Contains(s.text, tt.want) || strings.Contains(s.text, "424242") {
				t.Errorf("%s, want %s with %s", s.text, tt.status, tt.want)
			}
		})
	}
	t.Cleanup(func() { // the records of all of them
		for _, l := range r.log(t) {
			code := map[string]string{"1": first, "2": second}[l.Script.Version]
			sum := sha256.Sum256([]byte(code))
			switch {
			case l.Event.Action == "execution-denied" && l.Script.Name != "":
				if l.Script.Source != "store" || l.Code.SHA256 != "" {
					t.Errorf("%+v", l)
				}
			case l.Script.Name != "plant/tank" || l.Script.Source != "store" || l.Code.SHA256 != hex.EncodeToString(sum[:]):
				t.Errorf("%+v", l)
			}
		}
	})
}

// run --script is a run like others: arguments, streams, exit code. The caller's directory does not lend it modules.
func TestRunStoredScript(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy)
	r.save(t, "alice", "job", "import sys, os\nprint(sys.argv, os.getcwd() in sys.path, sys.stdin.read())\nsys.exit(5)\n")
	key := r.keyFile(t, r.keys["ALICE"])
	c := r.command("run", "--script", "job@1", "--api-key-file", key, "a", "-x")
	c.Dir, c.Stdin = r.dir, strings.NewReader("input")
	out, _ := c.CombinedOutput()
	if string(out) != "['job', 'a', '-x'] False input\n" || c.ProcessState.ExitCode() != 5 {
		t.Errorf("%d: %s", c.ProcessState.ExitCode(), out)
	}
	c = r.command("run", "--script", "job@1", "--api-key-file", r.keyFile(t, r.keys["GATEWAY"]))
	out, _ = c.CombinedOutput()
	if c.ProcessState.ExitCode() != 121 || !strings.Contains(string(out), "py3run: error: denied: script") {
		t.Errorf("%d: %s", c.ProcessState.ExitCode(), out)
	}
	c = r.command("explain", "--format=json", "--api-key-file", key)
	c.Stdin = strings.NewReader(`{"script": "job"}`)
	out, err := c.Output()
	var e struct {
		Script struct{ Name, Version string }
	}
	if json.Unmarshal(out, &e); err != nil || e.Script.Name != "job" || e.Script.Version != "1" {
		t.Errorf("%v: %s", err, out)
	}
}

// A bridge runs stored scripts too, also in a kept interpreter.
func TestBridgeRunsStoredScripts(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"fresh", "keep"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			r := newRealm(t, "")
			r.save(t, "somebody", "twice", "result = x * 2\n")
			c := newClient(t, r.place, nil, "--state="+state)
			for range 2 {
				if v := c.ask(`{"script": "twice", "variables": {"x": 21}}`); v.Result != 42.0 {
					t.Errorf("%+v", v)
				}
			}
			if v := c.ask(`{"script": "thrice"}`); v.Success || v.Failure.Code != "script_not_found" {
				t.Errorf("%+v", v)
			}
			for _, l := range r.log(t) {
				denied := l.Script.Name == "thrice" && l.Event.Reason == "unknown-script"
				if !denied && (l.Script.Name != "twice" || l.Script.Version != "1") {
					t.Errorf("%+v, %+v", l.Script, l.Event)
				}
			}
		})
	}
}

// Who may run a script and not read it finds its lines nowhere: not in the interpreter that later requests
// get, in no traceback, and not in what Python prints of warnings and threads.
func TestScriptThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	r := newRealm(t, aPolicy)
	const code = `import threading, warnings
SECRET = 42
def work(n):
    warnings.warn("careful")  # formula
    if n == 1: return 1 / (n - 1)  # formula
    if n == 2: exec("compile('1 +', 'inner', 'exec')")  # formula
    if n == 3:
        try: work(1)
        except ZeroDivisionError: raise ValueError("again")  # formula
    if n == 4: threading.Thread(target=work, args=(1,)).start()  # formula
    while n == 5: pass  # formula
    return n
result = work(which)  # formula
`
	r.save(t, "alice", "tank", code)
	store, err := scripts.Open(filepath.Join(r.dir, "state", "py3run", "scripts"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Share("tank", "gateway", []access.Action{access.ToRun}, scripts.Edit{By: "alice"}); err != nil {
		t.Fatal(err)
	}
	type asks map[string]any
	for n, status := range []string{"ok", "error", "error", "error", "ok", "timeout"} {
		ask := asks{"api_key": r.keys["GATEWAY"], "script": "tank", "variables": asks{"which": n}, "limits": asks{"timeout_seconds": 2}}
		s := r.exec(t, ask, "--audit-line=off")
		if s.status != status || strings.Contains(s.text, "formula") {
			t.Errorf("%d: %s", n, s.text)
		}
		if status == "error" && !strings.Contains(s.text, `File \"tank\", line `) {
			t.Errorf("%d: no line in %s", n, s.text)
		}
	}
	ask := asks{"api_key": r.keys["ALICE"], "script": "tank", "variables": asks{"which": 1}}
	if s := r.exec(t, ask, "--audit-line=off"); s.status != "error" || !strings.Contains(s.text, "formula") {
		t.Errorf("its author: %s", s.text)
	}
	bridge := r.command("bridge", "--state=keep")
	bridge.Stdin = strings.NewReader(fmt.Sprintf(`{"api_key":%q,"script":"tank","variables":{"which":0}}
{"api_key":%[1]q,"code":"result = globals().get('SECRET')"}
`, r.keys["GATEWAY"]))
	out, err := bridge.Output()
	if err != nil || !strings.Contains(string(out), "not_kept") || !strings.Contains(string(out), `"result":null`) || strings.Contains(string(out), `"result":42`) {
		t.Errorf("%s, %v", out, err)
	}
}
