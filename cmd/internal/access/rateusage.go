package access

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"time"
)

// A Use is what is counted of a user, or of all of them.
type Use struct {
	Subject
	Minute, Hour int // runs that began within the last minute and hour
	Running      int // under way; of all users: not counted
	Last         time.Time

	window window
	now    int64
}

// Next returns the limit that would refuse a run of this user now; nil: it could begin.
func (u Use) Next(all Use, most Rates) *Limited {
	if limited := reached(u.Name, all.window, u.window, u.now, most); limited != nil {
		return limited
	}
	if most.Concurrent > 0 && u.Running >= most.Concurrent {
		return &Limited{User: u.Name, Limit: ConcurrentPerUser, Configured: most.Concurrent, Used: u.Running, RetryAfter: concurrentAgain}
	}
	return nil
}

// Usage returns what is counted of all users together and, sorted by name, of each. It changes no count.
func (l *Limits) Usage() (all Use, users []Use, notes Notes) {
	f, err := l.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return Use{}, nil, Notes{}
	}
	if err != nil {
		return Use{}, nil, unusable(err)
	}
	defer f.close()
	t, err := f.global()
	if err != nil {
		return Use{}, nil, unusable(err)
	}
	all = f.use(*t, 0)
	err = f.each(func(page int, t tally) error {
		u := f.use(t, 0)
		if u.Running, _, err = f.running(page, runsRoom); err != nil {
			return err
		}
		if u.Hour > 0 || u.Running > 0 {
			users = append(users, u)
		}
		return nil
	})
	if err != nil {
		return Use{}, nil, unusable(err)
	}
	slices.SortFunc(users, func(a, b Use) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Standing, b.Standing))
	})
	return all, users, Notes{Trouble: f.trouble}
}

func (f *countFile) use(t tally, running int) Use {
	now := f.now.boot
	return Use{Subject: t.who, Minute: t.window.used(now, minute), Hour: t.window.used(now, hour), Running: running, Last: t.last, window: t.window, now: now}
}

// Reset forgets the runs of the users of that name, however it is known; empty: those of all users. Runs
// that are under way still count for concurrent-per-user. It returns how many users had runs to forget.
func (l *Limits) Reset(name string) (users int, err error) {
	f, err := l.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.close()
	err = f.each(func(page int, t tally) error {
		if len(t.window) == 0 || name != "" && cutName(name, nameMost) != t.who.Name {
			return nil
		}
		users++
		t.window = nil
		return f.write(page, t.page())
	})
	if err != nil || name != "" {
		return users, err
	}
	all, err := f.global()
	if err != nil {
		return users, err
	}
	all.window = nil
	return users, f.write(globalPage, all.page())
}

// each calls do for the count of each user, and that of the others.
func (f *countFile) each(do func(page int, t tally) error) error {
	var places []entry
	for n := range regions {
		places = append(places, entry{page: othersPage + n})
	}
	for n := range regions * indexes {
		p, err := f.read(indexPage + n)
		if err != nil {
			return err
		}
		if !p.is(kindIndex) {
			f.repaired("the index of users")
			if err := f.write(indexPage+n, newPage(kindIndex).seal()); err != nil {
				return err
			}
			continue
		}
		for i := range entries {
			if e := p.entry(i); e.page != 0 {
				places = append(places, e)
			}
		}
	}
	for _, e := range places {
		p, err := f.read(e.page)
		if err != nil {
			return err
		}
		t, whole := p.tally(marksMost)
		if !whole {
			f.repaired("the count of a user")
			if err := f.write(e.page, tally{id: e.id, who: Subject{Standing: Others}}.page()); err != nil {
				return err
			}
			continue
		}
		t.window, t.moved = t.window.settle(f.now.boot)
		if err := do(e.page, t); err != nil {
			return err
		}
	}
	return nil
}
