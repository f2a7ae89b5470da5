package sandbox

import (
	"errors"
	"fmt"
	"io"
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

func TestReadWriteDirs(t *testing.T) {
	t.Parallel()
	need(t, "landlock")
	eachMethod(t, func(t *testing.T, m Method) {
		dir := t.TempDir()
		for _, d := range []string{"in", "out"} {
			check(t, os.Mkdir(filepath.Join(dir, d), 0o755), os.WriteFile(filepath.Join(dir, d, "f"), []byte("text\n"), 0o644))
		}
		try := func(name string, change func(*Spec), script, want string) {
			t.Helper()
			spec := shell("cd " + dir + "; t() { if sh -c \"$1\" >/dev/null 2>&1; then printf y; else printf n; fi; }; " + script)
			spec.Method = m
			change(&spec)
			_, r := execute(t, spec)
			if got := r.out.String(); got != want {
				t.Errorf("%s: %q, want %q; %s", name, got, want, r.err.String())
			}
			for _, g := range r.Protection().Gaps { // it is told, and refuses nothing
				if g.Name == "write-dirs-metadata" && !g.Extra {
					t.Errorf("%s: %+v", name, g)
				}
			}
			if told := lacks(r.Protection(), "write-dirs-metadata"); told != (spec.WriteDirs != nil) {
				t.Errorf("%s: changes of metadata are not held: told %t", name, told)
			}
		}
		system := []string{"/usr", "/bin", "/lib", "/lib64", "/etc", "/dev/null"}
		try("write", func(s *Spec) { s.WriteDirs = []string{dir + "/in", "/dev/null", dir + "/absent"} },
			`t 'echo x > in/g'; t 'echo x > out/g'; t 'rm out/f'; t ': > out/f'; t 'mv in/g in/h'; t 'mv in/h out/h'; t 'mkdir in/d && mv in/h in/d'; t 'cat out/f'; t 'chmod 600 in/f'; t 'chmod 600 out/f'`, "ynnnynyyyy")
		try("read", func(s *Spec) { s.ReadDirs = append([]string{dir + "/in"}, system...) },
			`t 'cat in/f'; t 'cat out/f'; t 'ls out'; t 'echo x > out/new'; t 'mv out/new in/new'; : > in/g2; t 'mv in/g2 in/g3'; t 'mv in/g3 out/g4'`, "ynnynyy") // what moves must not become readable
		try("both", func(s *Spec) { s.ReadDirs = system; s.WriteDirs = []string{dir + "/in", "/dev/null"} },
			`t 'cat in/f'; t 'echo x > in/f'; t 'cat out/f'; t 'echo x > out/f'`, "yynn")
		try("neither", func(s *Spec) {}, `t 'cat out/f'; t 'echo x > out/f'`, "yy")

		loop := filepath.Join(dir, "loop")
		check(t, os.Symlink(loop, loop))
		spec := shell("true")
		spec.Method, spec.WriteDirs = m, []string{loop}
		var step *StepError
		if _, err := Start(spec, IO{Stdout: &output{}, Stderr: &output{}}, OwnChild); !errors.As(err, &step) || step.Object != loop || !errors.Is(err, unix.ELOOP) {
			t.Errorf("a place that cannot be opened: error %v", err)
		}
	})
}

// Rules hold for what the program finds, not for what is mounted over: its own /proc, /dev and working directory.
func TestReadWriteDirsWithMounts(t *testing.T) {
	t.Parallel()
	need(t, "landlock")
	const try = `t() { if sh -c "$1" >/dev/null 2>&1; then printf y; else printf n; fi; }; `
	system := []string{"/usr", "/bin", "/lib", "/lib64", "/etc", "/dev", "/proc"}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, minimal := range []bool{false, true} {
			t.Run(fmt.Sprintf("minimal dev %t", minimal), func(t *testing.T) {
				t.Parallel()
				parent := t.TempDir()
				elsewhere := filepath.Join(parent, "f")
				check(t, os.WriteFile(elsewhere, []byte("text\n"), 0o644))
				w, err := MakeWorkdir(Dir{Path: filepath.Join(parent, "run"), Private: true})
				check(t, err, w.AddFile(".py", []byte("code")))
				defer func() { check(t, w.Remove()) }()
				shm := fmt.Sprintf("/dev/shm/py3run-test-%016x", rand.Uint64())
				for _, test := range []struct {
					name, script, want string
					change             func(*Spec)
				}{
					{"read", `t 'cat /proc/self/status'; t 'cat /proc/1/comm'; t 'ls /proc/1/task'; t 'cat f'; t 'ls .'; t 'cat ../run.py'; t 'head -c 1 /dev/zero'; t 'ls /dev/shm'; t 'cat ../f'; t 'ls ..'`,
						"yyyyyyyynn", func(s *Spec) { s.ReadDirs = append([]string{w.Path(), w.Path() + ".py"}, system...) }},
					{"write", `t 'echo x > g && mkdir d && mv g d && rm -r d'; t 'echo x > /dev/null'; t 'echo x > ` + shm + ` && rm ` + shm + `'; t ': <> /dev/ptmx'; t 'echo x > ../f'; t 'echo x > ../new'; t 'echo x > /proc/self/comm'; t 'cat ../f'`,
						"yyyynnny", func(s *Spec) {
							s.WriteDirs = []string{w.Path(), "/dev/null", "/dev/shm", "/dev/ptmx", "/dev/pts"}
						}},
				} {
					spec := shell("echo text > f; " + try + test.script)
					spec.Method, spec.Dir, spec.MinimalDev = m, w.Path(), minimal
					test.change(&spec)
					var out, errs output
					r, err := Start(spec, IO{Stdout: &out, Stderr: &errs, Workdir: w}, OwnChild)
					check(t, err)
					r.Release()
					ended := r.Wait(nil, nil)
					if got := out.String(); got != test.want {
						t.Errorf("%s: %q, want %q; %s %+v", test.name, got, test.want, errs.String(), ended.Protection)
					}
				}
			})
		}
	})
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

// Root's other ways to what the filter refuses, and to its own limits, are closed; the rest of /sys is not.
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

// What a launcher leaves that is killed at any moment is swept by the next, and what lives is left alone.
func TestSweep(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		parent := t.TempDir()
		living, err := MakeWorkdir(Dir{Path: filepath.Join(parent, "living"), Private: true})
		check(t, err, living.AddFile(".py", nil))
		kept, err := MakeWorkdir(Dir{Path: filepath.Join(parent, "kept"), Private: true, Keep: true})
		check(t, err, os.WriteFile(filepath.Join(kept.real, "f"), nil, 0o600))
		kept.lock.Close() // as when its launcher died
		word := mark(t)
		for range 12 {
			c := helper("killed", string(m), parent, word)
			c.Stderr = os.Stderr
			check(t, c.Start())
			time.Sleep(rand.N(40 * time.Millisecond)) // the random moment
			c.Process.Kill()
			c.Wait()
		}
		eventually(t, "the programs to end", func() bool { return len(marked(word)) == 0 })
		check(t, Sweep(parent))
		var left []string
		filepath.WalkDir(parent, func(path string, _ fs.DirEntry, _ error) error {
			rel, _ := filepath.Rel(parent, path)
			left = append(left, strings.ReplaceAll(rel, fmt.Sprintf(".py3run-%d", os.Geteuid()), "PLACE"))
			return nil
		})
		slices.Sort(left)
		if want := []string{".", "PLACE", "PLACE/living.d", "PLACE/living.d/living", "PLACE/living.d/living.py", "PLACE/living.run", "kept", "kept/f", "living", "living.py"}; !slices.Equal(left, want) {
			t.Errorf("left %q\nwant %q", left, want)
		}
		check(t, living.Remove())
	})
}

// Whatever lies in the place, sweeping removes only what is below it or bears its name, waits for nothing, and says nothing twice.
func TestSweepOnlyRuns(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	place := placeIn(parent)
	write := func(name, text string) { check(t, os.WriteFile(name, []byte(text), 0o600)) }
	check(t, os.Mkdir(place, 0o700), os.Mkdir(filepath.Join(place, "directory.run"), 0o700), unix.Mkfifo(filepath.Join(place, "pipe.run"), 0o600),
		os.Symlink("/etc/passwd", filepath.Join(place, "link.run")))
	write(filepath.Join(parent, "other"), "of others")
	for _, name := range []string{".run", "..run", "...run"} {
		write(filepath.Join(place, name), "settled\n")
	}
	f, err := os.Create(filepath.Join(place, "sparse.run"))
	check(t, err, f.Truncate(5<<30), f.Close())
	write(filepath.Join(place, "groups.run"), "group "+parent+"\ngroup\ngroup /absent\nfile ../other\nfile /../other\nfi")
	write(filepath.Join(place, "empty.run"), "")
	// a run that was to stay, with something else at its path by now
	write(filepath.Join(place, "kept.run"), "keep\n")
	check(t, os.MkdirAll(filepath.Join(place, "kept.d", "kept"), 0o700), os.Mkdir(filepath.Join(parent, "kept"), 0o700))
	write(filepath.Join(place, "kept.d", "kept", "f"), "of the run")
	write(filepath.Join(parent, "kept", "f"), "of others")
	// a private run, with something else where it was mounted
	write(filepath.Join(place, "taken.run"), "file .py\n")
	check(t, os.Mkdir(filepath.Join(parent, "taken"), 0o700), os.MkdirAll(filepath.Join(place, "taken.d", "taken"), 0o700))
	write(filepath.Join(parent, "taken", "f"), "of others")
	write(filepath.Join(parent, "taken.py"), "of others")
	write(filepath.Join(place, "taken.d", "taken.py"), "of the run")
	// a link that leads elsewhere, and a group that is not the run's
	elsewhere := t.TempDir()
	check(t, os.Mkdir(filepath.Join(elsewhere, "precious"), 0o700), os.Symlink(elsewhere, filepath.Join(parent, "link")))
	write(filepath.Join(place, "link+precious.run"), "at link/precious\nsettled\ngroup /sys/fs/cgroup/pids/others\n")
	// names that lead elsewhere
	write(filepath.Join(place, "out.run"), "settled\nat ../other\nat /etc\nat other\nat out/../other\n")
	check(t, Sweep(parent), Sweep(parent))
	if _, err := os.Stat(filepath.Join(elsewhere, "precious")); err != nil {
		t.Errorf("what a link leads to was removed: %v", err)
	}
	gone(t, filepath.Join(place, "sparse.run"), filepath.Join(place, "groups.run"), filepath.Join(place, "empty.run"), filepath.Join(place, "kept.run"),
		filepath.Join(place, "taken.run"), filepath.Join(place, "taken.d"), filepath.Join(place, "out.run"))
	for path, want := range map[string]string{"other": "of others", "kept/f": "of others", "kept-1/f": "of the run", "taken/f": "of others", "taken.py": "of others"} {
		if text, err := os.ReadFile(filepath.Join(parent, path)); string(text) != want {
			t.Errorf("%s: %q, %v, want %q", path, text, err, want)
		}
	}
}

// What somebody outside puts where a private directory is mounted is told, and is not removed.
func TestPlaceTaken(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	path := filepath.Join(t.TempDir(), "run")
	w, err := MakeWorkdir(Dir{Path: path, Private: true})
	check(t, err, w.AddFile(".py", nil))
	spec := command("linger")
	spec.Method, spec.Dir = Namespace, path
	r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard, Workdir: w}, OwnChild)
	check(t, err, r.Release())
	if lost := w.Lost(); lost != "" {
		t.Errorf("%s is lost, and nobody has touched it", lost)
	}
	time.Sleep(30 * time.Millisecond) // a file system's clock ticks every 1 to 10 ms, and the numbers can be the same
	check(t, os.Remove(path), os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "f"), nil, 0o600))
	r.Kill()
	r.Wait(nil, nil)
	if lost := w.Lost(); lost != path {
		t.Errorf("lost %q, want %s", lost, path)
	}
	check(t, w.Remove())
	gone(t, path+".py", w.place)
	if _, err := os.Stat(filepath.Join(path, "f")); err != nil {
		t.Errorf("what took the place of the directory was removed: %v", err)
	}
}

// A place that is not this user's own is not used, and said.
func TestPlaceOfSomebodyElse(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	check(t, os.Mkdir(placeIn(parent), 0o777), os.Chmod(placeIn(parent), 0o777))
	w, err := MakeWorkdir(Dir{Path: filepath.Join(parent, "run"), Private: true})
	check(t, err)
	if w.private == nil || w.real != w.path {
		t.Errorf("%+v", w)
	}
	spec := command("exit", "0")
	r, err := Start(spec, IO{Stdout: &output{}, Stderr: &output{}, Workdir: w}, OwnChild)
	check(t, err)
	out := r.Wait(nil, nil)
	if !lacks(out.Protection, "private-working-dir") {
		t.Errorf("protection %+v", out.Protection)
	}
	check(t, w.Remove())
	gone(t, w.path)
}

func TestSettle(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run")
	w, err := MakeWorkdir(Dir{Path: path, Private: true})
	check(t, err, w.AddFile(".py", []byte("code")), os.WriteFile(filepath.Join(w.real, "f"), nil, 0o600))
	if info, err := os.Stat(w.place); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("place %v, %v", info, err)
	}
	check(t, w.Settle(), w.Settle())
	if text, err := os.ReadFile(path + ".py"); string(text) != "code" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(path, "f")); err != nil {
		t.Error(err)
	}
	check(t, w.Remove())
	gone(t, path, path+".py", w.place)
}
