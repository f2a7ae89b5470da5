package access

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// A flood of refusals costs the log one record and one summary for each minute, and no refusal gets lost.
func TestRefusalFlood(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	first, summaries, counted := 0, 0, 0
	record := func(notes Notes) {
		for _, s := range notes.Due {
			summaries++
			counted += s.Count
			if s.User != "alice" || s.Code != "unknown-key" || s.Last.Sub(s.First) > time.Minute {
				t.Errorf("got %+v", s)
			}
		}
		d.Recorded(notes.Due)
	}
	const seconds, rate = 200, 50
	for range seconds * rate {
		now, notes := d.Refused(alice, "unknown-key")
		if now {
			first++
		}
		record(notes)
		d.pass(time.Second / rate)
	}
	d.pass(time.Minute)
	record(d.Due())
	if first > seconds/60+1 || summaries > seconds/60+1 {
		t.Errorf("%d records and %d summaries of %d s", first, summaries, seconds)
	}
	if first+counted != seconds*rate {
		t.Errorf("%d records and %d in summaries, want %d refusals", first, counted, seconds*rate)
	}
	if notes := d.Due(); len(notes.Due) != 0 || notes.Trouble != nil {
		t.Errorf("afterwards: %+v", notes)
	}
}

func TestRefusalsAreApart(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	for _, tt := range []struct {
		user, code string
		want       bool
	}{
		{"alice", "a", true}, {"alice", "a", false}, {"alice", "b", true}, {"bob", "a", true}, {"", "a", true}, {"", "a", false}, {"alice", "b", false},
	} {
		if first, _ := d.Refused(Subject{Name: tt.user}, tt.code); first != tt.want {
			t.Errorf("%s %s: got %v", tt.user, tt.code, first)
		}
	}
	d.pass(time.Minute)
	if first, notes := d.Refused(alice, "a"); !first || len(notes.Due) != 3 {
		t.Errorf("a minute later: %v, %d summaries", first, len(notes.Due))
	}
}

// Who was told of a summary and died has not recorded it: after a while somebody else is told.
func TestSummaryComesAgain(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	d.Refused(alice, "a")
	d.Refused(alice, "a")
	d.pass(time.Minute)
	if due := d.Due().Due; len(due) != 1 || due[0].Count != 1 {
		t.Fatalf("got %+v", due)
	}
	if due := d.Due().Due; len(due) != 0 {
		t.Errorf("told twice: %+v", due)
	}
	d.pass(11 * time.Second)
	_, _, notes := d.Take(alice, usual)
	if len(notes.Due) != 1 || notes.Due[0].Count != 1 {
		t.Fatalf("got %+v", notes.Due)
	}
	d.Recorded(notes.Due)
	d.pass(time.Hour)
	if due := d.Due().Due; len(due) != 0 {
		t.Errorf("after it was recorded: %+v", due)
	}
}

// Refusals under ever new names: the log grows by what the file has places for, and all are counted.
func TestRefusalsUnderManyNames(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	records, counted := 0, 0
	const most = 3000
	for i := range most {
		first, notes := d.Refused(Subject{Name: fmt.Sprintf("user%d", i)}, "disabled-user")
		if first {
			records++
		}
		for _, s := range notes.Due {
			records++
			counted += s.Count
		}
		d.Recorded(notes.Due)
		d.pass(10 * time.Millisecond)
	}
	d.pass(2 * time.Minute)
	for _, s := range d.Due().Due {
		counted += s.Count
	}
	if records > refusalMost+1 {
		t.Errorf("%d records within half a minute", records)
	}
	if counted+min(records, refusalMost) != most {
		t.Errorf("%d of %d are counted, and %d recorded", counted, most, records)
	}
}

func TestCutName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, want string }{
		{"", ""}, {"12345678", "12345678"}, {"123456789", "12345…"}, {"1234ö6789", "1234…"}, {"日本語日本語", "日…"},
	} {
		if got := cutName(tt.name, 8); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A run that is let in gets the summaries that are due, with and without patience.
func TestSummariesForRunsThatBegin(t *testing.T) {
	t.Parallel()
	for _, patience := range []time.Duration{0, time.Minute} {
		d := newFixture(t)
		d.Refused(alice, "a")
		d.Refused(alice, "a")
		d.pass(time.Minute)
		slot, limited, notes, _ := d.Await(bob, usual, Wait{Patience: patience})
		slot.Release()
		if limited != nil || len(notes.Due) != 1 || notes.Due[0].User != "alice" {
			t.Errorf("patience %v: %v, %+v", patience, limited, notes)
		}
	}
}

// A refusal without patience opens the file once, and what was wrong with it is told.
func TestRefusalAsksOnce(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	one := Rates{PerMinute: 1}
	d.begin(t, alice, one)
	asked, clock := 0, d.Limits.clock
	d.Limits.clock = func() instant { asked++; return clock() }
	if _, limited, _, _ := d.Await(alice, one, Wait{}); limited == nil || !limited.Record || asked != 1 {
		t.Errorf("%v, opened %d times", limited, asked)
	}
	if err := os.WriteFile(d.path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	slot, _, notes, _ := d.Await(alice, Rates{Concurrent: 1}, Wait{})
	if notes.Trouble == nil {
		t.Fatal("nobody says that the file was damaged")
	}
	damage := []byte{1}
	f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(damage, globalPage*pageSize+100)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	_, limited, notes, _ := d.Await(alice, Rates{Concurrent: 1}, Wait{Patience: time.Millisecond})
	if limited == nil || notes.Trouble == nil {
		t.Errorf("after a wait: %v, %+v", limited, notes)
	}
	slot.Release()
}

// Who only says to be alice hides no refusal of alice, and a summary says how its user was known.
func TestAssertedRefusalHidesNone(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	said := Subject{Name: "alice", Standing: Asserted, Method: ByClaim}
	one := Rates{PerMinute: 1}
	for _, who := range []Subject{said, alice} {
		if first, _ := d.Refused(who, "a"); !first {
			t.Errorf("%+v: no record", who)
		}
		d.Refused(who, "a")
		d.begin(t, who, one)
		if limited := d.begin(t, who, one); !limited.Record {
			t.Errorf("%+v: no record of the limit", who)
		}
	}
	d.pass(time.Minute)
	var got []Method
	for _, s := range d.Due().Due {
		got = append(got, s.Method)
	}
	if !slices.Equal(got, []Method{ByKey, ByClaim}) {
		t.Errorf("got %q", got)
	}
}
