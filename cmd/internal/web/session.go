package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
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

// A session is what a cookie stands for. It says who to ask for, not who it is: a key that was revoked
// opens nothing more.
type session struct {
	key   string // API key; empty: the starter of the server
	began time.Time
	used  time.Time
	zone  string               // that the visitor has chosen; empty: the server's
	form  string               // secret of the session's forms
	noted map[string]time.Time // what was looked at, and when that was last recorded
}

const (
	cookieName   = "py3run"
	mostSessions = 100
	sessionIdle  = 30 * time.Minute
	sessionLong  = 12 * time.Hour
)

// sessions are the open ones, by the hash of the cookie's value.
type sessions struct {
	mu   sync.Mutex
	open map[[32]byte]*session
}

// begin opens a session, and returns the value for its cookie. When there are too many, the one that was
// unused for longest ends.
func (all *sessions) begin(key, zone string, now time.Time) string {
	value := secret()
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.open == nil {
		all.open = map[[32]byte]*session{}
	}
	all.sweep(now)
	for len(all.open) >= mostSessions {
		var oldest [32]byte
		for id, s := range all.open {
			if o := all.open[oldest]; o == nil || s.used.Before(o.used) {
				oldest = id
			}
		}
		delete(all.open, oldest)
	}
	all.open[sha256.Sum256([]byte(value))] = &session{key: key, zone: zone, began: now, used: now, form: secret(), noted: map[string]time.Time{}}
	return value
}

// sweep removes what is too old.
func (all *sessions) sweep(now time.Time) {
	for id, s := range all.open {
		if now.Sub(s.used) > sessionIdle || now.Sub(s.began) > sessionLong {
			delete(all.open, id)
		}
	}
}

// of returns a copy of the session of a request; nil: there is none.
func (all *sessions) of(r *http.Request, now time.Time) *session {
	id, ok := cookieOf(r)
	if !ok {
		return nil
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	all.sweep(now)
	s := all.open[id]
	if s == nil {
		return nil
	}
	s.used = now
	found := *s
	return &found
}

// end closes the session of a request.
func (all *sessions) end(r *http.Request) {
	if id, ok := cookieOf(r); ok {
		all.mu.Lock()
		defer all.mu.Unlock()
		delete(all.open, id)
	}
}

// choose sets the zone of the session of a request.
func (all *sessions) choose(r *http.Request, zone string) {
	if id, ok := cookieOf(r); ok {
		all.mu.Lock()
		defer all.mu.Unlock()
		if s := all.open[id]; s != nil {
			s.zone = zone
		}
	}
}

// noteAgain is how long one record stands for further looks of the same session at the same thing.
const noteAgain = 10 * time.Minute

// notes reports whether a look at something is to be recorded: the first of a session, and then one each
// ten minutes.
func (all *sessions) notes(r *http.Request, what string, now time.Time) bool {
	id, ok := cookieOf(r)
	if !ok {
		return true
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	s := all.open[id]
	if s == nil {
		return true
	}
	if last, seen := s.noted[what]; seen && now.Sub(last) < noteAgain {
		return false
	}
	if len(s.noted) > 1000 {
		clear(s.noted)
	}
	s.noted[what] = now
	return true
}

func cookieOf(r *http.Request) (id [32]byte, ok bool) {
	c, err := r.Cookie(cookieName)
	if err != nil || len(c.Value) > 100 {
		return id, false
	}
	return sha256.Sum256([]byte(c.Value)), true
}

// cookie is the cookie with a session's value; an empty value removes it. The pages come by plain HTTP
// from this host, so it is not marked Secure: some browsers would not send it.
func cookie(value string) *http.Cookie {
	c := &http.Cookie{Name: cookieName, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}
