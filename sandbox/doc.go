// Package sandbox starts one program under limits and isolation and says how it ended.
//
// The package knows Linux. It knows nothing of users, JSON, configuration or Python. It is part of
// an application: its API may change.
//
// # One run
//
//	Spec, IO ─► Start(…, Backend) ─► Running ─► Release ─► Wait ─► Outcome
//
// [Start] makes the set-up; the program waits at its gate. [Running.Release] opens the gate.
// [Running.Wait] waits for the end, and ends the run at a limit. The [Outcome] says how the run
// ended, what it used and what isolation was in force.
//
// A [Backend] is a way to start the program: [OwnChild], or a [Handoff], which is a preforked
// worker. What comes after the start does not depend on it.
//
// One process can have many runs at once.
//
// A [Resident] is a program that is started once and then serves one [Period] after the other, each
// with an Outcome of its own.
//
// # Processes of an own child
//
//	launcher ────clone────► init ──clone──► program
//	         ───lifeline──►
//	         ◄───status────
//	         ◄─────────── set-up socket ────         from both, until the program's execve
//
// The child init is the first process of the sandbox: pid 1 of a new pid namespace (method
// [Namespace]), or a child subreaper without namespaces (method [Process]). It shares the
// launcher's memory and never returns to Go. It makes a list of system calls that the launcher has
// prepared (see program_linux.go), starts the program, reaps, and ends when the program ends. The
// program is never pid 1 itself, because the kernel has other rules for signals to pid 1.
//
// In a preforked worker, init and the program are forks of a Python interpreter (see
// preforked_linux.go). They do the same.
//
// # Files of a working directory
//
// [Workdir.Put] makes files before the run, and [Workdir.Gather] reads chosen ones after it. What lies
// there is the code's choice: both go from one name to the next, relative to the directory that the
// launcher holds open, and follow no link (openat2(2) with RESOLVE_NO_SYMLINKS and RESOLVE_NO_XDEV).
// Gather reads only regular files with one name, within bounds on number, size and time.
//
// # What ends a run when its launcher dies
//
//   - the parent-death signal: in an own child it is set on init (Namespace) or on the program
//     (Process);
//   - the lifeline, a pipe that init reads: its end means that the launcher is gone;
//   - the pid namespace: the kernel kills its processes when init ends.
//
// # Terminal
//
// With [IO.Terminal] the program has a pseudo-terminal instead of pipes, and init leads the session
// that has it (see [Terminal]). Init reports when the program is stopped or continued there.
//
// # What it does not protect against
//
// The program may use the network, and read and write what its user may, unless the Spec says
// otherwise. The sandbox protects against accidents and exhaustion, and helps to find out who did
// what. It does not hold hostile code that exploits the kernel. With the method
// [Process] the program can see and signal every process of the same user. Without a control group,
// limits on memory and processes are weaker. [Protection] lists what is in force and what is
// missing.
//
// # Activity
//
// With [Spec.Activity] a second filter of system calls asks the launcher before a process connects,
// binds, sends to an address or starts a program. The launcher records what it finds in the
// process's memory and always lets the call go on (see activity_linux.go). With [Spec.Files] the
// filter also asks before a process writes, makes, links, renames or removes a file by its name
// (files_linux.go), of openings by the value of their flags. The launcher does not see what the
// process does with sockets that are open already, what it does by io_uring or by the x32 calls of
// amd64, and whether it changes that memory in the meantime.
//
// A call waits for the launcher, a few microseconds. If a signal arrives before the launcher has
// taken the notification (before Linux 5.19: before its answer), and the signal's handler does not
// restart calls (SA_RESTART), the call ends with EINTR before the kernel has begun it. POSIX says
// that an interrupted connect goes on in the background; here it does not. In a test that connected
// in a loop under signals, one connect in five was interrupted. Before Linux 5.19 files are therefore
// not recorded.
//
// # What is left when the launcher is killed
//
// No process. The directories and control groups of a run are noted in an entry, a file in the
// [Workdir]'s place that the launcher holds locked while it lives. [Sweep] removes what the entries
// of dead launchers note.
//
// Everything needs Linux 5.11 or newer (close_range with CLOEXEC semantics, memfd seals, pid
// namespaces).
package sandbox
