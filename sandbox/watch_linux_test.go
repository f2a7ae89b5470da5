package sandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// What ended processes have used is counted once: with the parent that waited for them, or else here.
func TestCPUOfEndedProcesses(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	a, b, c := process{1, "10"}, process{2, "20"}, process{3, "30"}
	again := process{2, "25"} // the number of b, taken anew
	type look = map[process]times
	tests := []struct {
		name  string
		looks []look
		want  time.Duration
	}{
		{"nobody ends", []look{{a: {5 * ms, 0}}, {a: {7 * ms, 0}, b: {9 * ms, 0}}}, 0},
		{"waited for", []look{{a: {0, 0}, b: {500 * ms, 0}}, {a: {0, 520 * ms}}}, 0},
		{"not waited for", []look{{a: {0, 0}, b: {500 * ms, 0}}, {a: {0, 0}}}, 500 * ms},
		{"with all its children", []look{{a: {0, 0}, b: {10 * ms, 200 * ms}, c: {50 * ms, 0}}, {a: {0, 0}}}, 260*ms - leftMost},
		{"the child first, then the parent, both waited for", []look{{a: {0, 0}, b: {10 * ms, 0}, c: {300 * ms, 0}}, {a: {0, 0}, b: {10 * ms, 310 * ms}}, {a: {0, 320 * ms}}}, 0},
		{"the number is taken anew", []look{{a: {0, 0}, b: {400 * ms, 0}}, {a: {0, 0}, again: {100 * ms, 0}}}, 400 * ms},
		{"rounding of many evens out", []look{{a: {0, 0}, b: {20 * ms, 0}}, {a: {0, 30 * ms}, c: {20 * ms, 0}}, {a: {0, 40 * ms}}}, 0},
		{"what no look saw does not pay for much", []look{{a: {0, 0}, b: {600 * ms, 0}}, {a: {0, 10000 * ms}, b: {600 * ms, 0}}, {a: {0, 10000 * ms}}}, 600*ms - leftMost},
	}
	for _, test := range tests {
		var tr tree
		for _, l := range test.looks {
			tr.settle(l)
		}
		if tr.lost != test.want {
			t.Errorf("%s: %v lost, want %v", test.name, tr.lost, test.want)
		}
	}
}

// A parent that ignores SIGCHLD does not hide what its children use.
func TestCPUOfTheUnwaited(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := command("unwaited", "40", "500")
		spec.Method, spec.Limits.CPU = m, 2*time.Second
		out, r := execute(t, spec)
		if out.Reason != CPULimit || out.Used < 2 || out.Usage.CPU < 2*time.Second {
			t.Errorf("outcome %+v", out)
		}
		if !lacks(r.Protection(), "cpu-accounting") {
			t.Errorf("protection %+v", r.Protection())
		}
	})
}

// Where /proc hides the run, nothing is guessed: what cannot be watched is missing, and no run is
// idle for that.
func TestHiddenProcesses(t *testing.T) {
	t.Parallel()
	need(t, "root")
	text, err := helper("blind").Output()
	var got Outcome
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if got.Reason != Finished || got.ExitCode != 3 {
		t.Errorf("outcome %+v", got)
	}
	for _, name := range []string{"cpu-limit", "idle-limit", "process-limit"} {
		if slices.Contains(got.Protection.Enforced, name) || !lacks(got.Protection, name) {
			t.Errorf("%s: protection %+v", name, got.Protection)
		}
	}
	if slices.Contains(got.Protection.Enforced, "process-watch") || !slices.Contains(got.Protection.Enforced, "cpu-limit-per-process") {
		t.Errorf("enforced %q", got.Protection.Enforced)
	}
}

// The disk is looked at at every look, and rests after one that takes long.
func TestDiskLooks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		takes         time.Duration
		least, atMost int // in twenty looks, one each sampleEvery
	}{{"quick", 0, 18, 20}, {"slow", 2 * sampleEvery, 0, 1}} {
		n := int64(0)
		w := watch{limits: Limits{Disk: 1000}, spawn: spawned, disk: func() int64 { time.Sleep(c.takes); n++; return n }}
		now, looks, last := time.Now(), 0, int64(0)
		for range 20 {
			if used, known := w.lookDisk(now); known {
				looks, last = looks+1, used
			}
			if w.measuring != nil && c.takes == 0 {
				for end := time.Now().Add(time.Minute); len(w.measuring) == 0 && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
			}
			now = now.Add(sampleEvery)
		}
		w.finish()
		if looks < c.least || looks > c.atMost || int(last) != looks {
			t.Errorf("%s: %d looks, the last saw %d", c.name, looks, last)
		}
	}
}

// A file without a name takes its room as well, as long as it is open.
func TestDiskOfUnlinkedFiles(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		w, err := MakeWorkdir(Dir{Path: filepath.Join(t.TempDir(), "run"), Private: m == Namespace})
		check(t, err)
		defer w.Remove()
		spec := shell("exec 9> f; rm f; head -c 3000000 /dev/zero >&9; exec 8> g; sleep 60")
		spec.Method, spec.Dir, spec.Limits.Disk = m, w.Path(), 3e6-1 // passed by the last block only, whenever a look comes
		r, err := Start(spec, IO{Stdout: os.Stdout, Stderr: os.Stderr, Workdir: w}, OwnChild)
		check(t, err, r.Release())
		out := r.Wait(nil, func() int64 { return w.Measure(false, 0).Bytes })
		if out.Reason != DiskLimit || out.Used < 3e6 || out.Used > 4e6 {
			t.Errorf("outcome %+v, want the disk limit at three megabytes", out)
		}
	})
}

// Root without CAP_SYS_ADMIN has a user namespace too, in which all users are what they are.
func TestUserNamespaceOfRoot(t *testing.T) {
	t.Parallel()
	need(t, "root")
	need(t, "userns")
	file := filepath.Join(t.TempDir(), "f")
	check(t, os.WriteFile(file, nil, 0o600))
	text, err := helper("weak", "chown 1234:1235 "+file+" && stat -c %u:%g "+file+" && readlink /proc/self/ns/user").CombinedOutput()
	host, _ := os.Readlink("/proc/self/ns/user")
	if want := "1234:1235\nuser:"; err != nil || len(text) < len(want) || string(text[:len(want)]) != want || string(text[len("1234:1235\n"):]) == host+"\n" {
		t.Errorf("%v: %q", err, text)
	}
}

// spawned stands for Running.spawn.
func spawned(do, done func()) {
	go func() {
		defer done()
		do()
	}()
}
