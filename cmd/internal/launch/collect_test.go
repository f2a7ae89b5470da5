package launch

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// Which files are a trace of the limit on their size, and which are only large.
func TestAtSizeLimit(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	began := time.Now()
	long := began.Add(-time.Hour)
	dir := t.TempDir()
	file := func(name string, size int64, changed time.Time) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err == nil {
			if err = f.Truncate(size); err == nil && name != "sparse" {
				_, err = f.WriteAt([]byte("x"), size-1)
			}
			f.Close()
			os.Chtimes(path, changed, changed)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	exact, old, over, below := file("exact", limit, began), file("old", limit, long), file("over", limit+1, long), file("below", limit-1, began)
	sparse := file("sparse", limit, began)
	link, fifo, gone := filepath.Join(dir, "link"), filepath.Join(dir, "fifo"), filepath.Join(dir, "gone")
	if err := os.Symlink(over, link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name              string
		inside            string // a file in the working directory of exactly the limit's size
		written, appended []string
		limit             float64
		cut, full         string
	}{
		{"nothing", "", nil, nil, 1, "", ""},
		{"smaller, gone, no files", "", []string{below, gone, fifo, dir}, []string{below, gone, fifo, dir}, 1, "", ""},
		{"written to the limit", "", []string{below, exact}, nil, 1, exact, exact},
		{"made of the limit's size, and not filled", "", []string{sparse}, nil, 1, "", sparse},
		{"written to the limit in the working directory", "big", nil, nil, 1, "big", ""},
		{"opened for writing, of the limit's size before", "", []string{old}, nil, 1, "", old},
		{"opened for writing, over the limit", "", []string{over}, nil, 1, "", over},
		{"through a link", "", []string{link}, nil, 1, "", link},
		{"appended to, over the limit", "", []string{over}, []string{over}, 1, over, over},
		{"appended to, at the limit", "", []string{old}, []string{old}, 1, old, old},
		{"appended to through a link", "", []string{link}, []string{link}, 1, link, link},
		{"appended to, with no room in the list of files", "", nil, []string{over}, 1, over, ""},
		{"no limit", "", []string{exact}, []string{over}, 0, "", ""},
		{"another limit", "", []string{exact}, []string{over}, 2, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cut, full := atSizeLimit(megabytes(tt.limit), began, sandbox.Contents{AtLimit: tt.inside}, wire.Events{FilesWritten: tt.written, Appended: tt.appended})
			if cut != tt.cut || full != tt.full {
				t.Errorf("%q, %q, want %q, %q", cut, full, tt.cut, tt.full)
			}
		})
	}
}

// The warnings about processes that were refused or ended: a process cannot add text of its own to them
// by its name.
func TestEndedWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		outcome sandbox.Outcome
		want    []wire.Warning
	}{
		{"nothing", sandbox.Outcome{}, nil},
		{"one", sandbox.Outcome{Refused: 1, Left: sandbox.Left{Count: 1, Names: []string{"sleep"}}}, []wire.Warning{
			{Code: "process_limit", Message: "1 process or thread was refused because of processes = 8, which counts threads too"},
			{Code: "processes_ended", Message: "1 process still lived when the program had ended, and ended with it: sleep"}}},
		{"several", sandbox.Outcome{Refused: 70, Left: sandbox.Left{Count: 7, Names: []string{"sh", "sleep", "sleep", "sh", "x"}}}, []wire.Warning{
			{Code: "process_limit", Message: "70 processes and threads were refused because of processes = 8, which counts threads too"},
			{Code: "processes_ended", Message: "7 processes still lived when the program had ended, and ended with it: sh, sleep, x, …"}}},
		{"names of their own", sandbox.Outcome{Left: sandbox.Left{Count: 2, Names: []string{"a\n\x1b[2J", "\xff/b"}}}, []wire.Warning{
			{Code: "processes_ended", Message: "2 processes still lived when the program had ended, and ended with it: a\uFFFD\uFFFD[2J, b"}}},
		{"not to be seen", sandbox.Outcome{Left: sandbox.Left{Count: -1}}, []wire.Warning{
			{Code: "processes_ended", Message: "processes of this run still lived when its program had ended, and were ended; /proc does not show which"}}},
	}
	for _, tt := range tests {
		if got := processWarnings(tt.outcome, judged); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %s", tt.name, strings.ReplaceAll(strings.Join([]string{wordsOf(got), wordsOf(tt.want)}, "\nwant\n"), "\x1b", "ESC"))
		}
	}
}

func wordsOf(warnings []wire.Warning) (text string) {
	for _, w := range warnings {
		text += w.Code + ": " + w.Message + "\n"
	}
	return text
}
