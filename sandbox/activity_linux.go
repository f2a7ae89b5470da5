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
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"py3run/sandbox/seccomp"
)

// A recorder is the listener of the second filter (package seccomp). A process that makes a watched call waits while the recorder reads from its
// memory what the call is about, and then goes on: the answer is always that the kernel shall do what was asked.
//
//	process                      recorder
//	connect(2) ── notification ─► RECV
//	   waits                      reads the address
//	   goes on ◄───── continue ── SEND
//	                              takes it down, if the process was still there
//
// It serves one call after the other, in a goroutine that sleeps in the runtime's poller: no thread is kept for it. Were the listener closed
// while a process is left, that process's calls would fail with ENOSYS: it is closed only when all have ended, or with the launcher.
type recorder struct {
	listener *os.File
	program  func() int // the process id of the program
	done     chan struct{}
	started  bool

	notice notice
	answer answer
	page   [4096]byte

	own     string // path of the program itself, once it was looked at
	known   bool
	peers   [2]peers // connects and sends; binds
	starts  []Execution
	startAt map[string]int // in starts, by program and arguments
	recent  []recent
	lookups []lookup
	files   []string
	rings   int
	dropped int
	room    int

	refusals refusals
}

// What one run's trail has room for; the rest is counted.
const (
	activityMost = 4000    // distinct addresses, and distinct programs with their arguments
	activityRoom = 1 << 20 // bytes of text

	argsMost = 16  // of a program's arguments
	argMost  = 300 // characters of each

	argsCounted = 1 << 15 // arguments that are counted at most
)

// notice and answer are struct seccomp_notif and struct seccomp_notif_resp.
type notice struct {
	id          uint64
	tid         uint32 // in the launcher's pid namespace
	flags       uint32
	number      int32
	arch        uint32
	instruction uint64
	arg         [6]uint64
}

type answer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// A sighting is one call, as far as it could be read.
type sighting struct {
	kind     seccomp.Kind
	tid      int
	peers    []Peer
	datagram bool   // the socket of a connect
	socket   socket // the same
	start    *Execution
	from     uint64 // address of the instruction that made the call
	file     string
}

// A socket is one that a thread has, by its descriptor and what /proc says that this is.
type socket struct {
	path, is string
}

// open tells whether its descriptor is still what it was.
func (s socket) open() bool {
	if s.is == "" {
		return false
	}
	is, _ := os.Readlink(s.path)
	return is == s.is
}

func newRecorder(listener int, program func() int) (*recorder, error) {
	if err := unix.SetNonblock(listener, true); err != nil { // so that the runtime polls it; the calls on it do not mind
		unix.Close(listener)
		return nil, err
	}
	// Whoever is woken runs where the other begins to wait (from Linux 6.6 on): to wake an idle processor takes several times as long.
	unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	t := &recorder{listener: os.NewFile(uintptr(listener), "seccomp listener"), program: program, done: make(chan struct{}), startAt: map[string]int{}, room: activityRoom}
	if err := t.listener.SetReadDeadline(time.Time{}); err != nil { // not polled: it would serve nobody
		t.listener.Close()
		return nil, err
	}
	return t, nil
}

// start begins to answer. Until then processes wait with what they want to do.
func (t *recorder) start(spawn func(do, done func())) {
	t.started = true
	spawn(t.serve, func() { close(t.done) })
}

// finish ends the activity of a tree that has ended and gives what it has found.
func (t *recorder) finish() Activity {
	if !t.started { // nobody has asked anything
		close(t.done)
	}
	t.listener.SetReadDeadline(time.Now())
	select {
	case <-t.done:
		t.listener.Close()
	case <-time.After(drainWait): // it reads memory of a process that cannot be killed, or such processes go on calling
		return Activity{Dropped: 1}
	}
	for _, l := range t.lookups {
		t.flush(l)
	}
	found := Activity{Connections: t.peers[0].list, Binds: t.peers[1].list, Files: t.files, Rings: t.rings, Dropped: t.dropped, Refused: t.refusals.most}
	for _, s := range t.starts {
		if s.Count > 0 {
			found.Executions = append(found.Executions, s)
		}
	}
	return found
}

// serve answers until no process is left under the filter, or the listener is closed.
func (t *recorder) serve() {
	raw, err := t.listener.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(fd uintptr) bool {
		for { // to the last: the poller tells of what is new only
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(p, 0); err == unix.EINTR {
				continue
			} else if err != nil || n > 0 && p[0].Revents&unix.POLLIN == 0 {
				return true
			} else if n == 0 {
				return false
			}
			t.next(fd)
		}
	})
}

// next takes one notification, reads what it is about, and lets the process go on.
func (t *recorder) next(fd uintptr) {
	t.notice = notice{} // as the kernel wants it
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&t.notice))); errno != 0 {
		return // its process was killed, or interrupted
	}
	wanted := t.refusals.weigh(&t.notice)
	seen := t.look()
	t.answer = answer{id: t.notice.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&t.answer))); errno != 0 {
		return // likewise; what was read may be another process's, which has its number now
	}
	t.take(seen)
	t.refusals.most = max(t.refusals.most, wanted)
}

// look reads what a call is about. Nothing of it is believed but by the record: it can change before the kernel reads it again.
func (t *recorder) look() sighting {
	n := &t.notice
	s := sighting{kind: seccomp.Watched(n.arch, uint32(n.number)), tid: int(n.tid), from: n.instruction}
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
		s.made(t, "/cwd", arg[0])
	case seccomp.MakeNodeAt:
		dir := "/cwd"
		if int32(arg[0]) != unix.AT_FDCWD {
			dir = descriptorOf(arg[0])
		}
		s.made(t, dir, arg[1])
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
				t.hold(s.tid, s.peers[i])
			}
		}
	}
	return s
}

// unreadable stands for an address or a program in memory that this user may not read.
const unreadable = "?"

func (s *sighting) peer(t *recorder, fd, at, size uint64) {
	address, err := t.read(at, int(min(size, unix.SizeofSockaddrAny)))
	switch {
	case err == unix.EFAULT: // the kernel will not find it either
	case err != nil:
		s.peers = append(s.peers, Peer{Host: unreadable})
	default:
		// An IPv4 socket takes an address of no family for its own: only connect takes one back by it.
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

// pointers reads the first of a list of pointers that ends with a null pointer, and counts them.
func (t *recorder) pointers(at uint64, word int) (first []uint64, count int) {
	for size := (argsMost + 1) * word; count < argsCounted; size = len(t.page) { // of most lists one look is enough
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

// made reads the path of a pipe, a socket or a device that is made, below dir if it is relative.
func (s *sighting) made(t *recorder, dir string, at uint64) {
	name, err := t.text(at, unix.PathMax)
	switch {
	case err == unix.EFAULT || err == nil && name == "":
	case err != nil:
		s.file = unreadable
	case path.IsAbs(name):
		s.file = name
	default:
		s.file = t.link(dir) + "/" + name
	}
}

// unsigned reads an unsigned number of four or eight bytes.
func unsigned(b []byte, size int) uint64 {
	if size == 4 {
		return uint64(binary.NativeEndian.Uint32(b))
	}
	return binary.NativeEndian.Uint64(b)
}

// read copies from the process's memory, as much as there is of it. What is returned stands until the next read.
func (t *recorder) read(at uint64, size int) ([]byte, error) {
	size = min(size, len(t.page))
	if size <= 0 {
		return nil, nil
	}
	// A part that cannot be read is left out as a whole: so no part goes over the border of a page.
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

// path is that of something in /proc about the process.
func (t *recorder) path(name string) string { return "/proc/" + strconv.Itoa(int(t.notice.tid)) + name }

// descriptorOf is a descriptor's name there.
func descriptorOf(fd uint64) string { return "/fd/" + strconv.Itoa(int(int32(fd))) }

// link reads a link of /proc about the process.
func (t *recorder) link(name string) string {
	target, _ := os.Readlink(t.path(name))
	return target
}

// protocol is the kernel's name for that of a socket; empty if it is not to be had.
func (t *recorder) protocol(fd uint64) string {
	var name [32]byte
	n, _ := unix.Getxattr(t.path(descriptorOf(fd)), "system.sockprotoname", name[:])
	return strings.TrimRight(string(name[:max(0, n)]), "\x00")
}

// inet4 tells whether a socket of a protocol may have IPv4 addresses only.
func inet4(protocol string) bool {
	return slices.Contains([]string{"", "UDP", "UDP-Lite", "RAW", "TCP", "MPTCP", "SCTP", "DCCP"}, protocol)
}

// unbound gives the addresses at which a socket will be reached when it listens without having been bound: all of its family. It is
// empty for other sockets.
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

// peerOf reads a socket address. A host is empty where nothing is reached: an address taken back, the kernel's own families.
func peerOf(a []byte) Peer {
	if len(a) < 2 {
		return Peer{}
	}
	switch family := binary.NativeEndian.Uint16(a); {
	case family == unix.AF_INET && len(a) >= 8:
		return Peer{Host: netip.AddrFrom4([4]byte(a[4:])).String(), Port: int(binary.BigEndian.Uint16(a[2:]))}
	case family == unix.AF_INET6 && len(a) >= 24:
		return Peer{Host: netip.AddrFrom16([16]byte(a[8:])).String(), Port: int(binary.BigEndian.Uint16(a[2:]))}
	case family == unix.AF_UNIX && len(a) > 2:
		name := string(a[2:])
		if name[0] == 0 {
			return Peer{Host: "unix:@" + name[1:]}
		}
		name, _, _ = strings.Cut(name, "\x00")
		return Peer{Host: "unix:" + name}
	case family == unix.AF_UNSPEC, family == unix.AF_UNIX, family == unix.AF_NETLINK, family == unix.AF_ALG, family == unix.AF_INET, family == unix.AF_INET6:
		return Peer{}
	default:
		return Peer{Host: "family:" + strconv.Itoa(int(family))}
	}
}

// nameService tells whether a socket is one that the C library looks names up by.
func nameService(socket string) bool {
	socket = path.Clean(socket)
	if slices.Contains([]string{"/var/run/nscd/socket", "/run/nscd/socket"}, socket) {
		return true
	}
	return slices.Contains([]string{"/run/systemd/resolve", "/run/systemd/userdb"}, path.Dir(socket)) && strings.HasPrefix(path.Base(socket), "io.systemd.")
}

// take adds a call to what was found.
func (t *recorder) take(s sighting) {
	switch {
	case s.kind == seccomp.Ring:
		t.rings++
	case s.kind == seccomp.Bind:
		for _, p := range s.peers {
			t.add(1, p)
		}
	case s.start != nil:
		t.addStart(s.tid, s.from, *s.start)
	case s.file != "":
		if !slices.Contains(t.files, s.file) && t.fits(len(t.files), len(s.file)) {
			t.files = append(t.files, s.file)
		}
	case s.datagram:
		t.maybe(s.tid, s.socket, s.peers[0])
	default:
		for _, p := range s.peers {
			t.reached(p)
			t.add(0, p)
		}
	}
}

// peers are the distinct ones, in the order in which they came.
type peers struct {
	list []Peer
	at   map[Peer]int // in list; the key's count is 0
}

func (t *recorder) add(which int, p Peer) {
	set := &t.peers[which]
	if i, ok := set.at[p]; ok {
		set.list[i].Count++
		return
	}
	if !t.fits(len(set.list), len(p.Host)+len(p.Program)) {
		return
	}
	if set.at == nil {
		set.at = map[Peer]int{}
	}
	set.at[p] = len(set.list)
	p.Count = 1
	set.list = append(set.list, p)
}

// fits tells whether there is room for one more, and counts it as dropped if not.
func (t *recorder) fits(have, size int) bool {
	if have >= activityMost || size > t.room {
		t.dropped++
		return false
	}
	t.room -= size
	return true
}

// A recent start may be followed by another attempt at it.
type recent struct {
	tid  int
	from uint64
	at   int // in starts
}

const recentMost = 64

// addStart counts a start. Whoever looks a program up in PATH tries to start it in one directory after the other: of such
// attempts, by one process at one place in its memory and with the same arguments, only the last counts. A program that was started
// has its code at another place than the one that started it, because the kernel chooses it anew each time.
func (t *recorder) addStart(tid int, from uint64, s Execution) {
	before := slices.IndexFunc(t.recent, func(r recent) bool { return r.tid == tid })
	if before >= 0 {
		if old := &t.starts[t.recent[before].at]; t.recent[before].from == from && path.Base(old.Program) == path.Base(s.Program) && slices.Equal(old.Args, s.Args) {
			old.Count--
		}
		t.recent = slices.Delete(t.recent, before, before+1)
	}
	key := strings.Join(append([]string{s.Program, strconv.Itoa(s.ArgsDropped), strconv.Itoa(s.ArgsCut)}, s.Args...), "\x00")
	i, ok := t.startAt[key]
	if !ok {
		if !t.fits(len(t.starts), len(key)) {
			return
		}
		i = len(t.starts)
		t.startAt[key] = i
		t.starts = append(t.starts, s)
	}
	t.starts[i].Count++
	if len(t.recent) == recentMost {
		t.recent = slices.Delete(t.recent, 0, 1)
	}
	t.recent = append(t.recent, recent{tid, from, i})
}

// A lookup is a series of connects of UDP sockets to one port by one thread. Such a connect sends nothing. The C library makes them to the
// addresses of a name, to find out in which order to give them to a program (RFC 6724, getaddrinfo), and the program then connects to the
// first: then nobody has tried to reach the others. But programs also connect UDP sockets to send: a socket that is still open when the next call
// comes is not one of the C library's, which closes them or uses one for all addresses.
type lookup struct {
	tid    int
	socket socket // the last one
	kept   bool   // it was open when a call came that would end the series
	peers  []Peer
}

const lookupsMost = 16

// maybe takes down a connect of a UDP socket, which counts unless reached finds out better.
func (t *recorder) maybe(tid int, by socket, p Peer) {
	if p.Port == 0 { // nothing can be sent there: a lookup of a name without a service
		return
	}
	i := slices.IndexFunc(t.lookups, func(l lookup) bool { return l.tid == tid })
	if i >= 0 {
		l := &t.lookups[i]
		again, sends := slices.Contains(l.peers, p), l.kept && l.socket != by
		if !again && !sends && l.peers[0].Port == p.Port && len(l.peers) < 64 {
			l.socket, l.kept, l.peers = by, false, append(l.peers, p)
			return
		}
		if !again || sends || len(l.peers) == 1 { // else it is the first address of a name, now for use
			t.flush(*l)
		}
		t.lookups = slices.Delete(t.lookups, i, i+1)
	}
	if len(t.lookups) == lookupsMost {
		t.flush(t.lookups[0])
		t.lookups = slices.Delete(t.lookups, 0, 1)
	}
	t.lookups = append(t.lookups, lookup{tid: tid, socket: by, peers: []Peer{p}})
}

// reached drops the lookup that a connect comes from.
func (t *recorder) reached(p Peer) {
	t.lookups = slices.DeleteFunc(t.lookups, func(l lookup) bool { return !l.kept && len(l.peers) > 1 && slices.Contains(l.peers, p) })
}

// hold looks which sockets are open of the lookups that a connect may end, while its process waits.
func (t *recorder) hold(tid int, p Peer) {
	for i := range t.lookups {
		if l := &t.lookups[i]; l.tid == tid || slices.Contains(l.peers, p) {
			l.kept = l.socket.open()
		}
	}
}

func (t *recorder) flush(l lookup) {
	for _, p := range l.peers {
		t.add(0, p)
	}
}

// activityMeasure is its name among the measures.
const activityMeasure = "native-trail"

// waitKillable is the flag with which a process that waits for the answer is interrupted only by what kills it, if the kernel has it (from 5.19
// on): it looks at flags before it looks at the program, and there is none.
var waitKillable = sync.OnceValue(func() uintptr {
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0); errno == unix.EFAULT {
		return unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	return 0
})
