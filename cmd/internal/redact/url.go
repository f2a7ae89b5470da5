package redact

import (
	"net/url"
	"strings"
)

// secretPaths are services whose addresses are secrets: the part after this path is.
var secretPaths = []struct{ host, path string }{
	{"hooks.slack.com", "/services/"}, {"hooks.slack.com", "/workflows/"}, {"hooks.slack.com", "/triggers/"},
	{"discord.com", "/api/webhooks/"}, {"discordapp.com", "/api/webhooks/"},
	{"webhook.office.com", "/webhookb2/"}, {"outlook.office.com", "/webhook/"},
	{"api.telegram.org", "/bot"}, {"hooks.zapier.com", "/hooks/catch/"}, {"maker.ifttt.com", "/with/key/"}, {"tines.com", "/webhook/"},
}

// hideURLs hides credentials and values of secret names in the URLs of a word.
func hideURLs(s string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, "://")
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		from := i
		for from > 0 && (isWordByte(s[from-1]) || strings.IndexByte("+.-", s[from-1]) >= 0) {
			from--
		}
		scheme := strings.ToLower(s[from:i])
		end := i + 3
		for end < len(s) && strings.IndexByte(" \t\n\"'<>`\\", s[end]) < 0 {
			end++
		}
		if next := strings.Index(s[i+3:end], "://"); next >= 0 && strings.LastIndexAny(s[i+3:i+3+next], ",;|&") >= 0 { // a list of them
			end = i + 3 + strings.LastIndexAny(s[i+3:i+3+next], ",;|&") + 1
		}
		b.WriteString(s[:i+3] + hideURL(scheme, s[i+3:end]))
		s = s[end:]
	}
}

// hideURL hides the secrets in a URL, whose scheme is cut off.
func hideURL(scheme, rest string) string {
	host, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, tail = rest[:i], rest[i:]
	}
	if i := strings.IndexByte(host, ';'); i >= 0 && !strings.Contains(host[i:], "@") {
		host, tail = rest[:i], rest[i:]
	}
	if user, port, found := strings.Cut(host, ":"); found && !strings.Contains(host, "@") && !isNumber(port) && !strings.HasPrefix(user, "[") { // a password with such characters
		at := strings.LastIndexByte(rest, '@')
		switch {
		case port == "":
		case at < 0 && tail == "" && !strings.ContainsAny(port, ",${}%"): // no port: it was a password, and what followed was cut
			return user + ":" + redacted
		case at >= 0:
			host, tail = rest, ""
			if i := strings.IndexAny(rest[at:], "/?#;"); i >= 0 {
				host, tail = rest[:at+i], rest[at+i:]
			}
		}
	}
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		user, password, both := strings.Cut(host[:at], ":")
		anonymous := strings.Contains(scheme, "http") || scheme == "ws" || scheme == "wss" || strings.HasPrefix(scheme, "redis") || scheme == "nats"
		if shown := hideTokens(user); shown != user || anonymous && user != "" && (!both || password == "" || strings.HasPrefix(password, "x-")) {
			if user = shown; !strings.HasSuffix(shown, redacted) {
				user = redacted
			}
		}
		if both && password != "" {
			user += ":" + redacted
		} else if both {
			user += ":"
		}
		host = user + host[at:]
	}
	for _, p := range secretPaths {
		if strings.HasSuffix(host, p.host) {
			if i := strings.Index(tail, p.path); i >= 0 && len(tail) > i+len(p.path) {
				tail = tail[:i+len(p.path)] + redacted
			}
		}
	}
	return host + hideQuery(tail)
}

// hideQuery hides values in the query of a URL, in its fragment, and after semicolons.
func hideQuery(tail string) string {
	start := strings.IndexAny(tail, "?#&;")
	if start < 0 {
		return tail
	}
	var b strings.Builder
	b.WriteString(tail[:start])
	for rest := tail[start:]; rest != ""; {
		end := strings.IndexAny(rest[1:], "?#&;") + 1
		if end == 0 {
			end = len(rest)
		}
		pair := rest[1:end]
		name, value, found := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if err != nil {
			plain = name
		}
		long := (strings.EqualFold(plain, "code") || strings.EqualFold(plain, "hmac")) && len(value) >= 12 // of OAuth, of functions
		switch {
		case found && (long || hides(plain, value) || classOf(plain) == secret && isPath(value)):
			pair = name + "=" + redacted
		case found && strings.Contains(value, "%"): // a connection string within
			if inner, err := url.QueryUnescape(value); err == nil && strings.ContainsAny(inner, "=:") {
				if shown := (&redactor{}).value(inner); shown != inner {
					pair = name + "=" + strings.ReplaceAll(url.QueryEscape(shown), "%2A", "*")
				}
			}
		}
		b.WriteString(rest[:1] + pair)
		rest = rest[end:]
	}
	return b.String()
}
