package warm

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/python"
	"py3run/sandbox"
)

// A pool keeps workers of one Setup ready. It owns the template interpreter that forks them.
type pool struct {
	setup   Setup
	key     string
	note    func(groups []string) // writes down which groups to remove if this process is killed
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

func newPool(s Setup, note func(groups []string)) *pool {
	now := time.Now()
	return &pool{setup: s, key: s.Key(), note: note, ready: make(chan waiting, s.Spares), want: make(chan struct{}, 1), quit: make(chan struct{}), started: now, used: now}
}

// stop ends the pool: fill returns.
func (p *pool) stop() { p.once.Do(func() { close(p.quit) }) }

// begin starts the interpreter, and returns its identity.
func (p *pool) begin() (identity string, err error) {
	ip, _, err := python.Find(python.Want{Interpreter: p.setup.Interpreter, Environ: p.setup.Environ, Dir: "/", CacheDir: p.setup.CacheDir, KeyFile: p.setup.KeyFile, Run: p.setup.Run})
	if err != nil {
		return "", err
	}
	defer ip.Close()
	p.calls, p.steps = p.setup.PoolKey.Setup()
	environ := p.setup.Environ
	if p.setup.Ahead != nil {
		environ = p.setup.Ahead
	}
	p.template, err = python.StartTemplate(ip, python.TemplateJob{Setup: p.calls, Practice: sandbox.Practice(), UserNamespace: os.Geteuid() != 0, First: p.setup.PoolKey.FirstFile,
		Environ: environ, Preload: p.setup.Preload, ImportPath: p.setup.ImportPath, Flagged: p.setup.Flagged, Quit: p.quit}, importPatience)
	if err != nil {
		return "", err
	}
	p.born, p.forked, p.using = time.Now(), 0, new(sync.WaitGroup)
	p.mu.Lock()
	p.process = p.template.Process.Process.Pid
	p.mu.Unlock()
	p.first = resident(p.process)
	return ip.Identity, nil
}

// fill keeps workers ready until the pool is to end.
func (p *pool) fill() {
	for {
		if len(p.ready) >= cap(p.ready) {
			select {
			case <-p.want:
			case <-p.quit:
				return
			}
			continue
		}
		select {
		case <-p.quit:
			return
		default:
		}
		if p.forked >= renewAfter || time.Since(p.born) > renewAge {
			old, using := p.template, p.using
			if _, err := p.begin(); err != nil {
				p.template = old
				return
			}
			p.runs.Go(func() { p.retire(old, using) })
		}
		mounts := p.mounts()
		worker, err := p.worker()
		if err != nil {
			return // a template that cannot fork is of no use
		}
		p.using.Add(1)
		p.ready <- waiting{worker, mounts, p.using}
	}
}

func (p *pool) worker() (*sandbox.Worker, error) {
	ctx, cancel := context.WithTimeout(context.Background(), workerPatience)
	defer cancel()
	p.forked++
	name := fmt.Sprintf("py3run-warm-%s-%d-%d", p.key[:8], os.Getpid(), p.started.UnixNano()%1e9*1e6+int64(p.forked))
	worker, err := sandbox.NewWorker(ctx, p.setup.PoolKey, p.steps, name, p.note, func(files []*os.File) error {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		return sandbox.SendTo(p.template.Control, []byte("fork"), fds)
	})
	if err == nil && p.setup.Limits != (sandbox.Limits{}) {
		worker.Ready(p.setup.Limits)
	}
	return worker, err
}

// take takes a worker for a run, and waits a moment for one that is being made. After the run the
// caller calls done with the worker.
func (p *pool) take() (w waiting, ok bool) {
	p.mu.Lock()
	p.used = time.Now()
	p.mu.Unlock()
	late := time.NewTimer(queuePatience)
	defer late.Stop()
	for {
		select {
		case w = <-p.ready:
		case <-late.C:
			return w, false
		case <-p.quit:
			return w, false
		}
		p.runs.Add(1)
		if len(p.ready) == 0 {
			p.refill()
		}
		if w.Alive() && w.mounts == p.mounts() {
			p.mu.Lock()
			p.served++
			p.running++
			p.mu.Unlock()
			return w, true
		}
		p.refill()
		go func(w waiting) { p.remove(w); p.runs.Done() }(w)
	}
}

// done removes what is left of a run in a worker.
func (p *pool) done(w waiting) {
	p.remove(w)
	p.mu.Lock()
	p.running--
	p.used = time.Now()
	p.mu.Unlock()
	p.runs.Done()
}

// drain removes the workers that wait. Call it when fill has returned.
func (p *pool) drain() {
	for {
		select {
		case worker := <-p.ready:
			p.remove(worker)
		default:
			return
		}
	}
}

// retire ends an interpreter when its workers have ended. Not earlier: at its end its modules may
// remove what the workers use.
func (p *pool) retire(template *python.Template, using *sync.WaitGroup) {
	using.Wait()
	template.End(endPatience)
	p.reap()
}

func (p *pool) remove(s waiting) {
	defer s.using.Done()
	s.Close()
	if _, err := unix.Wait4(s.Pid(), nil, 0, nil); err == unix.ECHILD { // the interpreter's child, and this process's when that has been replaced
		p.mu.Lock()
		p.ended = append(p.ended, s.Pid())
		p.mu.Unlock()
	}
}

// reap collects the processes that a replaced interpreter has left.
func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pid := range p.ended {
		unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
	p.ended = nil
}

// refill asks for another worker.
func (p *pool) refill() {
	select {
	case p.want <- struct{}{}:
	default:
	}
}

func (p *pool) status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Key: p.key, Process: os.Getpid(), Interpreter: p.setup.Interpreter, Preload: p.setup.Preload, Started: p.started, LastUse: p.used,
		Ready: len(p.ready), Running: p.running, Served: p.served, MemoryBytes: resident(p.process)}
}

// outlived reports whether there is a reason to end the pool: nobody has used it for too long, its
// interpreter is another one or has died, or its memory has grown.
func (p *pool) outlived() bool {
	p.mu.Lock()
	unused, busy, process := time.Since(p.used), p.running > 0, p.process
	p.mu.Unlock()
	identity, err := python.Identify(p.setup.Interpreter)
	memory := resident(process)
	return p.setup.Idle > 0 && unused > p.setup.Idle && !busy || err != nil || identity != p.setup.Identity || memory == 0 || memory > 2*p.first+growthMost
}

// mounts counts the changes of what is mounted. If mounts are not propagated (mount_namespaces(7)),
// a worker does not see those that come after it.
func (p *pool) mounts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil {
		p.table, _ = os.Open("/proc/self/mountinfo")
	}
	poll := []unix.PollFd{{Fd: int32(p.table.Fd()), Events: unix.POLLPRI}}
	if n, _ := unix.Poll(poll, 0); n > 0 {
		p.changes++
	}
	return p.changes
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
