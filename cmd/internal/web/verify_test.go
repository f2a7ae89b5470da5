package web

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

// One verification is under way at a time. A visitor can stop it, and so does nobody's interest.
func TestVerification(t *testing.T) {
	t.Parallel()
	var v verification
	clock := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return clock }
	steps, ended := make(chan audit.Progress), make(chan error)
	work := func(tell func(audit.Progress) error) (Verified, error) {
		for p := range steps {
			if err := tell(p); err != nil {
				ended <- err
				return Verified{}, err
			}
			ended <- nil
		}
		return Verified{Verdict: "ok", Last: 7}, nil
	}
	step := func(p audit.Progress) error { steps <- p; return <-ended }
	result := func() *latest {
		for {
			if u, l := v.look(clock); u == nil {
				return l
			}
			time.Sleep(time.Millisecond)
		}
	}
	v.begin("alice", now, work)
	v.begin("bob", now, func(func(audit.Progress) error) (Verified, error) {
		t.Error("a second one has begun")
		return Verified{}, nil
	})
	if err := step(audit.Progress{Records: 3, Bytes: 50, Total: 100}); err != nil {
		t.Fatal(err)
	}
	if u, l := v.look(clock); u == nil || u.By != "alice" || u.Progress.Records != 3 || l != nil {
		t.Fatalf("%+v, %+v", u, l)
	}
	close(steps)
	if l := result(); l.Err != nil || l.Last != 7 || l.By != "alice" {
		t.Errorf("%+v", l)
	}
	for _, c := range []struct {
		name string
		do   func()
		want error
	}{
		{"a visitor", func() { v.end(errStopped) }, errStopped},
		{"nobody", func() { clock = clock.Add(verifyPatience + time.Second) }, errUnwatched},
	} {
		steps = make(chan audit.Progress)
		v.begin("alice", now, work)
		c.do()
		if err := step(audit.Progress{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if l := result(); !errors.Is(l.Err, c.want) {
			t.Errorf("%s: %+v", c.name, l)
		}
	}
}

// What a segment is follows from the newest verification; what came later is not checked.
func TestStateOfSegments(t *testing.T) {
	t.Parallel()
	file := audit.SegmentEntry{Name: "audit-000000000001.jsonl", First: 1, Bytes: 10}
	done := func(findings ...audit.Finding) *latest {
		for i := range findings {
			if findings[i].Segment == "" {
				findings[i].Segment = file.Name
			}
		}
		return &latest{Verified: Verified{Last: 9, Segments: []audit.Segment{{Name: file.Name, Bytes: 10, First: audit.Link{Seq: 1}}}, Findings: findings}}
	}
	broken := audit.Finding{Severity: audit.Broken}
	seen := broken
	seen.Acknowledged = &audit.Acknowledgement{}
	for _, c := range []struct {
		name string
		file audit.SegmentEntry
		last *latest
		want segmentState
	}{
		{"never", file, nil, segmentUnchecked},
		{"failed", file, &latest{Err: errStopped}, segmentUnchecked},
		{"whole", file, done(), segmentVerified},
		{"closed meanwhile", audit.SegmentEntry{Name: "audit.jsonl", First: 1, Bytes: 10}, done(), segmentVerified},
		{"new", audit.SegmentEntry{Name: "audit-000000000010.jsonl", First: 10}, done(), segmentUnchecked},
		{"a note", file, done(audit.Finding{Severity: audit.Note}), segmentVerified},
		{"a warning", file, done(audit.Finding{Severity: audit.Warning}), segmentWarning},
		{"of another", file, done(audit.Finding{Severity: audit.Broken, Segment: "x"}), segmentVerified},
		{"broken", file, done(audit.Finding{Severity: audit.Warning}, broken), segmentBroken},
		{"acknowledged", file, done(seen), segmentWarning},
		{"not readable", file, done(audit.Finding{Severity: audit.Unreadable}), segmentUnread},
		{"no segment", audit.SegmentEntry{Name: file.Name, Err: errors.New("a pipe")}, done(), segmentUnread},
	} {
		if got := stateOf(c.file, c.last); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, segmentStates[got].name, segmentStates[c.want].name)
		}
	}
}

// Where there are more segments than a strip can show, neighbours are one, as the worst of them is.
func TestJoinedSegments(t *testing.T) {
	t.Parallel()
	var pieces []stripPiece
	for i := range 1001 {
		pieces = append(pieces, stripPiece{name: fmt.Sprint(i), first: uint64(i + 1), last: uint64(i + 1), bytes: 2, joined: 1})
	}
	pieces[777].state, pieces[777].findings = segmentBroken, 3
	list := joined(pieces, 300)
	sum, segments := int64(0), 0
	for _, p := range list {
		sum += p.bytes
		segments += p.joined
	}
	at := slices.IndexFunc(list, func(p stripPiece) bool { return p.state == segmentBroken })
	if len(list) > 300 || sum != 2002 || segments != 1001 || list[len(list)-1].last != 1001 || at < 0 || list[at].findings != 3 {
		t.Errorf("%d pieces of %d segments, %d bytes", len(list), segments, sum)
	}
	if got := joined(pieces[:300], 300); len(got) != 300 {
		t.Errorf("%d pieces", len(got))
	}
}

// A report has a step for each day or hour of its time, and not too many.
func TestFilledSteps(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	day := func(d int) time.Time { return time.Date(2026, 10, d, 0, 0, 0, 0, berlin) }
	with := func(at time.Time) (b store.Bucket) { b.At, b.Runs = at, 1; return b }
	all := filled([]store.Bucket{with(day(24)), with(day(27))}, "day", day(23), day(30), berlin) // the clock goes back on the 25th
	var got []string
	for _, b := range all {
		got = append(got, fmt.Sprintf("%s:%d", b.At.Format("02"), b.Runs))
	}
	if want := []string{"23:0", "24:1", "25:0", "26:0", "27:1", "28:0", "29:0"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if n := len(filled([]store.Bucket{with(day(24))}, "hour", day(24), day(26), berlin)); n != 49 {
		t.Errorf("%d hours of two days, one with 25", n)
	}
	if n := len(merged(all, 3)); n != 3 || merged(all, 3)[0].Runs != 1 {
		t.Errorf("%d steps", n)
	}
}
