package scripts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/access"
)

var at = time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)

// fixture is a store in a directory that does not exist yet.
func fixture(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "state", "scripts"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func by(user string) Edit { return Edit{By: user, At: at} }

func (e Edit) ifVersion(n int) Edit {
	e.IfVersion = &n
	return e
}

func save(t testing.TB, s *Store, name, code string, e Edit) Change {
	t.Helper()
	c, err := s.Save(name, Draft{Code: []byte(code)}, e)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSaveAndResolve(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	if _, err := s.Resolve("tank"); err == nil || err.Error() != `script "tank": not found` {
		t.Errorf("in no directory: %v", err)
	}
	first := save(t, s, "tank", "print(1)\n", by("alice"))
	second := save(t, s, "tank", "print(2)\n", by("bob"))
	again := save(t, s, "tank", "print(2)\n", by("carol"))
	if first.New.Number != 1 || first.Old.Number != 0 || second.Old.SHA256 != first.New.SHA256 || second.New.Number != 2 {
		t.Errorf("changes: %+v %+v", first, second)
	}
	if len(again.Changes) != 0 || again.New.Number != 2 || again.New.Author != "bob" {
		t.Errorf("the same bytes made a version: %+v", again)
	}
	for _, c := range []struct {
		ref, code string
		version   int
	}{{"tank", "print(2)\n", 2}, {"tank@1", "print(1)\n", 1}, {"tank@2", "print(2)\n", 2}} {
		got, err := s.Resolve(c.ref)
		if err != nil || string(got.Code) != c.code || got.Version.Number != c.version || got.Meta.Author != "alice" || !got.Version.At.Equal(at) {
			t.Errorf("%s: %+v, %v", c.ref, got, err)
		}
	}
	var none *NotFoundError
	if got, err := s.Resolve("tank@3"); !errors.As(err, &none) || none.Of == nil || got.Meta.Name != "tank" || err.Error() != `script "tank@3": not found` {
		t.Errorf("tank@3: %+v, %v", got, err)
	}
	if _, err := s.Resolve("tan"); !errors.As(err, &none) || none.Of != nil {
		t.Errorf("tan: %v", err)
	}
}

func TestNothingIsOpenToOthers(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	save(t, s, "a/b", "1", by("alice"))
	err := filepath.WalkDir(filepath.Dir(s.dir), func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o755: "others can read it", 0o770: "the group can change it", 0o750: ""} {
		os.Chmod(s.dir, mode)
		again, err := Open(s.dir)
		if err == nil {
			again.Close()
		}
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

// A store that the operator has opened for a group stays open for it.
func TestGroupCanRead(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "scripts")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := save(t, s, "a", "1", by("alice"))
	for path, want := range map[string]os.FileMode{"objects": 0o750, "objects/" + c.New.SHA256: 0o440, "names/a": 0o750, "names/a/meta.json": 0o640, "names/a/versions.jsonl": 0o640} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode().Perm(), err)
		}
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	save(t, s, "tank", "one", by("alice"))
	s.Publish("tank", true, by("alice"))
	s.Share("tank", "bob", []access.Action{access.ToRun}, by("alice"))
	c, err := s.Delete("tank", by("alice"))
	if err != nil || c.Old.Number != 1 || c.New.Number != 0 || c.Meta.Public || c.Meta.Shares != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	var none *NotFoundError
	for _, ref := range []string{"tank", "tank@1", "tank@2"} {
		if _, err := s.Resolve(ref); !errors.As(err, &none) || none.Of == nil {
			t.Errorf("%s after the deletion: %v", ref, err)
		}
	}
	if _, err := s.Delete("tank", by("alice")); !errors.As(err, &none) {
		t.Errorf("deleted twice: %v", err)
	}
	for range s.List() {
		t.Error("a deleted script is listed")
	}
	if old, err := s.Text("tank", 1); err != nil || string(old.Code) != "one" {
		t.Errorf("version 1 of the deleted script: %v", err)
	}
	if _, err := s.Text("tank", 0); !errors.As(err, &none) {
		t.Errorf("current text of a deleted script: %v", err)
	}
	save(t, s, "tank", "one", by("alice").ifVersion(0))
	_, list, err := s.History("tank")
	if err != nil || len(list) != 3 || !list[1].Deleted || list[2].SHA256 != list[0].SHA256 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	save(t, s, "tank", "one", by("alice"))
	share := func(with string, actions ...access.Action) []string {
		t.Helper()
		c, err := s.Share("tank", with, actions, by("alice"))
		if err != nil {
			t.Fatal(err)
		}
		return c.Changes
	}
	for _, c := range []struct {
		got  []string
		want string
	}{
		{share("bob", access.ToWrite, access.ToRun, access.ToRun), "shared with bob: nothing -> run, write"},
		{share("bob", access.ToRun, access.ToWrite), ""},
		{share("group:operators", access.ToRead), "shared with group:operators: nothing -> read"},
		{share("bob", access.ToRun), "shared with bob: run, write -> run"},
		{share("bob"), "shared with bob: run -> nothing"},
		{share("bob"), ""},
	} {
		if got := strings.Join(c.got, "; "); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if e, err := s.Find("tank"); err != nil || len(e.Shares) != 1 || e.Shares[0].With != "group:operators" || e.Version.Number != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := s.Share("tank", "bob", []access.Action{access.ToDelete}, by("alice")); err == nil {
		t.Error("delete can be shared")
	}
}

// May is asked under the lock, and before anything is made.
func TestMay(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	no := errors.New("not you")
	e := by("mallory")
	e.May = func(old *Meta) error {
		if old == nil || old.Author != "mallory" {
			return no
		}
		return nil
	}
	if _, err := s.Save("tank", Draft{Code: []byte("1")}, e); err != no {
		t.Errorf("a new name: %v", err)
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("what was refused has left %v", err)
	}
	save(t, s, "tank", "1", by("alice"))
	if _, err := s.Delete("tank", e); err != no {
		t.Errorf("a script of another: %v", err)
	}
	if _, err := s.Save("tank", Draft{Code: []byte("2")}, e.ifVersion(7)); err != no {
		t.Errorf("the refusal tells of versions: %v", err)
	}
	save(t, s, "own", "1", by("mallory"))
	save(t, s, "own", "2", e)
}

func TestConflict(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	var conflict *ConflictError
	_, err := s.Save("tank", Draft{Code: []byte("1")}, by("alice").ifVersion(1))
	if !errors.As(err, &conflict) || conflict.Current.Number != 0 {
		t.Errorf("%v", err)
	}
	save(t, s, "tank", "1", by("alice").ifVersion(0))
	save(t, s, "tank", "2", by("bob").ifVersion(1))
	_, err = s.Save("tank", Draft{Code: []byte("3")}, by("alice").ifVersion(1))
	if !errors.As(err, &conflict) || conflict.Current.Number != 2 || conflict.Current.Author != "bob" || conflict.Want != 1 {
		t.Errorf("%v", err)
	}
}

// Of writers that have seen the same version, one wins. The others learn the version that is there.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	save(t, s, "tank", "0", by("alice"))
	const writers, rounds = 8, 5
	for round := 1; round <= rounds; round++ {
		var wait sync.WaitGroup
		won := make(chan string, writers)
		for n := range writers {
			wait.Go(func() {
				own, err := Open(s.dir) // as another process has it
				if err != nil {
					t.Error(err)
					return
				}
				defer own.Close()
				text := fmt.Sprintf("%d by %d", round, n)
				_, err = own.Save("tank", Draft{Code: []byte(text)}, by("alice").ifVersion(round))
				var conflict *ConflictError
				switch {
				case err == nil:
					won <- text
				case !errors.As(err, &conflict) || conflict.Current.Number != round+1:
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wait.Wait()
		close(won)
		winner := <-won
		if more, ok := <-won; ok {
			t.Errorf("round %d: %q and %q both won", round, winner, more)
		}
		if got, err := s.Resolve("tank"); err != nil || string(got.Code) != winner {
			t.Errorf("round %d: %q is there, %q won, %v", round, got.Code, winner, err)
		}
	}
}

// Readers take no lock. They see the old version or the new one, each whole.
func TestReadersBesideAWriter(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	text := func(n int) string { return strings.Repeat(fmt.Sprintf("%06d\n", n), 2000) }
	save(t, s, "tank", text(0), by("alice"))
	done := make(chan struct{})
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			for last := 0; ; {
				got, err := s.Resolve("tank")
				if err != nil {
					t.Error(err)
					return
				}
				if got.Version.Number < last || string(got.Code) != text(got.Version.Number-1) {
					t.Errorf("version %d after %d", got.Version.Number, last)
				}
				last = got.Version.Number
				if _, err := s.Resolve("tank@1"); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := 1; n < 40; n++ {
		save(t, s, "tank", text(n), by("alice"))
	}
	close(done)
	wait.Wait()
}

// spoil changes a file of the store as nothing but an accident or an attack does.
func spoil(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	if err := os.WriteFile(path, change(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	replace := func(old, new string) func([]byte) []byte {
		return func(text []byte) []byte { return bytes.Replace(text, []byte(old), []byte(new), 1) }
	}
	const object = "objects/6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b" // of "1"
	for _, c := range []struct {
		name, file string
		change     func([]byte) []byte
		ref, want  string
	}{
		{"another text", object, replace("1", "2"), "a@1", "its bytes are not those that were saved"},
		{"a text that goes on", object, replace("1", "1\n"), "a@1", "its bytes are not those that were saved"},
		{"an empty text", object, replace("1", ""), "a@1", "its bytes are not those that were saved"},
		{"another author in the history", "names/a/versions.jsonl", replace("alice", "mally"), "a@1", "line 2 does not follow"},
		{"another last line", "names/a/versions.jsonl", func(b []byte) []byte {
			return append(bytes.Replace(b[:len(b)-1], []byte(`"bob"`), []byte(`"bib"`), 1), '\n')
		}, "a@1", "its last line is not the one"},
		{"a history that is cut", "names/a/versions.jsonl", func(b []byte) []byte { return b[:len(b)/2] }, "a@1", "should have"},
		{"no history", "names/a/versions.jsonl", func([]byte) []byte { return nil }, "a@1", "has 0 bytes"},
		{"half a meta.json", "names/a/meta.json", func(b []byte) []byte { return b[:len(b)/2] }, "a", "invalid JSON"},
		{"an empty meta.json", "names/a/meta.json", func([]byte) []byte { return nil }, "a", "invalid JSON"},
		{"the meta.json of another", "names/a/meta.json", replace(`"name":"a"`, `"name":"b"`), "a", `belongs to the script "b"`},
		{"a hash that is a path", "names/a/meta.json", replace(`"sha256":"`, `"sha256":"../`), "a", "wrong type"},
		{"an author twice", "names/a/meta.json", replace(`"author":"alice"`, `"author":"alice","author":"mallory"`), "a", "twice"},
		{"a format of the future", "names/a/meta.json", replace(`"format":1`, `"format":2`), "a", "has format 2"},
		{"a variable without a type", "names/a/meta.json", replace(`"sha256":"`, `"variables":[{"name":"x"}],"sha256":"`), "a", "has no type"},
		{"a pattern of a number", "names/a/meta.json", replace(`"sha256":"`, `"variables":[{"name":"x","type":"integer","pattern":"a"}],"sha256":"`), "a", "is no string"},
		{"a default of another type", "names/a/meta.json", replace(`"sha256":"`, `"variables":[{"name":"x","type":"integer","default":"a"}],"sha256":"`), "a", "of another type"},
		{"a negative version", "names/a/meta.json", replace(`"current":2`, `"current":-2`), "a", "wrong type"},
		{"another current version", "names/a/meta.json", replace(`"current":2`, `"current":1`), "a", "contradict"},
		{"a huge meta.json", "names/a/meta.json", func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), metaMost)...) }, "a", "has more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := fixture(t)
			save(t, s, "a", "1", by("alice"))
			save(t, s, "a", "2", by("bob"))
			spoil(t, filepath.Join(s.dir, c.file), c.change)
			got, err := s.Resolve(c.ref)
			var damaged *DamageError
			if !errors.As(err, &damaged) || damaged.Name != "a" || !strings.Contains(err.Error(), c.want) || got.Code != nil {
				t.Fatalf("got %q, %v; want %s", got.Code, err, c.want)
			}
			if c.file == object { // the right bytes repair it
				save(t, s, "a", "1", by("alice"))
				if _, err := s.Resolve("a@1"); err != nil {
					t.Errorf("after the repair: %v", err)
				}
				return
			}
			if _, err := s.Save("a", Draft{Code: []byte("3")}, by("alice")); !errors.As(err, &damaged) {
				t.Errorf("a save on top of it: %v", err)
			}
		})
	}
}

// Nothing in the store is followed: no link, no pipe, no device, no directory in place of a file.
func TestNoLinks(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	swap := map[string]func(path string) error{
		"a link":      func(path string) error { return os.Symlink(outside, path) },
		"a pipe":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	}
	for what, make := range swap {
		for _, file := range []string{"objects/6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b", "names/a/meta.json", "names/a/versions.jsonl"} {
			t.Run(what+" as "+filepath.Base(file), func(t *testing.T) {
				t.Parallel()
				s := fixture(t)
				save(t, s, "a", "1", by("alice"))
				save(t, s, "a", "2", by("alice"))
				path := filepath.Join(s.dir, file)
				os.Remove(path)
				if err := make(path); err != nil {
					t.Fatal(err)
				}
				var damaged *DamageError
				if got, err := s.Resolve("a@1"); !errors.As(err, &damaged) || got.Code != nil {
					t.Errorf("%q, %v", got.Code, err)
				}
			})
		}
	}
	for _, dir := range []string{"objects", "names", "names/a"} {
		t.Run("a link as "+dir, func(t *testing.T) {
			t.Parallel()
			s := fixture(t)
			save(t, s, "a", "1", by("alice"))
			path := filepath.Join(s.dir, dir)
			if err := os.Rename(path, path+"-real"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path+"-real", path); err != nil {
				t.Fatal(err)
			}
			var damaged *DamageError
			if got, err := s.Resolve("a"); !errors.As(err, &damaged) || got.Code != nil {
				t.Errorf("%q, %v", got.Code, err)
			}
		})
	}
}

// What a writer leaves that was killed before its version counted is cut by the next one.
func TestTornHistory(t *testing.T) {
	t.Parallel()
	for name, torn := range map[string]string{"half a line": `{"version":2,"sha2`, "a whole line": `{"version":2,"author":"x","time":"2026-12-01T00:00:00Z","deleted":true,"prev":""}` + "\n", "zeros": "\x00\x00\x00"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture(t)
			save(t, s, "a", "1", by("alice"))
			f, err := os.OpenFile(filepath.Join(s.dir, "names/a/versions.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteString(torn)
			f.Close()
			os.WriteFile(filepath.Join(s.dir, "names/a", newMeta), []byte("{"), 0o600)
			if _, list, err := s.History("a"); err != nil || len(list) != 1 {
				t.Errorf("before the next write: %d versions, %v", len(list), err)
			}
			save(t, s, "a", "2", by("alice"))
			_, list, err := s.History("a")
			if err != nil || len(list) != 2 {
				t.Errorf("after it: %d versions, %v", len(list), err)
			}
			if left, _ := filepath.Glob(filepath.Join(s.dir, "names/a/new-*")); left != nil {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestListOfMany(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	const many = 2000
	save(t, s, "folder/first", "1", by("alice"))
	// One directory stands for all: a save syncs the disk six times.
	meta, err := os.ReadFile(filepath.Join(s.dir, "names/folder+first/meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < many; n++ {
		name := fmt.Sprintf("folder/s%04d", n)
		dir := filepath.Join(s.dir, "names", dirOf(name))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, metaName), bytes.Replace(meta, []byte("folder/first"), []byte(name), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(s.dir, "names/folder+s0007/meta.json"), []byte("{"), 0o600)
	os.Mkdir(filepath.Join(s.dir, "names/begun"), 0o700)
	os.WriteFile(filepath.Join(s.dir, "names/..x"), nil, 0o600)
	good, bad, last := 0, 0, ""
	for e, err := range s.List() {
		if err != nil {
			bad++
			continue
		}
		if e.Name <= last {
			t.Errorf("%s after %s", e.Name, last)
		}
		good, last = good+1, e.Name
	}
	if good != many-1 || bad != 1 {
		t.Errorf("%d scripts, %d errors", good, bad)
	}
}

// What a stored script costs a run, besides the code itself.
func BenchmarkResolve(b *testing.B) {
	s := fixture(b)
	for n := range 20 {
		save(b, s, "tank/daily", string(block("[variables.a]\ntype = 'integer'\nmin = 1"))+fmt.Sprint(n), by("alice"))
	}
	for _, ref := range []string{"tank/daily", "tank/daily@3"} {
		b.Run(ref, func(b *testing.B) {
			for b.Loop() {
				store, err := Open(s.dir)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := store.Resolve(ref); err != nil {
					b.Fatal(err)
				}
				store.Close()
			}
		})
	}
}
