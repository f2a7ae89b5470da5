package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Selection chooses files in one directory and those below it.
type Selection interface {
	// Chooses reports whether the file of that name is chosen.
	Chooses(file string) bool
	// Enter returns the selection in the directory of that name; nil: no file there can be chosen.
	Enter(dir string) Selection
}

// A Gathering says which files of a working directory are handed back, and to whom.
type Gathering struct {
	Selection Selection
	BadName   func(path string) (reason string) // why a file of that path is left out; empty: it is not
	Files     int                               // the most files
	Within    time.Duration                     // for all of it
	Owner     *User                             // files of other users are left out; nil: they are not

	Room func() int64                                // how large the next file may be, in bytes
	Take func(path string, content []byte) (ok bool) // takes one file; false: there is no room for it
}

// Gathered says what Gather did not hand back, although it was chosen.
type Gathered struct {
	Left  []LeftOut // the first few
	Count int       // all of them
	Over  Overrun   // a bound of the Gathering; empty: none was reached
	Bytes int64     // size of all chosen files that could have been handed back
}

// A LeftOut is a file that was chosen and not handed back.
type LeftOut struct{ Path, Why string }

// An Overrun is a bound of a Gathering that was reached.
type Overrun string

// The bounds of a Gathering.
const (
	TooManyFiles Overrun = "files"
	TooManyBytes Overrun = "bytes"
	TooLong      Overrun = "time"
)

const (
	leftOutMost = 20      // that are named
	readPiece   = 1 << 20 // bytes between two looks at the clock
)

// Gather hands back files of the directory when the run, or a period of a Resident, has ended. The code has chosen what lies
// there, so Gather trusts nothing of it: it opens one name after the other, relative to the
// directory that it holds open, follows no link, enters no other file system, and reads regular
// files with one name only. (A second name could be that of a file outside, which the launcher's
// user can read and the code cannot.) A file that changes meanwhile is left out: a process that has
// survived the run could do that.
//
// Files are taken in the order of their paths, so that the same tree always gives the same.
func (w *Workdir) Gather(g Gathering) Gathered {
	var st unix.Stat_t
	if err := unix.Fstat(int(w.handle.Fd()), &st); err != nil {
		return Gathered{}
	}
	if st.Mode&0o500 != 0o500 { // the run has closed it to its own user
		unix.Fchmod(int(w.handle.Fd()), 0o700)
	}
	a := &gathering{Gathering: g, until: time.Now().Add(g.Within), dev: uint64(st.Dev)}
	top, err := openDir(int(w.handle.Fd()), ".", false)
	if err != nil {
		a.leaveOut(".", err.Error())
		return a.Gathered
	}
	defer unix.Close(top)
	a.walk(top, "", g.Selection)
	slices.Sort(a.chosen)
	gathered := map[inode]stamp{}
	for _, path := range a.chosen {
		if a.late() {
			a.leaveOut(path, "there was no time left to read it")
			continue
		}
		if st, ok := a.take(top, path); ok {
			gathered[inode{uint64(st.Dev), st.Ino}] = stamp{st.Size, st.Mtim}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gathered = gathered
	return a.Gathered
}

// A gathering is a Gather in progress.
type gathering struct {
	Gathering
	Gathered
	until   time.Time
	dev     uint64
	seen    int
	chosen  []string
	buffers buffers
}

func (g *gathering) leaveOut(path, why string) {
	if g.Count++; len(g.Left) < leftOutMost {
		g.Left = append(g.Left, LeftOut{path, why})
	}
}

func (g *gathering) over(why Overrun) { g.Over = cmp.Or(g.Over, why) }

func (g *gathering) late() bool {
	if time.Now().After(g.until) {
		g.over(TooLong)
		return true
	}
	return false
}

// walk lists the chosen files below a directory; base is its path, with a slash at the end.
func (g *gathering) walk(dir int, base string, s Selection) {
	l := entries{fd: dir, pool: &g.buffers}
	l.again()
	for {
		e, ok := l.read()
		if !ok {
			break
		}
		if g.seen++; g.seen > measureMost || g.seen%256 == 0 && g.late() {
			g.over(TooManyFiles)
			break
		}
		name, kind := e.text(), e.kind
		if kind == unix.DT_UNKNOWN {
			kind = kindOf(dir, name)
		}
		if kind == unix.DT_DIR {
			g.descend(dir, base, name, s)
			continue
		}
		if !s.Chooses(name) {
			continue
		}
		path := base + name
		switch why := g.BadName(path); {
		case why != "":
			g.leaveOut(path, why)
		case kind != unix.DT_REG:
			g.leaveOut(path, irregular(kind))
		case len(g.chosen) >= g.Files:
			g.over(TooManyFiles)
			g.leaveOut(path, fmt.Sprintf("there are more than %d files", g.Files))
		default:
			g.chosen = append(g.chosen, path)
		}
	}
	if l.buffer != nil {
		g.buffers = append(g.buffers, l.buffer)
	}
}

// descend walks a directory, if a file there can be chosen.
func (g *gathering) descend(parent int, base, name string, s Selection) {
	below := s.Enter(name)
	if below == nil {
		return
	}
	path := base + name
	if why := g.BadName(path + "/x"); why != "" { // bounds the depth, too
		g.leaveOut(path+"/", why)
		return
	}
	fd, err := openBeneath(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.EACCES {
		fd, err = openDir(parent, name, true)
	}
	if err != nil {
		g.leaveOut(path+"/", whyNot(err))
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || uint64(st.Dev) != g.dev {
		g.leaveOut(path+"/", whyNot(unix.EXDEV))
		return
	}
	g.walk(fd, path+"/", below)
}

// take reads one file and hands it over.
func (g *gathering) take(top int, path string) (st unix.Stat_t, ok bool) {
	content, st, why := g.read(top, path)
	switch {
	case why != "":
	case g.Take(path, content):
		return st, true
	default:
		g.over(TooManyBytes)
		why = noRoom(st.Size)
	}
	g.leaveOut(path, why)
	return st, false
}

func noRoom(size int64) string { return fmt.Sprintf("%d bytes, for which there is no room", size) }

// read returns the content of a file; why: it cannot be handed back.
func (g *gathering) read(top int, path string) (content []byte, before unix.Stat_t, why string) {
	fd, err := openPath(top, path)
	if err != nil {
		return nil, before, whyNot(err)
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &before); err != nil {
		return nil, before, whyNot(err)
	}
	switch {
	case before.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, before, "not a regular file any more"
	case uint64(before.Dev) != g.dev:
		return nil, before, whyNot(unix.EXDEV)
	case before.Nlink != 1:
		return nil, before, fmt.Sprintf("it has %d names (hard links), and another may lie elsewhere", before.Nlink)
	case g.Owner != nil && before.Uid != uint32(g.Owner.UID):
		return nil, before, "it belongs to another user"
	}
	g.Bytes += before.Size
	if before.Size > g.Room() {
		g.over(TooManyBytes)
		return nil, before, noRoom(before.Size)
	}
	content = make([]byte, 0, before.Size+1) // one more, to see that it has grown
	for n := 1; n > 0 && len(content) < cap(content); {
		rest := content[len(content):cap(content)]
		n, err = unix.Read(fd, rest[:min(len(rest), readPiece)])
		switch {
		case err == unix.EINTR:
			n = 1
			continue
		case err != nil:
			return nil, before, whyNot(err)
		case g.late():
			return nil, before, "there was no time left to read it"
		}
		content = content[:len(content)+n]
	}
	var after unix.Stat_t
	if unix.Fstat(fd, &after) != nil || int64(len(content)) != before.Size || after.Size != before.Size || after.Mtim != before.Mtim || after.Ctim != before.Ctim {
		return nil, before, "it changed while it was read"
	}
	return content, before, ""
}

// openPath opens a file below a directory, one name after the other.
func openPath(top int, path string) (int, error) {
	at := top
	for {
		name, rest, more := strings.Cut(path, "/")
		flags := unix.O_RDONLY
		if more {
			flags |= unix.O_DIRECTORY
		} else if kindOf(at, name) != unix.DT_REG { // to open a device can have effects
			name = ""
		}
		fd, err := -1, error(unix.ENOENT)
		if name != "" {
			fd, err = openBeneath(at, name, flags)
		}
		if at != top {
			unix.Close(at)
		}
		if err != nil || !more {
			return fd, err
		}
		at, path = fd, rest
	}
}

// kindOf is the kind of an entry, as in a directory: DT_REG and so on.
func kindOf(dir int, name string) byte {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return unix.DT_UNKNOWN
	}
	return byte(st.Mode & unix.S_IFMT >> 12) // IFTODT of dirent.h
}

func irregular(kind byte) string {
	switch kind {
	case unix.DT_LNK:
		return "a symbolic link"
	case unix.DT_FIFO:
		return "a named pipe"
	case unix.DT_SOCK:
		return "a socket"
	case unix.DT_CHR, unix.DT_BLK:
		return "a device"
	}
	return "not a regular file"
}

func whyNot(err error) string {
	switch err {
	case unix.EXDEV:
		return "it lies on another file system"
	case unix.ELOOP:
		return irregular(unix.DT_LNK)
	}
	return err.Error()
}
