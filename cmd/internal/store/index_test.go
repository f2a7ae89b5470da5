package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
)

// indexed is an index of a log, and the log.
func indexed(t *testing.T, n int, seed uint64) (*Index, []Entry) {
	t.Helper()
	list := records(n, seed)
	path := filepath.Join(t.TempDir(), "index.db")
	write(t, path, list, 1000)
	x, err := OpenIndex(path)
	check(t, err)
	t.Cleanup(func() { x.Close() })
	return x, list
}

// Pages together are the history, whatever is asked for.
func TestPages(t *testing.T) {
	t.Parallel()
	x, list := indexed(t, 1500, 4)
	log := Log{Entries: sequence(list)}
	for _, q := range queries {
		q.Limit = 0
		want := all(t, log, q)
		q.Limit = 1 + len(want)/3
		var got []Run
		for pages := 0; ; pages++ {
			p, err := x.Page(q)
			check(t, err)
			if got = append(got, p.Runs...); len(p.Runs) > q.Limit || pages > 100 || p.Next == 0 && !p.Reached.IsZero() {
				t.Fatalf("%+v: page %d of %d runs, next %d, reached %v", q, pages, len(p.Runs), p.Next, p.Reached)
			}
			if p.Next == 0 {
				break
			}
			q.Before = p.Next
		}
		if places(got) != places(want) {
			t.Errorf("%+v:\npages %s\nlog   %s", q, places(got), places(want))
		}
	}
}

// A search that finds little stops, says where, and goes on from there.
func TestSearchIsBounded(t *testing.T) {
	t.Parallel()
	x, list := indexed(t, 7000, 5)
	oldest := all(t, Log{Entries: sequence(list)}, Query{})
	want := oldest[len(oldest)-3]
	q := Query{Text: strings.ToUpper(want.ID[24:])}
	stops := 0
	for {
		p, err := x.Page(q)
		check(t, err)
		if p.Next == 0 {
			if len(p.Runs) != 1 || p.Runs[0].ID != want.ID || stops == 0 {
				t.Errorf("found %v after %d stops", p.Runs, stops)
			}
			return
		}
		if p.Reached.IsZero() || p.Next <= want.Place() || len(p.Runs) > 0 {
			t.Fatalf("%d runs, next %d, reached %v", len(p.Runs), p.Next, p.Reached)
		}
		q.Before = p.Next
		stops++
	}
}

func places(runs []Run) (text string) {
	for _, r := range runs {
		text += fmt.Sprint(r.Place(), " ")
	}
	return text
}

func TestRecent(t *testing.T) {
	t.Parallel()
	x, list := indexed(t, 800, 6)
	for _, owner := range []string{"", "bob"} {
		got, err := x.Recent([]string{"report", "pumps", "none", ""}, owner, 9)
		check(t, err)
		if len(got) != 2 {
			t.Errorf("of %v", slices.Sorted(maps.Keys(got)))
		}
		for name, runs := range got {
			if want := all(t, Log{Entries: sequence(list)}, Query{Script: name, Owner: owner, Limit: 9}); places(runs) != places(want) || len(want) != 9 {
				t.Errorf("%s of %q: %s, want %s", name, owner, places(runs), places(want))
			}
		}
	}
}

func TestLastUse(t *testing.T) {
	t.Parallel()
	x, list := indexed(t, 800, 7)
	for _, by := range []By{ByUser, ByKey} {
		want := map[string]time.Time{}
		for _, r := range all(t, Log{Entries: sequence(list)}, Query{}) {
			key := r.User
			if by == ByKey {
				key = r.KeyID
			}
			proved := by == ByUser && !r.Asserted() || by == ByKey && key != "" && r.Reason != "wrong-key"
			if proved && r.Started.After(want[key]) {
				want[key] = r.Started
			}
		}
		got, err := x.LastUse(by)
		check(t, err)
		if len(want) < 5 || !maps.EqualFunc(got, want, time.Time.Equal) {
			t.Errorf("by %s: %v, want %v", by, got, want)
		}
	}
}

func TestSeries(t *testing.T) {
	t.Parallel()
	x, list := indexed(t, 800, 8)
	for _, name := range []string{"UTC", "Asia/Kolkata", "America/St_Johns", "Europe/Berlin", "Australia/Lord_Howe"} {
		zone, err := time.LoadLocation(name)
		check(t, err)
		for _, q := range []Query{{}, {User: "alice"}, {Owner: "bob", Script: "report"}, {Since: time.Date(2026, 10, 3, 7, 20, 0, 0, time.UTC), Until: time.Date(2026, 10, 29, 1, 0, 0, 0, time.UTC)}} {
			q.Zone = zone
			for step, span := range map[By]time.Duration{ByHour: 2 * time.Hour, // one that comes twice when the clocks go back
				ByDay: 25 * time.Hour} {
				want, err := Log{Entries: sequence(list)}.Stats(q, step)
				check(t, err)
				got, err := x.Series(q, step)
				check(t, err)
				if len(got) != len(want) || len(got) < 10 {
					t.Fatalf("%d buckets, want %d", len(got), len(want))
				}
				for i := range got {
					if g, w := rounded([]Group{got[i].Group}), rounded(want[i:i+1]); !slices.Equal(g, w) {
						t.Errorf("%+v by %s:\n%s\nwant\n%s", q, step, g, w)
					}
					if last := got[i].Last; last.Before(got[i].At) || last.Sub(got[i].At) >= span {
						t.Errorf("by %s: %v holds a run of %v", step, got[i].At, last)
					}
				}
			}
		}
	}
}

func TestRecordsOfIndex(t *testing.T) {
	t.Parallel()
	x, list := indexed(t, 4000, 9)
	day := func(d int) time.Time { return time.Date(2026, 10, d, 0, 0, 0, 0, time.UTC) }
	for _, q := range []RecordQuery{{}, {Actions: []audit.Action{audit.Alerted}}, {Actions: []audit.Action{audit.Alerted, audit.PolicyChanged}, User: "bob"}, {Owner: "alice"}, {Owner: "alice", User: "bob"},
		{Text: "errors OF"}, {Text: "zoë"}, {Script: "report"}, {Since: day(3), Until: day(20)}, {Text: "nothing"}, {Actions: []audit.Action{audit.ExecutionDenied}}} {
		want := ""
		for _, e := range slices.Backward(list) {
			p := recordPlace(e)
			if aboutRun(e.Record) || len(q.Actions) > 0 && !slices.Contains(q.Actions, e.Record.Event.Action) || q.User != "" && p.User != q.User || q.Owner != "" && (p.User != q.Owner || e.Hidden) ||
				q.Script != "" && p.Script != q.Script || !q.Since.IsZero() && p.At.Before(q.Since) || !q.Until.IsZero() && !p.At.Before(q.Until) ||
				q.Text != "" && !strings.Contains(strings.ToLower(p.Title+"\n"+p.User), strings.ToLower(q.Text)) {
				continue
			}
			want += fmt.Sprintf("%+v\n", p)
		}
		got := ""
		for q.Limit = 7; ; {
			found, next, err := x.Records(q)
			check(t, err)
			for _, p := range found {
				got += fmt.Sprintf("%+v\n", p)
			}
			if q.Before = next; next == 0 {
				break
			}
			if len(found) != q.Limit {
				t.Errorf("a page of %d", len(found))
			}
		}
		if got != want || want == "" != (q.Text == "nothing" || q.Owner != "" && q.User != "") {
			t.Errorf("%+v:\n%s\nwant\n%s", q, got, want)
		}
	}
}

// The span is that of the log, also after retention.
func TestSpan(t *testing.T) {
	t.Parallel()
	list := records(1000, 10)
	path := filepath.Join(t.TempDir(), "index.db")
	write(t, path, nil, 1)
	x, err := OpenIndex(path)
	check(t, err)
	defer x.Close()
	compare := func(list []Entry) {
		t.Helper()
		var want Span
		if len(list) > 0 {
			first, last := recordPlace(list[0]), recordPlace(list[len(list)-1])
			want = Span{first.Seq, last.Seq, first.At, last.At, 0, int64(len(list))}
			for _, r := range all(t, Log{Entries: sequence(list)}, Query{}) {
				if r.Refusals == 0 {
					want.Runs++
				}
			}
		}
		if got, err := x.Span(); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	compare(nil)
	write(t, path, list, 300)
	compare(list)
	w, err := OpenWriter(path, false, 0)
	check(t, err)
	at, err := w.Begin()
	check(t, err)
	_, err = w.Forget(segmentOf + 1)
	check(t, err, w.Commit(at), w.Close())
	compare(list[segmentOf:])
}

// Readers work while a writer writes, and neither fails for the other.
func TestReadersAndWriter(t *testing.T) {
	t.Parallel()
	list := records(600, 11)
	path := filepath.Join(t.TempDir(), "index.db")
	write(t, path, list[:500], 100)
	x, err := OpenIndex(path)
	check(t, err)
	defer x.Close()
	done, failed := make(chan struct{}), make(chan error, 4)
	for range cap(failed) {
		go func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					failed <- nil
					return
				default:
				}
				for _, err := range x.History(Query{}) {
					if err != nil {
						failed <- err
						return
					}
				}
				if _, err := x.Stats(Query{}, ByUser); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	write(t, path, list[500:], 60)
	close(done)
	for range cap(failed) {
		check(t, <-failed)
	}
}

// Making an index goes on where it was interrupted, and nobody sees it before it is whole.
func TestBuildGoesOn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	list := records(400, 13)
	add := func(w *Writer, part []Entry) {
		t.Helper()
		_, err := w.Begin()
		check(t, err)
		for _, e := range part {
			check(t, w.Add(e))
		}
		last := part[len(part)-1]
		check(t, w.Commit(audit.Position{Segment: 1, Offset: 9, Seq: last.Record.Seq, Hash: last.Hash}))
	}
	w, err := OpenWriter(path, false, 0)
	check(t, err)
	add(w, list[:300])
	_, err = w.Begin()
	check(t, err, w.Add(list[300]), w.Rollback(), w.Close())
	if _, err := OpenIndex(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half an index: %v", err)
	}
	w, err = OpenWriter(path, false, 0)
	check(t, err)
	at, err := w.Begin()
	check(t, err, w.Rollback())
	if at.Seq != 300 || !w.Building() {
		t.Errorf("it goes on behind record %d", at.Seq)
	}
	_, err = w.db.Exec(fmt.Sprintf("PRAGMA application_id = %d", bootNumber()+1))
	check(t, err, w.Close())
	w, err = OpenWriter(path, false, 0)
	check(t, err)
	if at, err = w.Begin(); at.Seq != 0 || !w.Building() {
		t.Errorf("after another boot it goes on behind record %d", at.Seq)
	}
	check(t, err, w.Rollback())
	add(w, list[:300])
	add(w, list[300:])
	check(t, w.Finish(), w.Close())
	x, err := OpenIndex(path)
	check(t, err)
	defer x.Close()
	if got, want := places(all(t, x, Query{})), places(all(t, Log{Entries: sequence(list)}, Query{})); got != want {
		t.Errorf("%s, want %s", got, want)
	}

	// A new one in its place is seen by who has the old one open.
	w, err = OpenWriter(path, true, 0)
	check(t, err)
	add(w, list[:100])
	if n := len(all(t, x, Query{})); n < 390 {
		t.Errorf("%d runs while another one is made", n)
	}
	check(t, w.Finish(), w.Close())
	if got, want := places(all(t, x, Query{})), places(all(t, Log{Entries: sequence(list[:100])}, Query{})); got != want {
		t.Errorf("from the new one %s, want %s", got, want)
	}
}

// A label with too many values has no sums, and the runs still tell.
func TestManyLabels(t *testing.T) {
	t.Parallel()
	list := records(700, 14)
	for i := range list {
		if list[i].Record.RunID != "" && list[i].Record.Labels != nil {
			labels := maps.Clone(list[i].Record.Labels)
			labels["id"], labels["few"] = list[i].Record.RunID[24:], fmt.Sprint(i%3)
			list[i].Record.Labels = labels
		}
	}
	path := filepath.Join(t.TempDir(), "index.db")
	write(t, path, list, 333)
	x, err := OpenIndex(path)
	check(t, err)
	defer x.Close()
	for _, name := range []string{"id", "few", "job"} {
		for _, q := range []Query{{}, {User: "alice"}} {
			want, err := Log{Entries: sequence(list)}.Stats(q, ByLabel(name))
			check(t, err)
			got, err := x.Stats(q, ByLabel(name))
			check(t, err)
			if !slices.Equal(rounded(got), rounded(want)) || len(want) < 2 {
				t.Errorf("by %s, of %q:\n%s\nwant\n%s", name, q.User, rounded(got), rounded(want))
			}
		}
	}
	s, _, err := x.summed(grouping{}, Query{}, ByLabel("id"))
	check(t, err)
	few, _, err := x.summed(grouping{}, Query{}, ByLabel("few"))
	check(t, err)
	if s != nil || few == nil {
		t.Error("which label has sums")
	}
}

// A reader keeps the texts that it has learnt, although another one has made the book of names forget them.
func TestNamesAreKept(t *testing.T) {
	t.Parallel()
	x, _ := indexed(t, 20, 12)
	check(t, x.look(func(v view) error {
		texts, err := v.names.learn(v, map[int64]struct{}{isOK: {}})
		if err != nil {
			return err
		}
		for n := range int64(namesMost) {
			v.names.texts[-n-1] = "other"
		}
		if _, err := v.names.learn(v, nil); err != nil {
			return err
		}
		if len(v.names.texts) > 1 {
			t.Errorf("the book still has %d names", len(v.names.texts))
		}
		if text, err := texts.of(isOK); text != "ok" || err != nil {
			t.Errorf("ok is %q, %v", text, err)
		}
		return nil
	}))
}

// However many texts begin like a code, a query can ask for it.
func TestManyNamesLikeACode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	write(t, path, records(20, 13), 100)
	w, err := OpenWriter(path, false, 0)
	check(t, err)
	_, err = w.Begin()
	check(t, err)
	_, err = w.tx.Exec("WITH RECURSIVE n(i) AS (SELECT 100000 UNION ALL SELECT i + 1 FROM n WHERE i < 140000) INSERT INTO names SELECT i, 'abcdef01' || i, 0, 0 FROM n")
	check(t, err, w.Commit(audit.Position{Segment: 1, Offset: 2000, Seq: 20, Hash: "h"}), w.Close())
	x, err := OpenIndex(path)
	check(t, err)
	defer x.Close()
	p, err := x.Page(Query{Code: "abcdef01"})
	check(t, err)
	if len(p.Runs) != 0 || p.Next != 0 {
		t.Errorf("%d runs, next %d", len(p.Runs), p.Next)
	}
}

// A writer that does not know the tails of all open runs asks the index for each, also where some runs share a tail.
func TestTooManyTails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	w, err := OpenWriter(path, false, 0)
	check(t, err)
	defer w.Close()
	_, err = w.Begin()
	check(t, err)
	for n := range uint64(tailsMost + 2) {
		id := fmt.Sprintf("%08d-%08d", n, max(n, 5)) // the first six share one
		check(t, w.Add(Entry{Record: audit.Record{V: 1, Seq: n + 1, RunID: id, Event: audit.Event{Action: audit.ExecutionStart}}}))
	}
	check(t, w.Commit(audit.Position{Segment: 1, Offset: 1, Seq: tailsMost + 2, Hash: "h"}))
	_, err = w.Begin()
	check(t, err)
	if w.tails != nil {
		t.Errorf("%d tails of %d runs are taken for all", len(w.tails), tailsMost+2)
	}
	check(t, w.Rollback())
}

// Questions are answered while the file is replaced again and again.
func TestReplacedWhileRead(t *testing.T) {
	t.Parallel()
	list := records(30, 14)
	path := filepath.Join(t.TempDir(), "index.db")
	write(t, path, list, 100)
	x, err := OpenIndex(path)
	check(t, err)
	defer x.Close()
	done, failed := make(chan struct{}), make(chan error, 4)
	for range cap(failed) {
		go func() {
			for {
				select {
				case <-done:
					failed <- nil
					return
				default:
				}
				if _, err := x.Stats(Query{}, ByUser); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for range 30 {
		w, err := OpenWriter(path, true, 0)
		check(t, err)
		_, err = w.Begin()
		check(t, err)
		for _, e := range list {
			check(t, w.Add(e))
		}
		check(t, w.Commit(audit.Position{Segment: 1, Offset: 3000, Seq: 30, Hash: "h"}), w.Finish(), w.Close())
	}
	close(done)
	for range cap(failed) {
		check(t, <-failed)
	}
}
