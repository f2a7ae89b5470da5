package ctl

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/web"
)

// pagesHost is the header Host of requests in tests.
const pagesHost = "127.0.0.1:8731"

// A serveBench serves the pages over a small log of its own, with a policy: alice and bob may run code,
// carol may nothing, audrey is an auditor, admin a script-admin.
type serveBench struct {
	*scriptBench
	log     *fixture
	app     *app
	pages   *pages
	handler http.Handler
	cookies map[string]*http.Cookie // by user; "": who has started the server
	now     time.Time
	said    lockedBuffer // on standard error
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// newServeBench makes the log by a function, which can be nil.
func newServeBench(t *testing.T, fill func(*fixture)) *serveBench {
	t.Helper()
	b := &serveBench{scriptBench: newScriptBench(t), cookies: map[string]*http.Cookie{}, now: time.Now()}
	b.addUser("audrey", `roles = ["auditor"]`)
	dir := filepath.Join(b.dir, "audit")
	log, err := audit.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	log.NoSync = true
	t.Cleanup(func() { log.Close() })
	b.log = &fixture{T: t, log: log, out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	b.log.logContext = logContext{dir: dir, err: b.log.err, out: b.log.out}
	b.log.run("alice", "ok", nil)
	b.log.run("bob", "timeout", nil)
	if fill != nil {
		fill(b.log)
	}
	b.app = &app{out: io.Discard, err: &b.said, environ: []string{"HOME=" + b.dir, "XDG_STATE_HOME=" + b.dir + "/state", "XDG_CONFIG_HOME=" + b.dir + "/config", "XDG_RUNTIME_DIR=" + b.dir + "/run", "PY3RUN_SECURITY_AUDIT_DIR=" + dir,
		"PY3RUN_CONFIG=" + b.write("config/py3run/config.toml", "")}} // what root changes must not be this machine's own
	b.open(web.Options{})
	return b
}

// open makes the server, anew.
func (b *serveBench) open(o web.Options) {
	b.Helper()
	d, err := b.app.sightedContext()
	if err != nil {
		b.Fatal(err)
	}
	g, err := b.app.newGate()
	if err != nil {
		b.Fatal(err)
	}
	index := d.indexPath("")
	if err := d.update(index, false, false); err != nil {
		b.Fatal(err)
	}
	o.Hosts, o.Now = []string{pagesHost, "localhost:8731"}, func() time.Time { return b.now }
	b.pages = b.app.newPages(d, g, index, o)
	b.Cleanup(b.pages.index.close)
	b.handler = b.pages.Handler()
	clear(b.cookies)
}

// addUser adds a user with a key to the policy.
func (b *serveBench) addUser(name, about string) {
	b.Helper()
	id, text := access.NewKey()
	b.keys[name] = b.write(name+".key", text+"\n")
	b.editPolicy(func(policy string) string {
		return policy + "[user." + name + "]\n" + about + "\n[key." + id + "]\nuser = \"" + name + "\"\nsha256 = \"" + access.HashKey(text) + "\"\ncreated = 2026-01-01T00:00:00Z\n"
	})
}

func (b *serveBench) policyFile() string { return filepath.Join(b.dir, "config/py3run/policy.toml") }

func (b *serveBench) editPolicy(edit func(string) string) {
	b.Helper()
	b.write("config/py3run/policy.toml", edit(readText(b.T, b.policyFile())))
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// key is the API key of a user.
func (b *serveBench) key(user string) string {
	b.Helper()
	return strings.TrimSpace(readText(b.T, b.keys[user]))
}

// do sends a request as it is.
func (b *serveBench) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// request makes a request of somebody who has signed in; "-": of nobody.
func (b *serveBench) request(user, method, address string, form url.Values) *http.Request {
	b.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, address, body)
	r.Host = pagesHost
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if user != "-" {
		r.AddCookie(b.cookie(user))
	}
	return r
}

// cookie signs a user in, once.
func (b *serveBench) cookie(user string) *http.Cookie {
	b.Helper()
	if c := b.cookies[user]; c != nil {
		return c
	}
	var w *httptest.ResponseRecorder
	if user == "" {
		w = b.get("-", "/sign-in?token="+b.pages.token)
	} else {
		w = b.post("-", "/sign-in", url.Values{"key": {b.key(user)}})
	}
	if len(w.Result().Cookies()) != 1 || w.Code != http.StatusOK && w.Code != http.StatusSeeOther {
		b.Fatalf("%s cannot sign in: %d %s", user, w.Code, mainPart(w))
	}
	b.cookies[user] = w.Result().Cookies()[0]
	return b.cookies[user]
}

func (b *serveBench) get(user, address string) *httptest.ResponseRecorder {
	b.Helper()
	return b.do(b.request(user, "GET", address, nil))
}

func (b *serveBench) post(user, address string, form url.Values) *httptest.ResponseRecorder {
	b.Helper()
	return b.do(b.request(user, "POST", address, form))
}

// records are those of the log with an action.
func (b *serveBench) records(action audit.Action) (list []audit.Record) {
	b.Helper()
	r, err := audit.OpenReader(b.log.dir)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for line, err := range r.Records(audit.Position{}) {
		if err != nil {
			b.Fatal(err)
		}
		if line.Action == action {
			rec, err := line.Record()
			if err != nil {
				b.Fatal(err)
			}
			list = append(list, rec)
		}
	}
	return list
}

// mainPart is the part of a page that differs from others, for messages.
func mainPart(w *httptest.ResponseRecorder) string {
	_, text, _ := strings.Cut(w.Body.String(), "<main")
	text, _, _ = strings.Cut(text, "</main>")
	if text == "" {
		text = w.Body.String()
	}
	return text[:min(len(text), 600)]
}

// freshen brings the index up to date, once.
func (b *serveBench) freshen() {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	b.pages.keep(ctx)
}
