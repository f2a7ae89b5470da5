package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// aged is a log of closed segments of four records each, one a day, the last of them of the day now.
func aged(t *testing.T, days int, now time.Time) (dir string, l *Log) {
	t.Helper()
	dir = logDir(t)
	must(t, os.Mkdir(dir, 0o700))
	last := origin
	for day := range days {
		var text []byte
		first := last.seq + 1
		for i := range 4 {
			r := startRecord(fmt.Sprint("r", day, "-", i/2))
			if i%2 == 1 {
				r = endRecord(r.RunID)
			}
			r.follow(last)
			r.Timestamp = now.AddDate(0, 0, day-days+1).Add(time.Duration(i-4) * time.Second).UTC().Format(timeLayout)
			line, _, err := (&draft{record: r, maxString: maxString}).encode()
			must(t, err)
			last = head{seq: r.Seq, hash: hexSHA256(line)}
			text = append(append(text, line...), '\n')
		}
		must(t, os.WriteFile(filepath.Join(dir, segmentName(first)), text, 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, lockName), fmt.Appendf(nil, "%020d %s\n", last.seq, last.hash), 0o600))
	l = openLog(t, dir)
	l.NoSync = true
	return dir, l
}

func operator() Record {
	return Record{Host: ThisHost(), User: User{Name: "root"}, Auth: Auth{Method: AuthOSUser}}
}

func segmentsOf(plan []Segment) string {
	var texts []string
	for _, s := range plan {
		texts = append(texts, fmt.Sprint(s.First.Seq))
	}
	return strings.Join(texts, " ")
}

func TestPlan(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC) // the night of a change to summer time
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string, p *Policy)
		want string // first records of segments
		err  string
		rest string // what waits
	}{
		{"all young", func(t *testing.T, dir string, p *Policy) { p.Days = 30 }, "", "", ""},
		{"kept for ever", func(t *testing.T, dir string, p *Policy) { p.Days = 0 }, "", "", ""},
		{"three old", func(t *testing.T, dir string, p *Policy) { p.Days = 7 }, "1 5 9", "", ""},
		{"a second too young", func(t *testing.T, dir string, p *Policy) { p.Days, p.Now = 7, p.Now.Add(-2*time.Second) }, "1 5", "", ""},
		{"in another time zone", func(t *testing.T, dir string, p *Policy) {
			p.Days, p.Now = 7, p.Now.In(time.FixedZone("", 14*3600))
		}, "1 5 9", "", ""},
		{"half of them", func(t *testing.T, dir string, p *Policy) { p.Days = 5 }, "1 5 9 13 17", "", ""},
		{"more than half", func(t *testing.T, dir string, p *Policy) { p.Days = 4 }, "", "remove old segments: 6 of 10 segments are older than 4 days, more than half", ""},
		{"more than half, by force", func(t *testing.T, dir string, p *Policy) { p.Days, p.Force = 4, true }, "1 5 9 13 17 21", "", ""},
		{"the clock jumps to 2099", func(t *testing.T, dir string, p *Policy) {
			p.Days, p.Force, p.Now = 7, true, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
		}, "", "remove old segments: all records are older than 7 days, the newest is of 2026-03-28: the clock may be wrong", ""},
		{"the clock jumps to 2099, and a record is written", func(t *testing.T, dir string, p *Policy) {
			p.Days, p.Now = 7, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
			editLine(t, dir, 40, func(s string) string { return strings.Replace(s, `"2026-03-28T`, `"2099-01-01T`, 1) })
		}, "", "remove old segments: 9 of 10 segments are older than 7 days, more than half", ""},
		{"the clock was in the past", func(t *testing.T, dir string, p *Policy) {
			p.Days, p.Now = 7, time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
		}, "", "", ""},
		{"a cursor in the middle", func(t *testing.T, dir string, p *Policy) {
			p.Days, p.Cursors = 7, []Cursor{{"passed", 12}, {"siem", 8}, {"further", 11}}
		}, "1 5", "", "siem has only read up to record 8: 1 segments from audit-000000000009.jsonl on are kept"},
		{"a cursor at the beginning, and force", func(t *testing.T, dir string, p *Policy) {
			p.Days, p.Force, p.Cursors = 7, true, []Cursor{{"siem", 3}}
		}, "", "", "siem has only read up to record 3: 3 segments from audit-000000000001.jsonl on are kept"},
		{"broken", func(t *testing.T, dir string, p *Policy) {
			p.Days = 7
			editLine(t, dir, 6, func(s string) string { return strings.Replace(s, "alice", "mallo", 1) })
		}, "", "remove old segments: what is to be removed has 1 faults that nothing explains: see verify", ""},
		{"broken at the joint", func(t *testing.T, dir string, p *Policy) {
			p.Days = 7
			editLine(t, dir, 12, func(s string) string { return strings.Replace(s, "alice", "mallo", 1) })
		}, "", "remove old segments: what is to be removed has 1 faults that nothing explains: see verify", ""},
		{"broken, and force", func(t *testing.T, dir string, p *Policy) {
			p.Days, p.Force = 7, true
			editLine(t, dir, 6, func(s string) string { return strings.Replace(s, "alice", "mallo", 1) })
		}, "1 5 9", "", ""},
		{"broken where it stays", func(t *testing.T, dir string, p *Policy) {
			p.Days = 7
			editLine(t, dir, 14, func(s string) string { return strings.Replace(s, "alice", "mallo", 1) })
		}, "1 5 9", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, _ := aged(t, 10, now)
			p := Policy{Now: now}
			c.do(t, dir, &p)
			plan, err := check(t, dir, Check{Tree: true}).Plan(p)
			text := ""
			if err != nil {
				var guard *GuardError
				if !errors.As(err, &guard) {
					t.Error("not a GuardError")
				}
				text = err.Error()
			}
			if got := segmentsOf(plan.Segments); got != c.want || text != c.err || strings.Join(plan.Waits, "\n") != c.rest {
				t.Errorf("segments %q, error %q, waits %q\nwant %q, %q, %q", got, text, plan.Waits, c.want, c.err, c.rest)
			}
		})
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	now := time.Now()
	dir, l := aged(t, 10, now)
	must(t, os.WriteFile(filepath.Join(dir, "torn-000000000007-1.frag"), []byte("x"), 0o600), os.WriteFile(filepath.Join(dir, "torn-000000000020-1.frag"), []byte("x"), 0o600))
	verified := func() *Report {
		t.Helper()
		rep := check(t, dir, Check{Tree: true, Sizes: []uint64{12, 25, 40}})
		return rep
	}
	before := verified()
	prune := func(days int) (Plan, Receipt) {
		t.Helper()
		plan, err := verified().Plan(Policy{Now: now, Days: days})
		must(t, err)
		receipt, err := l.Prune(operator(), plan)
		must(t, err)
		return plan, receipt
	}
	_, receipt := prune(7)
	var rec Record
	must(t, json.Unmarshal(receipt.Line, &rec))
	if r := rec.Retention; rec.Seq != 41 || r == nil || r.FirstSeq != 1 || r.LastSeq != 12 || r.Records != 12 || r.Segments != 3 || r.Days != 7 || r.Tree.Size != 12 ||
		r.Tree.Root != before.Ranges[12].Root().String() || !strings.HasPrefix(r.Tree.Origin, "py3run/gw-a/") {
		t.Errorf("record %s", receipt.Line)
	}
	after := verified()
	if got := summary(after); got != "" || after.First.Seq != 13 || after.Pruned == nil || after.Tree.End != 41 || after.Origin != before.Origin {
		t.Errorf("found %q, %+v", got, after)
	}
	for _, size := range []uint64{12, 25, 40} { // the tree goes on as if nothing were gone
		if got, want := after.Ranges[size].Root(), before.Ranges[size].Root(); got != want {
			t.Errorf("root of %d leaves %v, want %v", size, got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "torn-000000000007-1.frag")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a fragment of removed records is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "torn-000000000020-1.frag")); err != nil {
		t.Errorf("a fragment of a record that stays is gone: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "torn-000000000020-1.frag")))
	run(t, l, "goes-on")
	mustAppend(t, l, endRecord("began-long-ago")) // its start may be among what was removed

	// Another one, that is interrupted after its record, and once more after a segment.
	plan, err := verified().Plan(Policy{Now: now, Days: 5})
	must(t, err)
	if got := segmentsOf(plan.Segments); got != "13 17" {
		t.Fatalf("segments %s", got)
	}
	r := operator()
	r.Event, r.Retention = Event{Action: AuditRetention, Outcome: Success}, &plan.Retention
	mustAppend(t, l, r)
	if got := summary(verified()); got != "warning prune-unfinished 13" {
		t.Errorf("after the record: found %q", got)
	}
	must(t, os.Remove(filepath.Join(dir, segmentName(13))))
	if got := summary(verified()); got != "warning prune-unfinished 17" {
		t.Errorf("after a segment: found %q", got)
	}
	if got, want := verified().Ranges[40].Root(), before.Ranges[40].Root(); got != want {
		t.Errorf("root of 40 leaves %v, want %v", got, want)
	}
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, currentName))
		must(t, err)
		return info.Size()
	}
	whole := size()
	plan, _ = prune(5)
	if len(plan.Segments) != 0 || segmentsOf(plan.Leftover) != "17" || size() != whole {
		t.Errorf("finished %+v, with %d bytes more in the log", plan, size()-whole)
	}
	if got := summary(verified()); got != "" {
		t.Errorf("found %q", got)
	}

	// Removal by hand is not retention.
	must(t, os.Remove(filepath.Join(dir, segmentName(21))))
	if got := summary(verified()); got != "broken records-missing 1; broken end-without-start 44" {
		t.Errorf("removed by hand: found %q", got)
	}
}

func TestPruneRefuses(t *testing.T) {
	t.Parallel()
	dir, l := aged(t, 10, time.Now())
	plan, err := check(t, dir, Check{Tree: true}).Plan(Policy{Now: time.Now(), Days: 7})
	must(t, err)
	edit(t, filepath.Join(dir, segmentName(5)), func(b []byte) []byte { return append(b, 'x') })
	if _, err := l.Prune(operator(), plan); err == nil || !strings.Contains(err.Error(), "is not what was verified") {
		t.Errorf("error %v", err)
	}
	if got := len(files(t, dir)); got != 11 { // with the current one, which is not there
		t.Errorf("%d segments", got)
	}
	if _, err := os.Stat(filepath.Join(dir, currentName)); err == nil {
		t.Error("a record was written")
	}
}

// Retention and writers exclude each other: nothing is written between the record and the removal, and nobody finds the log half removed.
func TestPruneWhileWritten(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	c := childCommand(t, "run-forever", dir)
	must(t, c.Start())
	defer func() {
		c.Process.Kill()
		c.Wait()
	}()
	var l *Log
	pruned := 0
	for deadline := time.Now().Add(time.Minute); pruned < 5; {
		if time.Now().After(deadline) {
			t.Fatalf("pruned only %d times", pruned)
		}
		if _, err := os.Stat(filepath.Join(dir, currentName)); err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if l == nil {
			l = openLog(t, dir)
			l.NoSync = true
		}
		rep := verifyOnce(t, dir, Check{Tree: true})
		if got := summary(rep); got != "" {
			t.Fatalf("found %q: %v", got, rep.Findings)
		}
		closed := rep.Segments[:len(rep.Segments)-1]
		if len(closed) < 3 {
			continue
		}
		// As far as a time goes everything is young: what is old is said by force.
		old := closed[:len(closed)/2]
		last := old[len(old)-1]
		plan := Plan{Segments: old, Retention: Retention{Segments: len(old), FirstSeq: old[0].First.Seq, LastSeq: last.Last.Seq, LastHash: last.Last.Hash, Tree: treeOf(rep.Origin, last.Tree)}}
		_, err := l.Prune(operator(), plan)
		must(t, err)
		pruned++
	}
}
