package store

import (
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// namesMost is how many names a process keeps in memory.
const namesMost = 200_000

func nameSum(id int64, text string) int64 { return rowSum(id, text) }

type querier interface {
	Query(string, ...any) (*sql.Rows, error)
	QueryRow(string, ...any) *sql.Row
}

// A nameBook knows the texts of ids. Its zero value knows none.
type nameBook struct {
	mu    sync.Mutex
	texts map[int64]string

	checked bool
}

// A nameTexts has the texts of the ids that were asked for.
type nameTexts map[int64]string

// of is the text of an id.
func (t nameTexts) of(id int64) (string, error) {
	text, known := t[id]
	if !known {
		return "", errSum
	}
	return text, nil
}

// learn returns the texts of ids, and reads those that are not known yet. The caller gets a map of its own, because
// another goroutine can make the book forget.
func (b *nameBook) learn(db querier, ids map[int64]struct{}) (nameTexts, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.texts) > namesMost {
		b.texts = nil
	}
	if b.texts == nil {
		b.texts = map[int64]string{none: ""}
	}
	var unknown []int64
	for id := range ids {
		if _, known := b.texts[id]; !known {
			unknown = append(unknown, id)
		}
	}
	slices.Sort(unknown)
	for list := range slices.Chunk(unknown, 500) {
		if err := b.read(db, list); err != nil {
			return nil, err
		}
	}
	texts := make(nameTexts, len(ids))
	for id := range ids {
		texts[id] = b.texts[id]
	}
	return texts, nil
}

func (b *nameBook) read(db querier, ids []int64) error {
	var in strings.Builder
	for i, id := range ids {
		if i > 0 {
			in.WriteByte(',')
		}
		in.WriteString(strconv.FormatInt(id, 10))
	}
	rows, err := db.Query("SELECT id, text, sum FROM names WHERE id IN (" + in.String() + ")")
	if err != nil {
		return err
	}
	defer rows.Close()
	for n := 0; ; n++ {
		if !rows.Next() {
			if err := rows.Err(); err != nil || n == len(ids) {
				return err
			}
			return errSum // a row names what is not there
		}
		var id, sum int64
		var text string
		if err := rows.Scan(&id, &text, &sum); err != nil {
			return err
		}
		if sum != nameSum(id, text) {
			return errSum
		}
		b.texts[id] = text
	}
}

// idOf finds the id of a text; false: nothing in the index has it.
func (v view) idOf(text string) (id int64, found bool, err error) {
	if text == "" {
		return none, true, nil
	}
	err = v.QueryRow("SELECT id FROM names WHERE text = ?", text).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, v.names.check(v)
	}
	return id, err == nil, err
}

// namesChecked is how many names are checked when one is missing.
const namesChecked = 5000

// check makes sure, once, that names are as they were written: one that is missing is perhaps one that was damaged.
func (b *nameBook) check(db querier) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.checked {
		return nil
	}
	rows, err := db.Query("SELECT id, text, sum FROM names LIMIT ?", namesChecked)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, sum int64
		var text string
		if err := rows.Scan(&id, &text, &sum); err != nil {
			return err
		}
		if sum != nameSum(id, text) {
			return errSum
		}
	}
	b.checked = rows.Err() == nil
	return rows.Err()
}

// A naming gives ids to texts, within a transaction of the writer.
type naming struct {
	ids  map[string]int64
	used map[int64]uint64 // the newest record of each id that was used in this transaction
	made map[int64]string // not written yet
	next int64
}

// id gives a text its id, and notes that a record has it.
func (w *Writer) id(text string, seq uint64) (int64, error) {
	if text == "" {
		return none, nil
	}
	n := &w.names
	id, known := n.ids[text]
	if !known {
		found := false
		var err error
		if id, found, err = w.findName(text); err != nil {
			return 0, err
		}
		if !found {
			if n.next == 0 {
				if n.next, err = w.nextName(); err != nil {
					return 0, err
				}
			}
			id = n.next
			n.next++
			n.made[id] = text
		}
		n.ids[text] = id
	}
	if seq > n.used[id] {
		n.used[id] = seq
	}
	return id, nil
}

func (w *Writer) findName(text string) (id int64, found bool, err error) {
	err = w.nameOf.QueryRow(text).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return id, err == nil, err
}

func (w *Writer) nextName() (next int64, err error) {
	err = w.tx.QueryRow("SELECT seq + 1 FROM sqlite_sequence WHERE name = 'names'").Scan(&next)
	if errors.Is(err, sql.ErrNoRows) {
		return isOK + 1, nil
	}
	return next, err
}

// putNames writes the new names, and how long the others are needed.
func (w *Writer) putNames() error {
	n := &w.names
	insert := newBatch(w.tx, "INSERT INTO names", 4)
	for _, id := range slices.Sorted(maps.Keys(n.made)) {
		if err := insert.add(id, n.made[id], asInt(n.used[id]), nameSum(id, n.made[id])); err != nil {
			return err
		}
	}
	if err := insert.end(); err != nil {
		return err
	}
	update, err := w.tx.Prepare("UPDATE names SET newest = max(newest, ?) WHERE id = ?")
	if err != nil {
		return err
	}
	defer update.Close()
	for _, id := range slices.Sorted(maps.Keys(n.used)) {
		if _, made := n.made[id]; made || id == isOK {
			continue
		}
		if _, err := update.Exec(asInt(n.used[id]), id); err != nil {
			return err
		}
	}
	clear(n.made)
	clear(n.used)
	if len(n.ids) > namesMost {
		n.ids = map[string]int64{}
	}
	return nil
}
