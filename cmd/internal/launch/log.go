package launch

import (
	"errors"
	"sync"

	"py3run/audit"
	"py3run/cmd/internal/wire"
)

// A runLog is the audit log as a run uses it. close gives it back.
type runLog struct {
	*audit.Log
	close func() error
}

// openLog opens the audit log for a run, with what there is to say about it.
func openLog(p Plan) (runLog, []wire.Warning, error) {
	if s := p.Job.Series; s != nil {
		return s.log.open(p)
	}
	log, warnings, err := newLog(p)
	if err != nil {
		return runLog{}, warnings, err
	}
	return runLog{log, log.Close}, warnings, nil
}

func newLog(p Plan) (*audit.Log, []wire.Warning, error) {
	log, err := audit.Open(p.Facts.AuditDir)
	if err != nil {
		return nil, nil, err
	}
	warnings, err := shareStrictly(log, p.Job.Config)
	if err != nil {
		log.Close()
		return nil, warnings, err
	}
	if fs := log.Network(); fs != "" {
		warnings = append(warnings, wire.Warning{Code: "audit_network",
			Message: "the audit log is on " + fs + ", where writers on several machines can break it; name a local directory with security.audit.dir"})
	}
	return log, warnings, nil
}

// A seriesLog is the audit log of a series. It stays open from run to run, as long as its path leads to
// the same directory.
type seriesLog struct {
	mu       sync.Mutex
	log      *audit.Log // nil: it is not open
	dir      string
	warnings []wire.Warning
	users    int // runs
}

func (s *seriesLog) open(p Plan) (runLog, []wire.Warning, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stale error
	if s.log != nil && (s.dir != p.Facts.AuditDir || !s.log.Stands()) {
		if s.users > 0 { // they end with the one that they have begun with
			log, warnings, err := newLog(p)
			if err != nil {
				return runLog{}, warnings, err
			}
			return runLog{log, log.Close}, warnings, nil
		}
		stale = s.end()
	}
	if s.log == nil {
		log, warnings, err := newLog(p)
		if err != nil {
			return runLog{}, warnings, errors.Join(stale, err)
		}
		log.Stay()
		s.log, s.dir, s.warnings = log, p.Facts.AuditDir, warnings
	}
	s.users++
	leave := func() error { // what went wrong with the log before belongs to no other run
		s.leave()
		return stale
	}
	return runLog{s.log, sync.OnceValue(leave)}, s.warnings, nil
}

func (s *seriesLog) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
}

// end closes the log. Its lock is held, or nobody uses it any more.
func (s *seriesLog) end() error {
	if s.log == nil {
		return nil
	}
	err := s.log.Close()
	s.log = nil
	return err
}
