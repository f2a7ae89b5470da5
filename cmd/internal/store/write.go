package store

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"py3run/audit"
)

// A Writer brings an index up to date. There is one at a time; others wait.
type Writer struct {
	lock    *os.File // beside the index
	db      *sql.DB
	tx      *sql.Tx
	pending map[string]*Run // of this transaction
	days    map[day]*Group
	actions counting
	insert  *sql.Stmt
	find    *sql.Stmt
}

const lockGap = 10 * time.Millisecond

// A day is the key of a row of sums.
type day struct{ day, user, script, status string }

// OpenWriter opens an index, and makes it where there is none. With anew one that cannot be used is made again. It waits for so long until no other
// writer is at work.
func OpenWriter(path string, anew bool, patience time.Duration) (w *Writer, err error) {
	w = &Writer{}
	defer func() {
		if err != nil {
			w.Close()
			w = nil
		}
	}()
	if w.lock, err = os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600); err != nil {
		return w, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(lockGap) {
		err = syscall.Flock(int(w.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if err != syscall.EWOULDBLOCK || time.Now().After(deadline) {
			return w, fmt.Errorf("lock index %s: another writer is at work: %w", path, err)
		}
	}
	_, err = os.Stat(path)
	if err == nil {
		if w.db, err = open(path, true); !anew || err == nil {
			return w, err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return w, err
	}
	if err = create(path); err != nil {
		return w, fmt.Errorf("make index %s: %w", path, err)
	}
	w.db, err = open(path, true)
	return w, err
}

// Begin starts a transaction and tells how far the index has read the log.
func (w *Writer) Begin() (audit.Position, error) {
	tx, err := w.db.Begin()
	if err != nil {
		return audit.Position{}, damage(err)
	}
	w.tx, w.pending, w.days, w.actions = tx, map[string]*Run{}, map[day]*Group{}, counting{}
	if w.insert, err = tx.Prepare("INSERT OR REPLACE INTO runs (" + columns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"); err == nil {
		w.find, err = tx.Prepare("SELECT " + columns + " FROM runs WHERE run_id = ?")
	}
	var at audit.Position
	if err == nil {
		at, err = position(tx.QueryRow(selectPosition))
	}
	if err != nil {
		w.Rollback()
	}
	return at, damage(err)
}

const selectPosition = "SELECT seq, hash, segment, offset FROM cursor"

// position is the beginning of the log where nothing was read yet.
func position(from row) (at audit.Position, err error) {
	var seq, segment int64
	err = from.Scan(&seq, &at.Hash, &segment, &at.Offset)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	at.Seq, at.Segment = uint64(seq), uint64(segment)
	return at, err
}

// Add takes one record, in the order of the log.
func (w *Writer) Add(e Entry) error {
	w.actions.add(actionOf(e.Record))
	if !runsCode(e.Record.Event.Action) {
		return nil
	}
	id := e.Record.RunID
	r := w.pending[id]
	if r == nil {
		known, err := scanRun(w.find.QueryRow(id))
		switch {
		case err == nil:
			r = &known
		case errors.Is(err, sql.ErrNoRows):
			r = &Run{}
		default:
			return err
		}
		w.pending[id] = r
	}
	had := r.Status != ""
	r.add(e)
	if r.Status != "" && !had {
		key := day{dayOf(r.Started), r.User, r.Script, r.Status}
		if w.days[key] == nil {
			w.days[key] = &Group{}
		}
		w.days[key].merge(single(r))
	}
	return nil
}

// Commit makes what was added visible, with the place in the log that it was read to.
func (w *Writer) Commit(at audit.Position) error {
	err := w.flush(at)
	if err == nil {
		err = w.tx.Commit()
	}
	if err != nil {
		w.tx.Rollback()
	}
	w.tx, w.pending, w.days, w.actions = nil, nil, nil, nil
	return damage(err)
}

func (w *Writer) flush(at audit.Position) error {
	for _, r := range w.pending {
		var ended, exit any
		if r.Status != "" {
			ended = r.Ended.UnixMicro()
		}
		if r.ExitCode != nil {
			exit = *r.ExitCode
		}
		if _, err := w.insert.Exec(int64(r.seq()), r.ID, r.User, r.Auth, r.Client, r.Host, r.Script, r.Version, r.Command, r.Code, r.CodeBytes,
			r.Started.UnixMicro(), ended, r.Status, r.Reason, r.Duration.Microseconds(), r.CPU.Microseconds(), r.PeakMemory, r.StdoutBytes, r.StderrBytes,
			exit, r.Signal, int64(r.StartSeq), int64(r.EndSeq), r.EndHash); err != nil {
			return err
		}
	}
	for key, g := range w.days {
		old, err := scanDay(w.tx.QueryRow("SELECT runs, cpu, peak_memory, output_bytes, last, durations FROM days WHERE day=? AND user=? AND script=? AND status=?",
			key.day, key.user, key.script, key.status), key.status)
		if err == nil {
			g.merge(&old)
		} else if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := w.tx.Exec("INSERT OR REPLACE INTO days VALUES (?,?,?,?,?,?,?,?,?,?)", key.day, key.user, key.script, key.status,
			g.Runs, g.CPU.Microseconds(), g.PeakMemory, g.OutputBytes, g.Last.UnixMicro(), g.durations.encode()); err != nil {
			return err
		}
	}
	for key, n := range w.actions {
		if _, err := w.tx.Exec("INSERT INTO actions VALUES (?,?,?) ON CONFLICT DO UPDATE SET count = count + excluded.count", key[0], key[1], n); err != nil {
			return err
		}
	}
	_, err := w.tx.Exec("INSERT OR REPLACE INTO cursor VALUES (1,?,?,?,?)", int64(at.Seq), at.Hash, int64(at.Segment), at.Offset)
	return err
}

// Rollback forgets what was added since Begin, if that was not committed.
func (w *Writer) Rollback() error {
	if w.tx == nil {
		return nil
	}
	err := w.tx.Rollback()
	w.tx, w.pending, w.days, w.actions = nil, nil, nil, nil
	return err
}

// Clear empties the index within a transaction: the log is another one than it was made from.
func (w *Writer) Clear() error {
	clear(w.pending)
	clear(w.days)
	clear(w.actions)
	_, err := w.tx.Exec("DELETE FROM runs; DELETE FROM days; DELETE FROM actions; DELETE FROM cursor;")
	return err
}

// Close ends it.
func (w *Writer) Close() (err error) {
	if w.db != nil {
		err = w.db.Close()
	}
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
	}
	return err
}

type row interface{ Scan(...any) error }

func scanRun(from row) (r Run, err error) {
	var seq, started, duration, cpu, startSeq, endSeq int64
	var ended, exit sql.NullInt64
	err = from.Scan(&seq, &r.ID, &r.User, &r.Auth, &r.Client, &r.Host, &r.Script, &r.Version, &r.Command, &r.Code, &r.CodeBytes,
		&started, &ended, &r.Status, &r.Reason, &duration, &cpu, &r.PeakMemory, &r.StdoutBytes, &r.StderrBytes, &exit, &r.Signal, &startSeq, &endSeq, &r.EndHash)
	r.Started, r.StartSeq, r.EndSeq = time.UnixMicro(started).UTC(), uint64(startSeq), uint64(endSeq)
	r.Duration, r.CPU = time.Duration(duration)*time.Microsecond, time.Duration(cpu)*time.Microsecond
	if ended.Valid {
		r.Ended = time.UnixMicro(ended.Int64).UTC()
	}
	if exit.Valid {
		code := int(exit.Int64)
		r.ExitCode = &code
	}
	return r, err
}

func scanDay(from row, status string) (g Group, err error) {
	var cpu, last int64
	var durations []byte
	if err := from.Scan(&g.Runs, &cpu, &g.PeakMemory, &g.OutputBytes, &last, &durations); err != nil {
		return g, err
	}
	return g, g.complete(status, cpu, last, durations)
}

// complete fills in what a row of sums says in its own form.
func (g *Group) complete(status string, cpu, last int64, durations []byte) (err error) {
	g.CPU, g.Last, g.Statuses = time.Duration(cpu)*time.Microsecond, time.UnixMicro(last).UTC(), map[string]int64{status: g.Runs}
	if status != "ok" {
		g.Failed = g.Runs
	}
	g.durations, err = decodeHistogram(durations)
	return err
}
