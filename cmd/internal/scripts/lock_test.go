package scripts

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A change that waits for a restore does not go into the scripts that the restore has put aside.
func TestSaveDuringARestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	place, aside := filepath.Join(dir, "scripts"), filepath.Join(dir, "aside")
	save := func(name, code string) error {
		s, err := Open(place)
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.Save(name, Draft{Code: []byte(code)}, Edit{By: "alice"})
		return err
	}
	if _, err := Lock(place); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a store that does not exist: %v", err)
	}
	if err := save("tank", "1"); err != nil {
		t.Fatal(err)
	}
	before, err := Open(place)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	unlock, err := Lock(place)
	if err != nil {
		t.Fatal(err)
	}
	saved := make(chan error)
	go func() {
		_, err := before.Save("tank", Draft{Code: []byte("2")}, Edit{By: "alice"})
		saved <- err
	}()
	if err := errors.Join(os.Rename(place, aside), os.Mkdir(place, 0o700)); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-saved; err == nil || !strings.Contains(err.Error(), errReplaced.Error()) {
		t.Errorf("a change of scripts that are put aside: %v", err)
	}
	old, err := Open(aside)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if s, err := old.Resolve("tank"); err != nil || string(s.Code) != "1" {
		t.Errorf("%v, %v", s, err)
	}
	if err := save("tank", "3"); err != nil {
		t.Error(err)
	}
}

func TestNoPlaceForScripts(t *testing.T) {
	t.Parallel()
	if s, err := Open(Dir("")); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("%v, %v", s, err)
	}
}
