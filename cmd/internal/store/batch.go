package store

import (
	"database/sql"
	"strings"
)

// A batch collects rows for a table, and writes many with one statement, which costs half of what one each does.
type batch struct {
	tx      *sql.Tx
	into    string // as "INSERT INTO runs"
	columns int
	whole   *sql.Stmt // of batchRows rows
	values  []any
}

const batchRows = 32

func newBatch(tx *sql.Tx, into string, columns int) *batch {
	return &batch{tx: tx, into: into, columns: columns}
}

func (b *batch) text(rows int) string {
	row := "(?" + strings.Repeat(",?", b.columns-1) + ")"
	return b.into + " VALUES " + row + strings.Repeat(","+row, rows-1)
}

// add adds a row.
func (b *batch) add(values ...any) (err error) {
	b.values = append(b.values, values...)
	if len(b.values) < batchRows*b.columns {
		return nil
	}
	if b.whole == nil {
		if b.whole, err = b.tx.Prepare(b.text(batchRows)); err != nil {
			return err
		}
	}
	_, err = b.whole.Exec(b.values...)
	b.values = b.values[:0]
	return err
}

// end writes the rows that are left.
func (b *batch) end() error {
	if b.whole != nil {
		defer b.whole.Close()
	}
	if len(b.values) == 0 {
		return nil
	}
	_, err := b.tx.Exec(b.text(len(b.values)/b.columns), b.values...)
	b.values = nil
	return err
}
