package web

import (
	"errors"
	"sync"
	"time"

	"py3run/audit"
)

// A Verified is what a verification has found.
type Verified struct {
	Verdict  string // as py3runctl audit verify has it: ok, empty, warning, broken or unreadable
	Words    string // the same as a sentence
	Reach    string // how far the proof goes; empty: the records do not form one chain
	Counts   string // what was looked at
	First    uint64
	Last     uint64
	Segments []audit.Segment
	Unread   []string // names of segments
	Findings []audit.Finding
	Omitted  int // findings that were only counted
}

// A verification is what the server keeps of verifying the log: at most one is under way, and the result of
// the newest stays until the server ends.
type verification struct {
	mu     sync.Mutex
	under  *underway // nil: none is under way
	latest *latest   // nil: there was none
}

// underway is a verification that has begun.
type underway struct {
	By       string
	Began    time.Time
	Progress audit.Progress
	seen     time.Time // when a page has last shown it
	stop     error     // why it is to end
}

// latest is the newest verification that has ended.
type latest struct {
	Verified
	By    string
	Began time.Time
	Took  time.Duration
	Err   error // why there is no result
}

// verifyPatience is how long a verification goes on that nobody looks at.
const verifyPatience = 10 * time.Minute

var (
	errStopped   = errors.New("it was stopped")
	errUnwatched = errors.New("it was stopped: nobody has looked at this page for a while")
	errEnding    = errors.New("it was stopped: the server ends")
)

// begin starts a verification, unless one is under way.
func (v *verification) begin(by string, now func() time.Time, do func(told func(audit.Progress) error) (Verified, error)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.under != nil {
		return
	}
	u := &underway{By: by, Began: now(), seen: now()}
	v.under = u
	go func() {
		rep, err := do(func(p audit.Progress) error { return v.told(u, p, now()) })
		v.mu.Lock()
		defer v.mu.Unlock()
		v.under, v.latest = nil, &latest{Verified: rep, By: by, Began: u.Began, Took: now().Sub(u.Began), Err: err}
	}()
}

// told notes how far it is, and says why it has to end.
func (v *verification) told(u *underway, p audit.Progress, now time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	u.Progress = p
	if u.stop == nil && now.Sub(u.seen) > verifyPatience {
		u.stop = errUnwatched
	}
	return u.stop
}

// end ends what is under way, at its next block.
func (v *verification) end(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.under != nil {
		v.under.stop = why
	}
}

// look is what a page shows: copies.
func (v *verification) look(now time.Time) (*underway, *latest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var u *underway
	if v.under != nil {
		v.under.seen = now
		copied := *v.under
		u = &copied
	}
	var l *latest
	if v.latest != nil {
		copied := *v.latest
		copied.Findings = append([]audit.Finding(nil), v.latest.Findings...)
		l = &copied
	}
	return u, l
}

// acknowledged notes in the result that somebody has looked into a finding.
func (v *verification) acknowledged(id string, a *audit.Acknowledgement) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.latest == nil {
		return
	}
	for i := range v.latest.Findings {
		if v.latest.Findings[i].ID == id {
			v.latest.Findings[i].Acknowledged = a
		}
	}
}
