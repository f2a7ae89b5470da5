package ctl

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

// keepFresh keeps an index up to date until the context ends: it looks at the log every so often, and makes the index
// where there is none that can be used. It passes to told, after each piece of work and after each failure, how many
// records the index does not have yet: 0 with no error when it has all. When nothing has changed, it only looks at the
// names and sizes of the segments.
func (d logContext) keepFresh(ctx context.Context, path string, every time.Duration, told func(behind uint64, err error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var seen logState
	for {
		if now, err := d.logState(path); err != nil {
			told(0, err)
		} else if now != seen {
			newest := d.newest()
			piece := func(at audit.Position) {
				if newest > at.Seq {
					told(newest-at.Seq, nil)
				}
			}
			err := d.updateAnd(path, false, false, piece)
			if errors.Is(err, store.ErrVersion) || errors.Is(err, store.ErrDamaged) {
				err = d.updateAnd(path, true, false, piece)
			}
			if err == nil {
				seen = now
				seen.index = true
				told(0, nil)
			} else {
				seen = logState{}
				told(d.lacking(path), err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// A logState is what changes when there is something to do for an index.
type logState struct {
	oldest uint64 // record of the log
	ino    uint64 // of the current segment
	size   int64
	index  bool // there is one
}

func (d logContext) logState(path string) (s logState, err error) {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return s, err
	}
	defer r.Close()
	s.oldest, _ = r.Oldest() // a segment that cannot be read is told by the update
	var st unix.Stat_t
	if unix.Stat(filepath.Join(d.dir, "audit.jsonl"), &st) == nil { // absent: a log that is not there yet
		s.ino, s.size = st.Ino, st.Size
	}
	_, err = os.Stat(path)
	s.index = err == nil
	return s, nil
}

// lacking is how many records of the log an index does not have; all, if it cannot be read.
func (d logContext) lacking(path string) uint64 {
	s, err := store.OpenIndex(path)
	if err != nil {
		return d.newest()
	}
	defer s.Close()
	_, n, err := d.behind(s)
	if err != nil {
		return d.newest()
	}
	return n
}

// newest is the number of the newest record.
func (d logContext) newest() uint64 {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return 0
	}
	defer r.Close()
	for line, err := range r.Backward() {
		if err == nil {
			return line.Seq
		}
	}
	return 0
}
