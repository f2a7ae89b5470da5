package audit

import (
	"fmt"
)

// Severity says how bad a finding is.
type Severity int

// The severities, in their order.
const (
	Note       Severity = iota // worth knowing; nothing is wrong
	Warning                    // something happened to the log, and none of it is lost
	Broken                     // records were changed, removed or inserted
	Unreadable                 // what stands there cannot be judged
)

var severities = [...]string{Note: "note", Warning: "warning", Broken: "broken", Unreadable: "unreadable"}

func (s Severity) String() string { return severities[s] }

// MarshalText is String.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Kind says what a finding is about. Kinds are public and never change their meaning.
type Kind string

// The kinds of findings.
const (
	LineForm          Kind = "line-form"          // a line is not a record, or not in the form of one
	ChainBroken       Kind = "chain-broken"       // a record is not the one that the next was joined to
	RecordsMissing    Kind = "records-missing"    // seq has a gap, or the log begins in the middle
	RecordOrder       Kind = "record-order"       // seq does not rise
	SegmentName       Kind = "segment-name"       // a closed segment does not begin with the record in its name
	SegmentFile       Kind = "segment-file"       // a segment is not a regular file with one name
	SegmentEnd        Kind = "segment-end"        // a closed segment does not end with a record
	TornEnd           Kind = "torn-end"           // bytes after the last record, still in the log or cut and kept
	LogRepaired       Kind = "log-repaired"       // a writer found the log removed, cut or replaced
	MemoryDiffers     Kind = "memory-differs"     // the newest record is not the one that its writer noted in .lock
	MemoryMissing     Kind = "memory-missing"     // that note is missing or unreadable
	LogHeld           Kind = "log-held"           // a writer held the lock for too long
	EndWithoutStart   Kind = "end-without-start"  // an end of a run that has no start, or has ended before
	SecondStart       Kind = "second-start"       // of a run that has not ended
	OrphanedRun       Kind = "orphaned-run"       // a start without an end, whose run is not alive
	ClockBack         Kind = "clock-back"         // a record is older than the one before it
	ClockJump         Kind = "clock-jump"         // a writer saw the clock move against the uptime
	PruneUnfinished   Kind = "prune-unfinished"   // segments whose removal is recorded are still there
	RetentionForm     Kind = "retention-form"     // a record of removed segments contradicts itself
	WitnessDiffers    Kind = "witness-differs"    // a receipt or checkpoint names a record that the log does not have
	WitnessTooOld     Kind = "witness-too-old"    // one whose records were removed by retention
	CheckpointForm    Kind = "checkpoint-form"    // a checkpoint is not signed by a key that was valid then, or cannot be read
	CheckpointDiffers Kind = "checkpoint-differs" // the log does not begin with what was signed
	CheckpointLoose   Kind = "checkpoint-loose"   // a checkpoint covers only records that retention removed, and no proof connects it with those that are left
	CodeDiffers       Kind = "code-differs"       // kept code is not what was run
	HoldsDiffer       Kind = "holds-differ"       // the file of legal holds is not what the records say
	DirectoryOpen     Kind = "directory-open"     // others can write the log's directory
	NotReadable       Kind = "not-readable"
)

// A Finding is one way in which a log is not as it should be.
type Finding struct {
	Severity  Severity `json:"severity"`
	Kind      Kind     `json:"kind"`
	Segment   string   `json:"segment,omitempty"` // file name
	Line      int      `json:"line,omitempty"`    // in the segment, from 1
	Seq       uint64   `json:"seq,omitempty"`     // of the record it is about
	RunID     string   `json:"run_id,omitempty"`
	Message   string   `json:"message"`             // the id depends on it, unless the id is made of something else
	Explained bool     `json:"explained,omitempty"` // an audit-repair record of the log says so itself

	// ID stays the same for as long as the fault does. An audit-acknowledged record names it to say
	// that somebody has looked into the finding. A change of a message gives its findings new ids,
	// and the acknowledgements are lost.
	ID           string           `json:"id"`
	Acknowledged *Acknowledgement `json:"acknowledged,omitempty"`
	Before       *Neighbour       `json:"before,omitempty"` // the records on both sides of a break in the chain
	After        *Neighbour       `json:"after,omitempty"`
}

// A Neighbour is a record beside a break in the chain.
type Neighbour struct {
	Seq    uint64 `json:"seq"`
	Hash   string `json:"hash"`
	Action Action `json:"action"`
	RunID  string `json:"run_id,omitempty"`
	User   string `json:"user,omitempty"`
	Time   string `json:"time"`
}

// String is the record in words.
func (n *Neighbour) String() string {
	text := fmt.Sprintf("record %d (%s", n.Seq, n.Action)
	if n.User != "" {
		text += " of " + n.User
	}
	if n.RunID != "" {
		text += ", run " + n.RunID
	}
	return text + ", " + n.Time + ")"
}

// findingsMost is how many findings of each severity are kept. The others are only counted.
const findingsMost = 500

// Worst is the severity of the worst finding; Note if there is none.
func (rep *Report) Worst() (worst Severity) {
	for _, f := range rep.Findings {
		worst = max(worst, f.Severity)
	}
	return worst
}

// Count is how many findings of a severity there are.
func (rep *Report) Count(s Severity) (n int) {
	for _, f := range rep.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n + rep.Omitted[s]
}

// Add adds a finding, or only counts it where there are too many.
func (rep *Report) Add(f Finding) {
	if f.ID == "" {
		f.identify(f.Message)
	}
	f.Acknowledged = rep.acknowledged[f.ID]
	if rep.Count(f.Severity) < findingsMost {
		rep.Findings = append(rep.Findings, f)
		return
	}
	if rep.Omitted == nil {
		rep.Omitted = map[Severity]int{}
	}
	rep.Omitted[f.Severity]++
}
