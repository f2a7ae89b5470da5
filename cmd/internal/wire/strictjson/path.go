package strictjson

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPath is where a path in a message is cut, in bytes.
const maxPath = 256

func (p *parser) want(what string) error {
	return p.fail(p.pos, p.found()+", want "+what)
}

// found names the character here, without quoting more of the text than that.
func (p *parser) found() string {
	if p.pos == len(p.text) {
		return "the text ends"
	}
	r, n := utf8.DecodeRuneInString(p.text[p.pos:])
	if r == utf8.RuneError && n == 1 {
		return reasonUTF8
	}
	return "found " + strconv.QuoteRune(r)
}

func (p *parser) fail(offset int, reason string) error {
	return &SyntaxError{Offset: offset, Path: p.pathText(), Reason: reason}
}

// pathText is where the parser is. It is built only when somebody will read it.
func (p *parser) pathText() string {
	path := p.Root
	for _, s := range p.path {
		switch {
		case path == p.Secret && path != "":
			return path
		case len(path) > maxPath:
			return path + "…"
		case s.index >= 0:
			path += "[" + strconv.Itoa(s.index) + "]"
		case s.index == inMember:
			path = Join(path, s.name)
		}
	}
	return path
}

// Join appends an object's name to a path.
func Join(path, name string) string {
	if path == "" {
		return strings.TrimPrefix(Member(name), ".")
	}
	return path + Member(name)
}

// Member is an object's name as a path goes on with it: .x, .tank-1, or ["a b"] for a name that
// would mislead.
func Member(name string) string {
	if shown := Show(name); shown != name {
		return "[" + shown + "]"
	}
	return "." + name
}

// Show is a caller's word as it may stand in a message: unchanged where it is plain, else quoted,
// and cut where it is long.
func Show(word string) string {
	const most = 64
	cut := word
	if len(cut) > most {
		cut = cut[:most]
		for !utf8.RuneStart(word[len(cut)]) {
			cut = cut[:len(cut)-1]
		}
	}
	plain := cut != ""
	for _, r := range cut {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == '.' || r == '[' || r == ']' || r == '"' || r == '\\' {
			plain = false
		}
	}
	switch {
	case len(cut) < len(word):
		return strconv.Quote(cut + "…")
	case plain:
		return word
	}
	return strconv.Quote(word)
}
