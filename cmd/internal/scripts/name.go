package scripts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of names.
const (
	nameMost    = 200 // bytes of a name
	partMost    = 64  // bytes of a part
	partsMost   = 4   // a script in three folders
	versionMost = 9   // digits of a version
)

// A NameError says why a text cannot be the name of a script.
type NameError struct {
	Name    string
	Version string // from the @ on, where the name itself is right and this is no version
	Reason  string
}

func (e *NameError) Error() string {
	if e.Version != "" {
		return "version " + shown(e.Version[1:]) + " of the script " + e.Name + ": " + e.Reason
	}
	return "script name " + shown(e.Name) + ": " + e.Reason
}

// Hint is a name that can be used instead, or the rule.
func (e *NameError) Hint() string {
	if e.Version != "" {
		return e.Name + "@1 is its first version, and " + e.Name + " the newest; py3runctl script history " + e.Name + " lists all"
	}
	if near := Normal(e.Name); near != "" && near != e.Name && len(e.Name) <= nameMost {
		return "as a name, " + near + " is possible"
	}
	return "a name is up to 4 parts with / between them, each of a-z, 0-9, '.', '_' and '-', as tank/daily-balance"
}

// shown quotes a name in ASCII: a letter that only looks like a Latin one would otherwise go unseen.
func shown(name string) string {
	if len(name) > nameMost {
		name = name[:nameMost] + "..."
	}
	return strconv.QuoteToASCII(name)
}

// BadName returns why a text cannot be the name of a script; nil: it can. Only lower-case ASCII is
// allowed, so no two names look alike, and none leads out of a directory.
func BadName(name string) error {
	reason := ""
	switch {
	case name == "":
		reason = "is empty"
	case len(name) > nameMost:
		reason = fmt.Sprintf("has %d characters, at most %d are allowed", len(name), nameMost)
	case strings.Count(name, "/") >= partsMost:
		reason = fmt.Sprintf("has more than %d parts", partsMost)
	}
	for part := range strings.SplitSeq(name, "/") {
		if reason != "" {
			return &NameError{Name: name, Reason: reason}
		}
		reason = badPart(part)
	}
	if reason != "" {
		return &NameError{Name: name, Reason: reason}
	}
	return nil
}

func badPart(part string) string {
	stem, _, _ := strings.Cut(part, ".")
	switch {
	case part == "":
		return "has a slash at the beginning, at the end or beside another one"
	case strings.Contains(part, ".."):
		return "has two dots in a row"
	case strings.ContainsFunc(part, func(r rune) bool { return 'A' <= r && r <= 'Z' }):
		return "has a capital letter"
	case strings.ContainsFunc(part, func(r rune) bool { return !isPart(r) }):
		return "has a character besides a-z, 0-9, '.', '_', '-' and /"
	case strings.IndexByte("._-", part[0]) >= 0:
		return fmt.Sprintf("has a part that begins with %q", part[0])
	case strings.HasSuffix(part, "."):
		return "has a part that ends with a dot"
	case len(part) > partMost:
		return fmt.Sprintf("has a part of %d characters, at most %d are allowed", len(part), partMost)
	case isDevice(stem):
		return fmt.Sprintf("has the part %s, which names a device on Windows: it could not be exported there", part)
	}
	return ""
}

func isPart(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-'
}

func isDevice(stem string) bool {
	if slices.Contains([]string{"con", "prn", "aux", "nul"}, stem) {
		return true
	}
	return len(stem) == 4 && (stem[:3] == "com" || stem[:3] == "lpt") && '1' <= stem[3] && stem[3] <= '9'
}

// Normal returns the name of a script that is nearest to a text, part by part; empty: there is none.
// Capitals become small, and _ stands for what a name cannot have.
func Normal(text string) string {
	var parts []string
	for part := range strings.SplitSeq(text, "/") {
		if part = normalPart(part); part != "" {
			parts = append(parts, part)
		}
	}
	name := strings.Join(parts, "/")
	if BadName(name) != nil {
		return ""
	}
	return name
}

func normalPart(part string) string {
	var b strings.Builder
	last := '_'
	for _, r := range strings.TrimSpace(part) {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		} else if !isPart(r) {
			r = '_'
		}
		if (r == '_' || r == '.') && (last == '_' || last == '.') {
			continue
		}
		b.WriteRune(r)
		if last = r; b.Len() == partMost {
			break
		}
	}
	name := strings.Trim(b.String(), "._-")
	if stem, _, _ := strings.Cut(name, "."); isDevice(stem) {
		name = "script_" + name
	}
	return name
}

// ParseRef takes NAME or NAME@VERSION apart. Version is 0 where none is named: then the current one
// is meant. A version is a number, and the same number is the same text for ever.
func ParseRef(ref string) (name string, version int, err error) {
	name, number, with := strings.Cut(ref, "@")
	if err := BadName(name); err != nil {
		return "", 0, err
	}
	if !with {
		return name, 0, nil
	}
	version, err = strconv.Atoi(number)
	if err != nil || version < 1 || len(number) > versionMost || strconv.Itoa(version) != number {
		return "", 0, &NameError{Name: name, Version: "@" + number, Reason: "the version after @ is not a number from 1"}
	}
	return name, version, nil
}

// Directories have names without slashes, so that a script and a folder can have the same name.

func dirOf(name string) string { return strings.ReplaceAll(name, "/", "+") }
func nameOf(dir string) string { return strings.ReplaceAll(dir, "+", "/") }
