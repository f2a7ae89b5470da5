package ctl

import (
	"context"
	"os"
	"testing"
	"time"

	"py3run/cmd/internal/store"
)

// A long-living process has every run in its index soon, also when the index is removed or damaged, and does nothing
// while nothing happens.
func TestKeepFresh(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	path := b.indexPath("")
	ctx, stop := context.WithCancel(context.Background())
	told := make(chan error, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.keepFresh(ctx, path, 5*time.Millisecond, func(_ uint64, err error) { told <- err })
	}()
	runs := func() int64 {
		t.Helper()
		x, err := store.OpenIndex(path)
		if err != nil {
			return 0
		}
		defer x.Close()
		s, err := x.Span()
		if err != nil {
			return 0
		}
		return s.Runs
	}
	wait := func(n int64) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); runs() != n; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d runs, want %d", runs(), n)
			}
		}
	}
	wait(1)
	b.run("bob", "ok", nil)
	wait(2)
	b.must(os.Remove(path))
	wait(2)
	b.must(os.WriteFile(path, []byte("no database, but a text of some length"), 0o600))
	b.run("carol", "ok", nil)
	wait(3)
	for deadline := time.Now().Add(time.Minute); len(told) > 0; <-told {
		if time.Now().After(deadline) {
			t.Fatal("there is always something to tell")
		}
	}
	before, err := os.Stat(path)
	b.must(err)
	time.Sleep(100 * time.Millisecond)
	if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the index was written while nothing happened: %v", err)
	}
	stop()
	<-ended
}
