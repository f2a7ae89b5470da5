// Package sandbox starts one program under limits and isolation and says how it ended.
//
// A [Spec] goes in, an [Outcome] comes out. The package knows Linux; it knows nothing of users,
// JSON, configuration or Python. It is part of an application: its API may change.
//
// # Processes
//
//	launcher ──clone──► init ──clone──► program
//	   │                 │ ▲                │
//	   │   lifeline ─────┘ └── status ──────┘ (until its execve)
//
// The child init is the first process of the sandbox: pid 1 of a new pid namespace (method
// [Namespace]), or a child subreaper without namespaces (method [Process]). It shares the
// launcher's memory and never returns to Go: it runs a list of system calls that the launcher prepared
// (see program_linux.go), starts the program, reaps, and ends when the program ends. The program is never
// pid 1 itself, because the kernel gives pid 1 other rules for signals.
//
// # Three nets under a dying launcher
//
//   - the parent-death signal of init (namespace) or of the program (process);
//   - the lifeline, a pipe that init reads: its end means that the launcher is gone;
//   - the pid namespace, whose processes the kernel kills when init ends.
//
// # What it does not protect against
//
// The code under it may use the network, and read and write what its user may, unless a Spec says otherwise. It is a fence against accidents and exhaustion and a help for
// accountability, not a jail for hostile code: a kernel exploit leaves it. With the method
// [Process] the program can see and signal every process of the same user; without a control group limits on memory and
// processes are weaker; [Protection] lists what was not had.
//
// # The activity
//
// With [Spec.Trail] a second filter of system calls asks the launcher before a process connects, binds, sends to an address or starts a program;
// the launcher writes down what it finds in the process's memory and always lets it go on (see trail_linux.go). What is not seen: what is done
// with sockets that are open already, or by io_uring; a change of that memory in the meantime; the x32 entry of amd64.
//
// A call waits for the launcher, a few microseconds. A signal that comes before the launcher has taken note of it (before Linux 5.19: before the
// answer), and whose handler does not restart calls (SA_RESTART), ends the call with EINTR before it was made. Whoever takes an interrupted connect for one
// under way, as POSIX has it, is wrong then: of signals in an endless row of connects every fifth does that.
//
// # What is left when the launcher is killed
//
// No process. Directories and control groups stand in an entry of the [Workdir]'s place, held locked by a living launcher; [Sweep] removes
// those of the dead.
//
// Needs Linux 5.11 or newer for everything (close_range with CLOEXEC semantics, memfd seals, pid namespaces).
package sandbox
