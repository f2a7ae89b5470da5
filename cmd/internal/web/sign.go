package web

import (
	"net/http"
	"strings"

	"py3run/audit"
)

// A welcome is what the page shows that leads on after signing in.
type welcome struct{ Back string }

// An asking is what the page shows that asks for a key.
type asking struct {
	Problem string
	Back    string // where to go then
}

// signInPage asks for a key. With a one-time token in its address it opens a session: such an address is
// printed for the one who has started the server.
func (s *Server) signInPage(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("token")
	if token == "" || r.Method != http.MethodGet {
		s.askKey(w, r, http.StatusOK, "")
		return
	}
	if !s.token.use(token) {
		s.denied(w, r, refused(http.StatusForbidden, "This address has been used. Sign in with an API key, or start the pages again for another address", ""))
		return
	}
	who, err := s.Gate.Again("")
	s.open(w, r, who, "", err)
}

// signIn opens a session for the holder of a key.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimSpace(r.PostFormValue("key"))
	if key == "" {
		s.askKey(w, r, http.StatusUnprocessableEntity, "An API key is needed.")
		return
	}
	who, pass, err := s.Gate.Holder(key)
	s.open(w, r, who, pass, err)
}

// open opens a session, with a record. What cannot be recorded is not done.
func (s *Server) open(w http.ResponseWriter, r *http.Request, who Visitor, pass Pass, err error) {
	if err != nil {
		s.denied(w, r, err)
		return
	}
	if !s.fair.signIn(who.Name(), s.Now()) {
		w.Header().Set("Retry-After", "60")
		s.askKey(w, r, http.StatusTooManyRequests, "You have signed in too often within this minute. Wait a minute.")
		return
	}
	if err := who.Note(audit.SessionStarted, nil); err != nil {
		code, text := s.told(r, s.unrecorded(err, "Nobody can sign in"))
		s.askKey(w, r, code, text)
		return
	}
	s.leave(r, false)
	s.asked()
	s.sessions.set(w, s.sessions.begin(pass, zoneOf(r.PostFormValue("zone")), s.Now()))
	w.Header().Del("Connection")
	back := localPath(r.PostFormValue("back"))
	if r.Method == http.MethodPost { // a redirect keeps the form with the key out of the browser's history
		http.Redirect(w, r, back, http.StatusSeeOther)
		return
	}
	// No redirect: where the address was opened from another site, the browser would not send a strict
	// cookie along. A page of ours leads on.
	s.simple(w, r, http.StatusOK, "welcome", welcome{back})
}

// denied answers who could not sign in, with a record.
func (s *Server) denied(w http.ResponseWriter, r *http.Request, err error) {
	s.Gate.Denied(err)
	code, text := s.told(r, err)
	s.askKey(w, r, code, text)
}

// unrecorded tells why there is no record, and is what a visitor learns of that.
func (s *Server) unrecorded(err error, so string) error {
	s.say(err)
	return refused(http.StatusServiceUnavailable, so+", because the log cannot take a record of it; the standard error of py3runctl says why", "")
}

// signOut ends the session.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	s.leave(r, r.PostFormValue("everywhere") != "")
	s.sessions.set(w, "")
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// leave ends the session of a request, if it has one, with a record. That there is no record is no reason
// to keep somebody in.
func (s *Server) leave(r *http.Request, everywhere bool) {
	found, _ := s.sessions.of(r, s.Now())
	if found == nil {
		return
	}
	s.sessions.end(r, everywhere)
	if who, err := s.Gate.Again(found.pass); err == nil {
		if err := who.Note(audit.SessionEnded, nil); err != nil {
			s.say(err)
		}
	}
}

// signedIn lets those in who have a session.
func (s *Server) signedIn(p page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found, own := s.sessions.of(r, s.Now())
		if found == nil {
			if r.Header.Get("HX-Request") != "" { // a part of a page that is still open
				w.Header().Set("HX-Redirect", "/sign-in")
			}
			s.askKey(w, r, http.StatusUnauthorized, "")
			return
		}
		s.asked()
		who, err := s.Gate.Again(found.pass)
		if err != nil {
			code, text := s.told(r, err)
			if code < http.StatusInternalServerError { // not who was let in before
				s.sessions.end(r, false)
				s.sessions.set(w, "")
				s.askKey(w, r, code, text)
				return
			}
			s.message(w, r, code, text)
			return
		}
		if !s.fair.enter(who.Name()) {
			w.Header().Set("Retry-After", "1")
			s.message(w, r, http.StatusTooManyRequests, "Too many of your requests are answered at once. Try again when one of them has ended.")
			return
		}
		defer s.fair.leave(who.Name())
		v := s.view(w, r, found, who, p)
		v.own = own
		if err := v.checked(); err != nil {
			v.failed(err)
			return
		}
		if err := p.show(v); err != nil {
			v.failed(err)
		}
	})
}
