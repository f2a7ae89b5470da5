package ctl

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
	"py3run/internal/activity"
)

// record makes a run of what the log says of it.
func (b *fixture) record(rec audit.Record, status string) {
	b.Helper()
	b.runs++
	rec.RunID, rec.Host, rec.Command = fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", b.runs), audit.ThisHost(), "execute"
	rec.Event = audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}
	run, _, err := b.log.Begin(rec)
	b.must(err)
	if status == "" {
		b.Cleanup(func() { run.End(rec) })
		return
	}
	rec.Status, rec.Event = status, audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Success, DurationNS: 1e9}
	rec.Process, rec.Hooks, rec.Isolation = &audit.Process{}, &activity.Summary{}, &audit.Isolation{Enforced: []string{}, Missing: []audit.Gap{}}
	_, err = run.End(rec)
	b.must(err)
}

// someRuns is a log in which each filter has something to tell apart.
func someRuns(t *testing.T) *fixture {
	b := newFixture(t)
	code := func(digit string) audit.Code { return audit.Code{SHA256: strings.Repeat(digit, 64), Bytes: 7} }
	run := &audit.Invocation{Command: "run"}
	for _, r := range []struct {
		audit.Record
		status string
	}{
		{audit.Record{User: audit.User{Name: "alice"}, Auth: audit.Auth{Method: audit.AuthOSUser, OSUser: "alice"}, Invoked: run, Code: code("a"), Labels: map[string]string{"job": "7", "line": "north"},
			Script: audit.Script{Name: "report.py", Source: audit.ScriptFile, Path: "/srv/report.py"}}, "ok"},
		{audit.Record{User: audit.User{Name: "alice"}, Auth: audit.Auth{Method: audit.AuthAsserted, OSUser: "gateway"}, Code: code("b"), Client: audit.Client{IP: "10.0.0.7"}, Labels: map[string]string{"job": "7"}}, "error"},
		{audit.Record{User: audit.User{Name: "alice"}, Auth: audit.Auth{Method: audit.AuthAPIKey, KeyID: "k7qm2x9a", Holder: "gateway-a"}, Code: code("a"), Client: audit.Client{IP: "10.0.1.7"},
			Script: audit.Script{Name: "tank", Version: "3", Source: audit.ScriptStored}}, "timeout"},
		{audit.Record{User: audit.User{Name: "gateway-a"}, Auth: audit.Auth{Method: audit.AuthAPIKey, KeyID: "k7qm2x9a"}, Code: code("b"), Client: audit.Client{IP: "::ffff:10.0.0.9"},
			Script: audit.Script{Name: "tank", Version: "4", Source: audit.ScriptStored}, Labels: map[string]string{"job": "77"}}, "ok"},
		{audit.Record{User: audit.User{Name: "bob"}, Auth: audit.Auth{Method: audit.AuthAsserted}, Code: code("a"), Labels: map[string]string{"job": "7"}}, ""},
	} {
		b.record(r.Record, r.status)
	}
	return b
}

// The index, the log, single records and the live runs take a filter alike.
func TestFilters(t *testing.T) {
	t.Parallel()
	b := someRuns(t)
	for _, c := range []struct {
		filter
		want string // the runs, newest first
	}{
		{filter{}, "5 4 3 2 1"},
		{filter{user: "alice"}, "3 2 1"},
		{filter{user: "alice (asserted)"}, ""},
		{filter{labels: []string{"job=7"}}, "5 2 1"},
		{filter{labels: []string{"line=north", "job=7"}}, "1"},
		{filter{labels: []string{"job="}}, ""},
		{filter{script: "tank"}, "4 3"},
		{filter{script: "tank@3"}, "3"},
		{filter{script: "report.py"}, "1"},
		{filter{client: "10.0.0.7"}, "2"},
		{filter{client: "::ffff:10.0.0.7"}, "2"},
		{filter{client: "10.0.0.0/24"}, "4 2"},
		{filter{client: "::ffff:10.0.0.0/112"}, "4 3 2"},
		{filter{client: "::/0"}, ""},
		{filter{code: "AAAAAAAA"}, "5 3 1"},
		{filter{code: strings.Repeat("b", 64)}, "4 2"},
		{filter{code: strings.Repeat("b", 9) + "c"}, ""},
		{filter{failed: true}, "3 2"},
		{filter{failed: true, labels: []string{"job=7"}}, "2"},
		{filter{status: "timeout"}, "3"},
		{filter{holder: "gateway-a"}, "4 3"},
		{filter{key: "k7qm2x9a", user: "alice"}, "3"},
		{filter{since: "yesterday"}, "5 4 3 2 1"},
		{filter{until: "yesterday"}, ""},
		{filter{since: "today", until: "24h"}, ""},
	} {
		numbers := func(lines []byte) string {
			var list []string
			for line := range bytes.Lines(lines) {
				var r struct {
					RunID string `json:"run_id"`
				}
				b.must(json.Unmarshal(line, &r))
				list = append(list, strings.TrimLeft(r.RunID[len(r.RunID)-12:], "0"))
			}
			return strings.Join(slices.Compact(list), " ")
		}
		now := time.Now()
		q, err := c.filter.query(now)
		b.must(err)
		q.Limit = 100
		log, err := b.logSource()
		b.must(err)
		defer log.Close()
		b.must(b.update(b.indexPath(""), false, false))
		index, err := b.source("")
		b.must(err)
		defer index.Close()
		for name, s := range map[string]store.Source{"log": log, "index": index} {
			var lines bytes.Buffer
			for r, err := range s.History(q) {
				b.must(err)
				b.must(writeJSON(&lines, shown(r)))
			}
			if got := numbers(lines.Bytes()); got != c.want {
				t.Errorf("%+v of the %s: %q, want %q", c.filter, name, got, c.want)
			}
			groups, err := s.Stats(q, store.ByAll)
			b.must(err)
			ended := len(strings.Fields(strings.ReplaceAll(c.want, "5", "")))
			if got := 0; len(groups) > 0 {
				got = int(groups[0].Runs)
				if got != ended {
					t.Errorf("%+v: statistics of the %s have %d runs, want %d", c.filter, name, got, ended)
				}
			} else if ended > 0 {
				t.Errorf("%+v: statistics of the %s have no run", c.filter, name)
			}
		}
		s, err := c.filter.selection(now)
		b.must(err)
		b.must(b.export(s, "json", ""))
		out, _ := b.said()
		want := strings.Fields(c.want)
		slices.Reverse(want)
		if got := numbers([]byte(out)); got != strings.Join(want, " ") {
			t.Errorf("%+v of records: %q, want %q", c.filter, got, want)
		}
		b.must(b.ps(c.filter, "json", now))
		out, _ = b.said()
		if got := numbers([]byte(out)); c.status == "" && !c.failed && (got == "5") != slices.Contains(want, "5") {
			t.Errorf("%+v: alive are %q", c.filter, got)
		}
	}
}

// Whoever reads a user's name sees whether only the caller has named it.
func TestAssertedIsMarked(t *testing.T) {
	t.Parallel()
	b := someRuns(t)
	now := time.Now()
	said := func(err error) string {
		t.Helper()
		b.must(err)
		out, _ := b.said()
		return out
	}
	for name, c := range map[string]struct {
		text   string
		marked int
	}{
		"history":  {said(b.history(question{filter: filter{user: "alice"}, format: "text"}, now)), 1},
		"a run":    {said(b.history(question{run: "000000000002", format: "text"}, now)), 1},
		"stats":    {said(b.stats(question{filter: filter{user: "alice"}, format: "text"}, store.ByUser, now)), 1},
		"live":     {said(b.ps(filter{}, "text", now)), 1},
		"a record": {said(b.show("000000000002", "text")), 2},
		"records":  {said(b.tail(t.Context(), selection{}, 99, false, "text")), 3},
	} {
		if got := strings.Count(c.text, " (asserted)"); got != c.marked {
			t.Errorf("%s: %d marks, want %d:\n%s", name, got, c.marked, c.text)
		}
	}
	if out := said(b.metrics("", "", openMetrics, now)); !strings.Contains(out, `py3run_user_runs_total{user="alice"} 2`) || !strings.Contains(out, `py3run_user_runs_total{user="alice",asserted="true"} 1`) {
		t.Error(out)
	}
	if out := said(b.stats(question{filter: filter{user: "alice"}}, store.ByUser, now)); strings.Count(out, `"key":"alice"`) != 2 || strings.Count(out, `"asserted":true`) != 1 {
		t.Error(out)
	}
}

// The tables name how a run was called, by whom and with which labels.
func TestColumns(t *testing.T) {
	t.Parallel()
	b := someRuns(t)
	b.must(b.history(question{format: "csv"}, time.Now()))
	out, _ := b.said()
	history, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	b.must(err)
	b.must(b.export(selection{}, "csv", ""))
	out, _ = b.said()
	export, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	b.must(err)
	for _, c := range []struct {
		rows       [][]string
		row        int
		name, want string
	}{
		{history, 5, "labels", `{"job":"7","line":"north"}`}, {history, 5, "invocation", "run"}, {history, 5, "script_path", "/srv/report.py"}, {history, 5, "script_source", "file"},
		{history, 3, "script_version", "3"}, {history, 3, "key_id", "k7qm2x9a"}, {history, 3, "holder", "gateway-a"}, {history, 4, "auth", "asserted"}, {history, 4, "client_ip", "10.0.0.7"},
		{history, 4, "os_user", "gateway"}, {history, 4, "code_sha256", strings.Repeat("b", 64)},
		{export, 1, "labels", `{"job":"7","line":"north"}`}, {export, 2, "invocation", "run"}, {export, 1, "script_path", "/srv/report.py"}, {export, 5, "holder", "gateway-a"}, {export, 5, "script_version", "3"},
	} {
		i := slices.Index(c.rows[0], c.name)
		if i < 0 || len(c.rows[c.row]) != len(c.rows[0]) || c.rows[c.row][i] != c.want {
			t.Errorf("%s in row %d of %d: %q, want %q", c.name, c.row, len(c.rows[0]), c.rows[c.row], c.want)
		}
	}
	b.must(b.history(question{run: "000000000003", format: "text"}, time.Now()))
	out, _ = b.said()
	for _, want := range []string{"tank@3, store", "k7qm2x9a of gateway-a", "10.0.1.7", "timeout", strings.Repeat("a", 64) + ", 7 bytes"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// The zone has one name in the help, and its earlier name still works.
func TestZoneFlag(t *testing.T) {
	t.Parallel()
	b := someRuns(t)
	for _, flag := range []string{"--tz", "--zone"} {
		var out, errs bytes.Buffer
		a := &app{out: &out, err: &errs, environ: []string{"HOME=" + t.TempDir()}}
		if code := a.main([]string{"history", "--dir", b.dir, flag, "Pacific/Kiritimati", "--since", "yesterday", "--limit", "1"}); code != 0 || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: exit code %d\n%s%s", flag, code, &out, &errs)
		}
		if code := a.main([]string{"history", "--dir", b.dir, flag, "Nowhere"}); code != exitUsage || !strings.Contains(errs.String(), "for --tz") {
			t.Errorf("%s: exit code %d\n%s", flag, code, &errs)
		}
	}
	var out bytes.Buffer
	a := &app{out: &out, err: &out}
	if a.main([]string{"history", "--help"}); strings.Contains(out.String(), "--zone") || !strings.Contains(out.String(), "--tz") {
		t.Error(out.String())
	}
}
