package launch

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/cmd/internal/wire"
	fastjson "py3run/internal/json"
	"py3run/sandbox"
)

// Run does the job and always answers with a result, also for a fault of its own: then a panic becomes status internal, and a
// run that was recorded as started is recorded as ended.
func Run(job Job) (answer Answer) {
	r := run{job: job}
	r.result = Refusal(job.Request.ID, "", nil, job.Began)
	r.result.Warnings = append(r.result.Warnings, job.Warnings...)
	defer func() {
		if fault := recover(); fault != nil {
			r.refuse(wire.StatusInternal, &wire.Failure{Message: fmt.Sprintf("internal: %v", fault)})
			func() {
				defer func() { recover() }() // what the fault has left half done may fault again
				r.abort()
			}()
			r.end()
			answer = r.answered()
		}
	}()
	r.do()
	return r.answered()
}

func (r *run) answered() Answer {
	return Answer{Result: r.result, AuditLine: r.auditLine, Sweep: r.sweep}
}

// sweep looks after what killed launchers have left: directories, groups, and runs without an end record. A template that is wanted and was
// not there is started for the next run.
func (r *run) sweep() (err error) {
	if setup, wanted := r.template(); wanted && r.lease == nil {
		warm.Start(setup, false) // what fails is told by py3runctl warm status
	}
	if i := r.result.Isolation; i != nil && i.Method == string(sandbox.Namespace) {
		r.ip.Keep()
	}
	if r.plan.Dir.Root != "" {
		err = sandbox.Sweep(r.plan.Dir.Root)
	}
	if r.log != nil {
		err = errors.Join(err, r.log.Recover(), r.log.Close())
		r.log = nil
	}
	if r.left != nil {
		err = errors.Join(err, r.left.Clear(clearTime))
		r.left = nil
		r.removeParents()
	}
	return err
}

// How long a launcher removes what its own run has left: before the result, and after it. A later run goes on with what takes longer.
const (
	discardTime = time.Second
	clearTime   = 2 * time.Second
)

// An Answer is the result, and the end record as a line for the caller's stderr: empty when there is none.
type Answer struct {
	Result    wire.Result
	AuditLine []byte
	Sweep     func() error // looks after what killed launchers have left; once, when the result is out
}

// Refusal is the result of a request that nothing was run for.
func Refusal(id string, status wire.Status, failure *wire.Failure, began time.Time) wire.Result {
	r := wire.Result{ID: id, RunID: newRunID(began), Status: status, StartedAt: wire.Timestamp(began)}
	if failure != nil {
		v := fail(status, failure)
		r.Failure, r.Error = v.Failure, v.Failure.Message
	}
	return r
}

// A run is one job under way: what has been set up so far, and the result as far as it is known.
type run struct {
	result    wire.Result
	auditLine []byte

	job    Job
	limits wire.Limits
	facts  Facts
	plan   Plan
	ip     python.Interpreter

	log       *audit.Log
	recording *audit.Run // the start record is in the log; nil: it is not
	ended     bool
	base      audit.Record

	open             []string // paths of py3run's own that the code could make
	workdir          *sandbox.Workdir
	left             *sandbox.Leftovers // of it, to be removed after the result; nil: none
	cleanup          []wire.Warning
	session          *python.Session
	running          *sandbox.Running
	lease            *warm.Lease // of the worker that runs; nil: the interpreter is our own
	out, err         *capture
	liveOut, liveErr *limitedWriter
	digests          [2]*streamDigest // of stdout and stderr, where the record says more than sizes
	outcome          sandbox.Outcome
}

func (r *run) do() {
	switch r.job.Request.Command {
	case wire.CommandPing:
		r.answer("pong", "str")
		return
	}
	if n := hardFileLimit(); n < leastFiles { // now, when nothing is made that would have to be removed with so few
		r.refuse(wire.StatusLaunchFailed, &wire.Failure{Step: "descriptors", Errno: "EMFILE",
			Message: fmt.Sprintf("descriptors: py3run may have %d files open (RLIMIT_NOFILE), and a run takes up to %d", n, leastFiles),
			Hint:    "raise the limit for the process that starts py3run: ulimit -n 1024, or LimitNOFILE= of its systemd unit"})
		return
	}
	r.limits, r.result.Warnings = effective(r.job, r.result.Warnings)
	ip, _, failed := find(r.job)
	if failed != nil {
		r.refuse(failed.status, failed.failure)
		return
	}
	r.ip = ip
	r.result.Python = &wire.Python{Version: ip.Version, Executable: ip.Path, Venv: ip.Venv}
	if r.job.Request.Command == wire.CommandVersion {
		r.answer(versionOf(ip), "dict")
		return
	}
	if r.facts, failed = factsOf(r.job, r.result.RunID); failed != nil {
		r.refuse(failed.status, failed.failure)
		return
	}
	var err error
	if r.plan, err = Make(r.job, ip, r.limits, r.facts); err != nil {
		r.refuse(wire.StatusConfigError, configFailure(err))
		return
	}
	r.result.Limits = &r.limits

	// The record is written and made durable while Python starts, which takes many times as long; the gate opens after it.
	setup := r.start()
	r.result.Warnings = append(r.result.Warnings, absent(r.job.Config)...)
	if err := r.recordStart(); err != nil {
		if r.job.Config.Security.Audit.OnFailure == "refuse" {
			r.abort()
			f := configFailure(err)
			f.Message, f.Errno, f.Hint = "audit: "+f.Message, errnoName(err), cmp.Or(f.Hint, "repair the audit directory, or name another with security.audit.dir")
			r.refuse(wire.StatusAuditUnavailable, f)
			return
		}
		r.warn("audit_unavailable", "this run is not in the audit log: "+err.Error())
	}
	if setup != nil {
		r.abort()
		r.refuse(launchStatus(setup), launchFailure(setup))
		r.end()
		return
	}
	r.attend()
	if r.lease != nil && !r.outcome.Began && r.outcome.Reason == sandbox.Finished { // the worker died before it had the code
		r.dropWorker()
		if err := r.startOwn(); err != nil {
			r.abort()
			r.refuse(wire.StatusLaunchFailed, launchFailure(err))
			r.end()
			return
		}
		r.attend()
	}
	r.finish()
	cleaned := make(chan struct{})
	go func() { r.removeDirs(); close(cleaned) }() // beside the end record: neither needs the other
	r.end()
	<-cleaned
	r.result.Warnings = append(r.result.Warnings, r.cleanup...)
}

// attend opens the gate and waits for the end.
func (r *run) attend() {
	r.running.Release() // an error is in the outcome, too
	workdir, most := r.workdir, r.plan.Spec.Limits.Disk
	r.outcome = r.running.Wait(r.job.Signals, func() int64 { return workdir.Used(most) })
	for i, p := range []*limitedWriter{r.liveOut, r.liveErr} {
		if p != nil && r.outcome.Undelivered[i] {
			p.leave()
		}
	}
}

func effective(job Job, warnings []wire.Warning) (wire.Limits, []wire.Warning) {
	limits, more := Effective(job.Config.Security, job.Request.Limits)
	for i := range more {
		name, _, _ := strings.Cut(more[i].Message, ":")
		more[i].Message += raise(name, job.Origins)
	}
	return limits, append(warnings, more...)
}

// A refusal is why a job does not become a run.
type refusal struct {
	status  wire.Status
	failure *wire.Failure
}

func want(job Job) python.Want {
	return python.Want{Interpreter: job.Config.Python.Interpreter, Environ: job.Environ, Dir: job.Dir, CacheDir: CacheDir(job.Environ), KeyFile: cacheKey(job), Run: job.ask}
}

// find finds the job's interpreter, and the candidates that were passed over.
func find(job Job) (python.Interpreter, []python.Candidate, *refusal) {
	ip, skipped, err := python.Find(want(job))
	if err == nil {
		return ip, skipped, nil
	}
	status := wire.StatusPythonNotExecutable
	var missing *python.NotFoundError
	if errors.As(err, &missing) {
		status = wire.StatusPythonNotFound
	}
	return ip, skipped, &refusal{status, &wire.Failure{Message: err.Error()}}
}

// factsOf gathers what the plan of a run needs to know.
func factsOf(job Job, runID string) (facts Facts, failed *refusal) {
	facts = Facts{RunID: runID, CacheDir: CacheDir(job.Environ), StateDir: StateDir(job.Environ), FileMax: hardFileLimit()}
	var err error
	facts.Root, facts.Roots = roots(job)
	if job.Config.Security.Isolation.Method != string(sandbox.Process) {
		facts.Covered, _ = sandbox.MakeRoot(cmp.Or(facts.Root, rootOf(job.Config.Security.Isolation.WorkingDir, job.Caller.UID)))
	}
	facts.Program, _ = os.Executable()
	facts.Config = []string{config.UserDir(job.Environ)}
	facts.OthersHidden, facts.OthersFixed = ofOthers(job)
	if os.Geteuid() == 0 {
		facts.Config = append(facts.Config, config.SystemDir)
	}
	if facts.RunAs, err = runAs(job.Config.Security.Isolation.RunAs); err != nil {
		return facts, &refusal{wire.StatusConfigError, configFailure(err)}
	}
	if facts.WarmDirs = warm.Dirs(job.Environ); job.Config.Warm.Enabled {
		facts.WarmDir = warm.Dir(job.Environ)
	}
	facts.LogDir, _ = job.Config.AuditDir(job.Environ)
	if job.Config.Security.Audit.Enabled {
		if facts.AuditDir, err = job.Config.AuditDir(job.Environ); err != nil {
			return facts, &refusal{wire.StatusAuditUnavailable, &wire.Failure{Message: err.Error(), Hint: "set security.audit.dir"}}
		}
	}
	return facts, nil
}

// absent warns of paths that the configuration names to be hidden, read or written and that do not exist: mistyped, perhaps. Nothing is done about
// them. For after the start, which makes what is missing above the working directory.
func absent(c config.Config) (warnings []wire.Warning) {
	i := c.Security.Isolation
	for _, list := range []struct {
		key   string
		paths []string
	}{{"security.isolation.hide", i.Hide}, {"security.isolation.read-dirs", i.ReadDirs}, {"security.isolation.write-dirs", i.WriteDirs}, {"python.path", c.Python.Path}} {
		for _, path := range list.paths {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
				warnings = append(warnings, wire.Warning{Code: "absent_path", Message: list.key + ": " + path + " does not exist"})
			}
		}
	}
	return warnings
}

// makeOwn makes what is to be hidden from the code or kept as it is, and is not there yet: the code could make it otherwise, and steer later runs. What this
// user cannot make the code cannot either. A home that does not exist is not for us to make.
//
// It returns what could not be made although this user owns the directory above: with a mode that the code can change, say.
func (p Plan) makeOwn(home string) (open []string) {
	_, err := os.Stat(home)
	homeless := func(dir string) bool { return err != nil && home != "" && within(home, dir) }
	for _, dir := range slices.Concat(p.Own, p.Config) {
		mode := fs.FileMode(0o700)
		switch {
		case homeless(dir):
			continue
		case strings.HasPrefix(dir, "/run/user/"): // what is above belongs to the login manager
			os.Mkdir(dir, mode)
			continue
		case dir == config.SystemDir:
			mode = 0o755
		}
		if os.MkdirAll(dir, mode) != nil && ownAbove(dir) {
			open = append(open, dir)
		}
	}
	return open
}

// ownAbove tells whether the last directory that there is on the way to a path is this user's.
func ownAbove(path string) bool {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) == nil {
			return int(st.Uid) == os.Geteuid()
		}
		if dir == "/" {
			return false
		}
	}
}

// directory makes the working directory, with code in its file if the plan has one. It may be half made when there is an error: then it is to
// be removed as well.
func (p Plan) directory(code []byte) (*sandbox.Workdir, error) {
	w, err := sandbox.MakeWorkdir(p.Dir)
	if err != nil {
		return nil, err
	}
	if p.CodeFile != "" {
		err = w.AddFile(codeSuffix, code)
	}
	if err == nil && p.Spec.RunAs != nil {
		err = w.Chown(*p.Spec.RunAs)
	}
	return w, err
}

// start makes the directories, the code's file, the session and the sandbox.
func (r *run) start() (err error) {
	lease := r.askForWorker()
	if r.job.Request.Command.RunsCode() {
		r.open = r.plan.makeOwn(env(r.job.Environ, "HOME"))
		if r.facts.Root == "" {
			notePlace(r.facts.StateDir, r.plan.Dir.Root, knownPlaces(r.facts.StateDir))
		}
	}
	if r.workdir, err = r.plan.directory(r.plan.Python.Code); err != nil {
		if lease != nil {
			lease.Close()
		}
		return err
	}
	if r.startWorker(lease) {
		return nil
	}
	return r.startOwn()
}

// startOwn starts an interpreter for this run.
func (r *run) startOwn() (err error) {
	spec := r.plan.Spec
	if r.session, err = python.Open(r.ip, r.plan.Python, spec.FirstFile); err != nil {
		return err
	}
	spec.Args = append([]string{spec.Path}, r.session.Args()...)
	stdio, stdin, err := r.streams()
	defer stdin.Close()
	if err != nil {
		return err
	}
	r.running, err = sandbox.Start(spec, stdio, sandbox.OwnChild)
	r.session.Started()
	return err
}

// streams are where the program's streams and the session's files go. stdin is the caller's to close when the program has it; it may be nil.
func (r *run) streams() (stdio sandbox.IO, stdin *os.File, err error) {
	stdio = sandbox.IO{Workdir: r.workdir, Files: r.session.Files()}
	most := megabytes(r.limits.OutputMB)
	if r.job.Config.Security.Audit.LogOutput != "sizes" {
		r.digests = [2]*streamDigest{{sum: sha256.New()}, {sum: sha256.New()}}
	}
	r.out, r.err = &capture{most: most}, &capture{most: most}
	stdio.Stdout, stdio.Stderr = r.out, r.err
	if live := r.job.Live; live != nil {
		stdio.Stdin = live.Stdin
		r.liveOut, r.liveErr = &limitedWriter{to: live.Stdout, most: most, digest: r.digests[0]}, &limitedWriter{to: live.Stderr, most: most, digest: r.digests[1]}
		stdio.Stdout, stdio.Stderr = r.liveOut, r.liveErr
		if live.OneStream {
			stdio.Stderr = r.liveOut
		}
		return stdio, nil, nil
	}
	if text := r.job.Request.Stdin; text != nil && *text != "" {
		if stdin, err = python.Input(*text); err != nil {
			return stdio, nil, err
		}
		stdio.Stdin = stdin
	}
	stdio.Stdout, stdio.Stderr = digested(stdio.Stdout, r.digests[0]), digested(stdio.Stderr, r.digests[1])
	return stdio, stdin, nil
}

// abort takes back what start has done.
func (r *run) abort() {
	if r.running != nil {
		r.running.Kill()
		r.running.Wait(nil, nil)
	}
	if r.session != nil {
		r.session.Close()
		r.session = nil
	}
	r.removeDirs()
	r.result.Warnings = append(r.result.Warnings, r.cleanup...)
}

// finish makes the result from what the kernel and the child say.
func (r *run) finish() {
	o := r.outcome
	protection := o.Protection
	r.result.Isolation = isolation(protection)
	r.result.Isolation.Warm = r.lease != nil
	if r.job.Config.Security.Isolation.Shm == "private" && !r.plan.Spec.PrivateShm {
		r.result.Isolation.Missing = append(r.result.Isolation.Missing, wire.Gap{Name: "private-shm", Why: "what this run needs lies in the host's /dev/shm, so it sees that"})
	}
	for _, path := range r.open {
		r.result.Isolation.Missing = append(r.result.Isolation.Missing, wire.Gap{Name: "pinned-paths", Why: path + " does not exist and could not be made: code can make it, and steer later runs with what it puts there"})
	}
	began, noted := r.session.CodeStarted()
	reply, replyErr := r.session.Reply()
	events := r.session.Events(r.job.Config.Python.FlagImports, eventsOf(o.Activity))
	r.session.Close()
	r.session = nil
	contents := r.workdir.Measure(true, megabytes(r.limits.FileMB))
	printed := r.captured()

	cut, full := r.atSizeLimit(contents, events)
	verdict := Judge(Evidence{Outcome: o, Disk: contents.Bytes, Started: o.Began, Cut: cut, Full: full, Overflow: r.overflow(), Reply: reply, ReplyErr: replyErr, Stderr: printed.Stderr}, r.limits)
	r.result.Status, r.result.Failure = verdict.Status, verdict.Failure
	if verdict.Failure != nil {
		if verdict.Status == wire.StatusError && verdict.Failure.Hint == "" {
			verdict.Failure.Hint = hint(*verdict.Failure, r.ip, r.plan.Spec.Limits.OpenFiles, r.job.Live == nil)
		}
		if l := verdict.Failure.Limit; l != nil && verdict.Failure.Hint == verdict.Status.Hint() {
			verdict.Failure.Hint = remedy(verdict.Failure.Hint, l.Name, r.job)
		}
		r.result.Error = verdict.Failure.Message
		r.result.Traceback = reply.Traceback
		if verdict.Failure.Limit != nil || verdict.Status == wire.StatusSignal || verdict.Status == wire.StatusCancelled {
			verdict.Failure.Where = python.Where(o.Dump, r.plan.Python.Path, r.plan.Python.Shown, r.ip.Prefixes)
			if doing := python.Reporting(o.Dump, r.ip.Prefixes); doing != "" {
				verdict.Failure.Hint = strings.TrimSuffix("the code itself had ended, and "+doing+"; "+verdict.Failure.Hint, "; ")
			}
		}
	}
	if o.Signal != 0 {
		r.result.Signal, r.result.SignalNumber = signalName(o.Signal), int(o.Signal)
	} else {
		r.result.ExitCode = &o.ExitCode
	}
	if o.Reason == sandbox.Cancelled {
		r.result.SignalNumber = int(o.Cancel)
	}
	if r.job.Live == nil {
		r.result.Captured = &printed
	} else {
		r.result.Captured = &wire.Captured{StdoutBytes: printed.StdoutBytes, StderrBytes: printed.StderrBytes,
			StdoutTruncated: printed.StdoutTruncated, StderrTruncated: printed.StderrTruncated}
	}
	r.result.Events = &events
	setup := time.Duration(0)
	if noted {
		setup = max(0, time.Since(r.job.Began)-(monotonic()-began))
	}
	r.result.Usage = &wire.Usage{
		WallMS: o.Usage.Wall.Milliseconds(), SetupMS: setup.Milliseconds(), CPUMS: o.Usage.CPU.Milliseconds(),
		PeakMemoryBytes: o.Usage.PeakMemory, PeakProcesses: int64(o.Usage.PeakProcesses),
		ReadBytes: o.Usage.ReadBytes, WriteBytes: o.Usage.WriteBytes,
	}
	for _, p := range []*limitedWriter{r.liveOut, r.liveErr} {
		if p != nil && p.lost != nil {
			r.warn("output_lost", "write output: "+p.lost.Error())
		}
	}
	if r.result.Status == wire.StatusOK {
		r.value(reply, replyErr, printed)
	}
	r.result.Warnings = append(r.result.Warnings, reply.Warnings...)
	if replyErr == nil && reply.Kind == "error" && r.result.Status == wire.StatusOK {
		r.warn("program_says", "it was ended by an uncaught exception, but its exit code is 0: "+reply.Error)
	}
	switch {
	case replyErr != nil && !errors.Is(replyErr, python.ErrNoReply):
		r.warn("reply_unreadable", "the program's memory for the reply was damaged: "+replyErr.Error())
	case events.Dropped > 0:
		r.warn("hook_dropped", fmt.Sprintf("%d events found no room, or could not be seen, and are only counted", events.Dropped))
	}
	r.result.Warnings = append(r.result.Warnings, ended(o, r.limits)...)
	if o.Incomplete {
		r.warn("kill_incomplete", "processes of this run were killed and have not ended yet")
	}
	if !r.job.Config.Security.Isolation.CleanupOnExit {
		r.result.WorkingDir = r.workdir.Path()
	}
	if contents.Files > 0 && r.job.Config.Security.Isolation.CleanupOnExit {
		count := fmt.Sprintf("%d files", contents.Files)
		switch {
		case contents.Short:
			count = "more than " + count
		case contents.Files == 1:
			count = "1 file"
		}
		slices.Sort(contents.Names)
		r.warn("files_discarded", count+" left in the working directory, which is removed: "+strings.Join(quoted(contents.Names), ", "))
	}
}

// eventsOf is an activity record as events.
func eventsOf(t sandbox.Activity) wire.Events {
	e := wire.Events{Dropped: t.Dropped, FilesWritten: t.Files}
	for _, p := range t.Connections {
		e.Connections = append(e.Connections, wire.Connection{Host: p.Host, Port: p.Port, Program: p.Program, Count: p.Count})
	}
	for _, p := range t.Binds {
		e.Binds = append(e.Binds, wire.Connection{Host: p.Host, Port: p.Port, Program: p.Program, Count: p.Count})
	}
	for _, x := range t.Executions {
		e.Processes = append(e.Processes, wire.Process{Program: x.Program, Args: x.Args, Count: x.Count, ArgsDropped: x.ArgsDropped, ArgsCut: x.ArgsCut})
	}
	return e
}

// value fills in the result of a run that ended well.
func (r *run) value(reply python.Reply, replyErr error, printed wire.Captured) {
	hasValue := replyErr == nil && (reply.Kind == "value" || reply.Kind == "exit")
	if !hasValue || reply.Absent {
		wanted := r.job.Request.ResultFrom == "auto" && r.job.Request.Command == wire.CommandExecute
		if wanted && printed.Stdout != "" {
			r.result.Result, _ = fastjson.Append(make([]byte, 0, fastjson.Size(printed.Stdout)), printed.Stdout) // of a string, which cannot fail
			r.result.ResultType = "str"
			if printed.StdoutTruncated {
				r.warn("truncated_value", "result: the output was cut, and the result with it")
			}
			return
		}
		r.result.Result, r.result.ResultType = json.RawMessage("null"), "NoneType"
		return
	}
	r.result.Result, r.result.ResultType, r.result.ResultText = reply.Value, reply.Type, reply.Text
	r.result.Inspected = true
	if r.result.ResultType == "" {
		r.result.ResultType = "NoneType"
	}
	for _, path := range reply.Inexact.BigIntegers {
		if path == "result" {
			r.result.ResultText = string(reply.Value[:min(len(reply.Value), 64<<10)])
			continue
		}
		r.warn("inexact_value", path+": an integer beyond 2^53, which many JSON readers round")
	}
	if more := reply.Inexact.BigIntegerCount - len(reply.Inexact.BigIntegers); more > 0 {
		r.warn("inexact_value", fmt.Sprintf("and %d more integers beyond 2^53", more))
	}
}

func (r *run) captured() wire.Captured {
	if r.job.Live != nil {
		return wire.Captured{StdoutBytes: r.liveOut.total, StderrBytes: r.liveErr.total,
			StdoutTruncated: r.liveOut.truncated(), StderrTruncated: r.liveErr.truncated()}
	}
	if r.out.total+r.err.total > 1<<20 {
		defer runtime.GC() // what was kept has become text; the line takes as much again
	}
	return wire.Captured{Stdout: r.out.text(), Stderr: r.err.text(), StdoutBytes: r.out.total, StderrBytes: r.err.total,
		StdoutTruncated: r.out.truncated(), StderrTruncated: r.err.truncated()}
}

// overflow is the size of the larger stream of `run` that was cut; 0: none was. Exec cuts too, and hands back how much there was.
func (r *run) overflow() (size int64) {
	for _, p := range []*limitedWriter{r.liveOut, r.liveErr} {
		if p != nil && p.truncated() {
			size = max(size, p.total)
		}
	}
	return size
}

// removeDirs removes the working directory, or keeps it if the operator wants that, and the code's file. What fails is a warning in cleanup.
func (r *run) removeDirs() {
	failed := func(err error) {
		r.cleanup = append(r.cleanup, wire.Warning{Code: "cleanup_failed", Message: err.Error()})
	}
	if r.running != nil {
		if r.lease == nil || !r.lease.Alive() { // else its template does it
			if err := r.running.RemoveGroup(); err != nil {
				failed(err)
			}
		}
		if r.lease != nil {
			r.lease.Close()
		}
		r.running = nil
	}
	if r.workdir == nil {
		return
	}
	if r.job.Config.Security.Isolation.CleanupOnExit {
		left, err := r.workdir.Discard(discardTime)
		if err != nil {
			failed(err)
		}
		r.left = left
		r.removeParents()
	} else if err := r.workdir.Close(); err != nil {
		failed(err)
	}
	r.workdir = nil
}

// removeParents removes what of the working directory's path was only this run's: the name of another makes other parents.
func (r *run) removeParents() {
	id := shortID(r.result.RunID)
	for parent := filepath.Dir(r.plan.Dir.Path); strings.Contains(parent, id) && unix.Rmdir(parent) == nil; parent = filepath.Dir(parent) {
	}
}

func (r *run) warn(code, message string) {
	r.result.Warnings = append(r.result.Warnings, wire.Warning{Code: code, Message: message})
}

func (r *run) refuse(status wire.Status, f *wire.Failure) {
	v := fail(status, f)
	r.result.Status, r.result.Failure, r.result.Error = v.Status, v.Failure, v.Failure.Message
}

func (r *run) answer(value any, kind string) {
	r.result.Status, r.result.Result, r.result.ResultType = wire.StatusOK, encode(value), kind
}

func versionOf(ip python.Interpreter) any {
	type info struct {
		Major int `json:"major"`
		Minor int `json:"minor"`
		Micro int `json:"micro"`
	}
	var v info
	fmt.Sscanf(ip.Version, "%d.%d.%d", &v.Major, &v.Minor, &v.Micro)
	return struct {
		Version    string `json:"version"`
		Info       info   `json:"version_info"`
		Executable string `json:"executable"`
		Platform   string `json:"platform"`
	}{ip.Banner, v, ip.Path, ip.Platform}
}

// launchStatus is that of a failed set-up: an interpreter that was found, and that the run's user cannot execute, is none of the host's shortcomings.
func launchStatus(err error) wire.Status {
	var step *sandbox.StepError
	if errors.As(err, &step) && step.Step == "execve" {
		return wire.StatusPythonNotExecutable
	}
	return wire.StatusLaunchFailed
}

// launchFailure tells what of the set-up failed.
func launchFailure(err error) *wire.Failure {
	f := &wire.Failure{Message: err.Error(), Errno: errnoName(err)}
	var step *sandbox.StepError
	var missing *sandbox.GapError
	switch {
	case errors.As(err, &step):
		f.Step = step.Step
		switch {
		case step.Step == "execve":
			f.Hint = "name an interpreter that the user of the run can reach and execute with python.interpreter"
		case step.Step == "mkdir":
			f.Hint = "name a writable place with security.isolation.working-dir"
		case step.Step == "clone" || step.Step == "mount" || step.Step == "id-map":
			f.Hint = "this host or container does not allow namespaces to this user; allow user namespaces (Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0), or set security.isolation.method = \"process\", which protects less"
		}
	case errors.As(err, &missing):
		f.Step = "isolation"
		f.Hint = "set security.isolation.on-missing = \"warn\" to run with what there is, or the limits in question to 0"
	}
	return f
}

func configFailure(err error) *wire.Failure {
	f := &wire.Failure{Message: err.Error()}
	var c *config.Error
	if errors.As(err, &c) {
		f.Hint = c.Hint
	}
	return f
}

// leastFiles is how many descriptors a launcher takes for a run, with some to spare for those that its caller has left it.
const leastFiles = 64

func hardFileLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Max > 1<<20 {
		return 1 << 20
	}
	return int(limit.Max)
}

func errnoName(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return ""
}

// cacheKey is the file of the key of what is kept about interpreters; empty for a run that could read it.
func cacheKey(job Job) string {
	dir := StateDir(job.Environ)
	if dir == "" || job.Config.Security.Isolation.Method == string(sandbox.Process) {
		return ""
	}
	return filepath.Join(dir, "keys", "cache")
}

// StateDir is where keys are; empty when there is no place for it.
func StateDir(environ []string) string {
	if dir := env(environ, "XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "py3run")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/py3run"
	}
	if home := env(environ, "HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "py3run")
	}
	return ""
}

// CacheDir is where facts about interpreters are kept; empty when there is no place for it.
func CacheDir(environ []string) string {
	if dir := env(environ, "XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "py3run")
	}
	if os.Geteuid() == 0 {
		return "/var/cache/py3run"
	}
	if home := env(environ, "HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "py3run")
	}
	return ""
}

func env(environ []string, name string) string {
	for _, e := range environ {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// newRunID makes a UUIDv7 (RFC 9562): 48 bits of milliseconds, then random.
func newRunID(t time.Time) string {
	var id [16]byte
	rand.Read(id[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func monotonic() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// encode writes a value of ours, which cannot fail.
func encode(v any) json.RawMessage {
	text, err := fastjson.Append(nil, v)
	if err != nil {
		panic(err)
	}
	return text
}

func quoted(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToValidUTF8(n, "\uFFFD")
	}
	return out
}
