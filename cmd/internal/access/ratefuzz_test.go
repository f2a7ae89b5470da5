package access

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// A file that is damaged anywhere is used again, and whoever is let in because of that is told. Nothing that is left of it lets more runs begin than the limits say: a user whose count is
// whole keeps it.
func TestDamage(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	busy := Rates{PerMinute: 3, GlobalPerMinute: 100}
	for _, who := range []Subject{alice, bob, {Name: "carol", Standing: Asserted, Method: ByClaim}} {
		for range 4 {
			d.begin(t, who, busy)
		}
	}
	whole, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	damages, err := strconv.Atoi(cmp.Or(os.Getenv("PY3RUN_TEST_DAMAGES"), "500"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	for i := range damages {
		from, to := 0, 0
		text := damaged
		switch i % 3 {
		case 0: // one byte
			from = random.IntN(len(whole))
			to = from + 1
			damaged[from] ^= byte(1 + random.IntN(255))
		case 1: // a region
			from = random.IntN(len(whole))
			to = min(from+1+random.IntN(3*pageSize), len(whole))
			for at := from; at < to; at++ {
				damaged[at] = byte(random.Uint32())
			}
		default: // the end is missing
			from, to = 1+random.IntN(len(whole)-1), len(whole)
			text = damaged[:from]
		}
		if err := os.WriteFile(d.path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		slot, limited, notes := d.Take(alice, busy)
		slot.Release()
		if notes.Trouble != nil && notes.Trouble.Code != "limits_repaired" {
			t.Fatalf("bytes %d to %d: %v", from, to, notes.Trouble)
		}
		if notes.Trouble == nil && limited == nil {
			t.Fatalf("bytes %d to %d: a run began without a word", from, to)
		}
		all, users, notes := d.Usage()
		if notes.Trouble != nil && notes.Trouble.Code != "limits_repaired" {
			t.Fatalf("bytes %d to %d: %v", from, to, notes.Trouble)
		}
		if len(users) > 3 || all.Minute > 10 {
			t.Fatalf("bytes %d to %d: %+v %+v", from, to, all, users)
		}
		d.Refused(Subject{Name: "x"}, "y")
		d.Due()
		slot, _, notes = d.Take(alice, busy)
		slot.Release()
		if notes.Trouble != nil {
			t.Fatalf("bytes %d to %d: still %v", from, to, notes.Trouble)
		}
		copy(damaged[from:to], whole[from:to])
	}
}

// No page makes the reader panic, even one with a right check sum.
func FuzzPages(f *testing.F) {
	f.Add([]byte(tally{who: alice, window: window{{1, 2, 3}, {4, 5, 6}}}.page()[:200]), byte(kindWindow))
	f.Add([]byte(headOf(salt{}, "boot"))[:64], byte(kindHead))
	f.Add([]byte{}, byte(kindIndex))
	f.Add(bytes.Repeat([]byte{255}, pageSize), byte(kindRefusal))
	f.Fuzz(func(t *testing.T, text []byte, kind byte) {
		p := newPage(kind)
		copy(p[pageBegin:], text)
		p.seal()
		p.head()
		if got, whole := p.tally(marksMost); whole {
			w, _ := got.window.settle(5)
			w.free(5, minute, 1)
			w.add(5, marksMost)
			got.window = w
			if again, whole := got.page().tally(marksMost); !whole || again.id != got.id {
				t.Error("a page cannot be read back")
			}
		}
		if p.is(kindRefusal) {
			var list []refusal
			for i := range onPage {
				list = append(list, refusalAt(p[pageBegin+i*refusalSize:][:refusalSize]))
			}
			refusalText(list)
		}
		if p.is(kindIndex) {
			for i := range entries {
				p.setEntry(i, p.entry(i))
			}
		}
	})
}

func TestTallyPage(t *testing.T) {
	t.Parallel()
	want := tally{id: alice.id(salt{}), who: Subject{Name: "alice", Standing: Proved}, last: time.UnixMilli(1234567890123), due: 77,
		window: window{{at: 10, span: 0, runs: 1}, {at: 3_599_000_000, span: 29_000_000, runs: 4000}}}
	got, whole := want.page().tally(marksMost)
	if !whole || got.id != want.id || got.who != want.who || !got.last.Equal(want.last) || got.due != want.due ||
		len(got.window) != 2 || got.window[0] != want.window[0] || got.window[1] != want.window[1] {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
