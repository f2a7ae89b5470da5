package python

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// py3run can take the place of an interpreter: by a link to it with an interpreter's name, or by
// `py3run python`. This file finds the interpreter that is meant.

// A Link is how py3run was called in the place of an interpreter.
type Link struct {
	Name string // "python", "python3" or "python3.N"
	Path string // absolute; empty: it was no link
	Last string // the last of the links from Path on: what leads to py3run itself, or py3run under another name
}

// IsLinkName reports whether a file with this name stands for an interpreter.
func IsLinkName(name string) bool {
	rest, ok := strings.CutPrefix(name, "python")
	if !ok || rest == "" || rest == "3" {
		return ok
	}
	minor, ok := strings.CutPrefix(rest, "3.")
	return ok && minor != "" && strings.Trim(minor, "0123456789") == ""
}

// LinkAt finds the link by which py3run was called, from argv[0], as CPython finds its own path: a name
// without a slash is looked up in PATH.
func LinkAt(argv0 string, environ []string, dir string) Link {
	l := Link{Name: filepath.Base(argv0)}
	switch {
	case filepath.IsAbs(argv0):
		l.Path = argv0
	case strings.Contains(argv0, "/"):
		l.Path = filepath.Join(dir, argv0)
	default:
		for _, d := range searchPath(environ) {
			path := filepath.Join(dir, d, argv0)
			if filepath.IsAbs(d) {
				path = filepath.Join(d, argv0)
			}
			if IsItself(path) {
				l.Path = path
				break
			}
		}
	}
	if l.Path != "" {
		l.Last = lastOf(l.Path)
	}
	return l
}

// lastOf follows links to the last one.
func lastOf(path string) string {
	for range 40 { // as many as the kernel follows
		to, err := os.Readlink(path)
		if err != nil {
			return path
		}
		if !filepath.IsAbs(to) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return path
			}
			to = filepath.Join(dir, to)
		}
		if info, err := os.Lstat(to); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return path
		}
		path = to
	}
	return path
}

// ErrItself is why a path is no interpreter: it leads to py3run.
var ErrItself = errors.New("leads to py3run itself")

// itself is the file of this program.
var itself = sync.OnceValue(func() fs.FileInfo {
	info, _ := os.Stat("/proc/self/exe")
	return info
})

// IsItself reports whether a path leads to this program.
func IsItself(path string) bool {
	info, err := os.Stat(path)
	return err == nil && itself() != nil && os.SameFile(info, itself())
}

// isPy3run reports whether a path leads to this program or, as far as that can be seen, to another
// copy of it. Each copy would look for an interpreter and find the other. A copy is a Go program, with
// the note of its build (ELF note "Go", in the first 4 KB); no CPython is one.
func isPy3run(path string) bool {
	if IsItself(path) {
		return true
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 4<<10)
	n, _ := io.ReadFull(f, head)
	return bytes.HasPrefix(head, []byte("\x7fELF")) && bytes.Contains(head[:n], []byte("\x04\x00\x00\x00Go\x00\x00"))
}

// FindFor finds the interpreter that a link stands for: that of the virtual environment around the
// link, then the configured one, if it has the version in the link's name, then the first of that name
// in PATH. Errors are those of [Find].
func FindFor(want Want, link Link) (Interpreter, []Candidate, error) {
	path, skipped, err := PathFor(want, link)
	if err != nil {
		return Interpreter{}, skipped, err
	}
	if path == "" {
		ip, more, err := Find(want)
		if err != nil || hasVersion(ip.Version, link.Name) {
			return ip, append(skipped, more...), err
		}
		ip.Close()
		want.Interpreter = "auto"
		return FindFor(want, Link{Name: link.Name})
	}
	want.Interpreter = path
	ip, more, err := Find(want)
	return ip, append(skipped, more...), err
}

// PathFor is the path of the interpreter that a link stands for, as FindFor finds it, before the
// interpreter is asked anything. Empty: it is the configured one.
func PathFor(want Want, link Link) (path string, skipped []Candidate, err error) {
	for range 8 { // a virtual environment can be made by the link of another
		env, inside := environmentAround(link.Path)
		if !inside {
			break
		}
		if path = env.interpreter(link); path == "" {
			return "", nil, &NotFoundError{Want: link.Name, Skipped: []Candidate{{filepath.Join(env.home, link.Name), "pyvenv.cfg", "no such file, although " + env.file + " names this directory as home"}}}
		}
		if !isPy3run(path) {
			return path, nil, nil
		}
		link = Link{Name: filepath.Base(path), Path: path}
		if !IsLinkName(link.Name) {
			link.Name = "python" + env.version
		}
	}
	if want.Interpreter != "auto" && want.Interpreter != "" && !namesOther(want.Interpreter, link.Name) {
		return "", nil, nil
	}
	names := []string{link.Name}
	if link.Name == "python" {
		names = append(names, "python3")
	}
	for _, name := range names {
		for _, dir := range searchPath(want.Environ) {
			p := filepath.Join(dir, name)
			switch {
			case !filepath.IsAbs(dir):
			case isPy3run(p):
				skipped = append(skipped, Candidate{p, "PATH", ErrItself.Error()})
			case executable(p) == nil:
				return p, skipped, nil
			}
		}
	}
	return "", skipped, &NotFoundError{Want: link.Name, Skipped: skipped, ByLink: true}
}

// namesOther reports whether what is configured is certainly another version than a link's name says.
func namesOther(configured, name string) bool {
	version := strings.TrimPrefix(name, "python")
	if !strings.Contains(version, ".") {
		return false
	}
	if isVersion(configured) {
		return configured != version && !strings.HasPrefix(configured, version+".")
	}
	base := filepath.Base(configured)
	return IsLinkName(base) && strings.Contains(base, ".") && base != name
}

// hasVersion reports whether a version is one that a link's name stands for.
func hasVersion(version, name string) bool {
	wanted := strings.TrimPrefix(name, "python")
	return wanted == "" || version == wanted || strings.HasPrefix(version, wanted+".")
}

// An environment is a virtual environment (PEP 405), as its pyvenv.cfg describes it.
type environment struct {
	file       string // pyvenv.cfg
	home       string // the directory of the interpreter that has made it
	executable string // that interpreter; only since Python 3.11
	version    string // "3.N"; empty: not known
}

// environmentAround finds the environment that a link is in. CPython looks in the directory of the
// executable and in the one above.
func environmentAround(link string) (env environment, inside bool) {
	if link == "" {
		return env, false
	}
	dir := filepath.Dir(link)
	for _, path := range []string{filepath.Join(dir, "pyvenv.cfg"), filepath.Join(filepath.Dir(dir), "pyvenv.cfg")} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			text, _ := os.ReadFile(path)
			env = readPyvenv(string(text))
			env.file = path
			return env, env.home != ""
		}
	}
	return env, false
}

func readPyvenv(text string) (env environment) {
	for line := range strings.Lines(text) {
		key, value, found := strings.Cut(line, "=")
		if !found {
			continue
		}
		switch value = strings.TrimSpace(value); strings.ToLower(strings.TrimSpace(key)) {
		case "home":
			env.home = value
		case "executable":
			env.executable = value
		case "version", "version_info": // of venv, of virtualenv
			var major, minor int
			if n, _ := fmt.Sscanf(value, "%d.%d", &major, &minor); n == 2 {
				env.version = fmt.Sprintf("%d.%d", major, minor)
			}
		}
	}
	return env
}

// interpreter is the interpreter of an environment, or a link to py3run from which that was made; empty:
// there is none any more.
func (env environment) interpreter(link Link) string {
	var names []string
	if last := lastOf(link.Path); filepath.Dir(last) == env.home { // made by that link
		names = append(names, filepath.Base(last))
	}
	if env.version != "" {
		names = append(names, "python"+env.version)
	}
	var own string
	for _, name := range append(names, link.Name, "python3", "python") {
		path := filepath.Join(env.home, name)
		if IsItself(path) {
			own = path
			break
		}
		if executable(path) == nil {
			return path
		}
	}
	// A link may stand for another version by now than when the environment was made.
	if filepath.IsAbs(env.executable) && executable(env.executable) == nil && !isPy3run(env.executable) {
		return env.executable
	}
	return own
}
