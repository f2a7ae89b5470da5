package ctl

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/cli"
)

// An exporting is one call of py3runctl audit export. to and output are empty for standard output.
type exporting struct {
	selection
	format string
	cursor string // file
	to     string // command for the shell
	output string // file
	commit string // "last" or the seq of a record: nothing is exported
}

const commitLast = "last"

func (a *app) export() *cobra.Command {
	var e exporting
	var f filter
	c := &cobra.Command{
		Use: "export", Short: "Write records for other programs, from where the last export ended", Args: cobra.NoArgs,
		Long: `With --cursor, an export begins after the last record that its reader has. The cursor moves only
when the reader has the records, so that after a failure some records come twice, and none is lost:

  --to COMMAND    the shell runs COMMAND with the records on its standard input; with exit status 0
                  it has them all
  --output FILE   the records are added to FILE, and FILE is on the disk
  --commit        a call of its own, when the reader of standard output has the records: it moves
                  the cursor to where that export ended, or with --commit=SEQ to that record

Without one of these, the next export begins at the same record. py3runctl audit prune waits for
cursors beside the log (cursor-*.json). Who sees only their own runs cannot use a cursor: it would
pass the records of others.`,
		Example: "  py3runctl audit export --format csv --since 30d > runs.csv\n" +
			"  py3runctl audit export --cursor /var/log/py3run/cursor-siem.json --to to-siem\n" +
			"  py3runctl audit export --cursor c.json | to-siem && py3runctl audit export --cursor c.json --commit",
		RunE: a.seeing(func(d logContext) error {
			if err := oneOf("format", e.format, "json", "csv"); err != nil {
				return err
			}
			switch {
			case e.cursor != "" && f.until != "": // the cursor would pass records that the next export must have
				return cli.Usagef("invalid argument --until: not with --cursor")
			case e.to != "" && e.output != "":
				return cli.Usagef("invalid argument --to: not with --output")
			case e.commit != "" && e.cursor == "":
				return cli.Usagef("requires --cursor: --commit moves it")
			case e.commit != "" && e.to+e.output != "":
				return cli.Usagef("invalid argument --commit: not with --to or --output, which move the cursor themselves")
			}
			if e.output == "-" {
				e.output = ""
			}
			var err error
			if e.selection, err = f.selection(time.Now().In(d.local())); err != nil {
				return err
			}
			e.selection = e.selection.seenBy(d)
			return d.exportAll(e)
		}),
	}
	c.Flags().StringVar(&e.cursor, "cursor", "", "`file` that keeps which records the reader has")
	c.Flags().StringVar(&e.to, "to", "", "shell `command` that reads the records; with exit status 0 it has them all")
	c.Flags().StringVarP(&e.output, "output", "o", "", "`file` to write; with --cursor records are added to it, else it is replaced as a whole")
	c.Flags().StringVar(&e.commit, "commit", "", "export nothing; say that the reader of the last export to standard output has all of it,\nor all up to the record `seq`")
	c.Flags().Lookup("commit").NoOptDefVal = commitLast
	c.Flags().StringVar(&e.format, "format", "json", "json (the exact lines) or csv")
	f.identity(c, a)
	f.outcome(c)
	f.kinds(c)
	f.times(c)
	return c
}

// A cursor says which records a reader has: those up to its position.
type cursor struct {
	audit.Position
	Pending *audit.Position `json:"pending,omitempty"` // where an export to standard output ended, before a commit says that it arrived
	Output  *written        `json:"output,omitempty"`
}

// written is a file that an export adds to, as it was when the cursor moved.
type written struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

func readCursor(path string) (c cursor, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", path, err)
	}
	return c, err
}

func (c cursor) write(path string) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return replaceFile(path, append(text, '\n'), 0o600)
}

// ownCursor is why whoever may see only the runs of one user moves no cursor: it would pass records
// that its reader has never had.
func (d logContext) ownCursor() error {
	return fmt.Errorf("export with a cursor: only runs%s are shown, and a cursor passes all records: it needs the role auditor, or no --cursor", d.mine())
}

func (d logContext) exportAll(e exporting) error {
	if e.cursor != "" && d.only != "" {
		return d.ownCursor()
	}
	var at cursor
	if e.cursor != "" {
		unlock, err := lockState(e.cursor)
		if err != nil {
			return err
		}
		defer unlock()
		if at, err = readCursor(e.cursor); err != nil {
			return err
		}
	}
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	if e.commit != "" {
		return d.commit(r, e, at)
	}
	if at.Pending != nil { // this export will end elsewhere
		if e.to+e.output == "" && at.Pending.Seq > at.Seq {
			d.warnf("nobody has said that the last export arrived (--commit): the records %d to %d come again", at.Seq+1, at.Pending.Seq)
		}
		at.Pending = nil
		if err := at.write(e.cursor); err != nil {
			return err
		}
	}
	s, err := d.open(e, &at)
	if err != nil {
		return err
	}
	newest, err := d.copyRecords(r, e, s, at.Position)
	err = s.end(err)
	if e.cursor != "" && errors.Is(err, syscall.EPIPE) { // not wrapped: who stops reading does not have all records
		return fmt.Errorf("export: nobody reads standard output any more: the cursor stays at record %d", at.Seq)
	}
	if err != nil {
		return err
	}
	if e.cursor == "" {
		return nil
	}
	if e.to+e.output == "" {
		at.Pending = &newest
	} else {
		at.Position = newest
	}
	return at.write(e.cursor)
}

// copyRecords writes the records after a position, and returns where they end.
func (d logContext) copyRecords(r *audit.Reader, e exporting, to sink, at audit.Position) (audit.Position, error) {
	buffered := bufio.NewWriterSize(to, 1<<16)
	put := func(line audit.Line, _ audit.Record) error {
		_, err := fmt.Fprintf(buffered, "%s\n", line.Text)
		return err
	}
	if e.format == "csv" {
		put = csvPrinter(buffered, to.empty())
	}
	for line, err := range r.RecordsWithin(at, e.since, e.until) {
		if bad := new(audit.LineError); errors.As(err, &bad) {
			d.warnf("%v", err)
			continue
		}
		if err != nil {
			return at, err
		}
		rec, err := line.Record()
		if err != nil { // perhaps it is of a later version; its line is exported all the same
			d.warnf("record %d: %v", line.Seq, err)
			rec = audit.Record{Seq: line.Seq}
		}
		if e.wants(line, rec) {
			if err := put(line, rec); err != nil {
				return at, err
			}
		}
		at = line.Position()
	}
	return at, buffered.Flush()
}

// commit moves the cursor to where the last export to standard output ended, or to a record.
func (d logContext) commit(r *audit.Reader, e exporting, at cursor) error {
	to := at.Pending
	if e.commit != commitLast {
		seq, err := strconv.ParseUint(e.commit, 10, 64)
		if err != nil || seq == 0 {
			return cli.Usagef("invalid argument %q for --commit: want the number of a record", e.commit)
		}
		if seq <= at.Seq {
			return nil // it is there already
		}
		to = nil
		for line, err := range r.Records(at.Position) {
			if bad := new(audit.LineError); err != nil && !errors.As(err, &bad) {
				return err
			}
			if err == nil && line.Seq == seq {
				place := line.Position()
				to = &place
				break
			}
		}
		if to == nil {
			return fmt.Errorf("commit %s: the log has no record %d behind record %d", e.cursor, seq, at.Seq)
		}
	}
	if to == nil {
		return fmt.Errorf("commit %s: no export since the last commit has written all of its records", e.cursor)
	}
	at.Position, at.Pending = *to, nil
	return at.write(e.cursor)
}

// A sink takes what is exported. end gets the error of the export and returns it, or its own.
// Without an error the reader has everything; a reader of standard output could have it.
type sink interface {
	io.Writer
	empty() bool // nothing was there before: CSV begins with a header
	end(error) error
}

func (d logContext) open(e exporting, at *cursor) (sink, error) {
	switch {
	case e.to != "":
		return &command{log: d, shell: e.to}, nil
	case e.output != "":
		return openFile(e, at)
	}
	return stdout{d.out}, nil
}

type stdout struct{ io.Writer }

func (stdout) empty() bool         { return true }
func (stdout) end(err error) error { return err }

// A command is a program that reads records. It is started for the first of them.
type command struct {
	log    logContext
	shell  string
	write  *os.File
	waited chan error
	err    error
}

func (*command) empty() bool { return true }

func (c *command) Write(p []byte) (int, error) {
	if c.write == nil && c.err == nil {
		c.err = c.start()
	}
	if c.err != nil {
		return 0, c.err
	}
	return c.write.Write(p)
}

func (c *command) start() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	run := exec.Command("/bin/sh", "-c", c.shell)
	run.Stdin, run.Stdout, run.Stderr = read, c.log.out, c.log.err
	if out := fileOf(c.log.out); out != nil {
		run.Stdout = out
	}
	run.WaitDelay = time.Second // processes that the command leaves may hold its output open, unless that is a file
	if err := run.Start(); err != nil {
		read.Close()
		write.Close()
		return fmt.Errorf("start %s: %w", c.shell, err)
	}
	// The pipe stays open for reading as long as the command lives: a short export must not fail
	// because the command ends first.
	c.write, c.waited = write, make(chan error, 1)
	go func() {
		err := run.Wait()
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil
		}
		read.Close()
		c.waited <- err
	}()
	return nil
}

func (c *command) end(err error) error {
	if c.write == nil {
		return err
	}
	c.write.Close()
	ended := <-c.waited
	switch {
	case ended != nil:
		return fmt.Errorf("export to %s: %v", plain(c.shell), ended)
	case errors.Is(err, syscall.EPIPE): // not wrapped: here it is an error
		return fmt.Errorf("export to %s: it ended before it had read all records", plain(c.shell))
	}
	return err
}

// A file is written as a whole and replaces what was there, or records are added to it.
type file struct {
	*os.File
	path string
	size int64 // before the export, where records are added
	add  bool
	at   *cursor
}

func openFile(e exporting, at *cursor) (sink, error) {
	path, err := filepath.Abs(e.output)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	special := err == nil && !info.Mode().IsRegular()
	switch {
	case special && e.cursor != "":
		return nil, fmt.Errorf("write %s: not a regular file: nothing there lasts, and the cursor could not move", e.output)
	case special:
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		return &file{File: f, add: true, path: path}, err
	case e.cursor == "":
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", e.output, cause(err))
		}
		return &file{File: f, path: path}, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	added := &file{File: f, path: path, add: true, at: at}
	if err = added.behind(e.cursor); err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", e.output, cause(err))
	}
	return added, nil
}

// behind goes to the end of the file. It cuts half a line that an interrupted export has left after
// the cursor last moved.
func (f *file) behind(cursor string) (err error) {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	f.size = info.Size()
	if known := f.at.Output; known != nil && known.Path == f.path && known.Size < f.size {
		tail := make([]byte, min(f.size-known.Size, 1<<20))
		if _, err := f.ReadAt(tail, f.size-int64(len(tail))); err != nil {
			return err
		}
		for n := len(tail); n > 0 && tail[n-1] != '\n'; n-- {
			f.size--
		}
		if err := f.Truncate(f.size); err != nil {
			return err
		}
	}
	if _, err := f.Seek(f.size, io.SeekStart); err != nil {
		return err
	}
	f.at.Output = &written{f.path, f.size}
	return f.at.write(cursor)
}

func (f *file) empty() bool { return f.size == 0 }

func (f *file) end(err error) error {
	if f.path == "" || f.File == nil {
		return err
	}
	if err == nil && (f.at != nil || !f.add) {
		err = f.Sync()
	}
	if f.at != nil {
		if err != nil {
			f.Truncate(f.size)
		} else if info, e := f.Stat(); e != nil {
			err = e
		} else {
			f.at.Output = &written{f.path, info.Size()}
		}
	}
	err = errors.Join(err, f.Close())
	if !f.add {
		if err == nil {
			err = os.Rename(f.Name(), f.path)
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}
	if err == nil && (f.at != nil || !f.add) {
		err = syncDir(filepath.Dir(f.path)) // a new name has to last as long as its file
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, cause(err))
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
