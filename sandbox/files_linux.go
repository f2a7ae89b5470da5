package sandbox

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"py3run/sandbox/seccomp"
)

// An operation is what a call does with a file.
type operation uint8

const (
	wrote   operation = iota // or made, linked, renamed to: the name has other contents now
	removed                  // or renamed from
	madeDir
	read
	operations
)

// A fileUse is a call's operation, with the file as the caller named it: below the caller's root, from that
// root on, and with the symbolic links that the name has. What is relative begins at the directory
// that the kernel knows. `..` stays: behind a symbolic link it leads elsewhere than it seems to.
type fileUse struct {
	did  operation
	path string
}

// here is the descriptor that stands for the current directory.
var here = uint64(uint32(unix.AT_FDCWD & 0xffffffff))

// noteFiles notes what a call does with files.
func (s *sighting) noteFiles(t *recorder, kind seccomp.Kind, arg [6]uint64) {
	switch kind {
	case seccomp.Open:
		s.opened(t, here, arg[0], arg[1], false)
	case seccomp.OpenAt:
		s.opened(t, arg[0], arg[1], arg[2], false)
	case seccomp.OpenAt2:
		how, err := t.read(arg[2], int(min(arg[3], sizeofHow)))
		if err != nil || len(how) < sizeofHow { // the kernel refuses it
			return
		}
		flags, resolve := unsigned(how, 8), unsigned(how[16:], 8)
		s.opened(t, arg[0], arg[1], flags, resolve&unix.RESOLVE_IN_ROOT != 0)
	case seccomp.Create, seccomp.Truncate:
		s.noteFile(wrote, t.named(here, arg[0], false))
	case seccomp.Remove:
		s.removed(t.named(here, arg[0], false))
	case seccomp.RemoveAt:
		s.removed(t.named(arg[0], arg[1], false))
	case seccomp.Rename:
		s.renamed(t.named(here, arg[0], false), t.named(here, arg[1], false), false)
	case seccomp.RenameAt:
		s.renamed(t.named(arg[0], arg[1], false), t.named(arg[2], arg[3], false), false)
	case seccomp.RenameAt2:
		s.renamed(t.named(arg[0], arg[1], false), t.named(arg[2], arg[3], false), arg[4]&unix.RENAME_EXCHANGE != 0)
	case seccomp.Link, seccomp.Symlink:
		s.noteFile(wrote, t.named(here, arg[1], false))
	case seccomp.LinkAt:
		s.noteFile(wrote, t.named(arg[2], arg[3], false))
	case seccomp.SymlinkAt:
		s.noteFile(wrote, t.named(arg[1], arg[2], false))
	case seccomp.MakeDir:
		s.madeDir(t.named(here, arg[0], false))
	case seccomp.MakeDirAt:
		s.madeDir(t.named(arg[0], arg[1], false))
	}
}

const sizeofHow = 24 // struct open_how, in its first and only version

func (s *sighting) opened(t *recorder, dir, at, flags uint64, inRoot bool) {
	writes := flags&seccomp.Writes != 0
	switch {
	case flags&unix.O_PATH != 0, !writes && (!t.reads || !t.begun.Load() || flags&openDirectory(t.notice.arch) != 0):
		return
	}
	name := t.named(dir, at, inRoot)
	switch {
	case !writes && !loads(name):
		s.noteFile(read, name)
	case writes && !(flags&unix.O_EXCL != 0 && isNewByteCode(name)):
		s.noteFile(wrote, name)
	}
}

func (s *sighting) removed(name string) {
	if !isNewByteCode(name) {
		s.noteFile(removed, name)
	}
}

// renamed notes a rename as the audit hook does: the old name is gone, the new one is written.
func (s *sighting) renamed(from, to string, exchange bool) {
	switch {
	case exchange:
		s.noteFile(wrote, from)
	case isNewByteCode(from) && strings.HasPrefix(from, to+"."):
		return
	default:
		s.noteFile(removed, from)
	}
	s.noteFile(wrote, to)
}

func (s *sighting) madeDir(name string) {
	if !strings.HasSuffix(name, byteCodeDir) {
		s.noteFile(madeDir, name)
	}
}

// noteFile notes an operation, unless there is no name, or it is of no file.
func (s *sighting) noteFile(did operation, name string) {
	if name != "" && !isNoFile(name) {
		s.fileUses = append(s.fileUses, fileUse{did, name})
	}
}

// openDirectory is O_DIRECTORY of an architecture.
func openDirectory(arch uint32) uint64 {
	if arch == unix.AUDIT_ARCH_ARM || arch == unix.AUDIT_ARCH_AARCH64 {
		return 0o40000
	}
	return 0o200000
}

// named reads a path at an address, below the directory of a descriptor if it is relative, and
// always with inRoot. It is empty if no file can have it: the kernel cannot read it either, or it
// has no end.
func (t *recorder) named(dir, at uint64, inRoot bool) string {
	name, err := t.name(at)
	switch {
	case err == unix.EFAULT || err == unix.ESRCH || err == nil && name == "":
		return ""
	case err != nil:
		return unreadable
	case name[0] == '/' && !inRoot:
		return tidy(name)
	}
	link := "/cwd"
	if int32(dir) != unix.AT_FDCWD {
		link = descriptorOf(dir)
	}
	below, err := t.directory(link)
	switch {
	case os.IsNotExist(err): // no such descriptor
		return ""
	case err != nil || !strings.HasPrefix(below, "/"):
		below = unreadable
	}
	return tidy(below + "/" + name)
}

// name reads a path. It is empty if it is not terminated where the kernel looks for its end.
func (t *recorder) name(at uint64) (string, error) {
	const usual = 256 // most paths are shorter; each page that is looked at costs some time
	for _, most := range []int{usual, unix.PathMax} {
		b, err := t.read(at, most)
		if err != nil {
			return "", err
		}
		if end := bytes.IndexByte(b, 0); end >= 0 {
			return string(b[:end]), nil
		}
		if len(b) < most {
			break
		}
	}
	return "", nil
}

// directory is the target of a link in /proc about the process, from the process's own root on.
func (t *recorder) directory(name string) (string, error) {
	n, err := unix.Readlink(t.path(name), t.page[:])
	if err != nil {
		return "", err
	}
	target := string(t.page[:n])
	n, err = unix.Readlink(t.path("/root"), t.page[:])
	if root := string(t.page[:max(n, 0)]); err == nil && root != "/" {
		if below, ok := strings.CutPrefix(target, root); ok && (below == "" || below[0] == '/') {
			return below, nil
		}
	}
	return target, nil
}

// tidy takes out of an absolute path what changes nothing: empty parts and those that are one dot.
// It shortens what no file system and no record has room for.
func tidy(name string) string {
	if strings.Contains(name, "//") || strings.Contains(name, "/.") || strings.HasSuffix(name, "/") {
		var b strings.Builder
		for part := range strings.SplitSeq(name, "/") {
			switch {
			case part == "" || part == ".":
			case b.Len() == 0 && name[0] != '/': // "?"
				b.WriteString(part)
			default:
				b.WriteString("/" + part)
			}
		}
		if name = b.String(); name == "" {
			name = "/"
		}
	}
	if len(name) > touchMost {
		end := touchMost
		for end > 0 && !utf8.RuneStart(name[end]) {
			end--
		}
		name = name[:end] + "…"
	}
	return name
}

const touchMost = unix.PathMax

// isNoFile tells whether a path is one of a device, of the kernel's own files, or of an object that
// the C library keeps as a file in memory. What lies behind a link in /proc to a directory is a file.
func isNoFile(name string) bool {
	if !strings.HasPrefix(name, "/") {
		return false
	}
	top, rest, _ := strings.Cut(name[1:], "/")
	switch top {
	case "dev":
		kind, file, below := strings.Cut(rest, "/")
		switch kind {
		case "shm":
			return !below || strings.HasPrefix(file, "sem.")
		case "fd":
			return !strings.Contains(file, "/")
		}
		return true
	case "proc":
		_, file, through := strings.Cut(rest, "/fd/")
		return !strings.Contains(rest, "/cwd/") && !strings.Contains(rest, "/root/") && !(through && strings.Contains(file, "/"))
	case "sys":
		return true
	}
	return false
}

const byteCodeDir = "/__pycache__"

// isNewByteCode tells whether a path is the temporary name under which Python's import system writes
// byte code: __pycache__/NAME.pyc.NUMBER. It is renamed then. Other writes to such a directory are
// not the import system's.
func isNewByteCode(name string) bool {
	dir, file, _ := cutLast(name, "/")
	whole, number, ok := cutLast(file, ".")
	return ok && strings.HasSuffix(dir, byteCodeDir) && strings.HasSuffix(whole, ".pyc") && number != "" && strings.Trim(number, "0123456789") == ""
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(separator):], true
}

// loads tells whether a file is one that programs and interpreters read only to start and to load
// code: shared libraries, byte code, Python's own modules, the C library's tables of languages.
func loads(name string) bool {
	dir, file, _ := cutLast(name, "/")
	_, version, shared := strings.Cut(file, ".so")
	switch {
	case shared && strings.Trim(version, ".0123456789") == "",
		strings.HasSuffix(dir, byteCodeDir),
		slices.Contains([]string{"pyvenv.cfg", "pybuilddir.txt"}, file) || strings.HasSuffix(file, "._pth"):
		return true
	}
	for _, place := range []string{"/etc/ld.so.", "/usr/lib/locale/", "/usr/share/locale/"} {
		if strings.HasPrefix(name, place) {
			return true
		}
	}
	for _, lib := range []string{"/lib/python2", "/lib/python3", "/lib64/python3"} {
		if strings.Contains(name, lib) {
			return true
		}
	}
	return strings.HasSuffix(dir, "/gconv")
}
