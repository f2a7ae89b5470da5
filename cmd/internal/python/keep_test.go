package python

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/wire"
)

// A kept interpreter does one job after the other, in every CPython.
func TestKept(t *testing.T) {
	t.Parallel()
	tests := []struct {
		job         Job
		fresh       bool
		kind, value string // of the reply
		stdout      string
		status      byte
		flagged     string
	}{
		{job: code("import colorsys\nx = 1\nprint('a')\nresult = [x]"), kind: "value", value: "[1]", stdout: "a\n", flagged: "colorsys"},
		{job: code("x += 1\nprint(x, end='')"), kind: "value", value: "null", stdout: "2"},
		{job: code("import colorsys"), kind: "value", value: "null", flagged: "colorsys"},
		{job: code("1/0"), kind: "error", status: 1},
		{job: code("import sys; sys.exit(7)"), kind: "exit", value: "null", status: 7},
		{job: Job{Command: wire.CommandEvaluate, Code: []byte("x * 2"), Text: true}, kind: "value", value: "4"},
		{job: Job{Command: wire.CommandCallModule, Module: "math", Function: "gcd", Args: []any{wire.Number("4"), wire.Number("6")}}, kind: "value", value: "2"},
		{job: Job{Command: wire.CommandExecute, Code: []byte("result = input()"), Text: true, Stdin: "line\nmore\n"}, kind: "value", value: `"line"`},
		{job: code("# " + strings.Repeat("x", 600_000) + "\nresult = 'y' * 300000"), kind: "value", value: `"` + strings.Repeat("y", 300_000) + `"`},
		{job: Job{Command: wire.CommandExecute, Code: []byte("import os\nif not os.fork(): raise KeyError\nresult = os.wait()[1] >> 8"), Text: true}, kind: "value", value: "1"},
		{job: code("async def f(): return 1\nresult = 'x' in globals()"), fresh: true, kind: "value", value: "false"},
		{job: code("result = str(f)[:18]"), kind: "value", value: `"<function f at 0x7"`},
		{job: code("import os\nresult = sorted(map(int, os.listdir('/proc/self/fd')))[:4]"), kind: "value", value: "[0,1,2,3]"}, // 3 is the directory
		{job: code(fmt.Sprintf("os.closerange(3, %d)", firstInTests)), kind: "value", value: "null"},
		{job: code("print('b')"), kind: "value", value: "null", stdout: "b\n"}, // the code has closed the descriptor for what comes late
		{job: code("import sys\nopened = []\nsys.addaudithook(lambda event, args: event == 'open' and opened.append(str(args[0])))"), kind: "value", value: "null"},
		{job: code("result = opened"), kind: "value", value: "[]"}, // nothing is opened between two jobs
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		base := t.TempDir()
		start := Job{Command: wire.CommandExecute, Flagged: whyFlagged, OutputMost: 10 << 20}
		k, err := OpenKept(ip, start, firstInTests)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.SetsockoptTimeval(ends[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20})
		theirs := os.NewFile(uintptr(ends[1]), "periods")
		gate, open, _ := os.Pipe()
		open.Write([]byte{gateOpen})
		c := exec.Command(ip.Path, k.Args()...)
		c.Dir, c.Env, c.Stdin, c.Stderr = base, environ(), theirs, os.Stderr
		dump, _ := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		c.ExtraFiles = append(append(make([]*os.File, firstInTests-3), k.Files()...), gate, dump, theirs)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		k.Started()
		for _, f := range []*os.File{theirs, gate, open, dump} {
			f.Close()
		}
		for i, tt := range tests {
			job := tt.job
			job.Path, job.Shown, job.Flagged, job.OutputMost, job.Fresh = filepath.Join(base, "code.py"), "main.py", whyFlagged, 10<<20, tt.fresh
			job.ResultFrom, job.ResultFormat, job.Argv = "auto", "plain", []string{"code.py"}
			if job.Command == "" {
				job.Command = wire.CommandExecute
			}
			files, err := k.Begin(job)
			if err != nil {
				t.Fatal(err)
			}
			var reads [2]*os.File
			fds := make([]int, 2)
			for j := range reads {
				read, write, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer read.Close()
				reads[j], fds[j] = read, int(write.Fd())
				defer write.Close()
			}
			for _, f := range files {
				fds = append(fds, int(f.Fd()))
			}
			if err := unix.Sendmsg(ends[0], []byte{1}, unix.UnixRights(fds...), nil, 0); err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				f.Close()
			}
			report := make([]byte, 8)
			n, err := unix.Read(ends[0], report)
			for err == unix.EINTR { // a read with a timeout is not restarted after a signal
				n, err = unix.Read(ends[0], report)
			}
			if n != 8 || err != nil {
				t.Fatalf("job %d: no report: %v", i, err)
			}
			r, err := k.Reply()
			if err != nil || r.Kind != tt.kind || tt.kind != "error" && string(r.Value) != tt.value && !(r.Absent && tt.value == "null") {
				t.Errorf("job %d: %v %s %.200s %s, want %s %.200s", i, err, r.Kind, r.Value, r.Traceback, tt.kind, tt.value)
			}
			text, fd := make([]byte, 1000), int(reads[0].Fd())
			unix.SetNonblock(fd, true)
			n, _ = unix.Read(fd, text)
			if got := string(text[:max(0, n)]); got != tt.stdout || report[0] != tt.status {
				t.Errorf("job %d: stdout %q, status %d, want %q, %d", i, got, report[0], tt.stdout, tt.status)
			}
			e := k.Events(whyFlagged, wire.Events{})
			flagged := ""
			for _, f := range e.FlaggedImports {
				if f.Module != "os" && f.Direct {
					flagged += f.Module
				}
			}
			if flagged != tt.flagged {
				t.Errorf("job %d: flagged %q, want %q", i, flagged, tt.flagged)
			}
		}
		unix.Close(ends[0])
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// Of the events of children, as many are kept as of any run, and those that come meanwhile are read
// after the next job.
func TestKeptEventsBound(t *testing.T) {
	t.Parallel()
	k, err := OpenKeptWorker(Job{Command: wire.CommandExecute, OutputMost: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	events, err := memfd("events", 0) // as a pipe that holds much more than one may hold
	if err != nil {
		t.Fatal(err)
	}
	line := string(eventWrite) + "/f\n"
	if _, err := events.WriteAt([]byte(strings.Repeat(line, 3*childrenMost/len(line))), 0); err != nil {
		t.Fatal(err)
	}
	k.children.Close()
	k.children = events
	if e := k.Events(nil, wire.Events{}); len(k.childEvents) != childrenMost || !slices.Equal(e.FilesWritten, []string{"/f"}) {
		t.Errorf("%d bytes of events, want %d; files %q", len(k.childEvents), childrenMost, e.FilesWritten)
	}
	if e := k.Events(nil, wire.Events{}); len(k.childEvents) > 0 || len(e.FilesWritten) > 0 {
		t.Errorf("later: %d bytes of events, files %q", len(k.childEvents), e.FilesWritten)
	}
	events.WriteAt([]byte(line), 3*childrenMost/int64(len(line))*int64(len(line)))
	if e := k.Events(nil, wire.Events{}); len(e.FilesWritten) != 1 {
		t.Errorf("for the next job: files %q", e.FilesWritten)
	}
}
