package ctl

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"py3run/audit"
	"py3run/cmd/internal/store"
	"py3run/internal/activity"
)

// tooWide returns the first line that does not fit.
func tooWide(out string, width int) string {
	for line := range strings.Lines(out) {
		if line = strings.TrimRight(line, "\n"); cells(line) > width {
			return line
		}
	}
	return ""
}

func TestTable(t *testing.T) {
	t.Parallel()
	columns := []column{{title: "name", least: 8}, {title: "runs", right: true}, {title: "mail", rank: 1, least: 6}, {title: "empty", rank: 2}, {title: "id", short: endOfRun}, {title: "text", least: 8, wraps: true}}
	rows := [][]string{
		{"alice", "7", "a@example.org", "", "0123456789abcdef", "short"},
		{"a name that is rather long", "12345", "b@example.org", "", "fedcba9876543210", "a text of several words"},
		{"日本語の名前です", "3", "é\u0301", "", "01234567", "x\ty\x1b[31m"},
	}
	for _, c := range []struct {
		width int
		want  string
	}{
		{0, `
NAME                         RUNS  MAIL           EMPTY  ID                TEXT
alice                           7  a@example.org  -      0123456789abcdef  short
a name that is rather long  12345  b@example.org  -      fedcba9876543210  a text of several words
日本語の名前です                3  é́              -      01234567          x\ty\x1b[31m
`},
		{76, `
NAME                    RUNS  MAIL           ID        TEXT
alice                      7  a@example.org  89abcdef  short
a name that is rathe…  12345  b@example.org  76543210  a text of several
                                                       words
日本語の名前です           3  é́              01234567  x\ty\x1b[31m
`},
		{36, `
not shown: mail
NAME       RUNS  ID        TEXT
alice         7  89abcdef  short
a name …  12345  76543210  a text of
                           several
                           words
日本語…       3  01234567  x\ty\x1b[
                           31m
`},
		{26, `
not shown: mail
NAME   RUNS  ID        TEXT
ali…      7  89abcdef  shor
                       t
a n…  12345  76543210  a
                       text
                       of
                       seve
                       ral
                       word
                       s
日…       3  01234567  x\ty
                       \x1b
                       [31m
`},
	} {
		table := &table{columns: columns, width: c.width}
		for _, row := range rows {
			table.add(row...)
		}
		var b strings.Builder
		if err := table.write(&b); err != nil {
			t.Fatal(err)
		}
		if got := "\n" + b.String(); got != c.want {
			t.Errorf("width %d:%s\nwant%s", c.width, got, c.want)
		}
	}
}

// Any width has an answer, and from a moderate one on it fits.
func TestTableOfAnyWidth(t *testing.T) {
	t.Parallel()
	for width := range 130 {
		for _, wraps := range []bool{false, true} {
			table := &table{zone: "UTC", width: width, columns: []column{{title: "name", least: 8, wraps: wraps}, {title: "n", right: true}, {title: "x", least: 3, rank: 2, wraps: wraps}, {title: "text", least: 8, rank: 1}}}
			table.add("日本語の名前です", "123", "a", " leading and trailing ")
			table.add("", "", strings.Repeat("語", 30), strings.Repeat("x", 200))
			var b strings.Builder
			if err := table.write(&b); err != nil {
				t.Fatal(err)
			}
			if line := tooWide(b.String(), width); line != "" && width >= 12 {
				t.Errorf("%d: %q", width, line)
			}
		}
	}
}

// A history of any length needs the memory of one table.
func TestHistoryInSeveralTables(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	for _, c := range []struct{ runs, tables int }{{0, 1}, {tableMost, 1}, {tableMost + 1, 2}} {
		put, done := b.runPrinter(b.out, "text")
		for range c.runs {
			b.must(put(store.Run{ID: "01a20d4b-0000-7000-8000-000000000001", User: "alice", Status: "ok"}))
		}
		b.must(done())
		out, _ := b.said()
		if n := strings.Count(out, "STARTED"); n != c.tables || strings.Count(out, "alice") != c.runs {
			t.Errorf("%d runs: %d tables, want %d", c.runs, n, c.tables)
		}
	}
}

func TestCells(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 0, "abc": 3, "é": 1, "e\u0301": 1, "日本": 4, "ｱ": 1, "Ａ": 2, "한": 2, "😀": 2, "✓": 1, "⚡": 2, "…": 1, "\u3000": 2} {
		if got := cells(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	for text, want := range map[string]string{"abcdef": "abc…", "日本語": "日…", "abcd": "abcd", "日本": "日本"} {
		if got := fitted(text, 4); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{"one two three": "one|two|thre|e", "onetwothree": "onet|woth|ree", "a b c d e": "a b|c d|e", "": "", "日本語x": "日本|語x"} {
		if got := strings.Join(wrapped(text, 4), "|"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Every table fits a usual terminal, whatever stands in the log.
func TestTablesFit(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	long := strings.Repeat("日本語 and a long name ", 10) + evil
	for i, status := range []string{"ok", "memory_limit", "process_limit", "python_not_executable", "audit_unavailable", ""} {
		rec := audit.Record{RunID: fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", i), User: audit.User{Name: long}, Host: audit.ThisHost(), Auth: audit.Auth{Method: audit.AuthAsserted},
			Script: audit.Script{Name: long, Version: "123456"}, Invoked: &audit.Invocation{Command: "bridge"}, Labels: map[string]string{long: long, "b": "c"}, Event: audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}}
		run, _, err := b.log.Begin(rec)
		b.must(err)
		if status == "" {
			defer run.End(rec)
			continue
		}
		rec.Event = audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Failure, DurationNS: 359999e9}
		rec.Status, rec.Hooks, rec.Process = status, &activity.Summary{Connections: []activity.Connection{{Host: long, Port: 65535, Via: "python", Count: 1}}}, &audit.Process{CPUMS: 5999e3, PeakMemoryBytes: 999 << 30}
		rec.Isolation = &audit.Isolation{Enforced: []string{}, Missing: []audit.Gap{}}
		_, err = run.End(rec)
		b.must(err)
	}
	_, err := b.addHold(hold{User: long, Script: strings.Repeat("x", 200), Since: "2026-01-01", Comment: long}, time.Now())
	b.must(err)
	if _, err := b.alerts("", "json", true); err != nil {
		t.Fatal(err)
	}
	b.said()
	list, err := b.holds()
	b.must(err)
	zone := "Africa/Addis_Ababa"
	b.zone, err = loadZone(zone)
	b.must(err)
	for name, show := range map[string]func() error{
		"history":     func() error { return b.history(question{format: "text"}, time.Now()) },
		"history RUN": func() error { return b.history(question{format: "text", run: "000000000002"}, time.Now()) },
		"stats":       func() error { return b.stats(question{format: "text"}, store.ByUser, time.Now()) },
		"stats all":   func() error { return b.stats(question{format: "text"}, store.ByScript, time.Now()) },
		"ps":          func() error { return b.ps(filter{}, "text", time.Now()) },
		"tail":        func() error { return b.tail(t.Context(), selection{}, 99, false, "text") },
		"alerts":      func() error { return b.listAlerts(filter{}, "text", time.Now()) },
		"holds":       func() error { return b.listHolds(list, "text") },
	} {
		for _, width := range []int{60, 80, 100, 132, 200} {
			b.width = width
			b.must(show())
			out, _ := b.said()
			if line := tooWide(out, width); line != "" || strings.Count(out, "\n") < 2 || strings.ContainsAny(out, "\x1b\u202e") {
				t.Errorf("%s at %d: %q in\n%s", name, width, line, out)
			}
			if marks := map[string]int{"history": 6, "ps": 1, "stats": 1}[name]; strings.Count(out, assertedMark) < marks {
				t.Errorf("%s at %d: marks of asserted users are cut:\n%s", name, width, out)
			}
			if n := strings.Count(out, zone); n > 1 || n == 0 && strings.Contains(out, "202") && name != "tail" && name != "stats" && name != "stats all" && name != "ps" {
				t.Errorf("%s at %d: the zone stands there %d times:\n%s", name, width, n, out)
			}
		}
	}
	h := newHost(t)
	h.save(strings.Repeat("folder-/", 3)+"daily", "print(1)\n")
	h.mustCall("user", "add", "carol", "--full-name", strings.Repeat("日本語 ", 20), "--role", "auditor", "--limit", "security.max-memory-mb=256", "--limit", "security.max-processes=7")
	h.mustCall("group", "add", "operators", "--role", "script-admin")
	h.mustCall("key", "create", "carol", "--out", h.home+"/k")
	h.app.environ = append(h.app.environ, "COLUMNS=80")
	for _, args := range []string{"user list", "group list", "key list", "limits show", "script list", "warm status", "script show " + strings.Repeat("folder-/", 3) + "daily --about", "script history " + strings.Repeat("folder-/", 3) + "daily"} {
		words := strings.Fields(args)
		if !strings.Contains(args, "--about") {
			words = append(words, "--format", "text")
		}
		out, _ := h.mustCall(words...)
		if line := tooWide(out, 80); line != "" {
			t.Errorf("%s: %q in\n%s", args, line, out)
		}
	}
}

// The short forms of what a forged log has in place of a run id or a time are whole characters.
func TestShortFormsAreWhole(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a", "2026-11-24 10:00:00", "0123456789abcdef", strings.Repeat("\u26db", 9), "a" + strings.Repeat("\u26db", 9), "ab" + strings.Repeat("\u26db", 9)} {
		for _, short := range []func(string) string{withoutYear, endOfRun, listColumn("time", 1).short} {
			if got := short(text); !utf8.ValidString(got) {
				t.Errorf("%q becomes %q", text, got)
			}
		}
	}
}
