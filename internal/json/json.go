// Package json writes values as encoding/json does, for programs that live for milliseconds. For
// each type, encoding/json first prepares what makes the next thousand values fast. That takes
// longer than everything that a launcher has to write, so this package just looks at each value.
package json

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Append appends the JSON of v to b, as an encoding/json Encoder with SetEscapeHTML(false) writes
// it, without a newline. It knows structs with the options "-", omitempty and omitzero, embedded
// structs, pointers, slices, maps with string keys, interfaces, strings, numbers, booleans, and
// types with the methods MarshalJSON and MarshalText. Other types are an error, and so are numbers
// that JSON cannot express.
func Append(b []byte, v any) ([]byte, error) {
	e := encoder{out: b}
	err := e.value(reflect.ValueOf(v))
	return e.out, err
}

type encoder struct{ out []byte }

// known are the fields of the structs that were written: a launcher writes its few types several
// times.
var known sync.Map // reflect.Type: []field

type field struct {
	index     int
	name      string // as JSON, with its colon
	omitEmpty bool
	omitZero  bool
	inline    bool // an embedded struct, or a pointer to one
	plain     bool // its type has no methods
}

func (e *encoder) value(v reflect.Value) error {
	if !v.IsValid() {
		e.out = append(e.out, "null"...)
		return nil
	}
	nilable := isNilable(v.Kind())
	if v.CanInterface() && v.NumMethod() > 0 && !(nilable && v.IsNil()) {
		switch m := v.Interface().(type) {
		case json.Marshaler:
			text, err := m.MarshalJSON()
			if err != nil {
				return err
			}
			compact := bytes.NewBuffer(e.out)
			err = json.Compact(compact, text)
			e.out = compact.Bytes()
			return err
		case encoding.TextMarshaler:
			text, err := m.MarshalText()
			e.text(string(text))
			return err
		}
	}
	return e.plain(v)
}

func isNilable(k reflect.Kind) bool {
	return k == reflect.Pointer || k == reflect.Interface || k == reflect.Map || k == reflect.Slice
}

var marshaler, textMarshaler = reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()

// isPlain reports whether no value of a type writes itself. To ask a value for that copies it.
func isPlain(t reflect.Type) bool {
	return t.Kind() != reflect.Interface && (t.NumMethod() == 0 || !t.Implements(marshaler) && !t.Implements(textMarshaler))
}

// plain writes a value whose methods do not matter.
func (e *encoder) plain(v reflect.Value) error {
	if isNilable(v.Kind()) && v.IsNil() {
		e.out = append(e.out, "null"...)
		return nil
	}
	switch v.Kind() {
	case reflect.Bool:
		e.out = strconv.AppendBool(e.out, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.out = strconv.AppendInt(e.out, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		e.out = strconv.AppendUint(e.out, v.Uint(), 10)
	case reflect.Float64:
		return e.float(v.Float())
	case reflect.String:
		e.text(v.String())
	case reflect.Pointer, reflect.Interface:
		return e.value(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			return e.list(v)
		}
		return fmt.Errorf("json: no form for %v", v.Type())
	case reflect.Map:
		return e.dict(v)
	case reflect.Struct:
		e.out = append(e.out, '{')
		_, err := e.members(v, true)
		e.out = append(e.out, '}')
		return err
	default:
		return fmt.Errorf("json: no form for %v", v.Type())
	}
	return nil
}

func (e *encoder) list(v reflect.Value) error {
	e.out = append(e.out, '[')
	plain := isPlain(v.Type().Elem())
	for i := range v.Len() {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if err := e.known(v.Index(i), plain); err != nil {
			return err
		}
	}
	e.out = append(e.out, ']')
	return nil
}

func (e *encoder) dict(v reflect.Value) error {
	if v.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("json: no form for %v", v.Type())
	}
	if v.CanInterface() {
		if m, ok := v.Interface().(map[string]float64); ok {
			return e.numbers(m)
		}
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	e.out = append(e.out, '{')
	plain := isPlain(v.Type().Elem())
	for i, k := range keys {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		e.text(k.String())
		e.out = append(e.out, ':')
		if err := e.known(v.MapIndex(k), plain); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}

// numbers is dict for the map that each record has.
func (e *encoder) numbers(m map[string]float64) error {
	var room [32]string
	names := room[:0]
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	e.out = append(e.out, '{')
	for i, name := range names {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		e.text(name)
		e.out = append(e.out, ':')
		if err := e.float(m[name]); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}

// known writes a value of a type of which is known whether it is plain.
func (e *encoder) known(v reflect.Value, plain bool) error {
	if plain {
		return e.plain(v)
	}
	return e.value(v)
}

// members writes the fields of a struct. first says, before and after the call, that no field was
// written yet.
func (e *encoder) members(v reflect.Value, first bool) (bool, error) {
	for _, f := range fieldsOf(v.Type()) {
		x := v.Field(f.index)
		if f.inline {
			if x.Kind() == reflect.Pointer {
				if x.IsNil() {
					continue
				}
				x = x.Elem()
			}
			var err error
			if first, err = e.members(x, first); err != nil {
				return first, err
			}
			continue
		}
		if f.omitEmpty && isEmpty(x) || f.omitZero && x.IsZero() {
			continue
		}
		if !first {
			e.out = append(e.out, ',')
		}
		first = false
		e.out = append(e.out, f.name...)
		if err := e.known(x, f.plain); err != nil {
			return first, err
		}
	}
	return first, nil
}

func fieldsOf(t reflect.Type) (list []field) {
	if list, ok := known.Load(t); ok {
		return list.([]field)
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case tag == "-":
		case f.Anonymous && !tagged && inner.Kind() == reflect.Struct:
			list = append(list, field{index: i, inline: true})
		case f.IsExported():
			if name == "" {
				name = f.Name
			}
			quoted := encoder{}
			quoted.text(name)
			list = append(list, field{index: i, name: string(quoted.out) + ":", omitEmpty: options == "omitempty", omitZero: options == "omitzero", plain: isPlain(f.Type)})
		}
	}
	known.Store(t, list)
	return list
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// float writes numbers as JavaScript does: with an exponent below 1e-6 and from 1e21 on.
func (e *encoder) float(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("json: no form for %v", f)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	e.out = strconv.AppendFloat(e.out, f, format, -1, 64)
	if n := len(e.out); format == 'e' && n >= 4 && string(e.out[n-4:n-1]) == "e-0" { // e-09 is e-9
		e.out = append(e.out[:n-2], e.out[n-1])
	}
	return nil
}

// Size is how many bytes Append writes for a string of valid UTF-8. With it a caller can make room
// for a long string.
func Size(s string) int {
	n := len(s) + 2
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f':
			n++
		case c < ' ':
			n += 5
		case c == 0xe2 && strings.HasPrefix(s[i:], "\u2028"), c == 0xe2 && strings.HasPrefix(s[i:], "\u2029"):
			n += 3
		}
	}
	return n
}

func (e *encoder) text(s string) {
	const hex = "0123456789abcdef"
	b := append(e.out, '"')
	for i := 0; i < len(s); {
		from := i
		for i < len(s) && s[i] >= ' ' && s[i] < utf8.RuneSelf && s[i] != '"' && s[i] != '\\' {
			i++
		}
		if b = append(b, s[from:i]...); i == len(s) {
			break
		}
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c >= ' ':
				b = append(b, c)
			case c == '\b':
				b = append(b, '\\', 'b')
			case c == '\f':
				b = append(b, '\\', 'f')
			case c == '\n':
				b = append(b, '\\', 'n')
			case c == '\r':
				b = append(b, '\\', 'r')
			case c == '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, `\ufffd`...)
		case r == '\u2028' || r == '\u2029': // line ends in JavaScript
			b = append(b, `\u202`...)
			b = append(b, hex[r&15])
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	e.out = append(b, '"')
}
