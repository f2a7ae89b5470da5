package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"py3run/audit"
)

// hostileText has all that one of the formats gives a meaning, and what a terminal obeys.
const hostileText = "a|b=c\\d\ne\rf\x00g]h\"i[j k é 日本 \u202e\u2028\ufeff\x1b[31m %d <13>1 CEF:0|x cs1=y \t"

// filled sets every field of a record, as far as its kind allows: texts to one of these in turn.
func filled(v reflect.Value, texts func() string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(texts())
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(math.MaxUint32)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem(), texts)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			filled(v.Index(i), texts)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			filled(key, texts)
			filled(value, texts)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				filled(v.Field(i), texts)
			}
		}
	}
}

// everyRecord is a log with every kind of record: with nothing but the kind, with every field, with
// hostile texts everywhere, and with long ones.
func everyRecord(t *testing.T) *fixture {
	t.Helper()
	b := newFixture(t)
	n := 0
	texts := map[string]func() string{
		"usual":   func() string { n++; return fmt.Sprint("text", n) },
		"hostile": func() string { n++; return hostileText + strconv.Itoa(n) },
		"long":    func() string { n++; return fmt.Sprint(n) + strings.Repeat("é\\]=|", 40) },
	}
	clients := []string{"10.0.0.7", "2001:db8::1", "::ffff:10.0.0.7", "nowhere|=]", ""}
	for i, action := range append(slices.Clone(recordActions), "of-a-later-version") {
		for j, style := range []string{"", "usual", "hostile", "long"} {
			var rec audit.Record
			if style != "" {
				filled(reflect.ValueOf(&rec).Elem(), texts[style])
				rec.Code.SHA256 = strings.Repeat("ab", 32)
				rec.Client.IP = clients[(i+j)%len(clients)]
				if p := rec.Policy; strings.HasPrefix(action, "user-") {
					p.Changes = append([]string{"user carol: roles: + auditor"}, p.Changes...)
				}
				rec.Event.End = "2026-12-01T10:00:00.5Z"
				rec.Hooks = nil
			}
			rec.Host.Boot = map[string]string{"usual": fmt.Sprint("boot", n)}[style] // else the records look as if written after each other
			rec.Event.Action, rec.Event.Outcome = audit.Action(action), []audit.Outcome{audit.Success, audit.Failure, audit.Unknown, audit.Denied}[(i+j)%4]
			_, err := b.log.Append(rec)
			b.must(err)
		}
	}
	return b
}

// exported are the lines of an export.
func exported(t *testing.T, format string) (lines []string, count int) {
	t.Helper()
	b := everyRecord(t)
	b.must(b.export(selection{}, "json", ""))
	all, _ := b.said()
	b.must(b.export(selection{}, format, ""))
	out, errs := b.said()
	if errs != "" || !strings.HasSuffix(out, "\n") || !utf8.ValidString(out) {
		t.Errorf("%s: %q on stderr", format, errs)
	}
	lines = strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if n := strings.Count(all, "\n"); n != len(lines) {
		t.Fatalf("%d lines of %d records: a text breaks a line", len(lines), n)
	}
	for _, line := range lines {
		for _, r := range line {
			if !unicode.IsPrint(r) && !(r == '\ufeff' && format == "rfc5424") {
				t.Errorf("%s: %U in %q", format, r, line)
			}
		}
	}
	return lines, len(lines)
}

// Every action has a kind, and every activity is one of its class.
func TestEveryActionHasAKind(t *testing.T) {
	t.Parallel()
	for _, action := range recordActions {
		k, ok := kinds[audit.Action(action)]
		if !ok || k.title == "" || k.class.activities[k.activity] == "" || k.class == entityManagement && k.entity == "" || k.severity == 0 {
			t.Errorf("%s: %+v", action, k)
		}
	}
	if len(kinds) != len(recordActions) {
		t.Errorf("%d kinds of %d actions", len(kinds), len(recordActions))
	}
}

// Documents of ECS have only fields of the schema, with its types and values, and those of py3run's own.
func TestExportECS(t *testing.T) {
	t.Parallel()
	var facts struct {
		Fields map[string]struct {
			Type     string
			Required bool
			Array    bool
			Values   map[string][]string
		}
	}
	text, err := os.ReadFile("testdata/ecs-8.17-9.4.json")
	if err == nil {
		err = json.Unmarshal(text, &facts)
	}
	if err != nil {
		t.Fatal(err)
	}
	lines, _ := exported(t, "ecs")
	used := map[string]bool{}
	for _, line := range lines {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		var doc map[string]any
		if err := d.Decode(&doc); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		delete(doc, "py3run")
		var types, categories []any
		seen := map[string]bool{}
		var walk func(path string, v any)
		walk = func(path string, v any) {
			f, known := facts.Fields[path]
			inner, object := v.(map[string]any)
			switch {
			case known && f.Type == "object":
				for key, value := range inner {
					if _, text := value.(string); !text || strings.Contains(key, ".") {
						t.Errorf("%s.%s is %v", path, key, value)
					}
				}
				return
			case object:
				for key, value := range inner {
					walk(strings.TrimPrefix(path+"."+key, "."), value)
				}
				return
			case !known:
				t.Errorf("%s is no field of ECS", path)
				return
			}
			used[path], seen[path] = true, true
			values, array := v.([]any)
			if array && !f.Array && path != "user.group.name" { // Elasticsearch takes a list for any field
				t.Errorf("%s is a list", path)
			}
			if !array {
				if f.Array {
					t.Errorf("%s is no list", path)
				}
				values = []any{v}
			}
			for _, value := range values {
				if problem := ecsType(f.Type, value); problem != "" {
					t.Errorf("%s is %v: %s", path, value, problem)
				}
				if text, _ := value.(string); len(f.Values) > 0 && path != "event.type" && f.Values[text] == nil {
					t.Errorf("%s is %q", path, text)
				}
			}
			switch path {
			case "event.type":
				types = values
			case "event.category":
				categories = values
			}
		}
		walk("", doc)
		for name, f := range facts.Fields {
			if f.Required && !seen[name] {
				t.Errorf("no %s: %s", name, line)
			}
		}
		for _, is := range types {
			if !slices.ContainsFunc(categories, func(c any) bool {
				return slices.Contains(facts.Fields["event.category"].Values[c.(string)], is.(string))
			}) {
				t.Errorf("event.type %v is not expected of %v", is, categories)
			}
		}
	}
	for name := range facts.Fields {
		if !used[name] && name != "labels" && name != "tags" && name != "event.code" && name != "related.hosts" {
			t.Errorf("no document has %s", name)
		}
	}
}

func ecsType(kind string, value any) string {
	text, isText := value.(string)
	number, isNumber := value.(json.Number)
	switch kind {
	case "keyword", "wildcard", "match_only_text":
		if !isText {
			return "no text"
		}
	case "date":
		if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
			return "no date"
		}
	case "ip":
		if addr, err := netip.ParseAddr(text); err != nil || addr.Zone() != "" {
			return "no address"
		}
	case "long":
		if _, err := strconv.ParseInt(string(number), 10, 64); !isNumber || err != nil {
			return "no long"
		}
	default:
		return "a type that the test does not know: " + kind
	}
	return ""
}

// Events of OCSF are as the published classes have them.
func TestExportOCSF(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/ocsf-1.6.0.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("ocsf", schema); err != nil {
		t.Fatal(err)
	}
	check := compiler.MustCompile("ocsf")
	classes := map[any]bool{}
	lines, _ := exported(t, "ocsf")
	for _, line := range lines {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = check.Validate(value)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, line)
			continue
		}
		doc := value.(map[string]any)
		classes[fmt.Sprint(doc["class_name"])] = true
		class, _ := doc["class_uid"].(json.Number).Int64()
		activity, _ := doc["activity_id"].(json.Number).Int64()
		if kind, _ := doc["type_uid"].(json.Number).Int64(); kind != class*100+activity {
			t.Errorf("type_uid %d of class %d, activity %d", kind, class, activity)
		}
		if v := doc["metadata"].(map[string]any)["version"]; v != "1.6.0" {
			t.Errorf("version %v", v)
		}
	}
	if len(classes) != 5 {
		t.Errorf("classes %v", classes)
	}
}

// An export in these formats goes on by its cursor, and has every record once.
func TestExportFormatsGoOn(t *testing.T) {
	t.Parallel()
	for _, format := range exportFormats[2:] {
		b := newFixture(t)
		b.run("alice", "ok", nil)
		cursor, file := filepath.Join(t.TempDir(), "c.json"), filepath.Join(t.TempDir(), "out")
		for range 2 {
			b.must(b.exportAll(exporting{format: format, cursor: cursor, output: file}))
		}
		b.run("bob", "ok", nil)
		b.must(b.exportAll(exporting{format: format, cursor: cursor, output: file}))
		text, err := os.ReadFile(file)
		b.must(err)
		if n := strings.Count(string(text), "\n"); n != 4 || strings.Count(string(text), "bob") < 2 {
			t.Errorf("%s: %d lines: %s", format, n, text)
		}
	}
}
