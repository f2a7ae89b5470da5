package ctl

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

// usersMost is how many users the metrics name. All users with less processor time are "other"
// together.
const usersMost = 50

// durationBounds are the upper bounds of the buckets of py3run_run_duration_seconds.
var durationBounds = []time.Duration{10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute, time.Hour}

// A measurement is what the metrics are computed from.
type measurement struct {
	statuses []store.Group // by status
	users    []store.Group // by user
	actions  []store.Action
	running  int    // runs under way
	seq      uint64 // of the newest record
	bytes    int64  // of the log
	now      time.Time
}

// measure reads a measurement from the index or the log.
func measure(s store.Source) (m measurement, err error) {
	if log, ok := s.(logSource); ok {
		m.statuses, m.users, m.actions, err = log.Totals(store.ByStatus, store.ByUser)
		return m, err
	}
	if m.statuses, err = s.Stats(store.Query{}, store.ByStatus); err != nil {
		return m, err
	}
	if m.users, err = s.Stats(store.Query{}, store.ByUser); err != nil {
		return m, err
	}
	m.actions, err = s.Actions()
	return m, err
}

// metrics writes metrics to standard output, or to a file for the textfile collector of Prometheus.
// The file is replaced as a whole, and everybody can read it.
func (d logContext) metrics(index, file string, f format, now time.Time) error {
	s, err := d.source(index)
	if err != nil {
		return err
	}
	defer s.Close()
	m, err := measure(s)
	if err != nil {
		return err
	}
	m.now = now
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	m.running = r.Running()
	for line, err := range r.Backward() {
		if err == nil {
			m.seq = line.Seq
			break
		}
	}
	segments, _ := filepath.Glob(filepath.Join(d.dir, "audit*.jsonl"))
	for _, name := range segments {
		if info, err := os.Lstat(name); err == nil {
			m.bytes += info.Size()
		}
	}
	if file == "" {
		return m.write(d.out, f)
	}
	var text bytes.Buffer
	m.write(&text, f)
	return replaceFile(file, text.Bytes(), 0o644)
}

// A format is the text format of metrics: Prometheus' (0.0.4), which the textfile collector reads,
// or OpenMetrics 1.0.
type format bool

const (
	prometheus  format = false
	openMetrics format = true
)

// write renders a measurement. Names and labels do not change between versions.
func (m measurement) write(to io.Writer, f format) error {
	e := exposition{format: f}
	m.writeRuns(&e)
	m.writeUsers(&e)
	e.family("py3run_output_bytes", "counter", "What runs have written to stdout and stderr.")
	output := int64(0)
	for _, g := range m.statuses {
		output += g.OutputBytes
	}
	e.sample("py3run_output_bytes_total", output)
	e.family("py3run_running", "gauge", "Runs under way.")
	e.sample("py3run_running", m.running)
	m.writeLog(&e)
	e.family("py3run_last_update_timestamp_seconds", "gauge", "When these numbers were taken.")
	e.sample("py3run_last_update_timestamp_seconds", m.now.Unix())
	if f == openMetrics {
		e.text.WriteString("# EOF\n")
	}
	_, err := io.WriteString(to, e.text.String())
	return err
}

// writeRuns writes how many runs have ended, by status, and how long they took.
func (m measurement) writeRuns(e *exposition) {
	e.family("py3run_runs", "counter", "Runs that have ended, by their status, with the refusals that stand only in summaries.")
	var durations store.Histogram
	slices.SortFunc(m.statuses, func(a, b store.Group) int { return strings.Compare(a.Key, b.Key) })
	for _, g := range m.statuses {
		e.sample("py3run_runs_total", g.Runs+g.Refused, "status", g.Key)
		durations.Merge(g.Durations())
	}
	e.family("py3run_run_duration_seconds", "histogram", "Time from the request to the end record; the sum is right to within 3 percent.")
	for _, bound := range durationBounds {
		e.sample("py3run_run_duration_seconds_bucket", durations.AtMost(bound), "le", exactSeconds(bound))
	}
	e.sample("py3run_run_duration_seconds_bucket", durations.Count(), "le", "+Inf")
	e.sample("py3run_run_duration_seconds_sum", exactSeconds(durations.Sum()))
	e.sample("py3run_run_duration_seconds_count", durations.Count())
}

// writeUsers writes what the users with the most processor time have used, and what all others have
// used together.
func (m measurement) writeUsers(e *exposition) {
	slices.SortStableFunc(m.users, func(a, b store.Group) int {
		if a.CPU != b.CPU {
			return int(min(max(b.CPU-a.CPU, -1), 1))
		}
		return strings.Compare(a.Key, b.Key)
	})
	m.users = slices.DeleteFunc(m.users, func(g store.Group) bool { return g.Runs == 0 }) // they were only refused, in summaries
	named, rest := m.users, []store.Group(nil)
	if len(named) > usersMost {
		named, rest = named[:usersMost], named[usersMost:]
	}
	other := store.Group{}
	for _, g := range rest {
		other.Runs += g.Runs
		other.CPU += g.CPU
	}
	perUser := func(name, help string, value func(store.Group) any) {
		e.family(name, "counter", help)
		for _, g := range named {
			labels := []string{"user", g.Key}
			if g.Asserted {
				labels = append(labels, "asserted", "true")
			}
			e.sample(name+"_total", value(g), labels...)
		}
		if len(rest) > 0 {
			e.sample(name+"_total", value(other), "user", "other")
		}
	}
	perUser("py3run_user_runs", "Runs of a user that have ended.", func(g store.Group) any { return g.Runs })
	perUser("py3run_user_cpu_seconds", "Processor time of a user's runs.", func(g store.Group) any { return exactSeconds(g.CPU) })
}

// writeLog writes what the log holds, and how often it was repaired.
func (m measurement) writeLog(e *exposition) {
	e.family("py3run_audit_records", "counter", "Records in the log, by what they are about.")
	counts := map[string]int64{}
	var names []string
	for _, a := range m.actions {
		if counts[a.Name] == 0 {
			names = append(names, a.Name)
		}
		counts[a.Name] += a.Count
	}
	for _, name := range names {
		e.sample("py3run_audit_records_total", counts[name], "action", name)
	}
	e.family("py3run_audit_repairs", "counter", "Repairs of the log, by what was wrong.")
	for _, a := range m.actions {
		if a.Name == "audit-repair" {
			e.sample("py3run_audit_repairs_total", a.Count, "reason", a.Reason)
		}
	}
	e.family("py3run_audit_seq", "gauge", "Number of the newest record.")
	e.sample("py3run_audit_seq", m.seq)
	e.family("py3run_audit_bytes", "gauge", "Size of the log.")
	e.sample("py3run_audit_bytes", m.bytes)
}

// An exposition is the text of metrics while it is written.
type exposition struct {
	format format
	text   strings.Builder
}

// family begins the samples of one metric.
func (e *exposition) family(name, kind, help string) {
	if e.format == prometheus && kind == "counter" {
		name += "_total"
	}
	fmt.Fprintf(&e.text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample writes one value. labels are names and values by turns.
func (e *exposition) sample(name string, value any, labels ...string) {
	e.text.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(&e.text, `%s%s="%s"`, sep, labels[i], escapeLabel(labels[i+1]))
	}
	if len(labels) > 0 {
		e.text.WriteByte('}')
	}
	fmt.Fprintf(&e.text, " %v\n", value)
}

// escapeLabel escapes the value of a label as both formats require, and what a terminal obeys. Both
// formats are UTF-8.
func escapeLabel(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\uFFFD"))
	if strings.IndexFunc(s, func(r rune) bool { return !strconv.IsGraphic(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if strconv.IsGraphic(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(`\` + plain(string(r)))
		}
	}
	return b.String()
}

// exactSeconds is a duration in seconds, in decimals: a quotient of floating-point numbers would
// have digits that were not measured.
func exactSeconds(d time.Duration) string {
	text := fmt.Sprintf("%d.%09d", d/time.Second, (d % time.Second).Abs())
	if d < 0 && d > -time.Second {
		text = "-" + text
	}
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
