package store

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"py3run/audit"
)

// A limit keeps the newest, however many there are, and what retention removes meanwhile is read again.
func TestLogReads(t *testing.T) {
	t.Parallel()
	list := records(3000, 2)
	reads, fails := 0, 0
	log := Log{Entries: func(yield func(Entry, error) bool) {
		reads++
		for i, e := range list {
			if reads <= fails && i == len(list)/2 {
				yield(Entry{}, &audit.PositionError{Pruned: true, Problem: "removed"})
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}}
	seqs := func(q Query) (text string) {
		t.Helper()
		for r, err := range log.History(q) {
			if err != nil {
				return err.Error()
			}
			text += fmt.Sprint(r.Place(), " ")
		}
		return text
	}
	whole := seqs(Query{})
	for _, limit := range []int{1, 7, 999, 2999} {
		want := ""
		for r, err := range log.History(Query{}) {
			if want += fmt.Sprint(r.Place(), " "); err != nil {
				t.Fatal(err)
			}
			if limit--; limit == 0 {
				break
			}
		}
		if got := seqs(Query{Limit: count(want)}); got != want {
			t.Errorf("%d runs differ", count(want))
		}
	}
	reads, fails = 0, 2
	if got := seqs(Query{}); got != whole || reads != 3 {
		t.Errorf("read %d times, and it differs", reads)
	}
	reads, fails = 0, 2
	groups, err := log.Stats(Query{}, ByAll)
	if err != nil || len(groups) != 1 || groups[0].Runs > 3100 || reads != 3 {
		t.Errorf("read %d times, %v, %v", reads, groups, err)
	}
	reads, fails = 0, 1
	users, all, actions, err := log.Totals(ByUser, ByAll)
	if err != nil || reads != 2 {
		t.Errorf("read %d times, %v", reads, err)
	}
	wantUsers, _ := log.Stats(Query{}, ByUser)
	wantActions, _ := log.Actions()
	if !reflect.DeepEqual(users, wantUsers) || !reflect.DeepEqual(all, groups) || !reflect.DeepEqual(actions, wantActions) || len(actions) == 0 {
		t.Errorf("totals %v, %v, %v", users, all, actions)
	}
	reads, fails = 0, 99
	if _, err := log.Stats(Query{}, ByAll); !errors.As(err, new(*audit.PositionError)) || reads != 5 {
		t.Errorf("read %d times, %v", reads, err)
	}
}

func count(words string) (n int) {
	for _, c := range words {
		if c == ' ' {
			n++
		}
	}
	return n
}

// Read backwards, a short list reads a short part of the log, also where runs overlap, and a list of the newest days no
// segment more than it has to.
func TestBackwardStops(t *testing.T) {
	t.Parallel()
	list := records(3000, 12)
	read := 0
	log := Log{Backward: func(yield func(Entry, error) bool) {
		for e := range backward(list) {
			if read++; !yield(e, nil) {
				return
			}
		}
	}}
	newest := list[len(list)-1].Record
	for _, q := range []Query{{Limit: 5}, {Limit: 5, User: "alice"}, {Since: audit.ParseTime(newest.Timestamp).Add(-time.Hour)}} {
		read = 0
		want := all(t, Log{Entries: sequence(list)}, q)
		if got := all(t, log, q); places(got) != places(want) || len(got) == 0 || read > 3*segmentOf {
			t.Errorf("%+v: read %d records for %s, want %s", q, read, places(got), places(want))
		}
	}
}
