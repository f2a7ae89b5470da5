package redact

import (
	"slices"
	"strings"
	"sync"
	"unicode"
)

// A class is what a name says about its value.
type class uint8

const (
	harmless class = iota
	password       // a secret, whatever it looks like
	secret         // a secret, or the path of a file with one
	scheme         // a secret, or the name of a way to prove who one is
	counted        // a secret, or a number of tokens
	session        // a secret, if it is long
)

// What names are made of, between blanks.
const (
	passwordParts = "password passwd passphrase passwort passcode passkey kennwort pswd"
	secretParts   = "secret apikey signature accesskey privatekey masterkey encryptionkey signingkey sharedkey accountkey authkey storagekey licensekey clientsecret samlresponse connectionkey appkey consumerkey deploykey authcode accesscode"
	lastParts     = "token cookie cookies creds cred credential credentials auth oauth sig key keys pass pw pwd psk passin passout jwt bearer mnemonic otp totp sas sid session"

	// In front of key.
	keyKinds = "access account api app application auth client connection consumer customer deploy encryption enc function functions hmac host integration license licence master private " +
		"root secret service session shared signing ssh storage subscription symmetric user wep write admin server aes des rsa crypt cipher ikey x access_ storageaccount"
	otherKeys = "public pub sort partition primary foreign cache host row index object lookup group message routing map dict hot"
	// Behind a secret's name: it stays one.
	meansValue = "value string data header raw b64 base64 hash text plain plaintext content contents body new old current previous prod production dev test staging live default hex encoded enc json github gitlab"
	// Behind a secret's name: it is something about it.
	meansAbout = "file files filename path paths dir directory stdin fd env url uri urls endpoint endpoints type types method methods mode ttl expiry expires expiration expire lifetime length " +
		"len size count version versions policy prompt format timeout provider providers server servers hosts port domain realm issuer audience scope scopes store storetype rotation age helper prefix suffix " +
		"alias arn ref name names required enabled disabled id ids manager service services location index num limit limits min max history strength rules attempts retries " +
		"algorithm alg encoding charset callback command cmd plugin mechanism mech backend template generator engine status check only less budget list hint info source"
	// In front of it: a switch, without a value.
	switches = "no ask prompt show hide without require requires disable enable skip has is needs allow max min num total"
	// Words that only end like one.
	otherPass = "bypass compass encompass surpass trespass overpass underpass lowpass highpass bandpass multipass allpass onepass twopass firstpass"
	// Ways to prove who one is.
	wayNames = "basic digest bearer ntlm negotiate kerberos gssapi spnego oauth oauth2 oidc saml plain login cram-md5 md5 sha sha1 sha256 sha512 scram-sha-1 scram-sha-256 tls ssl mtls " +
		"x509 ldap pam token password userpass github kubernetes anonymous local any peer trust publickey hostbased ident jwt approle iam"
)

// vocabulary is built from these when a run starts its first program: most runs start none.
var vocabulary = sync.OnceValue(func() (v struct {
	passwords, secrets                                                     []string
	lasts, kinds, otherKeys, values, abouts, switches, otherPass, wayNames map[string]bool
}) {
	v.passwords, v.secrets = strings.Fields(passwordParts), strings.Fields(secretParts)
	v.otherKeys = fields(otherKeys)
	v.lasts, v.kinds, v.values, v.abouts = fields(lastParts), fields(keyKinds), fields(meansValue), fields(meansAbout)
	v.switches, v.otherPass, v.wayNames = fields(switches), fields(otherPass), fields(wayNames)
	return v
})

func fields(list string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(list) {
		set[word] = true
	}
	return set
}

// classOf is what the name of an option, a variable, a header, a member or a query key says about
// its value.
func classOf(name string) class {
	name = strings.Trim(name, `-'"/[]()$ `)
	if len(name) > 80 || len(name) < 2 {
		return harmless
	}
	v := vocabulary()
	words := nameWords(name)
	joined := strings.Join(words, "")
	for len(words) > 1 && v.values[words[len(words)-1]] {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return harmless
	}
	last, before := words[len(words)-1], ""
	if len(words) > 1 {
		before = words[len(words)-2]
	}
	switch {
	case joined == "secretid", strings.HasSuffix(joined, "sessionid"), strings.HasSuffix(joined, "sessid"):
		return secret
	case v.switches[words[0]] && len(words) > 1, v.abouts[last], strings.HasSuffix(joined, "askpass"), strings.HasSuffix(joined, "eval"):
		return harmless
	case slices.ContainsFunc(v.passwords, func(p string) bool { return strings.Contains(joined, p) }):
		return password
	case slices.ContainsFunc(words, isSecretWord), slices.ContainsFunc(v.secrets[1:], func(p string) bool { return strings.Contains(joined, p) }):
		return secret
	}
	switch last {
	case "tokens":
		return counted
	case "key", "keys":
		if before == "" && last == "key" || v.kinds[before] || strings.HasSuffix(name, "_KEY") && !v.otherKeys[before] {
			return secret
		}
		return harmless
	case "auth", "oauth", "authorization", "authentication":
		return scheme
	case "session", "ticket":
		return session
	case "sid":
		if before == "connect" || before == "php" {
			return secret
		}
		return harmless
	case "pat":
		if strings.ToUpper(name) == name && before != "" {
			return secret
		}
		return harmless
	case "pass", "pw", "pwd", "psk", "passin", "passout":
		return password
	}
	switch {
	case len(words) < 4 && slices.Contains(words, "token"), v.lasts[last]:
		return secret
	case len(last) > len("pass") && (strings.HasSuffix(last, "pass") || strings.HasSuffix(last, "pwd")) && !v.otherPass[last], len(last) > 4 && strings.HasSuffix(last, "pw"):
		return password
	case strings.HasSuffix(last, "token"), strings.HasSuffix(last, "cookie"), strings.HasSuffix(last, "apikeys"):
		return secret
	case strings.HasSuffix(last, "auth"), strings.HasPrefix(last, "authoriz"):
		return scheme
	}
	return harmless
}

func isSecretWord(word string) bool {
	return strings.HasPrefix(word, "secret") && !strings.HasPrefix(word, "secretar") || strings.HasSuffix(word, "secret") || strings.HasSuffix(word, "secrets")
}

// nameWords splits a name into words: at everything but letters and digits, and before a capital
// after a small letter.
func nameWords(name string) (words []string) {
	var word []rune
	flush := func() {
		if w := strings.TrimRight(strings.ToLower(string(word)), "0123456789"); w != "" {
			words = append(words, w)
		}
		word = word[:0]
	}
	runes := []rune(name)
	for i, c := range runes {
		switch {
		case !unicode.IsLetter(c) && !unicode.IsDigit(c):
			flush()
			continue
		case i > 0 && unicode.IsUpper(c) && (unicode.IsLower(runes[i-1]) || unicode.IsUpper(runes[i-1]) && i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			flush()
		}
		word = append(word, c)
	}
	flush()
	return words
}

// hides tells whether the value of a name is to be hidden.
func hides(name, value string) bool {
	kind := classOf(name)
	if kind == harmless || value == "" || strings.HasPrefix(value, redacted) {
		return false
	}
	lower := strings.ToLower(value)
	switch lower {
	case "true", "false", "yes", "no", "null", "none", "nil", "on", "off", "-", "undefined":
		return false
	}
	bare := strings.Trim(strings.ToLower(name), "-/")
	if bare == "pwd" || bare == "oldpwd" { // the directory
		return !strings.HasPrefix(value, "/") || !isPath(value)
	}
	if (bare == "pass" || bare == "pw") && len(value) < 3 && isNumber(value) { // of a program that goes over its work twice
		return false
	}
	if strings.HasPrefix(value, "id=") { // of docker build
		return false
	}
	for _, where := range []string{"file:", "env:", "fd:", "@"} { // of OpenSSL, of curl
		if strings.HasPrefix(lower, where) && (where != "@" || isPath(value[1:]) || value == "@-") || lower == "stdin" {
			return false
		}
	}
	switch kind {
	case secret:
		return !isPath(value)
	case scheme:
		return !isPath(value) && !vocabulary().wayNames[lower]
	case counted:
		return !isNumber(value)
	case session:
		return len(value) >= 16 && !isPath(value)
	}
	return true
}

// isMixed tells whether there are digits among the letters of a word.
func isMixed(s string) bool {
	return strings.ContainsAny(s, "0123456789") && strings.Trim(s, "0123456789") != ""
}

func isLetters(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') }) < 0
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isName tells whether a text may be a name: letters, digits and what stands between them.
func isName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("_-.$[]", c)
	}) < 0
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// isPath tells whether a value looks like the path of a file.
func isPath(value string) bool {
	for _, end := range []string{".pem", ".key", ".crt", ".cer", ".der", ".p8", ".p12", ".pfx", ".jks", ".json", ".yaml", ".yml", ".txt", ".conf", ".cfg", ".ini", ".env", ".toml", ".gpg", ".asc", ".pub", ".ppk", ".kdbx", ".keytab", ".tok"} {
		if strings.HasSuffix(strings.ToLower(value), end) {
			return true
		}
	}
	rooted := false
	for _, start := range []string{"/", "./", "../", "~/", "$HOME/", `C:\`, `c:\`} {
		rooted = rooted || strings.HasPrefix(value, start)
	}
	if !rooted || strings.ContainsAny(value, "+=") {
		return false
	}
	for part := range strings.SplitSeq(value, "/") { // base64 has parts that no directory has
		if len(part) > 20 && strings.ContainsAny(part, "0123456789") && strings.ToLower(part) != part {
			return false
		}
	}
	return true
}
