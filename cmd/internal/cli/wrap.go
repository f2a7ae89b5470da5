package cli

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// pageWidth is how wide help is written.
const pageWidth = 100

// Width is how many columns help may take: what COLUMNS says, else the terminal's; 0: no limit.
func Width(environ []string, out io.Writer) int {
	for _, entry := range environ {
		if text, ok := strings.CutPrefix(entry, "COLUMNS="); ok {
			if n, err := strconv.Atoi(text); err == nil && n > 0 {
				return n
			}
		}
	}
	var f *os.File
	switch out := out.(type) {
	case *os.File:
		f = out
	case *Output:
		f = out.File
	default:
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// listItem is how a line begins an item of a list: blanks, a mark, blanks. Empty: it does not.
func listItem(line string) string {
	rest := strings.TrimLeft(line, " ")
	after := strings.TrimLeft(rest, "0123456789")
	switch {
	case after != rest && strings.HasPrefix(after, ". "):
		after = after[1:]
	case after == rest && (strings.HasPrefix(rest, "- ") || strings.HasPrefix(rest, "* ")):
		after = rest[1:]
	default:
		return ""
	}
	return line[:len(line)-len(strings.TrimLeft(after, " "))]
}

// Wrap breaks the paragraphs and list items of help that are too wide for so many columns. Blocks of
// code, tables, headings and what is indented otherwise stay as they are.
func Wrap(text string, width int) string {
	if width <= 0 || width >= pageWidth {
		return text
	}
	var b strings.Builder
	var open []string // lines of one paragraph or list item
	indent, fenced := 0, false
	flush := func() {
		b.WriteString(refill(open, indent, width))
		open, indent = nil, 0
	}
	for line := range strings.SplitAfterSeq(text, "\n") {
		item := listItem(line)
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		continues := len(open) > 0 && strings.HasPrefix(line, strings.Repeat(" ", indent)) && !strings.HasPrefix(line[indent:], " ")
		switch {
		case fence, fenced, strings.TrimSpace(line) == "", strings.HasPrefix(line, "|"), strings.HasPrefix(line, "#"):
			flush()
			b.WriteString(line)
			fenced = fenced != fence
		case item != "":
			flush()
			open, indent = []string{line}, len(item)
		case continues, len(open) == 0 && line[0] != ' ':
			open = append(open, line)
		default:
			flush()
			b.WriteString(line)
		}
	}
	flush()
	return b.String()
}

// refill fills lines anew if one of them is too wide. What stands between backquotes stays together.
func refill(lines []string, indent, width int) string {
	whole := strings.Join(lines, "")
	wide := false
	for _, line := range lines {
		wide = wide || utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > width
	}
	if !wide {
		return whole
	}
	var b strings.Builder
	start := len(whole) - len(strings.TrimLeft(whole, " "))
	b.WriteString(whole[:start])
	at, begins, quoted, word := start, true, false, ""
	put := func() {
		n := utf8.RuneCountInString(word)
		switch {
		case n == 0:
			return
		case begins:
		case at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at, begins, word = at+n, false, ""
	}
	for _, r := range strings.TrimSpace(whole) {
		if r == '`' {
			quoted = !quoted
		}
		if (r == ' ' || r == '\n') && !quoted {
			put()
			continue
		}
		if r == '\n' {
			r = ' '
		}
		word += string(r)
	}
	put()
	if strings.HasSuffix(whole, "\n") {
		b.WriteByte('\n')
	}
	return b.String()
}
