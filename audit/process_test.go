package audit

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

func TestAppendFromProcesses(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	var writers []*exec.Cmd
	for range 8 {
		c := childCommand(t, "append-50", dir)
		must(t, c.Start())
		writers = append(writers, c)
	}
	for _, c := range writers {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
	records := verify(t, dir)
	runs := make(map[any]bool)
	for _, r := range records {
		runs[r["run_id"]] = true
	}
	if len(records) != 400 || len(runs) != 400 {
		t.Errorf("%d records of %d runs, want 400 of 400", len(records), len(runs))
	}
}

// Writers are killed at any moment of their work. What they were told is in
// the log must be there, and the chain must hold.
func TestKilledWriters(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	acknowledged := make(map[any]bool)
	for range 10 {
		var writers []*exec.Cmd
		var outputs []*bufio.Scanner
		for range 4 {
			c := childCommand(t, "append-forever", dir)
			out, err := c.StdoutPipe()
			must(t, err, c.Start())
			writers, outputs = append(writers, c), append(outputs, bufio.NewScanner(out))
		}
		for i, c := range writers {
			for range 1 + rand.IntN(20) {
				if !outputs[i].Scan() {
					t.Fatal("writer ended by itself")
				}
				acknowledged[outputs[i].Text()] = true
			}
			must(t, c.Process.Kill())
			for outputs[i].Scan() { // said before it died
				acknowledged[outputs[i].Text()] = true
			}
			c.Wait() // always an error
		}
	}
	mustAppend(t, openLog(t, dir), startRecord("last"))
	for _, r := range verify(t, dir) {
		delete(acknowledged, r["run_id"])
	}
	if len(acknowledged) > 0 {
		t.Errorf("acknowledged, but not in the log: %v", acknowledged)
	}
}

func TestLockHeld(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	l.patience = 20 * time.Millisecond

	c := childCommand(t, "hold-lock", dir)
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err, c.Start())
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_, err = l.Append(startRecord("r"))
	want, who := fmt.Sprintf("lock %s: held by another writer for too long", filepath.Join(dir, lockName)), fmt.Sprintf(": process %d", c.Process.Pid)
	if !errors.Is(err, ErrLocked) || strings.TrimSuffix(err.Error(), who) != want { // not all file systems have in /proc/locks what stat says
		t.Errorf("error %v, want %s%s", err, want, who)
	}
	if _, err := os.Stat(filepath.Join(dir, currentName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log was touched: %v", err)
	}
	must(t, in.Close(), c.Wait())

	l.patience = patient
	mustAppend(t, l, startRecord("r"))
}

// Patience is for a holder; who waits behind others waits on while they get on.
func TestLockBusy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), lockName)
	open := func() int {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		must(t, err)
		return fd
	}
	holder, waiter, asked := open(), open(), 0
	must(t, unix.Flock(holder, unix.LOCK_EX))
	err := filelock.Take(waiter, unix.LOCK_EX, time.Now(), func() time.Duration {
		if asked++; asked < 3 {
			return time.Millisecond
		}
		filelock.Release(holder)
		return patient
	})
	must(t, err)
	if asked != 3 {
		t.Errorf("asked %d times whether to wait on, want 3", asked)
	}
	filelock.Release(waiter)

	l := openLog(t, logDir(t))
	before := l.length()
	mustAppend(t, l, startRecord("r"))
	if l.length() == before {
		t.Error("a record does not show in the length of the log")
	}
}

// Where room cannot be reserved a run goes on without; where nobody can be kept out it does not begin.
func TestCallsRefused(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	must(t, childCommand(t, "no-fallocate", dir).Run())
	if got := actions(verify(t, dir)); got != "execution-start execution-end" {
		t.Errorf("records %s", got)
	}
	dir = logDir(t)
	c := childCommand(t, "no-flock", dir)
	c.Stderr = nil
	_, err := c.Output()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || string(exit.Stderr) != fmt.Sprintf("lock %s/.lock: operation not permitted\n", dir) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, currentName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log was touched: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	const start, repair = "execution-start", "audit-repair"
	for _, c := range []struct {
		child string
		want  string // actions
	}{
		{"disk-full", start + " " + start + " " + start + " " + start},
		{"disk-full-at-a-repair", start + " " + repair + " " + start + " " + start},
	} {
		t.Run(c.child, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			must(t, childCommand(t, c.child, dir).Run())
			mustAppend(t, openLog(t, dir), startRecord("last"))
			if got := actions(verify(t, dir)); got != c.want {
				t.Errorf("records %s, want %s", got, c.want)
			}
		})
	}
}
