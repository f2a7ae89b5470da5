package ctl

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"py3run/cmd/internal/store"
)

// answers are those of history, stats and metrics.
func (b *fixture) answers() (out, warned string) {
	b.Helper()
	now := time.Now()
	for _, ask := range []func() error{
		func() error { return b.history(question{}, now) },
		func() error { return b.history(question{filter: filter{user: "user3"}, limit: 7}, now) },
		func() error { return b.history(question{filter: filter{status: "timeout"}}, now) },
		func() error { return b.stats(question{}, store.ByUser, now) },
		func() error { return b.stats(question{filter: filter{since: "1h"}}, store.ByDay, now) },
		func() error { return b.metrics("", "", openMetrics, time.Unix(0, 0)) },
	} {
		if err := ask(); err != nil {
			b.Errorf("%v", err)
		}
	}
	return b.said()
}

// However an index is damaged, the answers are those of the log, and a new one can be made.
func TestDamagedIndexes(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	for i := range 60 {
		status := "ok"
		if i%10 == 0 {
			status = "timeout"
		}
		b.run(fmt.Sprintf("user%d", i%12), status, nil)
	}
	want, _ := b.answers()
	path := b.indexPath("")
	b.must(b.update(path, false, false))
	if got, warned := b.answers(); got != want || warned != "" {
		t.Fatalf("the index answers\n%s%s\nthe log\n%s", got, warned, want)
	}
	pristine, err := os.ReadFile(path)
	b.must(err)
	const page = 4096
	pages := len(pristine) / page
	random := rand.New(rand.NewPCG(1, 2))

	type damage struct {
		name string
		do   func(path string) error
		own  bool // it is no damage to the file itself: rebuilding does not mend it
	}
	var all []damage
	write := func(name string, change func(text []byte) []byte) {
		all = append(all, damage{name, func(path string) error { return os.WriteFile(path, change(slices.Clone(pristine)), 0o600) }, false})
	}
	for _, size := range []int{0, 1, 15, 16, 50, 99, 100, 512, page - 1, page, page + 1, 2 * page, len(pristine) / 2, len(pristine) - page, len(pristine) - 1} {
		write(fmt.Sprint("truncated to ", size), func(text []byte) []byte { return text[:size] })
	}
	for n := range pages {
		at := n * page
		write(fmt.Sprint("zeros in page ", n+1), func(text []byte) []byte { clear(text[at : at+page]); return text })
		write(fmt.Sprint("garbage in page ", n+1), func(text []byte) []byte {
			for i := range page {
				text[at+i] = byte(random.IntN(256))
			}
			return text
		})
		write(fmt.Sprint("the header of page ", n+1), func(text []byte) []byte {
			if n == 0 {
				at = 100
			}
			binary.BigEndian.PutUint16(text[at+3:], 0xffff) // cells
			return text
		})
	}
	for name, field := range map[string][2]int{"magic": {0, 16}, "page size": {16, 2}, "format": {18, 2}, "reserved": {20, 1}, "payload": {21, 3}, "schema format": {44, 4}, "encoding": {56, 4}, "version": {60, 4}} {
		write("header: "+name, func(text []byte) []byte {
			for i := range field[1] {
				text[field[0]+i] ^= 0x5a
			}
			return text
		})
	}
	for n := range 20 { // bad sectors, in tables: what is lost from an index of a table shows in nothing
		at := random.IntN(len(pristine)/512-1)*512 + 512
		if pristine[at/page*page] != 0x0d {
			continue
		}
		write(fmt.Sprint("zeros in sector ", at/512, " ", n), func(text []byte) []byte { clear(text[at : at+512]); return text })
	}
	write("a text", func([]byte) []byte { return []byte("no database, but a text of some length") })
	write("two pages exchanged", func(text []byte) []byte {
		return slices.Concat(text[:page], text[2*page:3*page], text[page:2*page], text[3*page:])
	})
	write("all pages twice", func(text []byte) []byte { return bytes.Repeat(text, 2) })
	statement := func(text string) {
		all = append(all, damage{text, func(path string) error {
			db, err := sql.Open("sqlite", path)
			if err == nil {
				_, err = db.Exec(text)
			}
			return errors.Join(err, db.Close())
		}, false})
	}
	for _, table := range []string{"runs", "names", "sums", "segments", "actions", "cursor"} {
		statement("DROP TABLE " + table)
		statement("ALTER TABLE " + table + " RENAME TO other")
		statement("ALTER TABLE " + table + " RENAME TO other; CREATE VIEW " + table + " AS SELECT 1 AS one")
	}
	for _, text := range []string{
		"ALTER TABLE runs DROP COLUMN client", "ALTER TABLE runs ADD COLUMN more TEXT; ALTER TABLE runs RENAME COLUMN data TO contents", "ALTER TABLE sums ADD COLUMN more TEXT",
		"UPDATE runs SET user = (SELECT id FROM names WHERE text = 'user3')", "UPDATE runs SET data = CAST(substr(data, 1, 20) || x'ff' || substr(data, 22) AS BLOB) WHERE seq > 100", "UPDATE runs SET data = x'' WHERE seq = 5", "UPDATE sums SET data = x'ffffffffffffffffffffffffff'", "UPDATE names SET text = text || 'x' WHERE id > 1", "UPDATE sums SET a = a + 1, b = b + 10",
		"UPDATE cursor SET offset = -5", "UPDATE cursor SET hash = 'x'", "UPDATE cursor SET segment = 99, offset = 1",
		"UPDATE cursor SET offset = 1 << 60", "UPDATE cursor SET seq = -1, segment = -1", "UPDATE cursor SET oldest = 1 << 62", "UPDATE cursor SET oldest = -7",
		"PRAGMA user_version = 2", "PRAGMA user_version = 99", "DELETE FROM cursor", "DROP INDEX runs_user; DROP INDEX runs_status", "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = 'CREATE TABLE runs (x)' WHERE name = 'runs'",
		"PRAGMA writable_schema = 1; UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'runs'", "PRAGMA writable_schema = 1; DELETE FROM sqlite_schema", "PRAGMA journal_mode = WAL",
	} {
		statement(text)
	}
	place := func(name string, own bool, do func(path string) error) {
		all = append(all, damage{name, func(path string) error { return errors.Join(os.RemoveAll(path), do(path)) }, own})
	}
	place("a directory", true, func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) })
	place("a pipe", false, func(path string) error { return syscall.Mkfifo(path, 0o600) })
	place("a socket", false, func(path string) error {
		l, err := net.Listen("unix", path)
		if err == nil {
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			err = l.Close()
		}
		return err
	})
	place("a link to itself", false, func(path string) error { return os.Symlink(path, path) })
	place("a link to a device", false, func(path string) error { return os.Symlink("/dev/zero", path) })
	place("a link to nothing", false, func(path string) error { return os.Symlink("nothing", path) })
	beside := func(name string, own bool, do func(path string) error) {
		all = append(all, damage{name, func(path string) error { return errors.Join(os.WriteFile(path, pristine, 0o600), do(path)) }, own})
	}
	beside("a journal of something else", false, func(path string) error {
		return os.WriteFile(path+"-journal", bytes.Repeat([]byte{0xd9, 0xd5, 5, 0xf9}, 3000), 0o600)
	})
	beside("a directory for a journal", true, func(path string) error { return os.MkdirAll(filepath.Join(path+"-journal", "x"), 0o700) })
	beside("a log of something else", false, func(path string) error { return os.WriteFile(path+"-wal", bytes.Repeat([]byte{1}, 9000), 0o600) })
	beside("a directory for a lock", true, func(path string) error { return errors.Join(os.RemoveAll(path+".lock"), os.Mkdir(path+".lock", 0o700)) })
	beside("a pipe for a lock", false, func(path string) error {
		return errors.Join(os.RemoveAll(path+".lock"), syscall.Mkfifo(path+".lock", 0o600))
	})
	beside("a link for a lock", true, func(path string) error { return errors.Join(os.RemoveAll(path+".lock"), os.Symlink("x", path+".lock")) })
	if os.Geteuid() != 0 { // nobody keeps root from reading
		beside("not readable", true, func(path string) error { return os.Chmod(path, 0) })
	}
	if len(all) < 60 {
		t.Errorf("only %d damages", len(all))
	}

	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			own := *b
			own.T, own.out, own.err = t, &bytes.Buffer{}, &bytes.Buffer{}
			own.logContext.out, own.logContext.err = own.out, own.err
			clean := func() {
				for _, end := range []string{"", "-journal", "-wal", "-shm", ".lock", ".new"} {
					own.must(os.RemoveAll(path + end))
				}
			}
			clean()
			defer clean()
			own.must(os.WriteFile(path, pristine, 0o600))
			own.must(c.do(path))
			got, warned := own.answers()
			if got != want {
				t.Errorf("it answers\n%s\nthe log\n%s", difference(got, want), warned)
			}
			for line := range strings.Lines(warned) {
				if !strings.HasPrefix(line, "py3runctl: warning: ") {
					t.Errorf("it says %q", line)
				}
			}
			if c.own {
				return
			}
			own.must(own.update(path, true, false))
			own.said()
			own.must(own.history(question{}, time.Now()))
			if got, warned := own.said(); !strings.HasPrefix(want, got) || warned != "" {
				t.Errorf("rebuilt, it answers\n%s%s", difference(got, want), warned)
			}
		})
	}
}

// difference is the first lines that differ.
func difference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("line %d of %d: %s\nwant, of %d: %s", i, len(a), a[i], len(b), b[min(i, len(b)-1)])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(a), len(b))
}

// An index that somebody else has locked is waited for a little, and then the log answers.
func TestLockedIndex(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	path := b.indexPath("")
	b.must(b.update(path, false, false))
	db, err := sql.Open("sqlite", path)
	b.must(err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = db.Exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
	b.must(err)
	b.must(b.history(question{}, time.Now()))
	if out, errs := b.said(); strings.Count(out, "\n") != 1 || !strings.Contains(errs, "the log is read instead") {
		t.Errorf("%s%s", out, errs)
	}
}

// Who may read the log may read the index beside it.
func TestIndexIsSharedAsTheLogIs(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.run("alice", "ok", nil)
	path := b.indexPath("")
	for _, mode := range []os.FileMode{0o600, 0o640, 0o600} {
		b.must(os.Chmod(filepath.Join(b.dir, "audit.jsonl"), mode))
		b.must(b.update(path, false, false))
		info, err := os.Stat(path)
		if b.must(err); info.Mode().Perm() != mode {
			t.Errorf("mode %o, want that of the log, %o", info.Mode().Perm(), mode)
		}
	}
}
