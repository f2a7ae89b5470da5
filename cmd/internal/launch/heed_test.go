package launch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/wire"
)

// alive waits until runs of a log can be seen from outside, and returns them by the first line of their code's label.
func alive(t *testing.T, root string, n int) map[string]audit.LiveRun {
	t.Helper()
	for range 600 {
		if log, err := audit.OpenReader(filepath.Join(root, "audit")); err == nil {
			runs, _, err := log.LiveRuns()
			log.Close()
			if err != nil {
				t.Fatal(err)
			}
			told := map[string]audit.LiveRun{}
			for _, r := range runs {
				if r.Live != nil {
					told[r.Start.Labels["name"]] = r
				}
			}
			if len(told) == n {
				return told
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("there are no %d runs to be seen", n)
	return nil
}

// cancel cancels a run as py3runctl does, for a user ann.
func cancel(t *testing.T, root, id string) {
	t.Helper()
	log, err := audit.Open(filepath.Join(root, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.Cancel(audit.Record{RunID: id, Event: audit.Event{Action: audit.ExecutionCancel, Outcome: audit.Success}, Host: audit.ThisHost(), User: audit.User{Name: "ann"},
		Auth: audit.Auth{Method: audit.AuthOSUser}, Cancel: &audit.Cancel{Reason: "enough"}}); err != nil {
		t.Fatal(err)
	}
}

// In a process with several runs, as a bridge, the one is cancelled that is meant. Neither the process nor another run is told.
func TestCancelOneOfSeveral(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	done := filepath.Join(root, "done")
	names := []string{"one", "two", "three"}
	results := map[string]wire.Result{}
	var lock sync.Mutex
	var all sync.WaitGroup
	for _, name := range names {
		job := testJob(t, root, "import os, time\nwhile not os.path.exists("+quoted(done)+"): time.sleep(0.05)\nresult = 'whole'")
		job.Request.Labels = &wire.Object{Names: []string{"name"}, Values: []any{name}}
		signals := make(chan os.Signal, 1)
		job.Signals = signals
		all.Go(func() {
			answer := Run(job)
			answer.Sweep()
			lock.Lock()
			defer lock.Unlock()
			results[name] = answer.Result
			if len(signals) > 0 {
				t.Errorf("%s: a signal is left in the caller's channel", name)
			}
		})
	}
	runs := alive(t, root, len(names))
	for name, r := range runs {
		if l := r.Live; l.Launcher != os.Getpid() || l.Init <= 0 || !strings.HasPrefix(l.Namespace, "pid:[") {
			t.Errorf("%s: %+v", name, l)
		}
	}
	id := runs["two"].Start.RunID
	cancel(t, root, id)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		lock.Lock()
		_, ended := results["two"]
		lock.Unlock()
		if ended {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the run has not ended")
		}
	}
	alive(t, root, len(names)-1)
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for _, name := range names {
		switch r := results[name]; {
		case name != "two" && (r.Status != wire.StatusOK || string(r.Result) != `"whole"`):
			t.Errorf("%s: %s %+v", name, r.Status, r.Failure)
		case name == "two" && (r.Status != wire.StatusCancelled || r.Failure.Code != "cancelled_by_operator" || !strings.HasSuffix(r.Failure.Message, "by ann with py3runctl cancel: enough") || r.ExitStatus() != 143):
			t.Errorf("%s: %s %+v, exit code %d", name, r.Status, r.Failure, r.ExitStatus())
		}
	}
	var end audit.Record
	if err := json.Unmarshal(records(t, root)[id]["execution-end"], &end); err != nil || end.Status != "cancelled" || end.Event.Reason != "cancelled_by_operator" {
		t.Errorf("its end record: %+v, %v", end, err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "audit", "runs")); len(left) > 0 {
		t.Errorf("left beside the log: %v", left)
	}
}

func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}
