package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed templates/*.html
var templateFiles embed.FS

// templates are the pages, each with the layout: the file NAME.html defines "title" and "main". Files whose
// names begin with part define what several pages show.
var templates = parse(templateFiles)

func parse(files fs.FS) map[string]*template.Template {
	functions := template.FuncMap{"address": address, "join": strings.Join, "short": short, "clip": clip, "dict": dict, "asset": assetAddress, "zones": func() []string { return zones }}
	shared := template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/part*.html"))
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		panic(err)
	}
	all := map[string]*template.Template{}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" || strings.HasPrefix(name, "part") {
			continue
		}
		all[name] = template.Must(template.Must(shared.Clone()).ParseFS(files, file))
	}
	return all
}

// short is the end of a run's id, or the beginning of a hash, as tables show it.
func short(text string) string {
	if strings.Count(text, "-") == 4 { // a run's id begins with the time
		return text[max(0, len(text)-8):]
	}
	return text[:min(len(text), 12)]
}

// dict makes a map for a part that needs several values.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: %d values", len(pairs))
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return m, nil
}

// A frame is what the layout needs around the data of a page.
type frame struct {
	look
	Nav     []navItem
	Who     string // name of the visitor; empty: nobody has signed in
	Known   string
	Wrong   string // what is wrong with the filter
	Fresh   Fresh
	Path    string
	Back    string // this page, for forms that lead back to it
	Many    bool   // the visitor has other sessions, too
	Message string // of a page that only says something
	Main    any
}

type navItem struct {
	Path, Name string
	Here       bool
	needs      need
}

// show answers with a page.
func (v *view) show(name string, data any) error { return v.answer(http.StatusOK, name, data, "") }

// simple answers with a page that only says something.
func (v *view) simple(code int, text string) {
	if err := v.answer(code, "message", nil, text); err != nil {
		http.Error(v.w, text, code)
	}
}

func (v *view) answer(code int, name string, data any, message string) error {
	f := frame{look: v.look, Who: v.who.Name(), Known: v.who.Known(), Wrong: v.wrong, Path: v.r.URL.Path, Back: here(v.r), Many: v.own > 1, Main: data, Message: message}
	if v.server.Fresh != nil {
		f.Fresh = v.server.Fresh()
	}
	for _, item := range v.server.nav {
		if !item.needs.met(v.who) {
			continue
		}
		item.Here = item.Path == f.Path || item.Path != "/" && strings.HasPrefix(f.Path, item.Path+"/")
		f.Nav = append(f.Nav, item)
	}
	return render(v.w, v.r, code, name, f)
}

// simple answers with a page for those who have not signed in.
func (s *Server) simple(w http.ResponseWriter, r *http.Request, code int, name string, data any) {
	s.plain(w, r, code, name, frame{Main: data})
}

// message answers with a page that only says something, whoever asks.
func (s *Server) message(w http.ResponseWriter, r *http.Request, code int, text string) {
	s.plain(w, r, code, "message", frame{Message: text})
}

func (s *Server) plain(w http.ResponseWriter, r *http.Request, code int, name string, f frame) {
	f.look, f.Path = lookFor(r, s.Zone, s.Now()), r.URL.Path
	if err := render(w, r, code, name, f); err != nil {
		s.say(err)
		http.Error(w, "py3runctl could not make this page; its standard error says why", http.StatusInternalServerError)
	}
}

// askKey answers with the form for a key.
func (s *Server) askKey(w http.ResponseWriter, r *http.Request, code int, problem string) {
	back := here(r)
	if r.Method == http.MethodPost {
		back = localPath(r.PostFormValue("back"))
	}
	s.simple(w, r, code, "sign-in", asking{problem, back})
}

// render makes the whole page before it sends the first byte, so that an error is no half page.
func render(w http.ResponseWriter, r *http.Request, code int, name string, f frame) error {
	t, ok := templates[name]
	if !ok {
		return fmt.Errorf("there is no template %q", name)
	}
	var text bytes.Buffer
	if err := t.ExecuteTemplate(&text, "layout", f); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		w.Write(text.Bytes())
	}
	return nil
}
