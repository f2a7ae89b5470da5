package ctl

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

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
