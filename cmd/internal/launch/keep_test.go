package launch

import (
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// A keptRequest is one of a series that goes to one keeper.
type keptRequest struct {
	user    string
	code    string
	change  func(*Job)
	status  wire.Status // empty: ok
	result  string      // JSON
	stdout  string
	warning string // code of a warning that it has; all others are errors
}

func TestKeeper(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		requests []keptRequest
	}{
		{"globals and modules stay", []keptRequest{
			{code: "import json\nx = 41\ndef f():\n    return x + 1"},
			{code: "result = f()", result: "42"},
			{code: "print(json.dumps([x]))", result: `"[41]\n"`, stdout: "[41]\n"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			k := NewKeeper()
			for i, q := range tt.requests {
				job := testJob(t, root, q.code)
				job.Request.User = q.user
				if q.change != nil {
					q.change(&job)
				}
				answer := k.Run(job)
				r := answer.Result
				if err := answer.Sweep(); err != nil {
					t.Error(err)
				}
				want := q.status
				if want == "" {
					want = wire.StatusOK
				}
				if r.Status != want {
					t.Fatalf("request %d: %s, want %s: %+v\n%s\n%+v", i, r.Status, want, r.Failure, r.Traceback, r.Captured)
				}
				if q.result != "" && string(r.Result) != q.result {
					t.Errorf("request %d: result %s, want %s", i, r.Result, q.result)
				}
				if r.Captured != nil && r.Captured.Stdout != q.stdout {
					t.Errorf("request %d: stdout %q, want %q", i, r.Captured.Stdout, q.stdout)
				}
				found := q.warning == ""
				for _, w := range r.Warnings {
					if w.Code == q.warning {
						found = true
					} else if w.Code != "absent_path" {
						t.Errorf("request %d: warning %v", i, w)
					}
				}
				if !found {
					t.Errorf("request %d: no warning %s", i, q.warning)
				}
			}
			for _, err := range k.Close() {
				t.Error(err)
			}
			if names := left(root); len(names) > 0 {
				t.Errorf("left behind: %s", strings.Join(names, " "))
			}
		})
	}
}
