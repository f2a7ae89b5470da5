package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A Beside puts further files beside a [Workdir] while its program lives. It was opened before the
// program ran, and uses no path that the program could have changed since.
type Beside struct {
	w    *Workdir
	dir  *os.File // in which the directory is
	name string   // of the directory
	made map[string]inode
}

// Beside opens the place beside the directory. It returns nil if the program would not see further
// files there: they would not be mounted, or others could see them.
func (w *Workdir) Beside() (*Beside, error) {
	if w.private != nil || !w.own {
		return nil, nil
	}
	above := filepath.Dir(w.real)
	fd, err := unix.Open(above, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &StepError{Step: "open", Object: above, Err: err}
	}
	return &Beside{w, os.NewFile(uintptr(fd), above), filepath.Base(w.real), map[string]inode{}}, nil
}

// Add makes an empty file, at the directory's path with a suffix. owner nil: the launcher's user.
func (b *Beside) Add(suffix string, owner *User) (*os.File, error) {
	name := b.name + suffix
	fd, err := unix.Openat(int(b.dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &StepError{Step: "create", Object: b.w.path + suffix, Err: err}
	}
	f := os.NewFile(uintptr(fd), b.w.path+suffix)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && owner != nil {
		err = unix.Fchown(fd, owner.UID, owner.GID)
	}
	if err != nil {
		f.Close()
		return nil, &StepError{Step: "chown", Object: b.w.path + suffix, Err: err}
	}
	b.made[suffix] = inode{uint64(st.Dev), st.Ino}
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	b.w.ours = append(slices.Clip(b.w.ours), b.made[suffix])
	return f, nil
}

// Remove removes a file that Add has made.
func (b *Beside) Remove(suffix string) error {
	gone := b.made[suffix]
	delete(b.made, suffix)
	b.w.mu.Lock()
	b.w.ours = slices.DeleteFunc(slices.Clone(b.w.ours), func(i inode) bool { return i == gone })
	b.w.mu.Unlock()
	if err := unix.Unlinkat(int(b.dir.Fd()), b.name+suffix, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return &StepError{Step: "unlink", Object: b.w.path + suffix, Err: err}
	}
	return nil
}

// Close closes the place.
func (b *Beside) Close() {
	if b != nil {
		b.dir.Close()
	}
}
