package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
	"py3run/cmd/internal/wire"
)

// A dying finds the runs without an end that have lost their launchers: the next writer records that.
type dying struct{ log *audit.Reader }

// mark makes a run orphaned, if it is one of them.
func (d dying) mark(r *store.Run) bool {
	if r.Status != "" || d.log == nil || !d.log.Dead(r.ID) {
		return false
	}
	r.Status, r.Reason = store.Orphaned, "launcher-died"
	return true
}

// dying opens the log for that. Without the log, as where only the index can be read, none is dead.
func (v visitor) dying() (d dying, done func()) {
	log, err := audit.OpenReader(v.dir)
	if err != nil {
		return dying{}, func() {}
	}
	return dying{log}, func() { log.Close() }
}

// mostOpen is how many runs without an end are looked at for those that are dead.
const mostOpen = 1000

// Page is a page of the index, in which the runs that died without an end are orphaned, as history shows them.
func (v visitor) Page(x *store.Index, q store.Query) (store.Page, error) {
	page, err := x.Page(q)
	if err != nil {
		return page, err
	}
	d, done := v.dying()
	defer done()
	kept := page.Runs[:0]
	for _, r := range page.Runs {
		if dead := d.mark(&r); !dead || q.Status != store.Running {
			kept = append(kept, r)
		}
	}
	page.Runs = kept
	if q.Status != store.Orphaned {
		return page, nil
	}
	open := q
	open.Status, open.Limit = store.Running, mostOpen
	alive, err := x.Page(open)
	for _, r := range alive.Runs {
		if (page.Next == 0 || r.Place() >= page.Next) && d.mark(&r) {
			page.Runs = append(page.Runs, r)
		}
	}
	slices.SortFunc(page.Runs, newestFirst)
	return page, err
}

func newestFirst(a, b store.Run) int { return cmp.Compare(b.Place(), a.Place()) }

// History are all runs of a query, likewise.
func (v visitor) History(x *store.Index, q store.Query) iter.Seq2[store.Run, error] {
	return func(yield func(store.Run, error) bool) {
		for {
			page, err := v.Page(x, q)
			if err != nil {
				yield(store.Run{}, err)
				return
			}
			for _, r := range page.Runs {
				if !yield(r, nil) {
					return
				}
			}
			if q.Before = page.Next; q.Before == 0 {
				return
			}
		}
	}
}

// WriteRuns writes runs as history does in CSV.
func (v visitor) WriteRuns(to io.Writer, runs iter.Seq2[store.Run, error]) error {
	put, done := v.runPrinter(to, "csv")
	for r, err := range runs {
		if err == nil {
			err = put(r)
		}
		if err != nil {
			return err
		}
	}
	return done()
}

// Records reads the records of a run where the index says that they are.
func (v visitor) Records(x *store.Index, r store.Run) (web.RunRecords, error) {
	found := web.RunRecords{Run: r}
	log, err := audit.OpenReader(v.dir)
	if err != nil {
		return found, err
	}
	defer log.Close()
	add := func(name string, at audit.Place, seq uint64) error {
		if seq == 0 {
			return nil
		}
		line, err := log.At(at)
		if gone := new(audit.PlaceError); errors.As(err, &gone) {
			found.Absent = append(found.Absent, fmt.Sprintf("%s: %v", name, err))
			return nil
		}
		if err != nil {
			return err
		}
		rec, err := line.Record()
		if err != nil || line.RunID != r.ID || !v.seen(rec) {
			if name != cancelName {
				found.Absent = append(found.Absent, name+": what stands there in the log is not this run's record")
			}
			return nil
		}
		found.List = append(found.List, web.RunRecord{Record: rec, Hash: line.Hash().String(), Line: line.Text, Name: name})
		return nil
	}
	if err := add("Start", r.StartAt, r.StartSeq); err != nil {
		return found, err
	}
	if r.StartSeq == 0 && r.Status != store.Denied && r.Status != store.RateLimited {
		found.Absent = append(found.Absent, "Start: retention has removed it")
	}
	if err := v.cancels(x, r, add); err != nil {
		return found, err
	}
	if err := add("End", r.EndAt, r.EndSeq); err != nil {
		return found, err
	}
	return found, nil
}

const cancelName = "Cancel"

// cancels finds who wanted the run to end.
func (v visitor) cancels(x *store.Index, r store.Run, add func(string, audit.Place, uint64) error) error {
	q := store.RecordQuery{Actions: []audit.Action{audit.ExecutionCancel}, Owner: v.only, Since: r.Started, Limit: 100}
	if !r.Ended.IsZero() {
		q.Until = r.Ended.Add(time.Minute) // the clock can have been set
	}
	list, _, err := x.Records(q)
	for _, rec := range list {
		if err == nil && rec.Seq > r.StartSeq && (r.EndSeq == 0 || rec.Seq < r.EndSeq) {
			err = add(cancelName, rec.Place, rec.Seq)
		}
	}
	return err
}

// Code is the code of a run, if the visitor may read it.
func (v visitor) Code(of web.RunRecords) ([]byte, error) {
	rec := of.Last()
	if rec == nil {
		return nil, visible{errors.New("the log has no record that says which code it was"), http.StatusNotFound, ""}
	}
	log, err := audit.OpenReader(v.dir)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	code, err := v.codeOf(log, rec.Record)
	if err == nil {
		return code, nil
	}
	if missing := new(codeError); errors.As(err, &missing) {
		return nil, visible{errors.New(missing.problem), http.StatusNotFound, missing.hint}
	}
	return nil, visible{err, http.StatusConflict, ""}
}

// Saved are the queries of the user of the operating system who has started the pages, for that user
// alone. A file of them that cannot be read has none: the command line says what is wrong with it.
func (v visitor) Saved() (list []web.SavedFilter) {
	if v.key != "" {
		return nil
	}
	queries, err := v.savedQueries()
	if err != nil {
		return nil
	}
	for _, q := range queries {
		list = append(list, web.SavedFilter{Name: q.Name, Filter: q.filter().forPages()})
	}
	return list
}

// runFlags are what the pages need to run code again.
func (a *app) runFlags(c *cobra.Command) {
	c.Flags().BoolVar(&a.runByKey, "run-by-key", false, "let holders of API keys run code again, too: it runs as the user of the\noperating system who has started the pages")
}

// Proof is the proof of a run, as audit proof writes it.
func (v visitor) Proof(of web.RunRecords) ([]byte, error) {
	if v.app.with.checkpoints == "" || v.app.with.keys == "" {
		return nil, visible{errors.New("these pages do not know the checkpoints of the log, which a proof needs"), http.StatusConflict,
			"start them with --checkpoints DIR --key FILE, or ask py3runctl audit proof " + plain(of.Run.ID) + " --checkpoints DIR --key FILE"}
	}
	keys, err := readKeys(v.app.with.keys)
	if err != nil {
		return nil, visible{err, http.StatusConflict, "whoever has started the pages can name another file with --key"}
	}
	list, _, err := readCheckpoints(v.app.with.checkpoints, keys)
	if err != nil {
		return nil, visible{err, http.StatusConflict, "whoever has started the pages can name another directory with --checkpoints"}
	}
	var lines []audit.Line
	for _, rec := range of.List {
		lines = append(lines, audit.Line{Seq: rec.Seq, Action: rec.Event.Action, RunID: rec.RunID, Text: rec.Line})
	}
	log, err := audit.OpenReader(v.dir)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if !v.common.proving.TryLock() { // who waited would keep others from being answered
		return nil, visible{errors.New("another proof is being made, for which the whole log is read"), http.StatusTooManyRequests, "try again in a moment"}
	}
	defer v.common.proving.Unlock()
	text, _, err := v.prove(log, lines, list, keys)
	if missing := new(uncovered); errors.As(err, &missing) {
		missing.dir = v.app.with.checkpoints
		return nil, visible{err, http.StatusConflict, hint(err)}
	}
	if err != nil {
		return nil, visible{err, http.StatusConflict, ""}
	}
	return text, nil
}

// plainName is a name that code may have in tracebacks.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$`)

// Again is the request that runs the code of a run again. The visitor needs the right to run code, and to
// read this one.
func (v visitor) Again(of web.RunRecords) (web.Again, error) {
	refuse := func(text, hint string) (web.Again, error) {
		return web.Again{}, visible{errors.New(text), http.StatusConflict, hint}
	}
	rec := of.Last()
	switch {
	case of.Run.Status == "":
		return refuse("this run has not ended yet", "")
	case v.key != "" && !v.app.runByKey: // who has a key need not be this user of the operating system
		return refuse("these pages run code for their starter alone", "it would run as that user of the operating system; py3runctl serve --run-by-key allows it to holders of API keys, too")
	case rec == nil:
		return refuse("the log does not have the records of this run any more", "")
	case rec.Command != string(wire.CommandExecute) && rec.Command != string(wire.CommandEvaluate):
		return refuse("only code and expressions can be run again, and this was "+cmp.Or(rec.Command, "neither"), "")
	case rec.Invoked != nil && rec.Invoked.Command == "python":
		return refuse("this was a call of the interpreter with its own arguments and streams, which are not in the log", "")
	}
	code, err := v.Code(of)
	if err != nil {
		return web.Again{}, err
	}
	if !utf8.Valid(code) {
		return refuse("the code is not UTF-8, which a request needs", "")
	}
	if err := v.may(access.ToRun, access.Object{Kind: access.AdHocCode}); err != nil {
		return web.Again{}, told(err)
	}
	again := web.Again{RunID: of.Run.ID, As: v.Name(), Code: code, Limits: web.LimitsOf(rec.Limits), Left: leftOut(rec.Record)}
	again.Body = map[string]any{"limits": again.Limits, "labels": map[string]string{"again": of.Run.ID}}
	switch {
	case rec.Script.Source == audit.ScriptStored && v.runsStored(rec.Record):
		again.Script = scriptOf(rec.Script.Name, rec.Script.Version)
		again.Body["script"] = again.Script
	case rec.Command == string(wire.CommandEvaluate):
		again.Body["command"], again.Body["expression"] = rec.Command, string(code)
	default:
		again.Body["code"] = string(code)
		if name := rec.Script.Name[strings.LastIndexByte(rec.Script.Name, '/')+1:]; plainName.MatchString(name) {
			again.Body["filename"] = name
		}
	}
	return again, nil
}

// runsStored reports whether the visitor may run the version of a stored script that was run, and the
// store still has it.
func (v visitor) runsStored(rec audit.Record) bool {
	script, err := v.storedScript(rec)
	return err == nil && v.may(access.ToRun, script.Object()) == nil
}

// leftOut is what a request had besides and the log does not have.
func leftOut(rec audit.Record) (list []string) {
	if n := rec.Variables.Count; n > 0 {
		list = append(list, fmt.Sprintf("the values of %s: give them below", counted(uint64(n), "variable")))
	}
	if c := rec.Invoked; c != nil {
		if len(c.Argv) > 1 || c.ArgvDropped > 0 {
			list = append(list, "the arguments, in which secrets are redacted")
		}
		if c.Stdin != nil {
			list = append(list, "the standard input")
		}
	}
	if rec.Files != nil && rec.Files.Put != nil {
		list = append(list, counted(uint64(rec.Files.Put.Count), "file")+" that the caller gave")
	}
	return list
}
