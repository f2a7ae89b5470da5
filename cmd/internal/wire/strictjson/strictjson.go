// Package strictjson reads JSON as one writer and every reader must understand it in the same way.
// It refuses what a usual reader lets pass: a name that stands twice in one object, invalid UTF-8,
// a lone surrogate, a number beyond a double. Other readers of the same bytes take the first of two
// names or the last, replace what they cannot read, or round.
//
//	Parse    text ─► nil, bool, string, Number, []any, *Object, *Raw     a tree; deep containers can stay text
//	Inspect  text ─► Findings                                            the same checks, without a tree
//	Append   tree ─► compact text
//
// Its errors name a place and a reason and quote no value, because a value may be a secret.
package strictjson

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"unsafe"
)

// A Number is a JSON number as it was written: 2^100 stays exact until somebody decides what it is.
type Number string

// IsInteger reports whether n has neither fraction nor exponent.
func (n Number) IsInteger() bool { return !strings.ContainsAny(string(n), ".eE") }

// An Object is a JSON object in the order it was written. No name stands in it twice.
type Object struct {
	Names  []string
	Values []any
}

// Get returns the value of name. It walks the list: put an object that is asked often into a map.
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

// WithoutNull returns o without the members that are null. Many writers in Java write a field that
// has no value as null. It is for objects whose names are fields of a protocol: elsewhere a null is
// data.
func (o *Object) WithoutNull() *Object {
	if !slices.Contains(o.Values, nil) {
		return o
	}
	rest := &Object{}
	for i, v := range o.Values {
		if v != nil {
			rest.Names, rest.Values = append(rest.Names, o.Names[i]), append(rest.Values, v)
		}
	}
	return rest
}

// Options say how a text is read and how errors speak of it.
type Options struct {
	MaxDepth int    // how deep containers may nest
	RawDepth int    // containers inside this many others are checked and stay text, as *Raw; 0: every container becomes a tree
	Root     string // how paths begin; may be empty
	Empty    string // the reason why a text without a value is refused; may be empty
	Secret   string // a top-level name: paths end there, because the names inside may be the secret
}

// Parse reads one value: nil, bool, [Number], string, []any, [*Object] or [*Raw]. The values are
// parts of data, which must not change any more. Errors are [*SyntaxError].
func Parse(data []byte, o Options) (any, error) {
	return parse(textOf(data), o)
}

func parse(text string, o Options) (any, error) {
	if o.RawDepth == 0 {
		o.RawDepth = math.MaxInt
	}
	p := parser{text: text, Options: o, build: true, seed: maphash.MakeSeed()}
	return p.document()
}

// Findings are what Inspect noticed in an accepted text.
type Findings struct {
	// BigIntegers are the paths, such as result[1].x, of integers beyond ±(2^53-1): at most 20 of them.
	BigIntegers []string
	// BigIntegerCount counts all of them.
	BigIntegerCount int
}

// Inspect checks that data is one value by the rules of [Parse]. It builds no tree.
func Inspect(data []byte, o Options) (Findings, error) {
	p := parser{text: textOf(data), Options: o, seed: maphash.MakeSeed()}
	_, err := p.document()
	return p.findings, err
}

// textOf is data as a text, without a copy.
func textOf(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }

// Forget overwrites the bytes of data that a string of its tree is made of. A string with escapes is a
// copy, and data keeps what was escaped.
func Forget(data []byte, part string) {
	at := uintptr(unsafe.Pointer(unsafe.StringData(part))) - uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	if len(part) > 0 && at < uintptr(len(data)) && uintptr(len(part)) <= uintptr(len(data))-at {
		clear(data[at : at+uintptr(len(part))])
	}
}

// A SyntaxError says where a text stops being strict JSON. Path and Reason hold names and kinds,
// never a value of the text: a secret must not come back in a message.
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

// The reasons for which this package refuses what a usual JSON reader accepts. The fuzz test holds
// the two lists apart: any other refusal must be one that encoding/json shares.
const (
	reasonUTF8      = "invalid UTF-8"
	reasonSurrogate = "a lone surrogate escape is no character"
	reasonDuplicate = "the name stands twice in one object"
	reasonOverflow  = "the number does not fit a double"
	reasonDigits    = "the number has more than 4300 digits"
	reasonDepth     = "nested deeper than %d"
)

const reasonNoNumber = "JSON has no NaN and no Infinity; send null or a string"
