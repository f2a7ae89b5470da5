package audit

import (
	"fmt"
	"unicode/utf8"

	"py3run/internal/json"
)

const (
	maxLine   = 16 << 10 // bytes of a line with its newline
	maxString = 2048     // bytes of a string as it stands in the line, without quotes
)

// draft is a record on its way into a line, and how long its strings may be
// there.
type draft struct {
	record    Record
	maxString int
}

// cuts are the things a record can do without, the least missed first. User,
// auth and code stay whatever happens; the two last cuts only shorten strings,
// but leave room for hashes and run ids, which have up to 64 bytes.
//
// A cut replaces, and never writes into, what the caller's record points to.
var cuts = []func(*draft){
	dropHeads,
	inHooks(func(h *Hooks) { h.FilesWritten = nil }),
	inHooks(func(h *Hooks) { h.FilesDeleted = nil }),
	inHooks(func(h *Hooks) { h.Binds = nil }),
	inHooks(func(h *Hooks) { h.Processes = nil }),
	inHooks(func(h *Hooks) { h.Connections = nil }),
	inHooks(func(h *Hooks) { h.FlaggedImports = nil }),
	dropReasons,
	dropArguments,
	func(d *draft) { d.record.Labels = nil },
	func(d *draft) { d.record.Variables.List = nil },
	func(d *draft) { d.maxString = 256 },
	func(d *draft) { d.maxString = 64 },
}

func inHooks(drop func(*Hooks)) func(*draft) {
	return func(d *draft) {
		if d.record.Hooks != nil {
			h := *d.record.Hooks
			drop(&h)
			d.record.Hooks = &h
		}
	}
}

func dropHeads(d *draft) {
	if d.record.Output == nil {
		return
	}
	o := *d.record.Output
	for _, s := range []**Stream{&o.Stdout, &o.Stderr, &o.Result} {
		if *s != nil {
			*s = &Stream{Bytes: (*s).Bytes, SHA256: (*s).SHA256}
		}
	}
	d.record.Output = &o
}

func dropReasons(d *draft) {
	if d.record.Isolation == nil {
		return
	}
	i := *d.record.Isolation
	i.Missing = make([]Missing, len(i.Missing))
	for n, m := range d.record.Isolation.Missing {
		i.Missing[n].Name = m.Name
	}
	d.record.Isolation = &i
}

func dropArguments(d *draft) {
	if d.record.Invoked != nil {
		i := *d.record.Invoked
		i.ArgvDropped += len(i.Argv)
		i.Argv = nil
		d.record.Invoked = &i
	}
}

// fit cuts r until its line, without newline, has at most limit bytes.
func fit(r Record, limit int) (draft, error) {
	if r.Isolation != nil {
		// These two lists are always there; a nil slice would come out as null.
		i := *r.Isolation
		i.Enforced = append([]string{}, i.Enforced...)
		i.Missing = append([]Missing{}, i.Missing...)
		r.Isolation = &i
	}
	d := draft{record: r, maxString: maxString}
	line, shortened, err := d.encode()
	if err != nil {
		return draft{}, err
	}
	if len(line) <= limit && !shortened {
		return d, nil
	}
	d.record.Truncated = true
	for next := 0; ; next++ {
		line, _, err := d.encode()
		if err != nil {
			return draft{}, err
		}
		if len(line) <= limit {
			return d, nil
		}
		if next == len(cuts) {
			return draft{}, fmt.Errorf("record has %d bytes with everything cut that may be, and %d are allowed", len(line), limit)
		}
		cuts[next](&d)
	}
}

// encode makes the record's line, without newline, and says whether a string
// was too long for it.
func (d draft) encode() (line []byte, shortened bool, err error) {
	text, err := json.Append(nil, &d.record)
	if err != nil {
		return nil, false, err
	}
	line, shortened = printable(text, d.maxString)
	return line, shortened, nil
}

// printable writes JSON again in the characters from space to tilde, the others
// as \uXXXX, and ends strings of more than limit bytes with an ellipsis. The
// input is as encoding/json writes it: no blanks between tokens, C0 controls and invalid
// UTF-8 already escaped. What that leaves as it is, and terminals and viewers
// obey, is DEL, the C1 controls and the likes of U+202E.
func printable(in []byte, limit int) (out []byte, shortened bool) {
	out = make([]byte, 0, len(in)+len(in)/8+1) // +1: the newline
	var (
		inside bool // a string
		start  int  // where its text starts in out
		full   bool // it has its ellipsis
		char   [12]byte
	)
	for len(in) > 0 {
		if in[0] == '"' || !inside {
			if in[0] == '"' {
				inside = !inside
				start, full = len(out)+1, false
			}
			out = append(out, in[0])
			in = in[1:]
			continue
		}
		size, text := 1, in[:1]
		switch {
		case in[0] == '\\' && in[1] == 'u':
			size, text = 6, in[:6]
		case in[0] == '\\':
			size, text = 2, in[:2]
		case in[0] >= 0x7f:
			var r rune
			r, size = utf8.DecodeRune(in)
			text = appendEscaped(char[:0], r)
		}
		in = in[size:]
		switch {
		case full:
		case len(out)-start+len(text) > limit:
			out = appendEscaped(out, '…')
			full, shortened = true, true
		default:
			out = append(out, text...)
		}
	}
	return out, shortened
}

// appendEscaped appends \uXXXX, or the two of a surrogate pair.
func appendEscaped(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	unit := func(u rune) {
		b = append(b, '\\', 'u', hex[u>>12&0xf], hex[u>>8&0xf], hex[u>>4&0xf], hex[u&0xf])
	}
	if r < 0x10000 {
		unit(r)
	} else {
		unit(0xd800 + (r-0x10000)>>10)
		unit(0xdc00 + (r-0x10000)&0x3ff)
	}
	return b
}
