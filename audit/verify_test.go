package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"py3run/internal/activity"
	"py3run/internal/filelock"
)

// check verifies a log by both ways and returns the one report that has to come out.
func check(t *testing.T, dir string, c Check) *Report {
	t.Helper()
	fast := verifyOnce(t, dir, c)
	c.serial = true
	slow := verifyOnce(t, dir, c)
	if !reflect.DeepEqual(fast, slow) {
		t.Errorf("by blocks\n%+v\nand line by line\n%+v", fast, slow)
	}
	return fast
}

func verifyOnce(t *testing.T, dir string, c Check) *Report {
	t.Helper()
	r, err := OpenReader(dir)
	must(t, err)
	defer r.Close()
	c.Sizes = slices.Clone(c.Sizes)
	rep, err := r.Verify(c)
	must(t, err)
	return rep
}

// summary is the findings in short: "broken chain-broken 3; warning torn-end".
func summary(rep *Report) string {
	var texts []string
	for _, f := range rep.Findings {
		text := f.Severity.String() + " " + string(f.Kind)
		if f.Seq > 0 {
			text += fmt.Sprint(" ", f.Seq)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// run writes the start and the end of a run.
func run(t *testing.T, l *Log, id string) Receipt {
	t.Helper()
	r, _, err := l.Begin(startRecord(id))
	must(t, err)
	receipt, err := r.End(endRecord(id))
	must(t, err)
	return receipt
}

// written is a log of so many runs, with segments of a few records, as its writers leave it.
func written(t *testing.T, runs int) (dir string, l *Log) {
	t.Helper()
	dir = logDir(t)
	l = openLog(t, dir)
	l.NoSync, l.segmentMost = true, 12000
	for i := range runs {
		run(t, l, fmt.Sprint("r", i))
	}
	return dir, l
}

// files are the log's segments, oldest first.
func files(t *testing.T, dir string) []string {
	t.Helper()
	closed, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	must(t, err)
	return append(closed, filepath.Join(dir, currentName))
}

func edit(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	must(t, os.WriteFile(name, change(slices.Clone(text)), 0o600))
}

// editLine changes the line of the record seq.
func editLine(t *testing.T, dir string, seq int, change func(line string) string) {
	t.Helper()
	for _, name := range files(t, dir) {
		done := false
		edit(t, name, func(text []byte) []byte {
			var out []byte
			for line := range bytes.Lines(text) {
				if bytes.Contains(line, fmt.Appendf(nil, `"seq":%d,`, seq)) {
					line, done = []byte(change(string(line))), true
				}
				out = append(out, line...)
			}
			return out
		})
		if done {
			return
		}
	}
	t.Fatalf("no record %d", seq)
}

func TestVerifyClean(t *testing.T) {
	t.Parallel()
	for _, runs := range []int{0, 1, 30} {
		dir, l := written(t, runs)
		rep := check(t, dir, Check{})
		if summary(rep) != "" || rep.Records != uint64(2*runs) {
			t.Errorf("%d runs: %d records, %s", runs, rep.Records, summary(rep))
		}
		if runs == 30 && len(rep.Segments) < 3 {
			t.Errorf("%d segments", len(rep.Segments))
		}
		live := begin(t, l, "lives")
		must(t, l.KeepCode([]byte("pass")), os.WriteFile(filepath.Join(dir, codeName, "half-written"), nil, 0o600))
		rep = check(t, dir, Check{})
		if r := openReader(t, dir); summary(rep) != "" || rep.Alive != 1 || rep.Code != 1 || r.Running() != 1 {
			t.Errorf("a run under way, code kept: %d alive, %d files of code, %s", rep.Alive, rep.Code, summary(rep))
		}
		if openReader(t, dir).Dead("lives") {
			t.Error("dead while it lives")
		}
		live.release() // as if killed
		if r := openReader(t, dir); r.Running() != 0 || !r.Dead("lives") {
			t.Errorf("%d runs under way, of which one is dead", r.Running())
		}
	}
}

// The bad cases: what is done to a log of 20 runs in several segments (or to what a writer does afterwards), and what is found.
func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	replace := func(old, new string) func(string) string {
		return func(line string) string { return strings.Replace(line, old, new, 1) }
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string, l *Log)
		want string // findings
		text string // in the first of them
	}{
		{"nothing", func(*testing.T, string, *Log) {}, "", ""},
		{"a field edited", func(t *testing.T, dir string, l *Log) { editLine(t, dir, 5, replace("alice", "mallo")) },
			"broken chain-broken 5", "record 5 is not the one that record 6 was joined to"},
		{"the newest record edited", func(t *testing.T, dir string, l *Log) { editLine(t, dir, 40, replace("alice", "mallo")) },
			"broken memory-differs 40", "record 40 is not the one that its writer noted"},
		{"the newest record of a closed segment edited", func(t *testing.T, dir string, l *Log) {
			last := check(t, dir, Check{}).Segments[0].Last.Seq
			editLine(t, dir, int(last), replace("alice", "mallo"))
		}, "broken chain-broken 12", ""},
		{"a line removed", func(t *testing.T, dir string, l *Log) { editLine(t, dir, 5, func(string) string { return "" }) },
			"broken records-missing 5; broken end-without-start 6", "record 5 is missing, before record 6"},
		{"a line put in", func(t *testing.T, dir string, l *Log) {
			editLine(t, dir, 5, func(s string) string { return s + replace("alice", "mallo")(s) })
		}, "broken record-order 5; broken second-start 5; broken chain-broken 5", "record 5 stands behind record 5"},
		{"kept code changed", func(t *testing.T, dir string, l *Log) {
			must(t, l.KeepCode([]byte("open()")), l.KeepCode([]byte("pass")))
			must(t, os.WriteFile(filepath.Join(dir, codeName, hexSHA256([]byte("open()"))), []byte("pass()"), 0o600))
		}, "broken code-differs", "is not the code that was run"},
		{"a link in the place of kept code", func(t *testing.T, dir string, l *Log) {
			must(t, l.KeepCode([]byte("open()")))
			path := filepath.Join(dir, codeName, hexSHA256([]byte("open()")))
			must(t, os.Rename(path, filepath.Join(dir, "elsewhere")), os.Symlink("../elsewhere", path))
		}, "unreadable not-readable", "too many levels of symbolic links"},
		{"a line that is no record", func(t *testing.T, dir string, l *Log) {
			editLine(t, dir, 6, func(s string) string { return s + "hello\n" })
		},
			"broken line-form", "not a record: not JSON"},
		{"a line made no record", func(t *testing.T, dir string, l *Log) { editLine(t, dir, 6, replace(`{"v"`, `("v"`)) },
			"broken line-form; warning orphaned-run 5", ""},
		{"a name twice", func(t *testing.T, dir string, l *Log) {
			editLine(t, dir, 6, replace(`"event":{`, `"event":{"outcome":"success",`))
		},
			"broken line-form; warning orphaned-run 5", `not a record: name "outcome" twice`},
		{"two lines change places", func(t *testing.T, dir string, l *Log) {
			var held string
			editLine(t, dir, 5, func(s string) string { held = s; return "" })
			editLine(t, dir, 6, func(s string) string { return s + held })
		}, "broken records-missing 5; broken end-without-start 6; broken record-order 5; broken records-missing 6; warning orphaned-run 5", ""},
		{"a byte that is not ASCII, chained", func(t *testing.T, dir string, l *Log) {
			editLine(t, dir, 40, replace("alice", "alic\u00e9"))
			os.Remove(filepath.Join(dir, lockName))
		}, "warning memory-missing; broken line-form 40", ""},
		{"the last records cut", func(t *testing.T, dir string, l *Log) {
			for seq := 31; seq <= 40; seq++ {
				editLine(t, dir, seq, func(string) string { return "" })
			}
		}, "broken memory-differs 31", "the log ends with record 30, and record 40 was written"},
		{"the last records cut, and the note", func(t *testing.T, dir string, l *Log) {
			for seq := 31; seq <= 40; seq++ {
				editLine(t, dir, seq, func(string) string { return "" })
			}
			must(t, os.Remove(filepath.Join(dir, lockName)))
		}, "warning memory-missing", ""}, // only a receipt tells
		{"the first segment removed", func(t *testing.T, dir string, l *Log) { must(t, os.Remove(files(t, dir)[0])) },
			"broken records-missing 1", "records 1 to 12 are missing, and no record tells that retention removed them"},
		{"a segment in the middle removed", func(t *testing.T, dir string, l *Log) { must(t, os.Remove(files(t, dir)[1])) },
			"broken records-missing 13", "records 13 to 24 are missing, before record 25"},
		{"a segment under another name", func(t *testing.T, dir string, l *Log) {
			must(t, os.Rename(files(t, dir)[1], filepath.Join(dir, segmentName(14))))
		}, "broken segment-name 13", "audit-000000000014.jsonl begins with record 13"},
		{"a closed segment with half a line", func(t *testing.T, dir string, l *Log) {
			edit(t, files(t, dir)[0], func(b []byte) []byte { return append(b, `{"v":1`...) })
		}, "broken segment-end", "does not end with a whole line"},
		{"an empty closed segment", func(t *testing.T, dir string, l *Log) {
			edit(t, files(t, dir)[0], func(b []byte) []byte { return nil })
		}, "broken segment-end; broken records-missing 1", ""},
		{"removed during a run", func(t *testing.T, dir string, l *Log) {
			r := begin(t, l, "during")
			must(t, os.Remove(filepath.Join(dir, currentName)))
			_, err := r.End(endRecord("during"))
			must(t, err)
		}, "broken log-repaired 42; broken end-without-start 43", "record 42: the log was removed before it: records 37 to 41 are gone"},
		{"moved away by logrotate, and back", func(t *testing.T, dir string, l *Log) {
			must(t, os.Rename(filepath.Join(dir, currentName), filepath.Join(dir, "aside")))
			run(t, l, "after")
			must(t, os.Rename(filepath.Join(dir, "aside"), filepath.Join(dir, segmentName(37))))
		}, "warning log-repaired 41", "all its records are there again"},
		{"copied and truncated by logrotate", func(t *testing.T, dir string, l *Log) {
			must(t, os.Truncate(filepath.Join(dir, currentName), 0))
			run(t, l, "after")
		}, "broken log-repaired 41", "record 41: the log was removed before it: records 37 to 40 are gone"},
		{"cut, and gone on", func(t *testing.T, dir string, l *Log) {
			for seq := 38; seq <= 40; seq++ {
				editLine(t, dir, seq, func(string) string { return "" })
			}
			run(t, l, "after")
		}, "broken log-repaired 41; warning orphaned-run 37", "record 41: the log was cut before it: records 38 to 40 are gone"},
		{"replaced by a symbolic link", func(t *testing.T, dir string, l *Log) {
			must(t, os.Rename(filepath.Join(dir, currentName), filepath.Join(dir, "aside")), os.Symlink("aside", filepath.Join(dir, currentName)))
		}, "broken segment-file; broken memory-differs 37", "symbolic link"},
		{"replaced by a pipe", func(t *testing.T, dir string, l *Log) {
			must(t, os.Remove(filepath.Join(dir, currentName)), syscall.Mkfifo(filepath.Join(dir, currentName), 0o600))
		}, "broken segment-file; broken memory-differs 37", "not a regular file"},
		{"replaced by a directory", func(t *testing.T, dir string, l *Log) {
			must(t, os.Remove(filepath.Join(dir, currentName)), os.Mkdir(filepath.Join(dir, currentName), 0o700))
		}, "broken segment-file; broken memory-differs 37", "not a regular file"},
		{"a second link", func(t *testing.T, dir string, l *Log) {
			must(t, os.Link(filepath.Join(dir, currentName), filepath.Join(dir, "other")))
		}, "warning segment-file", "has 2 links"},
		{"a directory for all to write", func(t *testing.T, dir string, l *Log) { must(t, os.Chmod(dir, 0o777)) }, "warning directory-open", "mode 0777"},
		{"a torn end", func(t *testing.T, dir string, l *Log) { tear(t, dir, `{"v":1,"@time`) }, "warning torn-end", "13 bytes behind the last record"},
		{"a torn end of NULs", func(t *testing.T, dir string, l *Log) { tear(t, dir, strings.Repeat("\x00", 5000)) }, "warning torn-end", "5000 bytes"},
		{"a torn end of NULs, longer than a block", func(t *testing.T, dir string, l *Log) { tear(t, dir, strings.Repeat("\x00", 5<<20)) },
			"warning torn-end", "5242880 bytes"},
		{"a torn end of lines", func(t *testing.T, dir string, l *Log) { tear(t, dir, "hello\n\nyou") }, "warning torn-end", "10 bytes"},
		{"half of the newest record", func(t *testing.T, dir string, l *Log) {
			edit(t, filepath.Join(dir, currentName), func(b []byte) []byte { return b[:len(b)-100] })
		}, "warning torn-end; broken memory-differs 40; warning orphaned-run 39", ""},
		{"a torn end, repaired", func(t *testing.T, dir string, l *Log) { tear(t, dir, `{"v":1`); run(t, l, "after") },
			"warning torn-end 41", "6 torn bytes were cut before it, and are kept in torn-000000000041-1.frag"},
		{"a torn end, repaired, and the fragment removed", func(t *testing.T, dir string, l *Log) {
			tear(t, dir, `{"v":1`)
			run(t, l, "after")
			must(t, os.Remove(filepath.Join(dir, "torn-000000000041-1.frag")))
		}, "broken torn-end 41", "are not kept"},
		{"a torn end, repaired, and the fragment changed", func(t *testing.T, dir string, l *Log) {
			tear(t, dir, `{"v":1`)
			run(t, l, "after")
			edit(t, filepath.Join(dir, "torn-000000000041-1.frag"), func(b []byte) []byte { return append(b[1:], 'x') })
		}, "broken torn-end 41", "holds others"},
		{"a torn end, cut and not yet recorded", func(t *testing.T, dir string, l *Log) {
			must(t, os.WriteFile(filepath.Join(dir, "torn-000000000041-1.frag"), []byte("x"), 0o600))
		}, "warning torn-end", "the next writer records it"},
		{"the note changed", func(t *testing.T, dir string, l *Log) {
			edit(t, filepath.Join(dir, lockName), func(b []byte) []byte { b[30] ^= 1; return b })
		}, "broken memory-differs 40", ""},
		{"the note removed", func(t *testing.T, dir string, l *Log) { must(t, os.Remove(filepath.Join(dir, lockName))) }, "warning memory-missing", ""},
		{"the whole log removed", func(t *testing.T, dir string, l *Log) {
			for _, name := range files(t, dir) {
				must(t, os.Remove(name))
			}
		}, "broken memory-differs 1", "the log has no record, and record 40 was written"},
		{"a run whose writer was killed", func(t *testing.T, dir string, l *Log) { begin(t, l, "dead").release() },
			"warning orphaned-run 41", "run dead has no end and is not alive: the next writer records it as orphaned"},
		{"a run whose end waits beside the log", func(t *testing.T, dir string, l *Log) {
			r := begin(t, l, "waits")
			_, err := r.file.WriteString(`{"v":1}` + "\n")
			must(t, err)
			r.release()
		}, "warning orphaned-run 41", "its end waits in runs/waits"},
		{"a run of which nothing is left", func(t *testing.T, dir string, l *Log) { mustAppend(t, l, startRecord("lost")) },
			"warning orphaned-run 41", "nothing is left of it"},
		{"a run recorded as orphaned", func(t *testing.T, dir string, l *Log) { begin(t, l, "dead").release(); must(t, l.Recover()) }, "", ""},
		{"an end without a start", func(t *testing.T, dir string, l *Log) { mustAppend(t, l, endRecord("never")) }, "broken end-without-start 41", "run never"},
		{"two ends", func(t *testing.T, dir string, l *Log) { mustAppend(t, l, endRecord("r19")) }, "broken end-without-start 41", "or a second one"},
		{"two starts", func(t *testing.T, dir string, l *Log) {
			mustAppend(t, l, startRecord("twice"))
			mustAppend(t, l, startRecord("twice"))
			mustAppend(t, l, endRecord("twice"))
		}, "broken second-start 42", "run twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, l := written(t, 20)
			c.do(t, dir, l)
			rep := check(t, dir, Check{Tree: true})
			if got := summary(rep); got != c.want {
				t.Fatalf("found %q, want %q\n%+v", got, c.want, rep.Findings)
			}
			if c.text != "" && !strings.Contains(rep.Findings[0].Message, c.text) {
				t.Errorf("says %q, want %q", rep.Findings[0].Message, c.text)
			}
		})
	}
}

// forge writes a log that is right in itself, of records as they are given, with their own times.
func forge(t testing.TB, dir string, records []Record) {
	t.Helper()
	must2(t, os.MkdirAll(dir, 0o700))
	var text []byte
	last := origin
	for _, r := range records {
		at, boot := r.Timestamp, r.Host
		r.follow(last)
		r.Timestamp, r.Host.UptimeMS, r.Host.ClockJumpMS = at, boot.UptimeMS, boot.ClockJumpMS
		line, _, err := draft{record: r, maxString: maxString}.encode()
		must2(t, err)
		last = head{seq: r.Seq, hash: hexSHA256(line)}
		text = append(append(text, line...), '\n')
	}
	must2(t, os.WriteFile(filepath.Join(dir, currentName), text, 0o600),
		os.WriteFile(filepath.Join(dir, lockName), fmt.Appendf(nil, "%020d %s\n", last.seq, last.hash), 0o600))
}

func must2(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestVerifyClock(t *testing.T) {
	t.Parallel()
	at := func(text string, jump int64) Record {
		r := startRecord("x")
		r.Event.Action = "alert"
		r.Timestamp, r.Host.ClockJumpMS = text, jump
		return r
	}
	dir := logDir(t)
	forge(t, dir, []Record{
		at("2026-11-23T20:15:02.114327Z", 0), at("2026-11-23T20:14:59.114327Z", 0), // corrected by three seconds
		at("2026-11-23T19:15:00.000000Z", -3_600_000), at("2099-01-01T00:00:00.000000Z", 2_000_000_000_000), at("2026-11-23T19:15:01.000000Z", 0), at("never", 0),
	})
	rep := check(t, dir, Check{})
	want := "note clock-jump 3; warning clock-back 3; note clock-jump 4; warning clock-back 5; broken line-form 6"
	if got := summary(rep); got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	if text := rep.Findings[1].Message; !strings.Contains(text, "59m59") {
		t.Errorf("says %q", text)
	}
}

// Lines of a later version, with keys nobody here knows, are records like all others; a line over the limit is told, and read.
func TestVerifyForms(t *testing.T) {
	t.Parallel()
	long := startRecord("long")
	long.Event.Action = "alert"
	for range 300 {
		long.Variables.List = append(long.Variables.List, Variable{Name: strings.Repeat("n", 50), Type: "int"})
	}
	short := startRecord("short")
	short.Event.Action = "alert"
	for _, r := range []*Record{&long, &short} {
		r.Timestamp = "2026-11-23T20:15:02.114327Z"
	}
	dir := logDir(t)
	forge(t, dir, []Record{short, long, short})
	rep := check(t, dir, Check{})
	if got, want := summary(rep), "broken line-form 2"; got != want || !strings.Contains(rep.Findings[0].Message, "at most 16384") {
		t.Errorf("found %q, want %q: %v", got, want, rep.Findings)
	}

	dir = logDir(t)
	must(t, os.Mkdir(dir, 0o700))
	first := `{"v":2,"@timestamp":"2030-01-01T00:00:00Z","event":{"action":"moon-landed","outcome":"success","moon":{"a":[1]}},"seq":1,"prev":"` + origin.hash + `","new":null}`
	second := `{ "new": [1.5e3], "prev": "` + hexSHA256([]byte(first)) + `", "v": 3, "seq": 2, "@timestamp": "2030-01-01T00:00:00.5Z", "event": {"outcome": "x", "action": "execution-end"}}`
	must(t, os.WriteFile(filepath.Join(dir, currentName), []byte(first+"\n"+second+"\n"), 0o600))
	rep = check(t, dir, Check{})
	if got, want := summary(rep), "warning memory-missing; broken end-without-start 2"; got != want {
		t.Errorf("found %q, want %q: %v", got, want, rep.Findings)
	}
	third := `{"v":1,"@timestamp":"2030-01-01T00:00:00.500000Z","event":{"action":"execution-end","outcome":"x"},"seq":1,"prev":"` + origin.hash + `","run_id":"a"}`
	must(t, os.WriteFile(filepath.Join(dir, currentName), []byte(third+"\n"), 0o600))
	rep = check(t, dir, Check{})
	if want := "lacks host, user, auth, client, script, code, variables, status, process, isolation, hooks, event.duration_ns"; !strings.Contains(rep.Findings[1].Message, want) {
		t.Errorf("found %v, want %q", rep.Findings, want)
	}
}

// Nothing that is done to a log stays unseen: one byte changed, one line removed, doubled or moved.
func TestVerifyFindsEverything(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 12)
	originals := map[string][]byte{}
	for _, name := range append(files(t, dir), filepath.Join(dir, lockName)) {
		text, err := os.ReadFile(name)
		must(t, err)
		originals[name] = text
	}
	names := files(t, dir)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for i := range 400 {
		name := names[random.IntN(len(names))]
		text := slices.Clone(originals[name])
		lines := bytes.SplitAfter(text, []byte("\n"))
		lines = lines[:len(lines)-1]
		what := ""
		switch i % 8 {
		case 0:
			n := random.IntN(len(lines))
			what = fmt.Sprint("line removed: ", n)
			text = bytes.Join(slices.Delete(lines, n, n+1), nil)
		case 1:
			n := random.IntN(len(lines))
			what = fmt.Sprint("line doubled: ", n)
			text = bytes.Join(slices.Insert(lines, n, lines[n]), nil)
		case 2:
			a, b := random.IntN(len(lines)), random.IntN(len(lines))
			if a == b {
				continue
			}
			what = fmt.Sprint("lines exchanged: ", a, " ", b)
			lines[a], lines[b] = lines[b], lines[a]
			text = bytes.Join(lines, nil)
		case 3:
			n := random.IntN(len(text))
			what = fmt.Sprint("byte removed: ", n)
			text = slices.Delete(text, n, n+1)
		case 4:
			n := random.IntN(len(text) + 1)
			what = fmt.Sprint("byte put in: ", n)
			text = slices.Insert(text, n, byte(random.IntN(256)))
		default:
			n, c := random.IntN(len(text)), byte(random.IntN(256))
			if text[n] == c {
				continue
			}
			what = fmt.Sprintf("byte %d changed from %q to %q", n, text[n], c)
			text[n] = c
		}
		must(t, os.WriteFile(name, text, 0o600))
		rep := check(t, dir, Check{})
		if rep.Worst() < Warning || rep.Worst() == Warning && filepath.Base(name) != currentName {
			t.Fatalf("%s: %s: found %q", filepath.Base(name), what, summary(rep))
		}
		must(t, os.WriteFile(name, originals[name], 0o600))
	}
	if rep := check(t, dir, Check{}); summary(rep) != "" {
		t.Fatalf("the log is not as it was: %s", summary(rep))
	}
}

// Receipts show what the chain alone does not: a log that was rolled back, or made anew.
func TestVerifyWitnesses(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 20)
	receipt := run(t, l, "kept")
	witness := Witness{Source: "receipts.csv:2", RunID: "kept", Seq: receipt.Seq, Hash: receipt.Hash}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string, w *Witness)
		want string
	}{
		{"as it was", func(*testing.T, string, *Witness) {}, ""},
		{"of another run", func(t *testing.T, dir string, w *Witness) { w.RunID = "other" }, "broken witness-differs 42"},
		{"without a run", func(t *testing.T, dir string, w *Witness) { w.RunID = "" }, ""},
		{"rolled back, and the note as well", func(t *testing.T, dir string, w *Witness) {
			for seq := 33; seq <= 42; seq++ {
				editLine(t, dir, seq, func(string) string { return "" })
			}
			must(t, os.Remove(filepath.Join(dir, lockName)))
		}, "warning memory-missing; broken witness-differs 42"},
		{"made anew, with hashes of its own", func(t *testing.T, dir string, w *Witness) {
			var records []Record
			r, err := OpenReader(dir)
			must(t, err)
			for line, err := range r.Records(Position{}) {
				must(t, err)
				rec, err := line.Record()
				must(t, err)
				rec.User.Name = "nobody"
				records = append(records, rec)
			}
			for _, name := range files(t, dir) {
				must(t, os.Remove(name))
			}
			forge(t, dir, records)
		}, "broken witness-differs 42"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			own, w := logDir(t), witness
			must(t, os.CopyFS(own, os.DirFS(dir)), os.Chmod(own, 0o700))
			for _, name := range files(t, own) {
				must(t, os.Chmod(name, 0o600))
			}
			c.do(t, own, &w)
			rep := check(t, own, Check{Witnesses: []Witness{w}})
			if got := summary(rep); got != c.want {
				t.Errorf("found %q, want %q: %v", got, c.want, rep.Findings)
			}
			if rep.Witnesses != 1 {
				t.Errorf("%d witnesses were compared", rep.Witnesses)
			}
		})
	}
}

// Writers go on, close segments and die while the log is verified and read.
func TestVerifyWhileWritten(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	c := childCommand(t, "run-gently", dir)
	must(t, c.Start())
	defer func() {
		c.Process.Kill()
		c.Wait()
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, currentName)); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the writer writes nothing")
		}
	}
	var at Position
	var seq uint64
	for i := range 25 {
		rep := verifyOnce(t, dir, Check{Tree: i%2 == 0})
		if got := summary(rep); got != "" {
			t.Fatalf("found %q: %v", got, rep.Findings)
		}
		r, err := OpenReader(dir)
		must(t, err)
		for line, err := range r.Records(at) {
			must(t, err)
			if line.Seq != seq+1 {
				t.Fatalf("record %d after %d", line.Seq, seq)
			}
			seq, at = line.Seq, line.Position()
		}
		var newest uint64
		for line, err := range r.Backward() {
			must(t, err)
			if newest > 0 && line.Seq != newest-1 {
				t.Fatalf("record %d before %d", line.Seq, newest)
			}
			newest = line.Seq
		}
		if newest != 1 {
			t.Fatalf("backward ends with record %d", newest)
		}
		must(t, r.Close())
		time.Sleep(30 * time.Millisecond) // for the writer
	}
	if len(files(t, dir)) < 3 {
		t.Errorf("only %d segments", len(files(t, dir)))
	}
}

// The log of a user who may not even read it is unreadable, not broken; that of one who may is verified without writing.
func TestVerifyUnreadable(t *testing.T) {
	t.Parallel()
	if _, err := OpenReader(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there was opened")
	}
	dir, _ := written(t, 20)
	before := listing(t, dir)
	check(t, dir, Check{})
	if after := listing(t, dir); after != before {
		t.Errorf("verifying changed the directory from\n%s\nto\n%s", before, after)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		info, e := d.Info()
		if err == nil {
			err = e
		}
		fmt.Fprintln(&b, path, info.Size(), info.ModTime(), info.Mode())
		return err
	}))
	return b.String()
}

// A run that ends after the log was looked at has not died.
func TestVerifyRunEndsMeanwhile(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 2)
	live := begin(t, l, "ends")
	r, err := OpenReader(dir)
	must(t, err)
	defer r.Close()
	rep, err := r.Verify(Check{Progress: func(Progress) error {
		if live != nil {
			_, err := live.End(endRecord("ends"))
			must(t, err)
			live = nil
		}
		return nil
	}})
	must(t, err)
	if summary(rep) != "" || rep.Records != 5 {
		t.Errorf("%d records, found %q", rep.Records, summary(rep))
	}
}

// An error of Progress ends the reading, and is the answer.
func TestVerifyStops(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 20)
	r, err := OpenReader(dir)
	must(t, err)
	defer r.Close()
	enough := errors.New("enough")
	calls, last := 0, Progress{}
	_, err = r.Verify(Check{Progress: func(p Progress) error {
		calls, last = calls+1, p
		return enough
	}})
	if !errors.Is(err, enough) || calls != 1 || last.Records == 0 || last.Bytes == 0 || last.Bytes > last.Total {
		t.Errorf("%d calls, %+v, %v", calls, last, err)
	}
	rep, err := r.Verify(Check{Progress: func(p Progress) error { last = p; return nil }})
	must(t, err)
	if last != (Progress{rep.Records, rep.Bytes, rep.Bytes}) {
		t.Errorf("%+v at the end, of %d records", last, rep.Records)
	}
}

func TestVerifyWriterStopped(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 2)
	lock, err := l.lock()
	must(t, err)
	tear(t, dir, `{"v":1`)
	rep := verifyOnce(t, dir, Check{})
	if got, want := summary(rep), "note log-held; warning torn-end"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	filelock.Release(lock)
}

func TestScan(t *testing.T) {
	t.Parallel()
	line := func(r Record) string {
		r.follow(origin)
		text, _, err := draft{record: r, maxString: maxString}.encode()
		must(t, err)
		return string(text)
	}
	full := endRecord("r1")
	full.User.Name = "a\x1b\"\\\u202e\n\u2028é\x7f😀"
	full.Repair = &Repair{Bytes: 1, Expected: &Link{1, "x"}}
	full.Truncated = true
	for _, text := range []string{line(startRecord("r1")), line(full)} {
		fast, ok := scan([]byte(text))
		slow, err := decode([]byte(text))
		must(t, err)
		if !ok || !reflect.DeepEqual(fast, slow) {
			t.Errorf("scan %+v %v, decode %+v\n%s", fast, ok, slow, text)
		}
		// Whatever scan takes is JSON, printable, and says the same to encoding/json.
		random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
		taken := 0
		for range 5000 {
			changed := []byte(text)
			for range 1 + random.IntN(2) {
				i := random.IntN(len(changed))
				switch random.IntN(3) {
				case 0:
					changed[i] = byte(random.IntN(256))
				case 1:
					changed[i] = `"\{}[],:0-.eEtfnu`[random.IntN(17)]
				default:
					changed = slices.Delete(changed, i, i+1)
				}
			}
			f, ok := scan(changed)
			if !ok {
				continue
			}
			taken++
			if !json.Valid(changed) || bytes.ContainsFunc(changed, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("scan takes %q", changed)
			}
			if slow, err := decode(changed); err == nil && !reflect.DeepEqual(f, slow) {
				t.Fatalf("scan %+v, decode %+v\n%s", f, slow, changed)
			}
		}
		if taken < 250 {
			t.Errorf("only %d of the lines were taken", taken)
		}
	}
	for _, text := range []string{
		``, `{`, `}`, `{}`, `[]`, `{"v":1`, `{"v":1}x`, `{"v":1,}`, `{"v":01}`, `{"v":1.5}`, `{"v":-}`, `{"seq":1,"v":1}`, `{"v":1,"v":1}`, `{"V":1}`, `{"v":1,"new":1}`,
		`{"v":1,"prev":"\u0041"}`, `{"v":1,"prev":"\x"}`, `{"v":1,"limits":{"a":1,}}`, `{"v":1,"limits":{"a"}}`, `{"v":1,"limits":[}}`, `{ "v":1}`,
		`{"v":1,"limits":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, `,"v":1}`, `{"v":1,"truncated":true,"truncated":true}`,
	} {
		if f, ok := scan([]byte(text)); ok && f.isRecord() {
			t.Errorf("scan takes %s", text)
		}
	}
	for _, text := range []string{"2026-11-23T20:15:02.114327Z", "2026-11-29T20:15:02.114327Z", "2024-02-29T00:00:00.000000Z", "2025-02-29T00:00:00.000000Z",
		"2026-11-23T20:15:02Z", "2026-11-23T20:15:02.1+01:00", "2026-13-23T20:15:02.114327Z", "2026-11-23T24:15:02.114327Z", "yesterday", "2026-11-23x20:15:02.114327Z"} {
		want, err := time.Parse(time.RFC3339Nano, text)
		if got := readTime([]byte(text)); !got.Equal(want) || err != nil && !got.IsZero() {
			t.Errorf("%s: read as %v, want %v", text, got, want)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, bench := range []struct {
		name string
		c    Check
	}{{"chain", Check{}}, {"tree", Check{Tree: true}}, {"serial", Check{serial: true}}} {
		b.Run(bench.name, func(b *testing.B) {
			dir, records, size := bigLog(b)
			r, err := OpenReader(dir)
			must2(b, err)
			defer r.Close()
			b.SetBytes(size)
			n := 0
			start := time.Now()
			for b.Loop() {
				rep, err := r.Verify(bench.c)
				must2(b, err)
				if summary(rep) != "" || rep.Records != uint64(records) {
					b.Fatalf("%d records, found %s", rep.Records, summary(rep))
				}
				n += records
			}
			b.ReportMetric(float64(n)/time.Since(start).Seconds(), "records/s")
		})
	}
}

// bigLog is a log of a hundred thousand records of some 700 bytes, in segments as they are.
func bigLog(b *testing.B) (dir string, records int, size int64) {
	dir = filepath.Join(b.TempDir(), "audit")
	must2(b, os.Mkdir(dir, 0o700))
	const pairs = 50_000
	exit := 0
	start, end := startRecord("00000000-0000-7000-8000-000000000000"), startRecord("00000000-0000-7000-8000-000000000000")
	end.Event = Event{Action: ExecutionEnd, Outcome: Success, DurationNS: 1272375000}
	end.Status = "ok"
	end.Process = &Process{ExitCode: &exit, CPUMS: 40, PeakMemoryBytes: 41 << 20, StdoutBytes: new(int64(512)), StderrBytes: new(int64(0))}
	end.Isolation = &Isolation{Method: "namespace", Enforced: []string{"pids", "mounts", "ipc"}, Missing: []Gap{}}
	end.Hooks = &activity.Summary{Imports: new(14)}
	var templates [2][]byte
	for i, r := range []Record{start, end} {
		r.follow(head{seq: 77777776, hash: strings.Repeat("p", 64)})
		line, _, err := draft{record: r, maxString: maxString}.encode()
		must2(b, err)
		templates[i] = line
	}
	last := origin
	var text []byte
	first := uint64(1)
	write := func(name string) {
		must2(b, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		size += int64(len(text))
		text = text[:0]
	}
	for i := range 2 * pairs {
		line := slices.Clone(templates[i%2])
		line = bytes.Replace(line, []byte("77777777"), fmt.Appendf(nil, "%d", last.seq+1), 1)
		line = bytes.Replace(line, []byte(strings.Repeat("p", 64)), []byte(last.hash), 1)
		line = bytes.Replace(line, []byte("-000000000000"), fmt.Appendf(nil, "-%012x", i/2), 1)
		last = head{seq: last.seq + 1, hash: hexSHA256(line)}
		if text = append(append(text, line...), '\n'); len(text) > segmentMost {
			write(segmentName(first))
			first = last.seq + 1
		}
	}
	write(currentName)
	must2(b, os.WriteFile(filepath.Join(dir, lockName), fmt.Appendf(nil, "%020d %s\n", last.seq, last.hash), 0o600))
	return dir, 2 * pairs, size
}
