package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Each line is found again at its place, also after its segment was closed, and nothing else is.
func TestAt(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 20)
	r := openReader(t, dir)
	var lines []Line
	for line, err := range r.Records(Position{}) {
		must(t, err)
		lines = append(lines, line)
	}
	backward := map[uint64]Place{}
	for line, err := range r.Backward() {
		must(t, err)
		backward[line.Seq] = line.Place()
	}
	same := func() {
		t.Helper()
		for _, want := range lines {
			p := want.Place()
			if backward[want.Seq] != p {
				t.Fatalf("read backwards, record %d stands at %+v, not %+v", want.Seq, backward[want.Seq], p)
			}
			got, err := r.At(p)
			if err != nil || !bytes.Equal(got.Text, want.Text) || got.Seq != want.Seq || got.Position() != want.Position() {
				t.Fatalf("at %+v: %s, %v", p, got.Text, err)
			}
		}
	}
	same()
	p := lines[7].Place()
	for _, wrong := range []Place{{}, {p.Segment, p.Offset, p.Seq + 1}, {p.Segment, p.Offset + 1, p.Seq}, {p.Segment, p.Offset - 1, p.Seq}, {p.Segment, 1 << 40, p.Seq}, {p.Segment, -5, p.Seq},
		{p.Segment + 999, p.Offset, p.Seq}, {0, p.Offset, p.Seq}} {
		gone := new(PlaceError)
		if line, err := r.At(wrong); !errors.As(err, &gone) || gone.Pruned {
			t.Errorf("at %+v: record %d, %v", wrong, line.Seq, err)
		}
	}
	last := lines[len(lines)-1].Place().Segment
	must(t, os.Rename(filepath.Join(dir, currentName), filepath.Join(dir, segmentName(last))))
	mustAppend(t, l, Record{Event: Event{Action: ExecutionDenied, Outcome: Denied}})
	same()
	oldest := lines[0].Place()
	must(t, os.Remove(filepath.Join(dir, segmentName(oldest.Segment))))
	gone := new(PlaceError)
	if _, err := r.At(oldest); !errors.As(err, &gone) || !gone.Pruned {
		t.Errorf("of a removed segment: %v", err)
	}
}

// A line that is cut is not read.
func TestAtTorn(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 2)
	r := openReader(t, dir)
	var last Line
	for line, err := range r.Backward() {
		must(t, err)
		last = line
		break
	}
	name := filepath.Join(dir, currentName)
	info, err := os.Stat(name)
	must(t, err)
	must(t, os.Truncate(name, info.Size()-1))
	if line, err := r.At(last.Place()); !errors.As(err, new(*PlaceError)) {
		t.Errorf("record %d, %v", line.Seq, err)
	}
}
