package sandbox

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestSyscallList reads a list as the template does (runtime/syscalls.py) and finds every call with what it points to.
func TestSyscallList(t *testing.T) {
	t.Parallel()
	c, b := &childInit{}, &builder{}
	var first, second []op
	b.list = &first
	b.add(must, step{name: "chdir"}, unix.SYS_CHDIR, b.text("/somewhere"))
	b.add(optional, step{name: "close"}, unix.SYS_CLOSE, 7)
	b.list = &second
	b.install(toSend, step{name: "seccomp"}, []unix.SockFilter{{Code: 6, K: 0x7fff0000}, {Code: 6, K: 1}}, 4)
	b.add(ifPrev, step{name: "vector"}, unix.SYS_EXECVE, b.text("/bin/true"), b.vector([]string{"true", "x"}), ^uintptr(99))
	empty := []byte{}
	b.add(must, step{name: "empty"}, unix.SYS_SETGROUPS, 0, b.bytes(empty))
	list := b.syscallList(c, first, second, nil)

	word := func(at uint64) uint64 { return binary.NativeEndian.Uint64(list[at:]) }
	text := func(at uint64) string {
		n := slices.Index(list[at:], 0)
		return string(list[at:][:n])
	}
	if n := word(0); n != 3 {
		t.Fatalf("%d lists, want 3", n)
	}
	sizes := []uint64{word(32), word(40), word(48)}
	if !slices.Equal(sizes, []uint64{2, 3, 0}) {
		t.Fatalf("lists of %d calls, want 2, 3 and none", sizes)
	}
	call := func(i uint64) (nr uint64, args [6]uint64, mode, pointers uint64) {
		at := 56 + 72*i
		for j := range args {
			args[j] = word(at + 8 + 8*uint64(j))
		}
		return word(at), args, word(at + 56), word(at + 64)
	}
	if nr, args, mode, pointers := call(0); nr != unix.SYS_CHDIR || pointers != 1 || text(args[0]) != "/somewhere" || mode != 0 {
		t.Errorf("chdir: call %d, pointers %b, %q, mode %#x", nr, pointers, text(args[0]), mode)
	}
	if nr, args, mode, pointers := call(1); nr != unix.SYS_CLOSE || pointers != 0 || args[0] != 7 || mode != 1<<8|optional {
		t.Errorf("close: call %d, pointers %b, %v, mode %#x", nr, pointers, args, mode)
	}
	relocated := map[uint64]bool{}
	for i := range word(8) {
		relocated[word(56+72*5+8*i)] = true
	}
	_, args, mode, pointers := call(2)
	program := args[2]
	if pointers != 1<<2 || mode != 2<<8|toSend || binary.NativeEndian.Uint16(list[program:]) != 2 || !relocated[program+8] {
		t.Fatalf("seccomp: pointers %b, mode %#x, program % x, relocated %v", pointers, mode, list[program:program+16], relocated)
	}
	if filter := word(program + 8); binary.NativeEndian.Uint32(list[filter+12:]) != 1 {
		t.Errorf("filter: % x", list[filter:filter+16])
	}
	_, args, _, pointers = call(3)
	if pointers != 1<<0|1<<1 || text(args[0]) != "/bin/true" || int64(args[2]) != -100 {
		t.Errorf("execve: pointers %b, %q, %d", pointers, text(args[0]), int64(args[2]))
	}
	for i, want := range []string{"true", "x"} {
		at := args[1] + 8*uint64(i)
		if !relocated[at] || text(word(at)) != want {
			t.Errorf("vector %d: relocated %t, %q", i, relocated[at], text(word(at)))
		}
	}
	if end := args[1] + 16; word(end) != 0 || relocated[end] {
		t.Errorf("the vector ends with %#x", word(end))
	}
	if rights := word(16); len(list) < int(rights)+int(unsafe.Sizeof(c.rights)) || rights < word(24) {
		t.Errorf("rights at %d of %d bytes", rights, len(list))
	}
}
