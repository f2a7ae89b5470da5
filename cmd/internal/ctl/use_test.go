package ctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/sandbox/cgroup"
)

// procTree makes a /proc of a run: init 10, its program 11 with two threads, a child 12 of the second thread, and a stranger.
func procTree(t *testing.T) string {
	t.Helper()
	proc := t.TempDir()
	for path, text := range map[string]string{
		"10/task/10/children": "11 ", "10/stat": "10 (init) S 1 10 10 0 -1 0 0 0 0 0 900 900 900 900 20 0 9 0",
		"11/task/11/children": "", "11/task/15/children": "12 99", "11/stat": "11 (a) b (c) S 10 11 11 0 -1 0 0 0 0 0 100 50 25 25 20 0 2 0 7", "11/status": "Name:\tx\nRssAnon:\t   1024 kB\nRssFile:\t 4096 kB\nRssShmem:\t  512 kB\n",
		"12/task/12/children": "", "12/stat": "12 (z) Z 11 11 11 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 7", "12/status": "Name:\tx\n",
		"50/task/50/children": "", "50/stat": "50 (stranger) S 1 50 50 0 -1 0 0 0 0 0 900 900 900 900 20 0 9 0",
	} {
		full := filepath.Join(proc, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return proc
}

// Init itself is py3run's, and no part of what the run uses; 99 has ended meanwhile.
func TestTreeUse(t *testing.T) {
	t.Parallel()
	proc := procTree(t)
	if use, seen := treeUse(proc, 10); !seen || use != (cgroup.Use{CPU: 2 * time.Second, Memory: 1536 << 10, Processes: 3}) {
		t.Errorf("%+v, %t", use, seen)
	}
	for _, pid := range []int{0, -1, 12, 77} {
		if use, seen := treeUse(proc, pid); seen {
			t.Errorf("%d: %+v", pid, use)
		}
	}
}

// A run says of itself only what its log and the kernel say. Process ids of another namespace mean nothing here.
func TestShownAlive(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	run := audit.LiveRun{Start: audit.Record{RunID: "r1", Seq: 4, Timestamp: "2026-11-24T09:59:00.000000Z", User: audit.User{Name: "ann"}, Host: audit.Host{Name: "h", Boot: "another"}}}
	s := shownAlive(run, now)
	if s.Age != 60 || s.Launcher != 0 || s.CPU != nil || s.UseFrom != "" || s.Cancelled != "" || s.StartSeq != 4 {
		t.Errorf("%+v", s)
	}
	run.Start.Host = audit.ThisHost()
	run.Start.Host.UptimeMS = 1
	if s := shownAlive(run, now); s.Age <= 1 || s.Age == 60 {
		t.Errorf("by the uptime: %v seconds", s.Age)
	}
	run.Live = &audit.Live{Launcher: 5, Init: os.Getpid(), Namespace: "pid:[1]"}
	run.Cancel = &audit.Record{User: audit.User{Name: "bob"}}
	if s := shownAlive(run, now); s.Launcher != 0 || s.UseFrom != "" || s.Cancelled != "bob" {
		t.Errorf("of another namespace: %+v", s)
	}
	run.Live.Namespace = ownNamespace()
	if s := shownAlive(run, now); s.Launcher != 5 {
		t.Errorf("of this one: %+v", s)
	}
	text, err := jsonLine(shownAlive(run, now))
	if err != nil || !strings.HasPrefix(string(text), `{"run_id":"r1","started":"2026-11-24T09:59:00Z","age_seconds":`) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestMeansRun(t *testing.T) {
	t.Parallel()
	const id = "01a23124-30a2-7ade-9e9a-0f861b14a3b2"
	for what, want := range map[string]bool{id: true, "01a23124": true, "1b14a3b2": true, "0f861b14a3b2": true, "01a2312": false, "30a2-7ade": false, "": false, "01a23125": false, id + "0": false} {
		if got := meansRun(what, id); got != want {
			t.Errorf("%q: %t", what, got)
		}
	}
}
