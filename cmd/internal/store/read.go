package store

import (
	"database/sql"
	"strings"
	"time"

	"py3run/audit"
)

const readPatience = 3 * time.Second

// An Index answers from the derived file.
type Index struct{ db *sql.DB }

// OpenIndex opens an index for reading. The caller has to know that there is one. It waits a little
// for a writer that holds the index.
func OpenIndex(path string) (*Index, error) {
	db, err := open(path, false, readPatience)
	if err != nil {
		return nil, err
	}
	return &Index{db}, nil
}

// Holds reports whether the index has runs or counts from before the record seq, which retention
// has removed.
func (x *Index) Holds(seq uint64) (holds bool, err error) {
	err = x.db.QueryRow("SELECT EXISTS (SELECT 1 FROM runs WHERE seq < ?1) OR EXISTS (SELECT 1 FROM actions WHERE segment < ?1) OR EXISTS (SELECT 1 FROM records WHERE seq < ?1)", int64(seq)).Scan(&holds)
	return holds, damage(err)
}

// Position is how far the index has read the log.
func (x *Index) Position() (audit.Position, error) { return position(x.db.QueryRow(selectPosition)) }

// Close closes the index.
func (x *Index) Close() error { return x.db.Close() }

// A condition collects terms of WHERE.
type condition struct {
	terms []string
	args  []any
}

func (c *condition) and(term string, args ...any) {
	c.terms, c.args = append(c.terms, term), append(c.args, args...)
}

func (c *condition) String() string {
	if len(c.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.terms, " AND ")
}

// Stats takes whole days from their sums. It goes through the runs of a day only where the query
// begins or ends within the day.
func (x *Index) Stats(q Query, by By) ([]Group, error) {
	groups, err := x.stats(q, by)
	return groups, damage(err)
}

func (x *Index) stats(q Query, by By) ([]Group, error) {
	all := grouping{}
	first, last := q.Since, q.Until // the whole days between them
	if !first.IsZero() {
		if day := midnight(first); day.Before(first) {
			first = day.AddDate(0, 0, 1)
		}
	}
	if !last.IsZero() {
		last = midnight(last)
	}
	noWholeDay := !first.IsZero() && !last.IsZero() && !first.Before(last)
	if noWholeDay || !q.ofDays() || !by.ofDays() || by == ByDay && !q.countsUTC() { // there are only sums of whole days in UTC, by what is in their key
		err := x.cut(all, q, by, q.Since, q.Until)
		return all.sorted(by), err
	}
	var where condition
	q.names(&where)
	if !first.IsZero() {
		where.and("day >= ?", first.Format(dayLayout))
	}
	if !last.IsZero() {
		where.and("day < ?", last.Format(dayLayout))
	}
	rows, err := x.db.Query("SELECT * FROM days"+where.String(), where.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		key, g, err := scanDay(rows)
		if err != nil {
			return nil, err
		}
		all.add(by.keyOfDay(key), &g)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	rows.Close()
	if !q.Since.IsZero() && q.Since.Before(first) {
		err = x.cut(all, q, by, q.Since, first)
	}
	if err == nil && !q.Until.IsZero() && last.Before(q.Until) {
		err = x.cut(all, q, by, last, q.Until)
	}
	return all.sorted(by), err
}

// cut adds the ended runs that began between two times.
func (x *Index) cut(all grouping, q Query, by By, since, until time.Time) error {
	return endedRuns(x.db, q, since, until, func(r *Run) { all.run(by, q, r) })
}

type querier interface {
	Query(string, ...any) (*sql.Rows, error)
}

// endedRuns passes each ended run that began between two times to take.
func endedRuns(db querier, q Query, since, until time.Time, take func(*Run)) error {
	var where condition
	q.runs(&where)
	q.times(&where, since, until)
	where.and("ended IS NOT NULL")
	rows, err := db.Query("SELECT "+columns+" FROM runs"+where.String(), where.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanRun(rows)
		if err != nil {
			return err
		}
		if q.matchesRest(&r) {
			take(&r)
		}
	}
	return rows.Err()
}

// Actions reads the sums.
func (x *Index) Actions() (list []Action, err error) {
	rows, err := x.db.Query("SELECT name, reason, sum(count) FROM actions GROUP BY name, reason ORDER BY name, reason")
	if err != nil {
		return nil, damage(err)
	}
	defer rows.Close()
	for rows.Next() {
		var a Action
		if err := rows.Scan(&a.Name, &a.Reason, &a.Count); err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, damage(rows.Err())
}

func midnight(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}
