package audit

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Witness is what somebody outside the log knows of one of its records, from the receipt of a run
// or from a checkpoint.
type Witness struct {
	Source string // for messages, as "receipts.csv:7"
	RunID  string // empty: not known
	Seq    uint64
	Hash   string // lower-case hexadecimal
}

// Check says what Verify looks at beside the log itself. The zero Check checks all of the log.
type Check struct {
	Witnesses []Witness

	Tree  bool     // also compute the Merkle tree, which takes as long again
	Sizes []uint64 // also the ranges of the first so many records, for Report.Ranges
	Since uint64   // where Report.Since begins
	Prove []uint64 // seqs of records, for Report.Inclusions

	Progress func(Progress) error // after each block; an error ends Verify, which returns it; nil: not wanted

	serial bool // look at everything line by line, for tests
}

// A Progress is how far Verify is.
type Progress struct {
	Records uint64
	Bytes   int64
	Total   int64 // bytes of the whole log
}

// A Segment is a file of a log that was verified.
type Segment struct {
	Name    string    `json:"name"`
	Records uint64    `json:"records"`
	Bytes   int64     `json:"bytes"`
	First   Link      `json:"first"`
	Last    Link      `json:"last"`
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
	First, Last Link
	FirstTime   time.Time
	LastTime    time.Time
	Pruned      *Retention // what was removed before the first record, in order; nil: nothing
	Alive       int        // runs under way
	Orphaned    int        // runs that are recorded as such
	Witnesses   int        // how many were compared
	Code        int        // how many files of kept code were compared with their names
	Findings    []Finding
	Omitted     map[Severity]int // further findings, which were only counted
	Unread      []string         // segments that could not be read to their end: what stands there is not judged
	ProvedTo    uint64           // seq of the newest record whose hash a witness confirms, and with it the chain up to there; 0: none

	Holds      []OpenHold // in force: by the records or by the file of holds, oldest first
	HoldsFault string     // how the records and that file disagree; empty: they do not

	acknowledged map[string]*Acknowledgement // by the id of the finding

	Origin string            // name of the log, by its first record
	Tree   *Range            // of all records; nil: not asked for
	Ranges map[uint64]*Range // by size, of Check.Sizes that the log still has or reaches
	Since  *Range            // from Check.Since on; nil if that is not in the log

	Inclusions []Inclusion // of the records of Check.Prove that the log has, in its order
	Included   uint64      // the smallest of Check.Sizes whose tree has all of them; 0: there is none
}

// Verify checks that the log is whole. It checks the form of every line, the chain through all
// segments, that runs have a start and an end, what the log says about its own repairs and
// removals, what its writers noted of the newest record, and what witnesses say. It writes nothing.
func (r *Reader) Verify(c Check) (*Report, error) {
	const most = 20
	for tries := 1; ; tries++ {
		c.Sizes, c.Prove = slices.Clone(c.Sizes), slices.Clone(c.Prove)
		v := &verifier{Check: c, reader: r, report: &Report{Dir: r.path}, open: map[string]opened{}}
		err := v.verify()
		if v.removed == "" || err != nil {
			return v.report, err
		}
		if tries == most { // retention removes segments now and then, not at each look
			return nil, r.failed("open", v.removed, errors.New("removed while the log was read, again and again"))
		}
	}
}

// verify reads the log once. Most blocks of a log have no fault, and that shows without knowing
// what came before them. Workers look for these at the same time; one goroutine takes all blocks in
// their order, and only that one makes findings:
//
//	feed ─► ordered ─────────────────────────────► walk: waits for each block to be done
//	  └───► todo ─► workers: a digest, or none ─► done
//
//	digest    the block goes on from the newest record?  ─► absorb it as a whole
//	no digest, or it does not                            ─► record, line by line
func (v *verifier) verify() error {
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
		stop    atomic.Bool // the caller wants no more
		stopped error
	)
	for range workers {
		group.Go(func() {
			w := worker{tree: v.Tree}
			for j := range todo {
				if !v.serial && !stop.Load() {
					j.digest = w.digest(j.text)
				}
				close(j.done)
			}
		})
	}
	group.Go(func() {
		defer close(ordered)
		defer close(todo)
		v.snapshot.feed(ordered, todo, &buffers, &stop)
	})
	for j := range ordered {
		<-j.done
		if stopped == nil {
			v.block(j)
			if stopped = v.tell(); stopped != nil {
				stop.Store(true)
			}
		}
		buffers.Put(&j.buffer)
	}
	group.Wait()
	if v.removed == "" && stopped == nil {
		v.end()
	}
	return stopped
}

// tell tells the caller how far this is.
func (v *verifier) tell() error {
	if v.Progress == nil {
		return nil
	}
	return v.Progress(Progress{v.report.Records, v.report.Bytes, v.total})
}

// feed cuts the log into blocks, until it is stopped.
func (s *snapshot) feed(ordered, todo chan<- *job, buffers *sync.Pool, stop *atomic.Bool) {
	buffer := func(n int) []byte {
		if b := *buffers.Get().(*[]byte); cap(b) >= n {
			return b
		}
		return make([]byte, n+n/16) // a little more, for blocks that begin with a longer rest
	}
	for i, seg := range s.segments {
		if stop.Load() {
			return
		}
		if err := s.load(&seg); err != nil {
			j := &job{block: block{err: err, last: true}, segment: i, unopened: true, done: make(chan struct{})}
			close(j.done)
			ordered <- j
			continue
		}
		for b := range blocks(seg, 0, buffer) {
			if stop.Load() {
				break
			}
			j := &job{block: b, segment: i, done: make(chan struct{})}
			ordered <- j
			todo <- j
		}
		if !seg.current { // the current segment belongs to the snapshot
			seg.release()
		}
	}
}

// A job is a block on its way through Verify.
type job struct {
	block
	segment  int
	unopened bool    // the segment could not be opened, or is not one: err says why
	digest   *digest // nil: look at the block line by line
	done     chan struct{}
}
