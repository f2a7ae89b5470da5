package ctl

import (
	"math/rand/v2"
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

// Who could use a script is told for each time of its life, without a warning.
func TestSharingOfATime(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.mustCall("user", "add", "carol", "--role", "python3-executor")
	file := filepath.Join(h.home, "code.py")
	h.must(os.WriteFile(file, []byte("print(1)\n"), 0o600))
	const none, run, readToo, public, gone = "", "run script.shared", "read script.shared run script.shared", "read script.public run script.shared", "there was none"
	steps := []struct {
		args []string
		want string // what carol may do then
	}{
		{[]string{"user", "list"}, gone},
		{[]string{"script", "save", "plant/tank", file}, none},
		{[]string{"script", "share", "plant/tank", "--with", "carol"}, run},
		{[]string{"script", "public", "plant/tank"}, public},
		{[]string{"script", "private", "plant/tank"}, run},
		{[]string{"script", "share", "plant/tank", "--with", "carol", "--actions", "run,read"}, readToo},
		{[]string{"script", "rm", "plant/tank"}, gone},
		{[]string{"script", "save", "plant/tank", file}, none},
		{[]string{"script", "share", "plant/tank", "--with", "alice"}, none},
		{[]string{"script", "share", "plant/tank", "--with", "carol", "--actions", "read"}, "read script.shared"},
	}
	var times []string
	for _, s := range steps {
		h.mustCall(s.args...)
		time.Sleep(2 * time.Millisecond) // records have milliseconds
		times = append(times, time.Now().UTC().Format(time.RFC3339Nano))
		time.Sleep(2 * time.Millisecond)
	}
	for i, s := range steps {
		code, out, errs := h.call("access", "who", "--script", "plant/tank", "--at", times[i])
		if s.want == gone {
			if code != 1 || !strings.Contains(errs, gone) {
				t.Errorf("after %q: %d, %s", s.args, code, errs)
			}
			continue
		}
		if got := mayOf(out, "carol"); code != 0 || got != s.want || strings.Contains(errs, "warning") {
			t.Errorf("after %q: %d, %q, want %q: %s", s.args, code, got, s.want, errs)
		}
	}
}

// mayOf is what a user may do, of a list of access who.
func mayOf(out, user string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, `"user":"`+user+`"`) {
			_, may, _ := strings.Cut(line, `"may":{`)
			may, _, _ = strings.Cut(may, "}")
			return strings.NewReplacer(`"`, "", ":", " ", ",", " ").Replace(may)
		}
	}
	return "nobody"
}

// What the records tell is what was so. Where records are missing, it is so too, or there is a doubt.
func TestScriptThen(t *testing.T) {
	t.Parallel()
	store, err := scripts.Open(filepath.Join(t.TempDir(), "scripts"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	began := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	var events []scriptEvent
	var truth []scripts.Meta // after each event
	edit := func() scripts.Edit {
		return scripts.Edit{By: "alice", At: began.Add(time.Duration(len(events)) * time.Second)}
	}
	for len(events) < 60 {
		var c scripts.Change
		action := audit.ScriptShared
		switch n := r.IntN(12); {
		case n == 0 && len(events) > 30 && truth[len(truth)-1].Current > 0: // in the first half the way back is open
			c, err = store.Delete("tank", edit())
			action = audit.ScriptDeleted
		case n < 3 || len(events) == 0 || truth[len(truth)-1].Current == 0:
			c, err = store.Save("tank", scripts.Draft{Code: []byte{'1', '\n', byte('0' + len(events)%10), '\n'}}, edit())
			action = audit.ScriptSaved
		case n < 5:
			c, err = store.Publish("tank", r.IntN(2) == 0, edit())
		default:
			actions := slices.DeleteFunc([]access.Action{access.ToRun, access.ToRead, access.ToWrite}, func(access.Action) bool { return r.IntN(2) == 0 })
			c, err = store.Share("tank", []string{"bob", "carol", "group:ops"}[r.IntN(3)], actions, edit())
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Changes) == 0 {
			continue
		}
		e := scriptEvent{at: edit().At}
		e.Seq, e.Event.Action = uint64(len(events)+1), action
		e.Changed = &audit.ScriptChange{OldVersion: c.Old.Number, NewVersion: c.New.Number, Changes: c.Changes}
		events, truth = append(events, e), append(truth, c.Meta)
	}
	now := truth[len(truth)-1]
	for i := range events {
		at := events[i].at.Add(time.Millisecond)
		then := scriptThenOf(events, now, at)
		if then.missing != (truth[i].Current == 0) || !then.missing && !then.sharing.Same(truth[i].Sharing()) || then.doubt != nil || then.lost {
			t.Fatalf("after %d: %+v, want %+v", i, then, truth[i])
		}
		for first := range i + 1 { // a log that begins later
			then := scriptThenOf(events[first:], now, at)
			if !then.lost && (then.missing != (truth[i].Current == 0) || !then.missing && !then.sharing.Same(truth[i].Sharing()) || then.doubt != nil) {
				t.Fatalf("after %d, of a log from %d on: %+v, want %+v", i, first, then, truth[i])
			}
		}
	}
	alive := slices.IndexFunc(events, scriptEvent.removed)
	if alive < 0 {
		alive = len(events)
	}
	for gone := 1; gone < alive; gone++ { // one record is missing, of a life without an end
		if events[gone].Event.Action != audit.ScriptShared {
			continue
		}
		some := slices.Delete(slices.Clone(events[:alive]), gone, gone+1)
		for i := range alive {
			then := scriptThenOf(some, truth[alive-1], events[i].at.Add(time.Millisecond))
			if then.doubt == nil && !then.lost && !then.sharing.Same(truth[i].Sharing()) {
				t.Fatalf("without %d, after %d: %+v, want %+v", gone, i, then, truth[i])
			}
		}
	}
}

// A restore can have changed everything: before it, only the records from the making of the script on help.
func TestScriptThenBehindARestore(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	event := func(n int, action audit.Action, old, new int, changes ...string) scriptEvent {
		e := scriptEvent{at: began.Add(time.Duration(n) * time.Second)}
		e.Seq, e.Event.Action = uint64(n), action
		if action != audit.PolicyRestored {
			e.Changed = &audit.ScriptChange{OldVersion: old, NewVersion: new, Changes: changes}
		}
		return e
	}
	events := []scriptEvent{event(1, audit.ScriptSaved, 0, 1, "version nothing -> 1"), event(2, audit.ScriptShared, 1, 1, "shared with bob: nothing -> run"), event(3, audit.PolicyRestored, 0, 0)}
	now := scripts.Meta{Name: "tank", Current: 1, Created: began, Public: true}
	for _, tt := range []struct {
		name   string
		events []scriptEvent
		at     int
		shares int
		lost   bool
	}{
		{"before, with the whole life", events, 2, 1, false},
		{"before, without its beginning", events[1:], 2, 0, true},
		{"afterwards", events, 3, 0, false},
	} {
		then := scriptThenOf(tt.events, now, began.Add(time.Duration(tt.at)*time.Second))
		if then.lost != tt.lost || len(then.sharing.Shares) != tt.shares || then.missing || then.doubt != nil != tt.lost {
			t.Errorf("%s: %+v", tt.name, then)
		}
	}
}
