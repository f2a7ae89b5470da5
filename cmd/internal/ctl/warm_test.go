package ctl

import (
	"bytes"
	"strings"
	"testing"
)

// TestWarmStop tells of templates that there are none of.
func TestWarmStop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		told string
	}{
		{[]string{"warm", "stop"}, 0, ""},
		{[]string{"warm", "stop", "0123", "../0123"}, exitFailed, "stop template 0123: there is none of this name"},
		{[]string{"warm", "status"}, 0, ""},
		{[]string{"warm", "status", "--format", "text"}, 0, "no templates"},
		{[]string{"warm", "status", "--format", "table"}, exitUsage, "want text or json"},
	} {
		var out, err bytes.Buffer
		a := &app{out: &out, err: &err, environ: []string{"XDG_RUNTIME_DIR=" + t.TempDir()}}
		if code := a.main(c.args); code != c.code || out.Len() > 0 || !strings.Contains(err.String(), c.told) || c.told == "" && err.Len() > 0 {
			t.Errorf("%v: exit code %d, %q, %q", c.args, code, out.String(), err.String())
		}
	}
}
