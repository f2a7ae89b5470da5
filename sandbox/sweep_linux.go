package sandbox

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// What a killed launcher leaves is in its entry in the place: a file that it held locked while it lived. Its lines are
//
//	group PATH    a control group that it may have made
//	file SUFFIX   a file beside the directory
//	keep          the directory stays
//	settled       directory and files are at their paths, not in the place

const (
	entrySuffix = ".run"
	entryMost   = 64 << 10 // bytes of one that are read

	sweepTime = 2 * time.Second // for what others have left; a later run goes on with what takes longer
)

// placeIn is the closed place of this user in a directory.
func placeIn(parent string) string {
	return filepath.Join(parent, ".py3run-"+strconv.Itoa(os.Geteuid()))
}

// enter makes the run's entry in the place, and the place if need be.
func (w *Workdir) enter(private bool) error {
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
			if !private {
				w.note("settled")
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
	path := placeIn(parent)
	if closed(path) != nil {
		return nil
	}
	place, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil // gone
	}
	defer place.Close()
	names, _ := place.Readdirnames(-1)
	var errs []error
	c := clearing{until: time.Now().Add(sweepTime)}
	for _, entry := range names {
		// What has another form no run has made: "..run" would lead to this place itself.
		if name, ok := strings.CutSuffix(entry, entrySuffix); ok && name != "" && name != "." && name != ".." {
			errs = append(errs, sweepEntry(&c, place, filepath.Join(parent, name), filepath.Join(path, name)))
		}
	}
	unix.Rmdir(path)
	return errors.Join(errs...)
}

// sweepEntry sweeps after the run whose paths these are.
func sweepEntry(c *clearing, place *os.File, path, real string) error {
	entry := filepath.Base(path) + entrySuffix
	// Not blocking: it could be a pipe.
	fd, err := unix.Openat(int(place.Fd()), entry, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // gone, or no entry
	}
	lock := os.NewFile(uintptr(fd), entry)
	defer lock.Close()
	var st unix.Stat_t
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil || unix.Fstat(fd, &st) != nil || st.Nlink == 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // its launcher lives, or another run has swept it, or it is none
	}
	text, err := io.ReadAll(io.LimitReader(lock, entryMost))
	if err != nil {
		return &StepError{Step: "read", Object: real + entrySuffix, Err: cause(err)}
	}
	var suffixes []string
	var errs []error
	keep, settled := false, false
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
		case "settled":
			settled = true
		}
	}
	if keep {
		errs = append(errs, moveKept(real, path))
	} else {
		errs = append(errs, c.remove(real))
	}
	if !keep && settled {
		errs = append(errs, c.remove(path))
	}
	for _, suffix := range suffixes {
		errs = append(errs, c.remove(real+suffix))
		if settled {
			errs = append(errs, c.remove(path+suffix))
		}
	}
	if !settled {
		removeEmpty(path, suffixes)
	}
	if err := errors.Join(errs...); errors.Is(err, errLate) {
		return nil // the next run goes on
	} else if err != nil {
		return err // likewise
	}
	if err := unix.Unlinkat(int(place.Fd()), entry, 0); err != nil && err != unix.ENOENT {
		return &StepError{Step: "unlink", Object: real + entrySuffix, Err: err}
	}
	return nil
}

// moveKept moves a directory that is to stay to its path, or beside it when there is something else by now.
func moveKept(real, path string) error {
	if _, err := os.Lstat(real); err != nil {
		return nil // it is there already
	}
	err := unix.Rename(real, path) // over the empty one
	for n := 1; n < 100 && (err == unix.ENOTEMPTY || err == unix.EEXIST || err == unix.ENOTDIR); n++ {
		err = unix.Renameat2(unix.AT_FDCWD, real, unix.AT_FDCWD, path+"-"+strconv.Itoa(n), unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return &StepError{Step: "rename", Object: path, Err: err}
	}
	return nil
}

// removeEmpty removes the empty directory and the empty files that a private run was mounted on. What is not empty somebody else has put there.
func removeEmpty(path string, suffixes []string) {
	unix.Rmdir(path)
	for _, suffix := range suffixes {
		var st unix.Stat_t
		if unix.Lstat(path+suffix, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 {
			unix.Unlink(path + suffix)
		}
	}
}
