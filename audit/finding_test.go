package audit

import (
	"slices"
	"strings"
	"testing"
)

// Every severity has a text of its own, and the texts stand in the order of the severities.
func TestSeverities(t *testing.T) {
	t.Parallel()
	var texts []string
	for s := Note; s <= Unreadable; s++ {
		text, err := s.MarshalText()
		if err != nil || string(text) != s.String() || s.String() == "" {
			t.Errorf("severity %d: %q, %q, %v", s, s, text, err)
		}
		texts = append(texts, s.String())
	}
	if len(severities) != len(texts) || strings.Join(texts, " ") != "note warning broken unreadable" {
		t.Errorf("%q of %d", texts, len(severities))
	}
	if len(slices.Compact(slices.Sorted(slices.Values(texts)))) != len(texts) {
		t.Errorf("a text twice: %q", texts)
	}
}

// Findings beyond the bound are counted, by severity.
func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	rep := &Report{}
	for range findingsMost + 3 {
		rep.Add(Finding{Severity: Warning, Kind: TornEnd, Message: "m"})
	}
	rep.Add(Finding{Severity: Broken, Kind: ChainBroken, Message: "n"})
	if len(rep.Findings) != findingsMost+1 || rep.Omitted[Warning] != 3 || rep.Count(Warning) != findingsMost+3 || rep.Worst() != Broken || rep.Open() != Broken {
		t.Errorf("%d findings, %v omitted, worst %s", len(rep.Findings), rep.Omitted, rep.Worst())
	}
}
