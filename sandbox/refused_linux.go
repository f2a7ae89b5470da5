package sandbox

import (
	"strconv"
	"time"

	"py3run/sandbox/seccomp"
)

// Without a control group RLIMIT_DATA holds the memory of each process, and what it refuses leaves no trace: a mapping is not made, and the
// program alone hears of it. So where the activity is listening anyway, the second filter asks about large mappings, and a refusals does the
// kernel's sum: what the process has of private writable memory, and what it asks for, against the limit (setrlimit(2), RLIMIT_DATA).
type refusals struct {
	limit int64 // bytes; 0: nobody wants to know
	most  int64 // that a process would have had, had it not been refused
	count int
}

const (
	patienceMost = 1000             // refused mappings, after which each costs some time
	patience     = time.Millisecond // libraries try again without a pause, and for ever: OpenBLAS does
)

// weigh looks at a call that would give a process memory, while that process waits for the answer. It tells how much it would have, if that is over the limit.
func (r *refusals) weigh(n *notice) (wanted int64) {
	kind := seccomp.Grows(n.arch, uint32(n.number))
	if kind == seccomp.Nothing || r.limit <= 0 {
		return 0
	}
	_, data := readMemory("/proc/" + strconv.Itoa(int(n.tid)) + "/statm")
	more := n.arg[1]
	if kind == seccomp.Remap {
		if n.arg[2] <= n.arg[1] {
			return 0
		}
		more = n.arg[2] - n.arg[1]
	}
	if more > 1<<62 {
		return 0 // no kernel looks at a limit for that
	}
	if wanted = data + int64(more); wanted <= r.limit {
		return 0
	}
	if r.count++; r.count > patienceMost {
		time.Sleep(patience)
	}
	return wanted
}
