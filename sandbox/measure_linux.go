package sandbox

import (
	"cmp"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Contents is what was in a directory. Files are everything but directories, what Gather has handed
// over, and what Put has made, if the run has not changed it since.
type Contents struct {
	Files   int
	Names   []string // relative paths of the first few
	Bytes   int64    // allocated, each entry at least entryBytes
	AtLimit string   // path of a file that has exactly the size asked about, and was written up to it
	Short   bool     // there is more than this: a measuring is bounded in entries and in time
}

const (
	contentsNames = 5
	measureMost   = 1 << 20         // entries of one measuring
	measureTime   = time.Second     // of the one at the end
	lookTime      = 5 * time.Second // of one while the run lives
	linkedMost    = 1 << 16         // files with several names that are remembered; of further ones each name counts for its share
	fullMost      = 1 << 16         // files of the size asked about that are remembered; further ones are noted again
	entryBytes    = 4 << 10         // what an entry takes of a disk beside its contents: a flood of empty files is one too
)

// Measure walks the directory, and what the run has put beside it, as it is now. It follows no
// link. It notes a file of exactly atLimit bytes (0: none). A file with several names counts once.
// While the run lives, Measure skips what the run has closed to its own user, and notes a file of
// that size again only if it has changed since the last Measure; after the run (ended) modes are no
// obstacle.
func (w *Workdir) Measure(ended bool, atLimit int64) Contents {
	if !ended && w.stillEmpty() {
		return Contents{}
	}
	m := &measuring{ended: ended, atLimit: atLimit}
	began := time.Now()
	found := w.measure(m)
	w.noteEmpty(m, began)
	return found
}

// Used is what the directory takes of the disk while the run lives. It stops looking when that is
// more than most (0: it does not).
func (w *Workdir) Used(most int64) int64 {
	return w.measure(&measuring{most: most, halted: &w.halted}).Bytes
}

// free is the free space of the directory's file system, if the answer does not depend on another
// machine or process.
func (w *Workdir) free() (bytes int64, known bool) {
	var st unix.Statfs_t
	err := unix.Fstatfs(int(w.handle.Fd()), &st)
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC:
		return 0, false
	}
	return int64(st.Bfree) * st.Bsize, err == nil && st.Blocks > 0
}

func (w *Workdir) measure(m *measuring) Contents {
	within := lookTime
	if m.ended {
		within = measureTime
	}
	m.until = time.Now().Add(cmp.Or(m.within, within))
	m.linked = map[inode]bool{}
	from := w.handle
	w.mu.Lock()
	m.gathered, m.placed = w.gathered, make(map[inode]stamp, len(w.placed))
	for _, p := range w.placed {
		m.placed[p.inode] = p.stamp
	}
	if m.atLimit > 0 && !m.ended {
		m.noted, m.full = w.full, map[inode]stamp{}
	}
	if w.own && w.real != w.path { // the code may write beside its file, too
		from, m.base, m.ours = w.above, strings.TrimPrefix(w.real, w.top+"/"), w.ours
	}
	w.mu.Unlock()
	if fd, err := openDir(int(from.Fd()), ".", false); err == nil {
		m.walk(fd)
	}
	if m.full != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.full = m.full
	}
	return m.Contents
}

// A measuring is a walk through a tree. It needs little memory for a deep tree and none for a long
// directory: it counts the names of a directory as it reads them, and closes a directory that has
// no more names before it enters the last one. For what is left to do above it keeps a few words a
// level; only the lowest levels keep a descriptor.
type measuring struct {
	Contents
	ended    bool
	atLimit  int64
	most     int64         // bytes after which it stops; 0: it does not
	within   time.Duration // 0: lookTime or measureTime
	until    time.Time
	halted   *atomic.Bool // the run has ended; nil: it had before
	seen     int
	linked   map[inode]bool // files that have further names
	base     string         // path of the working directory, when the walk begins above it
	ours     []inode        // what the launcher has made there
	placed   map[inode]stamp
	gathered map[inode]stamp
	noted    map[inode]stamp // of the size asked about, at the last measuring
	full     map[inode]stamp // the same, at this one; nil: nobody asks again
	path     []byte          // of the lowest level
	levels   []level
	buffers  buffers
	room     [2]lastChange
	entered  []lastChange // the first directories of the walk, before they were read
	many     bool         // there were more
	whole    bool         // the walk came to its end
}

// A level is a directory that has more entries than were looked at, or the lowest one.
type level struct {
	inode
	up     int   // levels to the level above
	next   int64 // where its reading goes on
	length int   // of its path; -1: too long to be kept
	entries
}

// name is the path of an entry of the lowest level.
func (m *measuring) name(l *level, name string) string {
	if l.length < 0 {
		return filepath.Join("...", name)
	}
	path := filepath.Join(strings.TrimPrefix(string(m.path[:l.length]), "/"), name)
	if m.base == "" {
		return path
	}
	if below, ok := strings.CutPrefix(path, m.base+"/"); ok {
		return below
	}
	return strings.Repeat("../", strings.Count(m.base, "/")+1) + path
}

// walk measures the directory that is open at top, and closes it.
func (m *measuring) walk(top int) {
	defer func() {
		for _, l := range m.levels {
			l.close()
		}
	}()
	m.enter(top, 1, 0)
	defer func() { m.whole = !m.Short }()
	for len(m.levels) > 0 {
		l := &m.levels[len(m.levels)-1]
		e, ok := l.read()
		if !ok {
			m.leave()
			continue
		}
		if m.seen++; m.seen > measureMost || m.most > 0 && m.Bytes > m.most || m.seen%256 == 0 && m.late() {
			m.Short = true
			return
		}
		l.next = e.next
		if e.kind == unix.DT_DIR || e.kind == unix.DT_UNKNOWN {
			if m.descend(l, e) {
				continue
			}
		}
		m.count(l, e)
	}
}

func (m *measuring) late() bool {
	return m.halted != nil && m.halted.Load() || time.Now().After(m.until)
}

// descend enters a directory; false: it is none.
func (m *measuring) descend(l *level, e entry) bool {
	fd, err := openEntry(l.fd, e.name)
	if m.ended && err == unix.EACCES {
		fd, err = openDir(l.fd, e.text(), true)
	}
	if err != nil {
		if e.kind == unix.DT_DIR {
			m.Bytes += entryBytes
		}
		return e.kind == unix.DT_DIR
	}
	length := -1
	if name := e.text(); l.length >= 0 && l.length+1+len(name) <= unix.PathMax {
		m.path = append(append(m.path[:l.length], '/'), name...)
		length = len(m.path)
	}
	up := 1
	if !l.more() { // nothing is left to do here
		up += l.up
		l.close()
		m.levels = m.levels[:len(m.levels)-1]
	}
	m.enter(fd, up, length)
	return true
}

// enter makes a directory the lowest level.
func (m *measuring) enter(fd, up, length int) {
	var st unix.Stat_t
	unix.Fstat(fd, &st)
	if len(m.entered) < len(m.room) {
		m.room[len(m.entered)] = lastChange{inode{uint64(st.Dev), st.Ino}, st.Ctim}
		m.entered = m.room[:len(m.entered)+1]
	} else {
		m.many = true
	}
	if m.ended && st.Mode&0o500 != 0o500 {
		unix.Fchmod(fd, 0o700)
	}
	if length != 0 && !slices.Contains(m.ours, inode{uint64(st.Dev), st.Ino}) { // not the working directory itself
		m.Bytes += max(st.Blocks*512, entryBytes)
	}
	if n := len(m.levels) - levelsOpen; n > 0 { // not the first: there is always a way back to that
		m.levels[n].close()
	}
	m.levels = append(m.levels, level{inode: inode{uint64(st.Dev), st.Ino}, up: up, length: length, entries: entries{fd: fd, pool: &m.buffers}})
}

// leave goes back to the level above. If that was closed meanwhile, it is found from below; not any
// more, when the run has moved something: then what is left to do there is left out.
func (m *measuring) leave() {
	n := len(m.levels) - 1
	left := m.levels[n]
	m.levels = m.levels[:n]
	defer left.close()
	if n == 0 || m.levels[n-1].fd >= 0 {
		return
	}
	l, fd := &m.levels[n-1], above(left.fd, left.up)
	var st unix.Stat_t
	if fd >= 0 && unix.Fstat(fd, &st) == nil && l.inode == (inode{uint64(st.Dev), st.Ino}) {
		unix.Seek(fd, l.next, 0)
		l.entries = entries{fd: fd, pool: &m.buffers}
		return
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	m.Short = true
	for m.levels[len(m.levels)-1].fd < 0 {
		m.levels = m.levels[:len(m.levels)-1]
	}
}

// above opens the directory so many levels above another; -1: there is no way to it.
func above(fd, up int) int {
	const most = 1000 // ".." in one path
	for at := fd; ; {
		next, err := openDir(at, strings.Repeat("../", min(up, most)), false)
		if at != fd {
			unix.Close(at)
		}
		if err != nil {
			return -1
		}
		if at, up = next, up-most; up <= 0 {
			return at
		}
	}
}

// count adds an entry that is no directory.
func (m *measuring) count(l *level, e entry) {
	var st unix.Statx_t
	const want = unix.STATX_TYPE | unix.STATX_NLINK | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_BLOCKS | unix.STATX_MTIME
	if _, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(l.fd), uintptr(unsafe.Pointer(e.name)), unix.AT_SYMLINK_NOFOLLOW, want, uintptr(unsafe.Pointer(&st)), 0); errno != 0 {
		return
	}
	if len(m.ours) > 0 && slices.Contains(m.ours, inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}) {
		return
	}
	m.note(l, e, &st)
	blocks := int64(st.Blocks)
	if st.Nlink > 1 {
		switch id := (inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}); {
		case m.linked[id]:
			blocks = 0
		case len(m.linked) < linkedMost:
			m.linked[id] = true
		default:
			blocks /= int64(st.Nlink)
		}
	}
	m.Bytes += max(blocks*512, entryBytes)
}

// note counts a file whose content is lost with the directory, and keeps its path if that is of use.
func (m *measuring) note(l *level, e entry, st *unix.Statx_t) {
	id := inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
	now := stamp{int64(st.Size), unix.Timespec{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)}}
	if put, ok := m.placed[id]; ok && put == now {
		return
	}
	handed, ok := m.gathered[id]
	lost := !ok || handed != now
	if lost {
		m.Files++
	}
	atLimit := m.atLimit > 0 && int64(st.Size) == m.atLimit && st.Mode&unix.S_IFMT == unix.S_IFREG && !endsInHole(l.fd, e.text(), int64(st.Size))
	if atLimit && m.full != nil {
		atLimit = m.noted[id] != now
		if len(m.full) < fullMost {
			m.full[id] = now
		}
	}
	if lost && len(m.Names) < contentsNames || atLimit {
		path := m.name(l, e.text())
		if lost && len(m.Names) < contentsNames {
			m.Names = append(m.Names, path)
		}
		if atLimit {
			m.AtLimit = path
		}
	}
}

const (
	levelsOpen = 64      // of a walk that keep a descriptor
	readAtOnce = 4 << 10 // bytes of a directory
)

// entries are those of an open directory, read bit by bit.
type entries struct {
	fd      int // -1: it is not open
	pool    *buffers
	buffer  []byte
	at, end int
}

// buffers are those that no directory uses.
type buffers [][]byte

func (b *buffers) get() []byte {
	n := len(*b) - 1
	if n < 0 {
		return make([]byte, readAtOnce)
	}
	buffer := (*b)[n]
	*b = (*b)[:n]
	return buffer
}

// An entry is a name in a directory. It stands until the next one is read.
type entry struct {
	name *byte // with a zero byte at its end
	next int64
	kind byte // DT_DIR and so on; DT_UNKNOWN: the file system does not tell
}

func (e entry) text() string { return strings.Clone(unix.BytePtrToString(e.name)) }

// more tells whether there are further entries.
func (d *entries) more() bool {
	for {
		for d.at < d.end {
			record := d.buffer[d.at:d.end]
			if name := record[19:]; name[0] != '.' || name[1] != 0 && (name[1] != '.' || name[2] != 0) {
				return true
			}
			d.at += int(binary.NativeEndian.Uint16(record[16:]))
		}
		if d.buffer == nil {
			d.buffer = d.pool.get()
		}
		n, err := unix.Getdents(d.fd, d.buffer)
		if d.at, d.end = 0, max(0, n); n <= 0 || err != nil {
			d.end = 0
			return false
		}
	}
}

// read gives the next entry: struct linux_dirent64, getdents64(2).
func (d *entries) read() (e entry, ok bool) {
	if !d.more() {
		return e, false
	}
	record := d.buffer[d.at:d.end]
	d.at += int(binary.NativeEndian.Uint16(record[16:]))
	return entry{name: &record[19], next: int64(binary.NativeEndian.Uint64(record[8:])), kind: record[18]}, true
}

// again begins at the first entry.
func (d *entries) again() {
	unix.Seek(d.fd, 0, 0)
	d.at, d.end = 0, 0
}

func (d *entries) close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	if d.buffer != nil {
		*d.pool = append(*d.pool, d.buffer)
	}
	*d = entries{fd: -1}
}

// openEntry opens a directory by an entry of another, following no link.
func openEntry(parent int, name *byte) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(parent), uintptr(unsafe.Pointer(name)), flags, 0, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
