package web

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
)

// A comparison is two texts side by side, without what is far from a change.
type comparison struct {
	Rows    []sideRow // empty: the texts are the same
	Added   int
	Removed int
	Left    int // rows that are not shown
}

// A sideRow has the lines that stand beside each other.
type sideRow struct {
	Gap      string // between two places, what is left out; then there are no lines
	Old, New sideLine
}

// A sideLine is one line of a row. What has changed within it is Middle, where the other side has a line
// that is like it.
type sideLine struct {
	Number                int // 0: there is no line on this side
	Changed               bool
	Before, Middle, After string
	NoEnd                 bool // the text ends here, without a newline
}

// compare puts two texts side by side.
func compare(old, new string) *comparison {
	c := &comparison{}
	var gone, come []sideLine // of the change that is being read
	flush := func() {
		for i := range max(len(gone), len(come)) {
			var row sideRow
			if i < len(gone) {
				row.Old = gone[i]
			}
			if i < len(come) {
				row.New = come[i]
			}
			if i < len(gone) && i < len(come) {
				narrow(&row.Old, &row.New)
			}
			c.Rows = append(c.Rows, row)
		}
		gone, come = nil, nil
	}
	var at, to int // numbers of the next lines
	for line := range bytes.Lines(diff.Diff("old", []byte(old), "new", []byte(new))) {
		text := strings.TrimSuffix(string(line[1:]), "\n")
		switch {
		case bytes.HasPrefix(line, []byte("@@ ")):
			flush()
			var n, m int
			fmt.Sscanf(string(line), "@@ -%d,%d +%d,%d @@", &at, &n, &to, &m)
			c.Rows = append(c.Rows, sideRow{Gap: fmt.Sprintf("line %d, now %d", at, to)})
		case at == 0 && to == 0: // the names
		case line[0] == '\\': // about the line before
			switch n := len(c.Rows); {
			case len(come) > 0:
				come[len(come)-1].NoEnd = true
			case len(gone) > 0:
				gone[len(gone)-1].NoEnd = true
			case n > 0:
				c.Rows[n-1].Old.NoEnd, c.Rows[n-1].New.NoEnd = true, true
			}
		case line[0] == '-':
			gone = append(gone, sideLine{Number: at, Changed: true, Middle: text})
			at++
			c.Removed++
		case line[0] == '+':
			come = append(come, sideLine{Number: to, Changed: true, Middle: text})
			to++
			c.Added++
		case line[0] == ' ':
			flush()
			c.Rows = append(c.Rows, sideRow{Old: sideLine{Number: at, Before: text}, New: sideLine{Number: to, Before: text}})
			at++
			to++
		}
	}
	flush()
	if len(c.Rows) > mostLines {
		c.Rows, c.Left = c.Rows[:mostLines], len(c.Rows)-mostLines
	}
	return c
}

// narrow leaves in the middle of two lines what differs, if they have something in common.
func narrow(a, b *sideLine) {
	x, y := a.Middle, b.Middle
	head := 0
	for head < len(x) && head < len(y) && x[head] == y[head] {
		head++
	}
	for head > 0 && (head < len(x) && !utf8.RuneStart(x[head]) || head < len(y) && !utf8.RuneStart(y[head])) {
		head--
	}
	tail := 0
	for tail < len(x)-head && tail < len(y)-head && x[len(x)-1-tail] == y[len(y)-1-tail] {
		tail++
	}
	for tail > 0 && !utf8.RuneStart(x[len(x)-tail]) {
		tail--
	}
	if head+tail == 0 {
		return
	}
	a.Before, a.Middle, a.After = x[:head], x[head:len(x)-tail], x[len(x)-tail:]
	b.Before, b.Middle, b.After = y[:head], y[head:len(y)-tail], y[len(y)-tail:]
}
