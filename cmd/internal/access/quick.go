package access

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"py3run/cmd/internal/config"
)

// A policy is read at the start of each run, and the TOML decoder takes two milliseconds for one with
// fifty users. What py3runctl writes, and people mostly write, is simple: the version, then tables with a
// header each, a statement a line, bare keys, texts without escapes. quick reads that alone, twenty times
// as fast, without a tree in between. Everything else it leaves to the decoder: other forms, and every
// mistake. FuzzQuick holds it to what the decoder makes of a text.

// quick reads a simple policy without mistakes; ok tells whether the text is one.
func quick(text string) (p *Policy, ok bool) {
	users, keys := strings.Count(text, "\n[user."), strings.Count(text, "\n[key.")
	q := quickReading{p: emptyPolicy(users, keys)}
	for len(text) > 0 {
		line := text
		if n := strings.IndexByte(text, '\n'); n >= 0 {
			line, text = text[:n], text[n+1:]
		} else {
			text = ""
		}
		if line = skipBlanks(line); !q.statement(line) {
			return nil, false
		}
	}
	if !q.end() || !q.versioned {
		return nil, false
	}
	r := reading{Policy: q.p}
	r.agree()
	return q.p, len(r.wrong) == 0
}

// A quickReading is a policy as far as it has been read.
type quickReading struct {
	p         *Policy
	versioned bool
	table     quickTable // that the newest header has begun
	user      User       // this table, if it is one
	group     Group
	key       Key
	limits    config.Limits
	tightens  bool // only stricter limits are allowed
	decided   bool // the user has the field disabled
}

// A quickTable is a kind of table.
type quickTable int

const (
	rootTable quickTable = iota
	userTable
	groupTable
	keyTable
	limitsTable // of a user or a role, or a profile
)

// statement reads a line, whose first character is no blank.
func (q *quickReading) statement(line string) bool {
	switch {
	case line == "" || line[0] == '#':
		return isQuickRest(line)
	case line[0] == '[':
		name, rest, found := strings.Cut(line[1:], "]")
		return found && isQuickRest(rest) && q.end() && q.begin(name)
	}
	key, rest, found := strings.Cut(line, "=")
	if !found {
		return false
	}
	rest, ok := q.assign(strings.TrimRight(key, " \t"), skipBlanks(rest))
	return ok && isQuickRest(rest)
}

// begin begins the table of a header. A table can have one header alone.
func (q *quickReading) begin(header string) bool {
	section, rest, _ := strings.Cut(header, ".")
	name, below, ok := quickName(rest)
	twice := false
	switch section + below {
	case "user":
		_, twice = q.p.Users[name]
		q.table, q.user, q.decided = userTable, User{Name: name}, false
	case "user.limits":
		u, there := q.p.Users[name] // the decoder knows whether it can come later
		twice = !there || u.Limits != nil
		u.Limits = config.Limits{}
		q.p.Users[name] = u
		q.table, q.limits, q.tightens = limitsTable, u.Limits, false
	case "group":
		_, twice = q.p.Groups[name]
		q.table, q.group = groupTable, Group{Name: name}
	case "role.limits":
		_, twice = q.p.RoleLimits[Role(name)]
		ok = ok && slices.Contains(Roles, Role(name))
		q.table, q.limits, q.tightens = limitsTable, config.Limits{}, false
		q.p.RoleLimits[Role(name)] = q.limits
	case "key":
		_, twice = q.p.Keys[name]
		ok = ok && isKeyID(name)
		q.table, q.key = keyTable, Key{ID: name}
	case "profile":
		_, twice = q.p.Profiles[name]
		q.table, q.limits, q.tightens = limitsTable, config.Limits{}, true
		q.p.Profiles[name] = q.limits
	default:
		return false
	}
	return ok && !twice
}

// quickName takes apart what follows the section in a header: a name, bare or in quotes, and what stands
// below it, with its dot.
func quickName(text string) (name, below string, ok bool) {
	if inner, quoted := strings.CutPrefix(text, `"`); quoted {
		name, below, ok = strings.Cut(inner, `"`)
		return name, below, ok && ValidName(name)
	}
	name = text
	if n := strings.IndexByte(text, '.'); n >= 0 {
		name, below = text[:n], text[n:]
	}
	return name, below, ValidName(name) && strings.IndexByte(name, '@') < 0
}

// end keeps the table that has been read.
func (q *quickReading) end() bool {
	switch q.table {
	case userTable:
		q.p.Users[q.user.Name] = q.user
	case groupTable:
		q.p.Groups[q.group.Name] = q.group
	case keyTable:
		q.p.Keys[q.key.ID] = q.key
		return q.key.User != "" && IsHash(q.key.SHA256) && !q.key.Created.IsZero()
	}
	return true
}

// assign reads the value of a key of the table, and returns what stands behind it. A key that has a value
// already is a mistake.
func (q *quickReading) assign(key, text string) (rest string, ok bool) {
	switch q.table {
	case rootTable:
		again := q.versioned
		q.versioned = true
		rest, ok = strings.CutPrefix(text, "1")
		return rest, ok && key == "version" && !again
	case limitsTable:
		v, rest, ok := quickValue(text)
		return rest, ok && q.limits.Add(key, v, q.tightens)
	case groupTable:
		if key == "roles" {
			return quickRoles(text, &q.group.Roles)
		}
	case userTable:
		return q.userField(key, text)
	case keyTable:
		return q.keyField(key, text)
	}
	return "", false
}

func (q *quickReading) userField(key, text string) (rest string, ok bool) {
	switch key {
	case "roles":
		return quickRoles(text, &q.user.Roles)
	case "groups":
		return quickTexts(text, &q.user.Groups)
	case "full-name":
		return quickText(text, &q.user.FullName)
	case "os-user":
		rest, ok = quickText(text, &q.user.OSUser)
		return rest, ok && isOSUser(q.user.OSUser)
	case "disabled":
		v, rest, ok := quickValue(text)
		disabled, isBool := v.(bool)
		again := q.decided
		q.user.Disabled, q.decided = disabled, true
		return rest, ok && isBool && !again
	}
	return "", false
}

func (q *quickReading) keyField(key, text string) (rest string, ok bool) {
	k := &q.key
	switch key {
	case "user":
		return quickText(text, &k.User)
	case "sha256":
		return quickText(text, &k.SHA256)
	case "comment":
		return quickText(text, &k.Comment)
	case "created":
		return quickTime(text, &k.Created)
	case "expires":
		return quickTime(text, &k.Expires)
	case "revoked":
		return quickTime(text, &k.Revoked)
	case "roles":
		return quickRoles(text, &k.Roles)
	case "may-assert":
		return quickTexts(text, &k.MayAssert)
	}
	return "", false
}

// quickText reads a text that is not empty into a field that has none.
func quickText(text string, to *string) (rest string, ok bool) {
	again := *to != ""
	*to, rest, ok = quickString(text)
	return rest, ok && !again && *to != "" && !hasControl(*to)
}

// quickTime reads a time in seconds with the zone Z into a field that has none.
func quickTime(text string, to *time.Time) (rest string, ok bool) {
	again := !to.IsZero()
	word, rest := quickWord(text)
	if len(word) != len("2026-12-01T10:00:00Z") || word[10] != 'T' || word[19] != 'Z' {
		return "", false
	}
	at, err := time.Parse(time.RFC3339, word)
	*to = at.UTC()
	return rest, err == nil && !again && !at.IsZero()
}

// quickTexts reads a list of texts without repetitions into a field that has none.
func quickTexts(text string, to *[]string) (rest string, ok bool) {
	again := *to != nil
	*to, rest, ok = quickList[string](text)
	return rest, ok && !again
}

func quickRoles(text string, to *[]Role) (rest string, ok bool) {
	again := *to != nil
	*to, rest, ok = quickList[Role](text)
	return rest, ok && !again && !slices.ContainsFunc(*to, func(r Role) bool { return !slices.Contains(Roles, r) })
}

// quickList reads a list of texts in a line, without repetitions.
func quickList[T ~string](text string) (list []T, rest string, ok bool) {
	if text == "" || text[0] != '[' {
		return nil, "", false
	}
	list = make([]T, 0, 1)
	for text = skipBlanks(text[1:]); !strings.HasPrefix(text, "]"); {
		item, after, good := quickString(text)
		if !good || slices.Contains(list, T(item)) {
			return nil, "", false
		}
		list = append(list, T(item))
		text = skipBlanks(after)
		if next, comma := strings.CutPrefix(text, ","); comma {
			text = skipBlanks(next)
		} else if !strings.HasPrefix(text, "]") {
			return nil, "", false
		}
	}
	return list, text[1:], true
}

func skipBlanks(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}

// isQuickRest reports whether nothing but blanks and a comment is left of a line.
func isQuickRest(rest string) bool {
	rest = skipBlanks(rest)
	return rest == "" || rest[0] == '#' && isQuickText(rest)
}

// isQuickText reports whether a text has no control characters. Tabs are left to the decoder. That the whole text is
// UTF-8, Parse has checked.
func isQuickText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// quickWord cuts a value without quotes from a text.
func quickWord(text string) (word, rest string) {
	for i := range len(text) {
		if c := text[i]; c == ' ' || c == '\t' || c == '#' {
			return text[:i], text[i:]
		}
	}
	return text, ""
}

// quickValue decodes the value of a limit: a text, a truth or a whole number.
func quickValue(text string) (v any, rest string, ok bool) {
	if text != "" && (text[0] == '"' || text[0] == '\'') {
		return quickString(text)
	}
	word, rest := quickWord(text)
	switch {
	case word == "true", word == "false":
		return word == "true", rest, true
	case word != "" && len(word) <= 15 && strings.Trim(word, "0123456789") == "" && (word[0] != '0' || word == "0"):
		n, err := strconv.ParseInt(word, 10, 64)
		return n, rest, err == nil
	}
	return nil, "", false
}

// quickString decodes a text in quotes, without escapes.
func quickString(text string) (s, rest string, ok bool) {
	if text == "" || text[0] != '"' && text[0] != '\'' {
		return "", "", false
	}
	n := strings.IndexByte(text[1:], text[0])
	if n < 0 || n == 0 && strings.HasPrefix(text[2:], text[:1]) { // three quotes begin a long text
		return "", "", false
	}
	s = text[1 : 1+n]
	if strings.IndexByte(s, '\\') >= 0 || !isQuickText(s) {
		return "", "", false
	}
	return s, text[n+2:], true
}
