package audit

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"py3run/internal/activity"
	"py3run/internal/json"
)

const (
	maxLine   = 16 << 10 // bytes of a line with its newline
	maxString = 2048     // bytes of a string as it stands in the line, without quotes
)

// A draft is a record that becomes a line, and how long its strings may be there.
type draft struct {
	record    Record
	maxString int
}

// A cut takes something from a draft whose line is too long by so many bytes. It replaces what the
// caller's record points to, and never writes into it.
type cut func(d *draft, over int) error

// cuts are what a record can do without, the least important first. In the lists of hooks, long
// texts are shortened before entries are dropped, and the first entries of each list stay as long
// as other lists have more. What is dropped is counted, except groups. User, roles, auth and
// code always stay. The two last cuts only shorten strings, and leave room for hashes and run ids,
// which have up to 64 bytes.
var cuts = slices.Concat(
	[]cut{always(dropHeads), shorten(120, 8)}, thin(firstKept),
	[]cut{trimWhere(firstKept), always(dropReasons), always(dropArguments), trimLabels(firstKept), trimVariables(firstKept), trimFiles(firstKept), shorten(40, 3)}, thin(0),
	[]cut{trimWhere(0), trimChanges(firstKept), trimGroups(firstKept), trimLabels(0), trimVariables(0), trimFiles(0), trimChanges(0), trimGroups(0), always(func(d *draft) { d.maxString = 256 }), always(func(d *draft) { d.maxString = 64 })},
)

// firstKept is how many entries of each list stay as long as other lists have more.
const firstKept = 5

// always is a cut that takes the same whatever the excess.
func always(take func(*draft)) cut {
	return func(d *draft, _ int) error { take(d); return nil }
}

// thin takes as many entries as necessary from the ends of the lists in hooks, and leaves at least
// so many in each.
func thin(least int) []cut {
	return []cut{
		trim(least, func(h *activity.Summary) *[]string { return &h.FilesRead }),
		trim(least, func(h *activity.Summary) *[]string { return &h.FilesWritten }),
		trim(least, func(h *activity.Summary) *[]string { return &h.DirsMade }),
		trim(least, func(h *activity.Summary) *[]string { return &h.FilesDeleted }),
		trim(least, func(h *activity.Summary) *[]activity.Connection { return &h.Binds }),
		trim(least, func(h *activity.Summary) *[]activity.Process { return &h.Processes }),
		trim(least, func(h *activity.Summary) *[]activity.Connection { return &h.Connections }),
		trim(least, func(h *activity.Summary) *[]activity.FlaggedImport { return &h.FlaggedImports }),
	}
}

func trim[T any](least int, list func(*activity.Summary) *[]T) cut {
	return func(d *draft, over int) error {
		if d.record.Hooks == nil {
			return nil
		}
		h := *d.record.Hooks
		l := list(&h)
		kept, err := fitting(*l, least, over, d.maxString)
		h.Dropped += len(*l) - len(kept)
		*l = kept
		d.record.Hooks = &h
		return err
	}
}

// fitting drops entries worth so many bytes from the end of a list, and leaves at least so many
// entries.
func fitting[T any](list []T, least, over, maxString int) ([]T, error) {
	const digits = 10 // for the number that says how many are gone
	n := len(list)
	for over += digits; n > least && over > 0; {
		n--
		text, err := json.Append(nil, list[n])
		if err != nil {
			return list, err
		}
		line, _ := printable(text, maxString)
		over -= len(line) + len(",")
	}
	if n == 0 {
		return nil, nil
	}
	return list[:n:n], nil
}

// trimVariables drops entries of the list; their number stays.
func trimVariables(least int) cut {
	return func(d *draft, over int) (err error) {
		d.record.Variables.List, err = fitting(d.record.Variables.List, least, over, d.maxString)
		return err
	}
}

// trimFiles drops entries of the lists; number, size and hash of all files stay.
func trimFiles(least int) cut {
	return func(d *draft, over int) error {
		if d.record.Files == nil {
			return nil
		}
		f := *d.record.Files
		for _, set := range []**FileSet{&f.Collected, &f.Put} {
			if *set == nil || over <= 0 {
				continue
			}
			s := **set
			kept, err := fitting(s.List, least, over, d.maxString)
			if err != nil {
				return err
			}
			text, err := json.Append(nil, s.List[len(kept):])
			if err != nil {
				return err
			}
			over -= len(text)
			s.List = kept
			*set = &s
		}
		d.record.Files = &f
		return nil
	}
}

// trimWhere drops frames, the innermost last.
func trimWhere(least int) cut {
	return func(d *draft, over int) error {
		if d.record.Failure == nil {
			return nil
		}
		f := *d.record.Failure
		inner := slices.Clone(f.Where)
		slices.Reverse(inner)
		inner, err := fitting(inner, least, over, d.maxString)
		slices.Reverse(inner)
		f.Where = inner
		d.record.Failure = &f
		return err
	}
}

// trimChanges drops sentences about a change of the policy, and counts them.
func trimChanges(least int) cut {
	return func(d *draft, over int) error {
		if d.record.Policy == nil {
			return nil
		}
		p := *d.record.Policy
		kept, err := fitting(p.Changes, least, over+len(`,"changes_dropped":`), d.maxString)
		p.ChangesDropped += len(p.Changes) - len(kept)
		p.Changes = kept
		d.record.Policy = &p
		return err
	}
}

// trimGroups drops groups of the user. Roles always stay: they say what was allowed.
func trimGroups(least int) cut {
	return func(d *draft, over int) (err error) {
		d.record.User.Groups, err = fitting(d.record.User.Groups, least, over, d.maxString)
		return err
	}
}

// shorten cuts the texts in the lists of hooks after so many characters, and keeps so many
// arguments of a program. A name that was cut gets an ellipsis; arguments that were cut or dropped
// are counted.
func shorten(most, args int) cut {
	return always(func(d *draft) {
		if d.record.Hooks != nil {
			h := shortened(*d.record.Hooks, most, args)
			d.record.Hooks = &h
		}
	})
}

func shortened(h activity.Summary, most, args int) activity.Summary {
	for _, l := range []*[]string{&h.FilesRead, &h.FilesWritten, &h.DirsMade, &h.FilesDeleted} {
		*l = slices.Clone(*l)
		for i, name := range *l {
			if short := beginning(name, most); short != name {
				(*l)[i] = strings.TrimSuffix(short, "…") + "…"
			}
		}
	}
	h.Processes = slices.Clone(h.Processes)
	for i := range h.Processes {
		p := &h.Processes[i]
		if len(p.Args) > args {
			p.ArgsDropped += len(p.Args) - args
			p.Args = p.Args[:args]
		}
		p.Args = slices.Clone(p.Args)
		cut := 0 // an argument that was cut before is still long, unless it was a secret
		for j, arg := range p.Args {
			if short := beginning(arg, most); short != arg {
				cut++
				p.Args[j] = short
			}
		}
		p.ArgsCut = max(cut, min(p.ArgsCut, len(p.Args)))
	}
	return h
}

// trimLabels drops as many labels as necessary, from the last on, and adds how many they were under
// a name that no caller can give.
func trimLabels(least int) cut {
	const mark, form = "…", "%d more"
	return func(d *draft, over int) error {
		labels := maps.Clone(d.record.Labels)
		gone := 0 // dropped by an earlier cut
		fmt.Sscanf(labels[mark], form, &gone)
		delete(labels, mark)
		var list []map[string]string
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			list = append(list, map[string]string{name: labels[name]})
		}
		kept, err := fitting(list, least, over+len(`"\u2026":" more"`), d.maxString)
		if err != nil || len(kept) == len(list) {
			return err
		}
		for _, l := range list[len(kept):] {
			for name := range l {
				delete(labels, name)
			}
		}
		labels[mark] = fmt.Sprintf(form, gone+len(list)-len(kept))
		d.record.Labels = labels
		return nil
	}
}

// beginning returns the first characters of a text.
func beginning(text string, most int) string {
	if len(text) <= most {
		return text
	}
	n := 0
	for i := range text {
		if n++; n > most {
			return text[:i]
		}
	}
	return text
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
	i.Missing = make([]Gap, len(i.Missing))
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
	d, _, err := fitLine(r, limit)
	return d, err
}

// fitLine does that, and returns the line, too.
func fitLine(r Record, limit int) (draft, []byte, error) {
	if r.Isolation != nil {
		// These two lists are always there; a nil slice would come out as null.
		i := *r.Isolation
		i.Enforced = append([]string{}, i.Enforced...)
		i.Missing = append([]Gap{}, i.Missing...)
		r.Isolation = &i
	}
	if r.Hooks != nil {
		h := r.Hooks.WithoutEmpty()
		r.Hooks = &h
	}
	d := draft{record: r, maxString: maxString}
	line, shortened, err := d.encode()
	if err != nil {
		return draft{}, nil, err
	}
	if len(line) <= limit && !shortened {
		return d, line, nil
	}
	d.record.Truncated = true
	for next := 0; ; next++ {
		line, _, err := d.encode()
		if err != nil {
			return draft{}, nil, err
		}
		if len(line) <= limit {
			return d, line, nil
		}
		if next == len(cuts) {
			return draft{}, nil, fmt.Errorf("record has %d bytes with everything cut that may be, and %d are allowed", len(line), limit)
		}
		if err := cuts[next](&d, len(line)-limit); err != nil {
			return draft{}, nil, err
		}
	}
}

// encode makes the record's line, without newline, and reports whether a string was too long for it.
func (d *draft) encode() (line []byte, shortened bool, err error) {
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	text, err := json.Append((*room)[:0], &d.record)
	if err != nil {
		return nil, false, err
	}
	*room = text
	line, shortened = printable(text, d.maxString)
	return line, shortened, nil
}

// rooms are memory for text that becomes a line.
var rooms = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// printable rewrites JSON with the characters from space to tilde and with \uXXXX for all others.
// It ends strings of more than limit bytes with an ellipsis. The input is as encoding/json writes
// it: no blanks between tokens, and C0 controls and invalid UTF-8 escaped. That leaves DEL, the C1
// controls and characters such as U+202E, which terminals and viewers obey.
func printable(in []byte, limit int) (out []byte, shortened bool) {
	out = make([]byte, 0, len(in)+len(in)/8+1) // +1: the newline
	if len(in) <= limit && isPrintable(in) {   // as most records
		return append(out, in...), false
	}
	for {
		quote := bytes.IndexByte(in, '"')
		if quote < 0 {
			return append(out, in...), shortened
		}
		out = append(out, in[:quote+1]...)
		in = in[quote+1:]
		var cut bool
		out, in, cut = printableString(out, in, limit)
		shortened = shortened || cut
	}
}

func isPrintable(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// printableString does that for the rest of one string, the quote at its end included.
func printableString(out, in []byte, limit int) (_, rest []byte, shortened bool) {
	var char [12]byte
	start := len(out)
	for len(in) > 0 {
		n := 0
		for n < len(in) && in[n] >= ' ' && in[n] < 0x7f && in[n] != '"' && in[n] != '\\' {
			n++
		}
		size, text := 1, in[:1]
		switch {
		case n > 0:
			size, text = n, in[:min(n, max(0, limit-(len(out)-start)))]
		case in[0] == '"':
			return append(out, '"'), in[1:], shortened
		case in[0] == '\\' && in[1] == 'u':
			size, text = 6, in[:6]
		case in[0] == '\\':
			size, text = 2, in[:2]
		case in[0] >= 0x7f:
			var r rune
			r, size = utf8.DecodeRune(in)
			text = appendEscaped(char[:0], r)
		}
		whole := len(text) >= n && len(out)-start+len(text) <= limit
		if !shortened && (whole || n > 0) {
			out = append(out, text...)
		}
		if !shortened && !whole {
			out = appendEscaped(out, '…')
			shortened = true
		}
		in = in[size:]
	}
	return out, nil, shortened
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
