package cmd

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Handlers as the kernel has them.
const (
	sigDefault = 0
	sigIgnore  = 1
)

// A sigaction is the kernel's struct: handler, flags, restorer and mask.
type sigaction [4]uint64

// setAction sets how the kernel handles a signal and returns what was set before. Package os/signal
// cannot do that: it never gives a signal that stops a process its default action back.
func setAction(s syscall.Signal, action sigaction) (before sigaction) {
	syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), uintptr(unsafe.Pointer(&before)), 8, 0, 0)
	return before
}

// raise has a signal take its default action on this process. The kernel delivers it before the call
// returns, because this thread sends it to itself.
func raise(s syscall.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := setAction(s, sigaction{sigDefault})
	unix.Tgkill(os.Getpid(), unix.Gettid(), s)
	setAction(s, before)
}

// stopSelf stops this process and its group, as the kernel does at Ctrl-Z. It returns when somebody
// continues them. In an orphaned group it returns at once: the kernel does not stop that, because
// nobody could continue it. The others come first, because a shell may act as soon as it sees us
// stop.
func stopSelf() {
	before := setAction(unix.SIGTSTP, sigaction{sigIgnore})
	unix.Kill(0, unix.SIGTSTP)
	setAction(unix.SIGTSTP, before)
	raise(unix.SIGTSTP)
}
