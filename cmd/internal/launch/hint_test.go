package launch

import (
	"strings"
	"testing"

	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
)

func TestHint(t *testing.T) {
	t.Parallel()
	ip := python.Interpreter{Version: "3.11.2", Path: "/opt/p/bin/python3"}
	for _, tt := range []struct {
		kind, message string
		ownDir        bool
		want          string // empty: no hint
	}{
		{"ModuleNotFoundError", "ModuleNotFoundError: No module named 'pandas'", true, "Python 3.11.2 at /opt/p/bin/python3"},
		{"ModuleNotFoundError", "ModuleNotFoundError: No module named 'pandas'", false, "python.interpreter"},
		{"FileNotFoundError", "FileNotFoundError: [Errno 2] No such file or directory: 'readings.csv'", true, "absolute"},
		{"FileNotFoundError", "FileNotFoundError: [Errno 2] No such file or directory: 'readings.csv'", false, ""},
		{"FileNotFoundError", "FileNotFoundError: [Errno 2] No such file or directory: '/data/readings.csv'", true, ""},
		{"FileNotFoundError", "FileNotFoundError", true, ""},
		{"ValueError", "ValueError: x: 'y'", true, ""},
	} {
		got := hint(wire.Failure{Type: tt.kind, Message: tt.message}, ip, tt.ownDir)
		if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s %t: %q", tt.message, tt.ownDir, got)
		}
	}
}
