package ctl

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"py3run/audit"
	"py3run/cmd/internal/web"
)

// The list of alerts is filtered by what the address says, in pages.
func TestAlertsPage(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	run := "01a20d4b-0000-7000-8000-000000000001"
	b.run("alice", "timeout", nil)
	first := b.alerted(ruleLimits, "alice", "three in a row", run)
	for i := range 60 {
		b.alerted(ruleNewHost, "bob", fmt.Sprintf("host %d.example", i), "")
	}
	last := b.alerted(ruleTampering, "", `<img src=x onerror="alert(1)"> `+evil, "")
	b.fresh()
	rows := func(query string) int { return strings.Count(b.get("audrey", "/alerts"+query, 200), `href="/alerts/`) }
	page := b.get("audrey", "/alerts", 200)
	if n := rows(""); n != 50 {
		t.Errorf("%d rows on the first page", n)
	}
	has(t, page, "&lt;img src=x onerror=", `rel="next"`)
	hasNot(t, page, "<img", "three in a row")
	next := regexp.MustCompile(`href="(/alerts\?before=\d+)"`).FindStringSubmatch(page)
	if next == nil {
		t.Fatal("no address of the next page")
	}
	if rest := b.get("audrey", next[1], 200); strings.Count(rest, `href="/alerts/`) != 12 || !strings.Contains(rest, "three in a row") || strings.Contains(rest, `rel="next"`) {
		t.Error(mainOf(rest))
	}
	for query, want := range map[string]int{
		"?rule=limits-in-a-row": 1, "?rule=nothing": 0, "?user=alice": 1, "?text=host+7": 1, "?text=HOST+7.": 1, "?state=acknowledged": 0, "?state=open&rule=tampering": 1, "?since=2099-01-01": 0, "?until=2000-01-01": 0,
		"?since=nonsense&rule=tampering": 1, "?before=x&rule=tampering": 1, "?user=bob&text=host+1.": 1,
	} {
		if got := rows(query); got != want {
			t.Errorf("%s: %d rows, want %d", query, got, want)
		}
	}
	detail := b.get("audrey", fmt.Sprintf("/alerts/%d", first), 200)
	has(t, detail, "three in a row", "The run", `href="/runs/`+run+`"`, "timeout", "ended at a limit (alerts.limits-in-a-row)")
	has(t, b.get("audrey", fmt.Sprintf("/alerts/%d", last), 200), "&lt;img", "The record")
	b.get("audrey", "/alerts/1", 404) // another record
}

// To acknowledge an alert takes a comment and the right; it is a record, and the page shows it at once.
func TestAcknowledgeOnThePage(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	n := b.alerted(ruleNewHost, "bob", "somewhere", "")
	b.fresh()
	at := fmt.Sprintf("/alerts/%d", n)
	b.post("audrey", at+"/acknowledge", url.Values{"comment": {"  "}}, 422)
	b.post("audrey", at+"/acknowledge", url.Values{"comment": {strings.Repeat("x", 501)}}, 422)
	if to := b.post("audrey", at+"/acknowledge", url.Values{"comment": {"ours, ticket 12 <b>"}}, 303); to != at {
		t.Errorf("leads to %s", to)
	}
	acks := b.records(audit.AuditAcknowledged)
	if len(acks) != 1 || acks[0].User.Name != "audrey" || acks[0].Auth.KeyID == "" || *acks[0].Ack != (audit.Acknowledged{Alert: n, Kind: ruleNewHost, Seq: acks[0].Ack.Seq, Comment: "ours, ticket 12 <b>"}) {
		t.Fatalf("%+v", acks)
	}
	for _, fresh := range []bool{false, true} {
		if fresh {
			b.fresh()
		}
		has(t, b.get("audrey", at, 200), "ours, ticket 12 &lt;b&gt;", "acknowledged")
		if page := b.get("audrey", "/alerts?state=open", 200); strings.Contains(page, "somewhere") {
			t.Errorf("it is still open; index fresh %v", fresh)
		}
	}
	// Another process has acknowledged another one meanwhile.
	m := b.alerted(ruleTampering, "", "repaired", "")
	_, err := b.log.Append(audit.Record{Event: audit.Event{Action: audit.AuditAcknowledged, Outcome: audit.Success}, User: audit.User{Name: "root"}, Ack: &audit.Acknowledged{ID: "3f2a9c1d0e4b", Kind: "repair", Seq: m - 1, Comment: "a finding"}})
	b.must(err)
	b.fresh()
	has(t, b.get("audrey", fmt.Sprintf("/alerts/%d", m), 200), "a finding")
}

// Where the line of a record was changed since the index was made, the page says so, and does not fail.
func TestAlertWhoseLineIsGone(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	n := b.alerted(ruleNewHost, "bob", "somewhere", "")
	b.alerted(ruleTampering, "", "repaired", "")
	b.fresh()
	path := filepath.Join(b.dir, "audit.jsonl")
	text, err := os.ReadFile(path)
	b.must(err)
	b.must(os.WriteFile(path, bytes.Replace(text, []byte("somewhere"), []byte("some\nhere"), 1), 0o600))
	b.get("audrey", "/alerts", 200)
	b.get("audrey", fmt.Sprintf("/alerts/%d", n+1), 200)
	b.must(os.WriteFile(path, bytes.Replace(text, []byte(`{"v":1`), []byte(`{"v":10`), 3), 0o600))
	has(t, b.get("audrey", fmt.Sprintf("/alerts/%d", n), 410), "py3runctl audit verify")
	b.get("audrey", "/alerts?state=open", 200)
	b.get("audrey", "/integrity", 200)
	if text, said, code := b.report(); code != 0 || !strings.Contains(text, "somewhere") {
		t.Errorf("%d %s", code, said)
	}
}

// Each rule has its meaning on the page.
func TestRulesHaveMeanings(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{ruleDenials, ruleLimits, ruleNewModule, ruleNewHost, ruleQuietHours, ruleTampering, ruleOrphaned, ruleClock, ruleEarly, ruleAcknowledged, ruleHoldReleased,
		ruleKeys, ruleRates, ruleRoles, ruleAnyone, rulePolicy, ruleLimitsFile, ruleScript} {
		if !slices.ContainsFunc(alertRules, func(r web.Rule) bool { return r.Name == rule && r.Meaning != "" }) {
			t.Errorf("%s has no meaning", rule)
		}
	}
}

// Another list of alerts is another look, and the record says what was shown: not what a filter asks for
// that cannot be used.
func TestLooksAtAlertsAreRecorded(t *testing.T) {
	t.Parallel()
	b := newPagesBench(t, verification{})
	b.alerted(ruleNewHost, "alice", "somewhere", "")
	b.fresh()
	for i, look := range [][2]string{
		{"/alerts?user=nobody", "/alerts?user=nobody"}, {"/alerts", "/alerts"}, {"/alerts?user=nobody&since=x", ""}, {"/alerts?holder=nobody&x=y", ""},
		{"/alerts?before=9", ""}, {"/alerts?state=open&rule=new-host", "/alerts?rule=new-host&state=open"},
	} {
		n := len(b.records(audit.HistoryViewed))
		b.get("audrey", look[0], 200)
		list := b.records(audit.HistoryViewed)[n:]
		if look[1] == "" && len(list) > 0 || look[1] != "" && (len(list) != 1 || list[0].Viewed.Query != look[1]) {
			t.Errorf("look %d at %s: %d records, %+v", i, look[0], len(list), list)
		}
	}
}
