package store

import "time"

// A Page is some runs, newest first.
type Page struct {
	Runs    []Run
	Next    uint64
	Reached time.Time
}

// Page returns the runs that a query selects, as many as its limit.
func (x *Index) Page(q Query) (Page, error) {
	if q.Limit == 0 {
		q.Limit = 50
	}
	var p Page
	for r, err := range x.History(q) {
		if err != nil {
			return p, err
		}
		p.Runs = append(p.Runs, r)
	}
	return p, nil
}
