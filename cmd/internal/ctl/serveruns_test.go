package ctl

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
	"py3run/internal/activity"
)

// oneVisitor lets one visitor in, by the one-time token.
type oneVisitor struct {
	who web.Visitor
	err error
}

func (o oneVisitor) Holder(string) (web.Visitor, web.Pass, error) { return o.who, "", o.err }
func (o oneVisitor) Again(web.Pass) (web.Visitor, error)          { return o.who, o.err }
func (o oneVisitor) Denied(error)                                 {}

// A reader is somebody before the pages of a log.
type pageReader struct {
	*testing.T
	handler http.Handler
	cookie  string
	faults  *strings.Builder
}

// pages opens the pages of the fixture's log to a visitor, whose address is a port of nobody.
func (b *fixture) pages(v visitor) *pageReader {
	b.Helper()
	path := b.indexPath("")
	b.must(b.update(path, false, false))
	index, err := store.OpenIndex(path)
	b.must(err)
	b.Cleanup(func() { index.Close() })
	p := &pageReader{T: b.T, faults: &strings.Builder{}}
	server, token := web.New(web.Options{Gate: oneVisitor{v, nil}, Index: func() (*store.Index, error) { return index, nil }, Zone: time.UTC, Hosts: []string{"pages"},
		Log: func(err error) { fmt.Fprintln(p.faults, err) }})
	p.handler = server.Handler()
	_, answer := p.ask(http.MethodGet, "/sign-in?token="+token, nil)
	if p.cookie, _, _ = strings.Cut(answer.Header().Get("Set-Cookie"), ";"); p.cookie == "" {
		b.Fatalf("no session: %d %s", answer.Code, answer.Body)
	}
	return p
}

// ask sends a request. An answer of 500 or more fails the test.
func (p *pageReader) ask(method, address string, form url.Values) (string, *httptest.ResponseRecorder) {
	p.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, address, body)
	r.Host = "pages"
	r.Header.Set("Cookie", p.cookie)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	if w.Code >= 500 || p.faults.Len() > 0 {
		p.Errorf("%s %s: %d: %s", method, address, w.Code, p.faults)
		p.faults.Reset()
	}
	return w.Body.String(), w
}

// get is the text of a page with this code.
func (p *pageReader) get(address string, code int) string {
	p.Helper()
	text, answer := p.ask(http.MethodGet, address, nil)
	if answer.Code != code {
		p.Errorf("%s: %d, want %d: %s", address, answer.Code, code, text)
	}
	return text
}

// post is the address to which a form leads.
func (p *pageReader) post(address string, form url.Values, code int) string {
	p.Helper()
	text, answer := p.ask(http.MethodPost, address, form)
	if answer.Code != code {
		p.Errorf("POST %s: %d, want %d: %s", address, answer.Code, code, text)
	}
	return answer.Header().Get("Location")
}

const somePolicy = `version = 1
[user.alice]
roles = ["python3-executor"]
os-user = "alice"
[user.carol]
roles = ["auditor"]
os-user = "carol"
[user.dave]
roles = ["script-admin", "python3-executor"]
os-user = "dave"
[user.erin]
roles = ["python3-executor", "auditor"]
os-user = "erin"
`

// visitor is somebody as the policy knows that user of the operating system; an empty name is the operator.
func (b *fixture) visitor(name string) visitor {
	b.Helper()
	v := visitor{logContext: b.logContext, app: &app{out: io.Discard, err: io.Discard}, common: &common{}}
	v.out, v.err = io.Discard, io.Discard
	if name == "" {
		return v
	}
	policy, findings := access.Parse("policy.toml", somePolicy)
	if len(findings) > 0 {
		b.Fatal(findings)
	}
	grant, denied := policy.Identify(access.Claim{OSUID: 1000, OSUser: name, At: time.Now()})
	if denied != nil {
		b.Fatal(denied)
	}
	v.who = &actor{policy: policy, grant: grant}
	var err error
	v.only, err = v.who.sees()
	b.must(err)
	return v
}

// ran makes a run with code that is kept, and returns its id.
func (b *fixture) ran(user, code string, change func(start, end *audit.Record)) string {
	b.Helper()
	b.runs++
	b.must(b.log.KeepCode([]byte(code)))
	sum := sha256.Sum256([]byte(code))
	start := audit.Record{RunID: fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", b.runs), User: audit.User{Name: user}, Host: audit.ThisHost(), Auth: audit.Auth{Method: audit.AuthOSUser, OSUser: user, OSUID: 1000},
		Command: "execute", Invoked: &audit.Invocation{Command: "exec"}, Code: audit.Code{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(code)), Stored: true},
		Limits: map[string]float64{"timeout_seconds": 10, "memory_mb": 64, "processes": 8}, Event: audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}}
	end := start
	end.Status, end.Hooks, end.Event = "ok", &activity.Summary{Imports: new(3)}, audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Success, DurationNS: 5e9}
	end.Process, end.Isolation = &audit.Process{CPUMS: 700, PeakMemoryBytes: 32 << 20, StdoutBytes: new(int64(7)), StderrBytes: new(int64(0))}, &audit.Isolation{Method: "namespace", Enforced: []string{"pid-namespace"}, Missing: []audit.Gap{}}
	if change != nil {
		change(&start, &end)
	}
	run, _, err := b.log.Begin(start)
	b.must(err)
	_, err = run.End(end)
	b.must(err)
	return start.RunID
}

// count is how many records the log has of an action.
func (b *fixture) count(a audit.Action) int {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "audit.jsonl"))
	b.must(err)
	return strings.Count(string(text), `"action":"`+string(a)+`"`)
}

const someCode = "print('the code of bob')\n"

// Who sees, runs again and cancels which runs follows from the policy; looks at others leave records.
func TestRunPagesByRole(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		user               string
		sees, again, ends  bool // of bob's runs
		views, cancelShown int  // records of looks; links to cancel
	}{
		{"alice", false, false, false, 0, 1},
		{"zoe", false, false, false, 0, 0}, // not in the policy
		{"carol", true, false, false, 3, 0},
		{"dave", true, true, true, 3, 2},
		{"erin", true, true, false, 3, 0},
		{"", true, true, true, 3, 2},
	} {
		t.Run("user "+c.user, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t)
			own := b.ran("alice", "print('alice')\n", nil)
			bobs := b.ran("bob", someCode, nil)
			b.runs = 3
			live, _ := b.launcher("bob", false)
			mine, _ := b.launcher("alice", false)
			p := b.pages(b.visitor(c.user))
			code := func(may bool, yes int) int {
				if may {
					return yes
				}
				return http.StatusNotFound
			}
			p.lists(own, bobs, live, c.sees || c.user == "alice", c.sees)
			page := p.get("/runs/"+bobs, code(c.sees, 200))
			if strings.Contains(page, "the code of bob") {
				t.Error("the code is shown before anybody asks for it")
			}
			if got := strings.Contains(page, "/again"); got != c.again {
				t.Errorf("to run again is offered: %v", got)
			}
			if b.count(audit.CodeViewed) != 0 {
				t.Error("a look at code is recorded that nobody took")
			}
			if c.sees {
				if got := p.get("/runs/"+bobs+"?show=code", 200); strings.Contains(got, "This filter cannot be used") || !strings.Contains(got, "the code of bob") || !strings.Contains(got, "their SHA-256 is the one in the record") {
					t.Error("the code is not shown")
				}
				p.get("/runs/"+bobs+"?show=code", 200)
				p.get("/history", 200)
				if b.count(audit.CodeViewed) != 1 {
					t.Errorf("%d records of the look at the code", b.count(audit.CodeViewed))
				}
			}
			p.get("/runs/"+bobs+"/code", code(c.sees, 200))
			if again := p.get("/runs/"+bobs+"/again", map[bool]int{true: 200, false: code(c.sees, 403)}[c.again]); c.again && !strings.Contains(again, "again="+bobs) {
				t.Error("the page does not say what will run")
			}
			p.post("/runs/"+bobs+"/again", url.Values{"variables": {"[]"}}, map[bool]int{true: 422, false: code(c.sees, 403)}[c.again])
			shown := p.get("/live", 200)
			if strings.Contains(shown, live) != c.sees || strings.Count(shown, "/cancel\"") != c.cancelShown {
				t.Errorf("live: %s", shown)
			}
			p.get("/live/"+live+"/cancel", map[bool]int{true: 200, false: code(c.sees, 403)}[c.ends])
			p.post("/live/"+live+"/cancel", url.Values{"reason": {"too long"}}, map[bool]int{true: 303, false: code(c.sees, 403)}[c.ends])
			if got := b.count(audit.ExecutionCancel); got != map[bool]int{true: 1}[c.ends] || c.ends && !strings.Contains(b.file(b.dir, "audit.jsonl"), `"cancel":{"reason":"too long"}`) {
				t.Errorf("%d records of a cancel", got)
			}
			if c.user == "alice" {
				p.post("/live/"+mine+"/cancel", url.Values{}, 303)
			}
			if got := b.count(audit.HistoryViewed); (got > 0) != (c.views > 0) || got < c.views {
				t.Errorf("%d records of looks, want %d or more", got, c.views)
			}
		})
	}
}

// lists looks for the runs of alice and of bob in all lists of runs.
func (p *pageReader) lists(alices, bobs, live string, own, sees bool) {
	p.Helper()
	list := p.get("/history", 200)
	if strings.Contains(list, bobs) != sees || strings.Contains(list, live) != sees {
		p.Errorf("bob's runs are in the list: %v", !sees)
	}
	if strings.Contains(list, alices) != own {
		p.Errorf("alice's run is in the list: %v", !own)
	}
	if got := p.get("/history?user=bob", 200); strings.Contains(got, "/runs/"+bobs) != sees {
		p.Error("the name of the user finds what the list does not have, or the other way round")
	}
	if got := p.get("/history.csv", 200); strings.Contains(got, bobs) != sees {
		p.Error("CSV has other runs than the list")
	}
}

// A look at one's own run leaves no record, and shows the code at once.
func TestOwnRunPage(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	id := b.ran("alice", "one = 1\nraise ValueError\n", func(start, end *audit.Record) {
		start.Labels = map[string]string{"job": "7"}
		end.Labels, end.Status, end.Event.Outcome = start.Labels, "memory_limit", audit.Failure
		end.Process.PeakMemoryBytes = 64 << 20
		end.Isolation.Missing = []audit.Gap{{Name: "memory-limit", Why: "no control group"}}
		end.Hooks.Connections = []activity.Connection{{Host: "10.0.0.1", Port: 443, Via: "native", Count: 2, Program: "/usr/bin/curl"}}
		end.Hooks.FilesWritten, end.Hooks.FilesDeleted, end.Hooks.Dropped = []string{"/tmp/out.txt"}, []string{"/tmp/gone.txt"}, 4
		end.Output = &audit.Output{Stderr: &audit.Stream{Bytes: 90, SHA256: strings.Repeat("0", 64), Head: "Traceback (most recent call last):\n  File \"main.py\", line 2, in <module>\n  File \"other.py\", line 1, in f\n"}}
	})
	b.ran("alice", "one = 1\nraise ValueError\n", nil)
	p := b.pages(b.visitor("alice"))
	text := p.get("/runs/"+id, 200)
	for _, want := range []string{"memory_limit", "work in smaller pieces", "64.0 MiB of 64.0 MiB", "memory-limit</b>: no control group", "10.0.0.1:443", "seen by native, of /usr/bin/curl", "2 times", "/tmp/gone.txt",
		"4 more events had no room", `class="l marked" id="L2"`, "does not say where in the code", "job=7", "Start, number 1", "End, number 2", "The same code", "Next run", "run again"} {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(text, `marked" id="L1"`) {
		t.Error("the line of another file is marked")
	}
	if n := b.count(audit.HistoryViewed) + b.count(audit.CodeViewed); n != 0 {
		t.Errorf("%d records of looks at own runs", n)
	}
	if got := p.get("/runs/"+id+"/code", 200); got != "one = 1\nraise ValueError\n" {
		t.Errorf("code %q", got)
	}
}

// Where the record says where a limit struck, the page shows it, and marks the lines of the code.
func TestRunPageOfAFailure(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	id := b.ran("alice", "one = 1\nwhile one:\n    pass\n", func(_, end *audit.Record) {
		end.Status, end.Event.Outcome = "timeout", audit.Failure
		end.Process.PeakProcesses = 3
		end.Failure = &audit.FailureDetail{Limit: &audit.LimitHit{Name: "timeout_seconds", Configured: 10, Used: 10.25},
			Where: []audit.Frame{{File: "/lib/<script>.py", Line: 1, Function: "outer"}, {File: "main.py", Line: 3, Function: "<script>alert(1)", Thread: 2}}}
	})
	p := b.pages(b.visitor("alice"))
	text := p.get("/runs/"+id, 200)
	for _, want := range []string{"when the limit struck, as the program says", "&lt;script&gt;alert(1)", `class="l marked" id="L3"`, "10.25 s of 10.00 s", "3 of 8"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	for _, not := range []string{"does not say where", `marked" id="L1"`, "<script>alert"} {
		if strings.Contains(text, not) {
			t.Errorf("%q is on the page", not)
		}
	}
}

// Whatever an address or a form has in it, and whatever has become of the log, a page says what is wrong.
func TestRunPagesGoneWrong(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	id := b.ran("alice", "print(1)\n", nil)
	b.run("alice", "ok", nil) // nobody knows its code
	p := b.pages(b.visitor(""))
	second := "01a20d4b-0000-7000-8000-000000000002"
	for _, c := range []struct {
		address string
		code    int
		want    string
	}{
		{"/history?since=never", 200, `aria-describedby="fault-since"`},
		{"/history?since=never", 200, `value="never"`},
		{"/history?status=x", 200, `id="fault-status"`},
		{"/history?client=x&code=1&label=x", 200, "cannot be used"},
		{"/history.csv?since=never", 422, "cannot be used"},
		{"/history?before=x", 422, "no page of the list"},
		{"/history?before=99999999999999999999", 422, "no page of the list"},
		{"/history?before=2&newer=0.x", 422, "no page of the list"},
		{"/history?before=9223372036854775807", 200, second},
		{"/history?until=2020-01-01", 200, "No run matches"},
		{"/history?since=2099-01-01", 200, "No run matches"},
		{"/history?text=nothing-has-this", 200, "no map for these filters"},
		{"/history?user=%00%ff%3Cscript%3E", 200, "&lt;script&gt;"},
		{"/runs/x", 404, "no run of this id"},
		{"/runs/01a20d4b-0000-7000-8000-000000000099", 404, "no run of this id"},
		{"/runs/" + strings.Repeat("a", 500), 404, "no run of this id"},
		{"/runs/..%2f..%2fetc", 404, "no run of this id"},
		{"/runs/" + second, 200, "does not say which"},
		{"/runs/" + second + "/again", 404, "does not say which"},
		{"/runs/" + second + "/proof", 409, "start them with --checkpoints"},
		{"/runs/" + id + "/proof", 409, "start them with --checkpoints"},
		{"/again/x", 404, "no such result"},
		{"/live/x/cancel", 404, "is alive"},
		{"/live/" + id + "/cancel", 404, "is alive"},
	} {
		if text := p.get(c.address, c.code); !strings.Contains(text, c.want) {
			t.Errorf("%s: %q is not in\n%s", c.address, c.want, text)
		}
	}
	p.post("/live/"+id+"/cancel", url.Values{"reason": {strings.Repeat("x", 2000)}}, 404)
	p.post("/runs/"+id+"/again", url.Values{"variables": {"{"}}, 422)
	p.post("/runs/"+id+"/again", url.Values{"variables": {"null"}}, 422)

	// The log is damaged, and then gone, under the pages.
	current := filepath.Join(b.dir, "audit.jsonl")
	text, err := os.ReadFile(current)
	b.must(err)
	b.must(os.WriteFile(current, append([]byte("{}\n"), text[3:]...), 0o600))
	if text := p.get("/runs/"+id+"?show=code", 200); !strings.Contains(text, "Start: read record 1") {
		t.Errorf("damaged: %s", text)
	}
	b.must(os.WriteFile(filepath.Join(b.dir, "code", hashSumOf("print(1)\n")), []byte("print(2)\n"), 0o600))
	if text := p.get("/runs/"+id+"?show=code", 200); !strings.Contains(text, "not the code that was run") || strings.Contains(text, "print(2)") {
		t.Errorf("other code: %s", text)
	}
}

func hashSumOf(code string) string {
	sum := sha256.Sum256([]byte(code))
	return hex.EncodeToString(sum[:])
}

// Names are shown as they are, and do nothing; a cell of CSV is no formula.
func TestHostileRunPages(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>` + "\x1b[31m\u202e"
	id := b.ran(hostile, "x = '</pre><script>alert(3)</script>'\n", func(start, end *audit.Record) {
		start.Script = audit.Script{Name: hostile, Version: "1\"", Source: audit.ScriptStored, Path: hostile}
		start.Labels, start.Client.IP, start.Auth.SudoUser, start.Auth.KeyID = map[string]string{hostile: hostile}, hostile, hostile, hostile
		start.Invoked = &audit.Invocation{Command: hostile, Argv: []string{hostile}}
		start.Variables = audit.Variables{Count: 1, List: []audit.Variable{{Name: hostile, Type: hostile}}}
		e := *end
		*end = *start
		end.Event, end.Status, end.Process, end.Isolation, end.Hooks = e.Event, hostile, e.Process, &audit.Isolation{Method: hostile, Enforced: []string{hostile}, Missing: []audit.Gap{{Name: hostile, Why: hostile}}}, e.Hooks
		end.Event.Reason = hostile
		end.Hooks.FilesWritten, end.Hooks.FlaggedImports = []string{hostile}, []activity.FlaggedImport{{Module: hostile, Why: hostile}}
		end.Hooks.Processes = []activity.Process{{Program: hostile, Args: []string{hostile}, Via: hostile, Count: 1}}
		end.Output = &audit.Output{Stdout: &audit.Stream{Bytes: 1, SHA256: hostile, Head: hostile}}
		end.Python = &audit.Python{Version: hostile, Executable: hostile}
	})
	b.ran("=cmd|' /C calc'!A0", "1\n", nil)
	b.runs = 4
	live, _ := b.launcher(hostile, false)
	p := b.pages(b.visitor(""))
	for _, address := range []string{"/history", "/history?text=" + url.QueryEscape(hostile), "/history?user=" + url.QueryEscape(hostile) + "&label=" + url.QueryEscape("a="+hostile), "/runs/" + id, "/runs/" + id + "?show=code", "/runs/" + id + "/again", "/live", "/live/" + live + "/cancel", "/live?asked=" + url.QueryEscape(hostile)} {
		text, answer := p.ask(http.MethodGet, address, nil)
		if answer.Code != 200 && answer.Code != 409 && answer.Code != 404 {
			t.Errorf("%s: %d", address, answer.Code)
		}
		for _, bad := range []string{"<script>alert", "<img", "</pre><script>"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %s", address, bad)
			}
		}
	}
	rows, err := csv.NewReader(strings.NewReader(p.get("/history.csv", 200))).ReadAll()
	if err != nil || len(rows) < 3 || strings.Join(rows[0], ",") != strings.Join(runColumns, ",") {
		t.Fatalf("%q, %v", rows, err)
	}
	for _, row := range rows {
		for _, one := range row {
			if one != "" && strings.ContainsAny(one[:1], "=+-@") || strings.Contains(one, "\x1b") {
				t.Errorf("cell %q", one)
			}
		}
	}
}

// Runs whose launchers died are orphaned, as history shows them, before anybody has recorded that.
func TestOrphanedRunPages(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	b.run("alice", "", nil)
	dead := "01a20d4b-0000-7000-8000-000000000002"
	open := b.run("alice", "", nil)
	defer open.End(audit.Record{})
	alive := "01a20d4b-0000-7000-8000-000000000003"
	file := filepath.Join(b.dir, "runs", dead)
	text, err := os.ReadFile(file)
	b.must(err)
	b.must(os.Remove(file)) // the lock goes with it
	b.must(os.WriteFile(file, text, 0o600))
	p := b.pages(b.visitor(""))
	for address, want := range map[string][2]bool{ // dead, alive
		"/history": {true, true}, "/history?status=orphaned": {true, false}, "/history?status=running": {false, true}, "/history.csv?status=orphaned": {true, false}, "/history.csv?rows=page&status=running": {false, true},
	} {
		if text := p.get(address, 200); strings.Contains(text, dead) != want[0] || strings.Contains(text, alive) != want[1] {
			t.Errorf("%s: want %v: %s", address, want, text)
		}
	}
	if text := p.get("/runs/"+dead, 200); !strings.Contains(text, "its launcher died") {
		t.Error(text)
	}
	if text := p.get("/runs/"+alive, 200); !strings.Contains(text, "It is under way") {
		t.Error(text)
	}
	p.get("/runs/"+alive+"/again", 409)
}

// The proof of a run is the one that the command writes; before there is a checkpoint, the page says what to do.
func TestProofPage(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	w := b.witness()
	id := b.ran("alice", "print(1)\n", nil)
	b.signs(w, time.Now())
	late := b.ran("bob", "print(2)\n", nil)
	v := b.visitor("")
	v.app.with.checkpoints, v.app.with.keys = w.dir, w.keys
	p := b.pages(v)
	text, answer := p.ask(http.MethodGet, "/runs/"+id+"/proof", nil)
	if verdict := judged(t, w, []byte(text)); answer.Code != 200 || !strings.Contains(answer.Header().Get("Content-Disposition"), "proof-"+id+".json") {
		t.Errorf("%d %q %s", answer.Code, verdict, answer.Header())
	}
	if want := string(b.proves(w, id)); text != want {
		t.Errorf("the page has\n%s\nthe command\n%s", text, want)
	}
	if b.count(audit.CodeViewed) != 1 {
		t.Error("the proof has the code, and no record says that somebody has it")
	}
	if text := p.get("/runs/"+late+"/proof", 409); !strings.Contains(text, "audit checkpoint --key") {
		t.Error(text)
	}
	v.common.proving.Lock()
	if text := p.get("/runs/"+id+"/proof", 429); !strings.Contains(text, "another proof") {
		t.Error(text)
	}
	v.common.proving.Unlock()
}

// The queries of the one who has started the pages are that one's alone.
func TestSavedQueriesOnThePage(t *testing.T) {
	t.Parallel()
	b := newServeBench(t, nil)
	b.write("config/py3run/"+queriesName, "version = 1\n[query.failed-jobs]\nuser = \"alice\"\nfailed = true\nlabel = [\"job=7\"]\n")
	const link = `<a href="/history?failed=1&amp;label=job%3D7&amp;user=alice">failed-jobs</a>`
	if text := b.get("", "/history").Body.String(); !strings.Contains(text, link) {
		t.Errorf("no %s in the page of the starter", link)
	}
	if text := b.get("admin", "/history").Body.String(); strings.Contains(text, "failed-jobs") {
		t.Error("the holder of a key sees the queries of the starter")
	}
	b.write("config/py3run/"+queriesName, "broken")
	if w := b.get("", "/history"); w.Code != 200 {
		t.Errorf("with a broken file of queries: %d", w.Code)
	}
}
