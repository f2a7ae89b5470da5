package audit

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// release adds findings for lines that are not records and stand before one.
func (v *verifier) release() {
	line := v.line
	for _, h := range v.held {
		v.line = h.line
		f := Finding{Severity: Broken, Kind: LineForm}
		f.identify(fmt.Sprint("behind ", v.last.seq), h.hash)
		v.addFinding(f, "not a record: %v", h.err)
	}
	v.held, v.line = nil, line
}

// endSegment judges what stands after the last record of a segment.
func (v *verifier) endSegment(j *job) {
	seg := v.current()
	if v.Tree {
		seg.Tree = v.report.Tree.clone()
	}
	if j.err != nil {
		v.add(Unreadable, NotReadable, 0, "read %s: %v", v.seg.name, j.err)
		v.held = nil
		v.unread()
		return
	}
	torn := len(j.rest)
	for _, h := range v.held {
		torn += h.bytes
	}
	switch {
	case torn > 0 && v.seg.current:
		if v.settled() {
			v.held = nil
			v.add(Warning, TornEnd, 0, "%d bytes behind the last record are torn: the next writer cuts and keeps them", torn)
		}
	case len(j.rest) > 0:
		v.release()
		v.line++
		v.add(Broken, SegmentEnd, 0, "%s does not end with a whole line", v.seg.name)
	case torn > 0:
		v.release()
	case seg.Records == 0 && !v.seg.current:
		v.add(Broken, SegmentEnd, 0, "%s has no record", v.seg.name)
	}
	v.held = nil
}

// settled reports whether the current segment has stopped growing: else a writer was in the middle
// of a record when it was looked at.
func (v *verifier) settled() bool {
	if v.locked {
		return true
	}
	time.Sleep(2 * followGap)
	var st unix.Stat_t
	return unix.Fstat(int(v.seg.file.Fd()), &st) == nil && st.Size == v.seg.size
}

// end judges what shows only when the whole log was read.
func (v *verifier) end() {
	v.seg, v.line = segment{}, 0
	rep := v.report
	rep.Last, rep.LastTime = Link{v.last.seq, v.last.hash}, v.lastAt
	if len(rep.Unread) > 0 { // no tree of what was not read
		rep.Tree, rep.Ranges, rep.Since, rep.Inclusions, rep.Included = nil, map[uint64]*Range{}, nil, nil, 0
		for i := range rep.Segments {
			rep.Segments[i].Tree = nil
		}
	}
	v.memory()
	v.unnamed()
	v.fragment()
	v.runs()
	v.code()
	v.holds()
}

// memory judges the note of the newest record in .lock, where the walk has not come across that record.
func (v *verifier) memory() {
	rep := v.report
	if !v.isKnown || rep.Count(Unreadable) > 0 { // it may stand where this user could not read
		return
	}
	switch {
	case v.known.seq > v.last.seq && v.last.seq > 0:
		v.add(Broken, MemoryDiffers, v.last.seq+1, "the log ends with record %d, and record %d was written: what came after it was cut", v.last.seq, v.known.seq)
	case v.known.seq > v.last.seq:
		v.add(Broken, MemoryDiffers, 1, "the log has no record, and record %d was written: it was removed", v.known.seq)
	case v.known.seq >= rep.First.Seq:
		v.add(Broken, MemoryDiffers, v.known.seq, "record %d, which its writer noted in %s, is missing", v.known.seq, lockName)
	default:
		v.add(Warning, MemoryDiffers, v.known.seq, "the newest record noted in %s is %d, which is no longer in the log", lockName, v.known.seq)
	}
}

// fragment looks for torn bytes whose writer got no further than to cut and keep them.
func (v *verifier) fragment() {
	if v.last.seq == 0 && v.report.Records > 0 {
		return
	}
	name := fragmentName(v.last.seq+1, 1)
	var st unix.Stat_t
	if unix.Fstatat(v.reader.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		v.add(Warning, TornEnd, 0, "%s keeps torn bytes that were cut: the next writer records it", name)
	}
}
