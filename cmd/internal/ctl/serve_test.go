package ctl

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"py3run/audit"
	"py3run/cmd/internal/cli"
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
