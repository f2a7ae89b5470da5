package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What stands in the place of a segment and is none is told once, in its place, by every iterator, and each of them ends where its reader does.
func TestIteratorsEnd(t *testing.T) {
	t.Parallel()
	spoilt := map[string]func(t *testing.T, name string){
		"symlink": func(t *testing.T, name string) {
			must(t, os.Rename(name, name+".aside"), os.Symlink(name+".aside", name))
		},
		"directory": func(t *testing.T, name string) { must(t, os.Remove(name), os.Mkdir(name, 0o700)) },
		"pipe":      func(t *testing.T, name string) { must(t, os.Remove(name), syscall.Mkfifo(name, 0o600)) },
	}
	for what, spoil := range spoilt {
		for at := range 4 {
			t.Run(fmt.Sprint(what, at), func(t *testing.T) {
				t.Parallel()
				dir, _ := written(t, 20) // 1 to 12, 13 to 24, 25 to 36, 37 to 40
				r := openReader(t, dir)
				var middle Position
				for line := range r.Records(Position{}) {
					if line.Seq == 5 {
						middle = line.Position()
					}
				}
				spoil(t, files(t, dir)[at])
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				all := map[string]iter.Seq2[Line, error]{"records": r.Records(Position{}), "backward": r.Backward(), "follow": r.Follow(ctx, Position{})}
				if at > 0 {
					all["records from"] = r.Records(middle)
				}
				for name, lines := range all {
					most, wrong := 0, 0
					for _, err := range lines {
						if most++; err != nil {
							wrong++
						}
						if most == 41-[]int{12, 12, 12, 4}[at] && name == "follow" {
							break
						}
					}
					if want := 41 - []int{12, 12, 12, 4}[at]; name != "records from" && (most != want || wrong != 1) {
						t.Errorf("%s: %d lines and errors, %d of them errors, want %d and 1", name, most, wrong, want)
					}
					for stop := 1; stop <= most; stop++ { // a yield after false panics
						n := 0
						for range lines {
							if n++; n == stop {
								break
							}
						}
					}
				}
				if rep := check(t, dir, Check{Tree: true}); rep.Worst() != Broken || rep.Findings[0].Kind != SegmentFile {
					t.Errorf("verify finds %s", summary(rep))
				}
			})
		}
	}
}

// readAsNobody looks at a log of which this user may read all but one segment. It says what it found.
func readAsNobody(l *Log) error {
	if os.Geteuid() == 0 {
		if err := errors.Join(syscall.Setresgid(65534, 65534, 65534), syscall.Setresuid(65534, 65534, 65534)); err != nil {
			return err
		}
	}
	r, err := OpenReader(l.path)
	if err != nil {
		return err
	}
	first := ""
	for _, serial := range []bool{false, true} {
		receipts := []Witness{{Source: "a", Seq: 3, Hash: strings.Repeat("0", 64)}, {Source: "b", Seq: 99, Hash: strings.Repeat("0", 64)}}
		for _, witnesses := range [][]Witness{nil, receipts[1:]} {
			rep, err := r.Verify(Check{Tree: true, Witnesses: witnesses, serial: serial})
			if err != nil {
				return err
			}
			first += fmt.Sprintf("%s; %v; tree %v\n", summary(rep), rep.Unread, rep.Tree != nil)
		}
	}
	_, err = fmt.Printf("%s%s\n%s\n", first, told(r.Records(Position{})), told(r.Backward()))
	return err
}

// A segment that this user may not read says nothing about the log: no break, no missing record, no run without a start or an end, no tree.
func TestUnreadableSegment(t *testing.T) {
	t.Parallel()
	for at := range 4 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			dir, l := written(t, 5)
			live := begin(t, l, "spans")
			for i := range 18 {
				run(t, l, fmt.Sprint("more", i))
			}
			_, err := live.End(endRecord("spans"))
			must(t, err)
			for i := range 2 {
				run(t, l, fmt.Sprint("last", i))
			}
			public(t, dir)
			must(t, os.Chmod(files(t, dir)[at], 0))
			name := filepath.Base(files(t, dir)[at])
			c := childCommand(t, "read-as-nobody", dir)
			out, err := c.Output()
			must(t, err)
			got := strings.Split(string(out), "\n")
			for i := range 4 {
				want := "unreadable not-readable; [" + name + "]; tree false"
				if i%2 == 1 {
					want = "unreadable not-readable; unreadable not-readable 99; [" + name + "]; tree false"
				}
				if got[i] != want {
					t.Errorf("verify finds %q, want %q", got[i], want)
				}
			}
			if strings.Count(got[4], "permission denied") != 1 || strings.Count(got[5], "permission denied") != 1 || strings.Count(got[4], " ") < 20 {
				t.Errorf("segment %d: read %q and %q", at, got[4], got[5])
			}
		})
	}
}

// public lets everybody read a log.
func public(t *testing.T, dir string) {
	t.Helper()
	for at := dir; strings.HasPrefix(at, os.TempDir()+"/"); at = filepath.Dir(at) {
		must(t, os.Chmod(at, 0o755))
	}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chmod(path, 0o644)
		}
		return err
	}))
}

// fewFiles looks at a log of more segments than it may open.
func fewFiles(l *Log) error {
	r, err := OpenReader(l.path)
	if err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 16, Max: 16}); err != nil {
		return err
	}
	rep, err := r.Verify(Check{Tree: true})
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%d segments; %s\n%s\n%s\n", len(rep.Segments), summary(rep), told(r.Records(Position{})), told(r.Backward()))
	return err
}

func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 1)
	l.segmentMost = 1000 // each start opens a new one
	for i := range 40 {
		run(t, l, fmt.Sprint("s", i))
	}
	out, err := childCommand(t, "few-files", dir).Output()
	must(t, err)
	if got, want := string(out), fmt.Sprintf("41 segments; \n%s\n%s\n", numbers(1, 82), reversed(numbers(1, 82))); got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

// What retention removes while the log is read is not told as a break.
func TestRemovedWhileRead(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 20)
	r := openReader(t, dir)
	names := files(t, dir)
	texts := ""
	for line, err := range r.Records(Position{}) {
		if line.Seq == 1 {
			must(t, os.Remove(names[0]), os.Remove(names[1]))
		}
		var gone *PositionError
		if err != nil && (!errors.As(err, &gone) || !gone.Pruned || gone.Position.Seq != 12) {
			t.Errorf("%v", err)
		}
		texts += fmt.Sprintf("%d %v ", line.Seq, err != nil)
	}
	if !strings.HasSuffix(texts, "12 false 0 true ") {
		t.Errorf("read %s", texts)
	}
	dir, _ = written(t, 20)
	r = openReader(t, dir)
	s, err := r.look(0)
	must(t, err)
	defer s.close()
	v := &verifier{reader: r, report: &Report{}, snapshot: s, open: map[string]opened{}}
	must(t, os.Remove(files(t, dir)[0]))
	if err := s.load(&s.segments[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("load: %v", err)
	} else if v.unopened(&job{block: block{err: err}}); v.removed != "audit-000000000001.jsonl" {
		t.Errorf("removed is %q, found %s", v.removed, summary(v.report))
	}
	if err := s.load(&s.segments[1]); err != nil {
		t.Error(err)
	}
	s.segments[1].release()
	must(t, os.Rename(files(t, dir)[0], filepath.Join(dir, "other")), os.WriteFile(filepath.Join(dir, "audit-000000000013.jsonl"), nil, 0o600))
	if err := s.load(&s.segments[1]); err == nil || !strings.Contains(err.Error(), "replaced by another file") {
		t.Errorf("load of another file: %v", err)
	}
}

// A place that no record ends at, whoever wrote it down, is an error and not a panic.
func TestWrongPositions(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 20)
	r := openReader(t, dir)
	for _, at := range []Position{{Offset: -1}, {Segment: 1, Offset: -9, Seq: 1, Hash: "x"}, {Segment: 1}, {Seq: 7}, {Segment: 1 << 63, Offset: 1, Seq: 1}, {Segment: 1, Offset: 1 << 62, Seq: 1}, {Hash: "x"}} {
		var wrong *PositionError
		for _, err := range r.Records(at) {
			if !errors.As(err, &wrong) {
				t.Errorf("%+v: %v", at, err)
			}
			break
		}
		if wrong == nil {
			t.Errorf("%+v was taken", at)
		}
	}
}

// A break names the records on both sides of it: whose, when, of which run.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		do            func(t *testing.T, dir string)
		before, after uint64
	}{
		{"edited", func(t *testing.T, dir string) {
			editLine(t, dir, 5, func(s string) string { return strings.Replace(s, "alice", "mallo", 1) })
		}, 5, 6},
		{"removed", func(t *testing.T, dir string) { editLine(t, dir, 5, func(string) string { return "" }) }, 4, 6},
		{"a segment removed", func(t *testing.T, dir string) { must(t, os.Remove(files(t, dir)[1])) }, 12, 25},
		{"the first segment removed", func(t *testing.T, dir string) { must(t, os.Remove(files(t, dir)[0])) }, 0, 13},
		{"doubled", func(t *testing.T, dir string) { editLine(t, dir, 5, func(s string) string { return s + s }) }, 5, 5},
	} {
		dir, _ := written(t, 20)
		c.do(t, dir)
		f := check(t, dir, Check{}).Findings[0]
		var before uint64
		if f.Before != nil {
			before = f.Before.Seq
		}
		if f.After == nil || before != c.before || f.After.Seq != c.after || f.After.User == "" || f.After.RunID == "" || f.After.Time == "" || f.After.Action == "" || len(f.After.Hash) != 64 ||
			!strings.Contains(f.Message, f.After.String()) || !strings.Contains(f.Message, "run "+f.After.RunID) {
			t.Errorf("%s: %+v, between %+v and %+v", c.name, f, f.Before, f.After)
		}
	}
}

// Somebody has looked into a finding: it stays, says who and when, and weighs no more than a warning. Another incident at the same record is none of it.
func TestAcknowledged(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 20)
	change := func(from, to string) {
		editLine(t, dir, 5, func(s string) string { return strings.Replace(s, from, to, 1) })
	}
	change("alice", "mallo")
	found := check(t, dir, Check{}).Findings[0]
	if len(found.ID) != 12 || found.Acknowledged != nil {
		t.Fatalf("%+v", found)
	}
	r := startRecord("")
	r.Event = Event{Action: AuditAcknowledged, Outcome: Success}
	r.Ack = &Acknowledged{ID: found.ID, Kind: string(found.Kind), Seq: found.Seq, Comment: "a test of the backup"}
	receipt := mustAppend(t, l, r)
	run(t, l, "later")
	rep := check(t, dir, Check{})
	a := rep.Findings[0].Acknowledged
	if summary(rep) != "broken chain-broken 5" || a == nil || a.User != r.User.Name || a.Seq != receipt.Seq || a.Time == "" || a.Comment != "a test of the backup" || rep.Worst() != Broken || rep.Open() != Warning {
		t.Errorf("%+v, by %+v, open %v", rep.Findings, a, rep.Open())
	}
	rep.Add(Finding{Severity: Broken, Kind: CheckpointDiffers, Message: "as a caller adds it"})
	if rep.Open() != Broken {
		t.Errorf("open %v", rep.Open())
	}
	change("mallo", "hallo")
	if rep = check(t, dir, Check{}); rep.Findings[0].Acknowledged != nil || rep.Open() != Broken {
		t.Errorf("of another change: %+v", rep.Findings[0])
	}
	change("hallo", "alice")
	if rep = check(t, dir, Check{}); summary(rep) != "" {
		t.Errorf("as it was: %s", summary(rep))
	}
	editLine(t, dir, 5, func(s string) string { return s + "hello\n" })
	editLine(t, dir, 9, func(s string) string { return s + "hello\n" })
	if rep = check(t, dir, Check{}); rep.Findings[0].ID == rep.Findings[1].ID {
		t.Errorf("two lines, one id: %+v", rep.Findings)
	}
	r.Ack = nil
	mustAppend(t, l, r)
	if rep = check(t, dir, Check{}); summary(rep) != "broken line-form; broken line-form; broken line-form 44" {
		t.Errorf("without a word: %s", summary(rep))
	}
}

// A writer that found records and no note of the newest says what it found: that has to be there.
func TestMemoryLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		found uint64
		want  string
	}{{40, "warning memory-missing 41"}, {41, "broken log-repaired 41"}} {
		dir, l := written(t, 20)
		newest := check(t, dir, Check{}).Last.Hash
		mustAppend(t, l, Record{Event: Event{Action: AuditRepair, Outcome: Success, Reason: "memory-lost"}, Repair: &Repair{Found: &Link{c.found, newest}}})
		if rep := check(t, dir, Check{}); summary(rep) != c.want {
			t.Errorf("%d found: %s, want %s", c.found, summary(rep), c.want)
		}
	}
}

// What the disk or the host fails to give is no break either, also in the middle of a segment.
func TestHostFailures(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{unix.EMFILE: true, unix.ENFILE: true, unix.EACCES: true, unix.EIO: true, unix.ENOMEM: true, unix.ESTALE: true,
		unix.ELOOP: false, unix.ENOENT: false, unix.ENOTDIR: false, errors.New("not a regular file"): false} {
		if got := hostFailure(&StepError{"open", "x", fmt.Errorf("wrapped: %w", err)}); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	for _, failure := range []error{unix.EIO, unix.EMFILE, errors.New("became shorter while it was read")} {
		dir, _ := written(t, 20)
		r := openReader(t, dir)
		s, err := r.look(0)
		must(t, err)
		defer s.close()
		v := &verifier{reader: r, report: &Report{}, snapshot: s, open: map[string]opened{}}
		rest := false
		for line, err := range r.Records(Position{}) {
			must(t, err)
			switch {
			case line.Seq == 1:
				v.beginSegment(s.segments[0])
			case line.Seq == 6: // an end: its start was read; from here on to 12 nothing can be
				v.endSegment(&job{block: block{err: failure, last: true}})
				rest = true
			case line.Seq == 13:
				v.beginSegment(s.segments[1])
				rest = false
			}
			if !rest && line.Seq < 25 {
				v.record(line.Text, line.end)
			}
		}
		if got := summary(v.report); got != "unreadable not-readable" || len(v.report.Unread) != 1 || len(v.open) != 0 {
			t.Errorf("%v: found %s, unread %v, %d runs open", failure, got, v.report.Unread, len(v.open))
		}
	}
}
