package audit

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// AuditRetention tells that old segments were removed, before they are.
const AuditRetention Action = "audit-retention"

// Retention is what an audit-retention record says: which records are no longer there, and what is needed to prove that those which are left
// go on from them.
type Retention struct {
	Days     int    `json:"days"`      // for which records are kept
	Segments int    `json:"segments"`  // that were removed
	Records  uint64 `json:"records"`   // in them
	FirstSeq uint64 `json:"first_seq"` // of these records
	LastSeq  uint64 `json:"last_seq"`
	LastHash string `json:"last_hash"`        // the prev of the oldest record that is left
	Newest   string `json:"newest"`           // the newest of their times
	Faults   int    `json:"faults,omitempty"` // that they had, and were removed with all the same
	Tree     Tree   `json:"tree"`
}

// Tree is the head of the Merkle tree over all records from the first on, as RFC 6962 describes it, and what it takes to extend it.
type Tree struct {
	Origin string   `json:"origin"` // name of the log
	Size   uint64   `json:"size"`
	Root   string   `json:"root"`
	Range  []string `json:"range"` // roots of the largest complete subtrees, from left to right
}

// restore makes the range of a tree again.
func (t Tree) restore() (*Range, error) {
	r, err := restoreRange(t.Size, t.Range)
	if err == nil && r.Root().String() != t.Root {
		err = errors.New("the range does not have the root")
	}
	return r, err
}

// RetentionOf tells of the removal of segments, the oldest first, with the trees that [Reader.Verify] has made of them.
func RetentionOf(days int, origin string, segments []Segment) *Retention {
	last := segments[len(segments)-1]
	r := &Retention{Days: days, Segments: len(segments), FirstSeq: segments[0].First.Seq, LastSeq: last.Last.Seq, LastHash: last.Last.Hash}
	newest := segments[0].Newest
	for _, s := range segments {
		r.Records += s.Records
		if s.Newest.After(newest) {
			newest = s.Newest
		}
	}
	r.Newest = newest.UTC().Format(timeLayout)
	if t := last.Tree; t != nil {
		r.Tree = Tree{Origin: origin, Size: t.End, Root: t.Root().String()}
		for _, h := range t.hashes {
			r.Tree.Range = append(r.Tree.Range, h.String())
		}
	}
	return r
}

// Prune removes closed segments, oldest first, when the record r that tells of it is on the disk. Without r.Retention there is no record: what it
// tells was recorded before, by somebody who got no further. No writer is at work meanwhile.
func (l *Log) Prune(r Record, names []string) error {
	for _, name := range names {
		if !isSegment(name) {
			return l.failed("remove", name, errors.New("is no closed segment"))
		}
	}
	if r.Retention != nil {
		if _, err := l.Append(r); err != nil {
			return err
		}
	}
	lock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock(lock)
	for _, name := range names {
		if err := unix.Unlinkat(l.dir, name, 0); err != nil && err != unix.ENOENT {
			return l.failed("remove", name, err)
		}
	}
	if err := unix.Fsync(l.dir); err != nil {
		return &StepError{"sync", l.path, err}
	}
	return nil
}

// PruneCode removes kept code that was last run before a time.
func (l *Log) PruneCode(before time.Time) (removed int, err error) {
	dir := filepath.Join(l.path, codeName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	for _, e := range entries {
		info, failed := e.Info()
		if failed != nil || !info.Mode().IsRegular() || !info.ModTime().Before(before) {
			continue
		}
		if failed := os.Remove(filepath.Join(dir, e.Name())); failed != nil {
			err = failed
			continue
		}
		removed++
	}
	return removed, err
}
