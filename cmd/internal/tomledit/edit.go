package tomledit

import (
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Set sets a key of a table, whose value is TOML: in its place if it is there, else after the last key
// below the table's header, else in a new table at the end. Where none of that can be done, the text
// stays.
func Set(text string, table []string, key, value string) string {
	path := below(table, key)
	all := Statements(text)
	for _, s := range all {
		if !s.Header && slices.Equal(s.Path, path) {
			return text[:s.Value[0]] + value + text[s.Value[1]:]
		}
	}
	at := -1
	inside, under := false, false
	for _, s := range all {
		if s.Header {
			inside, under = slices.Equal(s.Path, table), begins(s.Path, table)
		}
		if !s.Header && !under && begins(s.Path, table) { // dotted keys or an inline table make it, and TOML allows no header besides
			return text
		}
		if inside {
			at = s.End
		}
	}
	if at < 0 {
		text = AppendTable(text, table)
		at = len(text)
	}
	line := key + " = " + value + "\n"
	if at > 0 && text[at-1] != '\n' {
		line = "\n" + line
	}
	return text[:at] + line + text[at:]
}

// Remove removes a key of a table, with the lines of its value.
func Remove(text string, table []string, key string) string {
	path := below(table, key)
	for _, s := range Statements(text) {
		if !s.Header && slices.Equal(s.Path, path) {
			return text[:s.Start] + text[s.End:]
		}
	}
	return text
}

func below(table []string, key string) []string {
	return append(table[:len(table):len(table)], SplitKey(key)...)
}

// AppendTable adds the header of a table at the end.
func AppendTable(text string, path []string) string {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + "\n[" + toml.Key(path).String() + "]\n"
}
