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
	"text/tabwriter"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/wire"
)

// A question is what history and stats are asked, as on the command line.
type question struct {
	user, script, status string
	run                  string // the beginning or the end of a run's id
	since, until         string
	limit                int
	index                string // file; empty: the usual one
	format               string // text, json or csv; empty: text on a terminal, else json
}

func (q question) query(now time.Time) (store.Query, error) {
	since, err := parseTime("since", q.since, now)
	if err != nil {
		return store.Query{}, err
	}
	until, err := parseTime("until", q.until, now)
	if err != nil {
		return store.Query{}, err
	}
	if err := oneOf("status", q.status, statuses()...); err != nil {
		return store.Query{}, err
	}
	if q.run != "" && len(q.run) < prefixLeast {
		return store.Query{}, fmt.Errorf("%q is not %d characters of a run id", q.run, prefixLeast)
	}
	return store.Query{Run: strings.ToLower(q.run), User: q.user, Script: q.script, Status: q.status, Since: since, Until: until, Limit: q.limit, Zone: now.Location()}, nil
}

// statuses are all that a run can have: those of results, and two that no result has.
func statuses() (list []string) {
	for _, s := range wire.Statuses() {
		list = append(list, string(s))
	}
	return append(list, store.Orphaned, store.Running)
}

// parseTime reads the time that was given for a flag: in RFC 3339, as a day, or as how long ago it
// was: 30m, 24h, 7d. A time without a zone is in the zone of now.
func parseTime(what, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, cli.Usagef("invalid argument %q for --%s: want 2026-11-24, 2026-11-24T10:00:00Z, or how long ago, as 24h or 7d", s, what)
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
	RunID       string  `json:"run_id"`
	Started     string  `json:"started"`
	Ended       string  `json:"ended,omitempty"`
	User        string  `json:"user"`
	Auth        string  `json:"auth,omitempty"`
	Client      string  `json:"client_ip,omitempty"`
	Host        string  `json:"host,omitempty"`
	Script      string  `json:"script,omitempty"`
	Version     string  `json:"script_version,omitempty"`
	Command     string  `json:"command,omitempty"`
	Code        string  `json:"code_sha256,omitempty"`
	CodeBytes   int64   `json:"code_bytes"`
	Status      string  `json:"status"`
	Reason      string  `json:"reason,omitempty"`
	Duration    float64 `json:"duration_seconds,omitempty"` // 0: not known, of runs under way and orphaned ones
	CPU         float64 `json:"cpu_seconds"`
	PeakMemory  int64   `json:"peak_memory_bytes"`
	StdoutBytes int64   `json:"stdout_bytes"`
	StderrBytes int64   `json:"stderr_bytes"`
	ExitCode    *int    `json:"exit_code,omitempty"`
	Signal      string  `json:"signal,omitempty"`
	StartSeq    uint64  `json:"start_seq,omitempty"`
	Seq         uint64  `json:"seq,omitempty"`
	Hash        string  `json:"hash,omitempty"` // of the end record: it is the run's receipt
}

func shown(r store.Run) shownRun {
	s := shownRun{r.ID, r.Started.UTC().Format(time.RFC3339Nano), "", r.User, r.Auth, r.Client, r.Host, r.Script, r.Version, r.Command, r.Code, r.CodeBytes,
		r.Status, r.Reason, secondsOf(r.Duration), secondsOf(r.CPU), r.PeakMemory, r.StdoutBytes, r.StderrBytes, r.ExitCode, r.Signal, r.StartSeq, r.EndSeq, r.EndHash}
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
	for r, err := range s.History(store.Query{Run: q.Run}) {
		if err != nil {
			return err
		}
		found = append(found, candidate{r.ID, r.Started, r.User, cmp.Or(r.Status, store.Running)})
	}
	if len(found) == 0 {
		return fmt.Errorf("no run of %q in %s", q.Run, d.dir)
	}
	return d.ambiguous(q.Run, found)
}

// A candidate is a run that was perhaps meant.
type candidate struct {
	id     string
	at     time.Time
	user   string
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

func (d logContext) runPrinter(to io.Writer, format string) (put func(store.Run) error, done func() error) {
	switch format {
	case "json":
		return func(r store.Run) error { return writeJSON(to, shown(r)) }, func() error { return nil }
	case "csv":
		w := csv.NewWriter(to)
		w.Write([]string{"run_id", "started", "ended", "user", "script", "status", "reason", "duration_seconds", "cpu_seconds", "peak_memory_bytes", "seq", "hash"})
		return func(r store.Run) error {
				s := shown(r)
				return w.Write([]string{cell(s.RunID), s.Started, s.Ended, cell(s.User), cell(s.Script), cell(s.Status), cell(s.Reason), decimal(s.Duration), decimal(s.CPU),
					strconv.FormatInt(s.PeakMemory, 10), strconv.FormatUint(s.Seq, 10), s.Hash})
			}, func() error {
				w.Flush()
				return w.Error()
			}
	}
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "STARTED\tUSER\tSCRIPT\tSTATUS\tTIME\tCPU\tMEMORY\tRUN")
	return func(r store.Run) error {
		s := shown(r)
		took, cpu, memory := shortTime(r.Duration), shortTime(r.CPU), shortSize(r.PeakMemory)
		if r.Status == "" || r.Status == store.Orphaned {
			took, cpu, memory = "-", "-", "-"
		}
		_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Started.In(d.local()).Format("2006-01-02 15:04:05"), plain(s.User), plain(cmp.Or(s.Script, "-")), plain(s.Status), took, cpu, memory, plain(s.RunID))
		return err
	}, w.Flush
}

// shownGroup is a line of stats in JSON.
type shownGroup struct {
	Key         string           `json:"key"`
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
}

func shownGroupOf(g store.Group) shownGroup {
	at := func(p float64) float64 { return secondsOf(g.Percentile(p)) }
	return shownGroup{g.Key, g.Runs, g.Failed, g.Statuses, at(0.5), at(0.95), at(0.99), at(1), secondsOf(g.CPU), g.PeakMemory, g.OutputBytes, g.Last.UTC().Format(time.RFC3339)}
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
		w.Write([]string{string(by), "runs", "failed", "p50_seconds", "p95_seconds", "p99_seconds", "max_seconds", "cpu_seconds", "peak_memory_bytes", "output_bytes", "last_started"})
		for _, g := range groups {
			s := shownGroupOf(g)
			w.Write([]string{cell(s.Key), strconv.FormatInt(s.Runs, 10), strconv.FormatInt(s.Failed, 10), decimal(s.P50), decimal(s.P95), decimal(s.P99), decimal(s.Max), decimal(s.CPU),
				strconv.FormatInt(s.PeakMemory, 10), strconv.FormatInt(s.OutputBytes, 10), s.Last})
		}
		w.Flush()
		return w.Error()
	}
	w := tabwriter.NewWriter(d.out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%s\tRUNS\tFAILED\tP50\tP95\tP99\tMAX\tCPU\tMEMORY\tFAILURES\n", strings.ToUpper(string(by)))
	for _, g := range groups {
		var failures []string
		for _, status := range slices.Sorted(maps.Keys(g.Statuses)) {
			if status != "ok" {
				failures = append(failures, fmt.Sprintf("%s %d", plain(status), g.Statuses[status]))
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(cmp.Or(g.Key, "-")), g.Runs, g.Failed, shortTime(g.Percentile(0.5)), shortTime(g.Percentile(0.95)),
			shortTime(g.Percentile(0.99)), shortTime(g.Percentile(1)), shortTime(g.CPU), shortSize(g.PeakMemory), strings.Join(failures, ", "))
	}
	return w.Flush()
}

// loadZone finds the zone for days, and for times without a zone.
func loadZone(name string) (*time.Location, error) {
	if name == "" || name == "local" {
		return time.Local, nil
	}
	if strings.EqualFold(name, "utc") {
		return time.UTC, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, cli.Usagef("invalid argument %q for --zone: want local, UTC or a name such as Europe/Berlin", name)
	}
	return zone, nil
}

// local is the zone for days and tables.
func (d logContext) local() *time.Location {
	if d.zone == nil {
		return time.Local
	}
	return d.zone
}
