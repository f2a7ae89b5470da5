package ctl

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"py3run/audit"
)

// verified starts a verification, and returns the page when it has ended.
func (b *pagesBench) verified(user string) string {
	b.Helper()
	b.post(user, "/integrity/verify", nil, 303)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		page := b.get(user, "/integrity", 200)
		if !strings.Contains(page, "<progress") && strings.Contains(page, `role="status"`) {
			return page
		}
	}
	b.Fatal("the verification does not end")
	return ""
}

func TestIntegrityPage(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	for range 3 {
		b.run("alice", "ok", nil)
	}
	b.fresh()
	has(t, b.get("audrey", "/integrity", 200), "? not checked", "py3runctl audit keygen", "No hold is in force", "not yet")
	page := b.verified("audrey")
	has(t, page, "the log is whole", "Started by audrey", "✓ verified", "proved by no receipt and no checkpoint")
	hasNot(t, page, "not checked", "Findings")
	before := b.newest()
	b.get("audrey", "/integrity", 200)
	if b.newest() != before {
		t.Error("a look at the log changes it")
	}
}

// A log that was changed shows where, and a finding that somebody has acknowledged says so.
func TestIntegrityOfABrokenLog(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	for range 3 {
		b.run("alice", "ok", nil)
	}
	b.log.Close()
	path := filepath.Join(b.dir, "audit.jsonl")
	text, err := os.ReadFile(path)
	b.must(err)
	changed := bytes.Replace(text, []byte(`"status":"ok"`), []byte(`"status":"no"`), 1)
	if bytes.Equal(text, changed) {
		t.Fatal("nothing to change")
	}
	b.must(os.WriteFile(path, changed, 0o600))
	page := b.verified("admin")
	has(t, page, "THE LOG IS BROKEN", "✗ broken", "chain-broken")
	_, rest, _ := strings.Cut(page, `action="/integrity/findings/`)
	id, _, _ := strings.Cut(rest, `"`)
	if id == "" {
		t.Fatal("no form for the finding")
	}
	b.post("admin", "/integrity/findings/"+id, url.Values{"comment": {""}}, 422)
	b.post("admin", "/integrity/findings/"+id, url.Values{"comment": {"restored <i>"}}, 303)
	has(t, b.get("admin", "/integrity", 200), "restored &lt;i&gt;")
	acks := b.records(audit.AuditAcknowledged)
	if len(acks) != 1 || acks[0].Ack.ID != id || acks[0].User.Name != "admin" {
		t.Errorf("%+v", acks)
	}
	has(t, b.verified("admin"), "restored &lt;i&gt;", "somebody has looked into")
}

func TestIntegrityWithCheckpoints(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	a := &app{out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	if err := a.makeKey(key, "witness", time.Now()); err != nil {
		t.Fatal(err)
	}
	b := newPagesBench(t, verification{checkpoints: filepath.Join(dir, "notes"), keys: key + ".pub"})
	has(t, b.get("audrey", "/integrity", 200), "cannot be read")
	b.run("alice", "ok", nil)
	b.must(b.checkpoint(key, filepath.Join(dir, "notes"), time.Now()))
	b.put(filepath.Join(dir, "notes", "000000000001.note"), "nonsense <b>", 0o600)
	page := b.get("audrey", "/integrity", 200)
	has(t, page, "witness", "Covers records up to", "malformed note")
	b.must(os.Remove(filepath.Join(dir, "notes", "000000000001.note")))
	has(t, b.verified("audrey"), "proved by checkpoint up to")
}

func TestHoldsOnThePage(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	b.run("alice", "ok", nil)
	b.fresh()
	b.post("audrey", "/integrity/holds", url.Values{"user": {"alice"}}, 422)
	b.post("audrey", "/integrity/holds", url.Values{"comment": {"x"}, "since": {"nonsense"}}, 422)
	b.post("audrey", "/integrity/holds", url.Values{"comment": {"x"}, "run": {"01a20d4b-0000-7000-8000-000000000099"}}, 422)
	b.post("audrey", "/integrity/holds", url.Values{"comment": {"x"}, "since": {"2026-02-01"}, "until": {"2026-01-01"}}, 422)
	b.post("audrey", "/integrity/holds", url.Values{"user": {`a"<b>`}, "comment": {"case <i>4711"}, "run": {"01a20d4b-0000-7000-8000-000000000001"}}, 303)
	holds := b.records(audit.AuditHold)
	if len(holds) != 1 || holds[0].User.Name != "audrey" || holds[0].Hold.Run != "01a20d4b-0000-7000-8000-000000000001" {
		t.Fatalf("%+v", holds)
	}
	id := holds[0].Hold.ID
	for range 2 { // whether the index has the record, or not yet
		has(t, b.get("audrey", "/integrity", 200), id, "in force", "case &lt;i&gt;4711", "user a&#34;&lt;b&gt;")
		hasNot(t, b.get("audrey", "/integrity", 200), "not in holds.json", "no record says so")
		b.fresh()
	}
	b.post("audrey", "/integrity/holds/"+id+"/release", url.Values{"comment": {" "}}, 422)
	b.post("audrey", "/integrity/holds/"+id+"/release", url.Values{"comment": {"closed"}}, 303)
	for range 2 {
		hasNot(t, b.get("audrey", "/integrity", 200), id)
		has(t, b.get("audrey", "/integrity?holds=all", 200), id, "released", "closed")
		b.fresh()
	}
	b.post("audrey", "/integrity/holds/"+id+"/release", url.Values{"comment": {"closed"}}, 404)
}

// A file of holds that cannot be used is told on the page, with the holds of the records.
func TestBrokenHoldsOnThePage(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	b.post("audrey", "/integrity/holds", url.Values{"comment": {"case 4711"}}, 303)
	b.fresh()
	b.must(os.WriteFile(filepath.Join(b.dir, "holds.json"), []byte("{"), 0o600))
	has(t, b.get("audrey", "/integrity", 200), "case 4711", "holds.json")
	has(t, b.verified("audrey"), "holds-differ")
	b.must(os.Remove(filepath.Join(b.dir, "holds.json")))
	has(t, b.get("audrey", "/integrity", 200), "not in holds.json")
}

// What retention has removed stands on the page, and in the strip.
func TestPrunesOnThePage(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	_, err := b.log.Append(audit.Record{Event: audit.Event{Action: audit.AuditRetention, Outcome: audit.Success}, User: audit.User{Name: "root"},
		Retention: &audit.Retention{Records: 7, FirstSeq: 1, LastSeq: 7, Days: 90, Newest: "2026-01-01T00:00:00Z", Policy: "file /etc/py3run/config.toml"}})
	b.must(err)
	b.fresh()
	has(t, b.get("audrey", "/integrity", 200), "removed the records 1 to 7", "after 90 days")
}
