package sandbox

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHowItEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		args       []string
		wantCode   int
		wantSignal syscall.Signal
	}{
		{"exit 0", []string{"exit", "0"}, 0, 0},
		{"exit 1", []string{"exit", "1"}, 1, 0},
		{"exit 255", []string{"exit", "255"}, 255, 0},
		{"SIGTERM", []string{"die", "15"}, 0, syscall.SIGTERM},
		{"SIGKILL", []string{"die", "9"}, 0, syscall.SIGKILL},
		{"SIGSEGV", []string{"die", "11"}, 0, syscall.SIGSEGV},
		{"SIGABRT", []string{"die", "6"}, 0, syscall.SIGABRT},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				spec := command(test.args...)
				spec.Method = m
				out, _ := execute(t, spec)
				if out.ExitCode != test.wantCode || out.Signal != test.wantSignal || out.Reason != Finished || out.Incomplete {
					t.Errorf("outcome %+v, want code %d, signal %v, finished", out, test.wantCode, test.wantSignal)
				}
			})
		}
	})
}

func TestWhatTheProgramFinds(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		dir := t.TempDir()
		leak := openForAll(t)
		file, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		spec := command("report")
		spec.Method, spec.Dir, spec.Env, spec.FirstFile, spec.Limits.OpenFiles = m, dir, []string{"A=1", "EMPTY=", "B=two words"}, 77, 77
		got, r := reported(t, spec, file, file)
		if r.Protection().Method != m {
			t.Errorf("method %s", r.Protection().Method)
		}
		if got.PID == 1 || m == Namespace && got.PPID != 1 || m == Process && got.PPID != r.pid {
			t.Errorf("pid %d, parent %d; want not 1 and init", got.PID, got.PPID)
		}
		if got.SID != got.PID || got.PGID != got.PID {
			t.Errorf("session %d, group %d, want %d", got.SID, got.PGID, got.PID)
		}
		if got.UID != os.Getuid() {
			t.Errorf("uid %d, want %d", got.UID, os.Getuid())
		}
		if want := []int{0, 1, 2, 77, 78, 79, 80}; !slices.Equal(got.Descriptors, want) {
			t.Errorf("descriptors %v, want %v (%d is open here and not closed at exec)", got.Descriptors, want, leak)
		}
		if !slices.Equal(got.Env, spec.Env) {
			t.Errorf("environment %q, want %q", got.Env, spec.Env)
		}
		if got.Dir != dir {
			t.Errorf("directory %q, want %q", got.Dir, dir)
		}
		if got.Core != 0 || got.OpenFiles != 77 {
			t.Errorf("limits: core %d, open files %d; want 0, 77", got.Core, got.OpenFiles)
		}
		if alone := !slices.Contains(got.PIDs, os.Getpid()) || len(got.PIDs) == 2; m == Namespace && (!alone || !slices.Equal(got.PIDs, []int{1, got.PID})) {
			t.Errorf("/proc shows %v, want 1 and %d", got.PIDs, got.PID)
		}
		if os.Geteuid() == 0 {
			var caps uint64
			fmt.Sscanf(got.Status["CapEff"], "%x", &caps)
			if caps == 0 || caps&(1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_SYS_PTRACE) != 0 {
				t.Errorf("effective capabilities %#x", caps)
			}
		} else if caps := got.Status["CapEff"]; strings.Trim(caps, "0") != "" {
			t.Errorf("an ordinary user's program has capabilities %s", caps)
		}
	})
}

// openForAll opens a descriptor that every child of this process inherits, at 9 or above.
func openForAll(t *testing.T) int {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	leak, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 9)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(leak) })
	return leak
}

// A Java parent leaves signals blocked and ignored.
func TestSignalsAreFresh(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		c := helper("mask", "launch", string(m), "/bin/cat", "/proc/self/status")
		text, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		got := map[string]string{}
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.HasPrefix(name, "Sig") && name != "SigQ" {
				got[name] = strings.TrimSpace(value)
			}
		}
		none := strings.Repeat("0", 16)
		if want := map[string]string{"SigPnd": none, "SigBlk": none, "SigIgn": none, "SigCgt": none}; !maps.Equal(got, want) {
			t.Errorf("signals %v, want %v", got, want)
		}
	})
}

// The test above is worth something only if its launcher has signals to leak.
func TestSignalsLeakWithoutUs(t *testing.T) {
	t.Parallel()
	text, err := helper("mask", "report").CombinedOutput()
	if err != nil || !strings.Contains(string(text), `"SigBlk":"0000000000000800"`) {
		t.Errorf("%v: %s", err, text)
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "not executable")
	if err := os.WriteFile(plain, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(dir, "absent")
	tests := []struct {
		name   string
		change func(*Spec)
		want   StepError
	}{
		{"no such program", func(s *Spec) { s.Path = absent }, StepError{"execve", absent, syscall.ENOENT}},
		{"not executable", func(s *Spec) { s.Path = plain }, StepError{"execve", plain, syscall.EACCES}},
		{"a directory", func(s *Spec) { s.Path = dir }, StepError{"execve", dir, syscall.EACCES}},
		{"no such directory", func(s *Spec) { s.Dir = absent }, StepError{"chdir", absent, syscall.ENOENT}},
		{"current directory is a file", func(s *Spec) { s.Dir = plain }, StepError{"chdir", plain, syscall.ENOTDIR}},
		{"descriptors stand on the files' numbers", func(s *Spec) { s.Path, s.FirstFile = absent, 3 }, StepError{"execve", absent, syscall.ENOENT}},
		{"files on the streams' numbers", func(s *Spec) { s.FirstFile = 0 }, StepError{"descriptors", "Spec.FirstFile", syscall.EINVAL}},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				var files []*os.File // enough of them to cover every number that the launcher uses
				for range 100 {
					f, err := os.Open(os.DevNull)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					files = append(files, f)
				}
				spec := command("linger", mark(t))
				spec.Method = m
				test.change(&spec)
				_, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard, Files: files}, OwnChild)
				var got *StepError
				if !errors.As(err, &got) || *got != test.want {
					t.Errorf("error %v, want %v", err, &test.want)
				}
			})
		}
	})
}

func TestGate(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := command("gate", "101")
		spec.Method = m
		file, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if got := spec.GateFile(1); got != 101 {
			t.Fatalf("gate at %d", got)
		}
		r := begin(t, spec, file)
		eventually(t, "the program at its gate", func() bool { return r.out.String() == "waiting\n" })
		out := r.end(nil, nil)
		if got, want := r.out.String(), "waiting\nread 1 1\n"; got != want || out.ExitCode != 0 {
			t.Errorf("output %q, %+v, want %q", got, out, want)
		}
	})
}

// A program that is gone before its gate opens has not begun, whatever it ended with.
func TestGateTooLate(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := command("exit", "0")
		spec.Method = m
		r := begin(t, spec)
		eventually(t, "the end of the program", func() bool { return r.program() == 0 })
		if out := r.end(nil, nil); out.Began {
			t.Errorf("it has begun: %+v", out)
		}
	})
}

func TestDump(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		t.Run("at a limit", func(t *testing.T) {
			t.Parallel()
			spec := command("dump", "101", "line 7\n", "10")
			spec.Method, spec.DumpSignal, spec.Limits.Idle = m, syscall.SIGUSR1, 300*time.Millisecond
			r := begin(t, spec)
			r.ready(t)
			out := r.end(nil, nil)
			if string(out.Dump) != "line 7\n" || out.Reason != IdleLimit || out.Signal != syscall.SIGKILL {
				t.Errorf("outcome %+v, dump %q", out, out.Dump)
			}
		})
		t.Run("by itself", func(t *testing.T) {
			t.Parallel()
			text := strings.Repeat("line 9\n", 2000)
			spec := command("dump", "101", text)
			spec.Method = m
			if out, _ := execute(t, spec); string(out.Dump) != text {
				t.Errorf("%d bytes of dump, want %d", len(out.Dump), len(text))
			}
		})
	})
}

// slow is a reader that begins late.
type slow struct {
	output
	wait time.Duration
}

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(s.wait)
	s.wait = 0
	return s.output.Write(p)
}

type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, errors.New("no more") }

func TestOutput(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		t.Run("complete", func(t *testing.T) {
			t.Parallel()
			spec := command("flood", "5000000")
			spec.Method = m
			if out, r := execute(t, spec); len(r.out.String()) != 5e6 || len(r.err.String()) != 5e6 || out.ExitCode != 0 {
				t.Errorf("%d and %d bytes, want 5000000; %+v", len(r.out.String()), len(r.err.String()), out)
			}
		})
		t.Run("complete for a reader that is slower than the program", func(t *testing.T) {
			t.Parallel()
			spec := command("flood", "50000")
			spec.Method = m
			stdout := slow{wait: drainWait + drainWait/2}
			r, err := Start(spec, IO{Stdout: &stdout, Stderr: io.Discard}, OwnChild)
			if err != nil {
				t.Fatal(err)
			}
			r.Release()
			if r.Wait(nil, nil); len(stdout.String()) != 50000 {
				t.Errorf("%d bytes, want 50000", len(stdout.String()))
			}
		})
		t.Run("reader gone", func(t *testing.T) {
			t.Parallel()
			spec := command("epipe")
			spec.Method = m
			var stderr output
			r, err := Start(spec, IO{Stdout: refusing{}, Stderr: &stderr}, OwnChild)
			if err != nil {
				t.Fatal(err)
			}
			r.Release()
			if out := r.Wait(nil, nil); stderr.String() != "EPIPE\n" || out.ExitCode != 0 {
				t.Errorf("stderr %q, %+v", stderr.String(), out)
			}
		})
		t.Run("empty input", func(t *testing.T) {
			t.Parallel()
			spec := shell("cat; echo end")
			spec.Method = m
			if _, r := execute(t, spec); r.out.String() != "end\n" {
				t.Errorf("output %q", r.out.String())
			}
		})
		t.Run("given input", func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "in")
			if err := os.WriteFile(path, []byte("given"), 0o600); err != nil {
				t.Fatal(err)
			}
			in, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			spec := shell("cat")
			spec.Method = m
			var stdout output
			r, err := Start(spec, IO{Stdin: in, Stdout: &stdout, Stderr: io.Discard}, OwnChild)
			if err != nil {
				t.Fatal(err)
			}
			if r.Wait(nil, nil); stdout.String() != "given" {
				t.Errorf("output %q", stdout.String())
			}
		})
	})
}

// A file that there is not leaves its number free, whatever had it before.
func TestUnusedNumber(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		f, err := os.Open("/dev/null")
		check(t, err)
		defer f.Close()
		spec := command("report")
		spec.Method = m
		found, _ := reported(t, spec, nil, f)
		var ours []int
		for _, n := range found.Descriptors {
			if n >= spec.FirstFile {
				ours = append(ours, n)
			}
		}
		if want := []int{spec.FirstFile + 1, spec.GateFile(2), spec.DumpFile(2)}; !slices.Equal(ours, want) {
			t.Errorf("descriptors %v, want %v", ours, want)
		}
	})
}
