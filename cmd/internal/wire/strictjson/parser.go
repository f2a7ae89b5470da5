package strictjson

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"strings"
)

// A parser makes one pass over text. With build it returns the values; without, it notes findings
// and returns nothing.
type parser struct {
	Options
	text   string
	pos    int
	build  bool
	blanks int // passed over so far

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

func (p *parser) document() (any, error) {
	if strings.HasPrefix(p.text, "\ufeff") {
		return nil, p.fail(0, "a byte order mark before the JSON; send UTF-8 without one")
	}
	p.skipSpace()
	if p.pos == len(p.text) {
		return nil, p.fail(0, cmp.Or(p.Empty, "the text is empty"))
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
	if len(p.path) == p.MaxDepth {
		return p.fail(p.pos, fmt.Sprintf(reasonDepth, p.MaxDepth))
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
	if !p.build || len(p.path) < p.RawDepth {
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

// separator reads what follows an element: a comma and then another element (true), or the
// container's end (false, not consumed).
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
