package wire

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
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
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		area := strings.TrimSuffix(filepath.Base(file), ".txtar")
		parts := archive.Files
		for i := 0; i < len(parts); i += 2 {
			name, isRequest := strings.CutSuffix(parts[i].Name, ".json")
			if !isRequest || i+1 == len(parts) || parts[i+1].Name != name+".want" {
				t.Fatalf("%s: %s has no outcome beside it", file, parts[i].Name)
			}
			v := vector{name: area + "/" + name, request: parts[i].Data}
			v.parseWant(t, string(parts[i+1].Data))
			list = append(list, v)
		}
	}
	return list
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
