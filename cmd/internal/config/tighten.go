package config

import (
	"cmp"
	"errors"
	"maps"
	"strings"
)

// Limits are what a policy says for some keys: values of the settings' types, by key.
type Limits map[string]any

// Text is the value of a key as it would stand in a file; empty: there is none.
func (l Limits) Text(key string) string {
	if v, ok := l[key]; ok {
		return format(v)
	}
	return ""
}

// Keys are the keys that have a value, in the order of the configuration file.
func (l Limits) Keys() (keys []string) {
	for i := range settings {
		if _, ok := l[settings[i].key]; ok {
			keys = append(keys, settings[i].key)
		}
	}
	return keys
}

// ParseLimits reads a decoded table of limits. prefix, which ends in a dot, stands before its keys in
// mistakes, whose Where is empty. With onlyTighten a value that bounds nothing is a mistake.
func ParseLimits(tree map[string]any, prefix string, onlyTighten bool) (Limits, []Error) {
	parse := (*setting).limitFromTOML
	if onlyTighten {
		parse = (*setting).tighterFromTOML
	}
	return take(cloneTree(tree), prefix, parse, nil)
}

// Add adds one decoded value, which is no table, as ParseLimits reads it; false: it is a mistake, or there
// is a value already.
func (l Limits) Add(key string, v any, onlyTighten bool) bool {
	s := settingAt(key)
	if _, twice := l[key]; twice || s == nil {
		return false
	}
	value, err := s.limitFromTOML(v)
	if onlyTighten && err == nil {
		value, err = s.tighterFromTOML(v)
	}
	if err == nil {
		l[key] = value
	}
	return err == nil
}

// cloneTree copies tables, because take takes out what it has read.
func cloneTree(tree map[string]any) map[string]any {
	clone := maps.Clone(tree)
	for name, v := range clone {
		if t, ok := v.(map[string]any); ok {
			clone[name] = cloneTree(t)
		}
	}
	return clone
}

func (s *setting) tighterFromTOML(v any) (any, *Error) {
	value, err := s.limitFromTOML(v)
	if err == nil && !s.binds(value) {
		return nil, &Error{Problem: format(value) + " bounds nothing, and a profile can only tighten", Hint: "leave it out"}
	}
	return value, err
}

func (s *setting) limitFromTOML(v any) (any, *Error) {
	switch {
	case s.forAll != "":
		return nil, &Error{Problem: "cannot differ from user to user: " + s.forAll, Hint: "set it in the configuration"}
	case !s.hasCeiling():
		return nil, &Error{Problem: "cannot be tightened: none of its values is stricter than the others", Hint: "numbers can be tightened, and " + strictKeys()}
	}
	return s.fromTOML(v)
}

// binds reports whether other values exceed this one.
func (s *setting) binds(value any) bool {
	switch value {
	case 0, 0.0:
		return false
	}
	return s.strict == nil || value == s.strict
}

// Generous returns the looser of two values of a key.
func Generous(key string, a, b any) any {
	if s := settingAt(key); s.exceeds(b, a) {
		return b
	}
	return a
}

// A Bound is the most that a policy allows for one key.
type Bound struct {
	Key   string
	Value any
	Where string // file and table
	// Replaces says that Value also stands in for the default, even if it is more. It does not where
	// one of the key's values is the strict one: there the default is not made looser.
	Replaces bool
}

// Tighten keeps a configuration within bounds, which are applied in their order. The maps of the
// result are its own. A ceiling of the operator's wins over every bound.
func Tighten(c Config, origins map[string]Origin, bounds []Bound) (Config, map[string]Origin) {
	if len(bounds) == 0 {
		return c, origins
	}
	origins = maps.Clone(origins)
	if origins == nil {
		origins = map[string]Origin{}
	}
	for _, b := range bounds {
		s := settingAt(b.Key)
		from, now := origins[b.Key], s.get(&c)
		isDefault := from.Kind == FromDefault && from.Key == "" && from.Ceiling.Asked == ""
		switch {
		case b.Replaces && isDefault && s.strict == nil:
			value := b.Value
			from.Kind, from.Name = FromPolicy, b.Where
			if ceiling, err := s.fromText(from.Ceiling.Value); from.Ceiling.Value != "" && err == nil && s.exceeds(value, ceiling) {
				value, from.Ceiling.Asked = ceiling, format(value)
			}
			s.set(&c, value)
			origins[b.Key] = from
		case s.exceeds(now, b.Value):
			from.Ceiling = Ceiling{Value: format(b.Value), File: b.Where, Asked: cmp.Or(from.Ceiling.Asked, format(now))}
			s.set(&c, b.Value)
			origins[b.Key] = from
		}
	}
	return c, origins
}

// LimitKeys are the keys that a policy can limit.
func LimitKeys() (keys []string) {
	for i := range settings {
		if s := &settings[i]; s.forAll == "" && s.hasCeiling() {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// ParseLimit reads KEY=VALUE, as a command line has it.
func ParseLimit(text string) (key string, value any, err error) {
	key, written, ok := strings.Cut(text, "=")
	if !ok {
		return "", nil, errors.New("want KEY=VALUE")
	}
	s := settingAt(key)
	if s == nil {
		return "", nil, errors.New(key + ": " + unknownKey("", key, "").Problem)
	}
	value, wrong := s.fromText(written)
	if wrong == nil && (s.forAll != "" || !s.hasCeiling()) {
		_, wrong = s.limitFromTOML(value)
	}
	if wrong != nil {
		return "", nil, errors.New(key + ": " + wrong.Problem)
	}
	return key, value, nil
}
