package access

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
)

// A Subject is whose runs count together. A name that is only asserted has a count of its own, so that
// nobody uses up what belongs to the user of that name.
type Subject struct {
	Name     string
	Standing Standing
	Method   Method // how the name is known this time: refusals are kept apart by it, and runs are not
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
	who := Subject{g.User, SaidByOS, g.Method}
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
	fd    int // -1: released
	place int64
}

// Release says that the run is over.
func (s *Slot) Release() {
	if s != nil && s.fd >= 0 {
		unlock(s.fd, s.place) // a child that is being forked has a copy of the descriptor, so closing ours is not enough
		unix.Close(s.fd)
		s.fd = -1
	}
}

// Limited says which limit refuses a run.
type Limited struct {
	User       string
	Limit      string // as its key in security.rate-limit
	Configured int
	Used       int
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
	switch l.Limit {
	case ConcurrentPerUser:
		return fmt.Sprintf("%s: %s of %s are under way", l.Limit, count, l.User)
	case GlobalPerMinute:
		return fmt.Sprintf("%s: %s of all users began within a minute", l.Limit, count)
	case PerUserPerHour:
		return fmt.Sprintf("%s: %s of %s began within an hour", l.Limit, count, l.User)
	}
	return fmt.Sprintf("%s: %s of %s began within a minute", l.Limit, count, l.User)
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

// The codes of trouble.
const (
	warnUnusable = "limits_unusable" // nothing is limited
	warnRepaired = "limits_repaired" // counts were lost
	warnFull     = "limits_full"     // users share a count
)

// concurrentAgain is when to ask again if all runs of a user are under way: nobody knows when one ends.
const concurrentAgain = time.Second

// Take is Await that does not wait.
func (l *Limits) Take(who Subject, most Rates) (*Slot, *Limited, Notes) {
	slot, limited, notes, _ := l.Await(who, most, Wait{})
	return slot, limited, notes
}

// waitConcurrent is how often Await looks whether a run of the user has ended.
const waitConcurrent = 50 * time.Millisecond

// A Wait is how a run waits for a limit to let it in. The zero Wait is not to wait.
type Wait struct {
	Patience time.Duration
	Signals  <-chan os.Signal // a signal from it ends the wait; nil: nothing does
	Begins   func()           // called when there is something to wait for; nil: nothing
}

// Await lets a run begin, or returns the limit that refuses it. It counts a run only if all limits let
// it in: a refusal costs nothing. The slot is nil if nothing is limited.
//
// Where a limit refuses the run, Await waits for it, and gives up as soon as it knows that its patience
// will not do. If a signal ended the wait, Await returns that, and neither a slot nor a limit.
func (l *Limits) Await(who Subject, most Rates, w Wait) (*Slot, *Limited, Notes, os.Signal) {
	var trouble *Trouble // the first
	for end, last := time.Now().Add(w.Patience), w.Patience <= 0; ; {
		slot, limited, notes := l.take(who, most, last)
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
func (l *Limits) take(who Subject, most Rates, last bool) (*Slot, *Limited, Notes) {
	if most == (Rates{}) {
		return nil, nil, Notes{}
	}
	b, err := l.open(true)
	if err != nil {
		return nil, nil, unusable(err)
	}
	slot, limited, notes, err := b.answer(who, most, last)
	b.close()
	if err != nil {
		slot.Release() // not earlier: it closes the descriptor of the book
		return nil, nil, unusable(err)
	}
	return slot, limited, notes
}

// answer takes a run, or counts its refusal, and hands out the summaries that are due. The slot may be
// there with an error, too.
func (b *book) answer(who Subject, most Rates, last bool) (slot *Slot, limited *Limited, notes Notes, err error) {
	slot, limited, err = b.take(who, most)
	if err == nil && limited != nil && last {
		limited.Record, err = b.refuse(who, limited.Limit)
	}
	if err == nil && (limited == nil || last) {
		notes.Due, err = b.due()
	}
	notes.Trouble = b.trouble
	return slot, limited, notes, err
}

func unusable(err error) Notes {
	return Notes{Trouble: &Trouble{warnUnusable, "nothing is limited: " + err.Error()}}
}

// take counts the run if all limits let it in, and gives it a place among those under way.
func (b *book) take(who Subject, most Rates) (*Slot, *Limited, error) {
	all, err := b.global()
	if err != nil {
		return nil, nil, err
	}
	at, err := b.find(who)
	if err != nil {
		return nil, nil, err
	}
	if limited := reached(who.Name, all.window, at.tally.window, b.now.boot, most); limited != nil {
		if all.moved || at.tally.moved {
			err = b.count(all, at)
		}
		return nil, limited, err
	}
	running, free, err := b.running(at.page, most.Concurrent)
	if err != nil {
		return nil, nil, err
	}
	if free < 0 && most.Concurrent > 0 {
		return nil, &Limited{User: who.Name, Limit: ConcurrentPerUser, Configured: most.Concurrent, Used: running, RetryAfter: concurrentAgain}, nil
	}
	all.window, all.last = all.window.add(b.now.boot, globalMost), b.now.wall
	at.tally.window, at.tally.last = at.tally.window.add(b.now.boot, marksMost), b.now.wall
	if err := b.count(all, at); err != nil {
		return nil, nil, err
	}
	slot, err := b.slot(free)
	return slot, nil, err
}

// count writes both counts, first that of all: a kill in between costs them a run, and lets none in.
func (b *book) count(all *tally, at seat) error {
	if err := b.write(globalPage, all.page()); err != nil {
		return err
	}
	return b.keep(at)
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
	return instant{boot.Nano() / int64(time.Microsecond), time.Now(), bootID()}
}

// bootID does without os.ReadFile, which would set up the poller of the Go runtime for it.
var bootID = sync.OnceValue(func() string {
	fd, err := unix.Open("/proc/sys/kernel/random/boot_id", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	id := make([]byte, 64)
	n, _ := unix.Read(fd, id)
	return strings.TrimSpace(string(id[:max(n, 0)]))
})
