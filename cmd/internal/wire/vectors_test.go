package wire

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A vector is one request of testdata/wire with the outcome it must have. Other implementations may read them too, so what
// they say of an outcome is plain text; a line that nobody knows is a fault of the vector.
type vector struct {
	name    string
	request []byte

	ok            bool
	field         string // of a bad request
	command       string
	id            string
	warnings      []string // one for each warning, which must contain it
	message, hint string   // must be contained
	shape         bool     // request.json refuses it too
}

func vectors(t testing.TB) []vector {
	t.Helper()
	files, err := filepath.Glob("../../../testdata/wire/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	var list []vector
	for _, file := range files {
		archive, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		area := strings.TrimSuffix(filepath.Base(file), ".txtar")
		parts := unpack(archive)
		for i := 0; i < len(parts); i += 2 {
			name, isRequest := strings.CutSuffix(parts[i].name, ".json")
			if !isRequest || i+1 == len(parts) || parts[i+1].name != name+".want" {
				t.Fatalf("%s: %s has no outcome beside it", file, parts[i].name)
			}
			v := vector{name: area + "/" + name, request: parts[i].data}
			v.parseWant(t, string(parts[i+1].data))
			list = append(list, v)
		}
	}
	return list
}

// A part is one file of a txtar archive.
type part struct {
	name string
	data []byte
}

// unpack splits a txtar archive at its lines of the form -- name --.
func unpack(archive []byte) []part {
	var parts []part
	for line := range bytes.Lines(archive) {
		name, isMark := strings.CutPrefix(string(line), "-- ")
		if name, ends := strings.CutSuffix(name, " --\n"); isMark && ends {
			parts = append(parts, part{name: name})
		} else if last := len(parts) - 1; last >= 0 {
			parts[last].data = append(parts[last].data, line...)
		}
	}
	return parts
}

func (v *vector) parseWant(t testing.TB, want string) {
	t.Helper()
	first, rest, _ := strings.Cut(strings.TrimSuffix(want, "\n"), "\n")
	outcome, field, _ := strings.Cut(first, " ")
	if outcome != "ok" && outcome != "bad_request" {
		t.Fatalf("%s: outcome %q", v.name, outcome)
	}
	v.ok, v.field = outcome == "ok", field
	for line := range strings.Lines(rest) {
		key, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case key == "command":
			v.command = text
		case key == "id":
			v.id = text
		case key == "warning":
			v.warnings = append(v.warnings, text)
		case key == "message":
			v.message = text
		case key == "hint":
			v.hint = text
		case key == "schema" && text == "refuses":
			v.shape = true
		default:
			t.Fatalf("%s: unknown line %q", v.name, line)
		}
	}
}
