package sandbox

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Workdir is the directory of one run and the files beside it. It is made exclusively, held open, and removed with whatever the run made of it.
//
// All runs of a gateway are one operating-system user's, and modes do not keep them apart. So the directory really lies in one
// closed place beside its path, and a mount namespace shows it at its path while it covers the place:
//
//	/tmp/.py3run-UID/              the place, 0700, covered inside
//	/tmp/.py3run-UID/NAME          the directory
//	/tmp/.py3run-UID/NAME.py       a file beside it
//	/tmp/.py3run-UID/NAME.run      held locked while the launcher lives: what to sweep when it died (see Sweep)
//	/tmp/NAME, /tmp/NAME.py        empty, to mount these on
//
// Without a mount namespace Settle moves them to their paths.
type Workdir struct {
	path    string   // where the run finds the directory
	real    string   // where it is: in the place, or path
	files   []string // suffixes of files beside it
	place   string
	handle  *os.File // of the directory itself, wherever it is moved
	lock    *os.File // of the run's entry in the place; nil: there is no usable place
	private error    // why the directory is not in the place; nil: it is
	keep    bool
	stands  []standing // what was made at the paths to mount on, in the order of "" and files; only of a private one
}

// An inode is a file by its numbers.
type inode struct{ dev, ino uint64 }

// A standing is a file by its numbers, which another one gets when it is gone, and by its birth, where the file system knows that.
type standing struct {
	major, minor uint32
	ino          uint64
	born         unix.StatxTimestamp
}

func standingAt(path string) (standing, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st)
	return standing{st.Dev_major, st.Dev_minor, st.Ino, st.Btime}, err
}

// errShared: nobody asked for a directory that other runs do not see.
var errShared = errors.New("not asked for")

// MakeWorkdir makes path, which must not exist, with mode 0700; private asks for one that other runs cannot see. Parents are made
// if they are missing. keep is for a directory that stays after the run.
func MakeWorkdir(path string, private, keep bool) (*Workdir, error) {
	parent := filepath.Dir(path)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, &StepError{Step: "mkdir", Object: parent, Err: cause(err)}
	}
	w := &Workdir{path: path, real: path, place: placeIn(parent), private: errShared, keep: keep}
	if err := w.enter(private); err != nil {
		w.private = err
	} else if private {
		w.private, w.real = nil, filepath.Join(w.place, filepath.Base(path))
	}
	if err := unix.Mkdir(path, 0o700); err != nil {
		w.leave()
		return nil, &StepError{Step: "mkdir", Object: path, Err: err}
	}
	err := error(nil)
	if w.private == nil {
		err = unix.Mkdir(w.real, 0o700)
	}
	fd := -1
	if err == nil {
		fd, err = unix.Open(w.real, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		os.Remove(w.real)
		os.Remove(path)
		w.leave()
		return nil, &StepError{Step: "mkdir", Object: w.real, Err: err}
	}
	w.handle = os.NewFile(uintptr(fd), w.real)
	if w.private == nil {
		w.stand("")
	}
	return w, nil
}

// Path is where the run finds the directory.
func (w *Workdir) Path() string { return w.path }

// AddFile makes a file beside the directory, at its path with a suffix such as ".py". It must not exist: nobody can have put a link there.
func (w *Workdir) AddFile(suffix string, data []byte) error {
	paths := []string{w.path + suffix}
	if w.private == nil {
		paths = append(paths, w.real+suffix)
	}
	w.files = append(w.files, suffix)
	for i, path := range paths {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			if path == w.path+suffix && errors.Is(err, unix.EEXIST) {
				w.files = w.files[:len(w.files)-1] // not ours to remove
			}
			return &StepError{Step: "create", Object: path, Err: cause(err)}
		}
		if path == w.real+suffix {
			_, err = f.Write(data)
		}
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return &StepError{Step: "write", Object: path, Err: cause(err)}
		}
		if i == 0 && w.private == nil {
			w.stand(suffix)
		}
	}
	return nil
}

// stand notes what was made to mount a private directory or file on.
func (w *Workdir) stand(suffix string) {
	s, _ := standingAt(w.path + suffix)
	w.stands = append(w.stands, s)
}

// stood tells whether this is still at the path of the n-th name, of which the directory is the first.
func (w *Workdir) stood(n int, path string) bool {
	if n >= len(w.stands) {
		return true
	}
	s, err := standingAt(path)
	return err == nil && s == w.stands[n]
}

// Lost is a path of a private directory or file that somebody outside has removed or replaced: the kernel then takes away what the run had mounted
// there. Empty: none.
func (w *Workdir) Lost() string {
	for n, suffix := range append([]string{""}, w.files...) {
		if !w.stood(n, w.path+suffix) {
			return w.path + suffix
		}
	}
	return ""
}

// Chown gives the directory and its files to another user.
func (w *Workdir) Chown(u User) error {
	paths := []string{w.real}
	for _, suffix := range w.files {
		paths = append(paths, w.real+suffix)
	}
	for _, path := range paths {
		if err := unix.Lchown(path, u.UID, u.GID); err != nil {
			return &StepError{Step: "chown", Object: path, Err: err}
		}
	}
	return nil
}

// Settle moves a private directory and its files to their paths, for whoever has no mount namespace to see them there.
func (w *Workdir) Settle() error {
	if w.real == w.path {
		return nil
	}
	w.note("settled")
	for _, suffix := range append([]string{""}, w.files...) {
		if err := unix.Rename(w.real+suffix, w.path+suffix); err != nil {
			return &StepError{Step: "rename", Object: w.path + suffix, Err: err}
		}
	}
	w.real, w.stands = w.path, nil
	return nil
}

// Contents is what was in a directory: files are everything but directories.
type Contents struct {
	Files   int
	Names   []string // relative paths of the first few
	Bytes   int64    // allocated, each entry at least entryBytes
	AtLimit string   // path of a file that has exactly the size asked about, and was written up to it
}

const (
	contentsNames = 5
	measureMost   = 1 << 20 // entries of one measuring; a larger tree is reported by its size so far
	entryBytes    = 4 << 10 // what an entry takes of a disk beside its contents: a flood of empty files is one too
	measureOpen   = 64      // levels that keep a descriptor open while those below are walked
)

// Measure walks the directory as it is now, following no link; a file of exactly atLimit bytes (0: none) is remarked on. A file with several
// names counts once. While the run lives, what it has closed to its own user is passed over; after it (ended) modes are no obstacle.
func (w *Workdir) Measure(ended bool, atLimit int64) Contents {
	m := &measuring{ended: ended, atLimit: atLimit, linked: map[inode]bool{}}
	if fd, err := openDir(int(w.handle.Fd()), ".", false); err == nil {
		if fd = m.walk(fd, "", 0); fd >= 0 {
			unix.Close(fd)
		}
	}
	return m.Contents
}

type measuring struct {
	Contents
	ended   bool
	atLimit int64
	seen    int
	linked  map[inode]bool // files that have further names
	buffer  [8 << 10]byte
}

// count adds one entry of a directory, and tells whether that is a directory itself.
func (m *measuring) count(fd int, rel, name string) (isDir bool) {
	var st unix.Stat_t
	if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		m.Bytes += max(st.Blocks*512, entryBytes)
		return true
	}
	path := filepath.Join(rel, name)
	m.note(path)
	if m.atLimit > 0 && st.Size == m.atLimit && st.Mode&unix.S_IFMT == unix.S_IFREG && !endsInHole(fd, name, st.Size) {
		m.AtLimit = path
	}
	if st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if m.linked[id] {
			st.Blocks = 0
		}
		m.linked[id] = true
	}
	m.Bytes += max(st.Blocks*512, entryBytes)
	return false
}

// walk measures a directory, whose path ends with rel, and gives its descriptor back: where levels are many it was closed and opened again from
// below. -1 says that this failed, because the run has moved something meanwhile.
func (m *measuring) walk(fd int, rel string, depth int) int {
	var here unix.Stat_t
	unix.Fstat(fd, &here)
	var below []string
	for {
		n, err := unix.ReadDirent(fd, m.buffer[:])
		if n <= 0 || err != nil {
			break
		}
		_, _, names := unix.ParseDirent(m.buffer[:n], -1, nil)
		for _, name := range names {
			if m.seen++; m.seen > measureMost {
				return fd
			}
			if m.count(fd, rel, name) {
				below = append(below, name)
			}
		}
	}
	for _, name := range below {
		sub, err := openDir(fd, name, m.ended)
		if err != nil {
			continue
		}
		if depth >= measureOpen {
			unix.Close(fd)
			fd = -1
		}
		path := filepath.Join(rel, name)
		if len(path) > unix.PathMax {
			path = filepath.Join("...", name)
		}
		sub = m.walk(sub, path, depth+1)
		if fd < 0 && sub >= 0 {
			var back unix.Stat_t
			if fd, err = openDir(sub, "..", false); err == nil && (unix.Fstat(fd, &back) != nil || back.Ino != here.Ino || back.Dev != here.Dev) {
				unix.Close(fd)
				fd = -1
			}
		}
		if sub >= 0 {
			unix.Close(sub)
		}
		if fd < 0 {
			return -1
		}
	}
	return fd
}

func (c *Contents) note(path string) {
	c.Files++
	if len(c.Names) < contentsNames {
		c.Names = append(c.Names, path)
	}
}

// Remove removes the directory and everything in it, whatever its modes and depth, wherever the run has moved it, and
// what the run has put in its place. It follows no link and does not enter other file systems mounted below.
func (w *Workdir) Remove() error {
	var errs []error
	if !w.standsAt(w.real) || unix.Rmdir(w.real) != nil { // empty, as after most runs
		errs = append(errs, empty(int(w.handle.Fd())), w.removeEntry())
	}
	w.handle.Close()
	for n, suffix := range append([]string{""}, w.files...) {
		errs = append(errs, removePath(w.real+suffix))
		if w.real != w.path && w.stood(n, w.path+suffix) { // else it is somebody else's
			errs = append(errs, removePath(w.path+suffix))
		}
	}
	w.leave()
	return errors.Join(errs...)
}

// Close lets go of the directory and leaves it at its path; the files beside it are removed.
func (w *Workdir) Close() error {
	err := w.Settle()
	w.handle.Close()
	for _, suffix := range w.files {
		os.Remove(w.path + suffix)
	}
	w.leave()
	return err
}

// removeEntry removes the directory's own name, which the kernel knows even after a rename.
func (w *Workdir) removeEntry() error {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(w.handle.Fd())))
	if err != nil {
		path = w.real // no /proc: it is where it was, or it is not found
	}
	if !w.standsAt(path) {
		return nil // gone (then " (deleted)" follows the name), or moved again by nobody we know
	}
	if err := unix.Rmdir(path); err != nil && err != unix.ENOENT {
		return &StepError{Step: "rmdir", Object: path, Err: err}
	}
	return nil
}

// standsAt tells whether path leads to this very directory.
func (w *Workdir) standsAt(path string) bool {
	var ours, named unix.Stat_t
	return unix.Fstat(int(w.handle.Fd()), &ours) == nil && unix.Lstat(path, &named) == nil &&
		named.Dev == ours.Dev && named.Ino == ours.Ino
}

// removePath removes what stands at the template's path after the directory itself is gone: nothing, as a rule.
func removePath(path string) error {
	parent, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // the parent is gone, and the path with it
	}
	defer unix.Close(parent)
	name := filepath.Base(path)
	switch err := unix.Unlinkat(parent, name, 0); err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM:
	default:
		return &StepError{Step: "unlink", Object: path, Err: err}
	}
	fd, err := openDir(parent, name, true)
	if err != nil {
		return &StepError{Step: "open", Object: path, Err: err}
	}
	defer unix.Close(fd)
	if err := empty(fd); err != nil {
		return err
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil {
		return &StepError{Step: "rmdir", Object: path, Err: err}
	}
	return nil
}

// empty removes everything in a directory. Depth costs nothing: a directory found inside another is first moved up to
// the top, so that at most two are open at a time and no path is ever longer than a name.
func empty(top int) error {
	var here unix.Stat_t
	if err := unix.Fstat(top, &here); err != nil {
		return &StepError{Step: "stat", Object: "working directory", Err: err}
	}
	unix.Fchmod(top, 0o700)
	for moved := 0; ; {
		names, err := list(top)
		if errors.Is(err, unix.ENOENT) {
			return nil // the run has removed it itself
		}
		if err != nil {
			return &StepError{Step: "readdir", Object: "working directory", Err: err}
		}
		if len(names) == 0 {
			return nil
		}
		var failed error // of this pass; it counts only if the pass got nowhere
		progress := false
		done := func(step, name string, err error) bool {
			if err == nil {
				progress = true
			} else if failed == nil {
				failed = &StepError{Step: step, Object: strconv.Quote(name), Err: err}
			}
			return err == nil
		}
		for _, name := range names {
			var st unix.Stat_t
			if unix.Fstatat(top, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				done("unlink", name, unix.Unlinkat(top, name, 0))
				continue
			}
			if st.Dev != here.Dev {
				done("rmdir", name, unix.EBUSY) // a mount: what is below is not ours
				continue
			}
			fd, err := openDir(top, name, true)
			if err != nil {
				done("open", name, err)
				continue
			}
			inner, err := list(fd)
			if err != nil {
				done("readdir", name, err)
			}
			for _, child := range inner {
				err := unix.Unlinkat(fd, child, 0)
				if err == unix.EISDIR || err == unix.EPERM {
					if sub, e := openDir(fd, child, true); e == nil { // a directory is moved only with a mode that lets its ".." change
						unix.Close(sub)
					}
					moved++
					err = unix.Renameat2(fd, child, top, "py3run-removing-"+strconv.Itoa(moved), unix.RENAME_NOREPLACE)
				}
				done("unlink", child, err)
			}
			unix.Close(fd)
			done("rmdir", name, unix.Unlinkat(top, name, unix.AT_REMOVEDIR))
		}
		if !progress {
			return failed
		}
	}
}

// openDir opens a directory below another, following no link; with force, whatever its mode was.
func openDir(parent int, name string, force bool) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	handle, err := unix.Openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(handle)
	if force { // by the handle: the name could be a link by now
		unix.Fchmodat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(handle), 0o700, 0)
	}
	return unix.Openat(handle, ".", flags, 0)
}

// list reads all names of a directory from its start.
func list(fd int) ([]string, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(again), ".")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err == io.EOF {
		err = nil
	}
	return names, err
}

// cause is the errno of a wrapped path error, whose step and path the StepError names already.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
