package ctl

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
	"py3run/internal/activity"
)

// A fixture is a log context before a real log.
type fixture struct {
	*testing.T
	logContext
	out, err *bytes.Buffer
	log      *audit.Log
	runs     int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	log.NoSync = true
	t.Cleanup(func() { log.Close() })
	b := &fixture{T: t, out: &bytes.Buffer{}, err: &bytes.Buffer{}, log: log}
	b.logContext = logContext{dir: dir, config: config.Default(), out: b.out, err: b.err}
	return b
}

func (b *fixture) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// said is what was printed since the last time.
func (b *fixture) said() (out, err string) {
	out, err = b.out.String(), b.err.String()
	b.out.Reset()
	b.err.Reset()
	return out, err
}

// run makes a run; an empty status is one without an end.
func (b *fixture) run(user, status string, hooks *activity.Summary) *audit.Run {
	b.Helper()
	b.runs++
	rec := audit.Record{RunID: fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", b.runs), User: audit.User{Name: user}, Host: audit.ThisHost(), Auth: audit.Auth{Method: audit.AuthOSUser},
		Command: "execute", Event: audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}}
	run, _, err := b.log.Begin(rec)
	b.must(err)
	if status != "" {
		rec.Event = audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Success, DurationNS: 1.5e9}
		if hooks == nil {
			hooks = &activity.Summary{}
		}
		rec.Status, rec.Hooks, rec.Process = status, hooks, &audit.Process{CPUMS: 700, PeakMemoryBytes: 64 << 20}
		rec.Isolation = &audit.Isolation{Enforced: []string{}, Missing: []audit.Gap{}}
		_, err = run.End(rec)
		b.must(err)
	}
	return run
}

// What is JSON here is ASCII, whatever stands in the log.
func TestJSONForTerminals(t *testing.T) {
	t.Parallel()
	line, err := jsonLine(map[string]string{"<é\u202e\x7f\x1b\u2028": "\U0001F600"})
	if want := `{"<\u00e9\u202e\u007f\u001b\u2028":"\ud83d\ude00"}` + "\n"; err != nil || string(line) != want {
		t.Errorf("%s, %v, want %s", line, err, want)
	}
	b := newFixture(t)
	b.run(evil, "ok", &activity.Summary{Connections: []activity.Connection{{Host: evil}}})
	b.must(b.history(question{}, time.Now()))
	b.must(b.stats(question{}, store.ByUser, time.Now()))
	b.must(b.metrics("", "", openMetrics, time.Now()))
	if _, err := b.alerts("", "json", true); err != nil {
		t.Fatal(err)
	}
	out, _ := b.said()
	if strings.ContainsAny(out, "\x1b\u202e\u2028\x7f") || strings.Count(out, `evil\u001b[31m`) != 5 || !strings.Contains(out, `user="evil\\x1b[31m\\u202e\\u2028\\x7f\nnew"`) {
		t.Errorf("%q", out)
	}
}

func TestHistoryAndStats(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	b.run("=cmd|' /C calc'!A0", "timeout", nil)
	b.run("evil\x1b[31m\n", "ok", nil)
	open := b.run("bob", "", nil)
	now := time.Now()
	ask := func(q question) string {
		t.Helper()
		b.must(b.history(q, now))
		out, errs := b.said()
		if errs != "" {
			t.Errorf("on stderr: %s", errs)
		}
		return out
	}
	plainAnswer := ""
	for _, indexed := range []bool{false, true} {
		if indexed {
			b.must(b.update(b.indexPath(""), false, false))
		}
		var users []string
		for line := range strings.Lines(ask(question{})) {
			var r shownRun
			b.must(json.Unmarshal([]byte(line), &r))
			users = append(users, r.User+" "+r.Status)
			if r.Status == "ok" && (r.Duration != 1.5 || r.CPU != 0.7 || r.PeakMemory != 64<<20 || len(r.Hash) != 64 || r.Seq == 0) {
				t.Errorf("%+v", r)
			}
		}
		if got, want := fmt.Sprintf("%q", users), `["bob running" "evil\x1b[31m\n ok" "=cmd|' /C calc'!A0 timeout" "alice ok"]`; got != want {
			t.Errorf("indexed %v: %s, want %s", indexed, got, want)
		}
		if got := ask(question{format: "text"}); strings.ContainsAny(got, "\x1b") || strings.Count(got, "\n") != 6 || !strings.Contains(got, `evil\x1b[31m\n`) {
			t.Errorf("text %q", got)
		}
		rows, err := csv.NewReader(strings.NewReader(ask(question{format: "csv", limit: 3}))).ReadAll()
		if err != nil || len(rows) != 4 || rows[3][3] != "'=cmd|' /C calc'!A0" {
			t.Errorf("csv %q, %v", rows, err)
		}
		if got := ask(question{filter: filter{user: "alice", status: "ok", since: "1h"}}); strings.Count(got, "\n") != 1 {
			t.Errorf("alice: %s", got)
		}
		if got := ask(question{filter: filter{until: "1h"}}); got != "" {
			t.Errorf("before: %s", got)
		}
		b.must(b.stats(question{}, store.ByStatus, now))
		out, _ := b.said()
		if !strings.HasPrefix(out, `{"key":"ok","runs":2,"failed":0,"statuses":{"ok":2},"p50_seconds":1.47456,"p95_seconds":1.5,`) || strings.Count(out, "\n") != 2 {
			t.Errorf("stats %s", out)
		}
		b.must(b.stats(question{format: "text"}, store.ByUser, now))
		if out, _ = b.said(); strings.Count(out, "\n") != 4 || strings.Contains(out, "\x1b") {
			t.Errorf("stats %q", out)
		}
		if !indexed {
			plainAnswer = ask(question{})
		} else if got := ask(question{}); got != plainAnswer {
			t.Errorf("the index answers\n%s\nthe log\n%s", got, plainAnswer)
		}
	}
	// what came since is there at once
	rec := audit.Record{RunID: "01a20d4b-0000-7000-8000-000000000004", Status: "error", User: audit.User{Name: "bob"}, Event: audit.Event{Action: audit.ExecutionEnd}}
	_, err := open.End(rec)
	b.must(err)
	if got := ask(question{filter: filter{user: "bob"}}); !strings.Contains(got, `"status":"error"`) {
		t.Errorf("bob: %s", got)
	}
	for _, bad := range []filter{{since: "tomorrow"}, {until: "-5h"}, {since: "x d"}, {status: "tiemout"}, {client: "10.0.0.0/33"}, {code: "0123456"}, {code: "0123456g"}, {labels: []string{"job"}}, {labels: []string{"a=1", "a=2"}}} {
		if err := b.history(question{filter: bad}, now); err == nil || !cli.IsUsage(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// An index that belongs to another log is made anew, and that is said.
func TestIndexOfAnotherLog(t *testing.T) {
	t.Parallel()
	b, other := newFixture(t), newFixture(t)
	b.run("alice", "ok", nil)
	b.run("alice", "ok", nil)
	for range 4 {
		other.run("carol", "ok", nil)
	}
	path := b.indexPath("")
	b.must(b.update(path, false, false))
	b.must(os.Rename(path, other.indexPath("")))
	b.must(other.history(question{}, time.Now()))
	out, errs := other.said()
	if strings.Count(out, `"user":"carol"`) != 4 || strings.Contains(out, "alice") || !strings.Contains(errs, "it is made anew") {
		t.Errorf("%s%s", out, errs)
	}
}

// An index that cannot be used is no reason to answer nothing.
func TestUnusableIndex(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	path := b.indexPath("")
	for _, c := range []struct {
		name, want string
		spoil      func()
	}{
		{"damaged", "damaged", func() { b.must(os.WriteFile(path, []byte("no database, but a text of some length"), 0o600)) }},
		{"empty", "another version", func() { b.must(os.WriteFile(path, nil, 0o600)) }},
		{"a directory", "is a directory", func() { b.must(errors.Join(os.Remove(path), os.Mkdir(path, 0o700))) }},
	} {
		b.must(b.update(path, true, false))
		c.spoil()
		b.must(b.history(question{}, time.Now()))
		if out, errs := b.said(); strings.Count(out, "\n") != 1 || !strings.Contains(errs, "the log is read instead") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: %s%s", c.name, out, errs)
		}
		if err := b.history(question{index: path}, time.Now()); err == nil || c.name != "a directory" && hint(err) != "py3runctl index --rebuild" {
			t.Errorf("%s, by its name: %v", c.name, err)
		}
		b.said()
	}
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	hooks := func(host string) *activity.Summary {
		return &activity.Summary{Connections: []activity.Connection{{Host: host, Port: 443, Via: "python", Count: 1}}}
	}
	ask := func(want int, everything bool) string {
		t.Helper()
		n, err := b.alerts("", "", everything)
		out, errs := b.said()
		if err != nil || n != want || strings.Count(out, "\n") != want || errs != "" && !strings.Contains(errs, "learned") {
			t.Errorf("%d alerts, %v, want %d\n%s%s", n, err, want, out, errs)
		}
		return out
	}
	b.run("alice", "ok", hooks("10.0.0.1"))
	ask(0, false) // it learns
	ask(0, false)
	b.run("alice", "ok", hooks("10.0.0.1"))
	b.run("alice", "ok", hooks("10.0.0.2"))
	if got := ask(1, false); !strings.Contains(got, `"rule":"new-host"`) || !strings.Contains(got, "10.0.0.2") {
		t.Error(got)
	}
	ask(0, false) // its own record is none
	b.must(b.history(question{}, time.Now()))
	if out, _ := b.said(); strings.Count(out, "\n") != 3 {
		t.Errorf("an alert is no run: %s", out)
	}
	b.must(os.Remove(filepath.Join(b.dir, alertsName)))
	ask(2, true)
	text, err := os.ReadFile(filepath.Join(b.dir, "audit.jsonl"))
	b.must(err)
	if got := strings.Count(string(text), `"action":"alert"`); got != 3 {
		t.Errorf("%d records of alerts, want 3", got)
	}
	// a log that was cut by a record
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	b.must(os.WriteFile(filepath.Join(b.dir, "audit.jsonl"), []byte(strings.Join(lines[:len(lines)-1], "")), 0o600))
	b.run("alice", "ok", nil)
	n, err := b.alerts("", "", false)
	if out, _ := b.said(); err != nil || n == 0 || !strings.Contains(out, `"rule":"tampering"`) {
		t.Errorf("%d alerts, %v: %s", n, err, out)
	}
}

// A line that somebody put between two records is told, once.
func TestAlertOfALine(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	_, err := b.alerts("", "", false)
	b.must(err)
	receipt, err := b.log.Append(audit.Record{Event: audit.Event{Action: "new", Outcome: audit.Unknown}})
	b.must(err)
	current := filepath.Join(b.dir, "audit.jsonl")
	text, err := os.ReadFile(current)
	b.must(err)
	before := len(text) - len(receipt.Line) - 1
	b.must(os.WriteFile(current, slices.Concat(text[:before], []byte("\x1b[2Jnothing happened\n"), text[before:]), 0o600))
	b.said()
	n, err := b.alerts("", "text", false)
	if out, _ := b.said(); n != 1 || err != nil || !strings.Contains(out, "what follows record 2 is no record") || strings.Contains(out, "\x1b") {
		t.Errorf("%d alerts, %v: %q", n, err, out)
	}
	if n, err := b.alerts("", "", false); n != 0 || err != nil {
		t.Errorf("again: %d alerts, %v", n, err)
	}
}

// What cannot be delivered waits, in order, and nothing comes twice when all goes well.
func TestDelivery(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	fail := true
	var posted []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		if fail {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		posted = append(posted, string(text))
	}))
	defer server.Close()
	got := filepath.Join(b.dir, "got")
	b.config.Alerts.Webhook = server.URL
	b.config.Alerts.Command = []string{"/bin/sh", "-c", "cat >> " + got}
	host := func(name string) *activity.Summary {
		return &activity.Summary{Connections: []activity.Connection{{Host: name, Port: 1, Via: "python", Count: 1}}}
	}
	b.run("alice", "ok", host("first"))
	if n, err := b.alerts("", "", true); n != 1 || err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("%d alerts, %v", n, err)
	}
	fail = false
	b.run("alice", "ok", host("second"))
	if n, err := b.alerts("", "", true); n != 1 || err != nil {
		t.Errorf("%d alerts, %v", n, err)
	}
	if n, err := b.alerts("", "", true); n != 0 || err != nil {
		t.Errorf("%d alerts, %v", n, err)
	}
	if len(posted) != 2 || !strings.Contains(posted[0], "first") || !strings.Contains(posted[1], "second") {
		t.Errorf("posted %q", posted)
	}
	if text, _ := os.ReadFile(got); strings.Count(string(text), "\n") != 3 { // the command got the first one twice
		t.Errorf("the command got %s", text)
	}
	b.config.Alerts.Command = []string{"/bin/sh", "-c", "echo broken >&2; exit 3"}
	b.run("alice", "ok", host("third"))
	if _, err := b.alerts("", "", true); err == nil || !strings.Contains(err.Error(), "exit status 3: broken") {
		t.Errorf("error %v", err)
	}
}

func TestMetricsOfALog(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	open := b.run("bob", "", nil)
	defer open.End(audit.Record{})
	b.must(b.metrics("", "", openMetrics, time.Now()))
	out, _ := b.said()
	for _, want := range []string{`py3run_runs_total{status="ok"} 1`, "py3run_running 1", "py3run_audit_seq 3", "# EOF\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
	file := filepath.Join(t.TempDir(), "py3run.prom")
	b.must(b.metrics("", file, prometheus, time.Now()))
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o644 || info.Size() < 1000 {
		t.Errorf("%v, %v", info, err)
	}
}
