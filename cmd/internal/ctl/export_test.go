package ctl

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// export writes to standard output.
func (d logContext) export(s selection, format, cursor string) error {
	return d.exportAll(exporting{selection: s, format: format, cursor: cursor})
}

// cursorAt is how far a cursor says its reader has come, and to where it waits for a word.
func (b *fixture) cursorAt(path string) string {
	b.Helper()
	c, err := readCursor(path)
	b.must(err)
	if c.Pending != nil {
		return fmt.Sprint(c.Seq, " ", c.Pending.Seq)
	}
	return fmt.Sprint(c.Seq)
}

// Standard output moves no cursor: only a word of its own does.
func TestCommit(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	b.run("alice", "ok", nil)
	cursor := filepath.Join(t.TempDir(), "c.json")
	export := func(want, at string) {
		t.Helper()
		b.must(b.export(selection{}, "json", cursor))
		out, _ := b.said()
		if got := fmt.Sprint(seqsOf(t, out)); got != want || b.cursorAt(cursor) != at {
			t.Errorf("exported %s, the cursor is at %s, want %s and %s", got, b.cursorAt(cursor), want, at)
		}
	}
	commit := func(what, wrong, at string) {
		t.Helper()
		err := b.exportAll(exporting{cursor: cursor, commit: what})
		if (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) || b.cursorAt(cursor) != at {
			t.Errorf("%v, the cursor is at %s, want %s and %s", err, b.cursorAt(cursor), wrong, at)
		}
	}
	commit(commitLast, "no export since the last commit", "0")
	export("[1 2 3 4]", "0 4")
	b.run("bob", "ok", nil)
	export("[1 2 3 4 5 6]", "0 6")
	commit("2", "", "2")
	commit("1", "", "2")
	commit("9", "the log has no record 9 behind record 2", "2")
	commit("x", "want the number of a record", "2")
	commit(commitLast, "no export since the last commit", "2")
	export("[3 4 5 6]", "2 6")
	commit(commitLast, "", "6")
	export("[]", "6 6")
	commit(commitLast, "", "6")
	b.run("bob", "ok", nil)
	export("[7 8]", "6 8")
	failing := b.logContext
	failing.out = brokenWriter{}
	if err := failing.export(selection{}, "json", cursor); err == nil {
		t.Error("a reader that is gone is no error")
	}
	commit(commitLast, "no export since the last commit", "6") // what was pending is not what the last one wrote
	unlock, err := lockState(cursor)
	b.must(err)
	if err := b.export(selection{}, "json", cursor); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("two at once: %v", err)
	}
	unlock()
	list, err := b.cursors([]string{cursor})
	if err != nil || len(list) != 1 || list[0].Seq != 6 {
		t.Errorf("retention sees %v, %v", list, err)
	}
}

// A command moves the cursor by its exit status 0, and by nothing else.
func TestExportToCommand(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	for range 200 { // some 100 kB: more than a pipe holds
		b.run("alice", "ok", nil)
	}
	dir := t.TempDir()
	cursor, got := filepath.Join(dir, "c.json"), filepath.Join(dir, "got")
	for _, c := range []struct{ name, to, wrong, at string }{
		{"fails", "cat > " + got + "; exit 3", "exit status 3", "0"},
		{"killed", "cat > " + got + "; kill -9 $$", "signal: killed", "0"},
		{"not there", "/nonexistent/program", "exit status 127", "0"},
		{"fails at once", "exit 1", "exit status 1", "0"},
		{"success without reading all", "head -c 10 > " + got, "ended before it had read all records", "0"},
		{"success", "cat > " + got, "", "400"},
		{"nothing new", "echo started > " + got, "", "400"},
	} {
		err := b.exportAll(exporting{format: "json", cursor: cursor, to: c.to})
		at := "0"
		if _, missing := os.Stat(cursor); missing == nil {
			at = b.cursorAt(cursor)
		}
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) || at != c.at {
			t.Errorf("%s: %v, the cursor is at %s, want %s and %s", c.name, err, at, c.wrong, c.at)
		}
	}
	text, err := os.ReadFile(got)
	b.must(err)
	if len(seqsOf(t, string(text))) != 400 {
		t.Errorf("%d bytes arrived", len(text))
	}
	// Few records fit into the pipe: then it is the exit status alone that speaks, whoever is quicker.
	b.run("alice", "ok", nil)
	b.must(b.exportAll(exporting{format: "json", cursor: cursor, to: "exit 0"}))
	if at := b.cursorAt(cursor); at != "402" {
		t.Errorf("the cursor is at %s", at)
	}
	// What a command prints is printed, and what it leaves running is not waited for.
	b.run("alice", "ok", nil)
	b.must(b.exportAll(exporting{format: "csv", cursor: cursor, to: "head -n 1; cat > /dev/null; sleep 60 & echo left"}))
	if out, _ := b.said(); out != strings.Join(csvColumns, ",")+"\nleft\n" {
		t.Errorf("it printed %q", out)
	}
}

// A file that is added to has every record once, also behind an export that was killed in the
// middle of a line.
func TestExportToFile(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "csv"} {
		b := newFixture(t)
		b.run("alice", "ok", nil)
		dir := t.TempDir()
		cursor, file := filepath.Join(dir, "c.json"), filepath.Join(dir, "records")
		export := func() error { return b.exportAll(exporting{format: format, cursor: cursor, output: file}) }
		seqs := func() string {
			text, err := os.ReadFile(file)
			b.must(err)
			if format == "json" {
				return fmt.Sprint(seqsOf(t, string(text)))
			}
			rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
			b.must(err)
			list := []string{}
			for _, row := range rows {
				list = append(list, row[0])
			}
			return strings.Replace(fmt.Sprint(list), "seq ", "", 1)
		}
		b.must(export())
		b.run("alice", "ok", nil)
		b.must(export())
		b.must(export())
		if got := seqs(); got != "[1 2 3 4]" || b.cursorAt(cursor) != "4" {
			t.Errorf("%s: the file has %s, the cursor is at %s", format, got, b.cursorAt(cursor))
		}
		b.run("alice", "ok", nil)
		before, err := os.ReadFile(cursor)
		b.must(err)
		b.must(export())
		text, err := os.ReadFile(file)
		b.must(err)
		b.must(os.WriteFile(file, text[:len(text)-30], 0o600)) // killed here
		b.must(os.WriteFile(cursor, before, 0o600))
		b.must(export())
		if got := seqs(); got != "[1 2 3 4 5 5 6]" || b.cursorAt(cursor) != "6" { // twice, and not never
			t.Errorf("%s: after a death the file has %s, the cursor is at %s", format, got, b.cursorAt(cursor))
		}
		b.must(os.Remove(file)) // taken away
		b.run("alice", "ok", nil)
		b.must(export())
		if got := seqs(); got != "[7 8]" {
			t.Errorf("%s: a new file has %s", format, got)
		}
		b.run("alice", "ok", nil)
		current := filepath.Join(b.dir, "audit.jsonl")
		b.must(os.Rename(current, filepath.Join(b.dir, "audit-000000000001.jsonl")))
		b.must(os.Mkdir(current, 0o700)) // an error in the middle
		size, err := os.Stat(file)
		b.must(err)
		if err := export(); err == nil {
			t.Error("a segment that is none is no error")
		}
		if now, err := os.Stat(file); err != nil || now.Size() != size.Size() || b.cursorAt(cursor) != "8" {
			t.Errorf("%s: after an error the file has %d bytes, the cursor is at %s", format, now.Size(), b.cursorAt(cursor))
		}
	}
}

func TestExportReplacesFile(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	dir := t.TempDir()
	file, link := filepath.Join(dir, "records"), filepath.Join(dir, "link")
	b.must(os.WriteFile(file, []byte("old\n"), 0o644))
	b.must(os.Symlink("records", link))
	b.must(b.exportAll(exporting{format: "json", output: link}))
	text, err := os.ReadFile(file)
	b.must(err)
	if got := fmt.Sprint(seqsOf(t, string(text))); got != "[1 2]" {
		t.Errorf("the file has %s", got)
	}
	for _, c := range []struct{ cursor, output, wrong string }{
		{"", "/dev/null", ""}, {"c.json", "/dev/null", "not a regular file"}, {"", "/dev/full", "no space left on device"}, {"", filepath.Join(dir, "absent", "x"), "no such file or directory"},
		{"c.json", filepath.Join(dir, "absent", "x"), "no such file or directory"}, {"", dir, "is a directory"}, {"c.json", dir, "not a regular file"},
	} {
		if c.cursor != "" {
			c.cursor = filepath.Join(dir, c.cursor)
		}
		err := b.exportAll(exporting{format: "json", output: c.output, cursor: c.cursor})
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s %s: %v, want %s", c.output, c.cursor, err, c.wrong)
		}
	}
	b.must(replaceFile("/dev/null", []byte("x"), 0o600))
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Errorf("/dev/null is %v, %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".records*")); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}
