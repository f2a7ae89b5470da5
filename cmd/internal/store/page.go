package store

import (
	"iter"
	"time"
)

const (
	pageLimit  = 50   // runs of a page, if the query says nothing else
	pageSearch = 5000 // runs that a search looks at for one page
	chunk      = 500  // runs that are read at once
)

// A Page is a part of the runs that a query selects, newest first.
type Page struct {
	Runs    []Run
	Next    uint64    // Before of the next page; 0: this was the last
	Reached time.Time // not zero: the search stopped at a run of this time to stay short; Next goes on from there
}

// Page returns at most Limit runs. Where it has to look at the runs themselves (Text, Labels, Client), it looks at
// so many only; then the page can have fewer runs, or none, and says how far it has looked.
func (x *Index) Page(q Query) (Page, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = pageLimit
	}
	var p Page
	most := chunk
	if !q.hasRest() {
		most = limit + 1
	}
	for looked := 0; ; {
		list, more, err := x.chunk(q, most)
		if err != nil {
			return Page{}, damage(err)
		}
		for i := range list {
			if q.matchesRest(&list[i]) {
				if p.Runs = append(p.Runs, list[i]); len(p.Runs) > limit {
					p.Runs = p.Runs[:limit]
					p.Next = p.Runs[limit-1].Place()
					return p, nil
				}
			}
		}
		if !more {
			return p, nil
		}
		last := &list[len(list)-1]
		q.Before = last.Place()
		if looked += len(list); looked >= pageSearch {
			p.Next, p.Reached = q.Before, last.Started
			return p, nil
		}
	}
}

// chunk returns the next runs, newest first, without asking [Query.matchesRest], and whether there are more. It lets
// the file go before it returns, so that nobody who reads slowly holds up the writer.
func (x *Index) chunk(q Query, most int) (list []Run, more bool, err error) {
	var where condition
	q.runs(&where)
	q.times(&where, q.Since, q.Until)
	rows, err := x.db.Query("SELECT "+columns+" FROM runs"+where.String()+" ORDER BY seq DESC LIMIT ?", append(where.args, most+1)...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanRun(rows)
		if err != nil {
			return nil, false, err
		}
		list = append(list, r)
	}
	if len(list) > most {
		list, more = list[:most], true
	}
	return list, more, rows.Err()
}

// History reads a little more than the caller takes.
func (x *Index) History(q Query) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		told, q := 0, q
		for more := true; more; {
			var list []Run
			var err error
			most := chunk
			if q.Limit > 0 && !q.hasRest() {
				most = min(most, q.Limit-told)
			}
			if list, more, err = x.chunk(q, most); err != nil {
				yield(Run{}, damage(err))
				return
			}
			for i := range list {
				if !q.matchesRest(&list[i]) {
					continue
				}
				if !yield(list[i], nil) {
					return
				}
				if told++; told == q.Limit {
					return
				}
			}
			if more {
				q.Before = list[len(list)-1].Place()
			}
		}
	}
}

// Recent returns the newest n runs of each script. With an owner, only that user's count.
func (x *Index) Recent(scripts []string, owner string, n int) (map[string][]Run, error) {
	found := map[string][]Run{}
	for _, name := range scripts {
		if name == "" || n <= 0 {
			continue
		}
		list, _, err := x.chunk(Query{Script: name, Owner: owner}, n)
		if err != nil {
			return nil, damage(err)
		}
		if len(list) > 0 {
			found[name] = list
		}
	}
	return found, nil
}

// LastUse returns when the newest run of each user, or with each API key, began. Runs for which a user was only named
// are not that user's, and a secret that is wrong is not the use of a key.
func (x *Index) LastUse(by By) (map[string]time.Time, error) {
	found := map[string]time.Time{}
	for r, err := range x.History(Query{}) {
		if err != nil {
			return nil, err
		}
		if key := r.usedBy(by); key != "" && r.Started.After(found[key]) {
			found[key] = r.Started
		}
	}
	return found, nil
}

// usedBy is the user, or the key, that a run shows at work; empty: it proves none.
func (r *Run) usedBy(by By) string {
	switch {
	case by == ByUser && !r.Asserted():
		return r.User
	case by == ByKey && !(r.Status == Denied && (r.Reason == "wrong-key" || r.Reason == "unknown-key")):
		return r.KeyID
	}
	return ""
}

// A Bucket has the sums of the runs that began within one hour or day.
type Bucket struct {
	At time.Time // when it begins
	Group
}

// Series returns Stats by the hour or the day, in the order of time.
func (x *Index) Series(q Query, step By) ([]Bucket, error) {
	layout := dayLayout
	if step == ByHour {
		layout = hourLayout
	}
	groups, err := x.Stats(q, step)
	var list []Bucket
	for _, g := range groups {
		at, wrong := time.ParseInLocation(layout, g.Key, q.zone())
		if wrong != nil {
			return nil, wrong
		}
		list = append(list, Bucket{at, g})
	}
	return list, err
}
