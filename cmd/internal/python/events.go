package python

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"py3run/cmd/internal/redact"
	"py3run/cmd/internal/wire"
	"py3run/internal/activity"
)

// At most so many of each kind are reported; the rest is counted as dropped.
const (
	mostFiles       = 100
	mostConnections = 100
	mostBinds       = 100
	mostProcesses   = 100
	mostDirs        = 100
	mostRead        = 100
)

// anywhere stands for all interfaces. Python has an empty name for them.
const anywhere = "*"

// Events reads what the audit hook and the watch on imports have noted. This is what the
// interpreter says of itself: it is complete for code that does not fight it. seen is what the
// kernel has seen; what the interpreter has not noted of it is reported as native. why names the
// flagged modules, with the reason.
func (s *Session) Events(why map[string]string, seen wire.Events) wire.Events {
	s.children.SetReadDeadline(time.Now().Add(childrenWait)) // a process may hold the other end for ever, even one outside the run
	if s.reading.Wait(); !s.attended && s.children != nil {
		s.readChildren()
	}
	imports := int(s.word(wordImports))
	noRoom := int(s.word(wordDropped))
	e := wire.Events{Imports: &imports, Dropped: noRoom + seen.Dropped}
	tally := newTally()
	text := s.memory[textOffset:eventsSize]
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	number := 0
	for len(text) > 0 && number < distinct {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			break // a kill came in the middle of it
		}
		count := int(binary.NativeEndian.Uint32(s.memory[4*(counters+number):]))
		tally.add(string(line), max(count, 1))
		text, number = rest, number+1
	}
	for line := range strings.Lines(string(s.childEvents)) {
		if text, whole := strings.CutSuffix(line, "\n"); whole {
			tally.add(text, 1)
		}
	}
	tally.native(seen)
	e.Dropped += tally.missing(seen, noRoom)
	tally.fill(&e, why)
	return e
}

// KernelEvents are the events of a run without hooks: what the kernel has seen.
func KernelEvents(seen wire.Events) wire.Events {
	e := wire.Events{PythonHooks: activity.NoHooks, Dropped: seen.Dropped}
	tally := newTally()
	tally.native(seen)
	e.Dropped += tally.missing(seen, 0)
	tally.fill(&e, nil)
	return e
}

type tally struct {
	direct, indirect map[string]bool
	connections      list[wire.Connection]
	binds            list[wire.Connection]
	processes        list[wire.Process]
	written, deleted files
	dirs, read       files
	appended         []string
}

// A list keeps the first of each distinct thing, in order, and counts them.
type list[T any] struct {
	items []T
	count []int
	at    map[string]int
}

func (l *list[T]) add(key string, item T, count int) {
	if l.at == nil {
		l.at = map[string]int{}
	}
	if i, ok := l.at[key]; ok {
		l.count[i] += count
		return
	}
	l.at[key] = len(l.items)
	l.items, l.count = append(l.items, item), append(l.count, count)
}

// counted returns the items with their counts.
func (l *list[T]) counted(set func(*T, int)) []T {
	items := slices.Clone(l.items)
	for i := range items {
		set(&items[i], l.count[i])
	}
	return items
}

func newTally() *tally {
	return &tally{direct: map[string]bool{}, indirect: map[string]bool{}}
}

// add reads one event: a letter for its kind, then fields between tabs, in Python's unicode_escape.
func (t *tally) add(line string, count int) {
	if line == "" {
		return
	}
	fields := strings.Split(line[1:], "\t")
	for i, f := range fields {
		fields[i] = unescape(f)
	}
	key := strings.Join(fields, "\x00")
	switch line[0] {
	case eventDirect:
		t.direct[fields[0]] = true
	case eventIndirect:
		t.indirect[fields[0]] = true
	case eventConnect, eventBind:
		c := wire.Connection{Host: fields[0], Via: "python"}
		if len(fields) > 1 {
			c.Port, _ = strconv.Atoi(fields[1])
		}
		if line[0] == eventConnect {
			t.connections.add(key, c, count)
			break
		}
		if c.Host == "" { // of all interfaces
			c.Host = anywhere
		}
		t.binds.add(key, c, count)
	case eventStart:
		t.started(fields, 0, 0, count)
	case eventStartCut:
		if len(fields) > 2 {
			dropped, _ := strconv.Atoi(fields[0])
			short, _ := strconv.Atoi(fields[1])
			t.started(fields[2:], max(dropped, 0), max(short, 0), count)
		}
	case eventAppend:
		t.appended = append(t.appended, fields[0])
		t.written.told(fields[0])
	case eventWrite:
		t.written.told(fields[0])
	case eventDelete:
		t.deleted.told(fields[0])
	case eventMakeDir:
		t.dirs.told(fields[0])
	case eventRead:
		t.read.told(fields[0])
	}
}

func (t *tally) started(argv []string, dropped, short, count int) {
	argv = redact.Args(argv)
	p := wire.Process{Program: argv[0], Args: argv[1:], Via: "python", ArgsDropped: dropped, ArgsCut: short}
	t.processes.add(strings.Join(append([]string{strconv.Itoa(dropped), strconv.Itoa(short)}, argv...), "\x00"), p, count)
}

func (t *tally) fill(e *wire.Events, why map[string]string) {
	for _, module := range slices.Sorted(maps.Keys(why)) {
		if t.direct[module] || t.indirect[module] {
			e.FlaggedImports = append(e.FlaggedImports, wire.FlaggedImport{Module: module, Why: why[module], Direct: t.direct[module]})
		}
	}
	address := func(c *wire.Connection, n int) { c.Count = n }
	e.Connections, e.Dropped = first(t.connections.counted(address), mostConnections, e.Dropped)
	e.Binds, e.Dropped = first(t.binds.counted(address), mostBinds, e.Dropped)
	e.Processes, e.Dropped = first(t.processes.counted(func(p *wire.Process, n int) { p.Count = n }), mostProcesses, e.Dropped)
	e.FilesWritten, e.Dropped = first(t.written.items, mostFiles, e.Dropped)
	e.FilesDeleted, e.Dropped = first(t.deleted.items, mostFiles, e.Dropped)
	e.DirsMade, e.Dropped = first(t.dirs.items, mostDirs, e.Dropped)
	e.FilesRead, e.Dropped = first(t.read.items, mostRead, e.Dropped)
	e.Appended = t.appended
}

// first cuts a list, and adds the number of what it cuts to dropped.
func first[T any](items []T, most, dropped int) ([]T, int) {
	kept := items[:min(len(items), most)]
	return kept, dropped + len(items) - len(kept)
}

// unescape reads what Python's unicode_escape codec writes. A surrogate stands for a byte that was
// not UTF-8, and becomes U+FFFD.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[i]]
		if digits == 0 {
			b.WriteString(map[byte]string{'n': "\n", 'r': "\r", 't': "\t"}[s[i]])
			if s[i] == '\\' {
				b.WriteByte('\\')
			}
			continue
		}
		if i+digits >= len(s) {
			break // cut in the middle
		}
		n, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32)
		if r := rune(n); err == nil && utf8.ValidRune(r) {
			b.WriteRune(r)
		} else {
			b.WriteRune(utf8.RuneError)
		}
		i += digits
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}
