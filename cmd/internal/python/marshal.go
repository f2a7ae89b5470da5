package python

import (
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"py3run/cmd/internal/startup"
	"py3run/cmd/internal/wire"
)

// marshal appends a value in CPython's marshal format, as every Python from 3.4 on reads it
// (Python/marshal.c). The child loads it at no cost; json would cost a third of its start. Values
// are those of wire.Parse, and string, []byte, bool, int, []string and map.
func marshal(b []byte, v any) []byte {
	m := marshaller{out: b}
	m.put(v)
	return m.out
}

type marshaller struct {
	out   []byte
	names map[string]uint32 // numbers of the names of objects, in the order in which they came: Python makes each name once, as its json does
}

const (
	flagRef   = 0x80    // of a kind: the value can be referred to by its number
	namesMost = 1 << 12 // so many names are remembered
)

func (m *marshaller) put(v any) {
	switch v := v.(type) {
	case nil:
		m.out = append(m.out, 'N')
	case bool:
		if v {
			m.out = append(m.out, 'T')
		} else {
			m.out = append(m.out, 'F')
		}
	case string:
		m.text(v)
	case []byte:
		m.sized('s', len(v))
		m.out = append(m.out, v...)
	case int:
		m.out = integer(m.out, int64(v))
	case wire.Number:
		m.out = number(m.out, string(v), v.IsInteger())
	case []any:
		m.sized('[', len(v))
		for _, x := range v {
			m.put(x)
		}
	case *wire.Raw:
		m.raw(v)
	case []string:
		m.sized('[', len(v))
		for _, x := range v {
			m.text(x)
		}
	case *wire.Object:
		m.out = append(m.out, '{')
		if v != nil {
			for i, name := range v.Names {
				m.name(name)
				m.put(v.Values[i])
			}
		}
		m.out = append(m.out, '0')
	case map[string]any:
		m.out = append(m.out, '{')
		for name, x := range v {
			m.text(name)
			m.put(x)
		}
		m.out = append(m.out, '0')
	default:
		panic("marshal: a value of no JSON kind")
	}
}

func (m *marshaller) text(s string) {
	switch {
	case !ascii(s):
		s = surrogateEscape(s)
		m.sized('u', len(s))
	case len(s) < 256:
		m.out = append(m.out, 'z', byte(len(s)))
	default:
		m.sized('a', len(s))
	}
	m.out = append(m.out, s...)
}

func (m *marshaller) name(s string) {
	number, known := m.names[s]
	if known {
		m.out = binary.LittleEndian.AppendUint32(append(m.out, 'r'), number)
		return
	}
	at := len(m.out)
	m.text(s)
	if len(m.names) < namesMost {
		if m.names == nil {
			m.names = map[string]uint32{}
		}
		m.names[s] = uint32(len(m.names))
		m.out[at] |= flagRef
	}
}

// raw translates a JSON text, without building its value.
func (m *marshaller) raw(v *wire.Raw) {
	m.out = startup.Grow(m.out, v.Size) // about
	type open struct {
		list     bool
		lengthAt int // where the length of a list stands
		elements uint32
	}
	var above []open
	here := open{}
	for t := range v.Tokens() {
		if here.list && t.Kind != ']' {
			here.elements++
		}
		switch t.Kind {
		case '[', '{':
			above = append(above, here)
			here = open{list: t.Kind == '['}
			if !here.list {
				m.out = append(m.out, '{')
				break
			}
			m.sized('[', 0)
			here.lengthAt = len(m.out) - 4
		case ']':
			binary.LittleEndian.PutUint32(m.out[here.lengthAt:], here.elements)
			here, above = above[len(above)-1], above[:len(above)-1]
		case '}':
			m.out = append(m.out, '0')
			here, above = above[len(above)-1], above[:len(above)-1]
		case ':':
			m.name(t.Text)
		case '"':
			m.text(t.Text)
		case '0':
			m.out = number(startup.Grow(m.out, 16), t.Text, t.Integer)
		case 't':
			m.out = append(m.out, 'T')
		case 'f':
			m.out = append(m.out, 'F')
		case 'n':
			m.out = append(m.out, 'N')
		}
	}
}

// sized begins a value with its length.
func (m *marshaller) sized(kind byte, n int) {
	m.out = startup.Grow(m.out, n+16)
	m.out = binary.LittleEndian.AppendUint32(append(m.out, kind), uint32(n))
}

func ascii(s string) bool {
	high := byte(0)
	for i := range len(s) {
		high |= s[i]
	}
	return high < utf8.RuneSelf
}

// surrogateEscape replaces bytes that are not UTF-8, in the name of a file or an argument, as
// Python does (PEP 383).
func surrogateEscape(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			b.Write([]byte{0xed, 0xb0 | s[0]>>6&3, 0x80 | s[0]&0x3f}) // U+DC80 to U+DCFF
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// number appends a JSON number. One without fraction and exponent is an int of any size, every
// other a float, as in Python's json.
func number(b []byte, literal string, whole bool) []byte {
	if !whole {
		f, _ := strconv.ParseFloat(literal, 64) // wire has checked the range
		return binary.LittleEndian.AppendUint64(append(b, 'g'), math.Float64bits(f))
	}
	if n, err := strconv.ParseInt(literal, 10, 64); err == nil {
		return integer(b, n)
	}
	n, ok := new(big.Int).SetString(literal, 10)
	if !ok {
		panic("marshal: a number that wire let through: " + literal)
	}
	return long(b, n.Bytes(), n.Sign() < 0)
}

// integer appends 32 bits as they are, and more as a long.
func integer(b []byte, n int64) []byte {
	if n >= math.MinInt32 && n <= math.MaxInt32 {
		return binary.LittleEndian.AppendUint32(append(b, 'i'), uint32(int32(n)))
	}
	var magnitude [8]byte
	binary.BigEndian.PutUint64(magnitude[:], uint64(max(n, -n))) // also of the smallest, whose negative is itself
	return long(b, magnitude[:], n < 0)
}

// long appends the absolute value in digits of 15 bits; the sign stands on their count. magnitude
// has its bytes, the most significant first.
func long(b, magnitude []byte, negative bool) []byte {
	start := len(b)
	b = append(b, 'l', 0, 0, 0, 0)
	count := 0
	// Word by word instead of by repeated division, which would be quadratic in the length.
	var carry, bits uint
	for i := len(magnitude) - 1; i >= 0; i-- {
		carry |= uint(magnitude[i]) << bits
		if bits += 8; bits >= 15 {
			b = binary.LittleEndian.AppendUint16(b, uint16(carry)&(1<<15-1))
			carry >>= 15
			bits -= 15
			count++
		}
	}
	if carry != 0 {
		b = binary.LittleEndian.AppendUint16(b, uint16(carry))
		count++
	}
	for count > 0 && b[len(b)-1] == 0 && b[len(b)-2] == 0 { // no leading zeros
		b = b[:len(b)-2]
		count--
	}
	signed := int32(count)
	if negative {
		signed = -signed
	}
	binary.LittleEndian.PutUint32(b[start+1:], uint32(signed))
	return b
}
