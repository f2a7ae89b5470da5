package python

import (
	"slices"
	"strings"
)

const redacted = "***"

// secretWords in an option's, a variable's or a query key's name make its value a secret.
var secretWords = []string{"password", "passwd", "passphrase", "token", "secret", "apikey", "api-key", "api_key", "auth", "credential", "private-key"}

func isSecret(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(name, w) }) || name == "sig" || name == "key"
}

// redact hides secrets in a command line: the values of options and variables with telling names, -pVALUE of the
// MySQL clients, credentials and query values in URLs, Authorization headers. It knows words, not programs: a secret in another
// place stays visible.
func redact(argv []string) []string {
	out := slices.Clone(argv)
	hideNext := false
	for i := 1; i < len(out); i++ {
		arg := out[i]
		if hideNext {
			out[i], hideNext = redacted, false
			continue
		}
		switch name, value, found := strings.Cut(arg, "="); {
		case strings.HasPrefix(arg, "-p") && len(arg) > 2 && strings.Contains(argv[0], "mysql"):
			out[i] = "-p" + redacted
			continue
		case found && isSecret(strings.TrimLeft(name, "-")) && !strings.ContainsAny(name, " /"):
			if value != "" {
				out[i] = name + "=" + redacted
			}
			continue
		case !found && strings.HasPrefix(arg, "-") && isSecret(strings.TrimLeft(arg, "-")) && !strings.Contains(arg, " "):
			hideNext = true
			continue
		}
		out[i] = redactWords(arg)
	}
	return out
}

// redactWords goes through a text word by word: a shell's command line, a header, a URL.
func redactWords(text string) string {
	if first, rest, found := strings.Cut(text, "\n"); found {
		return redactWords(first) + "\n" + redactWords(rest)
	}
	words := strings.Split(text, " ")
	hideNext := false
	for i, w := range words {
		lower := strings.ToLower(w)
		switch {
		case hideNext && w != "":
			words[i] = redacted
			// "Authorization: Bearer VALUE": the scheme is no secret, what follows it is
			hideNext = lower == "bearer" || lower == "basic"
			if hideNext {
				words[i] = w
			}
		case strings.Contains(w, "://"):
			words[i] = redactURL(w)
		case strings.Contains(w, ":") && isSecret(w[:strings.IndexByte(w, ':')]): // a header
			if name, value, _ := strings.Cut(w, ":"); value != "" {
				words[i] = name + ":" + redacted
			} else {
				hideNext = true
			}
		default:
			if name, value, found := strings.Cut(w, "="); found && value != "" && isSecret(strings.TrimLeft(name, "-'\"")) {
				words[i] = name + "=" + redacted
			} else if strings.HasPrefix(w, "-") && !found && isSecret(strings.TrimLeft(w, "-")) {
				hideNext = true
			}
		}
	}
	return strings.Join(words, " ")
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
	if before, query, found := strings.Cut(path, "?"); found {
		pairs := strings.Split(query, "&")
		for i, p := range pairs {
			if name, value, found := strings.Cut(p, "="); found && value != "" && isSecret(name) {
				pairs[i] = name + "=" + redacted
			}
		}
		path = before + "?" + strings.Join(pairs, "&")
	}
	return scheme + "://" + host + path
}
