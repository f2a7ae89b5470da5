package sandbox

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// A directory that was made ahead is like any other, and what a killed launcher leaves of it is swept.
func TestSpareDir(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "root")
	left := func(step string) {
		t.Helper()
		if names, err := os.ReadDir(root); err != nil || len(names) > 0 {
			t.Errorf("%s: left %v (%v)", step, names, err)
		}
	}
	// swept sweeps until nothing is left. A process that a test beside this one is about to start can hold
	// the lock of a launcher that has died, until its execve.
	swept := func(step string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			check(t, Sweep(root))
			if names, _ := os.ReadDir(root); len(names) == 0 || time.Now().After(end) {
				break
			}
		}
		left(step)
	}
	spare := func() *SpareDir {
		t.Helper()
		s, err := MakeSpareDir(root, ".py")
		check(t, err)
		return s
	}
	die := func(w *Workdir) { w.lock.Close() }
	dir := Dir{Path: filepath.Join(root, "run"), Root: root, Private: true}

	check(t, spare().Remove())
	left("not used")
	die(spare().w)
	swept("not used, and its launcher died")

	w, ok := spare().Use(dir, ".py")
	if !ok || w.Path() != dir.Path {
		t.Fatalf("%t, %+v", ok, w)
	}
	check(t, w.AddFile(".py", []byte("text")), os.WriteFile(filepath.Join(w.real, "f"), nil, 0o600))
	if c := w.Measure(true, 0); c.Files != 1 {
		t.Errorf("%+v", c)
	}
	if text, err := os.ReadFile(w.real + ".py"); err != nil || string(text) != "text" {
		t.Errorf("the file: %q, %v", text, err)
	}
	check(t, w.Remove())
	left("used")
	if w, ok = spare().Use(dir, ""); !ok {
		t.Fatal("not usable")
	}
	if names, err := os.ReadDir(w.top); err != nil || len(names) != 1 {
		t.Errorf("without a file: %v (%v)", names, err)
	}
	check(t, w.Remove())
	left("used without a file")
	if w, ok = spare().Use(dir, ".py"); !ok {
		t.Fatal("not usable")
	}
	check(t, w.AddFile(".py", nil))
	die(w)
	swept("used, and its launcher died")

	// Its launcher died between the renames.
	s := spare()
	old := s.w.top
	if w, ok = s.Use(dir, ".py"); !ok {
		t.Fatal("not usable")
	}
	check(t, os.Rename(w.top, old))
	die(w)
	swept("half used, and its launcher died")

	for name, d := range map[string]Dir{
		"that stays":        {Path: dir.Path, Root: root, Private: true, Keep: true},
		"that others see":   {Path: dir.Path, Root: root},
		"in another root":   {Path: filepath.Join(t.TempDir(), "run"), Root: t.TempDir(), Private: true},
		"deeper":            {Path: filepath.Join(root, "a", "run"), Root: root, Private: true},
		"of a spare's name": {Path: filepath.Join(root, sparePrefix+"run"), Root: root, Private: true},
	} {
		s := spare()
		if _, ok := s.Use(d, ".py"); ok {
			t.Errorf("it was used for a directory %s", name)
		}
		check(t, s.Remove())
	}
	left("not usable")

	taken, err := MakeWorkdir(dir)
	check(t, err)
	s = spare()
	if _, ok := s.Use(dir, ".py"); ok {
		t.Error("it was used under a name that is taken")
	}
	check(t, s.Remove(), taken.Remove())
	left("taken")

	others := t.TempDir()
	if _, err := MakeSpareDir(others, ".py"); err == nil {
		t.Error("a root that holds other things was accepted")
	}
	if names, _ := os.ReadDir(others); len(names) > 0 {
		t.Errorf("a refusal leaves %v", names)
	}
}

// Nothing but a whole path is removed: an empty one would mean the current directory.
func TestRemoveWantsAPath(t *testing.T) {
	t.Chdir(t.TempDir())
	check(t, os.WriteFile("file", nil, 0o600))
	for _, path := range []string{"", ".", "file", "./file", "/", "/.", "/.."} {
		if err := (&clearing{}).remove(path); err == nil {
			t.Errorf("%q was removed", path)
		}
	}
	if _, err := os.Stat("file"); err != nil {
		t.Error(err)
	}
}

// Each field of a pool key makes another key.
func TestPoolKeyEqual(t *testing.T) {
	t.Parallel()
	kind := reflect.TypeFor[PoolKey]()
	for i := range kind.NumField() {
		var was, is PoolKey
		switch v := reflect.ValueOf(&is).Elem().Field(i); v.Kind() {
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int:
			v.SetInt(7)
		case reflect.Slice:
			v.Set(reflect.ValueOf([]string{"x"}))
		default:
			t.Fatalf("%s is a %v", kind.Field(i).Name, v.Type())
		}
		if was.Equal(is) || !is.Equal(is) {
			t.Errorf("%s makes no difference", kind.Field(i).Name)
		}
	}
}
