package ctl

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"py3run/cmd/internal/web"
)

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
