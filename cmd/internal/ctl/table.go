package ctl

import (
	"io"
	"strings"
	"time"
	"unicode"
)

// A column is one of a table for people. Where the terminal is too narrow for all of a table, in this
// order: columns without a value go, then those of the highest rank, one after the other, until the
// others fit with their least width; what is still too long ends in an ellipsis, or goes on in the next
// line. A heading line names the columns that are left out.
type column struct {
	title string
	right bool                // for numbers
	rank  int                 // 0: it always stays
	least int                 // how many cells a text keeps as long as other columns can go; 0: it is never shortened
	short func(string) string // a form for where there is little room; nil: there is none
	keep  string              // an end that stays where the text before it is cut, such as a mark
	wraps bool                // what is too long goes on in the next line, and nothing is cut
}

// A table holds its rows until it is written: the widths follow from all of them.
type table struct {
	columns []column
	rows    [][]string
	zone    string // times are in it; empty: there are none
	width   int    // of the terminal; 0: no limit
}

// newTable is a table with times in the zone of --tz, if it has some.
func (d logContext) newTable(times bool, columns ...column) *table {
	t := &table{columns: columns, width: d.width}
	if times {
		t.zone = d.zoneName()
	}
	return t
}

// zoneName is the zone of tables.
func (d logContext) zoneName() string {
	name := d.local().String()
	if name == "Local" {
		now, _ := time.Now().In(d.local()).Zone()
		return "the local zone, now " + now
	}
	return name
}

// add takes a row of texts, which may be hostile.
func (t *table) add(cells ...string) {
	row := make([]string, len(t.columns))
	for i := range row {
		if i < len(cells) {
			row[i] = plain(cells[i])
		}
	}
	t.rows = append(t.rows, row)
}

const (
	columnGap  = 2
	leastCells = 4 // of a text that has to be cut
)

// write prints the heading line, the titles and the rows. An empty cell is a dash.
func (t *table) write(to io.Writer) error {
	shown, widths := t.layout()
	var b strings.Builder
	var notes []string
	if t.zone != "" {
		notes = append(notes, "times in "+t.zone)
	}
	if left := t.leftOut(shown); left != "" {
		notes = append(notes, "not shown: "+left)
	}
	if len(notes) > 0 {
		for _, line := range wrapped(strings.Join(notes, "; "), t.width) {
			b.WriteString(line + "\n")
		}
	}
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = strings.ToUpper(c.title)
	}
	t.line(&b, titles, shown, widths)
	for _, row := range t.rows {
		for i := range row {
			if row[i] == "" {
				row[i] = "-"
			}
		}
		t.line(&b, row, shown, widths)
		if b.Len() > 1<<16 {
			if _, err := io.WriteString(to, b.String()); err != nil {
				return err
			}
			b.Reset()
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// leftOut names the columns that have values and are not shown.
func (t *table) leftOut(shown []bool) string {
	var names []string
	for i, c := range t.columns {
		if !shown[i] && t.said(i) {
			names = append(names, c.title)
		}
	}
	return strings.Join(names, ", ")
}

func (t *table) said(column int) bool {
	for _, row := range t.rows {
		if row[column] != "" && row[column] != "-" {
			return true
		}
	}
	return false
}

// natural is how wide a column is if nothing of it is shortened.
func (t *table) natural(i int) int {
	width := cells(t.columns[i].title)
	for _, row := range t.rows {
		width = max(width, cells(row[i]))
	}
	return width
}

// layout decides which columns are shown, and how wide.
func (t *table) layout() (shown []bool, widths []int) {
	shown, widths = make([]bool, len(t.columns)), make([]int, len(t.columns))
	for i := range t.columns {
		shown[i], widths[i] = true, t.natural(i)
	}
	if t.width <= 0 || total(shown, widths) <= t.width {
		return shown, widths
	}
	for i, c := range t.columns {
		if len(t.rows) > 0 && c.rank > 0 && !t.said(i) {
			shown[i] = false
		}
		if c.short != nil {
			for _, row := range t.rows {
				row[i] = c.short(row[i])
			}
			widths[i] = t.natural(i)
		}
	}
	least := func(floor int) []int {
		list := make([]int, len(widths))
		for i, c := range t.columns {
			list[i] = widths[i]
			if c.least > 0 {
				list[i] = min(widths[i], max(cells(c.title), min(c.least, floor)+t.kept(i)))
			}
		}
		return list
	}
	narrow := least(1 << 10)
	for total(shown, narrow) > t.width {
		last := -1
		for i, c := range t.columns {
			if shown[i] && c.rank > 0 && (last < 0 || c.rank >= t.columns[last].rank) {
				last = i
			}
		}
		if last < 0 {
			narrow = least(leastCells)
			break
		}
		shown[last] = false
	}
	t.shrink(shown, widths, narrow)
	return shown, widths
}

// kept is the room of an end that must stay in a column.
func (t *table) kept(i int) int {
	for _, row := range t.rows {
		if end := t.columns[i].keep; end != "" && strings.HasSuffix(row[i], end) {
			return cells(end)
		}
	}
	return 0
}

// shrink takes cells from the widest columns until a row fits or none has more than its least.
func (t *table) shrink(shown []bool, widths, least []int) {
	for total(shown, widths) > t.width {
		widest := -1
		for i := range widths {
			if shown[i] && widths[i] > least[i] && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// total is the width of a row.
func total(shown []bool, widths []int) (n int) {
	for i, w := range widths {
		if shown[i] {
			n += w + columnGap
		}
	}
	return max(0, n-columnGap)
}

// line prints one row, in several lines where texts go on.
func (t *table) line(b *strings.Builder, row []string, shown []bool, widths []int) {
	texts, height := make([][]string, len(row)), 0
	for i, text := range row {
		switch {
		case !shown[i]:
		case t.columns[i].wraps:
			texts[i] = wrapped(text, widths[i])
		default:
			texts[i] = []string{t.columns[i].fitted(text, widths[i])}
		}
		height = max(height, len(texts[i]))
	}
	for n := range height {
		var line strings.Builder
		for i := range row {
			if !shown[i] {
				continue
			}
			text := ""
			if n < len(texts[i]) {
				text = texts[i][n]
			}
			pad := strings.Repeat(" ", max(0, widths[i]-cells(text)))
			if t.columns[i].right {
				text = pad + text
			} else {
				text += pad
			}
			line.WriteString(text + strings.Repeat(" ", columnGap))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// fields prints names and values, one below the other: a value that is too long goes on in the next
// line. What has no value is left out.
func (d logContext) fields(to io.Writer, list [][2]string) error {
	width := 0
	for _, f := range list {
		if f[1] != "" {
			width = max(width, cells(f[0]))
		}
	}
	var b strings.Builder
	for _, f := range list {
		if f[1] == "" {
			continue
		}
		room := 0
		if d.width > 0 {
			room = max(leastCells, d.width-width-columnGap)
		}
		name := f[0]
		for _, line := range wrapped(plain(f[1]), room) {
			b.WriteString(name + strings.Repeat(" ", width+columnGap-cells(name)) + line + "\n")
			name = ""
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// wrapped breaks a text into lines of so many cells, at blanks where it can. 0: one line.
func wrapped(text string, width int) (lines []string) {
	if width <= 0 {
		return []string{text}
	}
	for cells(text) > width {
		end, n, blank := 0, 0, 0
		for i, r := range text {
			if n += cellsOf(r); n > width && i > 0 { // at least one character, however wide
				break
			}
			if end = i + len(string(r)); r == ' ' {
				blank = i
			}
		}
		if blank == 0 || end < len(text) && text[end] == ' ' {
			blank = end
		}
		lines = append(lines, strings.TrimRight(text[:blank], " "))
		text = strings.TrimLeft(text[blank:], " ")
	}
	return append(lines, text)
}

// fitted is a cell in at most so much room.
func (c column) fitted(text string, width int) string {
	if before, marked := strings.CutSuffix(text, c.keep); marked && cells(text) > width && width > cells(c.keep) {
		return fitted(before, width-cells(c.keep)) + c.keep
	}
	return fitted(text, width)
}

// fitted is a text in at most so many cells. One that is cut ends in an ellipsis.
func fitted(text string, width int) string {
	if cells(text) <= width {
		return text
	}
	n := 0
	for i, r := range text {
		if n += cellsOf(r); n > width-1 {
			return text[:i] + "…"
		}
	}
	return text
}

// cells is how much room a text takes on a terminal.
func cells(text string) (n int) {
	for _, r := range text {
		n += cellsOf(r)
	}
	return n
}

// cellsOf is 0 for marks that stand on the character before, 2 for wide characters. Where terminals
// differ, as with emoji, it is the larger number.
func cellsOf(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// wide are the characters that take two cells: W and F of the East Asian Width of Unicode 15, with
// what is not assigned between them.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1}, {0x231a, 0x231b, 1}, {0x2329, 0x232a, 1}, {0x23e9, 0x23ec, 1}, {0x23f0, 0x23f0, 1}, {0x23f3, 0x23f3, 1}, {0x25fd, 0x25fe, 1},
		{0x2614, 0x2615, 1}, {0x2648, 0x2653, 1}, {0x267f, 0x267f, 1}, {0x2693, 0x2693, 1}, {0x26a1, 0x26a1, 1}, {0x26aa, 0x26ab, 1}, {0x26bd, 0x26be, 1},
		{0x26c4, 0x26c5, 1}, {0x26ce, 0x26ce, 1}, {0x26d4, 0x26d4, 1}, {0x26ea, 0x26ea, 1}, {0x26f2, 0x26f3, 1}, {0x26f5, 0x26f5, 1}, {0x26fa, 0x26fa, 1},
		{0x26fd, 0x26fd, 1}, {0x2705, 0x2705, 1}, {0x270a, 0x270b, 1}, {0x2728, 0x2728, 1}, {0x274c, 0x274c, 1}, {0x274e, 0x274e, 1}, {0x2753, 0x2755, 1},
		{0x2757, 0x2757, 1}, {0x2795, 0x2797, 1}, {0x27b0, 0x27b0, 1}, {0x27bf, 0x27bf, 1},
		{0x2b1b, 0x2b1c, 1}, {0x2b50, 0x2b55, 1}, {0x2e80, 0x303e, 1}, {0x3040, 0xa4cf, 1}, {0xa960, 0xa97f, 1}, {0xac00, 0xd7a3, 1},
		{0xf900, 0xfaff, 1}, {0xfe10, 0xfe19, 1}, {0xfe30, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{
		{0x16fe0, 0x18d08, 1}, {0x1aff0, 0x1b2fb, 1}, {0x1f000, 0x1f0ff, 1}, {0x1f18e, 0x1f19a, 1}, {0x1f1e6, 0x1faff, 1}, {0x20000, 0x3fffd, 1},
	},
}
