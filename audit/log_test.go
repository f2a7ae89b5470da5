package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/filelock"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	before := time.Now().Add(-time.Microsecond)
	var lines []byte
	for i := range 5 {
		r := startRecord("r")
		r.Seq, r.Prev, r.V = 99, "not mine to say", 7
		receipt := mustAppend(t, l, r)
		if want := uint64(i + 1); receipt.Seq != want {
			t.Errorf("seq %d, want %d", receipt.Seq, want)
		}
		if want := hexSHA256(receipt.Line); receipt.Hash != want {
			t.Errorf("hash %s, want %s", receipt.Hash, want)
		}
		lines = append(append(lines, receipt.Line...), '\n')

		var got Record
		if err := json.Unmarshal(receipt.Line, &got); err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse("2006-01-02T15:04:05.000000Z", got.Timestamp)
		if err != nil || at.Before(before) || at.After(time.Now()) {
			t.Errorf("timestamp %s (%v), want now", got.Timestamp, err)
		}
		if got.V != 1 {
			t.Errorf("v %d, want 1", got.V)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, currentName))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, lines) {
		t.Errorf("log\n%s\nwant the lines of the receipts\n%s", text, lines)
	}
	verify(t, dir)
}

func TestAppendTruncated(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	for _, size := range []int{1, 100, 15_000, 15_500, 16_000, 16_384, 20_000, 1 << 20} {
		r := startRecord("r")
		r.Variables.List = nil
		for range size / 1000 {
			r.Variables.List = append(r.Variables.List, Variable{Name: strings.Repeat("x", 980)})
		}
		r.Command = strings.Repeat("y", size%1000)
		mustAppend(t, l, r)
	}
	verify(t, dir) // checks the length of each line
}

func TestFileModes(t *testing.T) {
	t.Parallel()
	parent := filepath.Join(t.TempDir(), "state")
	dir := filepath.Join(parent, "audit")
	l := openLog(t, dir)
	mustAppend(t, l, startRecord("r"))
	for _, c := range []struct {
		path string
		want fs.FileMode // at most; the umask may take more away
	}{
		{parent, 0o755 | fs.ModeDir},
		{dir, 0o700 | fs.ModeDir},
		{filepath.Join(dir, currentName), 0o600},
		{filepath.Join(dir, lockName), 0o600},
	} {
		st, err := os.Stat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode()&^c.want != 0 {
			t.Errorf("%s has mode %v, want %v", c.path, st.Mode(), c.want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string) string // returns what to open
		want string
	}{
		{"no name", func(t *testing.T, dir string) string { return "" }, `open audit directory "": no such file or directory`},
		{"symbolic link", func(t *testing.T, dir string) string {
			link := filepath.Join(dir, "link")
			must(t, os.Mkdir(filepath.Join(dir, "real"), 0o700), os.Symlink("real", link))
			return link
		}, "link: symbolic link or not a directory"},
		{"symbolic link with a slash", func(t *testing.T, dir string) string {
			link := filepath.Join(dir, "link")
			must(t, os.Mkdir(filepath.Join(dir, "real"), 0o700), os.Symlink("real", link))
			return link + "/"
		}, "link: symbolic link or not a directory"},
		{"dangling symbolic link", func(t *testing.T, dir string) string {
			link := filepath.Join(dir, "link")
			must(t, os.Symlink("nowhere", link))
			return link
		}, "link: symbolic link or not a directory"},
		{"file", func(t *testing.T, dir string) string {
			file := filepath.Join(dir, "file")
			must(t, os.WriteFile(file, nil, 0o600))
			return file
		}, "file: symbolic link or not a directory"},
		{"below a file", func(t *testing.T, dir string) string {
			file := filepath.Join(dir, "file")
			must(t, os.WriteFile(file, nil, 0o600))
			return filepath.Join(file, "audit")
		}, "not a directory"},
		{"cannot be made", func(t *testing.T, dir string) string { return "/proc/py3run/audit" }, "make audit directory /proc/py3run/audit: mkdir /proc/py3run: "},
		{"world-writable", func(t *testing.T, dir string) string {
			must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
			return dir
		}, "can be written by others (mode 1777)"},
		{"group-writable", func(t *testing.T, dir string) string {
			must(t, os.Chmod(dir, 0o770))
			return dir
		}, "can be written by others (mode 0770)"},
		{"somebody else's", func(t *testing.T, dir string) string {
			if os.Geteuid() != 0 {
				return "/"
			}
			must(t, os.Chown(dir, 12345, 12345))
			return dir
		}, "not to the writer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, err := Open(c.make(t, t.TempDir()))
			if err == nil {
				l.Close()
			}
			if step := new(StepError); !errors.As(err, &step) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(t *testing.T, current string)
		want string
	}{
		{"symbolic link", func(t *testing.T, current string) {
			must(t, os.WriteFile(current+".real", nil, 0o600), os.Symlink(current+".real", current))
		}, "open DIR/audit.jsonl: symbolic link"},
		{"dangling symbolic link", func(t *testing.T, current string) {
			must(t, os.Symlink(current+".real", current))
		}, "open DIR/audit.jsonl: symbolic link"},
		{"hard link", func(t *testing.T, current string) {
			must(t, os.WriteFile(current+".other", nil, 0o600), os.Link(current+".other", current))
		}, "open DIR/audit.jsonl: has 2 links, not one"},
		{"directory", func(t *testing.T, current string) {
			must(t, os.Mkdir(current, 0o700))
		}, "open DIR/audit.jsonl: is a directory"},
		{"pipe", func(t *testing.T, current string) {
			must(t, unix.Mkfifo(current, 0o600))
		}, "open DIR/audit.jsonl: not a regular file"},
		{"writable for all", func(t *testing.T, current string) {
			must(t, os.WriteFile(current, nil, 0o600), os.Chmod(current, 0o666))
		}, "open DIR/audit.jsonl: can be written by others (mode 0666)"},
		{"lock is a symbolic link", func(t *testing.T, current string) {
			must(t, os.Symlink(current, filepath.Join(filepath.Dir(current), lockName)))
		}, "lock DIR/.lock: "},
		{"closed segment is damaged", func(t *testing.T, current string) {
			must(t, os.WriteFile(filepath.Join(filepath.Dir(current), "audit-000000000001.jsonl"), []byte("{\"v\":1,\"seq\":1}\nhalf"), 0o600))
		}, "continue from DIR/audit-000000000001.jsonl: does not end with a record"},
		{"closed segment is a symbolic link", func(t *testing.T, current string) {
			must(t, os.Symlink("elsewhere", filepath.Join(filepath.Dir(current), "audit-000000000001.jsonl")))
		}, "open DIR/audit-000000000001.jsonl: symbolic link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			l := openLog(t, dir)
			c.make(t, filepath.Join(dir, currentName))
			_, err := l.Append(startRecord("r"))
			want := strings.ReplaceAll(c.want, "DIR", dir)
			if step := new(StepError); !errors.As(err, &step) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	if fs := openLog(t, logDir(t)).Network(); fs != "" && !slices.Contains(slices.Collect(maps.Values(networks)), fs) {
		t.Errorf("on %s", fs)
	}
	for magic, want := range map[int64]string{0x6969: "NFS", 0xff534d42: "SMB", 0xfe534d42: "SMB", 0x01021997: "9P", 0xef53: "", 0x01021994: ""} { // linux/magic.h
		if got := networks[magic]; got != want {
			t.Errorf("%#x: %s, want %s", magic, got, want)
		}
	}
}

func TestStepError(t *testing.T) {
	t.Parallel()
	_, err := os.Open("/nowhere/audit/code/x")
	for want, e := range map[string]*StepError{
		"write /nowhere/audit/code/x: no such file or directory":                      {"write", "/nowhere/audit/code/x", err},
		"write /nowhere/audit: open /nowhere/audit/code/x: no such file or directory": {"write", "/nowhere/audit", err},
	} {
		if e.Error() != want || !errors.Is(e, os.ErrNotExist) {
			t.Errorf("%v, want %s", e, want)
		}
	}
}

func TestAppendAfterClose(t *testing.T) {
	t.Parallel()
	l, err := Open(logDir(t))
	if err != nil {
		t.Fatal(err)
	}
	must(t, l.Close())
	if _, err := l.Append(startRecord("r")); !errors.Is(err, unix.EBADF) {
		t.Errorf("error %v, want EBADF", err)
	}
}

// The file is exchanged at the worst moment, between being opened and written.
func TestAppendNoticesExchange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(t *testing.T, current string)
		want string
	}{
		{"left alone", func(t *testing.T, current string) {}, ""},
		{"removed", func(t *testing.T, current string) { must(t, os.Remove(current)) }, "removed while it was written"},
		{"replaced", func(t *testing.T, current string) {
			must(t, os.WriteFile(current+".new", nil, 0o600), os.Rename(current+".new", current))
		}, "replaced while it was written"},
		{"moved", func(t *testing.T, current string) { must(t, os.Rename(current, current+".1")) }, "removed while it was written"},
		{"directory moved", func(t *testing.T, current string) {
			must(t, os.Rename(filepath.Dir(current), filepath.Dir(current)+".old"))
		}, "removed while it was written"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			l := openLog(t, dir)
			mustAppend(t, l, startRecord("before"))
			fd, err := l.openCurrent()
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			c.do(t, filepath.Join(dir, currentName))
			lock, err := l.lock()
			must(t, err)
			defer filelock.Release(lock)
			w := entry{Log: l, lock: lock, segment: fd}
			_, err = w.put(draft{startRecord("during"), maxString}, &entering{})
			if c.want == "" {
				must(t, err)
				return
			}
			if step := new(StepError); !errors.As(err, &step) || step.Step != "look at" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestAppendFromGoroutines(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := openLog(t, dir)
	l.NoSync = true
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for j := range 25 {
				if _, err := l.Append(startRecord(fmt.Sprintf("%d-%d", i, j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if got := len(verify(t, dir)); got != 200 {
		t.Errorf("%d records, want 200", got)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name   string
		noSync bool
	}{{"no-sync", true}, {"sync", false}} {
		b.Run(c.name, func(b *testing.B) {
			l, err := Open(filepath.Join(b.TempDir(), "audit"))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			l.NoSync = c.noSync
			r := endRecord("01JDD7M3TZ8N5R6Y7P0A4F2G9E")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Append(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
