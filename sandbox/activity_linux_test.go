package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"py3run/sandbox/seccomp"
)

func init() {
	helpers["reach"] = reach
	helpers["storm"] = storm
	helpers["nested"] = nested
	helpers["watching"] = watching
}

// reach makes one call after the other, each named by a word and an argument, and prints what became of it.
func reach(args []string) error {
	runtime.LockOSThread()
	for _, arg := range args {
		what, with, _ := strings.Cut(arg, "=")
		fmt.Printf("%s: %s\n", what, outcome(reaching[what](with)))
	}
	return nil
}

func outcome(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// opened calls f with a new socket.
func opened(family, kind int, f func(fd int) error) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

func loopback(port string) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: number(port)}
}

// rawAddress is a struct sockaddr_in.
func rawAddress(port string) []byte {
	a := make([]byte, 16)
	binary.NativeEndian.PutUint16(a, unix.AF_INET)
	binary.BigEndian.PutUint16(a[2:], uint16(number(port)))
	copy(a[4:], []byte{127, 0, 0, 1})
	return a
}

func sysno(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

var reaching map[string]func(string) error

func init() {
	udp := func(f func(fd int) error) error { return opened(unix.AF_INET, unix.SOCK_DGRAM, f) }
	reaching = map[string]func(string) error{
		"tcp": func(port string) error {
			return opened(unix.AF_INET, unix.SOCK_STREAM, func(fd int) error { return unix.Connect(fd, loopback(port)) })
		},
		"tcp6": func(port string) error {
			return opened(unix.AF_INET6, unix.SOCK_STREAM, func(fd int) error {
				return unix.Connect(fd, &unix.SockaddrInet6{Addr: [16]byte{15: 1}, Port: number(port)})
			})
		},
		"for ever": func(port string) error {
			for {
				if err := reaching["tcp"](port); err != nil {
					return err
				}
			}
		},
		"nonblocking": func(port string) error {
			return opened(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, func(fd int) error { return unix.Connect(fd, loopback(port)) })
		},
		"unix": func(path string) error {
			return opened(unix.AF_UNIX, unix.SOCK_STREAM, func(fd int) error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
		},
		"udp": func(port string) error { // connected, then sent to without an address
			return udp(func(fd int) error {
				if err := unix.Connect(fd, loopback(port)); err != nil {
					return err
				}
				_, err := unix.Write(fd, []byte("x"))
				return errors.Join(err, sysno(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&[]byte("x")[0])), 1))
			})
		},
		"unconnect": func(port string) error {
			return udp(func(fd int) error {
				if err := unix.Connect(fd, loopback(port)); err != nil {
					return err
				}
				none := make([]byte, 16) // AF_UNSPEC
				return sysno(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none[0])), 16)
			})
		},
		"sendto": func(port string) error {
			return udp(func(fd int) error { return unix.Sendto(fd, []byte("x"), 0, loopback(port)) })
		},
		"sendmsg": func(port string) error {
			return udp(func(fd int) error { return unix.Sendmsg(fd, []byte("x"), nil, loopback(port), 0) })
		},
		"sendmsg to nobody": func(string) error {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(pair[0])
			defer unix.Close(pair[1])
			return unix.Sendmsg(pair[0], []byte("x"), nil, nil, 0)
		},
		"sendmmsg": func(ports string) error { // two to the first, one to the second
			return udp(func(fd int) error {
				first, second, _ := strings.Cut(ports, ",")
				var headers [3]struct {
					unix.Msghdr
					n uint32
					_ uint32
				}
				text := []byte("x")
				a, b := rawAddress(first), rawAddress(second)
				for i, to := range [][]byte{a, a, b} {
					headers[i].Name, headers[i].Namelen = &to[0], 16
					headers[i].Iov, headers[i].Iovlen = &unix.Iovec{Base: &text[0], Len: 1}, 1
				}
				return sysno(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&headers)), 3)
			})
		},
		"bind": func(port string) error {
			return opened(unix.AF_INET, unix.SOCK_STREAM, func(fd int) error { return unix.Bind(fd, loopback(port)) })
		},
		"bind unix": func(path string) error {
			return opened(unix.AF_UNIX, unix.SOCK_STREAM, func(fd int) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: path}) })
		},
		"netlink": func(string) error {
			return opened(unix.AF_NETLINK, unix.SOCK_RAW, func(fd int) error { return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) })
		},
		"nowhere": func(string) error { // an address that is not there
			return udp(func(fd int) error {
				return errors.Join(sysno(unix.SYS_CONNECT, uintptr(fd), 8, 16), sysno(unix.SYS_EXECVE, 8, 8, 0))
			})
		},
		"short": func(string) error {
			return udp(func(fd int) error {
				return sysno(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&[]byte{unix.AF_INET, 0}[0])), 2)
			})
		},
		"no descriptor": func(port string) error { return unix.Connect(4000, loopback(port)) },
		"run": func(line string) error {
			words := strings.Fields(line)
			return exec.Command(words[0], words[1:]...).Run()
		},
		"search": func(name string) error { // as a C library looks through PATH
			c := helper("reach", "replace=/nowhere/"+name+" a b", "replace=/nowhere/either/"+name+" a b", "replace=/bin/"+name+" a b")
			return c.Run()
		},
		"replace": func(line string) error {
			words := strings.Fields(line)
			return unix.Exec(words[0], append([]string{filepath.Base(words[0])}, words[1:]...), nil)
		},
		"by descriptor": func(path string) error {
			fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			argv, empty := []*byte{unsafe.StringData("x\x00"), unsafe.StringData("1\x00"), nil}, []byte{0}
			return sysno(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&argv[2])), unix.AT_EMPTY_PATH)
		},
		"ring": func(string) error {
			var parameters [120]byte
			err := sysno(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&parameters)))
			if err == unix.EPERM || err == unix.ENOSYS { // switched off here
				err = nil
			}
			return err
		},
		"undumpable": func(string) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) },
		"sendto many": func(count string) error { // to as many ports
			return udp(func(fd int) error {
				for port := range number(count) {
					if err := unix.Sendto(fd, []byte("x"), unix.MSG_DONTWAIT, loopback(strconv.Itoa(1024+port))); err != nil && err != unix.ECONNREFUSED && err != unix.EAGAIN {
						return err
					}
				}
				return nil
			})
		},
		"ia32": connectIA32,
		"alarms": func(port string) error { // which Go's handler restarts, as most handlers do
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGALRM)
			timer := [4]int64{0, 3000, 0, 3000} // rarer than a call takes on the slowest machine: each signal may begin it anew
			if err := sysno(unix.SYS_SETITIMER, unix.ITIMER_REAL, uintptr(unsafe.Pointer(&timer))); err != nil {
				return err
			}
			return udp(func(fd int) error {
				for range 3000 {
					if err := unix.Connect(fd, loopback(port)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// connectIA32 connects by the 32-bit entry, directly and through socketcall. The call is in machine code, its arguments in the lower four gigabytes.
func connectIA32(port string) error {
	if runtime.GOARCH != "amd64" {
		return errors.New("not on this machine")
	}
	const below4GB = 0x40 // MAP_32BIT, which x/sys has for amd64 only
	low, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON|below4GB)
	if err != nil {
		return err
	}
	base := uint32(uintptr(unsafe.Pointer(&low[0])))
	const arguments, result, vector, address, code = 0, 24, 32, 64, 128
	var text []byte
	for i, modrm := range []byte{0x04, 0x1c, 0x0c, 0x14} { // mov eax, ebx, ecx, edx from memory
		text = binary.LittleEndian.AppendUint32(append(text, 0x8b, modrm, 0x25), base+arguments+4*uint32(i))
	}
	text = append(text, 0xcd, 0x80)                                                      // int 0x80
	text = binary.LittleEndian.AppendUint32(append(text, 0x89, 0x04, 0x25), base+result) // mov eax to memory
	copy(low[code:], append(text, 0xc3))
	entry := uintptr(base) + code
	pointer := &entry
	call := *(*func())(unsafe.Pointer(&pointer))
	ia32 := func(args ...uint32) error {
		for i, a := range args {
			binary.LittleEndian.PutUint32(low[arguments+4*i:], a)
		}
		call()
		if r := int32(binary.LittleEndian.Uint32(low[result:])); r < 0 {
			return syscall.Errno(-r)
		}
		return nil
	}
	copy(low[address:], rawAddress(port))
	return opened(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
		if err := ia32(362, uint32(fd), base+address, 16); err != nil {
			return err
		}
		for i, a := range []uint32{uint32(fd), base + address, 16} {
			binary.LittleEndian.PutUint32(low[vector+4*i:], a)
		}
		return ia32(102, 3, base+vector)
	})
}

// storm starts many processes at once, each of which reaches a port many times.
func storm(args []string) error {
	var all sync.WaitGroup
	var failed []error
	var mu sync.Mutex
	for range number(args[0]) {
		all.Go(func() {
			c := helper(append([]string{"reach"}, slices.Repeat([]string{"tcp=" + args[2]}, number(args[1]))...)...)
			out, err := c.Output()
			if n := bytes.Count(out, []byte("tcp: done\n")); err != nil || n != number(args[1]) {
				mu.Lock()
				failed = append(failed, fmt.Errorf("%d connects, %w\n%s", n, err, out))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// nested starts a run in a run.
func nested(args []string) error {
	spec := command("reach", "run=/bin/true")
	spec.Method, spec.Activity, spec.NoNewPrivileges = Process, Requirement(args[0]), true
	var out output
	r, err := Start(spec, IO{Stdout: &out, Stderr: io.Discard}, OwnChild)
	if err != nil {
		fmt.Println(err)
		return nil
	}
	r.Release()
	o := r.Wait(nil, nil)
	for _, g := range o.Protection.Gaps {
		if g.Name == activityMeasure {
			fmt.Printf("%s%d, %s: %+v\n", out.String(), o.ExitCode, inActivity(o.Activity, ""), g)
		}
	}
	return nil
}

// watching is a launcher of a program that reaches a port for ever.
func watching(args []string) error {
	spec := command("reach", "tcp="+args[1], "for ever="+args[1], args[2])
	spec = recorded(spec, Method(args[0]))
	r, err := Start(spec, IO{Stdout: os.Stdout, Stderr: os.Stderr}, OwnChild)
	if err != nil {
		return err
	}
	r.Release()
	o := r.Wait(nil, nil)
	fmt.Printf("ended by %v\n", o.Signal)
	return nil
}

// inActivity writes an activity record so that it can be compared and read: with PORT for the port of a listener.
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

// listening gives the port of a TCP listener that accepts whatever comes, and of a UDP socket that takes what it has room for.
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

// recorded is a spec whose trail can be had by any user.
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
		name string
		args []string
		want string // PORT is the listener's
	}{
		{"nothing", nil, ""},
		{"tcp", []string{"tcp=PORT", "tcp=PORT", "tcp=PORT"}, "connection 127.0.0.1 PORT ×3\n"},
		{"tcp, refused", []string{"tcp=" + closed}, "connection 127.0.0.1 " + closed + " ×1\n"},
		{"tcp, IPv6", []string{"tcp6=" + closed}, "connection ::1 " + closed + " ×1\n"},
		{"tcp, not blocking", []string{"nonblocking=PORT"}, "connection 127.0.0.1 PORT ×1\n"},
		{"unix", []string{"unix=/nowhere/s", "unix=s", "unix=@py3run test"}, "connection unix:/nowhere/s 0 ×1\nconnection unix:s 0 ×1\nconnection unix:@py3run test 0 ×1\n"},
		{"name services", []string{"unix=/var/run/nscd/socket", "unix=/run/systemd/resolve/io.systemd.Resolve"}, ""},
		{"udp", []string{"udp=PORT", "udp=PORT"}, "connection 127.0.0.1 PORT ×2\n"},
		{"udp, taken back", []string{"unconnect=PORT"}, "connection 127.0.0.1 PORT ×1\n"},
		{"sendto", []string{"sendto=PORT", "sendto=PORT"}, "connection 127.0.0.1 PORT ×2\n"},
		{"sendmsg", []string{"sendmsg=PORT", "sendmsg to nobody"}, "connection 127.0.0.1 PORT ×1\n"},
		{"sendmmsg", []string{"sendmmsg=PORT,1"}, "connection 127.0.0.1 PORT ×1\nconnection 127.0.0.1 1 ×1\n"},
		{"bind", []string{"bind=0", "bind=PORT", "bind unix=", "bind unix=/nowhere/s"}, "bind 127.0.0.1 0 ×1\nbind 127.0.0.1 PORT ×1\nbind unix:/nowhere/s 0 ×1\n"},
		{"the kernel's own", []string{"netlink"}, ""},
		{"no address", []string{"nowhere", "short"}, ""},
		{"no socket", []string{"no descriptor=PORT"}, "connection 127.0.0.1 PORT ×1\n"},
		{"program", []string{"run=/bin/true a b", "run=/bin/true a b", "run=/bin/true c"}, "execution /bin/true [\"a\" \"b\"] ×2\nexecution /bin/true [\"c\"] ×1\n"},
		{"program that is not there", []string{"replace=/nowhere/x 1"}, "execution /nowhere/x [\"1\"] ×1\n"},
		{"long arguments", []string{"run=/bin/true " + strings.Repeat("é", 301) + strings.Repeat(" x", 20)},
			fmt.Sprintf("execution /bin/true %q ×1\n", append([]string{strings.Repeat("é", 300)}, slices.Repeat([]string{"x"}, 15)...))},
		{"program in its place", []string{"replace=/bin/true 1"}, "execution /bin/true [\"1\"] ×1\n"},
		{"program by descriptor", []string{"by descriptor=/bin/true"}, "execution " + resolved("/bin/true") + " [\"1\"] ×1\n"},
		{"io_uring", []string{"ring", "ring"}, "rings 2\n"},
		{"many at a time", []string{"alarms=PORT"}, "connection 127.0.0.1 PORT ×3000\n"},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				args := []string{"reach"}
				for _, a := range tt.args {
					args = append(args, strings.ReplaceAll(a, "PORT", port))
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
		// A call that a signal interrupts, as Go's own, is made once more by the kernel, and asked about once more.
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

// There is one listener at most above a process: an inner run has none, goes on, and says so; the outer one sees what it does.
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
				t.Errorf("the outer trail:\n%swant\n%s", got, want)
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

func TestActivityAddresses(t *testing.T) {
	t.Parallel()
	address := func(family uint16, rest ...byte) []byte {
		return append(binary.NativeEndian.AppendUint16(nil, family), rest...)
	}
	tests := []struct {
		name string
		raw  []byte
		want Peer
	}{
		{"IPv4", address(unix.AF_INET, 0, 80, 10, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9), Peer{Host: "10.0.0.1", Port: 80}},
		{"IPv4, as short as can be", address(unix.AF_INET, 1, 0, 10, 0, 0, 1), Peer{Host: "10.0.0.1", Port: 256}},
		{"IPv4, too short", address(unix.AF_INET, 1, 0, 10, 0, 0), Peer{}},
		{"IPv6", address(unix.AF_INET6, append([]byte{0, 80, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 7, 0, 0, 0)...), Peer{Host: "2001:db8::1", Port: 80}},
		{"IPv4 in IPv6", address(unix.AF_INET6, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4), Peer{Host: "::ffff:1.2.3.4", Port: 80}},
		{"IPv6, too short", address(unix.AF_INET6, 0, 80, 0, 0, 0, 0, 1), Peer{}},
		{"unix", address(unix.AF_UNIX, append([]byte("/run/x"), 0, 'y')...), Peer{Host: "unix:/run/x"}},
		{"unix, without its end", address(unix.AF_UNIX, []byte("/run/x")...), Peer{Host: "unix:/run/x"}},
		{"unix, abstract", address(unix.AF_UNIX, 0, 'a', 0, 'b'), Peer{Host: "unix:@a\x00b"}},
		{"unix, no name", address(unix.AF_UNIX), Peer{}},
		{"nobody", address(unix.AF_UNSPEC, make([]byte, 14)...), Peer{}},
		{"netlink", address(unix.AF_NETLINK, make([]byte, 10)...), Peer{}},
		{"another family", address(unix.AF_VSOCK, make([]byte, 14)...), Peer{Host: "family:40"}},
		{"half a family", []byte{1}, Peer{}},
		{"nothing", nil, Peer{}},
	}
	for _, tt := range tests {
		if got := peerOf(tt.raw); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// Whether a UDP socket's connect is one of getaddrinfo's shows only in what follows.
func TestActivityLookups(t *testing.T) {
	t.Parallel()
	peer := func(to string) Peer {
		host, port, _ := strings.Cut(to, ":")
		return Peer{Host: host, Port: number(port)}
	}
	tests := []struct {
		name  string
		calls string // thread, then u(dp) or t(cp), then where
		want  string
	}{
		{"one to send to", "1ua:53", "a:53×1"},
		{"the same again", "1ua:53 1ua:53 1ua:53", "a:53×3"},
		{"others", "1ua:53 1ub:54 1ua:53", "a:53×2 b:54×1"},
		{"without a service", "1ua:0 1ub:0", ""},
		{"a name, and its first address", "1ua:80 1ub:80 1ta:80", "a:80×1"},
		{"a name, and all its addresses", "1ua:80 1ub:80 1ta:80 1tb:80", "a:80×1 b:80×1"},
		{"its second address", "1ua:80 1ub:80 1tb:80", "b:80×1"},
		{"looked up by another thread", "1ua:80 1ub:80 2ta:80", "a:80×1"},
		{"with a name server", "1us:53 1ua:80 1ub:80 1ta:80", "s:53×1 a:80×1"},
		{"used by UDP as well", "1ua:80 1ub:80 1ua:80", "a:80×1"},
		{"looked up twice", "1ua:80 1ub:80 1ua:80 1ub:80 1ta:80", "a:80×1"},
		{"looked up only", "1ua:80 1ub:80", "a:80×1 b:80×1"},
		{"another port", "1ua:80 1ub:80 1ta:81", "a:81×1 a:80×1 b:80×1"},
		{"one address does not make a lookup", "1ua:80 1ta:80", "a:80×2"},
		{"many threads", "1ua:1 2ua:1 3ua:1 4ua:1 5ua:1 6ua:1 7ua:1 8ua:1 9ua:1 10ua:1 11ua:1 12ua:1 13ua:1 14ua:1 15ua:1 16ua:1 17ua:1 18ua:1", "a:1×18"},
	}
	for _, tt := range tests {
		recorder := &recorder{room: activityRoom}
		for _, c := range strings.Fields(tt.calls) {
			at := strings.IndexAny(c, "ut")
			recorder.take(sighting{kind: seccomp.Connect, tid: number(c[:at]), peers: []Peer{peer(c[at+1:])}, datagram: c[at] == 'u'})
		}
		for _, l := range recorder.lookups {
			recorder.flush(l)
		}
		var got []string
		for _, p := range recorder.peers[0].list {
			got = append(got, fmt.Sprintf("%s:%d×%d", p.Host, p.Port, p.Count))
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestActivityStarts(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, calls, want string }{
		{"one", "1/a/x", "/a/x×1"},
		{"attempts", "1/a/x 1/b/x 1/c/x", "/c/x×1"},
		{"attempts of two", "1/a/x 2/a/x 1/b/x 2/b/x", "/b/x×2"},
		{"found earlier by another", "1/a/x 2/a/x 2/b/x", "/a/x×1 /b/x×1"},
		{"one after the other in one place", "1/a/sh 1/a/x", "/a/sh×1 /a/x×1"},
		{"other arguments", "1/a/x,1 1/b/x,2", "/a/x×1 /b/x×1"},
		{"again in one place", "1/a/x 1/a/y 1/a/x", "/a/x×2 /a/y×1"},
	}
	for _, tt := range tests {
		recorder := &recorder{room: activityRoom, startAt: map[string]int{}}
		for _, c := range strings.Fields(tt.calls) {
			program, args, _ := strings.Cut(c[1:], ",")
			recorder.take(sighting{kind: seccomp.Exec, tid: number(c[:1]), start: &Execution{Program: program, Args: []string{args}}})
		}
		var got []string
		for _, x := range recorder.starts {
			if x.Count > 0 {
				got = append(got, fmt.Sprintf("%s×%d", x.Program, x.Count))
			}
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
