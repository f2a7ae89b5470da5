package tomledit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The statements of a text are its lines, and each key stands in one of them.
func TestStatements(t *testing.T) {
	t.Parallel()
	text := "# first\nversion = 1\n\n [ user . \"a.b\" ] # c\n\troles = [\n\"x]\", # ]\n] # d\n'full-name'=\"\"\"\nx = 3\n\"\"\"\nlimits.\"a\\u0062\" = {a = '}', b=[1]} # e"
	var got []string
	for _, s := range Statements(text) {
		value := text[s.Value[0]:s.Value[1]]
		got = append(got, fmt.Sprintf("%d %v %q %q", s.Line, s.Header, s.Path, value))
	}
	want := []string{`2 false ["version"] "1"`, `4 true ["user" "a.b"] ""`, `5 false ["user" "a.b" "roles"] "[\n\"x]\", # ]\n]"`,
		`8 false ["user" "a.b" "full-name"] "\"\"\"\nx = 3\n\"\"\""`, `11 false ["user" "a.b" "limits" "ab"] "{a = '}', b=[1]}"`}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
