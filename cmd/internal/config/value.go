package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// The functions here turn a written value into a value of the setting's type, or into an *Error
// without Where and Key.

// fromText reads the value of a variable or flag. Texts are taken literally; lists and tables are
// written as in a file.
func (s *setting) fromText(text string) (any, *Error) {
	switch s.fallback.(type) {
	case float64, int:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, s.mustBeOfKind(text)
		}
		return s.number(n)
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, s.mustBeOfKind(text)
		}
		return b, nil
	case string:
		return s.text(text)
	}
	var file map[string]any
	if _, err := toml.Decode("value = "+text, &file); err != nil || len(file) != 1 {
		return nil, s.mustBeOfKind(text)
	}
	return s.fromTOML(file["value"])
}

// fromTOML checks a decoded value of a file.
func (s *setting) fromTOML(v any) (any, *Error) {
	switch s.fallback.(type) {
	case float64, int:
		switch n := v.(type) {
		case int64:
			return s.number(float64(n))
		case float64:
			return s.number(n)
		}
	case bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case string:
		switch t := v.(type) {
		case string:
			return s.text(t)
		case bool:
			if t && s.onTrue != "" || !t && s.onFalse != "" {
				return s.text(strconv.FormatBool(t))
			}
		}
	case []string:
		if list, ok := v.([]any); ok {
			return s.list(list)
		}
	case reasons:
		if table, ok := v.(map[string]any); ok {
			return s.table(table)
		}
	}
	return nil, s.mustBeOfKind(v)
}

func (s *setting) number(n float64) (any, *Error) {
	_, whole := s.fallback.(int)
	switch {
	case math.IsNaN(n) || math.IsInf(n, 0):
		return nil, mustBe("a finite number", n)
	case whole && n != math.Trunc(n):
		return nil, mustBe("a whole number", n)
	case n == 0 && !s.noZero:
		n = 0 // not -0
	case n < s.min || n > s.max:
		return nil, mustBe(s.bounds(), n)
	}
	if whole {
		return int(n), nil
	}
	return n, nil
}

func (s *setting) bounds() string {
	b := "from " + formatNumber(s.min) + " to " + formatNumber(s.max)
	if s.noZero {
		return b
	}
	return "0 (no limit) or " + b
}

func (s *setting) text(t string) (any, *Error) {
	switch {
	case t == "true" && s.onTrue != "":
		t = s.onTrue
	case t == "false" && s.onFalse != "":
		t = s.onFalse
	}
	if slices.Contains(s.later, t) {
		return nil, &Error{Problem: strconv.Quote(t) + " is not available in this version"}
	}
	if s.choices != nil && !slices.Contains(s.choices, t) {
		return nil, mustBe(strings.Join(s.choices, " or "), t)
	}
	if err := s.obeysRule(t); err != nil {
		return nil, err
	}
	return t, nil
}

// flagHint says what a flag wants, and where that is told. short: it is not --set.
func (s *setting) flagHint(short bool) string {
	where := "py3run config init prints every key and what it can be"
	if short {
		where = "see py3run COMMAND --help"
	}
	switch s.fallback.(type) {
	case float64, int:
		return "want " + s.bounds() + "; " + where
	case bool:
		return "want true or false; " + where
	}
	if s.choices != nil {
		return "want " + strings.Join(s.choices, " or ") + "; " + where
	}
	return where
}

func (s *setting) list(items []any) (any, *Error) {
	var list []string // nil when empty, like the default
	for _, item := range items {
		t, ok := item.(string)
		if !ok {
			return nil, s.mustBeOfKind(item)
		}
		if err := s.obeysRule(t); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

func (s *setting) table(entries map[string]any) (any, *Error) {
	table := make(map[string]string, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if err := s.obeysRule(name); err != nil {
			return nil, err
		}
		t, ok := entries[name].(string)
		if !ok {
			err := s.mustBeOfKind(entries[name])
			if _, nested := entries[name].(map[string]any); nested {
				err.Hint = fmt.Sprintf(`quote a name that has dots: "%s.…" = "…"`, name)
			}
			return nil, err
		}
		if err := isLine(t); err != nil {
			return nil, err
		}
		table[name] = t
	}
	return table, nil
}

func (s *setting) obeysRule(t string) *Error {
	if err := isLine(t); err != nil {
		return err
	}
	if s.rule != nil && !s.rule.holds(t) {
		return &Error{Problem: s.rule.says + ", not " + strconv.Quote(t)}
	}
	return nil
}

// isLine refuses a text with line breaks and the like: it cannot be a path or a name, and would
// forge lines where it is printed.
func isLine(t string) *Error {
	if !utf8.ValidString(t) || strings.ContainsFunc(t, unicode.IsControl) {
		return mustBe("UTF-8 text without control characters", t)
	}
	return nil
}

func (s *setting) mustBeOfKind(v any) *Error {
	switch s.fallback.(type) {
	case float64, int:
		err := mustBe("a number", v)
		if text, ok := v.(string); ok && s.unit == "seconds" && hasUnit(text) {
			err.Hint = "give the number of " + s.unit + ", without a unit"
		}
		return err
	case bool:
		return mustBe("true or false", v)
	case string:
		return mustBe("text in quotes", v)
	case []string:
		return mustBe(`a list of texts such as ["a", "b"]`, v)
	default:
		return mustBe(`a table of texts such as { a = "b" }`, v)
	}
}

// hasUnit reports whether a text begins as a number and ends as a word, such as 1m.
func hasUnit(text string) bool {
	return text != "" && '0' <= text[0] && text[0] <= '9' && strings.Trim(text[len(text)-1:], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

func mustBe(what string, got any) *Error {
	return &Error{Problem: "must be " + what + ", not " + describe(got)}
}

// describe names a decoded value in a message.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case float64:
		return formatNumber(v)
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	case time.Time:
		return "a date"
	default:
		return fmt.Sprint(v)
	}
}

// set sets a value of the setting's type, and shares no memory with it.
func (s *setting) set(c *Config, v any) {
	switch place := s.field(c).(type) {
	case *float64:
		*place = v.(float64)
	case *int:
		*place = v.(int)
	case *bool:
		*place = v.(bool)
	case *string:
		*place = v.(string)
	case *[]string:
		*place = slices.Clone(v.([]string))
	case *map[string]string:
		if pairs, ok := v.(reasons); ok {
			*place = make(map[string]string, len(pairs))
			for _, pair := range pairs {
				(*place)[pair[0]] = pair[1]
			}
			return
		}
		*place = maps.Clone(v.(map[string]string))
	}
}

// get is the inverse of set.
func (s *setting) get(c *Config) any {
	switch place := s.field(c).(type) {
	case *float64:
		return *place
	case *int:
		return *place
	case *bool:
		return *place
	case *string:
		return *place
	case *[]string:
		return *place
	case *map[string]string:
		return *place
	}
	panic("config: no such kind of setting: " + s.key)
}

// exceeds reports whether a value is less strict than a ceiling. 0 means no limit: as a value it is
// above every number, and as a ceiling it bounds nothing.
func (s *setting) exceeds(value, ceiling any) bool {
	switch c := ceiling.(type) {
	case float64:
		v := value.(float64)
		return c != 0 && (v == 0 || v > c)
	case int:
		v := value.(int)
		return c != 0 && (v == 0 || v > c)
	}
	return ceiling == s.strict && value != ceiling
}

// below reports whether a number is less than its floor.
func (s *setting) below(value, floor any) bool { return value != floor && s.exceeds(floor, value) }

// format writes a value as in a file. Here strconv.Quote writes valid TOML, because isLine refuses
// what the two write differently.
func format(v any) string {
	switch v := v.(type) {
	case float64:
		return formatNumber(v)
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case string:
		return strconv.Quote(v)
	case []string:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = strconv.Quote(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case map[string]string:
		if len(v) == 0 {
			return "{}"
		}
		entries := make([]string, 0, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			entries = append(entries, toml.Key{name}.String()+" = "+strconv.Quote(v[name]))
		}
		return "{ " + strings.Join(entries, ", ") + " }"
	}
	panic(fmt.Sprintf("config: cannot format a %T", v))
}

func formatNumber(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
