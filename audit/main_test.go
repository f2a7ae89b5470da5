package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"py3run/internal/activity"
	"py3run/internal/filelock"
)

// childEnv names what the test binary does in place of the tests, as a process
// of its own. Its argument is the log's directory.
const childEnv = "PY3RUN_AUDIT_TEST_CHILD"

// patient is a lock deadline that no slow machine meets.
const patient = 5 * time.Minute

var children = map[string]func(l *Log) error{
	"append-50": func(l *Log) error {
		for i := range 50 {
			if _, err := l.Append(startRecord(fmt.Sprintf("%d-%d", os.Getpid(), i))); err != nil {
				return err
			}
		}
		return nil
	},
	// Ends with the process; each record is acknowledged by a line.
	"append-forever": func(l *Log) error {
		l.NoSync = true
		for i := 0; ; i++ {
			run := fmt.Sprintf("%d-%d", os.Getpid(), i)
			if _, err := l.Append(startRecord(run)); err != nil {
				return err
			}
			fmt.Println(run)
		}
	},
	// Runs with segments of a few records each, and every second time a death in the middle.
	"run-forever": func(l *Log) error {
		l.NoSync, l.segmentMost = true, 4000
		for i := 0; ; i++ {
			id := fmt.Sprintf("%d-%d", os.Getpid(), i)
			run, _, err := l.Begin(startRecord(id))
			if err != nil {
				return err
			}
			fmt.Println(id)
			if _, err := run.End(endRecord(id)); err != nil {
				return err
			}
			if err := l.Recover(); err != nil {
				return err
			}
		}
	},
	// Some hundred runs with pauses, for readers that are slower than a writer.
	"run-gently": func(l *Log) error {
		l.NoSync, l.segmentMost = true, 4000
		for i := range 500 {
			id := fmt.Sprintf("%d-%d", os.Getpid(), i)
			run, _, err := l.Begin(startRecord(id))
			if err == nil {
				_, err = run.End(endRecord(id))
			}
			if err != nil {
				return err
			}
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		return nil
	},
	// Adds holds and releases every third; each line says what is done.
	"hold-forever": func(l *Log) error {
		l.NoSync = true
		for i := 0; ; i++ {
			open, _, err := l.AddHold(startRecord(""), Hold{User: "alice", Comment: "case"})
			if err != nil {
				return err
			}
			fmt.Println("added", open.ID)
			if i%3 != 0 {
				continue
			}
			fmt.Println("releases", open.ID)
			if _, err := l.ReleaseHold(startRecord(""), open.ID, "done"); err != nil {
				return err
			}
			fmt.Println("released", open.ID)
		}
	},
	"begin": func(l *Log) error {
		if _, _, err := l.Begin(startRecord("dies")); err != nil {
			return err
		}
		fmt.Println("begun")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	},
	"read-as-nobody": readAsNobody,
	"few-files":      fewFiles,
	"fill-disk":      fillDisk,
	"read-only-disk": readOnlyDisk,
	"no-fallocate":   func(l *Log) error { return without(l, unix.SYS_FALLOCATE) },
	"no-flock":       func(l *Log) error { return without(l, unix.SYS_FLOCK) },
	"hold-lock": func(l *Log) error {
		lock, err := l.lock()
		if err != nil {
			return err
		}
		defer filelock.Release(lock)
		fmt.Println("locked")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	},
	"disk-full":             diskFull,
	"disk-full-at-a-repair": diskFullAtRepair,
}

func TestMain(m *testing.M) {
	child, ok := children[os.Getenv(childEnv)]
	if !ok {
		os.Exit(m.Run())
	}
	l, err := Open(os.Args[1])
	if err == nil {
		l.patience = patient
		err = child(l)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// childCommand is the named child at work on dir; its standard error goes to
// the test's log.
func childCommand(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, dir)
	c.Env = append(os.Environ(), childEnv+"="+name)
	c.Stderr = t.Output()
	return c
}

// limitFileSize lets no file of this process grow beyond size bytes, which is
// how a full disk looks to write(2). RLIM_INFINITY lifts it.
func limitFileSize(size uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(size, limit.Max)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
}

// diskFull fails to append for want of room, and then, with room, does not.
func diskFull(l *Log) error {
	current := filepath.Join(l.path, currentName)
	for _, room := range []int64{0, 1, 100} {
		if _, err := l.Append(startRecord("before")); err != nil {
			return err
		}
		whole, err := os.Stat(current)
		if err != nil {
			return err
		}
		if err := limitFileSize(uint64(whole.Size() + room)); err != nil {
			return err
		}
		_, err = l.Append(startRecord("no room"))
		if step := new(StepError); !errors.As(err, &step) || step.Step != "write" {
			return fmt.Errorf("append with room for %d bytes: %v, want an error of step write", room, err)
		}
		after, err := os.Stat(current)
		if err != nil {
			return err
		}
		if after.Size() != whole.Size() {
			return fmt.Errorf("room for %d bytes: log has %d bytes after the failure, want %d", room, after.Size(), whole.Size())
		}
		if err := limitFileSize(unix.RLIM_INFINITY); err != nil {
			return err
		}
	}
	return nil
}

// diskFullAtRepair has room for the fragment, but not for the record of it.
func diskFullAtRepair(l *Log) error {
	current := filepath.Join(l.path, currentName)
	if _, err := l.Append(startRecord("before")); err != nil {
		return err
	}
	whole, err := os.ReadFile(current)
	if err != nil {
		return err
	}
	if err := os.WriteFile(current, append(whole, "torn"...), 0o600); err != nil {
		return err
	}
	if err := limitFileSize(uint64(len(whole) + 10)); err != nil {
		return err
	}
	if _, err := l.Append(startRecord("no room")); err == nil {
		return errors.New("append without room succeeded")
	}
	if err := limitFileSize(unix.RLIM_INFINITY); err != nil {
		return err
	}
	_, err = l.Append(startRecord("after"))
	return err
}

// fillDisk begins runs on a disk that is full a moment later: whatever could begin can end.
func fillDisk(l *Log) error {
	dir := filepath.Join(l.path, "small")
	if err := errors.Join(unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), os.Mkdir(dir, 0o700),
		unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700")); err != nil {
		return err
	}
	small, err := Open(dir)
	if err != nil {
		return err
	}
	defer small.Close()
	var begun []*Run
	for i := range 5 {
		run, _, err := small.Begin(startRecord(fmt.Sprint("r", i)))
		if err != nil {
			return err
		}
		begun = append(begun, run)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("filling the disk: %v", err)
	}
	for range 200 { // until what was reserved is used up as well
		run, _, err := small.Begin(startRecord(fmt.Sprint("r", len(begun))))
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil {
			return err
		}
		begun = append(begun, run)
	}
	if len(begun) == 205 {
		return errors.New("a full disk takes as many starts as you like")
	}
	for i, run := range begun {
		r := endRecord(run.id)
		r.Hooks.FilesWritten = slices.Repeat([]string{strings.Repeat("f", 1000)}, 12)
		if _, err := run.End(r); err != nil {
			return fmt.Errorf("end %d of %d: %w", i, len(begun), err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, currentName))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.path, currentName), text, 0o600)
}

// readOnlyDisk cannot begin a run, and says why.
func readOnlyDisk(l *Log) error {
	dir := filepath.Join(l.path, "small")
	if err := errors.Join(unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), os.Mkdir(dir, 0o700),
		unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, "size=1m,mode=700")); err != nil {
		return err
	}
	small, err := Open(dir)
	if err != nil {
		return err
	}
	defer small.Close()
	if _, _, err := small.Begin(startRecord("r")); !errors.Is(err, unix.EROFS) || err.Error() != "lock "+dir+"/.lock: read-only file system" {
		return fmt.Errorf("error %v", err)
	}
	return nil
}

// without makes a run where a system call is not allowed, as container engines refuse some.
func without(l *Log, call uint32) error {
	filter := []unix.SockFilter{ // seccomp_data begins with the number of the call
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	run, _, err := l.Begin(startRecord("r"))
	if err == nil {
		_, err = run.End(endRecord("r"))
	}
	return err
}

// startRecord is what a run leaves before it starts.
func startRecord(run string) Record {
	return Record{
		Event:     Event{Action: ExecutionStart, Outcome: Unknown},
		RunID:     run,
		Host:      Host{Name: "gw-a", Boot: "7b1e91ce"},
		User:      User{Name: "alice"},
		Auth:      Auth{Method: AuthOSUser, OSUID: 1000, OSUser: "alice"},
		Code:      Code{SHA256: strings.Repeat("c1b9f0d5", 8), Bytes: 1843},
		Variables: Variables{Count: 1, Bytes: 3, List: []Variable{{Name: "tank_id", Type: "int", Bytes: 3}}},
		Limits:    map[string]float64{"timeout_seconds": 1.5, "memory_mb": 256},
	}
}

// endRecord is what a run leaves after it, with every field in use.
func endRecord(run string) Record {
	r := startRecord(run)
	exit := 0
	r.Event = Event{Action: ExecutionEnd, Outcome: Success, Reason: "ok", DurationNS: 1272375000}
	r.RequestID = "q-1"
	r.User.ID = "u-017"
	r.Auth.KeyID = "k7Qm2"
	r.Client = Client{IP: "10.20.4.17", IPSource: "asserted"}
	r.Script = Script{Name: "tank-balance", Version: "7"}
	r.Command = "execute"
	r.Labels = map[string]string{"plant": "north", "area": "2"}
	r.Status = "ok"
	r.Process = &Process{ExitCode: &exit, Signal: "SIGKILL", CPUMS: 40, PeakMemoryBytes: 41 << 20, StdoutBytes: new(int64(512)), StderrBytes: new(int64(0))}
	r.Python = &Python{Version: "3.12.3", Executable: "/usr/bin/python3"}
	r.Isolation = &Isolation{Method: "namespace", Enforced: []string{"pids"}, Missing: []Gap{{"cgroup", "not delegated"}}}
	r.Hooks = &activity.Summary{
		Imports:        new(14),
		FlaggedImports: []activity.FlaggedImport{{Module: "os", Why: "operating system interface", Direct: true}},
		Connections:    []activity.Connection{{Host: "10.0.0.1", Port: 443, Via: "python", Count: 2}, {Host: "10.0.0.2", Port: 443, Via: "native", Count: 1, Program: "/usr/bin/curl"}},
		Binds:          []activity.Connection{{Host: "*", Port: 8080, Via: "python", Count: 1}},
		Processes:      []activity.Process{{Program: "/bin/ls", Args: []string{"-l"}, Via: "native", Count: 1}},
		FilesWritten:   []string{"out.csv"},
		FilesDeleted:   []string{"old.csv"},
		Dropped:        1,
	}
	return r
}

func openLog(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.patience = patient
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func mustAppend(t *testing.T, l *Log, r Record) Receipt {
	t.Helper()
	receipt, err := l.Append(r)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// logDir is a directory as Open accepts it: t.TempDir's mode depends on the umask.
func logDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "audit")
}

// verify reads a log by its description alone, with none of the package's code,
// and returns its records.
func verify(t *testing.T, dir string) []map[string]any {
	t.Helper()
	closed, err := filepath.Glob(filepath.Join(dir, "audit-????????????.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var records []map[string]any
	prev := strings.Repeat("0", 64)
	for _, name := range append(closed, filepath.Join(dir, "audit.jsonl")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			t.Errorf("%s ends without a newline", name)
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		for lines.Scan() {
			line := lines.Bytes()
			if len(line) >= 16<<10 {
				t.Errorf("%s: line of %d bytes", name, len(line))
			}
			if i := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
				t.Errorf("%s: byte %#x at %d of a line", name, line[i], i)
			}
			d := json.NewDecoder(bytes.NewReader(line))
			d.UseNumber()
			var r map[string]any
			if err := d.Decode(&r); err != nil {
				t.Fatalf("%s: %v in %q", name, err, line)
			}
			if got, want := fmt.Sprint(r["seq"]), fmt.Sprint(len(records)+1); got != want {
				t.Fatalf("%s: seq %s, want %s", name, got, want)
			}
			if r["prev"] != prev {
				t.Fatalf("%s: seq %v has prev %v, want %s", name, r["seq"], r["prev"], prev)
			}
			prev = fmt.Sprintf("%x", sha256.Sum256(line))
			records = append(records, r)
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return records
}

// actions are the actions of records, in order.
func actions(records []map[string]any) string {
	var names []string
	for _, r := range records {
		names = append(names, r["event"].(map[string]any)["action"].(string))
	}
	return strings.Join(names, " ")
}
