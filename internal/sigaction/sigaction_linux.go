// Package sigaction sets how the kernel handles a signal in this process. Package os/signal cannot do
// that: the Go runtime keeps its own handlers, and never gives a signal that stops a process its default
// action back.
package sigaction

import (
	"runtime"
	"syscall"
	"unsafe"
)

// An Action is the kernel's struct sigaction: handler, flags, restorer and mask (sigaction(2)).
type Action [4]uint64

// The actions without a handler.
var (
	Default = Action{0} // SIG_DFL
	Ignore  = Action{1} // SIG_IGN
)

const (
	setSize           = 8 // bytes of the kernel's sigset_t
	unblock, setBlock = 1, 2
)

// Set sets the action of a signal and returns what it was before.
func Set(s syscall.Signal, action Action) (before Action) {
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), uintptr(unsafe.Pointer(&before)), setSize, 0, 0)
	return before
}

// Raise has a signal take its default action on this process, even if the signal is blocked. The kernel
// delivers it before the call returns, because this thread sends it to itself. Raise returns after a
// stop, and if the signal does not end this process, as for the first process of a container.
func Raise(s syscall.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := Set(s, Default)
	mask, blocked := uint64(1)<<(s-1), uint64(0)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, unblock, uintptr(unsafe.Pointer(&mask)), uintptr(unsafe.Pointer(&blocked)), setSize, 0, 0)
	syscall.Tgkill(syscall.Getpid(), syscall.Gettid(), s)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setBlock, uintptr(unsafe.Pointer(&blocked)), 0, setSize, 0, 0)
	Set(s, before)
}
