package wire

// A Status says how a request ended. Callers go by it. The exit code only repeats it, and is
// ambiguous from 121 on.
type Status string

const (
	StatusOK                  Status = "ok"
	StatusError               Status = "error"
	StatusExit                Status = "exit"
	StatusDenied              Status = "denied"
	StatusRateLimited         Status = "rate_limited"
	StatusMemoryLimit         Status = "memory_limit"
	StatusProcessLimit        Status = "process_limit"
	StatusDiskLimit           Status = "disk_limit"
	StatusOutputLimit         Status = "output_limit"
	StatusTimeout             Status = "timeout"
	StatusIdleTimeout         Status = "idle_timeout"
	StatusCPULimit            Status = "cpu_limit"
	StatusBadRequest          Status = "bad_request"
	StatusConfigError         Status = "config_error"
	StatusLaunchFailed        Status = "launch_failed"
	StatusAuditUnavailable    Status = "audit_unavailable"
	StatusInternal            Status = "internal"
	StatusPythonNotExecutable Status = "python_not_executable"
	StatusPythonNotFound      Status = "python_not_found"
	StatusSignal              Status = "signal"
	StatusCancelled           Status = "cancelled"
)

// Exit codes that are not a fixed number.
const (
	programsOwn = -1 - iota // what Python ended with
	endedBy                 // 128 + the signal that ended Python
	cancelledBy             // 130 or 143: the signal the caller sent
)

// statuses holds for each status: exit, a code or one of the rules above; hint, what to do about
// it, where that does not depend on the case; and retryable, which means that no code of the user's
// ran and that the same request may succeed later.
var statuses = [...]struct {
	status    Status
	exit      int
	meaning   string
	hint      string
	retryable bool
}{
	{StatusOK, 0, "finished", "", false},
	{StatusError, 1, "uncaught Python exception, or a syntax error", "", false},
	{StatusExit, programsOwn, "the program ended itself with a code other than 0", "", false},
	{StatusDenied, 121, "identity, role or rule does not allow it", "ask the operator; the same request will be denied again", false},
	{StatusRateLimited, 122, "too many requests, or too many at once", "wait for retry_after_ms and send it again", true},
	{StatusMemoryLimit, 123, "the memory limit ended the run", "work in smaller pieces, or have max-memory-mb raised", false},
	{StatusProcessLimit, 123, "the process limit ended the run", "start fewer processes and threads, or have max-processes raised", false},
	{StatusDiskLimit, 123, "the disk or file-size limit ended the run", "write less, or have max-disk-mb or max-file-size-mb raised", false},
	{StatusOutputLimit, 123, "the result is too large, or output of run was lost to the limit", "return less, or have max-output-size-mb raised", false},
	{StatusTimeout, 124, "the wall-clock limit ended the run", "do less at a time, or have security.execution-timeout-seconds raised", false},
	{StatusIdleTimeout, 124, "no progress for too long", "find out what it waits for, or have security.idle-timeout-seconds raised", false},
	{StatusCPULimit, 124, "the processor-time limit ended the run", "compute less at a time, or have security.max-cpu-seconds raised", false},
	{StatusBadRequest, 125, "the request is not one this version understands; nothing ran", "see py3run schema request", false},
	{StatusConfigError, 125, "the operator's configuration is wrong; nothing ran", "see py3run config check", false},
	{StatusLaunchFailed, 125, "the run could not be set up; nothing ran", "py3run doctor tries what this host can do; failure.step and failure.errno name what it refused", false},
	{StatusAuditUnavailable, 125, "the start could not be recorded; nothing ran", "repair the audit directory, or name another with security.audit.dir", true},
	{StatusInternal, 125, "a fault of py3run itself", "please report it", false},
	{StatusPythonNotExecutable, 126, "the interpreter cannot be executed", "name another with python.interpreter", false},
	{StatusPythonNotFound, 127, "no interpreter found", "install Python 3.8 or newer, or name one with python.interpreter", false},
	{StatusSignal, endedBy, "ended by a signal nobody here sent", "", false},
	{StatusCancelled, cancelledBy, "the caller sent SIGINT or SIGTERM, or py3runctl cancel ended it", "", false},
}

// Statuses lists all statuses in the order of the contract.
func Statuses() []Status {
	list := make([]Status, len(statuses))
	for i, row := range statuses {
		list[i] = row.status
	}
	return list
}

// row is the place of s in the table, or -1.
func (s Status) row() int {
	for i, row := range statuses {
		if row.status == s {
			return i
		}
	}
	return -1
}

// Meaning is what happened, in one line.
func (s Status) Meaning() string {
	if i := s.row(); i >= 0 {
		return statuses[i].meaning
	}
	return ""
}

// Hint is what to do about it; empty where that depends on the case.
func (s Status) Hint() string {
	if i := s.row(); i >= 0 {
		return statuses[i].hint
	}
	return ""
}

// Retryable reports whether no code of the user's ran and the same request may succeed later.
func (s Status) Retryable() bool {
	i := s.row()
	return i >= 0 && statuses[i].retryable
}

// ExitStatus is the exit code of exec and run for r. An unknown status counts as internal.
func (r Result) ExitStatus() int {
	i := r.Status.row()
	if i < 0 {
		i = StatusInternal.row()
	}
	switch exit := statuses[i].exit; exit {
	case programsOwn:
		if r.ExitCode == nil {
			return 1 // a program that ended itself without a code has not succeeded
		}
		return *r.ExitCode & 255
	case endedBy:
		return 128 + r.signal()
	case cancelledBy:
		if r.signal() == sigint {
			return 128 + sigint
		}
		return 128 + sigterm // SIGHUP and SIGQUIT, which some callers send, count as SIGTERM
	default:
		return exit
	}
}

const (
	sigint  = 2
	sigterm = 15
)

// signal is the number of the signal, given or found by its name; 0: unknown.
func (r Result) signal() int {
	if r.SignalNumber != 0 {
		return r.SignalNumber
	}
	for number, name := range signals {
		if name != "" && name == r.Signal {
			return number
		}
	}
	return 0
}

// signals holds Linux's signals by number, as signal(7) lists them for x86 and ARM. Real-time
// signals are given by number.
var signals = [...]string{
	1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
	9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 16: "SIGSTKFLT",
	17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG", 24: "SIGXCPU",
	25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
}
