package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	currentName = "audit.jsonl"
	lockName    = ".lock"

	lockPatience = 2 * time.Second  // with one holder
	queueMost    = 30 * time.Second // with all who come first
)

// ErrLocked means that other writers held the log for too long. One that was
// stopped in the middle of a record does that.
var ErrLocked = errors.New("held by another writer for too long")

// StepError is a step that failed on a file or directory of the log.
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

// Log is the log of a directory. Its methods can be called from several
// goroutines at once, Close excepted. Only [Open] makes one.
type Log struct {
	// NoSync leaves it to the kernel when records reach the disk: they outlive
	// the process, but not a power cut. It is set before the first Append.
	NoSync bool

	path     string // absolute, of the directory
	dir      int    // descriptor of the directory, -1 once closed
	group    int    // whose members may read the log, -1: none
	patience time.Duration

	segmentMost int64
}

// Receipt is what a record's author keeps, to prove later that it was written.
type Receipt struct {
	Seq  uint64
	Hash string // lower-case hexadecimal SHA-256 of Line
	Line []byte // as in the log, without the newline

	record Record
}

func (r Receipt) head() head { return head{seq: r.Seq, hash: r.Hash} }

// Open opens the log in dir, and makes the directory where there is none (mode
// 0700, those above it 0755). It refuses a directory that is a symbolic link,
// belongs to anybody but the effective user, or can be written by others.
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
	return &Log{path: path, dir: fd, group: -1, patience: lockPatience, segmentMost: segmentMost}, nil
}

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
		return fmt.Errorf("can be written by others (mode %04o)", st.Mode&0o7777)
	}
	return nil
}

// Network is the name of the network file system that the log is on; empty: it is on none. There locks and appends of several machines do not
// exclude each other reliably.
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

// Close gives the directory back. Records need no closing.
func (l *Log) Close() error {
	fd := l.dir
	l.dir = -1
	if err := unix.Close(fd); err != nil {
		return &StepError{"close audit directory", l.path, err}
	}
	return nil
}

// Append writes r as the next record of the log, and returns when it is on the
// disk. It sets the fields of r that the log decides; r itself stays as it is.
//
// In the line everything but printable ASCII is escaped, invalid UTF-8 is
// U+FFFD, and a string that takes more than 2048 bytes there ends in an
// ellipsis. Of a record over 16 KiB the heads of Output are dropped, then lists: first those of Hooks,
// then the reasons in Isolation.Missing, the arguments, Labels, and Variables.List. Both set
// Truncated.
//
// After an error of the steps "look at" and "sync" the record may be in the log
// all the same; after all others it is not.
func (l *Log) Append(r Record) (Receipt, error) { return l.add(r, &entering{}) }

// entering is what happens beside the writing of a record, under the lock.
type entering struct {
	starts bool                    // a start: it can still be refused, so it opens new segments and reserves room
	before func(line []byte) error // with the line, before it is written; nil: nothing
	after  func()                  // when it is written; nil: nothing
}

func (l *Log) add(r Record, e *entering) (Receipt, error) {
	// Fitted to the widest numbers, so that the lock is held for one encoding only.
	r.follow(head{seq: math.MaxUint64 - 1, hash: origin.hash})
	r.Host.ClockJumpMS = math.MinInt64
	d, err := fit(r, maxLine-1)
	if err != nil {
		return Receipt{}, l.failed("encode record for", currentName, err)
	}
	lock, err := l.lock()
	if err != nil {
		return Receipt{}, err
	}
	fd, receipt, err := l.enter(lock, d, e)
	if err == nil && e.after != nil {
		e.after()
	}
	unlock(lock)
	if fd >= 0 {
		defer unix.Close(fd)
	}
	if err != nil {
		return Receipt{}, err
	}
	if !l.NoSync {
		if err := unix.Fdatasync(fd); err != nil {
			return Receipt{}, l.failed("sync", currentName, err)
		}
	}
	return receipt, nil
}

// enter opens the current segment, or the next one, and adds d to it. The lock is held. The segment comes back open, as far as it got.
func (l *Log) enter(lock int, d draft, e *entering) (int, Receipt, error) {
	fd, err := l.openCurrent()
	if err != nil {
		return -1, Receipt{}, err
	}
	fd, receipt, err := l.extend(fd, lock, d, e)
	return fd, receipt, err
}

// View is the line again for a reader with little room: at most limit bytes, cut
// in the same order as for the log, and still one JSON object. A line that fits
// is returned as it is.
func (r Receipt) View(limit int) []byte {
	if len(r.Line) <= limit {
		return r.Line
	}
	if d, err := fit(r.record, limit); err == nil {
		if line, _, err := d.encode(); err == nil {
			return line
		}
	}
	return []byte(`{"truncated":true}`)
}

// lock takes the lock of the log, and waits for it until the deadline.
//
// The file is opened for each try: two goroutines need two descriptions of it
// to exclude each other, and a lock on a file that was removed excludes nobody.
func (l *Log) lock() (int, error) {
	deadline, began, seen := time.Now().Add(l.patience), time.Now(), l.length()
	busy := func() time.Duration { // a log that grows is not held: others come first
		if now := l.length(); now != seen && time.Since(began) < queueMost {
			seen = now
			return l.patience
		}
		return 0
	}
	for {
		made := false
		fd, err := unix.Openat(l.dir, lockName, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			made = true
			fd, err = unix.Openat(l.dir, lockName, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		}
		if err != nil {
			return -1, l.failed("lock", lockName, err)
		}
		if err := flock(fd, unix.LOCK_EX, deadline, busy); err != nil {
			if pid := l.holder(); err == ErrLocked && pid > 0 {
				err = fmt.Errorf("%w: process %d", err, pid)
			}
			return -1, l.failed("lock", lockName, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			unix.Close(fd)
			return -1, l.failed("lock", lockName, errors.New("not a regular file"))
		} else if err == nil && st.Nlink > 0 {
			if made && st.Size == 0 {
				unix.Pwrite(fd, []byte(madeText), 0)
			}
			if !l.isShared(&st, sharedFile) {
				if err := l.share(fd, lockName, sharedFile); err != nil {
					unlock(fd)
					return -1, err
				}
			}
			return fd, nil
		}
		unix.Close(fd)
		if time.Now().After(deadline) {
			return -1, l.failed("lock", lockName, ErrLocked)
		}
	}
}

// length tells by its change that records are being written.
func (l *Log) length() [2]uint64 {
	var st unix.Stat_t
	unix.Fstatat(l.dir, currentName, &st, unix.AT_SYMLINK_NOFOLLOW)
	return [2]uint64{st.Ino, uint64(st.Size)}
}

// holder is the process that has the lock of the log, 0 where nobody can tell.
func (l *Log) holder() int {
	var st unix.Stat_t
	text, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstatat(l.dir, lockName, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(text)) {
		// 1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF; with an arrow behind the number those that wait
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[3] == "WRITE" && f[5] == file {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}

// flock locks a file, which it closes when it fails. It waits in the kernel's own queue: a hundred writers that looked again every
// millisecond would need all of a processor for that, and the slowest would starve. After the deadline more tells how much longer it is to wait.
func flock(fd, how int, deadline time.Time, more func() time.Duration) error {
	err := unix.Flock(fd, how|unix.LOCK_NB)
	if err != unix.EWOULDBLOCK {
		if err != nil {
			unix.Close(fd)
		}
		return err
	}
	done := make(chan error)
	over := make(chan struct{})
	go func() {
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Flock(fd, how)
		}
		select {
		case done <- err:
		case <-over: // nobody waits any more
			unlock(fd)
		}
	}()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				unix.Close(fd)
			}
			return err
		case <-timer.C:
			longer := more()
			if longer == 0 {
				close(over)
				return ErrLocked
			}
			timer.Reset(longer)
		}
	}
}

// unlock releases the lock in so many words: a child forked at this moment
// holds a copy of the descriptor, and closing ours alone would not do it.
func unlock(fd int) {
	unix.Flock(fd, unix.LOCK_UN)
	unix.Close(fd)
}

func (l *Log) openCurrent() (int, error) {
	fd, err := l.openRegular(currentName, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT)
	if err != nil {
		return -1, l.failed("open", currentName, err)
	}
	return fd, nil
}

// openRegular opens a file of the log, and refuses one that somebody else could
// have a hand in.
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

// extend adds d to the open current segment, or to the next one, which it returns then. The lock is held.
func (l *Log) extend(fd, lock int, d draft, e *entering) (int, Receipt, error) {
	last, end, torn, err := readTail(fd)
	if err != nil {
		return fd, Receipt{}, l.failed("read the end of", currentName, err)
	}
	if e.starts && end > 0 && len(torn) == 0 {
		if first, due := l.due(fd, end); due {
			if next := l.rotate(fd, end, first); next != fd {
				fd, end = next, 0
			}
		}
	}
	noted := recall(lock)
	if end == 0 {
		closed, err := l.lastClosed()
		switch {
		case err == nil:
			last = closed
		case noted.known: // what is wrong with it shows in the comparison
			last = origin
		default:
			return fd, Receipt{}, err
		}
		// The file may be new: its name has to last as long as its records.
		if !l.NoSync {
			if err := unix.Fsync(l.dir); err != nil {
				return fd, Receipt{}, &StepError{"sync", l.path, err}
			}
		}
	}
	if len(torn) > 0 {
		if err := l.setAside(fd, torn, last.seq+1); err != nil {
			return fd, Receipt{}, err
		}
		if err := unix.Ftruncate(fd, end); err != nil {
			return fd, Receipt{}, l.failed("cut the torn end of", currentName, err)
		}
	}
	if e.starts {
		if err := l.reserve(fd, end); err != nil {
			return fd, Receipt{}, err
		}
	}
	note := func(r Record) error {
		r.follow(last)
		n, err := fit(r, maxLine-1)
		if err != nil {
			return l.failed("encode record for", currentName, err)
		}
		receipt, err := l.write(fd, end, last, n, nil)
		if err == nil {
			last = receipt.head()
			end += int64(len(receipt.Line)) + 1
			remember(lock, last)
		}
		return err
	}
	repair := func(cut Repair, why string) error { return note(repairRecord(d.record, cut, why)) }
	newest := last
	cut, found, err := l.unrecorded(last.seq + 1)
	if err == nil && found {
		err = repair(cut, "torn-end")
	}
	known := noted.head
	if !noted.known {
		known = l.started()
	}
	if gap, why := broken(last, known, end, found); err == nil && known.seq > 0 && why != "" {
		last = known
		err = repair(gap, why)
	} else if gap, beside := l.forgotten(newest, noted, d.record.Host.Boot); err == nil && gap != nil {
		if beside {
			d.record.Repair = gap
			d, err = fit(d.record, maxLine-1)
		} else {
			err = repair(*gap, memoryLost)
		}
	}
	if err == nil && last.seq == 0 && !noted.known {
		remember(lock, origin) // or the first record of all, if its writer is killed behind it, would look like one whose note is gone
	}
	var files []byte
	if err == nil && len(d.record.Config) > 0 {
		files, err = l.compareFiles(lock, d.record, note)
	}
	if err != nil {
		return fd, Receipt{}, err
	}
	receipt, err := l.write(fd, end, last, d, e.before)
	if err != nil {
		return fd, Receipt{}, err
	}
	remember(lock, receipt.head())
	if files != nil {
		rememberFiles(lock, files)
	}
	if err := l.lookAt(fd); err != nil {
		return fd, Receipt{}, l.failed("look at", currentName, err)
	}
	return fd, receipt, nil
}

// write makes d the record after last, in one write at the end of the file. before gets the line first.
func (l *Log) write(fd int, end int64, last head, d draft, before func([]byte) error) (Receipt, error) {
	d.record.follow(last)
	line, _, err := d.encode()
	if err != nil {
		return Receipt{}, l.failed("encode record for", currentName, err)
	}
	if before != nil {
		if err := before(line); err != nil {
			return Receipt{}, err
		}
	}
	n, err := unix.Write(fd, append(line, '\n'))
	if err == nil && n <= len(line) {
		// A disk that fills up in the middle is not an error to the kernel.
		err = io.ErrShortWrite
	}
	if err != nil {
		if n > 0 {
			if undo := unix.Ftruncate(fd, end); undo != nil {
				err = fmt.Errorf("%w; undo: %w", err, undo)
			}
		}
		return Receipt{}, l.failed("write", currentName, err)
	}
	return Receipt{Seq: d.record.Seq, Hash: hexSHA256(line), Line: line, record: d.record}, nil
}

// lookAt fails when the log's path no longer leads to the file behind fd.
func (l *Log) lookAt(fd int) error {
	var written, there unix.Stat_t
	if err := unix.Fstat(fd, &written); err != nil {
		return err
	}
	if err := unix.Lstat(filepath.Join(l.path, currentName), &there); err != nil {
		return fmt.Errorf("removed while it was written: %w", err)
	}
	if written.Dev != there.Dev || written.Ino != there.Ino {
		return errors.New("replaced while it was written")
	}
	return nil
}

func (l *Log) failed(step, name string, err error) error {
	return &StepError{step, filepath.Join(l.path, name), err}
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
