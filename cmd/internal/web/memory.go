package web

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"py3run/cmd/internal/store"
)

// remembered are answers of the index that take long to find, and that many requests need.
type remembered struct {
	uses   uses
	hours  hours
	stats  answers[[]store.Group]
	series answers[[]store.Bucket]
}

// settled is how long ago an hour was before its runs are taken to have ended; hoursFor is how long the
// sums of such hours stand, so that a run which took longer is counted late, and not never.
const (
	settled  = 2 * time.Hour
	hoursFor = 10 * time.Minute
	mostKept = 64 // answers
)

// hours remember the sums of hours that are over.
type hours struct {
	mu   sync.Mutex
	kept map[string]keptHours // by owner and zone
}

type keptHours struct {
	index    *store.Index
	at       time.Time // when they were read
	from, to time.Time
	buckets  []store.Bucket
}

// of are the sums of the hours since the beginning of one.
func (h *hours) of(index *store.Index, q store.Query, now time.Time) ([]store.Bucket, error) {
	key := q.Owner + "\n" + q.Zone.String()
	h.mu.Lock()
	k := h.kept[key]
	h.mu.Unlock()
	if k.index != index || q.Since.Before(k.from) || q.Since.After(k.to) || now.Sub(k.at) > hoursFor || now.Before(k.at) {
		k = keptHours{index: index, at: now, from: q.Since, to: q.Since}
	}
	rest := q
	rest.Since = k.to
	fresh, err := index.Series(rest, store.ByHour)
	if err != nil {
		return nil, err
	}
	all := append(slices.Clone(k.buckets), fresh...)
	over := rest.Since
	for !over.Add(time.Hour).After(now.Add(-settled)) {
		over = over.Add(time.Hour)
	}
	k.to, k.buckets = over, slices.DeleteFunc(slices.Clone(all), func(b store.Bucket) bool { return !b.At.Before(over) })
	h.mu.Lock()
	if len(h.kept) >= mostKept || h.kept == nil {
		h.kept = map[string]keptHours{}
	}
	h.kept[key] = k
	h.mu.Unlock()
	return slices.DeleteFunc(all, func(b store.Bucket) bool { return b.At.Before(q.Since) }), nil
}

// answers remember what was asked within the same minute: sorting a table asks nothing new.
type answers[T any] struct {
	mu   sync.Mutex
	kept map[string]T
}

func (a *answers[T]) of(key string, find func() (T, error)) (T, error) {
	a.mu.Lock()
	found, ok := a.kept[key]
	a.mu.Unlock()
	if ok {
		return found, nil
	}
	found, err := find()
	if err != nil {
		return found, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.kept) >= mostKept || a.kept == nil {
		a.kept = map[string]T{}
	}
	a.kept[key] = found
	return found, nil
}

// asked is a question of a minute. Times that are relative to now differ within it.
func (v *view) asked(index *store.Index, q store.Query, by store.By) string {
	q.Since, q.Until = q.Since.Truncate(time.Minute), q.Until.Truncate(time.Minute)
	zone := ""
	if q.Zone != nil {
		zone, q.Zone = q.Zone.String(), nil
	}
	return fmt.Sprintf("%p %d %q %q %#v", index, v.now.Unix()/60, by, zone, q)
}

// statsOf and seriesOf are Stats and Series of the index, which can be a minute old.
func (v *view) statsOf(index *store.Index, q store.Query, by store.By) ([]store.Group, error) {
	return v.server.stats.of(v.asked(index, q, by), func() ([]store.Group, error) { return index.Stats(q, by) })
}

func (v *view) seriesOf(index *store.Index, q store.Query, by store.By) ([]store.Bucket, error) {
	return v.server.series.of(v.asked(index, q, by), func() ([]store.Bucket, error) { return index.Series(q, by) })
}

// uses remember when users and keys were last used: to find that, the index goes through all of its runs.
// A request waits for it a moment only.
type uses struct {
	mu     sync.Mutex
	index  *store.Index
	at     time.Time
	last   lastUses
	failed error
	busy   chan struct{} // closed when it is found; nil: nobody looks
}

type lastUses struct{ users, keys map[string]time.Time }

const (
	usesFor      = 5 * time.Minute
	usesPatience = 200 * time.Millisecond
)

// of is what is known, and why nothing is.
func (u *uses) of(index *store.Index, now time.Time, say func(error)) (last lastUses, why string) {
	u.mu.Lock()
	if u.busy == nil && (u.index != index || now.Sub(u.at) > usesFor || now.Before(u.at)) {
		u.busy = make(chan struct{})
		go u.find(index, now, u.busy, say)
	}
	busy := u.busy
	u.mu.Unlock()
	if busy != nil {
		select {
		case <-busy:
		case <-time.After(usesPatience):
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.index == index && u.failed != nil:
		return lastUses{}, "When users and keys were last used could not be found."
	case u.index != index:
		return lastUses{}, "When users and keys were last used is being looked up: load the page again in a moment."
	}
	return u.last, ""
}

// find looks it up.
func (u *uses) find(index *store.Index, now time.Time, done chan struct{}, say func(error)) {
	var last lastUses
	var err error
	if last.users, err = index.LastUse(store.ByUser); err == nil {
		last.keys, err = index.LastUse(store.ByKey)
	}
	if err != nil {
		say(fmt.Errorf("find when users and keys were last used: %w", err))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.index, u.at, u.last, u.failed, u.busy = index, now, last, err, nil
	close(done)
}
