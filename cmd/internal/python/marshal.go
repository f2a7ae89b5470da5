package python

import (
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"py3run/cmd/internal/wire"
)

// marshal encodes values in CPython's marshal format, version 2, which every Python 3 reads (Python/marshal.c). It costs the
// child nothing to load, where json would cost a third of its start. Values are those of wire.Parse and Go's own string,
// []byte, bool, int, []string and map.
func marshal(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 'N')
	case bool:
		if v {
			return append(b, 'T')
		}
		return append(b, 'F')
	case string:
		v = surrogateEscape(v)
		return append(sized(b, 'u', len(v)), v...)
	case []byte:
		return append(sized(b, 's', len(v)), v...)
	case int:
		return integer(b, big.NewInt(int64(v)))
	case wire.Number:
		return number(b, string(v))
	case []any:
		b = sized(b, '[', len(v))
		for _, x := range v {
			b = marshal(b, x)
		}
		return b
	case []string:
		b = sized(b, '[', len(v))
		for _, x := range v {
			b = marshal(b, x)
		}
		return b
	case *wire.Object:
		b = append(b, '{')
		if v != nil {
			for i, name := range v.Names {
				b = marshal(marshal(b, name), v.Values[i])
			}
		}
		return append(b, '0')
	case map[string]any:
		b = append(b, '{')
		for name, x := range v {
			b = marshal(marshal(b, name), x)
		}
		return append(b, '0')
	}
	panic("marshal: a value of no JSON kind")
}

func sized(b []byte, kind byte, n int) []byte {
	return binary.LittleEndian.AppendUint32(append(b, kind), uint32(n))
}

// surrogateEscape stands for bytes that are no UTF-8, in a file's name or an argument, as Python itself does (PEP 383).
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

// number: a literal without fraction and exponent is an int of any size, every other a float, as in Python's json.
func number(b []byte, literal string) []byte {
	if strings.ContainsAny(literal, ".eE") {
		f, _ := strconv.ParseFloat(literal, 64) // wire has checked the range
		return binary.LittleEndian.AppendUint64(append(b, 'g'), math.Float64bits(f))
	}
	n, ok := new(big.Int).SetString(literal, 10)
	if !ok {
		panic("marshal: a number that wire let through: " + literal)
	}
	return integer(b, n)
}

// integer: 32 bits as they are, larger ones as digits of 15 bits, the sign on their count.
func integer(b []byte, n *big.Int) []byte {
	if n.IsInt64() {
		if i := n.Int64(); i >= math.MinInt32 && i <= math.MaxInt32 {
			return binary.LittleEndian.AppendUint32(append(b, 'i'), uint32(int32(i)))
		}
	}
	var digits []byte
	count := 0
	magnitude := n.Bytes() // of the absolute value, most significant first
	// Word by word instead of by repeated division, which would be quadratic in the length.
	var carry, bits uint
	for i := len(magnitude) - 1; i >= 0; i-- {
		carry |= uint(magnitude[i]) << bits
		if bits += 8; bits >= 15 {
			digits = binary.LittleEndian.AppendUint16(digits, uint16(carry)&(1<<15-1))
			carry >>= 15
			bits -= 15
			count++
		}
	}
	if carry != 0 {
		digits = binary.LittleEndian.AppendUint16(digits, uint16(carry))
		count++
	}
	for count > 0 && digits[2*count-1] == 0 && digits[2*count-2] == 0 { // no leading zeros
		count--
	}
	signed := int32(count)
	if n.Sign() < 0 {
		signed = -signed
	}
	return append(binary.LittleEndian.AppendUint32(append(b, 'l'), uint32(signed)), digits[:2*count]...)
}
