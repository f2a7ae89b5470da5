package sandbox

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// files are what only the child needs of the launcher's descriptors.
type files []*os.File

func (f *files) add(more ...*os.File) { *f = append(*f, more...) }

// close closes them, once.
func (f *files) close() {
	for _, file := range *f {
		file.Close()
	}
	*f = nil
}

// ends are the child's ends of the pipes between it and the launcher.
type ends struct{ lifeline, status, gate, dump, stdout, stderr *os.File }

// open makes the pipes. What is only the child's is added to theirs.
func (r *Running) open(stdio IO, theirs *files) (stdin *os.File, e ends, err error) {
	if r.spec.Transparent {
		e, err = r.openTransparent(stdio, theirs)
		return nil, e, err
	}
	var out, errs *os.File
	r.watching, r.stopping = stdio.Watch, stdio.Stopping
	e.lifeline, r.lifeline = r.pipes.next(&err, nobody)
	r.status, e.status = r.pipes.next(&err, reader)
	e.gate, r.gate = r.pipes.next(&err, nobody)
	r.dump, e.dump = r.pipes.next(&err, reader)
	if r.terminal = stdio.Terminal; r.terminal == nil {
		out, e.stdout = r.pipes.next(&err, reader)
		theirs.add(e.stdout)
	} else if err == nil {
		e.stdout, out, err = r.connect(r.terminal, theirs)
	}
	r.outputs, r.to = []*os.File{out}, []io.Writer{stdio.Stdout}
	theirs.add(e.lifeline, e.status, e.gate, e.dump)
	if e.stderr = e.stdout; !same(stdio.Stdout, stdio.Stderr) {
		errs, e.stderr = r.pipes.next(&err, reader)
		r.outputs, r.to = append(r.outputs, errs), append(r.to, stdio.Stderr)
		theirs.add(e.stderr)
	}
	r.pipes.close()
	if err != nil {
		return nil, e, &StepError{Step: "pipe", Err: err}
	}
	if r.terminal != nil {
		return e.stdout, e, nil
	}
	if stdin = stdio.Stdin; stdin == nil {
		null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, e, &StepError{Step: "open", Object: os.DevNull, Err: err}
		}
		stdin = os.NewFile(uintptr(null), os.DevNull)
		theirs.add(stdin)
	}
	if u := r.spec.RunAs; u != nil {
		for _, f := range []*os.File{stdin, e.stdout, e.stderr} {
			handOver(f, *u)
		}
	}
	return stdin, e, nil
}

// openTransparent makes the pipes of a transparent program. A stream is a pipe only if it has a
// writer: the others are the launcher's own.
func (r *Running) openTransparent(stdio IO, theirs *files) (e ends, err error) {
	e.lifeline, r.lifeline = pipe(&err, nobody)
	r.status, e.status = pipe(&err, reader)
	e.gate, r.gate = pipe(&err, nobody)
	theirs.add(e.lifeline, e.status, e.gate)
	stream := func(to io.Writer) (write *os.File) {
		if to == nil {
			return nil
		}
		var read *os.File
		read, write = pipe(&err, reader)
		r.outputs, r.to = append(r.outputs, read), append(r.to, to)
		theirs.add(write)
		return write
	}
	e.stdout = stream(stdio.Stdout)
	if e.stderr = e.stdout; !same(stdio.Stdout, stdio.Stderr) {
		e.stderr = stream(stdio.Stderr)
	}
	if err != nil {
		return e, &StepError{Step: "pipe", Err: err}
	}
	return e, nil
}

// withoutPipes are the descriptors that a transparent program inherits: those of IO.Inherit, without
// the streams that are pipes.
func withoutPipes(stdio IO, e ends) (inherit []int) {
	for _, fd := range stdio.Inherit {
		if !(fd == 1 && e.stdout != nil) && !(fd == 2 && e.stderr != nil) {
			inherit = append(inherit, fd)
		}
	}
	return inherit
}

// descriptorOrUnused is the descriptor of a pipe's end; unused if there is none.
func descriptorOrUnused(f *os.File) int {
	if f == nil {
		return unused
	}
	return int(f.Fd())
}

// same tells whether two streams have one writer. What cannot be compared is not the same.
func same(a, b io.Writer) bool {
	defer func() { recover() }()
	return a == b
}

// handOver gives a pipe without a name to the program's user: a program can open it as /dev/stdout,
// and the kernel then checks its owner and mode. A terminal or a file stays its owner's. If
// handOver fails, only that way of opening fails.
func handOver(f *os.File, u User) {
	number := fd(f)
	var fs unix.Statfs_t
	if unix.Fstatfs(number, &fs) == nil && fs.Type == unix.PIPEFS_MAGIC {
		unix.Fchown(number, u.UID, u.GID)
	}
}

// startCopy starts to copy one of the streams.
func (r *Running) startCopy(i int) {
	r.copying[i] = true
	to, from, copied, abandoned := r.to[i], r.outputs[i], r.copied, r.abandoned // a Resident has others in the next period
	r.spawn(func() { r.copy(to, from, abandoned) }, func() { copied <- i })
}

// copy passes one stream on until its end. If its reader has gone away, copy ends: the program then
// gets EPIPE or SIGPIPE, as it would without a launcher.
func (r *Running) copy(to io.Writer, from *os.File, abandoned *atomic.Bool) {
	defer from.Close()
	buffer := make([]byte, 32<<10)
	rest := -1 // bytes still to copy, once the time after the program's end is over
	read := from.Read
	for rest != 0 {
		n, err := read(buffer)
		if n > 0 {
			r.printed.Add(int64(n))
			if _, werr := to.Write(buffer[:n]); werr != nil || abandoned.Load() {
				if r.terminal != nil {
					r.terminal.cut()
				}
				return
			}
		}
		if rest > 0 {
			rest = max(0, rest-n)
		} else if errors.Is(err, os.ErrDeadlineExceeded) { // the reader is slow; what the pipe holds now is all of it
			rest = pending(from)
			from.SetReadDeadline(time.Time{})
			read = func(b []byte) (int, error) { return readNow(from, b) } // a program that lives on may take the rest itself
			continue
		}
		if err != nil {
			return
		}
	}
}

// readNow reads what a pipe holds, and does not wait. The error is EAGAIN if it holds nothing.
func readNow(f *os.File, b []byte) (n int, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if failed := c.Read(func(fd uintptr) bool { n, err = unix.Read(int(fd), b); return true }); failed != nil {
		return 0, failed
	}
	return n, err
}

// pending is the number of bytes in a pipe.
func pending(f *os.File) (n int) {
	if c, err := f.SyscallConn(); err == nil {
		c.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

// atEnd tells whether a pipe holds nothing and has no writer any more.
func atEnd(f *os.File) bool {
	p := []pollFD{polled(f)}
	pollNow(p)
	return p[0].revents&(unix.POLLIN|unix.POLLHUP) == unix.POLLHUP
}

// fd is the number of a file for the child, in blocking mode.
func fd(f *os.File) int {
	n := int(f.Fd())
	unix.SetNonblock(n, false)
	return n
}

// The end of a pipe that the launcher waits for in the runtime's poller. It waits for no write,
// because what it writes always fits.
const (
	nobody = iota
	reader
)

// pipe makes a pipe. Only the end that the poller waits for is non-blocking: the other one then
// needs no system calls for the poller.
func pipe(failed *error, waits int) (read, write *os.File) {
	if *failed != nil {
		return nil, nil
	}
	var ends [2]int
	if *failed = unix.Pipe2(ends[:], unix.O_CLOEXEC); *failed != nil {
		return nil, nil
	}
	if waits == reader {
		unix.SetNonblock(ends[0], true)
	}
	return os.NewFile(uintptr(ends[0]), "pipe"), os.NewFile(uintptr(ends[1]), "pipe")
}

// A pipeEnds is a pipe.
type pipeEnds struct{ read, write *os.File }

// A pipeStock is pipes that were made ahead, by who waits at them. A run with its own streams takes
// two nobody waits at, and four with a reader. Its zero value is empty.
type pipeStock [2][]pipeEnds

// newPipeStock makes the pipes of one run. Those that cannot be made, the run will make itself, and say
// what fails.
func newPipeStock() (s pipeStock) {
	for waits, n := range [2]int{nobody: 2, reader: 4} {
		for range n {
			var err error
			if r, w := pipe(&err, waits); err == nil {
				s[waits] = append(s[waits], pipeEnds{r, w})
			}
		}
	}
	return s
}

// next returns a pipe of the stock, or a new one.
func (s *pipeStock) next(failed *error, waits int) (read, write *os.File) {
	if *failed != nil || len(s[waits]) == 0 {
		return pipe(failed, waits)
	}
	p := s[waits][0]
	s[waits] = s[waits][1:]
	return p.read, p.write
}

// close closes those that are left.
func (s *pipeStock) close() {
	for _, list := range s {
		for _, p := range list {
			p.read.Close()
			p.write.Close()
		}
	}
	*s = pipeStock{}
}

// pair makes a socket pair that keeps messages apart. The first end is non-blocking.
func pair(failed *error) (ours, theirs *os.File) {
	if *failed != nil {
		return nil, nil
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(ends[0], true)
	}
	if *failed = err; err != nil {
		return nil, nil
	}
	return os.NewFile(uintptr(ends[0]), "set-up"), os.NewFile(uintptr(ends[1]), "set-up")
}

// receive reads one message and the descriptor that comes with it, or -1. At the end it returns 0
// bytes. An error means that the file's deadline has passed.
func receive(from *os.File, message []byte) (n, descriptor int, err error) {
	var rights [unix.SizeofCmsghdr + 8]byte
	raw, err := from.SyscallConn()
	if err != nil {
		return 0, -1, nil
	}
	iov := unix.Iovec{Base: &message[0], Len: uint64(len(message))}
	header := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: &rights[0], Controllen: uint64(len(rights))}
	err = raw.Read(func(fd uintptr) bool {
		for {
			r, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&header)), unix.MSG_CMSG_CLOEXEC)
			if errno == 0 {
				n = int(r)
			}
			if errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	if header.Controllen < unix.SizeofCmsghdr+4 {
		return n, -1, err
	}
	return n, int(int32(binary.NativeEndian.Uint32(rights[unix.SizeofCmsghdr:]))), err
}
