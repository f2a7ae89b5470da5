package ctl

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

const prefixLeast = 8 // characters of a run id that are looked for

// find returns the records of the run that a text means: its id, how that begins or how it ends. Where
// the text is a number, it returns the record of that number.
func (d logContext) find(r *audit.Reader, what string) ([]audit.Line, error) {
	what = strings.ToLower(what)
	seq, numberErr := strconv.ParseUint(what, 10, 64)
	if numberErr != nil && len(what) < prefixLeast {
		return nil, fmt.Errorf("%q is neither a number nor %d characters of a run id", what, prefixLeast)
	}
	whole := numberErr == nil && (len(what) < prefixLeast || what[0] != '0') // else the end of a run id can have no letter
	var numbered, found []audit.Line
	var runs []candidate
	for line, err := range r.Records(audit.Position{}) {
		if err != nil {
			d.warnf("%v", err)
			continue
		}
		isNumber := whole && line.Seq == seq
		isRun := len(what) >= prefixLeast && (strings.HasPrefix(line.RunID, what) || strings.HasSuffix(line.RunID, what))
		if !isNumber && !isRun {
			continue
		}
		rec, _ := line.Record()
		if !d.seen(rec) {
			continue
		}
		if isNumber {
			numbered = append(numbered, line)
		}
		if !isRun {
			continue
		}
		found = append(found, line)
		status := cmp.Or(rec.Status, strings.TrimPrefix(string(line.Action), "execution-"))
		if line.Action == audit.ExecutionStart {
			status = store.Running
		}
		if i := slices.IndexFunc(runs, func(c candidate) bool { return c.id == line.RunID }); i >= 0 {
			runs[i].status = status
		} else {
			runs = append(runs, candidate{line.RunID, line.Time, named(rec.User.Name, store.Asserted(rec)), status})
		}
	}
	if err := d.ambiguous(what, runs); err != nil {
		return nil, err
	}
	if len(numbered) > 0 && len(found) > 0 {
		return nil, fmt.Errorf("%s is the number of a record, and part of the run id %s: say that whole", what, plain(runs[0].id))
	}
	found = append(found, numbered...)
	if len(found) == 0 {
		return nil, d.noRecord(r, what)
	}
	return found, nil
}

// noRecord is the error for what the log does not have.
func (d logContext) noRecord(r *audit.Reader, what string) error {
	if oldest, err := r.Oldest(); err == nil && oldest > 1 {
		return fmt.Errorf("no record of %q%s in %s, which begins with record %d: retention has removed what was before", what, d.mine(), r.Dir(), oldest)
	}
	return fmt.Errorf("no record of %q%s in %s", what, d.mine(), r.Dir())
}
