package store

import (
	"errors"
	"time"

	"py3run/audit"
)

// Forget removes what the index holds about records before the first one, with which the log begins
// now that retention has removed the others. A run whose end is still in the log stays, without its
// start, as the log itself shows it. Call Forget before the first Add of a transaction. If the log
// begins earlier than it did, Forget removes nothing and returns again: the whole log has to be
// read again.
func (w *Writer) Forget(first uint64) (again bool, err error) {
	again, w.changed, w.oldest = first < w.oldest, w.changed || first != w.oldest, first
	if again {
		return true, nil
	}
	return false, damage(w.forget(asInt(first)))
}

func (w *Writer) forget(first int64) error {
	for _, text := range []string{"DELETE FROM actions WHERE segment < ?", "DELETE FROM records WHERE seq < ?", "DELETE FROM segments WHERE segment < ?"} {
		if _, err := w.tx.Exec(text, first); err != nil {
			return err
		}
	}
	touched, err := w.touched(first)
	if err != nil || len(touched) == 0 {
		return err
	}
	w.changed = true
	if _, err := w.tx.Exec("DELETE FROM labelled WHERE seq < ?", first); err != nil {
		return err
	}
	if err := w.loseStarts(first, touched); err != nil {
		return err
	}
	if err := w.sumAgain(touched); err != nil {
		return err
	}
	if err := w.putNames(); err != nil {
		return err
	}
	if _, err := w.tx.Exec("DELETE FROM names WHERE newest < ?", first); err != nil {
		return err
	}
	for _, text := range []string{"DELETE FROM label_values WHERE name NOT IN (SELECT id FROM names UNION SELECT 0) OR value NOT IN (SELECT id FROM names UNION SELECT 0)",
		"DELETE FROM many WHERE label NOT IN (SELECT id FROM names UNION SELECT 0)"} {
		if _, err := w.tx.Exec(text); err != nil {
			return err
		}
	}
	w.forgetNames()
	return nil
}

// touched are the days whose sums change when the runs before a record go.
func (w *Writer) touched(first int64) (map[int64]struct{}, error) {
	touched := map[int64]struct{}{}
	rows, err := w.tx.Query("SELECT started FROM runs WHERE seq < ?", first)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var at int64
		if err := rows.Scan(&at); err != nil {
			return nil, err
		}
		touched[days.unit(at)] = struct{}{}
	}
	return touched, errors.Join(rows.Err(), rows.Close())
}

// loseStarts removes the runs that began before a record, and puts those back that have ended after it, without their
// starts.
func (w *Writer) loseStarts(first int64, touched map[int64]struct{}) error {
	var stay []Run
	for at := int64(-1); ; {
		list, err := selectRuns(w.tx, &w.book, " WHERE seq > ? AND seq < ? ORDER BY seq LIMIT 1000", at, first)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		for _, r := range list {
			if int64(r.EndSeq) >= first {
				r.StartSeq, r.StartAt, r.Started = 0, audit.Place{}, r.Ended.Add(-r.Duration)
				touched[days.unit(r.Started.UnixMicro())] = struct{}{}
				stay = append(stay, r)
			}
		}
		at = int64(list[len(list)-1].Place())
	}
	if _, err := w.tx.Exec("DELETE FROM runs WHERE seq < ?", first); err != nil {
		return err
	}
	rows := w.newRows()
	for i := range stay {
		r := &stay[i]
		if _, err := w.put(r, nil, rows); err != nil {
			return err
		}
		if err := w.beganIn(r); err != nil {
			return err
		}
	}
	return rows.end()
}

// sumAgain makes the sums of some days again from their runs, and those of their months from the days.
func (w *Writer) sumAgain(touched map[int64]struct{}) error {
	touchedMonths := map[int64]struct{}{}
	for day := range touched {
		since := days.begins(day)
		touchedMonths[months.unit(since.UnixMicro())] = struct{}{}
		for l, most := range map[level]int64{hours: 24, days: 1} {
			from := l.unit(since.UnixMicro())
			if _, err := w.tx.Exec("DELETE FROM sums WHERE level = ? AND at >= ? AND at < ?", int64(l), from, from+most); err != nil {
				return err
			}
		}
		sums := summing{}
		if err := w.ended(since, since.Add(24*time.Hour), func(r *Run) error {
			s, err := w.store(r)
			if err == nil {
				err = w.count(sums, r, &s.ids)
			}
			return err
		}); err != nil {
			return err
		}
		sums.spreadTo(days)
		if err := w.putSums(sums); err != nil {
			return err
		}
	}
	for month := range touchedMonths {
		if err := w.sumMonth(month); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) ended(since, until time.Time, take func(*Run) error) error {
	list, err := selectRuns(w.tx, &w.book, " WHERE started >= ? AND started < ? AND status <> 0", since.UnixMicro(), until.UnixMicro())
	for i := range list {
		if err == nil {
			err = take(&list[i])
		}
	}
	return err
}

// sumMonth makes the sums of a month again from those of its days.
func (w *Writer) sumMonth(month int64) error {
	if _, err := w.tx.Exec("DELETE FROM sums WHERE level = ? AND at = ?", int64(months), month); err != nil {
		return err
	}
	from, to := days.unit(months.begins(month).UnixMicro()), days.unit(months.begins(month+1).UnixMicro())
	rows, err := w.tx.Query("SELECT slice, a, b, at, data FROM sums WHERE level = ? AND at >= ? AND at < ?", int64(days), from, to)
	if err != nil {
		return err
	}
	defer rows.Close()
	sums := summing{}
	for rows.Next() {
		k := sumKey{level: days}
		var data []byte
		if err := rows.Scan(&k.slice, &k.a, &k.b, &k.at, &data); err != nil {
			return err
		}
		p, err := decodePortions(data, k)
		if err != nil {
			return err
		}
		k.level, k.at = months, month
		sums.of(k).merge(p)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	return w.putSums(sums)
}
