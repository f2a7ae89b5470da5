package sandbox

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Workdir is the directory of one run. It is made exclusively, held open, and removed with whatever the run made of it.
type Workdir struct {
	path   string
	handle *os.File // of the directory itself, wherever it is moved
}

// MakeWorkdir makes path, which must not exist, with mode 0700. Parents are made if they are missing.
func MakeWorkdir(path string) (*Workdir, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, &StepError{Step: "mkdir", Object: filepath.Dir(path), Err: cause(err)}
	}
	if err := unix.Mkdir(path, 0o700); err != nil {
		return nil, &StepError{Step: "mkdir", Object: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		os.Remove(path)
		return nil, &StepError{Step: "open", Object: path, Err: err}
	}
	return &Workdir{path: path, handle: os.NewFile(uintptr(fd), path)}, nil
}

// Path is where the directory was made.
func (w *Workdir) Path() string { return w.path }

// Contents is what was in a directory: files are everything but directories.
type Contents struct {
	Files int
	Names []string // relative paths of the first few
	Bytes int64    // allocated
}

const (
	contentsNames = 5
	measureMost   = 1 << 20 // entries of one measuring; a larger tree is reported by its size so far
	measureDepth  = 64      // levels: one descriptor is open a level
)

// Measure walks the directory as it is now, following no link. While the run lives, what it has closed to its own user is
// passed over; after it (ended) modes are no obstacle.
func (w *Workdir) Measure(ended bool) Contents {
	var c Contents
	seen := 0
	var walk func(fd int, rel string, depth int)
	walk = func(fd int, rel string, depth int) {
		dir := os.NewFile(uintptr(fd), rel)
		defer dir.Close()
		for seen < measureMost {
			names, err := dir.Readdirnames(512)
			for _, name := range names {
				seen++
				var st unix.Stat_t
				if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
					continue
				}
				c.Bytes += st.Blocks * 512
				path := filepath.Join(rel, name)
				if st.Mode&unix.S_IFMT != unix.S_IFDIR {
					c.note(path)
				} else if depth < measureDepth {
					if sub, err := openDir(fd, name, ended); err == nil {
						walk(sub, path, depth+1)
					}
				}
			}
			if err != nil {
				return
			}
		}
	}
	if fd, err := openDir(int(w.handle.Fd()), ".", false); err == nil {
		walk(fd, "", 0)
	}
	return c
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
	defer w.handle.Close()
	if w.standsAt(w.path) && unix.Rmdir(w.path) == nil {
		return nil // empty, as after most runs
	}
	return errors.Join(empty(int(w.handle.Fd())), w.removeEntry(), removePath(w.path))
}

// Close lets go of the directory and leaves it where it is.
func (w *Workdir) Close() error { return w.handle.Close() }

// removeEntry removes the directory's own name, which the kernel knows even after a rename.
func (w *Workdir) removeEntry() error {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(w.handle.Fd())))
	if err != nil {
		path = w.path // no /proc: it is where it was, or it is not found
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
