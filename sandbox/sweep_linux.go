package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// What a killed launcher leaves is in its entry in the place: a file that it held locked while it lived. Its lines are
//
//	group PATH    a control group that it may have made
//	file SUFFIX   a file beside the directory
//	keep          the directory stays

const entrySuffix = ".run"

// placeIn is the closed place of this user in a directory.
func placeIn(parent string) string {
	return filepath.Join(parent, ".py3run-"+strconv.Itoa(os.Geteuid()))
}

// enter makes the run's entry in the place, and the place if need be.
func (w *Workdir) enter() error {
	name := filepath.Join(w.place, filepath.Base(w.path)+entrySuffix)
	for range 100 {
		if err := unix.Mkdir(w.place, 0o700); err != nil && err != unix.EEXIST {
			return &StepError{Step: "mkdir", Object: w.place, Err: err}
		}
		if err := closed(w.place); err != nil {
			if err == unix.ENOENT { // the last run but this one has just removed it
				continue
			}
			return &StepError{Step: "open", Object: w.place, Err: err}
		}
		lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return &StepError{Step: "create", Object: name, Err: cause(err)}
		}
		var st unix.Stat_t
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err == nil && unix.Fstat(int(lock.Fd()), &st) == nil && st.Nlink == 1 {
			w.lock = lock
			w.note("file .py")
			if w.keep {
				w.note("keep")
			}
			return nil
		}
		lock.Close() // a sweeping run was faster than the lock
	}
	return &StepError{Step: "lock", Object: name, Err: unix.EBUSY}
}

// closed tells whether a place is what it should be: this user's own directory, closed to everybody else.
func closed(place string) error {
	var st unix.Stat_t
	if err := unix.Lstat(place, &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return unix.ENOTDIR
	case int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0:
		return errors.New("belongs to somebody else, or is open to others")
	}
	return nil
}

// note adds lines to the entry, before what they name is made.
func (w *Workdir) note(lines ...string) {
	if w.lock != nil && len(lines) > 0 {
		w.lock.WriteString(strings.Join(lines, "\n") + "\n")
	}
}

// leave removes the entry, and the place with the last one.
func (w *Workdir) leave() {
	if w.lock == nil {
		return
	}
	os.Remove(filepath.Join(w.place, filepath.Base(w.path)+entrySuffix))
	w.lock.Close()
	w.lock = nil
	unix.Rmdir(w.place)
}

// Sweep removes what launchers of this user that were killed have left of their runs in a directory: directories, files and control
// groups, with the processes in them. Runs whose launcher lives are left alone.
func Sweep(parent string) error {
	place := placeIn(parent)
	if closed(place) != nil {
		return nil
	}
	entries, _ := os.ReadDir(place)
	var errs []error
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), entrySuffix); ok && name != "" {
			errs = append(errs, sweepEntry(parent, place, name))
		}
	}
	unix.Rmdir(place)
	return errors.Join(errs...)
}

func sweepEntry(parent, place, name string) error {
	file := filepath.Join(place, name+entrySuffix)
	lock, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil // gone
	}
	defer lock.Close()
	var st unix.Stat_t
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || unix.Fstat(int(lock.Fd()), &st) != nil || st.Nlink == 0 {
		return nil // its launcher lives, or another run has swept it
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	path, real := filepath.Join(parent, name), filepath.Join(place, name)
	var suffixes []string
	var errs []error
	keep := false
	for line := range strings.Lines(string(text)) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "group":
			errs = append(errs, cgroup.Sweep(rest))
		case "file":
			if rest != "" && !strings.Contains(rest, "/") {
				suffixes = append(suffixes, rest)
			}
		case "keep":
			keep = true
		}
	}
	if keep {
		if _, err := os.Lstat(real); err == nil {
			errs = append(errs, unix.Rename(real, path))
		}
		for _, suffix := range suffixes {
			errs = append(errs, removePath(path+suffix), removePath(real+suffix))
		}
	} else {
		errs = append(errs, removeAll(path, real, suffixes))
	}
	if err := errors.Join(errs...); err != nil {
		return err // the entry stays for the next run
	}
	return os.Remove(file)
}
