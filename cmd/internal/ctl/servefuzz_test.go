package ctl

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"py3run/audit"
	"py3run/internal/activity"
)

// hostile are texts that must do nothing in a page, a header, a file or a terminal.
var hostile = []string{
	`<hostile7 onload=hostile7()>`, `"><hostile7>`, `'><hostile7 x='`, `" hostile7="1" x="`, `' hostile7='1' x='`, `</title><hostile7>`, `</textarea><hostile7>`, `</svg><hostile7>`,
	`<script>hostile7()</script>`, `javascript:hostile7()`, `data:text/html,<hostile7>`, `{{.}}<hostile7>`, "hostile7\x00<hostile7>", "\u202e<hostile7>\u2066", "\x1b[31m<hostile7>", "\r\nX-Hostile7: 1\r\n\r\n<hostile7>",
	"=hostile7()", "+hostile7", "@hostile7", "-hostile7", "\xff\xfe<hostile7>", "<!--<hostile7>", "]]><hostile7>", "&lt;hostile7&gt;", `\"><hostile7>`, "../../../etc/passwd", "..%2f..%2fetc%2fpasswd",
	strings.Repeat("<hostile7>", 80), strings.Repeat("ü", 300), "//hostile7.example/", `/\hostile7.example`, "https://hostile7.example/", "%", "%s%n", "' OR 1=1 --<hostile7>", `"; DROP TABLE runs; --`, "NULL", "\u2028<hostile7>",
}

// plausible are values that fields of the pages take, or nearly.
var plausible = strings.Split(`alice|bob|ok|timeout|failed|1|0|-1|2|99999999999999999999|1e9|NaN|true|off|on|7d|24h|yesterday|2026-01-01|2026-13-45|2026-01-01T00:00:00Z|user|script|status|day|hour|host|key|label:job|label|runs|cpu|memory|job=7|job|a=1=2|UTC|Europe/Berlin|Local|10.0.0.0/8|::1|0123456789abcdef|01a20d4b-0000-7000-8000-000000000001|01a20d4b-0000-7000-8000-000000000002|00000001|tank@1|tank@2|tank|tank/level|@|/|/history|/history?user=x|p95|p50|asc|desc|none|all|csv|json|alerts.denials|security.limits.memory-mb|version|python.interpreter|300|"300"|[]|{}|`, "|")

// fill puts hostile texts into every text of a value.
func fill(v reflect.Value, rng *rand.Rand) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), rng)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), rng)
			}
		}
	case reflect.Slice:
		n := 1 + rng.IntN(2)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), rng)
		}
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			value := reflect.New(v.Type().Elem()).Elem()
			fill(value, rng)
			v.SetMapIndex(reflect.ValueOf(pick(rng, hostile)).Convert(v.Type().Key()), value)
		}
	case reflect.String:
		v.SetString(pick(rng, hostile))
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(rng.Int64N(1<<40) >> rng.IntN(40))
	case reflect.Uint64, reflect.Uint32, reflect.Uint:
		v.SetUint(rng.Uint64N(1<<40) >> rng.IntN(40))
	case reflect.Float64:
		v.SetFloat(rng.Float64() * 1e6)
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	}
}

func pick(rng *rand.Rand, list []string) string { return list[rng.IntN(len(list))] }

// hostileLog writes runs, and records of every kind, in which every text is hostile.
func hostileLog(b *fixture) {
	rng := rand.New(rand.NewPCG(7, 7))
	record := func(action audit.Action) audit.Record {
		var rec audit.Record
		fill(reflect.ValueOf(&rec).Elem(), rng)
		rec.Prev, rec.Seq, rec.Truncated = "", 0, false
		rec.Event.Action = action
		return rec
	}
	for i := range 40 {
		rec := record(audit.ExecutionStart)
		b.runs++
		rec.RunID = fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", b.runs)
		run, _, err := b.log.Begin(rec)
		b.must(err)
		if i%8 == 7 {
			continue
		}
		end := record(audit.ExecutionEnd)
		end.RunID, end.User, end.Auth, end.Script = rec.RunID, rec.User, rec.Auth, rec.Script
		if i%2 == 0 {
			end.Status = pick(rng, []string{"ok", "error", "timeout", "memory_limit", "cancelled"})
		}
		if i%5 == 0 {
			end.Hooks = &activity.Summary{}
		}
		_, err = run.End(end)
		b.must(err)
	}
	for _, action := range recordActions {
		if !strings.HasPrefix(action, "execution-") && !strings.HasPrefix(action, "audit-") {
			_, err := b.log.Append(record(audit.Action(action)))
			b.must(err)
		}
	}
}

// A storm sends requests that nobody meant to be sent.
type storm struct {
	*serveBench
	routes  []route
	fields  []string
	users   []string // who sends what only asks
	writers []string // who sends the rest
	answers [6]atomic.Int64
}

var variable = regexp.MustCompile(`\{[^}]*\}`)

func (s *storm) value(rng *rand.Rand) string {
	switch rng.IntN(5) {
	case 0, 1:
		return pick(rng, hostile)
	case 2:
		text := []byte(pick(rng, append(plausible, "x")))
		for range rng.IntN(4) {
			text = append(text, byte(rng.IntN(256)))
		}
		return string(text)
	}
	return pick(rng, plausible)
}

func (s *storm) form(rng *rand.Rand) string {
	form := url.Values{}
	for range rng.IntN(7) {
		form.Add(pick(rng, s.fields), s.value(rng))
	}
	text := form.Encode()
	if rng.IntN(12) == 0 && len(text) > 0 { // not well formed
		i := rng.IntN(len(text))
		text = text[:i] + pick(rng, []string{"%", ";", "&&", "=", "%zz", "+", "%00"}) + text[i:]
	}
	return text
}

// request makes a request of a route, and changes it.
func (s *storm) request(rng *rand.Rand) (text, user string) {
	r := s.routes[rng.IntN(len(s.routes))]
	method := r.method
	if rng.IntN(15) == 0 {
		method = pick(rng, []string{"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"})
	}
	path := variable.ReplaceAllStringFunc(r.path, func(name string) string {
		switch {
		case rng.IntN(5) == 0:
			return url.PathEscape(s.value(rng))
		case name == "{run}":
			return fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", 1+rng.IntN(42))
		case rng.IntN(3) > 0:
			return pick(rng, []string{"tank", "1", "2", "alice"})
		}
		return url.PathEscape(pick(rng, plausible))
	})
	if rng.IntN(15) == 0 {
		path = pick(rng, []string{"/", "//", "/%2e%2e", "/.", "/..;", "/%00", "/<hostile7>", "//hostile7.example"}) + path
	}
	query := s.form(rng)
	if query != "" {
		path += "?" + query
	}
	user = pick(rng, s.users)
	if method != "GET" && method != "HEAD" {
		user = pick(rng, s.writers)
	}
	host := pagesHost
	if rng.IntN(40) == 0 {
		host = pick(rng, []string{"hostile7.example", "", "127.0.0.1", "LOCALHOST:8731", "127.0.0.1:8731@hostile7"})
	}
	var h strings.Builder
	fmt.Fprintf(&h, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host)
	headers := []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site", "Origin: http://" + pagesHost, "Origin: null", "HX-Request: true", "HX-Target: <hostile7>", "HX-Current-URL: //hostile7.example",
		"Accept-Language: de-CH,<hostile7>;q=0.5", "Accept-Language: " + strings.Repeat("ar-EG,", 50), "Accept-Language: und-u-nu-arab", "Accept: text/csv", "Range: bytes=0-9", "If-Modified-Since: x", "X-Forwarded-Host: hostile7.example", "X-HTTP-Method-Override: DELETE",
		"Referer: https://hostile7.example/", "Cookie: py3run-8731=<hostile7>", "Cookie: py3run-8731=", "User-Agent: <hostile7>", "Connection: upgrade", "X: " + strings.Repeat("x", 2000)}
	for range rng.IntN(3) {
		h.WriteString(pick(rng, headers) + "\r\n")
	}
	body := ""
	if method != "GET" && method != "HEAD" || rng.IntN(20) == 0 {
		body = s.form(rng)
		kind := "application/x-www-form-urlencoded"
		switch rng.IntN(12) {
		case 0:
			kind, body = "multipart/form-data; boundary=hostile7", "--hostile7\r\nContent-Disposition: form-data; name=\""+pick(rng, s.fields)+"\"; filename=\"../<hostile7>\"\r\n\r\n"+s.value(rng)+"\r\n--hostile7--\r\n"
		case 1:
			kind = pick(rng, []string{"application/json", "text/plain", "<hostile7>", "multipart/form-data", ""})
		case 2:
			body += strings.Repeat("&x=<hostile7>", 400)
		}
		fmt.Fprintf(&h, "Content-Type: %s\r\nContent-Length: %d\r\n", kind, len(body))
	}
	if user != "-" {
		c := s.cookies[user]
		fmt.Fprintf(&h, "Cookie: %s=%s\r\n", c.Name, c.Value)
	}
	return h.String() + "\r\n" + body, user
}

// send sends a request, and says what is wrong with the answer; empty: nothing.
func (s *storm) send(text string) (wrong string) {
	defer func() {
		if fault := recover(); fault != nil {
			wrong = fmt.Sprint("panic: ", fault)
		}
	}()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil { // net/http answers that by itself
		return ""
	}
	w := s.do(r)
	s.answers[w.Code/100].Add(1)
	h := w.Header()
	switch to := h.Get("Location"); {
	case w.Code >= 500:
		return fmt.Sprintf("%d", w.Code)
	case !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'; "):
		return "no Content-Security-Policy"
	case to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) || strings.ContainsAny(to, "\r\n")):
		return "it leads to " + to
	case h.Get("X-Hostile7") != "" || strings.ContainsAny(fmt.Sprint(h), "\r\n\x00"):
		return fmt.Sprintf("headers %q", h)
	}
	return harm(w)
}

// harm says what of a hostile text has become more than text.
func harm(w *httptest.ResponseRecorder) string {
	body := w.Body.String()
	switch kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";"); kind {
	case "text/html":
		return harmInHTML(body)
	case "text/csv":
		rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		if err != nil {
			return err.Error()
		}
		for _, row := range rows {
			for _, cell := range row {
				if cell != "" && strings.ContainsRune("=+@\t\r", rune(cell[0])) || strings.HasPrefix(cell, "-h") {
					return fmt.Sprintf("a formula: %q", cell)
				}
			}
		}
		return ""
	case "text/plain", "application/json", "text/css", "text/javascript", "image/svg+xml", "":
		return ""
	default:
		return "an answer of the type " + kind
	}
}

var (
	addresses     = strings.Fields("href src action formaction hx-get hx-post")
	elementForm   = regexp.MustCompile(`<([a-z!][a-z0-9]*)`)
	attributeForm = regexp.MustCompile(`[\s"}]([a-z][a-z-]*\d?)=["'{]|[\s}](required|hidden|checked|selected|disabled|readonly|autofocus|multiple|open|download|defer|data-zone|html)\b`)
)

// markup are the elements and attributes that the pages are made of, by their source.
var markup = sync.OnceValues(func() (elements, attributes map[string]bool) {
	elements, attributes = map[string]bool{}, map[string]bool{"viewbox": true}
	text := webSource()
	for _, m := range elementForm.FindAllStringSubmatch(text, -1) {
		elements[m[1]] = true
	}
	for _, m := range attributeForm.FindAllStringSubmatch(text, -1) {
		if name := m[1] + m[2]; !strings.HasPrefix(name, "on") && name != "style" && name != "srcdoc" {
			attributes[name] = true
		}
	}
	return elements, attributes
})

// harmInHTML finds elements, attributes and addresses that only a text could have brought into a page:
// the pages are made of few.
func harmInHTML(body string) string {
	if i := strings.Index(body, "<hostile7"); i >= 0 {
		return "an element: " + body[max(0, i-200):min(len(body), i+50)]
	}
	if strings.Contains(body, "ZgotmplZ") {
		i := strings.Index(body, "ZgotmplZ")
		return "a template without a place for this: " + body[max(0, i-200):min(len(body), i+50)]
	}
	elements, attributes := markup()
	for rest := body; ; {
		i := strings.IndexByte(rest, '<')
		if i < 0 {
			return ""
		}
		tag, name, list := cutTag(rest[i:])
		rest = rest[i+len(tag):]
		if !elements[name] {
			return "an element: " + tag[:min(len(tag), 300)]
		}
		for _, a := range list {
			switch {
			case !attributes[a[0]]:
				return "an attribute " + a[0] + ": " + tag
			case slices.Contains(addresses, a[0]) && (!strings.HasPrefix(a[1], "/") && !strings.HasPrefix(a[1], "#") && !strings.HasPrefix(a[1], "?") || strings.HasPrefix(a[1], "//")):
				return "an address: " + tag
			}
		}
	}
}

// cutTag reads a tag as a browser does: its whole text, its name and its attributes.
func cutTag(text string) (tag, name string, attributes [][2]string) {
	i := 1
	until := func(stop string) string {
		from := i
		for i < len(text) && strings.IndexByte(stop, text[i]) < 0 {
			i++
		}
		return text[from:i]
	}
	name = strings.TrimPrefix(strings.ToLower(until(" \t\n\f\r>")), "/")
	for {
		for i < len(text) && strings.IndexByte(" \t\n\f\r/", text[i]) >= 0 {
			i++
		}
		if i >= len(text) || text[i] == '>' {
			return text[:min(i+1, len(text))], name, attributes
		}
		a := [2]string{strings.ToLower(until(" \t\n\f\r/>="))}
		if i < len(text) && text[i] == '=' {
			if i++; i < len(text) && (text[i] == '"' || text[i] == '\'') {
				quote := text[i : i+1]
				i++
				a[1] = until(quote)
				i++
			} else {
				a[1] = until(" \t\n\f\r>")
			}
		} else if a[0] == "" {
			i++
		}
		attributes = append(attributes, a)
	}
}

// What finds harm finds it.
func TestHarmIsFound(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{`<p><hostile7>`, `<img src="/x">`, `<p onclick="x">`, `<p title="a" hostile7="1">`, `<a href="javascript:x">`, `<a href="//e">`, `<form action="https://e">`, `<iframe>`, `<p style="x">`, `<svg><script>x</script><use href="/x"/></svg>`, `<a href=ZgotmplZ>`} {
		if harmInHTML(bad) == "" {
			t.Error(bad)
		}
	}
	for _, good := range []string{`<p title="&lt;hostile7&gt;">&#34; hostile7=</p>`, `<a href="/x?y=%3Chostile7%3E">a &gt; b</a>`, `<input required value='"x'>`} {
		if wrong := harmInHTML(good); wrong != "" {
			t.Errorf("%s: %s", good, wrong)
		}
	}
}

// No request makes the pages fail, and no text of a log or a request becomes more than text.
func TestServeHostileRequests(t *testing.T) {
	t.Parallel()
	n := 10_000
	if os.Getenv("PY3RUN_TEST_LONG") != "" {
		n = 100_000
	}
	s := newStorm(t)
	before := tree(t, s.dir, s.log.dir, s.dir+"/run")
	s.blow(n*9/10, 1)
	for path, sum := range tree(t, s.dir, s.log.dir, s.dir+"/run") {
		if before[path] != sum {
			t.Errorf("%s was written", path)
		}
	}
	// Those who may change something do so; it must not make the pages fail either.
	s.writers = []string{"admin"}
	s.blow(n/10, 2)
	t.Logf("answers 2xx %d, 3xx %d, 4xx %d", s.answers[2].Load(), s.answers[3].Load(), s.answers[4].Load())
	if s.answers[2].Load() < int64(n/10) {
		t.Error("hardly a request was answered")
	}
	if said := s.said.String(); said != "" {
		t.Errorf("standard error: %.2000s", said)
	}
}

func newStorm(t *testing.T) *storm {
	s := &storm{serveBench: newServeBench(t, hostileLog), routes: routes(t)}
	for _, part := range [][]string{hostile[:10], hostile[5:15]} {
		code := "print(1)\n# " + strings.NewReplacer("\x00", "", "\r\n", "").Replace(strings.Join(part, "\f# "))
		s.must("admin", "save", "tank", "--description", hostile[0], s.write("tank.py", strings.ReplaceAll(code, "\f", "\n")))
	}
	s.freshen()
	fields := map[string]bool{"q": true}
	for _, m := range fieldForm.FindAllStringSubmatch(webSource(), -1) {
		fields[m[1]+m[2]+m[3]+m[4]] = true
	}
	for name := range fields {
		if name != "viewport" && name != "color-scheme" && name != "htmx-config" {
			s.fields = append(s.fields, name)
		}
	}
	slices.Sort(s.fields)
	// Nobody can be signed out in the middle.
	s.routes = slices.DeleteFunc(s.routes, func(r route) bool { return r.path == "/sign-out" })
	s.users = []string{"", "admin", "audrey", "alice", "bob", "carol", "-"}
	s.writers = []string{"audrey", "alice", "bob", "carol", "-"}
	for _, user := range s.users {
		if user != "-" {
			s.cookie(user)
		}
	}
	return s
}

// blow sends so many requests, several at once.
func (s *storm) blow(n int, seed uint64) {
	const workers = 4
	var done sync.WaitGroup
	for worker := range workers {
		done.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(worker)))
			for range n / workers {
				text, user := s.request(rng)
				if wrong := s.send(text); wrong != "" {
					s.Errorf("%s\n%s, by %q\nstandard error: %.1500s", wrong, bytes.ToValidUTF8([]byte(text[:min(len(text), 1500)]), nil), user, s.said.String())
					return
				}
			}
		})
	}
	done.Wait()
}
