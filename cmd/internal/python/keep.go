package python

import (
	"bytes"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/wire"
)

// A Kept is a session with an interpreter that serves one job after the other: see runtime/keep.py.
// Events and Reply are about the last job.
type Kept struct {
	*Session
	room   int    // bytes for a request
	size   int64  // bytes for a value
	used   int    // bytes of the shared memory behind the events that the last job has used
	buffer []byte // for events of children
}

const (
	keptRoom = 256 << 10 // for a request; a larger one gets other memory
	keptMost = 1 << 20   // what a job may have used of the memory without the next one getting other memory: pages once used stay
)

// OpenKept prepares an interpreter that is kept. Of the job, only what an interpreter gets at its
// start is of interest.
func OpenKept(ip Interpreter, job Job, first int) (*Kept, error) {
	job.Kept = true
	s, err := Open(ip, job, first)
	if err != nil {
		return nil, err
	}
	return &Kept{Session: s, used: keptMost + 1}, nil
}

// OpenKeptWorker prepares a preforked worker that is kept.
func OpenKeptWorker(job Job) (*Kept, error) {
	job.Kept = true
	s, err := OpenWorker(job, nil)
	if err != nil {
		return nil, err
	}
	return &Kept{Session: s, used: keptMost + 1}, nil
}

// Begin writes the next job into the shared memory. It must be called while the interpreter waits.
// The files, if there are any, are for the interpreter: other memory, and a standard input. The caller
// closes them.
func (k *Kept) Begin(job Job) (files []*os.File, err error) {
	most := bounded(job.OutputMost)
	request := marshal(nil, job.again(most))
	if len(request) <= k.room && most <= k.size && k.used <= keptMost && job.Stdin == "" {
		k.most = most
		k.clear()
		copy(k.memory[eventsSize:], request) // through the mapping: the interpreter has sealed the file against writes
		binary.NativeEndian.PutUint32(k.memory[4*wordRequest:], uint32(len(request)))
		return nil, nil
	}
	old, first := k.memory, k.size == 0
	k.most, k.size, k.room = most, most, max(len(request), keptRoom)
	shared, err := k.share(request, k.room-len(request))
	if err != nil {
		return nil, err
	}
	if !first { // an interpreter that starts still reads it; one that misses the new memory must not do the last job again
		binary.NativeEndian.PutUint32(old[4*wordRequest:], 0)
	}
	unix.Munmap(old)
	k.used, files = 0, []*os.File{shared}
	if job.Stdin != "" {
		stdin, err := Input(job.Stdin)
		if err != nil {
			shared.Close()
			return nil, err
		}
		files = append(files, stdin)
	}
	return files, nil
}

// clear removes the events of the last job.
func (k *Kept) clear() {
	text := k.memory[textOffset:eventsSize]
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	lines := min(bytes.Count(text, []byte("\n")), distinct)
	clear(text)
	clear(k.memory[:4*(counters+lines)])
}

// Reply reads and checks the reply to the last job.
func (k *Kept) Reply() (Reply, error) {
	k.used = int(k.word(wordRequest)) + int(k.word(wordAbout)) + int(k.word(wordValue))
	return k.Session.Reply()
}

// Events are those of the last job. Events of children that were forked earlier count for the job
// during which they came.
func (k *Kept) Events(why map[string]string, seen wire.Events) wire.Events {
	k.childEvents = k.childEvents[:0]
	if raw, err := k.children.SyscallConn(); err == nil {
		raw.Control(k.readNow)
	}
	k.attended = true // above; at the pipe's end, which a kept interpreter holds open, nobody arrives
	return k.Session.Events(why, seen)
}

// readNow reads the events of children that the pipe holds now: a child that lives on may write for
// ever. Behind childrenMost they are dropped, as in readChildren.
func (k *Kept) readNow(fd uintptr) {
	if k.buffer == nil {
		k.buffer = make([]byte, 16<<10)
	}
	held, _ := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	for held > 0 {
		n, err := unix.Read(int(fd), k.buffer[:min(held, len(k.buffer))])
		if n <= 0 || err != nil {
			return
		}
		held -= n
		k.childEvents = append(k.childEvents, k.buffer[:min(n, childrenMost-len(k.childEvents))]...)
	}
}
