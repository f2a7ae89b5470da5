package store

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"py3run/audit"
)

const segmentOf = 700 // records of a segment

const layout = "2006-01-02T15:04:05.000000Z"

// records makes a log of n runs over some weeks: several at once, some without an end, some orphaned, some whose start is gone.
func records(n int, seed uint64) []Entry {
	r := rand.New(rand.NewPCG(seed, 1))
	users, scripts := []string{"alice", "bob", "carol", `o'hara "x"`, "Zoë", "nul\x00l"}, []string{"", "", "tank-balance", "report", "pumps"}
	hosts := []string{"gw", "gw", "Gateway-2", ""}
	clients := []string{"", "10.0.0.7", "10.0.1.7", "::ffff:10.0.0.9", "fe80::1%eth0", "no address"}
	labels := []map[string]string{nil, nil, {}, {"job": "7"}, {"job": "7", "line": "north"}, {"job": "77"}, {"a,\"job": "7"}, {`<job`: `"7"`, "line": ""}}
	statuses := []string{"ok", "ok", "ok", "ok", "ok", "error", "timeout", "memory_limit"}
	at := time.Date(2026, 9, 30, 22, 0, 0, 0, time.UTC)
	var list []Entry
	seq := uint64(0)
	put := func(rec audit.Record, when time.Time) {
		seq++
		rec.V, rec.Seq, rec.Timestamp = 1, seq, when.UTC().Format(layout)
		rec.Host.Name = hosts[r.IntN(len(hosts))]
		place := audit.Place{Segment: (seq-1)/segmentOf*segmentOf + 1, Offset: int64(seq % segmentOf * 100), Seq: seq}
		list = append(list, Entry{rec, fmt.Sprintf("%064x", seq), place, rec.Event.Action == audit.PolicyChanged})
	}
	var ends []func()
	for i := range n {
		at = at.Add(rand.N(time.Duration(60*24*time.Hour) / time.Duration(max(n, 1))))
		base := audit.Record{
			RunID: fmt.Sprintf("01a20d4b-%04x-7659-b179-%012x", i&0xffff, i), User: audit.User{Name: users[r.IntN(len(users))]}, Auth: audit.Auth{Method: audit.AuthOSUser},
			Script: audit.Script{Name: scripts[r.IntN(len(scripts))]}, Command: "execute", Code: audit.Code{SHA256: fmt.Sprintf("%064x", r.IntN(50)), Bytes: 10},
			Host: audit.Host{Name: "gw"}, Client: audit.Client{IP: clients[r.IntN(len(clients))]}, Labels: labels[r.IntN(len(labels))],
			Invoked: &audit.Invocation{Command: "exec"},
		}
		if base.Script.Name != "" {
			base.Script.Version, base.Script.Source, base.Script.Path = fmt.Sprint(r.IntN(3)), audit.ScriptStored, "/x"
		}
		switch i % 5 {
		case 1:
			base.Auth = audit.Auth{Method: audit.AuthAsserted, OSUser: "gateway"}
		case 2:
			base.Auth = audit.Auth{Method: audit.AuthAPIKey, KeyID: "k7qm2x9a", Holder: "gateway-a"}
		case 3:
			base.Auth = audit.Auth{Method: audit.AuthAPIKey, KeyID: "k" + base.User.Name}
		}
		start := base
		start.Event = audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}
		if i%97 != 5 { // else a log whose beginning was pruned
			put(start, at)
		}
		took := time.Duration(r.ExpFloat64() * float64(2*time.Second))
		end := base
		end.Status, end.Event = statuses[r.IntN(len(statuses))], audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Success, DurationNS: int64(took)}
		code := r.IntN(3)
		end.Process = &audit.Process{CPUMS: took.Milliseconds() / 2, PeakMemoryBytes: int64(r.IntN(1 << 30)), StdoutBytes: new(int64(r.IntN(1000))), ExitCode: &code}
		began := at
		switch {
		case i%101 == 7: // still running
			continue
		case i%103 == 9:
			end.Status, end.Process, end.Event = "", nil, audit.Event{Action: audit.ExecutionOrphaned, Outcome: audit.Unknown, Reason: "launcher-died"}
		}
		ends = append(ends, func() { put(end, began.Add(took)) })
		for len(ends) > r.IntN(4) {
			ends[0]()
			ends = ends[1:]
		}
		if i%200 == 11 {
			put(audit.Record{RunID: base.RunID, Event: audit.Event{Action: audit.AuditRepair, Outcome: audit.Success}}, at)
		}
		switch i % 150 {
		case 20:
			put(audit.Record{Event: audit.Event{Action: audit.Alerted, Outcome: audit.Success}, User: base.User, Script: base.Script, Alert: &audit.Alert{Rule: "errors", Title: "Many ERRORS of " + base.User.Name, Seq: 1}}, at)
		case 40:
			put(audit.Record{Event: audit.Event{Action: audit.PolicyChanged, Outcome: audit.Success, Reason: "changed"}, User: base.User}, at)
		case 60:
			put(audit.Record{Event: audit.Event{Action: audit.ExecutionDenied, Outcome: audit.Denied, Reason: "per-user-per-minute"}, User: base.User, Auth: base.Auth,
				Refusals: &audit.Refusals{Count: 7, First: at.Format(time.RFC3339), Last: at.Add(time.Second).Format(time.RFC3339)}}, at)
		case 80, 81:
			denied := base
			denied.Event, denied.Status = audit.Event{Action: audit.ExecutionDenied, Outcome: audit.Denied, Reason: []string{"wrong-key", "may-not-assert", "no-role"}[r.IntN(3)]}, "denied"
			denied.RunID = fmt.Sprintf("01a20d4c-%04x-7659-b179-%012x", i&0xffff, i)
			put(denied, at)
		}
	}
	for _, e := range ends {
		e()
	}
	return list
}

func sequence(list []Entry) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// write brings an index up to date in pieces.
func write(t testing.TB, path string, list []Entry, piece int) {
	t.Helper()
	w, err := OpenWriter(path, false, 0)
	check(t, err)
	defer w.Close()
	for len(list) > 0 {
		c, err := w.Begin()
		check(t, err)
		now := list[:min(piece, len(list))]
		list = list[len(now):]
		if c.Seq+1 != now[0].Record.Seq {
			t.Fatalf("the cursor is at %d, and the next record is %d", c.Seq, now[0].Record.Seq)
		}
		for _, e := range now {
			check(t, w.Add(e))
		}
		last := now[len(now)-1]
		check(t, w.Commit(audit.Position{Segment: 1, Offset: int64(last.Record.Seq * 100), Seq: last.Record.Seq, Hash: last.Hash}))
	}
	check(t, w.Finish())
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func all(t testing.TB, s Source, q Query) (runs []Run) {
	t.Helper()
	for r, err := range s.History(q) {
		check(t, err)
		runs = append(runs, r)
	}
	return runs
}

var queries = func() (list []Query) {
	day := func(d, h int) time.Time { return time.Date(2026, 10, d, h, 0, 0, 0, time.UTC) }
	for _, q := range []Query{{}, {User: "alice"}, {User: `o'hara "x"`}, {User: "nobody"}, {Script: "report"}, {Status: "ok"}, {Status: "timeout"}, {Status: Orphaned},
		{Status: Running}, {User: "Zoë", Script: "pumps", Status: "error"}, {Limit: 7}, {User: "bob", Limit: 3}} {
		list = append(list, q)
		for _, times := range [][2]time.Time{{day(5, 0), {}}, {{}, day(5, 13)}, {day(3, 7), day(9, 19)}, {day(3, 7), day(3, 19)}, {day(3, 23), day(4, 1)}, {day(9, 0), day(3, 0)}} {
			q.Since, q.Until = times[0], times[1]
			list = append(list, q)
		}
	}
	for _, q := range []Query{
		{Host: "gw"}, {Host: "Gateway-2", User: "alice"}, {Host: "none"}, {User: "nul\x00l"}, {User: "nul"}, {Text: "GATEWAY-2", Limit: 4}, {Text: "zoë"}, {Text: "NORTH", User: "bob"}, {Text: "0000000000c8"}, {Text: "tank"}, {Text: "wrong-k"},
		{Text: "no such words"}, {Before: 900}, {Before: 900, User: "alice", Limit: 5}, {Before: 1}, {Labels: map[string]string{"job": "7"}}, {Labels: map[string]string{"line": "north", "job": "7"}, Limit: 3}, {Labels: map[string]string{`<job`: `"7"`}}, {Labels: map[string]string{"line": ""}},
		{Labels: map[string]string{"": ""}}, {Labels: map[string]string{"job": ""}}, {Script: "report", Version: "2"}, {Client: netip.MustParsePrefix("10.0.0.7/32")}, {Client: netip.MustParsePrefix("10.0.0.0/24"), User: "bob"},
		{Client: netip.MustParsePrefix("fe80::/10"), Limit: 2}, {Client: netip.MustParsePrefix("0.0.0.0/0")}, {Code: fmt.Sprintf("%064x", 7)}, {Code: "00000000"}, {Code: fmt.Sprintf("%063x", 1)}, {Failed: true}, {Failed: true, User: "alice"},
		{Failed: true, Status: "ok"}, {Owner: "alice", Failed: true}, {Owner: "alice", User: "bob"}, {Holder: "gateway-a"}, {Holder: "alice"}, {Holder: "alice", Failed: true, Limit: 5}, {Key: "k7qm2x9a"}, {Key: "k", Labels: map[string]string{"job": "7"}},
	} {
		list = append(list, q)
		q.Since, q.Until = day(3, 7), day(9, 19)
		list = append(list, q)
	}
	return list
}()

// Both sources answer alike, and it does not matter in which pieces the index was written.
func TestSourcesAgree(t *testing.T) {
	t.Parallel()
	list := records(500, 1)
	want, found := answersOf(t, Log{Entries: sequence(list)})
	if found < 1000 {
		t.Errorf("only %d runs in all answers", found)
	}
	for _, q := range queries {
		if n := len(all(t, Log{Entries: sequence(list)}, q)); n == 0 && q.Since.IsZero() && q.Until.IsZero() && !nobody(q) {
			t.Errorf("%+v selects nothing: it would show no difference", q)
		}
	}
	t.Run("backward", func(t *testing.T) {
		t.Parallel()
		got, _ := answersOf(t, Log{Entries: sequence(list), Backward: backward(list)})
		compare(t, want, got)
	})
	for _, piece := range []int{len(list), 37} {
		t.Run(fmt.Sprint(piece), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a b?#.db")
			write(t, path, list, piece)
			index, err := OpenIndex(path)
			check(t, err)
			defer index.Close()
			if c, err := index.Position(); err != nil || c.Seq != uint64(len(list)) || c.Hash != list[len(list)-1].Hash {
				t.Errorf("cursor %+v, %v", c, err)
			}
			got, _ := answersOf(t, index)
			compare(t, want, got)
		})
	}
}

func compare(t *testing.T, want, got []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d answers, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s\nwant\n%s", got[i], want[i])
		}
	}
}

// backward is a log from its newest record on.
func backward(list []Entry) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range slices.Backward(list) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// nobody reports whether a query is one that selects nothing.
func nobody(q Query) bool {
	job, asksJob := q.Labels["job"]
	_, asksNothing := q.Labels[""]
	return q.User == "nobody" || q.User == "nul" || q.Host == "none" || q.Text == "no such words" || q.Before == 1 || asksNothing || asksJob && job == "" || q.Owner != "" && q.User != "" || q.Failed && q.Status == "ok" || q.Key == "k"
}

// answersOf are a source's answers to all questions, each in words, and how many runs are in them.
func answersOf(t *testing.T, s Source) (answers []string, runs int) {
	t.Helper()
	for _, q := range queries {
		for _, r := range all(t, s, q) {
			exit := "none"
			if r.ExitCode != nil {
				exit = fmt.Sprint(*r.ExitCode)
				r.ExitCode = nil
			}
			answers = append(answers, fmt.Sprintf("%+v: %+v, exit code %s", q, r, exit))
			runs++
		}
		bys := []By{ByAll, ByUser, ByScript, ByStatus, ByDay, ByHour, ByHost, ByKey, ByReason, ByLabel("job"), ByLabel("line"), ByLabel("none")}
		if !q.Since.IsZero() || !q.Until.IsZero() {
			bys = []By{ByUser, ByDay}
		}
		for _, by := range bys {
			groups, err := s.Stats(q, by)
			check(t, err)
			answers = append(answers, fmt.Sprintf("%+v by %s: %q", q, by, rounded(groups)))
		}
	}
	actions, err := s.Actions()
	check(t, err)
	if len(actions) != 8 {
		t.Errorf("actions %v", actions)
	}
	return append(answers, fmt.Sprint(actions)), runs
}

func rounded(groups []Group) (lines []string) {
	for _, g := range groups {
		lines = append(lines, fmt.Sprint(g.Key, g.Asserted, g.Runs, g.Failed, g.Statuses, g.CPU, g.PeakMemory, g.OutputBytes, g.Refused, g.Last,
			g.Percentile(0.5), g.Percentile(0.95), g.Percentile(1)))
	}
	return lines
}

func TestClear(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	write(t, path, records(50, 2), 1000)
	w, err := OpenWriter(path, false, 0)
	check(t, err)
	_, err = w.Begin()
	check(t, err, w.Clear())
	other := records(20, 3)
	for _, e := range other {
		check(t, w.Add(e))
	}
	check(t, w.Commit(audit.Position{Seq: uint64(len(other))}), w.Close())
	index, err := OpenIndex(path)
	check(t, err)
	defer index.Close()
	if got := len(all(t, index, Query{})); got != 20 {
		t.Errorf("%d runs, want 20", got)
	}
}

// A writer that ends in the middle leaves what was there, and readers wait for one another.
func TestHalfWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	list := records(60, 2)
	write(t, path, list[:50], 1000)
	w, err := OpenWriter(path, false, 0)
	check(t, err)
	_, err = w.Begin()
	check(t, err, w.Add(list[50]))
	index, err := OpenIndex(path)
	check(t, err)
	defer index.Close()
	if c, err := index.Position(); err != nil || c.Seq != 50 {
		t.Errorf("while it is written: cursor %+v, %v", c, err)
	}
	check(t, w.Rollback(), w.Close())
	write(t, path, list[50:], 1000)
	if c, err := index.Position(); err != nil || c.Seq != uint64(len(list)) {
		t.Errorf("after it: cursor %+v, %v", c, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// What cannot be written is forgotten, and leaves the writer usable.
func TestFailedCommit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	list := records(20, 2)
	w, err := OpenWriter(path, false, 0)
	check(t, err)
	defer w.Close()
	_, err = w.Begin()
	check(t, err, w.Add(list[0]))
	_, err = w.tx.Exec("DROP TABLE cursor")
	check(t, err)
	if err := w.Commit(audit.Position{Seq: 1}); err == nil {
		t.Error("committed without a cursor")
	}
	check(t, w.Rollback())
	at, err := w.Begin()
	check(t, err)
	if at.Seq != 0 {
		t.Errorf("read to %d", at.Seq)
	}
	check(t, w.Add(list[0]), w.Commit(audit.Position{Seq: 1}))
}

// Of several that make an index anew at once each leaves a whole one, and whoever does not want to wait is told.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	check(t, os.WriteFile(path, []byte("no database, but a text of some length"), 0o600))
	for _, open := range []func() error{
		func() error { _, err := OpenIndex(path); return err },
		func() error { _, err := OpenWriter(path, false, 0); return err },
	} {
		if err := open(); !errors.Is(err, ErrDamaged) {
			t.Errorf("a text: %v", err)
		}
	}
	check(t, os.WriteFile(path+"-journal", []byte("of another one"), 0o600))
	list := records(30, 2)
	var writers sync.WaitGroup
	for range 6 {
		writers.Go(func() {
			w, err := OpenWriter(path, true, time.Hour)
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
			_, err = w.Begin()
			for _, err := range []error{err, w.Clear()} {
				if err != nil {
					t.Error(err)
				}
			}
			for _, e := range list {
				if err := w.Add(e); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(w.Commit(audit.Position{Seq: uint64(len(list))}), w.Finish()); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	index, err := OpenIndex(path)
	check(t, err)
	defer index.Close()
	if got := len(all(t, index, Query{})); got != 30 {
		t.Errorf("%d runs, want 30", got)
	}
	w, err := OpenWriter(path, false, 0)
	check(t, err)
	defer w.Close()
	if _, err := OpenWriter(path, false, 0); err == nil || !strings.Contains(err.Error(), "another writer is at work") {
		t.Errorf("two writers: %v", err)
	}
}

func TestOtherVersion(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	w, err := OpenWriter(path, false, 0)
	check(t, err, w.Finish())
	_, err = w.db.Exec("PRAGMA user_version = 99")
	check(t, err, w.Close())
	if _, err := OpenIndex(path); !errors.Is(err, ErrVersion) {
		t.Errorf("read: %v", err)
	}
	if _, err := OpenWriter(path, false, 0); !errors.Is(err, ErrVersion) {
		t.Errorf("write: %v", err)
	}
	check(t, os.WriteFile(path, []byte("no database, but a text of some length"), 0o600))
	if _, err := OpenIndex(path); err == nil {
		t.Error("a text was taken for an index")
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	for us := range uint64(5_000_000) {
		d := time.Duration(us) * time.Microsecond
		m := middle(bucketOf(d))
		if us > 0 && (m-d).Abs()*32 > d+32*time.Microsecond/2 {
			t.Fatalf("%v is counted as %v", d, m)
		}
		us += us / 100
	}
	var h, o Histogram
	var list []time.Duration
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 10_000 {
		d := time.Duration(r.ExpFloat64() * float64(time.Minute))
		list = append(list, d)
		if i%2 == 0 {
			h.Add(d)
		} else {
			o.Add(d)
		}
	}
	h.Merge(o)
	again := decodeHistogram(&decoder{text: h.encode(nil)})
	slices.Sort(list)
	for _, p := range []float64{0, 0.01, 0.5, 0.95, 0.99, 1} {
		want := list[max(int(p*float64(len(list)))-1, 0)]
		if got := again.Percentile(p); (got-want).Abs()*30 > want || p == 1 && got != want {
			t.Errorf("percentile %v: %v, want %v", p, got, want)
		}
	}
	var none Histogram
	if none.Percentile(0.5) != 0 {
		t.Error("percentile of nothing")
	}
	for _, text := range [][]byte{{0x80}, {1, 200, 1}, {1, 2, 1, 1}} {
		d := &decoder{text: text}
		if decodeHistogram(d); !d.wrong {
			t.Errorf("a damaged histogram was read: %v", text)
		}
	}
	if got := middle(bucketOf(1<<63 - 1)); got < 1<<62 {
		t.Errorf("the longest duration is counted as %v", got)
	}
}

// How long an orphaned run took nobody knows: it counts, but not as one that took no time.
func TestOrphansHaveNoDuration(t *testing.T) {
	t.Parallel()
	g := single(&Run{Status: Orphaned})
	g.merge(single(&Run{Status: "ok", Duration: time.Second}))
	if g.Runs != 2 || g.durations.Count() != 1 || g.Percentile(0.5) < time.Second*9/10 {
		t.Errorf("%d runs, %d durations, half of them below %v", g.Runs, g.durations.Count(), g.Percentile(0.5))
	}
}
