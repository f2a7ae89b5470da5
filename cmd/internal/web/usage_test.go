package web

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
)

// sides writes a comparison as one line a row, with what has changed in brackets.
func sides(c *comparison) string {
	var b strings.Builder
	line := func(l sideLine) string {
		end := map[bool]string{true: "$"}[l.NoEnd]
		switch {
		case l.Number == 0:
			return "."
		case l.Changed:
			return fmt.Sprintf("%d %s[%s]%s", l.Number, l.Before, l.Middle, l.After) + end
		}
		return fmt.Sprintf("%d %s", l.Number, l.Before) + end
	}
	for _, r := range c.Rows {
		if r.Gap != "" {
			b.WriteString("@" + r.Gap + "\n")
			continue
		}
		fmt.Fprintf(&b, "%s | %s\n", line(r.Old), line(r.New))
	}
	return b.String()
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{"a\nb\n", "a\nb\n", ""},
		{"a\nb\nc\n", "a\nB\nc\n", "@line 1, now 1\n1 a | 1 a\n2 [b] | 2 [B]\n3 c | 3 c\n"},
		{"a\nx = 1\n", "a\nx = 22\n", "@line 1, now 1\n1 a | 1 a\n2 x = [1] | 2 x = [22]\n"},
		{"a\n", "a\nb\n", "@line 1, now 1\n1 a | 1 a\n. | 2 [b]\n"},
		{"", "a\n", "@line 0, now 1\n. | 1 [a]\n"},
		{"a\n", "", "@line 1, now 0\n1 [a] | .\n"},
		{"-- x\n", "++ y\n", "@line 1, now 1\n1 [-- x] | 1 [++ y]\n"},
		{"@@ -1,1 +1,1 @@\n", "@@ -1,1 +1,2 @@\n", "@line 1, now 1\n1 @@ -1,1 +1,[1] @@ | 1 @@ -1,1 +1,[2] @@\n"},
		{"ä\n", "ö\n", "@line 1, now 1\n1 [ä] | 1 [ö]\n"}, // the letters begin with the same byte
		{"a", "a\n", "@line 1, now 1\n1 a[]$ | 1 a[]\n"},
		{"a\nc", "b\nc", "@line 1, now 1\n1 [a] | 1 [b]\n2 c$ | 2 c$\n"},
	} {
		got := sides(compare(c.old, c.new))
		if got != c.want {
			t.Errorf("%q, %q:\n%s, want\n%s", c.old, c.new, got, c.want)
		}
	}
}

// Each side has all of its changed lines once and in their order, whatever the texts are.
func TestCompareIsWhole(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range random.IntN(40) {
			fmt.Fprintf(&b, "%s\n", []string{"", "a", "b", "-c", "+d", "@@ -3,1 +3,1 @@", " e", `\ No newline`, "f é ü"}[random.IntN(9)])
		}
		return b.String()
	}
	for range 500 {
		old, new := text(), text()
		c := compare(old, new)
		var left, right []string
		for _, r := range c.Rows {
			if r.Old.Number > 0 {
				left = append(left, fmt.Sprintf("%d:%s", r.Old.Number, r.Old.Before+r.Old.Middle+r.Old.After))
			}
			if r.New.Number > 0 {
				right = append(right, fmt.Sprintf("%d:%s", r.New.Number, r.New.Before+r.New.Middle+r.New.After))
			}
		}
		for _, side := range []struct {
			text string
			rows []string
		}{{old, left}, {new, right}} {
			lines := textLines(side.text)
			last := 0
			for _, row := range side.rows {
				var n int
				fmt.Sscanf(row, "%d:", &n)
				if n <= last || n > len(lines) || row != fmt.Sprintf("%d:%s", n, lines[n-1]) {
					t.Fatalf("%q, %q: row %q of %q", old, new, row, side.rows)
				}
				last = n
			}
		}
		if (len(c.Rows) == 0) != (old == new) {
			t.Fatalf("%q, %q: %d rows", old, new, len(c.Rows))
		}
	}
}

func TestUsageForm(t *testing.T) {
	t.Parallel()
	form := func(address string) usageForm {
		p, err := url.ParseQuery(address)
		if err != nil {
			t.Fatal(err)
		}
		return (&view{params: p, filter: filterOf(p)}).usageForm()
	}
	for _, c := range []struct{ address, with, want string }{
		{"", "", "/usage?by=user&since=7d&sort=-runs"},
		{"by=x&sort=y", "", "/usage?by=user&since=7d&sort=-runs"},
		{"by=host&sort=name", "", "/usage?by=host&since=7d&sort=name"},
		{"until=2026-11-24", "", "/usage?by=user&sort=-runs&until=2026-11-24"},
		{"by=label&name=line&label=a%3Db&user=x", "sort=-cpu", "/usage?by=label&label=a%3Db&name=line&since=7d&sort=-cpu&user=x"},
		{"since=24h", "since=30d", "/usage?by=user&since=30d&sort=-runs"},
	} {
		var pairs []string
		if name, value, ok := strings.Cut(c.with, "="); ok {
			pairs = []string{name, value}
		}
		if got := form(c.address).with(pairs...); got != c.want {
			t.Errorf("%q with %q: %s, want %s", c.address, c.with, got, c.want)
		}
	}
	if by := form("by=label").by(); by != "" {
		t.Errorf("a label without a name: %q", by)
	}
	if by := form("by=label&name=line").by(); by != store.ByLabel("line") {
		t.Errorf("a label: %q", by)
	}
}

func TestKeyState(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		refused string
		expires time.Time
		want    string
	}{
		{"", time.Time{}, "active"},
		{"", now.Add(15 * 24 * time.Hour), "active"},
		{"", now.Add(13 * 24 * time.Hour), "ends soon"},
		{access.RevokedKey, now.Add(time.Hour), "revoked"},
		{access.ExpiredKey, now.Add(-time.Hour), "expired"},
		{access.DisabledUser, time.Time{}, "user disabled"},
		{"something-new", time.Time{}, "something-new"},
	} {
		if got := keyState(c.refused, access.Key{Expires: c.expires}, now); got.Text != c.want || got.Shape == "" || got.Class == "" {
			t.Errorf("%q, %v: %+v, want %s", c.refused, c.expires, got, c.want)
		}
	}
}

// indexOf is an index of runs that began at some times, each of them refused.
func indexOf(t *testing.T, at []time.Time) *store.Index {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index.sqlite")
	w, err := store.OpenWriter(path, true, time.Minute)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	_, err = w.Begin()
	must(err)
	hash := strings.Repeat("0", 64)
	last := audit.Position{Segment: 1}
	for i, when := range at {
		last.Seq, last.Hash = uint64(i+1), hash
		rec := audit.Record{Seq: last.Seq, Timestamp: when.UTC().Format(time.RFC3339Nano), RunID: fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", i), User: audit.User{Name: "alice"}, Status: store.Denied,
			Event: audit.Event{Action: audit.ExecutionDenied}}
		must(w.Add(store.Entry{Record: rec, Hash: hash}))
	}
	must(w.Commit(last))
	must(w.Finish())
	must(w.Close())
	x, err := store.OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// A long time is drawn with few points, which lose no run.
func TestUsagePoints(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 10, 20, 0, 0, time.UTC)
	var at []time.Time
	for day := 900; day >= 0; day-- {
		at = append(at, now.AddDate(0, 0, -day))
	}
	x := indexOf(t, at)
	v := &view{look: look{time.UTC, now, message.NewPrinter(language.English)}, server: &Server{}}
	for _, c := range []struct {
		since  time.Duration
		points int
		runs   int64
		pieces string
	}{{24 * time.Hour, 24, 1, "hours"}, {10 * 24 * time.Hour, 10, 10, "days"}, {1000 * 24 * time.Hour, 181, 901, "5 days each"}} {
		points, pieces, err := v.usagePoints(x, store.Query{Since: now.Add(-c.since).Add(time.Second), Zone: time.UTC})
		if err != nil {
			t.Fatal(err)
		}
		total := &point{}
		for i := range points {
			total.merge(&points[i])
		}
		if row := total.sum(); row.Runs != c.runs || row.Turned() != c.runs || len(points) > mostPoints || pieces != c.pieces {
			t.Errorf("%v: %d points of %s with %d runs, want %s with %d", c.since, len(points), pieces, row.Runs, c.pieces, c.runs)
		}
	}
}
