package ctl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

const evil = "evil\x1b[31m\u202e\u2028\x7f\nnew"

func seqsOf(t *testing.T, out string) (seqs []uint64) {
	t.Helper()
	for line := range strings.Lines(out) {
		var r audit.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		seqs = append(seqs, r.Seq)
	}
	return seqs
}

func TestTail(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	b.run(evil, "timeout", nil)
	b.run("alice", "error", nil)
	tail := func(s selection, count int, format string) string {
		t.Helper()
		b.must(b.tail(t.Context(), s, count, false, format))
		out, errs := b.said()
		if errs != "" {
			t.Errorf("on stderr: %s", errs)
		}
		return out
	}
	log, err := os.ReadFile(filepath.Join(b.dir, "audit.jsonl"))
	b.must(err)
	if got := tail(selection{}, 100, ""); got != string(log) {
		t.Errorf("into a pipe %s, want the lines of the log", got)
	}
	for _, c := range []struct {
		selection
		count int
		want  string
	}{
		{selection{}, 2, "[5 6]"}, {selection{}, 0, "[]"}, {selection{runs: store.Query{User: "alice"}}, 3, "[2 5 6]"}, {selection{runs: store.Query{Status: "timeout"}}, 9, "[4]"}, {selection{runs: store.Query{Script: "none"}}, 9, "[]"},
		{selection{runs: store.Query{User: evil}}, 9, "[3 4]"},
	} {
		if got := fmt.Sprint(seqsOf(t, tail(c.selection, c.count, "json"))); got != c.want {
			t.Errorf("%+v: %s, want %s", c, got, c.want)
		}
	}
	for _, terminal := range []bool{false, true} {
		b.outIsTerminal = terminal
		text := tail(selection{}, 9, "text")
		if strings.Count(text, "\n") != 6 || !strings.Contains(text, `evil\x1b[31m\u202e\u2028\x7f\nnew`) || strings.ContainsAny(text, "\u202e\u2028\x7f") {
			t.Errorf("for people %q", text)
		}
		if got := strings.Contains(text, "\x1b["); got != terminal && os.Getenv("NO_COLOR") == "" {
			t.Errorf("coloured %v on a terminal %v: %q", got, terminal, text)
		}
	}
	if rest := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[0m", "").Replace(tail(selection{}, 9, "")); strings.Contains(rest, "\x1b") {
		t.Errorf("an escape of somebody else's: %q", rest)
	}
}

// With -f no record is missed and none comes twice, over closed segments, and a reader that goes
// ends it.
func TestTailFollows(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	from, to, err := os.Pipe()
	b.must(err)
	defer from.Close()
	d := b.logContext
	d.out = to
	done := make(chan error)
	go func() {
		defer to.Close()
		done <- d.tail(ctx, selection{}, 1, true, "json")
	}()
	lines := bufio.NewReader(from)
	for seq := uint64(2); seq <= 20; seq++ {
		line, err := lines.ReadString('\n')
		b.must(err)
		if got := seqsOf(t, line); got[0] != seq {
			t.Fatalf("record %v, want %d", got, seq)
		}
		if seq%2 == 1 {
			continue
		}
		if seq == 10 { // as a writer closes a segment
			b.must(os.Rename(filepath.Join(b.dir, "audit.jsonl"), filepath.Join(b.dir, "audit-000000000001.jsonl")))
		}
		b.run("alice", "ok", nil)
	}
	b.must(from.Close())
	waitForReader(ctx, to, cancel)
	<-done // a write to nobody, or the cancelled context
	if ctx.Err() != context.Canceled {
		t.Errorf("it ended by %v", ctx.Err())
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	b.run(evil, "ok", nil)
	id := "01a20d4b-0000-7000-8000-000000000002"
	for _, c := range []struct{ what, want, err string }{
		{id, "[3 4]", ""}, {"2", "[2]", ""}, {id[:8], "", "begins 2 run ids"}, {"01a20d4", "", "neither a number nor 8 characters"}, {"99", "", "no record of"},
		{id[:35] + "9", "", "no record of"},
	} {
		err := b.show(c.what, "json")
		out, _ := b.said()
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || out != "") || c.err == "" && (err != nil || fmt.Sprint(seqsOf(t, out)) != c.want) {
			t.Errorf("%s: %v %s, want %s%s", c.what, err, out, c.want, c.err)
		}
	}
	b.must(b.show(id, "text"))
	if out, _ := b.said(); !strings.Contains(out, `"name": "evil\u001b[31m\u202e\u2028\u007f\nnew"`) || strings.ContainsAny(out, "\x1b\u202e\u2028\x7f") {
		t.Errorf("for people %q", out)
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	b.run("=cmd|' /C calc'!A0", "ok", nil)
	b.run(evil, "ok", nil)
	cursor := filepath.Join(t.TempDir(), "cursor.json")
	export := func(s selection, format, cursor string) string {
		t.Helper()
		b.must(b.export(s, format, cursor))
		out, _ := b.said()
		if cursor != "" { // whoever read it has it
			b.must(b.exportAll(exporting{cursor: cursor, commit: commitLast}))
		}
		return out
	}
	if got := fmt.Sprint(seqsOf(t, export(selection{}, "json", cursor))); got != "[1 2 3 4 5 6]" {
		t.Errorf("at first %s", got)
	}
	if got := export(selection{}, "json", cursor); got != "" {
		t.Errorf("a second time %s", got)
	}
	b.run("alice", "ok", nil)
	failing := b.logContext
	failing.out = brokenWriter{}
	if err := failing.export(selection{}, "json", cursor); err == nil {
		t.Error("a reader that is gone is no error")
	}
	if got := fmt.Sprint(seqsOf(t, export(selection{}, "json", cursor))); got != "[7 8]" { // once more, not never
		t.Errorf("after a failure %s", got)
	}

	rows, err := csv.NewReader(strings.NewReader(export(selection{}, "csv", ""))).ReadAll()
	b.must(err)
	if len(rows) != 9 || strings.Join(rows[0], ",") != strings.Join(csvColumns, ",") {
		t.Fatalf("%d rows, %q", len(rows), rows)
	}
	user, hash := 8, slices.Index(csvColumns, "hash")
	if rows[3][user] != "'=cmd|' /C calc'!A0" || rows[5][user] != `evil\x1b[31m\u202e\u2028\x7f\nnew` || csvColumns[user] != "user" {
		t.Errorf("cells %q and %q", rows[3][user], rows[5][user])
	}
	rep, err := b.verify(verification{})
	b.must(err)
	if rows[8][hash] != rep.Last.Hash {
		t.Errorf("hash %s, want %s", rows[8][hash], rep.Last.Hash)
	}

	// A record of a later version, with what nobody here knows, is exported as it is.
	last := rep.Last
	later := fmt.Sprintf(`{"v":2,"@timestamp":"2030-01-01T00:00:00.000000Z","event":{"action":"new","outcome":"success"},"seq":%d,"prev":"%s","user":["a"],"new":1}`, last.Seq+1, last.Hash)
	f, err := os.OpenFile(filepath.Join(b.dir, "audit.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	b.must(err)
	_, err = io.Copy(f, bytes.NewReader([]byte(later+"\n")))
	b.must(err)
	b.must(f.Close())
	if got := export(selection{}, "json", cursor); got != later+"\n" {
		t.Errorf("a later version: %s", got)
	}

	// Retention has removed what was not exported: that is told, and nothing is skipped in silence.
	b.must(os.WriteFile(cursor, []byte(`{"segment":1,"offset":5,"seq":1,"hash":"x"}`), 0o600))
	if err := b.export(selection{}, "json", cursor); err == nil || !strings.Contains(err.Error(), "go on after record 1: another record stands there") {
		t.Errorf("a wrong cursor: %v", err)
	}
	b.must(os.WriteFile(cursor, []byte(`{`), 0o600))
	if err := b.export(selection{}, "json", cursor); err == nil || !strings.Contains(err.Error(), "read "+cursor) {
		t.Errorf("half a cursor: %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
