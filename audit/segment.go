package audit

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	segmentMost = 16 << 20       // bytes of a segment after which the next start opens a new one
	segmentAge  = 24 * time.Hour // likewise, since its first record
	lineStart   = 512            // bytes at the start of a line that hold its first keys
)

// due reports whether a segment that ends at end has to be closed, and the seq of its first record.
//
// If the clock is set back, a segment stays open longer; its size still ends it.
func (l *Log) due(fd int, end int64) (first uint64, due bool) {
	window := make([]byte, min(end, lineStart))
	if readAt(fd, window, 0) != nil {
		return 0, false
	}
	first, began, ok := firstKeys(window)
	return first, ok && l.isFull(end, began)
}

// isDue is due for the current segment. The beginning of a segment never changes, so it is read once.
func (w *entry) isDue() (first uint64, due bool) {
	c := w.cached
	if c == nil {
		return w.due(w.segment, w.end)
	}
	if c.first == 0 {
		window := make([]byte, min(w.end, lineStart))
		if readAt(w.segment, window, 0) != nil {
			return 0, false
		}
		c.first, c.began, _ = firstKeys(window)
	}
	return c.first, c.first > 0 && w.isFull(w.end, c.began)
}

// isFull reports whether a segment that began then, and ends at end, is to be closed.
func (l *Log) isFull(end int64, began time.Time) bool {
	return end >= l.segmentMost || time.Since(began) >= segmentAge
}

// firstKeys reads seq and time from the beginning of a line. What stands before these keys is
// always ours.
func firstKeys(line []byte) (seq uint64, at time.Time, ok bool) {
	_, text, ok := bytes.Cut(line, []byte(`"@timestamp":"`))
	text, rest, ok2 := bytes.Cut(text, []byte(`"`))
	at, err := time.Parse(timeLayout, string(text))
	_, rest, ok3 := bytes.Cut(rest, []byte(`"seq":`))
	digits, _, ok4 := bytes.Cut(rest, []byte(","))
	seq, numErr := strconv.ParseUint(string(digits), 10, 64)
	return seq, at, ok && ok2 && ok3 && ok4 && err == nil && numErr == nil && seq > 0
}

// rotate closes a segment that ends at end, and opens the next one. If that fails, the segment only
// grows longer.
func (l *Log) rotate(fd int, end int64, first uint64) int {
	// A power cut must not lose what the next segment continues from. The truncation gives back
	// what was reserved after the end.
	if unix.Fdatasync(fd) != nil || unix.Ftruncate(fd, end) != nil {
		return fd
	}
	if unix.Renameat2(l.dir, currentName, l.dir, segmentName(first), unix.RENAME_NOREPLACE) != nil {
		return fd
	}
	next, err := l.openRegular(currentName, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT|unix.O_EXCL)
	if err != nil { // no room for another file, say
		unix.Renameat2(l.dir, segmentName(first), l.dir, currentName, unix.RENAME_NOREPLACE)
		return fd
	}
	unix.Close(fd)
	return next
}

func segmentName(first uint64) string { return fmt.Sprintf("audit-%012d.jsonl", first) }

// reserve takes room on the disk after the end of the segment: for a start, for its end, and for
// the ends of all runs under way. Room that is already reserved costs nothing. Some file systems
// cannot reserve; there, on a full disk, the end of a run waits in its file in runs.
func (l *Log) reserve(fd int, end int64) error { return l.reserveFor(fd, end, l.running()) }

// reserveFor does that for so many runs under way.
func (l *Log) reserveFor(fd int, end int64, running int) error {
	err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, end, int64(2+running)*maxLine)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS || err == unix.EPERM || err == nil {
		return nil
	}
	return l.failed("reserve room in", currentName, err)
}

// rememberedSize is the length of the first line of the lock file: see the file memory.go.
const rememberedSize = 20 + 1 + 64 + 1

func remembered(lock int) (h head, ok bool) {
	h, ok = noted(lock)
	return h, ok && h.seq > 0
}

// noted is what the lock file says. With seq 0, the first record of all may or may not be written.
func noted(lock int) (h head, ok bool) {
	var text [rememberedSize]byte
	if readAt(lock, text[:], 0) != nil {
		return head{}, false
	}
	digits, hash, _ := strings.Cut(string(text[:rememberedSize-1]), " ")
	seq, err := strconv.ParseUint(digits, 10, 64)
	return head{seq: seq, hash: hash}, err == nil && len(hash) == 64
}

func remember(lock int, h head) {
	// A failure here must not fail the run: the log itself is written.
	const digits = 20
	number := strconv.AppendUint(make([]byte, 0, digits), h.seq, 10)
	line := append(make([]byte, 0, rememberedSize), "00000000000000000000"[len(number):]...)
	line = append(append(append(append(line, number...), ' '), h.hash...), '\n')
	unix.Pwrite(lock, line, 0)
}

// broken reports whether the log lacks the record that was noted. The log goes on after that record
// all the same, so that no seq is given twice, and an audit-repair record says what was found
// instead.
func broken(last, known head, end int64, torn bool) (r Repair, why string) {
	switch {
	case last.seq > known.seq, last.seq == known.seq && last.hash == known.hash:
		return Repair{}, ""
	case torn && last.seq+1 == known.seq: // the torn end was this record
		return Repair{}, ""
	case last.seq == known.seq:
		why = "log-replaced"
	case end == 0:
		why = "log-lost"
	default:
		why = "log-cut"
	}
	return Repair{Expected: &Link{known.seq, known.hash}, Found: &Link{last.seq, last.hash}}, why
}

// A SegmentEntry is a file of the log, of which nothing but its name, its size and its first line was read.
type SegmentEntry struct {
	Name    string
	First   uint64 // seq of its first record; 0: it has none
	Bytes   int64
	Current bool  // it is being written to
	Err     error // why it cannot be read, or is not a segment
}

// Segments are the files of the log, oldest first.
func (r *Reader) Segments() ([]SegmentEntry, error) {
	s, err := r.look(0)
	if err != nil {
		return nil, err
	}
	defer s.close()
	list := make([]SegmentEntry, len(s.segments))
	for i, seg := range s.segments {
		list[i] = SegmentEntry{Name: seg.name, First: seg.first, Bytes: seg.size, Current: seg.current, Err: seg.err}
	}
	return list, nil
}
