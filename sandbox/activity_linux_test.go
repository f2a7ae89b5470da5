package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inActivity writes an activity record so that it can be compared and read: with PORT for the port
// of a listener.
func inActivity(t Activity, port string) string {
	var b strings.Builder
	peers := func(what string, list []Peer) {
		for _, p := range list {
			name := strconv.Itoa(p.Port)
			if name == port {
				name = "PORT"
			}
			fmt.Fprintf(&b, "%s %s %s ×%d", what, p.Host, name, p.Count)
			if p.Program != "" {
				fmt.Fprintf(&b, " by %s", filepath.Base(p.Program))
			}
			b.WriteString("\n")
		}
	}
	peers("connection", t.Connections)
	peers("bind", t.Binds)
	for _, x := range t.Executions {
		fmt.Fprintf(&b, "execution %s %q ×%d\n", x.Program, x.Args, x.Count)
	}
	if t.Rings > 0 {
		fmt.Fprintf(&b, "rings %d\n", t.Rings)
	}
	if t.Dropped > 0 {
		fmt.Fprintf(&b, "dropped %d\n", t.Dropped)
	}
	return b.String()
}

// listening gives the port of a TCP listener that accepts whatever comes, and of a UDP socket that
// takes what it has room for.
func listening(t *testing.T) (port string) {
	t.Helper()
	for {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		check(t, err)
		_, port, _ = net.SplitHostPort(l.Addr().String())
		u, err := net.ListenPacket("udp4", l.Addr().String())
		if err != nil {
			l.Close()
			continue
		}
		t.Cleanup(func() { l.Close(); u.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		return port
	}
}

// recorded is a spec whose activity any user can have recorded.
func recorded(spec Spec, m Method) Spec {
	spec.Method, spec.Activity, spec.DenyCalls = m, Required, true
	return spec
}

// Each way to reach out is seen once, and does what it does without an activity record.
func TestActivity(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	port := listening(t)
	closed := func() string { // a port that nobody listens at
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}()
	tests := []struct {
		name  string
		calls []string // rows of reaching; PORT is the listener's
		want  string   // as inActivity writes it
	}{
		{name: "nothing", calls: nil, want: ""},
		{name: "tcp", calls: []string{"tcp=PORT", "tcp=PORT", "tcp=PORT"}, want: "connection 127.0.0.1 PORT ×3\n"},
		{name: "tcp, refused", calls: []string{"tcp=" + closed}, want: "connection 127.0.0.1 " + closed + " ×1\n"},
		{name: "tcp, IPv6", calls: []string{"tcp6=" + closed}, want: "connection ::1 " + closed + " ×1\n"},
		{name: "tcp, not blocking", calls: []string{"nonblocking=PORT"}, want: "connection 127.0.0.1 PORT ×1\n"},
		{name: "unix", calls: []string{"unix=/nowhere/s", "unix=s", "unix=@py3run test"}, want: "connection unix:/nowhere/s 0 ×1\nconnection unix:s 0 ×1\nconnection unix:@py3run test 0 ×1\n"},
		{name: "name services", calls: []string{"unix=/var/run/nscd/socket", "unix=/run/systemd/resolve/io.systemd.Resolve"}, want: ""},
		{name: "udp", calls: []string{"udp=PORT", "udp=PORT"}, want: "connection 127.0.0.1 PORT ×2\n"},
		{name: "udp, taken back", calls: []string{"unconnect=PORT"}, want: "connection 127.0.0.1 PORT ×1\n"},
		{name: "sendto", calls: []string{"sendto=PORT", "sendto=PORT"}, want: "connection 127.0.0.1 PORT ×2\n"},
		{name: "sendmsg", calls: []string{"sendmsg=PORT", "sendmsg to nobody"}, want: "connection 127.0.0.1 PORT ×1\n"},
		{name: "sendmmsg", calls: []string{"sendmmsg=PORT,1"}, want: "connection 127.0.0.1 PORT ×1\nconnection 127.0.0.1 1 ×1\n"},
		{name: "bind", calls: []string{"bind=0", "bind=PORT", "bind unix=", "bind unix=/nowhere/s"}, want: "bind 127.0.0.1 0 ×1\nbind 127.0.0.1 PORT ×1\nbind unix:/nowhere/s 0 ×1\n"},
		{name: "the kernel's own", calls: []string{"netlink"}, want: ""},
		{name: "no address", calls: []string{"nowhere", "short"}, want: ""},
		{name: "no socket", calls: []string{"no descriptor=PORT"}, want: "connection 127.0.0.1 PORT ×1\n"},
		{name: "program", calls: []string{"run=/bin/true a b", "run=/bin/true a b", "run=/bin/true c"}, want: "execution /bin/true [\"a\" \"b\"] ×2\nexecution /bin/true [\"c\"] ×1\n"},
		{name: "program that is not there", calls: []string{"replace=/nowhere/x 1"}, want: "execution /nowhere/x [\"1\"] ×1\n"},
		{name: "long arguments", calls: []string{"run=/bin/true " + strings.Repeat("é", 301) + strings.Repeat(" x", 20)},
			want: fmt.Sprintf("execution /bin/true %q ×1\n", append([]string{strings.Repeat("é", 300)}, slices.Repeat([]string{"x"}, 15)...))},
		{name: "program in its place", calls: []string{"replace=/bin/true 1"}, want: "execution /bin/true [\"1\"] ×1\n"},
		{name: "program by descriptor", calls: []string{"by descriptor=/bin/true"}, want: "execution " + resolved("/bin/true") + " [\"1\"] ×1\n"},
		{name: "io_uring", calls: []string{"ring", "ring"}, want: "rings 2\n"},
		{name: "many at a time", calls: []string{"alarms=PORT"}, want: "connection 127.0.0.1 PORT ×3000\n"},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				args := []string{"reach"}
				for _, call := range tt.calls {
					args = append(args, strings.ReplaceAll(call, "PORT", port))
				}
				spec := recorded(command(args...), m)
				o, r := execute(t, spec)
				if got := inActivity(o.Activity, port); got != tt.want {
					t.Errorf("\n%swant\n%s", got, tt.want)
				}
				if blind := strings.HasPrefix(tt.want, "rings"); lacks(r.Protection(), activityMeasure) != blind {
					t.Errorf("what is not seen is told: %t, want %t", !blind, blind)
				}
				spec.Activity = NotRequested
				plainly, without := execute(t, spec)
				if got, want := r.out.String(), without.out.String(); got != want || o.ExitCode != plainly.ExitCode || o.Signal != plainly.Signal {
					t.Errorf("with the activity %d, %v:\n%swithout %d, %v:\n%s", o.ExitCode, o.Signal, got, plainly.ExitCode, plainly.Signal, want)
				}
				if got := inActivity(plainly.Activity, port); got != "" {
					t.Errorf("nobody asked for\n%s", got)
				}
			})
		}
	})
}

func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// A program is looked for in one directory after the other: that is one start.
func TestActivitySearch(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	eachMethod(t, func(t *testing.T, m Method) {
		o, _ := execute(t, recorded(command("reach", "search=true", "search=true"), m))
		var got Activity
		for _, x := range o.Activity.Executions {
			if x.Program != "/proc/self/exe" { // the helper itself
				got.Executions = append(got.Executions, x)
			}
		}
		if got, want := inActivity(got, ""), "execution /bin/true [\"a\" \"b\"] ×2\n"; got != want {
			t.Errorf("\n%swant\n%s", got, want)
		}
	})
}

// What child programs do is told with their names, and nothing is lost of many at once.
func TestActivityOfChildren(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	port := listening(t)
	eachMethod(t, func(t *testing.T, m Method) {
		other := filepath.Join(t.TempDir(), "other")
		copyFile(t, other, self())
		bash, err := exec.LookPath("bash")
		if err != nil {
			t.Skip("needs a shell that sets argv[0]: ", err)
		}
		spec := recorded(shell(""), m)
		spec.Path = bash
		spec.Args = []string{"bash", "-c", `for i in 1 2; do (exec -a ` + helperName + ` "$0" "$@") & done; wait`, other, "storm", "4", "50", port}
		o, r := execute(t, spec)
		if o.ExitCode != 0 || o.Signal != 0 {
			t.Fatalf("%d, %v, %s", o.ExitCode, o.Signal, r.err.String())
		}
		// A call that a signal interrupts, as Go's own, is made once more by the kernel, and asked
		// about once more.
		if c := o.Activity.Connections; len(c) != 1 || c[0].Host != "127.0.0.1" || c[0].Program != resolved(other) || c[0].Count < 400 || c[0].Count > 420 {
			t.Errorf("\n%swant ×400 by other, or a few more", inActivity(Activity{Connections: c}, port))
		}
		started := 0
		for _, x := range o.Activity.Executions {
			started += x.Count
		}
		if started != 2+2*4 {
			t.Errorf("%d starts, want 10\n%s", started, inActivity(o.Activity, port))
		}
	})
}

// The activity record has room for so much; the rest is counted.
func TestActivityBounded(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	eachMethod(t, func(t *testing.T, m Method) {
		o, _ := execute(t, recorded(command("reach", "sendto many=5000"), m))
		if n := len(o.Activity.Connections); n != activityMost || o.Activity.Dropped != 5000-activityMost {
			t.Errorf("%d connections and %d dropped, want %d and %d", n, o.Activity.Dropped, activityMost, 5000-activityMost)
		}
	})
}

// By the 32-bit entry of the same kernel.
func TestActivityIA32(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	port := listening(t)
	spec := recorded(command("reach", "ia32="+port), Process)
	spec.Activity = NotRequested
	if o, r := execute(t, spec); o.ExitCode != 0 || !strings.Contains(r.out.String(), "ia32: done") {
		t.Skipf("no such entry here: %d, %v, %s", o.ExitCode, o.Signal, r.out.String())
	}
	eachMethod(t, func(t *testing.T, m Method) {
		o, r := execute(t, recorded(command("reach", "ia32="+port), m))
		if got, want := inActivity(o.Activity, port), "connection 127.0.0.1 PORT ×2\n"; got != want {
			t.Errorf("\n%swant\n%s%s", got, want, r.out.String())
		}
	})
}

// A process whose memory the launcher may not read is told of all the same.
func TestActivityUnreadable(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	port := listening(t)
	eachMethod(t, func(t *testing.T, m Method) {
		want := "connection 127.0.0.1 PORT ×1\n"
		if m == Process && os.Geteuid() != 0 {
			want = "connection ? 0 ×1\n"
		}
		o, r := execute(t, recorded(command("reach", "undumpable", "tcp="+port), m))
		if got := inActivity(o.Activity, port); got != want || !strings.Contains(r.out.String(), "tcp: done") {
			t.Errorf("\n%swant\n%s%s", got, want, r.out.String())
		}
	})
}

func TestActivityRunAs(t *testing.T) {
	t.Parallel()
	need(t, "root")
	need(t, "listener")
	port := listening(t)
	eachMethod(t, func(t *testing.T, m Method) {
		path := filepath.Join(t.TempDir(), "helper")
		copyFile(t, path, self())
		for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			check(t, os.Chmod(dir, 0o755))
		}
		spec := recorded(command("reach", "tcp="+port, "run=/bin/true"), m)
		spec.Path, spec.RunAs = path, &User{UID: 65534, GID: 65534}
		o, _ := execute(t, spec)
		if got, want := inActivity(o.Activity, port), "connection 127.0.0.1 PORT ×1\nexecution /bin/true [] ×1\n"; got != want {
			t.Errorf("\n%swant\n%s", got, want)
		}
	})
}

// There is one listener at most above a process: an inner run has none, goes on, and says so; the
// outer one sees what it does.
func TestActivityNested(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	eachMethod(t, func(t *testing.T, m Method) {
		for _, asked := range []Requirement{BestEffort, Required} {
			o, r := execute(t, recorded(command("nested", string(asked)), m))
			want := fmt.Sprintf("run: done\n0, : {Name:native-trail Why:seccomp listener: device or resource busy; another listener is there already: "+
				"this runs inside another py3run, or a container engine listens Extra:%t}\n", asked == BestEffort)
			if got := r.out.String(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			started := self() + ` ["reach" "run=/bin/true"]`
			if m == Process && os.Geteuid() != 0 { // a launcher's memory is closed to other processes of its user
				started = "? []"
			}
			if got, want := inActivity(o.Activity, ""), "execution "+started+" ×1\nexecution /bin/true [] ×1\n"; got != want {
				t.Errorf("the outer activity:\n%swant\n%s", got, want)
			}
		}
	})
}

// Nobody loses a right for the activity.
func TestActivityWithoutPromise(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	tests := []struct {
		name   string
		change func(*Spec)
		had    bool // also by an ordinary user
	}{
		{"by itself", func(*Spec) {}, false},
		{"with no new privileges", func(s *Spec) { s.NoNewPrivileges = true }, true},
		{"with the list", func(s *Spec) { s.DenyCalls = true }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec := command("report")
			spec.Activity = BestEffort
			tt.change(&spec)
			found, r := reported(t, spec)
			had := tt.had || os.Geteuid() == 0
			if got := slices.Contains(r.Protection().Enforced, activityMeasure); got != had || lacks(r.Protection(), activityMeasure) == had {
				t.Errorf("%+v, want it to be had: %t", r.Protection(), had)
			}
			for _, g := range r.Protection().Gaps {
				if g.Name == activityMeasure && !g.Extra {
					t.Errorf("nobody asked for it by name: %+v", g)
				}
			}
			if promise := spec.NoNewPrivileges || spec.DenyCalls && os.Geteuid() != 0; (found.Status["NoNewPrivs"] == "1") != promise {
				t.Errorf("NoNewPrivs: %s", found.Status["NoNewPrivs"])
			}
			if slices.ContainsFunc(found.Descriptors, func(n int) bool { return n > 2 && n < spec.FirstFile }) {
				t.Errorf("descriptors %v", found.Descriptors)
			}
		})
	}
}

// A process that waits for the activity can be killed, and the activity goes on.
func TestActivityKilledWaiting(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	port := listening(t)
	eachMethod(t, func(t *testing.T, m Method) {
		word := mark(t)
		c, out := launcher(t, "watching", string(m), port, word)
		if line, err := out.ReadString('\n'); line != "tcp: done\n" {
			t.Fatalf("the program says %q, %v", line, err)
		}
		check(t, c.Process.Signal(syscall.SIGSTOP))
		var waiting int
		eventually(t, "the program to wait for the activity", func() bool {
			for _, pid := range marked(word) {
				threads, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/wchan")
				for _, path := range threads {
					if text, _ := os.ReadFile(path); pid != c.Process.Pid && strings.HasPrefix(string(text), "seccomp") {
						waiting = pid
					}
				}
			}
			return waiting != 0
		})
		check(t, syscall.Kill(waiting, syscall.SIGKILL))
		eventually(t, "the program to end", func() bool {
			text, err := os.ReadFile("/proc/" + strconv.Itoa(waiting) + "/stat")
			return err != nil || bytes.Contains(text, []byte(") Z ")) || bytes.Contains(text, []byte(") X "))
		})
		check(t, c.Process.Signal(syscall.SIGCONT))
		rest, _ := io.ReadAll(out)
		if !strings.HasSuffix(string(rest), "ended by killed\n") {
			t.Errorf("the launcher says %.2000q", rest)
		}
	})
}

// With the launcher the whole tree ends, also a process that waits for the activity.
func TestActivityLauncherDies(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	port := listening(t)
	eachMethod(t, func(t *testing.T, m Method) {
		for i := range 10 {
			word := mark(t)
			c, out := launcher(t, "watching", string(m), port, word)
			if line, err := out.ReadString('\n'); line != "tcp: done\n" {
				t.Fatalf("the program says %q, %v", line, err)
			}
			time.Sleep(time.Duration(i) * time.Millisecond) // any moment will do
			c.Process.Kill()
			eventually(t, "the run to end with its launcher", func() bool { return len(marked(word)) == 0 })
		}
	})
}
