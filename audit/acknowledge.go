package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// AuditAcknowledged says that somebody has looked into a finding of verify, or into an alert.
const AuditAcknowledged Action = "audit-acknowledged"

// Acknowledged is what an audit-acknowledged record says. The record itself has who says it, and when.
type Acknowledged struct {
	ID      string `json:"id,omitempty"`    // of the finding
	Alert   uint64 `json:"alert,omitempty"` // seq of the alert's record
	Kind    string `json:"kind"`            // of the finding, or the rule of the alert
	Seq     uint64 `json:"seq"`             // of the record that it is about; 0: none
	Comment string `json:"comment"`
}

// An Acknowledgement says who has looked into a finding, when, and with which result.
type Acknowledgement struct {
	Seq     uint64 `json:"seq"` // of its record
	User    string `json:"user"`
	Time    string `json:"time"`
	Comment string `json:"comment"`
}

func (a *Acknowledgement) String() string {
	return fmt.Sprintf("acknowledged by %s at %s, record %d: %s", a.User, a.Time, a.Seq, a.Comment)
}

// Acknowledgement is what a record says about a finding or an alert; nil: it is another kind of record.
func (r Record) Acknowledgement() *Acknowledgement {
	if r.Ack == nil {
		return nil
	}
	return &Acknowledgement{Seq: r.Seq, User: r.User.Name, Time: r.Timestamp, Comment: r.Ack.Comment}
}

// identify makes the id of a finding from its kind, its record, and what else makes it this one.
func (f *Finding) identify(parts ...string) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %q", f.Kind, f.Seq, parts))
	f.ID = hex.EncodeToString(sum[:6])
}

// Open is the worst severity of the findings. One that somebody has acknowledged counts as a
// warning at most.
func (rep *Report) Open() (worst Severity) {
	for _, f := range rep.Findings {
		if f.Acknowledged != nil {
			f.Severity = min(f.Severity, Warning)
		}
		worst = max(worst, f.Severity)
	}
	for s := range rep.Omitted {
		worst = max(worst, s)
	}
	return worst
}
