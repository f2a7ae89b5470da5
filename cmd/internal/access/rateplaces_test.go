package access

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Names without a key fill neither the places of users that are proved nor the count that these share.
func TestNamesTakeNoPlaceOfUsers(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	most := Rates{PerHour: 60}
	var refused *Limited
	told := 0
	for i := range 15_000 {
		slot, limited, notes := d.Take(Subject{Name: fmt.Sprintf("name%05d", i), Standing: Asserted, Method: ByClaim}, most)
		slot.Release()
		if notes.Trouble != nil {
			told++
			if notes.Trouble.Code != warnFull || !strings.Contains(notes.Trouble.Message, "names without a key") {
				t.Error(notes.Trouble)
			}
		}
		if limited != nil {
			refused = limited
		}
	}
	if told != 1 {
		t.Errorf("told %d times that names share a count", told)
	}
	if refused == nil || !strings.Contains(refused.Error(), "of name14999 and of other names without a key, which share a count,") {
		t.Errorf("the last name: %v", refused)
	}
	for i := range 100 {
		slot, limited, notes := d.Take(Subject{Name: fmt.Sprintf("user%02d", i), Standing: Proved, Method: ByKey}, most)
		slot.Release()
		if limited != nil || notes.Trouble != nil {
			t.Fatal(limited, notes.Trouble)
		}
	}
	d.pass(30 * time.Minute)
	if _, _, notes := d.Take(Subject{Name: "late", Standing: Asserted}, most); notes.Trouble != nil {
		t.Errorf("told again within the hour: %v", notes.Trouble)
	}
}

// Each file chooses pages of its index in its own way, which nobody can know beforehand.
func TestSalt(t *testing.T) {
	t.Parallel()
	a, b := newDesk(t), newDesk(t)
	for _, d := range []*desk{a, b, a} {
		d.begin(t, alice, usual)
	}
	salts := map[salt]bool{}
	for _, d := range []*desk{a, b} {
		book, err := d.open(false)
		if err != nil {
			t.Fatal(err)
		}
		salts[book.salt] = true
		book.close()
	}
	if len(salts) != 2 || salts[salt{}] || alice.id(salt{1}) == alice.id(salt{2}) {
		t.Errorf("got %v", salts)
	}
}

// A run that is of two users counts for both, or for none, and the limits of both hold.
func TestTwoUsers(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	named := func(name string) Subject { return Subject{Name: name, Standing: Asserted, Method: ByClaim} }
	behind := Count{alice, Rates{PerMinute: 3, Concurrent: 2}}
	take := func(name string, most Rates) (*Slot, *Limited) {
		slot, limited, notes, _ := d.Await(named(name), most, Wait{}, behind)
		if notes.Trouble != nil {
			t.Fatal(notes.Trouble)
		}
		return slot, limited
	}
	first, limited := take("n1", usual) // both are new, and want the next page
	if limited != nil {
		t.Fatal(limited)
	}
	second, _ := take("n2", usual)
	if _, limited := take("n3", usual); limited == nil || limited.User != "alice" || limited.Limit != ConcurrentPerUser {
		t.Errorf("the third at once: %v", limited)
	}
	first.Release()
	second.Release()
	if _, limited := take("n1", Rates{PerMinute: 1}); limited == nil || limited.User != "n1" {
		t.Errorf("the limit of the name: %v", limited)
	}
	third, limited := take("n3", usual)
	third.Release()
	if limited != nil {
		t.Errorf("refusals counted: %v", limited)
	}
	if _, limited := take("n4", usual); limited == nil || limited.User != "alice" || limited.Limit != PerUserPerMinute || !limited.Record {
		t.Errorf("the fourth: %v", limited)
	}
	if _, limited := take("n5", usual); limited == nil || limited.Record {
		t.Errorf("the fifth, which a summary of alice will have: %v", limited)
	}
	all, users, _ := d.Usage()
	got := fmt.Sprint("all ", all.Minute)
	for _, u := range users {
		got += fmt.Sprintf(", %s %d %d", u.Name, u.Minute, u.Running)
	}
	if want := "all 3, alice 3 0, n1 1 0, n2 1 0, n3 1 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
