package sigaction

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"
)

// The test binary plays a program that has a handler for a signal, may have blocked it, and raises it.
const helperName = "py3run-sigaction-test-helper"

func TestMain(m *testing.M) {
	if os.Args[0] != helperName {
		os.Exit(m.Run())
	}
	number, _ := strconv.Atoi(os.Args[1])
	s := syscall.Signal(number)
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, s)
	runtime.LockOSThread()
	if os.Args[2] == "blocked" {
		mask := uint64(1) << (s - 1)
		syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 0, uintptr(unsafe.Pointer(&mask)), 0, setSize, 0, 0)
	}
	before := Set(s, Ignore)
	Set(s, before)
	Raise(s)
	if Set(s, before) != before {
		fmt.Println("Raise has not put the handler back")
	}
	runtime.UnlockOSThread()
	syscall.Kill(os.Getpid(), s)
	if os.Args[2] != "blocked" {
		<-heard
	}
	fmt.Println("over")
}

func TestRaise(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		signal syscall.Signal
		stops  bool
		ends   bool
	}{{syscall.SIGTERM, false, true}, {syscall.SIGQUIT, false, true}, {syscall.SIGTSTP, true, false}, {syscall.SIGWINCH, false, false}} {
		for _, how := range []string{"open", "blocked"} {
			t.Run(tt.signal.String()+" "+how, func(t *testing.T) {
				t.Parallel()
				c := exec.Command("/proc/self/exe")
				c.Args = []string{helperName, strconv.Itoa(int(tt.signal)), how}
				c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				c.Env = []string{"GORACE=atexit_sleep_ms=0"}
				c.Dir = t.TempDir() // for a core dump
				out, err := c.StdoutPipe()
				if err == nil {
					err = c.Start()
				}
				if err != nil {
					t.Fatal(err)
				}
				if tt.stops {
					var status syscall.WaitStatus
					if _, err := syscall.Wait4(c.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() || status.StopSignal() != tt.signal {
						t.Errorf("%v, status %#x", err, status)
					}
					syscall.Kill(c.Process.Pid, syscall.SIGCONT)
				}
				text := make([]byte, 100)
				n, _ := out.Read(text)
				c.Wait()
				status := c.ProcessState.Sys().(syscall.WaitStatus)
				if tt.ends && status.Signal() != tt.signal || !tt.ends && (status != 0 || string(text[:n]) != "over\n") {
					t.Errorf("status %#x, it says %q", status, text[:n])
				}
			})
		}
	}
}
