package ctl

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
)

// A logContext is what a command works on: the log, its configuration, and where messages go.
type logContext struct {
	dir           string // of the log
	config        config.Config
	origins       map[string]config.Origin // where each key of the configuration comes from
	environ       []string
	etc           string         // file of the operator's configuration; empty: the usual one
	only          string         // the one user whose runs the caller may see; empty: everybody's
	who           *actor         // who calls; nil: this user of the operating system, whom the policy does not concern
	zone          *time.Location // for days, and for times without a zone; nil: local
	out, err      io.Writer
	outIsTerminal bool
	errIsTerminal bool
	width         int // columns of the terminal; 0: not known, or no terminal
}

func (d logContext) warn(err error) { d.warnf("%v", err) }

func (d logContext) warnf(format string, args ...any) {
	d.say("warning: "+format, args...)
}

// say writes one line on standard error. Parts of it can come from a damaged file.
func (d logContext) say(format string, args ...any) {
	io.WriteString(d.err, program+": "+strings.ReplaceAll(harmless(fmt.Sprintf(format, args...)), "\n", " ")+"\n")
}

const indexName = "index.sqlite"

// indexPath is the index that was named, or the one beside the log.
func (d logContext) indexPath(named string) string {
	if named != "" {
		return named
	}
	return filepath.Join(d.dir, indexName)
}

// entries are the records after a position. A line that is not a record is skipped and given to
// bad; verify says what is wrong with it.
func (d logContext) entries(r *audit.Reader, from audit.Position, at *audit.Position, bad func(error)) iter.Seq2[store.Entry, error] {
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

// runEntries are what a store needs of lines. It skips what is no record, as entries does, and leaves the last record in
// last.
func runEntries(lines iter.Seq2[audit.Line, error], last *audit.Line, bad func(error)) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		var brief audit.BriefReader
		for line, err := range lines {
			if line := new(audit.LineError); errors.As(err, &line) {
				bad(err)
				continue
			}
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			rec, err := brief.Record(line)
			if err != nil {
				bad(fmt.Errorf("record %d: %w", line.Seq, err))
				continue
			}
			e := store.Entry{Record: rec, Place: line.Place(), Hidden: !ownersMaySee(rec)}
			if line.Action != audit.ExecutionStart { // only ends are receipts
				e.Hash = line.Hash().String()
			}
			if *last = line; !yield(e, nil) {
				return
			}
		}
	}
}

// source is the index if there is one, else the log. If this user may write the index, it is
// brought up to date. The index holds nothing that the log does not: if it cannot be used, or fails
// in the middle of an answer, the log answers, unless the index was named.
func (d logContext) source(index string) (store.Source, error) {
	path := d.indexPath(index)
	if _, err := os.Stat(path); err != nil && index == "" { // reading the log shows whether this user cannot enter its directory
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			d.warnUnusable(err)
		}
		return d.logSource()
	}
	if unix.Access(path, unix.R_OK) == unix.EACCES && index == "" { // a group may let this user read the log but not the index, which is no fault
		return d.logSource()
	}
	failed := d.update(path, false, false)
	s, err := store.OpenIndex(path)
	if err != nil && index != "" {
		return nil, err
	}
	var behind, oldest uint64
	if err == nil && failed != nil {
		oldest, behind, err = d.behind(s)
	}
	if err == nil && oldest > 0 {
		var holds bool
		if holds, err = s.Holds(oldest); holds && err == nil {
			err = fmt.Errorf("index %s: it still has runs that retention has removed: %w", path, failed)
		}
	}
	if err != nil {
		if s != nil {
			s.Close()
		}
		if index != "" {
			return nil, err
		}
		d.warnUnusable(err)
		return d.logSource()
	}
	if behind > 0 {
		d.warnf("the index is %d records behind the log: %v", behind, failed)
	}
	if index != "" {
		return s, nil
	}
	return &careful{Source: s, log: d}, nil
}

func (d logContext) warnUnusable(err error) {
	d.warnf("%v: the log is read instead; py3runctl index --rebuild makes the index anew", err)
}

// careful answers from an index, and goes on with the log if the index turns out to be damaged.
type careful struct {
	store.Source
	log    logContext
	failed bool
}

// instead opens the log in place of an index that has failed.
func (c *careful) instead(err error) error {
	if c.failed {
		return err
	}
	c.failed = true
	c.log.warnUnusable(err)
	log, err := c.log.logSource()
	if err == nil {
		c.Source.Close()
		c.Source = log
	}
	return err
}

// History goes on after the last run that the index has returned: both return the newest first.
func (c *careful) History(q store.Query) iter.Seq2[store.Run, error] {
	return func(yield func(store.Run, error) bool) {
		told, last := 0, uint64(math.MaxUint64)
		var damaged error
		for r, err := range c.Source.History(q) {
			if err != nil {
				damaged = err
				break
			}
			if !yield(r, nil) {
				return
			}
			told, last = told+1, r.Place()
		}
		if damaged == nil || q.Limit > 0 && told == q.Limit {
			return
		}
		if err := c.instead(damaged); err != nil {
			yield(store.Run{}, err)
			return
		}
		rest := q
		rest.Limit = 0
		for r, err := range c.Source.History(rest) {
			if err == nil && r.Place() >= last {
				continue
			}
			if !yield(r, err) {
				return
			}
			if told++; q.Limit > 0 && told == q.Limit {
				return
			}
		}
	}
}

func (c *careful) Stats(q store.Query, by store.By) ([]store.Group, error) {
	groups, err := c.Source.Stats(q, by)
	if err != nil {
		if err = c.instead(err); err == nil {
			groups, err = c.Source.Stats(q, by)
		}
	}
	return groups, err
}

func (c *careful) Actions() ([]store.Action, error) {
	actions, err := c.Source.Actions()
	if err != nil {
		if err = c.instead(err); err == nil {
			actions, err = c.Source.Actions()
		}
	}
	return actions, err
}

// behind returns with which record the log begins, and how many of its records an index does not have.
func (d logContext) behind(index *store.Index) (oldest, n uint64, err error) {
	at, err := index.Position()
	if err != nil {
		return 0, 0, err
	}
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return 0, 0, nil // the log cannot be read: the index is all there is
	}
	defer r.Close()
	oldest, _ = r.Oldest()
	for line, err := range r.Backward() {
		if err == nil {
			return oldest, line.Seq - min(at.Seq, line.Seq), nil
		}
	}
	return oldest, 0, nil
}

func (d logContext) logSource() (store.Source, error) {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return nil, err
	}
	entries := func(lines iter.Seq2[audit.Line, error]) iter.Seq2[store.Entry, error] {
		return runEntries(lines, new(audit.Line), d.warn)
	}
	return logSource{store.Log{Entries: entries(r.Records(audit.Position{})), Backward: entries(r.Backward())}, r}, nil
}

// logSource closes the reader as well.
type logSource struct {
	store.Log
	reader *audit.Reader
}

func (l logSource) Close() error { return l.reader.Close() }

const (
	indexPiece    = 50_000 // records of one transaction
	buildPiece    = 40_000 // likewise, while an index is made that nobody reads yet
	indexPatience = 3 * time.Second
)

// update brings an index up to date, or makes it. With anew it makes it from the beginning.
func (d logContext) update(path string, anew, tellProgress bool) error {
	return d.updateAnd(path, anew, tellProgress, func(audit.Position) {})
}

// updateAnd does that, and passes to did after each piece how far the log was read.
func (d logContext) updateAnd(path string, anew, tellProgress bool, did func(audit.Position)) error {
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	patience := indexPatience
	if tellProgress { // the caller wants nothing else
		patience = time.Hour
	}
	w, err := store.OpenWriter(path, anew, patience)
	if err != nil {
		return err
	}
	defer w.Close()
	p := progress{logContext: d, began: time.Now(), shown: time.Now(), did: did}
	if tellProgress {
		p.newest = d.newest()
	}
	most := indexPiece
	if w.Building() {
		most = buildPiece
	}
	for ; ; anew = false { // only the first transaction begins anew
		n, err := d.updatePiece(w, r, anew, most, &p)
		if err == nil && n < most {
			err = w.Finish()
		}
		if err != nil {
			return fmt.Errorf("index %s: %w", path, err)
		}
		p.total += n
		if n < most {
			d.share(path)
			p.end(tellProgress)
			return nil
		}
	}
}

// A progress tells people how far an index has read the log.
type progress struct {
	logContext
	newest       uint64 // record of the log; 0: nobody is told
	total        int    // records in earlier pieces
	began, shown time.Time
	line         bool // there is a line on the terminal
	did          func(audit.Position)
}

// at tells that a record was read.
func (p *progress) at(seq uint64) {
	if p.newest == 0 || !p.errIsTerminal || seq%1000 != 0 || time.Since(p.shown) < time.Second {
		return
	}
	share := 100 * float64(seq) / float64(max(p.newest, seq))
	fmt.Fprintf(p.err, "\r%s of %s records, %.0f %%", thousands(seq), thousands(max(p.newest, seq)), share)
	p.shown, p.line = time.Now(), true
}

func (p *progress) end(tell bool) {
	if p.line {
		fmt.Fprint(p.err, "\r\x1b[K")
	}
	if tell {
		p.say("%d records read in %v", p.total, time.Since(p.began).Round(time.Millisecond))
	}
}

// share lets those who may read the log read the index beside it. If that fails, they read the log
// itself.
func (d logContext) share(path string) {
	var log, index unix.Stat_t
	if filepath.Dir(path) != filepath.Clean(d.dir) || unix.Stat(filepath.Join(d.dir, "audit.jsonl"), &log) != nil || unix.Lstat(path, &index) != nil {
		return
	}
	if mode := log.Mode & 0o640; index.Mode&0o777 != mode || mode&0o040 != 0 && index.Gid != log.Gid {
		os.Lchown(path, -1, int(log.Gid))
		os.Chmod(path, os.FileMode(mode))
	}
}

// forget removes from the index beside the log what retention has just removed. If that fails, the
// next use of the index does it.
func (d logContext) forget() {
	path := d.indexPath("")
	if _, err := os.Stat(path); err != nil {
		return
	}
	if err := d.update(path, false, false); err != nil {
		d.warnf("the index still has what was removed: %v; py3runctl index --rebuild makes it anew", err)
	}
}

// updatePiece adds the next records in one transaction.
func (d logContext) updatePiece(w *store.Writer, r *audit.Reader, anew bool, most int, p *progress) (n int, err error) {
	from, err := w.Begin()
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			w.Rollback()
		}
	}()
	empty := func() error {
		from = audit.Position{}
		return w.Clear()
	}
	if anew {
		if err := empty(); err != nil {
			return 0, err
		}
	}
	if oldest, err := r.Oldest(); err == nil && oldest > 0 {
		again, err := w.Forget(oldest)
		if again && err == nil {
			d.warnf("older records than the index has seen are in the log again: it is made anew")
			err = empty()
		}
		if err != nil {
			return 0, err
		}
	}
	at, behind := from, uint64(0)
	for tries := 0; ; tries++ {
		gone := new(audit.PositionError)
		n, err = d.addPiece(w, r, from, behind, &at, most, p)
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
	if err == nil {
		p.did(at)
	}
	return n, err
}

func (d logContext) addPiece(w *store.Writer, r *audit.Reader, from audit.Position, behind uint64, at *audit.Position, most int, p *progress) (n int, err error) {
	var last audit.Line
	defer func() {
		if last.Seq > 0 {
			*at = last.Position()
		}
	}()
	for e, err := range runEntries(r.Records(from), &last, d.warn) {
		if err == nil && e.Record.Seq > behind {
			n++
			p.at(e.Record.Seq)
			err = w.Add(e)
		}
		if err != nil || n == most {
			return n, err
		}
	}
	return n, nil
}
