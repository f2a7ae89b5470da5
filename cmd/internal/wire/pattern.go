package wire

import (
	"strings"
	"unicode/utf8"
)

// A Pattern chooses files by their paths below the working directory. * is any part of a name, ? is
// one character, and ** between slashes is any number of directories, also none; at the end it is
// all files below. Every other character is itself. A name that begins with a dot is no exception.
//
// A pattern is matched directory by directory, so that a walk enters only directories in which a
// file can match. Nothing in it takes more than linear time in the length of a name.
type Pattern struct {
	Text  string
	parts []string
}

// A Position is how far a pattern has come on the way into a directory. Bit i says: the path so far
// has matched the first i parts.
type Position uint64 // partsMost parts, and the end

const anyDirs = "**"

func parsePattern(text string) (Pattern, *fault) {
	if reason := BadFileName(text); reason != "" {
		return Pattern{}, &fault{text: reason}
	}
	p := Pattern{text, strings.Split(text, "/")}
	for _, part := range p.parts {
		if part != anyDirs && strings.Contains(part, anyDirs) {
			return Pattern{}, &fault{text: "** beside other characters", hint: "** stands alone between slashes, as in logs/**/*.txt"}
		}
	}
	return p, nil
}

// Start is the position in the working directory itself.
func (p Pattern) Start() Position { return p.skip(1) }

// skip adds to a position that ** can stand for no directory.
func (p Pattern) skip(at Position) Position {
	for i, part := range p.parts {
		if part == anyDirs && at&(1<<i) != 0 {
			at |= 1 << (i + 1)
		}
	}
	return at
}

// Enter is the position in the directory of that name; 0: no file there can match.
func (p Pattern) Enter(at Position, dir string) (below Position) {
	for i, part := range p.parts {
		switch {
		case at&(1<<i) == 0:
		case part == anyDirs:
			below |= 1 << i
		case matchPart(part, dir):
			below |= 1 << (i + 1)
		}
	}
	return p.skip(below) &^ (1 << len(p.parts))
}

// Matches reports whether the pattern chooses the file of that name.
func (p Pattern) Matches(at Position, file string) bool {
	last := len(p.parts) - 1
	return at&(1<<last) != 0 && (p.parts[last] == anyDirs || matchPart(p.parts[last], file))
}

// matchPart matches a name without slashes. After a mismatch it lets the last * take one character
// more; an earlier * need never take more than it did.
func matchPart(pattern, name string) bool {
	star, taken := -1, 0 // where the last * stands, and the name behind what it has taken
	p, n := 0, 0
	for n < len(name) {
		_, size := utf8.DecodeRuneInString(name[n:])
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, taken = p, n
			p++
		case p < len(pattern) && pattern[p] == '?':
			p, n = p+1, n+size
		case p < len(pattern) && pattern[p] == name[n]:
			p, n = p+1, n+1
		case star >= 0:
			_, size := utf8.DecodeRuneInString(name[taken:])
			taken += size
			p, n = star+1, taken
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
