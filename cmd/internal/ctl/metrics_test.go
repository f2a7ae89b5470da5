package ctl

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

// entries is a log of ended runs: user, status and milliseconds of each.
func entries(runs ...[3]any) store.Log {
	var list []store.Entry
	for i, r := range runs {
		ms := int64(r[2].(int))
		rec := audit.Record{Seq: uint64(i + 1), RunID: fmt.Sprint("r", i), Timestamp: "2026-11-24T10:00:00.000000Z", User: audit.User{Name: r[0].(string)}, Status: r[1].(string),
			Event: audit.Event{Action: audit.ExecutionEnd, DurationNS: ms * 1e6}, Process: &audit.Process{CPUMS: ms, StdoutBytes: new(int64(10)), StderrBytes: new(int64(1))}}
		list = append(list, store.Entry{Record: rec, Hash: "h"})
	}
	list = append(list, store.Entry{Record: audit.Record{Event: audit.Event{Action: audit.AuditRepair, Reason: "log-lost"}}})
	return store.Log{Entries: func(yield func(store.Entry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m, err := measure(entries([3]any{"alice", "ok", 20}, [3]any{"alice", "timeout", 2000}, [3]any{"b\"o\\b\nx", "ok", 700}))
	if err != nil {
		t.Fatal(err)
	}
	m.running, m.seq, m.bytes, m.now = 2, 4, 1000, time.Unix(1_800_000_000, 0)
	var prom, open strings.Builder
	if m.write(&prom, prometheus) != nil || m.write(&open, openMetrics) != nil {
		t.Fatal("cannot be written")
	}
	for _, want := range []string{
		"# TYPE py3run_runs_total counter\npy3run_runs_total{status=\"ok\"} 2\npy3run_runs_total{status=\"timeout\"} 1\n",
		`py3run_run_duration_seconds_bucket{le="0.025"} 1`, `py3run_run_duration_seconds_bucket{le="1"} 2`, `py3run_run_duration_seconds_bucket{le="+Inf"} 3`, "py3run_run_duration_seconds_count 3",
		`py3run_user_cpu_seconds_total{user="alice"} 2.02`, `py3run_user_cpu_seconds_total{user="b\"o\\b\nx"} 0.7`,
		"py3run_output_bytes_total 33", "py3run_running 2", `py3run_audit_records_total{action="execution-end"} 3`, `py3run_audit_repairs_total{reason="log-lost"} 1`,
		"py3run_audit_seq 4", "py3run_audit_bytes 1000", "py3run_last_update_timestamp_seconds 1800000000\n",
	} {
		if !strings.Contains(prom.String(), want) {
			t.Errorf("%q is not in\n%s", want, prom.String())
		}
	}
	if !strings.HasSuffix(open.String(), "\n# EOF\n") || strings.Contains(prom.String(), "# EOF") {
		t.Error("only OpenMetrics ends with # EOF")
	}
	if !strings.Contains(open.String(), "# TYPE py3run_runs counter\npy3run_runs_total{") || strings.Contains(open.String(), "# TYPE py3run_runs_total") {
		t.Error("in OpenMetrics a counter's family has no _total")
	}
	isSample := regexp.MustCompile(`^[a-z0-9_]+(\{[a-z]+="([^"\\\n]|\\["\\n])*"\})? [0-9.e+-]+$`)
	for line := range strings.Lines(prom.String()) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "# ") && !isSample.MatchString(line) {
			t.Errorf("no sample: %q", line)
		}
	}
}

func TestMetricsOfManyUsers(t *testing.T) {
	t.Parallel()
	var runs [][3]any
	for i := range 60 {
		runs = append(runs, [3]any{fmt.Sprint("u", i), "ok", 1000 + i})
	}
	m, err := measure(entries(runs...))
	var text strings.Builder
	if err != nil || m.write(&text, prometheus) != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, match := range regexp.MustCompile(`py3run_user_cpu_seconds_total\{.*\} (.*)`).FindAllStringSubmatch(text.String(), -1) {
		v, _ := strconv.ParseFloat(match[1], 64)
		sum += v
	}
	if n := strings.Count(text.String(), "py3run_user_runs_total{"); n != usersMost+1 || sum < 61.76 || sum > 61.78 || !strings.Contains(text.String(), `py3run_user_runs_total{user="other"} 10`) {
		t.Errorf("%d users, %v seconds together", n, sum)
	}
}
