package wire

import (
	"reflect"
	"strings"
	"testing"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	nested := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	tests := []struct {
		name, raw string
		want      Findings
		message   string
	}{
		{"depth 512", nested(512), Findings{}, ""},
		{"depth 513", nested(513), Findings{}, "nested deeper than 512"},
		{"empty", "", Findings{}, "the result is empty"},
		{"a path", `[0, {"x": 10000000000000000}]`, Findings{BigIntegers: []string{"result[1].x"}, BigIntegerCount: 1}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Inspect([]byte(tt.raw))
			if tt.message != "" {
				if err == nil || !strings.Contains(err.Error(), tt.message) {
					t.Errorf("%v, want %q", err, tt.message)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	if v, err := Parse([]byte("[[1]]"), 2); err != nil || !reflect.DeepEqual(v, []any{[]any{Number("1")}}) {
		t.Errorf("%v, %v", v, err)
	}
	for text, want := range map[string]string{"[[[]]]": "invalid JSON at byte 2, in [0][0]: nested deeper than 2", " ": "invalid JSON at byte 0: the request is empty"} {
		if _, err := Parse([]byte(text), 2); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
