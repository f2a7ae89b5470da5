package sandbox

import (
	"strconv"
	"time"

	"py3run/sandbox/seccomp"
)

// Without a control group RLIMIT_DATA limits the memory of each process, and a refusal leaves no
// trace: the kernel does not make the mapping, and only the program knows. So if the activity is
// recorded anyway, the second filter also asks about large mappings, and refusals repeats the
// kernel's sum: the private writable memory that the process has, and what it asks for, against the
// limit (setrlimit(2), RLIMIT_DATA).
type refusals struct {
	limit int64 // bytes; 0: nothing is looked at
	most  int64 // that a process would have had, had it not been refused
	count int
}

const (
	patienceMost = 1000             // refused mappings, after which each costs some time
	patience     = time.Millisecond // libraries try again without a pause, and for ever: OpenBLAS does
)

// weigh looks at a call that would give a process memory, while that process waits for the answer.
// It returns how much the process would have, if that is more than the limit.
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
