package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const tracker = `'from multiprocessing.resource_tracker import main;main(5)'`

// begun waits for the helper.
const begun = `until [ -e begun ]; do sleep 0.01; done; `

// What still lives when the program has ended is named; what ends at that moment, or has ended, is
// not, nor are the helpers of multiprocessing, which may finish first.
func TestLeft(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, script string
		count        int
		names        []string
		done         bool // the helper has come to its end
	}{
		{"nothing", "exit 3", 0, nil, false},
		{"what was waited for", "sleep 0.01 & wait; exit 3", 0, nil, false},
		{"what has ended and was not waited for", "(exit 0) & sleep 0.1; exit 3", 0, nil, false},
		{"one", "sleep 60 & sleep 0.1; exit 3", 1, []string{"sleep"}, false},
		{"several, one of them detached", "sleep 60 & sleep 61 & (setsid tail -f /dev/null & ) ; sleep 0.05; exit 3", 3, []string{"sleep", "sleep", "tail"}, false},
		{"more than are named", "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; sleep 0.1; exit 3", 8, []string{"sleep", "sleep", "sleep", "sleep", "sleep"}, false},
		{"one that defends itself", "trap '' TERM INT HUP; sleep 60 & sleep 0.1; exit 3", 1, []string{"sleep"}, false},
		{"a helper", `sh -c ': >begun; sleep 0.05; : >done' ` + tracker + ` & ` + begun + `exit 3`, 0, nil, true},
		{"a helper, and another", `sh -c ': >begun; sleep 0.05; : >done' ` + tracker + ` & tail -f /dev/null & ` + begun + `sleep 0.02; exit 3`, 1, []string{"tail"}, true},
		{"a helper that stays", `sh -c ': >begun; read x <never' ` + tracker + ` & ` + begun + `exit 3`, 0, nil, false},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				check(t, unix.Mkfifo(filepath.Join(dir, "never"), 0o600))
				spec := shell(tt.script)
				spec.Method, spec.Dir = m, dir
				out, _ := execute(t, spec)
				slices.Sort(out.Left.Names)
				if out.ExitCode != 3 || out.Left.Count != tt.count || !slices.Equal(out.Left.Names, tt.names) {
					t.Errorf("exit code %d, %+v, want %d %v", out.ExitCode, out.Left, tt.count, tt.names)
				}
				if _, err := os.Stat(filepath.Join(dir, "done")); (err == nil) != tt.done {
					t.Errorf("the helper came to its end: %t", err == nil)
				}
			})
		}
	})
}

// A helper has its moment also after a limit, and nothing of the run outlives it.
func TestLeftAtALimit(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		dir, word := t.TempDir(), mark(t)
		spec := shell(`sh -c 'trap "" TERM; while [ -e /proc/'$$' ]; do sleep 0.01; done; : >done' ` + tracker + ` & tail -f /dev/null ` + word + ` 2>/dev/null & sleep 60; :`)
		spec.Method, spec.Dir, spec.Limits.Wall, spec.Grace = m, dir, 300*time.Millisecond, time.Minute
		out, _ := execute(t, spec)
		if out.Reason != WallLimit || !slices.Contains(out.Left.Names, "tail") {
			t.Errorf("%+v", out)
		}
		if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
			t.Error(err)
		}
		eventually(t, "the rest to end", func() bool { return len(marked(word)) == 0 })
	})
}

// What a program leaves that has to be killed itself is named, too, and the program is not.
func TestLeftOfAKilledProgram(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell("tail -f /dev/null & trap '' TERM; while :; do read x <never; done")
		spec.Method, spec.Dir, spec.Limits.Wall, spec.Grace = m, t.TempDir(), 300*time.Millisecond, 100*time.Millisecond
		check(t, unix.Mkfifo(filepath.Join(spec.Dir, "never"), 0o600))
		if out, _ := execute(t, spec); out.Reason != WallLimit || out.Left.Count != 1 || !slices.Equal(out.Left.Names, []string{"tail"}) {
			t.Errorf("%+v", out)
		}
	})
}

// What starts the helpers, in the Pythons that we know, and what only looks like them.
func TestHelperOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		command        []string
		helper, server bool
	}{
		{[]string{"/usr/bin/python3", "-c", "from multiprocessing.resource_tracker import main;main(5)"}, true, false},
		{[]string{"/usr/bin/python3", "-I", "-X", "utf8", "-c", "from multiprocessing.semaphore_tracker import main;main(3)"}, true, false},
		{[]string{"python", "-m", "x", "-c", "from joblib.externals.loky.backend.resource_tracker import main; main(4, False)"}, true, false},
		{[]string{"python", "-c", "from multiprocessing.forkserver import main; main(6, 7, ['__main__'], **{'sys_path': []})"}, true, true},
		{[]string{"python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)", "--multiprocessing-fork"}, false, false},
		{[]string{"python", "resource_tracker.py", "import main"}, false, false},
		{[]string{"grep", "-r", "multiprocessing.resource_tracker import main"}, false, false},
		{[]string{"python", "-c", "from multiprocessing.resource_tracker import register"}, false, false},
		{[]string{""}, false, false},
	}
	for _, tt := range tests {
		command := strings.Join(tt.command, "\x00") + "\x00"
		if helper, server := helperOf([]byte(command)); helper != tt.helper || server != tt.server {
			t.Errorf("%q: %t, %t", tt.command, helper, server)
		}
	}
	if helper, _ := helperOf(nil); helper { // a kernel thread, or one that has ended
		t.Error("no command line is a helper's")
	}
}

// What is written to files is no memory of the program's, whatever the kernel keeps of it.
func TestPageCacheIsNoMemory(t *testing.T) {
	t.Parallel()
	if raceDetector {
		t.Skip("the race detector takes memory of its own, also of what starts the program")
	}
	need(t, "memory-group")
	spec := grouped(t, shell(`head -c 100m /dev/zero >f; sleep 0.3; kill -SEGV $$`))
	spec.Dir, spec.Limits.Memory = t.TempDir(), 64<<20
	out, _ := run(t, spec)
	if out.Reason != Finished || out.Usage.PeakMemory > 40<<20 || out.Memory.Failed || out.Memory.PerProcess {
		t.Errorf("%+v", out)
	}
}

// What several processes hold at once counts together, where a group counts and where /proc does.
func TestMemoryHeld(t *testing.T) {
	t.Parallel()
	if raceDetector {
		t.Skip("the race detector takes memory of its own, also of what starts the program")
	}
	const script = `for i in 1 2; do (head -c 30m /dev/zero; sleep 0.6) | tail -c 30m >/dev/null & done; wait`
	test := func(spec Spec, grouped bool, out Outcome) {
		t.Helper()
		if out.Usage.PeakMemory < 55<<20 || out.Usage.PeakMemory > 120<<20 || out.Usage.MappedFiles > out.Usage.PeakMemory/10 {
			t.Errorf("group %t: %+v", grouped, out.Usage)
		}
		if out.Memory.PerProcess == grouped || !grouped && (out.Memory.Data < 28<<20 || out.Memory.Data > 60<<20) {
			t.Errorf("group %t: %+v", grouped, out.Memory)
		}
	}
	alone := shell(script)
	alone.Limits.Memory = 256 << 20
	out, _ := execute(t, alone)
	test(alone, false, out)
	need(t, "memory-group")
	spec := grouped(t, shell(script))
	spec.Limits.Memory = 256 << 20
	out, _ = run(t, spec)
	test(spec, true, out)
}
