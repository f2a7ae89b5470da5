package sandbox

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A SpareDir is a directory for a run that is not known yet, and a file beside it. To make them takes
// longer than to give them another name.
//
//	ROOT/spare-RANDOM.run      its entry; later NAME.run
//	ROOT/spare-RANDOM.d/       the top; later NAME.d, a moment after the entry, which says so
//	ROOT/spare-RANDOM.d/new    the directory; later NAME
//	ROOT/spare-RANDOM.d/new.py the file; later NAME.py
type SpareDir struct {
	w      *Workdir
	suffix string   // of the file
	file   *os.File // open for writing
}

const (
	sparePrefix = "spare-"
	spareName   = "new"
)

// MakeSpareDir makes one in a root that is py3run's own, with a file of this suffix.
func MakeSpareDir(root, suffix string) (_ *SpareDir, err error) {
	var random [8]byte
	rand.Read(random[:])
	w := &Workdir{root: root, name: sparePrefix + hex.EncodeToString(random[:])}
	if err := w.enter(w.name, true); err != nil {
		return nil, err
	}
	defer onFailure(&err, w.leave)
	if !w.own {
		return nil, &StepError{Step: "open", Object: root, Err: errShared}
	}
	w.top = filepath.Join(w.place, w.name+topSuffix)
	w.real = filepath.Join(w.top, spareName)
	w.path = w.real
	w.note("top " + w.name + topSuffix)
	defer onFailure(&err, func() { (&clearing{}).remove(w.top) })
	if err := w.makeTop(); err != nil {
		return nil, err
	}
	if err := w.hold(); err != nil {
		return nil, err
	}
	file, err := w.create(w.real + suffix)
	if err != nil {
		w.handle.Close()
		return nil, err
	}
	return &SpareDir{w, suffix, file}, nil
}

// Use makes it the directory of a run that will have a file of this suffix; empty: none. ok is false
// if it cannot be that one: the caller then makes another, and removes this one.
func (s *SpareDir) Use(d Dir, suffix string) (_ *Workdir, ok bool) {
	w, name := s.w, filepath.Base(d.Path)
	if !d.Private || d.Keep || d.Root != w.root || filepath.Dir(d.Path) != w.root || strings.HasPrefix(name, sparePrefix) {
		return nil, false
	}
	rename := func(from, to string) bool {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE) == nil
	}
	real := filepath.Join(w.top, name)
	if suffix != s.suffix {
		s.file.Close()
		if unix.Unlink(w.real+s.suffix) != nil {
			return nil, false
		}
	} else if !rename(w.real+suffix, real+suffix) {
		return nil, false
	} else {
		w.blank = s.file
	}
	if !rename(w.real, real) {
		return nil, false
	}
	w.real = real
	if !rename(filepath.Join(w.place, w.name+entrySuffix), filepath.Join(w.place, entryName(name)+entrySuffix)) {
		return nil, false
	}
	w.name = entryName(name)
	top := filepath.Join(w.place, w.name+topSuffix)
	if !rename(w.top, top) {
		return nil, false
	}
	w.top, w.real, w.path = top, filepath.Join(top, name), d.Path
	w.note("at " + name)
	return w, true
}

// Remove removes it. Call it unless it was used.
func (s *SpareDir) Remove() error {
	s.file.Close()
	return s.w.Remove()
}
