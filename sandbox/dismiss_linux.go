package sandbox

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"time"
)

const (
	helpersMost = 200 * time.Millisecond // for multiprocessing's helpers to end by themselves
	goingMost   = 10 * time.Millisecond  // for what is just ending: it does not count
	leftNames   = 5
)

// dismiss ends what is left of the tree after the program's end, and says what that was. First it
// waits a moment for those that end by themselves: Python's multiprocessing has helper processes
// that see the end of their program, remove what it has left in /dev/shm, and end. Their command
// lines show which they are. A process that only claims to be one gains that moment, and Left does
// not count it.
func (r *Running) dismiss(moment time.Duration) Left {
	defer r.lifeline.Close() // init ends what it still has
	began := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 10*time.Millisecond) {
		left, helpers := remains(r.pid, 0)
		passed := time.Since(began)
		waits := helpers > 0 && passed < moment || left.Count > 0 && passed < min(moment, goingMost)
		if !waits {
			if left.Count == 0 && !readable(r.pid) && passed < moment { // not even init: or has it just ended?
				if _, err := os.Stat("/proc/" + strconv.Itoa(r.pid)); err == nil {
					left.Count = -1
				}
			}
			return left
		}
		time.Sleep(wait)
	}
}

// remains lists the living processes of a tree, except its root and its program (0: that has ended).
// It counts helpers separately.
func remains(root, program int) (left Left, helpers int) {
	serves := map[int]bool{} // a fork server: its children have its command line, and are the program's
	parents := []int{root}
	for i := 0; i < len(parents) && i < treeMost; i++ {
		parent := parents[i]
		for _, pid := range childrenOf(parent, i > 0) {
			parents = append(parents, pid)
			dir := "/proc/" + strconv.Itoa(pid)
			st, ok := readStat(dir + "/stat")
			if !ok || st.gone || pid == program { // its command line is gone, too
				continue
			}
			command, _ := os.ReadFile(dir + "/cmdline")
			helper, server := helperOf(command)
			serves[pid] = server
			if helper && !serves[parent] {
				helpers++
				continue
			}
			left.Count++
			if len(left.Names) < leftNames {
				left.Names = append(left.Names, st.name)
			}
		}
	}
	return left, helpers
}

// helperOf tells whether a command line is that of a helper: the code that multiprocessing, or a
// library that has taken its helpers over, starts it with. A fork server is one, too.
func helperOf(command []byte) (helper, server bool) {
	for argument := range bytes.SplitSeq(command, []byte{0}) {
		if !bytes.HasPrefix(argument, []byte("from ")) {
			continue
		}
		module, _, found := bytes.Cut(argument[len("from "):], []byte(" import main"))
		server = found && bytes.HasSuffix(module, []byte("multiprocessing.forkserver"))
		helper = server || found && slices.ContainsFunc(trackers, func(name string) bool { return bytes.HasSuffix(module, []byte(name)) })
		if helper {
			return helper, server
		}
	}
	return false, false
}

// trackers are modules that remove what a program has left; the second is that of Python before 3.8.
var trackers = []string{".resource_tracker", ".semaphore_tracker"}
