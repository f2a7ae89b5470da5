package python

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"py3run/cmd/internal/wire"
)

// Most of each kind that is handed on; the rest is counted as dropped.
const (
	mostFiles       = 100
	mostConnections = 100
	mostProcesses   = 100
)

// Events reads what the audit hook and the import watch have noted. It is what the interpreter said of itself: complete for code
// that does not fight it.
func (s *Session) Events(why map[string]string) wire.Events {
	s.reading.Wait()
	e := wire.Events{Imports: int(s.word(wordImports)), Dropped: int(s.word(wordDropped))}
	tally := newTally()
	text := s.memory[textOffset:eventsSize]
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	number := 0
	for len(text) > 0 && number < distinct {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			break // torn by a kill
		}
		count := int(binary.NativeEndian.Uint32(s.memory[4*(counters+number):]))
		tally.add(string(line), max(count, 1))
		text, number = rest, number+1
	}
	for line := range strings.Lines(string(s.told)) {
		if text, whole := strings.CutSuffix(line, "\n"); whole {
			tally.add(text, 1)
		}
	}
	tally.fill(&e, why)
	return e
}

type tally struct {
	direct, indirect map[string]bool
	connections      list[wire.Connection]
	processes        list[wire.Process]
	written, deleted list[string]
}

// A list keeps the first of each distinct thing, in order, and counts.
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
	case 'J':
		t.direct[fields[0]] = true
	case 'I':
		t.indirect[fields[0]] = true
	case 'C':
		c := wire.Connection{Host: fields[0], Via: "python"}
		if len(fields) > 1 {
			c.Port, _ = strconv.Atoi(fields[1])
		}
		t.connections.add(key, c, count)
	case 'P':
		args := redact(fields)
		t.processes.add(strings.Join(args, "\x00"), wire.Process{Program: args[0], Args: args[1:], Via: "python"}, count)
	case 'W':
		t.written.add(key, fields[0], count)
	case 'D':
		t.deleted.add(key, fields[0], count)
	}
}

func (t *tally) fill(e *wire.Events, why map[string]string) {
	for _, module := range slices.Sorted(maps.Keys(why)) {
		if t.direct[module] || t.indirect[module] {
			e.FlaggedImports = append(e.FlaggedImports, wire.FlaggedImport{Module: module, Why: why[module], Direct: t.direct[module]})
		}
	}
	for i, c := range t.connections.items {
		if i < mostConnections {
			c.Count = t.connections.count[i]
			e.Connections = append(e.Connections, c)
		}
	}
	for i, p := range t.processes.items {
		if i < mostProcesses {
			p.Count = t.processes.count[i]
			e.Processes = append(e.Processes, p)
		}
	}
	e.FilesWritten = t.written.items[:min(len(t.written.items), mostFiles)]
	e.FilesDeleted = t.deleted.items[:min(len(t.deleted.items), mostFiles)]
	e.Dropped += max(0, len(t.connections.items)-mostConnections) + max(0, len(t.processes.items)-mostProcesses) +
		len(t.written.items) - len(e.FilesWritten) + len(t.deleted.items) - len(e.FilesDeleted)
}

// unescape reads what Python's unicode_escape codec writes. A surrogate, which stands for a byte that was no UTF-8, becomes U+FFFD.
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
