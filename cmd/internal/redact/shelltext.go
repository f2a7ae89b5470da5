package redact

import (
	"slices"
	"strings"
)

// text hides secrets in several words: a shell's command line, a header, code.
func (r *redactor) text(s string) string {
	if first, rest, _ := strings.Cut(s, " "); strings.EqualFold(first, "bearer") && len(rest) > 7 && !strings.ContainsAny(rest, " \n") {
		return first + " " + redacted
	}
	if name, value, found := strings.Cut(s, "="); found && value != "" && !strings.ContainsAny(name, " \t\n") {
		plain := isName(strings.TrimLeft(name, "-"))
		if plain && hides(name, value) { // the value may have blanks
			return name + "=" + redacted
		}
		if header, value, found := headerOf(value); found {
			return name + "=" + header + value
		}
		if plain {
			return name + "=" + (&redactor{}).value(value)
		}
	}
	s = hidePiped(s)
	var b strings.Builder
	line, rest, more := strings.Cut(s, "\n")
	if name, value, found := headerOf(line); found {
		b.WriteString(name + value)
		if more {
			b.WriteString("\n" + (&redactor{}).value(rest))
		}
		return b.String()
	}
	words := redactor{shell: true}
	if r.shell {
		words.program = r.program
	}
	list := splitWords(s)
	for i, w := range list {
		if w.blank {
			if strings.Contains(w.text, "\n") && words.before[0] != `\` {
				words = redactor{shell: true, program: words.program}
			}
			b.WriteString(w.text)
			continue
		}
		after := func(n int) string { // the words that follow
			if i+2*n < len(list) {
				return list[i+2*n].text
			}
			return ""
		}
		name := strings.Trim(w.text, "'\"[](){},$")
		ended := strings.HasSuffix(w.text, ";")
		word, tail := w.text, ""
		if words.next != nil && word != "" && (word[0] == '"' || word[0] == '\'') {
			if end := closing(word, 1, word[:1]); end > 0 && strings.Trim(word[end:], ",;)]}") == "" {
				word, tail = word[:end], word[end:]
			}
		}
		shown := words.argument(word)
		b.WriteString(shown + tail)
		switch operator := after(1); {
		case words.next != nil || shown != word || classOf(strings.TrimRight(name, ":=")) == harmless:
		case slices.Contains([]string{"=", ":=", "=>", ":", "+="}, operator) && !(operator == ":" && strings.Contains(w.text, "$")) && after(2) != "" && hides(name, unquoted(strings.TrimRight(after(2), ",;)]}"))): // NAME = VALUE
			words.next = func(operator string) string { words.next = hide; return operator }
		case (strings.HasSuffix(name, "=") || strings.EqualFold(name, "password")) && (strings.HasPrefix(operator, `"`) || strings.HasPrefix(operator, "'")):
			words.next = hide
		}
		if ended {
			words = redactor{shell: true}
		}
	}
	return b.String()
}

// A span is a word, with its quotes, or the blanks between two.
type span struct {
	text  string
	blank bool
}

// splitWords splits a text roughly as a shell does. An apostrophe inside a word is not a quote.
func splitWords(s string) (list []span) {
	blank := func(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
	for i := 0; i < len(s); {
		start := i
		if blank(s[i]) {
			for i < len(s) && blank(s[i]) {
				i++
			}
			list = append(list, span{s[start:i], true})
			continue
		}
		for i < len(s) && !blank(s[i]) {
			c := s[i]
			if c == '\\' && i+1 < len(s) && !blank(s[i+1]) {
				i += 2
				continue
			}
			if (c == '"' || c == '\'') && (i == start || !isWordByte(s[i-1]) || s[start] == '-') {
				if end := closing(s, i+1, s[i:i+1]); end > 0 {
					i = end
					continue
				}
			}
			i++
		}
		if len(list) == 0 && start == 0 || len(list) > 0 && list[len(list)-1].blank || len(list) == 0 {
			list = append(list, span{s[start:i], false})
		}
	}
	if len(list) > 0 && list[0].blank { // words are at even places
		list = append([]span{{"", false}}, list...)
	}
	return list
}

// closing is the place after the closing quote of a text that begins at a place; 0 if there is
// none.
func closing(s string, at int, quote string) int {
	for i := at; i+len(quote) <= len(s); i++ {
		if strings.HasPrefix(s[i:], quote) {
			return i + len(quote)
		}
		if s[i] == '\\' && quote != "'" {
			i++
		}
	}
	return 0
}

// quoted takes off the quotes around a whole word.
func quoted(s string) (quote, inner string, whole bool) {
	if len(s) < 2 || s[0] != '"' && s[0] != '\'' || closing(s, 1, s[:1]) != len(s) {
		return "", s, false
	}
	return s[:1], s[1 : len(s)-1], true
}

func unquoted(s string) string { _, inner, _ := quoted(s); return inner }
