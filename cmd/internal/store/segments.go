package store

import "time"

// A Segment is what an index has of one segment of the log.
type Segment struct {
	First, Last     uint64 // records
	FirstAt, LastAt time.Time
	Records         int64
}

// Segments are those that the index has records of, oldest first.
func (x *Index) Segments() (list []Segment, err error) {
	err = x.look(func(v view) error {
		segments, err := v.segments()
		for _, s := range segments {
			list = append(list, Segment{s.first, s.last, time.UnixMicro(s.firstAt).UTC(), time.UnixMicro(s.lastAt).UTC(), s.records})
		}
		return err
	})
	return list, err
}

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
