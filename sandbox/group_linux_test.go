package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// grouped is a Spec with a control group; the group is gone at the end of the test.
func grouped(t *testing.T, spec Spec) Spec {
	t.Helper()
	spec.Group.Name = fmt.Sprintf("py3run-test-%016x", rand.Uint64())
	t.Cleanup(func() {
		for _, path := range cgroup.Find("").Paths(spec.Group.Name) {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left (%v)", path, err)
				cgroup.Sweep(path)
			}
		}
	})
	return spec
}

// run is execute with the removal of the group.
func run(t *testing.T, spec Spec) (Outcome, *trial) {
	t.Helper()
	out, r := execute(t, spec)
	if err := r.RemoveGroup(); err != nil {
		t.Error(err)
	}
	return out, r
}

func lacks(p Protection, name string) bool {
	return slices.ContainsFunc(p.Gaps, func(g Gap) bool { return g.Name == name })
}

func TestMemoryOfTheTree(t *testing.T) {
	t.Parallel()
	need(t, "memory-group")
	eachMethod(t, func(t *testing.T, m Method) {
		spec := grouped(t, shell(`i=0; while [ $i -lt 8 ]; do head -c 20m /dev/zero | tail -c 19m & i=$((i+1)); done; wait; sleep 30`))
		spec.Method, spec.Limits.Memory, spec.Limits.Processes = m, 64<<20, 100
		out, r := run(t, spec)
		if out.Reason != MemoryLimit || out.Used < 60<<20 || out.Usage.PeakMemory > 64<<20 {
			t.Errorf("outcome %+v", out)
		}
		if p := r.Protection(); lacks(p, "memory-limit") || !slices.Contains(p.Enforced, "memory-limit") || !slices.Contains(p.Enforced, "process-limit") {
			t.Errorf("protection %+v", p)
		}
	})
}

// What is only reserved does not count, and no limit strikes that was not reached.
func TestMemoryReserved(t *testing.T) {
	t.Parallel()
	need(t, "memory-group")
	spec := grouped(t, command("reserve", "1024"))
	spec.Limits.Memory = 64 << 20
	if out, r := run(t, spec); out.Reason != Finished || out.ExitCode != 0 {
		t.Errorf("%+v, %s", out, r.err.String())
	}
}

func TestProcessesOfTheTree(t *testing.T) {
	t.Parallel()
	need(t, "memory-group")
	eachMethod(t, func(t *testing.T, m Method) {
		spec := grouped(t, shell(`i=0; while [ $i -lt 30 ]; do sleep 20 & i=$((i+1)); done; echo never`))
		spec.Method, spec.Limits.Processes = m, 10
		out, r := run(t, spec)
		if out.Refused == 0 || out.Usage.PeakProcesses > 10 || strings.Contains(r.out.String(), "never") {
			t.Errorf("outcome %+v, %q", out, r.out.String())
		}
	})
}

// The group's CPU time counts what nobody has waited for.
func TestCPUOfTheTree(t *testing.T) {
	t.Parallel()
	need(t, "memory-group")
	spec := grouped(t, shell(`trap '' TERM; for i in 1 2 3 4; do (while :; do :; done) & done; sleep 60`))
	spec.Limits.CPU = time.Second
	out, _ := run(t, spec)
	if out.Reason != CPULimit || out.Used < 1 || out.Usage.CPU < time.Second {
		t.Errorf("outcome %+v", out)
	}
}

// A program that ends init of method process leaves nobody behind: the group is killed.
func TestGroupEndsWhatInitCannot(t *testing.T) {
	t.Parallel()
	need(t, "memory-group")
	word := mark(t)
	spec := grouped(t, command("daemons", word, "kill-init"))
	run(t, spec)
	eventually(t, "the daemons to end", func() bool { return len(marked(word)) == 0 })
}

func TestQuota(t *testing.T) {
	t.Parallel()
	need(t, "quota")
	spec := grouped(t, shell(`i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done`))
	spec.Limits.CPUs, spec.Limits.ReadRate, spec.Limits.WriteRate = 0.5, 1<<30, 1<<30
	out, r := run(t, spec)
	if out.ExitCode != 0 {
		t.Errorf("outcome %+v", out)
	}
	if !slices.Contains(r.Protection().Enforced, "cpu-quota") {
		t.Errorf("cpu-quota is not in force: %+v", r.Protection())
	}
}

// A name that is taken is an error, and the other run's group stays.
func TestGroupNameTaken(t *testing.T) {
	t.Parallel()
	need(t, "memory-group")
	spec := grouped(t, command("linger"))
	r := begin(t, spec)
	var step *StepError
	if _, err := Start(spec, IO{Stdout: &r.out, Stderr: &r.err}, OwnChild); !errors.As(err, &step) || !errors.Is(err, unix.EEXIST) {
		t.Errorf("error %v", err)
	}
	r.Kill()
	if out := r.Wait(nil, nil); out.Signal != syscall.SIGKILL {
		t.Errorf("outcome %+v", out)
	}
	if err := r.RemoveGroup(); err != nil {
		t.Error(err)
	}
}

// Two live runs of one user: neither finds the other's processes, directory, code or abstract socket.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	parent := t.TempDir()
	start := func(name, script string) (*trial, *Workdir) {
		w, err := MakeWorkdir(Dir{Path: filepath.Join(parent, name), Private: true})
		check(t, err, w.AddFile(".py", []byte("secret of "+name)))
		spec := shell(script)
		spec.Method, spec.Dir = Namespace, w.Path()
		r := &trial{}
		if r.Running, err = Start(spec, IO{Stdout: &r.out, Stderr: &r.err, Workdir: w}, OwnChild); err != nil {
			t.Fatal(err)
		}
		r.Release()
		return r, w
	}
	first, w1 := start("one", "echo mine > file; cat ../one.py file; echo; echo ready; sleep 60")
	first.ready(t)
	if got := first.out.String(); got != "secret of onemine\n\nready\n" {
		t.Errorf("the first run finds %q", got)
	}
	second, w2 := start("two", fmt.Sprintf("cd %s; find . | sort; cat one.py; echo x > one/planted; cat one/file; ls -a .py3run-%d; ps ax 2>/dev/null | grep -c 'sleep 6[0]'", parent, os.Geteuid()))
	second.Wait(nil, nil)
	got := second.out.String()
	if strings.Contains(got, "mine") || strings.Contains(got, "secret of one") || strings.Contains(got, "one/file") {
		t.Errorf("the second run finds %q", got)
	}
	check(t, w2.Remove())
	if _, err := os.Stat(filepath.Join(w1.real, "planted")); err == nil {
		t.Error("the second run wrote into the first one's directory")
	}
	first.Kill()
	first.Wait(nil, nil)
	check(t, w1.Remove())
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAbstractSockets(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	need(t, "landlock")
	if landlockVersion() < landlockScopes {
		t.Skip("no scopes in this kernel's Landlock")
	}
	name := fmt.Sprintf("@py3run-test-%016x", rand.Uint64())
	l, err := net.Listen("unix", name)
	check(t, err)
	defer l.Close()
	for _, m := range []Method{Namespace, Process} {
		spec := command("dial", name)
		spec.Method = m
		out, _ := execute(t, spec)
		if reached := out.ExitCode == 0; reached != (m == Process) {
			t.Errorf("%s: reached %t", m, reached)
		}
	}
}

func TestDenyCalls(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		for _, deny := range []bool{false, true} {
			spec := command("report")
			spec.Method, spec.DenyCalls = m, deny
			got, r := reported(t, spec)
			if filtered := got.Status["Seccomp"] == "2"; filtered != deny || slices.Contains(r.Protection().Enforced, "seccomp-default") != deny {
				t.Errorf("deny %t: seccomp mode %s, %v", deny, got.Status["Seccomp"], r.Protection())
			}
		}
	})
}

// Root's other ways to what the filter refuses, and to its own limits, are closed; the rest of /sys
// is not.
func TestReadOnlyKernel(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	spec := shell("awk '$5 ~ /^.proc.sys$|^.sys.fs.cgroup/ {print $6}' /proc/self/mountinfo | grep -c ^rw; [ -w /proc/sys/kernel/core_pattern ] && echo writable; cat /proc/sys/kernel/ostype")
	spec.Method, spec.DenyCalls = Namespace, true
	_, r := execute(t, spec)
	if got := r.out.String(); got != "0\nLinux\n" || lacks(r.Protection(), "read-only-kernel") {
		t.Errorf("%q %s %+v", got, r.err.String(), r.Protection())
	}
}

func TestMinimalDev(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	spec := shell("ls /dev | sort | tr '\\n' ' '; echo x > /dev/null && head -c 1 /dev/urandom | wc -c; echo y > /dev/shm/f && cat /dev/shm/f; ls /proc/self/status; ls -l /dev/fd | wc -l")
	spec.Method, spec.MinimalDev = Namespace, true
	_, r := execute(t, spec)
	if got := r.out.String(); !strings.HasPrefix(got, "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero 1\ny\n/proc/self/status\n") {
		t.Errorf("%q, %s, %+v", got, r.err.String(), r.Protection())
	}
	if _, err := os.Stat("/dev/shm/f"); err == nil {
		t.Error("/dev/shm is the host's")
	}
}

func TestRunAs(t *testing.T) {
	t.Parallel()
	need(t, "root")
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell("id -u; id -g; id -G; grep -c CapEff.*0000000000000000 /proc/self/status; grep Seccomp: /proc/self/status")
		spec.Method, spec.RunAs, spec.DenyCalls = m, &User{UID: 12345, GID: 54321, Groups: []int{54321, 777}}, true
		if _, r := execute(t, spec); r.out.String() != "12345\n54321\n54321 777\n1\nSeccomp:\t2\n" {
			t.Errorf("%q %s", r.out.String(), r.err.String())
		}
	})
}

func TestNoNewPrivileges(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		for _, want := range []string{"0", "1"} {
			spec := command("report")
			spec.Method, spec.NoNewPrivileges = m, want == "1"
			if got, _ := reported(t, spec); got.Status["NoNewPrivs"] != want {
				t.Errorf("NoNewPrivs %s, want %s", got.Status["NoNewPrivs"], want)
			}
		}
	})
}
