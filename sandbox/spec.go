package sandbox

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Method is a way to isolate a run.
type Method string

const (
	Auto      Method = "auto"      // the strongest that works on this host
	Namespace Method = "namespace" // pid, mount, ipc and uts namespaces (and net when asked; user when not root)
	Process   Method = "process"   // own session, resource limits and whole-tree kill only
)

// Limits bound one run. Zero means no limit.
type Limits struct {
	Wall      time.Duration // from Release to the end
	CPU       time.Duration // user and system time of the whole tree
	Idle      time.Duration // neither CPU use nor output for this long
	Memory    int64         // bytes of the whole tree; without a control group: private writable memory of each process (RLIMIT_DATA)
	Processes int           // processes and threads of the whole tree; without a control group: counted by sampling
	OpenFiles int           // descriptors a process (RLIMIT_NOFILE)
	FileSize  int64         // bytes a file (RLIMIT_FSIZE)
	Disk      int64         // bytes allocated below Dir, measured now and then and at the end

	CPUs      float64 // processors' worth of CPU time per second; only with a control group
	ReadRate  int64   // bytes a second from each block device; only with a control group
	WriteRate int64   // bytes a second to each block device; only with a control group
}

// Spec says what to run and under what. It is plain data: [Start] reads it and changes nothing in it.
type Spec struct {
	Path string   // the program, an absolute path
	Args []string // argv, from argv[0]
	Env  []string // the whole environment, NAME=value
	Dir  string   // current directory of the program

	Method      Method
	OnMissing   OnMissing
	Group       Group
	DenyNetwork bool     // a network namespace of its own, with a working loopback and nothing else
	Hide        []string // files and directories that the program must not see, links followed; those that do not exist are passed over
	Fixed       []string // likewise, that it must not change
	Pin         []string // likewise, that it must not move or replace, nor any directory above; those of Fixed need not be named again
	Limits      Limits

	// ReadDirs and WriteDirs, when not nil, are all that the program and its children can read and execute, or write. They
	// may be files too. What can be written can be read.
	ReadDirs, WriteDirs []string

	MinimalDev       bool        // a /dev of its own with the usual few devices
	PrivateShm       bool        // a /dev/shm of its own, as large as Limits.Memory
	DenyCalls        bool        // no system calls that only matter to the host: package seccomp
	NoNewPrivileges  bool        // no program gains rights by its set-user-ID bit or file capabilities
	Activity         Requirement // how the program and its children reach out is recorded: Outcome.Trail. It never refuses or changes a call
	KeepCapabilities []string    // of those that root loses otherwise, by name
	RunAs            *User       // the user to become, as root; nil: none
	SubIDs           bool        // an ordinary user's user namespace has the ids of /etc/subuid and /etc/subgid, too

	Umask *int // of the program; nil: the launcher's own

	// FirstFile is the descriptor number that the program finds Files[0] at; the others follow, then
	// the gate (see Release) and the dump pipe. At or above Limits.OpenFiles the program can close
	// these descriptors, but no file it opens can ever get one of their numbers.
	FirstFile int

	// DumpSignal is sent to the program when a limit strikes, before it is ended, so that it can write to
	// the dump pipe where it is. Zero: nothing is sent. RLIMIT_CPU sends SIGXCPU by itself.
	DumpSignal syscall.Signal
	// Grace is the time between the polite signal and SIGKILL.
	Grace time.Duration
}

// A User is who the program runs as.
type User struct {
	UID, GID int
	Groups   []int // supplementary
}

// Group says where the control group of a run is made.
type Group struct {
	Name   string // of the group, unique; empty: none is made
	Parent string // below which it is made, in every hierarchy; empty: chosen (see package cgroup)
}

// GateFile and DumpFile are the descriptor numbers at which the program finds the gate and the dump pipe when n files are given.
func (s Spec) GateFile(n int) int { return s.FirstFile + n }
func (s Spec) DumpFile(n int) int { return s.FirstFile + n + 1 }

// OnMissing is what to do about a measure that this host cannot give.
type OnMissing string

const (
	Refuse OnMissing = "refuse" // do not start: [Start] returns a [*MissingError]
	Warn   OnMissing = "warn"   // run, and list it in Outcome.Missing
)

// Requirement is how much a measure is asked for.
type Requirement string

const (
	NotRequested Requirement = ""     // it is not taken
	BestEffort   Requirement = "auto" // where it cannot be had that is told, and refuses nothing
	Required     Requirement = "on"   // as any other measure
)

// IO is where the program's streams and extra descriptors go.
type IO struct {
	Stdin   *os.File // nil: empty
	Stdout  io.Writer
	Stderr  io.Writer  // the same as Stdout, compared with ==: both streams go through one pipe, in the program's order
	Workdir *Workdir   // of the run; nil: none. Start shows it at its path, or settles it there
	Files   []*os.File // at Spec.FirstFile and up; nil leaves a number unused. The caller still owns and closes them
}

// Gap is a measure that was asked for and is not in force, or only in a weaker form.
type Gap struct {
	Name string
	Why  string
	// Extra is set for what nobody asked for by name: it is told, and refuses nothing.
	Extra bool
}

// Reason is why a run ended, as the launcher knows it.
type Reason string

const (
	Finished      Reason = "finished" // by itself: exit or a signal that nobody here sent
	WallLimit     Reason = "wall"
	IdleLimit     Reason = "idle"
	CPULimit      Reason = "cpu"
	MemoryLimit   Reason = "memory"
	ProcessLimit  Reason = "processes"
	DiskLimit     Reason = "disk"
	FileSizeLimit Reason = "file-size"
	Cancelled     Reason = "cancelled"
	DirLost       Reason = "directory" // somebody outside has removed or replaced the working directory
)

// Outcome is how a run ended. All of it comes from the kernel through the launcher, none from the program, but for Dump.
type Outcome struct {
	Reason   Reason
	ExitCode int            // of the program, when Signal is 0
	Signal   syscall.Signal // that ended the program, or 0
	Used     float64        // of the limit that struck: seconds, bytes or processes
	Cancel   syscall.Signal // what the caller was sent, when Reason is Cancelled
	Began    bool           // the program has read the byte at its gate
	Refused  int64          // processes and threads that could not be made because of the limit; known with a control group only
	Left     Left
	Dump     []byte // what the program wrote to the dump pipe: untrusted
	Usage    Usage
	Activity Activity
	Memory   MemoryTrace
	// Protection is what was in force.
	Protection Protection
	// Incomplete is set when processes of the run were still alive at the end of the time given to kill them.
	Incomplete bool
	// Fault is a panic in a goroutine of the run: a defect of this package, or of a writer or a function that the caller has given. It has ended the run.
	Fault error
	// Undelivered are the streams, stdout and stderr, whose writer still waited to be read when the time for that was over. The writer is
	// left behind in its Write.
	Undelivered [2]bool
}

// Left is what of the run still lived when its program had ended, and was ended then. It is without the helpers of Python's multiprocessing, which
// end by themselves when they see that the program is gone: they get a moment for it.
type Left struct {
	Count int      // -1: there were some, and /proc does not show them
	Names []string // of the first few, as the kernel has them; a process chooses its own
}

// MemoryTrace is what a run's memory limit has left traces of.
type MemoryTrace struct {
	// PerProcess is set when no control group limits memory: each process is held by itself, by RLIMIT_DATA.
	PerProcess bool
	Data       int64 // then: the most private writable memory of one process that was seen, in bytes; it counts what is only reserved
	Failed     bool  // the group had none to give when it was asked, and nothing to take back
}

// A Activity is how the processes of a run reached out of themselves, as far as the kernel asked about it: attempts, whether they succeeded or
// not. What was asked can have been changed since, so it proves nothing against code that fights it.
type Activity struct {
	Connections []Peer // connects, and sends with an address
	Binds       []Peer
	Executions  []Execution
	Files       []string // pipes, sockets and devices that were made (mknod)
	Rings       int      // set-ups of io_uring; what is done through it is not seen
	Dropped     int      // that found no room
	Refused     int64    // bytes of private memory that a process would have had: more than RLIMIT_DATA gives it; 0: no large mapping was refused
}

// A Peer is an address.
type Peer struct {
	Host    string // an IP address; "unix:" and a path, or "@" and an abstract name; "family:" and a number; "?" if it could not be read
	Port    int
	Program string // path of the program whose call it was, if that is not the run's own
	Count   int
}

// An Execution is of a program in a process, in the place of what ran there.
type Execution struct {
	Program string   // as it was named; "?" if it could not be read
	Args    []string // after argv[0], each cut after 300 characters, and at most 16
	Count   int

	ArgsDropped int // that are not in Args, as far as they were counted
	ArgsCut     int // of Args
}

// Usage is what the whole tree used.
type Usage struct {
	Wall          time.Duration
	CPU           time.Duration
	PeakMemory    int64 // bytes: anonymous and shared memory of the whole tree, by sampling, and at least the largest resident set of one process
	MappedFiles   int64 // how much of PeakMemory may be pages of files, which the kernel can take back: what no sampling has seen
	PeakProcesses int   // processes and threads at once; by sampling where the kernel does not count
	ReadBytes     int64 // from block devices
	WriteBytes    int64 // to block devices
}

// Protection is what is in force for a run.
type Protection struct {
	Method   Method
	Enforced []string
	Gaps     []Gap
}

// StepError is a failed step of the set-up: which one, on what, and why. Err keeps the errno.
type StepError struct {
	Step   string // "clone", "mount", "setrlimit", "execve" …
	Object string
	Err    error
}

func (e *StepError) Error() string {
	if e.Object == "" {
		return fmt.Sprintf("%s: %v", e.Step, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Step, e.Object, e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// GapError is returned when Spec.OnMissing is Refuse and measures cannot be had.
type GapError struct{ Gaps []Gap }

func (e *GapError) Error() string {
	s := "isolation is incomplete here and on-missing is \"refuse\""
	for i, g := range e.Gaps {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		s += sep + g.Name + " (" + g.Why + ")"
	}
	return s
}
