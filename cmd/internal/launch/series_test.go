package launch

import (
	"encoding/json"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// A fault of py3run in a run of a series is the status internal. A start record, which is written beside the start, gets its end whatever the
// moment, and nothing is left. The next run of the series is like any other.
func TestSeriesAfterPanic(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	series := NewSeries(false)
	run := func(step string) (wire.Result, map[string]json.RawMessage) {
		t.Helper()
		job := testJob(t, root, "result = 1")
		job.Series = series
		once := false
		job.testOnlyReached = func(s string) {
			if s == step && !once {
				once = true
				panic("a fault of ours")
			}
		}
		answer := Run(job)
		if err := answer.Sweep(); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		series.Next()
		return answer.Result, records(t, root)[answer.Result.RunID]
	}
	for step, recorded := range map[string]bool{"planned": false, "started": true, "recorded": true, "ended": true, "judged": true} {
		r, of := run(step)
		if r.Status != wire.StatusInternal || (r.Audit != nil) != recorded {
			t.Errorf("%s: %s, receipt %+v", step, r.Status, r.Audit)
		}
		if (of["execution-start"] != nil) != recorded || strings.Contains(string(of["execution-end"]), `"status":"internal"`) != recorded {
			t.Errorf("%s: records %s", step, of)
		}
		if r, of := run(""); r.Status != wire.StatusOK || len(of) != 2 {
			t.Errorf("after %s: %s %+v, records %s", step, r.Status, r.Failure, of)
		}
	}
	if err := series.Close(); err != nil {
		t.Error(err)
	}
	if names := left(root); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}
