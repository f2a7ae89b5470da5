package scripts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A strayed store is one with all that killed writers can leave.
func strayed(t *testing.T) (dir, stray string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "scripts")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	save(t, s, "plant/tank", "print(1)\n", by("alice"))
	save(t, s, "plant/tank", "print(2)\n", by("alice"))
	save(t, s, "gone", "print(3)\n", by("alice"))
	if _, err := s.Delete("gone", by("alice")); err != nil {
		t.Fatal(err)
	}
	stray = filepath.Join(dir, "objects", hexSHA256([]byte("print(4)\n")))
	half := filepath.Join(dir, "names", "half")
	for path, text := range map[string]string{
		stray: "print(4)\n", filepath.Join(dir, "names", "plant+tank", newMeta): "{", filepath.Join(dir, "objects", "README"): "of somebody",
		filepath.Join(half, lockName): "", filepath.Join(half, historyName): "{}\n", filepath.Join(half, newObject): "x",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, stray
}

func TestSweep(t *testing.T) {
	t.Parallel()
	dir, stray := strayed(t)
	if swept, err := Sweep(dir); err != nil || swept != (Swept{Texts: 1, Bytes: 9, Names: 1}) {
		t.Errorf("%+v, %v", swept, err)
	}
	for _, path := range []string{stray, filepath.Join(dir, "names", "half"), filepath.Join(dir, "names", "plant+tank", newMeta)} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for ref, want := range map[string]string{"plant/tank@1": "print(1)\n", "plant/tank": "print(2)\n"} {
		if got, err := s.Resolve(ref); err != nil || string(got.Code) != want {
			t.Errorf("%s: %q, %v", ref, got.Code, err)
		}
	}
	if got, err := s.Text("gone", 1); err != nil || string(got.Code) != "print(3)\n" {
		t.Errorf("of a deleted script: %q, %v", got.Code, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "objects", "README")); err != nil {
		t.Errorf("a file that no writer has made: %v", err)
	}
	if swept, err := Sweep(dir); err != nil || swept != (Swept{}) {
		t.Errorf("once more: %+v, %v", swept, err)
	}
	if swept, err := Sweep(filepath.Join(dir, "nothing")); err != nil || swept != (Swept{}) {
		t.Errorf("no store: %+v, %v", swept, err)
	}
}

// Where somebody changes a script, or a history cannot be read, nothing is removed.
func TestSweepLeavesAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func(dir string) error
		want  string // in the error; empty: none
	}{
		{"a change under way", func(dir string) error {
			s, err := Open(dir)
			if err != nil {
				return err
			}
			_, err = s.share()
			return err
		}, ""},
		{"a damaged history", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "names", "plant+tank", historyName), []byte("x\n"), 0o600)
		}, "tank"},
		{"a lost meta.json", func(dir string) error { return os.Remove(filepath.Join(dir, "names", "plant+tank", metaName)) }, "meta.json"},
		{"a name that no script has", func(dir string) error { return os.Mkdir(filepath.Join(dir, "names", "CON"), 0o700) }, "capital"},
	} {
		dir, stray := strayed(t)
		if err := tt.spoil(dir); err != nil {
			t.Fatal(err)
		}
		swept, err := Sweep(dir)
		if swept != (Swept{}) || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v", tt.name, swept, err)
		}
		if _, err := os.Lstat(stray); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Sweeps beside writers cost no version.
func TestSweepBesideWriters(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "scripts")
	const versions = 40
	done := make(chan error)
	for _, name := range []string{"a", "b"} {
		go func() {
			s, err := Open(dir)
			if err != nil {
				done <- err
				return
			}
			defer s.Close()
			for i := range versions {
				if _, err = s.Save(name, Draft{Code: fmt.Append(nil, name, i)}, by("alice")); err != nil {
					break
				}
			}
			done <- err
		}()
	}
	for left := 2; left > 0; {
		select {
		case err := <-done:
			if left--; err != nil {
				t.Error(err)
			}
		default:
			if _, err := Sweep(dir); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // the writers need their turns
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"a", "b"} {
		for i := range versions {
			if got, err := s.Text(name, i+1); err != nil || string(got.Code) != fmt.Sprint(name, i) {
				t.Fatalf("%s@%d: %q, %v", name, i+1, got.Code, err)
			}
		}
	}
}
