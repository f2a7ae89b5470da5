package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
)

// Integrity is what a visitor can do with the log itself.
type Integrity interface {
	// Segments are the files of the log. Nothing of them is read but their names and sizes.
	Segments() ([]audit.SegmentEntry, error)
	// Verify verifies the log. It tells how far it is, and ends where told returns an error.
	Verify(told func(audit.Progress) error) (Verified, error)
	// SignedCheckpoints are the checkpoints that the server was told of.
	SignedCheckpoints() (SignedCheckpoints, error)
	// Holds are the legal holds, those in force first, and where records and file disagree.
	Holds(*store.Index) ([]Hold, error)
	// AddHold puts a hold in force.
	AddHold(*store.Index, HoldForm) (id string, err error)
	// ReleaseHold lifts a hold.
	ReleaseHold(id, comment string) error
}

// SignedCheckpoints are checkpoints of the log, newest first.
type SignedCheckpoints struct {
	Dir     string // where they are; empty: the server was told of none
	Problem string // why they cannot be read; empty: they can
	List    []SignedCheckpoint
	More    int      // older ones that are not in List
	Wrong   []string // what is wrong with files among them
}

// A SignedCheckpoint is one checkpoint whose signature is right. Only verify compares it with the log.
type SignedCheckpoint struct {
	Name    string // of the file
	Seq     uint64 // the newest record that it covers
	Records int64
	At      time.Time
	Signer  string
}

// A Hold is a legal hold.
type Hold struct {
	ID, Keeps, Comment, By string
	At                     string // as the record has it
	Released               string // by whom, when and why; empty: it is in force
	Problem                string // how records and file disagree about it
}

// A HoldForm is a hold as a visitor asks for it.
type HoldForm struct{ Since, Until, Run, User, Script, Comment string }

var integrityPages = []page{
	{"GET /integrity", "Integrity", auditing, (*view).integrity},
	{"POST /integrity/verify", "", anybody, (*view).beginVerify},
	{"POST /integrity/stop", "", anybody, (*view).stopVerify},
	{"POST /integrity/findings/{id}", "", anybody, (*view).acknowledgeFinding},
	{"POST /integrity/holds", "", anybody, (*view).addHold},
	{"POST /integrity/holds/{id}/release", "", anybody, (*view).releaseHold},
}

const (
	findingRows = 200
	pruneRows   = 20
	holdRows    = 200
	stripMost   = 300 // pieces of the strip
)

// mayVerify says why the visitor may not look at the log as a whole; nil: may.
func (v *view) mayVerify() error { return v.who.May(access.ToSeeHistory, everybodysRuns) }

// An integrityPage is what the page shows.
type integrityPage struct {
	look
	Strip       Plot
	Segments    int
	size        int64
	Oldest      uint64
	Newest      uint64
	Under       *underway
	Latest      *latest
	New         uint64 // records since the latest verification
	Findings    []audit.Finding
	MoreHidden  int
	Checkpoints SignedCheckpoints
	Prunes      []saidRecord
	Holds       []Hold
	MoreHolds   int
	All         bool // released holds, too
	CommentMost int
}

// Size is that of all segments.
func (p integrityPage) Size() string { return p.look.Bytes(p.size) }

// Progressed is how far the verification is, in percent.
func (p integrityPage) Progressed() int64 {
	if p.Under == nil || p.Under.Progress.Total == 0 {
		return 0
	}
	return 100 * p.Under.Progress.Bytes / p.Under.Progress.Total
}

func (v *view) integrity() error {
	if err := v.mayVerify(); err != nil {
		return err
	}
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	data := integrityPage{look: v.look, CommentMost: commentMost, All: v.params.Get("holds") == "all"}
	data.Under, data.Latest = v.server.verification.look(time.Now())
	if err := v.segments(index, &data); err != nil {
		return err
	}
	if l := data.Latest; l != nil {
		data.Findings = l.Findings
		slices.SortStableFunc(data.Findings, func(a, b audit.Finding) int { return int(b.Severity) - int(a.Severity) })
		if len(data.Findings) > findingRows {
			data.Findings, data.MoreHidden = data.Findings[:findingRows], len(data.Findings)-findingRows
		}
		data.MoreHidden += l.Omitted
	}
	if data.Checkpoints, err = v.who.SignedCheckpoints(); err != nil {
		return err
	}
	if data.Prunes, err = v.said(index, store.RecordQuery{Actions: []audit.Action{audit.AuditRetention}, Limit: pruneRows}); err != nil {
		return err
	}
	holds, err := v.who.Holds(index)
	if err != nil {
		return err
	}
	if !data.All {
		holds = slices.DeleteFunc(holds, func(h Hold) bool { return h.Released != "" && h.Problem == "" })
	}
	if data.Holds = holds; len(holds) > holdRows {
		data.Holds, data.MoreHolds = holds[:holdRows], len(holds)-holdRows
	}
	return v.show("integrity", data)
}

// said are records in words. What cannot be read any more says so.
func (v *view) said(index *store.Index, q store.RecordQuery) (list []saidRecord, err error) {
	found, _, err := index.Records(q)
	if err != nil {
		return nil, err
	}
	for _, p := range found {
		_, says, err := v.who.ReadRecord(p.Place)
		if _, told := err.(Refusal); told {
			says, err = err.Error(), nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, saidRecord{p, says})
	}
	return list, nil
}

// A segmentState is what is known of one piece of the log.
type segmentState int

// From the best to the worst.
const (
	segmentVerified segmentState = iota
	segmentUnchecked
	segmentPruned
	segmentWarning
	segmentUnread
	segmentBroken
)

var segmentStates = [...]struct{ name, class, shape string }{
	segmentVerified: {"verified", "good", "✓"}, segmentUnchecked: {"not checked", "unchecked", "?"}, segmentPruned: {"removed by retention", "stopped", "–"},
	segmentWarning: {"warning", "limit", "▲"}, segmentUnread: {"cannot be read", "fault", "!"}, segmentBroken: {"broken", "bad", "✗"},
}

// A stripPiece is a part of the strip: one segment, or several where there are too many.
type stripPiece struct {
	name             string
	first, last      uint64
	bytes            int64
	firstAt, lastAt  time.Time
	state            segmentState
	findings, joined int
}

// segments draws the files of the log.
func (v *view) segments(index *store.Index, data *integrityPage) error {
	files, err := v.who.Segments()
	if err != nil {
		return err
	}
	known, err := index.Segments()
	if err != nil {
		return err
	}
	var pieces []stripPiece
	for i, f := range files {
		p := stripPiece{name: f.Name, first: f.First, bytes: f.Bytes, joined: 1, state: stateOf(f, data.Latest)}
		if i+1 < len(files) && files[i+1].First > 0 {
			p.last = files[i+1].First - 1
		}
		if at := slices.IndexFunc(known, func(s store.Segment) bool { return s.First == f.First }); at >= 0 {
			p.last, p.firstAt, p.lastAt = max(p.last, known[at].Last), known[at].FirstAt, known[at].LastAt
		}
		if data.Latest != nil {
			for _, found := range data.Latest.Findings {
				if found.Segment == f.Name && found.Severity > audit.Note {
					p.findings++
				}
			}
		}
		data.size += f.Bytes
		pieces = append(pieces, p)
	}
	data.Segments = len(files)
	if len(pieces) > 0 {
		data.Oldest, data.Newest = pieces[0].first, pieces[len(pieces)-1].last
	}
	if l := data.Latest; l != nil && data.Newest > l.Last {
		data.New = data.Newest - l.Last
	}
	if data.Oldest > 1 {
		pieces = slices.Insert(pieces, 0, stripPiece{name: "no longer there", first: 1, last: data.Oldest - 1, state: segmentPruned, joined: 1})
	}
	data.Strip = v.strip(joined(pieces, stripMost))
	return nil
}

// stateOf is what the latest verification says of a segment. What was written since then is not checked.
func stateOf(f audit.SegmentEntry, l *latest) segmentState {
	if f.Err != nil {
		return segmentUnread
	}
	if l == nil || l.Err != nil {
		return segmentUnchecked
	}
	state := segmentUnchecked
	for _, s := range l.Segments { // the current one has got another name, where it was closed meanwhile
		if s.Name == f.Name && s.First.Seq == f.First || s.First.Seq == f.First && f.First > 0 && s.Bytes == f.Bytes {
			state = segmentVerified
		}
	}
	if state == segmentVerified && f.First > l.Last {
		state = segmentUnchecked
	}
	if slices.Contains(l.Unread, f.Name) {
		state = max(state, segmentUnread)
	}
	for _, found := range l.Findings {
		if found.Segment != f.Name {
			continue
		}
		switch {
		case found.Severity == audit.Broken && found.Acknowledged == nil:
			state = max(state, segmentBroken)
		case found.Severity == audit.Unreadable:
			state = max(state, segmentUnread)
		case found.Severity >= audit.Warning:
			state = max(state, segmentWarning)
		}
	}
	return state
}

// joined joins neighbours where there are more pieces than a strip can show. The worst state counts.
func joined(pieces []stripPiece, most int) []stripPiece {
	each := (len(pieces) + most - 1) / most
	if each <= 1 {
		return pieces
	}
	var list []stripPiece
	for group := range slices.Chunk(pieces, each) {
		p := group[0]
		for _, next := range group[1:] {
			p.last, p.lastAt, p.bytes, p.findings, p.joined = next.last, next.lastAt, p.bytes+next.bytes, p.findings+next.findings, p.joined+1
			p.state = max(p.state, next.state)
		}
		if p.joined > 1 {
			p.name = fmt.Sprintf("%s and %d more", p.name, p.joined-1)
		}
		list = append(list, p)
	}
	return list
}

// strip draws the pieces, as wide as their bytes. What retention has removed is as wide as a tenth of the rest.
func (v *view) strip(pieces []stripPiece) Plot {
	sum := int64(0)
	for _, p := range pieces {
		sum += p.bytes
	}
	var drawn []Piece
	used := map[segmentState]bool{}
	for _, p := range pieces {
		used[p.state] = true
		is := segmentStates[p.state]
		weight, size := float64(p.bytes), v.Bytes(p.bytes)
		if p.state == segmentPruned {
			weight, size = max(float64(sum)/10, 1), ""
		}
		records := "none yet"
		switch {
		case p.first > 0 && p.last >= p.first:
			records = v.Number(p.first) + " to " + v.Number(p.last)
		case p.first > 0: // the index has none of them yet
			records = "from " + v.Number(p.first) + " on"
		}
		says := fmt.Sprintf("%s: records %s, %s", p.name, records, is.name)
		if p.findings > 0 {
			says += fmt.Sprintf(", %d findings", p.findings)
		}
		drawn = append(drawn, Piece{Weight: weight, Class: is.class, Shape: is.shape, Mark: Mark{Text: says},
			Row: []string{p.name, is.shape + " " + is.name, records, size, v.Time(p.firstAt), v.Time(p.lastAt), v.Number(p.findings)}})
	}
	plot := v.Strip("segments", "Segments of the log, oldest first", []string{"segment", "state", "records", "size", "oldest", "newest", "findings"}, drawn)
	plot.Note = "As wide as they are large."
	for state, is := range segmentStates {
		if used[segmentState(state)] {
			plot.Legend = append(plot.Legend, Series{Name: is.shape + " " + is.name, Class: is.class})
		}
	}
	return plot
}

func (v *view) beginVerify() error {
	if err := v.mayVerify(); err != nil {
		return err
	}
	v.server.verification.begin(v.who.Name(), time.Now, v.who.Verify)
	return v.redirect("/integrity#verification")
}

func (v *view) stopVerify() error {
	if err := v.mayVerify(); err != nil {
		return err
	}
	v.server.verification.end(errStopped)
	return v.redirect("/integrity#verification")
}

func (v *view) acknowledgeFinding() error {
	if err := v.mayVerify(); err != nil {
		return err
	}
	comment, err := v.comment()
	if err != nil {
		return err
	}
	id := v.r.PathValue("id")
	_, last := v.server.verification.look(time.Now())
	if last != nil {
		for _, f := range last.Findings {
			if f.ID != id || f.Severity <= audit.Note {
				continue
			}
			a, err := v.who.Acknowledge(audit.Acknowledged{ID: f.ID, Kind: string(f.Kind), Seq: f.Seq, Comment: comment})
			if err != nil {
				return err
			}
			v.server.verification.acknowledged(f.ID, a)
			return v.redirect("/integrity#findings")
		}
	}
	return refused(http.StatusNotFound, "the latest verification has no such finding", "verify again")
}

func (v *view) addHold() error {
	if err := v.mayVerify(); err != nil {
		return err
	}
	comment, err := v.comment()
	if err != nil {
		return err
	}
	f := HoldForm{Comment: comment}
	for _, field := range []struct {
		name string
		to   *string
	}{{"since", &f.Since}, {"until", &f.Until}, {"run", &f.Run}, {"user", &f.User}, {"script", &f.Script}} {
		if *field.to = strings.TrimSpace(v.r.PostFormValue(field.name)); len(*field.to) > 255 {
			return refused(http.StatusUnprocessableEntity, field.name+" is too long", "")
		}
	}
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	if _, err := v.who.AddHold(index, f); err != nil {
		return err
	}
	return v.redirect("/integrity#holds")
}

func (v *view) releaseHold() error {
	if err := v.mayVerify(); err != nil {
		return err
	}
	comment, err := v.comment()
	if err != nil {
		return err
	}
	if err := v.who.ReleaseHold(v.r.PathValue("id"), comment); err != nil {
		return err
	}
	return v.redirect("/integrity#holds")
}
