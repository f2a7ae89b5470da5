package python

import (
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// Cases like those of testdata/python whose texts are too long for a file, or are not UTF-8.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	digits := "1" + strings.Repeat("0", 5000)
	long, wide := strings.Repeat("y", 290), strings.Repeat("ä", 996)
	value := func(kind, text string, warnings ...string) wantFile {
		return wantFile{Kind: "value", Type: &kind, Text: &text, Warnings: warnings}
	}
	anyValue := wantFile{Kind: "value"}
	seen := func(e wire.Events) wantFile {
		return wantFile{Kind: "value", Hooks: &e, Ignore: []string{"flagged_imports"}}
	}
	failure := wantFile{Kind: "error", Exit: 1, Type: new("ValueError"), Error: new("ValueError: " + strings.Repeat("x", 4096-len("ValueError: "))), Line: new(1), Column: new(0)}
	completions := jobFile{Command: wire.CommandGetCompletions, Line: 1, Column: 1<<20 + 11}

	tests := []struct {
		name, code string
		job        jobFile
		want       wantFile
		text       string // the value, or the traceback of an error
	}{
		{"five thousand digits", "result = 10**5000", jobFile{}, value("int", digits), `"` + digits + `"`},
		{"five thousand digits, no limit", "import sys\nif hasattr(sys, 'set_int_max_str_digits'): sys.set_int_max_str_digits(0)\nresult = 10**5000", jobFile{}, value("int", digits), `"` + digits + `"`},
		{"five thousand digits in a list", "result = [-10**5000]", jobFile{}, value("list", "", "inexact_value result[0]: an integer of 5001 digits, as text"), `["-` + digits + `"]`},
		{"five thousand digits, tagged", "result = 10**5000", jobFile{ResultFormat: "tagged"}, anyValue, `{"$int":"` + digits + `"}`},
		{"a long name in a warning", "result = {'k' * 100000: {1, 1.5}, 'b': 1}", jobFile{}, value("dict", ""), `{"` + strings.Repeat("k", 100000) + `":[1,1.5],"b":1}`},
		{"a very long message", "raise ValueError('x' * 3000000)", jobFile{}, failure, "*xxx\n"},
		{"completions of a long line", "x = '" + strings.Repeat("beef", 1<<18) + "'; pri", completions, anyValue, `*"text":"print"*`},
		{"arguments that are no UTF-8", "import sys, os\nresult = [os.fsencode(a).hex() for a in sys.argv[1:]]", jobFile{Argv: []string{"a\xff", "\xed\xa0\x80"}}, anyValue, `["61ff","eda080"]`},
		{"a file's coding", "# -*- coding: latin-1 -*-\nresult = '\xe9'", jobFile{Bytes: true}, anyValue, `"\u00e9"`},
		{"more than an event has room for", "import subprocess\nsubprocess.run(['/bin/true', *['" + long + "'] * 16])", jobFile{},
			seen(wire.Events{Processes: []wire.Process{{Program: "/bin/true", Args: repeated(long, 13), Via: "python", Count: 1, ArgsDropped: 3}}}), "null"},
		{"an event with a long name", "import sys\nsys.audit('os.remove', '/' + 'ä' * 3000, -1)", jobFile{}, seen(wire.Events{FilesDeleted: []string{"/" + wide + "…"}}), "null"},
	}
	list := needPython(t)
	hosts := newHosts(t)
	for _, tt := range tests {
		c := &pythonCase{name: tt.name, code: &tt.code, job: tt.job, want: tt.want, texts: map[string]string{"value": tt.text}}
		if tt.want.Kind == "error" {
			c.texts = map[string]string{"traceback": tt.text}
		}
		c.run(t, list, hosts, "")
	}
}

func repeated(s string, n int) (list []string) {
	for range n {
		list = append(list, s)
	}
	return list
}
