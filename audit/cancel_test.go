package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func cancelRecord(id, user, reason string) Record {
	return Record{RunID: id, Event: Event{Action: ExecutionCancel, Outcome: Success}, Host: ThisHost(), User: User{Name: user}, Auth: Auth{Method: AuthOSUser}, Cancel: &Cancel{Reason: reason}}
}

// A run that is cancelled: its launcher is told by whom, the log has it before the end, and nothing stays beside it.
func TestCancel(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	run, other := begin(t, l, "r1"), begin(t, l, "r2")
	if run.Cancelled() != nil {
		t.Error("a run that nobody has cancelled is")
	}
	run.Tell(Live{Launcher: 1, Init: 2, Namespace: "pid:[3]", Group: []string{"group 2 kill /x"}})
	receipt, err := l.Cancel(cancelRecord("r1", "ann", "too long"))
	must(t, err)
	if receipt.Seq != 3 {
		t.Errorf("its record has number %d", receipt.Seq)
	}
	if r := run.Cancelled(); r == nil || r.User.Name != "ann" || r.Cancel.Reason != "too long" || r.Seq != 3 {
		t.Errorf("the launcher is told %+v", r)
	}
	if other.Cancelled() != nil {
		t.Error("another run is cancelled, too")
	}
	if _, err := l.Cancel(cancelRecord("r1", "bob", "")); !errors.Is(err, ErrCancelling) {
		t.Errorf("once more: %v", err)
	}
	reader := openReader(t, dir)
	runs, unseen, err := reader.LiveRuns()
	if err != nil || unseen != 0 || len(runs) != 2 || runs[0].Start.RunID != "r1" || runs[0].Live == nil || runs[0].Live.Init != 2 || runs[0].Live.Group[0] != "group 2 kill /x" ||
		runs[0].Cancel == nil || runs[0].Cancel.User.Name != "ann" || runs[1].Start.RunID != "r2" || runs[1].Live != nil || runs[1].Cancel != nil {
		t.Errorf("alive: %+v, %d, %v", runs, unseen, err)
	}
	_, err = run.End(endRecord("r1"))
	must(t, err)
	if got := runsOf(t, dir); got != "r2" {
		t.Errorf("left are %q", got)
	}
	for _, id := range []string{"r1", "r3"} {
		if _, err := l.Cancel(cancelRecord(id, "ann", "")); !errors.Is(err, ErrNotAlive) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := l.Cancel(cancelRecord("../r2", "ann", "")); err == nil {
		t.Error("a path is taken for a run id")
	}
	_, err = other.End(endRecord("r2"))
	must(t, err)
	if got := actions(verify(t, dir)); got != "execution-start execution-start execution-cancel execution-end execution-end" {
		t.Errorf("records %s", got)
	}
}

// What stands beside a run that is gone goes with it, whoever has died.
func TestCancelOfTheDead(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	run := begin(t, l, "r1")
	run.Tell(Live{Launcher: 1})
	_, err := l.Cancel(cancelRecord("r1", "ann", ""))
	must(t, err)
	run.file.Close() // as if its launcher was killed
	reader := openReader(t, dir)
	if runs, unseen, err := reader.LiveRuns(); len(runs) != 0 || unseen != 0 || err != nil {
		t.Errorf("alive: %+v, %d, %v", runs, unseen, err)
	}
	if _, err := l.Cancel(cancelRecord("r1", "ann", "")); !errors.Is(err, ErrNotAlive) {
		t.Errorf("a dead run: %v", err)
	}
	// Of a run that has ended, because who cancelled it has died.
	for _, name := range []string{"r9.cancel", "r9.live"} {
		must(t, os.WriteFile(filepath.Join(dir, runsName, name), nil, 0o600))
	}
	must(t, l.Recover())
	if got := runsOf(t, dir); got != "" {
		t.Errorf("left are %q", got)
	}
	if got := actions(verify(t, dir)); got != "execution-start execution-cancel execution-orphaned" {
		t.Errorf("records %s", got)
	}
}

// A file that is none of Cancel's cancels nothing.
func TestCancelByOtherFiles(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	run := begin(t, l, "r1")
	path := filepath.Join(dir, runsName, "r1.cancel")
	for name, make := range map[string]func() error{
		"empty":   func() error { return os.WriteFile(path, nil, 0o600) },
		"no JSON": func() error { return os.WriteFile(path, []byte("x"), 0o600) },
		"of another run": func() error {
			return os.WriteFile(path, []byte(`{"run_id":"r2","event":{"action":"execution-cancel"}}`), 0o600)
		},
		"another action": func() error {
			return os.WriteFile(path, []byte(`{"run_id":"r1","event":{"action":"execution-end"}}`), 0o600)
		},
		"a link":      func() error { return os.Symlink("/etc/passwd", path) },
		"a directory": func() error { return os.Mkdir(path, 0o700) },
		"a pipe":      func() error { return unix.Mkfifo(path, 0o600) },
	} {
		must(t, os.RemoveAll(path))
		must(t, make())
		if r := run.Cancelled(); r != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	must(t, os.RemoveAll(path))
	_, err := run.End(endRecord("r1"))
	must(t, err)
}

// Cancel and end at the same moment: either the run lives when its cancellation is recorded, or it is refused.
func TestCancelRacesEnd(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	l.NoSync = true
	told := 0
	for i := range 100 {
		id := fmt.Sprint("r", i)
		run := begin(t, l, id)
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := run.End(endRecord(id)); err != nil {
				t.Error(err)
			}
		})
		_, err := l.Cancel(cancelRecord(id, "ann", ""))
		all.Wait()
		if err == nil {
			told++
		} else if !errors.Is(err, ErrNotAlive) {
			t.Error(err)
		}
	}
	must(t, l.Recover())
	if got := runsOf(t, dir); got != "" {
		t.Errorf("left are %q", got)
	}
	ended := map[string]bool{}
	text, err := os.ReadFile(filepath.Join(dir, currentName))
	must(t, err)
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		r := Line{Text: []byte(line)}
		rec, err := r.Record()
		must(t, err)
		switch rec.Event.Action {
		case ExecutionEnd:
			ended[rec.RunID] = true
		case ExecutionCancel:
			told--
			if ended[rec.RunID] {
				t.Errorf("%s was cancelled after its end", rec.RunID)
			}
		}
	}
	if told != 0 {
		t.Errorf("%d cancellations have no record", told)
	}
	verify(t, dir)
}
