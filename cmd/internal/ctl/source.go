package ctl

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
)

// A desk is where a command works: which log, and who reads what it says.
type desk struct {
	dir           string // of the log
	config        config.Config
	out, err      io.Writer
	outIsTerminal bool
	errIsTerminal bool
}

func (d desk) warn(err error) { d.warnf("%v", err) }

func (d desk) warnf(format string, args ...any) {
	fmt.Fprintf(d.err, "py3runctl: warning: "+format+"\n", args...)
}

const indexName = "index.sqlite"

// indexPath is where the index is when nobody names another place: beside the log, whose permissions hold for it too.
func (d desk) indexPath(named string) string {
	if named != "" {
		return named
	}
	return filepath.Join(d.dir, indexName)
}

// entries are the records behind a position. A line that is no record is given to bad and passed over: verify says what is wrong with it.
func (d desk) entries(r *audit.Reader, from audit.Position, at *audit.Position, bad func(error)) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for line, err := range r.Records(from) {
			if line := new(audit.LineError); errors.As(err, &line) {
				bad(err)
				continue
			}
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			rec, err := line.Record()
			if err != nil {
				bad(fmt.Errorf("record %d: %w", line.Seq, err))
				continue
			}
			position := line.Position()
			if at != nil {
				*at = position
			}
			if !yield(store.Entry{Record: rec, Hash: position.Hash}, nil) {
				return
			}
		}
	}
}

// source is the index where there is one, brought up to date if this user may write it, else the log.
func (d desk) source(index string) (store.Source, error) {
	path := d.indexPath(index)
	if _, err := os.Stat(path); err != nil && index == "" { // a directory that this user cannot enter is the log's to tell
		return d.logSource()
	}
	failed := d.update(path, false, false)
	s, err := store.OpenIndex(path)
	if err != nil && index == "" {
		d.warnf("%v: the log is read instead; py3runctl index --rebuild makes the index anew", err)
		return d.logSource()
	}
	if err == nil && failed != nil {
		if n := d.behind(s); n > 0 {
			d.warnf("the index is %d records behind the log: %v", n, failed)
		}
	}
	return s, err
}

// behind is how many records of the log an index does not have.
func (d desk) behind(index *store.Index) uint64 {
	at, err := index.Position()
	r, openErr := audit.OpenReader(d.dir)
	if err != nil || openErr != nil {
		return 0
	}
	defer r.Close()
	for line, err := range r.Backward() {
		if err == nil {
			return line.Seq - min(at.Seq, line.Seq)
		}
	}
	return 0
}

func (d desk) logSource() (store.Source, error) {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return nil, err
	}
	return logSource{store.Log{Entries: d.entries(r, audit.Position{}, nil, d.warn)}, r}, nil
}

// logSource closes the reader as well.
type logSource struct {
	store.Log
	reader *audit.Reader
}

func (l logSource) Close() error { return l.reader.Close() }

const (
	indexPiece    = 50_000 // records of one transaction
	indexPatience = 10 * time.Second
)

// update brings an index up to date, or makes it, anew if that is asked for.
func (d desk) update(path string, anew, tellProgress bool) error {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	patience := indexPatience
	if tellProgress { // it is all that is wanted
		patience = time.Hour
	}
	w, err := store.OpenWriter(path, anew, patience)
	if err != nil {
		return err
	}
	defer w.Close()
	began, shown := time.Now(), time.Now()
	for total := 0; ; anew = false {
		n, err := d.updatePiece(w, r, anew)
		if err != nil {
			return fmt.Errorf("index %s: %w", path, err)
		}
		total += n
		if n < indexPiece {
			if tellProgress {
				fmt.Fprintf(d.err, "py3runctl: %d records read in %v\n", total, time.Since(began).Round(time.Millisecond))
			}
			return nil
		}
		if tellProgress && d.errIsTerminal && time.Since(shown) > time.Second {
			fmt.Fprintf(d.err, "%d records\r", total)
			shown = time.Now()
		}
	}
}

// updatePiece takes the next records in one transaction.
func (d desk) updatePiece(w *store.Writer, r *audit.Reader, anew bool) (n int, err error) {
	from, err := w.Begin()
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			w.Rollback()
		}
	}()
	if anew {
		from = audit.Position{}
		if err := w.Clear(); err != nil {
			return 0, err
		}
	}
	at, behind := from, uint64(0)
	for tries := 0; ; tries++ {
		gone := new(audit.PositionError)
		n, err = d.addPiece(w, r, from, behind, &at)
		if tries > 0 || !errors.As(err, &gone) {
			break
		}
		from = audit.Position{}
		if gone.Pruned {
			behind = gone.Position.Seq
			d.warnf("records behind number %d were removed by retention before the index has seen them", behind)
			continue
		}
		d.warnf("the log is not the one that the index was made from (%v): it is made anew", err)
		at = audit.Position{}
		if err = w.Clear(); err != nil {
			break
		}
	}
	if err == nil {
		err = w.Commit(at)
	}
	return n, err
}

func (d desk) addPiece(w *store.Writer, r *audit.Reader, from audit.Position, behind uint64, at *audit.Position) (n int, err error) {
	for e, err := range d.entries(r, from, at, d.warn) {
		if err == nil && e.Record.Seq > behind {
			n++
			err = w.Add(e)
		}
		if err != nil || n == indexPiece {
			return n, err
		}
	}
	return n, nil
}
