// Package redact hides secrets in what is recorded: command lines, URLs, and values with telling names.
package redact

import (
	"path"
	"slices"
	"strings"
)

const redacted = "***"

// argumentMost bounds an argument, in bytes.
const argumentMost = 4096

// Args hides secrets in a command line, whose first element is the program: the values of options, variables, headers, members and elements with
// telling names (secretname.go), what programs are known to take as a password (the tables below), credentials and values in URLs
// (redacturl.go), private keys, and tokens that can be told by how they begin (tokens.go). It knows words: a secret in another place stays visible.
// A long argument is cut, and ends in an ellipsis.
func Args(argv []string) (out []string) {
	out = slices.Clone(argv)
	defer func() {
		if recover() != nil { // what is wrong here costs neither the result nor a secret
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
		} else if r.before[0] = programName(arg); known(r.before[0]) {
			r.program = r.before[0]
		}
	}
	return out
}

// A form says where an option has its secret.
type form uint8

const (
	attached  form = iota // in the same word
	loose                 // there, or in the next
	following             // in the next
	account               // as loose, behind a user's name
)

// secretOptions are those of programs whose names begin so; a short name is the whole name.
var secretOptions = []struct {
	programs, options string // between blanks
	form              form
}{
	{"mysql mariadb 7z 7za 7zr 7zz rar unrar", "-p", attached},
	{"rar unrar", "-hp", attached},
	{"sshpass mycli mongo psexec rdesktop smbmap useradd usermod cqlsh cypher-shell rabbitmqadmin ncftp racadm twine poetry hydra crackmapexec netexec evil-winrm xfreerdp wlfreerdp", "-p", loose},
	{"ssh-keygen", "-N -P", loose},
	{"pdftotext pdftoppm pdfinfo", "-upw -opw", following},
	{"swaks", "-ap", following},
	{"sendemail sendEmail", "-xp", following},
	{"vercel", "-t", following},
	{"dotnet", "-k", following},
	{"ConvertTo-SecureString", "-String", following},
	{"plink pscp psftp putty", "-pw", following},
	{"redis-cli valkey-cli keydb-cli", "-a", loose},
	{"ldappasswd", "-a -s", loose},
	{"ldap", "-w", loose},
	{"zip unzip sqlcmd osql tsql bcp ipmitool mosquitto", "-P", loose},
	{"snmp", "-c -A -X", loose},
	{"openssl", "-k -K -hmac", following},
	{"schtasks", "/rp", loose},
	{"xfreerdp wlfreerdp signtool", "/p", loose},
	{"curl", "-u -U -E", account},
	{"http https xh", "-a", account},
	{"lftp", "-u", account},
	{"smbclient smbget smbcacls smbtree rpcclient winexe", "-U", account},
}

// secretWords are followed by a secret, as words of these programs.
var secretWords = []struct{ programs, words string }{
	{"mysqladmin nmcli", "password"},
	{"redis-cli valkey-cli keydb-cli", "auth requirepass masterauth"},
	{"iwconfig", "key enc"},
	{"vault", "login unseal"},
	{"cargo", "login"},
	{"snyk", "auth"},
	{"pdftk", "input_pw user_pw owner_pw"},
}

// secretPlaces are the words of programs that are secrets themselves: the one behind so many others that are no options.
var secretPlaces = []struct {
	programs string
	words    int
}{{"wpa_passphrase", 1}, {"ConvertTo-SecureString mkpasswd", 0}}

// storing begins what puts secrets away, after the two words before it: then each NAME=VALUE is one, and what these options have.
var (
	storing       = [][2]string{{"secret", "set"}, {"secrets", "set"}, {"kv", "put"}, {"ssm", "put-parameter"}}
	storedOptions = []string{"--value", "--body", "-b"}
)

// accountOptions have a user's name and a password; with some programs a group, which loginOptions never have.
var accountOptions = []string{"-u", "-U", "--user"}

var loginOptions = []string{"--proxy-user", "--creds", "--src-creds", "--dest-creds", "--userpass", "--basic-auth", "--cert", "--proxy-cert"}

// groupPrograms have a user and a group in the same place, in front of what they run: behind so many words that are no options.
var groupPrograms = []struct {
	programs string
	words    int
}{{"docker podman nerdctl", 3}, {"sudo su chroot runuser setpriv", 0}}

// accountPrograms name an account as user/password.
var accountPrograms = []string{"sqlplus", "sqlldr", "expdp", "impdp", "exp", "imp", "rman", "tnsping"}

// among tells whether a program is one of those in a list, between blanks; more than three characters may be the beginning of a name.
func among(list, program string) bool {
	if program == "" {
		return false
	}
	for name := range strings.FieldsSeq(list) {
		if program == name || len(name) > 3 && strings.HasPrefix(program, name) {
			return true
		}
	}
	return false
}

// programName is the name of what may be a program; empty if it cannot be one.
func programName(word string) string {
	name := strings.TrimSuffix(path.Base(strings.Trim(word, "'\"`$()\\")), ".exe")
	if name == "" || name[0] == '-' || strings.ContainsAny(name, " \t\n;.=:@,%{}") {
		return ""
	}
	return name
}

// known tells whether the tables have something of a program.
func known(program string) bool {
	for _, o := range secretOptions {
		if among(o.programs, program) {
			return true
		}
	}
	for _, w := range secretWords {
		if among(w.programs, program) {
			return true
		}
	}
	for _, g := range groupPrograms {
		if among(g.programs, program) {
			return true
		}
	}
	for _, p := range secretPlaces {
		if among(p.programs, program) {
			return true
		}
	}
	return slices.Contains(accountPrograms, program) || program == "htpasswd"
}

// A redactor goes through words one after the other.
type redactor struct {
	program string                   // whose options they are
	plain   int                      // how many words it had that are no options
	login   bool                     // its first one was login
	words   int                      // htpasswd has its password as the last of so many of them; 0: nowhere
	storing bool                     // NAME=VALUE is a secret whatever the name
	before  [3]string                // the words before, the last one first
	next    func(word string) string // what is shown of the next word; nil: it decides itself
	shell   bool                     // words are of a text, with quotes
}

// argument is a whole element of a command line, which may have blanks.
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

// begin takes note of a program.
func (r *redactor) begin(w string) string {
	r.program, r.plain, r.login, r.words = programName(w), 0, false, 0
	return w
}

// option hides the secret of an option, here or in the next word.
func (r *redactor) option(w string) (shown string, done bool) {
	bare := strings.Trim(w, `'"`)
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
	if letters := bare[1:]; len(letters) > 1 && len(letters) < 6 && isLetters(letters) { // several options in one word, the last of which has a value
		for _, o := range secretOptions {
			if o.form == attached || !among(o.programs, r.program) || !slices.Contains(strings.Fields(o.options), "-"+letters[len(letters)-1:]) {
				continue
			}
			if r.next = hide; o.form == account {
				r.next = r.account
			}
			return w, true
		}
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

// optionName is the name that an option sets: of -Dkey=value and the like it begins behind the letter.
func optionName(option string) string {
	if len(option) > 3 && option[0] == '-' && strings.IndexByte("deDEFPX", option[1]) >= 0 && classOf(option) == harmless {
		return option[2:]
	}
	return option
}

// valueOf hides the value of an option in the next word, unless that is another option: then this one has none.
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
	// "config set NAME VALUE", "password 'x'" and "identified by 'x'" of SQL, "login NAME password VALUE" of netrc.
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

// account hides what stands behind a user's name.
func (r *redactor) account(word string) string {
	for _, g := range groupPrograms {
		if r.plain <= g.words && among(g.programs, r.program) {
			return hideTokens(word)
		}
	}
	return r.credentials(word)
}

// credentials does the same where no group can stand. Two numbers are a user and a group all the same.
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

// value hides what a word or a text gives away by itself.
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

// mentioned hides what follows a name and a colon, unless it reads as prose or code does.
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

// text is for several words: a shell's command line, a header, code.
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

// splitWords takes a text apart as a shell would, more or less. An apostrophe within a word is none of its quotes.
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

// closing is the place behind the closing quote of what begins at a place; 0 if there is none.
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

// quoted takes the quotes of a whole word off.
func quoted(s string) (quote, inner string, whole bool) {
	if len(s) < 2 || s[0] != '"' && s[0] != '\'' || closing(s, 1, s[:1]) != len(s) {
		return "", s, false
	}
	return s[:1], s[1 : len(s)-1], true
}

func unquoted(s string) string { _, inner, _ := quoted(s); return inner }

// headerOf gives a line that is a header with its value hidden, and its scheme kept.
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

// isHeader tells whether what stands before a colon names a secret. The quoted name of a JSON member does not: see hideMembers.
func isHeader(name string) bool {
	return classOf(name) != harmless && strings.TrimRight(name, `"'`) == name
}

// isScheme tells whether a word is the scheme of an Authorization header.
func isScheme(word string) bool {
	return slices.Contains([]string{"bearer", "basic", "digest", "token", "negotiate", "ntlm", "apikey", "api-key", "geniekey", "ssws", "splunk", "aws4-hmac-sha256"}, strings.ToLower(word))
}

func hide(string) string { return redacted }

// LooksSecret tells whether a name is more likely a key that was put in its place: it begins like one, or is long and mixed like one.
func LooksSecret(name string) bool {
	const long, capitals, small, digits = 40, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789"
	return hideTokens(name) != name ||
		len(name) >= long && strings.ContainsAny(name, capitals) && strings.ContainsAny(name, small) && strings.ContainsAny(name, digits) && !strings.Contains(name, "_")
}
