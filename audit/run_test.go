package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

func begin(t *testing.T, l *Log, id string) *Run {
	t.Helper()
	run, _, err := l.Begin(startRecord(id))
	must(t, err)
	return run
}

func runsOf(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, runsName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestRun(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	run := begin(t, l, "r1")
	if got := runsOf(t, dir); got != "r1" {
		t.Errorf("runs under way: %q", got)
	}
	must(t, l.Recover()) // it lives
	receipt, err := run.End(endRecord("r1"))
	must(t, err)
	if receipt.Seq != 2 || runsOf(t, dir) != "" {
		t.Errorf("end has seq %d, runs %q are left", receipt.Seq, runsOf(t, dir))
	}
	if got := actions(verify(t, dir)); got != "execution-start execution-end" {
		t.Errorf("records %s", got)
	}
	for _, id := range []string{"", "..", "a/b", strings.Repeat("a", 65), "r 1"} {
		if _, _, err := l.Begin(startRecord(id)); err == nil {
			t.Errorf("run id %q was taken", id)
		}
	}
	again := begin(t, l, "r2")
	if _, _, err := l.Begin(startRecord("r2")); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second run of the same id: %v", err)
	}
	_, err = again.End(endRecord("r2"))
	must(t, err)
	if got := len(verify(t, dir)); got != 4 {
		t.Errorf("%d records, want 4", got)
	}
}

// What a writer that died has left unwritten is written once, by the next one.
func TestRecover(t *testing.T) {
	t.Parallel()
	const start, end, orphaned = "execution-start", "execution-end", "execution-orphaned"
	dies := func(t *testing.T, dir string) {
		c := childCommand(t, "begin", dir)
		in, err := c.StdinPipe()
		must(t, err)
		defer in.Close()
		out, err := c.StdoutPipe()
		must(t, err, c.Start())
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		must(t, c.Process.Kill())
		c.Wait()
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string, l *Log)
		want string // actions
		rest string // files in runs
	}{
		{"killed", func(t *testing.T, dir string, l *Log) { dies(t, dir) }, start + " " + orphaned, ""},
		{"killed, and others went on", func(t *testing.T, dir string, l *Log) {
			dies(t, dir)
			for i := range 9 {
				l.segmentMost = 3000
				_, err := begin(t, l, fmt.Sprint("r", i)).End(endRecord(fmt.Sprint("r", i)))
				must(t, err)
			}
		}, start + strings.Repeat(" "+start+" "+end, 9) + " " + orphaned, ""},
		{"killed after its end record", func(t *testing.T, dir string, l *Log) {
			dies(t, dir)
			mustAppend(t, l, endRecord("dies"))
		}, start + " " + end, ""},
		{"killed before its start record", func(t *testing.T, dir string, l *Log) {
			mustAppend(t, l, startRecord("other"))
			must(t, os.Mkdir(filepath.Join(dir, runsName), 0o700),
				os.WriteFile(filepath.Join(dir, runsName, "dies"), []byte(`{"v":1,"seq":2,"run_id":"dies"}`+"\n"), 0o600))
		}, start, ""},
		{"killed before its start record, whose seq another one got", func(t *testing.T, dir string, l *Log) {
			mustAppend(t, l, startRecord("other"))
			mustAppend(t, l, startRecord("another"))
			must(t, os.Mkdir(filepath.Join(dir, runsName), 0o700),
				os.WriteFile(filepath.Join(dir, runsName, "dies"), []byte(`{"v":1,"seq":1,"run_id":"dies"}`+"\n"), 0o600))
		}, start + " " + start, ""},
		{"half a line, nothing, and what is no run", func(t *testing.T, dir string, l *Log) {
			mustAppend(t, l, startRecord("other"))
			runs := filepath.Join(dir, runsName)
			must(t, os.Mkdir(runs, 0o700), os.WriteFile(filepath.Join(runs, "half"), []byte(`{"v":1,"se`), 0o600), os.WriteFile(filepath.Join(runs, "empty"), nil, 0o600),
				unix.Mkfifo(filepath.Join(runs, "pipe"), 0o600), os.Mkdir(filepath.Join(runs, "dir"), 0o700), os.Symlink("/etc/passwd", filepath.Join(runs, "link")))
		}, start, "dir link pipe"},
		{"killed, and a line too long for a record follows", func(t *testing.T, dir string, l *Log) {
			dies(t, dir)
			mustAppend(t, l, startRecord("other"))
			current := filepath.Join(dir, currentName)
			text, err := os.ReadFile(current)
			must(t, err)
			first, rest, _ := strings.Cut(string(text), "\n")
			must(t, os.WriteFile(current, []byte(first+"\n"+strings.Repeat("x", 2<<20)+"\n"+rest), 0o600), l.Recover())
			text, err = os.ReadFile(current)
			must(t, err, os.WriteFile(current, []byte(strings.ReplaceAll(string(text), strings.Repeat("x", 2<<20)+"\n", "")), 0o600))
		}, start + " " + start + " " + orphaned, ""},
		{"lives", func(t *testing.T, dir string, l *Log) {
			run := begin(t, l, "lives")
			t.Cleanup(func() { run.End(endRecord("lives")) })
		}, start, "lives"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			l := openLog(t, dir)
			must(t, l.Recover()) // nothing there at all
			c.do(t, dir, l)
			must(t, l.Recover(), l.Recover())
			records := verify(t, dir)
			if got := actions(records); got != c.want {
				t.Errorf("records %s, want %s", got, c.want)
			}
			if got := runsOf(t, dir); got != c.rest {
				t.Errorf("left in runs: %q, want %q", got, c.rest)
			}
			last := records[len(records)-1]
			if event := last["event"].(map[string]any); event["action"] == orphaned {
				user, code := last["user"].(map[string]any), last["code"].(map[string]any)
				if last["run_id"] != "dies" || user["name"] != "alice" || code["bytes"] != json.Number("1843") || event["reason"] != "host-restarted" || event["outcome"] != "unknown" {
					t.Errorf("record %v", last) // the boot in startRecord is not this one
				}
			}
		})
	}
}

// An end record that does not get into the log is there after the next Recover, with the time it should have had.
func TestEndIsKept(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	run := begin(t, l, "r1")
	lock, err := l.lock()
	must(t, err)
	l.patience = 20 * time.Millisecond
	_, err = run.End(endRecord("r1"))
	kept := new(KeptError)
	if !errors.As(err, &kept) || !errors.Is(err, ErrLocked) || kept.Path != filepath.Join(dir, runsName, "r1") {
		t.Fatalf("error %v, want a KeptError", err)
	}
	filelock.Release(lock)
	l.patience = patient
	must(t, l.Recover())
	records := verify(t, dir)
	if got := actions(records); got != "execution-start execution-end" || runsOf(t, dir) != "" {
		t.Fatalf("records %s, left in runs: %q", got, runsOf(t, dir))
	}
	event := records[1]["event"].(map[string]any)
	ended, err := time.Parse(timeLayout, fmt.Sprint(event["end"]))
	written, err2 := time.Parse(timeLayout, fmt.Sprint(records[1]["@timestamp"]))
	if err != nil || err2 != nil || !written.After(ended) || records[1]["status"] != "ok" || event["duration_ns"] != json.Number("1272375000") {
		t.Errorf("record %v", records[1])
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	l.segmentMost = 5000
	for i := range 20 {
		id := fmt.Sprint("r", i)
		_, err := begin(t, l, id).End(endRecord(id))
		must(t, err)
	}
	if got := len(verify(t, dir)); got != 40 {
		t.Errorf("%d records, want 40", got)
	}
	names, err := l.segments()
	must(t, err)
	if len(names) < 5 {
		t.Errorf("segments %q of %d bytes each", names, l.segmentMost)
	}
	for _, name := range append(names, currentName) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		first, _, ok := firstKeys(text)
		if !ok || name != currentName && name != segmentName(first) || !strings.Contains(strings.SplitAfter(string(text), "\n")[0], "execution-start") {
			t.Errorf("%s begins with %.200s", name, text)
		}
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(dir, name), &st))
		if name != currentName && st.Blocks*512 > st.Size+8192 {
			t.Errorf("%s has %d bytes and keeps %d", name, st.Size, st.Blocks*512)
		}
	}
}

func TestRotationByAge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		age  time.Duration
		want int // closed segments
	}{{segmentAge - time.Hour, 0}, {segmentAge + time.Second, 1}, {-time.Hour, 0}} {
		dir := logDir(t)
		l := openLog(t, dir)
		line := fmt.Sprintf(`{"v":1,"@timestamp":%q,"event":{"action":"execution-start","outcome":"unknown"},"seq":1,"prev":%q}`, time.Now().Add(-c.age).UTC().Format(timeLayout), origin.hash)
		must(t, os.WriteFile(filepath.Join(dir, currentName), []byte(line+"\n"), 0o600))
		begin(t, l, "r1").End(endRecord("r1"))
		names, err := l.segments()
		must(t, err)
		if len(names) != c.want || len(verify(t, dir)) != 3 {
			t.Errorf("age %v: segments %q, want %d", c.age, names, c.want)
		}
	}
}

// A segment whose name is taken only grows.
func TestRotationIsNoRisk(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	l.segmentMost = 1
	begin(t, l, "r1").End(endRecord("r1"))
	must(t, os.Mkdir(filepath.Join(dir, segmentName(1)), 0o700))
	begin(t, l, "r2").End(endRecord("r2"))
	must(t, os.Remove(filepath.Join(dir, segmentName(1))))
	if got := len(verify(t, dir)); got != 4 {
		t.Errorf("%d records, want 4", got)
	}
}

// Many runs at once, with segments of a few records and writers that are killed at any moment: every start is there, with an end or as orphaned.
func TestKilledRuns(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	said := map[any]bool{}
	for range 5 {
		var writers []*exec.Cmd
		var outputs []*bufio.Scanner
		for range 4 {
			c := childCommand(t, "run-forever", dir)
			out, err := c.StdoutPipe()
			must(t, err, c.Start())
			writers, outputs = append(writers, c), append(outputs, bufio.NewScanner(out))
		}
		for i, c := range writers {
			for range 1 + rand.IntN(20) {
				if !outputs[i].Scan() {
					t.Fatal("writer ended by itself")
				}
				said[outputs[i].Text()] = true
			}
			must(t, c.Process.Kill())
			for outputs[i].Scan() {
				said[outputs[i].Text()] = true
			}
			c.Wait() // always an error
		}
	}
	must(t, openLog(t, dir).Recover())
	if left := runsOf(t, dir); left != "" {
		t.Errorf("left in runs: %q", left)
	}
	open := map[any]int{}
	for _, r := range verify(t, dir) {
		if event := r["event"].(map[string]any); event["reason"] == memoryLost || event["action"] != string(AuditRepair) && r["repair"] != nil {
			t.Errorf("a writer that was killed looks like one whose note is gone: record %v", r["seq"])
		}
		switch r["event"].(map[string]any)["action"] {
		case "execution-start":
			open[r["run_id"]]++
			delete(said, r["run_id"])
		case "execution-end", "execution-orphaned":
			open[r["run_id"]]--
		}
	}
	for id, n := range open {
		if n != 0 {
			t.Errorf("run %v: %d starts more than ends", id, n)
		}
	}
	if len(said) > 0 {
		t.Errorf("begun, but not in the log: %v", said)
	}
}

var (
	storm   = flag.Duration("storm", 0, "how long TestStorm lasts; 0: it is skipped")
	writers = flag.Int("writers", 200, "of TestStorm, at once")
)

// The long form: many writers at once, of which one is killed at any moment and another takes its place.
//
//	go test ./audit -run TestStorm -storm 60s -v
func TestStorm(t *testing.T) {
	if *storm == 0 {
		t.Skip("the long form is asked for by -storm 60s")
	}
	dir := logDir(t)
	var said sync.Map
	var kills atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(*storm)
	for range *writers {
		all.Go(func() {
			for time.Now().Before(end) {
				c := childCommand(t, "run-forever", dir)
				out, err := c.StdoutPipe()
				if err == nil {
					err = c.Start()
				}
				if err != nil {
					t.Error(err)
					return
				}
				timer := time.AfterFunc(rand.N(2*time.Second), func() { c.Process.Kill() })
				for lines := bufio.NewScanner(out); lines.Scan(); {
					said.Store(lines.Text(), true)
				}
				timer.Stop()
				if c.Wait(); c.ProcessState.Exited() {
					t.Errorf("a writer ended by itself: %v", c.ProcessState)
				}
				kills.Add(1)
			}
		})
	}
	all.Wait()
	l := openLog(t, dir)
	for runsOf(t, dir) != "" {
		must(t, l.Recover())
	}
	open, orphans := map[any]int{}, 0
	records := verify(t, dir)
	for _, r := range records {
		if event := r["event"].(map[string]any); event["reason"] == memoryLost || event["action"] != string(AuditRepair) && r["repair"] != nil {
			t.Errorf("a writer that was killed looks like one whose note is gone: record %v", r["seq"])
		}
		switch r["event"].(map[string]any)["action"] {
		case "execution-start":
			open[r["run_id"]]++
			said.Delete(r["run_id"])
		case "execution-orphaned":
			orphans++
			open[r["run_id"]]--
		case "execution-end":
			open[r["run_id"]]--
		}
	}
	for id, n := range open {
		if n != 0 {
			t.Errorf("run %v: %d starts more than ends", id, n)
		}
	}
	said.Range(func(id, _ any) bool { t.Errorf("begun, but not in the log: %v", id); return true })
	t.Logf("%d records of %d runs, %d of them orphaned, %d writers killed, %d at once, in %v", len(records), len(open), orphans, kills.Load(), *writers, *storm)
}

// onOwnDisk runs a child that mounts a small disk.
func onOwnDisk(t *testing.T, child, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	c := childCommand(t, child, dir)
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	must(t, c.Run())
}

func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	onOwnDisk(t, "read-only-disk", logDir(t))
}

// A program that was started during a run does not hold it: when its writer is gone, it is over.
func TestRunIsNotInherited(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	run, _, err := l.Begin(startRecord("r1"))
	must(t, err)
	other := childCommand(t, "hold-lock", logDir(t))
	in, err := other.StdinPipe()
	must(t, err, other.Start())
	run.release()
	must(t, l.Recover(), in.Close(), other.Wait())
	if got := actions(verify(t, dir)); got != "execution-start execution-orphaned" {
		t.Errorf("records %s", got)
	}
}

func TestReservedRoom(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	onOwnDisk(t, "fill-disk", dir)
	if got := len(verify(t, dir)); got < 10 {
		t.Errorf("%d records", got)
	}
}

// A log that was removed, cut or replaced shows, and no seq is given twice.
func TestBrokenLog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		do     func(t *testing.T, current, lock string)
		reason string // of the repair; empty: none
		found  uint64
	}{
		{"left alone", func(t *testing.T, current, lock string) {}, "", 0},
		{"removed", func(t *testing.T, current, lock string) { must(t, os.Remove(current)) }, "log-lost", 0},
		{"emptied", func(t *testing.T, current, lock string) { must(t, os.Truncate(current, 0)) }, "log-lost", 0},
		{"cut by a line", func(t *testing.T, current, lock string) {
			text, err := os.ReadFile(current)
			must(t, err)
			lines := strings.SplitAfter(string(text), "\n")
			must(t, os.WriteFile(current, []byte(strings.Join(lines[:3], "")), 0o600))
		}, "log-cut", 3},
		{"replaced by another", func(t *testing.T, current, lock string) {
			other := openLog(t, logDir(t))
			for range 4 {
				mustAppend(t, other, startRecord("other"))
			}
			must(t, os.Rename(filepath.Join(other.path, currentName), current))
		}, "log-replaced", 4},
		{"the writer was killed before it could remember", func(t *testing.T, current, lock string) {
			text, err := os.ReadFile(current)
			must(t, err)
			lines := strings.SplitAfter(string(text), "\n")
			must(t, os.WriteFile(lock, fmt.Appendf(nil, "%020d %s\n", 3, hexSHA256([]byte(strings.TrimSuffix(lines[2], "\n")))), 0o600))
		}, "", 0},
		{"the memory is empty", func(t *testing.T, current, lock string) { must(t, os.Truncate(lock, 0)) }, "", 0},
		{"the memory is nonsense", func(t *testing.T, current, lock string) {
			must(t, os.WriteFile(lock, []byte(strings.Repeat("x", 200)), 0o600))
		}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			l := openLog(t, dir)
			var last Receipt
			for i := range 4 {
				last = mustAppend(t, l, startRecord(fmt.Sprint("r", i)))
			}
			c.do(t, filepath.Join(dir, currentName), filepath.Join(dir, lockName))
			next := mustAppend(t, l, startRecord("next"))
			if c.reason == "" {
				if len(verify(t, dir)) != 5 {
					t.Error("records are missing")
				}
				return
			}
			text, err := os.ReadFile(filepath.Join(dir, currentName))
			must(t, err)
			lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
			var repair Record
			must(t, json.Unmarshal([]byte(lines[len(lines)-2]), &repair))
			if repair.Event.Action != AuditRepair || repair.Event.Reason != c.reason || repair.Seq != last.Seq+1 || repair.Prev != last.Hash || next.Seq != last.Seq+2 {
				t.Errorf("repair %+v, next seq %d", repair, next.Seq)
			}
			if r := repair.Repair; r == nil || r.Expected == nil || r.Found == nil || *r.Expected != (Link{last.Seq, last.Hash}) || r.Found.Seq != c.found {
				t.Errorf("repair %+v", repair.Repair)
			}
			mustAppend(t, l, startRecord("after")) // no second repair
			if again, _ := os.ReadFile(filepath.Join(dir, currentName)); strings.Count(string(again), "audit-repair") != 1 {
				t.Errorf("repaired again: %s", again)
			}
		})
	}
}

// A segment that somebody moved away leaves no gap in the numbers.
func TestMovedLog(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	mustAppend(t, l, startRecord("r1"))
	must(t, os.Rename(filepath.Join(dir, currentName), filepath.Join(dir, segmentName(1))))
	mustAppend(t, l, startRecord("r2"))
	if got := actions(verify(t, dir)); got != "execution-start execution-start" {
		t.Errorf("records %s", got)
	}
}

func TestClockJump(t *testing.T) {
	t.Parallel()
	var now Record
	now.Host.Boot = "this"
	now.follow(head{})
	uptime := time.Duration(now.Host.UptimeMS) * time.Millisecond
	for _, c := range []struct {
		name string
		at   moment
		want time.Duration // about
	}{
		{"not known", moment{}, 0},
		{"no jump", moment{time.Now().Add(-time.Hour), uptime - time.Hour, "this"}, 0},
		{"a small correction", moment{time.Now().Add(-4 * time.Second), uptime, "this"}, 0},
		{"forward", moment{time.Now().Add(-24 * time.Hour), uptime - time.Hour, "this"}, 23 * time.Hour},
		{"backward", moment{time.Now().Add(time.Hour), uptime - time.Hour, "this"}, -2 * time.Hour},
		{"another boot", moment{time.Now().Add(time.Hour), uptime - time.Hour, "other"}, 0},
	} {
		r := Record{Host: Host{Boot: "this"}}
		r.follow(head{at: c.at})
		got := time.Duration(r.Host.ClockJumpMS) * time.Millisecond
		if (got-c.want).Abs() > time.Minute || c.want == 0 && got != 0 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	dir := logDir(t)
	l := openLog(t, dir)
	mustAppend(t, l, startRecord("r1"))
	if got := mustAppend(t, l, startRecord("r2")).record.Host; got.ClockJumpMS != 0 || got.UptimeMS == 0 {
		t.Errorf("host %+v", got)
	}
}

// TestBeginBesideRecover begins runs while others look for dead ones, for which they lock the files of all: nobody may be in a run's way.
func TestBeginBesideRecover(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	must(t, l.Recover())
	begin(t, l, "first").End(endRecord("first"))
	done := make(chan struct{})
	var lookers sync.WaitGroup
	for range 2 {
		lookers.Go(func() {
			runs, err := l.openRuns(false)
			must(t, err)
			defer unix.Close(runs)
			for {
				select {
				case <-done:
					return
				default:
				}
				names, _ := l.listRuns()
				for _, name := range names {
					if f := claim(runs, name); f != nil {
						f.Close()
					}
				}
			}
		})
	}
	for i := range 400 {
		id := fmt.Sprint("run-", i)
		run, _, err := l.Begin(startRecord(id))
		if err != nil {
			t.Fatal(i, err)
		}
		if _, err := run.End(endRecord(id)); err != nil {
			t.Fatal(i, err)
		}
	}
	close(done)
	lookers.Wait()
}

// A panic while a record is written ends one run only: it gives the lock back, and leaves no descriptor behind.
func TestPanicGivesTheLockBack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	func() {
		defer func() {
			if v := recover(); v != "a fault of ours" {
				t.Errorf("recovered %v", v)
			}
		}()
		l.add(Record{RunID: "x", Event: Event{Action: ExecutionStart}}, &entering{before: func([]byte) error { panic("a fault of ours") }})
	}()
	other, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.patience = time.Second
	if _, err := other.Append(Record{RunID: "y", Event: Event{Action: ExecutionEnd}}); err != nil {
		t.Errorf("the lock is held: %v", err)
	}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to == filepath.Join(dir, currentName) {
			t.Errorf("%s is still open", to)
		}
	}
}
