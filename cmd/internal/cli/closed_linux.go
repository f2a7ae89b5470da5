//go:build !cgo && (amd64 || arm64)

package cli

// The Go runtime opens the null device in place of a standard stream that is closed, long before
// the program could look (runtime/fds_unix.go). After that, nothing distinguishes the stream from
// one that the caller has opened on the null device. But the runtime asks for memory before that,
// through a hook that cgo uses to call the C library. Here the hook looks at the descriptors, once.

// closed has one bit for each of the first three descriptors: it was closed.
var closed uint32

// firstMmap is the value of the runtime's variable _cgo_mmap. It looks at the descriptors, removes
// itself from the variable, and asks the kernel for the memory.
func firstMmap()

var _ = firstMmap // only the assembly uses it

// Closed reports whether a standard stream was closed when the program started.
func Closed(fd int) bool { return closed>>fd&1 == 1 }
