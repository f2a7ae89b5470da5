package wire

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// A Number is the literal of a JSON number as it was written: 2^100 stays exact until somebody decides what it is.
type Number string

// IsInteger reports whether n has neither fraction nor exponent.
func (n Number) IsInteger() bool { return !strings.ContainsAny(string(n), ".eE") }

// An Object is a JSON object in the order it was written. No name stands in it twice.
type Object struct {
	Names  []string
	Values []any
}

// Get returns the value of name. It walks the list; an object that is asked often belongs in a map.
func (o *Object) Get(name string) (any, bool) {
	if o != nil {
		for i, n := range o.Names {
			if n == name {
				return o.Values[i], true
			}
		}
	}
	return nil, false
}

// A SyntaxError says where a text stops being strict JSON. Path and Reason hold names and kinds, never a value of the text:
// an api_key must not come back in a message.
type SyntaxError struct {
	Offset int    // in bytes
	Path   string // as labels.a or args[2]; empty at the top
	Reason string
}

func (e *SyntaxError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("invalid JSON at byte %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("invalid JSON at byte %d, in %s: %s", e.Offset, e.Path, e.Reason)
}

// What strict refuses and a usual JSON reader takes. The fuzz test holds the two lists apart: any other refusal must be one
// encoding/json shares.
const (
	reasonUTF8      = "invalid UTF-8"
	reasonSurrogate = "a lone surrogate escape is no character"
	reasonDuplicate = "the name stands twice in one object"
	reasonOverflow  = "the number does not fit a double"
	reasonDigits    = "the number has more than 4300 digits"
	reasonDepth     = "nested deeper than %d"
)

const (
	reasonEmpty    = "the request is empty"
	reasonNoNumber = "JSON has no NaN and no Infinity; send null or a string"
)

const (
	// maxDigits is the longest integer literal that Python's int() takes (sys.int_info.default_max_str_digits).
	maxDigits = 4300
	// maxInspectDepth allows for results what json.dumps can still build; well below Python's recursion limit.
	maxInspectDepth = 512
	// maxFindings bounds what an untrusted child can make us say.
	maxFindings = 20
	// maxPath is where a path in a message is cut, in bytes.
	maxPath = 256
	// maxSafeInteger is 2^53-1: beyond it a reader that makes every number a double does not hold the integer.
	maxSafeInteger = "9007199254740991"
)

// Parse reads one strict JSON value: nil, bool, Number, string, []any or *Object. Containers may nest maxDepth deep. The
// values are parts of data, which must not change any more. Errors are *SyntaxError.
func Parse(data []byte, maxDepth int) (any, error) {
	return parse(textOf(data), maxDepth, maxDepth)
}

func parse(text string, maxDepth, keep int) (any, error) {
	p := parser{text: text, maxDepth: maxDepth, keep: keep, build: true, seed: maphash.MakeSeed()}
	return p.document(reasonEmpty)
}

// Findings is what Inspect saw.
type Findings struct {
	// BigIntegers are paths, as result[1].x, of integers beyond ±(2^53-1): at most 20 of them.
	BigIntegers []string
	// BigIntegerCount counts all of them.
	BigIntegerCount int
}

// Inspect checks that raw, which comes from the untrusted Python process, is one strict JSON value by the rules of Parse,
// nested at most 512 deep. It builds no tree.
func Inspect(raw []byte) (Findings, error) {
	p := parser{text: textOf(raw), maxDepth: maxInspectDepth, root: "result", seed: maphash.MakeSeed()}
	_, err := p.document("the result is empty")
	return p.findings, err
}

// textOf is data as a text, without a copy.
func textOf(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }

// A parser makes one pass over text. With build it returns the values; without, it notes findings and returns nothing.
type parser struct {
	text     string
	pos      int
	maxDepth int
	build    bool
	keep     int // containers that stand in this many others are not built, but returned as *Raw
	blanks   int // passed over so far

	root     string   // how paths begin
	path     []step   // one for each open container
	names    []string // names of the open objects so far, innermost last
	values   []any    // likewise values of the open containers: each gets memory once, when its length is known
	seed     maphash.Seed
	findings Findings
}

// A step leads from a container to the element being read.
type step struct {
	name  string // with inMember
	index int    // in an array; in an object one of these:
}

const (
	inObject = -1 // a name is awaited
	inMember = -2 // the name is known
)

func (p *parser) document(empty string) (any, error) {
	if strings.HasPrefix(p.text, "\ufeff") {
		return nil, p.fail(0, "a byte order mark before the JSON; send UTF-8 without one")
	}
	p.skipSpace()
	if p.pos == len(p.text) {
		return nil, p.fail(0, empty)
	}
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	p.skipSpace()
	if p.pos < len(p.text) {
		return nil, p.want("the end: one value is all")
	}
	return v, nil
}

func (p *parser) value() (any, error) {
	if p.pos == len(p.text) {
		return nil, p.want("a value")
	}
	switch c := p.text[p.pos]; {
	case c == '"':
		s, err := p.str()
		if err != nil || !p.build {
			return nil, err
		}
		return s, nil
	case c == '{' || c == '[':
		return p.container(c)
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	case p.word("null"):
		return nil, nil
	}
	return nil, p.notAValue()
}

func (p *parser) open(index int) error {
	if len(p.path) == p.maxDepth {
		return p.fail(p.pos, fmt.Sprintf(reasonDepth, p.maxDepth))
	}
	p.path = append(p.path, step{index: index})
	p.pos++
	p.skipSpace()
	return nil
}

func (p *parser) close() {
	p.path = p.path[:len(p.path)-1]
	p.pos++
}

func (p *parser) container(c byte) (any, error) {
	read := p.object
	if c == '[' {
		read = p.array
	}
	if !p.build || len(p.path) < p.keep {
		return read()
	}
	start, blanks := p.pos, p.blanks
	p.build = false
	_, err := read()
	p.build = true
	if err != nil {
		return nil, err
	}
	return &Raw{p.text[start:p.pos], p.pos - start - (p.blanks - blanks)}, nil
}

func (p *parser) array() (any, error) {
	if err := p.open(0); err != nil {
		return nil, err
	}
	base := len(p.values)
	for i, more := 0, !p.at(']'); more; i++ {
		p.path[len(p.path)-1].index = i
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		if p.build {
			p.values = append(p.values, v)
		}
		if more, err = p.separator(']'); err != nil {
			return nil, err
		}
	}
	p.close()
	if !p.build {
		return nil, nil
	}
	list := make([]any, len(p.values)-base)
	copy(list, p.values[base:])
	p.values = p.values[:base]
	return list, nil
}

func (p *parser) object() (any, error) {
	if err := p.open(inObject); err != nil {
		return nil, err
	}
	base, first := len(p.names), len(p.values)
	var seen nameTable
	for more := !p.at('}'); more; {
		here := &p.path[len(p.path)-1]
		here.index = inObject
		if !p.at('"') {
			return nil, p.want(`a name in ""`)
		}
		start := p.pos
		name, err := p.str()
		if err != nil {
			return nil, err
		}
		here.name, here.index = name, inMember
		p.names = append(p.names, name)
		if !p.addName(&seen, p.names[base:]) {
			return nil, p.fail(start, reasonDuplicate)
		}
		p.skipSpace()
		if !p.at(':') {
			return nil, p.want("':'")
		}
		p.pos++
		p.skipSpace()
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		if p.build {
			p.values = append(p.values, v)
		}
		if more, err = p.separator('}'); err != nil {
			return nil, err
		}
	}
	p.close()
	object := &Object{}
	if n := len(p.names) - base; p.build && n > 0 {
		object.Names, object.Values = make([]string, n), make([]any, n)
		copy(object.Names, p.names[base:])
		copy(object.Values, p.values[first:])
	}
	p.names, p.values = p.names[:base], p.values[:first]
	if !p.build {
		return nil, nil
	}
	return object, nil
}

// separator reads what follows an element: a comma and then another element (true), or the container's end (false, not consumed).
func (p *parser) separator(end byte) (more bool, err error) {
	p.skipSpace()
	switch {
	case p.at(end):
		return false, nil
	case !p.at(','):
		return false, p.want(fmt.Sprintf("',' or '%c'", end))
	}
	p.pos++
	p.skipSpace()
	if p.at(end) {
		return false, p.fail(p.pos, fmt.Sprintf("a comma before '%c'", end))
	}
	return true, nil
}

// A nameTable finds a name that an object holds twice. Every name is hashed, under a random seed, so that no choice of names
// makes an object slow. Among few names the hash only saves most comparisons; many go into slots.
type nameTable struct {
	seen  [4]uint64  // a set of hashes modulo 256
	slots []nameSlot // a power of two of them, at most half in use
}

// A nameSlot keeps half of the hash beside the place, so that probing rarely leaves the table. place counts from 1.
type nameSlot struct{ hash, place uint32 }

const fewNames = 32

// addName reports whether the last of an object's names is new in it.
func (p *parser) addName(t *nameTable, names []string) bool {
	last := len(names) - 1
	hash := maphash.String(p.seed, names[last])
	if last < fewNames {
		word, bit := hash>>6&3, uint64(1)<<(hash&63)
		if t.seen[word]&bit != 0 && slices.Contains(names[:last], names[last]) {
			return false
		}
		t.seen[word] |= bit
		return true
	}
	if t.slots == nil {
		t.slots = make([]nameSlot, 4*fewNames)
		for i := range names[:last] {
			t.insert(names, i, uint32(maphash.String(p.seed, names[i])))
		}
	}
	if 2*len(names) > len(t.slots) {
		t.grow()
	}
	return t.insert(names, last, uint32(hash))
}

func (t *nameTable) insert(names []string, at int, hash uint32) bool {
	mask := uint32(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch s := t.slots[i]; {
		case s.place == 0:
			t.slots[i] = nameSlot{hash, uint32(at + 1)}
			return true
		case s.hash == hash && names[s.place-1] == names[at]:
			return false
		}
	}
}

func (t *nameTable) grow() {
	old := t.slots
	t.slots = make([]nameSlot, 2*len(old))
	mask := uint32(len(t.slots) - 1)
	for _, s := range old {
		if s.place != 0 {
			i := s.hash & mask
			for t.slots[i].place != 0 {
				i = (i + 1) & mask
			}
			t.slots[i] = s
		}
	}
}

// str reads a string. The result is a part of the text, or a copy where there are escapes.
func (p *parser) str() (string, error) {
	start := p.pos + 1
	high, escaped := byte(0), false
	i := start + plainRun(p.text[start:])
	for ; i < len(p.text); i++ {
		c := p.text[i]
		if c == '"' {
			break
		}
		if c < ' ' {
			return "", p.fail(i, "a control character in a string; write it as an escape")
		}
		if c == '\\' {
			escaped = true
			i++ // what follows, also a quote, is part of the escape; a control character is refused by unescape
			if i == len(p.text) {
				break
			}
			c = p.text[i]
		}
		high |= c
	}
	if i >= len(p.text) {
		return "", p.fail(len(p.text), "the text ends inside a string")
	}
	span := p.text[start:i]
	if high >= utf8.RuneSelf && !utf8.ValidString(span) {
		at := start
		for r, n := utf8.DecodeRuneInString(p.text[at:]); r != utf8.RuneError || n > 1; r, n = utf8.DecodeRuneInString(p.text[at:]) {
			at += n
		}
		return "", p.fail(at, reasonUTF8)
	}
	p.pos = i + 1
	if escaped {
		return p.unescape(span, start)
	}
	return span, nil
}

// plainRun is how many bytes of a string can be passed over, eight at a time: ASCII that is neither a quote, nor a backslash, nor a control character.
func plainRun(text string) (n int) {
	const each, top = 0x0101010101010101, 0x8080808080808080
	none := func(word uint64, c byte) uint64 { // top bits of bytes that are c; those above the first may be wrong
		x := word ^ each*uint64(c)
		return (x - each) &^ x & top
	}
	for ; len(text)-n >= 8; n += 8 {
		word := uint64(text[n]) | uint64(text[n+1])<<8 | uint64(text[n+2])<<16 | uint64(text[n+3])<<24 |
			uint64(text[n+4])<<32 | uint64(text[n+5])<<40 | uint64(text[n+6])<<48 | uint64(text[n+7])<<56
		if word&top|none(word, '"')|none(word, '\\')|(word-each*' ')&^word&top != 0 {
			break
		}
	}
	return n
}

// unescape decodes the escapes of span, which begins at offset.
func (p *parser) unescape(span string, offset int) (string, error) {
	out := make([]byte, 0, len(span))
	for i := 0; i < len(span); {
		n := strings.IndexByte(span[i:], '\\')
		if n < 0 {
			return string(append(out, span[i:]...)), nil
		}
		out = append(out, span[i:i+n]...)
		i += n
		at := offset + i
		c := span[i+1] // str lets no span end in the middle of an escape
		i += 2
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(span[i:])
			if r < 0 {
				return "", p.fail(at, `four hexadecimal digits must follow \u`)
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if strings.HasPrefix(span[i:], `\u`) {
					low = hex4(span[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r == unicode.ReplacementChar {
					return "", p.fail(at, reasonSurrogate)
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
		default:
			return "", p.fail(at, `JSON knows no such escape; a backslash itself is \\`)
		}
	}
	return string(out), nil
}

// hex4 is the value of the four hexadecimal digits that s begins with, or -1.
func hex4(s string) rune {
	if len(s) < 4 {
		return -1
	}
	var r rune
	for _, c := range []byte(s[:4]) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

func (p *parser) number() (any, error) {
	literal, integer, err := p.literal()
	if err != nil {
		return nil, err
	}
	if p.build {
		return Number(literal), nil
	}
	digits := strings.TrimPrefix(literal, "-")
	if whole := len(digits); integer && (whole > len(maxSafeInteger) || whole == len(maxSafeInteger) && digits > maxSafeInteger) {
		p.findings.BigIntegerCount++
		if len(p.findings.BigIntegers) < maxFindings {
			p.findings.BigIntegers = append(p.findings.BigIntegers, p.pathText())
		}
	}
	return nil, nil
}

// literal reads a number as it is written.
func (p *parser) literal() (literal string, integer bool, err error) {
	start := p.pos
	if p.at('-') {
		p.pos++
	}
	whole := p.digits()
	switch {
	case whole == 0:
		if p.word("Infinity") {
			return "", false, p.fail(start, reasonNoNumber)
		}
		return "", false, p.want("a digit")
	case whole > 1 && p.text[p.pos-whole] == '0':
		return "", false, p.fail(start, "a number with a leading zero")
	}
	total, integer := whole, true
	if p.at('.') {
		p.pos++
		n := p.digits()
		if n == 0 {
			return "", false, p.want("a digit")
		}
		total, integer = total+n, false
	}
	exponent := 0
	if p.at('e') || p.at('E') {
		p.pos++
		minus := p.at('-')
		if minus || p.at('+') {
			p.pos++
		}
		n := p.digits()
		if n == 0 {
			return "", false, p.want("a digit")
		}
		total, integer = total+n, false
		if !minus {
			for _, c := range []byte(p.text[p.pos-n : p.pos]) {
				exponent = min(exponent*10+int(c-'0'), math.MaxInt32)
			}
		}
	}
	if total > maxDigits {
		return "", false, p.fail(start, reasonDigits)
	}
	literal = p.text[start:p.pos]
	if !integer && whole+exponent > 308 { // below that many digits nothing reaches 1.8e308
		if _, err := strconv.ParseFloat(literal, 64); err != nil {
			return "", false, p.fail(start, reasonOverflow)
		}
	}
	return literal, integer, nil
}

// digits skips decimal digits and counts them.
func (p *parser) digits() int {
	start := p.pos
	for p.pos < len(p.text) && '0' <= p.text[p.pos] && p.text[p.pos] <= '9' {
		p.pos++
	}
	return p.pos - start
}

func (p *parser) skipSpace() {
	const space = 1<<' ' | 1<<'\t' | 1<<'\n' | 1<<'\r'
	for p.pos < len(p.text) && uint64(space)>>p.text[p.pos]&1 != 0 {
		p.pos++
		p.blanks++
	}
}

func (p *parser) at(c byte) bool { return p.pos < len(p.text) && p.text[p.pos] == c }

// word skips w if it stands here as a whole word.
func (p *parser) word(w string) bool {
	rest, ok := strings.CutPrefix(p.text[p.pos:], w)
	if !ok || rest != "" && isWord(rest[0]) {
		return false
	}
	p.pos += len(w)
	return true
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// notAValue names what stands in a value's place; the usual slips of other languages get their repair.
func (p *parser) notAValue() error {
	start := p.pos
	switch {
	case p.word("NaN"), p.word("Infinity"):
		return p.fail(start, reasonNoNumber)
	case p.word("True"), p.word("False"), p.word("None"):
		return p.fail(start, "a Python literal; JSON writes true, false and null")
	case p.at('\''):
		return p.fail(start, `a string in ''; JSON wants ""`)
	case p.at('/'), p.at('#'):
		return p.fail(start, "JSON has no comments")
	}
	return p.want("a value")
}

func (p *parser) want(what string) error {
	return p.fail(p.pos, p.found()+", want "+what)
}

// found names the character here, without quoting more of the text than that.
func (p *parser) found() string {
	if p.pos == len(p.text) {
		return "the text ends"
	}
	r, n := utf8.DecodeRuneInString(p.text[p.pos:])
	if r == utf8.RuneError && n == 1 {
		return reasonUTF8
	}
	return "found " + strconv.QuoteRune(r)
}

func (p *parser) fail(offset int, reason string) error {
	return &SyntaxError{Offset: offset, Path: p.pathText(), Reason: reason}
}

// pathText is where the parser is. It is built only when somebody will read it.
func (p *parser) pathText() string {
	path := p.root
	for _, s := range p.path {
		switch {
		case path == "api_key":
			return path // whatever is inside may be the key
		case len(path) > maxPath:
			return path + "…"
		case s.index >= 0:
			path += "[" + strconv.Itoa(s.index) + "]"
		case s.index == inMember:
			path = join(path, s.name)
		}
	}
	return path
}

// join appends an object's name to a path.
func join(path, name string) string {
	if path == "" {
		return strings.TrimPrefix(member(name), ".")
	}
	return path + member(name)
}

// member is an object's name as it goes on a path: .x, .tank-1, or ["a b"] for a name that would mislead.
func member(name string) string {
	if shown := show(name); shown != name {
		return "[" + shown + "]"
	}
	return "." + name
}

// show is a caller's word as it may stand in a message: as it is when that is plain, else quoted; cut when long.
func show(word string) string {
	const most = 64
	cut := word
	if len(cut) > most {
		cut = cut[:most]
		for !utf8.RuneStart(word[len(cut)]) {
			cut = cut[:len(cut)-1]
		}
	}
	plain := cut != ""
	for _, r := range cut {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == '.' || r == '[' || r == ']' || r == '"' || r == '\\' {
			plain = false
		}
	}
	switch {
	case len(cut) < len(word):
		return strconv.Quote(cut + "…")
	case plain:
		return word
	}
	return strconv.Quote(word)
}

// AppendJSON appends a decoded value as compact JSON: no blanks, members and numbers as they were given, strings with no more escapes than JSON
// needs. It is what a value's size and keyed hash are of.
func AppendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case Number:
		return append(b, v...)
	case string:
		return appendString(b, v)
	case []any:
		b = append(b, '[')
		for i, x := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendJSON(b, x)
		}
		return append(b, ']')
	case *Raw:
		return AppendJSON(b, v.tree())
	case *Object:
		b = append(b, '{')
		for i, name := range v.Names {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendJSON(append(appendString(b, name), ':'), v.Values[i])
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("wire: %T is no decoded value", v))
}

func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
