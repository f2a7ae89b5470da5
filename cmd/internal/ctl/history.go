package ctl

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

// A question is what history and stats are asked, as on the command line.
type question struct {
	filter
	run    string // the beginning or the end of a run's id
	limit  int
	index  string // file; empty: the usual one
	format string // text, json or csv; empty: text on a terminal, else json
}

func (q question) query(now time.Time) (store.Query, error) {
	query, err := q.filter.query(now)
	if err == nil && q.run != "" && len(q.run) < prefixLeast {
		err = fmt.Errorf("%q is not %d characters of a run id", q.run, prefixLeast)
	}
	query.Run, query.Limit = strings.ToLower(q.run), q.limit
	return query, err
}

func (d logContext) formatOf(asked string) string { return formatOf(asked, d.outIsTerminal) }

func formatOf(asked string, terminal bool) string {
	if asked == "" && terminal {
		return "text"
	}
	return cmp.Or(asked, "json")
}

// shownRun is a run as history prints it in JSON.
type shownRun struct {
	RunID       string            `json:"run_id"`
	Started     string            `json:"started"`
	Ended       string            `json:"ended,omitempty"`
	User        string            `json:"user"`
	Auth        string            `json:"auth,omitempty"`
	Asserted    bool              `json:"asserted,omitempty"` // nothing but the caller's word says who the user is
	OSUser      string            `json:"os_user,omitempty"`
	KeyID       string            `json:"key_id,omitempty"`
	Holder      string            `json:"holder,omitempty"`
	Client      string            `json:"client_ip,omitempty"`
	Host        string            `json:"host,omitempty"`
	Script      string            `json:"script,omitempty"`
	Version     string            `json:"script_version,omitempty"`
	Source      string            `json:"script_source,omitempty"`
	Path        string            `json:"script_path,omitempty"`
	Invocation  string            `json:"invocation,omitempty"` // exec, run, python or bridge
	Command     string            `json:"command,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Code        string            `json:"code_sha256,omitempty"`
	CodeBytes   int64             `json:"code_bytes"`
	Status      string            `json:"status"`
	Reason      string            `json:"reason,omitempty"`
	Duration    float64           `json:"duration_seconds,omitempty"` // 0: not known, of runs under way and orphaned ones
	CPU         float64           `json:"cpu_seconds"`
	PeakMemory  int64             `json:"peak_memory_bytes"`
	StdoutBytes int64             `json:"stdout_bytes"`
	StderrBytes int64             `json:"stderr_bytes"`
	ExitCode    *int              `json:"exit_code,omitempty"`
	Signal      string            `json:"signal,omitempty"`
	StartSeq    uint64            `json:"start_seq,omitempty"`
	Seq         uint64            `json:"seq,omitempty"`
	Hash        string            `json:"hash,omitempty"`     // of the end record: it is the run's receipt
	Refusals    int64             `json:"refusals,omitempty"` // no run, but a summary of so many refusals; seq is its record
}

func shown(r store.Run) shownRun {
	s := shownRun{
		RunID: r.ID, Started: r.Started.UTC().Format(time.RFC3339Nano), User: r.User, Auth: r.Auth, Asserted: r.Asserted(), OSUser: r.OSUser, KeyID: r.KeyID, Holder: r.Holder,
		Client: r.Client, Host: r.Host, Script: r.Script, Version: r.Version, Source: r.Source, Path: r.Path, Invocation: r.Invocation, Command: r.Command,
		Labels: r.Labels, Code: r.Code, CodeBytes: r.CodeBytes, Status: r.Status, Reason: r.Reason, Duration: secondsOf(r.Duration), CPU: secondsOf(r.CPU),
		PeakMemory: r.PeakMemory, StdoutBytes: r.StdoutBytes, StderrBytes: r.StderrBytes, ExitCode: r.ExitCode, Signal: r.Signal,
		StartSeq: r.StartSeq, Seq: r.EndSeq, Hash: r.EndHash, Refusals: r.Refusals,
	}
	if r.Status == "" {
		s.Status = store.Running
	} else if !r.Ended.IsZero() {
		s.Ended = r.Ended.UTC().Format(time.RFC3339Nano)
	}
	return s
}

// ask reads a question, and opens the source that answers it. The caller closes the source.
func (d logContext) ask(q question, now time.Time) (store.Query, store.Source, error) {
	query, err := q.query(now.In(d.local()))
	query.Owner = d.only
	if err != nil {
		return query, nil, err
	}
	s, err := d.source(q.index)
	return query, s, err
}

// history prints runs, newest first.
func (d logContext) history(q question, now time.Time) error {
	query, s, err := d.ask(q, now)
	if err != nil {
		return err
	}
	defer s.Close()
	if query.Run != "" {
		if err := d.oneRun(s, query); err != nil {
			return err
		}
	}
	buffered := bufio.NewWriter(d.out)
	put, done := d.runPrinter(buffered, d.formatOf(q.format))
	if query.Run != "" && d.formatOf(q.format) == "text" {
		put, done = func(r store.Run) error { return d.printRun(buffered, r) }, func() error { return nil }
	}
	log, err := audit.OpenReader(d.dir)
	if err == nil {
		defer log.Close()
	}
	dead := func(r *store.Run) bool { // the next run will record it
		if r.Status != "" || log == nil || !log.Dead(r.ID) {
			return false
		}
		r.Status, r.Reason = store.Orphaned, "launcher-died"
		return true
	}
	limit, n := query.Limit, 0
	tell := func(r store.Run) error {
		if n++; limit > 0 && n > limit {
			return nil
		}
		return put(r)
	}
	var unrecorded []store.Run // newest first
	if query.Status == store.Orphaned {
		open := query
		open.Status, open.Limit = store.Running, 0
		for r, err := range s.History(open) {
			if err != nil {
				return err
			}
			if dead(&r) {
				unrecorded = append(unrecorded, r)
			}
		}
	}
	if query.Status == store.Running {
		query.Limit = 0 // dead runs are left out
	}
	for r, err := range s.History(query) {
		if err != nil {
			return err
		}
		if dead(&r) && query.Status == store.Running {
			continue
		}
		for ; len(unrecorded) > 0 && unrecorded[0].Started.After(r.Started); unrecorded = unrecorded[1:] {
			if err := tell(unrecorded[0]); err != nil {
				return err
			}
		}
		if err := tell(r); err != nil {
			return err
		}
	}
	for _, r := range unrecorded {
		if err := tell(r); err != nil {
			return err
		}
	}
	if err := done(); err != nil {
		return err
	}
	return buffered.Flush()
}

// oneRun refuses a text that is the beginning or the end of several run ids, or of none.
func (d logContext) oneRun(s store.Source, q store.Query) error {
	var found []candidate
	for r, err := range s.History(store.Query{Run: q.Run, Owner: q.Owner}) {
		if err != nil {
			return err
		}
		found = append(found, candidate{r.ID, r.Started, named(r.User, r.Asserted()), cmp.Or(r.Status, store.Running)})
	}
	if len(found) == 0 {
		return fmt.Errorf("no run of %q%s in %s", q.Run, d.mine(), d.dir)
	}
	return d.ambiguous(q.Run, found)
}

// A candidate is a run that was perhaps meant.
type candidate struct {
	id     string
	at     time.Time
	user   string // as people read it
	status string
}

// ambiguous is an error that lists the candidates, if there are several. A run id begins with the
// time, so the ends differ.
func (d logContext) ambiguous(what string, found []candidate) error {
	if len(found) < 2 {
		return nil
	}
	const most, end = 20, 12
	verb := "ends"
	for _, c := range found {
		if strings.HasPrefix(c.id, what) {
			verb = "begins"
		}
	}
	text := fmt.Sprintf("%q %s %d run ids; say one by its end, as %s:", what, verb, len(found), found[0].id[max(0, len(found[0].id)-end):])
	for _, c := range found[:min(most, len(found))] {
		text += fmt.Sprintf("\n  %s  %s  %s  %s", plain(c.id), c.at.In(d.local()).Format("2006-01-02 15:04:05"), plain(c.user), plain(c.status))
	}
	if more := len(found) - most; more > 0 {
		text += fmt.Sprintf("\n  and %d more", more)
	}
	return errors.New(text)
}

// runColumns are the columns of history as CSV. They stay; new ones come at the end.
var runColumns = []string{"run_id", "started", "ended", "user", "script", "status", "reason", "duration_seconds", "cpu_seconds", "peak_memory_bytes", "seq", "hash",
	"auth", "os_user", "key_id", "holder", "client_ip", "host", "script_version", "script_source", "script_path", "invocation", "command", "labels", "code_sha256", "code_bytes", "asserted", "refusals"}

func (d logContext) runPrinter(to io.Writer, format string) (put func(store.Run) error, done func() error) {
	switch format {
	case "json":
		return func(r store.Run) error { return writeJSON(to, shown(r)) }, func() error { return nil }
	case "csv":
		w := csv.NewWriter(to)
		w.Write(runColumns)
		return func(r store.Run) error {
				s := shown(r)
				return w.Write([]string{cell(s.RunID), s.Started, s.Ended, cell(s.User), cell(s.Script), cell(s.Status), cell(s.Reason), decimal(s.Duration), decimal(s.CPU),
					strconv.FormatInt(s.PeakMemory, 10), strconv.FormatUint(s.Seq, 10), s.Hash,
					cell(s.Auth), cell(s.OSUser), cell(s.KeyID), cell(s.Holder), cell(s.Client), cell(s.Host), cell(s.Version), cell(s.Source), cell(s.Path), cell(s.Invocation),
					cell(s.Command), cell(store.LabelText(s.Labels)), cell(s.Code), strconv.FormatInt(s.CodeBytes, 10), strconv.FormatBool(s.Asserted), strconv.FormatInt(s.Refusals, 10)})
			}, func() error {
				w.Flush()
				return w.Error()
			}
	}
	t := d.newTable(true, column{title: "started", short: withoutYear}, column{title: "user", least: 8, keep: assertedMark}, column{title: "script", least: 16}, column{title: "call", rank: 4},
		column{title: "status", least: 14}, column{title: "time", right: true, rank: 1}, column{title: "cpu", right: true, rank: 3}, column{title: "memory", right: true, rank: 2},
		column{title: "run", short: endOfRun}, column{title: "labels", rank: 5, least: 16})
	tables := 0
	return func(r store.Run) error {
			s := shown(r)
			took, cpu, memory := usedBy(r)
			t.add(d.when(r.Started), named(s.User, r.Asserted()), scriptOf(s.Script, s.Version), s.Invocation, s.Status, took, cpu, memory, cmp.Or(summaryText(r), s.RunID), shortLabels(s.Labels))
			if len(t.rows) < tableMost {
				return nil
			}
			err := t.write(to)
			t.rows, tables = nil, tables+1
			return err
		}, func() error {
			if len(t.rows) == 0 && tables > 0 {
				return nil
			}
			return t.write(to)
		}
}

// tableMost is how many runs one table has: with more of them, the next table follows.
const tableMost = 10_000

// withoutYear and endOfRun are the forms of a time and of a run id for where there is little room. The
// end of the id is enough to name the run. A log can have anything in their place: half a character, which a
// terminal can obey, goes.
func withoutYear(at string) string { return whole(at[min(len(at), len("2026-")):]) }
func endOfRun(id string) string {
	if strings.Contains(id, " ") { // a summary stands here
		return id
	}
	return whole(id[max(0, len(id)-prefixLeast):])
}

// whole is a text without the halves of characters that it was cut through.
func whole(text string) string { return strings.ToValidUTF8(text, "") }

// summaryText stands in place of a run's id where there is no run, but a summary of refusals.
func summaryText(r store.Run) string {
	if r.Refusals == 0 {
		return ""
	}
	return counted(uint64(max(r.Refusals, 0)), "refusal")
}

// usedBy is what a run has taken, for people: nothing is known of one that has no end, and nothing ran of one
// that was refused.
func usedBy(r store.Run) (took, cpu, memory string) {
	switch r.Status {
	case "", store.Orphaned, store.Denied, store.RateLimited:
		return "-", "-", "-"
	}
	return shortTime(r.Duration), shortTime(r.CPU), shortSize(r.PeakMemory)
}

// printRun prints all that history knows of one run, for people: a field on a line.
func (d logContext) printRun(to io.Writer, r store.Run) error {
	s := shown(r)
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.In(d.local()).Format("2006-01-02 15:04:05.000")
	}
	number := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	key, exit, code := s.KeyID, "", s.Code
	if s.Holder != "" {
		key += " of " + s.Holder
	}
	if s.ExitCode != nil {
		exit = strconv.Itoa(*s.ExitCode)
	}
	if code != "" {
		code += ", " + counted(uint64(max(s.CodeBytes, 0)), "byte")
	}
	script := scriptOf(s.Script, s.Version)
	for _, more := range []string{s.Source, s.Path} {
		if more != "" {
			script += ", " + more
		}
	}
	took, cpu, memory := usedBy(r)
	output := fmt.Sprintf("%s, %s of errors", counted(uint64(max(s.StdoutBytes, 0)), "byte"), counted(uint64(max(s.StderrBytes, 0)), "byte"))
	if r.Status == store.Denied || r.Status == store.RateLimited {
		output = "-"
	}
	return d.fields(to, [][2]string{
		{"run", s.RunID}, {"status", s.Status}, {"reason", s.Reason}, {"exit code", exit}, {"signal", s.Signal},
		{"user", named(s.User, r.Asserted())}, {"known by", s.Auth}, {"API key", key}, {"called by", s.OSUser}, {"client", s.Client}, {"host", s.Host},
		{"call", strings.TrimSpace(s.Invocation + " " + s.Command)}, {"script", script}, {"code", code}, {"labels", shortLabels(s.Labels)},
		{"started", at(r.Started)}, {"ended", at(r.Ended)}, {"times in", d.zoneName()}, {"time", took}, {"CPU", cpu}, {"memory", memory},
		{"output", output},
		{"start record", number(s.StartSeq)}, {"end record", number(s.Seq)}, {"receipt", s.Hash},
	})
}

// shortLabels are labels for people, by name.
func shortLabels(labels map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, name+"="+labels[name])
	}
	return strings.Join(list, " ")
}

// shownGroup is a line of stats in JSON.
type shownGroup struct {
	Key         string           `json:"key"`
	Asserted    bool             `json:"asserted,omitempty"` // of a user: the runs in which nothing but the caller's word says so
	Runs        int64            `json:"runs"`
	Failed      int64            `json:"failed"`
	Statuses    map[string]int64 `json:"statuses"`
	P50         float64          `json:"p50_seconds"`
	P95         float64          `json:"p95_seconds"`
	P99         float64          `json:"p99_seconds"`
	Max         float64          `json:"max_seconds"`
	CPU         float64          `json:"cpu_seconds"`
	PeakMemory  int64            `json:"peak_memory_bytes"`
	OutputBytes int64            `json:"output_bytes"`
	Last        string           `json:"last_started"`
	Refused     int64            `json:"refused_in_summaries,omitempty"` // refusals without a record of their own; they are not in runs
}

func shownGroupOf(g store.Group) shownGroup {
	at := func(p float64) float64 { return secondsOf(g.Percentile(p)) }
	return shownGroup{g.Key, g.Asserted, g.Runs, g.Failed, g.Statuses, at(0.5), at(0.95), at(0.99), at(1), secondsOf(g.CPU), g.PeakMemory, g.OutputBytes, g.Last.UTC().Format(time.RFC3339), g.Refused}
}

// stats prints what groups of ended runs have used.
func (d logContext) stats(q question, by store.By, now time.Time) error {
	query, s, err := d.ask(q, now)
	if err != nil {
		return err
	}
	defer s.Close()
	groups, err := s.Stats(query, by)
	if err != nil {
		return err
	}
	switch d.formatOf(q.format) {
	case "json":
		for _, g := range groups {
			if err := writeJSON(d.out, shownGroupOf(g)); err != nil {
				return err
			}
		}
		return nil
	case "csv":
		w := csv.NewWriter(d.out)
		w.Write([]string{string(by), "runs", "failed", "p50_seconds", "p95_seconds", "p99_seconds", "max_seconds", "cpu_seconds", "peak_memory_bytes", "output_bytes", "last_started", "asserted", "refused_in_summaries"})
		for _, g := range groups {
			s := shownGroupOf(g)
			w.Write([]string{cell(s.Key), strconv.FormatInt(s.Runs, 10), strconv.FormatInt(s.Failed, 10), decimal(s.P50), decimal(s.P95), decimal(s.P99), decimal(s.Max), decimal(s.CPU),
				strconv.FormatInt(s.PeakMemory, 10), strconv.FormatInt(s.OutputBytes, 10), s.Last, strconv.FormatBool(s.Asserted), strconv.FormatInt(s.Refused, 10)})
		}
		w.Flush()
		return w.Error()
	}
	t := d.newTable(by == store.ByDay, column{title: string(by), least: 12, keep: assertedMark}, column{title: "runs", right: true}, column{title: "failed", right: true}, column{title: "p50", right: true, rank: 5},
		column{title: "p95", right: true}, column{title: "p99", right: true, rank: 4}, column{title: "max", right: true, rank: 3}, column{title: "cpu", right: true},
		column{title: "memory", right: true, rank: 2}, column{title: "failures", rank: 1, least: 16, wraps: true})
	for _, g := range groups {
		key := cmp.Or(g.Key, "-")
		if g.Asserted {
			key = named(key, true)
		}
		var failures []string
		for _, status := range slices.Sorted(maps.Keys(g.Statuses)) {
			if status != "ok" {
				failures = append(failures, fmt.Sprintf("%s %d", status, g.Statuses[status]))
			}
		}
		if g.Refused > 0 {
			failures = append(failures, fmt.Sprintf("and %s in summaries", counted(uint64(g.Refused), "refusal")))
		}
		times := [4]string{"-", "-", "-", "-"} // of a group in which nothing ran
		if durations := g.Durations(); durations.Count() > 0 {
			for i, share := range []float64{0.5, 0.95, 0.99, 1} {
				times[i] = shortTime(g.Percentile(share))
			}
		}
		t.add(key, fmt.Sprint(g.Runs), fmt.Sprint(g.Failed), times[0], times[1], times[2], times[3], shortTime(g.CPU), shortSize(g.PeakMemory), strings.Join(failures, ", "))
	}
	return t.write(d.out)
}
