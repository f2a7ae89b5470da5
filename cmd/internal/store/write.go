package store

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"py3run/audit"
)

// A Writer brings an index up to date, or makes one. There is one at a time; other writers wait.
//
// An index that is made is a file of its own until [Writer.Finish], so that readers of the old one are not disturbed. If
// its writer is killed, the next one goes on with what was committed. After another boot it begins anew.
type Writer struct {
	path     string
	building bool
	lock     *os.File // beside the index
	db       *sql.DB
	tx       *sql.Tx
	begun    audit.Position
	oldest   uint64 // first record of the log
	changed  bool   // since Begin
	piece
	names  naming
	book   nameBook
	values map[[2]int64]struct{} // labels that have sums
	many   map[int64]struct{}    // and names that have none

	find, nameOf *sql.Stmt
	tails        map[int64]struct{} // of the runs in the index that have no end; nil: not known, as they are too many
}

// tailsMost is how many runs without an end a writer remembers.
const tailsMost = 20_000

// A piece is what was added in a transaction.
type piece struct {
	open    map[string]*Run // without an end so far
	runs    []*Run
	old     map[*Run]*Run // as they are in the index, where they are
	actions map[action]int64
	spans   map[uint64]*segment
}

func newPiece() piece {
	return piece{map[string]*Run{}, nil, map[*Run]*Run{}, map[action]int64{}, map[uint64]*segment{}}
}

const lockGap = 10 * time.Millisecond

// building is what stands behind the path of an index that is not finished.
const building = ".new"

// An action is the key of a row of counts.
type action struct {
	segment      uint64
	name, reason string
}

// OpenWriter opens an index, and makes one if there is none. With anew it makes one in place of
// whatever is there. It waits for other writers for at most the given time.
func OpenWriter(path string, anew bool, patience time.Duration) (w *Writer, err error) {
	w = &Writer{path: path}
	w.forgetNames()
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
		w.building = true
		err = w.build(anew)
	} else if err == nil {
		w.db, err = open(path, toWrite, max(patience, readPatience))
	}
	return w, err
}

// build goes on with an index that was not finished, or begins one.
func (w *Writer) build(anew bool) (err error) {
	made := w.path + building
	if !anew {
		if w.db, err = open(made, toBuild, 0); err == nil {
			var boot int32
			var fault string
			if err = w.db.QueryRow("PRAGMA application_id").Scan(&boot); err == nil && boot == bootNumber() {
				err = w.db.QueryRow("PRAGMA quick_check(1)").Scan(&fault)
			}
			if err == nil && fault == "ok" {
				return nil
			}
			w.db.Close()
		}
	}
	if err = create(made); err == nil {
		w.db, err = open(made, toBuild, 0)
	}
	if err != nil {
		err = fmt.Errorf("make index %s: %w", w.path, err)
	}
	return err
}

// Building reports whether the index is being made: nobody sees it before Finish.
func (w *Writer) Building() bool { return w.building }

// Finish lets readers see an index that was made.
func (w *Writer) Finish() error {
	if !w.building {
		return nil
	}
	if _, err := w.db.Exec("BEGIN IMMEDIATE; " + secondary + " COMMIT;"); err != nil {
		return damage(err)
	}
	if err := w.db.Close(); err != nil {
		return err
	}
	w.db = nil
	made, err := os.OpenFile(w.path+building, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(made.Sync(), made.Close()); err != nil {
		return err
	}
	// A killed writer can have left a journal. It would be applied to the new file, and the old one is damaged without it:
	// both go, and if this writer is killed here, the next one goes on with the new file.
	if _, err := os.Lstat(w.path + "-journal"); err == nil {
		for _, name := range []string{w.path, w.path + "-journal"} {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	if err := os.Rename(w.path+building, w.path); err != nil {
		return err
	}
	w.building = false
	w.db, err = open(w.path, toWrite, readPatience)
	return err
}

// forgetNames drops what the writer knows of the tables beyond a transaction.
func (w *Writer) forgetNames() {
	w.names = naming{ids: map[string]int64{}, used: map[int64]uint64{}, made: map[int64]string{}}
	w.values, w.many = map[[2]int64]struct{}{}, map[int64]struct{}{}
	w.book = nameBook{}
}

// Begin starts a transaction and returns how far the index has read the log.
func (w *Writer) Begin() (at audit.Position, err error) {
	if w.tx, err = w.db.Begin(); err != nil {
		return audit.Position{}, damage(err)
	}
	w.piece = newPiece()
	for to, text := range map[**sql.Stmt]string{
		&w.find:   "SELECT " + runColumns + " FROM runs WHERE tail = ? AND status = 0 ORDER BY runs.seq DESC",
		&w.nameOf: "SELECT id FROM names WHERE text = ?",
	} {
		if err == nil {
			*to, err = w.tx.Prepare(text)
		}
	}
	if err == nil {
		err = w.learnTails()
	}
	if err == nil {
		at, err = position(w.tx.QueryRow(selectPosition))
	}
	if err == nil {
		var oldest int64
		err = w.tx.QueryRow("SELECT coalesce(max(oldest), 0) FROM cursor").Scan(&oldest)
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
	span := w.spans[e.Place.Segment].with(e.Record)
	w.spans[e.Place.Segment] = span
	if !aboutRun(e.Record) {
		if err := w.record(e); err != nil {
			return err
		}
		if r := summaryOf(e); r != nil {
			w.runs = append(w.runs, r)
			span.began(r.Started)
		}
		return nil
	}
	id := e.Record.RunID
	r := w.open[id]
	if r == nil {
		known, err := w.openRun(id)
		if err != nil {
			return err
		}
		r = &Run{}
		if known != nil {
			*r = *known
			w.old[r] = known
		}
		w.open[id] = r
		w.runs = append(w.runs, r)
	}
	r.add(e)
	span.began(r.Started)
	if r.Status != "" {
		delete(w.open, id)
	}
	return nil
}

// learnTails reads which runs have no end.
func (w *Writer) learnTails() error {
	rows, err := w.tx.Query("SELECT tail FROM runs WHERE status = 0 LIMIT ?", tailsMost+1)
	if err != nil {
		return err
	}
	defer rows.Close()
	w.tails = map[int64]struct{}{}
	n := 0 // two runs can have the same tail
	for ; rows.Next(); n++ {
		var tail int64
		if err := rows.Scan(&tail); err != nil {
			return err
		}
		w.tails[tail] = struct{}{}
	}
	if n > tailsMost {
		w.tails = nil
	}
	return rows.Err()
}

// openRun finds a run without an end in the index; nil: there is none.
func (w *Writer) openRun(id string) (*Run, error) {
	if _, has := w.tails[tailOf(id)]; w.tails != nil && !has {
		return nil, nil
	}
	rows, err := w.find.Query(tailOf(id))
	if err != nil {
		return nil, err
	}
	list, err := scanRuns(w.tx, &w.book, rows)
	for i := range list {
		if list[i].ID == id {
			return &list[i], err
		}
	}
	return nil, err
}

// Commit makes visible what was added, and notes up to where the log was read.
func (w *Writer) Commit(at audit.Position) error {
	if !w.changed && at == w.begun { // there is nothing to write to the disk
		return w.Rollback()
	}
	err := w.flush(at)
	if err == nil {
		err = w.tx.Commit()
		w.tx = nil
	}
	if err != nil {
		w.Rollback()
	}
	w.piece = piece{}
	return damage(err)
}

func (w *Writer) flush(at audit.Position) error {
	if err := w.putRuns(); err != nil {
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

// putRuns writes the runs of the piece, with their sums and labels.
func (w *Writer) putRuns() error {
	// In the order of the key, so that SQLite appends.
	slices.SortFunc(w.runs, func(a, b *Run) int { return cmp.Compare(a.Place(), b.Place()) })
	sums := summing{}
	rows := w.newRows()
	for _, r := range w.runs {
		s, err := w.put(r, w.old[r], rows)
		if err != nil {
			return err
		}
		if r.Status != "" {
			if err := w.count(sums, r, &s.ids); err != nil {
				return err
			}
		}
	}
	if err := rows.end(); err != nil {
		return err
	}
	sums.spread()
	if err := w.putSums(sums); err != nil {
		return err
	}
	return w.putNames()
}

// Rows of runs are written in the order of their key, and so are their labels.
type runRows struct {
	tx     *sql.Tx
	runs   *batch
	labels [][2]int64
}

func (w *Writer) newRows() *runRows {
	return &runRows{tx: w.tx, runs: newBatch(w.tx, "INSERT OR REPLACE INTO runs", strings.Count(runColumns, ",")+1)}
}

// put writes a run in place of the old row, if there is one.
func (w *Writer) put(r, old *Run, to *runRows) (s storedRun, err error) {
	if old != nil {
		if err := w.remove(old, r.Place()); err != nil {
			return s, err
		}
	}
	if s, err = w.store(r); err != nil {
		return s, err
	}
	if err = to.runs.add(s.values()...); err != nil {
		return s, err
	}
	for name, value := range r.Labels {
		id, err := w.id(labelName(name, value), r.newest())
		if err != nil {
			return s, err
		}
		to.labels = append(to.labels, [2]int64{id, s.seq})
	}
	return s, nil
}

func (rows *runRows) end() error {
	if err := rows.runs.end(); err != nil {
		return err
	}
	slices.SortFunc(rows.labels, func(a, b [2]int64) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	labels := newBatch(rows.tx, "INSERT OR IGNORE INTO labelled", 2)
	for _, l := range rows.labels {
		if err := labels.add(l[0], l[1]); err != nil {
			return err
		}
	}
	return labels.end()
}

// remove removes the labels of a row, and the row itself if the run has another place now.
func (w *Writer) remove(old *Run, place uint64) error {
	for name, value := range old.Labels {
		if _, err := w.tx.Exec("DELETE FROM labelled WHERE label = (SELECT id FROM names WHERE text = ?) AND seq = ?", labelName(name, value), int64(old.Place())); err != nil {
			return err
		}
	}
	if old.Place() == place {
		return nil
	}
	_, err := w.tx.Exec("DELETE FROM runs WHERE seq = ?", int64(old.Place()))
	return err
}

// Rollback drops what was added since Begin, unless it was committed.
func (w *Writer) Rollback() error {
	w.piece = piece{}
	w.forgetNames() // also where the commit has failed: the ids that it made are not in the index
	if w.tx == nil {
		return nil
	}
	err := w.tx.Rollback()
	w.tx = nil
	return err
}

// Clear empties the index within a transaction: the log is not the one that the index was made
// from.
func (w *Writer) Clear() error {
	w.piece = newPiece()
	w.forgetNames()
	w.oldest, w.changed = 0, true
	_, err := w.tx.Exec("DELETE FROM runs; DELETE FROM labelled; DELETE FROM sums; DELETE FROM label_values; DELETE FROM many; DELETE FROM names WHERE id <> 1; " +
		"DELETE FROM actions; DELETE FROM records; DELETE FROM segments; DELETE FROM cursor;")
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

// asInt is a number of a record as SQLite can have it.
func asInt(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
