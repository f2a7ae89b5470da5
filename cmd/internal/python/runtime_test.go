package python

import (
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// No traceback shows a frame of the runtime, whichever of its modules the exception passes through.
func TestTracebackWithoutRuntime(t *testing.T) {
	t.Parallel()
	variables := code("1/0")
	variables.Variables = &wire.Object{Names: []string{"a"}, Values: []any{"b"}}
	last := code("def f():\n    raise KeyError(1)\ntry:\n    f()\nexcept KeyError as e:\n    raise ValueError from e")
	last.ResultFrom = "last_expression"
	tests := []struct {
		name string
		job  Job
		want string
	}{
		{"a statement", code("1/0"), "ZeroDivisionError"},
		{"with variables", variables, "ZeroDivisionError"},
		{"syntax", code("x = ("), "SyntaxError"},
		{"an import", code("import nowhere"), "ModuleNotFoundError"},
		{"a chain, for the last expression", last, "ValueError"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				r := try(t, ip, tt.job).reply
				if r.Type != tt.want || strings.Contains(r.Traceback, "<py3run") || !strings.Contains(r.Traceback, tt.want) {
					t.Errorf("%s\n%s\nwant %s, and nothing of <py3run", r.Type, r.Traceback, tt.want)
				}
			})
		}
	})
}
