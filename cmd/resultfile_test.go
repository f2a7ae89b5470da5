package cmd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What cannot be written is found out before the run, and leaves nothing behind.
func TestOpenResultFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, make := range map[string]func(string) error{
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"link":      func(p string) error { return os.Symlink("absent", p) },
		"pipe":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"file":      func(p string) error { return os.WriteFile(p, []byte("old"), 0o600) },
		"closed":    func(p string) error { return os.Mkdir(p, 0o500) },
	} {
		if err := make(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"file": "", "new": "", "directory": "is a directory", "link": "not a regular file", "pipe": "not a regular file",
		"absent/r": "open " + dir + "/absent: no such file or directory", "file/r": "not a directory", "directory/": "is a directory", "new/": "no such file or directory", strings.Repeat("x", 300): "name too long",
		"closed/r": map[bool]string{true: "", false: "permission denied"}[os.Geteuid() == 0],
	} {
		f, err := openResultFile(dir + "/" + name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if f != nil {
			unix.Close(f.dir)
		}
	}
	if left, _ := filepath.Glob(dir + "/.py3run*"); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// The line comes whole or not at all, also when the directory was renamed or the disk is full.
func TestWriteResultFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := openResultFile(dir + "/r")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(f.dir)
	if err := os.Rename(dir, dir+"2"); err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]byte{bytes.Repeat([]byte("x"), 1<<20), []byte("short")} {
		err := f.write(line)
		got, _ := os.ReadFile(dir + "2/r")
		if err != nil || !bytes.Equal(got, line) {
			t.Errorf("%v, %d bytes, want %d", err, len(got), len(line))
		}
	}
	if err := unix.Mount("tmpfs", dir+"2", "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	defer unix.Unmount(dir+"2", unix.MNT_DETACH)
	small, err := openResultFile(dir + "2/r")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(small.dir)
	if err := small.write([]byte("fits")); err != nil {
		t.Error(err)
	}
	if err := small.write(bytes.Repeat([]byte("x"), 1<<20)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want ENOSPC", err)
	}
	entries, _ := os.ReadDir(dir + "2")
	if got, _ := os.ReadFile(dir + "2/r"); string(got) != "fits" || len(entries) != 1 {
		t.Errorf("%q, %v", got, entries)
	}
}
