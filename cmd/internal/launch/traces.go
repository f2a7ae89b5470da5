package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// atSizeLimit looks for traces of the limit on a file's size. The kernel leaves only one: the size of the file.
//
// cut is a file that lost what was written to it, by all appearances: buffered output that a limit refuses when a file is dropped is lost
// without an exception. It ends exactly at the limit, with data, and was written to by this run; or it was opened to be appended to and is at
// the limit or above, so nothing could be added. That may have been handled, or not have been tried, which leaves the same trace. A file that
// is read, or has become shorter, or is gone at the end, is none.
//
// full is any file of at least the limit's size that was opened for writing: it bears out an exception that says the file is too large.
func (r *run) atSizeLimit(c sandbox.Contents, e wire.Events) (cut, full string) {
	limit := megabytes(r.limits.FileMB)
	if limit == 0 {
		return "", ""
	}
	size := func(path string, stat func(string) (os.FileInfo, error)) (bytes int64, changed time.Time) {
		info, err := stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return 0, changed
		}
		return info.Size(), info.ModTime()
	}
	cut = c.AtLimit
	for _, path := range e.FilesWritten {
		if bytes, changed := size(path, os.Lstat); cut == "" && bytes == limit && changed.After(r.job.Began.Add(-time.Second)) && !sandbox.EndsInHole(path, bytes) {
			cut = path
		}
		if bytes, _ := size(path, os.Stat); full == "" && bytes >= limit {
			full = path
		}
	}
	for _, path := range e.Appended {
		if bytes, _ := size(path, os.Stat); cut == "" && bytes >= limit {
			cut = path
		}
	}
	return cut, full
}

// ended are warnings of what was refused to a run, and of what was ended with it.
func ended(o sandbox.Outcome, limits wire.Limits) (warnings []wire.Warning) {
	if o.Refused > 0 {
		warnings = append(warnings, wire.Warning{Code: "process_limit",
			Message: fmt.Sprintf("%s refused because of processes = %s, which counts threads too", times(o.Refused, "process or thread was", "processes and threads were"), number(limits.Processes))})
	}
	switch left := o.Left; {
	case left.Count < 0:
		warnings = append(warnings, wire.Warning{Code: "processes_ended", Message: "processes of this run still lived when its program had ended, and were ended; /proc does not show which"})
	case left.Count > 0:
		warnings = append(warnings, wire.Warning{Code: "processes_ended",
			Message: fmt.Sprintf("%s when the program had ended, and ended with it: %s", times(int64(left.Count), "process still lived", "processes still lived"), strings.Join(named(left), ", "))})
	}
	return warnings
}

func times(n int64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", more)
}

// named are the names of what was left, each once: a process gives itself its name, so it is shown as one word of printable text.
func named(left sandbox.Left) (names []string) {
	for _, n := range left.Names {
		if n = filepath.Base(strings.Map(printable, strings.ToValidUTF8(n, "\uFFFD"))); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	if left.Count > len(left.Names) {
		names = append(names, "…")
	}
	return names
}

// printable replaces what is no text to show: control characters.
func printable(r rune) rune {
	if r < ' ' || r >= 0x7f && r < 0xa0 {
		return '\uFFFD'
	}
	return r
}
