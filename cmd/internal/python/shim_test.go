package python

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"py3run/internal/need"
	"py3run/internal/passwd"
)

// The version managers of these tests are scripts that choose as the real ones do, as far as the tests go, and note that they were started.
const (
	pyenvScript = `#!/usr/bin/env bash
set -e
[ -n "$PYENV_DEBUG" ] && set -x

program="${0##*/}"

export PYENV_ROOT="ROOT/pyenv"
SHIM_PATH=${0%/*}
if [[ $SHIM_PATH != "ROOT/pyenv/shims" ]]; then
  export _PYENV_SHIM_PATH="$SHIM_PATH"
fi
exec "ROOT/pyenv/libexec/pyenv" exec "$program" "$@"
`
	pyenvManager = `#!/usr/bin/env bash
echo pyenv >> ROOT/started
command=$2
shift 2
above() { d=$1; while :; do [ -f "$d/.python-version" ] && { file=$d/.python-version; return; }; [ -n "$d" ] || return; d=${d%/*}; done; }
read -r versions <<< "$PYENV_VERSION"
if [ -z "$versions" ]; then
  file=
  [ -z "$PYENV_DIR" ] || above "$PYENV_DIR"
  [ -n "$file" ] || above "$PWD"
  versions=$(cat "${file:-ROOT/pyenv/version}")
fi
for hook in ROOT/pyenv/pyenv.d/exec/*.bash; do [ -e "$hook" ] && . "$hook"; done
for v in $versions system; do
  if [ $v = system ]; then
    for d in ${PATH//:/ }; do [ $d != ROOT/pyenv/shims ] && [ -x $d/$command ] && exec $d/$command "$@"; done
  fi
  [ -d ROOT/pyenv/versions/$v ] || v=$(cd ROOT/pyenv/versions && ls -d $v.* 2>/dev/null | sort -V | tail -1)
  [ -n "$v" ] && [ -x ROOT/pyenv/versions/$v/bin/$command ] && exec ROOT/pyenv/versions/$v/bin/$command "$@"
done
echo "pyenv: $command: command not found" >&2
exit 127
`
	asdfScript = `#!/usr/bin/env bash
# asdf-plugin: python 3.11.7
# asdf-plugin: python 3.12.1
exec ROOT/asdf/bin/asdf exec "python3" "$@" # asdf_allow: ' asdf '
`
	asdfManager = `#!/usr/bin/env bash
echo asdf >> ROOT/started
command=$2
shift 2
version=$ASDF_PYTHON_VERSION
d=$PWD
while [ -z "$version" ]; do
  [ -f "$d/.tool-versions" ] && version=$(sed -n 's/^python //p' "$d/.tool-versions")
  grep -q 'legacy_version_file = yes' ROOT/home/.asdfrc 2>/dev/null && [ -z "$version" ] && [ -f "$d/.python-version" ] && version=$(cat "$d/.python-version")
  [ -n "$d" ] || break
  d=${d%/*}
done
[ -n "$version" ] || version=$(sed -n 's/^python //p' ROOT/home/.tool-versions)
[ -x ROOT/home/.asdf/installs/python/$version/bin/$command ] && exec ROOT/home/.asdf/installs/python/$version/bin/$command "$@"
echo "No version is set for command $command" >&2
exit 126
`
	miseManager = `#!/usr/bin/env bash
echo mise >> ROOT/started
command=${0##*/}
version=$MISE_PYTHON_VERSION
d=$(pwd -P)
while [ -z "$version" ]; do
  [ -f "$d/mise.toml" ] && version=$(sed -n 's/^python = "\(.*\)"/\1/p' "$d/mise.toml")
  [ -z "$version" ] && [ -f "$d/.tool-versions" ] && version=$(sed -n 's/^python //p' "$d/.tool-versions")
  [ -n "$d" ] || break
  d=${d%/*}
done
[ -n "$version" ] || version=$(sed -n 's/^python = "\(.*\)"/\1/p' ROOT/home/.config/mise/config.toml)
exec ROOT/home/.local/share/mise/installs/python/$version/bin/$command "$@"
`
	ryeManager = `#!/usr/bin/env bash
echo rye >> ROOT/started
command=${0##*/}
version=
d=$(pwd -P)
while [ -z "$version" ]; do
  [ -f "$d/pyproject.toml" ] && exec "$d/.venv/bin/$command" "$@"
  [ -f "$d/.python-version" ] && version=$(cat "$d/.python-version")
  [ -n "$d" ] || break
  d=${d%/*}
done
[ -n "$version" ] || version=$(sed -n 's/^toolchain = "\(.*\)"/\1/p' ROOT/home/.rye/config.toml)
exec ROOT/home/.rye/py/cpython@$version/bin/$command "$@"
`
)

// A world is a directory with a version manager and what it has installed.
type world struct {
	t       *testing.T
	root    string
	shim    string   // absolute
	environ []string // beside the usual
	path    string   // of PATH, behind the shims
	dir     string   // of the caller, absolute
}

func newWorld(t *testing.T, shim string) *world {
	t.Helper()
	for _, program := range []string{"bash", "sed", "sort"} {
		if _, err := exec.LookPath(program); err != nil {
			need.That(t, program, err)
		}
	}
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, root: root, shim: filepath.Join(root, shim), path: filepath.Join(root, "bin"), dir: filepath.Join(root, "p/q")}
	w.install("bin/python3", "3.10.1")
	w.write("p/q/x", "")
	w.write("home/x", "")
	return w
}

// write writes a text into a file; a script can be executed afterwards.
func (w *world) write(path, text string) {
	w.t.Helper()
	full := filepath.Join(w.root, path)
	text = strings.ReplaceAll(text, "ROOT/", w.root+"/")
	if strings.HasPrefix(text, "#!") {
		os.Remove(full)
		plant(w.t, w.root, path, text)
	} else if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, []byte(text), 0o600)); err != nil {
		w.t.Fatal(err)
	}
}

// install makes an interpreter that is a file of its own.
func (w *world) install(path, version string) {
	w.t.Helper()
	full := filepath.Join(w.root, path)
	plantCopy(w.t, full+".new", version)
	os.Remove(full)
	if err := errors.Join(os.Rename(full+".new.version", full+".version"), os.Rename(full+".new", full)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(path string) {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.root, path)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) want(interpreter string) Want {
	environ := append(playing(filepath.Join(w.root, "log")), "HOME="+filepath.Join(w.root, "home"), "PATH="+filepath.Dir(w.shim)+":"+w.path+":"+os.Getenv("PATH"))
	for _, e := range w.environ {
		environ = append(environ, strings.ReplaceAll(e, "ROOT/", w.root+"/"))
	}
	return Want{Interpreter: interpreter, Environ: environ, Dir: w.dir, CacheDir: filepath.Join(w.root, "cache"), KeyFile: filepath.Join(w.root, "key")}
}

// started counts how often the version manager was started.
func (w *world) started() int {
	text, _ := os.ReadFile(filepath.Join(w.root, "started"))
	return strings.Count(string(text), "\n")
}

// itself is where the shim leads to when it is simply called.
func (w *world) itself() string {
	w.t.Helper()
	before, _ := os.ReadFile(filepath.Join(w.root, "started"))
	c := exec.Command(w.shim, "-I")
	c.Env, c.Dir = append(w.want("").Environ, "PWD="+w.dir), w.dir
	out, _ := c.Output()
	os.WriteFile(filepath.Join(w.root, "started"), before, 0o600)
	lines := strings.Split(string(out), "\n")
	if len(lines) < 4 {
		return "none"
	}
	return strings.TrimPrefix(lines[3], w.root+"/")
}

// find finds the interpreter through the shim and keeps it.
func (w *world) find() (string, int) {
	w.t.Helper()
	before := w.started()
	ip, _, err := findAndKeep(w.want(w.shim))
	ip.Close()
	got := strings.TrimPrefix(ip.Path, w.root+"/")
	if err != nil {
		got = "none"
	} else if !slices.Equal(ip.Through, []string{w.shim}) && ip.Path != w.shim {
		w.t.Errorf("led to %s through %q", ip.Path, ip.Through)
	}
	return got, w.started() - before
}

// A change is something that can happen between two runs.
type change struct {
	name   string
	do     func(w *world)
	want   string // the interpreter that is found then
	kept   bool   // the first run after it starts no shim either
	always bool   // every run starts the shim
	alone  bool   // the shim would lead to another interpreter, when it is simply called
}

func (w *world) check(changes []change) {
	for _, c := range changes {
		if c.do != nil {
			c.do(w)
		}
		if itself := w.itself(); (itself == c.want) == c.alone {
			w.t.Errorf("%s: the shim itself leads to %s, want %s (%t)", c.name, itself, c.want, !c.alone)
		}
		for run := range 3 {
			asks := 0
			if c.always || run == 0 && !c.kept {
				asks = 1
			}
			if got, n := w.find(); got != c.want || n != asks {
				w.t.Errorf("%s, run %d: %s, the shim was started %d times; want %s, %d", c.name, run, got, n, c.want, asks)
			}
		}
	}
}

func newPyenv(t *testing.T) *world {
	w := newWorld(t, "pyenv/shims/python3")
	for _, v := range []string{"3.11.7", "3.12.1", "3.9.18"} {
		w.install("pyenv/versions/"+v+"/bin/python3", v)
	}
	w.write("pyenv/version", "3.11.7\n")
	w.write("pyenv/libexec/pyenv", pyenvManager)
	w.write("pyenv/shims/python3", pyenvScript)
	return w
}

func TestShimOfPyenv(t *testing.T) {
	t.Parallel()
	w := newPyenv(t)
	const v11, v12, v9 = "pyenv/versions/3.11.7/bin/python3", "pyenv/versions/3.12.1/bin/python3", "pyenv/versions/3.9.18/bin/python3"
	w.check([]change{
		{name: "the global version", want: v11},
		{name: "another directory without a version file", do: func(w *world) { w.dir = w.root }, want: v11, kept: true},
		{name: "a version file above", do: func(w *world) { w.dir = filepath.Join(w.root, "p/q"); w.write("p/.python-version", "3.12.1\n") }, want: v12},
		{name: "the directory above it", do: func(w *world) { w.dir = w.root }, want: v11, kept: true},
		{name: "back", do: func(w *world) { w.dir = filepath.Join(w.root, "p/q") }, want: v12, kept: true},
		{name: "the version file is edited", do: func(w *world) { w.write("p/.python-version", "3.11.7\n") }, want: v11},
		{name: "and again, as long as before", do: func(w *world) { w.write("p/.python-version", "3.9.18\n") }, want: v9},
		{name: "a nearer version file", do: func(w *world) { w.write("p/q/.python-version", "3.12.1\n") }, want: v12},
		{name: "the nearer one is removed", do: func(w *world) { w.remove("p/q/.python-version") }, want: v9, kept: true},
		{name: "PYENV_VERSION", do: func(w *world) { w.environ = []string{"PYENV_VERSION=3.12.1"} }, want: v12},
		{name: "PYENV_VERSION, in a directory of its own version", do: func(w *world) { w.write("p/q/.python-version", "3.11.7\n") }, want: v12, kept: true},
		{name: "another PYENV_VERSION", do: func(w *world) { w.environ = []string{"PYENV_VERSION=3.11.7"} }, want: v11},
		{name: "no PYENV_VERSION", do: func(w *world) { w.environ = nil; w.remove("p/q/.python-version") }, want: v9, kept: true},
		{name: "PYENV_DIR", do: func(w *world) {
			w.write("other/.python-version", "3.12.1\n")
			w.environ = []string{"PYENV_DIR=ROOT/other"}
		}, want: v12},
		{name: "no PYENV_DIR", do: func(w *world) { w.environ = nil }, want: v9, kept: true},
		{name: "the global version changes", do: func(w *world) { w.dir = filepath.Join(w.root, "home"); w.write("pyenv/version", "3.12.1\n") }, want: v12},
		{name: "several versions", do: func(w *world) { w.write("pyenv/version", "3.99.9 3.9.18\n") }, want: v9},
		{name: "the first of several is installed", do: func(w *world) { w.install("pyenv/versions/3.99.9/bin/python3", "3.12.9") }, want: "pyenv/versions/3.99.9/bin/python3"},
		{name: "the beginning of a version", do: func(w *world) { w.write("pyenv/version", "3.12\n") }, want: v12},
		{name: "a newer version is installed", do: func(w *world) { w.install("pyenv/versions/3.12.10/bin/python3", "3.12.10") }, want: "pyenv/versions/3.12.10/bin/python3"},
		{name: "and removed", do: func(w *world) { w.remove("pyenv/versions/3.12.10") }, want: v12},
		{name: "the version is installed anew", do: func(w *world) { w.install(v12, "3.12.2") }, want: v12},
		{name: "system", do: func(w *world) { w.write("pyenv/version", "system\n") }, want: "bin/python3"},
		{name: "an interpreter before it in PATH", do: func(w *world) { w.path = w.root + "/more:" + w.path; w.install("more/x", "3.12.4") }, want: "bin/python3"},
		{name: "it appears there", do: func(w *world) { w.install("more/python3", "3.12.4") }, want: "more/python3"},
		{name: "it is removed", do: func(w *world) { w.remove("more/python3") }, want: "bin/python3"},
		{name: "by a link to a directory", do: func(w *world) {
			w.write("pyenv/version", "3.11.7\n")
			w.write("far/away/x", "")
			w.write("link/.python-version", "3.9.18\n")
			if err := os.Symlink(w.root+"/far/away", w.root+"/link/here"); err != nil {
				w.t.Fatal(err)
			}
			w.dir = w.root + "/link/here"
		}, want: v9},
		{name: "the same directory by its own path", do: func(w *world) { w.dir = w.root + "/far/away" }, want: v11},
		{name: "the link leads elsewhere", do: func(w *world) {
			w.dir = w.root + "/link/here"
			os.Remove(w.dir)
			if err := os.Symlink(w.root+"/p", w.dir); err != nil {
				w.t.Fatal(err)
			}
		}, want: v9},
		{name: "a hook", do: func(w *world) { w.write("pyenv/pyenv.d/exec/mine.bash", "versions=3.11.7\n") }, want: v11, always: true},
		{name: "no hook", do: func(w *world) { w.remove("pyenv/pyenv.d/exec/mine.bash") }, want: v9},
		{name: "a hook of its own", do: func(w *world) { w.write("pyenv/pyenv.d/exec/pip-rehash.bash", "\n") }, want: v9},
		{name: "started by a shim", do: func(w *world) { w.environ = []string{"PYENV_HOOK_PATH=ROOT/pyenv/pyenv.d:/usr/lib/pyenv/hooks:"} }, want: v9},
		{name: "with a hook elsewhere", do: func(w *world) {
			w.write("hooks/which/mine.bash", "\n")
			w.environ = []string{"PYENV_HOOK_PATH=ROOT/pyenv/pyenv.d:ROOT/hooks"}
		}, want: v9, always: true},
		{name: "with a relative path", do: func(w *world) { w.environ = []string{"PYENV_HOOK_PATH=hooks"} }, want: v9, always: true},
		{name: "BASH_ENV", do: func(w *world) {
			w.write("env", "export PYENV_VERSION=3.12.1\n")
			w.environ = []string{"BASH_ENV=ROOT/env"}
		}, want: v12, always: true},
		{name: "an exported function", do: func(w *world) { w.environ = []string{"BASH_FUNC_module%%=() { :; }"} }, want: v9},
		{name: "one that replaces a command", do: func(w *world) { w.environ = []string{"BASH_FUNC_cd%%=() { builtin cd \"$@\"; }"} }, want: v9, always: true},
		{name: "pyenv itself changes", do: func(w *world) { w.environ = nil; w.write("pyenv/libexec/pyenv", pyenvManager+"\n") }, want: v9},
		{name: "the shim is replaced by one of the same text", do: func(w *world) { w.write("pyenv/shims/python3", pyenvScript) }, want: v9},
		{name: "the shim is replaced by another program's", do: func(w *world) {
			w.write("pyenv/shims/python3", pyenvScript[:20]+"echo another >> ROOT/started\nexec ROOT/"+v12+" \"$@\"\n")
		}, want: v12, always: true},
		{name: "the shim is replaced by an interpreter", do: func(w *world) { w.remove("pyenv/shims/python3"); w.install("pyenv/shims/python3", "3.11.1") }, want: "pyenv/shims/python3", kept: true},
	})
}

func TestShimOfAsdf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "home/.asdf/shims/python3")
	const at = "home/.asdf/installs/python/"
	for _, v := range []string{"3.11.7", "3.12.1"} {
		w.install(at+v+"/bin/python3", v)
	}
	w.write("home/.tool-versions", "ruby 3.3\npython 3.11.7\n")
	w.write("asdf/bin/asdf", asdfManager)
	w.write("home/.asdf/shims/python3", asdfScript)
	const v11, v12 = at + "3.11.7/bin/python3", at + "3.12.1/bin/python3"
	w.check([]change{
		{name: "the version at home", want: v11},
		{name: "another directory", do: func(w *world) { w.dir = w.root }, want: v11, kept: true},
		{name: "a version file", do: func(w *world) { w.dir = w.root + "/p/q"; w.write("p/.tool-versions", "python 3.12.1\n") }, want: v12},
		{name: "a nearer one that names no Python", do: func(w *world) { w.write("p/q/.tool-versions", "ruby 3.3\n") }, want: v12},
		{name: "now it does", do: func(w *world) { w.write("p/q/.tool-versions", "python 3.11.7\n") }, want: v11},
		{name: "ASDF_PYTHON_VERSION", do: func(w *world) { w.environ = []string{"ASDF_PYTHON_VERSION=3.12.1"} }, want: v12},
		{name: "not any more", do: func(w *world) { w.environ = nil }, want: v11, kept: true},
		{name: "all version files are gone", do: func(w *world) { w.remove("p/q/.tool-versions"); w.remove("p/.tool-versions") }, want: v11, kept: true},
		{name: "a file of pyenv", do: func(w *world) { w.write("p/.python-version", "3.12.1\n") }, want: v11, kept: true},
		{name: "such files count", do: func(w *world) { w.write("home/.asdfrc", "legacy_version_file = yes\n") }, want: v12},
		{name: "it is edited", do: func(w *world) { w.write("p/.python-version", "3.11.7\n") }, want: v11},
		{name: "the version at home changes", do: func(w *world) { w.dir = w.root; w.write("home/.tool-versions", "python 3.12.1\n") }, want: v12},
		{name: "the version is installed anew", do: func(w *world) { w.install(v12, "3.12.2") }, want: v12},
		{name: "the plugin decides itself", do: func(w *world) { w.write("home/.asdf/plugins/python/bin/exec-path", "#!/bin/sh\n") }, want: v12, always: true},
		{name: "not any more", do: func(w *world) { w.remove("home/.asdf/plugins") }, want: v12, kept: true},
		{name: "hooks in the configuration", do: func(w *world) { w.write("home/.asdfrc", "pre_python_python3 = true\n") }, want: v12, always: true},
	})
}

func TestShimOfMise(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "home/.local/share/mise/shims/python3")
	const at = "home/.local/share/mise/installs/python/"
	for _, v := range []string{"3.11.7", "3.12.1"} {
		w.install(at+v+"/bin/python3", v)
	}
	w.write("home/.config/mise/config.toml", "[tools]\npython = \"3.11.7\"\n")
	w.write("opt/mise", miseManager)
	w.write("home/.local/share/mise/shims/x", "")
	if err := os.Symlink(w.root+"/opt/mise", w.shim); err != nil {
		t.Fatal(err)
	}
	const v11, v12 = at + "3.11.7/bin/python3", at + "3.12.1/bin/python3"
	w.check([]change{
		{name: "the global version", want: v11},
		{name: "another directory", do: func(w *world) { w.dir = w.root }, want: v11, kept: true},
		{name: "a configuration above", do: func(w *world) { w.dir = w.root + "/p/q"; w.write("p/mise.toml", "[tools]\npython = \"3.12.1\"\n") }, want: v12},
		{name: "it is edited", do: func(w *world) { w.write("p/mise.toml", "[tools]\npython = \"3.11.7\"\n") }, want: v11},
		{name: "a nearer version file", do: func(w *world) { w.write("p/q/.tool-versions", "python 3.12.1\n") }, want: v12},
		{name: "it is removed", do: func(w *world) { w.remove("p/q/.tool-versions") }, want: v11, kept: true},
		{name: "MISE_PYTHON_VERSION", do: func(w *world) { w.environ = []string{"MISE_PYTHON_VERSION=3.12.1"} }, want: v12},
		{name: "another variable of mise", do: func(w *world) { w.environ = append(w.environ, "MISE_ENV=dev") }, want: v12, always: true},
		{name: "a configuration that does more", do: func(w *world) {
			w.environ = nil
			w.write("p/mise.toml", "[env]\n_.path = \"bin\"\n[tools]\npython = \"3.12.1\"\n")
		}, want: v12, always: true},
		{name: "a template", do: func(w *world) { w.write("p/mise.toml", "[tools]\n# {{ exec(command='x') }}\npython = \"3.11.7\"\n") }, want: v11, always: true},
		{name: "a directory of configurations", do: func(w *world) {
			w.write("p/mise.toml", "[tools]\npython = \"3.11.7\"\n")
			w.write("home/.config/mise/conf.d/x.toml", "")
		}, want: v11, always: true},
		{name: "the global version changes", do: func(w *world) {
			w.remove("home/.config/mise/conf.d")
			w.dir = w.root
			w.write("home/.config/mise/config.toml", "[tools]\npython = \"3.12.1\"\n")
		}, want: v12},
		{name: "the version is installed anew", do: func(w *world) { w.install(v12, "3.12.2") }, want: v12},
		{name: "mise is replaced", do: func(w *world) { w.write("opt/mise", miseManager+"\n") }, want: v12},
	})
}

func TestShimOfRye(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "home/.rye/shims/python3")
	for _, v := range []string{"3.11.7", "3.12.1"} {
		w.install("home/.rye/py/cpython@"+v+"/bin/python3", v)
	}
	w.write("home/.rye/config.toml", "[behavior]\nglobal-python = true\n[default]\ntoolchain = \"3.11.7\"\n")
	w.write("home/.rye/shims/rye", ryeManager)
	if err := os.Link(w.root+"/home/.rye/shims/rye", w.shim); err != nil {
		t.Fatal(err)
	}
	const v11, v12 = "home/.rye/py/cpython@3.11.7/bin/python3", "home/.rye/py/cpython@3.12.1/bin/python3"
	w.check([]change{
		{name: "the default", want: v11},
		{name: "a version file above", do: func(w *world) { w.write("p/.python-version", "3.12.1\n") }, want: v12},
		{name: "another directory", do: func(w *world) { w.dir = w.root }, want: v11, kept: true},
		{name: "the default changes", do: func(w *world) { w.write("home/.rye/config.toml", "[default]\ntoolchain = \"3.12.1\"\n") }, want: v12},
		{name: "a project", do: func(w *world) {
			w.dir = w.root + "/p/q"
			w.install("p/.venv/bin/python3", "3.13.1")
			w.write("p/pyproject.toml", "[project]\n")
		}, want: "p/.venv/bin/python3"},
		{name: "its environment is made anew", do: func(w *world) { w.install("p/.venv/bin/python3", "3.13.2") }, want: "p/.venv/bin/python3"},
		{name: "a project of rye's", do: func(w *world) { w.write("p/pyproject.toml", "[tool.rye]\nmanaged = true\n") }, want: "p/.venv/bin/python3", always: true},
	})
}

// A version file that others can change leads nobody: the shim is asked in the root directory, and the file is named.
func TestShimOfStrangers(t *testing.T) {
	t.Parallel()
	const v11, v12 = "pyenv/versions/3.11.7/bin/python3", "pyenv/versions/3.12.1/bin/python3"
	w := newPyenv(t)
	w.write("p/.python-version", "3.12.1\n")
	file := filepath.Join(w.root, "p/.python-version")
	chmod := func(mode os.FileMode) func(*world) {
		return func(*world) {
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	byGroup := v11
	if passwd.Private(os.Getegid(), os.Geteuid()) {
		byGroup = v12
	}
	w.check([]change{
		{name: "own", want: v12},
		{name: "all may write it", do: chmod(0o666), want: v11, alone: true},
		{name: "a group that is the user's alone may write it", do: chmod(0o660), want: byGroup, kept: byGroup == v11, alone: byGroup == v11},
		{name: "an own one is nearer", do: func(w *world) { w.write("p/q/.python-version", "3.9.18\n") }, want: "pyenv/versions/3.9.18/bin/python3"},
		{name: "all may write what a link leads to", do: func(w *world) {
			w.remove("p/q/.python-version")
			chmod(0o600)(w)
			w.write("p/real", "3.12.1\n")
			if err := errors.Join(os.Chmod(w.root+"/p/real", 0o666), os.Symlink("../real", w.root+"/p/q/.python-version")); err != nil {
				t.Fatal(err)
			}
		}, want: v11, kept: true, alone: true},
	})
	_, skipped, err := Find(w.want(w.shim))
	if want := (Candidate{w.root + "/p/q/.python-version", "pyenv", strangers}); err != nil || !slices.Equal(skipped, []Candidate{want}) {
		t.Errorf("passed over %+v, %v, want %+v", skipped, err, want)
	}
	if os.Geteuid() != 0 {
		return
	}
	w.remove("p/q/.python-version")
	chown := func(uid, gid int, mode os.FileMode) func(*world) {
		return func(w *world) {
			if err := os.Chown(file, uid, gid); err != nil {
				t.Fatal(err)
			}
			chmod(mode)(w)
		}
	}
	w.check([]change{
		{name: "another user's", do: chown(65534, 65534, 0o644), want: v11, kept: true, alone: true},
		{name: "another group may write it", do: chown(0, 65534, 0o664), want: v11, kept: true, alone: true},
		{name: "own again", do: chown(0, 65534, 0o644), want: v12},
	})
}

// That a shim has no such command is kept, too. That it failed otherwise is not.
func TestShimWithoutAnswer(t *testing.T) {
	t.Parallel()
	w := newPyenv(t)
	w.write("pyenv/shims/python3.12", pyenvScript)
	want := w.want("3.12")
	want.Environ = slices.DeleteFunc(want.Environ, func(e string) bool { return strings.HasPrefix(e, "PATH=") })
	want.Environ = append(want.Environ, "PYENV_ROOT="+w.root+"/pyenv", "PATH="+w.root+"/pyenv/shims:/usr/bin:/bin")
	w.install("pyenv/versions/3.12.1/bin/python", "3.12.1")
	if _, err := os.Stat("/usr/bin/python3.12"); err == nil {
		t.Skip("this host has a python3.12 of its own")
	}
	for run, asks := range []int{1, 0, 0} {
		before := w.started()
		ip, skipped, err := findAndKeep(want)
		if err != nil || ip.Path != w.root+"/pyenv/versions/3.12.1/bin/python" || len(skipped) == 0 || !strings.HasSuffix(skipped[0].Why, "pyenv: python3.12: command not found") {
			t.Errorf("run %d: %+v, %+v, %v", run, ip, skipped, err)
		}
		ip.Close()
		if n := w.started() - before; n != asks {
			t.Errorf("run %d: the shim was started %d times, want %d", run, n, asks)
		}
	}
	w.write("pyenv/versions/3.11.7/bin/python3.12", "#!/bin/sh\nexec "+w.root+"/pyenv/versions/3.12.1/bin/python3 \"$@\"\n")
	ip, _, err := findAndKeep(want)
	if err != nil || ip.Path != w.root+"/pyenv/versions/3.12.1/bin/python3" {
		t.Errorf("the command is there now: %+v, %v", ip, err)
	}
	ip.Close()
	w.write("pyenv/libexec/pyenv", "#!/bin/sh\necho pyenv >> "+w.root+"/started\necho \"/libexec/pyenv: line 7: fork: retry\" >&2\nexit 1\n")
	for range 2 {
		before := w.started()
		if _, _, err := Find(w.want(w.shim)); err == nil || w.started() != before+1 {
			t.Errorf("a shim that fails: %v, started %d times", err, w.started()-before)
		}
	}
}

// A PATH that names the current directory gives nobody an interpreter there.
func TestShimAndRelativePath(t *testing.T) {
	t.Parallel()
	w := newPyenv(t)
	w.write("pyenv/version", "system\n")
	w.install("p/q/python3", "3.13.1")
	w.path = ".:" + w.path
	w.check([]change{{name: "system", want: "bin/python3", alone: true}})
}

// Shims that lead to each other, and one that leads to itself, end.
func TestShimLoops(t *testing.T) {
	t.Parallel()
	w := newPyenv(t)
	loop := "#!/bin/sh\nprintf 'py3run-probe\\ncpython\\n3.12.0\\nTO\\nlinux\\nb\\n/usr\\nYQ==\\n'\n"
	for _, to := range []string{"ROOT/pyenv/shims/python3", "ROOT/one", "one", ""} {
		w.write("pyenv/versions/3.11.7/bin/python3", strings.ReplaceAll(loop, "TO", to))
		w.write("one", strings.ReplaceAll(loop, "TO", "ROOT/pyenv/shims/python3"))
		if got, _ := w.find(); got != "none" {
			t.Errorf("by way of %q: %s", to, got)
		}
	}
}

// Nothing is kept of a shim without a key, and nothing that somebody has changed is used.
func TestShimAnswerChanged(t *testing.T) {
	t.Parallel()
	w := newPyenv(t)
	w.find()
	list, err := filepath.Glob(filepath.Join(w.root, "cache/shim-*"))
	if err != nil || len(list) != 1 {
		t.Fatalf("%q, %v", list, err)
	}
	text, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, changed := range []string{strings.Replace(string(text), "3.11.7", "3.12.1", 1), "", string(text) + "\n", string(text[:20])} {
		if err := os.WriteFile(list[0], []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, asks := w.find(); got != "pyenv/versions/3.11.7/bin/python3" || asks != 1 {
			t.Errorf("%.40q: %s, started %d times", changed, got, asks)
		}
	}
	for i := range answersMost + 10 {
		answer{openCache(filepath.Join(w.root, "cache"), filepath.Join(w.root, "key")), fmt.Sprintf("%016x", i), "key", "/x", ""}.keep()
	}
	if list, _ := filepath.Glob(filepath.Join(w.root, "cache/shim-*")); len(list) != answersMost {
		t.Errorf("%d answers are kept, want %d", len(list), answersMost)
	}
}

// Only the scripts that the version managers write themselves are recognized.
func TestIdentify(t *testing.T) {
	t.Parallel()
	old := "#!/usr/bin/env bash\nset -e\n[ -n \"$PYENV_DEBUG\" ] && set -x\n\nprogram=\"${0##*/}\"\nif [[ \"$program\" = \"python\"* ]]; then\n  for arg; do\n    case \"$arg\" in\n    -c* | -- ) break ;;\n    */* )\n      if [ -f \"$arg\" ]; then\n        export PYENV_FILE_ARG=\"$arg\"\n        break\n      fi\n      ;;\n    esac\n  done\nfi\n\nexport PYENV_ROOT=\"/r\"\nexec \"/usr/bin/pyenv\" exec \"$program\" \"$@\"\n"
	for _, tt := range []struct{ name, text, want string }{
		{"pyenv", pyenvScript, "pyenv"},
		{"pyenv before 2.3", old, "pyenv"},
		{"with a line more", pyenvScript + "echo\n", ""},
		{"with a line more before", strings.Replace(pyenvScript, "set -e\n", "set -e\n. ~/.profile\n", 1), ""},
		{"of a variable's place", strings.ReplaceAll(old, "/usr/bin/pyenv", "/usr/$X/pyenv"), ""},
		{"of a relative place", strings.ReplaceAll(old, "/usr/bin/pyenv", "bin/pyenv"), ""},
		{"two roots", old + "export PYENV_ROOT=\"/s\"\n", ""},
		{"asdf", asdfScript, "asdf"},
		{"asdf of 0.16", "#!/usr/bin/env bash\n# asdf-plugin: python 3.12.1\nexec asdf exec \"python3\" \"$@\"", "asdf"},
		{"asdf, another command", strings.ReplaceAll(asdfScript, "python3", "pip"), ""},
		{"asdf, another plugin, too", "#!/usr/bin/env bash\n# asdf-plugin: pypy 7\nexec asdf exec \"python3\" \"$@\"", ""},
		{"asdf, another program", strings.ReplaceAll(asdfScript, "bin/asdf", "bin/other"), ""},
		{"a script", "#!/bin/sh\nexec python3.12 \"$@\"\n", ""},
		{"a script of nothing", "#!/bin/sh\n", ""},
		{"an interpreter", "\x7fELF", ""},
		{"nothing", "", ""},
	} {
		got := ""
		if s := identify("/nowhere/python3", []byte(strings.ReplaceAll(tt.text, "ROOT/", "/root/"))); s != nil {
			got = s.kind.name
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
