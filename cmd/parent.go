package cmd

import (
	"os"

	"golang.org/x/sys/unix"
)

// afterParent calls ended once the process that has started this one is dead. A pidfd tells it of
// the process. A parent-death signal would follow the thread that has started this process, and the
// threads of a Java gateway end while the gateway lives.
//
// It reports false if the parent cannot be watched: it lives in another pid namespace, or the kernel
// has no pidfds. Then only the end of the input tells.
func afterParent(ended func()) bool {
	parent := os.Getppid()
	if parent == 0 {
		return false
	}
	fd, err := unix.PidfdOpen(parent, unix.PIDFD_NONBLOCK)
	if err != nil {
		if err == unix.ESRCH {
			ended()
		}
		return err == unix.ESRCH
	}
	if os.Getppid() != parent { // it has died meanwhile, and the number may be another process's
		unix.Close(fd)
		ended()
		return true
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	raw, err := pidfd.SyscallConn()
	if err != nil {
		pidfd.Close()
		return false
	}
	go func() {
		defer pidfd.Close()
		err := raw.Read(func(fd uintptr) bool {
			n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0
		})
		if err == nil {
			ended()
		}
	}()
	return true
}
