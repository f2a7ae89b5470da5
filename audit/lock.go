package audit

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

const (
	lockPatience = 5 * time.Second  // with one holder, which can need a second if hundreds of runs share few processors
	queueMost    = 30 * time.Second // with all who come first
)

// ErrLocked means that other writers held the log for too long. A writer that was stopped in the
// middle of a record does that.
var ErrLocked = filelock.ErrTimeout

// lock takes the lock of the log. It waits for one holder as long as the Log's patience lasts, and
// longer while the log grows.
//
// Each try opens the file: two goroutines need two open file descriptions to exclude each other,
// and a lock on a file that was removed excludes nobody.
func (l *Log) lock() (int, error) {
	deadline, began, seen := time.Now().Add(l.patience), time.Now(), l.length()
	busy := func() time.Duration { // the log grows: other writers are served first
		if now := l.length(); now != seen && time.Since(began) < queueMost {
			seen = now
			return l.patience
		}
		return 0
	}
	for {
		made := false
		fd, err := unix.Openat(l.dir, lockName, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			made = true
			fd, err = unix.Openat(l.dir, lockName, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		}
		if err != nil {
			return -1, l.failed("lock", lockName, err)
		}
		if err := filelock.Take(fd, unix.LOCK_EX, deadline, busy); err != nil {
			if pid := l.holder(); err == ErrLocked && pid > 0 {
				err = fmt.Errorf("%w: process %d", err, pid)
			}
			return -1, l.failed("lock", lockName, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			unix.Close(fd)
			return -1, l.failed("lock", lockName, errors.New("not a regular file"))
		} else if err == nil && st.Nlink > 0 {
			if made && st.Size == 0 {
				unix.Pwrite(fd, []byte(madeText), 0)
			}
			if !l.isShared(&st, sharedFile) {
				if err := l.share(fd, lockName, sharedFile); err != nil {
					filelock.Release(fd)
					return -1, err
				}
			}
			return fd, nil
		}
		unix.Close(fd)
		if time.Now().After(deadline) {
			return -1, l.failed("lock", lockName, ErrLocked)
		}
	}
}

// length changes when a record is written.
func (l *Log) length() [2]uint64 {
	var st unix.Stat_t
	unix.Fstatat(l.dir, currentName, &st, unix.AT_SYMLINK_NOFOLLOW)
	return [2]uint64{st.Ino, uint64(st.Size)}
}

// holder is the process that has the lock of the log; 0: unknown.
func (l *Log) holder() int {
	var st unix.Stat_t
	text, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstatat(l.dir, lockName, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(text)) {
		// 1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF; an arrow after the number marks those
		// that wait
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[3] == "WRITE" && f[5] == file {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}
