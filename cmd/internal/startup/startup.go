// Package startup keeps the start of a short-lived process cheap. Much of that goes into threads that the runtime makes, wakes and puts to sleep again for
// goroutines which have nothing to do beside each other: a launcher sets one thing up after the other and then waits for the kernel.
//
// It imports as little as it can, so that it is initialised before the packages that start goroutines. Import it for its effect.
package startup

import (
	"os"
	"runtime"
	"strings"
)

// Two goroutines run at a time: one can go on while the other waits in a system call, for the disk
// for example. More would only look for work, and wake each other for that.
func init() {
	if len(os.Args) > 0 && runsOnce(os.Args) {
		calmMonitor()
	}
	runtime.GOMAXPROCS(2)
	heap := uintptr(3 << 19) // bytes that a run allocates, about
	if serves(os.Args) {
		heap = 9 << 19 // and a process before its memory is collected for the first time
	}
	askForPages(heap)
}

// serves tells whether a command line is that of a bridge.
func serves(args []string) bool {
	return len(args) > 0 && strings.HasSuffix(args[0], "python3-bridge") || len(args) > 1 && args[1] == "bridge"
}

// runsOnce tells whether a command line is one that runs one piece of code and ends. A link with the
// name of an interpreter may become one in this process, which would keep the slack, or is a bridge.
func runsOnce(args []string) bool {
	name := args[0]
	if strings.HasPrefix(name[strings.LastIndexByte(name, '/')+1:], "python") {
		return false
	}
	return len(args) < 2 || args[1] == "exec" || args[1] == "run"
}
