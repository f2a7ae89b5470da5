package sandbox

import (
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// What steers later runs (a configuration, say) is not to be moved or replaced by this one. It is not enough that the file is hidden or read-only: a directory
// above it could be renamed, and another one put in its place. So each directory on the way that this user could rename is pinned (see cover).

// pinMeasure is the name of this protection.
const pinMeasure = "pinned-paths"

// hide tells the layout what of a Spec's paths there is: to be hidden, to be kept as it is, and to be pinned.
func (r *Running) hide(spec Spec, w *Workdir, at *layout) {
	at.hidden = existing(spec.Hide)
	if len(spec.Fixed) == 0 && len(spec.Pin) == 0 {
		return
	}
	p := pinning{root: os.Geteuid() == 0, movable: map[string]bool{}}
	for _, path := range spec.Fixed {
		if real, ok := p.follow(path); ok && p.add(real, true) {
			at.fixed = append(at.fixed, real)
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
	at.pinned = slices.DeleteFunc(slices.Sorted(maps.Keys(p.movable)), func(path string) bool { return !p.movable[path] })
	slices.Sort(at.fixed)
	at.fixed = slices.Compact(at.fixed)
	if p.link != "" {
		r.protection.Missing = append(r.protection.Missing, Gap{Name: pinMeasure, Extra: true,
			Why: p.link + " is a symbolic link that a run can replace, and what it leads to with it; only directories and files can be pinned"})
	}
}

// A pinning collects what is to be pinned.
type pinning struct {
	root    bool            // nothing is closed to this user
	movable map[string]bool // what was looked at: whether this user could rename it
	link    string          // a link on the way that this user could replace
}

// follow gives the real path of what exists.
func (p *pinning) follow(path string) (real string, ok bool) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", false
	}
	if real != filepath.Clean(path) {
		p.findLink(filepath.Clean(path))
	}
	return real, true
}

// findLink looks for a link on the way that could be replaced.
func (p *pinning) findLink(path string) {
	for dir := path; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if info, err := os.Lstat(dir); err == nil && info.Mode()&os.ModeSymlink != 0 && p.canMove(dir) {
			p.link = dir
		}
	}
}

// add looks at all directories above a path. It tells whether this user could change what is there: the thing itself (with its contents), or the way to it.
func (p *pinning) add(path string, contents bool) (changeable bool) {
	changeable = p.root
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if p.canMove(dir) {
			changeable = true
		}
	}
	if !changeable && contents {
		var st unix.Stat_t
		changeable = p.canMove(path) || unix.Stat(path, &st) == nil && int(st.Uid) == os.Geteuid() || unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil
		delete(p.movable, path) // it is a mount point itself
	}
	return changeable
}

// canMove tells whether this user could rename what is at a path: who may write to the directory that it is in, and in one with the sticky bit owns
// either (unlink(2), EPERM). A mount point nobody can.
func (p *pinning) canMove(path string) bool {
	if can, known := p.movable[path]; known {
		return can
	}
	can := func() bool {
		parent := filepath.Dir(path)
		var above, here unix.Stat_t
		if unix.Lstat(parent, &above) != nil || unix.Lstat(path, &here) != nil || above.Dev != here.Dev {
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
	}()
	p.movable[path] = can
	return can
}
