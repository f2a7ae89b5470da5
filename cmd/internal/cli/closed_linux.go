//go:build !cgo && (amd64 || arm64)

package cli

// The runtime opens the null device in the place of a standard stream that is closed, long before
// the program could ask (runtime/fds_unix.go), and then nothing tells such a stream from one that
// the caller has opened so. The first time that the runtime asks for memory comes earlier. It can
// be told to ask elsewhere, which the C library of a program with cgo does; here it is told so
// once.

// closed has a bit for each of the first three descriptors that was closed.
var closed uint32

// firstMmap has the address of the runtime's variable _cgo_mmap: it looks at the descriptors, makes
// itself forgotten, and asks the kernel for the memory.
func firstMmap()

var _ = firstMmap // which only the assembly names

// Closed tells whether a standard stream was closed when the program started.
func Closed(fd int) bool { return closed>>fd&1 == 1 }
