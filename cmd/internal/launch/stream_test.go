package launch

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// A heard stream remembers what it was told.
type heard struct {
	mu      sync.Mutex
	outputs []wire.OutputEvent
	beats   []wire.HeartbeatEvent
}

func (h *heard) Start(*wire.StartEvent) {}
func (h *heard) Output(e *wire.OutputEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.outputs = append(h.outputs, *e)
}
func (h *heard) Heartbeat(e *wire.HeartbeatEvent) { h.beats = append(h.beats, *e) }
func (h *heard) Hurry()                           {}
func (h *heard) Dropped() int64                   { return 0 }

// text puts the events of a stream together, which must follow each other without a gap.
func (h *heard) text(t *testing.T) (text string, bytes int64) {
	t.Helper()
	for _, e := range h.outputs {
		if e.Offset != bytes || e.Bytes == 0 && !e.Truncated {
			t.Fatalf("%+v at %d", e, bytes)
		}
		bytes += e.Bytes
		text += e.Text
	}
	return text, bytes
}

// However a program's writes cut its output, the texts of the events together are that of the result.
func TestStreamed(t *testing.T) {
	t.Parallel()
	pieces := []string{"a", "é", "€", "😀", "\xff", "\xe2", "\xe2\x82", "\xf0\x9f\x98", "\x80", "\xed\xa0\x80", "\xc0\xaf", "\n", "\x00", "\xf4\x90\x80\x80"}
	for range 300 {
		var b strings.Builder
		for range rand.IntN(8) {
			b.WriteString(pieces[rand.IntN(len(pieces))])
		}
		all := b.String()
		h := &heard{}
		s := &streamed{to: h, name: wire.EventStdout}
		for rest := all; rest != ""; {
			n := 1 + rand.IntN(len(rest))
			if got, err := s.Write([]byte(rest[:n])); got != n || err != nil {
				t.Fatal(got, err)
			}
			rest = rest[n:]
		}
		s.end()
		if text, bytes := h.text(t); text != decode(all) || bytes != int64(len(all)) {
			t.Fatalf("%q: %q of %d bytes, want %q", all, text, bytes, decode(all))
		}
	}
}

// A character is in one event, and what is complete does not wait.
func TestStreamedCharacters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		writes []string
		want   string // texts, with | between them
	}{
		{"plain", []string{"ab", "c"}, "ab|c"},
		{"a character in two writes", []string{"a\xc3", "\xa9b"}, "a|éb"},
		{"byte by byte", []string{"\xf0", "\x9f", "\x98", "\x80"}, "😀"},
		{"never complete", []string{"a\xe2\x82"}, "a|\uFFFD"},
		{"not continued", []string{"\xe2\x82", "a"}, "\uFFFDa"},
		{"no beginning of a character", []string{"\xff", "\x80"}, "\uFFFD|\uFFFD"},
		{"empty", []string{"", ""}, ""},
	} {
		h := &heard{}
		s := &streamed{to: h, name: wire.EventStderr}
		for _, w := range tt.writes {
			s.Write([]byte(w))
		}
		s.end()
		s.Write([]byte("too late"))
		var got []string
		for _, e := range h.outputs {
			got = append(got, e.Text)
			if e.Event != "stderr" || e.Truncated || !utf8.ValidString(e.Text) {
				t.Errorf("%s: %+v", tt.name, e)
			}
		}
		if strings.Join(got, "|") != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// At the limit the last event says so, once, and a character that the limit cuts is left out.
func TestStreamedLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		writes []string
		want   string
		cut    bool
	}{
		{[]string{"abcd"}, "abcd", false},
		{[]string{"abcd", "e"}, "abcd", true},
		{[]string{"abcdef", "g"}, "abcd", true},
		{[]string{"abcé"}, "abc", true},
		{[]string{"abc\xc3", "\xa9"}, "abc", true},
		{[]string{"abc\xc3"}, "abc\uFFFD", false},
	} {
		h := &heard{}
		s := &streamed{to: h, name: wire.EventStdout, most: 4}
		for _, w := range tt.writes {
			s.Write([]byte(w))
		}
		s.end()
		text, _ := h.text(t)
		cuts := 0
		for i, e := range h.outputs {
			if e.Truncated {
				cuts++
				if i != len(h.outputs)-1 || e.Text != "" {
					t.Errorf("%q: %+v", tt.writes, h.outputs)
				}
			}
		}
		if text != tt.want || cuts != map[bool]int{true: 1}[tt.cut] {
			t.Errorf("%q: %q, %d times cut", tt.writes, text, cuts)
		}
	}
}

// Heartbeats come at their times, and none for those that were missed.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	if heartbeats(Job{}) != nil || heartbeats(Job{Stream: &heard{}}) != nil || heartbeats(Job{Heartbeat: time.Second}) != nil {
		t.Error("heartbeats that nobody wants")
	}
	h := &heard{}
	look := heartbeats(Job{Stream: h, Heartbeat: time.Second})
	for _, ms := range []int{100, 900, 1000, 1100, 1900, 2050, 5300, 5900, 6000} {
		look(sandbox.Present{Wall: time.Duration(ms) * time.Millisecond, CPU: time.Duration(ms) * time.Millisecond / 2, Memory: 7, Processes: 2})
	}
	var got []int64
	for _, b := range h.beats {
		got = append(got, b.Usage.WallMS)
		if b.Usage.CPUMS != b.Usage.WallMS/2 || b.Usage.MemoryBytes != 7 || b.Usage.Processes != 2 || b.Event != "heartbeat" {
			t.Errorf("%+v", b)
		}
	}
	if want := []int64{1000, 2050, 5300, 6000}; len(got) != len(want) || got[0] != 1000 || got[1] != 2050 || got[2] != 5300 || got[3] != 6000 {
		t.Errorf("%v, want %v", got, want)
	}
}
