package strictjson

import (
	"iter"
	"math"
)

// A Raw is an array or object that was checked and stays text. A table of a million cells is only
// passed on in another form, and as a tree of Go values it would take five times its size.
type Raw struct {
	Text string
	Size int // of Text in bytes, without the blanks between its tokens
}

// IsArray reports whether r is an array; else it is an object.
func (r *Raw) IsArray() bool { return r.Text[0] == '[' }

// A Token is a part of a Raw. Commas and blanks are not tokens.
type Token struct {
	Kind    byte   // [ ] { } for the begin and end of a container, : for a name, " for a string, 0 for a number, and t f n for the three words
	Text    string // of a name or string, decoded; of a number, as it was written
	Integer bool   // a number has neither fraction nor exponent
}

// Tokens are the parts of r in the order of its text, first the beginning of r itself.
func (r *Raw) Tokens() iter.Seq[Token] {
	return func(yield func(Token) bool) {
		p := parser{text: r.Text} // what fails has failed when r was checked
		for p.pos < len(p.text) {
			var t Token
			switch c := p.text[p.pos]; c {
			case '"':
				t.Kind = '"'
				t.Text, _ = p.str()
				p.skipSpace()
				if p.at(':') {
					t.Kind = ':'
					p.pos++
				}
			case '[', ']', '{', '}':
				t.Kind = c
				p.pos++
			case 't', 'n':
				t.Kind = c
				p.pos += len("true")
			case 'f':
				t.Kind = c
				p.pos += len("false")
			case ',', ' ', '\t', '\n', '\r':
				p.pos++
				continue
			default:
				t.Kind = '0'
				t.Text, t.Integer, _ = p.literal()
			}
			if !yield(t) {
				return
			}
		}
	}
}

// tree takes r apart after all.
func (r *Raw) tree() any {
	v, err := parse(r.Text, Options{MaxDepth: math.MaxInt})
	if err != nil {
		panic("strictjson: a Raw that was not checked: " + err.Error())
	}
	return v
}
