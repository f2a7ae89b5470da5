package audit

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// facts are what a reader needs from every line. The slices may be parts of the line.
type facts struct {
	v        int64
	seq      uint64
	prev     []byte
	runID    []byte
	action   []byte
	outcome  []byte
	at       time.Time // zero: not readable
	jumpMS   int64     // host.clock_jump_ms
	duration bool      // there is an event.duration_ns
	keys     uint64    // which of Record's keys are present, one bit each
}

// isRecord reports whether the line is a record, by the writer's own rule: see parseHead.
func (f *facts) isRecord() bool { return f.v > 0 && f.seq > 0 }

// keyTable holds Record's keys in their order, as they stand in a line after the first one.
type keyTable struct {
	text                                        [][]byte // `,"seq":`
	names                                       []string
	v, timestamp, event, seq, prev, runID, host int
	always, ofStart, ofEnd, repair              uint64
}

// keys is made from Record, so that the two cannot differ. Writers do not need it.
var keys = sync.OnceValue(func() *keyTable {
	t := &keyTable{}
	for f := range reflect.TypeFor[Record]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		t.text = append(t.text, []byte(`,"`+name+`":`))
		t.names = append(t.names, name)
	}
	at := func(name string) int { return slices.Index(t.names, name) }
	set := func(names ...string) (s uint64) {
		for _, name := range names {
			s |= 1 << at(name)
		}
		return s
	}
	t.v, t.timestamp, t.event, t.seq, t.prev, t.runID, t.host = at("v"), at("@timestamp"), at("event"), at("seq"), at("prev"), at("run_id"), at("host")
	t.repair = set("repair")
	t.always = set("v", "@timestamp", "event", "seq", "prev")
	t.ofStart = t.always | set("run_id", "host", "user", "auth", "client", "script", "code", "variables")
	t.ofEnd = t.ofStart | set("status", "process", "isolation", "hooks")
	return t
})

// repairs reports whether the writer of the record found the log other than it should be, and said so.
func (f *facts) repairs() bool { return f.keys&keys().repair != 0 }

// missing names what this record lacks of what its kind must have; empty: nothing. It does not
// judge later versions of the format.
func (f *facts) missing() string {
	t := keys()
	want := t.always
	if f.v == 1 {
		switch Action(f.action) {
		case ExecutionStart:
			want = t.ofStart
		case ExecutionEnd:
			want = t.ofEnd
		}
	}
	var names []string
	for lack := want &^ f.keys; lack != 0; lack &= lack - 1 {
		names = append(names, t.names[bits.TrailingZeros64(lack)])
	}
	if len(f.action) == 0 {
		names = append(names, "event.action")
	}
	if len(f.outcome) == 0 {
		names = append(names, "event.outcome")
	}
	if f.at.IsZero() && f.keys&(1<<t.timestamp) != 0 {
		names = append(names, "a readable @timestamp")
	}
	if f.v == 1 && Action(f.action) == ExecutionEnd && !f.duration {
		names = append(names, "event.duration_ns")
	}
	return strings.Join(names, ", ")
}

// read takes the facts from a line without its newline. The error says why the line is not a record.
func read(line []byte) (facts, error) {
	if f, ok := scan(line); ok && f.isRecord() {
		return f, nil
	}
	return decode(line)
}

// scan reads lines as this package writes them: printable ASCII, no blanks, and Record's keys in
// their order, none twice. It allocates nothing, and is about twenty times faster than
// encoding/json. For all other lines it returns false.
func scan(line []byte) (f facts, ok bool) {
	t := keys()
	s := scanner{text: line}
	if !s.literal("{") || len(line) == 0 || line[len(line)-1] != '}' {
		return f, false
	}
	s.at-- // as if a comma stood there: then all keys look the same
	for next := 0; ; next++ {
		key := t.text[min(next, len(t.text)-1):]
		found := false
		for _, k := range key {
			if rest := line[s.at:]; len(rest) > len(k) && (rest[0] == ',' || s.at == 0) && string(rest[1:len(k)]) == string(k[1:]) {
				s.at += len(k)
				found = true
				break
			}
			next++
		}
		if !found || next >= len(t.text) {
			return f, false
		}
		f.keys |= 1 << next
		start := s.at
		var fine bool
		switch next {
		case t.v:
			f.v, fine = s.integer()
		case t.seq:
			var n int64
			n, fine = s.integer()
			f.seq = uint64(n)
			fine = fine && n > 0
		case t.timestamp:
			var text []byte
			text, fine = s.plain()
			f.at = readTime(text)
		case t.prev:
			f.prev, fine = s.plain()
		case t.runID:
			f.runID, fine = s.plain()
		case t.event:
			fine = s.event(&f)
		default:
			fine = s.value(0)
		}
		if !fine {
			return f, false
		}
		if next == t.host {
			// Inside a string the quotes would be escaped.
			if _, number, ok := bytes.Cut(line[start:s.at], []byte(`"clock_jump_ms":`)); ok {
				jump := scanner{text: number}
				if f.jumpMS, ok = jump.integer(); !ok {
					return f, false
				}
			}
		}
		if s.at == len(line)-1 {
			return f, true // at the closing brace, which was checked before
		}
	}
}

// A scanner stands at a place in a line. Its methods move past what they are named for. When they
// return false, the place is undefined.
type scanner struct {
	text []byte
	at   int
}

func (s *scanner) literal(l string) bool {
	if len(s.text)-s.at < len(l) || string(s.text[s.at:s.at+len(l)]) != l {
		return false
	}
	s.at += len(l)
	return true
}

// plain is a string without escapes.
func (s *scanner) plain() ([]byte, bool) {
	start := s.at + 1
	if !s.str() {
		return nil, false
	}
	text := s.text[start : s.at-1]
	return text, bytes.IndexByte(text, '\\') < 0
}

func (s *scanner) event(f *facts) bool {
	if !s.literal("{") {
		return false
	}
	for {
		ok := false
		switch {
		case f.action == nil && s.literal(`"action":`):
			f.action, ok = s.plain()
		case f.outcome == nil && s.literal(`"outcome":`):
			f.outcome, ok = s.plain()
		case !f.duration && s.literal(`"duration_ns":`):
			_, ok = s.integer()
			f.duration = true
		case s.literal(`"reason":`), s.literal(`"end":`):
			ok = s.str()
		}
		if !ok {
			return false
		}
		if s.literal("}") {
			return true
		}
		if !s.literal(",") {
			return false
		}
	}
}

// str is a string of printable ASCII.
func (s *scanner) str() bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	text, i := s.text, s.at
	if i >= len(text) || text[i] != '"' {
		return false
	}
	for i++; ; {
		// Eight bytes at once, as long as none of them is a quote, a backslash, a control
		// character, DEL or not ASCII. Only such a byte can carry or borrow into a higher one.
		for ; i+8 <= len(text); i += 8 {
			w := binary.LittleEndian.Uint64(text[i:])
			quote, back := w^ones*'"', w^ones*'\\'
			special := ((w-ones*0x20)&^w | (quote-ones)&^quote | (back-ones)&^back | (w + ones) | w) & highs
			if special != 0 {
				i += bits.TrailingZeros64(special) / 8
				break
			}
		}
		if i >= len(text) {
			return false
		}
		switch c := text[i]; {
		case c == '"':
			s.at = i + 1
			return true
		case c == '\\':
			if i+1 >= len(text) {
				return false
			}
			switch text[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if i+6 > len(text) {
					return false
				}
				for _, h := range text[i+2 : i+6] {
					if !(h >= '0' && h <= '9' || h >= 'a' && h <= 'f' || h >= 'A' && h <= 'F') {
						return false
					}
				}
				i += 6
			default:
				return false
			}
		case c < ' ' || c > '~':
			return false
		default:
			i++
		}
	}
}

// integer is a number without fraction and exponent.
func (s *scanner) integer() (n int64, ok bool) {
	start := s.at
	if !s.number() {
		return 0, false
	}
	text := s.text[start:s.at]
	if len(text) > 18 {
		return 0, false
	}
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

func (s *scanner) number() bool {
	s.literal("-")
	if start := s.at; !s.digits() || s.text[start] == '0' && s.at > start+1 {
		return false
	}
	if s.literal(".") && !s.digits() {
		return false
	}
	if s.literal("e") || s.literal("E") {
		if !s.literal("+") {
			s.literal("-")
		}
		return s.digits()
	}
	return true
}

// value is any JSON without blanks, nested a little deeper than records are.
func (s *scanner) value(depth int) bool {
	if s.at >= len(s.text) || depth > 8 {
		return false
	}
	switch s.text[s.at] {
	case '"':
		return s.str()
	case '{', '[':
		object := s.text[s.at] == '{'
		closing := "]"
		if object {
			closing = "}"
		}
		s.at++
		if s.literal(closing) {
			return true
		}
		for {
			if object && !(s.str() && s.literal(":")) || !s.value(depth+1) {
				return false
			}
			if s.literal(closing) {
				return true
			}
			if !s.literal(",") {
				return false
			}
		}
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

// readTime reads a time in the layout of records, without an allocation.
func readTime(text []byte) time.Time {
	if len(text) != len(timeLayout) {
		return slowTime(text)
	}
	number := func(from, to int) (n int) {
		for _, c := range text[from:to] {
			if c < '0' || c > '9' {
				return -1 << 20
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day, hour, minute, second, micro := number(0, 4), number(5, 7), number(8, 10), number(11, 13), number(14, 16), number(17, 19), number(20, 26)
	if text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' || text[16] != ':' || text[19] != '.' || text[26] != 'Z' ||
		year < 1 || month < 1 || month > 12 || day < 1 || day > 28 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 || micro < 0 {
		return slowTime(text)
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, micro*1000, time.UTC)
}

func slowTime(text []byte) time.Time {
	at, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}
