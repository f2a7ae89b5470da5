package python

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

const redacted = "***"

// secretWords in the name of an option, a variable, a header, a JSON member or a query key make its value a secret; secretNames do if they are all of it.
var (
	secretWords = []string{"password", "passwd", "passphrase", "token", "secret", "apikey", "api-key", "api_key", "auth", "credential", "private-key", "signature", "cookie"}
	secretNames = []string{"sig", "key", "pass", "pwd", "passin", "passout"}
)

func isSecret(name string) bool {
	name = strings.Trim(strings.ToLower(name), `-'"`)
	if !strings.Contains(name, "authoriz") {
		name = strings.ReplaceAll(name, "author", "")
	}
	return slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(name, w) }) || slices.Contains(secretNames, name)
}

// secretOptions are those of programs whose names begin so: a secret follows in the same word, or, if loose, in the next one.
var secretOptions = []struct {
	program, option string
	loose           bool
}{
	{"mysql", "-p", false}, {"mariadb", "-p", false}, {"7z", "-p", false},
	{"sshpass", "-p", true}, {"mongo", "-p", true}, {"redis-cli", "-a", true}, {"ldap", "-w", true}, {"zip", "-P", true}, {"unzip", "-P", true},
}

// patterns are made when the first program is started: most runs start none.
var patterns = sync.OnceValue(func() (p struct{ token, member, query *regexp.Regexp }) {
	p.token = regexp.MustCompile(`\b(gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|p3r_|AKIA|ASIA|eyJ|sk-)[\w.~+/=-]{16,}`)
	p.member = regexp.MustCompile(`(\\?["'])([\w .-]+)(\\?["']\s*:\s*)(\\".*?\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,{}\[\]"'\\]+)`)
	p.query = regexp.MustCompile(`([?&#;])([^=?&#;]+)=([^&#;]+)`)
	return p
})

// redact hides secrets in a command line: the values of options, variables, headers and JSON members with telling names, what a few programs take as
// a password, credentials and query values in URLs, and tokens that can be told by their beginning. It knows words: a secret in another place stays
// visible.
func redact(argv []string) []string {
	out := slices.Clone(argv)
	r := redactor{program: path.Base(argv[0])}
	for i := 1; i < len(out); i++ {
		name, value, found := strings.Cut(out[i], "=")
		switch {
		case r.next != nil:
			out[i], r.next = r.next(out[i]), nil
		case found && isSecret(name) && !strings.ContainsAny(name, " /?:"): // the value may have blanks
			if value != "" {
				out[i] = name + "=" + redacted
			}
		case strings.ContainsAny(out[i], " \n"):
			out[i] = redactText(out[i])
		default:
			out[i] = r.word(redactMembers(out[i]))
		}
	}
	return out
}

// redactText is for an argument of several words: a shell's command line, a header, a connection string.
func redactText(text string) string {
	first, rest, more := strings.Cut(text, "\n")
	if more {
		rest = "\n" + redactText(rest)
	}
	words := strings.Split(redactMembers(first), " ")
	if name, header := strings.CutSuffix(words[0], ":"); header && isHeader(name) { // it is nothing else
		kept := 1
		if len(words) > 2 && isScheme(words[1]) {
			kept = 2
		}
		return strings.Join(append(words[:kept], redacted), " ") + rest
	}
	r := redactor{}
	for i, w := range words {
		if w != "" {
			words[i] = r.word(w)
		}
	}
	return strings.Join(words, " ") + rest
}

// A redactor goes through words one after the other.
type redactor struct {
	program string                   // whose options they are
	next    func(word string) string // what is shown of the next word; nil: it decides itself
}

func (r *redactor) word(w string) string {
	if next := r.next; next != nil {
		r.next = nil
		if isScheme(w) { // "Authorization: Bearer VALUE": it is no secret, what follows it is
			r.next = next
			return w
		}
		return next(w)
	}
	bare := strings.Trim(w, `'"`)
	for _, o := range secretOptions {
		if strings.HasPrefix(path.Base(bare), o.program) {
			r.program = path.Base(bare)
		}
		if !strings.HasPrefix(r.program, o.program) || !strings.HasPrefix(bare, o.option) {
			continue
		}
		if bare != o.option {
			return o.option + redacted
		}
		if o.loose {
			r.next = hide
			return w
		}
	}
	if strings.HasSuffix(w, ";") || w == "|" || w == "&&" || w == "||" {
		r.program = ""
	}
	name, value, assigned := strings.Cut(w, "=")
	switch {
	case strings.Contains(w, "://"):
		return redactURL(w)
	case bare == "-u" || bare == "-U" || bare == "--user" || bare == "--proxy-user":
		r.next = hidePassword
	case assigned && (name == "--user" || name == "--proxy-user"):
		return name + "=" + hidePassword(value)
	case assigned && value != "" && isSecret(name):
		return name + "=" + redacted
	case strings.HasPrefix(w, "-") && !assigned && !strings.Contains(w, ":") && isSecret(w):
		r.next = hide
	default:
		name, value, header := strings.Cut(w, ":")
		switch {
		case !header || !isHeader(name):
			return redactTokens(w)
		case value == "" || isScheme(value):
			r.next = hide
		default:
			return name + ":" + redacted
		}
	}
	return w
}

// isHeader tells whether what stands before a colon names a secret. The quoted name of a JSON member does not: see redactMembers.
func isHeader(name string) bool {
	return isSecret(name) && strings.TrimRight(name, `"'`) == name
}

// isScheme tells whether a word is the scheme of an Authorization header.
func isScheme(word string) bool {
	return slices.Contains([]string{"bearer", "basic", "digest", "token"}, strings.ToLower(word))
}

func hide(string) string { return redacted }

// hidePassword hides what stands behind a user's name. Two numbers are a user and a group.
func hidePassword(word string) string {
	if strings.Contains(word, "://") {
		return redactURL(word)
	}
	user, password, found := strings.Cut(word, ":")
	if !found || strings.Trim(user+password, `0123456789'"`) == "" {
		return redactTokens(word)
	}
	return user + ":" + redacted
}

// LooksSecret tells whether a name is more likely a key that was put in its place: it begins like one, or is long and mixed like one.
func LooksSecret(name string) bool {
	const long, capitals, small, digits = 40, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789"
	return redactTokens(name) != name ||
		len(name) >= long && strings.ContainsAny(name, capitals) && strings.ContainsAny(name, small) && strings.ContainsAny(name, digits) && !strings.Contains(name, "_")
}

func redactTokens(text string) string {
	return patterns().token.ReplaceAllString(text, "${1}"+redacted)
}

// redactMembers hides values in what may be JSON, with its quotes escaped or not.
func redactMembers(text string) string {
	if !strings.Contains(text, ":") {
		return text
	}
	return patterns().member.ReplaceAllStringFunc(text, func(member string) string {
		part := patterns().member.FindStringSubmatch(member)
		if !isSecret(part[2]) {
			return member
		}
		quote := strings.TrimRight(part[3], ": \t")
		return part[1] + part[2] + part[3] + quote + redacted + quote
	})
}

func redactURL(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	host, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		if user, _, found := strings.Cut(host[:at], ":"); found {
			host = user + ":" + redacted + host[at:]
		}
	}
	path = patterns().query.ReplaceAllStringFunc(path, func(pair string) string {
		if name, _, _ := strings.Cut(pair, "="); isSecret(name[1:]) {
			return name + "=" + redacted
		}
		return pair
	})
	return redactTokens(scheme + "://" + host + path)
}
