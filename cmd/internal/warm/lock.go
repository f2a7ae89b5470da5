package warm

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
	"py3run/sandbox/cgroup"
)

// lockFile makes and locks a template's file. It waits for some time, because another process may hold
// the lock only to look whether the template lives.
func lockFile(path string, patience time.Duration) (*os.File, error) {
	for end := time.Now().Add(patience); ; {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_APPEND, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			err = filelock.Take(fd, unix.LOCK_EX, end, nil)
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil && st.Nlink > 0 {
			return os.NewFile(uintptr(fd), path), nil
		}
		filelock.Release(fd) // the template before has just removed it
		if time.Now().After(end) {
			return nil, fmt.Errorf("lock %s: %w", path, filelock.ErrTimeout)
		}
	}
}

// sweep removes what killed templates have left: files, and groups of workers, which end by
// themselves. A group in which a process lives belongs to a run, and its launcher removes it; sweep
// notes it again.
func (t *server) sweep() {
	dir := t.setup.Dir
	left := sweepFile(t.lock)
	t.open()
	defer func() { t.noteGroups(left) }()
	paths, _ := filepath.Glob(filepath.Join(dir, "*"+lockSuffix))
	for _, path := range paths {
		lock, err := os.OpenFile(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if why, again := failure(lock); why == "" || time.Now().After(again) {
				left = append(left, sweepFile(lock)...)
				os.Remove(strings.TrimSuffix(path, lockSuffix) + socketSuffix)
				os.Remove(path)
			}
		}
		lock.Close()
	}
}

func sweepFile(lock *os.File) (left []string) {
	for _, path := range groupsOf(lock) {
		if !cgroup.SweepEmpty(path) {
			left = append(left, path)
		}
	}
	return left
}

// groupsOf are the groups that a lock file names.
func groupsOf(lock *os.File) (paths []string) {
	text, _ := io.ReadAll(io.NewSectionReader(lock, 0, 1<<20))
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "group "); ok {
			paths = append(paths, path)
		}
	}
	return paths
}

// open begins the lock file anew, with the process that holds it.
func (t *server) open() {
	t.lock.Truncate(0)
	fmt.Fprintf(t.lock, "process %d\n", os.Getpid())
}

// noteGroups writes down which groups to remove if this process is killed.
func (t *server) noteGroups(paths []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if info, err := t.lock.Stat(); err == nil && info.Size() > notesMost { // most of runs long past
		noted := groupsOf(t.lock)
		t.open()
		for _, path := range noted {
			if _, err := os.Stat(path); err == nil {
				paths = append(paths, path)
			}
		}
	}
	for _, path := range paths {
		t.lock.WriteString("group " + path + "\n")
	}
}
