package launch

import (
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
)

// Each limit of a request has a flag and a default of the configuration, and changes what is started. A new limit that somebody forgot in limits.go
// or in plan.go fails here.
func TestEachLimitReachesTheSpec(t *testing.T) {
	t.Parallel()
	ip := python.Interpreter{Path: "/usr/bin/python3", Version: "3.12.1"}
	facts := Facts{RunID: newRunID(made(nil).Job.Began), FileMax: 1 << 16}
	plan := func(job Job) Plan {
		limits, _ := limitsInForce(job)
		p, err := Make(Plan{Job: job, Interpreter: ip, Limits: limits}, facts)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	usual := plan(made(nil).Job)
	for _, name := range wire.LimitNames() {
		if !slices.ContainsFunc(config.Shorts[:], func(s config.Short) bool { return s.Name == strings.ReplaceAll(name, "_", "-") }) {
			t.Errorf("%s has no flag: config.Shorts does not name it", name)
		}
		if value, _ := usual.Limits.Get(name); value <= 0 {
			t.Errorf("%s has no default: limitsOf does not take it from the configuration", name)
			continue
		}
		changed := plan(made(func(j *Job) { j.Request.Limits.Set(name, 0.5) }).Job)
		if changed.Spec.Limits == usual.Spec.Limits && changed.Python.OutputMost == usual.Python.OutputMost {
			t.Errorf("%s changes neither Spec.Limits nor what Python gets: Plan.spec does not use it", name)
		}
	}
}
