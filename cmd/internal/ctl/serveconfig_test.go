package ctl

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"py3run/audit"
)

// change is the form of a change, made on the file as it is.
func (b *pagesBench) change(key, value string) url.Values {
	b.Helper()
	sum := ""
	if text, err := os.ReadFile(b.file); err == nil {
		sum = sumOf(string(text))
	}
	return url.Values{"key": {key}, "value": {value}, "sha256": {sum}}
}

func (b *pagesBench) text() string {
	b.Helper()
	text, err := os.ReadFile(b.file)
	b.must(err)
	return string(text)
}

func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	b.put(b.file, b.text()+"[alerts]\ncommand = [\"/bin/page\", \"--token\", \"s3cr3t\"]\nwebhook = \"https://hooks.example/T0/s3cr3t?x=s3cr3t\"\n", 0o640)
	page := b.get("admin", "/configuration", 200)
	has(t, page, b.file, "max-memory-mb", "<strong>512</strong>", "1024", "Cost: ", "/bin/page", "https://hooks.example/…", `href="/configuration/change?key=security.max-memory-mb"`, sumOf(b.text()))
	hasNot(t, page, "s3cr3t", "change?key=alerts.command")
	hasNot(t, b.get("audrey", "/configuration", 200), "/configuration/change?key=")
	has(t, b.get("audrey", "/configuration", 200), "script-admin")
	if rows := strings.Count(b.get("audrey", "/configuration?changed=1", 200), "<tr id="); rows != 4 {
		t.Errorf("%d keys differ", rows)
	}
	if page := b.get("audrey", "/configuration?find=MEMORY+tree", 200); strings.Count(page, "<tr id=") != 1 {
		t.Error(mainOf(page))
	}
	for key, code := range map[string]int{"alerts.command": 403, "python.interpreter": 403, "security.isolation.run-as": 403, "nothing": 404, "": 404} {
		b.get("admin", "/configuration/change?key="+key, code)
		b.post("admin", "/configuration/plan", b.change(key, "x"), code)
		b.post("admin", "/configuration/apply", b.change(key, "x"), code)
	}
}

// A change is shown first, then made: comments, order and mode of the file stay, and the log has it.
func TestChangeConfiguration(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	before := b.text()
	form := b.change("security.max-memory-mb", "256")
	plan := b.post("admin", "/configuration/plan", form, 200)
	has(t, plan, "-max-memory-mb = 512   # as agreed", "&#43;max-memory-mb = 256   # as agreed", "<strong>256</strong>", `name="sha256" value="`+sumOf(before)+`"`)
	if b.text() != before || len(b.records(audit.ConfigChanged)) > 0 {
		t.Fatal("the plan has changed something")
	}
	to := b.post("admin", "/configuration/apply", form, 303)
	if after := b.text(); after != strings.Replace(before, "512", "256", 1) {
		t.Errorf("%s", after)
	}
	if info, err := os.Stat(b.file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	recs := b.records(audit.ConfigChanged)
	if len(recs) != 2 {
		t.Fatalf("%d records", len(recs))
	}
	for i, want := range []struct {
		outcome audit.Outcome
		reason  string
		sum     string
	}{{audit.Unknown, "before", sumOf(before)}, {audit.Success, "after", sumOf(b.text())}} {
		r := recs[i]
		if r.Event.Outcome != want.outcome || r.Event.Reason != want.reason || r.User.Name != "admin" || r.Auth.KeyID == "" || r.Policy.Path != b.file || r.Policy.OldSHA256 != sumOf(before) || r.Policy.NewSHA256 != want.sum ||
			len(r.Policy.Changes) != 1 || r.Policy.Changes[0] != "security.max-memory-mb: 512 -> 256" {
			t.Errorf("record %d: %+v %+v", i, r.Event, r.Policy)
		}
	}
	to, _, _ = strings.Cut(to, "#")
	has(t, b.get("admin", to, 200), "The change is made; record", "<strong>256</strong>")
	hasNot(t, b.get("admin", "/configuration?saved=%3Cb%3E", 200), "The change is made")
	// The next run does not take it for a change by somebody else.
	run := audit.Record{RunID: "01a20d4b-0000-7000-8000-000000000099", User: audit.User{Name: "alice"}, Host: audit.ThisHost(), Config: []audit.ConfigFile{{Path: b.file, SHA256: sumOf(b.text())}},
		Event: audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}}
	_, _, err := b.log.Begin(run)
	b.must(err)
	if found := b.records(audit.PolicyChanged); len(found) > 0 {
		t.Errorf("%+v", found[0].Policy)
	}
	if _, err := b.log.Append(audit.Record{Event: audit.Event{Action: audit.UserAdded, Outcome: audit.Success}}); err != nil {
		t.Fatal(err)
	}
	// Nothing to change.
	has(t, b.post("admin", "/configuration/plan", b.change("security.max-memory-mb", "256"), 200), "says this already")
	b.post("admin", "/configuration/apply", b.change("security.max-memory-mb", "256"), 409)
	// Out of the file again.
	form = b.change("security.max-memory-mb", "")
	form.Set("unset", "1")
	has(t, b.post("admin", "/configuration/plan", form, 200), "<strong>1024</strong>", "-max-memory-mb = 256")
	b.post("admin", "/configuration/apply", form, 303)
	if after := b.text(); after != "# of this plant\n[security]\n" {
		t.Errorf("%q", after)
	}
}

// A change that was made on another text, or cannot be, is refused, and nothing is written.
func TestChangesThatAreRefused(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	stale := b.change("security.max-memory-mb", "256")
	b.put(b.file, b.text()+"max-processes = 8\n", 0o640)
	for _, path := range []string{"/configuration/plan", "/configuration/apply"} {
		has(t, b.post("admin", path, stale, 409), "was changed meanwhile")
		for key, value := range map[string]string{"security.max-memory-mb": "lots", "security.max-processes": "1.5", "python.path": "[\"relative\"]", "security.audit.log-output": "all", "alerts.quiet-hours": "22:00-06:00\n[security]"} {
			b.post("admin", path, b.change(key, value), 422)
		}
	}
	before := b.text()
	b.must(os.Rename(b.file, b.file+".real"))
	b.must(os.Symlink(b.file+".real", b.file))
	has(t, b.post("admin", "/configuration/apply", b.change("security.max-memory-mb", "256"), 409), "it is a link")
	b.must(os.Remove(b.file))
	b.must(os.Rename(b.file+".real", b.file))
	// Where the file cannot be written, a record says that it failed.
	b.must(os.MkdirAll(filepath.Join(b.home, ".new-config.toml", "x"), 0o700))
	has(t, b.post("admin", "/configuration/apply", b.change("security.max-memory-mb", "256"), 409), "the change is not made")
	recs := b.records(audit.ConfigChanged)
	if len(recs) != 2 || recs[1].Event.Outcome != audit.Failure || recs[1].Policy.NewSHA256 != sumOf(before) {
		t.Errorf("%+v", recs)
	}
	b.must(os.RemoveAll(filepath.Join(b.home, ".new-config.toml")))
	// What cannot be recorded is not done.
	b.must(os.Rename(b.dir, b.dir+".away"))
	b.put(b.dir, "not a directory", 0o600)
	if r := b.send("admin", "POST", "/configuration/apply", b.change("security.max-memory-mb", "256")); r.Code < 400 {
		t.Errorf("%d", r.Code)
	}
	b.must(os.Remove(b.dir))
	b.must(os.Rename(b.dir+".away", b.dir))
	if b.text() != before {
		t.Errorf("%s", b.text())
	}
}

// A value that a stronger source sets stays in force, and a ceiling bounds it: the plan says so.
func TestPlanSaysWhatTakesEffect(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	b.door.a.environ = append(b.door.a.environ, "PY3RUN_SECURITY_MAX_PROCESSES=7")
	page := b.post("admin", "/configuration/plan", b.change("security.max-processes", "9"), 200)
	has(t, page, "does not take effect here", "PY3RUN_SECURITY_MAX_PROCESSES", "<strong>7</strong>")
	page = b.post("admin", "/configuration/plan", b.change("security.audit.enabled", "false"), 200)
	hasNot(t, page, "would have a fault")
	b.post("admin", "/configuration/apply", b.change("security.audit.log-code", "true"), 303)
	page = b.post("admin", "/configuration/plan", b.change("security.audit.enabled", "false"), 200)
	has(t, page, "The file would have a fault: security.audit.log-code")
	// A broken file is told, and does not bring the pages down.
	b.put(b.file, "[security\n", 0o640)
	if text := b.get("", "/configuration", 503); !regexp.MustCompile(`config\.toml:\d`).MatchString(text) {
		t.Error(mainOf(text))
	}
}

// What can hold a secret is not shown in the lines around a change either.
func TestPlanShowsNoSecrets(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{
		"[alerts]\nwebhook = \"https://hooks/SECRET\" # once SECRET\n", "[alerts]\ncommand = [\n\"/bin/true\",\n\"SECRET\"]\n", "[alerts]\n\"webhook\" = 'https://hooks/SECRET'\n", "alerts.webhook = \"https://hooks/SECRET\"\n",
		"alerts = { webhook = \"https://hooks/SECRET\" }\n[security]\nmax-processes = 5\n",
	} {
		b := newPagesBench(t, verification{})
		b.put(b.file, secret, 0o600)
		key := "alerts.denials"
		if !strings.HasPrefix(secret, "[") {
			key = "security.max-processes"
		}
		form := b.change(key, "7")
		page := b.post("admin", "/configuration/plan", form, 200)
		has(t, page, "&#43;"+key[strings.LastIndexByte(key, '.')+1:]+" = 7")
		hasNot(t, page, "SECRET")
		b.post("admin", "/configuration/apply", form, 303)
		if text := b.text(); !strings.Contains(text, strings.TrimSuffix(secret, "\n[security]\nmax-processes = 5\n")) {
			t.Errorf("the file has lost the value: %s", text)
		}
		hasNot(t, fmt.Sprintf("%+v", b.records(audit.ConfigChanged)[1].Policy), "SECRET")
	}
	text := "[ceiling.alerts]\nwebhook = \"SECRET\"\ndenials = 3\n[floor]\nalerts.command = [\"a\",\n\"SECRET\"]"
	if got := withoutSecrets(text); strings.Contains(got, "SECRET") || strings.Count(got, "\n") != strings.Count(text, "\n") || !strings.Contains(got, "denials = 3\n") {
		t.Errorf("%s", got)
	}
}
