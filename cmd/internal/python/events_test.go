package python

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/wire"
)

func TestUnescape(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"plain", "/tmp/a b", "/tmp/a b"},
		{"empty", "", ""},
		{"controls", `a\n\r\tb\x00\x1b`, "a\n\r\tb\x00\x1b"},
		{"backslashes", `a\\n\\\\`, `a\n\\`},
		{"letters", `\xe9\u20ac\U0001f600`, "é€😀"},
		{"surrogates", `\udcff\ud800`, "\uFFFD\uFFFD"},
		{"beyond Unicode", `\U00110000`, "\uFFFD"},
		{"no digits", `\xzz!`, "\uFFFD!"},
		{"cut after the backslash", `a\`, `a\`},
		{"cut in the number", `a\x4`, "a"},
		{"cut in a long number", `a\U0001f60`, "a"},
		{"whole at the end", `a\x41`, "aA"},
		{"an unknown letter", `a\qb`, "ab"},
		{"raw bytes", "a\xff", "a\uFFFD"},
		{"raw bytes and a backslash", "\\n\xff", "\n\uFFFD"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := unescape(tt.in); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// What stands in the memory is what any program may have put there.
func TestEvents(t *testing.T) {
	t.Parallel()
	type counted struct {
		line  string
		count uint32
	}
	many := func(n int, form string) (list []counted) {
		for i := range n {
			list = append(list, counted{fmt.Sprintf(form, i) + "\n", 1})
		}
		return list
	}
	file := func(n int, form string) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf(form, i))
		}
		return list
	}
	tests := []struct {
		name     string
		lines    []counted
		children string
		dropped  uint32
		want     wire.Events
	}{
		{"nothing", nil, "", 0, wire.Events{}},
		{"one of each", []counted{{"W/a\n", 1}, {"D/b\n", 1}, {"Ch\t80\n", 1}, {"Pls\t-l\n", 1}, {"Jos\n", 1}, {"Isubprocess\n", 1}}, "", 0,
			wire.Events{FilesWritten: []string{"/a"}, FilesDeleted: []string{"/b"}, Connections: []wire.Connection{{Host: "h", Port: 80, Via: "python", Count: 1}},
				Processes:      []wire.Process{{Program: "ls", Args: []string{"-l"}, Via: "python", Count: 1}},
				FlaggedImports: []wire.FlaggedImport{{Module: "os", Why: whyFlagged["os"], Direct: true}, {Module: "subprocess", Why: whyFlagged["subprocess"]}}}},
		{"both ways", []counted{{"Ios\n", 1}, {"Jos\n", 1}}, "Ios\n", 0, wire.Events{FlaggedImports: []wire.FlaggedImport{{Module: "os", Why: whyFlagged["os"], Direct: true}}}},
		{"a module that nobody flagged", []counted{{"Jnowhere\n", 1}}, "", 0, wire.Events{}},
		{"counts", []counted{{"Ch\t80\n", 3}, {"W/a\n", 9}, {"Ch\t80\n", 4}}, "Ch\t80\nCh\t81\n", 0,
			wire.Events{FilesWritten: []string{"/a"}, Connections: []wire.Connection{{Host: "h", Port: 80, Via: "python", Count: 8}, {Host: "h", Port: 81, Via: "python", Count: 1}}}},
		{"binds", []counted{{"B\t8080\n", 2}, {"B127.0.0.1\t0\n", 1}, {"Bunix:/s\n", 1}}, "B\t8080\n", 0,
			wire.Events{Binds: []wire.Connection{{Host: "*", Port: 8080, Via: "python", Count: 3}, {Host: "127.0.0.1", Via: "python", Count: 1}, {Host: "unix:/s", Via: "python", Count: 1}}}},
		{"appended to", []counted{{"A/a\n", 2}, {"W/b\n", 1}, {"W/a\n", 1}}, "A/c\n", 0, wire.Events{FilesWritten: []string{"/a", "/b", "/c"}, Appended: []string{"/a", "/c"}}},
		{"a count that did not come", []counted{{"Ch\t80\n", 0}}, "", 0, wire.Events{Connections: []wire.Connection{{Host: "h", Port: 80, Via: "python", Count: 1}}}},
		{"torn", []counted{{"W/a\n", 1}, {"W/b", 1}}, "W/c\nW/d", 0, wire.Events{FilesWritten: []string{"/a", "/c"}}},
		{"unknown kinds", []counted{{"X/a\n", 1}, {"\n", 1}, {"W/b\n", 1}}, "\n\nZ\n", 0, wire.Events{FilesWritten: []string{"/b"}}},
		{"fields missing", []counted{{"C\n", 1}, {"P\n", 1}, {"Ch\tx\n", 1}}, "", 0,
			wire.Events{Connections: []wire.Connection{{Via: "python", Count: 1}, {Host: "h", Via: "python", Count: 1}}, Processes: []wire.Process{{Via: "python", Count: 1}}}},
		{"dropped by the hook", []counted{{"W/a\n", 1}}, "", 7, wire.Events{FilesWritten: []string{"/a"}, Dropped: 7}},
		{"more files than are named", many(mostFiles+2, "W/%d"), "", 1, wire.Events{FilesWritten: file(mostFiles, "/%d"), Dropped: 3}},
		{"more deleted than are named", many(mostFiles+2, "D/%d"), "", 0, wire.Events{FilesDeleted: file(mostFiles, "/%d"), Dropped: 2}},
		{"secrets make one of two", []counted{{"Px\t--password=a\n", 2}, {"Px\t--password=b\n", 3}}, "", 0,
			wire.Events{Processes: []wire.Process{{Program: "x", Args: []string{"--password=***"}, Via: "python", Count: 5}}}},
		{"all the memory full", []counted{{strings.Repeat("W/a\n", (eventsSize-textOffset)/4), 1}}, "", 0, wire.Events{FilesWritten: []string{"/a"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &Session{memory: make([]byte, eventsSize), childEvents: []byte(tt.children)}
			at := textOffset
			for i, l := range tt.lines {
				at += copy(s.memory[at:], l.line)
				binary.NativeEndian.PutUint32(s.memory[4*(counters+i):], l.count)
			}
			binary.NativeEndian.PutUint32(s.memory[4*wordDropped:], tt.dropped)
			if got, want := inWords(s.Events(whyFlagged, wire.Events{})), inWords(tt.want); got != want {
				t.Errorf("\n%swant\n%s", got, want)
			}
		})
	}
}

// A reply is read with the same mistrust.
func TestReplyUntrusted(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		committed    uint32
		about, value string
		lengths      [2]uint32 // instead of the true ones
		want         string    // the error, or the kind
	}{
		{"nothing said", 0, `{"kind":"value"}`, "1", [2]uint32{}, "no reply"},
		{"half said", 2, `{"kind":"value"}`, "1", [2]uint32{}, "no reply"},
		{"value", 1, `{"kind":"value"}`, "1", [2]uint32{}, "value"},
		{"no kind", 1, `{}`, "1", [2]uint32{}, "of no known kind"},
		{"a kind of its own", 1, `{"kind":"ok"}`, "1", [2]uint32{}, "of no known kind"},
		{"no object", 1, `[]`, "1", [2]uint32{}, "not an object"},
		{"no JSON", 1, `{"kind":`, "1", [2]uint32{}, "reply: "},
		{"no JSON value", 1, `{"kind":"value"}`, "NaN", [2]uint32{}, "reply: value: "},
		{"two JSON values", 1, `{"kind":"value"}`, "1 2", [2]uint32{}, "reply: value: "},
		{"a name twice", 1, `{"kind":"value"}`, `{"a":1,"a":2}`, [2]uint32{}, "reply: value: "},
		{"no UTF-8", 1, `{"kind":"value"}`, "\"\xff\"", [2]uint32{}, "reply: value: "},
		{"too deep", 1, `{"kind":"value"}`, strings.Repeat("[", 600) + strings.Repeat("]", 600), [2]uint32{}, "reply: value: "},
		{"an error needs no value", 1, `{"kind":"error","line":"x","syntax":1,"warnings":[1,["a"],["a","b"],[1,2]]}`, "?", [2]uint32{}, "error"},
		{"lengths beyond the memory", 1, `{}`, "1", [2]uint32{1 << 31, 1 << 31}, "out of bounds"},
		{"lengths that overflow together", 1, `{}`, "1", [2]uint32{1<<32 - 1, 1<<32 - 1}, "out of bounds"},
		{"longer than the limit", 1, `{"kind":"value"}`, strings.Repeat(" ", 2001), [2]uint32{}, "too_large"},
		{"said to be longer than the limit", 1, `{"kind":"value"}`, "", [2]uint32{16, 2001}, "is not there"},
		{"only said to be too large", 1, `{"kind":"too_large","bytes":99999999}`, "", [2]uint32{}, "of no known kind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &Session{memory: make([]byte, eventsSize+4096), most: 2000}
			put := func(word int, n uint32) { binary.NativeEndian.PutUint32(s.memory[4*word:], n) }
			put(wordCommitted, tt.committed)
			put(wordAbout, uint32(len(tt.about)))
			put(wordValue, uint32(len(tt.value)))
			if tt.lengths != [2]uint32{} {
				put(wordAbout, tt.lengths[0])
				put(wordValue, tt.lengths[1])
			}
			copy(s.memory[eventsSize:], tt.about+tt.value)
			r, err := s.Reply()
			got := r.Kind
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// What the interpreter says, or code in its place, comes through bounded, as one line where it is one, and without a word that only the launcher has.
func TestReplyIsData(t *testing.T) {
	t.Parallel()
	quoted := func(text string) string { return string(wire.AppendJSON(nil, text)) }
	var flood []string
	for range 1000 {
		flood = append(flood, `["inexact_value","x"]`)
	}
	long := strings.Repeat("é", 600<<10)
	tests := []struct {
		name, about string
		check       func(r Reply) bool
	}{
		{"the interpreter's own codes", `"warnings":[["inexact_value","a"],["circular_value","b"],["truncated_value","c"]]`, func(r Reply) bool {
			return slices.Equal(r.Warnings, []wire.Warning{{Code: "inexact_value", Message: "a"}, {Code: "circular_value", Message: "b"}, {Code: "truncated_value", Message: "c"}})
		}},
		{"the launcher's codes", `"warnings":[["clamped_limit","memory_mb"],["process_limit","x"],["processes_ended",""],["audit_off","\u001b[2J\nno"],["",""]]`, func(r Reply) bool {
			return slices.Equal(r.Warnings, []wire.Warning{{Code: "program_says", Message: "clamped_limit: memory_mb"}, {Code: "program_says", Message: "process_limit: x"},
				{Code: "program_says", Message: "processes_ended: "}, {Code: "program_says", Message: "audit_off: \ufffd[2J\ufffdno"}, {Code: "program_says", Message: ": "}})
		}},
		{"a long code and message", `"warnings":[[` + quoted(long) + `,` + quoted(long) + `]]`, func(r Reply) bool {
			return len(r.Warnings) == 1 && r.Warnings[0].Code == "program_says" && len(r.Warnings[0].Message) <= warningMost && utf8.ValidString(r.Warnings[0].Message)
		}},
		{"a thousand warnings", `"warnings":[` + strings.Join(flood, ",") + `]`, func(r Reply) bool { return len(r.Warnings) == warningsMost }},
		{"long texts", `"type":` + quoted(long) + `,"error":` + quoted(long) + `,"traceback":` + quoted(long+"end") + `,"text":` + quoted(long), func(r Reply) bool {
			return len(r.Type) <= typeMost && len(r.Error) <= errorMost && len(r.Text) <= textMost && len(r.Traceback) <= tracebackMost && strings.HasSuffix(r.Traceback, "éend") &&
				utf8.ValidString(r.Type+r.Error+r.Text+r.Traceback)
		}},
		{"a type of several lines", `"type":"A\u001b[31m\nB"`, func(r Reply) bool { return r.Type == "A\ufffd[31m\ufffdB" }},
		{"no place", `"line":-4,"column":0`, func(r Reply) bool { return r.Line == 0 && r.Column == 0 }},
		{"a place far away", `"line":99999999999,"column":1e3`, func(r Reply) bool { return r.Line == 0 && r.Column == 0 }},
		{"a place", `"line":7,"column":3`, func(r Reply) bool { return r.Line == 7 && r.Column == 3 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if r, err := readAbout(`{"kind":"error",` + tt.about + `}`); err != nil || !tt.check(r) {
				t.Errorf("%.500s, %v", fmt.Sprintf("%+v", r), err)
			}
		})
	}
}

// What can be written to the dump pipe comes through as names and lines, too.
func TestWhereIsData(t *testing.T) {
	t.Parallel()
	dump := "Thread 0x1 (most recent call first):\n  File \"a\x1b[2J\", line -3 in f\n  File \"b\x1b[2J\", line 5 in g\x07\n  File \"c\", line 99999999999 in h\n  File \"" + strings.Repeat("d", 30000) + "\", line 6 in i\n"
	frames := Where([]byte(dump), "/code.py", "main.py", nil)
	if len(frames) != 2 || frames[1].File != "b\ufffd[2J" || frames[1].Function != "g\ufffd" || frames[1].Line != 5 || len(frames[0].File) > nameMost {
		t.Errorf("%.500s", fmt.Sprintf("%+v", frames))
	}
}

// A write end that somebody still has, a process outside the run say, does not hold the events up.
func TestEventsOfAPipeThatStaysOpen(t *testing.T) {
	t.Parallel()
	s, err := open(Job{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := unix.Dup(int(s.files[len(s.files)-1].Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(kept)
	s.Started()
	if _, err := unix.Write(kept, []byte("delete\tfile\n")); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { s.Events(nil, wire.Events{}); s.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("still waits")
	}
}
