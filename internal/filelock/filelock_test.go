package filelock

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// open opens a directory once more: a lock belongs to what was opened.
func open(t *testing.T, dir string) int {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func take(dir string, how int, wait time.Duration) func(*testing.T) int {
	return func(t *testing.T) int {
		t.Helper()
		fd := open(t, dir)
		if err := Take(fd, how, time.Now().Add(wait), nil); err != nil {
			t.Fatal(err)
		}
		return fd
	}
}

func TestTake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := take(dir, unix.LOCK_SH, 0)(t)
	second := take(dir, unix.LOCK_SH, 0)(t)

	refused, asked := open(t, dir), 0
	err := Take(refused, unix.LOCK_EX, time.Now(), func() time.Duration {
		asked++
		return time.Duration(2-asked) * time.Millisecond
	})
	if err != ErrTimeout || asked != 2 {
		t.Errorf("a lock that others hold: %v, asked %d times; want %v, asked twice", err, asked, ErrTimeout)
	}

	got := make(chan error)
	third := open(t, dir)
	go func() { got <- Take(third, unix.LOCK_EX, time.Now().Add(time.Minute), nil) }()
	Release(first)
	Release(second)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	Release(third)
	Release(take(dir, unix.LOCK_EX, time.Minute)(t)) // the one that gave up has released it
}

func TestTakeClosesWhatItCannotLock(t *testing.T) {
	t.Parallel()
	if err := Take(-1, unix.LOCK_EX, time.Now(), nil); err != unix.EBADF {
		t.Errorf("no descriptor: %v, want EBADF", err)
	}
}
