package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Severity says how bad a finding is.
type Severity int

// The severities, in their order.
const (
	Note       Severity = iota // worth knowing, nothing wrong
	Warning                    // something happened to the log, and nothing of it is lost
	Broken                     // records were changed, removed, or put in
	Unreadable                 // nobody can tell
)

var severities = [...]string{Note: "note", Warning: "warning", Broken: "broken", Unreadable: "unreadable"}

func (s Severity) String() string { return severities[s] }

// MarshalText is String.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Kind is that of a finding. Kinds are public and never change their meaning.
type Kind string

// The kinds of findings.
const (
	LineForm          Kind = "line-form"          // a line is no record, or not in the form of one
	ChainBroken       Kind = "chain-broken"       // a record is not the one that the next was joined to
	RecordsMissing    Kind = "records-missing"    // seq has a gap, or the log begins in the middle
	RecordOrder       Kind = "record-order"       // seq does not rise
	SegmentName       Kind = "segment-name"       // a closed segment does not begin with the record in its name
	SegmentFile       Kind = "segment-file"       // a segment is no file of its own
	SegmentEnd        Kind = "segment-end"        // a closed segment does not end with a record
	TornEnd           Kind = "torn-end"           // bytes behind the last record, in the log or cut and kept
	LogRepaired       Kind = "log-repaired"       // a writer found the log removed, cut or replaced
	MemoryDiffers     Kind = "memory-differs"     // the newest record is not the one that its writer noted beside the log
	MemoryMissing     Kind = "memory-missing"     // that note is not there, or not readable
	LogHeld           Kind = "log-held"           // a writer did not let go of the log
	EndWithoutStart   Kind = "end-without-start"  //
	SecondStart       Kind = "second-start"       // of a run that has not ended
	OrphanedRun       Kind = "orphaned-run"       // a start without an end, whose run is not alive
	ClockBack         Kind = "clock-back"         // a record is older than the one before it
	ClockJump         Kind = "clock-jump"         // a writer saw the clock run away from the uptime
	PruneUnfinished   Kind = "prune-unfinished"   // segments are there whose removal is recorded
	RetentionForm     Kind = "retention-form"     // a record of removed segments contradicts itself
	WitnessDiffers    Kind = "witness-differs"    // a receipt or checkpoint names a record that the log does not have
	WitnessTooOld     Kind = "witness-too-old"    // one whose records were removed by retention
	CheckpointForm    Kind = "checkpoint-form"    // a checkpoint that is not signed by a key that was valid then, or says nothing
	CheckpointDiffers Kind = "checkpoint-differs" // the log is not, or does not begin with, what was signed
	CheckpointLoose   Kind = "checkpoint-loose"   // it is only of records that retention removed, and no proof leads from it to those that are left
	CodeDiffers       Kind = "code-differs"       // kept code is not what was run
	DirectoryOpen     Kind = "directory-open"     // others can write the log's directory
	NotReadable       Kind = "not-readable"
)

// A Finding is one thing that a log is not as it should be.
type Finding struct {
	Severity  Severity `json:"severity"`
	Kind      Kind     `json:"kind"`
	Segment   string   `json:"segment,omitempty"` // file name
	Line      int      `json:"line,omitempty"`    // in the segment, from 1
	Seq       uint64   `json:"seq,omitempty"`     // of the record it is about
	RunID     string   `json:"run_id,omitempty"`
	Message   string   `json:"message"`
	Explained bool     `json:"explained,omitempty"` // the log itself tells it, in an audit-repair record

	// ID stays the same as long as what was found does: somebody can have looked into it, and said so in a record of the log.
	ID           string           `json:"id"`
	Acknowledged *Acknowledgement `json:"acknowledged,omitempty"`
	Before       *Neighbour       `json:"before,omitempty"` // the records on both sides of a break in the chain
	After        *Neighbour       `json:"after,omitempty"`
}

// A Neighbour is a record beside a break in the chain.
type Neighbour struct {
	Seq    uint64 `json:"seq"`
	Hash   string `json:"hash"`
	Action Action `json:"action"`
	RunID  string `json:"run_id,omitempty"`
	User   string `json:"user,omitempty"`
	Time   string `json:"time"`
}

// String is the record in words.
func (n *Neighbour) String() string {
	text := fmt.Sprintf("record %d (%s", n.Seq, n.Action)
	if n.User != "" {
		text += " of " + n.User
	}
	if n.RunID != "" {
		text += ", run " + n.RunID
	}
	return text + ", " + n.Time + ")"
}

// findingsMost of each severity are kept, the others only counted.
const findingsMost = 500

// A Witness is what somebody outside the log says of one of its records: the receipt of a run, or a checkpoint.
type Witness struct {
	Source string // for messages, as "receipts.csv:7"
	RunID  string // empty: not known
	Seq    uint64
	Hash   string // lower-case hexadecimal
}

// Check is what Verify is to look at beside the log itself. The zero Check is a whole one.
type Check struct {
	Witnesses []Witness

	// Merkle trees, which take as long again. Sizes are those of which the range is wanted as well; Since is where Report.Since begins.
	Tree  bool
	Sizes []uint64
	Since uint64

	Progress func(done, total int64) // bytes; nil: not wanted

	serial bool // everything by the slow way, for tests
}

// A Segment is a file of a log that was verified.
type Segment struct {
	Name    string    `json:"name"`
	Records uint64    `json:"records"`
	Bytes   int64     `json:"bytes"`
	First   Place     `json:"first"`
	Last    Place     `json:"last"`
	Newest  time.Time `json:"newest"` // of its records' times

	// Tree is the range of all records of the log up to the end of the segment, if it was asked for.
	Tree *Range `json:"-"`
}

// A Report is what Verify found.
type Report struct {
	Dir         string
	Segments    []Segment
	Records     uint64
	Bytes       int64
	First, Last Place
	FirstTime   time.Time
	LastTime    time.Time
	Pruned      *Retention // what was removed before the first record, in order; nil: nothing
	Alive       int        // runs under way
	Orphaned    int        // runs that are recorded as such
	Witnesses   int        // that were compared
	Code        int        // files of kept code that were compared with their names
	Findings    []Finding
	Omitted     map[Severity]int // findings beyond those
	Unread      []string         // segments that could not be read, or not to their end: nothing is said of what stands there
	ProvedTo    uint64           // seq of the newest record that a witness has named rightly, and the chain up to there with it; 0: none

	acknowledged map[string]*Acknowledgement // by the id of the finding

	Origin string            // name of the log, by its first record
	Tree   *Range            // of all records; nil: not asked for
	Ranges map[uint64]*Range // by size, of Check.Sizes that the log still has or reaches
	Since  *Range            // from Check.Since on; nil if that is not in the log
}

// Worst is the severity of the worst finding; Note if there is none.
func (rep *Report) Worst() (worst Severity) {
	for _, f := range rep.Findings {
		worst = max(worst, f.Severity)
	}
	return worst
}

// Count is how many findings of a severity there are.
func (rep *Report) Count(s Severity) (n int) {
	for _, f := range rep.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n + rep.Omitted[s]
}

// Add adds a finding, or only counts it.
func (rep *Report) Add(f Finding) {
	if f.ID == "" {
		f.identify(f.Message)
	}
	f.Acknowledged = rep.acknowledged[f.ID]
	if rep.Count(f.Severity) < findingsMost {
		rep.Findings = append(rep.Findings, f)
		return
	}
	if rep.Omitted == nil {
		rep.Omitted = map[Severity]int{}
	}
	rep.Omitted[f.Severity]++
}

// Verify checks that the log is whole: the form of every line, the chain through all segments, that runs have a start and an end, what the log
// says of its own repairs and removals, what its writers noted of the newest record, and what witnesses say. It writes nothing.
//
// Most blocks of a log are as they should be. Several processors look for these at once, and one goes through all others line by line; only
// that one makes findings.
func (r *Reader) Verify(c Check) (*Report, error) {
	const most = 20
	for tries := 1; ; tries++ {
		c.Sizes = slices.Clone(c.Sizes)
		v := &verifier{Check: c, reader: r, report: &Report{Dir: r.path}, open: map[string]opened{}}
		err := v.verify()
		if v.removed == "" || err != nil {
			return v.report, err
		}
		if tries == most { // retention removes once in a while, not at each look
			return nil, r.failed("open", v.removed, errors.New("removed while the log was read, again and again"))
		}
	}
}

func (v *verifier) verify() error {
	c := v.Check
	if err := v.begin(); err != nil {
		return err
	}
	defer v.snapshot.close()

	workers := runtime.GOMAXPROCS(0)
	var (
		todo    = make(chan *job, workers)
		ordered = make(chan *job, 2*workers)
		buffers = sync.Pool{New: func() any { return new([]byte) }}
		group   sync.WaitGroup
	)
	for range workers {
		group.Go(func() {
			w := worker{tree: c.Tree}
			for j := range todo {
				if !c.serial {
					j.digest = w.digest(j.text)
				}
				close(j.done)
			}
		})
	}
	group.Go(func() {
		defer close(ordered)
		defer close(todo)
		for i, seg := range v.snapshot.segments {
			if err := v.snapshot.load(&seg); err != nil {
				j := &job{block: block{err: err, last: true}, segment: i, unopened: true, done: make(chan struct{})}
				close(j.done)
				ordered <- j
				continue
			}
			for b := range blocks(seg, 0, func(n int) []byte {
				if b := *buffers.Get().(*[]byte); cap(b) >= n {
					return b
				}
				return make([]byte, n+n/16) // a little more, for blocks that begin with a longer rest
			}) {
				j := &job{block: b, segment: i, done: make(chan struct{})}
				ordered <- j
				todo <- j
			}
			if !seg.current { // that is the snapshot's
				seg.release()
			}
		}
	})
	for j := range ordered {
		<-j.done
		v.block(j)
		if v.Progress != nil {
			v.Progress(v.report.Bytes, v.total)
		}
		buffers.Put(&j.buffer)
	}
	group.Wait()
	if v.removed == "" {
		v.end()
	}
	return nil
}

// A job is a block on its way through Verify.
type job struct {
	block
	segment  int
	unopened bool    // the segment is none, or could not be opened: err says why
	digest   *digest // nil: the block has to be looked at line by line
	done     chan struct{}
}

// A digest is all there is to say of a block without a fault, as far as it can be judged by itself.
type digest struct {
	seq            uint64 // of the first record
	prev           Hash   // of the first record
	hashes, leaves []Hash // of all; leaves only with a tree
	ends           []int  // of the lines, behind their newlines
	oldest, newest time.Time
	first, last    time.Time
	marks          []mark // of runs that do not begin and end in the block
	orphaned       int
}

// A mark is a start or an end of a run.
type mark struct {
	id    string
	start bool
	seq   uint64
	line  int // in its block, from 0
}

// worker makes digests.
type worker struct {
	tree  bool
	leaf  leafHasher
	begun map[string]mark
}

func (w *worker) digest(text []byte) *digest {
	n := bytes.Count(text, []byte("\n"))
	if n == 0 {
		return nil
	}
	d := &digest{hashes: make([]Hash, 0, n), ends: make([]int, 0, n)}
	if w.tree {
		d.leaves = make([]Hash, 0, n)
	}
	if w.begun == nil {
		w.begun = map[string]mark{}
	}
	clear(w.begun)
	var hash Hash
	var joined [2 * len(hash)]byte
	for at := 0; at < len(text); {
		end := at + bytes.IndexByte(text[at:], '\n')
		line := text[at:end]
		f, ok := scan(line)
		if !ok || len(line) >= maxLine || f.jumpMS != 0 || f.repairs() || f.missing() != "" {
			return nil
		}
		i := len(d.hashes)
		if i == 0 {
			d.seq, d.first, d.oldest = f.seq, f.at, f.at
			if _, err := hex.Decode(d.prev[:], f.prev); err != nil || len(f.prev) != hex.EncodedLen(len(d.prev)) {
				return nil
			}
		} else {
			hex.Encode(joined[:], hash[:])
			if f.seq != d.seq+uint64(i) || !bytes.Equal(f.prev, joined[:]) || f.at.Before(d.last.Add(-clockSlack)) {
				return nil
			}
		}
		if f.at.After(d.newest) {
			d.newest = f.at
		}
		d.last = f.at
		switch m := (mark{start: true, seq: f.seq, line: i}); string(f.action) {
		case string(ExecutionStart):
			if _, twice := w.begun[string(f.runID)]; twice {
				return nil
			}
			m.id = string(f.runID)
			w.begun[m.id] = m
		case string(ExecutionOrphaned), string(ExecutionEnd):
			if string(f.action) == string(ExecutionOrphaned) {
				d.orphaned++
			}
			if _, here := w.begun[string(f.runID)]; here {
				delete(w.begun, string(f.runID))
				break
			}
			m.id, m.start = string(f.runID), false
			d.marks = append(d.marks, m)
		case string(AuditRepair), string(AuditRetention), string(AuditAcknowledged):
			return nil
		}
		hash = sha256.Sum256(line)
		d.hashes = append(d.hashes, hash)
		d.ends = append(d.ends, end+1)
		if w.tree {
			d.leaves = append(d.leaves, w.leaf.hash(line))
		}
		at = end + 1
	}
	// Starts come after ends: those of the same run that stood before them would have been taken together.
	d.marks = append(d.marks, slices.SortedFunc(maps.Values(w.begun), func(a, b mark) int { return a.line - b.line })...)
	return d
}

// A verifier goes through the log in its order.
type verifier struct {
	Check
	reader   *Reader
	snapshot *snapshot
	report   *Report
	total    int64 // bytes of the log

	locked      bool // the snapshot was taken while no record was being written
	known       head // what the writers noted of the newest record
	isKnown     bool
	base        *Retention // what the log begins behind
	baseUnknown bool       // the record of it may stand where nobody can read
	baseTree    *Range
	leaf        leafHasher
	witnesses   []Witness // by seq, with the writers' own; those without a Source were compared

	seg      segment // that is being read
	begun    int     // segments of the snapshot, up to that one
	line     int     // lines of it that were read
	last     head    // the newest record
	lastText []byte  // its line
	lastAt   time.Time
	place    Position // behind it
	gap      bool     // between it and what comes next something could not be read
	removed  string   // a segment that went while the log was read: all is to be looked at again
	held     []heldLine
	open     map[string]opened
}

// opened is a start whose end was not seen yet.
type opened struct {
	seq     uint64
	segment string
	line    int
}

// heldLine is a line that is no record. Whether it is torn, or put between two records, shows by what follows.
type heldLine struct {
	line, bytes int
	hash        string
	err         error
}

// add adds a finding about the line that is being looked at, if there is one.
func (v *verifier) add(s Severity, kind Kind, seq uint64, format string, args ...any) {
	v.addFinding(Finding{Severity: s, Kind: kind, Seq: seq}, format, args...)
}

func (v *verifier) addFinding(f Finding, format string, args ...any) {
	f.Segment, f.Line, f.Message = v.seg.name, v.line, fmt.Sprintf(format, args...)
	v.report.Add(f)
}

// addBreak adds a finding about the joint between the newest record and the line that follows it.
func (v *verifier) addBreak(kind Kind, seq uint64, line []byte, format string, args ...any) {
	f := Finding{Severity: Broken, Kind: kind, Seq: seq, After: neighbour(line)}
	before := "the beginning"
	if v.last.seq > 0 {
		f.Before = neighbour(v.lastText)
		before = f.Before.String()
	}
	f.identify(v.last.hash, f.After.Hash)
	v.addFinding(f, "%s; between %s and %s", fmt.Sprintf(format, args...), before, f.After)
}

func neighbour(line []byte) *Neighbour {
	var r struct {
		Seq   uint64 `json:"seq"`
		Time  string `json:"@timestamp"`
		RunID string `json:"run_id"`
		Event struct {
			Action Action `json:"action"`
		} `json:"event"`
		User struct {
			Name string `json:"name"`
		} `json:"user"`
	}
	json.Unmarshal(line, &r) // what a later version says in another way stays empty
	return &Neighbour{Seq: r.Seq, Hash: hexSHA256(line), Action: r.Event.Action, RunID: r.RunID, User: r.User.Name, Time: r.Time}
}

// unread notes that what stands here, up to the next record that can be read, is not known.
func (v *verifier) unread() {
	v.gap = true
	v.report.Unread = append(v.report.Unread, v.seg.name)
	clear(v.open) // their ends may stand there
}

// partial tells that the log has records that nobody can see, so that an end may be without its start.
func (v *verifier) partial() bool { return v.base != nil || len(v.report.Unread) > 0 }

// begin looks at the log, while no writer is at work if that can be had, and at what stands beside it.
func (v *verifier) begin() error {
	r := v.reader
	lock, unread := v.share()
	var err error
	v.snapshot, err = r.look(0)
	if v.locked {
		unlock(lock)
	}
	if err != nil {
		return err
	}
	for _, seg := range v.snapshot.segments {
		v.total += seg.size
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.dir, &st); err == nil && st.Mode&0o022 != 0 {
		v.add(Warning, DirectoryOpen, 0, "the directory can be written by others (mode %04o): no writer takes it", st.Mode&0o7777)
	}
	switch {
	case hostFailure(unread) && !errors.Is(unread, unix.EACCES) && !errors.Is(unread, unix.EPERM): // it may be closed to those who may only read the log
		v.add(Unreadable, NotReadable, 0, "what the writers noted of the newest record: %v", unread)
	case errors.Is(unread, ErrLocked):
		v.add(Note, LogHeld, 0, "%v: a record that is being written now looks torn", unread)
	case v.isKnown || v.total == 0 && errors.Is(unread, unix.ENOENT):
	case unread != nil:
		v.add(Warning, MemoryMissing, 0, "what the writers noted of the newest record: %v", unread)
	case v.total > 0:
		v.add(Warning, MemoryMissing, 0, "what the writers noted of the newest record, in %s, is not there", lockName)
	}
	v.witnesses = slices.Clone(v.Witnesses)
	if v.isKnown {
		v.witnesses = append(v.witnesses, Witness{Source: lockName, Seq: v.known.seq, Hash: v.known.hash})
	}
	slices.SortStableFunc(v.witnesses, func(a, b Witness) int { return cmp.Compare(a.Seq, b.Seq) })
	slices.Sort(v.Sizes)
	v.report.Ranges = map[uint64]*Range{}
	return v.findBase()
}

// share reads .lock, and locks it as a reader does, so that no record is half written while v.locked.
func (v *verifier) share() (lock int, err error) {
	r := v.reader
	lock, err = unix.Openat(r.dir, lockName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, r.failed("read", lockName, err)
	}
	v.known, v.isKnown = remembered(lock) // if the lock is not to be had
	if err := flock(lock, unix.LOCK_SH, time.Now().Add(lockPatience), func() time.Duration { return 0 }); err != nil {
		return -1, r.failed("lock", lockName, err)
	}
	v.locked = true
	v.known, v.isKnown = remembered(lock)
	return lock, nil
}

// findBase finds the newest record of removed segments, if the log does not begin at its beginning.
func (v *verifier) findBase() error {
	v.beginTree()
	if len(v.snapshot.segments) == 0 {
		return nil
	}
	oldest := v.snapshot.segments[0]
	first := oldest.first
	if first <= 1 {
		return nil
	}
	v.snapshot.backward(func(line Line, err error) bool {
		if bad := new(LineError); err != nil && !errors.As(err, &bad) {
			v.baseUnknown = true
		}
		if err != nil || line.Action != AuditRetention {
			return true
		}
		rec, err := line.Record()
		if err == nil && rec.Retention != nil && rec.Retention.LastSeq+1 >= first {
			v.base = rec.Retention
		}
		return false
	})
	if v.base == nil || !v.Tree {
		return nil
	}
	tree, err := v.base.Tree.restore()
	if err != nil {
		v.base.Tree = Tree{} // the record is complained of where it stands
		return nil
	}
	v.baseTree = tree
	v.beginTree()
	return nil
}

// beginTree begins the trees.
func (v *verifier) beginTree() {
	if !v.Tree {
		return
	}
	v.report.Tree = &Range{}
	if v.baseTree != nil {
		v.report.Tree = v.baseTree.clone()
		v.report.Origin = v.base.Tree.Origin
	}
	v.measure()
}

// measure takes the ranges that are asked for at this size.
func (v *verifier) measure() {
	t := v.report.Tree
	if _, wanted := slices.BinarySearch(v.Sizes, t.End); wanted {
		v.report.Ranges[t.End] = t.clone()
	}
	if v.Since > 0 && t.End == v.Since {
		v.report.Since = &Range{Begin: t.End, End: t.End}
	}
}

func (v *verifier) addLeaf(h Hash) {
	t := v.report.Tree
	t.add(h)
	if s := v.report.Since; s != nil && s.End == t.End-1 {
		s.add(h)
	}
	if len(v.Sizes) > 0 || t.End == v.Since {
		v.measure()
	}
}

// block takes a block in its order.
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

// unopened takes a segment that is none, or that nobody could open.
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

// absorb takes a block as a whole if it goes on from what was there. It has the same outcome as record, line by line, would have.
func (v *verifier) absorb(j *job) bool {
	d := j.digest
	if len(v.held) > 0 || v.gap || v.last.seq == 0 || d.seq != v.last.seq+1 || d.prev.String() != v.last.hash || d.first.Before(v.lastAt.Add(-clockSlack)) ||
		v.line == 0 && !v.seg.current && v.seg.first != d.seq || v.base != nil && d.seq <= v.base.LastSeq+1 {
		return false
	}
	for _, m := range d.marks {
		if _, begun := v.open[m.id]; m.start == begun && (m.start || !v.partial()) {
			return false
		}
	}
	lines := v.line
	for _, m := range d.marks {
		v.line = lines + m.line + 1
		v.mark(m.id, m.seq, m.start)
	}
	n := uint64(len(d.hashes))
	seg := v.current()
	if seg.Records == 0 {
		seg.First = Place{d.seq, d.hashes[0].String()}
	}
	if d.newest.After(seg.Newest) {
		seg.Newest = d.newest
	}
	v.line = lines + len(d.hashes)
	v.report.Orphaned += d.orphaned
	for from, _ := slices.BinarySearchFunc(v.witnesses, d.seq, func(w Witness, seq uint64) int { return cmp.Compare(w.Seq, seq) }); from < len(v.witnesses) &&
		v.witnesses[from].Seq < d.seq+n; from++ {
		w := v.witnesses[from]
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
		line := v.line
		v.line = lines + i + 1
		v.compare(from, d.hashes[i].String(), id)
		v.line = line
	}
	for _, leaf := range d.leaves {
		v.addLeaf(leaf)
	}
	hash := d.hashes[n-1].String()
	v.lastText = append(v.lastText[:0], lastLine(j.text)...)
	v.report.Records += n
	seg.Records += n
	v.last, v.lastAt = head{seq: d.seq + n - 1, hash: hash}, d.last
	seg.Last = Place{v.last.seq, hash}
	v.place = Position{Segment: v.seg.first, Offset: j.offset + int64(len(j.text)), Seq: v.last.seq, Hash: hash}
	return true
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

	var rec Record
	special := Action(f.action) == AuditRepair || Action(f.action) == AuditRetention || Action(f.action) == AuditAcknowledged || f.repairs()
	if special && json.Unmarshal(line, &rec) != nil {
		rec = Record{}
	}
	seg := v.current()
	if seg.Records == 0 {
		seg.First = Place{f.seq, hash}
		if !v.seg.current && v.seg.first != f.seq {
			v.add(Broken, SegmentName, f.seq, "%s begins with record %d", v.seg.name, f.seq)
		}
	}
	gap := v.gap
	if v.gap = false; !gap || f.seq <= v.last.seq {
		v.join(&f, line, rec.Repair, held)
	}
	if Action(f.action) == AuditRepair || f.repairs() {
		v.repair(&f, line, rec, gap)
	}
	if Action(f.action) == AuditAcknowledged {
		v.acknowledged(&f, rec)
	}
	if Action(f.action) == AuditRetention {
		v.retention(&f, rec.Retention)
	}
	switch Action(f.action) {
	case ExecutionStart:
		v.mark(string(f.runID), f.seq, true)
	case ExecutionOrphaned:
		v.report.Orphaned++
		fallthrough
	case ExecutionEnd:
		v.mark(string(f.runID), f.seq, false)
	}
	if f.jumpMS != 0 {
		v.add(Note, ClockJump, f.seq, "record %d: the clock has jumped by %v since the record before", f.seq, time.Duration(f.jumpMS)*time.Millisecond)
	}
	if back := v.lastAt.Sub(f.at); back > clockSlack && !f.at.IsZero() {
		v.add(Warning, ClockBack, f.seq, "record %d is %v older than the record before: the clock was set back", f.seq, back.Round(time.Millisecond))
	}
	if !f.at.IsZero() {
		v.lastAt = f.at
	}
	if f.at.After(seg.Newest) {
		seg.Newest = f.at
	}
	for i, _ := slices.BinarySearchFunc(v.witnesses, f.seq, func(w Witness, seq uint64) int { return cmp.Compare(w.Seq, seq) }); i < len(v.witnesses) &&
		v.witnesses[i].Seq == f.seq; i++ {
		v.compare(i, hash, string(f.runID))
	}
	if v.report.Records == 0 {
		v.report.First, v.report.FirstTime = Place{f.seq, hash}, f.at
		if v.Tree && v.report.Origin == "" {
			v.report.Origin = originOf(line, sum)
		}
	}
	if v.Tree && (v.baseTree == nil || f.seq > v.base.LastSeq) {
		v.addLeaf(v.leaf.hash(line))
	}
	v.lastText = append(v.lastText[:0], line...)
	v.report.Records++
	seg.Records++
	seg.Last = Place{f.seq, hash}
	v.last = head{seq: f.seq, hash: hash}
	v.place = Position{Segment: v.seg.first, Offset: end, Seq: f.seq, Hash: hash}
}

// join compares what a record was joined to with what stands before it, held lines that are no records in between.
func (v *verifier) join(f *facts, line []byte, repair *Repair, held uint64) {
	prev := string(f.prev)
	if gap := repair; gap != nil && gap.Expected != nil && gap.Found != nil {
		return // repair judges it
	}
	if v.last.seq == 0 {
		v.joinFirst(f.seq, prev, line)
		return
	}
	switch {
	case f.seq == v.last.seq+1 && prev == v.last.hash:
	case f.seq == v.last.seq+1:
		v.addBreak(ChainBroken, v.last.seq, line, "record %d is not the one that record %d was joined to: it was changed, or put in another's place", v.last.seq, f.seq)
	case held > 0 && f.seq == v.last.seq+1+held:
		// The lines that are no records were records once.
	case f.seq > v.last.seq+1:
		v.addBreak(RecordsMissing, v.last.seq+1, line, "%s missing, before record %d", seqs(v.last.seq+1, f.seq-1), f.seq)
	default:
		v.addBreak(RecordOrder, f.seq, line, "record %d stands behind record %d", f.seq, v.last.seq)
	}
}

func (v *verifier) joinFirst(seq uint64, prev string, line []byte) {
	base := v.base
	switch {
	case seq == 1 && prev == origin.hash:
	case seq == 1:
		v.addBreak(ChainBroken, 1, line, "record 1 is joined to another one, and has to be the first")
	case base == nil && v.baseUnknown:
	case base == nil:
		v.addBreak(RecordsMissing, 1, line, "%s missing, and no record tells that retention removed them", seqs(1, seq-1))
	case base.LastSeq >= seq:
		v.report.Pruned = base
		v.add(Warning, PruneUnfinished, seq, "the removal of all records up to %d is recorded, and those from %d on are still there: prune once more", base.LastSeq, seq)
	case base.LastHash != prev:
		v.report.Pruned = base
		v.addBreak(ChainBroken, seq, line, "record %d is joined to another record %d than the one that retention removed", seq, base.LastSeq)
	default:
		v.report.Pruned = base
	}
}

// seqs says "record 7 is" or "records 7 to 9 are".
func seqs(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("record %d is", from)
	}
	return fmt.Sprintf("records %d to %d are", from, to)
}

// repair judges what a writer said of the log it found.
func (v *verifier) repair(f *facts, line []byte, rec Record, gap bool) {
	cut := rec.Repair
	if cut == nil {
		v.add(Broken, LineForm, f.seq, "record %d: an audit-repair that does not tell what was repaired", f.seq)
		return
	}
	if cut.Found != nil && cut.Expected == nil {
		if at := cut.Found; !gap && v.last.seq > 0 && (at.Seq > v.last.seq || at.Seq == v.last.seq && at.Hash != v.last.hash) {
			v.add(Broken, LogRepaired, f.seq, "record %d: record %d that its writer found before it is not there", f.seq, at.Seq)
			return
		}
		v.forgotten(f, cut)
		return
	}
	if cut.Expected == nil || cut.Found == nil {
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
		return
	}
	what := map[string]string{"log-lost": "removed", "log-cut": "cut", "log-replaced": "replaced"}[rec.Event.Reason]
	if what == "" {
		what = "not what it should be"
	}
	expected, found := *cut.Expected, *cut.Found
	if expected.Seq+1 != f.seq || expected.Hash != string(f.prev) {
		v.add(Broken, LogRepaired, f.seq, "record %d contradicts itself: it is joined to another record than the one it expected", f.seq)
		return
	}
	if v.last.seq == expected.Seq && v.last.hash == expected.Hash {
		v.addFinding(Finding{Severity: Warning, Kind: LogRepaired, Seq: f.seq, Explained: true}, "record %d: the log was %s; all its records are there again", f.seq, what)
		return
	}
	if gap {
		return // what it found stands where nobody could read
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

// retention judges a record of removed segments by itself.
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

// mark takes the start or the end of a run.
func (v *verifier) mark(id string, seq uint64, start bool) {
	_, begun := v.open[id]
	switch {
	case start && begun:
		v.addFinding(Finding{Severity: Broken, Kind: SecondStart, Seq: seq, RunID: id}, "record %d: a second start of run %s, which has not ended", seq, id)
	case start:
		v.open[id] = opened{seq, v.seg.name, v.line}
	case begun:
		delete(v.open, id)
	case !v.partial():
		v.addFinding(Finding{Severity: Broken, Kind: EndWithoutStart, Seq: seq, RunID: id}, "record %d: an end of run %s, which has no start, or a second one", seq, id)
	}
}

// compare holds a record against what a witness says of it.
func (v *verifier) compare(i int, hash, runID string) {
	w := v.witnesses[i]
	v.witnesses[i].Source = "" // seen
	if w.Source == "" {
		return
	}
	if w.Source == lockName {
		v.isKnown = false
		if w.Hash != hash {
			v.add(Broken, MemoryDiffers, w.Seq, "record %d is not the one that its writer noted in %s: the log was changed or replaced", w.Seq, lockName)
		}
		return
	}
	v.report.Witnesses++
	switch {
	case w.Hash != hash:
		v.addFinding(Finding{Severity: Broken, Kind: WitnessDiffers, Seq: w.Seq, RunID: w.RunID}, "%s: record %d has another hash", w.Source, w.Seq)
	case w.RunID != "" && w.RunID != runID:
		v.addFinding(Finding{Severity: Broken, Kind: WitnessDiffers, Seq: w.Seq, RunID: w.RunID}, "%s: record %d is that of run %s", w.Source, w.Seq, runID)
	default:
		v.report.ProvedTo = max(v.report.ProvedTo, w.Seq)
	}
}

// release complains of lines that are no records and stand before one.
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

// endSegment looks at what stands behind the last record of a segment.
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

// settled tells whether the end of the current segment is not one that was being written when it was looked at.
func (v *verifier) settled() bool {
	if v.locked {
		return true
	}
	time.Sleep(2 * followGap)
	var st unix.Stat_t
	return unix.Fstat(int(v.seg.file.Fd()), &st) == nil && st.Size == v.seg.size
}

// end looks at all that shows only when the whole log was read.
func (v *verifier) end() {
	v.seg, v.line = segment{}, 0
	rep := v.report
	rep.Last, rep.LastTime = Place{v.last.seq, v.last.hash}, v.lastAt
	if len(rep.Unread) > 0 { // no tree of what was not read
		rep.Tree, rep.Ranges, rep.Since = nil, map[uint64]*Range{}, nil
		for i := range rep.Segments {
			rep.Segments[i].Tree = nil
		}
	}
	if v.isKnown && rep.Count(Unreadable) == 0 { // else it may stand where nobody could read
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
	for _, w := range v.witnesses {
		switch {
		case w.Source == "" || w.Source == lockName:
		case len(rep.Unread) > 0:
			v.addFinding(Finding{Severity: Unreadable, Kind: NotReadable, Seq: w.Seq, RunID: w.RunID}, "%s: record %d was not compared: parts of the log cannot be read", w.Source, w.Seq)
		case w.Seq > v.last.seq:
			v.report.Witnesses++
			v.addFinding(Finding{Severity: Broken, Kind: WitnessDiffers, Seq: w.Seq, RunID: w.RunID}, "%s: there is no record %d: the log ends with record %d", w.Source, w.Seq, v.last.seq)
		case w.Seq < rep.First.Seq && rep.Pruned != nil:
			v.addFinding(Finding{Severity: Note, Kind: WitnessTooOld, Seq: w.Seq, RunID: w.RunID}, "%s: record %d was removed by retention", w.Source, w.Seq)
		default:
			v.report.Witnesses++
			v.addFinding(Finding{Severity: Broken, Kind: WitnessDiffers, Seq: w.Seq, RunID: w.RunID}, "%s: record %d is missing", w.Source, w.Seq)
		}
	}
	if name := fragmentName(v.last.seq+1, 1); v.last.seq > 0 || rep.Records == 0 {
		var st unix.Stat_t
		if unix.Fstatat(v.reader.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			v.add(Warning, TornEnd, 0, "%s keeps torn bytes that were cut: the next writer records it", name)
		}
	}
	v.runs()
	v.code()
}

// runs finds out which runs without an end are alive.
func (v *verifier) runs() {
	type dead struct {
		id  string
		how string
	}
	var gone []dead
	for id, o := range v.open {
		alive, how := v.reader.alive(id)
		switch {
		case alive:
			v.report.Alive++
		case how == "":
			v.addFinding(Finding{Severity: Note, Kind: OrphanedRun, Seq: o.seq, RunID: id}, "run %s has no end, and whether it is alive cannot be seen", id)
		default:
			gone = append(gone, dead{id, how})
		}
	}
	if len(gone) == 0 {
		return
	}
	// One that ended meanwhile has its end behind what was read, and that was written before its file went.
	ended := map[string]bool{}
	for line, err := range v.reader.Records(v.place) {
		if err == nil && (line.Action == ExecutionEnd || line.Action == ExecutionOrphaned) {
			ended[line.RunID] = true
		}
	}
	slices.SortFunc(gone, func(a, b dead) int { return cmp.Compare(v.open[a.id].seq, v.open[b.id].seq) })
	for _, g := range gone {
		if o := v.open[g.id]; !ended[g.id] {
			v.seg.name, v.line = o.segment, o.line
			v.addFinding(Finding{Severity: Warning, Kind: OrphanedRun, Seq: o.seq, RunID: g.id}, "run %s has no end and is not alive: %s", g.id, g.how)
		}
	}
}

// code compares kept code with its names, which are hashes.
func (v *verifier) code() {
	v.seg, v.line = segment{}, 0
	fd, err := unix.Openat(v.reader.dir, codeName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return
	}
	var names []string
	if err == nil {
		dir := os.NewFile(uintptr(fd), codeName)
		defer dir.Close()
		names, err = dir.Readdirnames(-1)
	}
	if err != nil {
		severity := Unreadable
		if err == unix.EACCES { // it is closed to those who may only read the log
			severity = Note
		}
		v.add(severity, NotReadable, 0, "kept code was not looked at: %v", v.reader.failed("read", codeName, err))
	}
	slices.Sort(names)
	for _, name := range names {
		if len(name) != hex.EncodedLen(sha256.Size) {
			continue // of a writer at work
		}
		path := filepath.Join(codeName, name)
		sum := sha256.New()
		at, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT { // removed by retention meanwhile
			continue
		}
		if err == nil {
			file := os.NewFile(uintptr(at), path)
			_, err = io.Copy(sum, file)
			file.Close()
		}
		if err != nil {
			v.add(Unreadable, NotReadable, 0, "%v", v.reader.failed("read", path, err))
			continue
		}
		v.report.Code++
		if hex.EncodeToString(sum.Sum(nil)) != name {
			v.add(Broken, CodeDiffers, 0, "%s is not the code that was run: its SHA-256 is %x", path, sum.Sum(nil))
		}
	}
}

// Running is the number of runs under way whose launchers live, as far as this user can see them.
func (r *Reader) Running() (n int) {
	names, _ := os.ReadDir(filepath.Join(r.path, runsName))
	for _, e := range names {
		if alive, _ := r.alive(e.Name()); alive {
			n++
		}
	}
	return n
}

// Dead tells that a run without an end has lost its launcher, which the next writer will record. What cannot be seen is not dead.
func (r *Reader) Dead(id string) bool {
	_, how := r.alive(id)
	return how == orphan
}

const orphan = "the next writer records it as orphaned"

// alive tells whether a run's writer lives, else how the log will come by the run's end; nothing if it cannot be seen.
func (r *Reader) alive(id string) (alive bool, how string) {
	const lost = "nothing is left of it"
	if !isRunID(id) {
		return false, lost
	}
	fd, err := unix.Openat(r.dir, filepath.Join(runsName, id), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return false, lost
	}
	if err != nil {
		return false, ""
	}
	file := os.NewFile(uintptr(fd), id)
	defer file.Close()
	switch err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err {
	case nil:
	case unix.EWOULDBLOCK:
		return true, ""
	default:
		return false, ""
	}
	text := make([]byte, 2*maxLine)
	n, _ := file.ReadAt(text, 0)
	if bytes.Count(text[:n], []byte("\n")) > 1 {
		return false, "its end waits in " + filepath.Join(runsName, id) + " for the next writer"
	}
	return false, orphan
}

// originOf names a log by the host and the hash of its first record.
func originOf(line []byte, sum Hash) string {
	var r struct {
		Host Host `json:"host"`
	}
	json.Unmarshal(line, &r)
	name := strings.Map(func(c rune) rune {
		if c == '.' || c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '-'
	}, r.Host.Name)
	return "py3run/" + cmp.Or(name, "host") + "/" + sum.String()[:16]
}
