// Package startup keeps the start of a short-lived process cheap. Much of that goes into threads that the runtime makes, wakes and puts to sleep again for
// goroutines which have nothing to do beside each other: a launcher sets one thing up after the other and then waits for the kernel.
//
// It imports as little as it can, so that it is initialised before the packages that start goroutines. Import it for its effect.
package startup

import (
	"os"
	"runtime"
)

// Two goroutines run at a time: one can go on while the other waits in a system call, for the disk
// for example. More would only look for work, and wake each other for that.
func init() {
	if runsOnce(os.Args) {
		calmMonitor()
	}
	runtime.GOMAXPROCS(2)
	askForPages()
}

// runsOnce tells whether a command line is one that runs one piece of code and ends.
func runsOnce(args []string) bool {
	return len(args) < 2 || args[1] == "exec" || args[1] == "run"
}
