package store

import (
	"iter"
	"strings"
	"time"
)

const (
	pageLimit = 50     // runs of a page, if the query says nothing else
	pageLook  = 20_000 // runs that SQLite looks at for one page
	pageRead  = 4000   // runs that are read for one page, because only they can tell
	chunk     = 500    // runs that are read at once
)

// A Page is a part of the runs that a query selects, newest first.
type Page struct {
	Runs    []Run
	Next    uint64    // Before of the next page; 0: this was the last
	Reached time.Time // not zero: the search stopped at a run of this time to stay short; Next goes on from there
}

// Page returns at most Limit runs. It looks at so many runs only. Where few of them match, the page can have fewer
// than Limit, or none, and says how far it has looked.
func (x *Index) Page(q Query) (Page, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = pageLimit
	}
	most := chunk
	if !q.hasRest() {
		most = limit + 1
	}
	var p Page
	for read := 0; ; {
		c, err := x.chunk(q, most, pageLook)
		if err != nil {
			return Page{}, err
		}
		for i := range c.runs {
			if q.matchesRest(&c.runs[i]) {
				if p.Runs = append(p.Runs, c.runs[i]); len(p.Runs) > limit {
					p.Runs = p.Runs[:limit]
					p.Next = p.Runs[limit-1].Place()
					return p, nil
				}
			}
		}
		if c.next == 0 {
			return p, nil
		}
		q.Before = c.next
		if read += len(c.runs); read >= pageRead || c.stopped {
			p.Next, p.Reached = c.next, c.at
			return p, nil
		}
	}
}

// A chunked is the next part of the runs that SQLite selects.
type chunked struct {
	runs    []Run
	next    uint64    // Before of the next part; 0: this was the last
	at      time.Time // start of the run before which the next part begins
	stopped bool      // because so many runs were looked at
}

// chunk returns the next runs, newest first, without asking [Query.matchesRest]. With look, it looks at so many runs
// only. It lets the file go before it returns, so that nobody who reads slowly holds up the writer.
func (x *Index) chunk(q Query, most, look int) (c chunked, err error) {
	err = x.look(func(v view) error {
		p, nothing, err := v.plan(q)
		if err != nil || nothing {
			return err
		}
		text, args := p.text(most+1, look)
		rows, err := v.Query(text, args...)
		if err != nil {
			return err
		}
		if c.runs, err = scanRuns(v, v.names, rows); err != nil {
			return err
		}
		if len(c.runs) > most {
			c.runs = c.runs[:most]
			last := &c.runs[most-1]
			c.next, c.at = last.Place(), last.Started
			return nil
		}
		if look == 0 || len(p.rest.terms) == 0 {
			return nil
		}
		return p.stop(v, look, &c)
	})
	return c, err
}

// text is the statement. A limit in the inner one bounds what SQLite looks at.
func (p *plan) text(most, look int) (text string, args []any) {
	newest := " ORDER BY " + p.seq + " DESC LIMIT ?"
	if look == 0 || len(p.rest.terms) == 0 {
		all := condition{append(p.way.terms[:len(p.way.terms):len(p.way.terms)], p.rest.terms...), append(p.way.args[:len(p.way.args):len(p.way.args)], p.rest.args...)}
		return "SELECT " + runColumns + " FROM " + p.from + all.String() + newest, append(all.args, most)
	}
	inner := "SELECT " + strings.Replace(runColumns, "runs.seq", "runs.seq AS seq", 1) + " FROM " + p.from + p.way.String() + newest
	args = append(append(append(args, p.way.args...), look), p.rest.args...)
	return "SELECT " + runColumns + " FROM (" + inner + ") AS runs" + p.rest.String() + " ORDER BY runs.seq DESC LIMIT ?", append(args, most)
}

// stop finds out where the inner statement has stopped.
func (p *plan) stop(v view, look int, c *chunked) error {
	rows, err := v.Query("SELECT runs.seq, started FROM "+p.from+p.way.String()+" ORDER BY "+p.seq+" DESC LIMIT 1 OFFSET ?", append(p.way.args[:len(p.way.args):len(p.way.args)], look-1)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq, at int64
		if err := rows.Scan(&seq, &at); err != nil {
			return err
		}
		c.next, c.at, c.stopped = uint64(seq), time.UnixMicro(at).UTC(), true
	}
	return rows.Err()
}

// History reads a little more than the caller takes.
func (x *Index) History(q Query) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		told, q := 0, q
		for {
			most := chunk
			if q.Limit > 0 && !q.hasRest() {
				most = min(most, q.Limit-told)
			}
			c, err := x.chunk(q, most, 0)
			if err != nil {
				yield(Run{}, err)
				return
			}
			for i := range c.runs {
				if !q.matchesRest(&c.runs[i]) {
					continue
				}
				if !yield(c.runs[i], nil) {
					return
				}
				if told++; told == q.Limit {
					return
				}
			}
			if q.Before = c.next; c.next == 0 {
				return
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
		c, err := x.chunk(Query{Script: name, Owner: owner}, n, 0)
		if err != nil {
			return nil, err
		}
		if len(c.runs) > 0 {
			found[name] = c.runs
		}
	}
	return found, nil
}
