package startup

import (
	"strings"
	"testing"
)

func TestServes(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"py3run bridge": true, "py3run bridge --state keep": true, "python3-bridge": true, "/opt/x/python3-bridge -u x.py": true,
		"": false, "py3run": false, "py3run exec": false, "py3run run bridge": false, "python3 bridge.py": false,
	} {
		if got := serves(strings.Fields(line)); got != want {
			t.Errorf("%s: %t", line, got)
		}
	}
}

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
