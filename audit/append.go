package audit

import (
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

// A Receipt lets the author of a record prove later that it was written.
type Receipt struct {
	Seq  uint64
	Hash string // lower-case hexadecimal SHA-256 of Line
	Line []byte // as in the log, without the newline

	record Record
}

func (r Receipt) head() head { return head{seq: r.Seq, hash: r.Hash} }

// Append writes r as the next record of the log, and returns when it is on the disk. It sets the
// fields that the log decides in a copy of r.
//
// The line escapes everything except printable ASCII. Invalid UTF-8 becomes U+FFFD, and a string
// that takes more than 2048 bytes in the line ends in an ellipsis. A record over 16 KiB loses the
// heads of Output, then entries of lists: first those of Hooks, then the reasons in
// Isolation.Missing, the arguments, Labels, Variables.List, the lists of Files, Policy.Changes and
// User.Groups. Both set Truncated.
//
// A record with a Policy is that of a tool that has changed the file: the next run finds the file as
// NewSHA256 says, and reports no change.
//
// After an error of the steps "look at" and "sync" the record may be in the log. After all other
// errors it is not.
func (l *Log) Append(r Record) (Receipt, error) { return l.add(r, &entering{}) }

// entering says what else happens under the lock in which a record is written.
type entering struct {
	starts bool                    // the record is a start, which can still be refused: it opens new segments and reserves room
	before func(line []byte) error // gets the line before it is written; may be nil
	after  func()                  // is called when the line is written; may be nil

	cached *cached // of the Log, as long as the record is added; nil: another goroutine uses it. add sets it
}

func (l *Log) add(r Record, e *entering) (Receipt, error) {
	d, wide, err := l.fitWide(r)
	if err != nil {
		return Receipt{}, err
	}
	w := entry{Log: l, segment: -1, wide: wide}
	if l.cached.stays && l.cached.mu.TryLock() { // else another goroutine is adding a record
		defer l.cached.mu.Unlock()
		w.cached, e.cached = &l.cached, &l.cached
		w.lock, err = l.cached.lockOf(l)
	} else {
		w.lock, err = l.lock()
	}
	if err != nil {
		return Receipt{}, err
	}
	receipt, err := w.putAndUnlock(d, e)
	return receipt, w.close(err) // not under the lock: to wait for the disk takes longest
}

// putAndUnlock adds d and gives the lock back, also after a panic, which can be the end of one run only: the process may have
// others, and the lock would keep all writers out until it ends.
func (w *entry) putAndUnlock(d draft, e *entering) (receipt Receipt, err error) {
	done := false
	defer func() {
		switch {
		case w.cached == nil:
			filelock.Release(w.lock)
		case done:
			unix.Flock(w.lock, unix.LOCK_UN)
		default:
			unix.Flock(w.lock, unix.LOCK_UN)
			w.cached.forget(w.segment)
		}
		if !done && w.segment >= 0 {
			unix.Close(w.segment)
		}
	}()
	receipt, err = w.put(d, e)
	if err == nil && e.after != nil {
		e.after()
	}
	done = true
	return receipt, err
}

// addLocked adds a record while the caller holds the lock.
func (l *Log) addLocked(lock int, r Record) (Receipt, error) {
	d, wide, err := l.fitWide(r)
	if err != nil {
		return Receipt{}, err
	}
	w := entry{Log: l, lock: lock, segment: -1, wide: wide}
	receipt, err := w.put(d, &entering{})
	return receipt, w.close(err)
}

// fitWide fits a record with the widest numbers that it can get, so that it need not be fitted
// again under the lock.
func (l *Log) fitWide(r Record) (draft, []byte, error) {
	r.follow(widest)
	r.Host.ClockJumpMS = math.MinInt64
	return l.fit(r)
}

func (l *Log) fit(r Record) (draft, []byte, error) {
	d, line, err := fitLine(r, maxLine-1)
	if err != nil {
		return draft{}, nil, l.failed("encode record for", currentName, err)
	}
	return d, line, nil
}

// An entry is one record on its way into the log, while the lock is held. The package comment has a
// drawing of its steps.
type entry struct {
	*Log
	lock    int
	segment int   // descriptor of the current segment; -1: not open yet
	end     int64 // of the last record in it
	last    head  // the newest record

	wide   []byte      // the line of the entry's own record with the widest numbers; nil: it has to be encoded
	cached *cached     // nil: this entry opens files of its own, and closes them
	found  unix.Stat_t // what current has seen; Ino 0: nothing
}

// close waits until the segment is on the disk, unless the entry has failed, and closes it.
func (w *entry) close(err error) error {
	if w.segment < 0 {
		return err
	}
	if w.cached == nil || err != nil {
		defer unix.Close(w.segment)
		if w.cached != nil {
			w.cached.forget(w.segment)
		}
	}
	if err != nil || w.NoSync {
		return err
	}
	if err := unix.Fdatasync(w.segment); err != nil {
		return w.failed("sync", currentName, err)
	}
	return nil
}

// put adds d to the current segment, or to the next one. What it has to say first about the log
// that it found becomes records of their own.
func (w *entry) put(d draft, e *entering) (Receipt, error) {
	torn, err := w.open(e.starts)
	if err != nil {
		return Receipt{}, err
	}
	noted := recall(w.lock)
	if w.end == 0 {
		if err := w.goOn(noted.known); err != nil {
			return Receipt{}, err
		}
	}
	if len(torn) > 0 {
		if err := w.cut(torn); err != nil {
			return Receipt{}, err
		}
	}
	if e.starts {
		if err := w.makeRoom(); err != nil {
			return Receipt{}, err
		}
	}
	if d, err = w.repair(d, noted); err != nil {
		return Receipt{}, err
	}
	if w.last.seq == 0 && !noted.known {
		remember(w.lock, origin) // or the first record of all, if its writer is killed after it, would look like one whose note is gone
	}
	var files []byte
	if len(filesOf(d.record)) > 0 {
		if files, err = w.compareFiles(w.lock, d.record, w.note); err != nil {
			return Receipt{}, err
		}
	}
	receipt, err := w.write(d, w.wide, e.before)
	if err != nil {
		return Receipt{}, err
	}
	if files != nil {
		rememberFiles(w.lock, files)
	}
	if p := d.record.Policy; p != nil && d.record.Event.Action != PolicyChanged {
		w.rememberChange(w.lock, *p) // else the next run reports the change again
	}
	if err := w.lookAt(); err != nil {
		return Receipt{}, w.failed("look at", currentName, err)
	}
	w.keep(&receipt.record, receipt.Line[:len(receipt.Line)+1])
	return receipt, nil
}

// open opens the current segment and finds its last record, and what stands after that. A start may
// close the segment and open the next one.
func (w *entry) open(starts bool) (torn []byte, err error) {
	if w.segment < 0 {
		w.segment = w.current()
	}
	if w.segment < 0 {
		if w.segment, err = w.openCurrent(); err != nil {
			return nil, err
		}
		if w.cached != nil {
			w.cached.take(w.segment)
		}
	}
	if !w.goesOn() {
		if w.last, w.end, torn, err = readTail(w.segment); err != nil {
			return nil, w.failed("read the end of", currentName, err)
		}
	}
	if starts && w.end > 0 && len(torn) == 0 {
		if first, due := w.isDue(); due {
			if next := w.rotate(w.segment, w.end, first); next != w.segment {
				w.segment, w.end, w.found = next, 0, unix.Stat_t{}
				if w.cached != nil {
					w.cached.take(next)
				}
			}
		}
	}
	return torn, nil
}

// goOn finds the newest record for a segment that has none yet.
func (w *entry) goOn(noted bool) error {
	closed, err := w.lastClosed()
	switch {
	case err == nil:
		w.last = closed
	case noted: // the comparison with the note shows what is wrong
		w.last = origin
	default:
		return err
	}
	// The file may be new: its name has to last as long as its records.
	if !w.NoSync {
		if err := unix.Fsync(w.dir); err != nil {
			return &StepError{"sync", w.path, err}
		}
	}
	return nil
}

// cut keeps the torn end of the segment in a file, and cuts it.
func (w *entry) cut(torn []byte) error {
	if err := w.setAside(w.segment, torn, w.last.seq+1); err != nil {
		return err
	}
	if err := unix.Ftruncate(w.segment, w.end); err != nil {
		return w.failed("cut the torn end of", currentName, err)
	}
	return nil
}

// repair notes what is wrong with the log that d is to go on from, in audit-repair records or in d
// itself.
func (w *entry) repair(d draft, noted memory) (draft, error) {
	newest := w.last
	note := func(cut Repair, why string) error { return w.note(repairRecord(d.record, cut, why)) }
	cut, found, err := w.unrecorded(w.last.seq + 1)
	if err == nil && found {
		err = note(cut, "torn-end")
	}
	if err != nil {
		return d, err
	}
	known := noted.head
	if !noted.known {
		known = w.started()
	}
	if gap, why := broken(w.last, known, w.end, found); known.seq > 0 && why != "" {
		w.last = known
		return d, note(gap, why)
	}
	gap, beside := w.forgotten(newest, noted, d.record.Host.Boot)
	switch {
	case gap == nil:
		return d, nil
	case beside:
		d.record.Repair = gap
		d, w.wide, err = w.fitWide(d.record)
		return d, err
	}
	return d, note(*gap, memoryLost)
}

// note writes a record before the one that the entry is for.
func (w *entry) note(r Record) error {
	r.follow(w.last)
	d, _, err := w.fit(r)
	if err == nil {
		_, err = w.write(d, nil, nil)
	}
	return err
}

// write makes d the newest record, in one write at the end of the segment. wide is its line with the
// widest numbers, or nil. before, which may be nil, gets the line first.
func (w *entry) write(d draft, wide []byte, before func([]byte) error) (Receipt, error) {
	d.record.follow(w.last)
	line := narrow(wide, &d.record)
	if line == nil {
		whole := d // only then on the heap
		var err error
		if line, _, err = whole.encode(); err != nil {
			return Receipt{}, w.failed("encode record for", currentName, err)
		}
	}
	if before != nil {
		if err := before(line); err != nil {
			return Receipt{}, err
		}
	}
	whole := append(line, '\n')
	line = whole[:len(line)]
	n, err := unix.Write(w.segment, whole)
	if err == nil && n <= len(line) {
		// To the kernel, a disk that fills up in the middle is not an error.
		err = io.ErrShortWrite
	}
	if err != nil {
		if n > 0 {
			if undo := unix.Ftruncate(w.segment, w.end); undo != nil {
				err = fmt.Errorf("%w; undo: %w", err, undo)
			}
		}
		return Receipt{}, w.failed("write", currentName, err)
	}
	if w.cached != nil && !w.NoSync {
		unix.SyncFileRange(w.segment, w.end, int64(len(whole)), unix.SYNC_FILE_RANGE_WRITE) // a hint: the disk begins while we do the rest, and the sync has less to wait for
	}
	receipt := Receipt{Seq: d.record.Seq, Hash: hexSHA256(line), Line: line, record: d.record}
	w.last = receipt.head()
	w.end += int64(len(line)) + 1
	remember(w.lock, w.last)
	return receipt, nil
}

// lookAt fails when the log's path no longer leads to the segment.
func (w *entry) lookAt() error {
	var written, there unix.Stat_t
	if c := w.cached; c != nil && c.at.ino != 0 {
		written.Dev, written.Ino = c.at.dev, c.at.ino
	} else if err := unix.Fstat(w.segment, &written); err != nil {
		return err
	}
	if err := unix.Lstat(w.Log.current, &there); err != nil {
		return fmt.Errorf("removed while it was written: %w", err)
	}
	if written.Dev != there.Dev || written.Ino != there.Ino {
		return errors.New("replaced while it was written")
	}
	return nil
}

// View is the line for a reader with little room: one JSON object of at most limit bytes, cut in
// the same order as for the log. A line that fits is returned unchanged.
func (r Receipt) View(limit int) []byte {
	if len(r.Line) <= limit {
		return r.Line
	}
	if d, err := fit(r.record, limit); err == nil {
		if line, _, err := d.encode(); err == nil {
			return line
		}
	}
	return []byte(`{"truncated":true}`)
}
