package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { helpers["serve"] = serve }

// serve is a program that serves periods: what to do in a period comes in its third descriptor.
func serve(args []string) error {
	outlives := false
	for {
		message, rights := make([]byte, 8), make([]byte, 64)
		n, size, _, _, err := unix.Recvmsg(number(args[0]), message, rights, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if n == 0 && outlives {
			linger(nil)
		}
		if n == 0 || err != nil {
			return err
		}
		list, err := unix.ParseSocketControlMessage(rights[:size])
		if err != nil {
			return err
		}
		fds, err := unix.ParseUnixRights(&list[0])
		if err != nil {
			return err
		}
		for to, fd := range map[int]int{1: fds[0], 2: fds[1]} {
			unix.Dup2(fd, to)
			unix.Close(fd)
		}
		text := make([]byte, 1000)
		n, _ = unix.Read(fds[2], text)
		unix.Close(fds[2])
		status, words := 0, strings.Fields(string(text[:n]))
		switch command := words[0]; command {
		case "print":
			fmt.Println(words[1])
		case "burn":
			burnMore(words[1])
		case "exit":
			os.Exit(number(words[1]))
		case "report":
			status = number(words[1])
		case "leave": // a process that prints for ever. It starts none: while a child of vfork is stopped, its parent is not
			c := exec.Command("/bin/sh", "-c", "trap '' PIPE; while :; do echo late; done")
			c.Stdout = os.Stdout
			c.Start()
		case "close":
			unix.Close(number(args[0]))
			os.Exit(5)
		case "linger":
			linger(nil)
		case "outlive": // the socket's end
			outlives = true
		case "much": // in one piece, after some work
			unix.FcntlInt(1, unix.F_SETPIPE_SZ, 1<<20)
			burnMore(words[1])
			unix.Write(1, make([]byte, 300<<10))
		}
		var m [8]byte
		binary.NativeEndian.PutUint32(m[:], uint32(status))
		binary.NativeEndian.PutUint32(m[4:], uint32(len(words)))
		if _, err := unix.Write(number(args[0]), m[:]); err != nil {
			return err
		}
	}
}

func burnMore(ms string) {
	var usage syscall.Rusage
	used := func() time.Duration {
		syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	for end := used() + time.Duration(number(ms))*time.Millisecond; used() < end; {
	}
}

// A residence is a Resident in a test.
type residence struct {
	*Resident
	t        *testing.T
	out, err output
	over     bool
}

func settle(t *testing.T, method Method) *residence {
	t.Helper()
	spec := command("serve", "102") // after the gate and the dump pipe: there are no files
	spec.Method, spec.Limits.Memory, spec.Group.Name = method, 1<<30, groupName()
	s := &residence{t: t}
	resident, err := StartResident(spec, IO{Stdout: &s.out, Stderr: &s.err}, OwnChild)
	if err != nil {
		t.Fatal(err)
	}
	if s.Resident = resident; resident.Release() != nil {
		t.Fatal("it was not released")
	}
	t.Cleanup(func() {
		if !s.over {
			s.End(time.Second)
		}
		if err := s.RemoveGroup(); err != nil {
			t.Error(err)
		}
		if gone := processesOf(s.r.pid); len(gone) > 0 {
			t.Errorf("processes are left: %v", gone)
		}
	})
	return s
}

func groupName() string { return "py3run-test-" + strconv.FormatUint(nonce(), 16) }

// processesOf are the living children of a process.
func processesOf(pid int) []int { return childrenOf(pid, true) }

// do has the program do something in a period.
func (s *residence) do(command string, period Period) (Outcome, string, error) {
	s.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer read.Close()
	write.WriteString(command)
	write.Close()
	var out, errs output
	period.Stdout, period.Stderr, period.Files = &out, &errs, []*os.File{read}
	o, note, err := s.Attend(period, nil, nil)
	if s.over = err != nil; !s.over && int(note) != len(strings.Fields(command)) {
		s.t.Errorf("%s: the note is %d", command, note)
	}
	if errs.String() != "" {
		s.t.Errorf("%s: stderr %q", command, errs.String())
	}
	return o, out.String(), err
}

// Each period has output, status, limits and usage of its own.
func TestResident(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	s := settle(t, Namespace)
	for i := range 3 {
		if o, out, err := s.do(fmt.Sprint("print ", i), Period{Wall: time.Minute}); err != nil || out != fmt.Sprintln(i) || o.Reason != Finished || !o.Began {
			t.Fatalf("%q %v %+v", out, err, o)
		}
	}
	if o, _, err := s.do("report 300", Period{}); err != nil || o.ExitCode != 300&255 || o.Signal != 0 {
		t.Errorf("%v %+v", err, o)
	}
	for range 2 {
		if o, _, err := s.do("burn 300", Period{CPU: 500 * time.Millisecond}); err != nil || o.Usage.CPU < 250*time.Millisecond || o.Usage.CPU > 490*time.Millisecond {
			t.Errorf("%v %+v", err, o)
		}
	}
	if o, _, err := s.do("burn 30000", Period{CPU: 500 * time.Millisecond}); err != ErrOver || o.Reason != CPULimit || o.Used < 0.5 || o.Used > 10 {
		t.Errorf("%v %+v", err, o)
	}
	if s.Alive() {
		t.Error("it is said to live")
	}
}

// A period in which the program ends is the last one.
func TestResidentEnd(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		for _, tt := range []struct {
			command string
			period  Period
			reason  Reason
			code    int
		}{
			{"exit 3", Period{}, Finished, 3},
			{"close", Period{}, Finished, 5},
			{"linger", Period{Wall: 100 * time.Millisecond}, WallLimit, 0},
			{"linger", Period{Idle: 300 * time.Millisecond}, IdleLimit, 0},
		} {
			t.Run(tt.command, func(t *testing.T) {
				t.Parallel()
				s := settle(t, m)
				if o, _, err := s.do(tt.command, tt.period); err != ErrOver || o.Reason != tt.reason || tt.reason == Finished && o.ExitCode != tt.code {
					t.Errorf("%v %+v", err, o)
				}
			})
		}
	})
}

// What a period leaves does nothing until the next one, and cannot write into the output of that.
func TestResidentRests(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	s := settle(t, Namespace)
	if _, out, err := s.do("leave", Period{}); err != nil || strings.Trim(out, "late\n") != "" {
		t.Fatal(out, err)
	}
	state := func() (states string) {
		for _, pid := range childrenOf(s.r.program(), true) {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			_, rest, _ := strings.Cut(string(text), ") ")
			states += rest[:min(1, len(rest))]
		}
		return states
	}
	eventually(t, "the tree to be stopped", func() bool { return strings.Contains(state(), "T") })
	if _, out, err := s.do("print x", Period{}); err != nil || out != "x\n" {
		t.Errorf("%q %v", out, err)
	}
}

// When the last period is over, nobody asks any more whether somebody wants the run to end.
func TestResidentEndHeedsNobody(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	s := settle(t, Namespace)
	var asked atomic.Int32
	s.Heed(func() syscall.Signal { asked.Add(1); return 0 })
	if o, _, err := s.do("outlive", Period{}); err != nil {
		t.Fatalf("%v %+v", err, o)
	}
	before := asked.Load()
	s.over = true
	if s.End(5 * sampleEvery); asked.Load() != before {
		t.Errorf("asked %d times", asked.Load()-before)
	}
}

// A program can take from its own pipe what the launcher has seen there. The launcher does not wait
// for that to come again, in any of the two ways in which it reads.
func TestResidentStolen(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	for name, work := range map[string]string{"brief": "0", "long": "200"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := settle(t, Namespace)
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			write.WriteString("much " + work)
			write.Close()
			thief := &thief{s: s}
			over := make(chan error, 1)
			go func() {
				_, _, err := s.Attend(Period{Stdout: thief, Stderr: &s.err, Files: []*os.File{read}}, nil, nil)
				over <- err
			}()
			select {
			case err := <-over:
				if err != nil || thief.stolen == 0 {
					t.Errorf("%v, %d bytes were stolen", err, thief.stolen)
				}
			case <-time.After(time.Minute):
				s.over = true
				t.Error("the launcher waits for what was stolen")
				s.r.Kill() // so it goes on
				<-over
			}
			if _, out, err := s.do("print x", Period{}); !s.over && out != "x\n" {
				t.Errorf("%q %v", out, err)
			}
		})
	}
}

// A thief is a writer that takes the rest of the stream, once the launcher has counted it for the last
// time.
type thief struct {
	s      *residence
	ready  bool // the program has reported the end of the period
	stolen int
}

func (w *thief) Write(p []byte) (int, error) {
	reported := func() bool {
		fds := []pollFD{polled(w.s.control)}
		return pollBriefly(fds, time.Millisecond)
	}
	if len(w.s.r.outputs) > 0 { // copied: the deadline has passed
		raw, _ := w.s.r.outputs[0].SyscallConn()
		late := func() bool {
			return errors.Is(raw.Read(func(uintptr) bool { return true }), os.ErrDeadlineExceeded)
		}
		if !w.ready {
			eventually(w.s.t, "the deadline to pass", late)
			w.ready = true
		} else if w.stolen == 0 {
			raw.Control(func(fd uintptr) { w.steal(int(fd)) })
		}
		return len(p), nil
	}
	switch { // drained: the report is read
	case !w.ready:
		eventually(w.s.t, "the report", reported)
		w.ready = true
	case w.stolen == 0 && !reported():
		w.steal(w.s.r.raw[0])
	}
	return len(p), nil
}

// steal takes what is in a pipe.
func (w *thief) steal(fd int) {
	held, _ := unix.IoctlGetInt(fd, unix.TIOCINQ)
	w.stolen, _ = unix.Read(fd, make([]byte, held))
}

// Without a pid namespace nothing could stop a program with several threads, which every Go program is.
func TestResidentRestless(t *testing.T) {
	t.Parallel()
	s := settle(t, Process)
	if o, out, err := s.do("print x", Period{}); err == nil || errors.Is(err, ErrOver) || out != "x\n" || o.Reason != Finished {
		t.Errorf("%q %v %+v", out, err, o)
	}
}

// A panic in a writer ends the program, and is in the outcome of the period.
func TestResidentFault(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	s := settle(t, Namespace)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	write.WriteString("print x")
	write.Close()
	o, _, err := s.Attend(Period{Stdout: broken{}, Stderr: &s.err, Files: []*os.File{read}}, nil, nil)
	if s.over = err != nil; err != ErrOver || o.Fault == nil {
		t.Errorf("%v %+v", err, o)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { panic("no writer") }
