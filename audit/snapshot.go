package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const lookPause = time.Millisecond

// segment is a file of the log, as it was when it was looked at.
type segment struct {
	name    string
	first   uint64 // seq of its first record, by its name; for the current segment by its first line, 0 if it has none
	current bool
	file    *os.File // the current segment's is open as long as the snapshot lives, the others' while they are read
	size    int64
	links   uint64
	dev     uint64
	ino     uint64
	err     error // why it cannot be read, or is not a segment
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

// look finds the segments, from the one that begins with the record from. Writers may close and
// remove segments meanwhile:
//
//  1. open the current segment
//  2. list the closed ones, and leave out those that were closed after step 1
//  3. take the size of the current one: where step 2 saw that segments were removed, the record of it is inside that size,
//     because it is written before the removal
func (r *Reader) look(from uint64) (*snapshot, error) {
	for tries := 1; ; tries++ {
		current, err := r.open(currentName)
		if errors.Is(err, unix.ENOENT) && tries < 10 { // this is the moment between closing a segment and making the next, or there is none
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
				return current.first > 0 && seg.first >= current.first // the same file by its later name, and what came after it
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

// load opens a segment to read it, if it is still the same file. The caller releases it.
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

// hostFailure reports whether an error comes from the host or from permissions, and so says nothing
// about the log.
func hostFailure(err error) bool {
	for _, e := range []unix.Errno{unix.EACCES, unix.EPERM, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EINTR, unix.EAGAIN, unix.ESTALE, unix.ETIMEDOUT, unix.ENOTCONN, unix.EREMOTEIO,
		unix.EBADMSG, unix.EUCLEAN, unix.ENODEV, unix.ENXIO, unix.ENOBUFS, unix.EOVERFLOW} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// open opens a segment, if it is a regular file.
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

// find makes the snapshot begin with the segment of a position, and returns the position's offset
// in it.
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
		if err := seg.endsWith(at); err != nil {
			return 0, err
		}
		s.segments = s.segments[i:]
		return at.Offset, nil
	}
	return 0, s.later(at)
}

// narrow leaves out closed segments whose first and last record are both before since, or both at until or later. It
// reads the ends of each only. It reports whether the first segment has gone.
func (s *snapshot) narrow(since, until time.Time) (first bool) {
	if since.IsZero() && until.IsZero() || len(s.segments) == 0 {
		return false
	}
	was := s.segments[0].name
	s.segments = slices.DeleteFunc(s.segments, func(seg segment) bool {
		if seg.current || s.load(&seg) != nil { // what cannot be read is told in its place
			return false
		}
		defer seg.release()
		begins, ends := seg.times()
		if begins.IsZero() || ends.IsZero() {
			return false
		}
		return !since.IsZero() && begins.Before(since) && ends.Before(since) || !until.IsZero() && !begins.Before(until) && !ends.Before(until)
	})
	return len(s.segments) == 0 || s.segments[0].name != was
}

// times are those of the first and the last record of a segment; zero: not readable.
func (seg *segment) times() (begins, ends time.Time) {
	text := make([]byte, min(seg.size, lineStart))
	if _, err := seg.file.ReadAt(text, 0); err != nil {
		return begins, ends
	}
	_, begins, _ = firstKeys(text)
	last, _, torn, err := readTail(int(seg.file.Fd()))
	if err != nil || len(torn) > 0 || last.seq == 0 {
		return begins, ends
	}
	return begins, last.at.wall
}

// endsWith checks that the line before the position is the record that the position names.
func (seg *segment) endsWith(at Position) error {
	window := make([]byte, min(at.Offset, tailMax))
	for want := int64(2 * maxLine); ; want *= 4 {
		window = window[:min(at.Offset, want, tailMax)]
		if _, err := seg.file.ReadAt(window, at.Offset-int64(len(window))); err != nil {
			return &StepError{"read", seg.file.Name(), err}
		}
		text, ended := bytes.CutSuffix(window, []byte("\n"))
		start := bytes.LastIndexByte(text, '\n') + 1
		if start == 0 && int64(len(window)) < min(at.Offset, tailMax) {
			continue // the line is longer
		}
		if !ended || Hash(sha256.Sum256(text[start:])).String() != at.Hash {
			return &PositionError{Position: at, Problem: "another record stands there"}
		}
		return nil
	}
}

// later explains why the segment of a position is missing. There is no error where the oldest
// record that is left follows the position: then everything that was removed had been read.
func (s *snapshot) later(at Position) error {
	if len(s.segments) == 0 {
		return &PositionError{Position: at, Problem: "its segment is not there any more, nor any later one"}
	}
	oldest := s.segments[0]
	if err := s.load(&oldest); err != nil {
		return err
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
				return nil // everything that was removed had been read
			case f.seq > at.Seq:
				return &PositionError{Position: at, Pruned: true,
					Problem: fmt.Sprintf("its segment is not there any more, and the log begins with record %d", f.seq)}
			}
			break
		}
		break
	}
	return &PositionError{Position: at, Problem: "its segment is not there any more"}
}
