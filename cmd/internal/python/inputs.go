package python

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"py3run/internal/envvar"
	"py3run/internal/passwd"
)

// Inputs are what the answer of a shim depends on. They go into two sums: one over all of them, and
// one over those that tell apart the answers that are worth keeping beside each other.
type inputs struct {
	environ  []string // for the shim
	dir      string   // in which the shim is asked
	sum      hash.Hash
	place    hash.Hash
	text     []byte // to build a part of them in
	unsure   string // why the answer cannot be kept; empty: it can be
	stranger string // a version file that somebody else has made or can change; empty: there is none
}

// newInputs also makes the environment of the shim: the caller's, with a PATH that does not depend on
// the current directory.
func newInputs(environ []string, dir string) *inputs {
	in := &inputs{dir: dir, sum: sha256.New(), place: sha256.New()}
	for _, e := range environ {
		switch name, value, _ := strings.Cut(e, "="); name {
		case "PWD", "OLDPWD":
			continue
		case "PATH":
			e = "PATH=" + strings.Join(slices.DeleteFunc(filepath.SplitList(value), func(dir string) bool { return !filepath.IsAbs(dir) }), ":")
		}
		in.environ = append(in.environ, e)
	}
	in.environ = append(in.environ, "PWD="+dir)
	in.variables("PATH", "LANG", "LC_", "LD_")
	return in
}

func (in *inputs) get(name string) string { return envvar.Lookup(in.environ, name) }

// write adds to both sums.
func (in *inputs) write(format string, args ...any) {
	fmt.Fprintf(io.MultiWriter(in.sum, in.place), format, args...)
}

// doubt notes why the answer cannot be kept.
func (in *inputs) doubt(why string) {
	if in.unsure == "" {
		in.unsure = why
	}
}

// variables adds all variables whose names begin so.
func (in *inputs) variables(prefixes ...string) {
	var list []string
	for _, e := range in.environ {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(e, p) }) {
			list = append(list, e)
		}
	}
	slices.Sort(list)
	in.write("%q\n", list)
}

// shellWords are what the scripts of version managers call, and what an exported function can replace.
const shellWords = " [ awk basename bash builtin cat cd command cut dirname echo enable env eval exec exit export find grep head local printf pwd read readlink realpath return sed set shift shopt sort source tail test tr type unset asdf "

// shell adds what a shell script depends on. Many systems export functions, such as which and module:
// their text is in the variable.
func (in *inputs) shell() {
	in.variables("BASH", "SHELLOPTS", "POSIXLY_CORRECT", "IFS")
	for _, e := range in.environ {
		name, value, _ := strings.Cut(e, "=")
		function, is := strings.CutPrefix(name, "BASH_FUNC_")
		function, _, _ = strings.Cut(function, "%")
		if name == "BASH_ENV" && value != "" || is && (strings.Contains(shellWords, " "+function+" ") || strings.HasPrefix(function, "pyenv")) {
			in.doubt("the variable " + name + " changes what a shell does")
		}
	}
}

// stat adds a file as far as its inode tells. (There are a hundred of them: package fmt would take as
// long as the kernel.)
func (in *inputs) stat(path string) bool {
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	in.text = append(append(in.text[:0], path...), 0)
	if err == nil {
		for _, n := range [...]int64{int64(st.Dev), int64(st.Ino), st.Size, st.Mtim.Nano(), st.Ctim.Nano()} {
			in.text = append(strconv.AppendInt(in.text, n, 36), ' ')
		}
	}
	in.sum.Write(append(in.text, 0))
	return err == nil
}

// fileMost is the most that a version manager's file may hold, in bytes.
const fileMost = 64 << 10

// file adds a file with its text, and returns that.
func (in *inputs) file(path string) string {
	if !in.stat(path) {
		return ""
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileMost+1))
	if err != nil || len(text) > fileMost {
		in.doubt(path + " cannot be read, or is too large")
	}
	fmt.Fprintf(in.sum, "%q", text)
	return string(text)
}

// path adds what a search for a command in PATH looks at.
func (in *inputs) path(command string) {
	for _, dir := range filepath.SplitList(in.get("PATH")) {
		in.stat(filepath.Join(dir, command))
	}
}

// each adds all entries of a directory, and of each of them what is named. It returns their names.
func (in *inputs) each(dir string, named ...string) []string {
	list, err := os.ReadDir(dir)
	fmt.Fprintf(in.sum, "%q %t %d\n", dir, err == nil, len(list))
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
		in.stat(filepath.Join(dir, e.Name()))
		for _, n := range named {
			in.stat(filepath.Join(dir, e.Name(), n))
		}
	}
	return names
}

type versionFile struct{ path, text string }

// upward adds the version files of these names in a directory and above it, with their texts. With
// nearest it stops at the first. A name that does not exist adds nothing, so that directories without
// version files share one answer.
func (in *inputs) upward(dir string, nearest bool, names ...string) (found []versionFile) {
	for {
		for _, name := range names {
			path := filepath.Join(dir, name)
			var st syscall.Stat_t
			if syscall.Stat(path, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
				continue
			}
			if stranger(path, &st) && in.stranger == "" {
				in.stranger = path
			}
			in.write("%q\n", path)
			if found = append(found, versionFile{path, in.file(path)}); nearest {
				return found
			}
		}
		if dir == filepath.Dir(dir) {
			return found
		}
		dir = filepath.Dir(dir)
	}
}

const strangers = "belongs to another user, or others may write there"

// stranger tells whether somebody else than this user and root has made a file or can change it.
func stranger(path string, st *syscall.Stat_t) bool {
	var link syscall.Stat_t
	return syscall.Lstat(path, &link) != nil || others(st) || link.Uid != 0 && int(link.Uid) != os.Geteuid() ||
		link.Mode&syscall.S_IFMT == syscall.S_IFLNK && someoneElses(path, path) != ""
}

// others tells whether somebody else than this user and root owns a file or may write it.
func others(st *syscall.Stat_t) bool {
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid(), st.Mode&0o002 != 0:
		return true
	}
	return st.Mode&0o020 != 0 && !passwd.Private(int(st.Gid), int(st.Uid))
}
