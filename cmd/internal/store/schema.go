package store

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/url"
	"os"
	"syscall"
	"time"

	"modernc.org/sqlite" // and the driver "sqlite"
)

// schemaVersion is the version of the tables. A file of another version is made again from the log.
const schemaVersion = 6

// The tables. labels is one JSON object with its names sorted, empty without a label. Times are microseconds since 1970, durations are microseconds. ended is null until a
// run has its end. days holds sums of the ended runs by the day of their start (UTC), so that
// statistics need not go through all runs. actions holds counts by segment of the log, so that
// those of a removed segment can be removed. refusals has the summaries of refusals. records has the
// records that are no run's start or end. segments says which records each segment of the log has.
const schema = `
CREATE TABLE runs (
  seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, user TEXT NOT NULL, auth TEXT NOT NULL, os_user TEXT NOT NULL, key_id TEXT NOT NULL,
  holder TEXT NOT NULL, client TEXT NOT NULL, host TEXT NOT NULL, script TEXT NOT NULL, version TEXT NOT NULL, source TEXT NOT NULL,
  path TEXT NOT NULL, invocation TEXT NOT NULL, command TEXT NOT NULL, labels TEXT NOT NULL, code TEXT NOT NULL, code_bytes INTEGER NOT NULL,
  started INTEGER NOT NULL, ended INTEGER, status TEXT NOT NULL, reason TEXT NOT NULL, duration INTEGER NOT NULL, cpu INTEGER NOT NULL,
  peak_memory INTEGER NOT NULL, stdout_bytes INTEGER NOT NULL, stderr_bytes INTEGER NOT NULL, exit_code INTEGER, signal TEXT NOT NULL,
  start_seq INTEGER NOT NULL, start_segment INTEGER NOT NULL, start_offset INTEGER NOT NULL,
  end_seq INTEGER NOT NULL, end_segment INTEGER NOT NULL, end_offset INTEGER NOT NULL, end_hash TEXT NOT NULL, sum INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_user ON runs (user);
CREATE INDEX runs_script ON runs (script) WHERE script <> '';
CREATE INDEX runs_status ON runs (status) WHERE status <> 'ok';
CREATE INDEX runs_code ON runs (substr(code, 1, 8)) WHERE code <> '';
CREATE INDEX runs_started ON runs (started);
CREATE TABLE days (
  day TEXT NOT NULL, user TEXT NOT NULL, asserted INTEGER NOT NULL, script TEXT NOT NULL, status TEXT NOT NULL, runs INTEGER NOT NULL, cpu INTEGER NOT NULL,
  peak_memory INTEGER NOT NULL, output_bytes INTEGER NOT NULL, last INTEGER NOT NULL, durations BLOB NOT NULL,
  sum INTEGER NOT NULL, PRIMARY KEY (day, user, asserted, script, status)
) WITHOUT ROWID, STRICT;
CREATE TABLE actions (segment INTEGER NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (segment, name, reason)) WITHOUT ROWID, STRICT;
CREATE TABLE refusals (seq INTEGER PRIMARY KEY, user TEXT NOT NULL, auth TEXT NOT NULL, at INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
  count INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE TABLE records (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, action TEXT NOT NULL, reason TEXT NOT NULL, user TEXT NOT NULL, auth TEXT NOT NULL, script TEXT NOT NULL,
  host TEXT NOT NULL, title TEXT NOT NULL, asserted INTEGER NOT NULL, hidden INTEGER NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE TABLE segments (segment INTEGER PRIMARY KEY, first INTEGER NOT NULL, first_at INTEGER NOT NULL, last INTEGER NOT NULL, last_at INTEGER NOT NULL, records INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE TABLE cursor (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
  oldest INTEGER NOT NULL) STRICT;
`

// columns are those of runs, in the order in which they are written and read.
const columns = "seq, run_id, user, auth, os_user, key_id, holder, client, host, script, version, source, path, invocation, command, labels, code, " +
	"code_bytes, started, ended, status, reason, duration, cpu, " +
	"peak_memory, stdout_bytes, stderr_bytes, exit_code, signal, start_seq, start_segment, start_offset, end_seq, end_segment, end_offset, end_hash, sum"

// rowSum is a checksum of a row: SQLite notices damage to the structure of its pages, but not to
// the contents of a cell.
func rowSum(values ...any) int64 {
	h := fnv.New64a()
	var number [9]byte
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			number[0] = 0
			h.Write(number[:1])
		case int64:
			number[0] = 1
			binary.LittleEndian.PutUint64(number[1:], uint64(v))
			h.Write(number[:])
		case string:
			number[0] = 2
			binary.LittleEndian.PutUint64(number[1:], uint64(len(v)))
			h.Write(number[:])
			io.WriteString(h, v)
		case []byte:
			number[0] = 3
			binary.LittleEndian.PutUint64(number[1:], uint64(len(v)))
			h.Write(number[:])
			h.Write(v)
		default:
			panic(fmt.Sprintf("store: no sum of a %T", v))
		}
	}
	return int64(h.Sum64())
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

func open(path string, write bool, patience time.Duration) (*sql.DB, error) {
	mode := "ro"
	if write {
		mode = "rw&_pragma=secure_delete(1)" // what retention removes must not stay in free pages
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // do not wait for a pipe
		cause := errors.New("not a regular file")
		if info.IsDir() {
			cause = syscall.EISDIR
		}
		return nil, fmt.Errorf("open index %s: %w", path, cause)
	}
	// Readers and the writer lock each other out for a moment; each waits for the other.
	source := (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: "mode=" + mode + fmt.Sprintf("&_pragma=busy_timeout(%d)&_txlock=immediate", patience.Milliseconds())}).String()
	db, err := sql.Open("sqlite", source)
	if err != nil {
		return nil, err
	}
	if write {
		db.SetMaxOpenConns(1)
	} else {
		db.SetMaxOpenConns(readersMost)
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

// create makes an empty index that only its owner can read, like the log. It replaces what was
// there completely or not at all.
func create(path string) error {
	made := path + ".new"
	os.Remove(made)
	f, err := os.OpenFile(made, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(made), RawQuery: "mode=rw"}).String())
	if err != nil {
		return err
	}
	_, err = db.Exec(fmt.Sprintf("BEGIN; %s PRAGMA user_version = %d; COMMIT;", schema, schemaVersion))
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Remove(path + "-journal"); err != nil && !errors.Is(err, os.ErrNotExist) { // the journal of the old file would be applied to this one
		return err
	}
	return os.Rename(made, path)
}
