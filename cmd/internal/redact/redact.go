// Package redact hides secrets in what is recorded: command lines, URLs, and values with telling
// names.
package redact

import (
	"slices"
	"strings"
)

const redacted = "***"

// argumentMost bounds an argument, in bytes.
const argumentMost = 4096

// Args hides secrets in a command line, whose first element is the program. It hides
//
//   - values of options, variables, headers, members and elements whose names say that they are secret (secretname.go);
//   - what known programs take as a password (programs.go);
//   - credentials and secret values in URLs (url.go);
//   - private keys, and tokens with a known beginning (tokens.go).
//
// It goes by names and forms: a secret in any other place stays visible. A long argument is cut,
// and ends in an ellipsis.
func Args(argv []string) (out []string) {
	out = slices.Clone(argv)
	defer func() {
		if recover() != nil { // a bug here must not cost the result, nor show a secret
			for i := range out {
				out[i] = redacted
			}
		}
	}()
	var r redactor
	for i, arg := range out {
		if len(arg) > argumentMost {
			arg = strings.ToValidUTF8(arg[:argumentMost], "") + "…"
		}
		if i > 0 || strings.HasPrefix(arg, "-") || strings.ContainsAny(arg, " \t\n=") || strings.Contains(arg, "://") {
			out[i] = r.argument(arg)
		} else {
			if r.before[0] = programName(arg); known(r.before[0]) {
				r.program = r.before[0]
			}
			out[i] = hideTokens(arg)
		}
	}
	return out
}

// A redactor reads the words of a command line one after the other.
type redactor struct {
	program string                   // the program that the words belong to
	plain   int                      // number of its words so far that are not options
	login   bool                     // the first of them was "login"
	words   int                      // the password of htpasswd is its plain word of this number; 0: it has none
	storing bool                     // each NAME=VALUE is a secret, whatever the name
	before  [3]string                // the words before this one, the last one first
	next    func(word string) string // decides what is shown of the next word; nil: the word itself decides
	shell   bool                     // the words come from a text, with their quotes
}

// argument shows a whole element of a command line, which may have blanks.
func (r *redactor) argument(w string) string {
	shown := r.shown(w)
	r.before = [3]string{w, r.before[0], r.before[1]}
	r.storing = r.storing || slices.Contains(storing, [2]string{r.before[1], r.before[0]})
	return shown
}

func (r *redactor) shown(w string) string {
	if next := r.next; next != nil {
		if w == `\` { // the line goes on
			return w
		}
		r.next = nil
		return next(w)
	}
	if w == "" {
		return w
	}
	if quote, inner, whole := quoted(w); whole && r.shell && strings.HasPrefix(inner, "-") {
		r.shell = false // what is in there is a whole argument
		s, done := r.option(inner)
		if r.shell = true; done {
			return quote + s + quote
		}
	}
	if !strings.HasPrefix(w, "-") && !strings.HasPrefix(w, "/") {
		if w == ";" || w == "|" || w == "&&" || w == "||" || w == "&" {
			*r = redactor{shell: r.shell}
			return w
		}
		if name := programName(w); name != "" && known(name) {
			return r.begin(w)
		}
		if r.program == "sshpass" { // it starts another program
			r.program = ""
		}
	} else if s, done := r.option(w); done {
		return s
	} else if name := programName(w); w[0] == '/' && name != "" && known(name) {
		return r.begin(w)
	}
	if !strings.HasPrefix(w, "-") {
		if s, done := r.positional(w); done {
			return s
		}
	}
	return r.value(w)
}

// begin remembers the program.
func (r *redactor) begin(w string) string {
	r.program, r.plain, r.login, r.words = programName(w), 0, false, 0
	return w
}

// value hides what is secret in a word or a text by itself, without the words before.
func (r *redactor) value(s string) string {
	if len(s) < 16 && !strings.ContainsAny(s, " \t\n=:@<\"'") {
		return s
	}
	s = hideMembers(hideNamed(hideElements(hidePrivateKeys(s))))
	if quote, inner, whole := quoted(s); whole {
		if !strings.ContainsAny(inner, " \t\n") {
			return quote + (&redactor{program: r.program}).shown(inner) + quote
		}
		shown := (&redactor{}).value(inner)
		if _, _, header := headerOf(inner); header { // it goes on to the end
			return quote + shown
		}
		return quote + shown + quote
	}
	if isConnection(s) {
		return hideTokens(hideURLs(hideAssigned(s, true)))
	}
	if strings.ContainsAny(s, " \t\n") && !r.shell {
		return r.text(s)
	}
	shown := hideAssigned(hideLogin(hideURLs(s)), false)
	if i := strings.IndexAny(s, `"'`); shown == s && i >= 0 && strings.ContainsAny(s[i:], " \t\n") { // a word of a shell with blanks in quotes
		if end := closing(s, i+1, s[i:i+1]); end > 0 {
			shown = s[:i] + (&redactor{}).value(s[i:end]) + (&redactor{}).value(s[end:])
		}
	}
	if name, value, header := strings.Cut(s, ":"); header && r.shell && isHeader(name) && (value == "" || isScheme(value)) {
		r.next = r.mentioned(strings.Trim(name, `"'`))
	}
	return hideTokens(shown)
}

func hide(string) string { return redacted }

// LooksSecret tells whether a name looks like a key that was put in the place of a name: it begins
// like one, or is long and mixed like one.
func LooksSecret(name string) bool {
	const long, capitals, small, digits = 40, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789"
	return hideTokens(name) != name ||
		len(name) >= long && strings.ContainsAny(name, capitals) && strings.ContainsAny(name, small) && strings.ContainsAny(name, digits) && !strings.Contains(name, "_")
}
