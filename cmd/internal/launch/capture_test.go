package launch

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
)

func TestCapture(t *testing.T) {
	t.Parallel()
	cut := func(n int) string { return fmt.Sprintf("\n[py3run: %d bytes cut here]\n", n) }
	tests := []struct {
		name   string
		most   int64
		writes []string
		want   string
	}{
		{"nothing", 4, nil, ""},
		{"no limit", 0, []string{"abc", "", "def"}, "abcdef"},
		{"below", 4, []string{"abc"}, "abc"},
		{"exactly, at once", 4, []string{"abcd"}, "abcd"},
		{"exactly, byte by byte", 4, []string{"a", "b", "c", "d"}, "abcd"},
		{"exactly, across the middle", 4, []string{"abc", "d"}, "abcd"},
		{"one more", 4, []string{"abcde"}, "ab" + cut(1) + "de"},
		{"one more, byte by byte", 4, []string{"a", "b", "c", "d", "e"}, "ab" + cut(1) + "de"},
		{"much more", 4, []string{strings.Repeat("x", 1000), "yz"}, "xx" + cut(998) + "yz"},
		{"an odd limit", 5, []string{"abcdefg"}, "abc" + cut(2) + "fg"},
		{"a limit of one", 1, []string{"ab", "c"}, "a" + cut(2)},
		{"a limit of two", 2, []string{"abc", "d"}, "a" + cut(2) + "d"},
		{"tail grows over the ring's end", 8, []string{"abcd", "ef", "ghijk"}, "abcd" + cut(3) + "hijk"},
		{"tail turns", 8, []string{"abcd", "efgh", "ij", "klm"}, "abcd" + cut(5) + "jklm"},
		{"bytes that are no UTF-8", 0, []string{"a\xff\xfeb"}, "a\uFFFD\uFFFDb"},
		{"a letter cut in two", 4, []string{"aéééb"}, "a\uFFFD" + cut(4) + "\uFFFDb"},
		{"a letter in two writes", 0, []string{"\xc3", "\xa9"}, "é"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := &capture{most: tt.most}
			total := 0
			for _, w := range tt.writes {
				if n, err := c.Write([]byte(w)); n != len(w) || err != nil {
					t.Fatalf("wrote %d of %d, %v", n, len(w), err)
				}
				total += len(w)
			}
			if got := c.text(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if c.total != int64(total) || c.truncated() != strings.Contains(tt.want, "cut here") {
				t.Errorf("total %d, want %d; truncated %t", c.total, total, c.truncated())
			}
		})
	}
}

// For every limit, size and length of a write, a capture gives the same as cutting the whole text.
func TestCaptureSizes(t *testing.T) {
	t.Parallel()
	all := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", 2)
	for most := 1; most <= 12; most++ {
		for size := 0; size <= 40; size++ {
			for step := 1; step <= 14; step++ {
				c := &capture{most: int64(most)}
				for at := 0; at < size; at += step {
					c.Write([]byte(all[at:min(at+step, size)]))
				}
				want := all[:size]
				if size > most {
					head := (most + 1) / 2
					want = fmt.Sprintf("%s\n[py3run: %d bytes cut here]\n%s", all[:head], size-most, all[size-(most-head):size])
				}
				if got := c.text(); got != want {
					t.Fatalf("limit %d, %d bytes in steps of %d: %q, want %q", most, size, step, got, want)
				}
			}
		}
	}
}

func TestLimitedWriter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		most      int64
		writes    []string
		truncated bool
		want      string
	}{
		{"no limit", 0, []string{"abc", "def"}, false, "abcdef"},
		{"exactly", 6, []string{"abc", "def"}, false, "abcdef"},
		{"one more", 6, []string{"abc", "defg"}, true, "abcdef"},
		{"long after", 2, []string{"abc", "def", "", "g"}, true, "ab"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var to bytes.Buffer
			p := &limitedWriter{to: &to, most: tt.most}
			total := 0
			for _, w := range tt.writes {
				if n, err := p.Write([]byte(w)); n != len(w) || err != nil {
					t.Fatalf("wrote %d of %d, %v", n, len(w), err)
				}
				total += len(w)
			}
			if to.String() != tt.want || p.total != int64(total) || p.truncated() != tt.truncated {
				t.Errorf("%q of %d, truncated %t; want %q of %d, %t", to.String(), p.total, p.truncated(), tt.want, total, tt.truncated)
			}
		})
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// If the reader is gone, the program gets EPIPE. Beyond the limit it does not, because nothing is written.
func TestLimitedWriterBroken(t *testing.T) {
	t.Parallel()
	p := &limitedWriter{to: broken{&fs.PathError{Op: "write", Path: "x", Err: syscall.EPIPE}}, most: 3}
	if _, err := p.Write([]byte("abc")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%v, want %v", err, syscall.EPIPE)
	}
	if n, err := p.Write([]byte("def")); n != 3 || err != nil {
		t.Errorf("behind the limit: %d, %v", n, err)
	}
}

// If the disk is full, the program does not get an error; the result reports it at the end.
func TestLimitedWriterLost(t *testing.T) {
	t.Parallel()
	p := &limitedWriter{to: broken{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}}}
	for range 2 {
		if n, err := p.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if p.lost != syscall.ENOSPC || p.total != 6 {
		t.Errorf("%+v", p)
	}
}

// The wanted texts are what Python's bytes.decode("utf-8", "replace") makes of the same bytes.
func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ bytes, want string }{
		{"\x61\xff\xff\xff\x62", "\U00000061\U0000fffd\U0000fffd\U0000fffd\U00000062"},
		{"\xe2\x82", "\U0000fffd"},
		{"\xe2\x82\x41", "\U0000fffd\U00000041"},
		{"\xf0\x9f\x98\x21", "\U0000fffd\U00000021"},
		{"\xed\xa0\x80", "\U0000fffd\U0000fffd\U0000fffd"},
		{"\xf4\x90\x80\x80", "\U0000fffd\U0000fffd\U0000fffd\U0000fffd"},
		{"\xe0\x80\x80", "\U0000fffd\U0000fffd\U0000fffd"},
		{"\xf0\x80", "\U0000fffd\U0000fffd"},
		{"\xf1\x80\xe1\x80\xc2\x62\x80\x63", "\U0000fffd\U0000fffd\U0000fffd\U00000062\U0000fffd\U00000063"},
		{"\x67\x72\xc3\xb6\xc3\x9f\x65\x20\xe2\x82\xac\xf0\x9f\x98\x80", "\U00000067\U00000072\U000000f6\U000000df\U00000065\U00000020\U000020ac\U0001f600"},
		{"\xc0\xaf\xc2", "\U0000fffd\U0000fffd\U0000fffd"},
		{"\xf0\x9f\x98\xe2\x82\xac", "\U0000fffd\U000020ac"},
		{"", ""},
	} {
		if got := decode(c.bytes); got != c.want {
			t.Errorf("%q: %q, want %q", c.bytes, got, c.want)
		}
	}
}

// Whatever the program prints, its JSON is no larger than the limit, it has head and tail, and the mark
// counts the bytes that are missing.
func TestCaptureAsJSON(t *testing.T) {
	t.Parallel()
	const most = 3000
	for name, unit := range map[string]string{
		"letters": "a", "control characters": "\x01", "zero bytes": "\x00", "no UTF-8": "\xff", "surrogates": "\xed\xa0\x80", "sequences that break off": "\xf0\x9f\x98a",
		"quotes": `"`, "backslashes": `\`, "newlines": "\n", "carriage returns": "\r\n", "line separators": "\u2028", "paragraph separators": "\u2029", "delete": "\x7f",
		"four bytes": "\U0001f600", "three bytes": "\u20ac", "two bytes": "\u00e9", "C1 controls": "\u0085", "replacement characters": "\ufffd", "noncharacters": "\uffff",
		"a mixture": "a\x01\xffb\u2028\"\xf0\x9f",
	} {
		for _, size := range []int{10, most / 6, most / 3, most / 2, most - 1, most, most + 1, 2 * most, 7 * most} {
			for _, step := range []int{1, 7, 1000, 32 << 10} {
				all := strings.Repeat(unit, size/len(unit)+1)
				c := &capture{most: most}
				for at := 0; at < len(all); at += step {
					c.Write([]byte(all[at:min(at+step, len(all))]))
				}
				text := c.text()
				var missing int
				before, after, marked := strings.Cut(text, "\n[py3run: ")
				if fmt.Sscanf(after, "%d bytes cut here]", &missing); marked {
					_, after, _ = strings.Cut(after, "]\n")
				}
				form := len(encode(before)) + len(encode(after)) - 4
				if form > most+cutSlack || c.total != int64(len(all)) || c.truncated() != marked || marked != (missing > 0) || !utf8.ValidString(text) {
					t.Fatalf("%s, %d bytes in steps of %d: %d bytes of JSON, total %d, truncated %t, marked %t, %d missing", name, len(all), step, form, c.total, c.truncated(), marked, missing)
				}
				if marked && (form < most-2*costMost || before == "" || after == "") {
					t.Fatalf("%s, %d bytes in steps of %d: cut to %d bytes of JSON: %q and %q", name, len(all), step, form, before, after)
				}
				if !marked && text != decode(all) {
					t.Fatalf("%s, %d bytes in steps of %d: %q", name, len(all), step, text)
				}
			}
		}
	}
}
