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
// # Processes of an own child
//
//	launcher ────clone────► init ──clone──► program
//	         ───lifeline──►
//	         ◄───status────
//	         ◄─────────── set-up socket ────         from both, until the program's execve
//
// The child init is the first process of the sandbox: pid 1 of a new pid namespace (method
// [Namespace]), or a child subreaper without namespaces (method [Process]). It shares the
// launcher's memory and never returns to Go: it runs a list of system calls that the launcher prepared
// (see program_linux.go), starts the program, reaps, and ends when the program ends. The program is never
// pid 1 itself, because the kernel gives pid 1 other rules for signals.
//
// In a preforked worker, init and the program are forks of a Python interpreter (see
// preforked_linux.go). They do the same.
//
// # Three nets under a dying launcher
//
//   - the parent-death signal, of an own child's init (namespace) or program (process);
//   - the lifeline, a pipe that init reads: its end means that the launcher is gone;
//   - the pid namespace, whose processes the kernel kills when init ends.
//
// # What it does not protect against
//
// The program may use the network, and read and write what its user may, unless the Spec says
// otherwise. The sandbox is a fence against accidents and exhaustion, and a help for
// accountability. It is not a jail for hostile code: a kernel exploit leaves it. With the method
// [Process] the program can see and signal every process of the same user. Without a control group,
// limits on memory and processes are weaker. [Protection] lists what is in force and what is
// missing.
//
// # Activity
//
// With [Spec.Activity] a second filter of system calls asks the launcher before a process connects,
// binds, sends to an address or starts a program. The launcher records what it finds in the
// process's memory and always lets the call go on (see activity_linux.go). It does not see what is
// done with sockets that are open already or by io_uring, a change of that memory in the meantime,
// or the x32 entry of amd64.
//
// A call waits for the launcher, a few microseconds. If a signal arrives before the launcher has
// taken the notification (before Linux 5.19: before its answer), and the signal's handler does not
// restart calls (SA_RESTART), the call ends with EINTR before it was made. POSIX lets a program
// believe that an interrupted connect goes on; here it does not. Of an endless row of connects
// under signals, every fifth was interrupted.
//
// # What is left when the launcher is killed
//
// No process. Directories and control groups stand in an entry of the [Workdir]'s place, which a
// living launcher holds locked; [Sweep] removes those of the dead.
//
// Everything needs Linux 5.11 or newer (close_range with CLOEXEC semantics, memfd seals, pid namespaces).
package sandbox
