package audit

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLastRecord(t *testing.T) {
	t.Parallel()
	const one, two = `{"v":1,"seq":1}`, `{"v":1,"seq":2}`
	for _, c := range []struct {
		name    string
		window  string
		whole   bool
		wantSeq uint64
		wantEnd int
	}{
		{"empty", "", true, 0, 0},
		{"one", one + "\n", true, 1, 16},
		{"two", one + "\n" + two + "\n", true, 2, 32},
		{"half a line", one + "\n" + `{"v":1,"se`, true, 1, 16},
		{"a line without its newline", one + "\n" + two, true, 1, 16},
		{"NULs", one + "\n" + strings.Repeat("\x00", 20), true, 1, 16},
		{"line of NULs", one + "\n\x00\x00\x00\n", true, 1, 16},
		{"empty lines", one + "\n\n\n", true, 1, 16},
		{"garbage", one + "\nhello\n", true, 1, 16},
		{"several lines of garbage", one + "\nhello\nyou\nthere", true, 1, 16},
		{"no version", one + "\n" + `{"seq":2}` + "\n", true, 1, 16},
		{"seq is a string", one + "\n" + `{"v":1,"seq":"2"}` + "\n", true, 1, 16},
		{"seq is 0", one + "\n" + `{"v":1,"seq":0}` + "\n", true, 1, 16},
		{"two records in a line", one + "\n" + two + two + "\n", true, 1, 16},
		{"only garbage", "hello\n", true, 0, 0},
		{"only half a line", `{"v":1,`, true, 0, 0},
		{"first line may be cut off", one + "\n", false, 0, 0},
		{"first line is cut off", "cut\n" + two + "\n", false, 2, 20},
		{"only the first line is a record", one + "\nhello\n", false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			last, end := lastRecord([]byte(c.window), c.whole)
			if last.seq != c.wantSeq || end != c.wantEnd {
				t.Errorf("seq %d, end %d, want %d, %d", last.seq, end, c.wantSeq, c.wantEnd)
			}
		})
	}
}

func TestRepair(t *testing.T) {
	t.Parallel()
	const start, repair = "execution-start", "audit-repair"
	for _, c := range []struct {
		name   string
		before int // records
		torn   string
		want   string // actions
	}{
		{"half a line", 2, `{"v":1,"@timest`, start + " " + start + " " + repair + " " + start},
		{"NULs", 1, strings.Repeat("\x00", 4096), start + " " + repair + " " + start},
		{"garbage line", 1, "hello\n", start + " " + repair + " " + start},
		{"two garbage lines", 1, "hello\n\xff\n", start + " " + repair + " " + start},
		{"longer than the first look", 1, strings.Repeat("x\n", 100_000), start + " " + repair + " " + start},
		{"nothing before it", 0, `{"v":1`, repair + " " + start},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			l := openLog(t, dir)
			for range c.before {
				mustAppend(t, l, startRecord("before"))
			}
			tear(t, dir, c.torn)
			mustAppend(t, l, startRecord("after"))

			records := verify(t, dir)
			if got := actions(records); got != c.want {
				t.Fatalf("records %s, want %s", got, c.want)
			}
			cut := records[c.before]["repair"].(map[string]any)
			kept := fmt.Sprintf("torn-%012d-1.frag", c.before+1)
			if cut["kept"] != kept || fmt.Sprint(cut["bytes"]) != fmt.Sprint(len(c.torn)) || cut["sha256"] != fmt.Sprintf("%x", sha256.Sum256([]byte(c.torn))) {
				t.Errorf("repair %v, want %d bytes in %s", cut, len(c.torn), kept)
			}
			text, err := os.ReadFile(filepath.Join(dir, kept))
			if err != nil || string(text) != c.torn {
				t.Errorf("kept %q (%v), want %q", text, err, c.torn)
			}
			if st, err := os.Stat(filepath.Join(dir, kept)); err != nil || st.Mode()&^0o600 != 0 {
				t.Errorf("mode %v (%v), want 0600", st.Mode(), err)
			}
		})
	}
}

// A writer was killed in the middle of a repair.
func TestRepairOfRepair(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		fragments []string // already there for seq 2
		torn      string   // still at the end of the log
		want      string   // actions
		wantKept  string
	}{
		{"while keeping the bytes", []string{"to"}, "torn", "execution-start audit-repair execution-start", "torn-000000000002-2.frag"},
		{"before the cut", []string{"torn"}, "torn", "execution-start audit-repair execution-start", "torn-000000000002-2.frag"},
		{"after the cut", []string{"torn"}, "", "execution-start audit-repair execution-start", "torn-000000000002-1.frag"},
		{"twice", []string{"to", "torn"}, "", "execution-start audit-repair execution-start", "torn-000000000002-2.frag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			l := openLog(t, dir)
			mustAppend(t, l, startRecord("before"))
			for i, text := range c.fragments {
				must(t, os.WriteFile(filepath.Join(dir, fragmentName(2, i+1)), []byte(text), 0o600))
			}
			tear(t, dir, c.torn)
			mustAppend(t, l, startRecord("after"))

			records := verify(t, dir)
			if got := actions(records); got != c.want {
				t.Fatalf("records %s, want %s", got, c.want)
			}
			cut := records[1]["repair"].(map[string]any)
			if cut["kept"] != c.wantKept || fmt.Sprint(cut["bytes"]) != "4" {
				t.Errorf("repair %v, want 4 bytes in %s", cut, c.wantKept)
			}
		})
	}
}

// Lines as long as they get: the last one does not fit the first look.
func TestAppendAfterLongLine(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	for range 4 {
		r := startRecord("r")
		for range 15 {
			r.Variables.List = append(r.Variables.List, Variable{Name: strings.Repeat("x", 1000)})
		}
		if got := len(mustAppend(t, l, r).Line); got < 15_000 {
			t.Errorf("line of %d bytes, want a long one", got)
		}
	}
	verify(t, dir)
}

func TestContinueFromClosedSegment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		leave string // in the current segment
		want  string // actions, after two closed segments of two records
	}{
		{"absent", "", "execution-start"},
		{"torn from its first byte", "torn", "audit-repair execution-start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			l := openLog(t, dir)
			for _, first := range []int{1, 3} {
				mustAppend(t, l, startRecord("r"))
				mustAppend(t, l, startRecord("r"))
				closed := filepath.Join(dir, fmt.Sprintf("audit-%012d.jsonl", first))
				must(t, os.Rename(filepath.Join(dir, currentName), closed))
			}
			// Not segments.
			for _, name := range []string{"audit-9.jsonl", "audit-99999999999.jsonl", "audit-99999999999x.jsonl.gz", "audit-999999999999.json", "audit-999999999999.jsonl.bak"} {
				must(t, os.WriteFile(filepath.Join(dir, name), []byte("{\"v\":1,\"seq\":77}\n"), 0o600))
			}
			if c.leave != "" {
				tear(t, dir, c.leave)
			}
			mustAppend(t, l, startRecord("r"))
			if got := actions(verify(t, dir)[4:]); got != c.want {
				t.Errorf("records %s, want %s", got, c.want)
			}
		})
	}
}

// tear adds bytes to the current segment.
func tear(t *testing.T, dir, torn string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, currentName), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(torn)
	must(t, err, f.Close())
}
