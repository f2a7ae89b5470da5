package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

// cached is what a Log that stays keeps from one record to the next: open files, and what it last saw in them.
// Other processes write the same log, so nothing of it is believed. Under the lock each thing is
// compared with what is there, and opened or read again where it differs:
//
//	.lock, the segment, runs   the name still leads to this file, with the same owner and mode
//	the newest record          it still ends the segment, byte for byte
//	the note in .lock          is always read
//	room that was reserved     the file still has as many blocks
//	.spare-…                   the file of an earlier run, which only this process uses
type cached struct {
	stays bool       // see Stay; false: nothing is kept
	mu    sync.Mutex // held from the lock of the log to the sync of the record: who comes meanwhile opens files of its own

	lock    int // .lock, not locked between two records; -1: not open
	lockAt  identity
	segment int // the current one; -1: not open
	at      identity

	line  []byte // the newest record as it stands at the end of the segment, with its newline; nil: not known
	end   int64  // where it ends
	last  head
	first uint64 // seq of the segment's first record; 0: not known
	began time.Time
	text  []byte // room for what is read

	runs  *runsDir // nil: not open
	spare *spare   // nil: there is none
}

// identity is what makes a file the one that was opened.
type identity struct {
	dev, ino       uint64
	mode, uid, gid uint32
	nlink          uint64
}

func identityOf(st *unix.Stat_t) identity {
	return identity{uint64(st.Dev), st.Ino, st.Mode, st.Uid, st.Gid, uint64(st.Nlink)}
}

// Stay says that this Log is for one run after the other. Its files stay open between two records,
// and the file of a run that has ended is used for the next one. Call it before the first record.
func (l *Log) Stay() { l.cached.stays = true }

// Stands reports whether the path of the log still leads to the directory that is open. If not, a
// new Open finds another one, or an error.
func (l *Log) Stands() bool {
	var open, there unix.Stat_t
	return l.dir >= 0 && unix.Fstat(l.dir, &open) == nil && unix.Lstat(l.path, &there) == nil && sameDir(&open, &there)
}

// sameDir compares directories: their number of links is that of the directories in them.
func sameDir(a, b *unix.Stat_t) bool {
	x, y := identityOf(a), identityOf(b)
	x.nlink, y.nlink = 0, 0
	return x == y && a.Nlink > 0
}

// lockOf takes the lock of the log, as Log.lock does.
func (c *cached) lockOf(l *Log) (lock int, err error) {
	if c.lock >= 0 {
		if unix.Flock(c.lock, unix.LOCK_EX|unix.LOCK_NB) == nil {
			var st unix.Stat_t
			if unix.Fstatat(l.dir, lockName, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && identityOf(&st) == c.lockAt {
				return c.lock, nil
			}
			unix.Flock(c.lock, unix.LOCK_UN)
		}
		unix.Close(c.lock)
		c.lock = -1
	}
	if lock, err = l.lock(); err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(lock, &st); err != nil {
		filelock.Release(lock)
		return -1, l.failed("lock", lockName, err)
	}
	c.lock, c.lockAt = lock, identityOf(&st)
	return lock, nil
}

// forget gives up all files but segment, which the caller closes.
func (c *cached) forget(segment int) {
	if c.segment != segment {
		closeFile(c.segment)
	}
	closeFile(c.lock)
	c.segment, c.lock, c.line, c.first = -1, -1, nil, 0
}

// close closes everything.
func (c *cached) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(-1)
	c.dropSpare()
	if c.runs != nil {
		c.runs.leave()
		c.runs = nil
	}
}

func closeFile(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// take makes a segment that was just opened the one that is kept.
func (c *cached) take(segment int) {
	c.segment, c.at, c.line, c.first = segment, identity{}, nil, 0
	var st unix.Stat_t
	if unix.Fstat(segment, &st) == nil {
		c.at = identityOf(&st)
	}
}

// current returns the segment that was kept, if it is still the current one; else -1.
func (w *entry) current() int {
	c := w.cached
	if c == nil || c.segment < 0 {
		return -1
	}
	var st unix.Stat_t
	if unix.Fstatat(w.dir, currentName, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && identityOf(&st) == c.at && w.isShared(&st, sharedFile) {
		w.found = st
		return c.segment
	}
	unix.Close(c.segment)
	c.segment, c.line, c.first = -1, nil, 0
	return -1
}

// goesOn reports whether the segment still ends with the record that this Log has written last. It
// finds out what readTail would, with a short read.
func (w *entry) goesOn() bool {
	c := w.cached
	if c == nil || c.line == nil || w.found.Ino == 0 || w.found.Size != c.end {
		return false
	}
	there := c.room(len(c.line))
	if readAt(w.segment, there, c.end-int64(len(there))) != nil || !bytes.Equal(there, c.line) {
		return false
	}
	w.last, w.end = c.last, c.end
	return true
}

// keep notes the record that was just written. line has its newline.
func (w *entry) keep(r *Record, line []byte) {
	if c := w.cached; c != nil {
		c.line, c.end, c.last = line, w.end, w.last
		c.last.prev, c.last.at = r.Prev, momentOf(r.Timestamp, r.Host)
	}
}

// room is memory for n bytes that are read.
func (c *cached) room(n int) []byte {
	if cap(c.text) < n {
		c.text = make([]byte, n, max(n, 4<<10))
	}
	return c.text[:n]
}

const (
	roomAhead = 512 << 10 // bytes that are reserved beyond what is needed, so that this is rarely done
	roomSlack = 128 << 10 // blocks of a segment that may hold no bytes of it, but what the file system keeps about them
)

// makeRoom reserves room for a start: see reserve.
func (w *entry) makeRoom() error {
	c := w.cached
	if c == nil {
		return w.reserve(w.segment, w.end)
	}
	n := w.running()
	need := w.end + int64(2+n)*maxLine
	if st := &w.found; st.Ino != 0 && st.Blocks*512 >= need+roomSlack {
		return nil
	}
	if unix.Fallocate(w.segment, unix.FALLOC_FL_KEEP_SIZE, w.end, need-w.end+roomAhead+roomSlack) == nil {
		return nil
	}
	return w.reserveFor(w.segment, w.end, n)
}

// runsDir is the directory of the runs under way. It stays open as long as somebody uses it.
type runsDir struct {
	fd    int
	at    unix.Stat_t
	users atomic.Int32
}

func (d *runsDir) leave() {
	if d.users.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// runsOf returns the directory of the runs under way, and opens it if the one that was kept is not
// there any more. make: it is made if it is missing.
func (c *cached) runsOf(l *Log, make bool) (*runsDir, error) {
	if c.runs != nil {
		var st unix.Stat_t
		if unix.Fstatat(l.dir, runsName, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && sameDir(&st, &c.runs.at) {
			return c.runs, nil
		}
		c.dropSpare()
		c.runs.leave()
		c.runs = nil
	}
	fd, err := l.openRuns(make)
	if err != nil {
		return nil, err
	}
	d := &runsDir{fd: fd}
	if err := unix.Fstat(fd, &d.at); err != nil {
		unix.Close(fd)
		return nil, l.failed("open", runsName, err)
	}
	d.users.Store(1)
	c.runs = d
	return d, nil
}

// A spare is the file of an earlier run, under a name that is no run's. It is still locked.
type spare struct {
	file *os.File
	name string
	size int64
}

// spareMark begins the names of spares.
const spareMark = ".spare-"

// keepSpare keeps the file of a run that has ended. It reports whether it has.
func (c *cached) keepSpare(run *Run) bool {
	if c.spare != nil || run.runs != c.runs || c.runs == nil {
		return false
	}
	var random [8]byte
	rand.Read(random[:])
	name := spareMark + hex.EncodeToString(random[:])
	if unix.Renameat2(run.dir, run.id, run.dir, name, unix.RENAME_NOREPLACE) != nil {
		return false
	}
	c.spare = &spare{run.file, name, run.size}
	run.file = nil
	return true
}

// useSpare makes the spare the file of a run, with this text.
func (c *cached) useSpare(run *Run, text []byte) bool {
	s := c.spare
	if s == nil || run.runs != c.runs {
		return false
	}
	fd := int(s.file.Fd())
	n, err := unix.Pwrite(fd, text, 0)
	if err == nil && n == len(text) && s.size > int64(n) {
		err = unix.Ftruncate(fd, int64(n))
	}
	if err != nil || n != len(text) || unix.Renameat2(run.dir, s.name, run.dir, run.id, unix.RENAME_NOREPLACE) != nil {
		c.dropSpare()
		return false
	}
	run.file, run.size, c.spare = s.file, int64(n), nil
	return true
}

// dropSpare removes the spare.
func (c *cached) dropSpare() {
	if s := c.spare; s != nil {
		unix.Unlinkat(c.runs.fd, s.name, 0)
		s.file.Close()
		c.spare = nil
	}
}
