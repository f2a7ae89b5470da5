package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Dir says which directory a run gets.
type Dir struct {
	Path string // where the run finds it; it must not exist
	// Root is the directory above Path that all runs with the same configuration share; empty: the
	// parent of Path. If py3run has made it, a run sees only its own things in it.
	Root    string
	Private bool // other runs cannot see it
	Keep    bool // it stays after the run
}

// A Workdir is the directory of one run and the files beside it. It must not exist before; the
// launcher holds it open, and removes it with everything that the run has made of it.
//
// All runs of a gateway belong to one user of the operating system, and modes do not keep them
// apart. Nor do mount points: another run that sees one can remove it, and the kernel then detaches
// what is mounted there (rmdir(2), since Linux 3.19). So directory and files lie in a directory of
// the run's own, the top, in the root, and the run's mount namespace shows the top in the place of
// the root:
//
//	ROOT/                 py3run's own: made by it, 01700
//	ROOT/NAME.run         held locked while the launcher lives: what to sweep when it died (see Sweep)
//	ROOT/NAME.d/          the top: what the run sees as ROOT
//	ROOT/NAME.d/NAME      the directory
//	ROOT/NAME.d/NAME.py   a file beside it
//
// A root that holds other things cannot be covered. There a closed place in it, ROOT/.py3run-UID,
// holds the same, and that is covered. Directory and files are mounted on empty ones at their
// paths. Other runs see those, and can remove them.
//
// Without a mount namespace Settle moves directory and files to their paths.
type Workdir struct {
	path    string   // where the run finds the directory
	root    string   // see Dir
	place   string   // where the run's entry and top are
	name    string   // of both, without suffix
	top     string   // see above; empty: there is none
	real    string   // where the directory is: in the top, or at path
	files   []string // suffixes of files beside it
	blank   *os.File // the first of these files, made ahead and empty; nil: it is not
	handle  *os.File // of the directory itself, wherever it is moved
	own     bool     // root is py3run's own, and the run sees the top there
	above   *os.File // the top
	lock    *os.File // of the run's entry in the place; nil: there is no usable place
	private error    // why other runs can see the directory; nil: they cannot
	other   bool     // it was given to another user
	keep    bool
	halted  atomic.Bool // the run has ended: a look at the directory under way is of no use any more
	stands  []standing  // what was made at the paths to mount on, in the order of "" and files; only of a private one in a root that is not our own

	mu       sync.Mutex        // of what follows: a look at the directory may be under way while the next request of a kept interpreter comes
	ours     []inode           // what of the top is not the run's; never changed in place
	placed   map[string]placed // what Put has made, by name
	gathered map[inode]stamp   // what Gather has handed over
	full     map[inode]stamp   // files of the size that the last Measure asked about
	empty    []lastChange      // of directories in which the last Measure has found nothing
}

// An inode is a file by its numbers.
type inode struct{ dev, ino uint64 }

// A standing identifies a file by its numbers and, if the file system knows it, by its time of
// birth: another file can get the same numbers later.
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

// errShared: the caller has not asked for a directory that other runs do not see.
var errShared = errors.New("not asked for")

// MakeWorkdir makes the directory, with mode 0700. Directories above it are made if they are missing.
func MakeWorkdir(d Dir) (_ *Workdir, err error) {
	w := &Workdir{path: d.Path, root: d.Root, real: d.Path, private: errShared, keep: d.Keep}
	if w.root == "" {
		w.root = filepath.Dir(d.Path)
	}
	rel, err := filepath.Rel(w.root, d.Path)
	if err != nil {
		return nil, &StepError{Step: "mkdir", Object: d.Path, Err: unix.EINVAL}
	}
	w.name = entryName(rel)
	if err := w.enter(rel, d.Private); err != nil {
		w.private = err
	} else if d.Private {
		w.private, w.top = nil, filepath.Join(w.place, w.name+topSuffix)
		w.real = filepath.Join(w.top, rel)
	}
	made := ""
	defer func() {
		if err != nil {
			if w.top != "" {
				os.RemoveAll(w.top)
			}
			if made != "" {
				os.Remove(made)
			}
			w.leave()
		}
	}()
	if w.private != nil || !w.own { // something has to be at the path: the directory, or what it is mounted on
		if err := makeAt(w.path); err != nil {
			return nil, err
		}
		made = w.path
	}
	if w.private == nil {
		if err := w.makeTop(); err != nil {
			return nil, err
		}
	}
	if err := w.hold(); err != nil {
		return nil, err
	}
	if w.private == nil && !w.own {
		w.stand("")
	}
	return w, nil
}

// MakeEntry makes only the entry of a run without a directory: what [Sweep] has to remove if the
// launcher is killed. [Workdir.Leave] removes it. It is no Workdir for [IO.Workdir].
func MakeEntry(d Dir) (*Workdir, error) {
	w := &Workdir{path: d.Path, root: d.Root, private: errShared}
	rel, err := filepath.Rel(w.root, d.Path)
	if err != nil {
		return nil, &StepError{Step: "mkdir", Object: d.Path, Err: unix.EINVAL}
	}
	w.name = entryName(rel)
	if err := w.enter(rel, true); err != nil {
		return nil, err
	}
	return w, nil
}

// Leave removes the entry of a run without a directory.
func (w *Workdir) Leave() { w.leave() }

// hold opens the directory.
func (w *Workdir) hold() error {
	fd, err := unix.Open(w.real, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &StepError{Step: "open", Object: w.real, Err: err}
	}
	w.handle = os.NewFile(uintptr(fd), w.real)
	return nil
}

// makeTop makes the directory of the run's own, and in it the working directory.
func (w *Workdir) makeTop() error {
	if err := unix.Mkdir(w.top, 0o700); err != nil {
		return &StepError{Step: "mkdir", Object: w.top, Err: err}
	}
	if err := makeAt(w.real); err != nil {
		return err
	}
	fd, err := unix.Open(w.top, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &StepError{Step: "open", Object: w.top, Err: err}
	}
	w.above = os.NewFile(uintptr(fd), w.top)
	for dir := w.real; len(dir) > len(w.top); dir = filepath.Dir(dir) {
		w.mark(dir)
	}
	return nil
}

// mark notes what was made in the top.
func (w *Workdir) mark(path string) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ours = append(slices.Clip(w.ours), inode{uint64(st.Dev), st.Ino})
	}
}

// makeAt makes a directory that must not exist, and those above it.
func makeAt(path string) error {
	err := unix.Mkdir(path, 0o700)
	if err == unix.ENOENT {
		parent := filepath.Dir(path)
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return &StepError{Step: "mkdir", Object: parent, Err: cause(err)}
		}
		err = unix.Mkdir(path, 0o700)
	}
	if err != nil {
		return &StepError{Step: "mkdir", Object: path, Err: err}
	}
	return nil
}

// Path is where the run finds the directory.
func (w *Workdir) Path() string { return w.path }

// AddFile makes a file beside the directory, at its path with a suffix such as ".py". It must not
// exist: nobody can have put a link there.
func (w *Workdir) AddFile(suffix string, data []byte) error {
	paths := []string{w.real + suffix}
	mountPoint := w.private == nil && !w.own
	if mountPoint {
		paths = []string{w.path + suffix, w.real + suffix}
	}
	w.files = append(w.files, suffix)
	for _, path := range paths {
		f, err := w.blank, error(nil)
		if w.blank = nil; f == nil {
			f, err = w.create(path)
		}
		if err != nil {
			if path == w.path+suffix && errors.Is(err, unix.EEXIST) {
				w.files = w.files[:len(w.files)-1] // not ours to remove
			}
			return err
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
	}
	if mountPoint {
		w.stand(suffix)
	} else if w.top != "" {
		w.mark(w.real + suffix)
	}
	return nil
}

// create makes a file that must not exist, open for writing.
func (w *Workdir) create(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &StepError{Step: "create", Object: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Reopen opens a file that AddFile has made, for writing. Call it before the program can have changed
// anything.
func (w *Workdir) Reopen(suffix string) (*os.File, error) {
	f, err := os.OpenFile(w.real+suffix, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &StepError{Step: "open", Object: w.real + suffix, Err: cause(err)}
	}
	return f, nil
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

// Lost is a path at which the run no longer finds what was made for it, because somebody outside
// has removed or replaced it. What others put there would count as the run's own. Empty: nothing is
// lost.
func (w *Workdir) Lost() string {
	if w.above != nil && w.own {
		var st unix.Stat_t
		if unix.Fstat(int(w.above.Fd()), &st) == nil && st.Nlink == 0 {
			return w.root
		}
	}
	if len(w.stands) == 0 {
		return ""
	}
	for n, suffix := range append([]string{""}, w.files...) {
		if !w.stood(n, w.path+suffix) {
			return w.path + suffix
		}
	}
	return ""
}

// Chown gives the directory, its files and what the run sees around them to another user.
func (w *Workdir) Chown(u User) error {
	w.other = true
	paths := []string{w.real}
	if w.top != "" {
		paths = append(paths, w.top)
	}
	for _, suffix := range w.files {
		paths = append(paths, w.real+suffix)
	}
	for dir := filepath.Dir(w.real); w.top != "" && len(dir) > len(w.top); dir = filepath.Dir(dir) {
		paths = append(paths, dir)
	}
	for _, path := range paths {
		if err := unix.Lchown(path, u.UID, u.GID); err != nil {
			return &StepError{Step: "chown", Object: path, Err: err}
		}
	}
	if w.real == w.path {
		w.letPass()
	}
	return nil
}

// letPass lets another user reach the directory at its path, through a root in which that user has no
// right to look around.
func (w *Workdir) letPass() {
	if w.own && w.other {
		unix.Chmod(w.root, rootMode|0o011)
	}
}

// Settle moves a private directory and its files to their paths, for a run without a mount
// namespace to show them there.
func (w *Workdir) Settle() error {
	if w.real == w.path {
		return nil
	}
	w.note("settled")
	if err := os.MkdirAll(filepath.Dir(w.path), 0o755); err != nil {
		return &StepError{Step: "mkdir", Object: filepath.Dir(w.path), Err: cause(err)}
	}
	for _, suffix := range append([]string{""}, w.files...) {
		if err := unix.Rename(w.real+suffix, w.path+suffix); err != nil {
			return &StepError{Step: "rename", Object: w.path + suffix, Err: err}
		}
	}
	w.letPass()
	w.real, w.stands = w.path, nil
	return nil
}

// Close leaves the directory at its path and removes what is beside it.
func (w *Workdir) Close() error {
	err := w.Settle()
	w.handle.Close()
	w.blank.Close() // nothing happens if there is none
	for _, suffix := range w.files {
		os.Remove(w.path + suffix)
	}
	if w.top != "" {
		err = errors.Join(err, (&clearing{}).remove(w.top))
	}
	w.leave()
	return err
}

// standsAt tells whether path leads to this very directory.
func (w *Workdir) standsAt(path string) bool {
	var ours, named unix.Stat_t
	return unix.Fstat(int(w.handle.Fd()), &ours) == nil && unix.Lstat(path, &named) == nil &&
		named.Dev == ours.Dev && named.Ino == ours.Ino
}

// cause is the errno of a wrapped path error, whose step and path the StepError names already.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
