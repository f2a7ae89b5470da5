package sandbox

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Remove removes the directory and everything in it, whatever its modes and depth, wherever the run
// has moved it, and what the run has put in its place or beside it. It follows no link and does not
// enter other file systems mounted below.
func (w *Workdir) Remove() error {
	left, err := w.Discard(0)
	if left != nil {
		left.Close()
	}
	return err
}

// Discard is Remove with a bound on the time (0: none), because the run decides how long a removal
// takes. What is not removed by then is moved out of the run's paths, and Leftovers go on with it;
// nil: nothing is left.
//
// Leftovers lie in the place, under a name and an entry of their own. So a later run removes them
// if this launcher is killed or does not finish:
//
//	PLACE/left-RANDOM/       what is left, under numbers
//	PLACE/left-RANDOM.run    held locked while somebody removes it
func (w *Workdir) Discard(within time.Duration) (*Leftovers, error) {
	c := clearing{}
	if within > 0 {
		c.until = time.Now().Add(within)
	}
	left := &Leftovers{place: w.place, usable: w.lock != nil}
	var errs []error
	stays := false // the entry of the run: a later one can do better
	add := func(err error, path string) {
		if errors.Is(err, errLate) {
			err = left.take(path)
			stays = stays || err != nil
		}
		for _, want := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
			stays = stays || errors.Is(err, want)
		}
		errs = append(errs, err)
	}
	if !w.standsAt(w.real) || unix.Rmdir(w.real) != nil { // empty, as after most runs
		err := c.empty(int(w.handle.Fd()))
		switch path := w.now(); {
		case !errors.Is(err, errLate):
			add(err, path)
			add(w.removeEntry(), path)
		case path != "":
			add(err, path)
		}
	}
	w.handle.Close()
	w.blank.Close() // nothing happens if there is none
	for n, suffix := range append([]string{""}, w.files...) {
		add(c.remove(w.real+suffix), w.real+suffix)
		if w.real != w.path && !w.own && w.stood(n, w.path+suffix) { // else it is somebody else's
			add(c.remove(w.path+suffix), w.path+suffix)
		}
	}
	if w.top != "" && unix.Rmdir(w.top) != nil {
		add(c.remove(w.top), w.top)
	}
	if len(left.paths) == 0 {
		left = nil
	}
	if stays && w.lock != nil {
		w.lock.Close()
		w.lock = nil
	}
	w.leave()
	return left, errors.Join(errs...)
}

// now is where the directory is: the kernel knows its path even after a rename. Empty: it has no
// path that leads to it.
func (w *Workdir) now() string {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(w.handle.Fd())))
	if err != nil {
		path = w.real // no /proc: it is where it was, or it is not found
	}
	if !w.standsAt(path) {
		return "" // gone (then " (deleted)" follows the name)
	}
	return path
}

// removeEntry removes the directory's own name.
func (w *Workdir) removeEntry() error {
	path := w.now()
	if path == "" {
		return nil
	}
	if err := unix.Rmdir(path); err != nil && err != unix.ENOENT {
		return &StepError{Step: "rmdir", Object: path, Err: err}
	}
	return nil
}

// Leftovers are what could not be removed in time.
type Leftovers struct {
	place  string
	usable bool // the place is
	name   string
	lock   *os.File
	paths  []string
}

const leftPrefix = "left-"

// take moves something out of the way: into the place, where there is one.
func (l *Leftovers) take(path string) error {
	if l.usable && l.lock == nil {
		if err := l.enter(); err != nil {
			return err
		}
	}
	if l.lock != nil {
		to := filepath.Join(l.place, l.name, strconv.Itoa(len(l.paths)))
		if err := unix.Rename(path, to); err == nil {
			path = to
		}
	}
	l.paths = append(l.paths, path)
	return nil
}

// enter makes the directory of the leftovers and its entry.
func (l *Leftovers) enter() error {
	for range 100 {
		var random [8]byte
		rand.Read(random[:])
		l.name = leftPrefix + hex.EncodeToString(random[:])
		at := filepath.Join(l.place, l.name)
		lock, err := os.OpenFile(at+entrySuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return &StepError{Step: "create", Object: at + entrySuffix, Err: cause(err)}
		}
		var st unix.Stat_t
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || unix.Fstat(int(lock.Fd()), &st) != nil || st.Nlink != 1 {
			lock.Close() // a sweeping run was faster than the lock
			continue
		}
		if err := unix.Mkdir(at, 0o700); err != nil {
			lock.Close()
			return &StepError{Step: "mkdir", Object: at, Err: err}
		}
		l.lock = lock
		return nil
	}
	return &StepError{Step: "lock", Object: l.name, Err: unix.EBUSY}
}

// Clear goes on with the removal for so long. A later run removes what is left in the place then;
// that is no error.
func (l *Leftovers) Clear(within time.Duration) error {
	defer l.Close()
	c := clearing{until: time.Now().Add(within)}
	var errs []error
	for _, path := range l.paths {
		switch err := c.remove(path); {
		case errors.Is(err, errLate) && l.lock != nil:
			return nil
		case errors.Is(err, errLate):
			errs = append(errs, fmt.Errorf("%s is left: it could not be removed in time", path))
		default:
			errs = append(errs, err)
		}
	}
	if l.lock != nil && errors.Join(errs...) == nil {
		at := filepath.Join(l.place, l.name)
		unix.Rmdir(at)
		unix.Unlink(at + entrySuffix)
		if !isRoot(l.place) {
			unix.Rmdir(l.place)
		}
	}
	return errors.Join(errs...)
}

// Close leaves it to a later run.
func (l *Leftovers) Close() {
	if l.lock != nil {
		l.lock.Close()
	}
}

// A clearing removes trees. It needs no more memory for a deep tree or a long directory: it removes
// the names of a directory as it reads them, and moves directories that lie too deep up to the top.
// So no path is longer than a name, whatever the depth of the tree.
type clearing struct {
	until    time.Time // zero: no end
	steps    int
	moved    int
	levels   []clearingLevel
	buffers  buffers
	progress bool  // of this pass through the top
	failed   error // of this pass, the first; it counts only if the pass got nowhere
}

type clearingLevel struct {
	entries
	name    string // in the level above
	changed bool   // since its reading began
}

// errLate: the time is over.
var errLate = errors.New("not removed in time")

func (c *clearing) late() bool {
	c.steps++
	return !c.until.IsZero() && (c.steps == 1 || c.steps%64 == 0) && time.Now().After(c.until)
}

// remove removes what stands at a path, also nothing.
func (c *clearing) remove(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) == "/" { // an empty path would mean the current directory
		return &StepError{Step: "remove", Object: strconv.Quote(path), Err: unix.EINVAL}
	}
	parent, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.EACCES {
		return nil // the parent is gone, and the path with it
	}
	if err != nil {
		return &StepError{Step: "open", Object: filepath.Dir(path), Err: err}
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
	if err := c.empty(fd); err != nil {
		return err
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil {
		return &StepError{Step: "rmdir", Object: path, Err: err}
	}
	return nil
}

// empty removes everything in a directory.
func (c *clearing) empty(top int) error {
	var here unix.Stat_t
	if err := unix.Fstat(top, &here); err != nil {
		return &StepError{Step: "stat", Object: "working directory", Err: err}
	}
	unix.Fchmod(top, 0o700)
	c.levels = append(c.levels[:0], clearingLevel{entries: entries{fd: top, pool: &c.buffers}})
	c.levels[0].again()
	c.steps, c.progress, c.failed = 0, false, nil
	defer func() {
		for i := 1; i < len(c.levels); i++ {
			c.levels[i].close()
		}
	}()
	for {
		if c.late() {
			return errLate
		}
		l := &c.levels[len(c.levels)-1]
		e, ok := l.read()
		switch {
		case ok && e.kind != unix.DT_DIR && c.unlink(l, e):
		case ok:
			c.descend(l, e, here.Dev)
		case len(c.levels) > 1:
			c.leave(l)
		case !c.progress:
			return c.failed
		default:
			c.progress, c.failed = false, nil
			l.again()
		}
	}
}

func (c *clearing) done(l *clearingLevel) { l.changed, c.progress = true, true }

func (c *clearing) fail(step, name string, err error) {
	if c.failed == nil {
		c.failed = &StepError{Step: step, Object: strconv.Quote(name), Err: err}
	}
}

func unlinkat(fd int, name *byte, flags uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_UNLINKAT, uintptr(fd), uintptr(unsafe.Pointer(name)), flags); errno != 0 {
		return errno
	}
	return nil
}

// unlink removes what is no directory; false: it is one.
func (c *clearing) unlink(l *clearingLevel, e entry) bool {
	switch err := unlinkat(l.fd, e.name, 0); {
	case err == nil:
		c.done(l)
	case e.kind == unix.DT_UNKNOWN && (err == unix.EISDIR || err == unix.EPERM):
		return false
	case err != unix.ENOENT:
		c.fail("unlink", e.text(), err)
	}
	return true
}

// descend removes a directory that is empty, and enters any other.
func (c *clearing) descend(l *clearingLevel, e entry, dev uint64) {
	err := unlinkat(l.fd, e.name, unix.AT_REMOVEDIR)
	if err == nil {
		c.done(l)
		return
	}
	name := e.text()
	if err != unix.ENOTEMPTY && err != unix.EEXIST && err != unix.EACCES {
		if err != unix.ENOENT {
			c.fail("rmdir", name, err)
		}
		return
	}
	fd, err := openEntry(l.fd, e.name)
	if err == unix.EACCES {
		fd, err = openDir(l.fd, name, true)
	}
	if err != nil {
		c.fail("open", name, err)
		return
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != dev {
		unix.Close(fd)
		c.fail("rmdir", name, unix.EBUSY) // a mount: what is below is not ours
		return
	}
	if st.Mode&0o700 != 0o700 {
		unix.Fchmod(fd, 0o700)
	}
	if len(c.levels) < levelsOpen {
		c.levels = append(c.levels, clearingLevel{entries: entries{fd: fd, pool: &c.buffers}, name: name})
		return
	}
	unix.Close(fd)
	for err = unix.EEXIST; err == unix.EEXIST; {
		c.moved++
		err = unix.Renameat2(l.fd, name, c.levels[0].fd, "py3run-removing-"+strconv.Itoa(c.moved), unix.RENAME_NOREPLACE)
	}
	if err != nil {
		c.fail("rename", name, err)
		return
	}
	c.done(l)
}

// leave removes the lowest level, which was read to its end, unless there is something in it by now
// that its reading has not shown.
func (c *clearing) leave(l *clearingLevel) {
	above := &c.levels[len(c.levels)-2]
	err := unix.Unlinkat(above.fd, l.name, unix.AT_REMOVEDIR)
	if (err == unix.ENOTEMPTY || err == unix.EEXIST) && l.changed {
		l.changed = false
		l.again()
		return
	}
	if err == nil {
		c.done(above)
	} else {
		c.fail("rmdir", l.name, err)
	}
	l.close()
	c.levels = c.levels[:len(c.levels)-1]
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
