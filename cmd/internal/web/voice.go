package web

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"py3run/cmd/internal/store"
)

// A voice bounds what the server says of its faults: requests that meet the same fault again and again
// are no reason to fill a terminal or a journal.
type voice struct {
	mu    sync.Mutex
	since time.Time
	said  int
}

const (
	mostSaid  = 20 // a minute
	mostWords = 4 << 10
)

// say tells a fault of the server.
func (s *Server) say(err error) {
	if s.Log == nil {
		return
	}
	s.voice.mu.Lock()
	defer s.voice.mu.Unlock()
	if now := s.Now(); now.Sub(s.voice.since) >= time.Minute || now.Before(s.voice.since) {
		s.voice.since, s.voice.said = now, 0
	}
	switch s.voice.said++; {
	case s.voice.said < mostSaid:
		text := err.Error()
		if len(text) > mostWords {
			err = errors.New(strings.ToValidUTF8(text[:mostWords], "") + " …")
		}
		s.Log(err)
	case s.voice.said == mostSaid:
		s.Log(errors.New("more messages within this minute are left out"))
	}
}

// told is what a visitor learns of an error, and the code for it.
func (s *Server) told(r *http.Request, err error) (code int, text string) {
	var refused Refusal
	if errors.As(err, &refused) {
		text = refused.Error()
		if h := refused.Hint(); h != "" {
			text += ". Hint: " + h
		}
		return refused.Code(), text
	}
	if r.Context().Err() != nil { // nobody waits for the answer, and that was the reason
		return http.StatusServiceUnavailable, "The request was given up."
	}
	s.say(fmt.Errorf("%s: %w", named(r), err))
	if errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrVersion) {
		if s.Damaged != nil {
			s.Damaged()
		}
		return http.StatusServiceUnavailable, "The index is damaged, and is made anew from the log. Try again in a moment."
	}
	return http.StatusInternalServerError, "py3runctl could not do that; its standard error says why."
}

// caught answers after a panic, and tells it.
func (s *Server) caught(w http.ResponseWriter, r *http.Request) {
	fault := recover()
	if fault == nil {
		return
	}
	if fault == http.ErrAbortHandler {
		panic(fault)
	}
	s.say(fmt.Errorf("%s: panic: %.500v\n%s", named(r), fault, debug.Stack()))
	http.Error(w, "py3runctl has a fault; its standard error says which", http.StatusInternalServerError)
}

// named is a request for a message.
func named(r *http.Request) string { return fmt.Sprintf("%.20s %.200q", r.Method, r.URL.Path) }

// errorLog passes what net/http says to the server's own messages.
func (s *Server) errorLog() *log.Logger {
	return log.New(lines(func(line string) { s.say(errors.New(line)) }), "", 0)
}

type lines func(string)

func (f lines) Write(b []byte) (int, error) {
	f(strings.TrimSpace(string(b)))
	return len(b), nil
}
