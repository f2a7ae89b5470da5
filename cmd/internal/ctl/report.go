package ctl

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"py3run/audit"
)

// verified is what verify found.
type verified struct {
	*audit.Report
	checkpoints int    // how many were compared
	signedTo    uint64 // the newest record that a checkpoint proves
}

// A verdict sums up all findings.
type verdict string

// The verdicts, as JSON has them.
const (
	logWhole      verdict = "ok"
	logEmpty      verdict = "empty"   // without a record there is nothing to judge
	logWarnings   verdict = "warning" // also where everything broken is acknowledged
	logBroken     verdict = "broken"
	logUnreadable verdict = "unreadable" // what could be read is not broken
)

// verdict puts broken before unreadable: the unreadable rest cannot make a broken log whole.
func (rep verified) verdict() verdict {
	unread := rep.Omitted[audit.Unreadable] > 0
	broken := rep.Omitted[audit.Broken] > 0
	for _, f := range rep.Findings {
		broken = broken || f.Severity == audit.Broken && f.Acknowledged == nil
		unread = unread || f.Severity == audit.Unreadable
	}
	switch {
	case broken:
		return logBroken
	case unread:
		return logUnreadable
	case rep.Records == 0:
		return logEmpty
	case rep.Open() == audit.Warning:
		return logWarnings
	}
	return logWhole
}

func (v verdict) exit() int {
	switch v {
	case logBroken:
		return verifyBroken
	case logUnreadable:
		return verifyUnreadable
	case logEmpty, logWarnings:
		return verifyWarnings
	}
	return 0
}

// inWords is the last line of a report. A log is called whole only if nothing speaks against it:
// where the note of the newest record was lost, records may have been cut.
func (rep verified) inWords() string {
	acknowledged, forgotten := 0, false
	for _, f := range rep.Findings {
		if f.Severity == audit.Broken && f.Acknowledged != nil {
			acknowledged++
		}
		forgotten = forgotten || f.Kind == audit.MemoryMissing
	}
	switch v := rep.verdict(); {
	case v == logBroken:
		return "THE LOG IS BROKEN"
	case v == logUnreadable:
		return "cannot verify: the log cannot be read as a whole; what was read of it is not broken"
	case v == logEmpty:
		return "there is no record: nothing can be said of an empty log"
	case acknowledged > 0:
		return fmt.Sprintf("the log is broken in %s that somebody has looked into, and nowhere else", counted(acknowledged, "place"))
	case forgotten:
		return "the log is consistent; whether records were cut from it only a receipt or a checkpoint can tell"
	case v == logWarnings:
		return "the log is whole, with warnings"
	}
	return "the log is whole"
}

// reach says how far the proof goes.
type reach struct {
	From     uint64 `json:"from"` // the first record of the chain
	To       uint64 `json:"to"`
	ProvedBy string `json:"proved_by,omitempty"` // receipt or checkpoint
	ProvedTo uint64 `json:"proved_to"`           // 0: no record is proved
	Unproved uint64 `json:"unproved"`            // how many later records there are, which only the log itself shows
}

// reach is nil where the records do not form one chain.
func (rep verified) reach() *reach {
	if rep.Records == 0 || len(rep.Unread) > 0 || rep.Count(audit.Broken) > 0 {
		return nil
	}
	r := &reach{From: rep.First.Seq, To: rep.Last.Seq}
	if r.ProvedTo = max(rep.ProvedTo, rep.signedTo); r.ProvedTo > 0 {
		r.ProvedBy = "receipt"
		if rep.signedTo >= rep.ProvedTo {
			r.ProvedBy = "checkpoint"
		}
	}
	r.Unproved = r.To - min(r.To, max(r.ProvedTo, r.From-1))
	return r
}

func (r *reach) String() string {
	proof := "proved by no receipt and no checkpoint"
	if r.ProvedTo > 0 {
		proof = fmt.Sprintf("proved by %s up to %s", r.ProvedBy, thousands(r.ProvedTo))
	}
	have := "have"
	if r.Unproved == 1 {
		have = "has"
	}
	return fmt.Sprintf("consistent from record %s to %s; %s; %s %s no outside proof", thousands(r.From), thousands(r.To), proof, counted(r.Unproved, "record"), have)
}

// counted is a number of things: 1 record, 1,200 records.
func counted[N int | uint64](n N, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return thousands(uint64(n)) + " " + thing
}

// thousands is a number for people: 998,749.
func thousands(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func printReport(to io.Writer, rep verified) error {
	var b strings.Builder
	for _, f := range rep.Findings {
		place := f.Segment
		if f.Line > 0 {
			place += ":" + strconv.Itoa(f.Line)
		}
		if place != "" {
			place += ": "
		}
		if record := fmt.Sprintf("record %d", f.Seq); f.Seq > 0 && !strings.HasPrefix(f.Message, record) {
			place += record + ": "
		}
		explained := ""
		if f.Explained {
			explained = " (the log tells it)"
		}
		if f.Severity > audit.Note {
			explained += " id " + f.ID
		}
		if f.Acknowledged != nil {
			explained += plain(fmt.Sprintf(" (%s)", f.Acknowledged))
		}
		fmt.Fprintf(&b, "%-10s %s%s [%s]%s\n", f.Severity, plain(place), plain(f.Message), f.Kind, explained)
	}
	for _, s := range []audit.Severity{audit.Note, audit.Warning, audit.Broken, audit.Unreadable} {
		if n := rep.Omitted[s]; n > 0 {
			fmt.Fprintf(&b, "%-10s and %d more of these\n", s, n)
		}
	}
	fmt.Fprintf(&b, "%s in %s, %d MB", counted(rep.Records, "record"), counted(len(rep.Segments), "segment"), rep.Bytes>>20)
	if rep.Records > 0 {
		fmt.Fprintf(&b, ", number %d to %d, %s to %s", rep.First.Seq, rep.Last.Seq, rep.FirstTime.UTC().Format(time.RFC3339), rep.LastTime.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "; %s under way", counted(rep.Alive, "run"))
	if rep.Pruned != nil {
		fmt.Fprintf(&b, "; what was before was removed by retention")
	}
	if n := len(rep.Holds); n > 0 {
		fmt.Fprintf(&b, "; %s in force", counted(n, "legal hold"))
	}
	if rep.Witnesses > 0 {
		fmt.Fprintf(&b, "; %s compared", counted(rep.Witnesses, "receipt"))
	}
	if rep.Code > 0 {
		fmt.Fprintf(&b, "; %s of kept code compared", counted(rep.Code, "file"))
	}
	if rep.checkpoints > 0 {
		fmt.Fprintf(&b, "; %s compared", counted(rep.checkpoints, "checkpoint"))
	}
	if r := rep.reach(); r != nil {
		fmt.Fprintf(&b, "\n%s", r)
	}
	b.WriteString("\n" + rep.inWords() + "\n")
	_, err := io.WriteString(to, b.String())
	return err
}

func printReportJSON(to io.Writer, rep verified) error {
	findings := rep.Findings
	if findings == nil {
		findings = []audit.Finding{}
	}
	omitted := map[string]int{}
	for s, n := range rep.Omitted {
		omitted[s.String()] = n
	}
	line, err := jsonLine(struct {
		Verdict   verdict          `json:"verdict"`
		Dir       string           `json:"dir"`
		Records   uint64           `json:"records"`
		Bytes     int64            `json:"bytes"`
		First     audit.Link       `json:"first"`
		Last      audit.Link       `json:"last"`
		FirstTime time.Time        `json:"first_time"`
		LastTime  time.Time        `json:"last_time"`
		Running   int              `json:"running"`
		Orphaned  int              `json:"orphaned"`
		Receipts  int              `json:"receipts"`
		Checked   int              `json:"checkpoints"`
		Code      int              `json:"code"`
		Segments  []audit.Segment  `json:"segments"`
		Pruned    *audit.Retention `json:"pruned,omitempty"`
		Holds     int              `json:"holds,omitempty"` // legal holds in force
		Reach     *reach           `json:"reach,omitempty"`
		Unread    []string         `json:"unread,omitempty"`
		Findings  []audit.Finding  `json:"findings"`
		Omitted   map[string]int   `json:"omitted,omitempty"`
	}{rep.verdict(), rep.Dir, rep.Records, rep.Bytes, rep.First, rep.Last, rep.FirstTime, rep.LastTime, rep.Alive, rep.Orphaned, rep.Witnesses, rep.checkpoints, rep.Code,
		rep.Segments, rep.Pruned, len(rep.Holds), rep.reach(), rep.Unread, findings, omitted})
	if err != nil {
		return err
	}
	_, err = to.Write(line)
	return err
}
