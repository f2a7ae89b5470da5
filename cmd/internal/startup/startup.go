// Package startup keeps the start of a short-lived process cheap. Much of that goes into threads that the runtime makes, wakes and puts to sleep again for
// goroutines which have nothing to do beside each other: a launcher sets one thing up after the other and then waits for the kernel.
//
// It imports as little as it can, so that it is initialised before the packages that start goroutines. Import it for its effect.
package startup

import "runtime"

// One goroutine runs at a time. Those that wait, for a system call too, hold nobody up.
func init() { runtime.GOMAXPROCS(1) }
