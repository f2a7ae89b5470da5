package sandbox

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"py3run/sandbox/seccomp"
)

// How much is read of a program's arguments.
const (
	argsMost = 16  // arguments after argv[0]
	argMost  = 300 // characters of each

	argsCounted = 1 << 15 // more arguments are not even counted
)

// A sighting is what could be read of one call.
type sighting struct {
	kind     seccomp.Kind
	tid      int
	peers    []Peer
	datagram bool   // a connect, of a UDP socket
	socket   socket // that socket
	start    *Execution
	from     uint64 // address of the instruction that made the call
	fileUses []fileUse
}

// A socket is a descriptor of a thread: its path in /proc, and the target of the link there.
type socket struct {
	path, is string
}

// open tells whether the descriptor is still the same socket.
func (s socket) open() bool {
	if s.is == "" {
		return false
	}
	is, _ := os.Readlink(s.path)
	return is == s.is
}

// look reads what a call is about. Only the record relies on it, because the memory can change
// before the kernel reads it.
func (t *recorder) look() sighting {
	n := &t.notice
	s := sighting{tid: int(n.tid), from: n.instruction}
	if kind := seccomp.Files(n.arch, uint32(n.number)); kind != seccomp.Nothing {
		s.noteFiles(t, kind, n.arg)
		return s
	}
	s.kind = seccomp.Watched(n.arch, uint32(n.number))
	word := 8
	if n.arch == unix.AUDIT_ARCH_I386 || n.arch == unix.AUDIT_ARCH_ARM {
		word = 4
	}
	arg := n.arg
	if s.kind == seccomp.SocketCall {
		s.kind = seccomp.Within(arg[0])
		words, err := t.read(arg[1], 6*word)
		if err != nil && len(words) == 0 {
			return sighting{}
		}
		arg = [6]uint64{}
		for i := range len(words) / word {
			arg[i] = unsigned(words[i*word:], word)
		}
	}
	switch s.kind {
	case seccomp.Connect, seccomp.Bind:
		s.peer(t, arg[0], arg[1], arg[2])
		if s.kind == seccomp.Connect && len(s.peers) > 0 && !strings.HasPrefix(s.peers[0].Host, "unix:") && strings.HasPrefix(t.protocol(arg[0]), "UDP") {
			s.datagram, s.socket = true, socket{t.path(descriptorOf(arg[0])), t.link(descriptorOf(arg[0]))}
		}
	case seccomp.SendTo:
		s.peer(t, arg[0], arg[4], arg[5])
	case seccomp.SendMsg:
		s.header(t, arg[0], arg[1], 1, word)
	case seccomp.SendMMsg:
		s.header(t, arg[0], arg[1], arg[2], word)
	case seccomp.Listen: // which binds a socket that is not bound
		s.kind = seccomp.Bind
		if host := t.unbound(arg[0]); host != "" {
			s.peers = append(s.peers, Peer{Host: host})
		}
	case seccomp.Exec:
		s.started(t, "", arg[0], arg[1], word)
	case seccomp.ExecAt:
		s.started(t, t.link(descriptorOf(arg[0])), arg[1], arg[2], word)
	case seccomp.MakeNode:
		s.made(t.named(here, arg[0], false))
	case seccomp.MakeNodeAt:
		s.made(t.named(arg[0], arg[1], false))
	}
	if len(s.peers) > 0 {
		program := t.link("/exe")
		if !t.known {
			t.own, _ = os.Readlink("/proc/" + strconv.Itoa(t.program()) + "/exe")
			t.known = true
		}
		if program == t.own || t.own == "" {
			program = ""
		}
		for i := range s.peers {
			s.peers[i].Program = program
			if s.kind != seccomp.Bind {
				t.found.hold(s.tid, s.peers[i])
			}
		}
	}
	return s
}

// unreadable stands for an address or a program in memory that the launcher may not read.
const unreadable = "?"

func (s *sighting) peer(t *recorder, fd, at, size uint64) {
	address, err := t.read(at, int(min(size, unix.SizeofSockaddrAny)))
	switch {
	case err == unix.EFAULT: // the kernel cannot read it either
	case err != nil:
		s.peers = append(s.peers, Peer{Host: unreadable})
	default:
		// An IPv4 socket takes an address without a family as an IPv4 address, except in connect,
		// which removes the peer.
		if len(address) >= 8 && binary.NativeEndian.Uint16(address) == unix.AF_UNSPEC && s.kind != seccomp.Connect && inet4(t.protocol(fd)) {
			binary.NativeEndian.PutUint16(address, unix.AF_INET)
		}
		p := peerOf(address)
		if name, local := strings.CutPrefix(p.Host, "unix:"); p.Host != "" && !(local && s.kind != seccomp.Bind && nameService(name)) {
			s.peers = append(s.peers, p)
		}
	}
}

// header reads the addresses in one or more struct msghdr, or mmsghdr, which is longer.
func (s *sighting) header(t *recorder, fd, at, count uint64, word int) {
	const most = 1024 // UIO_MAXIOV
	var lastName, lastSize uint64
	for i := range min(count, most) {
		h, err := t.read(at+i*uint64(8*word), word+4)
		if len(h) < word+4 {
			if err != unix.EFAULT {
				s.peers = append(s.peers, Peer{Host: unreadable})
			}
			return
		}
		name, size := unsigned(h, word), unsigned(h[word:], 4)
		if name != 0 && size != 0 && (name != lastName || size != lastSize) {
			s.peer(t, fd, name, size)
		}
		lastName, lastSize = name, size
	}
}

func (s *sighting) started(t *recorder, dir string, name, argv uint64, word int) {
	program, err := t.text(name, unix.PathMax)
	if err != nil {
		if err != unix.EFAULT {
			s.start = &Execution{Program: unreadable}
		}
		return
	}
	switch {
	case program == "": // AT_EMPTY_PATH
		program = dir
	case dir != "" && !path.IsAbs(program):
		program = dir + "/" + program
	}
	s.start = &Execution{Program: program}
	addresses, count := t.pointers(argv, word)
	for i, a := range addresses {
		if i > 0 { // not argv[0]
			arg, _ := t.text(a, 4*(argMost+1))
			kept := cut(arg)
			if len(kept) < len(arg) {
				s.start.ArgsCut++
			}
			s.start.Args = append(s.start.Args, kept)
		}
	}
	s.start.ArgsDropped = count - len(addresses)
}

// pointers reads the first pointers of a list that ends with a null pointer, and counts all.
func (t *recorder) pointers(at uint64, word int) (first []uint64, count int) {
	for size := (argsMost + 1) * word; count < argsCounted; size = len(t.page) { // for most lists one read is enough
		page, _ := t.read(at, size)
		for i := range len(page) / word {
			a := unsigned(page[i*word:], word)
			if a == 0 {
				return first, count
			}
			if count++; count <= argsMost+1 {
				first = append(first, a)
			}
		}
		if len(page) < size {
			break
		}
		at += uint64(size)
	}
	return first, count
}

// cut keeps the first characters of an argument.
func cut(arg string) string {
	if len(arg) <= argMost {
		return arg
	}
	n := 0
	for i := range arg {
		if n++; n > argMost {
			return arg[:i]
		}
	}
	return arg
}

// made notes a pipe, a socket or a device that is made, also below /dev.
func (s *sighting) made(name string) {
	if name != "" {
		s.fileUses = append(s.fileUses, fileUse{wrote, name})
	}
}

// unsigned reads an unsigned number of four or eight bytes.
func unsigned(b []byte, size int) uint64 {
	if size == 4 {
		return uint64(binary.NativeEndian.Uint32(b))
	}
	return binary.NativeEndian.Uint64(b)
}

// read copies from the process's memory, as far as it is mapped. The result is valid until the next read.
func (t *recorder) read(at uint64, size int) ([]byte, error) {
	size = min(size, len(t.page))
	if size <= 0 {
		return nil, nil
	}
	// The kernel skips a part that it cannot read as a whole, so no part crosses a page boundary.
	first := min(size, int(4096-at%4096))
	local := unix.Iovec{Base: &t.page[0], Len: uint64(size)}
	remote := []unix.RemoteIovec{{Base: uintptr(at), Len: first}, {Base: uintptr(at) + uintptr(first), Len: size - first}}
	n, err := unix.ProcessVMReadv(int(t.notice.tid), []unix.Iovec{local}, remote, 0)
	if err != nil {
		return nil, err
	}
	return t.page[:n], nil
}

// text reads a string, at most so many bytes of it.
func (t *recorder) text(at uint64, most int) (string, error) {
	b, err := t.read(at, most)
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b), err
}

// path is the path of a file in /proc about the process.
func (t *recorder) path(name string) string { return "/proc/" + strconv.Itoa(int(t.notice.tid)) + name }

// descriptorOf is the name of a descriptor there.
func descriptorOf(fd uint64) string { return "/fd/" + strconv.Itoa(int(int32(fd))) }

// link reads a link in /proc about the process.
func (t *recorder) link(name string) string {
	target, _ := os.Readlink(t.path(name))
	return target
}

// protocol is the kernel's name of a socket's protocol; empty if it is not known.
func (t *recorder) protocol(fd uint64) string {
	var name [32]byte
	n, _ := unix.Getxattr(t.path(descriptorOf(fd)), "system.sockprotoname", name[:])
	return strings.TrimRight(string(name[:max(0, n)]), "\x00")
}

// inet4 tells whether a socket of a protocol may have IPv4 addresses only.
func inet4(protocol string) bool {
	return slices.Contains([]string{"", "UDP", "UDP-Lite", "RAW", "TCP", "MPTCP", "SCTP", "DCCP"}, protocol)
}

// unbound is the address of a socket that listens without having been bound: the kernel binds it to
// all addresses of its family. It is empty for other sockets.
func (t *recorder) unbound(fd uint64) string {
	status, err := os.ReadFile(t.path("/status"))
	if err != nil {
		return unreadable
	}
	_, rest, _ := bytes.Cut(status, []byte("\nTgid:\t"))
	number, _, _ := bytes.Cut(rest, []byte("\n"))
	pid, _ := strconv.Atoi(string(number))
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return unreadable
	}
	defer unix.Close(process)
	copied, err := unix.PidfdGetfd(process, int(int32(fd)), 0)
	if err == unix.EBADF {
		return ""
	} else if err != nil {
		return unreadable
	}
	defer unix.Close(copied)
	switch name, _ := unix.Getsockname(copied); name := name.(type) {
	case *unix.SockaddrInet4:
		if name.Port == 0 {
			return netip.IPv4Unspecified().String()
		}
	case *unix.SockaddrInet6:
		if name.Port == 0 {
			return netip.IPv6Unspecified().String()
		}
	}
	return ""
}
