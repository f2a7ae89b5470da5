package seccomp

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// A Kind of watched call says where in its arguments the address or the program is.
type Kind uint8

// The kinds, with their arguments.
const (
	Nothing    Kind = iota // not watched
	Connect                // descriptor, address, its length
	Bind                   // the same
	SendTo                 // descriptor, data, its length, flags, address, its length
	SendMsg                // descriptor, header with the address, flags
	SendMMsg               // descriptor, headers, how many, flags
	Exec                   // path, argv, envp
	ExecAt                 // directory, path, argv, envp, flags
	SocketCall             // which of the first five, its arguments (i386)
	Ring                   // of io_uring
	Listen                 // descriptor
	MakeNode               // path, mode, device
	MakeNodeAt             // directory, path, mode, device
)

// watched are the calls by which a process reaches out of itself: to an address, or into another
// program. A send without an address is not among them, nor is any other call on what is open
// already; but listen binds a socket that is not bound. Of the calls on files only those are watched
// here that Python has no audit event for, and that are rare; [Files] has the others. The numbers are
// from the same tables as those of the denied calls.
var watched = [...]struct {
	call
	kind Kind
}{
	{call{"connect", 42, 362, 203, 283}, Connect},
	{call{"bind", 49, 361, 200, 282}, Bind},
	{call{"sendto", 44, 369, 206, 290}, SendTo},
	{call{"sendmsg", 46, 370, 211, 296}, SendMsg},
	{call{"sendmmsg", 307, 345, 269, 374}, SendMMsg},
	{call{"execve", 59, 11, 221, 11}, Exec},
	{call{"execveat", 322, 358, 281, 387}, ExecAt},
	{call{"socketcall", 0, 102, 0, 0}, SocketCall},
	{call{"io_uring_setup", 425, 425, 425, 425}, Ring},
	{call{"listen", 50, 363, 201, 284}, Listen},
	{call{"mknod", 133, 14, 0, 14}, MakeNode},
	{call{"mknodat", 259, 297, 33, 324}, MakeNodeAt},
}

// Watched is the kind of a call about which a filter of [Watch] has asked.
func Watched(arch, number uint32) Kind {
	for _, w := range watched {
		if n := w.number(arch); n != 0 && n == number {
			return w.kind
		}
	}
	return Nothing
}

// Within is the kind of a call through socketcall, by its first argument.
func Within(number uint64) Kind {
	switch number { // linux/net.h
	case 2:
		return Bind
	case 3:
		return Connect
	case 11:
		return SendTo
	case 16:
		return SendMsg
	case 20:
		return SendMMsg
	}
	return Nothing
}

// Watch returns the program of a second filter, which asks its listener (SECCOMP_RET_USER_NOTIF)
// about the watched calls and allows everything else. A listener is there to look, not to decide:
// between what it reads and what the kernel does, memory can change.
//
// A call of sendmsg or execve whose sixth argument, which it does not have, is the nonce is allowed
// at once: so whoever installs the filter can hand the listener over and start the program, before
// anybody listens. It has to be one that no program guesses.
func Watch(nonce uint64, also Also) []unix.SockFilter {
	return watch(entries[runtime.GOARCH], nonce, also)
}

// Also says what else a filter of [Watch] asks about.
type Also struct {
	Memory bool // the calls that [Grows] tells
	Files  bool // those that [Files] tells; of the opens, those that write
	Reads  bool // the other opens too
}

const notify = unix.SECCOMP_RET_USER_NOTIF

func watch(arches []uint32, nonce uint64, also Also) []unix.SockFilter {
	return assemble(arches, func(arch uint32) []unix.SockFilter {
		var branches []branch
		if also.Memory && arch == arches[0] {
			branches = growth(arch)
		}
		if also.Files {
			branches = append(branches, fileCalls(arch, also.Reads)...)
		}
		for _, w := range watched {
			code := []unix.SockFilter{end(notify)}
			switch own := arch == arches[0]; {
			case w.kind == SendTo: // with an address
				code = []unix.SockFilter{load(low(4)), equal(0, 0, 2), load(high(4)), equal(0, 1, 0), end(notify), end(allow)}
			case own && (w.kind == SendMsg || w.kind == Exec):
				code = []unix.SockFilter{load(low(5)), equal(uint32(nonce), 0, 3), load(high(5)), equal(uint32(nonce>>32), 0, 1), end(allow), end(notify)}
			case w.kind == SocketCall:
				code = []unix.SockFilter{load(low(0))}
				for number := range uint32(32) {
					if Within(uint64(number)) != Nothing {
						code = append(code, equal(number, 0, 1), end(notify))
					}
				}
				code = append(code, end(allow))
			}
			if n := w.number(arch); n != 0 {
				branches = append(branches, branch{n, code})
			}
		}
		return tree(branches)
	})
}

// low and high are the offsets of an argument's halves in struct seccomp_data. All architectures
// here are little-endian.
func low(argument uint32) uint32  { return 16 + 8*argument }
func high(argument uint32) uint32 { return low(argument) + 4 }

func equal(k uint32, holds, not uint8) unix.SockFilter { return compare(unix.BPF_JEQ, k, holds, not) }
