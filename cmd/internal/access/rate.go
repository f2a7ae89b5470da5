package access

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
	"py3run/internal/bootid"
)

// A Subject is whose runs count together. A name that is only asserted has a count of its own, so that
// nobody uses up what belongs to the user of that name.
type Subject struct {
	Name     string
	Standing Standing
	Method   Method // how the name is known this time: refusals are kept apart by it, and runs are not
	KeyID    string // of a refusal: the key in the policy that it is of; all refusals of a key count together
	Listed   bool   // of a refusal: nobody has proved to be it, but the policy has the user or the key
}

// A Standing is how well the name of a subject is known.
type Standing string

// The standings.
const (
	Proved   Standing = "known" // by a key, or by the operating system for a user of the policy
	SaidByOS Standing = "os-user"
	Asserted Standing = "asserted"
	Others   Standing = "others" // of a count: users for whom there was no place any more
)

var standings = [...]Standing{"", Proved, SaidByOS, Asserted, Others}

// Counted returns whose runs those of a grant are; false: nobody counts them. The user of the operating
// system counts only if the operator says so.
func Counted(g Grant, c config.RateLimit) (Subject, bool) {
	who := Subject{Name: g.User, Standing: SaidByOS, Method: g.Method}
	switch {
	case g.Method == ByKey:
		who.Standing = Proved
	case g.Method == ByClaim:
		who.Standing = Asserted
	case !c.OSUsers:
		return Subject{}, false
	case g.Known:
		who.Standing = Proved
	}
	return who, true
}

// Rates are the most that a user may have. 0 means no limit.
type Rates struct {
	PerMinute, PerHour int // runs that begin within any minute and any hour
	GlobalPerMinute    int // of all users
	Concurrent         int // under way at once
}

// RatesOf returns what the configuration allows.
func RatesOf(c config.RateLimit) Rates {
	return Rates{PerMinute: c.PerUserPerMinute, PerHour: c.PerUserPerHour, GlobalPerMinute: c.GlobalPerMinute, Concurrent: c.ConcurrentPerUser}
}

// Limits counts runs and refusals in one file, which all processes of this user of the operating system
// share. A file that cannot be used keeps no run from beginning: then Notes say so, and nothing is limited.
type Limits struct {
	path  string
	clock func() instant
}

// NewLimits returns the limits in a state directory; empty: there is none.
func NewLimits(stateDir string) *Limits {
	if stateDir == "" {
		return &Limits{clock: now}
	}
	return &Limits{filepath.Join(stateDir, "limits"), now}
}

// A Slot is a run that was let in. It is under way until Release, or until the process ends.
type Slot struct {
	fd     int // -1: released
	places []int64
}

// Release says that the run is over.
func (s *Slot) Release() {
	if s != nil && s.fd >= 0 {
		for _, place := range s.places { // a child that is being forked has a copy of the descriptor, so closing ours is not enough
			unlock(s.fd, place)
		}
		unix.Close(s.fd)
		s.fd = -1
	}
}

// Limited says which limit refuses a run.
type Limited struct {
	User       string
	Standing   Standing
	Limit      string // as its key in security.rate-limit
	Configured int
	Used       int
	Shared     bool          // the count is not this user's alone: the file had no place for another one
	RetryAfter time.Duration // until a run may begin if no other does; of concurrent-per-user, when to ask again
	Record     bool          // the refusal is to be recorded; otherwise a summary will have it
}

// The names of the limits.
const (
	PerUserPerMinute  = "per-user-per-minute"
	PerUserPerHour    = "per-user-per-hour"
	GlobalPerMinute   = "global-per-minute"
	ConcurrentPerUser = "concurrent-per-user"
)

func (l *Limited) Error() string {
	count := fmt.Sprintf("%d of %d runs", l.Used, l.Configured)
	whose := l.User
	switch {
	case l.Shared && l.Standing == Asserted:
		whose += " and of other names without a key, which share a count,"
	case l.Shared:
		whose += " and of other users, who share a count,"
	}
	switch l.Limit {
	case ConcurrentPerUser:
		return fmt.Sprintf("%s: %s of %s are under way", l.Limit, count, whose)
	case GlobalPerMinute:
		return fmt.Sprintf("%s: %s of all users began within a minute", l.Limit, count)
	case PerUserPerHour:
		return fmt.Sprintf("%s: %s of %s began within an hour", l.Limit, count, whose)
	}
	return fmt.Sprintf("%s: %s of %s began within a minute", l.Limit, count, whose)
}

// Notes are what the caller of Limits has to tell others.
type Notes struct {
	Trouble *Trouble  // with the file; nil: none
	Due     []Summary // to be recorded now, and then given to Limits.Recorded
}

// Trouble is something that is wrong with the file of limits. It belongs into the warnings of a result
// and into the log as an alert.
type Trouble struct {
	Code    string
	Message string
}

func (t *Trouble) Error() string { return t.Message }

// Unlimited reports whether nothing is limited, and no refusal is counted.
func (t *Trouble) Unlimited() bool { return t != nil && t.Code == warnUnusable }

// The codes of trouble.
const (
	warnUnusable = "limits_unusable" // nothing is limited
	warnRepaired = "limits_repaired" // counts were lost
	warnFull     = "limits_full"     // users share a count
)

// concurrentAgain is when to ask again if all runs of a user are under way: nobody knows when one ends.
const concurrentAgain = time.Second

// waitConcurrent is how often Await looks whether a run of the user has ended.
const waitConcurrent = 50 * time.Millisecond

// A Wait is how a run waits for a limit to let it in. The zero Wait is not to wait.
type Wait struct {
	Patience time.Duration
	Signals  <-chan os.Signal // a signal from it ends the wait; nil: nothing does
	Begins   func()           // called when there is something to wait for; nil: nothing
}

// A Count is a user whose run a run is, and what that user may have.
type Count struct {
	Subject
	Rates
}

// Await lets a run begin, or returns the limit that refuses it. It counts a run only if all limits let
// it in: a refusal costs nothing. The slot is nil if nothing is limited. A run can also be that of other
// users, as of the one who named its user: then it counts for each of them, or for nobody. Only the first
// one's limit for all users holds.
//
// Where a limit refuses the run, Await waits for it, and gives up as soon as it knows that its patience
// will not do. If a signal ended the wait, Await returns that, and neither a slot nor a limit.
func (l *Limits) Await(who Subject, most Rates, w Wait, also ...Count) (*Slot, *Limited, Notes, os.Signal) {
	counts := append([]Count{{who, most}}, also...)
	var trouble *Trouble // the first
	for end, last := time.Now().Add(w.Patience), w.Patience <= 0; ; {
		slot, limited, notes := l.take(counts, last)
		trouble = cmp.Or(trouble, notes.Trouble)
		notes.Trouble = trouble
		if limited == nil || last {
			return slot, limited, notes, nil
		}
		left, wait := time.Until(end), limited.RetryAfter
		if limited.Limit == ConcurrentPerUser {
			wait = min(waitConcurrent, left)
		}
		if left <= 0 || wait > left {
			last = true
			continue
		}
		if w.Begins != nil {
			w.Begins()
			w.Begins = nil
		}
		timer := time.NewTimer(wait)
		select {
		case s := <-w.Signals:
			timer.Stop()
			return nil, nil, Notes{Trouble: trouble}, s
		case <-timer.C:
		}
	}
}

// take asks once. Unless it has the last word, it does not count a refusal.
func (l *Limits) take(counts []Count, last bool) (*Slot, *Limited, Notes) {
	counts = slices.DeleteFunc(slices.Clone(counts), func(c Count) bool { return c.Rates == Rates{} })
	if len(counts) == 0 {
		return nil, nil, Notes{}
	}
	f, err := l.open(true)
	if err != nil {
		return nil, nil, unusable(err)
	}
	slot, limited, notes, err := f.answer(counts, last)
	f.close()
	if err != nil {
		slot.Release() // not earlier: it closes the descriptor of the file
		return nil, nil, unusable(err)
	}
	return slot, limited, notes
}

// answer takes a run, or counts its refusal, and hands out the summaries that are due. The slot may be
// there with an error, too.
func (f *countFile) answer(counts []Count, last bool) (slot *Slot, limited *Limited, notes Notes, err error) {
	slot, by, limited, err := f.take(counts)
	if err == nil && limited != nil && last {
		limited.Record, err = f.refuse(by, limited.Limit)
	}
	if err == nil && (limited == nil || last) {
		notes.Due, err = f.due()
	}
	notes.Trouble = f.trouble
	return slot, limited, notes, err
}

func unusable(err error) Notes {
	return Notes{Trouble: &Trouble{warnUnusable, "nothing is limited: " + err.Error()}}
}

// A counterSlot is the counter of a user, and a place for one more run among those under way; place -1: there
// is none, and none is needed.
type counterSlot struct {
	counter
	place int64
}

// take counts the run if all limits of all its users let it in, and gives it a place among those under
// way of each. by is whose limit refuses it.
func (f *countFile) take(counts []Count) (slot *Slot, by Subject, limited *Limited, err error) {
	var first counterSlot
	for i, c := range counts {
		if i > 0 {
			c.GlobalPerMinute = 0
		}
		s, limited, err := f.admit(c)
		if err != nil || limited != nil {
			return nil, c.Subject, limited, err
		}
		if i == 0 {
			first = s
		}
	}
	all, err := f.global()
	if err != nil {
		return nil, Subject{}, nil, err
	}
	all.window, all.last = all.window.add(f.now.boot, globalMost), f.now.wall
	if err := f.write(globalPage, all.page()); err != nil { // first: a kill after it costs all users a run, and lets none in
		return nil, Subject{}, nil, err
	}
	var places []int64
	var pages []int
	for i, c := range counts {
		s := first
		if i > 0 { // those before can have taken the page that was free for it
			if s, err = f.slotOf(c.Subject); err != nil {
				return nil, Subject{}, nil, err
			}
		}
		if slices.Contains(pages, s.page) { // several that share a count
			continue
		}
		s.tally.window, s.tally.last = s.tally.window.add(f.now.boot, marksMost), f.now.wall
		if err := f.keep(s.counter); err != nil {
			return nil, Subject{}, nil, err
		}
		pages = append(pages, s.page)
		if s.place >= 0 {
			places = append(places, s.place)
		}
	}
	slot, err = f.slot(places)
	return slot, Subject{}, nil, err
}

// admit returns where the run of a user would count, or the limit that refuses it.
func (f *countFile) admit(c Count) (counterSlot, *Limited, error) {
	all, err := f.global()
	if err != nil {
		return counterSlot{}, nil, err
	}
	at, err := f.find(c.Subject)
	if err != nil {
		return counterSlot{}, nil, err
	}
	limited := reached(c.Name, all.window, at.tally.window, f.now.boot, c.Rates)
	free := int64(-1)
	if limited == nil {
		var running int
		if running, free, err = f.running(at.page, c.Concurrent); err != nil {
			return counterSlot{}, nil, err
		}
		if free < 0 && c.Concurrent > 0 {
			limited = &Limited{User: c.Name, Limit: ConcurrentPerUser, Configured: c.Concurrent, Used: running, RetryAfter: concurrentAgain}
		}
	}
	if limited == nil {
		return counterSlot{at, free}, nil, nil
	}
	limited.Standing, limited.Shared = c.Standing, at.index == nil
	if all.moved || at.tally.moved {
		if err = f.write(globalPage, all.page()); err == nil {
			err = f.keep(at)
		}
	}
	return counterSlot{}, limited, err
}

// slotOf returns the counter and a place for a user whom no limit refuses.
func (f *countFile) slotOf(who Subject) (counterSlot, error) {
	at, err := f.find(who)
	if err != nil {
		return counterSlot{}, err
	}
	_, free, err := f.running(at.page, 0)
	return counterSlot{at, free}, err
}

// reached returns the first limit that lets no run of this user begin now; nil: all do.
func reached(user string, all, own window, now int64, most Rates) *Limited {
	for _, limit := range []struct {
		name   string
		runs   window
		within int64
		most   int
	}{
		{GlobalPerMinute, all, minute, most.GlobalPerMinute},
		{PerUserPerMinute, own, minute, most.PerMinute},
		{PerUserPerHour, own, hour, most.PerHour},
	} {
		if limit.most == 0 {
			continue
		}
		if wait := limit.runs.free(now, limit.within, limit.most); wait > 0 {
			return &Limited{User: user, Limit: limit.name, Configured: limit.most, Used: limit.runs.used(now, limit.within), RetryAfter: wait}
		}
	}
	return nil
}

// An instant is a time by the clock of the boot, which nobody sets, and by that of the wall.
type instant struct {
	boot int64 // microseconds
	wall time.Time
	id   string // of the boot
}

func now() instant {
	var boot unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	return instant{boot.Nano() / int64(time.Microsecond), time.Now(), bootid.Get()}
}
