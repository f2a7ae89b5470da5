package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
)

// A scriptBench calls py3runctl script with a state directory, a policy and keys of its own.
type scriptBench struct {
	*testing.T
	dir  string
	keys map[string]string // by user: a file
}

// newScriptBench knows the users alice, bob, carol and admin. Each calls with a key, because the owner
// of the policy may do everything.
func newScriptBench(t *testing.T) *scriptBench {
	t.Helper()
	b := &scriptBench{t, t.TempDir(), map[string]string{}}
	policy := "version = 1\n[group.operators]\n"
	for name, about := range map[string]string{"alice": `roles = ["python3-executor"]`, "bob": `roles = ["python3-executor"]` + "\ngroups = [\"operators\"]", "carol": `roles = []`, "admin": `roles = ["script-admin"]`} {
		id, text := access.NewKey()
		policy += fmt.Sprintf("[user.%s]\n%s\n[key.%s]\nuser = %q\nsha256 = %q\ncreated = 2026-01-01T00:00:00Z\n", name, about, id, name, access.HashKey(text))
		b.keys[name] = filepath.Join(b.dir, name+".key")
		b.write(name+".key", text+"\n")
	}
	b.write("config/py3run/policy.toml", policy)
	return b
}

func (b *scriptBench) write(name, text string) string {
	b.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// as runs a command as a user; no user: as the owner of the policy.
func (b *scriptBench) as(user string, args ...string) (out, err string, code int) {
	b.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{out: &stdout, err: &stderr, environ: []string{"HOME=" + b.dir, "XDG_STATE_HOME=" + b.dir + "/state", "XDG_CONFIG_HOME=" + b.dir + "/config", "PY3RUN_SECURITY_AUDIT_DIR=" + b.dir + "/audit"}}
	if user != "" {
		a.environ = append(a.environ, "PY3RUN_API_KEY_FILE="+b.keys[user])
	}
	code = a.main(append([]string{"script"}, args...))
	return stdout.String(), stderr.String(), code
}

// must runs a command that has to succeed.
func (b *scriptBench) must(user string, args ...string) string {
	b.Helper()
	out, err, code := b.as(user, args...)
	if code != 0 {
		b.Fatalf("%s: script %v: exit code %d\n%s", user, args, code, err)
	}
	return out
}

// records are those of changes to scripts.
func (b *scriptBench) records() (list []audit.Record) {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "audit", "audit.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var rec audit.Record
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			b.Fatal(err)
		}
		list = append(list, rec)
	}
	return list
}

func TestScriptCommands(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	file := b.write("job.py", "print(1)\n")
	b.must("alice", "save", "tank/daily", file, "--description", "Daily\x1b[31m", "--comment", "first")
	b.write("job.py", "print(2)\n")
	b.must("alice", "save", "tank/daily", file, "--if-version", "1")
	if out := b.must("alice", "show", "tank/daily@1"); out != "print(1)\n" {
		t.Errorf("show: %q", out)
	}
	if out, _, code := b.as("alice", "diff", "tank/daily@1"); code != 1 || !strings.Contains(out, "-print(1)\n+print(2)\n") {
		t.Errorf("diff: %d %s", code, out)
	}
	if out, _, code := b.as("alice", "diff", "tank/daily@2", "tank/daily"); code != 0 || out != "" {
		t.Errorf("diff of the same: %d %s", code, out)
	}
	if _, err, code := b.as("alice", "save", "tank/daily", file, "--if-version", "1"); code != 1 || !strings.Contains(err, "its current version is 2, by alice") || !strings.Contains(err, "hint: ") {
		t.Errorf("conflict: %d %s", code, err)
	}
	if _, err, code := b.as("alice", "save", "tank/daily", file); code != 0 || !strings.Contains(err, "nothing was to change") {
		t.Errorf("the same again: %d %s", code, err)
	}
	if out := b.must("alice", "list", "--format", "text"); !strings.Contains(out, "tank/daily        2  ") || strings.Contains(out, "\x1b") {
		t.Errorf("list: %q", out)
	}
	if out := b.must("alice", "history", "tank/daily", "--format", "text"); strings.Count(out, "\n") != 4 || strings.Index(out, "first") < strings.Index(out, " 2  ") {
		t.Errorf("history: %s", out)
	}
	if out := b.must("alice", "show", "tank/daily", "--about"); !strings.Contains(out, "2 of 2, by alice") {
		t.Errorf("about: %s", out)
	}
	b.must("alice", "public", "tank/daily")
	b.must("alice", "share", "tank/daily", "--with", "group:operators", "--actions", "write,run")
	b.must("alice", "rm", "tank/daily")
	if _, err, code := b.as("alice", "show", "tank/daily"); code != 1 || !strings.Contains(err, "not found") || !strings.Contains(err, "was deleted") {
		t.Errorf("show after rm: %d %s", code, err)
	}
	if out := b.must("alice", "show", "tank/daily@2"); out != "print(2)\n" {
		t.Errorf("an old version of a deleted script: %q", out)
	}

	want := []string{
		"script-save alice 1  -> 1: description; version nothing -> 1",
		"script-save alice 2 1 -> 2: version 1 -> 2",
		"script-share alice 2 2 -> 2: public: no -> yes",
		"script-share alice 2 2 -> 2: shared with group:operators: nothing -> run, write",
		"script-delete alice 2 2 -> : version 2 -> deleted",
	}
	number := func(n int) string { return strings.TrimPrefix(fmt.Sprint(n), "0") }
	for i, r := range b.records() {
		c := r.Changed
		got := fmt.Sprintf("%s %s %s %s -> %s: %s", r.Event.Action, r.User.Name, r.Script.Version, number(c.OldVersion), number(c.NewVersion), strings.Join(c.Changes, "; "))
		if i >= len(want) || got != want[i] || r.Script.Name != "tank/daily" || r.Auth.KeyID == "" || (c.OldSHA256 == "") != (c.OldVersion == 0) || (c.NewSHA256 == "") != (c.NewVersion == 0) {
			t.Errorf("record %d: %s; %+v", i+1, got, r)
		}
	}
}

// What the commands answer to each user, in each state of a script. none is the answer for a script
// that does not exist.
func TestScriptPermissions(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	file := b.write("job.py", "print(1)\n")
	b.must("alice", "save", "tank", file)
	_, none, _ := b.as("bob", "show", "tanx")
	none = strings.ReplaceAll(none, "tanx", "tank")
	check := func(state string, want map[string]string) {
		t.Helper()
		for user, row := range want {
			var got []string
			for _, command := range [][]string{{"show", "tank"}, {"history", "tank"}, {"diff", "tank@1"}, {"share", "tank", "--with", "bob", "--remove"}, {"public", "tank"}, {"save", "tank", file, "--if-version", "99"}, {"rm", "tank", "--if-version", "99"}} {
				_, err, code := b.as(user, command...)
				answer := "no"
				switch {
				case code == 0 || strings.Contains(err, "not at version 99"):
					answer = "yes"
				case err == strings.ReplaceAll(none, `"tank"`, `"`+command[1]+`"`):
					answer = "-"
				}
				if command[0] == "public" && answer == "yes" {
					b.must("", "private", "tank")
				}
				got = append(got, answer)
			}
			listed := "unlisted"
			if strings.Contains(b.must(user, "list"), `"tank"`) {
				listed = "listed"
			}
			if text := strings.Join(append(got, listed), " "); text != row {
				t.Errorf("%s, %s: got %s, want %s", state, user, text, row)
			}
		}
	}
	// columns: show history diff share public save rm
	check("private", map[string]string{
		"alice": "yes yes yes yes yes yes yes listed",
		"admin": "yes yes yes yes yes yes yes listed",
		"bob":   "- - - - - no - unlisted",
		"carol": "- - - - - no - unlisted",
	})
	b.must("alice", "share", "tank", "--with", "group:operators", "--actions", "run")
	check("shared to run", map[string]string{"bob": "no no no no no no no listed", "carol": "- - - - - no - unlisted"})
	b.must("alice", "share", "tank", "--with", "group:operators", "--actions", "read,write")
	check("shared to read and write", map[string]string{"bob": "yes yes yes no no yes no listed"})
	b.must("alice", "share", "tank", "--with", "group:operators", "--remove")
	b.must("alice", "share", "tank", "--with", "carol", "--actions", "write")
	check("shared to write only", map[string]string{"carol": "- - - - - yes - unlisted", "bob": "- - - - - no - unlisted"})
	if _, err, code := b.as("carol", "save", "tank", file, "--public"); code == 0 {
		t.Errorf("who may write may also publish: %s", err)
	}
}

func TestScriptShareNeedsAKnownUser(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	b.must("alice", "save", "tank", b.write("job.py", "1"))
	for with, want := range map[string]string{"bobb": "no such user", "group:operator": "no such group", "group:": "invalid argument", "b/b": "invalid argument", "operators": "no such user"} {
		if _, err, code := b.as("alice", "share", "tank", "--with", with); code == 0 || !strings.Contains(err, want) {
			t.Errorf("%s: %d %s", with, code, err)
		}
	}
	if _, err, code := b.as("alice", "share", "tank", "--with", "bob", "--actions", "run,delete"); code != 2 {
		t.Errorf("delete: %d %s", code, err)
	}
}

// report reads the report of an import: the status of each script by its original name.
func report(t *testing.T, out string) map[string]imported {
	t.Helper()
	all := map[string]imported{}
	for line := range strings.Lines(out) {
		var one imported
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		all[one.Original+" "+filepath.Ext(one.From)] = one
	}
	return all
}

const moduleIndex = `{
  "daily_report": {"id": "daily_report", "name": "Daily Report", "code": "print('daily')\n", "description": "Every day", "author": "Jürgen", "createdDate": "2025-01-02T03:04:05Z",
    "lastModified": "2025-06-07T08:09:10Z", "folderPath": "My Reports/Daily", "version": "1.0", "signature": "c2lnbmF0dXJl"},
  "balance": {"id": "balance", "name": "balance", "code": "print('balance')\n", "description": null, "author": "Unknown", "folderPath": "", "version": 2}
}`

// fixtureLayout writes both layouts of the module.
func fixtureLayout(b *scriptBench) string {
	b.write("module/scripts/index.json", moduleIndex)
	b.write("module/scripts/Tank Farm/Level-Check.py", "print('level')\n")
	b.write("module/scripts/Tank Farm/Level-Check.meta.json", `{"name": "Level Check", "description": "Levels", "author": "maria", "createdDate": "2025-03-04", "version": "1.2"}`)
	b.write("module/scripts/tools/plain.py", "print('plain')\n")
	return filepath.Join(b.dir, "module")
}

func TestScriptImport(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	dir := fixtureLayout(b)
	dry := b.must("alice", "import", dir, "--dry-run")
	if out := b.must("alice", "list"); out != "" {
		t.Errorf("a dry run has stored %s", out)
	}
	out := b.must("alice", "import", dir)
	if dry != out {
		t.Errorf("the dry run has said\n%s\nand the import\n%s", dry, out)
	}
	want := map[string]string{"My Reports/Daily/Daily Report": "my_reports/daily/daily_report", "balance": "balance", "Tank Farm/Level Check": "tank_farm/level_check", "tools/plain": "tools/plain"}
	all := report(t, out)
	for _, one := range all {
		if want[one.Original] != one.Name || one.Status != importNew || one.Mapped != (one.Original != one.Name) {
			t.Errorf("%+v", one)
		}
	}
	if len(all) != len(want) {
		t.Errorf("%d scripts: %s", len(all), out)
	}
	var e scripts.Entry
	if err := json.Unmarshal([]byte(b.must("alice", "show", "my_reports/daily/daily_report", "--about", "--format", "json")), &e); err != nil {
		t.Fatal(err)
	}
	if e.Description != "Every day" || e.Author != "alice" || e.Public || *e.Origin != (scripts.Origin{Name: "Daily Report", Folder: "My Reports/Daily", Author: "Jürgen", Created: "2025-01-02T03:04:05Z", Modified: "2025-06-07T08:09:10Z", Version: "1.0"}) {
		t.Errorf("%+v %+v", e, e.Origin)
	}
	before := len(b.records())
	for range 2 {
		for _, one := range report(t, b.must("alice", "import", dir)) {
			if one.Status != importUnchanged {
				t.Errorf("a second import: %+v", one)
			}
		}
	}
	if n := len(b.records()); n != before || before != 4 {
		t.Errorf("records: %d and %d", before, n)
	}

	// A text that has changed there is a new version. One that was changed here stays, although the
	// file there is an older version.
	b.write("module/scripts/tools/plain.py", "print('plainer')\n")
	b.must("alice", "save", "balance", b.write("new.py", "print('better')\n"))
	again := report(t, b.must("alice", "import", dir))
	if one := again["tools/plain .py"]; one.Status != importChanged || one.Version != 2 {
		t.Errorf("%+v", one)
	}
	if out := b.must("alice", "show", "balance"); out != "print('better')\n" {
		t.Errorf("the import has undone a change: %s", out)
	}
	// Another user may not write these scripts, and learns that.
	b.write("module/scripts/tools/plain.py", "print('plainest')\n")
	if out, _, code := b.as("bob", "import", dir); code != 1 || report(t, out)["tools/plain .py"].Status != importSkipped {
		t.Errorf("bob: %d %s", code, out)
	}
}

// What was exported and imported elsewhere is the same, and importing it where it comes from changes
// nothing.
func TestScriptRoundTrip(t *testing.T) {
	t.Parallel()
	here, there := newScriptBench(t), newScriptBench(t)
	here.must("alice", "import", fixtureLayout(here))
	here.must("alice", "save", "own/a.b-c_d", here.write("own.py", "# é\r\n\tx = 1"), "--description", "own & <more>", "--public")
	here.must("bob", "save", "hidden", here.write("own.py", "1"))
	out := filepath.Join(here.dir, "export")
	here.must("alice", "export", out)
	before := len(here.records())
	for _, one := range report(t, here.must("alice", "import", out)) {
		if one.Status != importUnchanged {
			t.Errorf("where it comes from: %+v", one)
		}
	}
	if n := len(here.records()); n != before {
		t.Errorf("%d new records", n-before)
	}
	for _, from := range []string{out, filepath.Join(out, "scripts", "index.json")} {
		if text := there.must("alice", "import", from); strings.Count(text, "\n") != 5 {
			t.Errorf("%s: %s", from, text)
		}
	}
	if strings.Contains(there.must("admin", "list"), "hidden") {
		t.Error("a hidden script was exported")
	}
	for _, name := range []string{"my_reports/daily/daily_report", "balance", "tank_farm/level_check", "tools/plain", "own/a.b-c_d"} {
		if a, b := here.must("alice", "show", name), there.must("alice", "show", name); a != b {
			t.Errorf("%s: %q and %q", name, a, b)
		}
		var a, b scripts.Entry
		json.Unmarshal([]byte(here.must("alice", "show", name, "--about", "--format", "json")), &a)
		json.Unmarshal([]byte(there.must("alice", "show", name, "--about", "--format", "json")), &b)
		if a.Description != b.Description || b.Origin == nil || a.Origin != nil && identity(*a.Origin) != identity(*b.Origin) || b.Latest != 1 {
			t.Errorf("%s: %+v and %+v", name, a, b)
		}
	}
}

// What an import must not do, whatever the files say.
func TestScriptImportOfHostileFiles(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	secret := b.write("secret.py", "SECRET = 1\n")
	dir := filepath.Join(b.dir, "module")
	b.write("module/scripts/ok.py", "print('ok')\n")
	b.write("module/scripts/up.py", "1\n")
	b.write("module/scripts/up.meta.json", `{"name": "../../../etc/passwd", "folderPath": "../.."}`)
	b.write("module/scripts/Ok.py", "print('other')\n")
	b.write("module/scripts/oK.py", "print('third')\n")
	b.write("module/scripts/zero.py", "a\x00b")
	b.write("module/scripts/latin.py", "# caf\xe9\n")
	b.write("module/scripts/broken.py", "1\n")
	b.write("module/scripts/broken.meta.json", `{"name": "x", "name": "y"}`)
	b.write("module/scripts/list.py", "1\n")
	b.write("module/scripts/list.meta.json", `[]`)
	b.write("module/scripts/declares.py", "# /// py3run\n# [variables.a]\n# type = 'int'\n# ///\n")
	b.write("module/scripts/alone.meta.json", `{}`)
	b.write("module/scripts/readme.txt", "hello")
	b.write("module/scripts/.git/config.py", "1\n")
	b.write("module/scripts/a/b/c/d/e/f.py", "print('deep')\n")
	b.write("module/scripts/日本/語.py", "print('far')\n")
	b.write("module/scripts/long.meta.json", `{"author": "`+strings.Repeat("x", 5000)+`"}`)
	b.write("module/scripts/long.py", "1\n")
	if err := os.Truncate(b.write("module/scripts/huge.py", ""), scripts.CodeMost+1); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link.py": secret, "linked": b.dir, "linkmeta.meta.json": secret} {
		if err := os.Symlink(to, filepath.Join(dir, "scripts", name)); err != nil {
			t.Fatal(err)
		}
	}
	b.write("module/scripts/linkmeta.py", "1\n")
	if err := syscall.Mkfifo(filepath.Join(dir, "scripts", "pipe.py"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, messages, code := b.as("alice", "import", dir)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	all := map[string]imported{}
	names := map[string]bool{}
	for _, one := range report(t, out) {
		all[strings.TrimPrefix(one.From, "scripts/")] = one
		if one.Status == importNew {
			if scripts.BadName(one.Name) != nil || names[one.Name] {
				t.Errorf("name: %+v", one)
			}
			names[one.Name] = true
		}
	}
	for from, want := range map[string]string{
		"ok.py": "new ok", "up.py": "new etc/passwd", "Ok.py": "new ok-", "oK.py": "new ok-", "zero.py": "skipped NUL", "latin.py": "skipped UTF-8", "broken.py": "skipped twice", "list.py": "skipped no object",
		"declares.py": "skipped type: want one of", "a/b/c/d/e/f.py": "new a/b/c/d_e_f", "日本/語.py": "new imported-", "long.py": "skipped 1000 bytes", "huge.py": "skipped more than 16777216", "linkmeta.py": "skipped a link",
	} {
		one := all[from]
		status, rest, _ := strings.Cut(want, " ")
		if got := one.Name + " " + one.Reason; one.Status != status || !strings.Contains(got, rest) {
			t.Errorf("%s: %+v, want %s", from, one, want)
		}
	}
	for _, want := range []string{"link.py: not read: it is a link", "linked: not read: it is a link", "pipe.py: not read: it is a link, or no regular file", "readme.txt: not read: it is no script", "alone.meta.json: not read: there is no alone.py"} {
		if !strings.Contains(messages, want) {
			t.Errorf("not told: %s\n%s", want, messages)
		}
	}
	if len(all) != 14 {
		t.Errorf("%d scripts: %v", len(all), slices.Sorted(func(yield func(string) bool) {
			for name := range all {
				yield(name)
			}
		}))
	}
	for _, name := range []string{"ok"} {
		if text := b.must("alice", "show", name); strings.Contains(text, "SECRET") {
			t.Errorf("%s: %s", name, text)
		}
	}
	b.as("alice", "import", dir)
	if n := len(b.records()); n != len(names) {
		t.Errorf("%d records of %d scripts", n, len(names))
	}
	for _, text := range []string{`{"a": {"code": "1"}, "a": {"code": "2"}}`, `{"a": {"code": "\ud800"}}`, `"x"`, `{"a":`, "\xff"} {
		if _, err, code := b.as("alice", "import", b.write("bad/index.json", text)); code != 1 || !strings.Contains(err, "index.json") {
			t.Errorf("%q: %d %s", text, code, err)
		}
	}
}

// An export replaces a link and does not follow it.
func TestScriptExportOverLinks(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	b.must("alice", "save", "a/b", b.write("job.py", "print(1)\n"))
	victim := b.write("victim", "precious")
	b.write("out/scripts/a/x", "")
	if err := os.Symlink(victim, filepath.Join(b.dir, "out/scripts/a/b.py")); err != nil {
		t.Fatal(err)
	}
	b.must("alice", "export", filepath.Join(b.dir, "out"))
	if text, _ := os.ReadFile(victim); string(text) != "precious" {
		t.Errorf("the victim: %q", text)
	}
	if text, _ := os.ReadFile(filepath.Join(b.dir, "out/scripts/a/b.py")); string(text) != "print(1)\n" {
		t.Errorf("the export: %q", text)
	}
	os.RemoveAll(filepath.Join(b.dir, "out/scripts/a"))
	if err := os.Symlink(b.dir, filepath.Join(b.dir, "out/scripts/a")); err != nil {
		t.Fatal(err)
	}
	if _, err, code := b.as("alice", "export", filepath.Join(b.dir, "out")); code == 0 {
		t.Errorf("an export through a linked directory: %s", err)
	}
}

func TestScriptCompletion(t *testing.T) {
	t.Parallel()
	b := newScriptBench(t)
	b.must("alice", "save", "tank", b.write("job.py", "1"), "--description", "All tanks")
	complete := func(user string, args ...string) string {
		var out bytes.Buffer
		a := &app{out: &out, err: &bytes.Buffer{}, environ: []string{"HOME=" + b.dir, "XDG_STATE_HOME=" + b.dir + "/state", "XDG_CONFIG_HOME=" + b.dir + "/config", "PY3RUN_SECURITY_AUDIT_DIR=" + b.dir + "/audit", "PY3RUN_API_KEY_FILE=" + b.keys[user]}}
		a.main(append([]string{"__complete", "script"}, args...))
		return out.String()
	}
	if out := complete("alice", "show", ""); !strings.HasPrefix(out, "tank\tAll tanks\n") {
		t.Errorf("alice: %q", out)
	}
	if out := complete("bob", "rm", ""); strings.Contains(out, "tank") {
		t.Errorf("bob: %q", out)
	}
	if out := complete("alice", "share", "tank", "--with", ""); !strings.Contains(out, "group:operators\n") {
		t.Errorf("--with: %q", out)
	}
}
