package store

import (
	"database/sql"
	"errors"
	"math"
	"strings"
	"time"

	"py3run/audit"
)

// A RecordQuery selects records that are no run's start or end. An empty field selects all.
type RecordQuery struct {
	Actions      []audit.Action // any of them
	User         string
	Owner        string // only records of this user that their user may see: see Hidden in [Entry]
	Script       string
	Text         string    // stands in the title, reason, user, script, host or action; letters count without case
	Since, Until time.Time // of the record; Until is not included
	Before       uint64    // only records with a smaller seq; 0: from the newest
	Limit        int       // 0: pageLimit
}

// A RecordPlace is a record that is no run's start or end, and where it stands in the log.
type RecordPlace struct {
	Seq      uint64
	At       time.Time
	Action   string
	Reason   string
	User     string
	Auth     string
	Script   string
	Host     string
	Title    string // of an alert
	Asserted bool   // nothing but the caller's word says who the user is
	Place    audit.Place
}

func recordPlace(e Entry) RecordPlace {
	rec := e.Record
	at := audit.ParseTime(rec.Timestamp)
	p := RecordPlace{Seq: rec.Seq, At: at, Action: string(rec.Event.Action), Reason: rec.Event.Reason, User: rec.User.Name, Auth: string(rec.Auth.Method), Script: rec.Script.Name,
		Host: rec.Host.Name, Asserted: Asserted(rec), Place: e.Place}
	if rec.Alert != nil {
		p.Title = rec.Alert.Title
	}
	return p
}

// hasText reports whether a folded text stands in the record's words.
func (p *RecordPlace) hasText(text string) bool {
	for _, s := range []string{p.Title, p.Reason, p.User, p.Script, p.Host, p.Action} {
		if strings.Contains(folded(s), text) {
			return true
		}
	}
	return false
}

// row is the row of a record, without the checksum.
func (p *RecordPlace) row(hidden bool) []any {
	return []any{int64(p.Seq), p.At.UnixMicro(), p.Action, p.Reason, p.User, p.Auth, p.Script, p.Host, p.Title, bit(p.Asserted), bit(hidden), int64(p.Place.Segment), p.Place.Offset}
}

func scanRecord(from row) (p RecordPlace, err error) {
	var seq, at, segment, sum int64
	var hidden bool
	if err := from.Scan(&seq, &at, &p.Action, &p.Reason, &p.User, &p.Auth, &p.Script, &p.Host, &p.Title, &p.Asserted, &hidden, &segment, &p.Place.Offset, &sum); err != nil {
		return p, err
	}
	p.Seq, p.At, p.Place.Segment = uint64(seq), time.UnixMicro(at).UTC(), uint64(segment)
	if p.Place != (audit.Place{}) {
		p.Place.Seq = p.Seq
	}
	if rowSum(p.row(hidden)...) != sum {
		return p, errSum
	}
	return p, nil
}

// record adds a record that is no run's start or end.
func (w *Writer) record(e Entry) error {
	p := recordPlace(e)
	row := p.row(e.Hidden)
	_, err := w.tx.Exec("INSERT OR REPLACE INTO records VALUES (?"+strings.Repeat(",?", len(row))+")", append(row, rowSum(row...))...)
	return err
}

// Records returns the records that a query selects, newest first, and Before of the next page, or 0. A search for
// text looks at a bounded number of records: a page can have fewer than Limit, and there are still more.
func (x *Index) Records(q RecordQuery) (list []RecordPlace, next uint64, err error) {
	limit := q.Limit
	if limit <= 0 {
		limit = pageLimit
	}
	most, text := chunk, folded(q.Text)
	if q.Text == "" {
		most = limit + 1
	}
	for looked := 0; ; {
		var found []RecordPlace
		if err := x.look(func(v view) (err error) {
			found, err = v.records(q, most)
			return err
		}); err != nil {
			return nil, 0, err
		}
		for i := range found {
			if q.Text != "" && !found[i].hasText(text) {
				continue
			}
			if len(list) == limit {
				return list, list[limit-1].Seq, nil
			}
			list = append(list, found[i])
		}
		if len(found) < most {
			return list, 0, nil
		}
		q.Before = found[most-1].Seq
		if looked += most; looked >= pageRead {
			return list, q.Before, nil
		}
	}
}

func (v view) records(q RecordQuery, most int) (list []RecordPlace, err error) {
	var where condition
	if len(q.Actions) > 0 {
		var names []any
		for _, a := range q.Actions {
			names = append(names, string(a))
		}
		where.and("action IN (?"+strings.Repeat(",?", len(names)-1)+")", names...)
	}
	if q.User != "" {
		where.and("user = ?", q.User)
	}
	if q.Owner != "" {
		where.and("user = ? AND hidden = 0", q.Owner)
	}
	if q.Script != "" {
		where.and("script = ?", q.Script)
	}
	if !q.Since.IsZero() {
		where.and("at >= ?", q.Since.UnixMicro())
	}
	if !q.Until.IsZero() {
		where.and("at < ?", q.Until.UnixMicro())
	}
	if q.Before > 0 {
		where.and("seq < ?", int64(min(q.Before, math.MaxInt64)))
	}
	rows, err := v.Query("SELECT * FROM records"+where.String()+" ORDER BY seq DESC LIMIT ?", append(where.args, most)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		p, err := scanRecord(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

// A segment is what a segment of the log has.
type segment struct {
	name            uint64 // as in a Place; of those that were read
	first, last     uint64
	firstAt, lastAt int64 // of the records
	records         int64

	beganFirst, beganLast int64 // of the runs whose place is in it; beganFirst is larger where there are none
}

// with is the segment with one more record; s may be nil.
func (s *segment) with(rec audit.Record) *segment {
	at := audit.ParseTime(rec.Timestamp)
	if s == nil {
		s = &segment{first: rec.Seq, firstAt: at.UnixMicro(), beganFirst: math.MaxInt64, beganLast: math.MinInt64}
	}
	s.last, s.lastAt = rec.Seq, at.UnixMicro()
	s.records++
	return s
}

// began notes when a run of the segment began.
func (s *segment) began(at time.Time) {
	s.beganFirst, s.beganLast = min(s.beganFirst, at.UnixMicro()), max(s.beganLast, at.UnixMicro())
}

func (s *segment) row(name uint64) []any {
	return []any{int64(name), int64(s.first), s.firstAt, int64(s.last), s.lastAt, s.records, s.beganFirst, s.beganLast}
}

func scanSegment(from row) (s segment, err error) {
	var name, first, last, sum int64
	if err := from.Scan(&name, &first, &s.firstAt, &last, &s.lastAt, &s.records, &s.beganFirst, &s.beganLast, &sum); err != nil {
		return s, err
	}
	s.name, s.first, s.last = uint64(name), uint64(first), uint64(last)
	if rowSum(s.row(uint64(name))...) != sum {
		return s, errSum
	}
	return s, nil
}

// putSpans writes what the segments have now.
func (w *Writer) putSpans() error {
	for name, s := range w.spans {
		old, err := scanSegment(w.tx.QueryRow("SELECT * FROM segments WHERE segment = ?", int64(name)))
		switch {
		case err == nil:
			s.first, s.firstAt, s.records = old.first, old.firstAt, old.records+s.records
			s.beganFirst, s.beganLast = min(s.beganFirst, old.beganFirst), max(s.beganLast, old.beganLast)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if err := w.putSpan(name, s); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) putSpan(name uint64, s *segment) error {
	row := s.row(name)
	_, err := w.tx.Exec("INSERT OR REPLACE INTO segments VALUES (?,?,?,?,?,?,?,?,?)", append(row, rowSum(row...))...)
	return err
}

// beganIn notes when a run begins now that its start is gone.
func (w *Writer) beganIn(r *Run) error {
	rows, err := w.tx.Query("SELECT * FROM segments WHERE segment <= ? ORDER BY segment DESC LIMIT 1", asInt(r.EndSeq))
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return rows.Err()
	}
	s, err := scanSegment(rows)
	if err != nil {
		return err
	}
	if err := rows.Close(); err != nil {
		return err
	}
	s.began(r.Started)
	return w.putSpan(s.name, &s)
}

// A Span is what an index covers. All is zero for an empty log.
type Span struct {
	Oldest, Newest     uint64 // records
	OldestAt, NewestAt time.Time
	Runs, Records      int64 // summaries of refusals are no runs
}

// Span says which part of the log the index has.
func (x *Index) Span() (s Span, err error) {
	err = x.look(func(v view) error {
		list, err := v.segments()
		if err != nil || len(list) == 0 {
			return err
		}
		first, last := list[0], list[len(list)-1]
		s.Oldest, s.OldestAt = first.first, time.UnixMicro(first.firstAt).UTC()
		s.Newest, s.NewestAt = last.last, time.UnixMicro(last.lastAt).UTC()
		for _, seg := range list {
			s.Records += seg.records
		}
		return v.QueryRow("SELECT (SELECT count(*) FROM runs) - (SELECT count(*) FROM runs WHERE tail = ?)", tailOf("")).Scan(&s.Runs)
	})
	return s, err
}

// segments are those of the log, oldest first.
func (v view) segments() (list []segment, err error) {
	rows, err := v.Query("SELECT * FROM segments ORDER BY segment")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		s, err := scanSegment(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// A Segment is what an index has of one segment of the log.
type Segment struct {
	First, Last     uint64 // records
	FirstAt, LastAt time.Time
	Records         int64
}

// Segments are those that the index has records of, oldest first.
func (x *Index) Segments() (list []Segment, err error) {
	err = x.look(func(v view) error {
		all, err := v.segments()
		list = nil
		for _, seg := range all {
			list = append(list, Segment{seg.first, seg.last, time.UnixMicro(seg.firstAt).UTC(), time.UnixMicro(seg.lastAt).UTC(), seg.records})
		}
		return err
	})
	return list, err
}
