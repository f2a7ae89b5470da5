package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// A verifier goes through the log in its order, block by block, and makes the findings.
type verifier struct {
	Check
	reader   *Reader
	snapshot *snapshot
	report   *Report
	total    int64 // bytes of the log

	locked      bool // no record was being written while the snapshot was taken
	known       head // the newest record, as its writer noted it in .lock
	isKnown     bool
	base        *Retention // the removal after which the log begins; nil: none
	baseUnknown bool       // the record of the removal may stand where this user cannot read
	baseTree    *Range
	leaf        leafHasher
	witnesses   []Witness // by seq, with the note in .lock; one without a Source was compared

	seg      segment // the one that is being read
	begun    int     // segments of the snapshot, up to that one
	line     int     // lines of it that were read
	last     head    // the newest record
	lastText []byte  // its line
	lastAt   time.Time
	place    Position // after it
	gap      bool     // something between it and what comes next could not be read
	removed  string   // a segment that was removed while the log was read: the whole look has to be repeated
	held     []heldLine
	kept     holdFile // of holds, as it was when the snapshot was taken
	open     map[string]opened
}

// An opened run has a start, and its end was not seen yet.
type opened struct {
	seq     uint64
	segment string
	line    int
}

// A heldLine is not a record. What follows it shows whether it is torn or was put between two records.
type heldLine struct {
	line, bytes int
	hash        string
	err         error
}

// unread notes that what stands here, up to the next readable record, is unknown.
func (v *verifier) unread() {
	v.gap = true
	v.report.Unread = append(v.report.Unread, v.seg.name)
	clear(v.open) // their ends may stand there
}

// partial reports whether the log has records that cannot be seen. Then an end may be without its
// start.
func (v *verifier) partial() bool { return v.base != nil || len(v.report.Unread) > 0 }

// block takes the next block of the log.
func (v *verifier) block(j *job) {
	if j.unopened {
		v.unopened(j)
		return
	}
	if j.segment == v.begun {
		v.beginSegment(v.snapshot.segments[j.segment])
	}
	if j.digest == nil || !v.absorb(j) {
		at := j.offset
		for text := range bytes.Lines(j.text) {
			at += int64(len(text))
			v.line++
			v.record(text[:len(text)-1], at)
		}
	}
	v.report.Bytes += int64(len(j.text) + len(j.rest))
	if j.last {
		v.endSegment(j)
	}
}

// unopened takes a segment that could not be opened, or is not one.
func (v *verifier) unopened(j *job) {
	v.begun++
	v.seg, v.line = segment{}, 0
	name := v.snapshot.segments[j.segment].name
	switch {
	case errors.Is(j.err, unix.ENOENT):
		v.removed = name
	case hostFailure(j.err):
		v.add(Unreadable, NotReadable, 0, "%v", j.err)
		v.seg.name = name
		v.unread()
	default:
		v.add(Broken, SegmentFile, 0, "%v", j.err)
	}
}

func (v *verifier) beginSegment(seg segment) {
	v.begun++
	v.seg, v.line = seg, 0
	v.report.Segments = append(v.report.Segments, Segment{Name: seg.name, Bytes: seg.size})
	if seg.links > 1 {
		v.add(Warning, SegmentFile, 0, "%s has %d links, not one: writers refuse such a file", seg.name, seg.links)
	}
}

func (v *verifier) current() *Segment { return &v.report.Segments[len(v.report.Segments)-1] }

// absorb takes a block as a whole if it goes on from what came before it. The outcome is what
// record would have, line by line.
func (v *verifier) absorb(j *job) bool {
	d := j.digest
	if !v.goesOn(d) {
		return false
	}
	lines := v.line
	for _, m := range d.marks {
		v.line = lines + m.line + 1
		v.mark(m.id, m.seq, m.start)
	}
	v.absorbWitnesses(j, lines)
	v.line = lines + len(d.hashes)
	v.report.Orphaned += d.orphaned
	for i, leaf := range d.leaves {
		v.addLeaf(d.seq+uint64(i), leaf)
	}
	n := uint64(len(d.hashes))
	hash := d.hashes[n-1].String()
	seg := v.current()
	if seg.Records == 0 {
		seg.First = Link{d.seq, d.hashes[0].String()}
	}
	if d.newest.After(seg.Newest) {
		seg.Newest = d.newest
	}
	v.report.Records += n
	seg.Records += n
	v.advance(Link{d.seq + n - 1, hash}, lastLine(j.text), j.offset+int64(len(j.text)))
	v.lastAt = d.last
	return true
}

// goesOn reports whether a block without a fault in it has none at its beginning either, and none
// in the runs that it shares with the blocks before it.
func (v *verifier) goesOn(d *digest) bool {
	joined := d.seq == v.last.seq+1 && d.prev.String() == v.last.hash && !d.first.Before(v.lastAt.Add(-clockSlack))
	named := v.line > 0 || v.seg.current || v.seg.first == d.seq
	removed := v.base != nil && d.seq <= v.base.LastSeq+1
	if len(v.held) > 0 || v.gap || v.last.seq == 0 || !joined || !named || removed {
		return false
	}
	for _, m := range d.marks {
		if _, begun := v.open[m.id]; m.start == begun && (m.start || !v.partial()) {
			return false
		}
	}
	return true
}

// absorbWitnesses compares the records of a block with what witnesses say of them; lines came
// before it in its segment.
func (v *verifier) absorbWitnesses(j *job, lines int) {
	d := j.digest
	for at := v.firstWitness(d.seq); at < len(v.witnesses) && v.witnesses[at].Seq < d.seq+uint64(len(d.hashes)); at++ {
		w := v.witnesses[at]
		i := int(w.Seq - d.seq)
		start := 0
		if i > 0 {
			start = d.ends[i-1]
		}
		id := ""
		if w.RunID != "" {
			f, _ := scan(j.text[start : d.ends[i]-1])
			id = string(f.runID)
		}
		v.line = lines + i + 1
		v.compare(at, d.hashes[i].String(), id)
	}
}

func lastLine(text []byte) []byte {
	text = bytes.TrimSuffix(text, []byte("\n"))
	return text[bytes.LastIndexByte(text, '\n')+1:]
}

// record takes one line, which ends at end with its newline.
func (v *verifier) record(line []byte, end int64) {
	f, err := read(line)
	if err != nil {
		v.held = append(v.held, heldLine{v.line, len(line) + 1, hexSHA256(line), err})
		return
	}
	held := uint64(len(v.held))
	v.release()
	for _, fault := range f.faults(line) {
		v.add(Broken, LineForm, f.seq, "record %d: %s", f.seq, fault)
	}
	sum := Hash(sha256.Sum256(line))
	hash := sum.String()
	seg := v.current()
	if seg.Records == 0 {
		seg.First = Link{f.seq, hash}
		if !v.seg.current && v.seg.first != f.seq {
			v.add(Broken, SegmentName, f.seq, "%s begins with record %d", v.seg.name, f.seq)
		}
	}
	rec := aboutLog(&f, line)
	gap := v.gap
	if v.gap = false; !gap || f.seq <= v.last.seq {
		v.join(&f, line, rec.Repair, held)
	}
	v.content(&f, line, rec, gap)
	v.clock(&f)
	if f.at.After(seg.Newest) {
		seg.Newest = f.at
	}
	for i := v.firstWitness(f.seq); i < len(v.witnesses) && v.witnesses[i].Seq == f.seq; i++ {
		v.compare(i, hash, string(f.runID))
	}
	if v.report.Records == 0 {
		v.report.First, v.report.FirstTime = Link{f.seq, hash}, f.at
		if v.Tree && v.report.Origin == "" {
			v.report.Origin = originOf(line, sum)
		}
	}
	if v.Tree && (v.baseTree == nil || f.seq > v.base.LastSeq) {
		v.addLeaf(f.seq, v.leaf.hash(line))
	}
	v.report.Records++
	seg.Records++
	v.advance(Link{f.seq, hash}, line, end)
}

// advance makes a record the newest one. line is its text, which ends at end with its newline.
func (v *verifier) advance(newest Link, line []byte, end int64) {
	v.current().Last = newest
	v.last = head{seq: newest.Seq, hash: newest.Hash}
	v.lastText = append(v.lastText[:0], line...)
	v.place = Position{Segment: v.seg.first, Offset: end, Seq: newest.Seq, Hash: newest.Hash}
}

// content judges what a record says. gap: what stood before it could not be read.
func (v *verifier) content(f *facts, line []byte, rec Record, gap bool) {
	if Action(f.action) == AuditRepair || f.repairs() {
		v.repair(f, line, rec, gap)
	}
	switch Action(f.action) {
	case AuditAcknowledged:
		v.acknowledged(f, rec)
	case AuditRetention:
		v.retention(f, rec.Retention)
	case AuditHold, AuditHoldRelease:
		v.hold(f, rec)
	case ExecutionStart:
		v.mark(string(f.runID), f.seq, true)
	case ExecutionOrphaned:
		v.report.Orphaned++
		v.mark(string(f.runID), f.seq, false)
	case ExecutionEnd:
		v.mark(string(f.runID), f.seq, false)
	}
}

// clock compares the time of a record with the record before it.
func (v *verifier) clock(f *facts) {
	if f.jumpMS != 0 {
		v.add(Note, ClockJump, f.seq, "record %d: the clock has jumped by %v since the record before", f.seq, time.Duration(f.jumpMS)*time.Millisecond)
	}
	if f.at.IsZero() {
		return
	}
	if back := v.lastAt.Sub(f.at); back > clockSlack {
		v.add(Warning, ClockBack, f.seq, "record %d is %v older than the record before: the clock was set back", f.seq, back.Round(time.Millisecond))
	}
	v.lastAt = f.at
}
