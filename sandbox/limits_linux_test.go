package sandbox

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestLimitsEndTheRun(t *testing.T) {
	t.Parallel()
	busy := "while :; do :; done"
	tests := []struct {
		name       string
		spec       Spec
		limits     Limits
		wantReason Reason
		wantSignal syscall.Signal
		wantUsed   float64 // at least
	}{
		{"wall", command("linger"), Limits{Wall: 100 * time.Millisecond}, WallLimit, syscall.SIGTERM, 0.1},
		{"wall, SIGTERM ignored", shell("trap '' TERM; echo ready; while :; do sleep 1; done"), Limits{Wall: 100 * time.Millisecond}, WallLimit, syscall.SIGKILL, 0.1},
		{"wall, stopped", shell("trap '' TERM; echo ready; kill -STOP $$; sleep 100"), Limits{Wall: 100 * time.Millisecond}, WallLimit, syscall.SIGKILL, 0.1},
		{"idle", command("linger"), Limits{Wall: time.Minute, Idle: 300 * time.Millisecond}, IdleLimit, syscall.SIGTERM, 0.3},
		{"processor time of many", shell("for i in 1 2 3 4 5; do (" + busy + ") & done; wait"), Limits{Wall: time.Minute, CPU: time.Second}, CPULimit, syscall.SIGTERM, 1},
		{"processor time of one", shell("trap '' TERM; " + busy), Limits{Wall: time.Minute, CPU: time.Second}, CPULimit, 0, 0.5},
		{"processes", shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; wait"), Limits{Wall: time.Minute, Processes: 5}, ProcessLimit, syscall.SIGKILL, 6},
		{"file size", shell("exec head -c 9000 /dev/zero > file"), Limits{Wall: time.Minute, FileSize: 5000}, FileSizeLimit, syscall.SIGXFSZ, 5000},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				spec := test.spec
				spec.Method, spec.Limits, spec.Dir = m, test.limits, t.TempDir()
				if test.wantSignal == syscall.SIGTERM {
					spec.Grace = time.Hour
				}
				r := begin(t, spec)
				if strings.Contains(strings.Join(spec.Args, " "), "echo ready") {
					r.ready(t) // the clock starts with the release of the gate
				}
				out := r.end(nil, nil)
				if out.Reason != test.wantReason || out.Used < test.wantUsed || out.Incomplete {
					t.Errorf("outcome %+v, want %s, at least %v", out, test.wantReason, test.wantUsed)
				}
				if test.wantSignal != 0 && out.Signal != test.wantSignal {
					t.Errorf("ended by %v, want %v", out.Signal, test.wantSignal)
				}
			})
		}
	})
}

func TestLimitsThatDoNotStrike(t *testing.T) {
	t.Parallel()
	all := Limits{Wall: time.Minute, Idle: 30 * time.Second, CPU: 20 * time.Second, Memory: 1 << 32, Processes: 50, OpenFiles: 99, FileSize: 1 << 20, Disk: 1 << 20}
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell("echo fine; exit 3")
		spec.Method, spec.Limits = m, all
		out, r := execute(t, spec)
		if out.Reason != Finished || out.ExitCode != 3 || r.out.String() != "fine\n" || out.Used != 0 {
			t.Errorf("outcome %+v, output %q", out, r.out.String())
		}
		if out.Usage.PeakMemory <= 0 || out.Usage.PeakProcesses < 1 || out.Usage.Wall <= 0 {
			t.Errorf("usage %+v", out.Usage)
		}
	})
}

// Output counts as progress, and so does processor time.
func TestIdleIsNotSlow(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell("for i in 1 2 3 4 5 6 7 8; do sleep 0.2; echo $i; done")
		spec.Method, spec.Limits.Idle = m, 1500*time.Millisecond
		if out, _ := execute(t, spec); out.Reason != Finished {
			t.Errorf("outcome %+v", out)
		}
	})
}

func TestDiskWatch(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		t.Run("over", func(t *testing.T) {
			t.Parallel()
			spec := command("linger")
			spec.Method, spec.Limits.Disk, spec.Grace = m, 1000, time.Hour
			var looks atomic.Int64
			out := begin(t, spec).end(nil, func() int64 { return 600 * looks.Add(1) })
			if out.Reason != DiskLimit || out.Used != 1200 || out.Signal != syscall.SIGTERM {
				t.Errorf("outcome %+v, want disk, 1200 bytes", out)
			}
		})
		t.Run("a measure that hangs holds nothing up", func(t *testing.T) {
			t.Parallel()
			spec := shell("sleep 0.3")
			spec.Method, spec.Limits.Disk = m, 1000
			forever := make(chan struct{})
			t.Cleanup(func() { close(forever) })
			out := begin(t, spec).end(nil, func() int64 { <-forever; return 0 })
			if out.Reason != Finished {
				t.Errorf("outcome %+v", out)
			}
		})
		t.Run("no limit, no look", func(t *testing.T) {
			t.Parallel()
			spec := shell("sleep 0.3")
			spec.Method = m
			var looks atomic.Int64
			begin(t, spec).end(nil, func() int64 { return looks.Add(1) })
			if n := looks.Load(); n != 0 {
				t.Errorf("%d looks", n)
			}
		})
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		signals    []syscall.Signal
		takes      int // the program ends with the so manieth signal
		wantOutput string
		wantCode   int
		wantSignal syscall.Signal
	}{
		{"passed on", []syscall.Signal{syscall.SIGTERM}, 1, "ready\nterminated\n", 7, 0},
		{"passed on as it came", []syscall.Signal{syscall.SIGINT}, 1, "ready\ninterrupt\n", 7, 0},
		{"the second kills", []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM}, 9, "ready\nuser defined signal 1\n", 0, syscall.SIGKILL},
		{"a lost reader is no second signal", []syscall.Signal{syscall.SIGUSR1, syscall.SIGPIPE, syscall.SIGPIPE, syscall.SIGTERM}, 9, "ready\nuser defined signal 1\n", 0, syscall.SIGKILL},
		{"nor a first one", []syscall.Signal{syscall.SIGPIPE, syscall.SIGTERM, syscall.SIGUSR1}, 9, "ready\nterminated\n", 0, syscall.SIGKILL},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				spec := command("confess", fmt.Sprint(test.takes))
				spec.Method, spec.Grace = m, time.Hour
				r := begin(t, spec)
				r.ready(t)
				signals := make(chan os.Signal)
				go func() {
					for i, s := range test.signals {
						for deadline := time.Now().Add(30 * time.Second); i == 1 && strings.Count(r.out.String(), "\n") <= i && time.Now().Before(deadline); {
							time.Sleep(time.Millisecond) // the first has to arrive; what comes behind it reaches nobody, or kills
						}
						signals <- s
					}
				}()
				out := r.end(signals, nil)
				if by := test.signals[0]; out.Reason != Cancelled || out.Cancel != by && (by != syscall.SIGPIPE || out.Cancel != test.signals[1]) || out.ExitCode != test.wantCode || out.Signal != test.wantSignal {
					t.Errorf("outcome %+v, want cancelled by %v, code %d, signal %v", out, test.signals[0], test.wantCode, test.wantSignal)
				}
				if got := r.out.String(); got != test.wantOutput {
					t.Errorf("output %q, want %q", got, test.wantOutput)
				}
			})
		}
	})
}

// However a run is ended, its daemons end with it.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		args   []string
		limits Limits
		stop   func(*trial, chan<- os.Signal)
	}{
		{"by itself", nil, Limits{}, nil},
		{"grace is over", []string{"stay"}, Limits{Idle: 300 * time.Millisecond}, nil},
		{"killed", []string{"stay"}, Limits{}, func(r *trial, _ chan<- os.Signal) { r.Kill() }},
		{"killed twice", []string{"stay"}, Limits{}, func(r *trial, _ chan<- os.Signal) { r.Kill(); r.Kill() }},
		{"second signal", []string{"stay"}, Limits{}, func(_ *trial, s chan<- os.Signal) { s <- syscall.SIGTERM; s <- syscall.SIGTERM }},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				word := mark(t)
				spec := command(append([]string{"daemons", word}, test.args...)...)
				spec.Method = m
				spec.Limits.Idle = test.limits.Idle
				r := begin(t, spec)
				signals := make(chan os.Signal, 2)
				if test.args != nil {
					r.ready(t)
				}
				if test.stop != nil {
					test.stop(r, signals)
				}
				out := r.end(signals, nil)
				if left := marked(word); len(left) > 0 || out.Incomplete {
					t.Errorf("%d processes are left, %+v", len(left), out)
				}
				if r.out.String() != "ready\n" {
					t.Errorf("no daemons were started: %q", r.err.String())
				}
				r.Kill() // after the end it does nothing
			})
		}
	})
}

func TestGrandchildHoldsTheOutput(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		word := mark(t)
		spec := command("holder", word)
		spec.Method = m
		out, _ := execute(t, spec)
		if left := marked(word); len(left) > 0 || out.Reason != Finished || out.ExitCode != 0 {
			t.Errorf("%d processes are left, %+v", len(left), out)
		}
	})
}

// kill(-1) reaches nobody outside. Only in namespaces: elsewhere it would reach every process of
// this user.
func TestKillAll(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	spec := shell("trap '' TERM; kill -TERM -1; kill -KILL 1; sleep 0.1; echo still here")
	spec.Method, spec.Limits.Processes = Namespace, 20
	r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard}, OwnChild)
	if err != nil {
		t.Fatal(err)
	}
	if r.found.method != Namespace {
		t.Fatal("not in namespaces")
	}
	if out := r.Wait(nil, nil); out.ExitCode != 0 || out.Signal != 0 {
		t.Errorf("outcome %+v", out)
	}
}
