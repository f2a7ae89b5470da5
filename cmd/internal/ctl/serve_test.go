package ctl

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/web"
)

// The pages listen on a Unix socket of their owner alone, or on a loopback address with a free port.
func TestServeListensHereAlone(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"", "0.0.0.0:0", ":0", "localhost:0", "10.0.0.1:80", "[::]:0", "127.0.0.1", "127.0.0.1:http:1", "unix:", "unix", "example.org:80", "[::ffff:10.0.0.1]:0", "127.0.0.1.example.org:0"} {
		if l, err := listenAt(where); !cli.IsUsage(err) {
			t.Errorf("%q: %v, %v", where, l, err)
		}
	}
	a, err := listenAt("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := listenAt("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if a.Addr().String() == b.Addr().String() || !a.Addr().(*net.TCPAddr).IP.IsLoopback() {
		t.Errorf("%v and %v", a.Addr(), b.Addr())
	}
	if _, err := listenAt(a.Addr().String()); err == nil || cli.IsUsage(err) {
		t.Errorf("a port that is taken: %v", err)
	}
}

// A socket that a killed server has left is replaced; one that is in use, and a file, are not.
func TestServeSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, err := listenAt("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others than its owner can use the socket: %v, %v", info.Mode(), err)
	}
	if _, err := listenAt("unix:" + path); err == nil || !strings.Contains(err.Error(), "another process does") {
		t.Errorf("a second server: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as a killed server does
	first.Close()
	second, err := listenAt("unix:" + path)
	if err != nil {
		t.Fatalf("after a killed server: %v", err)
	}
	second.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenAt("unix:" + path); err == nil || readText(t, path) != "mine" {
		t.Errorf("a file in its place: %v", err)
	}
}

// A name that begins with @ is a file, too: an abstract socket would be open to everybody.
func TestServeSocketIsNotAbstract(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	l, err := listenAt("unix:@pages")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := os.Stat(filepath.Join(dir, "@pages")); err != nil {
		t.Error(err)
	}
}

type address string

func (a address) Network() string {
	if strings.HasPrefix(string(a), "/") {
		return "unix"
	}
	return "tcp"
}
func (a address) String() string { return string(a) }

type listening struct {
	net.Listener
	at address
}

func (l listening) Addr() net.Addr { return l.at }

// Host is exactly what the pages listen on, or what --host names.
func TestServeHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		at    address
		more  []string
		want  string
		shown string
	}{
		{"127.0.0.1:8731", nil, "127.0.0.1:8731 localhost:8731", "http://127.0.0.1:8731"},
		{"[::1]:8731", nil, "[::1]:8731 localhost:8731", "http://[::1]:8731"},
		{"127.0.0.1:80", nil, "127.0.0.1:80 localhost:80 127.0.0.1 localhost", "http://127.0.0.1:80"},
		{"127.0.0.1:8731", []string{"Plant-7", "localhost:9000", "[::1]"}, "127.0.0.1:8731 localhost:8731 plant-7 plant-7:8731 localhost:9000 [::1] [::1]:8731", "http://127.0.0.1:8731"},
		{"/run/s", []string{"plant-7", "plant-7:81"}, "localhost plant-7 plant-7:81", "http://localhost"},
	} {
		hosts, shown := hostsOf(listening{at: tt.at}, tt.more)
		if strings.Join(hosts, " ") != tt.want || shown != tt.shown {
			t.Errorf("%s %q: %q, %s", tt.at, tt.more, hosts, shown)
		}
	}
	for _, name := range []string{"", "http://plant", "*", "plant/", "plant:", "plant:x", "a b", "plant:123456", "-plant", "a\r\nb", "[x]"} {
		if err := (serving{hosts: []string{name}}).check(); !cli.IsUsage(err) {
			t.Errorf("--host %q: %v", name, err)
		}
	}
	b := newServeBench(t, nil)
	for host, want := range map[string]int{pagesHost: 200, "LOCALHOST:8731": 200, "": 421, "localhost": 421, "127.0.0.1": 421, "127.0.0.1:8732": 421, "evil.example:8731": 421,
		"127.0.0.1:8731.evil.example": 421, "127.0.0.1:8731,evil.example": 421, "evil.example@127.0.0.1:8731": 421} {
		r := b.request("alice", "GET", "/", nil)
		r.Host = host
		if w := b.do(r); w.Code != want || want != 200 && w.Header().Get("Set-Cookie") != "" {
			t.Errorf("Host %q: %d, want %d", host, w.Code, want)
		}
		r = b.request("-", "GET", "/sign-in?token="+b.pages.token, nil)
		if r.Host = host; want != 200 {
			if w := b.do(r); w.Code != want {
				t.Errorf("Host %q opens a session: %d", host, w.Code)
			}
		}
	}
}

// An API key signs in, and a sign-out ends that. Each of them is a record.
func TestServeSignIn(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	if w := b.get("-", "/history?user=a"); w.Code != 401 || strings.Contains(w.Body.String(), "alice") || !strings.Contains(w.Body.String(), `name="back" value="/history?user=a"`) {
		t.Errorf("who has not signed in: %d %s", w.Code, mainPart(w))
	}
	if w := b.get("alice", "/"); w.Code != 200 || !strings.Contains(w.Body.String(), ">alice</span>") {
		t.Errorf("alice: %d %s", w.Code, mainPart(w))
	}
	old := b.cookies["alice"]
	w := b.post("alice", "/sign-out", url.Values{})
	if c := w.Result().Cookies(); w.Code != 303 || w.Header().Get("Location") != "/sign-in" || len(c) != 1 || c[0].MaxAge >= 0 || c[0].Name != old.Name {
		t.Errorf("sign-out: %d, %v", w.Code, w.Header())
	}
	if w := b.get("alice", "/"); w.Code != 401 {
		t.Errorf("after a sign-out: %d", w.Code)
	}
	for action, want := range map[audit.Action]int{audit.SessionStarted: 1, audit.SessionEnded: 1, audit.SessionDenied: 0} {
		list := b.records(action)
		if len(list) != want {
			t.Errorf("%d records of %s", len(list), action)
		}
		for _, rec := range list {
			if rec.User.Name != "alice" || rec.Auth.Method != audit.AuthAPIKey || rec.Auth.KeyID == "" || rec.Event.Outcome != audit.Success {
				t.Errorf("%+v", rec)
			}
		}
	}
	w = b.post("-", "/sign-in", url.Values{"key": {" " + b.key("alice") + "\n"}, "back": {"/history?user=x&failed=1"}})
	if w.Code != 200 || !strings.Contains(w.Body.String(), `content="0;url=/history?user=x&amp;failed=1"`) || strings.Contains(w.Body.String(), b.key("alice")) {
		t.Errorf("%d %s", w.Code, mainPart(w))
	}
	for _, back := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "javascript:alert(1)", "/\tx", "evil", "/ü", "/ x"} {
		if w := b.post("-", "/sign-in", url.Values{"key": {b.key("alice")}, "back": {back}}); !strings.Contains(w.Body.String(), `content="0;url=/"`) {
			t.Errorf("back to %q: %s", back, mainPart(w))
		}
	}
}

// Sign out everywhere ends the other sessions of the same visitor, and nobody else's.
func TestServeSignOutEverywhere(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	first := b.cookie("alice")
	delete(b.cookies, "alice")
	if w := b.get("alice", "/"); !strings.Contains(w.Body.String(), "Sign out everywhere") {
		t.Error("a visitor with two sessions cannot end both")
	}
	if w := b.get("bob", "/"); w.Code != 200 || strings.Contains(w.Body.String(), "Sign out everywhere") {
		t.Errorf("bob: %d", w.Code)
	}
	b.post("alice", "/sign-out", url.Values{"everywhere": {"1"}})
	r := b.request("-", "GET", "/", nil)
	r.AddCookie(first)
	if w := b.do(r); w.Code != 401 {
		t.Errorf("the other session: %d", w.Code)
	}
	if w := b.get("bob", "/"); w.Code != 200 {
		t.Errorf("bob: %d", w.Code)
	}
}

// A session ends with its key, its user, its time, and where its visitor opens too many.
func TestServeSessionEnds(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	keyID := func(user string) string { id, _, _ := access.ParseKey(b.key(user)); return id }
	ends := map[string]func(string) string{
		"alice": func(p string) string {
			return strings.Replace(p, "[key."+keyID("alice")+"]\n", "[key."+keyID("alice")+"]\nrevoked = 2026-01-02T00:00:00Z\n", 1)
		},
		"bob": func(p string) string {
			return strings.Replace(p, "[key."+keyID("bob")+"]\n", "[key."+keyID("bob")+"]\nexpires = 2026-01-02T00:00:00Z\n", 1)
		},
		"audrey": func(p string) string {
			return strings.Replace(p, "[user.audrey]\n", "[user.audrey]\ndisabled = true\n", 1)
		},
		"carol": func(p string) string {
			return strings.Replace(p, access.HashKey(b.key("carol")), access.HashKey("another"), 1)
		},
	}
	for user, edit := range ends {
		if w := b.get(user, "/"); w.Code != 200 {
			t.Fatalf("%s: %d", user, w.Code)
		}
		b.editPolicy(edit)
		if w := b.get(user, "/history"); w.Code != 403 || !strings.Contains(w.Body.String(), "is not accepted") || !strings.Contains(w.Body.String(), `name="key"`) {
			t.Errorf("%s: %d %s", user, w.Code, mainPart(w))
		}
		if w := b.get(user, "/"); w.Code != 401 {
			t.Errorf("%s, again: %d", user, w.Code)
		}
	}
	b.get("admin", "/")
	b.now = b.now.Add(29 * time.Minute)
	if w := b.get("admin", "/"); w.Code != 200 {
		t.Errorf("in use: %d", w.Code)
	}
	b.now = b.now.Add(31 * time.Minute)
	if w := b.get("admin", "/"); w.Code != 401 {
		t.Errorf("unused: %d", w.Code)
	}
	delete(b.cookies, "admin")
	for range 60 {
		b.get("admin", "/")
		b.now = b.now.Add(14 * time.Minute)
	}
	if w := b.get("admin", "/"); w.Code != 401 {
		t.Errorf("after 14 hours of use: %d", w.Code)
	}
	delete(b.cookies, "admin")
	first := b.cookie("admin")
	own := b.cookie("") // not ended by admin's
	for range 10 {
		delete(b.cookies, "admin")
		b.now = b.now.Add(time.Second)
		b.get("admin", "/")
	}
	for c, want := range map[*http.Cookie]int{first: 401, own: 200, b.cookie("admin"): 200} {
		r := b.request("-", "GET", "/", nil)
		r.AddCookie(c)
		if w := b.do(r); w.Code != want {
			t.Errorf("%d, want %d", w.Code, want)
		}
	}
}

// The one-time token opens one session, with a cookie that scripts and other sites do not get.
func TestServeOneTimeToken(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	if len(b.pages.token) < 40 {
		t.Errorf("a token of %d characters", len(b.pages.token))
	}
	if w := b.do(b.request("-", "HEAD", "/sign-in?token="+b.pages.token, nil)); w.Code != 200 || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	r := b.request("-", "GET", "/sign-in?token="+b.pages.token, nil)
	r.AddCookie(&http.Cookie{Name: "py3run-8731", Value: "chosen-by-somebody-else"})
	w := b.do(r)
	cookies := w.Result().Cookies()
	if w.Code != 200 || len(cookies) != 1 {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	c := cookies[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 0 || !c.Expires.IsZero() || c.Name != "py3run-8731" || len(c.Value) < 40 || c.Value == b.pages.token {
		t.Errorf("%+v", c)
	}
	if text := w.Body.String() + fmt.Sprint(w.Header()); strings.Contains(text, b.pages.token) {
		t.Errorf("the answer has the token: %s", text)
	}
	if w := b.get("-", "/sign-in?token="+b.pages.token); w.Code != 403 || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("the second time: %d %v", w.Code, w.Header())
	}
	b.get("-", "/sign-in?token=x")
	if list := b.records(audit.SessionDenied); len(list) != 1 || list[0].Event.Reason != "one-time-token" || list[0].User.Name != "" {
		t.Errorf("%+v", list)
	}
	for _, value := range []string{"chosen-by-somebody-else", "", c.Value + "x", strings.Repeat("x", 9000)} {
		r := b.request("-", "GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: c.Name, Value: value})
		if w := b.do(r); w.Code != 401 {
			t.Errorf("cookie %.30q: %d", value, w.Code)
		}
	}
	b.cookies[""] = c
	if w := b.get("", "/"); w.Code != 200 || !strings.Contains(w.Body.String(), "user of the operating system") {
		t.Errorf("%d %s", w.Code, mainPart(w))
	}
}

// Whoever signs in gets a new session, and the one before ends.
func TestServeNoFixation(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	old := b.cookie("alice")
	r := b.request("alice", "POST", "/sign-in", url.Values{"key": {b.key("bob")}})
	w := b.do(r)
	if c := w.Result().Cookies(); w.Code != 200 || len(c) != 1 || c[0].Value == old.Value {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := b.get("alice", "/"); w.Code != 401 {
		t.Errorf("the session before: %d", w.Code)
	}
	if list := b.records(audit.SessionEnded); len(list) != 1 || list[0].User.Name != "alice" {
		t.Errorf("%+v", list)
	}
}

// Refused sign-ins are records, but a flood of them is one record and a summary each minute and reason.
func TestServeDeniedSignIns(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	_, unknown := access.NewKey()
	for range 50 {
		for _, key := range []string{unknown, "guess"} {
			w := b.post("-", "/sign-in", url.Values{"key": {key}})
			if w.Code != 403 || !strings.Contains(w.Body.String(), access.KeyRefused) || strings.Contains(w.Body.String(), key) {
				t.Fatalf("%d %s", w.Code, mainPart(w))
			}
		}
	}
	list := b.records(audit.SessionDenied)
	if len(list) != 2 {
		t.Fatalf("%d records", len(list))
	}
	if r := list[0]; r.Event.Reason != access.UnknownKey || r.Event.Outcome != audit.Denied || r.Auth.KeyID != strings.Split(unknown, "_")[1] || r.User.Name != "" {
		t.Errorf("%+v", r)
	}
	b.pages.gate.denials.tell(time.Now().Add(2*time.Minute), false)
	if list = b.records(audit.SessionDenied); len(list) != 4 || list[2].Refusals == nil || list[2].Refusals.Count != 49 || list[3].Refusals.Count != 49 {
		t.Errorf("%d records: %+v", len(list), list)
	}
	b.pages.gate.denials.tell(time.Now().Add(9*time.Minute), true)
	if list = b.records(audit.SessionDenied); len(list) != 4 {
		t.Errorf("%d records", len(list))
	}
	d, err := b.app.sightedContext()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d.out = &out
	if n, err := d.alerts("", "text", true); err != nil || n < 2 || !strings.Contains(out.String(), "is not in the policy: by somebody who could not sign in to the pages") || !strings.Contains(out.String(), "somebody was refused") {
		t.Errorf("%d alerts, %v: %s", n, err, out.String())
	}
}

// Requests that another site has a browser send are refused.
func TestServeCrossOrigin(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	for _, tt := range []struct {
		method, headers string
		want            int
	}{
		{"POST", "", 303}, // no browser
		{"POST", "Sec-Fetch-Site: same-origin", 303},
		{"POST", "Sec-Fetch-Site: none", 303},
		{"POST", "Origin: http://" + pagesHost, 303},
		{"POST", "Sec-Fetch-Site: cross-site", 403},
		{"POST", "Sec-Fetch-Site: same-site", 403}, // another port of this host
		{"POST", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: navigate", 403},
		{"POST", "Origin: https://evil.example", 403},
		{"POST", "Origin: http://127.0.0.1:9999", 403},
		{"POST", "Origin: null", 403},
		{"GET", "Sec-Fetch-Site: same-origin; Sec-Fetch-Mode: cors", 200},
		{"GET", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: document", 200}, // a link; the cookie would not come along
		{"GET", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: no-cors; Sec-Fetch-Dest: script", 403},
		{"GET", "Sec-Fetch-Site: same-site; Sec-Fetch-Mode: cors", 403},
		{"GET", "Sec-Fetch-Site: same-site; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: iframe", 403},
		{"HEAD", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: no-cors", 403},
	} {
		address, form := "/", url.Values(nil)
		if tt.method == "POST" {
			address, form = "/zone", url.Values{"zone": {"UTC"}}
		}
		r := b.request("alice", tt.method, address, form)
		for _, h := range strings.Split(tt.headers, "; ") {
			if name, value, ok := strings.Cut(h, ": "); ok {
				r.Header.Set(name, value)
			}
		}
		w := b.do(r)
		if w.Code != tt.want || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.headers, w.Code, tt.want)
		}
	}
}

// tree is what files there are below a directory, and what is in them.
func tree(t *testing.T, dir string, without ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if slices.Contains(without, path) {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = fmt.Sprintf("%x", sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// GETs change the log and the session, and nothing else.
func TestServeGetsChangeNothing(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	before := tree(t, b.dir, b.log.dir)
	for _, user := range []string{"", "admin", "audrey", "alice", "bob", "carol", "-"} {
		for _, route := range routes(t) {
			if route.method == "GET" {
				b.get(user, route.path)
				b.get(user, route.path+"?"+url.Values{"confirm": {"1"}, "everywhere": {"1"}, "zone": {"UTC"}, "value": {"1"}, "key": {"alerts.denials"}}.Encode())
			}
		}
	}
	if after := tree(t, b.dir, b.log.dir); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("before %v\nafter %v", before, after)
	}
	allowed := []audit.Action{audit.SessionStarted, audit.SessionEnded, audit.HistoryViewed, audit.CodeViewed}
	r, err := audit.OpenReader(b.log.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for line, err := range r.Records(audit.Position{}) {
		if err != nil || strings.HasPrefix(string(line.Action), "execution-") {
			continue
		}
		if !slices.Contains(allowed, line.Action) {
			t.Errorf("a GET has left a record of %s", line.Action)
		}
	}
}

// A route is what the server answers to.
type route struct{ method, path string }

var (
	routeForm = regexp.MustCompile(`"(GET|POST) (/[^"]*)"`)
	fieldForm = regexp.MustCompile(`(?:PostFormValue|FormValue|params\.Get|params\.Has|Query\(\)\.Get|get)\("([\w.-]+)"\)|params\["([\w.-]+)"\]|PostForm\["([\w.-]+)"\]|name="([\w.-]+)"`)
)

// webSource is the text of the package that draws the pages.
func webSource() (text string) {
	for _, pattern := range []string{"../web/*.go", "../web/templates/*.html"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			panic(pattern)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				piece, err := os.ReadFile(file)
				if err != nil {
					panic(err)
				}
				text += string(piece)
			}
		}
	}
	return text
}

// routes are all of the server's, from its source, so that none is forgotten.
func routes(t testing.TB) (list []route) {
	t.Helper()
	for _, m := range routeForm.FindAllStringSubmatch(webSource(), -1) {
		list = append(list, route{m[1], strings.ReplaceAll(m[2], "{$}", "")})
	}
	if len(list) < 12 {
		t.Fatalf("%d routes", len(list))
	}
	return list
}

// Every answer has a Content-Security-Policy without an exception, and cannot be framed, kept or guessed.
func TestServeContentSecurityPolicy(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	answers := []*httptest.ResponseRecorder{}
	for _, route := range routes(t) {
		for _, user := range []string{"-", "alice", ""} {
			answers = append(answers, b.do(b.request(user, route.method, route.path, nil)))
		}
	}
	r := b.request("-", "GET", "/", nil)
	r.Host = "evil.example"
	answers = append(answers, b.do(r), b.get("alice", "/nothing"), b.do(b.request("alice", "DELETE", "/", nil)), b.do(b.request("alice", "OPTIONS", "/", nil)))
	for i, w := range answers {
		h := w.Header()
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%d: no %s in %q", i, want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "data:") || strings.Contains(csp, "http") {
			t.Errorf("%d: %q", i, csp)
		}
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%d: %v", i, h)
		}
		if strings.Contains(w.Body.String(), " style=") || strings.Contains(w.Body.String(), "<style") || regexp.MustCompile(`<script(>| [^>]*>[^<])|\son\w+=`).MatchString(w.Body.String()) {
			t.Errorf("%d: something in line: %s", i, mainPart(w))
		}
	}
	w := b.get("-", regexp.MustCompile(`/static/style\.css\?v=\w+`).FindString(answers[0].Body.String()))
	if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("the style sheet: %d %v", w.Code, w.Header())
	}
}

// The policy's roles decide what a visitor sees, as for the commands.
func TestServeRoles(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	for user, want := range map[string]string{"": "alice bob", "admin": "alice bob", "audrey": "alice bob", "alice": "alice", "bob": "bob", "carol": ""} {
		w := b.get(user, "/history")
		var seen []string
		for _, name := range []string{"alice", "bob"} {
			if strings.Contains(w.Body.String(), "<td>"+name) || strings.Contains(w.Body.String(), ">"+name+"</a>") {
				seen = append(seen, name)
			}
		}
		if got := strings.Join(seen, " "); w.Code != 200 || got != want {
			t.Errorf("%q sees %q (%d), want %q", user, got, w.Code, want)
		}
		c, err := b.pages.gate.Again(passOf(b, user))
		if err != nil {
			t.Fatal(err)
		}
		only, err := c.Sees()
		if err != nil || (only == "") != (want == "alice bob") {
			t.Errorf("%q sees the runs of %q: %v", user, only, err)
		}
		err = c.May(access.ToManage, access.Object{Kind: access.ThePolicy})
		if (err == nil) != (user == "" || user == "admin") {
			t.Errorf("%q may manage the policy: %v", user, err)
		}
		// What a page would do through the command is done as the visitor, whoever has started the pages.
		if v := c.(visitor); user != "" {
			who, err := v.app.actor()
			if err != nil || who.grant.User != user || v.app.ownsLog(b.log.dir) {
				t.Errorf("the command of %q is one of %q: %v", user, who.grant.User, err)
			}
		}
	}
}

func passOf(b *serveBench, user string) web.Pass {
	if user == "" {
		return ""
	}
	_, pass, err := b.pages.gate.Holder(b.key(user))
	if err != nil {
		b.Fatal(err)
	}
	return pass
}

// Who has started the pages with an API key is the one of that key, also when the pages are asked again.
func TestServeStarterWithKey(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	pipe := filepath.Join(b.dir, "pipe") // it can be read only once
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { os.WriteFile(pipe, []byte(b.key("bob")), 0o600) }()
	b.app.environ = append(b.app.environ, "PY3RUN_API_KEY_FILE="+pipe)
	g, err := b.app.newGate()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if v, err := g.Again(""); err != nil || v.Name() != "bob" || !strings.HasPrefix(v.Known(), "API key ") {
			t.Errorf("%v, %v", v, err)
		}
	}
}

// A policy or a configuration that is broken while the pages are open keeps visitors out, tells them why in
// general, and ends no session. The owner of the log still looks.
func TestServeBrokenPolicy(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	for _, user := range []string{"alice", "admin", ""} {
		b.cookie(user)
	}
	whole := readText(t, b.policyFile())
	for name, spoil := range map[string]func(){
		"broken":          func() { b.write("config/py3run/policy.toml", "secret = nonsense") },
		"others' too":     func() { os.Chmod(b.policyFile(), 0o666) },
		"a broken config": func() { b.write("config/py3run/config.toml", "secret = nonsense") },
	} {
		spoil()
		for _, user := range []string{"alice", "admin"} {
			w := b.get(user, "/history")
			if w.Code != 503 || !strings.Contains(w.Body.String(), "cannot be used") || strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), b.dir) {
				t.Errorf("%s, %s: %d %s", name, user, w.Code, mainPart(w))
			}
		}
		if w := b.post("-", "/sign-in", url.Values{"key": {b.key("bob")}}); w.Code != 503 || !strings.Contains(w.Body.String(), "cannot be used") {
			t.Errorf("%s: a new sign-in: %d", name, w.Code)
		}
		if w := b.get("", "/history"); name != "a broken config" && w.Code != 200 {
			t.Errorf("%s: the starter: %d %s", name, w.Code, mainPart(w))
		}
		b.write("config/py3run/config.toml", "")
		os.Chmod(b.policyFile(), 0o600)
		b.write("config/py3run/policy.toml", whole)
		if w := b.get("alice", "/history"); w.Code != 200 {
			t.Errorf("after %s: %d %s", name, w.Code, mainPart(w))
		}
	}
}

// The index can be damaged, removed and made anew under the pages; the log's directory can go.
func TestServeIndexComesBack(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	index := b.pages.index.path
	seen := func(when string) {
		t.Helper()
		if w := b.get("audrey", "/history"); w.Code != 200 || !strings.Contains(w.Body.String(), "alice") {
			t.Errorf("%s: %d %s", when, w.Code, mainPart(w))
		}
	}
	seen("at first")
	for when, spoil := range map[string]func() error{
		"removed": func() error { return os.Remove(index) },
		"damaged": func() error {
			return os.WriteFile(index, []byte(strings.Repeat("no database, but a text of some length ", 900)), 0o600)
		},
		"replaced": func() error { return os.WriteFile(index+"2", []byte("no database"), 0o600) },
		"empty":    func() error { return os.Truncate(index, 0) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if when == "replaced" {
			os.Rename(index+"2", index)
		}
		if w := b.get("audrey", "/history"); w.Code != 200 && (w.Code != 503 || !strings.Contains(w.Body.String(), "made anew")) {
			t.Errorf("%s: %d %s", when, w.Code, mainPart(w))
		}
		b.freshen()
		seen("after it was " + when)
	}
	away := b.log.dir + "-away"
	if err := os.Rename(b.log.dir, away); err != nil {
		t.Fatal(err)
	}
	b.freshen()
	if w := b.get("audrey", "/history"); w.Code != 503 {
		t.Errorf("without the log: %d %s", w.Code, mainPart(w))
	}
	if b.pages.index.fresh().Err == nil {
		t.Error("that the log has gone is not told")
	}
	os.RemoveAll(b.log.dir)
	if err := os.Rename(away, b.log.dir); err != nil {
		t.Fatal(err)
	}
	b.freshen()
	seen("with the log back")
	b.log.run("zoe", "ok", nil)
	b.freshen()
	if w := b.get("audrey", "/history"); !strings.Contains(w.Body.String(), "zoe") {
		t.Errorf("a new run: %s", mainPart(w))
	}
}

// What cannot be recorded is not done and not shown.
func TestServeWithoutARecord(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	b.cookie("audrey")
	// Nobody can write a log whose file is a directory, root included.
	current := filepath.Join(b.log.dir, "audit.jsonl")
	if err := errors.Join(os.Rename(current, current+"-away"), os.Mkdir(current, 0o700)); err != nil {
		t.Fatal(err)
	}
	w := b.post("-", "/sign-in", url.Values{"key": {b.key("alice")}})
	if w.Code != 503 || w.Header().Get("Set-Cookie") != "" || !strings.Contains(w.Body.String(), "cannot take a record") {
		t.Errorf("sign-in: %d %s", w.Code, mainPart(w))
	}
	if !strings.Contains(b.said.String(), "audit.jsonl") {
		t.Errorf("standard error: %q", b.said.String())
	}
	for _, address := range []string{"/history", "/runs/01a20d4b-0000-7000-8000-000000000002", "/history.csv"} {
		if w := b.get("audrey", address); w.Code != 503 || strings.Contains(w.Body.String(), "timeout") || !strings.Contains(w.Body.String(), "cannot take a record") {
			t.Errorf("%s: %d %s", address, w.Code, mainPart(w))
		}
	}
	if w := b.post("audrey", "/sign-out", nil); w.Code != 303 {
		t.Errorf("sign-out: %d", w.Code)
	}
}

// A look at runs or code of others is a record, once in a while; one at what is the visitor's own is none.
func TestServeLooksAreRecorded(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	b.must("alice", "save", "tank", b.write("tank.py", "print(1)\n"))
	const ofAlice, ofBob = "01a20d4b-0000-7000-8000-000000000001", "01a20d4b-0000-7000-8000-000000000002"
	looks := 0
	for _, tt := range []struct {
		user, address string
		more          int // records
	}{
		{"alice", "/history", 0}, {"alice", "/runs/" + ofAlice, 0}, {"alice", "/history.csv", 0},
		{"audrey", "/history?user=bob", 1}, {"audrey", "/history?user=bob", 0}, {"audrey", "/history", 1},
		{"audrey", "/runs/" + ofBob, 1}, {"audrey", "/runs/" + ofBob, 0}, {"audrey", "/runs/" + ofAlice, 1},
		{"", "/runs/" + ofBob, 1}, {"admin", "/runs/" + ofBob, 1},
	} {
		if w := b.get(tt.user, tt.address); w.Code != 200 {
			t.Errorf("%q %s: %d %s", tt.user, tt.address, w.Code, mainPart(w))
		}
		list := b.records(audit.HistoryViewed)
		if len(list) != looks+tt.more {
			t.Errorf("%q has looked at %s: %d records more, want %d", tt.user, tt.address, len(list)-looks, tt.more)
		}
		looks = len(list)
		if tt.more == 0 {
			continue
		}
		rec := list[looks-1]
		if rec.Viewed == nil || tt.user != "" && rec.User.Name != tt.user || strings.HasPrefix(tt.address, "/runs/") && rec.Viewed.RunID != strings.TrimPrefix(tt.address, "/runs/") {
			t.Errorf("%q %s: %+v by %s", tt.user, tt.address, rec.Viewed, rec.User.Name)
		}
	}
	b.now = b.now.Add(11 * time.Minute)
	b.get("audrey", "/history")
	if n := len(b.records(audit.HistoryViewed)); n != looks+1 {
		t.Errorf("after ten minutes: %d records more", n-looks)
	}
	if w := b.get("alice", "/scripts/tank"); w.Code != 200 || len(b.records(audit.CodeViewed)) != 0 {
		t.Errorf("the author: %d, %d records", w.Code, len(b.records(audit.CodeViewed)))
	}
	w := b.get("admin", "/scripts/tank?version=1")
	if list := b.records(audit.CodeViewed); w.Code != 200 || len(list) != 1 || list[0].User.Name != "admin" || list[0].Viewed.Script != "tank@1" || len(list[0].Viewed.SHA256) != 64 {
		t.Errorf("code of others: %d, %+v", w.Code, list)
	}
}

// serveOn serves on a real listener until the test ends.
func (b *serveBench) serveOn(l net.Listener) (end func() error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.pages.serve(ctx, l) }()
	return func() error { stop(); return <-ended }
}

// The pages end when nobody who has signed in has asked for the idle time; strangers do not keep them.
func TestServeIdleExit(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	b.open(web.Options{Idle: 300 * time.Millisecond})
	l, err := listenAt("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.pages.serve(context.Background(), l) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
				c.Close()
				t.Error("it listens still")
			}
			return
		case <-tick.C:
			b.get("-", "/")
		}
	}
}

// Slow, huge and many requests are bounded, and keep nobody out.
func TestServeSlowAndManyConnections(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	socket := filepath.Join(b.dir, "s")
	l, err := listenAt("unix:" + socket)
	if err != nil {
		t.Fatal(err)
	}
	end := b.serveOn(l)
	var slow []net.Conn
	for i := range 40 { // that have sent half of a header, or half of a body
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		slow = append(slow, c)
		if i%2 == 0 {
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nX: ", pagesHost)
		} else {
			fmt.Fprintf(c, "POST /sign-in HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nkey=", pagesHost)
		}
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	ask := func(header string, body io.Reader, method string) (int, string) {
		r, err := http.NewRequest(method, "http://"+pagesHost+"/sign-in", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Long", header)
		answer, err := client.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text)
	}
	for range 20 { // more than have a place at once
		if code, text := ask("", nil, "GET"); code != 200 {
			t.Fatalf("beside slow clients: %d %s", code, text)
		}
	}
	if code, _ := ask(strings.Repeat("x", 64<<10), nil, "GET"); code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 64 KiB: %d", code)
	}
	if code, _ := ask("", io.LimitReader(endless{}, 16<<20), "POST"); code != http.StatusRequestEntityTooLarge && code != 0 { // it can be cut off while it writes
		t.Errorf("a body of 16 MiB: %d", code)
	}
	// A client that has gone away in the middle is no message.
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /history HTTP/1.1\r\nHost: %s\r\nCookie: py3run-8731=%s\r\n\r\n", pagesHost, b.cookie("audrey").Value)
	c.Close()
	// A stranger's connection is closed after the answer, a visitor's stays.
	for cookie, want := range map[string]bool{"": true, "Cookie: py3run-8731=" + b.cookie("alice").Value + "\r\n": false} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", pagesHost, cookie)
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.Close != want {
			t.Errorf("closed: %v, want %v, %v", answer != nil && answer.Close, want, err)
		}
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if b.said.String() != "" {
		t.Errorf("standard error: %s", b.said.String())
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
	_ = slow
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// A stranger's body may be small only; a visitor's is bounded, too.
func TestServeHugeBodies(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	for _, tt := range []struct {
		user string
		size int
		want int
	}{{"-", 4 << 10, 403}, {"-", 5 << 10, 413}, {"alice", 5 << 10, 422}, {"alice", 1<<20 + 1, 413}} {
		address, form := "/sign-in", url.Values{"key": {strings.Repeat("x", tt.size-4)}}
		if tt.user != "-" {
			address, form = "/zone", url.Values{"zone": {strings.Repeat("x", tt.size-5)}}
		}
		if w := b.post(tt.user, address, form); w.Code != tt.want || w.Body.Len() > 20<<10 {
			t.Errorf("%s, %d bytes: %d, want %d", tt.user, tt.size, w.Code, tt.want)
		}
	}
	if w := b.get("alice", "/history?user="+strings.Repeat("x", 2000)); w.Code != 414 {
		t.Errorf("a long value: %d", w.Code)
	}
	if w := b.get("alice", "/history?"+strings.Repeat("label=a=1&", 100)); w.Code != 414 {
		t.Errorf("many values: %d", w.Code)
	}
}

// Methods that the pages do not have, and pages that they do not have, are answered as HTTP wants it.
func TestServeMethods(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	for _, tt := range []struct {
		method, path string
		want         int
	}{{"OPTIONS", "/", 405}, {"TRACE", "/history", 405}, {"DELETE", "/history", 405}, {"BREW", "/", 405}, {"POST", "/history", 405}, {"GET", "/zone", 405}, {"GET", "/sign-out", 405},
		{"GET", "/nothing", 404}, {"GET", "/static/", 404}, {"GET", "/static/none.js", 404}, {"GET", "/static/../web.go", 307}, {"GET", "/static/..%2fweb.go", 404}, {"GET", "//evil.example/..", 307}, {"HEAD", "/history", 200}, {"PUT", "/static/style.css", 405}} {
		w := b.do(b.request("alice", tt.method, "http://"+pagesHost+tt.path, nil))
		if w.Code != tt.want && !(tt.want == 307 && w.Code == 301) {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
		if to := w.Header().Get("Location"); strings.HasPrefix(to, "//") || strings.Contains(to, ":") && !strings.HasPrefix(to, "/") {
			t.Errorf("%s %s leads to %s", tt.method, tt.path, to)
		}
		switch {
		case tt.method == "HEAD" && w.Body.Len() > 0, w.Code == 405 && (w.Header().Get("Allow") == "" || !strings.Contains(w.Body.String(), "<h1>")), w.Code == 404 && !strings.Contains(w.Body.String(), "There is no such"):
			t.Errorf("%s %s: %v %s", tt.method, tt.path, w.Header(), mainPart(w))
		case strings.Contains(w.Body.String(), "alice") && w.Code >= 400:
			t.Errorf("%s %s: %s", tt.method, tt.path, mainPart(w))
		}
	}
	if w := b.get("alice", "/nothing"); !strings.Contains(w.Body.String(), `<a href="/">`) {
		t.Errorf("no way on: %s", mainPart(w))
	}
}

// A zone that a visitor chooses is that session's alone, and the form leads back to where it was.
func TestServeZone(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	w := b.post("alice", "/zone", url.Values{"zone": {" Asia/Tokyo "}, "back": {"/history?user=alice"}})
	if w.Code != 303 || w.Header().Get("Location") != "/history?user=alice" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := b.get("alice", "/history?user=alice"); !strings.Contains(w.Body.String(), `value="Asia/Tokyo"`) || !strings.Contains(w.Body.String(), `name="back" value="/history?user=alice"`) {
		t.Errorf("%s", mainPart(w))
	}
	if w := b.get("bob", "/"); strings.Contains(w.Body.String(), `value="Asia/Tokyo" size`) {
		t.Error("bob has the zone of alice")
	}
	for _, zone := range []string{"Nowhere/Land", "../../etc/passwd", "/etc/passwd", strings.Repeat("x", 100), "UTC\x00"} {
		if w := b.post("alice", "/zone", url.Values{"zone": {zone}}); w.Code != 422 || strings.Contains(w.Body.String(), "passwd") {
			t.Errorf("%q: %d", zone, w.Code)
		}
	}
}

// The host's zone has a name, where the system says it.
func TestNamedZone(t *testing.T) {
	t.Parallel()
	if zone := namedZone(time.UTC, nil); zone != time.UTC {
		t.Error(zone)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if zone := namedZone(berlin, []string{"TZ=Asia/Tokyo"}); zone != berlin {
		t.Error(zone)
	}
	for _, environ := range [][]string{nil, {"TZ="}, {"TZ=:UTC"}, {"TZ=Etc/UTC"}, {"TZ=/usr/share/zoneinfo/Europe/Paris"}, {"TZ=CET-1CEST"}, {"TZ=/nothing"}} {
		zone := namedZone(time.Local, environ)
		if !sameTimes(zone, time.Local) && zone != time.UTC {
			t.Errorf("%q: %s, which is another than %s", environ, zone, time.Local)
		}
	}
	_, local := time.Now().Zone()
	if zone := namedZone(time.Local, []string{"TZ=Etc/UTC"}); local == 0 && sameTimes(time.Local, time.UTC) && zone.String() != "Etc/UTC" {
		t.Error(zone)
	}
}

// The holder of a good key cannot fill the log by signing in again and again.
func TestServeManySignIns(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	codes := map[int]int{}
	for range 100 {
		codes[b.post("-", "/sign-in", url.Values{"key": {b.key("carol")}}).Code]++
	}
	if n := len(b.records(audit.SessionStarted)); n != codes[200] || n < 10 || n > 50 || codes[429] != 100-n {
		t.Errorf("%d records, answers %v", n, codes)
	}
	b.cookie("alice")
	b.now = b.now.Add(time.Minute)
	b.cookie("carol")
}

// A cookie of the same name that another server of the host has set, and that the browser sends first,
// keeps nobody out.
func TestServeForeignCookie(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	own := b.cookie("alice")
	for foreign, want := range map[string]int{"x": 200, strings.Repeat("x", 500): 200, strings.Repeat("x; "+own.Name+"=", 20) + "x": 401} {
		r := b.request("-", "GET", "/history", nil)
		r.Header.Set("Cookie", own.Name+"="+foreign+"; "+own.Name+"="+own.Value)
		if w := b.do(r); w.Code != want {
			t.Errorf("%.20s: %d, want %d", foreign, w.Code, want)
		}
	}
}
