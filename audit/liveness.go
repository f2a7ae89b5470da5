package audit

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// mark takes the start or the end of a run.
func (v *verifier) mark(id string, seq uint64, start bool) {
	_, begun := v.open[id]
	switch {
	case start && begun:
		v.addFinding(Finding{Severity: Broken, Kind: SecondStart, Seq: seq, RunID: id}, "record %d: a second start of run %s, which has not ended", seq, id)
	case start:
		v.open[id] = opened{seq, v.seg.name, v.line}
	case begun:
		delete(v.open, id)
	case !v.partial():
		v.addFinding(Finding{Severity: Broken, Kind: EndWithoutStart, Seq: seq, RunID: id}, "record %d: an end of run %s, which has no start, or a second one", seq, id)
	}
}

// runs finds out which runs without an end are alive.
func (v *verifier) runs() {
	type dead struct {
		id  string
		how string
	}
	var gone []dead
	for id, o := range v.open {
		alive, how := v.reader.alive(id)
		switch {
		case alive:
			v.report.Alive++
		case how == "":
			v.addFinding(Finding{Severity: Note, Kind: OrphanedRun, Seq: o.seq, RunID: id}, "run %s has no end, and whether it is alive cannot be seen", id)
		default:
			gone = append(gone, dead{id, how})
		}
	}
	if len(gone) == 0 {
		return
	}
	// If a run ended meanwhile, its end stands after what was read: it was written before the file
	// of the run was removed.
	ended := map[string]bool{}
	for line, err := range v.reader.Records(v.place) {
		if err == nil && (line.Action == ExecutionEnd || line.Action == ExecutionOrphaned) {
			ended[line.RunID] = true
		}
	}
	slices.SortFunc(gone, func(a, b dead) int { return cmp.Compare(v.open[a.id].seq, v.open[b.id].seq) })
	for _, g := range gone {
		if o := v.open[g.id]; !ended[g.id] {
			v.seg.name, v.line = o.segment, o.line
			v.addFinding(Finding{Severity: Warning, Kind: OrphanedRun, Seq: o.seq, RunID: g.id}, "run %s has no end and is not alive: %s", g.id, g.how)
		}
	}
}

// Running is the number of runs under way whose launchers live, as far as this user can see them.
func (r *Reader) Running() (n int) {
	names, _ := os.ReadDir(filepath.Join(r.path, runsName))
	for _, e := range names {
		if alive, _ := r.alive(e.Name()); alive {
			n++
		}
	}
	return n
}

// Lives reports whether a run is under way and its launcher lives, as far as this user can see it.
func (r *Reader) Lives(id string) bool {
	alive, _ := r.alive(id)
	return alive
}

// Dead reports whether a run without an end has lost its launcher; the next writer will record
// that. A run that this user cannot see is not reported as dead.
func (r *Reader) Dead(id string) bool {
	_, how := r.alive(id)
	return how == orphan
}

const orphan = "the next writer records it as orphaned"

// alive reports whether a run's writer lives. If it is dead, how says how the log will get the
// run's end; an empty how means that this user cannot see it.
func (r *Reader) alive(id string) (alive bool, how string) {
	const lost = "nothing is left of it"
	if !isRunID(id) {
		return false, lost
	}
	fd, err := unix.Openat(r.dir, filepath.Join(runsName, id), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return false, lost
	}
	if err != nil {
		return false, ""
	}
	file := os.NewFile(uintptr(fd), id)
	defer file.Close()
	switch err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err {
	case nil:
	case unix.EWOULDBLOCK:
		return true, ""
	default:
		return false, ""
	}
	text := make([]byte, 2*maxLine)
	n, _ := file.ReadAt(text, 0)
	if bytes.Count(text[:n], []byte("\n")) > 1 {
		return false, "its end waits in " + filepath.Join(runsName, id) + " for the next writer"
	}
	return false, orphan
}
