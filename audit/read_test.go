package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func openReader(t *testing.T, dir string) *Reader {
	t.Helper()
	r, err := OpenReader(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// told is what an iteration yields: the seq of each record, and the errors.
func told(seq func(func(Line, error) bool)) string {
	var texts []string
	for line, err := range seq {
		if err != nil {
			texts = append(texts, err.Error())
		} else {
			texts = append(texts, fmt.Sprint(line.Seq))
		}
	}
	return strings.Join(texts, " ")
}

func numbers(from, to int) string {
	var texts []string
	for i := from; i <= to; i++ {
		texts = append(texts, fmt.Sprint(i))
	}
	return strings.Join(texts, " ")
}

func reversed(text string) string {
	parts := strings.Split(text, " ")
	slices.Reverse(parts)
	return strings.Join(parts, " ")
}

func TestRecords(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 20)
	r := openReader(t, dir)
	if got := told(r.Records(Position{})); got != numbers(1, 40) {
		t.Errorf("forward: %s", got)
	}
	if got := told(r.Backward()); got != reversed(numbers(1, 40)) {
		t.Errorf("backward: %s", got)
	}
	var positions []Position
	var texts [][]byte
	for line, err := range r.Records(Position{}) {
		must(t, err)
		rec, err := line.Record()
		must(t, err)
		if rec.Seq != line.Seq || rec.RunID != line.RunID || rec.Event.Action != line.Action || rec.Timestamp != line.Time.Format(timeLayout) {
			t.Fatalf("%+v of %s", line, line.Text)
		}
		positions, texts = append(positions, line.Position()), append(texts, line.Text)
	}
	for i, text := range texts[1:] { // they stay valid, and the hash is what the next one is joined to
		if !bytes.Contains(text, []byte(`"prev":"`+positions[i].Hash+`"`)) {
			t.Errorf("record %d is not joined to the one before", i+2)
		}
	}
	check := func(what string, from, to int) {
		t.Helper()
		for _, p := range positions[from:] {
			if got := told(r.Records(p)); got != numbers(int(p.Seq)+1, to) {
				t.Errorf("%s, after %d: %s", what, p.Seq, got)
			}
		}
	}
	check("as it was", 0, 40)
	for i := range 10 { // new segments, and the current one gets another name
		run(t, l, fmt.Sprint("more", i))
	}
	check("later", 0, 60)
	tear(t, dir, "hello\n{\"v\"")
	check("with a torn end", 0, 60)
	if got := told(r.Backward()); got != reversed(numbers(1, 60)) {
		t.Errorf("backward, with a torn end: %s", got)
	}
	must(t, os.Remove(files(t, dir)[0])) // 1 to 12
	check("pruned", 11, 60)
	for line, err := range r.Records(positions[10]) {
		var gone *PositionError
		if !errors.As(err, &gone) || !gone.Pruned || err.Error() != "go on after record 11: its segment is not there any more, and the log begins with record 13" {
			t.Errorf("%+v %v", line, err)
		}
	}
	editLine(t, dir, 20, func(line string) string { return strings.Replace(line, "alice", "mallo", 1) })
	if got := told(r.Records(positions[19])); got != "go on after record 20: another record stands there" {
		t.Errorf("after a changed record: %s", got)
	}
	editLine(t, dir, 20, func(string) string { return "" })
	if got := told(r.Records(positions[23])); !strings.HasPrefix(got, "go on after record 24: audit-000000000013.jsonl has only ") {
		t.Errorf("after a cut record: %s", got)
	}
	for _, name := range files(t, dir) {
		must(t, os.Remove(name))
	}
	if got := told(r.Records(positions[30])); got != "go on after record 31: its segment is not there any more, nor any later one" {
		t.Errorf("without a log: %s", got)
	}
	if got := told(r.Records(Position{})) + told(r.Backward()); got != "" {
		t.Errorf("without a log, from the beginning: %s", got)
	}
}

// Lines that are no records, and lines of any length, stop nobody; what is longer than all reason ends the iteration.
func TestRecordsBadLines(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 20)
	r := openReader(t, dir)
	editLine(t, dir, 2, func(s string) string { return "hello\n" + s })
	editLine(t, dir, 14, func(s string) string { return strings.Repeat("x", 3<<20) + "\n" + s })
	editLine(t, dir, 26, func(s string) string {
		return strings.Replace(s, `"user":{`, `"user":{"id":"`+strings.Repeat("y", 2<<20)+`",`, 1)
	})
	want := strings.Replace(strings.Replace(numbers(1, 40), "1 2 3", "1 X 2 3", 1), "13 14", "13 X 14", 1)
	bad := regexp.MustCompile(`audit-\d+.jsonl: line at byte \d+: not JSON`)
	for _, got := range []string{bad.ReplaceAllString(told(r.Records(Position{})), "X"), reversed(bad.ReplaceAllString(told(r.Backward()), "X"))} {
		if got != want {
			t.Errorf("%s", got)
		}
	}
	if rep := check(t, dir, Check{}); summary(rep) != "broken line-form; broken line-form; broken line-form 26; broken chain-broken 26" {
		t.Errorf("verify finds %s", summary(rep))
	}
	run(t, l, "more") // all of it is in closed segments and stays; the end is the writer's
	must(t, os.Truncate(filepath.Join(dir, currentName), blockMost+blockSize))
	if got := told(r.Records(Position{})); !strings.Contains(got, "no newline in ") {
		t.Errorf("%s", got)
	}
	if rep := verifyOnce(t, dir, Check{}); rep.Worst() != Unreadable {
		t.Errorf("verify finds %s", summary(rep))
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	l.NoSync, l.segmentMost = true, 5000
	r := openReader(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range 30 {
			run(t, l, fmt.Sprint("r", i))
			time.Sleep(30 * time.Millisecond) // over several looks
		}
	}()
	var seen []string
	for line, err := range r.Follow(ctx, Position{}) {
		must(t, err)
		seen = append(seen, fmt.Sprint(line.Seq))
		if len(seen) == 60 {
			cancel()
		}
	}
	<-written
	if got := strings.Join(seen, " "); got != numbers(1, 60) {
		t.Errorf("followed %s", got)
	}
}

// Segments of other times are left out as a whole, and no record of the time.
func TestWithin(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 30)
	names := files(t, dir)
	if len(names) < 4 {
		t.Fatalf("%d segments", len(names))
	}
	r := openReader(t, dir)
	var all []Line
	for line, err := range r.Records(Position{}) {
		must(t, err)
		all = append(all, line)
	}
	seqs := func(lines func(func(Line, error) bool), since, until time.Time) (text string, read int) {
		t.Helper()
		for line, err := range lines {
			must(t, err)
			if read++; (since.IsZero() || !line.Time.Before(since)) && (until.IsZero() || line.Time.Before(until)) {
				text += fmt.Sprint(line.Seq, " ")
			}
		}
		return text, read
	}
	everything := func(yield func(Line, error) bool) {
		for _, line := range all {
			if !yield(line, nil) {
				return
			}
		}
	}
	newest := all[len(all)-1]
	for _, c := range []struct{ since, until time.Time }{{}, {since: newest.Time}, {since: all[25].Time}, {until: all[25].Time}, {all[20].Time, all[21].Time}, {since: newest.Time.Add(time.Hour)}, {until: all[0].Time}} {
		want, _ := seqs(everything, c.since, c.until)
		got, read := seqs(r.RecordsWithin(Position{}, c.since, c.until), c.since, c.until)
		if got != want || (c.since.IsZero() && c.until.IsZero()) != (read == len(all)) {
			t.Errorf("%v: read %d of %d records for %s, want %s", c, read, len(all), got, want)
		}
		back, readBack := seqs(r.BackwardWithin(c.since, c.until), c.since, c.until)
		if reversed(strings.TrimSpace(back)) != strings.TrimSpace(want) || readBack != read {
			t.Errorf("%v backwards: read %d records for %s, want %s", c, readBack, back, want)
		}
	}
	// After a position in a segment that is left out.
	if got, read := seqs(r.RecordsWithin(all[2].Position(), newest.Time, time.Time{}), newest.Time, time.Time{}); got != fmt.Sprint(newest.Seq, " ") || read >= len(all)-3 {
		t.Errorf("behind a position: read %d records for %s", read, got)
	}
}
