package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// With this variable, all tests use Logs that stay: what holds for one that opens its files for each
// record has to hold for them. (Those that list the directory runs find a spare there, and one test
// finds the segment open.)
func init() { staysAlways = os.Getenv("PY3RUN_TEST_STAY") != "" }

// Whatever happens to the log between two records, a Log that stays says about it what one says that
// was opened for the record.
func TestStayingSeesWhatHappened(t *testing.T) {
	t.Parallel()
	current := func(dir string) string { return filepath.Join(dir, currentName) }
	change := func(path string, how func([]byte) []byte) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.Write(how(text))
		return err
	}
	another := func(do func(l *Log) error) func(string) error {
		return func(dir string) error {
			l, err := Open(dir)
			if err != nil {
				return err
			}
			defer l.Close()
			return do(l)
		}
	}
	whole := another(func(l *Log) error {
		run, _, err := l.Begin(startRecord("other"))
		if err == nil {
			_, err = run.End(endRecord("other"))
		}
		return err
	})
	for name, disturb := range map[string]func(dir string) error{
		"nothing":                  func(string) error { return nil },
		"a run of another process": whole,
		"a record of another":      another(func(l *Log) error { _, err := l.Append(endRecord("other")); return err }),
		"another closes the segment": another(func(l *Log) error {
			l.segmentMost = 1
			run, _, err := l.Begin(startRecord("other"))
			run.release()
			return err
		}),
		"torn bytes": func(dir string) error {
			return change(current(dir), func(b []byte) []byte { return append(b, `{"v":1,"se`...) })
		},
		"zeros": func(dir string) error {
			return change(current(dir), func(b []byte) []byte { return append(b, make([]byte, 5000)...) })
		},
		"the newest record cut": func(dir string) error {
			return change(current(dir), func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] })
		},
		"the newest record changed": func(dir string) error {
			return change(current(dir), func(b []byte) []byte { at := bytes.LastIndex(b, []byte("alice")); b[at] = 'A'; return b })
		},
		"the newest record without its end": func(dir string) error {
			return change(current(dir), func(b []byte) []byte { return b[:len(b)-7] })
		},
		"torn bytes of a writer that died after the cut": func(dir string) error {
			l, err := Open(dir)
			if err != nil {
				return err
			}
			defer l.Close()
			fd, err := l.openCurrent()
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			last, _, _, err := readTail(fd)
			if err != nil {
				return err
			}
			return l.setAside(fd, []byte("half"), last.seq+1)
		},
		"emptied":    func(dir string) error { return os.Truncate(current(dir), 0) },
		"removed":    func(dir string) error { return os.Remove(current(dir)) },
		"moved away": func(dir string) error { return os.Rename(current(dir), current(dir)+".old") },
		"replaced by a copy": func(dir string) error {
			text, err := os.ReadFile(current(dir))
			if err == nil {
				err = os.Remove(current(dir))
			}
			if err == nil {
				err = os.WriteFile(current(dir), text, 0o600)
			}
			return err
		},
		"replaced by another log": func(dir string) error {
			other := dir + "-other"
			if err := whole(other); err != nil {
				return err
			}
			return os.Rename(current(other), current(dir))
		},
		"a link in its place": func(dir string) error {
			if err := os.Rename(current(dir), current(dir)+".old"); err != nil {
				return err
			}
			return os.Symlink(current(dir)+".old", current(dir))
		},
		"a second name":  func(dir string) error { return os.Link(current(dir), current(dir)+".old") },
		"open to others": func(dir string) error { return os.Chmod(current(dir), 0o622) },
		"no .lock":       func(dir string) error { return os.Remove(filepath.Join(dir, lockName)) },
		"an empty .lock": func(dir string) error { return os.Truncate(filepath.Join(dir, lockName), 0) },
		"an old .lock": func(dir string) error {
			return change(filepath.Join(dir, lockName), func(b []byte) []byte { copy(b, fmt.Sprintf("%020d", 1)); return b })
		},
		"another .lock": func(dir string) error {
			return os.Rename(filepath.Join(dir, lockName), filepath.Join(dir, ".lock-old"))
		},
		"a copy of .lock": func(dir string) error {
			path := filepath.Join(dir, lockName)
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.Rename(path, path+"-old")
			}
			if err == nil {
				err = os.WriteFile(path, bytes.Replace(text, []byte("00004"), []byte("00003"), 1), 0o600)
			}
			return err
		},
		"other runs": func(dir string) error {
			path := filepath.Join(dir, runsName)
			if err := os.Rename(path, path+"-old"); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
		"no runs":         func(dir string) error { return os.RemoveAll(filepath.Join(dir, runsName)) },
		"runs moved away": func(dir string) error { return os.Rename(filepath.Join(dir, runsName), filepath.Join(dir, "runs-old")) },
		"a file for runs": func(dir string) error { return os.WriteFile(filepath.Join(dir, runsName, "x"), nil, 0o600) },
		"spares taken away": func(dir string) error {
			spares, err := filepath.Glob(filepath.Join(dir, runsName, spareMark+"*"))
			for _, s := range spares {
				os.Remove(s)
			}
			return err
		},
		"pruned": another(func(l *Log) error {
			l.segmentMost = 1
			run, _, err := l.Begin(startRecord("other"))
			if err != nil {
				return err
			}
			if _, err := run.End(endRecord("other")); err != nil {
				return err
			}
			names, err := l.segments()
			if err == nil && len(names) > 0 {
				err = os.Remove(filepath.Join(l.path, names[0]))
			}
			return err
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told [2]string
			for i, stays := range []bool{false, true} {
				dir := logDir(t)
				open := func() *Log {
					l := openLog(t, dir)
					l.NoSync = true
					if l.cached.stays = false; stays {
						l.Stay()
					}
					return l
				}
				var text strings.Builder
				l := open()
				round := func(id string) {
					if !stays {
						l = open()
					}
					run, r, err := l.Begin(startRecord(id))
					fmt.Fprintf(&text, "begin %d %v\n", r.Seq, shown(dir, err))
					if err != nil {
						return
					}
					if stays && runsFile(dir, id) == "" {
						t.Errorf("run %s has no file", id)
					}
					r, err = run.End(endRecord(id))
					fmt.Fprintf(&text, "end %d %v %q\n", r.Seq, shown(dir, err), runsFile(dir, id))
				}
				round("r1")
				round("r2")
				must(t, disturb(dir))
				round("r3")
				round("r4")
				must(t, l.Recover())
				for line, err := range recordsOf(t, dir) {
					repair := ""
					if r, e := line.Record(); e == nil && r.Repair != nil {
						repair = fmt.Sprint(r.Repair.Bytes, r.Repair.Kept, place(r.Repair.Expected), place(r.Repair.Found), place(r.Repair.Noted))
					}
					fmt.Fprintln(&text, line.Seq, line.Action, line.RunID, repair, shown(dir, err))
				}
				told[i] = text.String()
			}
			if told[0] != told[1] {
				t.Errorf("one that stays:\n%s\none that is opened each time:\n%s", told[1], told[0])
			}
		})
	}
}

func place(p *Link) string {
	if p == nil {
		return " -"
	}
	return fmt.Sprint(" ", p.Seq)
}

// shown is an error without the names that differ between two directories.
func shown(dir string, err error) string { return strings.ReplaceAll(fmt.Sprint(err), dir, "DIR") }

func recordsOf(t *testing.T, dir string) func(func(Line, error) bool) {
	t.Helper()
	r, err := OpenReader(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r.Records(Position{})
}

// runsFile is what the file of a run holds; empty: there is none.
func runsFile(dir, id string) string {
	text, _ := os.ReadFile(filepath.Join(dir, runsName, id))
	return string(text)
}

// Two Logs that stay, of two processes as far as the kernel knows, take turns.
func TestStayingInTurns(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	var logs [2]*Log
	for i := range logs {
		logs[i] = openLog(t, dir)
		logs[i].NoSync = true
		logs[i].segmentMost = 20000
		logs[i].Stay()
	}
	for n := range 60 {
		l, other := logs[n%2], logs[(n+n/7)%2]
		one, _, err := l.Begin(startRecord(fmt.Sprint("one-", n)))
		must(t, err)
		two, _, err := other.Begin(startRecord(fmt.Sprint("two-", n)))
		must(t, err)
		for _, id := range []string{"one", "two"} {
			text := runsFile(dir, fmt.Sprint(id, "-", n))
			if strings.Count(text, "\n") != 1 || !strings.Contains(text, fmt.Sprintf(`"run_id":"%s-%d"`, id, n)) {
				t.Fatalf("the file of run %s-%d is %q", id, n, text)
			}
		}
		_, err = one.End(endRecord(fmt.Sprint("one-", n)))
		must(t, err)
		_, err = two.End(endRecord(fmt.Sprint("two-", n)))
		must(t, err)
	}
	if n := len(verify(t, dir)); n != 240 {
		t.Errorf("%d records, want 240", n)
	}
}

// The spare of a process that died goes with the next Recover, that of one that lives stays.
func TestSparesOfTheDead(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	l.Stay()
	run := begin(t, l, "r1")
	_, err := run.End(endRecord("r1"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, runsName, spareMark+"dead"), []byte("x"), 0o600))
	other := openLog(t, dir)
	must(t, other.Recover())
	if left := runsOf(t, dir); !strings.HasPrefix(left, spareMark) || strings.Contains(left, "dead") {
		t.Errorf("left are %q, want one spare", left)
	}
	r, err := OpenReader(dir)
	must(t, err)
	defer r.Close()
	if list, unseen, err := r.LiveRuns(); len(list) > 0 || unseen > 0 || err != nil || r.Running() > 0 {
		t.Errorf("%v, %d unseen, %v: a spare is no run", list, unseen, err)
	}
}

// A line whose numbers were put in is the line that the record gives.
func TestNarrow(t *testing.T) {
	t.Parallel()
	l := openLog(t, logDir(t))
	names := startRecord("r\"1")
	names.Labels = map[string]string{"seq": `,"seq":18446744073709551615,"prev":"` + origin.hash + `"`, "clock_jump_ms": "1"}
	names.RequestID = `,"clock_jump_ms":-9223372036854775808`
	names.Host.Name = `","uptime_ms":5,"clock_jump_ms":-9223372036854775808`
	names.Event.Reason = `@timestamp":"`
	long := endRecord("r1")
	long.Labels = map[string]string{"a": strings.Repeat("ä", 40000)}
	for name, r := range map[string]Record{"start": startRecord("r1"), "end": endRecord("r1"), "names": names, "long": long} {
		d, wide, err := l.fitWide(r)
		must(t, err)
		for _, last := range []head{origin, {seq: 12345, hash: strings.Repeat("a", 64)}, {seq: 7, hash: strings.Repeat("b", 64), at: moment{boot: r.Host.Boot}}} {
			d.record.follow(last)
			for _, up := range []int64{0, 1, d.record.Host.UptimeMS} {
				d.record.Host.UptimeMS = up
				want, _, err := d.encode()
				must(t, err)
				if got := narrow(wide, &d.record); string(got) != string(want) {
					t.Errorf("%s\n got %s\nwant %s", name, got, want)
				}
			}
		}
	}
}
