package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// anotherGroup is one that this user may give files to, and does not by itself.
func anotherGroup(t *testing.T) int {
	t.Helper()
	if os.Geteuid() == 0 {
		return 54321
	}
	groups, _ := os.Getgroups()
	for _, g := range groups {
		if g != os.Getegid() {
			return g
		}
	}
	return os.Getegid()
}

// modes are the modes and groups of all that lies in a log's directory.
func modes(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err == nil {
			rel, _ := filepath.Rel(dir, path)
			found[rel] = fmt.Sprintf("%04o %d", info.Mode().Perm(), info.Sys().(*syscall.Stat_t).Gid)
		}
		return err
	}))
	return found
}

func TestShareWith(t *testing.T) {
	t.Parallel()
	for _, there := range []bool{false, true} {
		t.Run(fmt.Sprintf("log is there: %t", there), func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			code := []byte("pass")
			if there {
				l := openLog(t, dir)
				l.segmentMost = 1
				begin(t, l, "r1").End(endRecord("r1"))
				must(t, os.WriteFile(filepath.Join(dir, currentName), append([]byte(strings.Join(linesOf(t, dir), "")), "half"...), 0o600))
				begin(t, l, "r2").End(endRecord("r2"))
				must(t, l.KeepCode(code), os.WriteFile(filepath.Join(dir, "cursor-x.json"), nil, 0o600))
				_, err := l.Key()
				must(t, err)
			}
			l := openLog(t, dir)
			group := anotherGroup(t)
			must(t, l.ShareWith(group))
			l.segmentMost = 1
			begin(t, l, "r3").End(endRecord("r3"))
			run := begin(t, l, "r4")
			must(t, l.KeepCode(code), l.KeepCode([]byte("fail")))
			_, err := l.Key()
			must(t, err)
			got := modes(t, dir)
			file, sub := fmt.Sprintf("0640 %d", group), fmt.Sprintf("0750 %d", group)
			private := fmt.Sprintf("0600 %d", os.Getegid())
			want := map[string]string{".": sub, currentName: file, lockName: file, segmentName(1): file, runsName: sub, filepath.Join(runsName, "r4"): file,
				codeName: sub, filepath.Join(codeName, hexSHA256(code)): file, filepath.Join(codeName, hexSHA256([]byte("fail"))): file, keyName: private}
			for name := range got {
				if isSegment(name) || isFragment(name) {
					want[name] = file
				}
				if strings.HasPrefix(name, "cursor-") { // of somebody who reads, not of the log
					want[name] = private
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			must(t, l.ShareWith(group))
			_, err = run.End(endRecord("r4"))
			must(t, err)
			current := strings.Join(linesOf(t, dir), "")
			must(t, os.WriteFile(filepath.Join(dir, currentName), []byte(current+"torn"), 0))
			next := mustAppend(t, openLog(t, dir), startRecord("by somebody who shares nothing"))
			for _, name := range []string{currentName, fragmentName(next.Seq-1, 1)} {
				if got := modes(t, dir)[name]; got != file {
					t.Errorf("later %s is %s, want %s", name, got, file)
				}
			}
			verify(t, dir)
		})
	}
}

// Segments of a time without a group are shared when there is one again.
func TestShareAgain(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	group := anotherGroup(t)
	for i, shared := range []bool{true, false, true} {
		l := openLog(t, dir)
		l.segmentMost = 1
		if shared {
			must(t, l.ShareWith(group))
		}
		begin(t, l, fmt.Sprint("a", i)).End(endRecord(fmt.Sprint("a", i)))
		begin(t, l, fmt.Sprint("b", i)).End(endRecord(fmt.Sprint("b", i)))
	}
	for name, mode := range modes(t, dir) {
		if isSegment(name) && mode != fmt.Sprintf("0640 %d", group) {
			t.Errorf("%s is %s", name, mode)
		}
	}
}

// Files of others in the directory, and links, are nobody's to give away.
func TestShareLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of another user")
	}
	dir, elsewhere := logDir(t), filepath.Join(t.TempDir(), "x")
	l := openLog(t, dir)
	foreign := filepath.Join(dir, segmentName(1))
	must(t, os.WriteFile(elsewhere, nil, 0o600), os.Symlink(elsewhere, filepath.Join(dir, fragmentName(1, 1))), os.Link(elsewhere, filepath.Join(dir, fragmentName(2, 1))),
		os.WriteFile(foreign, nil, 0o600), os.Chown(foreign, 12345, 12345), unix.Mkfifo(filepath.Join(dir, fragmentName(3, 1)), 0o600), l.ShareWith(54321))
	got := modes(t, dir)
	if got[segmentName(1)] != "0600 12345" || got[fragmentName(2, 1)] != "0600 0" || got[fragmentName(3, 1)] != "0600 0" {
		t.Errorf("%v", got)
	}
}

// What cannot be given away is an error that names it.
func TestShareRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can lose its rights for a moment")
	}
	dir := logDir(t)
	l := openLog(t, dir)
	mustAppend(t, l, startRecord("r"))
	done := make(chan error)
	go func() { // the thread ends with it
		runtime.LockOSThread()
		unix.Setfsuid(65534)
		done <- l.ShareWith(54321)
	}()
	err := <-done
	if step := new(StepError); !errors.As(err, &step) || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		t.Errorf("error %v", err)
	}
	if got := modes(t, dir)["."]; got != "0700 0" {
		t.Errorf("the directory is %s", got)
	}
}

// A pipe in the place of a file of the log holds nobody up.
func TestPipesInTheLog(t *testing.T) {
	t.Parallel()
	for _, name := range []string{lockName, currentName, keyName, segmentName(1), fragmentName(1, 1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := logDir(t)
			l := openLog(t, dir)
			must(t, unix.Mkfifo(filepath.Join(dir, name), 0o600))
			_, err := l.Append(startRecord("r"))
			if name == keyName {
				_, err = l.Key()
			}
			if err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("error %v", err)
			}
		})
	}
}
