package store

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"py3run/audit"
)

// A Writer brings an index up to date. There is one at a time; other writers wait.
type Writer struct {
	lock    *os.File // beside the index
	db      *sql.DB
	tx      *sql.Tx
	pending map[string]*Run // changed in this transaction
	days    map[day]*Group
	actions map[action]int64
	oldest  uint64 // first record of the log
	begun   audit.Position
	changed bool // since Begin
	spans   map[uint64]*segment
	insert  *sql.Stmt
	find    *sql.Stmt
}

const lockGap = 10 * time.Millisecond

// An action is the key of a row of counts.
type action struct {
	segment      uint64
	name, reason string
}

// OpenWriter opens an index, and makes one if there is none. With anew it makes one in place of
// whatever is there. It waits for other writers for at most the given time.
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
	if _, err = os.Stat(path); anew || errors.Is(err, os.ErrNotExist) {
		if err = create(path); err != nil {
			return w, fmt.Errorf("make index %s: %w", path, err)
		}
	}
	if err == nil {
		w.db, err = open(path, true, max(patience, readPatience))
	}
	return w, err
}

// Begin starts a transaction and returns how far the index has read the log.
func (w *Writer) Begin() (audit.Position, error) {
	tx, err := w.db.Begin()
	if err != nil {
		return audit.Position{}, damage(err)
	}
	w.tx, w.pending, w.days, w.actions, w.spans = tx, map[string]*Run{}, map[day]*Group{}, map[action]int64{}, map[uint64]*segment{}
	if w.insert, err = tx.Prepare("INSERT OR REPLACE INTO runs (" + columns + ") VALUES (?" + strings.Repeat(",?", strings.Count(columns, ",")) + ")"); err == nil {
		w.find, err = tx.Prepare("SELECT " + columns + " FROM runs WHERE run_id = ?")
	}
	var at audit.Position
	if err == nil {
		at, err = position(tx.QueryRow(selectPosition))
	}
	if err == nil {
		var oldest int64
		err = tx.QueryRow("SELECT coalesce(max(oldest), 0) FROM cursor").Scan(&oldest)
		w.oldest = uint64(oldest)
	}
	w.begun, w.changed = at, false
	if err == nil && at == (audit.Position{}) { // nothing was read: what is there belongs to no log
		err = w.Clear()
	}
	if err != nil {
		w.Rollback()
	}
	return at, damage(err)
}

const selectPosition = "SELECT seq, hash, segment, offset FROM cursor"

// position is how far the index has read the log: the beginning if nothing was read yet.
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
	w.changed = true
	a := actionOf(e.Record)
	w.actions[action{e.Place.Segment, a.Name, a.Reason}] += a.Count
	w.spans[e.Place.Segment] = w.spans[e.Place.Segment].with(e.Record)
	if !aboutRun(e.Record) {
		if err := w.record(e); err != nil {
			return err
		}
		return w.summary(e.Record)
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
		key := r.day()
		if w.days[key] == nil {
			w.days[key] = &Group{}
		}
		w.days[key].merge(single(r))
	}
	return nil
}

// Commit makes visible what was added, and notes up to where the log was read.
func (w *Writer) Commit(at audit.Position) error {
	if !w.changed && at == w.begun { // there is nothing to write to the disk
		return w.Rollback()
	}
	err := w.flush(at)
	if err == nil {
		err = w.tx.Commit()
	}
	if err != nil {
		w.tx.Rollback()
	}
	w.tx, w.pending, w.days, w.actions, w.spans = nil, nil, nil, nil, nil
	return damage(err)
}

func (w *Writer) flush(at audit.Position) error {
	// In the order of the key, so that SQLite appends.
	for _, r := range slices.SortedFunc(maps.Values(w.pending), func(a, b *Run) int { return cmp.Compare(a.Place(), b.Place()) }) {
		if err := w.put(r); err != nil {
			return err
		}
	}
	if err := w.addDays(w.days); err != nil {
		return err
	}
	for key, n := range w.actions {
		if _, err := w.tx.Exec("INSERT INTO actions VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET count = count + excluded.count", int64(key.segment), key.name, key.reason, n); err != nil {
			return err
		}
	}
	if err := w.putSpans(); err != nil {
		return err
	}
	_, err := w.tx.Exec("INSERT OR REPLACE INTO cursor VALUES (1,?,?,?,?,?)", int64(at.Seq), at.Hash, int64(at.Segment), at.Offset, int64(w.oldest))
	return err
}

// addDays adds to the sums of days.
func (w *Writer) addDays(days map[day]*Group) error {
	for key, g := range days {
		_, old, err := scanDay(w.tx.QueryRow("SELECT * FROM days WHERE day=? AND user=? AND asserted=? AND script=? AND status=?", key.day, key.user, bit(key.asserted), key.script, key.status))
		if err == nil {
			g.merge(&old)
		} else if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := w.tx.Exec("INSERT OR REPLACE INTO days VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", append(g.row(key), rowSum(g.row(key)...))...); err != nil {
			return err
		}
	}
	return nil
}

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
	return false, damage(w.forget(int64(first)))
}

// loseStarts removes the starts of runs that began before a record.
func (w *Writer) loseStarts(first int64) error {
	rows, err := w.tx.Query("SELECT "+columns+" FROM runs WHERE seq < ?", first)
	if err != nil {
		return err
	}
	defer rows.Close()
	var all []Run
	for rows.Next() {
		r, err := scanRun(rows)
		if err != nil {
			return err
		}
		r.StartSeq, r.StartAt, r.Started = 0, audit.Place{}, r.Ended.Add(-r.Duration)
		all = append(all, r)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, r := range all {
		if err := w.put(&r); err != nil {
			return err
		}
	}
	return nil
}

// put writes a run, and replaces its row if there is one.
func (w *Writer) put(r *Run) error {
	row := r.row()
	_, err := w.insert.Exec(append(row, rowSum(row...))...)
	return err
}

func (w *Writer) forget(first int64) error {
	if _, err := w.tx.Exec("DELETE FROM actions WHERE segment < ?", first); err != nil {
		return err
	}
	for _, text := range []string{"DELETE FROM refusals WHERE seq < ?", "DELETE FROM records WHERE seq < ?", "DELETE FROM segments WHERE segment < ?"} {
		if _, err := w.tx.Exec(text, first); err != nil {
			return err
		}
	}
	touched := map[string]bool{}
	rows, err := w.tx.Query("SELECT started, coalesce(ended, started) - duration FROM runs WHERE seq < ?", first)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var was, becomes int64
		if err := rows.Scan(&was, &becomes); err != nil {
			return err
		}
		touched[dayOf(time.UnixMicro(was))], touched[dayOf(time.UnixMicro(becomes))] = true, true
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(touched) == 0 {
		return err
	}
	w.changed = true
	if _, err := w.tx.Exec("DELETE FROM runs WHERE seq < ? AND end_seq < ?", first, first); err != nil {
		return err
	}
	if err := w.loseStarts(first); err != nil {
		return err
	}
	sums := map[day]*Group{}
	for name := range touched {
		if _, err := w.tx.Exec("DELETE FROM days WHERE day = ?", name); err != nil {
			return err
		}
		since, err := time.Parse(dayLayout, name)
		if err != nil {
			return err
		}
		if err := endedRuns(w.tx, Query{}, since, since.AddDate(0, 0, 1), func(r *Run) {
			key := r.day()
			if sums[key] == nil {
				sums[key] = &Group{}
			}
			sums[key].merge(single(r))
		}); err != nil {
			return err
		}
	}
	return w.addDays(sums)
}

// Rollback drops what was added since Begin, unless it was committed.
func (w *Writer) Rollback() error {
	if w.tx == nil {
		return nil
	}
	err := w.tx.Rollback()
	w.tx, w.pending, w.days, w.actions, w.spans = nil, nil, nil, nil, nil
	return err
}

// Clear empties the index within a transaction: the log is not the one that the index was made
// from.
func (w *Writer) Clear() error {
	clear(w.pending)
	clear(w.days)
	clear(w.actions)
	clear(w.spans)
	w.oldest, w.changed = 0, true
	_, err := w.tx.Exec("DELETE FROM runs; DELETE FROM days; DELETE FROM actions; DELETE FROM refusals; DELETE FROM records; DELETE FROM segments; DELETE FROM cursor;")
	return err
}

// Close closes the index and releases its lock.
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

// row is the row of a run, without the checksum.
func (r *Run) row() []any {
	var ended, exit any
	if r.Status != "" {
		ended = r.Ended.UnixMicro()
	}
	if r.ExitCode != nil {
		exit = int64(*r.ExitCode)
	}
	return []any{int64(r.Place()), r.ID, r.User, r.Auth, r.OSUser, r.KeyID, r.Holder, r.Client, r.Host, r.Script, r.Version, r.Source, r.Path, r.Invocation, r.Command,
		LabelText(r.Labels), r.Code, r.CodeBytes,
		r.Started.UnixMicro(), ended, r.Status, r.Reason, r.Duration.Microseconds(), r.CPU.Microseconds(), r.PeakMemory, r.StdoutBytes, r.StderrBytes,
		exit, r.Signal, int64(r.StartSeq), int64(r.StartAt.Segment), r.StartAt.Offset, int64(r.EndSeq), int64(r.EndAt.Segment), r.EndAt.Offset, r.EndHash}
}

func scanRun(from row) (r Run, err error) {
	var seq, started, duration, cpu, startSeq, startSegment, endSeq, endSegment, sum int64
	var ended, exit sql.NullInt64
	var labels string
	if err = from.Scan(&seq, &r.ID, &r.User, &r.Auth, &r.OSUser, &r.KeyID, &r.Holder, &r.Client, &r.Host, &r.Script, &r.Version, &r.Source, &r.Path, &r.Invocation, &r.Command,
		&labels, &r.Code, &r.CodeBytes,
		&started, &ended, &r.Status, &r.Reason, &duration, &cpu, &r.PeakMemory, &r.StdoutBytes, &r.StderrBytes, &exit, &r.Signal, &startSeq, &startSegment, &r.StartAt.Offset,
		&endSeq, &endSegment, &r.EndAt.Offset, &r.EndHash, &sum); err != nil {
		return r, err
	}
	r.Started, r.StartSeq, r.EndSeq = time.UnixMicro(started).UTC(), uint64(startSeq), uint64(endSeq)
	r.StartAt.Segment, r.EndAt.Segment = uint64(startSegment), uint64(endSegment)
	if r.StartAt != (audit.Place{}) {
		r.StartAt.Seq = r.StartSeq
	}
	if r.EndAt != (audit.Place{}) {
		r.EndAt.Seq = r.EndSeq
	}
	r.Duration, r.CPU = time.Duration(duration)*time.Microsecond, time.Duration(cpu)*time.Microsecond
	if ended.Valid {
		r.Ended = time.UnixMicro(ended.Int64).UTC()
	}
	if exit.Valid {
		code := int(exit.Int64)
		r.ExitCode = &code
	}
	if labels != "" && json.Unmarshal([]byte(labels), &r.Labels) != nil {
		return r, errSum
	}
	if rowSum(r.row()...) != sum || int64(r.Place()) != seq {
		err = errSum
	}
	return r, err
}

// LabelText is the text of labels: a JSON object with its names sorted, or nothing for none.
func LabelText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	text, _ := json.Marshal(labels) // strings can always be written
	return string(text)
}

func bit(set bool) int64 {
	if set {
		return 1
	}
	return 0
}

// row is the row of a group in days, without the checksum.
func (g *Group) row(key day) []any {
	return []any{key.day, key.user, bit(key.asserted), key.script, key.status, g.Runs, g.CPU.Microseconds(), g.PeakMemory, g.OutputBytes, g.Last.UnixMicro(), g.durations.encode()}
}

func scanDay(from row) (key day, g Group, err error) {
	var cpu, last, sum int64
	var durations []byte
	if err := from.Scan(&key.day, &key.user, &key.asserted, &key.script, &key.status, &g.Runs, &cpu, &g.PeakMemory, &g.OutputBytes, &last, &durations, &sum); err != nil {
		return key, g, err
	}
	g.CPU, g.Last, g.Statuses = time.Duration(cpu)*time.Microsecond, time.UnixMicro(last).UTC(), map[string]int64{key.status: g.Runs}
	if key.status != "ok" {
		g.Failed = g.Runs
	}
	if g.durations, err = decodeHistogram(durations); err == nil && rowSum(g.row(key)...) != sum {
		err = errSum
	}
	return key, g, err
}
