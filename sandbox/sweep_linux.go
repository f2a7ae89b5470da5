package sandbox

import (
	"crypto/rand"
	"encoding/hex"
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

// What a killed launcher leaves is in its entry in the place: a file that it held locked while it
// lived. Its lines are
//
//	at PATH       where the run finds its directory, below the root; without it: the entry's own name
//	top NAME      what the top was called before the run was known: see SpareDir
//	group PATH    a control group that it may have made
//	file SUFFIX   a file beside the directory
//	keep          the directory stays
//	settled       directory and files are at their paths, not in the top

const (
	entrySuffix = ".run"
	topSuffix   = ".d"
	entryMost   = 64 << 10 // bytes of one that are read

	sweepTime = 2 * time.Second // for what others have left; a later run goes on with what takes longer
)

// rootMode is the mode of a root that py3run has made. The sticky bit is its mark: a directory that
// only its owner enters has no other use for it.
const rootMode = unix.S_ISVTX | 0o700

// MakeRoot makes a root of py3run's own at the path, unless it exists. own is false if something
// else is there or the root could not be made; the error says why.
func MakeRoot(path string) (own bool, err error) {
	for range 3 {
		err = unix.Mkdir(path, rootMode)
		if err == unix.ENOENT {
			if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
				err = unix.Mkdir(path, rootMode)
			}
		}
		var st unix.Stat_t
		switch {
		case err == nil:
			return true, nil
		case !errors.Is(err, unix.EEXIST):
			return false, &StepError{Step: "mkdir", Object: path, Err: cause(err)}
		case unix.Lstat(path, &st) == unix.ENOENT: // the last run but this one has just removed it
			continue
		case st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid():
			return false, &StepError{Step: "open", Object: path, Err: errors.New("belongs to somebody else")}
		case st.Mode&unix.S_ISVTX == 0:
			return false, &StepError{Step: "open", Object: path, Err: errors.New("holds other things than runs")}
		case st.Mode&0o022 != 0:
			return false, &StepError{Step: "open", Object: path, Err: errors.New("is open to others")}
		}
		if st.Mode&0o700 != 0o700 { // made under a umask that takes the owner's rights
			err = unix.Chmod(path, rootMode)
		} else {
			err = nil
		}
		return err == nil, err
	}
	return false, err
}

// rootsMost is how many names are tried for a root.
const rootsMost = 32

// ChooseRoot is a root of py3run's own at path, or at path with a number, where somebody else has
// taken the name: in a directory like /tmp anybody can. What is still there of another number is
// among others, for it to be hidden. Every run of a user chooses the same, as long as nobody
// interferes.
func ChooseRoot(path string) (root string, others []string) {
	root = path
	for n := range rootsMost {
		try := path
		switch {
		case n == rootsMost-1: // somebody has taken all: then one that nobody can guess, and that other runs do not know
			var random [8]byte
			rand.Read(random[:])
			try += "-" + hex.EncodeToString(random[:])
		case n > 0:
			try += "-" + strconv.Itoa(n)
		}
		if own, _ := MakeRoot(try); own {
			root = try
			if next := path + "-" + strconv.Itoa(n+1); isRoot(next) { // from a time when this one was taken
				others = append(others, next)
			}
			break
		}
	}
	return root, others
}

func isRoot(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && int(st.Uid) == os.Geteuid() && st.Mode&unix.S_ISVTX != 0 && st.Mode&0o022 == 0
}

// placeIn is the closed place of this user in a root that holds other things.
func placeIn(root string) string {
	return filepath.Join(root, ".py3run-"+strconv.Itoa(os.Geteuid()))
}

// Places are where runs with a root may have their directories: the root itself where it is our
// own, and the closed place in any other.
func Places(root string) (paths []string) {
	if isRoot(root) {
		paths = append(paths, root)
	}
	return append(paths, placeIn(root))
}

// entryName is the name of an entry, from the path of the directory below the root.
func entryName(rel string) string { return strings.ReplaceAll(rel, "/", "+") }

// enter makes the run's entry in the place, and the place if need be.
func (w *Workdir) enter(rel string, private bool) error {
	var name string
	for range 100 {
		w.own, _ = MakeRoot(w.root)
		if w.place = w.root; !w.own {
			w.place = placeIn(w.root)
			if err := os.MkdirAll(w.root, 0o755); err != nil {
				return &StepError{Step: "mkdir", Object: w.root, Err: cause(err)}
			}
			if err := unix.Mkdir(w.place, 0o700); err != nil && err != unix.EEXIST {
				return &StepError{Step: "mkdir", Object: w.place, Err: err}
			}
			if err := closed(w.place); err != nil {
				if err == unix.ENOENT { // the last run but this one has just removed it
					continue
				}
				return &StepError{Step: "open", Object: w.place, Err: err}
			}
		}
		name = filepath.Join(w.place, w.name+entrySuffix)
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
			lines := []string{"at " + rel, "file .py"}
			if w.keep {
				lines = append(lines, "keep")
			}
			if !private {
				lines = append(lines, "settled")
			}
			w.note(lines...)
			return nil
		}
		lock.Close() // a sweeping run was faster than the lock
	}
	return &StepError{Step: "lock", Object: name, Err: unix.EBUSY}
}

// closed tells whether a place is what it should be: this user's own directory, closed to everybody
// else. One that a umask has closed to its owner is mended.
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
	case st.Mode&0o700 != 0o700:
		return unix.Chmod(place, 0o700)
	}
	return nil
}

// note adds lines to the entry. Call it before making what they name.
func (w *Workdir) note(lines ...string) {
	if w.lock != nil && len(lines) > 0 {
		w.lock.WriteString(strings.Join(lines, "\n") + "\n")
	}
}

// noteGroups notes directories of control groups.
func (w *Workdir) noteGroups(paths []string) {
	var lines []string
	for _, path := range paths {
		lines = append(lines, "group "+path)
	}
	w.note(lines...)
}

// leave removes the entry, and a place in a root of others with the last one.
func (w *Workdir) leave() {
	if w.above != nil {
		w.above.Close()
		w.above = nil
	}
	if w.lock == nil {
		return
	}
	os.Remove(filepath.Join(w.place, w.name+entrySuffix))
	w.lock.Close()
	w.lock = nil
	if !w.own { // a root of our own stays: a run that does not use it may have it hidden, and would see what the next makes
		unix.Rmdir(w.place)
	}
}

// Sweep removes what killed launchers of this user have left of their runs in a root: directories,
// files and control groups, with the processes in them. It does not touch runs whose launcher
// lives.
func Sweep(root string) error {
	var errs []error
	c := clearing{until: time.Now().Add(sweepTime)}
	for _, path := range []string{placeIn(root), root} {
		if path == root && !isRoot(root) || path != root && closed(path) != nil {
			continue
		}
		place, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue // gone
		}
		names, _ := place.Readdirnames(-1)
		for _, entry := range names {
			// What has another form no run has made: "..run" would lead to this place itself.
			if name, ok := strings.CutSuffix(entry, entrySuffix); ok && name != "" && name != "." && name != ".." {
				if time.Now().After(c.until) {
					break
				}
				errs = append(errs, sweepEntry(&c, place, root, name))
			}
		}
		place.Close()
		if path != root {
			unix.Rmdir(path)
		}
	}
	return errors.Join(errs...)
}

// sweepEntry sweeps after the run of an entry.
func sweepEntry(c *clearing, place *os.File, root, name string) error {
	entry := name + entrySuffix
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
		return &StepError{Step: "read", Object: filepath.Join(place.Name(), entry), Err: cause(err)}
	}
	var suffixes []string
	var errs []error
	rel, keep, settled := name, false, false
	before := "" // what the top was called
	for line := range strings.Lines(string(text)) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "at": // nothing that leads out of the root, nor to what another entry is of
			if entryName(rest) == name && filepath.IsLocal(rest) {
				rel = rest
			}
		case "top":
			if strings.HasPrefix(rest, sparePrefix) && strings.HasSuffix(rest, topSuffix) && !strings.Contains(rest, "/") {
				before = rest
			}
		case "group":
			if isRunsGroup(rest, name) {
				errs = append(errs, cgroup.Sweep(rest))
			}
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
	if rel != name && !straight(root, filepath.Dir(rel)) {
		rel, keep, settled = name, false, false // a link would lead elsewhere
	}
	path, top := filepath.Join(root, rel), filepath.Join(place.Name(), name+topSuffix)
	if keep {
		errs = append(errs, moveKept(filepath.Join(top, rel), path))
	}
	errs = append(errs, c.remove(top))
	if before != "" {
		errs = append(errs, c.remove(filepath.Join(place.Name(), before)))
	}
	if strings.HasPrefix(name, leftPrefix) {
		errs = append(errs, c.remove(filepath.Join(place.Name(), name)))
	}
	if !keep && settled {
		errs = append(errs, c.remove(path))
	}
	for _, suffix := range suffixes {
		if settled {
			errs = append(errs, c.remove(path+suffix))
		}
	}
	if !settled && place.Name() != root {
		removeEmpty(path, suffixes)
	}
	if err := errors.Join(errs...); errors.Is(err, errLate) {
		return nil // the next run goes on
	} else if err != nil {
		return err // likewise
	}
	if err := unix.Unlinkat(int(place.Fd()), entry, 0); err != nil && err != unix.ENOENT {
		return &StepError{Step: "unlink", Object: filepath.Join(place.Name(), entry), Err: err}
	}
	return nil
}

// isRunsGroup tells whether a path is that of the group of the run with this entry: both names end
// in the run's id. The group of a worker has another name, from before there was a run.
func isRunsGroup(path, entry string) bool {
	const id = 16 // digits of it in the name of a directory
	if strings.HasPrefix(filepath.Base(path), "py3run-warm-") {
		return true
	}
	group := strings.ReplaceAll(filepath.Base(path), "-", "")
	return strings.HasPrefix(group, "py3run") && len(group) > id && strings.Contains(entry, group[len(group)-id:])
}

// straight tells whether a directory below another is reached without a link.
func straight(root, rel string) bool {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err == nil {
		unix.Close(fd)
	}
	return err == nil || err == unix.ENOENT
}

// moveKept moves a directory that is to stay to its path, or beside it when there is something else
// by now.
func moveKept(real, path string) error {
	if _, err := os.Lstat(real); err != nil {
		return nil // it is there already
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return &StepError{Step: "mkdir", Object: filepath.Dir(path), Err: cause(err)}
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

// removeEmpty removes the empty directory and the empty files that a private run was mounted on.
// What is not empty somebody else has put there.
func removeEmpty(path string, suffixes []string) {
	unix.Rmdir(path)
	for _, suffix := range suffixes {
		var st unix.Stat_t
		if unix.Lstat(path+suffix, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 {
			unix.Unlink(path + suffix)
		}
	}
}
