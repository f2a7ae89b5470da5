package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// everything chooses all files.
type everything struct{}

func (everything) Chooses(string) bool    { return true }
func (everything) Enter(string) Selection { return everything{} }

// gather hands back all files as a map.
func gather(w *Workdir, change func(*Gathering)) (map[string]string, Gathered) {
	got := map[string]string{}
	room := int64(1 << 20)
	g := Gathering{Selection: everything{}, BadName: func(string) string { return "" }, Files: 1000, Within: time.Minute,
		Room: func() int64 { return room },
		Take: func(path string, content []byte) bool {
			got[path] = string(content)
			room -= int64(len(content))
			return true
		}}
	if change != nil {
		change(&g)
	}
	return got, w.Gather(g)
}

// What code can leave in its directory, and what is handed back of it.
func TestGather(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	check(t, os.WriteFile(secret, []byte("secret"), 0o600))
	tests := []struct {
		name   string
		make   func(dir string) error
		change func(*Gathering)
		want   map[string]string
		left   string // a part of why something is left out; empty: nothing is
		over   Overrun
	}{
		{"files", func(dir string) error {
			return errors.Join(os.MkdirAll(dir+"/a/b", 0o700), os.WriteFile(dir+"/a/b/c", []byte("1"), 0o400), os.WriteFile(dir+"/.x", nil, 0o600))
		}, nil, map[string]string{"a/b/c": "1", ".x": ""}, "", ""},
		{"a link to a file", func(dir string) error { return os.Symlink(secret, dir+"/l") }, nil, nil, "l: a symbolic link", ""},
		{"a link to a file in the directory", func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/f", []byte("1"), 0o600), os.Symlink("f", dir+"/l"))
		}, nil, map[string]string{"f": "1"}, "l: a symbolic link", ""},
		{"a link to nothing", func(dir string) error { return os.Symlink("absent", dir+"/l") }, nil, nil, "l: a symbolic link", ""},
		{"a link to a directory", func(dir string) error { return os.Symlink(filepath.Dir(secret), dir+"/l") }, nil, nil, "l: a symbolic link", ""},
		{"a second name of a file outside", func(dir string) error { return os.Link(secret, dir+"/l") }, nil, nil, "l: it has 2 names", ""},
		{"a pipe", func(dir string) error { return unix.Mkfifo(dir+"/p", 0o600) }, nil, nil, "p: a named pipe", ""},
		{"a socket", func(dir string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s", Net: "unix"})
			if err == nil {
				l.SetUnlinkOnClose(false)
				l.Close()
			}
			return err
		}, nil, nil, "s: a socket", ""},
		{"a terabyte of nothing", func(dir string) error {
			f, err := os.Create(dir + "/huge")
			return errors.Join(err, f.Truncate(1<<40), f.Close(), os.WriteFile(dir+"/small", []byte("1"), 0o600))
		}, nil, map[string]string{"small": "1"}, "huge: 1099511627776 bytes", TooManyBytes},
		{"a file larger than memory can be", func(dir string) error {
			f, err := os.Create(dir + "/huge")
			if e := f.Truncate(math.MaxInt64); e != nil { // ext4 has 16 TB
				e = f.Truncate(1 << 43)
				err = errors.Join(err, e)
			}
			return errors.Join(err, f.Close())
		}, nil, nil, "huge: ", TooManyBytes},
		{"together too large", func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/a", bytes.Repeat([]byte{1}, 700<<10), 0o600), os.WriteFile(dir+"/b", bytes.Repeat([]byte{2}, 700<<10), 0o600), os.WriteFile(dir+"/c", []byte("1"), 0o600))
		}, nil, map[string]string{"a": strings.Repeat("\x01", 700<<10), "c": "1"}, "b: 716800 bytes", TooManyBytes},
		{"too many", func(dir string) (err error) {
			for i := range 20 {
				err = errors.Join(err, os.WriteFile(fmt.Sprint(dir, "/", i), nil, 0o600))
			}
			return err
		}, func(g *Gathering) { g.Files = 0 }, nil, "there are more than 0 files", TooManyFiles},
		{"refused by the taker", func(dir string) error { return os.WriteFile(dir+"/a", []byte("1"), 0o600) },
			func(g *Gathering) { g.Take = func(string, []byte) bool { return false } }, nil, "a: 1 bytes", TooManyBytes},
		{"no time", func(dir string) error { return os.WriteFile(dir+"/a", []byte("1"), 0o600) },
			func(g *Gathering) { g.Within = -time.Second }, nil, "no time left", TooLong},
		{"a bad name", func(dir string) error { return os.WriteFile(dir+"/\xff", nil, 0o600) },
			func(g *Gathering) { g.BadName = func(path string) string { return "no " + path } }, nil, "\xff: no \xff", ""},
		{"a bad name of a directory", func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/\xff", 0o700), os.WriteFile(dir+"/\xff/a", nil, 0o600))
		}, func(g *Gathering) { g.BadName = func(path string) string { return "no" } }, nil, "\xff/: no", ""},
		{"a directory closed to its user", func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/d", 0o700), os.WriteFile(dir+"/d/a", []byte("1"), 0o600), os.Chmod(dir+"/d", 0))
		}, nil, map[string]string{"d/a": "1"}, "", ""},
		{"the directory itself closed", func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/a", []byte("1"), 0o600), os.Chmod(dir, 0))
		}, nil, map[string]string{"a": "1"}, "", ""},
		{"the directory moved and replaced", func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/a", []byte("1"), 0o600), os.Rename(dir, dir+"-moved"), os.Symlink(filepath.Dir(secret), dir))
		}, nil, map[string]string{"a": "1"}, "", ""},
		{"the directory removed", func(dir string) error { return os.Remove(dir) }, nil, nil, "", ""},
		{"a file of another user", func(dir string) error { return os.WriteFile(dir+"/a", []byte("1"), 0o600) },
			func(g *Gathering) { g.Owner = &User{UID: os.Geteuid() + 1} }, nil, "a: it belongs to another user", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, path := workdir(t)
			defer w.Remove()
			check(t, test.make(path))
			got, out := gather(w, test.change)
			if len(got) != len(test.want) {
				t.Errorf("%d files, want %d", len(got), len(test.want))
			}
			for name, content := range test.want {
				if got[name] != content {
					t.Errorf("%s: %.20q, want %.20q", name, got[name], content)
				}
			}
			left := ""
			for _, l := range out.Left {
				left += l.Path + ": " + l.Why + "\n"
			}
			if (left == "") != (test.left == "") || !strings.Contains(left, test.left) || out.Over != test.over {
				t.Errorf("left out %q, over %q; want %q, %q", left, out.Over, test.left, test.over)
			}
		})
	}
}

// A file that its owner cannot read is named, not handed back. (Root reads it: it may.)
func TestGatherUnreadable(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer w.Remove()
	check(t, os.WriteFile(path+"/a", []byte("1"), 0))
	got, out := gather(w, nil)
	if os.Geteuid() == 0 && got["a"] != "1" {
		t.Errorf("%v, %+v", got, out)
	}
	if os.Geteuid() != 0 && (len(got) > 0 || len(out.Left) != 1 || out.Left[0].Why != "permission denied") {
		t.Errorf("%v, %+v", got, out)
	}
}

// Files that are replaced or written meanwhile, by a process that outlives the run, are handed back as they were or left out, and nothing from
// outside is.
func TestGatherChanging(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	check(t, os.WriteFile(filepath.Join(outside, "x"), []byte("secret"), 0o600))
	w, path := workdir(t)
	defer w.Remove()
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			os.RemoveAll(path + "/d")
			switch n % 4 {
			case 0:
				os.Symlink(outside, path+"/d")
			case 1:
				os.Mkdir(path+"/d", 0o700)
				os.Symlink(outside+"/x", path+"/d/x")
			case 2:
				os.Mkdir(path+"/d", 0o700)
				unix.Mkfifo(path+"/d/x", 0o600)
			default:
				os.Mkdir(path+"/d", 0o700)
				os.WriteFile(path+"/d/x", []byte("12345"), 0o600)
			}
		}
	}()
	for range 2000 {
		got, _ := gather(w, nil)
		if c := got["d/x"]; strings.Contains(c, "secret") || c != "" && c != "12345" {
			t.Errorf("handed back %q", c)
		}
	}
	close(stop)
	<-stopped
}

// A file that grows while it is read is left out.
func TestGatherGrowing(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer w.Remove()
	check(t, os.WriteFile(path+"/a", []byte("1"), 0o600))
	got, out := gather(w, func(g *Gathering) {
		g.Room = func() int64 { // which is asked between the look at the size and the reading
			f, _ := os.OpenFile(path+"/a", os.O_APPEND|os.O_WRONLY, 0)
			f.WriteString("2")
			f.Close()
			return 100
		}
	})
	if len(got) > 0 || len(out.Left) != 1 || out.Left[0].Why != "it changed while it was read" {
		t.Errorf("%q, %+v", got, out)
	}
}

// Devices are not opened, other file systems not entered.
func TestGatherAsRoot(t *testing.T) {
	t.Parallel()
	need(t, "root")
	w, path := workdir(t)
	defer w.Remove()
	if err := unix.Mknod(path+"/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skip("no devices can be made here: ", err)
	}
	check(t, os.Mkdir(path+"/m", 0o700), os.WriteFile(path+"/f", []byte("1"), 0o600))
	if err := unix.Mount(t.TempDir(), path+"/m", "", unix.MS_BIND, ""); err != nil { // the same file system, by its device
		t.Skip("no mounts can be made here: ", err)
	}
	defer unix.Unmount(path+"/m", unix.MNT_DETACH)
	check(t, os.WriteFile(path+"/m/x", []byte("2"), 0o600))
	got, out := gather(w, nil)
	left := fmt.Sprint(out.Left)
	if len(got) != 1 || got["f"] != "1" || !strings.Contains(left, "{null a device}") || !strings.Contains(left, "{m/ it lies on another file system}") {
		t.Errorf("%q, left out %s", got, left)
	}
}

// Files put in have their content and owner, and follow no link that is there already.
func TestPut(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	w, path := workdir(t)
	defer w.Remove()
	check(t, w.Put("a", "1", nil), w.Put("d/e/f", "2", nil), w.Put("d/e/g", "", nil), w.Put("d/h", "\x00\xff", nil))
	for name, want := range map[string]string{"a": "1", "d/e/f": "2", "d/e/g": "", "d/h": "\x00\xff"} {
		got, err := os.ReadFile(filepath.Join(path, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	check(t, os.Symlink(outside, path+"/out"), os.Symlink(outside+"/made", path+"/link"))
	for name, want := range map[string]error{"out/x": syscall.ELOOP, "link": syscall.EEXIST, "a": syscall.EEXIST, "a/b": syscall.ENOTDIR, "d": syscall.EEXIST} {
		var step *StepError
		if err := w.Put(name, "1", nil); !errors.As(err, &step) || step.Step != "put" || step.Object != name || !errors.Is(err, want) && !(want == syscall.ELOOP && errors.Is(err, syscall.ENOTDIR)) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("%v was made outside", entries)
	}
}

// The measuring at the end counts as lost neither what was handed back nor what was put in and is as it was.
func TestMeasureKnown(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer w.Remove()
	check(t, w.Put("same", "1", nil), w.Put("longer", "1", nil), w.Put("other", "1", nil), w.Put("replaced", "1", nil))
	check(t, os.WriteFile(path+"/made", []byte("1"), 0o600), os.WriteFile(path+"/longer", []byte("12"), 0o600))
	check(t, os.Chtimes(path+"/other", time.Time{}, time.Now().Add(time.Hour)), os.Remove(path+"/replaced"), os.WriteFile(path+"/replaced2", []byte("1"), 0o600), os.Rename(path+"/replaced2", path+"/replaced"))
	before := w.Measure(true, 1)
	if before.Files != 4 || before.AtLimit == "same" || before.AtLimit == "" {
		t.Errorf("%+v", before)
	}
	gather(w, nil)
	after := w.Measure(true, 1)
	if after.Files != 0 || after.Bytes != before.Bytes || after.AtLimit == "" {
		t.Errorf("%+v, before %+v", after, before)
	}
}

// A file that was handed back and changed later is lost with the directory.
func TestMeasureChanged(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer w.Remove()
	check(t, os.WriteFile(path+"/same", []byte("1"), 0o600), os.WriteFile(path+"/longer", []byte("1"), 0o600))
	gather(w, nil)
	check(t, os.WriteFile(path+"/longer", []byte("12"), 0o600))
	if c := w.Measure(true, 0); c.Files != 1 || !slices.Equal(c.Names, []string{"longer"}) {
		t.Errorf("%+v", c)
	}
}

// Files are replaced, handed back and put beside the directory while a look at it is under way. What
// is known of a file that was replaced is forgotten.
func TestReplaceDuringLook(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "root")
	if _, err := MakeRoot(root); err != nil {
		t.Fatal(err)
	}
	w, err := MakeWorkdir(Dir{Path: filepath.Join(root, "w"), Root: root, Private: true})
	check(t, err)
	defer w.Remove()
	beside, err := w.Beside()
	check(t, err)
	defer beside.Close()
	const names = 20
	var looks sync.WaitGroup
	over := make(chan struct{})
	looks.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				w.Used(0)
			}
		}
	})
	for i := range 50 {
		for n := range names {
			check(t, w.Replace(fmt.Sprint("f", n), fmt.Sprint(i), nil))
		}
		if i%2 == 0 { // else Replace finds the file
			check(t, os.Remove(filepath.Join(w.real, "f0")))
		}
		f, err := beside.Add(fmt.Sprint(".", i), nil)
		check(t, err, beside.Remove(fmt.Sprint(".", i)))
		f.Close()
		gather(w, nil)
	}
	close(over)
	looks.Wait()
	if len(w.placed) != names {
		t.Errorf("%d files are remembered, want %d", len(w.placed), names)
	}
	if c := w.Measure(true, 0); c.Files != 0 {
		t.Errorf("%+v", c)
	}
}

// Of a flood of files the work is bounded, and what is left out is counted.
func TestGatherFlood(t *testing.T) {
	t.Parallel()
	w, path := workdir(t)
	defer w.Remove()
	const files = 5000
	for i := range files {
		fd, err := unix.Open(fmt.Sprint(path, "/", i), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		check(t, err)
		unix.Close(fd)
	}
	got, out := gather(w, nil)
	if len(got) != 1000 || out.Over != TooManyFiles || out.Count != files-1000 || len(out.Left) != leftOutMost {
		t.Errorf("%d files, over %q, %d left out, %d of them named", len(got), out.Over, out.Count, len(out.Left))
	}
}
