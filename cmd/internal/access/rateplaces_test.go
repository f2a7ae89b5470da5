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
	d := newFixture(t)
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
	// Which names have no place of their own depends on the salt of the file.
	if refused == nil || !strings.Contains(refused.Error(), "of "+refused.User+" and of other names without a key, which share a count,") {
		t.Errorf("the last refusal: %v", refused)
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
	a, b := newFixture(t), newFixture(t)
	for _, d := range []*fixture{a, b, a} {
		d.begin(t, alice, usual)
	}
	salts := map[salt]bool{}
	for _, d := range []*fixture{a, b} {
		file, err := d.open(false)
		if err != nil {
			t.Fatal(err)
		}
		salts[file.salt] = true
		file.close()
	}
	if len(salts) != 2 || salts[salt{}] || alice.id(salt{1}) == alice.id(salt{2}) {
		t.Errorf("got %v", salts)
	}
}

// A run that is of two users counts for both, or for none, and the limits of both hold.
func TestTwoUsers(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
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

// A flood of denials of made-up names hides no denial of a key or of a user in the policy, and guesses at
// the keys of the policy hide none of a key that was once good.
func TestMadeUpDenialsHideNone(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	deny := func(method Method, denial Denial) bool {
		record, notes := d.Refused(OfDenial(&denial, method), denial.Code)
		if notes.Trouble != nil {
			t.Fatal(notes.Trouble)
		}
		return record
	}
	records := 0
	for i := range 500 {
		n := fmt.Sprint(i)
		for _, recorded := range []bool{
			deny(ByClaim, Denial{Code: NotShared, User: "y" + n}),
			deny(ByKey, Denial{Code: UnknownKey, KeyID: "key" + n}),
			deny(ByKey, Denial{Code: WrongKey, KeyID: "kid" + n, User: "u" + n}),
		} {
			if recorded {
				records++
			}
		}
	}
	if records > 2*refusalMost {
		t.Errorf("%d records of a flood", records)
	}
	for _, tt := range []struct {
		method Method
		Denial
	}{
		{ByKey, Denial{Code: RevokedKey, KeyID: "key1", User: "alice"}},
		{ByKey, Denial{Code: RevokedKey, KeyID: "key2", User: "alice"}},
		{ByKey, Denial{Code: MissingRole, KeyID: "key1", User: "alice"}},
		{ByOSUser, Denial{Code: DisabledUser, User: "alice"}},
	} {
		if !deny(tt.method, tt.Denial) || deny(tt.method, tt.Denial) {
			t.Errorf("%s of %s: the first has no record, or the second has", tt.Code, tt.KeyID)
		}
	}
	d.pass(time.Minute)
	revoked := 0
	for _, s := range d.Due().Due {
		if s.Code == RevokedKey && s.Method == ByKey && s.User == "alice" && s.KeyID != "" && s.Count == 1 {
			revoked++
		}
	}
	if revoked != 2 {
		t.Errorf("%d summaries of revoked keys name their key", revoked)
	}
}

// A disabled user in the policy has a record although callers make up names.
func TestMadeUpNamesHideNoUser(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	for i := range 500 {
		d.Refused(OfDenial(&Denial{Code: NotShared, User: fmt.Sprint("y", i)}, ByClaim), NotShared)
	}
	if record, _ := d.Refused(OfDenial(&Denial{Code: DisabledUser, User: "alice"}, ByClaim), DisabledUser); !record {
		t.Error("no record")
	}
}

// Whatever names a key gives, its refusals take one place.
func TestRefusalsOfOneKey(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	for i := range 300 {
		denial := &Denial{Code: MayNotAssert, User: fmt.Sprint("name", i), KeyID: "k7qm2x9a"}
		if record, _ := d.Refused(OfDenial(denial, ByKey), denial.Code); record != (i == 0) {
			t.Fatalf("refusal %d: %v", i, record)
		}
	}
	d.pass(time.Minute)
	if due := d.Due().Due; len(due) != 1 || due[0].User != "(several)" || due[0].KeyID != "k7qm2x9a" || due[0].Count != 299 {
		t.Errorf("got %+v", due)
	}
}
