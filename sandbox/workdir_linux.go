package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

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
	halted  atomic.Bool // the run has ended: a look at the directory under way is of no use any more
	stands  []standing  // what was made at the paths to mount on, in the order of "" and files; only of a private one
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
