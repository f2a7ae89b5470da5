package web

import (
	"sync"
	"time"
)

// A fair bounds what one visitor, with all keys and sessions, takes of what all share: places of requests,
// and records of signing in.
type fair struct {
	mu sync.Mutex
	of map[string]*share // by the name of the visitor, whom the policy knows: there are few
}

type share struct {
	requests int       // that are answered now
	minute   time.Time // when the minute began in which sign-ins are counted
	signIns  int
}

const (
	mostOfVisitor = mostRequests / 2 // at once
	mostSignIns   = 30               // a minute
)

// with gives a visitor's share to a function.
func (f *fair) with(who string, do func(*share)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[string]*share{}
	}
	if f.of[who] == nil {
		f.of[who] = &share{}
	}
	do(f.of[who])
}

// enter reports whether a request of a visitor may begin; then leave ends it.
func (f *fair) enter(who string) (may bool) {
	f.with(who, func(s *share) {
		if may = s.requests < mostOfVisitor; may {
			s.requests++
		}
	})
	return may
}

func (f *fair) leave(who string) { f.with(who, func(s *share) { s.requests-- }) }

// signIn reports whether a visitor may sign in once more: each time is a record.
func (f *fair) signIn(who string, now time.Time) (may bool) {
	f.with(who, func(s *share) {
		if now.Sub(s.minute) >= time.Minute || now.Before(s.minute) {
			s.minute, s.signIns = now, 0
		}
		s.signIns++
		may = s.signIns <= mostSignIns
	})
	return may
}
