package startup

import "syscall"

const (
	prSetTimerslack = 29         // PR_SET_TIMERSLACK, prctl(2)
	calm            = 10_000_000 // nanoseconds
)

// calmMonitor has the runtime's monitor thread (sysmon in runtime/proc.go) look every ten
// milliseconds, instead of every 70 microseconds. It looks whether a goroutine or a system call has
// kept others from running for ten milliseconds, and finds nothing in a launcher; but each look is a
// switch between threads, and these looks were half of a launcher's.
//
// Nothing tells the monitor what to do, but the kernel may let any thread sleep longer by its timer
// slack. The slack of the other threads changes with it: their timeouts may be late by as much.
// Programs inherit it, so what starts one has to set it back (package sandbox does).
func calmMonitor() {
	syscall.AllThreadsSyscall(syscall.SYS_PRCTL, prSetTimerslack, calm, 0) // a build with cgo cannot
}
