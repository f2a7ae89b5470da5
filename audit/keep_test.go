package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKeepCode(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	code := []byte("result = 'Füllstand'\n\x00")
	path := filepath.Join(dir, codeName, hexSHA256(code))
	must(t, l.KeepCode(code))
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(path, old, old), l.KeepCode(code))
	info, err := os.Stat(path)
	must(t, err)
	if text, err := os.ReadFile(path); !bytes.Equal(text, code) || err != nil || info.Mode() != 0o600 || time.Since(info.ModTime()) > time.Minute {
		t.Errorf("%q, %v, mode %v, used %v", text, err, info.Mode(), info.ModTime())
	}
	must(t, os.WriteFile(path, []byte("torn"), 0o600), l.KeepCode(code)) // as after a power cut
	if text, _ := os.ReadFile(path); !bytes.Equal(text, code) {
		t.Errorf("after a repair %q", text)
	}
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() { must(t, l.KeepCode([]byte("pass"))) })
	}
	writers.Wait()
	entries, err := os.ReadDir(filepath.Join(dir, codeName))
	if len(entries) != 2 || err != nil {
		t.Errorf("%v, %v, want two files", entries, err)
	}

	elsewhere := openLog(t, logDir(t))
	must(t, os.Symlink(t.TempDir(), filepath.Join(elsewhere.path, codeName)))
	if err := elsewhere.KeepCode(code); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a link in the place of the directory: %v", err)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	keys := make([][]byte, 8)
	var readers sync.WaitGroup
	for i := range keys {
		readers.Go(func() {
			var err error
			if keys[i], err = l.Key(); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
	for _, k := range keys {
		if len(k) != keyBytes || !bytes.Equal(k, keys[0]) || bytes.Equal(k, make([]byte, keyBytes)) {
			t.Errorf("keys %x and %x", k, keys[0])
		}
	}
	path := filepath.Join(dir, keyName)
	for _, c := range []struct {
		spoil func() error
		want  string
	}{
		{func() error { return os.Chmod(path, 0o640) }, "is open to others (mode 0640)"},
		{func() error { return errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 10)) }, "unexpected EOF"},
		{func() error { return os.WriteFile(path, []byte(strings.Repeat("x", 65)), 0o600) }, "invalid byte"},
		{func() error { return errors.Join(os.Remove(path), os.Symlink("elsewhere", path)) }, "symbolic link"},
	} {
		must(t, c.spoil())
		if _, err := l.Key(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}
