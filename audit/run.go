package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/bootid"
	"py3run/internal/filelock"
)

// Each run under way has a file in the directory runs. Its writer holds the file locked, so that
// the kernel releases the lock when the writer dies. The first line is the start record as it
// stands in the log; a second line is an end record that could not be written to the log. Files are
// made and removed under the log's lock, so that nobody sees an incomplete one.
const (
	runsName = "runs"
	runsMost = 100 // dead runs that one Recover records, all under the lock

	glanceMost = time.Second // how long a process that looks for dead runs may hold the file of a new one
)

// A Run is an execution whose start is in the log.
type Run struct {
	log  *Log
	id   string
	dir  int // of the directory runs
	file *os.File
	size int64    // of its start record there, with the newline
	runs *runsDir // that dir belongs to; nil: dir is this run's own

	beside bool // there may be more files of the run: see removeBeside
}

// A KeptError says that an end record is not in the log, but in a file beside it. The next
// [Log.Recover] takes it from there.
type KeptError struct {
	Path string
	Err  error
}

func (e *KeptError) Error() string { return e.Err.Error() + "; the record waits in " + e.Path }

// Unwrap returns why the record is not in the log.
func (e *KeptError) Unwrap() error { return e.Err }

// isRunID reports whether an id can be the name of a file.
func isRunID(id string) bool {
	const allowed = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	return id != "" && len(id) <= 64 && strings.Trim(id, allowed) == ""
}

// Begin writes the start record r as [Log.Append] does, and reserves room for the end record; a
// full disk is an error. The run lasts until its End, or until this process dies, which
// [Log.Recover] finds out.
func (l *Log) Begin(r Record) (*Run, Receipt, error) {
	if !isRunID(r.RunID) {
		return nil, Receipt{}, l.failed("make", runsName, fmt.Errorf("run id %q: want letters, digits and -", r.RunID))
	}
	run, returned := &Run{log: l, id: r.RunID, dir: -1}, false
	defer func() {
		if !returned { // a panic: Recover gives the record an end, if it is there
			run.release()
		}
	}()
	e := &entering{starts: true}
	e.before = func(line []byte) error { return run.enter(line, e.cached) }
	receipt, err := l.add(r, e)
	returned = true
	if failed := new(StepError); errors.As(err, &failed) && (failed.Step == "sync" || failed.Step == "look at") {
		run.release() // the record may be there: Recover gives it an end
		return nil, Receipt{}, err
	}
	if err != nil {
		run.leave(nil)
		return nil, Receipt{}, err
	}
	return run, receipt, nil
}

// enter makes the run's file, with its start record. c is as in entering.
func (run *Run) enter(line []byte, c *cached) (err error) {
	if c == nil {
		run.dir, err = run.log.openRuns(true)
	} else if run.runs, err = c.runsOf(run.log, true); err == nil {
		run.runs.users.Add(1)
		run.dir = run.runs.fd
	}
	if err != nil {
		return err
	}
	text := append(line, '\n') // in the same memory, where write will append it, too
	if c != nil && c.useSpare(run, text) {
		return nil
	}
	name := filepath.Join(runsName, run.id)
	fd, err := unix.Openat(run.dir, run.id, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return run.log.failed("make", name, err)
	}
	// A process that looks for dead runs may have opened the file before it is locked here.
	if err := filelock.Take(fd, unix.LOCK_EX, time.Now().Add(glanceMost), nil); err != nil {
		unix.Unlinkat(run.dir, run.id, 0)
		return run.log.failed("lock", name, err)
	}
	run.file, run.size = os.NewFile(uintptr(fd), filepath.Join(run.log.path, name)), int64(len(text))
	if err := run.log.share(fd, name, sharedFile); err != nil {
		return err
	}
	if _, err := run.file.WriteAt(text, 0); err != nil {
		return run.log.failed("write", name, err)
	}
	return nil
}

// End writes the end record r as [Log.Append] does. A record that cannot be written to the log is
// kept beside it: then the error is a [*KeptError]. Call End once.
func (run *Run) End(r Record) (Receipt, error) {
	defer run.release()
	e := &entering{}
	e.after = func() { run.leave(e.cached) }
	receipt, err := run.log.add(r, e)
	if err != nil && run.file != nil {
		err = run.keep(r, err)
	}
	return receipt, err
}

// keep writes an end record into the run's file.
func (run *Run) keep(r Record, because error) error {
	r.follow(head{}) // for the time
	d, err := fit(r, maxLine-1)
	var line []byte
	if err == nil {
		line, _, err = d.encode()
	}
	if err == nil {
		_, err = run.file.WriteAt(append(line, '\n'), run.size)
	}
	if err == nil {
		err = run.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("%w; %w", because, err)
	}
	return &KeptError{filepath.Join(run.log.path, runsName, run.id), because}
}

// leave removes the run's file, or keeps it for the next run. c is as in entering.
func (run *Run) leave(c *cached) {
	if run.file != nil && (c == nil || !c.keepSpare(run)) {
		unix.Unlinkat(run.dir, run.id, 0)
	}
	run.release()
}

func (run *Run) release() {
	if run.file != nil {
		run.file.Close()
		run.file = nil
	}
	if run.dir < 0 {
		return
	}
	if run.beside {
		removeBeside(run.dir, run.id)
	}
	if run.runs != nil {
		run.runs.leave()
	} else {
		unix.Close(run.dir)
	}
	run.dir, run.runs = -1, nil
}

// openRuns opens the directory of the runs under way.
func (l *Log) openRuns(make bool) (int, error) {
	made := false
	if make {
		err := unix.Mkdirat(l.dir, runsName, 0o700)
		if err != nil && err != unix.EEXIST {
			return -1, l.failed("make", runsName, err)
		}
		made = err == nil
	}
	fd, err := unix.Openat(l.dir, runsName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		if err = checkDir(fd); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return -1, l.failed("open", runsName, err)
	}
	if made {
		if err := l.share(fd, runsName, sharedDir); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// running is the number of runs under way, including dead ones.
func (l *Log) running() int {
	names, _ := l.listRuns()
	return len(names)
}

// running is the same, by the directory that is open already.
func (w *entry) running() int {
	d, err := w.cached.runsOf(w.Log, false)
	if err != nil {
		return 0
	}
	n, ok := countRuns(d.fd, w.cached.room(4<<10))
	if !ok {
		return w.Log.running()
	}
	return n
}

// countRuns counts the runs in a directory. ok is false where something else stands there.
func countRuns(dir int, room []byte) (n int, ok bool) {
	if _, err := unix.Seek(dir, 0, io.SeekStart); err != nil {
		return 0, false
	}
	var names []string
	for {
		size, err := unix.Getdents(dir, room)
		if err != nil {
			return 0, false
		}
		if size == 0 {
			return n, true
		}
		_, _, names = unix.ParseDirent(room[:size], -1, names[:0])
		for _, name := range names {
			switch {
			case isRunID(name):
				n++
			case name[0] != '.':
				return 0, false
			}
		}
	}
}

func (l *Log) listRuns() (runs []string, err error) {
	runs, _, err = l.listRunsAndSpares()
	return runs, err
}

// listRunsAndSpares lists the directory once for both.
func (l *Log) listRunsAndSpares() (runs, spares []string, err error) {
	fd, err := l.openRuns(false)
	if err != nil {
		return nil, nil, err
	}
	dir := os.NewFile(uintptr(fd), runsName)
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	for _, name := range all {
		if isRunID(name) {
			runs = append(runs, name)
		} else if strings.HasPrefix(name, spareMark) {
			spares = append(spares, name)
		} else if id, _, beside := strings.Cut(name, "."); beside && isRunID(id) && !slices.Contains(all, id) && unix.Faccessat(fd, id, unix.F_OK, 0) == unix.ENOENT {
			removeBeside(fd, id) // of a run that has ended: who cancelled it has died
		}
	}
	return runs, spares, err
}

// Recover writes the end records that were kept beside the log. For a run whose writer has died it
// writes a record that the run is orphaned. It is quick where there are none.
func (l *Log) Recover() error {
	names, spares, err := l.listRunsAndSpares()
	if errors.Is(err, unix.ENOENT) || err == nil && len(names) == 0 && len(spares) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	dir, err := l.openRuns(false)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	removeSpares(dir, spares)
	var dead []string
	for _, name := range names {
		if f := claim(dir, name); f != nil {
			f.Close()
			dead = append(dead, name)
		}
	}
	if len(dead) == 0 {
		return nil
	}
	lock, err := l.lock()
	if err != nil {
		return err
	}
	defer filelock.Release(lock)
	slices.Sort(dead) // by the time of their start
	for _, name := range dead[:min(len(dead), runsMost)] {
		f := claim(dir, name) // again: a run that has just begun makes its file under this lock
		if f == nil {
			continue
		}
		err := l.recover(lock, f, name)
		if err == nil {
			unix.Unlinkat(dir, name, 0)
			removeBeside(dir, name)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// removeSpares removes the spares of dead processes.
func removeSpares(dir int, spares []string) {
	for _, name := range spares {
		if f := claim(dir, name); f != nil {
			unix.Unlinkat(dir, name, 0)
			f.Close()
		}
	}
}

// claim opens and locks the file of a run whose writer is dead; nil: the writer lives.
func claim(dir int, name string) *os.File {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil || unix.Fstat(fd, &st) != nil || st.Nlink == 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil
	}
	return f
}

// recover writes to the log what the file of a dead run says. The caller holds the lock.
func (l *Log) recover(lock int, f *os.File, id string) error {
	text, err := io.ReadAll(io.LimitReader(f, 4*maxLine))
	if err != nil {
		return l.failed("read", filepath.Join(runsName, id), err)
	}
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	var start, end Record
	if json.Unmarshal(first, &start) != nil || start.RunID != id {
		return nil // its writer died before it wrote the record: the run has not begun
	}
	started, ended, err := l.find(start.Seq, id)
	if err != nil || ended || !started {
		return err
	}
	line, _, whole := bytes.Cut(rest, []byte("\n"))
	if whole && json.Unmarshal(line, &end) == nil && end.RunID == id {
		end.Event.End = end.Timestamp
	} else {
		end = start
		end.Config, end.Repair = nil, nil
		end.Host = ThisHost()
		end.Event = Event{Action: ExecutionOrphaned, Outcome: Unknown, Reason: "launcher-died"}
		if start.Host.Boot != end.Host.Boot {
			end.Event.Reason = "host-restarted"
		}
	}
	_, err = l.addLocked(lock, end)
	return err
}

// find reports whether the log has the start and an end of a run whose start has, or had, this seq.
// A start that is gone because the log was removed since then counts as one.
func (l *Log) find(seq uint64, id string) (started, ended bool, err error) {
	names, err := l.segments()
	if err != nil {
		return false, false, err
	}
	from := 0
	for i, name := range names {
		if name <= segmentName(seq) {
			from = i
		}
	}
	taken, newest := false, uint64(0)
	for _, name := range append(names, currentName)[min(from, len(names)):] {
		err := l.scan(name, func(line []byte) {
			if n, _, ok := firstKeys(line); ok {
				newest = max(newest, n)
				taken = taken || n == seq
			}
			if !bytes.Contains(line, []byte(`"run_id":"`+id+`"`)) {
				return
			}
			var r Record
			if json.Unmarshal(line, &r) == nil && r.RunID == id {
				started = started || r.Event.Action == ExecutionStart
				ended = ended || r.Event.Action == ExecutionEnd || r.Event.Action == ExecutionOrphaned
			}
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return false, false, err
		}
	}
	return started || !taken && newest > seq, ended, nil
}

// scan goes through the lines of a segment. It skips lines that are longer than a record can be.
func (l *Log) scan(name string, line func([]byte)) error {
	fd, err := l.openRegular(name, unix.O_RDONLY)
	if err != nil {
		return l.failed("open", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	lines, whole := bufio.NewReaderSize(f, 4*maxLine), true
	for {
		text, err := lines.ReadSlice('\n')
		switch {
		case err == bufio.ErrBufferFull:
			whole = false
			continue
		case err == io.EOF:
			return nil
		case err != nil:
			return l.failed("read", name, err)
		}
		if whole {
			line(text[:len(text)-1])
		}
		whole = true
	}
}

// ThisHost is the machine that this process runs on.
func ThisHost() Host {
	name, _ := os.Hostname()
	return Host{Name: name, Boot: bootid.Get()}
}
