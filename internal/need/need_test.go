package need

import (
	"errors"
	"testing"
)

// A recorder is a test that only notes how it ended.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.ended = "failed" }
func (r *recorder) Skipf(string, ...any) {
	if r.ended == "" { // a real Fatalf does not come back
		r.ended = "skipped"
	}
}

func TestThat(t *testing.T) {
	t.Setenv("PY3RUN_TEST_REQUIRE", "root,python")
	missing := errors.New("not here")
	tests := []struct {
		name, what string
		err        error
		want       string
	}{
		{"there", "python", nil, ""},
		{"listed and not there", "python", missing, "failed"},
		{"not listed and not there", "userns", missing, "skipped"},
		{"part of a listed word", "roo", missing, "skipped"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{TB: t}
			if That(r, tt.what, tt.err); r.ended != tt.want {
				t.Errorf("%q, want %q", r.ended, tt.want)
			}
		})
	}
}
