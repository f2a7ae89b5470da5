package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"
)

// A digest is what there is to know of a block in which nothing is wrong, as far as the block alone
// shows it.
type digest struct {
	seq            uint64 // of the first record
	prev           Hash   // of the first record
	hashes, leaves []Hash // of all records; leaves only for a tree
	ends           []int  // of the lines, after their newlines
	oldest, newest time.Time
	first, last    time.Time
	marks          []mark // of runs that do not both begin and end in the block
	orphaned       int
}

// A mark is a start or an end of a run.
type mark struct {
	id    string
	start bool
	seq   uint64
	line  int // in its block, from 0
}

// A worker makes digests. It keeps what one block leaves to be used again by the next.
type worker struct {
	tree  bool
	leaf  leafHasher
	begun map[string]mark
}

// digest returns nil for a block that has to be looked at line by line: something in it is wrong,
// or is a record about the log itself.
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
		if !w.mark(d, &f, i) {
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
	// Starts come after ends. A start that stood before an end of the same run was taken together
	// with it.
	d.marks = append(d.marks, slices.SortedFunc(maps.Values(w.begun), func(a, b mark) int { return a.line - b.line })...)
	return d
}

// mark notes the start or the end of a run in the line i of a block. It returns false for what
// makes the block one to be looked at line by line.
func (w *worker) mark(d *digest, f *facts, i int) bool {
	switch Action(f.action) {
	case ExecutionStart:
		if _, twice := w.begun[string(f.runID)]; twice {
			return false
		}
		id := string(f.runID)
		w.begun[id] = mark{id: id, start: true, seq: f.seq, line: i}
	case ExecutionOrphaned, ExecutionEnd:
		if Action(f.action) == ExecutionOrphaned {
			d.orphaned++
		}
		if _, here := w.begun[string(f.runID)]; here {
			delete(w.begun, string(f.runID))
			break
		}
		d.marks = append(d.marks, mark{id: string(f.runID), seq: f.seq, line: i})
	case AuditRepair, AuditRetention, AuditAcknowledged, AuditHold, AuditHoldRelease:
		return false
	}
	return true
}
