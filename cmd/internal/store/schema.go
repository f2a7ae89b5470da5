package store

import (
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"net/url"
	"os"
	"syscall"
	"time"

	"modernc.org/sqlite" // and the driver "sqlite"

	"py3run/internal/bootid"
)

// schemaVersion is the version of the tables. A file of another version is made again from the log.
const schemaVersion = 7

// The tables. Times are microseconds since 1970, durations are microseconds.
//
// names has every text once that stands in runs and sums: the rows have its id. 0 is the empty text,
// which has no row. newest is the newest record with the text: retention removes a text with its
// records. Ids are never given twice, so that a reader can keep them.
//
// runs has a row for each run, and for each summary of refusals, by its place in the log. data is the
// whole run, see [appendRun]; the other columns are what queries ask for. labelled has the labels of
// runs, and sums has the sums of the ended runs by the hour, day and month of their start, see
// [slices]; many are the names of labels with too many values for that. records are those that are no
// run's start or end. segments says which records each segment of the log has, and when its runs
// began. actions counts records by segment.
const schema = `
CREATE TABLE names (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, newest INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX names_text ON names (text);
CREATE TABLE runs (
  seq INTEGER PRIMARY KEY, head INTEGER NOT NULL, tail INTEGER NOT NULL, user INTEGER NOT NULL, key INTEGER NOT NULL, holder INTEGER NOT NULL, client INTEGER NOT NULL,
  host INTEGER NOT NULL, script INTEGER NOT NULL, version INTEGER NOT NULL, code INTEGER NOT NULL, status INTEGER NOT NULL, started INTEGER NOT NULL, data BLOB NOT NULL
) STRICT;
CREATE INDEX runs_open ON runs (tail) WHERE status = 0;
CREATE TABLE labelled (label INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (label, seq)) WITHOUT ROWID, STRICT;
CREATE TABLE sums (slice INTEGER NOT NULL, level INTEGER NOT NULL, at INTEGER NOT NULL, a INTEGER NOT NULL, b INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (slice, level, at, a, b)) WITHOUT ROWID, STRICT;
CREATE TABLE label_values (name INTEGER NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name, value)) WITHOUT ROWID, STRICT;
CREATE TABLE many (label INTEGER PRIMARY KEY) STRICT;
CREATE TABLE records (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, action TEXT NOT NULL, reason TEXT NOT NULL, user TEXT NOT NULL, auth TEXT NOT NULL, script TEXT NOT NULL,
  host TEXT NOT NULL, title TEXT NOT NULL, asserted INTEGER NOT NULL, hidden INTEGER NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE TABLE segments (segment INTEGER PRIMARY KEY, first INTEGER NOT NULL, first_at INTEGER NOT NULL, last INTEGER NOT NULL, last_at INTEGER NOT NULL, records INTEGER NOT NULL,
  began_first INTEGER NOT NULL, began_last INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE TABLE actions (segment INTEGER NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (segment, name, reason)) WITHOUT ROWID, STRICT;
CREATE TABLE cursor (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
  oldest INTEGER NOT NULL) STRICT;
INSERT INTO names VALUES (1, 'ok', 9223372036854775807, %d);
`

// secondary are the indexes that only readers need. They are made when all rows are there, which costs a third.
const secondary = `
CREATE INDEX IF NOT EXISTS runs_head ON runs (head);
CREATE INDEX IF NOT EXISTS runs_tail ON runs (tail);
CREATE INDEX IF NOT EXISTS runs_user ON runs (user);
CREATE INDEX IF NOT EXISTS runs_key ON runs (key) WHERE key <> 0;
CREATE INDEX IF NOT EXISTS runs_holder ON runs (holder) WHERE holder <> 0;
CREATE INDEX IF NOT EXISTS runs_host ON runs (host);
CREATE INDEX IF NOT EXISTS runs_script ON runs (script) WHERE script <> 0;
CREATE INDEX IF NOT EXISTS runs_code ON runs (code) WHERE code <> 0;
CREATE INDEX IF NOT EXISTS runs_status ON runs (status) WHERE status <> 1;
CREATE INDEX IF NOT EXISTS runs_started ON runs (started);
CREATE INDEX IF NOT EXISTS sums_of ON sums (slice, level, a, b);
`

// The ids of names that are known beforehand.
const (
	none = 0 // the empty text
	isOK = 1 // "ok"
)

// rowSum is a checksum of a row: SQLite notices damage to the structure of its pages, but not to
// the contents of a cell.
func rowSum(values ...any) int64 {
	s := newSum()
	for _, v := range values {
		switch v := v.(type) {
		case int64:
			s.number(v)
		case string:
			s.text(v)
		default:
			panic(fmt.Sprintf("store: no sum of a %T", v))
		}
	}
	return int64(s)
}

// A sum is a checksum: FNV-1a, but of eight bytes at once. Each step can be reversed, so that no change of one
// value leaves it as it was.
type sum uint64

func newSum() sum { return 14695981039346656037 }

func (s *sum) number(n int64) {
	*s = sum(bits.RotateLeft64((uint64(*s)^uint64(n))*1099511628211, 29))
}

func (s *sum) text(t string) {
	s.number(int64(len(t)))
	for ; len(t) >= 8; t = t[8:] {
		s.number(int64(uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 | uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56))
	}
	for i := range len(t) {
		s.number(int64(t[i]))
	}
}

var errSum = fmt.Errorf("%w: a row is not what was written", ErrDamaged)

// Why an index cannot be used. It can be made again from the log.
var (
	ErrVersion = errors.New("made by another version")
	ErrDamaged = errors.New("damaged")
)

// damage wraps an error of SQLite about a damaged file in ErrDamaged.
func damage(err error) error {
	const corrupt, notADatabase = 11, 26 // sqlite.org/rescode.html
	if e := new(sqlite.Error); errors.As(err, &e) && (e.Code()&0xff == corrupt || e.Code()&0xff == notADatabase) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// readersMost is how many questions one process asks of an index at once.
const readersMost = 8

// How a file is opened.
const (
	toRead  = "mode=ro"
	toWrite = "mode=rw&_txlock=immediate&_pragma=secure_delete(1)" + // what retention removes must not stay in free pages
		"&_pragma=cache_spill(0)&_pragma=cache_size(-65536)" // a writer that runs out of room would lock readers out before its end
	toBuild = "mode=rw&_txlock=immediate&_pragma=synchronous(0)&_pragma=cache_size(-49152)" // nobody reads it yet, and it can be made again
)

func source(path, how string) string {
	return (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: how}).String()
}

func open(path, how string, patience time.Duration) (*sql.DB, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // do not wait for a pipe
		cause := errors.New("not a regular file")
		if info.IsDir() {
			cause = syscall.EISDIR
		}
		return nil, fmt.Errorf("open index %s: %w", path, cause)
	}
	// Readers and the writer lock each other out for a moment; each waits for the other.
	db, err := sql.Open("sqlite", source(path, how+fmt.Sprintf("&_pragma=busy_timeout(%d)", patience.Milliseconds())))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if how == toRead {
		db.SetMaxOpenConns(readersMost)
		db.SetMaxIdleConns(readersMost)
	}
	var version int
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		db.Close()
		return nil, fmt.Errorf("open index %s: %w", path, damage(err))
	}
	if version != schemaVersion {
		db.Close()
		return nil, fmt.Errorf("open index %s: %w", path, ErrVersion)
	}
	if err := isWhole(db, path); err != nil {
		db.Close()
		return nil, fmt.Errorf("open index %s: %w", path, damage(err))
	}
	return db, nil
}

// bootNumber stands for this boot in the header of an index that is being made. That is written without waiting for the
// disk, so that a power cut can leave pages of different ages in it, which look whole and lack runs.
func bootNumber() int32 { return int32(idHash(bootid.Get())) }

// isWhole compares the size of the file with what its header says: SQLite reads zeros where the
// file was cut.
func isWhole(db *sql.DB, path string) error {
	var pages, size int64
	if err := db.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		return err
	}
	if err := db.QueryRow("PRAGMA page_size").Scan(&size); err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && info.Size() < pages*size { // a whole file is never smaller
		return fmt.Errorf("%w: %d bytes of %d are there", ErrDamaged, info.Size(), pages*size)
	}
	return nil
}

// create makes an empty index that only its owner can read, like the log, in place of what was there.
func create(path string) error {
	for _, name := range []string{path, path + "-journal"} { // the journal of the old file would be applied to this one
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	db, err := sql.Open("sqlite", source(path, toBuild))
	if err != nil {
		return err
	}
	tables := fmt.Sprintf(schema, nameSum(isOK, "ok"))
	_, err = db.Exec(fmt.Sprintf("BEGIN; %s PRAGMA user_version = %d; PRAGMA application_id = %d; COMMIT;", tables, schemaVersion, bootNumber()))
	return errors.Join(err, db.Close())
}
