package web

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/wire"
)

var runPages = []page{
	{"GET /runs/{run}", "", anybody, (*view).run},
	{"GET /runs/{run}/code", "", anybody, (*view).runCode},
	{"GET /runs/{run}/proof", "", anybody, (*view).runProof},
	{"GET /runs/{run}/again", "", anybody, (*view).planAgain},
	{"POST /runs/{run}/again", "", anybody, (*view).runAgain},
	{"GET /again/{job}", "", anybody, (*view).again},
}

// RunRecords are the records of one run.
type RunRecords struct {
	Run    store.Run
	List   []RunRecord // of the run: the start, who has cancelled it, and the end, as far as they are there
	Absent []string    // why others are not
}

// A RunRecord is a record as it stands in the log.
type RunRecord struct {
	audit.Record
	Hash string // of the line
	Line []byte // without its newline
	Name string // for people
}

// Indented is the record as JSON on several lines.
func (r RunRecord) Indented() string {
	var out bytes.Buffer
	if json.Indent(&out, r.Line, "", "  ") != nil {
		return string(r.Line)
	}
	return out.String()
}

// of returns the record of an action; nil: there is none.
func (rr RunRecords) of(actions ...audit.Action) *RunRecord {
	for i := range rr.List {
		for _, a := range actions {
			if rr.List[i].Event.Action == a {
				return &rr.List[i]
			}
		}
	}
	return nil
}

// Last is the newest record that describes the run; nil: there is none.
func (rr RunRecords) Last() *RunRecord {
	if end := rr.of(audit.ExecutionEnd, audit.ExecutionDenied, audit.ExecutionOrphaned); end != nil {
		return end
	}
	return rr.of(audit.ExecutionStart)
}

// A fact is a line of a table of facts.
type fact struct {
	Name, Value string
	Link        string // address; empty: none
	Mono        bool
}

// facts collects the facts that are known.
type facts []fact

func (f *facts) add(name, value string) { f.put(fact{Name: name, Value: value}) }

func (f *facts) put(one fact) {
	if one.Value != "" {
		*f = append(*f, one)
	}
}

// A runPage is the data of the page of a run.
type runPage struct {
	look
	Run              store.Run
	Who, What, Ended facts
	Meaning, Hint    string
	Limits           *Plot
	Unmeasured       []limit // of which the record has no use
	Where            string  // why it is not known where in the code a limit struck
	Frames           []audit.Frame
	Isolation        *audit.Isolation
	Touched          []touch
	TouchedNote      string
	Output           []kept
	Records          RunRecords
	Code             *codeView
	CodeNote         string // why the code is not shown
	CodeLink         string // address that shows it
	Again            string // address
	Live             bool   // it is under way
	Proof            string // address
	Others           []others
	Previous, Next   string // addresses
}

// Others are further runs that have something in common with this one.
type others struct {
	Name, Link string
	Runs       []store.Run
}

// found is the run of the address, among those that the visitor may see.
func (v *view) found() (*store.Index, store.Run, error) {
	index, err := v.server.Index()
	if err != nil {
		return nil, store.Run{}, err
	}
	id := strings.ToLower(v.r.PathValue("run"))
	if len(id) >= 8 && len(id) <= 64 {
		page, err := v.who.Page(index, store.Query{Run: id, Owner: v.query.Owner, Limit: 2})
		if err != nil {
			return nil, store.Run{}, err
		}
		if len(page.Runs) == 1 {
			return index, page.Runs[0], nil
		}
	}
	return nil, store.Run{}, refused(http.StatusNotFound, "there is no run of this id that you may see", "the pages are about a second behind the log: load this one again, or look in the history")
}

// others reports whether a run is not the visitor's own, so that a look at it is recorded.
func (v *view) isOthers(r store.Run) bool {
	return v.query.Owner == "" && (r.User != v.who.Name() || r.Asserted())
}

// notedRun records that the visitor looks at somebody else's run.
func (v *view) notedRun(r store.Run) error {
	if !v.isOthers(r) {
		return nil
	}
	return v.noted(audit.HistoryViewed, r.ID, func(rec *audit.Record) { rec.Viewed = &audit.View{RunID: r.ID} })
}

// notedCode records that the visitor looks at the code of somebody else's run.
func (v *view) notedCode(r store.Run) error {
	if !v.isOthers(r) {
		return nil
	}
	return v.noted(audit.CodeViewed, r.ID, func(rec *audit.Record) {
		rec.Viewed = &audit.View{RunID: r.ID, SHA256: r.Code}
		if r.Source == string(audit.ScriptStored) {
			rec.Viewed.Script = v.Called(r)
		}
	})
}

// run shows what the log has of a run.
func (v *view) run() error {
	index, r, err := v.found()
	if err != nil {
		return err
	}
	if r.ID != v.r.PathValue("run") {
		return v.redirect(v.RunPath(r.ID))
	}
	if err := v.notedRun(r); err != nil {
		return err
	}
	records, err := v.who.Records(index, r)
	if err != nil {
		return err
	}
	p := runPage{look: v.look, Run: r, Records: records, Live: r.Status == ""}
	p.Who, p.What = v.whoRan(records), v.whatRan(records)
	p.Ended = v.howEnded(records)
	p.Meaning, p.Hint = wire.Status(r.Status).Meaning(), wire.Status(r.Status).Hint()
	if r.Status == store.Orphaned {
		p.Meaning = "its launcher died, and the run with it: nobody could record how it ended"
	}
	if !p.Live && len(records.List) > 0 {
		p.Proof = v.RunPath(r.ID) + "/proof"
	}
	v.measured(&p, records)
	v.touched(&p, records)
	if err := v.code(&p, records); err != nil {
		return err
	}
	if err := v.around(&p, index, r); err != nil {
		return err
	}
	return v.show("run", p)
}

// code shows the code: of a run of somebody else only when the visitor asks for it.
func (v *view) code(p *runPage, records RunRecords) error {
	code, err := v.who.Code(records)
	if refused, ok := err.(Refusal); ok {
		_, p.CodeNote = v.server.told(v.r, refused)
		return nil
	}
	if err != nil {
		return err
	}
	if again, err := v.who.Again(records); err == nil && again.Body != nil {
		p.Again = v.RunPath(p.Run.ID) + "/again"
	}
	if v.isOthers(p.Run) && v.params.Get("show") != "code" {
		p.CodeLink = v.RunPath(p.Run.ID) + "?show=code#code"
		return nil
	}
	if err := v.notedCode(p.Run); err != nil {
		return err
	}
	sum := sha256.Sum256(code)
	if got := hex.EncodeToString(sum[:]); got != p.Run.Code {
		p.CodeNote = "What is there is not what ran: its SHA-256 is " + got + "."
		return nil
	}
	p.Code = viewOf(code, tracebackLines(records))
	p.Code.File = v.RunPath(p.Run.ID) + "/code"
	return nil
}

// runCode sends the code as a file.
func (v *view) runCode() error {
	index, r, err := v.found()
	if err != nil {
		return err
	}
	records, err := v.who.Records(index, r)
	if err != nil {
		return err
	}
	code, err := v.who.Code(records)
	if err != nil {
		return err
	}
	if err := v.notedCode(r); err != nil {
		return err
	}
	v.attach("text/plain; charset=utf-8", "code-"+short(r.Code)+".py")
	_, err = v.w.Write(code)
	return v.sent(err)
}

// runProof sends the proof of a run. It has the records and the code.
func (v *view) runProof() error {
	index, r, err := v.found()
	if err != nil {
		return err
	}
	records, err := v.who.Records(index, r)
	if err != nil {
		return err
	}
	if err := v.notedRun(r); err != nil {
		return err
	}
	if err := v.notedCode(r); err != nil {
		return err
	}
	http.NewResponseController(v.w).SetWriteDeadline(v.now.Add(10 * time.Minute)) // it goes through the whole log
	file, err := v.who.Proof(records)
	if err != nil {
		return err
	}
	v.attach("application/json", "proof-"+fileName(r.ID)+".json")
	_, err = v.w.Write(file)
	return v.sent(err)
}

// fileName is a text as a part of the name of a file.
func fileName(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, text)
}

// around finds the runs before and after, and others with the same code, script and user.
func (v *view) around(p *runPage, index *store.Index, r store.Run) error {
	owner := v.query.Owner
	before, err := index.Page(store.Query{Owner: owner, Before: r.Place(), Limit: 100})
	if err != nil {
		return err
	}
	if at := slices.IndexFunc(before.Runs, isRun); at >= 0 {
		p.Previous = v.RunPath(before.Runs[at].ID)
	}
	next, err := nextRun(index, owner, r.Place())
	if err != nil {
		return err
	}
	if next != "" {
		p.Next = v.RunPath(next)
	}
	for _, one := range []struct {
		name string
		f    Filter
		q    store.Query
		is   bool
	}{
		{"The same code", Filter{Code: r.Code}, store.Query{Code: r.Code}, len(r.Code) >= store.CodeLeast},
		{"The same script", Filter{Script: r.Script}, store.Query{Script: r.Script}, r.Script != ""},
		{"The same user", Filter{User: r.User}, store.Query{User: r.User}, r.User != ""},
	} {
		if !one.is {
			continue
		}
		one.q.Owner, one.q.Limit = owner, otherRuns+1
		page, err := v.who.Page(index, one.q)
		if err != nil {
			return err
		}
		list := others{Name: one.name, Link: address("/history", one.f.Values())}
		for _, o := range page.Runs {
			if o.ID != r.ID && len(list.Runs) < otherRuns {
				list.Runs = append(list.Runs, o)
			}
		}
		p.Others = append(p.Others, list)
	}
	return nil
}

// isRun reports whether there is a run, and not a summary of refusals.
func isRun(r store.Run) bool { return r.Refusals == 0 }

const otherRuns = 10 // that a list of them has

// nextRun is the id of the run that began just after a place; empty: there is none. The index answers
// with the newest first, so it is asked for the runs of a small part of the log, and then of larger ones.
func nextRun(index *store.Index, owner string, place uint64) (id string, err error) {
	const most = 500
	for part := uint64(64); part < 1<<40; part *= 8 {
		page, err := index.Page(store.Query{Owner: owner, Before: place + part + 1, Limit: most})
		if err != nil {
			return "", err
		}
		n := 0
		for n < len(page.Runs) && page.Runs[n].Place() > place {
			n++
		}
		if n == most { // no run of the smaller part, and too many of this one
			return "", nil
		}
		for n--; n >= 0; n-- {
			if isRun(page.Runs[n]) {
				return page.Runs[n].ID, nil
			}
		}
		if newest, err := index.Page(store.Query{Owner: owner, Limit: 1}); err != nil || len(newest.Runs) == 0 || newest.Runs[0].Place() <= place {
			return "", err
		}
	}
	return "", nil
}

// whoRan is who it was, by whom that is known, and who else it may have been.
func (v *view) whoRan(records RunRecords) (f facts) {
	r := records.Run
	f.put(fact{Name: "User", Value: v.User(r), Link: address("/history", url.Values{"user": {r.User}})})
	f.add("Known by", r.Auth)
	if r.Asserted() {
		f.add("Note", "nothing but the caller's word says that it was this user")
	}
	key := r.KeyID
	if key != "" && r.Holder != "" {
		key += " of " + r.Holder
	}
	f.put(fact{Name: "API key", Value: key, Link: address("/history", url.Values{"key": {r.KeyID}})})
	if rec := records.Last(); rec != nil {
		f.add("Roles", strings.Join(rec.User.Roles, ", "))
		f.add("Groups", strings.Join(rec.User.Groups, ", "))
		f.add("OS user", fmt.Sprintf("%s (uid %d)", rec.Auth.OSUser, rec.Auth.OSUID))
		if id := rec.Auth.LoginUID; id != nil {
			f.add("Login uid", fmt.Sprint(*id))
		}
		if name := rec.Auth.SudoUser; name != "" {
			f.add("Caller of sudo", fmt.Sprintf("%s (%s)", name, cmp.Or(string(rec.Auth.SudoSource), "not supported by anything")))
		}
		client := rec.Client.IP
		if client != "" && rec.Client.IPSource != "" {
			client += " (" + rec.Client.IPSource + ")"
		}
		f.put(fact{Name: "Client", Value: client, Link: address("/history", url.Values{"client": {rec.Client.IP}})})
		f.add("Request", rec.RequestID)
	} else {
		f.add("OS user", r.OSUser)
		f.add("Client", r.Client)
	}
	f.put(fact{Name: "Host", Value: r.Host, Link: address("/history", url.Values{"host": {r.Host}})})
	return f
}

// mayCancel reports whether the visitor may end a run that is under way.
func (v *view) mayCancel(user string) bool {
	return v.who.May(access.ToManage, access.Object{Kind: access.PastRun, Owner: user}) == nil
}
