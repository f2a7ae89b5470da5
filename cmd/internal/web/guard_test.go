package web

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"py3run/cmd/internal/store"
)

// heard is a server whose messages are kept, and a request that it accepts.
func heard() (s *Server, said *[]string, ask func(http.Handler) *httptest.ResponseRecorder) {
	said = new([]string)
	now := time.Now()
	s, _ = New(Options{Hosts: []string{"pages"}, Log: func(err error) { *said = append(*said, err.Error()) }, Now: func() time.Time { return now }})
	return s, said, func(h http.Handler) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = "pages"
		w := httptest.NewRecorder()
		s.guarded(h).ServeHTTP(w, r)
		return w
	}
}

// A panic is an answer and one message of bounded length; the next request is answered as before.
func TestPanicIsCaught(t *testing.T) {
	t.Parallel()
	s, said, ask := heard()
	w := ask(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(strings.Repeat("x", 1<<20)) }))
	if w.Code != 500 || w.Header().Get("Content-Security-Policy") != policy || strings.Contains(w.Body.String(), "xxx") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if len(*said) != 1 || len((*said)[0]) > 2*mostWords || !strings.Contains((*said)[0], "guard_test.go") {
		t.Errorf("%d messages: %.3000q", len(*said), *said)
	}
	if w := ask(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })); w.Body.String() != "ok" || len(s.places) != 0 {
		t.Errorf("afterwards: %d %s, %d places are taken", w.Code, w.Body, len(s.places))
	}
}

// The same fault again and again fills no terminal.
func TestFaultsAreToldBounded(t *testing.T) {
	t.Parallel()
	s, said, _ := heard()
	r := httptest.NewRequest("GET", "/x", nil)
	for range 1000 {
		s.told(r, errors.New("broken"))
	}
	if len(*said) != mostSaid || !strings.Contains((*said)[mostSaid-1], "left out") {
		t.Errorf("%d messages", len(*said))
	}
	mended := 0
	s.Damaged = func() { mended++ }
	if code, text := s.told(r, fmt.Errorf("ask: %w", store.ErrDamaged)); code != 503 || !strings.Contains(text, "made anew") || mended != 1 {
		t.Errorf("%d %s, %d", code, text, mended)
	}
}

// Who comes when all places are taken waits, and is told so in the end.
func TestManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	s, said, ask := heard()
	s.patience = time.Millisecond
	for range mostRequests {
		s.places <- struct{}{}
	}
	none := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was answered") })
	if w := ask(none); w.Code != 503 || w.Header().Get("Retry-After") == "" || len(*said) != 0 {
		t.Errorf("%d %v %q", w.Code, w.Header(), *said)
	}
	s.patience = time.Hour
	answered := make(chan int)
	go func() { answered <- ask(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).Code }()
	<-s.places
	if code := <-answered; code != 200 {
		t.Errorf("with a place again: %d", code)
	}
}

// Not more connections than the bound are open, and a closed one makes room, once.
func TestBoundedConnections(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	few := bounded(l, 2)
	accepted := make(chan net.Conn, 9)
	ended := make(chan error)
	go func() {
		for {
			c, err := few.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Error("a third connection")
	case <-time.After(50 * time.Millisecond):
	}
	first.Close()
	first.Close()
	third := <-accepted
	few.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	second.Close()
	third.Close()
}

// htmx is the file of its release, as static/README.md says.
func TestHTMXIsAsReleased(t *testing.T) {
	t.Parallel()
	hash := sha256.Sum256(assets["htmx-2.0.11.min.js"].text)
	if got := hex.EncodeToString(hash[:]); got != "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717" {
		t.Errorf("SHA-256 %s", got)
	}
}

// A token opens one session; a new one makes the one before worthless.
func TestOneTime(t *testing.T) {
	t.Parallel()
	var o oneTime
	if o.use("") {
		t.Error("none was made")
	}
	first := o.renew()
	second := o.renew()
	for _, tt := range []struct {
		text string
		want bool
	}{{first, false}, {"", false}, {second + " ", false}, {second, true}, {second, false}} {
		if got := o.use(tt.text); got != tt.want {
			t.Errorf("%q: %v", tt.text, got)
		}
	}
}

// One record stands for the looks of ten minutes, and only one that was made.
func TestLooksAreNotedOnceInAWhile(t *testing.T) {
	t.Parallel()
	all := sessions{cookie: "c"}
	now := time.Now()
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "c", Value: all.begin("p", nil, now)})
	for range 2 {
		if !all.notes(r, "a", now) {
			t.Error("a look that was not recorded counts as recorded")
		}
	}
	all.hasNoted(r, "a", now)
	for _, tt := range []struct {
		what  string
		after time.Duration
		want  bool
	}{{"a", 9 * time.Minute, false}, {"b", 9 * time.Minute, true}, {"a", 10 * time.Minute, true}, {"a", -time.Minute, true}} {
		if got := all.notes(r, tt.what, now.Add(tt.after)); got != tt.want {
			t.Errorf("%s after %v: %v", tt.what, tt.after, got)
		}
	}
	for i := range 3 * mostNoted {
		all.hasNoted(r, fmt.Sprint(i), now)
	}
	all.with(r, func(_ [32]byte, s *session) {
		if len(s.noted) > mostNoted {
			t.Errorf("%d looks are kept", len(s.noted))
		}
	})
	for i := range 2 * mostSessions {
		all.begin(Pass(fmt.Sprint(i)), nil, now)
	}
	if len(all.open) > mostSessions {
		t.Errorf("%d sessions", len(all.open))
	}
}
