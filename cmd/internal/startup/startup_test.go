package startup

import (
	"strings"
	"testing"
)

func TestRunsOnce(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"py3run": true, "py3run exec": true, "py3run exec --timeout-seconds 5": true, "py3run run job.py bridge": true,
		"python3-bridge": false, "/opt/x/python3": false, "python3 run": false, "python3 exec": false, "python3-bridge exec": false, "python/py3run": true,
		"py3run bridge": false, "py3run warm-template": false, "py3run version": false, "py3run --config f exec": false, "py3runctl audit": false,
	} {
		if got := runsOnce(strings.Fields(line)); got != want {
			t.Errorf("%s: %t", line, got)
		}
	}
}
