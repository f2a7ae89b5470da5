package launch

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/warm"
	"py3run/cmd/internal/wire"
)

// keep runs a code for a user, and returns the result.
func keep(t *testing.T, k *Keeper, root, user, code string, change ...func(*Job)) wire.Result {
	t.Helper()
	job := testJob(t, root, code)
	job.Request.User = user
	for _, c := range change {
		c(&job)
	}
	answer := k.Run(job)
	if err := answer.Sweep(); err != nil {
		t.Error(err)
	}
	return answer.Result
}

func warned(r wire.Result, code string) (message string) {
	for _, w := range r.Warnings {
		if w.Code == code {
			message = w.Message
		}
	}
	return message
}

// A ninth identity takes the place of the one that was not used for the longest time.
func TestKeeperEviction(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	defer k.Close()
	for i := range keptMost {
		keep(t, k, root, fmt.Sprint("user", i), "x = 1")
	}
	keep(t, k, root, "user0", "pass") // so user1 is the oldest
	keep(t, k, root, "user8", "x = 1")
	if names := k.Identities(); len(names) != keptMost || slices.Contains(names, identityKey(Plan{Job: asserted("user1")})) || !slices.Contains(names, identityKey(Plan{Job: asserted("user0")})) {
		t.Errorf("%q", names)
	}
	if r := keep(t, k, root, "user0", "result = x"); string(r.Result) != "1" || warned(r, "state_lost") != "" {
		t.Errorf("%s %v", r.Result, r.Warnings)
	}
	r := keep(t, k, root, "user1", "result = 'x' in globals()")
	if string(r.Result) != "false" || !strings.Contains(warned(r, "state_lost"), "8 other users") {
		t.Errorf("%s %v", r.Result, r.Warnings)
	}
}

// A request to a kept interpreter can be seen and cancelled, as any run.
func TestKeeperCancel(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	defer k.Close()
	named := func(job *Job) { job.Request.Labels = &wire.Object{Names: []string{"name"}, Values: []any{"it"}} }
	keep(t, k, root, "", "x = 1")
	done := make(chan wire.Result, 1)
	go func() { done <- keep(t, k, root, "", "import time; time.sleep(600)", named) }()
	cancel(t, root, alive(t, root, 1)["it"].Start.RunID)
	if r := <-done; r.Status != wire.StatusCancelled || r.Failure.Code != "cancelled_by_operator" || warned(r, "state_lost") == "" {
		t.Errorf("%s %+v %v", r.Status, r.Failure, r.Warnings)
	}
}

// Files are put in and handed back for each request; a later one replaces files of its names.
func TestKeeperFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	defer k.Close()
	with := func(files ...wire.File) func(*Job) {
		return func(job *Job) {
			request, _, err := wire.Decode([]byte(`{"code": "", "collect": ["*.txt"]}`))
			if err != nil {
				t.Fatal(err)
			}
			job.Request.Files, job.Request.Collect = files, request.Collect
		}
	}
	text := func(r wire.Result, name string) string {
		if f, ok := r.Files[name]; ok && f.Text != nil {
			return *f.Text
		}
		return "none"
	}
	r := keep(t, k, root, "", "x = 1; open('out.txt', 'w').write(open('in.txt').read().upper())", with(wire.File{Name: "in.txt", Content: "abc"}))
	if text(r, "in.txt") != "abc" || text(r, "out.txt") != "ABC" {
		t.Errorf("%s %+v %v", r.Status, r.Failure, r.Files)
	}
	r = keep(t, k, root, "", "result = x; import os; os.mkdir('d'); os.remove('out.txt'); os.symlink('/etc/passwd', 'out.txt')", with(wire.File{Name: "in.txt", Content: "new"}))
	if text(r, "in.txt") != "new" || text(r, "out.txt") != "none" || string(r.Result) != "1" || warned(r, "not_collected") == "" {
		t.Errorf("%s %+v %v %v", r.Status, r.Failure, r.Files, r.Warnings)
	}
	r = keep(t, k, root, "", "result = x", with(wire.File{Name: "out.txt", Content: "mine"}))
	if text(r, "out.txt") != "mine" {
		t.Errorf("%s %+v %v", r.Status, r.Failure, r.Files)
	}
	if r = keep(t, k, root, "", "result = x", with(wire.File{Name: "d", Content: ""})); r.Status != wire.StatusLaunchFailed || r.Failure.Step != "put" {
		t.Errorf("%s %+v", r.Status, r.Failure)
	}
	few := func(job *Job) { job.Request.Limits.DiskMB = 0.1 }
	if r = keep(t, k, root, "", "result = x", with(wire.File{Name: "large", Content: strings.Repeat("x", 1<<20)}), few); r.Status != wire.StatusDiskLimit {
		t.Errorf("%s %+v", r.Status, r.Failure)
	}
	if r = keep(t, k, root, "", "result = x; import shutil; shutil.rmtree('d'); os.remove('in.txt'); open('out.txt', 'w').write('old')", with()); string(r.Result) != "1" || text(r, "out.txt") != "old" {
		t.Errorf("%s %+v", r.Status, r.Failure)
	}
	r = keep(t, k, root, "", "open('late.txt', 'w').write('late'); open('lost', 'w').close(); os._exit(0)", with())
	if text(r, "late.txt") != "late" || text(r, "out.txt") != "old" || !strings.Contains(warned(r, "files_discarded"), "1 file ") {
		t.Errorf("%s %+v %v %v", r.Status, r.Failure, r.Files, r.Warnings)
	}
}

// A request that is refused has the same answer whether there is an interpreter already or not.
func TestKeeperRefuses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	defer k.Close()
	large := func(job *Job) {
		job.Request.Files = []wire.File{{Name: "large", Content: strings.Repeat("x", 1<<20)}}
		job.Request.Limits.DiskMB, job.Request.Limits.TimeoutSeconds = 0.1, 1e6
	}
	first := keep(t, k, root, "", "pass", large)
	if first.Status != wire.StatusDiskLimit || warned(first, "clamped_limit") == "" {
		t.Fatalf("%s %+v %v", first.Status, first.Failure, first.Warnings)
	}
	keep(t, k, root, "", "x = 1")
	later := keep(t, k, root, "", "pass", large)
	if later.Status != first.Status || !reflect.DeepEqual(later.Failure, first.Failure) || !reflect.DeepEqual(later.Limits, first.Limits) || !slices.Equal(later.Warnings, first.Warnings) {
		t.Errorf("%s %+v %+v %v, want %s %+v %+v %v", later.Status, later.Failure, later.Limits, later.Warnings, first.Status, first.Failure, first.Limits, first.Warnings)
	}
	if r := keep(t, k, root, "", "result = x"); string(r.Result) != "1" {
		t.Errorf("the refusal has ended the interpreter: %v", r.Warnings)
	}
}

func asserted(user string) Job { return Job{Request: wire.Request{User: user}} }

// An interpreter that nobody uses ends, and its user is told.
func TestKeeperIdle(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	defer k.Close()
	soon := func(job *Job) { job.Config.Security.IdleTimeoutSeconds = 0.2 }
	keep(t, k, root, "", "f = open('out', 'w'); f.write('buffered')", soon)
	dir := k.slots[identityKey(Plan{Job: testJob(t, root, "")})].kept.plan.Dir
	eventually(t, "it has ended", func() bool { return len(k.Identities()) == 0 })
	k.ending.Wait()
	if names := left(root); len(names) > 0 {
		t.Errorf("%s is left: %s", dir.Path, names)
	}
	if r := keep(t, k, root, "", "result = 'f' in globals()", soon); string(r.Result) != "false" || !strings.Contains(warned(r, "state_lost"), "idle-timeout") {
		t.Errorf("%s %v", r.Result, r.Warnings)
	}
}

// What an open file has in its buffer is written when an interpreter ends; functions of the code do not run.
func TestKeeperEnd(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	path := filepath.Join(root, "out")
	r := keep(t, k, root, "", fmt.Sprintf("f = open(%q, 'w'); f.write('buffered')\nimport atexit; atexit.register(print, 'late', file=open(%q, 'w'))\nclass A:\n    def __del__(self): open(%q, 'w')\na = A()", path, path+"-late", path+"-del"))
	if r.Status != wire.StatusOK {
		t.Fatal(r.Failure)
	}
	for _, err := range k.Close() {
		t.Error(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "buffered" {
		t.Errorf("%q", text)
	}
	if text, _ := os.ReadFile(path + "-late"); len(text) > 0 {
		t.Errorf("an atexit function has run: %q", text)
	}
	if _, err := os.Stat(path + "-del"); err == nil {
		t.Error("a finalizer has run")
	}
	if r := keep(t, k, root, "", "result = 1"); string(r.Result) != "1" || warned(r, "not_kept") == "" || len(k.Identities()) > 0 {
		t.Errorf("after the end: %s %v", r.Result, r.Warnings)
	}
}

// clear_globals gives the next request of that identity new globals; modules stay.
func TestKeeperClear(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	defer k.Close()
	for _, user := range []string{"ann", "bob"} {
		keep(t, k, root, user, "import colorsys; colorsys.mark = 1; x = result = 1")
	}
	k.Clear(asserted("ann"))
	k.Clear(asserted("nobody"))
	const code = "import colorsys; result = ['x' in globals(), hasattr(colorsys, 'mark')]"
	for user, want := range map[string]string{"ann": "[false,true]", "bob": "[true,true]"} {
		if r := keep(t, k, root, user, code); string(r.Result) != want || len(r.Warnings) > 0 {
			t.Errorf("%s: %s %v, want %s", user, r.Result, r.Warnings, want)
		}
	}
	if r := keep(t, k, root, "ann", "y"); r.Status != wire.StatusError {
		t.Error(r.Status)
	}
}

// Each request has two records of its own, and the log is whole.
func TestKeeperRecords(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	var want []string
	for i, code := range []string{"import subprocess; x = 1", "import subprocess, time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass", "open('/dev/shm/f', 'w').close()", "import os; os._exit(3)", "pass", "("} {
		r := keep(t, k, root, fmt.Sprint("user", i%2), code)
		want = append(want, r.RunID)
	}
	for _, err := range k.Close() {
		t.Error(err)
	}
	reader, err := audit.OpenReader(filepath.Join(root, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	report, err := reader.Verify(audit.Check{})
	if err != nil || len(report.Findings) > 0 || report.Alive > 0 {
		t.Errorf("%v %+v", err, report)
	}
	var starts []string
	ends := map[string]audit.Record{}
	for line, err := range reader.Records(audit.Position{}) {
		rec, bad := line.Record()
		if err != nil || bad != nil {
			t.Fatal(err, bad)
		}
		switch rec.Event.Action {
		case audit.ExecutionStart:
			starts = append(starts, rec.RunID)
		case audit.ExecutionEnd:
			ends[rec.RunID] = rec
		}
	}
	if !slices.Equal(starts, want) || len(ends) != len(want) {
		t.Fatalf("starts of %q, %d ends, want %q", starts, len(ends), want)
	}
	flagged := func(i int) bool { return len(ends[want[i]].Hooks.FlaggedImports) > 0 }
	if !flagged(0) || !flagged(1) || flagged(2) {
		t.Error("the flagged imports are not those of each request")
	}
	if busy, other := ends[want[1]].Process.CPUMS, ends[want[4]].Process.CPUMS; busy < 250 || other > 250 {
		t.Errorf("%d ms and %d ms of processor time", busy, other)
	}
	if files := ends[want[2]].Hooks.FilesWritten; !slices.Equal(files, []string{"/dev/shm/f"}) {
		t.Errorf("files: %q", files)
	}
	if end := ends[want[3]]; end.Status != "exit" || *end.Process.ExitCode != 3 || end.User.Name != "user1" {
		t.Errorf("%+v", end)
	}
	if end := ends[want[5]]; end.Status != "error" || end.Code.Bytes != 1 {
		t.Errorf("%+v", end)
	}
}

// Jobs of several identities run at the same time, those of one wait for each other.
func TestKeeperAtOnce(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			r := keep(t, k, root, fmt.Sprint("user", i%3), "import time; n = globals().get('n', 0) + 1; time.sleep(0.01); print(n)")
			if r.Status != wire.StatusOK {
				t.Error(r.Failure)
			}
		})
	}
	all.Wait()
	for i := range 3 {
		if r := keep(t, k, root, fmt.Sprint("user", i), "result = n"); string(r.Result) != "4" {
			t.Errorf("%s %v", r.Result, r.Failure)
		}
	}
	for _, err := range k.Close() {
		t.Error(err)
	}
}

// Without a pid namespace nothing can stop what a request leaves, so the interpreter ends with it.
func TestKeeperWithoutNamespaces(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := NewKeeper()
	defer k.Close()
	process := func(job *Job) { job.Config.Security.Isolation.Method = "process" }
	keep(t, k, root, "", "x = 1", process)
	if r := keep(t, k, root, "", "result = x\ndef f(): pass", process); string(r.Result) != "1" || warned(r, "state_lost") != "" {
		t.Errorf("%s %v", r.Result, r.Warnings)
	}
	if r := keep(t, k, root, "", "import subprocess; p = subprocess.Popen(['sleep', '60']); result = f()", process); r.Status != wire.StatusOK || !strings.Contains(warned(r, "state_lost"), "pid namespace") {
		t.Errorf("%s %v", r.Status, r.Warnings)
	}
	if r := keep(t, k, root, "", "result = 'x' in globals()", process); string(r.Result) != "false" {
		t.Errorf("%s %v", r.Result, r.Warnings)
	}
}

// A fault ends the interpreter, and not more.
func TestKeeperFault(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"started", "recorded", "ended", "judged"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			k := NewKeeper()
			keep(t, k, root, "", "x = 1")
			once := false
			r := keep(t, k, root, "", "x = 2", func(job *Job) {
				job.testOnlyReached = func(s string) {
					if s == step && !once {
						once = true
						panic("a fault of ours")
					}
				}
			})
			if r.Status != wire.StatusInternal {
				t.Errorf("%s %v", r.Status, r.Failure)
			}
			if r := keep(t, k, root, "", "result = 'x' in globals()"); string(r.Result) != "false" || warned(r, "state_lost") == "" {
				t.Errorf("%s %v", r.Result, r.Warnings)
			}
			for _, err := range k.Close() {
				t.Error(err)
			}
			if names := left(root); len(names) > 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
}

// Some hundred requests leave no descriptor, no goroutine and no memory.
func TestKeeperLeaks(t *testing.T) {
	root := t.TempDir()
	k := NewKeeper()
	codes := []string{"x = [1] * 1000; result = x", "def f(): return len(x)\nprint(f(), end='')", "import os; pid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)", "1/0", "import threading; t = threading.Thread(target=print, args=(1,)); t.start(); t.join()", "result = 'a' * 300000"}
	measure := func() (files, goroutines int, memory int64, pages string) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		r := keep(t, k, root, "", "import os, re; result = [len(os.listdir('/proc/self/fd')), int(open('/proc/self/statm').read().split()[1]), len(os.listdir(os.path.dirname(os.getcwd())))]")
		return len(descriptorsOf(t)), runtime.NumGoroutine(), int64(m.HeapAlloc), string(r.Result)
	}
	round := func(n int) {
		for i := range n {
			keep(t, k, root, "", codes[i%len(codes)])
		}
	}
	round(20 * len(codes))
	files, goroutines, memory, pages := measure()
	round(50 * len(codes))
	files2, goroutines2, memory2, pages2 := measure()
	if files2 > files || goroutines2 > goroutines+2 || memory2 > memory+1<<20 {
		t.Errorf("%d, then %d descriptors; %d, then %d goroutines; %d, then %d bytes", files, files2, goroutines, goroutines2, memory, memory2)
	}
	var was, is [3]int
	fmt.Sscanf(pages, "[%d,%d,%d]", &was[0], &was[1], &was[2])
	fmt.Sscanf(pages2, "[%d,%d,%d]", &is[0], &is[1], &is[2])
	if is[0] != was[0] || is[1] > was[1]+1500 || is[2] > codeFilesMost+4 {
		t.Errorf("in the interpreter: %v, then %v: descriptors, pages, files", was, is)
	}
	for _, err := range k.Close() {
		t.Error(err)
	}
	if names := left(root); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

// A start that fails before it uses its worker leaves no descriptor of it open.
func TestKeeperStartFails(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection would close them, at some time
	root := t.TempDir()
	series := NewSeries(true)
	defer series.Close()
	job := testJob(t, root, "")
	job.Series, job.Config.Warm.Enabled, job.Config.Warm.Spares = series, true, 1
	job.Request.Files = []wire.File{{Name: "f"}, {Name: "f/g"}}
	plan, early, done := prepare(Plan{Job: job, RunID: newRunID(job.Began)})
	if done {
		t.Fatalf("%+v", early.Refused.failure)
	}
	setup, wanted := plan.template()
	if !wanted {
		t.Fatal("no template is wanted")
	}
	var lease *warm.Lease
	eventually(t, "there is a worker", func() bool { lease = series.templates.Take(setup); return lease != nil })
	before := descriptorsOf(t)
	k := &kept{run: run{plan: plan}}
	if err := k.start(lease); err == nil {
		t.Error("it has started")
	}
	for _, err := range k.held.release(0) {
		t.Error(err)
	}
	// Those to its init and its program are sockets, which have numbers of their own. The template makes
	// another worker meanwhile, so the number of descriptors says nothing.
	eventually(t, "the worker's sockets are closed", func() bool {
		now, gone := descriptorsOf(t), 0
		for _, d := range before {
			if strings.HasPrefix(d, "socket:") && !slices.Contains(now, d) {
				gone++
			}
		}
		return gone >= 2
	})
}

// eventually waits until a condition holds, for a minute.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for a minute until %s", what)
		}
	}
}

// Identities lists the identities that have an interpreter, the one that was used last first.
func (k *Keeper) Identities() (names []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []*slot
	for _, s := range k.slots {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *slot) int { return cmp.Compare(b.used.UnixNano(), a.used.UnixNano()) })
	for _, s := range list {
		names = append(names, s.identity)
	}
	return names
}
