package python

import (
	"strings"

	"py3run/cmd/internal/wire"
)

// Files are a set: how often one was written says little. The kernel sees Python's own calls, too,
// under the same name as the hook: both begin a relative one at the directory's name in /proc.

// files are the distinct files of one kind of event.
type files struct {
	list[string]
	vague map[int]bool // in items: names that the hook could not tell in full
}

// told adds a file that the hook has noted.
func (f *files) told(name string) {
	n := len(f.items)
	f.add(tidy(name), name, 1)
	if len(f.items) > n && (strings.HasPrefix(name, unknownDir) || strings.HasSuffix(name, "…")) {
		if f.vague == nil {
			f.vague = map[int]bool{}
		}
		f.vague[n] = true
	}
}

// unknownDir stands for a directory that the audit event does not name.
const unknownDir = "?/"

// native adds a file that the kernel has seen. If the hook has noted it without its directory or
// without its end, it takes that one's place.
func (f *files) native(name string) {
	if _, known := f.at[name]; known {
		return
	}
	for i := range f.vague {
		told := f.items[i]
		below, of := strings.CutPrefix(told, unknownDir)
		if begin, cut := strings.CutSuffix(told, "…"); of && strings.HasSuffix(name, "/"+tidy(below)) || cut && strings.HasPrefix(name, begin) {
			delete(f.vague, i)
			f.items[i], f.at[name] = name, i
			return
		}
	}
	f.add(name, name, 1)
}

// tidy is the same for names that differ in what changes nothing: empty parts, and those that are one
// dot. The kernel's names have none.
func tidy(name string) string {
	if !strings.Contains(name, "//") && !strings.Contains(name, "/.") && !strings.HasSuffix(name, "/") {
		return name
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	tidied := strings.Join(parts, "/")
	if name[0] == '/' {
		return "/" + tidied
	}
	return tidied
}

// A pairOfFiles is what the hook has noted, and what the kernel has seen.
type pairOfFiles struct {
	told *files
	seen []string
}

func (t *tally) files(seen wire.Events) []pairOfFiles {
	return []pairOfFiles{{&t.written, seen.FilesWritten}, {&t.deleted, seen.FilesDeleted}, {&t.dirs, seen.DirsMade}, {&t.read, seen.FilesRead}}
}

// missing is how many files the kernel has seen that nobody has noted; noRoom are the events that the
// hook had no room for. The kernel sees all that the hook sees, so of those that the kernel had no
// room for, so many count already.
func (t *tally) missing(seen wire.Events, noRoom int) int {
	if seen.FilesDropped == 0 {
		return 0
	}
	all, counted := seen.FilesDropped, noRoom
	for _, l := range t.files(seen) {
		all += len(l.seen)
		counted += len(l.told.items)
	}
	return max(0, all-counted)
}
