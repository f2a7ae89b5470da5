package sandbox

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"py3run/sandbox/cgroup"
)

// A Running is a program that was started and waits at its gate, or runs.
type Running struct {
	spec      Spec
	found     observed
	started   time.Time
	init      initProcess
	pid       int           // of init, in the launcher's pid namespace
	process   int           // the program's id; 0: nobody has asked for it yet
	begins    bool          // Release was called
	settled   bool          // Settle was called
	unsettled error         // why the set-up has failed
	released  bool          // the gate was opened
	group     *cgroup.Group // without directories: none could be made, or none was wanted
	workdir   *Workdir      // nil: it has none

	lifeline  *os.File   // write end
	setup     []*os.File // our ends of sockets
	held      *builder   // of a transparent program that waits for its execve; else nil
	status    *os.File   // read end
	gate      *os.File   // write end
	dump      *os.File   // read end
	pipes     pipeStock  // made ahead
	outputs   []*os.File // read ends of stdout and stderr, or of the one pipe for both
	to        []io.Writer
	copying   [2]bool                   // the streams that are copied
	copied    chan int                  // gets the number of a stream that is at its end
	abandoned *atomic.Bool              // nobody waits for the copying any more
	attended  bool                      // goroutines look after the run
	recorder  *recorder                 // nil: there is none
	score     *score                    // of the launcher; nil: the run cannot change it
	printed   atomic.Int64              // bytes read from both streams so far
	terminal  *Terminal                 // of its own; nil: it has none
	resumed   atomic.Pointer[time.Time] // when this process went on after its last stop with a transparent program
	watching  func(Present)             // of IO; nil: nobody watches
	stopping  func()                    // of IO; nil: nobody wants to know
	raw       [2]int                    // of a Resident: read ends that are not copied yet, or -1
	buffer    []byte                    // for what they hold
	past      time.Duration             // CPU time that the tree had used before, in earlier periods

	ended chan ending         // the program has ended; closed without a value: init could not say how
	gone  chan syscall.Rusage // init has ended, with what the whole tree used

	faults chan error            // the first panic in a goroutine of the run
	heed   func() syscall.Signal // see Heed; may be nil
}

func newRunning(spec Spec, group *cgroup.Group, found observed) *Running {
	return &Running{spec: spec, group: group, found: found, started: time.Now(), ended: make(chan ending, 1), gone: make(chan syscall.Rusage, 1), copied: make(chan int, 2), faults: make(chan error, 1), abandoned: &atomic.Bool{}, raw: [2]int{-1, -1}}
}

// spawn starts a goroutine of the run. When it ends, however it ends, spawn calls done, if that is
// not nil.
//
// A panic in the goroutine, for example in a writer of the caller, ends this run and is in its
// Outcome. It must not end the process, which may have other runs.
func (r *Running) spawn(do, done func()) {
	go func() {
		if done != nil {
			defer done()
		}
		r.guard(do)
	}()
}

// guard calls a function. A panic in it is a fault of the run.
func (r *Running) guard(do func()) {
	defer func() {
		if v := recover(); v != nil {
			select {
			case r.faults <- fmt.Errorf("panic: %v\n%s", v, debug.Stack()):
			default: // it has one
			}
		}
	}()
	do()
}

// attend starts the goroutines that serve a run while it lasts: they copy its output and answer its
// listener.
func (r *Running) attend() {
	r.attended = true
	if !r.group.Limits("pids") {
		reserveThreads()
	}
	for i := range r.to {
		r.startCopy(i)
	}
	if r.recorder != nil {
		r.recorder.start(r.spawn)
	}
}

// follow reads from init how the program has ended, and then waits for the end of init itself.
func (r *Running) follow() {
	defer r.reap()
	defer close(r.ended)
	var m [8]byte
	for {
		if _, err := io.ReadFull(r.status, m[:]); err != nil {
			return
		}
		if m[0] != msgChanged {
			r.ended <- endingOf(m)
			return
		}
		r.changed(m)
	}
}

// changed takes init's report that the program was stopped or continued.
func (r *Running) changed(m [8]byte) {
	if r.terminal != nil {
		r.terminal.changed(m)
	} else {
		halt(m)
		now := time.Now()
		r.resumed.Store(&now)
	}
}

// reap waits for the end of init.
func (r *Running) reap() { r.over(r.init.reap()) }

func (r *Running) over(usage syscall.Rusage) {
	r.gone <- usage
	close(r.gone)
}

// giveUp ends a run that has not begun. If init hangs in the kernel, in a step on a network file
// system for example, giveUp leaves it behind: reap keeps the memory that init runs on as long as
// it lives.
func (r *Running) giveUp() {
	r.spawn(r.reap, nil)
	r.Kill()
	for range 2 {
		select {
		case <-r.gone:
			return
		case <-time.After(killWait):
			r.init.kill(syscall.SIGKILL)
		}
	}
}

// Settle waits until the set-up is done, and the program waits at its gate. Release does that too:
// call Settle where there is something else to wait for before the gate can be opened.
func (r *Running) Settle() {
	if !r.settled {
		r.settled, r.unsettled = true, r.init.settle()
	}
}

// Release opens the gate: a byte that the program reads at descriptor Spec.GateFile, or that lets a
// transparent program be executed. The wall clock starts now.
//
// An error means that the set-up has failed, or that the program has ended already. The run is over
// then: call Wait, which returns an Outcome whose Began is false.
func (r *Running) Release() error {
	if r.Settle(); r.unsettled != nil {
		r.Kill()
		return r.unsettled
	}
	r.started, r.begins = time.Now(), true
	if r.recorder != nil {
		r.recorder.begun.Store(true)
	}
	_, err := r.gate.Write([]byte{1})
	r.released = err == nil // else it has no reader any more
	if err == nil {
		if err = r.execute(); err != nil {
			r.Kill()
		}
	}
	return err
}

// Kill ends the whole tree at once, without a verdict. Wait still has to be called.
func (r *Running) Kill() {
	if r.held != nil { // init waits for the execve, and only then sees the end of the lifeline
		r.gate.Close()
	}
	if r.found.method == Process {
		// Nobody would end the tree if init was killed first. Init ends the tree when the lifeline
		// ends. SIGCONT: the program may have stopped init.
		r.lifeline.Close()
		r.init.kill(syscall.SIGCONT)
		r.group.Kill()
		return
	}
	r.init.kill(syscall.SIGKILL)
}

// Heed lets Wait ask, ten times a second, whether somebody else than the caller wants the run to end.
// The signal that asked returns is treated as one that the caller has received; 0: nobody wants that.
// A run that ends within a moment is not asked for. Call it before Wait.
func (r *Running) Heed(asked func() syscall.Signal) { r.heed = asked }

// Traces are where another process of this user can see what the run uses: the process id of its
// init, in the launcher's pid namespace, and its control group as [cgroup.UseOf] reads it, empty
// without one.
func (r *Running) Traces() (init int, group []string) { return r.pid, r.group.UseLines() }

// RemoveGroup removes the control group. Call it once, after Wait. It may take some time, so call it
// while other work goes on.
func (r *Running) RemoveGroup() error { return r.group.Remove() }

// program is the process id of the program, in the launcher's pid namespace; 0 when it is gone.
func (r *Running) program() int {
	pid := strconv.Itoa(r.pid)
	text, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	first, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.Atoi(first)
	return n
}

// answers tells whether the program has a handler for a signal: without one the signal would end it.
func (r *Running) answers(s syscall.Signal) bool {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(r.program()) + "/status")
	_, rest, found := strings.Cut(string(text), "\nSigCgt:")
	mask, err := strconv.ParseUint(strings.TrimSpace(rest[:min(len(rest), 17)]), 16, 64)
	return found && err == nil && mask&(1<<(uint(s)-1)) != 0
}

// Close closes what WaitBriefly has left open. It does nothing after Wait.
func (r *Running) Close() { r.close() }

func (r *Running) close() {
	for _, f := range slices.Concat([]*os.File{r.lifeline, r.status, r.gate, r.dump}, r.setup, r.outputs) {
		if f != nil {
			f.Close()
		}
	}
	r.pipes.close()
	if r.init != nil {
		r.init.close()
	}
	if r.group != nil {
		r.group.CloseFiles()
	}
	if r.recorder != nil {
		r.recorder.finish()
		r.recorder = nil
	}
	r.score.release()
	r.score = nil
}

// show lets the run see its directory at its path, and nothing of the others'.
func (r *Running) show(w *Workdir, at *layout) error {
	r.workdir, r.found.workdir = w, true
	switch {
	case r.found.method == Process:
		r.found.shared = "without a mount namespace other runs of this user can see, replace and remove the working directory"
		return w.Settle()
	case w.private != nil:
		r.found.shared = w.private.Error()
	case w.own:
		at.binds = append(at.binds, [2]string{w.top, w.root})
	default:
		for _, suffix := range append([]string{""}, w.files...) {
			at.binds = append(at.binds, [2]string{w.real + suffix, w.path + suffix})
		}
		at.hidden = append(at.hidden, hiddenPath{path: w.place, dir: true})
		r.found.shared = w.root + " is not py3run's alone: other runs of this user do not see what is in the working directory, but they can remove what it is mounted on, and that ends this run"
	}
	return nil
}
