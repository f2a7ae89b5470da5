package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// What a run may hand back, beside the limit on its output.
const (
	gatherMost = 256 << 20        // bytes of JSON: py3run holds all of them in memory
	gatherTime = 10 * time.Second // for finding and reading
)

const collectLess = "collect less, or fewer and larger files, or have security.max-output-size-mb raised (collected files: 256 MB at most)"

// sizeOfEntry is what a file or directory takes of a disk at least, as the sandbox counts it.
const sizeOfEntry = 4 << 10

// tooManyFiles refuses files that the working directory has no room for. It makes no system call.
func tooManyFiles(files []wire.File, limits wire.Limits) *refusal {
	refuse := func(name string, used int64, text string) *refusal {
		v := limitReached(limits, wire.StatusDiskLimit, name, mb(float64(used)), text)
		v.Failure.Hint = "put in less, or have security.max-disk-mb or security.max-file-size-mb raised; nothing ran"
		return &refusal{status: v.Status, failure: v.Failure}
	}
	var used int64
	dirs := map[string]bool{}
	for _, f := range files {
		size := int64(len(f.Content))
		if most := megabytes(limits.FileMB); most > 0 && size > most {
			return refuse("file_mb", size, "files: "+f.Name+" is larger than a file may be")
		}
		used += max(sizeOfEntry, (size+sizeOfEntry-1)/sizeOfEntry*sizeOfEntry)
		for i := range f.Name {
			if f.Name[i] == '/' && !dirs[f.Name[:i]] {
				dirs[f.Name[:i]] = true
				used += sizeOfEntry
			}
		}
	}
	if most := megabytes(limits.DiskMB); most > 0 && used > most {
		return refuse("disk_mb", used, "files: they take more than the working directory may hold")
	}
	return nil
}

// put puts the files of a request into the working directory, by a method of it.
func put(files []wire.File, owner *sandbox.User, by func(name, content string, owner *sandbox.User) error) error {
	for _, f := range files {
		if err := by(f.Name, f.Content, owner); err != nil {
			return err
		}
	}
	return nil
}

// A selection is how far each pattern has come on the way into a directory.
type selection struct {
	patterns []wire.Pattern
	at       []wire.Position
	hit      []bool // the patterns that have chosen a file
}

func newSelection(patterns []wire.Pattern) *selection {
	s := &selection{patterns: patterns, hit: make([]bool, len(patterns))}
	for _, p := range patterns {
		s.at = append(s.at, p.Start())
	}
	return s
}

// Chooses reports whether a pattern chooses the file of that name.
func (s *selection) Chooses(file string) (chosen bool) {
	for i, p := range s.patterns {
		if s.at[i] != 0 && p.Matches(s.at[i], file) {
			chosen, s.hit[i] = true, true
		}
	}
	return chosen
}

// Enter returns the selection in a directory; nil: no pattern chooses a file there.
func (s *selection) Enter(dir string) sandbox.Selection {
	below := &selection{patterns: s.patterns, at: make([]wire.Position, len(s.at)), hit: s.hit}
	some := false
	for i, p := range s.patterns {
		if s.at[i] != 0 {
			below.at[i] = p.Enter(s.at[i], dir)
			some = some || below.at[i] != 0
		}
	}
	if !some {
		return nil
	}
	return below
}

// Handed is what a run hands back of its working directory.
type Handed struct {
	Files    map[string]wire.Collected // nil: none was asked for
	Gathered sandbox.Gathered          // what else was chosen
	Missed   []string                  // patterns that have chosen no file
}

// gather hands back the files of the directory that the request asks for. The run has ended,
// or a kept interpreter is done with the request.
func (r *run) gather(workdir *sandbox.Workdir) Handed {
	patterns := r.plan.Job.Request.Collect
	if len(patterns) == 0 {
		return Handed{}
	}
	h := Handed{Files: map[string]wire.Collected{}}
	room := int64(gatherMost)
	if most := megabytes(r.plan.Limits.OutputMB); most > 0 {
		room = min(room, most)
	}
	s := newSelection(patterns)
	g := sandbox.Gathering{Selection: s, BadName: wire.BadFileName, Files: wire.FilesMost, Within: gatherTime,
		Room: func() int64 { return room },
		Take: func(path string, content []byte) bool {
			sum := sha256.Sum256(content)
			f := wire.CollectedFile(content, hex.EncodeToString(sum[:]))
			size := int64(f.Size() + len(path))
			if size > room {
				return false
			}
			room -= size
			h.Files[path] = f
			return true
		}}
	if u := r.plan.Spec.RunAs; u != nil {
		g.Owner = u
	}
	h.Gathered = workdir.Gather(g)
	for i, hit := range s.hit {
		if !hit {
			h.Missed = append(h.Missed, patterns[i].Text)
		}
	}
	return h
}

// incomplete gives the verdict if not all chosen files could be handed back because of a bound: a
// caller that looks only at the status must not take a part for the whole.
func incomplete(h Handed, limits wire.Limits) (v Verdict, decided bool) {
	var why string
	switch h.Gathered.Over {
	case sandbox.TooManyBytes:
		why = "the collected files are too large to hand back"
	case sandbox.TooManyFiles:
		why = fmt.Sprintf("more than %d files to hand back, or too many to look at", wire.FilesMost)
	case sandbox.TooLong:
		why = fmt.Sprintf("to find and read the collected files took more than %v", gatherTime)
	default:
		return v, false
	}
	why += "; those that fit are in the result"
	if most := megabytes(limits.OutputMB); h.Gathered.Over == sandbox.TooManyBytes && most > 0 && most <= gatherMost {
		v = limitReached(limits, wire.StatusOutputLimit, "output_mb", mb(float64(h.Gathered.Bytes)), why)
	} else {
		v = fail(wire.StatusOutputLimit, &wire.Failure{Message: why})
	}
	v.Failure.Hint = collectLess
	return v, true
}

// handedWarnings name what was chosen and is not handed back, and patterns that chose nothing.
func handedWarnings(h Handed) (warnings []wire.Warning) {
	for _, l := range h.Gathered.Left {
		warnings = append(warnings, wire.Warning{Code: "not_collected", Message: shownPath(l.Path) + ": " + l.Why})
	}
	if more := h.Gathered.Count - len(h.Gathered.Left); more > 0 {
		warnings = append(warnings, wire.Warning{Code: "not_collected", Message: fmt.Sprintf("and %s", times(int64(more), "more file", "more files"))})
	}
	for _, p := range h.Missed {
		warnings = append(warnings, wire.Warning{Code: "not_collected", Message: shownPath(p) + ": no file matches"})
	}
	return warnings
}

// shownPath returns a path for a message: the code may have chosen it.
func shownPath(path string) string {
	const most = 300
	path = strings.Map(printable, strings.ToValidUTF8(path, "\uFFFD"))
	if len(path) > most {
		path = strings.ToValidUTF8(path[:most], "") + "…"
	}
	return path
}

// filesListed bounds the list of files in a record. Count, sizes and the hash always include all.
const filesListed = 32

// A fileSum is size and hash of a file.
type fileSum struct {
	bytes  int64
	sha256 string
}

// filesOf returns what a record says of files; nil: there are none.
func filesOf(files map[string]fileSum) *audit.FileSet {
	if len(files) == 0 {
		return nil
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	set := &audit.FileSet{Count: len(names)}
	all := sha256.New()
	for i, name := range names {
		f := files[name]
		fmt.Fprintf(all, "%s  %s\n", f.sha256, name)
		set.Bytes += f.bytes
		if i < filesListed {
			set.List = append(set.List, audit.FileEntry{Name: name, Bytes: f.bytes, SHA256: f.sha256})
		}
	}
	set.SHA256 = hex.EncodeToString(all.Sum(nil))
	return set
}

// filesPut returns what a record says of the files of a request.
func filesPut(files []wire.File) *audit.FileSet {
	sums := make(map[string]fileSum, len(files))
	for _, f := range files {
		sum := sha256.Sum256([]byte(f.Content))
		sums[f.Name] = fileSum{int64(len(f.Content)), hex.EncodeToString(sum[:])}
	}
	return filesOf(sums)
}

// filesCollected returns what the end record says of the files that were handed back.
func filesCollected(files map[string]wire.Collected) *audit.FileSet {
	sums := make(map[string]fileSum, len(files))
	for name, f := range files {
		sums[name] = fileSum{f.Bytes, f.SHA256}
	}
	return filesOf(sums)
}
