package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

// The lock file holds what a writer has to know about earlier runs, so that no run has to read the
// log for it:
//
//	00000000000000000042 <hash>\n    the newest record, as its writer knew it
//	<SHA-256 or -> "<path>"\n        each configuration file that a run has looked for; -: it was not there
//
// The first line shows when the log was removed, cut or replaced by another one. A writer that was
// killed may leave the line one record behind the log, which is no fault.

const (
	filesMost = 8 << 10 // bytes of the lines after the first
	noFile    = "-"
)

// A memory is what the lock file said when a writer came.
type memory struct {
	head
	known bool // there is a note of the newest record
	made  bool // this or another writer had to make the file, and nobody has noted a record in it yet
}

const madeText = "new\n"

func recall(lock int) (m memory) {
	if m.head, m.known = noted(lock); !m.known {
		var text [len(madeText)]byte
		m.made = readAt(lock, text[:], 0) == nil && string(text[:]) == madeText
	}
	return m
}

// memoryLost is the reason of an audit-repair record: there are records, and the note of the newest
// one is gone. Whether newer records were cut from the log cannot be known then.
const memoryLost = "memory-lost"

// forgotten reports whether the note is gone, or too old for this log. Somebody who cuts the end of
// the log may remove the note, so that nothing shows: this shows it.
//
// A missing file, and a note of another log, get a record of their own. An empty or unreadable file
// is what a power cut can leave, because nobody syncs it: the next record says so in a field
// (beside). After a power cut the note can also be old; then the newest record is from another
// boot. A writer that was killed leaves the note one record behind.
func (l *Log) forgotten(last head, m memory, boot string) (r *Repair, beside bool) {
	r = &Repair{Found: &Link{last.seq, last.hash}}
	switch {
	case !m.known && last.seq > 0 && last.at.wall.IsZero(): // written by a version that noted nothing
		return nil, false
	case !m.known && (last.seq > 0 || l.beyond(last.seq)):
		return r, !m.made
	case !m.known:
		return nil, false
	}
	r.Noted = &Link{m.seq, m.hash}
	if m.seq+1 == last.seq && last.prev != m.hash || m.seq+1 < last.seq && boot != "" && last.at.boot == boot {
		return r, false
	}
	return nil, false
}

// beyond looks for what an older log has left: torn bytes that were kept for a record that comes
// later than the next one.
func (l *Log) beyond(seq uint64) bool {
	entries, err := os.ReadDir(l.path)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if n, ok := fragmentSeq(e.Name()); ok && n > seq+1 {
			return true
		}
	}
	return false
}

// fragmentSeq is the seq in the name of a file of torn bytes.
func fragmentSeq(name string) (uint64, bool) {
	name, prefix := strings.CutPrefix(name, "torn-")
	name, suffix := strings.CutSuffix(name, ".frag")
	digits, _, numbered := strings.Cut(name, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, prefix && suffix && numbered && err == nil
}

// started is the newest start record in the files of runs under way and of dead ones. It is a
// second note of what the log must have.
func (l *Log) started() (newest head) {
	names, err := l.listRuns()
	if err != nil || len(names) == 0 {
		return head{}
	}
	dir, err := l.openRuns(false)
	if err != nil {
		return head{}
	}
	defer unix.Close(dir)
	for _, name := range names {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), name)
		text, _ := io.ReadAll(io.LimitReader(f, maxLine))
		f.Close()
		line, _, whole := bytes.Cut(text, []byte("\n"))
		if h, ok := parseHead(line); whole && ok && h.seq > newest.seq {
			newest = h
		}
	}
	return newest
}

// policyChanges compares the configuration files of a start with those of earlier runs, by path.
// lines is what the lock file has to say then; nil: it stays as it is. The first run that looks for
// a file is no change.
func policyChanges(lock int, files []ConfigFile) (changes []PolicyChange, lines []byte, err error) {
	text := make([]byte, filesMost)
	n, err := unix.Pread(lock, text, rememberedSize)
	if err != nil {
		return nil, nil, err
	}
	known := bytes.SplitAfter(text[:n], []byte("\n"))
	fresh := false
	for _, f := range files {
		sum := f.SHA256
		if sum == "" {
			sum = noFile
		}
		name := strconv.QuoteToASCII(f.Path)
		line := []byte(sum + " " + name + "\n")
		at, was := -1, ""
		for i, k := range known {
			if before, path, _ := bytes.Cut(k, []byte(" ")); string(path) == name+"\n" {
				at, was = i, string(before)
			}
		}
		if was == sum {
			continue
		}
		fresh = true
		if at < 0 {
			known = append(known, line)
			continue
		}
		known[at] = line
		change := PolicyChange{Path: f.Path, OldSHA256: strings.TrimPrefix(was, noFile), NewSHA256: f.SHA256}
		if f.Describe != nil {
			f.Describe(&change)
		}
		changes = append(changes, change)
	}
	if !fresh {
		return nil, nil, nil
	}
	for _, k := range known {
		if bytes.HasSuffix(k, []byte("\n")) { // a full disk can leave half a line
			lines = append(lines, k...)
		}
	}
	for len(lines) > filesMost { // forget the oldest paths
		_, lines, _ = bytes.Cut(lines, []byte("\n"))
	}
	return changes, lines, nil
}

// compareFiles notes a policy-change record for each configuration file of a record that has
// changed. The lines are for rememberFiles.
func (l *Log) compareFiles(lock int, start Record, note func(Record) error) (lines []byte, err error) {
	changes, lines, err := policyChanges(lock, filesOf(start))
	if err != nil {
		return nil, l.failed("read", lockName, err)
	}
	for _, change := range changes {
		if err := note(policyRecord(start, change)); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

// rememberChange notes the file of a change that a tool has made and recorded itself, so that the next
// run does not take it for a change by somebody else.
func (l *Log) rememberChange(lock int, change PolicyChange) error {
	_, lines, err := policyChanges(lock, []ConfigFile{{Path: change.Path, SHA256: change.NewSHA256}})
	if err == nil && lines != nil {
		err = rememberFiles(lock, lines)
	}
	return err
}

// filesOf are the configuration files that a record speaks for. A tool has found the file that it changes
// as OldSHA256 says: where that is not what the last run has found, somebody else has changed the file
// in between.
func filesOf(r Record) []ConfigFile {
	p := r.Policy
	if p == nil || r.Event.Action == PolicyChanged || slices.ContainsFunc(r.Config, func(f ConfigFile) bool { return f.Path == p.Path }) {
		return r.Config
	}
	return append(slices.Clip(r.Config), ConfigFile{Path: p.Path, SHA256: p.OldSHA256})
}

// rememberFiles writes the lines after the note of the newest record.
func rememberFiles(lock int, lines []byte) error {
	if _, err := unix.Pwrite(lock, lines, rememberedSize); err != nil {
		return err
	}
	return unix.Ftruncate(lock, rememberedSize+int64(len(lines)))
}

// ComparePolicy compares configuration files as a start does. It is for runs that leave no record
// because one of these files says so. r says who noticed. It makes no log where there is none.
func ComparePolicy(dir string, r Record, files []ConfigFile) error {
	if _, err := os.Lstat(dir); errors.Is(err, unix.ENOENT) {
		return nil
	}
	l, err := Open(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	lock, err := l.lock()
	if err != nil {
		return err
	}
	defer filelock.Release(lock)
	if _, isKnown := remembered(lock); !isKnown { // there is no record yet, or the next run records that the note is gone
		return nil
	}
	r.Config = files
	lines, err := l.compareFiles(lock, r, func(change Record) error {
		_, err := l.addLocked(lock, change)
		return err
	})
	if err == nil && lines != nil {
		err = rememberFiles(lock, lines)
	}
	return err
}

// policyRecord is the record of a change that the writer of r has noticed.
func policyRecord(r Record, change PolicyChange) Record {
	why := "file-changed"
	switch {
	case change.OldSHA256 == "":
		why = "file-appeared"
	case change.NewSHA256 == "":
		why = "file-removed"
	}
	return Record{
		Event: Event{Action: PolicyChanged, Outcome: Success, Reason: why},
		RunID: r.RunID, Host: r.Host, User: r.User, Auth: r.Auth, Client: r.Client,
		Policy: &change,
	}
}
