package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/web"
)

// A pagesBench is the pages over a small real log, with a policy and a configuration of their own.
type pagesBench struct {
	*fixture
	home    string
	app     *app
	file    string // of the configuration
	index   *freshIndex
	door    *gate
	handler http.Handler
	cookies map[string]string // by user
	mu      sync.Mutex
	faults  []error
}

// newPagesBench knows alice, who runs code, carol, who has no role, audrey, an auditor, and admin, a
// script-admin. "" is the user who has started the pages and owns the log.
func newPagesBench(t *testing.T, with verification) *pagesBench {
	t.Helper()
	home := t.TempDir()
	b := &pagesBench{home: home, file: filepath.Join(home, "config.toml"), cookies: map[string]string{}}
	log, err := audit.Open(filepath.Join(home, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	log.NoSync = true
	t.Cleanup(func() { log.Close() })
	b.fixture = &fixture{T: t, log: log, out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	b.logContext = logContext{dir: filepath.Join(home, "audit"), config: config.Default(), out: b.out, err: b.err}
	b.put(b.file, "# of this plant\n[security]\nmax-memory-mb = 512   # as agreed\n", 0o640)
	policy := "version = 1\n"
	keys := map[string]string{}
	for name, role := range map[string]string{"alice": `"python3-executor"`, "carol": "", "audrey": `"auditor"`, "admin": `"script-admin"`} {
		id, text := access.NewKey()
		keys[name] = text
		policy += fmt.Sprintf("[user.%s]\nroles = [%s]\n[key.%s]\nuser = %q\nsha256 = %q\ncreated = 2026-01-01T00:00:00Z\n", name, role, id, name, access.HashKey(text))
	}
	b.put(filepath.Join(home, "config/py3run/policy.toml"), policy, 0o600)
	b.app = &app{out: b.out, err: b.err, environ: []string{"HOME=" + home, "XDG_STATE_HOME=" + home + "/state", "XDG_CONFIG_HOME=" + home + "/config",
		"PY3RUN_SECURITY_AUDIT_DIR=" + b.dir, "PY3RUN_CONFIG=" + b.file}}
	b.index = &freshIndex{path: b.indexPath("")}
	t.Cleanup(b.index.close)
	server, token := web.New(web.Options{Gate: b.gate(with), Index: b.index.get, Zone: time.UTC, Hosts: []string{pagesHost}, Log: func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, err)
	}})
	b.handler = server.Handler()
	b.fresh()
	b.enter("", b.send("", http.MethodGet, "/sign-in?token="+token, nil))
	for name, key := range keys {
		b.enter(name, b.send(name, http.MethodPost, "/sign-in", url.Values{"key": {key}}))
	}
	return b
}

func (b *pagesBench) gate(with verification) *gate {
	b.app.with = with
	var err error
	b.door, err = b.app.newGate()
	b.must(err)
	return b.door
}

func (b *pagesBench) put(path, text string, mode os.FileMode) {
	b.Helper()
	b.must(os.MkdirAll(filepath.Dir(path), 0o700))
	b.must(os.WriteFile(path, []byte(text), mode))
	b.must(os.Chmod(path, mode))
}

func (b *pagesBench) enter(user string, r *httptest.ResponseRecorder) {
	b.Helper()
	for _, c := range r.Result().Cookies() {
		b.cookies[user] = c.Value
	}
	if b.cookies[user] == "" {
		b.Fatalf("%q does not get in: %d %s", user, r.Code, r.Body)
	}
}

// fresh brings the index up to date, as the server does each second.
func (b *pagesBench) fresh() {
	b.Helper()
	b.must(b.update(b.index.path, false, false))
}

func (b *pagesBench) send(user, method, path string, form url.Values) *httptest.ResponseRecorder {
	b.Helper()
	r := httptest.NewRequest(method, "http://"+pagesHost+path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if value, in := b.cookies[user]; in {
		r.AddCookie(&http.Cookie{Name: "py3run-8731", Value: value})
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// get is a page as a user sees it.
func (b *pagesBench) get(user, path string, code int) string {
	b.Helper()
	return b.answered(b.send(user, http.MethodGet, path, nil), user, path, code)
}

func (b *pagesBench) post(user, path string, form url.Values, code int) string {
	b.Helper()
	r := b.send(user, http.MethodPost, path, form)
	text := b.answered(r, user, path, code)
	return cmpOr(r.Header().Get("Location"), text)
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (b *pagesBench) answered(r *httptest.ResponseRecorder, user, path string, code int) string {
	b.Helper()
	text := r.Body.String()
	if r.Code != code {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.Errorf("%s as %q: %d, want %d: %v\n%s", path, user, r.Code, code, b.faults, notice(text))
	}
	return text
}

// notice is what a page says went wrong.
func notice(page string) string {
	return strings.Join(regexp.MustCompile(`(?s)role="alert">.*?</p>`).FindAllString(page, 3), " ")
}

// alerted appends an alert about the record before it.
func (b *pagesBench) alerted(rule, user, title, run string) uint64 {
	b.Helper()
	receipt, err := b.log.Append(audit.Record{Event: audit.Event{Action: audit.Alerted, Outcome: audit.Unknown, Reason: rule}, RunID: run, Host: audit.ThisHost(), User: audit.User{Name: user},
		Auth: audit.Auth{Method: audit.AuthNone}, Alert: &audit.Alert{Rule: rule, Title: title, Seq: b.newest()}})
	b.must(err)
	return receipt.Seq
}

// records are the records with an action, oldest first.
func (b *pagesBench) records(action audit.Action) (list []audit.Record) {
	b.Helper()
	r, err := audit.OpenReader(b.dir)
	b.must(err)
	defer r.Close()
	for line, err := range r.Records(audit.Position{}) {
		if bad := new(audit.LineError); errors.As(err, &bad) {
			continue
		}
		b.must(err)
		if line.Action == action {
			rec, err := line.Record()
			b.must(err)
			list = append(list, rec)
		}
	}
	return list
}

func has(t *testing.T, page string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(page, w) {
			t.Errorf("the page has no %q:\n%s", w, mainOf(page))
		}
	}
}

func hasNot(t *testing.T, page string, words ...string) {
	t.Helper()
	for _, w := range words {
		if strings.Contains(page, w) {
			t.Errorf("the page has %q", w)
		}
	}
}

// mainOf is the text of a page for a message, without its markup, and not all of it.
func mainOf(page string) string {
	_, text, _ := strings.Cut(page, "<main")
	text = strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString("<"+text, " ")), " ")
	return text[:min(len(text), 1500)]
}

// Who may see and do what on these pages is what the commands' policy says.
func TestPagesOfAlertsIntegrityConfigurationWho(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	b.run("alice", "ok", nil)
	own := b.alerted(ruleQuietHours, "alice", "alice at night", "")
	others := b.alerted(ruleQuietHours, "bob", "bob at night", "")
	b.fresh()
	alert := func(n uint64) string { return fmt.Sprintf("/alerts/%d", n) }
	comment := url.Values{"comment": {"seen"}}
	change := url.Values{"key": {"security.max-processes"}, "value": {"9"}, "sha256": {sumOf("# of this plant\n[security]\nmax-memory-mb = 512   # as agreed\n")}}
	users := []string{"", "admin", "audrey", "alice", "carol"}
	for _, c := range []struct {
		method, path string
		form         url.Values
		want         [5]int
	}{
		{"GET", "/alerts", nil, [5]int{200, 200, 200, 200, 200}},
		{"GET", alert(own), nil, [5]int{200, 200, 200, 200, 404}},
		{"GET", alert(others), nil, [5]int{200, 200, 200, 404, 404}},
		{"POST", alert(own) + "/acknowledge", comment, [5]int{303, 303, 303, 403, 404}},
		{"GET", "/integrity", nil, [5]int{200, 200, 200, 403, 403}},
		{"POST", "/integrity/verify", nil, [5]int{303, 303, 303, 403, 403}},
		{"POST", "/integrity/stop", nil, [5]int{303, 303, 303, 403, 403}},
		{"POST", "/integrity/findings/x", comment, [5]int{404, 404, 404, 403, 403}},
		{"POST", "/integrity/holds", comment, [5]int{303, 303, 303, 403, 403}},
		{"POST", "/integrity/holds/x/release", comment, [5]int{404, 404, 404, 403, 403}},
		{"GET", "/configuration", nil, [5]int{200, 200, 200, 403, 403}},
		{"GET", "/configuration/change?key=security.max-processes", nil, [5]int{200, 200, 403, 403, 403}},
		{"POST", "/configuration/plan", change, [5]int{200, 200, 403, 403, 403}},
	} {
		for i, user := range users {
			r := b.send(user, c.method, c.path, c.form)
			b.answered(r, user, c.method+" "+c.path, c.want[i])
		}
	}
	for _, user := range []string{"audrey", "alice", "carol"} {
		b.post(user, "/configuration/apply", change, 403)
	}
	if len(b.records(audit.ConfigChanged)) > 0 {
		t.Error("a change was made")
	}
	if r := b.send("nobody", "GET", "/integrity", nil); r.Code != http.StatusUnauthorized {
		t.Errorf("without a session: %d", r.Code)
	}
	if got := b.get("alice", "/alerts", 200); !strings.Contains(got, "alice at night") || strings.Contains(got, "bob") {
		t.Error("alice sees others' alerts, or not her own")
	}
	views := b.records(audit.HistoryViewed)
	if !slices.ContainsFunc(views, func(r audit.Record) bool { return r.User.Name == "audrey" && r.Viewed.Query == "/alerts" }) || slices.ContainsFunc(views, func(r audit.Record) bool { return r.User.Name == "alice" }) {
		t.Errorf("%d looks at others' alerts are recorded, or looks at one's own", len(views))
	}
}

// No parameter and no field makes the pages fail, and none of it comes back as markup.
func TestPagesTakeAnyParameter(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{checkpoints: "/nowhere", keys: "/nowhere"})
	b.run("alice", "ok", nil)
	b.alerted(evil, evil, evil+`<script>alert(1)</script>`, evil)
	b.fresh()
	nasty := []string{"", "0", "-1", "18446744073709551615", "18446744073709551616", "\x00", "\xff\xfe", `"><script>alert(1)</script>`, "%", "../../etc/passwd", strings.Repeat("a", 900), "'; DROP TABLE runs;--", "9999-99-99", "\u202e"}
	names := []string{"rule", "state", "before", "user", "script", "since", "until", "text", "find", "changed", "saved", "key", "holds", "host", "label", "client", "code"}
	ok := func(r *httptest.ResponseRecorder, what string) {
		t.Helper()
		if r.Code >= 500 || strings.Contains(r.Body.String(), "<script>alert") {
			t.Errorf("%s: %d\n%s", what, r.Code, mainOf(r.Body.String()))
		}
	}
	for _, path := range []string{"/alerts", "/alerts/2", "/integrity", "/configuration", "/configuration/change"} {
		for _, name := range names {
			for _, value := range nasty {
				ok(b.send("", "GET", path+"?"+url.Values{name: {value}}.Encode(), nil), path+" "+name+"="+value)
			}
		}
	}
	for _, value := range nasty {
		id := url.PathEscape(value)
		for _, path := range []string{"/alerts/" + id, "/runs/" + id} {
			ok(b.send("", "GET", path, nil), path)
		}
		form := url.Values{"comment": {value}, "key": {value}, "value": {value}, "sha256": {value}, "since": {value}, "until": {value}, "run": {value}, "user": {value}, "script": {value}}
		for _, path := range []string{"/alerts/" + id + "/acknowledge", "/integrity/findings/" + id, "/integrity/holds/" + id + "/release", "/integrity/holds", "/configuration/plan", "/configuration/apply"} {
			ok(b.send("", "POST", path, form), path)
			form.Set("key", "security.audit.log-output")
			form.Set("sha256", sumOf("# of this plant\n[security]\nmax-memory-mb = 512   # as agreed\n"))
			ok(b.send("", "POST", path, form), path)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.faults) > 0 {
		t.Errorf("%v", b.faults)
	}
}
