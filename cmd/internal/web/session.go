package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"sync"
	"time"
)

// A oneTime is a token that opens one session.
type oneTime struct {
	mu   sync.Mutex
	hash *[32]byte // nil: it was used
}

// secret is 256 random bits as text.
func secret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// renew makes a new token; the old one is worth nothing any more.
func (o *oneTime) renew() string {
	text := secret()
	hash := sha256.Sum256([]byte(text))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hash = &hash
	return text
}

// use reports whether this is the token, which it can be once.
func (o *oneTime) use(text string) bool {
	hash := sha256.Sum256([]byte(text))
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hash == nil || subtle.ConstantTimeCompare(hash[:], o.hash[:]) != 1 {
		return false
	}
	o.hash = nil
	return true
}

// A session is what a cookie stands for. It says whom to ask for, not what that one may: a key that was
// revoked opens nothing more.
type session struct {
	pass  Pass // empty: the starter of the server
	began time.Time
	used  time.Time
	zone  *time.Location         // that the visitor has chosen; nil: the server's
	noted map[[32]byte]time.Time // what was looked at, by its hash, and when that was last recorded
}

const (
	mostSessions = 100
	mostOfOne    = 10 // sessions of the same key
	sessionIdle  = 30 * time.Minute
	sessionLong  = 12 * time.Hour
	mostNoted    = 1000
)

// sessions are the open ones, by the hash of the cookie's value.
type sessions struct {
	cookie string // name of the cookie
	mu     sync.Mutex
	open   map[[32]byte]*session
}

// begin opens a session, and returns the value for its cookie. Where there are too many, of one visitor or
// at all, the one that was unused for longest ends.
func (all *sessions) begin(pass Pass, zone *time.Location, now time.Time) string {
	value := secret()
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.open == nil {
		all.open = map[[32]byte]*session{}
	}
	all.sweep(now)
	all.makeRoom(mostOfOne, func(s *session) bool { return s.pass == pass })
	all.makeRoom(mostSessions, func(*session) bool { return true })
	all.open[sha256.Sum256([]byte(value))] = &session{pass: pass, zone: zone, began: now, used: now, noted: map[[32]byte]time.Time{}}
	return value
}

// makeRoom ends sessions until there are less than so many of a kind.
func (all *sessions) makeRoom(most int, kind func(*session) bool) {
	for {
		n, oldest := 0, [32]byte{}
		for id, s := range all.open {
			if !kind(s) {
				continue
			}
			if o := all.open[oldest]; o == nil || s.used.Before(o.used) {
				oldest = id
			}
			n++
		}
		if n < most {
			return
		}
		delete(all.open, oldest)
	}
}

// sweep removes what is too old.
func (all *sessions) sweep(now time.Time) {
	for id, s := range all.open {
		if now.Sub(s.used) > sessionIdle || now.Sub(s.began) > sessionLong {
			delete(all.open, id)
		}
	}
}

// with gives the session of a request to a function that changes it, and reports whether there is one.
func (all *sessions) with(r *http.Request, change func(id [32]byte, s *session)) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, id := range all.idsOf(r) {
		if s := all.open[id]; s != nil {
			change(id, s)
			return true
		}
	}
	return false
}

// known reports whether a request has a session; it does not count as a use of it.
func (all *sessions) known(r *http.Request, now time.Time) (known bool) {
	all.with(r, func(_ [32]byte, s *session) {
		known = now.Sub(s.used) <= sessionIdle && now.Sub(s.began) <= sessionLong
	})
	return known
}

// of returns a copy of the session of a request, and how many its visitor has; nil: there is none.
func (all *sessions) of(r *http.Request, now time.Time) (found *session, own int) {
	all.mu.Lock()
	all.sweep(now)
	all.mu.Unlock()
	all.with(r, func(_ [32]byte, s *session) {
		s.used = now
		is := *s
		found = &is
		for _, other := range all.open {
			if other.pass == s.pass {
				own++
			}
		}
	})
	return found, own
}

// end closes the session of a request, and with everywhere all sessions of the same visitor.
func (all *sessions) end(r *http.Request, everywhere bool) {
	all.with(r, func(id [32]byte, s *session) {
		delete(all.open, id)
		for other, o := range all.open {
			if everywhere && o.pass == s.pass {
				delete(all.open, other)
			}
		}
	})
}

// choose sets the zone of the session of a request.
func (all *sessions) choose(r *http.Request, zone *time.Location) {
	all.with(r, func(_ [32]byte, s *session) { s.zone = zone })
}

// noteAgain is how long one record stands for further looks of the same session at the same thing.
const noteAgain = 10 * time.Minute

// notes reports whether a look at something is to be recorded: the first of a session, and then one each
// ten minutes.
func (all *sessions) notes(r *http.Request, what string, now time.Time) bool {
	again := false
	all.with(r, func(_ [32]byte, s *session) {
		last, seen := s.noted[sha256.Sum256([]byte(what))]
		again = seen && now.Sub(last) < noteAgain && !now.Before(last)
	})
	return !again
}

// hasNoted keeps that a look was recorded.
func (all *sessions) hasNoted(r *http.Request, what string, now time.Time) {
	all.with(r, func(_ [32]byte, s *session) {
		if len(s.noted) >= mostNoted {
			clear(s.noted)
		}
		s.noted[sha256.Sum256([]byte(what))] = now
	})
}

// idsOf are the ids of sessions that cookies of a request can stand for: another server of this host can
// have set one of the same name, which the browser sends first.
func (all *sessions) idsOf(r *http.Request) (ids [][32]byte) {
	for _, c := range r.CookiesNamed(all.cookie) {
		if len(c.Value) <= 100 && len(ids) < 8 {
			ids = append(ids, sha256.Sum256([]byte(c.Value)))
		}
	}
	return ids
}

// set gives the browser the cookie with a session's value; an empty value removes it. The pages come by
// plain HTTP from this host, so it is not marked Secure: some browsers would not send it.
func (all *sessions) set(w http.ResponseWriter, value string) {
	c := &http.Cookie{Name: all.cookie, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// cookieName has the port in it: browsers send the cookies of a host to all its ports, and another server
// of this host must not replace ours.
func cookieName(hosts []string) string {
	if len(hosts) > 0 {
		if _, port, err := net.SplitHostPort(hosts[0]); err == nil {
			return "py3run-" + port
		}
	}
	return "py3run"
}
