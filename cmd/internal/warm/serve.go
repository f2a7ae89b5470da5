package warm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

const (
	importPatience = 2 * time.Minute       // for a template's modules
	workerPatience = 30 * time.Second      // for one worker
	lookEvery      = 5 * time.Second       // at the interpreter, the memory and the time unused
	endPatience    = 2 * time.Second       // for what a template's modules do at its end
	recordPatience = 50 * time.Millisecond // for a launcher whose run is over to write its record and end
	renewAfter     = 1000                  // workers of one interpreter: all have its address layout and its hash seed
	renewAge       = time.Hour
	growthMost     = 64 << 20               // bytes that a template's memory may grow by
	notesMost      = 1 << 19                // bytes of a lock file
	glanceMost     = 100 * time.Millisecond // that a template's file may be held by who looks whether it lives
	templatesMost  = 8                      // of one user; the one that was unused for longest makes room
)

// Serve is the life of a template. The Setup is read from in.
func Serve(in io.Reader) error {
	runtime.LockOSThread() // the interpreter dies with the thread that has started it
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	var s Setup
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read set-up: %w", err)
	}
	dir, err := openDir(s.Dir, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	t := &server{}
	t.pool = newPool(s, func(groups []string) { t.noteGroups(groups) })
	path := filepath.Join(s.Dir, t.key)
	if t.lock, err = lockFile(path+lockSuffix, glanceMost); err != nil {
		return err
	}
	t.sweep()
	makeRoom(s.Dir)
	failed := func(err error) error {
		t.lock.WriteString(failedPrefix + strings.ReplaceAll(err.Error(), "\n", " ") + "\n")
		return err
	}
	if t.setup.Identity, err = t.begin(); err != nil {
		return failed(err)
	}
	os.Remove(path + socketSuffix)
	listener, err := listen(dir, t.key+socketSuffix)
	if err != nil {
		t.template.Close()
		return failed(fmt.Errorf("listen at %s: %w", path+socketSuffix, err))
	}
	go t.accept(listener)
	go t.watch()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-asked; t.stop() }()
	t.fill()
	t.end(path, listener)
	return nil
}

// accept takes connections until there is nothing to listen at.
func (t *server) accept(listener int) {
	for {
		c, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err == nil {
			go t.serve(c)
		} else if err != unix.EINTR && err != unix.ECONNABORTED {
			t.stop()
			return
		}
	}
}

// end ends the template: its workers, its interpreter, then what it has noted.
func (t *server) end(path string, listener int) {
	// From here on no launcher finds the template.
	os.Remove(path + socketSuffix)
	unix.Shutdown(listener, unix.SHUT_RDWR) // and with it the accepting
	t.drain()
	ended := make(chan struct{})
	go func() { t.retire(t.template, t.using); close(ended) }()
	t.mu.Lock()
	busy := t.running > 0
	t.mu.Unlock()
	if !busy {
		select {
		case <-ended:
		case <-time.After(endPatience): // a run has begun after all
		}
	}
	noted := groupsOf(t.lock)
	os.Remove(path + lockSuffix) // another one may begin
	t.lock.Close()
	t.mu.Lock()
	for _, c := range t.asked {
		unix.Close(c)
	}
	t.mu.Unlock()
	<-ended
	t.runs.Wait() // what is left of runs under way is removed after them; if this process is killed, by their launchers
	for _, group := range noted {
		cgroup.SweepEmpty(group) // of a killed template, whose workers had not ended yet when this one began
	}
}

// listen makes the socket, by the directory's descriptor: see connect.
func listen(dir *os.File, name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + name})
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	return fd, err
}

// A server is a pool with a socket, from which launchers take workers.
type server struct {
	*pool
	lock  *os.File
	asked []int // connections that wait for the end; under mu of the pool
}

// makeRoom ends the template that was unused for longest, if there are many.
func makeRoom(dir string) {
	list, _ := All(dir)
	var oldest Status
	n := 0
	idle := func(s Status) bool { return s.Running == 0 }
	for _, s := range list {
		if s.Failed != "" {
			continue
		}
		if n++; n == 1 || idle(s) && !idle(oldest) || idle(s) == idle(oldest) && s.LastUse.Before(oldest.LastUse) {
			oldest = s
		}
	}
	if n >= templatesMost {
		Stop(dir, oldest.Key)
	}
}

// serve answers one connection.
func (t *server) serve(c int) {
	message, _, err := receive(c, time.Second)
	if err == nil {
		err = sameUser(c)
	}
	if err == nil && !samePids(c) {
		err = unix.EACCES
	}
	if err == nil && string(message) == "stop" {
		t.mu.Lock()
		t.asked = append(t.asked, c) // closed when it is done
		t.mu.Unlock()
		t.stop()
		return
	}
	defer unix.Close(c)
	switch {
	case err != nil:
	case string(message) == "lease":
		t.handoff(c)
	case string(message) == "status":
		unix.Sendmsg(c, t.status().text(), nil, nil, unix.MSG_NOSIGNAL)
	}
}

// samePids tells whether the process at the other end is in the pid namespace of this process: a
// run with namespaces never is. It counts the numbers of NSpid (proc_pid_status(5)), one for each
// namespace from the reader's down. Everybody may read them. The files in /proc/PID/ns would say
// it, too, but a launcher that has runs is undumpable, and then even its own user may not read
// them. Where /proc is mounted with hidepid=2, such a launcher is hidden as a whole: it gets no
// worker, and starts interpreters of its own.
func samePids(c int) bool {
	peer, err := unix.GetsockoptUcred(c, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return false
	}
	fd, err := unix.Open("/proc/"+strconv.Itoa(int(peer.Pid))+"/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	status := make([]byte, 4096) // the kernel gives all of it at once
	n, _ := unix.Read(fd, status)
	return pidNamespaces(string(status[:max(0, n)])) == 1
}

// pidNamespaces is the number of pid namespaces, from that of the reader down, that a process with
// this status is in; 0: it is not known.
func pidNamespaces(status string) int {
	_, rest, _ := strings.Cut(status, "\nNSpid:")
	numbers, _, _ := strings.Cut(rest, "\n")
	return len(strings.Fields(numbers))
}

// handoff gives a worker to a launcher, and removes what is left when the run is over.
func (t *server) handoff(c int) {
	worker, ok := t.take()
	if !ok {
		unix.Sendmsg(c, []byte("none"), nil, nil, unix.MSG_NOSIGNAL)
		return
	}
	text, descriptors := worker.Handoff()
	err := unix.Sendmsg(c, text, unix.UnixRights(descriptors...), nil, unix.MSG_NOSIGNAL)
	worker.Give()
	if err == nil {
		unix.Read(c, make([]byte, 1)) // until the launcher is done, or dead
	}
	t.done(worker)
	awaitEnd(c, recordPatience)
	t.refill() // not before: to make a worker takes as much of a processor as most runs do
}

// awaitEnd waits for the end of the process at the other end of a connection, not for long.
func awaitEnd(c int, patience time.Duration) {
	peer, err := unix.GetsockoptUcred(c, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return
	}
	fd, err := unix.PidfdOpen(int(peer.Pid), 0)
	if err != nil { // it has ended
		return
	}
	defer unix.Close(fd)
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
}

// watch ends the template when there is a reason.
func (t *server) watch() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.quit:
			return
		case <-tick.C:
		}
		if t.outlived() {
			t.stop()
		}
		for _, suffix := range []string{socketSuffix, lockSuffix} {
			if _, err := os.Stat(filepath.Join(t.setup.Dir, t.key+suffix)); errors.Is(err, os.ErrNotExist) {
				t.stop() // nobody can find it
			}
		}
	}
}
