package access

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"py3run/cmd/internal/config"
)

// A fixture is a file of limits with a clock that the test sets.
type fixture struct {
	*Limits
	mu  sync.Mutex
	now instant
}

func newFixture(t *testing.T) *fixture {
	d := &fixture{now: instant{boot: hour * 100, wall: time.UnixMilli(1_800_000_000_000), id: "this boot"}}
	dir := t.TempDir()
	if memory, err := os.MkdirTemp("/dev/shm", "py3run-test-"); err == nil { // some tests write gigabytes
		t.Cleanup(func() { os.RemoveAll(memory) })
		dir = memory
	}
	d.Limits = NewLimits(dir)
	d.Limits.clock = func() instant {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.now
	}
	return d
}

func (d *fixture) pass(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now.boot += by.Microseconds()
	d.now.wall = d.now.wall.Add(by)
}

// begin lets a run of a user begin and end. It fails the test if there is trouble with the file.
func (d *fixture) begin(t *testing.T, who Subject, most Rates) *Limited {
	t.Helper()
	slot, limited, notes := d.Take(who, most)
	if notes.Trouble != nil {
		t.Fatal(notes.Trouble)
	}
	slot.Release()
	return limited
}

var (
	alice   = Subject{Name: "alice", Standing: Proved, Method: ByKey}
	bob     = Subject{Name: "bob", Standing: Proved, Method: ByKey}
	usual   = Rates{PerMinute: 60, PerHour: 1000, GlobalPerMinute: 500, Concurrent: 8}
	noRates = Rates{}
)

func TestCounted(t *testing.T) {
	t.Parallel()
	all := config.RateLimit{OSUsers: true}
	tests := []struct {
		name  string
		grant Grant
		c     config.RateLimit
		want  string
	}{
		{"key", Grant{User: "a", Method: ByKey, Known: true}, config.RateLimit{}, "known a"},
		{"asserted", Grant{User: "a", Method: ByClaim}, config.RateLimit{}, "asserted a"},
		{"operating system", Grant{User: "a", Method: ByOSUser}, config.RateLimit{}, "not counted"},
		{"operating system, in the policy", Grant{User: "a", Method: ByOSUser, Known: true}, config.RateLimit{}, "not counted"},
		{"nobody", Grant{Method: Anonymous}, config.RateLimit{}, "not counted"},
		{"zero", Grant{}, config.RateLimit{}, "not counted"},
		{"os-users", Grant{User: "a", Method: ByOSUser}, all, "os-user a"},
		{"os-users, in the policy", Grant{User: "a", Method: ByOSUser, Known: true}, all, "known a"},
		{"os-users, nobody", Grant{Method: Anonymous}, all, "os-user "},
	}
	for _, tt := range tests {
		who, counted := Counted(tt.grant, tt.c)
		got := string(who.Standing) + " " + who.Name
		if !counted {
			got = "not counted"
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestTake(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	for i := range 60 {
		if limited := d.begin(t, alice, usual); limited != nil {
			t.Fatalf("run %d: %v", i+1, limited)
		}
		d.pass(time.Millisecond)
	}
	limited := d.begin(t, alice, usual)
	if limited == nil {
		t.Fatal("the 61st run of a minute began")
	}
	want := Limited{User: "alice", Limit: PerUserPerMinute, Configured: 60, Used: 60, Standing: Proved, RetryAfter: time.Minute + time.Microsecond - 60*time.Millisecond, Record: true}
	if *limited != want {
		t.Errorf("got  %+v\nwant %+v", *limited, want)
	}
	if limited := d.begin(t, bob, usual); limited != nil {
		t.Errorf("another user: %v", limited)
	}
	if limited := d.begin(t, Subject{Name: "alice", Standing: Asserted, Method: ByClaim}, usual); limited != nil {
		t.Errorf("the same name, asserted: %v", limited)
	}
	d.pass(limited.RetryAfter - time.Microsecond)
	if d.begin(t, alice, usual) == nil {
		t.Error("a run began a microsecond too early")
	}
	d.pass(time.Microsecond)
	if limited := d.begin(t, alice, usual); limited != nil {
		t.Errorf("after retry_after: %v", limited)
	}
}

// The order of the limits, and that a refusal by one of them costs nothing of another.
func TestTakeOrder(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		rates Rates
		want  string
	}{
		{"global first", Rates{1, 1, 1, 1}, GlobalPerMinute},
		{"then the minute", Rates{1, 1, 9, 1}, PerUserPerMinute},
		{"then the hour", Rates{9, 1, 9, 1}, PerUserPerHour},
		{"then the runs under way", Rates{9, 9, 9, 1}, ConcurrentPerUser},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newFixture(t)
			slot, limited, _ := d.Take(alice, tt.rates)
			if slot == nil || limited != nil {
				t.Fatalf("the first run: %v", limited)
			}
			_, limited, _ = d.Take(alice, tt.rates)
			if limited == nil || limited.Limit != tt.want || !strings.HasPrefix(limited.Error(), tt.want+": 1 of 1 runs of ") {
				t.Fatalf("got %v, want %s", limited, tt.want)
			}
			slot.Release()
			all, users, _ := d.Usage()
			if all.Minute != 1 || len(users) != 1 || users[0].Minute != 1 || users[0].Hour != 1 || users[0].Running != 0 {
				t.Errorf("counted: %+v %+v", all, users)
			}
		})
	}
}

func TestNoLimits(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	if slot, limited, notes := d.Take(alice, noRates); slot != nil || limited != nil || notes.Trouble != nil {
		t.Error(slot, limited, notes)
	}
	if _, err := os.Stat(d.path); err == nil {
		t.Error("there is a file although nothing is limited")
	}
	one := Rates{Concurrent: 1} // the others are 0: no limit
	for range 700 {
		if limited := d.begin(t, alice, one); limited != nil {
			t.Fatal(limited)
		}
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	three := Rates{Concurrent: 3}
	var slots []*Slot
	for range 3 {
		slot, limited, _ := d.Take(alice, three)
		if limited != nil {
			t.Fatal(limited)
		}
		slots = append(slots, slot)
	}
	if _, limited, _ := d.Take(alice, three); limited == nil || limited.Used != 3 || limited.RetryAfter != concurrentAgain {
		t.Errorf("the fourth: %+v", limited)
	}
	if _, users, _ := d.Usage(); users[0].Running != 3 {
		t.Errorf("usage: %+v", users)
	}
	if limited := d.begin(t, alice, Rates{Concurrent: 4}); limited != nil {
		t.Errorf("the fourth, where four may run: %v", limited)
	}
	slots[1].Release()
	slots[1].Release() // again does nothing
	if limited := d.begin(t, alice, three); limited != nil {
		t.Errorf("after one has ended: %v", limited)
	}
	slots[0].Release()
	slots[2].Release()
	var none *Slot
	none.Release()
}

// A wait lasts until the limit lets the run in, and no longer; it gives up at once when its patience
// cannot be enough; and a signal ends it.
func TestAwait(t *testing.T) {
	t.Parallel()
	t.Run("concurrent", func(t *testing.T) {
		t.Parallel()
		d := newFixture(t)
		one := Rates{Concurrent: 1}
		before, _, _ := d.Take(alice, one)
		go func() {
			time.Sleep(20 * time.Millisecond)
			before.Release()
		}()
		slot, limited, _, s := d.Await(alice, one, Wait{Patience: time.Minute})
		if slot == nil || limited != nil || s != nil {
			t.Fatal(slot, limited, s)
		}
		if _, limited, _, _ = d.Await(alice, one, Wait{Patience: time.Millisecond}); limited == nil || !limited.Record {
			t.Errorf("without the patience: %+v", limited)
		}
		signals := make(chan os.Signal, 1)
		signals <- os.Interrupt
		if _, limited, _, s = d.Await(alice, one, Wait{Patience: time.Hour, Signals: signals}); limited != nil || s != os.Interrupt {
			t.Errorf("with a signal: %v %v", limited, s)
		}
		slot.Release()
	})
	t.Run("rate", func(t *testing.T) {
		t.Parallel()
		d := newFixture(t)
		one := Rates{PerMinute: 1}
		d.begin(t, alice, one)
		d.pass(time.Minute - time.Millisecond)
		d.mu.Lock()
		at, began := d.now, time.Now()
		d.mu.Unlock()
		d.Limits.clock = func() instant { // from here on time passes
			return instant{at.boot + time.Since(began).Microseconds(), at.wall.Add(time.Since(began)), at.id}
		}
		slot, limited, _, _ := d.Await(alice, one, Wait{Patience: time.Minute})
		if slot == nil || limited != nil {
			t.Fatal(limited)
		}
		slot.Release()
		began = time.Now().Add(-time.Since(began))
		if _, limited, _, _ = d.Await(alice, one, Wait{Patience: 50 * time.Second}); limited == nil || limited.RetryAfter < 50*time.Second {
			t.Errorf("with too little patience: %+v", limited)
		}
	})
}

// Ten thousand users all count for themselves. When no place is left, those that come share one count,
// and an hour later the places are free again.
func TestManyUsers(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	one := Rates{PerHour: 1}
	for i := range 10_000 {
		who := Subject{Name: fmt.Sprintf("user%05d", i), Standing: Proved, Method: ByKey}
		slot, limited, notes := d.Take(who, one)
		if limited != nil || notes.Trouble != nil {
			t.Fatalf("%s: %v %v", who.Name, limited, notes.Trouble)
		}
		slot.Release()
	}
	if limited := d.begin(t, Subject{Name: "user00000", Standing: Proved, Method: ByKey}, one); limited == nil {
		t.Error("the first user was forgotten")
	}
	shared, told := 0, 0
	for i := range 5_000 {
		_, limited, notes := d.Take(Subject{Name: fmt.Sprintf("late%05d", i), Standing: Proved, Method: ByKey}, Rates{PerHour: 100})
		if limited != nil {
			shared++
		}
		if notes.Trouble != nil {
			told++
		}
	}
	if shared == 0 || told != 1 {
		t.Errorf("%d users shared a full count, which was told %d times", shared, told)
	}
	size := sizeOf(t, d.path)
	d.pass(2 * time.Hour)
	for i := range 1_000 {
		d.begin(t, Subject{Name: fmt.Sprintf("next%05d", i), Standing: Proved, Method: ByKey}, one)
	}
	if now := sizeOf(t, d.path); now > size+50*pageSize { // a page of the index can have had places that were free
		t.Errorf("the file grew from %d to %d bytes", size, now)
	}
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestReset(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	one := Rates{PerMinute: 1, GlobalPerMinute: 3}
	if n, err := d.Reset(""); n != 0 || err != nil {
		t.Errorf("without a file: %d %v", n, err)
	}
	d.begin(t, alice, one)
	d.begin(t, bob, one)
	if n, err := d.Reset("alice"); n != 1 || err != nil {
		t.Errorf("got %d %v", n, err)
	}
	if limited := d.begin(t, alice, one); limited != nil {
		t.Error(limited)
	}
	if limited := d.begin(t, bob, one); limited == nil || limited.Limit != GlobalPerMinute {
		t.Errorf("bob: %v", limited)
	}
	if n, err := d.Reset(""); n != 2 || err != nil {
		t.Errorf("got %d %v", n, err)
	}
	if limited := d.begin(t, bob, one); limited != nil {
		t.Error(limited)
	}
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Log("as root: a directory without write permission is no obstacle")
	}
	tests := []struct {
		name string
		make func(t *testing.T, dir, path string)
		want string // begin of code and message
		open bool   // nothing is limited
	}{
		{"missing", func(t *testing.T, dir, path string) { os.Remove(dir) }, "", false},
		{"empty", func(t *testing.T, dir, path string) { os.WriteFile(path, nil, 0o600) }, "", false},
		{"text", func(t *testing.T, dir, path string) { os.WriteFile(path, []byte("hello\n"), 0o600) }, "limits_repaired", false},
		{"large", func(t *testing.T, dir, path string) { os.WriteFile(path, make([]byte, 5<<20), 0o600) }, "limits_repaired", false},
		{"link", func(t *testing.T, dir, path string) { os.Symlink("/etc/passwd", path) }, "limits_repaired", false},
		{"dangling link", func(t *testing.T, dir, path string) { os.Symlink(dir+"/other", path) }, "limits_repaired", false},
		{"second name", func(t *testing.T, dir, path string) {
			os.WriteFile(dir+"/other", []byte("precious"), 0o600)
			os.Link(dir+"/other", path)
		}, "limits_repaired", false},
		{"open to a group", func(t *testing.T, dir, path string) { os.WriteFile(path, nil, 0o600); os.Chmod(path, 0o660) }, "limits_repaired", false},
		{"directory", func(t *testing.T, dir, path string) { os.Mkdir(path, 0o700) }, "limits_unusable", true},
		{"directory open to everybody", func(t *testing.T, dir, path string) { os.Chmod(dir, 0o777) }, "limits_unusable", true},
		{"state is a file", func(t *testing.T, dir, path string) { os.Remove(dir); os.WriteFile(dir, nil, 0o600) }, "limits_unusable", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "state")
			os.Mkdir(dir, 0o700)
			l := NewLimits(dir)
			tt.make(t, dir, l.path)
			slot, limited, notes := l.Take(alice, usual)
			code := ""
			if notes.Trouble != nil {
				code = notes.Trouble.Code
			}
			if code != tt.want || limited != nil || (slot == nil) != tt.open {
				t.Errorf("got %q %v %v, want %q", code, slot, limited, tt.want)
			}
			slot.Release()
			if tt.open {
				return
			}
			if _, _, notes := l.Take(alice, usual); notes.Trouble != nil { // told once
				t.Errorf("again: %v", notes.Trouble)
			}
			if _, users, _ := l.Usage(); len(users) != 1 || users[0].Minute != 2 {
				t.Errorf("counted: %+v", users)
			}
			if info, err := os.Lstat(l.path); err != nil || info.Mode() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
	if _, _, notes := NewLimits("").Take(alice, usual); notes.Trouble == nil || !strings.Contains(notes.Trouble.Message, "XDG_STATE_HOME") {
		t.Errorf("without a state directory: %v", notes.Trouble)
	}
}

// After a boot counts begin anew. Refusals without a record do not get lost.
func TestBoot(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	one := Rates{PerMinute: 1}
	for range 3 {
		d.begin(t, alice, one)
	}
	d.now.boot, d.now.id = 5_000_000, "next boot"
	slot, limited, notes := d.Take(alice, one)
	slot.Release()
	if limited != nil || notes.Trouble != nil {
		t.Fatal(limited, notes.Trouble)
	}
	if len(notes.Due) != 1 || notes.Due[0].User != "alice" || notes.Due[0].Code != PerUserPerMinute || notes.Due[0].Count != 1 {
		t.Errorf("got %+v", notes.Due)
	}
}

// The clock of the boot does not go back; but another name space for clocks can show another one.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	one := Rates{PerMinute: 1}
	d.begin(t, alice, one)
	d.pass(-time.Hour)
	if limited := d.begin(t, alice, one); limited == nil || limited.RetryAfter > time.Minute+time.Microsecond {
		t.Errorf("got %+v", limited)
	}
	d.pass(time.Minute)
	if limited := d.begin(t, alice, one); limited == nil || limited.RetryAfter != time.Microsecond {
		t.Errorf("a minute later: %+v", limited)
	}
	d.pass(time.Microsecond)
	if limited := d.begin(t, alice, one); limited != nil {
		t.Error(limited)
	}
}

// Take is Await that does not wait.
func (l *Limits) Take(who Subject, most Rates) (*Slot, *Limited, Notes) {
	slot, limited, notes, _ := l.Await(who, most, Wait{})
	return slot, limited, notes
}
