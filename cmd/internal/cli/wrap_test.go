package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWrap(t *testing.T) {
	t.Parallel()
	const text = "# heading: that is longer than thirty columns and stays\n" +
		"\n" +
		"A paragraph of some words that is\nwider than thirty columns, with `a piece of code` in it.\n" +
		"\n" +
		"Short lines\nstay as they are.\n" +
		"\n" +
		"```text\na block of code that is wider than thirty columns\n- no item that is wider than thirty columns\n```\n" +
		"\n" +
		"- an item that is wider than thirty columns,\n  and goes on here\n" +
		"- short\n" +
		"12. a number before an item that is too wide\n" +
		"\n" +
		"| a table | that is wider than thirty columns |\n|---|---|\n" +
		"  --flag    indented text of a command that stays\n"
	const want = "# heading: that is longer than thirty columns and stays\n" +
		"\n" +
		"A paragraph of some words that\nis wider than thirty columns,\nwith `a piece of code` in it.\n" +
		"\n" +
		"Short lines\nstay as they are.\n" +
		"\n" +
		"```text\na block of code that is wider than thirty columns\n- no item that is wider than thirty columns\n```\n" +
		"\n" +
		"- an item that is wider than\n  thirty columns, and goes on\n  here\n" +
		"- short\n" +
		"12. a number before an item\n    that is too wide\n" +
		"\n" +
		"| a table | that is wider than thirty columns |\n|---|---|\n" +
		"  --flag    indented text of a command that stays\n"
	if got := Wrap(text, 30); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	for _, width := range []int{0, 100, 300} {
		if Wrap(text, width) != text {
			t.Errorf("wrapped at %d", width)
		}
	}
	for _, text := range []string{"", "\n", "no newline at the end of a line that is too wide", "- ", "1. ", "```", "`open and never closed, with many words behind it"} {
		if got := Wrap(text, 20); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(text), " ") {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestWidth(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{"80": 80, "0": 0, "-1": 0, "x": 0, "": 0} {
		if got := Width([]string{"A=B", "COLUMNS=" + value}, &bytes.Buffer{}); got != want {
			t.Errorf("%q: %d, want %d", value, got, want)
		}
	}
}

// Every page of the documentation fits a usual terminal, but for code, tables and headings, and says the
// same as before.
func TestPagesWrapped(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("../../help/*.md")
	if err != nil || len(names) == 0 {
		t.Fatal("no pages", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := Wrap(string(text), 80)
		if !slices.Equal(strings.Fields(got), strings.Fields(string(text))) {
			t.Errorf("%s: the words are others", name)
		}
		fenced := false
		for i, line := range strings.Split(got, "\n") {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if n := utf8.RuneCountInString(line); n > 80 && !fenced && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "#") && strings.Count(line, "`") < 2 {
				t.Errorf("%s:%d: %d columns: %s", name, i+1, n, line)
			}
		}
	}
}
