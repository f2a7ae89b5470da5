package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

// A view is one request of somebody who has signed in.
type view struct {
	look
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	who    Visitor
	page   page
	query  store.Query // the filter of the address, bounded to what the visitor may see
	filter Filter
	params url.Values // of the address; no name and no value is too long
	wrong  string     // what is wrong with the filter; empty: nothing
	own    int        // sessions of this visitor
}

// A Filter says which runs are wanted, as the address of a page says it. It has the names of the flags of
// py3runctl history.
type Filter struct {
	User, Holder, Key, Client, Host, Script, Code, Status, Since, Until, Text string
	Labels                                                                    []string // NAME=VALUE, all of them
	Failed                                                                    bool
}

// filterOf reads a filter from an address.
func filterOf(p url.Values) Filter {
	get := func(name string) string { return strings.TrimSpace(p.Get(name)) }
	f := Filter{User: get("user"), Holder: get("holder"), Key: get("key"), Client: get("client"), Host: get("host"), Script: get("script"), Code: get("code"),
		Status: get("status"), Since: get("since"), Until: get("until"), Text: get("text"), Failed: get("failed") != ""}
	for _, label := range p["label"] {
		if label = strings.TrimSpace(label); label != "" {
			f.Labels = append(f.Labels, label)
		}
	}
	return f
}

// Values is the filter as an address has it.
func (f Filter) Values() url.Values {
	p := url.Values{}
	set := func(name, value string) {
		if value != "" {
			p.Set(name, value)
		}
	}
	set("user", f.User)
	set("holder", f.Holder)
	set("key", f.Key)
	set("client", f.Client)
	set("host", f.Host)
	set("script", f.Script)
	set("code", f.Code)
	set("status", f.Status)
	set("since", f.Since)
	set("until", f.Until)
	set("text", f.Text)
	if f.Failed {
		set("failed", "1")
	}
	if len(f.Labels) > 0 {
		p["label"] = f.Labels
	}
	return p
}

// With is the address of a page with this filter, and with one name of it set; an empty value removes it.
func (f Filter) With(path, name, value string) string {
	p := f.Values()
	if p.Del(name); value != "" {
		p.Set(name, value)
	}
	return address(path, p)
}

// address is a path with a query.
func address(path string, p url.Values) string {
	if len(p) == 0 {
		return path
	}
	return path + "?" + p.Encode()
}

// Bounds on the names and values of an address.
const (
	mostParams = 64
	mostParam  = 1000 // bytes
)

func (s *Server) view(w http.ResponseWriter, r *http.Request, of *session, who Visitor, p page) *view {
	v := &view{server: s, w: w, r: r, who: who, page: p, params: url.Values{}}
	v.look = lookFor(r, cmp.Or(of.zone, s.Zone), s.Now())
	if given, err := url.ParseQuery(r.URL.RawQuery); err != nil {
		v.wrong = "the address is not well formed"
	} else {
		v.params = given
	}
	return v
}

// checked bounds the address, and reads the filter of it. A filter that cannot be read is none: the page
// says so, and shows what it shows without.
func (v *view) checked() error {
	n := 0
	for name, values := range v.params {
		for _, value := range values {
			if n++; n > mostParams || len(name)+len(value) > mostParam {
				return refused(http.StatusRequestURITooLong, "the address has too much in it", "")
			}
		}
	}
	v.filter = filterOf(v.params)
	only, err := v.who.Sees()
	if err != nil {
		return err
	}
	q, err := v.who.Query(v.filter, v.now.In(v.zone))
	if errors.As(err, new(Refusal)) {
		v.wrong, v.filter = err.Error(), Filter{}
		if q, err = v.who.Query(v.filter, v.now.In(v.zone)); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	v.query = q
	v.query.Owner, v.query.Zone = only, v.zone
	return nil
}

// noted records that the visitor looks at something that is not the visitor's own, once in a while for
// the same thing. What cannot be recorded is not shown.
func (v *view) noted(action audit.Action, what string, fill func(*audit.Record)) error {
	s, what := v.server, string(action)+" "+what
	if !s.sessions.notes(v.r, what, v.now) {
		return nil
	}
	if err := v.who.Note(action, fill); err != nil {
		return s.unrecorded(err, "This is not shown")
	}
	s.sessions.hasNoted(v.r, what, v.now)
	return nil
}

// redirect leads on after a form was handled.
func (v *view) redirect(to string) error {
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// failed answers with an error.
func (v *view) failed(err error) {
	code, text := v.server.told(v.r, err)
	v.simple(code, text)
}

// A refusal is a Refusal of the pages themselves.
type refusal struct {
	code       int
	text, hint string
}

func refused(code int, text, hint string) error { return &refusal{code, text, hint} }

func (e *refusal) Error() string { return e.text }
func (e *refusal) Hint() string  { return e.hint }
func (e *refusal) Code() int     { return e.code }

// cutSpace cuts a route into its method and its path.
func cutSpace(route string) (method, path string, ok bool) { return strings.Cut(route, " ") }
