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
	Idle      time.Duration // without CPU use, without output and, at a terminal, without a user who types
	Memory    int64         // bytes of the whole tree; without a control group: private writable memory of each process (RLIMIT_DATA)
	Processes int           // processes and threads of the whole tree; without a control group: counted by sampling
	OpenFiles int           // descriptors of a process (RLIMIT_NOFILE)
	FileSize  int64         // bytes of a file (RLIMIT_FSIZE)
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
	Dir  string   // current directory of the program; empty: the launcher's

	Method      Method
	OnMissing   OnMissing
	Group       Group
	DenyNetwork bool     // a network namespace of its own, with a working loopback and nothing else
	Hide        []string // files and directories that the program must not see. Here and in the next two, links are followed and paths that do not exist are skipped
	ReadOnly    []string // what is read-only for the program
	Pin         []string // what the program cannot move or replace, nor any directory above it. ReadOnly includes this
	Limits      Limits

	// ReadDirs and WriteDirs, when not nil, are the only places that the program and its children
	// can read and execute, or write. A place may be a file. What can be written can be read.
	ReadDirs, WriteDirs []string

	MinimalDev       bool        // a /dev of its own with the usual few devices
	PrivateShm       bool        // a /dev/shm of its own, as large as Limits.Memory
	DenyCalls        bool        // system calls that only matter to the host are refused: package seccomp
	NoNewPrivileges  bool        // no program gains rights by its set-user-ID bit or file capabilities
	Activity         Requirement // Outcome.Activity records how the program and its children reach out. It never refuses or changes a call
	Files            Requirement // the activity also has what is written, made, renamed and removed. It needs Linux 5.19
	Reads            bool        // and, if it has those, what is read
	KeepCapabilities []string    // names of capabilities that root keeps, of those that it loses otherwise
	RunAs            *User       // the user to become, as root; nil: none
	SubIDs           bool        // an ordinary user's user namespace also has the ids of /etc/subuid and /etc/subgid

	Umask *int // of the program; nil: the launcher's own

	// Transparent is for a program whose caller is to notice no launcher. The program stays in the
	// launcher's session and process group, so a terminal treats both as one job. It gets every
	// signal that Wait hears of, and its stops stop the launcher. It reads no gate, so the sandbox
	// holds it just before its execve, and writes no dump. Its descriptors are IO.Inherit.
	Transparent bool
	Ignored     []syscall.Signal // of a transparent program: the signals that it finds ignored
	Links       []Link           // what else leads to a program in the run's mount namespace
	Linkless    []string         // variables besides Env, where Links cannot be mounted: without a mount namespace, or on a kernel before 5.2

	// FirstFile is the descriptor number at which the program finds IO.Files[0]. The other files
	// follow, then the gate (see GateFile and Release) and the dump pipe (DumpFile). If FirstFile
	// is not below Limits.OpenFiles, no file that the program opens can get one of these numbers.
	FirstFile int

	// DumpSignal is sent to the program at a limit, before the run is ended: the program can then
	// write to the dump pipe which line it is at. Zero: nothing is sent. At RLIMIT_CPU the kernel
	// sends SIGXCPU instead.
	DumpSignal syscall.Signal
	// Grace is the time between SIGTERM and SIGKILL.
	Grace time.Duration

	periods bool // it is a Resident
}

// A Link is a path that exists. In the run's mount namespace a symbolic link to Target is in its
// place, and the path itself is not followed if it is a link already.
type Link struct{ Path, Target string }

// A User is who the program runs as.
type User struct {
	UID, GID int
	Groups   []int // supplementary
}

// Group says where the control group of a run is made.
type Group struct {
	Name   string // unique; empty: no group is made
	Parent string // the group above it, in every hierarchy; empty: package cgroup chooses one
}

// GateFile and DumpFile are the descriptor numbers at which the program finds the gate and the dump
// pipe. n is the length of IO.Files, nils included.
func (s Spec) GateFile(n int) int { return s.FirstFile + n }
func (s Spec) DumpFile(n int) int { return s.FirstFile + n + 1 }

// PeriodsFile is the number at which a [Resident] finds its socket. At first that is its standard
// input, too.
func (s Spec) PeriodsFile(n int) int { return s.FirstFile + n + 2 }

// OnMissing says what happens if this host cannot give a measure.
type OnMissing string

const (
	Refuse OnMissing = "refuse" // the run does not start: [Start], or [Running.Release], returns a [*GapError]
	Warn   OnMissing = "warn"   // the run starts, and Outcome.Protection lists the gap
)

// Requirement says how much the caller wants a measure.
type Requirement string

const (
	NotRequested Requirement = ""     // not at all
	BestEffort   Requirement = "auto" // if the host has it; else it is a gap with Extra set
	Required     Requirement = "on"   // as every other measure: if the host does not have it, OnMissing decides
)

// IO is where the program's streams and extra descriptors go.
type IO struct {
	Stdin  *os.File // nil: empty
	Stdout io.Writer
	Stderr io.Writer // if it equals Stdout (==), both streams go through one pipe and keep the program's order
	// Terminal, if it is not nil, is the program's standard input and output, and standard error if
	// Stderr equals Stdout; Stdin is not used then. Only [OwnChild] can give a run a terminal.
	Terminal *Terminal
	Workdir  *Workdir   // of the run; nil: none. Start shows it at its path or, without namespaces, moves it there
	Files    []*os.File // at Spec.FirstFile and up; nil leaves a number unused. The caller still owns and closes them

	// Inherit are descriptors of the launcher that a transparent program has, too, at the same
	// numbers. They are numbers and no files, because [os.File.Fd] may change the mode of a file that
	// others share. Of the streams, 0 to 2, a Writer above replaces one; what neither names is closed.
	Inherit []int
	Entry   *Workdir // of a run without a directory: where its control group is noted, for [Sweep]

	// Alone says that this process has nothing else to do while Start waits for the set-up. Then
	// nobody reads the output before Wait either, so that [Running.WaitBriefly] can come first.
	Alone bool

	// Wait calls these functions, if they are not nil. They must not block.
	Watch    func(Present) // about ten times a second, with what the run uses at that moment
	Stopping func()        // when the run is asked to end: whoever writes its output then has little time left
}

// Present is what a run uses while it lives.
type Present struct {
	Wall      time.Duration // since Release
	CPU       time.Duration // of the whole tree, so far
	Memory    int64         // bytes of anonymous and shared memory; 0: not known
	Processes int           // and threads; 0: not known
}

// Gap is a measure that was asked for and is not in force, or only in a weaker form.
type Gap struct {
	Name string
	Why  string
	// Extra marks a gap for information: OnMissing does not apply to it.
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

// CallerGone is for the signals that [Running.Wait] hears of: whoever started the launcher has ended.
// It ends the run as [Cancelled], and Outcome.Cancel is 0.
const CallerGone callerGone = "the caller has ended"

type callerGone string

func (callerGone) Signal()          {}
func (g callerGone) String() string { return string(g) }

// Outcome is how a run ended. All of it but Dump comes from the kernel, through the launcher; Dump
// comes from the program.
type Outcome struct {
	Reason   Reason
	ExitCode int            // of the program, when Signal is 0
	Signal   syscall.Signal // that ended the program, or 0
	Used     float64        // what the limit that ended the run counts, at that time: seconds, bytes or processes
	Cancel   syscall.Signal // that the caller received, when Reason is Cancelled; 0: CallerGone
	Began    bool           // the program has read the byte at its gate
	Refused  int64          // processes and threads that the limit has prevented; only a control group counts them
	Left     Left
	Dump     []byte // what the program wrote to the dump pipe: untrusted
	Usage    Usage
	Activity Activity
	Memory   MemoryTrace
	// Protection is what was in force.
	Protection Protection
	// Incomplete is set if processes of the run were killed and did not end in time.
	Incomplete bool
	// Fault is a panic in a goroutine of the run: a defect of this package, or of a writer or a
	// function that the caller has given. It has ended the run.
	Fault error
	// Undelivered marks the streams, stdout and stderr, whose writer had not taken all output when
	// the time for that was over. That writer may still be in its Write.
	Undelivered [2]bool
}

// Left are the processes of the run that were still alive when its program had ended. They are
// killed then. Helper processes of Python's multiprocessing do not count: they notice that the
// program is gone, and get a moment to end by themselves.
type Left struct {
	Count int      // -1: there may be some, because /proc does not show them
	Names []string // of the first few, as the kernel has them; a process chooses its own
}

// MemoryTrace says how close a run came to its memory limit.
type MemoryTrace struct {
	// PerProcess is set if no control group limits memory: RLIMIT_DATA limits each process by itself.
	PerProcess bool
	Data       int64 // then: largest private writable memory of one process that was seen, reserved pages included, in bytes
	Failed     bool  // the group reached its limit, and the kernel could reclaim nothing
}

// Activity is how the processes of a run reached out, as far as the kernel asked the launcher about
// it: attempts, successful or not. A process can change its memory after the launcher has read it,
// so the record proves nothing against hostile code.
type Activity struct {
	Connections   []Peer // connects, and sends with an address
	Binds         []Peer
	Executions    []Execution
	Written       []string // files that were opened for writing, made, linked or renamed to; also pipes, sockets and devices that were made (mknod)
	Removed       []string // files and directories that were removed or renamed from
	DirsMade      []string
	Read          []string // with Spec.Reads: files that were opened for reading only
	Rings         int      // set-ups of io_uring; what is done through it is not seen
	Dropped       int      // entries for which there was no room, but for those of files
	FilesDropped  int      // calls on further files, for which there was no room
	RefusedMemory int64    // bytes of private memory that a process would have had if RLIMIT_DATA had not refused; 0: nothing large was refused
}

// A Peer is an address.
type Peer struct {
	Host    string // an IP address; "unix:" and a path, or "@" and an abstract name; "family:" and a number; "?" if it could not be read
	Port    int
	Program string // path of the program that made the call, if it is not the run's own
	Count   int
}

// An Execution is the start of a program by execve or execveat.
type Execution struct {
	Program string   // as the caller named it; "?" if it could not be read
	Args    []string // after argv[0]: at most 16, each cut after 300 characters
	Count   int

	ArgsDropped int // arguments that are not in Args, as far as they were counted
	ArgsCut     int // arguments in Args that were cut
}

// Usage is what the whole tree used.
type Usage struct {
	Wall          time.Duration
	CPU           time.Duration
	PeakMemory    int64 // bytes: anonymous and shared memory of the whole tree, by sampling, and at least the largest resident set of one process
	MappedFiles   int64 // how much of PeakMemory may be pages of files, which the kernel can take back
	PeakProcesses int   // processes and threads at once; by sampling if the kernel does not count
	ReadBytes     int64 // from block devices
	WriteBytes    int64 // to block devices
}

// Protection is the isolation that was in force for a run.
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

// GapError is the error of a run whose Spec.OnMissing is Refuse, on a host that lacks measures.
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
