package redact

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// patterns are compiled when they are first needed: most runs start no program, and most command
// lines have neither members nor elements.
var patterns = sync.OnceValue(func() (p struct{ member, element, named, call *regexp.Regexp }) {
	// A quoted name, and what stands between it and its value: of JSON and dictionaries, of an
	// element that is set, of two arguments.
	p.member = regexp.MustCompile(`(\\*["'])([\w .$@:/-]+)(\\*["'])(\s*:\s*|\s*=>\s*|\]\s*=\s*|\s*,\s*)`)
	p.element = regexp.MustCompile(`<([\w:.-]+)(?:\s[^<>]*)?>([^<>]+)<`)
	p.named = regexp.MustCompile(`(?i)((?:name|key)\\*["']?\s*[:=]\s*\\*["']?)([\w.-]+)(\\*["']?[\s,]*\\*["']?(?:parameter)?value\\*["']?\s*[:=]\s*\\*["']?)([^\s,"'}\]\\]+|[^"'\\]+)`)
	p.call = regexp.MustCompile(`(?i)((?:auth|login|authenticate|credential)\(\s*\\*["'][^"']*["']\s*,\s*\\*["']|password\(\s*\\*["'])([^"'\\]+)`)
	return p
})

// hideNamed hides the value that follows a name given as one: name=DB_PASSWORD,value=…; and the
// second argument of calls that log in.
func hideNamed(s string) string {
	lower := strings.ToLower(s)
	if strings.Contains(lower, "value") {
		s = patterns().named.ReplaceAllStringFunc(s, func(pair string) string {
			part := patterns().named.FindStringSubmatch(pair)
			if !hides(part[2], part[4]) {
				return pair
			}
			return part[1] + part[2] + part[3] + redacted
		})
	}
	if strings.Contains(lower, "auth") || strings.Contains(lower, "login(") || strings.Contains(lower, "credential(") || strings.Contains(lower, "password(") {
		s = patterns().call.ReplaceAllString(s, "${1}"+redacted)
	}
	return s
}

// takesSecret are parts of command lines that read a secret from a pipe.
var takesSecret = []string{"chpasswd", "sudo -S", "--password-stdin", "passwd --stdin", "smbpasswd -s", "cryptsetup", "--passphrase-fd 0"}

// hidePiped hides what a shell's command line writes into the pipe of such a program.
func hidePiped(s string) string {
	if !strings.Contains(s, "|") {
		return s
	}
	parts := strings.SplitAfter(s, "|")
	for i, part := range parts[:len(parts)-1] {
		reader := parts[i+1]
		if end := strings.IndexAny(reader, ";&|\n"); end >= 0 {
			reader = reader[:end]
		}
		from := strings.LastIndexAny(part, ";&(\n") + 1
		writer := strings.TrimLeft(part[from:], " ")
		for _, program := range []string{"echo ", "printf "} {
			if strings.HasPrefix(writer, program) && slices.ContainsFunc(takesSecret, func(t string) bool { return strings.Contains(reader, t) }) {
				parts[i] = part[:len(part)-len(writer)] + program + redacted + " |"
			}
		}
	}
	return strings.Join(parts, "")
}

// hideMembers hides values in what may be JSON, or a dictionary in code, with its quotes escaped or
// not.
func hideMembers(s string) string {
	if !strings.ContainsAny(s, `"'`) || !strings.ContainsAny(s, ":=,") {
		return s
	}
	var b strings.Builder
	done := 0
	for {
		m := patterns().member.FindStringSubmatchIndex(s[done:])
		if m == nil {
			break
		}
		at := func(i int) int { return done + m[i] }
		name, quote, between, start := s[at(4):at(5)], s[at(6):at(7)], s[at(8):at(9)], at(1)
		end := memberEnd(s, start)
		opened := at(2) > 0 && (s[at(2)-1] == '(' || name[0] == '-')
		value := strings.Trim(s[start:end], `\"'`)
		if strings.Contains(between, ",") && !opened || end == start || !hides(name, value) {
			next := at(3) // the closing quote may open another
			if strings.Contains(between, ":") {
				next = start
			}
			b.WriteString(s[done:next])
			done = next
			continue
		}
		b.WriteString(s[done:start] + quote + redacted)
		if open := s[start] == '"' || s[start] == '\'' || s[start] == '\\'; !open || end < len(s) || len(value) > 0 && strings.HasSuffix(s, quote) && end-start > 2*len(quote)-1 {
			b.WriteString(quote)
		}
		done = end
	}
	return b.String() + s[done:]
}

// memberEnd is the end of a value that begins at a place.
func memberEnd(s string, start int) int {
	i := start
	for i < len(s) && s[i] == '\\' {
		i++
	}
	switch {
	case i == len(s):
		return i
	case s[i] == '"' || s[i] == '\'':
		quote := s[start : i+1]
		for k := i + 1; k < len(s); k++ { // a quote with more backslashes is one of the text
			if strings.HasPrefix(s[k:], quote) && (s[k-1] != '\\' || len(quote) > 1 && k >= 1 && s[k-1] != '\\') {
				return k + len(quote)
			}
			if s[k] == '\\' && len(quote) == 1 && quote == `"` {
				k++
			}
		}
		return len(s)
	case s[i] == '[' || s[i] == '{':
		depth := 0
		for k := i; k < len(s); k++ {
			switch s[k] {
			case '[', '{':
				depth++
			case ']', '}':
				if depth--; depth == 0 {
					return k + 1
				}
			}
		}
		return len(s)
	}
	for i < len(s) && !strings.ContainsRune(" \t\n\r,{}[]\"'\\)", rune(s[i])) {
		i++
	}
	return i
}

// hideElements hides the text of elements, as in XML, whose names say that it is secret.
func hideElements(s string) string {
	if !strings.Contains(s, "</") {
		return s
	}
	var b strings.Builder
	done := 0
	for _, m := range patterns().element.FindAllStringSubmatchIndex(s, -1) {
		name := s[m[2]:m[3]]
		if i := strings.LastIndexByte(name, ':'); i >= 0 {
			name = name[i+1:]
		}
		if hides(name, s[m[4]:m[5]]) {
			b.WriteString(s[done:m[4]] + redacted)
			done = m[5]
		}
	}
	return b.String() + s[done:]
}

// isConnection tells whether a text is a connection string, as ADO, ODBC and JDBC have them:
// NAME=VALUE separated by semicolons, where values may have blanks.
func isConnection(s string) bool {
	parts := strings.Split(strings.Trim(s, `"' `), ";")
	if len(parts) < 2 {
		return false
	}
	for i, part := range parts {
		part = strings.TrimSpace(part)
		name, _, found := strings.Cut(part, "=")
		switch {
		case part == "" && i > 0:
		case i == 0 && strings.Contains(part, "://") && !strings.ContainsAny(part, " \t") && !strings.HasPrefix(part, "http"):
		case !found || len(name) > 40 || name == "" || strings.ContainsAny(name, "-/\\\"'$()&|<>,:\n"):
			return false
		}
	}
	return true
}

// hideAssigned hides values after secret names and = or a colon. Blanks end a value, unless blanks
// is set for a connection string.
func hideAssigned(s string, blanks bool) string {
	if !strings.ContainsAny(s, "=:") {
		return s
	}
	var b strings.Builder
	done := 0
	for i := 0; i < len(s); i++ {
		if s[i] != '=' && s[i] != ':' {
			continue
		}
		sign, start := s[i], i+1
		next := byte(0)
		if start < len(s) {
			next = s[start]
		}
		switch {
		case sign == ':' && (next == '/' && strings.HasPrefix(s[start:], "//") || next == '\\' && !strings.HasPrefix(s[start:], `\"`)), next == sign && (sign == ':' || blanks):
			i++
			continue
		case sign == ':' && next == '=', sign == '=' && next == '>':
			start++
		}
		from, to := nameBefore(s, i)
		name := s[from:to]
		if name == "" {
			continue
		}
		for blanks && start < len(s) && s[start] == ' ' {
			start++
		}
		if classOf(name) == harmless {
			continue
		}
		end := valueEnd(s, from, start, blanks)
		value := s[start:end]
		if sign == ':' && (isTag(s, from, value) || next == ' ' || s[to] == '"' || s[to] == '\'' || s[to] == '\\') || !hides(name, strings.TrimRight(strings.Trim(value, `\"'`), ",;:)]}")) {
			continue
		}
		b.WriteString(s[done:start] + redacted)
		done, i = end, end-1
	}
	return b.String() + s[done:]
}

// nameBefore gives the place of the name in front of a sign.
func nameBefore(s string, sign int) (from, to int) {
	to = sign
	for to > 0 && strings.ContainsRune(" +?", rune(s[to-1])) {
		to--
	}
	if to > 0 && s[to-1] == ']' { // of an element
		to--
	}
	for to > 0 && (s[to-1] == '"' || s[to-1] == '\'' || s[to-1] == '\\') {
		to--
	}
	from = to
	for from > 0 && to-from < 80 && (isWordByte(s[from-1]) || strings.ContainsRune("-.", rune(s[from-1])) || s[from-1] >= 0x80) {
		from--
	}
	return from, to
}

// isTag tells whether a colon stands between two parts of a name, as that of an image, or in front
// of a port.
func isTag(s string, from int, value string) bool {
	if from > 1 && strings.ContainsRune("/@", rune(s[from-1])) { // but /password:VALUE
		return true
	}
	if classOf(s[from:from+strings.IndexByte(s[from:], ':')]) == password {
		return false
	}
	value, _, _ = strings.Cut(value, "@")
	if value == "latest" || isNumber(value) && len(value) <= 5 {
		return true
	}
	digits := strings.TrimPrefix(value, "v")
	return digits != "" && len(value) < 20 && '0' <= digits[0] && digits[0] <= '9' && strings.Contains(digits, ".")
}

// valueEnd is the end of a value that begins at start, behind a name that begins at from.
func valueEnd(s string, from, start int, blanks bool) int {
	if start >= len(s) {
		return len(s)
	}
	for _, q := range []string{`"`, `'`, `\"`, `\'`, `\\\"`} {
		if strings.HasPrefix(s[start:], q) {
			if end := closing(s, start+len(q), q); end > 0 {
				return end
			}
			return len(s)
		}
	}
	for _, pair := range [][2]string{{"{{", "}}"}, {"{", "}"}, {"$(", ")"}} {
		if strings.HasPrefix(s[start:], pair[0]) {
			if end := strings.Index(s[start:], pair[1]); end > 0 {
				return start + end + len(pair[1])
			}
		}
	}
	inside := byte(0) // the quotes in which the name stands
	for i := range from {
		if c := s[i]; (c == '"' || c == '\'') && (inside == 0 || inside == c) {
			inside ^= c
		}
	}
	call := strings.Count(s[:from], "(") > strings.Count(s[:from], ")")
	for i := start; i < len(s); i++ {
		switch c := s[i]; {
		case inside != 0 && c == inside,
			!blanks && (c == ' ' || c == '\t'), c == '\n',
			strings.IndexByte("&;,|", c) >= 0 && begins(s[i+1:]),
			call && c == ')' && (i+1 == len(s) || !isWordByte(s[i+1])),
			blanks && c == ';':
			return i
		}
	}
	return len(s)
}

// begins tells whether another name and value begin here, or nothing more comes.
func begins(s string) bool {
	if s == "" {
		return true
	}
	name, _, found := strings.Cut(strings.TrimLeft(s[:min(len(s), 50)], " "), "=")
	return found && name != "" && len(name) <= 40 && strings.IndexFunc(name, func(c rune) bool {
		return !isWordByte(byte(c&0x7f)) && c < 0x80 && !strings.ContainsRune(" -.[]$%", c)
	}) < 0
}

// hideLogin hides the password in NAME:PASSWORD@HOST without a scheme, and that of Oracle's
// jdbc:oracle:thin:NAME/PASSWORD@HOST.
func hideLogin(s string) string {
	if rest, found := strings.CutPrefix(strings.Trim(s, `"'`), "jdbc:oracle:"); found {
		if user, _, slash := strings.Cut(rest, "/"); slash && !strings.Contains(user, "@") {
			if at := strings.IndexByte(s, '@'); at > 0 {
				return s[:strings.IndexByte(s, '/')+1] + redacted + s[at:]
			}
		}
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s
	}
	colon := strings.IndexByte(s[:at], ':')
	host := s[at+1:]
	switch {
	case colon < 1 || colon+1 == at, strings.Contains(s, "://"), strings.ContainsAny(s[colon:at], "/ \"'<>=,;") && !strings.HasPrefix(host, "tcp("),
		host == "" || !isWordByte(host[0]), slices.Contains([]string{"mailto", "npm", "sip", "acct", "xmpp", "workspace"}, s[:colon]), strings.HasPrefix(host, "sha256:"), strings.HasPrefix(host, "sha512:"), !isName(s[max(strings.LastIndexByte(s[:colon], '/'), strings.LastIndexByte(s[:colon], '\\'))+1 : colon]):
		return s
	}
	return s[:colon+1] + redacted + s[at:]
}
