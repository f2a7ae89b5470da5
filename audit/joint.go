package audit

import (
	"encoding/json"
	"fmt"
)

// add adds a finding about the current line, if there is one.
func (v *verifier) add(s Severity, kind Kind, seq uint64, format string, args ...any) {
	v.addFinding(Finding{Severity: s, Kind: kind, Seq: seq}, format, args...)
}

func (v *verifier) addFinding(f Finding, format string, args ...any) {
	f.Segment, f.Line, f.Message = v.seg.name, v.line, fmt.Sprintf(format, args...)
	v.report.Add(f)
}

// addBreak adds a finding about the joint between the newest record and the line after it.
func (v *verifier) addBreak(kind Kind, seq uint64, line []byte, format string, args ...any) {
	f := Finding{Severity: Broken, Kind: kind, Seq: seq, After: neighbour(line)}
	before := "the beginning"
	if v.last.seq > 0 {
		f.Before = neighbour(v.lastText)
		before = f.Before.String()
	}
	f.identify(v.last.hash, f.After.Hash)
	v.addFinding(f, "%s; between %s and %s", fmt.Sprintf(format, args...), before, f.After)
}

func neighbour(line []byte) *Neighbour {
	var r struct {
		Seq   uint64 `json:"seq"`
		Time  string `json:"@timestamp"`
		RunID string `json:"run_id"`
		Event struct {
			Action Action `json:"action"`
		} `json:"event"`
		User struct {
			Name string `json:"name"`
		} `json:"user"`
	}
	json.Unmarshal(line, &r) // a later version may say it in another way: then it stays empty
	return &Neighbour{Seq: r.Seq, Hash: hexSHA256(line), Action: r.Event.Action, RunID: r.RunID, User: r.User.Name, Time: r.Time}
}

// join compares the record that f was joined to with the one that stands before it. held lines
// between them are not records.
func (v *verifier) join(f *facts, line []byte, repair *Repair, held uint64) {
	prev := string(f.prev)
	if gap := repair; gap != nil && gap.Expected != nil && gap.Found != nil {
		return // the method repair judges it
	}
	if v.last.seq == 0 {
		v.joinFirst(f.seq, prev, line)
		return
	}
	switch {
	case f.seq == v.last.seq+1 && prev == v.last.hash:
	case f.seq == v.last.seq+1:
		v.addBreak(ChainBroken, v.last.seq, line, "record %d is not the one that record %d was joined to: it was changed, or put in another's place", v.last.seq, f.seq)
	case held > 0 && f.seq == v.last.seq+1+held:
		// The held lines were records once.
	case f.seq > v.last.seq+1:
		v.addBreak(RecordsMissing, v.last.seq+1, line, "%s missing, before record %d", seqs(v.last.seq+1, f.seq-1), f.seq)
	default:
		v.addBreak(RecordOrder, f.seq, line, "record %d stands behind record %d", f.seq, v.last.seq)
	}
}

// joinFirst judges what the first record of the log was joined to.
func (v *verifier) joinFirst(seq uint64, prev string, line []byte) {
	base := v.base
	switch {
	case seq == 1 && prev == origin.hash:
	case seq == 1:
		v.addBreak(ChainBroken, 1, line, "record 1 is joined to another one, and has to be the first")
	case base == nil && v.baseUnknown:
	case base == nil:
		v.addBreak(RecordsMissing, 1, line, "%s missing, and no record tells that retention removed them", seqs(1, seq-1))
	case base.LastSeq >= seq:
		v.report.Pruned = base
		v.add(Warning, PruneUnfinished, seq, "the removal of all records up to %d is recorded, and those from %d on are still there: prune once more", base.LastSeq, seq)
	case base.LastHash != prev:
		v.report.Pruned = base
		v.addBreak(ChainBroken, seq, line, "record %d is joined to another record %d than the one that retention removed", seq, base.LastSeq)
	default:
		v.report.Pruned = base
	}
}

// seqs says "record 7 is" or "records 7 to 9 are".
func seqs(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("record %d is", from)
	}
	return fmt.Sprintf("records %d to %d are", from, to)
}
