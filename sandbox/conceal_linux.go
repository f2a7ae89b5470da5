package sandbox

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Init runs on the launcher's memory, so the launcher makes that memory undumpable
// (PR_SET_DUMPABLE(2const)): no process of a run may read it through /proc or trace init. A
// launcher stays so from its first run on. That changes nothing for its other runs, and nothing for
// itself but that it leaves no core dump and that its files in /proc belong to root.
//
// One step needs a dumpable launcher: an ordinary user cannot open the id maps of an undumpable
// init, which then belong to root. They are opened in a moment of some ten microseconds, under a
// lock, and written after it. In that moment a process of another run of this launcher can read the
// launcher's memory only if it is of the method Process: with namespaces it sees no process of the
// launcher's memory but its own init, which has capabilities in its user namespace that the program
// has not, and the kernel refuses to open what is more privileged (ptrace(2), access mode
// checking). Only newuidmap and newgidmap, for Spec.SubIDs, open the maps themselves: then the
// moment is as long as they take.
var memory struct {
	sync.Mutex
	asked     bool
	revealed  bool // it is dumpable now
	revealing bool // it was when this process began: not so in a set-user-ID program, and then it stays undumpable
}

// Conceal makes the memory of this process undumpable, as the first run does. It is for a launcher
// that has a secret before it starts anything.
func Conceal() { conceal() }

// conceal makes the launcher's memory undumpable.
func conceal() {
	memory.Lock()
	defer memory.Unlock()
	askMemory()
	hideMemory()
}

// whileRevealed does something that needs a dumpable launcher, as far as it can be one. The
// launcher's memory is undumpable after it.
func whileRevealed(do func() error) error {
	memory.Lock()
	defer memory.Unlock()
	askMemory()
	if memory.revealing && !memory.revealed {
		memory.revealed = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) == nil
	}
	defer hideMemory()
	return do()
}

func askMemory() {
	if !memory.asked {
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		memory.asked, memory.revealing = true, err == nil && dumpable == 1
		memory.revealed = memory.revealing
	}
}

func hideMemory() {
	if memory.revealed {
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
		memory.revealed = false
	}
}
