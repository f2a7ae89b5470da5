package store

import (
	"context"
	"database/sql"
	"os"
	"sync"
	"time"

	"py3run/audit"
)

// readPatience is how long a reader waits for a writer that is about to end, and the other way round.
const readPatience = 10 * time.Second

// An Index answers from the derived file. It can be used by several goroutines. When the file is replaced by another
// one, it goes on with that.
type Index struct {
	path string
	mu   sync.Mutex
	now  *openFile
}

// An openFile is an index as it was when it was opened.
type openFile struct {
	db    *sql.DB
	info  os.FileInfo
	names nameBook
}

// OpenIndex opens an index for reading. The caller has to know that there is one. It waits a little
// for a writer that holds the index.
func OpenIndex(path string) (*Index, error) {
	f, err := openFileAt(path)
	if err != nil {
		return nil, err
	}
	return &Index{path: path, now: f}, nil
}

func openFileAt(path string) (*openFile, error) {
	info, err := os.Stat(path) // before it is opened: if another file comes between, the next question notices
	if err != nil {
		return nil, err
	}
	db, err := open(path, toRead, readPatience)
	if err != nil {
		return nil, err
	}
	return &openFile{db: db, info: info}, nil
}

// file is the file that is there now. One that has been removed still answers.
func (x *Index) file() (*openFile, error) {
	info, err := os.Stat(x.path)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil || os.SameFile(info, x.now.info) {
		return x.now, nil
	}
	f, err := openFileAt(x.path)
	if err != nil {
		return nil, err
	}
	x.now.db.Close() // questions that are being answered end first
	x.now = f
	return f, nil
}

// begin starts a question. Between file and BeginTx, another goroutine can have closed a file that was replaced.
func (x *Index) begin() (*openFile, *sql.Tx, error) {
	for {
		f, err := x.file()
		if err != nil {
			return nil, nil, err
		}
		tx, err := f.db.BeginTx(context.Background(), nil)
		if err != nil && x.isReplaced(f) {
			continue
		}
		return f, tx, err
	}
}

func (x *Index) isReplaced(f *openFile) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now != f
}

// A view is an index at one moment. It holds the writer up, so it has to end soon.
type view struct {
	*sql.Tx
	names *nameBook
}

// look asks the index as it is at one moment.
func (x *Index) look(ask func(view) error) error {
	f, tx, err := x.begin()
	if err != nil {
		return damage(err)
	}
	defer tx.Rollback()
	return damage(ask(view{tx, &f.names}))
}

// Holds reports whether the index has runs or counts from before the record seq, which retention
// has removed.
func (x *Index) Holds(seq uint64) (holds bool, err error) {
	err = x.look(func(v view) error {
		return v.QueryRow("SELECT EXISTS (SELECT 1 FROM runs WHERE seq < ?1) OR EXISTS (SELECT 1 FROM actions WHERE segment < ?1) OR EXISTS (SELECT 1 FROM records WHERE seq < ?1)", asInt(seq)).Scan(&holds)
	})
	return holds, err
}

// Position is how far the index has read the log.
func (x *Index) Position() (at audit.Position, err error) {
	err = x.look(func(v view) (err error) {
		at, err = position(v.QueryRow(selectPosition))
		return err
	})
	return at, err
}

// Close closes the index.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now.db.Close()
}

// Actions reads the sums.
func (x *Index) Actions() (list []Action, err error) {
	err = x.look(func(v view) error {
		rows, err := v.Query("SELECT name, reason, sum(count) FROM actions GROUP BY name, reason ORDER BY name, reason")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var a Action
			if err := rows.Scan(&a.Name, &a.Reason, &a.Count); err != nil {
				return err
			}
			list = append(list, a)
		}
		return rows.Err()
	})
	return list, err
}
