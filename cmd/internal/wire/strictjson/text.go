package strictjson

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

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

// plainRun is how many bytes of a string can be passed over, eight at a time: ASCII that is neither
// a quote, nor a backslash, nor a control character.
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
