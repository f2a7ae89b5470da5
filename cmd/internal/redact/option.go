package redact

import (
	"slices"
	"strings"
)

// option hides the secret of an option, here or in the next word.
func (r *redactor) option(w string) (shown string, done bool) {
	bare := strings.Trim(w, `'"`)
	if shown, done = r.programOption(w, bare); done {
		return shown, true
	}
	if shown, done = r.clusteredOption(w, bare); done {
		return shown, true
	}
	if r.program == "htpasswd" && !strings.HasPrefix(bare, "--") && strings.Contains(bare, "b") {
		r.words = 3
		if strings.Contains(bare, "n") {
			r.words = 2
		}
	}
	if rest, found := strings.CutPrefix(bare, "-H"); found && strings.Contains(rest, ":") { // of a header
		return "-H" + r.value(w[strings.Index(w, "-H")+2:]), true
	}
	separator := "="
	if bare[0] == '/' { // as on Windows
		separator = ":"
		if strings.Contains(bare[1:], "/") && !strings.Contains(bare, ":") {
			return "", false
		}
	}
	name, value, assigned := strings.Cut(w, separator)
	if strings.ContainsAny(name, " \t\n?:") {
		return "", false
	}
	if shown, done = r.loginOption(w, bare, name, separator, value, assigned); done {
		return shown, true
	}
	switch {
	case assigned && hides(optionName(name), unquoted(value)):
		return name + separator + redacted, true
	case assigned && strings.HasPrefix(name, "-"):
		return name + separator + r.value(value), true
	case !assigned && strings.HasPrefix(w, "-") && classOf(optionName(bare)) != harmless:
		r.next = r.valueOf(bare)
		return w, true
	}
	return "", false
}

// programOption hides the secret of an option that the program is known to have.
func (r *redactor) programOption(w, bare string) (shown string, done bool) {
	for _, o := range secretOptions {
		if !among(o.programs, r.program) {
			continue
		}
		for option := range strings.FieldsSeq(o.options) {
			rest, found := strings.CutPrefix(bare, option)
			hidden := hide
			if o.form == account {
				hidden = r.account
			}
			switch {
			case !found, rest != "" && o.form == following:
			case rest == "":
				if o.form != attached {
					r.next = hidden
				}
				return w, true
			case o.form == account && !strings.ContainsAny(rest, ":%,"):
			default:
				separator := ""
				if rest[0] == '=' || rest[0] == ':' {
					separator = rest[:1]
				}
				return option + separator + hidden(rest[len(separator):]), true
			}
		}
	}
	return "", false
}

// clusteredOption hides the secret of the last of several options in one word.
func (r *redactor) clusteredOption(w, bare string) (shown string, done bool) {
	letters := bare[1:]
	if len(letters) < 2 || len(letters) > 5 || !isLetters(letters) {
		return "", false
	}
	for _, o := range secretOptions {
		if o.form == attached || !among(o.programs, r.program) || !slices.Contains(strings.Fields(o.options), "-"+letters[len(letters)-1:]) {
			continue
		}
		if r.next = hide; o.form == account {
			r.next = r.account
		}
		return w, true
	}
	return "", false
}

// loginOption hides the secret of an option that logs in or stores a secret, whatever its name
// says.
func (r *redactor) loginOption(w, bare, name, separator, value string, assigned bool) (shown string, done bool) {
	switch {
	case r.storing && slices.Contains(storedOptions, name):
		if assigned {
			return name + separator + redacted, true
		}
		r.next = hide
		return w, true
	case r.storing && strings.HasPrefix(bare, "-b"):
		return "-b" + redacted, true
	case name == "--from-literal" && strings.Contains(value, "="):
		key, _, _ := strings.Cut(value, "=")
		return name + "=" + key + "=" + redacted, true
	case r.login && strings.HasPrefix(bare, "-p") && len(bare) > 2 && among(groupPrograms[0].programs, r.program):
		return "-p" + redacted, true
	case r.login && bare == "-p":
		r.next = func(w string) string {
			if isNumber(w) && len(w) <= 5 { // a port
				return w
			}
			return redacted
		}
		return w, true
	case (bare == "-b" || bare == "--cookie") && r.program == "curl": // a file, or the cookies themselves
		r.next = func(w string) string {
			if strings.Contains(w, "=") {
				return redacted
			}
			return w
		}
		return w, true
	case slices.Contains(accountOptions, name) && assigned:
		return name + "=" + r.account(value), true
	case slices.Contains(accountOptions, name):
		r.next = r.account
		return w, true
	case slices.Contains(loginOptions, name) && assigned:
		return name + "=" + r.credentials(value), true
	case slices.Contains(loginOptions, name):
		r.next = r.credentials
		return w, true
	}
	return "", false
}

// optionName is the name that an option sets: of -Dkey=value and the like it begins after the
// letter.
func optionName(option string) string {
	if len(option) > 3 && option[0] == '-' && strings.IndexByte("deDEFPX", option[1]) >= 0 && classOf(option) == harmless {
		return option[2:]
	}
	return option
}

// valueOf hides the value of an option in the next word. If that is another option, this one has no
// value.
func (r *redactor) valueOf(option string) func(string) string {
	return func(w string) string {
		bare := strings.Trim(w, `'"`)
		if strings.HasPrefix(bare, "--") && len(bare) > 2 || len(bare) == 2 && bare[0] == '-' || r.shell && strings.Trim(w, "|&;<>12") == "" {
			return r.shown(w)
		}
		if classOf(option) == scheme && isScheme(bare) {
			r.next = r.valueOf(option)
			return w
		}
		if !hides(option, bare) {
			return r.value(w)
		}
		return redacted
	}
}
