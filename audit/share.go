package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The members of the group may read. They can also hold the lock of the log for a moment, as
// [Reader.Verify] does.
const (
	sharedFile = 0o640
	sharedDir  = 0o750
)

// ShareWith lets the members of a group read the log: its segments, what was cut from them, the
// runs under way and the kept code, but not the key. It covers what is there and what this Log
// makes from then on; call it before the first record. It does not touch what belongs to another
// user.
func (l *Log) ShareWith(gid int) error {
	l.group = gid
	var st unix.Stat_t
	if err := unix.Fstat(l.dir, &st); err != nil {
		return &StepError{"look at", l.path, err}
	}
	if l.isShared(&st, sharedDir) {
		// The newest segment, and those before it, may have been made before the log was shared.
		err := unix.Fstatat(l.dir, currentName, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || l.isShared(&st, sharedFile) {
			return nil
		}
	}
	// The directory comes last: its mode says that everything in it is done.
	if err := l.shareAll("", func(name string) bool {
		return name == currentName || name == lockName || name == holdsName || isSegment(name) || isFragment(name)
	}); err != nil {
		return err
	}
	for _, name := range []string{runsName, codeName} {
		if err := l.shareAll(name, func(string) bool { return true }); err != nil {
			return err
		}
	}
	return l.share(l.dir, "", sharedDir)
}

func isFragment(name string) bool { _, ok := fragmentSeq(name); return ok }

// shareAll shares the files in a directory of the log whose names are wanted, and the directory
// itself unless it is the log's own.
func (l *Log) shareAll(sub string, wanted func(name string) bool) error {
	dir, err := unix.Openat(l.dir, filepath.Join(".", sub), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return l.failed("open", sub, err)
	}
	d := os.NewFile(uintptr(dir), sub)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return l.failed("list", sub, err)
	}
	for _, name := range names {
		if !wanted(name) {
			continue
		}
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil { // such as a run that has just ended, or a link in the place of a segment
			continue
		}
		err = l.shareIfOurs(fd, filepath.Join(sub, name))
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	if sub == "" {
		return nil
	}
	return l.share(dir, sub, sharedDir)
}

func (l *Log) shareIfOurs(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return l.failed("look at", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Nlink != 1 || l.isShared(&st, sharedFile) {
		return nil
	}
	return l.share(fd, name, sharedFile)
}

func (l *Log) isShared(st *unix.Stat_t, mode uint32) bool {
	return l.group < 0 || int(st.Gid) == l.group && st.Mode&0o777 == mode
}

// share gives the file behind fd to the group, if there is one. The group comes before the mode, so
// that the file's old group never gets access.
func (l *Log) share(fd int, name string, mode uint32) error {
	if l.group < 0 {
		return nil
	}
	err := unix.Fchown(fd, -1, l.group)
	if err == nil {
		err = unix.Fchmod(fd, mode)
	}
	if err != nil {
		if err == unix.EPERM {
			err = fmt.Errorf("%w (this user is no member of it?)", err)
		}
		return &StepError{fmt.Sprintf("give to group %d", l.group), strings.TrimSuffix(filepath.Join(l.path, name), "/"), err}
	}
	return nil
}

// shareLike gives a new file the group of another one, if that is shared: this writer may not know
// the group.
func shareLike(fd, other int) error {
	var st unix.Stat_t
	if err := unix.Fstat(other, &st); err != nil || st.Mode&0o777 != sharedFile {
		return err
	}
	if err := unix.Fchown(fd, -1, int(st.Gid)); err != nil {
		return nil // then only the owner can read it
	}
	return unix.Fchmod(fd, sharedFile)
}
