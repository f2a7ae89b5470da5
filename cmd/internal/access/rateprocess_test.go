package access

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A child of these tests is this program again. Its arguments say what it does with a file of limits, and
// how many times as fast its clock is, so that a minute need not be one.
const childVariable = "PY3RUN_TEST_LIMITS"

// takeRuns takes runs, one after the other as long as its standard input is open, and prints when each one
// began by the clock of the limits, in microseconds.
func takeRuns(words []string) {
	l := NewLimits(words[0])
	faster, _ := strconv.ParseInt(words[1], 10, 64)
	most, _ := strconv.Atoi(words[2])
	times := words[3]
	hold := len(words) > 4
	if times == "full" { // like a disk that is
		most := unix.Rlimit{Cur: 100 << 10, Max: 100 << 10}
		unix.Setrlimit(unix.RLIMIT_FSIZE, &most)
	}
	var at instant
	l.clock = func() instant {
		at = now()
		at.boot *= faster
		return at
	}
	over := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	out := bufio.NewWriter(os.Stdout)
	for {
		slot, limited, notes := l.Take(alice, Rates{PerMinute: most, Concurrent: 64})
		switch {
		case notes.Trouble != nil:
			fmt.Fprintln(out, "trouble:", notes.Trouble)
		case limited != nil && times == "once":
			fmt.Fprintln(out, "refused")
		case limited == nil:
			fmt.Fprintln(out, at.boot)
		}
		out.Flush()
		if hold {
			<-over
		}
		slot.Release()
		select {
		case <-over:
			return
		default:
		}
		if times != "often" {
			return
		}
	}
}

func startChild(t *testing.T, dir string, words ...string) (*exec.Cmd, io.WriteCloser, *strings.Builder) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childVariable+"="+strings.Join(append([]string{dir}, words...), " "))
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, in, &out
}

// Eighty processes at once, where sixty may run: sixty run.
func TestEightyProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var mu sync.Mutex
	var all sync.WaitGroup
	count := map[string]int{}
	for range 80 {
		c, in, out := startChild(t, dir, "1", "60", "once")
		all.Go(func() {
			c.Wait()
			in.Close()
			mu.Lock()
			defer mu.Unlock()
			word, _, _ := strings.Cut(out.String(), "\n")
			if _, err := strconv.Atoi(word); err == nil {
				word = "began"
			}
			count[word]++
		})
	}
	all.Wait()
	if count["began"] != 60 || count["refused"] != 20 || len(count) != 2 {
		t.Errorf("got %v", count)
	}
}

// Processes that take runs as fast as they can never begin more of them within any minute than the limit
// says.
func TestHammer(t *testing.T) {
	t.Parallel()
	const faster, most, minutes = 200, 60, 6 // a minute takes 0.3 s
	dir := t.TempDir()
	type kid struct {
		cmd *exec.Cmd
		in  io.Closer
		out *strings.Builder
	}
	var kids []kid
	for range 4 {
		c, in, out := startChild(t, dir, strconv.Itoa(faster), strconv.Itoa(most), "often")
		kids = append(kids, kid{c, in, out})
	}
	time.Sleep(minutes * time.Minute / faster)
	var began []int64
	for _, k := range kids {
		k.in.Close()
		k.cmd.Wait()
		for line := range strings.Lines(k.out.String()) {
			at, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			if err != nil {
				t.Fatal(line)
			}
			began = append(began, at)
		}
	}
	slices.Sort(began)
	if got := fullest(began, minute); got > most || len(began) == 0 {
		t.Errorf("the fullest minute of %d runs has %d, want up to %d", len(began), got, most)
	}
}

// A process that is killed at any moment leaves a file that is whole, and no run under way.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := NewLimits(dir)
	for i := range 40 {
		c, in, out := startChild(t, dir, "1", "0", "often")
		time.Sleep(time.Duration(1000+rand.IntN(12_000)) * time.Microsecond)
		c.Process.Kill()
		c.Wait()
		in.Close()
		if strings.Contains(out.String(), "trouble") {
			t.Fatalf("kill %d: %s", i, out)
		}
	}
	c, in, _ := startChild(t, dir, "1", "0", "once", "hold")
	defer in.Close()
	waitFor(t, "a run under way", func() bool {
		_, users, _ := l.Usage()
		return len(users) == 1 && users[0].Running == 1
	})
	c.Process.Kill()
	c.Wait()
	slot, limited, notes := l.Take(bob, Rates{Concurrent: 1})
	if slot == nil || limited != nil || notes.Trouble != nil {
		t.Fatal(limited, notes.Trouble)
	}
	slot.Release()
	_, users, notes := l.Usage()
	for _, u := range users {
		if u.Running != 0 {
			t.Errorf("%+v", u)
		}
	}
	if notes.Trouble != nil || len(users) != 2 {
		t.Errorf("%v, %d users", notes.Trouble, len(users))
	}
}

// waitFor waits for something that happens soon.
func waitFor(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("there is not " + what)
		}
	}
}

// On a full disk a run goes on without limits, and says so. When there is room again, all is well.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		c, in, out := startChild(t, dir, "1", "1", "full")
		c.Wait()
		in.Close()
		if got := out.String(); got != "trouble: nothing is limited: write "+dir+"/limits: file too large\n" {
			t.Errorf("got %q", got)
		}
	}
	l := NewLimits(dir)
	for i, want := range []bool{false, true} {
		slot, limited, notes := l.Take(alice, Rates{PerMinute: 1})
		slot.Release()
		if notes.Trouble != nil || (limited != nil) != want {
			t.Errorf("run %d: %v %v", i, limited, notes.Trouble)
		}
	}
}

// Who holds the file for too long, because it is stopped there, keeps nobody from running.
func TestHeldForTooLong(t *testing.T) {
	t.Parallel()
	l := NewLimits(t.TempDir())
	b, err := l.open(true)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	began := time.Now()
	slot, limited, notes := l.Take(alice, usual)
	if slot != nil || limited != nil || notes.Trouble == nil || notes.Trouble.Code != "limits_unusable" || time.Since(began) < patience {
		t.Error(slot, limited, notes.Trouble, time.Since(began))
	}
}

// A started program does not have the run: when the launcher is gone, nothing is under way.
func TestSlotIsNotInherited(t *testing.T) {
	t.Parallel()
	l := NewLimits(t.TempDir())
	slot, _, _ := l.Take(alice, usual)
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", c.Process.Pid, f.Name())); target == l.path {
			t.Error("the child has the file")
		}
	}
	slot.Release()
	if _, users, _ := l.Usage(); users[0].Running != 0 {
		t.Errorf("%+v", users)
	}
}

func BenchmarkTake(b *testing.B) {
	l := NewLimits(b.TempDir())
	for b.Loop() {
		slot, limited, notes := l.Take(alice, Rates{PerMinute: 1_000_000, PerHour: 1_000_000, GlobalPerMinute: 1_000_000, Concurrent: 8})
		if limited != nil || notes.Trouble != nil {
			b.Fatal(limited, notes.Trouble)
		}
		slot.Release()
	}
}

func BenchmarkRefusal(b *testing.B) {
	l := NewLimits(b.TempDir())
	for b.Loop() {
		l.Take(alice, Rates{PerMinute: 1})
	}
}
