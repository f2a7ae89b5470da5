package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const followGap = 200 * time.Millisecond // between two looks

// A Reader reads the log of a directory while others write it. It changes nothing, and needs only
// the permission to read.
//
// It reads the log as it was at one moment: every method looks once which segments there are and
// how long they are. It does not see a record that is being written at that moment, and still reads
// segments that are closed afterwards. It opens closed segments one after the other, so that a log
// of any length needs two descriptors. A segment that retention removes meanwhile is gone.
type Reader struct {
	path string
	dir  int
}

// OpenReader opens the log in dir. The directory has to be there; a log in it need not be.
func OpenReader(dir string) (*Reader, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, &StepError{"read audit directory", dir, err}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &StepError{"read audit directory", path, err}
	}
	return &Reader{path, fd}, nil
}

// Dir is the absolute path of the log's directory.
func (r *Reader) Dir() string { return r.path }

// Close gives the directory back.
func (r *Reader) Close() error { return unix.Close(r.dir) }

func (r *Reader) failed(step, name string, err error) error {
	return &StepError{step, filepath.Join(r.path, name), err}
}

// A Position is the place after a record. The zero Position is the beginning of the log.
type Position struct {
	Segment uint64 `json:"segment"` // seq of the first record in the same segment; it stays the same when the segment is closed
	Offset  int64  `json:"offset"`  // bytes of the segment before the place
	Seq     uint64 `json:"seq"`     // of the record
	Hash    string `json:"hash"`    // of its line
}

// A PositionError says that the log does not go on from a position: what stood there was removed,
// cut or replaced.
type PositionError struct {
	Position Position
	Problem  string
	Pruned   bool // retention removed it, as it should
}

func (e *PositionError) Error() string {
	return fmt.Sprintf("go on after record %d: %s", e.Position.Seq, e.Problem)
}

// A Line is a record as it stands in the log. The text stays valid.
type Line struct {
	Seq    uint64
	Time   time.Time // zero: not readable
	Action Action
	RunID  string
	Text   []byte // without the newline

	segment uint64
	end     int64
}

// Hash is that of the line: the prev of the next record.
func (l Line) Hash() Hash { return sha256.Sum256(l.Text) }

// Position is the place after the line.
func (l Line) Position() Position {
	return Position{Segment: l.segment, Offset: l.end, Seq: l.Seq, Hash: l.Hash().String()}
}

// Record decodes the line. It ignores keys of later versions.
func (l Line) Record() (Record, error) {
	var rec Record
	err := json.Unmarshal(l.Text, &rec)
	return rec, err
}

// A LineError is a line that is not a record. It does not end an iteration.
type LineError struct {
	Segment string
	Offset  int64 // of the line
	Err     error
}

func (e *LineError) Error() string {
	return fmt.Sprintf("%s: line at byte %d: %v", e.Segment, e.Offset, e.Err)
}

// Unwrap returns what is wrong with the line.
func (e *LineError) Unwrap() error { return e.Err }

// Oldest is the seq of the first record of the log's oldest segment, which may be one that cannot
// be read; 0 if there is none.
func (r *Reader) Oldest() (uint64, error) {
	s, err := r.look(0)
	if err != nil {
		return 0, err
	}
	defer s.close()
	if len(s.segments) == 0 {
		return 0, nil
	}
	return s.segments[0].first, s.segments[0].err
}

// Records yields the records after from, oldest first. A line that is not a record comes with a
// [*LineError]. What stands after the last record is not yielded: it is being written, or is torn,
// and the next writer cuts it. A segment that cannot be opened is an error in its place. After
// these two errors the iteration can go on; after any other error it ends.
func (r *Reader) Records(from Position) iter.Seq2[Line, error] {
	return r.RecordsWithin(from, time.Time{}, time.Time{})
}

// RecordsWithin is like Records, and leaves out whole closed segments that begin and end before since, or begin and end
// at until or later. Zero times leave out nothing. In the other segments it yields records of all times.
func (r *Reader) RecordsWithin(from Position, since, until time.Time) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		s, err := r.look(from.Segment)
		if err != nil {
			yield(Line{}, err)
			return
		}
		defer s.close()
		offset := int64(0)
		if from != (Position{}) {
			if offset, err = s.find(from); err != nil {
				yield(Line{}, err)
				return
			}
		}
		if s.narrow(since, until) {
			offset = 0
		}
		var last Line
		for _, seg := range s.segments {
			err := s.load(&seg)
			switch {
			case err == nil:
				more := lines(seg, offset, func(line Line, err error) bool {
					if err == nil {
						last = line
					}
					return yield(line, err)
				})
				if !seg.current { // the current segment belongs to the snapshot
					seg.release()
				}
				if !more {
					return
				}
			case errors.Is(err, unix.ENOENT) && last.Seq == 0 && from == (Position{}): // as if the look came later
			case errors.Is(err, unix.ENOENT):
				if last.Seq > 0 {
					from = last.Position()
				}
				yield(Line{}, &PositionError{Position: from, Pruned: true, Problem: seg.name + " was removed while the log was read"})
				return
			default:
				if !yield(Line{}, err) {
					return
				}
			}
			offset = 0
		}
	}
}

// lines yields the lines of a segment from offset on. It returns false when the iteration has to end.
func lines(seg segment, offset int64, yield func(Line, error) bool) bool {
	type bad struct {
		line Line
		err  error
	}
	var held []bad // lines that are not records, until a record follows
	release := func() bool {
		for _, b := range held {
			if !yield(b.line, b.err) {
				return false
			}
		}
		held = nil
		return true
	}
	for b := range blocks(seg, offset, func(n int) []byte { return make([]byte, n) }) {
		if b.err != nil {
			yield(Line{}, &StepError{"read", seg.file.Name(), b.err})
			return false
		}
		at := b.offset
		for text := range bytes.Lines(b.text) {
			line, err := lineOf(seg, at, text)
			at = line.end
			if err != nil {
				held = append(held, bad{line, err})
			} else if !release() || !yield(line, nil) {
				return false
			}
		}
	}
	return seg.current || release()
}

func lineOf(seg segment, offset int64, text []byte) (Line, error) {
	line := Line{Text: text[:len(text)-1], segment: seg.first, end: offset + int64(len(text))}
	f, err := read(line.Text)
	if err != nil {
		return line, &LineError{seg.name, offset, err}
	}
	line.Seq, line.Time, line.Action, line.RunID = f.seq, f.at, Action(f.action), string(f.runID)
	return line, nil
}

// Backward is like [Reader.Records] for the whole log, from the newest record to the oldest.
func (r *Reader) Backward() iter.Seq2[Line, error] {
	return r.BackwardWithin(time.Time{}, time.Time{})
}

// BackwardWithin is like Backward, and leaves out segments as [Reader.RecordsWithin] does.
func (r *Reader) BackwardWithin(since, until time.Time) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		s, err := r.look(0)
		if err != nil {
			yield(Line{}, err)
			return
		}
		defer s.close()
		s.narrow(since, until)
		s.backward(yield)
	}
}

func (s *snapshot) backward(yield func(Line, error) bool) {
	for _, seg := range slices.Backward(s.segments) {
		err := s.load(&seg)
		if errors.Is(err, unix.ENOENT) { // retention removed it meanwhile, and removes the oldest first
			return
		}
		if err != nil {
			if !yield(Line{}, err) {
				return
			}
			continue
		}
		more := seg.backward(yield)
		if !seg.current {
			seg.release()
		}
		if !more {
			return
		}
	}
}

func (seg segment) backward(yield func(Line, error) bool) bool {
	found := !seg.current // a record was found; in the current segment, what stands after the last one is torn
	ended := false        // the last newline was found
	var tail []byte       // the end of a line whose start was not read yet
	for end := seg.size; end > 0; {
		start := max(0, end-blockSize)
		text := make([]byte, end-start, end-start+int64(len(tail)))
		if _, err := seg.file.ReadAt(text, start); err != nil {
			yield(Line{}, &StepError{"read", seg.file.Name(), err})
			return false
		}
		text = append(text, tail...)
		if len(text) > blockMost {
			yield(Line{}, &StepError{"read", seg.file.Name(), fmt.Errorf("no newline in %d bytes", len(text))})
			return false
		}
		if !ended {
			text = text[:bytes.LastIndexByte(text, '\n')+1]
			ended = len(text) > 0
		}
		for len(text) > 0 {
			cut := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
			if cut == 0 && start > 0 {
				break
			}
			line, err := lineOf(seg, start+int64(cut), text[cut:])
			found = found || err == nil
			if found && !yield(line, err) {
				return false
			}
			text = text[:cut]
		}
		tail, end = text, start
	}
	return true
}

// Follow is like [Reader.Records], and goes on with every record that is written until the context
// ends. It looks five times a second.
func (r *Reader) Follow(ctx context.Context, from Position) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		from := from // each iteration begins anew
		tick := time.NewTicker(followGap)
		defer tick.Stop()
		type state struct {
			ino  uint64
			size int64
		}
		seen := state{size: -1}
		for {
			var st unix.Stat_t
			unix.Fstatat(r.dir, currentName, &st, unix.AT_SYMLINK_NOFOLLOW) // absent: a log that is not there yet
			if now := (state{st.Ino, st.Size}); now != seen {
				seen = now
				for line, err := range r.Records(from) {
					if !yield(line, err) {
						return
					}
					if err == nil {
						from = line.Position()
					}
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}
