// Package tomledit changes TOML files as text, so that comments and the order of what stands there stay:
//
//	Lock the directory ─► read ─► Set and Remove in the text ─► the caller parses that ─► Write
//
// It knows where statements begin and end, and not what they mean. Whoever uses it parses the text before
// and after with a decoder, and compares: some ways to write a file leave no place for a change.
package tomledit

import (
	"strings"

	"github.com/BurntSushi/toml"
)

// A Statement is one statement of a TOML text: the header of a table, or a key with its value. What
// stands between two statements are comments and empty lines.
type Statement struct {
	Header     bool
	Path       []string // with a header's path in front
	Start, End int      // bytes of the text: whole lines
	Line       int      // of Start, from 1
	Value      [2]int   // bytes of the value, without comments around it; of no header
}

// Statements splits a text that a TOML decoder has accepted. It is linear in the length of the text,
// and for other texts it returns something, too.
func Statements(text string) (list []Statement) {
	var table []string
	for at, line := 0, 1; at < len(text); {
		start, first := at, line
		for at < len(text) && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r') {
			at++
		}
		if at == len(text) || text[at] == '\n' || text[at] == '#' {
			at, line = nextLine(text, at), line+1
			continue
		}
		s := Statement{Start: start, Line: first}
		key := at
		if text[at] == '[' {
			s.Header = true
			key += len(text[at:]) - len(strings.TrimLeft(text[at:], "["))
		}
		end := endOfKey(text, key)
		name := SplitKey(text[key:end])
		if s.Header {
			table, s.Path = name, name
			at = nextLine(text, end)
			line++
		} else {
			s.Path = append(table[:len(table):len(table)], name...)
			s.Value = valueAt(text, end)
			at = nextLine(text, s.Value[1])
			line += strings.Count(text[start:at], "\n")
			if at == len(text) && !strings.HasSuffix(text, "\n") {
				line++
			}
		}
		s.End = at
		list = append(list, s)
	}
	return list
}

func nextLine(text string, at int) int {
	if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
		return at + n + 1
	}
	return len(text)
}

// endOfKey is where a dotted key ends that begins at this place: before = or ].
func endOfKey(text string, at int) int {
	for at < len(text) {
		switch text[at] {
		case '=', ']', '\n':
			return at
		case '"', '\'':
			at = endOfString(text, at)
		default:
			at++
		}
	}
	return at
}

// SplitKey splits a dotted key into its names.
func SplitKey(key string) (names []string) {
	for at, from := 0, 0; ; {
		if at < len(key) && (key[at] == '"' || key[at] == '\'') {
			at = endOfString(key, at)
			continue
		}
		if at < len(key) && key[at] != '.' {
			at++
			continue
		}
		names = append(names, unquote(strings.TrimSpace(key[from:at])))
		if at >= len(key) {
			return names
		}
		at++
		from = at
	}
}

func unquote(name string) string {
	if !strings.HasPrefix(name, `"`) && !strings.HasPrefix(name, "'") {
		return name
	}
	var v struct{ V string }
	if _, err := toml.Decode("V = "+name, &v); err != nil {
		return name
	}
	return v.V
}

// endOfString is behind the string that begins at this place.
func endOfString(text string, at int) int {
	quote := text[at : at+1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(text[at:], long) {
		for at += 3; at < len(text); at++ {
			if text[at] == '\\' && quote == `"` {
				at++
				continue
			}
			if strings.HasPrefix(text[at:], long) {
				at += 3
				for n := 0; n < 2 && at < len(text) && text[at:at+1] == quote; n++ { // up to two more quotes belong to the text
					at++
				}
				return at
			}
		}
		return len(text)
	}
	for at++; at < len(text) && text[at] != '\n'; at++ {
		if text[at] == '\\' && quote == `"` {
			at++
			continue
		}
		if text[at:at+1] == quote {
			return at + 1
		}
	}
	return min(at, len(text))
}

// valueAt is where the value is whose = stands at this place.
func valueAt(text string, at int) (value [2]int) {
	for at++; at < len(text) && (text[at] == ' ' || text[at] == '\t'); at++ {
	}
	at = min(at, len(text))
	value = [2]int{at, at}
	for open := 0; at < len(text); {
		switch text[at] {
		case '"', '\'':
			at = endOfString(text, at)
			value[1] = at
			continue
		case '[', '{':
			open++
		case ']', '}':
			open--
		case '#':
			if open <= 0 {
				return value
			}
			at = nextLine(text, at)
			continue
		case '\n':
			if open <= 0 {
				return value
			}
		}
		at++
		if c := text[at-1]; c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			value[1] = at
		}
	}
	return value
}

// LineOf returns the line of a key, or of the nearest table around it; 0: it is not in the text.
func LineOf(list []Statement, path []string) int {
	for n := len(path); n > 0; n-- {
		for _, s := range list {
			if begins(s.Path, path[:n]) {
				return s.Line
			}
		}
	}
	return 0
}

func begins(path, with []string) bool {
	if len(path) < len(with) {
		return false
	}
	for i := range with {
		if path[i] != with[i] {
			return false
		}
	}
	return true
}
