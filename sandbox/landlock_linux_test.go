package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

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

// Rules hold for what the program finds, not for what is mounted over: its own /proc, /dev and
// working directory.
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
