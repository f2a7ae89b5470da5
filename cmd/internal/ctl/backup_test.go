package ctl

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
)

// The policy of this machine is none of these tests' business: as root they could change it.
func init() { access.SystemFile = "/dev/null/" + access.FileName } // which nobody can make: never this machine's own, in the children that tests play, too

// A host is what a backup is made of: a policy of this user's own, and scripts.
type host struct {
	*fixture
	app  *app
	home string
}

func newHost(t *testing.T) *host {
	t.Helper()
	b := newFixture(t)
	home := t.TempDir()
	h := &host{fixture: b, home: home}
	h.app = hostApp(home, b.dir)
	h.app.out, h.app.err = b.out, b.err
	b.must(os.MkdirAll(filepath.Join(home, "config", "py3run"), 0o700))
	b.must(os.WriteFile(filepath.Join(home, "config", "py3run", access.FileName), []byte("version = 1\n[user.alice]\nroles = [\"python3-executor\"]\n[user.bob]\nroles = [\"script-admin\"]\n"), 0o600))
	return h
}

// hostApp is a call of py3runctl whose files are all below one directory.
func hostApp(home, log string) *app {
	return &app{environ: []string{"PY3RUN_SECURITY_AUDIT_DIR=" + log, "HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, "config"), "XDG_STATE_HOME=" + filepath.Join(home, "state"), "XDG_RUNTIME_DIR=" + filepath.Join(home, "run")}}
}

func (h *host) store() *scripts.Store {
	h.Helper()
	s, err := scripts.Open(scripts.Dir(filepath.Join(h.home, "state", "py3run")))
	h.must(err)
	h.Cleanup(s.Close)
	return s
}

func (h *host) save(name, code string) {
	h.Helper()
	_, err := h.store().Save(name, scripts.Draft{Code: []byte(code)}, scripts.Edit{By: "alice"})
	h.must(err)
}

func (h *host) call(args ...string) (code int, out, errs string) {
	code = h.app.main(args)
	out, errs = h.said()
	return code, out, errs
}

func (h *host) mustCall(args ...string) (out, errs string) {
	h.Helper()
	code, out, errs := h.call(args...)
	if code != 0 {
		h.Fatalf("%q ends with %d: %s%s", args, code, out, errs)
	}
	return out, errs
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("plant/tank", "print(1)\n")
	h.save("plant/tank", "print(2)\n")
	h.save("gone", "print(3)\n")
	_, err := h.store().Delete("gone", scripts.Edit{By: "alice"})
	h.must(err)
	file := filepath.Join(h.home, "b.tar.gz")
	h.mustCall("backup", file)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	h.save("plant/tank", "print(4)\n")
	h.save("new", "print(5)\n")
	h.mustCall("user", "disable", "alice")
	out, _ := h.mustCall("restore", "--dry-run", file)
	for _, want := range []string{"user alice: enabled\n", "script new: removed\n", "script plant/tank: another state of it\n", "is whole: "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	if s, err := h.store().Resolve("new"); err != nil || string(s.Code) != "print(5)\n" {
		t.Errorf("after --dry-run: %v, %v", s, err)
	}
	told, errs := h.mustCall("restore", file)
	if told != out || strings.Index(told, "user alice") > strings.Index(told, "script new") || !strings.Contains(errs, "replaced-") {
		t.Errorf("%s%s, and a dry run tells %s", told, errs, out)
	}
	if s, err := h.store().Resolve("plant/tank"); err != nil || string(s.Code) != "print(2)\n" || s.Version.Number != 2 {
		t.Errorf("%v, %v", s, err)
	}
	if _, versions, err := h.store().History("gone"); err != nil || len(versions) != 2 {
		t.Errorf("the history of a deleted script: %v, %v", versions, err)
	}
	if _, err := h.store().Resolve("new"); err == nil {
		t.Error("a script that the backup does not have is still there")
	}
	if got, _ := filepath.Glob(filepath.Join(h.home, "state", "py3run", "replaced-*", "scripts", "names", "new", "meta.json")); len(got) != 1 {
		t.Errorf("what was there before is not kept: %q", got)
	}
	var restored []audit.Record
	r, err := audit.OpenReader(h.dir)
	h.must(err)
	defer r.Close()
	for line, err := range r.Records(audit.Position{}) {
		h.must(err)
		if line.Action == audit.PolicyRestored {
			rec, err := line.Record()
			h.must(err)
			restored = append(restored, rec)
		}
	}
	if len(restored) != 2 || restored[0].Event.Reason != "before" || restored[1].Event.Reason != "after" || restored[0].Files.Put.SHA256 == restored[1].Files.Put.SHA256 || restored[1].Policy == nil {
		t.Errorf("%+v", restored)
	}
	whole := func() (files []string) {
		h.must(filepath.WalkDir(h.home, func(path string, _ fs.DirEntry, err error) error {
			files = append(files, path)
			return err
		}))
		return files
	}
	had := whole()
	if told, errs := h.mustCall("restore", file); !strings.Contains(told, "nothing was to change") || errs != "" {
		t.Errorf("the same once more: %s%s", told, errs)
	}
	if has := whole(); !slices.Equal(had, has) {
		t.Errorf("there was %q, and is %q", had, has)
	}
	again := filepath.Join(h.home, "again.tar")
	before, _ := h.mustCall("backup", again)
	if first, _ := h.mustCall("restore", "--dry-run", again); strings.Count(first, "\n") != 2 || !strings.Contains(before, "SHA-256 of all") {
		t.Errorf("%s%s", first, before)
	}
}

// A host that has nothing yet gets nothing but what is in the backup.
func TestRestoreOntoAnEmptyHost(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("plant/tank", "print(1)\n")
	file := filepath.Join(h.home, "b.tar")
	h.mustCall("backup", file)
	empty := newHost(t)
	h.must(os.WriteFile(filepath.Join(empty.home, "config", "py3run", access.FileName), []byte("version = 1\n"), 0o600))
	dry, _ := empty.mustCall("restore", "--dry-run", file)
	told, errs := empty.mustCall("restore", file)
	if dry != told || strings.Contains(errs, "as they were before") {
		t.Errorf("%s%s, and a dry run tells %s", told, errs, dry)
	}
	if s, err := empty.store().Resolve("plant/tank"); err != nil || string(s.Code) != "print(1)\n" {
		t.Errorf("%v, %v", s, err)
	}
	entries, err := os.ReadDir(filepath.Join(empty.home, "state", "py3run"))
	h.must(err)
	for _, e := range entries {
		if e.Name() != scripts.DirName && e.Name() != "policies" {
			t.Errorf("%s is in the state directory", e.Name())
		}
	}
}

// What is not exactly a backup replaces nothing.
func TestSpoiledBackups(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	file := filepath.Join(h.home, "b.tar")
	h.mustCall("backup", file)
	whole, err := os.ReadFile(file)
	h.must(err)
	type entry struct {
		tar.Header
		text []byte
	}
	read := func() (all []entry) {
		for r := tar.NewReader(bytes.NewReader(whole)); ; {
			head, err := r.Next()
			if err == io.EOF {
				return all
			}
			h.must(err)
			text, err := io.ReadAll(r)
			h.must(err)
			all = append(all, entry{*head, text})
		}
	}
	write := func(all []entry) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range all {
			e.Size = int64(len(e.text))
			h.must(w.WriteHeader(&e.Header))
			_, err := w.Write(e.text)
			h.must(err)
		}
		h.must(w.Close())
		return b.Bytes()
	}
	// changed replaces the text of a file, and what the manifest says of it.
	changed := func(part string, change func(string) string) []byte {
		all := read()
		last := &all[len(all)-1]
		var m manifest
		h.must(json.Unmarshal(last.text, &m))
		for i, e := range all {
			if !strings.Contains(e.Name, part) {
				continue
			}
			all[i].text = []byte(change(string(e.text)))
			for j := range m.Files {
				if m.Files[j].Name == e.Name {
					m.Files[j] = fileEntry(e.Name, all[i].text)
				}
			}
		}
		last.text, err = json.Marshal(m)
		h.must(err)
		return write(all)
	}
	extra := func(e entry) []byte { return write(append([]entry{e}, read()...)) }
	link := entry{Header: tar.Header{Name: "policy.toml", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}
	file2 := func(name string) entry {
		return entry{tar.Header{Name: name, Mode: 0o600, Typeflag: tar.TypeReg}, []byte("x")}
	}
	state := filepath.Join(h.home, "state", "py3run")
	for _, tt := range []struct {
		name string
		text []byte
		want string
	}{
		{"empty", nil, "not a backup"},
		{"no archive", []byte(strings.Repeat("x", 2000)), "not a backup"},
		{"cut", whole[:len(whole)-2500], ": "},
		{"no manifest", write(read()[:2]), "it has no manifest"},
		{"one file less", write(read()[1:]), "policy.toml is missing"},
		{"one file more", extra(file2("policies/" + strings.Repeat("0", 64) + ".toml")), "is not in the manifest"},
		{"a changed file", bytes.Replace(whole, []byte("print(1)"), []byte("print(7)"), 1), "is not what the manifest says"},
		{"a link", extra(link), "is no file of a backup"},
		{"above the directory", extra(file2("../x")), "is no file of a backup"},
		{"an absolute name", extra(file2("/etc/x")), "is no file of a backup"},
		{"a hidden name", extra(file2("scripts/names/../../../x/meta.json")), "is no file of a backup"},
		{"twice", write(append(read()[:1], read()...)), "file exists"},
		{"behind the manifest", write(append(read(), file2("policies/"+strings.Repeat("0", 64)+".toml"))), "stands behind the manifest"},
		{"a broken policy", changed(access.FileName, func(s string) string { return s + "groups = 3\n" }), "policy.toml:6: "},
		{"a script that is another", changed("objects", func(s string) string { return s + "#" }), "tank"},
		{"another version", bytes.Replace(whole, []byte(`"version": 1`), []byte(`"version": 9`), 1), "is of version 9"},
	} {
		h.must(os.WriteFile(file, tt.text, 0o600))
		code, out, errs := h.call("restore", file)
		if code != 1 || !strings.Contains(errs, "error: restore "+file) || !strings.Contains(errs, tt.want) {
			t.Errorf("%s: %d: %s%s, want %q", tt.name, code, out, errs, tt.want)
		}
		if s, err := h.store().Resolve("tank"); err != nil || string(s.Code) != "print(1)\n" {
			t.Fatalf("%s: %v, %v", tt.name, s, err)
		}
		if left, _ := filepath.Glob(filepath.Join(state, ".restore-*")); len(left) != 0 {
			t.Errorf("%s leaves %q", tt.name, left)
		}
	}
	if out, _ := h.mustCall("user", "list"); strings.Count(out, "\n") != 2 {
		t.Errorf("the policy after all that: %s", out)
	}
}

// A backup is refused when it is made, not when it is needed.
func TestBackupHasRoom(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	who, err := h.app.actor()
	h.must(err)
	file := filepath.Join(h.home, "b.tar")
	for _, tt := range []struct {
		name string
		room bounds
		want string
	}{
		{"one file too many", bounds{file: 1 << 20, files: 4, all: 1 << 20}, "manifest.json is one file more than a backup can have"},
		{"too much", bounds{file: 1 << 20, files: 5, all: 1000}, " does not fit any more"},
		{"a large file", bounds{file: 200, files: 5, all: 1 << 20}, " bytes, and a file of a backup at most 200"},
	} {
		_, err := writeBackup(file, who, tt.room, time.Now())
		if err == nil || !strings.Contains(err.Error(), tt.want) || hint(err) == "" {
			t.Errorf("%s: %v (%s), want %q", tt.name, err, hint(err), tt.want)
		}
		if left, _ := filepath.Glob(filepath.Join(h.home, "*.tar")); left != nil {
			t.Errorf("%s leaves %q", tt.name, left)
		}
		if left, _ := filepath.Glob(filepath.Join(h.home, ".new-*")); left != nil {
			t.Errorf("%s leaves %q", tt.name, left)
		}
	}
	_, err = writeBackup(file, who, bounds{file: 1 << 20, files: 5, all: 1 << 20}, time.Now())
	h.must(err)
}

// What cannot be done as a whole is taken back, and what cannot be taken back is kept.
func TestExchange(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	for _, tt := range []struct {
		name  string
		there bool
		then  func(place string) error
		keep  bool
		want  string // in the place, in the end
		left  string // in the other directory
		err   string
	}{
		{"done", true, func(string) error { return nil }, true, "new", "old", ""},
		{"nothing was there", false, func(string) error { return nil }, true, "new", "", ""},
		{"taken back", true, func(string) error { return failed }, false, "old", "new", "failed"},
		{"nothing was there, taken back", false, func(string) error { return failed }, false, "", "new", "failed"},
		{"not taken back", true, func(place string) error { os.Rename(place, place+"-gone"); return failed }, true, "", "old", "failed\nput "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			from, place := filepath.Join(dir, "from"), filepath.Join(dir, "place")
			make := func(dir, text string) {
				if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			make(from, "new")
			if tt.there {
				make(place, "old")
			}
			keep, err := exchange(from, place, tt.there, func() error { return tt.then(place) })
			if keep != tt.keep || (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("%v, %v; want %v, %q", keep, err, tt.keep, tt.err)
			}
			in, _ := os.ReadFile(filepath.Join(place, "file"))
			left, _ := os.ReadFile(filepath.Join(from, "file"))
			if string(in) != tt.want || string(left) != tt.left {
				t.Errorf("%q in its place and %q left, want %q and %q", in, left, tt.want, tt.left)
			}
		})
	}
}

// A restore that cannot replace the policy has replaced nothing.
func TestRestoreIsTakenBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	file := filepath.Join(h.home, "b.tar")
	h.mustCall("backup", file)
	h.save("tank", "print(2)\n")
	c, err := h.app.beginChange()
	h.must(err)
	defer c.log.Close()
	c.edit.Path = filepath.Join(file, "below-a-file")
	if err := c.restore(file, time.Now()); err == nil || !strings.Contains(err.Error(), "change the policy") {
		t.Errorf("%v", err)
	}
	if s, err := h.store().Resolve("tank"); err != nil || string(s.Code) != "print(2)\n" {
		t.Errorf("%v, %v", s, err)
	}
	h.save("tank", "print(3)\n") // no lock is left
	if left, _ := filepath.Glob(filepath.Join(h.home, "state", "py3run", "*re*-*")); len(left) != 0 {
		t.Errorf("it leaves %q", left)
	}
}

// A restore that is only tried makes nothing, not even on a host that has nothing.
func TestTriedRestoreMakesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	file := filepath.Join(h.home, "b.tar")
	h.mustCall("backup", file)
	empty := t.TempDir()
	a := hostApp(empty, filepath.Join(empty, "log"))
	a.out, a.err = h.out, h.err
	if code := a.main([]string{"restore", "--dry-run", file}); code != 0 {
		out, errs := h.said()
		t.Fatalf("%d: %s%s", code, out, errs)
	}
	if out, _ := h.said(); !strings.Contains(out, "user alice: added") || !strings.Contains(out, "script tank: added") {
		t.Errorf("it says %s", out)
	}
	if entries, err := os.ReadDir(empty); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// Who could do what with a script.
func TestAccessToScripts(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("plant/tank", "print(1)\n")
	_, err := h.store().Share("plant/tank", "bob", []access.Action{access.ToRead}, scripts.Edit{By: "alice"})
	h.must(err)
	out, _ := h.mustCall("access", "who", "--script", "plant/tank")
	for _, want := range []string{
		`"user":"alice",` + `"roles":["python3-executor"],"groups":[],"keys":[],"disabled":false,"may":{"delete":"script.author","read":"script.author","run":"script.author","share":"script.author","write":"script.author"}`,
		`"user":"bob",` + `"roles":["script-admin"],"groups":[],"keys":[],"disabled":false,"may":{"delete":"role.script-admin","read":"role.script-admin","share":"role.script-admin","write":"role.script-admin"}`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
	if code, out, _ := h.call("access", "check", "--user", "bob", "--script", "plant/tank", "--action", "run", "--format", "text"); code != 1 || !strings.HasPrefix(out, "not allowed: bob may run script plant/tank: rule role.python3-executor.missing\n") {
		t.Errorf("%d, %s", code, out)
	}
	if code, _, errs := h.call("access", "check", "--user", "bob", "--script", "none"); code != exitUnable || !strings.Contains(errs, "none") {
		t.Errorf("%d, %s", code, errs)
	}
	if code, _, errs := h.call("access", "check", "--user", "bob", "--action", "write"); code != 2 || !strings.Contains(errs, "requires --script") {
		t.Errorf("%d, %s", code, errs)
	}
	// A record of a change of the sharing is named where an earlier time is asked for.
	then := time.Now()
	h.mustCall("user", "change", "bob", "--full-name", "Bob")
	rec := operator()
	rec.Event, rec.Script = audit.Event{Action: audit.ScriptShared, Outcome: audit.Success}, audit.Script{Name: "plant/tank"}
	_, err = h.log.Append(rec)
	h.must(err)
	_, errs := h.mustCall("access", "who", "--script", "plant/tank", "--at", then.UTC().Format(time.RFC3339Nano))
	if !strings.Contains(errs, "how the script was shared before record 2") || !strings.Contains(errs, "no record of that time or before") {
		t.Error(errs)
	}
}

// An edit by hand is told as such, with what is known of its time.
func TestPolicyOfATime(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	policy := filepath.Join(h.home, "config", "py3run", access.FileName)
	h.mustCall("user", "add", "carol")
	first, err := access.Load([]string{"/nonexistent", policy}, nil)
	h.must(err)
	mark := func() string {
		time.Sleep(time.Millisecond)
		defer time.Sleep(time.Millisecond)
		return time.Now().UTC().Format(time.RFC3339Nano)
	}
	middle := mark()
	h.must(os.WriteFile(policy, []byte("version = 1\n"), 0o600))
	second, err := access.Load([]string{"/nonexistent", policy}, nil)
	h.must(err)
	h.must(access.Keep(filepath.Join(h.home, "state", "py3run"), second))
	rec := operator()
	rec.Event = audit.Event{Action: audit.PolicyChanged, Outcome: audit.Success}
	rec.Policy = &audit.PolicyChange{Path: policy, OldSHA256: first.SHA256, NewSHA256: second.SHA256}
	_, err = h.log.Append(rec)
	h.must(err)
	late := mark()
	out, errs := h.mustCall("access", "who", "--at", middle)
	if strings.Count(out, "\n") != 3 || !strings.Contains(errs, "the file was changed without py3runctl, at a time between record 1 of ") {
		t.Errorf("%s%s", out, errs)
	}
	if out, errs = h.mustCall("access", "who", "--at", late); out != "" || !strings.Contains(errs, "record 2 of") || strings.Contains(errs, "warning") {
		t.Errorf("%s%s", out, errs)
	}
	h.must(os.RemoveAll(filepath.Join(h.home, "state", "py3run", "policies")))
	if code, _, errs := h.call("access", "who", "--at", middle); code != 1 || !strings.Contains(errs, "its text is not kept") {
		t.Errorf("%d: %s", code, errs)
	}
}

// A run looks in two places, and the first that has a policy counts.
func TestPolicyInARecord(t *testing.T) {
	t.Parallel()
	places := []string{"/system", "/own"}
	file := func(path, sum string) audit.ConfigFile { return audit.ConfigFile{Path: path, SHA256: sum} }
	change := func(path string) audit.Record {
		return audit.Record{Policy: &audit.PolicyChange{Path: path, OldSHA256: "o", NewSHA256: "n"}}
	}
	for _, tt := range []struct {
		name  string
		rec   audit.Record
		sum   string
		old   bool
		tells bool
	}{
		{"nothing", audit.Record{}, "", false, false},
		{"other files", audit.Record{Config: []audit.ConfigFile{file("/etc/config", "c")}}, "", false, false},
		{"none in both", audit.Record{Config: []audit.ConfigFile{file("/system", ""), file("/own", "")}}, "", false, true},
		{"the user's own", audit.Record{Config: []audit.ConfigFile{file("/system", ""), file("/own", "u")}}, "u", false, true},
		{"the host's", audit.Record{Config: []audit.ConfigFile{file("/own", "u"), file("/system", "s")}}, "s", false, true},
		{"a change", change("/own"), "n", true, true},
		{"a change of another file", change("/etc/config"), "", false, false},
	} {
		old, sum, tells := policyIn(tt.rec, places)
		if sum != tt.sum || tells != tt.tells || (old != nil) != tt.old {
			t.Errorf("%s: %v, %q, %v", tt.name, old, sum, tells)
		}
	}
}

// A text that a killed writer has left goes with the next deletion, and into no backup.
func TestTextsThatNobodyNeeds(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.save("tank", "print(1)\n")
	h.save("old", "print(2)\n")
	stray := filepath.Join(h.home, "state", "py3run", "scripts", "objects", fileEntry("", []byte("x")).SHA256)
	for _, args := range [][]string{{"script", "rm", "old"}, {"backup", filepath.Join(h.home, "b.tar")}} {
		h.must(os.WriteFile(stray, []byte("x"), 0o400))
		if _, errs := h.mustCall(args...); !strings.Contains(errs, "1 text that no version of a script refers to, 1 byte: removed") {
			t.Errorf("%q: %s", args, errs)
		}
		if _, err := os.Lstat(stray); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if s, err := h.store().Text("old", 1); err != nil || string(s.Code) != "print(2)\n" {
		t.Errorf("a deleted script keeps its versions: %v, %v", s, err)
	}
}
