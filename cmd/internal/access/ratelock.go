package access

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Locks are on bytes beyond the end of the file, and belong to an open file (fcntl(2), "Open file
// description locks"): the kernel releases them when the process that has it dies, and a child that the
// sandbox starts does not inherit them, because the descriptor closes on exec.
//
// One byte stands for the file. The bytes of a page stand for the runs of its user that are under way.
const (
	fileLock = 1 << 40
	runLocks = 1 << 41
	runsRoom = 4096 // bytes for each page: the most that concurrent-per-user can be
)

// patience is how long to wait for other processes. They hold the file for much less than a millisecond,
// unless they are stopped there.
const patience = 2 * time.Second

var errBusy = errors.New("locked by another process for too long")

// lock takes the lock on a byte.
func lock(fd int, place int64, deadline time.Time) error {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 2*time.Millisecond) {
		err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: place, Len: 1})
		if err != unix.EAGAIN && err != unix.EACCES && err != unix.EINTR {
			return err
		}
		if time.Now().After(deadline) {
			return errBusy
		}
		time.Sleep(wait)
	}
}

func unlock(fd int, place int64) {
	unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Start: place, Len: 1})
}

// firstLock returns a byte from start to end that an other has locked; -1: none. If several are locked,
// it need not be the first of them.
func firstLock(fd int, start, end int64) (int64, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: end - start}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l); err != nil {
		return -1, err
	}
	if l.Type == unix.F_UNLCK {
		return -1, nil
	}
	return max(l.Start, start), nil
}

// running returns how many runs of a page's user are under way, and the place for one more; -1: there is
// none. It counts no further than most; 0: than it has to for a place.
func (f *countFile) running(page, most int) (runs int, free int64, err error) {
	free = -1
	type part struct{ start, end int64 }
	parts := []part{{runLocks + int64(page)*runsRoom, runLocks + int64(page+1)*runsRoom}}
	for len(parts) > 0 {
		p := parts[len(parts)-1]
		parts = parts[:len(parts)-1]
		if p.start == p.end {
			continue
		}
		at, err := firstLock(f.fd, p.start, p.end)
		if err != nil {
			return 0, -1, err
		}
		if at < 0 {
			free = p.start
			if most == 0 {
				return runs, free, nil
			}
			continue
		}
		if runs++; runs == most {
			return runs, -1, nil
		}
		parts = append(parts, part{at + 1, p.end}, part{p.start, at})
	}
	return runs, free, nil
}

// busy reports whether runs of a page's user are under way.
func (f *countFile) busy(page int) (bool, error) {
	at, err := firstLock(f.fd, runLocks+int64(page)*runsRoom, runLocks+int64(page+1)*runsRoom)
	return at >= 0, err
}

// slot takes places for a run; none: none are left, and none are needed. The slot owns the descriptor.
func (f *countFile) slot(places []int64) (*Slot, error) {
	for _, place := range places { // what an error leaves locked, closing the file unlocks
		if err := unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: place, Len: 1}); err != nil {
			return nil, err
		}
	}
	if len(places) == 0 {
		return nil, nil
	}
	f.kept = true
	return &Slot{f.fd, places}, nil
}
