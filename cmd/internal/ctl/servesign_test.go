package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/web"
)

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
	if w.Code != 303 || w.Header().Get("Location") != "/history?user=x&failed=1" { // so the form with the key does not stay in the browser's history
		t.Errorf("%d %v", w.Code, w.Header())
	}
	for _, back := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "javascript:alert(1)", "/\tx", "evil", "/ü", "/ x"} {
		if w := b.post("-", "/sign-in", url.Values{"key": {b.key("alice")}, "back": {back}}); w.Code != 303 || w.Header().Get("Location") != "/" {
			t.Errorf("back to %q: %d %v", back, w.Code, w.Header())
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
	if c := w.Result().Cookies(); w.Code != 303 || len(c) != 1 || c[0].Value == old.Value {
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

// The holder of a good key cannot fill the log by signing in again and again.
func TestServeManySignIns(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	codes := map[int]int{}
	for range 100 {
		codes[b.post("-", "/sign-in", url.Values{"key": {b.key("carol")}}).Code]++
	}
	if n := len(b.records(audit.SessionStarted)); n != codes[303] || n < 10 || n > 50 || codes[429] != 100-n {
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

// The navigation has only pages that the visitor may open.
func TestServeNavigation(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	for user, want := range map[string]bool{"": true, "admin": true, "audrey": true, "alice": false, "carol": false} {
		text := b.get(user, "/history").Body.String()
		for _, path := range []string{"/people", "/integrity", "/configuration"} {
			if got := strings.Contains(text, `<li><a href="`+path+`"`); got != want || (b.get(user, path).Code == 200) != want {
				t.Errorf("%q: %s in the navigation: %v, want %v", user, path, got, want)
			}
		}
	}
}
