package sandbox

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMakeRoot(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(path string) error // what is there before
		own  bool
	}{
		{"nothing", func(string) error { return nil }, true},
		{"nothing above either", func(path string) error { return os.Remove(filepath.Dir(path)) }, true},
		{"one of ours", func(path string) error { _, err := MakeRoot(path); return err }, true},
		{"one of ours with runs in it", func(path string) error {
			_, err := MakeRoot(path)
			os.Mkdir(filepath.Join(path, "x.d"), 0o700)
			return err
		}, true},
		{"one of ours, closed to us by a umask", func(path string) error { _, err := MakeRoot(path); unix.Chmod(path, unix.S_ISVTX); return err }, true},
		{"one of ours, passable for run-as", func(path string) error { _, err := MakeRoot(path); unix.Chmod(path, rootMode|0o011); return err }, true},
		{"one of ours, opened to all", func(path string) error { _, err := MakeRoot(path); unix.Chmod(path, unix.S_ISVTX|0o777); return err }, false},
		{"a directory of the user's", func(path string) error { return os.Mkdir(path, 0o700) }, false},
		{"a file", func(path string) error { return os.WriteFile(path, nil, 0o600) }, false},
		{"a link", func(path string) error { return os.Symlink(filepath.Dir(path), path) }, false},
		{"a link to nothing", func(path string) error { return os.Symlink("absent", path) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "above", "runs")
			check(t, os.Mkdir(filepath.Dir(path), 0o700), tt.do(path))
			own, err := MakeRoot(path)
			if own != tt.own || (err == nil) != tt.own {
				t.Fatalf("own %t, %v", own, err)
			}
			var st unix.Stat_t
			if check(t, unix.Lstat(path, &st)); own && st.Mode&0o7700 != rootMode {
				t.Errorf("mode %o", st.Mode)
			}
		})
	}
}

// A name that somebody else has taken is passed over; who comes later finds the same, and hears of
// what is left from then.
func TestChooseRoot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "runs")
	choose := func(want string, others ...string) {
		t.Helper()
		if root, rest := ChooseRoot(path); root != want || !slices.Equal(rest, others) {
			t.Errorf("%s, others %q, want %s, %q", root, rest, want, others)
		}
	}
	choose(path)
	check(t, os.Remove(path), os.WriteFile(path, nil, 0o600), os.Symlink("/", path+"-1"), os.Mkdir(path+"-2", 0o777))
	choose(path + "-3")
	choose(path + "-3")
	check(t, os.Remove(path+"-2"))
	choose(path+"-2", path+"-3")
}

// Two live runs with a root of py3run's own: neither finds, moves or removes anything of the
// other's, and the other's launcher removes only its own.
func TestRoot(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	root := filepath.Join(t.TempDir(), "runs")
	start := func(name, script string) (*trial, *Workdir) {
		w, err := MakeWorkdir(Dir{Path: filepath.Join(root, "deep", name), Root: root, Private: true})
		check(t, err, w.AddFile(".py", []byte("secret of "+name)))
		spec := shell(script)
		spec.Method, spec.Dir, spec.Pin = Namespace, w.Path(), []string{root}
		r := &trial{}
		if r.Running, err = Start(spec, IO{Stdout: &r.out, Stderr: &r.err, Workdir: w}, OwnChild); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Kill(); r.Wait(nil, nil) })
		r.Release()
		return r, w
	}
	first, w1 := start("one", "echo mine > file; cat ../one.py file; echo ready; read line; cat file ../one.py; ls -R .. | tr '\\n' ' '")
	_ = first
	second, w2 := start("two", fmt.Sprintf(`cd %s; find . | sort | tr '\n' ' '; cd /
for p in . deep/one deep/one.py deep one deep+one.d deep+one.run deep+one.d/deep/one; do
  rmdir %[1]s/$p; rm -rf %[1]s/$p/../one* ; mv %[1]s/$p %[1]s/moved; mv %[1]s %[1]s.moved; echo x > %[1]s/$p; done 2>/dev/null
echo; ls -a %[1]s/deep | tr '\n' ' '; grep -c ready /dev/null; ls -d %[1]s`, root))
	out := second.Wait(nil, nil)
	if got := second.out.String(); !strings.HasPrefix(got, ". ./deep ./deep/two ./deep/two.py \n") || strings.Contains(got, "secret of one") || !strings.HasSuffix(got, root+"\n") {
		t.Errorf("%+v: the second run finds %q %q", out, got, second.err.String())
	}
	if p := second.Protection(); lacks(p, "private-working-dir") || lacks(p, pinMeasure) || !slices.Contains(p.Enforced, "private-working-dir") || !slices.Contains(p.Enforced, pinMeasure) {
		t.Errorf("protection %+v", p)
	}
	check(t, w2.Remove())
	for path, want := range map[string]string{w1.real + ".py": "secret of one", w1.real + "/file": "mine\n"} {
		if text, err := os.ReadFile(path); string(text) != want {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	if lost := w1.Lost(); lost != "" {
		t.Errorf("%s is lost", lost)
	}
	first.Kill()
	first.Wait(nil, nil)
	check(t, w1.Remove())
	empties(t, root)
}

// A run whose directory somebody has taken away ends, wherever it lies.
func TestDirLost(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	for _, tt := range []struct {
		name string
		own  bool
		do   func(w *Workdir) error
	}{
		{"what it is mounted on, removed", false, func(w *Workdir) error { return os.Remove(w.path) }},
		{"what the file is mounted on, removed", false, func(w *Workdir) error { return os.Remove(w.path + ".py") }},
		{"what the file is mounted on, replaced", false, func(w *Workdir) error {
			time.Sleep(30 * time.Millisecond) // a file system's clock ticks every 1 to 10 ms, and the numbers can be the same
			return os.Rename(w.path+".py", w.path+".x")
		}},
		{"all of its own root", true, func(w *Workdir) error { return os.RemoveAll(w.top) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			if tt.own {
				root = filepath.Join(root, "runs")
			}
			w, err := MakeWorkdir(Dir{Path: filepath.Join(root, "run"), Private: true})
			check(t, err, w.AddFile(".py", nil))
			spec := shell("echo ready; sleep 60")
			spec.Method, spec.Dir = Namespace, w.Path()
			r := &trial{}
			r.Running, err = Start(spec, IO{Stdout: &r.out, Stderr: &r.err, Workdir: w}, OwnChild)
			check(t, err, r.Release())
			go func() {
				r.ready(t)
				tt.do(w)
			}()
			if out := r.Wait(nil, nil); out.Reason != DirLost || out.Usage.Wall > 30*time.Second {
				t.Errorf("outcome %+v", out)
			}
			if missing := lacks(r.Protection(), "private-working-dir"); missing == tt.own {
				t.Errorf("protection %+v", r.Protection())
			}
			check(t, w.Remove())
			if tt.own {
				empties(t, root)
			} else {
				gone(t, w.place)
			}
		})
	}
}

// What the run itself does with its directory is its own affair: it loses nothing to others.
func TestDirMovedByTheRun(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	root := filepath.Join(t.TempDir(), "runs")
	w, err := MakeWorkdir(Dir{Path: filepath.Join(root, "run"), Private: true})
	check(t, err, w.AddFile(".py", nil))
	spec := shell("cd ..; echo x > run/f; mv run moved; mkdir run; echo y > run/g; echo z > beside; rm run.py; sleep 0.3")
	spec.Method, spec.Dir = Namespace, w.Path()
	r, err := Start(spec, IO{Stdout: os.Stdout, Stderr: os.Stderr, Workdir: w}, OwnChild)
	check(t, err, r.Release())
	if out := r.Wait(nil, nil); out.Reason != Finished || out.ExitCode != 0 {
		t.Errorf("outcome %+v", out)
	}
	c := w.Measure(true, 0)
	if slices.Sort(c.Names); !slices.Equal(c.Names, []string{"../beside", "../moved/f", "g"}) || c.Files != 3 {
		t.Errorf("left %+v", c)
	}
	check(t, w.Remove())
	empties(t, root)
}

// A root stays when the last run leaves it: a run that has it hidden would see what the next one
// makes there.
func TestRootStaysHidden(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	root := filepath.Join(t.TempDir(), "runs")
	own, err := MakeRoot(root)
	if check(t, err); !own {
		t.Fatal("not our own")
	}
	spec := shell("echo ready; read line; ls -a " + root)
	read, write, err := os.Pipe()
	check(t, err)
	spec.Method, spec.Hide = Namespace, []string{root}
	r := &trial{}
	r.Running, err = Start(spec, IO{Stdin: read, Stdout: &r.out, Stderr: &r.err}, OwnChild)
	check(t, err, r.Release())
	go func() {
		r.ready(t)
		for _, name := range []string{"one", "two"} {
			w, err := MakeWorkdir(Dir{Path: filepath.Join(root, name), Private: true})
			if err == nil && name == "one" {
				err = w.Remove()
			}
			if err != nil {
				t.Error(err)
			}
		}
		write.Close()
	}()
	r.Wait(nil, nil)
	if strings.Contains(r.out.String(), "two") {
		t.Errorf("sees %q", r.out.String())
	}
}

// empties says that nothing is in a directory.
func empties(t *testing.T, path string) {
	t.Helper()
	if entries, err := os.ReadDir(path); len(entries) > 0 || err != nil {
		t.Errorf("%s: %v, %v", path, entries, err)
	}
}

// A directory that is to stay stays at its path, also when the launcher was killed.
func TestKeptInARoot(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "runs")
	for _, name := range []string{"closed", "killed"} {
		w, err := MakeWorkdir(Dir{Path: filepath.Join(root, "a", name), Root: root, Private: true, Keep: true})
		check(t, err, w.AddFile(".py", nil), os.WriteFile(filepath.Join(w.real, "f"), []byte("kept"), 0o600))
		if name == "closed" {
			check(t, w.Close())
		} else {
			w.lock.Close()
		}
	}
	check(t, Sweep(root))
	var left []string
	filepath.WalkDir(root, func(path string, _ fs.DirEntry, _ error) error {
		rel, _ := filepath.Rel(root, path)
		left = append(left, rel)
		return nil
	})
	if want := []string{".", "a", "a/closed", "a/closed/f", "a/killed", "a/killed/f"}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
}

// What steers later runs stays where it is and as it is, and so does the way there.
func TestPinned(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	home := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(home, "a", "b", "config"), 0o700), os.MkdirAll(filepath.Join(home, "a", "b", "log"), 0o700), os.WriteFile(filepath.Join(home, "a", "b", "config", "f"), []byte("text"), 0o600),
		os.WriteFile(filepath.Join(home, "program"), []byte("text"), 0o700), os.WriteFile(filepath.Join(home, "a", "free"), nil, 0o600), os.WriteFile(filepath.Join(home, "a", "b", "log", "l"), nil, 0o600))
	spec := shell(`cd ` + home + `; t() { if sh -c "$1" >/dev/null 2>&1; then printf y; else printf n; fi; }
t 'mv a x'; t 'mv a/b a/x'; t 'mv a/b/config a/b/x'; t 'mv a/b/log a/b/x'; t 'mv a/b/config/f x'; t 'mv program x'; t 'rm program'; t 'rm -r a'; t 'rm -r a/b/config'; t 'echo > a/b/config/f'; t 'echo > a/b/config/g'
t 'echo > program'; t 'chmod 777 program'; t 'mkdir a/b/log/x'; t 'mv ` + home + ` ` + home + `x'
t 'cat program a/b/config/f'; t 'echo > a/free'; t 'mv a/free a/b/free'; t 'mkdir a/b/c && mv a/b/c a/b/d && rmdir a/b/d'; t 'echo > new && mv new newer && rm newer'`)
	spec.Method, spec.Dir, spec.OnMissing = Namespace, "/", Refuse
	spec.ReadOnly, spec.Pin, spec.Hide = []string{filepath.Join(home, "a", "b", "config"), filepath.Join(home, "program"), filepath.Join(home, "absent")}, []string{filepath.Join(home, "a", "b", "log")}, []string{filepath.Join(home, "a", "b", "log")}
	if _, r := execute(t, spec); r.out.String() != strings.Repeat("n", 15)+"yyyyy" {
		t.Errorf("%q %q", r.out.String(), r.err.String())
	}
	if text, err := os.ReadFile(filepath.Join(home, "a", "b", "config", "f")); string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

// A link on the way cannot be pinned, and that is said.
func TestPinnedByALink(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	home := t.TempDir()
	check(t, os.Mkdir(filepath.Join(home, "real"), 0o700), os.Symlink("real", filepath.Join(home, "link")))
	for name, told := range map[string]bool{"real": false, "link": true} {
		spec := shell("true")
		spec.Method, spec.ReadOnly = Namespace, []string{filepath.Join(home, name)}
		if _, r := execute(t, spec); lacks(r.Protection(), pinMeasure) != told {
			t.Errorf("%s: %+v", name, r.Protection())
		}
	}
}

// Shared memory is the run's own, as large as its memory, and gone with it.
func TestPrivateShm(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	name := fmt.Sprintf("/dev/shm/py3run-test-%016x", rand.Uint64())
	t.Cleanup(func() { os.Remove(name) })
	for _, private := range []bool{true, false} {
		spec := shell("echo x > " + name + "; ls /dev/shm | wc -l; df -B1 --output=size /dev/shm | tail -1 | tr -d ' '")
		spec.Method, spec.PrivateShm, spec.Limits.Memory = Namespace, private, 64<<20
		_, r := execute(t, spec)
		_, err := os.Stat(name)
		if left := err == nil; left == private {
			t.Errorf("private %t, left %t", private, left)
		}
		if got := r.out.String(); private && got != "1\n67108864\n" {
			t.Errorf("%q, want one file and 64 MB", got)
		}
		if has := slices.Contains(r.Protection().Enforced, shmMeasure); has != private {
			t.Errorf("%+v", r.Protection())
		}
	}
	spec := shell("true")
	spec.Method, spec.PrivateShm = Process, true
	if _, r := execute(t, spec); !lacks(r.Protection(), shmMeasure) {
		t.Errorf("without a mount namespace: %+v", r.Protection())
	}
}

func TestUmask(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		mask := 0o137
		spec := shell("umask")
		spec.Method, spec.Umask = m, &mask
		if _, r := execute(t, spec); r.out.String() != "0137\n" {
			t.Errorf("%q", r.out.String())
		}
	})
}

// The launcher's timer slack does not become the program's, unless the program is transparent: then the
// launcher has its caller's. Without namespaces each program has the one that is a mark.
func TestTimerSlack(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before, _ := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		unix.Prctl(unix.PR_SET_TIMERSLACK, 3_000_000, 0, 0, 0)
		defer unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0)
		spec := shell("cat /proc/self/timerslack_ns")
		spec.Method = m
		usual, transparent := "50000\n", "3000000\n"
		if m == Process {
			usual, transparent = "50001\n", "50001\n"
		}
		if _, r := execute(t, spec); r.out.String() != usual {
			t.Errorf("%q, want %q", r.out.String(), usual)
		}
		r := beginTransparent(t, spec)
		r.end(nil, nil)
		if r.out.String() != transparent {
			t.Errorf("transparent: %q, want %q", r.out.String(), transparent)
		}
	})
}

func TestIsRunsGroup(t *testing.T) {
	t.Parallel()
	const id = "01a22f0f-9290-77fa-81a8-b0118faa5bd8"
	for path, want := range map[string]bool{
		"/sys/fs/cgroup/pids/py3run-" + id: true, "/sys/fs/cgroup/pids/a/py3run-01a22f0f-9290-77fa-81a8-b0118faa5bd9": false,
		"/sys/fs/cgroup/pids/other-" + id: false, "/sys/fs/cgroup/pids/py3run-warm-29a45b66-792-232264747000044": true, "/sys/fs/cgroup/pids": false, "py3run-": false, "": false, "/": false,
	} {
		if got := isRunsGroup(path, "python3-alice-81a8b0118faa5bd8"); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
}
