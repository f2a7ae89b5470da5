package wire

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// BadName says why Python code cannot, or must not, bind name; "" if it can. Python normalises
// names by NFKC, which Go's standard library does not have: a name that NFKC changes is accepted
// here, and the Python runtime normalises it. The accepted letters never become an underscore that way,
// so no name turns into a dunder name.
func BadName(name string) string {
	switch {
	case utf8.RuneCountInString(name) > 256:
		return "longer than 256 characters"
	case name == "" || !isNameStart(first(name)) || strings.ContainsFunc(name, func(r rune) bool { return !isNamePart(r) }):
		return "not a Python identifier"
	case isKeyword(name):
		return "a Python keyword"
	case len(name) > 4 && strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__"):
		return "names like __x__ belong to Python"
	}
	return ""
}

// pythonName is the name that a person would choose instead.
func pythonName(name string) string {
	name = strings.Map(func(r rune) rune {
		if isNamePart(r) {
			return r
		}
		return '_'
	}, name)
	switch {
	case name == "" || len(name) > 64:
		return ""
	case !isNameStart(first(name)):
		return "_" + name
	case isKeyword(name):
		return name + "_"
	}
	return name
}

func first(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// What may be in an identifier: XID_Start and XID_Continue of the Unicode Standard, Annex 31,
// except characters that NFKC turns into an underscore: see BadName.

func isNameStart(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || r > 0x7f && unicode.In(r, unicode.Nl, unicode.Other_ID_Start)
}

func isNamePart(r rune) bool {
	return isNameStart(r) || unicode.IsDigit(r) || r > 0x7f && (unicode.In(r, unicode.Mn, unicode.Mc, unicode.Other_ID_Continue) || r == '\u203f' || r == '\u2040' || r == '\u2054')
}

// isKeyword knows the hard keywords of Python 3.8 to 3.13.
func isKeyword(name string) bool {
	switch name {
	case "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
		"elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
		"not", "or", "pass", "raise", "return", "try", "while", "with", "yield":
		return true
	}
	return false
}
