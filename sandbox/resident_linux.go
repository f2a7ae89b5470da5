package sandbox

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// A Resident is a program that is started once and then serves one [Period] after the other. Its
// isolation, its group and the limits that the kernel enforces last as long as the program. What
// the launcher watches, and what it counts, belongs to each period.
//
//	launcher                              program
//	StartResident, Release                starts, waits for a message on its stdin, a socket
//	Attend ─ message, descriptors ──────► puts stdout, stderr in place, works
//	       ◄────────── output ───────────
//	       ◄── report: status, note ───── waits again
//	   an Outcome; rest: what else of the tree lives is stopped
//	Attend: it goes on …
//	End ─ end of the socket ────────────► ends
//
// Between two periods nothing of the tree runs. The program waits for a message. If the tree has
// other threads or processes, init stops all of it (SIGSTOP) until the next period begins. A tree of
// one thread is stopped a moment later, if no period follows: it may have reported the end and go
// on. So next to nothing is used, printed or reached out to between two periods, and what is counts
// for the next one.
//
// The report is the program's own word, as an exit code is. That a limit is passed, that memory has
// run out and that the program has died, comes from the kernel.
type Resident struct {
	r       *Running
	control *os.File
	before  before

	mu      sync.Mutex
	pause   *time.Timer // looks whether the tree is to be stopped; nil: nobody will look
	resting time.Time   // since when no period is under way; zero: one is
	stopped bool        // init has stopped the tree
}

// restAfter is how long a tree of one thread may wait for the next period without being stopped:
// periods that follow each other closely do without it.
const restAfter = 100 * time.Millisecond

// A Period is one piece of work of a [Resident].
type Period struct {
	Wall, CPU, Idle time.Duration // limits; zero means none
	Disk            int64         // bytes below the working directory; 0: no limit
	Stdout, Stderr  io.Writer
	Files           []*os.File // for the program, after its two streams. The caller still owns and closes them
}

// A Report is what a program says at the end of a period: it proves nothing.
type Report struct {
	Status int32  // as the exit code of a process
	Note   uint32 // for the caller
}

// before is what the tree had used when the last period ended.
type before struct {
	cpu     time.Duration
	refused int64
	failed  bool
	tree    tree
}

// ErrOver is why a [Resident] takes no further period: it has ended, or a limit has ended it.
var ErrOver = errors.New("the program has ended")

// errRestless is why a Resident is ended although it could go on.
var errRestless = errors.New("threads or processes of it are left, and without a pid namespace they cannot be stopped")

// StartResident starts a program that serves periods. The program finds the socket for that at
// Spec.PeriodsFile. Limits.Wall, CPU and Idle and the streams of stdio are for its start only.
func StartResident(spec Spec, stdio IO, by Backend) (_ *Resident, err error) {
	var ours, theirs *os.File
	if ours, theirs = pair(&err); err != nil {
		return nil, &StepError{Step: "socketpair", Err: err}
	}
	defer theirs.Close()
	defer onFailure(&err, func() { ours.Close() })
	spec.Limits.Wall, spec.Limits.CPU, spec.Limits.Idle = 0, 0, 0 // RLIMIT_CPU would be one for the whole life
	stdio.Stdin, spec.periods = theirs, true
	r, err := Start(spec, stdio, by)
	if err != nil {
		return nil, err
	}
	if r.group != nil {
		r.group.KeepOpen()
	}
	return &Resident{r: r, control: ours}, nil
}

// Release lets the program begin to wait for periods. After an error only End is to be called.
func (p *Resident) Release() error {
	r := p.r
	if err := r.Release(); err != nil {
		return err
	}
	if s := r.found.sight; s != nil && !s.seen {
		return &StepError{Step: "resident", Object: "/proc", Err: errors.New("neither a control group nor /proc shows what the program uses")}
	}
	if !r.attended {
		r.attend()
		r.spawn(r.follow, nil)
	}
	return nil
}

// Protection is what is in force.
func (p *Resident) Protection() Protection { return protection(p.r.spec, p.r.found) }

// Heed is [Running.Heed] for the periods from now on.
func (p *Resident) Heed(asked func() syscall.Signal) { p.r.Heed(asked) }

// Traces is [Running.Traces].
func (p *Resident) Traces() (init int, group []string) { return p.r.Traces() }

// Alive tells whether the program still waits for a period.
func (p *Resident) Alive() bool {
	fds := []pollFD{polled(p.control)}
	pollNow(fds)
	return fds[0].fd >= 0 && fds[0].revents&(unix.POLLHUP|unix.POLLERR|unix.POLLIN) == 0 && len(p.r.ended) == 0
}

// Attend lets the program do one piece of work, and ends it at a limit. signals and disk are as in
// [Running.Wait]. If the error is not nil, the program is gone, and only [Resident.RemoveGroup] is
// still to be called. Else it waits for the next period; Outcome.Signal is 0, and ExitCode is what
// the program has reported.
//
// Outcome.Usage is about the period: of CPU time the difference, of memory what the whole tree held
// meanwhile. What it has read and written is not known.
func (p *Resident) Attend(period Period, signals <-chan os.Signal, disk func() int64) (out Outcome, note uint32, over error) {
	r := p.r
	r.begin(period, p.before)
	p.goOn()
	out.Reason = Finished
	if err := p.hand(period); err != nil {
		p.End(0)
		return out, 0, err
	}
	if report, ok := p.brief(); ok {
		w := r.newWatch(nil)
		w.tree = p.before.tree
		return p.conclude(out, report, w)
	}
	for i := range r.to {
		r.outputs = append(r.outputs, os.NewFile(uintptr(r.raw[i]), "pipe"))
		r.raw[i] = -1
	}
	for i := range r.to {
		r.startCopy(i)
	}
	reports := make(chan Report, 1)
	r.spawn(func() { p.await(reports) }, nil)
	w := r.newWaiter(signals, disk)
	w.reports, w.watch.tree = reports, p.before.tree
	end, known := w.loop()
	w.release()
	if w.reported != nil {
		p.before.tree = w.watch.tree
		return p.conclude(w.out, *w.reported, &w.watch)
	}
	p.control.Close() // ends await
	defer r.close()
	out = w.finish(end, known)
	return out, 0, ErrOver
}

// begin makes a Running ready for a period.
func (r *Running) begin(period Period, b before) {
	l := &r.spec.Limits
	l.Wall, l.CPU, l.Idle, l.Disk = period.Wall, period.CPU, period.Idle, period.Disk
	r.started, r.begins, r.past = time.Now(), true, b.cpu
	r.printed.Store(0)
	r.outputs, r.to = nil, []io.Writer{period.Stdout, period.Stderr}
	r.copied, r.copying, r.abandoned = make(chan int, 2), [2]bool{}, &atomic.Bool{}
	r.raw = [2]int{-1, -1}
	if r.workdir != nil {
		r.workdir.halted.Store(false)
	}
}

// hand gives the program the descriptors of a period. If the program has ended, that is no error:
// then its end is found.
func (p *Resident) hand(period Period) error {
	var theirs []int
	defer func() {
		for _, fd := range theirs[:min(len(theirs), 2)] {
			unix.Close(fd)
		}
	}()
	for i := range p.r.raw {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return &StepError{Step: "pipe", Err: err}
		}
		p.r.raw[i] = ends[0]
		unix.FcntlInt(uintptr(ends[0]), unix.F_SETFL, unix.O_NONBLOCK) // the program can open its stream for reading, and take what is seen to be there
		theirs = append(theirs, ends[1])
		if u := p.r.spec.RunAs; u != nil { // see handOver
			unix.Fchown(ends[1], u.UID, u.GID)
		}
	}
	given := theirs
	for _, f := range period.Files {
		given = append(given, fd(f))
	}
	err := SendTo(p.control, []byte{periodBegins}, given)
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		return &StepError{Step: "sendmsg", Object: "period", Err: err}
	}
	return nil
}

// brief waits for a period that ends soon, without starting goroutines: see Running.brief. It
// passes on what is printed meanwhile.
func (p *Resident) brief() (report Report, ok bool) {
	if t := p.r.recorder; t != nil { // its goroutine may need this thread, so calls are served here
		if raw, err := t.listener.SyscallConn(); err == nil && raw.Control(func(fd uintptr) { report, ok = p.briefly(int32(fd)) }) == nil {
			return report, ok
		}
	}
	return p.briefly(-1)
}

func (p *Resident) briefly(listener int32) (report Report, ok bool) {
	r := p.r
	fds := []pollFD{polled(p.control), {fd: int32(r.raw[0]), events: unix.POLLIN}, {fd: int32(r.raw[1]), events: unix.POLLIN}, {fd: listener, events: unix.POLLIN}}
	for most := time.Now().Add(briefMost); fds[0].revents == 0; {
		if !pollBriefly(fds, time.Until(most)) {
			return report, false
		}
		if fds[3].revents != 0 {
			if _, over := r.recorder.serveNow(uintptr(fds[3].fd)); over {
				return report, false
			}
			fds[3].revents = 0
		}
		for i := range r.raw {
			switch f := &fds[i+1]; {
			case f.revents&unix.POLLIN != 0:
				if r.pass(i) == 0 {
					f.fd = -1
				}
			case f.revents != 0:
				f.fd = -1
			}
			fds[i+1].revents = 0
		}
	}
	report, ok = readReport(int(fds[0].fd))
	return report, ok
}

// pass passes on a piece of a stream. It returns the length; 0: the stream is at its end; -1: it
// holds nothing now.
func (r *Running) pass(i int) int {
	if r.buffer == nil {
		r.buffer = make([]byte, 32<<10)
	}
	n, err := unix.Read(r.raw[i], r.buffer)
	switch {
	case n > 0:
		r.printed.Add(int64(n))
		r.guard(func() { r.to[i].Write(r.buffer[:n]) })
	case err == unix.EAGAIN || err == unix.EINTR:
		return -1
	}
	return max(0, n)
}

// drain passes on what a pipe holds now, and closes it. Who still holds the other end gets EPIPE.
func (r *Running) drain(i int) {
	if r.raw[i] < 0 {
		return
	}
	left, _ := unix.IoctlGetInt(r.raw[i], unix.TIOCINQ)
	for left > 0 {
		n := r.pass(i)
		if n <= 0 {
			break
		}
		left -= n
	}
	unix.Close(r.raw[i])
	r.raw[i] = -1
}

func readReport(fd int) (report Report, ok bool) {
	var m [8]byte
	n, err := unix.Read(fd, m[:])
	if n != len(m) || err != nil {
		return report, false
	}
	return Report{Status: int32(binary.NativeEndian.Uint32(m[:])), Note: binary.NativeEndian.Uint32(m[4:])}, true
}

// await reads the program's report, in the runtime's poller.
func (p *Resident) await(reports chan<- Report) {
	raw, err := p.control.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(fd uintptr) bool {
		var m [8]byte
		n, err := unix.Read(int(fd), m[:])
		if err == unix.EAGAIN || err == unix.EINTR {
			return false
		}
		if n == len(m) {
			reports <- Report{Status: int32(binary.NativeEndian.Uint32(m[:])), Note: binary.NativeEndian.Uint32(m[4:])}
		}
		return true
	})
}

// conclude makes the outcome of a period whose end the program has reported.
func (p *Resident) conclude(out Outcome, report Report, w *watch) (Outcome, uint32, error) {
	r := p.r
	for i := range r.raw {
		r.drain(i)
	}
	for _, o := range r.outputs { // what the pipe holds now is all of it
		o.SetReadDeadline(time.Now())
	}
	for range r.outputs {
		r.copying[<-r.copied] = false
	}
	r.outputs = nil
	tasks := r.look(w)
	kills := p.account(&out, w, tasks)
	if out.Reason == Finished && kills > 0 {
		out.Reason, out.Used = MemoryLimit, float64(out.Usage.PeakMemory)
	}
	if out.Reason == Finished && r.lost() {
		out.Reason = DirLost
	}
	if out.Fault == nil {
		select {
		case out.Fault = <-r.faults:
		default:
		}
	}
	out.ExitCode, out.Began = int(report.Status&0xff), true
	if r.recorder != nil {
		out.Activity = r.recorder.take()
		r.found.rings = out.Activity.Rings
	}
	out.Protection = protection(r.spec, r.found)
	var over error
	switch {
	case out.Reason != Finished || out.Fault != nil:
		over = ErrOver
	case tasks > 1 && r.found.method == Process:
		over = errRestless
	case r.found.method == Namespace:
		p.rest(tasks > 1)
	}
	if over != nil {
		p.End(0)
	}
	return out, report.Note, over
}

// look counts what the tree uses at the end of a period, and returns how many threads and processes
// it has.
func (r *Running) look(w *watch) (tasks int) {
	cpu, counted := r.group.CPU()
	tasks = r.group.Processes()
	_, weighed := cgroup.Memory{}, w.weigh()
	if !counted || !r.group.Limits("pids") || !weighed {
		w.tree.memory = !weighed
		seen, threads, ok := w.tree.look(r.pid)
		if ok {
			tasks = threads
			w.held, w.data = max(w.held, w.tree.held), max(w.data, w.tree.data)
			if !counted {
				cpu = seen
			}
		}
	}
	w.cpu, w.peak = max(w.cpu, cpu), max(w.peak, tasks)
	return tasks
}

// account fills in what a period has used, and returns how many of its processes the kernel has
// killed because memory was used up.
func (p *Resident) account(out *Outcome, w *watch, tasks int) (kills int64) {
	r := p.r
	out.Usage = Usage{Wall: time.Since(r.started), CPU: max(0, w.cpu-p.before.cpu), PeakMemory: w.held, PeakProcesses: max(w.peak, 1)}
	kills, failed := r.group.OutOfMemory() // a kill ends the program, so there was none before
	refused := r.group.Refused()
	out.Memory = MemoryTrace{PerProcess: r.spec.Limits.Memory > 0 && !r.group.Limits("memory"), Data: w.data, Failed: failed && !p.before.failed}
	out.Refused = refused - p.before.refused
	p.before = before{cpu: max(w.cpu, p.before.cpu), refused: refused, failed: failed, tree: w.tree}
	return kills
}

// rest begins the time between two periods. With atOnce the tree is stopped now, else after
// restAfter. A timer that runs already is left alone: to set one for each of many short periods
// would wake a thread each time.
func (p *Resident) rest(atOnce bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting = time.Now()
	switch {
	case atOnce:
		p.stop()
	case p.pause == nil:
		p.pause = time.AfterFunc(restAfter, p.look)
	}
}

// look stops a tree that has rested for long enough.
func (p *Resident) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause = nil
	if p.resting.IsZero() {
		return
	}
	if left := restAfter - time.Since(p.resting); left > 0 {
		p.pause = time.AfterFunc(left, p.look)
		return
	}
	p.stop()
}

// stop has init stop the tree. p.mu is locked.
func (p *Resident) stop() {
	if !p.stopped {
		p.stopped = true
		p.r.signal(lifelineStop)
	}
}

// Stopped tells whether the tree is stopped.
func (p *Resident) Stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped
}

// goOn ends the time between two periods.
func (p *Resident) goOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting = time.Time{}
	if p.stopped {
		p.stopped = false
		p.r.signal(lifelineGo)
	}
}

// End ends the program: it gets the end of its socket, and after a grace SIGKILL. It returns when
// nothing of the tree is left.
func (p *Resident) End(grace time.Duration) Outcome {
	r := p.r
	for i := range r.raw {
		if r.raw[i] >= 0 {
			unix.Close(r.raw[i])
		}
	}
	if !r.attended { // else those who copy them close them
		for _, o := range r.outputs {
			o.Close()
		}
	}
	r.begin(Period{}, p.before)
	r.to, r.heed = nil, nil // the last period is over
	p.goOn()
	p.control.Close()
	if grace <= 0 {
		r.Kill()
	} else {
		late := time.AfterFunc(grace, r.Kill)
		defer late.Stop()
	}
	return r.Wait(nil, nil)
}

// RemoveGroup removes the control group. Call it once, after the end.
func (p *Resident) RemoveGroup() error { return p.r.group.Remove() }
