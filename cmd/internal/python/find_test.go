package python

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the interpreter where the environment asks for it: it answers the probe with the version that stands in the file
// beside it, notes that it was asked, and is no script, so that what it says is kept in the cache.
func TestMain(m *testing.M) {
	if log := os.Getenv("PY3RUN_TEST_PYTHON"); log != "" && len(os.Args) > 1 && os.Args[1] == "-I" {
		io.Copy(io.Discard, os.Stdin)
		self := os.Args[0]
		version, err := os.ReadFile(self + ".version")
		if err != nil {
			version = []byte("3.11.4")
		}
		f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err == nil {
			fmt.Fprintln(f, self)
			f.Close()
		}
		fmt.Printf("py3run-probe\ncpython\n%s\n%s\nlinux\n%s (banner)\n/usr\n%s\n", version, self, version, base64.StdEncoding.EncodeToString([]byte("blob")))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// playing is the environment for that. With the race detector a process would sleep a second before it ends.
func playing(log string) []string {
	return []string{"PY3RUN_TEST_PYTHON=" + log, "GORACE=atexit_sleep_ms=0"}
}

// Kinds of candidates; every other text is the version of a good one.
const (
	fails    = "#!/bin/sh\necho oh >&2\necho no more >&2\nexit 3\n"
	silentOK = "#!/bin/sh\nexit 0\n"
	python2  = "#!/bin/sh\necho 'Unknown option: -I' >&2\nexit 2\n"
	pypy     = "#!/bin/sh\nprintf 'py3run-probe\\npypy\\n3.10.0\\n/x\\nlinux\\nb\\n/usr\\nYQ==\\n'\n"
	tooOld   = "#!/bin/sh\nprintf 'py3run-probe\\ncpython\\n3.7.9\\n/x\\nlinux\\nb\\n/usr\\nYQ==\\n'\n"
	noBlob   = "#!/bin/sh\nprintf 'py3run-probe\\ncpython\\n3.12.0\\n/x\\nlinux\\nb\\n/usr\\n\\n'\n"
	chatty   = "#!/bin/sh\necho welcome\nexec ROOT/real/python3 \"$@\"\n"
	wrapper  = "#!/bin/sh\nexec ROOT/real/python3 \"$@\"\n"
	twofold  = "#!/bin/sh\nexec ROOT/shims/python3 \"$@\"\n"
	endless  = "#!/bin/sh\nprintf 'py3run-probe\\ncpython\\n3.12.0\\n%s\\nlinux\\nb\\n/usr\\nYQ==\\n' \"$0\"\n"
	noExec   = "not to be executed"
	badShell = "#!/nowhere/sh\n"
	folder   = "a directory"
)

// plant makes a candidate.
func plant(t *testing.T, root, path, kind string) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	switch {
	case kind == folder:
		err = os.Mkdir(full, 0o700)
	case kind == noExec:
		err = os.WriteFile(full, nil, 0o600)
	case strings.HasPrefix(kind, "#!"):
		// Written by another process: a child of ours that is just being forked would hold it open for writing (ETXTBSY, golang.org/issue/22315).
		sh := exec.Command("sh", "-c", `cat > "$1" && chmod 700 "$1"`, "sh", full)
		sh.Stdin = strings.NewReader(strings.ReplaceAll(kind, "ROOT/", root+"/"))
		err = sh.Run()
	default:
		self, e := os.Executable()
		if e != nil {
			t.Fatal(e)
		}
		if e := os.WriteFile(full+".version", []byte(kind), 0o600); e != nil {
			t.Fatal(e)
		}
		if err = os.Link(self, full); err != nil {
			err = os.Symlink(self, full)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// plantCopy makes a good candidate that shares nothing with the others, not even its inode's times.
func plantCopy(t *testing.T, path, version string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".version", []byte(version), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", self, path).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

type tree = map[string]string

func TestSearchPath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ environ, want []string }{
		{[]string{"PATH=/a:/b", "X=1"}, []string{"/a", "/b"}},
		{[]string{"PATH="}, nil},
		{[]string{"XPATH=/a"}, []string{"/usr/bin", "/bin"}},
		{nil, []string{"/usr/bin", "/bin"}},
	} {
		if got := searchPath(tt.environ); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.environ, got, tt.want)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	const path = "PATH=ROOT/bin:relative::ROOT/none:ROOT/more"
	tests := []struct {
		name, ask string
		tree      tree
		environ   []string
		dir       string
		skipped   string // path: why, in lines
		want      string // the path and the version, or the error
	}{
		{"PATH", "auto", tree{"bin/python3": "3.12.1"}, []string{path}, "", "", "bin/python3 3.12.1"},
		{"nothing asked", "", tree{"bin/python3": "3.12.1"}, []string{path}, "", "", "bin/python3 3.12.1"},
		{"PATH in order", "auto", tree{"more/python3": "3.13.0", "bin/python3": "3.9.1"}, []string{path}, "", "", "bin/python3 3.9.1"},
		{"python3 before python", "auto", tree{"bin/python": "3.9.1", "more/python3": "3.10.1"}, []string{path}, "", "", "more/python3 3.10.1"},
		{"python when there is no python3", "auto", tree{"more/python": "3.9.1"}, []string{path}, "", "", "more/python 3.9.1"},
		{"relative entries of PATH", "auto", tree{"relative/python3": "3.9.1", "python3": "3.9.2"}, []string{path}, ".", "", "find python: no Python 3.8 or newer in VIRTUAL_ENV, .venv or PATH"},
		{"VIRTUAL_ENV first", "auto", tree{"bin/python3": "3.12.1", "p/.venv/bin/python": "3.12.2", "v/bin/python": "3.12.3"}, []string{path, "VIRTUAL_ENV=ROOT/v"}, "p", "", "v/bin/python 3.12.3"},
		{".venv before PATH", "auto", tree{"bin/python3": "3.12.1", "p/.venv/bin/python": "3.12.2"}, []string{path, "VIRTUAL_ENV="}, "p", "", "p/.venv/bin/python 3.12.2"},
		{".venv above", "auto", tree{"bin/python3": "3.12.1", "p/.venv/bin/python": "3.12.2", "p/q/r/x": noExec}, []string{path}, "p/q/r", "", "p/.venv/bin/python 3.12.2"},
		{"the nearest .venv", "auto", tree{"p/.venv/bin/python": "3.12.2", "p/q/.venv/bin/python": "3.12.3"}, []string{path}, "p/q/r", "", "p/q/.venv/bin/python 3.12.3"},
		{".venv beside is not above", "auto", tree{"bin/python3": "3.12.1", "q/.venv/bin/python": "3.12.2"}, []string{path}, "p", "", "bin/python3 3.12.1"},
		{"VIRTUAL_ENV that is gone", "auto", tree{"bin/python3": "3.12.1"}, []string{path, "VIRTUAL_ENV=ROOT/v"}, "", "", "bin/python3 3.12.1"},
		{"one that fails", "auto", tree{"bin/python3": fails, "more/python3": "3.12.1"}, []string{path}, "", "bin/python3: does not answer as Python 3 does: no more", "more/python3 3.12.1"},
		{"one that says nothing", "auto", tree{"bin/python3": silentOK, "more/python3": "3.12.1"}, []string{path}, "", "bin/python3: does not answer as Python 3 does", "more/python3 3.12.1"},
		{"one that is too old", "auto", tree{"bin/python3": tooOld, "more/python3": "3.12.1"}, []string{path}, "", "bin/python3: is Python 3.7.9, older than 3.8", "more/python3 3.12.1"},
		{"one too old that is no script", "auto", tree{"bin/python3": "3.7.17", "more/python3": "3.8.0"}, []string{path}, "", "bin/python3: is Python 3.7.17, older than 3.8", "more/python3 3.8.0"},
		{"a Python of another century", "auto", tree{"bin/python3": "4.0.0", "more/python3": "3.8.0"}, []string{path}, "", "bin/python3: is Python 4.0.0, older than 3.8", "more/python3 3.8.0"},
		{"Python 2", "auto", tree{"bin/python": python2, "more/python": "3.8.0"}, []string{path}, "", "bin/python: does not answer as Python 3 does: Unknown option: -I", "more/python 3.8.0"},
		{"another Python", "auto", tree{"bin/python3": pypy, "more/python3": "3.12.1"}, []string{path}, "", "bin/python3: is pypy, not CPython", "more/python3 3.12.1"},
		{"one that does not compile the bootstrap", "auto", tree{"bin/python3": noBlob, "more/python3": "3.12.1"}, []string{path}, "", "bin/python3: could not compile the bootstrap", "more/python3 3.12.1"},
		{"one whose shell is missing", "auto", tree{"bin/python3": badShell, "more/python3": "3.12.1"}, []string{path}, "", "bin/python3: no such file or directory", "more/python3 3.12.1"},
		{"what cannot be executed is no candidate", "auto", tree{"bin/python3": noExec, "none/python3": folder, "more/python3": "3.12.1"}, []string{path}, "", "", "more/python3 3.12.1"},
		{"nothing good", "auto", tree{"bin/python3": fails, "more/python3": tooOld}, []string{path}, "",
			"bin/python3: does not answer as Python 3 does: no more\nmore/python3: is Python 3.7.9, older than 3.8",
			"find python: no Python 3.8 or newer in VIRTUAL_ENV, .venv or PATH; ROOT/bin/python3: does not answer as Python 3 does: no more; ROOT/more/python3: is Python 3.7.9, older than 3.8"},
		{"nothing", "auto", nil, []string{"PATH="}, "", "", "find python: no Python 3.8 or newer in VIRTUAL_ENV, .venv or PATH"},
		{"a shim", "auto", tree{"bin/python3": wrapper, "real/python3": "3.12.1"}, []string{path}, "", "", "real/python3 3.12.1"},
		{"a shim of a shim", "auto", tree{"bin/python3": twofold, "shims/python3": wrapper, "real/python3": "3.12.1"}, []string{path}, "", "", "real/python3 3.12.1"},
		{"a shim that talks", "auto", tree{"bin/python3": chatty, "real/python3": "3.12.1"}, []string{path}, "", "", "real/python3 3.12.1"},
		{"a shim of itself", "auto", tree{"bin/python3": endless, "more/python3": "3.12.1"}, []string{path}, "", "bin/python3: a script that leads to scripts only", "more/python3 3.12.1"},

		{"version", "3.12", tree{"bin/python3": "3.11.1", "more/python3.12": "3.12.7"}, []string{path}, "", "", "more/python3.12 3.12.7"},
		{"version, under a general name", "3.11", tree{"bin/python3": "3.11.1"}, []string{path}, "", "", "bin/python3 3.11.1"},
		{"version, not there", "3.12", tree{"bin/python3": "3.11.1"}, []string{path}, "", "bin/python3: is Python 3.11.1", "find python 3.12: not found; ROOT/bin/python3: is Python 3.11.1"},
		{"version that only begins alike", "3.1", tree{"bin/python3": "3.11.1"}, []string{path}, "", "bin/python3: is Python 3.11.1", "find python 3.1: not found; ROOT/bin/python3: is Python 3.11.1"},
		{"full version", "3.12.7", tree{"bin/python3.12": "3.12.1", "more/python3.12": "3.12.7"}, []string{path}, "", "bin/python3.12: is Python 3.12.1", "more/python3.12 3.12.7"},
		{"version, of pyenv", "3.12", tree{"pyenv/versions/3.12.4/bin/python": "3.12.4", "pyenv/versions/3.11.1/bin/python": "3.11.1"}, []string{path, "PYENV_ROOT=ROOT/pyenv"}, "", "", "pyenv/versions/3.12.4/bin/python 3.12.4"},
		{"version, the newest of pyenv", "3.12", tree{"pyenv/versions/3.12.9/bin/python": "3.12.9", "pyenv/versions/3.12.10/bin/python": "3.12.10"}, []string{"PYENV_ROOT=ROOT/pyenv"}, "", "", "pyenv/versions/3.12.10/bin/python 3.12.10"},
		{"version, of pyenv at home", "3.12", tree{"home/.pyenv/versions/3.12.4/bin/python": "3.12.4"}, []string{"HOME=ROOT/home"}, "", "", "home/.pyenv/versions/3.12.4/bin/python 3.12.4"},
		{"version, but the environment has another", "3.12", tree{"v/bin/python": "3.11.1", "bin/python3.12": "3.12.1"}, []string{path, "VIRTUAL_ENV=ROOT/v"}, "", "", "bin/python3.12 3.12.1"},

		{"path", "ROOT/x/python3", tree{"x/python3": "3.12.1", "bin/python3": "3.11.1"}, []string{path}, "", "", "x/python3 3.12.1"},
		{"relative path", "x/python3", tree{"p/x/python3": "3.12.1"}, []string{path}, "p", "", "p/x/python3 3.12.1"},
		{"command", "mypython", tree{"bin/mypython": noExec, "more/mypython": "3.12.1"}, []string{path}, "", "", "more/mypython 3.12.1"},
		{"command that is not there", "mypython", tree{"bin/python3": "3.12.1"}, []string{path}, "", "", "find python mypython: not found"},
		{"directory", "ROOT/v", tree{"v/bin/python": "3.12.1"}, []string{path}, "", "", "v/bin/python 3.12.1"},
		{"directory with nothing in it", "ROOT/v", tree{"v/x": noExec}, []string{path}, "", "", "find python ROOT/v: not found; ROOT/v/bin/python: no such file"},
		{"missing", "ROOT/x", tree{"bin/python3": "3.12.1"}, []string{path}, "", "", "find python ROOT/x: not found; ROOT/x: no such file"},
		{"below a file", "ROOT/x/python", tree{"x": noExec}, []string{path}, "", "", "find python ROOT/x/python: not found; ROOT/x/python: no such file"},
		{"device", "/dev/zero", nil, []string{path}, "", "", "start python /dev/zero: permission denied"},
		{"not executable", "ROOT/x", tree{"x": noExec}, []string{path}, "", "", "start python ROOT/x: permission denied"},
		{"a directory in its place", "ROOT/v", tree{"v/bin/python": folder}, []string{path}, "", "", "start python ROOT/v/bin/python: is a directory"},
		{"fails", "ROOT/x", tree{"x": fails, "bin/python3": "3.12.1"}, []string{path}, "", "", "start python ROOT/x: does not answer as Python 3 does: no more"},
		{"too old", "ROOT/x", tree{"x": tooOld, "bin/python3": "3.12.1"}, []string{path}, "", "", "start python ROOT/x: is Python 3.7.9, older than 3.8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			here := func(s string) string { return strings.ReplaceAll(s, "ROOT/", root+"/") }
			for path, kind := range tt.tree {
				plant(t, root, path, kind)
			}
			environ := playing(filepath.Join(root, "log"))
			for _, e := range tt.environ {
				environ = append(environ, here(e))
			}
			dir := filepath.Join(root, "nothing", "here")
			if tt.dir != "" {
				dir = filepath.Join(root, tt.dir)
			}
			ip, skipped, err := Find(Want{Interpreter: here(tt.ask), Environ: environ, Dir: dir})
			got := strings.TrimPrefix(ip.Path, root+"/") + " " + ip.Version
			if err != nil {
				got = err.Error()
				var missing *NotFoundError
				var broken *NotExecutableError
				if errors.As(err, &missing) != strings.HasPrefix(got, "find python") || errors.As(err, &broken) != strings.HasPrefix(got, "start python") {
					t.Errorf("%T: %v", err, err)
				}
			}
			if got != here(tt.want) {
				t.Errorf("%s, want %s", got, here(tt.want))
			}
			var passed []string
			for _, c := range skipped {
				passed = append(passed, strings.TrimPrefix(c.Path, root+"/")+": "+c.Why)
			}
			if said := strings.Join(passed, "\n"); said != tt.skipped {
				t.Errorf("passed over\n%s\nwant\n%s", said, tt.skipped)
			}
		})
	}
}

// A candidate that hangs, with all that it has started, is left behind. Not parallel: it shortens the limit for all.
func TestFindHanging(t *testing.T) {
	defer func(before time.Duration) { askLimit = before }(askLimit)
	askLimit = 50 * time.Millisecond
	root := t.TempDir()
	plant(t, root, "python3", "#!/bin/sh\nsleep 1000 &\nwhile :; do sleep 1000; done\n")
	_, _, err := Find(Want{Interpreter: filepath.Join(root, "python3"), Environ: []string{"PATH=/usr/bin:/bin"}, Dir: "/"})
	var broken *NotExecutableError
	if !errors.As(err, &broken) || broken.Why != "did not answer within 50ms" {
		t.Errorf("%v, want that it did not answer", err)
	}
}

// A pipe in the place of an interpreter, or of what is kept of one, is passed over; nobody waits for somebody to write into it.
func TestFindPipe(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	plant(t, root, "more/python3", "3.12.1")
	pipe := filepath.Join(root, "bin", "python3")
	if err := errors.Join(os.Mkdir(filepath.Join(root, "bin"), 0o700), syscall.Mkfifo(pipe, 0o755), os.Chmod(pipe, 0o755)); err != nil {
		t.Fatal(err)
	}
	environ := append(playing(filepath.Join(root, "log")), "PATH="+filepath.Dir(pipe)+":"+filepath.Join(root, "more"))
	var broken *NotExecutableError
	if _, _, err := Find(Want{Interpreter: pipe, Environ: environ, Dir: root}); !errors.As(err, &broken) || broken.Why != "permission denied" {
		t.Errorf("%v, want that it cannot be executed", err)
	}
	want := Want{Interpreter: "auto", Environ: environ, Dir: root, CacheDir: filepath.Join(root, "cache"), KeyFile: filepath.Join(root, "key")}
	for range 2 {
		ip, _, err := findAndKeep(want)
		if err != nil || ip.Path != filepath.Join(root, "more", "python3") {
			t.Fatalf("%+v, %v", ip, err)
		}
		kept, err := filepath.Glob(filepath.Join(want.CacheDir, "python-*"))
		if err != nil || len(kept) != 1 {
			t.Fatalf("%q, %v", kept, err)
		}
		if err := errors.Join(os.Remove(kept[0]), syscall.Mkfifo(kept[0], 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// asked counts how often the interpreter has been started.
func asked(t *testing.T, log string) int {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(data), "\n")
}

// findAndKeep is what a launcher does whose runs cannot see the cache.
func findAndKeep(want Want) (Interpreter, []Candidate, error) {
	ip, skipped, err := Find(want)
	if err == nil {
		ip.Keep()
	}
	return ip, skipped, err
}

// Nothing is kept unless somebody knows that no run can see it, and nothing without a key.
func TestCacheNotKept(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Want{"not kept": {KeyFile: "key"}, "no key": {}} {
		root := t.TempDir()
		plantCopy(t, filepath.Join(root, "python3"), "3.11.4")
		want.Interpreter, want.Environ, want.Dir, want.CacheDir = filepath.Join(root, "python3"), playing(filepath.Join(root, "log")), root, filepath.Join(root, "cache")
		find := findAndKeep
		if want.KeyFile != "" {
			want.KeyFile, find = filepath.Join(root, want.KeyFile), Find
		}
		for range 2 {
			if ip, _, err := find(want); err != nil || text(t, ip) != "blob" {
				t.Errorf("%s: %+v, %v", name, ip, err)
			}
		}
		if got := asked(t, filepath.Join(root, "log")); got != 2 {
			t.Errorf("%s: asked %d times, want 2", name, got)
		}
	}
}

// What is kept is used until anything of the interpreter changes.
func TestCache(t *testing.T) {
	t.Parallel()
	type files struct{ root, python, cache string }
	write := func(t *testing.T, path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	mode := func(mode os.FileMode) func(*testing.T, files) {
		return func(t *testing.T, f files) {
			if err := os.Chmod(f.cache, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	entry := func(t *testing.T, f files) string {
		t.Helper()
		list, err := filepath.Glob(filepath.Join(f.cache, "python-*"))
		if err != nil || len(list) != 1 {
			t.Fatalf("in the cache: %q, %v", list, err)
		}
		return list[0]
	}
	edit := func(from, to string) func(*testing.T, files) {
		return func(t *testing.T, f files) {
			data, err := os.ReadFile(entry(t, f))
			if err != nil || !strings.Contains(string(data), from) {
				t.Fatalf("%q, %v", data, err)
			}
			write(t, entry(t, f), strings.Replace(string(data), from, to, 1), 0o600)
		}
	}
	tests := []struct {
		name   string
		before func(*testing.T, files) // the first question
		change func(*testing.T, files) // the second
		want   int                     // times that the interpreter was asked
	}{
		{"nothing changed", nil, nil, 1},
		{"touched", nil, func(t *testing.T, f files) {
			if err := os.Chtimes(f.python, time.Time{}, time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}, 2},
		{"its mode changed", nil, func(t *testing.T, f files) { os.Chmod(f.python, 0o711) }, 2},
		{"replaced", nil, func(t *testing.T, f files) {
			plantCopy(t, f.python+".new", "3.11.4")
			if err := os.Rename(f.python+".new", f.python); err != nil {
				t.Fatal(err)
			}
		}, 2},
		{"became a virtual environment", nil, func(t *testing.T, f files) { write(t, filepath.Join(filepath.Dir(f.python), "pyvenv.cfg"), "", 0o600) }, 2},
		{"became one by the directory above", nil, func(t *testing.T, f files) { write(t, filepath.Join(f.root, "pyvenv.cfg"), "", 0o600) }, 2},
		{"the entry is cut", nil, func(t *testing.T, f files) {
			data, err := os.ReadFile(entry(t, f))
			if err != nil {
				t.Fatal(err)
			}
			write(t, entry(t, f), string(data[:len(data)-len("blob")]), 0o600)
		}, 2},
		{"the entry is of another bootstrap", nil, func(t *testing.T, f files) {
			data, err := os.ReadFile(entry(t, f))
			if err != nil {
				t.Fatal(err)
			}
			write(t, entry(t, f), strings.Replace(string(data), sourcesHash(), strings.Repeat("0", 16), 1), 0o600)
		}, 2},
		{"the byte code is another", nil, edit("blob", "evil"), 2},
		{"a fact is another", nil, edit("(banner)", "(bannex)"), 2},
		{"more behind the byte code", nil, edit("blob", "blobblob"), 2},
		{"the key is another", nil, func(t *testing.T, f files) {
			write(t, filepath.Join(f.root, "keys", "cache"), strings.Repeat("k", keySize), 0o600)
		}, 2},
		{"the key is gone", nil, func(t *testing.T, f files) { os.Remove(filepath.Join(f.root, "keys", "cache")) }, 2},
		{"the key is damaged", nil, func(t *testing.T, f files) { write(t, filepath.Join(f.root, "keys", "cache"), "k", 0o600) }, 2},
		{"others may read the key", nil, func(t *testing.T, f files) { os.Chmod(filepath.Join(f.root, "keys", "cache"), 0o644) }, 2},
		{"the entry is nonsense", nil, func(t *testing.T, f files) { write(t, entry(t, f), "\x00", 0o600) }, 2},
		{"the cache is emptied", nil, func(t *testing.T, f files) { os.Remove(entry(t, f)) }, 2},
		{"others may read the cache", mode(0o755), nil, 1},
		{"the group may write the cache", nil, mode(0o720), 2},
		{"all may write the cache", nil, mode(0o777), 2},
		{"a link in the place of the cache", func(t *testing.T, f files) {
			if err := errors.Join(os.Remove(f.cache), os.Symlink(f.root, f.cache)); err != nil {
				t.Fatal(err)
			}
		}, nil, 2},
		{"a file in the place of the cache", func(t *testing.T, f files) {
			if err := os.Remove(f.cache); err != nil {
				t.Fatal(err)
			}
			write(t, f.cache, "", 0o600)
		}, nil, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			f := files{root, filepath.Join(root, "bin", "python3"), filepath.Join(root, "cache")}
			plantCopy(t, f.python, "3.11.4")
			if err := os.Mkdir(f.cache, 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.before != nil {
				tt.before(t, f)
			}
			log := filepath.Join(root, "log")
			want := Want{Interpreter: f.python, Environ: playing(log), Dir: root, CacheDir: f.cache, KeyFile: filepath.Join(root, "keys", "cache")}
			first, _, err := findAndKeep(want)
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(t, f)
			}
			second, _, err := findAndKeep(want)
			if err != nil {
				t.Fatal(err)
			}
			code := text(t, second)
			if got := asked(t, log); got != tt.want {
				t.Errorf("asked %d times, want %d", got, tt.want)
			}
			second.Venv, second.Identity, second.code = first.Venv, first.Identity, first.code // of those that became one, and of all that were changed
			if fmt.Sprint(first) != fmt.Sprint(second) || code != "blob" || second.Path != f.python || second.Banner != "3.11.4 (banner)" || second.Platform != "linux" {
				t.Errorf("first %+v, then %+v", first, second)
			}
			leftovers, _ := filepath.Glob(filepath.Join(f.cache, ".new-*"))
			if len(leftovers) > 0 {
				t.Errorf("left in the cache: %q", leftovers)
			}
		})
	}
}

// A shim is asked every time: what it leads to may change without it. What it leads to is kept.
func TestCacheOfShim(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	plant(t, root, "shim", "#!/bin/sh\nread target < ROOT/target\nexec ROOT/$target/python3 \"$@\"\n")
	plantCopy(t, filepath.Join(root, "one", "python3"), "3.11.1")
	plantCopy(t, filepath.Join(root, "two", "python3"), "3.12.2")
	want := Want{Interpreter: filepath.Join(root, "shim"), Environ: playing(filepath.Join(root, "log")), Dir: root, CacheDir: filepath.Join(root, "cache"), KeyFile: filepath.Join(root, "key")}
	for i, step := range []struct{ target, version string }{{"one", "3.11.1"}, {"two", "3.12.2"}, {"one", "3.11.1"}} {
		if err := os.WriteFile(filepath.Join(root, "target"), []byte(step.target+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		ip, _, err := findAndKeep(want)
		if err != nil || ip.Version != step.version || ip.Path != filepath.Join(root, step.target, "python3") {
			t.Errorf("step %d: %+v, %v, want %s", i, ip, err, step.version)
		}
	}
	// Each step by the shim, and once each by itself.
	if got := asked(t, filepath.Join(root, "log")); got != 5 {
		t.Errorf("asked %d times, want 5", got)
	}
}

// A cache directory that is not there yet is made for its owner alone.
func TestCacheMade(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	plant(t, root, "python3", "3.11.1")
	dir := filepath.Join(root, "a", "b")
	if _, _, err := findAndKeep(Want{Interpreter: filepath.Join(root, "python3"), Environ: playing(filepath.Join(root, "log")), Dir: root, CacheDir: dir, KeyFile: filepath.Join(root, "key")}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v, want mode 0700", info, err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v, want one entry", list, err)
	}
	if info, err := list[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info.Mode(), err)
	}
}

// Real interpreters: by a link, by a shim, as a virtual environment, and through the cache.
func TestFindReal(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		root := t.TempDir()
		if err := os.Symlink(ip.Path, filepath.Join(root, "link")); err != nil {
			t.Fatal(err)
		}
		plant(t, root, "shim", "#!/bin/sh\nexec '"+ip.Path+"' \"$@\"\n")
		venv := filepath.Join(root, "venv")
		if out, err := exec.Command(ip.Path, "-I", "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
			t.Logf("no virtual environments here: %v %s", err, out)
			venv = ""
		}
		tests := []struct {
			name, ask  string
			path, venv string
		}{
			{"itself", ip.Path, ip.Path, ip.Venv},
			{"link", filepath.Join(root, "link"), filepath.Join(root, "link"), ""},
			{"shim", filepath.Join(root, "shim"), "*", "*"},
			{"environment", venv, filepath.Join(venv, "bin", "python"), venv},
			{"interpreter of the environment", filepath.Join(venv, "bin", "python"), filepath.Join(venv, "bin", "python"), venv},
		}
		for _, tt := range tests {
			if venv == "" && strings.Contains(tt.name, "environment") {
				continue
			}
			want := Want{Interpreter: tt.ask, Environ: []string{"PATH=/usr/bin:/bin"}, Dir: "/", CacheDir: filepath.Join(root, "cache"), KeyFile: filepath.Join(root, "key")}
			first, _, err := findAndKeep(want)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			if first.Version != ip.Version || !matches(first.Path, tt.path) || !matches(first.Venv, tt.venv) || !strings.HasPrefix(first.Banner, ip.Version) || strings.Contains(first.Banner, "\n") || first.Platform != "linux" {
				t.Errorf("%s: %+v, want %s of %q", tt.name, first, tt.path, tt.venv)
			}
			second, _, err := Find(want)
			if err != nil || text(t, first) != text(t, second) || second.Path != first.Path || second.Banner != first.Banner || second.Venv != first.Venv {
				t.Errorf("%s: from the cache %+v, %v, want %+v", tt.name, second, err, first)
			}
			tr := try(t, second, code("import sys\nresult = sys.prefix != sys.base_prefix"))
			if got, want := tr.value(t), fmt.Sprint(strings.Contains(tt.name, "environment")); got != want && ip.Venv == "" {
				t.Errorf("%s: in a virtual environment %s, want %s", tt.name, got, want)
			}
		}
	})
}

func TestIsVersion(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{"3.12": true, "3.12.1": true, "3": false, "3.": false, ".12": false, "3.12.1.2": false, "python3.12": false, "3.x": false, "3.-1": false, "./3.12": false, "": false} {
		if got := isVersion(in); got != want {
			t.Errorf("%q: %t, want %t", in, got, want)
		}
	}
}

// text is an interpreter's byte code.
func text(t *testing.T, ip Interpreter) string {
	t.Helper()
	f, err := ip.code.open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	code, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<24))
	if err != nil {
		t.Fatal(err)
	}
	return string(code)
}
