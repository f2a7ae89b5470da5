package sandbox

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

func TestHide(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	dir := t.TempDir()
	for _, d := range []string{"one", "two", "two/inner", "seen"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"one/a", "two/inner/b", "seen/c", "secret"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": "one", "alias": "two", "two/out": "../one"} {
		check(t, os.Symlink(to, filepath.Join(dir, link)))
	}
	at := func(names ...string) (paths []string) {
		for _, n := range names {
			paths = append(paths, filepath.Join(dir, n))
		}
		return paths
	}
	empty, closed := ": 0 entries\n", ": open %: permission denied\n"
	if os.Geteuid() != 0 {
		empty = closed
	}
	tests := []struct {
		name string
		hide []string
		look string
		want string
	}{
		{"nothing", nil, "one", ": 1 entries\n"},
		{"a directory", at("one"), "one", empty},
		{"the second directory", at("one", "two"), "two", empty},
		{"a file", at("secret"), "secret", ": \"\"\n"},
		{"another one is seen", at("one", "secret"), "seen/c", ": \"text\"\n"},
		{"what is not there", at("absent", "one"), "one", empty},
		{"by a link", at("link"), "one", empty},
		{"one inside the other", at("two", "two/inner"), "two", empty},
		{"one around the other", at("two/inner", "two"), "two", empty},
		{"twice", at("one", "one"), "one", empty},
		{"a link and what it leads to", at("link", "one"), "one", empty},
		{"what a link leads to and the link", at("one", "link"), "link", empty},
		{"one inside the other, by a link", at("two", "alias/inner"), "two", empty},
		{"by a link inside the other", at("two", "two/out"), "one", empty},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, test.look)
			spec := command("look", path)
			spec.Method, spec.Hide, spec.OnMissing = Namespace, test.hide, Refuse
			_, r := execute(t, spec)
			want := path + test.want
			if test.want == closed {
				want = path + ": open " + path + ": permission denied\n"
			}
			if got := r.out.String(); got != want {
				t.Errorf("the program sees %q, want %q", got, want)
			}
			if has := slices.Contains(r.Protection().Enforced, "hidden-paths"); has != (len(test.hide) > 0) {
				t.Errorf("protection %v", r.Protection())
			}
		})
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "one")); err != nil || len(entries) != 1 {
		t.Errorf("outside it is hidden too: %v, %v", entries, err)
	}
}

func TestDenyNetwork(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, m Method) {
		spec := command("report")
		spec.Method, spec.DenyNetwork = m, true
		got, r := reported(t, spec)
		missing := slices.ContainsFunc(r.Protection().Gaps, func(g Gap) bool { return g.Name == "network-namespace" })
		if m == Process {
			if !missing {
				t.Errorf("the network is not missing in %v", r.Protection().Gaps)
			}
			return
		}
		if missing || !slices.Contains(r.Protection().Enforced, "network-namespace") {
			t.Errorf("protection %+v", r.Protection())
		}
		if !slices.Contains(got.Interfaces, "lo") || slices.Contains(got.Interfaces, "eth0") {
			t.Errorf("interfaces %v", got.Interfaces)
		}
		spec = command("connect")
		spec.Method, spec.DenyNetwork = m, true
		if out, r := execute(t, spec); out.ExitCode != 0 || r.out.String() != "hello\n" {
			t.Errorf("over the loopback: %+v, %q, %q", out, r.out.String(), r.err.String())
		}
		spec = shell(`for d in /proc/sys/net/ipv4/conf/*; do echo ${d##*/}; done; cat /proc/net/route | wc -l`)
		spec.Method, spec.DenyNetwork = m, true
		if _, r := execute(t, spec); r.out.String() == "" {
			t.Error("nothing to see of the network")
		}
	})
}

// What each method says of itself, and that Refuse starts nothing.
func TestMissing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*Spec)
		method Method
		want   []string
	}{
		{"namespace", func(*Spec) {}, Namespace, []string{}},
		{"namespace with all", func(s *Spec) { s.DenyNetwork, s.Hide = true, []string{"/srv"} }, Namespace, []string{}},
		{"limits of the tree", func(s *Spec) { s.Limits.Memory, s.Limits.Processes = 1<<33, 99 }, Namespace, []string{"memory-limit", "process-limit"}},
		{"process", func(*Spec) {}, Process, []string{"pid-namespace", "mount-namespace", "ipc-namespace", "uts-namespace", "proc"}},
		{"process with all", func(s *Spec) { s.DenyNetwork, s.Hide = true, []string{"/srv"} }, Process,
			[]string{"pid-namespace", "mount-namespace", "ipc-namespace", "uts-namespace", "proc", "network-namespace", "hidden-paths"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.method == Namespace {
				need(t, "namespaces")
			}
			word := mark(t)
			spec := command("exit", "0", word)
			spec.Method = test.method
			test.change(&spec)
			spec.OnMissing = Warn
			_, r := execute(t, spec)
			var got []string
			for _, g := range r.Protection().refusing() {
				got = append(got, g.Name)
				if g.Why == "" {
					t.Errorf("%s is missing without a reason", g.Name)
				}
				if slices.Contains(r.Protection().Enforced, g.Name) {
					t.Errorf("%s is both enforced and missing", g.Name)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("missing %q, want %q", got, test.want)
			}

			spec.OnMissing, spec.Args = Refuse, command("linger", word).Args
			refused, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard}, OwnChild)
			var missing *GapError
			if len(test.want) == 0 {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				refused.Kill()
				refused.Wait(nil, nil)
			} else if !errors.As(err, &missing) || len(missing.Gaps) != len(test.want) || missing.Error() == "" {
				t.Errorf("error %v, want %d gaps", err, len(test.want))
			}
			if left := marked(word); len(left) > 0 {
				t.Errorf("%d processes are left", len(left))
			}
		})
	}
}

func TestAutoTakesTheStrongest(t *testing.T) {
	t.Parallel()
	need(t, "namespaces")
	spec := command("report")
	spec.Method = Auto
	got, r := reported(t, spec)
	if r.Protection().Method != Namespace || got.PPID != 1 {
		t.Errorf("%v, parent %d", r.Protection(), got.PPID)
	}
}

// The namespaces of an ordinary user, also when root has to do with them, and more than once in one
// process.
func TestUserNamespace(t *testing.T) {
	t.Parallel()
	need(t, "userns")
	for range 3 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 5 {
				spec := command("exit", "4")
				var out output
				r, err := attempt{Namespace, true}.start(spec, IO{Stdout: &out, Stderr: &out}, &cgroup.Group{}, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				end := r.Wait(nil, nil)
				if end.ExitCode != 4 {
					t.Errorf("outcome %+v", end)
				}
				if !slices.Contains(end.Protection.Enforced, "user-namespace") {
					t.Errorf("protection %v", end.Protection)
				}
			}
		})
	}
}

// The launcher's memory, which init shares, is closed to the program. With namespaces it is so even
// in the moment in which the launcher opens another run's id maps. Nothing else runs in this
// process meanwhile.
func TestLauncherIsUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read it; without CAP_SYS_PTRACE it may not trace it")
	}
	for _, m := range []Method{Namespace, Process} {
		t.Run(string(m), func(t *testing.T) {
			if m == Namespace {
				need(t, "namespaces")
			}
			spec := shell("head -c 1 /proc/$PPID/environ; cat /proc/$PPID/maps")
			spec.Method = m
			if out, r := execute(t, spec); out.ExitCode == 0 || r.out.String() != "" {
				t.Errorf("the program reads %q of init", r.out.String())
			}
		})
	}
	t.Run("while it is revealed", func(t *testing.T) {
		need(t, "namespaces")
		spec := shell("echo ready; read line; head -c 1 /proc/$PPID/environ; cat /proc/$PPID/maps")
		spec.Method = Namespace
		stdin, more, err := os.Pipe()
		check(t, err)
		defer stdin.Close()
		r := &trial{}
		r.Running, err = Start(spec, IO{Stdin: stdin, Stdout: &r.out, Stderr: &r.err}, OwnChild)
		check(t, err)
		r.Release()
		r.ready(t)
		whileRevealed(func() error {
			if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); dumpable != 1 {
				t.Errorf("dumpable %d, %v", dumpable, err)
			}
			more.Close()
			if out := r.Wait(nil, nil); out.ExitCode == 0 || r.out.String() != "ready\n" {
				t.Errorf("the program reads %q of init", r.out.String())
			}
			return nil
		})
	})
}
