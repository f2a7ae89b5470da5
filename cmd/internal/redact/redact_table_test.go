package redact

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A vector is a command line with its secrets marked.
type vector struct {
	section, line string
	in, want      []string
	secrets       []string
}

var another = regexp.MustCompile(`(^|\W)abc`)

var marked = regexp.MustCompile(`(?s)«([^«»]*)»?`)

func vectors(t *testing.T, name string) (list []vector) {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	section := ""
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			if name, found := strings.CutPrefix(line, "# --- "); found {
				section = name
			}
			continue
		}
		list = append(list, parse(section, line))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func parse(section, line string) vector {
	v := vector{section: section, line: line}
	text := strings.ReplaceAll(line, "⏎", "\n")
	for arg := range strings.SplitSeq(text, " ¦ ") {
		v.in = append(v.in, strings.NewReplacer("«", "", "»", "").Replace(arg))
		v.want = append(v.want, marked.ReplaceAllString(arg, redacted))
	}
	for _, m := range marked.FindAllStringSubmatch(text, -1) {
		v.secrets = append(v.secrets, m[1])
	}
	return v
}

// Each command line of the table comes out with its secrets hidden, and nothing else.
func TestRedactTable(t *testing.T) {
	t.Parallel()
	secrets, without := 0, 0
	for _, v := range vectors(t, "redact.txt") {
		if got := Args(v.in); !slices.Equal(got, v.want) {
			t.Errorf("%s\n got  %q\n want %q", v.section, got, v.want)
		}
		if secrets += len(v.secrets); len(v.secrets) == 0 {
			without++
		}
	}
	if secrets < 800 || without < 80 {
		t.Errorf("%d secrets and %d lines without: the table is not whole", secrets, without)
	}
}

// The same secrets are hidden behind another program, in a line of a shell, and in one within another.
func TestRedactTableWrapped(t *testing.T) {
	t.Parallel()
	quote := func(argv []string, mark string) string {
		out := slices.Clone(argv)
		for i, a := range out {
			if strings.ContainsAny(a, " \t\n\"'$&|;<>()*?\\") {
				out[i] = mark + strings.NewReplacer(mark, `\`+mark).Replace(a) + mark
			}
		}
		return strings.Join(out, " ")
	}
	for _, v := range slices.Concat(vectors(t, "redact.txt"), vectors(t, "redact_hidden.txt")) {
		n := 0
		line := marked.ReplaceAllStringFunc(v.line, func(s string) string { // each with another value
			n++
			return another.ReplaceAllString(s, fmt.Sprintf("${1}QQs%02dx", n))
		})
		v = parse(v.section, line)
		forms := map[string][]string{"as it is": v.in, "sudo": append([]string{"sudo", "-E"}, v.in...), "shell": {"sh", "-c", quote(v.in, `"`)}}
		if !strings.ContainsAny(v.line, "'\"") {
			forms["single"] = []string{"sh", "-c", quote(v.in, "'")}
			forms["remote"] = []string{"ssh", "h", "cd /x && " + quote(v.in, "'") + " > log"}
			forms["nested"] = []string{"bash", "-lc", `sh -c "` + quote(v.in, "'") + `"`}
		}
		if strings.Contains(v.line, "= ¦") { // in a shell's line this sets a variable to nothing
			forms = map[string][]string{"as it is": v.in}
		}
		for form, in := range forms {
			got := strings.Join(Args(in), "\n")
			for _, s := range v.secrets {
				if s = strings.Trim(s, `'"`); len(s) > 2 && strings.Contains(got, s) {
					t.Errorf("%s, %s: %q is in\n%s\nof\n%s", v.section, form, s, got, v.line)
				}
			}
			if len(v.secrets) == 0 && form == "sudo" && !slices.Equal(Args(in), in) {
				t.Errorf("%s, %s: %q, want %q", v.section, form, Args(in), in)
			}
		}
	}
}

// Every beginning of a token is known wherever it stands, and a word that only begins so is none.
func TestRedactTokens(t *testing.T) {
	t.Parallel()
	for _, token := range tokens {
		rest := strings.Repeat("0a1b2c3d4e5f6789", 20)[:token.least]
		if token.least > 60 {
			rest = strings.Repeat("0a1b2c3d4e5f6789", 20)[:token.least+10]
		}
		if !token.mixed && !token.hex {
			if got := Args([]string{"x", token.start + strings.Repeat("abcdefgh", 20)[:token.least]})[1]; len(got) > 3+len(token.start) && len(token.start)+token.least >= 16 {
				t.Errorf("letters only: %s", got)
			}
		}
		whole := token.start + rest
		for _, form := range []string{"TOKEN", "--x=TOKEN", "https://h/TOKEN/x", "a 'TOKEN' b", `{"a":"TOKEN"}`, "x:TOKEN", "https://TOKEN@h/", "%3DTOKEN"} {
			if got := Args([]string{"x", strings.ReplaceAll(form, "TOKEN", whole)})[1]; strings.Contains(got, rest) || !strings.Contains(got, redacted) {
				t.Errorf("%s is in %s", whole, got)
			}
		}
		if token.mixed {
			if word := token.start + strings.Repeat("words-", 40)[:token.least]; Args([]string{"x", word})[1] != word {
				t.Errorf("%s: %s", word, Args([]string{"x", word})[1])
			}
		}
		if len(token.start)+token.least > 16 && !token.mixed {
			if short := token.start + rest[:min(10, token.least-1)]; Args([]string{"x", short})[1] != short {
				t.Errorf("%s: %s", short, Args([]string{"x", short})[1])
			}
		}
	}
}

// A command line is cut before its secrets are hidden: half a secret is one as well.
func TestRedactCut(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "redact.txt") {
		for i, arg := range v.in {
			for n := range arg {
				in := append(slices.Clone(v.in[:i]), arg[:n])
				got := strings.Join(Args(in), "\n")
				for _, s := range v.secrets {
					if strings.HasSuffix(arg[:n], "://"+s) { // what a name without a password is shows behind it
						continue
					}
					if len(s) > 6 && strings.Contains(got, s) {
						t.Errorf("%q is in %s", s, got)
					}
				}
			}
		}
	}
}

// Long arguments are cut, so that hiding takes no time that counts.
func TestRedactLong(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"a='", "x=\"y ", "password=", "://", "{\"a\":", "é"} {
		got := Args([]string{"x", strings.Repeat(part, 1<<20/len(part)), "--token", "abc"})
		if len(got[1]) > argumentMost+len("…") || !strings.HasSuffix(got[1], "…") && !strings.HasSuffix(got[1], redacted) || got[3] != redacted {
			t.Errorf("%q: %d bytes, %q", part, len(got[1]), got[3])
		}
	}
}

func BenchmarkRedact(b *testing.B) {
	var list []vector
	text, err := os.ReadFile("testdata/redact.txt")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if line != "" && line[0] != '#' {
			list = append(list, parse("", line))
		}
	}
	for b.Loop() {
		for _, v := range list {
			Args(v.in)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("curl -u a:b 'x", "--password")
	f.Fuzz(func(t *testing.T, a, b string) {
		if out := Args([]string{"x", a, b, "--token", "0123456789abc"}); len(out) != 5 || out[0] != "x" {
			t.Errorf("%q", out)
		}
	})
}
