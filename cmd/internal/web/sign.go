package web

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"

	"py3run/audit"
)

// signInPage asks for a key. With a one-time token in its address it opens a session: such an address is
// printed for the one who has started the server.
func (s *Server) signInPage(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("token")
	if token == "" {
		s.askKey(w, r, http.StatusOK, "")
		return
	}
	if !s.token.use(token) {
		s.askKey(w, r, http.StatusForbidden, "This address has been used. Sign in with an API key, or start the pages again for another address.")
		return
	}
	who, err := s.Gate.Starter()
	s.open(w, r, who, err, "")
}

// signIn opens a session for the holder of a key.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimSpace(r.PostFormValue("key"))
	if key == "" {
		s.askKey(w, r, http.StatusUnprocessableEntity, "An API key is needed.")
		return
	}
	who, err := s.Gate.Holder(key)
	s.open(w, r, who, err, key)
}

// open opens a session, with a record. What cannot be recorded is not done.
func (s *Server) open(w http.ResponseWriter, r *http.Request, who Visitor, err error, key string) {
	if err == nil {
		err = who.Note(audit.SessionStarted, nil)
	}
	if err != nil {
		code, text := s.told(r, err)
		s.askKey(w, r, code, text)
		return
	}
	s.sessions.end(r)
	http.SetCookie(w, cookie(s.sessions.begin(key, zoneName(r.PostFormValue("zone")), s.Now())))
	// No redirect: where the address was opened from another site, the browser would not send a strict
	// cookie along. A page of ours leads on.
	s.simple(w, r, http.StatusOK, "welcome", nil)
}

// signOut ends the session.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	if found := s.sessions.of(r, s.Now()); found != nil {
		if who, err := s.visitor(found); err == nil {
			if err := who.Note(audit.SessionEnded, nil); err != nil {
				s.say(err)
			}
		}
	}
	s.sessions.end(r)
	http.SetCookie(w, cookie(""))
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// visitor is who stands behind a session, by the policy as it is now.
func (s *Server) visitor(of *session) (Visitor, error) {
	if of.key != "" {
		return s.Gate.Holder(of.key)
	}
	return s.Gate.Starter()
}

// signedIn lets those in who have a session.
func (s *Server) signedIn(p page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found := s.sessions.of(r, s.Now())
		if found == nil {
			if r.Header.Get("HX-Request") != "" { // a part of a page that is still open
				w.Header().Set("HX-Redirect", "/sign-in")
			}
			s.askKey(w, r, http.StatusUnauthorized, "")
			return
		}
		who, err := s.visitor(found)
		if err != nil {
			s.sessions.end(r)
			code, text := s.told(r, err)
			s.askKey(w, r, code, text)
			return
		}
		v := s.view(w, r, found, who, p)
		if err := v.checked(); err != nil {
			v.failed(err)
			return
		}
		if err := p.show(v); err != nil {
			v.failed(err)
		}
	})
}

// told is what a visitor learns of an error, and the code for it.
func (s *Server) told(r *http.Request, err error) (code int, text string) {
	if refused, ok := err.(Refusal); ok {
		text = refused.Error()
		if h := refused.Hint(); h != "" {
			text += ". Hint: " + h
		}
		return refused.Code(), text
	}
	s.say(fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err))
	return http.StatusInternalServerError, "py3runctl could not do that; its standard error says why."
}

// fault tells a panic.
func (s *Server) fault(r *http.Request, what any) {
	s.say(fmt.Errorf("%s %s: panic: %v\n%s", r.Method, r.URL.Path, what, debug.Stack()))
}
