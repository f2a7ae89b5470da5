package sandbox

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a launcher leaves that is killed at any moment is swept by the next, and what lives is left alone.
func TestSweep(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		parent := t.TempDir()
		living, err := MakeWorkdir(Dir{Path: filepath.Join(parent, "living"), Private: true})
		check(t, err, living.AddFile(".py", nil))
		kept, err := MakeWorkdir(Dir{Path: filepath.Join(parent, "kept"), Private: true, Keep: true})
		check(t, err, os.WriteFile(filepath.Join(kept.real, "f"), nil, 0o600))
		kept.lock.Close() // as when its launcher died
		word := mark(t)
		for range 12 {
			c := helper("killed", string(m), parent, word)
			c.Stderr = os.Stderr
			check(t, c.Start())
			time.Sleep(rand.N(40 * time.Millisecond)) // the random moment
			c.Process.Kill()
			c.Wait()
		}
		eventually(t, "the programs to end", func() bool { return len(marked(word)) == 0 })
		check(t, Sweep(parent))
		var left []string
		filepath.WalkDir(parent, func(path string, _ fs.DirEntry, _ error) error {
			rel, _ := filepath.Rel(parent, path)
			left = append(left, strings.ReplaceAll(rel, fmt.Sprintf(".py3run-%d", os.Geteuid()), "PLACE"))
			return nil
		})
		slices.Sort(left)
		if want := []string{".", "PLACE", "PLACE/living.d", "PLACE/living.d/living", "PLACE/living.d/living.py", "PLACE/living.run", "kept", "kept/f", "living", "living.py"}; !slices.Equal(left, want) {
			t.Errorf("left %q\nwant %q", left, want)
		}
		check(t, living.Remove())
	})
}

// Whatever lies in the place, sweeping removes only what is below it or bears its name, waits for
// nothing, and says nothing twice.
func TestSweepOnlyRuns(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	place := placeIn(parent)
	write := func(name, text string) { check(t, os.WriteFile(name, []byte(text), 0o600)) }
	check(t, os.Mkdir(place, 0o700), os.Mkdir(filepath.Join(place, "directory.run"), 0o700), unix.Mkfifo(filepath.Join(place, "pipe.run"), 0o600),
		os.Symlink("/etc/passwd", filepath.Join(place, "link.run")))
	write(filepath.Join(parent, "other"), "of others")
	for _, name := range []string{".run", "..run", "...run"} {
		write(filepath.Join(place, name), "settled\n")
	}
	f, err := os.Create(filepath.Join(place, "sparse.run"))
	check(t, err, f.Truncate(5<<30), f.Close())
	write(filepath.Join(place, "groups.run"), "group "+parent+"\ngroup\ngroup /absent\nfile ../other\nfile /../other\nfi")
	write(filepath.Join(place, "empty.run"), "")
	// a run that was to stay, with something else at its path by now
	write(filepath.Join(place, "kept.run"), "keep\n")
	check(t, os.MkdirAll(filepath.Join(place, "kept.d", "kept"), 0o700), os.Mkdir(filepath.Join(parent, "kept"), 0o700))
	write(filepath.Join(place, "kept.d", "kept", "f"), "of the run")
	write(filepath.Join(parent, "kept", "f"), "of others")
	// a private run, with something else where it was mounted
	write(filepath.Join(place, "taken.run"), "file .py\n")
	check(t, os.Mkdir(filepath.Join(parent, "taken"), 0o700), os.MkdirAll(filepath.Join(place, "taken.d", "taken"), 0o700))
	write(filepath.Join(parent, "taken", "f"), "of others")
	write(filepath.Join(parent, "taken.py"), "of others")
	write(filepath.Join(place, "taken.d", "taken.py"), "of the run")
	// a link that leads elsewhere, and a group that is not the run's
	elsewhere := t.TempDir()
	check(t, os.Mkdir(filepath.Join(elsewhere, "precious"), 0o700), os.Symlink(elsewhere, filepath.Join(parent, "link")))
	write(filepath.Join(place, "link+precious.run"), "at link/precious\nsettled\ngroup /sys/fs/cgroup/pids/others\n")
	// names that lead elsewhere
	write(filepath.Join(place, "out.run"), "settled\nat ../other\nat /etc\nat other\nat out/../other\n")
	check(t, Sweep(parent), Sweep(parent))
	if _, err := os.Stat(filepath.Join(elsewhere, "precious")); err != nil {
		t.Errorf("what a link leads to was removed: %v", err)
	}
	gone(t, filepath.Join(place, "sparse.run"), filepath.Join(place, "groups.run"), filepath.Join(place, "empty.run"), filepath.Join(place, "kept.run"),
		filepath.Join(place, "taken.run"), filepath.Join(place, "taken.d"), filepath.Join(place, "out.run"))
	for path, want := range map[string]string{"other": "of others", "kept/f": "of others", "kept-1/f": "of the run", "taken/f": "of others", "taken.py": "of others"} {
		if text, err := os.ReadFile(filepath.Join(parent, path)); string(text) != want {
			t.Errorf("%s: %q, %v, want %q", path, text, err, want)
		}
	}
}

// What somebody outside puts where a private directory is mounted is told, and is not removed.
func TestPlaceTaken(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	path := filepath.Join(t.TempDir(), "run")
	w, err := MakeWorkdir(Dir{Path: path, Private: true})
	check(t, err, w.AddFile(".py", nil))
	spec := command("linger")
	spec.Method, spec.Dir = Namespace, path
	r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard, Workdir: w}, OwnChild)
	check(t, err, r.Release())
	if lost := w.Lost(); lost != "" {
		t.Errorf("%s is lost, and nobody has touched it", lost)
	}
	time.Sleep(30 * time.Millisecond) // a file system's clock ticks every 1 to 10 ms, and the numbers can be the same
	check(t, os.Remove(path), os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "f"), nil, 0o600))
	r.Kill()
	r.Wait(nil, nil)
	if lost := w.Lost(); lost != path {
		t.Errorf("lost %q, want %s", lost, path)
	}
	check(t, w.Remove())
	gone(t, path+".py", w.place)
	if _, err := os.Stat(filepath.Join(path, "f")); err != nil {
		t.Errorf("what took the place of the directory was removed: %v", err)
	}
}

// A place that is not this user's own is not used, and said.
func TestPlaceOfSomebodyElse(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	check(t, os.Mkdir(placeIn(parent), 0o777), os.Chmod(placeIn(parent), 0o777))
	w, err := MakeWorkdir(Dir{Path: filepath.Join(parent, "run"), Private: true})
	check(t, err)
	if w.private == nil || w.real != w.path {
		t.Errorf("%+v", w)
	}
	spec := command("exit", "0")
	r, err := Start(spec, IO{Stdout: &output{}, Stderr: &output{}, Workdir: w}, OwnChild)
	check(t, err)
	out := r.Wait(nil, nil)
	if !lacks(out.Protection, "private-working-dir") {
		t.Errorf("protection %+v", out.Protection)
	}
	check(t, w.Remove())
	gone(t, w.path)
}

func TestSettle(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run")
	w, err := MakeWorkdir(Dir{Path: path, Private: true})
	check(t, err, w.AddFile(".py", []byte("code")), os.WriteFile(filepath.Join(w.real, "f"), nil, 0o600))
	if info, err := os.Stat(w.place); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("place %v, %v", info, err)
	}
	check(t, w.Settle(), w.Settle())
	if text, err := os.ReadFile(path + ".py"); string(text) != "code" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(path, "f")); err != nil {
		t.Error(err)
	}
	check(t, w.Remove())
	gone(t, path, path+".py", w.place)
}
