package store

import (
	"math"
	"strings"
)

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

// A way is one that leads to runs: an index, or the labels.
type way struct {
	term  string
	args  []any
	from  string // tables; empty: runs
	other string
}

// A plan says how SQLite finds the runs of a query: it goes along one way, from the newest run backwards, and asks of
// each run the rest.
type plan struct {
	from string
	seq  string // the column by which the way is sorted
	way  condition
	rest condition
}

// enough is how many runs on a way make it no better than another.
const enough = 5000

// plan chooses the way with the fewest runs. nothing: no run can match, because the index does not have a name.
func (v view) plan(q Query) (p plan, nothing bool, err error) {
	ways, nothing, err := v.ways(q)
	if err != nil || nothing {
		return p, nothing, err
	}
	best, least := -1, math.MaxInt
	for i, w := range ways {
		n := 0
		if len(ways) > 1 {
			if err := v.QueryRow("SELECT count(*) FROM (SELECT 1 FROM "+w.tables()+" WHERE "+w.term+" LIMIT ?)", append(w.args, enough)...).Scan(&n); err != nil {
				return p, false, err
			}
		}
		if n < least {
			best, least = i, n
		}
	}
	p.from, p.seq = "runs", "runs.seq"
	for i, w := range ways {
		if i == best {
			p.from = w.tables()
			if w.from != "" {
				p.seq = "labelled.seq"
			}
			p.way.and(w.term, w.args...)
		} else {
			p.rest.and(w.instead(), w.args...)
		}
	}
	q.others(&p.rest)
	if q.Version != "" {
		id, found, err := v.idOf(q.Version)
		if err != nil || !found {
			return p, true, err
		}
		p.rest.and("version = ?", id)
	}
	if q.Before > 0 {
		p.way.and(p.seq+" < ?", asInt(q.Before))
	}
	return p, false, v.within(q, &p)
}

// within narrows the way down to the segments in which runs of the time began.
func (v view) within(q Query, p *plan) error {
	if q.Since.IsZero() && q.Until.IsZero() {
		return nil
	}
	list, err := v.segments()
	if err != nil {
		return err
	}
	first, last := uint64(math.MaxInt64), uint64(0)
	for _, s := range list {
		if (q.Since.IsZero() || s.beganLast >= q.Since.UnixMicro()) && (q.Until.IsZero() || s.beganFirst < q.Until.UnixMicro()) {
			first, last = min(first, s.first), max(last, s.last)
		}
	}
	p.way.and(p.seq+" BETWEEN ? AND ?", asInt(first), asInt(last))
	if !q.Since.IsZero() {
		p.rest.and("+started >= ?", q.Since.UnixMicro())
	}
	if !q.Until.IsZero() {
		p.rest.and("+started < ?", q.Until.UnixMicro())
	}
	return nil
}

func (w way) tables() string {
	if w.from == "" {
		return "runs"
	}
	return w.from
}

// instead is the term where another way is taken. The sign keeps SQLite from taking this one.
func (w way) instead() string {
	if w.other != "" {
		return w.other
	}
	return "+" + w.term
}

// ways are those that the query allows.
func (v view) ways(q Query) (list []way, nothing bool, err error) {
	if q.Status == Running {
		list = append(list, way{term: "status = 0 AND status <> 1"})
	}
	for _, c := range []struct{ term, text string }{{"user = ?", q.User}, {"user = ?", q.Owner}, {"script = ? AND script <> 0", q.Script}, {"host = ?", q.Host}, {"key = ? AND key <> 0", q.Key},
		{"holder = ? AND holder <> 0", q.Holder}, {"status = ? AND status <> 1", q.Status}} {
		if c.text == "" || c.text == q.Status && (q.Status == Running || q.Status == "ok") && strings.HasPrefix(c.term, "status") {
			continue
		}
		id, found, err := v.idOf(c.text)
		if err != nil || !found {
			return nil, true, err
		}
		list = append(list, way{term: c.term, args: []any{id}})
	}
	for name, value := range q.Labels {
		id, found, err := v.idOf(labelName(name, value))
		if err != nil || !found {
			return nil, true, err
		}
		list = append(list, way{from: "labelled CROSS JOIN runs ON runs.seq = labelled.seq", term: "label = ?", args: []any{id}, other: "EXISTS (SELECT 1 FROM labelled AS l WHERE l.label = ? AND l.seq = runs.seq)"})
	}
	if q.Code != "" {
		list = append(list, way{term: "code IN (SELECT id FROM names WHERE text >= ? AND text < ?) AND code <> 0", args: []any{q.Code, q.Code + "g"}}) // g follows the digits
	}
	if len(q.Run) >= idEnd {
		list = append(list, way{term: "(head = ? OR tail = ?)", args: []any{headOf(q.Run), tailOf(q.Run)}})
	}
	return list, false, nil
}

// others adds what is no way.
func (q Query) others(c *condition) {
	if q.Status == "ok" {
		c.and("status = 1")
	}
	if q.Failed {
		c.and("status NOT IN (0, 1)")
	}
}
