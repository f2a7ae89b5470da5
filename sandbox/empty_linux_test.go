package sandbox

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A Measure that does not walk finds all that is made after the last one, however it is made.
func TestMeasureOfWhatWasEmpty(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(path, outside string) error{
		"a file":      func(path, _ string) error { return os.WriteFile(filepath.Join(path, "f"), nil, 0o600) },
		"a directory": func(path, _ string) error { return os.Mkdir(filepath.Join(path, "d"), 0o700) },
		"a link":      func(path, outside string) error { return os.Symlink(outside, filepath.Join(path, "l")) },
		"a file that was elsewhere": func(path, outside string) error {
			return os.Rename(filepath.Join(outside, "old"), filepath.Join(path, "f"))
		},
		"another name of a file": func(path, outside string) error {
			return os.Link(filepath.Join(outside, "old"), filepath.Join(path, "f"))
		},
		"a file, with the times put back": func(path, _ string) error {
			before, err := os.Stat(path)
			if err == nil {
				err = os.WriteFile(filepath.Join(path, "f"), nil, 0o600)
			}
			if err == nil {
				err = os.Chtimes(path, before.ModTime(), before.ModTime())
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, path := workdir(t)
			defer func() { check(t, w.Remove()) }()
			outside := filepath.Dir(path)
			check(t, os.WriteFile(filepath.Join(outside, "old"), []byte("x"), 0o600))
			defer os.Remove(filepath.Join(outside, "old"))
			measured := func() Contents { return w.Measure(false, 0) }
			for began := time.Now(); len(w.empty) == 0; time.Sleep(time.Millisecond) {
				if c := measured(); c.Bytes > 0 || time.Since(began) > time.Minute {
					t.Fatalf("%+v, noted %v: an empty directory is not noted", c, w.empty)
				}
			}
			if c := measured(); c.Bytes > 0 {
				t.Errorf("%+v in an empty directory", c)
			}
			check(t, make(path, outside))
			if c := measured(); c.Bytes == 0 {
				t.Errorf("%+v after that", c)
			}
			check(t, os.RemoveAll(path), os.Mkdir(path, 0o700))
			w.Measure(false, 0)
		})
	}
}

// What is made at once after a Measure is found, although the kernel's clock for files may not have gone on.
func TestMeasureTwiceInATick(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer func() { check(t, w.Remove()) }()
	for range 200 {
		if c := w.Measure(false, 0); c.Bytes > 0 {
			t.Fatalf("%+v in an empty directory", c)
		}
		check(t, os.WriteFile(filepath.Join(path, "f"), nil, 0o600))
		if c := w.Measure(false, 0); c.Files != 1 {
			t.Fatalf("%+v, want a file", c)
		}
		check(t, os.Remove(filepath.Join(path, "f")))
	}
}
