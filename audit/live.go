package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	rawjson "py3run/internal/json"
)

// Beside the file of a run stand two more, if need be: what its launcher says of it while it lasts,
// and that somebody wants it to end. They last no longer than the run.
const (
	liveSuffix   = ".live"
	cancelSuffix = ".cancel"
)

// A Live is what the launcher of a run says while the run lasts. It is no part of the log.
type Live struct {
	Launcher  int      `json:"launcher"` // process id
	Init      int      `json:"init"`     // process id of the first process of the run
	Namespace string   `json:"pid_ns"`   // in which these process ids are, as /proc/self/ns/pid names it
	Group     []string `json:"group"`    // its control group, as sandbox/cgroup reads it; empty: it has none
}

// Tell keeps what another process can see of the run beside the log. If that fails, nobody sees it.
func (run *Run) Tell(l Live) {
	if run.dir < 0 {
		return
	}
	run.beside = true
	text, err := rawjson.Append(nil, &l)
	if err != nil {
		return
	}
	name := run.id + liveSuffix
	fd, err := unix.Openat(run.dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	run.log.share(fd, filepath.Join(runsName, name), sharedFile)
	unix.Write(fd, text)
	unix.Close(fd)
}

// A LiveRun is a run under way whose launcher lives.
type LiveRun struct {
	Start  Record
	Live   *Live   // nil: its launcher has said nothing yet
	Cancel *Record // who wants it to end; nil: nobody
}

// LiveRuns are the runs under way whose launchers live, the oldest first. unseen is how many runs
// there are that this user may not read.
func (r *Reader) LiveRuns() (list []LiveRun, unseen int, err error) {
	names, err := os.ReadDir(filepath.Join(r.path, runsName))
	if os.IsNotExist(err) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, r.failed("read", runsName, err)
	}
	for _, e := range names {
		if !isRunID(e.Name()) {
			continue
		}
		alive, how := r.alive(e.Name())
		if !alive {
			if how == "" {
				unseen++
			}
			continue
		}
		run := LiveRun{}
		text := r.besideRun(e.Name())
		if line, _, whole := bytes.Cut(text, []byte("\n")); !whole || json.Unmarshal(line, &run.Start) != nil || run.Start.RunID != e.Name() {
			continue // its launcher is just writing it, or it has ended since then
		}
		if text := r.besideRun(e.Name() + liveSuffix); text != nil && json.Unmarshal(text, &run.Live) != nil {
			run.Live = nil
		}
		if text := r.besideRun(e.Name() + cancelSuffix); text != nil && json.Unmarshal(text, &run.Cancel) != nil {
			run.Cancel = nil
		}
		list = append(list, run)
	}
	slices.SortFunc(list, func(a, b LiveRun) int { return strings.Compare(a.Start.RunID, b.Start.RunID) })
	return list, unseen, nil
}

// besideRun reads a file of the directory runs; nil: there is none.
func (r *Reader) besideRun(name string) []byte {
	fd, err := unix.Openat(r.dir, runsName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return readBeside(fd, name)
}

// readBeside reads a small regular file in a directory; nil: there is none.
func readBeside(dir int, name string) []byte {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	text := make([]byte, 2*maxLine)
	n, _ := file.ReadAt(text, 0)
	return text[:n]
}
