package launch

import (
	"errors"
	"sync"
	"time"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/sandbox"
)

// A Series is what a process that has many runs, one after the other, makes once or ahead of time.
// Nothing in it holds state of a run:
//
//   - the interpreter, which is looked for again when its file changes;
//   - templates of its own (nil: none), whose workers are used once;
//   - a new, empty directory for the next run, and new memory to share with its interpreter, made while
//     nobody waits;
//   - the policy, which is read again when its file changes;
//   - the audit log, open, without anything of a record.
//
// A run of a series releases what it has acquired in Answer.Sweep, after its result.
type Series struct {
	templates *warm.Own
	log       seriesLog

	aside *aside // for what goes on beside a run; nil: there is none

	mu          sync.Mutex
	policy      *access.Policy // that was read last; nil: there was none
	found       bool
	interpreter python.Interpreter
	skipped     []python.Candidate
	kept        bool // it is in the cache
	root        string
	spare       *sandbox.SpareDir
	most        int64         // of the last run: bytes of its value
	memory      *python.Spare // for the next one
	swept       time.Time
}

const (
	sweepEvery = time.Minute     // how often a series looks for what killed launchers left
	seriesEnd  = 3 * time.Second // for the end of its templates
)

// NewSeries makes a series; warmly: with templates. Call Close at the end.
func NewSeries(warmly bool) *Series {
	s := &Series{aside: newAside()}
	if warmly {
		s.templates = warm.NewOwn()
	}
	return s
}

// Begin starts the template for runs like this job. It can go on while the first runs are under way.
// What fails here, a run will say.
func (s *Series) Begin(job Job) {
	plan, refused := locate(Plan{Job: job, RunID: newRunID(job.Began)})
	if refused == nil {
		plan, refused = complete(plan)
	}
	if setup, wanted := plan.template(); refused == nil && wanted && s.templates != nil {
		s.templates.Start(setup)
	}
}

// Next prepares for the next run. Call it when there is time: after the result of the last one.
func (s *Series) Next() {
	if s.templates != nil {
		s.templates.Refill()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spare == nil && s.root != "" {
		s.spare, _ = sandbox.MakeSpareDir(s.root, codeSuffix) // else a run makes its own, and says what fails
	}
	if s.memory == nil && s.root != "" && s.most > 0 {
		s.memory, _ = python.NewSpare(s.most) // likewise
	}
}

// Close ends what the series has.
func (s *Series) Close() (err error) {
	if s.templates != nil {
		err = s.templates.Close(seriesEnd)
	}
	s.aside.end()
	err = errors.Join(err, s.log.end())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	s.memory.Close()
	s.memory = nil
	if s.spare != nil {
		err = errors.Join(err, s.spare.Remove())
		s.spare = nil
	}
	return err
}

// readPolicy returns the policy that holds now.
func (s *Series) readPolicy(places []string) (*access.Policy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	policy, err := access.Load(places, s.policy)
	s.policy = policy
	return policy, err
}

// find returns the interpreter of the series. It looks for one if there is none yet, or if its file
// is another one now.
func (s *Series) find(look func() (python.Interpreter, []python.Candidate, error)) (python.Interpreter, []python.Candidate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found {
		if identity, err := python.Identify(s.interpreter.Path); err == nil && identity == s.interpreter.Identity {
			return s.interpreter, s.skipped, nil
		}
		s.forget()
	}
	ip, skipped, err := look()
	if err == nil {
		s.found, s.interpreter, s.skipped = true, ip, skipped
	}
	return ip, skipped, err
}

// forget drops the interpreter.
func (s *Series) forget() {
	if s.found {
		s.interpreter.Close()
		s.found, s.kept, s.interpreter, s.skipped = false, false, python.Interpreter{}, nil
	}
}

// keep keeps in the cache what was learned of the interpreter, once.
func (s *Series) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.kept {
		s.kept = true
		s.interpreter.Keep()
	}
}

// directory returns a directory that was made ahead, with an empty file of this suffix, if it is not empty; nil: there is none for this run.
func (s *Series) directory(d sandbox.Dir, suffix string) *sandbox.Workdir {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Private && !d.Keep {
		s.root = d.Root
	}
	if s.spare == nil {
		return nil
	}
	w, ok := s.spare.Use(d, suffix)
	if !ok {
		s.spare.Remove()
	}
	s.spare = nil
	return w
}

// session returns what was made ahead for the session of a run with this limit on its value; nil:
// nothing.
func (s *Series) session(most int64) *python.Spare {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	spare := s.memory
	s.memory, s.most = nil, most
	return spare
}

// sweepsOthers reports whether this run is to look for what killed launchers left.
func (s *Series) sweepsOthers() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.swept) < sweepEvery {
		return false
	}
	s.swept = time.Now()
	return true
}
