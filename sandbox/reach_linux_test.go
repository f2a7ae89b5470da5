package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	helpers["reach"] = reach
	helpers["storm"] = storm
	helpers["nested"] = nested
	helpers["watching"] = watching
}

// reach makes one call after the other and prints what became of each. An argument is the name of a
// row of reaching or, with what the row takes, NAME=ARGUMENT.
//
// To add a call: a row in reaching, and a row in TestActivity that says what a run's activity shows
// of it.
func reach(args []string) error {
	runtime.LockOSThread()
	for _, arg := range args {
		what, with, _ := strings.Cut(arg, "=")
		call, known := reaching[what]
		if !known {
			return fmt.Errorf("no row of reaching is named %q", what)
		}
		fmt.Printf("%s: %s\n", what, outcome(call.make(with)))
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

// A reachingCall is a way to reach out of a process.
type reachingCall struct {
	takes string // what its argument is; empty: it has none
	does  string
	make  func(with string) error
}

// reaching are all of them, by name. Other files add theirs.
var reaching = map[string]reachingCall{
	"tcp": {"PORT", "connects a TCP socket", connectTCP},
	"tcp6": {"PORT", "connects a TCP socket to the loopback of IPv6", func(port string) error {
		return opened(unix.AF_INET6, unix.SOCK_STREAM, func(fd int) error {
			return unix.Connect(fd, &unix.SockaddrInet6{Addr: [16]byte{15: 1}, Port: number(port)})
		})
	}},
	"for ever": {"PORT", "connects TCP sockets until one fails", func(port string) error {
		for {
			if err := connectTCP(port); err != nil {
				return err
			}
		}
	}},
	"nonblocking": {"PORT", "connects a TCP socket that does not wait", func(port string) error {
		return opened(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, func(fd int) error { return unix.Connect(fd, loopback(port)) })
	}},
	"unix": {"PATH", "connects a Unix socket; @ begins an abstract name", func(path string) error {
		return opened(unix.AF_UNIX, unix.SOCK_STREAM, func(fd int) error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
	}},
	"udp": {"PORT", "connects a UDP socket and sends to its peer", func(port string) error { // connected, then sent to without an address
		return onUDP(func(fd int) error {
			if err := unix.Connect(fd, loopback(port)); err != nil {
				return err
			}
			_, err := unix.Write(fd, []byte("x"))
			return errors.Join(err, sysno(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&[]byte("x")[0])), 1))
		})
	}},
	"unconnect": {"PORT", "connects a UDP socket and takes that back", func(port string) error {
		return onUDP(func(fd int) error {
			if err := unix.Connect(fd, loopback(port)); err != nil {
				return err
			}
			none := make([]byte, 16) // AF_UNSPEC
			return sysno(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none[0])), 16)
		})
	}},
	"sendto": {"PORT", "sends to an address by sendto", func(port string) error {
		return onUDP(func(fd int) error { return unix.Sendto(fd, []byte("x"), 0, loopback(port)) })
	}},
	"sendmsg": {"PORT", "sends to an address by sendmsg", func(port string) error {
		return onUDP(func(fd int) error { return unix.Sendmsg(fd, []byte("x"), nil, loopback(port), 0) })
	}},
	"sendmsg to nobody": {"", "sends on a socket pair, without an address", func(string) error {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
		return unix.Sendmsg(pair[0], []byte("x"), nil, nil, 0)
	}},
	"sendmmsg": {"PORT,PORT", "sends two messages to the first, one to the second", func(ports string) error { // two to the first, one to the second
		return onUDP(func(fd int) error {
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
	}},
	"bind": {"PORT", "binds a TCP socket", func(port string) error {
		return opened(unix.AF_INET, unix.SOCK_STREAM, func(fd int) error { return unix.Bind(fd, loopback(port)) })
	}},
	"bind unix": {"PATH", "binds a Unix socket", func(path string) error {
		return opened(unix.AF_UNIX, unix.SOCK_STREAM, func(fd int) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: path}) })
	}},
	"netlink": {"", "binds a socket of the kernel's own family", func(string) error {
		return opened(unix.AF_NETLINK, unix.SOCK_RAW, func(fd int) error { return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) })
	}},
	"nowhere": {"", "names addresses and programs by pointers to nothing", func(string) error { // an address that is not there
		return onUDP(func(fd int) error {
			return errors.Join(sysno(unix.SYS_CONNECT, uintptr(fd), 8, 16), sysno(unix.SYS_EXECVE, 8, 8, 0))
		})
	}},
	"short": {"", "connects to half an address", func(string) error {
		return onUDP(func(fd int) error {
			return sysno(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&[]byte{unix.AF_INET, 0}[0])), 2)
		})
	}},
	"no descriptor": {"PORT", "connects a descriptor that is not open", func(port string) error { return unix.Connect(4000, loopback(port)) }},
	"run": {"PROGRAM ARGUMENT...", "starts a program and waits for it", func(line string) error {
		words := strings.Fields(line)
		return exec.Command(words[0], words[1:]...).Run()
	}},
	"search": {"NAME", "starts a program as a C library looks through PATH", func(name string) error { // as a C library looks through PATH
		c := helper("reach", "replace=/nowhere/"+name+" a b", "replace=/nowhere/either/"+name+" a b", "replace=/bin/"+name+" a b")
		return c.Run()
	}},
	"replace": {"PROGRAM ARGUMENT...", "becomes a program", func(line string) error {
		words := strings.Fields(line)
		return unix.Exec(words[0], append([]string{filepath.Base(words[0])}, words[1:]...), nil)
	}},
	"by descriptor": {"PATH", "becomes a program by execveat", func(path string) error {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		argv, empty := []*byte{unsafe.StringData("x\x00"), unsafe.StringData("1\x00"), nil}, []byte{0}
		return sysno(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&argv[2])), unix.AT_EMPTY_PATH)
	}},
	"ring": {"", "sets io_uring up", func(string) error {
		var parameters [120]byte
		err := sysno(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&parameters)))
		if err == unix.EPERM || err == unix.ENOSYS { // switched off here
			err = nil
		}
		return err
	}},
	"undumpable": {"", "closes its memory to others of its user", func(string) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }},
	"sendto many": {"COUNT", "sends to as many ports", func(count string) error { // to as many ports
		return onUDP(func(fd int) error {
			for port := range number(count) {
				if err := unix.Sendto(fd, []byte("x"), unix.MSG_DONTWAIT, loopback(strconv.Itoa(1024+port))); err != nil && err != unix.ECONNREFUSED && err != unix.EAGAIN {
					return err
				}
			}
			return nil
		})
	}},
	"ia32": {"PORT", "connects by the 32-bit entry of the kernel", connectIA32},
	"alarms": {"PORT", "connects 3000 times while signals arrive", func(port string) error { // which Go's handler restarts, as most handlers do
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGALRM)
		timer := [4]int64{0, 3000, 0, 3000} // rarer than a call takes on the slowest machine: each signal may begin it anew
		if err := sysno(unix.SYS_SETITIMER, unix.ITIMER_REAL, uintptr(unsafe.Pointer(&timer))); err != nil {
			return err
		}
		return onUDP(func(fd int) error {
			for range 3000 {
				if err := unix.Connect(fd, loopback(port)); err != nil {
					return err
				}
			}
			return nil
		})
	}},
}

func connectTCP(port string) error {
	return opened(unix.AF_INET, unix.SOCK_STREAM, func(fd int) error { return unix.Connect(fd, loopback(port)) })
}

// onUDP calls f with a new UDP socket.
func onUDP(f func(fd int) error) error { return opened(unix.AF_INET, unix.SOCK_DGRAM, f) }

// connectIA32 connects by the 32-bit entry, directly and through socketcall.
func connectIA32(port string) error {
	ia32, low, base, err := entryIA32()
	if err != nil {
		return err
	}
	const vector, address = 32, 64
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

// filesIA32 makes, renames and removes files by the 32-bit entry.
func filesIA32(dir string) error {
	ia32, low, base, err := entryIA32()
	if err != nil {
		return err
	}
	const first, second = 256, 2048
	for _, c := range []struct {
		number      uint32
		one, other  string
		three, four uint32
	}{
		{5, "/a", "", 0o101, 0o600}, // open
		{5, "/a", "", 0, 0},
		{38, "/a", "/b", 0, 0},   // rename
		{39, "/d", "", 0o700, 0}, // mkdir
		{193, "/b", "", 5, 0},    // truncate64
		{10, "/b", "", 0, 0},     // unlink
	} {
		copy(low[first:], dir+c.one+"\x00")
		args := []uint32{c.number, base + first, c.three, c.four}
		if c.other != "" {
			copy(low[second:], dir+c.other+"\x00")
			args[2] = base + second
		}
		if err := ia32(args...); err != nil {
			return err
		}
	}
	return nil
}

// entryIA32 gives the 32-bit entry of the kernel: a call in machine code, and memory in the lower four
// gigabytes for its arguments, from offset 32 to 127 and from 256 on.
func entryIA32() (call func(args ...uint32) error, low []byte, base uint32, err error) {
	if runtime.GOARCH != "amd64" {
		return nil, nil, 0, errors.New("not on this machine")
	}
	const below4GB = 0x40 // MAP_32BIT, which x/sys has for amd64 only
	low, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON|below4GB)
	if err != nil {
		return nil, nil, 0, err
	}
	base = uint32(uintptr(unsafe.Pointer(&low[0])))
	const arguments, result, code = 0, 24, 128
	var text []byte
	for i, modrm := range []byte{0x04, 0x1c, 0x0c, 0x14} { // mov eax, ebx, ecx, edx from memory
		text = binary.LittleEndian.AppendUint32(append(text, 0x8b, modrm, 0x25), base+arguments+4*uint32(i))
	}
	text = append(text, 0xcd, 0x80)                                                      // int 0x80
	text = binary.LittleEndian.AppendUint32(append(text, 0x89, 0x04, 0x25), base+result) // mov eax to memory
	copy(low[code:], append(text, 0xc3))
	entry := uintptr(base) + code
	pointer := &entry
	enter := *(*func())(unsafe.Pointer(&pointer))
	return func(args ...uint32) error {
		for i, a := range args {
			binary.LittleEndian.PutUint32(low[arguments+4*i:], a)
		}
		enter()
		if r := int32(binary.LittleEndian.Uint32(low[result:])); r < 0 {
			return syscall.Errno(-r)
		}
		return nil
	}, low, base, nil
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
