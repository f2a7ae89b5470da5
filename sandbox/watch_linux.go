package sandbox

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"py3run/sandbox/cgroup"
)

// A watch looks at a running tree now and then and says when a limit is passed. The control group counts whatever happens; without
// one it looks through /proc: it sees every process of the tree, but not what happens between two looks.
type watch struct {
	limits  Limits
	root    int // init
	group   *cgroup.Group
	printed func() int64
	disk    func() int64
	started time.Time

	progress     time.Time // when CPU or output last moved
	lastCPU      time.Duration
	lastPrinted  int64
	nextDisk     time.Time
	measuredDisk chan int64
	peak         int
}

// idleCPU is how much CPU time a look may find without calling it progress: a sleeping interpreter with a timer thread uses some.
const idleCPU = 2 * time.Millisecond

func (w *watch) look() (Reason, float64) {
	now := time.Now()
	if w.group.OOMKills() > 0 {
		return MemoryLimit, float64(w.group.PeakMemory())
	}
	cpu, counted := w.group.CPU()
	tasks := 0
	w.peak = max(w.peak, w.group.Processes()) // for kernels that do not keep the peak
	if !counted || !w.group.Limits("pids") {
		var seen time.Duration
		seen, tasks = tree(w.root)
		w.peak = max(w.peak, tasks)
		if !counted {
			cpu = seen
		}
	}
	if l := w.limits.Processes; l > 0 && tasks > l {
		return ProcessLimit, float64(tasks)
	}
	if l := w.limits.CPU; l > 0 && cpu > l {
		return CPULimit, cpu.Seconds()
	}
	printed := w.printed()
	if cpu > w.lastCPU+idleCPU || printed != w.lastPrinted {
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

// lookDisk measures beside the loop, because a large tree takes long, and rests twenty times as long as it took.
func (w *watch) lookDisk(now time.Time) (int64, bool) {
	if w.limits.Disk <= 0 || w.disk == nil {
		return 0, false
	}
	if w.measuredDisk == nil {
		if now.Before(w.nextDisk) {
			return 0, false
		}
		w.measuredDisk = make(chan int64, 1)
		w.nextDisk = now // start of the measuring
		done := w.measuredDisk
		go func() { done <- w.disk() }()
	}
	select {
	case used := <-w.measuredDisk:
		w.measuredDisk = nil
		w.nextDisk = now.Add(20 * now.Sub(w.nextDisk))
		return used, true
	default:
		return 0, false
	}
}

// finish waits for a measuring under way: whoever removes the directory next must be alone with it.
func (w *watch) finish() {
	if w.measuredDisk != nil {
		select {
		case <-w.measuredDisk:
		case <-time.After(drainWait): // one that hangs, on a dead network file system say, must not hold the result back
		}
		w.measuredDisk = nil
	}
}

// treeMost bounds one look: beyond it the numbers are too low, and every limit on processes is long passed.
const treeMost = 4096

// tree sums the CPU time of a process and all its descendants, dead ones included once they were reaped, and counts their threads.
// The root itself, which is init, is not counted as a task.
func tree(root int) (cpu time.Duration, tasks int) {
	queue := []int{root}
	for i := 0; i < len(queue) && i < treeMost; i++ {
		pid := queue[i]
		dir := "/proc/" + strconv.Itoa(pid)
		used, threads, ok := readStat(dir + "/stat")
		if !ok {
			continue
		}
		cpu += used
		if i > 0 {
			tasks += threads
		}
		ids := []string{strconv.Itoa(pid)}
		if threads > 1 {
			if entries, err := os.ReadDir(dir + "/task"); err == nil {
				ids = ids[:0]
				for _, e := range entries {
					ids = append(ids, e.Name())
				}
			}
		}
		for _, id := range ids {
			text, err := os.ReadFile(dir + "/task/" + id + "/children")
			if err != nil {
				continue
			}
			for field := range bytes.FieldsSeq(text) {
				if child, err := strconv.Atoi(string(field)); err == nil {
					queue = append(queue, child)
				}
			}
		}
	}
	return cpu, tasks
}

// readStat reads utime, stime, cutime, cstime (fields 14 to 17, in clock ticks of 10 ms) and num_threads (20) of proc_pid_stat(5).
func readStat(path string) (cpu time.Duration, threads int, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false
	}
	// The name in parentheses may hold anything; fields are counted from behind it, the first is number 3.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 18 {
		return 0, 0, false
	}
	for _, f := range fields[11:15] {
		ticks, _ := strconv.ParseInt(string(f), 10, 64)
		cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	threads, _ = strconv.Atoi(string(fields[17]))
	return cpu, threads, true
}
