package ctl

import (
	"os/exec"
	"strings"
	"testing"
)

// The manual page has every command, in macros that man(1) takes.
func TestMan(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out, _ := h.mustCall("man")
	for _, want := range []string{".TH PY3RUNCTL 1 ", ".SH OPTIONS", `.SS "audit hold add \-\-comment TEXT"`, `.SS "script diff`, ".SH EXIT STATUS", "\\-\\-tz"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s", want)
		}
	}
	if mandoc, err := exec.LookPath("mandoc"); err == nil {
		c := exec.Command(mandoc, "-T", "lint", "-W", "error")
		c.Stdin = strings.NewReader(out)
		if said, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, said)
		}
	}
}
