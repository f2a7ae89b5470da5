package launch

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A capture keeps the head and the tail of a stream and counts all its bytes. Head and tail together
// have at most `most` bytes; 0: no limit. The same bound holds for the text as JSON, where a control
// character takes six bytes.
type capture struct {
	most  int64
	total int64
	head  []byte
	tail  []byte // a ring once it is full
	next  int    // where the ring continues

	known bool   // text has made kept, and has dropped head and tail
	kept  string // the text
	cut   bool   // the text was cut once more, to fit as JSON
}

func (c *capture) Write(p []byte) (int, error) {
	n := len(p)
	c.total += int64(n)
	if c.most <= 0 {
		c.head = append(c.head, p...)
		return n, nil
	}
	half := int(c.most+1) / 2
	if room := half - len(c.head); room > 0 {
		take := min(room, len(p))
		c.head = append(grow(c.head, take, half), p[:take]...)
		p = p[take:]
	}
	size := int(c.most) - half
	if len(p) > size {
		p = p[len(p)-size:]
	}
	if room := size - len(c.tail); room > 0 && len(p) > 0 {
		take := min(room, len(p))
		c.tail = append(grow(c.tail, take, size), p[:take]...)
		p = p[take:]
	}
	for len(p) > 0 {
		k := copy(c.tail[c.next:], p)
		p = p[k:]
		c.next = (c.next + k) % size
	}
	return n, nil
}

// grow makes room for n more bytes. It at least doubles the capacity, up to most.
func grow(b []byte, n, most int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, min(max(2*cap(b), len(b)+n, 4<<10), most)), b...)
}

// truncated reports whether the text lacks a part of the stream.
func (c *capture) truncated() bool { return c.cut || c.most > 0 && c.total > c.most }

// cutSlack is by how many bytes the JSON may exceed `most` because head and tail each cut a character
// in two: each byte that remains of it becomes U+FFFD, which is longer.
const cutSlack = 8

// text returns what was kept, with a mark where bytes are missing. It replaces what is not UTF-8.
func (c *capture) text() string {
	if c.known {
		return c.kept
	}
	head, tail := c.head, c.tail
	if c.next > 0 {
		tail = append(append(make([]byte, 0, len(tail)), tail[c.next:]...), tail[:c.next]...)
	}
	whole := !c.truncated()
	if c.most > 0 && int64(len(head)+len(tail))*costMost > c.most {
		ofHead, ofTail := cost(head), cost(tail)
		if ofHead+ofTail > c.most+cutSlack {
			if whole {
				head = append(head, tail...)
				tail, ofTail = head, ofHead+ofTail
			}
			half := (c.most + 1) / 2
			head, tail = prefixWithin(head, half), dropPrefix(tail, ofTail-(c.most-half))
			whole, c.cut = false, true
		}
	}
	var b strings.Builder
	b.Grow(len(head) + len(tail) + 64)
	b.Write(head)
	if !whole {
		fmt.Fprintf(&b, "\n[py3run: %d bytes cut here]\n", c.total-int64(len(head)+len(tail)))
	}
	b.Write(tail)
	c.kept, c.known = decode(b.String()), true
	c.head, c.tail = nil, nil
	return c.kept
}

// costMost is how many bytes of JSON one byte of text can take: \u0000.
const costMost = 6

// cost returns how many bytes text takes in a JSON string, after replacing what is not UTF-8.
func cost(text []byte) (bytes int64) {
	for len(text) > 0 {
		plain := 0
		for plain < len(text) && text[plain] >= ' ' && text[plain] < utf8.RuneSelf && text[plain] != '"' && text[plain] != '\\' {
			plain++
		}
		if text, bytes = text[plain:], bytes+int64(plain); len(text) > 0 {
			n, c := step(text)
			text, bytes = text[n:], bytes+c
		}
	}
	return bytes
}

// step returns the length of the first character, and its cost in a JSON string.
func step(text []byte) (length int, cost int64) {
	c := text[0]
	switch {
	case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f':
		return 1, 2
	case c < ' ':
		return 1, costMost
	case c < utf8.RuneSelf:
		return 1, 1
	}
	r, n := utf8.DecodeRune(text)
	switch {
	case r == utf8.RuneError && n == 1:
		return subpart(text), int64(utf8.RuneLen(r))
	case r == '\u2028' || r == '\u2029': // line ends in JavaScript, so the encoder escapes them
		return n, costMost
	}
	return n, int64(n)
}

// prefixWithin returns the longest beginning of text that costs at most `most`.
func prefixWithin(text []byte, most int64) []byte {
	at := 0
	for at < len(text) {
		n, c := step(text[at:])
		if most -= c; most < 0 {
			break
		}
		at += n
	}
	return text[:at]
}

// dropPrefix drops characters from the beginning of text until it has dropped at least cost.
func dropPrefix(text []byte, cost int64) []byte {
	for cost > 0 && len(text) > 0 {
		n, c := step(text)
		text, cost = text[n:], cost-c
	}
	return text
}

// decode replaces what is not UTF-8 with U+FFFD, one for each maximal subpart (The Unicode Standard,
// section 3.9), as Python and browsers do.
func decode(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	size := 0
	characters(text, func(r rune) { size += utf8.RuneLen(r) })
	b.Grow(size)
	characters(text, func(r rune) { b.WriteRune(r) })
	return b.String()
}

func characters(text string, each func(rune)) {
	for text != "" {
		r, n := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && n == 1 {
			n = subpart([]byte(text[:min(len(text), utf8.UTFMax)]))
		}
		each(r)
		text = text[n:]
	}
}

// subpart returns the length of the maximal subpart at the beginning of text, which is not a valid
// character: those bytes that could have been the beginning of one.
func subpart(text []byte) (n int) {
	low, high := byte(0x80), byte(0xbf) // bounds of the next byte
	more := 0                           // how many bytes may follow the first without completing the character
	switch lead := text[0]; {
	case lead >= 0xe0 && lead <= 0xef:
		more = 2
		if lead == 0xe0 { // a lower second byte would be an overlong form
			low = 0xa0
		} else if lead == 0xed { // a higher one would be a surrogate
			high = 0x9f
		}
	case lead >= 0xf0 && lead <= 0xf4:
		more = 3
		if lead == 0xf0 {
			low = 0x90
		} else if lead == 0xf4 { // beyond U+10FFFF
			high = 0x8f
		}
	}
	for n = 1; n <= more && n < len(text) && text[n] >= low && text[n] <= high; n++ {
		low, high = 0x80, 0xbf
	}
	return n
}
