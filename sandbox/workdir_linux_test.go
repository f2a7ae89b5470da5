package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func workdir(t *testing.T) (*Workdir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run")
	w, err := MakeWorkdir(Dir{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return w, path
}

func gone(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left (%v)", p, err)
		}
	}
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestMakeWorkdir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "parents", "run")
	w, err := MakeWorkdir(Dir{Path: path})
	check(t, err)
	defer w.Close()
	info, err := os.Lstat(path)
	check(t, err)
	if info.Mode() != fs.ModeDir|0o700 || w.Path() != path {
		t.Errorf("mode %v at %s", info.Mode(), w.Path())
	}
	var st unix.Stat_t
	check(t, unix.Stat(path, &st))
	if int(st.Uid) != os.Geteuid() {
		t.Errorf("owner %d", st.Uid)
	}
	check(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Symlink("absent", filepath.Join(dir, "link")))
	tests := []struct {
		name, path string
		want       error
	}{
		{"exists", path, syscall.EEXIST},
		{"a file", filepath.Join(dir, "file"), syscall.EEXIST},
		{"a link to nothing", filepath.Join(dir, "link"), syscall.EEXIST},
		{"below a file", filepath.Join(dir, "file", "run"), syscall.ENOTDIR},
	}
	for _, test := range tests {
		var step *StepError
		if _, err := MakeWorkdir(Dir{Path: test.path}); !errors.Is(err, test.want) || !errors.As(err, &step) || step.Step != "mkdir" {
			t.Errorf("%s: error %v, want mkdir: %v", test.name, err, test.want)
		}
	}
}

// Whatever a run makes of its directory, it goes, and what is outside stays.
func TestRemove(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(t *testing.T, path, outside string) // outside is a directory with a file "kept"
	}{
		{"empty", func(*testing.T, string, string) {}},
		{"modes", func(t *testing.T, path, _ string) {
			for _, mode := range []os.FileMode{0, 0o100, 0o200, 0o400, 0o500} {
				d := filepath.Join(path, mode.String())
				check(t, os.MkdirAll(filepath.Join(d, "a", "b"), 0o700), os.WriteFile(filepath.Join(d, "a", "f"), nil, 0), os.Chmod(filepath.Join(d, "a", "b"), mode),
					os.Chmod(filepath.Join(d, "a"), mode), os.Chmod(d, mode))
			}
		}},
		{"mode of itself", func(t *testing.T, path, _ string) {
			check(t, os.WriteFile(filepath.Join(path, "f"), nil, 0o600), os.Chmod(path, 0))
		}},
		{"3000 levels", func(t *testing.T, path, _ string) { dig(t, path, 3000) }},
		{"3000 levels beside each other and names of ours", func(t *testing.T, path, _ string) {
			dig(t, path, 50)
			for i := range 60 {
				check(t, os.MkdirAll(filepath.Join(path, fmt.Sprintf("py3run-removing-%d", i), "py3run-removing-1", "x"), 0o700))
			}
		}},
		{"many files", func(t *testing.T, path, _ string) {
			for i := range 5000 {
				check(t, os.WriteFile(filepath.Join(path, fmt.Sprint(i)), nil, 0))
			}
		}},
		{"links to outside", func(t *testing.T, path, outside string) {
			check(t, os.Symlink(outside, filepath.Join(path, "dir")), os.Symlink(filepath.Join(outside, "kept"), filepath.Join(path, "file")),
				os.Link(filepath.Join(outside, "kept"), filepath.Join(path, "hard")), os.Symlink("absent", filepath.Join(path, "nothing")))
		}},
		{"links deeper down", func(t *testing.T, path, outside string) {
			check(t, os.MkdirAll(filepath.Join(path, "a", "b"), 0o700), os.Symlink(outside, filepath.Join(path, "a", "b", "dir")), os.Symlink(outside, filepath.Join(path, "a", "dir")))
		}},
		{"pipe and socket", func(t *testing.T, path, _ string) {
			check(t, unix.Mkfifo(filepath.Join(path, "pipe"), 0o600), os.Mkdir(filepath.Join(path, "d"), 0o700), unix.Mkfifo(filepath.Join(path, "d", "pipe"), 0))
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			check(t, err)
			defer unix.Close(fd)
			dir, err := os.Open(path)
			check(t, err)
			defer dir.Close()
			check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/socket", dir.Fd())})) // the name has to be short
		}},
		{"strange names", func(t *testing.T, path, _ string) {
			for _, n := range []string{"-rf", "a\nb", "\xff\xfe", " ", "*", strings.Repeat("n", 255), "..."} {
				check(t, os.Mkdir(filepath.Join(path, n), 0o700), os.WriteFile(filepath.Join(path, n, n), nil, 0))
			}
		}},
		{"removed by the run", func(t *testing.T, path, _ string) { check(t, os.Remove(path)) }},
		{"moved", func(t *testing.T, path, _ string) {
			check(t, os.WriteFile(filepath.Join(path, "f"), nil, 0o600), os.Rename(path, path+"-moved"))
		}},
		{"moved to a name that looks like a removed one", func(t *testing.T, path, _ string) { check(t, os.Rename(path, path+"-moved (deleted)")) }},
		{"moved, and another directory in its place", func(t *testing.T, path, _ string) {
			check(t, os.Rename(path, path+"-moved"), os.MkdirAll(filepath.Join(path, "a", "b"), 0o700), os.WriteFile(filepath.Join(path, "a", "f"), nil, 0))
		}},
		{"moved, and a file in its place", func(t *testing.T, path, _ string) {
			check(t, os.Rename(path, path+"-moved"), os.WriteFile(path, nil, 0))
		}},
		{"moved, and a link in its place", func(t *testing.T, path, outside string) {
			check(t, os.Rename(path, path+"-moved"), os.Symlink(outside, path))
		}},
		{"moved, and a link to it in its place", func(t *testing.T, path, _ string) {
			check(t, os.WriteFile(filepath.Join(path, "f"), nil, 0o600), os.Rename(path, path+"-moved"), os.Symlink(path+"-moved", path))
		}},
		{"removed, and a link in its place", func(t *testing.T, path, outside string) { check(t, os.Remove(path), os.Symlink(outside, path)) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, path := workdir(t)
			outside := t.TempDir()
			check(t, os.WriteFile(filepath.Join(outside, "kept"), []byte("text"), 0o640), os.Chmod(outside, 0o750))
			test.do(t, path, outside)
			if err := w.Remove(); err != nil {
				t.Errorf("error %v", err)
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			check(t, err)
			if len(entries) > 0 {
				t.Errorf("%v are left", entries)
			}
			info, err := os.Stat(outside)
			check(t, err)
			if text, err := os.ReadFile(filepath.Join(outside, "kept")); string(text) != "text" || err != nil || info.Mode().Perm() != 0o750 {
				t.Errorf("outside: %q, %v, %v", text, err, info.Mode())
			}
		})
	}
}

// dig makes directories inside each other, deeper than a path can be long, and a file on every
// hundredth level.
func dig(t *testing.T, path string, levels int) {
	t.Helper()
	at, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	check(t, err)
	for i := range levels {
		check(t, unix.Mkdirat(at, "deeper", 0o700))
		if i%100 == 0 {
			f, err := unix.Openat(at, "file", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			check(t, err)
			unix.Close(f)
		}
		next, err := unix.Openat(at, "deeper", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		check(t, err)
		unix.Close(at)
		at = next
	}
	unix.Close(at)
}

func TestRemoveTwiceAndClose(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	check(t, w.Close())
	if _, err := os.Stat(path); err != nil {
		t.Errorf("Close took it away: %v", err)
	}
	v, other := workdir(t)
	check(t, v.Remove())
	gone(t, other)
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer func() {
		if err := w.Remove(); err != nil {
			t.Error(err)
		}
		gone(t, path)
	}()
	if c := w.Measure(false, 0); c.Files != 0 || c.Bytes != 0 || len(c.Names) != 0 {
		t.Errorf("empty: %+v", c)
	}
	outside := t.TempDir()
	big := make([]byte, 1<<20)
	check(t, os.WriteFile(filepath.Join(outside, "big"), big, 0o600),
		os.MkdirAll(filepath.Join(path, "a", "b"), 0o700), os.WriteFile(filepath.Join(path, "a", "b", "big"), big, 0o600), os.Symlink(outside, filepath.Join(path, "link")),
		unix.Mkfifo(filepath.Join(path, "pipe"), 0o600))
	f, err := os.Create(filepath.Join(path, "sparse"))
	check(t, err, f.Truncate(1<<40), f.Close())
	c := w.Measure(false, 0)
	want := []string{"a/b/big", "link", "pipe", "sparse"}
	if slices.Sort(c.Names); !slices.Equal(c.Names, want) || c.Files != 4 {
		t.Errorf("names %q, %d files, want %q", c.Names, c.Files, want)
	}
	if c.Bytes < 1<<20 || c.Bytes >= 2<<20 {
		t.Errorf("%d bytes, want a little more than %d", c.Bytes, 1<<20)
	}
	for i := range 20 {
		check(t, os.WriteFile(filepath.Join(path, fmt.Sprint(i)), nil, 0o600))
	}
	if c := w.Measure(false, 0); c.Files != 24 || len(c.Names) != contentsNames {
		t.Errorf("%d files, %d names", c.Files, len(c.Names))
	}

	check(t, os.Chmod(filepath.Join(path, "a"), 0))
	if c := w.Measure(true, 0); c.Files != 24 || c.Bytes < 1<<20 {
		t.Errorf("after the run, with a closed directory: %d files, %d bytes", c.Files, c.Bytes)
	}
	check(t, os.Rename(path, path+"-moved"))
	if c := w.Measure(true, 0); c.Files != 24 {
		t.Errorf("moved: %d files", c.Files)
	}
}

// A file with many names is one, wherever they are.
// A file that was filled up to the limit may have lost more; one that was only made so long has not.
func TestMeasureAtLimit(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer func() { check(t, w.Remove()) }()
	check(t, os.Mkdir(filepath.Join(path, "d"), 0o700))
	f, err := os.Create(filepath.Join(path, "d", "f"))
	check(t, err, f.Truncate(1<<20))
	if c := w.Measure(true, 1<<20); c.AtLimit != "" {
		t.Errorf("at the limit: %q, and nothing was written", c.AtLimit)
	}
	_, err = f.WriteAt([]byte("x"), 1<<20-1)
	check(t, err, f.Close())
	if c := w.Measure(true, 1<<20); c.AtLimit != "d/f" {
		t.Errorf("at the limit: %q", c.AtLimit)
	}
	for _, want := range []string{"d/f", "", ""} { // while the run lives, once
		if c := w.Measure(false, 1<<20); c.AtLimit != want {
			t.Errorf("at the limit while it lives: %q, want %q", c.AtLimit, want)
		}
	}
	check(t, os.Chtimes(filepath.Join(path, "d", "f"), time.Time{}, time.Now().Add(-time.Hour)))
	if c := w.Measure(false, 1<<20); c.AtLimit != "d/f" {
		t.Errorf("at the limit again: %q", c.AtLimit)
	}
	if c := w.Measure(true, 1<<19); c.AtLimit != "" {
		t.Errorf("at another limit: %q", c.AtLimit)
	}
}

func TestMeasureHardLinks(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	check(t, os.WriteFile(filepath.Join(path, "f"), make([]byte, 1<<20), 0o600), os.Mkdir(filepath.Join(path, "d"), 0o700))
	for i := range 20 {
		check(t, os.Link(filepath.Join(path, "f"), filepath.Join(path, "d", fmt.Sprint(i))))
	}
	if c := w.Measure(false, 0); c.Files != 21 || c.Bytes < 1<<20 || c.Bytes >= 2<<20 {
		t.Errorf("%d files of %d bytes, want 21 of a little more than %d", c.Files, c.Bytes, 1<<20)
	}
	check(t, w.Remove())
}

// A very deep directory is measured to its end, with few descriptors.
func TestMeasureDeep(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	dig(t, path, 3000)
	if c := w.measure(&measuring{ended: true, within: time.Minute}); c.Files != 30 || c.Bytes < 3030*entryBytes {
		t.Errorf("%d files, %d bytes, want 30 and at least %d", c.Files, c.Bytes, 3030*entryBytes)
	}
	check(t, w.Remove())
	gone(t, path)
}

// The run itself makes the trouble, with the rights that it has.
func TestRemoveAfterARun(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		w, path := workdir(t)
		spec := shell(`mkdir -p a/b/c && echo x > a/b/c/f && chmod 0 a/b/c a/b a && ln -s / root && mv "$PWD" "$PWD.moved" && ln -s /etc "$PWD"; echo $?`)
		spec.Method, spec.Dir = m, path
		if out, r := execute(t, spec); out.ExitCode != 0 || r.out.String() != "0\n" {
			t.Fatalf("%+v: %q, %q", out, r.out.String(), r.err.String())
		}
		if err := w.Remove(); err != nil {
			t.Error(err)
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); len(entries) > 0 || err != nil {
			t.Errorf("left: %v, %v", entries, err)
		}
	})
}
