package ctl

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/web"
)

// A usageBench is a bench whose log the pages show.
type usageBench struct {
	*scriptBench
	log     *fixture
	context logContext
	index   *freshIndex
	handler http.Handler
	common  *common
	token   string
	cookies map[string]*http.Cookie // by visitor; "": who has started the pages
	faults  []string
}

// newUsageBench also knows the auditor audra. Alice has two runs of a script and bob one, with a name of
// his script that is hostileName.
func newUsageBench(t *testing.T) *usageBench {
	t.Helper()
	p := &usageBench{scriptBench: newScriptBench(t), cookies: map[string]*http.Cookie{}}
	id, text := access.NewKey()
	policy, err := os.ReadFile(filepath.Join(p.dir, "config/py3run/policy.toml"))
	p.log = &fixture{T: t}
	p.log.must(err)
	p.write("config/py3run/policy.toml", string(policy)+fmt.Sprintf("[user.audra]\nroles = [\"auditor\"]\n[key.%s]\nuser = \"audra\"\nsha256 = %q\ncreated = 2026-01-01T00:00:00Z\n", id, access.HashKey(text)))
	p.keys["audra"] = p.write("audra.key", text+"\n")

	p.log.log, err = audit.Open(filepath.Join(p.dir, "audit"))
	p.log.must(err)
	p.log.log.NoSync = true
	t.Cleanup(func() { p.log.log.Close() })
	byKey := audit.Auth{Method: audit.AuthAPIKey, KeyID: "k7qm2x9a"}
	p.log.record(audit.Record{User: audit.User{Name: "alice"}, Auth: byKey, Script: audit.Script{Name: "tank/daily", Version: "1", Source: audit.ScriptStored}, Labels: map[string]string{"line": "north"}}, "ok")
	p.log.record(audit.Record{User: audit.User{Name: "alice"}, Auth: byKey, Script: audit.Script{Name: "tank/daily", Version: "1", Source: audit.ScriptStored}}, "timeout")
	p.log.record(audit.Record{User: audit.User{Name: "bob"}, Auth: byKey, Script: audit.Script{Name: hostileName, Source: audit.ScriptFile}, Labels: map[string]string{"line": hostileName}}, "error")
	p.log.record(audit.Record{User: audit.User{Name: hostileName}, Auth: audit.Auth{Method: audit.AuthAsserted}}, "ok")
	return p
}

// hostileName is a name that is code where it is not escaped.
const hostileName = `"><script>alert(1)</script>'` + "\u202e\x1b[31m"

// start serves the log as it is now.
func (p *usageBench) start() {
	p.Helper()
	a := &app{out: io.Discard, err: io.Discard, zone: "UTC", environ: []string{"HOME=" + p.dir, "XDG_STATE_HOME=" + p.dir + "/state", "XDG_CONFIG_HOME=" + p.dir + "/config", "PY3RUN_SECURITY_AUDIT_DIR=" + p.dir + "/audit"}}
	d, err := a.logContext()
	p.log.must(err)
	p.context = d
	p.index = &freshIndex{path: d.indexPath("")}
	p.log.must(d.update(p.index.path, false, false))
	p.Cleanup(p.index.close)
	if p.common == nil {
		p.common = &common{}
	}
	g, err := a.newGate()
	p.log.must(err)
	g.common = p.common
	server, token := web.New(web.Options{Gate: g, Index: p.index.get, Zone: time.UTC, Hosts: []string{"pages.test"}, Fresh: p.index.fresh,
		Log: func(err error) { p.faults = append(p.faults, err.Error()) }})
	p.handler, p.token = server.Handler(), token
	p.Cleanup(func() {
		if len(p.faults) > 0 {
			p.Errorf("faults of the server: %q", p.faults)
		}
	})
}

// update brings the index up to date.
func (p *usageBench) update() {
	p.Helper()
	p.log.must(p.context.update(p.index.path, false, false))
}

// get is an answer of the pages for a visitor; "nobody" has not signed in.
func (p *usageBench) get(visitor, address string) (code int, body string) {
	p.Helper()
	r := httptest.NewRequest("GET", address, nil)
	r.Host = "pages.test"
	if visitor != "nobody" {
		if p.cookies[visitor] == nil {
			p.signIn(visitor)
		}
		r.AddCookie(p.cookies[visitor])
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func (p *usageBench) signIn(visitor string) {
	p.Helper()
	r := httptest.NewRequest("GET", "/sign-in?token="+p.token, nil)
	if visitor != "" {
		key, err := os.ReadFile(p.keys[visitor])
		p.log.must(err)
		r = httptest.NewRequest("POST", "/sign-in", strings.NewReader(url.Values{"key": {strings.TrimSpace(string(key))}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Host = "pages.test"
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	if p.cookies[visitor] = w.Result().Cookies()[0]; w.Code != 200 && w.Code != 303 {
		p.Fatalf("sign in %q: %d %s", visitor, w.Code, w.Body)
	}
}

// views are the records of looks, as "who action what".
func (p *usageBench) views() (list []string) {
	p.Helper()
	for _, rec := range p.records() {
		if v := rec.Viewed; v != nil {
			list = append(list, fmt.Sprintf("%s %s %s%s", rec.User.Name, rec.Event.Action, v.Script, v.Query))
		}
	}
	return list
}

// holds reports whether a page has a text, as it is written in HTML.
func holds(body, text string) bool { return strings.Contains(body, html.EscapeString(text)) }

// saved stores scripts: alice's private one, one that bob may run, and a public one.
func (p *usageBench) saved() {
	p.Helper()
	file := p.write("job.py", "print('one secret')\nsame\n")
	p.must("alice", "save", "tank/daily", file, "--description", hostileName, "--comment", "first")
	p.write("job.py", "# /// py3run\n# [variables.level]\n# type = \"number\"\n# min = 1\n# doc = \"<b>metres\"\n# ///\nprint('two secret <script>')\nsame\n")
	p.must("alice", "save", "tank/daily", file)
	p.must("alice", "save", "tank/run", file)
	p.must("alice", "share", "tank/run", "--with", "bob", "--actions", "run")
	p.must("alice", "share", "tank/run", "--with", "carol", "--actions", "read")
	p.must("alice", "save", "tank/public", file, "--public")
	p.update()
}

// Each page shows to each visitor what the commands would.
func TestPagesByVisitor(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	p.start()
	p.saved()
	everybody := []string{"", "admin", "audra", "alice", "bob", "carol"}
	for _, c := range []struct {
		address string
		text    string
		see     []string // the text; the others do not
		code    int      // of these others; 0: they see the rest of the page, or do not know of the script
	}{
		{"/", "Only runs of", []string{"alice", "bob", "carol"}, 200},
		{"/usage", ">alice</a>", []string{"", "admin", "audra", "alice"}, 200},
		{"/usage", hostileName + " (asserted)", []string{"", "admin", "audra"}, 200},
		{"/usage?by=script", ">tank/daily</a>", []string{"", "admin", "audra", "alice"}, 200},
		{"/usage?by=label&name=line", ">north</a>", []string{"", "admin", "audra", "alice"}, 200},
		{"/usage?user=bob", ">bob</a>", []string{"", "admin", "audra", "bob"}, 200},
		{"/usage", "Runs that count now", []string{"", "admin", "audra"}, 200},
		{"/scripts", "tank/daily</a>", []string{"", "admin", "alice"}, 200},
		{"/scripts", "tank/run</a>", []string{"", "admin", "alice", "bob", "carol"}, 200},
		{"/scripts", "tank/public</a>", []string{"", "admin", "alice", "bob"}, 200},
		{"/scripts", "shared with bob and 1 more", []string{"", "admin", "alice", "carol"}, 200},
		{"/scripts/tank/daily", "two secret", []string{"", "admin", "alice"}, 404},
		{"/scripts/tank/daily?version=1", "one secret", []string{"", "admin", "alice"}, 404},
		{"/scripts/tank/daily?from=1&to=2", "one secret", []string{"", "admin", "alice"}, 404},
		{"/scripts/tank/run", "Script tank/run", []string{"", "admin", "alice", "bob", "carol"}, 404},
		{"/scripts/tank/run", "two secret", []string{"", "admin", "alice", "carol"}, 0},
		{"/scripts/tank/run", "shared with bob: nothing", []string{"", "admin", "alice", "carol"}, 0},
		{"/scripts/tank/public", "two secret", []string{"", "admin", "alice", "bob"}, 404},
		{"/people", "Who had access when?", []string{"", "admin", "audra"}, 403},
		{"/people?ask=1&script=tank/daily", "script.author", []string{"", "admin", "audra"}, 403},
	} {
		for _, who := range everybody {
			code, body := p.get(who, c.address)
			sees := holds(body, c.text) || strings.Contains(c.text, "</a>") && strings.Contains(body, c.text)
			if sees != slices.Contains(c.see, who) {
				t.Errorf("%s for %q: sees %q: %v", c.address, who, c.text, sees)
			}
			want := 200
			if !slices.Contains(c.see, who) && c.code != 0 {
				want = c.code
			}
			if code != want && !(c.code == 0 && code == 404) {
				t.Errorf("%s for %q: code %d, want %d", c.address, who, code, want)
			}
		}
		if code, body := p.get("nobody", c.address); code != 401 || holds(body, c.text) {
			t.Errorf("%s for nobody: %d", c.address, code)
		}
	}
}

// A look at somebody else's code, and at everybody's runs, is a record; one at one's own is none.
func TestPagesRecordLooks(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	p.start()
	p.saved()
	for _, c := range []struct {
		who, address string
		want         []string
	}{
		{"alice", "/scripts/tank/daily", nil},
		{"alice", "/usage", nil},
		{"admin", "/", nil},
		{"bob", "/scripts/tank/run", nil},
		{"admin", "/scripts/tank/daily", []string{"admin code-view tank/daily@2", "admin history-view /scripts/tank/daily"}},
		{"admin", "/scripts/tank/daily?from=1&to=2", []string{"admin code-view tank/daily@1"}},
		{"audra", "/usage", []string{"audra history-view /usage?by=user&since=7d"}},
		{"audra", "/usage?sort=cpu", nil},
		{"audra", "/scripts", []string{"audra history-view /scripts"}},
		{"bob", "/scripts/tank/public", []string{"bob code-view tank/public@1"}},
	} {
		before := len(p.views())
		if code, _ := p.get(c.who, c.address); code != 200 {
			t.Errorf("%s for %s: %d", c.address, c.who, code)
		}
		if got := p.views()[before:]; !slices.Equal(got, c.want) {
			t.Errorf("%s for %s: %q, want %q", c.address, c.who, got, c.want)
		}
	}
}

// The pages say what the commands say, and nothing in a name is code.
func TestPagesOfHostileNames(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	p.start()
	p.saved()
	for _, address := range []string{"/", "/usage", "/usage?by=script", "/usage?by=label&name=line", "/usage?user=" + url.QueryEscape(hostileName), "/usage?by=label&name=" + url.QueryEscape(hostileName),
		"/scripts", "/scripts?q=" + url.QueryEscape(hostileName), "/scripts/tank/daily", "/scripts/tank/daily?from=1&to=2", "/people?ask=1&user=" + url.QueryEscape(hostileName) + "&at=" + url.QueryEscape(hostileName),
		"/people?ask=1&script=" + url.QueryEscape(hostileName)} {
		code, body := p.get("", address)
		if code != 200 || strings.Contains(body, "<script>alert") || strings.Contains(body, "secret <script>") || strings.Contains(body, "<b>metres") || strings.Contains(body, `"">`) {
			t.Errorf("%s: %d %s", address, code, body)
		}
	}
}

// No address is a fault.
func TestPagesOfAnyAddress(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	p.start()
	p.saved()
	values := []string{"", "0", "-1", "1", "2", "99999999999999999999", "1e9", "x", hostileName, "24h", "9999d", "2026-11-24", "0001-01-01", "9999-12-31T23:59:59Z", "group:operators", "tank/daily", "tank/daily@1", "../../etc", "%", "user", "label", "-p95", "a=b", "\x00"}
	names := []string{"span", "refresh", "by", "name", "sort", "since", "until", "user", "script", "host", "label", "q", "after", "version", "from", "to", "before", "ask", "at", "status", "code", "client"}
	for _, address := range []string{"/scripts/", "/scripts/x", "/scripts/%00", "/scripts/..%2f..%2fetc", "/scripts/" + url.PathEscape(hostileName), "/scripts/tank/daily@1"} {
		if code, _ := p.get("", address); code != 404 {
			t.Errorf("%s: %d", address, code)
		}
	}
	for _, path := range []string{"/", "/usage", "/scripts", "/scripts/tank/daily", "/people"} {
		for i, name := range names {
			for j, value := range values {
				other := names[(i+j)%len(names)]
				q := url.Values{name: {value}, other: {values[(i*7+j)%len(values)]}, "ask": {"1"}}
				who := []string{"", "alice"}[(i+j)%2]
				if code, body := p.get(who, path+"?"+q.Encode()); code >= 500 {
					t.Fatalf("%s?%s for %q: %d %s", path, q.Encode(), who, code, body)
				}
			}
		}
	}
}

// What the pages find by the index about a time is what access who finds in the whole log.
func TestAccessOfATimeByTheIndex(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	times := []time.Time{time.Now().Add(-time.Hour)}
	do := func(user string, args ...string) {
		t.Helper()
		if _, err, code := p.ask(user, args...); code != 0 {
			t.Fatalf("%q: %s", args, err)
		}
		time.Sleep(2 * time.Millisecond)
		times = append(times, time.Now())
		time.Sleep(2 * time.Millisecond)
	}
	file := p.write("job.py", "print(1)\n")
	do("alice", "script", "save", "tank/daily", file)
	do("", "user", "add", "dora", "--role", "python3-executor")
	do("alice", "script", "share", "tank/daily", "--with", "dora")
	do("", "user", "disable", "dora")
	do("", "user", "enable", "dora")
	do("alice", "script", "public", "tank/daily")
	do("alice", "script", "rm", "tank/daily")
	do("alice", "script", "save", "tank/daily", file)
	p.start()
	index, err := p.index.get()
	p.log.must(err)
	g, err := (&app{out: io.Discard, err: io.Discard, environ: p.context.environ}).newGate()
	p.log.must(err)
	who, err := g.Again("")
	p.log.must(err)
	for _, script := range []string{"", "tank/daily"} {
		for i, at := range times {
			stamp := at.UTC().Format(time.RFC3339Nano)
			answer, err := who.Access(index, web.AccessQuestion{Script: script, At: stamp}, time.Now())
			p.log.must(err)
			args := []string{"access", "who", "--at", stamp, "--format", "json"}
			if script != "" {
				args = append(args, "--script", script)
			}
			out, said, code := p.ask("", args...)
			if (code != 0) != (answer.Problem != "" && len(answer.Users) == 0) {
				t.Errorf("%d %q: the command says %d %s, and the pages %q", i, script, code, said, answer.Problem)
				continue
			}
			n := 0
			for line := range strings.Lines(out) {
				var s shownAccess
				p.log.must(json.Unmarshal([]byte(line), &s))
				if n >= len(answer.Users) || fmt.Sprint(web.UserAccess(s)) != fmt.Sprint(answer.Users[n]) {
					t.Errorf("%d %q: %s, and the pages say %+v", i, script, line, answer.Users)
					break
				}
				n++
			}
			if n != len(answer.Users) {
				t.Errorf("%d %q: %d users, and the pages have %d", i, script, n, len(answer.Users))
			}
		}
	}
}

// The overview says what is signed, and sees a record that is another than the one that was signed.
func TestTrustOfTheOverview(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	f := &fixture{T: t, logContext: logContext{dir: filepath.Join(p.dir, "audit")}, log: p.log.log}
	key, dir := filepath.Join(p.dir, "sign"), filepath.Join(p.dir, "checkpoints")
	if _, err, code := p.ask("", "audit", "keygen", "--out", key); code != 0 {
		t.Fatal(err)
	}
	p.start()
	if _, body := p.get("", "/"); !holds(body, "no checkpoint") {
		t.Error("a log without checkpoints says nothing about it")
	}
	p.common.with = verification{checkpoints: dir, keys: key + ".pub"}
	if _, body := p.get("", "/"); !holds(body, "cannot be read") {
		t.Error("a directory that is not there says nothing")
	}
	p.faults = nil
	if _, err, code := p.ask("", "audit", "checkpoint", "--key", key, "--out", dir); code != 0 {
		t.Fatal(err)
	}
	signed := len(p.records())
	p.update()
	if _, body := p.get("", "/"); !holds(body, "to record "+fmt.Sprint(signed)) || !holds(body, "That record is the one that was signed.") {
		t.Errorf("signed to %d: %s", signed, body)
	}
	f.run("alice", "ok", nil)
	p.update()
	if _, body := p.get("", "/"); !holds(body, "2 newer records are not signed") {
		t.Error("what is newer than the checkpoint is not told")
	}
	// An index of another log with the same number of records leads to another line.
	p.log.must(os.Remove(p.index.path))
	text, err := os.ReadFile(filepath.Join(f.dir, "audit.jsonl"))
	p.log.must(err)
	lines := strings.SplitAfter(string(text), "\n")
	lines[signed-1] = strings.Replace(lines[signed-1], `"session-start"`, `"session-ended"`, 1)
	p.log.must(os.WriteFile(filepath.Join(f.dir, "audit.jsonl"), []byte(strings.Join(lines, "")), 0o600))
	p.log.must(p.context.update(p.index.path, true, false))
	if _, body := p.get("", "/"); !holds(body, "That record is not the one that was signed.") {
		t.Error("a record that was changed is not told")
	}
}

// Open alerts are those that nobody has acknowledged, and that the visitor may see.
func TestOpenAlertsOfTheOverview(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	alert := func(rule, user string) uint64 {
		rec := audit.Record{User: audit.User{Name: user}, Event: audit.Event{Action: audit.Alerted, Outcome: audit.Unknown, Reason: rule}, Alert: &audit.Alert{Rule: rule, Title: hostileName, Seq: 1}}
		receipt, err := p.log.log.Append(rec)
		p.log.must(err)
		return receipt.Seq
	}
	seen := alert(ruleDenials, "alice")
	alert(ruleDenials, "alice")
	alert(ruleRoles, "alice")
	if _, err := p.log.log.Append(audit.Record{Event: audit.Event{Action: audit.AuditAcknowledged, Outcome: audit.Success}, Ack: &audit.Acknowledged{Alert: seen, Kind: ruleDenials, Seq: 1, Comment: "x"}}); err != nil {
		t.Fatal(err)
	}
	p.start()
	for who, want := range map[string]string{"": "1 " + ruleDenials + ", 1 " + ruleRoles, "alice": "1 " + ruleDenials + "</small>", "bob": `<small>Open alerts</small><b>0</b>`} {
		if _, body := p.get(who, "/"); !strings.Contains(body, want) {
			t.Errorf("for %q there is no %q", who, want)
		}
	}
}

// Refusals that only a summary tells count where they belong.
func TestRefusalsOfTheUsagePage(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	now := time.Now()
	rec := operator()
	rec.Auth.Method = audit.AuthAPIKey
	if _, err := p.log.log.Append(rec.OfRefusals("alice", "per-user-per-minute", 7, now.Add(-time.Minute), now)); err != nil {
		t.Fatal(err)
	}
	p.start()
	for who, want := range map[string]bool{"": true, "alice": true, "bob": false} {
		if _, body := p.get(who, "/usage"); strings.Contains(body, "of them 7 in summaries") != want {
			t.Errorf("/usage for %q", who)
		}
		if _, body := p.get(who, "/"); strings.Contains(body, "<small>Refused</small><b>7</b>") != want {
			t.Errorf("/ for %q", who)
		}
	}
}
