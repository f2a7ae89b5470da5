package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A run must not move or replace what decides about later runs, for example a configuration. It is
// not enough to hide the file or to make it read-only: the run could rename a directory above it and
// put another one in its place. So each directory on the way that this user could rename is pinned
// (see cover).

// pinMeasure is its name among the measures.
const pinMeasure = "pinned-paths"

// hide finds out which of a Spec's paths exist, and notes in the layout what to hide, what to make
// read-only, and what to pin.
func (r *Running) hide(spec Spec, w *Workdir, at *layout) {
	l := lstats{}
	at.hidden = l.existing(spec.Hide)
	if len(spec.ReadOnly) == 0 && len(spec.Pin) == 0 {
		return
	}
	p := pinning{lstats: l, root: os.Geteuid() == 0, movable: map[string]bool{}}
	for _, path := range spec.ReadOnly {
		if real, ok := p.follow(path); ok && p.add(real, true) && !slices.Contains(at.readOnly, real) {
			at.readOnly = append(at.readOnly, real)
		}
	}
	for _, path := range spec.Pin {
		if real, ok := p.follow(path); ok {
			p.add(real, false)
		}
	}
	if w != nil && w.own {
		p.add(w.root, false)
	}
	for path, movable := range p.movable {
		if movable {
			at.pinned = append(at.pinned, path)
		}
	}
	slices.Sort(at.pinned) // a directory before what is inside it
	slices.Sort(at.readOnly)
	r.found.link = p.link
}

// An lstats remembers results of lstat(2), because many paths have the same directories above them.
// What does not exist has mode 0.
type lstats map[string]unix.Stat_t

func (l lstats) at(path string) unix.Stat_t {
	st, known := l[path]
	if !known {
		if unix.Lstat(path, &st) != nil {
			st = unix.Stat_t{}
		}
		l[path] = st
	}
	return st
}

// real is a path without links, if it exists.
func (l lstats) real(path string) (string, bool) {
	path = filepath.Clean(path)
	for end := 1; end <= len(path); end++ {
		if end < len(path) && path[end] != '/' {
			continue
		}
		switch st := l.at(path[:end]); {
		case st.Mode == 0:
			return "", false
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			real, err := filepath.EvalSymlinks(path)
			return real, err == nil
		}
	}
	return path, true
}

// existing are the paths that exist, each once and with links followed, without those inside
// another hidden directory: nobody can find them under it.
func (l lstats) existing(paths []string) (found []hiddenPath) {
	var real []string
	for _, p := range paths {
		if p, ok := l.real(p); ok {
			real = append(real, p)
		}
	}
	slices.Sort(real) // a directory before what is inside it
	for _, p := range real {
		covered := slices.ContainsFunc(found, func(h hiddenPath) bool { return strings.HasPrefix(p+"/", strings.TrimSuffix(h.path, "/")+"/") })
		if !covered {
			found = append(found, hiddenPath{path: p, dir: l.at(p).Mode&unix.S_IFMT == unix.S_IFDIR})
		}
	}
	return found
}

// A pinning collects what is to be pinned.
type pinning struct {
	lstats
	root    bool            // nothing is closed to this user
	movable map[string]bool // what was looked at: whether this user could rename it
	link    string          // a link on the way that this user could replace
}

// follow gives the real path of what exists.
func (p *pinning) follow(path string) (real string, ok bool) {
	real, ok = p.real(path)
	if ok && real != filepath.Clean(path) {
		for dir := filepath.Clean(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			if p.at(dir).Mode&unix.S_IFMT == unix.S_IFLNK && p.canMove(dir) {
				p.link = dir
				delete(p.movable, dir)
			}
		}
	}
	return real, ok
}

// add looks at all directories above a path. It tells whether this user could change the way to the
// path or, with contents, what is at the path.
func (p *pinning) add(path string, contents bool) (changeable bool) {
	changeable = p.root
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if p.canMove(dir) {
			changeable = true
		}
	}
	if !changeable && contents {
		changeable = p.mayMove(path) || int(p.at(path).Uid) == os.Geteuid() || unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil
	}
	return changeable
}

// canMove is mayMove, remembered: what can be moved is to be pinned.
func (p *pinning) canMove(path string) bool {
	can, known := p.movable[path]
	if !known {
		can = p.mayMove(path)
		p.movable[path] = can
	}
	return can
}

// mayMove tells whether this user could rename what is at a path: a user that may write to its
// directory and, if that has the sticky bit, owns one of the two (unlink(2), EPERM). Nobody can
// rename a mount point.
func (p *pinning) mayMove(path string) bool {
	parent := filepath.Dir(path)
	above, here := p.at(parent), p.at(path)
	if above.Mode == 0 || here.Mode == 0 || above.Dev != here.Dev {
		return false
	}
	if p.root {
		return true
	}
	me := uint32(os.Geteuid())
	if above.Mode&unix.S_ISVTX != 0 && above.Uid != me && here.Uid != me {
		return false
	}
	return above.Uid == me || unix.Faccessat(unix.AT_FDCWD, parent, unix.W_OK, unix.AT_EACCESS) == nil
}
