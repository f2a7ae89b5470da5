package redact

import (
	"slices"
	"strings"
)

// positional hides words that are secrets by their place.
func (r *redactor) positional(w string) (shown string, done bool) {
	bare := strings.Trim(w, `'"`)
	lower := strings.ToLower(bare)
	r.plain++
	r.login = r.login || lower == "login"
	for _, s := range secretWords {
		if !among(s.programs, r.program) {
			continue
		}
		for word := range strings.FieldsSeq(s.words) {
			if lower == word {
				r.next = func(w string) string {
					if strings.HasPrefix(w, "-") {
						return r.shown(w)
					}
					return redacted
				}
				return w, true
			}
		}
	}
	for _, p := range secretPlaces {
		if r.plain == p.words+1 && among(p.programs, r.program) {
			return redacted, true
		}
	}
	switch {
	case r.words > 0 && r.plain == r.words:
		return redacted, true
	case r.storing && strings.Contains(w, "="):
		name, _, _ := strings.Cut(w, "=")
		return name + "=" + redacted, true
	case strings.HasPrefix(w, ">") && len(w) > 1 && !r.shell && strings.HasPrefix(r.program, "redis"): // of an access list
		return ">" + redacted, true
	case r.program == "nmcli" && (strings.HasSuffix(lower, ".psk") || strings.HasSuffix(lower, ".password")), !r.shell && strings.HasSuffix(w, "=") && classOf(w[:len(w)-1]) == password:
		r.next = hide
		return w, true
	case slices.Contains(accountPrograms, r.program):
		user, rest, found := strings.Cut(bare, "/")
		user = user[strings.LastIndexByte(user, '=')+1:]
		if password, _, _ := strings.Cut(rest, "@"); found && user != "" && password != "" && !strings.ContainsAny(user, `.\`) {
			i := strings.Index(w, "/"+password)
			at := w[i+1+len(password):]
			if at == `"` || at == "'" {
				at = ""
			}
			return w[:i+1] + redacted + at, true
		}
	}
	return r.afterWords(w, bare)
}

// afterWords hides what comes after words that announce it: "config set NAME VALUE", "password 'x'"
// and "identified by 'x'" of SQL, "login NAME password VALUE" of netrc.
func (r *redactor) afterWords(w, bare string) (shown string, done bool) {
	lower := strings.ToLower(bare)
	switch before, earlier := strings.ToLower(r.before[0]), strings.ToLower(r.before[1]); {
	case slices.Contains([]string{"set", "config", "--global", "--local", "--system"}, before) && (strings.ContainsAny(bare, "._:") || lower != bare && strings.ToUpper(bare) != bare) && !strings.Contains(bare, "=") && classOf(bare) != harmless,
		lower == "password" && earlier == "login", lower == "psk":
		r.next = r.valueOf("password")
		return w, true
	case lower == "authorization":
		r.next = func(w string) string {
			if r.shell && !strings.HasPrefix(w, `"`) && !strings.HasPrefix(w, "'") { // prose
				return r.shown(w)
			}
			return redacted
		}
		return w, true
	case lower == "basic" || lower == "bearer":
		r.next = func(w string) string {
			if len(w) < 8 || isName(w) && !isMixed(w) || w[0] == '-' {
				return r.shown(w)
			}
			return redacted
		}
		return w, true
	case before == "by" && (earlier == "identified" || strings.EqualFold(r.before[2], "with")),
		earlier == "add_user" || earlier == "change_password", strings.HasPrefix(earlier, "http-basic."), strings.HasPrefix(before, "github-oauth."), strings.HasPrefix(before, "gitlab-token."),
		earlier == "use" && strings.HasPrefix(strings.Trim(before, `'"`), `\\`) && lower != "*" && w[0] != '/', earlier == "user" && r.before[2] == "net" && lower != "*":
		return redacted, true
	}
	return "", false
}

// account hides what stands after a user's name.
func (r *redactor) account(word string) string {
	for _, g := range groupPrograms {
		if r.plain <= g.words && among(g.programs, r.program) {
			return hideTokens(word)
		}
	}
	return r.credentials(word)
}

// credentials does the same where no group can stand. Two numbers are still a user and a group.
func (r *redactor) credentials(word string) string {
	if strings.Contains(word, "://") {
		return r.value(word)
	}
	bare := strings.Trim(word, `'"`)
	separator := ":"
	if !strings.Contains(bare, ":") {
		separator = "%" // of smbclient
		if r.program == "lftp" {
			separator = ","
		}
	}
	user, password, found := strings.Cut(bare, separator)
	switch {
	case !found || strings.Trim(user+password, "0123456789") == "":
		return hideTokens(word)
	case password == "": // then the name is what counts
		return redacted + separator
	}
	end := ""
	if quote, _, whole := quoted(word); whole {
		end = quote
	}
	return word[:strings.IndexByte(word, separator[0])+1] + redacted + end
}
