package startup

import (
	"syscall"
	"unsafe"
)

// Where the linker has put the program.
//
//go:linkname text runtime.text
//go:linkname noptrdata runtime.noptrdata
var text, noptrdata byte

var allocated *[2 * page]byte // on the heap

const page = 4096

// Each page costs a fault when it is first used: a tenth of a microsecond on a processor of its own, ten and more in a virtual machine. A short run uses most of
// these, and to ask for all of them at once takes less than a tenth of that. Kernels before 5.14 do not know how, which changes nothing.
func askForPages(heap uintptr) {
	allocated = new([2 * page]byte)
	next := uintptr(unsafe.Pointer(allocated)) // the runtime goes on from about there
	allocated = nil
	populate(next, next+heap, populateWrite)
	populate(uintptr(unsafe.Pointer(&text)), uintptr(unsafe.Pointer(&noptrdata)), populateRead)
}

const populateRead, populateWrite = 22, 23 // MADV_POPULATE_*, madvise(2)

func populate(from, to, advice uintptr) {
	from &^= page - 1
	syscall.RawSyscall(syscall.SYS_MADVISE, from, to-from, advice)
}

// Grow makes room for n more bytes behind b, at least twice what it has. The pages of large rooms are asked for at once.
func Grow(b []byte, n int) []byte {
	const large = 1 << 18 // less lies in what init has asked for, as a rule
	if cap(b)-len(b) >= n {
		return b
	}
	grown := append(make([]byte, 0, max(len(b)+n, 2*cap(b))), b...)
	if cap(grown) >= large {
		start := uintptr(unsafe.Pointer(unsafe.SliceData(grown)))
		populate(start, start+uintptr(cap(grown)), populateWrite)
	}
	return grown
}
