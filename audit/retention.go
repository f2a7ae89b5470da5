package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

// AuditRetention says that old segments are removed. The record is written before the removal.
const AuditRetention Action = "audit-retention"

// Retention is what an audit-retention record says: which records were removed, and what proves
// that the remaining ones go on from them.
type Retention struct {
	Days     int    `json:"days"`      // how long records are kept
	Segments int    `json:"segments"`  // that were removed
	Records  uint64 `json:"records"`   // in them
	FirstSeq uint64 `json:"first_seq"` // of these records
	LastSeq  uint64 `json:"last_seq"`
	LastHash string `json:"last_hash"`        // the prev of the oldest record that is left
	Newest   string `json:"newest"`           // the newest of their times
	Faults   int    `json:"faults,omitempty"` // what verify found in them; they were removed all the same
	Tree     Tree   `json:"tree"`
	Holds    []Held `json:"holds,omitempty"` // legal holds that kept further segments from removal, the first of them
	HoldsCut int    `json:"holds_dropped,omitempty"`

	// What allowed the removal. Who did it is in the record's user and auth.
	Policy         string `json:"policy,omitempty"`          // where Days comes from, such as "default" or "file /etc/py3run/config.toml"
	AskedDays      *int   `json:"asked_days,omitempty"`      // what it says there, where the floor or a ceiling has changed it
	FloorDays      *int   `json:"floor_days,omitempty"`      // the least that the operator allows; 0: nothing may be removed
	OperatorDays   *int   `json:"operator_days,omitempty"`   // what the operator's own configuration says; 0: for ever
	Forced         bool   `json:"forced,omitempty"`          // with force: more than half of the segments, or segments with faults
	IgnoredCursors bool   `json:"ignored_cursors,omitempty"` // also records that a cursor had not reached
}

// Early reports whether records were removed sooner than the operator's configuration or days
// allows. 0: for ever; nil: not known.
func (r *Retention) Early(days *int) bool {
	for _, limit := range []*int{days, r.OperatorDays, r.FloorDays} {
		if limit != nil && r.Days > 0 && (*limit == 0 || r.Days < *limit) {
			return true
		}
	}
	return false
}

// Held says what a legal hold has kept from removal: every segment from the one with record Seq on.
type Held struct {
	ID       string `json:"id"`
	Seq      uint64 `json:"seq"`      // of the oldest record that the hold keeps
	Segments int    `json:"segments"` // that were old enough to be removed

	Hold OpenHold `json:"-"`
}

// Tree is the head of the Merkle tree over all records from the first on, as RFC 6962 describes it,
// and what it takes to extend it.
type Tree struct {
	Origin string   `json:"origin"` // name of the log
	Size   uint64   `json:"size"`
	Root   string   `json:"root"`
	Range  []string `json:"range"` // roots of the largest complete subtrees, from left to right
}

func treeOf(origin string, r *Range) Tree {
	t := Tree{Origin: origin, Size: r.End, Root: r.Root().String(), Range: []string{}}
	for _, h := range r.hashes {
		t.Range = append(t.Range, h.String())
	}
	return t
}

// restore makes the range of a tree again.
func (t Tree) restore() (*Range, error) {
	r, err := restoreRange(t.Size, t.Range)
	if err == nil && r.Root().String() != t.Root {
		err = errors.New("the range does not have the root")
	}
	return r, err
}

// A Cursor says how far a reader has read the log. Later records are still to be read.
type Cursor struct {
	Name string
	Seq  uint64 // of the newest record that was read; 0: none
}

// A Policy says what retention may remove.
type Policy struct {
	Days    int // how long records are kept; 0: for ever
	Now     time.Time
	Cursors []Cursor // removal waits for these readers
	Force   bool     // also remove more than half of the segments, and segments with faults

	Right Retention // what the record says about what allowed it: Policy and the fields after it
}

// A Plan is what will be removed.
type Plan struct {
	Segments  []Segment // closed segments, from the oldest on, in which all records are too old
	Leftover  []Segment // older ones, whose removal is recorded and was interrupted
	Waits     []string  // why segments that are too old are kept
	Held      []Held    // which of them legal holds keep
	Holds     []string  // ids of all holds in force
	Code      time.Time // kept code that was last run before then can go
	Retention Retention // what the record will say
}

// Empty reports whether there is nothing to remove.
func (p Plan) Empty() bool { return len(p.Segments)+len(p.Leftover) == 0 }

// A GuardError is a refusal to remove segments, because it looks like a mistake.
type GuardError struct {
	Problem string
	Force   bool // Policy.Force allows it
	Holds   bool // the holds have to be repaired before
}

func (e *GuardError) Error() string { return "remove old segments: " + e.Problem }

// heldMost is how many holds a retention record names.
const heldMost = 50

// keep finds what each hold keeps of the oldest segments: the hold's own record, and those that it
// selects, with all that follow. What cannot be read as a record counts as selected. free is how many
// segments no hold keeps; oldest is the oldest time in the others and in the rest of the log.
func (rep *Report) keep(list []Segment) (free int, held []Held, oldest time.Time, err error) {
	free = len(list)
	if len(rep.Holds) == 0 {
		return free, nil, oldest, nil
	}
	r, err := OpenReader(rep.Dir)
	if err != nil {
		return 0, nil, oldest, err
	}
	defer r.Close()
	waiting, at := slices.Clone(rep.Holds), 0 // in the list
	for line, err := range r.Records(Position{}) {
		bad := new(LineError)
		if err != nil && !errors.As(err, &bad) {
			return 0, nil, oldest, err
		}
		name := bad.Segment
		if err == nil {
			name = segmentName(line.segment)
		}
		for at < len(list) && list[at].Name < name {
			at++
		}
		if at < len(list) && len(waiting) > 0 {
			var rec Record
			unknown := err != nil
			if err == nil {
				rec, err = line.Record()
				unknown = err != nil
			}
			waiting = slices.DeleteFunc(waiting, func(h OpenHold) bool {
				selected := unknown || h.Seq > 0 && line.Seq >= h.Seq || h.Matches(rec, line.Time)
				if selected {
					held = append(held, Held{ID: h.ID, Seq: line.Seq, Segments: len(list) - at, Hold: h})
					free = min(free, at)
				}
				return selected
			})
		}
		if at >= free && !line.Time.IsZero() && (oldest.IsZero() || line.Time.Before(oldest)) {
			oldest = line.Time
		}
	}
	return free, held, oldest, nil
}

// Plan decides what to remove from a log that was verified with its tree: whole closed segments,
// from the oldest on, in which all records are too old by their own times, in UTC. The error is a
// [*GuardError].
func (rep *Report) Plan(p Policy) (Plan, error) {
	var plan Plan
	closed := rep.Segments
	if n := len(closed); n > 0 && closed[n-1].Name == currentName {
		closed = closed[:n-1]
	}
	for rep.Pruned != nil && len(closed) > 0 && closed[0].Records > 0 && closed[0].Last.Seq <= rep.Pruned.LastSeq {
		plan.Leftover, closed = append(plan.Leftover, closed[0]), closed[1:]
	}
	if p.Days <= 0 {
		return plan, nil
	}
	if len(rep.Unread) > 0 {
		return Plan{}, &GuardError{Problem: fmt.Sprintf("%s cannot be read as a whole: see verify", strings.Join(rep.Unread, ", "))}
	}
	if rep.HoldsFault != "" {
		return Plan{}, &GuardError{Problem: "what legal holds are in force is not clear: " + rep.HoldsFault, Holds: true}
	}
	limit := p.Now.UTC().AddDate(0, 0, -p.Days)
	var newest time.Time
	for _, s := range rep.Segments {
		if s.Newest.After(newest) {
			newest = s.Newest
		}
	}
	old := closed
	for i, s := range closed {
		if s.Records == 0 || !s.Newest.Before(limit) {
			old = closed[:i]
			break
		}
	}
	if len(old) > 0 && newest.Before(limit) {
		return plan, &GuardError{Problem: fmt.Sprintf("all records are older than %d days, the newest is of %s: the clock may be wrong", p.Days, newest.Format(time.DateOnly))}
	}
	for _, c := range p.Cursors {
		for i, s := range old {
			if c.Seq < s.Last.Seq {
				plan.Waits = append(plan.Waits, fmt.Sprintf("%s has only read up to record %d: %d segments from %s on are kept", c.Name, c.Seq, len(old)-i, s.Name))
				old = old[:i]
				break
			}
		}
	}
	old, err := rep.planHolds(&plan, old, limit)
	if err != nil || len(old) == 0 {
		return plan, err
	}
	if left := len(rep.Segments) - len(plan.Leftover); 2*len(old) > left && !p.Force {
		return plan, &GuardError{Problem: fmt.Sprintf("%d of %d segments are older than %d days, more than half", len(old), left, p.Days), Force: true}
	}
	joint := ""
	if next := len(plan.Leftover) + len(old); next < len(rep.Segments) {
		joint = rep.Segments[next].Name
	}
	faults, unexplained := rep.faults(old, joint)
	if (unexplained > 0 || rep.Omitted[Broken] > 0) && !p.Force {
		return plan, &GuardError{Problem: fmt.Sprintf("what is to be removed has %d faults that nothing explains: see verify", unexplained), Force: true}
	}
	first, last := old[0], old[len(old)-1]
	plan.Segments = old
	plan.Retention = Retention{
		Days: p.Days, Segments: len(old), FirstSeq: first.First.Seq, LastSeq: last.Last.Seq, LastHash: last.Last.Hash, Faults: faults,
		Tree: treeOf(rep.Origin, last.Tree), Policy: p.Right.Policy, AskedDays: p.Right.AskedDays, FloorDays: p.Right.FloorDays, OperatorDays: p.Right.OperatorDays,
		Forced: p.Force, IgnoredCursors: p.Right.IgnoredCursors,
		Holds: plan.Held[:min(len(plan.Held), heldMost)], HoldsCut: max(0, len(plan.Held)-heldMost),
	}
	var removed time.Time
	for _, s := range old {
		plan.Retention.Records += s.Records
		if s.Newest.After(removed) {
			removed = s.Newest
		}
	}
	plan.Retention.Newest = removed.UTC().Format(timeLayout)
	return plan, nil
}

// planHolds leaves what holds keep out of a plan and of the segments that are old enough.
func (rep *Report) planHolds(plan *Plan, old []Segment, limit time.Time) ([]Segment, error) {
	free, held, oldest, err := rep.keep(slices.Concat(plan.Leftover, old))
	if err != nil {
		return nil, err
	}
	for _, h := range rep.Holds {
		plan.Holds = append(plan.Holds, h.ID)
	}
	// The code of a record was kept a moment before the record was written, by another clock perhaps.
	if plan.Code, plan.Held = limit, held; !oldest.IsZero() && oldest.AddDate(0, 0, -1).Before(limit) {
		plan.Code = oldest.AddDate(0, 0, -1)
	}
	n := min(free, len(plan.Leftover))
	plan.Leftover = plan.Leftover[:n]
	return old[:free-n], nil
}

// faults counts what is broken in segments, and at the first line of the segment after them.
func (rep *Report) faults(old []Segment, joint string) (all, unexplained int) {
	in := map[string]bool{}
	for _, s := range old {
		in[s.Name] = true
	}
	for _, f := range rep.Findings {
		if f.Severity < Broken || !in[f.Segment] && (f.Segment != joint || f.Line != 1) {
			continue
		}
		all++
		if !f.Explained {
			unexplained++
		}
	}
	return all, unexplained
}

// Prune removes what was planned, and returns the receipt of the record about it. r says who did
// it. The record is on the disk before the first segment is removed, and no other record is written
// meanwhile. The next Prune finishes one that was interrupted.
func (l *Log) Prune(r Record, plan Plan) (Receipt, error) {
	lock, err := l.lock()
	if err != nil {
		return Receipt{}, err
	}
	defer filelock.Release(lock)
	if err := l.sameHolds(plan.Holds); err != nil {
		return Receipt{}, err
	}
	all := append(append([]Segment(nil), plan.Leftover...), plan.Segments...)
	for _, s := range all {
		var st unix.Stat_t
		err := unix.Fstatat(l.dir, s.Name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && (!isSegment(s.Name) || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != s.Bytes) {
			err = errors.New("is not what was verified")
		}
		if err != nil {
			return Receipt{}, l.failed("remove", s.Name, err)
		}
	}
	var receipt Receipt
	last := uint64(0)
	if n := len(plan.Leftover); n > 0 {
		last = plan.Leftover[n-1].Last.Seq
	}
	if len(plan.Segments) > 0 {
		last = plan.Retention.LastSeq
		r.Event = Event{Action: AuditRetention, Outcome: Success}
		r.Retention = &plan.Retention
		if receipt, err = l.addLocked(lock, r); err != nil {
			return Receipt{}, err
		}
	}
	for _, s := range all {
		if err := unix.Unlinkat(l.dir, s.Name, 0); err != nil {
			return receipt, l.failed("remove", s.Name, err)
		}
	}
	l.removeFragments(last)
	if err := unix.Fsync(l.dir); err != nil {
		return receipt, &StepError{"sync", l.path, err}
	}
	return receipt, nil
}

// removeFragments removes torn bytes that a record up to last describes: nothing refers to them any
// more.
func (l *Log) removeFragments(last uint64) {
	entries, _ := os.ReadDir(l.path)
	for _, e := range entries {
		name, torn := strings.CutPrefix(e.Name(), "torn-")
		digits, _, _ := strings.Cut(name, "-")
		if seq, err := strconv.ParseUint(digits, 10, 64); torn && err == nil && seq <= last && strings.HasSuffix(name, ".frag") {
			unix.Unlinkat(l.dir, e.Name(), 0)
		}
	}
}

// sameHolds refuses a plan that was made with other holds than those in force now.
func (l *Log) sameHolds(planned []string) error {
	f := readHolds(l.dir)
	same := f.err == nil && len(f.Holds) == len(planned)
	for _, h := range f.Holds {
		same = same && slices.Contains(planned, h.ID)
	}
	if !same {
		return &GuardError{Problem: "legal holds have changed meanwhile: try again"}
	}
	return nil
}

// PruneCode removes kept code that was last run before the time in a plan.
func (l *Log) PruneCode(plan Plan) (removed int, err error) {
	lock, err := l.lock()
	if err != nil {
		return 0, err
	}
	defer filelock.Release(lock)
	if err := l.sameHolds(plan.Holds); err != nil {
		return 0, err
	}
	dir := filepath.Join(l.path, codeName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	for _, e := range entries {
		info, failed := e.Info()
		if failed != nil || !info.Mode().IsRegular() || !info.ModTime().Before(plan.Code) {
			continue
		}
		if failed := os.Remove(filepath.Join(dir, e.Name())); failed != nil {
			err = failed
			continue
		}
		removed++
	}
	return removed, err
}
