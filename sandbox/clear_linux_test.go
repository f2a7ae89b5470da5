package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// memoryDir is a new directory on a file system in memory, where there is one: large trees are made
// and removed many times as fast there.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "py3run-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// What is not removed in time is out of the run's paths at once, and is removed by whoever has the
// time: this launcher, or, if that is killed, a later one.
func TestDiscard(t *testing.T) {
	t.Parallel()
	type paths struct{ parent, path, place string }
	tests := []struct {
		name    string
		private bool
		do      func(t *testing.T, p paths, w *Workdir)
		then    func(t *testing.T, p paths, left *Leftovers)
	}{
		{"the launcher goes on", true, nil, func(t *testing.T, _ paths, left *Leftovers) { check(t, left.Clear(time.Minute)) }},
		{"the launcher is killed", true, nil, func(t *testing.T, p paths, left *Leftovers) {
			left.Close()
			check(t, Sweep(p.parent))
		}},
		{"the launcher has no time either", true, nil, func(t *testing.T, p paths, left *Leftovers) {
			check(t, left.Clear(1))
			if names, _ := filepath.Glob(filepath.Join(p.place, leftPrefix+"*")); len(names) != 2 {
				t.Errorf("%q, want what is left and its entry", names)
			}
			check(t, Sweep(p.parent))
		}},
		{"one that lives is left alone", true, nil, func(t *testing.T, p paths, left *Leftovers) {
			check(t, Sweep(p.parent))
			if names, _ := filepath.Glob(filepath.Join(p.place, leftPrefix+"*", "*")); len(names) == 0 {
				t.Error("a sweep took it from a launcher that lives")
			}
			check(t, left.Clear(time.Minute))
		}},
		{"at its path", false, nil, func(t *testing.T, _ paths, left *Leftovers) { check(t, left.Clear(time.Minute)) }},
		{"moved by the run, with another in its place", false, func(t *testing.T, p paths, _ *Workdir) {
			check(t, os.Rename(p.path, p.path+"-moved"), os.Mkdir(p.path, 0o700))
			dig(t, p.path, 200)
		}, func(t *testing.T, p paths, left *Leftovers) {
			left.Close()
			check(t, Sweep(p.parent))
		}},
		{"without a place", false, func(t *testing.T, _ paths, w *Workdir) { w.leave() }, func(t *testing.T, p paths, left *Leftovers) {
			if err := left.Clear(1); err == nil || !strings.Contains(err.Error(), p.path) {
				t.Errorf("error %v, want one that names %s", err, p.path)
			}
			check(t, left.Clear(time.Minute))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := paths{parent: memoryDir(t)}
			p.path, p.place = filepath.Join(p.parent, "run"), placeIn(p.parent)
			w, err := MakeWorkdir(Dir{Path: p.path, Private: test.private})
			check(t, err, w.AddFile(".py", []byte("pass")))
			dig(t, w.real, 200)
			if test.do != nil {
				test.do(t, p, w)
			}
			left, err := w.Discard(1)
			check(t, err)
			if left == nil {
				t.Fatal("nothing is left after a nanosecond")
			}
			if test.name != "without a place" {
				gone(t, p.path, p.path+".py", p.path+"-moved", filepath.Join(p.place, "run"), filepath.Join(p.place, "run"+entrySuffix))
			}
			test.then(t, p, left)
			if entries, err := os.ReadDir(p.parent); len(entries) > 0 || err != nil {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

// Runs that sweep meanwhile take nothing from leftovers that are just being made.
func TestLeftoversBesideSweeps(t *testing.T) {
	t.Parallel()
	parent := memoryDir(t)
	stop := make(chan struct{})
	var sweeps sync.WaitGroup
	for range 4 {
		sweeps.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					Sweep(parent)
				}
			}
		})
	}
	place := placeIn(parent)
	eventually(t, "a place that no sweep removes", func() bool {
		os.MkdirAll(place, 0o700)
		return os.WriteFile(filepath.Join(place, "stays"), nil, 0o600) == nil
	})
	for range 2000 {
		l := &Leftovers{place: place, usable: true}
		check(t, l.enter())
		if _, err := os.Stat(filepath.Join(place, l.name+entrySuffix)); err != nil {
			t.Fatalf("a directory without an entry: %v", err)
		}
		check(t, l.Clear(time.Minute))
	}
	close(stop)
	sweeps.Wait()
}

// A removal that fails for want of descriptors is left to a later run.
func TestDiscardWithoutDescriptors(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if text, err := helper("starve", parent).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if _, err := os.Stat(filepath.Join(placeIn(parent), "run"+entrySuffix)); err != nil {
		t.Error(err)
	}
	check(t, Sweep(parent))
	if entries, err := os.ReadDir(parent); len(entries) > 0 || err != nil {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// starve removes a working directory when no descriptor is to be had.
func starve(args []string) error {
	w, err := MakeWorkdir(Dir{Path: filepath.Join(args[0], "run"), Private: true})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(w.real, "a", "b"), 0o700); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{}); err != nil {
		return err
	}
	if err := w.Remove(); !errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("%v, want %v", err, unix.EMFILE)
	}
	return nil
}

// Neither depth nor length of directories costs memory.
func TestTreesCostNoMemory(t *testing.T) {
	t.Parallel()
	for _, shape := range []string{"deep", "wide", "broom"} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			text, err := helper("clear", memoryDir(t), shape).Output()
			if err != nil {
				t.Fatal(err)
			}
			if kilobytes, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || kilobytes > 6<<10 {
				t.Errorf("%s kB more (%v)", text, err)
			}
		})
	}
}

// clearTree makes a tree, measures and removes it, and tells by how many kilobytes its own memory
// has grown.
func clearTree(args []string) error {
	w, err := MakeWorkdir(Dir{Path: filepath.Join(args[0], "run")})
	if err != nil {
		return err
	}
	levels, width := 40000, 0
	switch args[1] {
	case "wide":
		levels, width = 1, 60000
	case "broom": // many levels, each with a few
		levels, width = 8000, 4
	}
	name := strings.Repeat("n", 200)
	at, err := unix.Open(w.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i := 0; i < levels && err == nil; i++ {
		for j := 0; j < width && err == nil; j++ {
			err = unix.Mkdirat(at, name+strconv.Itoa(j), 0o700)
		}
		if err == nil {
			err = unix.Mkdirat(at, "d", 0o700)
		}
		next, _ := unix.Openat(at, "d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	if err != nil {
		return err
	}
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	if c := w.Measure(true, 0); c.Bytes < int64(levels)*int64(width+1)*entryBytes && !c.Short {
		return fmt.Errorf("%d bytes", c.Bytes)
	}
	if err := w.Remove(); err != nil {
		return err
	}
	if _, err := os.Lstat(w.path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is left: %v", w.path, err)
	}
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	fmt.Println(after.Maxrss - before.Maxrss)
	return nil
}

// On the way back from below, more levels than keep a descriptor are gone through, each with more
// to look at.
func TestMeasureOnTheWayBack(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	const levels = 300
	for i := range levels {
		d := filepath.Join(path, strings.Repeat("d/", i+1))
		check(t, os.MkdirAll(filepath.Join(d, "a"), 0o700), os.Mkdir(filepath.Join(d, "z"), 0o700))
		for _, name := range []string{"f", "a/f", "z/f"} {
			check(t, os.WriteFile(filepath.Join(d, name), nil, 0o600))
		}
	}
	if c := w.measure(&measuring{ended: true, within: time.Minute}); c.Short || c.Files != 3*levels || c.Bytes != 6*levels*entryBytes {
		t.Errorf("%d files of %d bytes, short %t; want %d of %d", c.Files, c.Bytes, c.Short, 3*levels, 6*levels*entryBytes)
	}
	check(t, w.Remove())
	gone(t, path)
}

// What the run moves while it is measured is left out, and the rest is still looked at.
func TestMeasureWhileThingsMove(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer w.Remove()
	const levels = 200
	deep := filepath.Join(path, strings.Repeat("d/", levels))
	check(t, os.MkdirAll(deep, 0o700))
	for i := range levels {
		check(t, os.WriteFile(filepath.Join(path, strings.Repeat("d/", i), "f"), nil, 0o600))
	}
	check(t, os.MkdirAll(filepath.Join(path, "z"), 0o700))
	for i := range 100 {
		check(t, os.WriteFile(filepath.Join(path, "z", fmt.Sprint(i)), nil, 0o600))
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for from, to := filepath.Join(path, strings.Repeat("d/", 20), "d"), filepath.Join(path, "moved"); ; from, to = to, from {
			select {
			case <-stop:
				return
			default:
				os.Rename(from, to)
			}
		}
	}()
	for range 20 {
		if c := w.Measure(false, 0); c.Files < 100 || c.Files > 2*levels+100 {
			t.Errorf("%+v", c)
		}
	}
}

// Used stops at what it was asked about; a look under way ends with the run.
func TestUsed(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer w.Remove()
	for i := range 1000 {
		check(t, os.WriteFile(filepath.Join(path, fmt.Sprint(i)), nil, 0o600))
	}
	for _, c := range []struct{ most, least, atMost int64 }{{0, 1000, 1000}, {2000, 1000, 1000}, {10, 11, 12}} {
		if used := w.Used(c.most * entryBytes); used < c.least*entryBytes || used > c.atMost*entryBytes {
			t.Errorf("of at most %d: %d", c.most, used/entryBytes)
		}
	}
	w.halted.Store(true)
	if used := w.Used(0); used >= 1000*entryBytes {
		t.Errorf("after the end: %d", used/entryBytes)
	}
	if c := w.measure(&measuring{ended: true, within: time.Minute}); c.Files != 1000 || c.Short {
		t.Errorf("the measuring at the end: %+v", c)
	}
}

// A large tree is looked at again as soon as the file system has lost what is left of the limit.
// Where that was others' doing, later each time.
func TestEarlyDiskLooks(t *testing.T) {
	t.Parallel()
	const took = time.Second
	for _, c := range []struct {
		name  string
		grows bool // the directory is what takes the room
		looks int  // early ones in two minutes
	}{{"its own", true, 1}, {"of others", false, 12}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			left, used := int64(1<<40), int64(100)
			w := watch{limits: Limits{Disk: 200}, spawn: spawned, free: func() (int64, bool) { return left, true }, disk: func() int64 { return 0 }}
			w.restAfter(diskLook{used, took}, now)
			w.freeBefore, w.nextDisk = left, now.Add(time.Hour)
			early, passed := 0, false
			for range int(2 * time.Minute / sampleEvery) {
				now = now.Add(sampleEvery)
				left -= 30
				if c.grows {
					used += 30
				}
				w.lookDisk(now)
				if w.measuring == nil {
					continue
				}
				<-w.measuring
				w.measuring = nil
				if early++; used > w.limits.Disk {
					passed = true
					break
				}
				now = now.Add(took)
				w.restAfter(diskLook{used, took}, now)
				w.nextDisk = now.Add(time.Hour)
			}
			if passed != c.grows || early == 0 || early > c.looks {
				t.Errorf("%d looks, the limit seen to be passed: %t", early, passed)
			}
		})
	}
	for _, c := range []struct{ took, want time.Duration }{{0, 0}, {time.Millisecond, 20 * time.Millisecond}, {500 * time.Millisecond, 2 * time.Second}, {time.Second, 3 * time.Second}} {
		var w watch
		now := time.Now()
		if w.restAfter(diskLook{0, c.took}, now); w.nextDisk.Sub(now) != c.want {
			t.Errorf("after a look of %v: rest of %v, want %v", c.took, w.nextDisk.Sub(now), c.want)
		}
	}
}
