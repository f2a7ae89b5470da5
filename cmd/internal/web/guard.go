package web

import (
	"bytes"
	"embed"
	"errors"
	"io/fs"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed static
var staticFiles embed.FS

// static serves the style sheet and the scripts: they are this program's own, so browsers may keep them.
func static() http.Handler {
	files, err := fs.Sub(staticFiles, "static")
	if err != nil {
		panic(err)
	}
	serve := http.StripPrefix("/static/", http.FileServerFS(files))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") { // no lists of files
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "max-age=3600")
		serve.ServeHTTP(w, r)
	})
}

// policy is the Content-Security-Policy of every answer: nothing from elsewhere, nothing in line.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guarded is what every request goes through, from the outside to the inside: headers, the name of the
// host, where the request comes from, how many there are, how long they are.
func (s *Server) guarded(next http.Handler) http.Handler {
	places := make(chan struct{}, mostRequests)
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "this request comes from another site", http.StatusForbidden)
	}))
	inner := crossOrigin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		// A page of elsewhere can let its own name lead to this address (DNS rebinding), but not send
		// another Host than that name.
		if !slices.Contains(s.Hosts, strings.ToLower(r.Host)) {
			http.Error(w, "this server has another name", http.StatusMisdirectedRequest)
			return
		}
		if asks(r) && foreign(r) {
			http.Error(w, "this request comes from another site", http.StatusForbidden)
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		case <-r.Context().Done():
			return
		case <-time.After(headerPatience):
			h.Set("Retry-After", "1")
			http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
			return
		}
		s.last.Store(int64(time.Since(s.began)))
		r.Body = http.MaxBytesReader(w, r.Body, mostBodyBytes)
		defer s.caught(w, r)
		inner.ServeHTTP(w, r)
	})
}

// foreign reports whether another site embeds or fetches a page of ours. A link from elsewhere is a
// navigation, which is nobody's to read but the visitor's.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// caught answers after a panic, and tells it.
func (s *Server) caught(w http.ResponseWriter, r *http.Request) {
	fault := recover()
	if fault == nil {
		return
	}
	if fault == http.ErrAbortHandler { // net/http breaks the connection off
		panic(fault)
	}
	s.fault(r, fault)
	http.Error(w, "py3runctl has a fault; its standard error says which", http.StatusInternalServerError)
}

// errorLog passes what net/http says to the server's own messages, without what clients cause.
func (s *Server) errorLog() *log.Logger {
	return log.New(lines(func(line string) {
		if !strings.Contains(line, "TLS handshake") {
			s.say(errors.New(line))
		}
	}), "", 0)
}

type lines func(string)

func (f lines) Write(b []byte) (int, error) {
	f(string(bytes.TrimSpace(b)))
	return len(b), nil
}

func (s *Server) say(err error) {
	if s.Log != nil {
		s.Log(err)
	}
}

// bounded is a listener with at most so many connections open at once.
func bounded(l net.Listener, most int) net.Listener {
	return &boundedListener{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &boundedConn{Conn: c, free: sync.OnceFunc(func() { <-l.places })}, nil
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	free func()
}

func (c *boundedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
