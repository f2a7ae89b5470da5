// Floor answers lines as `py3run bridge --state=keep` does, and does by hand what such a request cannot do without:
// what is left when everything else is taken away. bench.py compares the two. What it lacks is the rest of py3run: a
// sandbox, a policy, limits, the events, verdicts, errors of any kind.
//
//	floor STEPS DIRECTORY PYTHON [USAGE-FILE ...]
//
// STEPS are some of these, with commas; without any, it reads a line and writes one:
//
//	interpreter  the code goes to an interpreter over a socket and is executed; a report comes back
//	pipes        with two new pipes for what the request prints
//	usage        the files of a control group are read, which show what the code has used and what of it lives
//	records      a start record before, an end record after: lock, comparison of the log's end, hash, write, note
//	sync         each record is durable before the next step
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"unsafe"
)

// The interpreter's side: runtime/keep.py without everything that it is there for.
const script = `
import os, socket, sys
control, names = socket.socket(fileno=3), {}
while True:
    code, extra, _, _ = control.recvmsg(65536, 64)
    if not code:
        break
    fds = [fd for _, _, raw in extra for fd in memoryview(raw).cast("i")]
    for to, fd in enumerate(fds, 1):
        os.dup2(fd, to)
        os.close(fd)
    exec(compile(code, "<code>", "exec"), names)
    sys.stdout.flush(), sys.stderr.flush()
    control.send(bytes(8))
`

// Bytes of the lines that py3run writes for {"code": "pass"}.
const (
	startRecord, endRecord = 1015, 1645
	replyLine              = 173
	room                   = 64 << 20 // for the log
)

type floor struct {
	steps   []string
	control int // the interpreter's socket
	usage   []int

	log, lock int
	path      string
	end       int64
	last      []byte // the newest record
	there     []byte
	seq       uint64
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 4 {
		log.Fatal("usage: floor STEPS DIRECTORY PYTHON [USAGE-FILE ...]")
	}
	f := &floor{steps: strings.Split(os.Args[1], ","), path: fmt.Sprintf("%s/floor-%d.jsonl", os.Args[2], os.Getpid())}
	if f.does("interpreter") {
		f.startInterpreter(os.Args[3])
	}
	for _, name := range os.Args[4:] {
		fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		must(err)
		f.usage = append(f.usage, fd)
	}
	if f.does("records") {
		f.openLog()
	}
	fmt.Println(`{"status":"ready"}`)
	line, reply := make([]byte, 64<<10), append(bytes.Repeat([]byte("x"), replyLine-1), '\n')
	for {
		n, _ := syscall.Read(0, line)
		if n <= 0 {
			return
		}
		var request struct{ Code string }
		must(json.Unmarshal(line[:n], &request))
		f.serve(request.Code)
		_, err := syscall.Write(1, reply)
		must(err)
	}
}

func (f *floor) does(step string) bool { return slices.Contains(f.steps, step) }

func (f *floor) serve(code string) {
	if f.does("records") {
		f.record(startRecord)
	}
	if f.does("interpreter") {
		f.execute(code)
	}
	if f.does("usage") {
		var text [4096]byte
		for _, fd := range f.usage {
			_, err := syscall.Pread(fd, text[:], 0)
			must(err)
		}
	}
	if f.does("records") {
		f.record(endRecord)
	}
}

func (f *floor) startInterpreter(python string) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	must(err)
	c := exec.Command(python, "-I", "-c", script)
	c.ExtraFiles, c.Stderr = []*os.File{os.NewFile(uintptr(ends[1]), "control")}, os.Stderr
	must(c.Start())
	c.ExtraFiles[0].Close()
	f.control = ends[0]
}

type pollFD struct {
	fd              int32
	events, revents int16
}

// execute has the interpreter execute the code, and waits once for its report and what it prints.
func (f *floor) execute(code string) {
	var rights []byte
	var fds []int
	wait := []pollFD{{fd: int32(f.control), events: 1}}
	if f.does("pipes") {
		for range 2 {
			var ends [2]int
			must(syscall.Pipe2(ends[:], syscall.O_CLOEXEC))
			fds = append(fds, ends[0], ends[1])
			wait = append(wait, pollFD{fd: int32(ends[0]), events: 1})
		}
		rights = syscall.UnixRights(fds[1], fds[3])
	}
	must(syscall.Sendmsg(f.control, []byte(code), rights, nil, 0))
	if len(fds) > 0 {
		syscall.Close(fds[1])
		syscall.Close(fds[3])
	}
	for wait[0].revents == 0 {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&wait[0])), uintptr(len(wait)), 0, 0, 0, 0)
		if errno != 0 && errno != syscall.EINTR {
			log.Fatal("ppoll: ", errno)
		}
	}
	var report [8]byte
	if n, _ := syscall.Read(f.control, report[:]); n != len(report) {
		log.Fatal("the interpreter has ended")
	}
	if len(fds) > 0 {
		syscall.Close(fds[0])
		syscall.Close(fds[2])
	}
}

func (f *floor) openLog() {
	var err error
	f.log, err = syscall.Open(f.path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_APPEND|syscall.O_CLOEXEC, 0o600)
	must(err)
	f.lock, err = syscall.Open(f.path+".lock", syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	must(err)
	const keepSize = 1
	syscall.Fallocate(f.log, keepSize, 0, room) // not every file system can
}

// record appends a record of this size to the log, chained to the one before by its hash.
func (f *floor) record(size int) {
	must(syscall.Flock(f.lock, syscall.LOCK_EX))
	var st syscall.Stat_t
	must(syscall.Stat(f.path, &st))
	if n := len(f.last); n > 0 {
		f.there = append(f.there[:0], f.last...)
		if _, err := syscall.Pread(f.log, f.there, f.end-int64(n)); err != nil || st.Size != f.end || !bytes.Equal(f.there, f.last) {
			log.Fatal("somebody else has written the log")
		}
	}
	sum := sha256.Sum256(f.last)
	f.seq++
	line := fmt.Appendf(f.last[:0], `{"seq":%d,"prev":"%s","rest":"`, f.seq, hex.EncodeToString(sum[:]))
	for len(line) < size-3 {
		line = append(line, 'x')
	}
	f.last = append(line, '"', '}', '\n')
	_, err := syscall.Write(f.log, f.last)
	must(err)
	f.end += int64(len(f.last))
	note := fmt.Appendf(nil, "%020d %s\n", f.seq, hex.EncodeToString(sum[:]))
	_, err = syscall.Pwrite(f.lock, note, 0)
	must(err)
	must(syscall.Flock(f.lock, syscall.LOCK_UN))
	if f.does("sync") {
		must(syscall.Fdatasync(f.log))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
