package audit

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
)

// One process with many runs at once, each with a Log of its own, as a server has them. Locks are flock's, which belong to an open
// file description: two goroutines exclude each other as two processes do.
func TestRunsOfOneProcess(t *testing.T) {
	t.Parallel()
	const writers, runsOfEach = 100, 3
	dir := filepath.Join(t.TempDir(), "new") // all of them find that there is no log yet
	one := func(id string) (err error) {
		l, err := Open(dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		l.NoSync, l.segmentMost, l.patience = true, 100_000, patient
		if _, err := l.Key(); err != nil {
			return err
		}
		if err := l.KeepCode([]byte("pass")); err != nil {
			return err
		}
		run, _, err := l.Begin(startRecord(id))
		if err != nil {
			return err
		}
		if _, err := run.End(endRecord(id)); err != nil {
			return err
		}
		return l.Recover()
	}
	var all sync.WaitGroup
	begin := make(chan struct{})
	for w := range writers {
		all.Go(func() {
			<-begin
			for n := range runsOfEach {
				if err := one(fmt.Sprintf("w%d-%d", w, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	close(begin)
	all.Wait()
	rep := check(t, dir, Check{})
	if summary(rep) != "" || rep.Records != 2*writers*runsOfEach || rep.Alive+rep.Orphaned != 0 || rep.Code != 1 || len(rep.Segments) < 3 {
		t.Errorf("%d records in %d segments, %d runs alive, %d orphaned, %d files of code: %s", rep.Records, len(rep.Segments), rep.Alive, rep.Orphaned, rep.Code, summary(rep))
	}
	if left := runsOf(t, dir); left != "" {
		t.Errorf("left in %s: %s", runsName, left)
	}
}
