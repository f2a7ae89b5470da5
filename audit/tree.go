package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// A Hash is the SHA-256 of a line, or of a leaf or node of the Merkle tree over the lines of a log.
type Hash [sha256.Size]byte

// String returns h in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

func parseHash(text string) (h Hash, err error) {
	if len(text) != hex.EncodedLen(len(h)) {
		return h, fmt.Errorf("hash of %d characters, want %d", len(text), hex.EncodedLen(len(h)))
	}
	_, err = hex.Decode(h[:], []byte(text))
	return h, err
}

// A Range is the compact form of the leaves from Begin to before End of a Merkle tree as RFC 6962
// describes it, section 2.1: the roots of the largest complete subtrees that cover them, from left
// to right. It can be extended without its leaves, so that the tree goes on when old records are
// gone. The first record of a log is leaf 0. Where records were lost, the later ones follow without
// a gap.
type Range struct {
	Begin, End uint64
	hashes     []Hash
	levels     []uint8
}

// A Node is the root of a complete subtree of 2^Level leaves, the Index-th of its size.
type Node struct {
	Level int
	Index uint64
	Hash  Hash
}

// Nodes are the subtrees of r, from left to right.
func (r *Range) Nodes() []Node {
	nodes := make([]Node, len(r.hashes))
	at := r.Begin
	for i, h := range r.hashes {
		nodes[i] = Node{Level: int(r.levels[i]), Index: at >> r.levels[i], Hash: h}
		at += 1 << r.levels[i]
	}
	return nodes
}

// Root is the hash of the tree over r's leaves. Begin has to be 0.
func (r *Range) Root() Hash {
	if len(r.hashes) == 0 {
		return sha256.Sum256(nil)
	}
	root := r.hashes[len(r.hashes)-1]
	for i := len(r.hashes) - 2; i >= 0; i-- {
		root = nodeHash(r.hashes[i], root)
	}
	return root
}

func (r *Range) clone() *Range {
	c := *r
	c.hashes, c.levels = append([]Hash(nil), r.hashes...), append([]uint8(nil), r.levels...)
	return &c
}

// add extends r by one leaf.
func (r *Range) add(leaf Hash) {
	level := uint8(0)
	for n := len(r.hashes); n > 0 && r.levels[n-1] == level; n-- {
		// The subtree before this one is its sibling only if a subtree of twice the size may begin
		// where it begins.
		if start := r.End + 1 - 2<<level; start&(2<<level-1) != 0 {
			break
		}
		leaf = nodeHash(r.hashes[n-1], leaf)
		r.hashes, r.levels = r.hashes[:n-1], r.levels[:n-1]
		level++
	}
	r.hashes, r.levels = append(r.hashes, leaf), append(r.levels, level)
	r.End++
}

// restoreRange makes the range of all leaves before size again.
func restoreRange(size uint64, hashes []string) (*Range, error) {
	if want := bits.OnesCount64(size); len(hashes) != want {
		return nil, fmt.Errorf("%d hashes for a tree of %d leaves, want %d", len(hashes), size, want)
	}
	r := &Range{End: size}
	level := 63
	for _, text := range hashes {
		for size>>level&1 == 0 {
			level--
		}
		h, err := parseHash(text)
		if err != nil {
			return nil, err
		}
		r.hashes, r.levels = append(r.hashes, h), append(r.levels, uint8(level))
		level--
	}
	return r, nil
}

// leafHasher hashes lines as leaves without an allocation for each.
type leafHasher struct{ buffer []byte }

func (l *leafHasher) hash(line []byte) Hash {
	l.buffer = append(append(l.buffer[:0], 0), line...)
	return sha256.Sum256(l.buffer)
}

func nodeHash(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}
