package audit

import (
	"errors"
)

// AuditRetention tells that old segments were removed, before they are.
const AuditRetention Action = "audit-retention"

// Retention is what an audit-retention record says: which records are no longer there, and what is needed to prove that those which are left
// go on from them.
type Retention struct {
	Days     int    `json:"days"`      // for which records are kept
	Segments int    `json:"segments"`  // that were removed
	Records  uint64 `json:"records"`   // in them
	FirstSeq uint64 `json:"first_seq"` // of these records
	LastSeq  uint64 `json:"last_seq"`
	LastHash string `json:"last_hash"`        // the prev of the oldest record that is left
	Newest   string `json:"newest"`           // the newest of their times
	Faults   int    `json:"faults,omitempty"` // that they had, and were removed with all the same
	Tree     Tree   `json:"tree"`
}

// Tree is the head of the Merkle tree over all records from the first on, as RFC 6962 describes it, and what it takes to extend it.
type Tree struct {
	Origin string   `json:"origin"` // name of the log
	Size   uint64   `json:"size"`
	Root   string   `json:"root"`
	Range  []string `json:"range"` // roots of the largest complete subtrees, from left to right
}

// restore makes the range of a tree again.
func (t Tree) restore() (*Range, error) {
	r, err := restoreRange(t.Size, t.Range)
	if err == nil && r.Root().String() != t.Root {
		err = errors.New("the range does not have the root")
	}
	return r, err
}
