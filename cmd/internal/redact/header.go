package redact

import (
	"slices"
	"strings"
)

// mentioned hides what follows a name and a colon, unless it looks like prose or code.
func (r *redactor) mentioned(name string) func(string) string {
	kind := classOf(name)
	header := r.before[0] == "" || kind == scheme || strings.Contains(name, "-") || strings.EqualFold(name, "cookie")
	return func(w string) string {
		plain := strings.TrimRight(w, ".,;:!?")
		switch {
		case isScheme(w):
			r.next = hide
			return w
		case !header && (kind == counted || strings.Contains(w, "(") || strings.IndexFunc(plain, func(c rune) bool { return c < 'a' || c > 'z' }) < 0), !hides(name, w):
			return r.shown(w)
		}
		return redacted
	}
}

// headerOf reads a line that is a header, and hides its value except for the scheme.
func headerOf(line string) (name, value string, header bool) {
	name, value, header = strings.Cut(line, ":")
	value = strings.TrimRight(value, "\r")
	if !header || strings.TrimSpace(value) == "" || !isHeader(name) || !isName(strings.TrimLeft(name, `"'`)) {
		return "", "", false
	}
	content := strings.TrimLeft(value, " \t")
	blanks := value[:len(value)-len(content)]
	first, rest, more := strings.Cut(content, " ")
	switch {
	case more && isScheme(first) && rest != "":
		return name + ":", blanks + first + " " + redacted, true
	case !hides(name, content):
		return "", "", false
	}
	return name + ":", blanks + redacted, true
}

// isHeader tells whether what stands before a colon names a secret. The quoted name of a JSON
// member does not: see hideMembers.
func isHeader(name string) bool {
	return classOf(name) != harmless && strings.TrimRight(name, `"'`) == name
}

// isScheme tells whether a word is the scheme of an Authorization header.
func isScheme(word string) bool {
	return slices.Contains([]string{"bearer", "basic", "digest", "token", "negotiate", "ntlm", "apikey", "api-key", "geniekey", "ssws", "splunk", "aws4-hmac-sha256"}, strings.ToLower(word))
}
