// Package web serves the pages of py3runctl: history, runs, usage, scripts, users, alerts, integrity and
// configuration, from the index and the log of one host, to the browsers of that host.
//
//	guard        what every request must satisfy: Host, origin, size, time, how many at once
//	session      who has signed in: a key or a one-time token for a cookie
//	view         one request of somebody who has signed in: query, zone, numbers
//	pages        what each address shows; a page reads the index, never the whole log
//	plot         figures as SVG, each with the table of its data
//
// The pages decide nothing: a [Visitor] says what may be seen and done, and does it. It is made by the
// command, which asks the same policy as its other commands.
package web

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"py3run/cmd/internal/store"
)

// Options are what a server needs.
type Options struct {
	Gate    Gate
	Index   func() (*store.Index, error) // the open index; it changes when the file is made anew
	Damaged func()                       // the index turned out to be damaged; nil: nobody mends it
	Zone    *time.Location               // of times, until a visitor chooses another
	Hosts   []string                     // values of the header Host that are accepted, as "127.0.0.1:8731"
	Idle    time.Duration                // without a request of a visitor for so long, Serve returns; 0: never
	Fresh   func() Fresh                 // how far the index is
	Log     func(error)                  // faults of the server itself
	Now     func() time.Time
}

// Fresh is how far the index is behind the log.
type Fresh struct {
	Behind uint64    // records
	At     time.Time // when the index was last brought up to date
	Err    error     // why that failed, nil: it did not
}

// A Server serves the pages. [New] makes one.
type Server struct {
	Options
	token    oneTime
	sessions sessions
	places   chan struct{} // of requests that are answered now
	fair     fair
	patience time.Duration // of a request that waits for a place
	last     atomic.Int64  // when the last request of a visitor came, in nanoseconds since began
	jobs     jobs
	began    time.Time
	voice    voice
	nav      []navItem

	verification verification
}

// New makes a server, and the one-time token for its first visitor.
func New(o Options) (s *Server, token string) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Zone == nil {
		o.Zone = time.Local
	}
	s = &Server{Options: o, began: time.Now(), places: make(chan struct{}, mostRequests), patience: placePatience}
	s.sessions.cookie = cookieName(o.Hosts)
	for _, p := range pages() {
		if p.nav != "" {
			s.nav = append(s.nav, navItem{Path: p.path(), Name: p.nav, needs: p.needs})
		}
	}
	return s, s.token.renew()
}

// Bounds on what clients can make the server do.
const (
	mostConnections = 64
	mostRequests    = 16 // at once
	mostHeaderBytes = 16 << 10
	mostBodyBytes   = 1 << 20
	mostFormBytes   = 4 << 10 // of who has not signed in
	headerPatience  = 5 * time.Second
	bodyPatience    = 15 * time.Second // headers and body
	placePatience   = 5 * time.Second
	answerPatience  = 60 * time.Second
	restPatience    = 30 * time.Second // between two requests of a connection
	endPatience     = 2 * time.Second  // of requests under way, when the server ends
)

// Serve answers requests until the context ends, or for the idle time no visitor has asked.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), MaxHeaderBytes: mostHeaderBytes, ReadHeaderTimeout: headerPatience, ReadTimeout: bodyPatience,
		WriteTimeout: answerPatience, IdleTimeout: restPatience, ErrorLog: s.errorLog(), DisableGeneralOptionsHandler: true,
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.untilIdle(ctx)
		patience, cancel := context.WithTimeout(context.Background(), endPatience)
		defer cancel()
		if server.Shutdown(patience) != nil {
			server.Close()
		}
	}()
	err := server.Serve(bounded(l, mostConnections))
	stop()
	s.verification.end(errEnding)
	<-ended
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// asked notes that a visitor has asked: the server is not idle.
func (s *Server) asked() { s.last.Store(int64(time.Since(s.began))) }

// untilIdle returns when the context ends, or when no request has come for the idle time.
func (s *Server) untilIdle(ctx context.Context) {
	s.asked()
	for {
		left := time.Hour
		if s.Idle > 0 {
			left = s.Idle - (time.Since(s.began) - time.Duration(s.last.Load()))
		}
		if left <= 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(left):
		}
	}
}

// Handler is all of the server behind the listener.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, p := range pages() {
		mux.Handle(p.route, s.signedIn(p))
	}
	mux.HandleFunc("GET /sign-in", s.signInPage)
	mux.HandleFunc("POST /sign-in", s.signIn)
	mux.HandleFunc("POST /sign-out", s.signOut)
	mux.HandleFunc("GET /static/{name}", s.static)
	return s.guarded(s.friendly(mux))
}
