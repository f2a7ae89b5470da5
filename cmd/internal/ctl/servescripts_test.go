package ctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"py3run/audit"
)

// A deletion hides what was before it from all but the author and script-admins, in versions, texts and
// changes.
func TestPagesOfDeletedScripts(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	p.start()
	save := func(text, comment string) {
		p.must("alice", "save", "tank/again", p.write("job.py", text), "--comment", comment)
	}
	save("old secret\n", "old comment")
	p.must("alice", "share", "tank/again", "--with", "bob", "--actions", "run,read")
	p.must("alice", "rm", "tank/again")
	p.update()
	for who, want := range map[string]int{"": 200, "admin": 200, "alice": 200, "bob": 404, "carol": 404, "audra": 404} {
		code, body := p.get(who, "/scripts/tank/again")
		if code != want || code == 200 && (!holds(body, "This script was deleted") || !holds(body, "old comment")) {
			t.Errorf("%q: %d %s", who, code, body)
		}
		if code, body := p.get(who, "/scripts/tank/again?version=1"); code != want || (code == 200) != holds(body, "old secret") {
			t.Errorf("%q, version 1: %d", who, code)
		}
		if _, body := p.get(who, "/scripts"); holds(body, "tank/again") {
			t.Errorf("%q: the list has a deleted script", who)
		}
	}
	save("new words\n", "new comment")
	p.must("alice", "share", "tank/again", "--with", "carol", "--actions", "read")
	p.update()
	for who, old := range map[string]bool{"alice": true, "admin": true, "carol": false} {
		code, body := p.get(who, "/scripts/tank/again")
		if code != 200 || !holds(body, "new words") || !holds(body, "new comment") || !holds(body, "shared with carol") {
			t.Errorf("%s: %d %s", who, code, body)
		}
		for _, text := range []string{"old comment", "shared with bob", "deleted"} {
			if strings.Contains(body, text) != old {
				t.Errorf("%s: sees %q: %v", who, text, !old)
			}
		}
		want := map[bool]int{true: 200, false: 404}[old]
		for _, address := range []string{"/scripts/tank/again?version=1", "/scripts/tank/again?from=1&to=3"} {
			if code, body := p.get(who, address); code != want || strings.Contains(body, "old secret") != old {
				t.Errorf("%s, %s: %d", who, address, code)
			}
		}
	}
}

// A script whose files are damaged is told to those who may know of all, and is no fault of the pages.
func TestPagesOfDamagedScripts(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	p.start()
	p.saved()
	objects, err := filepath.Glob(filepath.Join(p.dir, "state/py3run/scripts/objects/*"))
	p.log.must(err)
	for _, path := range objects {
		p.log.must(os.Chmod(path, 0o600))
		p.log.must(os.WriteFile(path, []byte("another text\n"), 0o600))
	}
	if code, body := p.get("alice", "/scripts/tank/daily"); code != 409 || strings.Contains(body, "another text") || !holds(body, "is damaged") {
		t.Errorf("its object: %d %s", code, body)
	}
	p.log.must(os.WriteFile(filepath.Join(p.dir, "state/py3run/scripts/names/tank+run/meta.json"), []byte("{"), 0o600))
	for who, want := range map[string]bool{"admin": true, "bob": false} {
		if code, body := p.get(who, "/scripts"); code != 200 || strings.Contains(body, "tank/run") != want {
			t.Errorf("its meta in the list of %s: %d %s", who, code, body)
		}
		if code, _ := p.get(who, "/scripts/tank/run"); code != 404 {
			t.Errorf("its meta for %s: %d", who, code)
		}
	}
}

// A policy that is broken keeps the owner of the log from nothing that is the log's.
func TestPagesWithoutAPolicy(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	p.start()
	p.saved()
	for _, c := range []struct {
		policy string
		codes  map[string]int
		says   string // of /people
	}{
		{"version = 1\n[user.alice\n", map[string]int{"/": 200, "/usage": 200, "/scripts": 409, "/people": 409}, "policy.toml"},
		{"", map[string]int{"/": 200, "/usage": 200, "/scripts": 200, "/scripts/tank/daily": 200, "/people": 200}, "There is no policy"},
	} {
		p.log.must(os.Remove(filepath.Join(p.dir, "config/py3run/policy.toml")))
		if c.policy != "" {
			p.write("config/py3run/policy.toml", c.policy)
		}
		for address, want := range c.codes {
			code, body := p.get("", address)
			if code != want || address == "/people" && !strings.Contains(body, c.says) {
				t.Errorf("%q: %s: %d %s", c.policy, address, code, body)
			}
		}
	}
}

// A log without a record has pages, too.
func TestPagesOfAnEmptyLog(t *testing.T) {
	t.Parallel()
	p := newUsageBench(t)
	p.log.log.Close()
	p.log.must(os.RemoveAll(filepath.Join(p.dir, "audit")))
	log, err := audit.Open(filepath.Join(p.dir, "audit"))
	p.log.must(err)
	log.Close()
	p.start()
	for _, address := range []string{"/", "/?span=7d", "/usage", "/usage?by=label", "/usage?by=label&name=x", "/usage?since=3650d", "/scripts", "/people", "/people?ask=1&at=1d&script=x"} {
		if code, body := p.get("", address); code != 200 {
			t.Errorf("%s: %d %s", address, code, body)
		}
	}
}
