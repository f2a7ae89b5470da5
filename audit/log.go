package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	currentName = "audit.jsonl"
	lockName    = ".lock"
)

// A StepError is a step that failed on a file or directory of the log.
type StepError struct {
	Step, Path string
	Err        error
}

func (e *StepError) Error() string {
	cause := e.Err
	if p, ok := cause.(*fs.PathError); ok && strings.HasSuffix(e.Path, p.Path) { // it names the same file again
		cause = p.Err
	}
	return e.Step + " " + e.Path + ": " + cause.Error()
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Log is the log of a directory. Only [Open] makes one. Several goroutines can call its methods at
// once, except Close; a process can also have several Logs of one directory.
type Log struct {
	// NoSync leaves it to the kernel when records reach the disk. They outlive the process, but not
	// a power cut. Set it before the first Append.
	NoSync bool

	path     string // absolute, of the directory
	current  string // path of the current segment
	dir      int    // descriptor of the directory; -1: closed
	group    int    // its members may read the log; -1: none
	patience time.Duration

	segmentMost int64

	cached cached
}

// Open opens the log in dir. If the directory does not exist, Open makes it with mode 0700, and
// missing ones above it with 0755. It refuses a directory that is a symbolic link, belongs to
// another user than the effective one, or can be written by others.
func Open(dir string) (*Log, error) {
	const step = "open audit directory"
	if dir == "" {
		return nil, &StepError{step, `""`, unix.ENOENT}
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, &StepError{step, dir, err}
	}
	fd, err := openDir(path)
	if errors.Is(err, unix.ENOENT) {
		if err := makeDir(path); err != nil {
			return nil, &StepError{"make audit directory", path, err}
		}
		fd, err = openDir(path)
	}
	if err != nil {
		return nil, &StepError{step, path, err}
	}
	return &Log{path: path, current: filepath.Join(path, currentName), dir: fd, group: -1, patience: lockPatience, segmentMost: segmentMost, cached: cached{lock: -1, segment: -1, stays: staysAlways}}, nil
}

// staysAlways makes each Log stay. Tests set it.
var staysAlways bool

func makeDir(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// Another process may make it at the same moment; openDir judges the result.
	if err := unix.Mkdir(path, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

func openDir(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR {
		return -1, fmt.Errorf("symbolic link or %w", err)
	}
	if err != nil {
		return -1, err
	}
	if err := checkDir(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func checkDir(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if euid := os.Geteuid(); int(st.Uid) != euid {
		return fmt.Errorf("belongs to user %d, not to the writer, user %d", st.Uid, euid)
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("%w (mode %04o)", ErrOpenToOthers, st.Mode&0o7777)
	}
	return nil
}

// ErrOpenToOthers says that others could put files into the directory of a log. A sticky bit, as that
// of /tmp, does not help: a name that is not there yet can be taken.
var ErrOpenToOthers = errors.New("can be written by others")

// Network is the name of the network file system that the log is on; empty: it is on a local one.
// On a network file system the locks and appends of several machines do not reliably exclude each
// other.
func (l *Log) Network() string {
	var fs unix.Statfs_t
	if unix.Fstatfs(l.dir, &fs) != nil {
		return ""
	}
	return networks[int64(fs.Type)]
}

var networks = map[int64]string{
	unix.NFS_SUPER_MAGIC: "NFS", unix.CIFS_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB", unix.SMB_SUPER_MAGIC: "SMB",
	unix.AFS_SUPER_MAGIC: "AFS", unix.CEPH_SUPER_MAGIC: "Ceph", unix.V9FS_MAGIC: "9P",
}

// Close closes the directory. A record needs no Close to be complete.
func (l *Log) Close() error {
	l.cached.close()
	fd := l.dir
	l.dir = -1
	if err := unix.Close(fd); err != nil {
		return &StepError{"close audit directory", l.path, err}
	}
	return nil
}

func (l *Log) openCurrent() (int, error) {
	fd, err := l.openRegular(currentName, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT)
	if err != nil {
		return -1, l.failed("open", currentName, err)
	}
	return fd, nil
}

// openRegular opens a file of the log, and refuses one that somebody else could change.
func (l *Log) openRegular(name string, flags int) (int, error) {
	fd, err := unix.Openat(l.dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err == unix.ELOOP {
		return -1, fmt.Errorf("symbolic link (%w)", err)
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("not a regular file")
	case st.Nlink != 1:
		err = fmt.Errorf("has %d links, not one", st.Nlink)
	case st.Mode&0o022 != 0:
		err = fmt.Errorf("can be written by others (mode %04o)", st.Mode&0o7777)
	case name != keyName && !l.isShared(&st, sharedFile) && int(st.Uid) == os.Geteuid():
		err = l.share(fd, name, sharedFile)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (l *Log) failed(step, name string, err error) error {
	return &StepError{step, filepath.Join(l.path, name), err}
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
