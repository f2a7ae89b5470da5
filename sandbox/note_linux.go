package sandbox

import (
	"io"
	"os"
	"strings"
)

// A Note is an entry in a root, like that of a run, for control groups that belong to no run yet. If
// this process dies, [Sweep] removes them.
type Note struct{ w *Workdir }

// MakeNote makes an entry of that name, which must be unique in the root.
func MakeNote(root, name string) (*Note, error) {
	w := &Workdir{root: root, name: name}
	if err := w.enter(name, true); err != nil {
		return nil, err
	}
	return &Note{w}, nil
}

// Groups notes directories of control groups. Call it before making them. It forgets those that are
// gone when the entry is half as long as what Sweep reads.
func (n *Note) Groups(paths []string) {
	info, err := n.w.lock.Stat()
	if err == nil && info.Size() > entryMost/2 {
		text, _ := io.ReadAll(io.NewSectionReader(n.w.lock, 0, entryMost))
		var kept []string
		for line := range strings.Lines(string(text)) {
			if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "group "); ok {
				if _, err := os.Stat(path); err == nil {
					kept = append(kept, path)
				}
			}
		}
		n.w.lock.Truncate(0)
		n.w.lock.Seek(0, io.SeekStart)
		paths = append(kept, paths...)
	}
	n.w.noteGroups(paths)
}

// Close removes the entry.
func (n *Note) Close() { n.w.leave() }
