package sandbox

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A directory in which a Measure has found nothing of the run's needs no further walk as long as it
// was not changed: whatever the run makes in it changes it, and without a file there is none that
// could grow. That the kernel has noted no change is only believed of a change that was long ago,
// because times of files are as coarse as the kernel's tick.

// clockTick is longer than any kernel's tick.
const clockTick = 50 * time.Millisecond

// A lastChange is when a directory was last changed (st_ctim, which no program can set).
type lastChange struct {
	inode
	at unix.Timespec
}

// noteEmpty notes what the next Measure has to compare, if this one has found nothing.
func (w *Workdir) noteEmpty(m *measuring, began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.empty = w.empty[:0]
	if !m.whole || m.ended || m.many || m.Files > 0 || m.Bytes > 0 {
		return
	}
	for _, e := range m.entered {
		if began.Sub(time.Unix(e.at.Unix())) < clockTick || !w.isOpen(e.inode) {
			w.empty = w.empty[:0]
			return
		}
		w.empty = append(w.empty, e)
	}
}

// isOpen reports whether a directory is one of the two that the launcher holds open.
func (w *Workdir) isOpen(dir inode) bool {
	return slices.ContainsFunc([]*os.File{w.above, w.handle}, func(f *os.File) bool {
		c, ok := changeOf(f)
		return ok && c.inode == dir
	})
}

// stillEmpty reports whether the last Measure has found nothing, and nothing was made since.
func (w *Workdir) stillEmpty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.empty) == 0 {
		return false
	}
	same := 0
	for _, f := range []*os.File{w.above, w.handle} {
		if c, ok := changeOf(f); ok && slices.Contains(w.empty, c) {
			same++
		}
	}
	return same == len(w.empty)
}

func changeOf(f *os.File) (c lastChange, ok bool) {
	var st unix.Stat_t
	if f == nil || unix.Fstat(int(f.Fd()), &st) != nil {
		return lastChange{}, false
	}
	return lastChange{inode{uint64(st.Dev), st.Ino}, st.Ctim}, true
}
