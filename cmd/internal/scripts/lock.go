package scripts

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

// The lock of the whole store is its directory. Whoever changes a script shares it, and has the lock of
// that script besides; a restore has it alone, while it puts another directory in the place of this one.

const lockPatience = 10 * time.Second

var (
	errBusy     = errors.New("somebody else is changing it")
	errAllBusy  = errors.New("somebody else is changing or restoring the stored scripts")
	errReplaced = errors.New("the stored scripts were restored from a backup at this moment; look at them, and do it again")
)

// DirName is the name of the store's directory, in the state directory and in a backup.
const DirName = "scripts"

// Dir is where the stored scripts are in a state directory; both are empty where there is no place for
// them.
func Dir(state string) string {
	if state == "" {
		return ""
	}
	return filepath.Join(state, DirName)
}

// Lock keeps all others from changing the store in a directory, until unlock is called. A store that does
// not exist is an error that is [fs.ErrNotExist].
func Lock(dir string) (unlock func(), err error) {
	fd, err := openAt(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		err = lockStore(fd, unix.LOCK_EX, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock scripts %s: %w", dir, err)
	}
	return func() { filelock.Release(fd) }, nil
}

// share takes the lock of the store for a change of one script.
func (s *Store) share() (int, error) {
	if s.fd < 0 {
		return -1, unix.ENOENT
	}
	fd, err := openAt(s.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		err = lockStore(fd, unix.LOCK_SH, s.dir)
	}
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// lockStore locks a directory that is open, and closes it when that fails, or if another directory has
// its place by then.
func lockStore(fd, how int, dir string) error {
	if err := filelock.Take(fd, how, time.Now().Add(lockPatience), nil); err != nil {
		if err == filelock.ErrTimeout {
			err = errAllBusy
		}
		return err
	}
	err := isInPlace(fd, dir)
	if err != nil {
		filelock.Release(fd)
	}
	return err
}

// isInPlace returns errReplaced if another directory has the place of an open one.
func isInPlace(fd int, dir string) error {
	var open, there unix.Stat_t
	err := unix.Fstat(fd, &open)
	if err == nil {
		err = unix.Lstat(dir, &there)
	}
	if err == unix.ENOENT || err == nil && (open.Dev != there.Dev || open.Ino != there.Ino) {
		err = errReplaced
	}
	return err
}
