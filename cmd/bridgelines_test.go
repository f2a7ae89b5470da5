package cmd

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// Whatever a caller writes, and in whatever pieces, the same lines come of it.
func TestLines(t *testing.T) {
	t.Parallel()
	const most = 8
	for _, tt := range []struct{ name, input, want string }{
		{"nothing", "", ""},
		{"one", "{}\n", "{}|"},
		{"two in one write", "{}\n[]\n", "{}|[]|"},
		{"cut at the end of the input", "{}\n[1", "{}|[1|"},
		{"empty ones", "\n\n", "||"},
		{"blanks", "  \n", "  |"},
		{"with carriage returns, which are blanks", "{}\r\n1\r\n", "{}\r|1\r|"},
		{"a carriage return alone ends nothing", "1\r2\n", "1\r2|"},
		{"other ends of lines are text", "1\v\f\u20282\n", "1\v\f\u20282|"},
		{"binary", "\x00\xff\xfe\n\x80\n", "\x00\xff\xfe|\x80|"},
		{"as long as allowed", "12345678\n", "12345678|"},
		{"one byte longer", "123456789\n1\n", "too long|1|"},
		{"much longer", strings.Repeat("x", 100) + "\n1\n", "too long|1|"},
		{"too long, twice", strings.Repeat("x", 100) + "\n" + strings.Repeat("y", 100) + "\n", "too long|too long|"},
		{"too long, without an end", strings.Repeat("x", 100), "too long|"},
		{"too long, then nothing", strings.Repeat("x", 9) + "\n", "too long|"},
	} {
		for _, piece := range []int{1, 2, 3, 7, 1000} {
			t.Run(fmt.Sprintf("%s, in pieces of %d", tt.name, piece), func(t *testing.T) {
				t.Parallel()
				l := lines{most: most}
				var got strings.Builder
				take := func(line []byte, found int) bool {
					switch found {
					case aLine:
						got.Write(line)
					case tooLong:
						got.WriteString("too long")
					default:
						return false
					}
					got.WriteByte('|')
					return true
				}
				for rest := tt.input; rest != ""; {
					n := min(piece, len(rest))
					l.add([]byte(rest[:n]))
					rest = rest[n:]
					for take(l.next()) {
					}
					if l.begun() > most {
						t.Fatalf("it keeps %d bytes of a line", l.begun())
					}
				}
				take(l.last())
				if got.String() != tt.want {
					t.Errorf("got  %q\nwant %q", got.String(), tt.want)
				}
			})
		}
	}
}

// A line that was taken stays as it is: a request refers to its bytes while it runs.
func TestLinesStay(t *testing.T) {
	t.Parallel()
	l := lines{most: 100}
	var taken, want []string
	var bytes [][]byte
	in := iotest.OneByteReader(strings.NewReader(strings.Repeat("first\nsecond line\nx\n", 50)))
	b := make([]byte, 16)
	for {
		n, err := in.Read(b)
		l.add(b[:n])
		for line, found := l.next(); found == aLine; line, found = l.next() {
			bytes, want = append(bytes, line), append(want, string(line))
		}
		if err != nil {
			break
		}
	}
	for _, line := range bytes {
		taken = append(taken, string(line))
	}
	if len(taken) != 150 || !reflect.DeepEqual(taken, want) {
		t.Errorf("%d lines; they have changed: %q", len(taken), taken)
	}
}

// A line that is given up is passed over to its end, and the next one counts again.
func TestLinesGivenUp(t *testing.T) {
	t.Parallel()
	l := lines{most: 100}
	l.add([]byte(`{"code": `))
	if _, found := l.next(); found != noLine || l.begun() != 9 {
		t.Fatalf("found %d, begun %d", found, l.begun())
	}
	l.giveUp()
	l.add([]byte("1}"))
	if _, found := l.next(); found != noLine || l.begun() != 0 {
		t.Fatalf("found %d, begun %d", found, l.begun())
	}
	l.add([]byte("\n{}\n"))
	if line, found := l.next(); found != aLine || string(line) != "{}" {
		t.Fatalf("found %d, %q", found, line)
	}
}

func TestIsBridge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{nil, true},
		{[]string{"-u", "/tmp/python_bridge.py"}, true},
		{[]string{"/tmp/python_bridge.py", "--x"}, true},
		{[]string{"-u"}, true},
		{[]string{"-u", "-u", "x.py", "-c"}, true},
		{[]string{"--version"}, false},
		{[]string{"-c", "import x"}, false},
		{[]string{"-m", "pip", "install", "x"}, false},
		{[]string{"-u", "-i"}, false},
		{[]string{"-"}, false},
	} {
		if got := isBridge(tt.args); got != tt.want {
			t.Errorf("%q: %t, want %t", tt.args, got, tt.want)
		}
	}
}
