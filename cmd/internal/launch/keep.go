package launch

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/wire"
)

// A Keeper does jobs as [Run] does, in interpreters that it keeps between the jobs: globals,
// modules and everything else of an interpreter stay for the next job of the same identity. No two
// identities ever share an interpreter. The identity of a job is its user, how that is known, and the
// user of the key that has named it.
//
// Each job has records, limits, verdict and usage of its own. An interpreter ends when a job dies in
// it or reaches a limit, when it was not used for security.idle-timeout-seconds, when a ninth
// identity needs its place, and when a job needs other settings than it was started with. The
// reply that is concerned has the warning state_lost.
//
// All jobs of a Keeper have the same configuration, environment and caller, apart from what the policy
// makes of it for their users. Several goroutines can
// call its methods at once; jobs of one identity wait for each other.
type Keeper struct {
	mu     sync.Mutex
	slots  map[string]*slot
	lost   []loss // newest last
	closed bool
	failed []error        // of interpreters that were ended while nobody waited
	ending sync.WaitGroup // interpreters that are ended
}

// A slot is the place of one identity.
type slot struct {
	identity string
	used     time.Time // the last use began or ended; Keeper.mu protects it
	jobs     int       // that use it or wait for it; likewise

	mu    sync.Mutex
	kept  *kept       // nil: there is no interpreter now
	timer *time.Timer // looks whether nobody uses the interpreter any more; nil: nobody will look. Keeper.mu protects it
}

// A loss is why an identity has lost its state, until its next reply says so.
type loss struct{ identity, why string }

const (
	keptMost = 8    // identities
	lossMost = 1024 // losses that are remembered
)

// NewKeeper returns a Keeper without interpreters.
func NewKeeper() *Keeper { return &Keeper{slots: map[string]*slot{}} }

// identityKey tells identities apart. A user that a request asserts is another one than the
// operating-system user of that name.
func identityKey(p Plan) string {
	who := p.user()
	return identityName(who.method, who.name, p.Grant.Holder)
}

func identityName(method audit.AuthMethod, user, holder string) string {
	return string(method) + "\x00" + user + "\x00" + holder
}

// Run does the job. Commands that run no code, and jobs for which all places are in use, run in a
// sandbox of their own.
func (k *Keeper) Run(job Job) Answer {
	if !job.Request.Command.RunsCode() || job.Live != nil {
		return Run(job)
	}
	r := newRun(job)
	if e, done := r.admit(); done {
		k.revoke(r, e)
		return r.conclude(e)
	}
	if r.plan.Unread { // a later request would find its functions, and with them its code
		r.plan.Job.Warnings = append(slices.Clip(job.Warnings), wire.Warning{Code: "not_kept", Message: "this user may run the script and not read it: this request ran in a new interpreter, which nothing is kept of"})
		return r.carryOut()
	}
	s := k.take(identityKey(r.plan))
	if s == nil {
		r.plan.Job.Warnings = append(slices.Clip(job.Warnings), wire.Warning{Code: "not_kept", Message: "all interpreters that can be kept are in use: this request ran in a new one"})
		return r.carryOut()
	}
	defer k.give(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	return k.serve(s, r)
}

// revoke ends the interpreters that the policy no longer lets run code: if it does so again, they begin
// anew. Of a user who is disabled, or whose key is, these are all that it has started; of a user who may not
// do something, it is the one of the same identity. A key that was not accepted says nothing about a user.
func (k *Keeper) revoke(r *run, e Evidence) {
	if e.Refused == nil || e.Refused.denial == nil {
		return
	}
	d, same := e.Refused.denial, identityKey(r.plan)
	if d.Holder != "" { // as long as its key could name the user, that one was proved
		same = identityName(audit.AuthAPIKey, d.User, d.Holder)
	}
	var concerns func(identity string) bool
	switch d.Code {
	case access.DisabledUser, access.RevokedKey, access.ExpiredKey:
		concerns = func(identity string) bool {
			_, names, _ := strings.Cut(identity, "\x00")
			user, holder, _ := strings.Cut(names, "\x00")
			return user == d.User || holder == d.User
		}
	case access.MissingRole, access.MayNotAssert, access.UnknownUser, access.AssertedAdmin, identityRequired:
		concerns = func(identity string) bool { return identity == same }
	default:
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.slots {
		if s.jobs == 0 && concerns(s.identity) {
			k.drop(s, "the policy did not let this user run code")
		}
	}
}

// take returns the place of an identity. If there are too many, the one that was not used for the
// longest time goes. nil: all are in use.
func (k *Keeper) take(identity string) *slot {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.slots[identity]
	if s == nil {
		if k.closed || len(k.slots) >= keptMost && !k.evict() {
			return nil
		}
		s = &slot{identity: identity}
		k.slots[identity] = s
	}
	k.occupy(s)
	return s
}

// occupy keeps a place from being given up. Keeper.mu is locked.
func (k *Keeper) occupy(s *slot) { s.jobs++ }

// give is the counterpart of take. From the last use on, the time counts after which the interpreter ends.
func (k *Keeper) give(s *slot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s.jobs--
	if s.used = time.Now(); s.jobs > 0 {
		return
	}
	if s.kept == nil {
		delete(k.slots, s.identity)
		return
	}
	if idle := seconds(s.kept.plan.Job.Config.Security.IdleTimeoutSeconds); idle > 0 && s.timer == nil {
		s.timer = time.AfterFunc(idle, func() { k.expire(s, idle) })
	}
}

// evict ends the interpreter that was not used for the longest time. Keeper.mu is locked.
func (k *Keeper) evict() bool {
	var oldest *slot
	for _, s := range k.slots {
		if s.jobs == 0 && (oldest == nil || s.used.Before(oldest.used)) {
			oldest = s
		}
	}
	if oldest == nil {
		return false
	}
	k.drop(oldest, fmt.Sprintf("%d other users had requests since", keptMost))
	return true
}

// drop ends the interpreter of a place that nobody uses. Keeper.mu is locked.
func (k *Keeper) drop(s *slot, why string) {
	delete(k.slots, s.identity)
	old := s.kept
	if s.kept = nil; old == nil {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	k.lost = lose(k.lost, s.identity, why)
	k.ending.Go(func() {
		failed := old.end()
		k.mu.Lock()
		defer k.mu.Unlock()
		k.failed = append(k.failed, failed...)
	})
}

// discard ends the interpreter of a place that is locked.
func (k *Keeper) discard(s *slot, why string) {
	old := s.kept
	if s.kept = nil; old == nil {
		return
	}
	failed := old.end()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed = append(k.failed, failed...)
	k.lost = lose(k.lost, s.identity, why)
}

// lose adds a loss to a list of them.
func lose(list []loss, identity, why string) []loss {
	list = slices.DeleteFunc(list, func(l loss) bool { return l.identity == identity })
	if len(list) == lossMost {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, loss{identity, why})
}

// found returns why an identity has lost its state, once; empty: it has not.
func (k *Keeper) found(identity string) (why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost = slices.DeleteFunc(k.lost, func(l loss) bool {
		if l.identity == identity {
			why = l.why
		}
		return l.identity == identity
	})
	return why
}

// Clear gives the identity of a job new globals: its next job begins with them, and what the old
// ones held is freed then. Modules stay loaded. It returns the refusal of a job whose key is not
// accepted; nil: it was not refused. A nil Keeper only looks at the key.
func (k *Keeper) Clear(job Job) *wire.Result {
	defer job.Request.Key.Forget()
	plan, _, refused := identified(newRun(job).plan, k == nil)
	if refused != nil {
		r := outline(plan, fail(refused.status, refused.failure))
		return &r
	}
	if k == nil {
		return nil
	}
	k.mu.Lock()
	s := k.slots[identityKey(plan)]
	if s == nil {
		k.mu.Unlock()
		return nil
	}
	k.occupy(s)
	k.mu.Unlock()
	defer k.give(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept != nil {
		s.kept.fresh = true
	}
	return nil
}

// expire ends an interpreter that nobody has used for so long. One timer serves many jobs: to set one
// after each would wake a thread.
func (k *Keeper) expire(s *slot, idle time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s.timer = nil
	if k.slots[s.identity] != s {
		return
	}
	if left := idle - time.Since(s.used); s.jobs > 0 || left > 0 {
		s.timer = time.AfterFunc(max(left, idle/16), func() { k.expire(s, idle) })
		return
	}
	k.drop(s, fmt.Sprintf("nobody has used it for %v (security.idle-timeout-seconds)", idle))
}

// Close ends all interpreters, and returns when they are gone. Call it when no job is under way.
func (k *Keeper) Close() []error {
	k.mu.Lock()
	k.closed = true
	for _, s := range k.slots {
		k.drop(s, "")
	}
	k.mu.Unlock()
	k.ending.Wait()
	return k.failures()
}

// failures returns the errors of interpreters that were ended while nobody waited, once.
func (k *Keeper) failures() []error {
	k.mu.Lock()
	defer k.mu.Unlock()
	failed := k.failed
	k.failed = nil
	return failed
}
