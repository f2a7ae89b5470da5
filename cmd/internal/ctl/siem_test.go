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
	"regexp"
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

// A cefEvent is what a parser by the grammar makes of a line.
type cefEvent struct {
	header []string // seven fields
	keys   map[string]string
}

// parseCEF reads a line strictly: an escape is one that the standard knows, and whatever needs one has it.
func parseCEF(line string) (e cefEvent, err error) {
	rest, ok := strings.CutPrefix(line, "CEF:")
	if !ok {
		return e, fmt.Errorf("no CEF: at the beginning")
	}
	field := ""
	for len(e.header) < 7 {
		switch {
		case rest == "":
			return e, fmt.Errorf("%d fields of the header", len(e.header))
		case strings.HasPrefix(rest, `\\`), strings.HasPrefix(rest, `\|`):
			field, rest = field+rest[1:2], rest[2:]
		case rest[0] == '\\':
			return e, fmt.Errorf("escape %.2q in the header", rest)
		case rest[0] == '|':
			e.header, field, rest = append(e.header, field), "", rest[1:]
		default:
			field, rest = field+rest[:1], rest[1:]
		}
	}
	e.keys = map[string]string{}
	name := regexp.MustCompile(`^([A-Za-z0-9]+)=`)
	for first := true; rest != ""; first = false {
		if !first {
			if rest[0] != ' ' {
				return e, fmt.Errorf("no blank before %.10q", rest)
			}
			rest = rest[1:]
		}
		m := name.FindStringSubmatch(rest)
		if m == nil {
			return e, fmt.Errorf("no key at %.20q", rest)
		}
		rest = rest[len(m[0]):]
		value := ""
		for rest != "" && !(rest[0] == ' ' && name.MatchString(rest[1:])) {
			switch {
			case rest[0] == '=':
				return e, fmt.Errorf("an equals sign in the value of %s", m[1])
			case rest[0] != '\\':
				value, rest = value+rest[:1], rest[1:]
				continue
			case len(rest) < 2:
				return e, fmt.Errorf("a lone backslash in the value of %s", m[1])
			}
			char, known := map[byte]string{'\\': `\`, '=': "=", 'n': "\n", 'r': "\r"}[rest[1]]
			if !known {
				return e, fmt.Errorf("escape %.2q in the value of %s", rest, m[1])
			}
			value, rest = value+char, rest[2:]
		}
		if _, twice := e.keys[m[1]]; twice {
			return e, fmt.Errorf("%s twice", m[1])
		}
		if value == "" || strings.Trim(value, " ") != value {
			return e, fmt.Errorf("%s has the value %q", m[1], value)
		}
		e.keys[m[1]] = value
	}
	return e, nil
}

func TestExportCEF(t *testing.T) {
	t.Parallel()
	var facts struct {
		Header map[string]int
		Keys   map[string]struct {
			Type   string
			Length int
		}
	}
	text, err := os.ReadFile("testdata/cef-0.1.json")
	if err == nil {
		err = json.Unmarshal(text, &facts)
	}
	if err != nil {
		t.Fatal(err)
	}
	lines, _ := exported(t, "cef")
	used := map[string]bool{}
	hostile := 0
	for _, line := range lines {
		e, err := parseCEF(line)
		if err != nil {
			t.Errorf("%v: %s", err, line)
			continue
		}
		if e.header[0] != "0" || e.header[1] != "py3run" {
			t.Errorf("%q", e.header)
		}
		for i, name := range []string{"", "vendor", "product", "version", "class", "name"} {
			if n := len(e.header[i]); name != "" && (n == 0 || n > facts.Header[name]) {
				t.Errorf("%s has %d bytes", name, n)
			}
		}
		if severity, err := strconv.Atoi(e.header[6]); err != nil || severity < 0 || severity > 10 {
			t.Errorf("severity %q", e.header[6])
		}
		for key, value := range e.keys {
			used[key] = true
			f, known := facts.Keys[key]
			_, number := strconv.ParseInt(value, 10, 64)
			addr, address := netip.ParseAddr(value)
			switch {
			case !known:
				t.Errorf("%s is no key", key)
			case f.Type == "string" && len(value) > f.Length:
				t.Errorf("%s has %d bytes", key, len(value))
			case (f.Type == "long" || f.Type == "timestamp") && number != nil, f.Type == "ipv4" && (address != nil || !addr.Is4()), f.Type == "ipv6" && (address != nil || !addr.Is6()):
				t.Errorf("%s is %q, want %s", key, value, f.Type)
			}
			if label := strings.TrimSuffix(key, "Label"); label != key && e.keys[label] == "" || label == key && facts.Keys[key+"Label"].Type != "" && e.keys[key+"Label"] == "" {
				t.Errorf("%s without its other half", key)
			}
		}
		if strings.HasPrefix(e.keys["suser"], "a|b=c\\d\ne\\rf\\x00g]h\"i[j k é 日本 \\u202e") {
			hostile++
		}
	}
	if hostile != len(recordActions)+1 {
		t.Errorf("%d hostile names came through", hostile)
	}
	for key := range facts.Keys {
		if !used[key] {
			t.Errorf("no event has %s", key)
		}
	}
}

// A syslogMessage is what a parser by the grammar of RFC 5424, section 6, makes of a line.
type syslogMessage struct {
	priority                      int
	at, host, app, proc, id, text string
	data                          map[string]map[string]string
}

var syslogHeader = regexp.MustCompile(`^<(0|[1-9][0-9]{0,2})>1 (-|\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) `)

func parseSyslog(line string) (m syslogMessage, err error) {
	h := syslogHeader.FindStringSubmatch(line)
	if h == nil {
		return m, fmt.Errorf("the header is not as it should be")
	}
	m.priority, _ = strconv.Atoi(h[1])
	m.at, m.host, m.app, m.proc, m.id = h[2], h[3], h[4], h[5], h[6]
	if m.priority > 191 {
		return m, fmt.Errorf("priority %d", m.priority)
	}
	rest := line[len(h[0]):]
	m.data = map[string]map[string]string{}
	name := regexp.MustCompile(`^[!#-<>-\\^-~]{1,32}`) // printable without " = ]
	if rest, ok := strings.CutPrefix(rest, "- "); ok {
		m.text = rest
		return m, nil
	}
	for strings.HasPrefix(rest, "[") {
		id := name.FindString(rest[1:])
		if id == "" || m.data[id] != nil {
			return m, fmt.Errorf("an element without a name of its own: %.20q", rest)
		}
		m.data[id], rest = map[string]string{}, rest[1+len(id):]
		for !strings.HasPrefix(rest, "]") {
			param := ""
			if strings.HasPrefix(rest, " ") {
				param = name.FindString(rest[1:])
			}
			if param == "" || !strings.HasPrefix(rest[1+len(param):], `="`) {
				return m, fmt.Errorf("no parameter at %.20q", rest)
			}
			rest = rest[len(param)+3:]
			value := ""
			for !strings.HasPrefix(rest, `"`) {
				switch {
				case rest == "":
					return m, fmt.Errorf("the value of %s does not end", param)
				case rest[0] == ']':
					return m, fmt.Errorf("a bracket in the value of %s", param)
				case rest[0] == '\\' && len(rest) > 1 && strings.IndexByte(`"\]`, rest[1]) >= 0:
					value, rest = value+rest[1:2], rest[2:]
				case rest[0] == '\\':
					return m, fmt.Errorf("escape %.2q", rest)
				default:
					value, rest = value+rest[:1], rest[1:]
				}
			}
			m.data[id][param], rest = value, rest[1:]
		}
		rest = rest[1:]
	}
	var ok bool
	if m.text, ok = strings.CutPrefix(rest, " "); !ok && rest != "" {
		return m, fmt.Errorf("no blank before the text: %.20q", rest)
	}
	return m, nil
}

func TestExportSyslog(t *testing.T) {
	t.Parallel()
	lines, _ := exported(t, "rfc5424")
	marks, long := 0, 0
	for i, line := range lines {
		m, err := parseSyslog(line)
		if err != nil {
			t.Errorf("%v: %s", err, line)
			continue
		}
		if len(line) > 2048 || len(line) < 200 {
			t.Errorf("%d bytes", len(line))
		}
		if m.priority/8 != 13 || m.priority%8 < 3 || m.priority%8 > 6 || m.app != "py3run" {
			t.Errorf("%+v", m)
		}
		text, marked := strings.CutPrefix(m.text, "\ufeff")
		ascii := strings.IndexFunc(text, func(r rune) bool { return r > '~' }) < 0
		if !marked && !ascii || strings.Contains(text, "\ufeff") || text == "" {
			t.Errorf("mark %v of %q", marked, text)
		}
		if marked {
			marks++
		}
		if strings.HasSuffix(text, "…") {
			long++
		}
		data := m.data[syslogID]
		if data["seq"] != strconv.Itoa(i+1) || m.data["meta"]["sequenceId"] != data["seq"] || len(data["hash"]) != 64 || m.data["origin"]["software"] != "py3run" {
			t.Errorf("%v", m.data)
		}
		for id := range m.data {
			if id != "meta" && id != "origin" && !regexp.MustCompile(`^[^@]+@\d+$`).MatchString(id) {
				t.Errorf("%s is not registered, and has no number", id)
			}
		}
	}
	if marks == 0 || marks == len(lines) || long == 0 {
		t.Errorf("%d marks, %d cut, in %d lines", marks, long, len(lines))
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
