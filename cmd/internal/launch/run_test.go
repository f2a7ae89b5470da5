package launch

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
)

// testJob returns a job whose records, directories and keys lie in root, a directory of the test.
func testJob(t testing.TB, root, code string) Job {
	t.Helper()
	home := filepath.Join(root, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(os.TempDir(), fmt.Sprint("py3run-test-cache-", os.Geteuid())) // not this machine's own, and the same for all tests
	c := config.Default()
	c.Python.Interpreter = interpreter(t)
	c.Security.Audit.Dir = filepath.Join(root, "audit")
	c.Security.Isolation.WorkingDir = filepath.Join(root, "w", "p-${userId}-${executionId}")
	return Job{
		Request: wire.Request{Command: wire.CommandExecute, Code: code, Filename: wire.DefaultFilename, ResultFormat: "plain", ResultFrom: "auto"},
		Config:  c, Environ: []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "XDG_STATE_HOME=" + filepath.Join(cache, "state"), "XDG_CACHE_HOME=" + cache}, Dir: root,
		Caller: Caller{UID: os.Geteuid(), Name: "tester", Home: home}, Began: time.Now(),
	}
}

var findOnce = sync.OnceValues(func() (string, error) {
	ip, _, err := python.Find(python.Want{Interpreter: "auto", Environ: os.Environ(), Dir: "/"})
	return ip.Path, err
})

func interpreter(t testing.TB) string {
	t.Helper()
	path, err := findOnce()
	if err != nil {
		if strings.Contains(os.Getenv("PY3RUN_TEST_REQUIRE"), "python") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// records returns the lines of a log, by run and action.
func records(t *testing.T, root string) map[string]map[string]json.RawMessage {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "audit", "audit.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	byRun := map[string]map[string]json.RawMessage{}
	for line := range strings.Lines(string(text)) {
		var r struct {
			RunID  string `json:"run_id"`
			Status string `json:"status"`
			Event  struct {
				Action string `json:"action"`
			} `json:"event"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if byRun[r.RunID] == nil {
			byRun[r.RunID] = map[string]json.RawMessage{}
		}
		if byRun[r.RunID][r.Event.Action] != nil {
			t.Errorf("run %s has two records %s", r.RunID, r.Event.Action)
		}
		byRun[r.RunID][r.Event.Action] = json.RawMessage(line)
	}
	return byRun
}

// left returns the names that runs have left in a directory, without the files that py3run keeps there.
func left(root string) (names []string) {
	filepath.WalkDir(filepath.Join(root, "w"), func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "p-") {
			names = append(names, path)
		}
		return nil
	})
	return names
}

// A panic at any step gives one result with status internal. If the run has a start record, it gets an
// end record. Run releases what it had acquired.
func TestPanic(t *testing.T) {
	t.Parallel()
	for _, step := range []struct {
		name     string
		recorded bool
	}{{"planned", false}, {"started", false}, {"recorded", true}, {"ended", true}, {"judged", true}} {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			job := testJob(t, root, "result = 1")
			once := false
			job.testOnlyReached = func(s string) {
				if s == step.name && !once {
					once = true
					panic("a fault of ours")
				}
			}
			answer := Run(job)
			if err := answer.Sweep(); err != nil {
				t.Error(err)
			}
			r := answer.Result
			if r.Status != wire.StatusInternal || r.Failure == nil || r.Failure.Message != "internal: a fault of ours" || r.Result != nil {
				t.Errorf("%s %+v", r.Status, r.Failure)
			}
			if line, err := r.Encode(); err != nil || strings.Count(string(line), "\n") != 1 {
				t.Errorf("%v: %s", err, line)
			}
			of := records(t, root)[r.RunID]
			if got := of["execution-start"] != nil; got != step.recorded {
				t.Errorf("start record: %t", got)
			}
			if got := strings.Contains(string(of["execution-end"]), `"status":"internal"`); got != step.recorded {
				t.Errorf("end record: %s", of["execution-end"])
			}
			if (len(answer.AuditLine) > 0) != step.recorded || (r.Audit != nil) != step.recorded {
				t.Errorf("receipt %+v, line %q", r.Audit, answer.AuditLine)
			}
			if names := left(root); len(names) > 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
}

// A panic in a goroutine that copies the output is a result with status internal, too, and ends the run.
func TestPanicElsewhere(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	job := testJob(t, root, "print('x', flush=True)\nwhile True: pass")
	job.Live = &Live{Argv0: "-c", Stdout: panicking{}, Stderr: io.Discard}
	answer := Run(job)
	if err := answer.Sweep(); err != nil {
		t.Error(err)
	}
	r := answer.Result
	if r.Status != wire.StatusInternal || r.Failure == nil || r.Failure.Message != "internal: panic: no writer" {
		t.Errorf("%s %+v", r.Status, r.Failure)
	}
	if end := records(t, root)[r.RunID]["execution-end"]; !strings.Contains(string(end), `"status":"internal"`) {
		t.Errorf("end record: %s", end)
	}
	if names := left(root); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("no writer") }

// Output that a process outside of the run still writes is given up when a signal comes, and nothing changes what was captured by then.
func TestHeldOutput(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	socket := filepath.Join(root, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	job := testJob(t, root, "import socket; s = socket.socket(socket.AF_UNIX); s.connect("+strconv.Quote(socket)+"); s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b'\\x01\\0\\0\\0')])")
	signals := make(chan os.Signal)
	job.Signals = signals
	over := make(chan struct{})
	var holder sync.WaitGroup
	holder.Go(func() {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		rights := make([]byte, 64)
		_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), rights)
		if err != nil {
			return
		}
		messages, _ := unix.ParseSocketControlMessage(rights[:n])
		held, _ := unix.ParseUnixRights(&messages[0])
		defer unix.Close(held[0])
		io.Copy(io.Discard, conn) // until the program has ended
		unix.SetNonblock(held[0], true)
		pause := time.After(time.Second) // as a rule the launcher waits for the end of the stream by then
		var ask chan<- os.Signal
		for {
			select {
			case <-over:
				return
			case <-pause:
				ask = signals
			case ask <- unix.SIGTERM:
			default:
			}
			unix.Write(held[0], []byte("zzzz"))
		}
	})
	answer := Run(job)
	before, _ := answer.Result.Encode()
	if err := answer.Sweep(); err != nil {
		t.Error(err)
	}
	after, _ := answer.Result.Encode()
	close(over)
	holder.Wait()
	if string(before) != string(after) {
		t.Errorf("%s\n%s", before, after)
	}
	if r := answer.Result; r.Status != wire.StatusOK && r.Status != wire.StatusCancelled || !strings.Contains(codesOf(r.Warnings), "output_lost") {
		t.Errorf("%s, warnings %v", r.Status, r.Warnings)
	}
}

// One process can have many runs at once. Each has its own result, records and limits, and releases what
// it acquired.
func TestManyAtOnce(t *testing.T) {
	const many = 100
	root := t.TempDir()
	testJob(t, root, "")                             // looks for the interpreter
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // so that the collector closes no file that a run has forgotten
	before, goroutines := descriptorsOf(t), runtime.NumGoroutine()
	ends := []struct {
		code   string
		status wire.Status
	}{
		{"import os; open('f', 'w').write('%d'); result = [%[1]d, open('f').read(), sorted(os.listdir())]", wire.StatusOK},
		{"print(%d); raise ValueError(%[1]d)", wire.StatusError},
		{"import sys; sys.exit(3)  # %d", wire.StatusExit},
		{"import os; os.kill(os.getpid(), 9)  # %d", wire.StatusSignal},
		{"import time; time.sleep(60)  # %d", wire.StatusTimeout},
	}
	answers := make([]Answer, many)
	var runs sync.WaitGroup
	for i := range many {
		end := ends[i%len(ends)]
		job := testJob(t, root, fmt.Sprintf(end.code, i))
		job.Request.ID = strconv.Itoa(i)
		if end.status == wire.StatusTimeout {
			job.Request.Limits.TimeoutSeconds = 1
		}
		runs.Add(1)
		go func() {
			defer runs.Done()
			answers[i] = Run(job)
			if err := answers[i].Sweep(); err != nil {
				t.Errorf("run %d: %v", i, err)
			}
		}()
	}
	runs.Wait()
	log := records(t, root)
	for i, a := range answers {
		r, end := a.Result, ends[i%len(ends)]
		if r.Status != end.status || r.ID != strconv.Itoa(i) {
			t.Errorf("run %d: %s %q, want %s: %+v", i, r.Status, r.ID, end.status, r.Failure)
			continue
		}
		if want := fmt.Sprintf(`[%d,"%[1]d",["f"]]`, i); r.Status == wire.StatusOK && strings.ReplaceAll(string(r.Result), " ", "") != want {
			t.Errorf("run %d: %s, want %s", i, r.Result, want)
		}
		of := log[r.RunID]
		if of["execution-start"] == nil || !strings.Contains(string(of["execution-end"]), fmt.Sprintf(`"status":%q`, r.Status)) {
			t.Errorf("run %d: records %s", i, of)
		}
		if r.Isolation == nil || r.Isolation.Method != answers[0].Result.Isolation.Method || r.Audit == nil {
			t.Errorf("run %d: %+v, %+v", i, r.Isolation, r.Audit)
		}
	}
	if names := left(root); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		now, running := descriptorsOf(t), runtime.NumGoroutine()
		if len(now) <= len(before) && running <= goroutines {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines and descriptors of %q, before the runs %d and %q", running, now, goroutines, before)
		}
	}
}

// descriptorsOf are the open descriptors of this process, by what they lead to.
func descriptorsOf(t *testing.T) (open []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // else it was that of the directory
			open = append(open, to)
		}
	}
	return open
}

// A signal that comes before the code begins ends the run without it, and is used up; the records say so.
func TestSignalBeforeTheCode(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{false, true} {
		root := t.TempDir()
		witness := filepath.Join(root, "began")
		job := testJob(t, root, "open("+strconv.Quote(witness)+", 'w').close()")
		signals := make(chan os.Signal, 1)
		job.Signals = signals
		job.testOnlyReached = func(step string) {
			if step == "recorded" {
				signals <- unix.SIGTERM
			}
		}
		do := Run
		if kept {
			k := NewKeeper()
			t.Cleanup(func() { k.Close() })
			do = k.Run
		}
		answer := do(job)
		if err := answer.Sweep(); err != nil {
			t.Error(err)
		}
		r := answer.Result
		if r.Status != wire.StatusCancelled || r.SignalNumber != int(unix.SIGTERM) || r.ExitStatus() != 143 || r.Audit == nil || len(signals) != 0 {
			t.Errorf("kept %v: %s %+v, signal %d, receipt %v, %d signals left", kept, r.Status, r.Failure, r.SignalNumber, r.Audit, len(signals))
		}
		if _, err := os.Stat(witness); err == nil {
			t.Errorf("kept %v: the code has begun", kept)
		}
	}
}
