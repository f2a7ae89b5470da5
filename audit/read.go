package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	blockSize = 1 << 20  // bytes that are read at once
	blockMost = 64 << 20 // bytes without a newline that are still looked at
	followGap = 200 * time.Millisecond
	lookPause = time.Millisecond
)

// A Reader reads the log of a directory while others write it. It changes nothing, and needs no more than to be allowed to read.
//
// What it reads is the log as it was at one moment: every method looks once which segments there are and how far they go. A record that is being
// written then is not seen, and segments that are closed afterwards are still read. Closed segments are opened one after the other, so that a log
// of any length needs two descriptors; one that retention removes meanwhile is gone.
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

// A Position is the place behind a record. The zero Position is the beginning of the log.
type Position struct {
	Segment uint64 `json:"segment"` // seq of the first record of the record's segment, which keeps it when it is closed
	Offset  int64  `json:"offset"`  // bytes of the segment before the place
	Seq     uint64 `json:"seq"`     // of the record
	Hash    string `json:"hash"`    // of its line
}

// A PositionError says that the log does not go on from a position: what stood there was removed, cut or replaced.
type PositionError struct {
	Position Position
	Problem  string
	Pruned   bool // by retention, in order
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

// Position is the place behind the line.
func (l Line) Position() Position {
	return Position{Segment: l.segment, Offset: l.end, Seq: l.Seq, Hash: l.Hash().String()}
}

// Record decodes the line. Keys of later versions are passed over.
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

// segment is a file of the log, as it was when it was looked at.
type segment struct {
	name    string
	first   uint64 // seq of its first record, by its name; of the current segment by its first line, 0 if it has none
	current bool
	file    *os.File // of the current segment as long as the snapshot lives, of others while they are read
	size    int64
	links   uint64
	dev     uint64
	ino     uint64
	err     error // why it is no segment, or cannot be read
}

// A snapshot is the log at one moment.
type snapshot struct {
	reader   *Reader
	segments []segment // oldest first
}

func (s *snapshot) close() {
	for _, seg := range s.segments {
		if seg.file != nil {
			seg.file.Close()
		}
	}
}

// look finds the segments from the one that begins with the record from. Writers close and remove segments meanwhile, and are not kept from it:
// the current segment is opened first, and what was closed after it is left out. That one's size comes last of all: a removal that was seen has
// been recorded before it was done.
func (r *Reader) look(from uint64) (*snapshot, error) {
	for tries := 1; ; tries++ {
		current, err := r.open(currentName)
		if errors.Is(err, unix.ENOENT) && tries < 10 { // the moment between closing a segment and making the next, or there is none
			time.Sleep(lookPause)
			continue
		}
		present := err == nil
		if err != nil {
			current = segment{name: currentName, current: true, err: err}
		}
		s := &snapshot{reader: r}
		entries, err := os.ReadDir(r.path)
		if err != nil {
			current.release()
			return nil, &StepError{"list", r.path, err}
		}
		removed := false
		for _, e := range entries { // sorted by name
			if first := segmentFirst(e.Name()); first >= from && isSegment(e.Name()) {
				seg := r.stat(e.Name(), first)
				if errors.Is(seg.err, unix.ENOENT) {
					removed = true
					continue
				}
				s.segments = append(s.segments, seg)
			}
		}
		if removed && tries < 100 {
			current.release()
			continue
		}
		if present {
			var st unix.Stat_t
			if err := unix.Fstat(int(current.file.Fd()), &st); err != nil {
				current.release()
				return nil, &StepError{"look at", current.file.Name(), err}
			}
			current.size, current.links = st.Size, uint64(st.Nlink)
			current.first = firstSeq(current)
			s.segments = slices.DeleteFunc(s.segments, func(seg segment) bool {
				return current.first > 0 && seg.first >= current.first // itself, by its later name, and what came after it
			})
		}
		if present || !errors.Is(current.err, unix.ENOENT) {
			s.segments = append(s.segments, current)
		}
		return s, nil
	}
}

// stat looks at a closed segment without opening it.
func (r *Reader) stat(name string, first uint64) segment {
	seg := segment{name: name, first: first}
	var st unix.Stat_t
	err := unix.Fstatat(r.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		err = fmt.Errorf("symbolic link (%w)", unix.ELOOP)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("not a regular file")
	}
	if err != nil {
		seg.err = r.failed("open", name, err)
	}
	seg.size, seg.links, seg.dev, seg.ino = st.Size, uint64(st.Nlink), st.Dev, st.Ino
	return seg
}

// load opens a segment to read it, if it is still what was looked at. The caller releases it.
func (s *snapshot) load(seg *segment) error {
	if seg.err != nil || seg.file != nil {
		return seg.err
	}
	opened, err := s.reader.open(seg.name)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(opened.file.Fd()), &st)
	if err == nil && (st.Dev != seg.dev || st.Ino != seg.ino) {
		err = errors.New("replaced by another file while the log was read")
	}
	if err != nil {
		opened.release()
		return s.reader.failed("open", seg.name, err)
	}
	seg.file = opened.file
	return nil
}

// release closes what load has opened.
func (seg *segment) release() {
	if seg.file != nil {
		seg.file.Close()
		seg.file = nil
	}
}

// hostFailure tells that an error is of the host or of permissions, and says nothing about the log.
func hostFailure(err error) bool {
	for _, e := range []unix.Errno{unix.EACCES, unix.EPERM, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EINTR, unix.EAGAIN, unix.ESTALE, unix.ETIMEDOUT, unix.ENOTCONN, unix.EREMOTEIO,
		unix.EBADMSG, unix.EUCLEAN, unix.ENODEV, unix.ENXIO, unix.ENOBUFS, unix.EOVERFLOW} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// open opens a segment, if it is a file of its own.
func (r *Reader) open(name string) (segment, error) {
	fd, err := unix.Openat(r.dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ELOOP {
		err = fmt.Errorf("symbolic link (%w)", err)
	}
	if err != nil {
		return segment{}, r.failed("open", name, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err != nil {
		unix.Close(fd)
		return segment{}, r.failed("open", name, err)
	}
	return segment{name: name, current: name == currentName, file: os.NewFile(uintptr(fd), filepath.Join(r.path, name))}, nil
}

// Oldest is the seq of the first record of the log's oldest segment, which may be one that cannot be read; 0 if there is none.
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

// segmentFirst is the seq in the name of a closed segment.
func segmentFirst(name string) uint64 {
	if !isSegment(name) {
		return 0
	}
	seq, _ := strconv.ParseUint(name[len("audit-"):len("audit-")+12], 10, 64)
	return seq
}

// firstSeq is the seq of the first record of a segment.
func firstSeq(s segment) uint64 {
	text := make([]byte, min(s.size, lineStart))
	if _, err := s.file.ReadAt(text, 0); err != nil {
		return 0
	}
	seq, _, _ := firstKeys(text)
	return seq
}

// A block is whole lines of a segment. The last one of a segment has what follows its last newline as well.
type block struct {
	offset int64
	text   []byte // empty or up to and with a newline
	rest   []byte
	last   bool
	err    error // of reading; then it is the last

	buffer []byte // that the text lies in
}

// blocks cuts a segment from offset on into blocks. Their text is theirs; buffer makes one with room for at least so many bytes.
func blocks(s segment, offset int64, buffer func(int) []byte) iter.Seq[block] {
	return func(yield func(block) bool) {
		var carry []byte // the start of a line whose end was not read yet
		for want := blockSize; ; {
			have := len(carry)
			left := s.size - offset - int64(have)
			size := have + int(min(left, int64(want)))
			text := append(buffer(size)[:0], carry...)[:size]
			b := block{offset: offset, last: left <= int64(want)}
			n, err := s.file.ReadAt(text[have:], offset+int64(have))
			switch {
			case n == len(text)-have:
			case err == io.EOF && s.current: // its torn end was cut
				text, b.last = text[:have+n], true
			case err == io.EOF:
				err = errors.New("became shorter while it was read")
				fallthrough
			default:
				yield(block{offset: offset, last: true, err: err})
				return
			}
			end := bytes.LastIndexByte(text[have:], '\n') + 1
			if end > 0 {
				end += have
			}
			carry = append(carry[:0], text[end:]...) // the text may be somebody else's after the yield
			b.text, b.buffer = text[:end], text
			switch {
			case len(carry) >= blockMost:
				b.err, b.last = fmt.Errorf("no newline in %d bytes", len(carry)), true
			case b.last:
				b.rest = carry
			case end == 0:
				want *= 2
				continue
			}
			if !yield(b) || b.last {
				return
			}
			offset += int64(end)
			want = blockSize
		}
	}
}

// Records are the records behind from, oldest first, and lines that are none, each with a [*LineError]. What stands behind the last record is no
// line: it is being written, or torn, and the next writer cuts it. A segment that is none, or cannot be opened, is an error in its place. After it
// the iteration can go on with the next one; after any other error it ends.
func (r *Reader) Records(from Position) iter.Seq2[Line, error] {
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
				if !seg.current { // that is the snapshot's
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

// lines yields the lines of a segment from offset on. It returns false when it is to end.
func lines(seg segment, offset int64, yield func(Line, error) bool) bool {
	type bad struct {
		line Line
		err  error
	}
	var held []bad // lines that are no records, until one comes that is
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

// find makes the snapshot begin at a position, and returns the offset in its first segment.
func (s *snapshot) find(at Position) (int64, error) {
	if at.Offset <= 0 || at.Seq == 0 {
		return 0, &PositionError{Position: at, Problem: "it is no place behind a record"}
	}
	for i, seg := range s.segments {
		if seg.first != at.Segment {
			continue
		}
		if at.Offset > seg.size && seg.err == nil {
			return 0, &PositionError{Position: at, Problem: fmt.Sprintf("%s has only %d of %d bytes", seg.name, seg.size, at.Offset)}
		}
		if err := s.load(&seg); errors.Is(err, unix.ENOENT) {
			return 0, &PositionError{Position: at, Pruned: true, Problem: seg.name + " was removed while the log was read"}
		} else if err != nil {
			return 0, err
		}
		if !seg.current {
			defer seg.release()
		}
		window := make([]byte, min(at.Offset, tailMax))
		for want := int64(2 * maxLine); ; want *= 4 {
			window = window[:min(at.Offset, want, tailMax)]
			if _, err := seg.file.ReadAt(window, at.Offset-int64(len(window))); err != nil {
				return 0, &StepError{"read", seg.file.Name(), err}
			}
			text, ended := bytes.CutSuffix(window, []byte("\n"))
			start := bytes.LastIndexByte(text, '\n') + 1
			if start == 0 && int64(len(window)) < min(at.Offset, tailMax) {
				continue // the line is longer
			}
			if !ended || Hash(sha256.Sum256(text[start:])).String() != at.Hash {
				return 0, &PositionError{Position: at, Problem: "another record stands there"}
			}
			s.segments = s.segments[i:]
			return at.Offset, nil
		}
	}
	if len(s.segments) == 0 {
		return 0, &PositionError{Position: at, Problem: "its segment is not there any more, nor any later one"}
	}
	oldest := s.segments[0]
	if err := s.load(&oldest); err != nil {
		return 0, err
	}
	if !oldest.current {
		defer oldest.release()
	}
	for b := range blocks(oldest, 0, func(n int) []byte { return make([]byte, n) }) {
		for text := range bytes.Lines(b.text) {
			f, err := read(text[:len(text)-1])
			switch {
			case err != nil:
			case string(f.prev) == at.Hash && f.seq == at.Seq+1:
				return 0, nil // all that was removed had been read
			case f.seq > at.Seq:
				return 0, &PositionError{Position: at, Pruned: true,
					Problem: fmt.Sprintf("its segment is not there any more, and the log begins with record %d", f.seq)}
			}
			break
		}
		break
	}
	return 0, &PositionError{Position: at, Problem: "its segment is not there any more"}
}

// Backward is like [Reader.Records], but from the newest record to the oldest.
func (r *Reader) Backward() iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		s, err := r.look(0)
		if err != nil {
			yield(Line{}, err)
			return
		}
		defer s.close()
		s.backward(yield)
	}
}

func (s *snapshot) backward(yield func(Line, error) bool) {
	for _, seg := range slices.Backward(s.segments) {
		err := s.load(&seg)
		if errors.Is(err, unix.ENOENT) { // retention was there meanwhile, and removes the oldest first
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
	found := !seg.current // a record: what is behind the last one is torn
	ended := false        // the last newline was passed
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

// Follow is like [Reader.Records], and goes on with every record that is written, until the context ends. It looks five times a second.
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
