package ctl

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/wire"
	"py3run/internal/activity"
)

// What retention has removed is in no answer of the index, nor in its bytes; what is left is told
// as the log tells it.
func TestIndexForgets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		prune func(b *fixture, first string)
	}{
		{"pruned", func(b *fixture, _ string) {
			b.must(b.prune(pruning{yes: true, force: true}, time.Now()))
		}},
		{"segments that have gone", func(b *fixture, first string) {
			b.must(os.Remove(filepath.Join(b.dir, first)))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t)
			rec := audit.Record{RunID: "01a20d4b-0000-7000-8000-00000000beef", User: audit.User{Name: "spans"}, Event: audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}}
			open, _, err := b.log.Begin(rec)
			b.must(err)
			for range 40 {
				b.run("mallory-of-long-ago", "ok", nil)
			}
			rec.RunID, rec.User.Name = "01a20d4b-0000-7000-8000-00000000dead", "never-ends"
			_, err = b.log.Append(rec)
			b.must(err)
			first := "audit-000000000001.jsonl"
			b.age(first, 100)
			b.run("alice", "ok", nil)
			rec.RunID, rec.User.Name = "01a20d4b-0000-7000-8000-00000000beef", "spans"
			rec.Event = audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Success, DurationNS: 5e9}
			rec.Status, rec.Hooks, rec.Process, rec.Isolation = "error", &activity.Summary{}, &audit.Process{}, &audit.Isolation{Enforced: []string{}, Missing: []audit.Gap{}}
			_, err = open.End(rec)
			b.must(err)
			index := b.indexPath("")
			b.must(b.update(index, false, false))
			before, err := os.ReadFile(index)
			b.must(err)
			if !strings.Contains(string(before), "mallory") {
				t.Fatal("the index has no mallory to forget")
			}
			c.prune(b, first)
			b.said()
			ask := func() string {
				b.must(b.history(question{}, time.Now()))
				b.must(b.stats(question{}, store.ByUser, time.Now()))
				b.must(b.stats(question{}, store.ByDay, time.Now()))
				b.must(b.metrics("", "", openMetrics, time.Unix(0, 0)))
				out, errs := b.said()
				if errs != "" {
					t.Errorf("on stderr: %s", errs)
				}
				return out
			}
			got := ask()
			after, err := os.ReadFile(index)
			b.must(err)
			for _, name := range []string{"mallory", "never-ends"} {
				if strings.Contains(string(after), name) || strings.Contains(got, name) {
					t.Errorf("%s is in the index or in an answer", name)
				}
			}
			if !strings.Contains(got, `"user":"spans"`) || strings.Count(got, `"run_id"`) != 2 {
				t.Errorf("left are %s", got)
			}
			b.must(os.Remove(index))
			if want := ask(); got != want {
				t.Errorf("the index differs from the log: %s", difference(got, want))
			}
		})
	}
}

// age closes the current segment, with records of so many days ago.
func (b *fixture) age(name string, days int) {
	b.Helper()
	current := filepath.Join(b.dir, "audit.jsonl")
	text, err := os.ReadFile(current)
	b.must(err)
	prev, aged := strings.Repeat("0", 64), ""
	for line := range strings.Lines(string(text)) {
		var rec audit.Record
		b.must(json.Unmarshal([]byte(line), &rec))
		at, err := time.Parse(time.RFC3339Nano, rec.Timestamp)
		b.must(err)
		rec.Timestamp, rec.Prev = at.AddDate(0, 0, -days).Format("2006-01-02T15:04:05.000000Z"), prev
		changed, err := json.Marshal(rec)
		b.must(err)
		prev = fmt.Sprintf("%x", sha256.Sum256(changed))
		aged += string(changed) + "\n"
	}
	b.must(os.WriteFile(filepath.Join(b.dir, name), []byte(aged), 0o600))
	b.must(os.WriteFile(current, nil, 0o600))
	b.must(os.Remove(filepath.Join(b.dir, ".lock")))
}

// Segments that come back, which retention had not removed, are read again.
func TestIndexRemembers(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	b.must(os.Rename(filepath.Join(b.dir, "audit.jsonl"), filepath.Join(b.dir, "audit-000000000001.jsonl")))
	b.run("bob", "ok", nil)
	b.must(b.update(b.indexPath(""), false, false))
	away := filepath.Join(t.TempDir(), "away")
	b.must(os.Rename(filepath.Join(b.dir, "audit-000000000001.jsonl"), away))
	b.must(b.history(question{}, time.Now()))
	if out, errs := b.said(); strings.Contains(out, "alice") || errs != "" {
		t.Errorf("%s%s", out, errs)
	}
	b.must(os.Rename(away, filepath.Join(b.dir, "audit-000000000001.jsonl")))
	b.must(b.history(question{}, time.Now()))
	if out, errs := b.said(); !strings.Contains(out, "alice") || !strings.Contains(out, "bob") || !strings.Contains(errs, "older records than the index has seen") {
		t.Errorf("%s%s", out, errs)
	}
}

// Days, tables and times without a zone are in one zone, from the index as from the log.
func TestZone(t *testing.T) {
	t.Parallel()
	for _, indexed := range []bool{false, true} {
		for name, want := range map[string][2]string{"UTC": {"2026-03-01", "2026-03-01 23:30:00"}, "Pacific/Kiritimati": {"2026-03-02", "2026-03-02 13:30:00"}, "America/St_Johns": {"2026-03-01", "2026-03-01 20:00:00"}} {
			b := newFixture(t)
			rec := audit.Record{V: 1, Timestamp: "2026-03-01T23:30:00.000000Z", Seq: 1, Prev: strings.Repeat("0", 64), RunID: "01a20d4b-0000-7000-8000-000000000001",
				Event: audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Success}, Status: "ok", Process: &audit.Process{}, Hooks: &activity.Summary{}, Isolation: &audit.Isolation{}}
			line, err := json.Marshal(rec)
			b.must(err)
			b.must(os.WriteFile(filepath.Join(b.dir, "audit.jsonl"), append(line, '\n'), 0o600))
			zone, err := loadZone(name)
			b.must(err)
			b.zone = zone
			if indexed {
				b.must(b.update(b.indexPath(""), false, false))
			}
			b.must(b.stats(question{format: "csv"}, store.ByDay, time.Now()))
			if out, _ := b.said(); !strings.Contains(out, "\n"+want[0]+",1,") {
				t.Errorf("%s, index %v: %s", name, indexed, out)
			}
			// the day that stats name is the day that --since means
			b.must(b.history(question{filter: filter{since: want[0], until: want[0] + "T23:59:59"}, format: "text"}, time.Now()))
			if out, _ := b.said(); !strings.Contains(out, want[1]) {
				t.Errorf("%s, index %v: %s", name, indexed, out)
			}
			b.must(b.stats(question{filter: filter{since: want[0], until: want[0] + "T23:59:59"}}, store.ByDay, time.Now()))
			if out, _ := b.said(); !strings.Contains(out, want[0]) {
				t.Errorf("%s, index %v: %s", name, indexed, out)
			}
			b.must(b.tail(t.Context(), selection{}, 1, false, "text"))
			if out, _ := b.said(); !strings.HasPrefix(out, want[1]) {
				t.Errorf("%s: %s", name, out)
			}
		}
	}
	for _, name := range []string{"", "local"} {
		if zone, err := loadZone(name); err != nil || zone != time.Local {
			t.Errorf("%q: %v, %v", name, zone, err)
		}
	}
	if _, err := loadZone("Mars/Olympus"); err == nil || !strings.Contains(err.Error(), "invalid argument") {
		t.Errorf("%v", err)
	}
}

// Pruning says who did it, by which policy, and what the operator has; sooner than that is an alert.
func TestPruningIsTold(t *testing.T) {
	t.Parallel()
	etc := filepath.Join(t.TempDir(), "etc.toml")
	key := "security.audit.retention-days"
	for _, c := range []struct {
		name, etc string
		origin    config.Origin
		days      int
		early     bool
		want      []string
	}{
		{"the default", "", config.Origin{}, 90, false, []string{`"policy":"default"`}},
		{"the operator's", "[security.audit]\nretention-days = 60\n", config.Origin{Kind: config.FromFile, Name: "/etc/x"}, 60, false, []string{`"policy":"file /etc/x"`, `"operator_days":60`}},
		{"sooner", "[security.audit]\nretention-days = 60\n", config.Origin{Kind: config.FromEnvironment, Name: "PY3RUN_X"}, 30, true, []string{`"policy":"environment PY3RUN_X"`, `"operator_days":60`}},
		{"for ever", "[security.audit]\nretention-days = 0\n", config.Origin{Kind: config.FromFlag, Name: "--set"}, 80, true, []string{`"policy":"flag --set"`, `"operator_days":0`}},
		{"at the floor", "[floor.security.audit]\nretention-days = 60\n", config.Origin{Kind: config.FromEnvironment, Name: "PY3RUN_X", Floor: config.Floor{Value: "60", File: "/etc/x", Asked: "3"}}, 60, false,
			[]string{`"policy":"environment PY3RUN_X"`, `"asked_days":3`, `"floor_days":60`, `"operator_days":90`}},
	} {
		b := newFixture(t)
		b.past(200, 100, 10)
		b.run("alice", "ok", nil)
		if _, err := b.alerts("", "", false); err != nil {
			t.Fatal(err)
		}
		b.must(os.WriteFile(etc, []byte(c.etc), 0o600))
		b.etc, b.origins = etc, map[string]config.Origin{key: c.origin}
		b.config.Security.Audit.RetentionDays = c.days
		b.said()
		b.must(b.prune(pruning{yes: true, force: true, ignoreCursors: true}, time.Now()))
		if _, errs := b.said(); strings.Contains(errs, "3 was asked for") != (c.origin.Floor.Asked != "") {
			t.Errorf("%s: it says %q", c.name, errs)
		}
		b.must(b.tail(t.Context(), selection{}, 1, false, "json"))
		out, _ := b.said()
		for _, want := range append(c.want, `"forced":true`, `"ignored_cursors":true`, `"action":"audit-retention"`, fmt.Sprintf(`"days":%d`, c.days)) {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %s is not in %s", c.name, want, out)
			}
		}
		b.config.Security.Audit.RetentionDays = 90 // of who looks at alerts
		if c.name == "the operator's" || c.name == "at the floor" {
			b.config.Security.Audit.RetentionDays = 60
		}
		if c.name == "at the floor" {
			continue // 60 of the floor's file, whose own value is the default of 90
		}
		n, err := b.alerts("", "text", false)
		out, _ = b.said()
		if err != nil || (n == 1) != c.early || c.early && !strings.Contains(out, string(ruleEarly)) {
			t.Errorf("%s: %d alerts, %v: %s", c.name, n, err, out)
		}
	}
	r := audit.Retention{Days: 5, Newest: "2026-05-01T00:00:00Z"}
	for at, want := range map[string]bool{"2026-05-05T00:00:00Z": true, "2026-05-07T00:00:00Z": false} { // the clock was ahead when it was done
		if got := early(audit.Record{Timestamp: at, Retention: &r}, nil); got != want {
			t.Errorf("at %s: early %v", at, got)
		}
	}
}

// isRecord holds a line to the schema of records.
func (b *fixture) isRecord(line string) {
	b.Helper()
	text, _ := wire.Schema("audit")
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	b.must(err)
	compiler := jsonschema.NewCompiler()
	b.must(compiler.AddResource("audit", schema))
	record, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	b.must(err)
	if err := compiler.MustCompile("audit").Validate(record); err != nil {
		b.Errorf("a record: %v\n%s", err, line)
	}
}

// An alert that somebody has looked into is still in the list, with that; the word itself is told
// by the next look.
func TestAcknowledgedAlert(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	_, err := b.alerts("", "", false)
	b.must(err)
	b.run("alice", "ok", &activity.Summary{Connections: []activity.Connection{{Host: "10.0.0.9", Port: 1, Via: "python", Count: 1}}})
	if n, err := b.alerts("", "", false); n != 1 || err != nil {
		t.Fatalf("%d alerts, %v", n, err)
	}
	b.said()
	b.must(b.acknowledge([]string{"4"}, "the new mirror\x1b[31m", verification{}))
	if out, _ := b.said(); !strings.Contains(out, "acknowledged the alert new-host of record 4; record 6 tells it") {
		t.Errorf("it says %s", out)
	}
	b.must(b.show("6", "json"))
	line, _ := b.said()
	b.isRecord(line)
	b.must(b.tail(t.Context(), selection{}, 1, false, "text"))
	if out, _ := b.said(); !strings.Contains(out, "the alert new-host of record 4: the new mirror") {
		t.Errorf("tail shows %s", out)
	}
	if n, err := b.alerts("", "text", false); n != 1 || err != nil {
		t.Errorf("%d alerts, %v", n, err)
	}
	if out, _ := b.said(); !strings.Contains(out, "acknowledged") || !strings.Contains(out, "the alert new-host of record 4: the new mirror") {
		t.Errorf("it tells %s", out)
	}
	b.must(b.listAlerts(filter{}, "text", time.Now()))
	out, _ := b.said()
	if !strings.Contains(out, "new-host") || !strings.Contains(out, "(acknowledged by "+operator().User.Name+" at 20") || strings.Contains(out, "\x1b") || strings.Count(out, "\n") != 4 {
		t.Errorf("the list is %q", out)
	}
	b.must(b.listAlerts(filter{}, "json", time.Now()))
	if out, _ := b.said(); !strings.Contains(out, `"acknowledged":{"seq":6,`) || !strings.Contains(out, `"record":5`) {
		t.Errorf("the list is %q", out)
	}
	b.must(b.listAlerts(filter{since: "2099-01-01"}, "json", time.Now()))
	if out, _ := b.said(); out != "" {
		t.Errorf("of later there is %q", out)
	}
}

// Alerts that nobody could read, or that could not be recorded, come again.
func TestAlertsComeAgain(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	_, err := b.alerts("", "", false)
	b.must(err)
	b.run("alice", "ok", &activity.Summary{Connections: []activity.Connection{{Host: "10.0.0.9", Port: 1, Via: "python", Count: 1}}})
	broken := b.logContext
	broken.out = brokenWriter{}
	if _, err := broken.alerts("", "", false); err == nil {
		t.Error("a reader that is gone is no error")
	}
	state := filepath.Join(t.TempDir(), "state.json")
	text, err := os.ReadFile(filepath.Join(b.dir, alertsName))
	b.must(err)
	b.must(os.WriteFile(state, text, 0o600))
	b.must(os.Chmod(b.dir, 0o777)) // no writer takes it
	n, err := b.alerts(state, "", false)
	if _, errs := b.said(); n != 1 || err != nil || !strings.Contains(errs, "alerts are not recorded") {
		t.Errorf("%d alerts, %v: %s", n, err, errs)
	}
	b.must(os.Chmod(b.dir, 0o700))
	if n, err := b.alerts(state, "", false); n != 0 || err != nil {
		t.Errorf("%d alerts, %v", n, err)
	}
	b.must(b.listAlerts(filter{}, "", time.Now()))
	if out, _ := b.said(); strings.Count(out, "new-host") != 1 {
		t.Errorf("recorded are %s", out)
	}
}

// What the alerts remember of users and hosts goes when retention has no record of them any more.
func TestAlertsForget(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("old-user", "timeout", &activity.Summary{FlaggedImports: []activity.FlaggedImport{{Module: "ctypes", Direct: true}}, Connections: []activity.Connection{{Host: "old-host", Port: 1, Via: "python", Count: 1}}})
	b.age("audit-000000000001.jsonl", 100)
	b.run("new-user", "timeout", &activity.Summary{FlaggedImports: []activity.FlaggedImport{{Module: "ctypes", Direct: true}}, Connections: []activity.Connection{{Host: "new-host", Port: 1, Via: "python", Count: 1}}})
	state := filepath.Join(t.TempDir(), "state.json")
	for days, want := range map[int]bool{365: true, 0: true, 90: false} {
		b.must(os.RemoveAll(state))
		b.config.Security.Audit.RetentionDays = days
		_, err := b.alerts(state, "", false)
		b.must(err)
		text, err := os.ReadFile(state)
		b.must(err)
		for _, name := range []string{"old-user", "old-host"} {
			if got := strings.Contains(string(text), name); got != want {
				t.Errorf("%d days: %s is remembered %v: %s", days, name, got, text)
			}
		}
		if !strings.Contains(string(text), "new-user") || !strings.Contains(string(text), "new-host") {
			t.Errorf("%d days: %s", days, text)
		}
	}
	// as an older version has left it
	b.must(os.WriteFile(state, []byte(`{"position":{},"watched":{"seq":0,"hash":"","denials":{},"limits":{},"modules":{"someone":{"os":true}},"hosts":{"somewhere":true}}}`), 0o600))
	_, err := b.alerts(state, "", false)
	b.must(err)
	if text, _ := os.ReadFile(state); !strings.Contains(string(text), `"someone"`) || !strings.Contains(string(text), `"somewhere"`) {
		t.Errorf("%s", text)
	}
}

// The beginning of a run id is the time: who says no more than that is shown whom they may mean.
func TestRunIDs(t *testing.T) {
	t.Parallel()
	for _, indexed := range []bool{false, true} {
		b := newFixture(t)
		for range 3 {
			b.run("alice", "ok", nil)
		}
		b.run("bob", "error", nil)
		if indexed {
			b.must(b.update(b.indexPath(""), false, false))
		}
		for _, c := range []struct{ what, runs, wrong string }{
			{"01a20d4b-0000-7000-8000-000000000002", "2", ""},
			{"8000-000000000004", "4", ""}, {"000000000003", "3", ""}, {"01A20D4B-0000-7000-8000-000000000001", "1", ""},
			{"01a20d4b", "", `"01a20d4b" begins 4 run ids; say one by its end, as `}, {"01a20d4b-0000", "", "begins 4 run ids"}, {"00000004", "4", ""}, {"0000000000", "", "no r"},
			{"ffffffff", "", "no r"},
		} {
			for name, ask := range map[string]func() error{"show": func() error { return b.show(c.what, "json") }, "history": func() error { return b.history(question{run: c.what}, time.Now()) }} {
				err := ask()
				out, _ := b.said()
				if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%s %s: %v, want %s", name, c.what, err, c.wrong)
				}
				if c.runs != "" && (!strings.Contains(out, `"01a20d4b-0000-7000-8000-00000000000`+c.runs+`"`) || strings.Count(out, `"run_id"`) > 2) {
					t.Errorf("%s %s: %s", name, c.what, out)
				}
				if c.what == "01a20d4b" && err != nil {
					for _, want := range []string{"\n  01a20d4b-0000-7000-8000-000000000001  20", "  alice  ok", "  bob  error"} {
						if !strings.Contains(err.Error(), want) {
							t.Errorf("%s: %v does not name %q", name, err, want)
						}
					}
				}
			}
		}
		if err := b.history(question{run: "01a20d4"}, time.Now()); err == nil || !strings.Contains(err.Error(), "8 characters") {
			t.Errorf("too short: %v", err)
		}
	}
	// what is a number is that of a record, unless it is part of a run id as well
	b := newFixture(t)
	for range 4 {
		b.run("alice", "ok", nil)
	}
	rec := audit.Record{RunID: "01a20d4b-0000-7000-8000-123412345678", Event: audit.Event{Action: "new", Outcome: audit.Unknown}}
	_, err := b.log.Append(rec)
	b.must(err)
	b.must(b.show("12345678", "json"))
	if out, _ := b.said(); !strings.Contains(out, rec.RunID) {
		t.Errorf("%s", out)
	}
}

func TestHarmless(t *testing.T) {
	t.Parallel()
	if got, want := harmless("a \"b\" é\n  c\\d \x1b[31m\xa9\u202e\x00"), "a \"b\" é\n  c\\d \\x1b[31m\\xa9\\u202e\\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	b := newFixture(t)
	b.warnf("%s", "one\ntwo\x1b")
	if _, errs := b.said(); errs != "py3runctl: warning: one two\\x1b\n" {
		t.Errorf("%q", errs)
	}
}

func TestExactSeconds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		d    time.Duration
		want string
	}{{3812 * time.Millisecond, "3.812"}, {0, "0"}, {time.Second, "1"}, {10 * time.Millisecond, "0.01"}, {time.Hour, "3600"}, {100 * time.Second, "100"}, {1, "0.000000001"}, {-1500 * time.Millisecond, "-1.5"},
		{-time.Millisecond, "-0.001"}, {123456789123456789, "123456789.123456789"}} {
		if got := exactSeconds(c.d); got != c.want {
			t.Errorf("%v: %s, want %s", int64(c.d), got, c.want)
		}
	}
	for ms := range 20000 {
		d := time.Duration(ms) * time.Millisecond
		if got := exactSeconds(d); len(got) > len("19.999") {
			t.Fatalf("%v: %s", d, got)
		}
	}
}

// How far a whole log is proved, and that parts nobody can read are no break.
func TestReach(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	text := func(with verification) string {
		t.Helper()
		rep, err := b.verify(with)
		b.must(err)
		b.must(printReport(b.logContext.out, rep))
		out, _ := b.said()
		return out
	}
	if out := text(verification{}); strings.Contains(out, "whole") || !strings.Contains(out, "there is no record") {
		t.Errorf("an empty log: %s", out)
	}
	b.run("alice", "ok", nil)
	key, dir := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "checkpoints")
	b.must((&app{out: b.out}).makeKey(key, "", time.Now()))
	b.must(b.checkpoint(key, dir, time.Now()))
	with := verification{checkpoints: dir, keys: key + ".pub"}
	b.said()
	for range 600 {
		b.run("alice", "ok", nil)
	}
	if out := text(with); !strings.Contains(out, "\nconsistent from record 1 to 1,202; proved by checkpoint up to 2; 1,200 records have no outside proof\nthe log is whole\n") {
		t.Errorf("it says %s", out)
	}
	rep, err := b.verify(with)
	b.must(err)
	b.must(printReportJSON(b.logContext.out, rep))
	if out, _ := b.said(); !strings.Contains(out, `"verdict":"ok"`) || !strings.Contains(out, `"reach":{"from":1,"to":1202,"proved_by":"checkpoint","proved_to":2,"unproved":1200}`) {
		t.Errorf("it says %.500s", out)
	}
	lock := filepath.Join(b.dir, ".lock")
	b.must(os.Remove(lock))
	b.run("alice", "ok", nil)
	if out := text(verification{}); strings.Contains(out, "whole") || !strings.Contains(out, "the log is consistent; whether records were cut from it only a receipt or a checkpoint can tell") {
		t.Errorf("a lost note: %s", out)
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 998749: "998,749", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	if os.Geteuid() == 0 { // nobody keeps root from reading: see the tests of package audit
		return
	}
	b.must(os.Rename(filepath.Join(b.dir, "audit.jsonl"), filepath.Join(b.dir, "audit-000000000001.jsonl")))
	b.run("bob", "ok", nil)
	b.must(os.Chmod(filepath.Join(b.dir, "audit-000000000001.jsonl"), 0))
	rep, err = b.verify(with)
	b.must(err)
	if rep.verdict() != logUnreadable || strings.Contains(text(with), "BROKEN") {
		t.Errorf("not readable: %v", rep.Findings)
	}
	if err := b.checkpoint(key, dir, time.Now()); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("signed what nobody can read: %v", err)
	}
}

// What is found decides: broken over unreadable over all else, and what was looked into is a warning.
func TestVerdict(t *testing.T) {
	t.Parallel()
	broken, unreadable, warning := audit.Finding{Severity: audit.Broken}, audit.Finding{Severity: audit.Unreadable}, audit.Finding{Severity: audit.Warning}
	looked := broken
	looked.Acknowledged = &audit.Acknowledgement{}
	for _, c := range []struct {
		found   []audit.Finding
		omitted map[audit.Severity]int
		records uint64
		want    verdict
		exit    int
	}{
		{nil, nil, 1, logWhole, 0}, {nil, nil, 0, logEmpty, 1}, {[]audit.Finding{warning}, nil, 1, logWarnings, 1}, {[]audit.Finding{warning}, nil, 0, logEmpty, 1},
		{[]audit.Finding{unreadable}, nil, 1, logUnreadable, 3}, {[]audit.Finding{broken, unreadable}, nil, 1, logBroken, 2}, {[]audit.Finding{broken}, nil, 0, logBroken, 2},
		{[]audit.Finding{looked}, nil, 1, logWarnings, 1}, {[]audit.Finding{looked, broken}, nil, 1, logBroken, 2}, {[]audit.Finding{looked}, map[audit.Severity]int{audit.Broken: 1}, 1, logBroken, 2},
		{[]audit.Finding{looked, unreadable}, nil, 1, logUnreadable, 3},
	} {
		rep := verified{Report: &audit.Report{Findings: c.found, Omitted: c.omitted, Records: c.records}}
		if got := rep.verdict(); got != c.want || got.exit() != c.exit {
			t.Errorf("%+v: %s, exit code %d", c, got, got.exit())
		}
		if whole := strings.Contains(rep.inWords(), "whole"); whole && !slices.Contains([]verdict{logWhole, logWarnings, logUnreadable}, c.want) {
			t.Errorf("%s is said to be whole: %s", c.want, rep.inWords())
		}
	}
}

// Who looks into a finding of verify has looked into the alert of it.
func TestAcknowledgedFinding(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	_, err := b.alerts("", "", false)
	b.must(err)
	b.must(os.Remove(filepath.Join(b.dir, ".lock")))
	b.run("alice", "ok", nil)
	if n, err := b.alerts("", "", false); n != 1 || err != nil {
		t.Fatalf("%d alerts, %v", n, err)
	}
	rep, err := b.verify(verification{})
	b.must(err)
	if len(rep.Findings) != 1 {
		t.Fatalf("found %+v", rep.Findings)
	}
	b.must(b.acknowledge([]string{strings.ToUpper(rep.Findings[0].ID)}, "moved by hand", verification{}))
	b.said()
	b.must(b.listAlerts(filter{}, "text", time.Now()))
	if out, _ := b.said(); !strings.Contains(out, ruleTampering) || !strings.Contains(out, ": moved by hand)") {
		t.Errorf("the list is %s", out)
	}
	if rep, err = b.verify(verification{}); err != nil || rep.Findings[0].Acknowledged == nil {
		t.Errorf("%+v, %v", rep.Findings, err)
	}
	for _, what := range []string{"99", "ffffffffffff", "x"} {
		if err := b.acknowledge([]string{what}, "x", verification{}); err == nil {
			t.Errorf("%s was acknowledged", what)
		}
	}
}

func TestReportCounts(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0 records", 1: "1 record", 2: "2 records", 1200: "1,200 records"} {
		if got := counted(n, "record"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for unproved, want := range map[uint64]string{1: "; 1 record has no outside proof", 6: "; 6 records have no outside proof"} {
		if got := (&reach{From: 1, To: 9, Unproved: unproved}).String(); !strings.HasSuffix(got, want) {
			t.Errorf("%d: %q does not end with %q", unproved, got, want)
		}
	}
}
