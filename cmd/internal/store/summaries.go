package store

// Refusals counts by status the refusals that stand only in summaries.
func (x *Index) Refusals(q Query) (map[string]int64, error) {
	groups, err := x.Stats(q, ByStatus)
	counts := map[string]int64{}
	for _, g := range groups {
		if g.Refused > 0 {
			counts[g.Key] = g.Refused
		}
	}
	return counts, err
}
