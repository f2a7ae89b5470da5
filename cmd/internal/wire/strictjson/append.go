package strictjson

import (
	"fmt"
	"strconv"
)

// Append appends a value as compact JSON: no blanks, members and numbers as they were given,
// strings with no more escapes than JSON needs.
func Append(b []byte, v any) []byte {
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
			b = Append(b, x)
		}
		return append(b, ']')
	case *Raw:
		return Append(b, v.tree())
	case *Object:
		b = append(b, '{')
		for i, name := range v.Names {
			if i > 0 {
				b = append(b, ',')
			}
			b = Append(append(appendString(b, name), ':'), v.Values[i])
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("strictjson: %T is not a value that Parse returns", v))
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
