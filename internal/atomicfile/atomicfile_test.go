package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// open returns a new directory, and a descriptor of it.
func open(t *testing.T) (string, int) {
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return dir, int(f.Fd())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds compares the files of a directory with those that it should have.
func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		if w, ok := want[e.Name()]; !ok || w != string(text) || !e.Type().IsRegular() {
			t.Errorf("%s (%v) is %q, want %q", e.Name(), e.Type(), text, w)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("%d files, want %d", len(entries), len(want))
	}
}

func TestWriteReplacesLinks(t *testing.T) {
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "victim")
	must(t, os.WriteFile(elsewhere, []byte("old"), 0o600))
	dir, fd := open(t)
	for _, name := range []string{"file", ".new-file"} { // the second is what a killed writer may have left
		must(t, os.Symlink(elsewhere, filepath.Join(dir, name)))
	}
	must(t, Write(fd, "file", []byte("new"), ".new-file", 0o640))
	holds(t, dir, map[string]string{"file": "new"})
	if text, _ := os.ReadFile(elsewhere); string(text) != "old" {
		t.Errorf("the link was followed: %q", text)
	}
	must(t, Write(fd, "file", []byte("newer"), "", 0o640))
	holds(t, dir, map[string]string{"file": "newer"})
}

func TestPut(t *testing.T) {
	t.Parallel()
	dir, fd := open(t)
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o600))
	begin := func() *File {
		f, err := Create(fd, "", 0o600)
		must(t, err)
		_, err = f.WriteString("new")
		must(t, err)
		return f
	}
	if err := begin().Put(fd, "file", unix.RENAME_NOREPLACE); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file that must not exist: %v, want that it exists", err)
	}
	if err := begin().Put(fd, "none/file", 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that does not exist: %v", err)
	}
	begin().Discard()
	holds(t, dir, map[string]string{"file": "old"})

	other, to := open(t)
	f := begin()
	must(t, f.Put(to, "file", 0))
	f.Discard()
	holds(t, dir, map[string]string{"file": "old"})
	holds(t, other, map[string]string{"file": "new"})
}

func TestCreateFails(t *testing.T) {
	t.Parallel()
	dir, fd := open(t)
	must(t, os.Mkdir(filepath.Join(dir, ".new-file"), 0o700))
	if err := Write(fd, "file", nil, ".new-file", 0o600); !errors.Is(err, os.ErrExist) {
		t.Errorf("a directory at the temporary name: %v, want that it exists", err)
	}
}
