package sandbox

import (
	"bytes"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A score is the launcher's oom_score_adj (proc(5)): it decides how soon the kernel ends the
// launcher when memory is short. Processes that share their memory share one score, and a run can
// write to that of its init, whose memory is the launcher's. So root's code could make the kernel end
// the launcher, and all its runs, first. The launcher puts the score back. A mount over the file would do as well,
// but then no run could make a user namespace with a /proc of its own. The other files of init that
// a run can write to change nothing of the launcher but the form of a core dump and what clear_refs
// counts.
//
// All runs of a launcher share one score, which was read when there was no run yet. A run that read
// it later could take for the launcher's own what another run has written.
type score struct {
	mu   sync.Mutex
	runs int
	fd   int
	text []byte
}

var launcherScore score

// keep notes the score of the launcher, for a run; nil where no run can change it.
func (s *score) keep() *score {
	if os.Geteuid() != 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs == 0 {
		fd, err := unix.Open("/proc/self/oom_score_adj", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil
		}
		s.fd = fd
		s.text = s.read(make([]byte, 16))
	}
	s.runs++
	return s
}

func (s *score) read(b []byte) []byte {
	n, _ := unix.Pread(s.fd, b, 0)
	return b[:max(0, n)]
}

// restore puts the score back, if it was changed.
func (s *score) restore() {
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.putBack()
	}
}

func (s *score) putBack() {
	var now [16]byte
	if !bytes.Equal(s.read(now[:]), s.text) {
		unix.Pwrite(s.fd, s.text, 0)
	}
}

// release is keep's counterpart.
func (s *score) release() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putBack()
	if s.runs--; s.runs == 0 {
		unix.Close(s.fd)
	}
}
