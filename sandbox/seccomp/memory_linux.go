package seccomp

import "golang.org/x/sys/unix"

// The kinds of calls that [Grows] knows. They are apart from those of [Watched]: a filter asks
// about them only if nothing else shows that memory was refused.
const (
	Map   Kind = 100 + iota // address, size, protection, flags, descriptor, offset
	Remap                   // address, old size, new size, flags, new address
)

// Least is the size, in bytes, from which on a private writable mapping is asked about. A limit
// that refuses a smaller one is nearly reached, which shows by itself.
const Least = 16 << 20

// growing are the calls by which a process gets memory in large pieces, by their numbers in the
// machine's own architecture.
var growing = [...]struct {
	call
	kind Kind
}{
	{call{"mmap", 9, 0, 222, 0}, Map},
	{call{"mremap", 25, 0, 216, 0}, Remap},
}

// Grows is the kind of a call about which a filter of [Watch] has asked, beside those that are
// Watched.
func Grows(arch, number uint32) Kind {
	for _, g := range growing {
		if n := g.number(arch); n != 0 && n == number {
			return g.kind
		}
	}
	return Nothing
}

// growth are the branches for these calls.
func growth(arch uint32) (branches []branch) {
	for _, g := range growing {
		n := g.number(arch)
		if n == 0 {
			continue
		}
		size, code := uint32(1), []unix.SockFilter{
			load(low(2)), compare(unix.BPF_JSET, unix.PROT_WRITE, 0, 7), load(low(3)), compare(unix.BPF_JSET, unix.MAP_PRIVATE, 0, 5)}
		if g.kind == Remap {
			size, code = 2, nil
		}
		code = append(code, load(high(size)), equal(0, 0, 2), load(low(size)), compare(unix.BPF_JGE, Least, 0, 1), end(notify), end(allow))
		branches = append(branches, branch{n, code})
	}
	return branches
}
