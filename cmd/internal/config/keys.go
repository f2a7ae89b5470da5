package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"strings"

	"py3run/cmd/internal/tomledit"
)

// A Key is what there is to know about one key, for people. Values are as they would stand in a file.
type Key struct {
	Name     string
	Section  string // the header that it stands below
	Meaning  string // with unit and choices
	Cost     string // of a run, as far as that was measured; empty: nobody has measured it
	Default  string
	Value    string // in force
	Origin   Origin
	Bounds   string   // what it can be, in words
	Choices  []string // all that it can be; nil: more than can be listed
	Variable string   // of the environment
	ByHand   string   // why only the file itself changes it; empty: [Edit] does
}

// Changed reports whether the value is not the default.
func (k Key) Changed() bool { return k.Value != k.Default }

// Leaf is the name of the key below its section.
func (k Key) Leaf() string { return leaf(k.Name) }

// Keys are all keys with what is in force, in the order of a file.
func (l *Loaded) Keys() []Key {
	c := Default()
	list := make([]Key, len(settings))
	for i := range settings {
		s := &settings[i]
		list[i] = Key{Name: s.key, Section: section(s.key), Meaning: s.comment(), Cost: s.cost, Default: format(s.get(&c)), Value: format(s.get(&l.Config)),
			Origin: l.Origins[s.key], Bounds: s.allows(), Choices: s.choices, Variable: variable(s.key), ByHand: s.byHand}
		if _, is := s.fallback.(bool); is {
			list[i].Choices = []string{"true", "false"}
		}
	}
	return list
}

// allows says in words what a setting can be.
func (s *setting) allows() string {
	switch s.fallback.(type) {
	case float64:
		return s.bounds()
	case int:
		return s.bounds() + ", whole"
	case bool:
		return "true or false"
	case []string:
		return `a list of texts, as ["a", "b"]`
	case reasons:
		return `a table of texts, as { a = "b" }`
	}
	if s.choices != nil {
		return strings.Join(s.choices, " or ")
	}
	if s.rule != nil {
		return s.rule.says
	}
	return "text"
}

// An Edit is a change of one key in a configuration file.
type Edit struct {
	Key   string
	Value string // as a variable has it: a text without quotes
	Unset bool   // take the key out of the file
}

// Rewrite makes the change in the text of a file, and leaves everything else of the text as it is. The
// text after it is one that Load accepts, and says nothing else. The error is an *Error.
func (e Edit) Rewrite(path, text string) (string, error) { return e.rewrite(path, text, etcFile) }

func (e Edit) rewrite(path, text, etc string) (string, error) {
	wrong := func(problem, hint string) error {
		return &Error{Where: path, Key: e.Key, Problem: problem, Hint: hint}
	}
	s := settingAt(e.Key)
	if s == nil {
		err := unknownKey("", e.Key, "")
		err.Where = path
		return "", err
	}
	if s.byHand != "" {
		return "", wrong("only the file itself changes it: "+s.byHand, "")
	}
	before, mistakes := parseFile(path, text, etc)
	if mistakes != nil {
		return "", &mistakes[0]
	}
	want := maps.Clone(before.values)
	after := ""
	if e.Unset {
		delete(want, e.Key)
		after = tomledit.Remove(text, strings.Split(section(e.Key), "."), leaf(e.Key))
	} else {
		v, err := s.fromText(e.Value)
		if err != nil {
			err.Where, err.Key = path, e.Key
			return "", err
		}
		if want == nil {
			want = map[string]any{}
		}
		want[e.Key] = v
		after = tomledit.Set(text, strings.Split(section(e.Key), "."), leaf(e.Key), format(v))
	}
	then, mistakes := parseFile(path, after, etc)
	if mistakes != nil || !reflect.DeepEqual(then.values, want) || !reflect.DeepEqual(then.ceilings, before.ceilings) || !reflect.DeepEqual(then.floors, before.floors) {
		return "", wrong("the file is written in a way in which this change cannot be made without changing more", "change the file by hand")
	}
	if len(after) > fileMost {
		return "", wrong(fmt.Sprintf("the file would be larger than %d MB", fileMost>>20), "")
	}
	return after, nil
}

// CheckText is Check for a text that is to be in the place of a file.
func CheckText(path, text string) []Finding {
	f, findings := parseFile(path, text, etcFile)
	return append(findings, locate(f.contradictions(), path, text)...)
}

// Own is the file that a user changes for a configuration of their own: the one that is named instead of
// the usual ones, as root the system's, else the user's. It need not exist. Empty: there is no place for it.
func (s Sources) Own(dir string, root bool) (path string, system bool) {
	etc := s.EtcFile
	if etc == "" {
		etc = etcFile
	}
	if named := s.Named(dir); named != "" {
		return named, filepath.Clean(named) == filepath.Clean(etc)
	}
	if root {
		return etc, true
	}
	if own := UserDir(s.Environ); own != "" {
		return filepath.Join(own, "config.toml"), false
	}
	return "", false
}
