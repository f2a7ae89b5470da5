package sandbox

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"py3run/sandbox/seccomp"
)

// How much the activity of one run may hold; the rest is only counted.
const (
	activityMost = 4000    // distinct addresses, and distinct programs with their arguments
	activityRoom = 1 << 20 // bytes of text
)

// A tally adds up the calls of a run.
type tally struct {
	peers   [2]peers // connects and sends; binds
	starts  []Execution
	startAt map[string]int // in starts, by program and arguments
	recent  []recent
	lookups []lookup
	files   [operations]names
	rings   int
	dropped int
	room    int

	fileRoom, filesDropped int
}

func newTally() tally {
	return tally{startAt: map[string]int{}, room: activityRoom, fileRoom: activityRoom}
}

// activity is the sum, at the end.
func (t *tally) activity(refused int64) Activity {
	for _, l := range t.lookups {
		t.flush(l)
	}
	found := Activity{Connections: t.peers[0].list, Binds: t.peers[1].list, Written: t.files[wrote].list, Removed: t.files[removed].list, DirsMade: t.files[madeDir].list, Read: t.files[read].list, FilesDropped: t.filesDropped,
		Rings: t.rings, Dropped: t.dropped, RefusedMemory: refused}
	for _, s := range t.starts {
		if s.Count > 0 {
			found.Executions = append(found.Executions, s)
		}
	}
	return found
}

// take adds a call.
func (t *tally) take(s sighting) {
	switch {
	case s.kind == seccomp.Ring:
		t.rings++
	case s.kind == seccomp.Bind:
		for _, p := range s.peers {
			t.add(1, p)
		}
	case s.start != nil:
		t.addStart(s.tid, s.from, *s.start)
	case len(s.fileUses) > 0:
		for _, f := range s.fileUses {
			t.addFile(f)
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

// peers are the distinct addresses, in the order in which they came.
type peers struct {
	list []Peer
	at   map[Peer]int // in list; the key's count is 0
}

func (t *tally) add(which int, p Peer) {
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

// names are the distinct files, in the order in which they came.
type names struct {
	list  []string
	known map[string]struct{}
}

func (t *tally) addFile(f fileUse) {
	set := &t.files[f.did]
	if _, known := set.known[f.path]; known {
		return
	}
	if len(set.list) >= activityMost || len(f.path) > t.fileRoom {
		t.filesDropped++
		return
	}
	t.fileRoom -= len(f.path)
	if set.known == nil {
		set.known = map[string]struct{}{}
	}
	set.known[f.path] = struct{}{}
	set.list = append(set.list, f.path)
}

// fits tells whether there is room for one more, and counts it as dropped if not.
func (t *tally) fits(have, size int) bool {
	if have >= activityMost || size > t.room {
		t.dropped++
		return false
	}
	t.room -= size
	return true
}

// A recent is a start after which the same process may try another directory of PATH.
type recent struct {
	tid  int
	from uint64
	at   int // in starts
}

const recentMost = 64

// addStart counts a start. A process that looks a program up in PATH tries to start it in one
// directory after the other. Of such attempts, by one process, from one address in its memory and
// with the same arguments, only the last counts. After a successful start the address differs,
// because the kernel chooses addresses anew.
func (t *tally) addStart(tid int, from uint64, s Execution) {
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

// A lookup is a series of connects of UDP sockets to one port by one thread. Such a connect sends
// nothing. The C library makes them to the addresses of a name, to find out in which order to give
// them to a program (getaddrinfo, RFC 6724). The program then connects to the first address, and
// nobody has tried to reach the others. But programs also connect UDP sockets to send. If a socket
// is still open when the next call comes, it is not the C library's: the C library closes each
// socket, or uses one for all addresses.
type lookup struct {
	tid    int
	socket socket // the last one
	kept   bool   // it was open when a call came that would end the series
	peers  []Peer
}

const lookupsMost = 16

// maybe notes a connect of a UDP socket. It counts unless reached finds that it belongs to a lookup.
func (t *tally) maybe(tid int, by socket, p Peer) {
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
		if !again || sends || len(l.peers) == 1 { // otherwise this is the first address of a name, which is now used
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

// reached drops the lookup to which a connect belongs.
func (t *tally) reached(p Peer) {
	t.lookups = slices.DeleteFunc(t.lookups, func(l lookup) bool { return !l.kept && len(l.peers) > 1 && slices.Contains(l.peers, p) })
}

// hold notes, for each lookup that a connect may end, whether its socket is still open. The process
// of the connect waits meanwhile.
func (t *tally) hold(tid int, p Peer) {
	for i := range t.lookups {
		if l := &t.lookups[i]; l.tid == tid || slices.Contains(l.peers, p) {
			l.kept = l.socket.open()
		}
	}
}

func (t *tally) flush(l lookup) {
	for _, p := range l.peers {
		t.add(0, p)
	}
}
