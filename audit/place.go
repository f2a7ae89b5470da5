package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// A Place is where the line of a record begins. The zero Place is none.
type Place struct {
	Segment uint64 `json:"segment"` // seq of the first record in the same segment; it stays the same when the segment is closed
	Offset  int64  `json:"offset"`  // bytes of the segment before the line
	Seq     uint64 `json:"seq"`     // of the record
}

// Place is where the line begins.
func (l Line) Place() Place { return Place{l.segment, l.end - int64(len(l.Text)) - 1, l.Seq} }

// A PlaceError says that a place does not hold the record that it names: it was removed, cut or
// replaced.
type PlaceError struct {
	Place   Place
	Problem string
	Pruned  bool // retention removed it, as it should
}

func (e *PlaceError) Error() string { return fmt.Sprintf("read record %d: %s", e.Place.Seq, e.Problem) }

// At reads the line of one record, without what stands before it.
func (r *Reader) At(p Place) (Line, error) {
	if p.Seq == 0 || p.Offset < 0 {
		return Line{}, &PlaceError{Place: p, Problem: "it is no place of a record"}
	}
	seg, err := r.holder(p)
	if err != nil {
		return Line{}, err
	}
	defer seg.release()
	text, err := seg.lineAt(p.Offset)
	if err != nil {
		return Line{}, err
	}
	if text == nil {
		return Line{}, &PlaceError{Place: p, Problem: fmt.Sprintf("no line of %s begins at byte %d", seg.name, p.Offset)}
	}
	line, err := lineOf(seg, p.Offset, text)
	if err != nil || line.Seq != p.Seq {
		return Line{}, &PlaceError{Place: p, Problem: fmt.Sprintf("another line stands at byte %d of %s", p.Offset, seg.name)}
	}
	return line, nil
}

// holder opens the segment of a place. Its writer may close it meanwhile: then it has another name.
func (r *Reader) holder(p Place) (segment, error) {
	for range 3 {
		seg, err := r.open(segmentName(p.Segment))
		if errors.Is(err, unix.ENOENT) || p.Segment == 0 {
			seg, err = r.open(currentName)
		}
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return seg, err
		}
		info, err := seg.file.Stat()
		if err != nil {
			seg.release()
			return seg, r.failed("look at", seg.name, err)
		}
		seg.size, seg.first = info.Size(), p.Segment
		if !seg.current || firstSeq(seg) == p.Segment {
			return seg, nil
		}
		seg.release()
	}
	oldest, err := r.Oldest()
	if err == nil && oldest > p.Seq {
		return segment{}, &PlaceError{Place: p, Pruned: true, Problem: fmt.Sprintf("its segment is not there any more, and the log begins with record %d", oldest)}
	}
	return segment{}, &PlaceError{Place: p, Problem: "its segment is not there"}
}

// lineAt is the line that begins there, with its newline; nil: none does.
func (seg segment) lineAt(offset int64) ([]byte, error) {
	before := min(offset, 1) // the newline of the line before
	for want := int64(maxLine); ; want *= 4 {
		text := make([]byte, before+min(want, max(seg.size-offset, 0)))
		if _, err := seg.file.ReadAt(text, offset-before); err != nil && err != io.EOF {
			return nil, &StepError{"read", seg.file.Name(), err}
		}
		if before > 0 && text[0] != '\n' {
			return nil, nil
		}
		text = text[before:]
		if end := bytes.IndexByte(text, '\n'); end >= 0 {
			return text[: end+1 : end+1], nil
		}
		if want > blockMost || int64(len(text)) < want {
			return nil, nil
		}
	}
}
