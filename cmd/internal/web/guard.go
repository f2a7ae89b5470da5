package web

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// policy is the Content-Security-Policy of every answer: nothing from elsewhere, nothing in line.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guarded is what every request goes through, from the outside to the inside: headers, the name of the
// host, where the request comes from, how long it is, how many there are.
func (s *Server) guarded(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		known := s.sessions.known(r, s.Now())
		if !known { // a stranger keeps no connection open
			h.Set("Connection", "close")
		}
		// A page of elsewhere can let its own name lead to this address (DNS rebinding), but not send
		// another Host than that name.
		if !slices.Contains(s.Hosts, strings.ToLower(r.Host)) {
			http.Error(w, "this server has another name; --host of py3runctl serve adds one", http.StatusMisdirectedRequest)
			return
		}
		if crossOrigin.Check(r) != nil || asks(r) && foreign(r) {
			http.Error(w, "this request comes from another site", http.StatusForbidden)
			return
		}
		// The whole of the request is here before it takes a place: slow clients keep nobody out.
		if !s.readBody(w, r, known) {
			return
		}
		select {
		case s.places <- struct{}{}:
			defer func() { <-s.places }()
		case <-r.Context().Done():
			return
		case <-time.After(s.patience):
			h.Set("Retry-After", "1")
			http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
			return
		}
		defer s.caught(w, r)
		next.ServeHTTP(w, r)
	})
}

// foreign reports whether another site embeds or fetches a page of ours. A link from elsewhere is a
// navigation, which is nobody's to read but the visitor's.
func foreign(r *http.Request) bool {
	site, dest := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Dest")
	link := r.Header.Get("Sec-Fetch-Mode") == "navigate" && (dest == "document" || dest == "")
	return (site == "cross-site" || site == "same-site") && !link
}

// readBody reads what belongs to a request, and reports whether it could.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, known bool) bool {
	most := int64(mostFormBytes)
	if known {
		most = mostBodyBytes
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err == nil {
		r.Body = io.NopCloser(bytes.NewReader(text))
		return true
	}
	code, why := http.StatusBadRequest, "the request is not complete"
	if errors.As(err, new(*http.MaxBytesError)) {
		code, why = http.StatusRequestEntityTooLarge, "the request is too large"
	}
	w.Header().Set("Connection", "close")
	http.Error(w, why, code)
	return false
}

// friendly answers with a page where there is nothing for a request.
func (s *Server) friendly(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		// This can also lead to the same path in another spelling.
		bare := headOnly{ResponseWriter: w}
		h.ServeHTTP(&bare, r)
		switch bare.code {
		case http.StatusNotFound:
			s.message(w, r, bare.code, "There is no such page.")
		case http.StatusMethodNotAllowed:
			s.message(w, r, bare.code, "This page cannot be used like that.")
		default:
			w.WriteHeader(bare.code)
		}
	})
}

// A headOnly keeps the code of an answer and drops its text.
type headOnly struct {
	http.ResponseWriter
	code int
}

func (h *headOnly) WriteHeader(code int)        { h.code = code }
func (h *headOnly) Write(b []byte) (int, error) { return len(b), nil }

// localPath is where a form says that it comes from, if that is an address of ours; else the overview.
func localPath(given string) string {
	u, err := url.Parse(given)
	if err != nil || len(given) > mostAddress || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" || !strings.HasPrefix(given, "/") || strings.HasPrefix(given, "//") ||
		strings.ContainsFunc(given, func(c rune) bool { return c <= ' ' || c == '\\' || c >= 0x7f }) {
		return "/"
	}
	return given
}

// mostAddress is how long an address may be that a page leads back to.
const mostAddress = 2000

// here is the address of a request, for forms that lead back to it; of a form's own, the overview.
func here(r *http.Request) string {
	if r.Method != http.MethodGet || r.URL.Path == "/sign-in" {
		return "/"
	}
	return localPath(r.URL.RequestURI())
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
