package audit

import (
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// The tree is the one of RFC 6962, as the Go team's package makes it.
func TestRange(t *testing.T) {
	t.Parallel()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	var leaves []Hash
	var hasher leafHasher
	whole := &Range{}
	for n := range 70 {
		want, err := tlog.TreeHash(int64(n), reader)
		must(t, err)
		if n > 0 && tlog.Hash(whole.Root()) != want { // of none RFC 6962 and tlog differ
			t.Fatalf("%d leaves: root %v, want %v", n, whole.Root(), want)
		}
		var hashes []string
		for _, node := range whole.Nodes() {
			if got := stored[tlog.StoredHashIndex(node.Level, int64(node.Index))]; got != tlog.Hash(node.Hash) {
				t.Fatalf("%d leaves: node %+v, want %v", n, node, got)
			}
			hashes = append(hashes, node.Hash.String())
		}
		restored, err := restoreRange(uint64(n), hashes)
		must(t, err)
		if got, want := fmt.Sprint(restored), fmt.Sprint(whole); got != want {
			t.Fatalf("restored %s, want %s", got, want)
		}
		for begin := range n + 1 {
			part := &Range{Begin: uint64(begin), End: uint64(begin)}
			for _, leaf := range leaves[begin:] {
				part.add(leaf)
			}
			at := uint64(begin)
			for _, node := range part.Nodes() {
				if node.Index<<node.Level != at || stored[tlog.StoredHashIndex(node.Level, int64(node.Index))] != tlog.Hash(node.Hash) {
					t.Fatalf("leaves %d to %d: node %+v at %d", begin, n, node, at)
				}
				at += 1 << node.Level
			}
			if at != uint64(n) || len(part.hashes) > 14 {
				t.Fatalf("leaves %d to %d: %d nodes to %d", begin, n, len(part.hashes), at)
			}
		}
		line := fmt.Append(nil, "line ", n)
		more, err := tlog.StoredHashes(int64(n), line, reader)
		must(t, err)
		stored = append(stored, more...)
		leaves = append(leaves, hasher.hash(line))
		whole.add(leaves[n])
	}
	for _, bad := range [][]string{nil, {"00"}, {origin.hash, origin.hash}, {origin.hash[:63] + "x"}} {
		if _, err := restoreRange(4, bad); err == nil {
			t.Errorf("restored from %q", bad)
		}
	}
}
