package access

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A policy is read at the start of each run, and the TOML decoder takes two milliseconds for one with
// fifty users. What py3runctl writes, and people mostly write, is simple: a statement a line, bare
// keys, texts without escapes. quick reads that alone, ten times as fast. Everything else it leaves to
// the decoder: other forms, and every mistake. FuzzQuick holds it to what the decoder says.

// quick decodes a simple text as toml.Decode does; ok tells whether it is one.
func quick(text string) (tree map[string]any, ok bool) {
	tree = map[string]any{}
	q := quickReading{headers: map[string]bool{}, dotted: map[string]bool{}}
	table := tree
	for len(text) > 0 {
		line := text
		if n := strings.IndexByte(text, '\n'); n >= 0 {
			line, text = text[:n], text[n+1:]
		} else {
			text = ""
		}
		line = strings.TrimLeft(line, " \t")
		switch {
		case line == "" || line[0] == '#':
			if !isQuickRest(line) {
				return nil, false
			}
		case line[0] == '[':
			name, rest, found := strings.Cut(line[1:], "]")
			if !found || !isQuickRest(rest) || !isBare(name) || q.headers[name] {
				return nil, false
			}
			q.headers[name], q.table = true, name
			if table = q.below(tree, name, ""); table == nil {
				return nil, false
			}
		default:
			key, rest, found := strings.Cut(line, "=")
			key = strings.TrimRight(key, " \t")
			if !found || !isBare(key) {
				return nil, false
			}
			v, rest, good := quickValue(strings.TrimLeft(rest, " \t"))
			if !good || !isQuickRest(rest) {
				return nil, false
			}
			within, name := table, key
			if n := strings.LastIndexByte(key, '.'); n >= 0 {
				if within = q.below(table, key[:n], q.table+"|"); within == nil {
					return nil, false
				}
				name = key[n+1:]
			}
			if _, twice := within[name]; twice {
				return nil, false
			}
			within[name] = v
		}
	}
	return tree, true
}

// A quickReading remembers which tables have been made in which way.
type quickReading struct {
	table   string          // the newest header
	headers map[string]bool // tables that have one
	dotted  map[string]bool // tables that dotted keys have made: TOML lets no header add to them
}

// below returns the table of a path, made if it is not there; nil: what is there cannot be added to.
// keys is what stands before the path of dotted keys, and empty for headers.
func (q *quickReading) below(table map[string]any, path, keys string) map[string]any {
	for at := 0; at <= len(path); {
		end := len(path)
		if n := strings.IndexByte(path[at:], '.'); n >= 0 {
			end = at + n
		}
		name := path[at:end]
		next, there := table[name]
		if !there {
			made := map[string]any{}
			table[name], table = made, made
			if keys != "" {
				q.dotted[keys+path[:end]] = true
			}
		} else {
			below, isTable := next.(map[string]any)
			if !isTable || keys != "" && !q.dotted[keys+path[:end]] {
				return nil
			}
			if keys == "" && q.isDotted(path[:end]) {
				return nil
			}
			table = below
		}
		at = end + 1
	}
	return table
}

// isDotted reports whether dotted keys have made the table of a header's path.
func (q *quickReading) isDotted(path string) bool {
	if len(q.dotted) == 0 {
		return false
	}
	if q.dotted["|"+path] {
		return true
	}
	for at := range len(path) {
		if path[at] == '.' && q.dotted[path[:at]+"|"+path[at+1:]] {
			return true
		}
	}
	return false
}

// isBare reports whether a key consists of bare names with dots between them.
func isBare(key string) bool {
	last := byte('.')
	for i := range len(key) {
		c := key[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
		if !letter && (c != '.' || last == '.') {
			return false
		}
		last = c
	}
	return last != '.'
}

// isQuickRest reports whether nothing but blanks and a comment is left of a line.
func isQuickRest(rest string) bool {
	rest = strings.TrimLeft(rest, " \t")
	return rest == "" || rest[0] == '#' && isQuickText(rest)
}

// isQuickText reports whether a text has no control characters. Tabs are left to the decoder.
func isQuickText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f || s[i] >= utf8.RuneSelf && !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

// quickValue decodes the value at the beginning of a text.
func quickValue(text string) (v any, rest string, ok bool) {
	if text == "" {
		return nil, "", false
	}
	switch text[0] {
	case '"', '\'':
		return quickString(text)
	case '[':
		list := []any{}
		for text = strings.TrimLeft(text[1:], " \t"); ; {
			if strings.HasPrefix(text, "]") {
				return list, text[1:], true
			}
			item, after, good := quickString(text)
			if !good {
				return nil, "", false
			}
			list = append(list, item)
			text = strings.TrimLeft(after, " \t")
			if next, comma := strings.CutPrefix(text, ","); comma {
				text = strings.TrimLeft(next, " \t")
			} else if !strings.HasPrefix(text, "]") {
				return nil, "", false
			}
		}
	}
	end := strings.IndexAny(text, " \t#")
	if end < 0 {
		end = len(text)
	}
	word, rest := text[:end], text[end:]
	switch {
	case word == "":
	case word == "true", word == "false":
		return word == "true", rest, true
	case len(word) == len("2026-12-01T10:00:00Z") && word[10] == 'T' && word[19] == 'Z':
		at, err := time.Parse("2006-01-02T15:04:05Z07:00", word)
		return at, rest, err == nil
	case len(word) <= 15 && strings.Trim(word, "0123456789") == "" && (word[0] != '0' || word == "0"):
		n, err := strconv.ParseInt(word, 10, 64)
		return n, rest, err == nil
	}
	return nil, "", false
}

// quickString decodes a text in quotes, without escapes.
func quickString(text string) (v any, rest string, ok bool) {
	if text == "" || text[0] != '"' && text[0] != '\'' {
		return nil, "", false
	}
	n := strings.IndexByte(text[1:], text[0])
	if n < 0 || n == 0 && strings.HasPrefix(text[2:], text[:1]) { // three quotes begin a long text
		return nil, "", false
	}
	s := text[1 : 1+n]
	if strings.IndexByte(s, '\\') >= 0 || !isQuickText(s) {
		return nil, "", false
	}
	return s, text[n+2:], true
}
