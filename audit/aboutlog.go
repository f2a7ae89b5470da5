package audit

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Some records say something about the log itself. The walk does not believe them: it compares each
// with what stands before it.

// aboutLog decodes a record that says something about the log itself. From other records only the
// facts are needed.
func aboutLog(f *facts, line []byte) (rec Record) {
	switch Action(f.action) {
	case AuditRepair, AuditRetention, AuditAcknowledged, AuditHold, AuditHoldRelease:
	default:
		if !f.repairs() {
			return Record{}
		}
	}
	if json.Unmarshal(line, &rec) != nil {
		return Record{}
	}
	return rec
}

// repair judges what a writer said about the log that it found. The fields of the record tell which
// case it is:
//
//	Found               the note in .lock was missing or too old
//	Kept                a torn end was cut and kept in a file
//	Expected and Found  the log was removed, cut or replaced
func (v *verifier) repair(f *facts, line []byte, rec Record, gap bool) {
	switch r := rec.Repair; {
	case r == nil:
		v.add(Broken, LineForm, f.seq, "record %d: an audit-repair that does not tell what was repaired", f.seq)
	case r.Found != nil && r.Expected == nil:
		v.forgotten(f, r, gap)
	case r.Found == nil || r.Expected == nil:
		v.tornEnd(f, r)
	default:
		v.gone(f, line, rec, gap)
	}
}

// forgotten judges a record that says that the note of the newest record was missing when it was
// written.
func (v *verifier) forgotten(f *facts, r *Repair, gap bool) {
	if at := r.Found; !gap && v.last.seq > 0 && (at.Seq > v.last.seq || at.Seq == v.last.seq && at.Hash != v.last.hash) {
		v.add(Broken, LogRepaired, f.seq, "record %d: record %d that its writer found before it is not there", f.seq, at.Seq)
		return
	}
	v.addFinding(Finding{Severity: Warning, Kind: MemoryMissing, Seq: f.seq, Explained: true},
		"record %d: when it was written, what the writers note of the newest record, in %s, was gone or not of this log: whether records were cut behind record %d the log alone cannot tell", f.seq, lockName, r.Found.Seq)
}

// tornEnd judges a record that says that torn bytes were cut before it: they have to be kept as
// they were.
func (v *verifier) tornEnd(f *facts, cut *Repair) {
	kept, err := v.reader.kept(cut.Kept)
	switch {
	case hostFailure(err):
		v.add(Unreadable, NotReadable, f.seq, "record %d: %d torn bytes were cut before it, and cannot be read: %v", f.seq, cut.Bytes, err)
	case err != nil:
		v.add(Broken, TornEnd, f.seq, "record %d: %d torn bytes were cut before it, and are not kept: %v", f.seq, cut.Bytes, err)
	case int64(len(kept)) != cut.Bytes || hexSHA256(kept) != cut.SHA256:
		v.add(Broken, TornEnd, f.seq, "record %d: %d torn bytes were cut before it, and %s holds others", f.seq, cut.Bytes, cut.Kept)
	default:
		v.addFinding(Finding{Severity: Warning, Kind: TornEnd, Seq: f.seq, Explained: true}, "record %d: %d torn bytes were cut before it, and are kept in %s", f.seq, cut.Bytes, cut.Kept)
	}
}

// gone judges a record that says that the log was removed, cut or replaced before it.
func (v *verifier) gone(f *facts, line []byte, rec Record, gap bool) {
	what := map[string]string{"log-lost": "removed", "log-cut": "cut", "log-replaced": "replaced"}[rec.Event.Reason]
	if what == "" {
		what = "not what it should be"
	}
	expected, found := *rec.Repair.Expected, *rec.Repair.Found
	if expected.Seq+1 != f.seq || expected.Hash != string(f.prev) {
		v.add(Broken, LogRepaired, f.seq, "record %d contradicts itself: it is joined to another record than the one it expected", f.seq)
		return
	}
	if v.last.seq == expected.Seq && v.last.hash == expected.Hash {
		v.addFinding(Finding{Severity: Warning, Kind: LogRepaired, Seq: f.seq, Explained: true}, "record %d: the log was %s; all its records are there again", f.seq, what)
		return
	}
	if gap {
		return // what it found stands where this user could not read
	}
	if v.last.seq == 0 && v.base != nil && v.base.LastSeq == expected.Seq && v.base.LastHash == expected.Hash {
		v.report.Pruned = v.base
		return
	}
	gone := seqs(found.Seq+1, expected.Seq) + " gone"
	if found.Seq >= expected.Seq {
		gone = fmt.Sprintf("record %d is another one", expected.Seq)
	}
	fine := v.last.seq == found.Seq && v.last.hash == found.Hash
	if v.last.seq == 0 {
		fine = true
		v.joinFirst(found.Seq+1, found.Hash, line)
	} else if !fine {
		gone += fmt.Sprintf(", and record %d that it found instead is not there either", found.Seq)
	}
	v.addFinding(Finding{Severity: Broken, Kind: LogRepaired, Seq: f.seq, Explained: fine}, "record %d: the log was %s before it: %s", f.seq, what, gone)
}

// kept reads torn bytes that were cut.
func (r *Reader) kept(name string) ([]byte, error) {
	if !strings.HasPrefix(name, "torn-") || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q is no name for them", name)
	}
	fd, err := unix.Openat(r.dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > tailMax {
		return nil, fmt.Errorf("%s: not a file of torn bytes", name)
	}
	text := make([]byte, info.Size())
	_, err = file.ReadAt(text, 0)
	return text, err
}

// retention judges whether a record about removed segments is consistent in itself.
func (v *verifier) retention(f *facts, r *Retention) {
	if r == nil {
		v.add(Broken, LineForm, f.seq, "record %d: an audit-retention that does not tell what was removed", f.seq)
		return
	}
	if r.LastSeq >= f.seq || r.FirstSeq > r.LastSeq {
		v.add(Broken, RetentionForm, f.seq, "record %d: the records %d to %d cannot have been removed", f.seq, r.FirstSeq, r.LastSeq)
		return
	}
	if _, err := r.Tree.restore(); err != nil {
		v.add(Broken, RetentionForm, f.seq, "record %d: its tree: %v", f.seq, err)
	}
}

// acknowledged takes a record that says that somebody has looked into a finding. It was written
// after what it is about, so the finding is already there, unless only the end of the log shows it.
func (v *verifier) acknowledged(f *facts, rec Record) {
	a := rec.Acknowledgement()
	if a == nil {
		v.add(Broken, LineForm, f.seq, "record %d: an audit-acknowledged that does not tell what", f.seq)
		return
	}
	if rec.Ack.ID == "" {
		return
	}
	if v.report.acknowledged == nil {
		v.report.acknowledged = map[string]*Acknowledgement{}
	}
	v.report.acknowledged[rec.Ack.ID] = a
	for i := range v.report.Findings {
		if v.report.Findings[i].ID == rec.Ack.ID {
			v.report.Findings[i].Acknowledged = a
		}
	}
}
