package python

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// The interpreters that these tests make are links to this test binary, so nothing is itself here,
// unless a test says so.
func init() { itself = func() fs.FileInfo { return nil } }

func TestIsLinkName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"python": true, "python3": true, "python3.8": true, "python3.13": true, "python2": false, "python2.7": false, "python3.": false,
		"python3.x": false, "python3-bridge": false, "py3run": false, "python3.13t": false, "": false} {
		if got := IsLinkName(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

func TestReadPyvenv(t *testing.T) {
	t.Parallel()
	text := "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\nexecutable = /usr/bin/python3.11\ncommand = a = b\n"
	if got, want := readPyvenv(text), (environment{home: "/usr/bin", executable: "/usr/bin/python3.11", version: "3.11"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := readPyvenv("HOME=/x\nversion_info = 3.9.18.final.0"), (environment{home: "/x", version: "3.9"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := readPyvenv("no"); got != (environment{}) {
		t.Errorf("%+v", got)
	}
}

func TestPathFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	make := func(path, text string) string {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a, b, named := make("a/python3", ""), make("b/python3.9", ""), make("b/python", "")
	make("go/python3", "\x7fELF....\x04\x00\x00\x00\x53\x00\x00\x00\x04\x00\x00\x00Go\x00\x00")
	venv, home := make("venv/bin/python3", ""), make("home/python3.9", "")
	make("venv/pyvenv.cfg", "home = "+filepath.Dir(home)+"\nversion = 3.9.1\n")
	path := func(dirs ...string) []string {
		list := "PATH="
		for _, d := range dirs {
			list += filepath.Join(dir, d) + ":"
		}
		return []string{list}
	}
	for _, tt := range []struct {
		name, link, venv, configured string
		environ                      []string
		want                         string // "": the configured one; "none": an error
	}{
		{name: "the first in PATH", link: "python3", environ: path("b", "a"), want: a},
		{name: "with its version", link: "python3.9", environ: path("a", "b"), want: b},
		{name: "python", link: "python", environ: path("a", "b"), want: named},
		{name: "python, where only python3 is", link: "python", environ: path("a"), want: a},
		{name: "another copy of py3run is passed over", link: "python3", environ: path("go", "a"), want: a},
		{name: "nothing but copies", link: "python3", environ: path("go"), want: "none"},
		{name: "nothing", link: "python3.12", environ: path("a", "b"), want: "none"},
		{name: "the configured one", link: "python3", configured: "/x/python3", environ: path("a")},
		{name: "a configured version", link: "python3.9", configured: "3.9", environ: path("b")},
		{name: "a configured version that is another", link: "python3.9", configured: "3.10", environ: path("b"), want: b},
		{name: "a configured name that is another", link: "python3.9", configured: "/x/python3.10", environ: path("b"), want: b},
		{name: "a virtual environment comes first", link: "python3", venv: venv, configured: "/x/python3", environ: path("a"), want: home},
	} {
		configured := tt.configured
		if configured == "" {
			configured = "auto"
		}
		got, _, err := PathFor(Want{Interpreter: configured, Environ: tt.environ}, Link{Name: tt.link, Path: tt.venv})
		if err != nil {
			got = "none"
		}
		if got != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestLinkAt(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for path, to := range map[string]string{"direct": "/bin/sh-or-nothing", "two": "direct", "sub": ".", "three": "sub/two"} {
		if err := os.Symlink(to, filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for argv0, want := range map[string]Link{
		at("direct"): {Name: "direct", Path: at("direct"), Last: at("direct")},
		"./two":      {Name: "two", Path: at("two"), Last: at("direct")},
		at("three"):  {Name: "three", Path: at("three"), Last: at("direct")},
		"nowhere":    {Name: "nowhere"},
	} {
		if got := LinkAt(argv0, []string{"PATH=" + dir}, dir); got != want && filepath.Base(got.Last) != filepath.Base(want.Last) {
			t.Errorf("%s: %+v, want %+v", argv0, got, want)
		}
	}
}
