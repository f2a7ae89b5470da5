package wire

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

// Every status that is declared stands in the table once, with its texts.
func TestStatusTable(t *testing.T) {
	t.Parallel()
	file, err := goparser.ParseFile(token.NewFileSet(), "status.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []Status
	for _, d := range file.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		for _, s := range block.Specs {
			spec := s.(*ast.ValueSpec)
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Status" {
				text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				declared = append(declared, Status(text))
			}
		}
	}
	if got := Statuses(); !slices.Equal(got, declared) {
		t.Errorf("the table has\n%q, declared are\n%q", got, declared)
	}
	for _, s := range Statuses() {
		if s.Meaning() == "" {
			t.Errorf("%s has no meaning", s)
		}
		if needsHint := (Result{Status: s}).ExitStatus() >= 121 && s != StatusSignal && s != StatusCancelled; needsHint != (s.Hint() != "") {
			t.Errorf("%s: hint %q", s, s.Hint())
		}
	}
	if s := Status("fine"); s.Meaning() != "" || s.Hint() != "" || s.Retryable() {
		t.Error("an unknown status has texts")
	}
}

func TestRetryable(t *testing.T) {
	t.Parallel()
	for _, s := range Statuses() {
		want := s == StatusRateLimited || s == StatusAuditUnavailable
		if got := s.Retryable(); got != want {
			t.Errorf("%s: %t, want %t", s, got, want)
		}
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	code := func(n int) *int { return &n }
	tests := []struct {
		name   string
		result Result
		want   int
	}{
		{"ok", Result{Status: StatusOK, ExitCode: code(0)}, 0},
		{"error", Result{Status: StatusError, ExitCode: code(1)}, 1},
		{"denied", Result{Status: StatusDenied}, 121},
		{"rate limited", Result{Status: StatusRateLimited}, 122},
		{"memory", Result{Status: StatusMemoryLimit, SignalNumber: 9}, 123},
		{"processes", Result{Status: StatusProcessLimit}, 123},
		{"disk", Result{Status: StatusDiskLimit, ExitCode: code(0)}, 123},
		{"output", Result{Status: StatusOutputLimit, ExitCode: code(0)}, 123},
		{"timeout", Result{Status: StatusTimeout, SignalNumber: 9}, 124},
		{"idle", Result{Status: StatusIdleTimeout}, 124},
		{"processor time", Result{Status: StatusCPULimit}, 124},
		{"bad request", Result{Status: StatusBadRequest}, 125},
		{"configuration", Result{Status: StatusConfigError}, 125},
		{"launch", Result{Status: StatusLaunchFailed}, 125},
		{"audit", Result{Status: StatusAuditUnavailable}, 125},
		{"internal", Result{Status: StatusInternal}, 125},
		{"not executable", Result{Status: StatusPythonNotExecutable}, 126},
		{"not found", Result{Status: StatusPythonNotFound}, 127},

		{"sys.exit(7)", Result{Status: StatusExit, ExitCode: code(7)}, 7},
		{"exit code in our band", Result{Status: StatusExit, ExitCode: code(124)}, 124},
		{"sys.exit(-1)", Result{Status: StatusExit, ExitCode: code(-1)}, 255},
		{"sys.exit(257)", Result{Status: StatusExit, ExitCode: code(257)}, 1},
		{"exit without a code", Result{Status: StatusExit}, 1},

		{"signal by name", Result{Status: StatusSignal, Signal: "SIGSEGV"}, 139},
		{"signal by number", Result{Status: StatusSignal, SignalNumber: 34}, 162},
		{"the number wins", Result{Status: StatusSignal, Signal: "SIGSEGV", SignalNumber: 6}, 134},
		{"unknown signal", Result{Status: StatusSignal, Signal: "SIGRTMIN+3"}, 128},
		{"no signal", Result{Status: StatusSignal}, 128},
		{"interrupted", Result{Status: StatusCancelled, SignalNumber: 2}, 130},
		{"terminated", Result{Status: StatusCancelled, SignalNumber: 15}, 143},
		{"terminated, by name", Result{Status: StatusCancelled, Signal: "SIGTERM"}, 143},
		{"hung up", Result{Status: StatusCancelled, SignalNumber: 1}, 143},

		{"no status", Result{}, 125},
		{"unknown status", Result{Status: "fine"}, 125},
	}
	tested := map[Status]bool{}
	for _, tt := range tests {
		tested[tt.result.Status] = true
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.result.ExitStatus(); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
	for _, s := range Statuses() {
		if !tested[s] {
			t.Errorf("%s is not tested", s)
		}
	}
}
