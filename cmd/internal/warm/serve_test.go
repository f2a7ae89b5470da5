package warm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLockFile tells a template that lives from somebody who only looks, and from one that has just ended.
func TestLockFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key"+lockSuffix)
	held, err := lockFile(path, glanceMost)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFile(path, glanceMost); !errors.Is(err, unix.EWOULDBLOCK) {
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
