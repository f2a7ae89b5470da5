package web

import "testing"

// Code looks on a page as Python reads it: no mark turns the direction of a line, hides a character or
// ends a line early.
func TestCodeIsVisible(t *testing.T) {
	t.Parallel()
	code := "if x:\t# é \u202e} \u2066\r\x1b[31m\u200b\n\xff\u2028\"\\n\n"
	want := []string{"if x:\t# é \\u202e} \\u2066\\r\\x1b[31m\\u200b", "\\xff\\u2028\"\\n"}
	lines := viewOf([]byte(code), nil).Lines
	if len(lines) != len(want) {
		t.Fatalf("%+v", lines)
	}
	for i, line := range lines {
		if line.Text != want[i] {
			t.Errorf("line %d: %q, want %q", i+1, line.Text, want[i])
		}
	}
}
