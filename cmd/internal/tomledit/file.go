package tomledit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/atomicfile"
	"py3run/internal/filelock"
)

// lockWait is how long a writer waits for another one. Everybody who may read a directory can lock it,
// so nobody waits for ever.
const lockWait = 5 * time.Second

// Lock locks a directory until [filelock.Release].
func Lock(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	if err := filelock.Take(fd, unix.LOCK_EX, time.Now().Add(lockWait), nil); err != nil {
		return -1, &fs.PathError{Op: "lock", Path: dir, Err: err}
	}
	return fd, nil
}

// Write replaces a file as a whole, while the caller has the lock of its directory, which is dir. It
// keeps owner, group and mode. mode and gid are those of a new file; gid may be -1: it stays as it comes.
func Write(dir int, path, text string, mode uint32, gid int) error {
	uid := -1
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		mode, uid, gid = st.Mode&0o7777, int(st.Uid), int(st.Gid)
	}
	return Replace(dir, path, text, mode, uid, gid)
}

// temporary begins the names of files that are not whole yet. A killed writer leaves one; the next
// writer removes it, because it has the lock.
const temporary = ".new-"

// Replace is Write with another mode and owner. uid and gid may be -1: they stay as they come.
func Replace(dir int, path, text string, mode uint32, uid, gid int) error {
	name := filepath.Base(path)
	f, err := atomicfile.Create(dir, temporary+name, 0o600)
	if err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	defer f.Discard()
	_, err = f.WriteString(text)
	if err == nil && (uid >= 0 || gid >= 0) {
		if err = f.Chown(uid, gid); errors.Is(err, fs.ErrPermission) && uid != os.Geteuid() {
			err = fmt.Errorf("keep the owner of %s: %w", path, err)
		}
	}
	if err == nil {
		err = unix.Fchmod(int(f.Fd()), mode)
	}
	if err == nil {
		err = f.Put(dir, name, 0)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
