package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// ExecutionCancel says that somebody else than the caller wants a run to end. Its run id is that of
// the run, its user the one who wants that. The run's own end says how it ended.
const ExecutionCancel Action = "execution-cancel"

// Cancel is what an execution-cancel record says besides.
type Cancel struct {
	Reason string `json:"reason,omitempty"` // in the words of who wants it
}

// Why a run cannot be cancelled.
var (
	ErrNotAlive   = errors.New("the run is not alive")
	ErrCancelling = errors.New("somebody has cancelled the run already")
)

// Cancel writes the record r, that somebody wants the run to end, and tells its launcher: it leaves
// the record's line in a file beside that of the run, where the launcher looks ten times a second.
// So the run that is meant is the one that ends, whatever process it runs in and whatever else that
// process does, and nobody can cancel a run who cannot write the log.
//
// The record is only written while the run lives: the end of a run is written under the same lock.
// Errors are [ErrNotAlive] and [ErrCancelling], and those of [Log.Append].
func (l *Log) Cancel(r Record) (Receipt, error) {
	id := r.RunID
	if !isRunID(id) {
		return Receipt{}, l.failed("cancel", runsName, fmt.Errorf("run id %q: want letters, digits and -", id))
	}
	dir, err := l.openRuns(false)
	if errors.Is(err, unix.ENOENT) {
		return Receipt{}, ErrNotAlive
	}
	if err != nil {
		return Receipt{}, err
	}
	defer unix.Close(dir)
	draft := ".new-" + strconv.Itoa(os.Getpid()) + cancelSuffix
	defer unix.Unlinkat(dir, draft, 0)
	var failed error
	receipt, err := l.add(r, &entering{
		before: func(line []byte) error {
			if !held(dir, id) {
				return ErrNotAlive
			}
			if err := unix.Faccessat(dir, id+cancelSuffix, unix.F_OK, 0); err == nil {
				return ErrCancelling
			}
			return l.draft(dir, draft, line)
		},
		// Another name for a file that is whole: nobody reads half of it.
		after: func() { failed = unix.Renameat(dir, draft, dir, id+cancelSuffix) },
	})
	if err == nil && failed != nil {
		err = l.failed("tell the launcher by", filepath.Join(runsName, id+cancelSuffix), failed)
	}
	return receipt, err
}

// draft writes a line into a new file.
func (l *Log) draft(dir int, name string, line []byte) error {
	unix.Unlinkat(dir, name, 0)
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err == nil {
		defer unix.Close(fd)
		if err = l.share(fd, filepath.Join(runsName, name), sharedFile); err == nil {
			_, err = unix.Write(fd, line)
		}
	}
	if err != nil {
		return l.failed("make", filepath.Join(runsName, name), err)
	}
	return nil
}

// held tells whether the writer of a run lives.
func held(dir int, id string) bool {
	fd, err := unix.Openat(dir, id, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// Cancelled returns the record that says who wants the run to end; nil: nobody does. It costs one
// system call where that is so.
func (run *Run) Cancelled() *Record {
	if run.dir < 0 {
		return nil
	}
	text := readBeside(run.dir, run.id+cancelSuffix)
	if text == nil {
		return nil
	}
	run.beside = true
	r := new(Record)
	if json.Unmarshal(text, r) != nil || r.RunID != run.id || r.Event.Action != ExecutionCancel {
		return nil
	}
	return r
}

// removeBeside removes what stands beside the file of a run.
func removeBeside(dir int, id string) {
	unix.Unlinkat(dir, id+liveSuffix, 0)
	unix.Unlinkat(dir, id+cancelSuffix, 0)
}
