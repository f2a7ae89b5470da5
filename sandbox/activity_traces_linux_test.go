package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { maps.Copy(reaching, tracing) }

// tracing are rows of reaching for what is easily overlooked.
var tracing = map[string]reachingCall{
	"listen":  {"", "listens with a TCP socket that is not bound", func(string) error { return listenAfter(unix.AF_INET, unbound) }},
	"listen6": {"", "the same with IPv6", func(string) error { return listenAfter(unix.AF_INET6, unbound) }},
	"listen in a thread": {"", "the same in a thread that is not the first", func(string) error {
		done := make(chan error)
		go func() { runtime.LockOSThread(); done <- listenAfter(unix.AF_INET, unbound) }()
		return <-done
	}},
	"listen unix": {"", "listens with a Unix socket that is not bound", func(string) error { return listenAfter(unix.AF_UNIX, unbound) }},
	"listen bound": {"", "listens with a TCP socket that is bound", func(string) error {
		return listenAfter(unix.AF_INET, func(fd int) error { return unix.Bind(fd, loopback("0")) })
	}},
	"listen to nothing": {"", "listens with what is no socket", func(string) error { return errors.Join(unix.Listen(4000, 1), unix.Listen(0, 1)) }},

	"sendto no family": {"PORT", "sends to an address without a family", func(port string) error {
		return opened(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error { return sendTo(fd, noFamily(port)) })
	}},
	"sendto no family by IPv6": {"PORT", "the same with a socket of IPv6", func(port string) error {
		return opened(unix.AF_INET6, unix.SOCK_DGRAM, func(fd int) error { return sendTo(fd, noFamily(port)) })
	}},
	"sendmsg no family": {"PORT", "the same by sendmsg", func(port string) error {
		return opened(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
			a := noFamily(port)
			h := unix.Msghdr{Name: &a[0], Namelen: 16, Iov: &unix.Iovec{Base: &oneByte[0], Len: 1}, Iovlen: 1}
			return sysno(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)))
		})
	}},
	"bind no family": {"", "binds to an address without a family", func(string) error {
		return opened(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
			a := make([]byte, 16)
			return sysno(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a[0])), 16)
		})
	}},

	"udp kept":   {"PORT", "connects UDP sockets to two hosts and keeps them, then TCP to the second", func(port string) error { return udpSeries(port, func(int) {}) }},
	"udp closed": {"PORT", "the same, and closes them first", func(port string) error { return udpSeries(port, func(fd int) { unix.Close(fd) }) }},
	"udp again": {"PORT", "connects UDP sockets to two hosts, and to the second again", func(port string) error { // the sibling is used a second time
		for _, host := range []byte{1, 2, 2} {
			if _, err := udpTo(host, port); err != nil {
				return err
			}
		}
		return nil
	}},

	"fifo": {"PATH", "makes a pipe", func(path string) error { return unix.Mkfifo(path, 0o600) }},
	"fifo below": {"PATH", "makes a pipe below a directory that is open", func(path string) error {
		dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_CLOEXEC, 0)
		return errors.Join(err, unix.Mkfifoat(dir, filepath.Base(path), 0o600))
	}},
	"program below": {"PATH", "becomes a program below a directory that is open", func(path string) error {
		dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_CLOEXEC, 0)
		name, argv := append([]byte(filepath.Base(path)), 0), []*byte{unsafe.StringData("x\x00"), nil}
		return errors.Join(err, sysno(unix.SYS_EXECVEAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&argv[1])), 0))
	}},
	"many arguments": {"COUNT", "becomes a program with so many arguments", func(count string) error {
		argv := slices.Repeat([]string{"x"}, number(count)+1)
		return unix.Exec("/bin/true", argv, nil)
	}},
}

func noFamily(port string) []byte {
	a := rawAddress(port)
	binary.NativeEndian.PutUint16(a, unix.AF_UNSPEC)
	return a
}

var oneByte = []byte("x")

func sendTo(fd int, a []byte) error {
	return sysno(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&oneByte[0])), 1, 0, uintptr(unsafe.Pointer(&a[0])), uintptr(len(a)))
}

func listenAfter(family int, before func(fd int) error) error {
	return opened(family, unix.SOCK_STREAM, func(fd int) error { return errors.Join(before(fd), unix.Listen(fd, 1)) })
}

func unbound(int) error { return nil }

func udpTo(host byte, port string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, host}, Port: number(port)})
	}
	return fd, err
}

func udpSeries(port string, after func(fd int)) error {
	for _, host := range []byte{1, 2} {
		fd, err := udpTo(host, port)
		if err != nil {
			return err
		}
		after(fd)
	}
	opened(unix.AF_INET, unix.SOCK_STREAM, func(fd int) error {
		return unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}, Port: number(port)})
	})
	return nil
}

// What is easily overlooked is seen, or counted.
func TestActivityTraces(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	port := listening(t)
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o777))
	tests := []struct {
		name  string
		calls []string // rows of reaching; PORT is the listener's, DIR a directory
		want  string
	}{
		{"listen", []string{"listen", "listen6"}, "bind 0.0.0.0 0 ×1\nbind :: 0 ×1\n"},
		{"listen in a thread", []string{"listen in a thread"}, "bind 0.0.0.0 0 ×1\n"},
		{"listen, bound", []string{"listen bound"}, "bind 127.0.0.1 0 ×1\n"},
		{"listen in vain", []string{"listen unix", "listen to nothing"}, ""},
		{"no family", []string{"sendto no family=PORT", "sendmsg no family=PORT", "sendto no family by IPv6=PORT", "bind no family"}, "connection 127.0.0.1 PORT ×2\nbind 0.0.0.0 0 ×1\n"},
		{"udp, a sibling", []string{"udp kept=PORT"}, "connection 127.0.0.1 PORT ×1\nconnection 127.0.0.2 PORT ×2\n"},
		{"udp, as the C library does", []string{"udp closed=PORT"}, "connection 127.0.0.2 PORT ×1\n"},
		{"udp, a sibling twice", []string{"udp again=PORT"}, "connection 127.0.0.1 PORT ×1\nconnection 127.0.0.2 PORT ×2\n"},
		{"beside the name service", []string{"unix=/run/nscd/../x", "unix=/run/nscd/x", "unix=/run/systemd/resolve/x", "unix=/run/nscd/../nscd/socket"},
			"connection unix:/run/nscd/../x 0 ×1\nconnection unix:/run/nscd/x 0 ×1\nconnection unix:/run/systemd/resolve/x 0 ×1\n"},
		{"in the name service's place", []string{"bind unix=/nowhere/run/nscd/socket", "bind unix=/run/systemd/resolve/io.systemd.Resolve/x"},
			"bind unix:/nowhere/run/nscd/socket 0 ×1\nbind unix:/run/systemd/resolve/io.systemd.Resolve/x 0 ×1\n"},
		{"pipes", []string{"fifo=DIR/a", "fifo=DIR/a", "fifo below=DIR/b"}, "file DIR/a\nfile DIR/b\n"},
		{"long arguments", []string{"run=/bin/true " + strings.Repeat("é", 301) + strings.Repeat(" x", 20)}, "/bin/true: 16 arguments, 5 more, 1 cut\n"},
		{"arguments that fit", []string{"run=/bin/true " + strings.Repeat("é", 300) + strings.Repeat(" x", 15)}, "/bin/true: 16 arguments, 0 more, 0 cut\n"},
		{"program below a directory", []string{"program below=" + resolved("/bin/true")}, resolved("/bin/true") + ": 0 arguments, 0 more, 0 cut\n"},
		{"many arguments", []string{"many arguments=3000"}, "/bin/true: 16 arguments, 2984 more, 0 cut\n"},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(dir, string(m)+strconv.Itoa(i))
				check(t, os.Mkdir(dir, 0o777))
				args := []string{"reach"}
				for _, a := range tt.calls {
					args = append(args, strings.NewReplacer("PORT", port, "DIR", dir).Replace(a))
				}
				o, r := execute(t, recorded(command(args...), m))
				var got strings.Builder
				got.WriteString(inActivity(Activity{Connections: o.Activity.Connections, Binds: o.Activity.Binds, Dropped: o.Activity.Dropped}, port))
				for _, f := range o.Activity.Written {
					fmt.Fprintf(&got, "file %s\n", strings.ReplaceAll(f, dir, "DIR"))
				}
				for _, x := range o.Activity.Executions {
					fmt.Fprintf(&got, "%s: %d arguments, %d more, %d cut\n", x.Program, len(x.Args), x.ArgsDropped, x.ArgsCut)
				}
				if got.String() != tt.want {
					t.Errorf("\n%swant\n%s%s", got.String(), tt.want, r.out.String())
				}
			})
		}
	})
}

// A program that executes another of its name and with its arguments is no search for it.
func TestActivitySameName(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	if text, _ := os.ReadFile("/proc/sys/kernel/randomize_va_space"); strings.TrimSpace(string(text)) == "0" {
		t.Skip("needs addresses that the kernel chooses")
	}
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o755))
	check(t, os.Chmod(filepath.Dir(dir), 0o755))
	for i, then := range []string{"exec " + dir + `/1/x "$@"`, "exec " + dir + `/2/x "$@"`, "exit 0"} {
		path := filepath.Join(dir, strconv.Itoa(i), "x")
		check(t, os.Mkdir(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, []byte("#!/bin/sh\n"+then+"\n"), 0o755))
	}
	eachMethod(t, func(t *testing.T, m Method) {
		o, _ := execute(t, recorded(command("reach", "run="+dir+"/0/x a"), m))
		want := fmt.Sprintf("execution %[1]s/0/x [\"a\"] ×1\nexecution %[1]s/1/x [\"a\"] ×1\nexecution %[1]s/2/x [\"a\"] ×1\n", dir)
		if got := inActivity(o.Activity, ""); got != want {
			t.Errorf("\n%swant\n%s", got, want)
		}
	})
}
