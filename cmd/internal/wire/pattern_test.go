package wire

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"
)

// matches walks a pattern along a path, as a walk through directories does.
func matches(t *testing.T, pattern, file string) bool {
	t.Helper()
	p, f := parsePattern(pattern)
	if f != nil {
		t.Fatalf("%s: %+v", pattern, f)
	}
	at := p.Start()
	parts := strings.Split(file, "/")
	for _, dir := range parts[:len(parts)-1] {
		at = p.Enter(at, dir)
	}
	return at != 0 && p.Matches(at, parts[len(parts)-1])
}

func TestPattern(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern string
		yes, no string // paths, with blanks between them
	}{
		{"report.pdf", "report.pdf", "report.pdf/x x/report.pdf report-pdf Report.pdf report.pdfx"},
		{"*.csv", "a.csv .csv ä.csv a.b.csv", "a.csv/b d/a.csv a.csvx"},
		{"*", "a .hidden ...", "a/b"},
		{"?.txt", "a.txt ä.txt \xff.txt ..txt", ".txt ab.txt a/b.txt"},
		{"a*b*c", "abc aXbYc abbc abcbc", "ab acb abcd"},
		{"out/*.csv", "out/a.csv", "a.csv out/d/a.csv in/a.csv out"},
		{"out/*/x", "out/a/x", "out/x out/a/b/x"},
		{"**", "a a/b a/b/c .a/.b", ""},
		{"**/*", "a a/b a/b/c", ""},
		{"**/x", "x a/x a/b/x x/x", "y x/y a/x/b"},
		{"a/**", "a/b a/b/c", "a b/a b"},
		{"a/**/x", "a/x a/b/x a/b/c/x", "x a b/x a/b"},
		{"a/**/b/**/c", "a/b/c a/x/b/y/z/c a/b/b/c", "a/c a/b c/a/b"},
		{"**/**/x", "x a/x", "y"},
		{"[ab]", "[ab]", "a b"},
		{`a\*`, `a\b a\`, "a*"},
	} {
		for file := range strings.FieldsSeq(tt.yes) {
			if !matches(t, tt.pattern, file) {
				t.Errorf("%s does not choose %q", tt.pattern, file)
			}
		}
		for file := range strings.FieldsSeq(tt.no) {
			if matches(t, tt.pattern, file) {
				t.Errorf("%s chooses %q", tt.pattern, file)
			}
		}
	}
}

// A part matches as path.Match does, where that has no further rules.
func TestMatchPart(t *testing.T) {
	t.Parallel()
	text := func(letters string, most int) string {
		runes := []rune(letters)
		out := make([]rune, rand.IntN(most))
		for i := range out {
			out[i] = runes[rand.IntN(len(runes))]
		}
		return string(out)
	}
	hits := 0
	for range 50_000 {
		pattern, name := text("ab*?ä", 8), text("abä", 8)
		want, err := path.Match(pattern, name)
		if got := matchPart(pattern, name); err != nil || got != want {
			t.Fatalf("%q, %q: %v, want %v", pattern, name, got, want)
		}
		if want {
			hits++
		}
	}
	if hits < 1000 {
		t.Errorf("only %d matches among the random pairs", hits)
	}
}

// A directory in which nothing can match is not entered.
func TestPatternEnters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, dir string
		want         bool
	}{
		{"*.csv", "out", false},
		{"out/*.csv", "out", true},
		{"out/*.csv", "in", false},
		{"out", "out", false},
		{"out/**", "out", true},
		{"**/x", "any", true},
	} {
		p, _ := parsePattern(tt.pattern)
		if got := p.Enter(p.Start(), tt.dir) != 0; got != tt.want {
			t.Errorf("%s, %s: %v, want %v", tt.pattern, tt.dir, got, tt.want)
		}
	}
}

// Many stars take no more time than few. (With a search that goes back to every star, this would not end.)
func TestManyStars(t *testing.T) {
	t.Parallel()
	done := make(chan bool, 1)
	go func() {
		done <- matchPart(strings.Repeat("a*", 120)+"b", strings.Repeat("a", 255)) ||
			matches(t, strings.Repeat("**/", 31)+"b", strings.Repeat("a/", 500)+"a")
	}()
	select {
	case got := <-done:
		if got {
			t.Error("it matches")
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}
