package sandbox

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A stamp tells whether a file has the content that it had before.
type stamp struct {
	size  int64
	mtime unix.Timespec
}

// A placed is a file that Put has made.
type placed struct {
	inode
	stamp
}

// Put makes a file in the directory, and the directories above it, before the run. name is a path
// below the directory without "." and "..". The file must not exist. u is its owner; nil: the
// launcher's user.
//
// Nothing here follows a link: without a private directory another run of the same user may already
// have put one there.
func (w *Workdir) Put(name, content string, u *User) error { return w.put(name, content, u, false) }

// Replace is Put for a directory in which a run already was: a file of that name goes first.
func (w *Workdir) Replace(name, content string, u *User) error { return w.put(name, content, u, true) }

func (w *Workdir) put(name, content string, u *User, replace bool) (err error) {
	at := int(w.handle.Fd())
	parts := strings.Split(name, "/")
	last := len(parts) - 1
	defer func() {
		if at != int(w.handle.Fd()) {
			unix.Close(at)
		}
		if err != nil {
			err = &StepError{Step: "put", Object: name, Err: cause(err)}
		}
	}()
	for _, dir := range parts[:last] {
		err := unix.Mkdirat(at, dir, 0o700)
		if err == nil && u != nil {
			err = unix.Fchownat(at, dir, u.UID, u.GID, unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil && err != unix.EEXIST {
			return err
		}
		below, err := openBeneath(at, dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		if at != int(w.handle.Fd()) {
			unix.Close(at)
		}
		at = below
	}
	if replace {
		if err := unix.Unlinkat(at, parts[last], 0); err != nil && err != unix.ENOENT {
			return err
		}
	}
	fd, err := unix.Openat(at, parts[last], unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = io.WriteString(f, content)
	if err == nil && u != nil {
		err = f.Chown(u.UID, u.GID)
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.placed == nil {
		w.placed = map[string]placed{}
	}
	w.placed[name] = placed{inode{uint64(st.Dev), st.Ino}, stamp{st.Size, st.Mtim}}
	return err
}

// openBeneath opens one name in a directory. It follows no link and enters no other file system, and
// never waits for the other end of a pipe. A kernel before 5.6 and some seccomp filters have no
// openat2(2); then the caller compares the devices.
func openBeneath(dir int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	for {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV})
		if err == unix.ENOSYS || err == unix.EPERM {
			fd, err = unix.Openat(dir, name, flags, 0)
		}
		if err != unix.EINTR {
			return fd, err
		}
	}
}
