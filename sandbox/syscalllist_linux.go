package sandbox

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// syscallList writes lists of calls as protocol_linux.go has it.
func (b *builder) syscallList(c *childInit, lists ...[]op) []byte {
	regions := append(slices.Clone(b.regions), region{data: c.rights[:]})
	calls := 0
	for _, list := range lists {
		calls += len(list)
	}
	relocations := 0
	for _, r := range regions {
		if r.pointers {
			relocations += len(r.data) / 8
		}
	}
	// Where a region goes. Only as many relocations are used as there are pointers; the rest of
	// their room stays zero.
	at := 8 * (listHead + len(lists) + callWords*calls + relocations)
	first := at
	offsets := map[uint64]uint64{} // by address
	for _, r := range regions {
		if len(r.data) > 0 {
			offsets[uint64(uintptr(unsafe.Pointer(unsafe.SliceData(r.data))))] = uint64(at)
		}
		at += (len(r.data) + 15) &^ 7
	}
	list := make([]byte, 0, at)
	word := func(v uint64) { list = binary.NativeEndian.AppendUint64(list, v) }
	word(uint64(len(lists)))
	word(0)
	word(offsets[uint64(uintptr(unsafe.Pointer(&c.rights[0])))])
	word(uint64(first))
	for _, list := range lists {
		word(uint64(len(list)))
	}
	for _, list := range lists {
		for _, o := range list {
			word(uint64(o.nr))
			pointers := uint64(0)
			for i, arg := range o.arg {
				// No other argument looks like an address: numbers are smaller, or negative, and
				// the nonce is random.
				offset, is := offsets[uint64(arg)]
				if is {
					pointers |= 1 << i
					arg = uintptr(offset)
				}
				word(uint64(arg))
			}
			word(uint64(o.step)<<8 | uint64(o.mode))
			word(pointers)
		}
	}
	table := len(list)
	list = list[:first]
	n := uint64(0)
	for _, r := range regions {
		start := len(list)
		list = append(list, r.data...)
		list = append(list, make([]byte, (len(r.data)+15)&^7-len(r.data))...)
		for i := 0; r.pointers && i+8 <= len(r.data); i += 8 {
			if offset, is := offsets[binary.NativeEndian.Uint64(r.data[i:])]; is {
				binary.NativeEndian.PutUint64(list[start+i:], offset)
				binary.NativeEndian.PutUint64(list[table+8*int(n):], uint64(start+i))
				n++
			}
		}
	}
	binary.NativeEndian.PutUint64(list[8:], n)
	return list
}
