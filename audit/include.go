package audit

import "slices"

// An Inclusion is what it takes to prove that a record is in the tree of the first Included records:
// its leaf, and all leaves of that tree before and after it. The nodes of both ranges are those that
// an inclusion proof of RFC 6962, section 2.1.1, is made of.
type Inclusion struct {
	Seq    uint64
	Index  uint64 // of the leaf, from 0
	Leaf   Hash
	Before *Range
	After  *Range
}

// include takes the next leaf, before the tree has it. Records that were removed by retention are
// part of the tree: a later record can be proved in every tree that it is in.
func (v *verifier) include(seq uint64, leaf Hash) {
	rep := v.report
	if rep.Included > 0 {
		return
	}
	for _, i := range rep.Inclusions {
		i.After.add(leaf)
	}
	at := rep.Tree.End
	if _, wanted := slices.BinarySearch(v.Prove, seq); wanted {
		rep.Inclusions = append(rep.Inclusions, Inclusion{Seq: seq, Index: at, Leaf: leaf, Before: rep.Tree.clone(), After: &Range{Begin: at + 1, End: at + 1}})
	}
	if _, asked := slices.BinarySearch(v.Sizes, at+1); asked && len(rep.Inclusions) >= len(v.Prove) {
		rep.Included = at + 1
	}
}
