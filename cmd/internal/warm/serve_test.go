package warm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

// TestLockFile tells a template that lives from somebody who only looks, and from one that has just
// ended.
func TestLockFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key"+lockSuffix)
	held, err := lockFile(path, glanceMost)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFile(path, glanceMost); !errors.Is(err, filelock.ErrTimeout) {
		t.Fatalf("beside one that lives: %v", err)
	}
	time.AfterFunc(10*time.Millisecond, func() { held.Close() })
	looked, err := lockFile(path, time.Minute)
	if err != nil {
		t.Fatalf("beside somebody who looks: %v", err)
	}
	time.AfterFunc(10*time.Millisecond, func() { os.Remove(path); looked.Close() })
	lock, err := lockFile(path, time.Minute)
	if err != nil {
		t.Fatalf("behind one that ends: %v", err)
	}
	defer lock.Close()
	its, _ := lock.Stat()
	if now, err := os.Stat(path); err != nil || !os.SameFile(its, now) {
		t.Errorf("the lock is of a file that is gone: %v", err)
	}
}

// A template that hangs takes no connections: nobody waits for it.
func TestTakeFromOneThatHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := openDir(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	listener, err := listen(d, "key"+socketSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listener)
	unix.Listen(listener, 0) // room for one or two
	refused := make(chan error, 1)
	go func() {
		for range 1000 {
			if _, err := Take(dir, "key"); err != nil {
				refused <- err
				return
			}
		}
		refused <- nil
	}()
	select {
	case err := <-refused:
		if !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%v, want %v", err, unix.EAGAIN)
		}
	case <-time.After(time.Minute):
		t.Error("it waits")
	}
}

func TestPidNamespaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, status string
		want         int
	}{
		{"the own", "Name:\tx\nNSpid:\t17\nNSpgid:\t17\n", 1},
		{"one below", "Name:\tx\nNSpid:\t17\t1\nNSpgid:\t17\t1\n", 2},
		{"not told", "Name:\tNSpid:\t1\n", 0},
		{"nothing", "", 0},
	} {
		if got := pidNamespaces(tt.status); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// Descriptors that the kernel has dropped are an error, and the others are closed: a worker without its listener would lose connect and execve.
func TestReceiveWithDroppedDescriptors(t *testing.T) {
	t.Parallel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	for _, tt := range []struct {
		sent int
		want error
	}{{4, nil}, {9, unix.EMFILE}} { // receive has room for eight
		f, err := os.CreateTemp(t.TempDir(), "sent")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		rights := unix.UnixRights(slices.Repeat([]int{int(f.Fd())}, tt.sent)...)
		if err := unix.Sendmsg(pair[0], []byte("text"), rights, nil, 0); err != nil {
			t.Fatal(err)
		}
		text, descriptors, err := receive(pair[1], time.Minute)
		if err != tt.want || err == nil && (string(text) != "text" || len(descriptors) != tt.sent) {
			t.Errorf("%d sent: %q, %v, %v, want %v", tt.sent, text, descriptors, err, tt.want)
		}
		for _, d := range descriptors {
			unix.Close(d)
		}
		open := 0
		fds, _ := filepath.Glob("/proc/self/fd/*")
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == f.Name() {
				open++
			}
		}
		if open != 1 {
			t.Errorf("%d sent: %d descriptors of the file are open, want its own", tt.sent, open)
		}
	}
}
