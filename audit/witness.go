package audit

import (
	"cmp"
	"slices"
)

// firstWitness is the place of the first witness for the record seq or a later one.
func (v *verifier) firstWitness(seq uint64) int {
	i, _ := slices.BinarySearchFunc(v.witnesses, seq, func(w Witness, seq uint64) int { return cmp.Compare(w.Seq, seq) })
	return i
}

// compare compares a record with what a witness says of it.
func (v *verifier) compare(i int, hash, runID string) {
	w := v.witnesses[i]
	v.witnesses[i].Source = "" // compared
	if w.Source == "" {
		return
	}
	if w.Source == lockName {
		v.isKnown = false
		if w.Hash != hash {
			v.add(Broken, MemoryDiffers, w.Seq, "record %d is not the one that its writer noted in %s: the log was changed or replaced", w.Seq, lockName)
		}
		return
	}
	v.report.Witnesses++
	switch {
	case w.Hash != hash:
		v.addFinding(Finding{Severity: Broken, Kind: WitnessDiffers, Seq: w.Seq, RunID: w.RunID}, "%s: record %d has another hash", w.Source, w.Seq)
	case w.RunID != "" && w.RunID != runID:
		v.addFinding(Finding{Severity: Broken, Kind: WitnessDiffers, Seq: w.Seq, RunID: w.RunID}, "%s: record %d is that of run %s", w.Source, w.Seq, runID)
	default:
		v.report.ProvedTo = max(v.report.ProvedTo, w.Seq)
	}
}

// unnamed adds a finding for each witness whose record the walk has not come across.
func (v *verifier) unnamed() {
	rep := v.report
	for _, w := range v.witnesses {
		switch {
		case w.Source == "" || w.Source == lockName:
		case len(rep.Unread) > 0:
			v.addFinding(Finding{Severity: Unreadable, Kind: NotReadable, Seq: w.Seq, RunID: w.RunID}, "%s: record %d was not compared: parts of the log cannot be read", w.Source, w.Seq)
		case w.Seq > v.last.seq:
			rep.Witnesses++
			v.addFinding(Finding{Severity: Broken, Kind: WitnessDiffers, Seq: w.Seq, RunID: w.RunID}, "%s: there is no record %d: the log ends with record %d", w.Source, w.Seq, v.last.seq)
		case w.Seq < rep.First.Seq && rep.Pruned != nil:
			v.addFinding(Finding{Severity: Note, Kind: WitnessTooOld, Seq: w.Seq, RunID: w.RunID}, "%s: record %d was removed by retention", w.Source, w.Seq)
		default:
			rep.Witnesses++
			v.addFinding(Finding{Severity: Broken, Kind: WitnessDiffers, Seq: w.Seq, RunID: w.RunID}, "%s: record %d is missing", w.Source, w.Seq)
		}
	}
}
