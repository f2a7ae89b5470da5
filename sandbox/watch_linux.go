package sandbox

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// A watch looks at a running tree now and then and finds out whether a limit is passed. A control
// group counts everything. Without one the watch looks through /proc: it sees every process of the
// tree, but not what happens between two looks.
type watch struct {
	limits  Limits
	root    int // init
	group   *cgroup.Group
	printed func() int64
	disk    func() int64
	end     func() // ends the look at the disk that is under way
	spawn   func(do, done func())
	started time.Time
	past    time.Duration // CPU time of the tree that does not count: of earlier periods

	progress    time.Time // when CPU or output last moved
	lastCPU     time.Duration
	lastPrinted int64
	nextDisk    time.Time     // when the next look at the disk is due
	measuring   chan diskLook // gives the result of the look at the disk that is under way; nil: none is

	free       func() (int64, bool) // free bytes of the file system; nil: not known
	used       int64                // bytes that the last look at the disk has found
	freeBefore int64                // free bytes when that look began
	earlyDisk  time.Time            // before this, free is no reason for a look
	early      bool                 // the look under way is because of free
	wary       int                  // back-off: the pause before an early look, in durations of a look

	peak    int
	tree    tree
	cpu     time.Duration // most that was seen of the tree's CPU time
	present Present       // at the last look
	held    int64         // most anonymous and shared memory that was seen at once
	data    int64         // most private writable memory of one process that was seen
}

// idleCPU is how much CPU time a look may find without calling it progress: a sleeping interpreter
// with a timer thread uses some.
const idleCPU = 2 * time.Millisecond

func (w *watch) look() (Reason, float64) {
	now := time.Now()
	if w.group.OOMKills() > 0 {
		return MemoryLimit, float64(max(w.group.PeakMemory(), w.held)) // before Linux 5.19 v2 keeps no peak
	}
	cpu, counted := w.group.CPU()
	tasks := 0
	inGroup := w.group.Processes()
	w.peak = max(w.peak, inGroup) // for kernels that do not keep the peak
	weigh := !w.weigh()
	if !counted || !w.group.Limits("pids") || weigh {
		w.tree.memory = weigh
		seen, threads, ok := w.tree.look(w.root)
		if ok && !counted {
			cpu, counted = seen, true
		}
		tasks = threads
		w.peak = max(w.peak, tasks)
		w.held, w.data = max(w.held, w.tree.held), max(w.data, w.tree.data)
		if weigh {
			w.present.Memory = w.tree.held
		}
	}
	w.cpu = max(w.cpu, cpu)
	w.present.Wall, w.present.CPU, w.present.Processes = now.Sub(w.started), w.cpu, max(inGroup, tasks)
	if l := w.limits.Processes; l > 0 && tasks > l {
		return ProcessLimit, float64(tasks)
	}
	if l := w.limits.CPU; l > 0 && w.cpu-w.past > l {
		return CPULimit, (w.cpu - w.past).Seconds()
	}
	printed := w.printed()
	if !counted || cpu > w.lastCPU+idleCPU || printed != w.lastPrinted { // not measured is not idle
		w.progress, w.lastCPU, w.lastPrinted = now, cpu, printed
	}
	if l := w.limits.Idle; l > 0 && now.Sub(w.progress) >= l {
		return IdleLimit, now.Sub(w.progress).Seconds()
	}
	if used, ok := w.lookDisk(now); ok && used > w.limits.Disk {
		return DiskLimit, float64(used)
	}
	return Finished, 0
}

// weigh looks at the group's memory now. It returns false if no group counts memory.
func (w *watch) weigh() bool {
	m, known := w.group.Memory()
	w.held = max(w.held, m.Held)
	w.present.Memory = m.Held
	return known
}

// A diskLook is what a look at the disk has found, and how long it took.
type diskLook struct {
	used int64
	took time.Duration
}

// The pause after a look at the disk, as a multiple of the look's duration: a look at a large tree is
// expensive. The free space of the file system costs nothing to ask. If it suggests that the limit
// is passed, the next look comes earlier.
const (
	restMost  = 20              // durations: looking takes a twentieth of a processor
	restLimit = 2 * time.Second // the longest pause, or restLeast durations if they are longer
	restLeast = 3
)

// lookDisk measures in a goroutine, because a large tree takes long. It returns the result of the
// previous look, once.
func (w *watch) lookDisk(now time.Time) (used int64, known bool) {
	if w.limits.Disk <= 0 || w.disk == nil {
		return 0, false
	}
	if w.measuring != nil {
		select {
		case l := <-w.measuring:
			w.measuring = nil
			used, known = l.used, true
			w.restAfter(l, now)
		default:
		}
	}
	due := !now.Add(sampleEvery / 2).Before(w.nextDisk)
	if !due && w.measuring == nil && !now.Before(w.earlyDisk) && w.free != nil {
		free, ok := w.free()
		due = ok && w.used+w.freeBefore-free > w.limits.Disk
		w.early = due
	}
	if w.measuring == nil && due {
		if w.free != nil {
			var known bool
			if w.freeBefore, known = w.free(); !known {
				w.free = nil
			}
		}
		done := make(chan diskLook, 1)
		w.measuring = done
		began, used := time.Now(), int64(0)
		w.spawn(func() { used = w.disk() }, func() { done <- diskLook{used, time.Since(began)} })
	}
	return used, known
}

// restAfter sets when the next look is due. If the free space suggests that the limit is passed, that
// is soon; each time others had caused it, the watch waits longer.
func (w *watch) restAfter(l diskLook, now time.Time) {
	switch {
	case w.early && l.used-w.used < (w.limits.Disk-w.used)/2:
		w.wary = min(2*max(w.wary, 1), restMost)
	default:
		w.wary = 0
	}
	w.early, w.used = false, l.used
	w.earlyDisk = now.Add(time.Duration(w.wary) * l.took)
	w.nextDisk = now.Add(min(restMost*l.took, max(restLimit, restLeast*l.took)))
}

// unlinked is the disk space of files that the run holds open below a path and that have no name any
// more, or never had one (O_TMPFILE).
func unlinked(root int, below string) (bytes int64) {
	seen, looked := map[inode]bool{}, 0
	queue := childrenOf(root, false)
	for i := 0; i < len(queue) && i < treeMost && looked < descriptorsMost; i++ {
		dir := "/proc/" + strconv.Itoa(queue[i]) + "/fd/"
		entries, _ := os.ReadDir(dir)
		looked += len(entries)
		for _, e := range entries {
			var st unix.Stat_t
			if unix.Stat(dir+e.Name(), &st) != nil || st.Nlink > 0 || st.Mode&unix.S_IFMT != unix.S_IFREG || seen[inode{uint64(st.Dev), st.Ino}] {
				continue
			}
			if path, err := os.Readlink(dir + e.Name()); err == nil && strings.HasPrefix(path, below+"/") {
				seen[inode{uint64(st.Dev), st.Ino}] = true
				bytes += st.Blocks * 512
			}
		}
		queue = append(queue, childrenOf(queue[i], true)...)
	}
	return bytes
}

// finish waits for the look under way: nothing may use the directory when it is removed.
func (w *watch) finish() {
	if w.measuring != nil {
		if w.end != nil {
			w.end()
		}
		select {
		case <-w.measuring:
		case <-time.After(drainWait): // a look that hangs, for example on a dead network file system, must not delay the result
		}
		w.measuring = nil
	}
}

// treeMost bounds one look. In a larger tree the numbers are too low, but every limit on processes
// is passed long before.
const treeMost = 4096

// descriptorsMost bounds one look at the open files of a tree in the same way.
const descriptorsMost = 1 << 16

// A tree is what /proc shows of a process and its descendants, look after look.
type tree struct {
	seen map[process]times
	lost time.Duration // CPU time of ended processes that nobody waited for
	left time.Duration // CPU time that parents got from ended children, beyond what was last seen of these

	memory     bool  // look also reads memory
	held, data int64 // at the last look: anonymous memory of all but the root; the most private writable memory of one of these
}

// A process is known by its id and its start time: the kernel uses ids again.
type process struct {
	pid   int
	start string
}

type times struct{ own, children time.Duration }

// leftMost is the most that rounding to clock ticks can leave in tree.left. More comes from processes
// that no look saw.
const leftMost = 50 * time.Millisecond

// look sums the CPU time of the tree, of ended processes too, and counts the threads of all but the
// root, which is init. ok is false if the root cannot be read: it has just ended, or /proc does not
// show it (see readable).
//
// A parent gets the CPU time of each child that it waits for, so the sum over the living processes
// is complete. But a parent that ignores SIGCHLD gets nothing: then the tree keeps what was last seen
// of the child.
func (t *tree) look(root int) (cpu time.Duration, tasks int, ok bool) {
	queue := []int{root}
	now := make(map[process]times, len(t.seen))
	t.held, t.data = 0, 0
	for i := 0; i < len(queue) && i < treeMost; i++ {
		pid := queue[i]
		dir := "/proc/" + strconv.Itoa(pid)
		st, found := readStat(dir + "/stat")
		if !found {
			if i == 0 {
				return 0, 0, false
			}
			continue
		}
		now[process{pid, st.start}] = st.times
		cpu += st.own + st.children
		if i > 0 {
			tasks += st.threads
			if t.memory {
				held, data := readMemory(dir + "/statm")
				t.held, t.data = t.held+held, max(t.data, data)
			}
		}
		queue = append(queue, childrenOf(pid, st.threads > 1)...)
	}
	t.settle(now)
	return cpu + t.lost, tasks, true
}

// childrenOf are the processes that a process, or a thread of it, has made and not waited for.
func childrenOf(pid int, threaded bool) (pids []int) {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task/"
	ids := []string{strconv.Itoa(pid)}
	if threaded {
		if entries, err := os.ReadDir(tasks); err == nil {
			ids = ids[:0]
			for _, e := range entries {
				ids = append(ids, e.Name())
			}
		}
	}
	for _, id := range ids {
		text, err := os.ReadFile(tasks + id + "/children")
		if err != nil {
			continue
		}
		for field := range bytes.FieldsSeq(text) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// settle compares what ended processes had used with what their parents got of it.
func (t *tree) settle(now map[process]times) {
	var ended, got time.Duration
	for p, before := range t.seen {
		if after, lives := now[p]; lives {
			got += after.children - before.children
		} else {
			ended += before.own + before.children
		}
	}
	for p, first := range now {
		if _, old := t.seen[p]; !old {
			got += first.children
		}
	}
	t.seen = now
	t.left += got - ended
	if t.left < 0 {
		t.lost -= t.left
		t.left = 0
	}
	t.left = min(t.left, leftMost)
}

// readable tells whether look can see a process and its children. /proc can be missing, or mounted
// with hidepid= (proc(5)), which hides init from its own user, because init's memory is undumpable.
func readable(pid int) bool {
	id := strconv.Itoa(pid)
	_, ok := readStat("/proc/" + id + "/stat")
	if !ok {
		return false
	}
	_, err := os.ReadFile("/proc/" + id + "/task/" + id + "/children") // a kernel may have none (CONFIG_PROC_CHILDREN)
	return err == nil
}

type stat struct {
	times
	threads int
	start   string
	name    string
	zombie  bool
	gone    bool // it has ended, or has freed its memory
}

// readStat reads comm, state (fields 2 and 3), utime, stime, cutime, cstime (14 to 17, in clock
// ticks of 10 ms), num_threads (20), starttime (22) and vsize (23) of proc_pid_stat(5).
func readStat(path string) (s stat, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return s, false
	}
	// The name in parentheses may hold anything. The first field after it is number 3.
	end := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:])
	if len(fields) < 21 {
		return s, false
	}
	s.name = string(text[bytes.IndexByte(text, '(')+1 : end])
	s.gone = fields[0][0] == 'Z' || fields[0][0] == 'X' || string(fields[23-3]) == "0"
	ticks := func(number int) time.Duration {
		n, _ := strconv.ParseInt(string(fields[number-3]), 10, 64)
		return time.Duration(n) * 10 * time.Millisecond
	}
	s.own, s.children = ticks(14)+ticks(15), ticks(16)+ticks(17)
	s.zombie = fields[0][0] == 'Z'
	s.threads, _ = strconv.Atoi(string(fields[20-3]))
	s.start = string(fields[22-3])
	return s, true
}

// readMemory reads the resident anonymous memory of a process, and how much private writable memory
// it has mapped, stacks included: resident, shared and data of proc_pid_statm(5), in pages.
func readMemory(path string) (held, data int64) {
	text, err := os.ReadFile(path)
	fields := bytes.Fields(text)
	if err != nil || len(fields) < 6 {
		return 0, 0
	}
	pages := func(i int) int64 {
		n, _ := strconv.ParseInt(string(fields[i]), 10, 64)
		return n * int64(os.Getpagesize())
	}
	return max(0, pages(1)-pages(2)), pages(5)
}
