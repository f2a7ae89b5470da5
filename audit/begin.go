package audit

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

// begin takes the snapshot, if possible while no writer is at work, and looks at what stands beside
// the log.
func (v *verifier) begin() error {
	r := v.reader
	lock, unread := v.share()
	var err error
	v.snapshot, err = r.look(0)
	v.kept = readHolds(r.dir)
	if v.locked {
		filelock.Release(lock)
	}
	if err != nil {
		return err
	}
	for _, seg := range v.snapshot.segments {
		v.total += seg.size
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.dir, &st); err == nil && st.Mode&0o022 != 0 {
		v.add(Warning, DirectoryOpen, 0, "the directory can be written by others (mode %04o): no writer takes it", st.Mode&0o7777)
	}
	switch {
	case hostFailure(unread) && !errors.Is(unread, unix.EACCES) && !errors.Is(unread, unix.EPERM): // who may only read the log may have no access to it
		v.add(Unreadable, NotReadable, 0, "what the writers noted of the newest record: %v", unread)
	case errors.Is(unread, ErrLocked):
		v.add(Note, LogHeld, 0, "%v: a record that is being written now looks torn", unread)
	case v.isKnown || v.total == 0 && errors.Is(unread, unix.ENOENT):
	case unread != nil:
		v.add(Warning, MemoryMissing, 0, "what the writers noted of the newest record: %v", unread)
	case v.total > 0:
		v.add(Warning, MemoryMissing, 0, "what the writers noted of the newest record, in %s, is not there", lockName)
	}
	v.witnesses = slices.Clone(v.Witnesses)
	if v.isKnown {
		v.witnesses = append(v.witnesses, Witness{Source: lockName, Seq: v.known.seq, Hash: v.known.hash})
	}
	slices.SortStableFunc(v.witnesses, func(a, b Witness) int { return cmp.Compare(a.Seq, b.Seq) })
	slices.Sort(v.Sizes)
	slices.Sort(v.Prove)
	v.report.Ranges = map[uint64]*Range{}
	v.findBase()
	return nil
}

// share reads .lock and takes the shared lock on it: while v.locked, no record is half written.
func (v *verifier) share() (lock int, err error) {
	r := v.reader
	lock, err = unix.Openat(r.dir, lockName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, r.failed("read", lockName, err)
	}
	v.known, v.isKnown = remembered(lock) // in case the lock cannot be had
	if err := filelock.Take(lock, unix.LOCK_SH, time.Now().Add(lockPatience), nil); err != nil {
		return -1, r.failed("lock", lockName, err)
	}
	v.locked = true
	v.known, v.isKnown = remembered(lock)
	return lock, nil
}

// findBase finds the newest record about removed segments, if the log does not begin with record 1.
func (v *verifier) findBase() {
	v.beginTree()
	if len(v.snapshot.segments) == 0 {
		return
	}
	oldest := v.snapshot.segments[0]
	first := oldest.first
	if first <= 1 {
		return
	}
	v.snapshot.backward(func(line Line, err error) bool {
		if bad := new(LineError); err != nil && !errors.As(err, &bad) {
			v.baseUnknown = true
		}
		if err != nil || line.Action != AuditRetention {
			return true
		}
		rec, err := line.Record()
		if err == nil && rec.Retention != nil && rec.Retention.LastSeq+1 >= first {
			v.base = rec.Retention
		}
		return false
	})
	if v.base == nil || !v.Tree {
		return
	}
	tree, err := v.base.Tree.restore()
	if err != nil {
		v.base.Tree = Tree{} // the walk reports it where the record stands
		return
	}
	v.baseTree = tree
	v.beginTree()
}

// beginTree begins the trees.
func (v *verifier) beginTree() {
	if !v.Tree {
		return
	}
	v.report.Tree = &Range{}
	if v.baseTree != nil {
		v.report.Tree = v.baseTree.clone()
		v.report.Origin = v.base.Tree.Origin
	}
	v.measure()
}

// measure keeps the ranges that are asked for at this size.
func (v *verifier) measure() {
	t := v.report.Tree
	if _, wanted := slices.BinarySearch(v.Sizes, t.End); wanted {
		v.report.Ranges[t.End] = t.clone()
	}
	if v.Since > 0 && t.End == v.Since {
		v.report.Since = &Range{Begin: t.End, End: t.End}
	}
}

func (v *verifier) addLeaf(seq uint64, h Hash) {
	t := v.report.Tree
	if len(v.Prove) > 0 {
		v.include(seq, h)
	}
	t.add(h)
	if s := v.report.Since; s != nil && s.End == t.End-1 {
		s.add(h)
	}
	if len(v.Sizes) > 0 || t.End == v.Since {
		v.measure()
	}
}

// originOf names a log by the host and the hash of its first record.
func originOf(line []byte, sum Hash) string {
	var r struct {
		Host Host `json:"host"`
	}
	json.Unmarshal(line, &r)
	name := strings.Map(func(c rune) rune {
		if c == '.' || c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '-'
	}, r.Host.Name)
	return "py3run/" + cmp.Or(name, "host") + "/" + sum.String()[:16]
}
