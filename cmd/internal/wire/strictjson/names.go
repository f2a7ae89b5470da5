package strictjson

import (
	"hash/maphash"
	"slices"
)

// A nameTable finds a name that an object holds twice. Every name is hashed, under a random seed,
// so that no choice of names makes an object slow. Among few names the hash only saves most
// comparisons; many go into slots.
type nameTable struct {
	seen  [4]uint64  // a set of hashes modulo 256
	slots []nameSlot // a power of two of them, at most half in use
}

// A nameSlot keeps half of the hash beside the place, so that probing rarely leaves the table.
// place counts from 1.
type nameSlot struct{ hash, place uint32 }

const fewNames = 32

// addName reports whether the last of an object's names is new in it.
func (p *parser) addName(t *nameTable, names []string) bool {
	last := len(names) - 1
	hash := maphash.String(p.seed, names[last])
	if last < fewNames {
		word, bit := hash>>6&3, uint64(1)<<(hash&63)
		if t.seen[word]&bit != 0 && slices.Contains(names[:last], names[last]) {
			return false
		}
		t.seen[word] |= bit
		return true
	}
	if t.slots == nil {
		t.slots = make([]nameSlot, 4*fewNames)
		for i := range names[:last] {
			t.insert(names, i, uint32(maphash.String(p.seed, names[i])))
		}
	}
	if 2*len(names) > len(t.slots) {
		t.grow()
	}
	return t.insert(names, last, uint32(hash))
}

func (t *nameTable) insert(names []string, at int, hash uint32) bool {
	mask := uint32(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch s := t.slots[i]; {
		case s.place == 0:
			t.slots[i] = nameSlot{hash, uint32(at + 1)}
			return true
		case s.hash == hash && names[s.place-1] == names[at]:
			return false
		}
	}
}

func (t *nameTable) grow() {
	old := t.slots
	t.slots = make([]nameSlot, 2*len(old))
	mask := uint32(len(t.slots) - 1)
	for _, s := range old {
		if s.place != 0 {
			i := s.hash & mask
			for t.slots[i].place != 0 {
				i = (i + 1) & mask
			}
			t.slots[i] = s
		}
	}
}
