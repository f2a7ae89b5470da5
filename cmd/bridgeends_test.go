package cmd_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// processes are all that a process has started, directly and indirectly, with the times of their starts.
func processes(pid int) map[string]string {
	all := map[string]string{}
	for _, child := range children(pid) {
		all[child] = startTime(child)
		n, _ := strconv.Atoi(child)
		for more, at := range processes(n) {
			all[more] = at
		}
	}
	return all
}

// startTime is when a process started; empty if it is gone or only waits to be reaped.
func startTime(pid string) string {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if err != nil || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// awaitGone waits until none of the processes lives.
func awaitGone(t *testing.T, all map[string]string) {
	t.Helper()
	waitUntil(t, "nothing is left of the bridge", func() bool {
		for pid, at := range all {
			if at != "" && startTime(pid) == at {
				return false
			}
		}
		return true
	})
}

// busy starts a request that never ends, and returns when its code runs.
func (c *client) busy(p place, before string) {
	c.t.Helper()
	began := filepath.Join(p.dir, "began")
	os.Remove(began)
	c.say(string(mustJSON(c.t, map[string]string{"code": fmt.Sprintf("import time\n%s\nopen(%q, 'w').close()\nwhile True: time.sleep(1)", before, began)})) + "\n")
	waitUntil(c.t, "the code runs", func() bool { _, err := os.Stat(began); return err == nil })
}

// A bridge ends in each of these ways, with the request under way, and leaves nothing: no process, no run without an end, no directory.
func TestBridgeEnds(t *testing.T) {
	t.Parallel()
	const ignoring = "import signal; signal.signal(15, signal.SIG_IGN)"
	kill := func(s syscall.Signal) func(*client) {
		return func(c *client) { c.command.Process.Signal(s) }
	}
	for _, tt := range []struct {
		name   string
		busy   bool
		before string // what the code of the request under way does first
		end    func(*client)
		reply  string // the code of the failure of the request under way; empty: nobody can read it
		code   int
	}{
		{name: "shutdown", end: func(c *client) {
			if r := c.ask(`{"command": "shutdown"}`); r.Result != "shutting down" {
				c.t.Errorf("%+v", r)
			}
		}},
		{name: "the end of the input", end: func(c *client) { c.in.Close() }},
		{name: "the end of the input within a line", end: func(c *client) { c.say(`{"command": `); c.in.Close() }},
		{name: "SIGTERM", end: kill(syscall.SIGTERM), code: 143},
		{name: "SIGINT", end: kill(syscall.SIGINT), code: 130},
		{name: "nobody reads any more", end: func(c *client) { c.out.Close() }},
		{name: "SIGTERM, within a line", end: func(c *client) { c.say(`{"command": `); c.command.Process.Signal(syscall.SIGTERM) }, code: 143},
		{name: "SIGTERM, with a request", busy: true, end: kill(syscall.SIGTERM), reply: "cancelled", code: 143},
		{name: "two SIGTERM, with a request that ignores it", busy: true, before: ignoring, reply: "cancelled", code: 143, end: func(c *client) {
			for range 2 {
				c.command.Process.Signal(syscall.SIGTERM)
				waitUntil(c.t, "the signal has arrived", func() bool { return !pending(c.command.Process.Pid, syscall.SIGTERM) })
			}
		}},
		{name: "nobody reads any more, with a request", busy: true, end: func(c *client) { c.out.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.env = append(p.env, "PY3RUN_SECURITY_ISOLATION_WORKING_DIR="+filepath.Join(p.dir, "w", "${executionId}"))
			c := newClient(t, p, nil)
			c.warm(p)
			if tt.busy {
				c.busy(p, tt.before)
			}
			all := processes(c.command.Process.Pid)
			tt.end(c)
			if tt.reply != "" {
				if r := c.reply(); r.Success || r.Failure.Code != tt.reply {
					t.Errorf("%+v", r)
				}
			}
			c.command.Wait()
			if code := c.command.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			awaitGone(t, all)
			nothingLeft(t, p)
		})
	}
}

// nothingLeft checks that each run in the log has an end, and that the directories are gone.
func nothingLeft(t *testing.T, p place) {
	t.Helper()
	var starts, ends int
	for _, line := range logLines(t, p.dir) {
		starts += strings.Count(line, `"action":"execution-start"`)
		ends += strings.Count(line, `"action":"execution-end"`)
	}
	if runs, err := os.ReadDir(filepath.Join(p.dir, "audit", "runs")); starts == 0 || starts != ends || err != nil || len(runs) > 0 {
		t.Errorf("%d starts, %d ends, and runs has %v (%v)", starts, ends, runs, err)
	}
	if left, _ := os.ReadDir(filepath.Join(p.dir, "w")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A bridge ends with the process that has started it, although another process holds its pipes, and cancels the request under way.
func TestBridgeEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := newClient(t, p, []string{"/bin/sh", "-c", `exec 3<&0; "$0" "$@" <&3 & wait`})
	c.warm(p)
	c.busy(p, "")
	all := processes(c.command.Process.Pid)
	c.command.Process.Kill()
	if r := c.reply(); r.Failure.Code != "cancelled" {
		t.Errorf("%+v", r)
	}
	awaitGone(t, all)
	nothingLeft(t, p)
}

// A bridge that is killed leaves no process, and the next run removes what else it has left.
func TestBridgeKilled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.env = append(p.env, "PY3RUN_SECURITY_ISOLATION_WORKING_DIR="+filepath.Join(p.dir, "w", "${executionId}"))
	c := newClient(t, p, nil)
	warm := c.warm(p)
	c.busy(p, "")
	all := processes(c.command.Process.Pid)
	groups := groupsOf(all)
	c.command.Process.Kill()
	c.command.Wait()
	awaitGone(t, all)
	left, _ := os.ReadDir(filepath.Join(p.dir, "w"))
	if warm && len(left) < 2 { // the run, and the note of the template
		t.Errorf("nothing is left to be removed: %v", left)
	}
	next := p.command("exec", "--audit-line=off")
	next.Stdin = strings.NewReader(`{"code": ""}`)
	if out, err := next.Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if left, _ := os.ReadDir(filepath.Join(p.dir, "w")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, group := range groups {
		if _, err := os.Stat(group); err == nil {
			t.Errorf("left: %s", group)
		}
	}
	log, _ := os.ReadFile(filepath.Join(p.dir, "audit", "audit.jsonl"))
	if n := bytes.Count(log, []byte(`"execution-orphaned"`)); n != 1 {
		t.Errorf("%d runs are recorded as orphaned, want 1", n)
	}
}

// groupsOf are the directories of the control groups that processes are in.
func groupsOf(all map[string]string) (dirs []string) {
	for pid := range all {
		text, _ := os.ReadFile("/proc/" + pid + "/cgroup")
		for line := range strings.Lines(string(text)) {
			if name := filepath.Base(strings.TrimSpace(line)); strings.HasPrefix(name, "py3run-") {
				found, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
				more, _ := filepath.Glob("/sys/fs/cgroup/" + name)
				dirs = append(append(dirs, found...), more...)
			}
		}
	}
	return dirs
}
