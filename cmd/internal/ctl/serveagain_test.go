package ctl

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"py3run/audit"
)

// launcherScript stands in for py3run: it keeps what it was given, and answers.
func launcherScript(t *testing.T, answer string) (program, dir string) {
	t.Helper()
	dir = t.TempDir()
	program = filepath.Join(dir, "py3run")
	text := "#!/bin/sh\ncd " + dir + "\necho \"$@\" > args\nenv > environ\ncat > request\n[ -e /dev/fd/3 ] && cat <&3 > key\n" + answer + "\n"
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, dir
}

func (b *fixture) file(dir, name string) string {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	b.must(err)
	return string(text)
}

// Code runs again as the visitor: the key goes through a descriptor, and no other process can read it.
func TestRunAgain(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	id := b.ran("alice", "x = 1\n", func(start, end *audit.Record) {
		start.Variables = audit.Variables{Count: 2, Bytes: 9}
		end.Variables = start.Variables
	})
	v := b.visitor("alice")
	v.key = "p3k_secret_of_alice"
	v.environ = []string{"PY3RUN_API_KEY_FILE=/other", "KEPT=1", "PATH=" + os.Getenv("PATH")}
	v.app.dir = b.dir
	if text := b.pages(v).get("/runs/"+id+"/again", 409); !strings.Contains(text, "--run-by-key") {
		t.Errorf("a key runs code as the starter: %s", text)
	}
	v.app.runByKey = true
	var dir string
	v.app.py3run, dir = launcherScript(t, `echo '{"run_id":"01a20d4b-0000-7000-8000-000000000009","status":"timeout","error":"<b>stopped</b>","stdout":"hello","stderr":"","result":{"y":2},"failure":{"hint":"do less","where":[{"file":"main.py","line":7,"function":"f"}]}}'`)
	p := b.pages(v)
	if text := p.get("/runs/"+id+"/again", 200); !strings.Contains(text, "the values of 2 variables") || !strings.Contains(text, "64.0 MiB") {
		t.Errorf("plan: %s", text)
	}
	if _, err := os.Stat(filepath.Join(dir, "request")); err == nil {
		t.Error("it has run before anybody said so")
	}
	to := p.post("/runs/"+id+"/again", url.Values{"variables": {` {"q": 2} `}}, http.StatusSeeOther)
	var text string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if text = p.get(to, 200); !strings.Contains(text, "has not ended yet") {
			break
		}
	}
	for _, want := range []string{"timeout", "&lt;b&gt;stopped", "do less", "main.py, line 7, in f", "hello", "{&#34;y&#34;:2}", "/runs/01a20d4b-0000-7000-8000-000000000009"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the result: %s", want, text)
		}
	}
	if got, want := b.file(dir, "request"), `{"code":"x = 1\n","labels":{"again":"`+id+`"},"limits":{"memory_mb":64,"processes":8,"timeout_seconds":10},"variables":{"q":2}}`; got != want {
		t.Errorf("request %s\nwant %s", got, want)
	}
	if got := b.file(dir, "key"); got != v.key {
		t.Errorf("key %q", got)
	}
	args, environ := b.file(dir, "args"), b.file(dir, "environ")
	if args != "exec --audit-line off --api-key-fd 3\n" || strings.Contains(environ, "secret_of_alice") || strings.Contains(environ, "/other") || !strings.Contains(environ, "KEPT=1") || !strings.Contains(environ, "PY3RUN_SECURITY_AUDIT_DIR="+b.dir) {
		t.Errorf("%s%s", args, environ)
	}

	// Nobody else sees the result, also not with its address.
	if other := b.pages(b.visitor("alice")); other.get(to, 404) == "" {
		t.Error("nothing is said")
	}
}

// What py3run cannot do is told, and a fault of it is no fault of the page.
func TestRunAgainFails(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	id := b.ran("alice", "x = 1\n", nil)
	v := b.visitor("")
	v.app.py3run = filepath.Join(t.TempDir(), "none")
	p := b.pages(v)
	to := p.post("/runs/"+id+"/again", url.Values{}, http.StatusSeeOther)
	if text := p.get(to, 200); !strings.Contains(text, "neither beside py3runctl nor in PATH") {
		t.Errorf("no program: %s", text)
	}
	for _, c := range []struct {
		change func(start, end *audit.Record)
		want   string
	}{
		{func(start, end *audit.Record) { start.Command, end.Command = "call_module", "call_module" }, "only code and expressions"},
		{func(start, end *audit.Record) {
			start.Invoked = &audit.Invocation{Command: "python"}
			end.Invoked = start.Invoked
		}, "call of the interpreter"},
		{func(start, end *audit.Record) {
			start.Code.SHA256 = strings.Repeat("d", 64)
			end.Code = start.Code
		}, "was kept, and is not there"},
	} {
		run := b.ran("alice", "y = 1\n", c.change)
		if text, answer := b.pages(v).ask(http.MethodGet, "/runs/"+run+"/again", nil); answer.Code != 409 && answer.Code != 404 || !strings.Contains(text, c.want) {
			t.Errorf("%d, want %q: %s", answer.Code, c.want, text)
		}
	}
	if _, ok := outcomeOf([]byte(`{"status":""}`)); ok {
		t.Error("a line without a status is no result")
	}
	if out, ok := outcomeOf([]byte(`{"status":"ok","stdout":"` + strings.Repeat("é", mostShown) + `"}`)); !ok || !out.Cut || len(out.Stdout) > mostShown+8 {
		t.Errorf("%d bytes, cut %v", len(out.Stdout), out.Cut)
	}
}

// A stored script runs by its name, where the visitor may run it and the store still has that version.
func TestAgainOfStoredScript(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	id := b.ran("alice", "z = 1\n", func(start, end *audit.Record) {
		start.Script = audit.Script{Name: "plant/tank", Version: "3", Source: audit.ScriptStored}
		end.Script = start.Script
	})
	p := b.pages(b.visitor(""))
	if text := p.get("/runs/"+id+"/again", 200); strings.Contains(text, "Stored script") {
		t.Error("the store does not have it, so the code itself runs")
	}
	if text := p.get("/runs/"+id, 200); !strings.Contains(text, `href="/scripts/plant/tank"`) {
		t.Error("the page does not lead to the script")
	}
}
