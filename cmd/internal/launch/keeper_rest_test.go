package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// Nothing of an interpreter runs between two requests, and all of it goes on with the next one.
func TestKeeperStops(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	defer k.Close()
	path := filepath.Join(root, "n")
	code := fmt.Sprintf("import os, threading, time\nn, f = 0, os.open(%q, os.O_CREAT | os.O_WRONLY)\ndef work():\n    global n\n    while True:\n        n += 1\n        os.pwrite(f, b'%%12d' %% n, 0)\n        time.sleep(0.001)\nthreading.Thread(target=work, daemon=True).start()\nwhile n < 3: time.sleep(0.001)", path)
	if r := keep(t, k, root, "", code); r.Status != wire.StatusOK {
		t.Fatal(r.Failure, r.Traceback)
	}
	tasks := fmt.Sprintf("/proc/%d/task/*/stat", interpreterOf(t, k, testJob(t, root, "")))
	eventually(t, "both threads are stopped", func() bool {
		stopped := 0
		paths, _ := filepath.Glob(tasks)
		for _, path := range paths {
			text, _ := os.ReadFile(path)
			if strings.Contains(string(text), ") T ") {
				stopped++
			}
		}
		return stopped == 2
	})
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, k, root, "another", "pass") // some time passes
	if is, err := os.ReadFile(path); err != nil || string(is) != string(was) {
		t.Errorf("stopped at %s, and then %s (%v)", was, is, err)
	}
	if r := keep(t, k, root, "", fmt.Sprintf("while n < %s + 2: time.sleep(0.001)", strings.TrimSpace(string(was)))); r.Status != wire.StatusOK {
		t.Errorf("it does not go on: %s %v", r.Status, r.Failure)
	}
}

// interpreterOf is the process id of the interpreter that is kept for a job.
func interpreterOf(t *testing.T, k *Keeper, job Job) int {
	t.Helper()
	init, _ := k.slots[identityKey(Plan{Job: job})].kept.program.Traces()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", init, init))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatalf("init has no child: %q", text)
	}
	return pid
}

// Code that says itself that its request is over gains next to no time: between two requests it is stopped.
func TestKeeperLie(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	defer k.Close()
	const lie = `
import os, time
for fd in range(3, 70000):
    try: found = os.readlink('/proc/self/fd/%d' % fd).startswith('socket:')
    except OSError: continue
    if found: os.write(fd, bytes(8))
n = 0
while True: n += 1; open('n', 'w').write(str(n)); time.sleep(0.001)
`
	if r := keep(t, k, root, "", lie); r.Status != wire.StatusOK {
		t.Fatal(r.Failure)
	}
	program := k.slots[identityKey(Plan{Job: testJob(t, root, "")})].kept.program
	eventually(t, "it is stopped", program.Stopped)
	if r := keep(t, k, root, "", "pass", func(job *Job) { job.Request.Limits.TimeoutSeconds = 0.3 }); r.Status != wire.StatusTimeout {
		t.Errorf("%s: the next request has no interpreter", r.Status)
	}
	if r := keep(t, k, root, "", "result = 1"); string(r.Result) != "1" {
		t.Error(r.Failure)
	}
}
