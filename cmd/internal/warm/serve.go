package warm

import (
	"context"
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
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/python"
	"py3run/sandbox"
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
	t := &server{setup: s, key: s.Key(), ready: make(chan waiting, s.Spares), want: make(chan struct{}, 1), quit: make(chan struct{}), started: time.Now(), used: time.Now()}
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
	for {
		select {
		case worker := <-t.ready:
			t.remove(worker)
			continue
		default:
		}
		break
	}
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

type server struct {
	setup   Setup
	key     string
	lock    *os.File
	started time.Time

	template *python.Template // of the filling goroutine
	using    *sync.WaitGroup  // the template's workers
	calls    []byte
	steps    *sandbox.Steps
	born     time.Time
	forked   int
	first    int64 // memory of a new template

	ready chan waiting
	want  chan struct{} // a worker was taken
	quit  chan struct{}
	once  sync.Once
	runs  sync.WaitGroup

	mu      sync.Mutex
	used    time.Time
	served  int
	running int
	process int   // of the template
	asked   []int // connections that wait for the end
	ended   []int // inits of workers that the interpreter has to wait for
	table   *os.File
	changes int // of table
}

// waiting is a worker that waits, how often the mounts had changed before it was made, and the wait
// group of its interpreter's workers.
type waiting struct {
	*sandbox.Worker
	mounts int
	using  *sync.WaitGroup
}

func (t *server) stop() { t.once.Do(func() { close(t.quit) }) }

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

// begin starts the interpreter, and returns its identity.
func (t *server) begin() (identity string, err error) {
	ip, _, err := python.Find(python.Want{Interpreter: t.setup.Interpreter, Environ: t.setup.Environ, Dir: "/", CacheDir: t.setup.CacheDir, KeyFile: t.setup.KeyFile})
	if err != nil {
		return "", err
	}
	defer ip.Close()
	t.calls, t.steps = t.setup.PoolKey.Setup()
	t.template, err = python.StartTemplate(ip, python.TemplateJob{Setup: t.calls, Practice: sandbox.Practice(), UserNamespace: os.Geteuid() != 0, First: t.setup.PoolKey.FirstFile,
		Environ: t.setup.Environ, Preload: t.setup.Preload, ImportPath: t.setup.ImportPath, Flagged: t.setup.Flagged}, importPatience)
	if err != nil {
		return "", err
	}
	t.born, t.forked, t.using = time.Now(), 0, new(sync.WaitGroup)
	t.mu.Lock()
	t.process = t.template.Process.Process.Pid
	t.mu.Unlock()
	t.first = resident(t.process)
	return ip.Identity, nil
}

// fill keeps workers ready until the template is to end.
func (t *server) fill() {
	for {
		if len(t.ready) >= cap(t.ready) {
			select {
			case <-t.want:
			case <-t.quit:
				return
			}
			continue
		}
		select {
		case <-t.quit:
			return
		default:
		}
		if t.forked >= renewAfter || time.Since(t.born) > renewAge {
			old, using := t.template, t.using
			if _, err := t.begin(); err != nil {
				t.template = old
				return
			}
			t.runs.Go(func() { t.retire(old, using) })
		}
		mounts := t.mounts()
		worker, err := t.worker()
		if err != nil {
			return // a template that cannot fork is of no use
		}
		t.using.Add(1)
		t.ready <- waiting{worker, mounts, t.using}
	}
}

func (t *server) worker() (*sandbox.Worker, error) {
	ctx, cancel := context.WithTimeout(context.Background(), workerPatience)
	defer cancel()
	t.forked++
	name := fmt.Sprintf("py3run-warm-%s-%d-%d", t.key[:8], os.Getpid(), t.started.UnixNano()%1e9*1e6+int64(t.forked))
	return sandbox.NewWorker(ctx, t.setup.PoolKey, t.steps, name, func(paths []string) { t.note(paths) }, func(files []*os.File) error {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		return sandbox.SendTo(t.template.Control, []byte("fork"), fds)
	})
}

// retire ends an interpreter when its workers have ended. Not earlier: at its end its modules may
// remove what the workers use.
func (t *server) retire(template *python.Template, using *sync.WaitGroup) {
	using.Wait()
	template.End(endPatience)
	t.reap()
}

func (t *server) remove(s waiting) {
	defer s.using.Done()
	s.Close()
	if _, err := unix.Wait4(s.Pid(), nil, 0, nil); err == unix.ECHILD { // the interpreter's child, and this process's when that has been replaced
		t.mu.Lock()
		t.ended = append(t.ended, s.Pid())
		t.mu.Unlock()
	}
}

// reap collects the processes that a replaced interpreter has left.
func (t *server) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, pid := range t.ended {
		unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
	t.ended = nil
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
	t.mu.Lock()
	t.used = time.Now()
	t.mu.Unlock()
	late := time.NewTimer(queuePatience)
	defer late.Stop()
	for {
		var worker waiting
		select {
		case worker = <-t.ready:
		case <-late.C:
		case <-t.quit:
		}
		if worker.Worker == nil {
			unix.Sendmsg(c, []byte("none"), nil, nil, unix.MSG_NOSIGNAL)
			return
		}
		t.runs.Add(1)
		if len(t.ready) == 0 {
			t.refill()
		}
		if !worker.Alive() || worker.mounts != t.mounts() {
			t.refill()
			go func() { t.remove(worker); t.runs.Done() }()
			continue
		}
		text, descriptors := worker.Handoff()
		err := unix.Sendmsg(c, text, unix.UnixRights(descriptors...), nil, unix.MSG_NOSIGNAL)
		worker.Give()
		t.mu.Lock()
		t.served++
		t.running++
		t.mu.Unlock()
		if err == nil {
			unix.Read(c, make([]byte, 1)) // until the launcher is done, or dead
		}
		t.remove(worker)
		t.mu.Lock()
		t.running--
		t.used = time.Now()
		t.mu.Unlock()
		t.runs.Done()
		awaitEnd(c, recordPatience)
		t.refill() // not before: to make a worker takes as much of a processor as most runs do
		return
	}
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

// refill asks for another worker.
func (t *server) refill() {
	select {
	case t.want <- struct{}{}:
	default:
	}
}

func (t *server) status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Status{Key: t.key, Process: os.Getpid(), Interpreter: t.setup.Interpreter, Preload: t.setup.Preload, Started: t.started, LastUse: t.used,
		Ready: len(t.ready), Running: t.running, Served: t.served, MemoryBytes: resident(t.process)}
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
		t.mu.Lock()
		unused, busy, process := time.Since(t.used), t.running > 0, t.process
		t.mu.Unlock()
		identity, err := python.Identify(t.setup.Interpreter)
		switch {
		case t.setup.Idle > 0 && unused > t.setup.Idle && !busy,
			err != nil || identity != t.setup.Identity,
			resident(process) == 0, // it is gone
			resident(process) > 2*t.first+growthMost:
			t.stop()
		}
		for _, suffix := range []string{socketSuffix, lockSuffix} {
			if _, err := os.Stat(filepath.Join(t.setup.Dir, t.key+suffix)); errors.Is(err, os.ErrNotExist) {
				t.stop() // nobody can find it
			}
		}
	}
}

// mounts counts the changes of what is mounted. If mounts are not propagated (mount_namespaces(7)),
// a worker does not see those that come after it.
func (t *server) mounts() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.table == nil {
		t.table, _ = os.Open("/proc/self/mountinfo")
	}
	p := []unix.PollFd{{Fd: int32(t.table.Fd()), Events: unix.POLLPRI}}
	if n, _ := unix.Poll(p, 0); n > 0 {
		t.changes++
	}
	return t.changes
}

// resident is the resident set of a process, in bytes.
func resident(pid int) int64 {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
